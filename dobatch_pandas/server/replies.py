"""What handlers read and answer: bounded bodies in, JSON, errors and files out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from .faults import Fault
from .plain import to_json

__all__ = [
    "FAULT",
    "ApiProblem",
    "Cut",
    "Download",
    "Room",
    "chunks",
    "json_object",
    "json_response",
    "read",
]

FAULT = "dobatch_fault"


class ApiProblem(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Cut(Exception):
    """A fault asked for the connection to break in the middle of an upload."""


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(to_json(content), status, headers, media_type="application/json")


class Room:
    """
    The memory that all calls together may take for their bodies.

    Parameters
    ----------
    most : int
        Bytes.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """What one call takes of it, by a function called with more and more bytes; given back at its end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                again = {"retry-after": "1", "connection": "close"}
                raise ApiProblem(503, "Too many large bodies are held at this moment", again)
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


async def read(request: Request, most: int, take: Callable[[int], None] = lambda size: None) -> bytes:
    """A body of at most so many bytes; one that is larger is refused before it is held."""
    # The rest is not read: without the connection's end the client would go on sending it.
    too_large = ApiProblem(413, f"The body is larger than {most:,} bytes", {"connection": "close"})
    if int(request.headers.get("content-length") or 0) > most:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        take(len(chunk))
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)


async def json_object(request: Request, most: int = 1_000_000) -> dict[str, Any]:
    """A body that is a JSON object; 400 where it is not."""
    content = await read(request, most)
    try:
        body = orjson.loads(content)
    except ValueError as problem:
        raise ApiProblem(400, f"The body is not valid JSON: {problem}") from None
    if not isinstance(body, dict):
        raise ApiProblem(400, "The body must be a JSON object")
    return body


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes in; a fault may break it off."""
    fault: Fault | None = request.scope.get(FAULT)
    left = fault.cut if fault is not None else None
    async for chunk in request.stream():
        if left is not None:
            left -= len(chunk)
            if left <= 0:
                raise Cut
        yield chunk


class Download(FileResponse):
    """A file in larger pieces than Starlette's."""

    chunk_size = 1024 * 1024
