"""A comparison in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from .evaluation import Noise

__all__ = ["notes", "p_words", "verdict"]


def verdict(
    table: pd.DataFrame,
    *,
    metric: str,
    alpha: float,
    band: float,
    needed: float,
    smallest: float,
    power: float,
) -> tuple[str, int]:
    """
    Return the sentence, and 1, -1 or 0: the last run is better, is worse, or cannot be told apart.

    A difference in accuracy is more than noise when McNemar's exact test says so (corrected by Holm's method
    for more than two runs) and it lies beyond the band that repeated identical requests give. Other
    metrics are told by the bootstrap interval alone.
    """
    rows = int(table["rows"].iloc[0])
    if not rows:
        return "No row is in every run, so there is nothing to compare", 0
    first, lines = str(table.index[0]), table.iloc[1:]
    if len(lines) == 1:
        line = lines.iloc[0]
        sign = told(line, metric, alpha, band)
        return _of_two(first, line, metric, rows, sign, alpha, band, needed, smallest, power), sign
    signs = {str(name): told(line, metric, alpha, band) for name, line in lines.iterrows()}
    parts = []
    for sign, words in ((1, "better than"), (-1, "worse than"), (0, "not told apart from")):
        names = [name for name, found in signs.items() if found == sign]
        if names:
            verb = "are" if len(names) > 1 else "is"
            parts.append(f"{' and '.join(names)} {verb} {words} {first}")
    return f"On {rows:,} rows, {'; '.join(parts)}", list(signs.values())[-1]


def told(line: pd.Series[Any], metric: str, alpha: float, band: float) -> int:
    """Return 1 where the run is better than the first by more than noise, -1 where it is worse, else 0."""
    difference = float(line["difference"])
    if metric == "accuracy":
        sure = line["p_holm"] < alpha and not abs(difference) <= band
    else:
        sure = line["difference_low"] > 0 or line["difference_high"] < 0
    if not sure or not difference:
        return 0
    return 1 if (difference > 0) == (metric != "mae") else -1


def _of_two(
    first: str,
    line: pd.Series[Any],
    metric: str,
    rows: int,
    sign: int,
    alpha: float,
    band: float,
    needed: float,
    smallest: float,
    power: float,
) -> str:
    name, share = str(line.name), metric == "accuracy"

    def amount(value: float, signed: bool = True) -> str:
        return f"{value * 100:{'+' if signed else ''}.1f}" if share else f"{value:{'+' if signed else ''}.3g}"

    difference, unit = float(line["difference"]), " points" if share else f" {metric.upper()}"
    if share and not line["wins"] and not line["losses"]:
        return f"{name} and {first} are right on the same rows, all {rows:,} of them: no difference to tell"
    interval = (
        f"{1 - alpha:.0%} interval {amount(line['difference_low'])} to {amount(line['difference_high'])}"
    )
    p = f", McNemar's exact p {p_words(float(line['p']))}" if share else ""
    seen = f"{amount(difference)}{unit} on {rows:,} rows ({interval}{p})"
    if sign:
        return f"{name} is {'better' if sign > 0 else 'worse'} than {first}, and by more than noise: {seen}"
    why = "no more than noise can give"
    if share and line["p_holm"] < alpha:
        why = f"no more than the ±{amount(band, signed=False)} points that asking the same again gives"
    if not math.isfinite(needed):
        return f"{name} and {first} cannot be told apart: {seen}, {why}"
    ahead = (
        f"about {_two_digits(needed):,.0f} rows would be needed to tell a difference of this size "
        f"({power:.0%} power)"
    )
    if share and math.isfinite(smallest):
        ahead += f"; these {rows:,} can tell {amount(smallest, signed=False)} points and more"
    return f"{name} and {first} cannot be told apart: {seen}, {why}; {ahead}"


def p_words(p: float) -> str:
    """``= 0.012``, or ``< 0.0001`` where more digits would say no more."""
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"


def _two_digits(rows: float) -> float:
    """12,148 rows would be more exact than a power calculation is."""
    return round(rows, 1 - math.floor(math.log10(rows))) if rows >= 100 else rows


def notes(noise: Noise | None, band: float, unmatched: pd.DataFrame, rows: int) -> list[str]:
    """What a reader of the verdict should know besides."""
    found = []
    if noise is not None and math.isfinite(band):
        source = (
            f"measured on {noise.pairs:,} pairs of identical requests" if noise.pairs else "as said by noise="
        )
        found.append(
            f"Asked the same again, {noise.outcomes:.1%} of rows change whether they are right "
            f"({source}); that alone moves the accuracy of {rows:,} rows by up to ±{band * 100:.1f} points."
        )
    elif noise is None:
        found.append(
            "The model's own noise is not known: ask with samples=2, or give noise=, for a baseline."
        )
    if len(unmatched):
        reasons = unmatched.apply(
            lambda line: (
                "; ".join(f"{why} in {run}" for run, why in line.items() if why != "counted")
                or "failed in a run, so it has no error to measure"
            ),
            axis=1,
        ).value_counts()
        words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        found.append(f"{len(unmatched):,} rows could not be paired: {words}.")
    return found
