"""How many requests a model gets at once, and when it gets none: it is loading, away, or overloaded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .shapes import Reply, error_reply

__all__ = ["NotNow", "Pace"]

# Seconds between two looks whether a model that is away has come back, where it does not say; and the least,
# where it does: some say 0, again and again.
_LONGEST, _SHORTEST = 5.0, 0.25


class NotNow(Exception):
    """
    The model cannot answer anything at this moment, which is not the fault of the request.

    Parameters
    ----------
    message : str
        What was seen.
    status : int
        What a client that does not wait is told: 429, 502 or 503.
    retry_after : float, optional
        Seconds to stay away, where the model says so.
    """

    def __init__(self, message: str, status: int = 503, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.retry_after = message, status, retry_after

    def reply(self, endpoint: str) -> Reply:
        """What a client is answered that does not wait."""
        return error_reply(endpoint, self.status, self.message)


class Pace:
    """
    A turnstile before the model: as many as asked for, fewer where it pushes back, one where it is away.

    It grows back as congestion control does: quickly to half of where it was overloaded, then slowly. Not
    safe for threads by itself: the executor holds its own lock.

    Parameters
    ----------
    most : int
        Requests at once when all is well.
    clock : callable
        Returns seconds that only go up.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self._clock = most, clock
        self.why: NotNow | None = None
        self._limit = self._quick_to = float(most)
        self._until = self._since = float("-inf")
        self._pauses = 0
        self.answered = 0

    @property
    def limit(self) -> int:
        """Requests at once, at this moment."""
        return max(1, int(self._limit))

    @property
    def opens(self) -> float:
        """When, by the clock, the next request may be made; that may be long ago."""
        return self._until

    def closed_for(self) -> float:
        """Seconds until the next request may be made; 0 where it may be made now."""
        return max(0.0, self._until - self._clock())

    def answer_came(self) -> None:
        """The model answered a request, well or not: it is there."""
        self.answered += 1
        self._pauses, self.why = 0, None
        if self._limit < self.most:
            self._limit += 1.0 if self._limit < self._quick_to else 1.0 / self._limit
            self._limit = min(self._limit, float(self.most))

    def push_back(self, trouble: NotNow, begun: float) -> None:
        """The model did not take a request that was sent at ``begun``."""
        now = self._clock()
        self.why = trouble
        if begun < self._since:
            return  # one of many that met the same closed door
        if trouble.status == 429:
            self._quick_to = self._limit = max(1.0, self._limit / 2)
        else:
            self._quick_to, self._limit = float(self.most), 1.0
        pause = trouble.retry_after
        if pause is None:
            # Jitter keeps servers behind one model from coming back all at once.
            pause = min(_SHORTEST * 2.0**self._pauses, _LONGEST) * (0.75 + random.random() / 2)
        self._pauses = min(self._pauses + 1, 10)
        self._since = now
        self._until = max(self._until, now + min(max(_SHORTEST, pause), 3600.0))
