"""
The home: every job under one folder, found quickly by what it asked and by what it answered.

::

    <home>/index.sqlite     a row a job, and the job of each answer; made again from the folders when it is lost
    <home>/jobs/<job id>/   one job, complete by itself: see `folder`
    <home>/forgotten.jsonl  what jobs that were forgotten had cost, a line each
    <home>/account          whose jobs are made here: see `account`
    <home>/ledger.sqlite    of version 0.1.0, read once: see `migration`

The folders are what counts, the index only finds them. A folder with a ``job.json`` is a job; one without is a submit
under way, here or elsewhere, or one that died: it is left alone. Nothing is deleted that was not asked to be.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.keyset import Keys, keys_of
from dobatch_pandas.display.snapshot import State as Status
from dobatch_pandas.errors import ConfigurationError, DobatchError, InputError, JobNotFound

from .folder import DiskFile, JobFolder, JobRecord, disk_in_words, read_table
from .index import Index
from .journal import entry_of
from .machine import State, problem_of
from .spent import Spent

__all__ = ["Home", "JobRow", "left_alone", "scope_of", "status_of"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_AT_ONCE = 500_000  # keys a statement
_JOBS_AT_ONCE = 100  # whose answers are entered in one transaction


@dataclass(frozen=True)
class JobRow:
    """
    One job as a list of jobs shows it, and as the index has it. Counts are of requests, and of tokens paid for; what these
    have cost is in the fields of `Spent`.

    ``output`` is where a dataset's answers go. A job that cannot be read has no ``fingerprint``.
    """

    id: str
    status: Status
    created: float = 0.0
    rows: int = 0
    requests: int = 0
    reused: int = 0
    completed: int = 0
    failed: int = 0
    batches: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    open_prompt_tokens: int = 0
    open_completion_tokens: int = 0
    open_cached_tokens: int = 0
    open_now_prompt_tokens: int = 0
    open_now_completion_tokens: int = 0
    open_now_cached_tokens: int = 0
    untold: int = 0
    provider: str = ""
    model: str = ""
    into: str = ""
    base_url: str = ""
    account: str = ""
    fingerprint: str = ""
    scope: str = ""
    output: str | None = None
    problem: str | None = None
    ended: float | None = None

    @property
    def spent(self) -> Spent:
        return Spent(*(getattr(self, name) for name in _COSTS))

    @property
    def over(self) -> bool:
        """Whether nothing more happens without a person asking for it."""
        return self.ended is not None


_NAMES = [f.name for f in fields(JobRow)]
_ROW = ", ".join(f'"{name}"' for name in _NAMES)
_COSTS = [f.name for f in fields(Spent)]
_SPENT = ["completed", "failed", "prompt_tokens", "completion_tokens", *_COSTS]


# What a folder raises that was damaged.
_UNREAD = (DobatchError, OSError, LookupError, TypeError, ValueError, AttributeError)


class Home:
    """
    The jobs under one folder. Safe for several threads, several processes, and after fork.

    Parameters
    ----------
    path : path
        Created, private, where it is missing; one that exists keeps its mode.

    Raises
    ------
    ConfigurationError
        From any method: the home cannot be written or read, with the path and what to do; or a newer version of this
        package has used it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self.jobs_dir = self.path / "jobs"
        self._index = Index(self.path / "index.sqlite")
        self._forgotten = DiskFile(self.path / "forgotten.jsonl")
        self._no_jobs: set[str] = set()
        self._make()

    def close(self) -> None:
        """Let go of the index; the next call opens it again."""
        self._index.close()

    def _make(self) -> None:
        try:
            # What `parents` makes has the mode of every folder, so those that are ours are made one by one.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.jobs_dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write to the home folder {self.path}: {error.strerror}. Choose another one with "
                "dobatch.configure(home=...) or DOBATCH_HOME."
            ) from error

    # -- one job

    def new_id(self) -> str:
        """Return a job id that sorts by day and is short enough to type."""
        alphabet = "23456789abcdefghjkmnpqrstuvwxyz"
        return time.strftime("%y%m%d-") + "".join(secrets.choice(alphabet) for _ in range(6))

    def folder(self, job_id: str) -> JobFolder:
        return JobFolder(self.jobs_dir / job_id)

    def add_job(self, record: JobRecord, state: State, *, fresh: bool = False) -> JobRecord:
        """
        Write a job down, or return the newest one that asks just the same unless it is to be asked `fresh`.

        Two processes that submit the same plan at once get the same job. When this returns, no power cut takes the
        job away. The job's folder exists; `discard` takes it away where another job is returned.
        """

        written = False

        def add(db: sqlite3.Connection) -> JobRecord:
            nonlocal written
            if not fresh:
                self._bring_up(db)
                known = self._newest(db, record.fingerprint)
                if known is not None:
                    return known
            folder = self.folder(record.id)
            folder.journal().record(None, state)
            _insert(db, _row(record, state))
            written = True
            folder.write_record(record)
            return record

        self._make()
        try:
            return self._index.write(add)
        except DobatchError:
            if written:
                # The index did not take it, so that it is no job: asking again must not find half of one.
                with suppress(OSError):
                    self.folder(record.id).record_path.unlink(missing_ok=True)
            raise

    def find(self, fingerprint: str) -> JobRecord | None:
        """Return the newest job that asked just this."""
        self._refresh()
        return self._index.read(lambda db: self._newest(db, fingerprint))

    def record(self, job_id: str) -> JobRecord:
        """
        Return what a job asked.

        Raises
        ------
        JobNotFound
            It names the newest jobs there are.
        InputError
            No job can have such an id.
        """
        if not isinstance(job_id, str) or not _NAME.fullmatch(job_id):
            said = repr(job_id)
            said = said if len(said) < 80 else f"{said[:60]}... ({len(said):,} characters)"
            raise InputError(
                f"No job can have the id {said}: an id is a text such as '260101-abcdef', as job.id shows it."
            )
        known = ""
        folder = self.folder(job_id)
        try:
            if not folder.exists and folder.root.is_dir():
                self._migrate([job_id])
            return folder.record()
        except JobNotFound:
            pass
        except OSError as error:
            raise ConfigurationError(f"Cannot read {folder.root}: {error.strerror or error}.") from error
        with suppress(ConfigurationError):
            near = [row.id for row in self.rows()[:5]]
            known = (
                f". The newest ones are {', '.join(near)}; dobatch.jobs() lists all of them."
                if near
                else ": there is no job in it yet."
            )
        raise JobNotFound(f"No job {job_id!r} in {self.path}{known or '.'}", job_id)

    def update(self, record: JobRecord, state: State, problem: str | None = None) -> None:
        """Show in the list of jobs how far one has come, and what stands in its way."""
        row = _row(record, state)
        self._put(replace(row, problem=problem or row.problem))

    def told_problem(self, job_id: str) -> str | None:
        """Return what stands in a job's way, as the process that moves it on has told it by `update`."""
        sql = "SELECT problem FROM jobs WHERE id = ?"
        found = self._index.read(lambda db: db.execute(sql, (job_id,)).fetchone())
        return None if found is None else found[0]

    def _put(self, row: JobRow) -> None:
        names = ", ".join(f'"{name}" = :{name}' for name in _NAMES)
        self._index.write(lambda db: db.execute(f"UPDATE jobs SET {names} WHERE id = :id", vars(row)))

    def forget(self, job_id: str) -> None:
        """Delete everything of a job but what it has cost."""

        def forget(db: sqlite3.Connection) -> None:
            row = self._seen(job_id)
            if row is not None and any(getattr(row, name) for name in _SPENT):
                kept = {name: getattr(row, name) for name in ("id", "created", "provider", "model", *_SPENT)}
                # On a line of its own, whatever a power cut has left of the one before.
                self._forgotten.append(b"\n" + orjson.dumps(kept), sync=True)
            _drop(db, [job_id])
            self.folder(job_id).delete()

        self._make()
        self._index.write(forget)

    def discard(self, job_id: str) -> None:
        """Delete the folder of a submit that did not become a job; a job is left alone."""
        folder = self.folder(job_id)
        if not folder.exists:
            shutil.rmtree(folder.root, ignore_errors=True)

    # -- all jobs

    def rows(self) -> list[JobRow]:
        """Return all jobs, newest first. Of jobs that are over no file is opened."""
        self._refresh(needed=False)
        found = self._index.read(lambda db: db.execute(f"SELECT {_ROW} FROM jobs").fetchall())
        rows = [self._fresh(JobRow(*values)) for values in found]
        # What is there and not in the index cannot be read: it is looked at again each time.
        unread = [self._seen(job_id) for job_id in self._index.read(self._differences)[0]]
        rows += [row for row in unread if row is not None]
        return sorted(rows, key=lambda row: (-row.created, row.id))

    def forgotten(self) -> list[JobRow]:
        """Return what jobs had cost that are no more; of everything else they have nothing."""
        found = {}
        with disk_in_words(self.path):
            lines = self._forgotten.read().split(b"\n")
        for kept in filter(None, map(entry_of, lines)):
            if "id" in kept:
                known = {name: kept[name] for name in _NAMES if name in kept}
                found[kept["id"]] = JobRow(**{"status": "completed", **known})
        return [row for row in found.values() if not self.folder(row.id).exists]

    def _fresh(self, row: JobRow) -> JobRow:
        """Return the row of a job as its folder has it, unless it is over."""
        seen = None if row.over else self._seen(row.id)
        if seen is None:
            return row
        if not seen.fingerprint:
            return replace(row, status="paused", problem=seen.problem)
        if seen.ended is not None:
            with suppress(ConfigurationError):  # it is found to be over again by the next one
                self._put(seen)
        elif seen.problem is None and row.problem and not self.folder(row.id).at_rest:
            # What stands in a job's way is known to the process that moves it, and told by `update`.
            return replace(seen, problem=row.problem, status=row.status)
        return seen

    def _seen(self, job_id: str) -> JobRow | None:
        """Return the row of a job as its folder has it; None where it has gone."""
        folder = self.folder(job_id)
        try:
            state = folder.state()
            row, words = _row(folder.record(), state), left_alone(folder, state)
            return row if words is None else replace(row, status="paused", problem=words)
        except JobNotFound:
            return None
        except _UNREAD as error:
            # It is looked at again each time.
            unread = JobRow(job_id, "paused", problem=str(error))
            with suppress(OSError):
                return replace(unread, created=folder.root.stat().st_mtime)
            return unread

    def _refresh(self, *, needed: bool = True) -> None:
        """Bring the index up to the folders; jobs of version 0.1.0 become jobs of this one."""
        self._make()
        added, gone = self._index.read(self._differences)
        if added or gone:
            try:
                self._index.write(self._bring_up)
            except ConfigurationError:  # a full disk, or a home that may only be read
                if needed:
                    raise

    def _differences(self, db: sqlite3.Connection) -> tuple[list[str], list[str]]:
        known = {job_id for (job_id,) in db.execute("SELECT id FROM jobs")}
        there = {entry.name for entry in os.scandir(self.jobs_dir) if entry.is_dir()}
        new = there - known
        self._migrate(name for name in new if not self.folder(name).exists)
        return sorted(name for name in new if self.folder(name).exists), sorted(known - there)

    def _bring_up(self, db: sqlite3.Connection) -> None:
        added, gone = self._differences(db)
        for job_id in added:
            row = self._seen(job_id)
            if row is not None and row.fingerprint:
                _insert(db, row)
        _drop(db, gone)

    def _migrate(self, job_ids: Iterable[str]) -> None:
        ledger = self.path / "ledger.sqlite"
        wanted = [job_id for job_id in job_ids if job_id not in self._no_jobs]
        if wanted and ledger.is_file():
            from .migration import migrate

            self._no_jobs.update(migrate(ledger, [self.folder(job_id) for job_id in wanted]))

    def _newest(self, db: sqlite3.Connection, fingerprint: str) -> JobRecord | None:
        sql = "SELECT id FROM jobs WHERE fingerprint = ? ORDER BY created DESC"
        for (job_id,) in db.execute(sql, (fingerprint,)).fetchall():
            # One that asked just this and cannot be read is told: to ask again would be to pay again.
            with suppress(JobNotFound):
                return self.folder(job_id).record()
        return None

    # -- answers

    def add_answers(self, answers: Mapping[str, Keys]) -> None:
        """Enter which requests jobs that are over have answered, by job id."""

        def add(db: sqlite3.Connection) -> None:
            for job_id, keys in answers.items():
                found = db.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
                if found is None:
                    continue
                for values in _as_json(keys):
                    db.execute(
                        "INSERT OR IGNORE INTO answers SELECT value, ? FROM json_each(?)", (found[0], values)
                    )
                db.execute("UPDATE jobs SET entered = ended WHERE number = ?", found)

        self._index.write(add)

    def enter_answers(self, scopes: Sequence[str]) -> bool:
        """
        Enter the answers of the jobs that have ended since, from their files, and say whether any job has ended.

        Parameters
        ----------
        scopes : sequence of str
            From `scope_of`.
        """
        self._refresh()
        self._end_what_has_ended(scopes)
        ended = f"FROM jobs WHERE scope IN ({_marks(scopes)}) AND ended IS NOT NULL"
        missing = f"SELECT id {ended} AND entered IS NOT ended"
        answers: dict[str, Keys] = {}
        for (job_id,) in self._index.read(lambda db: db.execute(missing, tuple(scopes)).fetchall()):
            answers[job_id] = _answered_in(self.folder(job_id))
            if len(answers) >= _JOBS_AT_ONCE:
                self.add_answers(answers)
                answers = {}
        if answers:
            self.add_answers(answers)
        return (
            self._index.read(lambda db: db.execute(f"SELECT 1 {ended} LIMIT 1", tuple(scopes)).fetchone())
            is not None
        )

    def _end_what_has_ended(self, scopes: Sequence[str]) -> None:
        """Whoever moves a job tells the index of its end a moment later, or never where it was killed just then."""
        going = f"SELECT id FROM jobs WHERE scope IN ({_marks(scopes)}) AND ended IS NULL"
        for (job_id,) in self._index.read(lambda db: db.execute(going, tuple(scopes)).fetchall()):
            with suppress(*_UNREAD):
                state = self.folder(job_id).state()
                if state.ended is not None:
                    self._put(_row(self.folder(job_id).record(), state))

    def answered(self, scopes: Sequence[str], keys: Keys) -> dict[str, Keys]:
        """
        Return which of some keys have been entered for which jobs that are over, the newest job first.

        A key may be with several jobs. Keys are short: compare the ids when the answers are read.

        Parameters
        ----------
        scopes : sequence of str
            From `scope_of`.
        keys : numpy.ndarray of uint64
            From `keys_of`.
        """

        def look(db: sqlite3.Connection) -> dict[str, Keys]:
            found = [np.empty((2, 0), np.int64)]
            for values in _as_json(keys):
                # As two texts: a Python object for each key would take most of the time.
                both = db.execute(
                    "SELECT json_group_array(a.key), json_group_array(a.job)"
                    " FROM json_each(?) AS w CROSS JOIN answers AS a ON a.key = w.value",
                    (values,),
                ).fetchone()
                found.append(np.array([orjson.loads(text) for text in both], np.int64))
            theirs, of_job = np.concatenate(found, axis=1)
            numbers = orjson.dumps(np.unique(of_job).tolist()).decode()
            jobs = db.execute(
                "SELECT number, id FROM jobs WHERE number IN (SELECT value FROM json_each(?))"
                f" AND scope IN ({_marks(scopes)}) AND ended IS NOT NULL ORDER BY created DESC",
                (numbers, *scopes),
            ).fetchall()
            return {job_id: theirs[of_job == number].view(np.uint64) for number, job_id in jobs}

        return self._index.read(look)


def scope_of(base_url: str, account: str, provider: str, endpoint: str) -> str:
    """Return what two questions must share for one's answer to be the other's: where, by whom and how it is asked."""
    return blake2b("\0".join((base_url, account, provider, endpoint)).encode(), digest_size=16).hexdigest()


def status_of(state: State) -> Status:
    """Return the word for how far a job has come."""
    if state.ended is not None:
        return state.outcome or "completed"
    if problem_of(state)[1]:
        return "paused"
    if state.cancelled:
        return "cancelling"
    parts = list(state.parts.values())
    if not state.rendered and all(part.state == "rendered" for part in parts):
        return "rendering" if parts else "recorded"
    if not state.rendered or any(part.unsent and not part.live for part in parts):
        return "running" if state.asks_now and parts else "uploading"
    if any(part.unsent for part in parts):
        return "running"  # asked in real time
    at_work = [part for part in parts if part.open]
    if not at_work:
        return "downloading"
    if all(p.status == "finalizing" or 0 < p.requests <= p.completed + p.failed for p in at_work):
        return "finalizing"
    if len(at_work) == len(parts) and all(
        p.completed + p.failed == 0 and p.status in _NOT_BEGUN for p in at_work
    ):
        return "queued"
    return "running"


def left_alone(folder: JobFolder, state: State) -> str | None:
    """Say that something is still to be sent or to be cancelled, and that no process does it; None where one does."""
    wanted = not state.all_sent or state.cancelled or folder.cancel_asked
    if state.ended is not None or not wanted or not folder.at_rest:
        return None
    return f"No process moves it on, and not all of it is sent: dobatch.attach({folder.id!r}) goes on."


_NOT_BEGUN = (None, "validating", "queued", "awaiting_processing")


def _row(record: JobRecord, state: State) -> JobRow:
    parts = list(state.parts.values())
    again = sum(part.requests for part in parts if part.round)
    return JobRow(
        id=record.id,
        status=status_of(state),
        created=record.created,
        rows=record.rows,
        requests=state.requests if state.rendered else sum(part.requests for part in parts),
        reused=state.reused,
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts) - again,
        batches=sum(not part.live for part in parts),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        **vars(Spent.of(parts)),
        provider=record.provider,
        model=record.model,
        into=record.into,
        base_url=record.base_url,
        account=record.account,
        fingerprint=record.fingerprint,
        scope=scope_of(record.base_url, record.account, record.provider, record.endpoint),
        output=orjson.loads(record.source).get("output") if record.source else None,
        problem=problem_of(state)[0],
        ended=state.ended,
    )


def _insert(db: sqlite3.Connection, row: JobRow) -> None:
    db.execute(f"INSERT INTO jobs ({_ROW}) VALUES ({_marks(_NAMES)})", tuple(vars(row).values()))


def _drop(db: sqlite3.Connection, job_ids: Sequence[str]) -> None:
    if job_ids:
        ids = (orjson.dumps(list(job_ids)).decode(),)
        which = "(SELECT value FROM json_each(?))"
        db.execute(f"DELETE FROM answers WHERE job IN (SELECT number FROM jobs WHERE id IN {which})", ids)
        db.execute(f"DELETE FROM jobs WHERE id IN {which}", ids)


def _marks(values: Any) -> str:
    return ", ".join("?" for _ in values)


def _as_json(keys: Keys) -> Iterable[str]:
    """Yield keys as lists of SQL's integers, sorted: neighbours are on the same pages."""
    numbers = np.sort(keys.view(np.int64))
    for start in range(0, len(numbers), _AT_ONCE):
        yield orjson.dumps(numbers[start : start + _AT_ONCE], option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _answered_in(folder: JobFolder) -> Keys:
    keys = [np.empty(0, np.uint64)]
    for file in folder.result_files():
        # A file that cannot be read has no answer to give; reading the job says so.
        with suppress(pa.ArrowInvalid, OSError):
            table = read_table(file, columns=["custom_id", "status"])
            ids = table["custom_id"].filter(pc.equal(table["status"], "succeeded"))
            keys.append(keys_of(ids.combine_chunks()))
    return np.unique(np.concatenate(keys))
