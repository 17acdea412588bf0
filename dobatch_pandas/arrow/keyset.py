"""
Which requests have been seen: 64-bit keys in sorted numpy arrays, eight bytes each.

Many of them lie on disk, and are mapped into memory while they are looked through.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .threads import Threads

__all__ = ["HEX_DIGITS", "KeySet", "Keys", "Places", "keys_of", "let_go", "mapped", "mixed"]

Keys = npt.NDArray[np.uint64]

HEX_DIGITS = 32  # length of an id made by us
HELD = (
    1 << 20
)  # keys of a run that are held in memory; one that is longer lies on disk, and is merged in such pieces

LONG = 10_000  # ids that take longer to sort than a thread to start

_ODD = np.uint64(0x9E3779B97F4A7C15)


class KeySet:
    """
    A set of 64-bit keys that only grows.

    Keys stand for 128-bit ids. Two of ten million ids share a key with a chance of one in
    400,000; the second of such a pair is taken for a repeat and ends as ``missing_result``.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Where many keys are put, in files that have no name and are gone with the process; else all are held in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        # Each run is sorted and more than twice as long as the next, so that a look-up takes few searches.
        self._runs: list[Keys] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Say of each key whether it is in the set."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            place = np.searchsorted(run, keys)
            place[place == len(run)] = 0
            found |= run[place] == keys
            let_go(run)
        return found

    def add_new(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Add keys, and say of each whether it is the first of its value."""
        run = np.sort(keys)
        if not (run[1:] == run[:-1]).any() and not self.contains(run).any():
            # Nothing but new keys is the rule, and finding out where each stood is what takes the time.
            is_first = np.ones(len(keys), bool)
        else:
            unique, first = np.unique(keys, return_index=True)
            new = ~self.contains(unique)
            is_first = np.zeros(len(keys), bool)
            is_first[first[new]] = True
            run = unique[new]
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = self._merged(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)
        return is_first

    def without(self, other: KeySet) -> Iterator[Keys]:
        """Yield the keys that another set does not have, some at a time."""
        for run in self._runs:
            for start in range(0, len(run), HELD):
                keys = run[start : start + HELD]
                yield keys[~other.contains(keys)]

    def _merged(self, one: Keys, other: Keys) -> Keys:
        if self._folder is None or len(one) + len(other) <= HELD:
            return _merge(one, other)
        return mapped((_merge(*pair) for pair in _side_by_side(one, other)), self._folder)


def mapped(pieces: Iterable[Keys], folder: Path) -> Keys:
    """Return some keys, one after the other, from a file without a name."""
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)
        file.flush()
        if not file.tell():  # nothing cannot be mapped
            return np.empty(0, np.uint64)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint64)


def let_go(keys: Keys) -> None:
    """Have keys that lie on disk take no memory until they are looked at again, which costs a millisecond for ten million."""
    base: Any = keys
    while isinstance(base, np.ndarray):
        base = base.base
    on_disk = getattr(base, "obj", None)  # of the view of bytes that numpy was given
    if isinstance(on_disk, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        on_disk.madvise(mmap.MADV_DONTNEED)


def _merge(one: Keys, other: Keys) -> Keys:
    # A stable sort of two sorted halves is a merge.
    return np.sort(np.concatenate([one, other]), kind="stable")


def _side_by_side(one: Keys, other: Keys) -> Iterator[tuple[Keys, Keys]]:
    """Yield two sorted runs in pieces that are merged each by itself."""
    done = 0
    for start in range(0, len(one), HELD):
        piece = one[start : start + HELD]
        last = start + HELD >= len(one)
        upto = len(other) if last else int(np.searchsorted(other, piece[-1], "right"))
        yield piece, other[done:upto]
        let_go(one)
        let_go(other)
        done = upto


class Places:
    """
    Where ids stand in a list of ids, for those who ask again and again.

    Parameters
    ----------
    ids : pyarrow.Array of string
        Without nulls, each of them once.
    """

    def __init__(self, ids: Any) -> None:
        self._ids = ids.cast(pa.string())
        self._keys, self._order = _sorted_keys(self._ids)

    def of(self, ids: Any) -> npt.NDArray[np.int64]:
        """Return the place of each id of a column without nulls, -1 where it has none."""
        ids = pa.concat_arrays(ids.chunks) if isinstance(ids, pa.ChunkedArray) else ids
        return self._of(ids, *_sorted_keys(ids))

    @classmethod
    def among(cls, others: Any, ids: Any) -> npt.NDArray[np.int64]:
        """Return ``cls(others).of(ids)``; of two long arrays one is sorted beside the other."""
        if len(others) + len(ids) < LONG:
            return cls(others).of(ids)
        with Threads(1, "dobatch-places") as pool:
            keys = pool.submit(_sorted_keys, ids)
            return cls(others)._of(ids, *keys.result())

    def _of(self, ids: Any, keys: Keys, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not len(self._ids) or not len(ids):
            return np.full(len(ids), -1)
        found = np.empty(len(keys), np.int64)
        if np.array_equal(keys, self._keys):
            found[order] = self._order
        else:
            # Looked up in their order, neighbours are found in the same cache lines.
            at = np.searchsorted(self._keys, keys)
            at[at == len(self._keys)] = 0
            found[order] = self._order[at]
        same = pc.equal(self._ids.take(pa.array(found)), ids).to_numpy(zero_copy_only=False)
        return np.where(same, found, -1)


def _sorted_keys(ids: Any) -> tuple[Keys, npt.NDArray[np.int64]]:
    keys = keys_of(ids)
    order = np.argsort(keys)
    return keys[order], order


def keys_of(ids: Any) -> Keys:
    """
    Return the key of each id.

    Parameters
    ----------
    ids : pyarrow.Array of string
        Without nulls. Those as long as ids made by us are read as four numbers; others are hashed.
    """
    ids = ids.cast(pa.string())
    long = pc.equal(pc.binary_length(ids), HEX_DIGITS).to_numpy(zero_copy_only=False)
    keys = np.empty(len(ids), np.uint64)
    ours = ids if long.all() else ids.filter(pa.array(long))
    if len(ours):
        start = np.frombuffer(ours.buffers()[1], np.int32)[ours.offset]
        digits = np.frombuffer(ours.buffers()[2], np.uint8)[start : start + HEX_DIGITS * len(ours)]
        keys[long] = mixed(digits.view(np.uint64).reshape(len(ours), -1))
    if len(ours) < len(ids):
        others = ids.filter(pa.array(~long)).to_pylist()
        hashed = b"".join(blake2b(id.encode(), digest_size=8).digest() for id in others)
        keys[~long] = np.frombuffer(hashed, np.uint64)
    return keys


def mixed(words: npt.NDArray[np.uint64]) -> Keys:
    """
    Return one key for each row of numbers.

    Rows that differ in a single number never share a key: ids that users make (counters, UUIDs by time) differ
    in few characters. Each step is a multiplication by an odd number and a shift, as in Fibonacci hashing.
    """
    keys = np.zeros(len(words), np.uint64)
    for column in words.T:
        keys += column
        keys *= _ODD
        keys ^= keys >> np.uint64(32)
    return keys
