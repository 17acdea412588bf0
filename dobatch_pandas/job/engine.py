"""
The one loop of a process that moves every job on: it does what the machine decides, and tells it what came of it.

Commands of the user, results of work and time reach the loop as events; snapshots leave it. A step is written to the
job's journal before its actions begin. Work is done by `Workers`, a small fixed pool; whatever goes wrong there comes
back as an event of that part of that job. User code never runs here.

`Engine` has no thread of its own and asks nobody for the time: `Loop` drives it in a real process, and the simulation of
the tests in a made-up one.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from dobatch_pandas.errors import DobatchError

from .journal import OF_THE_JOB, Journal
from .machine import (
    OPERATION_OF,
    Action,
    Allow,
    AskAgain,
    Began,
    Cancel,
    Event,
    Failed,
    Fault,
    Look,
    LookAlong,
    Now,
    SendOnly,
    State,
    Tick,
    Woken,
    allowed,
    next_due,
    problem_of,
    step,
)

__all__ = ["Engine", "Live", "Lock", "World"]

log = logging.getLogger("dobatch_pandas")

A_LOOK_AROUND = 0.5  # seconds between looks at what other processes may have asked or given up
LONGEST_DISK_PAUSE = 30.0


class Lock(Protocol):
    """The right to move a job on."""

    def release(self) -> None:
        """Give it back."""
        ...


class Live:
    """
    A job that this process moves on, or watches another process move on; a world may keep more of it in a kind of its own.

    Parameters
    ----------
    job_id : str
    journal : Journal

    Attributes
    ----------
    key : hashable
        What tells it from every other job of the process.
    state : State
    elsewhere : bool
        Another process moves the job.
    disk : str or None
        Why nothing can be written down at the moment.
    broken : str or None
        A fault of ours that keeps the job from moving on in this process.
    """

    def __init__(self, job_id: str, journal: Journal) -> None:
        self.id, self.journal = job_id, journal
        self.key: Hashable = job_id
        self.state: State = journal.load()
        self.send_only = False
        self.elsewhere = False
        self.lock: Lock | None = None
        self.disk: str | None = None
        self.gone = False  # the engine has let go of it
        self.backlog: deque[Event] = deque()
        self.disk_due = 0.0
        self.disk_failures = 0
        self.broken: str | None = None

    @property
    def problem(self) -> str | None:
        """Why it does not move, or did not end well, in words."""
        return self.broken or self.disk or problem_of(self.state)[0]


L = TypeVar("L", bound=Live)
L_in = TypeVar("L_in", bound=Live, contravariant=True)


class World(Protocol[L_in]):
    """All that an engine asks of the process around it."""

    def now(self) -> Now:
        """Return this moment."""
        ...

    def start(self, live: L_in, action: Action) -> None:
        """Begin an action; exactly one event about it reaches the engine later."""
        ...

    def try_lock(self, live: L_in) -> Lock | None:
        """Return the right to move a job on, or None while another process has it."""
        ...

    def cancel_asked(self, live: L_in) -> bool:
        """Return whether any process asked for the job's end."""
        ...

    def limit_asked(self, live: L_in) -> Allow | None:
        """Return the limit of cost that another process asks for, the same one until it is heeded."""
        ...

    def limit_heeded(self, live: L_in) -> None:
        """Hear that the limit which was asked for is written down."""
        ...

    def told(self, live: L_in) -> None:
        """Hear that a job's state has changed."""
        ...


class Engine(Generic[L]):
    """
    Every job of one process.

    Parameters
    ----------
    world : World
    """

    def __init__(self, world: World[L]) -> None:
        self._world = world
        self.lives: dict[Hashable, L] = {}
        self._next_look_around = 0.0
        self._along = False

    # -- what others ask

    def take_up(self, live: L, *, send_only: bool = False) -> L:
        """
        Move a job on from here, as soon as no other process does, and return it as it is known here.

        One that moves here already goes on as it is: what it waits for is tried now, and results that were given up
        are asked for again. Nothing is known of a job where this raises.
        """
        known = self.lives.get(live.key)
        if known is not None and known.broken is not None:
            self.drop(known)
        elif known is not None and known.lock is not None:
            for event in (Woken(), AskAgain()):
                self.post(known, event)
            if send_only:
                self.send_only(known)
            return known
        live.send_only = send_only
        self._take(live)
        return live

    def send_only(self, live: L) -> None:
        """See to it that a job is sent, and leave it then: the process is about to end."""
        if live.elsewhere:
            self.drop(live)
        else:
            live.send_only = True
            self.post(live, SendOnly())

    def post(self, live: L, event: Event) -> None:
        """Take in something that has happened; where another process moves the job, when it no longer does."""
        if live.gone or live.broken is not None:
            return
        if isinstance(event, Cancel):
            self._hurry(live)
        else:
            live.backlog.append(event)
        self._work_off(live)

    def tick(self) -> None:
        """Do whatever is due."""
        now = self._world.now()
        if now.ticks >= self._next_look_around:
            self._next_look_around = now.ticks + A_LOOK_AROUND
            self._look_around()
        for live in list(self.lives.values()):
            due = self.due(live)
            if due is not None and due <= now.ticks:
                if not live.backlog:
                    live.backlog.append(Tick())
                self._work_off(live)

    def next_due(self) -> float | None:
        """Return the ticks at which `tick` is useful, or None where nobody waits for anything."""
        if not self.lives:
            return None
        dues = [due for due in map(self.due, self.lives.values()) if due is not None]
        return min([self._next_look_around, *dues])

    def drop(self, live: L) -> None:
        """Leave a job alone, as the end of the process would."""
        live.gone = True
        if self.lives.get(live.key) is live:
            del self.lives[live.key]
        if live.lock is not None:
            live.lock.release()
            live.lock = None
        self._tell(live)

    # -- moving on

    def due(self, live: L) -> float | None:
        """Return the ticks at which a job itself has something to do; None where only an event leads on."""
        if live.elsewhere or live.broken is not None:
            return None
        return live.disk_due if live.disk is not None else next_due(live.state)

    def _take(self, live: L) -> None:
        """Take a job if nobody has it, and watch it where somebody has."""
        lock = self._world.try_lock(live)
        try:
            # Whoever had the lock may have written since.
            live.state = live.journal.load()
            over = live.state.ended is not None
            cancelled = lock is not None and not over and self._world.cancel_asked(live)
            # Before anything more is sent; a second one may have been asked for while the first was being taken in.
            while lock is not None and (limit := self._world.limit_asked(live)) is not None:
                after = allowed(live.state, limit)
                live.journal.record(live.state, after)
                live.state = after
                self._world.limit_heeded(live)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        live.lock, live.elsewhere, live.disk = lock, lock is None, None
        self.lives[live.key] = live
        if live.journal.empty or (over and live.elsewhere):
            self.drop(live)  # somebody has forgotten it, or it is over
        elif live.elsewhere:
            self._tell(live)
        else:
            # What was asked of it while it was elsewhere comes after.
            live.backlog.appendleft(Began(live.send_only, cancelled))
            self._work_off(live)

    def _look_around(self) -> None:
        for live in list(self.lives.values()):
            try:
                if live.elsewhere:
                    self._take(live)
                else:
                    self._heed(live)
            except Exception as error:  # one job that cannot be seen to must not stand still every other
                log.debug("cannot look at job %s", live.id, exc_info=True)
                live.disk = f"Cannot look at the job's folder: {error}. Trying again."
                live.disk_due = self._world.now().ticks + A_LOOK_AROUND
                self._tell(live)

    def _heed(self, live: L) -> None:
        """Take in what other processes ask of a job that moves here."""
        if live.state.ended is None and not live.state.cancelled and self._world.cancel_asked(live):
            self.post(live, Cancel())
        if live.gone or live.broken is not None:
            return  # it is not ours any more
        limit = self._world.limit_asked(live)
        if limit is None:
            return
        if limit not in live.backlog:
            self.post(live, limit)
        if limit not in live.backlog:  # it does not wait for the disk
            self._world.limit_heeded(live)

    @staticmethod
    def _hurry(live: L) -> None:
        """Have a cancel come before whatever waits for the disk, so that nothing new begins meanwhile."""
        waiting = live.backlog
        if any(isinstance(event, Cancel) for event in waiting):
            return
        if waiting and isinstance(waiting[0], Began):
            waiting[0] = replace(waiting[0], cancelled=True)
        else:
            waiting.appendleft(Cancel())

    def _work_off(self, live: L) -> None:
        """Let a job's events happen, one after the other, each written down before it has consequences."""
        now = self._world.now()
        if live.lock is None or (live.disk is not None and now.ticks < live.disk_due):
            return
        looks = False
        while live.backlog and not live.gone:
            try:
                live.journal.settle()
                after, actions = step(live.state, live.backlog[0], now)
                live.journal.record(live.state, after, sync=_matters(live.state, after))
            except OSError as error:
                self._disk_trouble(live, error, now)
                break
            except Exception as error:  # a fault of ours must not stand still every other job
                log.exception("job %s cannot take in %r", live.id, live.backlog[0])
                live.broken = (
                    f"A fault of dobatch_pandas itself, please report it: {type(error).__name__}: {error}"
                )
                break
            live.disk, live.disk_failures = None, 0
            live.backlog.popleft()
            live.state = after
            for action in actions:
                self._begin(live, action)
                looks = looks or isinstance(action, Look)
        if live.state.over and not live.backlog and not live.gone:
            self.drop(live)
        self._tell(live)
        if looks:
            self._look_along(live)

    def _begin(self, live: L, action: Action) -> None:
        try:
            self._world.start(live, action)
        except Exception as error:  # else nobody would ever hear of it, and the part stand still
            log.exception("job %s cannot begin %r", live.id, action)
            fault = Fault("bug", f"A fault of dobatch_pandas itself, please report it: {error}.")
            live.backlog.append(Failed(getattr(action, "number", None), OPERATION_OF[type(action)], fault))

    def _tell(self, live: L) -> None:
        try:
            self._world.told(live)
        except Exception:  # whoever listens must not stop what goes on
            log.exception("nobody could be told of job %s", live.id)

    def _look_along(self, first: L) -> None:
        """Have batches of other jobs that are due soon looked at by the same call."""
        if self._along:
            return
        self._along = True
        for live in list(self.lives.values()):
            if live is not first and self.due(live) is not None and not live.backlog and live.disk is None:
                self.post(live, LookAlong())
        self._along = False

    def _disk_trouble(self, live: L, error: OSError, now: Now) -> None:
        pause = min(0.5 * 2.0**live.disk_failures, LONGEST_DISK_PAUSE)
        live.disk = f"Cannot write to the job's folder: {error}. Trying again in {pause:.0f} s."
        live.disk_due = now.ticks + pause
        live.disk_failures += 1


def _matters(before: State, after: State) -> bool:
    """Whether a power cut may not take away what has changed: anything but a running batch's counters."""
    if any(getattr(before, name) != getattr(after, name) for name in OF_THE_JOB):
        return True
    return any(
        part is not before.parts.get(number)
        and (
            number not in before.parts
            or part.state != before.parts[number].state
            or part.tried != before.parts[number].tried
            or part.attempt != before.parts[number].attempt
            or part.batch_id != before.parts[number].batch_id
        )
        for number, part in after.parts.items()
    )


class Loop:
    """
    The thread that drives an engine in a real process.

    Parameters
    ----------
    engine : Engine
    clock : callable
        Returns this moment.
    """

    def __init__(self, engine: Engine[Any], clock: Callable[[], Now]) -> None:
        self.engine, self._clock = engine, clock
        self._calls: deque[Callable[[], None]] = deque()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called in the loop; returns at once."""
        with self._news:
            self._calls.append(function)
            if self._thread is None or not self._thread.is_alive():
                # It is ours only once it runs: where no thread can be started, the next call tries again.
                thread = threading.Thread(target=self._run, name="dobatch-loop", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise DobatchError(
                        f"No thread can be started here ({error}), so nothing is moved on in this process. What is "
                        "recorded goes on with dobatch.attach(...) in another one."
                    ) from error
                self._thread = thread
            self._news.notify()

    def ask(self, function: Callable[[], Any]) -> Any:
        """Have a function called in the loop, and return what it returns or raise what it raises."""
        if threading.current_thread() is self._thread:
            return function()
        done = threading.Event()
        outcome: list[Any] = [None, None]

        def call() -> None:
            try:
                outcome[0] = function()
            except BaseException as error:  # noqa: BLE001  raised again where it was asked
                outcome[1] = error
            done.set()

        self.call(call)
        done.wait()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def settle(self, timeout: float) -> None:
        """Wait until whatever happens in the loop at this moment has been told, for so many seconds at most."""
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            done = threading.Event()
            self.call(done.set)
            done.wait(timeout)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._calls:
                    due = self.engine.next_due()
                    left = None if due is None else due - self._clock().ticks
                    if left is not None and left <= 0:
                        break
                    if left is None and not self._news.wait(5.0) and not self._calls:
                        self._thread = None
                        return
                    if left is not None:
                        self._news.wait(min(left, 60.0))
                calls = list(self._calls)
                self._calls.clear()
            for function in calls:
                self._safely(function)
            self._safely(self.engine.tick)

    def _safely(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            # A fault of ours in one job's step must not stand still all others; the job says what is wrong.
            log.exception("a step of a job failed")
