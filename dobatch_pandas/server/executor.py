"""Runs batches in the background: a few threads for all batches that are open."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import uuid
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .clock import Clock
from .faults import Faults
from .lines import Outcome, failed, outcome, request_of
from .models import Model, ask
from .run import Run
from .state import Batch, State
from .storage import Objects
from .validation import FileLimits, inspect, line_offsets

__all__ = ["Executor"]

# Seconds that stopping waits for requests that are being executed.
_PATIENCE = 5.0
_log = logging.getLogger("dobatch_pandas.server")


class Executor:
    """
    The part of the server that does the work.

    Parameters
    ----------
    state, inputs, outputs, faults, clock
        What it works on.
    folder : pathlib.Path
        Where result files grow.
    model : Model
    limits : FileLimits
    concurrency : int, optional
        Threads; by default as many as the model likes.
    enqueued_tokens : int, optional
        A batch that brings the tokens of all open batches above this fails in validation.
    """

    def __init__(
        self,
        state: State,
        inputs: Objects,
        outputs: Objects,
        folder: Path,
        model: Model,
        faults: Faults,
        clock: Clock,
        limits: FileLimits,
        concurrency: int | None = None,
        enqueued_tokens: int | None = None,
    ) -> None:
        self._state, self._inputs, self._outputs, self._folder = state, inputs, outputs, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.model, self._faults, self._clock, self._limits = model, faults, clock, limits
        self._enqueued_tokens = enqueued_tokens
        self.executed: Counter[str] = Counter()
        self._runs: dict[str, Run] = {}
        self._held: dict[str, int] = {}
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._most = concurrency or model.concurrency
        self._busy = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"dobatch-server-{number}", daemon=True)
            for number in range(max(8, self._most))
        ]

    def start(self) -> None:
        """Take up every batch that has not ended, and begin."""
        for batch in self._state.open_batches():
            self.add(batch)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is being executed at this moment, and end the threads."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # What a thread brings later than that is dropped, and executed again after a restart.
        for run in self._runs.values():
            run.close()

    def add(self, batch: Batch) -> None:
        """Take up a batch."""
        run = Run(batch, self._inputs.path(f"{batch.input_file_id}.jsonl"), self._folder)
        with self._wake:
            if batch.batch_id in self._runs:
                return
            self._runs[batch.batch_id] = run
            self._wake.notify()

    def cancel(self, batch_id: str) -> None:
        """Hand out no more requests of a batch; it ends when those being executed have."""
        with self._wake:
            run = self._runs.get(batch_id)
            if run is not None:
                run.why = "cancelled"
                self._wake.notify()

    def wake(self) -> None:
        """Look again: the clock was moved."""
        with self._wake:
            self._wake.notify()

    def hold(self, stage: str, after: int) -> None:
        """Stop before a stage; in ``in_progress``, once ``after`` more requests were handed out."""
        with self._wake:
            self._held[stage] = after
            self._wake.notify()

    def release(self) -> None:
        """Go on."""
        with self._wake:
            self._held.clear()
            self._wake.notify()

    def live(self, batch: Batch) -> Batch:
        """The batch with the counts of this moment."""
        run = self._runs.get(batch.batch_id)
        if run is not None and not batch.terminal:
            batch.total, batch.completed, batch.failed = run.total, run.completed, run.failed
        return batch

    def _work(self) -> None:
        while True:
            with self._wake:
                task = self._task()
                while task is None and not self._stopping.is_set():
                    self._wake.wait(self._next_deadline())
                    task = self._task()
                if task is None or self._stopping.is_set():
                    return
                run, step = task
                run.busy += 1
                self._busy += 1
                if self._busy < self._room():
                    # There may be work for one more, who will ask the next.
                    self._wake.notify()
            problem = "An unexpected error in the server"
            try:
                step(run)
                problem = ""
            except (OSError, sqlite3.Error) as trouble:
                _log.exception("Batch %s cannot go on", run.batch_id)
                problem = str(trouble)
            finally:
                if problem:
                    # Requests were lost, so whatever went wrong, the batch must not seem complete.
                    self._fail(run, [{"code": "server_error", "message": problem, "line": None}])
                with self._wake:
                    run.busy -= 1
                    self._busy -= 1

    def _room(self) -> int:
        """How many threads may work at this moment."""
        # A made-up delay costs no processor, so every thread may sit in one.
        return len(self._threads) if self._faults.latency else self._most

    def _next_deadline(self) -> float | None:
        ends = [run.expires_at for run in self._runs.values() if run.why is None]
        return max(0.0, min(ends) - self._clock.now()) if ends else None

    def _task(self) -> tuple[Run, Callable[[Run], None]] | None:
        """The next thing to do; called with the lock held."""
        if self._stopping.is_set() or self._busy >= self._room():
            return None
        # The batch with the least left goes first: none waits for a larger one, and they end one by one.
        for run in sorted(self._runs.values(), key=lambda run: run.left):
            step = self._step(run)
            if step is not None:
                return run, step
        return None

    def _step(self, run: Run) -> Callable[[Run], None] | None:
        if run.why is None and self._clock.now() >= run.expires_at:
            run.why = "expired"
        if run.phase in ("validating", "resuming"):
            if run.busy or ("validating" in self._held and run.phase == "validating"):
                return None
            return self._validate if run.phase == "validating" else self._resume
        if run.phase == "in_progress" and run.left and run.why is None:
            count = self._granted(min(run.left, 1 if self._faults.latency else self.model.chunk))
            if not count:
                return None
            numbers = run.take(count)
            return lambda run: self._execute(run, numbers)
        if run.busy or run.phase == "ended":
            return None
        if run.phase == "in_progress":
            return self._finalize
        return None if "finalizing" in self._held else self._finish

    def _granted(self, wanted: int) -> int:
        left = self._held.get("in_progress")
        if left is None:
            return wanted
        count = min(wanted, left)
        self._held["in_progress"] = left - count
        return count

    def _validate(self, run: Run) -> None:
        findings = inspect(run.source, run.provider, run.endpoint, self._limits)
        if not findings.errors and self._enqueued_tokens is not None:
            tokens = self._state.enqueued_tokens()
            if tokens > self._enqueued_tokens:
                limit = self._enqueued_tokens
                message = f"Enqueued token limit reached: {tokens:,} tokens are enqueued, {limit:,} allowed."
                findings.add("token_limit_exceeded", message)
        if findings.errors:
            self._fail(run, findings.errors)
            return
        run.prepare(findings.offsets)
        now = self._clock.now()
        self._state.change(
            run.batch_id,
            ["validating"],
            status="in_progress",
            in_progress_at=now,
            updated_at=now,
            handed_over=True,
            total=run.total,
        )
        with self._wake:
            run.phase = "in_progress"

    def _resume(self, run: Run) -> None:
        # The process may have died between publishing the files and saying so.
        for file_id, path in _files_of(run):
            if not path.exists() and self._outputs.has(f"{file_id}.jsonl"):
                os.replace(self._outputs.path(f"{file_id}.jsonl"), path)
        run.prepare(line_offsets(run.source))
        with self._wake:
            run.phase = "in_progress"

    def _execute(self, run: Run, numbers: array[int]) -> None:
        outcomes: list[Outcome] = []
        ids: list[str] = []
        for line in run.read(numbers):
            custom_id, body = request_of(line, run.provider)
            kind = (
                self._faults.failure(custom_id, self.executed[custom_id]) if self._faults.fail_share else None
            )
            if self._faults.latency:
                self._stopping.wait(self._faults.latency)
            if kind is not None:
                outcomes.append(failed(run.provider, run.endpoint, custom_id, body["model"], kind))
            else:
                outcomes.append(outcome(run.provider, custom_id, ask(self.model, run.endpoint, body)))
            ids.append(custom_id)
        self.executed.update(ids)
        run.record(outcomes)

    def _finalize(self, run: Run) -> None:
        now = self._clock.now()
        self._state.change(
            run.batch_id, ["in_progress"], status="finalizing", finalizing_at=now, updated_at=now
        )
        with self._wake:
            run.phase = "finalizing"

    def _finish(self, run: Run) -> None:
        now = self._clock.now()
        if run.why is not None:
            run.give_up(run.why)
        published = [self._publish(run, file_id, path) for file_id, path in _files_of(run)]
        ended = {
            "output_file_id": published[0],
            "error_file_id": published[1] if len(published) > 1 else None,
            "total": run.total,
            "completed": run.completed,
            "failed": run.failed,
            "updated_at": now,
        }
        open_states = ["validating", "in_progress", "finalizing"]
        if run.why == "expired":
            done = self._state.change(run.batch_id, open_states, status="expired", expired_at=now, **ended)
        else:
            done = self._state.change(
                run.batch_id, open_states, status="completed", completed_at=now, **ended
            )
        if done is None:
            # Cancelling that came in at the last moment still counts.
            self._state.change(run.batch_id, ["cancelling"], status="cancelled", cancelled_at=now, **ended)
        self._forget(run)

    def _publish(self, run: Run, file_id: str, path: Path) -> str | None:
        if not path.exists() or not path.stat().st_size:
            path.unlink(missing_ok=True)
            return None
        spoil = self._faults.take_spoil() if path == run.output_path else None
        if spoil is not None:
            with path.open("rb") as file:
                lines = list(file)
            path.write_bytes(b"".join(spoil.apply(lines, zlib.crc32(run.batch_id.encode()))))
        os.replace(path, self._outputs.path(f"{file_id}.jsonl"))
        return file_id

    def _fail(self, run: Run, errors: list[dict[str, object]]) -> None:
        now = self._clock.now()
        changes = {"errors": errors, "updated_at": now, "total": run.total}
        open_states = ["validating", "in_progress", "finalizing", "cancelling"]
        self._state.change(run.batch_id, open_states, status="failed", failed_at=now, **changes)
        run.discard()
        self._forget(run)

    def _forget(self, run: Run) -> None:
        with self._wake:
            run.phase = "ended"
            self._runs.pop(run.batch_id, None)


def _files_of(run: Run) -> list[tuple[str, Path]]:
    """The ids that the result files will have, and where they grow: the output first."""
    paths = dict.fromkeys([run.output_path, run.error_path])
    return [(str(uuid.uuid5(uuid.NAMESPACE_OID, path.name)), path) for path in paths]
