"""
Request lines: frozen rows become JSONL parts within the service's limits, one ``custom_id`` each.

A body is compiled once into constant bytes and places for a row's values. Text is escaped for JSON as whole
columns, and columns and constants are joined by Arrow, not row by row.

An id is a 128-bit BLAKE2b hash of the request's body and the number of the sample, as 32 hex digits: equal
questions have equal ids, wherever and whenever they are asked.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.json_text import escaped
from dobatch_pandas.arrow.keyset import HEX_DIGITS, Keys, KeySet, keys_of, mixed
from dobatch_pandas.codes import Fate
from dobatch_pandas.endpoints import PROVIDERS
from dobatch_pandas.endpoints.provider import FileLimits

from .freeze import freeze
from .part_files import (
    START,
    HandedOn,
    Part,
    PartFiles,
)
from .prompts import MEMBERS, Column, Template
from .recipe import Recipe

__all__ = ["Renderer", "RequestWriter", "ids_of", "pieces_of", "side_by_side"]


_END = b"}\n"
BLOCK_BYTES = 2_000_000  # of rows that are rendered at once: what a core's cache holds until they are hashed


class RequestWriter:
    """
    Writes frozen rows as request lines, each row once: into files, or to whoever wants to see them.

    Parameters
    ----------
    recipe : Recipe
    directory : pathlib.Path or None
        Where ``part-00000.jsonl`` and on appear, each whole; None writes nothing.
    limits : FileLimits, optional
        Of one file; by default the provider's.
    sent : KeySet, optional
        Requests that are in files already; those written are added.
    answered : KeySet, optional
        Requests that need not be sent because their answer is known.
    first_part : int
        Number of the first file.
    on_part : callable, optional
        Called with each `Part` as it is complete; may block until there is room for the next.
    on_lines : callable, optional
        Without a directory: called with lists of lines.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path | None,
        *,
        limits: FileLimits | None = None,
        sent: KeySet | None = None,
        answered: KeySet | None = None,
        first_part: int = 0,
        on_part: Callable[[Part], None] | None = None,
        on_lines: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self._recipe, self._renderer = recipe, Renderer(recipe)
        provider = PROVIDERS[recipe.provider]
        self._limits = limits or provider.file_limits
        self._sent = KeySet() if sent is None else sent
        # Where nothing is written, nobody asks which of equal rows is the one that is sent.
        self._tells_repeats = not (sent is None and directory is None and on_lines is None)
        self._answered = KeySet() if answered is None else answered
        self._sink: PartFiles | HandedOn | None = None
        if directory is not None:
            self._sink = PartFiles(directory, self._limits, first_part, on_part)
        elif on_lines is not None:
            self._sink = HandedOn(self._limits, on_lines)
        self._own_ids = recipe.custom_id is not None
        self._met, self._repeats = KeySet(directory), dict[int, int]()
        # A line: START, the id, what follows it, what is of the row, and the end.
        self._follows, self._end = (
            provider.before_body(recipe.endpoint) + self._renderer.first,
            self._renderer.last + _END,
        )
        self._each = len(START) + len(self._follows) + len(self._end)
        # An id takes what all bodies begin with once, however long the instructions are.
        self._states = [_state(self._renderer.first, sample) for sample in range(recipe.samples)]

    def add(self, frozen: pa.RecordBatch) -> pa.RecordBatch:
        """
        Take some rows.

        Returns
        -------
        pyarrow.RecordBatch
            A row per row and sample, a row's samples side by side: ``custom_id``, null where there is
            nothing to ask, and ``fate``, int8: a `Fate`.
        """
        most = BLOCK_BYTES // self._recipe.samples
        each = self._each + sum(map(len, self._renderer.between))
        blocks = [self._add(piece) for piece in pieces_of(frozen, most, each)]
        if len(blocks) == 1:
            return blocks[0]
        return pa.Table.from_batches(blocks).combine_chunks().to_batches()[0]

    @property
    def parts(self) -> int:
        """Files that the lines handed on so far would fill."""
        return self._sink.parts if isinstance(self._sink, HandedOn) else 0

    def close(self) -> None:
        """Complete the last file."""
        if self._sink is not None:
            self._sink.close()

    def _add(self, frozen: pa.RecordBatch) -> pa.RecordBatch:
        samples = self._recipe.samples
        present = _present(frozen)
        kept = frozen if present is None else frozen.filter(present)
        rows = self._renderer.middles(kept)
        if samples > 1:
            rows = rows.take(pa.array(np.repeat(np.arange(len(rows)), samples)))
        ids, names, keys = self._owned(kept) if self._own_ids else self._made(rows)
        sizes = pc.add(pc.binary_length(rows), pc.binary_length(names)).to_numpy() + self._each
        fate = np.full(len(rows), Fate.DUPLICATE, np.int8)
        large = sizes > self._limits.bytes
        fate[large] = Fate.TOO_LARGE
        known = large
        if len(self._answered):
            reused = self._answered.contains(keys) & ~large & ~self._sent.contains(keys)
            fate[reused] = Fate.REUSED
            known = large | reused
        rest = np.flatnonzero(~known)
        chosen = rest[self._sent.add_new(keys[rest])] if self._tells_repeats else rest
        fate[chosen] = Fate.SENT
        if self._sink is not None and len(chosen):
            if len(chosen) < len(rows):
                picked = pa.array(chosen)
                rows, names = rows.take(picked), names.take(picked)
            self._sink.write(
                sizes[chosen],
                lambda start, stop: self._lines(names[start:stop], rows[start:stop]),
                ids if len(chosen) == len(ids) else ids.take(pa.array(chosen)),
            )
        return _outcome(ids, fate, present, samples)

    def _lines(self, names: pa.LargeBinaryArray, rows: pa.LargeBinaryArray) -> memoryview:
        """The lines, end to end."""
        lines = side_by_side([START, names, self._follows, rows, self._end])
        _, bounds, data = lines.buffers()
        edges = np.frombuffer(bounds, np.int64)[lines.offset : lines.offset + len(lines) + 1]
        return memoryview(data.slice(edges[0], edges[-1] - edges[0]))

    def _owned(self, kept: pa.RecordBatch) -> tuple[pa.Array, pa.LargeBinaryArray, Keys]:
        """The user's ids, as they stand in a line, and their keys."""
        ids, samples = kept["custom_id"], self._recipe.samples
        if samples > 1:
            ids = pa.array(
                [f"{i}-{s + 1}" if s else i for i in ids.to_pylist() for s in range(samples)], pa.string()
            )
        return ids, escaped(ids.cast(pa.large_string())), keys_of(ids)

    def _made(self, middles: pa.LargeBinaryArray) -> tuple[pa.Array, pa.LargeBinaryArray, Keys]:
        """Ids that follow from what is asked, as they stand in a line, and their keys."""
        rows = middles.to_numpy(zero_copy_only=False).tolist()
        digests = [b""] * len(rows)
        for sample, state in enumerate(self._states):
            mine = slice(sample, None, self._recipe.samples)
            digests[mine] = _digests(state, rows[mine], self._renderer.last)
        if not self._recipe.dedupe:
            self._tell_apart(rows, digests)
        digits = binascii.hexlify(b"".join(digests))
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * HEX_DIGITS
        ids = pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(digits))
        return ids, ids.cast(pa.large_string()).view(pa.large_binary()), keys_of(ids)

    def _tell_apart(self, rows: list[bytes], digests: list[bytes]) -> None:
        """Give equal rows ids of their own: the how-manieth it is counts as further samples."""
        samples = self._recipe.samples
        keys = mixed(np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2))
        for number in np.flatnonzero(~self._met.add_new(keys)).tolist():
            key = int(keys[number])
            self._repeats[key] = self._repeats.get(key, 0) + 1
            state = _state(self._renderer.first, number % samples + self._repeats[key] * samples)
            [digests[number]] = _digests(state, [rows[number]], self._renderer.last)


def pieces_of(frozen: pa.RecordBatch, most_bytes: int, each: int = 0) -> Iterator[pa.RecordBatch]:
    """
    Cut rows into runs of about so many bytes, a longer row by itself; no rows are one run.

    `each` is how many bytes every row takes beyond its values.
    """
    lengths = np.full(frozen.num_rows, each, np.int64)
    for column in frozen.columns:
        if not pa.types.is_boolean(column.type):
            lengths += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    start = 0
    while start < frozen.num_rows or not start:
        done = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, done + most_bytes, "right")), start + 1)
        yield frozen.slice(start, stop - start)
        start = stop


def _state(first: bytes, sample: int) -> blake2b:
    return blake2b(first, digest_size=16, salt=sample.to_bytes(16, "little"))


def _digests(state: blake2b, rows: list[bytes], last: bytes) -> list[bytes]:
    """Digests of bodies that begin with what `state` has taken."""
    digests = []
    for row in rows:
        one = state.copy()
        one.update(row + last)
        digests.append(one.digest())
    return digests


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
    whole = np.full(len(rows), Fate.SKIPPED, np.int8)
    whole[rows] = fate
    return pa.record_batch({"custom_id": ids.take(pa.array(place, mask=~rows)), "fate": pa.array(whole)})


def ids_of(
    frame: pd.DataFrame, recipe: Recipe, known: dict[bytes, pa.RecordBatch] | None = None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """
    Return the ids of the requests that a frame's rows stand for, without writing anything.

    Parameters
    ----------
    frame : pandas.DataFrame
    recipe : Recipe
    known : dict, optional
        What this has found before for the same recipe, by a hash of the rows' values: rows that still say the same
        are not worked out again. It is brought up to date.

    Returns
    -------
    ids : pyarrow.ChunkedArray of string
        ``len(frame) * recipe.samples`` of them, a row's samples side by side.
    fates : pyarrow.ChunkedArray of int8
        See `RequestWriter.add`; repeats are not told apart.
    """
    writer = RequestWriter(recipe, None)
    # Where equal rows have ids of their own, an id depends on the rows before it too.
    before = known if known is not None and recipe.dedupe else None
    found: dict[bytes, pa.RecordBatch] = {}
    blocks = []
    for frozen in freeze(recipe, frame):
        mark = b"" if before is None else blake2b(frozen.serialize()).digest()
        block = found[mark] = before[mark] if before and mark in before else writer.add(frozen)
        blocks.append(block)
    if before is not None:
        before.clear()
        before.update(found)
    return (
        pa.chunked_array([block["custom_id"] for block in blocks], pa.string()),
        pa.chunked_array([block["fate"] for block in blocks], pa.int8()),
    )


class Renderer:
    """
    Turns rows that `freeze` made into request bodies.

    Attributes
    ----------
    first, last : bytes
        What every body begins and ends with: the instructions, as a rule, and the parameters.
    between : list of bytes
        What stands between the places for a row's values.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._constants: list[bytes] = [b""]
        self._places: list[str] = []
        self._slots = recipe.slots
        self._compile(recipe.body)
        self.first, *self.between, self.last = self._constants if self._places else [*self._constants, b""]

    def _compile(self, value: Any) -> None:
        if isinstance(value, dict):
            self._say(b"{")
            for number, (key, inner) in enumerate(value.items()):
                self._say(b"," if number else b"")
                if key is MEMBERS:
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
        """Return the body of each row; no place may be null."""
        found: list[bytes] = side_by_side([self.first, self.middles(frozen), self.last]).to_pylist()
        return found

    def middles(self, frozen: pa.RecordBatch) -> pa.LargeBinaryArray:
        """Return what stands between `first` and `last` in the body of each row; no place may be null."""
        if not self._places:
            return pa.array([b""] * frozen.num_rows, pa.large_binary())
        columns = []
        for name, constant in zip(self._places, [*self.between, b""], strict=True):
            column = frozen[name]
            # Other columns are JSON already.
            columns += [escaped(column) if pa.types.is_large_string(column.type) else column, constant]
        return side_by_side(columns)


def side_by_side(columns: list[pa.LargeBinaryArray | bytes]) -> pa.LargeBinaryArray:
    """Join columns and constants, row by row; one of them is a column, and no value is null."""
    kept = [column for column in columns if not isinstance(column, bytes) or column]
    if len(kept) == 1:
        return kept[0]
    constants = [pa.scalar(one, pa.large_binary()) if isinstance(one, bytes) else one for one in kept]
    return pc.binary_join_element_wise(*constants, pa.scalar(b"", pa.large_binary()))
