"""uvicorn's HTTP protocol, with bounds on what a connection may cost, and faults that can cut it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .operation import TRANSPORT

__all__ = ["Protocol", "watch"]

# Seconds for a request's head; seconds in which not one byte of a body moves, either way.
_HEAD = 15.0
_BODY = 60.0
# Bytes of a request's head.
_LONGEST_HEAD = 65_536
# Descriptors that are kept for files and for the model's connections.
_KEPT = 128


class Protocol(HttpToolsProtocol):
    """Puts the transport into the scope, and notes when something last moved."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn."""
        super().connection_made(transport)
        self.moved = time.monotonic()
        self.head, self.in_head, self.body_came = 0, True, False
        connections = cast("set[Protocol]", self.connections)
        if len(connections) > _most_connections():
            # The one that has waited longest for nothing makes room; where all are at work, the new one goes.
            idle = [one for one in connections if one.in_head]
            min(idle, key=lambda one: one.moved).transport.abort()

    def data_received(self, data: bytes) -> None:
        """See uvicorn."""
        if self.in_head:
            self.head += len(data)
            if self.head > _LONGEST_HEAD + len(data):
                self.transport.abort()
                return
        else:
            self.moved = time.monotonic()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """See uvicorn."""
        super().on_message_begin()
        self.moved = time.monotonic()
        cast("dict[str, Any]", self.scope)[TRANSPORT] = self.transport

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        self.in_head, self.body_came, self.head, self.moved = False, False, 0, time.monotonic()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See uvicorn."""
        super().on_message_complete()
        self.body_came = True
        self._maybe_next()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self._maybe_next()

    def _maybe_next(self) -> None:
        # Answered early, such as with 403, a client may still be sending: it will read that when it is through.
        if self.body_came and (self.cycle is None or self.cycle.response_complete):
            self.in_head, self.head, self.moved = True, 0, time.monotonic()

    def resume_writing(self) -> None:
        """See uvicorn."""
        self.moved = time.monotonic()
        super().resume_writing()

    def is_stuck(self, now: float) -> bool:
        """Whether the client keeps it open without doing its part."""
        if self.in_head:
            return now - self.moved > _HEAD
        waits_for_client = self.flow.write_paused or not self.body_came
        return bool(waits_for_client) and now - self.moved > _BODY


def watch(connections: Iterable[Any]) -> None:
    """Close connections whose clients neither send nor read."""
    now = time.monotonic()
    for one in list(connections):
        if isinstance(one, Protocol) and one.is_stuck(now):
            one.transport.abort()


def _most_connections() -> int:
    soft = 1024
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Where there are few, half of them are for connections.
    return max(8, soft // 2 if soft < 2 * _KEPT else min(soft - _KEPT, 10_000))
