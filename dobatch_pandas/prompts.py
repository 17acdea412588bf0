"""
What is asked of each row: templates over columns, and columns whose values go into the body as they are.

Values become text the way people write them: whole floats without ``.0`` (a column of whole numbers turns
into floats as soon as one is missing), dates without a midnight, lists and dicts as JSON. A conversion or a
format spec (``{price:.2f}``) sees the value itself, as `str.format` would.
"""

from __future__ import annotations

import datetime
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InputError, Problem

__all__ = ["Column", "Field", "Template", "col", "messages_problem", "plain", "template", "text_column"]

_FORMATTER = string.Formatter()


@dataclass(frozen=True)
class Column:
    """A value a row: stands where a constant could stand in a request's body. Made by `col`."""

    name: Any


def col(name: Any) -> Column:
    """
    Take a body parameter, or the messages of a prompt, from a column, one value a row.

    Parameters
    ----------
    name : hashable
        Label of the column.
    """
    return Column(name)


@dataclass(frozen=True)
class Field:
    """
    One replacement field of a template.

    ``source`` is all between the braces, ``columns`` what it needs, and ``simple`` whether it is nothing but
    a column's name.
    """

    source: str
    columns: tuple[str, ...]
    simple: bool

    def evaluate(self, values: Mapping[str, Any]) -> str:
        """Render the field for one row, as `str.format` does."""
        if self.simple:
            return plain(values[self.columns[0]])
        return _FORMATTER.vformat("{" + self.source + "}", (), _Native(values))


class _Native(dict[str, Any]):
    """Values as Python's own types, so that format specs written for those work."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Template:
    """A text with fields: constants and `Field` objects in their order."""

    pieces: tuple[str | Field, ...]

    @property
    def fields(self) -> list[Field]:
        return [piece for piece in self.pieces if isinstance(piece, Field)]

    def evaluate(self, values: Mapping[str, Any]) -> str:
        """Render the text for one row."""
        return "".join(piece if isinstance(piece, str) else piece.evaluate(values) for piece in self.pieces)


def template(text: str, what: str = "prompt") -> Template:
    """
    Parse a template.

    Raises
    ------
    InputError
        Braces that do not match, or a field without a name.
    """
    pieces: list[str | Field] = []
    try:
        for literal, name, spec, conversion in _FORMATTER.parse(text):
            if literal:
                pieces.append(literal)
            if name is not None:
                pieces.append(_field(name, spec or "", conversion, what))
    except ValueError as error:
        raise InputError(
            f"The {what} is not a template: {error}. Braces that are text are written twice: {{{{ and }}}}."
        ) from error
    return Template(tuple(pieces))


def _field(name: str, spec: str, conversion: str | None, what: str) -> Field:
    column = name.partition(".")[0].partition("[")[0]
    if not column or column.isdigit():
        raise InputError(
            f"The {what} has the field {{{name}}}, which names no column: write {{column}}, or {{{{ and }}}} for braces."
        )
    inner = [_field(n, s or "", c, what) for _, n, s, c in _FORMATTER.parse(spec) if n is not None]
    columns = dict.fromkeys([column, *(c for field in inner for c in field.columns)])
    source = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    return Field(source, tuple(columns), simple=name == column and not spec and not conversion)


def plain(value: Any) -> str:
    """Write a value as people do; see the module's docstring."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.tzinfo is None and value.time() == datetime.time():
        return str(value.date())
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        return orjson.dumps(value, default=_jsonable, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def text_column(values: pd.Series) -> pa.Array | None:
    """
    Turn a column that holds nothing but strings into Arrow, without a Python object a row where pandas has none.

    Returns None where some value is not a string; missing values are null.
    """
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        words = text_column(pd.Series(kind.categories))
        if words is None:
            return None
        codes = values.cat.codes.to_numpy()
        return words.take(pa.array(codes, mask=codes < 0))
    if kind == object and pd.api.types.infer_dtype(values, skipna=True) not in ("string", "empty"):
        return None
    if kind == object or isinstance(kind, pd.StringDtype) or _is_arrow_text(kind):
        try:
            found = pa.array(values, from_pandas=True)
            if isinstance(found, pa.ChunkedArray):
                found = found.combine_chunks()
            return found.cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            return None
    if pd.api.types.is_integer_dtype(kind):
        return pc.cast(pa.array(values, from_pandas=True), pa.large_string())
    return None


def _is_arrow_text(kind: Any) -> bool:
    return isinstance(kind, pd.ArrowDtype) and (
        pa.types.is_string(kind.pyarrow_dtype) or pa.types.is_large_string(kind.pyarrow_dtype)
    )


class Faulty:
    """Collects rows that cannot be rendered, by reason, and raises them all at once."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {}

    def add(self, reason: str, label: Any) -> None:
        self._rows.setdefault(reason, []).append(label)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def problems(self) -> list[Problem]:
        return [Problem(reason, tuple(rows[:20]), len(rows)) for reason, rows in self._rows.items()]


def evaluate(
    field: Field, columns: Mapping[str, pd.Series], labels: Sequence[Any], present: Any, faulty: Faulty
) -> pa.Array:
    """Render a field row by row; rows that are not `present` are null."""
    lists = [columns[name].tolist() for name in field.columns]
    out: list[str | None] = []
    for number, values in enumerate(zip(*lists, strict=True)):
        if not present[number]:
            out.append(None)
            continue
        try:
            out.append(_encodable(field.evaluate(dict(zip(field.columns, values, strict=True)))))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            out.append(None)
            faulty.add(
                f"{{{field.source}}} cannot be rendered: {type(error).__name__}: {error}", labels[number]
            )
    return pa.array(out, pa.large_string())


def _encodable(text: str) -> str:
    text.encode()  # half of a surrogate pair is no text that JSON could carry
    return text


def as_json(
    values: Iterator[Any], labels: Sequence[Any], present: Any, faulty: Faulty, what: str
) -> pa.Array:
    """Encode one JSON value a row; rows that are not `present` are null."""
    out: list[bytes | None] = []
    for number, value in enumerate(values):
        if not present[number]:
            out.append(None)
            continue
        try:
            out.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
        except (TypeError, ValueError) as error:
            out.append(None)
            faulty.add(f"{what} is not JSON: {error}", labels[number])
    return pa.array(out, pa.large_binary())


def messages_problem(messages: Any) -> str | None:
    """Say what is wrong with a list of messages, or None."""
    if not isinstance(messages, (list, tuple)) or not messages:
        return "messages are a list of {'role': ..., 'content': ...}"
    for message in messages:
        if (
            not isinstance(message, Mapping)
            or not isinstance(message.get("role"), str)
            or "content" not in message
        ):
            return f"{message!r:.80} is not a message: it needs 'role' and 'content'"
    if all(message["role"] == "system" for message in messages):
        return "there is no message but the system's"
    return None
