"""What answers have cost: as it was measured when they came, else by the prices of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dobatch_pandas.config import settings

from .machine import Part

__all__ = ["Spent"]


@dataclass(frozen=True)
class Spent:
    """
    What some parts have cost: ``cost`` in US dollars as far as it was measured, and what is to be priced yet.

    ``open_`` are the tokens of the others, in batches, ``open_now_`` those of them that were paid in real time. ``untold``
    counts answers of which nobody has told the tokens at all.
    """

    cost: float | None = None
    open_prompt_tokens: int = 0
    open_completion_tokens: int = 0
    open_cached_tokens: int = 0
    open_now_prompt_tokens: int = 0
    open_now_completion_tokens: int = 0
    open_now_cached_tokens: int = 0
    untold: int = 0

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Spent:
        paid = [part for part in parts if part.prompt_tokens + part.completion_tokens]
        measured = [part.cost for part in paid if part.cost is not None]
        untold = (
            part.completed
            for part in parts
            if part.final and part.cost is None and not part.prompt_tokens + part.completion_tokens
        )
        open_tokens = {
            f"open_{now}{name}": sum(getattr(p, name) for p in paid if p.cost is None and p.live == bool(now))
            for now in ("", "now_")
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
        }
        return cls(sum(measured) if measured else None, untold=sum(untold), **open_tokens)

    def dollars(self, model: str, provider: str) -> float | None:
        """Return all of it; None where nothing was paid, or nobody knows how much."""
        batches = self.open_prompt_tokens, self.open_completion_tokens, self.open_cached_tokens
        now = self.open_now_prompt_tokens, self.open_now_completion_tokens, self.open_now_cached_tokens
        if self.untold:
            return None
        if not any(batches + now):
            return self.cost
        # To load the price list takes a second.
        from dobatch_pandas.prices import cost, price_of

        price = price_of(model, provider, overrides=settings().prices)
        if price is None:
            return None
        return (self.cost or 0.0) + cost(price, *batches) + cost(price, *now, batch=False)
