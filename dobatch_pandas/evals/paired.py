"""The statistics of two runs on the same rows, by scipy and statsmodels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .extras import need

__all__ = ["detectable", "mcnemar_p", "noise_band", "paired_interval", "rows_needed", "rows_needed_for_mean"]

_COMPARING = "Comparing runs"

Values = np.ndarray[Any, Any]


def paired_interval(
    first: Values, second: Values, *, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """
    Return the bootstrap percentile interval of the mean difference ``second - first``, pairs kept together.

    Fewer resamples are drawn on many rows (never below 1,000), where the interval needs no more.
    """
    difference = second - first
    rows = len(difference)
    if rows < 2:
        return math.nan, math.nan
    stats = need("scipy.stats", _COMPARING)
    # The mean of differences resampled is what resampled pairs give, at half the work.
    found = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=min(resamples, max(1_000, 20_000_000 // rows)),
        batch=max(1, 2_000_000 // rows),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def mcnemar_p(wins: int, losses: int) -> float:
    """Return the two-sided p of McNemar's exact test; 1 where no row differs."""
    tables = need("statsmodels.stats.contingency_tables", _COMPARING)
    # Only the discordant cells take part in the exact test.
    return float(tables.mcnemar([[0, losses], [wins, 0]], exact=True).pvalue)


def rows_needed(difference: float, discordant: float, *, alpha: float, power: float) -> float:
    """
    Return how many rows McNemar's test needs to tell such a difference; infinite for none.

    Parameters
    ----------
    difference : float
        Of the two accuracies, as a share.
    discordant : float
        Share of rows of which one run is right and the other is not; at least ``abs(difference)``.

    References
    ----------
    R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43 (1987), 207-211.
    """
    if not difference:
        return math.inf
    z = _normal_quantiles(alpha, power)
    spread = z[0] * math.sqrt(discordant) + z[1] * math.sqrt(max(0.0, discordant - difference**2))
    return float(math.ceil((spread / difference) ** 2))


def detectable(rows: int, discordant: float, *, alpha: float, power: float) -> float:
    """Return the smallest difference that so many rows can tell: the same formula, solved for it."""
    if not rows or not discordant:
        return math.nan
    optimize = need("scipy.optimize", _COMPARING)
    z = _normal_quantiles(alpha, power)

    def excess(difference: float) -> float:
        return (
            z[0] * math.sqrt(discordant)
            + z[1] * math.sqrt(max(0.0, discordant - difference**2))
            - difference * math.sqrt(rows)
        )

    if excess(discordant) > 0:  # not even if every differing row were a win
        return math.nan
    return float(optimize.brentq(excess, 0.0, discordant))


def rows_needed_for_mean(difference: Values, *, alpha: float, power: float) -> float:
    """Return how many rows a paired t test needs to tell the mean difference (statsmodels' power)."""
    spread = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    effect = abs(float(np.mean(difference))) / spread if spread else math.nan
    if not math.isfinite(effect) or not effect:
        return math.inf
    powers = need("statsmodels.stats.power", _COMPARING)
    return float(
        np.ceil(np.max(powers.TTestPower().solve_power(effect_size=effect, alpha=alpha, power=power)))
    )


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


def _normal_quantiles(alpha: float, power: float) -> tuple[float, float]:
    stats = need("scipy.stats", _COMPARING)
    return float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
