"""
A process that submits a job and kills itself with SIGKILL at one point of it.

    python killed.py HOME BASE_URL POINT KIND [MEMORY]

With MEMORY, what it synced is remembered there: see `power`.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import power

import dobatch_pandas as dobatch
from dobatch_pandas.answers import join
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.job import render, row_answers, work
from dobatch_pandas.job import submit as submission
from dobatch_pandas.job.home import Home
from dobatch_pandas.job.journal import Journal
from dobatch_pandas.job.machine import Part, State
from dobatch_pandas.service import client

ROWS = 60
PART = 20  # requests in a part, so that a job has several


def frame() -> pd.DataFrame:
    """The rows that are asked: some of them equal."""
    return pd.DataFrame({"text": [f"row {number % 50} – “quoted”" for number in range(ROWS)]})


TEMPLATE = "Echo: {text}"
# What a process that comes later must make just the same requests of.
KINDS: dict[str, dict[str, Any]] = {
    "template": {"prompt": TEMPLATE},
    "schema": {"prompt": TEMPLATE, "schema": {"reason": str, "label": ["pos", "neg"]}},
    "messages": {
        "prompt": [
            {"role": "system", "content": "Repeat."},
            {"role": "user", "content": [{"type": "text", "text": TEMPLATE}]},
        ],
        "stop": ["\n\n", "END"],
        "logit_bias": {"50256": -100, "11": 1},
    },
    "function": {"prompt": lambda row: f"Echo: {row.text}"},
    "samples": {"prompt": TEMPLATE, "samples": 2},
}


def submit(kind: str) -> dobatch.Job:
    """The cell that runs, is killed, and runs again."""
    OPENAI.file_limits = FileLimits(requests=PART, bytes=200_000_000)
    asked = dict(KINDS[kind])
    return frame().dobatch.submit(asked.pop("prompt"), model="echo", into="answer", **asked)


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


def becoming(state: str) -> Callable[..., bool]:
    """Match a line of the journal in which a part comes into a state."""

    def matches(_journal: Journal, before: State, after: State, **_: Any) -> bool:
        nothing = Part(0, 0, state="read")
        return any(
            part.state == state and (state == "rendered" or before.parts.get(number, nothing).state != state)
            for number, part in after.parts.items()
            if part is not before.parts.get(number)
        )

    return matches


def once(name: str) -> Callable[..., bool]:
    """Match a line of the journal that sets what a job did not have before."""
    return lambda _journal, before, after, **_: not getattr(before, name, None) and bool(getattr(after, name))


Api = client.Client


def journal(when: str, having: Callable[..., bool], nth: int = 1) -> Callable[[], None]:
    """Die before or after the nth line of the journal that matches."""
    return lambda: strike(Journal, "record", when, nth, having)


POINTS: dict[str, Callable[[], None]] = {
    "before the input is written": lambda: strike(submission, "write_input", "before"),
    "after the input is written": lambda: strike(submission, "write_input", "after"),
    "before the job is recorded": lambda: strike(Home, "add_job", "before"),
    "after the job is recorded": lambda: strike(Home, "add_job", "after"),
    "rendered, part not recorded": journal("before", becoming("rendered")),
    "before a part's manifest": lambda: strike(render, "record_part", "before", 2),
    "first part recorded": journal("after", becoming("rendered")),
    "second part recorded": journal("after", becoming("rendered"), 2),
    "before the manifest is recorded": journal("before", once("rendered")),
    "after the manifest is recorded": journal("after", once("rendered")),
    "before a file intent": lambda: strike(Api, "create_file", "before"),
    "after a file intent": lambda: strike(Api, "create_file", "after", 2),
    "mid-upload": lambda: strike_moving(Api, "send_file"),
    "uploaded, not recorded": journal("before", becoming("uploaded")),
    "uploaded and recorded": journal("after", becoming("uploaded")),
    "before create": lambda: strike(Api, "create_batch", "before", 2),
    "create sent, answer lost": lambda: strike(Api, "create_batch", "after"),
    "created, not recorded": journal("before", becoming("created"), 2),
    "created and recorded": journal("after", becoming("created")),
    "before a part is compressed": lambda: strike(work, "compress_part", "before"),
    "after a part is compressed": lambda: strike(work, "compress_part", "after"),
    "looking": lambda: strike(work.Workers, "_look_at", "before"),
    "ended, not recorded": journal("before", becoming("ended")),
    "ended and recorded": journal("after", becoming("ended")),
    "before the result links": lambda: strike(Api, "get_results", "before"),
    "after the result links": lambda: strike(Api, "get_results", "after"),
    "mid-download": lambda: strike_moving(Api, "download"),
    "fetched and recorded": journal("after", becoming("fetched"), 2),
    "before results are written": lambda: strike(row_answers, "read_part_into", "before"),
    "after results are written": lambda: strike(row_answers, "read_part_into", "after", 2),
    "read and recorded": journal("after", becoming("read")),
    "before the end is recorded": journal("before", once("ended")),
    "after the end is recorded": journal("after", once("ended")),
    "mid-join": lambda: strike(join, "joined", "before"),
}


if __name__ == "__main__":
    home, base_url, point, kind, *memory = sys.argv[1:]
    for folder in memory:
        power.remember(Path(home), Path(folder))
    dobatch.configure(home=home, base_url=base_url, token="local", display=False)
    POINTS[point]()
    frame().dobatch.join(submit(kind))
