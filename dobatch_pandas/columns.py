"""Moving values of long Arrow columns about, in pieces that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["gather", "pack", "packed_tables", "whole"]

_ROWS = 2048
_PACK = 17 << 18


def whole(values: Any) -> Any:
    """One array of what may be a chunked one; copied only where there are several chunks."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def pack(arrays: list[Any]) -> Any:
    """
    One array of several.

    Long texts go to memory of numpy's, which asks the system for large pages: for the hundreds of megabytes of
    a job's answers, being given the pages one by one costs as much time as reading them from JSON.
    """
    if len(arrays) == 1:
        return arrays[0]
    if not pa.types.is_large_string(arrays[0].type):
        return pa.concat_arrays(arrays)
    ends, texts, size = [np.zeros(1, dtype=np.int64)], [], 0
    for array in arrays:
        _, bounds, data = array.buffers()
        if not len(array) or data is None:
            ends.append(np.full(len(array), size))
            continue
        edges = np.frombuffer(bounds, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        ends.append(edges[1:] - edges[0] + size)
        texts.append(np.frombuffer(data, dtype=np.uint8)[edges[0] : edges[-1]])
        size += int(edges[-1] - edges[0])
    valid = None
    if any(array.null_count for array in arrays):
        there = [array.is_valid().to_numpy(zero_copy_only=False) for array in arrays]
        valid = pa.array(np.concatenate(there)).buffers()[1]
    text = np.concatenate(texts) if texts else np.empty(0, dtype=np.uint8)
    offsets = np.concatenate(ends)
    return pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text), valid
    )


def packed_tables(parts: Iterable[Any]) -> list[Any]:
    """Tables or record batches, small neighbours made one; each is let go of as soon as it is copied."""
    done: list[Any] = []
    held: list[Any] = []
    size = 0

    def flush() -> None:
        if held:
            table = pa.concat_tables(held, promote_options="default")
            held.clear()
            columns = [pack(column.chunks) if column.num_chunks else column for column in table.columns]
            done.append(pa.Table.from_arrays(columns, schema=table.schema))

    for part in parts:
        table = part if isinstance(part, pa.Table) else pa.Table.from_batches([part])
        if table.nbytes >= _PACK:
            flush()
            done.append(table)
            size = 0
            continue
        held.append(table)
        size += table.nbytes
        if size >= _PACK:
            flush()
            size = 0
    flush()
    return done


def gather(values: Any, places: Any) -> Any:
    """
    Values in the order of ``places``, as one array or several chunks.

    Arrow's own ``take`` first makes one array of all chunks, which for the texts of a job is a second copy in
    memory never used before: that costs more than the taking.

    Parameters
    ----------
    values : pyarrow.Array or pyarrow.ChunkedArray
    places : numpy.ndarray
        Positions; a negative one gives null.
    """
    if not isinstance(values, pa.ChunkedArray) or values.num_chunks <= 1 or len(values) <= _ROWS:
        return whole(values).take(pa.array(places, mask=places < 0))
    starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in values.chunks])])
    # Enough rows at once that a chunk is not asked for a handful: that would cost rows times chunks.
    rows = max(_ROWS, 32 * values.num_chunks)
    found: list[Any] = []
    held: list[Any] = []
    for at in range(0, len(places), rows):
        held.append(_gather_few(values.chunks, starts, values.type, places[at : at + rows]))
        if sum(piece.nbytes for piece in held) >= _PACK:
            found.append(pack(held))
            held = []
    if held:
        found.append(pack(held))
    return pa.chunked_array(found, type=values.type)


def _gather_few(chunks: list[Any], starts: Any, kind: Any, places: Any) -> Any:
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
