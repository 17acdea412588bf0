"""jupyter-console in a terminal of 80 columns, and what stands on its screen."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import waiting

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")
pytest.importorskip("jupyter_console")


class Terminal:
    """A program in a terminal, and the terminal's screen."""

    def __init__(self, command: list[str], environment: dict[str, str], columns: int, lines: int) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        environment = {"TERM": "xterm", **environment}
        self._program = pexpect.spawn(
            command[0], command[1:], env=environment, dimensions=(lines, columns), encoding="utf-8"
        )

    def type(self, line: str) -> None:
        """Type a line as a paste, which no completion and no indentation change."""
        self._program.send(f"\x1b[200~{line}\x1b[201~")
        self.wait_for(re.escape(line[:40]))
        self._program.send("\r")

    def wait_for(self, pattern: str) -> list[str]:
        """Return the screen's lines once one of them matches."""
        until = time.monotonic() + waiting.PATIENCE
        while not (lines := [line.rstrip() for line in self._screen.display if line.strip()]) or not any(
            re.search(pattern, line) for line in lines
        ):
            assert time.monotonic() < until, "\n".join(lines)
            try:
                words = self._program.read_nonblocking(65536, timeout=1)
            except pexpect.TIMEOUT:
                continue
            self._stream.feed(words)
            if "\x1b[6n" in words:  # it asks where the cursor is
                self._program.send(f"\x1b[{self._screen.cursor.y + 1};{self._screen.cursor.x + 1}R")
        return lines

    def close(self) -> None:
        self._program.close(force=True)


def test_the_bar_is_redrawn_in_jupyter_console(server: Any, tmp_path: Path) -> None:
    """
    While one waits, a single line of 80 columns moves; at the end it makes way for one sentence.
    """
    environment = {
        **os.environ,
        "DOBATCH_BASE_URL": server.url,
        "DIGITALOCEAN_TOKEN": server.token,
        "DOBATCH_HOME": str(tmp_path / "own"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    for name in ("COLUMNS", "LINES", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    server.hold(after=7)
    place = [f"--{name}={value}" for name, value in waiting.meeting_place(tmp_path).items()]
    console = Terminal([sys.executable, "-m", "jupyter_console", *place], environment, columns=80, lines=40)
    try:
        console.wait_for(r"In \[1\]:")
        console.type("import pandas as pd, dobatch_pandas as dobatch")
        console.wait_for(r"In \[2\]:")
        console.type("df = pd.DataFrame({'word': list('abcdefghijklmnopqrst')})")
        console.wait_for(r"In \[3\]:")
        console.type("job = df.dobatch.submit('{word}', model='m')")
        console.wait_for(r"In \[4\]:")
        console.type("df.dobatch.update(job)")
        lines = console.wait_for(r"^Running .*\|█+[^|]* +\| 7/20 · ")
        assert len([line for line in lines if line.startswith(("Running", "Queued", "Preparing"))]) == 1
        server.release()
        lines = console.wait_for(r"In \[5\]:")
        told = lines[lines.index("In [4]: df.dobatch.update(job)") + 1 :]
        assert told[0].startswith("job ")
        assert "done: 20 answered, 0 failed" in told[0]
        assert "Running" not in "".join(told)
    finally:
        console.close()
