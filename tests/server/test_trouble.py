"""A full disk, no descriptors, a busy ledger, a signal: work pauses, says so, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter

import pytest
from server.driver import CHAT, Api, chat_lines, message_line
from server.remote import Remote
from server.stub import chat
from waiting import eventually

from dobatch_pandas.server import LocalServer, Reply
from dobatch_pandas.server.run import Run
from dobatch_pandas.server.upstream import UpstreamModel

resource = pytest.importorskip("resource", reason="limits are POSIX")
TURNS = [{"role": "user", "content": "hi"}]


def _ids(lines):
    return sorted(line["custom_id"] for line in lines)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("wire", ["A", "B"])
@pytest.mark.parametrize("which", ["output", "error"])
def test_a_full_disk_pauses_a_batch(serve, tmp_path, which, wire, caplog):
    """
    Neither answers nor threads are lost; with room again it goes on by itself, every id once.
    """

    def model(body, endpoint):
        odd = int(body["messages"][0]["content"][-1]) % 2
        return Reply(400, {"error": {"message": "odd"}}) if odd else "even"

    api = serve(model, home=tmp_path, concurrency=4, wire=wire)
    api.server.hold(after=10)
    batch_id = api.create(chat_lines(60))
    eventually(
        lambda: sum(api.batch(batch_id)["request_counts"][name] for name in ("completed", "failed")) >= 10
    )
    growing = tmp_path / "running" / f"{batch_id}.{'output' if wire == 'B' else which}"
    aside = growing.with_suffix(".aside")
    os.replace(growing, aside)
    growing.symlink_to("/dev/full")
    api.server.release()
    eventually(lambda: "No space left" in caplog.text and bool(api.server._running().executor.troubles))
    assert "pauses" in caplog.text
    assert api.call("GET", "/health").json() == {"status": "waiting"}
    os.replace(aside, growing)
    batch = api.until(batch_id, "completed")
    assert batch["request_counts"] == {"total": 60, "completed": 30, "failed": 30}
    output, errors = api.lines(batch_id)
    assert _ids(output + errors) == _ids(chat_lines(60))
    assert api.server.executed.most_common(1)[0][1] == 1
    assert "goes on" in caplog.text


def test_a_busy_ledger_pauses_a_batch(serve, tmp_path):
    """
    Another program may hold it; calls are told to come again, and then everything goes on.
    """
    api = serve(home=tmp_path)
    api.server.hold("finalizing")
    file_id, batch_id = api.upload(chat_lines(2)), api.create(chat_lines(40))
    api.until(batch_id, "finalizing")
    other = sqlite3.connect(tmp_path / "server.sqlite", isolation_level=None)
    other.execute("begin immediate")
    api.server.release()
    eventually(lambda: "locked" in str(api.server._running().executor.troubles))
    refused = api.post_batch(file_id)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "locked" in refused.json()["message"]
    other.execute("rollback")
    other.close()
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 40
    assert api.post_batch(file_id).status_code == 201


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_want_of_descriptors_pauses_a_batch(stub, tmp_path):
    """
    Idle connections can take them all; what was answered stays, and each row is asked once.
    """
    go_on = threading.Event()

    def answer(call):
        if call.method == "POST" and len(upstream.calls) > 12:
            go_on.wait(120)
        return chat("re " + call.text)

    upstream = stub(answer)
    with Remote(tmp_path, "--model", upstream.url, "--concurrency", "4") as remote:
        api = Api(remote)
        batch_id = api.create(chat_lines(30))
        eventually(lambda: sum("messages" in call.body for call in upstream.calls) >= 12)
        limits = resource.prlimit(remote.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(remote.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        go_on.set()
        eventually(lambda: "pauses" in remote.said or "cannot" in remote.said)
        resource.prlimit(remote.process.pid, resource.RLIMIT_NOFILE, limits)
        assert api.until(batch_id, "completed")["request_counts"]["completed"] == 30
        assert _ids(api.lines(batch_id)[0]) == _ids(chat_lines(30))


def test_many_idle_connections_do_not_shut_out_others(serve, monkeypatch):
    """
    The longest idle one makes room for the next.
    """
    import socket

    from dobatch_pandas.server import protocol

    monkeypatch.setattr(protocol, "_most_connections", lambda: 20)
    api = serve()
    host, port = api.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(60)]
    assert api.call("GET", "/v1/batches").status_code == 200
    for one in silent:
        one.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /v1/batches HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: "]
)
def test_a_client_that_does_not_go_on_is_let_go(serve, monkeypatch, sent):
    """
    Silent sockets and half heads end by themselves.
    """
    import socket

    from dobatch_pandas.server import protocol

    monkeypatch.setattr(protocol, "_HEAD", 0.2)
    api = serve()
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as one:
        one.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1000) == b""


def test_an_upload_that_stands_still_is_let_go(serve, monkeypatch):
    """
    And leaves nothing behind.
    """
    import socket
    from urllib.parse import urlsplit

    from dobatch_pandas.server import protocol

    api = serve()
    parts = urlsplit(api.intent()["upload_url"])
    monkeypatch.setattr(protocol, "_BODY", 0.2)
    with socket.create_connection((parts.hostname, parts.port), timeout=120) as one:
        head = (
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n\r\n"
        )
        one.sendall(head.encode() + b"x" * 10)
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1000) == b""
    folder = api.server._running().inputs.folder
    eventually(lambda: not list(folder.iterdir()))


def test_a_signal_waits_for_what_is_at_the_model(stub, tmp_path):
    """
    It says so; nothing that was computed is computed again.
    """
    go_on = threading.Event()
    upstream = stub(
        lambda call: go_on.wait(120) and chat("re " + call.text) if call.method == "POST" else {"data": []}
    )
    with Remote(tmp_path, "--model", upstream.url, "--concurrency", "3") as remote:
        batch_id = Api(remote).create(chat_lines(10))
        eventually(lambda: len(upstream.calls) == 3)
        remote.signal(signal.SIGTERM)
        eventually(lambda: "Waiting for 3 requests" in remote.said)
        assert Api(remote).batch(batch_id)["status"] == "in_progress"
        go_on.set()
        assert remote.end() == 0
    assert len(upstream.calls) == 3
    with LocalServer(upstream.url, home=tmp_path) as server:
        api = Api(server, remote.token)
        assert api.until(batch_id, "completed")["request_counts"]["completed"] == 10
    assert max(Counter(call.text for call in upstream.calls).values()) == 1


def test_a_second_signal_drops_what_is_at_the_model(stub, tmp_path):
    """
    It is asked again by the next server.
    """
    go_on = threading.Event()
    upstream = stub(lambda call: go_on.wait(120) and chat("x") if call.method == "POST" else {"data": []})
    with Remote(tmp_path, "--model", upstream.url, "--concurrency", "3") as remote:
        batch_id = Api(remote).create(chat_lines(3))
        eventually(lambda: len(upstream.calls) == 3)
        remote.signal(signal.SIGINT)
        eventually(lambda: "Ctrl+C again" in remote.said)
        assert remote.end(signal.SIGINT) == 0
    go_on.set()
    with LocalServer(upstream.url, home=tmp_path) as server:
        Api(server, remote.token).until(batch_id, "completed")
    assert len(upstream.calls) == 6


def test_a_kill_costs_what_was_at_the_model(stub, tmp_path):
    """
    Every id once, and no more asked again than was in flight.
    """
    permits = threading.Semaphore(0)

    def answer(call):
        if call.method != "POST":
            return {"data": []}
        permits.acquire(timeout=240)
        return chat("re " + call.text)

    upstream = stub(answer)
    batch_id, kills, concurrency = None, 3, 4
    for _ in range(kills):
        with Remote(
            tmp_path, "--model", upstream.url, "--concurrency", str(concurrency), "--token", "t"
        ) as remote:
            api = Api(remote)
            before = len(upstream.calls)
            batch_id = batch_id or api.create(chat_lines(600))
            permits.release(150)
            eventually(lambda before=before: len(upstream.calls) >= before + 100)
            remote.kill()
    permits.release(10_000)
    with LocalServer(upstream.url, home=tmp_path) as server:
        api = Api(server)
        assert api.until(batch_id, "completed")["request_counts"]["completed"] == 600
        assert _ids(api.lines(batch_id)[0]) == _ids(chat_lines(600))
    asked = Counter(call.text for call in upstream.calls if "messages" in call.body)
    assert sum(asked.values()) - 600 <= kills * concurrency


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_what_is_at_the_upstream_is_kept(serve, stub, how):
    """
    Cancelled or expired: its answers come, and nothing more is asked.
    """
    go_on = threading.Event()
    upstream = stub(lambda call: go_on.wait(120) and chat("re " + call.text))
    api = serve(upstream.url, concurrency=4)
    batch_id = api.create(chat_lines(30))
    eventually(lambda: upstream.now == 4)
    if how == "cancel":
        api.cancel(batch_id)
    else:
        api.server.advance(25 * 3600)
    go_on.set()
    counts = api.until(batch_id, "cancelled" if how == "cancel" else "expired")["request_counts"]
    assert (counts, len(upstream.calls)) == ({"total": 30, "completed": 4, "failed": 26}, 4)
    output, errors = api.lines(batch_id)
    assert _ids(output + errors) == _ids(chat_lines(30))


def test_an_upstream_that_hangs_does_not_hold_up_the_end(stub, tmp_path):
    """
    What is dropped is asked again by the next server on the same home, and every id comes once.
    """
    go_on = threading.Event()
    upstream = stub(lambda call: go_on.wait(120) and chat("re " + call.text))
    server = LocalServer(upstream.url, concurrency=4, home=tmp_path).start()
    batch_id = Api(server).create(chat_lines(10))
    eventually(lambda: upstream.now == 4)
    server.stop(0.2)
    go_on.set()
    with LocalServer(upstream.url, home=tmp_path) as server:
        assert Api(server).until(batch_id, "completed")["request_counts"]["completed"] == 10
        assert _ids(Api(server).lines(batch_id)[0]) == _ids(chat_lines(10))
    assert len(upstream.calls) == 14


def test_a_model_that_does_not_close_keeps_no_home(stub, tmp_path, monkeypatch):
    """
    The server ends without an error, and the next one on its home begins.
    """

    class Stuck(UpstreamModel):
        async def close(self):
            await asyncio.sleep(3600)

    monkeypatch.setattr("dobatch_pandas.server.executor._CLOSING", 0.1)
    for model in (Stuck(stub(lambda call: chat("x")).url), "echo"):
        with LocalServer(model, home=tmp_path) as server:
            Api(server).until(Api(server).create(chat_lines(1)), "completed")


def test_nothing_runs_on_after_the_end(stub):
    """
    A server that was stopped with requests at its model leaves no thread behind.
    """
    over = threading.Event()
    upstream = stub(lambda call: over.wait(240) and None)
    before = set(threading.enumerate())
    server = LocalServer(upstream.url, concurrency=4, rate_limit=None).start()
    Api(server).create(chat_lines(8))
    eventually(lambda: upstream.now == 4)
    server.stop(patience=0.1)
    # A thread of its may still be on its way out; another loop would stay for ever.
    eventually(
        lambda: not [one for one in set(threading.enumerate()) - before if one.name.startswith("dobatch")]
    )
    over.set()


@pytest.mark.parametrize("model", ["stub", "function"])
def test_real_time_calls_go_on_while_answers_cannot_be_written(serve, stub, tmp_path, monkeypatch, model):
    """
    A batch waits for the disk with its answers, and asks for no more; the places at the model are free.
    """
    full, asked = threading.Event(), []
    full.set()

    def answer(body):
        asked.append(body)
        return "x"

    append = Run._append

    def fails(run, *contents):
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        append(run, *contents)

    monkeypatch.setattr(Run, "_append", fails)
    upstream = stub(lambda call: chat(answer(call.body)))
    api = serve(upstream.url if model == "stub" else answer, concurrency=2)
    batch_id = api.create(chat_lines(50))
    eventually(lambda: "No space" in str(api.server._running().executor.troubles))
    for _ in range(4):
        said = api.call("POST", CHAT, json={"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        assert said.status_code == 200
    full.clear()
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 50
    assert len(asked) == 54


def test_a_delay_that_was_made_up_does_not_hold_up_the_end(stub):
    """
    Requests that wait in it have not been asked: they are handed back at once.
    """
    upstream = stub(lambda call: chat("x"))
    begun = time.monotonic()
    with LocalServer(upstream.url, latency=3600) as server:
        Api(server).until(Api(server).create(chat_lines(5)), "in_progress")
        eventually(lambda: server.busy > 0)
    assert time.monotonic() - begun < 300
    assert not upstream.calls


def test_a_batch_whose_input_goes_keeps_its_answers(serve):
    """
    It fails, and what it was answered can be read.
    """
    api = serve()
    api.server.hold(after=4)
    batch_id = api.create(chat_lines(10))
    eventually(lambda: api.batch(batch_id)["request_counts"]["completed"] == 4)
    for path in api.server._running().inputs.folder.iterdir():
        path.unlink()
    api.server.release()
    batch = api.until(batch_id, "failed")
    assert batch["errors"][0]["code"] == "server_error"
    assert len(api.lines(batch_id)[0]) == 4


# Functions.


class _Callable:
    async def __call__(self, body):
        return "object"


async def _async(body, endpoint):
    return "async"


async def _async_raising(body):
    raise SystemExit(3)


def _deep(body):
    return {"choices": [{"message": {"content": "x"}}], "deep": json.loads("[" * 300 + "]" * 300)}


@pytest.mark.parametrize(
    ("function", "seen"),
    [
        (_async, "async"),
        (_Callable(), "object"),
        (lambda body: "one argument", "one argument"),
        (lambda body, endpoint="x": endpoint, CHAT),
        (lambda *args: str(len(args)), "2"),
        (lambda body: _async(body, ""), "async"),
        (lambda body: "half \ud83d", "half \ufffd"),
        (lambda body: {"n": 2**80}, '{"n":1.2089258196146292e+24}'),
        (lambda body: sys.exit(1), 500),
        (lambda body: (_ for _ in ()).throw(KeyboardInterrupt()), 500),
        (_async_raising, 500),
        (_deep, 500),
        (lambda body: object(), 500),
        (lambda body: Reply(200, "no object"), 500),
        (lambda body: Reply("x", {}), 500),
        (lambda body: (lambda: (yield))(), 500),
    ],
)
def test_any_function_can_be_the_model(serve, function, seen):
    """
    Async or not, with one argument or two; what it raises or returns is its row's, again and again.
    """
    api = serve(function, concurrency=2)
    batch_id = api.create(chat_lines(6))
    batch = api.until(batch_id, "completed")
    good = isinstance(seen, str)
    assert batch["request_counts"] == {"total": 6, "completed": 6 * good, "failed": 6 * (not good)}
    output, errors = api.lines(batch_id)
    if good:
        assert {line["response"]["body"]["choices"][0]["message"]["content"] for line in output} == {seen}
    else:
        assert {line["response"]["status_code"] for line in errors} == {seen}
    answer = api.call("POST", CHAT, json={"model": "m", "messages": TURNS})
    assert answer.status_code == (200 if good else seen)


def test_numpys_numbers_are_numbers(serve):
    """
    A vector or a score, as NumPy has it.
    """
    import numpy as np

    api = serve(
        lambda body, endpoint: np.ones(3, "f4") if endpoint == "/v1/embeddings" else {"p": np.float32(0.5)}
    )
    assert api.call("POST", "/v1/embeddings", json={"model": "m", "input": "x"}).json()["data"][0][
        "embedding"
    ] == [1, 1, 1]
    answer = api.call("POST", CHAT, json={"model": "m", "messages": TURNS}).json()
    assert answer["choices"][0]["message"]["content"] == '{"p":0.5}'


def test_async_functions_wait_together(serve):
    """
    As many at once as was asked for, in one event loop.
    """
    together = most = 0
    all_are_here = asyncio.Event()

    async def model(body):
        nonlocal together, most
        together += 1
        most = max(most, together)
        if most == 12:
            all_are_here.set()
        await asyncio.wait_for(all_are_here.wait(), 240)
        together -= 1
        return "x"

    api = serve(model, concurrency=12)
    assert api.until(api.create(chat_lines(24)), "completed")["request_counts"]["completed"] == 24
    assert most == 12


def test_a_function_that_cannot_be_called_is_refused_at_once():
    """
    With what it has to take, when the server starts.
    """
    from dobatch_pandas.errors import ServerProblem

    with pytest.raises(ServerProblem, match=r"\(body, endpoint\) or \(body\)"):
        LocalServer(lambda: "x").start()


@pytest.mark.parametrize(
    "schema", [{"type": "string", "minLength": 10**13}, {"type": "array", "items": {}, "minItems": 10**12}]
)
def test_a_schema_that_no_memory_holds_is_one_rows_error(api, schema):
    """
    The rows beside it are answered.
    """
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    lines = chat_lines(4)
    lines[1]["body"]["response_format"] = form
    batch = api.until(api.create(lines), "completed")
    assert batch["request_counts"] == {"total": 4, "completed": 3, "failed": 1}


def test_a_function_may_take_messages_too(serve):
    """
    With one argument as well.
    """
    api = serve(lambda body: "fine")
    batch_id = api.create([message_line("a")], "anthropic")
    api.until(batch_id, "completed")
    assert api.lines(batch_id)[0][0]["result"]["message"]["content"][0]["text"] == "fine"


def test_a_server_that_runs_for_months_remembers_no_request(stub, tmp_path):
    """
    What the command serves leaves nothing in memory but the last thousand calls.
    """
    server = LocalServer(home=tmp_path)
    server._remembers = False
    with server:
        api = Api(server)
        for _ in range(3):
            api.until(api.create(chat_lines(50)), "completed")
        service = server._running()
        assert service.executor.executed is None
        assert (service.executor._runs, list(service.executor._calls)) == ({}, [])
        assert service.calls.maxlen == 1000


@pytest.mark.parametrize(
    "given", [{"content": [], "usage": "no object"}, {"error": {"x": 2**70}, "status": "x"}]
)
def test_a_functions_malformed_body_is_told_as_the_models_fault(serve, given):
    """
    Streamed or whole, never as the request's, and in the provider's shape.
    """
    api = serve(lambda body: given)
    answer = api.call(
        "POST", "/v1/messages", json={"model": "m", "max_tokens": 5, "messages": TURNS, "stream": True}
    )
    assert answer.status_code in (500, 502)
    assert answer.json()["error"]
