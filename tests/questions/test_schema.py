"""Schemas: a model, JSON Schema or the short form become one strict JSON Schema."""

from __future__ import annotations

import copy
import datetime
import enum
import json
from typing import Any, Literal, Optional, Union

import jsonschema
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.schema import answer_schema_of


class Tone(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Point(pydantic.BaseModel):
    x: int
    y: float = 0.0


class Answer(pydantic.BaseModel):
    tone: Tone
    where: Optional[Point] = None  # noqa: UP045  the older spelling is in use
    points: list[Point] = []


class Tree(pydantic.BaseModel):
    name: str
    children: list[Tree] = []


def json_schema_of(schema: Any) -> Any:
    """What is sent."""
    found = answer_schema_of(schema)
    return None if found is None else found.sent


def fields_of(short: dict[str, Any]) -> dict[str, Any]:
    return json_schema_of(short)["properties"]


def objects_of(schema: Any) -> list[dict[str, Any]]:
    """Every object with properties, anywhere in a schema."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    here = [schema] if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) else []
    return here + [one for value in inner for one in objects_of(value)]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (["pos", "neg"], {"type": "string", "enum": ["pos", "neg"]}),
        (("pos",), {"type": "string", "enum": ["pos"]}),
        ([1, 2], {"type": "integer", "enum": [1, 2]}),
        ([0.5, 1.0], {"type": "number", "enum": [0.5, 1.0]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Tone, {"type": "string", "enum": ["good", "bad"]}),
        ([str], {"type": "array", "items": {"type": "string"}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        ([["a", "b"]], {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),  # noqa: UP007
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^a"}),
    ],
)
def test_the_short_form_knows_a_type(kind, field):
    """
    Each type that the documentation names has the JSON Schema that people would write.
    """
    assert fields_of({"x": kind}) == {"x": field}


def test_the_short_form_nests():
    """
    A mapping within is an object of its own, as strict as the outer one.
    """
    schema = json_schema_of({"label": ["pos", "neg"], "at": {"page": int, "lines": [{"n": int}]}})

    assert schema["required"] == ["label", "at"]
    assert [one["additionalProperties"] for one in objects_of(schema)] == [False] * 3


def test_a_field_may_be_called_like_a_keyword():
    """
    A field named type, default, enum or properties is a field.
    """
    schema = json_schema_of({"type": ["a", "b"], "default": str, "enum": int, "properties": float})
    assert list(schema["properties"]) == ["type", "default", "enum", "properties"]
    again = json_schema_of(schema)
    assert again == schema


@pytest.mark.parametrize(
    "model", [Answer, Point, Tree, {"answer": Answer, "trees": [Tree], "more": list[Point] | None}]
)
def test_a_pydantic_model_becomes_a_strict_schema_that_resolves(model):
    """
    All fields are required, no others allowed, defaults are gone, and every reference finds its definition.
    """
    schema = json_schema_of(model)

    assert schema["type"] == "object"
    assert "$ref" not in schema
    for one in objects_of(schema):
        assert one["required"] == list(one["properties"])
        assert one["additionalProperties"] is False
        assert not any("default" in field for field in one["properties"].values())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid({"other": 1})


def test_an_answer_of_a_model_keeps_the_schema():
    """
    What the model itself writes is what its schema asks for.
    """
    answer = Answer(tone=Tone.GOOD, where=Point(x=1), points=[Point(x=2, y=0.5)])
    jsonschema.validate(answer.model_dump(mode="json"), json_schema_of(Answer))
    tree = Tree(name="a", children=[Tree(name="b")])
    jsonschema.validate(tree.model_dump(), json_schema_of(Tree))


def test_two_models_of_one_name_are_refused():
    """
    Definitions that would shadow each other are named.
    """

    def made() -> Any:
        class Point(pydantic.BaseModel):
            z: str

        class Holder(pydantic.BaseModel):
            point: Point

        return Holder

    with pytest.raises(InputError, match="both called 'Point'"):
        json_schema_of({"a": Answer, "b": made()})


def test_json_schema_is_made_strict_and_the_users_own_stays():
    """
    A JSON Schema is taken as it is but for what strict mode asks, and the caller's object is not changed.
    """
    given_schema = {"type": "object", "properties": {"a": {"type": "string", "default": "x", "maxLength": 9}}}
    before = copy.deepcopy(given_schema)
    schema = json_schema_of(given_schema)

    assert given_schema == before
    assert schema["properties"] == {"a": {"type": "string", "description": "(maxLength: 9)"}}
    assert schema["required"] == ["a"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (5, "It takes a pydantic model"),
        ({}, "It takes a pydantic model"),
        ("label", "It takes a pydantic model"),
        ({"x": object}, "schema['x'] is"),
        ({"a": {"b": [object]}}, "schema['a']['b']"),
        ({"x": []}, "empty list of choices"),
        ({"x": ["a", 1]}, "mixes types"),
        ({"x": [1.0, float("nan")]}, "has nan or inf among its choices"),
        ({1: str}, "is not a string"),
        ({"type": "array", "items": {"type": "string"}}, "An answer is an object of named fields"),
        (pydantic.RootModel[list[int]], "An answer is an object of named fields"),
    ],
)
def test_what_is_no_schema_says_why(schema, says):
    """
    A schema that is not understood names the place and what it takes.
    """
    with pytest.raises(InputError) as caught:
        json_schema_of(schema)
    assert says in str(caught.value)


def test_no_schema_is_none():
    """
    Plain text is the default.
    """
    assert json_schema_of(None) is None


def test_fields_may_be_called_like_keywords():
    """
    What is given as their kind tells: Python types make fields, JSON makes JSON Schema.
    """
    fields = {"anyOf": str, "enum": [int], "$ref": bool, "type": float}
    inner = json_schema_of({"a": fields})["properties"]["a"]
    assert list(inner["properties"]) == list(fields)
    for asked in ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string", "enum": ["a", "b"]}):
        assert json_schema_of({"a": asked})["properties"]["a"] == asked
    assert json_schema_of({"a": {"enum": ["a", "b"]}})["properties"]["a"]["enum"] == ["a", "b"]


WORDS = st.sampled_from(["anyOf", "enum", "$ref", "type", "properties", "items"])

SHORT = st.recursive(
    st.sampled_from([str, int, float, bool, datetime.date, ["a", "b"], [1, 2], [str], int | None]),
    lambda inner: (
        st.dictionaries(WORDS | st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3)
        | st.tuples(
            st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, min_size=1, max_size=2)
        ).map(list)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=5), SHORT, min_size=1, max_size=4))
def test_any_short_form_is_strict_json_schema(short):
    """
    However it nests, it is legal JSON Schema, strict everywhere, and stays the same when given again.
    """
    schema = json_schema_of(short)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(short)
    for one in objects_of(schema):
        if one.get("type") == "object":
            assert one["additionalProperties"] is False
    assert json_schema_of(schema) == schema


LABELS = pd.Series(["neg", "pos", "neg"])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.unique(),
        list(LABELS.unique()),
        LABELS.to_numpy(object),
        pd.Index(LABELS),
        pd.Categorical(LABELS),
        LABELS.astype("category"),
        LABELS.convert_dtypes(dtype_backend="pyarrow"),
        {"pos", "neg"},
        frozenset(LABELS),
        tuple(map(np.str_, LABELS)),
        (LABELS.unique(), "how it sounds"),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_may_come_from_a_frame(labels):
    """
    Choices are given as the frame holds them: a column, its categories, an array or a set.
    """
    assert fields_of({"label": labels})["label"]["enum"] == ["neg", "pos"]


@pytest.mark.parametrize(
    "numbers", [pd.Series([3, 1]), np.array([3, 1]), list(np.array([3, 1])), pd.array([3, 1], dtype="Int64")]
)
def test_numbers_as_labels_may_come_from_a_frame(numbers):
    """
    The same for whole numbers.
    """
    assert fields_of({"stars": numbers})["stars"] == {"type": "integer", "enum": [3, 1]}


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "name": "x", "schema": OBJECT}


@pytest.mark.parametrize(
    "pasted",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": OBJECT}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": OBJECT}}},
        FORMAT,
        {"format": FORMAT},
        {"text": {"format": FORMAT}},
        {"type": "function", "function": {"name": "f", "parameters": OBJECT}},
        {"name": "f", "input_schema": OBJECT},
        {"name": "f", "input_schema": OBJECT, "cache_control": {"type": "ephemeral"}},
        {"type": "json_schema", "json_schema": {"schema": OBJECT}},
        {"type": "json_schema", "schema": OBJECT},
        {"output_format": {"type": "json_schema", "schema": OBJECT}},
        {"output_config": {"format": {"type": "json_schema", "schema": OBJECT}}},
    ],
)
def test_a_pasted_format_is_understood(pasted):
    """
    What one of the services takes as its format may be given as the schema.
    """
    assert list(fields_of(pasted)) == ["a"]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$defs": {"A": {"$ref": "#/$defs/A"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}},
         "'#/\\$defs/A', which refers to itself"),
        ({"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "type": "object",
          "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/B"}}}}, "refers to itself"),
        ({"anyOf": [OBJECT, {"type": "object", "properties": {"b": {"type": "string"}}}]}, "make the choice one of them"),
        ({"oneOf": [OBJECT, {"type": "null"}]}, "make the choice one of them"),
        ({"allOf": [OBJECT, {"type": "object", "properties": {"b": {"type": "string"}}}]}, "in one object"),
    ],
)  # fmt: skip
def test_a_schema_that_no_column_can_hold_says_why(schema, says):
    """
    References in a circle and choices at the root are refused before anything is sent.
    """
    with pytest.raises(InputError, match=says):
        answer_schema_of(schema)


def test_a_class_that_makes_no_schema_says_why():
    """
    Whatever a class of the user's raises when it is asked for its schema, it is told as ours.
    """

    class Broken(pydantic.BaseModel):
        @classmethod
        def model_json_schema(cls, *arguments: Any, **options: Any) -> Any:
            raise RuntimeError("not today")

    for model, says in ((Broken, "RuntimeError: not today"), (pydantic.BaseModel, "no JSON Schema")):
        with pytest.raises(InputError, match=says):
            answer_schema_of(model)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"enum": ["x", "y"]}, "string"),
        ({"enum": ["x", None, 1]}, ["string", "null", "integer"]),
        ({"const": 5}, "integer"),
        ({"const": True}, "boolean"),
        ({"anyOf": [{"const": 1.5}, {"type": "null"}]}, None),
    ],
)
def test_choices_say_their_type(field, kind):
    """
    Strict decoding refuses a part whose type is not said, though its choices show it.
    """
    schema = answer_schema_of({"properties": {"a": field}})
    assert schema.strict
    sent = schema.sent["properties"]["a"]
    assert sent.get("type") == kind
    assert all("type" in part for part in sent.get("anyOf", []))


def test_what_is_sent_loosely_is_an_object_all_the_same():
    """
    Where strict decoding has no form for a schema it goes out as it was given, and says that it is an object.
    """
    for field in ({}, {"enum": [["x"]]}, {"type": "object", "properties": {}}):
        schema = answer_schema_of({"properties": {"a": field}})
        assert not schema.strict
        assert schema.sent == {"type": "object", "properties": {"a": field}}
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    assert answer_schema_of({"properties": {"a": closed}}).strict


def test_numbers_of_numpy_and_sets_stand_in_a_schema():
    """
    A limit or choices that were computed are what they say.
    """
    number = {"type": "integer", "minimum": np.int64(3)}
    schema = {"type": "object", "properties": {"n": number, "c": {"enum": {"y", "x"}}}}
    assert fields_of(schema) == {
        "n": {"type": "integer", "minimum": 3},
        "c": {"type": "string", "enum": ["x", "y"]},
    }


@pytest.mark.parametrize(
    "node",
    [
        {"$ref": "#/$defs/Node", "description": "the next one"},
        {"$ref": "#", "description": "the next one"},
        {"allOf": [{"$ref": "#/$defs/Node"}], "description": "the next one"},
        {"allOf": [{"$ref": "#/$defs/Node"}, {"description": "the next one"}]},
        {"anyOf": [{"$ref": "#/$defs/Node", "title": "Node"}, {"type": "null"}]},
        {"allOf": [True]},
    ],
)
def test_an_object_within_itself_has_an_end(node):
    """
    A list whose links refer to its own kind, with a description beside the reference, is sent as it was meant.
    """
    fields = {"v": {"type": "integer"}, "next": node, "other": {"type": "array", "items": node}}
    schema = answer_schema_of(
        {"type": "object", "properties": fields, "$defs": {"Node": {"type": "object", "properties": fields}}}
    )
    assert len(json.dumps(schema.sent)) < 5000
    assert set(schema.names(flatten=True)) >= {"v"}
    assert len(schema.names(flatten=True)) < 20


def nested(depth: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": nested(depth - 1) if depth > 1 else {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (nested(10), None),
        (nested(11), "11 deep"),
        ({f"f{n}": int for n in range(5000)}, None),
        ({f"f{n}": int for n in range(5001)}, "5,001 fields"),
        ({"a": [str(n) for n in range(1000)]}, None),
        ({"a": [str(n) for n in range(600)], "b": list(range(600))}, "1,200 choices"),
        ({"type": "object", "properties": {"enum": {"enum": ["a"]}, "properties": {"type": "string"}}}, None),
    ],
)
def test_what_is_too_large_for_strict_decoding_is_sent_without(schema, says):
    """
    The limits of strict decoding are known: beyond them a schema is a request, and answers are judged here.
    """
    loose = answer_schema_of(schema).loose
    assert loose == [] if says is None else any(says in reason for reason in loose)
