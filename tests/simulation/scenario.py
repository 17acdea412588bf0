"""One run from a seed: users and trouble, then quiet, then the checks of what is left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass

from dobatch_pandas.job import journal

from . import world
from .checks import Broken
from .world import Asked, Simulation

DAY = 86_400.0
USER = [
    "submit",
    "submit",
    "attach",
    "cancel",
    "cancel",
    "retry",
    "retry",
    "forget",
    "allow",
    "token",
    "exit",
    "kill",
    "join",
    "look",
    "sleep",
    "clock",
    "full",
]
CURSES = (
    ("render", "bug"),
    ("render", "raises"),
    ("upload", "bug"),
    ("upload", "trouble"),
    ("create", "raises"),
    ("look", "unknown"),
    ("look", "bug"),
    ("fetch", "strange"),
    ("read", "bug"),
    ("read", "disk"),
    ("read", "raises"),
)


@dataclass
class Figures:
    """What a run was."""

    seed: int
    days: float
    steps: int
    faults: int
    jobs: int


class Found(Exception):
    """A run has broken a promise: which, at which step, and what went before."""

    def __init__(self, sim: Simulation, broken: BaseException) -> None:
        self.promise = broken.promise if isinstance(broken, Broken) else "crash"
        lines = [f"seed {sim.seed}, step {sim.count}, after {sim.t:,.1f} s: {broken}"]
        for t, count, *words in sim.trace:
            lines.append(f"  {count:>6} {t:>12,.2f} s  " + " ".join(map(_brief, words)))
        super().__init__("\n".join(lines))


def _brief(word: object) -> str:
    """An action or event without what is as always."""
    if not is_dataclass(word):
        return str(word)
    told = ", ".join(
        f"{f.name}={_brief(value)}"
        for f in fields(word)
        if f.name not in ("number", "request_id", "operation")
        and (value := getattr(word, f.name)) != f.default
    )
    number = getattr(word, "number", None)
    operation = getattr(word, "operation", "")
    return f"{type(word).__name__} {'' if number is None else number} {operation} {told}"


def run(seed: int, *, trace: int = 40) -> Figures:
    """
    Simulate one seed to its end.

    Raises
    ------
    Found
        A promise does not hold.
    """
    with _short_journals(seed), _no_log():
        sim = Simulation(seed)
        sim.trace = type(sim.trace)(maxlen=trace)
        try:
            _trouble(sim)
            _quiet(sim)
        except (Exception, Broken, world.Killed) as broken:
            raise Found(sim, broken) from broken
    return Figures(seed, sim.t / DAY, sim.count, sum(sim.faults.values()), len(sim.asked))


@contextmanager
def _short_journals(seed: int) -> Iterator[None]:
    """Have journals written anew after some lines already, in every other run."""
    long = journal.LONG
    journal.LONG = 12 if seed % 2 else long
    try:
        yield
    finally:
        journal.LONG = long


@contextmanager
def _no_log() -> Iterator[None]:
    """Leave out what the engine writes about worlds that raise."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _trouble(sim: Simulation) -> None:
    random = sim.random
    for process in sim.processes:
        process.boot()
    jobs = random.choice((1, 1, 2, 3))
    submitted = 0

    def submit() -> None:
        nonlocal submitted
        if submitted < jobs + 2:
            asked = Asked(f"j{submitted}", random)
            if random.random() < 0.12:
                asked.curse = random.choice(CURSES)
            submitted += 1
            process = random.choice(sim.processes)
            process.do(lambda: process.submit(asked))
            if random.random() < 0.15:
                # Second thoughts, in the middle of sending.
                other = random.choice(sim.processes)
                sim.at(
                    random.choice((1.0, 15.0)) * random.random(),
                    lambda: other.do(lambda: other.cancel(asked.id)),
                )

    for _ in range(jobs):
        sim.at(random.random() * min(5.0, sim.horizon), submit)
    for _ in range(random.choice((0, 2, 5, 10))):
        what = random.choice(USER)
        when = sim.horizon * random.random() ** 2
        sim.at(when, submit if what == "submit" else lambda what=what: _act(sim, what))
    sim.run(sim.horizon, most=6_000)


def _act(sim: Simulation, what: str) -> None:
    """Do what a user, or bad luck, may do at any moment."""
    random = sim.random
    process = random.choice(sim.processes)
    job_id = random.choice(list(sim.asked)) if sim.asked else None
    match what:
        case "token":
            sim.log("the token is another one")
            sim.service.valid_token += 1
            for process in sim.processes:
                sim.at(random.choice((5.0, 2000.0)) * random.random(), lambda p=process: p.do(p.new_token))
        case "exit":
            process.do(process.exit)
        case "kill":
            process.do(lambda: process.die("by its user"))
        case "sleep":
            process.sleep(random.choice((5.0, 5000.0)) * random.random())
        case "clock":
            sim.log("the wall clock jumps")
            sim.wall += random.choice((-1, 1)) * random.choice((5.0, 7200.0, 1e6))
        case "full":
            sim.log("the disk is full")
            sim.disk.full_until = sim.t + random.choice((1.0, 60.0, 3000.0)) * random.random()
        case _ if job_id is None:
            pass
        case "attach":
            process.do(lambda: process.attach(job_id))
        case "cancel":
            process.do(lambda: process.cancel(job_id))
        case "retry":
            process.do(lambda: process.retry(job_id))
        case "forget":
            process.do(lambda: process.forget(job_id))
        case "look":
            process.do(lambda: process.look_again(job_id))
        case "allow":
            limit = random.choice((None, 0.0, 0.05, 0.2))
            process.do(lambda: process.allow(job_id, limit))
        case "join":
            sim.join(job_id)


def _quiet(sim: Simulation) -> None:
    """No more trouble: everything must come to its end."""
    random = sim.random
    for job_id in sim.asked:
        sim.join(job_id)
    sim.log("the world is quiet")
    sim.weather.quiet = True
    sim.service.quiet_at = sim.t
    sim.service.room = 10**9
    sim.disk.full_until = 0.0
    for process in sim.processes:
        process.wake()
    sim.open_everything()
    cancelled = [
        job_id
        for job_id in sim.disk.jobs
        if sim.state(job_id).cancelled and sim.state(job_id).ended is None and not sim.asked[job_id].curse
    ]
    if random.random() < 0.5:
        sim.power_cut()
    first, second = sim.processes
    first.boot()
    for process in sim.processes:
        process.do(process.new_token)
    if second.alive and random.random() < 0.7:
        second.do(lambda: second.die("by its user"))
    _attach_all(sim)

    # A job that has trouble of its own holds up no other.
    sound = [job_id for job_id, asked in sim.asked.items() if asked.curse is None]
    _see_through(sim, sound, "g" if len(sound) < len(sim.asked) else "live")
    for batch in sim.service.batches.values():
        in_time = max(batch.starts, sim.service.quiet_at) + 300.0
        more = batch.executed(in_time) < batch.executed(batch.over_at)
        retried = sim.asked[batch.file.job].cancelled_at is None
        if batch.file.job in cancelled and not retried and more and batch.cancelled_at > in_time:
            raise Broken("d", f"{batch.id} of {batch.file.job} runs on after the cancel")
    for asked in sim.asked.values():
        asked.curse = None
    _attach_all(sim)
    _see_through(sim, list(sim.asked), "live")

    # Somebody looks: what was given up is asked for again.
    _attach_all(sim)
    _see_through(sim, list(sim.asked), "live")
    _check_all(sim)
    if random.random() < 0.4:
        for job_id in sim.asked:
            first.do(lambda job_id=job_id: first.retry(job_id))
        _see_through(sim, list(sim.asked), "live")
        _attach_all(sim)
        _see_through(sim, list(sim.asked), "live")
        _check_all(sim)


def _attach_all(sim: Simulation) -> None:
    sim.processes[0].boot()
    for process in sim.processes:
        process.leaving = False
        for job_id in sim.asked:
            process.do(lambda process=process, job_id=job_id: process.attach(job_id))


def _see_through(sim: Simulation, job_ids: list[str], promise: str) -> None:
    """Let time pass until jobs are over, with the budget lifted where that is all they wait for."""
    there = [job_id for job_id in job_ids if job_id in sim.disk.jobs]

    def held() -> list[str]:
        here = [job_id for job_id in there if job_id in sim.disk.jobs]
        return [job_id for job_id in here if job_id in sim.disk.locks or not sim.over(job_id)]

    def done() -> bool:
        return not any(job_id in sim.disk.locks for job_id in there) and not held()

    for turn in range(3):
        if turn:
            _attach_all(sim)
        if sim.run(sim.t + 13 * 3600.0, done, most=25_000):
            return
        for process in sim.processes:
            for job_id in held():
                if sim.state(job_id).max_cost is not None:
                    process.do(lambda process=process, job_id=job_id: process.allow(job_id, None))
    left = held()
    if left:
        words = [f"{job_id}: {sim.state(job_id)}" for job_id in left]
        lives = [live.state for process in sim.processes for live in process.engine.lives.values()]
        raise Broken(promise, f"not over: {words}; in memory: {lives}")


def _check_all(sim: Simulation) -> None:
    sim.service.account_all(sim.t)
    sim.open_everything()
    for job_id, asked in sim.asked.items():
        job = sim.disk.jobs.get(job_id)
        if job is None:
            continue
        sim.join(job_id)
        found, state = sim.answers(job_id), sim.state(job_id)
        if job.limit is not None or job.taken is not None:
            raise Broken("limit", f"{job_id} has {state.max_cost}, and not {job.limit or job.taken}")
        for custom_id, answer in sim.available(job_id).items():
            if found.get(custom_id, "!").startswith("!"):
                raise Broken("c", f"{custom_id} has {found.get(custom_id)}, and the service has {answer}")
        missing = [custom_id for custom_id in asked.ids[asked.reused :] if custom_id not in found]
        if missing and not (state.cancelled and not state.rendered):  # its rows could not be rendered
            raise Broken("c", f"{missing} of {job_id} have neither an answer nor a code")
        for part in state.parts.values():
            if (
                part.batch_id is not None
                and sim.service.batches[part.batch_id].file != job.parts[part.number]
            ):
                raise Broken("b", f"part {part.number} of {job_id} has {part.batch_id}, which is another's")
        known = {part.batch_id for part in state.parts.values()}
        for batch in sim.service.batches.values():
            if batch.file.job == job_id and sim.t < batch.over_at:
                raise Broken("d", f"{batch.id} of {job_id} still runs, and the job is over")
            if batch.file.job == job_id and batch.id not in known and batch.runs and batch.executed(sim.t):
                raise Broken("d", f"{batch.id} of {job_id} ran, and the job does not know it")
        paid = sum(
            sim.processes[0].cost(batch, batch.executed(sim.t))
            for batch in sim.service.batches.values()
            if batch.file.job == job_id
        )
        if asked.most is not None and paid > asked.most + 1e-6:
            raise Broken(
                "e", f"{job_id} has cost {paid:.3f}, and max_cost was never more than {asked.most:.3f}"
            )
        if state.outcome == "failed" and any(not result.startswith("!") for result in found.values()):
            raise Broken("h", f"{job_id} says that it failed, and there are answers")
        newest = max((part.round for part in state.parts.values()), default=0)
        bad = [p for p in state.parts.values() if p.round == newest and p.status in ("failed", "refused")]
        if bad and not state.problem:
            raise Broken("f", f"{job_id} ended badly without a word: {bad[0]}")
        for part in state.parts.values():
            batch = sim.service.batches.get(part.batch_id or "")
            for_room = part.status == "failed" and batch is not None and batch.fate == "enqueued"
            for_room = for_room and not batch.runs and sim.service.counts != "too_many"
            if (part.status == "refused" or for_room) and not _just(asked, part.number):
                raise Broken("just", f"part {part.number} of {job_id}: {part.problem}; {asked.refusals}")
        if state.output and job.output is not None:
            unwritten = [i for i, r in found.items() if not r.startswith("!") and job.output.get(i) != r]
            if unwritten:
                raise Broken("c", f"{unwritten} of {job_id} are not in the dataset that was written")


def _just(asked: Asked, number: int) -> bool:
    times = {kind: count for (part, kind), count in asked.refusals.items() if part == number}
    again = sum(times.get(kind, 0) for kind in ("unknown", "not_ready", "about_file", "conflict"))
    storage = times.get("link", 0) + times.get("no_object", 0)
    return bool(
        times.get("refused")
        or times.get("gone")
        or again >= 4
        or storage >= 4
        or times.get("enqueued", 0) >= 8
        or times.get("vain", 0) >= 50  # for hours nobody could say what became of it: `retry` sends it again
    )
