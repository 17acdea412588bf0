"""What cannot be asked is refused at once, with all that is wrong."""

from __future__ import annotations

import numpy as np
import orjson
import pandas as pd
import pytest
from questions.recipes import MODEL, recipe_of, refused

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.prompts import col
from dobatch_pandas.questions.request_lines import Renderer


def test_parameters_may_be_columns_anywhere():
    """
    A constant, a column, or a column deep within: each row has its own.
    """
    frame = pd.DataFrame({"text": ["a", "b"], "seed": [1.0, np.nan], "bias": [{"x": 1}, {"y": 2}]})
    recipe = recipe_of(
        missing="keep", params={"seed": col("seed"), "extra": {"deep": [col("bias")]}, "top_p": 1}
    )
    [frozen] = freeze(recipe, frame)
    bodies = [orjson.loads(body) for body in Renderer(recipe).bodies(frozen)]

    assert [(body["seed"], body["extra"], body["top_p"]) for body in bodies] == [
        (1, {"deep": [{"x": 1}]}, 1),
        (None, {"deep": [{"y": 2}]}, 1),
    ]


def test_numbers_are_the_same_in_the_body():
    """
    Whole numbers whole, the rest as the column's dtype writes them; large ones are no reason to refuse a row.
    """
    frame = pd.DataFrame({"text": list("abc"), "n": np.array([0.1, 2, 1e20], "float32")})
    [frozen] = freeze(recipe_of(params={"top_p": col("n")}), frame)
    *small, large = (value.as_py() for value in frozen.column("j1"))
    assert small == [b"0.1", b"2"]
    assert orjson.loads(large) == 1e20


def test_a_column_that_is_not_json_is_named_by_rows():
    """
    Values that no body could carry are refused with their rows.
    """
    frame = pd.DataFrame({"text": ["a"] * 3, "p": [1, float, object]})
    [problem] = refused(frame, "{text}", params={"seed": col("p")}).problems
    assert problem.rows == (1, 2)
    infinite = pd.DataFrame({"text": ["a"], "p": [float("inf")]})
    assert "no such number" in str(refused(infinite, "{text}", params={"seed": col("p")}))


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (float("nan"), "nan or inf"),
        ([1, {"deep": np.float32("inf")}], "nan or inf"),
        (object(), "is not JSON"),
        ({5: "x"}, "no text"),
        ({"x", "y"}, "is not JSON"),
    ],
)
def test_what_is_not_json_in_a_message_is_said(member, says):
    """
    A constant in a message is sent as it is, or refused in words.
    """
    with pytest.raises(InputError, match=says):
        recipe_of([{"role": "user", "content": "{text}", "extra": member}])


def test_a_list_of_texts_is_no_prompt_at_any_endpoint():
    """
    Prompts of all rows in a list are none for each of them: a Series is.
    """
    for options in ({}, {"model": "text-embedding-3-small", "endpoint": "embeddings"}):
        with pytest.raises(InputError, match="'a' is not a message"):
            recipe_of(["a", "b"], **options)
    frame = pd.DataFrame({"text": ["a"]})
    assert "not int 5" in str(refused(frame, lambda row: 5))
    assert "a part of a message's content is 5" in str(
        refused(frame, lambda row: [{"role": "user", "content": [5]}])
    )


def test_numbers_of_numpy_may_stand_in_a_message():
    """
    A number that was computed is a number.
    """
    message = {"role": "user", "content": "{text}", "n": np.int64(3), "m": (np.float32(0.5), np.arange(2))}
    recipe = recipe_of([message])
    [frozen] = freeze(recipe, pd.DataFrame({"text": ["a"]}))
    [body] = Renderer(recipe).bodies(frozen)
    assert orjson.loads(body)["messages"] == [{"role": "user", "content": "a", "n": 3, "m": [0.5, [0, 1]]}]


def test_the_order_of_parameters_does_not_matter():
    """
    The same question has the same body, however its parameters were typed.
    """
    one = recipe_of(params={"temperature": 0, "max_tokens": 5})
    other = recipe_of(params={"max_tokens": np.int64(5), "temperature": 0})
    assert list(one.body) == list(other.body)
    assert one == other


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": ""}, "the name of a model"),
        ({"model": 5}, "the name of a model"),
        ({"into": ""}, "into is ''"),
        ({"into": 5}, "into is 5"),
        ({"system": 5}, "system is int"),
        ({"system": "{"}, "The system text is not a template"),
        ({"missing": "drop"}, "missing is 'drop'"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": True}, "samples is True"),
        ({"metadata": {"a": 1}}, "metadata is"),
        ({"metadata": "a"}, "metadata is 'a'"),
        ({"custom_id": pd.Series(["a"])}, "custom_id takes the name of a column"),
        ({"params": {"temperature": float("nan")}}, "temperature is nan"),
        ({"params": {"stop": [float("inf")]}}, "stop is [inf]"),
        ({"params": {"stop": {1}}}, "stop is not JSON"),
        ({"prompt": None}, "The prompt is NoneType None"),
        ({"prompt": 5}, "The prompt is int 5"),
        ({"prompt": []}, "messages are a list"),
        ({"prompt": "{"}, "is not a template"),
        ({"schema": {"a": object}}, "schema['a']"),
    ],
)
def test_what_cannot_be_asked_is_said(options, says):
    """
    Each option that makes no sense is named, with its value and what it takes.
    """
    with pytest.raises(InputError) as caught:
        build_recipe(**{"prompt": "Say {text}", "model": MODEL, **options})
    assert says in str(caught.value)


def test_all_that_is_wrong_with_a_question_comes_at_once():
    """
    One error lists every option to mend.
    """
    with pytest.raises(InputError) as caught:
        recipe_of("{", into="", samples=0, schema={"a": object}, params={"n": 2, "temperature": float("nan")})
    assert len(caught.value.problems) == 6
