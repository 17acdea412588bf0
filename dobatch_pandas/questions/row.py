"""A row as a prompt function sees it: values are made when they are read, and what was read is known."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from .prompts import is_missing

__all__ = ["Row", "Rows"]


class Rows:
    """
    Some rows of a frame, whose columns become Python objects as soon as one of their values is read.

    Parameters
    ----------
    piece : pandas.DataFrame
    objects : callable
        Makes a list of Python objects from a column.
    read : set
        Takes the name of every column that is read.
    """

    def __init__(
        self, piece: pd.DataFrame, objects: Callable[[pd.Series], list[Any]], read: set[Hashable]
    ) -> None:
        self._piece, self._objects, self._read = piece, objects, read
        self._values: dict[Any, list[Any]] = {}
        self.names = piece.columns

    def value(self, name: Any, number: int) -> Any:
        """Return a value; KeyError where there is no such column."""
        values = self._values.get(name)
        if values is None:
            place = self.names.get_loc(name)
            if not isinstance(place, int):
                raise LookupError(f"{name!r} stands for several columns: give each a name of its own")
            self._values[name] = values = self._objects(self._piece.iloc[:, place])
            self._read.add(name)
        return values[number]

    def missing(self, number: int) -> set[str]:
        """Return how Python writes the missing values of a row, in the columns that were read."""
        return {str(values[number]) for values in self._values.values() if is_missing(values[number])}

    def __iter__(self) -> Iterator[Row]:
        return (Row(self, number) for number in range(len(self._piece)))


class Row(Mapping[Any, Any]):
    """What a prompt function gets: the row's values by name, ``row["review"]`` or ``row.review``."""

    __slots__ = ("_number", "_rows")

    def __init__(self, rows: Rows, number: int) -> None:
        self._rows, self._number = rows, number

    def __getitem__(self, name: Any) -> Any:
        return self._rows.value(name, self._number)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows.names)

    def __len__(self) -> int:
        return len(self._rows.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, Hashable) and name in self._rows.names

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}") from None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return _Method(value, name) if name in ("get", "items", "keys", "values") else value

    def __repr__(self) -> str:
        return f"<row of {', '.join(map(repr, self._rows.names[:10]))}>"

    def __str__(self) -> str:
        # As a prompt it would be the same for every row.
        raise TypeError(
            "a row has no text of its own: write row['column'], or dict(row) for all of its values"
        )

    def __format__(self, _: str) -> str:
        return str(self)


class _Method:
    """A method of a row, which is to be called; as a text it would be an address in memory."""

    def __init__(self, method: Callable[..., Any], name: str) -> None:
        self._method, self._name = method, name

    def __call__(self, *arguments: Any) -> Any:
        return self._method(*arguments)

    def __str__(self) -> str:
        raise TypeError(f"row.{self._name} is a method; a column of that name is row[{self._name!r}]")

    __repr__ = __str__

    def __format__(self, _: str) -> str:
        return str(self)
