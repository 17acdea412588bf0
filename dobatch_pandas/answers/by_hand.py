"""Output and error files that someone downloaded by hand: read as a frame, and joined to one."""

from __future__ import annotations

import difflib
import os
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.errors import InputError

from .join import answer_columns, results_frame
from .result_lines import RESULTS, merge_results, results_of

__all__ = ["join_read_results", "read_results", "table_of"]


def read_results(*paths: str | os.PathLike[str]) -> pd.DataFrame:
    """
    One row a request from output and error files of any provider.

    Parameters
    ----------
    *paths : path
        Files as downloaded. Where a ``custom_id`` stands in several lines, a success beats a failure and a
        later line an earlier one.

    Returns
    -------
    pandas.DataFrame
        ``custom_id, status, status_code, text, finish_reason, model``, token counts, ``request_id,
        error_code, error_message`` and ``embedding``. ``error_code`` is null where there is an answer.
    """
    return results_frame(results_of(*paths))


def table_of(results: pd.DataFrame) -> Any:
    """
    A frame from `read_results` as a table again, one row a ``custom_id``; columns that are gone are null.

    Raises
    ------
    InputError
        The frame has no ``custom_id``, or neither ``text`` nor ``embedding``.
    """
    if "custom_id" not in results or not {"text", "embedding"} & set(results.columns):
        raise InputError(
            "Results need the columns custom_id and text, as dobatch.read_results returns them; "
            f"these have {', '.join(map(str, results.columns))}."
        )
    arrays = []
    for field in RESULTS:
        if field.name in results:
            column = pa.array(results[field.name], from_pandas=True)
            arrays.append(column.cast(field.type))
        else:
            arrays.append(pa.nulls(len(results), field.type))
    table = pa.Table.from_arrays(arrays, schema=RESULTS).filter(pc.is_valid(arrays[0]))
    if "status" not in results:
        answered = pc.if_else(pc.is_null(table["error_code"]), "succeeded", "failed")
        table = table.set_column(1, RESULTS.field("status"), answered)
    return merge_results([table])


def join_read_results(
    frame: pd.DataFrame, results: pd.DataFrame, *, custom_id: str, into: str = "response"
) -> dict[str, pd.Series[Any]]:
    """
    The new columns for a frame, one of whose columns holds the ids that results carry.

    Parameters
    ----------
    frame : pandas.DataFrame
    results : pandas.DataFrame
        From `dobatch_pandas.read_results`.
    custom_id : str
        The frame's column of ids; texts, or what becomes one. Repeats get the same answer.
    into : str
        Name of the answer.
    """
    if custom_id not in frame:
        near = difflib.get_close_matches(custom_id, map(str, frame.columns), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"There is no column {custom_id!r}; there are {', '.join(map(str, frame.columns))}.{hint}"
        )
    given = frame[custom_id]
    ids = pa.array([None if pd.isna(value) else str(value) for value in given.tolist()], pa.string())
    return answer_columns(ids, None, table_of(results), into=into, index=frame.index)
