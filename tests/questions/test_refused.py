"""What would be refused, or asked by chance, is found before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.questions.prompts import col, plain


def asked(frame: pd.DataFrame, prompt: Any, **options: Any) -> list[Any]:
    """The values of the first place of each row."""
    recipe = build_recipe(prompt, **{"model": "gpt-4.1-mini", **options})
    problems = frame_problems(recipe, frame)
    if problems:
        raise InputError(problems)
    return [value for batch in freeze(recipe, frame) for value in batch.column(0).to_pylist()]


FRAME = pd.DataFrame({"text": ["one", "two"], "n": [0, 5], "Unnamed: 0": [1, 2], "items": [3, 4]})


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        ("{text.upper}", {}, "text.upper is a"),
        ("{text}", {"system": "{nope}"}, "nope"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "{nope}"}}]}], {}, "nope"),
        ("{Unnamed: 0}", {}, "rename"),
        (lambda row: f"{row.items}", {}, "row['items']"),
        ("{text}", {"params": {"max_tokens": 0}}, "max_tokens"),
        ("{text}", {"params": {"max_tokens": "5"}}, "max_tokens"),
        ("{text}", {"params": {"temperature": 3}}, "temperature"),
        ("{text}", {"params": {"temperature": float("nan")}}, "temperature"),
        ("{text}", {"params": {"max_tokens": col("n")}}, "row 0"),
        ("{text}", {"params": {"max_tokens": 5}, "model": "gpt-5-mini"}, "max_completion_tokens"),
        ("{text}", {"params": {"logit_bias": {"1": {"2": float("inf")}}}}, "inf"),
        ("{text}", {"metadata": {str(n): "" for n in range(17)}}, "17 keys"),
        ("{text}", {"model": "a\ud83d"}, "surrogate"),
        ("{text}", {"schema": {"response_error": str}}, "response_error"),
        ("{text}", {"schema": {"a": str, "a_2": str}, "samples": 2}, "a_2"),
    ],
)
def test_it_is_said_before_anything_is_sent(prompt: Any, options: dict[str, Any], says: str) -> None:
    """
    One error of ours names what is wrong.
    """
    with pytest.raises(InputError) as error:
        asked(FRAME, prompt, **options)
    assert says in str(error.value)


@pytest.mark.parametrize("missing", ["error", "skip", "keep"])
def test_nan_in_a_nullable_column_is_missing(missing: str) -> None:
    """
    0/0 is no value, however pandas keeps it.
    """
    values = pd.arrays.FloatingArray(np.array([0.5, np.nan]), np.array([False, False]))
    frame = pd.DataFrame({"share": values})
    if missing == "error":
        with pytest.raises(InputError, match="missing"):
            asked(frame, "{share}", missing=missing)
    else:
        assert asked(frame, "{share}", missing=missing) == ["0.5", None if missing == "skip" else ""]


def test_a_key_called_star_is_a_key() -> None:
    """
    No key of a user's is taken for the place of the prompt.
    """
    recipe = build_recipe("{text}", model="m", params={"logit_bias": {"*": 1}})
    assert recipe.body["logit_bias"] == {"*": 1}
    assert len(recipe.slots) == 1


def test_a_set_has_one_order() -> None:
    """
    A set is asked alike in every process.
    """
    code = "from dobatch_pandas.questions.prompts import plain; print(plain({'red', 'green', 'blue', 1}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    }
    assert said == {(plain({"red", "green", "blue", 1}) + "\n").encode()}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("maxcost", "max_cost"), ("max_costs", "max_cost"), ("budget", "max_cost"), ("custom_ids", "custom_id"), ("dedup", "dedupe"),
     ("sample", "samples"), ("shema", "schema"), ("json_schema", "schema"), ("system_prompt", "system"), ("dead_line", "deadline")],
)  # fmt: skip
def test_a_misspelt_option_is_no_parameter_of_the_body(written: str, meant: str) -> None:
    """
    Sent on to the service it would have no effect here: a limit of cost that does not hold.
    """
    with pytest.raises(InputError, match=f"{written} is no option: did you mean {meant}"):
        pd.DataFrame({"text": ["a"]}).dobatch.plan("{text}", model="echo", **{written: 1})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("temprature", "temperature"),
        ("maxTokens", "max_tokens"),
        ("stops", "stop"),
        ("reasoning-effort", "reasoning_effort"),
    ],
)
def test_a_misspelt_parameter_is_refused(written: str, meant: str) -> None:
    """
    Nothing is sent, and paid, without the parameter that was meant.
    """
    with pytest.raises(InputError, match=f"{written} is no parameter .* did you mean {meant}"):
        asked(FRAME, "{text}", params={written: 1})


@pytest.mark.parametrize("name", ["min_tokens", "guided_regex", "ignore_eos", "prompt_id", "top_a"])
def test_an_unknown_parameter_travels(name: str) -> None:
    """
    What only the model's own server knows can be asked.
    """
    assert build_recipe("{text}", model="m", params={name: 1}).body[name] == 1
