"""Rate limits as the service has them: so many calls a minute and an hour, counted in sliding windows."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

from .clock import Clock

__all__ = ["Allowance", "RateLimiter"]


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
        now = self._clock.now()
        with self._lock:
            calls = self._calls.setdefault(token, deque())
            while calls and calls[0] <= now - 3600:
                calls.popleft()
            tightest: Allowance | None = None
            for seconds, limit in self._windows:
                recent = _count_after(calls, now - seconds)
                oldest = calls[-recent] if recent else now
                left = limit - recent
                refused = max(oldest + seconds - now, 0.001) if left <= 0 else None
                one = Allowance(limit, max(left - 1, 0), oldest + seconds, refused)
                if refused is not None:
                    tightest = one
                    break
                if tightest is None or one.remaining < tightest.remaining:
                    tightest = one
            assert tightest is not None
            if tightest.retry_after is None:
                calls.append(now)
            return tightest


def _count_after(calls: deque[float], moment: float) -> int:
    count = 0
    for call in reversed(calls):
        if call <= moment:
            break
        count += 1
    return count
