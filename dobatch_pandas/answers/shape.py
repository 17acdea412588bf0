"""
What a JSON Schema becomes: for each part Arrow's type of a column, and what its values must keep to.

Arrow's types have an end, and a schema may refer to itself: an object that stands too often within its own kind is JSON text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.questions.schema_check import resolve
from dobatch_pandas.questions.strict import is_decimal

__all__ = ["COMPARE", "DECIMAL", "Shape", "shape_of"]

COMPARE = {
    "minimum": pc.greater_equal,
    "maximum": pc.less_equal,
    "exclusiveMinimum": pc.greater,
    "exclusiveMaximum": pc.less,
}
"""How Arrow compares a number with each kind of limit."""

DECIMAL = pa.decimal128(38, 18)
"""Of a column of Decimals."""

_REPEATS = 100  # objects within ones of their own kind
_VECTOR_KEYWORDS = frozenset(
    [
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "title",
        "description",
        "default",
        "examples",
        "$defs",
        "definitions",
        "$schema",
        "$id",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
    ]
)
_SCALARS = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.large_string()}


@dataclass(frozen=True)
class Shape:
    """
    What a part of a schema becomes.

    Parameters
    ----------
    kind : str
        ``integer, number, decimal, boolean, string, enum, date, date-time, array, object``, or ``json``: any value,
        as its text.
    nullable : bool
        Whether null is an answer.
    type : pyarrow.DataType
        Of the column.
    fields : dict of str to Shape
        Of an object.
    item : Shape, optional
        Of an array.
    choices : list of str
        Of an enum.
    bounds : dict
        Of a number ``minimum`` and its kin; of a text or list ``min`` and ``max``; of a text ``pattern``.
    required : frozenset of str
        Fields that an object must have.
    columnar : bool
        Whether Arrow's reader and vectorised checks cover all that the schema asks.
    default : object
        What stands for a field that is not there.
    open : bool
        Whether all objects in it may have further fields.
    again : bool
        Whether it is an object that stands within one of its own kind.
    """

    kind: str
    nullable: bool
    type: Any
    fields: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    choices: list[str] = field(default_factory=list)
    bounds: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    columnar: bool = True
    default: Any = None
    open: bool = True
    again: bool = False


def shape_of(schema: Any, root: Mapping[str, Any] | None = None) -> Shape:
    """What a schema becomes; ``root`` is the document that ``$ref`` points into."""
    for times in (16, 8, 4, 2):
        with contextlib.suppress(_TooMuch):
            return _Shaper(schema if root is None else root, times).shape(schema)
    return _Shaper(schema if root is None else root, 1).shape(schema)


class _TooMuch(Exception):
    """A type that stands within itself becomes too many."""


class _Shaper:
    """
    Makes shapes of the parts of one document.

    Parameters
    ----------
    root : mapping
        The document that ``$ref`` points into.
    times : int
        How often an object may stand within one of its own kind; deeper ones are JSON text. A type of Arrow's has an
        end, and a tree of 16 levels would have 65,536 branches.
    """

    def __init__(self, root: Any, times: int) -> None:
        self._root, self._times = root, times
        self._repeats = 0

    def shape(self, schema: Any, depth: int = 0, around: tuple[int, ...] = ()) -> Shape:
        """What a part becomes; ``around`` are the fields of the objects that it stands in, by their identity."""
        schema = resolve(schema, self._root)
        shape = self._shape(schema, depth, around)
        return replace(shape, default=schema["default"]) if schema.get("default") is not None else shape

    def _shape(self, schema: Mapping[str, Any], depth: int, around: tuple[int, ...]) -> Shape:
        root = self._root
        nullable = False
        options = schema.get("anyOf", schema.get("oneOf"))
        if isinstance(options, list):
            if is_decimal(schema):
                nullable = any(part.get("type") == "null" for part in options)
                return Shape("decimal", nullable, DECIMAL, columnar=False)
            solid = [part for part in (resolve(part, root) for part in options) if part.get("type") != "null"]
            among = {kind for part in solid for kind in _kinds_of(part)}
            nullable = len(solid) < len(options) or "null" in among
            if among - {"null"} == {"integer", "number"}:
                return Shape("number", nullable, pa.float64(), columnar=False)
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            if len(solid) != 1 or not rest.keys() <= {"title", "description", "default", "examples"}:
                return Shape("json", False, pa.large_string(), columnar=False)
            schema = solid[0]
        kinds = _kinds_of(schema)
        nullable = nullable or "null" in kinds
        kinds = [kind for kind in kinds if kind != "null"]
        choices = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(choices, list):
            return _shape_of_enum(choices, kinds)
        columnar = schema.keys() <= _VECTOR_KEYWORDS
        if set(kinds) == {"integer", "number"}:
            kinds = ["number"]
        if len(kinds) != 1 or depth > 16:
            return Shape("json", nullable, pa.large_string(), columnar=False)
        kind = kinds[0]
        if kind == "array" and "items" in schema:
            item = self.shape(schema["items"], depth + 1, around)
            # Arrow reads the text of a date as it is in a column, not within a list.
            whole = columnar and item.columnar and not _is_dated(item)
            bounds = _sizes(schema, "Items")
            whole = whole and all(_is_exact(limit, "integer") for limit in bounds.values())
            made = pa.list_(item.type)
            return Shape("array", nullable, made, item=item, bounds=bounds, columnar=whole, open=item.open)
        if kind == "object" and schema.get("properties"):
            this = id(schema["properties"])
            again = around.count(this)
            if again >= self._times:
                return Shape("json", nullable, pa.large_string(), columnar=False, again=True)
            self._repeats += again > 0
            if self._repeats > _REPEATS and self._times > 1:
                raise _TooMuch
            within = (*around, this)
            fields = {
                name: self.shape(part, depth + 1, within) for name, part in schema["properties"].items()
            }
            whole = columnar and all(part.columnar for part in fields.values())
            required = frozenset(schema.get("required", ()))
            others = schema.get("additionalProperties", True)
            if not isinstance(others, bool) or not required <= fields.keys():
                whole = False
            made = pa.struct([(name, part.type) for name, part in fields.items()])
            unlimited = others is not False and all(part.open for part in fields.values())
            return Shape(
                "object",
                nullable,
                made,
                fields=fields,
                required=required,
                columnar=whole,
                open=unlimited,
                again=again > 0,
            )
        if kind in ("array", "object", "null") or kind not in _SCALARS:
            return Shape("json", nullable, pa.large_string(), columnar=False)
        form = schema.get("format")
        if kind == "string" and form in ("date", "date-time"):
            made = pa.timestamp("us", "UTC") if form == "date-time" else pa.timestamp("us")
            return Shape(form, nullable, made, columnar=columnar)
        bounds = {word: schema[word] for word in COMPARE if word in schema}
        if kind == "string":
            bounds = _sizes(schema, "Length")
        columnar = columnar and all(
            _is_exact(limit, "number" if kind == "number" else "integer") for limit in bounds.values()
        )
        if kind == "string" and "pattern" in schema:
            bounds["pattern"] = schema["pattern"]
        return Shape(kind, nullable, _SCALARS[kind], bounds=bounds, columnar=columnar)


def _is_exact(limit: Any, kind: str) -> bool:
    """Whether Arrow compares values of a kind with this limit as they are: no value, and no limit, is rounded for it."""
    return (type(limit) is int and abs(limit) <= 2**53) or (type(limit) is float and kind == "number")


def _kinds_of(schema: Mapping[str, Any]) -> list[str]:
    said = schema.get("type")
    return [said] if isinstance(said, str) else list(said or [])


def _is_dated(shape: Shape) -> bool:
    """Whether there is a date in it, at any depth."""
    inner = [*shape.fields.values(), *([] if shape.item is None else [shape.item])]
    return shape.kind in ("date", "date-time") or any(map(_is_dated, inner))


def _sizes(schema: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {word: schema[word + what] for word in ("min", "max") if word + what in schema}


def _shape_of_enum(choices: list[Any], kinds: list[str]) -> Shape:
    nullable = None in choices
    solid = [choice for choice in choices if choice is not None]
    if solid and all(isinstance(choice, str) for choice in solid):
        columnar = set(kinds) <= {"string"}
        return Shape(
            "enum", nullable, pa.large_string(), choices=list(dict.fromkeys(solid)), columnar=columnar
        )
    for kind, types in (("boolean", bool), ("integer", int), ("number", (int, float))):
        if solid and all(isinstance(c, types) and (kind == "boolean" or c not in (True, False) or
                         not isinstance(c, bool)) for c in solid):  # fmt: skip
            return Shape(kind, nullable, _SCALARS[kind], columnar=False)
    return Shape("json", nullable, pa.large_string(), columnar=False)
