"""A service recorded, and played again without it."""

from __future__ import annotations

import signal
import stat
import threading

import pandas as pd
import pytest
import requests
from server.driver import CHAT, Api, chat_lines
from server.remote import Remote

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import LocalServer
from dobatch_pandas.server.tape import TapeServer

TOKEN = "a-very-secret-token"
TURNS = [{"role": "user", "content": "hello"}]


def _session(api):
    """What a client does, as what it sees."""
    batch_id = api.create(chat_lines(5), request_id="mine")
    batch = api.until(batch_id, "completed")
    output, errors = api.lines(batch_id)
    listed = api.call("GET", "/v1/batches", params={"limit": 3}).json()["data"]
    said = api.call("POST", CHAT, json={"model": "m", "messages": TURNS}).json()
    missing = api.call("GET", "/v1/batches/nothing")
    return batch_id, batch["request_counts"], output, errors, len(listed), said, missing.status_code


def test_a_recording_answers_as_the_service_did(tmp_path):
    """
    From the file to the results, errors included; the service is gone meanwhile.
    """
    with (
        LocalServer(token=TOKEN, fail_share=0.4, fail_kinds=("server_error",)) as service,
        TapeServer(tmp_path / "tape", service.url) as tape,
    ):
        seen = _session(Api(tape, TOKEN))
        assert "/_tape/" in Api(tape, TOKEN).results(seen[0]).json()["error_file_url"]
    with TapeServer(tmp_path / "tape") as tape:
        assert _session(Api(tape)) == seen


def test_a_recording_keeps_no_secret(tmp_path):
    """
    Neither the token, nor a signature, nor a prompt; and it is closed to others.
    """
    with LocalServer(token=TOKEN) as service, TapeServer(tmp_path / "tape", service.url) as tape:
        api = Api(tape, TOKEN)
        service.faults.add("get_batch", status=401, body=f"bad token {TOKEN}")
        assert api.call("GET", "/v1/batches/x").text == "bad token ***"
        _session(api)
    files = list((tmp_path / "tape").iterdir())
    kept = b"".join(path.read_bytes() for path in files)
    for secret in (TOKEN.encode(), b"signature", b"authorization"):
        assert secret not in kept.lower()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_files_are_known_by_their_content(tmp_path):
    """
    Two uploads in the other order, with other keys, still find their own results.
    """
    lines = [chat_lines(3), [{**line, "custom_id": f"b-{n}"} for n, line in enumerate(chat_lines(4))]]

    def ask(api, one, key):
        batch_id = api.create(one, request_id=key)
        batch = api.until(batch_id, "completed")
        assert batch["request_id"] == key
        return sorted(line["custom_id"] for line in api.lines(batch_id)[0])

    with LocalServer(token=TOKEN) as service, TapeServer(tmp_path / "tape", service.url) as tape:
        for number, one in enumerate(lines):
            ask(Api(tape, TOKEN), one, f"key-{number}")
    with TapeServer(tmp_path / "tape") as tape:
        for one in lines[::-1]:
            assert ask(Api(tape), one, "another") == sorted(line["custom_id"] for line in one)


def test_a_frame_is_answered_from_a_recording(tmp_path, home):
    """
    The client of this package as well, in a new home, as in a test that needs no network.
    """
    df = pd.DataFrame({"t": ["a", "b", "c"]})

    def ask(url, token, name):
        dobatch.configure(base_url=url, token=token, home=home / name)
        job = df.dobatch.submit("Say {t}", model="m", into="said", display=False)
        return list(df.dobatch.join(job)["said"])

    with (
        LocalServer(token=TOKEN, rate_limit=None) as service,
        TapeServer(tmp_path / "tape", service.url) as tape,
    ):
        assert ask(tape.url, TOKEN, "one") == ["Say a", "Say b", "Say c"]
    with TapeServer(tmp_path / "tape") as tape:
        assert ask(tape.url, tape.token, "two") == ["Say a", "Say b", "Say c"]


def test_what_was_not_recorded_is_told(tmp_path):
    """
    404 with the call; and 401 for another token.
    """
    with LocalServer(token=TOKEN) as service, TapeServer(tmp_path / "tape", service.url) as tape:
        Api(tape, TOKEN).call("GET", "/v1/batches")
    with TapeServer(tmp_path / "tape") as tape:
        assert Api(tape).call("GET", "/v1/batches").status_code == 200
        missing = Api(tape).call("POST", CHAT, json={"model": "m", "messages": TURNS})
        assert (missing.status_code, "recording" in missing.json()["message"]) == (404, True)
        assert Api(tape, "other").call("GET", "/v1/batches").status_code == 401
        evil = requests.get(f"{tape.url}/v1/batches", headers={"Host": "evil.example"}, timeout=120)
        assert evil.status_code == 403


def test_a_service_that_is_not_there_is_told(tmp_path):
    """
    502 to the client, and nothing kept of it.
    """
    with TapeServer(tmp_path / "tape", "http://127.0.0.1:9") as tape:
        assert Api(tape, TOKEN).call("GET", "/v1/batches").status_code == 502
    with pytest.raises(ServerProblem, match="no recording"):
        TapeServer(tmp_path / "tape")


def test_a_recording_is_not_written_over(tmp_path):
    """
    Another folder, or play it.
    """
    (tmp_path / "calls.jsonl").write_text("")
    with pytest.raises(ServerProblem, match="already"):
        TapeServer(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(ServerProblem, match="no address"):
        TapeServer(tmp_path / "x", "ftp://x")


def test_the_command_plays_a_recording(tmp_path):
    """
    `dobatch serve --replay` prints the two lines as ever.
    """
    with LocalServer(token=TOKEN) as service, TapeServer(tmp_path / "tape", service.url) as tape:
        seen = _session(Api(tape, TOKEN))
    with Remote(tmp_path, "--replay", str(tmp_path / "tape")) as remote:
        assert _session(Api(remote)) == seen
        assert remote.end(signal.SIGTERM) == 0


STREAMED = [b'data: {"one": 1}\n\n', b'data: {"token": "' + TOKEN.encode() + b'"}\n\n', b"data: [DONE]\n\n"]


def _streaming(first_read, torn=False):
    """A service that sends the rest of a stream once the first of it has been read."""

    def answer(call):
        handler = call.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in STREAMED:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
            first_read.wait(120)
            if torn:
                return
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def _stream(api):
    body = {"model": "m", "messages": TURNS, "stream": True}
    return requests.post(api.url + CHAT, json=body, headers=api.headers, stream=True, timeout=120)


def test_a_stream_is_passed_on_while_it_is_recorded(tmp_path, stub):
    """
    The first piece is read before the last is made; and it is played as it was, without the token.
    """
    first_read = threading.Event()
    service = stub(_streaming(first_read))
    with (
        TapeServer(tmp_path / "tape", service.url.removesuffix("/v1")) as tape,
        _stream(Api(tape, TOKEN)) as given,
    ):
        pieces = given.iter_content(None)
        assert next(pieces) == STREAMED[0]
        first_read.set()
        assert b"".join(pieces) == b"".join(STREAMED[1:])
    assert TOKEN not in (tmp_path / "tape" / "calls.jsonl").read_text()
    with TapeServer(tmp_path / "tape") as tape, _stream(Api(tape)) as given:
        assert given.headers["content-type"] == "text/event-stream"
        assert given.content == b"".join(STREAMED).replace(TOKEN.encode(), b"***")


def test_half_a_stream_is_not_recorded(tmp_path, stub):
    """
    The client sees that it broke off, and the recording holds nothing that would pass for the whole.
    """
    first_read = threading.Event()
    first_read.set()
    service = stub(_streaming(first_read, torn=True))
    with (
        TapeServer(tmp_path / "tape", service.url.removesuffix("/v1")) as tape,
        _stream(Api(tape, TOKEN)) as given,
        pytest.raises(requests.exceptions.RequestException),
    ):
        given.content  # noqa: B018  reading it is what fails
    assert not (tmp_path / "tape" / "calls.jsonl").exists()


def test_a_download_that_breaks_off_is_not_recorded(tmp_path):
    """
    Nor is half a file; the next try is, whole and with its length.
    """
    with LocalServer(token=TOKEN) as service, TapeServer(tmp_path / "tape", service.url) as tape:
        api = Api(tape, TOKEN)
        batch_id = api.create(chat_lines(50))
        api.until(batch_id, "completed")
        url = api.results(batch_id).json()["output_file_url"]
        service.faults.add("download", cut=500)
        with pytest.raises(requests.exceptions.RequestException):
            requests.get(url, timeout=120)
        assert not list((tmp_path / "tape").glob("*.bin"))
        given = requests.get(url, timeout=120)
        (kept,) = (tmp_path / "tape").glob("*.bin")
        assert kept.read_bytes() == given.content
        assert int(given.headers["content-length"]) == len(given.content)
