"""
A home full of finished jobs against an empty one: listing, estimating, and a job of one row.

The number of rows is the number of jobs. Every job asked one question of the same model, so that each of them could have the
answer that is looked for.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
from measure import main, measured

import dobatch_pandas as dobatch
from dobatch_pandas.job.process import close_home, home_here

PORT = 18_765  # answers are looked for among those of the same service
ASKED = {"model": "gpt-4.1-mini", "into": "answer", "display": False}


@contextmanager
def served(home: Path) -> Iterator[None]:
    """A server at an address that stays the same."""
    with dobatch.LocalServer(rate_limit=None, port=PORT, token="local") as server:
        dobatch.configure(base_url=server.url, token="local", home=home, account="bench", display=False)
        yield
        close_home(home)


def prepare(folder: Path, rows: int) -> None:
    """A real job, and as many copies of its folder under other names as there are to be jobs."""
    home = folder / f"home-{rows}"
    if home.exists():
        return
    with served(home):
        first = pd.DataFrame({"q": ["first"]}).dobatch.submit("{q}", **ASKED).wait()
        source = home / "jobs" / first.id
        record = orjson.loads((source / "job.json").read_bytes())
        for number in range(rows - 1):
            copy = home / "jobs" / f"copy-{number:06}"
            shutil.copytree(source, copy)
            changed = {**record, "id": copy.name, "fingerprint": f"{number:032x}"}
            (copy / "job.json").write_bytes(orjson.dumps(changed))
        dobatch.jobs()
        pd.DataFrame({"q": ["again"]}).dobatch.plan("{q}", model="gpt-4.1-mini").estimate()


def _in_home(home: Path, work: Any) -> dict[str, Any]:
    with served(home):
        home_here()  # a kernel opens its home once
        _, cost = measured(work)
        return cost


def _one_row() -> None:
    pd.DataFrame({"q": [uuid.uuid4().hex]}).dobatch.submit("{q}", **ASKED).wait()


def _estimate() -> None:
    pd.DataFrame({"q": ["one question"]}).dobatch.plan("{q}", model="gpt-4.1-mini").estimate()


def listing(folder: Path, rows: int) -> dict[str, Any]:
    """``dobatch.jobs()`` for the first time in a process."""
    return _in_home(folder / f"home-{rows}", dobatch.jobs)


def submit_in_full_home(folder: Path, rows: int) -> dict[str, Any]:
    """Submit a row that was not asked before, and wait for it."""
    return _in_home(folder / f"home-{rows}", _one_row)


def submit_in_empty_home(folder: Path, rows: int) -> dict[str, Any]:
    """The same where there is no other job."""
    with tempfile.TemporaryDirectory() as home:
        return _in_home(Path(home), _one_row)


def estimate_in_full_home(folder: Path, rows: int) -> dict[str, Any]:
    """Estimate a row."""
    return _in_home(folder / f"home-{rows}", _estimate)


def estimate_in_empty_home(folder: Path, rows: int) -> dict[str, Any]:
    """The same where there is no job."""
    with tempfile.TemporaryDirectory() as home:
        return _in_home(Path(home), _estimate)


def finish(every: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """Say what the targets are."""
    return [
        f"{jobs:,} jobs: jobs() takes {found['jobs()']['wall']:.2f} s (target: 0.5), a job of one row "
        f"{found['one row, full home']['wall'] / found['one row, empty home']['wall']:.2f} times as long as in an empty "
        f"home, an estimate {found['estimate, full home']['wall'] / found['estimate, empty home']['wall']:.2f} times "
        "(target: 1.2)"
        for jobs, found in every.items()
    ]


if __name__ == "__main__":
    main(
        __file__,
        {
            "jobs()": listing,
            "one row, full home": submit_in_full_home,
            "one row, empty home": submit_in_empty_home,
            "estimate, full home": estimate_in_full_home,
            "estimate, empty home": estimate_in_empty_home,
        },
        prepare,
        against="one row, empty home",
        sizes=(2_000,),
        finish=finish,
    )
