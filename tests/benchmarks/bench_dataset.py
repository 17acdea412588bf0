"""
`submit_dataset` over Parquet files, from call to complete output: memory should not grow with the rows.

The server runs in a process of its own and echoes; the answers are checked against the rows afterwards.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from bench_job import served
from measure import main, measured

import dobatch_pandas as dobatch

ROWS_A_FILE = 100_000
PIECES = ['quote "x"', "line\nbreak", "émoji 🎉", "sep\u2028x", "plain words here", "tab\t", "back\\slash"]


def prepare(folder: Path, rows: int) -> None:
    """Files of 100,000 rows of some 450 characters, each another one."""
    target = folder / f"rows-{rows}"
    if target.exists():
        return
    target.mkdir()
    draw = np.random.default_rng(0)
    texts = [" ".join(PIECES[n] for n in draw.integers(0, len(PIECES), 50)) for _ in range(1000)]
    for first in range(0, rows, ROWS_A_FILE):
        numbers = range(first, min(first + ROWS_A_FILE, rows))
        table = pa.table({"n": list(numbers), "text": [f"{n} {texts[n % 1000]}" for n in numbers]})
        pq.write_table(table, target / f"{first // ROWS_A_FILE:03}.parquet", row_group_size=20_000)


def submit_dataset(folder: Path, rows: int) -> dict[str, Any]:
    """Ask, wait, and have the output on disk."""
    with tempfile.TemporaryDirectory() as home, served() as url:
        dobatch.configure(base_url=url, token="local", home=home, display=False)

        def ask() -> Path:
            output = Path(home) / "output"
            job = dobatch.submit_dataset(
                folder / f"rows-{rows}", "Review: {text}", model="echo", output=output
            )
            job.wait()
            return output

        output, cost = measured(ask)
        found = 0
        for batch in ds.dataset(output).to_batches(columns=["text", "response"]):
            expected = pc.binary_join_element_wise("Review: ", batch["text"].cast(pa.string()), "")
            assert pc.all(pc.equal(expected, batch["response"].cast(pa.string()))).as_py()
            found += len(batch)
        assert found == rows
        return cost


if __name__ == "__main__":
    main(
        __file__,
        {"submit_dataset": submit_dataset},
        prepare,
        against="submit_dataset",
        sizes=(400_000, 2_000_000),
    )
