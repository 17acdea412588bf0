"""From a job's input to its parts on disk, and the manifest that says which row asks what."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.arrow.keyset import KeySet, keys_of
from dobatch_pandas.codes import Fate
from dobatch_pandas.questions.part_files import Part, ids_of_part
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import RequestWriter

from .input import read_input
from .progress import JobState
from .result_files import answered_keys, copy_answers
from .store import PartRecord, written_whole

__all__ = ["render"]


def render(progress: JobState, recipe: Recipe, on_part: Callable[[int], None]) -> None:
    """
    Turn the input into parts, and hand each one on as soon as it is on disk and in the ledger.

    A process that died half way is followed by one that begins anew and leaves out what is in a part already.

    Parameters
    ----------
    progress : JobState
    recipe : Recipe
    on_part : callable
        Called with each part's number; may block until there is room for the next.
    """
    store, folder, job = progress.store, progress.folder, progress.job
    sources = json.loads(job.sources)
    sent = KeySet()
    requests = skipped = 0
    for number in progress.parts:
        ids = ids_of_part(folder.part(number))
        sent.add_new(keys_of(ids))
        requests += len(ids)

    def accept(part: Part) -> None:
        part.path.chmod(0o600)
        progress.add_part(PartRecord(job.id, part.number, str(uuid.uuid4()), part.requests, part.bytes))
        on_part(part.number)

    writer = RequestWriter(
        recipe,
        folder.parts,
        sent=sent,
        answered=answered_keys(store, sources),
        first_part=len(progress.parts),
        on_part=accept,
    )
    reused: list[pa.Array] = []
    with written_whole(folder.manifest) as partial, _Manifest(partial, recipe.samples) as manifest:
        for frozen, labels in read_input(store, job, recipe):
            rows = writer.add(frozen)
            fate = rows["fate"]
            reused.append(rows["custom_id"].filter(pc.equal(fate, Fate.REUSED)))
            requests += _count(pc.equal(fate, Fate.SENT))
            skipped += _count(pc.greater(fate, Fate.REUSED))
            manifest.write(rows, labels)
            progress.rows_rendered = manifest.rows
            progress.tell()
            progress.check()
        writer.close()
    taken = pa.chunked_array(reused, pa.string()).unique()
    copy_answers(store, sources, taken, folder.reused)
    progress.set_job(rendered=1, requests=requests + len(taken), reused=len(taken), skipped=skipped)
    folder.input.unlink(missing_ok=True)


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


class _Manifest:
    """Position, index labels, custom_id and fate of every request asked for, a row of the frame after the other."""

    def __init__(self, path: Any, samples: int) -> None:
        self._path, self._samples = path, samples
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def __enter__(self) -> _Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, rows: pa.RecordBatch, labels: pa.RecordBatch | None) -> None:
        """Add what became of some rows; they have no labels where their position is their name."""
        count = rows.num_rows // self._samples
        of_row = pa.array(np.repeat(np.arange(count), self._samples))
        columns = {
            "position": pc.add(of_row, self.rows),
            "custom_id": rows["custom_id"],
            "fate": rows["fate"],
        }
        metadata = None
        if labels is not None:
            metadata = labels.schema.metadata
            named = labels.take(of_row) if self._samples > 1 else labels
            columns |= {name: named[name] for name in labels.schema.names}
        table = pa.table(columns).replace_schema_metadata(metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self.rows += count
