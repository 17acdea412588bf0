"""Rate limits as the service has them: so many calls a minute and an hour, counted in sliding windows."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

from .clock import Clock

__all__ = ["Allowance", "RateLimiter"]

_MOST_TOKENS = 1000


@dataclass(frozen=True)
class Allowance:
    """What the limiter says about one call; ``retry_after`` is None where it may pass."""

    limit: int
    remaining: int
    reset: float
    retry_after: float | None

    def headers(self) -> dict[str, str]:
        """The three headers of every answer, and ``retry-after`` on a refusal."""
        headers = {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(math.ceil(self.reset)),
        }
        if self.retry_after is not None:
            headers["retry-after"] = str(math.ceil(self.retry_after))
        return headers


class RateLimiter:
    """
    Counts calls of one token in two windows.

    Parameters
    ----------
    per_minute, per_hour : int
        Calls let through in any 60 and 3,600 seconds.
    clock : Clock
    """

    def __init__(self, per_minute: int, per_hour: int, clock: Clock) -> None:
        self._windows = ((60.0, per_minute), (3600.0, per_hour))
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def ask(self, token: str) -> Allowance:
        """Count a call, unless it must be refused; refused calls are not counted."""
        return self._ask(token, 1)

    def clear(self) -> None:
        """Forget every call."""
        with self._lock:
            self._calls.clear()

    def look(self, token: str) -> Allowance:
        """What is left, without counting a call."""
        return self._ask(token, 0)

    def _ask(self, token: str, counted: int) -> Allowance:
        now = self._clock.now()
        with self._lock:
            if token not in self._calls and (not counted or len(self._calls) >= _MOST_TOKENS):
                self._forget(now)
            calls = self._calls.get(token, deque())
            while calls and calls[0] <= now - 3600:
                calls.popleft()
            # The quota that is told is the hour's; the minute's only where it is used up.
            told: Allowance | None = None
            limit = self._windows[-1][1]
            for seconds, most in reversed(self._windows):
                recent = _count_after(calls, now - seconds)
                oldest = calls[-recent] if recent else now
                left = most - recent
                refused = max(oldest + seconds - now, 0.001) if left <= 0 and counted else None
                one = Allowance(limit, max(left - counted, 0), oldest + seconds, refused)
                if told is None or (told.retry_after is None and one.remaining == 0):
                    told = one
            assert told is not None
            if told.retry_after is None and counted:
                calls.append(now)
                self._calls[token] = calls
            return told

    def _forget(self, now: float) -> None:
        """Let go of tokens that have not called for an hour, so that made-up ones do not fill the memory."""
        for token in [token for token, calls in self._calls.items() if not calls or calls[-1] <= now - 3600]:
            del self._calls[token]
        while len(self._calls) >= _MOST_TOKENS:
            del self._calls[next(iter(self._calls))]


def _count_after(calls: deque[float], moment: float) -> int:
    count = 0
    for call in reversed(calls):
        if call <= moment:
            break
        count += 1
    return count
