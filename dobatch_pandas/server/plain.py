"""JSON in and out, whatever a model put into it: half emoji, integers beyond 64 bits, NaN, NumPy's numbers."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

__all__ = ["MOST_VALUES", "from_json", "to_json", "too_many", "values_in"]

# Values in one request. Each takes some fifty bytes of memory, though it may be three in JSON.
MOST_VALUES = 4_000_000

_PLAIN = orjson.OPT_SERIALIZE_NUMPY
_DEEPEST = 200


def to_json(value: Any, *, newline: bool = False) -> bytes:
    """
    Return a value as JSON in UTF-8.

    What JSON cannot carry becomes the nearest that it can: U+FFFD for half a surrogate pair, a float (or a
    text, beyond its range) for an integer of more than 64 bits, null for NaN. Raises ValueError or TypeError
    for what has no likeness in JSON at all.
    """
    options = _PLAIN | orjson.OPT_APPEND_NEWLINE if newline else _PLAIN
    try:
        return orjson.dumps(value, option=options)
    except TypeError:
        return orjson.dumps(_plain(value, 0), option=options)


def from_json(content: bytes) -> Any:
    """Read JSON as leniently as Python does; raises ValueError for what is none."""
    try:
        return orjson.loads(content)
    except ValueError:
        try:
            return json.loads(content, parse_int=_integer)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def values_in(content: bytes) -> int:
    """The most values that there may be in JSON: what looks like some in a text is counted too."""
    return content.count(b",") + content.count(b"{") + content.count(b"[")


def too_many(content: bytes) -> bool:
    """Whether JSON holds more values than about `MOST_VALUES`; one text is one, whatever stands in it."""
    if values_in(content) <= MOST_VALUES:
        return False
    plain = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    values = re.finditer(rb'"[^"]*",?|[,{\[]', plain)
    return next(itertools.islice(values, MOST_VALUES, None), None) is not None


def _integer(digits: str) -> Any:
    # Python refuses to convert thousands of digits.
    return int(digits) if len(digits) < 400 else digits


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            return str(value) if value.bit_length() < 10_000 else "a very large integer"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(name): _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(
        value, (bytes, bytearray, memoryview)
    ):
        return [_plain(one, depth + 1) for one in value]
    for convert in ("tolist", "model_dump"):
        # NumPy's and pandas' values have the one, pydantic's models the other.
        if callable(method := getattr(value, convert, None)):
            return _plain(method(), depth + 1)
    # orjson knows a few more types, such as dates.
    return orjson.loads(orjson.dumps(value, option=_PLAIN))


def _key(name: Any) -> str:
    if isinstance(name, str):
        return str(_plain(name, 0))
    if name is None or isinstance(name, (bool, int, float)):
        return json.dumps(name)
    raise TypeError(f"{type(name).__name__} cannot be a name in JSON")
