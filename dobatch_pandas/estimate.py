"""What a job would cost, before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa

from .arrow.keyset import KeySet, keys_of
from .codes import Fate
from .display.html import price_html, size
from .display.text import dollars
from .endpoints import ENDPOINT_AT, PROVIDERS
from .errors import BudgetExceeded, InputError, in_dollars
from .prices import Price, cost, price_of, price_words
from .questions.freeze import freeze
from .questions.recipe import Recipe
from .questions.request_lines import RequestWriter
from .tokens import ByteCounter, counter_for

__all__ = [
    "Estimate",
    "Estimator",
    "Sums",
    "checked_max_cost",
    "estimate_bodies",
    "estimate_frame",
    "stay_within",
]

# Requests whose tokens are all counted; of those beyond, every SHARE-th is.
COUNTED = 200_000
SHARE = 10

# What OpenAI adds to the text of a chat: three tokens and the role a message, three to begin the answer.
PER_MESSAGE, PER_ANSWER = 4, 3

NO_LIMIT = "nothing limits the answers"
# Parts of a message whose tokens are those of what is written in them.
_WRITTEN = frozenset(
    [
        *(None, "message", "text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text"),
        *("reasoning", "thinking", "redacted_thinking", "tool_use", "tool_result", "search_result"),
        *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
    ]
)
_SAID_ELSEWHERE = ("role", "type", "content", "text", "output", "cache_control")
# Parameters that bring in what is not in the request, or that are paid beside its tokens.
_BEYOND = (
    *("previous_response_id", "conversation", "prompt", "web_search_options", "prediction", "audio"),
    *("container", "mcp_servers"),
)
# Prices of their own, above the listed one, have all words but these.
_USUAL = {
    "service_tier": (None, "auto", "default", "flex", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
}
# Parameters whose texts are not put to the model, and those that are read elsewhere.
_UNSEEN = frozenset(
    [
        *("model", "messages", "system", "input", "instructions", "metadata", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "stop", "stop_sequences", "logit_bias"),
        *("stream_options", "include", "modalities", "thinking", "reasoning", "reasoning_effort"),
        *("truncation", "verbosity", "encoding_format", "cache_control", *_USUAL, *_BEYOND),
    ]
)

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """
    What would be sent, and what that would cost.

    Parameters
    ----------
    model, provider : str
    rows : int
        Rows of the frame.
    requests : int
        Distinct requests, samples included; `reused` of them are answered already and cost nothing.
    reused : int
        Requests answered by earlier jobs.
    skipped : int
        Rows that would not be sent (missing input, too large).
    bytes : int
        Size of the request files.
    batches : int or None
        How many batches the requests would be split over; None where that was not worked out.
    input_tokens : int
        All that is sent and paid: prompts, system text, schemas.
    output_tokens : tuple of int and (int or None)
        At least, and at most; None where a request sets no ``max_tokens``.
    tokenizer : str
        What counted the tokens.
    exact : bool
        Whether `input_tokens` is more than an estimate: the model's own vocabulary counted all texts, and
        nothing was sent whose form the provider keeps to itself (schemas, tools).
    counted : int
        Requests whose tokens were counted; above 200,000 every tenth stands for ten.
    cost_realtime, cost_batch : tuple of float and (float or None), or None
        US dollars: input alone, and with the longest answers; None is "price unknown".
    price : Price or None
        The prices taken, with their source and date.
    open : tuple of str
        Why there is no upper bound: no limit of the answers, an image whose tokens nobody knows before.
    limit : str
        The parameter that limits the answers of this endpoint and model; empty where they have one length.
    """

    model: str
    provider: str
    rows: int
    requests: int
    reused: int
    skipped: int
    bytes: int
    batches: int | None
    input_tokens: int
    output_tokens: tuple[int, int | None]
    tokenizer: str
    exact: bool
    counted: int
    cost_realtime: tuple[float, float | None] | None
    cost_batch: tuple[float, float | None] | None
    price: Price | None = field(repr=False, default=None)
    open: tuple[str, ...] = ()
    limit: str = "max_tokens"

    @property
    def to_send(self) -> int:
        """Requests that would go to the service: all but the reused ones."""
        return self.requests - self.reused

    @property
    def price_source(self) -> str:
        """Where the prices are from, or ``"price unknown"``."""
        return price_words(self.price)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to keep in mind about the numbers, in sentences."""
        notes = []
        if not self.exact:
            notes.append(f"The number of input tokens is an estimate, counted by {self.tokenizer}.")
        if self.counted < self.to_send:
            notes.append(
                f"Tokens were counted in {self.counted:,} of {self.to_send:,} requests, for all of them."
            )
        if NO_LIMIT in self.open:
            notes.append(f"No {self.limit} limits the answers, so only the input has a price.")
        if beyond := [why for why in self.open if why != NO_LIMIT]:
            notes.append(f"What is priced is the text alone: {'; '.join(beyond)}.")
        if self.price is None:
            notes.append(
                'Price unknown: give one with dobatch.configure(prices={"model": dobatch.Prices(...)}).'
            )
        elif self.price.note:
            notes.append(f"About the price: {self.price.note}.")
        return tuple(notes)

    def __repr__(self) -> str:
        about = "" if self.exact else "about "
        costs = "price unknown"
        if self.price is not None:
            costs = f"{_range(self.cost_batch)} as a batch, {_range(self.cost_realtime)} in real time"
        return (
            f"<Estimate: {costs}; {self.to_send:,} requests for {self.rows:,} rows, "
            f"{about}{self.input_tokens:,} input tokens>"
        )

    def _repr_html_(self) -> str:
        facts = [*self._facts().items(), *(("note", note) for note in self.notes)]
        return price_html(self._headline(), self._bound(), facts, f"Estimate for {self.model}")

    def summary(self) -> str:
        """Return the same in lines of plain text, the price and its bound first."""
        price, words = self._headline()
        facts = self._facts()
        wide = max(map(len, facts))
        return "\n".join(
            [
                f"{price} {words}",
                *filter(None, [self._bound()]),
                *(f"  {name:<{wide}}  {value}" for name, value in facts.items()),
                *self.notes,
            ]
        )

    def _headline(self) -> tuple[str, str]:
        """The price in the fewest words, and what it is the price of."""
        if self.price is None:
            return "Price unknown", f"{self.to_send:,} requests"
        return _range(self.cost_batch), f"as a batch; {_range(self.cost_realtime)} in real time"

    def _bound(self) -> str:
        """What it cannot exceed, in a sentence; empty where no price is known."""
        if self.cost_batch is None:
            return ""
        if self.cost_batch[1] is None:
            return f"No upper bound: {'; '.join(self.open)}."
        about = "At most" if self.exact else "At most about"
        longest = f", where every answer is as long as {self.limit} allows" if self.limit else ""
        return f"{about} {dollars(self.cost_batch[1])}{longest}."

    def _facts(self) -> dict[str, str]:
        least, most = self.output_tokens
        about = "" if self.exact else "about "
        return {
            "rows": f"{self.rows:,}",
            "requests to send": f"{self.to_send:,}",
            "answered before, reused": f"{self.reused:,}",
            "rows not sent": f"{self.skipped:,}",
            "size": size(self.bytes),
            "batches": "not worked out" if self.batches is None else f"{self.batches:,}",
            "input tokens": f"{about}{self.input_tokens:,} ({self.tokenizer})",
            "output tokens": "no limit set" if most is None else f"{least:,} to {most:,}",
            "prices": self.price_source,
        }


@dataclass(frozen=True)
class Sums:
    """What an `Estimator` has counted, for another one that includes it."""

    requests: int
    bytes: int
    counted: int
    input: tuple[float, ...]
    output: tuple[float, ...]
    open: tuple[str, ...]
    plain: bool


class Estimator:
    """
    Adds up requests a chunk at a time, in memory that does not grow.

    Parameters
    ----------
    model, provider : str
    endpoint : str
        The path the requests go to.
    overrides : mapping of str to Prices, optional
        Prices of the user's own.
    bound : bool
        Count what cannot be exceeded rather than what is likely: every request, and bytes wherever it is not certain
        how many tokens they are, since no token is less than a byte.
    """

    def __init__(
        self,
        model: str,
        provider: str,
        endpoint: str = "/v1/chat/completions",
        *,
        overrides: Mapping[str, Any] | None = None,
        bound: bool = False,
    ) -> None:
        self.model, self.provider = model, provider
        self._endpoint = ENDPOINT_AT[endpoint]
        self._bound = bound
        self.price = price_of(model, provider, overrides=overrides)
        self.counter = counter_for(model)
        if bound and not self.counter.exact:
            self.counter = ByteCounter()
        self.requests = self.bytes = self.counted = 0
        # Ordinary requests, and those long enough to have a price of their own.
        self._input, self._output = np.zeros(2), np.zeros(2)
        self._open: dict[str, None] = {}
        # How the other endpoints put a conversation into tokens is not published.
        self._plain = self._endpoint.published

    def add(self, bodies: Sequence[bytes]) -> None:
        """
        Take in requests that would be sent.

        Parameters
        ----------
        bodies : sequence of bytes
            Bodies as JSON, or whole lines of a request file.
        """
        if not bodies:
            return
        sample = bodies if self._bound or self.requests < COUNTED else bodies[::SHARE]
        self.requests += len(bodies)
        self.bytes += sum(map(len, bodies))
        self.counted += len(sample)
        texts: list[str] = []
        owners: list[int] = []
        most = np.zeros(len(sample))
        fixed = np.zeros(len(sample), np.int64)
        for number, body in enumerate(map(orjson.loads, sample)):
            # A whole line, or what is in it.
            body = next((body[one.asks] for one in PROVIDERS.values() if one.asks in body), body)
            found, fixed[number] = self._read(body)
            texts += found
            owners += [number] * len(found)
            most[number] = self._longest_answer(body)
        tokens = fixed + np.bincount(np.array(owners, np.int64), self._count(texts), len(sample))
        if self._bound:
            # What is written to a cache for an hour costs twice as much.
            tokens *= np.array([2 if b'"cache_control"' in body else 1 for body in sample])
        threshold = np.inf if self.price is None or self.price.long_from is None else self.price.long_from
        long = (tokens > threshold).astype(int)
        stands_for = len(bodies) / len(sample)
        self._input += np.bincount(long, tokens, 2) * stands_for
        self._output += np.bincount(long, most, 2) * stands_for

    def add_all(self, bodies: Iterable[bytes]) -> None:
        """Take in any number of requests, a few thousand at a time."""
        rest = iter(bodies)
        while chunk := list(islice(rest, 8192)):
            self.add(chunk)

    def sums(self) -> Sums:
        """Return what has been counted so far."""
        return Sums(
            self.requests,
            self.bytes,
            self.counted,
            tuple(self._input.tolist()),
            tuple(self._output.tolist()),
            tuple(self._open),
            self._plain,
        )

    def include(self, sums: Sums) -> None:
        """Take in what another estimator of the same question has counted."""
        self.requests += sums.requests
        self.bytes += sums.bytes
        self.counted += sums.counted
        self._input += sums.input
        self._output += sums.output
        self._open |= dict.fromkeys(sums.open)
        self._plain = self._plain and sums.plain

    def finish(
        self,
        *,
        rows: int | None = None,
        requests: int | None = None,
        reused: int = 0,
        skipped: int = 0,
        bytes: int | None = None,
        batches: int | None = None,
    ) -> Estimate:
        """
        Return the estimate of all that was taken in.

        Parameters
        ----------
        rows : int, optional
            Rows of the frame; None takes the requests.
        requests : int, optional
            Distinct requests, reused ones included; None takes those taken in and `reused`.
        reused, skipped : int
            Requests answered before, and rows that would not be sent.
        bytes : int, optional
            Size of the request files; None takes what was given to `add`.
        batches : int, optional
            How many batches there would be.
        """
        requests = self.requests + reused if requests is None else requests
        total = float(self._output.sum())
        return Estimate(
            model=self.model,
            provider=self.provider,
            rows=requests if rows is None else rows,
            requests=requests,
            reused=reused,
            skipped=skipped,
            bytes=self.bytes if bytes is None else bytes,
            batches=batches,
            input_tokens=round(float(self._input.sum())),
            output_tokens=(0, None if NO_LIMIT in self._open else round(total)),
            tokenizer=self.counter.name,
            exact=self.counter.exact and self._plain and self.counted == self.requests,
            counted=self.counted,
            cost_realtime=self._cost(batch=False),
            cost_batch=self._cost(batch=True),
            price=self.price,
            open=tuple(self._open),
            limit=self._endpoint.limit_for(self.model),
        )

    def _count(self, texts: list[str]) -> Tokens:
        # A system text, a schema or an example stands in every request and is counted once a chunk.
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        counts = self.counter.count(list(places))
        return counts[np.array([places[text] for text in texts], np.int64)]

    def _read(self, body: dict[str, Any]) -> tuple[list[str], int]:
        """The texts of a body, and the tokens its form adds."""
        messages = self._endpoint.conversation(body)
        texts: list[str] = []
        forms = [body[name] for name in self._endpoint.forms if name in body]
        if self._bound:
            seen = _UNSEEN.union(self._endpoint.forms)
            forms += [v for name, v in body.items() if name not in seen and isinstance(v, (str, list, dict))]
        for message in messages:
            self._take(message, texts, forms)
        fixed = 0 if self._endpoint.vectors else PER_MESSAGE * len(messages) + PER_ANSWER
        for form in forms:
            written = orjson.dumps(form).decode()
            # The provider keeps to itself how it puts these to the model.
            if self._bound:
                fixed += len(written.encode())
            else:
                texts.append(written)
            self._plain = False
        if self._bound and body.get("tools"):
            fixed += self._endpoint.words_on_tools
        for tool in body.get("tools") or ():
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind not in (None, "function", "custom"):
                self._open[f"what a tool of the service's own ({kind}) costs is not known before"] = None
        for name in _BEYOND:
            if body.get(name):
                self._open[f"{name} brings in more than what is written in the request"] = None
        for name, usual in _USUAL.items():
            if body.get(name) not in usual:
                self._open[f"{name} {body[name]!r} has a price of its own"] = None
        return texts, fixed

    def _take(self, part: Any, texts: list[str], forms: list[Any]) -> None:
        """Take in a message, its content, or a part of that: what is a text, and what is put to the model in another form."""
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, list):
            for inner in part:
                self._take(inner, texts, forms)
        elif isinstance(part, dict):
            kind = part.get("type")
            if kind not in _WRITTEN:
                self._plain = False
                self._open[f"how many tokens a part of the type {kind} has is not known before"] = None
                return
            for name in ("content", "text", "output"):
                self._take(part.get(name), texts, forms)
            if rest := {name: value for name, value in part.items() if name not in _SAID_ELSEWHERE and value}:
                forms.append(rest)
        elif part is not None:
            forms.append(part)

    def _longest_answer(self, body: dict[str, Any]) -> float:
        if self._endpoint.vectors:
            return 0
        for name in self._endpoint.limit_names:
            limit = body.get(name)
            if isinstance(limit, (int, float)) and not isinstance(limit, bool):
                return float(limit) * (body["n"] if isinstance(body.get("n"), int) else 1)
        self._open[NO_LIMIT] = None
        return 0

    def _cost(self, *, batch: bool) -> tuple[float, float | None] | None:
        if self.price is None:
            return None
        prices = (self.price, self.price.long or self.price)
        least = sum(
            cost(price, sent, 0, batch=batch) for price, sent in zip(prices, self._input, strict=True)
        )
        answers = sum(
            cost(price, 0, out, batch=batch) for price, out in zip(prices, self._output, strict=True)
        )
        return float(least), None if self._open else float(least + answers)


def checked_max_cost(max_cost: Any) -> float | None:
    """
    Return a limit of cost as a plain number, whatever kind of number it is.

    Raises
    ------
    InputError
        It is no sum of money.
    """
    if max_cost is None:
        return None
    if isinstance(max_cost, (Real, Decimal)) and max_cost is not True and max_cost is not False:
        with suppress(OverflowError, ValueError):
            amount = float(max_cost)
            if 0 <= amount < 1e15 or amount == float("inf"):
                return amount
    raise InputError(f"max_cost is {max_cost!r}; it takes US dollars, such as 0.5, or None for no limit.")


def stay_within(max_cost: float, model: str, estimate: Estimate | None, *, now: bool = False) -> None:
    """
    Raise BudgetExceeded where asking may cost more than is allowed.

    Parameters
    ----------
    max_cost : float
        US dollars.
    model : str
    estimate : Estimate or None
        What it costs at most; None where the price is unknown.
    now : bool
        In real time, not as a batch.
    """
    cost = None if estimate is None else estimate.cost_realtime if now else estimate.cost_batch
    if estimate is None or cost is None:
        raise BudgetExceeded(
            f"max_cost is {in_dollars(max_cost)}, and the price of {model!r} is unknown: give it with "
            "dobatch.configure(prices={model: dobatch.Prices(input=..., output=...)}), or leave out max_cost."
        )
    least, most = cost
    if most is None and set(estimate.open) - {NO_LIMIT}:
        raise BudgetExceeded(
            f"max_cost is {in_dollars(max_cost)}, and nobody can say what this may cost at most: {'; '.join(estimate.open)}. "
            "Ask without that, or leave out max_cost."
        )
    if most is None:
        raise BudgetExceeded(
            f"max_cost is {in_dollars(max_cost)}, and answers of any length may come back: the questions alone cost "
            f"about {in_dollars(least)}. Limit the answers with {estimate.limit}, or leave out max_cost."
        )
    if most > max_cost:
        raise BudgetExceeded(
            f"This may cost up to {in_dollars(most)}, and max_cost is {in_dollars(max_cost)}. Nothing was sent. "
            "plan.estimate() shows what it is made of."
        )


def estimate_bodies(
    bodies: Iterable[bytes],
    model: str,
    provider: str,
    endpoint: str = "/v1/chat/completions",
    *,
    overrides: Mapping[str, Any] | None = None,
) -> Estimate:
    """
    Return what these requests would cost.

    Parameters
    ----------
    bodies : iterable of bytes
        Bodies as JSON, or lines of a request file.
    model, provider, endpoint : str
    overrides : mapping of str to Prices, optional
        Prices of the user's own.

    Examples
    --------
    >>> body = b'{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Hello"}],"max_tokens":5}'
    >>> estimate_bodies([body], "gpt-4.1-mini", "openai").output_tokens
    (0, 5)
    """
    estimator = Estimator(model, provider, endpoint, overrides=overrides)
    estimator.add_all(bodies)
    return estimator.finish()


def estimate_frame(
    frame: pd.DataFrame,
    recipe: Recipe,
    *,
    answered: KeySet | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Estimate:
    """
    Return what asking a recipe of a frame would send and cost; what is counted are the very request files.

    Parameters
    ----------
    frame : pandas.DataFrame
        Checked already.
    recipe : Recipe
    answered : KeySet, optional
        Requests whose answers are known and would be reused.
    overrides : mapping of str to Prices, optional
        Prices of the user's own.

    Raises
    ------
    InputError
        Some rows cannot be turned into requests; all of them are named.
    """
    estimator = Estimator(recipe.model, recipe.provider, recipe.endpoint, overrides=overrides)
    fates = np.zeros(len(Fate), np.int64)
    reused = 0
    seen = KeySet()

    writer = RequestWriter(recipe, None, answered=answered, on_lines=estimator.add)
    for frozen in freeze(recipe, frame):
        block = writer.add(frozen)
        fate = block["fate"].to_numpy()
        fates += np.bincount(fate, minlength=len(fates))
        if (fate == Fate.REUSED).any():
            keys = keys_of(block["custom_id"].filter(pa.array(fate == Fate.REUSED)))
            reused += int(seen.add_new(keys).sum())
    writer.close()
    return estimator.finish(
        rows=len(frame),
        reused=reused,
        skipped=int(fates[Fate.SKIPPED] + fates[Fate.TOO_LARGE]) // recipe.samples,
        # A line ends in a newline that is not given to the estimator.
        bytes=estimator.bytes + estimator.requests,
        batches=writer.parts,
    )


def _range(costs: tuple[float, float | None] | None) -> str:
    if costs is None:
        return "price unknown"
    least, most = costs
    if most is None:
        return f"at least {dollars(least)}"
    return dollars(least) if most == least else f"{dollars(least)} to {dollars(most)}"
