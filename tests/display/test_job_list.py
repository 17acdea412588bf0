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
from dobatch_pandas.display.job_list import JobList, SpendingList, jobs_html, jobs_text


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


def test_what_was_never_run_is_not_counted_as_failed() -> None:
    """
    The list says of a cancelled or expired job what was answered, and calls nothing failed that was never run.
    """
    for status in ("cancelled", "expired"):
        page = read(jobs_html(jobs(a_job(status=status, completed=20, failed=80))))
        assert "80" not in page.text
    assert "80" in read(jobs_html(jobs(a_job(status="completed", completed=20, failed=80)))).text


def test_rows_that_share_a_request_are_not_unanswered() -> None:
    """
    Where ten rows ask the same, the list shows how many requests they make beside the answers.
    """
    shared = read(jobs_html(jobs(a_job(status="completed", rows=10, requests=1, completed=1, failed=0)))).text
    assert "requests" in shared
    assert "requests" not in read(jobs_html(jobs(a_job()))).text


def test_a_job_that_had_nothing_to_send_shows_no_share() -> None:
    """
    Without a request there is neither 0 % nor 100 % of them.
    """
    done = jobs_html(jobs(a_job(status="completed", requests=0, completed=0, failed=0)))
    assert "%" not in read(done).text
    assert "%" in read(jobs_html(jobs(a_job(status="rendering", requests=0, completed=0, failed=0)))).text


def test_a_problem_and_a_long_name_leave_the_table_narrow() -> None:
    """
    Why a job stands still is a line below the table, with the job's id; names are cut.
    """
    name = "a very long name " * 20
    drawn = jobs_html(jobs(a_job(), a_job(problem="The service refused <the token>.", model=name, into=name)))
    table, _, below = drawn.partition("</table>")
    assert "refused" not in table
    assert "261126-000001: The service refused &lt;the token&gt;." in below
    assert name not in drawn


def test_a_terminal_gets_the_same_words_within_a_line() -> None:
    """
    ``dobatch jobs`` calls a job with failures so, and says below the lines why one stands still.
    """
    said = jobs_text(
        jobs(
            a_job(status="completed", completed=90, failed=10),
            a_job(status="paused", problem="No token.", cost=0.5),
            a_job(status="cancelled", completed=1, failed=99),
        )
    ).splitlines()
    assert "done, with failures" in said[1]
    assert "$0.50" in said[2]
    assert "99" not in said[3]
    assert said[4] == "261126-000001: No token."
    assert said[0].isascii()
    assert max(map(len, said)) <= 100


def test_what_was_spent_is_read_in_dollars_with_its_sum() -> None:
    """
    A day is a day and not a midnight, an amount is dollars; where a price is not known there is no sum that leaves it out.
    """
    days = pd.DatetimeIndex(["2026-11-27", "2026-11-26"], tz="UTC", name="day")
    counts = {
        "jobs": [2, 1],
        "requests": [1200, 3],
        "prompt_tokens": [70_000, 5],
        "completion_tokens": [9, 5],
    }
    spent = SpendingList({**counts, "cost": pd.array([0.25, None], "Float64")}, index=days)
    said = read(spent._repr_html_()).text
    for words in (
        "Fri 27 Nov 2026",
        "$0.25",
        "price unknown",
        "1,200",
        "70,000",
        "3 jobs; the price of some is not known",
    ):
        assert words in said
    by_model = SpendingList(spent.dropna().set_axis(pd.Index(["<b>m</b>"], name="model")))
    assert "&lt;b&gt;m" in by_model._repr_html_()
    assert "$0.25 for 2 jobs" in read(by_model._repr_html_()).text
    assert "$0.00 for 0 jobs" in read(SpendingList(spent.head(0).set_axis(days[:0]))._repr_html_()).text
    assert type(spent.head()) is pd.DataFrame
    assert "<table" in SpendingList(pd.DataFrame(spent).drop(columns="cost"))._repr_html_()


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
    IPython in a terminal prints what `dobatch jobs` says, no column left out; of a frame of one's own, the frame.
    """
    listed = jobs(a_job(model="a-model-of-some-length", status="completed", completed=90, failed=10))
    listed._ipython_display_()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == ""
    assert "done, with failures" in said[2]
    assert "a-model-of-some-length" in said[2]
    del listed["model"]
    listed._ipython_display_()
    assert "completed" in capsys.readouterr().out


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
