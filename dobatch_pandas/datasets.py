"""Real rows for demos, notebooks and tests; their sources and open licences are in ``data/LICENSES.md``."""

from __future__ import annotations

import json
from importlib import resources

import pandas as pd

from .errors import InputError

__all__ = ["load_date_understanding", "load_movie_reviews", "load_reviews"]


def load_reviews(n: int | None = None, *, balanced: bool = False) -> pd.DataFrame:
    """
    Return sentences of product reviews that 20 people each have rated.

    Rows are shuffled once and for all, so the first `n` are the same on every machine. Sentences on
    which the raters disagree (a mean rating within half a point of zero) are left out.

    Parameters
    ----------
    n : int, optional
        How many rows; None returns all 2,977.
    balanced : bool
        As many positive as negative rows, give or take one; 2,466 at most. Else 59 % are positive.

    Returns
    -------
    pandas.DataFrame
        ``text``; ``rating``, the mean of 20 ratings from -4 to 4; ``label``, ``"pos"`` or ``"neg"``.

    Examples
    --------
    >>> load_reviews(200, balanced=True)["label"].value_counts().to_dict()
    {'pos': 100, 'neg': 100}
    """
    return _rated("reviews", n, balanced)


def load_movie_reviews(n: int | None = None, *, balanced: bool = False) -> pd.DataFrame:
    """
    Return sentences of film reviews, rated as those of `load_reviews` are.

    Parameters
    ----------
    n : int, optional
        How many rows; None returns all 1,000.
    balanced : bool
        As many positive as negative rows, give or take one; 982 at most.

    Returns
    -------
    pandas.DataFrame
        ``text``, ``rating``, ``label``.
    """
    return _rated("movie_reviews", n, balanced)


def load_date_understanding(n: int | None = None) -> pd.DataFrame:
    """
    Return questions about dates with one right answer among up to six choices.

    It is a BIG-bench task: its rows should never appear in training corpora.

    Parameters
    ----------
    n : int, optional
        How many rows; None returns all 369.

    Returns
    -------
    pandas.DataFrame
        ``question``; ``choices``, a list of str; ``answer``, one of the choices.
    """
    frame = _read("date_understanding")
    frame["choices"] = frame["choices"].map(json.loads)
    return _first(frame, n, "date_understanding")


def _rated(name: str, n: int | None, balanced: bool) -> pd.DataFrame:
    frame = _read(name)
    frame["label"] = (frame["rating"] > 0).map({True: "pos", False: "neg"})
    if balanced:
        # The smaller label decides; each row keeps its place in the shuffled order.
        nth = frame.groupby("label").cumcount()
        most = int(frame["label"].value_counts().min())
        frame = frame[nth < most].iloc[nth[nth < most].argsort(kind="stable")].reset_index(drop=True)
    return _first(frame, n, name)


def _read(name: str) -> pd.DataFrame:
    with resources.as_file(resources.files(__package__) / "data" / f"{name}.csv.gz") as path:
        return pd.read_csv(path, encoding="utf-8", keep_default_na=False)


def _first(frame: pd.DataFrame, n: int | None, name: str) -> pd.DataFrame:
    if n is None:
        return frame
    if not 0 <= n <= len(frame):
        raise InputError(f"{name} has {len(frame):,} rows to give, not {n:,}.")
    return frame.head(n)
