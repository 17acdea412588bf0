"""From a job's input to its parts on disk, and the manifest that says which row asks what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.arrow.keyset import Keys, KeySet, keys_of
from dobatch_pandas.codes import Fate
from dobatch_pandas.questions import part_files
from dobatch_pandas.questions.request_lines import RequestWriter

from .budget import bounds_of
from .folder import JobFolder, JobRecord, read_table, written_whole
from .home import Home, scope_of
from .input import read_input
from .machine import PARTS_AHEAD, Event, Part, PartRendered, Rendered, next_number
from .result_files import copy_answers

if TYPE_CHECKING:
    from .work import OpenJob

__all__ = ["Known", "Stopped", "record_part", "render"]


NO_ROWS = pa.schema([("position", pa.int64()), ("custom_id", pa.string()), ("fate", pa.int8())]).empty_table()


class Stopped(Exception):
    """This process is to leave the job alone; the job itself goes on."""


def render(job: OpenJob, report: Callable[[Event], None], told: Callable[[], None]) -> Rendered:
    """
    Turn the input into parts, and report each one as soon as it is on disk.

    A process that died half way is followed by one that begins anew and leaves out what is in a part already.

    Parameters
    ----------
    job : OpenJob
    report : callable
        Takes each `PartRendered`.
    told : callable
        Called as rows are rendered.

    Raises
    ------
    Stopped
        The job is to be left alone.
    """
    if job.cluster is not None:
        return _rendered_by_workers(job, report, told)
    if job.record.source is None and not job.folder.input.exists():
        return _rendered_before(job)
    lost = KeySet()
    while True:
        rendered, missing = _rendered_once(job, report, told, lost)
        if not len(missing):
            job.folder.input.unlink(missing_ok=True)
            return rendered
        # Another job's answers went away between being found and being copied: these are asked after all.
        lost.add_new(missing)


def _rendered_by_workers(job: OpenJob, report: Callable[[Event], None], told: Callable[[], None]) -> Rendered:
    """The same, where the rows lie in a Dask frame."""

    def accept(part: Part) -> None:
        report(PartRendered(part))
        _wait_for_room(job, part.number)

    def rows(count: int) -> None:
        job.rows_rendered = count
        told()

    assert job.cluster is not None
    bounded = job.record.max_cost is not None
    requests, skipped = job.cluster.render(dict(job.state.parts), accept, bounded=bounded, rows=rows)
    return Rendered(requests, 0, skipped)


def _wait_for_room(job: OpenJob, number: int) -> None:
    with job.changed:
        job.changed.wait_for(lambda: job.gone or _room(job, number))
    if job.gone:
        raise Stopped


def _rendered_before(job: OpenJob) -> Rendered:
    """Tell from the manifest what a process had rendered that died before it could say so."""
    manifest = read_table(job.folder.manifest, columns=["custom_id", "fate"])
    reused = pc.count_distinct(manifest["custom_id"].filter(pc.equal(manifest["fate"], Fate.REUSED))).as_py()
    sent = sum(part.requests for part in job.state.parts.values())
    return Rendered(sent + reused, reused, _count(pc.greater(manifest["fate"], Fate.REUSED)))


def _rendered_once(
    job: OpenJob, report: Callable[[Event], None], told: Callable[[], None], lost: KeySet
) -> tuple[Rendered, Keys]:
    folder, recipe, record = job.folder, job.recipe, job.record
    sent = KeySet(folder.root)
    requests = skipped = 0
    parts = dict(job.state.parts)
    for number in parts:
        ids = folder.part_ids(number)
        sent.add_new(keys_of(ids))
        requests += len(ids)

    def accept(part: part_files.Part) -> None:
        state = job.state
        bounded = record.max_cost is not None or state.deadline is not None or state.asks_now
        report(PartRendered(record_part(folder, record, part, bounded=bounded)))
        _wait_for_room(job, part.number)

    known = None
    if record.reuse:
        known = Known(job.home, record.base_url, record.account, record.provider, record.endpoint, lost)
    writer = RequestWriter(
        recipe,
        folder.parts,
        sent=sent,
        answered=known,
        first_part=next_number(parts),
        on_part=accept,
    )
    reused = KeySet(folder.root)
    position = 0
    with written_whole(folder.manifest) as partial, ExitStack() as stack:
        manifest: pq.ParquetWriter | None = None
        for frozen, labels in read_input(folder, record, recipe):
            rows = writer.add(frozen)
            fate = rows["fate"]
            reused.add_new(keys_of(rows["custom_id"].filter(pc.equal(fate, Fate.REUSED))))
            requests += _count(pc.equal(fate, Fate.SENT))
            skipped += _count(pc.greater(fate, Fate.REUSED))
            table = _manifest_table(rows, labels, position, recipe.samples)
            if manifest is None:
                manifest = stack.enter_context(pq.ParquetWriter(partial, table.schema, compression="zstd"))
            manifest.write_table(table)
            position += frozen.num_rows
            job.rows_rendered = position
            told()
            if job.gone:
                raise Stopped
        writer.close()
        if manifest is None:  # an output has all rows already
            pq.write_table(NO_ROWS, partial)
    copied = copy_answers(job.home, known.found if known is not None else (), reused, folder.reused)
    missing = np.concatenate([np.empty(0, np.uint64), *reused.without(copied)])
    return Rendered(requests + len(reused), len(reused), skipped), missing


def _room(job: OpenJob, number: int) -> bool:
    """Whether few enough parts lie on disk unsent, this one among them."""
    state = job.state
    if number not in state.parts:
        return False
    return state.cancelled or sum(part.state == "rendered" for part in state.parts.values()) < PARTS_AHEAD


class Known(KeySet):
    """
    The requests that earlier jobs have an answer for: a set that is looked up as it is asked, and not held.

    Parameters
    ----------
    home : Home
    base_url, account, provider, endpoint : str
        Only answers of the same ones count, and those of version 0.1.0, which knew no accounts.
    lost : KeySet, optional
        What cannot be had after all.

    Attributes
    ----------
    found : dict of str to None
        The ids of the jobs that have some of them, in the order in which they were found.
    """

    def __init__(
        self,
        home: Home,
        base_url: str,
        account: str,
        provider: str,
        endpoint: str,
        lost: KeySet | None = None,
    ) -> None:
        super().__init__()
        self._home = home
        self._scopes = [
            scope_of(base_url, whose, provider, endpoint) for whose in dict.fromkeys((account, ""))
        ]
        self._any = home.enter_answers(self._scopes)
        self._lost = KeySet() if lost is None else lost
        self.found: dict[str, None] = {}

    def __len__(self) -> int:
        return int(self._any)

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Say of each key whether it is answered."""
        there = KeySet()
        for job_id, theirs in self._home.answered(self._scopes, keys).items():
            self.found[job_id] = None
            there.add_new(theirs)
        return there.contains(keys) & ~self._lost.contains(keys)


def record_part(
    folder: JobFolder, record: JobRecord, part: part_files.Part, *, bounded: bool, again: int = 0
) -> Part:
    """
    Write down which requests are in a file, before anything relies on it, and return the file as a part.

    Where it is `bounded`, what it can cost at most is counted; `again` is the round of a retry.
    """
    folder.write_part_ids(part.number, part.ids)
    part_files.sync_folder(part.path.parent)
    batch = now = None
    if bounded:
        batch, now = bounds_of(part.path, record.model, record.provider, record.endpoint)
    return Part(part.number, part.requests, part.bytes, round=again, bound=batch, bound_now=now)


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _manifest_table(
    rows: pa.RecordBatch, labels: pa.RecordBatch | None, position: int, samples: int
) -> pa.Table:
    """
    Position, index labels, custom_id and fate of every request asked for, a row of the input after the other.

    Rows have no labels where their position is their name.
    """
    of_row = pa.array(np.repeat(np.arange(rows.num_rows // samples), samples))
    columns = {"position": pc.add(of_row, position), "custom_id": rows["custom_id"], "fate": rows["fate"]}
    if labels is None:
        return pa.table(columns)
    named = labels.take(of_row) if samples > 1 else labels
    columns |= {name: named[name] for name in labels.schema.names}
    return pa.table(columns).replace_schema_metadata(labels.schema.metadata)
