"""
What a job asks of: a frame as it was at the moment of submit, or files; checked, hashed and read back.

A frame is frozen to disk; files are larger than memory, so that what is on disk of them is their versions.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.arrow.columns import WORKERS
from dobatch_pandas.arrow.keyset import KeySet
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.errors import InputError, Problem
from dobatch_pandas.questions.freeze import freeze, freeze_batches
from dobatch_pandas.questions.problems import NO_ROWS, IdFaults, frame_problems
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.source import Source

from .append import Append, kept, read_new
from .folder import JobFolder, JobRecord, written_whole
from .rows import LABEL, RowRecord, index_of, labels_of

__all__ = [
    "as_json",
    "check_source",
    "fingerprint",
    "frozen_in",
    "read_input",
    "read_labels",
    "record_of_source",
    "rows_of_source",
    "write_input",
]

ROWS_AT_ONCE = 16_384


def write_input(frame: pd.DataFrame, recipe: Recipe, target: Path, salt: str) -> tuple[str, RowRecord]:
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
    fingerprint : str
        Hex digits; the same for the same question over the same values in the same order.
    rows : RowRecord
        By which the frame's rows are known again.

    Raises
    ------
    InputError
        Some rows cannot be turned into requests; all of them are named.
    """
    read: set[Hashable] = set()
    with written_whole(target) as partial:
        pieces = _written(freeze(recipe, frame, read), labels_of(frame.index), partial)
        asked = fingerprint(recipe, salt, pieces)
    return asked, RowRecord.of(frame, recipe, read)


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
        raise AssertionError("an empty frame never gets here: `frame_problems` refuses it")
    writer.close()


def frozen_in(folder: JobFolder) -> Iterator[pa.RecordBatch]:
    """Yield what of a frame is rendered, in pieces, without its labels."""
    # What is buffered ahead is held until the file is closed.
    with pq.ParquetFile(folder.input, pre_buffer=False) as file:
        mine = [name for name in file.schema_arrow.names if not name.startswith(LABEL)]
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=mine)


def read_input(
    folder: JobFolder, job: JobRecord, recipe: Recipe
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
    """
    Yield a job's input in pieces: what is rendered, and the index labels of the same rows.

    The rows of a dataset have no labels but their position.
    """
    if job.source is not None:
        for frozen in freeze_batches(recipe, rows_of_source(folder, job, recipe, recipe.columns)):
            yield frozen, None
        return
    with pq.ParquetFile(folder.input, pre_buffer=False) as file:
        names = file.schema_arrow.names
        mine = [name for name in names if not name.startswith(LABEL)]
        labels = [name for name in names if name.startswith(LABEL)]
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield batch.select(mine), batch.select(labels)


def read_labels(folder: JobFolder, job: JobRecord) -> pd.Index:
    """Return the index of a job's rows before they are all rendered."""
    if job.source is not None:
        return pd.RangeIndex(job.rows)
    with pq.ParquetFile(folder.input) as file:
        labels = [name for name in file.schema_arrow.names if name.startswith(LABEL)]
        return index_of(file.read(columns=labels))


SIZE = 16  # bytes


def as_json(value: Any) -> str:
    """Text for a nested value, its keys in the order in which they stand: the order of a schema's fields is asked."""
    return json.dumps(value, ensure_ascii=False)


def fingerprint(recipe: Recipe, salt: str, pieces: Iterable[pa.RecordBatch]) -> str:
    """
    Return hex digits that are the same for the same question over the same values in the same order.

    Parameters
    ----------
    recipe : Recipe
    salt : str
        What else makes this question another one: the address of the service.
    pieces : iterable of pyarrow.RecordBatch
        The values, as `freeze` cuts them. Each is hashed by itself, while the next one is made.
    """
    every = blake2b(salt.encode(), digest_size=SIZE)
    every.update(as_json(recipe.to_json()).encode())
    pending: deque[Future[bytes]] = deque()
    with Threads(WORKERS, "dobatch-hash") as pool:
        for piece in pieces:
            pending.append(pool.submit(_hashed, piece))
            if len(pending) > WORKERS:
                every.update(pending.popleft().result())
        for digest in pending:
            every.update(digest.result())
    return every.hexdigest()


def _hashed(piece: pa.RecordBatch) -> bytes:
    # The bytes of the columns alone: an Arrow message holds neither padding of slices nor addresses.
    return blake2b(piece.serialize(), digest_size=SIZE).digest()


def check_source(source: Source, recipe: Recipe, salt: str, folder: Path) -> tuple[str, int]:
    """
    Look at every row once, and return the fingerprint of what is asked and the number of rows.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    salt : str
        As for `fingerprint`.
    folder : pathlib.Path
        Where there is room for what is not held in memory; nothing is left there.

    Raises
    ------
    InputError
        With every problem found in the whole source, rows named by their position.
    """
    nothing = source.schema.empty_table().to_pandas()
    problems: list[Problem | str] = [p for p in frame_problems(recipe, nothing) if p.message != NO_ROWS]
    for name in recipe.columns:
        if name in source.schema.names and (files := source.lacking(name)):
            more = f" and {len(files) - 5:,} more" if len(files) > 5 else ""
            problems.append(f"There is no column {name!r} in {', '.join(files[:5])}{more}.")
    if problems:
        raise InputError(problems)
    ids = IdFaults(recipe, KeySet(folder))
    rows = 0

    def looked_at() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        # What is not asked must be readable all the same: it is written beside the answers.
        for batch in source.batches(recipe.columns if source.uniform else None):
            if recipe.custom_id is not None:
                labels = pd.RangeIndex(rows, rows + len(batch))
                ids.look(batch[recipe.custom_id].to_pandas().set_axis(labels))
            rows += batch.num_rows
            yield batch.select(recipe.columns)

    asked = ""
    try:
        asked = fingerprint(recipe, salt, freeze_batches(recipe, looked_at()))
    except InputError as error:
        problems += error.problems
    problems += ids.problems()
    if not rows:
        problems.append("The source has no rows.")
    if problems:
        raise InputError(problems)
    return asked, rows


def record_of_source(source: Source, target: str, append: Append | None) -> str:
    """Return what the ledger keeps of a source and of where the answers go; with `append`, beside what lies there."""
    added = {} if append is None else {"added": {"rows": len(append.new), "first": append.first}}
    return as_json({**source.to_json(), "versions": source.versions(), "output": target, **added})


def rows_of_source(
    folder: JobFolder, job: JobRecord, recipe: Recipe, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Return the rows of a job's source, those that it asks, as they were when it was submitted."""
    batches = _source_of(folder, job, recipe).batches(columns)
    added = json.loads(job.source or "{}").get("added")
    return batches if added is None else kept(batches, read_new(folder, added["rows"]))


def _source_of(folder: JobFolder, job: JobRecord, recipe: Recipe) -> Source:
    """
    Return a job's source, as it was when the job was submitted.

    Raises
    ------
    InputError
        Its files say something else now.
    """
    kept = json.loads(job.source or "{}")
    source = Source.from_json(kept)
    if source.versions() != kept["versions"]:
        # A file that was copied or touched may say the same as ever.
        salt = f"{job.base_url} {job.account} {kept['output']}"
        fingerprint, _ = check_source(source, recipe, salt, folder.root)
        if fingerprint != job.fingerprint:
            raise InputError(
                "The source's files have changed since the job was submitted: put them back as they were. "
                "job.responses() has the answers in any case."
            )
    return source
