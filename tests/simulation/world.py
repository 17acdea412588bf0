"""The processes of a run: real engines in made-up time, with a model of the work that they ask for."""

from __future__ import annotations

import errno
import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

from dobatch_pandas.codes import RETRYABLE, ErrorGroup
from dobatch_pandas.job import machine as m
from dobatch_pandas.job.engine import Engine, Live
from dobatch_pandas.job.journal import Journal, folded

from .checks import Broken
from .disk import Disk, JobOnDisk, JournalOnDisk
from .service import Batch, PartFile, Service

A_REQUEST = 0.01  # the most that a request can cost
A_REQUEST_NOW = 0.02  # the same in real time
REAL_COST = 0.008  # what it does cost

_NETWORK = ["busy", "strange", "trouble", "silent"]
_ANSWERS = ["token", "refused", "unknown", "conflict", "gone", "not_ready"]
KINDS: dict[m.Operation, list[str]] = {
    "render": ["disk", "disk", "bug"],
    "upload": [
        "token",
        "refused",
        "link",
        "no_object",
        "unknown",
        "conflict",
        "gone",
        "torn",
        "disk",
        *_NETWORK,
    ],
    "create": ["about_file", "enqueued", *_ANSWERS, *_NETWORK],
    "find": ["token", "unknown", "refused", *_NETWORK],
    "look": [*_ANSWERS, *_NETWORK],
    "cancel": [*_ANSWERS, *_NETWORK],
    "fetch": ["link", "no_object", "torn", "half", "disk", *_ANSWERS, *_NETWORK],
    "read": ["disk", "disk", "bug"],
    "output": ["disk", "disk", "bug"],
}
API = ("upload", "create", "find", "look", "cancel", "fetch")
MAY_HAVE_ACTED = frozenset(["strange", "trouble", "silent"])


class Killed(BaseException):
    """The process is gone."""


class Weather:
    """Which faults a run has, and how many: few kinds a run, so that each is seen alone and in company."""

    def __init__(self, random: Random, horizon: float) -> None:
        self.random = random
        self.quiet = False
        self.rates: dict[str, list[tuple[str, float]]] = {}
        rough = random.choice((0, 1, 1, 2, 3))
        for operation, kinds in KINDS.items():
            some = random.sample(kinds, min(random.randint(0, rough), len(kinds)))
            self.rates[operation] = [(kind, random.choice((0.03, 0.1, 0.25))) for kind in some]
        # A fault that lasts: for one operation, or for all calls.
        self.outages: list[tuple[str | None, str, float, float]] = []
        for _ in range(random.choice((0, 0, 1, 2))):
            operation = random.choice((None, *API))
            kind = random.choice(_NETWORK if operation is None else KINDS[operation])
            if kind in ("refused", "gone") and operation in ("upload", "create"):
                kind = "trouble"
            start = random.random() * horizon
            length = random.choice((10.0, 300.0, 3600.0, 30_000.0)) * random.random()
            self.outages.append((operation, kind, start, start + length))
        self.kill = random.choice((0.0, 0.0, 0.001, 0.01, 0.03))
        self.power = random.choice((0.0, 0.5, 1.0))  # share of kills that are power cuts
        self.sync_fails = random.choice((0.0, 0.0, 0.0, 0.02))
        self.lock_fails = random.choice((0.0, 0.0, 0.0, 0.2))
        self.acts_late = random.choice((0.0, 0.0, 0.3))

    def fault(self, operation: str, now: float) -> str | None:
        if self.quiet:
            return None
        for which, kind, start, end in self.outages:
            if start <= now < end and (which == operation or (which is None and operation in API)):
                return kind
        chance = self.random.random()
        for kind, rate in self.rates[operation]:
            if chance < rate:
                return kind
            chance -= rate
        return None


class Asked:
    """A job as its user has it in mind, and what the checks have seen of it."""

    def __init__(self, job_id: str, random: Random) -> None:
        self.id = job_id
        rows = random.choice((1, 3, 8, 20))
        self.ids = [f"{job_id}.{n}" for n in range(rows)]
        self.reused = random.choice((0, 0, 0, rows // 2, rows))
        self.skipped = random.choice((0, 0, 1))
        self.part_size = random.choice((1, 4, 10, 100)) if rows < 20 else random.choice((5, 10, 100))
        self.bounded = random.random() < 0.85
        self.priced = random.random() < 0.85
        self.max_cost: float | None = None
        if random.random() < 0.3:
            self.max_cost = rows * A_REQUEST * random.random() * 1.2
        self.most: float | None = self.max_cost
        self.output = random.random() < 0.15
        self.curse: tuple[str, str] | None = None  # an operation that fails for this job alone, and how
        self.cancelled_at: float | None = None  # when the user was told that it will end
        self.limit_at = 0.0  # when a process that does not move it was last asked for another limit
        self.seen: dict[str, str] = {}  # answers that were read once
        self.let_through: set[str] = set()  # request_ids that have passed the gate
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.forgotten = False
        self.retry_in: int | None = (
            None  # the process in which a retry waits for results that were asked for again
        )


class Simulation:
    """One run. Everything that happens follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.t = 0.0
        self.wall = 1.75e9
        self.horizon = random.choice((10.0, 100.0, 1000.0, 10_000.0))
        self.weather = Weather(random, self.horizon)
        self.service = Service(random)
        self.service.dated = seed % 4 < 2
        self.service.aside = Random(f"{seed} aside")
        self.disk = Disk(random)
        self.asked: dict[str, Asked] = {}
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0  # of events so far
        self.order = 0
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=40)
        self.faults: Counter[str] = Counter()
        self.delays = (0.02, 0.2, 0.2, 2.0, 20.0)  # what a piece of work takes at most
        self.processes = [Process(self, number) for number in range(2)]
        self._states: dict[str, tuple[bytes, m.State]] = {}

    # -- time

    def log(self, *words: Any) -> None:
        self.trace.append((self.t, self.count, *words))

    def at(self, delay: float, function: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.queue, (self.t + delay, self.order, function))

    def run(self, until: float, done: Callable[[], bool] | None = None, most: int = 100_000) -> bool:
        """Let time pass; returns whether `done`."""
        stop = self.count + most
        still = 0
        while self.count < stop:
            if done is not None and done():
                return True
            soonest, whose = until, None
            for process in self.processes:
                due = process.due()
                if due < soonest:
                    soonest, whose = due, process
            if self.queue and self.queue[0][0] <= soonest:
                if self.queue[0][0] > until:
                    break
                time, _, function = heapq.heappop(self.queue)
                still = 0 if time > self.t else still
                self.t = max(self.t, time)
                self.count += 1
                function()
            elif whose is None:
                break
            else:
                still = 0 if soonest > self.t else still + 1
                if still > 60:
                    raise Broken("calm", f"process {whose.number} does the same again and again")
                self.t = max(self.t, soonest)
                self.count += 1
                whose.do(whose.engine.tick)
        self.t = max(self.t, until) if self.count < stop else self.t
        return done is not None and done()

    def poke(self) -> None:
        """Have every process look around, as each does twice a second."""
        for process in self.processes:
            process.later(0.55, process.engine_tick)

    # -- faults of the machine as a whole

    def power_cut(self) -> None:
        self.log("the power is cut")
        self.faults["power"] += 1
        for process in self.processes:
            process.end()
        self.disk.power_cut()
        for process in self.processes:
            process.come_back()
        self.open_everything()

    def open_everything(self) -> None:
        """(i) what is on disk opens."""
        for job_id, job in self.disk.jobs.items():
            if not job.exists:
                continue
            try:
                state = folded(job_id, bytes(job.journal))
            except Exception as error:
                raise Broken("i", f"{job_id}: {type(error).__name__}: {error}") from error
            for number, part in state.parts.items():
                if number not in job.parts or len(job.parts[number].ids) != part.requests:
                    raise Broken("i", f"part {number} of {job_id} is not on disk as the journal says")
                if part.final and number not in job.results:
                    raise Broken(
                        "i", f"part {number} of {job_id} has no results, though the journal says read"
                    )

    # -- what a user sees

    def state(self, job_id: str) -> m.State:
        """The state that is on disk; a journal that nobody has written to since is not read again."""
        journal = bytes(self.disk.jobs[job_id].journal)
        known = self._states.get(job_id)
        if known is None or known[0] != journal:
            known = self._states[job_id] = journal, folded(job_id, journal)
        return known[1]

    def over(self, job_id: str) -> bool:
        """Whether its end is on disk; a journal that never told of one is not read for that."""
        journal = self.disk.jobs[job_id].journal
        if journal.count(b'"ended":') == journal.count(b'"ended":null'):
            return False
        return self.state(job_id).ended is not None

    def answers(self, job_id: str) -> dict[str, str]:
        """What a join gives for each request that has a result: the first answer, else the last code."""
        found: dict[str, str] = {}
        results = self.disk.jobs[job_id].results
        for number in sorted(results):
            for custom_id, result in results[number].items():
                if custom_id not in found or found[custom_id].startswith("!"):
                    found[custom_id] = result
        return found

    def join(self, job_id: str) -> None:
        asked = self.asked[job_id]
        if asked.forgotten or job_id not in self.disk.jobs:
            return
        found = self.answers(job_id)
        for custom_id, answer in asked.seen.items():
            # Where a retry has asked again for what was given up, the first answer may come after all.
            if found.get(custom_id, "!").startswith("!"):
                raise Broken("h", f"{custom_id} had {answer!r} and has {found.get(custom_id)!r}")
        for custom_id, result in found.items():
            if not result.startswith("!"):
                if not result.startswith(f"{custom_id}@"):
                    raise Broken("b", f"{custom_id} has {result!r}")
                asked.seen[custom_id] = result

    def available(self, job_id: str) -> dict[str, str]:
        """Every answer that the service has for a job at this moment."""
        found: dict[str, str] = {}
        for batch in self.service.batches.values():
            if batch.file.job == job_id and not batch.lost:
                for lines in (self.service.results(batch, self.t) or {}).values():
                    for custom_id, line in lines.items():
                        if line.startswith(f"{custom_id}@"):
                            found.setdefault(custom_id, line)
        return found


class LockOnDisk:
    def __init__(self, process: Process, job_id: str) -> None:
        self._process, self._id = process, job_id

    def release(self) -> None:
        locks = self._process.sim.disk.locks
        if locks.get(self._id) is not self._process:
            raise Broken("lock", f"{self._id} is given back by who does not have it")
        del locks[self._id]
        self._process.sim.poke()


class Process:
    """A process with an engine: the `World` of a run."""

    def __init__(self, sim: Simulation, number: int) -> None:
        self.sim, self.number = sim, number
        self.generation = 0
        self.alive = False
        self.token = 0
        self.frozen_until = 0.0
        self.woke = 0.0
        self.missed: list[Callable[[], None]] = []  # what comes to pass as soon as the machine wakes
        self.origin = 0.0
        self.busy: dict[tuple[Live, int | None], str] = {}
        self.leaving = False
        self.engine = Engine(self)
        self._due: float | None = None

    # -- life and death

    def boot(self) -> None:
        if self.alive:
            return
        self.alive, self.leaving = True, False
        self.do(self._begin)

    def _begin(self) -> None:
        self.sim.log(self.number, "begins")
        self.token = self.sim.service.valid_token
        self.origin = self.sim.random.random() * 1e5 - self.sim.t
        self.engine = Engine(self)
        self._due = None
        for job_id in list(self.sim.asked):
            if self.sim.random.random() < 0.8:
                self.attach(job_id)
            else:
                self.later(self.sim.random.random() * 100, lambda job_id=job_id: self.attach(job_id))

    def end(self) -> None:
        """Be gone, as by kill -9: the system takes back the locks."""
        self.alive = False
        self.frozen_until = 0.0
        self.missed.clear()
        self.engine = Engine(self)
        self._due = None
        self.generation += 1
        self.busy.clear()
        locks = self.sim.disk.locks
        for job_id in [job_id for job_id, owner in locks.items() if owner is self]:
            del locks[job_id]
        self.sim.poke()

    def come_back(self) -> None:
        self.sim.at(self.sim.random.choice((0.1, 3.0, 100.0)), self.boot)

    def do(self, function: Callable[[], None]) -> None:
        """Run something in this process, which may be killed meanwhile."""
        if not self.alive:
            return
        if self.frozen_until:
            self.missed.append(function)
            return
        self._due = None
        try:
            function()
        except Killed:
            self.sim.faults["kill"] += 1
            if self.sim.random.random() < self.sim.weather.power:
                self.sim.power_cut()
            else:
                self.end()
                self.come_back()
        if self.leaving and self.alive and not self.engine.lives:
            self.sim.log(self.number, "has exited")
            self.end()
            self.come_back()

    def sleep(self, seconds: float) -> None:
        """Stand still, as the process of a laptop that is closed."""
        if self.alive and not self.frozen_until:
            self.sim.log(self.number, f"sleeps for {seconds:,.0f} s")
            self.frozen_until = self.sim.t + seconds
            until = self.frozen_until
            self.sim.at(seconds, lambda: self.wake() if self.frozen_until == until else None)

    def wake(self) -> None:
        if not self.frozen_until:
            return
        self.frozen_until, self.woke = 0.0, self.sim.t
        missed, self.missed = self.missed, []
        # The loop looks around twice a second, so also at once.
        for function in (self.engine_tick, *missed):
            self.do(function)

    def later(
        self, delay: float, function: Callable[[], None], *, outlives: Callable[[], None] | None = None
    ) -> None:
        """Run something in this process later; where it is gone by then, `outlives` instead."""
        generation = self.generation

        def run() -> None:
            if self.generation == generation:
                self.do(function)
            elif outlives is not None:
                outlives()

        self.sim.at(delay, run)

    def engine_tick(self) -> None:
        self.engine.tick()

    def due(self) -> float:
        if not self.alive:
            return float("inf")
        if self._due is None:
            # Looks at what other processes do happen where there is something to see: `Simulation.poke`.
            dues = [due for live in self.engine.lives.values() if (due := self.engine.due(live)) is not None]
            self._due = min(dues, default=float("inf")) - self.origin + 1e-6  # sums of floats are not exact
        return float("inf") if self.frozen_until else self._due

    def dies(self) -> bool:
        weather = self.sim.weather
        return not weather.quiet and bool(weather.kill) and self.sim.random.random() < weather.kill

    def die(self, where: str) -> None:
        self.sim.log(self.number, "is killed", where)
        raise Killed(where)

    def may_die(self, where: str) -> None:
        if self.dies():
            self.die(where)

    def disk_is_full(self) -> bool:
        full = self.sim.t < self.sim.disk.full_until and not self.sim.weather.quiet
        self.sim.faults["disk"] += full
        return full

    def sync_fails(self) -> bool:
        weather = self.sim.weather
        fails = (
            not weather.quiet and bool(weather.sync_fails) and self.sim.random.random() < weather.sync_fails
        )
        self.sim.faults["disk"] += fails
        return fails

    def owns(self, job_id: str) -> None:
        job = self.sim.disk.jobs.get(job_id)
        if job is None:
            raise FileNotFoundError(2, "No such file or directory")
        if job.exists and self.sim.disk.locks.get(job_id) is not self:
            raise Broken("lock", f"process {self.number} writes to the journal of {job_id}")

    # -- what a user does

    def submit(self, asked: Asked) -> None:
        sim = self.sim
        sim.log(self.number, "submit", asked.id, len(asked.ids))
        sim.disk.jobs[asked.id] = JobOnDisk()
        journal = Journal(JournalOnDisk(self, asked.id), asked.id)
        try:
            journal.record(None, m.State(asked.id, max_cost=asked.max_cost, output=asked.output), sync=True)
        except OSError:
            return
        self.may_die("before a job is recorded")
        sim.disk.jobs[asked.id].exists = True
        sim.asked[asked.id] = asked
        self.may_die("after a job is recorded")
        self.attach(asked.id)

    def attach(self, job_id: str) -> None:
        job = self.sim.disk.jobs.get(job_id)
        if job is None or not job.exists or self.leaving:
            return
        live = self.engine.lives.get(job_id)
        self.sim.log(self.number, "attach", job_id)
        try:
            if live is None:
                live = Live(job_id, Journal(JournalOnDisk(self, job_id), job_id))
            self.engine.take_up(live)
        except OSError:
            self.sim.log(self.number, "cannot attach now", job_id)

    def holds(self, job_id: str) -> Live | None:
        live = self.engine.lives.get(job_id)
        return live if live is not None and not live.elsewhere else None

    def cancel(self, job_id: str) -> None:
        job = self.sim.disk.jobs.get(job_id)
        if job is None or not job.exists or self.sim.state(job_id).ended is not None:
            return
        self.sim.log(self.number, "cancel", job_id)
        job.cancel = True
        asked = self.sim.asked[job_id]
        if asked.cancelled_at is None:
            asked.cancelled_at = self.sim.t
        self.sim.poke()
        live = self.holds(job_id)
        if live is not None:
            self.engine.post(live, m.Cancel())

    def retry(self, job_id: str) -> None:
        """As the user's `retry`: ask again for results that were given up, then send again what failed."""
        sim, asked = self.sim, self.sim.asked[job_id]
        job = sim.disk.jobs.get(job_id)
        if job is None or not job.exists or asked.forgotten or self.leaving:
            return
        if job_id in self.engine.lives or sim.state(job_id).ended is None or job_id in sim.disk.locks:
            return
        if asked.retry_in != self.number and any(p.provisional for p in sim.state(job_id).parts.values()):
            asked.retry_in = self.number
            self.attach(job_id)
            self.later(1.0, lambda: self._retry_on(job_id))
            return
        asked.retry_in = None
        state = sim.state(job_id)
        journal = Journal(JournalOnDisk(self, job_id), job_id)
        failed = [i for i, r in self.sim.answers(job_id).items() if r.startswith("!") and r[1:] in RETRYABLE]
        if not failed:
            return
        if sim.weather.quiet:
            paid = sim.available(job_id)
            again = [i for i in failed if i in paid]
            if again:
                raise Broken("c", f"a retry pays again for {again[0]}, whose answer the service has")
        sim.log(self.number, "retry", job_id, len(failed))
        job.cancel = False
        asked.cancelled_at = None
        parts = []
        number = m.next_number(state.parts)
        turn = max((p.round for p in state.parts.values()), default=0) + 1
        while failed:
            some, failed = failed[: asked.part_size], failed[asked.part_size :]
            self.may_die("before a part of a retry is written")
            job.parts[number] = PartFile(job_id, number, turn, tuple(some))
            bound = len(some) * A_REQUEST if asked.bounded else None
            parts.append(m.Part(number, len(some), 10, turn, bound))
            number += 1
        sim.disk.locks[job_id] = self
        try:
            before = journal.load()
            journal.record(before, m.retried(before, m.Retried(tuple(parts), RETRYABLE)))
        except OSError:
            return
        finally:
            sim.disk.locks.pop(job_id, None)
            sim.poke()
        self.may_die("between a retry and its start")
        self.attach(job_id)

    def _retry_on(self, job_id: str) -> None:
        if job_id in self.engine.lives:
            self.later(20.0, lambda: self._retry_on(job_id))
        elif self.sim.asked[job_id].retry_in == self.number:
            self.retry(job_id)
            self.sim.asked[job_id].retry_in = None

    def forget(self, job_id: str) -> None:
        job = self.sim.disk.jobs.get(job_id)
        if job is None or not job.exists or job_id in self.sim.disk.locks:
            return
        if self.sim.state(job_id).ended is None:
            return
        self.sim.log(self.number, "forget", job_id)
        self.sim.asked[job_id].forgotten = True
        del self.sim.disk.jobs[job_id]

    def allow(self, job_id: str, max_cost: float | None) -> None:
        live, job = self.holds(job_id), self.sim.disk.jobs.get(job_id)
        if job is None or not job.exists:
            return
        self.sim.log(self.number, "allow", job_id, max_cost)
        asked = self.sim.asked[job_id]
        asked.most = None if max_cost is None or asked.most is None else max(asked.most, max_cost)
        if live is not None:
            self.engine.post(live, m.Allow(max_cost))
        else:
            # Whoever moves the job sets it, now or when it takes it up.
            job.limit, asked.limit_at = m.Allow(max_cost), self.sim.t
            self.sim.poke()

    def new_token(self) -> None:
        self.sim.log(self.number, "has the valid token")
        self.token = self.sim.service.valid_token
        for live in list(self.engine.lives.values()):
            self.engine.post(live, m.Woken())

    def look_again(self, job_id: str) -> None:
        live = self.holds(job_id)
        if live is not None:
            self.engine.post(live, m.AskAgain())

    def exit(self) -> None:
        self.sim.log(self.number, "exits")
        self.leaving = True
        for live in list(self.engine.lives.values()):
            self.engine.send_only(live)
        self.later(3600.0, self.interrupt)

    def interrupt(self) -> None:
        self.die("by its user, who does not wait for the end")

    # -- World

    def now(self) -> m.Now:
        return m.Now(self.sim.t + self.origin, self.sim.wall + self.sim.t)

    def try_lock(self, live: Live) -> LockOnDisk | None:
        sim = self.sim
        if not sim.weather.quiet and sim.weather.lock_fails and sim.random.random() < sim.weather.lock_fails:
            sim.faults["disk"] += 1
            sim.poke()
            raise OSError(errno.EIO, "Input/output error")
        if live.id in sim.disk.locks:
            return None
        sim.disk.locks[live.id] = self
        return LockOnDisk(self, live.id)

    def cancel_asked(self, live: Live) -> bool:
        job = self.sim.disk.jobs.get(live.id)
        return job is not None and job.cancel

    def limit_asked(self, live: Live) -> m.Allow | None:
        job = self.sim.disk.jobs.get(live.id)
        if job is None:
            return None
        self.owns(live.id)
        if job.taken is None:
            job.taken, job.limit = job.limit, None
            self.may_die("after a limit is taken")
        return job.taken

    def limit_heeded(self, live: Live) -> None:
        # A create that was decided before may have acted: it is made again, and finds its batch.
        parts = live.state.parts.values()
        self.sim.asked[live.id].let_through |= {m.request_id(live.id, part) for part in parts if part.tried}
        self.may_die("before a limit is heeded")
        self.sim.disk.jobs[live.id].taken = None

    def told(self, live: Live) -> None:
        self._due = None
        if live.gone and live.state.left:
            unsent = [p for p in live.state.parts.values() if p.unsent and p.waits is None]
            if unsent or not (live.state.rendered or live.state.stuck):
                raise Broken("exit", f"process {self.number} leaves {live.id} with {unsent} to send")
        if live.elsewhere or live.gone or live.state.over or live.disk is not None:
            return
        if live.broken is not None:
            raise Broken("g", f"{live.id} is broken: {live.broken}")
        now = self.now().ticks
        for part in live.state.parts.values():
            if part.doing is None and not part.final and part.due > now + 61 and part.trouble is None:
                raise Broken("f", f"part {part.number} of {live.id} waits {part.due - now:,.0f} s: {part}")
        if live.state.stuck and not live.state.trouble:
            raise Broken("f", f"{live.id} is stuck without a word")

    def start(self, live: Live, action: m.Action) -> None:
        sim = self.sim
        sim.log(self.number, live.id, action)
        operation = m.OPERATION_OF[type(action)]
        number = getattr(action, "number", None)
        if isinstance(action, m.Create):
            self.before_a_create(live, action)
        curse = sim.asked[live.id].curse
        if curse is not None and curse == (operation, "raises"):
            sim.faults["raises"] += 1
            raise RuntimeError("the world cannot begin this")
        key = (live, number)
        if key in self.busy:
            raise Broken(
                "calm",
                f"{operation} of part {number} of {live.id} begins while {self.busy[key]} is under way",
            )
        self.busy[key] = operation
        self.may_die(f"before {operation}")
        delay = sim.random.random() * sim.random.choice(sim.delays)
        work = getattr(self, f"_{operation}")
        if operation == "render":
            self.later(delay, lambda: self._render(live, None))
            return

        def act() -> None:
            self.may_die(f"in the middle of {operation}")
            kind = sim.weather.fault(operation, sim.t)
            if curse is not None and curse[0] == operation and sim.asked[live.id].curse is not None:
                kind = curse[1]
            if operation in API and self.token != sim.service.valid_token:
                kind = "token"
            self.answer(live, key, delay, work(live, action, kind))

        def act_all_the_same() -> None:
            # What a killed process had sent may still arrive, while its job has files to send.
            if operation in API and sim.random.random() < 0.5 and live.id in sim.disk.jobs:
                work(live, action, "silent_after")

        self.later(delay, act, outlives=act_all_the_same)

    def answer(self, live: Live, key: tuple[Live, int | None], delay: float, event: m.Event) -> None:
        def tell() -> None:
            self.may_die("before an answer is heard")
            self.busy.pop(key, None)
            self.sim.log(self.number, live.id, event)
            self.engine.post(live, event)

        self.later(delay, tell)

    def before_a_create(self, live: Live, action: m.Create) -> None:
        """Check (d) and (e) where money is spent."""
        sim, state, asked = self.sim, live.state, self.sim.asked[live.id]
        if action.request_id in sim.service.by_request:
            return
        if state.cancelled:
            raise Broken(
                "d", f"part {action.number} of {live.id} is created after the cancel was written down"
            )
        if asked.cancelled_at is not None and sim.t > max(asked.cancelled_at, self.woke) + 1.5:
            raise Broken(
                "d",
                f"part {action.number} of {live.id} is created {sim.t - asked.cancelled_at:.1f} s after cancel",
            )
        job = sim.disk.jobs[live.id]
        # While an earlier one is being taken in (the disk may be full), who asked for the next still waits.
        waits = job.limit if job.taken is None else None
        if waits is not None and sim.t > max(asked.limit_at, self.woke) + 1.5:
            raise Broken(
                "limit",
                f"part {action.number} of {live.id} is created {sim.t - asked.limit_at:.1f} s after {waits}",
            )
        known = action.request_id in asked.let_through
        asked.let_through.add(action.request_id)
        if state.max_cost is None or known:
            return
        spent = sum(
            self.cost(batch, batch.executed(sim.t) if sim.t >= batch.over_at else len(batch.order))
            for batch in sim.service.batches.values()
            if batch.file.job == live.id and (batch.fate != "enqueued" or batch.runs)
        )
        spent += state.parts[action.number].requests * REAL_COST
        if spent > state.max_cost + 1e-6:
            raise Broken("e", f"{live.id} may spend {spent:.3f}, and max_cost is {state.max_cost:.3f}")

    @staticmethod
    def cost(batch: Batch, count: int) -> float:
        return REAL_COST * sum(i not in batch.lost_lines for i in batch.order[:count])

    # -- work

    def _fault(self, live: Live, number: int | None, operation: m.Operation, kind: str) -> m.Failed:
        sim = self.sim
        sim.faults[f"{operation}/{kind}"] += 1
        if number is not None and operation in ("upload", "create"):
            sim.asked[live.id].refusals[number, kind] += 1
        if number is not None and (operation == "look" or (operation == "fetch" and kind not in m._SAID)):
            sim.asked[live.id].refusals[number, "vain"] += 1
        words = f"{operation}: {kind}."
        retry_after = sim.random.choice((None, 2.0, 30.0)) if kind == "busy" else None
        match kind:
            case "enqueued":
                fault = m.Fault(sim.random.choice(("refused", "busy")), words, None, enqueued=True)
            case "about_file":
                fault = m.Fault("refused", words, about_file=True)
            case _:
                fault = m.Fault(kind, words, retry_after)  # type: ignore[arg-type]
        return m.Failed(number, operation, fault)

    def _render(self, live: Live, progress: tuple[set[str], int] | None) -> None:
        sim, asked = self.sim, self.sim.asked[live.id]
        self.may_die("while rendering")
        job = sim.disk.jobs.get(live.id)
        key = (live, None)
        if job is None or live.gone:
            self.busy.pop(key, None)
            return
        kind = sim.weather.fault("render", sim.t) or ("disk" if self.disk_is_full() else None)
        if asked.curse is not None and asked.curse[0] == "render":
            kind = asked.curse[1]
        if kind is not None:
            self.answer(live, key, 0.01, self._fault(live, None, "render", kind))
            return
        if progress is None:
            parts = [p for p in live.state.parts.values() if p.round == 0]
            done = {i for p in parts for i in job.parts[p.number].ids}
            progress = done, m.next_number(live.state.parts)
        done, number = progress
        left = [i for i in asked.ids[asked.reused :] if i not in done]
        if not left:
            event = m.Rendered(len(asked.ids) - asked.reused, asked.reused, asked.skipped)
            self.answer(live, key, 0.01, event)
            return
        if sum(p.state == "rendered" for p in live.state.parts.values()) < m.PARTS_AHEAD:
            # Where a part ends is not the same after a restart.
            ids = tuple(left[: max(1, asked.part_size - sim.random.randint(0, 1))])
            job.parts[number] = PartFile(live.id, number, 0, ids)
            self.may_die("between a part and its record")
            bounds = (len(ids) * A_REQUEST, len(ids) * A_REQUEST_NOW) if asked.bounded else (None, None)
            part = m.Part(number, len(ids), 10, 0, bounds[0], bound_now=bounds[1])
            self.engine.post(live, m.PartRendered(part))
            progress = done | set(ids), number + 1
            pause = 0.5
        else:
            pause = 30.0
        self.later(sim.random.random() * pause, lambda: self._render(live, progress))

    def _upload(self, live: Live, action: m.Upload, kind: str | None) -> m.Event:
        if kind is not None and kind != "silent_after":
            return self._fault(live, action.number, "upload", kind)
        return m.Uploaded(
            action.number, self.sim.service.put(self.sim.disk.jobs[live.id].parts[action.number])
        )

    def _create(self, live: Live, action: m.Create, kind: str | None) -> m.Event:
        sim = self.sim
        if kind is None and not sim.weather.quiet and not sim.service.room_by_batch:
            known = action.request_id in sim.service.by_request
            if not known and not sim.service.has_room(sim.service.files[action.file_id], sim.t):
                kind = "enqueued"
        if kind == "conflict" or (kind in MAY_HAVE_ACTED and sim.random.random() < 0.5):
            acts = kind != "conflict" or sim.random.random() < 0.5
            if acts and sim.random.random() < sim.weather.acts_late:
                late = sim.random.random() * 20.0
                sim.at(late, lambda: sim.service.create(action.file_id, action.request_id, sim.t))
            elif acts:
                sim.service.create(action.file_id, action.request_id, sim.t)
        if kind is not None and kind != "silent_after":
            return self._fault(live, action.number, "create", kind)
        return self._seen(
            sim.service.create(action.file_id, action.request_id, sim.t), action.number, "create"
        )

    def _seen(self, batch: Batch, number: int, operation: m.Operation) -> m.Seen:
        look = self.sim.service.look(batch, self.sim.t)
        if look.enqueued and not batch.refusal_heard:
            batch.refusal_heard = True
            self.sim.asked[batch.file.job].refusals[number, "enqueued"] += 1
        seen = m.BatchSeen(
            look.batch_id,
            look.status,
            look.ended,
            look.completed,
            look.failed,
            None,
            look.problem,
            look.enqueued,
            look.idle,
        )
        return m.Seen(number, seen, operation)

    def _find(self, live: Live, action: m.Find, kind: str | None) -> m.Event:
        if kind is not None:
            return self._fault(live, action.number, "find", kind)
        batch = self.sim.service.find(action.request_id, self.sim.t)
        return m.Found(
            action.number, None if batch is None else self._seen(batch, action.number, "find").batch
        )

    def _look(self, live: Live, action: m.Look, kind: str | None) -> m.Event:
        service = self.sim.service
        batch = service.batches[action.batch_id]
        if batch.lost or (self.sim.t < batch.created + service.look_lag and not self.sim.weather.quiet):
            kind = kind or "unknown"
        if kind is not None:
            return self._fault(live, action.number, "look", kind)
        return self._seen(batch, action.number, "look")

    def _cancel(self, live: Live, action: m.CancelBatch, kind: str | None) -> m.Event:
        batch = self.sim.service.batches[action.batch_id]
        acts = (
            kind is None
            or kind == "silent_after"
            or (kind in MAY_HAVE_ACTED and self.sim.random.random() < 0.5)
        )
        taken = acts and not batch.lost and self.sim.service.cancel(batch, self.sim.t)
        if kind is not None or not taken:
            return self._fault(live, action.number, "cancel", kind or "conflict")
        return self._seen(batch, action.number, "cancel")

    def _fetch(self, live: Live, action: m.Fetch, kind: str | None) -> m.Event:
        sim = self.sim
        batch = sim.service.batches[action.batch_id]
        if batch.lost:
            kind = kind or "unknown"
        if batch.fate == "enqueued" and batch.runs and kind in (None, *m._SAID):
            # That it has nothing is false, and passes.
            denied = not batch.denied and sim.service.aside.random() < 0.5
            kind, batch.denied = ("unknown" if denied else None), True
        if kind is not None and kind not in ("half", "no_object", "torn"):
            return self._fault(live, action.number, "fetch", kind)
        there = sim.service.results(batch, sim.t)
        if there is None:
            return self._fault(live, action.number, "fetch", "not_ready")
        files = sim.disk.jobs[live.id].files
        for name, lines in there.items():
            place = (action.number, name)
            if place in files and not action.again:
                continue
            if kind in ("no_object", "torn") and sim.random.random() < 0.5:
                return self._fault(live, action.number, "fetch", kind)
            if kind == "half":
                sim.faults["fetch/half"] += 1
                lines = dict(list(lines.items())[: sim.random.randint(0, len(lines))])
            # What has come is never given for less.
            files[place] = {**files.get(place, {}), **lines}
            self.may_die("between two files")
        return m.Fetched(action.number, empty=not any(there.values()))

    def _read(self, live: Live, action: m.Read, kind: str | None) -> m.Event:
        sim, asked = self.sim, self.sim.asked[live.id]
        if kind is not None or self.disk_is_full():
            return self._fault(live, action.number, "read", kind or "disk")
        job = sim.disk.jobs[live.id]
        lines = {
            **job.files.get((action.number, "error"), {}),
            **job.files.get((action.number, "output"), {}),
        }
        results, codes = {}, Counter()
        for custom_id in job.parts[action.number].ids:
            line = lines.get(custom_id)
            if line is not None and "@" in line:
                results[custom_id] = line
            else:
                results[custom_id] = f"!{line or action.code}"
                codes[line or action.code] += 1
        job.results[action.number] = results
        self.may_die("between results and their record")
        failed = sum(codes.values())
        came = [line for i, line in lines.items() if i in results]
        paid = sum(line not in ("cancelled", "expired") for line in came)
        return m.ReadDone(
            action.number,
            len(results) - failed,
            failed,
            len(came),
            cost=paid * REAL_COST if asked.priced else None,
            errors=tuple(ErrorGroup(code, count, code) for code, count in sorted(codes.items())),
        )

    def _output(self, live: Live, action: m.WriteOutput, kind: str | None) -> m.Event:
        if kind is not None or self.disk_is_full():
            return self._fault(live, None, "output", kind or "disk")
        self.sim.disk.jobs[live.id].output = self.sim.answers(live.id)
        return m.OutputWritten()
