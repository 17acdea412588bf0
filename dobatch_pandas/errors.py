"""
Everything this package raises, as one tree.

::

    DobatchError                    catch this to catch all of ours
    ├── InputError (ValueError)     what was asked cannot be sent; found before anything is; `.problems`
    ├── ConfigurationError          no token, an address that is not safe, a folder that cannot be written
    ├── MissingExtra (ImportError)  an optional dependency is absent; names the command that installs it
    ├── ApiError                    the service answered with an error: `.status .id .message .request_id`
    │   ├── BadRequest              400, 422
    │   ├── Unauthorized            401
    │   ├── Forbidden               403
    │   ├── NotFound                404
    │   ├── Conflict                409
    │   ├── NotReady                412
    │   ├── TooManyRequests         429
    │   └── ServerError             5xx
    ├── ConnectionFailed            no answer: refused, reset, stalled, unknown host
    ├── TransferError               bytes did not move whole to or from a signed address
    │   ├── LinkRefused             storage answered 403: expired, or not what was signed
    │   ├── ObjectGone              storage answered 404 or 410: nothing lies at the address
    │   └── Truncated               fewer or other bytes than announced
    ├── ServerProblem               the embedded server could not start, or its model is missing
    └── JobError                    about one job; `.job_id`
        ├── JobNotFound
        ├── JobFailed               no answer can come any more, and why
        ├── JobNotReady             asked for results that are not there yet
        ├── WaitTimeout (TimeoutError)
        └── BudgetExceeded          the estimate is above `max_cost`; nothing was sent
    StoppedWaiting (KeyboardInterrupt)   Ctrl+C or the stop button ended a wait; the job continues

In a notebook or IPython these show their message instead of a traceback; ``%tb Plain`` shows the traceback, too.
Everywhere else they are ordinary exceptions.

A row that fails is not an exception: it is a code in the ``<into>_error`` column.
"""

from __future__ import annotations

import inspect
import linecache
import math
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from types import TracebackType
from typing import Any

__all__ = [
    "ApiError",
    "BadRequest",
    "BudgetExceeded",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "DobatchError",
    "Forbidden",
    "InputError",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobNotReady",
    "LinkRefused",
    "MissingExtra",
    "NotFound",
    "NotReady",
    "ObjectGone",
    "Problem",
    "RequirementNotMet",
    "ServerError",
    "ServerProblem",
    "TooManyRequests",
    "TransferError",
    "Truncated",
    "Unauthorized",
    "WaitTimeout",
    "outside",
]


# The red is set twice: pages of notebooks that are not trusted drop what is not a plain colour.
_HTML_STYLE = (
    "font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:13px;line-height:1.5;"
    "border-left:3px solid #d64545;border-left:3px solid var(--jp-error-color1, #d64545);"
    "padding:2px 0 2px 12px;overflow-wrap:anywhere"
)


def _plain_html(value: object) -> str:
    # Pages typeset `$x$` and `\(x\)` where both ends stand in one run of text; elements part them.
    return "".join(f"<span>{c}</span>" if c in "$\\" else escape(c) for c in str(value))


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FULL_MODES = ("Plain", "Verbose", "Docs")


class _Sentence(BaseException):
    """Shows its message in IPython, and the caller's own line, instead of a traceback that ends in them."""

    def _render_traceback_(self) -> list[str]:
        shell = _ipython()
        ultratb = getattr(shell, "InteractiveTB", None)
        if getattr(ultratb, "mode", None) in _FULL_MODES:
            # The user asked for it: `%tb Plain`, or `%xmode`.
            return list(ultratb.structured_traceback(type(self), self, self.__traceback__))  # type: ignore[union-attr]
        # Bold and no colour: JupyterLab lays errors on red, in the dark too.
        bold, grey, end = "\x1b[1m", "\x1b[2m", "\x1b[0m"
        if str(getattr(shell, "colors", "")).lower() == "nocolor":
            bold = grey = end = ""
        title, *rest = _message_lines(self)
        lines = [f"{bold}{type(self).__name__}{end}: {title}", *rest]
        where = _own_line(self.__traceback__)
        lines += [
            "",
            *([f"{grey}  {where}{end}"] if where else []),
            f"{grey}  Full traceback: %tb Plain{end}",
        ]
        # In one piece: the mode Minimal puts the pieces after each other as they are.
        return ["\n".join(lines)]


def _ipython() -> Any:
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def _message_lines(error: BaseException) -> list[str]:
    """The message, with the rows of each problem on a line of their own."""
    problems: tuple[Problem, ...] = getattr(error, "problems", ())
    if not any(problem.rows for problem in problems):
        return str(error).split("\n")
    if len(problems) == 1:
        return [*problems[0].message.split("\n"), *problems[0].table()]
    lines = [f"{len(problems)} problems, nothing was sent"]
    for number, problem in enumerate(problems, 1):
        first, *rest = problem.message.split("\n")
        lines += [f"  {number}. {first}", *(f"     {line}" for line in [*rest, *problem.table()])]
    return lines


def _own_line(trace: TracebackType | None) -> str:
    """The last line of the caller's own code before ours; empty where there is none to show."""
    libraries = (os.path.dirname(os.__file__) + os.sep, sysconfig.get_path("purelib") + os.sep)
    own = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if os.path.abspath(name).startswith(_HERE):
            break
        # What a library does on the way, such as `copy.deepcopy`, is no line that the caller wrote.
        if own is None or not os.path.abspath(name).startswith(libraries):
            own = (name, trace.tb_lineno)
        trace = trace.tb_next
    if own is None:
        return ""
    name, number = own
    line = linecache.getline(name, number).strip()
    # IPython names the file of a cell as it likes; such a name helps nobody.
    cell = name.startswith("<") or "ipykernel_" in name
    place = f"line {number}" if cell else f"{os.path.basename(name)}, line {number}"
    return f"{place}: {line[:160]}" if line else place


class DobatchError(_Sentence, Exception):
    """The root of every exception that this package raises on purpose."""

    def _repr_html_(self) -> str:
        problems: list[Problem] = getattr(self, "problems", [])
        if len(problems) > 1:
            title = f"{type(self).__name__}: {len(problems)} problems, nothing was sent"
            items = "".join(f"<li>{_plain_html(problem)}</li>" for problem in problems)
            body = f'<ol style="margin:4px 0 0;padding-left:2em">{items}</ol>'
        else:
            title = type(self).__name__
            body = f'<div style="white-space:pre-wrap">{_plain_html(self)}</div>'
        return f'<div style="{_HTML_STYLE}"><b>{title}</b>{body}</div>'


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with the input.

    Parameters
    ----------
    message : str
        What is wrong, with the values, and what to do.
    rows : tuple
        Labels of the rows concerned, in the frame's order; empty where no row is to blame.
    count : int
        How many rows are concerned; may be more than ``rows`` names.
    """

    message: str
    rows: tuple[Any, ...] = ()
    count: int = 0

    def table(self) -> list[str]:
        """The labels of the rows concerned as lines of their own, for a person to read."""
        if not self.rows:
            return []
        count = max(self.count, len(self.rows))
        shown = [repr(label)[:40] for label in self.rows[:10]]
        title = "rows" if count > 1 else "row"
        lines: list[str] = []
        for label in shown:
            # As many labels on a line as are read at a glance.
            if lines and len(lines[-1]) + len(label) < 88:
                lines[-1] += f", {label}"
            else:
                lines.append(f"  {'' if lines else title:<6}{label}")
        if count > len(shown):
            lines[-1] += f"  and {count - len(shown):,} more"
        return lines

    def __str__(self) -> str:
        if not self.rows:
            return self.message
        shown = ", ".join(repr(label) for label in self.rows[:10])
        count = max(self.count, len(self.rows))
        more = f" and {count - 10:,} more" if count > 10 else ""
        return f"{self.message} (row{'s' if count > 1 else ''} {shown}{more})"


def in_dollars(amount: float) -> str:
    """
    An amount in a sentence: to the cent, or to four digits that say something; never as 1e-05 or 1.2e+04.

    Examples
    --------
    >>> in_dollars(12345.678), in_dollars(0.5), in_dollars(0.000012344)
    ('$12,345.68', '$0.50', '$0.00001234')
    """
    small = 0 < amount < 10
    whole, _, cents = f"{amount:,.{3 - math.floor(math.log10(amount)) if small else 2}f}".partition(".")
    return f"${whole}.{cents.rstrip('0').ljust(2, '0')}" if cents else f"${whole}"


class InputError(DobatchError, ValueError):
    """
    What was asked cannot be sent. Every problem is listed; nothing has left this machine.

    Attributes
    ----------
    problems : tuple of Problem
    """

    def __init__(self, problems: Problem | str | Sequence[Problem | str]) -> None:
        if isinstance(problems, (Problem, str)):
            problems = [problems]
        self.problems = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        if len(self.problems) == 1:
            text = str(self.problems[0])
        else:
            text = f"{len(self.problems)} problems, nothing was sent:" + "".join(
                f"\n  {number}. {problem}" for number, problem in enumerate(self.problems, 1)
            )
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.problems),)


class RequirementNotMet(DobatchError, AssertionError):
    """An evaluation is not as good as was required; the message says in what."""


class ConfigurationError(DobatchError):
    """A setting is missing or unsafe; the message names the setting and the cure."""


class MissingExtra(DobatchError, ImportError):
    """
    An optional dependency is not installed.

    Parameters
    ----------
    feature : str
        What was asked for, in words.
    extra : str
        Name of the extra that has it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(f'{feature} needs an optional part: pip install "dobatch-pandas[{extra}]"')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra)


class ApiError(DobatchError):
    """
    The service answered, and the answer is an error.

    Parameters
    ----------
    message : str
        The service's own words, or the start of what a proxy answered in its place.
    status : int
        HTTP status.
    id : str, optional
        The service's error id, such as ``"not_found"``.
    request_id : str, optional
        What to quote to the service's support.
    retry_after : float, optional
        Seconds to wait, where the service said so.
    operation : str, optional
        What was being done, in words: ``"create a batch"``.

    Attributes
    ----------
    page : bool
        It is no JSON of the service, but a page, a text or nothing, as those in between answer: nobody knows what the
        service itself says, or has done.
    """

    page = False

    def __init__(
        self,
        message: str,
        *,
        status: int,
        id: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        operation: str | None = None,
    ) -> None:
        self.message, self.status, self.id = message, status, id
        self.request_id, self.retry_after, self.operation = request_id, retry_after, operation
        named = f" ({id})" if id else ""
        doing = f"Could not {operation}: the" if operation else "The"
        quote = f" [request_id {request_id}]" if request_id else ""
        super().__init__(f"{doing} service answered {status}{named}: {message}{quote}")

    @property
    def no_room(self) -> bool:
        """Whether the reason is the provider's limit on enqueued tokens: room appears as batches end."""
        return is_no_room(self.message, self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _api_error, (type(self), self.message, self.status, self.id, self.request_id,
                            self.retry_after, self.operation)  # fmt: skip


def is_no_room(message: str, code: str | None = None) -> bool:
    """Say whether an error's words are those of a limit on enqueued tokens."""
    # "token limit" alone is not enough: the limit of an answer's tokens is one too, and no waiting mends it.
    return code == "token_limit_exceeded" or "enqueued" in f"{message} {code or ''}".lower()


def _api_error(
    kind: type[ApiError],
    message: str,
    status: int,
    id: str | None,
    request_id: str | None,
    retry_after: float | None,
    operation: str | None,
) -> ApiError:
    return kind(message, status=status, id=id, request_id=request_id, retry_after=retry_after,
                operation=operation)  # fmt: skip


class BadRequest(ApiError):
    """400 or 422: the service does not accept what was asked."""


class Unauthorized(ApiError):
    """401: the token is missing, wrong or expired. Give another with ``dobatch.configure(token=...)``."""


class Forbidden(ApiError):
    """403: the token may not do this. Give another with ``dobatch.configure(token=...)``."""


class NotFound(ApiError):
    """404: the service does not know this id, or no longer."""


class Conflict(ApiError):
    """409: the state does not allow it, or the same ``request_id`` came with another file."""


class NotReady(ApiError):
    """412: results are not available yet."""


class TooManyRequests(ApiError):
    """429: the rate limit, or the provider's limit on enqueued tokens."""


class ServerError(ApiError):
    """5xx: the service, or a proxy before it, is in trouble."""


class ConnectionFailed(DobatchError):
    """
    No answer came: refused, reset, stalled, or a host that cannot be found. The call may be repeated.

    ``sent`` is False where the host was not reached, so that nothing can have been done.
    """

    sent = True


class TransferError(DobatchError):
    """Bytes did not move whole to or from a signed address."""


class LinkRefused(TransferError):
    """Storage answered 403: the address has expired, or the request is not what was signed. Ask for a new one."""


class ObjectGone(TransferError):
    """Storage answered 404 or 410: nothing lies at the address, or nothing any more."""


class Truncated(TransferError):
    """Fewer or other bytes arrived than were announced."""


class ServerProblem(DobatchError):
    """The embedded server could not start, or the model it should run is not there."""


class JobError(DobatchError):
    """Something about one job; ``job_id`` says which."""

    def __init__(self, message: str, job_id: str | None = None) -> None:
        self.job_id = job_id
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.job_id)


class JobNotFound(JobError):
    """No job of this id in this home folder."""


class JobFailed(JobError):
    """No answer can come any more; the message says why, and what to do."""


class JobNotReady(JobError):
    """Results were asked for that are not there yet: ``job.wait()`` first."""


class WaitTimeout(JobError, TimeoutError):
    """The time given to ``wait`` is over; the job goes on."""


class StoppedWaiting(_Sentence, KeyboardInterrupt):
    """Ctrl+C or the stop button ended a wait. The job continues; the message says how to come back to it."""


class BudgetExceeded(JobError):
    """The estimate is above ``max_cost``; nothing was sent."""


def outside() -> int:
    """Return how far up the stack the caller outside this package is: the `stacklevel` of a warning."""
    package = __name__.partition(".")[0]
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return max(level - 1, 1)
