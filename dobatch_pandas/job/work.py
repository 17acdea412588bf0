"""
What the machine's actions do in a real process: files, calls, bytes. Each is answered by one event.

Work is done by a fixed number of threads for each kind, so that a slow upload holds up no look, and a slow download no
other job's reading. Waiting for better times is not done here but by the machine: a call is made once.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.config import settings
from dobatch_pandas.errors import ApiError, DobatchError, is_no_room
from dobatch_pandas.prices import MILLION, usage_of, usage_of_sums
from dobatch_pandas.questions.part_files import compress_part, copy_lines
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import Batch

from .ask import LONGEST_ANSWER, Asking
from .deadline import remember_pace
from .ending import heard
from .engine import Live, Lock
from .faults import fault_of, sentence
from .folder import JobRecord, read_table
from .home import Home
from .machine import (
    CARRIED,
    OPERATION_OF,
    REST,
    Action,
    Allow,
    Ask,
    Asked,
    BatchSeen,
    CancelBatch,
    Create,
    Event,
    Failed,
    Fetch,
    Fetched,
    Find,
    Found,
    Look,
    Now,
    OutputWritten,
    Part,
    Read,
    ReadDone,
    Render,
    Seen,
    Upload,
    Uploaded,
    WriteOutput,
)
from .output import write_output
from .render import Stopped, record_part, render
from .result_files import TOKENS, Tally, bring_files
from .row_answers import read_results_of

if TYPE_CHECKING:
    from .cluster import ClusterJob

__all__ = ["AT_ONCE", "LockOfJob", "OpenJob", "Workers"]

AT_ONCE = {"upload": 3, "call": 4, "look": 1, "fetch": 4, "read": 1, "index": 1, "far": 32, "now": 8}
"""How many threads do each kind of work, for all jobs of a process; a read uses several cores by itself. What is done far
away takes a thread that waits for it."""

log = logging.getLogger("dobatch_pandas")

PAGE = 100
LIST_FROM = 2  # so many batches are looked up by listing rather than one by one
IDLE = 5.0  # seconds after which a thread without work ends


class OpenJob(Live):
    """
    A job in a real process: what the work on it needs, and what only a display wants to know.

    Parameters
    ----------
    home : Home
    record : JobRecord
    client : Client

    Attributes
    ----------
    rows_rendered : int
    shares : dict of int to float
        Of each upload that is under way, 0 to 1.
    asked : dict of int to int
        Answers of each part that is asked in real time.
    changed : threading.Condition
        Told whenever something of the job has changed.
    at_work : int
        Threads of ours that are at its files.
    locked : bool
        This process has the lock of its folder.
    barred : str or None
        Why this process may only look at it, in words.
    overheard : str or None
        What stands in its way, as the process that moves it on tells in the list of jobs.
    leaving : LockOfJob or None
        The lock, where it is to come free with the last of these threads.
    """

    def __init__(self, home: Home, record: JobRecord, client: Client) -> None:
        self.home, self.record, self.client = home, record, client
        self.folder = home.folder(record.id)
        super().__init__(record.id, self.folder.journal())
        self.key = (home.path, record.id)  # a home that was copied has jobs of the same ids
        self.rows_rendered = self.at_work = 0
        self.locked = False
        self.barred: str | None = None
        self.overheard: str | None = None
        self.listening = False
        self.leaving: LockOfJob | None = None
        self.shares: dict[int, float] = {}
        self.asked: dict[int, int] = {}
        self.changed = threading.Condition(threading.RLock())
        self.listeners: list[Any] = []
        self.entered = 0.0
        self.told_problem: str | None = None
        self._compressing = threading.Lock()

    @property
    def problem(self) -> str | None:
        """Why it does not move, or did not end well, in words."""
        known = super().problem or self.barred
        if known is None and self.elsewhere and self.overheard is not None:
            return f"Another process moves it on, and says there: {self.overheard}"
        return known

    def work_begins(self) -> None:
        with self.changed:
            self.at_work += 1

    def work_ends(self) -> None:
        with self.changed:
            self.at_work -= 1
            if self.leaving is not None:
                self.leaving.release()
            self.changed.notify_all()

    def compress(self, number: int) -> None:
        """Compress a part, one thread at a time: a batch may end while the thread that created it is still at it."""
        with self._compressing:
            compress_part(self.folder.part(number))

    @cached_property
    def asker(self) -> Client:
        """A client that waits as long as a model may think."""
        return self.client.patient(LONGEST_ANSWER)

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.from_json(orjson.loads(self.record.recipe))

    @cached_property
    def cluster(self) -> ClusterJob | None:
        """What workers of a cluster do for the job; None where this machine does it all."""
        if self.record.cluster is None:
            return None
        from .cluster import ClusterJob

        return ClusterJob(self.folder, self.recipe)


class Workers:
    """
    The world of a real process: threads that do what the machine asks for.

    Parameters
    ----------
    report : callable
        ``report(job, event)`` hands an event to the loop; may be called in any thread.
    """

    def __init__(self, report: Callable[[OpenJob, Event], None]) -> None:
        self._report = report
        self._pools = {kind: _Pool(f"dobatch-{kind}", size) for kind, size in AT_ONCE.items()}
        self._looks: list[tuple[OpenJob, Look]] = []
        self._looks_lock = threading.Lock()

    # -- what an engine asks

    def now(self) -> Now:
        return Now(time.monotonic(), time.time())

    def try_lock(self, job: OpenJob) -> Lock | None:
        job.barred = None
        try:
            held = job.folder.try_lock()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # Whoever may write there moves the job.
            job.barred = (
                f"It is only watched here, since {job.folder.root} cannot be written to ({error.strerror}): attach where "
                "it can be, unless another process moves the job on."
            )
            return None
        return None if held is None else LockOfJob(held, job)

    def cancel_asked(self, job: OpenJob) -> bool:
        return job.folder.cancel_asked

    def limit_asked(self, job: OpenJob) -> Allow | None:
        return job.folder.limit_asked()

    def limit_heeded(self, job: OpenJob) -> None:
        job.folder.limit_heeded()

    def told(self, job: OpenJob) -> None:
        now = time.monotonic()
        # The index serves lists; every change of a counter need not be in it at once. Who moves the job keeps it.
        news = job.gone or now - job.entered > 1.0 or job.problem != job.told_problem
        if not job.elsewhere and news:
            with suppress(RuntimeError):  # no thread for it: with the next change, then
                self._pools["index"].put(partial(_enter, job))
                job.entered, job.told_problem = now, job.problem
        if job.elsewhere and not job.listening:
            job.listening = True
            try:
                self._pools["index"].put(partial(_listen, job))
            except RuntimeError:
                job.listening = False
        try:
            heard(job.home, job)  # first: whoever waits for the end may be a script that is over then
        finally:
            with job.changed:
                job.changed.notify_all()
                listeners = list(job.listeners)
        for listener in listeners:
            listener.notify()

    def settle(self, timeout: float) -> None:
        """Wait until what was told has reached the index, for so many seconds at most."""
        self._pools["index"].settle(timeout)

    def start(self, job: OpenJob, action: Action) -> None:
        job.work_begins()
        try:
            self._begin(job, action)
        except RuntimeError as error:  # no thread can be started
            self._finished(job, _failed(action, error))

    def _begin(self, job: OpenJob, action: Action) -> None:
        if isinstance(action, Look):
            asked = (job, action)
            with self._looks_lock:
                self._looks.append(asked)
            try:
                self._pools["look"].put(self._look)
            except RuntimeError:
                with self._looks_lock:
                    self._looks.remove(asked)
                raise
        elif isinstance(action, (Render, Ask, WriteOutput)):
            # These may take as long as there are rows, or wait for room: each job has a thread of its own for it.
            name = f"dobatch-{OPERATION_OF[type(action)]}-{job.id}"
            threading.Thread(target=self._do, args=(job, action), name=name, daemon=True).start()
        else:
            pool = _POOL_OF[type(action)]
            if pool in ("upload", "fetch") and job.record.cluster is not None:
                pool = "far"
            self._pools[pool].put(partial(self._do, job, action))

    # -- doing it

    def _do(self, job: OpenJob, action: Action) -> None:
        try:
            event = self._carried_out(job, action)
        except Stopped:
            event = None
        except BaseException as error:  # noqa: BLE001  told to the machine, which knows what follows
            event = _failed(action, error)
        self._finished(job, event)

    def _finished(self, job: OpenJob, event: Event | None) -> None:
        if event is not None:
            self._report(job, event)
        job.work_ends()

    def _carried_out(self, job: OpenJob, action: Action) -> Event | None:
        match action:
            case Render():
                return render(job, partial(self._report, job), partial(self.told, job))
            case Upload(number):
                return Uploaded(number, self._upload(job, number))
            case Create(number, file_id, request_id):
                batch = job.client.create_batch(
                    file_id,
                    provider=job.record.provider,
                    endpoint=job.record.endpoint,
                    request_id=request_id,
                    metadata=job.recipe.metadata,
                )
                self._report(job, Seen(number, _seen(batch), "create"))
                job.compress(number)
                return None
            case Find(number, request_id):
                found = next((b for b in job.client.iter_batches() if b.request_id == request_id), None)
                return Found(number, None if found is None else _seen(found))
            case CancelBatch(number, batch_id):
                return Seen(number, _seen(job.client.cancel_batch(batch_id)), "cancel")
            case Fetch(number, batch_id, again):
                empty = False
                if job.cluster is not None:
                    job.cluster.fetch(job.client, job.state.parts[number])
                else:
                    empty = not bring_files(
                        job.client, batch_id, job.folder.output(number), job.folder.error(number), again=again
                    )
                return Fetched(number, empty)
            case Read():
                return _read(job, action)
            case Ask(number):
                return self._ask(job, number)
            case WriteOutput():
                write_output(job.record, job.recipe, job.folder)
                return OutputWritten()
        raise AssertionError(f"nobody does {action!r}")

    def _upload(self, job: OpenJob, number: int) -> str:
        if job.cluster is not None:
            return job.cluster.upload(job.client, number, job.state.parts)

        def moved(done: int, total: int) -> None:
            job.shares[number] = done / total if total else 1.0
            self.told(job)
            if job.gone or job.state.cancelled:
                raise Stopped

        try:
            return job.client.send_file(
                job.folder.part(number), file_name=f"{job.id}-{number:05}.jsonl", on_progress=moved
            )
        except Stopped:
            if job.gone:
                raise
            raise DobatchError("The upload was stopped, since the job is cancelled.") from None
        finally:
            job.shares.pop(number, None)

    def _ask(self, job: OpenJob, number: int) -> Event:
        def told(count: int) -> None:
            job.asked[number] = count
            self.told(job)

        folder, record = job.folder, job.record
        asking = Asking(
            folder.part(number),
            folder.asked(number),
            folder.output(number),
            client=job.asker,
            provider=record.provider,
            endpoint=record.endpoint,
            pool=self._pools["now"],
            stop=lambda: job.gone or job.state.cancelled,
            told=told,
        )
        pace = asking.run()
        if job.gone:
            raise Stopped
        if pace:
            remember_pace(job.home.path, record, pace)
        return Asked(number, pace)

    # -- looking: one call for as many batches as one answer tells of

    def _look(self) -> None:
        with self._looks_lock:
            asked, self._looks = self._looks, []
        by_client: dict[int, list[tuple[OpenJob, Look]]] = {}
        for job, look in asked:
            by_client.setdefault(id(job.client), []).append((job, look))
        for group in by_client.values():
            self._look_at(group)

    def _look_at(self, group: list[tuple[OpenJob, Look]]) -> None:
        client: Client = group[0][0].client
        left: dict[str, list[tuple[OpenJob, Look]]] = {}
        for job, look in group:  # a home and its copy have the same batch
            left.setdefault(look.batch_id, []).append((job, look))

        def deliver(batch_id: str, batch: Batch) -> bool:
            asked = left.pop(batch_id, [])
            for job, look in asked:
                self._finished(job, Seen(look.number, _seen(batch), "look"))
            return bool(asked)

        def fail(batch_ids: list[str], error: BaseException) -> None:
            for batch_id in batch_ids:
                for job, look in left.pop(batch_id):
                    self._finished(job, _failed(look, error))

        try:
            cursor = None
            while len(left) >= LIST_FROM:
                page = client.list_batches(limit=PAGE, after=cursor)
                found = sum([deliver(batch.batch_id, batch) for batch in page.batches])
                cursor = page.next_cursor
                # A page that holds only one of them costs more than asking for those.
                if cursor is None or found < LIST_FROM:
                    break
        except DobatchError as error:
            # A key may be allowed to look at its batches and not to list them.
            refused = fault_of(error).kind in ("token", "refused", "unknown")
            if not refused and not (isinstance(error, ApiError) and 400 <= error.status < 500 and error.page):
                return fail(list(left), error)
        except BaseException as error:  # noqa: BLE001  told to the machine
            return fail(list(left), error)
        for batch_id in list(left):
            try:
                batch = client.get_batch(batch_id)
            except BaseException as error:  # noqa: BLE001  told to the machine
                fail([batch_id], error)
            else:
                deliver(batch_id, batch)
        return None


_POOL_OF: dict[type, str] = {
    Upload: "upload",
    Create: "call",
    Find: "call",
    CancelBatch: "call",
    Fetch: "fetch",
    Read: "read",
}


def _failed(action: Action, error: BaseException) -> Failed:
    return Failed(getattr(action, "number", None), OPERATION_OF[type(action)], fault_of(error))


class LockOfJob:
    """The lock of a job, which comes free only when no thread of ours is at the job's files any more."""

    def __init__(self, held: Any, job: OpenJob) -> None:
        self.held, self._job = held, job
        with job.changed:
            job.locked = True

    def release(self) -> None:
        with self._job.changed:
            if self._job.at_work:
                self._job.leaving = self
                return
            self.held.release()
            self._job.locked, self._job.leaving = False, None
            self._job.changed.notify_all()


class _Pool:
    """Some daemon threads that take work from a queue; started when there is work, ended when there is none."""

    # Not concurrent.futures: its executors take nothing any more once the interpreter begins to end, which is just
    # when a script's last line has to be sent.
    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._left = 0  # what is left to do: what waits, and what is being done

    def put(self, work: Callable[[], object]) -> None:
        """Have some work done; raise RuntimeError where there is no thread for it, and none can be started."""
        with self._lock:
            # Not by the queue's size: a thread that has just taken what was in it is not free.
            if self._left >= self._threads and self._threads < self._size:
                try:
                    threading.Thread(target=self._run, name=self._name, daemon=True).start()
                    self._threads += 1
                except RuntimeError:
                    if not self._threads:
                        raise
            self._left += 1
            self._work.put(work)

    def settle(self, timeout: float) -> None:
        """Wait until what was put before is done, where there is one thread, for so many seconds at most."""
        done = threading.Event()
        with suppress(RuntimeError):
            self.put(done.set)
            done.wait(timeout)

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if self._work.empty():
                        self._threads -= 1
                        return
                continue
            try:
                work()
            except Exception:
                log.exception("%s could not be done to its end", self._name)
            finally:
                with self._lock:
                    self._left -= 1


def _enter(job: OpenJob) -> None:
    try:
        job.home.update(job.record, job.state, job.problem)
    except DobatchError as error:
        # The index is only for finding things; it is brought up to the folders when it can be written again.
        log.warning("job %s is not up to date in the list of jobs: %s", job.id, error)
    if job.cluster is not None:
        try:
            job.cluster.mirror()
        except Exception as error:  # noqa: BLE001  whatever a store raises: it is copied again with the next change
            log.warning("job %s is not up to date in the store: %s", job.id, error)


def _listen(job: OpenJob) -> None:
    try:
        with suppress(DobatchError):
            job.overheard = job.home.told_problem(job.id)
    finally:
        job.listening = False


# -- what an answer of the service means here


def _seen(batch: Batch) -> BatchSeen:
    return BatchSeen(
        batch.batch_id,
        batch.status,
        ended=batch.terminal,
        completed=batch.counts.completed,
        failed=batch.counts.failed,
        expires_at=batch.expires_at,
        problem=_words(batch),
        enqueued=any(is_no_room(e.message, e.code) for e in batch.errors),
        idle=batch.idle,
    )


def _words(batch: Batch) -> str | None:
    """What the service found wrong, the first few of it."""
    found = []
    for error in batch.errors[:5]:
        line = f"line {error.line}: " if error.line is not None else ""
        said = error.message.lower().startswith(line[:-2]) if line else True
        found.append(error.message if said else line + error.message)
    if len(batch.errors) > 5:
        found.append(f"and {len(batch.errors) - 5:,} more")
    if not found and batch.status == "failed":
        return "The service gives no reason."
    return sentence("; ".join(found)) if found else None


def _read(job: OpenJob, action: Read) -> ReadDone:
    """Write a result for each request of a part, from whatever files are there."""
    number = action.number
    part = job.state.parts[number]
    job.compress(number)
    tally: Tally
    if job.cluster is not None:
        tally = job.cluster.read(job.client, part)
    else:
        tally = read_results_of(job.folder, job.recipe, part, action.code, action.message)
    return ReadDone(
        number,
        completed=tally.completed,
        failed=tally.failed,
        lines=tally.lines,
        cost=_measured(job, part, tally),
        errors=tuple(sorted(tally.failures.values(), key=lambda group: (-group.count, group.code))),
        rest=_rest(job, number) if action.carry else None,
        **tally.tokens,
    )


def _rest(job: OpenJob, number: int) -> Part | None:
    """Put what a batch has not run into a part of its own, on disk."""
    folder, record = job.folder, job.record
    results = read_table(folder.result(number), columns=["custom_id", "status", "error_code"])
    left = pc.and_(
        pc.equal(results["status"], "failed"),
        pc.is_in(results["error_code"], value_set=pa.array(sorted(CARRIED), pa.string())),
    )
    ids = results["custom_id"].filter(left).combine_chunks()
    if not len(ids):
        return None
    [part] = copy_lines([folder.part(number)], ids, folder.parts, job.recipe, first_part=number + REST)
    return record_part(folder, record, part, bounded=True)


def _measured(job: OpenJob, part: Part, tally: Tally) -> float | None:
    """Return what a part cost, in US dollars, whether or not the job has a limit; None where nobody can say."""
    if tally.unmetered:
        return None
    asked = job.record.model, job.record.provider
    if job.cluster is not None:
        used = usage_of_sums(part.requests, tally.tokens, *asked, overrides=settings().prices)
    else:
        tokens = read_table(job.folder.result(part.number), columns=TOKENS)
        used = usage_of(tokens, *asked, overrides=settings().prices)
    if used.price is None:
        return None
    paid, rates = (used.cost_realtime, used.price.realtime) if part.live else (used.cost, used.price.batch)
    return (paid or 0.0) + tally.surcharge * rates.input / MILLION
