"""Lines end at newlines, wherever those stand."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.arrow.jsonl import Lines


@given(st.lists(st.sampled_from([b"\n", b"{", b" ", b"\r", b"\xe2\x80\xa8", b'"a line"']), max_size=60))
def test_every_line_but_blank_ones_is_found(pieces: list[bytes]) -> None:
    """
    Next to each other or far apart, at the start, at the end or nowhere; U+2028 ends no line.
    """
    block = b"".join(pieces)
    assert list(Lines(pa.py_buffer(block))) == [line for line in block.split(b"\n") if line.strip()]
