"""
Many jobs in one kernel, one after the other: what each of them leaves behind in sockets, threads and memory.

    python bench_kernel.py [--jobs 500]

The embedded server runs in a process of its own. Figures are taken after the first tenth and after the last job, once
threads without work have ended; what grows with the jobs done is printed, and the exit status says whether anything does.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
from bench_job import served

import dobatch_pandas as dobatch
from dobatch_pandas.job.work import IDLE

A_JOB = 20_000  # bytes that a job may leave in memory: below what the allocators' own noise is over hundreds


def held() -> dict[str, int]:
    """What this process has now."""
    time.sleep(IDLE + 2.0)
    gc.collect()
    handles = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.split("\n") if line.startswith("VmRSS")).split()[1]
    return {
        "sockets": sum(handle.startswith("socket:") for handle in handles),
        "files": sum(handle.startswith("/") for handle in handles),
        "threads": threading.active_count(),
        "memory": int(resident) * 1024,
    }


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    jobs = parser.parse_args().jobs
    first = max(jobs // 10, 1)
    with tempfile.TemporaryDirectory() as home, served() as url:
        dobatch.configure(base_url=url, token="local", home=home, display=False)
        before: dict[str, int] = {}
        began = time.monotonic()
        for number in range(jobs):
            frame = pd.DataFrame({"q": [f"question {number}"]})
            answered = frame.dobatch.join(frame.dobatch.submit("{q}", model="echo", into="a"))
            assert answered["a"].tolist() == [f"question {number}"]
            if number + 1 == first:
                before = held()
        seconds = time.monotonic() - began
        after = held()
    grown = {name: after[name] - before[name] for name in after}
    print(f"{jobs:,} jobs in {seconds:,.0f} s")
    for name, now in after.items():
        print(f"{name:<8} {before[name]:>12,} after {first:,} jobs {now:>12,} after {jobs:,}")
    flat = max(grown["sockets"], grown["files"], grown["threads"]) <= 0
    flat = flat and grown["memory"] <= A_JOB * (jobs - first)
    print("flat" if flat else f"grown: {grown}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
