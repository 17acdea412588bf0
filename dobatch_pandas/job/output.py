"""
Where the answers to files larger than memory go: written in pieces.

Neither rows nor answers are ever held together. What is needed to find them, 8 bytes a request, lies on disk and is mapped
into memory, and so are answers that are looked for again, far from where they were first.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns
from dobatch_pandas.arrow.keyset import Keys, keys_of, let_go, mapped
from dobatch_pandas.endpoints import ENDPOINT_AT
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.source import ROWS_AT_ONCE, Source, located, names_in

from .append import earlier_output
from .claim import give_up
from .folder import JobFolder, JobRecord
from .home import JobRow
from .input import rows_of_source
from .result_files import STORED, Answers

__all__ = ["output_problems", "output_schema", "write_output"]

VECTOR = pa.list_(pa.float32())
ROWS_A_FILE = 1_000_000
PIECES_IN_MEMORY = 3


def output_problems(
    target: str, folders: Iterable[str], jobs: Iterable[JobRow], *, append: bool = False
) -> list[str]:
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
    append : bool
        Whether it may hold what earlier jobs have written.
    """
    problems = [
        f"output {target} lies in the source's folder {folder}: its files would be taken for rows the next time."
        for folder in folders
        if f"{target}/".startswith(f"{folder.rstrip('/')}/")
    ]
    filesystem, directory = located(target)
    if filesystem.get_file_info(directory).is_file:
        problems.append(f"output {target} is a file; it takes a folder.")
    inside = [name for name in names_in(target) if not name.startswith(".")]
    if append:
        inside = [name for name in inside if not name.endswith(".parquet")]
    if inside:
        more = f" and {len(inside) - 1:,} more" if len(inside) > 1 else ""
        problems.append(
            f"The output folder {target} holds what no job has written ({inside[0]}{more}): name another one."
            if append
            else f"The output folder {target} is not empty ({inside[0]}{more}): name a new one, empty it first, or add "
            'to what is there with mode="append".'
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
    folder : pathlib.Path
        Where there is room for what is not held in memory; nothing is left there.
    """

    def __init__(self, files: Sequence[Path], folder: Path) -> None:
        self._pieces: list[tuple[Path, int]] = []  # each a row group of a file
        ends = [0]

        def keys() -> Iterator[Keys]:
            for number, file in enumerate(files):
                with pq.ParquetFile(file) as parquet:
                    for group in range(parquet.num_row_groups):
                        table = parquet.read_row_group(group, ["custom_id", "status"], use_threads=False)
                        good = pc.equal(table["status"], "succeeded")
                        for which in (good, pc.invert(good)):
                            found = np.sort(keys_of(table["custom_id"].filter(which).combine_chunks()))
                            ends.append(ends[-1] + len(found))
                            yield found
                        self._pieces.append((files[number], group))

        self._keys = mapped(keys(), folder)
        runs = [self._keys[start:end] for start, end in pairwise(ends)]
        self._good, self._bad = runs[::2], runs[1::2]
        self._last = 0
        self._held: OrderedDict[int, Answers] = OrderedDict()
        self._spilled = _Spilled(folder)
        self._read: set[int] = set()

    def of(self, ids: pa.Array) -> pa.Table:
        """Return the results of some ids, in any order, those without a result left out."""
        keys = np.unique(keys_of(ids.drop_null()))
        owners = self._owners(keys)
        pieces = np.unique(owners[owners >= 0]).tolist()
        found = [self._piece(number).of_these(keys[owners == number]) for number in pieces]
        return pa.concat_tables([STORED.empty_table().select(ANSWER_COLUMNS), *found])

    def _owners(self, keys: Keys) -> Any:
        """Which piece has each key's result; -1 where none has."""
        owners = np.full(len(keys), -1)
        # Rows were rendered in this order, so that most of them are where the last ones were, or next to it.
        numbers = sorted(range(len(self._pieces)), key=lambda number: abs(number - self._last))
        for runs, order in ((self._good, numbers), (self._bad, range(len(self._pieces) - 1, -1, -1))):
            for number in order:
                left = np.flatnonzero(owners < 0)
                if not len(left):
                    break
                run = runs[number]
                place = np.searchsorted(run, keys[left])
                place[place == len(run)] = 0
                hit = run[place] == keys[left] if len(run) else np.zeros(len(left), bool)
                owners[left[hit]] = number
        let_go(self._keys)
        self._last = int(np.bincount(owners[owners >= 0]).argmax()) if (owners >= 0).any() else self._last
        return owners

    def _piece(self, number: int) -> Answers:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        if number in self._spilled:
            return self._spilled[number]
        path, group = self._pieces[number]
        with pq.ParquetFile(path) as file:
            answers = Answers.of(file.read_row_group(group, ANSWER_COLUMNS, use_threads=False))
        if number in self._read:
            # Rows equal to this one's are everywhere: to read it again each time would take all day.
            self._spilled[number] = answers
            return answers
        self._read.add(number)
        self._held[number] = answers
        if len(self._held) > PIECES_IN_MEMORY:
            self._held.popitem(last=False)
            pa.default_memory_pool().release_unused()
        return answers


class _Spilled:
    """Answers in a file without a name: each piece is mapped into memory when it is looked at, and let go after."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed with this object
        self._places: dict[int, tuple[int, int]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __setitem__(self, number: int, answers: Answers) -> None:
        table = answers.table.append_column("key", pa.array(answers.keys)).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        start = -(-self._file.seek(0, os.SEEK_END) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        self._file.write(sink.getvalue())
        self._file.flush()
        self._places[number] = (start, self._file.tell() - start)

    def __getitem__(self, number: int) -> Answers:
        start, size = self._places[number]
        here = mmap.mmap(self._file.fileno(), size, offset=start, access=mmap.ACCESS_READ)
        table = pa.ipc.open_stream(pa.py_buffer(here)).read_all()
        return Answers(table["key"].to_numpy(), table.select(ANSWER_COLUMNS))


def write_output(job: JobRecord, recipe: Recipe, folder: JobFolder) -> None:
    """
    Write the source's columns with the answers beside them, as a Parquet dataset.

    Files appear whole, ``part-00000.parquet`` and on; writing again gives the same ones. Those that are added to what lies
    there go on counting, and have the job in their name: no other job's is ever replaced.
    """
    known = json.loads(job.source or "{}")
    rows = rows_of_source(folder, job, recipe)
    answers = AnswerFinder(folder.result_files(), folder.root)
    output = _Output(known["output"], vectors=_vectors(recipe))
    if "added" in known:
        there = earlier_output(known["output"])
        output.go_on(known["added"]["first"], f"-{job.id}", None if there is None else there.schema)
    with closing(_Blocks(folder.manifest)) as asked:
        for batch in rows:
            mine = asked.take(batch.num_rows * recipe.samples)
            columns = answer_columns(
                mine["custom_id"],
                mine["fate"],
                answers.of(mine["custom_id"].combine_chunks()),
                **recipe.answer_options,
                index=pd.RangeIndex(batch.num_rows),
            )
            output.write(batch, pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False))
    output.close()
    give_up(known["output"], job.id)


def output_schema(source: Source, recipe: Recipe) -> pa.Schema:
    """Return the columns of an output; the type of one that only answers tell is null."""
    columns = answer_columns(
        pa.array([], pa.string()),
        None,
        STORED.empty_table(),
        **recipe.answer_options,
        index=pd.RangeIndex(0),
    )
    answers = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    return _beside(source.schema.empty_table(), answers, _vectors(recipe)).schema


def _vectors(recipe: Recipe) -> bool:
    return ENDPOINT_AT[recipe.endpoint].vectors


def _beside(table: pa.Table, answers: pa.Table, vectors: bool) -> pa.Table:
    """Return rows with their answers, each column of the type that it has in every file."""
    for name in answers.schema.names:
        column = answers[name]
        # A file wants one type throughout. Categories differ from piece to piece, and a piece without any
        # answer does not know the length of the vectors.
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        elif vectors and not name.endswith("_error"):
            none = column.null_count == len(column)
            column = pa.nulls(len(column), VECTOR) if none else column.cast(VECTOR)
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


class _Blocks:
    """What the rows of a manifest ask, in order, as many at a time as are asked for."""

    def __init__(self, manifest: Path) -> None:
        # What is buffered ahead is held until the file is closed: 25 bytes a row.
        self._file = pq.ParquetFile(manifest, pre_buffer=False)
        self._batches = self._file.iter_batches(batch_size=ROWS_AT_ONCE, columns=["custom_id", "fate"])
        self._rest: pa.Table | None = None

    def close(self) -> None:
        self._file.close()

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
        self._number, self._tag = 0, ""
        self._rows = 0

    def go_on(self, number: int, tag: str, schema: pa.Schema | None) -> None:
        """Add to files that are there: from a number on, with a tag behind it, and with their columns."""
        self._number, self._tag, self._schema = number, tag, schema

    def write(self, batch: pa.RecordBatch, answers: pa.Table) -> None:
        table = _beside(pa.Table.from_batches([batch]), answers, self._vectors)
        if self._schema is None:
            self._schema = table.schema
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._partial, self._schema, filesystem=self._filesystem, compression="zstd"
            )
        self._writer.write_table(table.select(self._schema.names).cast(self._schema))
        self._rows += len(table)
        if self._rows >= ROWS_A_FILE:
            self._finish()

    @property
    def _name(self) -> str:
        return f"part-{self._number:05}{self._tag}.parquet"

    @property
    def _partial(self) -> str:
        return f"{self._directory}/.{self._name}.partial"

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._filesystem.move(self._partial, f"{self._directory}/{self._name}")
            self._writer, self._rows = None, 0
            self._number += 1

    def close(self) -> None:
        self._finish()
