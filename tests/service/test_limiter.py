"""The limiter: 250 calls a minute, 5,000 an hour, and whatever the service says; time is replaced."""

from __future__ import annotations

import os
import threading
import time
from email.utils import formatdate
from threading import Condition

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.service.limiter import RATE_LIMITS, Limiter, limiter_for


class Time:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, _: Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def limiter(clock: Time, *limits: tuple[int, float]) -> Limiter:
    return Limiter(limits, clock=clock, pause=clock.pause)


def test_a_minute_takes_250_calls_and_the_next_one_waits() -> None:
    """The 251st call of a minute waits until the first is a minute old."""
    clock = Time()
    turnstile = limiter(clock, *RATE_LIMITS)

    for _ in range(250):
        assert turnstile.wait()
    assert clock.now == 1_000.0
    assert turnstile.wait()
    assert clock.now == pytest.approx(1_060.0)


def test_an_hour_takes_5000_calls() -> None:
    """However calls are spread, no hour has more than 5,000, and no minute more than 250."""
    clock, calls = Time(), []
    turnstile = limiter(clock, *RATE_LIMITS)
    for _ in range(5_400):
        turnstile.wait()
        calls.append(clock.now)

    assert all(later - earlier >= 60 - 1e-6 for earlier, later in zip(calls, calls[250:], strict=False))
    assert all(later - earlier >= 3_600 - 1e-6 for earlier, later in zip(calls, calls[5_000:], strict=False))
    assert calls[4_999] - calls[0] < 1_200


@given(st.lists(st.floats(0, 40), max_size=60), st.integers(1, 5), st.floats(1, 30))
@settings(max_examples=50)
def test_no_stretch_of_time_ever_holds_more_calls_than_allowed(
    gaps: list[float], most: int, span: float
) -> None:
    """Whatever the pattern of calls, the limit holds in every stretch, and nobody waits longer than one."""
    clock, calls = Time(), []
    turnstile = limiter(clock, (most, span))
    for gap in gaps:
        clock.now += gap
        before = clock.now
        turnstile.wait()
        calls.append(clock.now)
        assert clock.now - before <= span + 1e-6

    assert all(later - earlier >= span - 1e-6 for earlier, later in zip(calls, calls[most:], strict=False))


def test_nothing_remaining_waits_for_the_reset() -> None:
    """An answer that says none are left closes the door until the time it names, by the server's clock."""
    clock = Time()
    turnstile = limiter(clock)
    server_now = time.time() - 86_400  # a server whose clock is a day late
    turnstile.learn(
        {
            "ratelimit-remaining": "0",
            "ratelimit-reset": str(int(server_now) + 20),
            "date": formatdate(int(server_now), usegmt=True),
        }
    )

    turnstile.wait()
    assert clock.now == pytest.approx(1_020.0)


def test_a_reset_in_seconds_from_now_is_understood() -> None:
    """The Internet draft of these headers counts from now; that works as well."""
    clock = Time()
    turnstile = limiter(clock)
    turnstile.learn({"ratelimit-remaining": "0", "ratelimit-reset": "7"})

    assert turnstile.delay() == pytest.approx(7.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-remaining": "12", "ratelimit-reset": "99999999999"},
        {"ratelimit-remaining": "0"},
        {"ratelimit-remaining": "none", "ratelimit-reset": "soon"},
        {"ratelimit-remaining": "nan", "ratelimit-reset": "nan"},
        {"ratelimit-remaining": "0", "ratelimit-reset": "inf"},
    ],
)
def test_headers_that_say_nothing_change_nothing(headers: dict[str, str]) -> None:
    """Calls left, no headers, or nonsense in them: the next call goes at once."""
    clock = Time()
    turnstile = limiter(clock)
    turnstile.learn(headers)

    assert turnstile.delay() == 0


def test_retry_after_stops_every_caller() -> None:
    """A 429 with retry-after holds all calls to the host, not only the one that was told."""
    clock = Time()
    turnstile = limiter(clock)
    turnstile.learn({}, retry_after=12.0)

    assert turnstile.delay() == pytest.approx(12.0)
    turnstile.wait()
    assert clock.now == pytest.approx(1_012.0)


def test_a_reset_in_the_far_future_stops_for_an_hour_at_most() -> None:
    """A confused server cannot stop everything until next year."""
    clock = Time()
    turnstile = limiter(clock)
    turnstile.learn({"ratelimit-remaining": "0", "ratelimit-reset": str(int(time.time()) + 10**7)})

    assert turnstile.delay() == pytest.approx(3_600.0)


def test_wait_says_no_rather_than_waiting_beyond_the_timeout() -> None:
    """A caller with little time is told at once, and has not used up a turn."""
    clock = Time()
    turnstile = limiter(clock, (1, 60.0))
    turnstile.wait()

    assert not turnstile.wait(timeout=5.0)
    assert clock.waits == []
    assert turnstile.wait(timeout=61.0)
    assert turnstile.delay() == pytest.approx(60.0)


def test_many_threads_get_through_without_a_deadlock() -> None:
    """Threads that crowd the door all get their turn, and the door may close among them."""
    turnstile = Limiter(((20, 0.05),))
    threads = [
        threading.Thread(target=lambda: [turnstile.wait() for _ in range(10)], daemon=True) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    turnstile.close_for(0.05)
    for thread in threads:
        thread.join(timeout=120)

    assert not any(thread.is_alive() for thread in threads)


def test_a_host_has_one_limiter_for_the_whole_process() -> None:
    """Two clients of one host share its limits; this machine has none of its own."""
    assert limiter_for("one.example") is limiter_for("one.example")
    assert limiter_for("one.example") is not limiter_for("two.example")
    local = limiter_for("127.0.0.1:1", local=True)
    for _ in range(1_000):
        assert local.wait(timeout=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forking is for POSIX systems")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_never_inherits_a_held_lock() -> None:
    """A process forked while another thread is in the limiter can still make calls."""
    turnstile = limiter_for("forked.example")
    with turnstile._changed:
        child = os.fork()
        if child == 0:
            os._exit(0 if limiter_for("forked.example").wait(timeout=0) else 1)
    assert os.waitpid(child, 0)[1] == 0
