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

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.config import settings
from dobatch_pandas.errors import (
    DobatchError,
    InputError,
    JobError,
)
from dobatch_pandas.prices import price_of
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client

from . import on_worker
from .dask_tasks import compute, look_at_workers
from .faults import FaultSeen
from .folder import UNREADABLE, JobFolder, read_table, written_whole
from .machine import Fault, Part, State, next_number, why_missing
from .on_worker import Asker, Fetched, Ids, Stored, hex_of, keys_of_hex
from .partitions import Partitions, Prepared, among, as_set, prepare
from .result_files import Tally
from .store import store_at

__all__ = ["ClusterJob", "remember"]

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
        self._again: Partitions | None = None
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
                self._again = Partitions.of(frame, asker)
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
        prepared = Partitions.of(frame, Asker.here(recipe)).only(keys_of_hex(ids))
        round_ = 1 + max((part.round for part in state.parts.values()), default=0)
        parts = []
        name, needs, later = self.name_and_needs()
        for number, run in enumerate(prepared.runs, first_part):
            parts.append(self._written(prepared, run, number, bounded=bounded, again=round_))
            mine = as_set(prepared.ids_of(run))
            for old in state.parts:
                if any(among(self.ids_of(old), mine)):
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
