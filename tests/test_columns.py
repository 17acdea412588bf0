"""Values of long columns are moved about, in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas import columns
from dobatch_pandas.columns import gather


@given(
    chunks=st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=5), max_size=5),
    data=st.data(),
    rows=st.integers(1, 4),
)
@settings(max_examples=80)
def test_values_are_gathered_from_any_chunks(chunks: list[list[Any]], data: st.DataObject, rows: int) -> None:
    """
    Many chunks, empty ones and missing positions: the same values as by hand.
    """
    flat = [value for chunk in chunks for value in chunk]
    places = data.draw(st.lists(st.integers(-1, len(flat) - 1), max_size=9))
    chunked = pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in chunks], pa.large_string())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_ROWS", rows)
        found = gather(chunked, np.array(places, dtype=np.int64))
    assert found.to_pylist() == [None if place < 0 else flat[place] for place in places]
    assert found.type == pa.large_string()
