"""
A JSON Schema as a function that says what is wrong with a value.

The keywords that models are asked to keep are checked; an unknown one is passed over, as the standard says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

__all__ = ["Check", "checker", "moment", "resolve"]

Check = Callable[[Any, str], "str | None"]
"""Takes a value and the name of its place; returns what is wrong, or None."""

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def moment(text: str, form: str) -> datetime | None:
    """A ``date`` or ``date-time`` as a datetime: with a zone (UTC unless said) or, for a date, none."""
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
        return datetime.fromisoformat(f"{day_text}T{time}{seconds or ':00'}{micros}{zone}")
    except ValueError:
        return None


def resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with a ``$ref`` into the same document, or an ``allOf`` of one, followed."""
    seen = 0
    while isinstance(schema, Mapping) and seen < 64:
        seen += 1
        if "$ref" in schema:
            target: Any = root
            for key in str(schema["$ref"]).lstrip("#").strip("/").split("/"):
                if key:
                    target = target[key.replace("~1", "/").replace("~0", "~")]
            extra = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **extra}
        elif isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
            extra = {key: value for key, value in schema.items() if key != "allOf"}
            schema = {**schema["allOf"][0], **extra}
        else:
            break
    return schema if isinstance(schema, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "null": ("null", lambda value: value is None),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "integer": (
        "a whole number",
        lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    ),
    "number": ("a number", _is_number),
    "string": ("text", lambda value: isinstance(value, str)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _equal(one: Any, other: Any) -> bool:
    """Equality as JSON has it: ``true`` is not 1, 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def checker(schema: Any, root: Mapping[str, Any] | None = None) -> Check:
    """
    Compile a schema into a `Check`.

    Parameters
    ----------
    schema : mapping or bool
    root : mapping, optional
        The document that ``$ref`` points into; the schema itself by default.
    """
    return _compile(schema, root if root is not None else schema, {})


def _compile(schema: Any, root: Any, known: dict[str, list[Check]]) -> Check:
    if schema is False:
        return lambda value, where: f"{where}: nothing may stand here"
    if not isinstance(schema, Mapping):
        return lambda value, where: None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        # A schema may contain itself: what it compiles to is looked up when it is used.
        if reference in known:
            cell = known[reference]
            return lambda value, where: cell[0](value, where)
        known[reference] = cell = []
        cell.append(_compile(resolve(schema, root), root, known))
        return cell[0]
    checks = [
        make(schema[word], schema, lambda part: _compile(part, root, known))
        for word, make in _KEYWORDS.items()
        if word in schema
    ]
    if len(checks) == 1:
        return checks[0]

    def check(value: Any, where: str) -> str | None:
        for one in checks:
            problem = one(value, where)
            if problem is not None:
                return problem
        return None

    return check


_Compile = Callable[[Any], Check]


def _type(names: Any, schema: Any, compiled: _Compile) -> Check:
    chosen = [_TYPES[name] for name in ([names] if isinstance(names, str) else names) if name in _TYPES]
    told = " or ".join(words for words, _ in chosen)

    def check(value: Any, where: str) -> str | None:
        for _, fits in chosen:
            if fits(value):
                return None
        return f"{where}: {_shown(value)} is not {told}"

    return check


def _enum(allowed: Any, schema: Any, compiled: _Compile) -> Check:
    told = ", ".join(map(_shown, allowed))

    def check(value: Any, where: str) -> str | None:
        if any(_equal(value, one) for one in allowed):
            return None
        return f"{where}: {_shown(value)} is not one of {told}"

    return check


def _const(only: Any, schema: Any, compiled: _Compile) -> Check:
    return _enum([only], schema, compiled)


def _properties(properties: Any, schema: Any, compiled: _Compile) -> Check:
    inner = [(name, compiled(part)) for name, part in properties.items()]

    def check(value: Any, where: str) -> str | None:
        if not isinstance(value, dict):
            return None
        for name, one in inner:
            if name in value:
                problem = one(value[name], _inside(where, name))
                if problem is not None:
                    return problem
        return None

    return check


def _required(names: Any, schema: Any, compiled: _Compile) -> Check:
    def check(value: Any, where: str) -> str | None:
        if isinstance(value, dict):
            for name in names:
                if name not in value:
                    return f"{_inside(where, name)}: required but missing"
        return None

    return check


def _additional(rule: Any, schema: Any, compiled: _Compile) -> Check:
    declared = frozenset(schema.get("properties", ()))
    patterns = [re.compile(pattern) for pattern in schema.get("patternProperties", ())]
    one = compiled(rule)

    def check(value: Any, where: str) -> str | None:
        if not isinstance(value, dict) or value.keys() <= declared:
            return None
        for name in value:
            if name in declared or any(pattern.search(name) for pattern in patterns):
                continue
            if rule is False:
                return f"{_inside(where, name)}: not a field of the schema"
            problem = one(value[name], _inside(where, name))
            if problem is not None:
                return problem
        return None

    return check


def _items(rule: Any, schema: Any, compiled: _Compile) -> Check:
    one = compiled(rule)

    def check(value: Any, where: str) -> str | None:
        if isinstance(value, list):
            for number, item in enumerate(value):
                problem = one(item, f"{where}[{number}]")
                if problem is not None:
                    return problem
        return None

    return check


def _unique(wanted: Any, schema: Any, compiled: _Compile) -> Check:
    def check(value: Any, where: str) -> str | None:
        if wanted and isinstance(value, list):
            for number, item in enumerate(value):
                if any(_equal(item, other) for other in value[:number]):
                    return f"{where}: {_shown(item)} stands there twice"
        return None

    return check


def _any(parts: Any, schema: Any, compiled: _Compile) -> Check:
    inner = [compiled(part) for part in parts]

    def check(value: Any, where: str) -> str | None:
        problems = []
        for one in inner:
            problem = one(value, where)
            if problem is None:
                return None
            problems.append(problem)
        return (
            problems[0] if len(problems) == 1 else f"{where}: {_shown(value)} fits none of the alternatives"
        )

    return check


def _one(parts: Any, schema: Any, compiled: _Compile) -> Check:
    inner = [compiled(part) for part in parts]

    def check(value: Any, where: str) -> str | None:
        fitting = sum(one(value, where) is None for one in inner)
        if fitting == 1:
            return None
        return f"{where}: {_shown(value)} fits {fitting or 'none'} of the alternatives, not exactly one"

    return check


def _all(parts: Any, schema: Any, compiled: _Compile) -> Check:
    inner = [compiled(part) for part in parts]

    def check(value: Any, where: str) -> str | None:
        return next((problem for one in inner if (problem := one(value, where)) is not None), None)

    return check


def _pattern(pattern: Any, schema: Any, compiled: _Compile) -> Check:
    try:
        found = re.compile(pattern).search
    except re.error:
        # Patterns are ECMA 262; one that Python does not read cannot be held against an answer.
        return lambda value, where: None
    return lambda value, where: (
        f"{where}: {_shown(value)} does not match {pattern}"
        if isinstance(value, str) and not found(value)
        else None
    )


def _format(form: Any, schema: Any, compiled: _Compile) -> Check:
    if form not in ("date", "date-time"):
        return lambda value, where: None
    return lambda value, where: (
        f"{where}: {_shown(value)} is not a {form}"
        if isinstance(value, str) and moment(value, form) is None
        else None
    )


def _bound(fits: Callable[[Any, Any], bool], told: str) -> Callable[[Any, Any, _Compile], Check]:
    def make(limit: Any, schema: Any, compiled: _Compile) -> Check:
        return lambda value, where: (
            f"{where}: {_shown(value)} is {told} {limit}"
            if _is_number(value) and _is_number(limit) and not fits(value, limit)
            else None
        )

    return make


def _size(
    kind: type[str] | type[list[Any]], fits: Callable[[int, int], bool], told: str
) -> Callable[[Any, Any, _Compile], Check]:
    def make(limit: Any, schema: Any, compiled: _Compile) -> Check:
        return lambda value, where: (
            f"{where}: {told} {limit}" if isinstance(value, kind) and not fits(len(value), limit) else None
        )

    return make


def _multiple(value: Any, of: Any) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    share = value / of
    if not math.isfinite(share):
        return False
    return math.isclose(share, round(share), rel_tol=1e-12)


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


_KEYWORDS: dict[str, Callable[[Any, Any, _Compile], Check]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "anyOf": _any,
    "oneOf": _one,
    "allOf": _all,
    "minimum": _bound(lambda value, limit: value >= limit, "less than"),
    "maximum": _bound(lambda value, limit: value <= limit, "more than"),
    "exclusiveMinimum": _bound(lambda value, limit: value > limit, "not more than"),
    "exclusiveMaximum": _bound(lambda value, limit: value < limit, "not less than"),
    "multipleOf": _bound(lambda value, of: of == 0 or _multiple(value, of), "not a multiple of"),
    "minLength": _size(str, lambda n, limit: n >= limit, "text is shorter than"),
    "maxLength": _size(str, lambda n, limit: n <= limit, "text is longer than"),
    "minItems": _size(list, lambda n, limit: n >= limit, "list is shorter than"),
    "maxItems": _size(list, lambda n, limit: n <= limit, "list is longer than"),
    "uniqueItems": _unique,
    "pattern": _pattern,
    "format": _format,
}
