"""
Files larger than memory: read, asked and answered in pieces.

Memory is bounded by 8 bytes a request, for finding repeats and later for finding answers, the results of two
parts and a few record batches. The rows themselves are never held.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from .errors import InputError
from .join import answer_columns
from .keyset import Keys, keys_of
from .part_results import STORED
from .recipe import Recipe
from .store import JobFolder, JobRecord, as_json

__all__ = ["Source", "write_output"]

ROWS_AT_ONCE = 16_384
ROWS_A_FILE = 1_000_000
PARTS_IN_MEMORY = 2
ANSWER_COLUMNS = ["custom_id", "status", "text", "finish_reason", "error_code", "error_message", "embedding"]


class Source:
    """
    Files that are asked row by row.

    Parameters
    ----------
    paths : sequence of str
        Local paths or what pyarrow takes as a URI (``s3://`` ...), in the order of the rows.
    format : str
        ``"parquet"`` or ``"csv"``.
    """

    def __init__(self, paths: Sequence[str], format: str) -> None:
        self.paths, self.format = list(paths), format

    @classmethod
    def find(cls, source: Any) -> Source:
        """
        Find the files that a path, a glob, several of them or a pyarrow Dataset stand for.

        Raises
        ------
        InputError
            There is no such file, or its format is not known by its name.
        """
        if isinstance(source, ds.FileSystemDataset):
            if not isinstance(source.filesystem, pafs.LocalFileSystem):
                raise InputError(
                    "Give a dataset on remote storage as its URI, so that the job can be resumed."
                )
            return cls(source.files, source.format.default_extname)
        if isinstance(source, ds.Dataset):
            raise InputError(
                "This dataset lives in memory only: use df.dobatch.submit, or write it to files first."
            )
        given = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        paths = [path for one in given for path in _expand(os.fspath(one))]
        if not paths:
            raise InputError(f"No file matches {source!r}.")
        formats = {_format(path) for path in paths}
        if len(formats) > 1 or None in formats:
            raise InputError(
                f"The files' names must all end in .parquet or all in .csv; these are {sorted(set(map(str, formats)))}."
            )
        return cls(paths, str(formats.pop()))

    def to_json(self) -> dict[str, Any]:
        return {"paths": self.paths, "format": self.format}

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types, as the first file has them."""
        return next(self._readers(None)).schema

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, some thousands at a time, and no more than that in memory."""
        for reader in self._readers(columns):
            for batch in reader:
                if batch.num_rows:
                    yield batch

    def _readers(self, columns: list[str] | None) -> Iterator[_Reader]:
        for path in self.paths:
            filesystem, inner = _located(path)
            if self.format == "parquet":
                with pq.ParquetFile(filesystem.open_input_file(inner), pre_buffer=False) as file:
                    yield _Reader(file.schema_arrow, file.iter_batches(ROWS_AT_ONCE, columns=columns))
            else:
                options = csv.ConvertOptions(include_columns=columns or [])
                with csv.open_csv(filesystem.open_input_stream(inner), convert_options=options) as file:
                    yield _Reader(file.schema, file)


class _Reader:
    """One open file: its schema, and its rows in pieces."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self.schema, self._batches = schema, batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._batches)


def _located(path: str) -> tuple[pafs.FileSystem, str]:
    """Find the file system of a path, and the path within it."""
    if "://" in path:
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    return pafs.LocalFileSystem(), os.path.abspath(path)


def _expand(path: str) -> list[str]:
    if "://" in path:
        filesystem, inner = pafs.FileSystem.from_uri(path)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.Directory:
            scheme = path.split("://", 1)[0]
            listing = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True))
            return sorted(f"{scheme}://{i.path}" for i in listing if i.is_file and _format(i.path))
        return [path] if info.is_file else []
    if os.path.isdir(path):
        found = glob.glob(os.path.join(path, "**", "*"), recursive=True)
        return sorted(os.path.abspath(name) for name in found if os.path.isfile(name) and _format(name))
    return sorted(os.path.abspath(name) for name in glob.glob(path))


def _format(path: str) -> str | None:
    name = path.lower()
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    return "csv" if name.endswith((".csv", ".csv.gz")) else None


def check_source(source: Source, recipe: Recipe, salt: str) -> tuple[str, int]:
    """
    Look at every row once, and return the fingerprint of what is asked and the number of rows.

    Raises
    ------
    InputError
        With every problem found in the whole source, rows named by their position.
    """
    schema = source.schema
    if any(name not in schema.names for name in recipe.columns):
        empty = schema.empty_table().to_pandas()
        raise InputError(recipe.check(empty))
    digest = hashlib.blake2b(salt.encode(), digest_size=16)
    digest.update(as_json(recipe.to_json()).encode())
    rows = 0
    problems: list[Any] = []
    for batch in source.batches(recipe.columns):
        try:
            digest.update(recipe.freeze_batch(batch, first=rows).serialize())
        except InputError as error:
            problems += error.problems
        rows += batch.num_rows
    if not rows:
        problems.append("The source has no rows.")
    if problems:
        raise InputError(problems)
    return digest.hexdigest(), rows


class Answers:
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
    spec = json.loads(job.source or "{}")
    source = Source(spec["paths"], spec["format"])
    answers = Answers(folder.result_files())
    output = _Output(spec["output"])
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

    def __init__(self, target: str) -> None:
        self._filesystem, self._directory = _located(target)
        self._filesystem.create_dir(self._directory, recursive=True)
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._number = 0
        self._rows = 0

    def write(self, batch: pa.RecordBatch, answers: pa.Table) -> None:
        table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
        for name in answers.schema.names:
            column = answers[name]
            # Categories differ from piece to piece; a file wants one type throughout.
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
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
