"""
Where the answers to files larger than memory go: written in pieces.

Memory is bounded by 8 bytes a request, for finding repeats and later for finding answers, the results of two
parts and a few record batches. The rows themselves are never held.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns
from dobatch_pandas.arrow.keyset import Keys, keys_of
from dobatch_pandas.endpoints import ENDPOINT_AT
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.source import ROWS_AT_ONCE, located

from .folder import JobFolder, JobRecord
from .home import JobRow
from .input import source_of
from .result_files import STORED

__all__ = ["output_problems", "write_output"]

VECTOR = pa.list_(pa.float32())
ROWS_A_FILE = 1_000_000
PARTS_IN_MEMORY = 2


def output_problems(target: str, folders: Iterable[str], jobs: Iterable[JobRow]) -> list[str]:
    """
    Say why a new job cannot write to a folder.

    Parameters
    ----------
    target : str
        The folder.
    folders : iterable of str
        All of whose files are the source.
    jobs : iterable of JobRow
        The other jobs.
    """
    problems = [
        f"output {target} lies in the source's folder {folder}: its files would be taken for rows the next time."
        for folder in folders
        if f"{target}/".startswith(f"{folder.rstrip('/')}/")
    ]
    filesystem, directory = located(target)
    found = filesystem.get_file_info(directory)
    if found.is_file:
        problems.append(f"output {target} is a file; it takes a folder.")
    elif found.type == pafs.FileType.Directory:
        inside = [info.base_name for info in filesystem.get_file_info(pafs.FileSelector(directory))]
        inside = sorted(name for name in inside if not name.startswith("."))
        if inside:
            more = f" and {len(inside) - 1:,} more" if len(inside) > 1 else ""
            problems.append(
                f"The output folder {target} is not empty ({inside[0]}{more}): name a new one, or empty it first."
            )
    return problems + [
        f"Job {job.id}, which is not over, writes to {target}: name another folder, or cancel it."
        for job in jobs
        if job.ended is None and job.output == target
    ]


class AnswerFinder:
    """
    Finds answers by custom_id in result files that are too large to be held together.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Result files. A request has one success at most; of its failures the last one counts.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._good: list[Keys] = []
        self._bad: list[Keys] = []
        for file in self.files:
            table = pq.read_table(file, columns=["custom_id", "status"], use_threads=False)
            ids, good = table["custom_id"].combine_chunks(), pc.equal(table["status"], "succeeded")
            self._good.append(np.sort(keys_of(ids.filter(good.combine_chunks()))))
            self._bad.append(np.sort(keys_of(ids.filter(pc.invert(good).combine_chunks()))))
        self._last = 0
        self._open: OrderedDict[int, pa.Table] = OrderedDict()

    def of(self, ids: pa.Array) -> pa.Table:
        """Return the results of some ids, in any order, those without a result left out."""
        if not self.files:
            return STORED.empty_table().select(ANSWER_COLUMNS)
        owners = self._owners(keys_of(ids))
        tables = [self._part(self._last).slice(0, 0)]
        for number in np.unique(owners[owners >= 0]):
            wanted = ids.filter(pa.array(owners == number)).unique()
            table = self._part(int(number))
            tables.append(table.filter(pc.is_in(table["custom_id"], value_set=wanted)))
        return pa.concat_tables(tables)

    def _owners(self, keys: Keys) -> Any:
        """Which file has each key's result; -1 where none has."""
        owners = np.full(len(keys), -1)
        # Rows were rendered in this order, so that most of them are where the last ones were, or next to it.
        numbers = sorted(range(len(self.files)), key=lambda number: abs(number - self._last))
        for runs, order in ((self._good, numbers), (self._bad, range(len(self.files) - 1, -1, -1))):
            for number in order:
                left = np.flatnonzero(owners < 0)
                if not len(left):
                    break
                run = runs[number]
                place = np.searchsorted(run, keys[left])
                place[place == len(run)] = 0
                hit = run[place] == keys[left] if len(run) else np.zeros(len(left), bool)
                owners[left[hit]] = number
        self._last = int(owners[-1]) if len(owners) and owners[-1] >= 0 else self._last
        return owners

    def _part(self, number: int) -> pa.Table:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = pq.read_table(self.files[number], columns=ANSWER_COLUMNS, use_threads=False)
            if len(self._open) > PARTS_IN_MEMORY:
                self._open.popitem(last=False)
                pa.default_memory_pool().release_unused()
        return self._open[number]


def write_output(job: JobRecord, recipe: Recipe, folder: JobFolder) -> None:
    """
    Write the source's columns with the answers beside them, as a Parquet dataset.

    Files appear whole, ``part-00000.parquet`` and on; writing again gives the same ones.
    """
    source = source_of(job, recipe)
    answers = AnswerFinder(folder.result_files())
    output = _Output(json.loads(job.source or "{}")["output"], vectors=ENDPOINT_AT[recipe.endpoint].vectors)
    with pq.ParquetFile(folder.manifest) as manifest:
        asked = _Blocks(manifest)
        for batch in source.batches():
            rows = asked.take(batch.num_rows * recipe.samples)
            columns = answer_columns(
                rows["custom_id"],
                rows["fate"],
                answers.of(rows["custom_id"].combine_chunks()),
                into=recipe.into,
                samples=recipe.samples,
                json_schema=recipe.schema,
                flatten=recipe.flatten,
                index=pd.RangeIndex(batch.num_rows),
            )
            output.write(batch, pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False))
    output.close()


class _Blocks:
    """Rows of a Parquet file in order, as many at a time as are asked for."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._batches = file.iter_batches(batch_size=ROWS_AT_ONCE, columns=["custom_id", "fate"])
        self._rest: pa.Table | None = None

    def take(self, rows: int) -> pa.Table:
        held = [self._rest] if self._rest is not None else []
        while sum(map(len, held)) < rows:
            held.append(pa.Table.from_batches([next(self._batches)]))
        table = pa.concat_tables(held)
        self._rest = table.slice(rows)
        return table.slice(0, rows)


class _Output:
    """A directory of Parquet files, each written beside its place and moved there when it is whole."""

    def __init__(self, target: str, vectors: bool) -> None:
        self._filesystem, self._directory = located(target)
        self._vectors = vectors
        self._filesystem.create_dir(self._directory, recursive=True)
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._number = 0
        self._rows = 0

    def write(self, batch: pa.RecordBatch, answers: pa.Table) -> None:
        table = pa.Table.from_batches([batch])
        for name in answers.schema.names:
            column = answers[name]
            # A file wants one type throughout. Categories differ from piece to piece, and a piece without any
            # answer does not know the length of the vectors.
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
            elif self._vectors and not name.endswith("_error"):
                none = column.null_count == len(column)
                column = pa.nulls(len(column), VECTOR) if none else column.cast(VECTOR)
            at = table.schema.get_field_index(name)
            table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
        if self._schema is None:
            self._schema = table.schema
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._partial, self._schema, filesystem=self._filesystem, compression="zstd"
            )
        self._writer.write_table(table.cast(self._schema))
        self._rows += len(table)
        if self._rows >= ROWS_A_FILE:
            self._finish()

    @property
    def _partial(self) -> str:
        return f"{self._directory}/.part-{self._number:05}.parquet.partial"

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._filesystem.move(self._partial, f"{self._directory}/part-{self._number:05}.parquet")
            self._writer, self._rows = None, 0
            self._number += 1

    def close(self) -> None:
        self._finish()
