"""
What a job may cost at most: worked out before it is recorded, and for each part before it is sent.

A bound is a bound: every request is counted, by the model's own vocabulary where that is known and else a token a byte;
answers are as long as ``max_tokens`` lets them be. The gate that holds it is in `machine`, just before a batch is created.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from dobatch_pandas.arrow.keyset import KeySet
from dobatch_pandas.config import settings
from dobatch_pandas.estimate import Estimate, Estimator
from dobatch_pandas.questions.part_files import lines_of_part
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import RequestWriter

__all__ = ["bounds_of", "most_of"]


def bounds_of(path: Path, model: str, provider: str, endpoint: str) -> tuple[float | None, float | None]:
    """
    Return the most that the requests of a part can cost as a batch and in real time, in US dollars.

    None where nobody can say: the price is unknown, or nothing limits the answers.
    """
    estimator = Estimator(model, provider, endpoint, overrides=settings().prices, bound=True)
    if estimator.price is None:
        return None, None
    estimator.add_all(lines_of_part(path))
    found = estimator.finish()
    batch, now = found.cost_batch, found.cost_realtime
    return None if batch is None else batch[1], None if now is None else now[1]


def most_of(
    recipe: Recipe,
    pieces: Iterable[pa.RecordBatch],
    folder: Path | None = None,
    *,
    answered: KeySet | None = None,
) -> Estimate | None:
    """
    Return what asking costs at most; None where the price is unknown.

    Parameters
    ----------
    recipe : Recipe
    pieces : iterable of pyarrow.RecordBatch
        The rows, as `freeze` makes them.
    folder : pathlib.Path, optional
        Where there is room for what is not held in memory; nothing is left there.
    answered : KeySet, optional
        Requests that are answered and cost nothing.
    """
    estimator = Estimator(
        recipe.model, recipe.provider, recipe.endpoint, overrides=settings().prices, bound=True
    )
    if estimator.price is None:
        return None

    writer = RequestWriter(recipe, None, sent=KeySet(folder), answered=answered, on_lines=estimator.add)
    for frozen in pieces:
        writer.add(frozen)
    return estimator.finish()
