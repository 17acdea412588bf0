"""What a job has used and cost, from what the service reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .prices import Price, cost, price_of

__all__ = ["Usage", "dollars", "facts_as_html", "source_of", "usage_of"]


@dataclass(frozen=True)
class Usage:
    """
    What has been used, as the service reported it; None where it did not say.

    Parameters
    ----------
    model, provider : str
    requests : int
        Requests that have a result, failed ones included.
    prompt_tokens : int or None
        All input, `cached_tokens` included.
    cached_tokens : int or None
        Input that the provider had cached, at a lower price.
    completion_tokens : int or None
        All output, `reasoning_tokens` included.
    reasoning_tokens : int or None
        Output spent on thinking.
    cost : float or None
        US dollars at the batch price; None where no price is known.
    cost_realtime : float or None
        What the same would have cost in real time.
    price : Price or None
        The prices taken, with their source and date.
    """

    model: str
    provider: str
    requests: int
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    cost_realtime: float | None
    price: Price | None = field(repr=False, default=None)

    @property
    def price_source(self) -> str:
        """Where the prices are from, or ``"price unknown"``."""
        return source_of(self.price)

    def __repr__(self) -> str:
        facts = self._facts()
        return (
            f"<Usage: {self.requests:,} requests, {facts['input tokens']} input and "
            f"{facts['output tokens']} output tokens, {facts['cost']}>"
        )

    def _repr_html_(self) -> str:
        return facts_as_html(self._facts().items(), f"Usage of {self.model}")

    def _facts(self) -> dict[str, str]:
        def number(value: int | None) -> str:
            return "unknown" if value is None else f"{value:,}"

        return {
            "requests": f"{self.requests:,}",
            "input tokens": number(self.prompt_tokens),
            "of these cached": number(self.cached_tokens),
            "output tokens": number(self.completion_tokens),
            "of these reasoning": number(self.reasoning_tokens),
            "cost": dollars(self.cost),
            "in real time": dollars(self.cost_realtime),
            "prices": self.price_source,
        }


def usage_of(
    results: pa.Table | Iterable[pa.Table | pa.RecordBatch],
    model: str,
    provider: str,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> Usage:
    """
    Add up what the service reported.

    Parameters
    ----------
    results : pyarrow.Table, or an iterable of them or of record batches
        With the token columns of `RESULTS`.
    model, provider : str
    overrides : mapping of str to Prices, optional
        Prices of the user's own.
    """
    price = price_of(model, provider, overrides=overrides)
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    totals: dict[str, int | None] = dict.fromkeys(names)
    requests, batch, realtime = 0, 0.0, 0.0
    for table in [results] if isinstance(results, pa.Table) else results:
        requests += table.num_rows
        for name in names:
            some = pc.sum(table.column(name)).as_py()
            if some is not None:
                totals[name] = (totals[name] or 0) + some
        for rates, rows in _by_price(price, table):
            prompt, cached, completion = (
                pc.sum(rows.column(name)).as_py() or 0
                for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
            )
            batch += cost(rates, prompt, completion, cached)
            realtime += cost(rates, prompt, completion, cached, batch=False)
    known = price is not None and totals["prompt_tokens"] is not None
    return Usage(
        model,
        provider,
        requests,
        **totals,
        cost=batch if known else None,
        cost_realtime=realtime if known else None,
        price=price,
    )


def _by_price(price: Price | None, table: Any) -> list[tuple[Price, Any]]:
    if price is None:
        return []
    if price.long is None or price.long_from is None:
        return [(price, table)]
    long = pc.fill_null(pc.greater(table.column("prompt_tokens"), price.long_from), False)
    return [(price, table.filter(pc.invert(long))), (price.long, table.filter(long))]


def source_of(price: Price | None) -> str:
    """Where a price is from, for people."""
    if price is None:
        return "price unknown"
    return f"{price.source} ({price.date})" if price.date else price.source


def dollars(amount: float | None) -> str:
    """
    An amount for people: in cents, or with two digits that say something where it is a few cents or less.

    Examples
    --------
    >>> dollars(1234.5), dollars(0.0000042), dollars(0), dollars(None)
    ('$1,234.50', '$0.0000042', '$0.00', 'price unknown')
    """
    if amount is None:
        return "price unknown"
    digits = 2 if amount >= 0.1 or amount <= 0 else 1 - math.floor(math.log10(amount))
    return f"${amount:,.{digits}f}"


def facts_as_html(facts: Iterable[tuple[str, str]], caption: str) -> str:
    """Draw names and their values as a small table."""
    from .display.html import table_html

    lines = [{"what": what, "value": value} for what, value in facts]
    return table_html(lines, ["what", "value"], caption=caption)
