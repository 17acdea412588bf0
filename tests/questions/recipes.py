"""Recipes, and what they ask, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import orjson
import pandas as pd
import pytest

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import Renderer

MODEL = "gpt-4.1-mini"


def recipe_of(prompt: Any = "Say {text}", **options: Any) -> Recipe:
    return build_recipe(prompt, **{"model": MODEL, **options})


def asked(frame: pd.DataFrame, prompt: Any, **options: Any) -> list[str | None]:
    """The text of each row's last message; None where nothing is asked."""
    recipe = recipe_of(prompt, **options)
    assert frame_problems(recipe, frame) == []
    found: list[str | None] = []
    for frozen in freeze(recipe, frame):
        for row in range(frozen.num_rows):
            one = frozen.slice(row, 1)
            if any(column.null_count for column in one.columns):
                found.append(None)
            else:
                [body] = Renderer(recipe).bodies(one)
                found.append(orjson.loads(body)["messages"][-1]["content"])
    return found


def problems(frame: pd.DataFrame, prompt: Any = "Say {text}", **options: Any) -> str:
    return "\n".join(map(str, frame_problems(recipe_of(prompt, **options), frame)))


def refused(frame: pd.DataFrame, prompt: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        list(freeze(recipe_of(prompt, **options), frame))
    return caught.value
