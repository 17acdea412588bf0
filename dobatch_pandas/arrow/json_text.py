"""Columns of text as JSON writes it between quotes, and back, without a Python object a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from .columns import between, every_second, scratch

__all__ = ["escaped", "unescaped"]

_QUOTE, _BACKSLASH, _UNICODE, _STAYS = b'"\\u/'

# What stands for what after a backslash; 0 stands for nothing.
_PLAIN = np.zeros(256, np.uint8)
for _letter in b'"\\/bfnrt':
    _PLAIN[_letter] = ord(orjson.loads(b'"\\' + bytes([_letter]) + b'"'))
_PLAIN[_UNICODE] = _UNICODE

# What stands for a byte that cannot stand for itself; the texts of all of them end to end, and where each is.
_SPECIAL = [*range(0x20), _QUOTE, _BACKSLASH]
_ESCAPES = [orjson.dumps(chr(byte))[1:-1] for byte in _SPECIAL]
_ESCAPE_SIZES = np.array([len(escape) for escape in _ESCAPES])
_ESCAPE_NUMBER = np.zeros(256, np.int64)
_ESCAPE_NUMBER[_SPECIAL] = np.arange(len(_SPECIAL))
_ALL_ESCAPES = np.frombuffer(b"".join(_ESCAPES), np.uint8)

_NO_DIGIT = 255
_HEX = np.full(256, _NO_DIGIT, np.uint8)
for _number, _letter in enumerate(b"0123456789abcdef"):
    _HEX[_letter] = _HEX[bytes([_letter]).upper()[0]] = _number


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


def unescaped(texts: Any) -> tuple[Any, Any]:
    """
    Texts as they were before they were written as JSON.

    Parameters
    ----------
    texts : pyarrow.LargeBinaryArray
        What stands between the quotes, each with its closing quote. Has memory of its own, which is written to.

    Returns
    -------
    plain : pyarrow.LargeStringArray
        Whether it is UTF-8 is not looked at.
    bad : numpy.ndarray of int
        Texts that are not valid, or stand for no text (half a surrogate pair); where there are any, ``plain`` is
        of no use.
    """
    _, bounds, memory = texts.buffers()
    edges = np.frombuffer(bounds, np.int64)[: len(texts) + 1]
    data = np.frombuffer(memory, np.uint8)[: edges[-1]]
    closing = edges[1:] - 1
    mask = np.equal(data, _BACKSLASH, out=scratch(len(data), bool))
    mask[closing] = True
    # What goes: the backslashes that begin an escape, and the closing quotes.
    goes = _without_escaped(data, np.flatnonzero(mask))
    ends = np.flatnonzero(data[goes] == _QUOTE)
    before, after = goes[ends - 1], goes[:-1] + 1
    follows = data[after]
    # What follows a closing quote is the next text, and stays.
    begins = follows[ends[:-1]]
    follows[ends[:-1]] = _STAYS
    wrong = [np.flatnonzero((before == closing - 1) & (data[before] == _BACKSLASH))]
    np.equal(data, _QUOTE, out=mask)
    escaped_quotes = follows == _QUOTE
    if wrong[0].size or np.count_nonzero(mask) - np.count_nonzero(escaped_quotes) != len(closing):
        mask[after[escaped_quotes]] = mask[closing] = False
        wrong.append(_rows(edges, np.flatnonzero(mask)))
    if data.min() < 0x20:
        wrong.append(_rows(edges, np.flatnonzero(data < 0x20)))
    plain = _PLAIN[follows]
    if not plain.all():
        wrong.append(_rows(edges, goes[:-1][plain == 0]))
    coded = np.flatnonzero(follows == _UNICODE)
    length: Any = 1
    gone = ends + 1
    if len(coded):
        sizes, bad = _decode(data, goes[coded])
        length = np.ones(len(goes), np.int64)
        length[coded] = 6 - sizes
        gone = np.cumsum(length)[ends]
        wrong.append(_rows(edges, goes[coded[bad]]))
    plain[ends[:-1]] = begins
    data[after] = plain
    # What stays and what goes, in turns.
    pieces = scratch(2 * len(goes) + 1, np.int64)
    pieces[0], pieces[1::2] = 0, goes
    np.add(goes, length, out=pieces[2::2])
    kept = every_second(data, pieces).buffers()[2]
    offsets = edges.copy()
    offsets[1:] -= gone
    plain_texts = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), kept)
    return plain_texts, np.unique(np.concatenate(wrong))


def _without_escaped(data: Any, places: Any) -> Any:
    """Leave out of several backslashes in a row every second one, which is what the one before stands for."""
    near = np.flatnonzero(np.diff(places) == 1)
    near = near[(data[places[near]] == _BACKSLASH) & (data[places[near + 1]] == _BACKSLASH)]
    if not len(near):
        return places
    number = np.arange(len(places))
    first = number.copy()
    first[near + 1] = 0
    first = np.maximum.accumulate(first)  # of those in a row
    return places[(number - first) % 2 == 0]


def _rows(edges: Any, places: Any) -> Any:
    return np.searchsorted(edges, places, side="right") - 1


def _decode(data: Any, places: Any) -> tuple[Any, Any]:
    r"""
    Write the text of each ``\uXXXX`` over its last bytes.

    Returns
    -------
    sizes : numpy.ndarray of int
        How many bytes each has become; of a surrogate pair the first has all four.
    bad : numpy.ndarray of bool
        Those that are no code of four digits, or half a pair.
    """
    digits = _HEX[data[np.minimum(places[:, None] + np.arange(2, 6), len(data) - 1)]]
    bad = (digits == _NO_DIGIT).any(axis=1)
    codes = digits.astype(np.int64) @ np.array([1 << 12, 1 << 8, 1 << 4, 1])
    high, low = codes & 0xFC00 == 0xD800, codes & 0xFC00 == 0xDC00
    pairs = np.flatnonzero(high[:-1] & low[1:] & (np.diff(places) == 6))
    paired = np.zeros(len(codes), bool)
    paired[pairs] = paired[pairs + 1] = True
    bad |= (high | low) & ~paired
    codes[pairs] = 0x10000 + ((codes[pairs] & 0x3FF) << 10) + (codes[pairs + 1] & 0x3FF)
    sizes = np.searchsorted([0x80, 0x800, 0x10000], codes, side="right") + 1
    sizes[pairs + 1] = 0
    sizes[bad] = 5  # so that nothing but the backslash goes
    for size, lead in ((1, 0x00), (2, 0xC0), (3, 0xE0), (4, 0xF0)):
        chosen = np.flatnonzero((sizes == size) & ~bad)
        for byte in range(size):
            bits = codes[chosen] >> 6 * (size - 1 - byte)
            data[places[chosen] + 6 - size + byte] = bits & 0x3F | 0x80 if byte else bits | lead
    return sizes, bad
