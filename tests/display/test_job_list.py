"""``dobatch.jobs()``: a picture that follows the jobs, and a frame like any other."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from display.fakes import FakeJob
from display.test_html import read

import dobatch_pandas as dobatch
from dobatch_pandas.display import show
from dobatch_pandas.display.job_list import JobList, jobs_html


def a_job(**changes: Any) -> dict[str, Any]:
    return {
        "created": pd.Timestamp("2026-11-26 12:00", tz="UTC"), "status": "running", "rows": 100, "requests": 100,
        "reused": 0, "completed": 40, "failed": 2, "model": "m", "into": "answer", "cost": pd.NA, "batches": 1,
    } | changes  # fmt: skip


def jobs(*rows: dict[str, Any]) -> JobList:
    return JobList(list(rows), index=[f"261126-{number:06}" for number in range(len(rows))])


def test_twelve_jobs_are_twelve_lines() -> None:
    """
    Each job is one line, with how far it has come.
    """
    drawn = jobs_html(jobs(*(a_job(completed=number) for number in range(12))))
    assert drawn.count("<tr>") == 13
    assert '<span style="white-space:nowrap">gpt-4.1-mini</span>' in jobs_html(
        jobs(a_job(model="gpt-4.1-mini"))
    )
    assert "42 %" in jobs_html(jobs(a_job())).replace("\u202f", " ").replace("\xa0", " ")


def test_what_was_cancelled_is_not_drawn_as_failed() -> None:
    """
    A cancelled job is no red bar.
    """
    assert "dobatch-failed" in jobs_html(jobs(a_job()))
    assert "dobatch-failed" not in jobs_html(jobs(a_job(status="cancelled", failed=60)))


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda one: one.head(), lambda one: one[["rows"]]]
)
def test_what_is_made_of_it_is_an_ordinary_frame(make: Any) -> None:
    """
    Filters and copies are plain frames.
    """
    assert type(make(jobs(a_job()))) is pd.DataFrame


def test_it_can_be_pickled_and_changed_in_place() -> None:
    """
    A list that was pickled, or lost columns, still shows itself.
    """
    assert read(pickle.loads(pickle.dumps(jobs(a_job())))._repr_html_()).text
    changed = jobs(a_job())
    del changed["cost"], changed["created"]
    assert "running" in changed._repr_html_()


def test_a_home_without_jobs_says_so(home: Path) -> None:
    """
    An empty list says how to start a job.
    """
    assert "no job" in dobatch.jobs()._repr_html_()


def test_outside_a_notebook_it_prints_itself(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    IPython in a terminal prints the frame.
    """
    jobs(a_job())._ipython_display_()
    assert "running" in capsys.readouterr().out


@pytest.mark.parametrize("stream", ["none", "closed"])
def test_without_a_stream_it_says_nothing(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where nobody can read, showing a list or a job is no error.
    """
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", None if stream == "none" else closed)
    jobs(a_job())._ipython_display_()
    show(FakeJob())
