"""
Answers in JSON as typed columns.

A schema decides each field's type: an enum of texts becomes a category, ``integer`` Int64, ``number``
Float64, a Decimal a decimal, ``boolean`` boolean, ``date`` and ``date-time`` datetimes (the latter in UTC), an array
a list, an object with fields a struct or dotted names, and whatever has no single type its JSON text.

Whole columns of well-formed answers are read by Arrow. An answer that is not plainly right (null, fenced, after
thoughts, out of bounds, a field too many ...) is read by itself and judged by what the user gave: the pydantic model,
or the JSON Schema. It is said to be wrong only there.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.arrow.jsonl import Lines, parsed
from dobatch_pandas.endpoints.answer import true
from dobatch_pandas.questions.schema import AnswerSchema
from dobatch_pandas.questions.schema_check import compiled, moment, resolve
from dobatch_pandas.questions.strict import is_decimal

from .judge import NoAnswer, judge_of, judged

__all__ = ["Shape", "parse_answers", "shape_of"]

_ROWS = 16_384
_REPEATS = 100  # objects within ones of their own kind
_DECIMAL = pa.decimal128(38, 18)
_FENCED = r"(?s)^```[A-Za-z0-9_+-]*[ \t]*\r?\n\s*(.*?)\s*```$"
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
_COMPARE = {
    "minimum": pc.greater_equal,
    "maximum": pc.less_equal,
    "exclusiveMinimum": pc.greater,
    "exclusiveMaximum": pc.less,
}
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
                return Shape("decimal", nullable, _DECIMAL, columnar=False)
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
            return _shape_of_enum(choices, kinds, nullable)
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
        bounds = {word: schema[word] for word in _COMPARE if word in schema}
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


def _shape_of_enum(choices: list[Any], kinds: list[str], nullable: bool) -> Shape:
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


# One answer -------------------------------------------------------------------------------------------


def _fitted(value: Any, shape: Shape, where: str = "") -> Any:
    """A value that passed the schema, as its column holds it. Raises ValueError where no column can."""
    if value is None:
        return None
    if shape.kind == "integer":
        number = int(value)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"{where}: {number} does not fit 64 bits")
        return number
    if shape.kind == "number":
        if not abs(value) <= sys.float_info.max:
            raise ValueError(f"{where}: the number is too large")
        return float(value)
    if shape.kind == "decimal":
        return _decimal(value, where)
    if shape.kind in ("date", "date-time"):
        return _moment(value, shape.kind)
    if shape.kind == "array" and shape.item is not None:
        return [_fitted(item, shape.item, f"{where}[{number}]") for number, item in enumerate(value)]
    if shape.kind == "object":
        return {
            name: _fitted(value.get(name, part.default), part, f"{where}.{name}" if where else name)
            for name, part in shape.fields.items()
        }
    # A model may have made something else of what was a text.
    made = pa.types.is_large_string(shape.type) and isinstance(value, (dict, list))
    if shape.kind == "json" or made:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return value if not pa.types.is_large_string(shape.type) or isinstance(value, str) else str(value)


def _decimal(value: Any, where: str) -> Decimal:
    number = Decimal(str(value))
    exponent = number.as_tuple().exponent
    if (
        not isinstance(exponent, int)
        or -exponent > _DECIMAL.scale
        or number.adjusted() >= 38 - _DECIMAL.scale
    ):
        raise ValueError(
            f"{where}: {number} has more than {38 - _DECIMAL.scale} digits before the point or {_DECIMAL.scale} after it"
        )
    return number


def _moment(value: Any, form: str) -> datetime | None:
    """What is a date already comes from a pydantic model."""
    if isinstance(value, str):
        return moment(value, form)
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    if form == "date":
        return value.replace(tzinfo=None)
    # A column is in UTC, in which the first and the last day of all may be no day.
    return (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).astimezone(
        timezone.utc
    )


# Whole columns ----------------------------------------------------------------------------------------


def parse_answers(
    results: Any, schema: AnswerSchema | Mapping[str, Any], *, flatten: bool = False
) -> tuple[dict[Any, Any], Any, Any]:
    """
    Typed columns from the texts of results.

    Parameters
    ----------
    results : pyarrow.Table
        With ``text``, ``error_code`` and ``error_message``; rows with a code are not parsed.
    schema : AnswerSchema or mapping
        What every answer must satisfy: what the user gave, or a JSON Schema.
    flatten : bool
        Nested fields as columns named ``outer.inner``, not as structs.

    Returns
    -------
    columns : dict of str to pyarrow.Array
        One a field of the schema, null where the row failed. A schema that is no object with fields makes
        one column, whose name is None.
    code, message : pyarrow.Array
        Those of ``results``, and ``invalid_json`` or ``schema_mismatch`` for answers that are not right.
    """
    if not isinstance(schema, AnswerSchema):
        schema = AnswerSchema(dict(schema), dict(schema))
    shape = shape_of(schema.given)
    judge = judge_of(schema)
    if not judge.plain:
        shape = replace(shape, columnar=False)
    pieces, codes, messages = [], [], []
    table = results.select(["text", "error_code", "error_message"])
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS).combine_chunks()
        text, code, message = (one_array(part[name]) for name in part.column_names)
        wanted = pc.and_(pc.is_null(code), pc.is_valid(text))
        values, wrong, why = _parse_block(text, true(wanted), shape, judge)
        pieces.append(values)
        codes.append(pc.coalesce(code.cast(pa.string()), wrong))
        messages.append(pc.coalesce(message.cast(pa.string()), why))
    values = pa.chunked_array(pieces, type=shape.type).combine_chunks()
    values = one_array(values)
    code = one_array(pa.chunked_array(codes, type=pa.string()))
    message = one_array(pa.chunked_array(messages, type=pa.string()))
    columns: dict[Any, Any] = {}
    _name_columns(None, values, shape, flatten, columns)
    return columns, code, message


def _name_columns(name: str | None, values: Any, shape: Shape, flatten: bool, out: dict[Any, Any]) -> None:
    if shape.kind == "object" and (name is None or (flatten and not shape.again)):
        for child, part in shape.fields.items():
            inner = pc.struct_field(values, child)
            _name_columns(child if name is None else f"{name}.{child}", inner, part, flatten, out)
    elif shape.kind == "enum":
        choices = pa.array(shape.choices, pa.large_string())
        out[name] = pa.DictionaryArray.from_arrays(pc.index_in(values, value_set=choices), choices)
    else:
        out[name] = values


def _parse_block(text: Any, wanted: Any, shape: Shape, judge: Any) -> tuple[Any, Any, Any]:
    """Values, codes and messages for one block of rows; only ``wanted`` ones are read."""
    todo = np.flatnonzero(wanted)
    if len(todo) < len(text):
        text = text.take(pa.array(todo))
    arrays: list[Any] = []
    order: list[Any] = []
    left = np.arange(len(todo))
    if shape.kind == "object" and shape.columnar and len(todo):
        found, left = _columnar(text, shape)
        for numbers, values in found:
            order.append(numbers)
            arrays.append(values)
    singly, codes, messages = _one_by_one(text, left, shape, judge)
    order.append(left)
    arrays.append(singly)
    place = np.full(len(wanted), -1)
    place[todo[np.concatenate(order)]] = np.arange(len(todo))
    values = pa.concat_arrays(arrays)
    identical = len(todo) == len(wanted) and bool((place == np.arange(len(wanted))).all())
    if not identical:
        values = values.take(pa.array(place, mask=place < 0))
    wrong: list[str | None] = [None] * len(wanted)
    why: list[str | None] = [None] * len(wanted)
    for number, code, message in zip(todo[left].tolist(), codes, messages, strict=True):
        wrong[number], why[number] = code, message
    return values, pa.array(wrong, pa.string()), pa.array(why, pa.string())


def _one_by_one(text: Any, numbers: Any, shape: Shape, judge: Any) -> tuple[Any, list[Any], list[Any]]:
    values, codes, messages = [], [], []
    for answer in text.take(pa.array(numbers, pa.int64())).to_pylist():
        value = code = message = None
        try:
            value = judged(answer, judge, lambda found: _fitted(found, shape))
        except NoAnswer as error:
            code, message = error.code, str(error)
        values.append(value)
        codes.append(code)
        messages.append(message)
    return _array(values, shape, codes, messages), codes, messages


def _array(values: list[Any], shape: Shape, codes: list[Any], messages: list[Any]) -> Any:
    """The values as a column; one that the column's type cannot hold costs its own row, no other."""
    try:
        return pa.array(values, shape.type)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        if len(values) > 1:
            half = len(values) // 2
            parts = []
            for mine in (slice(None, half), slice(half, None)):
                some = codes[mine], messages[mine]
                parts.append(_array(values[mine], shape, *some))
                codes[mine], messages[mine] = some
            return pa.concat_arrays(parts)
        codes[0], messages[0] = "schema_mismatch", "A value of the answer does not fit its column."
        return pa.nulls(1, shape.type)


def _columnar(text: Any, shape: Shape) -> tuple[list[tuple[Any, Any]], Any]:
    """Read what is plainly right; return pieces as (row numbers, structs), and the numbers of other rows."""
    trimmed = pc.ascii_trim_whitespace(text)
    if true(pc.starts_with(trimmed, "```")).any():
        trimmed = pc.replace_substring_regex(trimmed, _FENCED, r"\1")
    likely = true(pc.and_(pc.starts_with(trimmed, "{"), pc.ends_with(trimmed, "}")))
    numbers = np.flatnonzero(likely)
    if not len(numbers):
        return [], np.arange(len(text))
    if len(numbers) < len(text):
        trimmed = trimmed.take(pa.array(numbers))
    joined = pc.binary_join(
        pa.ListArray.from_arrays([0, len(trimmed)], trimmed), pa.scalar("\n", pa.large_string())
    )[0]
    block = joined.as_buffer()
    lengths = pc.binary_length(trimmed).to_numpy()
    ends = np.cumsum(lengths + 1) - 1
    lines = Lines(block, (ends - lengths, ends))
    pieces = []
    passed_over = "ignore" if shape.open else "error"
    for start, stop, table in parsed(lines, pa.schema(_raw_type(shape)), unexpected=passed_over):
        if table is None:
            likely[numbers[start:stop]] = False
            continue
        struct = table.to_struct_array()
        ok, values = _judged(one_array(struct), shape, optional=False)
        rows = numbers[start:stop]
        likely[rows[~ok]] = False
        pieces.append((rows[ok], values if ok.all() else values.filter(pa.array(ok))))
    return pieces, np.flatnonzero(~likely)


def _raw_type(shape: Shape) -> Any:
    """What Arrow is asked to read: dates are text until they are looked at."""
    if shape.kind in ("date", "date-time"):
        return pa.large_string()
    if shape.kind == "object":
        return pa.struct([(name, _raw_type(part)) for name, part in shape.fields.items()])
    return shape.type


def _judged(values: Any, shape: Shape, *, optional: bool) -> tuple[Any, Any]:
    """
    Which values are plainly right, and the column in its final type.

    Arrow reads null and "not there" alike, so null is plain only where both are allowed.
    """
    if shape.kind == "object":
        ok = values.is_valid().to_numpy(zero_copy_only=False)
        parts = []
        for name, part in shape.fields.items():
            optional = name not in shape.required and part.default is None
            right, column = _judged(pc.struct_field(values, name), part, optional=optional)
            ok &= right
            parts.append(column)
        mask = values.is_null() if values.null_count else None
        made = pa.StructArray.from_arrays(parts, fields=list(shape.type), mask=mask)
        return (
            ok | ~values.is_valid().to_numpy(zero_copy_only=False)
        ) if optional and shape.nullable else ok, made
    if shape.kind in ("date", "date-time"):
        moments = [None if text is None else moment(text, shape.kind) for text in values.to_pylist()]
        column = pa.array(moments, shape.type)
        lost = true(pc.and_(pc.is_valid(values), pc.is_null(column)))
        return _or_null(true(pc.is_valid(values)) & ~lost, values, optional and shape.nullable), column
    ok = true(pc.is_valid(values))
    if shape.kind == "enum":
        ok &= true(pc.is_in(values, value_set=pa.array(shape.choices, pa.large_string())))
    if shape.kind == "number":
        ok &= true(pc.is_finite(values))
    for word, limit in shape.bounds.items():
        if word in _COMPARE:
            ok &= true(_COMPARE[word](values, limit))
        elif word == "pattern":
            ok &= _matching(values, limit)
        else:
            size = pc.list_value_length(values) if shape.kind == "array" else pc.utf8_length(values)
            ok &= true((pc.greater_equal if word == "min" else pc.less_equal)(size, limit))
    if shape.kind == "array" and shape.item is not None:
        right, _ = _judged(values.values, shape.item, optional=False)
        if not right.all():
            wrong = np.concatenate([[0], np.cumsum(~right)])
            offsets = values.offsets.to_numpy()
            ok &= wrong[offsets[1:]] == wrong[offsets[:-1]]
    return _or_null(ok, values, optional and shape.nullable), values


def _matching(values: Any, pattern: str) -> Any:
    search = compiled(pattern)
    if search is None:
        return np.ones(len(values), bool)
    return np.array([text is not None and search(text) is not None for text in values.to_pylist()], bool)


def _or_null(ok: Any, values: Any, null_is_right: bool) -> Any:
    return ok | values.is_null().to_numpy(zero_copy_only=False) if null_is_right else ok
