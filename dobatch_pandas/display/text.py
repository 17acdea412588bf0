"""A snapshot in words: what every front end says, said once."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dobatch_pandas.snapshot import Snapshot

__all__ = ["Shares", "describe", "duration", "shares"]

_WORDS = {
    "recorded": "Recorded",
    "rendering": "Rendering",
    "uploading": "Uploading",
    "queued": "Queued",
    "running": "Running",
    "finalizing": "Finalizing",
    "downloading": "Downloading",
    "cancelling": "Cancelling",
    "paused": "Paused",
    "completed": "Done",
    "failed": "Failed",
    "expired": "Expired",
    "cancelled": "Cancelled",
}
_ENDPOINTS = {
    "/v1/chat/completions": "chat completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
}


@dataclass(frozen=True)
class Shares:
    """
    What has become of a job's requests, as parts of one: they add up to 1 with what is not prepared yet.

    ``answered`` includes what earlier jobs answered; ``sent`` is with the service; ``ready`` waits here.
    """

    answered: float
    failed: float
    sent: float
    ready: float


def shares(snapshot: Snapshot) -> Shares:
    """Return the parts of the one progress bar."""
    known = snapshot.requests
    if snapshot.parts is None and snapshot.rendered:
        # Rendering goes on: what is prepared so far says how many requests there will be.
        known = round(snapshot.requests * max(1.0, snapshot.rows / snapshot.rendered))
    total = max(known, 1)
    if not known and snapshot.over:
        return Shares(1.0, 0.0, 0.0, 0.0)
    answered = (snapshot.completed + snapshot.reused) / total
    failed = snapshot.failed / total
    here = [b for b in snapshot.batches if b.state in ("rendered", "uploading", "uploaded", "held")]
    waiting = sum(b.requests for b in here)
    moving = max((b.requests for b in here if b.state in ("rendered", "uploading")), default=0)
    waiting -= round(moving * (snapshot.upload_share or 0.0))
    gone = sum(b.requests for b in snapshot.batches) - waiting
    sent = max(0.0, gone / total - (snapshot.completed + snapshot.failed) / total)
    ready = waiting / total
    if snapshot.parts is None:
        ready = max(ready, snapshot.rendered / max(snapshot.rows, 1) - answered - failed - sent)
    room = 1.0
    parts = []
    for part in (answered, failed, sent, ready):
        parts.append(min(max(part, 0.0), room))
        room -= parts[-1]
    return Shares(*parts)


def percent(share: float) -> str:
    """A share in whole percent; never 100 % before the end, never 0 % after the beginning."""
    if 0 < share < 0.01:
        return "<1\u202f%"
    if 0.99 < share < 1:
        return "99\u202f%"
    return f"{share * 100:.0f}\u202f%"


def duration(seconds: float) -> str:
    """
    A span of time for people.

    Examples
    --------
    >>> duration(0.4), duration(75), duration(7380), duration(100_000)
    ('0 s', '1 min 15 s', '2 h 3 min', '1 d 4 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = round(minutes / 60)
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, smaller_unit: str) -> str:
    words = [f"{large} {unit}"] if large else []
    return " ".join([*words, f"{small} {smaller_unit}"] if small else words)


def moment(at: float, now: float) -> str:
    """A point in time by this machine's clock; the day is named where it is another one."""
    there, here = time.localtime(at), time.localtime(now)
    same_day = there[:3] == here[:3]
    return time.strftime("%H:%M %Z" if same_day else "%a %d %b %H:%M %Z", there)


def counted(number: int, noun: str) -> str:
    """
    A number with its noun.

    Examples
    --------
    >>> counted(1, "row"), counted(1200, "batch")
    ('1 row', '1,200 batches')
    """
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def state_word(snapshot: Snapshot) -> str:
    """One word or two for the state."""
    if snapshot.state == "completed" and (snapshot.failed or snapshot.skipped):
        return "Done, with failures"
    return _WORDS[snapshot.state]


def headline(snapshot: Snapshot) -> str:
    """What runs: model, endpoint, answer column."""
    return f"{snapshot.model} · {endpoint_name(snapshot)} → {snapshot.into}"


def endpoint_name(snapshot: Snapshot) -> str:
    """The endpoint's name without its path."""
    return _ENDPOINTS.get(snapshot.endpoint, snapshot.endpoint)


def rows_line(snapshot: Snapshot) -> str:
    """Rows of the frame, and how many requests they make."""
    parts = [counted(snapshot.rows, "row")]
    if snapshot.parts is not None and snapshot.requests != snapshot.rows:
        parts.append(f"{snapshot.requests:,} distinct requests")
    if snapshot.reused:
        parts.append(f"{snapshot.reused:,} answered by earlier jobs")
    if snapshot.skipped:
        parts.append(f"{snapshot.skipped:,} not sent")
    return " · ".join(parts)


def progress_line(snapshot: Snapshot) -> str:
    """The state in a sentence: what happens now, how far it is, or what to do."""
    state, answered = snapshot.state, snapshot.completed + snapshot.reused
    ended = answered + snapshot.failed
    if state == "recorded":
        return "On disk; nothing has been sent yet."
    if state == "rendering":
        share = snapshot.rendered / max(snapshot.rows, 1)
        return (
            f"Turning rows into requests: {percent(share)}, {snapshot.rendered:,} of {snapshot.rows:,} rows."
        )
    if state == "uploading":
        return _uploading(snapshot)
    if state == "queued":
        return f"The service has all {snapshot.to_send:,} requests and has not begun yet."
    if state == "running":
        return f"{ended:,} of {snapshot.requests:,} requests have ended{_failed_so_far(snapshot)}."
    if state == "finalizing":
        return (
            f"All {snapshot.requests:,} requests have ended{_failed_so_far(snapshot)}. "
            "The service is writing its result files; this can take some minutes."
        )
    if state == "downloading":
        return f"{ended:,} requests have ended{_failed_so_far(snapshot)}. Fetching and reading the answers."
    if state == "cancelling":
        return f"{ended:,} of {snapshot.requests:,} requests have ended; waiting for those in flight."
    if state == "paused":
        return "Waiting for you; nothing is lost and the job goes on from here."
    return _ending(snapshot, answered)


def _uploading(snapshot: Snapshot) -> str:
    share = f" ({percent(snapshot.upload_share)} of the next)" if snapshot.upload_share else ""
    if snapshot.parts is None:
        rendered = percent(snapshot.rendered / max(snapshot.rows, 1))
        return f"{counted(snapshot.uploaded, 'part')} sent{share}; rendering goes on, {rendered} of the rows."
    return f"{snapshot.uploaded:,} of {counted(snapshot.parts, 'part')} sent{share}."


def _failed_so_far(snapshot: Snapshot) -> str:
    return f", {snapshot.failed:,} of them failed" if snapshot.failed else ""


def _ending(snapshot: Snapshot, answered: int) -> str:
    counts = f"{answered:,} answered"
    if snapshot.reused:
        counts += f" ({snapshot.reused:,} by earlier jobs)"
    counts += f", {snapshot.failed:,} failed"
    if snapshot.skipped:
        counts += f", {counted(snapshot.skipped, 'row')} not sent"
    left = snapshot.requests - answered - snapshot.failed
    if left > 0 and snapshot.state != "completed":
        counts += f", {left:,} never asked"
    if snapshot.state == "expired":
        return f"{counts}. The window closed before every request was answered; retry sends the rest again."
    return f"{counts}."


def time_line(snapshot: Snapshot, now: float | None = None) -> str:
    """Elapsed, what is left by the pace so far, and when the window ends."""
    now = time.time() if now is None else now
    if snapshot.over:
        return f"took {duration((snapshot.ended or now) - snapshot.started)}" if snapshot.started else ""
    parts = [f"{duration(now - snapshot.started)} elapsed"] if snapshot.started else []
    if snapshot.eta is not None and snapshot.state == "running":
        parts.append(f"about {duration(max(snapshot.eta, 1))} left")
    if snapshot.deadline is not None:
        left = snapshot.deadline - now
        when = f"in {duration(left)}" if left > 0 else "over"
        parts.append(
            f"window ends {when} ({moment(snapshot.deadline, now)})" if left > 0 else "the window has ended"
        )
    return " · ".join(parts)


def usage_line(snapshot: Snapshot) -> str:
    """Tokens and dollars so far, as far as the service has reported them; empty where it has not."""
    parts = []
    if snapshot.prompt_tokens or snapshot.completion_tokens:
        parts.append(f"{snapshot.prompt_tokens or 0:,} tokens in, {snapshot.completion_tokens or 0:,} out")
    if snapshot.cost is not None:
        parts.append(dollars(snapshot.cost) + ("" if snapshot.over else " so far"))
    return " · ".join(parts)


def dollars(amount: float) -> str:
    """Cents where there are some, more digits where there are none."""
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"


def describe(snapshot: Snapshot, now: float | None = None) -> str:
    """
    One line for ``repr`` and logs: state, how far, how long, and why it stopped.

    Parameters
    ----------
    snapshot : Snapshot
    now : float, optional
        Unix seconds; None asks the clock.
    """
    sentence = progress_line(snapshot).rstrip(".")
    line = f"{state_word(snapshot).lower()}: {sentence[:1].lower()}{sentence[1:]}"
    if snapshot.eta is not None and snapshot.state == "running":
        line += f", about {duration(max(snapshot.eta, 1))} left"
    if snapshot.problem:
        line += f" ({snapshot.problem.rstrip('.')})"
    return f"{line}; {headline(snapshot)}"
