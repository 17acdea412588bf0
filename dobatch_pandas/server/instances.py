"""A value that fits a JSON Schema, chosen by a text: how the echo model answers in a format."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["instance"]

_FORMATS = {
    "date-time": "2026-01-{:02d}T12:00:00Z",
    "date": "2026-01-{:02d}",
    "time": "12:00:{:02d}Z",
    "email": "someone{:d}@example.com",
    "uri": "https://example.com/{:d}",
    "ipv4": "192.0.2.{:d}",
    "uuid": "00000000-0000-4000-8000-{:012d}",
}
_DEEPEST = 8
# Characters or items; a schema can ask for more than any memory holds.
_LONGEST = 1_000_000


def instance(schema: Any, text: str) -> Any:
    """
    Return a value that is valid for ``schema``; the same text always gives the same one.

    Enumerations are chosen by a hash of the text, numbers lie within their bounds, strings hold the start of
    the text. Everything a strict schema may hold is understood, references within the schema included.
    """
    return _value(schema, text, "$", schema if isinstance(schema, Mapping) else {}, 0)


def _draw(text: str, path: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{path}\0{text}".encode(), digest_size=6).digest(), "big")


def _value(schema: Any, text: str, path: str, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        return _value(_resolve(root, str(schema["$ref"])), text, path, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][_draw(text, path) % len(schema["enum"])]
    if schema.get("allOf"):
        merged: dict[str, Any] = {name: part for name, part in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            part = _resolve(root, part["$ref"]) if "$ref" in part else part
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged = {
                **merged,
                **part,
                **({"properties": properties, "required": required} if properties else {}),
            }
        return _value(merged, text, path, root, depth)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        if depth > _DEEPEST:
            choices = [one for one in choices if one.get("type") == "null"] or choices
        return _value(choices[_draw(text, path) % len(choices)], text, path, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = "null" if depth > _DEEPEST and "null" in kind else kind[_draw(text, path) % len(kind)]
    if kind == "object":
        return {
            name: _value(part, text, f"{path}.{name}", root, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if depth <= _DEEPEST or name in schema.get("required", ())
        }
    if kind == "array":
        return _array(schema, text, path, root, depth)
    if kind == "boolean":
        return bool(_draw(text, path) & 1)
    if kind in ("integer", "number"):
        return _number(schema, _draw(text, path), kind == "integer")
    return None if kind == "null" else _string(schema, text, path)


def _resolve(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    for name in reference.lstrip("#/").split("/"):
        if name:
            found = (
                found.get(name.replace("~1", "/").replace("~0", "~"), {})
                if isinstance(found, Mapping)
                else {}
            )
    return found


def _array(schema: Mapping[str, Any], text: str, path: str, root: Mapping[str, Any], depth: int) -> list[Any]:
    fewest = int(schema.get("minItems", 0))
    if fewest > _LONGEST // 100:
        raise ValueError(f"minItems {fewest} is more than an answer can hold")
    most = int(schema.get("maxItems", fewest + 2))
    count = fewest if depth > _DEEPEST else max(fewest, min(most, 1 + _draw(text, path) % 2))
    values: list[Any] = []
    # Unique items may need more draws than places.
    for number in range(count * 20):
        if len(values) == count:
            break
        value = _value(schema.get("items", {"type": "string"}), text, f"{path}[{number}]", root, depth + 1)
        if not schema.get("uniqueItems") or value not in values:
            values.append(value)
    return values


def _number(schema: Mapping[str, Any], drawn: int, whole: bool) -> float | int:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high > 0 else high - 10
    if high is None:
        high = low + 10
    step = schema.get("multipleOf")
    if whole or step:
        step = step or 1
        first = math.ceil(low / step)
        last = math.floor(high / step)
        if first * step == schema.get("exclusiveMinimum"):
            first += 1
        if last * step == schema.get("exclusiveMaximum"):
            last -= 1
        number = (first + drawn % max(1, last - first + 1)) * step
        return int(number) if whole else number
    # Strictly inside, which suits exclusive bounds as well.
    return low + (high - low) * (0.001 + 0.998 * (drawn % 1000) / 1000)  # type: ignore[no-any-return]


def _string(schema: Mapping[str, Any], text: str, path: str) -> str:
    template = _FORMATS.get(str(schema.get("format")))
    if template is not None:
        return template.format(1 + _draw(text, path) % 28)
    value = text[: int(schema.get("maxLength", 200))]
    shortest = int(schema.get("minLength", 0))
    if shortest > _LONGEST:
        raise ValueError(f"minLength {shortest} is more than an answer can hold")
    return value.ljust(shortest, ".")
