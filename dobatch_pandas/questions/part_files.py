"""The files that requests are in: written whole or not at all, compressed, read back, copied for a retry."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from dobatch_pandas.arrow.jsonl import Lines, blocks
from dobatch_pandas.arrow.keyset import HEX_DIGITS
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.endpoints import PROVIDERS
from dobatch_pandas.endpoints.provider import FileLimits

__all__ = [
    "START",
    "Filling",
    "HandedOn",
    "Part",
    "PartFiles",
    "compress_part",
    "copy_lines",
    "find_lines",
    "ids_of_part",
    "lines_of_part",
    "sync_folder",
]

START = b'{"custom_id":"'  # of every line of ours
READ_BYTES = 4_000_000
_SPECIAL = np.frombuffer(b'"\\', np.uint8)


@dataclass(frozen=True)
class Part:
    """One request file, whole on disk and synced; ``ids`` are those of its requests, in their order."""

    number: int
    path: Path
    requests: int
    bytes: int
    ids: pa.Array = field(repr=False, compare=False)


class Filling:
    """How full the file is that is being written."""

    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits
        self.requests = self.bytes = 0

    def runs(self, lengths: Any) -> Iterator[tuple[int, int, bool]]:
        """Yield which lines go into one file, and whether the next one begins after them; then `empty` is called."""
        start, ends = 0, np.cumsum(lengths)
        while start < len(ends):
            done = int(ends[start - 1]) if start else 0
            room = self._limits.bytes - self.bytes + done
            stop = min(
                int(np.searchsorted(ends, room, "right")), start + self._limits.requests - self.requests
            )
            stop = max(stop, start)
            self.requests += stop - start
            self.bytes += (int(ends[stop - 1]) if stop else 0) - done
            yield start, stop, stop < len(ends)
            start = stop

    def empty(self) -> None:
        """Begin the next file."""
        self.requests = self.bytes = 0


class HandedOn:
    """
    Takes lines as `PartFiles` does and hands them on at once, instead of writing them.

    Parameters
    ----------
    limits : FileLimits
        Of one file.
    on_lines : callable
        Called with lists of lines, without their newlines.

    Attributes
    ----------
    parts : int
        Files that there would be.
    """

    def __init__(self, limits: FileLimits, on_lines: Callable[[list[bytes]], None]) -> None:
        self._filling, self._on_lines = Filling(limits), on_lines
        self.parts = 0

    def write(self, lengths: Any, lines: Callable[[int, int], Any], ids: pa.Array) -> None:
        """Hand some lines on; the parameters are those of `PartFiles.write`."""
        for start, stop, full in self._filling.runs(lengths):
            if stop > start:
                self._on_lines(bytes(lines(start, stop)).split(b"\n")[:-1])
            if full:
                self.close()

    def close(self) -> None:
        """Count the last file."""
        self.parts += bool(self._filling.requests)
        self._filling.empty()


class PartFiles:
    """
    The file that is being written, and the next one when it is full.

    Parameters
    ----------
    directory : pathlib.Path
    limits : FileLimits
        Of one file.
    number : int
        Of the first file.
    on_part : callable, optional
        Called with each `Part` as it is complete, in the thread that calls `write` or `finish`.
    """

    def __init__(
        self, directory: Path, limits: FileLimits, number: int, on_part: Callable[[Part], None] | None
    ) -> None:
        self._directory, self._on_part = directory, on_part
        self._number, self._filling = number, Filling(limits)
        self._file: BinaryIO | None = None
        self._ids: list[pa.Array] = []
        # One block is on its way to the disk while the next one is rendered.
        self._disk = Threads(1, "dobatch-parts")
        self._written: Future[Any] | None = None

    def write(self, lengths: Any, lines: Callable[[int, int], Any], ids: pa.Array) -> None:
        """
        Write some lines, going on to the next file wherever one is full.

        Parameters
        ----------
        lengths : numpy.ndarray of int
            Of each line in bytes, newline included; none is above the limit.
        lines : callable
            ``lines(start, stop)`` returns those lines as one run of bytes, or a buffer.
        ids : pyarrow.Array of string
            Of each line.
        """
        for start, stop, full in self._filling.runs(lengths):
            if stop > start:
                block = lines(start, stop)
                if self._file is None:
                    self._file = open(self._path.with_suffix(".partial"), "wb")  # noqa: SIM115  closed by finish
                self._settle()
                self._written = self._disk.submit(self._file.write, block)
                self._ids.append(ids.slice(start, stop - start))
            if full:
                self.finish()

    def _settle(self) -> None:
        if self._written is not None:
            self._written.result()
            self._written = None

    @property
    def _path(self) -> Path:
        return self._directory / f"part-{self._number:05}.jsonl"

    def finish(self) -> None:
        """Let the file appear, and tell."""
        if self._file is None:
            return
        self._settle()
        os.chmod(self._file.name, 0o600)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path = self._path
        os.replace(self._file.name, path)
        self._file = None
        ids = pa.concat_arrays([piece.cast(pa.string()) for piece in self._ids])
        part = Part(self._number, path, self._filling.requests, self._filling.bytes, ids)
        self._number, self._ids = self._number + 1, []
        self._filling.empty()
        if self._on_part is not None:
            self._on_part(part)

    def close(self) -> None:
        """Complete the last file."""
        self.finish()
        self._disk.close()


def lines_of_part(path: Path) -> Iterator[bytes]:
    """Yield the lines of a part, compressed or not, without their newlines."""
    rest: list[bytes] = []
    with pa.input_stream(os.fspath(path), compression="detect") as stream:
        while block := stream.read(READ_BYTES):
            first, *lines = block.split(b"\n")
            rest.append(first)
            if lines:
                yield b"".join(rest)
                yield from lines[:-1]
                rest = lines[-1:]
    if any(rest):
        yield b"".join(rest)


def ids_of_part(path: Path) -> pa.Array:
    """Return the ids of a part's requests, in their order."""
    found = [pa.array([], pa.string())]
    with pa.input_stream(os.fspath(path), compression="detect") as stream:
        for block in blocks(stream, READ_BYTES):
            lines = Lines(block)
            made = _made_ids(lines)
            found.append(pa.array(map(_id_of, lines), pa.string()) if made is None else made)
    return pa.concat_arrays(found)


def find_lines(paths: Iterable[Path], ids: Collection[str]) -> dict[str, bytes]:
    """
    Return the request lines of some ids; an id that no part has is left out.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        Parts, compressed or not.
    ids : collection of str
    """
    left, found = set(ids), dict[str, bytes]()
    for path in paths:
        if not left:
            break
        for line in lines_of_part(path):
            name = _id_of(line)
            if name in left:
                found[name] = line
                left.discard(name)
                if not left:
                    break
    return found


def _made_ids(lines: Lines) -> pa.Array | None:
    """Read the ids of lines without a Python object a line; None where some are not like those made by us."""
    starts, _ = lines.bounds
    first = starts + len(START)
    data = np.frombuffer(lines.block, np.uint8)
    if not len(first) or first[-1] + HEX_DIGITS >= len(data):
        return None
    read = data[first[:, None] + np.arange(HEX_DIGITS + 1)]
    ids, quotes = read[:, :HEX_DIGITS], read[:, HEX_DIGITS]
    if (quotes != ord('"')).any() or np.isin(ids, _SPECIAL).any():
        return None
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * HEX_DIGITS
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(ids.tobytes()))


def _id_of(line: bytes) -> str:
    """Read the id at the start of a line of ours."""
    found = line[len(START) : line.index(b'"', len(START))]
    if b"\\" in found:
        return str(orjson.loads(line)["custom_id"])
    return found.decode()


def compress_part(path: Path) -> Path:
    """Replace a part by its compressed form, a fraction of the size, unless that is done; returns its path."""
    if path.suffix == ".zst" or not path.exists():
        return path
    target = path.with_name(path.name + ".zst")
    partial = target.with_name(target.name + ".partial")
    with open(path, "rb") as plain, pa.CompressedOutputStream(os.fspath(partial), "zstd") as packed:
        while block := plain.read(READ_BYTES):
            packed.write(block)
    os.chmod(partial, 0o600)
    with open(partial, "rb+") as written:
        os.fsync(written.fileno())
    os.replace(partial, target)
    # Never the last copy: the new one's name is on the disk before the old one goes.
    sync_folder(target.parent)
    path.unlink(missing_ok=True)
    return target


def sync_folder(folder: Path) -> None:
    """Return when a power cut cannot take away which files are in a folder."""
    if os.name == "nt":  # pragma: no cover  Windows opens no folders, and keeps its names by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_lines(
    paths: Sequence[Path],
    ids: pa.Array,
    directory: Path,
    recipe: Any,
    *,
    limits: FileLimits | None = None,
    first_part: int,
) -> list[Part]:
    """
    Write the requests of some ids anew, taken from the parts in which they were sent.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Parts, compressed or not.
    ids : pyarrow.Array of string
        Which requests; each is written once.
    directory : pathlib.Path
        Where the new parts go.
    recipe : Recipe
        Decides the limits.
    limits : FileLimits, optional
        Of one file; by default the provider's.
    first_part : int
        Number of the first new part.
    """
    written: list[Part] = []
    files = PartFiles(directory, limits or PROVIDERS[recipe.provider].file_limits, first_part, written.append)
    left = set(ids.to_pylist())
    held: list[bytes] = []
    names: list[str] = []

    def release() -> None:
        lengths = np.fromiter(map(len, held), np.int64, len(held))
        files.write(lengths, lambda start, stop: b"".join(held[start:stop]), pa.array(names, pa.string()))
        held.clear()
        names.clear()

    size = 0
    for path in paths:
        for line in lines_of_part(path):
            name = _id_of(line)
            if name not in left:
                continue
            left.discard(name)
            held.append(line + b"\n")
            names.append(name)
            size += len(line)
            if size >= READ_BYTES:
                release()
                size = 0
    release()
    files.close()
    return written
