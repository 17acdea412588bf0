"""A snapshot in words: what every front end says, said once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from .snapshot import Snapshot

__all__ = ["Portions", "describe", "dollars", "duration", "portions"]

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
_ASCII = str.maketrans({"·": "-", "→": "->", "\u202f": " "})
_HERE = ("rendered", "uploading", "uploaded", "held")


@dataclass(frozen=True)
class Portions:
    """
    What has become of a job's requests, counted: the segments of the one progress bar.

    Parameters
    ----------
    answered : int
        By this job or by earlier ones.
    failed : int
    sent : int
        With the service, not ended.
    ready : int
        Rendered, still on this machine.
    total : int
        All of them; projected from the rows while rendering goes on.
    """

    answered: int
    failed: int
    sent: int
    ready: int
    total: int

    @property
    def left(self) -> int:
        """Requests that have not ended."""
        return max(0, self.total - self.answered - self.failed)

    @property
    def ended(self) -> float:
        """The part of the whole that has ended, 0 to 1."""
        return min(1.0, (self.answered + self.failed) / self.total) if self.total else 1.0

    @property
    def prepared(self) -> float:
        """The part of the whole that has at least been rendered, 0 to 1."""
        return min(1.0, self.ended + (self.sent + self.ready) / self.total) if self.total else 1.0


def portions(snapshot: Snapshot) -> Portions:
    """Count what each segment of the progress bar stands for."""
    total = snapshot.requests
    if snapshot.parts is None:
        # Rendering goes on: how many requests there will be is known from the rows so far.
        shrunk = snapshot.requests / snapshot.rendered if snapshot.rendered and snapshot.requests else 1.0
        total = max(total, round(snapshot.rows * shrunk))
    answered = snapshot.completed + snapshot.reused
    here = [b for b in snapshot.batches if b.state in _HERE]
    moving = max((b.requests for b in here if b.state in ("rendered", "uploading")), default=0)
    waiting = sum(b.requests for b in here) - round(moving * (snapshot.upload_share or 0.0))
    gone = sum(b.requests for b in snapshot.batches) - waiting
    sent = 0 if snapshot.over else max(0, min(gone, total) - snapshot.completed - snapshot.failed)
    ready = waiting
    if snapshot.parts is None:
        share = snapshot.rendered / max(snapshot.rows, 1)
        ready = max(ready, round(total * share) - answered - snapshot.failed - sent)
    return Portions(answered, snapshot.failed, sent, max(0, ready), total)


def legend(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Name each segment of the bar: its kind, and how many requests it stands for."""
    now = portions(snapshot)
    items = [("answered", f"{now.answered:,} answered"), ("failed", f"{now.failed:,} failed")]
    if not preparing(snapshot):
        if now.left:
            # The sign of what the bar shows: all that is left is with the service, or not.
            kind = "sent" if now.sent >= now.left else "left"
            items.append((kind, f"{now.left:,} {'never answered' if snapshot.over else 'left'}"))
        return items
    if not (now.answered or now.failed):
        items = []
    items += [("sent", f"{now.sent:,} at the service"), ("ready", f"{now.ready:,} ready to be sent")]
    if snapshot.parts is None:
        items.append(("left", "more to be rendered"))
    return items


def preparing(snapshot: Snapshot) -> bool:
    """Whether there are requests that the service does not have yet."""
    return snapshot.state in ("recorded", "rendering", "uploading")


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


def stamp(at: float) -> str:
    """A point in time for a picture that may be looked at years later."""
    return time.strftime("%a %d %b %Y %H:%M %Z", time.localtime(at))


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
    if snapshot.state == "completed" and snapshot.failed:
        return "Done, with failures"
    if snapshot.state == "completed" and snapshot.skipped:
        return "Done, not all sent"
    return _WORDS[snapshot.state]


def headline(snapshot: Snapshot) -> str:
    """What runs: model, endpoint, answer column."""
    return f"{snapshot.model} · {endpoint_name(snapshot)} → {snapshot.into}"


def endpoint_name(snapshot: Snapshot) -> str:
    """The endpoint's name without its path."""
    return snapshot.endpoint.removeprefix("/v1/").replace("/", " ")


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
        counts += f", {left:,} never answered"
    if snapshot.state == "expired":
        return f"{counts}. The window closed before every request was answered; retry sends the rest again."
    return f"{counts}."


def time_line(snapshot: Snapshot, now: float | None = None) -> str:
    """Elapsed, what is left by the pace so far, and when the window ends."""
    now = time.time() if now is None else now
    if snapshot.over:
        ended = snapshot.ended or now
        return f"took {duration(ended - snapshot.started)}, ended {stamp(ended)}" if snapshot.started else ""
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


def describe(snapshot: Snapshot, now: float | None = None) -> str:
    """
    One line for ``repr`` and logs: state, how far, how long, and why it stopped.

    Parameters
    ----------
    snapshot : Snapshot
    now : float, optional
        Unix seconds; None asks the clock.
    """
    sentence = ascii_words(progress_line(snapshot)).rstrip(".")
    line = f"{state_word(snapshot).lower()}: {sentence[:1].lower()}{sentence[1:]}"
    if snapshot.eta is not None and snapshot.state == "running":
        line += f", about {duration(max(snapshot.eta, 1))} left"
    if snapshot.problem:
        line += f" ({snapshot.problem.rstrip('.')})"
    return f"{line}; {ascii_words(headline(snapshot))}"


def ascii_words(words: str) -> str:
    """The typographic signs of this module as what every terminal and log can show."""
    return words.translate(_ASCII)


def dollars(amount: float | None) -> str:
    """
    An amount for people: in cents, or with two digits that say something where it is a few cents or less.

    Examples
    --------
    >>> dollars(1234.5), dollars(0.0000042), dollars(0), dollars(None)
    ('$1,234.50', '$0.0000042', '$0.00', 'price unknown')
    """
    if amount is None:
        return "price unknown"
    digits = 2 if amount >= 0.1 or amount <= 0 else 1 - math.floor(math.log10(amount))
    return f"${amount:,.{digits}f}"
