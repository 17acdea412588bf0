"""Answers that earlier jobs have: found by id, and copied, so that nothing is asked and paid twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .keyset import KeySet, keys_of
from .part_results import write_results
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
    if not len(ids):
        return
    found = []
    for file in _files(store, job_ids):
        for batch in pq.ParquetFile(file).iter_batches():
            wanted = pc.and_(
                pc.is_in(batch["custom_id"], value_set=ids), pc.equal(batch["status"], "succeeded")
            )
            found.append(batch.filter(wanted))
    table = pa.Table.from_batches(found)
    # Several jobs may have an answer; the first is that of the newest one.
    numbered = table.append_column("row", pa.array(np.arange(len(table))))
    first = numbered.group_by("custom_id").aggregate([("row", "min")])["row_min"]
    write_results([table.take(first)], target)


def _files(store: Store, job_ids: list[str]) -> list[Path]:
    return [file for job_id in job_ids for file in store.folder(job_id).result_files()]
