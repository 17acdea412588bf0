"""The numbers, all by scikit-learn; here is only what exactly it is given."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import MissingExtra

__all__ = ["FAILED", "LabelNumbers", "label_numbers", "need", "number_numbers", "set_numbers"]

#: The confusion matrix's column of rows that have no answer.
FAILED = "(failed)"

_SCORING = "Scoring answers"


def need(module: str, feature: str) -> Any:
    """
    Return a module of the ``eval`` extra, imported where it is used.

    Raises
    ------
    MissingExtra
        It is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as absent:
        raise MissingExtra(feature, "eval") from absent


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
    ordered: bool = False,
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
    ordered : bool
        Whether ``order`` is a scale, so that a weighted kappa has a meaning; numbers are one.

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
        scale = ordered or all(_is_number(label) for label in classes)
        if len(classes) > 2 and scale and answered.any():
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
        # R² of one row is not defined, and the largest floats have no square: NaN and infinity say so.
        warnings.simplefilter("ignore")
        return {
            "mae": float(metrics.mean_absolute_error(actual, predicted)),
            "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
            "r2": float(metrics.r2_score(actual, predicted)),
        }


def set_numbers(
    predicted: Sequence[tuple[Any, ...] | None], actual: Sequence[tuple[Any, ...]]
) -> tuple[dict[str, float], pd.DataFrame]:
    """
    Return micro and macro precision, recall and F1 over all labels of all rows, and a table a label.

    A failed row (None) is an empty set: it lowers recall and no precision.
    """
    names = sorted({element for elements in (*predicted, *actual) for element in elements or ()})
    columns = ("precision", "recall", "f1", "support")
    if not names or not len(actual):
        empty = pd.DataFrame({name: pd.Series(dtype=float) for name in columns}).rename_axis("class")
        return dict.fromkeys(("micro_precision", "micro_recall", "micro_f1", "macro_f1"), math.nan), empty
    metrics, preprocessing = need("sklearn.metrics", _SCORING), need("sklearn.preprocessing", _SCORING)
    # One more that nobody has: scikit-learn takes a table of one column for something else.
    binary = preprocessing.MultiLabelBinarizer(classes=[*names, None], sparse_output=len(names) > 50)
    truth = binary.fit_transform(actual)
    guess = binary.transform([elements or () for elements in predicted])

    def numbers(average: str | None) -> Any:
        return metrics.precision_recall_fscore_support(
            truth, guess, labels=list(range(len(names))), average=average, zero_division=0
        )

    micro, macro = numbers("micro"), numbers("macro")
    table = pd.DataFrame(
        dict(zip(columns, numbers(None), strict=True)), index=pd.Index(names, dtype=object, name="class")
    )
    found = dict(zip(("micro_precision", "micro_recall", "micro_f1"), map(float, micro[:3]), strict=True))
    return {**found, "macro_f1": float(macro[2])}, table
