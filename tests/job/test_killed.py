"""A process that dies at any instruction of a job loses nothing and pays nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import killed
import power
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
    end_by_itself(home, server, point, kind)
    check_that_it_ends(way, kind, server, monkeypatch)


@pytest.mark.parametrize(
    ("point", "kind", "unsynced"),
    [
        (point, list(killed.KINDS)[number % len(killed.KINDS)], ("gone", "zeros")[number // 2 % 2])
        for number, point in enumerate(killed.POINTS)
        if number % 2
    ],
)
def test_a_power_cut_costs_nothing(point, kind, unsynced, server, home, tmp_path, monkeypatch):
    """
    The power fails in mid-job, and the disk has nothing but what was synced: the same rows, each request executed once.
    """
    home.mkdir(mode=0o700)
    memory = tmp_path / "memory"
    memory.mkdir()
    end_by_itself(home, server, point, kind, memory)
    before = home.rename(tmp_path / "before")
    power.after_the_cut(before, memory, home, unsynced=unsynced)
    with warnings.catch_warnings():
        # SQLite's own syncs are not seen here, so that the index comes back as one that is damaged.
        warnings.filterwarnings("ignore", "The index of the jobs was damaged")
        check_that_it_ends("attach", kind, server, monkeypatch)


def end_by_itself(home, server, point, kind, *memory):
    """Run a job in a process that kills itself."""
    script = Path(killed.__file__)
    ended = subprocess.run(
        [sys.executable, script, home, server.url, point, kind, *memory],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def check_that_it_ends(way, kind, server, monkeypatch):
    """Come back to the job: nothing is lost, nothing executed twice."""
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(killed.PART, 200_000_000))
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
