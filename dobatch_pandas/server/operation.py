"""What every call goes through before and after its handler."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .faults import Fault
from .storage import Refused
from .wire import error_json

if TYPE_CHECKING:
    from .app import Service

__all__ = ["TRANSPORT", "ApiProblem", "Download", "Handler", "Operation", "chunks", "json_response"]

TRANSPORT = "dobatch_transport"
FAULT = "dobatch_fault"
_HTML = "<html><head><title>{0} Error</title></head><body><center><h1>{0} Error</h1></center></body></html>"

Handler = Callable[[Request], Awaitable[Response]]


class ApiProblem(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


class Cut(Exception):
    """A fault asked for the connection to break in the middle of an upload."""


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


class Operation:
    """
    One operation: what every call of it goes through before and after its handler.

    That is, in this order: the fault that is due, the token, the rate limit, the handler, and the errors in
    the shape that its clients read (the API's, or an object store's).
    """

    def __init__(self, name: str, handler: Handler, service: Service, signed: bool = False) -> None:
        self.name, self._handler, self._service, self._signed = name, handler, service, signed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        service.calls.append(self.name)
        fault = scope[FAULT] = service.faults.take(self.name)
        delay = service.faults.api_latency + (fault.delay if fault else 0.0)
        if delay:
            await asyncio.sleep(delay)
        if fault is not None and fault.drop == "before":
            await _hang_up(scope, receive)
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request, fault)
        except (Cut, ClientDisconnect):
            if fault is not None and fault.expire:
                service.signer.revoke(request.query_params.get("signature", ""))
            await _hang_up(scope, receive)
            return
        if fault is not None and fault.drop == "after":
            await _hang_up(scope, receive)
            return
        if fault is not None and fault.cut is not None and self.name != "upload":
            if fault.expire:
                service.signer.revoke(request.query_params.get("signature", ""))
            await response(scope, receive, _cut_after(fault.cut, scope, send))
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request, fault: Fault | None) -> Response:
        headers: dict[str, str] = {}
        request_id = str(uuid.uuid4())
        try:
            if fault is not None and (fault.status is not None or (fault.expire and fault.cut is None)):
                return self._faulty(fault, request_id)
            if not self._signed:
                token = self._service.authorize(request)
                allowance = self._service.count(token) if self.name != "infer" else None
                if allowance is not None:
                    headers = allowance.headers()
                    if allowance.retry_after is not None:
                        raise ApiProblem(429, "API Rate limit exceeded.")
            response = await self._handler(request)
        except ApiProblem as problem:
            response = json_response(
                error_json(problem.status, problem.message, request_id),
                problem.status,
                problem.headers,
            )
        except Refused as refused:
            response = _storage_error(refused.status, refused.code, refused.message)
        response.headers.update(headers)
        response.headers["x-request-id"] = request_id
        return response

    def _faulty(self, fault: Fault, request_id: str) -> Response:
        status = fault.status or 403
        headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
        if fault.body is not None:
            return Response(fault.body, status, headers)
        if self._signed:
            return _storage_error(
                status, "AccessDenied" if status == 403 else "SlowDown", "Request has expired", headers
            )
        if status >= 500:
            return Response(_HTML.format(status), status, headers, media_type="text/html")
        return json_response(error_json(status, f"Made up by a fault: {status}", request_id), status, headers)


def _storage_error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
    return Response(body, status, headers, media_type="application/xml")


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Cut the connection as a network failure would, with no answer at all."""
    scope[TRANSPORT].abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _cut_after(count: int, scope: Scope, send: Send) -> Send:
    left = count
    gone = False

    async def cut(message: Message) -> None:
        nonlocal left, gone
        if gone:
            return
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        if len(body) < left:
            left -= len(body)
            await send(message)
            return
        gone = True
        await send({**message, "body": body[:left], "more_body": True})
        # Closing, unlike aborting, lets the bytes before the cut arrive.
        scope[TRANSPORT].close()

    return cut
