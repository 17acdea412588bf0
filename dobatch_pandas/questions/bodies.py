"""
Request bodies from frozen rows: a body is compiled once into constant bytes and places for a row's values.

Text is escaped for JSON as whole columns, and columns and constants are joined by Arrow, not row by row.
"""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.json_text import escaped

from .prompts import MEMBERS, Column, Template
from .recipe import Recipe

__all__ = ["Renderer", "side_by_side"]


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
        found: list[bytes] = side_by_side([self.first, self.middles(frozen), self.last]).to_pylist()
        return found

    def middles(self, frozen: pa.RecordBatch) -> pa.LargeBinaryArray:
        """Return what stands between `first` and `last` in the body of each row; no place may be null."""
        if not self._places:
            return pa.array([b""] * frozen.num_rows, pa.large_binary())
        columns = []
        for name, constant in zip(self._places, [*self.between, b""], strict=True):
            column = frozen[name]
            # Other columns are JSON already.
            columns += [escaped(column) if pa.types.is_large_string(column.type) else column, constant]
        return side_by_side(columns)


def side_by_side(columns: list[pa.LargeBinaryArray | bytes]) -> pa.LargeBinaryArray:
    """Join columns and constants, row by row; one of them is a column, and no value is null."""
    kept = [column for column in columns if not isinstance(column, bytes) or column]
    if len(kept) == 1:
        return kept[0]
    constants = [pa.scalar(one, pa.large_binary()) if isinstance(one, bytes) else one for one in kept]
    return pc.binary_join_element_wise(*constants, pa.scalar(b"", pa.large_binary()))
