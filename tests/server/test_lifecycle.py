"""From validating to an end: counts that move, cancelling, expiring, results that go."""

from __future__ import annotations

import os
import threading

import pytest
import requests
from server import schemas
from server.driver import chat_line, chat_lines, message_line
from server.schemas import check
from waiting import eventually

from dobatch_pandas.server import Reply
from dobatch_pandas.server.models import EchoModel

DAY = 24 * 3600


def _until_executed(api, count):
    eventually(lambda: sum(api.server.executed.values()) >= count)


def _ids(lines):
    return {line["custom_id"] for line in lines}


def test_a_batch_passes_through_every_state(api):
    """
    Held at each stage, it shows its state, its times and its counts.
    """
    api.server.hold("validating")
    batch = api.batch(api.create(chat_lines(10)))
    assert (batch["status"], batch["request_counts"]["total"]) == ("validating", 0)
    api.server.reset()
    api.server.hold("in_progress", after=3)
    api.server.hold("finalizing")
    batch_id = api.create(chat_lines(10))
    _until_executed(api, 3)
    batch = api.until(batch_id, "in_progress")
    check(batch, schemas.BATCH)
    assert batch["request_counts"] == {"total": 10, "completed": 3, "failed": 0}
    assert api.results(batch_id).json()["result_available"] is False
    api.server.hold("in_progress", after=7)
    batch = api.until(batch_id, "finalizing")
    check(batch, schemas.BATCH)
    assert batch["request_counts"]["completed"] == 10
    api.server.release()
    batch = api.until(batch_id, "completed")
    times = [batch[name] for name in ("created_at", "in_progress_at", "finalizing_at", "completed_at")]
    assert times == sorted(times)


def test_cancelling_drains_and_keeps_what_was_done(api):
    """
    cancelling, then cancelled, with the partial results and a line for each request never run.
    """
    api.server.hold("in_progress", after=4)
    lines = chat_lines(10)
    batch_id = api.create(lines)
    _until_executed(api, 4)
    answer = api.cancel(batch_id)
    assert answer.status_code == 200
    check(answer.json(), schemas.BATCH)
    assert answer.json()["status"] in ("cancelling", "cancelled")
    batch = api.until(batch_id, "cancelled")
    check(batch, schemas.BATCH)
    assert batch["request_counts"] == {"total": 10, "completed": 4, "failed": 6}
    output, errors = api.lines(batch_id)
    assert _ids(output) | _ids(errors) == _ids(lines)
    assert (len(output), {line["error"]["code"] for line in errors}) == (4, {"batch_cancelled"})
    assert api.cancel(batch_id).status_code == 409


def test_cancelling_waits_for_requests_that_are_being_executed(serve):
    """
    A request that has begun is finished, and its answer kept.
    """
    begun, go_on = threading.Event(), threading.Event()

    def model(body, endpoint):
        begun.set()
        go_on.wait(120)
        return "done"

    model.__name__ = "slow"
    api = serve(model, concurrency=1)
    batch_id = api.create(chat_lines(40))
    assert begun.wait(120)
    assert api.cancel(batch_id).json()["status"] == "cancelling"
    assert api.cancel(batch_id).json()["status"] == "cancelling"
    assert api.batch(batch_id)["status"] == "cancelling"
    go_on.set()
    api.until(batch_id, "cancelled")
    output, errors = api.lines(batch_id)
    # Threads take requests sixteen at a time from a function.
    assert (len(output), len(errors)) == (16, 24)


def test_an_anthropic_batch_says_canceled_and_expired(api):
    """
    The provider's own words for requests never run.
    """
    lines = [message_line(f"m{n}") for n in range(4)]
    api.server.hold("in_progress", after=1)
    cancelled = api.create(lines, "anthropic")
    _until_executed(api, 1)
    api.cancel(cancelled)
    api.until(cancelled, "cancelled")
    assert {line["result"]["type"] for line in api.lines(cancelled)[1]} == {"canceled"}
    api.server.hold()
    expired = api.create(lines, "anthropic")
    api.until(expired, "in_progress")
    api.server.advance(DAY)
    api.until(expired, "expired")
    output, errors = api.lines(expired)
    assert not output
    assert [line["result"] for line in errors] == [{"type": "expired"}] * 4
    for line in errors:
        check(line, schemas.ANTHROPIC_LINE)


def test_a_batch_may_be_cancelled_while_it_is_validated(api):
    """
    Everything comes back as cancelled.
    """
    api.server.hold("validating")
    batch_id = api.create(chat_lines(5))
    assert api.cancel(batch_id).json()["status"] == "cancelling"
    api.server.release()
    api.until(batch_id, "cancelled")
    output, errors = api.lines(batch_id)
    assert (len(output), len(errors)) == (0, 5)


def test_a_batch_not_yet_handed_over_can_refuse_to_be_cancelled(serve):
    """
    The documentation's 409, for as long as the upstream does not have it.
    """
    api = serve(cancel_early=False)
    api.server.hold("validating")
    api.server.hold()
    batch_id = api.create(chat_lines(5))
    refused = api.cancel(batch_id)
    assert refused.status_code == 409
    check(refused.json(), schemas.ERROR)
    api.server.release()
    api.until(batch_id)
    second = serve(cancel_early=False)
    second.server.hold()
    batch_id = second.create(chat_lines(5))
    second.until(batch_id, "in_progress")
    assert second.cancel(batch_id).status_code == 200


@pytest.mark.parametrize("stage", ["validating", "in_progress", "finalizing"])
def test_a_batch_expires_at_the_end_of_its_window(api, stage):
    """
    What was done is kept; the rest says batch_expired.
    """
    done = {"validating": 0, "in_progress": 3, "finalizing": 10}[stage]
    if stage == "in_progress":
        api.server.hold(stage, after=3)
    else:
        api.server.hold(stage)
    batch_id = api.create(chat_lines(10))
    api.until(batch_id, stage)
    _until_executed(api, done)
    api.server.advance(DAY - 60)
    assert api.batch(batch_id)["status"] == stage
    api.server.advance(61)
    if stage != "in_progress":
        api.server.release()
    batch = api.until(batch_id, "expired")
    check(batch, schemas.BATCH)
    output, errors = api.lines(batch_id)
    assert (len(output), len(errors)) == (done, 10 - done)
    assert all(line["error"]["code"] == "batch_expired" for line in errors)


def test_the_clock_may_be_given(serve):
    """
    A test can own the server's time.
    """
    now = [1_700_000_000.0]
    api = serve(clock=lambda: now[0])
    assert api.batch(api.create(chat_lines(1)))["created_at"] == "2023-11-14T22:13:20Z"


def test_an_all_failed_batch_has_no_output_file(serve):
    """
    Completed, output_file_id null, everything in the error file.
    """
    api = serve(lambda body, endpoint: Reply(400, {"error": {"message": "no", "code": "bad"}}))
    batch_id = api.create(chat_lines(5))
    batch = api.until(batch_id, "completed")
    assert batch["output_file_id"] is None
    assert batch["request_counts"] == {"total": 5, "completed": 0, "failed": 5}
    links = api.results(batch_id).json()
    check(links, schemas.RESULTS)
    assert "output_file_url" not in links
    _, errors = api.lines(batch_id)
    assert [line["response"]["status_code"] for line in errors] == [400] * 5


def test_result_files_go_after_thirty_days(api):
    """
    Their links answer 404, and so does asking for new ones.
    """
    batch_id = api.create(chat_lines(2))
    api.until(batch_id, "completed")
    api.server.advance(30 * DAY - 60)
    url = api.results(batch_id).json()["output_file_url"]
    assert requests.get(url, timeout=120).status_code == 200
    api.server.advance(120)
    assert requests.get(url, timeout=120).status_code == 404
    assert api.results(batch_id).status_code == 404
    assert api.batch(batch_id)["status"] == "completed"


def test_batches_end_one_by_one(serve):
    """
    Of batches alike, the later one waits for the earlier, and the earlier one for none.
    """
    api = serve(EchoModel())
    api.server.hold()
    ids = [api.create(chat_lines(600)) for _ in range(3)]
    for batch_id in ids:
        api.until(batch_id, "in_progress")
    for number, batch_id in enumerate(ids):
        api.server.hold(after=600)
        api.until(batch_id, "completed")
        later = [batch for batch in api.server.batches if batch.batch_id in ids[number + 1 :]]
        assert [batch.completed for batch in later] == [0] * (2 - number)


def test_a_small_batch_does_not_wait_for_a_large_one(api):
    """
    Whatever is left of it.
    """
    api.server.hold()
    large = api.create(chat_lines(5000))
    small = api.create(chat_lines(5))
    for batch_id in (large, small):
        api.until(batch_id, "in_progress")
    api.server.hold(after=1500)
    assert api.until(small, "completed")
    assert api.batch(large)["status"] == "in_progress"
    api.server.release()
    api.until(large, "completed")


def test_every_request_is_executed_once(api):
    """
    Over several batches at a time, whatever the threads.
    """
    ids = [api.create([*chat_lines(700)]) for _ in range(3)]
    for batch_id in ids:
        api.until(batch_id, "completed")
    assert set(api.server.executed.values()) == {3}
    assert len(api.server.executed) == 700


def test_the_view_of_batches_shows_live_counts(api):
    """
    `server.batches`, newest first.
    """
    api.server.hold(after=2)
    first = api.create(chat_lines(5))
    _until_executed(api, 2)
    second = api.create(chat_lines(1))
    view = api.server.batches
    assert [batch.batch_id for batch in view] == [second, first]
    assert view[1].completed == 2


def test_a_batch_whose_input_is_gone_fails(api, caplog):
    """
    Trouble with the disk ends the batch with words, and the server goes on.
    """
    api.server.hold()
    batch_id = api.create(chat_lines(5))
    api.until(batch_id, "in_progress")
    folder = api.server._running().inputs.folder
    for path in folder.iterdir():
        path.unlink()
    api.server.release()
    batch = api.until(batch_id, "failed")
    assert batch["errors"][0]["code"] == "server_error"
    assert api.until(api.create(chat_lines(5)), "completed")


@pytest.mark.parametrize(
    "raised", [ZeroDivisionError, SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit]
)
def test_a_model_that_breaks_its_promise_fails_that_request(serve, raised):
    """
    Whatever it raises is that row's error, and the threads live on.
    """

    class Broken(EchoModel):
        def answer(self, endpoint, body):
            if "text 3" in str(body):
                raise raised
            return super().answer(endpoint, body)

    api = serve(Broken())
    for _ in range(12):
        batch = api.until(api.create(chat_lines(5)), "completed")
        assert batch["request_counts"] == {"total": 5, "completed": 4, "failed": 1}
    body = {"model": "m", "messages": [{"role": "user", "content": "text 3"}]}
    assert api.call("POST", "/v1/chat/completions", json=body).status_code == 500


def test_a_very_long_line_passes(api):
    """
    Twenty megabytes in one request, among small ones.
    """
    text = "word " * 4_000_000
    batch_id = api.create([*chat_lines(300), chat_line("long", text)])
    api.until(batch_id, "completed")
    output, _ = api.lines(batch_id)
    (long,) = [line for line in output if line["custom_id"] == "long"]
    assert long["response"]["body"]["choices"][0]["message"]["content"] == text
    assert len(output) == 301


@pytest.mark.skipif(os.name == "nt", reason="counts files under /dev/fd")
def test_open_batches_hold_no_files(serve):
    """
    A thousand open batches must not run into the system's limit on open files.
    """
    api = serve(lambda body, endpoint: "x", concurrency=1)
    api.server.hold("finalizing")
    before = len(os.listdir("/dev/fd"))
    for _ in range(30):
        api.create(chat_lines(20))
    eventually(lambda: [batch.completed for batch in api.server.batches] == [20] * 30)
    # A connection that the client has closed is closed here a moment later.
    eventually(lambda: len(os.listdir("/dev/fd")) < before + 15)
