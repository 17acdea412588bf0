"""A JSON Schema says what is wrong with a value."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from dobatch_pandas.questions.schema_check import checker, moment, schema_problems


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (
            {"properties": {"a": {"items": {"type": "string"}}}},
            {"a": ["x", 1]},
            "a[1]: 1 is not of type 'string'",
        ),
        ({"properties": {"a": {"required": ["b"]}}}, {"a": {}}, "a: 'b' is a required property"),
        ({"maximum": 5}, 6, "6 is greater than the maximum of 5"),
        ({"multipleOf": 1}, 1e-38, "1e-38 is not a multiple of 1"),
        (
            {"properties": {"d": {"type": "string", "format": "date"}}},
            {"d": "2026-02-30"},
            "d: '2026-02-30' is not a 'date'",
        ),
        ({"properties": {"d": {"format": "decimal"}}}, {"d": "1,5"}, "d: '1,5' is not a 'decimal'"),
    ],
)
def test_a_problem_names_its_place(schema: Any, value: Any, problem: str) -> None:
    """
    A message says which field it is about, however deep.
    """
    assert checker(schema)(value) == problem


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"multipleOf": 0.1}, 0.3),
        ({"pattern": "^\\p{Lu}"}, "x"),  # of ECMA 262: Python does not read it
        ({"format": "uri"}, "no address"),
        ({"format": "date-time"}, "2026-11-23 10:00"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["a", 1]),
    ],
)
def test_what_people_mean_passes(schema: Any, value: Any) -> None:
    """
    An answer is not refused for binary fractions, foreign patterns, a hint, or an older draft.
    """
    assert checker(schema)(value) is None


def test_a_schema_may_contain_itself() -> None:
    """
    Trees can be described, and are checked to the last leaf.
    """
    node = {"properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}
    check = checker({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert check({"n": 1, "next": {"n": 2, "next": {"n": 3}}}) is None
    assert (
        check({"n": 1, "next": {"n": 2, "next": {"n": "3"}}}) == "next.next.n: '3' is not of type 'integer'"
    )


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"$ref": "#/$defs/Missing"}, "Missing"),
        ({"$ref": "other.json#/A"}, "other.json"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "http://127.0.0.1:9"),
        ({"type": "array", "items": {"anyOf": [{"$ref": "#/definitions/Gone"}]}}, "Gone"),
        ({"$ref": "#nothing"}, "nothing"),
        ({"type": "strin"}, "strin"),
        ({"enum": 5}, "enum"),
        ({"properties": []}, "properties"),
    ],
)
def test_a_schema_is_proved_before_it_is_used(field: Any, named: str) -> None:
    """
    A reference that leads nowhere, or a keyword that is none, is named; nothing is fetched.
    """
    [problem] = schema_problems({"type": "object", "properties": {"a": field}})
    assert named in problem


@pytest.mark.parametrize(
    "field",
    [
        {"$ref": "#/$defs/There"},
        {"$ref": "#anchor"},
        {"enum": [{"$ref": "#/$defs/no reference"}]},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
    ],
)
def test_a_reference_that_leads_somewhere_is_no_problem(field: Any) -> None:
    """
    Anchors, and a field or a choice that is only called like a reference, are taken.
    """
    there = {"There": {"$anchor": "anchor", "type": "string"}}
    assert schema_problems({"type": "object", "properties": {"a": field}, "$defs": there}) == []


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
