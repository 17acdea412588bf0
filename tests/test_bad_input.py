"""What cannot be sent is said at once, all of it, with the rows to blame, and before anything leaves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import config


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


WRONG = [None, "no", "\ud800", 10**400, float("nan"), float("inf"), pd.NA, pd.NaT, {}, [None], int, np.array([1, 2]), pd.DataFrame({"n": [1]})]  # fmt: skip
CALLS = {
    "result": lambda job, value: job.result(wait=value),
    "errors": lambda job, value: job.errors(wait=value),
    "join": lambda job, value: pd.DataFrame().dobatch.join(job, wait=value),
    "wait": lambda job, value: job.wait(display=value),
    "requests": lambda job, value: job.requests(value),
    "subscribe": lambda job, value: job.subscribe(value),
    "retry": lambda job, value: job.retry(value),
    "finish_by": lambda job, value: job.finish_by(value),
    "allow": lambda job, value: job.allow(value),
    "stream": lambda job, value: next(job.stream(value), None),
    "on_end": lambda job, value: job.on_end(value),
    "attach": lambda job, value: dobatch.attach(value),
    "spending": lambda job, value: dobatch.spending(value),
    "batches": lambda job, value: dobatch.batches(value),
    "status of batches": lambda job, value: dobatch.batches(status=value),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_value_is_told_in_our_words(call, server):
    """
    Whatever I give by mistake, no exception of another library reaches me.
    """
    job = pd.DataFrame({"n": [1]}).dobatch.submit("row {n}", model="echo", into="a").wait()
    refused = 0
    for value in WRONG:
        try:
            CALLS[call](job, value)
        except dobatch.errors.DobatchError:
            refused += 1
    assert refused > 4


@pytest.mark.parametrize("name", ["token", "base_url", "home", "display", "allow_http", "prices", "account", "on_end", "store"])  # fmt: skip
def test_a_wrong_setting_changes_nothing(name, home, monkeypatch):
    """
    What cannot hold is refused in words, and everything goes on as it was set before.
    """
    monkeypatch.chdir(home.parent)
    before = config.settings()
    for value in WRONG:
        try:
            dobatch.configure(**{name: value})
        except dobatch.errors.ConfigurationError:
            assert config.settings() == before
        else:
            dobatch.configure(**{name: getattr(before, name)})
    dobatch.jobs()
