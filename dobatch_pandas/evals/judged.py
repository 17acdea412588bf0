"""What a judge said, in numbers: a line a criterion, from every sample that was paid for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .given import verdicts_of
from .metrics import need
from .significance import clustered_share, mean_interval, share
from .texts import as_text

__all__ = ["Judged", "judged"]


@dataclass(frozen=True, repr=False, eq=False)
class Judged:
    """
    What a judge said of all rows.

    Attributes
    ----------
    table : pandas.DataFrame
        A line a criterion: share that passes, or mean score, with its interval, rows, rows without a verdict,
        and ``consistency``, how often two samples agree. ``all`` is rows that pass every criterion.
    rows : pandas.DataFrame
        Every row's verdict by criterion: of several samples, the share that passes or the mean score.
    verbosity : pandas.DataFrame or None
        Each criterion: rank correlation of verdict and length of the answer, with its interval and p.
    samples : int
        Verdicts on each row.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    verbosity: pd.DataFrame | None
    samples: int
    confidence: float = 0.95

    def __getitem__(self, criterion: str) -> float:
        if criterion not in self.table.index:
            raise KeyError(f"{criterion!r}; there are: {', '.join(map(str, self.table.index))}")
        return float(self.table["value"].to_dict()[criterion])

    @property
    def length_words(self) -> str:
        """Which criteria go with the length of the answer; empty where it is not known."""
        if self.verbosity is None or not len(self.verbosity):
            return ""
        alpha = 1 - self.confidence
        leaning = self.verbosity[self.verbosity["p"] < alpha / len(self.verbosity)]
        if not len(leaning):
            return "No verdict goes with the length of the answer by more than chance"
        words = ", ".join(f"{name} ({line['correlation']:+.2f})" for name, line in leaning.iterrows())
        return f"Verdicts go with the length of the answer (rank correlation): {words}"

    def __repr__(self) -> str:
        lines = [
            f"{name} {_shown(line)} [{_shown(line, 'low')}, {_shown(line, 'high')}]"
            for name, line in self.table.iterrows()
        ]
        of = f", {self.samples} samples each" if self.samples > 1 else ""
        length = f". {self.length_words}" if self.length_words else ""
        return f"<Judged {len(self.rows):,} rows{of}: {'; '.join(lines)}{length}>"

    def _repr_html_(self) -> str:
        from . import report

        lines = []
        for name, line in self.table.iterrows():
            drawn = report.bar(line["value"], line["low"], line["high"]) if line["kind"] == "share" else ""
            lines.append(
                [
                    report.escape(str(name)), _shown(line), drawn, f"{_shown(line, 'low')} – {_shown(line, 'high')}",
                    f"{line['rows']:,}", f"{line['failed']:,}", report.number(float(line["consistency"]), "accuracy"),
                ]
            )  # fmt: skip
        header = [
            "criterion",
            "passes",
            "",
            f"{self.confidence:.0%} CI",
            "rows",
            "no verdict",
            "samples agree",
        ]
        length = f'<p class="soft">{report.escape(self.length_words)}.</p>' if self.length_words else ""
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>{length}'
            f"{report.table(header, lines, caption='judged')}</div>"
        )


def _shown(line: pd.Series[Any], column: str = "value") -> str:
    value = float(line[column])
    if value != value:
        return "–"
    return f"{value:.1%}" if line["kind"] == "share" else f"{value:.2f}"


def judged(
    result: Any,
    *,
    into: str | None = None,
    samples: int | None = None,
    answers: pd.Series[Any] | None = None,
    confidence: float = 0.95,
) -> Judged:
    """
    Return what a judge said: pass rates or mean scores by criterion, with intervals.

    Parameters
    ----------
    result : Job or pandas.DataFrame
        The job that `judge` gave, its ``result()``, or a frame that was joined with it.
    into : str, optional
        The verdict's column; a job knows its own, in a frame it is ``"judge"`` by default.
    samples : int, optional
        Verdicts on each row, in ``<into>_2`` and on; a job knows its own. All of them count.
    answers : pandas.Series, optional
        The answers that were judged, to measure whether longer ones fare better.
    confidence : float
        Of the intervals.

    Raises
    ------
    InputError
        There is no verdict under that name.
    """
    found, into, count = verdicts_of(result, into, samples)
    ends = f"{into}_", "_reason"
    names = [
        str(column)[len(ends[0]) : -len(ends[1])]
        for column in found.columns
        if str(column).startswith(ends[0])
        and str(column).endswith(ends[1])
        and str(column)[: -len(ends[1])] in found
    ]
    if into in found.columns:
        columns = {into: into}
    else:
        columns = {name: f"{into}_{name}" for name in names if not name.rpartition("_")[2].isdigit()}
    if not columns:
        there = ", ".join(map(repr, found.columns))
        raise InputError(f"There is no verdict {into!r}. The columns are: {there}.")
    lacking = [f"{c}_{n}" for c in columns.values() for n in range(2, count + 1) if f"{c}_{n}" not in found]
    if lacking:
        raise InputError(f"samples={count} needs the columns {', '.join(map(repr, lacking))}.")
    if answers is not None and len(answers) != len(found):
        raise InputError(f"answers= has {len(answers):,} rows, and {len(found):,} were judged.")
    lines: dict[str, dict[str, Any]] = {}
    rows: dict[str, Any] = {}
    passes: list[np.ndarray[Any, Any]] = []
    numbers: dict[str, np.ndarray[Any, Any]] = {}
    for name, column in columns.items():
        given = [
            list(found[c].astype(object)) for c in (column, *(f"{column}_{n}" for n in range(2, count + 1)))
        ]
        kinds = {_kind(value) for sample in given for value in sample} - {None}
        if kinds <= {"verdict"} or kinds == {"score"}:
            values = np.array([[_number(v) for v in sample] for sample in given], dtype=float)
            each = _mean(values)
            share_like = kinds != {"score"}
            lines[name] = _line(each, values, share_like, count, confidence)
            rows[name] = each
            numbers[name] = each
            if share_like:
                passes.append(values)
            continue
        texts = np.array([[None if _kind(v) is None else as_text(v) for v in s] for s in given], dtype=object)
        for label in sorted({text for text in texts.ravel() if text is not None}):
            values = np.array(
                [[math.nan if t is None else float(t == label) for t in s] for s in texts], dtype=float
            )
            lines[f"{name}: {label}"] = _line(_mean(values), values, True, count, confidence)
            numbers[f"{name}: {label}"] = _mean(values)
        rows[name] = [next((t for t in column if t is not None), None) for column in texts.T]
    if len(passes) > 1:
        every = np.min(np.array(passes), axis=0)  # NaN where one criterion has no verdict
        lines["all"] = _line(_mean(every), every, True, count, confidence)
        rows["all"] = _mean(every)
    table = pd.DataFrame.from_dict(lines, orient="index").rename_axis("criterion")
    frame = pd.DataFrame(rows, index=found.index)
    verbosity = None if answers is None else _verbosity(numbers, answers, confidence)
    return Judged(table, frame, verbosity, count, confidence)


def _kind(value: Any) -> str | None:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, (bool, np.bool_)) or value in ("pass", "fail"):
        return "verdict"
    return "score" if isinstance(value, (int, float, np.number)) else "label"


def _number(value: Any) -> float:
    kind = _kind(value)
    if kind is None:
        return math.nan
    return float(value in (True, "pass")) if kind == "verdict" else float(value)


def _mean(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    known = (~np.isnan(values)).sum(axis=0)
    none = np.full(values.shape[1], np.nan)
    return np.asarray(np.divide(np.nansum(values, axis=0), known, out=none, where=known > 0))


def _line(
    each: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    share_like: bool,
    samples: int,
    confidence: float,
) -> dict[str, Any]:
    known = each[~np.isnan(each)]
    if not share_like:
        value, low, high = mean_interval(known, confidence)
    elif samples == 1:
        value, low, high = share(float(known.sum()), len(known), confidence)
    else:
        value, low, high = clustered_share(known, np.arange(len(known)), confidence, samples=samples)
    agree = []
    for column in values.T:
        given = column[~np.isnan(column)]
        if len(given) > 1:
            sizes = np.unique(given, return_counts=True)[1]
            agree.append(float((sizes * (sizes - 1)).sum() / (len(given) * (len(given) - 1))))
    return {
        "kind": "share" if share_like else "score", "value": value, "low": low, "high": high, "rows": len(known),
        "failed": len(each) - len(known), "consistency": float(np.mean(agree)) if agree else math.nan,
    }  # fmt: skip


def _verbosity(
    numbers: dict[str, np.ndarray[Any, Any]], answers: pd.Series[Any], confidence: float
) -> pd.DataFrame:
    """Spearman's correlation of verdict and length, with Bonett and Wright's interval."""
    stats = need("scipy.stats", "Verbosity bias")
    lengths = np.array(
        [math.nan if _kind(value) is None else len(as_text(value)) for value in answers.astype(object)]
    )
    lines = {}
    for name, values in numbers.items():
        both = ~np.isnan(values) & ~np.isnan(lengths)
        x, y, count = lengths[both], values[both], int(both.sum())
        line = {"correlation": math.nan, "low": math.nan, "high": math.nan, "p": 1.0, "rows": count}
        if count > 4 and len(set(x)) > 1 and len(set(y)) > 1:
            found = stats.spearmanr(x, y)
            r = float(found.statistic)
            half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((1 + r**2 / 2) / (count - 3))
            centre = math.atanh(max(-0.999999, min(0.999999, r)))
            line |= {
                "correlation": r, "low": math.tanh(centre - half), "high": math.tanh(centre + half),
                "p": float(found.pvalue),
            }  # fmt: skip
        lines[name] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("criterion")
