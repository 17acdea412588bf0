"""Pictures of evaluations and comparisons, by matplotlib: each takes an Axes or makes one, and returns it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .extras import need

if TYPE_CHECKING:
    from .comparison import Comparison
    from .evaluation import Evaluation

__all__ = ["comparison", "confusion", "scores", "slices"]

# Okabe and Ito's palette: told apart with any colour vision, and in print.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8c8c8c"

_MOST_CLASSES = 30


def confusion(evaluation: Evaluation, *, ax: Any = None, normalise: bool = False) -> Any:
    """
    Draw the confusion matrix: gold classes down, answers across, failed rows in the last column.

    ``normalise=True`` shows shares of each gold class. Beyond 30 classes, those with the most rows are drawn.
    """
    matrix = evaluation.confusion
    if matrix is None:
        raise InputError(f"There is no confusion matrix of {evaluation.kind}: it needs kind='labels'.")
    if not matrix.iloc[:, -1].any():
        matrix = matrix.iloc[:, :-1]
    left_out = max(0, len(matrix) - _MOST_CLASSES)
    if left_out:
        keep = np.sort(np.argsort(-matrix.sum(axis=1).to_numpy(), kind="stable")[:_MOST_CLASSES])
        failed = list(range(len(matrix), matrix.shape[1]))
        matrix = matrix.iloc[keep, [*keep, *failed]]
    rows, columns = max(1, matrix.shape[0]), max(1, matrix.shape[1])
    ax = ax if ax is not None else _axes(width=2.4 + 0.62 * columns, height=1.6 + 0.52 * rows)
    totals = matrix.sum(axis=1).to_numpy()[:, None]
    shares = np.divide(matrix.to_numpy(), totals, out=np.zeros(matrix.shape), where=totals > 0)
    if matrix.size:
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        words = f"{shares[row, column]:.0%}" if normalise else f"{value:,}"
        shade = "white" if shares[row, column] > 0.55 else ("#b5b5b5" if not value else "#222222")
        ax.text(column, row, words, ha="center", va="center", color=shade, fontsize=9)
    names = [_short(label) for label in matrix.columns]
    crowded = max((len(name) for name in names), default=0) * columns > 60
    ax.set_xticks(
        range(matrix.shape[1]), names, rotation=40 if crowded else 0, ha="right" if crowded else "center"
    )
    ax.set_yticks(range(matrix.shape[0]), [_short(label) for label in matrix.index])
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.set(xlabel=f"answer ({evaluation.predicted})", ylabel=f"gold ({evaluation.actual})")
    more = f" ({left_out} smaller classes not drawn)" if left_out else ""
    ax.set_title(_title(evaluation) + more, fontsize=10, loc="left")
    _no_frame(ax)
    return ax


def slices(evaluation: Evaluation, *, ax: Any = None) -> Any:
    """Draw every slice's accuracy with its interval; slices of few rows are hollow, the line is all rows."""
    table = evaluation.slices
    if table is None:
        raise InputError('There are no slices: score again with by="column".')
    table = table.iloc[::-1]
    ax = ax if ax is not None else _axes(width=6.4, height=1.3 + 0.34 * len(table))
    several = table["column"].nunique() > 1 if len(table) else False
    names = []
    for place, line in enumerate(_lines(table)):
        whiskers = [[line.accuracy - line.low], [line.high - line.accuracy]]
        face = "white" if line.small else BLUE
        ax.errorbar(line.accuracy, place, xerr=whiskers, fmt="o", color=BLUE, mfc=face, capsize=3, lw=1.4)
        name = f"{line.column} = {_short(line.slice)}" if several else _short(line.slice)
        names.append(f"{name}  (n = {line.rows:,}{', few' if line.small else ''})")
    ax.axvline(evaluation.accuracy, color=GREY, linewidth=1, linestyle="--")
    ax.set_yticks(range(len(table)), names)
    _share_axis(ax, evaluation.headline)
    what = "" if several or not len(table) else f" by {table['column'].iloc[0]}"
    ax.set_title(f"{_title(evaluation)}{what}", fontsize=10, loc="left")
    ax.grid(axis="x", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    _no_frame(ax, keep="bottom")
    return ax


def scores(evaluation: Evaluation, *, ax: Any = None, bins: int = 30) -> Any:
    """Draw how the rows' scores are distributed; for numbers, how far the answers are off."""
    ax = ax if ax is not None else _axes(width=6.4, height=3.2)
    rows = evaluation.rows[evaluation.rows["outcome"].isin(["correct", "wrong"])]
    if evaluation.kind == "numbers":
        values = rows["predicted"].to_numpy(float) - rows["actual"].to_numpy(float)
        label = "answer minus gold"
        edges: int | list[float] = bins
        if evaluation.tolerance:
            ax.axvspan(-evaluation.tolerance, evaluation.tolerance, color=GREEN, alpha=0.15, lw=0)
        ax.axvline(0, color=GREY, linewidth=1, linestyle="--")
    else:
        values = rows["score"].to_numpy(float)
        label, edges = f"score ({evaluation.match or 'equal'})", np.linspace(0, 1, bins + 1).tolist()
    ax.hist(values, bins=edges, color=BLUE, edgecolor="white", linewidth=0.6)
    failed = evaluation.counts.failed
    ax.set(xlabel=label + (f"; {failed:,} failed rows have none" if failed else ""), ylabel="rows")
    ax.set_title(_title(evaluation), fontsize=10, loc="left")
    _no_frame(ax, keep="bottom left")
    return ax


def comparison(compared: Comparison, *, ax: Any = None) -> Any:
    """Draw every run's difference to the first with its paired interval, and the band that noise gives."""
    table = compared.table.iloc[1:].iloc[::-1]
    ax = ax if ax is not None else _axes(width=6.4, height=1.5 + 0.45 * len(table))
    if compared.noise is not None and np.isfinite(compared.noise_band):
        ax.axvspan(-compared.noise_band, compared.noise_band, color=GREY, alpha=0.2, lw=0)
        ax.text(compared.noise_band, len(table) - 0.45, " noise", va="bottom", fontsize=8, color="#555555")
    for place, line in enumerate(_lines(table)):
        told = line.difference_low > 0 or line.difference_high < 0
        colour = (GREEN if (line.difference > 0) == compared.higher_is_better else RED) if told else GREY
        whiskers = [[line.difference - line.difference_low], [line.difference_high - line.difference]]
        ax.errorbar(line.difference, place, xerr=np.abs(whiskers), fmt="o", color=colour, capsize=4, lw=1.8)
    ax.axvline(0, color="#444444", linewidth=1)
    ax.set_yticks(range(len(table)), [_short(name) for name in table.index])
    ax.set_ylim(-0.7, len(table) - 0.3)
    if compared.metric == "accuracy":
        ax.xaxis.set_major_formatter(lambda value, _: f"{value * 100:+.3g}" if value else "0")
        ax.set_xlabel(f"accuracy minus that of {_short(compared.table.index[0])}, percentage points")
    else:
        ax.set_xlabel(f"{compared.metric} minus that of {_short(compared.table.index[0])}")
    ax.set_title(f"{compared.rows_used:,} rows in every run", fontsize=10, loc="left")
    ax.grid(axis="x", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    _no_frame(ax, keep="bottom")
    return ax


def _lines(table: pd.DataFrame) -> Iterator[Any]:
    return iter(table.itertuples())


def _axes(width: float, height: float) -> Any:
    pyplot = need("matplotlib.pyplot", "Drawing")
    return pyplot.subplots(figsize=(min(width, 16), min(height, 14)), layout="constrained")[1]


def _title(evaluation: Evaluation) -> str:
    if not evaluation.counts.counted:
        return "no rows"
    low, high = evaluation.interval
    counted = evaluation.counts.counted
    return f"{evaluation.headline} {evaluation.accuracy:.1%} [{low:.1%}, {high:.1%}], n = {counted:,}"


def _share_axis(ax: Any, label: str) -> None:
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel(label)


def _short(label: object, limit: int = 24) -> str:
    # A dollar sign would start a formula in matplotlib's text.
    words = " ".join(str(label).split()).replace("$", r"\$")
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _no_frame(ax: Any, keep: str = "") -> None:
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)
