"""What a job looks like at one moment: the numbers every drawing shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dobatch_pandas.codes import ErrorGroup

__all__ = ["BatchRow", "Snapshot", "State"]

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
        Requests that have ended, reused ones not counted; ``failed`` includes rows found bad at reading.
    parts, uploaded : int or None
        Files the job is split into (None until rendering has ended), and how many the service has accepted.
    started, ended, deadline : float or None
        Unix seconds; the deadline is the earliest end of a batch's window.
    eta : float or None
        Seconds left, estimated from the pace so far.
    cost : float or None
        US dollars so far, from what the service reported; None where no price is known.
    problem : str or None
        Why it failed or paused, in words, with what to do.
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
    errors: tuple[ErrorGroup, ...] = ()
    batches: tuple[BatchRow, ...] = ()
    problem: str | None = None
    attached_elsewhere: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will happen without a person asking for it."""
        return self.state in ("completed", "failed", "expired", "cancelled")

    @property
    def to_send(self) -> int:
        """Requests that go to the service: all but the reused ones."""
        return self.requests - self.reused
