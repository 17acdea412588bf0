"""
What tokens cost, from lists that work offline.

The first of these that knows the model decides:

1. what the user says with ``dobatch.configure(prices={"model": Prices(...)})``;
2. the optional ``genai-prices``, where it lists a batch price;
3. the list of this package, ``data/prices.csv``, whose rows name their source and date;
4. ``genai-prices`` without a batch price: the real-time price then stands for both, and the price says so.

DigitalOcean forwards batches to OpenAI and Anthropic, and charges what they charge for these models
(https://www.digitalocean.com/community/tutorials/why-is-my-llm-bill-so-high, July 2026). So the lists are
those of the two providers, and DigitalOcean's names for the models (``anthropic-claude-4.5-haiku``) are
turned into theirs. A model that no list has is *price unknown*: `price_of` returns None.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module, resources
from importlib.metadata import version
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .display.text import dollars
from .endpoints import PROVIDERS
from .errors import ConfigurationError

__all__ = [
    "Price",
    "Prices",
    "Rates",
    "Usage",
    "cost",
    "facts_as_html",
    "price_of",
    "price_words",
    "usage_of",
    "usage_of_sums",
]

MILLION = 1_000_000


@dataclass(frozen=True)
class Prices:
    """
    Prices of your own for one model, for ``dobatch.configure(prices={"model": Prices(...)})``.

    Parameters
    ----------
    input, output : float
        US dollars per million tokens at the real-time price.
    cached_input : float, optional
        The same for input that the provider had cached; None takes `input`.
    batch_discount : float
        How much less a batch costs, from 0 to 1; applies to all three.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch_discount: float = 0.5

    def __post_init__(self) -> None:
        most = {"input": math.inf, "output": math.inf, "cached_input": math.inf, "batch_discount": 1.0}
        for name, limit in most.items():
            value: Any = getattr(self, name)
            if value is None and name == "cached_input":
                continue
            try:
                number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not (math.isfinite(number) and 0 <= number <= limit):
                words = "a price is a number of US dollars, 0 or more."
                if name == "batch_discount":
                    words = "half the price is 0.5; it goes from 0 to 1."
                raise ConfigurationError(f"{name}={value!r}: {words}")
            object.__setattr__(self, name, number)  # a Decimal cannot be multiplied by a share


@dataclass(frozen=True)
class Rates:
    """US dollars per million tokens; ``cached_input`` is part of the input that the provider had cached."""

    input: float
    output: float
    cached_input: float

    def times(self, factor: float) -> Rates:
        """Return the same rates, larger or smaller."""
        return Rates(self.input * factor, self.output * factor, self.cached_input * factor)


@dataclass(frozen=True)
class Price:
    """
    What a model costs, at real time and in a batch.

    Parameters
    ----------
    realtime, batch : Rates
        Two lists of prices; the discount is in `batch` already.
    source : str
        Where the numbers are from.
    date : str
        When they were checked there; empty for prices given by the user.
    note : str, optional
        What to keep in mind about them, in words.
    long_from : int, optional
        Requests with more input tokens than this cost what `long` says, all of their tokens.
    long : Price, optional
        The price of those.
    """

    realtime: Rates
    batch: Rates
    source: str
    date: str = ""
    note: str | None = None
    long_from: int | None = None
    long: Price | None = None


def price_of(model: str, provider: str, *, overrides: Mapping[str, Any] | None = None) -> Price | None:
    """
    Return what a model costs, or None where no list knows it.

    Parameters
    ----------
    model : str
        Its name, as the provider or as DigitalOcean writes it; a dated snapshot counts as its model.
    provider : str
        ``"openai"`` or ``"anthropic"``.
    overrides : mapping of str to Prices, optional
        Asked first, by the model's name as it is. A mapping with the fields of `Prices` will do as well.

    Examples
    --------
    >>> price_of("gpt-4.1-mini", "openai").batch.input
    0.2
    >>> price_of("a-model-of-mine", "openai") is None
    True
    """
    mine = (overrides or {}).get(model)
    if mine is not None:
        return _from_user(model, mine)
    return _listed(model, provider)


def cost(
    price: Price,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0,
    *,
    batch: bool = True,
) -> float:
    """
    US dollars for so many tokens.

    Parameters
    ----------
    price : Price
    prompt_tokens : int
        All input, the cached part included.
    completion_tokens : int
        All output, reasoning included: it costs what other output costs.
    cached_tokens : int
        The part of the input that the provider had cached. What is paid for writing to a cache is not in the sum.
    batch : bool
        At the batch price, or the real-time one.

    Examples
    --------
    >>> cost(price_of("gpt-4.1-mini", "openai"), 1_000_000, 100_000)
    0.28
    """
    rates = price.batch if batch else price.realtime
    cached = min(cached_tokens, prompt_tokens)
    dollars = (
        (prompt_tokens - cached) * rates.input
        + cached * rates.cached_input
        + completion_tokens * rates.output
    )
    return dollars / MILLION


def _from_user(model: str, mine: Any) -> Price:
    if isinstance(mine, Mapping):
        try:
            mine = Prices(**mine)
        except TypeError as error:
            raise ConfigurationError(f"The prices given for {model!r} do not fit: {error}") from error
    if not isinstance(mine, Prices):
        raise ConfigurationError(
            f"The prices given for {model!r} are {mine!r}; dobatch.Prices(...) is needed."
        )
    cached = mine.input if mine.cached_input is None else mine.cached_input
    realtime = Rates(mine.input, mine.output, cached)
    return Price(realtime, realtime.times(1 - mine.batch_discount), source="dobatch.configure(prices=...)")


@lru_cache(maxsize=256)
def _listed(model: str, provider: str) -> Price | None:
    name = _provider_name(model, provider)
    # Open models run on DigitalOcean's own machines at prices of their own, and not in batches.
    if provider not in PROVIDERS or name.startswith("gpt-oss"):
        return None
    library = _from_library(name, provider)
    if library is not None and library.note is None:
        return library
    return _from_table(name, provider) or library


def _provider_name(model: str, provider: str) -> str:
    """
    The provider's own name for a model, lowercase.

    Examples
    --------
    >>> _provider_name("anthropic-claude-4.5-sonnet", "anthropic")
    'claude-sonnet-4-5'
    >>> _provider_name("openai-gpt-4o", "openai")
    'gpt-4o'
    """
    name = model.lower().removeprefix(f"{provider}-").removeprefix(f"{provider}/")
    if not name.startswith("claude"):
        return name
    name = name.replace(".", "-")
    swapped = re.fullmatch(r"claude-([4-9](?:-\d+)?)-([a-z]+)", name)
    return f"claude-{swapped[2]}-{swapped[1]}" if swapped else name


def _from_library(name: str, provider: str) -> Price | None:
    try:
        library = import_module("genai_prices")
    except ImportError:
        return None
    nothing, batch = library.Usage(), {"processing": "batch"}
    try:
        found = library.calc_price(nothing, name, provider_id=provider)
        found_batch = library.calc_price(nothing, name, provider_id=provider, price_context=batch)
    except LookupError:
        return None
    prices = [vars(found.model_price), vars(found_batch.model_price)]
    if any(rates.get("input_mtok") is None for rates in prices):
        return None
    # Asked in words it does not know, the library answers with the full price: only a difference is proof.
    listed = any(prices[0].get(key) != prices[1].get(key) for key in ("input_mtok", "output_mtok"))
    note = None if listed else "no batch price is listed, so the real-time price is taken"
    comments = f"{found.model.price_comments} {found.provider.price_comments}"
    source = f"genai-prices {version('genai-prices')}"
    date = max(_CHECKED.findall(comments), default="")
    starts = [
        tier.start for rates in prices for value in rates.values() for tier in getattr(value, "tiers", ())
    ]
    long_from = min(starts, default=None)
    long = None
    if long_from is not None:
        long = Price(_rates(prices[0], long_from), _rates(prices[1], long_from), source, date)
    return Price(_rates(prices[0], 0), _rates(prices[1], 0), source, date, note, long_from, long)


_CHECKED = re.compile(r"(?:verified|checked|as of)[^.]{0,40}?(\d{4}-\d{2}-\d{2})")


def _rates(prices: Mapping[str, Any], start: int) -> Rates:
    """The rates of `genai-prices` in the tier that starts at `start` tokens; 0 is the ordinary one."""

    def dollars(key: str) -> float | None:
        value = prices.get(key)
        for tier in getattr(value, "tiers", ()):
            if tier.start <= start:
                return float(tier.price)
        value = getattr(value, "base", value)
        return None if value is None else float(value)

    paid, answered, cached = (
        dollars("input_mtok") or 0.0,
        dollars("output_mtok") or 0.0,
        dollars("cache_read_mtok"),
    )
    return Rates(paid, answered, paid if cached is None else cached)


def _from_table(name: str, provider: str) -> Price | None:
    table = _table()
    undated = re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$", "", name)
    row = table.get((provider, name)) or table.get((provider, undated))
    if row is None:
        return None
    realtime, batch = (
        Rates(
            *(float(row[kind + name] or row[kind + "input"]) for name in ("input", "output", "cached_input"))
        )
        for kind in ("", "batch_")
    )
    return Price(realtime, batch, row["source"], row["date"])


@lru_cache(maxsize=1)
def _table() -> dict[tuple[str, str], dict[str, str]]:
    text = (resources.files(__package__) / "data" / "prices.csv").read_text(encoding="utf-8")
    return {(row["provider"], row["model"]): row for row in csv.DictReader(text.split("\n"))}


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

    def beside(self, now: Usage) -> Usage:
        """Return both together, where the other was paid in real time."""

        def both(a: float | None, b: float | None) -> Any:
            return b if a is None else a if b is None else a + b

        return replace(
            self,
            requests=self.requests + now.requests,
            prompt_tokens=both(self.prompt_tokens, now.prompt_tokens),
            cached_tokens=both(self.cached_tokens, now.cached_tokens),
            completion_tokens=both(self.completion_tokens, now.completion_tokens),
            reasoning_tokens=both(self.reasoning_tokens, now.reasoning_tokens),
            cost=both(self.cost, now.cost_realtime),
            cost_realtime=both(self.cost_realtime, now.cost_realtime),
        )

    @property
    def price_source(self) -> str:
        """Where the prices are from, or ``"price unknown"``."""
        return price_words(self.price)

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


def usage_of_sums(
    requests: int,
    tokens: Mapping[str, int],
    model: str,
    provider: str,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> Usage:
    """
    Say what so many requests cost that took so many tokens in all; that long ones may have a price of their own is left out.

    Parameters
    ----------
    requests : int
    tokens : mapping of str to int
        ``prompt_tokens``, ``cached_tokens``, ``completion_tokens`` and ``reasoning_tokens``.
    model, provider : str
    overrides : mapping of str to Prices, optional
        Prices of the user's own.
    """
    price = price_of(model, provider, overrides=overrides)
    sums = [tokens[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]
    known = price if any(sums) else None
    return Usage(
        model,
        provider,
        requests,
        **tokens,
        cost=None if known is None else cost(known, *sums),
        cost_realtime=None if known is None else cost(known, *sums, batch=False),
        price=price,
    )


def _by_price(price: Price | None, table: Any) -> list[tuple[Price, Any]]:
    if price is None:
        return []
    if price.long is None or price.long_from is None:
        return [(price, table)]
    long = pc.fill_null(pc.greater(table.column("prompt_tokens"), price.long_from), False)
    return [(price, table.filter(pc.invert(long))), (price.long, table.filter(long))]


def costs_of(
    responses: pd.DataFrame, model: str, provider: str, *, overrides: Mapping[str, Any] | None = None
) -> pd.Series[float] | None:
    """
    Return what each answer cost in US dollars, at the batch price; None where no list knows the model.

    Parameters
    ----------
    responses : pandas.DataFrame
        As ``job.responses()`` gives them. An answer without tokens has no cost.
    model, provider, overrides
        As `usage_of` takes them.
    """
    price = price_of(model, provider, overrides=overrides)
    if price is None:
        return None
    tokens = (
        responses[["prompt_tokens", "completion_tokens", "cached_tokens"]].astype("Float64").astype(float)
    )
    lines = []
    for prompt, completion, cached in tokens.itertuples(index=False, name=None):
        long = price.long is not None and price.long_from is not None and prompt > price.long_from
        known = math.isfinite(prompt) and math.isfinite(completion)
        rates = price.long if long and price.long is not None else price
        lines.append(
            cost(rates, prompt, completion, cached if cached == cached else 0) if known else math.nan
        )
    return pd.Series(lines, index=responses.index, dtype=float, name="cost")


def price_words(price: Price | None) -> str:
    """Where a price is from, for people."""
    if price is None:
        return "price unknown"
    return f"{price.source} ({price.date})" if price.date else price.source


def facts_as_html(facts: Iterable[tuple[str, str]], caption: str) -> str:
    """Draw names and their values as a small table."""
    from .display.html import table_html

    lines = [{"what": what, "value": value} for what, value in facts]
    return table_html(lines, ["what", "value"], caption=caption)
