"""
Moving the values of long Arrow columns about.

A job's answers are hundreds of megabytes, and memory never used before is dear: being given it page by page can
take longer than reading the answers from JSON. Long texts therefore go straight to memory of numpy's, which
asks the system for large pages, and what lies between is small enough to be used again and again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from .threads import Threads

__all__ = [
    "WORKERS",
    "Texts",
    "between",
    "gather",
    "mingled",
    "one_array",
    "packed_tables",
    "scratch",
]

WORKERS = min(4, os.cpu_count() or 1)

_ROWS = 2048
_PACK = 32 << 20


def one_array(values: Any) -> Any:
    """One array of what may be a chunked one; copied only where there are several chunks."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def scratch(size: int, dtype: Any = np.uint8) -> Any:
    """
    An array for a moment, not filled.

    It is of memory that Arrow keeps for the next one. The C library gives large pieces back to the system each
    time, and to be given them again takes longer than to look through them.
    """
    return np.frombuffer(pa.allocate_buffer(size * np.dtype(dtype).itemsize), dtype)


def between(data: Any, edges: Any) -> Any:
    """The bytes between each place and the next as a `pyarrow.LargeBinaryArray`, not copied."""
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(edges) - 1, buffers)


class Texts:
    """
    Long texts end to end, in memory that grows by doubling.

    Parameters
    ----------
    room : int
        Bytes to expect. What is never written to costs nothing.
    """

    def __init__(self, room: int = 0) -> None:
        self._data = np.empty(room, dtype=np.uint8)
        self._ends = [np.zeros(1, dtype=np.int64)]
        self._valid: list[Any] = []
        self._size = 0

    def add(self, texts: Any) -> None:
        """Add a `pyarrow.LargeStringArray` at the end."""
        edges, added = _text_of(texts)
        size = self._size + len(added)
        if size > len(self._data):
            grown = np.empty(max(size, 2 * len(self._data)), dtype=np.uint8)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : size] = added
        self._ends.append(edges[1:] + self._size)
        self._valid.append(texts.is_valid().to_numpy(zero_copy_only=False))
        self._size = size

    def array(self) -> Any:
        """All of them as one `pyarrow.LargeStringArray`."""
        valid = np.concatenate([np.empty(0, dtype=bool), *self._valid])
        return _large_strings(np.concatenate(self._ends), self._data[: self._size], valid)


def _text_of(texts: Any) -> tuple[Any, Any]:
    """Where each text of a `pyarrow.LargeStringArray` ends, after a 0, and all their bytes."""
    _, bounds, data = texts.buffers()
    if data is None:
        return np.zeros(len(texts) + 1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    edges = np.frombuffer(bounds, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return edges - edges[0], np.frombuffer(data, dtype=np.uint8)[edges[0] : edges[-1]]


def _large_strings(offsets: Any, data: Any, valid: Any) -> Any:
    there = None if valid.all() else pa.array(valid).buffers()[1]
    return pa.LargeStringArray.from_buffers(len(valid), pa.py_buffer(offsets), pa.py_buffer(data), there)


def mingled(tables: list[Any], rows: Any) -> Any:
    """
    One table of some rows of several.

    Parameters
    ----------
    tables : list of pyarrow.Table
        Of one schema.
    rows : numpy.ndarray of int
        Which rows of all tables one after the other, in the order in which they are wanted.
    """
    table = pa.concat_tables(tables)
    spread = {
        field.name: texts
        for field in table.schema
        if pa.types.is_large_string(field.type)
        and (texts := _spread(table[field.name].chunks, rows)) is not None
    }
    taken = table.drop_columns(list(spread)).take(pa.array(rows))
    return pa.table([spread[n] if n in spread else taken[n] for n in table.column_names], schema=table.schema)


def _spread(parts: list[Any], rows: Any) -> Any | None:
    """Texts that stand in one part, all of them and in order, with the nulls of the others in between; not copied."""
    first = parts[0]
    mine = rows < len(first)
    if any(part.null_count < len(part) for part in parts[1:]):
        return None
    if np.count_nonzero(mine) != len(first) or (np.diff(rows[mine]) < 0).any():
        return None
    edges, data = _text_of(first)
    there = np.zeros(len(rows), dtype=bool)
    there[mine] = first.is_valid().to_numpy(zero_copy_only=False)
    return _large_strings(edges[np.append(0, np.cumsum(mine))], data, there)


def packed_tables(parts: Iterable[Any], room: int = 0) -> list[Any]:
    """
    Tables or record batches, small neighbours made one; each is let go of as soon as it is copied.

    Parameters
    ----------
    parts : iterable of pyarrow.Table or pyarrow.RecordBatch
    room : int
        Bytes of text to expect of a column at most.
    """
    done: list[Any] = []
    run: _Run | None = None
    for part in parts:
        table = part if isinstance(part, pa.Table) else pa.Table.from_batches([part])
        if run is not None and (table.nbytes >= _PACK or table.schema != run.schema):
            done.append(run.table())
            run = None
        if table.nbytes >= _PACK:
            done.append(table)
            continue
        run = run or _Run(table.schema, room)
        run.add(table)
        del part, table
    return [*done, run.table()] if run is not None else done


class _Run:
    """Small tables of one schema on their way to be one."""

    def __init__(self, schema: Any, room: int) -> None:
        self.schema = schema
        self._texts = {field.name: Texts(room) for field in schema if pa.types.is_large_string(field.type)}
        self._rest: list[Any] = []

    def add(self, table: Any) -> None:
        for name, texts in self._texts.items():
            for chunk in table[name].chunks:
                texts.add(chunk)
        self._rest.append(table.drop_columns(list(self._texts)))

    def table(self) -> Any:
        rest = pa.concat_tables(self._rest).combine_chunks()
        columns = {name: texts.array() for name, texts in self._texts.items()}
        columns |= {name: rest[name] for name in rest.column_names}
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema)


def gather(values: Any, places: Any) -> Any:
    """
    Values in the order of ``places``, as one array or several chunks.

    Arrow's own ``take`` first makes one array of all chunks, which for the texts of a job is a second copy.

    Parameters
    ----------
    values : pyarrow.Array or pyarrow.ChunkedArray
    places : numpy.ndarray
        Positions; a negative one gives null.
    """
    values = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    chunks = values.chunks
    if len(places) <= _ROWS:
        return one_array(values).take(pa.array(places, mask=places < 0))
    starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in chunks])])
    # Enough rows at once that a chunk is not asked for a handful: that would cost rows times chunks.
    rows = max(_ROWS, 128 * len(chunks))

    def piece(at: int) -> Any:
        return _gather_few(chunks, starts, values.type, places[at : at + rows])

    with Threads(WORKERS, "dobatch-gather") as pool:
        return pa.chunked_array(pool.map(piece, range(0, len(places), rows)), type=values.type)


def _gather_few(chunks: list[Any], starts: Any, kind: Any, places: Any) -> Any:
    if len(chunks) == 1:
        return chunks[0].take(pa.array(places, mask=places < 0))
    owner = np.searchsorted(starts, places, side="right") - 1
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(-1, len(chunks) + 1))
    pieces = [pa.nulls(int(edges[1]), kind)]
    for number, chunk in enumerate(chunks):
        rows = order[edges[number + 1] : edges[number + 2]]
        if len(rows):
            pieces.append(chunk.take(pa.array(places[rows] - starts[number])))
    back = np.empty(len(places), dtype=np.int64)
    back[order] = np.arange(len(places))
    return pa.concat_arrays(pieces).take(pa.array(back))
