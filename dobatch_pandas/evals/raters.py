"""How far judges agree, with one another and with people, and what a judge's verdicts are worth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .given import need_frame, on_the_same_rows
from .metrics import need
from .significance import bonett_price, share
from .texts import as_text

__all__ = ["Calibration", "Raters", "calibrate", "krippendorff_alpha", "raters"]

Level = Literal["nominal", "ordinal", "interval"]

_AGREEMENT = "Agreement"


@dataclass(frozen=True, repr=False, eq=False)
class Raters:
    """
    How far several raters agree on the same rows.

    Attributes
    ----------
    pairs : pandas.DataFrame
        Each pair: rows both rated, agreement, Cohen's kappa (weighted quadratically for a scale), intervals.
    alpha, interval : float and (float, float)
        Krippendorff's alpha of all of them, which allows for missing ratings, with its interval.
    level : str
        ``"nominal"``, ``"ordinal"`` or ``"interval"``.
    rows : pandas.DataFrame
        The ratings, and ``agree``: whether all that were given are the same.
    """

    pairs: pd.DataFrame
    alpha: float
    interval: tuple[float, float]
    level: Level
    rows: pd.DataFrame
    confidence: float = 0.95

    def __repr__(self) -> str:
        low, high = self.interval
        names = ", ".join(map(str, self.rows.columns[:-1]))
        return (
            f"<Raters {names}: Krippendorff's alpha {self.alpha:.3f} [{low:.3f}, {high:.3f}], {self.level}>"
        )

    def _repr_html_(self) -> str:
        from . import report

        lines = []
        for line in self.pairs.to_dict("records"):
            agreed = f"{line['agreement']:.1%}" if line["rows"] else "–"
            interval = (
                f"{line['kappa_low']:.2f} – {line['kappa_high']:.2f}"
                if line["kappa_low"] == line["kappa_low"]
                else ""
            )
            names = [report.escape(str(line[side])) for side in ("first", "second")]
            lines.append([*names, f"{line['rows']:,}", agreed, f"{line['kappa']:.3f}", interval])
        header = ["rater", "rater", "rows", "agreement", "kappa", f"{self.confidence:.0%} CI"]
        shown = report.table(header, lines, text_columns=2, caption="pairs")
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>'
            f'<p class="head">{report.escape(repr(self)[1:-1])}</p>{shown}</div>'
        )


def raters(
    ratings: pd.DataFrame,
    *,
    level: Level | None = None,
    confidence: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> Raters:
    """
    Return how far several raters agree: every pair's kappa, and Krippendorff's alpha of all, with intervals.

    Parameters
    ----------
    ratings : pandas.DataFrame
        A column a rater (judges, people), a line a row; null where a rater gave none.
    level : {"nominal", "ordinal", "interval"}, optional
        Of the ratings. None: ``"ordinal"`` where all are numbers, else ``"nominal"``.
    confidence, resamples, seed : float, int, int
        Of the intervals, which are bootstraps over rows, and wider where few rows differ.

    References
    ----------
    K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    need_frame(ratings, "raters()", "Each of its columns holds what one rater said.")
    if ratings.shape[1] < 2:
        raise InputError("Agreement takes two columns of ratings at least.")
    if level not in (None, "nominal", "ordinal", "interval"):
        raise InputError(f'level={level!r} is not one of "nominal", "ordinal", "interval".')
    columns = [ratings.iloc[:, place].astype(object) for place in range(ratings.shape[1])]
    given = [value for column in columns for value in column if not _missing(value)]
    numeric = bool(given) and all(
        isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in given
    )
    level = level or ("ordinal" if numeric else "nominal")
    if level != "nominal" and not numeric:
        raise InputError(f"level={level!r} needs numbers, and there are others among the ratings.")
    values = (
        sorted({float(value) for value in given}) if numeric else sorted({as_text(value) for value in given})
    )
    places: dict[Any, int] = {value: place for place, value in enumerate(values)}
    codes = np.array(
        [
            [-1 if _missing(v) else places[float(v) if numeric else as_text(v)] for v in column]
            for column in columns
        ],
        dtype=int,
    ).reshape(len(columns), len(ratings))
    distances = _distances(codes, values, level)
    drawn: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    sorts, sizes = np.unique(_counts(codes, len(values)), axis=0, return_counts=True)
    alpha, *alpha_ends = _measured(sorts, sorts, sizes, distances, correction=1, **drawn)
    lines = []
    for a, b in itertools.combinations(range(len(columns)), 2):
        both = (codes[a] >= 0) & (codes[b] >= 0)
        x, y = codes[a][both], codes[b][both]
        sorts, sizes = np.unique(x * len(values) + y, return_counts=True)
        ours, theirs = (np.eye(len(values))[of] for of in np.divmod(sorts, len(values)))
        steps = np.arange(len(values))
        apart = distances if level == "nominal" else (steps[:, None] - steps) ** 2.0
        kappa, kappa_low, kappa_high = _measured(ours, theirs, sizes, apart, **drawn)
        agreed, low, high = share(float((x == y).sum()), len(x), confidence)
        lines.append(
            {
                "first": ratings.columns[a], "second": ratings.columns[b], "rows": len(x), "agreement": agreed,
                "low": low, "high": high, "kappa": kappa, "kappa_low": kappa_low, "kappa_high": kappa_high,
            }
        )  # fmt: skip
    rows = ratings.copy()
    rows.columns = [str(name) for name in ratings.columns]
    top, bottom = (
        codes.max(axis=0, initial=-1),
        np.where(codes < 0, len(values), codes).min(axis=0, initial=len(values)),
    )
    rows["agree"] = pd.Series(top == bottom, index=rows.index, dtype="boolean").mask(
        (codes >= 0).sum(axis=0) < 2
    )
    return Raters(pd.DataFrame(lines), alpha, (alpha_ends[0], alpha_ends[1]), level, rows, confidence)


def krippendorff_alpha(ratings: pd.DataFrame, level: Level = "nominal") -> float:
    """Return Krippendorff's alpha of raters in columns; null where a rater gave no value."""
    return raters(ratings, level=level, resamples=0).alpha


def _missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _counts(codes: np.ndarray[Any, Any], values: int) -> np.ndarray[Any, Any]:
    """How often each row was given each value; rows that fewer than two raters rated say nothing."""
    counts = np.zeros((codes.shape[1], values))
    for rater in codes:
        there = rater >= 0
        np.add.at(counts, (np.flatnonzero(there), rater[there]), 1)
    return np.asarray(counts[counts.sum(axis=1) > 1])


def _distances(codes: np.ndarray[Any, Any], values: list[Any], level: Level) -> np.ndarray[Any, Any]:
    count = len(values)
    if level == "nominal":
        return 1.0 - np.eye(count)
    if level == "interval":
        numbers = np.array(values, dtype=float)
        return np.asarray((numbers[:, None] - numbers[None, :]) ** 2)
    used = _counts(codes, count).sum(axis=0)
    ends = np.concatenate([[0.0], np.cumsum(used)])
    middle = (ends[:-1] + ends[1:]) / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)


def _measured(
    first: np.ndarray[Any, Any],
    second: np.ndarray[Any, Any],
    sizes: np.ndarray[Any, Any],
    distances: np.ndarray[Any, Any],
    *,
    resamples: int,
    confidence: float,
    seed: int,
    correction: int = 0,
) -> tuple[float, float, float]:
    """
    Return agreement beyond chance with its interval: alpha of rows' counts, or the kappa of two raters.

    Parameters
    ----------
    first, second : numpy.ndarray
        How often rows of each sort were given each value: by all raters, twice the same, or by the one and the other.
    sizes : numpy.ndarray
        How many rows there are of each sort.
    correction : int
        1 for Krippendorff's, who draws two ratings without putting the first back.

    Notes
    -----
    The ends are those of a bootstrap, or, where these reach further, of one whose weights are drawn (Rubin's) and
    which has two rows more: one on which raters agree and one on which they differ. Without them ten rows of two
    raters who agree on nine in ten gave an interval that held the truth 6 times in 10, and often was of no width.
    """
    rows = int(sizes.sum())
    if not rows:
        return math.nan, math.nan, math.nan
    pairs = np.einsum("ij,jk,ik->i", first, distances, second)
    apart = pairs / (first.sum(axis=1) - 1) if correction else pairs

    def beyond_chance(weights: Any, apart: Any, first: Any, second: Any) -> float:
        ours, theirs = weights @ first, weights @ second
        expected = float(ours @ distances @ theirs) / (ours.sum() - correction)
        return 1 - float(weights @ apart) / expected if expected else math.nan

    value = beyond_chance(sizes, apart, first, second)
    if math.isnan(value) or rows < 2:
        return value, math.nan, math.nan
    given = sizes @ first + sizes @ second
    given = given / given.sum()
    differ = np.outer(given, given) * (1 - np.eye(len(given)))
    differ /= differ.sum()
    more = np.array([given, differ.sum(axis=1)])
    ratings = float(sizes @ first.sum(axis=1)) / rows
    wider = (
        np.append(apart, [0.0, ratings * float(np.sum(differ * distances))]),
        *(np.vstack([of, ratings * more]) for of in (first, second)),
    )
    rng = np.random.default_rng(seed)
    plain, weighted = [], []
    for _ in range(resamples):
        plain.append(beyond_chance(rng.multinomial(rows, sizes / rows), apart, first, second))
        weights = rng.standard_gamma(np.append(sizes, [1, 1]))
        weighted.append(beyond_chance(weights * (rows + 2) / weights.sum(), *wider))
    (low, high), (lowest, highest) = _ends(plain, confidence), _ends(weighted, confidence)
    return value, float(np.fmin(low, lowest)), float(np.fmax(high, highest))


def _ends(draws: list[float], confidence: float) -> tuple[float, float]:
    known = np.array([draw for draw in draws if draw == draw])
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# ---- what a judge is worth -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class Calibration:
    """
    A judge's verdicts held against people's, and what its pass rate comes to after that.

    Attributes
    ----------
    judged, judged_interval : float and (float, float)
        Share that the judge passes, of all rows, taken at its word.
    corrected, interval : float and (float, float)
        What people would pass of all rows: the judge's share, corrected by where they differ on the rows that
        people labelled (prediction-powered inference).
    sensitivity, specificity : float
        Of what people pass, the share that the judge passes; of what they fail, the share that it fails.
    table : pandas.DataFrame
        Each verdict or score: rows, rows with a human label, share of those that people pass, interval.
    rows, labelled : int
        Rows that were judged, and those with a human label besides.
    """

    judged: float
    judged_interval: tuple[float, float]
    corrected: float
    interval: tuple[float, float]
    sensitivity: float
    specificity: float
    table: pd.DataFrame
    rows: int
    labelled: int
    confidence: float = 0.95

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"<Calibration: the judge passes {self.judged:.1%} of {self.rows:,} rows; by {self.labelled:,} human "
            f"labels that is {self.corrected:.1%} [{low:.1%}, {high:.1%}]; sensitivity {_share(self.sensitivity)}, "
            f"specificity {_share(self.specificity)}>"
        )

    def _repr_html_(self) -> str:
        from . import report

        lines = [
            [
                report.escape(str(verdict)), f"{line['rows']:,.0f}", f"{line['labelled']:,.0f}",
                report.number(float(line["passed"]), "accuracy"), report.bar(line["passed"], line["low"], line["high"]),
            ]
            for verdict, line in self.table.iterrows()
        ]  # fmt: skip
        header = ["verdict", "rows", "labelled", "people pass", ""]
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>'
            f'<p class="head">{report.escape(repr(self)[1:-1])}</p>{report.table(header, lines)}</div>'
        )


def calibrate(
    judged: pd.Series[Any],
    human: pd.Series[Any],
    *,
    passed: Callable[[Any], bool] | Any = "pass",
    human_passed: Callable[[Any], bool] | Any = None,
    confidence: float = 0.95,
) -> Calibration:
    """
    Hold a judge against human labels on some rows, and correct its pass rate on all of them.

    Parameters
    ----------
    judged : pandas.Series
        The judge's verdicts or scores; null where it failed, which is no part of this.
    human : pandas.Series
        People's labels, on the same index; null or absent where nobody labelled. Which rows are labelled must
        not hang on the verdict: draw them at random.
    passed : value or callable
        Which of the judge's verdicts are a pass: ``"pass"``, or for scores ``lambda score: score >= 4``.
    human_passed : value or callable, optional
        The same for people; None takes ``passed``, and True for booleans.
    confidence : float
        Of the intervals.

    References
    ----------
    A. N. Angelopoulos et al., "Prediction-powered inference", Science 382 (2023), 669-674.
    """
    human = on_the_same_rows("calibrate()", judged, human)
    judge_says = _passing(passed, "passed")
    people_say = judge_says if human_passed is None else _passing(human_passed, "human_passed")
    verdicts = list(judged.astype(object))
    labels = list(human.astype(object))
    there = [not _missing(verdict) for verdict in verdicts]
    guess = np.array([float(judge_says(v)) for v, known in zip(verdicts, there, strict=True) if known])
    truth = np.array(
        [
            math.nan if _missing(h) else float(people_say(h))
            for h, known in zip(labels, there, strict=True)
            if known
        ]
    )
    shown = [as_text(v) for v, known in zip(verdicts, there, strict=True) if known]
    both = ~np.isnan(truth)
    rows, labelled = len(guess), int(both.sum())
    if labelled < 2:
        raise InputError(
            "Calibration takes human labels on two judged rows at least, and better on a hundred."
        )
    _check_words(verdicts, passed, "passed", ())
    _check_words(labels, passed if human_passed is None else human_passed, "human_passed", shown)
    rate, low, high = share(float(guess.sum()), rows, confidence)
    wins = int(((truth == 1) & (guess == 0) & both).sum())
    losses = int(((truth == 0) & (guess == 1) & both).sum())
    quantile = float(need("scipy.stats", _AGREEMENT).norm.ppf((1 + confidence) / 2))
    if labelled == rows:
        corrected, *ends = share(float(truth.sum()), rows, confidence)
    else:
        # The judge on rows that people did not see, and where it is wrong on those that they did.
        unseen = guess[~both]
        change = (wins - losses) / labelled
        corrected = float(unseen.mean()) + change
        small, large = bonett_price(wins, losses, labelled, confidence)
        spread = (large - small) / 2 / quantile
        of_judge = (unseen.sum() + 1) / (len(unseen) + 2)
        half = quantile * math.sqrt(spread**2 + of_judge * (1 - of_judge) / len(unseen))
        ends = [corrected - half, corrected + half]
        if not 0 <= corrected <= 1:
            # The labels contradict the judge's other verdicts: what people passed where they looked counts too.
            _, *seen = share(float(truth[both].sum()), labelled, confidence)
            ends = [min(ends[0], seen[0]), max(ends[1], seen[1])]
        corrected, *ends = np.clip([corrected, *ends], 0.0, 1.0).tolist()
    good, bad = both & (truth == 1), both & (truth == 0)
    lines = {}
    for verdict in dict.fromkeys(sorted(shown)):
        mine = np.array([word == verdict for word in shown])
        known = mine & both
        value, least, most = share(float(truth[known].sum()), int(known.sum()), confidence)
        lines[verdict] = {
            "rows": int(mine.sum()), "labelled": int(known.sum()), "passed": value, "low": least, "high": most,
        }  # fmt: skip
    return Calibration(
        judged=rate,
        judged_interval=(low, high),
        corrected=corrected,
        interval=(float(ends[0]), float(ends[1])),
        sensitivity=float(guess[good].mean()) if good.any() else math.nan,
        specificity=float(1 - guess[bad].mean()) if bad.any() else math.nan,
        table=pd.DataFrame.from_dict(lines, orient="index").rename_axis("verdict"),
        rows=rows,
        labelled=labelled,
        confidence=confidence,
    )


def _share(value: float) -> str:
    return f"{value:.1%}" if value == value else "–"


def _check_words(values: Iterable[Any], passed: Any, option: str, others: Iterable[str]) -> None:
    """Raise where no value is a pass, and some are words that nobody has said to be a fail."""
    if callable(passed) or not isinstance(passed, str):
        return
    given = [value for value in values if not _missing(value) and not isinstance(value, (bool, np.bool_))]
    words = dict.fromkeys(map(as_text, given))
    if as_text(passed) not in words and set(words) - {"fail", *others}:
        there = ", ".join(map(repr, list(words)[:10]))
        raise InputError(
            f"{option}={passed!r} is none of the values, which are {there}: say which of them is a pass."
        )


def _passing(passed: Any, option: str) -> Callable[[Any], bool]:
    if callable(passed):

        def says(value: Any) -> bool:
            try:
                return bool(passed(value))
            except Exception as problem:
                raise InputError(
                    f"{option}= failed on {value!r:.80}: {type(problem).__name__}: {problem}. It must take any value that "
                    "is there, and return whether that is a pass."
                ) from problem

        return says
    return lambda value: (
        bool(value) if isinstance(value, (bool, np.bool_)) else as_text(value) == as_text(passed)
    )
