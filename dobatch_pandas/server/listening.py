"""A socket to listen on, and uvicorn on it in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dobatch_pandas.errors import ServerProblem

if TYPE_CHECKING:
    from .certificate import Certificate

__all__ = ["listen", "serve_app"]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 lets the system choose."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        cure = (
            "Choose another port."
            if problem.errno in (errno.EADDRINUSE, errno.EACCES)
            else "Choose another host."
        )
        raise ServerProblem(f"Cannot listen on {host}:{port}: {problem.strerror}. {cure}") from problem
    listener.listen(512)
    return listener


def serve_app(
    app: Any,
    listener: socket.socket,
    tls: Certificate | None = None,
    at_end: Callable[[], Awaitable[None]] | None = None,
) -> tuple[threading.Thread, Callable[[], None]]:
    """
    Answer calls in a thread; returns it, once calls are answered, and what ends it.

    ``at_end`` is awaited in its loop once no more calls are answered.
    """
    import uvicorn

    from .protocol import Protocol, watch

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=None if tls is None else str(tls.chain),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.over = asyncio.Event()
            self.loop = asyncio.get_running_loop()
            started.set()

        async def main_loop(self) -> None:
            # Waits for the end, where uvicorn's own looks for it ten times a second.
            while not await self.on_tick(0):
                watch(self.server_state.connections)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.over.wait(), 1.0)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # What is idle closes at once; uvicorn's own gives it a tenth of a second in any case.
            for connection in list(self.server_state.connections):
                connection.shutdown()
            await asyncio.sleep(0)
            if self.server_state.connections or self.server_state.tasks:
                await super().shutdown(sockets)
            if at_end is not None:
                await at_end()
            for accepting in (*self.servers, *(sockets or ())):
                accepting.close()

        def end(self) -> None:
            self.should_exit = True
            self.loop.call_soon_threadsafe(self.over.set)

    server = Server(config)

    def run() -> None:
        try:
            server.run([listener])
        finally:
            started.set()

    thread = threading.Thread(target=run, name="dobatch-server", daemon=True)
    thread.start()
    started.wait()
    if not server.started:
        raise ServerProblem("The embedded server did not start.")
    return thread, server.end
