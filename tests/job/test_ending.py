"""Nobody has to look whether a job is over: a function, a URL or the desktop is told, and nothing that goes wrong there matters."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from waiting import PATIENCE, eventually

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.job import ending
from dobatch_pandas.job.process import close_home, home_here


class Receiver:
    """A URL that takes what is posted to it, as it was told to answer."""

    def __init__(self, *answers):
        self.answers, self.taken, self.came = list(answers), [], threading.Semaphore(0)
        self.pause = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.came.release()
                if status == "slow":
                    receiver.pause.wait(PATIENCE)
                    status = 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/not-for-everyone"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self, times=1):
        for _ in range(times):
            assert self.came.acquire(timeout=PATIENCE)

    def close(self):
        self.pause.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receive(monkeypatch):
    """Make receivers; pauses between the tries are short."""
    monkeypatch.setattr(ending, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ending, "_ends", ending._Ends())
    made = []

    def make(*answers):
        made.append(Receiver(*answers))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


def submit(n=2, **options):
    return pd.DataFrame({"n": range(n)}).dobatch.submit("secret question {n}", model="echo", **options)


def settled():
    """Return when everybody has been told of whatever is over."""
    home = home_here().path
    eventually(lambda: all(path != home for path, _ in ending._ends.open) and not ending._ends.under_way)


def test_a_function_hears_of_the_end_once(server, receive):
    """
    With the job in hand, so that the answers are one line away.
    """
    heard = []
    dobatch.configure(on_end=lambda job: heard.append((job.id, job.status, len(job.result()))))
    server.hold()
    job = submit()
    more = []
    job.on_end(lambda job: more.append(job.id))
    assert not heard
    server.release()
    job.wait()
    settled()
    assert (heard, more) == ([(job.id, "completed", 2)], [job.id])
    # Looked at again, attached again, retried: it was told.
    dobatch.attach(job.id).wait().retry()
    settled()
    assert len(heard) == 1


def test_who_comes_when_it_is_over_hears_at_once(server, receive):
    """
    There is no moment in which asking is too late.
    """
    job, heard = submit().wait(), threading.Event()
    job.on_end(lambda job: heard.set())
    assert heard.wait(PATIENCE)


def test_a_function_that_raises_ends_nothing_and_is_said(server, receive, caplog):
    """
    The job is over and well, its answers are there, and its picture says what went wrong.
    """

    def clumsy(job):
        raise KeyError("no such table")

    job = submit().on_end(clumsy)
    assert job.wait().result()["response"].notna().all()
    settled()
    assert "clumsy" in repr(job)
    assert "KeyError" in repr(job)
    assert "KeyError" in job._repr_html_()
    assert any("no such table" in record.message for record in caplog.records)


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Stranger:
    def __init__(self, error):
        self.error = error

    def __call__(self, job):
        raise self.error

    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("error", "said"), [(Rude(), "Rude"), (SystemExit(3), "SystemExit: 3")], ids=["no words", "exit"]
)
def test_whatever_is_raised_is_said_in_words_that_can_be_shown(server, receive, error, said):
    """
    Also where neither the function nor its exception can say what it is.
    """
    job = submit().on_end(Stranger(error)).wait()
    eventually(lambda: job.snapshot().notes)
    assert job.snapshot().notes == (f"on_end could not tell Stranger that the job is over: {said}",)
    assert ending._words(ValueError("half \ud83d")) == "ValueError: half ?"


def test_a_url_gets_numbers_that_are_signed_and_no_secret(server, receive):
    """
    The receiver can check who speaks, and learns nothing of what was asked or answered.
    """
    receiver = receive()
    dobatch.configure(
        on_end=receiver.url, on_end_key="whsec_" + base64.b64encode(b"a key of theirs").decode()
    )
    job = submit().wait()
    receiver.wait()
    settled()
    [(headers, body)] = receiver.taken
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"a key of theirs", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 3600
    told = json.loads(body)
    assert told["type"] == "job.completed"
    assert (told["data"]["id"], told["data"]["completed"], told["data"]["failed"]) == (job.id, 2, 0)
    assert b"secret question" not in body
    assert server.token.encode() not in body + repr(headers).encode()
    assert "authorization" not in headers
    assert receiver.url not in repr(dobatch.config.settings())


def test_a_url_that_is_down_is_asked_again_under_the_same_id(server, receive):
    """
    What came twice can be told by its id; what is refused for good is not tried again.
    """
    receiver = receive(503, 429, 500)
    dobatch.configure(on_end=receiver.url)
    job = submit().wait()
    receiver.wait(4)
    settled()
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1
    assert len(receiver.taken) == 4
    assert not job.snapshot().notes
    assert "webhook-signature" not in receiver.taken[0][0]
    for final in (404, 302):
        refuses = receive(final)
        job = submit(n=3, into=f"r{final}").on_end(refuses.url).wait()
        refuses.wait()
        settled()
        assert len(refuses.taken) == 1
        [note] = [note for note in job.snapshot().notes if str(final) in note]
        assert "not-for-everyone" not in note
        assert "127.0.0.1" in note


def test_a_url_that_is_slow_or_gone_delays_nothing(server, receive, monkeypatch):
    """
    The job ends when it ends, and so do others.
    """
    monkeypatch.setattr(ending, "TRIES", 2)
    slow = receive("slow")
    with socket.socket() as nobody:  # a port that is taken, and answers nothing
        nobody.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        jobs = [submit(n=n, into=f"r{n}").on_end(slow.url).on_end(gone) for n in (1, 2, 3)]
        for job in jobs:
            assert job.wait(PATIENCE).status == "completed"
        slow.wait(1)
        slow.pause.set()
        settled()
    assert all("no answer" in job.snapshot().notes[0] for job in jobs)


SCRIPT = """
import os, sys, time
import dobatch_pandas as dobatch
from dobatch_pandas.job import ending
ending.GRACE = 120.0  # a busy machine may need more than the five seconds
job = dobatch.attach(sys.argv[1])
print("attached", flush=True)
job.wait()
"""


def test_a_process_that_only_attached_tells_it_too(serve, receive, home, tmp_path):
    """
    Another kernel moves the job, this one looks on; whoever had asked to be told is told, by each of them under one id.
    """
    server, receiver = serve(), receive()
    server.hold()
    job = submit()
    job.sent()
    env = {
        "DOBATCH_HOME": str(home), "DOBATCH_BASE_URL": server.url, "DIGITALOCEAN_TOKEN": server.token,
        "DOBATCH_ON_END": receiver.url,
    }  # fmt: skip
    import os

    command = [sys.executable, "-c", SCRIPT, job.id]
    with subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout.readline() == "attached\n"
        dobatch.configure(on_end=receiver.url)
        server.release()
        job.wait()
        receiver.wait(2)
        assert watching.wait(PATIENCE) == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1


def test_a_script_that_ends_at_once_has_told_it(serve, receive, home):
    """
    The last line waits for the job; what is to be told leaves before the process does.
    """
    import os

    server, receiver = serve(), receive()
    script = """
    import pandas as pd, dobatch_pandas as dobatch
    from dobatch_pandas.job import ending
    ending.GRACE = 120.0
    pd.DataFrame({"n": [1]}).dobatch.submit("{n}", model="echo", display=False).wait()
    """
    env = {
        "DOBATCH_HOME": str(home), "DOBATCH_BASE_URL": server.url, "DIGITALOCEAN_TOKEN": server.token,
        "DOBATCH_ON_END": receiver.url,
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, **env}, check=True, timeout=240
    )
    assert len(receiver.taken) == 1


def test_a_job_that_was_over_before_is_not_told(server, receive):
    """
    To look at yesterday's jobs sends nothing to anybody.
    """
    job, heard = submit().wait(), []
    close_home(job._home.path)
    ending._ends = ending._Ends()
    dobatch.configure(on_end=lambda job: heard.append(job.id))
    dobatch.attach(job.id).result()
    settled()
    assert not heard


def test_the_desktop_is_told_by_its_own_command(server, receive, tmp_path, monkeypatch):
    """
    With ``notify-send``; where that is missing, or fails, it is said.
    """
    told = tmp_path / "told"
    command = tmp_path / "notify-send"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    job = submit().on_end("desktop").wait()
    settled()
    assert told.read_text().splitlines() == [
        "--app-name=dobatch", "--", f"Job {job.id}: Done", "2 answered, 0 failed.",
    ]  # fmt: skip
    command.unlink()
    job.on_end("desktop")
    settled()
    assert "notify-send" in job.snapshot().notes[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (3, "takes a function, a URL"),
        ("destkop", "no http address"),
        ("ftp://x.example/a", "no http address"),
        ("http://x.example/a", "plain http"),
        ("https://user:pw@x.example/a", "a user in it"),
        ("https://x.example/a b", "no http address"),
        ("https://[x/a", "no http address"),
    ],
)
def test_what_cannot_hear_is_refused_at_once(wrong, words, server, receive):
    """
    Not when it is too late, and without quoting what may be secret.
    """
    with pytest.raises(ConfigurationError, match=words) as caught:
        dobatch.configure(on_end=wrong)
    assert "pw" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=words):
        submit().on_end(wrong)
