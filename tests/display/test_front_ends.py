"""Voila, which shows notebooks as pages."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from browser import PATIENCE, end, free_port
from display.test_in_browser import HOLD, SUBMIT, start

pytestmark = pytest.mark.browser


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_voila_shows_the_job(lab: Any, tmp_path: Path) -> None:
    """
    Voila runs the notebook and shows the job: its panel or, where Voila's script loader cannot be fetched, its picture.
    """
    needs("voila")
    path = lab.write(
        [start(more=HOLD), SUBMIT, "import time\nwhile job.counts['completed'] < 40:\n    time.sleep(0.05)"]
    )
    port = free_port()
    log = tmp_path / "voila.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "voila", str(path), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1",
                "--enable_nbextensions=True",
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                "JUPYTER_DATA_DIR": str(tmp_path / "data"),
                "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            },
            stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
    page = lab.browser.new_context(viewport={"width": 1000, "height": 700}).new_page()
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/static/", timeout=5).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                # Another process's start has no event to wait for.
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
        page.goto(f"http://127.0.0.1:{port}/", timeout=PATIENCE)
        shown = page.locator(".dobatch-panel, .dobatch-static")
        shown.filter(has_text=re.compile("Preparing|Sending|Queued|Running")).first.wait_for(timeout=PATIENCE)
        if "DOBATCH_SHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['DOBATCH_SHOTS']}/voila.png")
        assert "Error displaying widget" not in page.locator("body").inner_text()
    finally:
        page.context.close()
        end(process)
