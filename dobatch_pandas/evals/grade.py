"""Which row is right: two columns in, one outcome a row out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from . import text

__all__ = ["MATCHES", "OUTCOMES", "Kind", "Match", "Matcher", "Rules", "grade", "kind_of"]

Kind = Literal["labels", "numbers", "text"]
Match = Literal["exact", "normalised", "contains", "regex", "token_f1"]
Matcher = Callable[[Any, Any], Any]

#: What can become of a row, in the order to show.
OUTCOMES = ("correct", "wrong", "failed", "unlabelled")

MATCHES: dict[str, Callable[[str, str], float]] = {
    "exact": text.exact,
    "normalised": text.normalised,
    "contains": text.contains,
    "regex": text.regex,
    "token_f1": text.token_f1,
}


def kind_of(predicted: pd.Series[Any], actual: pd.Series[Any]) -> Kind:
    predicted, actual = predicted.infer_objects(), actual.infer_objects()
    for column in (actual, predicted):
        if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column.dtype):
            return "labels"
    if pd.api.types.is_numeric_dtype(actual.dtype):
        return "numbers"
    gold = actual.dropna().astype(str)
    values = gold.unique()
    if len(values) > 100 or (len(gold) and gold.str.len().max() > 60):
        return "text"
    repeats = len(values) <= len(gold) / 2
    closed = len(values) <= 10 and set(predicted.dropna().astype(str)) <= set(values)
    return "labels" if repeats or closed else "text"


@dataclass(frozen=True)
class Rules:
    """How two values are compared; the same for every sample of a run."""

    kind: Kind
    match: str | None
    matcher: Matcher | None
    tolerance: float
    threshold: float
    fold: Callable[[str], str] | None

    @classmethod
    def of(
        cls,
        kind: Kind,
        match: Match | Matcher | None,
        tolerance: float | None,
        threshold: float,
        normalise: bool | Callable[[str], str],
    ) -> Rules:
        """Settle what was left open by the user."""
        fold = normalise if callable(normalise) else (text.normalise if normalise else None)
        name: str | None = None
        matcher: Matcher | None = None
        if kind == "text":
            match = match or "normalised"
            name = match if isinstance(match, str) else getattr(match, "__name__", "callable")
            matcher = MATCHES[match] if isinstance(match, str) else match
        return cls(kind, name, matcher, tolerance or 0.0, threshold, fold)


def grade(
    rules: Rules, predicted: pd.Series[Any], actual: pd.Series[Any], error: pd.Series[Any] | None
) -> pd.DataFrame:
    """
    Return predicted, actual, correct, score, outcome and error code, row by row.

    A row with an error code or without an answer is ``failed``; codes of our own are ``missing`` and
    ``not_a_number``. A row without gold is ``unlabelled``, whatever its answer.
    """
    answers, gold = _values(rules, predicted, actual)
    code = pd.Series(pd.NA, index=predicted.index, dtype="string")
    if error is not None:
        code = error.astype("string")
    code = code.mask(code.isna() & predicted.isna(), "missing")
    if rules.kind == "numbers":
        code = code.mask(code.isna() & answers.isna(), "not_a_number")
    labelled = gold.notna().to_numpy()
    failed = code.notna().to_numpy()
    answered = labelled & ~failed
    points = np.full(len(predicted), np.nan)
    points[answered] = _points(rules, answers[answered], gold[answered])
    right = points >= rules.threshold
    outcome = np.select([~labelled, failed, right], ["unlabelled", "failed", "correct"], "wrong")
    correct = pd.Series(right, index=predicted.index, dtype="boolean")
    return pd.DataFrame(
        {
            "predicted": answers.mask(failed),
            "actual": gold,
            "correct": correct.mask(~labelled),
            "score": points,
            "outcome": pd.Categorical(outcome, categories=list(OUTCOMES)),
            "error": code,
        },
        index=predicted.index,
    )


def _values(
    rules: Rules, predicted: pd.Series[Any], actual: pd.Series[Any]
) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Both columns in one type, so that equal values compare equal."""
    if rules.kind == "numbers":
        return _numbers(predicted), _numbers(actual)
    if rules.kind == "labels":
        return _labels(predicted, actual, rules.fold)
    if rules.match == "regex":
        _check_patterns(actual)
    if rules.match not in MATCHES:
        return predicted.astype(object), actual.astype(object)
    return _texts(predicted, rules.fold), _texts(actual, rules.fold)


def _points(rules: Rules, answers: pd.Series[Any], gold: pd.Series[Any]) -> np.ndarray[Any, Any]:
    if rules.kind == "numbers":
        # rtol: 0.1 + 0.2 is 0.3 here, as anyone with a gold column would say.
        near = np.isclose(answers.to_numpy(float), gold.to_numpy(float), rtol=1e-9, atol=rules.tolerance)
        return np.asarray(near, dtype=float)
    if rules.matcher is None:
        return np.asarray(answers.to_numpy(object) == gold.to_numpy(object), dtype=float)
    return match_points(rules.matcher, answers, gold)


def match_points(matcher: Matcher, answers: pd.Series[Any], gold: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Return what the matcher says of every pair, as a number."""
    pairs = zip(answers.to_numpy(object), gold.to_numpy(object), strict=True)
    points = (float(matcher(*pair)) for pair in pairs)
    return np.fromiter(points, dtype=np.float64, count=len(answers))


def _check_patterns(actual: pd.Series[Any]) -> None:
    bad = {}
    for label, pattern in actual.dropna().items():
        try:
            re.compile(str(pattern))
        except re.error as problem:
            bad[label] = problem
    if bad:
        raise InputError(
            Problem(
                f"match='regex' needs regular expressions in {actual.name!r} ({next(iter(bad.values()))}).",
                tuple(bad)[:10],
                len(bad),
            )
        )


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = pd.to_numeric(column.astype(object), errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _texts(column: pd.Series[Any], fold: Callable[[str], str] | None) -> pd.Series[Any]:
    values = column.astype(object).where(column.notna(), None)
    if pd.api.types.infer_dtype(values, skipna=True) == "string" and fold is None:
        return values
    known: dict[str, str] = {}
    texts = []
    for value in values:
        text = None if value is None else _as_text(value)
        if text is not None and fold is not None:
            if text not in known:
                known[text] = fold(text)
            text = known[text]
        texts.append(text)
    return pd.Series(texts, index=column.index, dtype=object)


def _as_text(value: Any) -> str:
    """``1``, ``1.0`` and ``"1"`` are one label; so are ``True`` and ``"True"``."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _labels(
    predicted: pd.Series[Any], actual: pd.Series[Any], fold: Callable[[str], str] | None
) -> tuple[pd.Series[Any], pd.Series[Any]]:
    plain = [
        column.astype(column.cat.categories.dtype)
        if isinstance(column.dtype, pd.CategoricalDtype)
        else column
        for column in (predicted.infer_objects(), actual.infer_objects())
    ]
    if fold is None and all(pd.api.types.is_bool_dtype(column.dtype) for column in plain):
        return plain[0].astype(object), plain[1].astype(object)
    if fold is None and all(pd.api.types.is_numeric_dtype(column.dtype) for column in plain):
        numbers = [column.astype("Float64") for column in plain]
        whole = all(bool((column.dropna() % 1 == 0).all()) for column in numbers)
        cast_to = (lambda v: int(v)) if whole else (lambda v: float(v))
        answers, gold = (column.astype(object).map(cast_to, na_action="ignore") for column in numbers)
        return answers, gold
    return _texts(plain[0], fold), _texts(plain[1], fold)
