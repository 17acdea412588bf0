"""
Lines of JSON that are alike, as Arrow columns, without being parsed.

A line of a results file is as the next one, but for a few values. What they share is a shape: bytes that stand in
each of them, and places for values in between. Whether lines have a shape is found by comparing bytes, all lines
at once. A line has it where every constant is there to the byte, and what stands between two of them is one
text or one number and nothing else; then there is no second way to read it. Other lines are left to a reader
that parses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from .columns import between, every_second
from .json_text import unescaped

__all__ = ["Shapes", "few"]

_FEW, _SHARE = 64, 32  # so many lines, or one in so many, are read one by one as quickly
_SAMPLES = 8  # lines that a shape is learned from
_MISSES = 3  # how often lines are looked at in vain before those without a shape are let be
_VALUES = 40  # in a line, at most
_DIGITS = 16  # bytes in which a number is found with its end
_SHORT = 128  # likewise for texts, but for the one long text of a line

_TOKEN = re.compile(rb'[][{},:]|"(?:[^"\\]|\\.)*"|[^][{},:"\s]+')
_WHOLE = re.compile(rb"0|[1-9][0-9]{0,14}")
_QUOTE, _BACKSLASH, _ZERO = b'"\\0'

Path = tuple[Any, ...]


def few(some: int, every: int) -> bool:
    """Whether it is not worth while to look for a shape of some lines out of so many."""
    return some <= max(_FEW, every // _SHARE)


class Shapes:
    """The shapes met in a file so far; may be shared by threads that read it."""

    def __init__(self) -> None:
        self._known: dict[Any, _Shape] = {}
        self._misses = 0

    def read(self, lines: Any, schema: Any) -> Iterator[tuple[Any, Any]]:
        """
        Yield which lines have one shape, as numbers in order, and a table with a row for each of them.

        Last come those without a shape that is known, and None.

        Parameters
        ----------
        lines : Lines
        schema : pyarrow.Schema
            What is read of each line; whatever else it has is passed over.
        """
        data = np.frombuffer(lines.block, np.uint8)
        starts, ends = lines.bounds
        left = np.arange(len(starts))
        shapes = [shape for shape in list(self._known.values()) if shape.schema is schema]
        while not few(len(left), len(starts)):
            if not shapes:
                learned = self._learn([lines[i] for i in left[:: len(left) // _SAMPLES]], schema)
                if learned is None:
                    break
                shapes.append(learned)
            rows, table = shapes.pop(0).read(data, starts[left], ends[left])
            if table is not None:
                yield left[rows], table
                left = np.delete(left, rows)
        if len(left):
            yield left, None

    def _learn(self, samples: Sequence[bytes], schema: Any) -> _Shape | None:
        """The shape that most of these lines have; None where that is none we can read, or not worth while."""
        if self._misses == _MISSES:
            return None
        alike = defaultdict(list)
        for line in samples:
            with suppress(_Unfit, orjson.JSONDecodeError):
                outline = _Outline(line)
                alike[outline.constants].append(outline)
        if alike:
            constants, outlines = max(alike.items(), key=lambda item: len(item[1]))
            known = self._known.get((id(schema), constants))
            with suppress(_Unfit):
                shape = _Shape([*known.outlines, *outlines] if known else outlines, schema)
                if known is None or shape.wider_than(known):
                    self._known[id(schema), constants] = shape
                    return shape
        self._misses += 1
        return None


# One line ---------------------------------------------------------------------------------------------


class _Value(NamedTuple):
    """Where a text or a number stands in a line, its quotes not included."""

    text: bool
    start: int
    end: int


class _Items(NamedTuple):
    """A list of so many items."""

    length: int


class _Outline:
    """
    What a line is made of.

    Attributes
    ----------
    known : dict
        What is at each path but for ``values``: ``dict`` for an object, `_Items`, True, False, or a number that is not
        a `_Value`. Nothing for null.
    values : dict of tuple to _Value
        In the order of the line.
    constants : tuple of bytes
        What stands before, between and after the values.
    """

    def __init__(self, line: bytes) -> None:
        if not isinstance(orjson.loads(line), dict):
            raise _Unfit
        self.line = line
        self.known: dict[Path, Any] = {}
        self.values: dict[Path, _Value] = {}
        self._walk()
        edges = [0, *(edge for value in self.values.values() for edge in value[1:]), len(line)]
        self.constants = tuple(line[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))

    def _walk(self) -> None:
        path: list[Any] = []  # the number of a list's item, an object's key, or None where a key comes next
        met: set[Path] = set()
        for token in _TOKEN.finditer(self.line):
            start, end = token.span()
            first = self.line[start : start + 1]
            if first == b":":
                continue
            if first in b"]}":
                path.pop()
            elif first == b",":
                path[-1] = None if isinstance(path[-1], str) else path[-1] + 1
            elif path and path[-1] is None:
                path[-1] = orjson.loads(token[0])
            else:
                here = tuple(path)
                # Readers disagree on what an object has that has a key twice.
                if here in met or len(self.values) > _VALUES:
                    raise _Unfit
                met.add(here)
                if path and isinstance(path[-1], int):
                    self.known[here[:-1]] = _Items(path[-1] + 1)
                if first in b"[{":
                    self.known[here] = dict if first == b"{" else _Items(0)
                    path.append(None if first == b"{" else 0)
                elif first == b'"':
                    self.values[here] = _Value(True, start + 1, end - 1)
                elif _WHOLE.fullmatch(token[0]):
                    self.values[here] = _Value(False, start, end)
                elif first != b"n":
                    self.known[here] = orjson.loads(token[0])

    def said(self, path: Path) -> bytes:
        """What stands at a value's place."""
        return self.line[slice(*self.values[path][1:])]


class _Unfit(Exception):
    """There is something else in a line than what a shape or the schema can have there."""


# All lines --------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where the lines of a shape have a value of their own."""

    path: Path
    text: bool
    width: int  # bytes in which it is found with its end


class _Shape:
    """
    What some lines share, and how the rest of them becomes a table.

    Parameters
    ----------
    outlines : list of _Outline
        Of lines with the same constants.
    schema : pyarrow.Schema

    Raises
    ------
    _Unfit
        The lines do not fit the schema, or have several long texts.
    """

    def __init__(self, outlines: list[_Outline], schema: Any) -> None:
        self.schema, self.outlines = schema, outlines
        self._known = dict(outlines[0].known)
        self._constants, places = [outlines[0].constants[0]], list[_Place]()
        for (path, value), constant in zip(
            outlines[0].values.items(), outlines[0].constants[1:], strict=True
        ):
            met = {outline.said(path) for outline in outlines}
            # What did not differ so far is taken to be the same in all lines, but for what will differ soon.
            if len(met) == 1 < len(outlines) and _kind_at(schema, path) != pa.large_string():
                (said,) = met
                self._known[path] = orjson.loads(b'"' + said + b'"' if value.text else said)
                self._constants[-1] += said + constant
                continue
            # Twice the longest so far, in few steps: each is another look.
            width = max(16, 1 << (2 * max(map(len, met)) - 1).bit_length()) if value.text else _DIGITS
            places.append(_Place(path, value.text, width))
            self._known[path] = places[-1]
            self._constants.append(constant)
        # The longest text is found between what stands before it and what stands after it.
        texts = [number for number, place in enumerate(places) if place.text]
        if not texts:
            raise _Unfit
        long = max(texts, key=lambda number: places[number].width)
        if any(places[number].width > _SHORT for number in texts if number != long):
            raise _Unfit
        self._long = places[long].path
        self._places = places
        self._width = sum(place.width for number, place in enumerate(places) if number != long)
        self._wanted = {place.path for place in places if _kind_at(schema, place.path) is not None}
        self._table({}, 0)

    def wider_than(self, other: _Shape) -> bool:
        """Whether lines may have this shape that do not have the other, which was learned from some of the same."""
        return self._width > other._width

    def read(self, data: Any, starts: Any, ends: Any) -> tuple[Any, Any | None]:
        """Which of these lines have the shape, and what they hold as a table; None where they are no UTF-8."""
        lines = _Lines(data, starts, ends)
        spans: dict[Path, tuple[Any, Any]] = {}
        first = self._long_from(lines, 1, spans)
        end = self._long_from(lines, -1, spans)
        lines.fit &= first <= end
        rows = bad = np.flatnonzero(lines.fit)
        try:
            while len(rows) and len(bad):
                # Each with its closing quote.
                quoted = _cut(data, first[rows], end[rows] + 1)
                _check_utf8(quoted)
                text, bad = unescaped(quoted)
                rows = np.delete(rows, bad)
            if not len(rows):
                return rows, None
            columns = {
                path: _cut(data, start[rows], stop[rows]).cast(pa.large_string())
                for path, (start, stop) in spans.items()
                if path in self._wanted
            }
        except pa.ArrowInvalid:
            return rows, None
        columns[self._long] = text
        return rows, self._table(columns, len(rows))

    def _long_from(self, lines: _Lines, step: int, spans: dict[Path, tuple[Any, Any]]) -> Any:
        """Find all values on the way to the long text, from a line's start or from its end; where that is."""
        at = lines.starts if step > 0 else lines.ends
        for constant, place in zip(self._constants[::step], [*self._places[::step], None], strict=True):
            edge = lines.past(constant, at, step)
            if place is None or place.path == self._long:
                return edge
            at = lines.past_value(edge, place, step)
            spans[place.path] = (edge, at) if step > 0 else (at, edge)
        raise AssertionError("the long text is one of the places")

    def _table(self, columns: dict[Path, Any], rows: int) -> Any:
        arrays = [self._column(field.type, (field.name,), columns, rows) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _column(self, kind: Any, path: Path, columns: dict[Path, Any], rows: int) -> Any:
        found = self._known.get(path)
        if found is None:
            return pa.nulls(rows, kind)
        if pa.types.is_struct(kind) and found is dict:
            parts = [self._column(field.type, (*path, field.name), columns, rows) for field in kind]
            return pa.StructArray.from_arrays(parts, fields=list(kind))
        if pa.types.is_list(kind) and isinstance(found, _Items):
            items = [
                self._column(kind.value_type, (*path, item), columns, rows) for item in range(found.length)
            ]
            values = items[0] if items else pa.nulls(0, kind.value_type)
            if found.length > 1:
                order = np.arange(rows * found.length).reshape(found.length, rows).T.reshape(-1)
                values = pa.concat_arrays(items).take(pa.array(order))
            edges = np.arange(rows + 1, dtype=np.int32) * found.length
            return pa.ListArray.from_arrays(edges, values, type=kind)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            if isinstance(found, str):
                return _repeated(found.encode(), rows).cast(kind)
            if isinstance(found, _Place) and found.text:
                return columns[path].cast(kind) if columns else pa.nulls(0, kind)
        if pa.types.is_int64(kind):
            if type(found) is int and -(2**63) <= found < 2**63:
                return pa.array(np.full(rows, found))
            if isinstance(found, _Place) and not found.text:
                return columns[path].cast(kind) if columns else pa.nulls(0, kind)
        raise _Unfit


def _kind_at(schema: Any, path: Path) -> Any | None:
    """The type that the schema has at a path; None where it has none."""
    kind = pa.struct(list(schema))
    for step in path:
        if isinstance(step, int) and pa.types.is_list(kind):
            kind = kind.value_type
        elif isinstance(step, str) and pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            kind = kind.field(step).type
        else:
            return None
    return kind


class _Lines:
    """
    Lines that may have a shape, looked at side by side.

    Steps go from left to right (1) or back (-1). What is found of a line that turns out not to have the shape is of
    no use, and lies within the line.

    Attributes
    ----------
    starts, ends : numpy.ndarray of int
    fit : numpy.ndarray of bool
        Whether each has the shape, as far as was looked.
    """

    def __init__(self, data: Any, starts: Any, ends: Any) -> None:
        self.starts, self.ends = starts, ends
        self.fit = np.ones(len(starts), bool)
        self._data = data

    def past(self, constant: bytes, at: Any, step: int) -> Any:
        """The places behind a constant that stands at these."""
        compare = pc.starts_with if step > 0 else pc.ends_with
        # Each piece goes on to where the next begins, which does not matter.
        pieces = between(self._data, np.append(at, len(self._data)) if step > 0 else np.append(0, at))
        self.fit &= compare(pieces, constant).to_numpy(zero_copy_only=False)
        return np.clip(at + step * len(constant), self.starts, self.ends)

    def past_value(self, at: Any, place: _Place, step: int) -> Any:
        """The places behind a value that stands at these: a number, or a text that stands for itself."""
        # A row a line, what is nearest to the place first.
        near = self._window(at if step > 0 else at - place.width, place.width)[:, ::step]
        stops = (near < 0x20) | (near == _QUOTE) | (near == _BACKSLASH) if place.text else near - _ZERO > 9
        length = stops.argmax(axis=1)
        rows = np.arange(len(at))
        stop = near[rows, length]
        if place.text:
            self.fit &= stop == _QUOTE
        else:
            first = near[:, 0] if step > 0 else near[rows, length - 1]
            self.fit &= (stop - _ZERO > 9) & (length > 0) & ((length == 1) | (first != _ZERO))
        return np.clip(at + step * length, self.starts, self.ends)

    def _window(self, at: Any, width: int) -> Any:
        """So many bytes from each place on; lines for which there are none do not fit."""
        last = len(self._data) - width
        if last < 0:
            self.fit[:] = False
            return np.zeros((len(at), width), np.uint8)
        if at[0] < 0 or at[-1] > last:
            inside = np.clip(at, 0, last)
            self.fit &= inside == at
            at = inside
        return _windows(self._data, at, width).reshape(len(at), width)


def _windows(data: Any, at: Any, width: int) -> Any:
    """So many bytes from each place on, end to end."""
    # An element for each byte of the data, overlapping the next ones.
    every = np.ndarray(len(data) - width + 1, f"V{width}", data, strides=(1,))
    return every[at].view(np.uint8)


def _check_utf8(quoted: Any) -> None:
    """Raise ArrowInvalid where one of some texts is no UTF-8."""
    # All at once, which is quicker: between two texts there is a quote, so that one cannot complete another.
    _, bounds, data = quoted.buffers()
    end = np.frombuffer(bounds, np.int64)[len(quoted)]
    pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, end])), data).validate(full=True)


def _repeated(text: bytes, rows: int) -> Any:
    edges = np.arange(rows + 1) * len(text)
    return pa.LargeStringArray.from_buffers(rows, pa.py_buffer(edges), pa.py_buffer(text * rows))


def _cut(data: Any, starts: Any, ends: Any) -> Any:
    """The bytes between each two places as a column of its own."""
    length = int(ends[0] - starts[0])
    if 0 < length < _SHORT and (ends - starts == length).all():
        # Ids, as a rule. The bytes side by side are the column.
        side_by_side = _windows(data, starts, length)
        return between(side_by_side, np.arange(len(starts) + 1) * length)
    # What is cut out and what lies between, in turns.
    edges = np.zeros(2 * len(starts) + 1, np.int64)
    edges[:-1:2], edges[1::2] = starts, ends
    edges[-1] = ends[-1] if len(ends) else 0
    return every_second(data, edges)
