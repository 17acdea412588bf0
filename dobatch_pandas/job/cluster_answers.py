"""The answers of a job whose rows lie in a Dask frame, brought to this machine when somebody looks at them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
import pyarrow as pa

from dobatch_pandas.answers.join import response_columns
from dobatch_pandas.errors import InputError

from . import on_worker
from .cluster import ClusterJob
from .machine import Part
from .on_worker import Asker
from .row_answers import JobAnswers

__all__ = ["AnswersOfCluster"]


class AnswersOfCluster(JobAnswers):
    """
    The answers of one job, a row a request: which rows of the frame ask it, the workers know.

    The parameters are those of `JobAnswers`.
    """

    def of_rows(self) -> pd.DataFrame:
        """Say where the rows are."""
        raise InputError(
            f"The rows of job {self._record.id} lie in a Dask frame: ddf.dobatch.join(job) returns a lazy frame of them, "
            "and job.responses() has each request's answer."
        )

    def responses(self) -> pd.DataFrame:
        """Return everything known of each request's answer."""
        return self._shown(self._table())

    def failures(self) -> pd.DataFrame:
        """Return everything known of each request without an answer; only results that have some are looked at."""
        shown = self._shown(self._table(parts=self._with_failures()))
        return shown[shown["error_code"].notna()].reset_index(drop=True)

    def failed_with(self, codes: Collection[str], parts: Collection[int] | None = None) -> pa.Array:
        """Return the ids of the requests that failed with one of some codes."""
        return super().failed_with(codes, self._with_failures() if parts is None else parts)

    def _with_failures(self) -> list[int]:
        # What a later round was asked again may have been answered there.
        return [part.number for part in self._state.parts.values() if part.failed or part.round]

    def _shown(self, table: pa.Table) -> pd.DataFrame:
        options = {**self._answer_options(), "samples": 1}
        return response_columns(table["custom_id"], None, table, index=pd.RangeIndex(len(table)), **options)

    def _make(self, part: Part) -> None:
        """Bring what the workers read."""
        [stored] = ClusterJob(self._folder, self._recipe).stored(self._state, [part.number])
        ids = self._folder.part_ids(part.number)
        on_worker.results_into(self._folder.result(part.number), stored, ids, Asker.here(self._recipe))

    def is_of(self, frame: pd.DataFrame) -> bool:
        """What the rows ask is computed: what was submitted is not on this machine."""
        return False

    def _asked(self) -> tuple[Any, Any, pd.Index]:
        raise InputError(
            f"What the rows of this frame ask cannot be told without the function of job {self._record.id}: join its "
            "answers to the Dask frame that was submitted, with ddf.dobatch.join(job)."
        )
