"""
A process that submits a job and kills itself with SIGKILL at one point of it.

    python killed.py HOME BASE_URL POINT
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd

import dobatch_pandas as dobatch
from dobatch_pandas.job import collector, runner, sender, store
from dobatch_pandas.job import submit as submission
from dobatch_pandas.questions import part_files
from dobatch_pandas.service import client

ROWS = 60
PART = 20  # requests in a part, so that a job has several


def frame() -> pd.DataFrame:
    """The rows that are asked: some of them equal."""
    return pd.DataFrame({"text": [f"row {number % 50} – “quoted”" for number in range(ROWS)]})


def submit() -> dobatch.Job:
    """The cell that runs, is killed, and runs again."""
    part_files.FILE_LIMITS["openai"] = part_files.FileLimits(requests=PART, bytes=200_000_000)
    return frame().dobatch.submit("Echo: {text}", model="echo", into="answer")


def die() -> None:
    """End as a power cut ends it: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def strike(owner: Any, name: str, when: str, nth: int = 1, having: Callable[..., bool] | None = None) -> None:
    """Die before or after the nth call of a function that matches."""
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        struck = (having is None or having(*args, **kwargs)) and next(calls) == nth
        if struck and when == "before":
            die()
        result = original(*args, **kwargs)
        if struck:
            die()
        return result

    setattr(owner, name, wrapped)


def strike_moving(owner: Any, name: str) -> None:
    """Die when the first bytes of a transfer have moved."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, on_progress: Any = None, **kwargs: Any) -> Any:
        return original(*args, on_progress=lambda *_: die(), **kwargs)

    setattr(owner, name, wrapped)


def changing(**wanted: Any) -> Callable[..., bool]:
    """Match a write to the ledger that sets these values."""
    return lambda *_args, **changes: all(changes.get(name) == value for name, value in wanted.items())


Ledger, Api = store.Store, client.Client
POINTS: dict[str, Callable[[], None]] = {
    "before the input is written": lambda: strike(submission, "write_input", "before"),
    "after the input is written": lambda: strike(submission, "write_input", "after"),
    "before the job is recorded": lambda: strike(Ledger, "add_job", "before"),
    "after the job is recorded": lambda: strike(Ledger, "add_job", "after"),
    "rendered, part not recorded": lambda: strike(Ledger, "add_parts", "before"),
    "first part recorded": lambda: strike(Ledger, "add_parts", "after"),
    "second part recorded": lambda: strike(Ledger, "add_parts", "after", 2),
    "before the manifest is recorded": lambda: strike(
        Ledger, "update_job", "before", having=changing(rendered=1)
    ),
    "after the manifest is recorded": lambda: strike(
        Ledger, "update_job", "after", having=changing(rendered=1)
    ),
    "before a file intent": lambda: strike(Api, "create_file", "before"),
    "after a file intent": lambda: strike(Api, "create_file", "after", 2),
    "mid-upload": lambda: strike_moving(Api, "send_file"),
    "uploaded, not recorded": lambda: strike(
        Ledger, "update_part", "before", having=changing(state="uploaded")
    ),
    "uploaded and recorded": lambda: strike(
        Ledger, "update_part", "after", having=changing(state="uploaded")
    ),
    "before create": lambda: strike(Api, "create_batch", "before", 2),
    "create sent, answer lost": lambda: strike(Api, "create_batch", "after"),
    "created, not recorded": lambda: strike(
        Ledger, "update_part", "before", 2, having=changing(state="created")
    ),
    "created and recorded": lambda: strike(Ledger, "update_part", "after", having=changing(state="created")),
    "before a part is compressed": lambda: strike(sender, "compress_part", "before"),
    "after a part is compressed": lambda: strike(sender, "compress_part", "after"),
    "polling": lambda: strike(runner.Runner, "_see", "before"),
    "ended and recorded": lambda: strike(Ledger, "update_part", "after", having=changing(state="ended")),
    "before the result links": lambda: strike(Api, "get_results", "before"),
    "after the result links": lambda: strike(Api, "get_results", "after"),
    "mid-download": lambda: strike_moving(Api, "download"),
    "before results are written": lambda: strike(collector, "write_results", "before"),
    "after results are written": lambda: strike(collector, "write_results", "after", 2),
    "before the end is recorded": lambda: strike(
        Ledger, "update_job", "before", having=changing(state="completed")
    ),
    "after the end is recorded": lambda: strike(
        Ledger, "update_job", "after", having=changing(state="completed")
    ),
    "mid-join": lambda: strike(dobatch.accessor, "joined", "before"),
}


if __name__ == "__main__":
    home, base_url, point = sys.argv[1:]
    dobatch.configure(home=home, base_url=base_url, token="local", display=False)
    POINTS[point]()
    frame().dobatch.join(submit())
