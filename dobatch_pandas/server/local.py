"""`LocalServer`: the whole service in this process."""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import socket
import sqlite3
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from dobatch_pandas.errors import MissingExtra, ServerProblem

from .clock import MOST_SECONDS, Clock
from .faults import FAILURES, Failure, Faults
from .limits import RateLimiter
from .listening import listen
from .models import AsyncModel, EchoModel, FunctionModel, Model, ModelFunction
from .state import Batch
from .validation import FileLimits
from .wire import WIRES, Wire

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .certificate import Certificate
    from .service import EndpointRule, Service

__all__ = ["LocalServer"]


class LocalServer:
    """
    The batch service on this machine: ``with LocalServer() as server: ... server.url``.

    Parameters
    ----------
    model : str or callable
        What answers: ``"echo"``; ``"smollm2"`` or ``"minilm"`` (real small models, see ``dobatch
        fetch-model``); the base URL of an OpenAI-compatible server, ``"http://.../v1"``; or a function
        ``(body, endpoint)`` that returns a text or a dict, see `FunctionModel`.
    wire : {"A", "B"}
        Which description of the service is followed.
    port : int
        0 lets the system choose a free one.
    home : path-like, optional
        Folder whose state survives a restart; by default a temporary one, removed at the end.
    token : str, optional
        The only one accepted. By default any that is not empty on this machine's own address, where nobody
        but its users can call; on another address one is drawn.
    rate_limit : tuple of int, optional
        Calls a minute and an hour; None for no limit.
    url_lifetime : float
        Seconds that signed addresses are good for.
    latency, api_latency, fail_share, fail_kinds, fail_times
        See `Faults`, which is `faults` here and may be changed at any time.
    concurrency : int, optional
        Requests executed at once; by default what the model likes.
    limits : FileLimits
        What an input file may hold.
    enqueued_tokens : int, optional
        Limit on the tokens of all open batches.
    enqueued_mode : {"create", "validate"}
        Whether creating a batch above it answers 429, or the batch fails in validation.
    endpoint_rule, not_ready, upload_type, not_uploaded, cancel_early
        See `Options`.
    clock : callable, optional
        Returns Unix seconds.
    host : str
        Address to listen on.
    allowed_hosts : sequence of str
        Names that clients may call it by, beside those of this machine; ``"*"`` for any.
    tls : Certificate, optional
        Speak https with it.
    log : callable, optional
        Called with one line for each call.

    Attributes
    ----------
    url : str
        Base URL.
    token : str
        A token that is accepted.
    faults : Faults
    executed : collections.Counter
        How often the request of each ``custom_id`` was executed, in this process.
    calls : list of str
        Every call so far, by operation, in order.
    """

    def __init__(
        self,
        model: str | ModelFunction | Model | AsyncModel = "echo",
        *,
        wire: Wire = "A",
        port: int = 0,
        home: str | Path | None = None,
        token: str | None = None,
        rate_limit: tuple[int, int] | None = (250, 5000),
        url_lifetime: float = 900.0,
        latency: float = 0.0,
        api_latency: float = 0.0,
        fail_share: float = 0.0,
        fail_kinds: tuple[Failure, ...] = FAILURES,
        fail_times: int | None = None,
        concurrency: int | None = None,
        limits: FileLimits | None = None,
        enqueued_tokens: int | None = None,
        enqueued_mode: Literal["create", "validate"] = "create",
        endpoint_rule: EndpointRule = "either",
        not_ready: Literal["flag", "412"] = "flag",
        upload_type: str = "",
        not_uploaded: Literal[400, 409, 422] = 400,
        cancel_early: bool = True,
        clock: Callable[[], float] | None = None,
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        tls: Certificate | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if wire not in WIRES:
            raise ValueError(f"wire must be 'A' or 'B', not {wire!r}")
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise ValueError(f"concurrency must be a number from 1, not {concurrency!r}")
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValueError(f"port must be a number from 0 to 65535, not {port!r}")
        if rate_limit is not None and not (
            isinstance(rate_limit, (tuple, list))
            and len(rate_limit) == 2
            and all(_is_number(one, 1) for one in rate_limit)
        ):
            raise ValueError(f"rate_limit must be two numbers from 1, or None, not {rate_limit!r}")
        if token is not None and (not token or token.split() != [token] or not token.isascii()):
            raise ValueError("token must be a text of ASCII characters without blanks, and not empty")
        for name, number, most in (
            ("url_lifetime", url_lifetime, MOST_SECONDS),
            ("latency", latency, MOST_SECONDS),
            ("api_latency", api_latency, MOST_SECONDS),
            ("fail_share", fail_share, 1),
        ):
            if not _is_number(number, 0, most):
                raise ValueError(f"{name} must be a number from 0 to {most:,.0f}, not {number!r}")
        for name, count in (("fail_times", fail_times), ("enqueued_tokens", enqueued_tokens)):
            if count is not None and not _is_number(count, 1):
                raise ValueError(f"{name} must be a number from 1, or None, not {count!r}")
        if not fail_kinds or not set(fail_kinds) <= set(FAILURES):
            raise ValueError(f"fail_kinds must be some of {FAILURES!r}, not {fail_kinds!r}")
        for name, text in (("host", host), ("home", home)):
            # Of a variable that is not set nothing is left, which would be all addresses, and this very folder.
            if text == "":
                raise ValueError(f"{name} must not be empty")
        for name in ("starlette", "uvicorn", "httptools", "aiohttp"):
            if importlib.util.find_spec(name) is None:
                raise MissingExtra("The embedded server", "server")
        from .service import Options

        if token is None and not _is_loopback(host):
            token = secrets.token_urlsafe(24)
        self.token = token or "local"
        self.faults = Faults(fail_share, tuple(fail_kinds), fail_times, latency, api_latency)
        self.calls: list[str] = []
        self.executed: Counter[str] = Counter()
        # A server that runs for months does not remember each call and each request.
        self._remembers = True
        self._options = Options(
            wire=wire,
            token=token,
            endpoint_rule=endpoint_rule,
            not_ready=not_ready,
            upload_type=upload_type,
            not_uploaded=not_uploaded,
            cancel_early=cancel_early,
            enqueued_tokens=enqueued_tokens if enqueued_mode == "create" else None,
        )
        self._validate_tokens = enqueued_tokens if enqueued_mode == "validate" else None
        self._given_model, self._home = model, home
        self._clock = Clock(clock)
        self._limiter = RateLimiter(*rate_limit, self._clock) if rate_limit is not None else None
        self._lifetime, self._concurrency = url_lifetime, concurrency
        self._limits = limits or FileLimits()
        self._address = (host, port)
        self._hosts, self._tls, self._log = tuple(allowed_hosts), tls, log
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._service: Service | None = None
        self._end: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._lock: Any = None

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        host, port = self._address
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def batches(self) -> list[Batch]:
        """Every batch, newest first, with the counts of this moment."""
        service = self._running()
        page = service.state.page(1_000_000, None, None)
        assert page is not None
        return [service.executor.live(batch) for batch in page[0]]

    def start(self) -> LocalServer:
        """Listen, and take up the batches that a run before left open. Returns once calls are answered."""
        if self._thread is not None:
            return self
        listener = listen(*self._address)
        model: Model | AsyncModel | None = None
        try:
            model = _load(self._given_model, self._concurrency)
            self._service = self._build(model, self._open_home())
            self._address = (self._address[0], listener.getsockname()[1])
            self._serve(listener)
        except BaseException as problem:
            listener.close()
            if model is not None and not isinstance(model, AsyncModel):
                model.close()
            self._service = None
            self._release_home()
            if isinstance(problem, (OSError, sqlite3.Error)):
                where = "A temporary folder" if self._home is None else str(self._home)
                raise ServerProblem(f"{where} cannot be the server's home: {problem}.") from problem
            raise
        return self

    def stop(self, patience: float | None = 5.0) -> None:
        """
        Finish what is being executed, close everything, and remove a temporary folder.

        Parameters
        ----------
        patience : float, optional
            Seconds that requests which are at the model are waited for; None waits for all of them. What is
            not waited for is executed again by the next server on the same home.
        """
        thread, service = self._thread, self._service
        if thread is None or service is None:
            return
        atexit.unregister(self.stop)
        service.executor.stop(patience)
        self._end()
        thread.join()
        service.state.close()
        service.executor.close()
        self._thread = self._service = None
        self._release_home()

    def drain(self) -> None:
        """Begin nothing more; calls are answered, and what is at the model goes on, until `stop`."""
        self._running().executor.drain()

    @property
    def busy(self) -> int:
        """Requests that are being executed at this moment."""
        return self._running().executor.busy

    @property
    def tls(self) -> Certificate | None:
        """The certificate that https is spoken with."""
        return self._tls

    @property
    def host(self) -> str:
        """The address that is listened on."""
        return self._address[0]

    def look(self) -> Future[list[str]] | None:
        """Ask a model behind HTTP, in its turn, which models and endpoints it has; None for other models."""
        executor = self._running().executor
        look: Callable[[], Any] | None = getattr(executor.model, "look", None)
        return None if look is None else executor.call(look)

    def advance(self, seconds: float) -> None:
        """Move the server's clock on: windows expire, addresses end, files are deleted."""
        self._clock.advance(seconds)
        service = self._running()
        service.executor.wake()
        service.purge()

    def reset(self) -> None:
        """Forget every batch, file, fault and call, and set the time back: as new, at the same address."""
        self._running().reset()

    def hold(
        self, stage: Literal["validating", "in_progress", "finalizing"] = "in_progress", *, after: int = 0
    ) -> None:
        """
        Let batches go no further than a stage, until `release`.

        In ``in_progress``, ``after`` more requests are executed first.
        """
        self._running().executor.hold(stage, after)

    def release(self) -> None:
        """Let held batches go on."""
        self._running().executor.release()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"at {self.url}" if self._thread is not None else "not running"
        return f"<LocalServer {state}>"

    def _running(self) -> Service:
        if self._service is None:
            raise ServerProblem("The server is not running: call start(), or use it in a 'with' block.")
        return self._service

    def _open_home(self) -> Path:
        from filelock import FileLock, Timeout

        if self._home is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix="dobatch-server-", ignore_cleanup_errors=True
            )
            return Path(self._temporary.name)
        home = Path(os.path.expanduser(self._home))
        lock = FileLock(home / "server.lock")
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in ("", "inputs", "outputs", "running"):
                _make_private(home / folder)
            lock.acquire(timeout=0)
        except Timeout:
            raise ServerProblem(f"Another server is running on {home}.") from None
        except OSError as problem:
            raise ServerProblem(
                f"{home} cannot be the server's home: {problem.strerror or problem}."
            ) from problem
        self._lock = lock
        return home

    def _release_home(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _build(self, model: Model | AsyncModel, home: Path) -> Service:
        from .executor import Executor
        from .service import Service
        from .state import State
        from .storage import Objects, Signer

        state = State(home / "server.sqlite")
        inputs, outputs = Objects(home / "inputs"), Objects(home / "outputs")
        inputs.clear(left_over=True)
        executor = Executor(
            state,
            inputs,
            outputs,
            home / "running",
            model,
            self.faults,
            self._clock,
            self._limits,
            self._concurrency,
            self._validate_tokens,
        )
        executor.executed = self.executed if self._remembers or self.faults.fail_times is not None else None
        signer = Signer(state.key(), self._clock, self._lifetime)
        return Service(
            state,
            inputs,
            outputs,
            signer,
            executor,
            self.faults,
            self._clock,
            self._limiter,
            self._options,
            self.calls if self._remembers else deque(maxlen=1000),
        )

    def _serve(self, listener: socket.socket) -> None:
        from .app import build_app
        from .listening import serve_app

        assert self._service is not None
        app = build_app(self._service, (self._address[0], *self._hosts), self._log)
        # Threads that are inside a model while the interpreter goes away would take it down.
        atexit.register(self.stop)
        self._service.executor.start()
        self._thread, self._end = serve_app(app, listener, self._tls)


def _is_number(value: Any, least: float, most: float = float("inf")) -> bool:
    return isinstance(value, Real) and value is not True and least <= float(value) <= most


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _make_private(folder: Path) -> None:
    """Make a folder, and close it to others: prompts, answers and the key that signs addresses lie in it."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if os.name != "nt" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _load(given: str | ModelFunction | Model | AsyncModel, concurrency: int | None) -> Model | AsyncModel:
    if not isinstance(given, str):
        return FunctionModel(given, concurrency) if callable(given) else given
    if given == "echo":
        return EchoModel()
    if given == "smollm2":
        from .smollm import SmolLm2Model

        return SmolLm2Model(concurrency or 8)
    if given == "minilm":
        from .minilm import MiniLmModel

        return MiniLmModel()
    if given.startswith(("http://", "https://")):
        from .upstream import UpstreamModel

        return UpstreamModel(given, concurrency=concurrency)
    raise ServerProblem(f"No model {given!r}: there are 'echo', 'smollm2', 'minilm' and 'http://.../v1'.")
