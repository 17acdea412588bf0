"""A model behind an OpenAI-compatible HTTP server: vLLM, llama.cpp, Ollama and the like."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING, Any

from .convert import answer_by_chat
from .shapes import MESSAGES, RESPONSES, Reply, error_reply

if TYPE_CHECKING:
    import httpx

__all__ = ["UpstreamModel"]


class UpstreamModel:
    """
    Passes requests on, so many at a time.

    Chat and embeddings go as they are; messages become chat; responses go as they are until the server says
    that it does not know them, and become chat from then on.

    Parameters
    ----------
    base_url : str
        Such as ``"http://localhost:8000/v1"``.
    api_key : str, optional
        Default: the environment's ``DOBATCH_UPSTREAM_KEY``.
    concurrency : int
        Requests at once.
    attempts : int
        How often a request is sent at most, where the answer is 429 or 5xx or does not come.
    timeout : float
        Seconds to wait for an answer.
    """

    chunk = 1

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        concurrency: int = 8,
        attempts: int = 5,
        timeout: float = 600.0,
    ) -> None:
        import httpx

        self.name = base_url
        self.concurrency = concurrency
        self._base, self._attempts = base_url.rstrip("/"), attempts
        key = api_key or os.environ.get("DOBATCH_UPSTREAM_KEY")
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client: httpx.Client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=limits,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._knows_responses = True
        self._closed = threading.Event()

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        if endpoint == MESSAGES:
            return answer_by_chat(endpoint, body, self._chat)
        if endpoint == RESPONSES:
            if self._knows_responses:
                reply = self._post("/responses", endpoint, body)
                if reply.status not in (404, 405, 501):
                    return reply
                self._knows_responses = False
            return answer_by_chat(endpoint, body, self._chat)
        return self._post(endpoint.removeprefix("/v1"), endpoint, body)

    def close(self) -> None:
        """Close the connections, and end waiting for another attempt."""
        self._closed.set()
        self._client.close()

    def _chat(self, body: dict[str, Any]) -> Reply:
        return self._post("/chat/completions", "/v1/chat/completions", body)

    def _post(self, path: str, endpoint: str, body: dict[str, Any]) -> Reply:
        import httpx

        reply = error_reply(endpoint, 502, "The upstream server was not asked")
        for attempt in range(self._attempts):
            retry_after: str | None = None
            try:
                response = self._client.post(self._base + path, json=body)
            except httpx.HTTPError as problem:
                reply = error_reply(
                    endpoint, 502, f"The upstream server did not answer: {type(problem).__name__}"
                )
            else:
                reply = _reply(endpoint, response)
                retry_after = response.headers.get("retry-after")
                if response.status_code != 429 and response.status_code < 500:
                    return reply
            if attempt + 1 < self._attempts and self._closed.wait(_pause(attempt, retry_after)):
                break
        return reply


def _pause(attempt: int, retry_after: str | None) -> float:
    try:
        return min(float(retry_after or ""), 60.0)
    except ValueError:
        # Jitter keeps many waiting threads from coming back all at once.
        return min(0.25 * 2.0**attempt, 10.0) * (0.5 + random.random())


def _reply(endpoint: str, response: httpx.Response) -> Reply:
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        said = response.text[:200]
        return error_reply(
            endpoint, status if status >= 400 else 502, f"The upstream server answered {said!r}"
        )
    if status >= 400 and not isinstance(body.get("error"), dict):
        return error_reply(endpoint, status, str(body.get("error") or body.get("detail") or body))
    return Reply(status, body)
