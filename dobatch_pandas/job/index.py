"""
The home's index as a database: opened, made, shared by threads and processes, and never a foreign error.

What it holds is in the job folders too. So a damaged one is set aside and made again, and an older one made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import filelock

from dobatch_pandas.errors import ConfigurationError, DobatchError

__all__ = ["VERSION", "Index"]

T = TypeVar("T")

VERSION = 4
"""Of the tables. One higher for each change of them: an index of a lower one is made again from the folders."""

PATIENCE = 60.0  # seconds that another process's transaction is waited for; ours last milliseconds

_APPLICATION = 0x646F6261  # "doba": tells our file from somebody else's

_TABLES = (
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created REAL NOT NULL,"
    " fingerprint TEXT, scope TEXT, ended REAL, entered REAL, status TEXT NOT NULL, rows INTEGER, requests INTEGER,"
    " reused INTEGER, completed INTEGER, failed INTEGER, batches INTEGER,"
    " prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, open_prompt_tokens INTEGER,"
    " open_completion_tokens INTEGER, open_cached_tokens INTEGER, open_now_prompt_tokens INTEGER,"
    " open_now_completion_tokens INTEGER, open_now_cached_tokens INTEGER, untold INTEGER, provider TEXT, model TEXT, \"into\" TEXT,"
    " base_url TEXT, account TEXT, output TEXT, problem TEXT)",
    "CREATE INDEX jobs_fingerprint ON jobs (fingerprint, created)",
    "CREATE INDEX jobs_unfinished ON jobs (id) WHERE ended IS NULL",
    "CREATE INDEX jobs_not_entered ON jobs (scope) WHERE ended IS NOT NULL AND entered IS NOT ended",
    "CREATE TABLE answers (key INTEGER, job INTEGER, PRIMARY KEY (key, job)) WITHOUT ROWID",
)  # fmt: skip


class Index:
    """
    The database at a path. Safe for several threads, several processes, and after fork.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        _open_ones.add(self)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``work(connection)``, which writes nothing."""
        with self._lock:
            try:
                try:
                    return work(self._connection())
                except sqlite3.DatabaseError as error:
                    if type(error) is sqlite3.DatabaseError:
                        # Not locked, full or the like: no database, or a damaged one.
                        self._set_aside(error)
                    elif "no such" in str(error):
                        # Another content was written into the file: opened again, it is made anew.
                        self.close()
                    else:
                        raise
                    return work(self._connection())
            except (sqlite3.Error, OSError, filelock.Timeout) as error:
                if self._db is not None and self._db.in_transaction:
                    self.close()
                raise self._told(error) from error

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Return ``work(connection)``, done in one transaction; another process's is waited for.

        It is done once more where the database turns out to be damaged, on one made anew.
        """
        return self.read(lambda db: _transaction(db, work))

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    # -- opening

    def _connection(self) -> sqlite3.Connection:
        # Somebody may have moved the file away, or put another one there.
        if self._db is not None and _identity(self.path) != self._file:
            self.close()
        if self._db is None:
            self._db = self._opened()
            self._file = _identity(self.path)
        return self._db

    def _opened(self) -> sqlite3.Connection:
        # The folder is not made: a job that tells how far it is must not make the home anew that was moved away.
        if self.path.is_dir():
            raise ConfigurationError(
                f"{self.path} is a folder, and the index of the jobs belongs there. Move it away; the index is made "
                "again from the jobs' own folders."
            )
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # Not WAL: that is for processes of one machine, and the workers of a cluster may be on several.
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA cache_size=-64000")  # KiB
            if self._version(db) < VERSION:
                _transaction(db, self._make)
        except BaseException:
            db.close()
            raise
        return db

    def _version(self, db: sqlite3.Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        ours = db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION
        if not ours and db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise ConfigurationError(
                f"{self.path} is a database of another program. Choose another home folder with "
                "dobatch.configure(home=...) or DOBATCH_HOME."
            )
        if version > VERSION:
            raise ConfigurationError(
                f"The home {self.path.parent} was used by a newer version of dobatch_pandas: its index has version "
                f"{version}, and this one knows {VERSION}. Upgrade with: pip install --upgrade dobatch-pandas"
            )
        return version

    def _make(self, db: sqlite3.Connection) -> None:
        if self._version(db) >= VERSION:
            return  # another process was first
        for name in ("answers", "jobs"):
            db.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")

    # -- trouble

    def _set_aside(self, error: sqlite3.Error) -> None:
        self.close()
        with filelock.FileLock(self.path.with_name("index.lock"), timeout=PATIENCE, mode=0o600):
            if _is_whole(self.path):
                return  # another process was first
            moment = time.strftime("%y%m%d-%H%M%S")
            kept = self.path.with_name(f"index-damaged-{moment}-{os.getpid()}.sqlite")
            os.replace(self.path, kept)
            with contextlib.suppress(FileNotFoundError):
                # Beside a new file it would be taken for what undoes that one's last transaction.
                os.replace(f"{self.path}-journal", f"{kept}-journal")
        warnings.warn(
            f"The index of the jobs was damaged ({error}). It is made again from the jobs' own folders, which are "
            f"complete; the damaged file is kept as {kept}.",
            stacklevel=6,
        )

    def _told(self, error: Exception) -> DobatchError:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        where = getattr(error, "filename", None) or self.path
        other = "choose another home with dobatch.configure(home=...) or DOBATCH_HOME"
        if isinstance(error, filelock.Timeout) or "locked" in words or "busy" in words:
            return ConfigurationError(
                f"Another process has kept {self.path} locked for {PATIENCE:.0f} seconds. Try again; if that does "
                f"not help, end that process, or {other}."
            )
        if "full" in words or "No space" in words:
            return ConfigurationError(
                f"The disk of {where} is full ({words}). Make room and try again, or {other}."
            )
        return ConfigurationError(f"Cannot use {where}: {words}. Make the home folder writable, or {other}.")

    def _leave_to_parent(self) -> None:
        if self._db is not None:
            # Closing it, or letting Python do so, is the parent's affair: both share the open file.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._db = None


def _transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
    return result


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _is_whole(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as db:
        try:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False


_open_ones: weakref.WeakSet[Index] = weakref.WeakSet()
_held: list[Index] = []


def _before_fork() -> None:
    # SQLite knows by file which locks its process holds. A child that began with some would wait for them for ever.
    _held[:] = sorted(_open_ones, key=id)
    for index in _held:
        index._lock.acquire()


def _after_fork_in_parent() -> None:
    for index in _held:
        index._lock.release()
    _held.clear()


def _after_fork_in_child() -> None:
    for index in _held:
        index._leave_to_parent()
    _after_fork_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
