"""
The ledger and the job folders: everything of a job that outlives the process.

::

    <home>/ledger.sqlite            what is known of every job and of each of its parts
    <home>/jobs/<job id>/
        lock                        held by the process that moves the job on
        input.parquet               the frozen input, until every row is rendered
        manifest.parquet            a row per request asked for: position, index label, custom_id, fate
        parts/part-00000.jsonl      requests as sent; compressed to .zst once the service has them
        output/part-00000.jsonl     the output file as received
        error/part-00000.jsonl      the error file as received
        results/part-00000.parquet  both files read, a row per request
        results/reused.parquet      answers taken from earlier jobs

This module alone knows these names. A file appears whole or not at all: it is written beside its place and
moved there in one step. Neither a token nor a signed address is ever stored.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import filelock

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.display.snapshot import State
from dobatch_pandas.errors import ConfigurationError, JobNotFound

__all__ = ["JobFolder", "JobRecord", "PartRecord", "Store"]


PartState = Literal[
    "rendered",  # on disk
    "uploaded",  # `file_id` is known
    "held",  # the provider has no room yet
    "created",  # `batch_id` is known
    "ended",  # terminal at the service
    "read",  # its results are on disk, or there are none
    "dropped",  # cancelled before it was sent
]
UNSENT: tuple[PartState, ...] = ("rendered", "uploaded", "held")


@dataclass(frozen=True)
class JobRecord:
    """
    One job as the ledger has it. Times are Unix seconds; counts are of requests unless said otherwise.

    ``fingerprint`` is a hash of everything that was asked and of the service it was asked of: the same plan
    has the same one.
    """

    id: str
    created: float
    fingerprint: str
    base_url: str
    recipe: str
    provider: str
    endpoint: str
    model: str
    into: str
    rows: int
    state: State = "recorded"
    problem: str | None = None
    source: str | None = None
    requests: int = 0
    reused: int = 0
    skipped: int = 0
    rendered: int = 0
    sources: str = "[]"
    cancel_requested: int = 0
    ended: float | None = None


@dataclass(frozen=True)
class PartRecord:
    """
    One part of a job.

    ``state`` is how far it has come, ``status`` the service's own word. ``request_id`` is on disk before the
    first call that carries it. ``retry`` counts the rounds of retries: 0 where its requests were not sent before.
    """

    job: str
    number: int
    request_id: str
    requests: int
    bytes: int
    state: PartState = "rendered"
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    completed: int = 0
    failed: int = 0
    created_at: float | None = None
    deadline: float | None = None
    problem: str | None = None
    retry: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


_SQL_TYPES = {"str": "TEXT", "State": "TEXT", "PartState": "TEXT", "int": "INTEGER", "float": "REAL"}


def _columns(record: type) -> str:
    # Quoted, since a name like "into" is a word of SQL too.
    return ", ".join(f'"{f.name}" {_SQL_TYPES[str(f.type).partition(" ")[0]]}' for f in fields(record))


_LEDGER = f"""
CREATE TABLE IF NOT EXISTS jobs ({_columns(JobRecord)}, PRIMARY KEY (id));
CREATE INDEX IF NOT EXISTS jobs_fingerprint ON jobs (fingerprint);
CREATE TABLE IF NOT EXISTS parts ({_columns(PartRecord)}, PRIMARY KEY (job, number));
CREATE TABLE IF NOT EXISTS failures (job TEXT, part INTEGER, code TEXT, count INTEGER, example TEXT,
                                     PRIMARY KEY (job, part, code));
"""


class JobFolder:
    """Every path of one job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = root / "lock"
        self.input = root / "input.parquet"
        self.manifest = root / "manifest.parquet"
        self.parts = root / "parts"
        self.results = root / "results"
        self.reused = self.results / "reused.parquet"

    def create(self) -> JobFolder:
        for folder in (self.root, self.parts, self.results, self.root / "output", self.root / "error"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def part(self, number: int) -> Path:
        """The request lines of a part, compressed or not."""
        plain = self.parts / f"part-{number:05}.jsonl"
        packed = self.parts / f"part-{number:05}.jsonl.zst"
        return plain if plain.exists() or not packed.exists() else packed

    def output(self, number: int) -> Path:
        return self.root / "output" / f"part-{number:05}.jsonl"

    def error(self, number: int) -> Path:
        return self.root / "error" / f"part-{number:05}.jsonl"

    def result(self, number: int) -> Path:
        return self.results / f"part-{number:05}.parquet"

    def result_files(self) -> list[Path]:
        """Results that are there now, reused ones first, then in the order in which they were asked."""
        reused = [self.reused] if self.reused.exists() else []
        return reused + sorted(self.results.glob("part-*.parquet"))


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path to write to; the file appears at `target`, private, when the block ends without error."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        os.chmod(partial, 0o600)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


class Store:
    """
    The ledger and the folders under one home. Safe for several threads, and several processes.

    Parameters
    ----------
    home : pathlib.Path
        Created, private, where it is missing.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        try:
            (home / "jobs").mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(home, 0o700)
            ledger = home / "ledger.sqlite"
            ledger.touch(mode=0o600)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write to the home folder {home}: {error.strerror}. Choose another one with "
                "dobatch.configure(home=...) or DOBATCH_HOME."
            ) from error
        self._lock = threading.RLock()
        # The busy timeout covers two kernels that write at once; transactions here last milliseconds.
        self._db = sqlite3.connect(ledger, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        # Not WAL: that is for processes of one machine, and the workers of a cluster may be on several.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_LEDGER)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; another process's transaction is waited for."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # -- jobs

    def new_id(self) -> str:
        """A job id that sorts by day and is short enough to type."""
        alphabet = "23456789abcdefghjkmnpqrstuvwxyz"
        return time.strftime("%y%m%d-") + "".join(secrets.choice(alphabet) for _ in range(6))

    def folder(self, job_id: str) -> JobFolder:
        return JobFolder(self.home / "jobs" / job_id)

    def add_job(self, record: JobRecord, *, fresh: bool = False) -> JobRecord:
        """
        Record a job, or return the one that asks just the same unless it is to be asked `fresh`.

        Two processes that submit the same plan at once get the same job.
        """
        with self.transaction() as db:
            known = None if fresh else self._newest(record.fingerprint)
            if known is not None:
                return known
            _insert(db, "jobs", record)
        return record

    def find(self, fingerprint: str) -> JobRecord | None:
        """The newest job that asked just this."""
        with self._lock:
            return self._newest(fingerprint)

    def _newest(self, fingerprint: str) -> JobRecord | None:
        row = self._db.execute(
            "SELECT * FROM jobs WHERE fingerprint = ? ORDER BY created DESC LIMIT 1", (fingerprint,)
        ).fetchone()
        return JobRecord(**row) if row else None

    def job(self, job_id: str) -> JobRecord:
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            near = [r.id for r in self.jobs()[:5]]
            known = f" The newest ones are {', '.join(near)}." if near else " There is no job in it."
            raise JobNotFound(
                f"No job {job_id!r} in {self.home}.{known} dobatch.jobs() lists all of them.", job_id
            )
        return JobRecord(**row)

    def jobs(self) -> list[JobRecord]:
        """All jobs, newest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM jobs ORDER BY created DESC, id").fetchall()
        return [JobRecord(**row) for row in rows]

    def update_job(self, job_id: str, **changes: Any) -> None:
        _update(self, "jobs", "id = ?", (job_id,), changes)

    def finished_like(self, base_url: str, provider: str, endpoint: str, model: str) -> list[str]:
        """Ids of finished jobs that asked this model at this place, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM jobs WHERE base_url = ? AND provider = ? AND endpoint = ? AND model = ?"
                " AND ended IS NOT NULL ORDER BY created DESC",
                (base_url, provider, endpoint, model),
            ).fetchall()
        return [row["id"] for row in rows]

    def forget(self, job_id: str) -> None:
        """Remove a job from the ledger and everything it has on disk."""
        with self.transaction() as db:
            for table, key in (("failures", "job"), ("parts", "job"), ("jobs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {key} = ?", (job_id,))
        shutil.rmtree(self.folder(job_id).root, ignore_errors=True)

    def discard(self, job_id: str) -> None:
        """Delete the folder of a job that was never recorded."""
        shutil.rmtree(self.folder(job_id).root, ignore_errors=True)

    def reopen(self, job_id: str, parts: list[PartRecord], codes: Iterable[str]) -> None:
        """Let a job that was over go on with more parts, which ask again what failed with these codes."""
        with self.transaction() as db:
            for part in parts:
                _insert(db, "parts", part)
            db.executemany("DELETE FROM failures WHERE job = ? AND code = ?", [(job_id, c) for c in codes])
            db.execute(
                "UPDATE jobs SET state = 'recorded', problem = NULL, ended = NULL, cancel_requested = 0 WHERE id = ?",
                (job_id,),
            )

    def remove_orphans(self, older_than: float = 3600.0) -> None:
        """Delete folders that a killed process left before it could record their job."""
        known = {record.id for record in self.jobs()}
        for folder in (self.home / "jobs").iterdir():
            if folder.name not in known and time.time() - folder.stat().st_mtime > older_than:
                shutil.rmtree(folder, ignore_errors=True)

    # -- parts

    def parts(self, job_id: str) -> list[PartRecord]:
        with self._lock:
            rows = self._db.execute("SELECT * FROM parts WHERE job = ? ORDER BY number", (job_id,)).fetchall()
        return [PartRecord(**row) for row in rows]

    def add_parts(self, records: list[PartRecord]) -> None:
        with self.transaction() as db:
            for record in records:
                _insert(db, "parts", record)

    def update_part(self, part: PartRecord, **changes: Any) -> None:
        _update(self, "parts", "job = ? AND number = ?", (part.job, part.number), changes)

    # -- failures, grouped by code

    def set_failures(self, job_id: str, part: int, groups: list[ErrorGroup]) -> None:
        """Replace what is known of a part's failures."""
        with self.transaction() as db:
            db.execute("DELETE FROM failures WHERE job = ? AND part = ?", (job_id, part))
            db.executemany(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?)",
                [(job_id, part, g.code, g.count, g.example) for g in groups],
            )

    def failures(self, job_id: str) -> tuple[ErrorGroup, ...]:
        """Failures by code, the most frequent first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT code, SUM(count) AS count, MIN(example) AS example FROM failures WHERE job = ?"
                " GROUP BY code ORDER BY SUM(count) DESC, code",
                (job_id,),
            ).fetchall()
        return tuple(ErrorGroup(**row) for row in rows)

    # -- who moves a job on

    def try_lock(self, job_id: str) -> filelock.BaseFileLock | None:
        """
        The right to move a job on, or None while another process has it.

        The operating system takes the lock from a process that dies.
        """
        lock = filelock.FileLock(self.folder(job_id).lock, thread_local=False, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return None
        return lock


def _insert(db: sqlite3.Connection, table: str, record: JobRecord | PartRecord) -> None:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" for _ in values)
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


def _update(store: Store, table: str, where: str, key: tuple[Any, ...], changes: dict[str, Any]) -> None:
    assignments = ", ".join(f'"{name}" = ?' for name in changes)
    with store.transaction() as db:
        db.execute(f"UPDATE {table} SET {assignments} WHERE {where}", (*changes.values(), *key))


def as_json(value: Any) -> str:
    """Text that the ledger keeps for a nested value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
