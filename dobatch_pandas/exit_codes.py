"""
What the exit status of ``dobatch`` says, so that a scheduler knows what to do next.

======  ===========  ================================================================================
status  name         meaning
======  ===========  ================================================================================
0       DONE         what was asked is done; for a job: it is over, and there are answers
1       ERROR        it cannot be done as it was asked; one line on stderr says why
2       USAGE        the command is not understood
66      UNKNOWN      there is no job of this id on this machine: never, or forgotten
69      NO_SERVICE   the service cannot be reached, or is in trouble; the job goes on when asked again
75      NOT_YET      the job goes on at the service: run the same command again later
77      NO_TOKEN     there is no token, or the service does not accept it
80      FAILED       the job is over, and not one row has an answer
81      HELD         a person is needed: max_cost holds what is left, or this machine cannot go on
82      CANCELLED    the job was cancelled; what was answered before is kept
83      EXPIRED      the 24 hours ended first; what was answered is kept, and ``retry`` sends the rest
130     STOPPED      Ctrl+C; the job goes on
141     UNREAD       whoever read the output has gone, as after ``| head``; the job goes on
======  ===========  ================================================================================

75 and 77 are those of ``sysexits.h`` (EX_TEMPFAIL, EX_NOPERM), and so are 66 and 69.
"""

from __future__ import annotations

from enum import IntEnum

from .config import settings
from .errors import (
    BudgetExceeded,
    ConfigurationError,
    ConnectionFailed,
    DobatchError,
    Forbidden,
    JobNotFound,
    JobNotReady,
    ServerError,
    TooManyRequests,
    Unauthorized,
    WaitTimeout,
)

__all__ = ["Exit", "exit_of_error", "exit_of_status"]


class Exit(IntEnum):
    """The exit statuses of every command."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    UNKNOWN = 66
    NO_SERVICE = 69
    NOT_YET = 75
    NO_TOKEN = 77
    FAILED = 80
    HELD = 81
    CANCELLED = 82
    EXPIRED = 83
    STOPPED = 130
    UNREAD = 141


_OF_ERROR: tuple[tuple[type[DobatchError], Exit], ...] = (
    (JobNotFound, Exit.UNKNOWN),
    (JobNotReady, Exit.NOT_YET),
    (WaitTimeout, Exit.NOT_YET),
    (BudgetExceeded, Exit.HELD),
    (Unauthorized, Exit.NO_TOKEN),
    (Forbidden, Exit.NO_TOKEN),
    (ConnectionFailed, Exit.NO_SERVICE),
    (ServerError, Exit.NO_SERVICE),
    (TooManyRequests, Exit.NO_SERVICE),
)


def exit_of_error(error: DobatchError) -> Exit:
    """Return what an error means to whoever started the command."""
    for kind, code in _OF_ERROR:
        if isinstance(error, kind):
            return code
    if isinstance(error, ConfigurationError) and not settings().token and "token" in str(error):
        return Exit.NO_TOKEN
    return Exit.ERROR


def exit_of_status(status: str, *, answered: bool) -> Exit:
    """
    Return what a job's word means; one that is not over is not done yet.

    Parameters
    ----------
    status : str
        As ``job.status``.
    answered : bool
        Whether any row has an answer, or none was to have one.
    """
    match status:
        case "cancelled":
            return Exit.CANCELLED
        case "expired":
            return Exit.EXPIRED
        case "failed":
            return Exit.FAILED
        case "completed":
            return Exit.DONE if answered else Exit.FAILED
        case "paused":
            return Exit.HELD
    return Exit.NOT_YET
