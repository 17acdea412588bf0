"""A job under every fault that a network, a service or a provider can produce."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from proxy import Fault, Proxy, answer
from waiting import eventually

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import ConnectionFailed, JobFailed, Unauthorized
from dobatch_pandas.job import machine, process, row_answers, work
from dobatch_pandas.questions.part_files import compress_part

FRAME = pd.DataFrame({"n": range(90)})
PAGE = "<!DOCTYPE html><html><body>Blocked by policy</body></html>"


@pytest.fixture
def three_parts(monkeypatch):
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(30, 200_000_000))


def ask(**options):
    return FRAME.dobatch.submit("number {n}", model="echo", into="answer", **options)


def check(job, server):
    """Every row has its own answer, nothing was asked twice, and every fault that was set up has been met."""
    answered = FRAME.dobatch.join(job)
    assert server.faults._calls == []
    assert list(answered["answer"]) == [f"number {n}" for n in FRAME["n"]]
    assert answered["answer_error"].isna().all()
    assert set(server.executed.values()) == {1}
    assert len(server.executed) == len(FRAME)


@pytest.mark.parametrize("operation", ["create_file", "upload", "create_batch", "get_batch", "list_batches",
                                       "get_results", "download"])  # fmt: skip
@pytest.mark.parametrize(
    "fault",
    [
        {"drop": "before", "times": 2},
        {"drop": "after", "times": 2},
        {"status": 503, "times": 2},
        {"status": 500, "times": 3},
        {"status": 429, "retry_after": 0.2},
        {"status": 429},
    ],
    ids=["reset before", "answer lost", "503 in HTML", "500 in HTML", "429 with retry-after", "429"],
)
def test_passing_faults_are_survived(operation, fault, server, monkeypatch):
    """
    A fault that passes costs time, never an answer and never a second execution.
    """
    # One batch is looked up by itself, several are listed.
    rows = len(FRAME) if operation == "get_batch" else 30
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(rows, 200_000_000))
    if operation == "list_batches":
        fault = {**fault, "skip": 1}  # the first list is the knock at the door, in the user's own cell
    server.faults.add(operation, **fault)
    if operation in ("list_batches", "get_batch"):
        server.hold()
    job = ask()
    if operation in ("list_batches", "get_batch"):
        # Batches that end between two looks would be looked for once.
        eventually(lambda: not server.faults._calls)
        server.release()
    check(job, server)


@pytest.mark.parametrize("cut", [1, 2_000])
@pytest.mark.parametrize("operation", ["upload", "download"])
def test_a_transfer_that_breaks_goes_on(operation, cut, server):
    """
    Bytes that were lost on the way are sent or fetched again; what arrived is whole.
    """
    server.faults.add(operation, cut=cut)
    check(ask(), server)


@pytest.mark.parametrize("operation", ["upload", "download"])
def test_an_expired_address_is_asked_for_anew(operation, server):
    """
    A presigned address that is too old is replaced by a new one.
    """
    server.faults.add(operation, expire=True)
    check(ask(), server)


def test_a_download_whose_address_expires_midway_goes_on(server):
    """
    A new link, and on from the byte reached.
    """
    server.faults.add("download", cut=1_000, expire=True)
    check(ask(), server)


def test_ten_thousand_rows_through_a_network_that_drops_one_connection_in_five(serve, monkeypatch):
    """
    All joined, nothing executed twice.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(500, 200_000_000))
    server = serve()
    frame = pd.DataFrame({"n": range(10_000)})
    with Proxy(server.url, reset_share=0.2) as proxy:
        dobatch.configure(base_url=proxy.url)
        answered = frame.dobatch.join(frame.dobatch.submit("number {n}", model="echo"))

    assert list(answered["response"]) == [f"number {n}" for n in range(10_000)]
    assert set(server.executed.values()) == {1}
    assert len(server.executed) == 10_000
    assert len(server.batches) == 20


def test_a_token_that_expires_in_mid_job_pauses_it_until_there_is_a_new_one(server):
    """
    The job says so, is kept, and goes on after ``dobatch.configure(token=...)``.
    """
    server.faults.add("create_batch", status=401)
    job = ask()
    paused = wait_for(job, lambda now: now.state == "paused")
    assert "configure(token=" in paused.problem

    dobatch.configure(token="another")
    check(job, server)


@pytest.mark.parametrize("operation", ["create_file", "create_batch", "get_batch", "get_results"])
def test_a_token_given_the_moment_the_job_asks_for_one_is_taken(operation, server):
    """
    Nobody waits ten minutes because ``configure`` was faster than the job's own wait.
    """
    server.faults.add(operation, status=401)
    job = ask()
    asked = threading.Event()

    def answer_at_once():
        if not asked.is_set() and job.snapshot().state == "paused":
            asked.set()
            dobatch.configure(token="another")

    unsubscribe = job.subscribe(answer_at_once)
    answer_at_once()
    job.wait(timeout=240)
    unsubscribe()
    check(job, server)


def wait_for(job, condition):
    """The first snapshot for which the condition holds."""
    news = threading.Event()
    unsubscribe = job.subscribe(news.set)
    try:
        while True:
            now = job.snapshot()
            if condition(now):
                return now
            assert not now.over, now
            # Not all that a snapshot shows is news, and a subscription of a job that has just ended hears none.
            news.wait(0.5)
            news.clear()
    finally:
        unsubscribe()


def test_two_never_move_a_job_at_once(server, home, monkeypatch):
    """
    Attached to while a thread of the one before is still at a part: who comes later waits for its end.
    """
    begun, go_on = threading.Event(), threading.Event()

    def slowly(path: Path) -> Path:
        begun.set()
        assert go_on.wait(120)
        return compress_part(path)

    monkeypatch.setattr(work, "compress_part", slowly)
    server.hold()
    first = pd.DataFrame({"x": range(10)}).dobatch.submit("Say {x}", model="echo")
    assert begun.wait(120)
    here = process.home_here()
    leaving = threading.Thread(target=process.drop, args=(here, first.id))
    leaving.start()
    eventually(lambda: process.live_of(here, first.id) is None)
    late = dobatch.attach(first.id)
    assert process.live_of(here, first.id).elsewhere
    assert leaving.is_alive()
    go_on.set()
    server.release()
    leaving.join(120)
    assert late.wait().status == "completed"
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("not_ready", ["flag", "412"])
def test_results_that_lag_behind_the_status_are_waited_for(not_ready, serve):
    """
    ``completed`` and yet ``result_available: false`` or 412: the files are asked for until they are there.
    """
    server = serve(not_ready=not_ready)
    server.faults.add("get_results", status=412, times=3)
    check(ask(), server)


def test_missing_lines_become_a_code_and_can_be_retried(server):
    """
    Missing, doubled, foreign and torn lines: whoever has a line has an answer, the others have a code.
    """
    server.faults.spoil(missing=5, doubled=4, foreign=3, torn=True)
    job = ask()
    answered = FRAME.dobatch.join(job)

    missing = answered["answer_error"].eq("missing_result")
    assert 5 <= missing.sum() <= 6
    assert list(answered["answer"][~missing]) == [f"number {n}" for n in FRAME["n"][~missing]]

    assert job.retry() == missing.sum()
    answered = FRAME.dobatch.join(job)
    assert answered["answer_error"].isna().all()
    assert list(answered["answer"]) == [f"number {n}" for n in FRAME["n"]]
    assert job.counts == {"total": 90, "completed": 90, "failed": 0, "reused": 0, "skipped": 0}


def test_an_unknown_status_means_still_running(server):
    """
    A word that the service invents tomorrow is no error today.
    """
    server.faults.add("get_batch", word="pondering", times=3)
    check(ask(), server)


@pytest.mark.parametrize("mode", ["create", "validate"])
def test_a_limit_on_enqueued_tokens_holds_the_rest_back(mode, serve, three_parts):
    """
    When there is no room at the provider, the next batch waits for the ones before; no row is dropped.
    """
    server = serve(enqueued_tokens=1500, enqueued_mode=mode)
    check(ask(), server)


def test_a_batch_that_failed_for_want_of_room_and_ran_all_the_same_is_not_paid_twice(server):
    """
    The service says that there was no room, and has the answers: they are mine, and nothing is executed again.
    """
    server.faults.add("get_batch", status=503, times=None)
    job = ask()
    eventually(lambda: [batch.status for batch in server.batches] == ["completed"])
    full = {
        "status": "failed",
        "errors": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}],
    }
    server.faults.add(
        "get_batch", status=200, body=json.dumps({"batch_id": server.batches[0].batch_id, **full})
    )
    server.faults._calls.pop(0)
    dobatch.attach(job.id)
    check(job, server)


@pytest.mark.parametrize("operation", ["create_file", "create_batch", "list_batches", "get_results"])
@pytest.mark.parametrize("status", [400, 405, 410, 413, 421])
def test_a_page_is_not_the_services_own_refusal(operation, status, server, three_parts):
    """
    A proxy's page, whatever status it has, costs time and neither a row nor a second payment.
    """
    server.hold()
    server.faults.add(operation, status=status, body=PAGE, times=2, skip=int(operation == "list_batches"))
    job = ask()
    if operation != "get_results":
        eventually(lambda: not server.faults._calls)
    server.release()
    check(job, server)


@pytest.mark.parametrize("operation", ["create_file", "create_batch"])
@pytest.mark.parametrize(
    ("status", "body"), [(400, ""), (413, ""), (422, "404 page not found\n"), (410, "[]")]
)
def test_what_the_service_does_not_say_itself_is_not_its_refusal(
    operation, status, body, server, monkeypatch
):
    """
    An empty answer, or a gateway's bare words: the service explains itself in JSON, so this passes.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    server.faults.add(operation, status=status, body=body, times=2)
    check(ask(), server)


@pytest.mark.parametrize("body", [PAGE, "", "404 page not found\n"])
@pytest.mark.parametrize("status", [404, 409, 412, 425])
def test_a_gateway_that_is_away_for_long_ends_no_batch(status, body, server, monkeypatch):
    """
    While the service is deployed a gateway answers that there is nothing: however often, no file is given up for it.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    server.faults.add("create_batch", status=status, body=body, times=machine.TRIES + 3)
    check(ask(), server)
    assert server.calls.count("upload") == 1


@pytest.mark.parametrize(("status", "body"), [(400, ""), (410, ""), (404, "404 page not found\n")])
def test_a_batch_that_was_made_behind_a_bare_answer_is_not_paid_twice(status, body, server, monkeypatch):
    """
    The service acts, and a gateway answers without a word of the service: what is asked next finds the batch.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    with Proxy(server.url) as proxy:
        proxy.add(Fault("POST /v1/batches ", instead=answer(status, body)))
        dobatch.configure(base_url=proxy.url)
        job = ask().wait()
        job.retry()
        check(job, server)
    assert len(server.batches) == 1


@pytest.mark.parametrize("name", ["completed", "failed"])
def test_a_counter_that_nobody_can_write_down_stops_nothing(name, server):
    """
    A service that counts 10 to the 30th requests is not believed, and the job goes on.
    """
    server.hold()
    job = ask().sent()
    body = {"batch_id": server.batches[0].batch_id, "status": "in_progress", "request_counts": {name: 10**30}}
    server.faults.add("get_batch", status=200, body=json.dumps(body))
    eventually(lambda: not server.faults._calls)
    server.release()
    check(job, server)


@pytest.mark.parametrize("url", ["not a url", "ftp://store/x", "http://[::1/x", "http://127.0.0.1:999999/x"])
@pytest.mark.parametrize("operation", ["create_file", "get_results"])
def test_a_link_that_is_none_passes_and_is_no_matter_of_the_token(operation, url, server, monkeypatch):
    """
    The service hands out an address that nobody can call: it is asked for another, and no token is asked for.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    body = {"file_id": "f", "upload_url": url, "result_available": True, "output_file_url": url}
    server.faults.add(operation, status=200, body=json.dumps(body), times=4)
    job = ask()
    eventually(lambda: "no address that bytes" in (job.snapshot().problem or "") or job.snapshot().over)
    assert "token" not in (job.snapshot().problem or "")
    check(job, server)


@pytest.mark.parametrize("mode", ["batch", "now"])
@pytest.mark.parametrize("work", ["render", "upload", "call", "look", "fetch", "read", "index", "ask", "now"])
def test_a_machine_that_starts_no_threads_for_a_while_loses_nothing(work, mode, server, monkeypatch):
    """
    A container's limit of threads is reached: the job says so, and goes on when there are some again.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    left = [1, 2]
    start = threading.Thread.start

    def started(thread):
        if left and thread.name.startswith(f"dobatch-{work}"):
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    job = ask(mode=mode)
    assert list(FRAME.dobatch.join(job)["answer"]) == [f"number {n}" for n in FRAME["n"]]
    assert set(server.executed.values()) == ({1} if mode == "batch" else set())
    eventually(lambda: process.live_of(process.home_here(), job.id) is None)
    assert job._folder.try_lock() is not None  # nobody holds it for work that never began


def test_memory_that_is_short_for_a_while_stops_no_job(server, monkeypatch):
    """
    Reading the answers finds no memory: it is tried again, and nobody has to attach.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    left = [pa.ArrowMemoryError("malloc of size 64 failed"), MemoryError()]
    read = work._read

    def short(*arguments):
        if left:
            raise left.pop()
        return read(*arguments)

    monkeypatch.setattr(work, "_read", short)
    check(ask(), server)
    assert not left


def test_a_batch_that_fails_validation_fails_the_job_with_the_services_words(serve):
    """
    The service refuses the file: the job says why, and each row has a code.
    """
    server = serve()
    server.faults.add(
        "create_batch", status=422, body='{"id": "unprocessable_entity", "message": "model not allowed"}'
    )
    job = ask()
    with pytest.raises(JobFailed, match="model not allowed"):
        job.wait()
    assert job.status == "failed"


def test_an_expired_job_yields_what_it_has(serve):
    """
    What was finished before the window closed stays; the rest has a code, and a retry sends just that.
    """
    server = serve(latency=0.02, concurrency=1)
    server.hold(after=20)
    job = ask()
    wait_for(job, lambda now: now.completed >= 20)
    server.advance(25 * 3600)
    server.release()
    answered = FRAME.dobatch.join(job)

    assert job.status == "expired"
    done = answered["answer_error"].isna()
    assert 20 <= done.sum() < 90
    assert set(answered["answer_error"][~done]) == {"expired"}
    assert job.retry() == (~done).sum()
    check(job, server)


def test_a_cancelled_job_yields_what_it_has(serve):
    """
    ``cancel`` ends every batch, and what was answered before stays.
    """
    server = serve()
    server.hold(after=20)
    job = ask()
    wait_for(job, lambda now: now.completed >= 20)
    job.cancel()
    wait_for(job, lambda now: now.batches[0].state in ("cancelling", "cancelled"))
    server.release()
    answered = FRAME.dobatch.join(job)

    assert job.status == "cancelled"
    assert set(answered["answer_error"].dropna()) == {"cancelled"}
    assert answered["answer_error"].isna().sum() >= 20
    assert server.batches[0].status == "cancelled"


def test_a_late_answer_to_a_cancel_does_not_hide_the_end(serve, monkeypatch):
    """
    "cancelling" may arrive when the batch has been cancelled for long.
    """
    server = serve()
    server.hold(after=20)
    job = ask()
    wait_for(job, lambda now: now.completed >= 20)
    cancel = dobatch.Client.cancel_batch

    def late(client, batch_id):
        batch = cancel(client, batch_id)
        eventually(lambda: client.get_batch(batch_id).terminal)
        return batch

    monkeypatch.setattr(dobatch.Client, "cancel_batch", late)
    job.cancel().wait()
    assert job.snapshot().batches[0].state == job.status == "cancelled"


def test_a_cancel_before_the_provider_has_the_batch_is_repeated(serve):
    """
    The service answers 409 while a batch is not yet with the provider: the wish is kept and asked again.
    """
    server = serve(cancel_early=False, latency=1.0, concurrency=1)
    server.hold("validating")
    job = ask()
    wait_for(job, lambda now: now.batches and now.batches[0].batch_id)
    job.cancel()
    wait_for(job, lambda now: "cancel_batch" in server.calls)
    server.release()
    job.wait()
    assert job.status == "cancelled"
    assert server.calls.count("cancel_batch") > 1
    assert len(server.executed) < len(FRAME)


def test_an_unreachable_host_is_told_before_anything_is_recorded(home):
    """
    One clear error in the cell, and no half job left behind.
    """
    dobatch.configure(base_url="http://127.0.0.1:9", token="local")
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1"):
        ask()
    assert dobatch.jobs().empty


def test_a_refused_token_is_told_before_anything_is_recorded(serve):
    """
    A wrong key is an error of the cell that used it.
    """
    serve(token="right")
    dobatch.configure(token="wrong")
    with pytest.raises(Unauthorized):
        ask()
    assert dobatch.jobs().empty


def test_a_join_that_waits_reads_each_part_as_it_comes(server, three_parts, monkeypatch):
    """
    What a join has to do is done while the service is at work: when the last batch ends, only that one is left to read.
    """
    read = []
    real = row_answers.read_table

    def noted(path, columns=None):
        if path.parent.name == "results" and "text" in (columns or ()):  # what it cost is read beside
            read.append(path.name)
        return real(path, columns)

    monkeypatch.setattr(row_answers, "read_table", noted)
    server.hold(after=45)
    job = ask()
    joined = []
    joining = threading.Thread(target=lambda: joined.append(FRAME.dobatch.join(job)))
    joining.start()
    eventually(lambda: read)
    assert job.status != "completed"
    server.release()
    joining.join(120)
    assert sorted(read) == [f"part-{n:05}.parquet" for n in range(3)]
    assert list(joined[0]["answer"]) == [f"number {n}" for n in range(90)]


@pytest.mark.parametrize(
    "page", ["Welcome to the hotel.\n", "Welcome to the hotel.\n" * 5_000], ids=["short", "long"]
)
def test_results_that_are_none_are_told_in_words_and_asked_for_again(page, server):
    """
    What is downloaded is no JSON: the rows have a code, the job says what is wrong, and nothing is paid again for it.
    """
    server.faults.add("download", status=200, body=page, times=4)
    job = ask()
    answered = FRAME.dobatch.join(job)
    now = job.snapshot()
    assert answered["answer_error"].eq("missing_result").all()
    assert "gave no results so far: its files have a line for 0 of 90 requests" in now.problem
    assert "0 of 90" in now.batches[0].problem

    assert job.retry() == 0
    check(job, server)
    assert job.snapshot().problem is None


@pytest.mark.parametrize(
    "body",
    ["PK\x03\x04 a zip", "BZh9 not whole", '\x04"M\x18 not whole', "<\x00h\x00\x00"],
    ids=["zip", "bzip2", "lz4", "UTF-16"],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_download_that_cannot_be_unpacked_is_fetched_again(body, provider, server, monkeypatch):
    """
    What came is packed in a way that nobody reads, or damaged: it counts as holding no results.
    """
    monkeypatch.setattr(machine, "FIRST_PAUSE", 0.02)
    server.faults.add("download", status=200, body=body)
    check(ask(provider=provider, **({"max_tokens": 9} if provider == "anthropic" else {})), server)


@pytest.mark.parametrize(
    ("status", "times"), [(403, None), (405, None), (413, None), (408, 1), (429, 1), (503, 1)]
)
def test_a_list_that_is_refused_keeps_nobody_from_asking(server, status, times):
    """
    A token that may create batches and not list them, or a moment's trouble: rows are sent all the same.
    """
    server.faults.add("list_batches", status=status, times=times)
    job = ask().wait()
    server.faults.clear()
    check(job, server)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 401}, "Unauthorized"),
        ({"status": 404}, "NotFound"),
        ({"status": 200, "body": "<html>Sign in</html>"}, "ApiError"),
    ],
)
def test_what_is_not_the_service_or_not_its_token_is_told_in_the_cell(server, fault, error):
    """
    A token that nobody knows, or an address where something else lives, is an error of the submit, and no job.
    """
    server.faults.add("list_batches", **fault, times=None)
    with pytest.raises(getattr(dobatch.errors, error), match="Could not list batches"):
        ask()
    assert dobatch.jobs().empty
