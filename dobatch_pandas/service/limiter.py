"""
How fast calls may go: one limiter for every host, shared by all clients of the process.

The service takes 250 calls a minute and 5,000 an hour, says in its ``ratelimit-*`` headers how many are
left, and in ``retry-after`` how long to stay away. A limiter keeps to all of it, whichever is strictest.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from threading import Condition

__all__ = ["RATE_LIMITS", "Limiter", "limiter_for"]

RATE_LIMITS = ((250, 60.0), (5_000, 3_600.0))

# A reset that a confused clock puts into next year would stop everything until then.
_LONGEST_PAUSE = 3_600.0


class Limiter:
    """
    A turnstile before one host.

    Parameters
    ----------
    limits : sequence of (int, float)
        Pairs of calls and seconds: never more calls than that in any stretch of so many seconds.
    clock : callable
        Returns seconds that only go up.
    pause : callable
        ``pause(condition, seconds)`` waits on the condition, which is held, for at most that long.
    """

    def __init__(
        self,
        limits: Sequence[tuple[int, float]] = RATE_LIMITS,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Condition, float], object] = Condition.wait,
    ) -> None:
        self._limits = tuple(limits)
        self._clock = clock
        self._pause = pause
        self._changed = Condition()
        self._calls: deque[float] = deque()
        self._closed_until = float("-inf")

    def wait(self, timeout: float | None = None) -> bool:
        """
        Block until one more call may be made, and count it.

        Parameters
        ----------
        timeout : float, optional
            Seconds. Where the wait would be longer, return False at once and count nothing.
        """
        with self._changed:
            start = self._clock()
            while True:
                now = self._clock()
                delay = self._delay(now)
                if delay <= 0:
                    self._calls.append(now)
                    return True
                if timeout is not None and now + delay > start + timeout:
                    return False
                # In slices: a clock that jumped while the machine slept costs seconds, not hours.
                self._pause(self._changed, min(delay, 30.0))

    def delay(self) -> float:
        """Return the seconds until the next call may be made; 0 where it may be made now."""
        with self._changed:
            return max(self._delay(self._clock()), 0.0)

    def close_for(self, seconds: float) -> None:
        """Let no call through for so many seconds, at most an hour."""
        with self._changed:
            self._closed_until = max(self._closed_until, self._clock() + min(seconds, _LONGEST_PAUSE))
            self._changed.notify_all()

    def learn(self, headers: Mapping[str, str], *, retry_after: float | None = None) -> None:
        """Take in what an answer says about the limits; nothing left, or ``retry_after``, closes the door."""
        remaining = _number(headers.get("ratelimit-remaining"))
        if remaining is not None and remaining <= 0:
            reset = _seconds_to_reset(headers)
            if reset is not None:
                self.close_for(reset)
        if retry_after is not None:
            self.close_for(retry_after)

    def _delay(self, now: float) -> float:
        delay = self._closed_until - now
        longest = max((seconds for _, seconds in self._limits), default=0.0)
        while self._calls and self._calls[0] <= now - longest:
            self._calls.popleft()
        for calls, seconds in self._limits:
            if len(self._calls) >= calls:
                delay = max(delay, self._calls[-calls] + seconds - now)
        return delay


def limiter_for(host: str, *, local: bool = False) -> Limiter:
    """
    Return the limiter of a host, the same one for every caller in this process.

    Parameters
    ----------
    host : str
        Name and port.
    local : bool
        True for this machine, where the service's limits do not hold and only its headers count.
    """
    # setdefault is atomic: no lock that a fork could copy while it is held.
    return _limiters.setdefault(host, Limiter(() if local else RATE_LIMITS))


_limiters: dict[str, Limiter] = {}

if hasattr(os, "register_at_fork"):
    # Another thread may have held a limiter's lock at the moment of the fork; nobody would free it here.
    os.register_at_fork(after_in_child=_limiters.clear)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is None or abs(number) < 1e15 else None


def _seconds_to_reset(headers: Mapping[str, str]) -> float | None:
    reset = _number(headers.get("ratelimit-reset"))
    if reset is None:
        return None
    if reset < 1e9:
        return max(reset, 0.0)  # seconds from now, as the Internet draft of these headers has it
    try:
        # The server's own clock, where it shows one: ours may be minutes off.
        server_now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        server_now = time.time()
    return max(reset - server_now, 0.0)
