"""Whole columns of text are written as JSON as one text by itself is."""

from __future__ import annotations

import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.arrow.json_text import escaped

PIECES = [
    '"',
    "\\",
    "\\\\",
    "/",
    "\n",
    "\t",
    "\b",
    "\f",
    "\r",
    "\0",
    "é",
    "\u2028",
    "€",
    "🙂",
    "\uffff",
    "u0041",
    "x",
]
texts = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(PIECES)), max_size=8).map("".join)


@given(st.lists(texts, max_size=8), st.integers(0, 3))
def test_texts_are_written_as_the_library_writes_them(many: list[str], skipped: int) -> None:
    """
    Whatever text is in the frame, the bytes are orjson's own, also in the middle of a column.
    """
    column = pa.array(many, pa.large_string()).slice(skipped)

    found = escaped(column)
    found.validate(full=True)
    assert found.to_pylist() == [orjson.dumps(text)[1:-1] for text in many[skipped:]]
