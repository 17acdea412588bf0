"""The machine, without a simulation around it: each rule by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.job import machine as m

NOW = m.Now(1000.0, 1.75e9)
STATES: dict[m.Operation, dict[str, Any]] = {
    "upload": {"state": "rendered"},
    "create": {"state": "uploaded", "file_id": "f", "tried": True, "sure": True},
    "find": {"state": "uploaded", "file_id": "f", "tried": True, "seek": True},
    "look": {"state": "created", "file_id": "f", "tried": True, "batch_id": "b"},
    "cancel": {"state": "created", "file_id": "f", "tried": True, "batch_id": "b"},
    "fetch": {"state": "ended", "file_id": "f", "tried": True, "batch_id": "b", "status": "completed"},
    "read": {"state": "fetched", "file_id": "f", "tried": True, "batch_id": "b", "status": "completed"},
}


def doing(operation: m.Operation, **more: Any) -> m.State:
    """A job with one part, of which an operation is under way."""
    part = m.Part(0, 10, bound=1.0, doing=operation, **{**STATES[operation], **more})
    return m.State("j", rendered=True, parts={0: part})


def later(seconds: float) -> m.Now:
    return m.Now(NOW.ticks + seconds, NOW.wall + seconds)


def fails(
    state: m.State, operation: m.Operation, kind: str, now: m.Now = NOW, **more: Any
) -> tuple[m.State, list[Any]]:
    return m.step(state, m.Failed(0, operation, m.Fault(kind, "It broke.", **more)), now)  # type: ignore[arg-type]


ROWS = [(operation, kind) for operation in STATES for kind in get_args(m.FaultKind)]


@pytest.mark.parametrize(("operation", "kind"), ROWS)
def test_every_fault_has_a_verdict_that_is_carried_out(operation: m.Operation, kind: str) -> None:
    """Whatever goes wrong, my job waits and says why, or ends with a reason; it never just stands there."""
    state, actions = fails(doing(operation), operation, kind)
    part = state.parts[0]
    verdict = m.POLICY[operation].get(kind, m.POLICY[operation]["*"])  # type: ignore[call-overload]
    match verdict:
        case m.Verdict.WAIT | m.Verdict.PATIENT | m.Verdict.BRIEF:
            assert not actions
            assert 1000.0 < part.due < 1001.0
            assert "It broke. Trying again in" in str(part.trouble)
        case m.Verdict.PERSON:
            assert part.waits == "person"
            assert "configure(token=" in str(part.trouble)
            assert m.problem_of(state) == (part.trouble, True)
        case m.Verdict.STUCK:
            assert part.waits == "stuck"
            assert m.next_due(state) is None
            assert m.problem_of(state) == ("It broke.", True)
        case m.Verdict.REFUSED:
            assert part.status == "refused"
            assert actions == [m.Read(0, "batch_failed", "The service refused the batch: It broke.")]
        case m.Verdict.UPLOAD_AGAIN:
            assert (part.state, part.file_id, part.files_sent) == ("rendered", None, 1)
        case m.Verdict.FIND:
            assert actions == [m.Find(0, m.request_id("j", part))]
        case m.Verdict.NEXT_LOOK:
            assert part.cancel_asked
            assert part.due > 1000.0
        case _:
            pytest.fail(f"no row for {verdict}")


@pytest.mark.parametrize("kind", ["unknown", "conflict", "gone", "not_ready", "refused"])
@pytest.mark.parametrize("operation", ["look", "fetch"])
def test_what_was_acknowledged_is_not_given_up_in_an_hour(operation: m.Operation, kind: str) -> None:
    """A batch or a file that the service has acknowledged is asked for over hours, whatever it answers meanwhile."""
    if (operation, kind) == ("fetch", "gone"):
        pytest.skip("files that were deleted do not come back")
    state, now = doing(operation), NOW
    while now.ticks < NOW.ticks + 3600:
        state, _ = fails(state, operation, kind, now)
        assert state.parts[0].state == STATES[operation]["state"]
        now = m.Now(state.parts[0].due, now.wall)
        state, actions = m.step(state, m.Tick(), now)
        assert len(actions) == 1


@pytest.mark.parametrize(
    ("operation", "kind", "between"),
    [
        ("look", "unknown", "trouble"),
        ("look", "unknown", "token"),
        ("fetch", "refused", "token"),
        ("fetch", "no_object", "token"),
        ("upload", "link", "silent"),
        ("upload", "link", "token"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["told before it, too", "told after it only"])
def test_an_outage_uses_up_no_patience_with_anything_else(
    operation: m.Operation, kind: str, between: str, first: bool
) -> None:
    """A 404 before and another after seven hours of 503, or without a token, are two passing 404."""
    state, now = doing(operation), NOW
    if first:
        state, _ = fails(state, operation, kind, now)
        now = m.Now(state.parts[0].due, now.wall)
        state, _ = m.step(state, m.Tick(), now)
    while now.ticks < NOW.ticks + 7 * 3600:
        state, _ = fails(state, operation, between, now)
        now = m.Now(state.parts[0].due, now.wall)
        state, _ = m.step(state, m.Tick(), now)
    state, _ = fails(state, operation, kind, now)
    part = state.parts[0]
    assert (part.state, part.status) == (STATES[operation]["state"], STATES[operation].get("status"))


def test_patience_ends_with_codes_that_are_asked_for_again() -> None:
    """When nobody has an answer for six hours my rows have a code, and the next look asks the service again."""
    state, now = doing("look", status="in_progress"), NOW
    actions: list[Any] = []
    while not any(isinstance(action, m.Read) for action in actions):
        state, actions = fails(state, "look", "unknown", now)
        if not actions:
            now = m.Now(state.parts[0].due, now.wall)
            state, _ = m.step(state, m.Tick(), now)
    assert 5.5 * 3600 < now.ticks - NOW.ticks <= m.PATIENCE
    assert actions[0].code == "missing_result"
    state, _ = m.step(state, m.ReadDone(0, 0, 10, 0), now)
    assert (state.outcome, state.parts[0].provisional) == ("completed", True)
    assert "no results so far" in str(state.problem)
    state, actions = m.step(state, m.Began(), now)
    assert actions == [m.Look(0, "b")]  # nobody has seen it end
    assert state.ended is None


def test_pauses_grow_to_five_minutes_and_are_spread() -> None:
    """Trouble is asked about soon at first, then rarely, and not for all parts at once."""
    fault = m.Fault("trouble", "")
    pauses = [m._backoff(m.Part(0, 1, failures=n), fault) for n in range(30)]
    assert 0.3 < pauses[0] <= 0.5
    assert all(225 <= pause <= 300 for pause in pauses[10:])
    assert len({m._backoff(m.Part(n, 1), fault) for n in range(50)}) == 50
    assert m._backoff(m.Part(0, 1), m.Fault("busy", "", retry_after=77.0)) == 77.0
    assert m._backoff(m.Part(0, 1), m.Fault("busy", "", retry_after=1e9)) == 3600.0


def test_a_lost_answer_of_a_create_is_asked_for_under_the_same_key() -> None:
    """A create that nobody heard of is repeated with its request_id, so that nothing is paid twice."""
    state, actions = m.step(doing("upload"), m.Uploaded(0, "f"), NOW)
    first = actions[0]
    assert isinstance(first, m.Create)
    state, _ = fails(state, "create", "silent")
    _, actions = m.step(state, m.Tick(), later(1))
    assert actions == [first]


def test_a_refusal_after_a_lost_answer_looks_for_the_batch() -> None:
    """Where an earlier try may have acted, a refusal is final only when no batch is found, a minute later."""
    state, _ = fails(doing("create"), "create", "silent")
    state, _ = m.step(state, m.Tick(), later(1))
    state, actions = fails(state, "create", "refused", later(2))
    assert actions == [m.Find(0, m.request_id("j", state.parts[0]))]
    state, actions = m.step(state, m.Found(0, None), later(3))
    assert not actions
    assert "not known yet" in str(m.problem_of(state)[0])
    state, actions = m.step(state, m.Tick(), later(61))
    assert [type(action) for action in actions] == [m.Find]
    state, actions = m.step(state, m.Found(0, None), later(62))
    assert [type(action) for action in actions] == [m.Read]
    assert state.parts[0].status == "refused"


@pytest.mark.parametrize(
    ("operation", "then"),
    [
        ("upload", "Read"),
        ("create", "Find"),
        ("find", "Find"),
        ("look", "CancelBatch"),
        ("fetch", "Fetch"),
        ("read", "Read"),
    ],
)
def test_a_cancel_means_one_thing_in_each_state(operation: m.Operation, then: str) -> None:
    """Unsent requests are not sent; what may be at the service is looked for and cancelled; what is done is read."""
    state, actions = m.step(replace(doing(operation)), m.Cancel(), NOW)
    assert not actions  # what is under way is awaited
    part = replace(state.parts[0], doing=None)
    _, actions = m.step(replace(state, parts={0: part}), m.Tick(), NOW)
    assert [type(action).__name__ for action in actions] == [then]


def test_a_cancel_while_rows_are_rendered_ends_the_job() -> None:
    """A job that is cancelled while it is rendered ends, with a code on every row, and sends nothing."""
    state, actions = m.step(m.State("j"), m.Began(), NOW)
    assert actions == [m.Render()]
    state, _ = m.step(state, m.Cancel(), NOW)
    state, actions = m.step(state, m.PartRendered(m.Part(0, 10)), NOW)
    assert actions == [m.Read(0, "cancelled", "Cancelled before it was sent.")]
    state, _ = m.step(state, m.ReadDone(0, 0, 10, 0), NOW)
    state, actions = m.step(state, m.Rendered(10, 0, 0), NOW)
    assert (state.outcome, actions) == ("cancelled", [])


def test_a_cancel_ends_a_job_whose_rendering_is_broken() -> None:
    """A job that cannot be rendered can be cancelled all the same."""
    state, _ = m.step(m.State("j"), m.Began(), NOW)
    state, _ = m.step(state, m.Failed(None, "render", m.Fault("bug", "It broke.")), NOW)
    assert m.problem_of(state) == ("It broke.", True)
    state, actions = m.step(state, m.Cancel(), NOW)
    assert actions == [m.Render()]
    state, actions = m.step(state, m.Failed(None, "render", m.Fault("bug", "It broke.")), NOW)
    assert (state.outcome, actions) == ("cancelled", [])


def test_a_part_is_held_by_the_budget_and_let_go() -> None:
    """No batch is created beyond max_cost; `allow` lets it go, and the words say so."""
    state = replace(doing("upload"), max_cost=0.5)
    state, actions = m.step(state, m.Uploaded(0, "f"), NOW)
    words, needs_me = m.problem_of(state)
    assert not actions
    assert needs_me
    assert "job.allow(max_cost=...)" in str(words)
    assert m.next_due(state) is None
    _, actions = m.step(state, m.Allow(0.99), NOW)
    assert not actions
    _, actions = m.step(state, m.Allow(1.0), NOW)
    assert [type(action) for action in actions] == [m.Create]


def test_what_nobody_can_bound_holds_the_budget_shut() -> None:
    """With max_cost, a part of unknown cost is not sent, and beside one that was, nothing is."""
    known = m.Part(1, 10, bound=0.1, state="uploaded", file_id="g")
    unknown = m.Part(0, 10, bound=None, state="created", tried=True, batch_id="b", doing="look")
    state = m.State("j", rendered=True, max_cost=5.0, parts={0: unknown, 1: known})
    state, actions = m.step(state, m.Tick(), NOW)
    assert not actions
    assert "part 0" in str(state.parts[1].trouble)
    alone = m.State(
        "j", rendered=True, max_cost=5.0, parts={0: replace(unknown, state="uploaded", tried=False)}
    )
    alone = m._with(alone, replace(alone.parts[0], doing=None, batch_id=None, file_id="f"))
    state, actions = m.step(alone, m.Tick(), NOW)
    assert not actions
    assert "nobody could say" in str(state.parts[0].trouble)
    state, actions = m.step(state, m.Allow(5.0, ((0, 5.1, 9.9),)), NOW)
    assert not actions
    assert m.unbounded(state) == []
    _, actions = m.step(state, m.Allow(5.2, ((0, 0.1, 0.2),)), NOW)
    assert [action.number for action in actions if isinstance(action, m.Create)] == [0]


def test_who_is_to_be_counted_is_whose_cost_nobody_knows() -> None:
    """Parts that are measured, or have a bound, are not counted anew; what may have been run and has neither is."""
    part = m.Part(0, 10, bound=None, state="read", tried=True, batch_id="b", cost=1.0)
    parts = [
        part,
        replace(part, number=1, cost=None),
        replace(part, number=2, bound=1.0, cost=None),
        replace(part, number=3, provisional=True, status="expired"),
        m.Part(4, 10, live=True),
        m.Part(5, 10, bound=0.1),
    ]
    state = m.State("j", rendered=True, max_cost=5.0, parts={part.number: part for part in parts})
    assert m.unbounded(state) == [1, 3, 4]
    state, _ = m.step(state, m.Allow(5.0, ((4, 0.1, 0.2), (5, 7.0, 7.0))), NOW)
    assert [state.parts[number].bound for number in (4, 5)] == [0.2, 0.1]


def test_two_parts_at_once_do_not_pass_the_gate_together() -> None:
    """Of two parts that are ready at one moment only what the budget bears is sent."""
    parts = {n: m.Part(n, 10, bound=0.6, state="uploaded", file_id="f") for n in range(2)}
    _, actions = m.step(m.State("j", rendered=True, max_cost=1.0, parts=parts), m.Tick(), NOW)
    assert [action.number for action in actions if isinstance(action, m.Create)] == [0]


def test_a_retry_that_is_refused_leaves_a_completed_job() -> None:
    """After a refused retry my earlier answers are there, and the job says what was refused."""
    good = m.Part(0, 10, state="read", status="completed", completed=9, failed=1, batch_id="b", tried=True)
    state = m.State("j", rendered=True, ended=1.0, outcome="completed", parts={0: good})
    retried = m.Retried((m.Part(1, 1, round=1),), frozenset(["http_429"]))
    state, actions = m.step(state, retried, NOW)
    assert actions == [m.Upload(1)]
    state, _ = m.step(state, m.Uploaded(1, "f"), NOW)
    state, _ = (
        fails(state, "create", "refused")
        if False
        else m.step(state, m.Failed(1, "create", m.Fault("refused", "No credit.")), NOW)
    )
    state, _ = m.step(state, m.ReadDone(1, 0, 1, 0, errors=(ErrorGroup("batch_failed", 1, ""),)), NOW)
    assert state.outcome == "completed"
    assert "No credit." in str(state.problem)


def test_a_job_without_any_answer_has_failed() -> None:
    """Only where there is no answer at all does a job call itself failed."""
    state, _ = fails(doing("create"), "create", "refused")
    state, actions = m.step(state, m.ReadDone(0, 0, 10, 0), NOW)
    assert (state.outcome, state.over, actions) == ("failed", True, [])
    answered = replace(doing("create"), reused=1)
    state, _ = fails(answered, "create", "refused")
    state, _ = m.step(state, m.ReadDone(0, 0, 10, 0), NOW)
    assert state.outcome == "completed"


@pytest.mark.parametrize("output", [False, True])
def test_a_job_that_has_nothing_to_send_ends(output: bool) -> None:
    """Where every row is reused or skipped the job is done at once; a dataset is written first."""
    state, _ = m.step(m.State("j", output=output), m.Began(), NOW)
    state, actions = m.step(state, m.Rendered(0, 5, 1), NOW)
    if output:
        assert actions == [m.WriteOutput()]
        state, actions = m.step(state, m.OutputWritten(), NOW)
    assert (state.outcome, actions) == ("completed", [])


def test_a_process_that_ends_sends_first_and_waits_for_nobody() -> None:
    """What was submitted is sent before the process ends; what waits for me does not keep it."""
    state, _ = m.step(doing("upload"), m.SendOnly(), NOW)
    state, actions = m.step(state, m.Uploaded(0, "f"), NOW)
    assert [type(action) for action in actions] == [m.Create]
    seen = m.Seen(0, m.BatchSeen("b", "validating"), "create")
    left, actions = m.step(state, seen, NOW)
    assert (left.left, left.over, left.ended, actions) == (True, True, None, [])
    held, actions = fails(state, "create", "token")
    assert (held.left, actions) == (True, [])


def test_a_process_that_ends_takes_the_cancel_along() -> None:
    """A cancel just before the end of the script still reaches the service."""
    state, _ = m.step(doing("look"), m.Cancel(), NOW)
    state, _ = m.step(state, m.SendOnly(), NOW)
    state, actions = m.step(state, m.Seen(0, m.BatchSeen("b", "in_progress"), "look"), NOW)
    assert actions == [m.CancelBatch(0, "b")]


def test_a_cancel_that_comes_during_a_look_does_not_wait_for_the_next() -> None:
    """Of a batch of twenty minutes the next look is a minute away, and it would run all that time."""
    state, _ = m.step(doing("look"), m.Cancel(), NOW)
    _, actions = m.step(state, m.Seen(0, m.BatchSeen("b", "in_progress"), "look"), NOW)
    assert actions == [m.CancelBatch(0, "b")]


def test_an_old_answer_changes_nothing() -> None:
    """What a thread of before a restart still has to say is not taken for news."""
    state = doing("look")
    for event in (m.Uploaded(0, "x"), m.Fetched(0), m.ReadDone(0, 1, 1, 1), m.Found(0, None)):
        assert m.step(state, event, NOW) == (state, [])
    assert fails(state, "upload", "refused") == (state, [])


def test_a_job_with_a_deadline_does_not_wait_for_months_for_results_that_do_not_come() -> None:
    """A batch that was ended has counted an answer and never shows it: six hours of asking, and the job ends with a code."""
    owing = {"status": "cancelled", "to_now": True, "completed": 1, "peak": 1}
    state, now = doing("fetch", **owing), NOW
    while state.ended is None:
        assert now.ticks < NOW.ticks + 13 * 3600
        operation = state.parts[0].doing
        if operation == "fetch":
            state, _ = fails(state, "fetch", "not_ready", now)
        elif operation == "read":
            state, _ = m.step(state, m.ReadDone(0, 0, 10, 0), now)
        else:
            now = m.Now(state.parts[0].due, now.wall)
            state, _ = m.step(state, m.Tick(), now)
    assert state.parts[0].provisional


def test_answers_that_come_while_the_dataset_is_written_are_in_it() -> None:
    """Somebody looks in the middle of writing: what that brings in is read after it, and it is written once more."""
    part = m.Part(
        0, 10, state="read", status="completed", tried=True, batch_id="b", provisional=True, failed=10
    )
    state = m.State("j", rendered=True, output=True, parts={0: part})
    state, actions = m.step(state, m.Tick(), NOW)
    assert actions == [m.WriteOutput()]
    state, actions = m.step(state, m.AskAgain(), NOW)
    assert (actions, m.next_due(state)) == ([], None)
    state, actions = m.step(state, m.OutputWritten(), NOW)
    assert (state.written, actions) == (False, [m.Fetch(0, "b", again=True)])
    state, _ = m.step(state, m.Fetched(0), NOW)
    state, actions = m.step(state, m.ReadDone(0, 10, 0, 10), NOW)
    assert (state.ended, actions) == (None, [m.WriteOutput()])
    state, _ = m.step(state, m.OutputWritten(), NOW)
    assert state.outcome == "completed"


def test_to_look_at_a_job_that_is_over_changes_nothing() -> None:
    """Nothing is asked, and nothing paid, where nothing is missing."""
    state = m.State("j", rendered=True, ended=1.0, outcome="completed", parts={0: m.Part(0, 1, state="read")})
    for event in (m.AskAgain(), m.Woken(), m.Tick(), m.Cancel(), m.LookAlong()):
        after, actions = m.step(state, event, NOW)
        assert (after.ended, after.cancelled, actions) == (1.0, False, [])


def test_want_of_room_waits_beside_batches_of_ours_and_not_for_ever_alone() -> None:
    """A limit on enqueued tokens never drops rows while my own batches take the room; alone it ends with a reason."""
    other = m.Part(1, 10, state="created", tried=True, batch_id="x", doing="look")
    state, now = doing("create"), NOW
    beside = replace(state, parts={**state.parts, 1: other})
    for _ in range(50):
        beside, actions = fails(beside, "create", "refused", now, enqueued=True)
        assert not actions
        now = m.Now(beside.parts[0].due, now.wall)
        beside, actions = m.step(beside, m.Tick(), now)
        assert [type(action) for action in actions] == [m.Create]
    beside, _ = fails(beside, "create", "refused", now, enqueued=True)
    ended = m.Seen(1, m.BatchSeen("x", "completed", ended=True, completed=10), "look")
    _, actions = m.step(beside, ended, now)
    assert [type(action) for action in actions] == [m.Create, m.Fetch]
    for _ in range(m.ROOM_TRIES):
        state, actions = fails(state, "create", "busy", now, enqueued=True)
        assert not actions
        now = m.Now(state.parts[0].due, now.wall)
        state, _ = m.step(state, m.Tick(), now)
    state, _ = fails(state, "create", "busy", now, enqueued=True)
    assert state.parts[0].status == "refused"


def test_want_of_room_ends_with_a_look_for_a_batch_that_may_have_been_made() -> None:
    """The create of a process that was killed may have acted, though later ones find no room: its answers are mine."""
    state, now = doing("create", sure=False), NOW
    for _ in range(m.ROOM_TRIES):
        state, actions = fails(state, "create", "refused", now, enqueued=True)
        assert not actions
        now = m.Now(state.parts[0].due, now.wall)
        state, _ = m.step(state, m.Tick(), now)
    state, actions = fails(state, "create", "refused", now, enqueued=True)
    assert actions == [m.Find(0, m.request_id("j", state.parts[0]))]
    found, _ = m.step(state, m.Found(0, m.BatchSeen("b", "in_progress")), now)
    assert (found.parts[0].state, found.parts[0].batch_id) == ("created", "b")


def test_a_batch_that_failed_for_want_of_room_is_made_again_under_another_key() -> None:
    """The service ended the batch itself: the same file is sent as a new one."""
    state = doing("look")
    before = m.request_id("j", state.parts[0])
    full = m.BatchSeen("b", "failed", ended=True, problem="Enqueued token limit reached", enqueued=True)
    state, _ = m.step(state, m.Seen(0, full, "look"), NOW)
    state, actions = m.step(state, m.Tick(), later(400))
    assert actions == [m.Fetch(0, "b")]
    state, actions = fails(state, "fetch", "not_ready", later(400))
    assert not actions
    state, _ = m.step(state, m.Tick(), later(420))
    state, [create] = fails(state, "fetch", "not_ready", later(420))
    assert isinstance(create, m.Create)
    assert create.request_id != before


@pytest.mark.parametrize("how", ["files", "counts"])
def test_a_batch_that_failed_for_want_of_room_and_ran_is_not_paid_again(how: str) -> None:
    """Some of it had room: what it has answered is mine, and the rest is sent again only when I say so."""
    full = m.BatchSeen("b", "failed", True, 3 * (how == "counts"), problem="No room.", enqueued=True)
    state, actions = m.step(doing("look"), m.Seen(0, full, "look"), NOW)
    if how == "files":
        state, actions = m.step(state, m.Tick(), later(400))
    assert actions == [m.Fetch(0, "b")]
    state, [read] = m.step(state, m.Fetched(0), later(400))
    assert read == m.Read(0, "batch_failed", "The service refused the whole batch: No room.")
    lines = m.ReadDone(0, 3, 7, 3, errors=(ErrorGroup("batch_failed", 7, ""),))
    state, actions = m.step(state, lines, later(400))
    assert not actions
    assert (state.outcome, state.parts[0].completed) == ("completed", 3)


def test_files_without_a_byte_hold_no_answer_of_a_batch_that_had_no_room() -> None:
    """A service that writes its files in any case keeps nobody from asking again."""
    full = m.BatchSeen("b", "failed", ended=True, problem="No room.", enqueued=True)
    state, _ = m.step(doing("look"), m.Seen(0, full, "look"), NOW)
    state, _ = m.step(state, m.Tick(), later(400))
    state, [create] = m.step(state, m.Fetched(0, empty=True), later(400))
    assert isinstance(create, m.Create)


def test_short_results_are_asked_for_again_and_then_say_so() -> None:
    """Files with fewer lines than the service counted are fetched again; what is still missing has a code."""
    state = doing("read")
    done = m.ReadDone(0, 5, 5, 5, errors=(ErrorGroup("missing_result", 5, ""),))
    for _ in range(m.READS):
        state, actions = m.step(state, done, NOW)
        state, actions = m.step(state, m.Tick(), later(60))
        assert actions == [m.Fetch(0, "b", again=True)]
        state, _ = m.step(state, m.Fetched(0), NOW)
    state, _ = m.step(state, done, NOW)
    assert state.parts[0].provisional
    assert state.outcome == "completed"


def test_a_line_that_says_expired_is_no_answer_to_come() -> None:
    """Where the error file names what never ran, a late output file is still waited for."""
    state = doing("read", status="expired", said_completed=3)
    lines = m.ReadDone(0, 0, 10, 7, errors=(ErrorGroup("expired", 10, ""),))
    state, [again] = m.step(state, lines, NOW)
    # What has no line may have been run: it is not said to have expired.
    assert again == m.Read(0, *m.why_missing(state.parts[0]))
    assert again.code == "missing_result"
    state, _ = m.step(state, lines, NOW)
    assert state.parts[0].state == "ended"


def test_a_token_that_is_given_while_a_call_is_under_way_is_tried_at_once() -> None:
    """A call that still had the old token does not cost ten minutes."""
    state, _ = m.step(doing("look"), m.Woken(), NOW)
    _, actions = fails(state, "look", "token")
    assert actions == [m.Look(0, "b")]


def test_batches_of_a_job_are_looked_at_together() -> None:
    """Twenty batches that were made within a minute cost one call, not twenty, each time they are looked at."""
    running = doing("look").parts[0]
    parts = {
        n: replace(running, number=n, batch_id=f"b{n}", doing=None, born=n * 3.0, due=NOW.ticks + n * 0.5)
        for n in range(20)
    }
    parts[20] = replace(running, number=20, batch_id="new", doing=None, due=NOW.ticks + 55.0)
    _, actions = m.step(m.State("j", rendered=True, parts=parts), m.Tick(), NOW)
    assert actions == [m.Look(n, f"b{n}") for n in range(20)]


def test_looks_are_five_percent_of_the_age() -> None:
    """Nobody waits much longer than the batch took, and a day costs few calls."""
    assert m.pause_before_next_look(0.0, False) == m.SHORTEST_LOOK
    assert m.pause_before_next_look(100.0, False) == 5.0
    assert m.pause_before_next_look(1e6, False) == m.LONGEST_LOOK
    assert m.pause_before_next_look(1e6, True) == m.LOOK_NEAR_THE_END
    state, now, looks = doing("look"), NOW, 0
    while now.ticks < NOW.ticks + 86_400:
        state, _ = m.step(state, m.Seen(0, m.BatchSeen("b", "finalizing"), "look"), now)
        now, looks = m.Now(state.parts[0].due, now.wall), looks + 1
        state, _ = m.step(state, m.Tick(), now)
    assert looks < 1700


def test_a_batch_that_is_ended_for_a_deadline_is_looked_at_again_soon() -> None:
    """Ten hours old, its cancel refused because it has just ended: the minutes that are left are not spent waiting for a look."""
    state = doing("cancel", to_now=True, born=NOW.ticks - 36_000, status="in_progress")
    state, _ = fails(state, "cancel", "conflict")
    now = m.Now(state.parts[0].due, NOW.wall)
    assert now.ticks <= NOW.ticks + m.LOOK_NEAR_THE_END
    state, actions = m.step(state, m.Tick(), now)
    assert actions == [m.Look(0, "b")]
    # A replica that is behind shows it at work still.
    state, actions = m.step(state, m.Seen(0, m.BatchSeen("b", "in_progress"), "look"), now)
    assert actions == [m.CancelBatch(0, "b")]
    state, _ = fails(state, "cancel", "conflict", now)
    assert state.parts[0].due <= now.ticks + m.LOOK_NEAR_THE_END


def test_a_new_part_never_takes_the_number_of_what_a_batch_did_not_run() -> None:
    """Rows that are rendered, or asked again, after a part was carried on have a number of their own, now and later."""
    assert m.next_number([]) == 0
    assert m.next_number([0, 1, m.REST, m.REST + 1]) == 2


def test_a_lost_answer_beside_lines_that_say_not_run_is_not_bought_again() -> None:
    """The batch ran one of three; two lines say that they were not run, and the third is missing: it may be that one."""
    part = m.Part(0, 3, status="cancelled", batch_id="b", said_failed=1, peak=1)
    lines = m.ReadDone(0, 0, 3, 2, errors=(ErrorGroup("cancelled", 3, "x"),))
    assert m._owed(part, lines)
    assert not m._owed(
        part,
        replace(lines, lines=3, errors=(ErrorGroup("http_500", 1, "x"), ErrorGroup("cancelled", 2, "x"))),
    )


def seen_to_end(state: m.State, status: str, **more: Any) -> m.State:
    """The job after a look that has shown its batch at the end, and nothing of its results."""
    state, [fetch] = m.step(state, m.Seen(0, m.BatchSeen("b", status, ended=True, **more), "look"), NOW)
    assert isinstance(fetch, m.Fetch)
    return state


def fetched_and_read(state: m.State, completed: int, code: str) -> m.State:
    """The job after its files were brought in, with lines for so many of ten requests, and nobody waits for more."""
    state = m._with(state, replace(state.parts[0], reads=m.READS))
    state, _ = m.step(state, m.Fetched(0), NOW)
    left = 10 - completed
    errors = (ErrorGroup(code, left, ""),) if left else ()
    actions: list[Any] = [None]
    while len(actions) == 1 and not state.over:  # read once more, where the code is another one then
        state, actions = m.step(state, m.ReadDone(0, completed, left, completed, errors=errors), NOW)
    return state


@pytest.mark.parametrize(("status", "code"), [("failed", "batch_failed"), ("cancelled", "cancelled")])
def test_what_the_service_has_counted_is_looked_for_until_it_is_there(status: str, code: str) -> None:
    """Nine answers were counted and seven have come: each later look asks for the other two, in whatever process."""
    state = fetched_and_read(seen_to_end(doing("look"), status, completed=9), 7, code)
    for _ in range(3):
        assert state.ended is not None
        assert state.parts[0].provisional
        # What a restart keeps is what is durable.
        state, [again] = m.step(state, m.Began(), NOW)
        assert again == m.Fetch(0, "b", again=True)
        state = fetched_and_read(state, 7, code)
    state, _ = m.step(state, m.Began(), NOW)
    state = fetched_and_read(state, 9, code)
    assert not state.parts[0].provisional
    assert m.step(state, m.Began(), NOW)[1] == []


def test_rows_that_a_batch_has_not_run_are_not_owed_once_its_lines_are_there() -> None:
    """Given up for hours and read again: the five lines are the five that were counted, and the rest can go on."""
    state = m._with(doing("look"), replace(doing("look").parts[0], to_now=True))
    state = seen_to_end(state, "expired", completed=5)
    part = replace(state.parts[0], state="fetched", provisional=True, doing="read")
    given_up = m.ReadDone(0, 0, 10, 0, errors=(ErrorGroup("expired", 10, ""),))
    part = m._read(replace(part, doing=None), given_up, NOW)
    assert (part.final, part.completed, part.failed) == (True, 0, 10)
    lines = m.ReadDone(0, 5, 5, 5, errors=(ErrorGroup("expired", 5, ""),))
    assert m._owed(part, given_up)
    assert not m._owed(part, lines)


@pytest.mark.parametrize("seen", [{"idle": True}, {}, {"failed": 10}, {"completed": 3}])
def test_a_batch_that_failed_is_free_only_where_the_service_says_that_it_never_began(
    seen: dict[str, Any],
) -> None:
    """A batch may have run though its counters are zero: max_cost lets no other part through on the strength of that."""
    other = m.Part(1, 10, bound=1.0, state="uploaded", file_id="g")
    state = seen_to_end(
        m._with(doing("look"), replace(other, waits="budget", due=float("inf"))), "failed", **seen
    )
    state = replace(state, max_cost=1.0)
    state = m._with(state, replace(state.parts[0], state="fetched", doing="read", provisional=True))
    failed = m.ReadDone(0, 0, 10, 0, cost=0.0, errors=(ErrorGroup("batch_failed", 10, ""),))
    state, actions = m.step(state, failed, NOW)
    if seen == {"idle": True}:
        assert [type(action) for action in actions] == [m.Create]
    else:
        assert not actions
        assert "Part 0 counts at its bound: nobody knows how much of it was run." in str(
            m.problem_of(state)[0]
        )


def test_a_batch_that_was_seen_at_work_is_never_free() -> None:
    """Whatever it says of itself in the end."""
    state, _ = m.step(doing("look"), m.Seen(0, m.BatchSeen("b", "in_progress"), "look"), NOW)
    state, _ = m.step(state, m.Tick(), later(60))
    state = seen_to_end(state, "failed", idle=True)
    part = replace(state.parts[0], state="read", provisional=True, cost=0.0)
    assert m._committed(part) == part.bound
