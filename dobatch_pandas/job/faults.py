"""What an exception means to the machine: the one place where errors of the service, storage and disk become a `Fault`."""

from __future__ import annotations

import re
from typing import Any

from dobatch_pandas.errors import (
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    DobatchError,
    JobError,
    LinkRefused,
    ObjectGone,
    TransferError,
)

from .machine import Fault, FaultKind

__all__ = ["FaultSeen", "fault_of", "sentence"]

_BY_STATUS: dict[int, FaultKind] = {
    401: "token",
    403: "token",
    404: "unknown",
    407: "strange",
    408: "strange",
    409: "conflict",
    410: "gone",
    412: "not_ready",
    425: "not_ready",
    429: "busy",
}

_OF_THE_SERVICE: frozenset[FaultKind] = frozenset(["refused", "unknown", "conflict", "gone", "not_ready"])

# The service's words where it does not find the object that was uploaded; its documentation names no code for it.
_ABOUT_FILE = re.compile(
    r"(input|uploaded|request)?[ _-]?(file|object|upload)\w*.{0,60}"
    r"(not|n't|no such|missing|unknown|invalid file|expired)|not (been )?uploaded|no such (file|object)",
    re.IGNORECASE | re.DOTALL,
)


_NO_THREAD = re.compile(r"can't (start|create) new thread")


class FaultSeen(DobatchError):
    """What went wrong on another machine, where it was found out what it means."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.words)
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.fault,)


def fault_of(error: BaseException) -> Fault:
    """Return what an exception means, with words for a person."""
    if isinstance(error, FaultSeen):
        return error.fault
    words = sentence(str(error) or type(error).__name__)
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, ApiError):
        return Fault(
            _kind_of_status(error),
            words,
            retry_after,
            enqueued=error.no_room,
            about_file=bool(_ABOUT_FILE.search(error.message)),
        )
    if isinstance(error, LinkRefused):
        return Fault("link", words)
    if isinstance(error, ObjectGone):
        return Fault("no_object", words)
    if isinstance(error, TransferError):
        return Fault("torn", words)
    if isinstance(error, ConnectionFailed):
        return Fault("silent", words, retry_after)
    if isinstance(error, ConfigurationError):
        return Fault("token", words)
    if isinstance(error, OSError):
        return Fault("disk", f"This machine cannot read or write the job's files: {words}")
    if isinstance(error, MemoryError):
        return Fault("disk", f"This machine has not enough free memory at the moment: {words}")
    if isinstance(error, RuntimeError) and _NO_THREAD.search(words):
        return Fault("disk", f"This machine starts no thread at the moment, as where too many run: {words}")
    if isinstance(error, JobError):
        return Fault("rows", words)
    if isinstance(error, DobatchError):
        return Fault("bug", words)
    return Fault(
        "bug", f"A fault of dobatch_pandas itself, please report it: {type(error).__name__}: {words}"
    )


def sentence(words: str) -> str:
    """Return words of others so that a sentence of ours can follow."""
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def _kind_of_status(error: ApiError) -> FaultKind:
    known = _BY_STATUS.get(error.status)
    if known is None:
        # Below 400 stands a redirect, or an answer that lacks what the documentation promises.
        known = "trouble" if error.status >= 500 else "refused" if error.status >= 400 else "strange"
    # What is done and known of a batch is believed of the service alone, not of what something in between has answered.
    return "strange" if error.page and known in _OF_THE_SERVICE else known
