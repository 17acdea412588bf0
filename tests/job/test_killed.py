"""A process that dies at any instruction of a job loses nothing and pays nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.questions import part_files


@pytest.mark.parametrize(
    ("point", "way"),
    [(point, ("attach", "run again")[number % 2]) for number, point in enumerate(killed.POINTS)],
)
def test_a_killed_job_ends_as_if_undisturbed(point, way, server, home, monkeypatch):
    """
    Kill -9 anywhere, then attach or run the cell again: the same rows, each request executed once.
    """
    monkeypatch.setitem(part_files.FILE_LIMITS, "openai", part_files.FileLimits(killed.PART, 200_000_000))
    script = Path(killed.__file__)
    ended = subprocess.run(
        [sys.executable, script, home, server.url, point],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr

    listed = dobatch.jobs()
    if way == "attach" and len(listed):
        job = dobatch.attach(listed.index[0])
    else:
        job = killed.submit()
    answered = killed.frame().dobatch.join(job)

    asked = killed.frame()["text"]
    assert list(answered["answer"]) == [f"Echo: {text}" for text in asked]
    assert answered["answer_error"].isna().all()
    assert len(dobatch.jobs()) == 1
    assert set(server.executed.values()) == {1}
    assert len(server.executed) == asked.nunique()
    assert len(server.batches) == 3
