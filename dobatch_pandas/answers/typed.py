"""
Answers in JSON as typed columns.

A schema decides each field's type: an enum of texts becomes a category, ``integer`` Int64, ``number``
Float64, ``boolean`` boolean, ``date`` and ``date-time`` datetimes (the latter in UTC), an array a list, an
object with fields a struct or dotted names, and whatever has no single type its JSON text.

Whole columns of well-formed answers are read by Arrow. An answer that is not plainly right (null, fenced,
out of bounds, a field too many ...) is read by itself, and said to be wrong only there.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.arrow.jsonl import Lines, mended, parsed
from dobatch_pandas.endpoints.answer import true
from dobatch_pandas.questions.schema_check import checker, moment, resolve

__all__ = ["Shape", "parse_answer", "parse_answers", "shape_of"]

_ROWS = 16_384
_FENCE = re.compile(r"```[A-Za-z0-9_+-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", re.DOTALL)
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
        ``integer, number, boolean, string, enum, date, date-time, array, object``, or ``json``: any value, as
        its text.
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
        Of a number: ``minimum`` and its kin.
    required : frozenset of str
        Fields that an object must have.
    columnar : bool
        Whether Arrow's reader and vectorised checks cover all that the schema asks.
    """

    kind: str
    nullable: bool
    type: Any
    fields: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    choices: list[str] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    columnar: bool = True


def shape_of(schema: Any, root: Mapping[str, Any] | None = None, depth: int = 0) -> Shape:
    """What a schema becomes; ``root`` is the document that ``$ref`` points into."""
    root = schema if root is None else root
    schema = resolve(schema, root)
    nullable = False
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list):
        solid = [part for part in options if resolve(part, root).get("type") != "null"]
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        if len(solid) != 1 or not rest.keys() <= {"title", "description", "default", "examples"}:
            return Shape("json", False, pa.large_string(), columnar=False)
        nullable = len(solid) < len(options)
        schema = resolve(solid[0], root)
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or [])
    nullable = nullable or "null" in kinds
    kinds = [kind for kind in kinds if kind != "null"]
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, list):
        return _shape_of_enum(choices, kinds, nullable)
    columnar = schema.keys() <= _VECTOR_KEYWORDS
    if len(kinds) != 1 or depth > 16:
        return Shape("json", nullable, pa.large_string(), columnar=False)
    kind = kinds[0]
    if kind == "array" and "items" in schema:
        item = shape_of(schema["items"], root, depth + 1)
        # Inside a list a date stays text: its column has no type of its own.
        item_type = pa.large_string() if item.kind in ("date", "date-time") else item.type
        whole = columnar and item.columnar and item.kind not in ("date", "date-time")
        return Shape("array", nullable, pa.list_(item_type), item=item, columnar=whole)
    if kind == "object" and schema.get("properties"):
        fields = {name: shape_of(part, root, depth + 1) for name, part in schema["properties"].items()}
        whole = columnar and all(part.columnar for part in fields.values())
        required = frozenset(schema.get("required", ()))
        if not isinstance(schema.get("additionalProperties", True), bool) or not required <= fields.keys():
            whole = False
        made = pa.struct([(name, part.type) for name, part in fields.items()])
        return Shape("object", nullable, made, fields=fields, required=required, columnar=whole)
    if kind in ("array", "object", "null") or kind not in _SCALARS:
        return Shape("json", nullable, pa.large_string(), columnar=False)
    form = schema.get("format")
    if kind == "string" and form in ("date", "date-time"):
        made = pa.timestamp("us", "UTC") if form == "date-time" else pa.timestamp("us")
        return Shape(form, nullable, made, columnar=columnar)
    bounds = {word: schema[word] for word in _COMPARE if word in schema}
    columnar = columnar and all(isinstance(limit, (int, float)) for limit in bounds.values())
    return Shape(kind, nullable, _SCALARS[kind], bounds=bounds, columnar=columnar)


def _shape_of_enum(choices: list[Any], kinds: list[str], nullable: bool) -> Shape:
    nullable = None in choices
    solid = [choice for choice in choices if choice is not None]
    if solid and all(isinstance(choice, str) for choice in solid):
        return Shape("enum", nullable, pa.large_string(), choices=list(dict.fromkeys(solid)))
    for kind, types in (("boolean", bool), ("integer", int), ("number", (int, float))):
        if solid and all(isinstance(c, types) and (kind == "boolean" or c not in (True, False) or
                         not isinstance(c, bool)) for c in solid):  # fmt: skip
            return Shape(kind, nullable, _SCALARS[kind], columnar=False)
    return Shape("json", nullable, pa.large_string(), columnar=False)


# One answer -------------------------------------------------------------------------------------------


def parse_answer(text: str) -> Any:
    """
    The JSON value in a text: alone, in a code fence, or as the one object amid prose.

    Raises
    ------
    ValueError
        There is none; says why.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    candidates = [text, *_FENCE.findall(text)]
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        candidates.append(text[start : end + 1])
    for candidate in candidates:
        try:
            return _lenient(candidate)
        except (ValueError, RecursionError):
            continue
    raise ValueError(problem)


def _lenient(text: str) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    # Models put raw line breaks into strings; half a surrogate pair cannot be kept in a column.
    return mended(json.loads(text.strip(), strict=False, parse_constant=_refuse))


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


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
    if shape.kind in ("date", "date-time"):
        return moment(value, shape.kind)
    if shape.kind == "array" and shape.item is not None and shape.item.kind not in ("date", "date-time"):
        return [_fitted(item, shape.item, f"{where}[{number}]") for number, item in enumerate(value)]
    if shape.kind == "object":
        return {
            name: _fitted(value.get(name), part, f"{where}.{name}" if where else name)
            for name, part in shape.fields.items()
        }
    if shape.kind == "json":
        return orjson.dumps(value).decode()
    return value


# Whole columns ----------------------------------------------------------------------------------------


def parse_answers(
    results: Any, json_schema: Mapping[str, Any], *, flatten: bool = False
) -> tuple[dict[Any, Any], Any, Any]:
    """
    Typed columns from the texts of results.

    Parameters
    ----------
    results : pyarrow.Table
        With ``text``, ``error_code`` and ``error_message``; rows with a code are not parsed.
    json_schema : mapping
        What every answer must satisfy.
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
    shape = shape_of(json_schema)
    check = checker(json_schema)
    pieces, codes, messages = [], [], []
    table = results.select(["text", "error_code", "error_message"])
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS).combine_chunks()
        text, code, message = (one_array(part[name]) for name in part.column_names)
        wanted = pc.and_(pc.is_null(code), pc.is_valid(text))
        values, wrong, why = _parse_block(text, true(wanted), shape, check)
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
    if shape.kind == "object" and (name is None or flatten):
        for child, part in shape.fields.items():
            inner = pc.struct_field(values, child)
            _name_columns(child if name is None else f"{name}.{child}", inner, part, flatten, out)
    elif shape.kind == "enum":
        choices = pa.array(shape.choices, pa.large_string())
        out[name] = pa.DictionaryArray.from_arrays(pc.index_in(values, value_set=choices), choices)
    else:
        out[name] = values


def _parse_block(text: Any, wanted: Any, shape: Shape, check: Any) -> tuple[Any, Any, Any]:
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
    singly, codes, messages = _one_by_one(text, left, shape, check)
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


def _one_by_one(text: Any, numbers: Any, shape: Shape, check: Any) -> tuple[Any, list[Any], list[Any]]:
    values, codes, messages = [], [], []
    for answer in text.take(pa.array(numbers, pa.int64())).to_pylist():
        value = code = message = None
        try:
            found = parse_answer(answer)
        except ValueError as error:
            code, message = "invalid_json", f"The answer is not JSON: {error}"
        else:
            problem = check(found, "")
            if problem is None:
                try:
                    value = _fitted(found, shape)
                except ValueError as error:
                    problem = str(error)
            if problem is not None:
                code, message = "schema_mismatch", problem.removeprefix(": ")
        values.append(value)
        codes.append(code)
        messages.append(message)
    return pa.array(values, shape.type), codes, messages


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
    for start, stop, table in parsed(lines, pa.schema(_raw_type(shape)), unexpected="error"):
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
            right, column = _judged(pc.struct_field(values, name), part, optional=name not in shape.required)
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
        ok &= true(_COMPARE[word](values, limit))
    if shape.kind == "array" and shape.item is not None:
        right, _ = _judged(values.values, shape.item, optional=False)
        if not right.all():
            wrong = np.concatenate([[0], np.cumsum(~right)])
            offsets = values.offsets.to_numpy()
            ok &= wrong[offsets[1:]] == wrong[offsets[:-1]]
    return _or_null(ok, values, optional and shape.nullable), values


def _or_null(ok: Any, values: Any, null_is_right: bool) -> Any:
    return ok | values.is_null().to_numpy(zero_copy_only=False) if null_is_right else ok
