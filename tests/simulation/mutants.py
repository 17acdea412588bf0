"""
Faults that somebody could make in the machine, the engine or the journal.

A simulation that finds nothing may be blind: `test_mutants` holds that each of these is found.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dobatch_pandas.job import engine, journal
from dobatch_pandas.job import machine as m
from dobatch_pandas.job.engine import Engine
from dobatch_pandas.job.journal import Journal

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(function: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Add a mutant, named as its function."""
    MUTANTS[function.__name__] = function
    return function


def policy(patch: Patch, operation: m.Operation, **verdicts: m.Verdict) -> None:
    patch.setattr(m, "POLICY", {**m.POLICY, operation: {**m.POLICY[operation], **verdicts}})


def after(patch: Patch, name: str, change: Callable[..., Any]) -> None:
    """Have a function of the machine return something else: `change(result, *arguments)`."""
    real = getattr(m, name)
    patch.setattr(m, name, lambda *given, **named: change(real(*given, **named), *given))


# -- believing


@mutant
def a_404_of_a_running_batch_is_final(patch: Patch) -> None:
    policy(patch, "look", unknown=m.Verdict.REFUSED)


@mutant
def a_404_of_results_is_final(patch: Patch) -> None:
    policy(patch, "fetch", unknown=m.Verdict.REFUSED)


@mutant
def a_5xx_of_a_create_is_a_refusal(patch: Patch) -> None:
    real = m._failed

    def failed(state: m.State, part: m.Part, operation: m.Operation, fault: m.Fault, now: m.Now) -> m.Part:
        if operation == "create":
            part, fault = replace(part, sure=True), replace(fault, kind="refused")
        return real(state, part, operation, fault, now)

    patch.setattr(m, "_failed", failed)


@mutant
def what_was_given_up_is_not_asked_for_again(patch: Patch) -> None:
    patch.setattr(m, "_ask_again", lambda state, now: state)


@mutant
def what_was_given_up_counts_as_known(patch: Patch) -> None:
    after(patch, "_patient", lambda part, *given: replace(part, provisional=False))


@mutant
def half_a_file_is_believed(patch: Patch) -> None:
    real = m._read
    patch.setattr(m, "READS", 0)
    patch.setattr(
        m,
        "_read",
        lambda part, event, now: replace(real(replace(part, last_ask=True), event, now), provisional=False),
    )


# -- money


@mutant
def the_budget_is_not_asked(patch: Patch) -> None:
    patch.setattr(m, "_over_budget", lambda state, part: None)


@mutant
def only_what_was_measured_counts(patch: Patch) -> None:
    patch.setattr(m, "_committed", lambda part: part.cost or 0.0)


@mutant
def a_request_id_is_drawn_anew(patch: Patch) -> None:
    numbers = itertools.count()
    patch.setattr(m, "request_id", lambda job_id, part: f"{job_id}/{next(numbers)}")


@mutant
def jobs_share_request_ids(patch: Patch) -> None:
    patch.setattr(
        m, "request_id", lambda job_id, part: str(uuid.uuid5(m._OURS, f"{part.number}/{part.attempt}"))
    )


@mutant
def a_batch_that_failed_for_want_of_room_keeps_its_request_id(patch: Patch) -> None:
    patch.setattr(m, "request_id", lambda job_id, part: str(uuid.uuid5(m._OURS, f"{job_id}/{part.number}")))


@mutant
def a_batch_that_failed_for_want_of_room_is_free(patch: Patch) -> None:
    def room(part: m.Part, state: m.State, given: m.Part, words: str, now: m.Now) -> m.Part:
        return replace(part, attempt=part.attempt + 1, tried=False, batch_id=None, status=None)

    after(patch, "_no_room", room)


@mutant
def what_is_denied_once_is_not_there(patch: Patch) -> None:
    real = m._patient

    def patient(part: m.Part, operation: m.Operation, fault: m.Fault, *given: Any) -> m.Part:
        if part.unsent and operation == "fetch" and fault.kind in m._SAID:
            return m._anew(part, given[-1])
        return real(part, operation, fault, *given)

    patch.setattr(m, "_patient", patient)


# -- cancelling


@mutant
def a_cancel_drops_what_may_have_been_created(patch: Patch) -> None:
    real = m._next

    def then(state: m.State, part: m.Part, now: m.Now) -> Any:
        return real(state, m._never_sent(part, "dropped") if part.unsent and state.cancelled else part, now)

    patch.setattr(m, "_next", then)


@mutant
def a_cancel_leaves_batches_running(patch: Patch) -> None:
    real = m._next
    patch.setattr(m, "_next", lambda state, part, now: real(state, replace(part, cancel_asked=True), now))


@mutant
def a_cancel_does_not_stop_the_sending(patch: Patch) -> None:
    real = m._next
    patch.setattr(
        m,
        "_next",
        lambda state, part, now: real(replace(state, cancelled=False) if part.unsent else state, part, now),
    )


@mutant
def a_cancel_from_elsewhere_is_not_read(patch: Patch) -> None:
    real = Engine._look_around

    def look_around(self: Engine) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(type(self._world), "cancel_asked", lambda world, live: False)
            real(self)

    patch.setattr(Engine, "_look_around", look_around)


@mutant
def a_limit_from_elsewhere_is_not_read(patch: Patch) -> None:
    real = Engine._heed

    def heed(self: Engine, live: engine.Live) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(type(self._world), "limit_asked", lambda world, live: None)
            real(self, live)

    patch.setattr(Engine, "_heed", heed)


@mutant
def a_cancel_asked_of_nobody_is_read_late(patch: Patch) -> None:
    patch.setattr(engine, "Began", lambda send_only, cancelled: m.Began(send_only))


# -- writing down


@mutant
def the_journal_is_not_synced(patch: Patch) -> None:
    patch.setattr(engine, "_matters", lambda before, after: False)


@mutant
def a_full_disk_is_ignored(patch: Patch) -> None:
    real = Journal.record

    def record(self: Journal, *given: Any, **named: Any) -> bool:
        try:
            return real(self, *given, **named)
        except OSError:
            return True

    patch.setattr(Journal, "record", record)


@mutant
def a_torn_line_takes_the_next_along(patch: Patch) -> None:
    real = Journal.load

    def load(self: Journal) -> m.State:
        state = real(self)
        self._clean = True
        return state

    patch.setattr(Journal, "load", load)


@mutant
def a_line_that_failed_takes_the_next_along(patch: Patch) -> None:
    real = Journal.record

    def record(self: Journal, *given: Any, **named: Any) -> bool:
        self._clean = True
        return real(self, *given, **named)

    patch.setattr(Journal, "record", record)


@mutant
def a_journal_written_anew_has_only_what_changed(patch: Patch) -> None:
    real = journal._changes
    last: list[Any] = [None]

    def changes(before: m.State | None, after: m.State) -> Any:
        if before is not None:
            last[0] = real(before, after)
            return last[0]
        return last[0] or real(None, after)

    patch.setattr(journal, "_changes", changes)


@mutant
def tries_are_not_written_down(patch: Patch) -> None:
    without = tuple(name for name in m.DURABLE if name != "tried")
    patch.setattr(m, "DURABLE", without)
    patch.setattr(journal, "DURABLE", without)


@mutant
def a_cancel_is_not_written_down(patch: Patch) -> None:
    without = tuple(name for name in journal.OF_THE_JOB if name != "cancelled")
    patch.setattr(journal, "OF_THE_JOB", without)
    patch.setattr(engine, "OF_THE_JOB", without)


# -- together


@mutant
def a_job_in_trouble_stands_still_the_others(patch: Patch) -> None:
    real = Engine.due

    def due(self: Engine, live: engine.Live) -> float | None:
        others = (other for other in self.lives.values() if other is not live)
        return None if any(m.problem_of(other.state)[0] for other in others) else real(self, live)

    patch.setattr(Engine, "due", due)


@mutant
def a_raise_of_the_world_is_forgotten(patch: Patch) -> None:
    def begin(self: Engine, live: engine.Live, action: m.Action) -> None:
        with contextlib.suppress(RuntimeError):
            self._world.start(live, action)

    patch.setattr(Engine, "_begin", begin)


@mutant
def a_job_that_another_process_has_is_moved_all_the_same(patch: Patch) -> None:
    class NoLock:
        def release(self) -> None:
            pass

    real = Engine._take

    def take(self: Engine, live: engine.Live) -> None:
        real(self, live)
        if live.elsewhere:
            live.lock, live.elsewhere = NoLock(), False
            self.post(live, m.Began())

    patch.setattr(Engine, "_take", take)


@mutant
def a_lock_is_kept(patch: Patch) -> None:
    def drop(self: Engine, live: engine.Live) -> None:
        live.gone = True
        self.lives.pop(live.id, None)

    patch.setattr(Engine, "drop", drop)


# -- telling, ending


@mutant
def trouble_is_not_told(patch: Patch) -> None:
    after(patch, "_failed", lambda part, *given: replace(part, trouble=None))


@mutant
def a_token_does_not_wake(patch: Patch) -> None:
    patch.setattr(m, "_woken", lambda state, now: state)


@mutant
def a_retry_that_fails_hides_the_answers(patch: Patch) -> None:
    def ended(state: m.State, *given: Any) -> m.State:
        parts = state.parts.values()
        newest = max((part.round for part in parts), default=0)
        bad = [p.status in ("failed", "refused") for p in parts if p.round == newest]
        return replace(state, outcome="failed") if bad and all(bad) else state

    after(patch, "_ended", ended)


@mutant
def a_process_that_ends_sends_nothing_more(patch: Patch) -> None:
    patch.setattr(m, "_to_send", lambda state, part: False)
