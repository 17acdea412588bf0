"""
Lines of JSON as Arrow columns, without a Python object a line.

Lines end at ``\\n`` and nowhere else: U+2028, ``\\f`` and their kin are text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json as pj

from .columns import scratch

__all__ = ["Lines", "blocks", "is_utf8", "load", "mended", "opened", "parsed"]

_NEWLINE = ord("\n")
_BLANK = b" \t\r\f\v\0"  # NULs stand where a file was given its size before its bytes
_SPACES = np.frombuffer(_BLANK, dtype=np.uint8)
_BOM = b"\xef\xbb\xbf"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
_LAYERS = 3  # of packing
_FOREIGN = {b"PK\x03\x04": "a zip archive", b"\xfd7zX": "packed with xz", b"7z\xbc\xaf": "a 7z archive"}
# Where a file is not UTF-8, by its mark or by where the zeros of its first character are.
_CODINGS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_ZEROS: dict[tuple[int, ...], str] = {
    (1, 0, 0, 0): "utf-32-le",
    (0, 0, 0, 1): "utf-32-be",
    (1, 0, 1, 0): "utf-16-le",
    (0, 1, 0, 1): "utf-16-be",
}
_BETWEEN = (
    " \t\r\n\f\v\0,[]\x1e\ufeff\xa0"  # what may stand around values: of an array, or of files glued together
)
_ROW = re.compile(r" in row (\d+)")
_FEW = 64  # lines that are read one by one rather than looked at again


def opened(source: str | os.PathLike[str]) -> Any:
    """
    A binary stream of a file's lines: unpacked where its first bytes say that it is packed, and UTF-8.

    PowerShell's ``>`` writes UTF-16, and a download may have lost the ending that told how it is packed, or be packed once
    more than the file was. Raises OSError where it is packed in a way that is not read.
    """
    layers: list[str] = []
    while True:
        with _unpacked(source, layers) as stream:
            first = stream.read(4)
        for magic, what in _FOREIGN.items():
            if first.startswith(magic):
                raise OSError(f"it is {what}: unpack it first")
        packed = next((kind for magic, kind in _PACKED.items() if first.startswith(magic)), None)
        if packed is None:
            break
        if len(layers) == _LAYERS:
            raise OSError(f"it is packed more than {_LAYERS} times: unpack it first")
        layers.append(packed)
    coding = next((name for mark, name in _CODINGS.items() if first.startswith(mark)), None)
    coding = coding or _ZEROS.get(tuple(int(byte > 0) for byte in first))
    stream = _unpacked(source, layers)
    return stream if coding is None else pa.transcoding_input_stream(stream, coding, "utf-8")


def _unpacked(source: str | os.PathLike[str], layers: list[str]) -> Any:
    stream: Any = pa.OSFile(os.fspath(source))
    for kind in layers:
        stream = pa.CompressedInputStream(stream, kind)
    return stream


def blocks(stream: Any, size: int) -> Iterator[Any]:
    """
    Whole lines of a binary stream, about ``size`` bytes at a time; one line may be longer than that.

    A byte order mark at the start is dropped. Each block is a `pyarrow.Buffer` of its own.
    """
    rest = b""
    begun = False
    while True:
        # A line that is longer than all read so far: twice as much, not ever the same little.
        wanted = max(size, len(rest))
        buffer = pa.allocate_buffer(len(rest) + wanted)
        view = memoryview(buffer).cast("B")
        view[: len(rest)] = rest
        filled = len(rest)
        while filled < len(view) and (read := stream.readinto(view[filled:])):
            filled += read
        start = 0
        if not begun and filled:
            begun, start = True, len(_BOM) if view[: len(_BOM)] == _BOM else 0
        ended = filled < len(view)
        cut = filled if ended else _last_newline(view, start) + 1
        if cut > start:
            yield buffer.slice(start, cut - start)
        if ended:
            return
        rest = bytes(view[max(cut, start) : filled])


def _last_newline(view: memoryview, start: int) -> int:
    """Where the last newline stands, or -1."""
    window, end = 1 << 12, len(view)
    while end > start:
        begin = max(start, end - window)
        found = bytes(view[begin:end]).rfind(b"\n")
        if found >= 0:
            return begin + found
        end, window = begin, window * 4
    return -1


def load(line: bytes) -> tuple[list[Any], bool]:
    """
    Every JSON value of one line, and whether something that is not JSON follows them.

    There should be one. Two stand there where files were glued together that did not end in a newline, or where they
    are the items of an array. What
    only a strict reader minds (half of a surrogate pair, bytes that are no UTF-8, control characters)
    costs the characters concerned, not the line.
    """
    try:
        value = orjson.loads(line)
        return value if isinstance(value, list) else [value], False
    except orjson.JSONDecodeError:
        pass
    text = line.decode("utf-8", "replace")
    decoder = json.JSONDecoder(strict=False, parse_int=_whole)
    values: list[Any] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if at == len(text):
            return values, False
        try:
            value, at = decoder.raw_decode(text, at)
            values.append(mended(value))
        except (ValueError, RecursionError):
            return values, True


def is_utf8(line: bytes) -> bool:
    """Whether every byte of a line belongs to a character."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whole(digits: str) -> int | float:
    """A whole number; as a float where it does not fit 64 bits, as orjson has it."""
    return int(digits) if len(digits) <= 20 and -(2**63) <= int(digits) < 2**64 else float(digits)


def mended(value: Any) -> Any:
    """A JSON value whose texts are fit for UTF-8: half a surrogate pair becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return value


class Lines:
    """
    The lines of a block that are not blank.

    Parameters
    ----------
    block : pyarrow.Buffer
    bounds : pair of numpy.ndarray, optional
        Where each line begins and ends, where that is not at newlines.
    """

    def __init__(self, block: Any, bounds: tuple[Any, Any] | None = None) -> None:
        self.block = block
        self._view = memoryview(block).cast("B")
        self._data = np.frombuffer(block, dtype=np.uint8)
        self._given = bounds

    @cached_property
    def bounds(self) -> tuple[Any, Any]:
        """Where each line begins and ends, its newline not included."""
        if self._given is not None:
            return self._given
        data = self._data
        ends = _newlines(data)
        if not len(data) or data[-1] != _NEWLINE:
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1] + 1])
        filled = ends > starts
        opening = data[np.where(filled, starts, 0)] if len(data) else data
        for i in np.flatnonzero(filled & np.isin(opening, _SPACES)):
            filled[i] = bool(bytes(self._view[starts[i] : ends[i]]).strip(_BLANK))
        for i in np.flatnonzero(filled & (opening == _BOM[0])):
            # Files that were glued together, each with its own mark.
            starts[i] += len(_BOM) * (bytes(self._view[starts[i] : starts[i] + len(_BOM)]) == _BOM)
            filled[i] = starts[i] < ends[i]
        return starts[filled], ends[filled]

    def head(self, number: int) -> Iterator[bytes]:
        """The first lines, found without looking for all."""
        at, size = 0, self.block.size
        while number and at < size:
            end, window = -1, 1 << 12
            while end < 0 and at + window // 4 < size:
                found = bytes(self._view[at : at + window]).find(b"\n")
                end, window = at + found if found >= 0 else -1, window * 4
            end = size if end < 0 else end
            yield bytes(self._view[at:end])
            at, number = end + 1, number - 1

    @property
    def plain(self) -> bool:
        """Whether every line looks like one object: it begins and ends with its braces."""
        starts, ends = self.bounds
        if not len(starts):
            return True
        last = self._data[ends - 1]
        for i in np.flatnonzero(np.isin(last, _SPACES)):
            last[i] = (bytes(self._view[starts[i] : ends[i]]).rstrip(_BLANK) or b" ")[-1]
        return bool((self._data[starts] == ord("{")).all() and (last == ord("}")).all())

    def __len__(self) -> int:
        return len(self.bounds[0])

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> bytes:
        starts, ends = self.bounds
        return bytes(self._view[starts[i] : ends[i]])

    def between(self, start: int, stop: int) -> Lines:
        """Some of the lines, of the same block."""
        starts, ends = self.bounds
        return Lines(self.block, (starts[start:stop], ends[start:stop]))

    def stretch(self, start: int, stop: int) -> Any:
        """The bytes of lines ``start`` to ``stop``, not copied."""
        starts, ends = self.bounds
        begin = int(starts[start])
        return self.block.slice(begin, int(ends[stop - 1]) - begin)


def _newlines(data: Any) -> Any:
    """Where newlines are. To step over eight other bytes at once takes a quarter of the time of `numpy.flatnonzero`."""
    mask = np.equal(data, _NEWLINE, out=scratch(len(data), bool))
    whole = len(mask) // 8 * 8
    words = mask[:whole].view(np.uint64)
    some = np.flatnonzero(words != 0)
    within = np.flatnonzero(words[some].view(bool))
    return np.append(some[within >> 3] * 8 + (within & 7), np.flatnonzero(mask[whole:]) + whole)


def parsed(lines: Lines, schema: Any, *, unexpected: str = "ignore") -> Iterator[tuple[int, int, Any | None]]:
    """
    Stretches of lines, each as a table with a row a line, or None where the lines must be read one by one.

    Parameters
    ----------
    lines : Lines
    schema : pyarrow.Schema
        What is read.
    unexpected : {"ignore", "error"}
        What fields outside the schema are: passed over, or a reason to read the line by itself.

    Yields
    ------
    start, stop, table
        Lines ``start`` to ``stop`` (exclusive), in order and without gaps.
    """

    def read(data: Any) -> Any:
        return _read(data, schema, unexpected)

    try:
        # The common path: all at once.
        table = read(lines.block)
    except pa.ArrowInvalid:
        table = None
    # As many rows as lines may be two objects on one line and one over two: then lines and rows are not the same.
    if table is not None and len(lines) == table.num_rows and lines.plain:
        yield 0, table.num_rows, table
        return
    yield from _search(lines, 0, len(lines), read)


def _search(
    lines: Lines, start: int, stop: int, read: Callable[[Any], Any]
) -> Iterator[tuple[int, int, Any | None]]:
    """Find the lines that Arrow cannot read, and read the rest in stretches as long as can be."""
    singly = _FEW // 2
    while start < stop:
        if stop - start <= _FEW:
            yield start, stop, None
            return
        failed_at: int | None = None
        try:
            table = read(lines.stretch(start, stop))
            if table.num_rows == stop - start and lines.between(start, stop).plain:
                yield start, stop, table
                return
        except pa.ArrowInvalid as error:
            found = _ROW.search(str(error))
            failed_at = start + int(found[1]) if found else None
        if failed_at is None or failed_at >= stop:
            middle = (start + stop) // 2
            yield from _search(lines, start, middle, read)
            start = middle
            continue
        if failed_at > start:
            yield from _search(lines, start, failed_at, read)
        # Where bad lines stand close, every call would find only the next one.
        singly = min(singly * 2, 8192) if failed_at - start < 4 * _FEW else _FEW // 2
        resume = min(failed_at + singly, stop)
        yield failed_at, resume, None
        start = resume


def _read(data: Any, schema: Any, unexpected: str) -> Any:
    if bytes(memoryview(data).cast("B")[:1]) != b"{":
        # Arrow's reader follows a null pointer where a block begins with `null` (apache/arrow#47409).
        raise pa.ArrowInvalid("JSON parse error: no object in row 0")
    return pj.read_json(
        pa.BufferReader(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=data.size + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )
