"""A set of keys behaves as Python's own, in eight bytes a key."""

from __future__ import annotations

import mmap
import uuid
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.arrow import keyset
from dobatch_pandas.arrow.keyset import KeySet, Places, keys_of

KEYS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20), max_size=30)


def array(keys: list[int]):
    return np.array(keys, np.uint64)


@settings(max_examples=200)
@given(batches=st.lists(KEYS, max_size=8), asked=KEYS, on_disk=st.booleans())
def test_it_is_a_set(tmp_path, monkeypatch, batches, asked, on_disk):
    """
    Whatever is added in whatever batches, each value is new once, and found from then on; in memory as on disk.
    """
    monkeypatch.setattr(keyset, "HELD", 4)
    mine, pythons = KeySet(tmp_path if on_disk else None), set[int]()
    for batch in batches:
        expected = []
        for key in batch:
            expected.append(key not in pythons)
            pythons.add(key)
        assert mine.add_new(array(batch)).tolist() == expected
        assert len(mine) == len(pythons)
        assert mine.contains(array(batch)).all()
    assert mine.contains(array(asked)).tolist() == [key in pythons for key in asked]
    other = KeySet()
    other.add_new(array(asked))
    assert sorted(key for keys in mine.without(other) for key in keys.tolist()) == sorted(pythons - {*asked})
    assert not list(tmp_path.iterdir())  # where a process dies, nothing is left


def test_it_takes_eight_bytes_a_key_and_few_runs():
    """
    A million keys in a thousand batches are searched in a handful of places.
    """
    keys = np.random.default_rng(1).permutation(1_000_000).astype(np.uint64)
    found = KeySet()
    for batch in np.split(keys, 1000):
        assert found.add_new(batch).all()

    assert len(found) == 1_000_000
    assert sum(run.nbytes for run in found._runs) == 8_000_000
    assert len(found._runs) < 15
    assert not found.add_new(keys).any()


@given(st.lists(st.text(max_size=40) | st.uuids().map(lambda id: id.hex), max_size=20), st.integers(0, 5))
def test_a_key_depends_on_nothing_but_its_id(ids, start):
    """
    Ids of any kind side by side, in any slice of an array, and of either Arrow type.
    """
    alone = [int(keys_of(pa.array([id], pa.string()))[0]) for id in ids]

    for kind in (pa.string(), pa.large_string()):
        assert keys_of(pa.array(ids, kind)).tolist() == alone
        assert keys_of(pa.array(ids, kind).slice(start)).tolist() == alone[start:]


def _mapped_now():
    """How many bytes of files without a name are in memory."""
    sizes, deleted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            deleted = line.endswith("(deleted)")
        elif deleted and line.startswith("Rss:"):
            sizes += int(line.split()[1]) * 1024
    return sizes


def test_with_a_folder_most_keys_lie_on_disk(tmp_path):
    """
    Of millions of keys a process holds no more than of one.
    """
    keys = np.random.default_rng(1).permutation(3_000_000).astype(np.uint64)
    found = KeySet(tmp_path)
    for batch in np.split(keys, 100):
        assert found.add_new(batch).all()

    on_disk = [run for run in found._runs if isinstance(getattr(run.base, "obj", None), mmap.mmap)]
    assert sum(map(len, on_disk)) >= len(keys) - 2 * keyset.HELD
    if Path("/proc/self/smaps").exists():
        found.contains(keys[:1000])
        assert _mapped_now() < sum(run.nbytes for run in on_disk) / 10
    assert all((run[1:] > run[:-1]).all() for run in found._runs)
    assert not found.add_new(keys).any()


def test_ids_that_differ_in_little_have_keys_of_their_own():
    """
    Counters at either end, UUIDs by time, and upper case.
    """
    made = [blake2b(str(n).encode(), digest_size=16).hexdigest() for n in range(20_000)]
    ids = [
        *(f"{n:032x}" for n in range(20_000)),
        *(f"{n:016x}{0:016x}" for n in range(1, 20_000)),
        *(f"{n:016x}{n:016x}" for n in range(1, 20_000)),
        *(f"{n:08d}{n:08d}{n:08d}{n:08d}" for n in range(1, 20_000)),
        *(f"{'x' * (n % 8)}{n:08d}{'x' * (24 - n % 8)}" for n in range(20_000)),
        *(uuid.uuid1(node=1).hex for _ in range(1000)),
        *(f"row-{n}" for n in range(20_000)),
        *made,
        *(id.upper() for id in made),
    ]
    assert len(np.unique(keys_of(pa.array(ids, pa.string())))) == len(set(ids)) == len(ids)


def test_no_keys_are_no_trouble():
    """
    An empty batch changes nothing.
    """
    found = KeySet()
    assert found.add_new(array([])).tolist() == []
    assert found.contains(array([])).tolist() == []
    assert keys_of(pa.array([], pa.string())).tolist() == []
    assert len(found) == 0


@given(
    known=st.lists(st.text(max_size=3) | st.uuids().map(lambda one: one.hex), unique=True, max_size=12),
    strangers=st.lists(st.text(max_size=3), max_size=6),
    data=st.data(),
)
def test_an_id_is_found_where_it_stands(known, strangers, data):
    """
    Ids of any shape, asked for in any order and in any chunks; a stranger has no place.
    """
    asked = data.draw(st.permutations(known + strangers))
    cut = data.draw(st.integers(0, len(asked)))
    chunks = pa.chunked_array([asked[:cut], asked[cut:]], pa.string())
    found = Places(pa.array(known, pa.string())).of(chunks)
    assert found.tolist() == [known.index(one) if one in known else -1 for one in asked]


@pytest.mark.parametrize("count", [50, 30_000])
def test_few_ids_are_found_without_a_thread(monkeypatch, count):
    """
    A thousand small partitions are joined one by one: a thread for each takes longer than all the rest.
    """
    started = []

    class Counted(keyset.Threads):
        def __init__(self, *arguments):
            started.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(keyset, "Threads", Counted)
    ids = pa.array([f"{number:032x}" for number in range(count)])
    order = np.random.default_rng(0).permutation(count)
    assert (Places.among(ids, ids.take(pa.array(order))) == order).all()
    assert len(started) == (count > keyset.LONG)
