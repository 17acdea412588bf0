"""
How good the answers are: one column against another, failed rows counted and never dropped silently.

    frame --grade--> one outcome a row --metrics--> Evaluation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from . import text
from .evaluation import Counts, Evaluation
from .grade import MATCHES, Kind, Match, Matcher, Rules, grade, kind_of, match_points
from .metrics import LabelNumbers, label_numbers, number_numbers, share

__all__ = ["score"]


def score(
    frame: pd.DataFrame,
    predicted: str,
    actual: str,
    *,
    kind: Kind | None = None,
    match: Match | Matcher | None = None,
    by: str | Sequence[str] | None = None,
    failed: Literal["wrong", "exclude"] = "wrong",
    error: str | None = None,
    samples: int | Sequence[str] | None = None,
    tolerance: float | None = None,
    threshold: float = 0.5,
    normalise: bool | Callable[[str], str] = False,
    positive: Hashable | None = None,
    small: int = 30,
    confidence: float = 0.95,
    name: str | None = None,
) -> Evaluation:
    """
    Return how well the column ``predicted`` agrees with the gold column ``actual``.

    Parameters
    ----------
    frame : pandas.DataFrame
        Holds both columns; any index. Not changed.
    predicted, actual : str
        Names of the columns. Rows without gold are counted as ``unlabelled`` and not scored.
    kind : {"labels", "numbers", "text"}, optional
        What the columns hold. None tells it from the dtypes: bool and category are labels, numbers are
        numbers, strings are labels where the gold values are short and repeat, else text.
    match : {"exact", "normalised", "contains", "regex", "token_f1"} or callable, optional
        When a text is right (default ``"normalised"``). ``"contains"``: the gold text stands in the answer.
        ``"regex"``: the gold column holds patterns. A callable takes (predicted, actual) and returns a
        bool or a number from 0 to 1.
    by : str or sequence of str, optional
        Columns to slice by, each on its own; numbers of more than 20 values are cut into fifths.
    failed : {"wrong", "exclude"}
        Whether a row without an answer counts as wrong, or is left out. Both counts are always shown.
    error : str, optional
        Column of error codes, null where a row succeeded. None takes ``<predicted>_error`` if there is one.
    samples : int or sequence of str, optional
        Repeated answers to the same request, as ``samples=k`` gives them: ``<predicted>_2`` and on. None
        finds them by name, 1 ignores them. The first sample is what is scored; the others tell the noise.
    tolerance : float, optional
        How far a number may be off and still be right (default 0).
    threshold : float
        From which score on a row is right, where the match gives a share rather than yes or no.
    normalise : bool or callable
        For labels: compare without case and punctuation. For text: a function to use before matching.
    positive : hashable, optional
        Class whose own precision, recall and F1 are wanted beside the macro averages.
    small : int
        Slices of fewer rows are marked.
    confidence : float
        Of the intervals, which are Wilson's.
    name : str, optional
        What to call this run in comparisons; None takes the column's name.

    Raises
    ------
    InputError
        Columns that are not there, or options that do not fit; all of them at once.
    MissingExtra
        The libraries that do the statistics are not installed.
    """
    slices_by = [by] if isinstance(by, str) else list(by or [])
    if error is None and f"{predicted}_error" in frame.columns:
        error = f"{predicted}_error"
    sample_names = _sample_columns(frame, predicted, samples)
    problems = _check(
        frame, [predicted, actual, *slices_by, *([error] if error else []), *sample_names],
        kind=kind, match=match, failed=failed, tolerance=tolerance, confidence=confidence,
    )  # fmt: skip
    if problems:
        raise InputError(problems)

    said = kind or _said_by_options(match, tolerance, positive)
    kind = said or kind_of(frame[predicted], frame[actual])
    rules = Rules.of(kind, match, tolerance, threshold, normalise)
    runs = {}
    for column in [predicted, *sample_names]:
        codes = error if column == predicted else _sample_error(error, predicted, column)
        runs[column] = grade(
            rules, frame[column], frame[actual], frame[codes] if codes in frame.columns else None
        )
    rows = runs[predicted]
    counted = rows[rows["outcome"].isin(_counted(failed))]
    labels = None
    if kind == "labels":
        order = _order(frame[[predicted, actual]], counted)
        if positive is not None and positive not in order:
            raise InputError(f"positive={positive!r} is none of the classes: {', '.join(map(repr, order))}.")
        labels = label_numbers(counted["predicted"], counted["actual"], order=order, positive=positive)
    sliced = [
        _slice(frame[column], rules, rows, failed=failed, small=small, confidence=confidence)
        for column in slices_by
    ]
    return Evaluation(
        name=name or str(predicted),
        kind=kind,
        match=rules.match,
        predicted=predicted,
        actual=actual,
        error=error,
        failed=failed,
        tolerance=rules.tolerance,
        confidence=confidence,
        counts=Counts.of(rows, counted),
        rows=rows,
        table=_metric_table(rules, rows, counted, labels, failed, confidence),
        classes=labels.classes if labels else None,
        confusion=labels.confusion if labels else None,
        slices=pd.concat(sliced, ignore_index=True) if sliced else None,
        runs=runs,
        frame=frame.copy(deep=False),
        notes=tuple(_notes(rules, rows, kind_was_said=said is not None)),
    )


def _counted(failed: str) -> list[str]:
    return ["correct", "wrong"] if failed == "exclude" else ["correct", "wrong", "failed"]


def _check(
    frame: pd.DataFrame,
    columns: list[str],
    *,
    kind: str | None,
    match: object,
    failed: str,
    tolerance: float | None,
    confidence: float,
) -> list[Problem]:
    problems = []
    for column in dict.fromkeys(columns):
        count = int((frame.columns == column).sum())
        if count == 0:
            there = ", ".join(map(repr, frame.columns))
            problems.append(Problem(f"There is no column {column!r}. The columns are: {there}."))
        elif count > 1:
            problems.append(Problem(f"{count} columns are named {column!r}: rename all but one."))
    if kind not in (None, "labels", "numbers", "text"):
        problems.append(Problem(f'kind={kind!r} is not one of "labels", "numbers", "text".'))
    if failed not in ("wrong", "exclude"):
        problems.append(Problem(f'failed={failed!r} is not one of "wrong", "exclude".'))
    if match is not None and not callable(match) and match not in MATCHES:
        problems.append(Problem(f"match={match!r} is not one of {', '.join(MATCHES)}, nor a callable."))
    if match is not None and kind in ("labels", "numbers"):
        problems.append(
            Problem(f'match= is for text, and kind={kind!r} was said: leave one out, or say kind="text".')
        )
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        problems.append(Problem(f"tolerance={tolerance!r} must be a finite number, 0 or above."))
    if not 0 < confidence < 1:
        problems.append(Problem(f"confidence={confidence!r} must lie between 0 and 1, such as 0.95."))
    return problems


def _sample_columns(frame: pd.DataFrame, predicted: str, samples: int | Sequence[str] | None) -> list[str]:
    if samples is None:
        found: list[str] = []
        while f"{predicted}_{len(found) + 2}" in frame.columns:
            found.append(f"{predicted}_{len(found) + 2}")
        return found
    if isinstance(samples, int):
        return [f"{predicted}_{number}" for number in range(2, samples + 1)]
    return [column for column in samples if column != predicted]


def _sample_error(error: str | None, predicted: str, sample: str) -> str:
    """``response_error`` of the second sample is ``response_2_error``."""
    number = sample.removeprefix(predicted)
    return f"{error.removesuffix('_error')}{number}_error" if error else f"{sample}_error"


def _said_by_options(match: object, tolerance: float | None, positive: object) -> Kind | None:
    if match is not None:
        return "text"
    if tolerance is not None:
        return "numbers"
    return "labels" if positive is not None else None


def _order(columns: pd.DataFrame, counted: pd.DataFrame) -> list[Hashable]:
    """Every label that occurs: categories in their own order, numbers by size, words by the alphabet."""
    seen = set(counted["actual"].dropna()) | set(counted["predicted"].dropna())
    known: list[Hashable] = []
    for name in (1, 0):  # the gold column's order before the answers'
        column = columns.iloc[:, name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            known += [category for category in column.cat.categories if category in seen]
    known = list(dict.fromkeys(known))
    rest = seen - set(known)
    numeric = all(isinstance(label, (int, float)) for label in rest)
    return [*known, *sorted(rest, key=None if numeric else str)]


def _metric_table(
    rules: Rules,
    rows: pd.DataFrame,
    counted: pd.DataFrame,
    labels: LabelNumbers | None,
    failed: str,
    confidence: float,
) -> pd.DataFrame:
    """A line a metric: value, interval where there is one, and the number of rows it is about."""
    answered = rows[rows["outcome"].isin(["correct", "wrong"])]
    labelled = rows[rows["outcome"] != "unlabelled"]
    other, other_rows = ("all", labelled) if failed == "exclude" else ("answered", answered)
    lines: dict[str, tuple[float, float, float, int]] = {}
    for name, part in (("accuracy", counted), (f"accuracy_{other}", other_rows)):
        right = int((part["outcome"] == "correct").sum())
        lines[name] = (*share(right, len(part), confidence), len(part))
    values: dict[str, float] = {}
    if labels is not None:
        values = labels.metrics
    elif rules.kind == "text":
        values = _text_numbers(rules, counted, answered)
    for name, value in values.items():
        lines[name] = (value, math.nan, math.nan, len(counted))
    if rules.kind == "numbers":
        numbers = number_numbers(answered["predicted"].to_numpy(float), answered["actual"].to_numpy(float))
        for name, value in numbers.items():
            lines[name] = (value, math.nan, math.nan, len(answered))
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["value", "low", "high", "rows"])
    table.index.name = "metric"
    return table


def _text_numbers(rules: Rules, counted: pd.DataFrame, answered: pd.DataFrame) -> dict[str, float]:
    """The mean score of every way of matching; a failed row that counts has score 0."""
    rows = len(counted)
    if not rows:
        return dict.fromkeys(["exact", "normalised", "contains", "token_f1"], math.nan)
    numbers = {}
    if rules.match not in MATCHES or rules.match == "regex":
        numbers["score"] = float(np.nansum(answered["score"]) / rows)
    if rules.match != "regex":  # a pattern is not an answer
        answers, gold = (answered[column].map(str).astype(object) for column in ("predicted", "actual"))
        for name in ("exact", "normalised", "contains", "token_f1"):
            points = match_points(MATCHES[name], answers, gold)
            numbers[name] = float(points.sum() / rows)
    return numbers


def _slice(
    values: pd.Series[Any],
    rules: Rules,
    rows: pd.DataFrame,
    *,
    failed: str,
    small: int,
    confidence: float,
) -> pd.DataFrame:
    """The same numbers for every group of a column, largest group first."""
    groups = slice_groups(values)
    lines = []
    for group, part in rows.groupby(groups.to_numpy(), observed=True, sort=True):
        counted = part[part["outcome"].isin(_counted(failed))]
        answered = part[part["outcome"].isin(["correct", "wrong"])]
        right = int((counted["outcome"] == "correct").sum())
        accuracy, low, high = share(right, len(counted), confidence)
        line = {
            "column": values.name,
            "slice": group,
            "rows": len(counted),
            "answered": len(answered),
            "failed": int((part["outcome"] == "failed").sum()),
            "unlabelled": int((part["outcome"] == "unlabelled").sum()),
            "accuracy": accuracy,
            "low": low,
            "high": high,
        }
        if rules.kind == "labels":
            order = _order(part[["predicted", "actual"]], counted)
            numbers = label_numbers(counted["predicted"], counted["actual"], order=order)
            line["macro_f1"] = numbers.metrics["macro_f1"]
        elif rules.kind == "numbers":
            sizes = answered["predicted"].to_numpy(float), answered["actual"].to_numpy(float)
            line["mae"] = number_numbers(*sizes)["mae"]
        lines.append({**line, "small": len(counted) < small})
    table = pd.DataFrame(lines)
    return table.sort_values("rows", ascending=False, kind="stable") if lines else table


def slice_groups(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return every row's group as text: its value, a fifth of a range of numbers, or ``(missing)``."""
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if numeric and values.nunique() > 20:
        fifths = pd.qcut(values.astype("Float64").astype(float), 5, duplicates="drop")
        # Zero-padded numbers keep the fifths in order when they are sorted as text.
        names = {interval: f"{place + 1}: {interval}" for place, interval in enumerate(fifths.cat.categories)}
        return fifths.astype(object).map(names).where(values.notna(), "(missing)")
    return values.astype(object).map(str).where(values.notna(), "(missing)")


def _notes(rules: Rules, rows: pd.DataFrame, *, kind_was_said: bool) -> list[str]:
    """What a reader of the numbers should know besides."""
    notes = []
    if not kind_was_said:
        notes.append(f'kind="{rules.kind}" was told from the columns; say kind= to choose.')
    wrong = rows[rows["outcome"] == "wrong"]
    if rules.kind == "labels" and rules.fold is None and len(wrong):
        pairs = wrong[["predicted", "actual"]].astype(str).value_counts().reset_index()
        same = sum(
            int(pair["count"])
            for pair in pairs.to_dict("records")
            if text.normalise(pair["predicted"]) == text.normalise(pair["actual"])
        )
        if same:
            notes.append(
                f"{same:,} wrong row{'s' if same > 1 else ''} would be right but for case or punctuation: "
                "normalise=True."
            )
    return notes
