"""
A job's folder, complete by itself: the question, which row asks what, how far each part is, and every file.

::

    <home>/index.sqlite             finds jobs and answers quickly; made again from the folders when it is lost
    <home>/jobs/<job id>/
        job.json                    what was asked, of whom, by whom
        journal.jsonl               how far the job and each of its parts have come
        lock                        held by the process that moves the job on
        cancel                      there when its end was asked for, by whatever process
        limit                       another limit of cost that a process asks whichever one moves the job on to set
        limit.taken                 the same while it is being set
        input.parquet               the frozen input, until every row is rendered
        new.npy                     which rows of a source are asked, where an output had the others
        rows.parquet                the labels and contents of the frame's rows, by which they are known again
        manifest.parquet            a row per request asked for: position, index label, custom_id, fate
        manifest-00000.parquet      which requests are in a part
        parts/part-00000.jsonl      requests as sent; compressed to .zst once the service has them
        output/part-00000.jsonl     the output file as received
        error/part-00000.jsonl      the error file as received
        results/part-00000.parquet  both files read, a row per request
        results/reused.parquet      answers taken from earlier jobs

This module alone knows these names. A file appears whole or not at all: it is written beside its place, synced, and
moved there in one step. Neither a token nor a signed address is ever stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import filelock
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.errors import ConfigurationError, DobatchError, JobNotFound
from dobatch_pandas.questions.part_files import ids_of_part, sync_folder

from .journal import FORMAT, Journal
from .machine import Allow, State

__all__ = [
    "UNREADABLE",
    "JobFolder",
    "JobRecord",
    "disk_in_words",
    "read_table",
    "release_in_child",
    "written_whole",
]

UNREADABLE = (OSError, pa.ArrowException)
"""What reading a file raises that is damaged, gone or not to be had."""

_A_REST = 5.0  # seconds in which a job that is written down is taken up


@dataclass(frozen=True)
class JobRecord:
    """
    What never changes about a job. Times are Unix seconds.

    ``fingerprint`` is a hash of everything that was asked, of whom and by whom: the same plan has the same one.
    ``account`` tells whose job it is without telling the token. ``recipe`` is JSON, with its keys in the order in which
    they were given. ``source`` is JSON too: the files that a dataset's rows come from, and where its answers go. ``cluster``
    says that the rows lie in a Dask frame, of so many partitions.
    """

    id: str
    created: float
    fingerprint: str
    base_url: str
    account: str
    provider: str
    endpoint: str
    model: str
    into: str
    rows: int
    recipe: str
    source: str | None = None
    reuse: bool = True
    max_cost: float | None = None
    cluster: int | None = None


class JobFolder:
    """Every path of one job, and its record and journal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.id = root.name
        self.record_path = root / "job.json"
        self.journal_path = root / "journal.jsonl"
        self.lock_path = root / "lock"
        self.cancel_path = root / "cancel"
        self.limit_path = root / "limit"
        self._taken_limit_path = root / "limit.taken"
        self.input = root / "input.parquet"
        self.new = root / "new.npy"
        self.rows = root / "rows.parquet"
        self.manifest = root / "manifest.parquet"
        self.parts = root / "parts"
        self.results = root / "results"
        self.reused = self.results / "reused.parquet"

    def create(self) -> JobFolder:
        """Make the folder and those in it; it is no job until `record` is written."""
        for folder in (self.root, self.parts, self.results, self.root / "output", self.root / "error"):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"Cannot write to the home folder {self.root.parent.parent}: {error.strerror or error}. Make it "
                    "writable, or choose another one with dobatch.configure(home=...) or DOBATCH_HOME."
                ) from error
        return self

    # -- what is in it

    def write_record(self, record: JobRecord) -> None:
        """Write down what is asked. From here on this is a job; its journal is there already."""
        content = {"format": FORMAT, **{f.name: getattr(record, f.name) for f in fields(record)}}
        with written_whole(self.record_path) as partial:
            partial.write_bytes(orjson.dumps(content))
        sync_folder(self.root.parent)

    def record(self) -> JobRecord:
        """
        Return what was asked.

        Raises
        ------
        JobNotFound
            There is no job here.
        ConfigurationError
            A newer version has written it, or it cannot be read.
        """
        try:
            content = orjson.loads(self.record_path.read_bytes())
            newer = content.pop("format", 0) > FORMAT
            names = {f.name for f in fields(JobRecord)}
            record = None if newer else JobRecord(**{n: value for n, value in content.items() if n in names})
        except FileNotFoundError:
            raise JobNotFound(f"There is no job {self.id!r} in {self.root.parent.parent}.", self.id) from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"Cannot read {self.record_path}: {error}. Put the file back from a copy of the home; or delete "
                f"{self.root} to forget the job."
            ) from error
        if record is None:
            raise ConfigurationError(
                f"Job {self.id} was written by a newer version of dobatch_pandas. Upgrade with: "
                "pip install --upgrade dobatch-pandas"
            )
        return record

    @property
    def exists(self) -> bool:
        return self.record_path.exists()

    def journal(self) -> Journal:
        return Journal(DiskFile(self.journal_path), self.id)

    def state(self) -> State:
        """
        Return how far the job has come, as last written down.

        Raises
        ------
        ConfigurationError
            It is a job, and nothing is written down.
        """
        journal = self.journal()
        state = journal.load()
        if journal.empty and self.exists:
            # It was written before the record: here something was lost, and what was sent nobody knows.
            raise ConfigurationError(
                f"{self.journal_path} is gone, empty or damaged, so nobody knows how far job {self.id} has come, and "
                "nothing of it is sent again. Put the file back, or forget the job with dobatch forget and ask again."
            )
        return state

    def part(self, number: int) -> Path:
        """The request lines of a part, compressed or not."""
        plain = self.parts / f"part-{number:05}.jsonl"
        packed = self.parts / f"part-{number:05}.jsonl.zst"
        return plain if plain.exists() or not packed.exists() else packed

    def part_manifest(self, number: int) -> Path:
        return self.root / f"manifest-{number:05}.parquet"

    def write_part_ids(self, number: int, ids: pa.Array) -> None:
        """Write down which requests are in a part, before anything relies on it."""
        with written_whole(self.part_manifest(number)) as partial:
            pq.write_table(pa.table({"custom_id": ids}), partial, compression="zstd")

    def part_ids(self, number: int) -> pa.Array:
        """Return the ids of a part's requests."""
        with contextlib.suppress(*UNREADABLE):
            manifest = read_table(self.part_manifest(number))
            return manifest["custom_id"].combine_chunks().cast(pa.string())
        # A job of version 0.1.0 has them in the part alone, and so has one whose file is damaged.
        return ids_of_part(self.part(number))

    def output(self, number: int) -> Path:
        return self.root / "output" / f"part-{number:05}.jsonl"

    def asked(self, number: int) -> Path:
        """Names of the requests of a part that were asked in real time."""
        return self.root / "asked" / f"part-{number:05}.jsonl"

    def error(self, number: int) -> Path:
        return self.root / "error" / f"part-{number:05}.jsonl"

    def result(self, number: int) -> Path:
        return self.results / f"part-{number:05}.parquet"

    def result_files(self) -> list[Path]:
        """Results that are there now, reused ones first, then in the order in which they were asked."""
        reused = [self.reused] if self.reused.exists() else []
        return reused + sorted(self.results.glob("part-*.parquet"))

    # -- who moves it on

    def try_lock(self) -> filelock.BaseFileLock | None:
        """
        The right to move the job on, or None while another process has it.

        The operating system takes the lock from a process that dies.
        """
        lock = filelock.FileLock(self.lock_path, thread_local=False, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return None
        return lock

    @property
    def at_rest(self) -> bool:
        """Whether no process moves the job on, and none has for a while."""
        with contextlib.suppress(OSError):
            # Whoever has just written it down is about to take the lock: that is not to be in its way.
            if time.time() - self.journal_path.stat().st_mtime > _A_REST:
                lock = self.try_lock()
                if lock is not None:
                    lock.release()
                    return True
        return False

    def ask_cancel(self) -> None:
        """Ask whatever process moves the job to end it."""
        self.cancel_path.touch(mode=0o600)
        sync_folder(self.root)

    @property
    def cancel_asked(self) -> bool:
        return self.cancel_path.exists()

    def ask_limit(self, limit: Allow) -> None:
        """Ask whatever process moves the job to set another limit of cost; who asks last decides."""
        with written_whole(self.limit_path) as partial:
            partial.write_bytes(orjson.dumps(limit))

    @property
    def limit_waits(self) -> bool:
        """Whether a limit that was asked for is not set yet."""
        # In this order: one that is taken between the two looks is seen by the second.
        return self.limit_path.exists() or self._taken_limit_path.exists()

    def limit_asked(self) -> Allow | None:
        """Take the limit that is asked for, if any; for whoever has the right to move the job on."""
        if not self._taken_limit_path.exists():
            try:
                os.replace(self.limit_path, self._taken_limit_path)
            except FileNotFoundError:
                return None
        try:
            asked = orjson.loads(self._taken_limit_path.read_bytes())
            return Allow(asked["max_cost"], tuple(map(tuple, asked["bounds"])))
        except (LookupError, TypeError, ValueError):  # a damaged disk: nobody can tell what it was
            self.limit_heeded()
            return None

    def limit_heeded(self) -> None:
        """Have the limit that was taken be done with: it stands in the journal."""
        self._taken_limit_path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the job: first that it is one, so that what is left after a crash is none."""
        self.record_path.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)


class DiskFile:
    """A journal's file on a real disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def append(self, data: bytes, *, sync: bool) -> None:
        new = not self._path.exists()
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)
        if new and sync:
            sync_folder(self._path.parent)

    def rewrite(self, data: bytes) -> None:
        with written_whole(self._path) as partial:
            partial.write_bytes(data)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path to write to; the file appears at `target`, private and synced, when the block ends without error."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        os.chmod(partial, 0o600)
        sync_file(partial)
        os.replace(partial, target)
        sync_folder(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


@contextmanager
def disk_in_words(folder: Path) -> Iterator[None]:
    """Have what this machine cannot read or write told as an error of ours."""
    try:
        yield
    except DobatchError:
        raise  # one of ours is a TimeoutError too, and so an OSError
    except UNREADABLE as error:
        if not folder.exists():
            raise JobNotFound(
                f"The folder of job {folder.name} is no longer there: {folder}. It was deleted or moved; put it back to go "
                "on with the job.",
                folder.name,
            ) from error
        raise ConfigurationError(
            f"This machine cannot read or write the files in {folder}: {error}"
        ) from error


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; a folder that stands in its place is no dataset of ours, and cannot be read."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder stands where a file should be", str(path))
    return pq.read_table(path, columns=columns)


def sync_file(path: Path) -> None:
    """Return when a power cut cannot take a file's bytes away."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def release_in_child(locks: list[Any]) -> None:
    """
    Let go of locks that a forked child has inherited, without taking them from the parent.

    A lock belongs to the open file, which both share: closing the child's end keeps the parent's, and lets the lock
    come free when the parent dies. Unlocking would take it from the parent.
    """
    for lock in locks:
        handle = lock._context.lock_file_fd
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)
            lock._context.lock_file_fd = None
