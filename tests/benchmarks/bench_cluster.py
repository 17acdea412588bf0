"""
One job over a Dask frame against the same rows as a pandas frame, from submit to every answer on its row.

Workers are processes of this machine, so that more of them than cores only show what they cost. Three rows of ten are equal to
one of another partition. CPU seconds are the client's and the workers'; the server has a process of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import dask
from bench_job import served
from measure import main, measured

import dobatch_pandas as dobatch
import dobatch_pandas.dask

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
from at_size import frame_of, workers_here


def ask(frame: Any) -> int:
    """Submit, wait, join; returns how many rows have the right answer."""
    job = frame.dobatch.submit("Say {text}", model="echo", into="said")
    joined = frame.dobatch.join(job)
    right = joined["said"] == "Say " + joined["text"]
    total = right.sum()
    return int(total.compute() if hasattr(total, "compute") else total)


def single(folder: Path, rows: int) -> dict[str, Any]:
    """The rows as a pandas frame."""
    frame = frame_of(rows, 20).compute(scheduler="synchronous")
    with tempfile.TemporaryDirectory() as home, served() as url:
        dobatch.configure(base_url=url, token="local", home=home, display=False)
        right, cost = measured(lambda: ask(frame), warm=lambda: ask(frame.head(5).assign(text="warm")))
        assert right == rows
        return cost


def cluster(workers: int, partitions: int, folder: Path, rows: int) -> dict[str, Any]:
    """The rows as a Dask frame of so many partitions, and so many workers."""
    dask.config.set({"distributed.worker.memory.terminate": False})
    frame = frame_of(rows, partitions)
    with tempfile.TemporaryDirectory() as home, served() as url, workers_here(workers) as client:
        dobatch.configure(base_url=url, token="local", home=home, display=False)
        ask(frame_of(50, 5))
        before = sum(client.run(time.process_time).values())
        right, cost = measured(lambda: ask(frame))
        assert right == rows
        cost["cpu"] += sum(client.run(time.process_time).values()) - before
        return cost


CASES = {
    "20 partitions, 1 worker": partial(cluster, 1, 20),
    "20 partitions, 4 workers": partial(cluster, 4, 20),
    "2,000 partitions, 4 workers": partial(cluster, 4, 2000),
    "pandas frame": single,
}


if __name__ == "__main__":
    main(
        __file__,
        CASES,
        lambda folder, rows: None,
        against="pandas frame",
        sizes=(100_000,),
    )
