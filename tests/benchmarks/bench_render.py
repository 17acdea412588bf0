"""
A frame becomes request files, against what people write by hand.

Rows of some 600 characters with quotes, newlines, emoji and U+2028, for the chat endpoint. Ours makes an id from
each row's content, sends equal rows once and splits at the service's limits; the rivals number the rows and write
one file.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import orjson
import pandas as pd
import pyarrow as pa

MODEL = "gpt-4.1-mini"
SYSTEM = "You are a helpful classifier."
PROMPT = "Sentiment of: {review}\nAnswer pos or neg."

Write = Callable[[pd.DataFrame, Path], object]


def prepare(folder: Path, rows: int) -> None:
    """The rows, in Arrow's own format."""
    for number in (rows, 1000):
        path = folder / f"reviews-{number}.arrow"
        if path.exists():
            continue
        rng = random.Random(1)
        texts = [" ".join(rng.choices(measure.WORDS, k=108)) for _ in range(2000)]
        field = pa.field("review", pa.large_string())
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([field])) as writer:
            for start in range(0, number, 100_000):
                block = [f"{n} {texts[n % 2000]}" for n in range(start, min(start + 100_000, number))]
                writer.write_batch(pa.record_batch({"review": pa.array(block, pa.large_string())}))


def _frame(folder: Path, rows: int) -> pd.DataFrame:
    with pa.OSFile(str(folder / f"reviews-{rows}.arrow")) as file:
        column = pa.ipc.open_file(file).read_all()["review"]
    return pd.DataFrame({"review": pd.array(column, dtype=pd.StringDtype("pyarrow"))})


def _cost(folder: Path, rows: int, write: Write) -> dict[str, Any]:
    small, frame = _frame(folder, 1000), _frame(folder, rows)
    with tempfile.TemporaryDirectory(dir=folder) as first, tempfile.TemporaryDirectory(dir=folder) as second:
        _, cost = measure.measured(lambda: write(frame, Path(second)), warm=lambda: write(small, Path(first)))
        paths = sorted(Path(second).iterdir())
        assert sum(path.read_bytes().count(b"\n") for path in paths) == rows
        with paths[0].open("rb") as file:
            request = orjson.loads(file.readline())
        assert request["body"]["messages"][-1]["content"] == PROMPT.format(review=frame["review"].iloc[0])
    return cost


def ours(folder: Path, rows: int) -> dict[str, Any]:
    """What ``plan(...).to_jsonl`` does."""
    from dobatch_pandas.questions.build import build_recipe
    from dobatch_pandas.questions.freeze import freeze
    from dobatch_pandas.questions.request_lines import RequestWriter

    recipe = build_recipe(PROMPT, model=MODEL, system=SYSTEM, params={"max_tokens": 5, "temperature": 0})

    def write(frame: pd.DataFrame, target: Path) -> None:
        writer = RequestWriter(recipe, target)
        for frozen in freeze(recipe, frame):
            writer.add(frozen)
        writer.close()

    return _cost(folder, rows, write)


def _request(number: int, review: str) -> dict[str, Any]:
    return {
        "custom_id": f"row-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"Sentiment of: {review}\nAnswer pos or neg."},
            ],
            "max_tokens": 5,
            "temperature": 0,
        },
    }


def iterrows(folder: Path, rows: int) -> dict[str, Any]:
    """``iterrows`` and ``json.dumps``: the loop in every tutorial."""

    def write(frame: pd.DataFrame, target: Path) -> None:
        with (target / "all.jsonl").open("w", encoding="utf-8") as file:
            for number, row in frame.iterrows():
                file.write(json.dumps(_request(int(str(number)), row["review"])) + "\n")

    return _cost(folder, rows, write)


def itertuples(folder: Path, rows: int) -> dict[str, Any]:
    """``itertuples`` and ``json.dumps``: the loop of people who know pandas."""

    def write(frame: pd.DataFrame, target: Path) -> None:
        with (target / "all.jsonl").open("w", encoding="utf-8") as file:
            for number, row in enumerate(frame.itertuples(index=False)):
                file.write(json.dumps(_request(number, str(row.review))) + "\n")

    return _cost(folder, rows, write)


def orjson_loop(folder: Path, rows: int) -> dict[str, Any]:
    """A loop over the column with ``orjson``."""

    def write(frame: pd.DataFrame, target: Path) -> None:
        with (target / "all.jsonl").open("wb") as file:
            for number, review in enumerate(frame["review"]):
                file.write(orjson.dumps(_request(number, review), option=orjson.OPT_APPEND_NEWLINE))

    return _cost(folder, rows, write)


DUCKDB = f"""
    copy (
        select {{id}} as custom_id, 'POST' as method, '/v1/chat/completions' as url, struct_pack(
            model := '{MODEL}',
            messages := [
                struct_pack(role := 'system', content := '{SYSTEM}'),
                struct_pack(role := 'user', content := 'Sentiment of: ' || review || chr(10) || 'Answer pos or neg.')
            ],
            max_tokens := 5,
            temperature := 0
        ) as body
        from frame
    ) to '{{path}}' (format json)
"""


def _duckdb(folder: Path, rows: int, id: str) -> dict[str, Any]:
    import duckdb

    def write(frame: pd.DataFrame, target: Path) -> None:
        with duckdb.connect() as database:
            database.execute(DUCKDB.format(id=id, path=target / "all.jsonl"))

    return _cost(folder, rows, write)


def duckdb(folder: Path, rows: int) -> dict[str, Any]:
    """DuckDB's ``COPY``, the rows numbered."""
    return _duckdb(folder, rows, "'row-' || (row_number() over ())")


def duckdb_md5(folder: Path, rows: int) -> dict[str, Any]:
    """DuckDB's ``COPY``, ids from content but nothing else of what ours does."""
    return _duckdb(folder, rows, "md5(review)")


def finish(every: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """The targets, and whether this run met them."""
    lines = []
    for rows, costs in every.items():
        mine = costs["ours"]
        for rival, factor in (("iterrows", 8.0), ("itertuples", 2.5), ("duckdb", 1.0)):
            if rival in costs:
                ratio = costs[rival]["wall"] / mine["wall"]
                what = f"{rows:,} rows: times quicker than {rival}"
                lines.append(_line_of(what, ratio, factor, ratio >= factor))
        what = f"{rows:,} rows: peak extra MB"
        lines.append(_line_of(what, mine["peak_mb"], 64, mine["peak_mb"] <= 64))
    few, many = min(every), max(every)
    if few < many:
        ratio = every[many]["ours"]["wall"] / many / (every[few]["ours"]["wall"] / few)
        lines.append(_line_of(f"time a row, {many:,} against {few:,} rows", ratio, 1.2, ratio <= 1.2))
    return lines


def _line_of(what: str, value: float, target: float, met: bool) -> str:
    return f"{what:<52}{value:>8.2f}  target {target:>8.2f}  {'met' if met else 'NOT met'}"


CASES: dict[str, measure.Case] = {
    "ours": ours,
    "duckdb": duckdb,
    "duckdb_md5": duckdb_md5,
    "orjson_loop": orjson_loop,
    "itertuples": itertuples,
    "iterrows": iterrows,
}


if __name__ == "__main__":
    measure.main(
        __file__,
        CASES,
        prepare,
        against="ours",
        sizes=(100_000, 200_000, 1_000_000),
        finish=finish,
        skip=lambda case, rows: rows != 200_000 and case != "ours",
    )
