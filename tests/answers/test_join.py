"""Answers land on their rows, and nothing else about a frame changes."""

from __future__ import annotations

import ast
import datetime
import enum
import json
import pickle
import threading
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_lines import answered, chat, embeddings, message, never_run, result, tool_call

import dobatch_pandas as dobatch
from dobatch_pandas.answers.by_hand import join_read_results
from dobatch_pandas.answers.join import add_columns, answer_columns, joined, matrix, outcome, response_columns
from dobatch_pandas.answers.result_lines import merge_results, read_block
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.schema import answer_schema_of

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["pos", "neg"]}, "score": {"type": "integer"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}


def results_of(*lines: Any) -> pa.Table:
    """Merged results of these lines."""
    table, _ = read_block(pa.py_buffer(b"\n".join(orjson.dumps(line) for line in lines)))
    return merge_results([table])


def ids_of(*ids: Any) -> pa.Array:
    return pa.array(ids, pa.string())


def values(series: pd.Series[Any]) -> list[Any]:
    """A column's values, None for missing ones."""
    return [None if pd.api.types.is_scalar(v) and pd.isna(v) else v for v in series.tolist()]


# Any frame ----------------------------------------------------------------------------------------------

ANY_INDEX = st.sampled_from(
    [
        lambda n: pd.RangeIndex(n),
        lambda n: pd.RangeIndex(10, 10 + 3 * n, 3),
        lambda n: pd.RangeIndex(n, 0, -1),
        lambda n: pd.Index([7] * n),
        lambda n: pd.Index([(i * 7) % 5 for i in range(n)]),
        lambda n: pd.Index([f"r{(i * 3) % 4}" for i in range(n)], name="it"),
        lambda n: pd.Index([None, "x", 3.5, ("t",)][:n] + ["y"] * max(0, n - 4), dtype=object),
        lambda n: pd.date_range("2026-01-01", periods=n, name="day"),
        lambda n: pd.CategoricalIndex(["a", "b"] * (n // 2) + ["a"] * (n % 2)),
        lambda n: pd.MultiIndex.from_arrays(
            [["p", "q"] * (n // 2) + ["p"] * (n % 2), [1] * n], names=["u", None]
        ),
    ]
)


def frame_with(index: pd.Index[Any]) -> pd.DataFrame:
    """A frame whose columns have every dtype, some of them named like ours."""
    n = len(index)
    return pd.DataFrame(
        {
            "text": pd.Series([f"t{i}" for i in range(n)], dtype=object).array,
            "response": np.arange(n),
            "custom_id": pd.array([f"x{i}" for i in range(n)], dtype="string"),
            "arrow": pd.array([f"a{i}" for i in range(n)], dtype=pd.ArrowDtype(pa.string())),
            "kind": pd.Categorical(["u", "v"] * (n // 2) + ["u"] * (n % 2)),
            "at": pd.date_range("2026-01-01", periods=n, tz="Europe/Berlin"),
            "float": np.linspace(0, 1, n, dtype=np.float32),
            3: pd.array([None] * n, dtype="Int64"),
            "response_error": [{"a": i} for i in range(n)],
        },
        index=index,
    )


@given(
    index=ANY_INDEX,
    asked=st.lists(st.sampled_from([None, "a", "b", "c", "d", "e"]), max_size=8),
    into=st.sampled_from(["response", "new", "text", "custom_id"]),
)
@settings(max_examples=120)
def test_the_right_answer_is_on_the_right_row_of_any_frame(index: Any, asked: list[Any], into: str) -> None:
    """
    Whatever the index and the columns are: new columns come, all else stays as it was.
    """
    table = results_of(
        answered("c", chat("C")), never_run("b"), answered("foreign", chat("no")), answered("a", chat("A"))
    )
    said = {"a": "A", "c": "C"}
    failed = {"b": "expired", "d": "missing_result", "e": "missing_result", None: "missing_result"}
    frame = frame_with(index(len(asked)))
    before = frame.copy(deep=True)
    columns = answer_columns(ids_of(*asked), None, table, into=into, index=frame.index)

    result_frame = joined(frame, columns)
    pd.testing.assert_frame_equal(frame, before)
    add_columns(frame, columns)
    pd.testing.assert_frame_equal(frame, result_frame)

    assert values(frame[into]) == [said.get(i) for i in asked]
    assert values(frame[f"{into}_error"]) == [None if i in said else failed[i] for i in asked]
    pd.testing.assert_index_equal(frame.index, before.index, exact="equiv")
    kept = [name for name in before.columns if name not in (into, f"{into}_error")]
    pd.testing.assert_frame_equal(frame[kept], before[kept])
    assert [name for name in frame.columns if name in before.columns] == list(before.columns)


@given(order=st.permutations(range(12)), shuffle=st.permutations(range(12)))
@settings(max_examples=40)
def test_order_never_matters(order: list[int], shuffle: list[int]) -> None:
    """
    Lines in any order, rows in any order: the same answers.
    """
    table = results_of(*[answered(f"id{i}", chat(f"answer {i}")) for i in order])
    columns = answer_columns(
        ids_of(*[f"id{i}" for i in shuffle]), None, table, into="r", index=pd.Index(list(shuffle))
    )
    assert columns["r"].tolist() == [f"answer {i}" for i in shuffle]
    assert columns["r_error"].isna().all()


def test_updating_does_not_touch_views_or_copies() -> None:
    """
    A copy made before keeps its old values, and a normal frame is changed without a warning.
    """
    frame = pd.DataFrame({"x": [1, 2], "response": [3, 4]})
    copy, view = frame.copy(), frame["response"]
    table = results_of(answered("a", chat("A")))
    columns = answer_columns(ids_of("a", "b"), None, table, into="response", index=frame.index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add_columns(frame, columns)
    assert values(frame["response"]) == ["A", None]
    assert copy["response"].tolist() == view.tolist() == [3, 4]


def test_a_filtered_frame_gets_its_own_answers() -> None:
    """
    A slice is joined by what its rows are, and its parent stays as it was.
    """
    parent = pd.DataFrame({"x": range(6)}, index=list("abcdef"))
    part = parent[parent["x"] % 2 == 1].copy()
    table = results_of(*[answered(f"id{i}", chat(str(i))) for i in range(6)])
    add_columns(part, answer_columns(ids_of("id1", "id3", "id5"), None, table, into="r", index=part.index))
    assert part["r"].to_dict() == {"b": "1", "d": "3", "f": "5"}
    assert list(parent.columns) == ["x"]


def test_columns_in_levels_are_no_problem() -> None:
    """
    A frame with a MultiIndex in its columns gets its answers under the name's first level.
    """
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    add_columns(
        frame,
        answer_columns(ids_of("i"), None, results_of(answered("i", chat("A"))), into="r", index=frame.index),
    )
    assert frame["r"].squeeze() == "A"


# What the columns hold ----------------------------------------------------------------------------------


def test_text_has_the_pandas_type_for_text() -> None:
    """
    Answers are pandas strings, whatever they are.
    """
    columns = answer_columns(
        ids_of("a"), None, results_of(answered("a", chat("A"))), into="r", index=pd.RangeIndex(1)
    )
    expected = "str" if int(pd.__version__[0]) >= 3 else "string"
    assert [str(column.dtype) for column in columns.values()] == [expected, expected]
    assert list(columns) == ["r", "r_error"]


def test_rows_never_sent_say_why() -> None:
    """
    Missing input and oversized rows have codes of their own; duplicates share one answer.
    """
    table = results_of(answered("a", chat("A")))
    columns = answer_columns(
        ids_of("a", "a", None, "big"),
        np.array([0, 1, 3, 4], np.int8),
        table,
        into="r",
        index=pd.RangeIndex(4),
    )
    assert values(columns["r"]) == ["A", "A", None, None]
    assert values(columns["r_error"]) == [None, None, "missing_input", "too_large"]


@pytest.mark.parametrize(
    "body", [chat("half", "length"), chat("bad", "content_filter"), chat(None, refusal="no")]
)
def test_what_is_no_answer_is_not_in_the_answer_column(body: Any) -> None:
    """
    A cut-off, filtered or refused answer is null with a code; its text is kept in responses().
    """
    table = results_of(answered("a", body))
    columns = answer_columns(ids_of("a"), None, table, into="r", index=pd.RangeIndex(1))
    assert columns["r"].isna().all()
    assert columns["r_error"].notna().all()
    assert response_columns(ids_of("a"), None, table, index=pd.RangeIndex(1))["text"].notna().all()


def test_a_tool_call_is_an_answer_only_to_a_schema() -> None:
    """
    A forced call carries the schema's answer; without a schema it is no answer.
    """
    arguments = '{"label": "pos", "score": 3}'
    table = results_of(
        answered("a", chat(None, "tool_calls", tool_calls=[tool_call(arguments)])),
        result("b", message=message({"type": "tool_use", "input": orjson.loads(arguments)}, stop="tool_use")),
    )
    ids, index = ids_of("a", "b"), pd.RangeIndex(2)
    plain = answer_columns(ids, None, table, into="r", index=index)
    assert values(plain["r"]) == [None, None]
    assert values(plain["r_error"]) == ["tool_calls"] * 2
    typed = answer_columns(ids, None, table, into="r", json_schema=SCHEMA, index=index)
    assert list(typed) == ["label", "score", "r_error"]
    assert typed["score"].tolist() == [3, 3]
    assert typed["r_error"].isna().all()
    assert outcome(table, None)[1].to_pylist() == ["tool_calls"] * 2


def test_thousands_of_structured_answers_are_joined_like_a_few() -> None:
    """
    More rows than are moved at once, shuffled: every field, text above all, lands on its row.
    """
    schema = {"type": "object", "properties": {"why": {"type": "string"}, "score": {"type": "integer"}}}
    numbers = list(range(5000))
    results = results_of(*(answered(f"id{i}", chat(f'{{"why":"{i} 🎉","score":{i}}}')) for i in numbers))
    asked = [i * 7 % 5000 for i in numbers]
    columns = answer_columns(
        ids_of(*(f"id{i}" for i in asked)),
        None,
        results,
        into="answer",
        json_schema=schema,
        index=pd.RangeIndex(5000),
    )
    assert columns["why"].tolist() == [f"{i} 🎉" for i in asked]
    assert columns["score"].tolist() == asked
    assert columns["answer_error"].isna().all()


def test_samples_are_columns_side_by_side() -> None:
    """
    Asked twice, a row has two answers, each with its own error.
    """
    table = results_of(answered("a1", chat("A1")), answered("a2", chat("A2")), answered("b1", chat("B1")))
    columns = answer_columns(
        ids_of("a1", "a2", "b1", "b2"),
        np.zeros(4, np.int8),
        table,
        into="r",
        samples=2,
        index=pd.Index(["x", "x"]),
    )
    assert list(columns) == ["r", "r_error", "r_2", "r_2_error"]
    assert values(columns["r"]) == ["A1", "B1"]
    assert values(columns["r_2"]) == ["A2", None]
    assert values(columns["r_2_error"]) == [None, "missing_result"]


def test_responses_have_everything_else() -> None:
    """
    One row a row, with the frame's index and all that the service reported.
    """
    table = results_of(answered("a", chat("A")), never_run("b"))
    found = response_columns(ids_of("b", "a", "z"), None, table, index=pd.Index([5, 5, 6], name="k"))
    assert list(found.columns) == [
        "custom_id",
        "status",
        "text",
        "finish_reason",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "request_id",
        "error_code",
        "error_message",
        "batch_id",
    ]
    assert found.index.tolist() == [5, 5, 6]
    assert found.index.name == "k"
    assert found["custom_id"].tolist() == ["b", "a", "z"]
    assert found["status"].tolist() == ["failed", "succeeded", "failed"]
    assert values(found["error_code"]) == ["expired", None, "missing_result"]
    assert found["error_message"][6].startswith("The service's result files")
    assert values(found["prompt_tokens"]) == [None, 11, None]


def test_responses_of_samples_are_rows() -> None:
    """
    With several samples a row has several responses, numbered.
    """
    table = results_of(answered("a1", chat("A1")), answered("a2", chat("A2")))
    found = response_columns(ids_of("a1", "a2"), None, table, samples=2, index=pd.Index(["x"]))
    assert found["sample"].tolist() == [1, 2]
    assert found["text"].tolist() == ["A1", "A2"]
    assert found.index.tolist() == ["x", "x"]


def test_responses_say_what_is_wrong_with_an_answer() -> None:
    """
    A reply that breaks the schema is a failed response with its text and the reason.
    """
    table = results_of(answered("a", chat('{"label": "meh", "score": 1}')))
    found = response_columns(ids_of("a"), None, table, json_schema=SCHEMA, index=pd.RangeIndex(1))
    assert found["status"][0] == "failed"
    assert found["error_code"][0] == "schema_mismatch"
    assert found["error_message"][0] == "label: 'meh' is not one of ['pos', 'neg']"
    assert found["text"][0] == '{"label": "meh", "score": 1}'


@pytest.mark.parametrize("samples", [1, 2])
def test_no_rows_and_no_results_have_all_columns(samples: int) -> None:
    """
    An empty frame, or a job without any result, gets the same columns.
    """
    empty = answer_columns(
        ids_of(),
        None,
        merge_results([]),
        into="r",
        json_schema=SCHEMA,
        samples=samples,
        index=pd.RangeIndex(0),
    )
    assert list(empty)[:3] == ["label", "score", "r_error"]
    assert str(empty["score"].dtype) == "Int64"
    none = answer_columns(
        ids_of(*"ab" * samples), None, merge_results([]), into="r", samples=samples, index=pd.RangeIndex(2)
    )
    assert values(none["r_error"]) == ["missing_result"] * 2
    assert response_columns(ids_of(), None, merge_results([]), samples=samples, index=pd.RangeIndex(0)).empty


# Embeddings ---------------------------------------------------------------------------------------------


def test_embeddings_are_a_matrix_without_a_copy() -> None:
    """
    numpy sees the column's own memory where every row has a vector; a row without one is NaN.
    """
    table = results_of(answered("a", embeddings([1, 2])), never_run("b"), answered("c", embeddings([3, 4])))
    columns = answer_columns(ids_of("c", "b", "a"), None, table, into="v", index=pd.Index([1, 1, 2]))
    assert columns["v"].dtype == object
    assert columns["v"].isna().tolist() == [False, True, False]
    assert values(columns["v_error"]) == [None, "expired", None]
    frame = pd.DataFrame({"x": [1, 2, 3]})
    add_columns(frame, columns)
    dense = matrix(frame["v"])
    np.testing.assert_array_equal(dense, np.array([[3, 4], [np.nan, np.nan], [1, 2]], np.float32))
    assert dense.dtype == np.float32
    whole = answer_columns(ids_of("c", "a"), None, table, into="v", index=pd.RangeIndex(2))["v"]
    np.testing.assert_array_equal(matrix(whole), np.array([[3, 4], [1, 2]], np.float32))
    assert np.shares_memory(matrix(whole), whole[0])
    assert np.shares_memory(matrix(whole.iloc[1:]), whole[1])


class Part(pydantic.BaseModel):
    price: Decimal
    until: datetime.datetime


class Who(pydantic.BaseModel):
    name: str
    age: int


class Kind(enum.Enum):
    NEW = "new"
    USED = "used"


class Offer(pydantic.BaseModel):
    tags: list[str]
    who: Who
    price: Decimal
    days: list[datetime.date]
    kind: Kind
    parts: list[Part]


@pytest.mark.parametrize("write", ["to_parquet", "to_feather", "to_pickle"])
def test_what_was_enriched_comes_back_by_plain_pandas(write: str, tmp_path: Path) -> None:
    """
    Lists, objects, Decimals and vectors go through a file, and pandas reads it without being told anything.
    """
    schema = answer_schema_of(Offer)
    said = (
        '{"tags": ["a", "b"], "who": {"name": "Ann", "age": 7}, "price": 12.50, "days": ["2026-01-31"], '
        '"kind": "new", "parts": [{"price": 0.50, "until": "2026-02-28T12:00:00+01:00"}]}'
    )
    table = results_of(answered("a", chat(said)), never_run("b"))
    options: dict[str, Any] = {"into": "o", "index": pd.RangeIndex(2)}
    columns = answer_columns(ids_of("a", "b"), None, table, json_schema=schema, **options)
    vectors = results_of(answered("a", embeddings([1, 2])), never_run("b"))
    columns |= answer_columns(ids_of("a", "b"), None, vectors, **{**options, "into": "v"})
    frame = pd.DataFrame(columns)
    getattr(frame, write)(tmp_path / "file")
    back = getattr(pd, write.replace("to_", "read_"))(tmp_path / "file")
    assert list(back["tags"][0]) == ["a", "b"]
    assert dict(back["who"][0]) == {"name": "Ann", "age": 7}
    assert str(back["price"][0]) == "12.5" or write != "to_pickle"
    assert back["price"][0] == Decimal("12.5")
    assert list(back["days"][0]) == [datetime.datetime(2026, 1, 31)]
    assert back["kind"].dtype == frame["kind"].dtype
    [part] = back["parts"][0]
    assert part["price"] == Decimal("0.5")
    assert pd.Timestamp(part["until"]) == pd.Timestamp("2026-02-28T11:00:00Z")
    assert str(frame["parts"][0][0]["price"]) == "0.5"
    assert matrix(back["v"])[0].tolist() == [1, 2]
    assert back.isna().equals(frame.isna())


def test_a_vector_is_written_whole_into_a_csv_file(tmp_path: Path) -> None:
    """
    numpy leaves out the middle of a long vector: of an embedding in a CSV file all numbers are there, as JSON.
    """
    numbers = [float(n) / 7 for n in range(1536)]
    table = results_of(answered("a", embeddings(numbers)), never_run("b"))
    frame = pd.DataFrame(answer_columns(ids_of("a", "b"), None, table, into="v", index=pd.RangeIndex(2)))
    frame.to_csv(tmp_path / "file.csv", index=False)
    back = pd.read_csv(tmp_path / "file.csv")
    np.testing.assert_array_equal(np.float32(json.loads(back["v"][0])), np.float32(numbers))
    assert back["v"].isna().tolist() == [False, True]
    np.testing.assert_array_equal(matrix(back["v"]), matrix(frame["v"]))
    np.testing.assert_array_equal(matrix(back["v"].astype(object)), matrix(frame["v"]))
    vector = frame["v"][0]
    assert json.loads(str(vector[::2])) == json.loads(str(vector))[::2]
    assert "..." in repr(vector)
    assert "..." in str(np.vstack([vector, vector]))
    assert "j" in str(vector * 1j)
    assert type(pickle.loads(pickle.dumps(vector))) is np.ndarray


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_lists_and_objects_come_back_from_a_text_file_as_the_documentation_says(
    kind: str, tmp_path: Path
) -> None:
    """
    Lines of JSON keep lists and objects; CSV has them as Python writes them.
    """
    columns = outcome(
        results_of(
            answered("a", chat('{"tags": ["it\'s", "a \\"b\\", c"], "who": {"name": "Ann", "age": 7}}'))
        ),
        answer_schema_of({"tags": [str], "who": {"name": str, "age": int}}),
    )[0]
    frame = pd.DataFrame({name: values.to_pylist() for name, values in columns.items()})
    if kind == "json":
        frame.to_json(tmp_path / "file", orient="records", lines=True)
        back = pd.read_json(tmp_path / "file", orient="records", lines=True).iloc[0].to_dict()
    else:
        frame.to_csv(tmp_path / "file", index=False)
        back = pd.read_csv(tmp_path / "file").map(ast.literal_eval).iloc[0].to_dict()
    assert back == {"tags": ["it's", 'a "b", c'], "who": {"name": "Ann", "age": 7}}


def test_a_matrix_survives_what_pandas_does_to_rows() -> None:
    """
    Sorted, filtered and concatenated columns are matrices too, with NaN where a vector is missing.
    """
    table = results_of(answered("a", embeddings([1, 2])), answered("c", embeddings([3, 4])))
    column = answer_columns(ids_of("c", "b", "a"), None, table, into="v", index=pd.RangeIndex(3))["v"]
    expected = np.array([[3, 4], [np.nan, np.nan], [1, 2]], np.float32)
    np.testing.assert_array_equal(matrix(column.iloc[[2, 1, 0]]), expected[::-1])
    np.testing.assert_array_equal(matrix(column.iloc[1:]), expected[1:])
    np.testing.assert_array_equal(matrix(pd.concat([column, column])), np.vstack([expected, expected]))
    assert len(matrix(column.iloc[:0])) == 0
    for texts in (["a"], ["[1, 2]", "[3]"], ["[[1]]"], ['["a"]'], ['{"a": 1}']):
        with pytest.raises(TypeError, match="embeddings"):
            matrix(pd.Series(texts))


def test_a_vector_of_another_length_is_a_failed_row() -> None:
    """
    One odd vector does not spoil the column.
    """
    table = results_of(
        *[answered(str(i), embeddings([1, 2])) for i in range(3)], answered("x", embeddings([1, 2, 3]))
    )
    columns = answer_columns(ids_of("0", "x"), None, table, into="v", index=pd.RangeIndex(2))
    assert columns["v"].isna().tolist() == [False, True]
    assert values(columns["v_error"]) == [None, "invalid_response"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("as_base64", [False, True])
def test_a_vector_with_a_number_that_is_none_is_a_failed_row(
    tmp_path: Path, number: float, as_base64: bool
) -> None:
    """
    A model that ran over writes nan into its vector, which would spoil whatever is computed from the column.
    """
    vectors = [[0.5, 1.0], [number, 1.0], [3.0, number], [1.5, 2.0]]
    path = tmp_path / "output.jsonl"
    lines = (answered(str(n), embeddings(one, as_base64=as_base64)) for n, one in enumerate(vectors))
    path.write_text("\n".join(map(json.dumps, lines)))
    whole = dobatch.read_results(path)
    frame = pd.DataFrame({"id": list("3210")})
    for results in (path, whole, whole.iloc[1:]):
        columns = join_read_results(frame, results, custom_id="id", into="v")
        assert values(columns["v_error"])[:3] == [None, "invalid_response", "invalid_response"]
        assert columns["v"].iloc[0].tolist() == [1.5, 2.0]
        assert columns["v"].iloc[1:3].isna().all()
    own = pd.DataFrame({"custom_id": ["0"], "embedding": [np.float32([number, 1.0])]})
    columns = join_read_results(frame, own, custom_id="id", into="v")
    np.testing.assert_array_equal(columns["v"].iloc[3], np.float32([number, 1.0]))


def test_rows_of_a_job_without_any_vector_are_null() -> None:
    """
    When every embedding failed, the column is null and the codes say why.
    """
    columns = answer_columns(ids_of("b"), None, results_of(never_run("b")), into="v", index=pd.RangeIndex(1))
    assert columns["v"].isna().all()


# By hand ------------------------------------------------------------------------------------------------


def test_results_read_by_hand_are_joined_by_a_column(tmp_path: Path) -> None:
    """
    Files that were downloaded by hand find their rows by the frame's own ids.
    """
    path = tmp_path / "out.jsonl"
    path.write_bytes(
        b"\n".join(orjson.dumps(line) for line in (answered("12", chat("twelve")), never_run("x")))
    )
    frame = pd.DataFrame({"key": [12, 13, None]}, dtype=object)
    read = dobatch.read_results(path)
    nameless = pd.concat([read, read.assign(custom_id=None, text="lost")])
    for results in (read, nameless):
        columns = join_read_results(frame, results, custom_id="key", into="r")
        assert values(columns["r"]) == ["twelve", None, None]
        assert values(columns["r_error"]) == [None, "missing_result", "missing_result"]
    with pytest.raises(InputError, match="Did you mean 'key'"):
        join_read_results(frame, dobatch.read_results(path), custom_id="kye")


def test_joining_is_safe_from_many_threads() -> None:
    """
    Frames joined at the same time do not see each other's answers.
    """
    table = results_of(*[answered(f"id{i}", chat(f"answer {i}")) for i in range(50)])
    found: dict[int, list[Any]] = {}

    def join(number: int) -> None:
        ids = ids_of(*[f"id{(i + number) % 50}" for i in range(50)])
        found[number] = answer_columns(ids, None, table, into="r", index=pd.RangeIndex(50))["r"].tolist()

    threads = [threading.Thread(target=join, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == [f"answer {(i + n) % 50}" for i in range(50)] for n in range(8))
