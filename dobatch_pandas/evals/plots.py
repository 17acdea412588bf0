"""Pictures of evaluations and comparisons, by matplotlib: each takes an Axes or makes one, and returns it."""

from __future__ import annotations

import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .metrics import need
from .texts import clean

if TYPE_CHECKING:
    from .findings import Comparison, Evaluation

__all__ = ["against_cost", "comparison", "confusion", "fields", "over_time", "scores", "slices"]

# Okabe and Ito's palette: told apart with any colour vision, and in print.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8c8c8c"

_MOST_CLASSES, _MOST_SLICES = 30, 40
_INCHES = 0.085  # that a sign of a label takes


def confusion(evaluation: Evaluation, *, ax: Any = None, normalise: bool = False) -> Any:
    """
    Draw the confusion matrix: gold classes down, answers across, failed rows in the last column.

    ``normalise=True`` shows shares of each gold class. Beyond 30 classes, those confused most are drawn.
    """
    matrix = evaluation.confusion
    if matrix is None:
        raise InputError(f"There is no confusion matrix of {evaluation.kind}: it needs kind='labels'.")
    if not matrix.iloc[:, -1].any():
        matrix = matrix.iloc[:, :-1]
    left_out = max(0, len(matrix) - _MOST_CLASSES)
    if left_out:
        counts = matrix.to_numpy()
        square = counts[:, : len(matrix)]
        mixed_up = counts.sum(axis=1) + square.sum(axis=0) - 2 * np.diag(square)
        keep = np.sort(np.lexsort((-counts.sum(axis=1), -mixed_up))[:_MOST_CLASSES])
        failed = list(range(len(matrix), matrix.shape[1]))
        matrix = matrix.iloc[keep, [*keep, *failed]]
    rows, columns = max(1, matrix.shape[0]), max(1, matrix.shape[1])
    across, down = _labels(matrix.columns), _labels(matrix.index)
    needed = 0.2 + _INCHES * max(map(_width, across), default=0)  # of a column whose label is not turned
    if ax is None:
        column = max(0.62, needed if needed * columns < 6 else 0)
        beside, below = (_INCHES * max(map(_width, names), default=0) for names in (down, across))
        ax = _axes(
            width=max(3.6, 1.2 + beside + column * columns),
            height=1.9 + 0.42 * rows + (0.6 * below if needed > column else 0),
        )
    else:
        column = ax.get_window_extent().width / ax.figure.dpi / columns
    crowded = needed > column
    totals = matrix.sum(axis=1).to_numpy()[:, None]
    shares = np.divide(matrix.to_numpy(), totals, out=np.zeros(matrix.shape), where=totals > 0)
    if matrix.size:
        ax.imshow(_shades(shares), aspect="auto")
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        if value:  # zeros would hide the rest
            words = f"{shares[row, column]:.0%}" if normalise else f"{value:,}"
            shade = "white" if shares[row, column] > 0.55 else "#222222"
            ax.text(
                column, row, words, ha="center", va="center", color=shade, fontsize=9 if columns < 16 else 7
            )
    ax.set_xticks(
        range(matrix.shape[1]), across, rotation=40 if crowded else 0, ha="right" if crowded else "center"
    )
    ax.set_yticks(range(matrix.shape[0]), down)
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="#e4e4e4", linewidth=1)
    ax.tick_params(which="both", length=0)
    ax.set(
        xlabel=_short(f"answer ({evaluation.predicted})", 60),
        ylabel=_short(f"gold ({evaluation.actual})", 40),
    )
    more = f"; the {len(matrix)} classes confused most, of {len(matrix) + left_out}" if left_out else ""
    _title(ax, _title_words(evaluation) + more)
    _no_frame(ax)
    return _finish(ax)


def _shades(shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Blue on the diagonal, red beside it, the deeper the larger the share of the gold class."""
    colours = need("matplotlib.colors", "Drawing")
    image = np.ones((*shares.shape, 3))
    for (row, column), value in np.ndenumerate(shares):
        tone = np.array(colours.to_rgb(BLUE if row == column else RED))
        image[row, column] = 1 - (1 - tone) * min(1.0, value * 0.95)
    return image


def slices(evaluation: Evaluation, *, ax: Any = None) -> Any:
    """
    Draw every slice's accuracy with its interval; the line is all rows, hollow points have few.

    Orange points differ from the other rows, corrected for the number of slices.
    """
    table = evaluation.slices
    if table is None:
        raise InputError('There are no slices: score again with by="column".')
    several = table["column"].nunique() > 1 if len(table) else False
    names = [f"{line.column} = {line.slice}" if several else str(line.slice) for line in _lines(table)]
    what = "" if several or not len(table) else f", by {_short(table['column'].iloc[0])}"
    differs = (table["p_holm"] < 1 - evaluation.confidence).tolist() if "p_holm" in table else []
    return _ladder(evaluation, table, names, what, differs, ax)


def fields(evaluation: Evaluation, *, ax: Any = None) -> Any:
    """Draw every field's accuracy with its interval; the line is rows whose fields are all correct."""
    table = evaluation.fields
    if table is None:
        raise InputError("There are no fields: score several columns, or a column of dicts.")
    return _ladder(evaluation, table.assign(small=False), list(map(str, table.index)), ", by field", [], ax)


def _ladder(
    evaluation: Evaluation, table: pd.DataFrame, names: list[str], what: str, differs: list[bool], ax: Any
) -> Any:
    left_out = max(0, len(table) - _MOST_SLICES)
    table, names = table.iloc[:_MOST_SLICES], names[:_MOST_SLICES]
    ax = ax if ax is not None else _axes(width=7, height=1.5 + 0.34 * len(table))
    differs = differs or [False] * len(table)
    labels = []
    for place, (line, name) in enumerate(zip(_lines(table), _labels(names, 32), strict=True)):
        colour = ORANGE if differs[place] else BLUE
        if np.isfinite(line.accuracy):
            whiskers = [[max(0.0, line.accuracy - line.low)], [max(0.0, line.high - line.accuracy)]]
            face = "white" if line.small else colour
            ax.errorbar(
                line.accuracy, place, xerr=whiskers, fmt="o", color=colour, mfc=face, capsize=3, lw=1.4
            )
        labels.append(f"{name}  (n = {line.rows:,}{', few' if line.small else ''})")
    if np.isfinite(evaluation.accuracy):
        ax.axvline(evaluation.accuracy, color=GREY, linewidth=1, linestyle="--")
    ax.set_yticks(range(len(table)), labels)
    ax.set_ylim(len(table) - 0.4, -0.6)  # the first on top
    _share_axis(ax, evaluation.headline)
    more = f" (first {len(table)} of {len(table) + left_out})" if left_out else ""
    _title(ax, f"{_title_words(evaluation)}{what}{more}")
    ax.grid(axis="x", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    _no_frame(ax, keep="bottom")
    return _finish(ax)


def scores(evaluation: Evaluation, *, ax: Any = None, bins: int = 30) -> Any:
    """
    Draw how the rows' scores are distributed; for numbers, how far the answers are off.

    Few values far out are left out of the picture and counted in its label.
    """
    ax = ax if ax is not None else _axes(width=7, height=3.4)
    rows = evaluation.rows[evaluation.rows["outcome"].isin(["correct", "wrong"])]
    beyond = 0
    if evaluation.kind == "numbers":
        values = rows["predicted"].to_numpy(float) - rows["actual"].to_numpy(float)
        label = "answer minus gold"
        low, high = _middle(values)
        beyond = int(((values < low) | (values > high)).sum())
        values = values[(values >= low) & (values <= high)]
        edges: Any = bins
        if evaluation.tolerance:
            ax.axvspan(-evaluation.tolerance, evaluation.tolerance, color=GREEN, alpha=0.15, lw=0)
            label += f"; green: within ±{evaluation.tolerance:g}"
        ax.axvline(0, color=GREY, linewidth=1, linestyle="--")
    else:
        values = rows["score"].to_numpy(float)
        label, edges = f"score ({evaluation.match or evaluation.kind})", np.linspace(0, 1, bins + 1).tolist()
        threshold = float(evaluation.rules.get("threshold", 0.5))
        ax.axvline(threshold, color=RED, linewidth=1.2, linestyle="--")
        label += f"; correct from {threshold:g} on"
    if len(values):
        size = float(np.abs(values).max()) or 1.0
        if edges is bins and float(np.ptp(values)) < 1e-9 * size:
            # Large and alike, they lie nearer together than numpy can divide.
            edges = np.linspace(values.min() - size / 10, values.max() + size / 10, bins + 1).tolist()
        ax.hist(values, bins=edges, color=BLUE, edgecolor="white", linewidth=0.6)
    if beyond:
        label += f"; {beyond:,} farther out"
    failed = evaluation.counts.failed
    ax.set(ylabel="rows")
    ax.set_xlabel(_wrapped(label + (f"; {failed:,} failed rows have none" if failed else ""), 80))
    _title(ax, _title_words(evaluation))
    _no_frame(ax, keep="bottom left")
    return _finish(ax)


def _middle(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Where to cut, so that few values far out do not flatten all others."""
    if not len(values):
        return 0.0, 0.0
    quarter, three = np.percentile(values, [25, 75])
    reach = 4 * (three - quarter) or float(np.percentile(np.abs(values - three), 98)) or float(np.ptp(values))
    return float(max(values.min(), quarter - reach)), float(min(values.max(), three + reach))


def comparison(compared: Comparison, *, ax: Any = None) -> Any:
    """
    Draw every run's difference to the first with its interval, and the band that noise gives.

    Green is better and red is worse by the verdict of the table; grey is not told apart.
    """
    table = compared.table.iloc[1:]
    ax = ax if ax is not None else _axes(width=7.4, height=1.9 + 0.45 * len(table))
    if compared.noise is not None and np.isfinite(compared.noise_band):
        ax.axvspan(-compared.noise_band, compared.noise_band, color=GREY, alpha=0.2, lw=0)
        ax.text(compared.noise_band, -0.55, " noise", va="top", fontsize=8, color="#555555")
    colours = {"better": GREEN, "worse": RED}
    for place, line in enumerate(_lines(table)):
        if not np.isfinite(line.difference):
            continue
        colour = colours.get(line.verdict, GREY)
        ends = [line.difference - line.difference_low, line.difference_high - line.difference]
        whiskers = [[max(0.0, end) if np.isfinite(end) else 0.0] for end in ends]
        ax.errorbar(line.difference, place, xerr=whiskers, fmt="o", color=colour, capsize=4, lw=1.8)
    ax.axvline(0, color="#444444", linewidth=1)
    words = [
        f"{name}\n{line.verdict}" for name, line in zip(_labels(table.index, 32), _lines(table), strict=True)
    ]
    ax.set_yticks(range(len(table)), words)
    ax.set_ylim(len(table) - 0.3, -0.7)
    against = _short(compared.table.index[0], 40)
    if compared.metric == "accuracy":
        ax.xaxis.set_major_formatter(lambda value, _: f"{value * 100:+.3g}" if value else "0")
        ax.set_xlabel(_wrapped(f"accuracy minus that of {against}, percentage points", 70))
    else:
        ax.set_xlabel(_wrapped(f"{compared.metric} minus that of {against}", 70))
    several = f", {len(table)} comparisons (Holm)" if len(table) > 1 else ""
    _title(ax, f"{compared.rows_used:,} rows in every run, {compared.confidence:.0%} CI{several}")
    ax.grid(axis="x", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    _no_frame(ax, keep="bottom")
    return _finish(ax)


def over_time(saved: pd.DataFrame, *, ax: Any = None) -> Any:
    """Draw the accuracy of saved evaluations over the time of saving, a line a name."""
    ax = ax if ax is not None else _axes(width=7.4, height=4)
    names = list(dict.fromkeys(saved["name"])) if len(saved) else []
    for place, (name, label) in enumerate(zip(names, _labels(names, 32), strict=True)):
        runs = saved[saved["name"] == name].sort_values("saved")
        _points(ax, runs["saved"].dt.tz_localize(None).to_numpy(), runs, place, label, line="-")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set(ylabel="accuracy, 95% CI", xlabel="saved (UTC)")
    ax.tick_params(axis="x", rotation=25)
    return _crowd(ax, names, "Accuracy over time")


def against_cost(saved: pd.DataFrame, *, ax: Any = None) -> Any:
    """Draw the accuracy of the newest saved evaluation of each name against what it cost."""
    ax = ax if ax is not None else _axes(width=7.4, height=4)
    newest = saved.drop_duplicates("name") if len(saved) else saved
    unknown = int(newest["cost"].isna().sum())
    newest = newest[newest["cost"].notna()]
    names = newest["name"].tolist()
    for place, label in enumerate(_labels(names, 32)):
        run = newest.iloc[[place]]
        _points(ax, run["cost"].to_numpy(float), run, place, label, line="")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.xaxis.set_major_formatter(lambda value, _: f"\\${value:.3g}")
    ax.set(
        ylabel="accuracy, 95% CI", xlabel="cost of the run" + (f"; unknown for {unknown}" if unknown else "")
    )
    return _crowd(ax, names, "Accuracy against cost")


_COLOURS, _MARKS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#444444"), "osD^vPX"


def _points(ax: Any, x: Any, runs: pd.DataFrame, place: int, label: str, *, line: str) -> None:
    whiskers = [
        (runs["accuracy"] - runs["low"]).clip(lower=0),
        (runs["high"] - runs["accuracy"]).clip(lower=0),
    ]
    ax.errorbar(
        x, runs["accuracy"].to_numpy(float), yerr=np.nan_to_num(np.array(whiskers)), label=label, capsize=3,
        color=_COLOURS[place % len(_COLOURS)], fmt=_MARKS[place % len(_MARKS)] + line, lw=1.3,
    )  # fmt: skip


def _crowd(ax: Any, names: list[str], title: str) -> Any:
    _title(ax, title if names else f"{title}: nothing to show")
    if names:
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    _no_frame(ax, keep="bottom left")
    return _finish(ax)


def _lines(table: pd.DataFrame) -> Iterator[Any]:
    return iter(table.itertuples())


def _axes(width: float, height: float) -> Any:
    pyplot = need("matplotlib.pyplot", "Drawing")
    return pyplot.subplots(figsize=(min(width, 16), min(height, 14)), layout="constrained")[1]


def _title_words(evaluation: Evaluation) -> str:
    name = f"{_short(evaluation.name, 40)}: "
    if not evaluation.counts.counted:
        return f"{name}no rows"
    low, high = evaluation.interval
    counted = evaluation.counts.counted
    return f"{name}{evaluation.headline} {evaluation.accuracy:.1%} [{low:.1%}, {high:.1%}], n = {counted:,}"


def _title(ax: Any, words: str) -> None:
    ax.set_title(_wrapped(words, 200), fontsize=10, loc="left")


def _fit_title(ax: Any) -> None:
    """Break the title into lines where it would be cut off at the picture's right edge."""
    title, figure = ax._left_title, ax.figure.canvas.figure
    words = " ".join(title.get_text().split())
    for _ in range(3):
        figure.draw_without_rendering()
        drawn = title.get_window_extent()
        room = figure.bbox.x1 - 4 - drawn.x0
        if drawn.width <= room or room <= 0:
            return
        longest = max(map(len, title.get_text().split("\n")))
        title.set_text(_wrapped(words, max(16, int(longest * room / drawn.width) - 1)))


def _wrapped(words: str, width: int) -> str:
    return "\n".join(textwrap.wrap(_drawable(words), width, break_long_words=True)) or words


def _share_axis(ax: Any, label: str) -> None:
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel(_wrapped(label, 70))


def _short(label: object, limit: int = 24) -> str:
    """A name shortened in the middle, where names of one family are alike, and no formula for matplotlib."""
    words = _drawable(" ".join(clean(str(label)).split())).replace("$", r"\$")
    if len(words) > limit:
        tail = (limit - 1) * 2 // 5
        words = f"{words[: limit - 1 - tail]}…{words[-tail:]}"
    return words


def _labels(labels: Iterable[object], limit: int = 24) -> list[str]:
    """Short names, of which no two are the same."""
    found: list[str] = []
    for label in labels:
        name, number = _short(label, limit), 1
        while name in found:
            number += 1
            name = f"{_short(label, limit - 4)} ({number})"
        found.append(name)
    return found


def _width(words: str) -> int:
    """Columns that a text takes: East Asian signs are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in words)


@cache
def _fonts() -> list[str]:
    """Fonts that are here and have signs beyond Latin, for matplotlib to fall back on."""
    manager = need("matplotlib.font_manager", "Drawing")
    there = {font.name for font in manager.fontManager.ttflist}
    words = (
        "Noto Sans CJK", "Source Han Sans", "WenQuanYi", "Droid Sans Fallback", "PingFang", "Hiragino",
        "Microsoft YaHei", "SimHei", "Malgun", "IPAexGothic", "IPAGothic", "Noto Sans", "Noto Emoji", "Segoe UI Emoji",
        "Segoe UI Symbol", "Symbola", "Arial Unicode MS", "FreeSans", "Unifont",
    )  # fmt: skip
    found = [
        name for word in words for name in sorted(there) if name.startswith(word) and "Color" not in name
    ]
    return list(dict.fromkeys(found))[:12]


@cache
def _signs() -> frozenset[int]:
    """Every sign that some font which is used here has."""
    manager = need("matplotlib.font_manager", "Drawing")
    used = [manager.FontProperties(), *(manager.FontProperties(family=family) for family in _fonts())]
    return frozenset(sign for font in used for sign in manager.get_font(manager.findfont(font)).get_charmap())


_CONTROL = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160)), "?")


def _drawable(words: str) -> str:
    """The words with a question mark for what no font here has, and a warning where it is not a control character."""
    words = words.translate(_CONTROL)
    if words.isascii():
        return words
    signs = _signs()
    lacking = {
        sign for sign in words if ord(sign) not in signs and unicodedata.category(sign)[0] not in "MCZ"
    }
    if not lacking:
        return words
    warnings.warn(
        f"No font on this machine has {''.join(sorted(lacking)[:10])!r}: a picture shows ? instead. Install one that "
        "has, such as Noto Sans CJK (package fonts-noto-cjk), and start Python again.",
        stacklevel=2,
    )
    return "".join("?" if sign in lacking else sign for sign in words)


def _finish(ax: Any) -> Any:
    """Give texts that need them the fonts for it, and the title the lines that it takes."""
    text = need("matplotlib.text", "Drawing").Text
    for found in ax.findobj(text):
        if any(ord(sign) > 0x24F and sign not in "…−–—±²↓→" for sign in found.get_text()):
            families = found.get_fontfamily()
            found.set_fontfamily([*families, *(font for font in _fonts() if font not in families)])
    _fit_title(ax)
    return ax


def _no_frame(ax: Any, keep: str = "") -> None:
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)
