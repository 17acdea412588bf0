"""
A TCP proxy that breaks things: real sockets, real resets, and faults that strike when they are told to.

::

    with Proxy(server.url) as proxy:
        proxy.add(Fault("POST /v1/batches ", lose_answer=True))
        client = Client("token", proxy.url)

A fault waits for a request that begins with its text, and then holds for what is left of that connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Fault", "Proxy", "answer"]

_KEPT = 1 << 20


@dataclass(frozen=True)
class Fault:
    """
    What goes wrong.

    Parameters
    ----------
    request : str
        What the request begins with; empty for any.
    reset_up, reset_down : int, optional
        Reset the connection after so many bytes from, or to, the client.
    close_down : int, optional
        End the connection in good order after so many bytes to the client.
    lose_answer : bool
        Let the server act, and reset the connection when its answer comes.
    instead : bytes, optional
        Let the server act, and answer this.
    stall_down : int, optional
        Let no byte through to the client after so many.
    trickle : float, optional
        Seconds between single bytes of the answer's body.
    canned : bytes, optional
        Answer this; the server sees nothing of the request.
    swap : tuple of bytes, optional
        Replace the first by the second in what comes back, lengths unchanged or not.
    times, skip : int
        For how many requests, and after how many that pass unharmed.
    """

    request: str = ""
    reset_up: int | None = None
    reset_down: int | None = None
    close_down: int | None = None
    lose_answer: bool = False
    instead: bytes | None = None
    stall_down: int | None = None
    trickle: float | None = None
    canned: bytes | None = None
    swap: tuple[bytes, bytes] | None = None
    times: int = 1
    skip: int = 0


def answer(status: int, body: Any = "", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of an HTTP answer; a body that is not text or bytes becomes JSON."""
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    lines = {"Content-Length": str(len(content)), "Connection": "close", **(headers or {})}
    head = f"HTTP/1.1 {status} Canned\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return head.encode("latin-1") + b"\r\n" + content


@dataclass
class _Connection:
    up: bytearray = field(default_factory=bytearray)
    fault: Fault | None = None
    counted_up: int = 0
    counted_down: int = 0


class Proxy:
    """
    A door to ``target`` that faults can be added to.

    Parameters
    ----------
    target : str
        Base URL behind it.
    reset_share : float
        Share of connections that are reset, always the same ones: each by its number, at a place that
        depends on it (in the request, in the answer, or between them).
    """

    def __init__(self, target: str, reset_share: float = 0.0) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._share = reset_share
        self._faults: list[list[Any]] = []
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.connections: list[_Connection] = []
        self.resets = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[bytes]:
        """The first megabyte that each connection brought, request after request."""
        return [bytes(connection.up) for connection in self.connections]

    def add(self, *faults: Fault) -> None:
        self._faults += [[fault, fault.skip, fault.times] for fault in faults]

    def clear(self) -> None:
        self._faults = []

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for pump in self._pumps:
            pump.cancel()
        # The handlers, which close what their pumps leave.
        await asyncio.wait(
            asyncio.all_tasks() - {asyncio.current_task()} or [asyncio.create_task(self._stop.wait())]
        )

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(fault=self._share_of(len(self.connections)))
        self.connections.append(connection)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._reset(writer)
            return
        pumps = [
            asyncio.create_task(self._up(connection, reader, up_writer, writer)),
            asyncio.create_task(self._down(connection, up_reader, writer)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pumps.difference_update(pumps)
            writer.close()
            up_writer.close()

    async def _up(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(1 << 16):
            if len(connection.up) < _KEPT:
                connection.up += data
            connection.fault = connection.fault or self._due(data)
            fault = connection.fault
            if fault is not None and fault.canned is not None:
                # All of the request is read first: a close with bytes unread would be a reset.
                writer.write(fault.canned)
                await writer.drain()
                while await reader.read(1 << 16):
                    pass
                return
            if fault is not None and fault.reset_up is not None:
                connection.counted_up += len(data)
                if connection.counted_up >= fault.reset_up:
                    up_writer.write(data[: max(len(data) - (connection.counted_up - fault.reset_up), 0)])
                    self._reset(writer)
                    return
            up_writer.write(data)
            await up_writer.drain()

    async def _down(
        self, connection: _Connection, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await up_reader.read(1 << 16):
            fault = connection.fault or Fault()
            if fault.lose_answer:
                self._reset(writer)
                return
            if fault.instead is not None:
                writer.write(fault.instead)
                await writer.drain()
                return
            if fault.swap is not None:
                data = data.replace(*fault.swap)
            limits = (fault.reset_down, fault.close_down, fault.stall_down)
            end = next((limit for limit in limits if limit is not None), None)
            if end is not None and connection.counted_down + len(data) >= end:
                writer.write(data[: end - connection.counted_down])
                await writer.drain()
                if fault.stall_down is not None:
                    await self._stop.wait()
                if fault.reset_down is not None:
                    self._reset(writer)
                return
            if connection.fault is not None:
                connection.counted_down += len(data)
            head, blank, body = data.partition(b"\r\n\r\n")
            pieces = [data]
            if fault.trickle is not None:
                pieces = [head + blank, *(body[place : place + 1] for place in range(len(body)))]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if fault.trickle is not None:
                    await asyncio.sleep(fault.trickle)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.resets += 1
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    def _due(self, data: bytes) -> Fault | None:
        for entry in self._faults:
            fault, skip, times = entry
            if times and data.startswith(fault.request.encode()):
                if skip:
                    entry[1] -= 1
                    continue
                entry[2] -= 1
                return fault  # type: ignore[no-any-return]
        return None

    def _share_of(self, number: int) -> Fault | None:
        if int((number + 1) * self._share) == int(number * self._share):
            return None
        places = (Fault(reset_up=1), Fault(lose_answer=True), Fault(reset_up=700), Fault(reset_down=400))
        return places[int(number * self._share) % len(places)]
