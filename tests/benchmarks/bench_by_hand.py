"""
Results carried by hand, against DuckDB's ``read_json`` with an explicit schema and a pandas merge.

DuckDB reads three fields of one shape of line, and finds the ids in the frame. ``plan.join(path)`` reads any line of any
endpoint, and works the ids out from what each row asks, unless the plan has told them and the rows say the same still.
Where the frame has the ids, as for DuckDB, ``join(path, custom_id=...)`` does the same task. ``read_results`` reads
fourteen columns: ``duckdb_columns`` reads those that such lines have.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import pandas as pd
from bench_read import DUCKDB, _line

# What `read_results` returns of a chat's lines.
COLUMNS = """
    select custom_id, response.status_code as status_code, response.body.choices[1].message.content as text,
        response.body.choices[1].finish_reason as finish_reason, response.body.model as model,
        response.body.usage.prompt_tokens as prompt_tokens,
        response.body.usage.completion_tokens as completion_tokens,
        response.body.usage.prompt_tokens_details.cached_tokens as cached_tokens,
        response.body.usage.completion_tokens_details.reasoning_tokens as reasoning_tokens,
        response.request_id as request_id,
        coalesce(response.body.error.code, error.code) as error_code,
        coalesce(response.body.error.message, error.message) as error_message
    from read_json('{path}', format='newline_delimited', columns={{
        custom_id: 'VARCHAR',
        response: 'STRUCT(status_code INT, request_id VARCHAR, body STRUCT(
            model VARCHAR, choices STRUCT(finish_reason VARCHAR, message STRUCT(content VARCHAR))[],
            usage STRUCT(prompt_tokens INT, completion_tokens INT,
                prompt_tokens_details STRUCT(cached_tokens INT),
                completion_tokens_details STRUCT(reasoning_tokens INT)),
            error STRUCT(code VARCHAR, message VARCHAR)))',
        error: 'STRUCT(code VARCHAR, message VARCHAR)'
    }})
"""
PROMPT = {"model": "gpt-4.1-mini", "max_tokens": 50}


def _frame(rows: int) -> pd.DataFrame:
    rng = random.Random(rows)
    return pd.DataFrame(
        {"review": [f"{' '.join(rng.choices(measure.WORDS, k=12))} {n}" for n in range(rows)]}
    )


def prepare(folder: Path, rows: int) -> None:
    """Results with short answers for the ids of a plan, in an order of their own."""
    for number in (rows, 1000):
        path = folder / f"by-hand-{number}.jsonl"
        if path.exists():
            continue
        ids = _frame(number).dobatch.plan("Sentiment of: {review}", **PROMPT).custom_ids.tolist()
        rng = random.Random(number)
        texts = [" ".join(rng.choices(measure.WORDS, k=3)) for _ in range(1000)]
        order = rng.sample(range(number), number)
        with path.open("wb") as file:
            file.writelines(_line(i, ids[i], texts, rng) for i in order)


def _cost(folder: Path, rows: int, work: Any, anew: bool = False) -> dict[str, Any]:
    def given(number: int) -> tuple[str, Any, pd.DataFrame]:
        frame = _frame(number)
        plan = frame.dobatch.plan("Sentiment of: {review}", **PROMPT)
        keyed = frame.assign(custom_id=plan.custom_ids.astype(str))
        if anew:
            plan = frame.dobatch.plan("Sentiment of: {review}", **PROMPT)
        return str(folder / f"by-hand-{number}.jsonl"), plan, keyed

    small, large = given(1000), given(rows)
    done, cost = measure.measured(lambda: work(*large), warm=lambda: work(*small))
    answers = done["response"].notna().sum()
    assert len(done) == rows
    assert 0.9 * rows < answers < rows
    return cost


def ours(folder: Path, rows: int) -> dict[str, Any]:
    """The file itself is given: what its answers need is read while ids are worked out."""
    return _cost(folder, rows, lambda path, plan, keyed: plan.join(path))


def ours_anew(folder: Path, rows: int) -> dict[str, Any]:
    """By a plan that has told no ids yet, as in a later session."""
    return _cost(folder, rows, lambda path, plan, keyed: plan.join(path), anew=True)


def ours_read_first(folder: Path, rows: int) -> dict[str, Any]:
    """Everything is read into a frame, which is joined then."""
    import dobatch_pandas as dobatch

    return _cost(folder, rows, lambda path, plan, keyed: plan.join(dobatch.read_results(path)))


def ours_by_id(folder: Path, rows: int) -> dict[str, Any]:
    """What DuckDB and pandas do: the frame has a column of ids."""
    return _cost(folder, rows, lambda path, plan, keyed: keyed.dobatch.join(path, custom_id="custom_id"))


def _duckdb(folder: Path, rows: int, query: str, taken: Callable[[Any], pd.DataFrame]) -> dict[str, Any]:
    import duckdb

    def work(path: str, plan: Any, keyed: pd.DataFrame) -> pd.DataFrame:
        with duckdb.connect() as database:
            read = taken(database.sql(query.format(path=path)))
        return keyed.merge(read.rename(columns={"text": "response"}), on="custom_id", how="left")

    return _cost(folder, rows, work)


def duckdb(folder: Path, rows: int) -> dict[str, Any]:
    """Three fields, as a frame of DuckDB's own making."""
    return _duckdb(folder, rows, DUCKDB, lambda found: found.df())


def duckdb_arrow(folder: Path, rows: int) -> dict[str, Any]:
    """The same by way of Arrow."""
    return _duckdb(folder, rows, DUCKDB, lambda found: found.to_arrow_table().to_pandas())


def duckdb_columns(folder: Path, rows: int) -> dict[str, Any]:
    """The columns of `read_results`."""
    return _duckdb(folder, rows, COLUMNS, lambda found: found.df())


CASES: dict[str, measure.Case] = {
    "ours": ours,
    "ours_anew": ours_anew,
    "ours_by_id": ours_by_id,
    "ours_read_first": ours_read_first,
    "duckdb": duckdb,
    "duckdb_arrow": duckdb_arrow,
    "duckdb_columns": duckdb_columns,
}


def finish(every: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """How many times as quick as DuckDB ours is; 1 is the target."""
    return [
        f"{rows:,} rows: {mine}: times as quick as {rival}: {costs[rival]['wall'] / costs[mine]['wall']:.2f}"
        for rows, costs in every.items()
        for mine in costs
        for rival in costs
        if mine.startswith("ours") and rival.startswith("duckdb")
    ]


if __name__ == "__main__":
    import dobatch_pandas  # noqa: F401  it gives frames their ``dobatch``

    measure.main(__file__, CASES, prepare, against="ours", finish=finish)
