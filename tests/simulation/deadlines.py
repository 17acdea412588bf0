"""Days with a deadline: batches that end early, late, in part or never, drains that are slow, limits, crashes; and real time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from dobatch_pandas.job import machine as m
from dobatch_pandas.job.engine import Live
from dobatch_pandas.job.journal import Journal

from .checks import Broken
from .disk import JobOnDisk, JournalOnDisk
from .scenario import DAY, Figures, Found, _no_log, _see_through, _short_journals
from .service import FOREVER, Batch, PartFile, Service
from .world import A_REQUEST, A_REQUEST_NOW, REAL_COST, Asked, Killed, Process, Simulation

REAL_COST_NOW = 0.016
_TROUBLE = ["busy", "silent", "trouble", "disk", "token"]


class SlowToEnd(Service):
    """A service whose cancelled batches drain as slowly as the day wants."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.counts = "right"  # as documented: what has ended is counted right
        self.drain = 0.0
        self.quick_start = False

    def create(self, file_id: str, request_id: str, now: float) -> Batch:
        new = request_id not in self.by_request
        batch = super().create(file_id, request_id, now)
        if new and self.quick_start:
            batch.starts = min(batch.starts, now + 1.0)
        return batch

    def cancel(self, batch: Batch, now: float) -> bool:
        before = batch.cancelled_at
        taken = super().cancel(batch, now)
        if taken and before == FOREVER:
            batch.stop = min(batch.ends, now + self.drain * (0.5 + self.random.random() / 2))
        return taken


class Day(Simulation):
    """One job with a deadline, or one that is asked at once, and what the day has for it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        random = self.random
        self.calm = random.random() < 0.5
        self.real: Counter[str] = Counter()  # how often each request was run in real time
        self.length = random.choice((300.0, 1800.0, 7200.0, 40_000.0))
        self.margin = min(self.length / 10, 600.0)
        self.latency = random.choice((0.2, 1.0, 4.0, 8.0))
        self.service = service = SlowToEnd(random)
        service.dated = seed % 4 < 2
        service.slow = self.length * random.choice((0.05, 0.5, 0.9, 1.5, 10.0))
        service.drain = (
            self.margin * random.choice((0.0, 0.1, 0.3))
            if random.random() < 0.7
            else self.length * random.random()
        )
        if self.calm:
            self.weather.rates = {operation: [] for operation in m.POLICY}
            self.weather.outages.clear()
            self.weather.kill = self.weather.sync_fails = self.weather.lock_fails = 0.0
            service.late = service.losing = service.odd = 0.0
            service.list_lag = service.look_lag = service.behind = 0.0
            service.room = 10**9
            service.quick_start = True
            self.delays = (0.02, 0.2)
        else:
            rates = [
                (kind, random.choice((0.03, 0.1))) for kind in random.sample(_TROUBLE, random.randint(0, 3))
            ]
            self.weather.rates["ask"] = rates
            service.quick_start = random.random() < 0.5
        self.processes = [Asking(self, number) for number in range(2)]


class Wish(Asked):
    """A job that is to be done by some time."""

    def __init__(self, job_id: str, day: Day) -> None:
        random = day.random
        super().__init__(job_id, random)
        rows = random.choice((1, 8, 40, 200))
        self.ids = [f"{job_id}.{n}" for n in range(rows)]
        self.reused, self.skipped, self.output, self.curse = 0, 0, False, None
        self.part_size = max(1, rows // random.choice((1, 2, 4)))
        if day.calm:
            self.bounded = True
        self.max_cost = self.most = None
        if random.random() < 0.4:
            self.max_cost = self.most = rows * A_REQUEST_NOW * random.choice((0.3, 0.5, 0.7, 1.0, 1.0))
        self.asks_now = random.random() < 0.15
        self.pace = day.latency if random.random() < 0.7 else 0.0
        self.deadline: float | None = None if self.asks_now else day.wall + day.t + day.length
        self.names: dict[int, list[str]] = {}  # on disk: what may have been asked


class Asking(Process):
    """A process that asks in real time, too."""

    sim: Day

    def submit(self, asked: Any) -> None:
        sim = self.sim
        sim.disk.jobs[asked.id] = JobOnDisk()
        journal = Journal(JournalOnDisk(self, asked.id), asked.id)
        state = m.State(
            asked.id, max_cost=asked.max_cost, asks_now=asked.asks_now, deadline=asked.deadline, margin=sim.margin,
            pace=asked.pace,
        )  # fmt: skip
        try:
            journal.record(None, state, sync=True)
        except OSError:
            return
        sim.disk.jobs[asked.id].exists = True
        sim.asked[asked.id] = asked
        self.attach(asked.id)

    def start(self, live: Live, action: m.Action) -> None:
        if not isinstance(action, m.Ask):
            super().start(live, action)
            return
        sim, key = self.sim, (live, action.number)
        sim.log(self.number, live.id, action)
        if key in self.busy:
            raise Broken("calm", f"part {action.number} is asked while {self.busy[key]} is under way")
        self.busy[key] = "ask"
        if live.state.cancelled:
            raise Broken("d", f"part {action.number} of {live.id} is asked after its cancel")
        self.may_die("before asking")
        self.later(sim.random.random() * 0.1, lambda: self._ask_some(live, action.number, True))

    def _ask_some(self, live: Live, number: int, first: bool) -> None:
        sim, key = self.sim, (live, number)
        job: Any = sim.disk.jobs.get(live.id)
        asked: Any = sim.asked[live.id]
        if job is None or live.gone:
            self.busy.pop(key, None)
            return
        names = asked.names.setdefault(number, [])
        answers = job.files.setdefault((number, "output"), {})
        if first:
            answers.update({name: "interrupted" for name in names if name not in answers})
        left = [name for name in job.parts[number].ids if name not in names]
        if not left or live.state.cancelled:
            self.answer(live, key, 0.01, m.Asked(number, sim.latency))
            return
        kind = sim.weather.fault("ask", sim.t)
        if self.token != sim.service.valid_token:
            kind = "token"
        if kind is None and self.disk_is_full():
            kind = "disk"
        if kind is not None:
            self.answer(live, key, 0.01, self._fault(live, number, "ask", kind))
            return
        group = left[: m.AT_ONCE]
        names += group
        self.may_die("between names and asking")
        self.before_money(live, group)
        lost = {name for name in group if not sim.calm and sim.random.random() < 0.01}

        def run() -> None:
            for name in group:
                sim.real[name] += 1

        def heard() -> None:
            run()
            for name in group:
                self.may_die("while answers come")
                answers[name] = "interrupted" if name in lost else f"{name}@now"
            self._ask_some(live, number, False)

        self.later(sim.latency, heard, outlives=lambda: run() if sim.random.random() < 0.7 else None)

    def before_money(self, live: Live, group: list[str]) -> None:
        """Check (a) where real time begins: no batch runs these, or will."""
        sim = self.sim
        for batch in sim.service.batches.values():
            if batch.file.job != live.id or not set(group) & set(batch.order):
                continue
            done = batch.order[: batch.executed(sim.t)]
            both = set(group) & set(done if sim.t >= batch.over_at else batch.order)
            if both:
                raise Broken(
                    "a",
                    f"{sorted(both)[0]} is asked in real time, and {batch.id} has it ({batch.status(sim.t)})",
                )

    def _read(self, live: Live, action: m.Read, kind: str | None) -> m.Event:
        event = super()._read(live, action, kind)
        if not isinstance(event, m.ReadDone):
            return event
        sim, job = self.sim, self.sim.disk.jobs[live.id]
        part, asked = live.state.parts[action.number], sim.asked[live.id]
        results = job.results[action.number]
        came = {**job.files.get((action.number, "output"), {}), **job.files.get((action.number, "error"), {})}
        cost, rest = event.cost, None
        if part.live:
            unknown = any(result == "!interrupted" for result in results.values())
            paid = sum(1 for line in came.values() if line != "interrupted")
            cost = paid * REAL_COST_NOW if asked.priced and not unknown else None
        if action.carry:
            left = tuple(name for name, result in results.items() if result.lstrip("!") in m.CARRIED)
            if left:
                number = action.number + m.REST
                job.parts[number] = PartFile(live.id, number, 1, left)
                self.may_die("between the rest and its record")
                bounds = (len(left) * A_REQUEST, len(left) * A_REQUEST_NOW) if asked.bounded else (None, None)
                rest = m.Part(number, len(left), 10, 0, bounds[0], bound_now=bounds[1])
        return m.ReadDone(
            action.number, event.completed, event.failed, event.lines, cost=cost, errors=event.errors, rest=rest
        )  # fmt: skip


@dataclass
class Outcome(Figures):
    """What a day was, and whether its deadline could be met."""

    claimed: bool = False
    in_real_time: int = 0
    late: bool = False


def run(seed: int) -> Outcome:
    """Play one day to its end; raises `Found` where a promise does not hold."""
    with _short_journals(seed), _no_log():
        day = Day(seed)
        try:
            wish = _play(day)
            late = _check(day, wish)
        except (Exception, Broken, Killed) as broken:
            raise Found(day, broken) from broken
    claimed = _could_be_met(day, wish)
    figures = (seed, day.t / DAY, day.count, sum(day.faults.values()), 1)
    return Outcome(*figures, claimed=claimed, in_real_time=sum(day.real.values()), late=late)


def _play(day: Day) -> Wish:
    random, first = day.random, day.processes[0]
    first.boot()
    wish = Wish("j0", day)
    first.do(lambda: first.submit(wish))
    if not day.calm:
        day.processes[1].boot()
        for _ in range(random.choice((0, 1, 3))):
            when = day.length * random.random() * 1.1
            process = random.choice(day.processes)
            what = random.choice(("kill", "token", "cancel", "full", "sleep", "power", "look"))
            day.at(when, lambda what=what, process=process: _happens(day, wish, what, process))
    day.run(day.length * 1.2, most=60_000)
    day.weather.quiet = True
    day.service.quiet_at = day.t
    day.service.room = 10**9
    day.disk.full_until = 0.0
    if wish.id not in day.asked:
        return wish
    for process in day.processes:
        process.wake()
        process.boot()
        process.do(process.new_token)
        process.do(lambda process=process: process.attach(wish.id))
    # Until it is over by itself: a job that only the budget holds is over as far as this goes.
    # Batches that take days are finished: some end a week from now.
    for _ in range(30):
        if day.run(day.t + 6 * 3600.0, lambda: day.over(wish.id), most=40_000):
            return wish
        if _held(day, wish):
            return wish
        for process in day.processes:
            process.do(lambda process=process: process.attach(wish.id))
    _see_through(day, [wish.id], "live")
    return wish


def _held(day: Day, wish: Wish) -> bool:
    lives = [live for p in day.processes if (live := p.holds(wish.id)) is not None]
    left = [part for live in lives for part in live.state.parts.values() if not part.final]
    return bool(left) and all(part.waits == "budget" and part.trouble for part in left)


def _happens(day: Day, wish: Wish, what: str, process: Asking) -> None:
    random = day.random
    match what:
        case "kill":
            process.do(lambda: process.die("by its user"))
        case "power":
            if not day.weather.quiet:
                day.power_cut()
        case "token":
            day.service.valid_token += 1
            for other in day.processes:
                day.at(random.random() * 600.0, lambda other=other: other.do(other.new_token))
        case "cancel":
            process.do(lambda: process.cancel(wish.id))
        case "full":
            day.disk.full_until = day.t + 600.0 * random.random()
        case "sleep":
            process.sleep(3000.0 * random.random())
        case "look":
            process.do(lambda: process.look_again(wish.id))


def _could_be_met(day: Day, wish: Wish) -> bool:
    """Whether nothing but the machine's own decisions stood in the way of the deadline."""
    needed = 1.25 * m.seconds_in_real_time(len(wish.ids), wish.pace)
    affordable = wish.max_cost is None or wish.max_cost >= len(wish.ids) * A_REQUEST_NOW
    return (
        day.calm
        and wish.deadline is not None
        and day.service.drain <= day.margin * 0.3
        and affordable
        and day.latency <= (wish.pace or m.ASSUMED)
        and needed + day.margin < day.length * 0.8
    )


def _owed(day: Day, state: m.State) -> set[str]:
    """
    Rows without a line, of batches that ran more than their files will ever tell: nobody can know which of them ran.

    Only where the job has waited for hours, and says so at its end.
    """
    owed: set[str] = set()
    for part in state.parts.values():
        batch = day.service.batches.get(part.batch_id or "")
        if batch is None or not part.provisional or state.ended is None or not state.problem:
            continue
        lines = {name for file in day.service.lines(batch, day.t).values() for name in file}
        silent = batch.lost_lines.intersection(batch.order[: batch.executed(day.t)])
        waited = state.ended - day.wall - batch.over_at
        if silent and part.lines == len(lines) and waited >= m.PATIENCE - 600.0:
            owed.update(name for name in batch.order if name not in lines)
    return owed


def _check(day: Day, wish: Wish) -> bool:
    if wish.id not in day.asked:
        return False
    day.open_everything()
    day.join(wish.id)
    ran: Counter[str] = Counter(day.real)
    paid = sum(day.real.values()) * REAL_COST_NOW
    for batch in day.service.batches.values():
        done = batch.order[: batch.executed(day.t)]
        ran.update(done)
        paid += len(done) * REAL_COST
    twice = [name for name, times in ran.items() if times > 1]
    if twice:
        raise Broken("a", f"{len(twice)} requests ran twice, such as {twice[0]}")
    # Where the user has lifted the limit, to see a job through, there is none.
    if wish.most is not None and paid > wish.most + 1e-6:
        raise Broken("e", f"{paid:.3f} was paid, and max_cost is {wish.most:.3f}")
    state, found = day.state(wish.id), day.answers(wish.id)
    over = state.ended is not None
    missing = [name for name in wish.ids if name not in found]
    if over and missing and not (state.cancelled and not state.rendered):
        raise Broken("c", f"{missing[:3]} have neither an answer nor a code")
    owed = _owed(day, state)
    unanswered = m.CARRIED | {"missing_result"}
    never = [name for name, result in found.items() if result.lstrip("!") in unanswered and not ran[name]]
    never = [name for name in never if name not in owed]
    untrue = [name for name in sorted(owed) if found[name].lstrip("!") in m.CARRIED]
    if untrue:
        raise Broken("c", f"{untrue[:3]} may have been run, and are told to be {found[untrue[0]]}")
    waits = wish.max_cost is not None or not wish.bounded
    if over and wish.deadline is not None and not state.cancelled and never and not waits:
        raise Broken("live", f"{never[:3]} were neither run nor asked in real time: {state}")
    late = over and wish.deadline is not None and state.ended > wish.deadline
    if _could_be_met(day, wish) and (late or not over or any(r == "!cancelled" for r in found.values())):
        by = "not at all" if not over else f"{state.ended - wish.deadline:,.0f} s late"
        raise Broken("deadline", f"{len(wish.ids)} rows could be done in time and are done {by}")
    return bool(late)
