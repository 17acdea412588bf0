"""A few rows asked at once, in real time: what a batch would send, and what would come back."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from .answers.join import answer_columns, response_columns
from .answers.result_lines import merge_results, read_lines
from .arrow.threads import Threads
from .config import settings
from .display.preview import Tried
from .endpoints import ENDPOINT_AT, PROVIDERS
from .errors import ApiError, ConnectionFailed, Forbidden, InputError, Unauthorized
from .estimate import Estimator, checked_max_cost, stay_within
from .questions.freeze import freeze
from .questions.recipe import Recipe
from .questions.request_lines import RequestWriter

__all__ = ["run_trial"]


class Inference(Protocol):
    """What answers: a `Client`, or anything with its `infer`."""

    def infer(self, endpoint: str, body: Any, *, provider: Any) -> dict[str, Any]:
        """Return the answer to one request."""


def run_trial(
    frame: pd.DataFrame,
    recipe: Recipe,
    client: Inference,
    n: int = 5,
    *,
    concurrency: int = 4,
    max_cost: float | None = None,
) -> pd.DataFrame:
    """
    Ask for the first rows of a frame now, and return what would be joined to them, with what it took.

    Requests are rendered and answers are read by the code that does it for batches. Each is paid at the
    real-time price. Equal rows are asked once, and every row once, however many samples the recipe wants.

    Parameters
    ----------
    frame : pandas.DataFrame
        Checked already.
    recipe : Recipe
    client : Client
    n : int
        How many rows, from the first on.
    concurrency : int
        How many are asked at the same time.
    max_cost : float, optional
        US dollars, at real-time prices, that asking may cost at most.

    Returns
    -------
    pandas.DataFrame
        Indexed as the rows: ``prompt``, the answer columns, ``<into>_error``, ``prompt_tokens``,
        ``completion_tokens``, ``seconds``; and ``error_message`` where a row failed.

    Raises
    ------
    InputError
        Some of these rows cannot be turned into requests.
    Unauthorized, Forbidden
        The token is not accepted; it would not be for any row.
    ConnectionFailed
        No row got any answer.
    """
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise InputError(f"n is {n!r}; a trial takes a whole number of rows, from 1 on.")
    max_cost = checked_max_cost(max_cost)
    rows, recipe = frame.head(n), replace(recipe, samples=1)
    ids, fates, bodies = _requests(rows, recipe)
    if max_cost is not None:
        estimator = Estimator(
            recipe.model, recipe.provider, recipe.endpoint, overrides=settings().prices, bound=True
        )
        estimator.add_all(map(orjson.dumps, bodies.values()))
        stay_within(max_cost, recipe.model, estimator.finish(), now=True)
    lines, seconds = _ask(bodies, recipe, client, concurrency)
    results = merge_results([read_lines(lines)[0]])
    known = pa.array(ids, pa.string()), pa.array(fates, pa.int8()), results
    answers = answer_columns(*known, **recipe.answer_options, index=rows.index)
    told = response_columns(*known, **recipe.answer_options, index=rows.index)
    conversation = ENDPOINT_AT[recipe.endpoint].conversation
    asked = [_prompt(conversation(bodies[name])) if name in bodies else None for name in ids]
    took = pd.array([seconds.get(name) for name in ids], dtype="Float64")
    shown: dict[str, Any] = {"prompt": pd.Series(asked, dtype=told["text"].dtype), **answers}
    measured: dict[str, Any] = {name: told[name] for name in ("prompt_tokens", "completion_tokens")}
    measured["seconds"] = took
    if told["error_message"].notna().any():
        measured["error_message"] = told["error_message"]
    for name, values in measured.items():
        # An answer that is called "seconds" stays what it is.
        shown.setdefault(name, values)
    return Tried({name: getattr(values, "array", values) for name, values in shown.items()}, index=rows.index)


def _requests(rows: pd.DataFrame, recipe: Recipe) -> tuple[list[str | None], list[int], dict[str, Any]]:
    """Each row's id and fate, and the bodies that are to be asked, by id."""
    bodies: dict[str, Any] = {}

    def keep(lines: list[bytes]) -> None:
        for line in map(orjson.loads, lines):
            bodies[line["custom_id"]] = line[PROVIDERS[recipe.provider].asks]

    writer = RequestWriter(recipe, None, on_lines=keep)
    blocks = pa.Table.from_batches([writer.add(frozen) for frozen in freeze(recipe, rows)])
    return blocks["custom_id"].to_pylist(), blocks["fate"].to_pylist(), bodies


def _ask(
    to_ask: dict[str, Any], recipe: Recipe, client: Inference, concurrency: int
) -> tuple[list[bytes], dict[str | None, float]]:
    """Ask each; return the answers as lines of a result file, and the seconds each took."""
    seconds: dict[str | None, float] = {}
    unreached: list[ConnectionFailed] = []

    def ask(name: str) -> bytes:
        began = time.perf_counter()
        body: Any
        try:
            status, body = 200, client.infer(recipe.endpoint, to_ask[name], provider=recipe.provider)
        except (Unauthorized, Forbidden):
            raise
        except ApiError as error:
            status, body = error.status, {"error": {"code": error.id, "message": error.message}}
        except ConnectionFailed as error:
            unreached.append(error)
            status, body = 0, {"error": {"message": str(error)}}
        seconds[name] = time.perf_counter() - began
        response = {"status_code": status, "body": body}
        # Escaped to ASCII, so that half a surrogate pair in an answer reaches the reader, who mends it.
        return json.dumps({"custom_id": name, "response": response, "error": None}).encode()

    pool = Threads(max(1, min(concurrency, len(to_ask))), "dobatch-trial")
    try:
        lines = list(pool.map(ask, to_ask))
    finally:
        pool.close(cancel=True)
    if unreached and len(unreached) == len(to_ask):
        raise unreached[0]
    return lines, seconds


def _prompt(messages: list[Any]) -> str:
    """What a request asks, for people: the text, or the conversation where there is more than one."""
    if len(messages) == 1:
        return _content_text(messages[0].get("content"))
    return "\n\n".join(
        f"{message.get('role')}: {_content_text(message.get('content'))}" for message in messages
    )


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part.get("text") or f"[{part.get('type')}]" for part in content if isinstance(part, dict)
        )
    return "" if content is None else orjson.dumps(content).decode()
