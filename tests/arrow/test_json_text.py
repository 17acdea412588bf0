"""Whole columns of text are written as JSON and read again as one text by itself is."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.arrow.json_text import escaped, unescaped

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
# What a writer may make of one text: other libraries escape all that is not ASCII, or more than they have to.
written = st.one_of(
    texts.map(lambda text: json.dumps(text).encode()),
    texts.map(lambda text: json.dumps(text).upper().replace("\\U", "\\u").encode()),
    texts.filter(lambda text: text.isprintable()).map(orjson.dumps),
    texts.map(lambda text: orjson.dumps(text).replace(b"/", b"\\/")),
).filter(lambda quoted: _plain(quoted) is not None)
broken = st.sampled_from(
    [
        b"\\",
        b"\\x",
        b"\\u12",
        b"\\u12g4",
        b"\\ud83d",
        b"\\ude42",
        b"\\ude42\\ud83d",
        b"\\ud83d\\u0041",
        b'"',
        b'\\\\"',
        b"\n",
        b"\0",
    ]
)


def _plain(quoted: bytes) -> bytes | None:
    """One text as the library reads it; None where it reads none."""
    try:
        return orjson.loads(quoted).encode()
    except (orjson.JSONDecodeError, AttributeError):
        return None


def _column(bodies: list[bytes]) -> pa.LargeBinaryArray:
    return pa.concat_arrays(
        [pa.array([], pa.large_binary()), pa.array([b + b'"' for b in bodies], pa.large_binary())]
    )


@given(st.lists(texts, max_size=8), st.integers(0, 3))
def test_texts_are_written_as_the_library_writes_them(many: list[str], skipped: int) -> None:
    """
    Whatever text is in the frame, the bytes are orjson's own, also in the middle of a column.
    """
    column = pa.array(many, pa.large_string()).slice(skipped)

    found = escaped(column)
    found.validate(full=True)
    assert found.to_pylist() == [orjson.dumps(text)[1:-1] for text in many[skipped:]]


@given(st.lists(written, min_size=1, max_size=6))
def test_texts_are_read_as_the_library_reads_them(quoted: list[bytes]) -> None:
    """
    Whatever was escaped, and however, comes back.
    """
    plain, bad = unescaped(_column([text[1:-1] for text in quoted]))

    assert not len(bad)
    assert plain.cast(pa.large_binary()).to_pylist() == [_plain(text) for text in quoted]
    plain.validate(full=True)


@given(
    st.lists(
        st.one_of(written.map(lambda quoted: quoted[1:-1]), st.tuples(texts, broken, texts)),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_no_text_is_told(mixed: list[bytes | tuple[str, bytes, str]]) -> None:
    """
    A text that breaks the rules is named, and no other.
    """
    bodies = [
        one if isinstance(one, bytes) else orjson.dumps(one[0])[1:-1] + one[1] + orjson.dumps(one[2])[1:-1]
        for one in mixed
    ]
    _, bad = unescaped(_column(bodies))

    assert bad.tolist() == [
        number for number, body in enumerate(bodies) if _plain(b'"' + body + b'"') is None
    ]


@pytest.mark.parametrize("code", range(0, 0x10000, 4096))
def test_every_plane_is_decoded(code: int) -> None:
    """
    A code in either case, and beyond 16 bits as a pair, is its character.
    """
    codes = [c for c in range(code, code + 4096) if c < 0xD800 or 0xE000 <= c < 0x10000]
    pairs = [chr(0x10000 + 16 * c) for c in codes]
    bodies = [b"\\u%04X" % c for c in codes] + [json.dumps(text)[1:-1].encode() for text in pairs]
    if not bodies:
        return
    plain, bad = unescaped(_column(bodies))

    assert not len(bad)
    assert plain.to_pylist() == [chr(c) for c in codes] + pairs


def test_no_text_at_all_is_no_matter() -> None:
    """
    Nothing but empty texts.
    """
    plain, bad = unescaped(_column([b"", b""]))

    assert plain.to_pylist() == ["", ""]
    assert np.asarray(bad).size == 0
