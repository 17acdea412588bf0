"""
How good the answers are: one column against another, failed rows counted and never dropped silently.

    frame --grade--> one outcome a row --metrics--> Evaluation
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from .findings import Counts, Evaluation, Reduce
from .given import is_real, is_whole, named_columns, need_frame
from .grade import KINDS, MATCHES, OUTCOMES, Kind, Match, Matcher, Rules, grade, kind_of
from .groups import slice_groups
from .metrics import LabelNumbers, label_numbers, need, number_numbers, set_numbers
from .significance import cluster_codes, clustered_share, holm, intraclass, mean_interval, mean_share, share
from .texts import as_text, literal, normalise

__all__ = ["score"]


def score(
    frame: pd.DataFrame,
    predicted: str | Sequence[str],
    actual: str | Sequence[str] | Mapping[str, str],
    *,
    kind: Kind | None = None,
    match: Match | Matcher | None = None,
    by: str | Sequence[str] | None = None,
    failed: Literal["wrong", "exclude"] = "wrong",
    error: str | None = None,
    samples: int | Sequence[str] | None = None,
    reduce: Reduce = "mean",
    cluster: str | None = None,
    tolerance: float | None = None,
    threshold: float | None = None,
    normalise: bool | Callable[[str], str] = False,
    positive: Hashable | None = None,
    small: int = 30,
    confidence: float = 0.95,
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """
    Return how well the column ``predicted`` agrees with the gold column ``actual``.

    Parameters
    ----------
    frame : pandas.DataFrame
        Holds both columns; any index. Not changed.
    predicted, actual : str
        Names of the columns. Rows without gold are counted as ``unlabelled`` and not scored. Several of each,
        or ``actual={"field": "gold column"}``, give a line a field, and a row is correct where all are.
    kind : {"labels", "numbers", "text", "dates", "times", "sets", "sequences", "fields"}, optional
        What the gold column holds; None tells it from the gold alone: bool, category and short texts that
        repeat are labels, numbers and Decimals are numbers, dates (or texts that all are) are dates, times of
        day and durations are times, lists are sets, dicts are fields that are scored one by one, and other
        texts are text. Whole numbers and Decimals are compared exactly, dates as days or as moments, as the
        gold has them.
    match : {"exact", "normalised", "contains", "regex", "token_f1"} or callable, optional
        When a text is right (default ``"normalised"``). ``"contains"``: the gold text stands in the answer.
        ``"regex"``: the gold column holds patterns. A callable takes (predicted, actual) and returns a
        bool or a number from 0 to 1.
    by : str or sequence of str, optional
        Columns to slice by, each on its own; numbers of more than 20 values are cut into fifths, dates into
        days, months or years.
    failed : {"wrong", "exclude"}
        Whether a row without an answer counts as wrong, or is left out. Both counts are always shown.
    error : str, optional
        Column of error codes, null where a row succeeded. None takes ``<predicted>_error`` if there is one.
    samples : int or sequence of str, optional
        Repeated answers to the same request, as ``samples=k`` gives them: so many, in ``<predicted>_2`` and
        on, or the names of those columns. A job that is scored knows its own. None: one answer a row, whatever
        else the frame's columns are called.
    reduce : {"mean", "majority", "any"}
        How samples count: the mean of all of them; the answer most of them give; one right one is enough
        (``pass_at`` has it for any k).
    cluster : str, optional
        Column of what rows belong together, such as the document that ten questions are about. Intervals
        and comparisons then allow for such rows being alike.
    tolerance : float, optional
        How far a number may be off and still be right (default 0).
    threshold : float, optional
        From which score on a row is right, where it is a share rather than yes or no: 0.5 for texts; 1 for
        sets, whose score is Jaccard's index, and for fields.
    normalise : bool or callable
        For labels and lists: compare without case and punctuation. For text: a function to use before matching.
    positive : hashable, optional
        Class whose own precision, recall and F1 are wanted beside the macro averages.
    small : int
        Slices of fewer rows are marked.
    confidence : float
        Of the intervals.
    name : str, optional
        What to call this run in comparisons; None takes the column's name.
    about : mapping, optional
        What to keep with it when it is saved: model, prompt, cost ... A job that is scored gives its own.

    Raises
    ------
    InputError
        Columns that are not there, or options that do not fit; all of them at once.
    MissingExtra
        The libraries that do the statistics are not installed.
    """
    need_frame(
        frame,
        "score()",
        "A job is scored on the frame that it answers: df.dobatch.score(job, actual='gold column').",
    )
    slices_by = named_columns(frame, by)
    pairs = _pairs(frame, predicted, actual)
    first = pairs[0][0] if pairs else ""
    if error is None and len(pairs) == 1 and f"{first}_error" in frame.columns:
        error = f"{first}_error"
    extra = [name for answer, _ in pairs for name in _sample_columns(answer, samples)]
    named = [column for pair in pairs for column in pair]
    problems = _check(
        frame, [*named, *slices_by, *([error] if error else []), *([cluster] if cluster else []), *extra],
        kind=kind, match=match, failed=failed, tolerance=tolerance, threshold=threshold, confidence=confidence,
        samples=samples, reduce=reduce, several=len(pairs) > 1,
    )  # fmt: skip
    if not pairs:
        problems.append(Problem("actual= names no column of gold answers."))
    if problems:
        raise InputError(problems)

    said = kind or ("fields" if len(pairs) > 1 else _said_by_options(match, tolerance, positive))
    found = said or kind_of(frame[pairs[0][1]])
    rules = Rules.of(found, match, tolerance, threshold, normalise)
    parts: dict[str, Evaluation] = {}
    runs: dict[str, pd.DataFrame] = {}
    if found == "fields":
        options = {"failed": failed, "normalise": normalise, "confidence": confidence, "tolerance": None}
        parts = _score_parts(frame, pairs, error, samples, cluster, options)
        runs = _joined_parts(parts, frame.index, rules, ", ".join(str(answer) for answer, _ in pairs))
    else:
        for column in [first, *extra]:
            codes = error if column == first else _sample_error(error, first, column)
            runs[column] = grade(
                rules, frame[column], frame[pairs[0][1]], frame[codes] if codes in frame.columns else None
            )
    counting = _Counting(
        rules, failed, reduce, confidence, None if cluster is None else cluster_codes(frame[cluster])
    )
    rows = counting.one_a_row(list(runs.values()), found)
    counted = rows["outcome"].isin(counting.outcomes).to_numpy()
    labels = classes = None
    if found == "labels":
        gold_column = frame[pairs[0][1]]
        pooled = rows if len(runs) == 1 or reduce != "mean" else pd.concat(list(runs.values()))
        pooled = pooled[pooled["outcome"].isin(counting.outcomes)]
        order = _order(frame[[first, pairs[0][1]]], pooled)
        if positive is not None and positive not in order:
            raise InputError(f"positive={positive!r} is none of the classes: {', '.join(map(repr, order))}.")
        ordered = isinstance(gold_column.dtype, pd.CategoricalDtype) and bool(gold_column.dtype.ordered)
        labels = label_numbers(
            pooled["predicted"], pooled["actual"], order=order, positive=positive, ordered=ordered
        )
        classes = labels.classes
    table, set_classes = _metric_table(counting, rows, counted, labels, runs, parts)
    classes = set_classes if set_classes is not None else classes
    sliced = [_slice(frame[column], counting, rows, counted, small=small) for column in slices_by]
    slices = _corrected(pd.concat(sliced, ignore_index=True), confidence) if sliced else None
    shown = first if len(pairs) == 1 else ", ".join(str(answer) for answer, _ in pairs)
    notes = _notes(rules, rows, kind_was_said=said is not None)
    if found != "fields":
        notes += _unread_gold(found, rows, frame[pairs[0][1]])
    notes += _sample_notes(frame, first, samples)
    notes += _slice_notes(slices, confidence)
    if cluster is None:
        taken = {*named, *slices_by, *extra, error}
        notes += _cluster_hint(frame, taken, counting, rows, counted)
    described = rules.described()
    if parts:
        described["fields"] = {field: dict(part.rules) for field, part in parts.items()}
    return Evaluation(
        name=name or str(shown),
        kind=found,
        match=rules.match,
        predicted=shown,
        actual=pairs[0][1] if len(pairs) == 1 else ", ".join(dict.fromkeys(str(gold) for _, gold in pairs)),
        error=error,
        failed=failed,
        tolerance=rules.tolerance,
        confidence=confidence,
        counts=Counts.of(rows, rows[counted]),
        rows=rows,
        table=table,
        classes=classes,
        confusion=labels.confusion if labels else None,
        slices=slices,
        runs=runs,
        frame=frame.copy(deep=False),
        notes=tuple(notes),
        rules={**described, "failed": failed},
        reduce=reduce,
        cluster=cluster,
        fields=_field_table(parts) if parts else None,
        parts=parts,
        about=dict(about or {}),
    )


# ---- what was asked for ----------------------------------------------------------------------------------------


def _listed(frame: pd.DataFrame, named: Any) -> list[Any]:
    return [None] if named is None else named_columns(frame, named)


def _pairs(
    frame: pd.DataFrame, predicted: str | Sequence[str], actual: str | Sequence[str] | Mapping[str, str]
) -> list[tuple[str, str]]:
    """The columns of answers and of gold, pair by pair."""
    if isinstance(actual, Mapping):
        answers = _listed(frame, predicted)
        lacking = [name for name in answers if name not in actual]
        if lacking:
            raise InputError(f"actual= has no gold column for {', '.join(map(repr, lacking))}.")
        return [(name, actual[name]) for name in answers]
    answers, gold = _listed(frame, predicted), _listed(frame, actual)
    if len(answers) != len(gold):
        raise InputError(
            f"{len(answers)} columns of answers and {len(gold)} of gold: name as many of each, "
            'or pass actual={"field": "gold column"}.'
        )
    return list(zip(answers, gold, strict=True))


def _is_label(name: object) -> bool:
    return isinstance(name, Hashable) and name is not pd.NA


def _check(
    frame: pd.DataFrame,
    columns: list[str],
    *,
    kind: str | None,
    match: object,
    failed: str,
    tolerance: float | None,
    threshold: float | None,
    confidence: float,
    samples: Any,
    reduce: str,
    several: bool,
) -> list[Problem]:
    problems = [
        Problem(f"Columns are named by their labels, not by a {type(name).__name__}.")
        for name in columns
        if not _is_label(name)
    ]
    for column in dict.fromkeys(filter(_is_label, columns)):
        count = sum(name == column for name in frame.columns)
        if count == 0:
            there = ", ".join(map(repr, frame.columns))
            problems.append(Problem(f"There is no column {column!r}. The columns are: {there}."))
        elif count > 1:
            problems.append(Problem(f"{count} columns are named {column!r}: rename all but one."))
    if kind not in (None, *KINDS):
        problems.append(Problem(f"kind={kind!r} is not one of {', '.join(map(repr, KINDS))}."))
    if failed not in ("wrong", "exclude"):
        problems.append(Problem(f'failed={failed!r} is not one of "wrong", "exclude".'))
    if reduce not in ("mean", "majority", "any"):
        problems.append(Problem(f'reduce={reduce!r} is not one of "mean", "majority", "any".'))
    whole = is_whole(samples) and samples >= 1
    if samples is not None and not whole and not isinstance(samples, (list, tuple)):
        problems.append(Problem(f"samples={samples!r} must be 1 or more, or names of columns."))
    if match is not None and not callable(match) and match not in MATCHES:
        problems.append(Problem(f"match={match!r} is not one of {', '.join(MATCHES)}, nor a callable."))
    if match is not None and (kind not in (None, "text") or several):
        what = f"kind={kind!r} was said" if kind is not None else "several fields were named"
        problems.append(Problem(f'match= is for text, and {what}: leave one out, or pass kind="text".'))
    if several and kind not in (None, "fields"):
        problems.append(Problem(f"kind={kind!r} is for one column, and several were named."))
    if tolerance is not None and not (is_real(tolerance) and tolerance >= 0):
        problems.append(Problem(f"tolerance={tolerance!r} must be a finite number, 0 or above."))
    if threshold is not None and not is_real(threshold):
        problems.append(Problem(f"threshold={threshold!r} must be a finite number, such as 0.5."))
    if not is_real(confidence) or not 0 < confidence < 1:
        problems.append(Problem(f"confidence={confidence!r} must lie between 0 and 1, such as 0.95."))
    return problems


def _sample_columns(predicted: str, samples: Any) -> list[str]:
    if isinstance(samples, (list, tuple)):
        return [column for column in dict.fromkeys(samples) if column != predicted]
    return [f"{predicted}_{number}" for number in range(2, samples + 1)] if is_whole(samples) else []


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


# ---- nested answers --------------------------------------------------------------------------------------------


def _score_parts(
    frame: pd.DataFrame,
    pairs: list[tuple[str, str]],
    error: str | None,
    samples: int | Sequence[str] | None,
    cluster: str | None,
    options: dict[str, Any],
) -> dict[str, Evaluation]:
    """Score every field by itself: one of several columns, or one key of a column of dicts."""
    if len(pairs) > 1:
        return {
            answer: score(frame, answer, gold, error=error, samples=samples, cluster=cluster, **options)
            for answer, gold in pairs
        }
    answer, gold = pairs[0]
    columns = [answer, *_sample_columns(answer, samples)]
    golds = [_dict_of(value) for value in frame[gold].astype(object)]
    keys = list(dict.fromkeys(key for value in golds if value is not None for key in value))
    answers = {column: [_dict_of(value) for value in frame[column].astype(object)] for column in columns}
    parts = {}
    for key in keys:
        name = as_text(key)
        data: dict[str, Any] = {"gold": _objects([None if v is None else v.get(key) for v in golds])}
        for number, column in enumerate(columns, 1):
            own = "answer" if number == 1 else f"answer_{number}"
            data[own] = _objects([None if v is None else v.get(key) for v in answers[column]])
            codes = error if number == 1 else _sample_error(error, answer, column)
            if codes in frame.columns:
                data[f"{own}_error"] = frame[codes].array
        part = pd.DataFrame(data, index=frame.index)
        found = score(part, "answer", "gold", samples=len(columns), **options)
        parts[name] = replace(found, name=name, predicted=f"{answer}.{name}", actual=f"{gold}.{name}")
    return parts


def _dict_of(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, str):
        value = literal(value)
    return value if isinstance(value, dict) else None


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), dtype=object)  # what np.array makes of equal lists would be a table
    for place, value in enumerate(values):
        array[place] = value
    return array


def _joined_parts(
    parts: Mapping[str, Evaluation], index: pd.Index[Any], rules: Rules, name: str
) -> dict[str, pd.DataFrame]:
    """A row's outcome from those of its fields, sample by sample."""
    count = max((len(part.runs) for part in parts.values()), default=1)
    runs = {}
    for number in range(count):
        graded = [list(part.runs.values())[number] for part in parts.values()]
        labelled = (
            _sum((rows["outcome"] != "unlabelled") for rows in graded) if graded else np.zeros(len(index))
        )
        right = _sum((rows["outcome"] == "correct") for rows in graded) if graded else labelled
        failed = _sum((rows["outcome"] == "failed") for rows in graded) if graded else labelled
        points = np.divide(right, labelled, out=np.full(len(index), np.nan), where=labelled > 0)
        gone = (labelled > 0) & (failed == labelled)
        points[gone] = np.nan
        correct = points >= rules.threshold - 1e-12
        outcome = np.select([labelled == 0, gone, correct], ["unlabelled", "failed", "correct"], "wrong")
        code = graded[0]["error"].where(gone, pd.NA) if graded else pd.Series(pd.NA, index=index)
        texts = {
            side: _objects(
                [
                    as_text({field: _opened(parts[field], v) for field, v in zip(parts, values, strict=True)})
                    for values in zip(*(rows[side].astype(object) for rows in graded), strict=True)
                ]
                if graded
                else [None] * len(index)
            )
            for side in ("predicted", "actual")
        }
        runs[name if not number else f"{name} {number + 1}"] = pd.DataFrame(
            {
                "predicted": pd.Series(texts["predicted"], index=index, dtype=object).mask(gone),
                "actual": pd.Series(texts["actual"], index=index, dtype=object).mask(labelled == 0),
                "correct": pd.Series(correct, index=index, dtype="boolean").mask(labelled == 0),
                "score": points,
                "outcome": pd.Categorical(outcome, categories=list(OUTCOMES)),
                "error": code.astype("string"),
            },
            index=index,
        )
    return runs


def _opened(part: Evaluation, value: Any) -> Any:
    """A field's value, which is text where it has fields itself."""
    return _dict_of(value) if part.kind == "fields" else value


def _sum(masks: Any) -> np.ndarray[Any, Any]:
    return np.asarray(sum(mask.to_numpy(int) for mask in masks))


def _field_table(parts: Mapping[str, Evaluation]) -> pd.DataFrame:
    lines = {}
    for field, part in parts.items():
        low, high = part.interval
        lines[field] = {
            "kind": part.kind, "accuracy": part.accuracy, "low": low, "high": high,
            "rows": part.counts.counted, "correct": part.counts.correct, "failed": part.counts.failed,
            "unlabelled": part.counts.unlabelled,
        }  # fmt: skip
    columns = ["kind", "accuracy", "low", "high", "rows", "correct", "failed", "unlabelled"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("field")


# ---- numbers of all rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counting:
    """How rows are counted: which of them, how samples become one number, and what belongs together."""

    rules: Rules
    failed: str
    reduce: Reduce
    confidence: float
    clusters: np.ndarray[Any, Any] | None

    @property
    def outcomes(self) -> list[str]:
        """Outcomes that the accuracy divides by."""
        return ["correct", "wrong"] if self.failed == "exclude" else ["correct", "wrong", "failed"]

    def one_a_row(self, runs: list[pd.DataFrame], kind: Kind) -> pd.DataFrame:
        """Make one line a row of its samples, with the share of them that is right in ``share``."""
        if len(runs) == 1:
            return runs[0]
        outcomes = np.array([run["outcome"].astype(str).to_numpy() for run in runs])
        counted = np.isin(outcomes, self.outcomes)
        right = outcomes == "correct"
        answers = [[_voted(value, kind) for value in run["predicted"]] for run in runs]
        chosen = np.zeros(len(runs[0]), dtype=int)
        for row in range(len(chosen)):
            given = [number for number in range(len(runs)) if outcomes[number, row] in ("correct", "wrong")]
            if not given:
                continue
            if self.reduce == "any":
                chosen[row] = next((number for number in given if right[number, row]), given[0])
            else:
                most = Counter(answers[number][row] for number in given).most_common(1)[0][0]
                chosen[row] = next(number for number in given if answers[number][row] == most)
        stacked = pd.concat(runs, ignore_index=True)
        rows = stacked.iloc[chosen * len(chosen) + np.arange(len(chosen))].set_axis(runs[0].index)
        there = counted.sum(axis=0)
        shares = np.divide(
            (right & counted).sum(axis=0), there, out=np.full(len(chosen), np.nan), where=there > 0
        )
        rows = rows.assign(share=shares)
        if self.reduce == "mean":
            points = np.array([run["score"].to_numpy(float) for run in runs])
            points = np.where(counted, np.nan_to_num(points), np.nan)
            there_too = counted.any(axis=0)
            rows["score"] = np.where(there_too, np.nansum(points, axis=0) / np.maximum(there, 1), np.nan)
            if kind == "numbers":
                apart = [(run["predicted"].to_numpy(float) - run["actual"].to_numpy(float)) for run in runs]
                found = np.isin(outcomes, ["correct", "wrong"])
                sizes = np.where(found, np.abs(apart), 0.0).sum(axis=0)
                rows["distance"] = np.where(
                    found.any(axis=0), sizes / np.maximum(found.sum(axis=0), 1), np.nan
                )
        return rows

    def values(self, rows: pd.DataFrame) -> np.ndarray[Any, Any]:
        """What each row adds to the accuracy."""
        if self.reduce == "mean" and "share" in rows:
            return rows["share"].to_numpy(float)
        return (rows["outcome"] == "correct").to_numpy(float)

    def together(self, chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """Which of the chosen rows belong together; None where each stands for itself."""
        return None if self.clusters is None else self.clusters[chosen]

    def accuracy(
        self, rows: pd.DataFrame, chosen: np.ndarray[Any, Any], samples: int = 1
    ) -> tuple[float, float, float]:
        """Return the accuracy of some rows, with its interval."""
        values = self.values(rows)[chosen]
        if self.clusters is None and (samples == 1 or self.reduce != "mean"):
            return share(float(values.sum()), len(values), self.confidence)
        codes = np.arange(len(values)) if self.clusters is None else self.clusters[chosen]
        return clustered_share(
            values, codes, self.confidence, samples=samples if self.reduce == "mean" else 1
        )


def _voted(value: Any, kind: Kind) -> Any:
    """What counts as the same answer when samples vote."""
    text = as_text(value) if value is not None else None
    return normalise(text) if text is not None and kind == "text" else text


def _order(columns: pd.DataFrame, counted: pd.DataFrame) -> list[Hashable]:
    """Every label that occurs: categories in their own order, numbers by size, words by the alphabet."""
    seen = set(counted["actual"].dropna()) | set(counted["predicted"].dropna())
    known: list[Hashable] = []
    for name in (1, 0):  # the gold column's order before the answers'
        column = columns.iloc[:, name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            known += [
                form
                for category in column.cat.categories
                for form in (category, as_text(category))
                if form in seen
            ]
    known = list(dict.fromkeys(known))
    rest = seen - set(known)
    numeric = all(isinstance(label, (int, float)) for label in rest)
    return [*known, *sorted(rest, key=None if numeric else str)]


def _metric_table(
    counting: _Counting,
    rows: pd.DataFrame,
    counted: np.ndarray[Any, Any],
    labels: LabelNumbers | None,
    runs: Mapping[str, pd.DataFrame],
    parts: Mapping[str, Evaluation],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """A line a metric: value, interval where there is one, and the number of rows; and sets' classes."""
    kind, confidence, samples = counting.rules.kind, counting.confidence, len(runs)
    answered = rows["outcome"].isin(["correct", "wrong"]).to_numpy()
    labelled = (rows["outcome"] != "unlabelled").to_numpy()
    lines: dict[str, tuple[float, float, float, int]] = {}
    lines["accuracy"] = (*counting.accuracy(rows, counted, samples), int(counted.sum()))
    other, chosen = ("all", labelled) if counting.failed == "exclude" else ("answered", answered)
    elsewise = rows
    if samples > 1 and counting.reduce == "mean":
        across = _Counting(
            counting.rules, "wrong" if other == "all" else "exclude", "mean", confidence, counting.clusters
        )
        elsewise = across.one_a_row(list(runs.values()), kind)
    lines[f"accuracy_{other}"] = (*counting.accuracy(elsewise, chosen, samples), int(chosen.sum()))
    if samples > 1:
        lines |= _sample_lines(counting, rows, counted, runs, kind)
    count, classes = int(counted.sum()), None
    points = np.where(answered, rows["score"].to_numpy(float), 0.0)[counted]
    together = counting.together
    if labels is not None:
        gold = rows.loc[counted, "actual"].map(as_text)
        base = float(gold.value_counts(normalize=True).iloc[0]) if count else math.nan
        lines["baseline"] = (base, math.nan, math.nan, count)
        for name, value in labels.metrics.items():
            lines[name] = (value, math.nan, math.nan, count)
    elif kind == "text":
        for name, values in _text_numbers(counting.rules, rows, counted, answered).items():
            lines[name] = (*mean_share(values, confidence, together(counted)), count)
    elif kind == "sets":
        lines["jaccard"] = (*mean_share(points, confidence, together(counted)), count)
        found = rows[counted]
        given = [value if isinstance(value, tuple) else None for value in found["predicted"]]
        numbers, classes = set_numbers(given, list(found["actual"]))
        for name, value in numbers.items():
            lines[name] = (value, math.nan, math.nan, count)
    elif kind == "fields":
        lines["fields_correct"] = (*mean_share(points, confidence, together(counted)), count)
        for field, part in parts.items():
            lines[f"field {field}"] = (part.accuracy, *part.interval, part.counts.counted)
    elif kind == "dates":
        found = rows[answered]
        off = [_days_apart(a, b) for a, b in zip(found["predicted"], found["actual"], strict=True)]
        value, low, high = mean_interval(np.array(off, dtype=float), confidence, together(answered))
        lines["days_off"] = (value, _not_negative(low), high, len(off))
    elif kind == "numbers":
        ours, gold = (rows.loc[answered, side].to_numpy(float) for side in ("predicted", "actual"))
        numbers, sizes = number_numbers(ours, gold), np.abs(ours - gold)
        if "distance" in rows:
            numbers["mae"] = float(rows.loc[answered, "distance"].mean())
            sizes = rows.loc[answered, "distance"].to_numpy(float)
        _, low, high = mean_interval(sizes, confidence, together(answered))
        lines["mae"] = (numbers["mae"], _not_negative(low), high, len(ours))
        for name in ("rmse", "r2"):
            lines[name] = (numbers[name], math.nan, math.nan, len(ours))
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["value", "low", "high", "rows"])
    return table.rename_axis("metric"), classes


def _not_negative(low: float) -> float:
    return max(0.0, low) if low == low else low


def _days_apart(predicted: str, actual: str) -> float:
    # In one unit that holds any year: pandas takes no nanoseconds from the year 9999.
    apart = pd.Timestamp(predicted).as_unit("us") - pd.Timestamp(actual).as_unit("us")
    return abs(apart.total_seconds()) / 86_400


def _sample_lines(
    counting: _Counting,
    rows: pd.DataFrame,
    counted: np.ndarray[Any, Any],
    runs: Mapping[str, pd.DataFrame],
    kind: Kind,
) -> dict[str, tuple[float, float, float, int]]:
    """What the samples give besides: by majority, one of them, and how far they agree."""
    count, confidence = int(counted.sum()), counting.confidence
    lines = {}
    for reduce, name in (("mean", "mean"), ("majority", "majority"), ("any", f"pass@{len(runs)}")):
        if reduce == counting.reduce:
            continue
        other = replace(counting, reduce=reduce)  # type: ignore[arg-type]
        reduced = other.one_a_row(list(runs.values()), kind)
        lines[name] = (*other.accuracy(reduced, counted, len(runs)), count)
    answers = [[_voted(v, kind) for v in run["predicted"]] for run in runs.values()]
    agree = np.full(len(rows), np.nan)
    for row in np.flatnonzero(counted):
        given = [answer[row] for answer in answers if answer[row] is not None]
        if len(given) > 1:
            sizes = Counter(given).values()
            agree[row] = sum(s * (s - 1) for s in sizes) / (len(given) * (len(given) - 1))
    known = ~np.isnan(agree)
    lines["consistency"] = (
        *mean_share(agree[known], confidence, counting.together(known)), int(known.sum())
    )  # fmt: skip
    return lines


def _text_numbers(
    rules: Rules, rows: pd.DataFrame, counted: np.ndarray[Any, Any], answered: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """Every counted row's score by every way of matching; a failed row that counts has score 0."""
    names = ["exact", "normalised", "contains", "token_f1"]
    found = {}
    if rules.match not in MATCHES or rules.match == "regex":
        found["score"] = np.where(answered, rows["score"].to_numpy(float), 0.0)[counted]
    if rules.match == "regex":  # a pattern is not an answer
        return found
    there = answered[counted]
    pairs = [
        (as_text(a), as_text(b)) for a, b in rows.loc[answered, ["predicted", "actual"]].to_numpy(object)
    ]
    for name in names:
        points = np.zeros(int(counted.sum()))
        if name == rules.match and rules.fold is None:
            points[there] = rows.loc[answered, "score"]
        else:
            points[there] = [MATCHES[name](*pair) for pair in pairs]
        found[name] = points
    return found


# ---- slices ----------------------------------------------------------------------------------------------------


def _slice(
    values: pd.Series[Any],
    counting: _Counting,
    rows: pd.DataFrame,
    counted: np.ndarray[Any, Any],
    *,
    small: int,
) -> pd.DataFrame:
    """The same numbers for every group of a column."""
    groups = slice_groups(values)
    samples = 2 if "share" in rows else 1
    right = counting.values(rows)
    lines = []
    for code, group in enumerate(groups.names):
        inside = groups.codes == code
        part = rows[inside]
        chosen = inside & counted
        accuracy, low, high = counting.accuracy(rows, chosen, samples)
        answered = part[part["outcome"].isin(["correct", "wrong"])]
        line: dict[str, Any] = {
            "column": values.name,
            "slice": group,
            "rows": int(chosen.sum()),
            "answered": len(answered),
            "failed": int((part["outcome"] == "failed").sum()),
            "unlabelled": int((part["outcome"] == "unlabelled").sum()),
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "p": _differs(right[chosen], right[counted & ~inside]) if counting.clusters is None else math.nan,
        }
        if counting.rules.kind == "labels":
            kept = rows[chosen]
            order = _order(kept[["predicted", "actual"]], kept)
            numbers = label_numbers(kept["predicted"], kept["actual"], order=order)
            line["macro_f1"] = numbers.metrics["macro_f1"]
        elif counting.rules.kind == "numbers":
            sizes = answered["predicted"].to_numpy(float), answered["actual"].to_numpy(float)
            line["mae"] = number_numbers(*sizes)["mae"]
        lines.append({**line, "small": int(chosen.sum()) < small})
    return pd.DataFrame(lines)


def _differs(inside: np.ndarray[Any, Any], outside: np.ndarray[Any, Any]) -> float:
    """The p of a slice being as good as the other rows: Fisher's exact test, or Welch's for means."""
    if not len(inside) or not len(outside):
        return math.nan
    stats = need("scipy.stats", "Scoring answers")
    if set(np.unique(inside)) | set(np.unique(outside)) <= {0.0, 1.0}:
        table = [[part.sum(), len(part) - part.sum()] for part in (inside, outside)]
        return float(stats.fisher_exact(table)[1])
    if len(inside) < 2 or len(outside) < 2 or not (np.ptp(inside) or np.ptp(outside)):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one side whose values are all the same
        return float(stats.ttest_ind(inside, outside, equal_var=False).pvalue)


def _corrected(slices: pd.DataFrame, confidence: float) -> pd.DataFrame:
    if not len(slices):
        return slices
    slices = slices.copy()
    place = list(slices.columns).index("p")
    slices.insert(place + 1, "p_holm", holm(slices["p"].tolist(), 1 - confidence)[0])
    return slices


# ---- notes -----------------------------------------------------------------------------------------------------


def _notes(rules: Rules, rows: pd.DataFrame, *, kind_was_said: bool) -> list[str]:
    """What a reader of the numbers should know besides."""
    notes = []
    if not kind_was_said:
        notes.append(f"Scored as {rules.kind}, judging by the gold column. Pass kind= to change that.")
    wrong = rows[rows["outcome"] == "wrong"]
    if rules.kind == "labels" and rules.fold is None and len(wrong):
        pairs = Counter((as_text(a), as_text(b)) for a, b in wrong[["predicted", "actual"]].to_numpy(object))
        same = sum(count for (a, b), count in pairs.items() if normalise(a) == normalise(b))
        if same:
            notes.append(
                f"{same:,} wrong row{'s' if same > 1 else ''} would be correct but for case or punctuation: "
                "pass normalise=True."
            )
    return notes


def _unread_gold(kind: Kind, rows: pd.DataFrame, gold: pd.Series[Any]) -> list[str]:
    """Gold that is there and cannot be compared is unlabelled, which nobody would guess."""
    thing = _GOLD_WORDS.get(kind)
    if thing is None:
        return []
    unread = (rows["outcome"] == "unlabelled").to_numpy() & gold.notna().to_numpy()
    if not unread.any():
        return []
    examples = ", ".join(
        dict.fromkeys(
            repr(value[:40]) if isinstance(value, str) else as_text(value)[:40]
            for value in gold[unread].head(3)
        )
    )
    return [
        f"{int(unread.sum()):,} row{'s have' if unread.sum() > 1 else ' has'} gold that is no {thing} ({examples}): "
        "counted as unlabelled."
    ]


_GOLD_WORDS = {
    "numbers": "finite number",
    "dates": "date",
    "times": "time",
    "sets": "list",
    "sequences": "list",
}


def _sample_notes(frame: pd.DataFrame, predicted: str, samples: Any) -> list[str]:
    if samples is not None or f"{predicted}_2" not in frame.columns:
        return []
    number = 2
    while f"{predicted}_{number + 1}" in frame.columns:
        number += 1
    columns = f"{predicted}_2" if number == 2 else f"{predicted}_2 to {predicted}_{number}"
    return [
        f"{columns} not counted. Pass samples={number} if these are repeated answers to the same requests."
    ]


def _slice_notes(slices: pd.DataFrame | None, confidence: float) -> list[str]:
    count = 0 if slices is None else len(slices)
    if slices is None or count < 2:
        return []
    differing = slices[slices["p_holm"] < 1 - confidence]
    chance = f"Of {count} slices, about {count * (1 - confidence):.1g} may miss the truth by chance"
    if not len(differing):
        return [f"{chance}; none differs from the other rows once that is corrected for."]
    names = ", ".join(f"{line['column']} = {line['slice']}" for line in differing.head(5).to_dict("records"))
    return [f"{chance}; corrected for that, these differ from the other rows: {names}."]


def _cluster_hint(
    frame: pd.DataFrame,
    taken: set[Any],
    counting: _Counting,
    rows: pd.DataFrame,
    counted: np.ndarray[Any, Any],
) -> list[str]:
    """Say so where rows that share a value are so alike that the interval is too narrow."""
    count = int(counted.sum())
    if count < 30:
        return []
    right = counting.values(rows)[counted]
    best: tuple[float, str] | None = None
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if name in taken or pd.api.types.is_float_dtype(column.dtype) or len(frame.columns) > 200:
            continue
        try:
            groups = column.nunique()
        except (TypeError, NotImplementedError):  # lists and dicts
            continue
        if not 10 <= groups <= count / 2:
            continue
        codes = cluster_codes(column)[counted]
        alike, p = intraclass(right, codes)
        if not (p < 1e-4 and alike > 0):
            continue
        _, low, high = clustered_share(right, codes, counting.confidence)
        if best is None or high - low > best[0]:
            best = (high - low, str(name))
    _, low, high = share(float(right.sum()), count, counting.confidence)
    if best is None or best[0] < 1.15 * (high - low):
        return []
    return [
        f"Rows of the same {best[1]!r} are alike. With cluster={best[1]!r} the interval is "
        f"{best[0] * 100:.1f} points wide instead of {(high - low) * 100:.1f}."
    ]
