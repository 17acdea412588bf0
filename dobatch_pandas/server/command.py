"""``dobatch serve``: the embedded server as a command."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from dobatch_pandas.errors import DobatchError, ServerProblem

from .address import shown
from .certificate import Certificate, given_certificate, make_certificate
from .clock import MOST_SECONDS
from .faults import FAILURES, Faults
from .local import LocalServer
from .pace import NotNow
from .wire import WIRES

__all__ = ["add_arguments", "run", "serve"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of the command to a parser."""
    add = parser.add_argument
    add(
        "--model",
        default="echo",
        help="echo, smollm2, minilm, or the base URL of an OpenAI-compatible server",
    )
    add("--host", type=_given, default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_whole(0, 65535), default=8000, help="0 lets the system choose (default: %(default)s)")
    add("--home", type=_given, help="folder whose batches survive a restart (default: a temporary one)")
    add("--wire", choices=WIRES, default="A", help="which description of the service is followed")
    add(
        "--concurrency",
        type=_whole(1, 10_000),
        metavar="N",
        help="requests at the model at once, of batches and real-time calls together (default: what it likes)",
    )
    add("--rate-limit", metavar="MINUTE,HOUR", type=_rate_limit, default=(250, 5000), help="calls, or 'none'")
    add("--url-lifetime", type=_seconds, default=900.0, metavar="SECONDS", help="of signed addresses")
    add("--enqueued-tokens", type=_whole(1), metavar="N", help="limit on the tokens of all open batches")
    add("--endpoint-rule", choices=("either", "always", "openai_only"), default="either")
    add(
        "--not-ready",
        choices=("flag", "412"),
        default="flag",
        help="how results answer that are not there yet",
    )
    add(
        "--not-uploaded",
        choices=(400, 409, 422),
        type=int,
        default=400,
        help="how creating a batch answers whose file was not uploaded (default: %(default)s)",
    )
    add(
        "--signed-type",
        default="",
        metavar="TYPE",
        help="content type that upload addresses are signed for (default: none, any uploads)",
    )
    add(
        "--log",
        nargs="?",
        const="-",
        metavar="FILE",
        help="a line for each call, to a file or to the terminal",
    )
    tape = parser.add_argument_group("a real service, recorded and played again")
    tape.add_argument(
        "--record",
        type=_given,
        metavar="FOLDER",
        help="pass calls on to --service, and keep the answers, no token and no signature",
    )
    tape.add_argument(
        "--service",
        default="https://inference.do-ai.run",
        metavar="URL",
        help="what --record passes calls on to (default: %(default)s)",
    )
    tape.add_argument(
        "--replay", type=_given, metavar="FOLDER", help="answer as recorded there, without any service"
    )
    safe = parser.add_argument_group("who may call it")
    safe.add_argument(
        "--token", help="the only token that is accepted; others of this machine can see it here"
    )
    safe.add_argument(
        "--token-file",
        metavar="FILE",
        help="where the token stands (default: DOBATCH_SERVER_TOKEN, or one is drawn)",
    )
    safe.add_argument(
        "--allowed-host",
        type=_given,
        action="append",
        default=[],
        metavar="NAME",
        help="a name that clients call it by, beside this machine's own; * for any",
    )
    safe.add_argument(
        "--tls", action="store_true", help="speak https, with a certificate that is made and kept"
    )
    safe.add_argument("--tls-cert", type=_given, metavar="FILE", help="speak https with this certificate")
    safe.add_argument("--tls-key", type=_given, metavar="FILE", help="its key, where that is in another file")
    trouble = parser.add_argument_group("trouble on demand")
    trouble.add_argument(
        "--latency", type=_seconds, default=0.0, metavar="SECONDS", help="of every request of a batch"
    )
    trouble.add_argument(
        "--api-latency", type=_seconds, default=0.0, metavar="SECONDS", help="of every API call"
    )
    trouble.add_argument(
        "--fail-share", type=_share, default=0.0, metavar="SHARE", help="of requests, 0 to 1"
    )
    trouble.add_argument(
        "--fail-kinds", type=_kinds, default=FAILURES, metavar="KIND,...", help=", ".join(FAILURES)
    )
    trouble.add_argument(
        "--fail-times", type=_whole(1), metavar="N", help="a request fails so often, then succeeds"
    )
    trouble.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        metavar="OPERATION:SETTING=VALUE,...",
        help="such as create_batch:status=503,times=2 or download:cut=1000 or get_batch:drop=after",
    )
    trouble.add_argument(
        "--fault-file",
        action="append",
        default=[],
        metavar="FILE",
        help="faults, one a line, written as for --fault",
    )


def run(args: argparse.Namespace, ready: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Serve until interrupted; return the exit status. `ready` hears the address and the token once it is up."""
    if args.record and args.replay:
        raise ServerProblem("Give --record or --replay, not both.")
    with contextlib.ExitStack() as stack:
        if args.record or args.replay:
            return _run_tape(args, stack, ready)
        server = _server(args, stack)
        for operation, settings in [*args.fault, *_from_files(args.fault_file)]:
            server.faults.add(operation, **settings)
        ends = _Ends()
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, ends))
        stack.enter_context(_telling())
        _raise_file_limit()
        try:
            server.start()
            _greet(server, args)
            if ready is not None:
                ready({"url": server.url, "token": server.token, "model": args.model})
            threading.Thread(target=_show_model, args=[server, ends.first], daemon=True).start()
            ends.wait()
            _drain(server, ends)
        finally:
            server.stop(0.5 if ends.count > 1 else 5.0)
    print(
        "Stopped." if args.home is None else f"Stopped; {args.home} holds what is not done yet.", flush=True
    )
    return 0


def _run_tape(
    args: argparse.Namespace, stack: contextlib.ExitStack, ready: Callable[[dict[str, Any]], None] | None
) -> int:
    """Record or play until interrupted."""
    certificate, log = _certificate_and_log(args, stack)
    from .tape import TapeServer

    tape = TapeServer(
        args.record or args.replay,
        args.service if args.record else None,
        token=_token(args),
        host=args.host,
        port=args.port,
        allowed_hosts=args.allowed_host,
        tls=certificate,
        log=log,
    )
    ends = _Ends()
    for number in (signal.SIGINT, signal.SIGTERM):
        stack.callback(signal.signal, number, signal.signal(number, ends))
    with tape:
        what = (
            f"Recording {shown(args.service)} into {args.record}" if args.record else f"Playing {args.replay}"
        )
        print(f"{what} at {tape.url}. Ctrl+C ends it.\n\n    export DOBATCH_BASE_URL={tape.url}")
        words = "Your own token of the service goes along, and is not kept."
        print(words if args.record else f"    export DIGITALOCEAN_TOKEN={tape.token}", flush=True)
        if ready is not None:
            ready({"url": tape.url, "token": None if args.record else tape.token})
        ends.wait()
    print("Stopped.", flush=True)
    return 0


def _certificate_and_log(
    args: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Certificate | None, _Log | None]:
    certificate = None
    if args.tls_cert:
        certificate = given_certificate(args.tls_cert, args.tls_key)
    elif args.tls_key:
        raise ServerProblem("--tls-key needs --tls-cert.")
    elif args.tls:
        home = args.home or stack.enter_context(tempfile.TemporaryDirectory(prefix="dobatch-tls-"))
        names = tuple(name for name in (args.host, *args.allowed_host) if name not in ("*", "0.0.0.0", "::"))
        certificate = make_certificate(Path(os.path.expanduser(home)) / "tls", names)
    log = None
    if args.log is not None:
        file = sys.stderr
        if args.log != "-":
            try:
                file = stack.enter_context(open(args.log, "a", encoding="utf-8", buffering=1))  # noqa: SIM115
            except OSError as problem:
                raise ServerProblem(f"--log {args.log} cannot be written: {problem.strerror}.") from problem
        log = _Log(file)
    return certificate, log


def _server(args: argparse.Namespace, stack: contextlib.ExitStack) -> LocalServer:
    certificate, log = _certificate_and_log(args, stack)
    server = LocalServer(
        args.model,
        wire=args.wire,
        port=args.port,
        host=args.host,
        home=args.home,
        token=_token(args),
        rate_limit=args.rate_limit,
        url_lifetime=args.url_lifetime,
        latency=args.latency,
        api_latency=args.api_latency,
        fail_share=args.fail_share,
        fail_kinds=args.fail_kinds,
        fail_times=args.fail_times,
        concurrency=args.concurrency,
        enqueued_tokens=args.enqueued_tokens,
        endpoint_rule=args.endpoint_rule,
        not_ready=args.not_ready,
        not_uploaded=args.not_uploaded,
        upload_type=args.signed_type,
        allowed_hosts=args.allowed_host,
        tls=certificate,
        log=log,
    )
    server._remembers = False
    return server


def _token(args: argparse.Namespace) -> str:
    """The token that was given in one of three ways, or a new one, as Jupyter draws it."""
    if args.token is not None and args.token_file is not None:
        raise ServerProblem("Give --token or --token-file, not both.")
    token, where = args.token, "--token"
    if args.token_file is not None:
        where = args.token_file
        try:
            token = Path(os.path.expanduser(args.token_file)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise ServerProblem(f"--token-file {args.token_file} cannot be read: {problem}.") from problem
    elif token is None and "DOBATCH_SERVER_TOKEN" in os.environ:
        token, where = os.environ["DOBATCH_SERVER_TOKEN"].strip(), "DOBATCH_SERVER_TOKEN"
    if token is None:
        return secrets.token_urlsafe(24)
    if not token or token.split() != [token] or not token.isascii():
        raise ServerProblem(f"The token of {where} must be ASCII without blanks, and not empty.")
    return str(token)


class _Ends:
    """Counts the signals that ask for the end."""

    def __init__(self) -> None:
        self.count = 0
        self.first, self.second = threading.Event(), threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        (self.first if self.count == 1 else self.second).set()

    def wait(self) -> None:
        # Windows delivers Ctrl+C only to a wait that ends now and then.
        while not self.first.wait(1.0 if sys.platform == "win32" else None):
            pass


class _Log:
    """A line for each call, with its time; a terminal or disk that takes none does not stop the server."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(time.strftime("%H:%M:%S"), line, file=self._file)


def _greet(server: LocalServer, args: argparse.Namespace) -> None:
    print(
        f"Serving the model {shown(args.model) if '://' in args.model else args.model} at {server.url} (wire {args.wire}). Ctrl+C ends it.\n"
    )
    print("In the shell or notebook that uses it:\n")
    print(f"    export DOBATCH_BASE_URL={server.url}")
    print(f"    export DIGITALOCEAN_TOKEN={server.token}")
    if server.tls is not None and server.tls.authority is not None:
        print(f"    export REQUESTS_CA_BUNDLE={server.tls.authority} SSL_CERT_FILE={server.tls.authority}")
    print(f"\nTo look at it and change it: {server.url}/#token={server.token}\n", flush=True)
    if server.host in ("0.0.0.0", "::"):
        print(
            "Other machines can reach it: whoever has the token can read prompts and use the model.",
            flush=True,
        )


def _show_model(server: LocalServer, over: threading.Event) -> None:
    """Say what the model's server has, as soon as it is there."""
    told = ""
    while not over.is_set():
        try:
            look = server.look()
            if look is not None:
                words = "\n    ".join(["The model's server has:", *look.result()])
                if not over.is_set():
                    print(words, flush=True)
            return
        except NotNow as away:
            if away.message != told and not over.is_set():
                print(f"The model is not there yet: {away.message}. Batches wait for it.", flush=True)
            told = away.message
            over.wait(3.0)
        except (ServerProblem, CancelledError):
            return  # the server is ending


def _drain(server: LocalServer, ends: _Ends) -> None:
    """Wait for what is at the model, and say so; a second signal ends that."""
    server.drain()
    told = 0
    while (busy := server.busy) and not ends.second.wait(0.05):
        if busy != told:
            requests = "1 request" if busy == 1 else f"{busy} requests"
            print(f"Waiting for {requests} at the model; Ctrl+C again drops them.", flush=True)
            told = busy


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Show on stderr what keeps work from going on, and that it goes on."""
    log = logging.getLogger("dobatch_pandas.server")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _raise_file_limit() -> None:
    """Many clients and many requests at the model take descriptors; 256 is macOS's usual limit."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = 10_240 if hard == resource.RLIM_INFINITY else min(hard, 10_240)
        if soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve(argv: Sequence[str] | None = None) -> int:
    """Parse arguments and serve; errors of ours go to stderr without a traceback."""
    parser = argparse.ArgumentParser("dobatch serve", description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        return run(arguments)
    except DobatchError as problem:
        print(problem, file=sys.stderr)
        return 1


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    bounds = f"a number from {least}" + ("" if most is None else f" to {most}")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {bounds}")
        return number

    return parse


def _given(text: str) -> str:
    """A text that is not empty: of a variable that is not set nothing is left, and nothing means something else."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: is the variable set that it comes from?")
    return text


def _up_to(most: float, what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from 0 to {most:,.0f}")
        return number

    return parse


_seconds = _up_to(MOST_SECONDS, "a number of seconds")
_share = _up_to(1, "a share")


def _rate_limit(text: str) -> tuple[int, int] | None:
    if text.lower() == "none":
        return None
    numbers = text.split(",")
    if len(numbers) != 2 or not all(number.strip().isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not MINUTE,HOUR, such as 250,5000, nor 'none'")
    minute, hour = numbers
    return int(minute), int(hour)


def _from_files(paths: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in paths:
        try:
            lines = Path(os.path.expanduser(path)).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise ServerProblem(f"--fault-file {path} cannot be read: {problem}.") from problem
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                found.append(_fault(line.strip()))
            except (argparse.ArgumentTypeError, ValueError) as problem:
                raise ServerProblem(f"--fault-file {path}, line {number}: {problem}") from None
    return found


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    unknown = [kind for kind in kinds if kind not in FAILURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no kind {unknown[0]!r}; there are {', '.join(FAILURES)}")
    return kinds


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "times": lambda text: None if text == "none" else int(text),
    "skip": int,
    "delay": float,
    "drop": str,
    "status": int,
    "body": str,
    "retry_after": float,
    "cut": int,
    "expire": lambda text: text in ("1", "true", "yes"),
    "word": str,
}


def _fault(text: str) -> tuple[str, dict[str, Any]]:
    operation, _, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        if name not in _SETTINGS:
            raise argparse.ArgumentTypeError(f"no setting {name!r}; there are {', '.join(_SETTINGS)}")
        try:
            settings[name] = _SETTINGS[name](value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{name} cannot be {value!r}") from None
    try:
        Faults().add(operation, **settings)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return operation, settings
