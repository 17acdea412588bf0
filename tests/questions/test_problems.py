"""What is wrong with a frame is found before a row is rendered."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from questions.recipes import MODEL, asked, problems, recipe_of

from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.questions.prompts import col
from dobatch_pandas.questions.recipe import Recipe


def test_an_unknown_column_names_the_nearest():
    """
    A typo is answered with the columns there are, and the one that was probably meant.
    """
    frame = pd.DataFrame({"review": ["a"], "Title": ["b"]})
    found = problems(frame, "{reveiw} {title} {zzz}")

    assert "There is no column 'reveiw'. Did you mean 'review'? The columns are 'review', 'Title'." in found
    assert "'title'. Did you mean 'Title'?" in found
    assert "There is no column 'zzz'. The columns are" in found


def test_a_name_with_a_dot_is_said_to_need_another():
    """
    Flattened columns are called so, and a template looks into a column instead.
    """
    found = problems(pd.DataFrame({"address.city": ["a"], "tags[0]": ["b"]}), "{address.city} {tags[0]}")
    assert "df.rename(columns={'address.city': 'address_city'})" in found
    assert "df.rename(columns={'tags[0]': 'tags_0'})" in found


def test_a_columns_name_alone_is_no_prompt():
    """
    Braces are easily forgotten: every row would ask the bare word.
    """
    found = problems(pd.DataFrame({"review": ["a"]}), "review")
    assert "The prompt 'review' is the name of a column" in found
    assert "Write '{review}'" in found
    assert not problems(pd.DataFrame({"review": ["a"]}), "review {review}")


def test_all_problems_come_at_once():
    """
    Unknown columns, missing values and ids that repeat are one list.
    """
    frame = pd.DataFrame({"text": ["a", None], "key": ["k", "k"]})
    found = frame_problems(recipe_of("{text} {nope}", custom_id="key", params={"seed": col("no")}), frame)
    assert len(found) == 4


def test_odd_labels_are_columns_too():
    """
    Numbers and tuples name columns by dobatch.col; a name that stands for several columns is refused.
    """
    assert asked(pd.DataFrame({0: ["a"]}), col(0)) == ["a"]
    deep = pd.DataFrame([["a", "b"]], columns=pd.MultiIndex.from_tuples([("x", "u"), ("x", "v")]))
    assert asked(deep, col(("x", "v"))) == ["b"]
    assert "several columns" in problems(deep, "{x}")
    assert "several columns" in problems(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
    assert "The columns are 0." in problems(pd.DataFrame({0: ["a"]}))


@pytest.mark.parametrize(
    "name", [1, np.int64(1), 2.5, np.float32(0.5), None, np.str_("b"), ("a", np.int64(3))]
)
def test_a_name_that_later_sessions_can_read_is_a_columns(name):
    """
    Whatever `df.columns` gives as a label is that column's name, in this session and in every later one.
    """
    frame = pd.DataFrame([["said"]])
    frame.columns = pd.Index([name], dtype=object, tupleize_cols=False)
    recipe = recipe_of(col(name), custom_id=name)
    assert not problems(frame, col(name))
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    [batch] = freeze(again, frame)
    assert "said" in str(batch.to_pylist())


@pytest.mark.parametrize(
    "name", [float("nan"), float("inf"), True, pd.Timestamp("2026-01-01"), b"x", ("a", b"x")]
)
def test_a_name_that_no_later_session_could_read_is_said(name):
    """
    Labels that JSON has no word for cannot be asked by name; the message says what to do.
    """
    frame = pd.DataFrame([["said"]])
    frame.columns = pd.Index([name], dtype=object, tupleize_cols=False)
    assert "cannot be asked by name" in problems(frame, col(name))
    assert not problems(frame, lambda row: row[name])


def test_a_name_that_pandas_takes_for_a_missing_one_is_said():
    """
    Among names that are texts, pandas makes NaN of None, and finds no column by it.
    """
    frame = pd.DataFrame({None: ["said"], "b": ["x"]})
    if None in list(frame.columns):
        assert not problems(frame, col(None))
    else:
        assert "cannot be asked by name" in problems(frame, col(None))


@pytest.mark.parametrize(
    "kind",
    [pa.string_view(), pa.binary_view(), pa.list_view(pa.int8()), pa.run_end_encoded(pa.int32(), pa.int8())],
)
def test_an_arrow_type_that_pandas_only_holds_is_said(kind):
    """
    pandas cannot show such a column, nor compare its values: nothing is asked of it, and the message has the cure.
    """
    ends = np.array([2], np.int32)
    held = (
        pa.RunEndEncodedArray.from_arrays(ends, pa.nulls(1, pa.int8()))
        if "run" in str(kind)
        else pa.nulls(2, kind)
    )
    values = pd.arrays.ArrowExtensionArray(pa.chunked_array([held]))
    frame = pd.DataFrame({"text": ["a", "b"], "odd": values})
    assert f"Column 'odd' is of the Arrow type {kind}" in problems(frame, "{text}")
    frame["odd"] = frame["odd"].tolist()
    assert not problems(frame, "{text}")
    frame.index = pd.Index(values)
    assert f"The index is of the Arrow type {kind}" in problems(frame, "{text}")


def test_an_empty_frame_is_said():
    """
    No rows, no job.
    """
    assert problems(pd.DataFrame({"text": ["a"]}).iloc[:0]) == "The frame has no rows."


def test_an_answer_may_not_replace_what_is_asked():
    """
    The column that the prompt reads stays what it is.
    """
    frame = pd.DataFrame({"text": ["a"]})
    assert "would replace column 'text'" in problems(frame, into="text")
    assert "would replace column 'text'" in problems(frame, schema={"text": str})


def test_vectors_of_several_lengths_are_not_asked():
    """
    A column of vectors has one length: those of another would be paid, and have no place in it.
    """
    frame = pd.DataFrame({"text": list("abc"), "d": [64, 128, 64], "same": [64, 64.0, 64]})

    def said(column):
        return problems(frame, "{text}", model="text-embedding-3-small", params={"dimensions": col(column)})

    assert "holds 2 lengths (64, 128)" in said("d")
    assert said("same") == ""


def test_an_answer_may_not_replace_a_column_of_the_users():
    """
    Least of all the labels that it is to be compared with. Answers of an earlier run, and a column that was put
    there to be filled, may be replaced.
    """
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["pos", "neg"], "free": [None, np.nan]})
    labels = {"schema": {"label": ["pos", "neg"], "why": str}, "into": "said"}
    assert "would replace the column 'label' of the frame: give another name" in problems(frame, **labels)
    assert "would replace the column 'label' of the frame: give into= another" in problems(
        frame, into="label"
    )
    assert "column 'label_2'" in problems(frame.rename(columns={"label": "label_2"}), **labels, samples=2)
    assert not frame_problems(recipe_of(**labels), frame.assign(said_error=None))
    assert not frame_problems(recipe_of(into="free"), frame)


@pytest.mark.parametrize(
    ("ids", "model", "samples", "says", "rows"),
    [
        (["a", None, "c"], MODEL, 1, "missing", (1,)),
        (["a", "b", "a"], MODEL, 1, "several rows", (0, 2)),
        (["1", 1, "2"], MODEL, 1, "several rows", (0, 1)),
        (["a", "", "c"], MODEL, 1, "not legal", (1,)),
        (["a", "b c", "d" * 65], "claude-x", 1, "not legal", (1, 2)),
        (["a", "d" * 64, "é"], "claude-x", 2, "not legal", (1, 2)),
        (["a", "b", "a-2"], MODEL, 2, "several rows", (0, 2)),
        (["a", "b\ud800", "c"], MODEL, 1, "no text", (1,)),
        (["a", object(), [float("inf")]], MODEL, 1, "no text", (1, 2)),
    ],
)
def test_ids_of_ones_own_are_checked(ids, model, samples, says, rows):
    """
    Missing, repeated and illegal ids are found for the provider before anything is sent.
    """
    frame = pd.DataFrame({"text": ["x"] * 3, "key": pd.Series(ids, dtype=object)})
    [problem] = frame_problems(recipe_of(model=model, custom_id="key", samples=samples), frame)
    assert says in problem.message
    assert problem.rows == rows


@pytest.mark.parametrize(
    "ids", [[1, 2], pd.array([1, 2], "Int64"), [1.0, 2.0], pd.Categorical(["1", "2"]), ["1", "2"]]
)
def test_ids_of_any_dtype_are_text(ids):
    """
    Whole numbers are ids, too, without a ".0".
    """
    frame = pd.DataFrame({"text": ["a", "b"], "key": ids})
    recipe = recipe_of(custom_id="key")
    assert frame_problems(recipe, frame) == []
    [frozen] = freeze(recipe, frame)
    assert frozen["custom_id"].to_pylist() == ["1", "2"]
