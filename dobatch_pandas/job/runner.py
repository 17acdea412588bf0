"""
Moves one job on: rows -> parts -> batches -> results, in threads of its own.

Each step is recorded in the ledger before the next one begins, so that a process that dies at any
instruction is followed by one that goes on from the last record. The steps of a part::

    rendered --upload--> uploaded --create--> created --poller--> ended --download, read--> read
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dobatch_pandas.errors import Conflict, DobatchError, Forbidden, NotFound, Unauthorized, is_no_room
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import TERMINAL, Batch

from .collector import Collector
from .output import write_output
from .poller import poller_for
from .progress import JobState, Stopped
from .render import render
from .sender import Sender
from .store import UNSENT, PartRecord, Store

__all__ = ["Runner"]


class Runner:
    """
    The one that moves a job on in this process.

    Parameters
    ----------
    store : Store
    job_id : str
    recipe : Recipe
    client : Client
    send_only : bool
        Stop once the service has everything; another process waits for the answers.
    """

    def __init__(
        self, store: Store, job_id: str, recipe: Recipe, client: Client, *, send_only: bool = False
    ) -> None:
        self.progress = JobState(store, job_id)
        self.send_only = send_only
        self._recipe, self._client = recipe, client
        self._sender = Sender(self.progress, recipe, client)
        self._collector = Collector(self.progress, recipe, client)
        self._poller = poller_for(client)
        self._thread = threading.Thread(target=self._run, name=f"dobatch-{job_id}", daemon=True)
        self._steps: set[threading.Thread] = set()

    # -- what others call

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still moves or watches the job."""
        return self._thread.is_alive()

    @property
    def moving(self) -> bool:
        """Whether it moves the job: alive, and not merely clearing up after an error."""
        return self.alive and self.progress.crash is None

    @property
    def sending(self) -> bool:
        """Whether requests are still to be handed to the service."""
        progress = self.progress
        with progress.changed:
            unsent = any(part.state in UNSENT for part in progress.parts.values())
            return self.alive and not progress.elsewhere and (unsent or not progress.job.rendered)

    def stop(self) -> None:
        """Leave the job alone; it can be attached to again."""
        self.progress.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)
        for part in list(self.progress.parts.values()):
            if part.batch_id:
                self._poller.forget(part.batch_id)

    def wake(self) -> None:
        """Try again now whatever waits for a better moment."""
        self.progress.wake()
        self._poller.wake()

    def cancel(self) -> None:
        """Cancel every batch, and send none that has not been sent."""
        self.progress.set_job(cancel_requested=1)
        self._cancel_batches()

    # -- the drive

    def _run(self) -> None:
        progress = self.progress
        lock = None
        try:
            lock = self._take_lock()
            if lock is not None and progress.job.ended is None:
                self._drive()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001  a thread has nobody above it: wait() raises this
            self._crash(error)
        finally:
            # Who has the lock next must not meet a thread of ours at a part.
            self._await_steps()
            if lock is not None:
                lock.release()
            progress.tell()

    def _take_lock(self) -> Any:
        """Wait until nobody else moves the job; return None when that one has finished it."""
        progress = self.progress
        pause = 0.05
        while True:
            lock = progress.store.try_lock(progress.job.id)
            progress.load()
            progress.elsewhere = lock is None
            if lock is not None or progress.job.ended is not None:
                return lock
            progress.wait(pause)
            pause = min(pause * 2, 1.0)

    def _drive(self) -> None:
        progress = self.progress
        for part in list(progress.parts.values()):
            self._resume(part)
        if not progress.job.rendered:
            render(progress, self._recipe, self._send_soon)
        self._await_parts()
        if self.send_only:
            return
        if progress.job.source is not None:
            write_output(progress.job, self._recipe, progress.folder)
        self._finish()

    def _resume(self, part: PartRecord) -> None:
        if part.state in UNSENT:
            self._send_soon(part.number)
        elif part.state == "created":
            self._sender.pack(part)
            self._watch(part)
        elif part.state == "ended":
            self._spawn(self._collect, part.number)

    def _spawn(self, step: Callable[..., object], *arguments: Any) -> None:
        def run() -> None:
            try:
                step(*arguments)
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001  a thread has nobody above it: wait() raises this
                self._crash(error)
            finally:
                self._steps.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=f"{self._thread.name}-part", daemon=True)
        with self.progress.changed:
            self._steps.add(thread)
            thread.start()

    def _await_steps(self) -> None:
        while True:
            with self.progress.changed:
                steps = list(self._steps)
            if not steps:
                return
            for thread in steps:
                thread.join()

    def _crash(self, error: BaseException) -> None:
        self.progress.crash = error
        self.progress.stop()

    def _await_parts(self) -> None:
        progress = self.progress
        enough = {"read", "dropped"} | ({"created", "ended"} if self.send_only else set())
        while not progress.wait_until(lambda: all(p.state in enough for p in progress.parts.values()), 1.0):
            # Another kernel can ask for the end through the ledger.
            if not progress.job.cancel_requested and progress.store.job(progress.job.id).cancel_requested:
                with progress.changed:
                    progress.job = replace(progress.job, cancel_requested=1)
                self._cancel_batches()

    def _finish(self) -> None:
        progress = self.progress
        parts = list(progress.parts.values())
        # What counts is how the last try ended.
        last = [part for part in parts if part.retry == max(p.retry for p in parts)]
        words = {"cancelled" if part.state == "dropped" else part.status for part in last}
        state = "completed"
        if words and words <= {"failed", "refused"}:
            state = "failed"
        elif words & {"cancelled", "expired"}:
            state = "expired" if "expired" in words else "cancelled"
        refused = [part for part in last if part.problem]
        problem = None
        if refused:
            which = f"{len(refused)} of {len(last)} batches" if len(last) > 1 else "The batch"
            problem = f"{which} failed: {refused[0].problem}"
        progress.set_job(state=state, problem=problem, ended=time.time())

    # -- sending and collecting, each part in a thread

    def _send_soon(self, number: int) -> None:
        """Send a part in a thread; blocks while enough parts lie on disk already."""
        self.progress.take("part")
        self._spawn(self._send, number)

    def _send(self, number: int) -> None:
        try:
            with self.progress.place("upload"):
                part = self._sender.send(number)
        finally:
            self.progress.give("part")
        self._watch(part)

    def _send_when_room(self, number: int, problem: str) -> None:
        self._watch(self._sender.send_when_room(number, problem))

    def _collect(self, number: int) -> None:
        with self.progress.place("reader"):
            self._collector.collect(number)

    # -- watching

    def _watch(self, part: PartRecord) -> None:
        if part.state != "created" or part.batch_id is None or self.send_only:
            return
        self._poller.watch(
            part.batch_id,
            lambda batch: self._see(part.number, batch),
            lambda error: self._see_trouble(part.number, error),
            age=max(0.0, time.time() - part.created_at) if part.created_at else 0.0,
        )

    def _see(self, number: int, batch: Batch) -> None:
        progress = self.progress
        progress.set_trouble(None)
        news = {"status": batch.status, "completed": batch.counts.completed, "failed": batch.counts.failed}
        with progress.changed:
            part = progress.parts[number]
            if part.state != "created" or part.batch_id != batch.batch_id:
                return
            if batch.terminal:
                progress.ended_batches += 1
            problem = _words(batch)
            no_room = batch.status == "failed" and any(is_no_room(e.message, e.code) for e in batch.errors)
            if batch.terminal and not no_room:
                progress.set_part(number, state="ended", problem=problem, **news)
            elif any(getattr(part, name) != value for name, value in news.items()):
                progress.set_part(number, deadline=batch.expires_at or part.deadline, **news)
        if no_room:
            # The same file again, as a new batch, when there is room at the provider.
            self._spawn(self._send_when_room, number, problem or "no room for more enqueued tokens")
        elif batch.terminal:
            self._spawn(self._collect, number)
        elif progress.job.cancel_requested and batch.status not in ("cancelling", "finalizing"):
            self._spawn(self._cancel_batch, number)

    def _see_trouble(self, number: int, error: DobatchError) -> None:
        if isinstance(error, (Unauthorized, Forbidden)):
            self.progress.set_paused(error)
        elif isinstance(error, NotFound):
            part = self.progress.parts[number]
            self._spawn(
                lambda: self._sender.settle(
                    part, "missing_result", str(error), state="read", problem=str(error)
                )
            )
        else:
            self.progress.set_trouble(f"{error} Trying again.")

    def _cancel_batches(self) -> None:
        for part in list(self.progress.parts.values()):
            if part.state == "created":
                self._spawn(self._cancel_batch, part.number)
        self.wake()

    def _cancel_batch(self, number: int) -> None:
        part = self.progress.parts[number]
        if part.batch_id is None or part.state != "created":
            return
        try:
            batch = self._client.cancel_batch(part.batch_id)
        except Conflict:
            # Over already, or not yet with the provider: the next look tells which, and asks again.
            return
        except DobatchError as error:
            self.progress.set_trouble(f"{error} The next look asks again.")
            return
        if batch.status in TERMINAL:
            self._see(number, batch)
            return
        with self.progress.changed:
            # The batch may have ended, and been seen to, while this answer was on its way.
            if self.progress.parts[number].state == "created":
                self.progress.set_part(number, status=batch.status)


def _words(batch: Batch) -> str | None:
    """What the service found wrong, the first few of it."""
    found = [f"line {e.line}: {e.message}" if e.line is not None else e.message for e in batch.errors]
    more = [f"and {len(found) - 5:,} more"] if len(found) > 5 else []
    return "; ".join(found[:5] + more) or None
