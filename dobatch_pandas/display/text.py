"""A snapshot in words: what every front end says, said once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from .snapshot import SHOWN, Expected, Snapshot

__all__ = ["Mark", "Portions", "describe", "dollars", "duration", "portions"]

_ASCII = str.maketrans({"·": "-", "→": "->", "\u202f": " ", "–": "-"})
_HERE = ("rendered", "uploading", "uploaded", "held")


@dataclass(frozen=True)
class Portions:
    """
    What has become of a job's requests, counted: each is in one of these.

    Parameters
    ----------
    answered : int
        By this job or by earlier ones.
    failed : int
        Run, and without an answer that can be used.
    cancelled, expired : int
        Given back by the service without being run.
    waiting : int
        At the service, not finished.
    unsent : int
        Still on this machine.
    """

    answered: int
    failed: int
    cancelled: int
    expired: int
    waiting: int
    unsent: int

    @property
    def total(self) -> int:
        """All of them; projected from the rows while requests are being prepared."""
        return self.answered + self.failed + self.cancelled + self.expired + self.waiting + self.unsent

    @property
    def finished(self) -> float:
        """The part of the whole that was run, 0 to 1: what the bar shows, at every moment of a job's life."""
        return (self.answered + self.failed) / self.total if self.total else 1.0


def portions(snapshot: Snapshot) -> Portions:
    """Count what each word of the legend stands for."""
    answered = snapshot.completed + snapshot.reused
    total = max(total_of(snapshot), answered + snapshot.failed)
    here = [b for b in snapshot.batches if b.state in _HERE]
    moving = max((b.requests for b in here if b.state in ("rendered", "uploading")), default=0)
    waiting_here = sum(b.requests for b in here) - round(moving * (snapshot.upload_share or 0.0))
    gone = sum(b.requests for b in snapshot.batches) - waiting_here
    left = total - answered - snapshot.failed
    waiting = 0 if snapshot.over else min(left, max(0, gone - snapshot.completed - snapshot.failed))
    return Portions(
        answered,
        snapshot.refused,
        min(snapshot.cancelled, snapshot.never_run),
        max(0, snapshot.never_run - snapshot.cancelled),
        waiting,
        left - waiting,
    )


def total_of(snapshot: Snapshot) -> int:
    """How many requests there are, projected from the rows so far while they are being prepared."""
    if snapshot.parts is not None:
        return snapshot.requests
    shrunk = snapshot.requests / snapshot.rendered if snapshot.rendered and snapshot.requests else 1.0
    return max(snapshot.requests, round(snapshot.rows * shrunk))


class Mark:
    """How far a bar has been drawn: counters of the service lag and projections change, a bar never goes back."""

    def __init__(self) -> None:
        self._round, self._share = -1, 0.0

    def of(self, snapshot: Snapshot) -> float:
        """Return how far to draw it, 0 to 1; a retry begins anew."""
        share = portions(snapshot).finished
        # At the end counts are final, and what was cancelled was not run.
        if snapshot.round != self._round or snapshot.over:
            self._round, self._share = snapshot.round, share
        self._share = max(self._share, share)
        return self._share


def legend(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Name what there is of each kind: the kind, and how many requests it stands for."""
    now = portions(snapshot)
    about = "about " if snapshot.parts is None and now.unsent else ""
    named = [
        ("answered", now.answered, "answered"),
        ("failed", now.failed, "failed"),
        ("cancelled", now.cancelled, "cancelled"),
        ("expired", now.expired, "expired"),
        ("waiting", now.waiting, "waiting"),
        ("unsent", now.unsent, "never answered" if snapshot.over and not snapshot.never_run else "not sent"),
    ]
    items = [
        (kind, f"{about if kind == 'unsent' else ''}{count:,} {word}") for kind, count, word in named if count
    ]
    return items or [("answered", "0 answered")]


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


def all_failed(snapshot: Snapshot) -> bool:
    """Whether the job has run and nothing came of it."""
    return snapshot.state == "completed" and snapshot.failed > 0 and not snapshot.completed + snapshot.reused


def state_word(snapshot: Snapshot) -> str:
    """A word or a few for the state."""
    if all_failed(snapshot):
        return f"All {snapshot.failed:,} failed" if snapshot.failed > 1 else "The only one failed"
    if snapshot.state == "completed" and snapshot.skipped and not snapshot.requests:
        return "Done, nothing sent"
    if snapshot.state == "completed" and snapshot.failed:
        return "Done, with failures"
    if snapshot.state == "completed" and snapshot.skipped:
        return "Done, not all sent"
    return SHOWN[snapshot.state][0]


def short_word(snapshot: Snapshot) -> str:
    """One word or two for the state, where the counts stand beside it."""
    return "All failed" if all_failed(snapshot) else SHOWN[snapshot.state][0]


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
    state, now = snapshot.state, portions(snapshot)
    finished = now.answered + now.failed
    if state == "recorded":
        return "Saved on this machine; nothing has been sent yet."
    if state == "rendering":
        return f"Preparing requests: {snapshot.rendered:,} of {snapshot.rows:,} rows."
    if state == "uploading":
        about = "about " if snapshot.parts is None else ""
        there = now.total - now.unsent - snapshot.reused
        return f"Uploading: {there:,} of {about}{_requests_are(now.total - snapshot.reused)} at the service."
    if state == "queued":
        whole = (
            "the request and has not started on it"
            if snapshot.to_send == 1
            else (f"all {snapshot.to_send:,} requests and has not started on them")
        )
        return f"The service has {whole} yet."
    if state == "running":
        return f"{finished:,} of {_requests_are(now.total)} finished{_failed_so_far(now)}."
    if state == "finalizing":
        return (
            f"{'All ' if now.total > 1 else ''}{_requests_are(now.total)} finished{_failed_so_far(now)}. "
            "The service is writing its result files; this can take some minutes."
        )
    if state == "downloading":
        return f"{_requests_are(finished)} finished{_failed_so_far(now)}. Fetching and reading the answers."
    if state == "cancelling":
        return f"{finished:,} of {_requests_are(now.total)} finished; waiting for those in flight."
    if state == "paused":
        return "Paused: nothing is lost, and the job continues from here."
    return _ending(snapshot, now)


def _requests_are(number: int) -> str:
    return f"{counted(number, 'request')} {'is' if number == 1 else 'are'}"


def _failed_so_far(now: Portions) -> str:
    return f", {now.failed:,} of them failed" if now.failed else ""


def _ending(snapshot: Snapshot, now: Portions) -> str:
    counts = f"{now.answered:,} answered"
    if snapshot.reused:
        counts += f" ({snapshot.reused:,} by earlier jobs)"
    if now.failed or not now.cancelled + now.expired:
        counts += f", {now.failed:,} failed"
    for count, word in ((now.cancelled, "cancelled"), (now.expired, "expired")):
        if count:
            counts += f", {count:,} {word}"
    if snapshot.skipped:
        counts += f", {counted(snapshot.skipped, 'row')} not sent"
    if now.unsent and snapshot.state != "completed":
        counts += f", {now.unsent:,} never answered"
    if snapshot.state == "expired":
        return f"{counts}. The window closed before every request was answered; retry sends the rest again."
    return f"{counts}."


def end_words(snapshot: Snapshot) -> dict[str, str]:
    """What a notification says of a job that is over: words and numbers of ours, which a locked screen may show."""
    return {"title": f"Job {snapshot.job_id}: {state_word(snapshot)}", "body": progress_line(snapshot)}


def finished_words(snapshot: Snapshot) -> list[str]:
    """How far it is in the fewest words, most needed first: for a terminal's bar, or a line among many."""
    now = portions(snapshot)
    if snapshot.state == "rendering":
        words = [f"{snapshot.rendered:,}/{snapshot.rows:,} rows"]
    else:
        about = "~" if snapshot.parts is None else ""
        words = [f"{now.answered + now.failed:,}/{about}{now.total:,}"]
    if now.failed:
        words.append(f"{now.failed:,} failed")
    if snapshot.skipped:
        words.append(f"{snapshot.skipped:,} not sent")
    return words


def time_line(snapshot: Snapshot, now: float | None = None) -> str:
    """Elapsed, what is left by the pace so far, and when the window ends, where that is of interest."""
    now = time.time() if now is None else now
    if snapshot.over:
        ended = snapshot.ended or now
        return f"took {duration(ended - snapshot.started)}, ended {stamp(ended)}" if snapshot.started else ""
    parts = [f"{duration(now - snapshot.started)} elapsed"] if snapshot.started else []
    eta = time_left(snapshot)
    if eta is not None:
        parts.append(f"about {duration(eta)} left")
    if snapshot.deadline is not None:
        left = snapshot.deadline - now
        if left <= 0:
            parts.append("the window has ended")
        elif eta is None or eta > left / 2:
            parts.append(f"window ends in {duration(left)} ({moment(snapshot.deadline, now)})")
    return " · ".join(parts)


def time_left(snapshot: Snapshot) -> float | None:
    """Seconds left by the pace so far; None where nobody can say."""
    return None if snapshot.eta is None or snapshot.state != "running" else max(snapshot.eta, 1.0)


def tokens_line(snapshot: Snapshot) -> str:
    """Tokens so far; empty where the service has reported none."""
    if not (snapshot.prompt_tokens or snapshot.completion_tokens):
        return ""
    return f"{snapshot.prompt_tokens or 0:,} tokens in, {snapshot.completion_tokens or 0:,} out"


def money_line(snapshot: Snapshot) -> str:
    """What was spent, and what is expected while the job is not over; empty where no price is known."""
    parts = []
    if snapshot.cost is not None:
        parts.append(dollars(snapshot.cost) if snapshot.over else f"{dollars(snapshot.cost)} spent so far")
    if snapshot.expected is not None and not snapshot.over:
        parts.append(f"expected {expected_words(snapshot.expected)}")
    return " · ".join(parts)


def expected_words(expected: Expected) -> str:
    """An amount that may be spent: about how much, and at most."""
    about = "" if expected.counted else "about "
    if expected.most is None:
        words = f"{about}{dollars(expected.least)} and the answers, which no max_tokens limits"
    elif dollars(expected.least) == dollars(expected.most):
        words = f"{about}{dollars(expected.most)}"
    else:
        words = f"{about}{dollars(expected.least)} to {dollars(expected.most)}"
    return words if expected.bound is None else f"{words}, at most {dollars(expected.bound)}"


def retry_line(snapshot: Snapshot) -> str:
    """How many requests a retry would send again, and what that may cost; empty where nothing failed."""
    if not snapshot.over or not snapshot.failed:
        return ""
    again = snapshot.worth_retrying
    if snapshot.never_run and snapshot.worth_retrying:
        words = f"A retry sends {again:,} failed and {snapshot.never_run:,} that were never run"
    elif snapshot.never_run:
        again, words = 0, f"A retry sends the {snapshot.never_run:,} that were never run"
    elif again:
        words = f"A retry sends {again:,} of them again"
    else:
        return "Retrying will not help: these requests would fail again. Change the prompt, or drop the rows."
    price = retry_price(snapshot, again + snapshot.never_run)
    return f"{words}{f', {price}' if price else ''}."


def retry_price(snapshot: Snapshot, requests: int) -> str:
    """What some requests more may cost, by what all of them did or were expected to; empty where unknown."""
    run = snapshot.completed + snapshot.refused
    if snapshot.cost is not None and run:
        return f"about {dollars(snapshot.cost * requests / run)}"
    if snapshot.expected is not None and snapshot.to_send and snapshot.expected.most is not None:
        return f"at most about {dollars(snapshot.expected.most * requests / snapshot.to_send)}"
    return ""


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
    sentence = f"{sentence[:1].lower()}{sentence[1:]}"
    word = state_word(snapshot).lower()
    line = sentence if sentence.startswith(word) else f"{word}: {sentence}"
    left = time_left(snapshot)
    if left is not None:
        line += f", about {duration(left)} left"
    if snapshot.problem:
        line += f" ({snapshot.problem.rstrip('.')})"
    for note in snapshot.notes:
        line += f" ({ascii_words(note).rstrip('.')})"
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
    if amount is None or not math.isfinite(amount):
        return "price unknown"
    digits = 2 if amount >= 0.1 or amount <= 0 else 1 - math.floor(math.log10(amount))
    return f"${amount:,.{digits}f}"
