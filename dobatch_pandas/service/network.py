"""What holds for every connection, to the service or to storage: timeouts, repeats, safety, clean words."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from urllib3.util import Retry

from dobatch_pandas.errors import ConfigurationError

__all__ = [
    "DEFAULT",
    "RETRY_STATUSES",
    "Network",
    "environment_proxy",
    "is_address",
    "is_local",
    "next_try",
    "no_address",
    "refuse_plain_http",
    "retry_policy",
    "scrub",
    "why",
]

# Worth asking again: such an answer says something about the moment, not about the request.
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_QUERY = re.compile(r"(https?://[^\s\"'<>?]+)\?[^\s\"'<>]*", re.IGNORECASE)
_BEARER = re.compile(r"(bearer\s+)[^\s\"'<>,]+", re.IGNORECASE)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Network:
    """
    How to treat a connection.

    Parameters
    ----------
    timeout, connect_timeout : float
        Seconds without any byte moving, and to reach the host, before a try has failed.
    allow_http : bool
        Whether an address may be plain ``http://`` to another machine.
    """

    timeout: float = 60.0
    connect_timeout: float = 10.0
    allow_http: bool = False


DEFAULT = Network()


def retry_policy(retries: int, backoff: float = 0.5) -> Retry:
    """Return urllib3's policy as used here: so many repeats, at once, then after 2, 4, 8 ... x backoff."""
    return Retry(
        total=retries,
        backoff_factor=backoff,
        backoff_jitter=backoff,
        backoff_max=60.0,
        status_forcelist=RETRY_STATUSES,
        allowed_methods=None,
    )


def next_try(patience: Retry, failure: Exception) -> Retry:
    """Return the policy after one more failure; raise the failure where it is exhausted."""
    try:
        return patience.increment(error=failure)
    except urllib3.exceptions.MaxRetryError:
        pass
    raise failure


def is_local(host: str | None) -> bool:
    """Return whether a host name or address is this machine."""
    name = (host or "").strip("[]").lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def is_address(url: str) -> bool:
    """Return whether this is an http(s) address that can be called."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and url.isascii() and url.isprintable()


def no_address(url: str) -> str:
    """Return in words that an address is none, without the secrets in it."""
    return f"{scrub(url.partition('?')[0].rpartition('@')[2])!r} is not an http(s) address."


def refuse_plain_http(url: str, allow_http: bool) -> None:
    """Raise ConfigurationError for an address whose secrets would travel readable to another machine."""
    if not is_address(url):
        raise ConfigurationError(no_address(url))
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme == "http" and not (allow_http or is_local(host)):
        raise ConfigurationError(
            f"http://{host} is another machine, and plain http would show the token and the data to everyone "
            "on the way. Use https, or allow it with dobatch.configure(allow_http=True)."
        )


def scrub(text: str, *secrets: str | None) -> str:
    """Return others' text without secrets, queries of addresses and markup: one line, 300 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _BEARER.sub(r"\1***", _QUERY.sub(r"\1?***", text))
    text = _TAG.sub(" ", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address; never one for this machine."""
    if is_local(urlsplit(url).hostname):
        return None
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((ssl.SSLCertVerificationError,), "its certificate cannot be verified"),
    ((socket.gaierror, urllib3.exceptions.NameResolutionError), "the host name cannot be found"),
    ((ConnectionRefusedError,), "the connection was refused"),
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), "it could not be reached in time"),
    ((TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout), "nothing moved for {0:g} seconds"),
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError), "the proxy did not let it through"),
    ((ssl.SSLError, urllib3.exceptions.SSLError), "the encryption failed"),
)


def never_sent(error: BaseException | None) -> bool:
    """Return whether the host was not even reached, so that nothing of a request can have arrived."""
    kinds = (
        requests.ConnectTimeout,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.NameResolutionError,
        ConnectionRefusedError,
        socket.gaierror,
    )
    return any(isinstance(link, kinds) for link in _chain(error))


def why(error: BaseException | None, timeout: float) -> str:
    """Return in words of ours why no answer came: a library's words could hold an address or a header."""
    chain = _chain(error)
    for kinds, words in _REASONS:
        if any(isinstance(link, kinds) for link in chain):
            return words.format(timeout)
    return "the connection broke"


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        told = (getattr(error, "reason", None), *error.args)
        inner = next((thing for thing in told if isinstance(thing, BaseException)), None)
        error = inner or error.__cause__ or error.__context__
    return chain
