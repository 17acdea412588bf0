"""JSON Schema, judged by the `jsonschema` library: whether a schema is one, and what is wrong with a value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import unquote

__all__ = ["Check", "checker", "compiled", "moment", "resolve", "schema_problems"]

Check = Callable[[Any], "str | None"]
"""Takes a value; returns what is wrong with it, or None."""

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SHOWN = 300  # characters of a problem


def moment(text: str, form: str) -> datetime | None:
    """A ``date`` as a datetime without a zone, a ``date-time`` as one in UTC; None where it is no such text."""
    try:
        if form == "date":
            day = date.fromisoformat(text) if _DATE.fullmatch(text) else None
            return datetime(day.year, day.month, day.day) if day else None
        found = _MOMENT.fullmatch(text)
        if found is None:
            return None
        day_text, time, seconds, fraction, zone = found.groups()
        zone = "+00:00" if zone is None or zone in "Zz" else zone
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
        micros = f".{fraction[:6]:0<6}" if fraction else ""
        there = datetime.fromisoformat(f"{day_text}T{time}{seconds or ':00'}{micros}{zone}")
        return there.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # there is no such day, or none in UTC
        return None


def pointed_at(reference: str, root: Mapping[str, Any]) -> Any:
    """What a reference into the same document points at; None where that is nothing."""
    target: Any = root
    steps = reference.lstrip("#").strip("/").split("/") if reference.startswith("#") else [reference]
    for step in filter(None, steps):
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(step)] if step.isdecimal() and int(step) < len(target) else None
        else:
            target = target.get(step) if isinstance(target, Mapping) else None
    return target


def resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with a ``$ref`` into the same document, or an ``allOf`` of one, followed; empty where it leads nowhere."""
    seen = 0
    while isinstance(schema, Mapping) and seen < 64:
        seen += 1
        if "$ref" in schema:
            target = pointed_at(str(schema["$ref"]), root)
            extra = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**(target if isinstance(target, Mapping) else {}), **extra}
        elif isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
            extra = {key: value for key, value in schema.items() if key != "allOf"}
            schema = {**schema["allOf"][0], **extra} if isinstance(schema["allOf"][0], Mapping) else extra
        else:
            break
    return schema if isinstance(schema, Mapping) else {}


def schema_problems(schema: Mapping[str, Any]) -> list[str]:
    """Say why this is no schema that an answer can be judged by: a keyword's value, or a reference that leads nowhere."""
    from jsonschema.exceptions import SchemaError

    try:
        _validator_class(schema).check_schema(schema)
    except SchemaError as error:
        place = "".join(f"[{key!r}]" for key in error.absolute_path)
        return [f"schema{place} is not JSON Schema: {error.message[:_SHOWN]}."]
    return [f"schema refers to {name!r}, and there is nothing of that name." for name in _lost(schema)] or [
        f"schema refers to {name!r}, which refers to itself and says nothing."
        for name in dict.fromkeys(_circling(schema))
    ]


def _circling(schema: Any, root: Any = None) -> Iterator[str]:
    """References that lead to themselves by way of nothing but references."""
    root = schema if root is None else root
    for part in (
        schema if isinstance(schema, list) else schema.values() if isinstance(schema, Mapping) else ()
    ):
        yield from _circling(part, root)
    seen: list[str] = []
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and schema is not root:
        if schema["$ref"] in seen:
            yield schema["$ref"]
            return
        seen.append(schema["$ref"])
        schema = pointed_at(schema["$ref"], root)


def _lost(schema: Mapping[str, Any]) -> Iterator[str]:
    """References that lead nowhere. Nothing is fetched."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    meta = _validator_class(schema).META_SCHEMA.get("$schema", "")
    specification = specification_with(meta, default=DRAFT202012)
    resource = specification.create_resource(schema)
    pending = [(resource, Registry().with_resource("", resource).resolver(""))]
    told = set()
    while pending:
        part, resolver = pending.pop()
        for word in ("$ref", "$dynamicRef"):
            reference = part.contents.get(word) if isinstance(part.contents, Mapping) else None
            if isinstance(reference, str) and reference not in told:
                try:
                    resolver.lookup(reference)
                except (Unresolvable, ValueError, LookupError, AttributeError, TypeError):
                    told.add(reference)
                    yield reference
        pending += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]


def checker(schema: Mapping[str, Any]) -> Check:
    """Compile a schema into a `Check`. References are looked for in the schema alone; nothing is ever fetched."""
    from jsonschema.exceptions import best_match
    from referencing import Registry

    validator = _validator_class(schema)(schema, registry=Registry(), format_checker=_formats())

    def check(value: Any) -> str | None:
        error = best_match(validator.iter_errors(value))
        if error is None:
            return None
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
        message = error.message if len(error.message) <= _SHOWN else f"{error.message[:_SHOWN]}..."
        return f"{place.lstrip('.')}: {message}" if place else message

    return check


@cache
def _formats() -> Any:
    """Dates as models write them; other formats are hints to the model, not rules."""
    from jsonschema import FormatChecker

    formats = FormatChecker(formats=())

    def is_date(value: Any) -> bool:
        return not isinstance(value, str) or moment(value, "date") is not None

    def is_moment(value: Any) -> bool:
        return not isinstance(value, str) or moment(value, "date-time") is not None

    def is_decimal(value: Any) -> bool:
        return not isinstance(value, str) or Decimal(value).is_finite()

    formats.checkers |= {
        "date": (is_date, ()),
        "date-time": (is_moment, ()),
        "decimal": (is_decimal, ArithmeticError),
    }
    return formats


def _validator_class(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return _extended(validator_for(schema, default=Draft202012Validator))


@cache
def _extended(validator: Any) -> Any:
    """A draft's validator that takes numbers and patterns as people mean them."""
    from jsonschema import ValidationError
    from jsonschema.validators import extend

    def multiple_of(_: Any, of: Any, value: Any, __: Any) -> Iterator[Any]:
        # 0.3 is a multiple of 0.1, whatever binary fractions say.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not _is_multiple(value, of):
            yield ValidationError(f"{json.dumps(value)} is not a multiple of {of}")

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[Any]:
        found = compiled(wanted)
        if isinstance(value, str) and found is not None and not found(value):
            yield ValidationError(f"{value!r} does not match {wanted!r}")

    return extend(validator, {"multipleOf": multiple_of, "pattern": pattern})


@cache
def compiled(pattern: str) -> Callable[[str], Any] | None:
    """A pattern's search; None where it is one that Python does not read."""
    try:
        return re.compile(pattern).search
    except re.error:
        # Patterns are ECMA 262; one that Python does not read cannot be held against an answer.
        return None


def _is_multiple(value: Any, of: Any) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    share = value / of
    return math.isfinite(share) and math.isclose(share, round(share), rel_tol=1e-12)
