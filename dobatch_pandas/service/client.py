"""
The service's operations, one method each: token, timeouts, retries, rate limits and errors in one place.

The token goes to the host of the base URL and nowhere else: redirects are not followed, and bytes to and
from presigned addresses go by ``transfer``, which has never heard of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from dobatch_pandas import config
from dobatch_pandas.endpoints import provider_called
from dobatch_pandas.errors import BadRequest, Conflict, ConnectionFailed, InputError, LinkRefused, NotReady

from . import transfer
from .caller import Caller, foreign
from .network import Network, next_try, retry_policy
from .transfer import OnBytes
from .wire import (
    Batch,
    BatchPage,
    FileIntent,
    ResultLinks,
    read_batch,
    read_file_intent,
    read_page,
    read_result_links,
)

__all__ = ["Client"]


class Client:
    """
    The service's operations over one pool of connections. Safe to share between threads.

    Parameters
    ----------
    token : str or callable, optional
        Key for the service, or a callable without arguments that returns the current one. Left out, every
        call takes what ``configure(token=...)`` or the environment says at that moment.
    base_url : str, optional
        Address of the service; else what ``configure(base_url=...)`` or the environment says.
    timeout, connect_timeout : float
        Seconds without any byte moving, and to reach the host, before a try has failed.
    retries : int
        How often a call that may be repeated is repeated.
    allow_http : bool
        Whether the token may go over plain ``http://`` to another machine.
    backoff : float
        Pauses between repeats are none, then 2, 4, 8 ... times so many seconds, with jitter.
    budget : float
        Seconds that one call may take altogether, its pauses included.

    Raises
    ------
    ConfigurationError
        There is no token, or the address is not safe for one.
    """

    def __init__(
        self,
        token: str | Callable[[], str | None] | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 60.0,
        connect_timeout: float = 10.0,
        retries: int = 5,
        allow_http: bool = False,
        backoff: float = 0.5,
        budget: float = 600.0,
    ) -> None:
        settings = config.settings()
        self.base_url = (base_url or settings.base_url).rstrip("/")
        self._options = {
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "retries": retries,
            "allow_http": allow_http or settings.allow_http,
            "backoff": backoff,
            "budget": budget,
        }
        self._network = Network(timeout, connect_timeout, allow_http or settings.allow_http)
        self._retry = retry_policy(retries, backoff)
        source = token if callable(token) else _settings_token if token is None else lambda: token
        self._source = source
        self.caller = Caller(source, self.base_url, network=self._network, retry=self._retry, budget=budget)
        if not callable(token):
            self.caller.token()

    def create_file(self, file_name: str) -> FileIntent:
        """
        Return a place for one request file: its id, and the presigned address to upload it to.

        Parameters
        ----------
        file_name : str
            At least seven characters, ending in ``.jsonl``.
        """
        if len(file_name) < 7 or not file_name.lower().endswith(".jsonl"):
            raise InputError(f"{file_name!r} is no name for a request file: use one like 'x.jsonl'.")
        operation = "reserve an upload"
        intent = read_file_intent(
            self.caller.call("POST", "/v1/batches/files", operation, {"file_name": file_name})
        )
        if not intent.file_id or not intent.upload_url:
            raise foreign(operation)
        return intent

    def upload(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        content_type: str = "application/octet-stream",
        on_progress: OnBytes | None = None,
    ) -> None:
        """
        Put a file at a presigned address, without the token; repeated where the connection breaks.

        Parameters
        ----------
        url : str
            Presigned address, used verbatim.
        path : path
            File to send; it may be larger than memory.
        content_type : str
            Must be what was signed, where one was.
        on_progress : callable, optional
            Called as ``on_progress(sent, total)``, both in bytes.

        Raises
        ------
        LinkRefused
            The address is too old. Call ``create_file`` again and upload to its new address.
        """
        patience = self._retry
        while True:
            try:
                transfer.upload(
                    url, path, content_type=content_type, on_progress=on_progress, network=self._network
                )
                return
            except ConnectionFailed as error:
                failure = error
            patience = next_try(patience, failure)
            self.caller.pause(patience.get_backoff_time())

    def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        file_name: str | None = None,
        on_progress: OnBytes | None = None,
        on_intent: Callable[[FileIntent], object] | None = None,
    ) -> str:
        """
        Return the id of a request file that is uploaded whole, whatever it takes within reason.

        Parameters
        ----------
        path : path
            JSONL file to send.
        file_name : str, optional
            What the service calls it; the path's own name by default.
        on_progress : callable, optional
            Called as ``on_progress(sent, total)``, both in bytes; starts again with a new try.
        on_intent : callable, optional
            Called with each :class:`FileIntent` before its upload begins.
        """
        path = Path(path)
        with open(path, "rb"):
            pass  # a file that cannot be read fails here, before the service reserves a place for it
        content_types = iter(("application/octet-stream", "application/jsonl", "application/octet-stream"))
        content_type = next(content_types)
        patience = self._retry
        while True:
            intent = self.create_file(file_name or path.name)
            if on_intent is not None:
                on_intent(intent)
            failure: LinkRefused | ConnectionFailed
            try:
                transfer.upload(
                    intent.upload_url,
                    path,
                    content_type=content_type,
                    on_progress=on_progress,
                    network=self._network,
                )
                return intent.file_id
            except (LinkRefused, ConnectionFailed) as error:
                failure = error
            if isinstance(failure, LinkRefused) and "expired" not in str(failure).lower():
                # Older documentation shows another type, and a signature may hold for one only.
                following = next(content_types, None)
                if following is None:
                    raise failure
                content_type = following
                continue
            patience = next_try(patience, failure)
            self.caller.pause(patience.get_backoff_time())

    def create_batch(
        self,
        file_id: str,
        *,
        provider: str,
        endpoint: str | None = None,
        request_id: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> Batch:
        """
        Return the batch that runs an uploaded file, within 24 hours.

        Parameters
        ----------
        file_id : str
            Id of an uploaded file.
        provider : "openai" or "anthropic"
            Whose request lines the file holds.
        endpoint : str, optional
            Where the lines go, such as ``/v1/chat/completions``. Needed for ``openai``.
        request_id : str
            Makes the call idempotent: the same id returns the same batch, so it is safe to repeat.
        metadata : mapping, optional
            Notes of your own to store with the batch.
        """
        operation = "create a batch"
        body: dict[str, Any] = {
            "file_id": file_id,
            "provider": provider,
            "completion_window": "24h",
            "request_id": request_id,
        }
        # A provider with one endpoint has none to name, says the later documentation.
        only = provider_called(provider).only_endpoint
        if only is None and endpoint is not None:
            body["endpoint"] = endpoint
        if metadata:
            body["metadata"] = dict(metadata)
        try:
            answer = self.caller.call("POST", "/v1/batches", operation, body)
        except BadRequest as refusal:
            if only is None:
                raise
            first = refusal
        else:
            return _known(read_batch(answer), operation)
        # The first documentation wants it all the same, and a refusal need not say what it is about.
        with_endpoint = {**body, "endpoint": endpoint or only}
        try:
            answer = self.caller.call("POST", "/v1/batches", operation, with_endpoint)
        except BadRequest as refusal:
            raise first if "endpoint" in refusal.message.lower() else refusal from None
        return _known(read_batch(answer), operation)

    def get_batch(self, batch_id: str) -> Batch:
        """Return one batch as it stands now."""
        operation = f"read batch {batch_id}"
        return _known(read_batch(self.caller.call("GET", _path(batch_id), operation)), operation)

    def list_batches(
        self, *, limit: int = 20, after: str | None = None, status: str | None = None
    ) -> BatchPage:
        """
        Return one page of the batches of this token, newest first.

        Parameters
        ----------
        limit : int
            Batches on a page, 1 to 100.
        after : str, optional
            The ``next_cursor`` of the page before.
        status : str, optional
            Only batches of this status. A page may then be short, or empty, and not the last.
        """
        _check_list(limit, status)
        if not 1 <= limit <= 100:
            raise InputError(f"limit is {limit}; a page has 1 to 100 batches.")
        query = {"limit": str(limit), "after": after, "status": status}
        try:
            answer = self.caller.call("GET", "/v1/batches", "list batches", query=query)
        except BadRequest as refusal:
            if status is None or "status" not in refusal.message.lower():
                raise
            answer = None
        if answer is None:
            # The filter is a later addition to the service.
            answer = self.caller.call("GET", "/v1/batches", "list batches", query={**query, "status": None})
        page = read_page(answer)
        return BatchPage(
            tuple(batch for batch in page.batches if status in (None, batch.status)), page.next_cursor
        )

    def iter_batches(self, limit: int | None = None, status: str | None = None) -> Iterator[Batch]:
        """
        Yield the batches of this token, newest first, each one once.

        Parameters
        ----------
        limit : int, optional
            How many at most; all by default.
        status : str, optional
            Only batches of this status.
        """
        _check_list(0 if limit is None else limit, status)
        seen: set[str] = set()
        cursors: set[str] = set()
        after: str | None = None
        while limit is None or len(seen) < limit:
            size = 100 if limit is None or status else min(100, limit - len(seen))
            page = self.list_batches(limit=size, after=after, status=status)
            for batch in page.batches:
                if batch.batch_id not in seen and (limit is None or len(seen) < limit):
                    seen.add(batch.batch_id)
                    yield batch
            after = page.next_cursor
            # A service that does not know the cursor would send its first page for ever.
            if after is None or after in cursors:
                return
            cursors.add(after)

    def cancel_batch(self, batch_id: str) -> Batch:
        """
        Return the batch on its way to ``cancelled``; what has finished by then stays available.

        Raises
        ------
        Conflict
            It has ended otherwise, or cannot be cancelled yet; ``get_batch`` says which.
        """
        operation = f"cancel batch {batch_id}"
        try:
            return _known(
                read_batch(self.caller.call("POST", _path(batch_id, "/cancel"), operation, {})), operation
            )
        except Conflict as error:
            conflict = error
        # The answer to a first try may have been lost after the service acted on it.
        batch = self.get_batch(batch_id)
        if batch.status in ("cancelling", "cancelled"):
            return batch
        raise conflict

    def get_results(self, batch_id: str) -> ResultLinks:
        """Return presigned addresses of a batch's results; ``available`` is False while there are none."""
        try:
            answer = self.caller.call(
                "GET", _path(batch_id, "/results"), f"find the results of batch {batch_id}"
            )
        except NotReady:
            return ResultLinks(batch_id, available=False)
        return read_result_links(answer, batch_id)

    def download(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        on_progress: OnBytes | None = None,
        refresh: Callable[[], str] | None = None,
    ) -> None:
        """
        Bring what lies at a presigned address to a file, without the token; it appears whole or not at all.

        Parameters
        ----------
        url : str
            Presigned address, used verbatim.
        path : path
            File to write. Bytes gather beside it, and a broken download goes on from the byte it reached.
        on_progress : callable, optional
            Called as ``on_progress(received, total)``, both in bytes.
        refresh : callable, optional
            Returns a new address of the same object, when this one has expired.

        Raises
        ------
        LinkRefused
            The address is too old. Call ``get_results`` again for a new one.
        Truncated
            The bytes kept ending before the announced length.
        """
        transfer.download(
            url,
            path,
            on_progress=on_progress,
            refresh=refresh,
            retry=self._retry,
            pause=self.caller.pause,
            network=self._network,
        )

    def infer(self, endpoint: str, body: Mapping[str, Any], *, provider: str) -> dict[str, Any]:
        """
        Return the answer to one request at once, at the price of real-time inference.

        Parameters
        ----------
        endpoint : str
            Such as ``/v1/chat/completions``.
        body : mapping
            The body of one request line.
        provider : "openai" or "anthropic"
            Whose body it is.
        """
        operation = f"ask {endpoint}"
        headers = provider_called(provider).headers
        # Not repeated where it may have run: every run is paid for.
        answer = self.caller.call("POST", endpoint, operation, body, headers=headers, idempotent=False)
        if not isinstance(answer, dict):
            raise foreign(operation)
        return answer

    def patient(self, seconds: float) -> Client:
        """Return another client of the same token and address that waits so long for an answer."""
        options: dict[str, Any] = {**self._options, "timeout": seconds, "budget": seconds + 60.0}
        return Client(self._source, self.base_url, **options)

    def close(self) -> None:
        """Close the connections and end every pause; calls after this raise ConnectionFailed."""
        self.caller.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(base_url={self.base_url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The token stays here: the other process has its own, or is told one by configure().
        return _restore, (self.base_url, self._options)


def _settings_token() -> str | None:
    return config.settings().token


def _restore(base_url: str, options: dict[str, Any]) -> Client:
    # A callable is asked at the first call, so that unpickling works where no token is set yet.
    return Client(_settings_token, base_url, **options)


def _path(batch_id: str, rest: str = "") -> str:
    if not batch_id or batch_id in (".", ".."):
        raise InputError(f"{batch_id!r} is no batch id.")
    return f"/v1/batches/{quote(batch_id, safe='')}{rest}"


def _check_list(limit: Any, status: Any) -> None:
    if isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 0:
        raise InputError(f"limit is {limit!r:.80}; it takes how many batches.")
    if status is not None and not (isinstance(status, str) and status.isascii() and status.isprintable()):
        raise InputError(
            f"status is {status!r:.80}; it takes a word of the service's such as 'completed', or None."
        )


def _known(batch: Batch, operation: str) -> Batch:
    if not batch.batch_id:
        raise foreign(operation)
    return batch
