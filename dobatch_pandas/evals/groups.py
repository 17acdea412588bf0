"""Which rows belong together by what a column says: the slices of an evaluation, of a comparison, and of the explorer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .texts import as_text

__all__ = ["Groups", "is_measured", "slice_groups"]


@dataclass(frozen=True)
class Groups:
    """Every row's group: a number each, and the groups' names in the order to show."""

    names: list[str]
    codes: np.ndarray[Any, Any]
    ordered: bool  # whether that order is the values' own


def is_measured(dtype: Any) -> bool:
    """Whether values of a type are numbers with an order: neither true and false nor complex."""
    types = pd.api.types
    return types.is_numeric_dtype(dtype) and not (types.is_bool_dtype(dtype) or types.is_complex_dtype(dtype))


def slice_groups(values: pd.Series[Any]) -> Groups:
    """Return every row's group: its value, a fifth of a range of numbers, a span of dates, or ``(missing)``."""
    dtype, plain = values.dtype, values.reset_index(drop=True)
    own_order: Any = None
    if isinstance(dtype, pd.CategoricalDtype):
        own_order = list(dtype.categories) if dtype.ordered else None
        plain = plain.astype(object)
    elif pd.api.types.is_datetime64_any_dtype(dtype):
        plain = _spans(plain)
        own_order = sorted(plain.dropna().unique())
    elif is_measured(dtype):
        if plain.nunique() > 20:
            cut = pd.qcut(plain.astype("Float64").astype(float), 5, duplicates="drop")
            own_order = [str(interval) for interval in cut.cat.categories]
            plain = cut.astype(object).map(str, na_action="ignore")
        else:
            own_order = sorted(plain.dropna().unique().tolist())
    texts = [None if value is None else as_text(value) for value in _none(plain)]
    sizes = Counter(text for text in texts if text is not None)
    if own_order is None:
        names = [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]
    else:
        names = [name for name in dict.fromkeys(map(as_text, own_order)) if name in sizes]
    if any(text is None for text in texts):
        names.append("(missing)")
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places["(missing)" if t is None else t] for t in texts], dtype=np.int64)
    return Groups(names, codes, own_order is not None)


def _none(values: pd.Series[Any]) -> list[Any]:
    return [
        None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in values.astype(object)
    ]


def _spans(moments: pd.Series[Any]) -> pd.Series[Any]:
    """Days, months or years, whichever are few enough to read."""
    naive = moments.dt.tz_localize(None) if getattr(moments.dtype, "tz", None) is not None else moments
    if naive.nunique() <= 20:
        texts: pd.Series[Any] = naive.map(as_text, na_action="ignore").astype(object)
        return texts
    spans: pd.Series[Any] = naive
    for period in ("D", "M", "Y"):
        spans = (
            naive.dt.to_period(period).astype(object).map(str, na_action="ignore").where(naive.notna(), None)
        )
        if spans.nunique() <= 31:
            break
    return spans
