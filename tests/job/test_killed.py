"""A process that dies at any instruction of a job loses nothing and pays nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits


@pytest.mark.parametrize(
    ("point", "way", "kind"),
    [
        (point, ("attach", "run again")[number % 2], list(killed.KINDS)[number % len(killed.KINDS)])
        for number, point in enumerate(killed.POINTS)
    ],
)
def test_a_killed_job_ends_as_if_undisturbed(point, way, kind, server, home, monkeypatch):
    """
    Kill -9 anywhere, then attach or run the cell again: the same rows, each request executed once.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(killed.PART, 200_000_000))
    script = Path(killed.__file__)
    ended = subprocess.run(
        [sys.executable, script, home, server.url, point, kind],
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
        job = killed.submit(kind)
    answered = killed.frame().dobatch.join(job)

    asked = killed.frame()["text"]
    if kind == "schema":
        assert answered["label"].isin(["pos", "neg"]).all()
        assert answered["reason"].notna().all()
    else:
        for column in ["answer", "answer_2"][: job.recipe.samples]:
            assert list(answered[column]) == [f"Echo: {text}" for text in asked]
    assert answered["answer_error"].isna().all()
    assert len(dobatch.jobs()) == 1
    assert set(server.executed.values()) == {1}
    requests = asked.nunique() * job.recipe.samples
    assert len(server.executed) == requests
    assert len(server.batches) == -(-requests // killed.PART)
