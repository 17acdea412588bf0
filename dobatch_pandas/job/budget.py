"""
What a job may cost at most: worked out before it is recorded, and for each part before it is sent.

A bound is a bound: every request is counted, by the model's own vocabulary where that is known and else a token a byte;
answers are as long as ``max_tokens`` lets them be. The gate that holds it is in `machine`, just before a batch is created.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from dobatch_pandas.arrow.keyset import KeySet
from dobatch_pandas.config import settings
from dobatch_pandas.errors import BudgetExceeded, InputError
from dobatch_pandas.estimate import Estimator
from dobatch_pandas.questions.part_files import Part, lines_of_part
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import RequestWriter

__all__ = ["bound_of", "check_max_cost", "refuse_beyond"]


def bound_of(path: Path, model: str, provider: str, endpoint: str) -> float | None:
    """
    Return the most that the requests of a part can cost as a batch, in US dollars.

    None where nobody can say: the price is unknown, or nothing limits the answers.
    """
    estimator = Estimator(model, provider, endpoint, overrides=settings().prices, bound=True)
    estimator.add_all(lines_of_part(path))
    least_and_most = estimator.finish().cost_batch
    return None if least_and_most is None else least_and_most[1]


def check_max_cost(max_cost: float | None) -> None:
    """Raise InputError for what is no sum of money."""
    if max_cost is not None and (
        isinstance(max_cost, bool) or not isinstance(max_cost, (int, float)) or not max_cost >= 0
    ):
        raise InputError(f"max_cost is {max_cost!r}; it takes US dollars, such as 0.5, or None for no limit.")


def refuse_beyond(
    max_cost: float, recipe: Recipe, pieces: Iterable[pa.RecordBatch], *, answered: KeySet | None = None
) -> None:
    """
    Raise BudgetExceeded where asking may cost more than is allowed.

    Parameters
    ----------
    max_cost : float
        US dollars.
    recipe : Recipe
    pieces : iterable of pyarrow.RecordBatch
        The rows, as `freeze` makes them.
    answered : KeySet, optional
        Requests that are answered and cost nothing.
    """
    estimator = Estimator(
        recipe.model, recipe.provider, recipe.endpoint, overrides=settings().prices, bound=True
    )
    if estimator.price is None:
        raise BudgetExceeded(
            f"max_cost is {max_cost:g} US dollars, and the price of {recipe.model!r} is unknown: give it with "
            "dobatch.configure(prices={model: dobatch.Prices(input=..., output=...)}), or leave out max_cost."
        )

    def take(part: Part) -> None:
        estimator.add_all(lines_of_part(part.path))
        part.path.unlink()

    with tempfile.TemporaryDirectory(prefix="dobatch-") as folder:
        writer = RequestWriter(recipe, Path(folder), answered=answered, on_part=take)
        for frozen in pieces:
            writer.add(frozen)
        writer.close()
    found = estimator.finish().cost_batch
    assert found is not None
    least, most = found
    if not estimator.requests:
        return
    if most is None:
        raise BudgetExceeded(
            f"max_cost is {max_cost:g} US dollars, and answers of any length may come back: the questions alone cost "
            f"about {least:.4f}. Limit the answers with max_tokens, or leave out max_cost."
        )
    if most > max_cost:
        raise BudgetExceeded(
            f"This may cost up to {most:.4f} US dollars, and max_cost is {max_cost:g}. Nothing was sent. "
            "plan.estimate() shows what it is made of."
        )
