"""
Many runs of the simulation: ``python -m tests.simulation --seeds 100000`` runs them on all cores and prints figures.

``--trace SEED`` runs one, and prints all that happens in it. ``--deadlines`` plays days with a deadline instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from . import deadlines
from .scenario import Figures, Found, run

CHUNK = 100


def many(first: int, count: int, with_deadline: bool) -> tuple[list[Figures], list[tuple[int, str, str]]]:
    """Run some seeds; return what they were, and what they broke: seed, promise, words."""
    figures: list[Figures] = []
    broken = []
    for seed in range(first, first + count):
        try:
            figures.append(deadlines.run(seed) if with_deadline else run(seed))
        except Found as found:
            broken.append((seed, found.promise, str(found)))
    return figures, broken


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trace", type=int, metavar="SEED", help="run this one only, and print its events")
    parser.add_argument("--deadlines", action="store_true", help="days with a deadline")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.trace is not None:
        try:
            print(
                deadlines.run(arguments.trace) if arguments.deadlines else run(arguments.trace, trace=10**6)
            )
        except Found as found:
            print(found)
            return 1
        return 0
    began = time.monotonic()
    runs = steps = faults = 0
    days = 0.0
    broken: Counter[str] = Counter()
    starts = range(arguments.first, arguments.first + arguments.seeds, CHUNK)
    sizes = [min(CHUNK, arguments.first + arguments.seeds - start) for start in starts]
    outcomes: list[deadlines.Outcome] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for figures, found in pool.map(many, starts, sizes, [arguments.deadlines] * len(sizes)):
            outcomes += [figure for figure in figures if isinstance(figure, deadlines.Outcome)]
            runs += len(figures) + len(found)
            days += sum(f.days for f in figures)
            steps += sum(f.steps for f in figures)
            faults += sum(f.faults for f in figures)
            for seed, promise, words in found:
                broken[promise] += 1
                if broken[promise] <= 3:
                    print(words, file=sys.stderr)
                else:
                    print(f"seed {seed}: ({promise})", file=sys.stderr)
    seconds = time.monotonic() - began
    print(
        f"{runs:,} runs, {steps:,} steps, {faults:,} faults, {days:,.0f} days simulated in {seconds:,.0f} s "
        f"({1000 * seconds / max(runs, 1):.1f} ms a run); violations: {sum(broken.values()):,} {dict(broken)}"
    )
    if arguments.deadlines:
        print(
            f"{sum(o.claimed for o in outcomes):,} deadlines could be met for certain, missed: {broken['deadline']:,}; "
            f"{sum(o.in_real_time for o in outcomes):,} requests in real time; executed twice: {broken['a']:,}; "
            f"over max_cost: {broken['e']:,}; {sum(o.late for o in outcomes):,} days ended late"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
