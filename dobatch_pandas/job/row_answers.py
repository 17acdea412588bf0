"""What one job asked and was answered, found on disk and brought to the rows of a frame."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns, response_columns
from dobatch_pandas.answers.result_lines import merge_results
from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.codes import EXPLANATIONS, Fate
from dobatch_pandas.errors import outside
from dobatch_pandas.questions.freeze import freeze, id_texts
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import ids_of

from .folder import UNREADABLE, JobFolder, JobRecord, read_table
from .input import fingerprint, read_labels
from .machine import Part, State, why_missing
from .result_files import TOKENS, Tally, failed_results, read_part_into
from .rows import RowRecord, index_of, lacking

__all__ = ["Arrivals", "Early", "JobAnswers", "read_results_of"]

Tables = dict[tuple[Path, int, int], pa.Table]
"""Results that were read, by the file as it was then: its path, inode and time."""


def read_results_of(folder: JobFolder, recipe: Recipe, part: Part, code: str, message: str) -> Tally:
    """Write a result for each request of a part, from whatever files of its batch are there."""
    files = [path for path in (folder.output(part.number), folder.error(part.number)) if path.exists()]
    return read_part_into(
        folder.result(part.number),
        files if part.batch_id is not None or part.live else [],
        folder.part_ids(part.number),
        recipe,
        batch_id=part.batch_id,
        missing_code=code,
        missing_message=message,
    )


class Early:
    """
    What a join of one frame has found out before the job is over: it would only take longer afterwards.

    Parameters
    ----------
    frame : pandas.DataFrame

    Attributes
    ----------
    same : bool or None
        Whether its rows are those that were submitted; None while nobody has looked.
    tables : Tables
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.same: bool | None = None
        self.tables: Tables = {}

    def look(self, answers: JobAnswers) -> None:
        """Find out what can be known by now."""
        if self.same is None:
            self.same = answers.is_of(self._frame)
        answers.read(ANSWER_COLUMNS, self.tables)


class JobAnswers:
    """
    The answers of one job as far as they are there; what is still awaited has the code ``pending``.

    Parameters
    ----------
    folder : JobFolder
    record : JobRecord
    recipe : Recipe
    state : State
    rows : RowRecord, optional
        The rows of the frame that this job was submitted for; by default those on disk.
    """

    def __init__(
        self,
        folder: JobFolder,
        record: JobRecord,
        recipe: Recipe,
        state: State,
        rows: RowRecord | None = None,
    ) -> None:
        self._folder, self._record, self._recipe, self._state = folder, record, recipe, state
        self._known = rows

    def any(self) -> bool:
        """Whether there is any answer at all."""
        return bool(self._state.reused) or any(part.completed for part in self._state.parts.values())

    def of_rows(self) -> pd.DataFrame:
        """Return the answer columns, one row a row of the submitted frame, on its index."""
        ids, fates, index = self._asked()
        results = self._table(ANSWER_COLUMNS)
        columns = answer_columns(ids, fates, results, index=index, **self._answer_options())
        return pd.DataFrame(columns, index=index)

    def responses(self) -> pd.DataFrame:
        """Return everything known of each row's answer, on the submitted frame's index."""
        ids, fates, index = self._asked()
        return response_columns(ids, fates, self._table(), index=index, **self._answer_options())

    def responses_for(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the same for the rows of a frame, matched as `for_frame` does."""
        ids, fates = self._ids_for(frame)
        return response_columns(ids, fates, self._table(), index=frame.index, **self._answer_options())

    def for_frame(self, frame: pd.DataFrame, early: Early | None = None) -> dict[str, pd.Series]:
        """
        Return the answer columns for the rows of a frame, matched by what each of them asks.

        A row that cannot be told to be one of those asked has the code ``row_changed``, and a warning counts them.
        """
        early = Early(frame) if early is None else early
        with Threads(1, "dobatch-join") as pool:
            reading = pool.submit(self._table, ANSWER_COLUMNS, None, early.tables)
            ids, fates = self._ids_for(frame, early.same)
            results = reading.result()
        return answer_columns(ids, fates, results, index=frame.index, **self._answer_options())

    def of_places(self, wanted: Any, parts: Collection[int] | None) -> pd.DataFrame:
        """
        Return the answer columns of some rows of the submitted frame.

        Parameters
        ----------
        wanted : numpy.ndarray of bool
            Which rows.
        parts : collection of int, optional
            In which parts their answers are, beside those that were reused; all by default.
        """
        ids, fates, index = self._asked()
        each = pa.array(np.repeat(wanted, self._recipe.samples))
        index = index[wanted]
        results = self._table(ANSWER_COLUMNS, parts)
        columns = answer_columns(
            ids.filter(each), fates.filter(each), results, index=index, **self._answer_options()
        )
        return pd.DataFrame(columns, index=index)

    def failures(self) -> pd.DataFrame:
        """Return everything known of the rows without an answer, on the submitted frame's index."""
        responses = self.responses()
        return responses[responses["error_code"].notna()]

    def failed_with(self, codes: Collection[str], parts: Collection[int] | None = None) -> pa.Array:
        """Return the ids of the requests that failed with one of some codes, of some parts where these are given."""
        results = self._table(["custom_id", "status", "error_code"], parts)
        again = pc.and_(
            pc.equal(results["status"], "failed"),
            pc.is_in(results["error_code"], value_set=pa.array(sorted(codes), pa.string())),
        )
        return results["custom_id"].filter(again).combine_chunks()

    def tokens(self, *, live: bool) -> list[pa.Table]:
        """Return the columns that hold tokens, of what this job paid for itself: in real time, or in batches."""
        now = {self._folder.result(part.number) for part in self._state.parts.values() if part.live}
        found = self.read(TOKENS)
        return [table for file, table in found if file != self._folder.reused and (file in now) == live]

    def read(
        self,
        columns: list[str] | None,
        known: Tables | None = None,
        parts: Collection[int] | None = None,
    ) -> list[tuple[Path, pa.Table]]:
        """
        Read every file of results, or of some parts; one that is not there, or damaged, is made from what the batch left.

        What is in `known`, and of the file as it is now, is not read again; what is read is put there.
        """
        files = dict.fromkeys(self._folder.result_files())
        if parts is not None:
            wanted = {self._folder.reused, *map(self._folder.result, parts)}
            files = dict.fromkeys(file for file in files if file in wanted)
        of_part = {
            self._folder.result(part.number): part
            for part in self._state.parts.values()
            if part.final and (parts is None or part.number in parts)
        }
        found = []
        for file in [*files, *(file for file in of_part if file not in files)]:
            try:
                table = _read(file, columns, known)
            except UNREADABLE:
                if file not in of_part:
                    raise
                self._make(of_part[file])
                table = _read(file, columns, known)
            found.append((file, table))
        return found

    def _make(self, part: Part) -> None:
        """Make a part's file of results."""
        read_results_of(self._folder, self._recipe, part, *why_missing(part))

    def _answer_options(self) -> dict[str, Any]:
        # Without any result, a request is not rendered yet, or the job does not ask it.
        absent = "missing_result" if self._state.rendered else "pending"
        return {**self._recipe.answer_options, "absent": absent}

    def _table(
        self,
        columns: list[str] | None = None,
        parts: Collection[int] | None = None,
        known: Tables | None = None,
    ) -> pa.Table:
        """One result for each request that was sent, is to be sent, or was reused; of some parts only, where they are given."""
        awaited = [part.number for part in self._state.parts.values() if not part.final and parts is None]
        halves = {self._folder.result(number) for number in awaited}
        found = self.read(columns, known, parts)
        tables = [_awaited(table) if file in halves else table for file, table in found]
        for number in awaited:
            if not self._folder.result(number).exists():
                ids = self._folder.part_ids(number)
                pending = failed_results(ids, "pending", EXPLANATIONS["pending"])
                tables.append(pending if columns is None else pending.select(columns))
        if not tables:
            return merge_results([])
        if not any(part.round for part in self._state.parts.values()):
            # Every id is in just one part.
            return pa.concat_tables(tables, promote_options="default")
        return merge_results(tables)

    def _rows(self) -> RowRecord | None:
        """The rows that were submitted; None where version 0.1 did not write them down, or they are files'."""
        if self._known is None and self._folder.rows.exists():
            self._known = RowRecord.read(self._folder.rows)
        return self._known

    def _asked(self) -> tuple[Any, Any, pd.Index]:
        every = self._recipe.samples
        rows = self._rows()
        if not self._folder.manifest.exists() and not self._state.rendered:
            index = read_labels(self._folder, self._record) if rows is None else rows.index
            nothing = pa.nulls(len(index) * every, pa.string())
            return nothing, pa.array([int(Fate.SENT)] * len(nothing), pa.int8()), index
        columns = None if rows is None else ["custom_id", "fate"]
        manifest = read_table(self._folder.manifest, columns=columns)
        if rows is not None:
            return manifest["custom_id"], manifest["fate"], rows.index
        labels = manifest.take(pa.array(range(0, len(manifest), every))) if every > 1 else manifest
        return manifest["custom_id"], manifest["fate"], index_of(labels)

    def is_of(self, frame: pd.DataFrame) -> bool:
        """Whether a frame's rows are the very ones that were submitted, as far as what they ask tells."""
        record, recipe = self._record, self._recipe
        if record.source is not None or len(frame) != record.rows or not self._asks(frame):
            return False
        salt = f"{record.base_url} {record.account}"
        return fingerprint(recipe, salt, freeze(recipe.lenient, frame)) == record.fingerprint

    def _asks(self, frame: pd.DataFrame) -> bool:
        """Whether it can be computed what a frame's rows ask."""
        return self._recipe.portable and not lacking(self._recipe.columns, frame)

    def _ids_for(self, frame: pd.DataFrame, same: bool | None = None) -> tuple[Any, Any]:
        """Find each row's request: by what it asks, or else by the contents that it had at submit."""
        recipe = self._recipe
        if self.is_of(frame) if same is None else same:
            # Most often: their ids are on disk.
            return self._asked()[:2]
        if self._asks(frame):
            return ids_of(frame, recipe.lenient)
        missing = lacking(recipe.columns, frame)
        ids, fates, _ = self._asked()
        rows = self._rows()
        every = recipe.samples
        if recipe.custom_id is not None and recipe.custom_id not in missing:
            return self._by_own_ids(frame, ids, fates)
        places = np.full(len(frame), -1)
        if rows is not None and rows.columns is not None:
            missing = lacking(rows.columns, frame)
            if not missing:
                flat = ids.to_pylist()
                each = [tuple(flat[n : n + every]) for n in range(0, len(flat), every)]
                places = rows.places_of(frame, each)
        return self._taken(ids, fates, places, missing)

    def _by_own_ids(self, frame: pd.DataFrame, ids: Any, fates: Any) -> tuple[Any, Any]:
        """Find rows by the user's own ids, whatever else has become of them."""
        every = self._recipe.samples
        first = one_array(ids).take(pa.array(np.arange(0, len(ids), every)))
        mine = pa.array(id_texts(frame[self._recipe.custom_id]), pa.string(), from_pandas=True)
        places = pc.fill_null(pc.index_in(mine, value_set=first.drop_null()), -1).to_numpy(
            zero_copy_only=False
        )
        there = np.flatnonzero(first.is_valid().to_numpy(zero_copy_only=False))
        places = np.where(places < 0, -1, there[places] if len(there) else -1)
        return self._taken(ids, fates, places, [])

    def _taken(self, ids: Any, fates: Any, places: Any, missing: list[Any]) -> tuple[Any, Any]:
        """The requests of some of the rows that were submitted; one that is none of them has a code."""
        every = self._recipe.samples
        unknown = int((places < 0).sum())
        if unknown:
            why = (
                f"the column {', '.join(map(repr, missing[:5]))} is gone, or stands there twice"
                if missing
                else "their contents are not what they were at submit, or are objects without a text to know them by"
                if self._rows() is not None
                else "the job keeps no contents of its rows"
            )
            warnings.warn(
                f"{unknown:,} of {len(places):,} rows cannot be told to be rows that job {self._record.id} has asked "
                f"({why}); their code is row_changed. Join to the frame as it was submitted, or take job.result(), "
                "which has all answers on the labels of that frame.",
                stacklevel=outside(),
            )
        at = pa.array(
            (places[:, None] * every + np.arange(every)).reshape(-1), mask=np.repeat(places < 0, every)
        )
        found = pc.fill_null(one_array(fates).take(at), int(Fate.CHANGED))
        return one_array(ids).take(at), found


class Arrivals:
    """
    The rows of a job in the order in which their answers come, each row once.

    A row has come when no part that is still open asks for it: what a retry sends again is not there yet.
    """

    def __init__(self) -> None:
        self._left: Any = None
        self._read: frozenset[int] = frozenset()
        self.seen: tuple[bool, frozenset[int]] | None = None

    def news(self, state: State) -> bool:
        """Whether something has come since `take`."""
        return self.seen != _come(state)

    def take(self, answers: JobAnswers, state: State) -> pd.DataFrame | None:
        """Return the rows that have come since; None where there are none."""
        self.seen = _come(state)
        if not state.rendered:
            return None
        ids, _, index = answers._asked()
        every = answers._recipe.samples
        if self._left is None:
            self._left = np.ones(len(index), bool)
        open_parts = [part.number for part in state.parts.values() if not part.final]
        awaited = pa.chunked_array([answers._folder.part_ids(n) for n in open_parts], pa.string())
        waits = pc.fill_null(pc.is_in(ids, value_set=awaited), False).to_numpy(zero_copy_only=False)
        come = self._left & ~waits.reshape(-1, every).any(axis=1)
        if not come.any():
            return None
        self._left &= ~come
        done = self.seen[1]
        # The samples of a row may come from several parts.
        parts = None if every > 1 else done - self._read
        self._read = done
        return answers.of_places(come, parts)


def _come(state: State) -> tuple[bool, frozenset[int]]:
    return state.rendered, frozenset(part.number for part in state.parts.values() if part.final)


def _awaited(table: pa.Table) -> pa.Table:
    """Results of a part that is not over: what they lack may still come."""
    lacks = pc.fill_null(pc.equal(table["error_code"], "missing_result"), False)
    if not pc.any(lacks).as_py():
        return table
    for name, value in (("error_code", "pending"), ("error_message", EXPLANATIONS["pending"])):
        if name in table.column_names:
            column = table.schema.get_field_index(name)
            table = table.set_column(column, name, pc.if_else(lacks, value, table[name]))
    return table


def _read(file: Path, columns: list[str] | None, known: Tables | None) -> Any:
    if known is None:
        return read_table(file, columns=columns)
    is_now = file.stat()
    this = (file, is_now.st_ino, is_now.st_mtime_ns)
    if this not in known:
        known[this] = read_table(file, columns=columns)
    return known[this]
