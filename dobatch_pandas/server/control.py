"""
What a developer looks at and changes while the server runs, over HTTP, for clients in any language.

`/health`, `/openapi.json`, `/docs` and the page at `/` hold nothing of anybody's and need no token; all under
`/_dobatch/` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .clock import MOST_SECONDS, iso
from .operation import problem_response
from .replies import ApiProblem, json_object, json_response
from .wire import batch_json

if TYPE_CHECKING:
    from .service import Service

__all__ = ["control_routes"]

Answer = Callable[[Request], Awaitable[Any]]

_PAGES = Path(__file__).parent / "pages"
# A page runs only its own script, and no other page may frame it.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_LISTED = 100
# Settings of `Faults` that are numbers, and whether none will do.
_RATES = {"fail_share": (0.0, 1.0), "latency": (0.0, 3600.0), "api_latency": (0.0, 3600.0)}
_FAULT = {"times", "skip", "delay", "drop", "status", "body", "retry_after", "cut", "expire", "word"}
_SPOIL = {"missing", "doubled", "foreign", "torn", "times"}
_STAGES = ("validating", "in_progress", "finalizing")


def control_routes(service: Service) -> list[Route]:
    """The routes."""
    control = _Control(service)

    def page(name: str) -> Answer:
        async def answer(request: Request) -> Response:
            return HTMLResponse((_PAGES / name).read_bytes(), headers=_PAGE_HEADERS)

        return answer

    def guarded(answer: Answer) -> Answer:
        async def checked(request: Request) -> Response:
            try:
                service.authorize(request)
                return json_response(await answer(request))
            except ApiProblem as problem:
                return problem_response(problem)

        checked.__doc__ = answer.__doc__
        return checked

    routes: list[tuple[str, str, Answer]] = [
        ("/", "GET", page("status.html")),
        ("/docs", "GET", page("docs.html")),
        ("/health", "GET", control.health),
        ("/_dobatch/state", "GET", guarded(control.state)),
        ("/_dobatch/faults", "GET", guarded(control.faults)),
        ("/_dobatch/faults", "POST", guarded(control.add_fault)),
        ("/_dobatch/faults", "DELETE", guarded(control.clear_faults)),
        ("/_dobatch/clock", "GET", guarded(control.clock)),
        ("/_dobatch/clock", "POST", guarded(control.advance)),
        ("/_dobatch/hold", "POST", guarded(control.hold)),
        ("/_dobatch/release", "POST", guarded(control.release)),
        ("/_dobatch/reset", "POST", guarded(control.reset)),
    ]
    return [Route(path, answer, methods=[method]) for path, method, answer in routes]


class _Control:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, request: Request) -> Response:
        """Whether the server answers, and whether something keeps its batches waiting."""
        return json_response({"status": "waiting" if self._service.executor.troubles else "ok"})

    async def state(self, request: Request) -> Any:
        """Batches, files, faults, clock, and what is at the model."""
        service, executor = self._service, self._service.executor
        page = service.state.page(_LISTED, None, None)
        batches = [executor.live(batch) for batch in (page or ([], False))[0]]
        return {
            "model": executor.model.name,
            "wire": service.options.wire,
            "requests": {"now": executor.asking, "limit": executor.pace.limit, "most": executor.pace.most},
            "troubles": executor.troubles,
            "held": executor.held,
            "clock": self._now(),
            "faults": self._faults(),
            "batches": [batch_json(batch, "A") for batch in batches],
            "files": [asdict(file) for file in service.state.files(_LISTED)],
            "calls": list(service.calls)[-50:],
        }

    async def faults(self, request: Request) -> Any:
        """The faults that are to come, and the shares and latencies."""
        return self._faults()

    async def add_fault(self, request: Request) -> Any:
        """Add a fault (``operation`` and its settings), a ``spoil``, or set ``fail_share`` and latencies."""
        body = await json_object(request)
        faults = self._service.faults
        unknown = set(body) - {"operation", "spoil", *_RATES} - (_FAULT if "operation" in body else set())
        if unknown or not body:
            raise ApiProblem(422, f"No such setting: {', '.join(sorted(unknown)) or 'the body is empty'}")
        for name in _RATES.keys() & body.keys():
            least, most = _RATES[name]
            value = body[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ApiProblem(422, f"{name} must be a number from {least:g} to {most:g}")
        try:
            if "operation" in body:
                faults.add(**{name: value for name, value in body.items() if name not in ("spoil", *_RATES)})
            if "spoil" in body:
                if not isinstance(body["spoil"], dict) or set(body["spoil"]) - _SPOIL:
                    raise ValueError(f"spoil is an object of {', '.join(sorted(_SPOIL))}")
                faults.spoil(**body["spoil"])
        except (TypeError, ValueError) as problem:
            raise ApiProblem(422, str(problem)) from None
        for name in _RATES.keys() & body.keys():
            setattr(faults, name, float(body[name]))
        return self._faults()

    async def clear_faults(self, request: Request) -> Any:
        """Let everything go right again."""
        self._service.faults.clear()
        return self._faults()

    async def clock(self, request: Request) -> Any:
        """The server's time."""
        return self._now()

    async def advance(self, request: Request) -> Any:
        """Move the server's time on by ``advance`` seconds."""
        seconds = (await json_object(request)).get("advance")
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 <= seconds <= MOST_SECONDS
        ):
            raise ApiProblem(422, "advance must be a number of seconds from 0")
        self._service.clock.advance(float(seconds))
        self._service.executor.wake()
        self._service.purge()
        return self._now()

    async def hold(self, request: Request) -> Any:
        """Let batches go no further than ``stage``; in_progress, once ``after`` more requests were executed."""
        body = await json_object(request)
        stage, after = body.get("stage", "in_progress"), body.get("after", 0)
        if stage not in _STAGES:
            raise ApiProblem(422, f"stage must be one of {', '.join(_STAGES)}")
        if isinstance(after, bool) or not isinstance(after, (int, float)) or after < 0 or after != int(after):
            raise ApiProblem(422, "after must be a number from 0")
        self._service.executor.hold(stage, int(after))
        return {"held": self._service.executor.held}

    async def release(self, request: Request) -> Any:
        """Let held batches go on."""
        self._service.executor.release()
        return {"held": {}}

    async def reset(self, request: Request) -> Any:
        """Forget every batch, file, fault and call, and set the time back."""
        self._service.reset()
        return {"status": "ok"}

    def _now(self) -> dict[str, Any]:
        clock = self._service.clock
        return {"now": iso(clock.now()), "advanced": clock.offset}

    def _faults(self) -> dict[str, Any]:
        faults = self._service.faults
        calls, spoils = faults.pending()
        shown = {name: getattr(faults, name) for name in _RATES}
        return {**shown, "calls": [asdict(one) for one in calls], "spoils": [asdict(one) for one in spoils]}
