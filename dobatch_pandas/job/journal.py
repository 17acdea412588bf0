"""
How a job's state outlives the process: a file of lines, each of which says what has changed.

The last line of a process that died may be torn; what it said had not begun. Everything before it was on the disk
before the action that relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import orjson

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.errors import ConfigurationError

from .machine import DURABLE, Part, State

__all__ = ["FORMAT", "OF_THE_JOB", "Journal", "JournalFile", "entry_of", "folded"]

FORMAT = 2
"""Version of the files in a job's folder; 1 was the ledger of version 0.1.0."""

LONG = 4_000  # lines, after which a journal is written anew
OF_THE_JOB: tuple[str, ...] = tuple(
    "rendered requests reused skipped cancelled max_cost output written ended outcome problem asks_now deadline margin pace switched".split()  # noqa: SIM905
)
"""Names of a job's own fields that outlive the process."""

_PART_DEFAULTS = {f.name: f.default for f in fields(Part)}


class JournalFile(Protocol):
    """The few things that a journal asks of a disk."""

    def read(self) -> bytes:
        """Return all of it; nothing where there is none."""
        ...

    def append(self, data: bytes, *, sync: bool) -> None:
        """Add to its end; with `sync`, return when a power cut cannot take it away."""
        ...

    def rewrite(self, data: bytes) -> None:
        """Replace it, in one step, synced."""
        ...


class Journal:
    """
    The journal of one job.

    Parameters
    ----------
    file : JournalFile
    job_id : str
    """

    def __init__(self, file: JournalFile, job_id: str) -> None:
        self._file, self._id = file, job_id
        self._lines = 0
        self._clean = True
        self._settled = False
        self.empty = True
        """Whether it had no beginning when it was last read: a job that is no more, or a file that is damaged."""

    def load(self) -> State:
        """Return the state as it was last written down."""
        data = self._file.read()
        self._settled = False
        self._lines = data.count(b"\n")
        # A line that a power cut has torn must not take the next one along.
        self._clean = not data or data.endswith(b"\n")
        self.empty = "format" not in (entry_of(data.partition(b"\n")[0]) or {})
        return folded(self._id, data)

    def settle(self) -> None:
        """
        See to it that what was read outlives a power cut: whoever wrote it may have died before it was synced.

        Raises
        ------
        OSError
            The disk does not take it.
        """
        if not self._settled:
            self._file.append(b"", sync=True)
            self._settled = True

    def record(self, before: State | None, after: State, *, sync: bool = True) -> bool:
        """
        Write down what has changed, and say whether anything had.

        Raises
        ------
        OSError
            The disk does not take it; the state is as before.
        """
        line = _changes(before, after)
        if line is None:
            return False
        if self._lines >= LONG:
            self._file.rewrite(_line(_changes(None, after) or {}))
            self._lines, self._clean = 1, True
            return True
        start = b"" if self._clean else b"\n"
        # Until this is known to be whole, the next line begins on a line of its own.
        self._clean = False
        self._file.append(start + _line(line), sync=sync)
        self._clean = True
        self._lines += 1
        return True


def folded(job_id: str, data: bytes) -> State:
    """
    Return the state that a journal's bytes tell.

    Raises
    ------
    ConfigurationError
        A newer version of this package has written it.
    """
    job: dict[str, Any] = {}
    parts: dict[int, dict[str, Any]] = {}
    for line in data.split(b"\n"):
        entry = entry_of(line)
        if entry is None:
            continue
        if entry.get("format", FORMAT) > FORMAT:
            raise ConfigurationError(
                f"Job {job_id} was written by a newer version of dobatch_pandas (format {entry['format']}, this one "
                f"reads up to {FORMAT}). Upgrade with: pip install --upgrade dobatch-pandas"
            )
        job.update(entry.get("job", {}))
        for number, changed in entry.get("parts", {}).items():
            parts.setdefault(int(number), {}).update(changed)
    known = {name: value for name, value in job.items() if name in OF_THE_JOB}
    made = {}
    for number in sorted(parts):
        kept = {name: value for name, value in parts[number].items() if name in DURABLE and name != "number"}
        kept["errors"] = tuple(ErrorGroup(*group) for group in kept.get("errors", ()))
        made[number] = Part(number, **{"requests": 0, **kept})
    return State(job_id, **known, parts=made)


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None where it is torn, or the empty text after the last line end."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _changes(before: State | None, after: State) -> dict[str, Any] | None:
    entry: dict[str, Any] = {} if before is not None else {"format": FORMAT}
    job = {
        n: getattr(after, n) for n in OF_THE_JOB if before is None or getattr(before, n) != getattr(after, n)
    }
    if job:
        entry["job"] = job
    parts = {}
    for number, part in after.parts.items():
        known = before.parts.get(number) if before is not None else None
        if known is part:
            continue
        old = vars(known) if known is not None else _PART_DEFAULTS
        changed = {name: value for name in DURABLE if (value := getattr(part, name)) != old[name]}
        if changed:
            if "errors" in changed:
                changed["errors"] = [[g.code, g.count, g.example] for g in part.errors]
            parts[str(number)] = changed
    if parts:
        entry["parts"] = parts
    return entry or None


def _line(entry: Mapping[str, Any]) -> bytes:
    return orjson.dumps(entry, default=str) + b"\n"
