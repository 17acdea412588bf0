"""A model of a machine's disk: what was not synced is lost when the power is cut."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from .service import PartFile

if TYPE_CHECKING:
    from dobatch_pandas.job.machine import Allow

    from .world import Process


@dataclass
class JobOnDisk:
    """A job's folder. Whatever is not the journal appears whole and synced, or not at all."""

    journal: bytearray = field(default_factory=bytearray)
    synced: int = 0  # bytes of the journal that a power cut cannot take
    exists: bool = False
    cancel: bool = False
    limit: Allow | None = None  # asked for by a process that does not move the job
    taken: Allow | None = None  # the same while it is being set
    parts: dict[int, PartFile] = field(default_factory=dict)
    files: dict[tuple[int, str], dict[str, str]] = field(
        default_factory=dict
    )  # as received, by part and name
    results: dict[int, dict[str, str]] = field(
        default_factory=dict
    )  # an answer or "!code", by part and custom_id
    output: dict[str, str] | None = None


class Disk:
    """Every job's folder, and who has the right to move it on."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.jobs: dict[str, JobOnDisk] = {}
        self.locks: dict[str, Process] = {}
        self.full_until = 0.0

    def power_cut(self) -> None:
        """Take away what is not synced, or leave some of it, or leave zeros in its place."""
        for job in self.jobs.values():
            loose = len(job.journal) - job.synced
            if loose:
                left = self.random.choice((0, self.random.randint(0, loose), loose))
                tail = bytes(job.journal[job.synced : job.synced + left])
                if left and self.random.random() < 0.3:
                    tail = b"\0" * left
                job.journal = job.journal[: job.synced] + tail
            job.synced = len(job.journal)
        self.locks.clear()


class JournalOnDisk:
    """A journal's file, as one process has it open."""

    def __init__(self, process: Process, job_id: str) -> None:
        self._process, self._id = process, job_id

    @property
    def _job(self) -> JobOnDisk:
        return self._process.sim.disk.jobs[self._id]

    def read(self) -> bytes:
        job = self._process.sim.disk.jobs.get(self._id)
        return b"" if job is None else bytes(job.journal)

    def append(self, data: bytes, *, sync: bool) -> None:
        process, job = self._process, self._job
        process.owns(self._id)
        process.may_die("before a journal line")
        if data and process.disk_is_full():
            job.journal += data[: process.sim.random.choice((0, 0, len(data) // 2, len(data)))]
            raise OSError(errno.ENOSPC, "No space left on device")
        if process.dies():
            job.journal += data[: process.sim.random.randint(0, len(data))]
            process.die("in a journal line")
        job.journal += data
        process.may_die("after a journal line")
        if sync:
            if process.sync_fails():
                raise OSError(errno.EIO, "Input/output error")
            job.synced = len(job.journal)

    def rewrite(self, data: bytes) -> None:
        process, job = self._process, self._job
        process.owns(self._id)
        process.may_die("before a journal is rewritten")
        if process.disk_is_full():
            raise OSError(errno.ENOSPC, "No space left on device")
        job.journal = bytearray(data)
        job.synced = len(data)
        process.may_die("after a journal is rewritten")
