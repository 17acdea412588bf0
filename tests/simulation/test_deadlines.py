"""Days with a deadline: what can be met is met, nothing is run twice, and max_cost holds over both prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from simulation.deadlines import Found, run

from dobatch_pandas.job import machine as m

# `python -m tests.simulation --deadlines --seeds 1000` plays more of them.
DAYS, CHUNK = 200, 25
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("first", range(0, DAYS, CHUNK))
def test_every_deadline_that_can_be_met_is_met(first: int) -> None:
    """Batches end early, late, in part or never; drains are slow, services are down, processes die: no request is run twice."""
    claimed = asked = 0
    for seed in range(first, first + CHUNK):
        day = run(seed)
        claimed += day.claimed
        asked += day.in_real_time
    # The days are of all kinds: some deadlines can be met for certain, and real time is used.
    assert claimed
    assert asked


def _returns(patch: Patch, name: str, change: Callable[..., Any]) -> None:
    real = getattr(m, name)
    patch.setattr(m, name, lambda *given: change(real, *given))


def it_never_switches(patch: Patch) -> None:
    patch.setattr(m, "_switch", lambda state, now: state)


def it_switches_when_the_time_is_over(patch: Patch) -> None:
    patch.setattr(m, "switch_at", lambda state: state.deadline)


def it_forgets_that_asking_takes_time(patch: Patch) -> None:
    patch.setattr(m, "seconds_in_real_time", lambda requests, pace: 0.0)
    _returns(
        patch,
        "switch_at",
        lambda real, state: None if state.deadline is None else state.deadline - state.margin / 4,
    )


def it_does_not_cancel_the_batch(patch: Patch) -> None:
    real = m._next

    def next_(state: m.State, part: m.Part, now: m.Now) -> Any:
        return real(state, replace(part, cancel_asked=True) if part.open and part.to_now else part, now)

    patch.setattr(m, "_next", next_)


def it_buys_what_the_batch_may_still_answer(patch: Patch) -> None:
    patch.setattr(m, "_owed", lambda part, event: False)


def it_asks_what_may_have_been_created(patch: Patch) -> None:
    real = m._switch

    def switch(state: m.State, now: m.Now) -> m.State:
        return real(
            m._each(state, lambda p: replace(p, tried=False) if p.unsent and p.doing is None else p), now
        )

    patch.setattr(m, "_switch", switch)


def it_asks_without_a_budget(patch: Patch) -> None:
    patch.setattr(m, "_over_budget", lambda state, part: None)
    patch.setattr(m, "affordable", lambda state, part: True)


def it_ends_batches_whose_rest_nobody_can_pay(patch: Patch) -> None:
    patch.setattr(m, "_committed", lambda part: 0.0)


def it_drops_what_the_batch_did_not_run(patch: Patch) -> None:
    patch.setattr(m, "CARRIED", frozenset(["expired"]))


def it_does_not_say_what_a_batch_owes(patch: Patch) -> None:
    _returns(
        patch,
        "_ended",
        lambda real, state, now: replace(
            real(state, now),
            problem=real(
                replace(state, parts={n: replace(p, to_now=False) for n, p in state.parts.items()}), now
            ).problem,
        ),
    )


def it_takes_what_may_have_been_run_for_cancelled(patch: Patch) -> None:
    _returns(patch, "why_missing", lambda real, part: real(replace(part, owes=False)))


def it_lets_rows_wait_that_were_surely_not_run(patch: Patch) -> None:
    def next_(real: Callable[..., Any], state: m.State, part: m.Part, now: m.Now) -> Any:
        after, action = real(state, part, now)
        return after, replace(action, carry=False) if isinstance(action, m.Read) and part.owes else action

    _returns(patch, "_next", next_)


def it_counts_what_goes_on_twice(patch: Patch) -> None:
    def carried(real: Callable[..., Any], part: m.Part, rest: m.Part) -> Any:
        after, rest = real(part, rest)
        return replace(after, bound=part.bound_now), rest

    _returns(patch, "_carried", carried)


MUTANTS = [
    it_never_switches,
    it_switches_when_the_time_is_over,
    it_forgets_that_asking_takes_time,
    it_does_not_cancel_the_batch,
    it_buys_what_the_batch_may_still_answer,
    it_asks_what_may_have_been_created,
    it_asks_without_a_budget,
    it_ends_batches_whose_rest_nobody_can_pay,
    it_drops_what_the_batch_did_not_run,
    it_does_not_say_what_a_batch_owes,
    it_takes_what_may_have_been_run_for_cancelled,
    it_lets_rows_wait_that_were_surely_not_run,
    it_counts_what_goes_on_twice,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_fault_in_the_policy_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """The days are not blind: each fault that somebody could make is found."""
    mutant(monkeypatch)
    for seed in FOUND_BY.get(mutant.__name__, ()):
        try:
            run(seed)
        except Found:
            return
    for seed in range(DAYS):
        try:
            run(seed)
        except Found:
            return
    pytest.fail(f"{mutant.__name__} is not found")


# Seeds that have found each mutant; where the machine has changed since, others are tried.
FOUND_BY: dict[str, tuple[int, ...]] = {
    "it_never_switches": (2, 8, 36),
    "it_switches_when_the_time_is_over": (2, 8, 36),
    "it_forgets_that_asking_takes_time": (8, 46, 57),
    "it_does_not_cancel_the_batch": (8, 36, 57),
    "it_buys_what_the_batch_may_still_answer": (49, 67),
    "it_asks_what_may_have_been_created": (87, 312, 381),
    "it_asks_without_a_budget": (3, 16, 17),
    "it_ends_batches_whose_rest_nobody_can_pay": (3, 17, 23),
    "it_drops_what_the_batch_did_not_run": (2, 8, 36),
    "it_does_not_say_what_a_batch_owes": (4835, 67, 233),
    "it_takes_what_may_have_been_run_for_cancelled": (49, 67, 233),
    "it_lets_rows_wait_that_were_surely_not_run": (233,),
    "it_counts_what_goes_on_twice": (399, 773, 928),
}
