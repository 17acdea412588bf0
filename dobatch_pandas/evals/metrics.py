"""The numbers, all by scikit-learn, scipy and statsmodels; here is only what exactly they are given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .extras import need

__all__ = ["FAILED", "LabelNumbers", "label_numbers", "number_numbers", "share"]

#: The confusion matrix's column of rows that have no answer.
FAILED = "(failed)"

_SCORING = "Scoring answers"


def share(successes: int, rows: int, confidence: float) -> tuple[float, float, float]:
    """Return a share with its Wilson interval; all NaN where there are no rows."""
    if not rows:
        return math.nan, math.nan, math.nan
    proportion = need("statsmodels.stats.proportion", _SCORING)
    low, high = proportion.proportion_confint(successes, rows, alpha=1 - confidence, method="wilson")
    return successes / rows, float(low), float(high)


@dataclass(frozen=True)
class LabelNumbers:
    """What scikit-learn says of two columns of labels."""

    metrics: dict[str, float]
    classes: pd.DataFrame
    confusion: pd.DataFrame


def label_numbers(
    predicted: pd.Series[Any],
    actual: pd.Series[Any],
    *,
    order: Sequence[Hashable],
    positive: Hashable | None = None,
) -> LabelNumbers:
    """
    Return precision, recall, F1, Cohen's kappa and the confusion matrix.

    Parameters
    ----------
    predicted, actual : pandas.Series
        Labels, position by position; null in ``predicted`` is a failed row. A failed row is passed to
        scikit-learn as a label of its own that is never right: it lowers its class's recall and the
        kappa, and no class's precision. It has no line among the classes and no part in the macro
        averages.
    order : sequence
        The classes, in the order to show; must hold every label.
    positive : hashable, optional
        Class whose precision, recall and F1 are given as ``precision``, ``recall``, ``f1``.

    Notes
    -----
    A class that is never predicted has precision 0, one that never occurs recall 0 (``zero_division=0``).
    """
    metrics = need("sklearn.metrics", _SCORING)
    classes = pd.Index(list(order), dtype=object)
    truth = classes.get_indexer(pd.Index(actual.astype(object)))
    failed = len(classes)
    answers = predicted.astype(object)
    guess = np.where(predicted.isna(), failed, classes.get_indexer(pd.Index(answers)))
    codes = list(range(failed))
    numbers: dict[str, float] = {}
    if not len(truth) or not codes:
        empty = pd.DataFrame({name: pd.Series(dtype=float) for name in ("precision", "recall", "f1")})
        empty["support"] = pd.Series(dtype="int64")
        empty.index.name = "class"
        names = ("macro_precision", "macro_recall", "macro_f1", "kappa")
        return LabelNumbers(
            dict.fromkeys(names, math.nan), empty, pd.DataFrame(columns=[FAILED], dtype="int64")
        )
    per_class = metrics.precision_recall_fscore_support(truth, guess, labels=codes, zero_division=0)
    macro = metrics.precision_recall_fscore_support(
        truth, guess, labels=codes, average="macro", zero_division=0
    )
    for name, value in zip(("macro_precision", "macro_recall", "macro_f1"), macro[:3], strict=True):
        numbers[name] = float(value)
    table = pd.DataFrame(
        dict(zip(("precision", "recall", "f1", "support"), per_class, strict=True)),
        index=pd.Index(classes, name="class"),
    )
    if positive is not None:
        for name in ("precision", "recall", "f1"):
            numbers[name] = float(table[name].to_numpy()[list(classes).index(positive)])
    with warnings.catch_warnings():
        # One label in both columns: kappa is 0/0, and NaN says so.
        warnings.simplefilter("ignore")
        numbers["kappa"] = float(metrics.cohen_kappa_score(truth, guess))
        answered = guess < failed
        if len(classes) > 2 and all(_is_number(label) for label in classes) and answered.any():
            # Weights need an order, in which a failed row has no place: answered rows only.
            numbers["kappa_quadratic"] = float(
                metrics.cohen_kappa_score(truth[answered], guess[answered], labels=codes, weights="quadratic")
            )
        matrix = metrics.confusion_matrix(truth, guess, labels=[*codes, failed])
    confusion = pd.DataFrame(
        matrix[:-1],
        index=pd.Index(classes, name="actual"),
        columns=pd.Index([*classes, FAILED], dtype=object, name="predicted"),
    )
    return LabelNumbers(numbers, table, confusion)


def _is_number(label: object) -> bool:
    return isinstance(label, (int, float, np.number)) and not isinstance(label, bool)


def number_numbers(predicted: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return MAE, RMSE and R² of the answered rows, which must be finite."""
    metrics = need("sklearn.metrics", _SCORING)
    if not len(predicted):
        return {"mae": math.nan, "rmse": math.nan, "r2": math.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # R² of one row is not defined: NaN says so
        r2 = float(metrics.r2_score(actual, predicted))
    return {
        "mae": float(metrics.mean_absolute_error(actual, predicted)),
        "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
        "r2": r2,
    }
