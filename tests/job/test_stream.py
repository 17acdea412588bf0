"""Answers as they come: frames of rows part by part, each row once."""

from __future__ import annotations

import pandas as pd
import pytest
from waiting import PATIENCE

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import JobFailed, WaitTimeout
from dobatch_pandas.job.process import close_home


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of two requests, so that a small frame has many batches."""
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(2, 200_000_000))


def frame(n=6):
    return pd.DataFrame({"n": range(n)}, index=[f"row {i}" for i in range(n)])


def test_rows_come_part_by_part_and_each_once(server, small_parts):
    """
    What has ended can be read while the rest runs; together it is what `result` has.
    """
    server.hold(after=2)
    job = frame().dobatch.submit("{n}", model="echo")
    stream = job.stream(timeout=PATIENCE)
    first = next(stream)
    assert 0 < len(first) < 6
    assert job.status != "completed"
    server.release()
    pieces = [first, *stream]
    together = pd.concat(pieces)
    assert together.index.is_unique
    pd.testing.assert_frame_equal(together.loc[job.result().index], job.result())
    assert len(pieces) > 1


def test_what_waits_for_nothing_comes_first(server):
    """
    Rows that were answered before, and rows that are not asked, are there at once.
    """
    frame(2).dobatch.submit("{n}", model="echo").wait()
    server.hold()
    rows = frame(4).astype("Int64")
    rows.loc["row 3", "n"] = pd.NA
    job = rows.dobatch.submit("{n}", model="echo", missing="skip")
    stream = job.stream(timeout=PATIENCE)
    first = next(stream)
    assert list(first.index) == ["row 0", "row 1", "row 3"]
    assert first["response_error"].tolist()[-1] == "missing_input"
    server.release()
    [rest] = list(stream)
    assert list(rest.index) == ["row 2"]


def test_a_row_with_several_samples_comes_whole(server, small_parts):
    """
    Not before the last of its samples.
    """
    job = frame(3).dobatch.submit("{n}", model="echo", samples=3)
    rows = pd.concat(list(job.stream(timeout=PATIENCE)))
    assert sorted(rows.index) == ["row 0", "row 1", "row 2"]
    assert rows.notna().sum()[["response", "response_2", "response_3"]].tolist() == [3, 3, 3]


def test_equal_rows_and_labels_that_repeat_come_each(server, small_parts):
    """
    What was asked once is answered on all of its rows.
    """
    rows = pd.DataFrame({"n": [1, 2, 1, 3, 1]}, index=["a", "a", "b", "b", "b"])
    got = pd.concat(list(rows.dobatch.submit("{n}", model="echo").stream(timeout=PATIENCE)))
    assert len(got) == 5
    assert sorted(got["response"]) == ["1", "1", "1", "2", "3"]


def test_a_retry_gives_only_the_newest_word(serve):
    """
    A row that is asked again is not there until it is answered again.
    """
    server = serve(fail_share=1.0, fail_kinds=("server_error",), fail_times=1)
    job = frame(3).dobatch.submit("{n}", model="echo").wait()
    assert len(pd.concat(list(job.stream()))) == 3
    server.hold()
    assert job.retry() == 3
    stream = job.stream(timeout=PATIENCE)
    server.release()
    rows = pd.concat(list(stream))
    assert rows["response_error"].isna().all()
    assert len(rows) == 3


def test_a_stream_that_is_left_begins_anew_elsewhere(server, home, small_parts):
    """
    Time is over, the process is another one, the laptop slept: what is there comes first, and then the rest.
    """
    server.hold(after=2)
    job = frame().dobatch.submit("{n}", model="echo")
    next(job.stream(timeout=PATIENCE))
    seen = []
    with pytest.raises(WaitTimeout):
        seen.extend(label for rows in job.stream(timeout=0.1) for label in rows.index)
    assert 0 < len(seen) < 6
    close_home(home)
    server.release()
    later = dobatch.attach(job.id)
    assert sorted(pd.concat(list(later.stream(timeout=PATIENCE))).index) == sorted(frame().index)


def test_a_job_without_any_answer_raises_after_what_there_is(server):
    """
    The codes come first, so that nobody has to ask twice why.
    """
    server.faults.add("create_batch", status=400, times=None)
    stream = frame(2).dobatch.submit("{n}", model="echo").stream(timeout=PATIENCE)
    assert set(next(stream)["response_error"]) == {"batch_failed"}
    with pytest.raises(JobFailed):
        next(stream)


def test_update_without_waiting_fills_in_as_answers_come(server, small_parts):
    """
    The same frame, again and again: `pending` goes, answers stay.
    """
    server.hold(after=2)
    rows = frame()
    job = rows.dobatch.submit("{n}", model="echo")
    next(job.stream(timeout=PATIENCE))
    rows.dobatch.update(job, wait=False)
    pending = (rows["response_error"] == "pending").sum()
    assert 0 < pending < 6
    server.release()
    job.wait()
    rows.dobatch.update(job, wait=False)
    assert rows["response"].tolist() == [str(n) for n in range(6)]
    assert rows["response_error"].isna().all()
