"""
Jobs of version 0.1.0, whose states were in one ledger of the home, become folders that are complete by themselves.

The ledger is read and never written, so that 0.1.0 finds it as it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.config import settings
from dobatch_pandas.prices import cost, price_of

from .folder import JobFolder, JobRecord
from .machine import Part, PartState, State

__all__ = ["migrate"]

# What early builds did not have yet.
_LATER = dict.fromkeys(
    ("retry", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"), 0
)

# "held" waited for room at the provider; "dropped" was cancelled before it was sent.
_STATES: Mapping[str, PartState] = {
    "rendered": "rendered",
    "uploaded": "uploaded",
    "held": "uploaded",
    "created": "created",
    "ended": "ended",
    "read": "read",
    "dropped": "read",
}


def migrate(ledger: Path, folders: Sequence[JobFolder]) -> list[str]:
    """
    Give each folder whose job is in the ledger a record and a journal.

    Parameters
    ----------
    ledger : pathlib.Path
        ``ledger.sqlite`` of version 0.1.0.
    folders : sequence of JobFolder
        Those without a record.

    Returns
    -------
    list of str
        Ids that the ledger does not know, or that it cannot tell of. A job that a process of 0.1.0 still moves on is
        not among them: it can be taken over later.
    """
    left: list[str] = []
    try:
        with _opened(ledger) as db:
            for folder in folders:
                try:
                    if not _migrate(db, folder):
                        left.append(folder.id)
                except (LookupError, TypeError, ValueError) as error:
                    left.append(folder.id)
                    _warn(ledger, f"Job {folder.id}", error)
    except sqlite3.Error as error:
        left += [folder.id for folder in folders]
        _warn(ledger, "Jobs", error)
    return left


def _warn(ledger: Path, what: str, error: Exception) -> None:
    warnings.warn(
        f"{what} of version 0.1.0 cannot be listed: {ledger} cannot be read ({type(error).__name__}: {error}). The files "
        f"are in {ledger.parent / 'jobs'}, untouched.",
        stacklevel=2,
    )


@contextlib.contextmanager
def _opened(ledger: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            db = _read_only(ledger)
        except sqlite3.OperationalError:
            # A process died within a transaction: undoing that is writing, so it is done to a copy.
            for path in (ledger, ledger.with_name(f"{ledger.name}-journal")):
                if path.exists():
                    shutil.copyfile(path, Path(scratch, path.name))
            db = sqlite3.connect(Path(scratch, ledger.name))
        with contextlib.closing(db):
            db.row_factory = sqlite3.Row
            yield db


def _read_only(ledger: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("SELECT 1 FROM jobs LIMIT 1")
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, folder: JobFolder) -> bool:
    found = db.execute("SELECT * FROM jobs WHERE id = ?", (folder.id,)).fetchone()
    if found is None:
        return False
    lock = folder.try_lock()
    if lock is None:
        return True
    try:
        if not folder.exists:
            # What was read before the lock was ours may be old.
            job = dict(db.execute("SELECT * FROM jobs WHERE id = ?", (folder.id,)).fetchone())
            parts = db.execute("SELECT * FROM parts WHERE job = ? ORDER BY number", (folder.id,)).fetchall()
            failures = db.execute("SELECT * FROM failures WHERE job = ?", (folder.id,)).fetchall()
            folder.create()
            # One that is there is of a migration that was interrupted.
            folder.journal_path.unlink(missing_ok=True)
            folder.journal().record(
                None, _state(job, [_LATER | dict(part) for part in parts], map(dict, failures), folder)
            )
            folder.write_record(_record(job, folder))
    finally:
        lock.release()
    return True


def _record(job: Mapping[str, Any], folder: JobFolder) -> JobRecord:
    return JobRecord(
        id=job["id"],
        created=job["created"],
        fingerprint=job["fingerprint"],
        base_url=job["base_url"],
        account="",  # 0.1.0 did not tell accounts apart
        provider=job["provider"],
        endpoint=job["endpoint"],
        model=job["model"],
        into=job["into"],
        rows=job["rows"],
        recipe=_recipe(job["recipe"], folder),
        source=job["source"],
        reuse=bool(orjson.loads(job["sources"] or "[]")),
    )


def _recipe(kept: str, folder: JobFolder) -> str:
    """
    Return a recipe with its keys in the order in which they were asked.

    0.1.0 sorted them, and an id is a hash of bytes: a schema or messages were never found again. What was sent has the
    order still.
    """
    sent = _sent_body(folder)
    return (
        kept
        if sent is None
        else json.dumps(_in_order(json.loads(kept), list(_inside(sent))), ensure_ascii=False)
    )


def _sent_body(folder: JobFolder) -> Any:
    """Return the body of the first request that is on disk; None where there is none that can be read."""
    for path in sorted(folder.parts.glob("part-*.jsonl*")):
        line = b""
        with contextlib.suppress(OSError, pa.ArrowInvalid, ValueError, LookupError, TypeError):
            with pa.input_stream(str(path), compression="detect") as stream:
                while b"\n" not in line and (block := stream.read(1 << 16)):
                    line += block
            request = json.loads(line.partition(b"\n")[0])
            return request["body"] if "body" in request else request["params"]
    return None


def _inside(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _inside(inner)


def _in_order(value: Any, sent: list[Any]) -> Any:
    """Return a value as it stands among those that were sent; where it is filled in per row, its keys as there."""
    if isinstance(value, list):
        return [_in_order(inner, sent) for inner in value]
    if not isinstance(value, dict):
        return value
    alike = [other for other in sent if isinstance(other, dict) and other.keys() >= value.keys()]
    for other in alike:
        if other == value:
            return other
    names = [name for name in alike[0] if name in value] if alike else list(value)
    return {name: _in_order(value[name], sent) for name in names}


def _state(
    job: Mapping[str, Any],
    parts: Iterable[Mapping[str, Any]],
    failures: Iterable[Mapping[str, Any]],
    folder: JobFolder,
) -> State:
    groups: dict[int, list[ErrorGroup]] = {}
    for row in failures:
        groups.setdefault(row["part"], []).append(ErrorGroup(row["code"], row["count"], row["example"] or ""))
    made = [_part(job, part, tuple(groups.get(part["number"], ())), folder) for part in parts]
    ended = job["ended"] is not None
    return State(
        job["id"],
        rendered=bool(job["rendered"]),
        requests=job["requests"],
        reused=job["reused"],
        skipped=job["skipped"],
        cancelled=bool(job["cancel_requested"]),
        output=job["source"] is not None,
        written=ended and job["source"] is not None,
        ended=job["ended"],
        outcome=job["state"] if ended else None,
        problem=job["problem"],
        parts={part.number: part for part in made},
    )


def _part(
    job: Mapping[str, Any], part: Mapping[str, Any], errors: tuple[ErrorGroup, ...], folder: JobFolder
) -> Part:
    state = _STATES[part["state"]]
    if state == "read" and not folder.result(part["number"]).exists():
        state = "fetched"  # what is on disk is read once more
    if state == "uploaded" and part["file_id"] is None:
        state = "rendered"
    missing = sum(group.count for group in errors if group.code == "missing_result")
    read = state == "read"
    # 0.1.0 gave up at a single 404, or after ten minutes: the service may have these results all the same.
    provisional = read and part["batch_id"] is not None and missing > 0
    return Part(
        part["number"],
        part["requests"],
        bytes=part["bytes"],
        round=part["retry"],
        state=state,
        tried=part["file_id"] is not None,
        file_id=part["file_id"],
        batch_id=part["batch_id"],
        status="dropped" if part["state"] == "dropped" else part["status"],
        completed=part["completed"],
        failed=part["failed"],
        said_completed=part["completed"],
        said_failed=part["failed"],
        created_at=part["created_at"],
        deadline=part["deadline"],
        problem=part["problem"],
        provisional=provisional,
        lines=part["requests"] - missing if read and part["batch_id"] is not None else 0,
        prompt_tokens=part["prompt_tokens"],
        completion_tokens=part["completion_tokens"],
        cached_tokens=part["cached_tokens"],
        reasoning_tokens=part["reasoning_tokens"],
        cost=_cost(job, part),
        errors=errors,
        request_id=part["request_id"],
    )


def _cost(job: Mapping[str, Any], part: Mapping[str, Any]) -> float | None:
    price = price_of(job["model"], job["provider"], overrides=settings().prices)
    if price is None or part["state"] != "read":
        return None
    return cost(price, part["prompt_tokens"], part["completion_tokens"], cached_tokens=part["cached_tokens"])
