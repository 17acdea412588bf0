"""Which of several answers a judge prefers, and how much of that is their order or their length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .given import verdicts_of
from .metrics import need
from .significance import holm, p_words, paired, share
from .texts import as_text, is_missing

__all__ = ["Pairwise", "Ranking", "pairwise", "rank"]

_COMPARING = "Comparing answers"


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
        Share of rows on which both orders agree, with its interval.
    verbosity, verbosity_interval, verbosity_p : float, (float, float) and float
        How often the longer answer wins, of the rows with a winner whose answers differ in length; 0.5 is no
        bias. NaN where the answers are not known (pass ``answers=``).
    samples : int
        Answers to each request; a row's pick in an order is what most of them say.
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
    verbosity: float = math.nan
    verbosity_interval: tuple[float, float] = (math.nan, math.nan)
    verbosity_p: float = 1.0
    samples: int = 1

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
        found = (
            f"The answer standing first is picked in {self.position_bias:.1%} [{low:.1%}, {high:.1%}] of the "
            f"cases (50% is no bias): {words}; both orders agree on {self.consistency:.1%} of rows"
        )
        return found + (f", by the majority of {self.samples} samples each" if self.samples > 1 else "")

    @property
    def length_words(self) -> str:
        """Whether the longer answer wins more often; empty where lengths are not known."""
        if math.isnan(self.verbosity):
            return ""
        low, high = self.verbosity_interval
        if self.verbosity_p < 1 - self.confidence:
            side = "longer" if self.verbosity > 0.5 else "shorter"
            words = f"the judge may lean to the {side} one"
        else:
            words = "no leaning to either can be told"
        return f"The longer answer wins in {self.verbosity:.1%} [{low:.1%}, {high:.1%}] of the cases: {words}"

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as lines: value, low, high."""
        lines = {
            "win_rate": (self.win_rate, *self.win_interval),
            "position_bias": (self.position_bias, *self.position_interval),
            "consistency": (self.consistency, *self.consistency_interval),
            "verbosity": (self.verbosity, *self.verbosity_interval),
        }
        return pd.DataFrame.from_dict(lines, orient="index", columns=["value", "low", "high"]).rename_axis(
            "metric"
        )

    def __repr__(self) -> str:
        length = f" {self.length_words}." if self.length_words else ""
        return f"<Pairwise: {self.verdict}. {self.order_words}.{length}>"

    def _repr_html_(self) -> str:
        from . import report

        escape = report.escape
        length = f'<p class="soft">{escape(self.length_words)}.</p>' if self.length_words else ""
        lines = [[escape(str(name)), f"{count:,}"] for name, count in self.counts.items()]
        counts = report.table(["winner", "rows"], lines)
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>'
            f'<p class="head">{escape(self.verdict)}.</p>'
            f'<p class="soft">{escape(self.order_words)}.</p>{length}{counts}</div>'
        )


def pairwise(
    result: Any,
    *,
    names: tuple[str, str] = ("response", "versus"),
    into: str | None = None,
    samples: int | None = None,
    answers: pd.DataFrame | tuple[pd.Series[Any], pd.Series[Any]] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Pairwise:
    """
    Return which answer wins on each row, and the judge's position and verbosity bias.

    Parameters
    ----------
    result : Job or pandas.DataFrame
        The job that `judge` gave with ``versus=``, or its ``result()``: the frame's rows with one order, then
        the same rows with the other.
    names : (str, str)
        What to call the answers of ``response`` and ``versus``.
    into : str, optional
        The verdict's column, as given to `judge`; a job knows its own, in a frame it is ``"judge"`` by default.
        With several criteria, that of one of them.
    samples : int, optional
        Verdicts on each request, in ``<into>_2`` and on; a job knows its own. What most of them say counts.
    answers : pandas.DataFrame or (Series, Series), optional
        The two answers of each row, in the order of ``names``, to measure whether the longer one wins.
    confidence, seed : float, int
        Of the intervals and of the permutation test.

    Raises
    ------
    InputError
        The frame is not what a pairwise judgement gives.
    """
    found, into, samples = verdicts_of(result, into, samples)
    columns = [into, *(f"{into}_{number}" for number in range(2, samples + 1))]
    lacking = [column for column in columns if column not in found.columns]
    if lacking and lacking != columns:
        raise InputError(f"samples={samples} needs the columns {', '.join(map(repr, lacking))}.")
    half = len(found) // 2
    if lacking or len(found) % 2 or not found.index[:half].equals(found.index[half:]):
        raise InputError(
            f"This is not the result of a pairwise judgement into {into!r}: it has to hold every row twice, "
            "one order after the other. Give the job of judge(..., versus=...) or its result()."
        )
    if len(set(names) | {"tie", "inconsistent", "failed"}) != 5:
        raise InputError(f"names={names!r} must be two different names, none of tie, inconsistent, failed.")
    one, two = found.iloc[:half], found.iloc[half:]
    votes = [_vote([part[column] for column in columns]) for part in (one, two)]
    # In the second order the answers have changed places.
    picks = [_picks(votes[0], names), _picks(votes[1], names[::-1])]
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
                texts = [None if is_missing(v) else as_text(v) for v in part[f"{into}_{name}"].astype(object)]
                rows[f"{name}_{number}"] = pd.array(texts, dtype="string")
    counts = rows["winner"].value_counts().reindex([*names, "tie", "inconsistent"], fill_value=0)
    counts["failed"] = int((~both).sum())
    wins, losses = int(counts[names[0]]), int(counts[names[1]])
    stats = need("scipy.stats", _COMPARING)
    rate, *interval = share(wins, wins + losses, confidence)
    same = int(sum(a == b for a, b in zip(*picks, strict=True) if a is not None and b is not None))
    agreed, *agreed_interval = share(same, int(both.sum()), confidence)
    place = _first_share([one[column] for column in columns], [two[column] for column in columns])
    place = place[~np.isnan(place)]
    leaning = [int((place > 0.5).sum()), int((place < 0.5).sum())]
    position_p = float(stats.binomtest(leaning[0], sum(leaning)).pvalue) if sum(leaning) else 1.0
    low, high = _position_interval(place, confidence, seed, told=position_p < 1 - confidence)
    longer = _longer(winner, names, answers, half)
    verbosity, *verbosity_interval = share(sum(longer), len(longer), confidence)
    return Pairwise(
        names=names,
        rows=rows,
        counts=counts.astype(int),
        win_rate=rate,
        win_interval=(interval[0], interval[1]),
        p=float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else math.nan,
        position_bias=float(place.mean()) if len(place) else math.nan,
        position_interval=(low, high),
        position_p=position_p,
        consistency=agreed,
        consistency_interval=(agreed_interval[0], agreed_interval[1]),
        confidence=confidence,
        verbosity=verbosity,
        verbosity_interval=(verbosity_interval[0], verbosity_interval[1]),
        verbosity_p=float(stats.binomtest(sum(longer), len(longer)).pvalue) if longer else 1.0,
        samples=samples,
    )


_WORTH = {"first": 1.0, "tie": 0.5, "second": 0.0}


def _vote(verdicts: Sequence[pd.Series[Any]]) -> list[str | None]:
    """What most samples say of each row; as many for either side is a tie, and none is no verdict."""
    worth = _worth(verdicts)
    known = ~np.isnan(worth)
    lean = np.where(known, worth - 0.5, 0.0).sum(axis=0)
    said = np.select([lean > 0, lean < 0], ["first", "second"], "tie")
    return [str(word) if there else None for word, there in zip(said, known.any(axis=0), strict=True)]


def _worth(verdicts: Sequence[pd.Series[Any]]) -> np.ndarray[Any, Any]:
    lines = [[_WORTH.get(str(v), math.nan) for v in column.astype(object)] for column in verdicts]
    return np.array(lines, dtype=np.float64).reshape(len(verdicts), -1)


def _picks(verdicts: Sequence[str | None], names: tuple[str, str]) -> list[str | None]:
    meaning = {"first": names[0], "second": names[1], "tie": "tie"}
    return [meaning.get(str(verdict)) for verdict in verdicts]


def _winner(one: str | None, two: str | None) -> str | None:
    if one is None or two is None:
        return None
    return one if one == two else "inconsistent"


def _first_share(one: Sequence[pd.Series[Any]], two: Sequence[pd.Series[Any]]) -> np.ndarray[Any, Any]:
    """How much of a row's picks went to whichever answer stood first; NaN where an order has none."""
    halves = []
    for verdicts in (one, two):
        worth = _worth(verdicts)
        known = (~np.isnan(worth)).sum(axis=0)
        total = np.nansum(worth, axis=0)
        halves.append(np.divide(total, known, out=np.full(worth.shape[1], np.nan), where=known > 0))
    return np.asarray((halves[0] + halves[1]) / 2)


def _position_interval(
    place: np.ndarray[Any, Any], confidence: float, seed: int, *, told: bool
) -> tuple[float, float]:
    """Student's interval over rows, since the picks of a row belong together; holds 0.5 where no bias is told."""
    if not len(place):
        return math.nan, math.nan
    low, high = paired(np.full(len(place), 0.5), place, seed=seed).interval(confidence)
    low, high = max(0.0, 0.5 + low), min(1.0, 0.5 + high)
    return (low, high) if told else (min(low, 0.5), max(high, 0.5))


def _longer(
    winner: Sequence[str | None],
    names: tuple[str, str],
    answers: pd.DataFrame | tuple[pd.Series[Any], pd.Series[Any]] | None,
    rows: int,
) -> list[bool]:
    """Of the rows with a winner whose answers differ in length: whether the longer one won."""
    if answers is None:
        return []
    columns = [answers.iloc[:, n] for n in range(2)] if isinstance(answers, pd.DataFrame) else list(answers)
    if any(len(column) != rows for column in columns):
        raise InputError(f"answers= has {len(columns[0]):,} rows, and {rows:,} were judged.")
    sizes = [[len(str(value)) for value in column.astype(object)] for column in columns]
    return [
        (a > b) == (won == names[0])
        for won, a, b in zip(winner, *sizes, strict=True)
        if won in names and a != b
    ]


# ---- more than two ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class Ranking:
    """
    Systems in the order of their strength, by Bradley and Terry's model over pairwise judgements.

    Attributes
    ----------
    table : pandas.DataFrame
        A line a system, the strongest first: strength (log odds against an average system) with its interval,
        ``elo`` (the same as 400 points a factor of ten, 1000 on average), wins, losses, ties, and ``rank``
        with the best and worst place that the intervals of the differences leave.
    differences : pandas.DataFrame
        Each pair: difference of strengths, its interval, p, and p corrected by Holm's method.
    notes : tuple of str
        What a reader should know besides.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    notes: tuple[str, ...]
    confidence: float = 0.95

    def __repr__(self) -> str:
        lines = [
            f"{int(line['best'])}–{int(line['worst'])} {name}" if line["best"] < line["worst"]
            else f"{int(line['best'])} {name}"
            for name, line in self.table.iterrows()
        ]  # fmt: skip
        return f"<Ranking: {', '.join(lines)}>"

    def _repr_html_(self) -> str:
        from . import report

        lines = []
        for name, line in self.table.iterrows():
            places = f"{line['best']:.0f}" + (f"–{line['worst']:.0f}" if line["best"] < line["worst"] else "")
            lines.append(
                [
                    places, report.escape(str(name)), f"{line['elo']:.0f}",
                    f"{line['elo_low']:.0f} – {line['elo_high']:.0f}",
                    *(f"{line[count]:,.0f}" for count in ("wins", "losses", "ties")),
                ]
            )  # fmt: skip
        header = ["place", "system", "Elo", f"{self.confidence:.0%} CI", "wins", "losses", "ties"]
        notes = "".join(f'<p class="soft">{report.escape(note)}</p>' for note in self.notes)
        shown = report.table(header, lines, text_columns=2, caption="ranking")
        return f'<div class="dobatch-eval"><style>{report.STYLE}</style>{notes}{shown}</div>'


def rank(*duels: Pairwise, confidence: float = 0.95) -> Ranking:
    """
    Return a ranking of more than two systems from pairwise judgements of them.

    A row that both orders give to one system is a win; ties and inconsistent rows are half a win for each.
    Rows of one index label belong together (the same question in several duels), and the intervals allow
    for that.

    Parameters
    ----------
    *duels : Pairwise
        What `pairwise` gave, with ``names=`` that are the same for the same system everywhere.
    confidence : float
        Of the intervals.

    Raises
    ------
    InputError
        Systems that no chain of duels connects.

    References
    ----------
    R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs: I. The method of paired
    comparisons", Biometrika 39 (1952), 324-345.
    """
    if not duels:
        raise InputError("rank() needs the pairwise judgements of at least one pair.")
    systems = list(dict.fromkeys(name for duel in duels for name in duel.names))
    played: list[tuple[int, int, float, Hashable]] = []
    for duel in duels:
        a, b = (systems.index(name) for name in duel.names)
        for label, won in duel.rows["winner"].items():
            if not pd.isna(won):
                points = 1.0 if won == duel.names[0] else (0.0 if won == duel.names[1] else 0.5)
                played.append((a, b, points, label))
    return _bradley_terry(systems, played, confidence)


def _design(pairs: Sequence[tuple[int, int]], count: int) -> np.ndarray[Any, Any]:
    """A line a duel: who stands first, and against whom."""
    design = np.zeros((len(pairs), count))
    for line, (a, b) in enumerate(pairs):
        design[line, a], design[line, b] = 1.0, -1.0
    return design


def _and_alone(groups: np.ndarray[Any, Any], more: int) -> np.ndarray[Any, Any]:
    """Some more rows, each of which belongs to no other."""
    return np.append(groups, groups.max(initial=-1) + 1 + np.arange(more))


def _fitted(
    design: np.ndarray[Any, Any], outcome: np.ndarray[Any, Any], groups: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The systems' strengths, 0 on average, and their covariance, which allows for rows of a group being alike."""
    api, count = need("statsmodels.api", _COMPARING), design.shape[1]
    model = api.GLM(outcome, design[:, 1:], family=api.families.Binomial())
    robust = len(np.unique(groups)) > 2 * count and len(np.unique(groups)) < len(groups)
    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}} if robust else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that leaves nothing over, as that of ties alone
        fitted = model.fit(**options)
    strength, covariance = np.append(0.0, fitted.params), np.zeros((count, count))
    covariance[1:, 1:] = fitted.cov_params()
    centre = np.eye(count) - 1 / count
    return centre @ strength, centre @ covariance @ centre.T


def _bradley_terry(
    systems: list[str], played: list[tuple[int, int, float, Hashable]], confidence: float
) -> Ranking:
    count, notes = len(systems), []
    reach = np.eye(count, dtype=int)
    beats = np.zeros((count, count))
    for a, b, points, _ in played:
        beats[a, b] += points
        beats[b, a] += 1 - points
    for _ in range(count):
        reach = ((reach @ ((beats > 0) | np.eye(count, dtype=bool))) > 0).astype(int)
    met = beats + beats.T > 0
    linked = np.linalg.matrix_power((met | np.eye(count, dtype=bool)).astype(float), count) > 0
    if not linked.all():
        apart = [name for name, there in zip(systems, linked[0], strict=True) if not there]
        raise InputError(
            f"No duel connects {', '.join(apart)} with {systems[0]}: judge them against one another."
        )
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if met[a, b]]
    design = _design([(a, b) for a, b, _, _ in played], count)
    outcome = np.array([points for *_, points, _ in played])
    groups = pd.factorize(pd.Series([str(label) for *_, label in played], dtype=object))[0]
    if not (reach > 0).all():
        # Who never loses has no finite strength: half a win each way is added to every pair that met.
        design, outcome = np.vstack([design, _design(pairs, count)]), np.append(outcome, [0.5] * len(pairs))
        groups = _and_alone(groups, len(pairs))
        notes.append(
            "A system never lost or never won: half a win each way was added to every pair that met."
        )
    strength, covariance = _fitted(design, outcome, groups)
    covariances = [covariance]
    if len(np.unique(groups)) < len(groups):
        # Where most rows are ties, little is left over to tell the spread by: it is at least that with a win each
        # way added to every pair, as Bonett and Price do.
        design = np.vstack([design, _design([*pairs, *pairs], count)])
        outcome = np.append(outcome, [0.0] * len(pairs) + [1.0] * len(pairs))
        covariances.append(_fitted(design, outcome, _and_alone(groups, 2 * len(pairs)))[1])
    stats = need("scipy.stats", _COMPARING)
    quantile = float(stats.norm.ppf((1 + confidence) / 2))
    error = np.sqrt(np.max([np.maximum(0.0, np.diag(found)) for found in covariances], axis=0))
    lines = []
    for a in range(count):
        for b in range(a + 1, count):
            squares = [float(found[a, a] + found[b, b] - 2 * found[a, b]) for found in covariances]
            spread = math.sqrt(max(1e-300, *squares))
            size = float(strength[a] - strength[b])
            lines.append((systems[a], systems[b], size, spread, 2 * float(stats.norm.sf(abs(size) / spread))))
    corrected, levels = holm([line[-1] for line in lines], 1 - confidence)
    differences = pd.DataFrame(
        [
            {
                "system": a,
                "against": b,
                "difference": d,
                "low": d - q * e,
                "high": d + q * e,
                "p": p,
                "p_holm": h,
            }
            for (a, b, d, e, p), h, q in zip(lines, corrected, stats.norm.ppf(1 - levels / 2), strict=True)
        ]
    )
    better = dict.fromkeys(systems, 0)
    worse = dict(better)
    for pair in differences.to_dict("records"):
        if pair["p_holm"] < 1 - confidence:
            up, down = (
                (pair["system"], pair["against"])
                if pair["difference"] > 0
                else (pair["against"], pair["system"])
            )
            worse[up] += 1
            better[down] += 1
    ties = np.zeros((count, count))
    for a, b, points, _ in played:
        ties[a, b] += points == 0.5
    ties = ties + ties.T
    scale = 400 / math.log(10)
    table = pd.DataFrame(
        {
            "strength": strength, "low": strength - quantile * error, "high": strength + quantile * error,
            "elo": 1000 + scale * strength, "elo_low": 1000 + scale * (strength - quantile * error),
            "elo_high": 1000 + scale * (strength + quantile * error),
            "wins": (beats - ties / 2).sum(axis=1).astype(int), "losses": (beats - ties / 2).sum(axis=0).astype(int),
            "ties": ties.sum(axis=1).astype(int),
            "best": [1 + better[name] for name in systems], "worst": [count - worse[name] for name in systems],
        },
        index=pd.Index(systems, name="system"),
    )  # fmt: skip
    table = table.sort_values("strength", ascending=False, kind="stable")
    table.insert(0, "rank", range(1, count + 1))
    return Ranking(table, differences, tuple(notes), confidence)
