"""
What is asked of each row: templates over columns, and columns whose values go into the body as they are.

Values become text the way people write them: whole floats without ``.0`` (a column of whole numbers turns
into floats as soon as one is missing), other numbers as Python writes them, dates without a midnight, lists, dicts
and sets (sorted: a set has no order of its own) as JSON. A conversion or a format spec (``{price:.2f}``) sees the value itself, as `str.format` would.
"""

from __future__ import annotations

import datetime
import math
import re
import string
from collections.abc import Collection, Hashable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pandas as pd

from dobatch_pandas.errors import InputError

__all__ = [
    "MEMBERS",
    "Column",
    "Field",
    "Missing",
    "Template",
    "col",
    "is_label",
    "is_missing",
    "json_default",
    "message_templates",
    "messages_problem",
    "numbers_in",
    "ordered",
    "places_of",
    "plain",
    "template",
]


class _Members:
    """The place in a body where a row brings its own question; no text, so that no key of a user's is taken for it."""

    def __repr__(self) -> str:
        return "MEMBERS"


MEMBERS = _Members()


class _Formatter(string.Formatter):
    """As `str.format`, but an address in memory is no text, and what is missing within a value is not written as a word."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value, first = super().get_field(field_name, args, kwargs)
        if callable(value):
            raise TypeError(f"{field_name} is a {type(value).__name__.removeprefix('builtin_')}, not a value")
        if is_missing(value):
            raise Missing(field_name)
        return ordered(value) if isinstance(value, (set, frozenset)) else value, first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return _steady(value, super().convert_field(value, conversion))

    def format_field(self, value: Any, format_spec: str) -> Any:
        return _steady(value, super().format_field(value, format_spec))


def _steady(value: Any, text: Any) -> Any:
    """The text of a value, unless it is an address in memory, which is another one in the next kernel."""
    if isinstance(text, str) and not isinstance(value, str) and _ADDRESS.fullmatch(text):
        raise _no_text(type(value))
    return text


def _no_text(kind: type) -> TypeError:
    return TypeError(f"a value of type {kind.__name__} has no text of its own")


class Missing(ValueError):
    """A part of a value that a field asks for is missing: None, NaN, NA or NaT."""


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN, NA or NaT."""
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and bool(value != value))
    )


_FORMATTER = _Formatter()


@dataclass(frozen=True)
class Column:
    """A value a row: stands where a constant could stand in a request's body. Made by `col`."""

    name: Any


def is_label(value: Any) -> bool:
    """Whether a column can be called so."""
    return isinstance(value, Hashable) and not isinstance(value, Column) and value is not pd.NA


def col(name: Any) -> Column:
    """
    Take a body parameter, or a whole prompt, from a column: one value a row.

    Parameters
    ----------
    name : hashable
        Label of the column.
    """
    if not is_label(name):
        raise InputError(f"dobatch.col takes the label of one column, not {name!r:.80}.")
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
        mine = _Native((name, values[name]) for name in self.columns)
        return _FORMATTER.vformat("{" + self.source + "}", (), mine)


class _Native(dict[str, Any]):
    """Values as Python's own types, so that format specs written for those work."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return _native(value) if isinstance(value, np.generic) else value


def _native(value: np.generic) -> Any:
    """A value of numpy's as Python's own; a moment to the nanosecond is pandas', where numpy itself gives a number."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    return value.item()


@dataclass(frozen=True)
class Template:
    """A text with fields: constants and `Field` objects in their order."""

    pieces: tuple[str | Field, ...]

    @property
    def fields(self) -> list[Field]:
        """What differs from row to row."""
        return [piece for piece in self.pieces if isinstance(piece, Field)]


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
        text.encode()
        for literal, name, spec, conversion in _FORMATTER.parse(text):
            if literal:
                pieces.append(literal)
            if name is not None:
                pieces.append(_field(name, spec or "", conversion, what))
    except UnicodeEncodeError as error:
        raise InputError(f"The {what} holds half of a surrogate pair, which no request can carry.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The {what} is not a template: {error}. Braces that are text are written twice: {{{{ and }}}}."
        ) from error
    return Template(tuple(pieces))


def _field(name: str, spec: str, conversion: str | None, what: str) -> Field:
    column = name.partition(".")[0].partition("[")[0]
    if not column or column.isdigit():
        raise InputError(
            f"The {what} has the field {{{name}}}, which names no column: write {{column}}, or {{{{ and }}}} for "
            "braces. Columns that are called by numbers get names by df.rename(columns=...)."
        )
    if conversion not in (None, "r", "s", "a"):
        raise InputError(
            f"The {what} has the conversion !{conversion} in {{{name}}}; there are !r, !s and !a."
        )
    inner = [_field(n, s or "", c, what) for _, n, s, c in _FORMATTER.parse(spec) if n is not None]
    columns = dict.fromkeys([column, *(c for field in inner for c in field.columns)])
    source = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    return Field(source, tuple(columns), simple=name == column and not spec and not conversion)


def plain(value: Any) -> str:
    """Write a value as people do; see the module's docstring."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("it holds bytes: decode them first, as .str.decode('utf-8') does")
    if isinstance(value, (np.float32, np.float16)):
        # Shorter than a Python float: 0.1, not 0.10000000149011612.
        value = float(str(value))
    elif isinstance(value, np.generic):
        value = _native(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.tzinfo is None and value.time() == datetime.time():
        return str(value.date())
    kind: Any = type(value)
    if isinstance(value, (list, tuple, dict)) or _is_listed(value):
        if any(math.isinf(number) for number in numbers_in(value)):
            raise TypeError("it holds an infinite number, which JSON has no word for")
        try:
            return orjson.dumps(value, default=_jsonable, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError as error:
            raise TypeError(str(error.__cause__ or error)) from error
    if callable(value) or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__):
        raise _no_text(kind)
    text = str(value)
    # An address in memory is another one in the next kernel, and a frame is cut to what fits a screen.
    if _ADDRESS.fullmatch(text) or hasattr(value, "iterrows"):
        raise _no_text(kind)
    return text


_ADDRESS = re.compile(r"<.* at 0x[0-9A-Fa-f]+>", re.DOTALL)


def _is_listed(value: Any) -> bool:
    """Whether it is one of those that JSON has as a list: sets, views, arrays and columns."""
    return isinstance(value, (Set, ValuesView)) or (hasattr(value, "tolist") and hasattr(value, "dtype"))


def json_default(value: Any) -> Any:
    """What JSON has no word for as something that it has one for; TypeError where that is not clear."""
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (np.float32, np.float16)):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Set):
        return ordered(value)
    if _is_listed(value):
        return list(value) if isinstance(value, ValuesView) else value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _jsonable(value: Any) -> Any:
    """As `json_default`; within a text, what has a text of its own is that."""
    try:
        return json_default(value)
    except TypeError:
        return plain(value)


def ordered(values: Set[Any]) -> list[Any]:
    """A set as a list that is the same in every process; numbers by size, other things by their text."""
    if isinstance(values, KeysView):  # in the order of its dict
        return list(values)
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, plain(value)))


def numbers_in(value: Any) -> Iterator[float]:
    """Yield every number that has a fraction in a nested value."""
    if isinstance(value, (float, np.floating)):
        yield float(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from numbers_in(inner)
    elif getattr(getattr(value, "dtype", None), "kind", "O") in "iub":
        return  # whole numbers, and as many as there may be
    elif isinstance(value, (list, tuple)) or (_is_listed(value) and not isinstance(value, np.generic)):
        for inner in value.tolist() if hasattr(value, "tolist") else value:
            yield from numbers_in(inner)


def message_templates(message: Mapping[str, Any]) -> dict[str, Any]:
    """Parse every text of a message, an image's address in a part and a call's output included."""
    return {key: _templates(key, value) for key, value in message.items()}


def _templates(key: str, value: Any) -> Any:
    if isinstance(value, str):
        # Arguments of a call are JSON, whose braces are its own.
        fixed = key in ("role", "type") or (key == "arguments" and _is_json(value))
        return value if fixed else template(value)
    if isinstance(value, Mapping):
        return {inner: _templates(inner, one) for inner, one in value.items()}
    return [_templates(key, one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def messages_problem(messages: Any, roles: Collection[str]) -> str | None:
    """Say what is wrong with a list of messages, or None."""
    if not isinstance(messages, (list, tuple)) or not messages:
        return f"messages are a list of {{'role': ..., 'content': ...}}, not {type(messages).__name__} {messages!r:.60}"
    for message in messages:
        if not isinstance(message, Mapping):
            return f"{message!r:.80} is not a message: it needs 'role' and 'content'"
        if "type" in message and "role" not in message:
            continue  # an item of the responses endpoint: a call's output, say
        if not isinstance(message.get("role"), str) or not ("content" in message or "tool_calls" in message):
            return f"{message!r:.80} is not a message: it needs 'role' and 'content'"
        if message["role"] not in roles:
            return f"{message['role']!r} is no role at this endpoint; there are {', '.join(sorted(roles))}"
        content = message.get("content")
        if not isinstance(content, (str, list, tuple, Column)) and not (
            content is None and "tool_calls" in message
        ):
            return f"the content of a message is {content!r:.60}; it takes a text or a list of parts"
        if isinstance(content, (list, tuple)):
            for part in content:
                if not isinstance(part, (str, Mapping, Column)):
                    return f"a part of a message's content is {part!r:.60}; it takes {{'type': 'text', 'text': ...}}"
    if all(message.get("role") in ("system", "developer") for message in messages):
        return "there is no message but the system's"
    return None


def places_of(value: Any) -> Iterator[Any]:
    """Yield what differs from row to row in a nested value: `Template`, `Column` and `MEMBERS`, in order."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key is MEMBERS:
                yield MEMBERS
            else:
                yield from places_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from places_of(inner)
    elif isinstance(value, (Template, Column)):
        yield value
