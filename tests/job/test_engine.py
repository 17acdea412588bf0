"""The engine, with a world of a few lines: disks that fail, steps that raise, other processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dobatch_pandas.errors import DobatchError
from dobatch_pandas.job import engine as engine_module
from dobatch_pandas.job import machine as m
from dobatch_pandas.job.engine import Engine, Live, Loop
from dobatch_pandas.job.journal import Journal


class File:
    """A journal's file in memory, that can be full."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False
        self.synced = 0

    def read(self) -> bytes:
        return self.data

    def append(self, data: bytes, *, sync: bool) -> None:
        if self.full:
            self.data += data[: len(data) // 2]
            raise OSError(28, "No space left on device")
        self.data += data
        self.synced = len(self.data) if sync else self.synced

    def rewrite(self, data: bytes) -> None:
        self.data = data


class Held:
    def __init__(self, world: World, job_id: str) -> None:
        self.world, self.id = world, job_id
        world.locks.add(job_id)

    def release(self) -> None:
        self.world.locks.remove(self.id)


class World:
    """A world that notes what it is asked."""

    def __init__(self) -> None:
        self.ticks = 0.0
        self.started: list[tuple[str, m.Action]] = []
        self.locks: set[str] = set()
        self.cancelled: set[str] = set()
        self.limits: dict[str, m.Allow] = {}
        self.raises: Callable[[Live, m.Action], None] = lambda live, action: None
        self.deaf = False

    def now(self) -> m.Now:
        return m.Now(self.ticks, 1e9 + self.ticks)

    def start(self, live: Live, action: m.Action) -> None:
        self.raises(live, action)
        self.started.append((live.id, action))

    def try_lock(self, live: Live) -> Held | None:
        return None if live.id in self.locks else Held(self, live.id)

    def cancel_asked(self, live: Live) -> bool:
        return live.id in self.cancelled

    def limit_asked(self, live: Live) -> m.Allow | None:
        return self.limits.get(live.id)

    def limit_heeded(self, live: Live) -> None:
        del self.limits[live.id]

    def told(self, live: Live) -> None:
        if self.deaf:
            raise ValueError("a listener of mine")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def engine(world: World) -> Engine:
    return Engine(world)


def job(job_id: str, file: File | None = None) -> Live:
    file = file or File()
    if not file.data:
        Journal(file, job_id).record(None, m.State(job_id))
    live = Live(job_id, Journal(file, job_id))
    live.job = file
    return live


def test_a_step_is_written_down_before_its_actions_begin(engine: Engine, world: World) -> None:
    """What is needed to resume is on the disk before the service is asked for anything."""
    live = job("a")
    seen: list[tuple[str, bool]] = []

    def look_at_the_disk(live: Live, action: m.Action) -> None:
        part = Journal(live.job, "a").load().parts.get(0)
        seen.append(
            (type(action).__name__, part is not None and part.tried and live.job.synced == len(live.job.data))
        )

    world.raises = look_at_the_disk
    engine.take_up(live)
    engine.post(live, m.PartRendered(m.Part(0, 3)))
    engine.post(live, m.Uploaded(0, "f"))
    assert seen == [("Render", False), ("Upload", False), ("Create", True)]


def test_what_a_dead_process_left_unsynced_is_synced_before_it_is_relied_on(
    engine: Engine, world: World
) -> None:
    """Killed between writing and syncing, and a power cut long after: the batch that it told of is not forgotten."""
    file = File()
    part = m.Part(0, 3, state="created", tried=True, file_id="f", batch_id="b")
    Journal(file, "a").record(None, m.State("a", rendered=True, parts={0: part}), sync=False)
    synced: list[bool] = []
    world.raises = lambda live, action: synced.append(file.synced == len(file.data))
    engine.take_up(job("a", file))
    assert world.started == [("a", m.Look(0, "b"))]
    assert synced == [True]


def test_a_full_disk_is_told_and_gone_on_from(engine: Engine, world: World) -> None:
    """While nothing can be written down nothing is begun; the job says so, and goes on when there is room."""
    live = job("a")
    engine.take_up(live)
    live.job.full = True
    engine.post(live, m.PartRendered(m.Part(0, 3)))
    assert [action for _, action in world.started] == [m.Render()]
    assert "No space left on device" in str(live.disk)
    for _ in range(3):
        world.ticks = engine.next_due() or 0.0
        engine.tick()
    assert len(world.started) == 1
    live.job.full = False
    world.ticks += 60
    engine.tick()
    assert live.disk is None
    assert world.started[-1] == ("a", m.Upload(0))
    assert Journal(live.job, "a").load().parts[0].requests == 3


def test_a_cancel_overtakes_what_waits_for_the_disk(engine: Engine, world: World) -> None:
    """A cancel that is asked while the disk is full comes before the sending that waits for it."""
    live = job("a")
    engine.take_up(live)
    engine.post(live, m.PartRendered(m.Part(0, 3)))
    live.job.full = True
    engine.post(live, m.Uploaded(0, "f"))
    engine.post(live, m.Cancel())
    engine.post(live, m.Cancel())
    live.job.full = False
    world.ticks += 60
    engine.tick()
    assert not any(isinstance(action, m.Create) for _, action in world.started)
    assert live.state.cancelled


def test_a_step_that_raises_breaks_its_job_only(
    engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the package in one job is told there, and every other job goes on."""
    real = engine_module.step

    def step(state: m.State, event: m.Event, now: m.Now) -> Any:
        if state.id == "a" and isinstance(event, m.PartRendered):
            raise ZeroDivisionError("a fault of ours")
        return real(state, event, now)

    monkeypatch.setattr(engine_module, "step", step)
    for live in (a := job("a"), b := job("b")):
        engine.take_up(live)
        engine.post(live, m.PartRendered(m.Part(0, 3)))
    assert "please report it: ZeroDivisionError: a fault of ours" in str(a.broken)
    assert (b.broken, world.started[-1]) == (None, ("b", m.Upload(0)))
    assert engine.due(a) is None
    # To attach again tries again.
    monkeypatch.setattr(engine_module, "step", real)
    again = engine.take_up(job("a", a.job))
    assert (again.broken, again.elsewhere) == (None, False)
    assert world.started[-1] == ("a", m.Render())


def test_an_action_that_cannot_begin_is_a_fault_of_its_part(engine: Engine, world: World) -> None:
    """Where work cannot even begin the job says why and tries again; it does not stand still for ever."""

    def raises(live: Live, action: m.Action) -> None:
        if isinstance(action, m.Upload):
            raise RuntimeError("no more threads")

    world.raises = raises
    live = job("a")
    engine.take_up(live)
    engine.post(live, m.PartRendered(m.Part(0, 3)))
    assert "no more threads" in str(m.problem_of(live.state)[0])
    world.raises = lambda live, action: None
    world.ticks += 10
    engine.tick()
    assert world.started[-1] == ("a", m.Upload(0))


def test_a_listener_that_raises_stops_nothing(engine: Engine, world: World) -> None:
    """Whoever listens to a job cannot stand it still."""
    world.deaf = True
    live = job("a")
    engine.take_up(live)
    engine.post(live, m.PartRendered(m.Part(0, 3)))
    assert world.started[-1] == ("a", m.Upload(0))


def test_a_job_of_another_process_is_watched_then_taken_over(engine: Engine, world: World) -> None:
    """While another process moves my job this one only looks; when that one dies, it goes on within a second."""
    live = job("a")
    lock = world.try_lock(live)
    engine.take_up(live)
    engine.post(live, m.Allow(2.0))
    assert (live.elsewhere, world.started) == (True, [])
    assert lock is not None
    lock.release()
    world.ticks = 1.0
    engine.tick()
    assert (live.elsewhere, world.started) == (False, [("a", m.Render())])
    assert live.state.max_cost == 2.0  # what was asked meanwhile is not forgotten


def test_a_job_that_the_other_process_ended_is_let_go(engine: Engine, world: World) -> None:
    """When the other process has seen my job through, its end is here too."""
    live = job("a")
    lock = world.try_lock(live)
    engine.take_up(live)
    ended = m.State("a", rendered=True, ended=5.0, outcome="completed")
    Journal(live.job, "a").record(m.State("a"), ended)
    assert lock is not None
    lock.release()
    world.ticks = 1.0
    engine.tick()
    assert (live.gone, live.state.outcome, world.started, world.locks) == (True, "completed", [], set())


def test_a_job_that_was_forgotten_meanwhile_is_not_begun_anew(engine: Engine, world: World) -> None:
    """A job whose folder another process has deleted is no job any more."""
    live = job("a")
    lock = world.try_lock(live)
    engine.take_up(live)
    live.job.data = b""
    assert lock is not None
    lock.release()
    world.ticks = 1.0
    engine.tick()
    assert (live.gone, world.started, world.locks) == (True, [], set())


def test_a_job_that_cannot_be_taken_up_is_not_moved(engine: Engine, world: World) -> None:
    """Where taking a job raises, this process neither moves it nor keeps it from others."""
    live = job("a")

    def refuse() -> bytes:
        raise PermissionError(13, "Permission denied")

    live.job.read = refuse
    with pytest.raises(PermissionError):
        engine.take_up(live)
    engine.tick()
    assert (engine.lives, world.locks, world.started) == ({}, set(), [])


def test_a_job_that_is_taken_up_twice_is_moved_once(engine: Engine, world: World) -> None:
    """To attach to a job that moves here does not begin its work a second time."""
    live = engine.take_up(job("a"))
    assert engine.take_up(job("a", live.job)) is live
    assert world.started == [("a", m.Render())]


def test_a_cancel_from_another_process_is_heard_within_a_second(engine: Engine, world: World) -> None:
    """`dobatch cancel` in a terminal stops a kernel that is still sending."""
    live = engine.take_up(job("a"))
    world.cancelled.add("a")
    world.ticks = 1.0
    engine.tick()
    assert live.state.cancelled


def test_a_limit_from_another_process_holds_within_a_second(engine: Engine, world: World) -> None:
    """`dobatch allow` in a terminal is written down by the kernel that moves the job, also where its disk was full."""
    live = engine.take_up(job("a"))
    world.limits["a"] = m.Allow(2.0)
    live.job.full = True
    for moment in (1.0, 2.0):
        world.ticks = moment
        engine.tick()
        assert (live.state.max_cost, world.limits) == (None, {"a": m.Allow(2.0)})
    live.job.full = False
    for moment in (30.0, 31.0):
        world.ticks = moment
        engine.tick()
    assert (live.state.max_cost, world.limits) == (2.0, {})
    assert Journal(live.job, "a").load().max_cost == 2.0


def test_a_limit_that_was_asked_of_nobody_holds_before_anything_is_sent(engine: Engine, world: World) -> None:
    """Whoever takes up a job keeps to the limit that was asked for when nobody had it."""
    file = File()
    part = m.Part(0, 3, state="uploaded", file_id="f", bound=1.0)
    Journal(file, "a").record(None, m.State("a", rendered=True, parts={0: part}, max_cost=9.0))
    world.limits["a"] = m.Allow(0.5)
    live = engine.take_up(job("a", file))
    assert (live.state.max_cost, world.limits, world.started) == (0.5, {}, [])


def test_of_two_limits_that_were_asked_of_nobody_the_last_holds(engine: Engine, world: World) -> None:
    """One was being taken in when the power was cut, the other was asked for after it: both are heeded first."""
    file = File()
    part = m.Part(0, 3, state="uploaded", file_id="f", bound=1.0)
    Journal(file, "a").record(None, m.State("a", rendered=True, parts={0: part}, max_cost=9.0))
    world.limits["a"] = m.Allow(2.0)
    heeded = world.limit_heeded

    def and_another(live: Live) -> None:
        heeded(live)
        if live.state.max_cost == 2.0:
            world.limits["a"] = m.Allow(0.5)

    world.limit_heeded = and_another  # type: ignore[method-assign]
    live = engine.take_up(job("a", file))
    assert (live.state.max_cost, world.limits, world.started) == (0.5, {}, [])


def test_a_cancel_that_was_asked_of_nobody_is_read_before_anything_is_sent(
    engine: Engine, world: World
) -> None:
    """Whoever takes up a job that was cancelled meanwhile sends nothing more of it."""
    file = File()
    part = m.Part(0, 3, state="uploaded", file_id="f")
    Journal(file, "a").record(None, m.State("a", rendered=True, parts={0: part}))
    world.cancelled.add("a")
    engine.take_up(job("a", file))
    assert [type(action) for _, action in world.started] == [m.Read]


def test_a_job_that_is_over_is_let_go_of_though_the_disk_was_full_when_it_was_taken_up(
    engine: Engine, world: World
) -> None:
    """A full disk for a moment, and my finished job is not held by this process for ever: another one can retry it."""
    file = File()
    Journal(file, "a").record(None, m.State("a", rendered=True, ended=1.0, outcome="completed"))
    live = job("a", file)
    file.full = True
    engine.take_up(live)
    assert world.locks == {"a"}
    file.full, world.ticks = False, 60.0
    engine.tick()
    assert (world.locks, engine.lives) == (set(), {})


def test_looks_of_jobs_that_are_nearly_due_go_together(engine: Engine, world: World) -> None:
    """Many jobs cost few calls: what is due soon is looked at along with what is due now."""
    for name in "ab":
        file = File()
        part = m.Part(0, 3, state="created", tried=True, batch_id=name, created_at=1e9 - 1000)
        Journal(file, name).record(None, m.State(name, rendered=True, parts={0: part}))
        live = engine.take_up(job(name, file))
        engine.post(live, m.Seen(0, m.BatchSeen(name, "in_progress"), "look"))
        world.ticks += 5.0
    before = len(world.started)
    world.ticks = 50.0
    engine.tick()
    assert [name for name, _ in world.started[before:]] == ["a", "b"]


def test_the_loop_answers_whoever_asks_and_outlives_what_raises() -> None:
    """A command of mine returns or raises here, and the loop goes on after both."""
    world = World()
    loop = Loop(Engine(world), lambda: m.Now(time.monotonic(), time.time()))
    assert loop.ask(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        loop.ask(lambda: 1 // 0)
    heard = threading.Event()
    loop.call(lambda: 1 // 0)
    loop.call(heard.set)
    assert heard.wait(120)
    assert loop.ask(lambda: loop.ask(lambda: "within")) == "within"


def test_a_loop_that_could_not_start_a_thread_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread to be had at one moment does not stand still this process for ever."""
    loop = Loop(Engine(World()), lambda: m.Now(time.monotonic(), time.time()))

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as within:
        within.setattr(threading.Thread, "start", refuse)
        with pytest.raises(DobatchError, match="No thread"):
            loop.call(lambda: None)
    assert loop.ask(lambda: 42) == 42
