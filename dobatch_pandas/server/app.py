"""The service as an ASGI application: its routes, and what stands before all of them."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .control import control_routes
from .openapi import describe
from .operation import Handler, Operation, problem_response
from .plain import to_json
from .replies import ApiProblem
from .service import Service
from .shapes import ENDPOINTS

__all__ = ["Front", "build_app"]

_log = logging.getLogger("dobatch_pandas.server")


def build_app(
    service: Service, hosts: Iterable[str] = (), log: Callable[[str], None] | None = None
) -> ASGIApp:
    """
    The application with all its routes.

    Parameters
    ----------
    service : Service
    hosts : iterable of str
        Names, beside those of this machine's loopback, that a client may call it by; ``"*"`` for any.
    log : callable, optional
        Called with a line for each call.
    """

    def route(path: str, method: str, name: str, handler: Handler, signed: bool = False) -> Route:
        return Route(path, Operation(name, handler, service, signed), methods=[method])

    routes = [
        route("/v1/batches/files", "POST", "create_file", service.create_file),
        route("/v1/batches", "POST", "create_batch", service.create_batch),
        route("/v1/batches", "GET", "list_batches", service.list_batches),
        route("/v1/batches/{batch_id}", "GET", "get_batch", service.get_batch),
        route("/v1/batches/{batch_id}/cancel", "POST", "cancel_batch", service.cancel_batch),
        route("/v1/batches/{batch_id}/results", "GET", "get_results", service.get_results),
        route("/storage/inputs/{name}", "PUT", "upload", service.upload, signed=True),
        route("/storage/outputs/{name}", "GET", "download", service.download, signed=True),
        *(route(path, "POST", "infer", service.infer) for path in ENDPOINTS),
        route("/v1/models", "GET", "infer", service.models),
        route("/v1/models/{model:path}", "GET", "infer", service.model),
        *control_routes(service),
    ]

    async def openapi(request: Request) -> Response:
        """The description of everything that is served."""
        return Response(described, media_type="application/json")

    routes.append(Route("/openapi.json", openapi, methods=["GET"]))
    described = to_json(describe(routes, service.options))

    async def unexpected(request: Request, problem: Exception) -> Response:
        _log.error("%s %s", request.method, request.scope["path"], exc_info=problem)
        return problem_response(ApiProblem(500, "An unexpected error occurred"))

    async def unknown(request: Request, problem: Exception) -> Response:
        status = getattr(problem, "status_code", 404)
        path = request.scope["path"]
        headers = service.allowance(request)
        if status == 405:
            matching = [one for one in routes if one.path_regex.fullmatch(path)]
            # /v1/batches/files is also, and is not, a batch whose id is "files".
            exact = [one for one in matching if not one.param_convertors] or matching
            found = {name for one in exact for name in one.methods or ()}
            headers["allow"] = ", ".join(sorted(found))
        return problem_response(ApiProblem(status, f"Nothing here: {request.method} {path}", headers))

    handlers: Any = {Exception: unexpected, 404: unknown, 405: unknown}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Front(app, frozenset(host.lower() for host in hosts), log)


class Front:
    """Stands before everything: refuses names that are not this machine's, and writes the log."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], log: Callable[[str], None] | None) -> None:
        self._app, self._hosts, self._log = app, hosts, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun, status, size = time.monotonic(), 0, 0

        async def count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        try:
            if len(given) == 1 and self._known(given[0], scope):
                await self._app(scope, receive, count if self._log else send)
            else:
                # A page in a browser may have a name of its own that points here.
                words = f"Not known by the name {', '.join(given)!r}. Allow it with --allowed-host."
                await problem_response(ApiProblem(403, words, {"connection": "close"}))(scope, receive, count)
        finally:
            if self._log is not None:
                took = 1000 * (time.monotonic() - begun)
                # Without the query: it holds signatures.
                path = scope["path"].encode("unicode_escape").decode()
                self._log(f"{scope['method']} {path} {status or 'cut'} {size} bytes {took:.1f} ms")

    def _known(self, host: str, scope: Scope) -> bool:
        name = host.lower()
        if "*" in self._hosts:
            return True
        if name.startswith("["):
            name, bracket, port = name[1:].partition("]")
            port = port.removeprefix(":") if bracket else "x"
        else:
            name, _, port = name.partition(":")
        if port and not port.isdecimal():
            return False
        if name == "localhost" or name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # The address that the client came in by is this machine's, whatever it is.
        return address.is_loopback or str(address) == (scope.get("server") or ("",))[0]
