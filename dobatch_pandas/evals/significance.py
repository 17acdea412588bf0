"""Intervals and tests: what a share, or a difference of two runs on the same rows, can be told to be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .metrics import need

__all__ = [
    "LEAST_CLUSTERS",
    "LEAST_ROWS",
    "bonett_price",
    "cluster_codes",
    "clustered_difference",
    "clustered_share",
    "detectable",
    "holm",
    "intraclass",
    "mcnemar_p",
    "mean_interval",
    "mean_share",
    "noise_band",
    "p_words",
    "paired",
    "rows_needed",
    "rows_needed_for_mean",
    "share",
    "tango",
]

Values = np.ndarray[Any, Any]

#: Below so many rows, or clusters of rows, no verdict is given: no test could tell, or only by accident.
LEAST_ROWS, LEAST_CLUSTERS = 10, 6

# From so many rows on, score intervals hold what they say; below, wider ones are needed.
_SCORE_INTERVAL_FROM = 100

_SCORING, _COMPARING = "Scoring answers", "Comparing runs"


def share(successes: float, rows: float, confidence: float) -> tuple[float, float, float]:
    """
    Return a share with its interval; all NaN where there are no rows.

    Wilson's score interval from 100 rows on. Below, the mid-P interval: Wilson's covers 90 % of the time on
    five rows and 92 % on fifty, where the share is near 0 or 1. Both take fractions of rows, as weights give.
    """
    if rows <= 0:
        return math.nan, math.nan, math.nan
    if rows >= _SCORE_INTERVAL_FROM:
        low, high = _wilson(successes / rows, rows, _normal(confidence))
    else:
        low, high = _mid_p(successes, rows, 1 - confidence)
    return successes / rows, low, high


def _wilson(value: float, rows: float, quantile: float) -> tuple[float, float]:
    squared = quantile**2
    scale = 1 + squared / rows
    centre = (value + squared / (2 * rows)) / scale
    half = quantile * math.sqrt(value * (1 - value) / rows + squared / (4 * rows**2)) / scale
    low = 0.0 if value <= 0 else max(0.0, centre - half)
    return low, 1.0 if value >= 1 else min(1.0, centre + half)


def _mid_p(successes: float, rows: float, alpha: float) -> tuple[float, float]:
    """The shares of which neither tail, with half of what was seen, is rarer than ``alpha / 2``."""
    special, optimize = need("scipy.special", _SCORING), need("scipy.optimize", _SCORING)

    def at_least(count: float, value: float) -> float:
        if count <= 0:
            return 1.0
        # Between the last row and all of them lie shares too.
        return float(special.betainc(count, rows - count + 1, value)) if count < rows + 1 else 0.0

    def upper_tail(value: float) -> float:
        return (at_least(successes, value) + at_least(successes + 1, value)) / 2

    low, high = 0.0, 1.0
    successes = round(successes, 9)  # what sums of shares come to, without their last digits
    if successes > 0:
        low = optimize.brentq(lambda value: upper_tail(value) - alpha / 2, 0.0, 1.0, xtol=1e-10)
    if successes < rows:
        high = optimize.brentq(lambda value: 1 - upper_tail(value) - alpha / 2, 0.0, 1.0, xtol=1e-10)
    return float(low), float(high)


def cluster_codes(clusters: pd.Series[Any]) -> Values:
    """Return a number for each cluster; a missing one is a cluster of its own."""
    values = np.empty(len(clusters), dtype=object)  # a Series of texts takes no half of a surrogate pair
    for place, value in enumerate(clusters.astype(object)):
        values[place] = _hashable(value)
    codes, names = pd.factorize(values)
    lone = codes < 0
    codes[lone] = len(names) + np.arange(int(lone.sum()))
    return np.asarray(codes)


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, (list, dict, set, np.ndarray)) else value


def _cluster_variance(values: Values, codes: Values) -> tuple[float, int]:
    """Variance of the mean of ``values``, robust to what their clusters share, and the number of clusters."""
    names, codes = np.unique(codes, return_inverse=True)
    count = len(names)
    sums = np.bincount(codes, weights=values - values.mean())
    if count < 2:
        return math.inf, count
    return float(count / (count - 1) * np.sum(sums**2) / len(values) ** 2), count


def clustered_share(
    values: Values, codes: Values, confidence: float, *, samples: int = 1
) -> tuple[float, float, float]:
    """
    Return the mean of shares or of zeros and ones with its interval, where rows of a cluster are alike.

    Wilson's interval at the effective number of rows (the rows over the design effect, as Korn and Graubard
    do), with Student's quantile. Its degrees of freedom follow the clusters that hold the rarer outcome: of
    a hundred clusters without one, two with one say little of the spread. ``samples``: how many answers
    each value is the mean of, at most.
    """
    rows = len(values)
    if not rows:
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    variance, count = _cluster_variance(values, codes)
    if count < 2:
        return mean, 0.0, 1.0
    largest = rows / count
    simple = mean * (1 - mean) / rows
    effect = largest if not simple else float(np.clip(variance / simple, 1 / samples, largest))
    _, places = np.unique(codes, return_inverse=True)
    sums, sizes = np.bincount(places, weights=values), np.bincount(places)
    informative = min(int((sums > 0).sum()), int((sums < sizes).sum()))
    freedom = float(np.clip(2 * informative - 2, min(2, count - 1), count - 1))
    quantile = _student(confidence, freedom)
    low, high = _wilson(mean, rows / effect, quantile)
    return mean, low, high


def mean_interval(
    values: Values, confidence: float, codes: Values | None = None
) -> tuple[float, float, float]:
    """
    Return a mean with its interval, which allows for skewness and for clusters; see `_mean_ends`.

    The ends are NaN where nothing can be told of the spread: below two rows or clusters, and where all are equal.
    """
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    units, spread = _units(values, codes)
    if not spread or not math.isfinite(spread):
        return mean, math.nan, math.nan
    spread = max(spread, _least_spread(values, float(np.abs(values).max())))
    return mean, *_mean_ends(mean, spread, _bend(units), _freedom(units), confidence)


def mean_share(values: Values, confidence: float, codes: Values | None = None) -> tuple[float, float, float]:
    """Return the mean of values from 0 to 1 with its interval, which is never of no width."""
    if codes is None and set(np.unique(values)) <= {0.0, 1.0}:
        return share(float(values.sum()), len(values), confidence)
    return clustered_share(values, np.arange(len(values)) if codes is None else codes, confidence, samples=10)


def _units(values: Values, codes: Values | None) -> tuple[Values, float]:
    """What is independent of one another, rows or sums of clusters, and the standard error of the rows' mean."""
    if codes is None:
        spread = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        return values, spread
    _, places = np.unique(codes, return_inverse=True)
    units = np.bincount(places, weights=values) if len(values) else values
    return units, math.sqrt(_cluster_variance(values, codes)[0]) if len(values) else math.inf


def _bend(units: Values) -> float:
    """How skewed the mean of units is: their skewness over six times the root of their number."""
    count = len(units)
    apart = units - units.mean() if count else units
    spread = float(apart.std(ddof=1)) if count > 2 else 0.0
    if not spread:
        return 0.0
    third = count * float(np.sum((apart / spread) ** 3)) / ((count - 1) * (count - 2))
    return third / (6 * math.sqrt(count))


def _freedom(units: Values) -> float:
    """Degrees of freedom: units that are 0 say little of how large the others may be."""
    return float(max(1, min(2, len(units) - 1), int(np.count_nonzero(units)) - 1))


def _mean_ends(
    mean: float, spread: float, bend: float, freedom: float, confidence: float
) -> tuple[float, float]:
    """
    Return the ends of a mean's interval: Student's or Willink's, whichever reaches further.

    Student's knows no skewness, and holds the truth 84 % of the time on twenty rows of log-normal errors.
    Willink's, from Hall's transformation of t, allows for it, but not for how poorly few rows tell it.

    References
    ----------
    R. Willink, "A confidence interval and test for the mean of an asymmetric distribution",
    Communications in Statistics - Theory and Methods 34 (2005), 753-766.
    """
    quantile = _student(confidence, freedom)

    def bent(t: float) -> float:
        return t if abs(bend) < 1e-9 else (float(np.cbrt(1 + 6 * bend * (t - bend))) - 1) / (2 * bend)

    down, up = max(quantile, bent(quantile)), max(quantile, -bent(-quantile))
    return mean - down * spread, mean + up * spread


def intraclass(values: Values, codes: Values) -> tuple[float, float]:
    """Return how alike rows of a cluster are (one-way ANOVA), and the p of their not being alike at all."""
    _, codes = np.unique(codes, return_inverse=True)
    sizes = np.bincount(codes)
    count, rows = len(sizes), len(values)
    if count < 2 or rows <= count:
        return math.nan, math.nan
    means = np.bincount(codes, weights=values) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (count - 1)
    within = float(np.sum((values - means[codes]) ** 2)) / (rows - count)
    size = (rows - float(np.sum(sizes**2)) / rows) / (count - 1)
    if not between:
        return 0.0, 1.0
    p = (
        float(need("scipy.stats", _SCORING).f.sf(between / within, count - 1, rows - count))
        if within
        else 0.0
    )
    return (between - within) / (between + (size - 1) * within), p


# ---- differences of two runs on the same rows ----------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """A mean difference: its interval at any confidence, and the p of there being none."""

    difference: float
    p: float
    test: str
    rows: int
    clusters: int | None
    wins: int
    losses: int
    spread: float
    bend: float = 0.0
    freedom: float = math.nan
    #: Both runs and the rows' clusters, where they are zeros and ones in clusters.
    shares: tuple[Values, Values, Values] | None = None

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval; wide where few rows differ, and never of no width."""
        if not self.rows:
            return math.nan, math.nan
        if self.shares is not None and (self.clusters or 0) > 1:
            return clustered_difference(*self.shares, confidence, self.spread)
        if self.test == "McNemar":
            of = tango if self.rows >= _SCORE_INTERVAL_FROM else bonett_price
            low, high = of(self.wins, self.losses, self.rows, confidence)
            # Of few rows the adjusted one lies nearer to 0, and of a low confidence it may miss what was seen.
            return min(low, self.difference), max(high, self.difference)
        units = self.clusters or self.rows
        if units < 2 or not self.spread:
            return -math.inf, math.inf
        return _mean_ends(self.difference, self.spread, self.bend, self.freedom, confidence)


def paired(
    first: Values,
    second: Values,
    *,
    codes: Values | None = None,
    shares: bool = True,
    resamples: int = 9_999,
    seed: int = 0,
) -> Paired:
    """
    Compare two runs on the same rows: mean of ``second - first``.

    Zeros and ones (but not with ``shares=False``, where they are errors, which may as well be larger) are told by McNemar's exact test. Other values, and clusters, by a permutation test that
    changes the sign of each row's or cluster's difference (all changes where there are few, ``resamples``
    of them else), and from 500 on by Student's t test, which is the same there.
    """
    difference = np.asarray(second - first, dtype=float)
    rows = len(difference)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    mean = float(difference.mean()) if rows else math.nan
    binary = shares and bool(np.isin([first, second], (0.0, 1.0)).all())
    if codes is None and binary:
        p = mcnemar_p(wins, losses) if rows else math.nan
        return Paired(mean, p, "McNemar", rows, None, wins, losses, math.nan)
    units, spread = _units(difference, codes)
    clusters = None if codes is None else len(units)
    # Few rows that differ say little of the spread either: it is at least that of rows of their own.
    if codes is not None and rows and shares and set(np.unique(difference)) <= {-1.0, 0.0, 1.0}:
        low, high = bonett_price(wins, losses, rows, 0.95)
        spread = max(spread, (high - low) / 2 / _normal(0.95))
    if rows:
        spread = max(spread, _least_spread(difference, max(np.abs(first).max(), np.abs(second).max())))
    p, test = _sign_flip_p(units, spread, mean, resamples, seed)
    both = (first, second, codes) if codes is not None and binary else None
    return Paired(mean, p, test, rows, clusters, wins, losses, spread, _bend(units), _freedom(units), both)


def clustered_difference(
    first: Values, second: Values, codes: Values, confidence: float, least: float = 0.0
) -> tuple[float, float]:
    """
    Return the interval of a paired difference of shares where rows of a cluster are alike.

    The distances of both shares from the ends of their own intervals are squared and added, less what the
    runs have in common (Newcombe's method 10, in clusters). Where few clusters hold the rarer outcome it
    covers what it says and Student's interval, which knows no skewness, 88 % of the time. ``least``: the
    standard error that it does not fall below.

    References
    ----------
    R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998), 2635-2650.
    """
    before, low, high = clustered_share(first, codes, confidence)
    after, lower, upper = clustered_share(second, codes, confidence)
    _, places = np.unique(codes, return_inverse=True)
    sums = [np.bincount(places, weights=values - values.mean()) for values in (first, second)]
    size = math.sqrt(float(np.sum(sums[0] ** 2) * np.sum(sums[1] ** 2)))
    alike = float(np.sum(sums[0] * sums[1])) / size if size else 0.0
    difference, floor = after - before, least * _normal(confidence)

    def reach(own: float, other: float) -> float:
        return max(floor, math.sqrt(max(0.0, own**2 - 2 * alike * own * other + other**2)))

    down, up = reach(after - lower, high - before), reach(upper - after, before - low)
    return max(-1.0, difference - down), min(1.0, difference + up)


def _least_spread(difference: Values, scale: float) -> float:
    """
    The standard error that few differing rows leave: with one more of each sort added, as Bonett and Price do.

    Where none differs the rows added are as large as the values themselves; where most do there is no need.
    """
    rows, moving = len(difference), difference[difference != 0]
    if 2 * len(moving) > rows and float(np.ptp(difference)) > 0:
        return 0.0
    size = float(np.mean(moving**2)) if len(moving) else float(scale) ** 2
    spare = rows + 2
    mean = float(difference.sum()) / spare
    return math.sqrt(max(0.0, (float(np.sum(difference**2)) + 2 * size) / spare - mean**2) / spare)


def _sign_flip_p(units: Values, spread: float, mean: float, resamples: int, seed: int) -> tuple[float, str]:
    moving = units[units != 0]
    count = len(moving)
    if len(units) < 2:
        return 1.0, "permutation"
    if not count:
        return 1.0, "permutation"
    if len(units) >= 500:
        t = abs(mean) / spread if spread else math.inf
        return 2 * float(need("scipy.stats", _COMPARING).t.sf(t, len(units) - 1)), "t"
    seen = abs(moving.sum()) * (1 - 1e-12)
    if count <= 13:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float(np.mean(np.abs(signs @ moving) >= seen)), "permutation"
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (resamples, count), dtype=np.int8) * 2 - 1
    return (1 + int((np.abs(signs @ moving) >= seen).sum())) / (resamples + 1), "permutation"


def mcnemar_p(wins: int, losses: int) -> float:
    """Return the two-sided p of McNemar's exact test; 1 where no row differs."""
    if not wins + losses:
        return 1.0
    return float(need("scipy.stats", _COMPARING).binomtest(wins, wins + losses).pvalue)


def bonett_price(wins: float, losses: float, rows: int, confidence: float) -> tuple[float, float]:
    """
    Return the interval of a paired difference of shares with a row of each sort added.

    References
    ----------
    D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", J. of Educational and Behavioral Statistics 37 (2012), 479-488.
    """
    won, lost = (wins + 1) / (rows + 2), (losses + 1) / (rows + 2)
    half = _normal(confidence) * math.sqrt((won + lost - (won - lost) ** 2) / (rows + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def tango(wins: int, losses: int, rows: int, confidence: float) -> tuple[float, float]:
    """
    Return the score interval of a paired difference of shares.

    References
    ----------
    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998), 891-908.
    """
    optimize = need("scipy.optimize", _COMPARING)
    quantile, seen = _normal(confidence), (wins - losses) / rows

    def score(value: float) -> float:
        """How far what was seen lies from a true difference of ``value``, in standard errors."""
        b = -wins - losses + (2 * rows - wins + losses) * value
        c = -losses * value * (1 - value)
        lost = (math.sqrt(max(0.0, b * b - 8 * rows * c)) - b) / (4 * rows)
        variance = rows * (2 * lost + value * (1 - value))
        distance = wins - losses - rows * value
        return distance / math.sqrt(variance) if variance > 1e-12 else math.copysign(1e12, distance or 0.0)

    edge = 1e-9
    low, high = -1.0, 1.0
    if seen > -1 + edge and score(-1 + edge) > quantile:
        low = float(optimize.brentq(lambda value: score(value) - quantile, -1 + edge, seen - edge))
    if seen < 1 - edge and score(1 - edge) < -quantile:
        high = float(optimize.brentq(lambda value: score(value) + quantile, seen + edge, 1 - edge))
    return low, high


def holm(p: Sequence[float], alpha: float) -> tuple[Values, Values]:
    """Return p corrected by Holm's method, and the level at which each was decided; NaN stays NaN."""
    # Not statsmodels' multipletests: it collects garbage at each call, a tenth of a second in a long session.
    values = np.asarray(p, dtype=float)
    corrected, levels = np.full(len(values), math.nan), np.full(len(values), alpha)
    order = np.argsort(values, kind="stable")  # NaN comes last
    order = order[: int((~np.isnan(values)).sum())]
    left = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * left))
    rejected = int((corrected[order] < alpha).sum())
    # What is not told was all decided at the level of the first of them.
    levels[order] = alpha / np.maximum(left, len(order) - rejected)
    return corrected, levels


# ---- how many rows it takes ------------------------------------------------------------------------------------


def _power(rows: int, win: float, loss: float, alpha: float, band: float) -> float:
    """Power of McNemar's exact test, where a difference has to lie beyond ``band / sqrt(rows)`` besides."""
    stats = need("scipy.stats", _COMPARING)
    differing = win + loss
    counts = np.arange(
        max(0, int(stats.binom.ppf(1e-5, rows, differing))),
        int(stats.binom.ppf(1 - 1e-5, rows, differing)) + 1,
    )
    # The fewest wins, of so many rows that differ, that the two-sided exact test calls more than chance.
    least = counts - stats.binom.ppf(alpha / 2, counts, 0.5) + 1
    below = stats.binom.cdf(counts - least, counts, 0.5) > alpha / 2
    least = np.where(below, least + 1, least)
    least = np.maximum(least, np.floor((counts + band * math.sqrt(rows)) / 2) + 1)
    told = stats.binom.sf(least - 1, counts, win / differing)
    return float(np.sum(stats.binom.pmf(counts, rows, differing) * told))


def rows_needed(
    difference: float, discordant: float, *, alpha: float, power: float, band: float = 0.0
) -> float:
    """
    Return how many rows McNemar's exact test needs to tell such a difference; infinite for none.

    Parameters
    ----------
    difference : float
        Of the two accuracies, as a share.
    discordant : float
        Share of rows of which one run is right and the other is not; at least ``abs(difference)``.
    alpha, power : float
        Of the test, after any correction for several.
    band : float
        What noise alone gives on one row; on n rows it is ``band / sqrt(n)``, and has to be passed too.
    """
    size = abs(difference)
    if size < 1e-6 or not math.isfinite(size):
        return math.inf
    discordant = min(1.0, max(discordant, size))
    win, loss = (discordant + size) / 2, (discordant - size) / 2
    stats = need("scipy.stats", _COMPARING)
    reach, sure = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    start = ((reach * math.sqrt(discordant) + sure * math.sqrt(max(0.0, discordant - size**2))) / size) ** 2
    start = max(start, ((band + sure * math.sqrt(max(0.0, discordant - size**2))) / size) ** 2)
    if start > 2e6:
        return float(math.ceil(start))
    low, high = LEAST_ROWS, max(LEAST_ROWS, int(start))
    while _power(high, win, loss, alpha, band) < power:
        low, high = high, high * 2
        if high > 1e8:
            return math.inf
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, win, loss, alpha, band) >= power else (middle, high)
    return float(high)


def detectable(rows: int, discordant: float, *, alpha: float, power: float) -> float:
    """Return the smallest difference that so many rows can tell, when so many of them differ."""
    if not rows or not discordant:
        return math.nan
    low, high = 0.0, discordant
    if _power(rows, high, 0.0, alpha, 0.0) < power:  # not even if every differing row were a win
        return math.nan
    for _ in range(30):
        middle = (low + high) / 2
        told = _power(rows, (discordant + middle) / 2, (discordant - middle) / 2, alpha, 0.0) >= power
        low, high = (low, middle) if told else (middle, high)
    return high


def rows_needed_for_mean(difference: float, spread: float, *, alpha: float, power: float) -> float:
    """Return how many rows a paired t test needs to tell a mean difference of such a spread."""
    if not difference:
        return math.inf
    effect = abs(difference) / spread if spread else math.inf
    if not effect or not math.isfinite(effect):
        return math.inf if not effect else float(LEAST_ROWS)
    stats = need("scipy.stats", _COMPARING)
    start = ((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / effect) ** 2
    if start > 1e5:
        return float(math.ceil(start))
    if effect > 3:
        return float(LEAST_ROWS)
    powers = need("statsmodels.stats.power", _COMPARING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it finds none, the start is what there is
        found = float(np.max(powers.TTestPower().solve_power(effect_size=effect, alpha=alpha, power=power)))
    return float(max(LEAST_ROWS, math.ceil(found if math.isfinite(found) else start)))


def noise_band(flips: float, rows: int, *, confidence: float) -> float:
    """
    Return how far apart two identical runs come to lie, in accuracy, by noise alone.

    Of the ``flips * rows`` rows that change, each is as likely a win as a loss, so the difference is a
    binomial's; this is the end of its interval.
    """
    if not rows or not math.isfinite(flips):
        return math.nan
    stats = need("scipy.stats", _COMPARING)
    changed = round(flips * rows)
    wins = int(stats.binom.ppf((1 + confidence) / 2, changed, 0.5)) if changed else 0
    return (2 * wins - changed) / rows


def p_words(p: float) -> str:
    """``= 0.012``, or ``< 0.0001`` where more digits would say no more."""
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"


def _normal(confidence: float) -> float:
    # scipy.special's functions are the same numbers as scipy.stats', many times as quick.
    return float(need("scipy.special", _COMPARING).ndtri((1 + confidence) / 2))


def _student(confidence: float, freedom: float) -> float:
    return float(need("scipy.special", _COMPARING).stdtrit(freedom, (1 + confidence) / 2))
