"""What a job looks like at one moment: the numbers every drawing shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from dobatch_pandas.codes import RETRYABLE, ErrorGroup

__all__ = ["SHOWN", "BatchRow", "Expected", "Snapshot", "State"]

State = Literal[
    "recorded",  # on disk, nothing has left yet
    "rendering",  # rows become request lines
    "uploading",  # parts go to storage, batches are created
    "queued",  # the service has every batch and works on none
    "running",
    "finalizing",  # every request has ended, the service writes its files
    "downloading",  # output and error files come in and are read
    "cancelling",
    "paused",  # needs a person: `problem` says what (a new token, say)
    "completed",
    "failed",
    "expired",
    "cancelled",
]


# In words, as a sign that says it where colours are not seen, and in what colour.
SHOWN: dict[State, tuple[str, str, Literal["blue", "amber", "green", "red", "grey"]]] = {
    "recorded": ("Saved", "○", "blue"),
    "rendering": ("Preparing", "●", "blue"),
    "uploading": ("Uploading", "↑", "blue"),
    "queued": ("Queued", "○", "blue"),
    "running": ("Running", "▶", "blue"),
    "finalizing": ("Writing results", "●", "blue"),
    "downloading": ("Reading answers", "↓", "blue"),
    "cancelling": ("Cancelling", "×", "amber"),
    "paused": ("Paused", "!", "amber"),
    "completed": ("Done", "✓", "green"),
    "failed": ("Failed", "✗", "red"),
    "expired": ("Expired", "×", "grey"),
    "cancelled": ("Cancelled", "×", "grey"),
}


@dataclass(frozen=True)
class BatchRow:
    """
    One part of a job.

    ``state`` is ours before the service knows the batch (``rendered``, ``uploading``, ``uploaded``, ``held``)
    and the service's word after. ``requests``, ``completed`` and ``failed`` count requests, ``bytes`` the
    part's size. Times are Unix seconds.
    """

    part: int
    batch_id: str | None
    state: str
    requests: int
    completed: int
    failed: int
    bytes: int
    created_at: float | None = None
    deadline: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Expected:
    """
    What a job may cost, in US dollars as a batch.

    Parameters
    ----------
    least : float
        The questions alone.
    most : float or None
        With the longest answers; None where nothing limits them.
    bound : float or None
        What the job cannot exceed; None where nobody holds it to that.
    counted : bool
        Whether all requests were counted, not only some of them.
    """

    least: float
    most: float | None
    bound: float | None = None
    counted: bool = False

    def of(self, share: float) -> Expected:
        """Return the same for a part of the requests."""
        return Expected(
            self.least * share, None if self.most is None else self.most * share, self.bound, self.counted
        )


@dataclass(frozen=True)
class Snapshot:
    """
    Everything a drawing needs, gathered once. Counts are of requests unless said otherwise.

    Parameters
    ----------
    rows : int
        Rows of the frame.
    requests : int
        Distinct requests, samples included: what has to be answered.
    reused : int
        Requests answered by earlier jobs, not sent again.
    skipped : int
        Rows never sent (missing input, too large).
    rendered : int
        Rows turned into requests so far.
    completed, failed : int
        Requests that are finished, reused ones not counted; ``failed`` includes rows found bad at reading.
    cancelled, expired : int
        Those of ``failed`` that were never run, because their batch was cancelled or its window closed.
    round : int
        0 as submitted, one more with each retry.
    parts, uploaded : int or None
        Files the job is split into (None until rendering has ended), and how many the service has accepted.
    started, ended, deadline : float or None
        Unix seconds; the deadline is the earliest end of a batch's window.
    eta : float or None
        Seconds left, estimated from the pace so far.
    cost : float or None
        US dollars so far, from what the service reported; None where no price is known.
    expected : Expected or None
        What it may cost, once that was worked out.
    expect : callable or None
        Works that out, in a second or so; later snapshots have it. None where there is nothing to work out.
    dataset : bool
        The answers go to files, not onto a frame.
    problem : str or None
        Why it failed or paused, in words, with what to do.
    notes : tuple of str
        What else is to be said, each in a sentence.
    """

    job_id: str
    state: State
    model: str
    provider: str
    endpoint: str
    into: str
    rows: int
    requests: int
    reused: int = 0
    skipped: int = 0
    rendered: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    round: int = 0
    parts: int | None = None
    uploaded: int = 0
    upload_share: float | None = None
    started: float = 0.0
    ended: float | None = None
    deadline: float | None = None
    eta: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    expected: Expected | None = None
    expect: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    dataset: bool = False
    errors: tuple[ErrorGroup, ...] = ()
    batches: tuple[BatchRow, ...] = ()
    problem: str | None = None
    notes: tuple[str, ...] = ()
    attached_elsewhere: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will happen without a person asking for it."""
        return self.state in ("completed", "failed", "expired", "cancelled")

    @property
    def to_send(self) -> int:
        """Requests that go to the service: all but the reused ones."""
        return self.requests - self.reused

    @property
    def refused(self) -> int:
        """Requests that were run and failed."""
        return max(0, self.failed - self.cancelled - self.expired)

    @property
    def never_run(self) -> int:
        """Requests that the service gave back without running them."""
        return min(self.failed, self.cancelled + self.expired)

    @property
    def worth_retrying(self) -> int:
        """Requests that were run and failed for a reason that can change."""
        return sum(
            group.count for group in self.errors if group.code in RETRYABLE and group.code not in NEVER_RUN
        )


NEVER_RUN = ("cancelled", "expired")
"""Codes of requests that the service gave back without running them."""
