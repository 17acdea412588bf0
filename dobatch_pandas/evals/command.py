"""``dobatch eval``: score a table, hold it against what is required, and say so by the exit status."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from .grade import KINDS, MATCHES
from .score import score

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``dobatch eval`` takes."""
    parser.add_argument("input", type=Path, help="a .parquet or .csv file with answers and gold")
    parser.add_argument(
        "--predicted", required=True, action="append", help="column of answers; may be repeated"
    )
    parser.add_argument(
        "--actual", required=True, action="append", help="column of gold labels, one for each --predicted"
    )
    parser.add_argument(
        "--kind",
        default=None,
        choices=KINDS,
        help="how values are compared (default: judged by the gold column)",
    )
    parser.add_argument("--match", default=None, choices=list(MATCHES), help="when a text counts as correct")
    parser.add_argument("--tolerance", type=float, default=None, help="how far a number may be off")
    parser.add_argument(
        "--failed",
        default="wrong",
        choices=["wrong", "exclude"],
        help="how rows without an answer count (default: wrong)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=None,
        help="how many answers each row has: PREDICTED, PREDICTED_2 and so on",
    )
    parser.add_argument("--by", action="append", default=[], help="column to slice by; may be repeated")
    parser.add_argument("--cluster", default=None, help="column that says which rows belong together")
    parser.add_argument("--key", default=None, help="column that names rows, by which two runs are paired")
    parser.add_argument(
        "--require", action="append", default=[], metavar="METRIC=VALUE",
        help="what a metric must reach, such as accuracy=0.9; an error such as mae=2 must not be larger; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--against", default=None, help="saved evaluation that this one must not be worse than"
    )
    parser.add_argument(
        "--margin", type=float, default=None, help="how much worse it may be, its interval included"
    )
    parser.add_argument(
        "--save",
        default=None,
        metavar="NAME",
        help="save the evaluation under a name, unless something falls short",
    )
    parser.add_argument("--html", type=Path, default=None, help="write a report to this file")
    parser.epilog = (
        "The exit status is 0 where all that is required holds, and 1 where it does not. Example: "
        "dobatch eval answers.csv --predicted sentiment --actual label --require accuracy=0.9 --against main"
    )


def run(frame: pd.DataFrame, said: argparse.Namespace, told: dict[str, Any] | None = None) -> int:
    """Score, report, require, save; what falls short is raised as `RequirementNotMet`. `told` takes what is for programs."""
    told = {} if told is None else told
    least: dict[str, float] = {}
    for text in said.require:
        name, value = _requirement(text)
        if name in least:
            raise InputError(
                f"--require {name} is given twice, as {least[name]:g} and {value:g}: give it once."
            )
        least[name] = value
    if said.key is not None:
        if said.key not in frame.columns:
            raise InputError(
                f"There is no column {said.key!r}. The columns are: {', '.join(map(repr, frame.columns))}."
            )
        repeated = frame[said.key].duplicated(keep=False)
        if repeated.any():
            raise InputError(
                Problem(
                    f"--key {said.key}: its values repeat, so they do not tell rows apart.",
                    tuple(frame.index[repeated][:10].tolist()),
                    int(repeated.sum()),
                )
            )
        frame = frame.set_index(said.key, drop=False)
    found = score(
        frame,
        said.predicted[0] if len(said.predicted) == 1 else said.predicted,
        said.actual[0] if len(said.actual) == 1 else said.actual,
        kind=said.kind, match=said.match, tolerance=said.tolerance, failed=said.failed, samples=said.samples,
        by=said.by, cluster=said.cluster, name=said.save,
    )  # fmt: skip
    low, high = found.interval
    print(
        f"{found.headline}: {found.accuracy:.1%} [{low:.1%}, {high:.1%}]; {found.correct_words}; {found.failed_words}"
    )
    told.update(
        metrics=found.metrics.to_dict(),
        interval=[low, high],
        correct=found.correct_words,
        failed=found.failed_words,
    )
    print(found.table.to_string(float_format=lambda value: f"{value:.4f}", na_rep=""))
    for note in found.notes:
        print(note)
    if said.html is not None:
        try:
            print(f"Report: {found.to_html(said.html)}")
        except OSError as problem:
            raise InputError(f"--html {said.html} cannot be written: {problem}") from problem
    if least or said.against is not None or said.margin is not None:
        found.require(against=said.against, margin=said.margin, **least)
        print("All that is required holds.")
    if said.save is not None:
        found.save(said.save)
        print(f"Saved as {said.save!r}.")
    return 0


def _requirement(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as problem:
        raise InputError(f"--require {text!r} is not METRIC=VALUE, such as accuracy=0.9.") from problem
