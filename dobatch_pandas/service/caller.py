"""One call to the service: the token, the limits, the tries, and what an error answer means."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import requests
import requests.adapters
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from dobatch_pandas import config
from dobatch_pandas.errors import (
    ApiError,
    BadRequest,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    NotFound,
    NotReady,
    ServerError,
    TooManyRequests,
    Unauthorized,
)

from .limiter import Limiter, limiter_for
from .network import (
    RETRY_STATUSES,
    Network,
    environment_proxy,
    is_local,
    never_sent,
    next_try,
    refuse_plain_http,
    scrub,
    why,
)

__all__ = ["Caller", "foreign"]

_KINDS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: NotReady,
    422: BadRequest,
    429: TooManyRequests,
}

_LARGEST_ANSWER = 64_000_000


class Caller:
    """
    Calls to one base URL, over one pool of connections that threads may share.

    Parameters
    ----------
    token : callable
        Returns the current token, or None.
    base_url : str
        Where the token may go; redirects to anywhere else are errors.
    network : Network
        Timeouts, and whether plain http is allowed.
    retry : urllib3.util.Retry
        How often, and how fast, a call that may be repeated is repeated.
    budget : float
        Seconds that one call may take altogether, its pauses included.
    """

    def __init__(
        self, token: Callable[[], str | None], base_url: str, *, network: Network, retry: Retry, budget: float
    ) -> None:
        refuse_plain_http(base_url, network.allow_http)
        parts = urlsplit(base_url)
        if parts.username or parts.query or parts.fragment:
            raise ConfigurationError("The base URL must be a plain address: no user, no query, no fragment.")
        self.base_url, self.host = base_url, parts.netloc
        self._local = is_local(parts.hostname)
        self._proxies = {parts.scheme: environment_proxy(base_url) or ""}
        self._source, self._network, self._retry, self._budget = token, network, retry, budget
        self._closed = threading.Event()
        self._session = _session(self._signed)

    def token(self) -> str:
        """Return the current token; raise ConfigurationError where there is none that can be right."""
        token = config.checked_token(self._source())
        if token is None:
            raise ConfigurationError(
                "There is no token. Set one with dobatch.configure(token=...), or in the environment as "
                f"{' or '.join(config.TOKEN_VARIABLES)}."
            )
        return token

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token on a request; where there is an ``auth``, requests looks into no ``.netrc``."""
        request.headers["Authorization"] = f"Bearer {self.token()}"
        return request

    def pause(self, seconds: float) -> None:
        """Wait; raise ConnectionFailed as soon as the caller is closed."""
        if self._closed.wait(seconds):
            raise ConnectionFailed("The client was closed.")

    def close(self) -> None:
        """Close the connections and end every pause."""
        self._closed.set()
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        operation: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
    ) -> Any:
        """
        Return the JSON of a good answer, after as many tries as retries, limits and budget allow.

        Parameters
        ----------
        method, path : str
            What to call.
        operation : str
            What it does, in words that follow "Could not".
        body, query, headers : mapping, optional
            What goes along.
        idempotent : bool
            Whether it does no harm to make the call again when nobody knows what became of it.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.base_url + path + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else orjson.dumps(body)
        patience, deadline = self._retry, time.monotonic() + self._budget
        while True:
            self.pause(0)
            if not self._limiter.wait(max(deadline - time.monotonic(), 0.0)):
                raise _out_of_turns(self._limiter.delay(), operation)
            failure: ApiError | ConnectionFailed
            try:
                return self._ask(method, url, operation, data, headers or {})
            except (ApiError, ConnectionFailed) as error:
                failure = error
            if not _may_change(failure, idempotent):
                raise failure
            patience = next_try(patience, failure)
            delay = max(patience.get_backoff_time(), getattr(failure, "retry_after", None) or 0.0)
            if time.monotonic() + delay > deadline:
                raise failure
            self.pause(delay)

    def turn(self) -> None:
        """Wait for the turn of a call that another machine makes."""
        if not self._limiter.wait(self._budget):
            raise _out_of_turns(self._limiter.delay(), "have another machine call")

    def turn_now(self) -> float:
        """Count a call that another machine makes and return 0, or else the seconds until there may be a turn for it."""
        return 0.0 if self._limiter.wait(0.0) else max(self._limiter.delay(), 0.01)

    def stay_away(self, seconds: float) -> None:
        """Let no call through for so long."""
        self._limiter.close_for(seconds)

    @property
    def _limiter(self) -> Limiter:
        return limiter_for(self.host, local=self._local)

    def _ask(
        self, method: str, url: str, operation: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Any:
        """Return the JSON of a good answer to one try."""
        failure: ConnectionFailed | None = None
        try:
            with self._session.request(
                method,
                url,
                data=data,
                headers={"Content-Type": "application/json", **headers},
                timeout=(self._network.connect_timeout, self._network.timeout),
                proxies=self._proxies,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = self._read(response, operation)
        except (requests.RequestException, HTTPError) as error:
            reason = why(error, self._network.timeout)
            failure = ConnectionFailed(f"Could not {operation}: no answer from {self.host}: {reason}.")
            failure.sent = not never_sent(error)
        # Raised out here so that the library's error, which may quote what it sent, is not in its chain.
        if failure is not None:
            raise failure
        retry_after = _retry_after(response)
        limited = response.status_code == 429
        self._limiter.learn(response.headers, retry_after=retry_after if limited else None)
        answer = _json(content)
        if 200 <= response.status_code < 300:
            if answer is not None:
                return answer
            # Cut within its head, an answer looks whole: without a length it ends where the connection does.
            if not response.headers.keys() & {"content-length", "transfer-encoding"}:
                raise ConnectionFailed(f"Could not {operation}: the answer of {self.host} ended early.")
        raise self._error(response, content, answer, operation, retry_after)

    def _read(self, response: requests.Response, operation: str) -> bytes:
        until = time.monotonic() + self._network.timeout
        content = bytearray()
        while piece := response.raw.read1(1 << 16, decode_content=True):
            content += piece
            # Each byte of a trickle would renew the timeout of the socket.
            if len(content) > _LARGEST_ANSWER or time.monotonic() > until:
                raise ConnectionFailed(f"Could not {operation}: the answer of {self.host} does not end.")
        return bytes(content)

    def _error(
        self,
        response: requests.Response,
        content: bytes,
        answer: object,
        operation: str,
        retry_after: float | None,
    ) -> ApiError:
        status, token = response.status_code, self._source()
        message, id, request_id = _explanation(answer)
        text = content[:20_000].decode("utf-8", "replace")
        if 300 <= status < 400:
            place = urlsplit(response.headers.get("Location", "")).hostname or "another address"
            message = f"it redirects to {place}, where the token must not go. Check the base URL"
        elif status < 300:
            message = f"not JSON, so not the service itself: {text}"
        request_id = request_id or response.headers.get("x-request-id")
        kind = _KINDS.get(status, ServerError if status >= 500 else ApiError)
        error = kind(
            scrub(message or text, token) or scrub(response.reason or "", token) or "no explanation",
            status=status,
            id=scrub(id, token) if id else None,
            request_id=scrub(request_id, token) if request_id else None,
            retry_after=retry_after,
            operation=operation,
        )
        # The service explains itself in JSON: a page, a bare text or nothing is from something in between.
        error.page = not (isinstance(answer, dict) and answer)
        return error


def _out_of_turns(delay: float, operation: str) -> TooManyRequests:
    return TooManyRequests(
        f"the rate limit lets no call through for another {delay:,.0f} seconds",
        status=429,
        id="too_many_requests",
        retry_after=delay,
        operation=operation,
    )


def foreign(operation: str) -> ApiError:
    """Return the error for a good answer that lacks what cannot be done without."""
    return ApiError("the answer lacks what the documentation promises", status=200, operation=operation)


def _session(auth: Callable[[requests.PreparedRequest], requests.PreparedRequest]) -> requests.Session:
    session = requests.Session()
    session.auth = auth
    session.headers["User-Agent"] = f"dobatch-pandas/{config.VERSION}"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Repeats are counted in one place, Caller.call, which knows the limits.
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=16, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _may_change(failure: ApiError | ConnectionFailed, idempotent: bool) -> bool:
    """Return whether the same call may have another outcome next time, and may be made again at all."""
    if isinstance(failure, TooManyRequests):
        return not failure.no_room  # refused before anything was done; room takes longer than patience
    if isinstance(failure, ApiError):
        return idempotent and failure.status in RETRY_STATUSES
    return idempotent


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After")
    try:
        return Retry().parse_retry_after(text) if text else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _explanation(answer: object) -> tuple[str | None, str | None, str | None]:
    """Return message, id and request id of an error, in any of the shapes that services of this kind use."""
    if not isinstance(answer, dict):
        return None, None, None
    inner = answer.get("error")
    places = [inner, answer] if isinstance(inner, dict) else [answer]

    def first(*names: str) -> str | None:
        found = (place.get(name) for place in places for name in names)
        return next((text for text in found if isinstance(text, str) and text), None)

    return first("message", "detail", "error"), first("id", "code", "type"), first("request_id")
