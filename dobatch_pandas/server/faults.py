"""
Trouble on demand: what a test, or someone trying out their own code, asks the server to do wrong.

Three kinds, all of them changed while the server runs, from any thread:

* `Faults.add`: the next calls of one operation go wrong (a status, a dropped connection, a late answer);
* `Faults.fail_share`: so many of the requests of every batch fail, always the same ones;
* `Faults.spoil`: the next result files hold missing, doubled, foreign or torn lines.
"""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .clock import MOST_SECONDS

__all__ = ["FAILURES", "OPERATIONS", "Failure", "Fault", "Faults", "Spoil"]

OPERATIONS = (
    "create_file",
    "upload",
    "create_batch",
    "list_batches",
    "get_batch",
    "cancel_batch",
    "get_results",
    "download",
    "infer",
)

Failure = Literal["rate_limited", "server_error", "bad_request", "content_filter", "empty"]
FAILURES: tuple[Failure, ...] = ("rate_limited", "server_error", "bad_request", "content_filter", "empty")


@dataclass
class Fault:
    """
    What goes wrong with a call. Several fields may be set at once; they act in the order given here.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`, or ``"*"`` for any of them.
    times : int or None
        How many calls it concerns; None means until `Faults.clear`.
    skip : int
        How many calls pass unharmed first.
    delay : float
        Seconds before anything else happens.
    drop : str, optional
        ``"before"`` cuts the connection without doing anything; ``"after"`` does what was asked, and cuts it
        without an answer.
    status : int, optional
        HTTP status to answer with, without doing anything.
    body : str, optional
        What to answer; by default an HTML page as a proxy would send for a 5xx, else an error of the service.
    retry_after : float, optional
        Seconds for the ``retry-after`` header.
    cut : int, optional
        The connection breaks after so many bytes of the body have come in (uploads) or gone out (all others).
    expire : bool
        The signed address is refused with 403: at once, or, with ``cut``, from the next call on.
    word : str, optional
        The status that a batch is said to have.
    """

    operation: str
    times: int | None = 1
    skip: int = 0
    delay: float = 0.0
    drop: Literal["before", "after"] | None = None
    status: int | None = None
    body: str | None = None
    retry_after: float | None = None
    cut: int | None = None
    expire: bool = False
    word: str | None = None

    def __post_init__(self) -> None:
        if self.operation != "*" and self.operation not in OPERATIONS:
            raise ValueError(f"No operation {self.operation!r}; there are {', '.join(OPERATIONS)} and '*'.")
        if self.drop not in (None, "before", "after"):
            raise ValueError(f"drop must be 'before' or 'after', not {self.drop!r}")
        if self.status is not None and not 100 <= self.status <= 599:
            raise ValueError(f"status must be an HTTP status, not {self.status!r}")
        for name in ("body", "word"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ValueError(f"{name} must be a text")
        for name in ("times", "skip", "delay", "retry_after", "cut"):
            value = getattr(self, name)
            known = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (known and 0 <= value <= MOST_SECONDS):
                raise ValueError(f"{name} must be a number from 0 to {MOST_SECONDS:,.0f}, not {value!r}")


@dataclass
class Spoil:
    """How many lines are left out, doubled, or added for a request nobody made; whether the last is torn."""

    missing: int = 0
    doubled: int = 0
    foreign: int = 0
    torn: bool = False
    times: int | None = 1

    def apply(self, lines: list[bytes], seed: int) -> list[bytes]:
        """Return the lines of a result file (each with its newline) with the damage done."""
        draw = random.Random(seed)
        lines = list(lines)
        for _ in range(min(self.missing, len(lines))):
            del lines[draw.randrange(len(lines))]
        for _ in range(self.doubled if lines else 0):
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
        for number in range(self.foreign):
            stranger = (
                b'{"id":"batch_req_foreign","custom_id":"foreign-%d","response":{"status_code":200,"request_id":"r",'
                b'"body":{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":'
                b'"not yours"}}]}},"error":null}\n' % number
            )
            lines.insert(draw.randrange(len(lines) + 1), stranger)
        if self.torn and lines:
            lines[-1] = lines[-1][: max(1, len(lines[-1]) // 2)]
        return lines


@dataclass
class Faults:
    """
    Everything that is to go wrong.

    Parameters
    ----------
    fail_share : float
        Share of requests, from 0 to 1, that fail. Which ones depends on their ``custom_id`` alone.
    fail_kinds : sequence of str
        How they fail, drawn by ``custom_id`` too: ``rate_limited`` (429 in the error file), ``server_error``
        (no response, an error), ``bad_request`` (400 in the *output* file, ``error`` null),
        ``content_filter`` (200 without text), ``empty`` (status 0, empty body, in the output file).
    fail_times : int or None
        How often a request fails before it succeeds; None means always.
    latency : float
        Seconds that every request of a batch takes, on top of the model's own time.
    api_latency : float
        Seconds that every API call takes.
    """

    fail_share: float = 0.0
    fail_kinds: tuple[Failure, ...] = FAILURES
    fail_times: int | None = None
    latency: float = 0.0
    api_latency: float = 0.0
    _calls: list[Fault] = field(default_factory=list)
    _spoils: list[Spoil] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self,
        operation: str,
        *,
        times: int | None = 1,
        skip: int = 0,
        delay: float = 0.0,
        drop: Literal["before", "after"] | None = None,
        status: int | None = None,
        body: str | None = None,
        retry_after: float | None = None,
        cut: int | None = None,
        expire: bool = False,
        word: str | None = None,
    ) -> Fault:
        """Let the next calls of an operation go wrong; the parameters are those of `Fault`."""
        fault = Fault(operation, times, skip, delay, drop, status, body, retry_after, cut, expire, word)
        with self._lock:
            self._calls.append(fault)
        return fault

    def spoil(
        self,
        *,
        missing: int = 0,
        doubled: int = 0,
        foreign: int = 0,
        torn: bool = False,
        times: int | None = 1,
    ) -> None:
        """Damage the output files of the next ``times`` batches that end (None: of all of them)."""
        with self._lock:
            self._spoils.append(Spoil(missing, doubled, foreign, torn, times))

    def pending(self) -> tuple[list[Fault], list[Spoil]]:
        """What is to go wrong with calls, and with result files."""
        with self._lock:
            return list(self._calls), list(self._spoils)

    def clear(self) -> None:
        """Let everything go right again; latencies and ``fail_share`` included."""
        with self._lock:
            self._calls.clear()
            self._spoils.clear()
        self.fail_share = self.latency = self.api_latency = 0.0

    def take(self, operation: str) -> Fault | None:
        """The fault for this call, if one is due; it is used up by asking."""
        if not self._calls:
            return None
        with self._lock:
            for fault in self._calls:
                if fault.operation not in (operation, "*"):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    return None
                _use_up(fault, self._calls)
                return fault
        return None

    def take_spoil(self) -> Spoil | None:
        """The damage for the result file that is being written, if any is due."""
        with self._lock:
            if not self._spoils:
                return None
            spoil = self._spoils[0]
            _use_up(spoil, self._spoils)
            return spoil

    def failure(self, custom_id: str, executed: int = 0) -> Failure | None:
        """
        How the request of this id fails, or None; ``executed`` says how often it was run before.

        The same id always gets the same answer, so a test can foretell every failure.
        """
        if self.fail_share <= 0 or (self.fail_times is not None and executed >= self.fail_times):
            return None
        drawn = zlib.crc32(custom_id.encode())
        if (drawn % 1_000_003) / 1_000_003 >= self.fail_share:
            return None
        return self.fail_kinds[(drawn >> 7) % len(self.fail_kinds)]

    def failing(self, custom_ids: Iterable[str]) -> dict[str, Failure]:
        """Those of the ids that `fail_share` lets fail, and how."""
        return {one: kind for one in custom_ids if (kind := self.failure(one)) is not None}


def _use_up(one: Fault | Spoil, among: list[Fault] | list[Spoil]) -> None:
    if one.times is None:
        return
    one.times -= 1
    if one.times <= 0:
        among.remove(one)  # type: ignore[arg-type]
