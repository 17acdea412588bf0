"""Texts become typed columns, and an answer that breaks the schema is a failed row, never an exception."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.answers import typed
from dobatch_pandas.answers.join import answer_columns
from dobatch_pandas.answers.judge import candidates
from dobatch_pandas.answers.shape import shape_of
from dobatch_pandas.answers.typed import parse_answers
from dobatch_pandas.questions.schema import AnswerSchema, answer_schema_of
from dobatch_pandas.questions.schema_check import resolve


def results_of(texts: list[Any], codes: list[Any] | None = None) -> pa.Table:
    """Results with these texts."""
    return pa.table(
        {
            "custom_id": pa.array([str(i) for i in range(len(texts))], pa.string()),
            "text": pa.array(texts, pa.large_string()),
            "finish_reason": pa.nulls(len(texts), pa.string()),
            "error_code": pa.array(codes or [None] * len(texts), pa.string()),
            "error_message": pa.array(codes or [None] * len(texts), pa.string()),
            "embedding": pa.nulls(len(texts), pa.list_(pa.float32())),
        }
    )


def parsed(
    texts: list[Any], schema: Any, **options: Any
) -> tuple[dict[str, list[Any]], list[Any], list[Any]]:
    """Answers, codes and messages as plain lists."""
    columns, code, message = parse_answers(results_of(texts), answer_schema_of(schema), **options)
    return (
        {name: values.to_pylist() for name, values in columns.items()},
        code.to_pylist(),
        message.to_pylist(),
    )


def frame_of(texts: list[Any], schema: Any, **options: Any) -> pd.DataFrame:
    """The columns that a user gets."""
    ids = pa.array([str(i) for i in range(len(texts))])
    index = pd.RangeIndex(len(texts))
    return pd.DataFrame(
        answer_columns(
            ids,
            None,
            results_of(texts),
            into="it",
            json_schema=answer_schema_of(schema),
            index=index,
            **options,
        )
    )


class Person(pydantic.BaseModel):
    name: str
    born: datetime.date


class Everything(pydantic.BaseModel):
    label: Literal["pos", "neg"]
    count: int
    score: float = pydantic.Field(ge=0, le=1)
    sure: bool
    why: str
    day: datetime.date
    at: datetime.datetime
    tags: list[str]
    person: Person
    maybe: int | None


EVERYTHING = {
    "label": "neg",
    "count": 3,
    "score": 0.25,
    "sure": True,
    "why": "so\u2028it\nis",
    "day": "2026-11-23",
    "at": "2026-11-23T12:30:00.5+02:00",
    "tags": ["a", "b"],
    "person": {"name": "Ada", "born": "1815-12-10"},
    "maybe": None,
}


def test_every_type_becomes_a_real_column() -> None:
    """
    A schema's fields are pandas columns of their own types.
    """
    frame = frame_of([json.dumps(EVERYTHING), json.dumps({**EVERYTHING, "maybe": 4})], Everything)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "label": "category",
        "count": "Int64",
        "score": "Float64",
        "sure": "boolean",
        "why": str(pd.Series(["x"], dtype="str" if pd.__version__ >= "3" else "string").dtype),
        "day": "datetime64[us]",
        "at": "datetime64[us, UTC]",
        "tags": "object",
        "person": "object",
        "maybe": "Int64",
        "it_error": frame["why"].dtype.name,
    }
    assert frame["label"].cat.categories.tolist() == ["pos", "neg"]
    row = frame.iloc[0]
    assert (row["label"], row["count"], row["score"], row["sure"], row["why"]) == (
        "neg",
        3,
        0.25,
        True,
        "so\u2028it\nis",
    )
    assert row["day"] == pd.Timestamp("2026-11-23")
    assert row["at"] == pd.Timestamp("2026-11-23T10:30:00.5Z")
    assert list(row["tags"]) == ["a", "b"]
    assert row["person"] == {"name": "Ada", "born": datetime.datetime(1815, 12, 10)}
    assert frame["maybe"].tolist() == [pd.NA, 4]
    assert frame["it_error"].isna().all()


def test_dates_within_lists_and_objects_are_dates() -> None:
    """
    A date is a date at any depth, and one that is none is said to be wrong.
    """

    class Stay(pydantic.BaseModel):
        nights: list[datetime.date]
        log: list[dict[str, int] | None] = []

    class Trip(pydantic.BaseModel):
        days: list[datetime.date]
        stays: list[Stay]
        seen: list[datetime.datetime | None]

    trip = {
        "days": ["2026-01-31"],
        "stays": [{"nights": ["2026-02-01", "2026-02-02"]}],
        "seen": ["2026-01-31T01:02:03+01:00", None],
    }
    wrong = {**trip, "stays": [{"nights": ["2026-02-30"]}]}
    for schema in (Trip, Trip.model_json_schema()):
        frame = frame_of([json.dumps(trip), json.dumps(wrong), None], schema)
        day = datetime.datetime
        assert list(frame["days"][0]) == [day(2026, 1, 31)]
        assert [list(stay["nights"]) for stay in frame["stays"][0]] == [[day(2026, 2, 1), day(2026, 2, 2)]]
        assert list(frame["seen"][0]) == [day(2026, 1, 31, 0, 2, 3, tzinfo=datetime.timezone.utc), None]
        assert frame["it_error"][1] == "schema_mismatch"


def test_a_number_of_either_kind_or_nothing_is_a_number() -> None:
    """
    ``int | float | None`` is a column of numbers, however the schema writes it.
    """
    for either in (
        {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]},
        {"anyOf": [{"type": ["integer", "null"]}, {"type": "number"}]},
        {"type": ["integer", "number", "null"]},
    ):
        schema = {"type": "object", "properties": {"n": either}, "required": ["n"]}
        texts = [json.dumps({"n": n}) for n in (1, 2.5, None)]
        found = frame_of(texts, schema)["n"]
        assert found.dtype == "Float64"
        assert found.tolist() == [1.0, 2.5, pd.NA]


def test_nested_fields_become_dotted_names_where_asked() -> None:
    """
    flatten=True makes columns of a nested object's fields.
    """
    frame = frame_of([json.dumps(EVERYTHING), "broken"], Everything, flatten=True)
    assert [name for name in frame.columns if "." in name] == ["person.name", "person.born"]
    assert frame["person.name"].tolist()[0] == "Ada"
    assert frame["person.born"].tolist() == [pd.Timestamp("1815-12-10"), pd.NaT]


SCHEMA = {"label": ["pos", "neg"], "score": int}


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "pos", "score": 1}',
        ' \n{"score": 1,\n\n "label": "pos"}\n\n',
        '```json\n{"label": "pos", "score": 1}\n```',
        '```\n{"label": "pos",\n "score": 1}\n```\n',
        'Here it is:\n```json\r\n{"label": "pos", "score": 1}\r\n```\nAnything else?',
        'Sure! {"label": "pos", "score": 1} Hope that helps.',
        '{"label": "pos", "score": 1.0}',
        '{"label": "neg", "label": "pos", "score": 1}',
        '{"label": "p\\u006fs", "score": 1}',
    ],
)
def test_an_answer_is_found_in_its_wrapping(text: str) -> None:
    """
    Line breaks, code fences and small talk around the JSON do no harm.
    """
    columns, codes, _ = parsed([text], SCHEMA)
    assert codes == [None]
    assert columns == {"label": ["pos"], "score": [1]}


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("pos", "invalid_json", "not JSON"),
        ("", "invalid_json", "not JSON"),
        ('{"label": "pos", "score": 1', "invalid_json", "not JSON"),
        ('{"label": "pos", "score": NaN}', "invalid_json", "not JSON"),
        ('{"label": "meh", "score": 1}', "schema_mismatch", "label: 'meh' is not one of"),
        ('{"label": "pos"}', "schema_mismatch", "'score' is a required property"),
        ('{"label": "pos", "score": null}', "schema_mismatch", "score: None is not of type 'integer'"),
        ('{"label": "pos", "score": "1"}', "schema_mismatch", "score: '1' is not of type 'integer'"),
        ('{"label": "pos", "score": 1.5}', "schema_mismatch", "score: 1.5 is not of type 'integer'"),
        ('{"label": "pos", "score": true}', "schema_mismatch", "score: True is not of type 'integer'"),
        ('{"label": "pos", "score": 1, "why": "x"}', "schema_mismatch", "'why' was unexpected"),
        ('{"label": "pos", "score": 123456789012345678901234567890}', "schema_mismatch", "score: .* 64 bits"),
        (
            '[{"label": "pos", "score": 1}, {"label": "pos", "score": 2}]',
            "schema_mismatch",
            "is not of type 'object'",
        ),
        ('{"label": "pos", "score": 1e999}', "schema_mismatch", "score: "),
        ("null", "schema_mismatch", "None is not of type 'object'"),
        ("3", "schema_mismatch", "3 is not of type 'object'"),
    ],
)
def test_a_broken_answer_has_a_code_and_names_the_field(text: str, code: str, message: str) -> None:
    """
    One bad reply costs one row, and its message says what is wrong with which field.
    """
    good = '{"label": "pos", "score": 7}'
    columns, codes, messages = parsed([good, text, good], SCHEMA)
    assert codes == [None, code, None]
    assert columns == {"label": ["pos", None, "pos"], "score": [7, None, 7]}
    assert messages[0] is None
    assert re.search(message, messages[1])


def test_rows_that_failed_before_are_left_alone() -> None:
    """
    The text of a row that was cut off is not parsed, however well it reads.
    """
    table = results_of(
        ['{"label": "pos", "score": 1}', '{"label": "neg", "score": 1}', None], [None, "length", "expired"]
    )
    columns, code, message = parse_answers(table, answer_schema_of(SCHEMA) or {})
    assert columns["label"].to_pylist() == ["pos", None, None]
    assert code.to_pylist() == message.to_pylist() == [None, "length", "expired"]


def test_no_rows_have_all_the_columns() -> None:
    """
    An empty frame gets its new columns with their types.
    """
    frame = frame_of([], Everything)
    assert len(frame) == 0
    assert str(frame["label"].dtype) == "category"
    assert str(frame["count"].dtype) == "Int64"
    assert str(frame["day"].dtype) == "datetime64[us]"


def test_fields_without_one_type_are_json_text() -> None:
    """
    What no column type fits is kept as JSON.
    """
    schema = {
        "type": "object",
        "properties": {
            "any": {},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "free": {"type": "object"},
        },
        "required": ["any"],
    }
    columns, code, _ = parse_answers(
        results_of(
            ['{"any": [1, {"a": null}], "either": "x", "free": {"b": 1}}', '{"any": null, "either": 2}', "{}"]
        ),
        schema,
    )
    assert columns["any"].to_pylist() == ['[1,{"a":null}]', None, None]
    assert columns["either"].to_pylist() == ['"x"', "2", None]
    assert columns["free"].to_pylist() == ['{"b":1}', None, None]
    assert code.to_pylist() == [None, None, "schema_mismatch"]


def test_numbers_of_an_enum_are_numbers() -> None:
    """
    A choice among numbers is a number, among texts a category.
    """
    frame = frame_of(
        ['{"stars": 4, "grade": "b"}', '{"stars": 6, "grade": "b"}'],
        {"stars": [1, 2, 3, 4, 5], "grade": ["a", "b"]},
    )
    assert frame["stars"].tolist() == [4, pd.NA]
    assert str(frame["stars"].dtype) == "Int64"
    assert frame["grade"].cat.categories.tolist() == ["a", "b"]


def test_plain_answers_are_read_without_looking_at_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Well-formed typed are read as whole columns, dates and nested ones too.
    """
    monkeypatch.setattr(typed, "judged", lambda text, *_: pytest.fail(f"read by itself: {text}"))
    texts = [json.dumps({**EVERYTHING, "maybe": 1}, indent=2 if i % 2 else None) for i in range(200)]
    columns, codes, _ = parsed(texts, Everything)
    assert codes == [None] * 200
    assert columns["label"] == ["neg"] * 200


class Tree(pydantic.BaseModel):
    value: int
    left: Tree | None = None
    right: Tree | None = None
    more: list[Tree] = []


def test_a_tree_is_typed_in_no_time() -> None:
    """
    A model whose branches are of its own kind becomes columns of some levels, and JSON text below them.
    """
    schema = answer_schema_of(Tree)
    assert len(str(shape_of(schema.given).type)) < 10_000
    deep: dict[str, Any] = {"value": 0}
    for value in range(1, 9):
        deep = {"value": value, "left": deep}
    columns, codes, _ = parsed([json.dumps(deep)], Tree)
    assert (codes, columns["value"], columns["right"]) == ([None], [8], [None])
    branch, seen = columns["left"][0], []
    while branch is not None:
        branch = json.loads(branch) if isinstance(branch, str) else branch
        seen.append(branch["value"])
        branch = branch["left"]
    assert seen == list(range(7, -1, -1))
    columns, _, _ = parsed([json.dumps(deep)], Tree, flatten=True)
    assert list(columns) == schema.names(flatten=True)
    assert columns["left.value"] == [7]
    again = AnswerSchema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again.names(flatten=True) == schema.names(flatten=True)


@pytest.mark.parametrize(
    ("kind", "limits", "right", "wrong"),
    [
        ("integer", {"minimum": 0.0}, [1, 10**18, 2**63 - 1], [-1, -(10**18)]),
        ("integer", {"exclusiveMaximum": 2**63}, [2**63 - 1], []),
        ("integer", {"maximum": 2**64 - 1}, [2**63 - 1], []),
        ("number", {"maximum": 10**18}, [1, 0.5, 10**18], [10**18 + 1000]),
        ("number", {"minimum": -(2**63)}, [1, -(2**63)], [-1e300]),
        ("string", {"maxLength": 2.0}, ["ab"], ["abc"]),
        ("string", {"maxLength": 2**63}, ["ab"], []),
        ("array", {"items": {"type": "integer"}, "minItems": 1.0}, [[1]], [[]]),
    ],
)
def test_a_limit_of_any_size_is_kept_to(kind: str, limits: Any, right: list[Any], wrong: list[Any]) -> None:
    """
    Limits and values that a float cannot hold are compared as they are, and stop nobody's job.
    """
    schema = {"type": "object", "properties": {"x": {"type": kind, **limits}}, "required": ["x"]}
    _, codes, _ = parsed([json.dumps({"x": value}) for value in [*right, *wrong]], schema)
    assert codes == [None] * len(right) + ["schema_mismatch"] * len(wrong)


def test_a_limit_of_an_older_draft_is_kept_to() -> None:
    """
    Draft 4 says with a truth value that a limit is excluded.
    """
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object",
              "properties": {"x": {"type": "integer", "minimum": 1, "exclusiveMinimum": True}}}  # fmt: skip
    assert parsed(['{"x": 1}', '{"x": 2}'], schema)[1] == ["schema_mismatch", None]


def test_a_moment_that_utc_does_not_have_is_none() -> None:
    """
    The first and the last day of all are in another year in UTC: such a row has a code, and the others are read.
    """
    texts = ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "9999-12-31T23:59:59Z"]
    for schema in ({"at": datetime.datetime}, {"deep": {"at": datetime.datetime}}):
        deep = "deep" in schema
        frame = frame_of([json.dumps({"deep": {"at": x}} if deep else {"at": x}) for x in texts], schema)
        assert frame["it_error"].tolist()[:2] == ["schema_mismatch"] * 2
        assert frame["it_error"].isna()[2]


def test_what_a_model_makes_of_a_text_is_json() -> None:
    """
    A field that pydantic reads as JSON, or that a validator splits, is JSON text; a secret is no row of stars.
    """

    class Made(pydantic.BaseModel):
        read: pydantic.Json[Any]
        secret: pydantic.SecretStr

    columns, _, _ = parsed(['{"read": "{\\"a\\": [1]}", "secret": "x"}'], Made)
    assert columns == {"read": ['{"a":[1]}'], "secret": ["x"]}


# The two ways of reading ---------------------------------------------------------------------------------

SCHEMAS: list[dict[str, Any]] = [
    answer_schema_of(Everything).given,
    answer_schema_of({"label": ["pos", "neg"], "score": float, "n": int, "ok": bool, "tags": [str]}).given,
    {
        "type": "object",
        "properties": {
            "a": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 10},
            "b": {"type": "string", "enum": ["x", "y"]},
            "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "number"}}}},
            "e": {"type": "object", "properties": {"f": {"type": "boolean"}}, "required": ["f"]},
            "g": {"type": "string", "format": "date-time"},
        },
        "required": ["b"],
    },
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "required": ["a"]},
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0.5, "maximum": 2**64 - 1}}},
    {
        "type": "object",
        "properties": {"n": {"type": "number"}},
        "required": ["n"],
        "additionalProperties": False,
    },
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from(["pos", "neg", "x", "y", "2026-01-31", "2026-02-30", "2026-01-31T01:02:03Z", ""]),
    st.text(max_size=5),
)


def values_of(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    """Values that mostly fit a schema."""
    shape = shape_of(schema, root)
    fitting: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(0, 12),
        "number": st.one_of(
            st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5)
        ),
        "boolean": st.booleans(),
        "string": st.text(max_size=6),
        "date": st.dates().map(str),
        "date-time": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        "json": scalars,
    }
    if shape.kind == "enum":
        return st.one_of(st.sampled_from(shape.choices), st.sampled_from(shape.choices), scalars)
    if shape.kind == "array" and shape.item is not None:
        items = resolve(resolve(schema, root)["items"], root)
        return st.one_of(st.lists(values_of(items, root), max_size=3), scalars)
    if shape.kind == "object":
        properties = resolve(schema, root)["properties"]
        every = {name: values_of(part, root) for name, part in properties.items()}
        return st.one_of(
            st.fixed_dictionaries(every),
            st.fixed_dictionaries(every),
            st.fixed_dictionaries({}, optional={**every, "extra": scalars}),
        )
    return st.one_of(fitting[shape.kind], fitting[shape.kind], fitting[shape.kind], scalars)


@st.composite
def written(draw: st.DrawFn, schema: Any) -> Any:
    """A text as a model may write it."""
    value = draw(st.one_of(values_of(schema, schema), values_of(schema, schema), scalars))
    text = json.dumps(value, indent=draw(st.sampled_from([None, None, 2])), ensure_ascii=draw(st.booleans()))
    return draw(
        st.sampled_from(
            [text, text, text, f"```json\n{text}\n```", f" {text}\n", text[:-1], text + text, text + "}", ""]
        )
    )


@pytest.mark.parametrize("schema", SCHEMAS)
@given(data=st.data())
@settings(max_examples=60)
def test_both_ways_of_reading_agree_on_every_answer(schema: Any, data: st.DataObject) -> None:
    """
    How an answer is read changes how long it takes, never what it says.
    """
    plain = '{"b": "x", "n": 1, "a": "long"}' if schema in SCHEMAS[2:] else json.dumps(EVERYTHING)
    texts = data.draw(st.lists(written(schema), min_size=1, max_size=6))
    at = data.draw(st.integers(0, len(texts)))
    texts = texts[:at] + [plain] * data.draw(st.sampled_from([0, 0, 70])) + texts[at:]

    fast = parse_answers(results_of(texts), schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typed, "_columnar", lambda text, shape: ([], typed.np.arange(len(text))))
        slow = parse_answers(results_of(texts), schema)

    assert repr({name: values.to_pylist() for name, values in fast[0].items()}) == repr(
        {name: values.to_pylist() for name, values in slow[0].items()}
    )
    assert [values.type for values in fast[0].values()] == [values.type for values in slow[0].values()]
    assert fast[1].to_pylist() == slow[1].to_pylist()
    assert fast[2].to_pylist() == slow[2].to_pylist()


@given(st.text(max_size=40))
def test_any_text_can_be_looked_through(text: str) -> None:
    """
    No reply of a model can raise anything.
    """
    list(candidates(text))
