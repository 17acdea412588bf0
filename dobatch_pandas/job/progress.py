"""How far a job has come: the ledger's records in memory, told to whoever listens, and ways to wait for more."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dobatch_pandas.errors import ApiError, DobatchError

from .store import JobRecord, PartRecord, Store

__all__ = ["JobState", "Stopped"]

UPLOADS_AT_ONCE = 3
PARTS_AHEAD = 2  # rendered before their upload begins: bounds what lies on disk uncompressed
READERS = 1  # each uses several cores
A_PERSON = 600.0  # seconds after which a refused token is tried again all the same


class Stopped(Exception):
    """This process is to leave the job alone; the job itself goes on."""


class JobState:
    """
    The state of one job in the process that moves it on. Every change is in the ledger before it is told.

    Parameters
    ----------
    store : Store
    job_id : str

    Attributes
    ----------
    job : JobRecord
    parts : dict of int to PartRecord
    changed : threading.Condition
        Notified with every change.
    paused : str or None
        Why a person is needed.
    trouble : str or None
        What is wrong and hoped to pass.
    crash : BaseException or None
        What ended a thread of ours.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self.store = store
        self.folder = store.folder(job_id)
        self.job: JobRecord = store.job(job_id)
        self.parts: dict[int, PartRecord] = {p.number: p for p in store.parts(job_id)}
        self.changed = threading.Condition(threading.RLock())
        self.listeners: list[Callable[[], None]] = []
        self.elsewhere = False  # another process moves the job
        self.paused: str | None = None
        self.trouble: str | None = None
        self.crash: BaseException | None = None
        self.rows_rendered = 0
        self.upload_shares: dict[int, float] = {}
        self.ended_batches = 0  # each has left room for others
        self.wakeups = 0  # each may have mended what was wrong, such as a new token
        self.stopped = False
        self._free = {"part": UPLOADS_AT_ONCE + PARTS_AHEAD, "upload": UPLOADS_AT_ONCE, "reader": READERS}

    # -- changing and telling

    def load(self) -> None:
        """Read what another process may have written."""
        with self.changed:
            self.job = self.store.job(self.job.id)
            self.parts = {p.number: p for p in self.store.parts(self.job.id)}
        self.tell()

    def set_job(self, **changes: Any) -> None:
        """Record a change of the job."""
        with self.changed:
            self.job = replace(self.job, **changes)
            self.store.update_job(self.job.id, **changes)
        self.tell()

    def add_part(self, part: PartRecord) -> None:
        """Record a new part."""
        with self.changed:
            self.store.add_parts([part])
            self.parts[part.number] = part
        self.tell()

    def set_part(self, number: int, **changes: Any) -> PartRecord:
        """Record a change of a part, and return it as it is now."""
        with self.changed:
            part = self.parts[number] = replace(self.parts[number], **changes)
            self.store.update_part(part, **changes)
        self.tell()
        return part

    def set_trouble(self, text: str | None) -> None:
        """Say what is wrong and hoped to pass, or that nothing is."""
        if text is None:
            self.paused = None
        if self.trouble != text:
            self.trouble = text
            self.tell()

    def tell(self) -> None:
        """Let everyone who listens or waits look again."""
        with self.changed:
            self.changed.notify_all()
            listeners = list(self.listeners)
        for listener in listeners:
            listener()

    def stop(self) -> None:
        """Have every thread of the job end at its next step."""
        with self.changed:
            self.stopped = True
        self.tell()

    def wake(self) -> None:
        """Have whatever waits for a better moment try again."""
        with self.changed:
            self.wakeups += 1
        self.tell()

    def check(self) -> None:
        """Raise `Stopped` where the job is to be left alone."""
        if self.stopped:
            raise Stopped

    # -- waiting

    def wait_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for a condition; False where it was not met in time."""
        with self.changed:
            met = self.changed.wait_for(lambda: self.stopped or condition(), seconds)
        self.check()
        return met

    def wait(self, seconds: float, since: int | None = None) -> None:
        """
        Let some time pass, or less if something happens that may change the matter.

        ``since`` is `wakeups` as it was before the attempt that failed: what happened during it counts too.
        """
        seen = self.wakeups if since is None else since
        self.wait_until(lambda: self.wakeups != seen, seconds)

    @contextmanager
    def place(self, kind: str) -> Any:
        """Hold one of the few places for uploads, waiting parts or readers."""
        self.take(kind)
        try:
            yield
        finally:
            self.give(kind)

    def take(self, kind: str) -> None:
        """Wait for a place."""
        with self.changed:
            self.wait_until(lambda: self._free[kind] > 0)
            self._free[kind] -= 1

    def give(self, kind: str) -> None:
        """Give a place back."""
        with self.changed:
            self._free[kind] += 1
            self.changed.notify_all()

    def back_off(self, error: DobatchError, failures: int, since: int) -> None:
        """Say what is wrong, and wait: as long as the service asked for, else longer each time, up to 5 minutes."""
        asked = getattr(error, "retry_after", None)
        seconds = asked or random.uniform(0.5, 1.0) * min(2.0**failures, 300.0)
        self.set_trouble(f"{error} Trying again in {seconds:.0f} s.")
        self.wait(seconds, since)

    def wait_for_token(self, error: ApiError, since: int) -> None:
        """Wait for a person: the token does not do. ``dobatch.configure`` wakes us."""
        self.set_paused(error)
        self.wait(A_PERSON, since)

    def set_paused(self, error: DobatchError) -> None:
        """Say that the token does not do."""
        self.paused = (
            f"{error} Give a valid token with dobatch.configure(token=...); the job goes on by itself."
        )
        self.tell()
