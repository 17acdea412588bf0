"""Values of long columns are moved about, in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.arrow import columns
from dobatch_pandas.arrow.columns import Texts, gather, packed_tables


@given(
    chunks=st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=5), max_size=5),
    data=st.data(),
    rows=st.integers(1, 4),
)
@settings(max_examples=80)
def test_values_are_gathered_from_any_chunks(chunks: list[list[Any]], data: st.DataObject, rows: int) -> None:
    """
    Many chunks, empty ones, one array and missing positions: the same values as by hand.
    """
    flat = [value for chunk in chunks for value in chunk]
    places = data.draw(st.lists(st.integers(-1, len(flat) - 1), max_size=9))
    chunked = pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in chunks], pa.large_string())
    for values in (chunked, pa.array(flat, pa.large_string())):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(columns, "_ROWS", rows)
            found = gather(values, np.array(places, dtype=np.int64))
        assert found.to_pylist() == [None if place < 0 else flat[place] for place in places]
        found.validate(full=True)
        assert found.type == pa.large_string()


@given(
    chunks=st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=5), min_size=1, max_size=5),
    start=st.integers(0, 3),
)
@settings(max_examples=80)
def test_arrays_are_packed_into_one(chunks: list[list[Any]], start: int) -> None:
    """
    Slices, nulls and empty arrays: packed, they hold the same values.
    """
    arrays = [pa.array(chunk, pa.large_string()).slice(min(start, len(chunk))) for chunk in chunks]
    texts = Texts()
    for array in arrays:
        texts.add(array)
    packed = texts.array()
    packed.validate(full=True)
    assert packed.to_pylist() == [value for array in arrays for value in array.to_pylist()]


@given(sizes=st.lists(st.integers(0, 5), max_size=6), limit=st.integers(1, 200))
def test_small_tables_become_large_ones_in_their_order(sizes: list[int], limit: int) -> None:
    """
    Nothing is lost or moved, whether tables are packed or left as they are.
    """
    total = sum(sizes)
    everything = pa.table(
        {"n": pa.array(range(total)), "t": pa.array(map(str, range(total)), pa.large_string())}
    )
    ends = np.cumsum(sizes).tolist()
    parts = [everything.slice(end - size, size) for size, end in zip(sizes, ends, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_PACK", limit)
        found = packed_tables(parts)
    if found:
        assert pa.concat_tables(found).to_pylist() == everything.to_pylist()
    assert sum(table.num_rows for table in found) == total
