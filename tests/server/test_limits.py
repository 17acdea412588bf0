"""Rate limits: headers on every call, and real refusals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from server import schemas
from server.driver import chat_lines, jsonl
from server.schemas import check

from dobatch_pandas.server.clock import Clock
from dobatch_pandas.server.limits import RateLimiter


def still():
    """A clock that only `advance` moves: a minute may pass while a busy machine makes five calls."""
    return 1_800_000_000.0


def test_calls_beyond_the_limit_answer_429(serve):
    """
    With retry-after, and after that time calls pass again.
    """
    api = serve(rate_limit=(5, 100), clock=still)
    # What is told is the hour's quota, until the minute's is used up.
    for left in (99, 98, 97, 96, 0):
        answer = api.call("GET", "/v1/batches")
        assert answer.headers["ratelimit-limit"] == "100"
        assert answer.headers["ratelimit-remaining"] == str(left)
    refused = api.call("GET", "/v1/batches")
    assert refused.status_code == 429
    check(refused.json(), schemas.ERROR)
    wait = int(refused.headers["retry-after"])
    assert wait == 60
    assert int(refused.headers["ratelimit-reset"]) > 1_700_000_000
    api.server.advance(wait)
    assert api.call("GET", "/v1/batches").status_code == 200


def test_the_hour_is_limited_as_well(serve):
    """
    The tighter of both limits is the one that is reported.
    """
    api = serve(rate_limit=(5, 8), clock=still)
    statuses = []
    for _ in range(3):
        for _ in range(4):
            answer = api.call("GET", "/v1/batches")
            statuses.append(answer.status_code)
        api.server.advance(60)
    assert statuses == [200] * 8 + [429] * 4
    assert int(answer.headers["retry-after"]) > 3000


def test_each_token_has_its_own_allowance(serve):
    """
    One user's calls are not another's.
    """
    from server.driver import Api

    api = serve(rate_limit=(1, 10), clock=still)
    assert api.call("GET", "/v1/batches").status_code == 200
    assert api.call("GET", "/v1/batches").status_code == 429
    assert Api(api.server, "other").call("GET", "/v1/batches").status_code == 200


def test_signed_addresses_are_not_counted(serve):
    """
    Storage is another house.
    """
    api = serve(rate_limit=(1, 10), clock=still)
    url = api.intent()["upload_url"]
    for _ in range(3):
        answer = api.put(url, jsonl(chat_lines(1)))
        assert answer.status_code == 200
        assert "ratelimit-limit" not in answer.headers


@given(
    gaps=st.lists(st.floats(0, 100), max_size=60), per_minute=st.integers(1, 6), per_hour=st.integers(1, 30)
)
def test_no_window_ever_holds_more_than_its_limit(gaps, per_minute, per_hour):
    """
    Whatever the rhythm, in any 60 seconds and any hour; and waiting `retry_after` is always enough.
    """
    now = [0.0]
    limiter = RateLimiter(per_minute, per_hour, Clock(lambda: now[0]))
    passed = []
    for gap in gaps:
        now[0] += gap
        answer = limiter.ask("t")
        if answer.retry_after is None:
            passed.append(now[0])
        else:
            now[0] += answer.retry_after + 1e-6
            if limiter.ask("t").retry_after is None:
                passed.append(now[0])
    for end in passed:
        assert sum(end - 60 < one <= end for one in passed) <= per_minute
        assert sum(end - 3600 < one <= end for one in passed) <= per_hour
