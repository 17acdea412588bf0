"""State that survives: a restart, and a kill."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
import requests
from server.driver import Api, chat_line, chat_lines, jsonl
from server.remote import Remote
from waiting import eventually

from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import LocalServer


def test_a_batch_goes_on_after_a_restart(tmp_path):
    """
    What was executed is not executed again; links given out before stay good.
    """
    lines = chat_lines(1000)
    with LocalServer(home=tmp_path, port=0) as server:
        api = Api(server)
        done = api.create(chat_lines(3))
        api.until(done, "completed")
        url = api.results(done).json()["output_file_url"]
        server.hold(after=300)
        batch_id = api.create(lines, request_id="mine")
        api.until(batch_id, "in_progress")
        eventually(lambda: sum(server.executed.values()) >= 303)
        before = Counter(server.executed)
        port = server.url.rpartition(":")[2]
    with LocalServer(home=tmp_path, port=int(port)) as server:
        api = Api(server)
        batch = api.until(batch_id, "completed")
        assert batch["request_counts"] == {"total": 1000, "completed": 1000, "failed": 0}
        executed = before - Counter(line["custom_id"] for line in chat_lines(3)) + server.executed
        assert executed == Counter(line["custom_id"] for line in lines)
        output, _ = api.lines(batch_id)
        assert sorted(line["custom_id"] for line in output) == sorted(executed)
        assert requests.get(url, timeout=120).status_code == 200
        assert api.post_batch("any", request_id="mine").status_code == 409


@pytest.mark.parametrize("stage", ["validating", "in_progress", "finalizing"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_every_state_is_taken_up_again(tmp_path, stage, cancelled):
    """
    Wherever it stood, and also on its way to being cancelled.
    """
    with LocalServer(home=tmp_path) as server:
        api = Api(server)
        server.hold(stage)
        batch_id = api.create(chat_lines(20))
        api.until(batch_id, stage)
        if cancelled:
            server.hold("finalizing")
            api.cancel(batch_id)
    with LocalServer(home=tmp_path) as server:
        api = Api(server)
        api.until(batch_id, "cancelled" if cancelled else "completed")
        output, errors = api.lines(batch_id)
        assert {line["custom_id"] for line in output + errors} == {
            line["custom_id"] for line in chat_lines(20)
        }


def test_a_killed_server_loses_no_result(tmp_path):
    """
    Killed in the middle of a batch, it goes on where it was: every id once, no line torn.
    """
    lines = [chat_line(f"id-{number}", "x" * 200) for number in range(2000)]
    with Remote(tmp_path, "--latency", "0.002") as remote:
        api = Api(remote)
        # However late the kill comes, the batch has not ended.
        api.call("POST", "/_dobatch/hold", json={"stage": "in_progress", "after": 1500})
        intent = api.intent()
        api.put(intent["upload_url"], jsonl(lines))
        batch_id = api.post_batch(intent["file_id"]).json()["batch_id"]
        eventually(lambda: api.batch(batch_id)["request_counts"]["completed"] >= 100)
    (growing,) = (tmp_path / "running").glob("*.output")
    # As if the kill had hit in the middle of a write.
    with growing.open("ab") as file:
        file.write(b'{"id":"batch_req_1","custom')
    before = growing.read_bytes().count(b"\n")
    with LocalServer(home=tmp_path) as server:
        api = Api(server)
        api.until(batch_id, "completed")
        output, _ = api.lines(batch_id)
        assert Counter(line["custom_id"] for line in output) == Counter(line["custom_id"] for line in lines)
        assert sum(server.executed.values()) == 2000 - before


def test_the_command_ends_cleanly(tmp_path):
    """
    Ctrl+C: no traceback, exit status 0.
    """
    with Remote(tmp_path) as remote:
        assert Api(remote).call("GET", "/v1/models").status_code == 200
        assert remote.end(signal.SIGINT) == 0
    assert "Stopped" in remote.said


def test_one_home_has_one_server(tmp_path):
    """
    A second server on the same folder is refused with words.
    """
    with LocalServer(home=tmp_path), pytest.raises(ServerProblem, match="Another server"):
        LocalServer(home=tmp_path).start()


def test_a_taken_port_is_told(tmp_path):
    """
    The message says what to do.
    """
    with LocalServer() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ServerProblem, match="another port"):
            LocalServer(port=port).start()


def test_a_temporary_home_is_removed():
    """
    Nothing stays behind.
    """
    with LocalServer() as server:
        folder = server._running().inputs.folder.parent
        assert folder.is_dir()
    assert not folder.exists()


def test_a_server_can_be_started_again(tmp_path):
    """
    start and stop, as often as one likes, on the same address.
    """
    server = LocalServer(home=tmp_path)
    with pytest.raises(ServerProblem, match="not running"):
        server.advance(1)
    server.stop()
    server.start()
    url = server.url
    batch_id = Api(server).create(chat_lines(2))
    Api(server).until(batch_id, "completed")
    server.stop()
    server.start()
    assert server.start() is server
    assert server.url == url
    assert Api(server).batch(batch_id)["status"] == "completed"
    server.stop()
    assert "not running" in repr(server)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_new_home_is_private(tmp_path):
    """
    Others on the machine do not read the prompts.
    """
    with LocalServer(home=tmp_path / "home"):
        assert (tmp_path / "home").stat().st_mode & 0o077 == 0
