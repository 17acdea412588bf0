"""Columns of text as JSON writes it between quotes, without a Python object a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from .columns import between, scratch

__all__ = ["escaped"]

_QUOTE, _BACKSLASH = b'"\\'

# What stands for a byte that cannot stand for itself; the texts of all of them end to end, and where each is.
_SPECIAL = [*range(0x20), _QUOTE, _BACKSLASH]
_ESCAPES = [orjson.dumps(chr(byte))[1:-1] for byte in _SPECIAL]
_ESCAPE_SIZES = np.array([len(escape) for escape in _ESCAPES])
_ESCAPE_NUMBER = np.zeros(256, np.int64)
_ESCAPE_NUMBER[_SPECIAL] = np.arange(len(_SPECIAL))
_ALL_ESCAPES = np.frombuffer(b"".join(_ESCAPES), np.uint8)


def escaped(texts: Any) -> Any:
    """
    Texts as they stand in JSON between quotes, to the byte as orjson writes them.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
        Without nulls.

    Returns
    -------
    pyarrow.LargeBinaryArray
    """
    _, bounds, memory = texts.buffers()
    edges = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(memory or b"", np.uint8)[edges[0] : edges[-1]]
    edges = edges - edges[0]
    mask, other = np.less(data, 0x20, out=scratch(len(data), bool)), scratch(len(data), bool)
    for byte in (_QUOTE, _BACKSLASH):
        mask |= np.equal(data, byte, out=other)
    special = np.flatnonzero(mask)
    if not len(special):
        return between(data, edges)
    number = _ESCAPE_NUMBER[data[special]]
    grown = np.concatenate([[0], np.cumsum(_ESCAPE_SIZES[number] - 1)])
    # What stays and what is special, in turns, and all escapes behind: of an Arrow column they are taken in order.
    pieces = np.empty(2 * len(special) + 2 + len(_ESCAPES), np.int64)
    ours = pieces[: 2 * len(special) + 2]
    ours[0], ours[1:-1:2], ours[2::2], ours[-1] = 0, special, special + 1, len(data)
    pieces[len(ours) :] = len(data) + np.cumsum(_ESCAPE_SIZES)
    order = np.arange(2 * len(special) + 1)
    order[1::2] = number + len(order)
    together = np.concatenate([data, _ALL_ESCAPES], out=scratch(len(data) + len(_ALL_ESCAPES)))
    written = between(together, pieces).take(pa.array(order)).buffers()[2]
    edges += grown[np.searchsorted(special, edges)]
    return between(written, edges)
