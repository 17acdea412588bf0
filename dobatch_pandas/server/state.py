"""What must survive a restart: files and batches, in SQLite."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["OPEN", "STATUSES", "TERMINAL", "Batch", "File", "State"]

STATUSES = (
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
OPEN = frozenset(STATUSES) - TERMINAL


@dataclass
class File:
    """An input file: announced, and, once ``bytes`` is set, uploaded."""

    file_id: str
    file_name: str
    created_at: float
    bytes: int | None = None


@dataclass
class Batch:
    """One batch, as it lies in the table; times are Unix seconds."""

    batch_id: str
    request_id: str
    provider: str
    endpoint: str
    wire: str
    input_file_id: str
    created_at: float
    expires_at: float
    updated_at: float
    status: str = "validating"
    handed_over: bool = False
    metadata: dict[str, str] | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    cancel_requested_at: float | None = None
    cancelled_at: float | None = None
    expired_at: float | None = None
    failed_at: float | None = None
    purged: bool = False

    @property
    def terminal(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in TERMINAL

    @property
    def ended_at(self) -> float | None:
        """When it became terminal."""
        ends = (self.completed_at, self.cancelled_at, self.expired_at, self.failed_at)
        return next((moment for moment in ends if moment is not None), None)


_COLUMNS = [one.name for one in fields(Batch)]
_JSON = frozenset({"metadata", "errors"})
_FLAGS = frozenset({"handed_over", "purged"})


class State:
    """
    The server's memory.

    Parameters
    ----------
    path : pathlib.Path
        The SQLite file; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        if os.name != "nt":
            # Made here, so that nobody else can read it; SQLite gives its other files the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)
        # Whoever holds it longer is waited for by the executor, and calls are told to come again.
        self._connection = sqlite3.connect(path, timeout=0.5, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=normal")
        self._connection.execute("create table if not exists meta (name text primary key, value blob)")
        self._connection.execute(
            "create table if not exists files"
            " (file_id text primary key, file_name text, created_at real, bytes integer)"
        )
        columns = ", ".join(
            f"{name} text primary key"
            if name == "batch_id"
            else f"{name} unique"
            if name == "request_id"
            else name
            for name in _COLUMNS
        )
        self._connection.execute(f"create table if not exists batches ({columns})")
        self._connection.execute("create index if not exists by_status on batches (status)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def key(self) -> bytes:
        """The signing key, drawn once and kept."""
        with self._lock:
            self._connection.execute(
                "insert or ignore into meta values ('key', ?)", [secrets.token_bytes(32)]
            )
            value: bytes = self._connection.execute("select value from meta where name = 'key'").fetchone()[0]
            return value

    def add_file(self, file_name: str, now: float) -> File:
        """Announce an input file."""
        file = File(str(uuid.uuid4()), file_name, now)
        with self._lock:
            self._connection.execute(
                "insert into files values (?, ?, ?, null)", [file.file_id, file_name, now]
            )
        return file

    def file(self, file_id: str) -> File | None:
        """The input file of this id."""
        with self._lock:
            row = self._connection.execute("select * from files where file_id = ?", [file_id]).fetchone()
        return File(*row) if row else None

    def files(self, limit: int) -> list[File]:
        """Input files, newest first."""
        with self._lock:
            rows = self._connection.execute(
                "select * from files order by rowid desc limit ?", [limit]
            ).fetchall()
        return [File(*row) for row in rows]

    def drop_unused_files(self, before: float) -> list[str]:
        """Forget input files announced before a moment that no batch was made of; returns their ids."""
        unused = "created_at < ? and file_id not in (select input_file_id from batches)"
        with self._lock:
            ids = [
                row[0]
                for row in self._connection.execute(f"select file_id from files where {unused}", [before])
            ]
            if ids:
                self._connection.execute(f"delete from files where {unused}", [before])
        return ids

    def clear(self) -> None:
        """Forget every file and batch."""
        with self._lock:
            self._connection.execute("delete from files")
            self._connection.execute("delete from batches")

    def uploaded(self, file_id: str, size: int) -> None:
        """Note that the bytes of an input file are there."""
        with self._lock:
            self._connection.execute("update files set bytes = ? where file_id = ?", [size, file_id])

    def in_use(self, file_id: str) -> bool:
        """Whether a batch was made of this input file."""
        with self._lock:
            found = self._connection.execute(
                "select 1 from batches where input_file_id = ?", [file_id]
            ).fetchone()
        return found is not None

    def add_batch(self, batch: Batch) -> Batch:
        """Store a new batch; the one that already has its ``request_id``, where there is one."""
        with self._lock:
            marks = ", ".join("?" * len(_COLUMNS))
            cursor = self._connection.execute(f"insert or ignore into batches values ({marks})", _pack(batch))
            if cursor.rowcount:
                return batch
            found = self._select("where request_id = ?", [batch.request_id])
            return found[0]

    def batch(self, batch_id: str) -> Batch | None:
        """The batch of this id."""
        found = self._select("where batch_id = ?", [batch_id])
        return found[0] if found else None

    def batch_of_request(self, request_id: str) -> Batch | None:
        """The batch of this idempotency key."""
        found = self._select("where request_id = ?", [request_id])
        return found[0] if found else None

    def change(self, batch_id: str, among: Iterable[str] | None = None, **values: Any) -> Batch | None:
        """
        Set columns of a batch, and return it.

        ``among`` makes it conditional: None comes back, and nothing is changed, where the status is another.
        """
        with self._lock:
            condition, more = "", []
            if among is not None:
                more = list(among)
                condition = f" and status in ({', '.join('?' * len(more))})"
            changes = ", ".join(f"{name} = ?" for name in values)
            packed = [json.dumps(value) if name in _JSON else value for name, value in values.items()]
            cursor = self._connection.execute(
                f"update batches set {changes} where batch_id = ?{condition}", [*packed, batch_id, *more]
            )
            return self.batch(batch_id) if cursor.rowcount else None

    def page(self, limit: int, after: str | None, status: str | None) -> tuple[list[Batch], bool] | None:
        """A page of batches, newest first, and whether more follow; None where ``after`` is unknown."""
        with self._lock:
            conditions, values = [], list[Any]()
            if after is not None:
                row = self._connection.execute(
                    "select rowid from batches where batch_id = ?", [after]
                ).fetchone()
                if row is None:
                    return None
                conditions.append("rowid < ?")
                values.append(row[0])
            if status is not None:
                conditions.append("status = ?")
                values.append(status)
            where = f"where {' and '.join(conditions)}" if conditions else ""
            found = self._select(f"{where} order by rowid desc limit ?", [*values, limit + 1])
            return found[:limit], len(found) > limit

    def open_batches(self) -> list[Batch]:
        """Every batch that has not ended, oldest first."""
        marks = ", ".join("?" * len(OPEN))
        return self._select(f"where status in ({marks}) order by rowid", list(OPEN))

    def enqueued_tokens(self) -> int:
        """Tokens of all batches that have not ended."""
        return sum(batch.tokens for batch in self.open_batches())

    def to_purge(self, before: float) -> list[Batch]:
        """Batches that ended before a moment, and whose files are still there."""
        ends = "coalesce(completed_at, cancelled_at, expired_at, failed_at)"
        return self._select(f"where purged = 0 and {ends} < ?", [before])

    def _select(self, rest: str, values: list[Any]) -> list[Batch]:
        with self._lock:
            rows = self._connection.execute(
                f"select {', '.join(_COLUMNS)} from batches {rest}", values
            ).fetchall()
        return [_unpack(row) for row in rows]


def _pack(batch: Batch) -> list[Any]:
    return [json.dumps(value) if name in _JSON else value for name, value in asdict(batch).items()]


def _unpack(row: tuple[Any, ...]) -> Batch:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON:
        values[name] = json.loads(values[name])
    for name in _FLAGS:
        values[name] = bool(values[name])
    return Batch(**values)
