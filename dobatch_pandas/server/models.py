"""What answers the requests: the echo, a function of yours, or a server that is already there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import orjson

from .instances import instance
from .shapes import (
    EMBEDDINGS,
    RESPONSES,
    Reply,
    Usage,
    embeddings_body,
    error_reply,
    last_text,
    text_reply,
    value_reply,
    wanted_schema,
)

__all__ = ["EchoModel", "FunctionModel", "Model", "ModelFunction", "ask"]

ModelFunction = Callable[[dict[str, Any], str], "str | dict[str, Any] | list[float] | Reply | None"]


class Model(Protocol):
    """
    Anything that answers requests.

    ``concurrency`` says how many threads may call `answer` at once, and ``chunk`` how many requests one of
    them takes at a time: few for a slow model, so that cancelling does not wait long.
    """

    name: str
    concurrency: int
    chunk: int

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """Answer one request; what goes wrong is an answer as well."""

    def close(self) -> None:
        """Let go of whatever is held."""


def ask(model: Model, endpoint: str, body: dict[str, Any]) -> Reply:
    """Let a model answer, and refuse, as a provider does, what is no request of this endpoint."""
    problem = _problem(endpoint, body)
    if problem is not None:
        return error_reply(endpoint, 400, problem)
    try:
        return model.answer(endpoint, body)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError) as wrong:
        # Deeper in the body something is not of the type it has to be.
        return error_reply(endpoint, 400, f"Invalid request: {type(wrong).__name__}: {wrong}")


def _problem(endpoint: str, body: Mapping[str, Any]) -> str | None:
    """What a provider would refuse a single request for, or None."""
    name = "input" if endpoint in (RESPONSES, EMBEDDINGS) else "messages"
    turns = body.get(name)
    if name == "input" and isinstance(turns, str):
        return None
    if not isinstance(turns, list) or not turns:
        return f"'{name}' must not be missing or empty"
    if endpoint != EMBEDDINGS and not all(isinstance(turn, dict) for turn in turns):
        return f"'{name}' must be a list of objects"
    return None


class EchoModel:
    """
    Answers with what it was told: the last user text, or a valid instance of the schema that was asked for.

    The same request always gets the same answer. A token is a word.
    """

    name = "echo"
    concurrency = 1
    chunk = 256

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        model = str(body.get("model", self.name))
        if endpoint == EMBEDDINGS:
            return _embeddings(model, body)
        text = last_text(body, endpoint)
        usage = Usage(_words(text), _words(text))
        wanted = wanted_schema(body, endpoint)
        if wanted is None:
            limit = (
                body.get("max_tokens") or body.get("max_completion_tokens") or body.get("max_output_tokens")
            )
            if limit and usage.completion > limit:
                short = " ".join(text.split(" ")[:limit])
                return text_reply(endpoint, model, short, Usage(usage.prompt, limit), "length")
            return text_reply(endpoint, model, text, usage)
        return value_reply(endpoint, model, instance(wanted.schema, text), usage, wanted.tool)

    def close(self) -> None:
        """Nothing is held."""


def _words(text: str) -> int:
    return text.count(" ") + 1 if text else 0


def _embeddings(model: str, body: Mapping[str, Any]) -> Reply:
    texts = body.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return error_reply(EMBEDDINGS, 400, "'input' must be a string or a list of strings")
    size = body.get("dimensions") or 256
    vectors = [_vector(text, int(size)) for text in texts]
    usage = Usage(sum(map(_words, texts)))
    return Reply(200, embeddings_body(model, vectors, usage, str(body.get("encoding_format") or "float")))


def _vector(text: str, size: int) -> list[float]:
    """A unit vector; texts that share words lie near each other."""
    words = text.lower().split() or [""]
    total = np.sum([_direction(word, size) for word in words], axis=0)
    return (total / np.linalg.norm(total)).tolist()  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def _direction(word: str, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).standard_normal(size)


class FunctionModel:
    """
    Answers with what a Python function returns.

    Parameters
    ----------
    function : callable
        Called as ``function(body, endpoint)``, from several threads at once. It returns the text of the
        answer; or a dict, which is a whole body where it looks like one (``choices``, ``output``,
        ``content``, ``data`` or ``error``), else the answer as JSON; or a `Reply`, for any HTTP status. What
        it raises fails the request.
    concurrency : int
        Threads that may call it at once.
    """

    chunk = 16

    def __init__(self, function: ModelFunction, concurrency: int = 4) -> None:
        self.name = getattr(function, "__name__", "function")
        self.concurrency = concurrency
        self._function = function

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        try:
            given = self._function(body, endpoint)
            # What cannot be written as JSON would fail much later.
            orjson.dumps(given.body if isinstance(given, Reply) else given)
        except Exception as problem:  # noqa: BLE001  the function is the user's, and may raise anything
            return error_reply(endpoint, 500, f"{type(problem).__name__}: {problem}")
        if isinstance(given, Reply):
            return given
        model, text = str(body.get("model", self.name)), last_text(body, endpoint)
        if isinstance(given, dict):
            if "error" in given:
                return Reply(int(given.get("status", 500)), given)
            if given.keys() & {"choices", "output", "content", "data"}:
                return Reply(200, given)
            wanted = wanted_schema(body, endpoint)
            usage = Usage(_words(text), len(given))
            return value_reply(endpoint, model, given, usage, wanted.tool if wanted is not None else None)
        if endpoint == EMBEDDINGS:
            if isinstance(given, list):
                return Reply(200, embeddings_body(model, [given], Usage(_words(text))))
            return error_reply(endpoint, 400, "For embeddings the function has to return a list of numbers")
        answer = None if given is None else str(given)
        return text_reply(endpoint, model, answer, Usage(_words(text), _words(answer or "")))

    def close(self) -> None:
        """Nothing is held."""
