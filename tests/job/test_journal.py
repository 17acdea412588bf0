"""The journal: what it says after a power cut, of a newer version, after thousands of lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.job import journal as journal_module
from dobatch_pandas.job import machine as m
from dobatch_pandas.job.journal import FORMAT, OF_THE_JOB, Journal, folded


class File:
    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.rewrites = 0

    def read(self) -> bytes:
        return self.data

    def append(self, data: bytes, *, sync: bool) -> None:
        self.data += data

    def rewrite(self, data: bytes) -> None:
        self.data = data
        self.rewrites += 1


texts = st.text(max_size=20)
numbers = st.integers(0, 2**40)
costs = st.none() | st.floats(0, 1e6)
groups = st.builds(ErrorGroup, texts, numbers, texts)
PART: dict[str, st.SearchStrategy[Any]] = {
    "requests": numbers,
    "bytes": numbers,
    "round": st.integers(0, 9),
    "bound": costs,
    "state": st.sampled_from(["rendered", "uploaded", "created", "ended", "fetched", "read"]),
    "attempt": st.integers(0, 9),
    "tried": st.booleans(),
    "file_id": st.none() | texts,
    "batch_id": st.none() | texts,
    "status": st.none() | texts,
    "created_at": costs,
    "problem": st.none() | texts,
    "provisional": st.booleans(),
    "lines": numbers,
    "cost": costs,
    "errors": st.lists(groups, max_size=3).map(tuple),
}
JOB: dict[str, st.SearchStrategy[Any]] = {
    "rendered": st.booleans(),
    "requests": numbers,
    "cancelled": st.booleans(),
    "max_cost": costs,
    "ended": costs,
    "outcome": st.sampled_from([None, "completed", "failed"]),
    "problem": st.none() | texts,
}
parts = st.dictionaries(st.integers(0, 5), st.fixed_dictionaries(PART), max_size=4)
states = st.builds(
    lambda job, some: m.State("j", **job, parts={n: m.Part(n, **some[n]) for n in sorted(some)}),
    st.fixed_dictionaries(JOB),
    parts,
)


@given(st.lists(states, min_size=1, max_size=6), st.sampled_from([2, 4000]))
def test_what_was_written_is_what_is_read(history: list[m.State], long: int) -> None:
    """Whatever happens to a job, its folder says the same of it as its process did."""
    file = File()
    journal = Journal(file, "j")
    before: m.State | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "LONG", long)
        for state in history:
            # Parts come, and never go.
            if before is not None:
                state = replace(state, parts=dict(sorted({**before.parts, **state.parts}.items())))
            journal.record(before, state)
            assert Journal(file, "j").load() == state
            before = state


@given(states, states, st.data())
def test_a_torn_line_takes_nothing_else_along(first: m.State, second: m.State, data: st.DataObject) -> None:
    """A power cut in the middle of a line costs that line, and not the next one."""
    second = replace(second, parts={**first.parts, **second.parts})
    file = File()
    journal = Journal(file, "j")
    journal.record(None, first)
    whole = len(file.data)
    journal.record(first, second)
    cut = data.draw(st.integers(whole, max(whole, len(file.data) - 2)))
    zeros = data.draw(st.sampled_from([b"", b"\0\0\0", b"\xff\xfe"]))
    torn = File(file.data[:cut] + zeros)
    again = Journal(torn, "j")
    assert again.load() == first
    again.record(first, replace(first, reused=7))
    assert Journal(torn, "j").load() == replace(first, reused=7)


def test_a_line_that_the_disk_took_in_part_does_not_spoil_the_next(tmp_path: Any) -> None:
    """After a full disk the journal goes on where it was."""

    class Full(File):
        full = True

        def append(self, data: bytes, *, sync: bool) -> None:
            self.data += data[: len(data) // 2] if self.full else data
            if self.full:
                raise OSError(28, "No space left on device")

    file = Full()
    journal = Journal(file, "j")
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            journal.record(None, m.State("j"))
    file.full = False
    journal.record(None, m.State("j", reused=3))
    assert Journal(file, "j").load() == m.State("j", reused=3)


def test_nothing_is_written_where_nothing_has_changed() -> None:
    """Looks at a batch that does not move cost no writing."""
    file = File()
    state = m.State("j", parts={0: m.Part(0, 1)})
    journal = Journal(file, "j")
    assert journal.record(None, state)
    before = file.data
    in_memory = m._with(state, replace(state.parts[0], due=9.0, trouble="x", failures=3))
    assert not journal.record(state, in_memory)
    assert file.data == before


def test_a_journal_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of many looks keeps a short journal."""
    monkeypatch.setattr(journal_module, "LONG", 10)
    file = File()
    journal = Journal(file, "j")
    state = m.State("j", max_cost=1.5, parts={0: m.Part(0, 100, bytes=7)})
    journal.record(None, state)
    for completed in range(1, 100):
        after = m._with(state, replace(state.parts[0], completed=completed))
        journal.record(state, after)
        state = after
    assert file.data.count(b"\n") <= 10
    assert file.rewrites >= 9
    assert Journal(file, "j").load() == state


def test_a_newer_journal_says_what_to_upgrade() -> None:
    """A home of a newer version is not misread, and the words name the cure."""
    with pytest.raises(ConfigurationError, match="pip install --upgrade dobatch-pandas"):
        folded("j", orjson.dumps({"format": FORMAT + 1, "job": {}}) + b"\n")


def test_what_a_newer_writer_adds_is_passed_over() -> None:
    """Fields that this version does not know do not keep a job from opening."""
    data = orjson.dumps(
        {"format": FORMAT, "job": {"rendered": True, "colour": 1}, "parts": {"0": {"mood": 2}}}
    )
    assert folded("j", data) == m.State("j", rendered=True, parts={0: m.Part(0, 0)})


def test_lines_that_are_no_objects_are_passed_over() -> None:
    """Rubbish in a journal costs nothing but itself."""
    data = b'[1]\n"x"\nnull\n{"job": {"reused": 2}}\n\n\0\0'
    assert folded("j", data) == m.State("j", reused=2)


def test_every_durable_field_is_one_of_the_state() -> None:
    """What is written down is named once, and nothing of it is made up."""
    assert set(OF_THE_JOB) < set(m.State.__dataclass_fields__)
    assert set(m.DURABLE) < set(m.Part.__dataclass_fields__)


def test_a_journal_that_is_not_there_is_empty() -> None:
    """No file is no job."""
    journal = Journal(File(), "j")
    assert journal.load() == m.State("j")
    assert journal.empty
