"""A recipe is data: kept as JSON, and it knows what it needs."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from questions.recipes import recipe_of

from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.questions.prompts import Column, col
from dobatch_pandas.questions.recipe import Recipe


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Say {text}", {"system": "S {n}", "params": {"temperature": 0.5, "seed": col("n")}}),
        ([{"role": "user", "content": [{"type": "text", "text": "{text}"}]}], {"schema": {"a": ["x", "y"]}}),
        (col("text"), {"custom_id": "n", "samples": 2, "metadata": {"a": "b"}}),
        (col(("x", 1)), {"params": {"deep": [{"a": col(("y", 2))}]}}),
    ],
)
def test_a_recipe_is_the_same_when_it_comes_back_from_json(prompt, options):
    """
    What is stored asks the same questions: constants, columns, templates, schema and all.
    """
    recipe = recipe_of(prompt, **options)
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))

    assert again == recipe
    assert again.body == recipe.body
    assert again.portable


def test_functions_and_series_are_not_kept():
    """
    What cannot be written down is said when it is needed, not guessed.
    """
    frame = pd.DataFrame({"text": ["a"]})
    for prompt, portable, says in (
        (str, False, "prompt function"),
        (frame["text"], False, "Series of prompts"),
    ):
        recipe = recipe_of(prompt)
        again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert recipe.portable is portable
        assert not again.portable
        assert says in str(frame_problems(again, frame)[0])


def test_what_is_needed_of_a_frame_is_known():
    """
    The columns of prompt, system text, parameters and ids, each once.
    """
    recipe = recipe_of("{a} {b:{c}}", system="{a} {d}", params={"seed": col("e")}, custom_id="f")
    assert set(recipe.columns) == set("abcdef")
    assert recipe_of(lambda row: "x", system="{d}").columns == ["d"]
    assert recipe_of(Column("m")).columns == ["m"]


def test_the_answers_columns_are_known():
    """
    One column by the name of into, or the schema's fields.
    """
    assert recipe_of(into="x").answer_names == ["x"]
    assert recipe_of(schema={"a": str, "b": int}).answer_names == ["a", "b"]
