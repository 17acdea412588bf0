"""Done by six o'clock: half the price as long as there is time, and the answers all the same."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from datetime import time as clock_time

import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE, eventually

import dobatch_pandas as dobatch
from dobatch_pandas.codes import RETRYABLE
from dobatch_pandas.errors import BudgetExceeded, InputError
from dobatch_pandas.job import deadline as d
from dobatch_pandas.job import machine as m
from dobatch_pandas.job.process import close_home

PRICES = {"echo": dobatch.Prices(input=1.0, output=4.0)}


class Calls:
    """What was asked in real time: as the server has counted before it answered."""

    def __init__(self, server):
        self._server = server

    @property
    def real_time(self):
        return self._server.calls.count("infer")


@pytest.fixture
def server(server):
    dobatch.configure(prices=PRICES)
    return server


@pytest.fixture
def calls(server):
    return Calls(server)


def rows(n=12):
    return pd.DataFrame({"n": range(n)})


def submit(n=12, **options):
    options = {"model": "echo", "max_tokens": 5, **options}
    return rows(n).dobatch.submit("{n}", **options)


def warm():
    """Ask something once, so that the speed is known."""
    rows(1).dobatch.submit("how quick is it {n}", model="echo", max_tokens=5, into="warm", mode="now").wait()


# -- when


NOW = datetime(2026, 3, 28, 9, 0).astimezone()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("18:00", datetime(2026, 3, 28, 18, 0)),
        (" 18:00 ", datetime(2026, 3, 28, 18, 0)),
        ("today 9:30", datetime(2026, 3, 28, 9, 30)),
        ("tomorrow 6:00", datetime(2026, 3, 29, 6, 0)),
        ("Tomorrow 06:00:30", datetime(2026, 3, 29, 6, 0, 30)),
        (clock_time(17, 15), datetime(2026, 3, 28, 17, 15)),
        (timedelta(hours=30), datetime(2026, 3, 29, 15, 0)),
        (pd.Timedelta("90min"), datetime(2026, 3, 28, 10, 30)),
        (datetime(2026, 3, 28, 12, 0), datetime(2026, 3, 28, 12, 0)),
        (pd.Timestamp("2026-03-28 12:00"), datetime(2026, 3, 28, 12, 0)),
    ],
)
def test_a_deadline_is_typed_as_people_say_it(typed, meant):
    """
    What has no zone is the time on the wall here.
    """
    if isinstance(typed, timedelta):
        assert d.moment_of(typed, NOW) == NOW.timestamp() + typed.total_seconds()
    else:
        assert d.moment_of(typed, NOW) == meant.astimezone().timestamp()


def test_a_zone_is_kept():
    """
    Six o'clock in Tokyo is six o'clock in Tokyo.
    """
    tokyo = timezone(timedelta(hours=9))
    assert (
        d.moment_of(datetime(2026, 3, 29, 6, 0, tzinfo=tokyo), NOW)
        == datetime(2026, 3, 28, 21, 0, tzinfo=timezone.utc).timestamp()
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("6:00", 'over: .*say "tomorrow 06:00"'),
        (clock_time(6, 0), 'say "tomorrow 06:00"'),
        (timedelta(0), "over"),
        (timedelta(seconds=-5), "over"),
        (datetime(2020, 1, 1), "over"),
        ("soon", "takes a time of today"),
        ("25:00", "no moment"),
        ("18", "takes a time of today"),
        ("", "takes a time of today"),
        (18, "takes a time of today"),
        (True, "takes a time of today"),
        (pd.NaT, "takes a time of today"),
        (timedelta.max, "no moment"),
    ],
)
def test_what_is_no_time_or_over_is_refused_before_anything_is_sent(wrong, words):
    """
    And it says what to type.
    """
    with pytest.raises(InputError, match=words):
        d.moment_of(wrong, NOW)


@given(
    st.text()
    | st.integers()
    | st.floats()
    | st.datetimes()
    | st.timedeltas()
    | st.times()
    | st.none()
    | st.binary()
)
def test_whatever_is_given_is_a_moment_or_an_error_of_ours(given):
    """
    No foreign exception, ever.
    """
    try:
        moment = d.moment_of(given, NOW)
    except InputError as error:
        moment, said = None, str(error)
    assert "deadline is" in said if moment is None else moment > NOW.timestamp()


def test_all_that_is_wrong_is_told_at_once(server):
    """
    Mode and deadline together, and nothing has been sent.
    """
    with pytest.raises(InputError) as caught:
        submit(mode="later", deadline="soon")
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match="asks at once"):
        submit(mode="now", deadline=timedelta(hours=1))
    assert dobatch.jobs().empty


@pytest.mark.parametrize("option", [{"deadline": "18:00"}, {"mode": "now"}])
def test_a_door_that_cannot_use_them_says_so(option, server):
    """
    They never travel to the service as parameters of the body.
    """
    [name] = option
    for door in (rows().dobatch.plan, rows().dobatch.trial):
        with pytest.raises(InputError, match=f"{name} is not for"):
            door("{n}", model="echo", **option)


# -- at once


def test_now_asks_in_real_time_as_a_job_like_any_other(server, calls):
    """
    Same ids, same codes, same columns; no batch.
    """
    job = submit(mode="now").wait()
    assert job.result()["response"].tolist() == [str(n) for n in range(12)]
    assert (calls.real_time, len(server.batches)) == (12, 0)
    assert job.status == "completed"
    again = submit(mode="now").wait()
    assert again.id == job.id
    assert calls.real_time == 12
    # And a batch of the same rows pays nothing: the ids are the same.
    batch = submit(fresh=False, n=14).wait()
    assert batch.counts["reused"] == 12


@pytest.mark.parametrize(
    "endpoint", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]
)
def test_now_and_batch_give_the_same(endpoint, server):
    """
    Every endpoint, rendered and read by the same code.
    """
    more = {"max_tokens": 5} if endpoint == "/v1/messages" else {}
    options = {"model": "echo", "endpoint": endpoint, **more}
    batch = rows().dobatch.submit("say {n}", **options).wait().result()
    now = rows().dobatch.submit("say {n}", mode="now", fresh=True, **options).wait().result()
    pd.testing.assert_frame_equal(batch, now)
    assert now["response_error"].isna().all()


def test_now_costs_the_real_time_price_everywhere(server):
    """
    The panel, the usage, the list of jobs and what was spent agree; a batch of the same is half.
    """
    job = submit(mode="now").wait()
    batch = submit(fresh=True).wait()
    assert job.usage().cost == pytest.approx(2 * batch.usage().cost)
    assert job.snapshot().cost == pytest.approx(job.usage().cost)
    listed = dobatch.jobs()["cost"]
    assert listed[job.id] == pytest.approx(job.usage().cost)
    assert listed[batch.id] == pytest.approx(batch.usage().cost)
    assert dobatch.spending("job")["cost"].sum() == pytest.approx(3 * batch.usage().cost)


def test_max_cost_holds_in_real_time(server, calls):
    """
    What a batch may cost, real time may not: nothing is sent.
    """
    most = rows().dobatch.plan("{n}", model="echo", max_tokens=5).estimate().cost_batch[1]
    with pytest.raises(BudgetExceeded):
        submit(mode="now", max_cost=most * 1.2)
    assert calls.real_time == 0
    assert submit(max_cost=most * 1.2).wait().status == "completed"


def test_rows_that_are_refused_have_their_own_code(server):
    """
    As in a batch; `retry` sends again what may end otherwise, in real time as well.
    """
    server.faults.add("infer", status=400, times=3)
    server.faults.add("infer", status=500, times=2)
    job = submit(mode="now").wait()
    errors = job.result()["response_error"].value_counts()
    assert (errors["http_400"], errors["http_500"]) == (3, 2)
    assert job.retry() == 2
    job.wait()
    assert job.result()["response_error"].value_counts().to_dict() == {"http_400": 3}
    assert not server.batches


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_busy_is_asked_again(status, server, calls):
    """
    What was refused before it was run is no answer: the row waits, and is run once.
    """
    server.faults.add("infer", status=status, times=5)
    job = submit(mode="now").wait(PATIENCE)
    assert job.result()["response_error"].isna().all()


def test_an_answer_that_was_lost_is_not_asked_again_by_itself(server):
    """
    It may have been run and paid: the row says so, and a person decides.
    """
    server.faults.add("infer", drop="after", times=3)
    job = submit(mode="now").wait(PATIENCE)
    assert job.result()["response_error"].value_counts().to_dict() == {"interrupted": 3}
    assert "interrupted" in RETRYABLE
    assert job.retry() == 3
    assert job.wait(PATIENCE).result()["response_error"].isna().all()


def test_a_process_that_dies_pays_no_row_twice(server, calls, home):
    """
    What has an answer keeps it, what was not asked is asked, and what nobody can know has its code.
    """
    server.hold(after=0)
    job = submit(n=30, mode="now")
    eventually(lambda: (job._folder.asked(0)).exists() and job._folder.asked(0).stat().st_size)
    # As a power cut leaves it: names on disk, and a torn answer.
    names = [
        name
        for line in job._folder.asked(0).read_bytes().splitlines()
        for name in orjson.loads(line).get("asked", [])
    ]
    server.release()
    job.wait()
    folder, ids = job._folder, job.responses()["custom_id"].tolist()
    kept = folder.output(0).read_bytes().splitlines()[:4]
    answered = {orjson.loads(line)["custom_id"] for line in kept}
    close_home(home)
    # Back to the moment in which the process died.
    lines = folder.journal_path.read_bytes().splitlines(keepends=True)
    before = lines[:1] + [
        line
        for line in lines[1:]
        if b'"read"' not in line and b'"fetched"' not in line and b'"ended"' not in line
    ]
    folder.journal_path.write_bytes(b"".join(before))
    folder.result(0).unlink()
    folder.output(0).write_bytes(b"\n".join(kept) + b'\n{"custom_id": "torn')
    asked = [*dict.fromkeys([*answered, *names])]
    folder.asked(0).write_bytes(orjson.dumps({"asked": asked}) + b"\n")
    (home / "index.sqlite").unlink()
    before_calls = calls.real_time
    result = dobatch.attach(job.id).wait(PATIENCE).responses().set_index("custom_id")["error_code"]
    unknown = set(asked) - answered
    assert set(result[result == "interrupted"].index) == unknown
    assert result[[i for i in ids if i not in unknown]].isna().all()
    assert calls.real_time - before_calls == 30 - len(asked)


def test_a_cancel_ends_it_and_what_came_stays(server, calls):
    """
    Nothing new is asked after it.
    """
    server.faults.add("infer", delay=2.0, times=None, skip=3)
    job = submit(n=500, mode="now")
    eventually(lambda: job.counts["completed"] >= 2)
    job.cancel().wait(PATIENCE)
    errors = job.result()["response_error"]
    assert job.status == "cancelled"
    assert errors.isna().sum() >= 2
    assert (errors == "cancelled").sum() == 500 - calls.real_time


def test_auto_says_what_it_does(server, calls, capsys):
    """
    A few rows at once, many as a batch, and in a sentence which.
    """
    dobatch.configure(display=None)
    submit(n=5, mode="auto").wait(display=False)
    assert "real time" in capsys.readouterr().out
    assert (calls.real_time, len(server.batches)) == (5, 0)
    submit(n=30, mode="auto").wait(display=False)
    assert "Sent as a batch" in capsys.readouterr().out
    assert len(server.batches) == 1


# -- by a deadline


def test_what_the_batch_has_not_done_in_time_is_asked_in_real_time(server, calls):
    """
    The batch is ended first, what it did is kept, and each row is run once.
    """
    warm()
    server.hold(after=5)
    job = submit(n=30, deadline=timedelta(hours=3))
    eventually(lambda: job.counts["completed"] == 5)
    [plan] = job.snapshot().notes
    words = r"Batch until .+, then about 25 rows in real time, at most \$[\d.]+; done by .+\."
    assert re.fullmatch(words, plan)
    assert "25 rows in real time" in repr(job)
    assert "25 rows in real time" in job._repr_html_()
    job.finish_by(timedelta(seconds=3))
    job.wait(PATIENCE)
    assert job.status == "completed"
    assert job.result()["response"].tolist() == [str(n) for n in range(30)]
    [batch] = server.batches
    assert (batch.status, calls.real_time) == ("cancelled", 1 + 25)
    assert sum(server.executed.values()) == 5
    batch_price = dobatch.spending("job").loc[job.id]
    assert job.snapshot().cost == pytest.approx(job.usage().cost) == pytest.approx(batch_price["cost"])


def test_rows_that_a_batch_owes_are_pending_and_hold_up_no_others(server, calls):
    """
    Its files lack two answers that it has counted: these wait, and what it says it has not run is asked at once.
    """
    warm()
    server.hold(after=5)
    server.faults.spoil(missing=2)
    job = submit(n=30, deadline=timedelta(hours=3))
    eventually(lambda: job.counts["completed"] == 5)
    job.finish_by(timedelta(seconds=3))
    eventually(lambda: calls.real_time == 1 + 25)
    eventually(lambda: job.result(wait=False)["response_error"].value_counts().to_dict() == {"pending": 2})
    assert not job.snapshot().over
    assert calls.real_time == 1 + 25
    assert sum(server.executed.values()) == 5
    # Whoever ends the waiting is told what is true of them: they may have been run.
    job.cancel().wait(PATIENCE)
    assert job.result()["response_error"].value_counts().to_dict() == {"missing_result": 2}
    assert calls.real_time == 1 + 25


def test_a_batch_that_ends_in_time_costs_no_real_time(server, calls):
    """
    Half the price is the rule, the other half the insurance.
    """
    job = submit(deadline=timedelta(hours=3)).wait()
    assert (job.status, calls.real_time) == ("completed", 0)
    assert job.snapshot().notes == ()


def test_a_drain_that_takes_too_long_is_said_and_nothing_is_bought_twice(server, calls):
    """
    The deadline passes; the rows wait for the batch, which may still answer them.
    """
    warm()
    server.hold(after=2)
    server.faults.add("cancel_batch", status=409, times=None)
    job = submit(n=10, deadline=timedelta(hours=3))
    eventually(lambda: sum(server.executed.values()) == 2)
    job.finish_by(timedelta(seconds=3))
    eventually(lambda: any("not bought again" in note for note in job.snapshot().notes))
    assert calls.real_time == 1
    server.release()
    job.wait(PATIENCE)
    assert job.result()["response_error"].isna().all()
    assert (calls.real_time, set(server.executed.values())) == (1, {1})


def test_max_cost_holds_over_both(server, calls):
    """
    Where the rest is too dear in real time the batch goes on past the deadline, and that is said.
    """
    warm()
    most = rows().dobatch.plan("{n}", model="echo", max_tokens=5).estimate().cost_batch[1]
    server.hold(after=1)
    job = submit(deadline=timedelta(seconds=3), max_cost=most * 1.2)
    eventually(lambda: any("max_cost" in note for note in job.snapshot().notes))
    time.sleep(3.5)
    eventually(lambda: job.status == "running")
    server.release()
    job.wait(PATIENCE)
    assert job.result()["response_error"].isna().all()
    assert calls.real_time == 1


def test_a_deadline_can_be_set_and_taken_back_later(server, calls):
    """
    Also by the same submit with another one.
    """
    warm()
    server.hold()
    job = submit()
    job.sent()
    assert job.snapshot().notes == ()
    job.finish_by("tomorrow 6:00")
    assert "done by" in job.snapshot().notes[0]
    job.finish_by(None)
    assert job.snapshot().notes == ()
    same = submit(deadline=timedelta(seconds=4))
    assert same.id == job.id
    job.wait(PATIENCE)
    assert calls.real_time == 13
    assert sum(server.executed.values()) == 0


def test_whoever_takes_the_job_up_switches_in_time(server, calls, home):
    """
    The process that submitted is gone; another one, or cron, sees to it.
    """
    warm()
    server.hold(after=3)
    job = submit(deadline=timedelta(hours=3))
    eventually(lambda: sum(server.executed.values()) == 3)
    job.finish_by(timedelta(seconds=4))
    close_home(home)
    time.sleep(4)
    again = dobatch.attach(job.id).wait(PATIENCE)
    assert again.result()["response_error"].isna().all()
    assert calls.real_time == 1 + 9


def test_several_batches_are_told_apart(server, calls, monkeypatch):
    """
    One has ended, one is in the middle, two have not begun: each row is run once.
    """
    from dobatch_pandas.endpoints.openai import OPENAI
    from dobatch_pandas.endpoints.provider import FileLimits

    warm()
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(10, 200_000_000))
    server.hold(after=15)
    job = submit(n=40, deadline=timedelta(hours=3))
    eventually(lambda: sum(server.executed.values()) == 15)
    job.finish_by(timedelta(seconds=3))
    job.wait(PATIENCE)
    assert job.result()["response"].tolist() == [str(n) for n in range(40)]
    assert set(server.executed.values()) == {1}
    assert calls.real_time == 1 + 40 - sum(server.executed.values())
    ids = Counter(job.responses()["custom_id"])
    assert set(ids.values()) == {1}


def test_time_in_real_time_follows_speed_and_limits():
    """
    The pure part: what is measured, what is assumed, what the rate limits add.
    """
    assert m.seconds_in_real_time(0, 1.0) == 0
    assert m.seconds_in_real_time(8, 2.0) == 2.0
    assert m.seconds_in_real_time(9, 2.0) == 4.0
    assert m.seconds_in_real_time(8, 0.0) == m.ASSUMED
    assert m.seconds_in_real_time(2_400, 0.001) == pytest.approx(540.0)
    assert m.seconds_in_real_time(10_000, 0.001) == pytest.approx(2_460.0, abs=5_000)
    assert m.seconds_in_real_time(10_000, 0.001) >= 7_200
