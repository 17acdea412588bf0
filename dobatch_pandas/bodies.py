"""
Request bodies from frozen rows: a body is compiled once into constant bytes and places for a row's values.

Text is escaped for JSON as whole columns, not row by row: the columns are joined into one run of bytes, in
which bytes that UTF-8 never uses mark where a value ends; the run is escaped at once, the marks are replaced
by the body's constants, and the result is cut into rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from .prompts import MEMBERS, Column, Template
from .recipe import Recipe

__all__ = ["Renderer", "escaped"]

_END = b"\xff"
# The other bytes that no UTF-8 text has.
_MARKS = [bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0xFF))]
# The backslash first, since what replaces the others has one.
_ESCAPES = [(bytes([byte]), orjson.dumps(chr(byte))[1:-1]) for byte in (0x5C, 0x22, 0x0A)]
_RARE_ESCAPES = {byte: orjson.dumps(chr(byte))[1:-1] for byte in range(0x20)}


def escaped(text: bytes) -> bytes:
    """Escape UTF-8 for the inside of a JSON string; other bytes pass through as they are."""
    for byte, written in _ESCAPES:
        text = text.replace(byte, written)
    codes = np.frombuffer(text, np.uint8)
    if len(codes) and codes.min() < 0x20:
        for byte in np.unique(codes[codes < 0x20]).tolist():
            text = text.replace(bytes([byte]), _RARE_ESCAPES[byte])
    return text


class Renderer:
    """
    Turns rows that `Recipe.freeze` made into request bodies.

    Attributes
    ----------
    first, last : bytes
        What every body begins and ends with: the instructions, as a rule, and the parameters.
    between : list of bytes
        What stands between the places for a row's values.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._constants: list[bytes] = [b""]
        self._places: list[str] = []
        self._slots = recipe.slots
        self._compile(recipe.body)
        self.first, *self.between, self.last = self._constants if self._places else [*self._constants, b""]

    def _compile(self, value: Any) -> None:
        if isinstance(value, dict):
            self._say(b"{")
            for number, (key, inner) in enumerate(value.items()):
                self._say(b"," if number else b"")
                if key == MEMBERS:
                    self._put(MEMBERS)
                else:
                    self._say(orjson.dumps(key) + b":")
                    self._compile(inner)
            self._say(b"}")
        elif isinstance(value, (list, tuple)):
            self._say(b"[")
            for number, inner in enumerate(value):
                self._say(b"," if number else b"")
                self._compile(inner)
            self._say(b"]")
        elif isinstance(value, Template):
            self._say(b'"')
            for piece in value.pieces:
                if isinstance(piece, str):
                    self._say(orjson.dumps(piece)[1:-1])
                else:
                    self._put(piece)
            self._say(b'"')
        elif isinstance(value, Column):
            self._put(value)
        else:
            self._say(orjson.dumps(value))

    def _say(self, constant: bytes) -> None:
        self._constants[-1] += constant

    def _put(self, place: Any) -> None:
        self._places.append(self._slots[place])
        self._constants.append(b"")

    def bodies(self, frozen: pa.RecordBatch) -> list[bytes]:
        """Return the body of each row; no place may be null."""
        return [self.first + middle + self.last for middle in self.middles(frozen)]

    def middles(self, frozen: pa.RecordBatch) -> list[bytes]:
        """Return what stands between `first` and `last` in the body of each row; no place may be null."""
        if not self._places or not frozen.num_rows:
            return [b""] * frozen.num_rows
        texts = all(pa.types.is_large_string(frozen[name].type) for name in self._places)
        put = _spliced if texts and len(self._places) <= len(_MARKS) + 1 else _joined
        return put([frozen[name] for name in self._places], self.between)


def _spliced(columns: list[pa.Array], between: list[bytes]) -> list[bytes]:
    """Put columns of text side by side, a constant between each two, all rows at once."""
    marks = [*_MARKS[: len(columns) - 1], _END]
    kind = pa.large_binary()
    run: list[Any] = []
    for column, mark in zip(columns, marks, strict=True):
        run += [column.cast(kind), pa.scalar(mark, kind)]
    marked = pc.binary_join_element_wise(*run, pa.scalar(b"", kind))
    _, offsets, data = marked.buffers()
    text = escaped(data[: np.frombuffer(offsets, np.int64)[len(marked)]].to_pybytes())
    for mark, constant in zip(marks[:-1], between, strict=True):
        text = text.replace(mark, constant)
    rows = text.split(_END)
    rows.pop()
    return rows


def _joined(columns: list[pa.Array], between: list[bytes]) -> list[bytes]:
    """Put columns of text or of JSON side by side, a constant between each two, row by row."""
    lists: list[list[bytes]] = []
    for column, constant in zip(columns, [*between, b""], strict=True):
        text = pa.types.is_large_string(column.type)
        lists += [_spliced([column], []) if text else column.to_pylist(), [constant] * len(column)]
    return [b"".join(values) for values in zip(*lists, strict=True)]
