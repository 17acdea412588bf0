"""
A job whose rows lie in a Dask frame: its states, journal and batches are here, and the work is sent to the workers.

The engine moves it on as any other job. Only four of its actions are done elsewhere: rendering, uploading, downloading and
reading are tasks of Dask's (`on_worker`), and what they leave on the workers is named here by futures. Whatever is lost with
a worker, the scheduler or this process is made again from the frame; a batch is created here alone, under a ``request_id``
that follows from the job and the part. In the job's folder lie, beside what each job has::

    frame.pickle             the frame's graph and the question, from which its rows can be computed again
    partitions.json          the name of that graph, and in which parts each partition's requests are
    manifest-00000.parquet   which requests are in a part
    missing-00000.parquet    which of them had no line in the batch's files
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.config import settings
from dobatch_pandas.endpoints import PROVIDERS
from dobatch_pandas.errors import (
    ConfigurationError,
    ConnectionFailed,
    DobatchError,
    InputError,
    JobError,
    Problem,
)
from dobatch_pandas.prices import price_of
from dobatch_pandas.questions.part_files import Filling
from dobatch_pandas.questions.problems import NO_ROWS
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client

from . import on_worker
from .faults import FaultSeen
from .folder import UNREADABLE, JobFolder, read_table, written_whole
from .input import as_json
from .machine import Fault, Part, State, next_number, why_missing
from .on_worker import Asker, Fetched, Ids, Stored, Told, hex_of, keys_of_hex
from .result_files import Tally
from .store import store_at

__all__ = ["ClusterJob", "Prepared", "compute", "count_calls", "prepare", "remember"]

TOLD = 20  # problems that are told


# -- Dask


def compute(*tasks: Any) -> list[Any]:
    """
    Return what some tasks come to.

    Raises
    ------
    ConnectionFailed
        The cluster has lost them; they can be tried again.
    DobatchError
        With the words of whatever a task of the frame's own raised.
    """
    import dask

    with _in_words():
        return list(dask.compute(*tasks))  # type: ignore[attr-defined, no-untyped-call]


def persisted(tasks: Sequence[Any]) -> list[Any]:
    """Have tasks computed, and return the names of what stays where it was computed."""
    import dask

    with _in_words():
        return list(dask.persist(*tasks)) if tasks else []  # type: ignore[attr-defined, no-untyped-call]


@contextmanager
def _in_words() -> Iterator[None]:
    """Have what Dask raises told as an error of ours."""
    try:
        yield
    except DobatchError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        raise _meaning_of(error) from error


def _meaning_of(error: BaseException) -> DobatchError:
    lost: tuple[type[BaseException], ...] = (OSError, TimeoutError, asyncio.CancelledError)
    with suppress(ImportError):
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
        from distributed.shuffle._exceptions import P2PConsistencyError, ShuffleClosedError

        lost += (KilledWorker, FutureCancelledError, CommClosedError, P2PConsistencyError, ShuffleClosedError)
    words = f"{type(error).__name__}: {error}"[:500]
    if isinstance(error, lost) or "P2P" in words:
        return ConnectionFailed(f"The cluster has lost what it was at: {words}.")
    return DobatchError(f"The frame cannot be computed: {words}")


def _distributed() -> Any:
    """The client of the cluster that computes now; None where this machine does."""
    from dask.base import get_scheduler

    with suppress(ImportError):
        from distributed import Client as Cluster

        client = getattr(get_scheduler(), "__self__", None)  # type: ignore[no-untyped-call]
        return client if isinstance(client, Cluster) else None
    return None


def look_at_workers(asker: Asker) -> None:
    """
    Find out before anything is computed whether every worker can work for us.

    Raises
    ------
    ConfigurationError
        With what is wrong with which of them.
    """
    words = on_worker.checked(asker)
    if words is not None:
        raise ConfigurationError(words)
    cluster = _distributed()
    if cluster is None:
        return
    with _in_words():
        told = cluster.run(on_worker.checked, asker, on_error="return")
    wrong: dict[str, list[str]] = {}
    for address, words in told.items():
        if words is not None:
            said = words if isinstance(words, str) else f"cannot run dobatch_pandas: {words}"[:300]
            wrong.setdefault(said, []).append(address)
    if wrong:
        listed = "; ".join(
            f"{', '.join(some[:5])}{' ...' if len(some) > 5 else ''}: {w}" for w, some in wrong.items()
        )
        raise ConfigurationError(f"Not every worker can work for this job, and nothing is sent: {listed}")


def count_calls(client: Client) -> None:
    """Have this process count the calls that workers make by themselves, and let them through one by one, as its own."""
    cluster = _distributed()
    if cluster is None:
        return
    from distributed import Queue

    async def asked(event: Any) -> None:
        answer, stay_away = event[1]
        if stay_away:
            client.caller.stay_away(stay_away)
        queue: Any = await Queue(answer, client=cluster)  # type: ignore[no-untyped-call]
        await queue.put(client.caller.turn_now())
        queue.close()

    topic = on_worker.turns_at(client.base_url)
    on_worker.counted_here.add(topic)
    cluster.subscribe_topic(topic, asked)


# -- what is asked


@dataclass
class Prepared:
    """
    What a frame's partitions ask, each question once: lines on the workers, ids and sizes here.

    ``runs`` says what goes into each part: the first and last of `kept`, and from which request to which.
    """

    asker: Any
    told: list[Told]
    kept: list[Any]
    ids: list[Ids]
    sizes: list[Any]
    owners: list[tuple[int, ...]]
    runs: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        filling = Filling(PROVIDERS[self.asker.recipe.provider].file_limits)
        ends = np.cumsum([0, *map(len, self.ids)])
        every = np.concatenate(self.sizes) if self.sizes else np.empty(0, np.int64)
        begun = 0
        for _, stop, full in filling.runs(every.astype(np.int64)):
            if full or stop == len(every):
                if stop > begun:
                    first = int(np.searchsorted(ends, begun, "right")) - 1
                    last = int(np.searchsorted(ends, stop, "left")) - 1
                    self.runs.append((first, last, begun - int(ends[first]), stop - int(ends[last])))
                begun = stop
                if full:
                    filling.empty()

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.told)

    @property
    def skipped(self) -> int:
        return sum(one.skipped for one in self.told)

    def fingerprint(self, salt: str) -> str:
        """Hex digits that are the same for the same question over the same rows, whatever their order and partitions."""
        sums = [sum(one.sums[lane] for one in self.told) % 2**64 for lane in range(2)]
        said = f"{salt} dask {self.rows} {self.skipped} {sums} {as_json(self.asker.recipe.to_json())}"
        return blake2b(said.encode(), digest_size=16).hexdigest()

    def ids_of(self, run: tuple[int, int, int, int]) -> Ids:
        ids: Ids = _of_run(self.ids, run)
        return ids

    def bytes_of(self, run: tuple[int, int, int, int]) -> int:
        return int(_of_run(self.sizes, run).sum())

    def lines_of(self, run: tuple[int, int, int, int]) -> Any:
        """Have one part's lines put together on a worker."""
        from dask.delayed import delayed

        first, last, start, stop = run
        places = [place for place in range(first, last + 1) if len(self.ids[place]) or place in (first, last)]
        pieces = [self.kept[place] for place in places]
        mark = on_worker.mark_of(self.ids_of(run))
        [lines] = persisted([delayed(on_worker.part_of, pure=False)(pieces, start, stop, mark)])
        return lines

    def needs(self) -> list[list[int]]:
        """In which parts the requests of each partition are."""
        mine: list[set[int]] = [set() for _ in self.ids]
        for number, (first, last, _, _) in enumerate(self.runs):
            for place in range(first, last + 1):
                mine[place].add(number)
        return [
            sorted(mine[place].union(*(mine[owner] for owner in owners)))
            for place, owners in enumerate(self.owners)
        ]

    def most(self) -> Any:
        """Return the estimate of what asking costs at most."""
        return self.estimate(exact=True)

    def estimate(self, *, exact: bool = False) -> Any:
        """Count requests, tokens and dollars; what cannot be exceeded where `exact`."""
        from dask.delayed import delayed

        from dobatch_pandas.estimate import Estimator

        asker = self.asker
        whole = Estimator(
            asker.recipe.model,
            asker.recipe.provider,
            asker.recipe.endpoint,
            overrides=asker.prices,
            bound=exact,
        )
        if whole.price is not None or not exact:
            spec = delayed(asker, pure=False)
            count = delayed(on_worker.counted, pure=False)
            for sums in compute(*[count(one, spec, exact=exact) for one in self.kept]):
                whole.include(sums)
        return whole.finish(
            rows=self.rows,
            skipped=self.skipped,
            bytes=int(sum(int(sizes.sum()) for sizes in self.sizes)),
            batches=len(self.runs),
        )


def _of_run(pieces: Sequence[Any], run: tuple[int, int, int, int]) -> Any:
    first, last, start, stop = run
    taken = list(pieces[first : last + 1])
    taken[-1] = taken[-1][:stop]
    taken[0] = taken[0][start:]
    return np.concatenate(taken)


@dataclass
class _Asked:
    """What all partitions ask, on the workers, and what they told of it."""

    asker: Asker
    asked: list[Any]
    told: list[Told]
    ids: list[Ids]
    sizes: list[Any]

    @classmethod
    def of(cls, frame: Any, asker: Asker) -> _Asked:
        from dask.delayed import delayed

        spec = delayed(asker, pure=False)
        ask = delayed(on_worker.ask, pure=False)
        tell = delayed(on_worker.tell, pure=False)
        asked = persisted([ask(part, spec) for part in frame.to_delayed(optimize_graph=True)])
        told, ids, sizes = map(list, zip(*compute(*map(tell, asked)), strict=True))
        _check(told)
        return cls(asker, asked, told, ids, sizes)

    @cached_property
    def owners(self) -> list[Any]:
        """For each partition, which one asks each of its requests: the first that has it."""
        counts = list(map(len, self.ids))
        every = np.concatenate(self.ids)
        # Equal ones stay in the order of their partitions.
        order = np.lexsort((every[:, 1], every[:, 0]))
        sorted_ids = every[order]
        new = np.ones(len(every), bool)
        new[1:] = (sorted_ids[1:] != sorted_ids[:-1]).any(axis=1)
        first = np.maximum.accumulate(np.where(new, np.arange(len(every)), 0))
        partition = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        owners = np.empty(len(every), np.int32)
        owners[order] = partition[order[first]]
        return np.split(owners, np.cumsum(counts)[:-1])

    def taken(self, wanted: Callable[[Ids], Any]) -> Prepared:
        """Take each of some requests once, from the first partition that has it."""
        from dask.delayed import delayed

        only = delayed(on_worker.only, pure=False)
        which = [
            (owners == number) & wanted(ids)
            for number, (owners, ids) in enumerate(zip(self.owners, self.ids, strict=True))
        ]
        kept = [
            one if mine.all() else only(one, np.packbits(mine).tobytes())
            for one, mine in zip(self.asked, which, strict=True)
        ]
        return Prepared(
            self.asker,
            self.told,
            persisted(kept),
            [ids[mine] for ids, mine in zip(self.ids, which, strict=True)],
            [sizes[mine] for sizes, mine in zip(self.sizes, which, strict=True)],
            [
                tuple(np.unique(owners[owners != number]).tolist())
                for number, owners in enumerate(self.owners)
            ],
        )

    def only(self, wanted: Ids) -> Prepared:
        """Take some requests alone."""
        known = _as_set(wanted)
        return self.taken(lambda ids: _in(ids, known))


def prepare(frame: Any, asker: Asker, *, without: Ids | None = None) -> Prepared:
    """
    Render a frame's partitions on the workers, and find out which requests are to be sent.

    Which of them repeat another partition's is found out here: their ids are needed here in any case, to write down what
    each part asks.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    asker : Asker
    without : numpy.ndarray, optional
        Requests that are in parts already.

    Raises
    ------
    InputError
        With the problems of all partitions.
    """
    known = _as_set(without) if without is not None else set()
    return _Asked.of(frame, asker).taken(lambda ids: ~_in(ids, known))


def _check(told: list[Told]) -> None:
    problems: dict[str, Problem] = {}
    for one in told:
        for problem in one.problems:
            known = problems.get(problem.message)
            rows = (known.rows if known else ()) + problem.rows
            count = (known.count if known else 0) + max(problem.count, len(problem.rows))
            problems[problem.message] = Problem(problem.message, rows[: on_worker.NAMED], count)
    listed = list(problems.values())
    if len(listed) > TOLD:
        listed = [
            *listed[:TOLD],
            Problem(f"And {len(listed) - TOLD:,} more of these kinds, in other partitions."),
        ]
    if listed:
        raise InputError(listed)
    if not sum(one.rows for one in told):
        raise InputError(NO_ROWS)


def _as_set(ids: Ids) -> set[bytes]:
    data = np.ascontiguousarray(ids).tobytes()
    return {data[at : at + 16] for at in range(0, len(data), 16)}


def _in(ids: Ids, known: set[bytes]) -> Any:
    data = np.ascontiguousarray(ids).tobytes()
    return np.fromiter((data[at : at + 16] in known for at in range(0, len(data), 16)), bool, len(ids))


# -- the job

_remembered: dict[Path, tuple[Any, Recipe, Prepared | None]] = {}
_remembered_lock = threading.Lock()
_lines: dict[Path, dict[int, Any]] = {}


def remember(folder: JobFolder, frame: Any, recipe: Recipe, prepared: Prepared | None) -> None:
    """Keep in this process what a job's rows can be computed from, and what was computed."""
    with _remembered_lock:
        known = _remembered.get(folder.root)
        if known is not None and known[2] is not None:
            prepared = known[2]
        _remembered[folder.root] = (frame, recipe, prepared)


class ClusterJob:
    """
    What the workers do for one job, as this process knows it.

    Parameters
    ----------
    folder : JobFolder
    recipe : Recipe
        As it is on disk: a function is not in it.
    """

    def __init__(self, folder: JobFolder, recipe: Recipe) -> None:
        self.folder, self._recipe = folder, recipe
        # By the folder: a retry has lines made that are sent by whoever moves the job on.
        self._lines: dict[int, Any] = _lines.setdefault(folder.root, {})
        self._again: _Asked | None = None
        self._tallies: dict[int, Tally] = {}
        self._mirrored: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    # -- the frame

    @property
    def _pickle(self) -> Path:
        return self.folder.root / "frame.pickle"

    @property
    def _partitions(self) -> Path:
        return self.folder.root / "partitions.json"

    def keep_frame(self, frame: Any, recipe: Recipe) -> None:
        """Write down what the rows can be computed from."""
        import cloudpickle

        try:
            content = cloudpickle.dumps((frame, recipe))
        except Exception as error:
            raise InputError(
                f"The frame's graph cannot be kept for later, as pickle says: {error}"
            ) from error
        with written_whole(self._pickle) as partial:
            partial.write_bytes(content)

    def frame(self) -> tuple[Any, Recipe]:
        """
        Return the frame and the question.

        Raises
        ------
        JobError
            They cannot be had here.
        """
        with _remembered_lock:
            known = _remembered.get(self.folder.root)
        if known is not None:
            return known[0], known[1]
        import cloudpickle

        try:
            frame, recipe = cloudpickle.loads(self._pickle.read_bytes())
        except Exception as error:
            raise JobError(
                f"The rows of job {self.folder.id} cannot be computed here ({type(error).__name__}: {error}). Submit the "
                "frame again: it finds this job, and goes on with it.",
                self.folder.id,
            ) from error
        remember(self.folder, frame, recipe, None)
        return frame, recipe

    @property
    def recipe(self) -> Recipe:
        """What is asked, with the function where there is one."""
        return self._recipe if self._recipe.portable else self.frame()[1]

    def name_and_needs(self) -> tuple[str, list[list[int]], dict[int, list[int]]]:
        """The name of the frame's graph, the parts of each partition, and the later parts of each part."""
        try:
            known = orjson.loads(self._partitions.read_bytes())
        except FileNotFoundError:
            return "", [], {}
        return (
            known["frame"],
            known["needs"],
            {int(number): later for number, later in known["later"].items()},
        )

    def _write_needs(self, name: str, needs: list[list[int]], later: dict[int, list[int]]) -> None:
        content = {
            "frame": name,
            "needs": needs,
            "later": {str(number): more for number, more in later.items()},
        }
        with written_whole(self._partitions) as partial:
            partial.write_bytes(orjson.dumps(content))

    # -- what the machine asks for

    def render(
        self,
        parts: dict[int, Part],
        accept: Callable[[Part], None],
        *,
        bounded: bool,
        rows: Callable[[int], None],
    ) -> tuple[int, int]:
        """
        Put what is in no part yet into parts, and hand on each; return how many requests there are, and rows skipped.

        A process that died half way is followed by one that begins anew and leaves out what is in a part already.
        """
        frame, recipe = self.frame()
        with _remembered_lock:
            prepared = _remembered[self.folder.root][2]
            _remembered[self.folder.root] = (frame, recipe, None)
        sent = [self.ids_of(number) for number in sorted(parts)]
        if prepared is None or parts:
            look_at_workers(Asker.here(recipe))
            prepared = prepare(frame, Asker.here(recipe), without=np.concatenate(sent) if sent else None)
        begun = next_number(parts)
        requests = sum(map(len, sent))
        for number, run in enumerate(prepared.runs, begun):
            part = self._written(prepared, run, number, bounded=bounded)
            requests += part.requests
            accept(part)
            rows(round(prepared.rows * (number - begun + 1) / len(prepared.runs)))
        # A partition of a job that was taken up half way may have requests in any part.
        needs = prepared.needs() if not parts else []
        self._write_needs(frame._name, needs, {})
        return requests, prepared.skipped

    def _written(
        self,
        prepared: Prepared,
        run: tuple[int, int, int, int],
        number: int,
        *,
        bounded: bool,
        again: int = 0,
    ) -> Part:
        lines = prepared.lines_of(run)
        bound = _bound_of(lines, prepared.asker) if bounded else None
        ids = prepared.ids_of(run)
        self.folder.write_part_ids(number, hex_of(ids))
        self._lines[number] = lines
        return Part(number, len(ids), prepared.bytes_of(run), round=again, bound=bound)

    def bound_of(self, number: int) -> float | None:
        """Return the most that a part can cost, in US dollars, by the prices of now; None where nobody can say."""
        asker = Asker.here(self.recipe)
        if price_of(asker.recipe.model, asker.recipe.provider, overrides=asker.prices) is None:
            return None
        with self._lock:
            lines = self._lines.get(number)
            if lines is None:
                lines = self._lines_again(number)
        return _bound_of(lines, asker)

    def upload(self, client: Client, number: int, parts: Mapping[int, Part]) -> str:
        """Have a worker send a part; returns the file's id."""
        from dask.delayed import delayed

        recipe = self.recipe
        lines = self._lines.get(number)
        if lines is None:
            # Lost with the process that had it rendered, or the service has lost the file.
            with self._lock:
                lines = self._lines[number] = self._lines_again(number)
                lost = (p for p in parts.values() if p.state == "rendered" and p.number not in self._lines)
                if next(lost, None) is None:
                    self._again = None
        client.caller.turn()
        name = f"{self.folder.id}-{number:05}.jsonl"
        try:
            [told] = compute(delayed(on_worker.upload, pure=False)(lines, name, Asker.here(recipe)))
        except DobatchError:
            # The lines may be what is lost.
            self._lines.pop(number, None)
            raise
        file_id: str = _good(told, client)
        self._lines.pop(number, None)
        return file_id

    def _lines_again(self, number: int) -> Any:
        """Have the lines of a part made once more; what the frame's partitions ask is found out once for all parts."""
        try:
            if self._again is None:
                frame, recipe = self.frame()
                asker = Asker.here(recipe)
                look_at_workers(asker)
                self._again = _Asked.of(frame, asker)
            prepared = self._again.only(self.ids_of(number))
        except DobatchError:
            self._again = None
            raise
        if not prepared.runs:
            raise JobError(
                f"The frame of job {self.folder.id} has none of the rows any more that part {number} asks: its source has "
                "changed. job.cancel() ends the job with what is answered.",
                self.folder.id,
            )
        return prepared.lines_of(prepared.runs[0])

    def fetch(self, client: Client, part: Part) -> None:
        """Have a worker download and read the results of a part."""
        from dask.delayed import delayed

        client.caller.turn()
        ids = self.ids_of(part.number).tobytes()
        stored = Stored(part.number, part.batch_id, *why_missing(part), job_id=self.folder.id)
        [told] = compute(delayed(on_worker.fetch, pure=False)(stored, ids, Asker.here(self._recipe)))
        fetched: Fetched = _good(told, client)
        if fetched.missing:
            self._write_missing(part.number, fetched.missing)
        else:
            self._missing(part.number).unlink(missing_ok=True)
        self._tallies[part.number] = fetched.tally

    def read(self, client: Client, part: Part) -> Tally:
        """Return what the results of a part add up to."""
        self._lines.pop(part.number, None)  # of one that was never sent
        self.folder.result(part.number).unlink(missing_ok=True)  # brought here when it was read before
        tally = self._tallies.pop(part.number, None)
        if tally is None and part.batch_id is not None and not part.provisional:
            self.fetch(client, part)
            tally = self._tallies.pop(part.number)
        if tally is None:
            code, message = why_missing(part)
            tally = Tally(failed=part.requests)
            tally.failures[code] = ErrorGroup(code, part.requests, message)
            self._write_missing(part.number, self.ids_of(part.number).tobytes())
        return tally

    def again(self, state: State, ids: pa.Array, first_part: int, *, bounded: bool) -> tuple[Part, ...]:
        """Put some requests that were sent into new parts."""
        frame, recipe = self.frame()
        look_at_workers(Asker.here(recipe))
        prepared = _Asked.of(frame, Asker.here(recipe)).only(keys_of_hex(ids))
        round_ = 1 + max((part.round for part in state.parts.values()), default=0)
        parts = []
        name, needs, later = self.name_and_needs()
        for number, run in enumerate(prepared.runs, first_part):
            parts.append(self._written(prepared, run, number, bounded=bounded, again=round_))
            mine = _as_set(prepared.ids_of(run))
            for old in state.parts:
                if any(_in(self.ids_of(old), mine)):
                    later.setdefault(old, []).append(number)
        self._write_needs(name, needs, later)
        return tuple(parts)

    def mirror(self) -> None:
        """Have the store know how far the job is, so that another machine can go on."""
        store = store_at(settings().store)
        if store is not None:
            store.keep_folder(self.folder, self._mirrored)

    # -- for joining

    def stored(self, state: State, numbers: Collection[int]) -> list[Stored]:
        """Say where the results of some parts are, those that are there."""
        found = []
        for number in sorted(numbers):
            part = state.parts[number]
            if not part.final:
                continue
            missing = b""
            if part.lines < part.requests:
                missing = self._missing_ids(number)
            batch = part.batch_id if part.lines else None
            found.append(Stored(number, batch, *why_missing(part), missing, self.folder.id))
        return found

    # -- ids, on disk

    def ids_of(self, number: int) -> Ids:
        """
        Return the ids of a part's requests.

        Raises
        ------
        JobError
            They are gone, and nobody brings them back by waiting.
        """
        try:
            return keys_of_hex(read_table(self.folder.part_manifest(number))["custom_id"])
        except FileNotFoundError as error:
            raise JobError(
                f"{self.folder.part_manifest(number)} is gone, so nobody knows what part {number} of job {self.folder.id} "
                "asks. Put the file back, or forget the job and submit the frame again.",
                self.folder.id,
            ) from error

    def _missing(self, number: int) -> Path:
        return self.folder.root / f"missing-{number:05}.parquet"

    def _write_missing(self, number: int, ids: bytes) -> None:
        table = pa.table({"custom_id": hex_of(np.frombuffer(ids, np.uint64).reshape(-1, 2))})
        with written_whole(self._missing(number)) as partial:
            pq.write_table(table, partial, compression="zstd")

    def _missing_ids(self, number: int) -> bytes:
        try:
            return keys_of_hex(read_table(self._missing(number))["custom_id"]).tobytes()
        except UNREADABLE:
            return self.ids_of(number).tobytes()


def _bound_of(lines: Any, asker: Asker) -> float | None:
    from dask.delayed import delayed

    [bound] = compute(delayed(on_worker.bound_of_lines, pure=False)(lines, asker))
    return None if bound is None else float(bound)


def _good(told: Any, client: Client) -> Any:
    """What a task returned, or what went wrong there, raised."""
    if isinstance(told, Fault):
        if told.kind == "busy" and told.retry_after:
            client.caller.stay_away(told.retry_after)
        raise FaultSeen(told)
    return told
