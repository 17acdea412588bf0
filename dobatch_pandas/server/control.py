"""What a developer looks at and changes while the server runs, over HTTP, for clients in any language."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .replies import json_response

if TYPE_CHECKING:
    from .service import Service

__all__ = ["control_routes"]


def control_routes(service: Service) -> list[Route]:
    """The routes."""

    async def health(request: Request) -> Response:
        troubles = service.executor.troubles
        return json_response({"status": "waiting" if troubles else "ok"})

    Handler = Callable[[Request], Awaitable[Response]]
    routes: list[tuple[str, str, Handler]] = [("/health", "GET", health)]
    return [Route(path, handler, methods=[method]) for path, method, handler in routes]
