"""A model of the service: batches that live in virtual time, and count what they execute."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from .checks import Broken

FOREVER = float("inf")


class PartFile(NamedTuple):
    """The requests of a part, as they are on disk and in the service's storage."""

    job: str
    number: int
    round: int
    ids: tuple[str, ...]


@dataclass
class Batch:
    """One batch: what will become of it is drawn when it is created."""

    id: str
    request_id: str
    file: PartFile
    order: list[str]
    outcomes: dict[str, str]  # "ok" or a code, of each request if it is run
    created: float
    starts: float
    ends: float
    fate: str  # completed, failed, expired, or enqueued: failed for want of room
    runs: int  # how many of its requests are run if nobody cancels
    lost_lines: frozenset[str]
    explicit: bool  # requests that never ran have lines that say so
    output_after: float  # seconds from the end until the file is there
    error_after: float
    hidden_until: float  # neither looks nor lists know it before
    stop: float = FOREVER  # when a cancel takes effect
    cancelled_at: float = FOREVER
    lost: bool = False  # the service has forgotten it
    refusal_heard: bool = False
    denied: bool = False  # that it has results was denied once
    counted: int = 0
    lines: dict[str, dict[str, str]] | None = field(default=None, repr=False)

    @property
    def over_at(self) -> float:
        return min(self.ends, self.stop)

    def executed(self, now: float) -> int:
        """How many of its requests have been run."""
        if now < self.starts or not self.runs:
            return 0
        until = min(now, self.over_at)
        if until >= self.ends:
            return self.runs
        return min(self.runs, int(self.runs * (until - self.starts) / (self.ends - self.starts)))

    def status(self, now: float) -> str:
        if self.stop < self.ends:
            if now >= self.stop:
                return "cancelled"
            if now >= self.cancelled_at:
                return "cancelling"
        if now >= self.ends:
            return "failed" if self.fate == "enqueued" else self.fate
        if now < self.starts:
            return "validating"
        if self.executed(now) == self.runs:
            return "finalizing"
        return "in_progress"


class Look(NamedTuple):
    """A batch as the service describes it."""

    batch_id: str
    status: str
    ended: bool
    completed: int
    failed: int
    problem: str | None
    enqueued: bool
    idle: bool


class Service:
    """
    Every batch of a run, and the account of what was executed and paid.

    Its ways are drawn once a run: how it counts, how late results are, how much room it has.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.batches: dict[str, Batch] = {}
        self.by_request: dict[str, Batch] = {}
        self.files: dict[str, PartFile] = {}
        self.executions: dict[tuple[str, str, int], int] = {}
        self.spent: dict[str, int] = {}  # requests that were paid, by job
        draw = random.random
        self.counts = random.choice(
            ("right", "right", "zero_when_stopped", "zero", "all_completed", "too_many", "at_random")
        )
        self.behind = random.choice(
            (0.0, 0.0, 0.2)
        )  # share of looks that a replica answers with an earlier moment
        self.slow = random.choice((3.0, 30.0, 300.0, 3000.0) if draw() < 0.9 else (30_000.0,))
        self.late = random.choice((0.0, 0.0, 2.0, 60.0, 7200.0, 40_000.0))
        self.odd = draw() if draw() < 0.5 else 0.0  # share of batches that do not simply complete
        self.losing = 0.2 if draw() < 0.2 else 0.0
        self.room = random.choice((5, 15)) if draw() < 0.2 else 10**9
        self.room_by_batch = draw() < 0.5  # want of room fails the batch, instead of refusing it
        self.list_lag = random.choice((0.0, 0.0, 3.0))
        self.look_lag = random.choice((0.0, 0.0, 1.0, 20.0))
        self.silent_about_none = draw() < 0.5  # a batch without files: results are "not ready" for ever
        self.valid_token = 0
        self.quiet_at = FOREVER
        self.dated = True  # it says when a batch was begun
        self.aside = Random(0)  # for what was thought of later: what a seed draws besides stays the same

    # -- operations

    def put(self, file: PartFile) -> str:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = file
        return file_id

    def open_requests(self, now: float) -> int:
        return sum(len(b.order) for b in self.batches.values() if now < b.over_at and b.fate != "enqueued")

    def has_room(self, file: PartFile, now: float) -> bool:
        return self.open_requests(now) + len(file.ids) <= self.room

    def create(self, file_id: str, request_id: str, now: float) -> Batch:
        """Create a batch, or return the one that has this request_id."""
        known = self.by_request.get(request_id)
        if known is not None:
            return known
        random, draw = self.random, self.random.random
        file = self.files[file_id]
        order = list(file.ids)
        random.shuffle(order)
        outcomes = {}
        for custom_id in order:
            chance = draw()
            outcomes[custom_id] = "ok" if chance < 0.85 else "http_429" if chance < 0.93 else "http_400"
        fate, runs = "completed", len(order)
        if draw() < self.odd:
            fate = random.choice(("failed", "failed", "expired", "failed_with_files"))
            runs = 0 if fate == "failed" else random.randint(0, len(order))
            fate = "failed" if fate == "failed_with_files" else fate
        if self.room_by_batch and not self.has_room(file, now):
            fate, runs = "enqueued", 0
        length = self.slow * (0.2 + draw())
        starts = now + length * 0.3 * draw()
        ends = starts + (min(length, 2.0) if fate == "enqueued" else length)
        quiet = now >= self.quiet_at
        late = [0.0 if quiet or draw() < 0.5 else self.late * draw() for _ in range(2)]
        batch = Batch(
            f"batch-{len(self.batches)}",
            request_id,
            file,
            order,
            outcomes,
            now,
            starts,
            ends,
            fate,
            runs,
            frozenset(i for i in order if draw() < self.losing) if self.losing else frozenset(),
            draw() < 0.5,
            late[0],
            late[1],
            now + (0.0 if quiet else self.list_lag),
        )
        if fate == "enqueued" and self.aside.random() < 0.3:
            # It had room for some: its files tell of these, whatever the counters do.
            batch.runs, batch.lost_lines = self.aside.randint(1, len(order)), frozenset()
            batch.output_after = batch.error_after = 0.0
        self.batches[batch.id] = self.by_request[request_id] = batch
        return batch

    def cancel(self, batch: Batch, now: float) -> bool:
        """Return False where the service answers 409."""
        if now >= batch.over_at or now < batch.starts:
            return False
        if batch.cancelled_at == FOREVER:
            batch.cancelled_at = now
            batch.stop = min(batch.ends, now + self.random.random() * min(self.slow, 60.0))
        return True

    def find(self, request_id: str, now: float) -> Batch | None:
        batch = self.by_request.get(request_id)
        return None if batch is None or now < batch.hidden_until or batch.lost else batch

    def look(self, batch: Batch, now: float) -> Look:
        self.account(batch, now)
        if now < self.quiet_at and self.random.random() < self.behind:
            now -= self.random.random() * (now - batch.created)
        status = batch.status(now)
        ended = now >= batch.over_at
        done = batch.order[: batch.executed(now)]
        completed = sum(batch.outcomes[i] == "ok" for i in done)
        failed = len(done) - completed
        if self.counts == "zero" or (
            self.counts == "zero_when_stopped" and status in ("cancelled", "expired")
        ):
            completed = failed = 0
        elif self.counts == "all_completed":
            completed, failed = len(done), 0
        elif self.counts == "too_many":
            completed, failed = 2 * completed + 1, failed + len(batch.order)
        elif self.counts == "at_random" and not ended:
            completed, failed = (self.random.randint(0, len(batch.order)) for _ in range(2))
        enqueued = ended and batch.fate == "enqueued"
        problem = "the model is closed" if status == "failed" else None
        if enqueued:
            problem = "Enqueued token limit reached"
        idle = status == "validating" or (ended and self.dated and (now < batch.starts or not batch.runs))
        return Look(batch.id, status, ended, completed, failed, problem, enqueued, idle)

    def results(self, batch: Batch, now: float) -> dict[str, dict[str, str]] | None:
        """What is there of a batch's files by now: lines by custom_id; None where the service says not yet."""
        if now < batch.over_at:
            return None
        lines = self.lines(batch, now)
        if not any(lines.values()):
            return None if self.silent_about_none else {}
        late = {"output": batch.output_after, "error": batch.error_after}
        there = {
            name: lines[name]
            for name in ("output", "error")
            if lines[name] and (now >= self.quiet_at or now >= batch.over_at + late[name])
        }
        return there or None

    # -- the account

    def lines(self, batch: Batch, now: float) -> dict[str, dict[str, str]]:
        """Every line that the service will ever give for a batch that has ended."""
        if batch.lines is None:
            self.account(batch, now)
            done = batch.order[: batch.executed(now)]
            files: dict[str, dict[str, str]] = {"output": {}, "error": {}}
            for custom_id in done:
                outcome = batch.outcomes[custom_id]
                if custom_id not in batch.lost_lines:
                    name = "error" if outcome == "http_400" else "output"
                    files[name][custom_id] = f"{custom_id}@{batch.id}" if outcome == "ok" else outcome
            if batch.explicit and batch.fate != "failed" and batch.fate != "enqueued":
                code = "cancelled" if batch.stop < batch.ends else "expired"
                for custom_id in batch.order[len(done) :]:
                    files["error"][custom_id] = code
            batch.lines = files
        return batch.lines

    def account(self, batch: Batch, now: float) -> None:
        """Enter what a batch has executed by now."""
        file = batch.file
        count = batch.executed(now)
        while batch.counted < count:
            key = (file.job, batch.order[batch.counted], file.round)
            batch.counted += 1
            self.executions[key] = self.executions.get(key, 0) + 1
            self.spent[file.job] = self.spent.get(file.job, 0) + 1
            if self.executions[key] > 1:
                raise Broken(
                    "a", f"{key[1]} of {key[0]} was executed twice in round {key[2]}, now by {batch.id}"
                )

    def account_all(self, now: float) -> None:
        for batch in self.batches.values():
            self.account(batch, now)
