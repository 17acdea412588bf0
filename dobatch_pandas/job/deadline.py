"""Done by a certain time: what a user types for it, how quick real time is here, and the plan in words."""

from __future__ import annotations

import contextlib
import re
import time as clock
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson

from dobatch_pandas.errors import InputError

from .folder import JobRecord, written_whole
from .machine import (
    State,
    affordable,
    left_to_answer,
    seconds_in_real_time,
    switch_at,
)

__all__ = ["known_pace", "margin_until", "moment_of", "plan_in_words", "remember_pace"]

LONGEST_MARGIN = 600.0

_TAKES = 'it takes a time of today ("18:00", datetime.time), one of tomorrow ("tomorrow 6:00"), a datetime, or a timedelta from now'
_TYPED = re.compile(r"(?:(today|tomorrow)\s+)?(\d{1,2})[:.](\d{2})(?::(\d{2}))?", re.IGNORECASE)


def moment_of(deadline: Any, now: datetime | None = None, *, seconds: bool = False) -> float:
    """
    Return a deadline in Unix seconds; what has no zone is local time. With `seconds` it may be a number of those, too.

    Raises
    ------
    InputError
        It is no time, or over.

    Examples
    --------
    >>> now = datetime(2026, 11, 26, 9, 0)
    >>> datetime.fromtimestamp(moment_of("18:00", now)).isoformat()
    '2026-11-26T18:00:00'
    >>> datetime.fromtimestamp(moment_of("tomorrow 6:00", now)).isoformat()
    '2026-11-27T06:00:00'
    """
    now = datetime.now().astimezone() if now is None else now.astimezone()
    found = _moment(deadline, now, seconds)
    if found <= now:
        hint = ""
        if isinstance(deadline, time) or (isinstance(deadline, str) and "tomorrow" not in deadline.lower()):
            hint = f' For the next day say "tomorrow {found:%H:%M}".'
        raise InputError(
            f"deadline is {deadline!r}, and that is over: it is {now:%Y-%m-%d %H:%M:%S} here.{hint}"
        )
    return found.timestamp()


def _moment(deadline: Any, now: datetime, seconds: bool) -> datetime:
    try:
        if seconds and isinstance(deadline, (int, float)) and not isinstance(deadline, bool):
            return datetime.fromtimestamp(deadline, timezone.utc).astimezone()
        if isinstance(deadline, timedelta):
            # Seconds that pass, also where the clocks change meanwhile.
            return datetime.fromtimestamp(now.timestamp() + deadline.total_seconds()).astimezone()
        if isinstance(deadline, datetime):
            if deadline != deadline:  # pandas' NaT
                raise InputError(f"deadline is {deadline!r}; {_TAKES}.")
            # pandas' own kind takes no zone from the machine.
            plain: datetime = getattr(deadline, "to_pydatetime", lambda: deadline)()
            return plain.astimezone()
        if isinstance(deadline, time):
            return datetime.combine(now.date(), deadline).astimezone()
        typed = _TYPED.fullmatch(deadline.strip()) if isinstance(deadline, str) else None
        if typed is not None:
            day: date = now.date()
            if (typed[1] or "").lower() == "tomorrow":
                day += timedelta(days=1)
            at = time(int(typed[2]), int(typed[3]), int(typed[4] or 0))
            return datetime.combine(day, at).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"deadline is {deadline!r}, which is no moment ({error}); {_TAKES}.") from error
    raise InputError(f"deadline is {deadline!r}; {_TAKES}.")


def margin_until(deadline: float, now: float | None = None) -> float:
    """Return the seconds that are kept in hand: a tenth of the time there is, ten minutes at most."""
    left = deadline - (clock.time() if now is None else now)
    return min(max(left, 0.0) / 10, LONGEST_MARGIN)


# -- how quick real time is


def known_pace(home: Path, base_url: str, model: str) -> float:
    """Return the seconds that a request took when a job last asked in real time; 0 where none has."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = orjson.loads((home / "pace.json").read_bytes()).get(f"{base_url} {model}", 0.0)
        return float(found) if 0 < float(found) < 3600 else 0.0
    return 0.0


def remember_pace(home: Path, record: JobRecord, pace: float) -> None:
    """Keep how long a request took; where that cannot be written, the next job assumes it."""
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        kept = orjson.loads((home / "pace.json").read_bytes())
    with contextlib.suppress(OSError, TypeError), written_whole(home / "pace.json") as partial:
        partial.write_bytes(orjson.dumps({**kept, f"{record.base_url} {record.model}": pace}))


# -- in words


def plan_in_words(state: State, now: float | None = None) -> str | None:
    """Return what a job with a deadline does when, in a sentence or two; None where there is nothing to say."""
    from dobatch_pandas.display.text import dollars

    if state.ended is not None or state.cancelled:
        return None
    now = clock.time() if now is None else now
    live = [part for part in state.parts.values() if part.live and not part.final]
    if state.deadline is None:
        return None
    by = _at(state.deadline, now)
    left = left_to_answer(state)
    open_parts = [part for part in state.parts.values() if not part.final]
    too_dear = [
        part for part in open_parts if not part.live and not part.to_now and not affordable(state, part)
    ]
    bounds = [part.bound_now for part in open_parts]
    most = ""
    if bounds and None not in bounds:
        whole = sum(bound or 0.0 for bound in bounds)
        share = left / max(1, sum(part.requests for part in open_parts))
        most = f", at most {dollars(whole * share)}"
    if not state.switched:
        at = switch_at(state)
        assert at is not None
        if too_dear and state.rendered:
            return (
                f"Batch, whatever the time: what is left may cost {dollars(sum(p.bound_now or 0.0 for p in too_dear))} in "
                f"real time, more than max_cost allows, so it may not be done by {by}."
            )
        speed = "" if state.pace else " (at an assumed speed: nothing was asked in real time here yet)"
        took = seconds_in_real_time(left, state.pace)
        late = "" if now + took <= state.deadline else f" It may be later than {by}: there are too many rows."
        return f"Batch until {_at(at, now)}, then about {left:,} rows in real time{most}; done by {by}{speed}.{late}"
    drains = sum(part.requests - part.completed - part.failed for part in open_parts if part.to_now)
    asked = sum(part.requests for part in live)
    said = []
    if drains:
        said.append(
            f"The batch is being ended for the deadline at {by}; its {drains:,} open rows wait until it is."
        )
        if now > state.deadline:
            said.append(
                "That takes longer than there was time: what it may still answer is not bought again."
            )
    if asked:
        said.append(f"{asked:,} rows are asked in real time{most}, to be done by {by}.")
    if too_dear:
        said.append(
            f"{len(too_dear)} batches go on past {by}: in real time they may cost more than max_cost allows."
        )
    return " ".join(said) or None


def _at(moment: float, now: float) -> str:
    when = datetime.fromtimestamp(moment).astimezone()
    today = datetime.fromtimestamp(now).astimezone().date()
    if abs(moment - now) < 600:
        return f"{when:%H:%M:%S}"
    return f"{when:%H:%M}" if when.date() == today else f"{when:%A %H:%M}"
