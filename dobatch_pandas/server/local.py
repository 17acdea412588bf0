"""`LocalServer`: the whole service in this process."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from dobatch_pandas.errors import MissingExtra, ServerProblem

from .clock import Clock
from .faults import FAILURES, Failure, Faults
from .limits import RateLimiter
from .models import EchoModel, FunctionModel, Model, ModelFunction
from .state import Batch
from .validation import FileLimits
from .wire import WIRES, Wire

if TYPE_CHECKING:
    from .app import EndpointRule, Service

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
        The only one accepted; by default any that is not empty.
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
    endpoint_rule, not_ready, upload_type, cancel_early
        See `Options`.
    clock : callable, optional
        Returns Unix seconds.
    host : str
        Address to listen on.

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
        model: str | ModelFunction | Model = "echo",
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
        upload_type: str = "application/octet-stream",
        cancel_early: bool = True,
        clock: Callable[[], float] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        if wire not in WIRES:
            raise ValueError(f"wire must be 'A' or 'B', not {wire!r}")
        for name in ("starlette", "uvicorn", "httptools"):
            if importlib.util.find_spec(name) is None:
                raise MissingExtra("The embedded server", "server")
        from .app import Options

        self.token = token or "local"
        self.faults = Faults(fail_share, tuple(fail_kinds), fail_times, latency, api_latency)
        self.calls: list[str] = []
        self.executed: Counter[str] = Counter()
        self._options = Options(
            wire=wire,
            token=token,
            endpoint_rule=endpoint_rule,
            not_ready=not_ready,
            upload_type=upload_type,
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
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._service: Service | None = None
        self._end: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._lock: Any = None

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        host, port = self._address
        return f"http://{host}:{port}"

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
        listener = _listen(*self._address)
        model: Model | None = None
        try:
            model = _load(self._given_model)
            self._service = self._build(model, self._open_home())
            self._address = (self._address[0], listener.getsockname()[1])
            self._serve(listener)
        except BaseException:
            listener.close()
            if model is not None:
                model.close()
            self._service = None
            self._release_home()
            raise
        return self

    def stop(self) -> None:
        """Finish what is being executed, close everything, and remove a temporary folder."""
        thread, service = self._thread, self._service
        if thread is None or service is None:
            return
        atexit.unregister(self.stop)
        service.executor.stop()
        self._end()
        thread.join()
        service.state.close()
        service.executor.model.close()
        self._thread = self._service = None
        self._release_home()

    def advance(self, seconds: float) -> None:
        """Move the server's clock on: windows expire, addresses end, files are deleted."""
        self._clock.advance(seconds)
        service = self._running()
        service.executor.wake()
        service.purge()

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
        home = Path(self._home).expanduser()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(home / "server.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ServerProblem(f"Another server is running on {home}.") from None
        self._lock = lock
        return home

    def _release_home(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _build(self, model: Model, home: Path) -> Service:
        from .app import Service
        from .executor import Executor
        from .state import State
        from .storage import Objects, Signer

        state = State(home / "server.sqlite")
        inputs, outputs = Objects(home / "inputs"), Objects(home / "outputs")
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
        executor.executed = self.executed
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
            self.calls,
        )

    def _serve(self, listener: socket.socket) -> None:
        import uvicorn

        from .app import build_app
        from .protocol import Protocol

        assert self._service is not None
        config = uvicorn.Config(
            build_app(self._service),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=2,
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
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self.over.wait(), 1.0)

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # What is idle closes at once; uvicorn's own gives it a tenth of a second in any case.
                for connection in list(self.server_state.connections):
                    connection.shutdown()
                await asyncio.sleep(0)
                if self.server_state.connections or self.server_state.tasks:
                    await super().shutdown(sockets)
                for accepting in (*self.servers, *(sockets or ())):
                    accepting.close()

            def end(self) -> None:
                self.should_exit = True
                self.loop.call_soon_threadsafe(self.over.set)

        server = Server(config)
        self._end = server.end

        def run() -> None:
            try:
                server.run([listener])
            finally:
                started.set()

        # Threads that are inside a model while the interpreter goes away would take it down.
        atexit.register(self.stop)
        self._service.executor.start()
        self._thread = threading.Thread(target=run, name="dobatch-server", daemon=True)
        self._thread.start()
        started.wait()
        if not server.started:
            raise ServerProblem("The embedded server did not start.")


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        raise ServerProblem(
            f"Cannot listen on {host}:{port}: {problem.strerror}. Choose another port."
        ) from problem
    listener.listen(512)
    return listener


def _load(given: str | ModelFunction | Model) -> Model:
    if not isinstance(given, str):
        return FunctionModel(given) if callable(given) else given
    if given == "echo":
        return EchoModel()
    if given == "smollm2":
        from .smollm import SmolLm2Model

        return SmolLm2Model()
    if given == "minilm":
        from .minilm import MiniLmModel

        return MiniLmModel()
    if given.startswith(("http://", "https://")):
        if importlib.util.find_spec("httpx") is None:
            raise MissingExtra("A model behind HTTP", "server")
        from .upstream import UpstreamModel

        return UpstreamModel(given)
    raise ServerProblem(f"No model {given!r}: there are 'echo', 'smollm2', 'minilm' and 'http://.../v1'.")
