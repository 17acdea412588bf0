"""
Fair figures on a noisy machine: every case in a process of its own, all cases taking turns, medians.

A benchmark is a script with functions. Run without arguments it measures them all; run with ``--case NAME``
it is the process of one case, which prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["WORDS", "Case", "main", "measured", "table"]

WORDS = [
    "the",
    "quick",
    '"brown"',
    "fox",
    "said:",
    "I",
    "cannot",
    "recommend",
    "this\nproduct",
    "🙂",
    "because",
    "café",
    "\u2028",
    "it",
    "was",
    "delivered",
    "late",
    "and",
    "the",
    "colour",
    "was",
    "wrong",
    "but",
    "otherwise",
    "everything",
    "is",
    "fine",
    "and",
    "I",
    "would",
    "buy",
    "it",
    "again",
]
"""What texts are made of: quotes, newlines, emoji and U+2028 among them."""

Case = Callable[[Path, int], dict[str, Any]]
"""Does its own preparation, then times one thing with `measured`. Takes a folder for files, and the rows."""


def measured(
    work: Callable[[], Any], *, warm: Callable[[], Any] | None = None
) -> tuple[Any, dict[str, float]]:
    """
    Do the work once and say what it cost.

    Parameters
    ----------
    work : callable
    warm : callable, optional
        The same on very little data, so that imports and the like are not counted.

    Returns
    -------
    result : object
        What ``work`` returned.
    cost : dict
        ``wall`` and ``cpu`` in seconds, ``peak_mb``: by how much the process grew beyond what it held before.
    """
    if warm is not None:
        warm()
    gc.collect()
    _awaken_memory()
    # Forgets the highest mark so far. `getrusage` would not do: its mark is handed down from the parent process.
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return result, {"wall": wall, "cpu": cpu, "peak_mb": (_status("VmHWM") - held) / 1e6}


def _awaken_memory() -> None:
    """
    Touch what memory a case may need and give it back, so that it is as cheap for each as on a plain machine.

    Small virtual machines hand idle memory back to their host within seconds; to be given it again can cost
    more than what is measured, and costs most for whoever comes after a pause.
    """
    free = next(line for line in Path("/proc/meminfo").read_text().split("\n") if line.startswith("MemAvail"))
    memory = np.empty(min(4 << 30, int(free.split()[1]) * 1024 // 2), np.uint8)
    memory[::4096] = 1


def _status(name: str) -> int:
    """A figure of this process in bytes, as Linux counts it."""
    line = next(line for line in Path("/proc/self/status").read_text().split("\n") if line.startswith(name))
    return int(line.split()[1]) * 1024


def _once(script: Path, case: str, folder: Path, rows: int) -> dict[str, Any]:
    command = [sys.executable, str(script), "--case", case, "--folder", str(folder), "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def table(results: dict[str, dict[str, Any]], against: str) -> str:
    """The figures as text: medians, and each case's time as a multiple of ``against``'s."""
    base = results[against]
    lines = [f"{'case':<34}{'wall s':>9}{'cpu s':>9}{'peak MB':>9}{'wall x':>9}{'cpu x':>9}"]
    for name, cost in results.items():
        lines.append(
            f"{name:<34}{cost['wall']:>9.3f}{cost['cpu']:>9.3f}{cost['peak_mb']:>9.0f}"
            f"{cost['wall'] / base['wall']:>9.2f}{cost['cpu'] / base['cpu']:>9.2f}"
        )
    return "\n".join(lines)


def main(
    script: str,
    cases: dict[str, Case],
    prepare: Callable[[Path, int], None],
    *,
    against: str,
    sizes: Sequence[int] = (200_000,),
    finish: Callable[[dict[int, dict[str, dict[str, Any]]]], list[str]] | None = None,
    skip: Callable[[str, int], bool] = lambda case, rows: False,
) -> None:
    """
    The command line of a benchmark.

    Parameters
    ----------
    script : str
        The benchmark's ``__file__``.
    cases : dict of str to callable
        What is measured.
    prepare : callable
        Makes the input files once for a number of rows; called as ``prepare(folder, rows)``.
    against : str
        The case whose time is 1 in the table.
    sizes : sequence of int
        Numbers of rows.
    finish : callable, optional
        Takes the medians by rows and case; returns lines to print, such as targets met.
    skip : callable, optional
        Whether a case is left out for a number of rows.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--case")
    parser.add_argument("--folder", type=Path, default=Path("benchmark-data"))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures are written as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(cases[arguments.case](arguments.folder, arguments.rows)))
        return
    every: dict[int, dict[str, dict[str, Any]]] = {}
    for rows in [arguments.rows] if arguments.rows else sizes:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        prepare(arguments.folder, rows)
        names = [name for name in cases if not skip(name, rows)]
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            for name in names:
                runs[name].append(_once(Path(script), name, arguments.folder, rows))
        every[rows] = {
            name: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for name, found in runs.items()
        }
        print(
            f"\n{rows:,} rows, median of {arguments.rounds} interleaved runs\n{table(every[rows], against)}"
        )
    for line in finish(every) if finish else []:
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
