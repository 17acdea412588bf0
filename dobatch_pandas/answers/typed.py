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

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
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
from dobatch_pandas.questions.schema_check import compiled, moment

from .judge import NoAnswer, judge_of, judged
from .shape import COMPARE, DECIMAL, Shape, shape_of

__all__ = ["parse_answers"]

_ROWS = 16_384
_FENCED = r"(?s)^```[A-Za-z0-9_+-]*[ \t]*\r?\n\s*(.*?)\s*```$"


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
    if not isinstance(exponent, int) or -exponent > DECIMAL.scale or number.adjusted() >= 38 - DECIMAL.scale:
        raise ValueError(
            f"{where}: {number} has more than {38 - DECIMAL.scale} digits before the point or {DECIMAL.scale} after it"
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
        if word in COMPARE:
            ok &= true(COMPARE[word](values, limit))
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
