"""
Bytes to and from presigned addresses: streamed, resumable, and never with the token.

A presigned address is a secret, and its host, path and query are all signed. So it is used exactly as the
service returned it, and never reaches a log line or a message: urllib3 is handed ``/`` and the connection
puts the real target on the network. Every transfer has a connection of its own, which knows no session, no
``.netrc`` and no redirect.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
import urllib3.connection
import urllib3.exceptions
from urllib3.response import HTTPResponse
from urllib3.util import Retry, make_headers, parse_url
from urllib3.util.ssl_ import create_urllib3_context

from dobatch_pandas.errors import (
    ConfigurationError,
    ConnectionFailed,
    LinkRefused,
    ObjectGone,
    TransferError,
    Truncated,
)

from .network import (
    DEFAULT,
    RETRY_STATUSES,
    Network,
    environment_proxy,
    is_address,
    next_try,
    no_address,
    refuse_plain_http,
    retry_policy,
    scrub,
    why,
)

__all__ = ["OnBytes", "download", "upload"]

OnBytes = Callable[[int, int], object]
T = TypeVar("T")

_PIECE = 1 << 18  # bytes; a slow line still moves the bar every few seconds
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


def upload(
    url: str,
    path: str | os.PathLike[str],
    *,
    content_type: str = "application/octet-stream",
    on_progress: OnBytes | None = None,
    network: Network = DEFAULT,
) -> None:
    """
    Put a file at a presigned address, in one try.

    Parameters
    ----------
    url : str
        Presigned address, used verbatim.
    path : path
        File to send. Read in pieces; it may be larger than memory.
    content_type : str
        Must be what was signed, where one was.
    on_progress : callable, optional
        Called as ``on_progress(sent, total)``, both in bytes.
    network : Network
        Timeouts, and whether plain http is allowed.

    Raises
    ------
    LinkRefused
        The address is too old, or the request is not what was signed. Ask for another and call again.
    ConnectionFailed
        The connection broke, or storage is in trouble. The call may be repeated.
    TransferError
        Storage refused for another reason, or the file changed while it was sent.
    """
    with open(path, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        # An announced length, always: storage answers 411 to a chunked body.
        headers = {"Content-Type": content_type, "Content-Length": str(total)}
        exchange = _Exchange(url, network)
        try:
            exchange.send("PUT", headers, _pieces(file, total, on_progress))
        finally:
            exchange.close()


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    on_progress: OnBytes | None = None,
    refresh: Callable[[], str] | None = None,
    retry: Retry | None = None,
    pause: Callable[[float], object] = time.sleep,
    network: Network = DEFAULT,
) -> None:
    """
    Bring what lies at a presigned address to a file, which appears whole or not at all.

    Bytes gather in ``path`` + ``.partial``. A broken download goes on from the byte it reached, in a later
    process too, as long as storage still has the same version; else it starts again.

    Parameters
    ----------
    url : str
        Presigned address, used verbatim.
    path : path
        File to write; replaced if it exists.
    on_progress : callable, optional
        Called as ``on_progress(received, total)``, both in bytes; total is 0 where storage does not say.
    refresh : callable, optional
        Returns a new address of the same object, when this one has expired.
    retry : urllib3.util.Retry, optional
        How often, and how fast, to try again without getting any further.
    pause : callable
        Waits for so many seconds.
    network : Network
        Timeouts, and whether plain http is allowed.

    Raises
    ------
    LinkRefused
        The address is too old and there is no ``refresh``, or the new one is refused as well.
    Truncated
        The bytes kept ending before the length that was announced.
    ConnectionFailed
        No answer, or storage is in trouble, after all tries.
    TransferError
        Storage refused for another reason: the object is gone, say.
    """
    partial = _Partial(Path(path))
    patience = fresh = retry or retry_policy(5)
    reached, refreshed = partial.size, False
    while True:
        failure: LinkRefused | ConnectionFailed | Truncated
        try:
            _receive_rest(url, partial, on_progress, network)
            break
        except (LinkRefused, ConnectionFailed, Truncated) as error:
            failure = error
        # Patience is renewed by bytes never reached before, so that a loop cannot live on the same ones.
        if partial.size > reached:
            reached, refreshed, patience = partial.size, False, fresh
        if isinstance(failure, LinkRefused):
            if refresh is None or refreshed:
                raise failure
            url, refreshed = refresh(), True
            continue
        patience = next_try(patience, failure)
        pause(patience.get_backoff_time())
    partial.publish()


def _receive_rest(url: str, partial: _Partial, on_progress: OnBytes | None, network: Network) -> None:
    """Receive what is missing of a file, or all of it where there is no safe way to go on."""
    version, have = partial.version, partial.size
    headers = {"Accept-Encoding": "identity"}
    if version and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    exchange = _Exchange(url, network)
    try:
        response = exchange.send("GET", headers)
        given = response.headers
        place = _RANGE.fullmatch(given.get("Content-Range", ""))
        if response.status in (206, 416):
            resumed = "Range" in headers and place is not None and int(place[1]) == have
            if response.status == 416 or not resumed or given.get("ETag", version) != version:
                partial.discard()
                raise Truncated(f"{exchange.host} cannot go on from the byte reached.")
        else:
            packed = given.get("Content-Encoding", "identity").lower() in ("gzip", "x-gzip")
            # Bytes that were unpacked on the way are never gone on from: their place in the answer is not known.
            partial.begin("" if packed else given.get("ETag", ""))
            have = 0
            if packed:
                return _receive_packed(exchange, response, partial, on_progress)
        length = given.get("Content-Length", "")
        total = have + int(length) if length.isascii() and length.isdigit() else 0
        if given.get("Content-Encoding", "identity") != "identity":
            raise TransferError(f"{exchange.host} sent a compressed file, which was not asked for.")
        # Chunks tell their end; what ends with its connection could have been cut anywhere.
        if not length and "chunked" not in given.get("Transfer-Encoding", "").lower():
            raise Truncated(
                f"{exchange.host} does not say how long the file is: a cut one would pass for whole."
            )
        if place is not None and response.status == 206 and total not in (0, int(place[3])):
            partial.discard()
            raise Truncated(f"{exchange.host} announces {place[3]} bytes, and sends {total}.")
        size = partial.append(exchange.pieces(response), have, total, on_progress)
        if total and size != total:
            raise Truncated(f"{size:,} bytes arrived from {exchange.host}, of {total:,}.")
    finally:
        exchange.close()


def _receive_packed(
    exchange: _Exchange, response: HTTPResponse, partial: _Partial, on_progress: OnBytes | None
) -> None:
    """Receive a file that storage packs by gzip on the way, though nobody asked it to."""
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def unpacked() -> Iterator[bytes]:
        nonlocal unpacker
        for piece in exchange.pieces(response):
            while piece:
                yield unpacker.decompress(piece)
                piece = unpacker.unused_data
                if unpacker.eof and piece:
                    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)

    try:
        partial.append(unpacked(), 0, 0, on_progress)
        whole = unpacker.eof
    except zlib.error:
        whole = False
    if not whole:
        partial.discard()
        raise Truncated(f"The packed bytes from {exchange.host} are not whole.")


class _Partial:
    """The bytes of a file that is not whole yet, and the version (a strong ETag) that they belong to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.with_name(path.name + ".partial")
        self._tag = path.with_name(path.name + ".partial.etag")

    @property
    def size(self) -> int:
        return self._bytes.stat().st_size if self._bytes.exists() else 0

    @property
    def version(self) -> str | None:
        return self._tag.read_text(encoding="ascii") if self._tag.exists() else None

    def begin(self, etag: str) -> None:
        self.discard()
        # A weak tag may stay the same while bytes change: no way to go on from such a one.
        if _STRONG_ETAG.fullmatch(etag):
            self._tag.write_text(etag, encoding="ascii")

    def append(self, pieces: Iterator[bytes], start: int, total: int, on_progress: OnBytes | None) -> int:
        size = start
        with open(self._bytes, "ab") as file:
            if on_progress is not None:
                on_progress(size, total)
            for piece in pieces:
                size += file.write(piece)
                if on_progress is not None:
                    on_progress(size, total)
            file.flush()
            os.fsync(file.fileno())
        return size

    def discard(self) -> None:
        # The version first: bytes without one are never gone on from.
        self._tag.unlink(missing_ok=True)
        self._bytes.unlink(missing_ok=True)

    def publish(self) -> None:
        os.replace(self._bytes, self._path)
        self._tag.unlink(missing_ok=True)


class _Secretive:
    """Keeps the target of a request from urllib3, which shows it in log lines and messages."""

    target = "/"

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().putrequest(method, self.target, *args, **kwargs)  # type: ignore[misc]


class _Http(_Secretive, urllib3.connection.HTTPConnection):
    pass


class _Https(_Secretive, urllib3.connection.HTTPSConnection):
    pass


class _Exchange:
    """
    One request to storage and its answer.

    Whatever breaks is one of our errors and has no other in its chain: the messages of libraries, and so a
    traceback, may hold the address.
    """

    def __init__(self, url: str, network: Network) -> None:
        if not is_address(url):
            raise LinkRefused(
                f"The service gave no address that bytes can move to or from: {no_address(url)}"
            )
        refuse_plain_http(url, network.allow_http)
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._parts, self._network = parts, network
        self._connection, self._headers = self._prepare(environment_proxy(url))

    def send(self, method: str, headers: dict[str, str], body: Iterator[bytes] | None = None) -> HTTPResponse:
        """Return the answer, where it is a good one."""

        def exchange() -> HTTPResponse:
            self._connection.connect()
            self._connection.timeout = self._network.timeout
            # Storage that refuses does not wait for the body; its answer may be here all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(
                    method,
                    "/",
                    body,
                    {**self._headers, **headers},
                    preload_content=False,
                    decode_content=False,
                )
            return self._connection.getresponse()

        response = self._guarded(exchange)
        if response.status not in (200, 201, 204, 206, 416):
            self._refuse(response)
        return response

    def pieces(self, response: HTTPResponse) -> Iterator[bytes]:
        """Yield the bytes of the answer's body."""
        # read1 hands over what has arrived; read would lose up to a piece of it when the connection breaks.
        while piece := self._guarded(lambda: response.read1(_PIECE)):
            yield piece

    def close(self) -> None:
        self._connection.close()

    def _guarded(self, call: Callable[[], T]) -> T:
        failure: Exception
        try:
            return call()
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            cut = any(isinstance(thing, http.client.IncompleteRead) for thing in (error, *error.args))
            if cut:
                failure = Truncated(f"The bytes from {self.host} ended before the length that was announced.")
            else:
                reason = why(error, self._network.timeout)
                failure = ConnectionFailed(f"No answer from storage at {self.host}: {reason}.")
        raise failure

    def _refuse(self, response: HTTPResponse) -> None:
        status = response.status
        try:
            body = response.read(1 << 16)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
            body = b""
        text = body.decode("utf-8", "replace")
        # S3 explains a wrong signature by quoting all of the request: only these two fields are for people.
        fields = re.findall(r"<(?:Code|Message)>([^<]*)<", text)
        values = [value for _, value in parse_qsl(self._parts.query) if len(value) > 7]
        reason = (
            scrub(": ".join(fields) or text, self._parts.query, *values)
            or response.reason
            or "no reason given"
        )
        message = f"Storage at {self.host} answered {status}: {reason}"
        if status in (401, 403) or (status == 400 and "expired" in reason.lower()):
            raise LinkRefused(message)
        if status in (404, 410):
            raise ObjectGone(message)
        if status in RETRY_STATUSES:
            raise ConnectionFailed(message)
        raise TransferError(message)

    def _prepare(self, proxy: str | None) -> tuple[_Http | _Https, dict[str, str]]:
        parts, secure = self._parts, self._parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        # Signed as written; http.client would leave a standard port out.
        headers = {"Host": parts.netloc.rpartition("@")[2]}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        through = parse_url(proxy) if proxy else None
        if through is not None and (through.scheme != "http" or not through.host):
            raise ConfigurationError("A proxy for storage must be http://; see HTTPS_PROXY and NO_PROXY.")
        host, dial = self.host, port
        if through is not None and through.host:
            host, dial = through.host, through.port or 80
        connection: _Http | _Https
        if secure:
            connection = _Https(host, dial, timeout=self._network.connect_timeout, ssl_context=_trust())
        else:
            connection = _Http(host, dial, timeout=self._network.connect_timeout)
        if through is not None:
            credentials = make_headers(proxy_basic_auth=unquote(through.auth)) if through.auth else {}
            if secure:
                connection.set_tunnel(self.host, port, credentials)
            else:
                headers |= credentials
                target = f"http://{headers['Host']}{target}"
        connection.target = target
        return connection, headers


def _trust() -> ssl.SSLContext:
    """Return whom to believe: the certificates that requests trusts, the environment's choice first."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    bundle = bundle or requests.utils.DEFAULT_CA_BUNDLE_PATH
    context = create_urllib3_context()
    context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
    return context


def _pieces(file: BinaryIO, total: int, on_progress: OnBytes | None) -> Iterator[bytes]:
    sent = 0
    while sent < total:
        piece = file.read(min(_PIECE, total - sent))
        if not piece:
            raise TransferError(f"{file.name} lost {total - sent:,} bytes while it was sent.")
        yield piece
        sent += len(piece)
        if on_progress is not None:
            on_progress(sent, total)
