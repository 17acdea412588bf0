"""Reading results and joining them to a frame, against what people write by hand."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import measure
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

FAILING = 0.02


def prepare(folder: Path, rows: int) -> None:
    """A results file in an order of its own, and the ids of the frame's rows."""
    for number, seed in ((rows, 1), (1000, 2)):
        path = folder / f"results-{number}.jsonl"
        if path.exists():
            continue
        rng = random.Random(seed)
        texts = [" ".join(rng.choices(measure.WORDS, k=120))[:600] for _ in range(1000)]
        ids = [f"{rng.getrandbits(128):032x}" for _ in range(number)]
        (folder / f"ids-{number}.json").write_bytes(orjson.dumps(ids))
        rng.shuffle(ids)
        with path.open("wb") as file:
            file.writelines(_line(i, custom_id, texts, rng) for i, custom_id in enumerate(ids))


def _line(number: int, custom_id: str, texts: list[str], rng: random.Random) -> bytes:
    body: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-4.1-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": texts[number % 1000]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 90, "total_tokens": 210},
    }
    status = 200
    if rng.random() < FAILING:
        status, body = (
            400,
            {"error": {"code": "invalid_request", "type": "invalid_request_error", "message": "no"}},
        )
    response = {"status_code": status, "request_id": f"req_{number:012x}", "body": body}
    line = {"id": f"batch_req_{number}", "custom_id": custom_id, "response": response, "error": None}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _asked(folder: Path, rows: int) -> tuple[str, pd.DataFrame, Any]:
    ids = orjson.loads((folder / f"ids-{rows}.json").read_bytes())
    frame = pd.DataFrame({"custom_id": ids, "row": np.arange(rows)})
    return str(folder / f"results-{rows}.jsonl"), frame, pa.array(ids)


def _cost(folder: Path, rows: int, work: Any) -> dict[str, Any]:
    small, given = _asked(folder, 1000), _asked(folder, rows)
    done, cost = measure.measured(lambda: work(*given), warm=lambda: work(*small))
    assert len(done) == rows
    assert 0.9 * rows < done["text"].notna().sum() < rows
    joined = sum(int(done[name].memory_usage(index=False)) for name in ("text", "text_error") if name in done)
    return {**cost, "joined_mb": joined / 1e6}


def ours(folder: Path, rows: int) -> dict[str, Any]:
    """What ``job.join`` does with the files of a batch."""
    from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns, joined
    from dobatch_pandas.answers.result_lines import iter_results, merge_results

    def work(path: str, frame: pd.DataFrame, ids: Any) -> pd.DataFrame:
        # A job keeps the other columns on the disk.
        batches = (batch.select(ANSWER_COLUMNS) for batch in iter_results(path))
        results = merge_results(batches, room=os.path.getsize(path))
        return joined(frame, answer_columns(ids, None, results, into="text", index=frame.index))

    return _cost(folder, rows, work)


def json_loop(folder: Path, rows: int) -> dict[str, Any]:
    """The loop in every tutorial."""

    def work(path: str, frame: pd.DataFrame, ids: Any) -> pd.DataFrame:
        found = []
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                entry = json.loads(line)
                choices = entry["response"]["body"].get("choices")
                text = choices[0]["message"]["content"] if choices else None
                found.append((entry["custom_id"], text, entry["response"]["status_code"]))
        read = pd.DataFrame(found, columns=["custom_id", "text", "status_code"])
        return frame.merge(read, on="custom_id", how="left")

    return _cost(folder, rows, work)


def pandas_read_json(folder: Path, rows: int) -> dict[str, Any]:
    """``pandas.read_json(lines=True)``, then ``merge``."""

    def text_of(response: dict[str, Any]) -> str | None:
        choices = response["body"].get("choices")
        return choices[0]["message"]["content"] if choices else None

    def work(path: str, frame: pd.DataFrame, ids: Any) -> pd.DataFrame:
        read = pd.read_json(path, lines=True)
        read["text"] = read["response"].map(text_of)
        return frame.merge(read[["custom_id", "text"]], on="custom_id", how="left")

    return _cost(folder, rows, work)


DUCKDB = """
    select custom_id, response.status_code as status_code, response.body.choices[1].message.content as text
    from read_json('{path}', format='newline_delimited', columns={{
        custom_id: 'VARCHAR',
        response: 'STRUCT(status_code INT, body STRUCT(choices STRUCT(message STRUCT(content VARCHAR))[]))'
    }})
"""


def duckdb_read_json(folder: Path, rows: int) -> dict[str, Any]:
    """DuckDB's ``read_json`` with an explicit schema, as a frame, then ``merge``."""
    import duckdb

    def work(path: str, frame: pd.DataFrame, ids: Any) -> pd.DataFrame:
        with duckdb.connect() as database:
            read = database.sql(DUCKDB.format(path=path)).df()
        return frame.merge(read, on="custom_id", how="left")

    return _cost(folder, rows, work)


def duckdb_arrow(folder: Path, rows: int) -> dict[str, Any]:
    """The same by way of Arrow: the quickest we know how to write with DuckDB."""
    import duckdb

    def work(path: str, frame: pd.DataFrame, ids: Any) -> pd.DataFrame:
        with duckdb.connect() as database:
            read = database.sql(DUCKDB.format(path=path)).to_arrow_table().to_pandas()
        return frame.merge(read, on="custom_id", how="left")

    return _cost(folder, rows, work)


def finish(every: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """The targets, and whether this run met them."""
    lines = []
    for rows, costs in every.items():
        mine = costs["ours"]
        for rival, factor in (("json_loop", 4.0), ("duckdb_arrow", 1.0)):
            if rival in costs:
                ratio = costs[rival]["wall"] / mine["wall"]
                lines.append(
                    _line_of(f"{rows:,} rows: times quicker than {rival}", ratio, factor, ratio >= factor)
                )
        if len(costs) == 1:
            continue
        bound = 2 * mine["joined_mb"] + 64
        lines.append(
            _line_of(f"{rows:,} rows: peak extra MB", mine["peak_mb"], bound, mine["peak_mb"] <= bound)
        )
    few, many = min(every), max(every)
    if few < many:
        ratio = every[many]["ours"]["wall"] / many / (every[few]["ours"]["wall"] / few)
        lines.append(_line_of(f"time a row, {many:,} against {few:,} rows", ratio, 1.2, ratio <= 1.2))
    return lines


def _line_of(what: str, value: float, target: float, met: bool) -> str:
    return f"{what:<52}{value:>8.2f}  target {target:>8.2f}  {'met' if met else 'NOT met'}"


CASES: dict[str, measure.Case] = {
    "ours": ours,
    "json_loop": json_loop,
    "duckdb_read_json": duckdb_read_json,
    "duckdb_arrow": duckdb_arrow,
    "pandas_read_json": pandas_read_json,
}


if __name__ == "__main__":
    measure.main(
        __file__,
        CASES,
        prepare,
        against="ours",
        sizes=(100_000, 200_000, 1_000_000),
        finish=finish,
        # Half a minute a run, and nothing more to learn from it.
        skip=lambda case, rows: rows != 200_000 and case != "ours",
    )
