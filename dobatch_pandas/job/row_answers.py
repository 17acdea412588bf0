"""What one job asked and was answered, found on disk and brought to the rows of a frame."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns, response_columns
from dobatch_pandas.answers.result_lines import merge_results
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.codes import EXPLANATIONS, Fate
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import ids_of

from .folder import JobFolder, JobRecord
from .input import fingerprint_of, index_of, labels_of, read_labels
from .machine import State
from .render import part_ids
from .result_files import TOKENS, failed_results

__all__ = ["JobAnswers"]


class JobAnswers:
    """
    The answers of one job as far as they are there; what is still awaited has the code ``pending``.

    Parameters
    ----------
    folder : JobFolder
    record : JobRecord
    recipe : Recipe
    state : State
    """

    def __init__(self, folder: JobFolder, record: JobRecord, recipe: Recipe, state: State) -> None:
        self._folder, self._record, self._recipe, self._state = folder, record, recipe, state

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

    def for_frame(self, frame: pd.DataFrame) -> dict[str, pd.Series]:
        """
        Return the answer columns for the rows of a frame, matched by what each of them asks.

        Raises
        ------
        InputError
            Its rows cannot be told apart.
        """
        with Threads(1, "dobatch-join") as pool:
            reading = pool.submit(self._table, ANSWER_COLUMNS)
            ids, fates = self._ids_for(frame)
            results = reading.result()
        return answer_columns(ids, fates, results, index=frame.index, **self._answer_options())

    def failed_with(self, codes: Collection[str]) -> pa.Array:
        """Return the ids of the requests that failed with one of some codes."""
        results = self._table(["custom_id", "status", "error_code"])
        again = pc.and_(
            pc.equal(results["status"], "failed"),
            pc.is_in(results["error_code"], value_set=pa.array(sorted(codes), pa.string())),
        )
        return results["custom_id"].filter(again).combine_chunks()

    def tokens(self) -> list[pa.Table]:
        """Return the columns that hold tokens, of what this job paid for itself."""
        files = self._folder.result_files()
        return [pq.read_table(file, columns=TOKENS) for file in files if file.name != "reused.parquet"]

    def _answer_options(self) -> dict[str, Any]:
        recipe = self._recipe
        return {
            "into": recipe.into,
            "samples": recipe.samples,
            "json_schema": recipe.schema,
            "flatten": recipe.flatten,
            "absent": self._absent(),
        }

    def _table(self, columns: list[str] | None = None) -> pa.Table:
        """One result for each request that was sent, is to be sent, or was reused."""
        tables = [pq.read_table(file, columns=columns) for file in self._folder.result_files()]
        awaited = [part.number for part in self._state.parts.values() if not part.final]
        for number in awaited:
            if not self._folder.result(number).exists():
                ids = part_ids(self._folder, number)
                pending = failed_results(ids, "pending", EXPLANATIONS["pending"])
                tables.append(pending if columns is None else pending.select(columns))
        if not tables:
            return merge_results([])
        if not any(part.round for part in self._state.parts.values()):
            # Every id is in just one part.
            return pa.concat_tables(tables, promote_options="default")
        return merge_results(tables)

    def _absent(self) -> str:
        """What a row without any result has: its request is not rendered yet, or the job does not ask it."""
        return "missing_result" if self._state.rendered else "pending"

    def _asked(self) -> tuple[Any, Any, pd.Index]:
        every = self._recipe.samples
        if not self._folder.manifest.exists():
            index = read_labels(self._folder, self._record)
            nothing = pa.nulls(len(index) * every, pa.string())
            return nothing, pa.array([int(Fate.SENT)] * len(nothing), pa.int8()), index
        manifest = pq.read_table(self._folder.manifest)
        labels = manifest.take(pa.array(range(0, len(manifest), every))) if every > 1 else manifest
        return manifest["custom_id"], manifest["fate"], index_of(labels)

    def _ids_for(self, frame: pd.DataFrame) -> tuple[Any, Any]:
        """Find each row's request: by what it asks, or by its label where only a label tells."""
        recipe = self._recipe
        missing = [column for column in recipe.columns if column not in frame.columns]
        if recipe.portable and not missing:
            # A row that was added since may lack a value: it was not asked, which is no error here.
            lenient = replace(recipe, missing="skip") if recipe.missing == "error" else recipe
            record = self._record
            same_size = len(frame) == record.rows and record.source is None
            if (
                same_size
                and fingerprint_of(frame, recipe, f"{record.base_url} {record.account}", lenient)
                == record.fingerprint
            ):
                # The very rows that were submitted, most often: their ids are on disk.
                return self._asked()[:2]
            return ids_of(frame, lenient)
        ids, fates, index = self._asked()
        if len(index) == len(frame) and index.equals(index_of(labels_of(frame.index))):
            return ids, fates
        if not index.is_unique:
            why = (
                f"its columns {missing} are gone"
                if missing
                else "its prompts were made by a function or a Series"
            )
            raise InputError(
                f"Cannot tell which rows of this frame job {self._record.id} answered: {why}, the index is another one "
                "than at submit, and its labels repeat. Join to the frame that was submitted, or take job.result(), "
                "which has the answers on the labels of submit."
            )
        place = index.get_indexer(index_of(labels_of(frame.index)))
        rows = pa.array(
            [None if p < 0 else p * recipe.samples + s for p in place for s in range(recipe.samples)]
        )
        return ids.take(rows), fates.take(rows)
