"""What answers the requests: the echo, a function of yours, or a server that is already there."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from dobatch_pandas.errors import ServerProblem

from .instances import instance
from .loop import Loop
from .pace import NotNow
from .plain import from_json, to_json
from .shapes import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
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

__all__ = [
    "AsyncModel",
    "EchoModel",
    "FunctionModel",
    "Model",
    "ModelFunction",
    "Stream",
    "ask",
    "ask_async",
]

ModelFunction = Callable[..., Any]


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
        """
        Answer one request; what goes wrong with it is an answer as well.

        Raises `NotNow` where it can answer none at this moment: batches wait for it then.
        """

    def close(self) -> None:
        """Let go of whatever is held."""


class AsyncModel(ABC):
    """
    Anything that waits for answers rather than computing them: all it does is done in one event loop.

    ``concurrency`` says how many requests it gets at once, ``takes_n`` whether one of them may want several
    answers.
    """

    name: str
    concurrency: int
    takes_n = False

    @abstractmethod
    async def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""

    async def stream(self, endpoint: str, body: dict[str, Any]) -> Stream | Reply | None:
        """An answer piece by piece; a reply where it is an error; None where this cannot be streamed."""
        return None

    async def look(self) -> list[str]:
        """Which models there are, and which endpoints each has, in lines to print."""
        return []

    async def models(self) -> list[str]:
        """The names of the models."""
        return [self.name]

    async def close(self) -> None:  # noqa: B027  many hold nothing
        """Let go of whatever is held."""


@dataclass
class Stream:
    """An answer as it comes in, to be passed on as it is; whoever takes it closes ``pieces``."""

    content_type: str
    pieces: AsyncGenerator[bytes, None]


def ask(model: Model, endpoint: str, body: dict[str, Any]) -> Reply:
    """
    Let a model answer, and refuse, as a provider does, what is no request of this endpoint.

    Whatever a model does, there is a reply, for this request alone. Only `NotNow` is raised.
    """
    problem = _problem(endpoint, body)
    if problem is not None:
        return error_reply(endpoint, 400, problem)
    try:
        times = _times(endpoint, body)
        if times == 1:
            return _checked(endpoint, model.answer(endpoint, body))
        return _together([_checked(endpoint, model.answer(endpoint, body)) for _ in range(times)])
    except NotNow:
        raise
    except BaseException as wrong:  # noqa: BLE001  not even SystemExit may cost more than its own request
        return _mishap(endpoint, wrong)


async def ask_async(model: AsyncModel, endpoint: str, body: dict[str, Any]) -> Reply:
    """As `ask`."""
    problem = _problem(endpoint, body)
    if problem is not None:
        return error_reply(endpoint, 400, problem)
    try:
        times = _times(endpoint, body)
        if times == 1 or model.takes_n:
            return _checked(endpoint, await model.answer(endpoint, body))
        return _together([_checked(endpoint, await model.answer(endpoint, body)) for _ in range(times)])
    except (NotNow, asyncio.CancelledError):
        raise
    except BaseException as wrong:  # noqa: BLE001  as above
        return _mishap(endpoint, wrong)


def _mishap(endpoint: str, wrong: BaseException) -> Reply:
    if isinstance(wrong, (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)):
        # Deeper in the body something is not of the type it has to be.
        return error_reply(endpoint, 400, f"Invalid request: {type(wrong).__name__}: {wrong}")
    return error_reply(endpoint, 500, f"{type(wrong).__name__}: {wrong}")


def _checked(endpoint: str, reply: Any) -> Reply:
    if isinstance(reply, Reply) and isinstance(reply.body, dict) and isinstance(reply.status, int):
        return reply if 100 <= reply.status < 600 else Reply(500, reply.body)
    return error_reply(endpoint, 500, f"The model returned {type(reply).__name__}, which is no answer")


def _times(endpoint: str, body: Mapping[str, Any]) -> int:
    """How many answers a chat request wants."""
    times = body.get("n") if endpoint == CHAT else None
    if times is None:
        return 1
    if isinstance(times, float) and times.is_integer():
        times = int(times)  # JSON knows one kind of number
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= 128:
        raise ValueError("'n' must be a number from 1 to 128")
    return times


def _together(replies: list[Reply]) -> Reply:
    """One chat completion with the choices of several."""
    bad = next((reply for reply in replies if reply.status != 200), None)
    if bad is not None:
        return bad
    choices = [reply.body["choices"][0] for reply in replies]
    first = replies[0].body
    usage = dict(first.get("usage") or {})
    if "completion_tokens" in usage:
        usage["completion_tokens"] = sum(reply.body["usage"]["completion_tokens"] for reply in replies)
        usage["total_tokens"] = usage.get("prompt_tokens", 0) + usage["completion_tokens"]
    numbered = [{**choice, "index": index} for index, choice in enumerate(choices)]
    return Reply(200, {**first, "choices": numbered, "usage": usage})


def _problem(endpoint: str, body: Mapping[str, Any]) -> str | None:
    """What a provider would refuse a single request for, or None."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "'model' must be a text, and not empty"
    if endpoint == MESSAGES:
        most = body.get("max_tokens")
        if isinstance(most, bool) or not isinstance(most, (int, float)) or most < 1 or most != int(most):
            return "'max_tokens' must be a number from 1"
    name = "input" if endpoint in (RESPONSES, EMBEDDINGS) else "messages"
    turns = body.get(name)
    if name == "input" and isinstance(turns, str):
        return None
    if not isinstance(turns, list) or not turns:
        return f"'{name}' must not be missing or empty"
    if endpoint == EMBEDDINGS:
        return None
    return next((problem for turn in turns if (problem := _problem_of_turn(turn, name)) is not None), None)


def _problem_of_turn(turn: Any, name: str) -> str | None:
    if not isinstance(turn, dict):
        return f"'{name}' must be a list of objects"
    # Other items of a responses request, such as a function's output, have no role.
    role, content = turn.get("role", "user" if name == "input" else None), turn.get("content")
    if not isinstance(role, str) or not role:
        return f"'role' in '{name}' must be a text, and not empty"
    if content is None or isinstance(content, str):
        return None
    if not isinstance(content, list) or not all(isinstance(part, (dict, str)) for part in content):
        return f"'content' in '{name}' must be a text or a list of parts"
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
    if not isinstance(size, int) or not 1 <= size <= 65_536:
        return error_reply(EMBEDDINGS, 400, "'dimensions' must be a number from 1 to 65536")
    vectors = [_vector(text, size) for text in texts]
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
        Called as ``function(body, endpoint)``, or ``function(body)`` where it takes one argument, from
        several threads at once; an ``async`` function is awaited, all of them in one event loop. It returns
        the text of the answer; or a dict, which is a whole body where it looks like one (an ``error``, or a
        list of objects in ``choices``, ``output``, ``content`` or ``data``, and no field that the request's
        schema asks for), else the answer as JSON; or a `Reply`, for any HTTP status. What it raises fails the
        request, and no other.
    concurrency : int, optional
        Requests at once; by default 4, and 32 of an ``async`` function.
    """

    chunk = 16

    def __init__(self, function: ModelFunction, concurrency: int | None = None) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object may have it as a coroutine
        )
        self.concurrency = concurrency or (32 if waits else 4)
        if waits:
            self.chunk = 1
        self._function, self._arguments = function, _arguments(function)
        self._loop = Loop("dobatch-async")

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        model, text = str(body.get("model", self.name)), last_text(body, endpoint)
        try:
            given = self._function(*(body, endpoint)[: self._arguments])
            if inspect.isawaitable(given):
                given = self._await(given)
            if isinstance(given, Reply):
                return given
            # What cannot be written as JSON would fail much later.
            given = from_json(to_json(given))
        except NotNow:
            raise
        except BaseException as problem:  # noqa: BLE001  the function is the user's, and may raise anything
            return error_reply(endpoint, 500, f"{type(problem).__name__}: {problem}")
        if isinstance(given, dict):
            wanted = wanted_schema(body, endpoint)
            fields = (wanted.schema.get("properties") if wanted is not None else None) or {}
            whole = _whole({name: value for name, value in given.items() if name not in fields})
            if whole is not None:
                return Reply(whole, given)
            usage = Usage(_words(text), len(given))
            return value_reply(endpoint, model, given, usage, wanted.tool if wanted is not None else None)
        if endpoint == EMBEDDINGS:
            if isinstance(given, list):
                vectors = given if given and isinstance(given[0], list) else [given]
                encoding = str(body.get("encoding_format") or "float")
                return Reply(200, embeddings_body(model, vectors, Usage(_words(text)), encoding))
            return error_reply(endpoint, 500, "For embeddings the function has to return a list of numbers")
        answer = given if given is None or isinstance(given, str) else str(given)
        return text_reply(endpoint, model, answer, Usage(_words(text), _words(answer or "")))

    def close(self) -> None:
        """End the event loop, where there is one."""
        self._loop.close()

    def _await(self, given: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            try:
                return await given
            except (SystemExit, KeyboardInterrupt) as problem:
                # In a task these two would end the loop, and every other request with it.
                raise RuntimeError(repr(problem)) from problem

        return self._loop.run(wait()).result()


def _whole(given: Mapping[str, Any]) -> int | None:
    """The status of a dict that is a whole body; None for one that is an answer with names of its own."""
    if given.get("error"):
        status = given.get("status")
        return status if isinstance(status, int) and 400 <= status < 600 else 500
    for name in ("choices", "output", "content", "data"):
        held = given.get(name)
        if isinstance(held, list) and all(isinstance(one, dict) for one in held):
            return 200
    return None


def _arguments(function: Callable[..., Any]) -> int:
    """How many arguments a function is called with, one or two; a `ServerProblem` where neither works."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 2  # written in C, some have none
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count
    raise ServerProblem(
        f"The model function {getattr(function, '__name__', function)}{signature} cannot be called: it has to take "
        "(body, endpoint) or (body)."
    )
