"""The server in a process of its own, as `dobatch serve` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from waiting import PATIENCE


class Remote:
    """Has what `driver.Api` needs to know of a server: `url` and `token`; what it printed is in `said`."""

    def __init__(self, home: Path | str, *options: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-u", "-m", "dobatch_pandas.server", "--port", "0", "--home", str(home)]
        self.process: Any = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.said = self.url = self.token = ""
        for line in self.process.stdout:
            self.said += line
            name, _, value = line.strip().partition("=")
            if name.endswith("DOBATCH_BASE_URL"):
                self.url = value
            if name.endswith("DIGITALOCEAN_TOKEN"):
                self.token = value
                break
        # What it prints later must not fill the pipe.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said += line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int | None = None) -> int:
        """Send a signal, if one is given, and wait; the exit status."""
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return int(self.process.returncode)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Remote:
        assert self.token, self.said
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
