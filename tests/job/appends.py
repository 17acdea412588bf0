"""
A process that adds to an output, and stops whenever it has looked at what lies there until it is told to go on.

    python appends.py HOME BASE_URL OUTPUT SOURCE ...

It prints "looked", "began JOB", "over JOB" or "refused WORDS", and goes on after a line of its input.
"""

from __future__ import annotations

import sys
from typing import Any

import dobatch_pandas as dobatch
from dobatch_pandas.errors import InputError
from dobatch_pandas.job import submit as submission

look = submission.appended


def looks(*arguments: Any) -> Any:
    found = look(*arguments)
    print("looked", flush=True)
    sys.stdin.readline()
    return found


def main(home: str, base_url: str, output: str, *files: str) -> None:
    submission.appended = looks
    dobatch.configure(base_url=base_url, token="local", home=home, display=False)
    try:
        job = dobatch.submit_dataset(list(files), "Say {text}", model="echo", output=output, mode="append")
    except InputError as error:
        print("refused", str(error).replace("\n", " "), flush=True)
        return
    print("began", job.id, flush=True)
    job.wait()
    print("over", job.id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
