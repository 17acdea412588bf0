"""What one job asked and was answered, found on disk and brought to the rows of a frame."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns, response_columns
from dobatch_pandas.answers.result_lines import merge_results
from dobatch_pandas.codes import RETRYABLE
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import ids_of

from .input import fingerprint_of, index_of, labels_of
from .result_files import TOKENS
from .store import Store

__all__ = ["JobAnswers"]


class JobAnswers:
    """
    The answers of one job as far as they are there.

    Parameters
    ----------
    store : Store
    job_id : str
    recipe : Recipe
    """

    def __init__(self, store: Store, job_id: str, recipe: Recipe) -> None:
        self._store, self._id, self._recipe = store, job_id, recipe

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
        with ThreadPoolExecutor(1, "dobatch-join") as pool:
            reading = pool.submit(self._table, ANSWER_COLUMNS)
            ids, fates = self._ids_for(frame)
            results = reading.result()
        return answer_columns(ids, fates, results, index=frame.index, **self._answer_options())

    def retryable(self) -> pa.Array:
        """Return the ids of the requests that failed for a reason that can change."""
        results = self._table(["custom_id", "status", "error_code"])
        again = pc.and_(
            pc.equal(results["status"], "failed"),
            pc.is_in(results["error_code"], value_set=pa.array(sorted(RETRYABLE))),
        )
        return results["custom_id"].filter(again).combine_chunks()

    def tokens(self) -> list[pa.Table]:
        """Return the columns that hold tokens, of what this job paid for itself."""
        files = self._store.folder(self._id).result_files()
        return [pq.read_table(file, columns=TOKENS) for file in files if file.name != "reused.parquet"]

    def _answer_options(self) -> dict[str, Any]:
        recipe = self._recipe
        return {
            "into": recipe.into,
            "samples": recipe.samples,
            "json_schema": recipe.schema,
            "flatten": recipe.flatten,
        }

    def _table(self, columns: list[str] | None = None) -> pa.Table:
        """One result for each request that was sent or reused."""
        files = self._store.folder(self._id).result_files()
        tables = [pq.read_table(file, columns=columns) for file in files]
        if not tables:
            return merge_results([])
        if not any(part.retry for part in self._store.parts(self._id)):
            # Every id is in just one part.
            return pa.concat_tables(tables, promote_options="default")
        return merge_results(tables)

    def _asked(self) -> tuple[Any, Any, pd.Index]:
        manifest = pq.read_table(self._store.folder(self._id).manifest)
        every = self._recipe.samples
        labels = manifest.take(pa.array(range(0, len(manifest), every))) if every > 1 else manifest
        return manifest["custom_id"], manifest["fate"], index_of(labels)

    def _ids_for(self, frame: pd.DataFrame) -> tuple[Any, Any]:
        """Find each row's request: by what it asks, or by its label where only a label tells."""
        recipe = self._recipe
        missing = [column for column in recipe.columns if column not in frame.columns]
        if recipe.portable and not missing:
            # A row that was added since may lack a value: it was not asked, which is no error here.
            lenient = replace(recipe, missing="skip") if recipe.missing == "error" else recipe
            record = self._store.job(self._id)
            same_size = len(frame) == record.rows and record.source is None
            if same_size and fingerprint_of(frame, recipe, record.base_url, lenient) == record.fingerprint:
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
                f"Cannot tell which rows of this frame job {self._id} answered: {why}, the index is another one "
                "than at submit, and its labels repeat. Join to the frame that was submitted, or take job.result(), "
                "which has the answers on the labels of submit."
            )
        place = index.get_indexer(index_of(labels_of(frame.index)))
        rows = pa.array(
            [None if p < 0 else p * recipe.samples + s for p in place for s in range(recipe.samples)]
        )
        return ids.take(rows), fates.take(rows)
