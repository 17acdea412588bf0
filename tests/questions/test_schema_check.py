"""A JSON Schema says what is wrong with a value."""

from __future__ import annotations

import datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.questions.schema_check import checker, moment

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(-3, 9),
    st.sampled_from(["", "a", "b", "abc", "2026-01-31"]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
limits = st.integers(0, 3)
simple = st.one_of(
    st.builds(
        lambda t: {"type": t},
        st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"]),
    ),
    st.builds(
        lambda t: {"type": t},
        st.lists(st.sampled_from(["null", "integer", "string"]), min_size=1, unique=True),
    ),
    st.builds(lambda e: {"enum": e}, st.lists(leaves, min_size=1, max_size=3)),
    st.builds(lambda c: {"const": c}, leaves),
    st.builds(
        lambda word, limit: {word: limit},
        st.sampled_from(
            [
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "minLength",
                "maxLength",
                "minItems",
                "maxItems",
            ]
        ),
        limits,
    ),
    st.builds(lambda n: {"multipleOf": n}, st.sampled_from([1, 2, 3])),
    st.just({"uniqueItems": True}),
    st.just({"pattern": "^a"}),
    st.just({}),
    st.booleans(),
)
schemas = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda p: {"properties": p}, st.dictionaries(st.sampled_from("abc"), inner, max_size=2)),
        st.builds(
            lambda p, r, a: {"type": "object", "properties": p, "required": r, "additionalProperties": a},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            st.one_of(st.booleans(), inner),
        ),
        st.builds(lambda i: {"type": "array", "items": i}, inner),
        st.builds(
            lambda w, s: {w: s},
            st.sampled_from(["anyOf", "oneOf", "allOf"]),
            st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(
            lambda s: {"$defs": {"it": s}, "$ref": "#/$defs/it"}, inner.filter(lambda s: isinstance(s, dict))
        ),
    ),
    max_leaves=4,
)


def nested_reference(schema: Any, inside: bool = False) -> bool:
    """Whether a ``$ref`` stands where it does not point into its own document."""
    if isinstance(schema, dict):
        return (inside and "$ref" in schema) or any(nested_reference(part, True) for part in schema.values())
    return isinstance(schema, list) and any(nested_reference(part, True) for part in schema)


@given(schema=schemas.filter(lambda schema: not nested_reference(schema)), value=values)
@settings(max_examples=400)
def test_a_value_passes_where_the_reference_implementation_passes_it(schema: Any, value: Any) -> None:
    """
    The checker agrees with jsonschema on what is right.
    """
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    problem = checker(schema)(value, "it")
    assert (problem is None) == expected, problem


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "a[1]: 1 is not text"),
        ({"properties": {"a": {"required": ["b"]}}}, {"a": {}}, "a.b: required but missing"),
        ({"maximum": 5}, 6, ": 6 is more than 5"),
        ({"multipleOf": 1}, 1e-38, ": 1e-38 is not a multiple of 1"),
        (
            {"properties": {"d": {"type": "string", "format": "date"}}},
            {"d": "2026-02-30"},
            'd: "2026-02-30" is not a date',
        ),
    ],
)
def test_a_problem_names_its_place(schema: Any, value: Any, problem: str) -> None:
    """
    A message says which field it is about, however deep.
    """
    assert checker(schema)(value, "") == problem


def test_a_schema_may_contain_itself() -> None:
    """
    Trees can be described, and are checked to the last leaf.
    """
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}},
            }
        },
    }
    check = checker(schema)
    assert check({"n": 1, "next": {"n": 2, "next": {"n": 3}}}, "") is None
    assert (
        check({"n": 1, "next": {"n": 2, "next": {"n": "3"}}}, "") == 'next.next.n: "3" is not a whole number'
    )


UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("2026-11-23", "date", datetime.datetime(2026, 11, 23)),
        ("23.11.2026", "date", None),
        ("2026-11-23T10:00:00Z", "date-time", datetime.datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23 10:00", "date-time", datetime.datetime(2026, 11, 23, 10, tzinfo=UTC)),
        (
            "2026-11-23T10:00:00.123456789Z",
            "date-time",
            datetime.datetime(2026, 11, 23, 10, 0, 0, 123456, UTC),
        ),
        ("2026-11-23T12:00:00+0200", "date-time", datetime.datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T25:00:00Z", "date-time", None),
        ("tomorrow", "date-time", None),
    ],
)
def test_a_moment_is_read_as_models_write_it(text: str, form: str, expected: Any) -> None:
    """
    A missing zone is UTC, a missing second zero; what is no date is none.
    """
    assert moment(text, form) == expected
