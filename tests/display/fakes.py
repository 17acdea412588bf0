"""A job that does what a test says, at the pace of the test: the protocol that every drawing relies on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pandas as pd

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.display.snapshot import BatchRow, Snapshot
from dobatch_pandas.errors import JobNotFound

NOW = 1_795_500_000.0  # Unix seconds
HOUR = 3600.0


def snapshot(**changes: Any) -> Snapshot:
    """A running job of 100 requests in two batches; any field may be given."""
    base = Snapshot(
        job_id="261123-abcdef",
        state="running",
        model="gpt-4.1-mini",
        provider="openai",
        endpoint="/v1/chat/completions",
        into="sentiment",
        rows=100,
        requests=100,
        rendered=100,
        completed=40,
        parts=2,
        uploaded=2,
        started=NOW - 600,
        deadline=NOW + 23 * HOUR,
        batches=(
            BatchRow(0, "batch_1", "in_progress", 50, 40, 0, 5_000, NOW - 500, NOW + 23 * HOUR),
            BatchRow(1, "batch_2", "validating", 50, 0, 0, 5_000, NOW - 500, NOW + 23 * HOUR),
        ),
    )
    return replace(base, **changes)


FAILURES = (ErrorGroup("content_filter", 3, "withheld"), ErrorGroup("length", 1, "cut at max_tokens"))


class FakeJob:
    """
    A job in memory; ``set`` changes what it looks like and tells whoever listens, as a runner's thread would.

    Attributes
    ----------
    calls : list of str
        What was asked of it: ``"cancel"``, ``"retry"``, ``"errors"``.
    looks : int
        How often a snapshot was taken.
    """

    def __init__(self, now: Snapshot | None = None) -> None:
        self._now = now or snapshot()
        self.id = self._now.job_id
        self.calls: list[str] = []
        self.looks = 0
        self.deleted = False
        self.listeners: list[Callable[[], None]] = []
        self.changed = threading.Condition()

    def set(self, **changes: Any) -> None:
        with self.changed:
            self._now = replace(self._now, **changes)
            listeners = list(self.listeners)
            self.changed.notify_all()
        for listener in listeners:
            listener()

    def snapshot(self) -> Snapshot:
        self.looks += 1
        if self.deleted:
            raise JobNotFound(f"Job {self.id} is deleted.", self.id)
        return self._now

    def delete(self) -> None:
        """Be gone, as after `forget` in another cell or process."""
        self.deleted = True
        for listener in list(self.listeners):
            listener()

    @property
    def status(self) -> str:
        return self._now.state

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def cancel(self) -> FakeJob:
        self.calls.append("cancel")
        self.set(state="cancelled", ended=NOW)
        return self

    def retry(self, codes: Collection[str] | None = None) -> int:
        self.calls.append("retry")
        failed = self._now.failed
        self.set(state="running", failed=0, errors=(), ended=None)
        return failed

    def errors(self, *, wait: bool = True) -> pd.DataFrame:
        self.calls.append("errors")
        return pd.DataFrame(
            {"error_code": ["length"], "error_message": ["cut"], "text": ["half an ans"]}, index=["r7"]
        )

    def wait(self, timeout: float | None = None) -> FakeJob:
        with self.changed:
            assert self.changed.wait_for(lambda: self._now.over, timeout)
        return self
