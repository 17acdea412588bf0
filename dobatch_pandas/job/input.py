"""A frame's input as it was at the moment of submit: frozen to disk, and read back while it is rendered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.questions.recipe import Recipe

from .fingerprint import fingerprint
from .output import source_of
from .store import JobRecord, Store, as_json, whole

__all__ = ["fingerprint_of", "index_of", "labels_of", "read_input", "write_input"]

LABEL = "index_"  # prefix of the columns that hold index levels
ROWS_AT_ONCE = 16_384


def labels_of(index: pd.Index) -> pa.Table:
    """
    Turn an index into Arrow columns ``index_0``, ``index_1`` ..., one a level.

    A level whose labels Arrow cannot hold (mixed types, say) is kept as the text of their ``repr``.
    """
    frame = index.to_frame(index=False)
    frame.columns = pd.Index([f"{LABEL}{number}" for number in range(frame.shape[1])])
    names = [None if name is None else str(name) for name in index.names]
    for name in frame:
        try:
            pa.array(frame[name])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            frame[name] = frame[name].map(repr)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"index_names": as_json(names).encode()}
    )


def index_of(labels: pa.Table) -> pd.Index:
    """Turn the columns that `labels_of` made back into an index."""
    metadata = labels.schema.metadata or {}
    columns = [name for name in labels.schema.names if name.startswith(LABEL)]
    frame = labels.select(columns).to_pandas()
    names = json.loads(metadata[b"index_names"]) if b"index_names" in metadata else [None] * len(columns)
    if not columns:
        return pd.RangeIndex(len(labels))
    if len(columns) == 1:
        index: pd.Index = pd.Index(frame[columns[0]]).rename(names[0])
        return index
    return pd.MultiIndex.from_frame(frame, names=names)


def write_input(frame: pd.DataFrame, recipe: Recipe, target: Path, salt: str) -> str:
    """
    Freeze what a recipe needs of a frame into one file, and return a fingerprint of all that is asked.

    Everything that can be wrong with the values is found here, before the file appears.

    Parameters
    ----------
    frame : pandas.DataFrame
    recipe : Recipe
    target : pathlib.Path
        Parquet file to write.
    salt : str
        What else makes this question another one: the address of the service.

    Returns
    -------
    str
        Hex digits; the same for the same question over the same values in the same order.

    Raises
    ------
    InputError
        Some rows cannot be turned into requests; all of them are named.
    """
    with whole(target) as partial:
        return fingerprint(recipe, salt, _written(recipe.freeze(frame), labels_of(frame.index), partial))


def _written(pieces: Iterable[pa.RecordBatch], labels: pa.Table, target: Path) -> Iterator[pa.RecordBatch]:
    """The pieces, each written beside its labels on the way."""
    writer: pq.ParquetWriter | None = None
    position = 0
    for frozen in pieces:
        yield frozen
        part = labels.slice(position, frozen.num_rows)
        table = pa.table(
            dict(
                zip(frozen.schema.names + labels.schema.names, [*frozen.columns, *part.columns], strict=True)
            )
        ).replace_schema_metadata(labels.schema.metadata)
        if writer is None:
            writer = pq.ParquetWriter(target, table.schema, compression="lz4", use_dictionary=False)
        writer.write_table(table)
        position += frozen.num_rows
    if writer is None:
        raise AssertionError("an empty frame never gets here: Recipe.check refuses it")
    writer.close()


def fingerprint_of(frame: pd.DataFrame, recipe: Recipe, salt: str, lenient: Recipe) -> str:
    """
    Return what `write_input` would, without writing; `lenient` freezes rows that `recipe` would refuse.
    """
    return fingerprint(recipe, salt, lenient.freeze(frame))


def read_input(
    store: Store, job: JobRecord, recipe: Recipe
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
    """
    Yield a job's input in pieces: what is rendered, and the index labels of the same rows.

    The rows of a dataset have no labels but their position.
    """
    if job.source is not None:
        for frozen in recipe.freeze_batches(source_of(job, recipe).batches(recipe.columns)):
            yield frozen, None
        return
    with pq.ParquetFile(store.folder(job.id).input) as file:
        names = file.schema_arrow.names
        mine = [name for name in names if not name.startswith(LABEL)]
        labels = [name for name in names if name.startswith(LABEL)]
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield batch.select(mine), batch.select(labels)
