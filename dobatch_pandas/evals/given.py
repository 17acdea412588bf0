"""What a function of this folder was given: a frame, columns of it, a judge's job. Everything else is told in words."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import pandas as pd

from dobatch_pandas.errors import InputError

__all__ = ["is_real", "is_whole", "named_columns", "need_frame", "on_the_same_rows", "verdicts_of"]


def need_frame(given: Any, caller: str, cure: str) -> None:
    """Raise where something else was given than a frame."""
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"{caller} takes a frame, not {type(given).__name__}. {cure}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, Python's or numpy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether a value is a finite number, Python's or numpy's."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def on_the_same_rows(caller: str, judged: Any, human: Any) -> pd.Series[Any]:
    """Return people's labels in the order of the verdicts, found by the index."""
    for given in (judged, human):
        if not isinstance(given, pd.Series):
            what = repr(given) if isinstance(given, str) else type(given).__name__
            raise InputError(f"{caller} takes two columns, df['judge'] and df['human'], not {what}.")
    labels: pd.Series[Any] = human
    if judged.index.equals(labels.index):
        return labels
    if not (judged.index.is_unique and labels.index.is_unique):
        raise InputError("The two have different indexes with repeated labels, so rows cannot be paired.")
    return labels.reindex(judged.index)


def named_columns(frame: pd.DataFrame, named: Any) -> list[Any]:
    """Return what was named as labels of columns: one of any kind, several, or none; a tuple is one where the frame has it."""
    if named is None:
        return []
    several = pd.api.types.is_list_like(named) and not isinstance(named, pd.Series)
    return list(named) if several and not (isinstance(named, tuple) and named in frame.columns) else [named]


def verdicts_of(result: Any, into: str | None, samples: int | None) -> tuple[pd.DataFrame, str, int]:
    """What a judge gave, as a frame, with the verdict's column and how many there are of it: a job knows its own."""
    found = result
    if not isinstance(result, pd.DataFrame):
        if not hasattr(result, "recipe"):
            raise InputError(
                f"The job that judge() gave or its result() is needed, not {type(result).__name__}."
            )
        found = result.result()
        into, samples = into or result.recipe.into, samples or int(result.recipe.samples)
    return found, into or "judge", samples or 1
