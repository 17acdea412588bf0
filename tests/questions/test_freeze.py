"""Freezing: everything of the user's is evaluated, row by row, and what fails is named."""

from __future__ import annotations

import datetime
import io
import json
import warnings

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from questions.recipes import asked, problems, recipe_of, refused

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.freeze import freeze, freeze_batches
from dobatch_pandas.questions.prompts import col
from dobatch_pandas.questions.request_lines import Renderer

# -- columns as people expect them


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["a", "b{c}"], ["a", "b{c}"]),
        (pd.array(["a", None], "string"), ["a", ""]),
        (pd.array(["a", None], pd.ArrowDtype(pa.string())), ["a", ""]),
        (pd.Series(["a", 5, None], dtype=object), ["a", "5", ""]),
        (pd.Categorical(["u", None, "v"]), ["u", "", "v"]),
        (pd.Categorical([3, 4]), ["3", "4"]),
        ([1, 2], ["1", "2"]),
        ([3.0, np.nan], ["3", ""]),
        (pd.array([3, None], "Int64"), ["3", ""]),
        (np.array([200, 3], "uint8"), ["200", "3"]),
        ([0.1, 1e300], ["0.1", "1e+300"]),
        (np.array([0.1, 2], "float32"), ["0.1", "2"]),
        (pd.arrays.SparseArray([0, 2]), ["0", "2"]),
        ([True, False], ["True", "False"]),
        (pd.array([True, None], "boolean"), ["True", ""]),
        (pd.to_datetime(["2026-01-02", None]), ["2026-01-02", ""]),
        (pd.to_datetime(["2026-01-02 03:04:05"]), ["2026-01-02 03:04:05"]),
        ([datetime.date(2026, 1, 2)], ["2026-01-02"]),
        ([["a", 1], []], ['["a",1]', "[]"]),
        ([np.array([1, 2]), np.array([], int)], ["[1,2]", "[]"]),
        ([{"k": "é"}, {"k": None}], ['{"k":"é"}', '{"k":null}']),
        (pd.array([[1], [2]], pd.ArrowDtype(pa.list_(pa.int64()))), ["[1]", "[2]"]),
    ],
)
def test_any_column_reads_as_people_expect(values, texts):
    """
    Numbers, dates, lists and missing values of any dtype stand in the prompt as one would write them.
    """
    frame = pd.DataFrame({"x": values})
    assert asked(frame, "{x}", missing="keep") == texts
    # In company, columns are rendered together; alone or not, the text is the same.
    assert asked(frame, "<{x}|{x}>", missing="keep") == [f"<{text}|{text}>" for text in texts]


def test_specs_and_conversions_see_the_value():
    """
    All of str.format works on the values of a row.
    """
    frame = pd.DataFrame(
        {"x": ["abcdef"], "n": [3.14159], "t": pd.to_datetime(["2026-01-02"]), "d": [{"k": "v"}]}
    )
    prompt = "{x:.3}|{n:.2f}|{t:%d.%m.%Y}|{t.year}|{d[k]}|{x!r}|{{x}}"
    assert asked(frame, prompt) == ["abc|3.14|02.01.2026|2026|v|'abcdef'|{x}"]


@pytest.mark.parametrize(
    "index", [["b", "a", "b"], pd.MultiIndex.from_tuples([(1, "x"), (1, "x"), (0, "y")]), [9, 3, 5]]
)
def test_the_index_changes_nothing(index):
    """
    Repeated, unsorted, string and multi indexes are labels for errors, and nothing else.
    """
    frame = pd.DataFrame({"text": ["p", "q", "r"]}, index=pd.Index(index))
    assert asked(frame, "{text}") == ["p", "q", "r"]
    assert asked(frame, lambda row: row.text) == ["p", "q", "r"]
    assert asked(frame, frame["text"]) == ["p", "q", "r"]


def test_a_slice_of_a_frame_is_its_own_rows():
    """
    A filtered, sliced or many-chunked frame is frozen as what it shows.
    """
    frame = pd.concat([pd.DataFrame({"text": [f"{part}-{row}" for row in range(5)]}) for part in range(4)])
    assert asked(frame.iloc[3:9:2], "{text}") == ["0-3", "1-0", "1-2"]
    assert asked(frame[frame["text"].str.endswith("4")], "{text}") == ["0-4", "1-4", "2-4", "3-4"]


def test_a_long_frame_is_frozen_in_pieces_of_the_same_columns():
    """
    Pieces follow one schema, cover each row once, and get shorter where rows are long.
    """
    texts = ["x" * (10 if row < 3_000 else 4_000) for row in range(12_000)]
    pieces = list(freeze(recipe_of("{text} {n:05d}"), pd.DataFrame({"text": texts, "n": range(12_000)})))

    assert len({piece.schema for piece in pieces}) == 1
    assert sum(piece.num_rows for piece in pieces) == 12_000
    assert max(piece.nbytes for piece in pieces) < 20_000_000
    assert list(freeze(recipe_of("{text}"), pd.DataFrame({"text": []}))) == []


def test_rows_in_arrow_are_frozen_like_rows_in_pandas():
    """
    A record batch of a dataset gives the ids and texts of the same rows in a frame.
    """
    frame = pd.DataFrame(
        {"text": ["a", None], "n": pd.array([1, None], "Int64"), "t": pd.to_datetime(["2026-01-02"] * 2)}
    )
    recipe = recipe_of("{text}{n}{t}", missing="skip")
    [frozen] = freeze(recipe, frame)

    batch = pa.RecordBatch.from_pandas(frame)
    [in_arrow] = freeze_batches(recipe, [batch])
    assert in_arrow.equals(frozen)
    with pytest.raises(InputError, match=r"rows 1, 3, 5\)"):
        list(freeze_batches(recipe_of("{text}"), [batch] * 3))


# -- missing values


FRAME = pd.DataFrame(
    {"text": ["a", None, "c"], "n": [1.0, 2.0, np.nan], "other": [None] * 3}, index=["r1", "r2", "r3"]
)


def test_missing_values_are_an_error_that_counts_and_names_rows():
    """
    By default nothing is sent for a frame with gaps in a column that is used; others do not matter.
    """
    found = problems(FRAME, "{text} {n}")
    assert "Column 'text' has 1 missing value." in found
    assert "(row 'r2')" in found
    assert "(row 'r3')" in found
    assert "other" not in found
    refusal = str(refused(FRAME, "{text} {n}"))
    assert "A value is missing in 'n': drop the rows" in refusal
    assert "(row 'r3')" in refusal


def test_missing_values_are_skipped_or_kept_as_asked():
    """
    "skip" asks nothing for the row; "keep" puts an empty string, whatever the format.
    """
    assert asked(FRAME, "{text}{n:.1f}", missing="skip") == ["a1.0", None, None]
    assert asked(FRAME, "{text}{n:.1f}", missing="keep") == ["a1.0", "2.0", "c"]


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA, pd.NaT])
def test_every_kind_of_nothing_is_missing(nothing):
    """
    None, NaN, NaT and NA are the same: no prompt ever says "nan".
    """
    frame = pd.DataFrame({"text": pd.Series(["a", nothing], dtype=object)})
    assert asked(frame, "{text}", missing="skip") == ["a", None]
    assert asked(frame, frame["text"], missing="skip") == ["a", None]
    assert asked(frame, lambda row: row["text"], missing="skip") == ["a", None]
    assert asked(frame, col("text"), missing="keep") == ["a", ""]
    assert "There is no prompt" in str(refused(frame, lambda row: row["text"]))


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA, pd.NaT])
@pytest.mark.parametrize("field", ["{d[k]}", "{d[k]:>4}", "{d[k]!r}"])
def test_nothing_inside_a_value_is_missing_too(nothing, field):
    """
    A key that holds nothing is a missing value like an empty cell: no prompt ever says "None".
    """
    frame = pd.DataFrame({"d": [{"k": "full"}, {"k": nothing}]})
    [full] = asked(frame.head(1), field)
    assert asked(frame, field, missing="skip") == [full, None]
    assert asked(frame, field, missing="keep") == [full, ""]
    [problem] = refused(frame, field).problems
    assert ("is missing" in problem.message, problem.rows) == (True, (1,))
    # The system text of a prompt that is rendered row by row is filled in elsewhere.
    assert asked(frame, lambda row: "q", system=field, missing="skip") == ["q", None]
    assert asked(frame, lambda row: "q", system=field, missing="keep") == ["q", "q"]
    assert refused(frame, lambda row: "q", system=field).problems[0].rows == (1,)


# -- other ways to ask


def test_a_function_gets_the_row():
    """
    A function sees every column by name, and returns a text or messages.
    """
    frame = pd.DataFrame({"my text": ["a"], "n": [2], "text": ["t"]})
    assert asked(frame, lambda row: f"{row['my text']} {row.n + 1}") == ["a 3"]
    assert asked(frame, lambda row: [{"role": "user", "content": row.text}]) == ["t"]


def test_a_row_as_a_whole_is_no_prompt():
    """
    A row's own text would be the same question for all; that of its values is asked.
    """
    for prompt in (str, lambda row: f"Classify: {row}", lambda row: f"{row:>9}"):
        assert "a row has no text of its own" in str(refused(FRAME, prompt))
    assert asked(FRAME[["text", "n"]].head(1), lambda row: f"{dict(row)}") == ["{'text': 'a', 'n': 1.0}"]


def test_a_system_text_reads_only_the_columns_that_it_names():
    """
    What a function's rows are known by later are the columns that were read: a format in the system text adds its own.
    """
    read: set = set()
    frame = pd.DataFrame({"text": ["t"], "x": [0.5], "other": ["o"]})
    list(freeze(recipe_of(lambda row: row.text, system="About {x:.1f}"), frame, read))
    assert read == {"text", "x"}


def test_a_function_that_fails_is_told_for_all_its_rows():
    """
    Every row in which the function raises is named, by kind of error, after the whole frame has been seen.
    """
    frame = pd.DataFrame({"text": pd.Series(["1", "x", "2", "y", None], dtype=object, index=list("abcde"))})
    error = refused(frame, lambda row: f"{int(row.text)}")

    assert [problem.count for problem in error.problems] == [2, 1]
    assert "ValueError: invalid literal" in str(error)
    assert error.problems[0].rows == ("b", "d")


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NaT, pd.NA])
def test_a_function_that_writes_a_missing_value_is_told_of_it(nothing):
    """
    "Rated nan: good" is asked and paid like any other prompt, but hardly meant: a warning counts and names such rows.
    """
    frame = pd.DataFrame(
        {"text": ["good", "None of it", "fine"], "rated": pd.Series([nothing, 2, nothing], dtype=object)}
    )

    def careful(row):
        return row.text if pd.isna(row.rated) else f"Rated {row.rated}: {row.text}"

    with pytest.warns(UserWarning, match=r"missing value .* \(rows 0, 2\)"):
        assert asked(frame, lambda row: f"Rated {row.rated}: {row.text}")[1] == "Rated 2: None of it"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asked(frame, careful) == ["good", "Rated 2: None of it", "fine"]
        assert asked(frame, lambda row: row.text) == ["good", "None of it", "fine"]
        assert asked(frame, lambda row: f"{row.rated} {row.text}", missing="keep")[0] == f"{nothing} good"


def test_a_series_must_fit_the_frame():
    """
    Ready prompts belong to rows by the frame's own index; anything else is said.
    """
    frame = pd.DataFrame({"text": ["a", "b"]})
    assert "1 prompts and the frame 2 rows" in problems(frame, pd.Series(["p"]))
    assert "another index" in problems(frame, pd.Series(["p", "q"], index=[1, 0]))
    assert "missing value" in problems(frame, pd.Series(["p", None]))


def test_a_column_may_hold_message_lists():
    """
    Lists, and lists as text (JSON, or what a CSV file makes of them), are messages; other text is a question, even if it
    looks like a list.
    """
    messages = [{"role": "user", "content": "hi"}]
    frame = pd.DataFrame(
        {"m": [messages, json.dumps(messages), "[1] is a citation", "[]", np.array(messages)]}
    )
    assert asked(frame, col("m")) == ["hi", "hi", "[1] is a citation", "[]", "hi"]
    said = 'it\'s "so"\nand {so}'
    read = pd.read_csv(io.StringIO(pd.DataFrame({"m": [[{"role": "user", "content": said}]]}).to_csv()))
    assert asked(read, col("m")) == [said]
    like = ["[{'role': one, two}]", "[{'rule': 1}]", "[" * 9999 + "{'role': 1}"]
    assert asked(pd.DataFrame({"m": like}), col("m")) == like
    assert "(row 0)" in str(refused(pd.DataFrame({"m": [5, "a"]}), col("m")))


def test_messages_that_were_in_parquet_ask_what_they_asked():
    """
    Parquet makes arrays of lists, and a null of what other rows' messages have: these are no part of the question.
    """
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}],
        [{"role": "user", "name": "Bob", "content": [{"type": "text", "text": "ho"}]}],
        [
            {"role": "assistant", "tool_calls": [call], "content": None},
            {"role": "tool", "content": [{"type": "text", "text": "1"}], "tool_call_id": "c"},
        ],
    ]
    there = pa.table({"m": messages}).to_pandas()
    assert there["m"][0][0]["name"] is None
    assert isinstance(there["m"][0][0]["content"], np.ndarray)
    recipe = recipe_of(col("m"))
    for frame in (there, there.map(list), pd.DataFrame({"m": [tuple(one) for one in messages]})):
        [frozen] = freeze(recipe, frame)
        bodies = [orjson.loads(body)["messages"] for body in Renderer(recipe).bodies(frozen)]
        # A message that only calls has no content, here or there.
        assert [bodies[0], bodies[1], [{"content": None, **one} for one in bodies[2]]] == messages


def test_what_a_call_was_given_is_left_as_it_is():
    """
    A null in the input of an earlier call is what the model has written.
    """
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": None, "b": [None, {"c": None}]}}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": "and now?"}]
    recipe = recipe_of(col("m"), model="claude-sonnet-4-5")
    [frozen] = freeze(recipe, pd.DataFrame({"m": [messages]}))
    assert [orjson.loads(body)["messages"] for body in Renderer(recipe).bodies(frozen)] == [messages]


def test_messages_that_hold_themselves_are_named_by_rows():
    """
    A list within itself is told like any other fault of a row.
    """
    message: dict = {"role": "user"}
    message["content"] = [message]
    assert "holds itself" in str(refused(pd.DataFrame({"m": [[message]]}), col("m")))


def test_text_that_is_not_unicode_is_named_by_rows():
    """
    Half a surrogate pair, or bytes that are not UTF-8, cannot be sent: the rows are named, once for all.
    """
    texts = pd.Series(["ok", "a\ud800", "b\udfff!"], dtype=object, index=[7, 8, 9])
    frame = pd.DataFrame({"text": texts})
    for prompt in ("{text}", "{text!s}", lambda row: row.text, frame["text"]):
        [problem] = refused(frame, prompt).problems
        assert (problem.rows, problem.count) == ((8, 9), 2)
        assert "(rows 8, 9)" in str(problem)
    buffers = [None, pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"a\xff\xfe")]
    broken = pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.Array.from_buffers(pa.string(), 2, buffers)]))
    assert refused(pd.DataFrame({"text": broken}), "{text}").problems[0].rows == (1,)


def test_values_that_cannot_be_rendered_are_named_by_rows():
    """
    A spec that does not fit, a key that is not there: rows are gathered by reason, with an example.
    """
    frame = pd.DataFrame({"d": [{"k": 1}, {}, {"k": "x"}, {}]})
    error = refused(frame, "{d[k]:.1f}")

    assert [problem.rows for problem in error.problems] == [(1, 3), (2,)]
    assert "KeyError: 'k'" in str(error)


class _Hostile:
    def __str__(self):
        raise RuntimeError("no text today")


def test_a_value_may_raise_anything():
    """
    Whatever an object says when it is asked for its text, or how deep a list lies in itself, rows are named.
    """
    circle = []
    circle.append(circle)
    frame = pd.DataFrame({"x": ["fine", _Hostile(), circle]})
    for prompt, options in (
        ("{x}", {}),
        ("{x!s}", {}),
        ("q", {"system": "{x}"}),
        ("q", {"params": {"user": col("x")}}),
    ):
        error = refused(frame, prompt, **options)
        assert {row for problem in error.problems for row in problem.rows} >= {1}
    assert "no text today" in str(refused(frame, "{x}"))
    assert "RecursionError" in str(refused(frame, "{x}"))
    with pytest.raises(InputError, match="user is not JSON"):
        recipe_of("q", params={"user": circle})


def test_bytes_are_not_sent_as_python_writes_them():
    """
    A column of bytes is one that somebody forgot to decode; it is said how.
    """
    frame = pd.DataFrame({"raw": ["a", b"b", [b"c"]]})
    error = refused(frame, "{raw}")
    assert [row for problem in error.problems for row in problem.rows] == [1, 2]
    assert ".str.decode('utf-8')" in str(error)
    assert asked(frame.iloc[[1]], "{raw!r}") == ["b'b'"]


def test_a_field_that_is_too_wide_is_told():
    """
    A number of digits in a format that no memory holds is named with its rows, before anything is sent.
    """
    frame = pd.DataFrame({"text": ["a", "b"]})
    with pytest.raises(InputError, match="cannot be rendered"):
        frame.dobatch.plan("Say {text:999999999999999}", model="echo").preview()
