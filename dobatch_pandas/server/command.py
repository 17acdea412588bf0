"""``dobatch serve``: the embedded server as a command."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from dobatch_pandas.errors import DobatchError

from .faults import FAILURES, Faults
from .local import LocalServer
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
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, help="0 lets the system choose (default: %(default)s)")
    add("--home", help="folder whose batches survive a restart (default: a temporary one)")
    add("--wire", choices=WIRES, default="A", help="which description of the service is followed")
    add("--token", help="the only token that is accepted (default: any)")
    add("--concurrency", type=int, help="requests executed at once (default: what the model likes)")
    add("--rate-limit", metavar="MINUTE,HOUR", type=_rate_limit, default=(250, 5000), help="calls, or 'none'")
    add("--url-lifetime", type=float, default=900.0, metavar="SECONDS", help="of signed addresses")
    add("--enqueued-tokens", type=int, metavar="N", help="limit on the tokens of all open batches")
    add("--endpoint-rule", choices=("either", "always", "openai_only"), default="either")
    add(
        "--not-ready",
        choices=("flag", "412"),
        default="flag",
        help="how results answer that are not there yet",
    )
    trouble = parser.add_argument_group("trouble on demand")
    trouble.add_argument(
        "--latency", type=float, default=0.0, metavar="SECONDS", help="of every request of a batch"
    )
    trouble.add_argument(
        "--api-latency", type=float, default=0.0, metavar="SECONDS", help="of every API call"
    )
    trouble.add_argument("--fail-share", type=float, default=0.0, metavar="SHARE", help="of requests, 0 to 1")
    trouble.add_argument(
        "--fail-kinds", type=_kinds, default=FAILURES, metavar="KIND,...", help=", ".join(FAILURES)
    )
    trouble.add_argument(
        "--fail-times", type=int, metavar="N", help="a request fails so often, then succeeds"
    )
    trouble.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        metavar="OPERATION:SETTING=VALUE,...",
        help="such as create_batch:status=503,times=2 or download:cut=1000 or get_batch:drop=after",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    server = LocalServer(
        args.model,
        wire=args.wire,
        port=args.port,
        host=args.host,
        home=args.home,
        token=args.token,
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
    )
    for operation, settings in args.fault:
        server.faults.add(operation, **settings)
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            print(f"Serving the model {args.model} at {server.url} (wire {args.wire}). Ctrl+C ends it.\n")
            print("In the shell or notebook that uses it:\n")
            print(f"    export DOBATCH_BASE_URL={server.url}")
            print(f"    export DIGITALOCEAN_TOKEN={server.token}\n", flush=True)
            # Windows delivers Ctrl+C only to a wait that ends now and then.
            while not over.wait(1.0 if sys.platform == "win32" else None):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print("Stopped." if args.home is None else f"Stopped; {args.home} holds what is not done yet.")
    return 0


def serve(argv: Sequence[str] | None = None) -> int:
    """Parse arguments and serve; errors of ours go to stderr without a traceback."""
    parser = argparse.ArgumentParser("dobatch serve", description=__doc__)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except DobatchError as problem:
        print(problem, file=sys.stderr)
        return 1


def _rate_limit(text: str) -> tuple[int, int] | None:
    if text.lower() == "none":
        return None
    minute, hour = text.split(",")
    return int(minute), int(hour)


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
        settings[name] = _SETTINGS[name](value)
    try:
        Faults().add(operation, **settings)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return operation, settings
