"""What a batch brought: its files read, and exactly one result for every request of the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .join import outcome
from .recipe import Recipe
from .results_file import RESULTS, iter_results, merge_results
from .snapshot import ErrorGroup
from .store import whole

__all__ = ["Tally", "failed_results", "failure_groups", "read_part", "tally", "write_results"]

STORED = RESULTS.append(pa.field("batch_id", pa.string()))


@dataclass(frozen=True)
class Tally:
    """What results add up to: requests by outcome, and tokens."""

    completed: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


def read_part(
    files: Sequence[Path],
    ids: pa.Array,
    recipe: Recipe,
    *,
    batch_id: str | None,
    missing_code: str,
    missing_message: str,
) -> pa.Table:
    """
    Read a batch's files into one row per request of the part, in the part's order.

    Doubled lines count once, foreign ones not at all, and a request without a line fails with
    `missing_code`. An answer that breaks the schema asked for fails here.

    Returns
    -------
    pyarrow.Table
        The fields of `RESULTS` and ``batch_id``; ``len(ids)`` rows.
    """
    lines = merge_results(batch for file in files for batch in iter_results(file, endpoint=recipe.endpoint))
    place = pc.index_in(ids, value_set=lines["custom_id"].combine_chunks())
    table = lines.take(place)
    missing = pc.is_null(place)
    table = _replace(table, "custom_id", ids)
    table = _mark_failed(table, missing, missing_code, missing_message)
    _, codes, messages = outcome(table, recipe.schema)
    broken = pc.and_(pc.is_valid(codes), pc.equal(table["status"], "succeeded"))
    table = _mark_failed(table, broken, codes, messages)
    return table.append_column("batch_id", pa.array([batch_id] * len(table), pa.string()))


def failed_results(ids: pa.Array, code: str, message: str, batch_id: str | None = None) -> pa.Table:
    """Give every request the same failure: its batch was refused, or never sent."""
    nothing = RESULTS.empty_table().take(pa.nulls(len(ids), pa.int64()))
    table = _replace(nothing, "custom_id", ids)
    table = _mark_failed(table, pa.array([True] * len(ids)), code, message)
    return table.append_column("batch_id", pa.array([batch_id] * len(table), pa.string()))


def _replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    number = table.schema.get_field_index(name)
    return table.set_column(number, table.schema.field(number), values)


def _mark_failed(table: pa.Table, rows: Any, code: Any, message: Any) -> pa.Table:
    table = _replace(table, "status", pc.if_else(rows, "failed", table["status"]))
    table = _replace(table, "error_code", pc.if_else(rows, code, table["error_code"]))
    return _replace(table, "error_message", pc.if_else(rows, message, table["error_message"]))


def write_results(table: pa.Table, target: Path) -> None:
    """Write results to a file that appears whole or not at all."""
    with whole(target) as partial:
        pq.write_table(table, partial, compression="zstd")


def tally(table: pa.Table) -> Tally:
    """Add up the results of a part."""

    def total(name: str) -> int:
        return int(pc.sum(table[name]).as_py() or 0)

    completed = int(pc.sum(pc.equal(table["status"], "succeeded")).as_py() or 0)
    return Tally(
        completed=completed,
        failed=len(table) - completed,
        prompt_tokens=total("prompt_tokens"),
        completion_tokens=total("completion_tokens"),
        cached_tokens=total("cached_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
    )


def failure_groups(table: pa.Table) -> list[ErrorGroup]:
    """Group the failed results by code, with how many and one message each."""
    failed = table.select(["status", "error_code", "error_message"]).filter(
        pc.equal(table["status"], "failed")
    )
    groups = failed.group_by("error_code").aggregate([("error_code", "count"), ("error_message", "min")])
    return [
        ErrorGroup(code or "unknown", count, (message or "")[:500])
        for code, count, message in zip(
            groups["error_code"].to_pylist(),
            groups["error_code_count"].to_pylist(),
            groups["error_message_min"].to_pylist(),
            strict=True,
        )
    ]
