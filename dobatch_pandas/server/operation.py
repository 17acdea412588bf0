"""What every call goes through before and after its handler."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from .faults import Fault
from .replies import FAULT, ApiProblem, Cut, json_response
from .storage import Refused
from .wire import error_json

if TYPE_CHECKING:
    from .service import Service

__all__ = ["TRANSPORT", "Handler", "Operation", "problem_response"]

TRANSPORT = "dobatch_transport"
_HTML = "<html><head><title>{0} Error</title></head><body><center><h1>{0} Error</h1></center></body></html>"
_log = logging.getLogger("dobatch_pandas.server")

Handler = Callable[[Request], Awaitable[Response]]


class Operation:
    """
    One operation: what every call of it goes through before and after its handler.

    That is, in this order: the fault that is due, the token, the rate limit, the handler, and the errors in
    the shape that its clients read (the API's, or an object store's).
    """

    def __init__(self, name: str, handler: Handler, service: Service, signed: bool = False) -> None:
        self.name, self.handler, self._service, self.signed = name, handler, service, signed

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
            if not self.signed:
                headers = self._service.allowance(request)
            if fault is not None and (fault.status is not None or (fault.expire and fault.cut is None)):
                response = self._faulty(fault, request_id)
                headers = {} if fault.body is not None else headers
            else:
                if not self.signed:
                    token = self._service.authorize(request)
                    allowance = self._service.count(token) if self.name != "infer" else None
                    if allowance is not None:
                        headers = allowance.headers()
                        if allowance.retry_after is not None:
                            raise ApiProblem(429, "API Rate limit exceeded.")
                response = await self.handler(request)
        except ApiProblem as problem:
            response = problem_response(problem, request_id)
        except Refused as refused:
            response = _storage_error(refused.status, refused.code, refused.message, refused.headers)
        except (OSError, sqlite3.OperationalError) as trouble:
            # A full disk, no descriptors, a busy ledger: it passes, and nothing was done.
            _log.warning("%s cannot be done now: %s: %s", self.name, type(trouble).__name__, trouble)
            again = {"retry-after": "1"}
            if self.signed:
                response = _storage_error(503, "SlowDown", "Please reduce your request rate.", again)
            else:
                response = problem_response(
                    ApiProblem(503, f"Not possible now: {trouble}", again), request_id
                )
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        response.headers["x-request-id"] = request_id
        return response

    def _faulty(self, fault: Fault, request_id: str) -> Response:
        status = fault.status or 403
        headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
        if fault.body is not None:
            return Response(fault.body, status, headers)
        if self.signed:
            return _storage_error(
                status, "AccessDenied" if status == 403 else "SlowDown", "Request has expired", headers
            )
        if status >= 500:
            return Response(_HTML.format(status), status, headers, media_type="text/html")
        return problem_response(ApiProblem(status, f"Made up by a fault: {status}", headers), request_id)


def problem_response(problem: ApiProblem, request_id: str | None = None) -> Response:
    """An error of the API as its clients read it."""
    body = error_json(problem.status, problem.message, request_id or str(uuid.uuid4()))
    headers = dict(problem.headers)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(body, problem.status, headers)


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
