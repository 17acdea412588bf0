"""A job's state in words."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import get_args

import pytest
from display.fakes import FAILURES, NOW, snapshot
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.display import text
from dobatch_pandas.display.snapshot import BatchRow, Expected, Snapshot, State

HALF_SENT = (
    BatchRow(0, "batch_1", "validating", 50, 0, 0, 5_000),
    BatchRow(1, None, "rendered", 50, 0, 0, 5_000),
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "recorded"}, "Saved on this machine; nothing has been sent yet."),
        ({"state": "rendering", "rendered": 61, "parts": None}, "Preparing requests: 61 of 100 rows."),
        ({"state": "uploading", "completed": 0, "batches": HALF_SENT}, "50 of 100 requests are at the service."),
        ({"state": "uploading", "completed": 0, "batches": HALF_SENT, "parts": None, "rows": 400, "rendered": 200},
         "50 of about 200 requests are at the service."),
        ({"state": "queued", "reused": 30}, "has all 70 requests and has not started on them yet"),
        ({"state": "running", "completed": 4_200, "failed": 10, "requests": 80_000},
         "4,210 of 80,000 requests are finished, 10 of them failed."),
        ({"state": "finalizing", "completed": 100}, "All 100 requests are finished. The service is writing"),
        ({"state": "downloading", "completed": 100}, "Fetching and reading the answers."),
        ({"state": "cancelling"}, "waiting for those in flight"),
        ({"state": "paused"}, "Paused: nothing is lost"),
        ({"state": "completed", "completed": 79_950, "failed": 50, "requests": 80_000},
         "79,950 answered, 50 failed."),
        ({"state": "completed", "completed": 60, "reused": 40}, "100 answered (40 by earlier jobs), 0 failed."),
        ({"state": "completed", "completed": 99, "requests": 99, "skipped": 1}, "1 row not sent."),
        ({"state": "cancelled"}, "40 answered, 0 failed, 60 never answered."),
        ({"state": "cancelled", "failed": 60, "cancelled": 55}, "40 answered, 5 failed, 55 cancelled."),
        ({"state": "cancelled", "failed": 60, "cancelled": 60}, "40 answered, 60 cancelled."),
        ({"state": "expired", "failed": 60, "expired": 60}, "40 answered, 60 expired. The window closed before"),
    ],
)  # fmt: skip
def test_every_state_is_a_sentence(changes: dict[str, object], words: str) -> None:
    """
    What happens now and how far it is, in words; at 100 % the service's own work is named, so nothing looks hung.
    """
    assert words in text.progress_line(snapshot(**changes))


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_has_one_line_that_any_log_can_show(state: State) -> None:
    """
    ``repr`` and log lines are one line of ASCII, and end with what runs.
    """
    line = text.describe(snapshot(state=state, eta=90.0, cost=0.2), now=NOW)
    assert line.isascii()
    assert "\n" not in line
    assert line.endswith("gpt-4.1-mini - chat completions -> sentiment")


def test_a_problem_is_part_of_the_line() -> None:
    """
    Why it failed, or what it waits for, stands in the line and not only in a panel.
    """
    paused = snapshot(
        state="paused", problem="The token has expired. Give another with dobatch.configure(token=...)."
    )
    assert "(The token has expired. Give another with dobatch.configure(token=...))" in text.describe(paused)


def test_time_says_elapsed_left_and_the_windows_end() -> None:
    """
    Elapsed, what is left by the pace so far, and when the window ends; afterwards only how long it took.
    """
    assert text.time_line(snapshot(eta=1_980.0), NOW) == "10 min elapsed · about 33 min left"
    slow = text.time_line(snapshot(eta=20 * 3600.0), NOW)
    assert slow.startswith("10 min elapsed · about 20 h left · window ends in 23 h (")
    assert text.time_line(snapshot(deadline=NOW - 5), NOW).endswith("the window has ended")
    over = text.time_line(snapshot(state="completed", ended=NOW - 60), NOW)
    assert over.startswith("took 9 min, ended ")
    assert time.strftime("%Y", time.localtime(NOW)) in over
    assert "left" not in text.time_line(snapshot(state="finalizing", eta=0.0), NOW)


def test_usage_is_said_as_far_as_it_is_known() -> None:
    """
    Tokens and dollars appear where the service or the price list gave them, and nothing is made up.
    """
    assert text.money_line(snapshot()) == text.tokens_line(snapshot()) == ""
    known = snapshot(prompt_tokens=1_200, completion_tokens=30, cost=0.0000042)
    assert text.money_line(known) == "$0.0000042 spent so far"
    assert text.tokens_line(known) == "1,200 tokens in, 30 out"
    assert text.money_line(replace(known, state="completed", cost=1_234.5)) == "$1,234.50"


def test_rows_requests_and_reuse_are_told_apart() -> None:
    """
    Rows that ask the same, rows answered earlier and rows never sent are each counted.
    """
    assert text.rows_line(snapshot()) == "100 rows"
    line = text.rows_line(snapshot(rows=1, requests=2, reused=1, skipped=3))
    assert line == "1 row · 2 distinct requests · 1 answered by earlier jobs · 3 not sent"


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0"), (0.004, "<1"), (0.5, "50"), (0.996, "99"), (1, "100")]
)
def test_a_share_is_full_only_at_the_end(share: float, words: str) -> None:
    """
    100 % is never said before everything has ended, nor 0 % after something has.
    """
    assert text.percent(share) == f"{words}\u202f%"


def test_done_with_failures_is_not_just_done() -> None:
    """
    The word for the state says that rows have failed.
    """
    assert text.state_word(snapshot(state="completed", completed=100)) == "Done"
    assert text.state_word(snapshot(state="completed", failed=4, errors=FAILURES)) == "Done, with failures"
    assert text.state_word(snapshot(state="completed", skipped=2)) == "Done, not all sent"


counts = st.integers(0, 10_000)
batches = st.lists(
    st.builds(
        BatchRow,
        part=counts,
        batch_id=st.none() | st.just("batch_1"),
        state=st.sampled_from(
            ["rendered", "uploading", "uploaded", "held", "in_progress", "completed", "odd"]
        ),
        requests=counts,
        completed=counts,
        failed=counts,
        bytes=counts,
    ),
    max_size=5,
).map(tuple)
snapshots = st.builds(
    Snapshot,
    job_id=st.text(),
    state=st.sampled_from(get_args(State)),
    model=st.text(),
    provider=st.just("openai"),
    endpoint=st.text(),
    into=st.text(),
    rows=counts,
    requests=counts,
    reused=counts,
    skipped=counts,
    rendered=counts,
    completed=counts,
    failed=counts,
    parts=st.none() | counts,
    uploaded=counts,
    upload_share=st.none() | st.floats(0, 1),
    started=st.just(0.0) | st.just(NOW),
    ended=st.none() | st.just(NOW + 5),
    deadline=st.none() | st.just(NOW + 5),
    eta=st.none() | st.floats(0, 1e6),
    prompt_tokens=st.none() | counts,
    completion_tokens=st.none() | counts,
    cancelled=counts,
    expired=counts,
    expected=st.none()
    | st.builds(Expected, st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e6)),
    batches=batches,
    problem=st.none() | st.text(),
)


@given(snapshots)
def test_any_counts_make_a_bar_that_fits(now: Snapshot) -> None:
    """
    Counters of the service lag behind each other; the bar stays within its bounds and words are found.
    """
    found = text.portions(now)
    assert min(vars(found).values()) >= 0
    assert found.answered == now.completed + now.reused
    assert found.failed + found.cancelled + found.expired == now.failed
    assert 0 <= found.finished <= 1
    assert text.describe(now)
    assert text.legend(now)
    text.time_line(now)
    text.money_line(now)
    text.tokens_line(now)
    text.retry_line(now)


@given(st.lists(snapshots, min_size=2, max_size=8))
def test_a_bar_never_goes_back(moments: list[Snapshot]) -> None:
    """
    Whatever the counters say, until a retry begins or the job is over the bar is drawn no shorter than before.
    """
    mark = text.Mark()
    shares = [mark.of(replace(now, state="running", round=0)) for now in moments]
    assert shares == sorted(shares)
    assert mark.of(replace(moments[0], state="running", round=1)) == text.portions(moments[0]).finished


def test_what_was_never_run_is_not_called_failed() -> None:
    """
    A cancelled job of 4,215 with 32 failures says so, and the bar stays where the work stopped.
    """
    now = snapshot(state="cancelled", requests=4_215, completed=724, failed=3_491, cancelled=3_459)
    assert [words for _, words in text.legend(now)] == ["724 answered", "32 failed", "3,459 cancelled"]
    assert text.percent(text.portions(now).finished) == "18\u202f%"


def test_all_failed_is_said_in_as_many_words() -> None:
    """
    A job of which nothing came is not "done, with failures".
    """
    assert text.state_word(snapshot(state="completed", completed=0, failed=178)) == "All 178 failed"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("uploading", "Uploading: 0 of 1 request is at the service."),
        ("queued", "The service has the request and has not started on it yet."),
        ("running", "0 of 1 request is finished."),
        ("cancelling", "0 of 1 request is finished; waiting for those in flight."),
    ],
)
def test_a_single_request_is_one(state: State, words: str) -> None:
    """
    A job of one row is told of in the singular.
    """
    one = snapshot(rows=1, requests=1, completed=0, batches=(), state=state)
    assert text.progress_line(one) == words


def test_a_single_request_that_has_ended_is_one() -> None:
    """
    Neither "1 requests are finished" nor "all 1 failed"; and where nothing could be sent, that is what is said.
    """
    one = snapshot(rows=1, requests=1, completed=1)
    assert text.progress_line(replace(one, state="finalizing")).startswith("1 request is finished. ")
    assert text.progress_line(replace(one, state="downloading")).startswith("1 request is finished. ")
    assert text.state_word(replace(one, state="completed", completed=0, failed=1)) == "The only one failed"
    none = snapshot(state="completed", rows=5, requests=0, completed=0, skipped=5)
    assert text.state_word(none) == "Done, nothing sent"


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (Expected(0.075, 0.092, None, True), "$0.075 to $0.092"),
        (Expected(0.075, 0.092), "about $0.075 to $0.092"),
        (Expected(0.075, 0.092, 0.12, True), "$0.075 to $0.092, at most $0.12"),
        (Expected(0.075, None), "about $0.075 and the answers, which no max_tokens limits"),
        (Expected(0.075, 0.075, None, True), "$0.075"),
    ],
)
def test_what_is_expected_is_said_with_its_bound(expected: Expected, words: str) -> None:
    """
    Before anything was spent: what it may cost, how sure that is, and what it cannot exceed.
    """
    assert text.money_line(snapshot(expected=expected)) == f"expected {words}"


def test_a_retry_says_what_it_sends_and_costs() -> None:
    """
    How many of the failures are worth another try, and about how much that is.
    """
    over = snapshot(state="completed", completed=90, failed=10, errors=FAILURES, cost=1.0)
    assert text.retry_line(over) == "A retry sends 1 of them again, about $0.010."
    assert "Retrying will not help" in text.retry_line(replace(over, errors=FAILURES[:1]))
    stopped = replace(over, state="cancelled", cancelled=9, cost=None)
    assert text.retry_line(stopped) == "A retry sends 1 failed and 9 that were never run."
