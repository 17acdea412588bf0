"""What is asked of a frame: found wrong as a whole, kept as JSON, and frozen row by row."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze, freeze_batches
from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.questions.prompts import Column, col
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


# -- other ways to ask


def test_a_function_gets_the_row():
    """
    A function sees every column by name, and returns a text or messages.
    """
    frame = pd.DataFrame({"my text": ["a"], "n": [2], "text": ["t"]})
    assert asked(frame, lambda row: f"{row['my text']} {row.n + 1}") == ["a 3"]
    assert asked(frame, lambda row: [{"role": "user", "content": row.text}]) == ["t"]


def test_a_function_that_fails_is_told_for_all_its_rows():
    """
    Every row in which the function raises is named, by kind of error, after the whole frame has been seen.
    """
    frame = pd.DataFrame({"text": pd.Series(["1", "x", "2", "y", None], dtype=object, index=list("abcde"))})
    error = refused(frame, lambda row: f"{int(row.text)}")

    assert [problem.count for problem in error.problems] == [2, 1]
    assert "ValueError: invalid literal" in str(error)
    assert error.problems[0].rows == ("b", "d")


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
    Lists, and lists as JSON text, are messages; other text is a question, even if it looks like a list.
    """
    messages = [{"role": "user", "content": "hi"}]
    frame = pd.DataFrame(
        {"m": [messages, json.dumps(messages), "[1] is a citation", "[]", np.array(messages)]}
    )
    assert asked(frame, col("m")) == ["hi", "hi", "[1] is a citation", "[]", "hi"]
    assert "(row 0)" in str(refused(pd.DataFrame({"m": [5, "a"]}), col("m")))


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


def test_bytes_are_not_sent_as_python_writes_them():
    """
    A column of bytes is one that somebody forgot to decode; it is said how.
    """
    frame = pd.DataFrame({"raw": ["a", b"b", [b"c"]]})
    error = refused(frame, "{raw}")
    assert [row for problem in error.problems for row in problem.rows] == [1, 2]
    assert ".str.decode('utf-8')" in str(error)
    assert asked(frame.iloc[[1]], "{raw!r}") == ["b'b'"]


# -- what is wrong with the frame


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


def test_an_empty_frame_is_said():
    """
    No rows, no job.
    """
    assert problems(FRAME.iloc[:0]) == "The frame has no rows."


def test_an_answer_may_not_replace_what_is_asked():
    """
    The column that the prompt reads stays what it is.
    """
    frame = pd.DataFrame({"text": ["a"]})
    assert "would replace column 'text'" in problems(frame, into="text")
    assert "would replace column 'text'" in problems(frame, schema={"text": str})


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


# -- parameters


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
    frame = pd.DataFrame({"text": ["a"] * 3, "p": [1, {1, 2}, object]})
    [problem] = refused(frame, "{text}", params={"seed": col("p")}).problems
    assert problem.rows == (1, 2)
    infinite = pd.DataFrame({"text": ["a"], "p": [float("inf")]})
    assert "no such number" in str(refused(infinite, "{text}", params={"seed": col("p")}))


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


# -- kept as JSON


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
        (str, True, "prompt function"),
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
