"""A comparison in one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .findings import Noise
from .significance import LEAST_CLUSTERS, LEAST_ROWS, p_words

__all__ = ["WORDS", "Settled", "notes", "points", "sentence"]

#: What a table says where the sentence says it at length.
WORDS = {1: "better", -1: "worse", 0: "not told"}


@dataclass(frozen=True)
class Settled:
    """What every line of a comparison has in common."""

    metric: str
    test: str
    alpha: float
    power: float
    band: float
    clusters: int | None
    needed: tuple[float, float]
    needed_as_seen: float
    smallest: float


def sentence(table: pd.DataFrame, said: Settled) -> tuple[str, int]:
    """Return the verdict in words, and the last run's sign: 1 better, -1 worse, 0 not told apart."""
    rows = int(table["rows"].iloc[0])
    if not rows:
        return "No row is in every run, so there is nothing to compare", 0
    signs = {word: sign for sign, word in WORDS.items()}
    lines = table.iloc[1:]
    sign = signs[str(lines["verdict"].iloc[-1])]
    if len(lines) == 1:
        return _of_two(table, rows, sign, said), sign
    first, parts = str(table.index[0]), []
    for word, verb in (
        ("better", "better than"),
        ("worse", "worse than"),
        ("not told", "not told apart from"),
    ):
        names = [str(name) for name, found in lines["verdict"].items() if found == word]
        if names:
            parts.append(f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} {verb} {first}")
    few = f" ({_too_few(rows, said.clusters)})" if _too_few(rows, said.clusters) else ""
    return f"On {rows:,} rows, {'; '.join(parts)}{few}", sign


def points(value: float, metric: str, *, sign: bool = True) -> str:
    """A difference as people read it: percentage points of an accuracy, else the number."""
    text = (
        f"{value * 100:{'+' if sign else ''}.1f}"
        if metric == "accuracy"
        else f"{value:{'+' if sign else ''}.3g}"
    )
    return text.replace("-", "−")


def _too_few(rows: int, clusters: int | None) -> str:
    if rows < LEAST_ROWS:
        return f"{rows} row{'s are' if rows > 1 else ' is'} too few for a verdict, which takes {LEAST_ROWS}"
    if clusters is not None and clusters < LEAST_CLUSTERS:
        return f"{clusters} clusters are too few for a verdict, which takes {LEAST_CLUSTERS}"
    return ""


def _of_two(table: pd.DataFrame, rows: int, sign: int, said: Settled) -> str:
    first, name = map(str, table.index)
    before, line = table.iloc[0], table.iloc[1]
    accuracy = said.metric == "accuracy"
    unit = " points" if accuracy else f" {said.metric.upper()}"
    low, high = float(line["difference_low"]), float(line["difference_high"])
    interval = (
        f"{1 - said.alpha:.0%} CI {points(low, said.metric)} to {points(high, said.metric)}"
        if math.isfinite(low) and math.isfinite(high)
        else "no interval can be told"
    )
    if accuracy and not line["wins"] and not line["losses"]:
        size = f"{interval}{unit}" if math.isfinite(low) else interval
        return f"{name} and {first} are right on the same rows, all {rows:,} of them: no difference to tell ({size})"
    n = f"n = {rows:,}" + (f" in {said.clusters:,} clusters" if said.clusters is not None else "")
    values = f"{before['value']:.1%}" if accuracy else f"{before['value']:.4g}"
    ours = f"{line['value']:.1%}" if accuracy else f"{line['value']:.4g}"
    seen = f"{ours} against {values}, {points(line['difference'], said.metric)}{unit}"
    tail = f"({interval}, {n}, {said.test} p {p_words(float(line['p']))})"
    if sign:
        return f"{name} is {'better' if sign > 0 else 'worse'} than {first}: {seen} {tail}"
    head = f"{name} and {first} cannot be told apart: {seen} {tail}"
    few = _too_few(rows, said.clusters)
    if few:
        return f"{head}; {few}"
    if accuracy and line["p_holm"] < said.alpha and abs(line["difference"]) <= said.band:
        head += (
            f", no more than the ±{points(said.band, 'accuracy', sign=False)} points that asking again gives"
        )
    return head + _ahead(rows, said)


def _ahead(rows: int, said: Settled) -> str:
    """How many rows would tell, and what these can."""
    words = ""
    if math.isfinite(said.needed_as_seen):
        low, high = said.needed
        upper = f"to {_two_digits(high):,.0f}" if high <= 1e6 else "to more than 1,000,000"
        words = (
            f"; about {_two_digits(said.needed_as_seen):,.0f} rows would be needed to tell a difference of this "
            f"size ({said.power:.0%} power), but with its interval that may be anything from "
            f"{_two_digits(low):,.0f} {upper} rows"
        )
    if said.metric == "accuracy" and math.isfinite(said.smallest):
        words += f"; these {rows:,} can tell {points(said.smallest, 'accuracy', sign=False)} points and more"
    return words


def _two_digits(rows: float) -> float:
    """12,148 rows would be more exact than a power calculation is; never rounded down."""
    if rows < 100 or not math.isfinite(rows):
        return rows
    step = 10 ** (math.floor(math.log10(rows)) - 1)
    return float(math.ceil(rows / step) * step)


def notes(noise: Noise | None, band: float, unmatched: pd.DataFrame, rows: int) -> list[str]:
    """What a reader of the verdict should know besides."""
    found = []
    if noise is not None and math.isfinite(band):
        source = (
            f"measured on {noise.pairs:,} pairs of identical requests" if noise.pairs else "as noise= has it"
        )
        found.append(
            f"Asked again, {noise.outcomes:.1%} of rows change whether they are correct ({source}); that alone "
            f"moves the accuracy of {rows:,} rows by up to ±{band * 100:.1f} points."
        )
    elif noise is None:
        found.append(
            "Run-to-run variation was not measured. Submit with samples=2 to see whether the difference "
            "exceeds it."
        )
    if len(unmatched):
        reasons = unmatched.apply(_reason, axis=1).value_counts()
        words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        found.append(
            f"{len(unmatched):,} row{'s' if len(unmatched) > 1 else ''} could not be paired: {words}."
        )
    return found


def _reason(line: pd.Series[Any]) -> str:
    words = [f"{why} in {run}" for run, why in line.items() if why != "counted"]
    return "; ".join(words) or "failed in a run, so it has no error to measure"
