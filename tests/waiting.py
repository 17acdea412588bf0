"""How a test waits for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 240.0  # seconds: a busy machine is no failure, and a test that passes never waits for so long


def eventually(holds: Callable[[], object]) -> None:
    """Return as soon as it is true; fail where it never is."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
