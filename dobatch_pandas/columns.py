"""Moving values of long Arrow columns about, in pieces that fit the processor's cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["gather", "whole"]

_ROWS = 4096


def whole(values: Any) -> Any:
    """One array of what may be a chunked one; copied only where there are several chunks."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


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
    found = [
        _gather_few(values.chunks, starts, values.type, places[at : at + _ROWS])
        for at in range(0, len(places), _ROWS)
    ]
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
