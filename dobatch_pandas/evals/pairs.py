"""Which of two answers a judge prefers, and how much of that is the order they stood in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .extras import need
from .metrics import share
from .paired import paired_interval
from .verdict import p_words

__all__ = ["Pairwise", "pairwise"]


@dataclass(frozen=True, repr=False, eq=False)
class Pairwise:
    """
    The outcome of a pairwise judgement, every pair asked in both orders.

    Attributes
    ----------
    rows : pandas.DataFrame
        A line a row, on the frame's index: winner (a name, ``tie``, ``inconsistent``, or null where the judge
        failed), the pick and the reason of each order, error.
    counts : pandas.Series
        Rows by winner; ``failed`` are those that were not judged in both orders.
    win_rate, win_interval : float and (float, float)
        The first name's share of the rows that have a winner, with its Wilson interval.
    p : float
        Of the exact binomial test that both win equally often.
    position_bias, position_interval : float and (float, float)
        How often the answer that stands first is picked, a tie being half a pick: 0.5 is no bias. Its
        bootstrap interval is over rows, since the two picks of a row belong together.
    position_p : float
        Of the exact sign test that as many rows lean to the first place as to the second.
    consistency, consistency_interval : float and (float, float)
        Share of rows on which both orders agree, with its Wilson interval.
    """

    names: tuple[str, str]
    rows: pd.DataFrame
    counts: pd.Series[Any]
    win_rate: float
    win_interval: tuple[float, float]
    p: float
    position_bias: float
    position_interval: tuple[float, float]
    position_p: float
    consistency: float
    consistency_interval: tuple[float, float]
    confidence: float = 0.95

    @property
    def verdict(self) -> str:
        """One sentence: who wins, by more than chance or not, and what the order does."""
        judged = int(self.counts.sum() - self.counts["failed"])
        if not judged:
            return "No row was judged in both orders"
        first, second = self.names
        wins, losses = int(self.counts[first]), int(self.counts[second])
        low, high = self.win_interval
        tail = f"{wins:,} to {losses:,} of {judged:,} rows; the other rows are ties or depend on the order"
        if not wins + losses:
            head = f"{first} and {second} cannot be told apart: {tail}"
        else:
            rate = f"{self.win_rate:.1%} [{low:.1%}, {high:.1%}], p {p_words(self.p)}"
            if self.p < 1 - self.confidence:
                better, worse = self.names if wins > losses else self.names[::-1]
                head = (
                    f"{better} is preferred to {worse}, and by more than chance ({first} wins {rate}): {tail}"
                )
            else:
                head = f"{first} and {second} cannot be told apart ({first} wins {rate}): {tail}"
        return head

    @property
    def order_words(self) -> str:
        """What the order of the answers does."""
        low, high = self.position_interval
        if math.isnan(self.position_bias):
            return "Position bias is not known"
        biased = self.position_p < 1 - self.confidence
        which = "first" if self.position_bias > 0.5 else "second"
        words = f"the judge leans to whichever stands {which}" if biased else "no position bias can be told"
        return (
            f"The answer standing first is picked in {self.position_bias:.1%} [{low:.1%}, {high:.1%}] of the "
            f"cases (50% is no bias): {words}; both orders agree on {self.consistency:.1%} of rows"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as lines: value, low, high."""
        lines = {
            "win_rate": (self.win_rate, *self.win_interval),
            "position_bias": (self.position_bias, *self.position_interval),
            "consistency": (self.consistency, *self.consistency_interval),
        }
        return pd.DataFrame.from_dict(lines, orient="index", columns=["value", "low", "high"]).rename_axis(
            "metric"
        )

    def __repr__(self) -> str:
        return f"<Pairwise: {self.verdict}. {self.order_words}>"

    def _repr_html_(self) -> str:
        from . import report

        lines = [[escape(str(name)), f"{count:,}"] for name, count in self.counts.items()]
        counts = report.table(["winner", "rows"], lines)
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>'
            f'<p class="head">{escape(self.verdict)}.</p>'
            f'<p class="soft">{escape(self.order_words)}.</p>{counts}</div>'
        )


def pairwise(
    result: Any,
    *,
    names: tuple[str, str] = ("response", "versus"),
    into: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Pairwise:
    """
    Return which answer wins on each row, and the judge's position bias.

    Parameters
    ----------
    result : Job or pandas.DataFrame
        The job that `judge` gave with ``versus=``, or its ``result()``: the frame's rows with one order, then
        the same rows with the other.
    names : (str, str)
        What to call the answers of ``response`` and ``versus``.
    into : str, optional
        The verdict's column, as given to `judge`; a job knows its own, in a frame it is ``"judge"`` by default.
    confidence, seed : float, int
        Of the intervals and of the bootstrap.

    Raises
    ------
    InputError
        The frame is not what a pairwise judgement gives.
    """
    found = result
    if not isinstance(result, pd.DataFrame):
        found, into = result.result(), into or result.recipe.into
    into = into or "judge"
    half = len(found) // 2
    if into not in found.columns or len(found) % 2 or not found.index[:half].equals(found.index[half:]):
        raise InputError(
            f"This is not the result of a pairwise judgement into {into!r}: it has to hold every row twice, "
            "one order after the other. Give the job of judge(..., versus=...) or its result()."
        )
    if len(set(names) | {"tie", "inconsistent", "failed"}) != 5:
        raise InputError(f"names={names!r} must be two different names, none of tie, inconsistent, failed.")
    one, two = found.iloc[:half], found.iloc[half:]
    # In the second order the answers have changed places.
    picks = [_picks(one[into], names), _picks(two[into], names[::-1])]
    both = np.array([a is not None and b is not None for a, b in zip(*picks, strict=True)], dtype=bool)
    winner = [_winner(a, b) for a, b in zip(*picks, strict=True)]
    rows = pd.DataFrame(
        {"winner": winner, "first_order": picks[0], "second_order": picks[1]},
        index=one.index,
        dtype="string",
    )
    for number, part in enumerate((one, two), 1):
        for name in ("reason", "error"):
            if f"{into}_{name}" in part.columns:
                rows[f"{name}_{number}"] = part[f"{into}_{name}"].array
    counts = rows["winner"].value_counts().reindex([*names, "tie", "inconsistent"], fill_value=0)
    counts["failed"] = int((~both).sum())
    wins, losses = int(counts[names[0]]), int(counts[names[1]])
    stats = need("scipy.stats", "Comparing answers")
    rate, *interval = share(wins, wins + losses, confidence)
    same = int(sum(a == b for a, b in zip(*picks, strict=True) if a is not None and b is not None))
    agreed, *agreed_interval = share(same, int(both.sum()), confidence)
    place = _first_share(one[into], two[into])[both]
    leaning = [int((place > 0.5).sum()), int((place < 0.5).sum())]
    low, high = paired_interval(
        np.zeros(len(place)), place, confidence=confidence, resamples=9_999, seed=seed
    )
    return Pairwise(
        names=names,
        rows=rows,
        counts=counts.astype(int),
        win_rate=rate,
        win_interval=(interval[0], interval[1]),
        p=float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else math.nan,
        position_bias=float(place.mean()) if len(place) else math.nan,
        position_interval=(low, high),
        position_p=float(stats.binomtest(leaning[0], sum(leaning)).pvalue) if sum(leaning) else 1.0,
        consistency=agreed,
        consistency_interval=(agreed_interval[0], agreed_interval[1]),
        confidence=confidence,
    )


def _picks(verdicts: pd.Series[Any], names: tuple[str, str]) -> list[str | None]:
    meaning = {"first": names[0], "second": names[1], "tie": "tie"}
    return [meaning.get(str(verdict)) for verdict in verdicts.astype(object)]


def _winner(one: str | None, two: str | None) -> str | None:
    if one is None or two is None:
        return None
    return one if one == two else "inconsistent"


def _first_share(one: pd.Series[Any], two: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """How much of a row's two picks went to whichever answer stood first."""
    worth = {"first": 1.0, "tie": 0.5, "second": 0.0}
    halves = [
        np.array([worth.get(str(verdict), math.nan) for verdict in verdicts.astype(object)], dtype=np.float64)
        for verdicts in (one, two)
    ]
    return (halves[0] + halves[1]) / 2
