"""What cannot be sent is said at once, all of it, with the rows to blame, and before anything leaves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three reviews, one of them missing, ids that repeat."""
    return pd.DataFrame(
        {"review": ["good", None, "bad"], "key": ["a", "a", None], "stars": [1.0, np.nan, 3.0]},
        index=[7, 8, 9],
    )


def problems_of(frame, prompt="Say {review}", **options):
    with pytest.raises(dobatch.errors.InputError) as caught:
        frame.dobatch.plan(prompt, **{"model": "gpt-4.1-mini", **options})
    return [str(problem) for problem in caught.value.problems]


def test_everything_wrong_is_said_at_once(frame):
    """
    Options, parameters, template columns, values and ids: one error lists them, so that one edit mends them.
    """
    found = problems_of(
        frame,
        "Say {reviw} and {review}",
        samples=0,
        missing="maybe",
        temperature=float("nan"),
        custom_id="key",
        messages=[],
        schema={"label": object},
    )
    for part in ("samples", "missing", "temperature", "'reviw'", "'key'", "messages", "label"):
        assert any(part in problem for problem in found), part
    assert len(found) >= 8


def test_a_wrong_endpoint_hides_nothing_and_adds_nothing(frame):
    """
    With an endpoint nobody knows, the frame is still looked at, and parameters are not judged by another's rules.
    """
    found = problems_of(frame, "Say {review}", endpoint="respones", max_output_tokens=5)

    assert len(found) == 2
    assert "'respones'" in found[0]
    assert "1 missing value" in found[1]
    assert "(row 8)" in found[1]


@pytest.mark.parametrize("model", [None, "", 4])
def test_a_model_is_a_name(frame, model):
    """
    Beside whatever else is wrong.
    """
    found = problems_of(frame, model=model)

    assert found[0].startswith(f"model is {model!r}")
    assert "missing value" in found[1]


@pytest.mark.parametrize(
    "custom_id", [["a", "b", "c"], pd.Series(["a", "b", "c"]), np.array(["a", "b", "c"])]
)
def test_ids_are_named_by_their_column(frame, custom_id):
    """
    A list of ids beside the frame could be in another order.
    """
    found = problems_of(frame.dropna(), custom_id=custom_id)

    assert len(found) == 1
    assert "custom_id takes the name of a column" in found[0]


def test_a_good_frame_makes_a_plan(frame):
    """
    Nothing is found where nothing is wrong.
    """
    assert len(frame.dropna().dobatch.plan("Say {review}", model="gpt-4.1-mini").frame) == 1
