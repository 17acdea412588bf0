"""A model behind an OpenAI-compatible HTTP server: vLLM, llama.cpp, Ollama and the like."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from dobatch_pandas.errors import ServerProblem

from .address import is_address, shown
from .convert import chat_request, from_chat
from .models import AsyncModel, Stream
from .outward import AWAY, Outward, words_of
from .pace import NotNow
from .plain import from_json, to_json
from .shapes import CHAT, EMBEDDINGS, ENDPOINTS, MESSAGES, RESPONSES, Reply, error_reply

__all__ = ["UpstreamModel"]

# What an endpoint's answer must hold, as a list.
_HOLDS = {CHAT: "choices", RESPONSES: "output", EMBEDDINGS: "data", MESSAGES: "content"}
_LONGEST = 256_000_000
# Nobody is at home: it is loading, restarting, overloaded, or only its proxy answers.
_AWAY = {429, 502, 503, 521, 522, 523, 529}
# Failures that asking again does not change.
_FINAL = {501, 505}
_NO_ROUTE = {404, 405, 501}


class _Broken(Exception):
    """
    An answer that did not come whole; the next may.

    ``silent`` until the timeout, which is tried once more only; or ``cut`` before a byte of it came.
    """

    def __init__(self, message: str, *, silent: bool = False, cut: bool = False) -> None:
        super().__init__(message)
        self.silent, self.cut = silent, cut


class _OtherShape(Reply):
    """The answer of another endpoint: the one that was asked is not known there."""


class UpstreamModel(AsyncModel):
    """
    Passes requests on, so many at a time.

    Chat and embeddings go as they are. So do messages and responses, until the server shows that it does not
    have them for a model: from then on they become chat for that model.

    Parameters
    ----------
    base_url : str
        Such as ``"http://localhost:8000/v1"``.
    api_key : str, optional
        Default: the environment's ``DOBATCH_UPSTREAM_KEY``.
    concurrency : int, optional
        Requests at once; by default 32.
    attempts : int
        How often a request is sent at most, where the answer is 500 or breaks off. A server that is loading,
        overloaded or away costs no attempt: that is waited for.
    timeout : float
        Seconds to wait for an answer.
    """

    takes_n = True

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        concurrency: int | None = None,
        attempts: int = 5,
        timeout: float = 600.0,
    ) -> None:
        self.name = shown(base_url.rstrip("/"))
        self.concurrency = concurrency or 32
        self._base, self._attempts, self._timeout = base_url.rstrip("/"), attempts, timeout
        if not is_address(self._base):
            raise ServerProblem(
                f"{shown(base_url)!r} is no address of a model's server, such as http://localhost:8001/v1"
            )
        key = api_key or os.environ.get("DOBATCH_UPSTREAM_KEY")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._outward = Outward()
        # Endpoints that are known to be there, or not, for a model.
        self._has: dict[tuple[str, str], bool] = {}
        # When it last answered anything, and when it was last seen to cut whatever comes.
        self._heard = self._cut = float("-inf")

    async def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        if endpoint in (CHAT, EMBEDDINGS):
            return await self._post(endpoint, body)
        place = (endpoint, str(body.get("model")))
        missing: Reply | None = None
        if self._has.get(place, True):
            reply = await self._post(endpoint, body)
            if not _no_route(reply, place[1]):
                self._has.setdefault(place, True)
                return reply
            missing = reply
        try:
            request = chat_request(endpoint, body)
        except ValueError as problem:
            return error_reply(endpoint, 400, str(problem))
        reply = from_chat(endpoint, body, await self._post(CHAT, request))
        if missing is not None and reply.status == 200:
            self._has[place] = False
        return reply

    async def stream(self, endpoint: str, body: dict[str, Any]) -> Stream | Reply | None:
        """See `AsyncModel.stream`."""
        place = (endpoint, str(body.get("model")))
        if not self._has.get(place, True):
            return None
        try:
            response = await self._request("POST", endpoint, to_json(body), whole=False)
            kind = response.headers.get("content-type", "")
            if response.status == 200 and kind.startswith("text/event-stream"):
                self._has.setdefault(place, True)
                return Stream(kind, _pieces(response))
            reply = _reply(endpoint, response.status, await self._read(response))
        except _Broken as problem:
            return error_reply(endpoint, 502, str(problem))
        if response.status in _AWAY:
            raise _not_now(response, reply)
        if endpoint in (RESPONSES, MESSAGES) and _no_route(reply, place[1]):
            return None
        # A whole answer, though a stream was asked for: the caller makes a stream of it.
        return reply

    async def close(self) -> None:
        """Close the connections."""
        await self._outward.close()

    # What the server has.

    async def look(self) -> list[str]:
        """
        Ask the server which models it has, and which endpoints each of them (at most four are asked).

        Returns lines to print. Raises `NotNow` where it is not there.
        """
        try:
            response = await self._request("GET", "/v1/models", None, timeout=10.0)
            listed = _reply(EMBEDDINGS, response.status, await self._read(response))
        except _Broken as problem:
            # It may well answer requests: only those say whether it is away.
            return [f"{self.name} does not tell its models. {problem}"]
        if response.status in _AWAY:
            raise _not_now(response, listed)
        data = listed.body.get("data") if response.status == 200 else None
        names = [str(one["id"]) for one in data or () if isinstance(one, Mapping) and one.get("id")]
        if not names:
            hint = "" if self._base.endswith("/v1") else " Most servers want an address that ends in /v1."
            return [f"{self.name} is there, and lists no models ({response.status}).{hint}"]
        lines = []
        for name in names[:4]:
            has = [endpoint for endpoint in ENDPOINTS if await self._probe(endpoint, name)]
            by_chat = [one for one in (RESPONSES, MESSAGES) if one not in has and CHAT in has]
            words = ", ".join(has) or "none of the four endpoints"
            lines.append(
                f"{name}: {words}" + (f"; turned into chat: {', '.join(by_chat)}" if by_chat else "")
            )
        if len(names) > 4:
            lines.append(f"... and {len(names) - 4} more models")
        return lines

    async def models(self) -> list[str]:
        """The models that the server lists, asked of it now; none where it is not there."""
        try:
            response = await self._request("GET", "/v1/models", None, timeout=5.0)
            data = from_json(await self._read(response)).get("data")
            return [str(one["id"]) for one in data if isinstance(one, Mapping) and one.get("id")]
        except (NotNow, _Broken, ValueError, TypeError, AttributeError):
            return []

    async def _probe(self, endpoint: str, model: str) -> bool:
        """Whether an endpoint is there: a request that lacks its text is refused by one that is."""
        try:
            response = await self._request("POST", endpoint, to_json({"model": model}), timeout=10.0)
            there = not _no_route(_reply(endpoint, response.status, await self._read(response)), model)
        except (_Broken, NotNow):
            return False
        if not there and endpoint in (RESPONSES, MESSAGES):
            self._has[endpoint, model] = False
        return there

    # Sending.

    async def _post(self, endpoint: str, body: dict[str, Any]) -> Reply:
        content = to_json(body)
        reply = error_reply(endpoint, 502, "The upstream server was not asked")
        begun, cut = time.monotonic(), False
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(min(0.25 * 2.0 ** (attempt - 1), 10.0) * (0.5 + random.random()))
            try:
                response = await self._request("POST", endpoint, content)
                reply = _reply(endpoint, response.status, await self._read(response))
            except _Broken as problem:
                reply, cut = error_reply(endpoint, 502, str(problem)), problem.cut
                if problem.silent and attempt:
                    break
                continue
            cut = False
            if response.status in _AWAY and not _quota(reply):
                raise _not_now(response, reply)
            problem_of_answer = _lacks(endpoint, reply)
            if problem_of_answer is not None:
                reply = problem_of_answer
                if isinstance(reply, _OtherShape):
                    break
                continue
            if (reply.status < 500 and reply.status != 408) or reply.status in _FINAL:
                return reply
        if cut and self._heard < begun and not await self._is_there():
            self._cut = time.monotonic()
        # It may have come up since, for others first.
        if cut and self._cut > begun:
            raise NotNow(f"{self.name} takes connections, and cuts them", 503)
        return reply

    async def _is_there(self) -> bool:
        """Whether anything is answered: what forwards a port may take connections for a server that is not up yet."""
        try:
            (await self._request("GET", "/v1/models", None, timeout=5.0)).close()
        except _Broken as problem:
            return not problem.cut
        return True

    async def _request(
        self,
        method: str,
        endpoint: str,
        content: bytes | None,
        *,
        timeout: float | None = None,
        whole: bool = True,
    ) -> aiohttp.ClientResponse:
        headers = (
            self._headers if whole else {**self._headers, "Accept": "text/event-stream, application/json"}
        )
        silence = self._timeout if timeout is None else timeout
        try:
            response = await self._outward.request(
                method,
                self._base + endpoint.removeprefix("/v1"),
                headers,
                content,
                silence,
                whole=whole,
            )
            self._heard = time.monotonic()
            return response
        except AWAY as problem:
            raise NotNow(f"{self.name} does not answer: {words_of(problem)}", 503) from None
        except asyncio.TimeoutError:
            raise _Broken(f"The upstream server did not answer in {silence:g} s", silent=True) from None
        except (aiohttp.ClientError, ValueError) as problem:
            cut = isinstance(problem, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
            raise _Broken(f"The upstream server did not answer: {words_of(problem)}", cut=cut) from None
        except OSError as problem:
            # Such as no descriptor that is left for a socket.
            raise NotNow(f"{self.name} cannot be asked: {problem}", 503) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        deadline = time.monotonic() + self._timeout
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > _LONGEST or time.monotonic() > deadline:
                    raise _Broken(f"The answer is too long: {size:,} bytes after {self._timeout:g} s at most")
        except asyncio.TimeoutError:
            raise _Broken("The answer broke off: no more came in time", silent=True) from None
        except (aiohttp.ClientError, OSError) as problem:
            raise _Broken(f"The answer broke off: {words_of(problem)}") from None
        finally:
            # Goes back to the others where it was read to its end, and is closed where it was not.
            response.release() if response.content.at_eof() else response.close()
        return b"".join(pieces)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    finally:
        # Where it was left in the middle, closing tells the server to write no more.
        response.close()


def _not_now(response: aiohttp.ClientResponse, reply: Reply) -> NotNow:
    error = reply.body.get("error")
    said = error.get("message") if isinstance(error, Mapping) else None
    return NotNow(
        f"{response.status} {said or reply.body}",
        response.status,
        _seconds(response.headers.get("retry-after", "")),
    )


def _seconds(after: str) -> float | None:
    """The seconds of a `retry-after`; None where it says nothing that can be waited for."""
    try:
        seconds = float(after)
    except ValueError:
        return _seconds_until(after)
    return seconds if math.isfinite(seconds) else None


def _seconds_until(date: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _quota(reply: Reply) -> bool:
    """Whether a 429 says that the money is used up, which no waiting changes."""
    error = reply.body.get("error")
    return isinstance(error, Mapping) and "insufficient_quota" in (error.get("code"), error.get("type"))


def _no_route(reply: Reply, model: str) -> bool:
    """Whether an answer shows that an endpoint is not there, rather than the model."""
    if reply.status == 200:
        return False
    if isinstance(reply, _OtherShape):
        return True
    error = reply.body.get("error")
    said = " ".join(map(str, error.values())) if isinstance(error, Mapping) else str(reply.body)
    # A short name may stand in any text by chance, a quoted one does not.
    quoted = (
        rf"""['"`]{re.escape(model)}['"`]""" if len(model) < 3 else rf"(?<![\w.-]){re.escape(model)}(?![\w-])"
    )
    names_model = bool(re.search(quoted, said)) or "model" in said.lower()
    return reply.status in _NO_ROUTE and not names_model


def _lacks(endpoint: str, reply: Reply) -> Reply | None:
    """The error that a 200 is which holds no answer."""
    if reply.status != 200:
        return None
    held = reply.body.get(_HOLDS[endpoint])
    if isinstance(held, list) and (held or endpoint in (RESPONSES, MESSAGES)):
        first = held[0] if held else None
        if endpoint == CHAT and not (
            isinstance(first, Mapping) and isinstance(first.get("message"), Mapping)
        ):
            return error_reply(endpoint, 502, "The upstream server answered without a message")
        ends = {str(one.get("finish_reason")) for one in held if isinstance(one, Mapping)}
        ends |= {str(reply.body.get(name)) for name in ("status", "stop_reason") if endpoint != CHAT}
        if broken := ends & {"abort", "error", "failed", "cancelled"}:
            error = reply.body.get("error")
            said = f": {error.get('message')}" if isinstance(error, Mapping) else ""
            words = f"The upstream server broke off the answer ({', '.join(sorted(broken))}){said}"
            return error_reply(endpoint, 502, words)
        return None
    error = reply.body.get("error")
    if isinstance(error, Mapping):
        code = error.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        return error_reply(endpoint, status, str(error.get("message") or error))
    wrong = error_reply(
        endpoint, 502, f"The upstream server answered {str(reply.body)[:200]!r}, which is no answer"
    )
    if any(isinstance(reply.body.get(name), list) for name in _HOLDS.values()):
        return _OtherShape(wrong.status, wrong.body)
    return wrong


def _reply(endpoint: str, status: int, content: bytes) -> Reply:
    try:
        body = from_json(content)
    except ValueError:
        body = None
    if 300 <= status < 400:
        return error_reply(
            endpoint, 501, f"The upstream server answered with a redirect ({status}): give its address"
        )
    if 200 < status < 300:
        status = 200  # what counts is whether there is an answer
    if not isinstance(body, dict):
        said = content[:200].decode("utf-8", "replace")
        return error_reply(
            endpoint, status if status >= 400 else 502, f"The upstream server answered {said!r}"
        )
    if status >= 400 and not isinstance(body.get("error"), dict):
        return error_reply(
            endpoint, status, str(body.get("error") or body.get("detail") or body.get("message") or body)
        )
    return Reply(status, body)
