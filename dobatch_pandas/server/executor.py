"""
Runs batches in the background, and real-time calls.

What computes is asked in a few threads. What is only waited for, a model behind HTTP, is asked in one event loop,
which thousands of requests a second cost little; the threads do the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
import uuid
import zlib
from array import array
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .clock import Clock
from .faults import Failure, Faults
from .lines import Outcome, failed, outcome, request_of
from .loop import Loop
from .models import AsyncModel, Model, ask, ask_async
from .pace import NotNow, Pace
from .run import Run
from .shapes import Reply
from .state import Batch, State
from .storage import Objects
from .validation import FileLimits, inspect, line_offsets

__all__ = ["Executor"]

_log = logging.getLogger("dobatch_pandas.server")
_T = TypeVar("_T")

# Seconds after which answers of a chunk are written, though the chunk is not through.
_FLUSH = 0.25
# Seconds between two tries of what the disk, the system or the ledger did not take.
_RETRY = 0.5
# How often a step of a batch may end in an error that is nobody's but ours, until the batch fails.
_MISHAPS = 3
# How often one request may be pushed back, while others are answered, until it is to blame itself.
_PUSHED = 20
# Real-time calls that may wait for their turn.
_WAITING = 1000
# Seconds that the connections to a model may take to close.
_CLOSING = 5.0
# A model that answers quicker than this many seconds gets so many requests of a batch handed out at a time.
_QUICK, _HANDFUL = 0.1, 8


class _Task(NamedTuple):
    """What is done next, in a thread or in the loop; ``asks`` says whether it asks the model."""

    work: Callable[[], Coroutine[Any, Any, None] | None]
    run: Run | None
    asks: bool


class _Dropped(Exception):
    """The server ends, and does not wait for this any more."""


class Executor:
    """
    The part of the server that does the work.

    Parameters
    ----------
    state, inputs, outputs, faults, clock
        What it works on.
    folder : pathlib.Path
        Where result files grow.
    model : Model or AsyncModel
    limits : FileLimits
    concurrency : int, optional
        Requests that are at the model at once, those of batches and real-time calls together; by default as
        many as the model likes.
    enqueued_tokens : int, optional
        A batch that brings the tokens of all open batches above this fails in validation.
    """

    def __init__(
        self,
        state: State,
        inputs: Objects,
        outputs: Objects,
        folder: Path,
        model: Model | AsyncModel,
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
        self.executed: Counter[str] | None = Counter()
        self._runs: dict[str, Run] = {}
        self._held: dict[str, int] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        # Where the model is asked in a loop: the loop, and what only the loop touches.
        self._loop = Loop("dobatch-server-loop") if isinstance(model, AsyncModel) else None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._kept: dict[Run, tuple[list[Outcome], asyncio.Future[None]]] = {}
        self._took = 1.0
        self._ending = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._stopping, self._dropped = threading.Event(), threading.Event()
        self._wake = threading.Condition()
        self.pace = Pace(concurrency or model.concurrency)
        self._busy = self._asking = 0
        self._alarm = float("inf")
        self._threads = [
            threading.Thread(target=self._work, name=f"dobatch-server-{number}", daemon=True)
            # Two more than ask the model at once: files are looked at and put in place meanwhile.
            for number in range(8 if self._loop is not None else max(8, self.pace.most) + 2)
        ]

    def start(self) -> None:
        """Take up every batch that has not ended, and begin."""
        for batch in self._state.open_batches():
            self.add(batch)
        for thread in self._threads:
            thread.start()
        with self._wake:
            self._notify()

    def _notify(self) -> None:
        """There may be something to do; called with the lock held."""
        self._wake.notify()
        # At the end the loop goes: calling it would begin another.
        if self._loop is not None and not self._due and not self._stopping.is_set():
            self._due = True
            self._loop.call(self._begin)

    def drain(self) -> None:
        """Begin nothing more; what is at the model goes on."""
        self._stopping.set()
        with self._wake:
            waiting = list(self._calls)
            self._calls.clear()
            self._notify()
            self._wake.notify_all()
        for _, future in waiting:
            future.cancel()
        if self._loop is not None:
            self._loop.call(self._ending.set)

    def stop(self, patience: float | None = 5.0) -> None:
        """
        Finish what is being executed at this moment, and end the threads.

        Parameters
        ----------
        patience : float, optional
            Seconds; what takes longer is dropped, and executed again after a restart.
        """
        self.drain()
        deadline = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        with self._wake:
            self._wake.wait_for(
                lambda: not self._asking, None if deadline is None else max(0.0, deadline - time.monotonic())
            )
        self._dropped.set()
        for run in list(self._runs.values()):
            run.close()

    def close(self) -> None:
        """Let go of the model, and of whatever still waits for it."""
        model = self.model
        if not isinstance(model, AsyncModel):
            model.close()
            return
        assert self._loop is not None
        closing = self._loop.run(model.close())
        # Whatever it waits for, and on however busy a machine: the home is to be free afterwards.
        with contextlib.suppress(FutureTimeout):
            closing.result(_CLOSING)
        self._loop.close()

    @property
    def asking(self) -> int:
        """Requests that are at the model at this moment."""
        return self._asking

    @property
    def busy(self) -> int:
        """Requests and steps of batches that are under way at this moment."""
        return self._busy

    @property
    def troubles(self) -> list[str]:
        """What keeps work from going on at this moment, in words."""
        found = [f"batch {run.batch_id}: {run.trouble}" for run in list(self._runs.values()) if run.trouble]
        why = self.pace.why
        return found if why is None else [f"the model: {why.message}", *found]

    def add(self, batch: Batch) -> None:
        """Take up a batch."""
        run = Run(batch, self._inputs.path(f"{batch.input_file_id}.jsonl"), self._folder)
        with self._wake:
            if batch.batch_id in self._runs:
                return
            self._runs[batch.batch_id] = run
            self._notify()

    def cancel(self, batch_id: str) -> None:
        """Hand out no more requests of a batch; it ends when those being executed have."""
        with self._wake:
            run = self._runs.get(batch_id)
            if run is not None:
                run.why = "cancelled"
                self._notify()

    def ask(self, endpoint: str, body: dict[str, Any]) -> Future[Reply]:
        """Let the model answer one request, as `call`."""
        return self.call(partial(self._asked, endpoint, body))

    def _asked(self, endpoint: str, body: dict[str, Any]) -> Reply | Awaitable[Reply]:
        model = self.model
        return (
            ask_async(model, endpoint, body) if isinstance(model, AsyncModel) else ask(model, endpoint, body)
        )

    def run(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Do something in the loop of a model that has one, at once."""
        assert self._loop is not None
        return self._loop.run(work)

    def call(self, work: Callable[[], _T | Awaitable[_T]]) -> Future[_T]:
        """
        Do something with the model, in its turn: before batches, and never more at once than is asked for.

        For a model that is asked in a loop it is called there, and may return something to await.

        Raises `NotNow` where the model is away, too much waits already, or the server is ending.
        """
        future: Future[_T] = Future()
        with self._wake:
            if self._stopping.is_set():
                raise NotNow("The server is ending", retry_after=5)
            if self.pace.why is not None and (closed := self.pace.closed_for()):
                why = self.pace.why
                raise NotNow(why.message, why.status, closed)
            if len(self._calls) >= _WAITING:
                raise NotNow("Too many requests wait already", 429, retry_after=1)
            self._calls.append((work, future))
            self._notify()
        return future

    def wake(self) -> None:
        """Look again: the clock was moved."""
        with self._wake:
            self._notify()

    def hold(self, stage: str, after: int) -> None:
        """Stop before a stage; in ``in_progress``, once ``after`` more requests were handed out."""
        with self._wake:
            self._held[stage] = after
            self._notify()

    def release(self) -> None:
        """Go on."""
        with self._wake:
            self._held.clear()
            self._notify()

    def reset(self) -> None:
        """Let go of every batch; what is at the model for them is nobody's when it comes."""
        with self._wake:
            for run in self._runs.values():
                run.phase = "ended"
                run.close()
            self._runs.clear()
            self._held.clear()
            if self.executed is not None:
                self.executed.clear()
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    @property
    def held(self) -> dict[str, int]:
        """The stages that batches are held before, and how many requests may still be handed out."""
        return dict(self._held)

    def live(self, batch: Batch) -> Batch:
        """The batch with the counts of this moment."""
        run = self._runs.get(batch.batch_id)
        if run is not None and not batch.terminal:
            batch.total, batch.completed, batch.failed = run.total, run.completed, run.failed
        return batch

    # The threads.

    def _work(self) -> None:
        while True:
            try:
                task = self._next()
                if task is None:
                    return
                try:
                    task.work()
                finally:
                    with self._wake:
                        self._count(task, -1)
                        if self._loop is not None:
                            self._notify()
            except BaseException:  # noqa: BLE001  a thread that ended would be missing for ever
                _log.exception("An error that nothing expects")
                self._dropped.wait(_RETRY)

    def _next(self) -> _Task | None:
        """Wait for something to do; None at the end."""
        with self._wake:
            while not self._stopping.is_set():
                looked = time.monotonic()
                task = self._task(asks=self._loop is None, steps=True)
                if task is not None:
                    self._count(task, 1)
                    # There may be work for one more, who will ask the next.
                    self._wake.notify()
                    return task
                alarm = self._next_alarm(looked, steps=True)
                if alarm >= self._alarm:
                    # Another thread wakes in time for that.
                    self._wake.wait()
                    continue
                self._alarm = alarm
                self._wake.wait(min(max(0.0, alarm - time.monotonic()), 3600.0))
                if self._alarm == alarm:
                    self._alarm = float("inf")
            return None

    def _count(self, task: _Task, more: int) -> None:
        self._busy += more
        self._asking += more * task.asks
        if task.run is not None:
            task.run.busy += more

    def _next_alarm(self, looked: float, steps: bool) -> float:
        """
        When something becomes possible by itself that was not when it was looked for; of steps of batches as well.

        Both are monotonic seconds. It may have become possible since: nobody would look again.
        """
        now = time.monotonic()
        alarms = [float("inf"), self.pace.opens]
        for run in self._runs.values():
            if steps and run.why is None:
                alarms.append(now + max(0.0, run.expires_at - self._clock.now()))
            alarms.append(run.not_before)
        return min(alarm for alarm in alarms if alarm > looked)

    def _room(self) -> int:
        """How many requests may be at the model at this moment."""
        # A made-up delay costs no processor, so every thread may sit in one.
        return max(8, self.pace.most) if self._faults.latency else self.pace.limit

    def _task(self, asks: bool, steps: bool) -> _Task | None:
        """The next thing to do, of what asks the model and of the steps of batches; called with the lock held."""
        may_ask = asks and self._asking < self._room() and not self.pace.closed_for()
        while self._calls and may_ask:
            work, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                call = self._call if self._loop is None else self._call_in_loop
                return _Task(partial(call, work, future), None, True)
        if not may_ask and not steps:
            return None
        # The batch with the least left goes first: none waits for a larger one, and they end one by one.
        for run in sorted(self._runs.values(), key=lambda run: run.turn):
            task = self._step(run, may_ask, steps)
            if task is not None:
                return task
        return None

    def _step(self, run: Run, may_ask: bool, steps: bool) -> _Task | None:
        if run.why is None and self._clock.now() >= run.expires_at:
            run.why = "expired"
        if run.not_before > time.monotonic():
            return None
        if run.asks_on:
            if not may_ask or run.unwritten:
                return None
            count = self._granted(min(run.left, self._handful(run)))
            if not count:
                return None
            execute = self._execute if self._loop is None else self._execute_in_loop
            return _Task(partial(execute, run, run.take(count)), run, True)
        if not steps:
            return None
        held = run.phase in ("validating", "finalizing") and run.phase in self._held
        if run.busy or held or run.phase == "ended":
            return None
        step = {
            "validating": self._validate,
            "resuming": self._resume,
            "in_progress": self._finalize,
            "finalizing": self._finish,
            "failing": self._end_failed,
        }[run.phase]
        return _Task(lambda: self._take_step(run, step), run, False)

    def _handful(self, run: Run) -> int:
        """How many requests are handed out together."""
        if self._faults.latency:
            return 1
        if self._loop is None:
            return int(getattr(self.model, "chunk", 1))
        # The last ones go one by one, so that nobody holds some while others have none.
        return max(1, min(_HANDFUL, run.left // (2 * self.pace.limit))) if self._took < _QUICK else 1

    def _granted(self, wanted: int) -> int:
        left = self._held.get("in_progress")
        if left is None:
            return wanted
        count = min(wanted, left)
        self._held["in_progress"] = left - count
        return count

    # What may go wrong on the way.

    def _take_step(self, run: Run, step: Callable[[Run], None]) -> None:
        try:
            step(run)
        except Exception as problem:  # noqa: BLE001  it is told, and the step is taken again
            self._stumble(run, problem)
        else:
            self._go_on(run)

    def _stumble(self, run: Run, problem: BaseException) -> None:
        """A batch cannot go on at this moment, or, where waiting does not help, at all."""
        if self._dropped.is_set():
            return
        words = f"{type(problem).__name__}: {problem}"
        gone = isinstance(problem, FileNotFoundError) and not run.source.exists()
        passing = isinstance(problem, (OSError, sqlite3.OperationalError)) and not gone
        with self._wake:
            run.mishaps += not passing
            told = run.trouble == words
            run.trouble, run.not_before = words, time.monotonic() + _RETRY
            if run.phase != "failing" and (gone or run.mishaps >= _MISHAPS):
                run.errors = [{"code": "server_error", "message": words, "line": None}]
                run.phase, run.not_before = "failing", 0.0
        if not told:
            _log.warning(
                "Batch %s pauses: %s. It goes on by itself when that has passed.", run.batch_id, words,
                exc_info=None if passing else problem,
            )  # fmt: skip

    def _go_on(self, run: Run) -> None:
        with self._wake:
            over, run.trouble, run.not_before, run.mishaps = run.trouble, "", 0.0, 0
        if over and run.phase != "failing":
            _log.warning("Batch %s goes on.", run.batch_id)

    def _record(self, run: Run, outcomes: list[Outcome]) -> None:
        """Write answers down, however long that takes: they cannot be had again for nothing."""
        if not outcomes:
            return
        try:
            run.record(outcomes)
        except OSError as problem:
            self._record_later(run, outcomes, problem, 1)
        else:
            if run.trouble:
                self._go_on(run)

    def _record_later(self, run: Run, outcomes: list[Outcome], problem: OSError, places: int) -> None:
        """The same where it was not possible at once; the places at the model are free meanwhile."""
        with self._wake:
            run.unwritten += 1
            self._asking -= places
            self._notify()
        try:
            self._stumble(run, problem)
            while not self._dropped.wait(_RETRY):
                try:
                    run.record(outcomes)
                except OSError as again:
                    self._stumble(run, again)
                else:
                    self._go_on(run)
                    return
            raise _Dropped from None
        finally:
            with self._wake:
                run.unwritten -= 1
                self._asking += places
                self._notify()

    def _hand_back(self, run: Run, numbers: array[int]) -> None:
        if not numbers:
            return
        with self._wake:
            run.hand_back(numbers)
            if "in_progress" in self._held:
                self._held["in_progress"] += len(numbers)
            self._notify()

    # Asking the model.

    def _call(self, work: Callable[[], Any], future: Future[Any]) -> None:
        begun = time.monotonic()
        try:
            result = work()
        except NotNow as later:
            self._pushed_back(later, begun)
            future.set_exception(later)
        except BaseException as problem:  # noqa: BLE001  it belongs to whoever called
            future.set_exception(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))
        else:
            self._answer_came()
            future.set_result(result)

    def _answer_came(self) -> None:
        if self.pace.why is not None:
            _log.warning("The model answers again.")
        with self._wake:
            self.pace.answer_came()

    def _pushed_back(self, later: NotNow, begun: float) -> None:
        with self._wake:
            before = self.pace.why
            self.pace.push_back(later, begun)
        if before is None or before.message != later.message:
            _log.warning("The model cannot answer: %s. Batches wait for it.", later.message)

    def _execute(self, run: Run, numbers: array[int]) -> None:
        done = 0
        outcomes: list[Outcome] = []
        ids: list[str] = []

        def flush() -> None:
            nonlocal outcomes, done
            self._record(run, outcomes)
            done += len(outcomes)
            outcomes = []

        flushed = time.monotonic()
        try:
            for number, line in zip(numbers, run.read(numbers), strict=True):
                custom_id, body = request_of(line, run.provider)
                one = self._one(run, number, custom_id, body)
                if one is None:
                    break
                outcomes.append(one)
                ids.append(custom_id)
                if time.monotonic() - flushed > _FLUSH:
                    flush()
                    flushed = time.monotonic()
                if self._stopping.is_set() or self._calls:
                    break
            flush()
        except _Dropped:
            pass
        except Exception as problem:  # noqa: BLE001  it is told, and these requests are taken again
            self._stumble(run, problem)
        if self.executed is not None:
            self.executed.update(ids)
        self._hand_back(run, numbers[done:])

    def _one(self, run: Run, number: int, custom_id: str, body: dict[str, Any]) -> Outcome | None:
        """What came of one request; None where the model could not take it."""
        kind = self._fault_of(custom_id)
        if self._faults.latency and self._stopping.wait(self._faults.latency):
            return None
        if kind is not None:
            return failed(run.provider, run.endpoint, custom_id, body["model"], kind)
        begun, model = time.monotonic(), self.model
        assert not isinstance(model, AsyncModel)
        try:
            reply = ask(model, run.endpoint, body)
        except NotNow as later:
            return self._not_taken(run, number, custom_id, later, begun)
        return self._taken(run, number, custom_id, reply)

    def _fault_of(self, custom_id: str) -> Failure | None:
        if not self._faults.fail_share:
            return None
        return self._faults.failure(custom_id, self.executed[custom_id] if self.executed else 0)

    def _taken(self, run: Run, number: int, custom_id: str, reply: Reply) -> Outcome:
        self._answer_came()
        run.pushed.pop(number, None)
        return outcome(run.provider, run.endpoint, custom_id, reply)

    def _not_taken(
        self, run: Run, number: int, custom_id: str, later: NotNow, begun: float
    ) -> Outcome | None:
        self._pushed_back(later, begun)
        count, answered = run.pushed.get(number, (0, -1))
        # Pushed back with all others it is not to blame, however long that lasts.
        count += answered not in (-1, self.pace.answered)
        run.pushed[number] = (count, self.pace.answered)
        if count < _PUSHED:
            return None
        run.pushed.pop(number, None)
        return outcome(run.provider, run.endpoint, custom_id, later.reply(run.endpoint))

    # The same in the loop.

    def _begin(self) -> None:
        """Begin whatever may be asked at this moment."""
        tasks: list[_Task] = []
        loop = asyncio.get_running_loop()
        with self._wake:
            self._due = False
            looked = time.monotonic()
            while not self._stopping.is_set() and (task := self._task(asks=True, steps=False)):
                self._count(task, 1)
                tasks.append(task)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            wait = self._next_alarm(looked, steps=False) - time.monotonic()
            if wait < float("inf"):
                self._timer = loop.call_later(min(max(0.0, wait), 3600.0), self._begin)
        for task in tasks:
            running = loop.create_task(self._through(task))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _through(self, task: _Task) -> None:
        run = task.run
        try:
            work = task.work()
            assert work is not None
            await work
        except Exception:  # noqa: BLE001  nobody else would hear of it
            _log.exception("An error that nothing expects")
        finally:
            with self._wake:
                self._count(task, -1)
                if self._stopping.is_set():
                    self._wake.notify_all()
                elif run is not None and not run.busy and not run.asks_on:
                    # Its next step is for a thread.
                    self._wake.notify()
            self._begin()

    async def _call_in_loop(self, work: Callable[[], Any], future: Future[Any]) -> None:
        begun = time.monotonic()
        try:
            result = work()
            if isinstance(result, Awaitable):
                result = await result
        except NotNow as later:
            self._pushed_back(later, begun)
            future.set_exception(later)
        except BaseException as problem:
            future.set_exception(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))
            if not isinstance(problem, Exception):
                raise
        else:
            self._answer_came()
            future.set_result(result)

    async def _execute_in_loop(self, run: Run, numbers: array[int]) -> None:
        done = 0
        try:
            for number, line in zip(numbers, run.read(numbers), strict=True):
                custom_id, body = request_of(line, run.provider)
                one = await self._one_in_loop(run, number, custom_id, body)
                if one is None:
                    break
                await self._keep(run, one)
                done += 1
                if self.executed is not None:
                    self.executed[custom_id] += 1
                if self._stopping.is_set() or self._calls or run.why or self._asking > self._room():
                    break
        except _Dropped:
            pass
        except Exception as problem:  # noqa: BLE001  it is told, and these requests are taken again
            self._stumble(run, problem)
        finally:
            self._hand_back(run, numbers[done:])

    async def _one_in_loop(
        self, run: Run, number: int, custom_id: str, body: dict[str, Any]
    ) -> Outcome | None:
        kind = self._fault_of(custom_id)
        if self._faults.latency:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._faults.latency)
                return None
        if kind is not None:
            return failed(run.provider, run.endpoint, custom_id, body["model"], kind)
        begun, model = time.monotonic(), self.model
        assert isinstance(model, AsyncModel)
        try:
            reply = await ask_async(model, run.endpoint, body)
        except NotNow as later:
            return self._not_taken(run, number, custom_id, later, begun)
        self._took += 0.1 * (time.monotonic() - begun - self._took)
        return self._taken(run, number, custom_id, reply)

    async def _keep(self, run: Run, one: Outcome) -> None:
        """Write an answer down, with all others that came at the same moment."""
        loop = asyncio.get_running_loop()
        if run not in self._kept:
            self._kept[run] = ([], loop.create_future())
            loop.call_soon(self._write, run)
        outcomes, written = self._kept[run]
        outcomes.append(one)
        await written

    def _write(self, run: Run) -> None:
        outcomes, written = self._kept.pop(run)
        loop = asyncio.get_running_loop()

        def over(patient: asyncio.Future[None]) -> None:
            if written.done():
                return
            problem = None if patient.cancelled() else patient.exception()
            written.set_result(None) if problem is None else written.set_exception(problem)

        try:
            run.record(outcomes)
        except OSError as problem:
            # That may last: a thread tries until it has passed. Whoever brought one of them waits for it.
            later = loop.run_in_executor(None, self._record_later, run, outcomes, problem, len(outcomes))
            later.add_done_callback(over)
        else:
            if run.trouble:
                self._go_on(run)
            written.set_result(None)

    # The steps of a batch.

    def _validate(self, run: Run) -> None:
        findings = inspect(run.source, run.provider, run.endpoint, self._limits)
        if not findings.errors and self._enqueued_tokens is not None:
            tokens = self._state.enqueued_tokens()
            if tokens > self._enqueued_tokens:
                limit = self._enqueued_tokens
                message = f"Enqueued token limit reached: {tokens:,} tokens are enqueued, {limit:,} allowed."
                findings.add("token_limit_exceeded", message)
        if findings.errors:
            with self._wake:
                run.errors, run.phase = findings.errors, "failing"
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
        ended = self._ended(run, now)
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

    def _end_failed(self, run: Run) -> None:
        """A batch ends that cannot go on; what it has been answered stays."""
        now = self._clock.now()
        run.close()
        open_states = ["validating", "in_progress", "finalizing", "cancelling"]
        self._state.change(
            run.batch_id,
            open_states,
            status="failed",
            failed_at=now,
            errors=run.errors,
            **self._ended(run, now),
        )
        self._forget(run)

    def _ended(self, run: Run, now: float) -> dict[str, Any]:
        """What is noted of a batch at its end, with its files put in their place."""
        published = [self._publish(run, file_id, path) for file_id, path in _files_of(run)]
        return {
            "output_file_id": published[0],
            "error_file_id": published[1] if len(published) > 1 else None,
            "total": run.total,
            "completed": run.completed,
            "failed": run.failed,
            "updated_at": now,
        }

    def _publish(self, run: Run, file_id: str, path: Path) -> str | None:
        if path in run.published:
            return run.published[path]
        if not path.exists() or not path.stat().st_size:
            path.unlink(missing_ok=True)
            run.published[path] = None
            return None
        spoil = self._faults.take_spoil() if path == run.output_path else None
        if spoil is not None:
            with path.open("rb") as file:
                lines = list(file)
            path.write_bytes(b"".join(spoil.apply(lines, zlib.crc32(run.batch_id.encode()))))
        os.replace(path, self._outputs.path(f"{file_id}.jsonl"))
        run.published[path] = file_id
        return file_id

    def _forget(self, run: Run) -> None:
        with self._wake:
            run.phase = "ended"
            self._runs.pop(run.batch_id, None)


def _files_of(run: Run) -> list[tuple[str, Path]]:
    """The ids that the result files will have, and where they grow: the output first."""
    paths = dict.fromkeys([run.output_path, run.error_path])
    return [(str(uuid.uuid5(uuid.NAMESPACE_OID, path.name)), path) for path in paths]
