"""How a test waits for what happens in another thread or process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 240.0  # seconds: a busy machine is no failure, and a test that passes never waits for so long


def meeting_place(folder: Path) -> dict[str, str]:
    """Where a kernel and its client meet: at files. A port that is chosen may be another's a moment later."""
    return {"transport": "ipc", "ip": str(folder / "kernel")} if sys.platform == "linux" else {}


def eventually(holds: Callable[[], object]) -> None:
    """Return as soon as it is true; fail where it never is."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
