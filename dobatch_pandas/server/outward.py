"""Calls from this server to others: a model's, or a service that is recorded."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

__all__ = ["AWAY", "Outward", "words_of"]

# Nobody was reached, so nothing was done.
AWAY = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)
# Seconds to wait for a connection.
_CONNECT = 10.0
# Bytes of a line of a header.
_LINE = 65_536


class Outward:
    """
    Connections, kept for the next call; all of it is used in one event loop.

    By the environment's proxy only where it is another machine: a company's proxy cannot reach this machine's
    ports, and every prompt would leave it.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str | None] = {}

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        silence: float,
        *,
        whole: bool = True,
        decode: bool = True,
    ) -> aiohttp.ClientResponse:
        """
        The answer once its head is there; who takes it reads and releases it.

        Parameters
        ----------
        method, url, headers, content
            Of the call; the address goes out as it is.
        silence : float
            Seconds without a byte, and, where the answer is read ``whole``, seconds for all of it.
        decode : bool
            Whether a compressed answer is unpacked.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many there are at once is the caller's business.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=_LINE,
                max_field_size=_LINE,
            )
        # aiohttp warns of large bytes; it takes them from a file in pieces.
        data = io.BytesIO(content) if content is not None and len(content) > 1_000_000 else content
        return await self._session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
            auto_decompress=decode,
            proxy=self._proxy(url),
            timeout=aiohttp.ClientTimeout(
                total=silence if whole else None, sock_connect=min(silence, _CONNECT), sock_read=silence
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _proxy(self, url: str) -> str | None:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        if place not in self._proxies:
            host = parts.hostname or ""
            found = getproxies().get(parts.scheme)
            used = found and not _is_here(host) and not proxy_bypass(host)
            self._proxies[place] = (
                (found if "://" in found else f"http://{found}") if found and used else None
            )
        return self._proxies[place]


def words_of(problem: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    if isinstance(problem, aiohttp.ClientConnectorError) and not isinstance(
        problem, aiohttp.ClientConnectorCertificateError
    ):
        inner = problem.os_error
        return os.strerror(inner.errno) if inner.errno and inner.errno > 0 else str(inner)
    if isinstance(problem, asyncio.TimeoutError):
        return "it took too long"
    return str(problem) or type(problem).__name__


def _is_here(host: str) -> bool:
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or host.startswith("127.")
        or host in ("::1", "0.0.0.0")
    )
