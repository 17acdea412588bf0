"""Answers that earlier jobs have: found by id, and copied, so that nothing is asked and paid twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.arrow.keyset import Keys, KeySet, keys_of
from dobatch_pandas.endpoints.answer import true

from .result_files import write_results
from .store import Store

__all__ = ["answered_keys", "copy_answers"]


def answered_keys(store: Store, job_ids: list[str]) -> KeySet:
    """Return the keys of all requests that these jobs have an answer for."""
    keys = KeySet()
    for file in _files(store, job_ids):
        table = pq.read_table(file, columns=["custom_id", "status"])
        ids = table["custom_id"].filter(pc.equal(table["status"], "succeeded"))
        keys.add_new(keys_of(ids.combine_chunks()))
    return keys


def copy_answers(store: Store, job_ids: list[str], ids: pa.Array, target: Path) -> None:
    """Write the answers of some ids into a job's own folder: forgetting the other job must not lose them."""
    if len(ids):
        write_results(_answers(_files(store, job_ids), keys_of(ids)), target)


def _answers(files: list[Path], keys: Keys) -> Iterator[pa.Table]:
    """Yield the answers that have one of these keys, piece by piece; of several the one in the first file."""
    wanted, found = KeySet(), KeySet()
    wanted.add_new(keys)
    for file in files:
        # Most files of other jobs have nothing that is wanted: their texts are not read.
        table = pq.read_table(file, columns=["custom_id", "status"])
        theirs = keys_of(table["custom_id"].combine_chunks())
        rows = np.flatnonzero(wanted.contains(theirs) & true(pc.equal(table["status"], "succeeded")))
        rows = rows[found.add_new(theirs[rows])]
        start = 0
        for batch in pq.ParquetFile(file).iter_batches() if len(rows) else ():
            here = rows[(rows >= start) & (rows < start + len(batch))] - start
            start += len(batch)
            if len(here):
                yield pa.Table.from_batches([batch.take(pa.array(here))])


def _files(store: Store, job_ids: list[str]) -> list[Path]:
    return [file for job_id in job_ids for file in store.folder(job_id).result_files()]
