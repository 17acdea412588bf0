"""The server's idea of now, which a test may move forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

__all__ = ["MOST_SECONDS", "Clock", "iso"]

# Thirty years: what lies far beyond can neither be waited for nor written as a date.
MOST_SECONDS = 1e9


class Clock:
    """
    Unix seconds, as the system has them plus what was added by hand.

    Parameters
    ----------
    source : callable, optional
        Returns Unix seconds; ``time.time`` by default.
    """

    def __init__(self, source: Callable[[], float] | None = None) -> None:
        self._source = source or time.time
        self.offset = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return self._source() + self.offset

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds at once."""
        self.offset += seconds


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO 8601 with ``Z`` and as many fractional digits as are needed, as Go writes it."""
    if moment is None:
        return None
    text = (
        datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    )
    return text + "Z"
