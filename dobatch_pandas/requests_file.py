"""
Request lines: frozen rows become JSONL parts within the service's limits, one ``custom_id`` each.

An id is a 128-bit BLAKE2b hash of the request's body and the number of the sample, as 32 hex digits: equal
questions have equal ids, wherever and whenever they are asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .keyset import KeySet, keys_of
from .prompts import Column, Template
from .recipe import MEMBERS, Recipe

__all__ = [
    "DUPLICATE",
    "LIMITS",
    "REUSED",
    "SENT",
    "SKIPPED",
    "TOO_LARGE",
    "Limits",
    "Part",
    "RequestWriter",
    "compress_part",
    "copy_lines",
    "ids_of",
    "ids_of_part",
    "lines_of_part",
]

# Fates of a row.
SENT, DUPLICATE, REUSED, SKIPPED, TOO_LARGE = range(5)


@dataclass(frozen=True)
class Limits:
    """What one request file may hold: so many requests, so many bytes."""

    requests: int
    bytes: int


LIMITS = {"openai": Limits(50_000, 200_000_000), "anthropic": Limits(100_000, 200_000_000)}


@dataclass(frozen=True)
class Part:
    """One request file, whole on disk."""

    number: int
    path: Path
    requests: int
    bytes: int


class Renderer:
    """
    Turns frozen rows into request bodies.

    The body is compiled once into constant bytes and places; a row's values are encoded and put between.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._constants: list[bytes] = [b""]
        self._places: list[str] = []
        self._slots = recipe.slots
        self._compile(recipe.body)

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
        """Return the body of each row; a row with a null place must not be asked."""
        if not self._places:
            return [self._constants[0]] * frozen.num_rows
        encoded = {name: self._encoded(frozen[name]) for name in dict.fromkeys(self._places)}
        first, *between, last = self._constants
        if len(self._places) == 1:
            return [first + value + last for value in encoded[self._places[0]]]
        columns: list[Any] = []
        for name, constant in zip(self._places, [*between, last], strict=True):
            columns += [encoded[name], [constant] * frozen.num_rows]
        return [first + b"".join(values) for values in zip(*columns, strict=True)]

    def _encoded(self, values: pa.Array) -> list[bytes]:
        if pa.types.is_large_binary(values.type):
            return values.to_pylist()
        dumps = orjson.dumps
        return [dumps(value)[1:-1] for value in values.to_pylist()]


class RequestWriter:
    """
    Writes frozen rows as request files, each row once.

    Parameters
    ----------
    recipe : Recipe
    directory : pathlib.Path or None
        Where ``part-00000.jsonl`` and on appear, each whole; None writes nothing.
    limits : Limits, optional
        Of one file; by default the provider's.
    sent : KeySet, optional
        Requests that are in files already; those written are added.
    answered : KeySet, optional
        Requests that need not be sent because their answer is known.
    first_part : int
        Number of the first file.
    on_part : callable, optional
        Called with each `Part` as it is complete; may block until there is room for the next.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path | None,
        *,
        limits: Limits | None = None,
        sent: KeySet | None = None,
        answered: KeySet | None = None,
        first_part: int = 0,
        on_part: Callable[[Part], None] | None = None,
    ) -> None:
        self._recipe, self._renderer = recipe, Renderer(recipe)
        self._limits = limits or LIMITS[recipe.provider]
        self._sent = KeySet() if sent is None else sent
        self._answered = KeySet() if answered is None else answered
        self._file = _PartFile(directory, self._limits, first_part, on_part)
        self._own_ids = recipe.custom_id is not None
        self._repeats: dict[int, int] = {}
        if recipe.provider == "anthropic":
            self._middle, self._end = b'","params":', b"}\n"
        else:
            url = orjson.dumps(recipe.endpoint)
            self._middle, self._end = b'","method":"POST","url":' + url + b',"body":', b"}\n"

    def add(self, frozen: pa.RecordBatch) -> pa.RecordBatch:
        """
        Take some rows.

        Returns
        -------
        pyarrow.RecordBatch
            A row per row and sample, a row's samples side by side: ``custom_id``, null where there is nothing
            to ask, and ``fate``, int8: 0 sent, 1 equal to one that is sent, 2 answered before, 3 skipped for a
            missing value, 4 too large for any file.
        """
        samples = self._recipe.samples
        present = _present(frozen)
        kept = frozen if present is None else frozen.filter(present)
        bodies = self._renderer.bodies(kept)
        if samples > 1:
            bodies = [body for body in bodies for _ in range(samples)]
        ids = self._ids(kept, bodies)
        keys = keys_of(ids)
        fate = np.full(len(bodies), DUPLICATE, np.int8)
        overhead = len(b'{"custom_id":"') + len(self._middle) + len(self._end)
        sizes = np.fromiter(map(len, bodies), np.int64, len(bodies)) + overhead
        sizes += pc.binary_length(ids).to_numpy()
        large = sizes > self._limits.bytes
        fate[large] = TOO_LARGE
        known = self._answered.contains(keys) & ~large & ~self._sent.contains(keys)
        fate[known] = REUSED
        rest = np.flatnonzero(~large & ~known)
        first = rest[self._sent.add_new(keys[rest])]
        fate[first] = SENT
        self._write(ids, bodies, sizes, first)
        return _outcome(ids, fate, present, samples)

    def close(self) -> None:
        """Complete the last file."""
        self._file.finish()

    def _ids(self, kept: pa.RecordBatch, bodies: list[bytes]) -> pa.Array:
        samples = self._recipe.samples
        if self._own_ids:
            own = kept["custom_id"]
            if samples == 1:
                return own
            return pa.array(
                [f"{i}-{s + 1}" if s else i for i in own.to_pylist() for s in range(samples)], pa.string()
            )
        if samples == 1 and self._recipe.dedupe:
            return pa.array([blake2b(body, digest_size=16).hexdigest() for body in bodies], pa.string())
        ids = []
        for number, body in enumerate(bodies):
            turn = number % samples
            if not self._recipe.dedupe:
                # Equal rows are asked again, under ids of their own: the how-manieth it is counts as a sample.
                key = hash(body)
                turn += self._repeats.get(key, 0) * samples
                if number % samples == samples - 1:
                    self._repeats[key] = self._repeats.get(key, 0) + 1
            ids.append(blake2b(body, digest_size=16, salt=turn.to_bytes(16, "little")).hexdigest())
        return pa.array(ids, pa.string())

    def _write(self, ids: pa.Array, bodies: list[bytes], sizes: Any, chosen: Any) -> None:
        if not self._file.wanted or not len(chosen):
            return
        named = ids.take(pa.array(chosen)).to_pylist()
        quoted = [orjson.dumps(i)[1:-1] for i in named] if self._own_ids else [i.encode() for i in named]
        middle, end = self._middle, self._end
        lines = [
            b'{"custom_id":"' + name + middle + bodies[row] + end
            for name, row in zip(quoted, chosen.tolist(), strict=True)
        ]
        # Ids of the user's own may grow when they are quoted.
        lengths = np.fromiter(map(len, lines), np.int64, len(lines)) if self._own_ids else sizes[chosen]
        self._file.write(lines, lengths)


def _present(frozen: pa.RecordBatch) -> pa.Array | None:
    """Rows that have all they need; None where every row has."""
    if not any(column.null_count for column in frozen.columns):
        return None
    valid = [pc.is_valid(column) for column in frozen.columns]
    every = valid[0]
    for one in valid[1:]:
        every = pc.and_(every, one)
    return every


def _outcome(ids: pa.Array, fate: Any, present: pa.Array | None, samples: int) -> pa.RecordBatch:
    if present is None:
        return pa.record_batch({"custom_id": ids, "fate": pa.array(fate)})
    rows = np.repeat(present.to_numpy(zero_copy_only=False), samples)
    place = np.cumsum(rows) - 1
    whole = np.full(len(rows), SKIPPED, np.int8)
    whole[rows] = fate
    return pa.record_batch({"custom_id": ids.take(pa.array(place, mask=~rows)), "fate": pa.array(whole)})


class _PartFile:
    """The file that is being written, and the next ones when it is full."""

    def __init__(
        self, directory: Path | None, limits: Limits, number: int, on_part: Callable[[Part], None] | None
    ) -> None:
        self._directory, self._limits, self._on_part = directory, limits, on_part
        self._number, self._requests, self._bytes = number, 0, 0
        self._file: BinaryIO | None = None

    @property
    def wanted(self) -> bool:
        return self._directory is not None

    def write(self, lines: list[bytes], lengths: Any) -> None:
        """Write lines, going on to the next file wherever one is full."""
        start = 0
        ends = np.cumsum(lengths)
        while start < len(lines):
            done = int(ends[start - 1]) if start else 0
            room = self._limits.bytes - self._bytes + done
            fitting = min(
                int(np.searchsorted(ends, room, "right")), start + self._limits.requests - self._requests
            )
            if fitting > start:
                self._append(lines[start:fitting], int(ends[fitting - 1]) - done)
            if fitting < len(lines):
                self.finish()
            start = max(fitting, start)

    def _append(self, lines: list[bytes], size: int) -> None:
        if self._file is None:
            self._file = open(self._partial, "wb", buffering=0)  # noqa: SIM115  closed by finish, or with the process
        self._file.write(b"".join(lines))
        self._requests += len(lines)
        self._bytes += size

    @property
    def _path(self) -> Path:
        assert self._directory is not None
        return self._directory / f"part-{self._number:05}.jsonl"

    @property
    def _partial(self) -> Path:
        return self._path.with_suffix(".partial")

    def finish(self) -> None:
        """Let the file appear, and tell."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        os.replace(self._partial, self._path)
        part = Part(self._number, self._path, self._requests, self._bytes)
        self._number, self._requests, self._bytes = self._number + 1, 0, 0
        if self._on_part is not None:
            self._on_part(part)


def ids_of(frame: pd.DataFrame, recipe: Recipe) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """
    Return the ids of the requests that a frame's rows stand for, without writing anything.

    Returns
    -------
    ids : pyarrow.ChunkedArray of string
        ``len(frame) * recipe.samples`` of them, a row's samples side by side.
    fates : pyarrow.ChunkedArray of int8
        See `RequestWriter.add`.
    """
    writer = RequestWriter(recipe, None)
    blocks = [writer.add(frozen) for frozen in recipe.freeze(frame)]
    return (
        pa.chunked_array([block["custom_id"] for block in blocks], pa.string()),
        pa.chunked_array([block["fate"] for block in blocks], pa.int8()),
    )


# -- files that were written here


def lines_of_part(path: Path, size: int = 8_000_000) -> Iterator[bytes]:
    """Yield the lines of a part, compressed or not, without their newlines."""
    rest = b""
    with pa.input_stream(os.fspath(path), compression="detect") as stream:
        while block := stream.read(size):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    if rest:
        yield rest


def ids_of_part(path: Path) -> pa.Array:
    """Return the ids of a part's requests, in their order."""
    return pa.array([_id_of(line) for line in lines_of_part(path)], pa.string())


def _id_of(line: bytes) -> str:
    """Read the id at the start of a line of ours."""
    start = len(b'{"custom_id":"')
    end = line.index(b'"', start)
    found = line[start:end]
    if b"\\" in found:
        return str(orjson.loads(line)["custom_id"])
    return found.decode()


def compress_part(path: Path) -> Path:
    """Replace a part by its compressed form, a fraction of the size; returns its path."""
    target = path.with_name(path.name + ".zst")
    partial = target.with_name(target.name + ".partial")
    with open(path, "rb") as plain, pa.CompressedOutputStream(os.fspath(partial), "zstd") as packed:
        while block := plain.read(8_000_000):
            packed.write(block)
    os.replace(partial, target)
    path.unlink()
    return target


def copy_lines(
    paths: list[Path],
    ids: pa.Array,
    directory: Path,
    recipe: Recipe,
    *,
    limits: Limits | None = None,
    first_part: int,
) -> list[Part]:
    """
    Write the requests of some ids anew, taken from the parts in which they were sent.

    Parameters
    ----------
    paths : list of pathlib.Path
        Parts, compressed or not.
    ids : pyarrow.Array of string
        Which requests; each is written once.
    directory : pathlib.Path
        Where the new parts go.
    recipe : Recipe
        Decides the limits.
    limits : Limits, optional
        Of one file; by default the provider's.
    first_part : int
        Number of the first new part.
    """
    written: list[Part] = []
    target = _PartFile(directory, limits or LIMITS[recipe.provider], first_part, written.append)
    left = set(ids.to_pylist())
    for path in paths:
        held: list[bytes] = []
        for line in lines_of_part(path):
            name = _id_of(line)
            if name in left:
                left.discard(name)
                held.append(line + b"\n")
        target.write(held, np.fromiter(map(len, held), np.int64, len(held)))
    target.finish()
    return written
