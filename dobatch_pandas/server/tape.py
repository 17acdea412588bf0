"""
A real service recorded, and played again without it.

Recording is a proxy: calls go to the service as they come, bytes on signed addresses included. What is kept is
enough to answer the same calls again, and no secret: no token, no signature, and of requests only a hash. Prompts are
not kept, answers are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from dobatch_pandas.errors import ServerProblem

from .address import is_address, shown
from .listening import listen, serve_app
from .outward import Outward
from .plain import from_json, to_json

if TYPE_CHECKING:
    import socket

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from .certificate import Certificate

__all__ = ["TapeServer"]

_HERE = "{server}"
_SIGNED = re.compile(r"signature=|x-amz-credential=|sig=", re.IGNORECASE)
_LINKS = re.compile(r"(_url|_location)$")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
# Headers of requests that concern this connection only, or would make the answer another one.
_OWN = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "range", "if-range"}
_KEPT = ("content-type", "retry-after", "etag")
_LARGEST = 300_000_000
# Seconds without a byte from the service.
_PATIENCE = 600.0


class TapeServer:
    """
    Records a service into a folder, or plays what is there.

    Parameters
    ----------
    folder : path-like
        Where the recording lies: `calls.jsonl`, and a file for each download.
    service : str, optional
        Base URL of the service to record; None plays.
    token : str, optional
        The only one that playing accepts; by default one is drawn. While recording, the service decides.
    host, port, allowed_hosts, tls, log
        As for `LocalServer`.
    """

    def __init__(
        self,
        folder: str | Path,
        service: str | None = None,
        *,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        allowed_hosts: Sequence[str] = (),
        tls: Certificate | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self.token = token or secrets.token_urlsafe(24)
        self.tls, self.host = tls, host
        self._address, self._hosts, self._log = (host, port), tuple(allowed_hosts), log
        self._tape: _Recorder | _Player
        if service is None:
            self._tape = _Player(self.folder, self.token)
        else:
            self._tape = _Recorder(self.folder, service.rstrip("/"))
        self._thread: threading.Thread | None = None
        self._end: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        host, port = self._address
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def start(self) -> TapeServer:
        """Listen; returns once calls are answered."""
        from .app import Front

        listener: socket.socket = listen(*self._address)
        self._address = (self._address[0], listener.getsockname()[1])
        front = Front(
            self._tape, frozenset([self.host.lower(), *(name.lower() for name in self._hosts)]), self._log
        )
        self._thread, self._end = serve_app(front, listener, self.tls, self._tape.close)
        return self

    def stop(self) -> None:
        """Close everything; the recording is complete at every moment."""
        if self._thread is not None:
            self._end()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> TapeServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Tape(ABC):
    """What recording and playing share: reading a call, and answering it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import ClientDisconnect, Request

        from .operation import problem_response
        from .replies import ApiProblem, read

        request = Request(scope, receive)
        try:
            response = await self.answer(request, await read(request, _LARGEST))
        except ApiProblem as problem:
            response = problem_response(problem)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, request: Request, body: bytes) -> Response:
        """What a call is answered."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what is held."""


def _key(method: str, path: str, body: bytes) -> str:
    """What tells apart calls of the same path: the file of a batch, else the bytes that are sent."""
    if method in ("GET", "DELETE") or path == "/v1/batches/files":
        return ""
    if path == "/v1/batches":
        try:
            return str(from_json(body)["file_id"])
        except (ValueError, KeyError, TypeError):
            return ""
    return hashlib.sha256(body).hexdigest()


class _Recorder(_Tape):
    """Passes calls on, and writes down what came back."""

    def __init__(self, folder: Path, service: str) -> None:
        if not is_address(service):
            raise ServerProblem(f"{shown(service)!r} is no address of a service, such as https://host")
        if (folder / "calls.jsonl").exists():
            raise ServerProblem(f"{folder} holds a recording already: choose another folder, or play it.")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise ServerProblem(f"{folder} cannot hold a recording: {problem.strerror}.") from problem
        self._folder, self._service = folder, service
        self._outward = Outward()
        self._links: list[str] = []
        self._numbers: dict[str, int] = {}
        self._count = 0

    async def close(self) -> None:
        """See `_Tape.close`."""
        await self._outward.close()

    async def answer(self, request: Request, body: bytes) -> Response:
        """See `_Tape.answer`."""
        from starlette.responses import Response, StreamingResponse

        from .replies import ApiProblem

        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        signed = path.startswith("/_tape/")
        headers = {name: value for name, value in request.headers.items() if name not in _OWN}
        # What is kept is read by people, and links are looked for in it.
        headers["accept-encoding"] = "identity"
        if signed:
            headers.pop("authorization", None)
            url = self._link(path)
        else:
            url = f"{self._service}{request.scope['raw_path'].decode('latin-1')}" + (
                f"?{query}" if query else ""
            )
        try:
            given = await self._outward.request(request.method, url, headers, body, _PATIENCE, whole=False)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as problem:
            raise ApiProblem(502, f"The service did not answer: {type(problem).__name__}") from None
        kept = {name: given.headers[name] for name in _KEPT if name in given.headers}
        call: dict[str, Any] = {"at": time.time(), "method": request.method, "path": path, "query": query}
        call |= {"key": _key(request.method, path, body), "status": given.status, "headers": kept}
        token = request.headers.get("authorization", "").rpartition(" ")[2] or request.headers.get(
            "x-api-key", ""
        )
        if signed or given.content_type == "text/event-stream":
            length = None if "content-encoding" in given.headers else given.content_length
            sent = kept if length is None else {**kept, "content-length": str(length)}
            return StreamingResponse(self._passed(given, call, signed, token, length), given.status, sent)
        try:
            content = await given.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as problem:
            raise ApiProblem(502, f"The service's answer broke off: {type(problem).__name__}") from None
        call["text"] = self._hide(content, token)
        self._write(call)
        shown = call["text"].replace(_HERE, str(request.base_url).rstrip("/"))
        return Response(shown.encode("utf-8", "surrogatepass"), given.status, kept)

    async def _passed(
        self,
        given: aiohttp.ClientResponse,
        call: dict[str, Any],
        signed: bool,
        token: str,
        length: int | None,
    ) -> AsyncIterator[bytes]:
        """Bytes as they come; they are kept once all have come, and before the client has the last."""
        pieces: list[bytes] = []
        name = self._next_file() if signed else ""
        size, whole = 0, False

        def keep() -> None:
            nonlocal whole
            whole = True
            if signed and size:
                call["file"] = name
            elif not signed:
                call["text"] = _masked(b"".join(pieces).decode("utf-8", "replace"), token)
            self._write(call)

        try:
            async for piece in given.content.iter_any():
                size += len(piece)
                if signed:
                    _append(self._folder / name, piece)
                else:
                    pieces.append(piece)
                if size == length:
                    keep()
                yield piece
            if not whole:
                keep()
        except (aiohttp.ClientError, asyncio.TimeoutError) as problem:
            # Nothing else tells the client that this is not all.
            raise ConnectionError("The service broke the answer off") from problem
        finally:
            given.close()
            if not whole:
                (self._folder / name).unlink(missing_ok=True) if name else None

    def _link(self, path: str) -> str:
        from .replies import ApiProblem

        number = path.removeprefix("/_tape/")
        if not number.isdecimal() or int(number) >= len(self._links):
            raise ApiProblem(404, "This address was not given out")
        return self._links[int(number)]

    def _hide(self, content: bytes, token: str) -> str:
        """The text of an answer with addresses of our own for signed ones, and without the token."""
        try:
            text = to_json(self._own_links(from_json(content))).decode()
        except (ValueError, TypeError):
            text = content.decode("utf-8", "replace")
        return _masked(text, token)

    def _own_links(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._own_links(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self._own_links(one, name) for one in value]
        is_link = isinstance(value, str) and value.startswith(("http://", "https://"))
        if is_link and (_LINKS.search(name) or _SIGNED.search(value)):
            return f"{_HERE}/_tape/{self._number(value)}"
        return value

    def _number(self, link: str) -> int:
        if link not in self._numbers:
            self._numbers[link] = len(self._links)
            self._links.append(link)
        return self._numbers[link]

    def _next_file(self) -> str:
        self._count += 1
        return f"{self._count:05d}.bin"

    def _write(self, call: dict[str, Any]) -> None:
        _append(self._folder / "calls.jsonl", to_json(call, newline=True))


def _masked(text: str, token: str) -> str:
    return text.replace(token, "***") if len(token) > 3 else text


def _append(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "wb") as file:
        file.write(content)


class _Player(_Tape):
    """
    Answers as the service did: calls of one path in their order, the last answer as often as it is asked for.

    Times are moved to now; files are known by their content, in whatever order they are uploaded.
    """

    def __init__(self, folder: Path, token: str) -> None:
        try:
            lines = (folder / "calls.jsonl").read_bytes().split(b"\n")
            calls = [json.loads(line) for line in lines if line]
        except (OSError, ValueError) as problem:
            raise ServerProblem(f"{folder} holds no recording that can be played: {problem}.") from problem
        self._folder, self._token = folder, token
        self._answers: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
        self._turns: dict[tuple[str, str, str, str], int] = defaultdict(int)
        # Which file an address uploads to, and the address whose recording had these bytes.
        self._file_of: dict[str, str] = {}
        self._place_of: dict[str, str] = {}
        self._swapped: dict[str, str] = {}
        self._request_ids: dict[str, str] = {}
        self._moved = timedelta(seconds=time.time() - calls[0]["at"]) if calls else timedelta()
        for call in calls:
            self._answers[call["method"], call["path"], call["query"], call["key"]].append(call)
            if (call["method"], call["path"]) == ("POST", "/v1/batches/files") and call["status"] == 201:
                made = json.loads(call["text"])
                self._file_of[str(made.get("upload_url")).removeprefix(_HERE)] = made.get("file_id")
            if call["method"] == "PUT":
                self._place_of.setdefault(call["key"], call["path"])

    async def close(self) -> None:
        """See `_Tape.close`: nothing is."""

    async def answer(self, request: Request, body: bytes) -> Response:
        """See `_Tape.answer`."""
        from starlette.responses import Response

        from .replies import ApiProblem, Download

        method, path = request.method, request.scope["path"]
        query, key = request.scope["query_string"].decode("latin-1"), _key(method, path, body)
        signed = path.startswith("/_tape/")
        if not signed:
            given = request.headers.get("authorization", "").rpartition(" ")[2] or request.headers.get(
                "x-api-key", ""
            )
            if not secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
                raise ApiProblem(401, "Unable to authenticate you")
        if method == "PUT" and key in self._place_of:
            place = self._place_of[key]
            if place != path and path in self._file_of:
                self._swapped[self._file_of[path]] = self._file_of[place]
            path = place
        if (method, path) == ("POST", "/v1/batches"):
            key = self._swapped.get(key, key)
        found = self._answers.get((method, path, query, key))
        if not found:
            raise ApiProblem(404, f"The recording holds no such call: {method} {path}, with this body")
        turn = self._turns[method, path, query, key]
        self._turns[method, path, query, key] += 1
        call = found[min(turn, len(found) - 1)]
        if (method, path) == ("POST", "/v1/batches") and call["status"] == 201:
            self._request_ids[str(json.loads(call["text"]).get("request_id"))] = str(
                from_json(body).get("request_id")
            )
        if "file" in call:
            return Download(self._folder / call["file"], call["status"], call["headers"])
        text = str(call.get("text", "")).replace(_HERE, str(request.base_url).rstrip("/"))
        for theirs, ours in list(self._request_ids.items()):
            text = text.replace(f'"{theirs}"', json.dumps(ours))
        text = _MOMENT.sub(self._later, text) if path.startswith("/v1/batches") else text
        return Response(text.encode("utf-8", "replace"), call["status"], call["headers"])

    def _later(self, found: re.Match[str]) -> str:
        seconds, _, fraction = found.group()[:-1].partition(".")
        moment = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc) + self._moved
        return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}Z" if fraction else "Z")
