"""A job in a terminal and in a log."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import waiting
from display.fakes import FAILURES, FakeJob, snapshot

import dobatch_pandas as dobatch
from dobatch_pandas.display import front_end, progress, show
from dobatch_pandas.display.bar import TqdmBar


class Log(io.StringIO):
    """A stream that tells when something has been written, as a pipe or as a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal, self.written = terminal, threading.Condition()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, words: str) -> int:
        with self.written:
            count = super().write(words)
            self.written.notify_all()
        return count

    def wait_for(self, words: str) -> None:
        with self.written:
            assert self.written.wait_for(lambda: words in self.getvalue(), waiting.PATIENCE), self.getvalue()


def test_a_log_gets_a_line_for_each_state_and_tenth() -> None:
    """
    Where nobody watches, progress is a few lines: one a state, one a tenth, one at the end; ASCII, no spam.
    """
    job, log = FakeJob(snapshot(state="queued", completed=0)), Log()
    with TqdmBar(job, log):
        log.wait_for("queued: the service has all 100 requests")
        for completed in (1, 2, 3, 11):
            job.set(state="running", completed=completed)
        log.wait_for("11 of 100")
        for completed in (12, 13, 35):
            job.set(completed=completed)
        log.wait_for("35 of 100")
        job.set(state="finalizing", completed=100)
        log.wait_for("writing its result files")
        job.set(state="completed", failed=4, completed=96, errors=FAILURES)
    lines = log.getvalue().splitlines()
    assert len(lines) <= 6
    assert lines[-1].startswith("job 261123-abcdef: done, with failures: 96 answered, 4 failed;")
    assert log.getvalue().isascii()


def test_a_terminal_gets_one_bar_with_the_same_numbers() -> None:
    """
    On a terminal it is one tqdm bar that is redrawn in place, and one line that stays.
    """
    job, log = FakeJob(), Log(terminal=True)
    with TqdmBar(job, log):
        log.wait_for("40/100")
        job.set(completed=80, eta=120.0)
        log.wait_for("80/100")
        log.wait_for("about 2 min left")
        job.set(state="completed", completed=100)
    assert log.getvalue().count("\n") == 1
    drawn = [line for line in log.getvalue().split("\r") if line.startswith("Running")]
    assert max(map(len, drawn)) < 80
    assert all(line.index("| ") - line.index("|") > 10 for line in drawn), "the bar keeps its place"
    assert log.getvalue().endswith("chat completions -> sentiment\n")


@pytest.mark.parametrize("columns", [12, 25, 39, 40, 200])
def test_a_bar_stays_on_its_line_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """
    In a small pane of a terminal, too, it is one line that is redrawn, and not a line after each other.
    """
    monkeypatch.setattr("dobatch_pandas.display.bar.width_of", lambda _: columns)
    job, log = FakeJob(), Log(terminal=True)
    with TqdmBar(job, log):
        job.set(completed=80, eta=120.0)
        job.set(state="completed", completed=100)
    drawn = [line for line in log.getvalue().split("\r") if line.startswith("Running")]
    assert drawn
    assert max(map(len, drawn)) < columns


class OnlyWrites:
    """A stream as a service or a logger puts it in the place of standard error."""

    def __init__(self) -> None:
        self.words = ""

    def write(self, words: str) -> None:
        self.words += words


@pytest.mark.parametrize("display", [None, "bar"])
@pytest.mark.parametrize("kind", ["none", "closed", "breaks", "only writes"])
def test_a_wait_needs_no_stream(monkeypatch: pytest.MonkeyPatch, kind: str, display: Any) -> None:
    """
    In a service, or a Python without a console, waiting is just waiting: progress has no one to read it.
    """
    stream: Any = {"none": lambda: None, "only writes": OnlyWrites}.get(kind, io.StringIO)()
    if kind == "closed":
        stream.close()
    job = FakeJob()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(job, display):
        if kind == "breaks":
            stream.close()
        job.set(completed=90)
        job.set(state="completed", completed=100)
    assert not job.listeners
    if kind == "only writes":
        assert "done: 100 answered" in stream.words


def test_a_job_deleted_while_it_is_drawn_ends_no_wait() -> None:
    """
    Another process has deleted the job: the bar just stops, and whoever waits is told.
    """
    job, log = FakeJob(), Log()
    with TqdmBar(job, log):
        job.delete()
    assert "40 of 100" in log.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_odd_names_do_not_end_a_wait(encoding: str) -> None:
    """
    A model whose name the log's encoding lacks is written with escapes instead of failing the wait.
    """
    raw = io.BytesIO()
    log = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    job = FakeJob(snapshot(model="模型 → €", problem="naïve ☃"))
    with TqdmBar(job, log):
        job.set(state="failed")
    log.flush()
    assert b"failed" in raw.getvalue()


def test_an_error_in_the_block_passes_through() -> None:
    """
    What ends the wait, Ctrl+C say, is not swallowed; the last line says how the job stands, which goes on.
    """
    job, log = FakeJob(), Log()
    with pytest.raises(KeyboardInterrupt), TqdmBar(job, log):
        raise KeyboardInterrupt
    assert log.getvalue().splitlines()[-1].startswith("job 261123-abcdef: running: 40 of 100")
    assert not job.listeners


def test_a_bar_that_is_not_there_costs_nothing() -> None:
    """
    Silence subscribes to nothing, and a job that is over is not drawn.
    """
    job = FakeJob()
    with progress(job, False):
        assert not job.listeners
    over = FakeJob(snapshot(state="completed", completed=100))
    with progress(over, "bar"):
        assert not over.listeners


def test_it_stops_looking_when_it_is_left() -> None:
    """
    After the block no thread is left that looks at the job.
    """
    job = FakeJob()
    with TqdmBar(job, Log()):
        pass
    looks = job.looks
    job.set(completed=90)
    assert job.looks == looks
    assert not [t for t in threading.enumerate() if job.id in t.name]


@pytest.mark.parametrize(
    ("asked", "set_to", "chosen"),
    [
        (None, None, "bar"),
        (True, None, "bar"),
        (False, None, "none"),
        ("widget", None, "widget"),
        ("bar", False, "bar"),
        (None, False, "none"),
        (None, "widget", "widget"),
        (True, False, "bar"),
        (None, True, "bar"),
    ],
)
def test_what_draws_is_chosen_by_word_then_setting_then_place(
    home: Any, asked: Any, set_to: Any, chosen: str
) -> None:
    """
    An argument wins over ``configure(display=...)``, which wins over where the code runs.
    """
    dobatch.configure(display=set_to)
    assert front_end(asked) == chosen


def test_a_job_shown_without_a_notebook_is_words(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Outside of a notebook a job is its ``repr``.
    """
    show(FakeJob(), "bar")
    assert "FakeJob" in capsys.readouterr().out


SCRIPT = """
import os, pandas as pd, dobatch_pandas as dobatch
frame = pd.DataFrame({"word": ["a", "b", "c"]})
job = frame.dobatch.submit("{word}", model="m")
frame.dobatch.update(job)
print(list(frame["response"]))
"""


def test_a_script_tells_its_progress_and_prints_nothing_else(
    serve: Callable[..., Any], tmp_path: Any
) -> None:
    """
    In CI the progress goes to standard error as plain lines, in whatever encoding; standard output is the script's own.
    """
    server = serve()
    environment = {
        **os.environ,
        "DOBATCH_BASE_URL": server.url, "DIGITALOCEAN_TOKEN": server.token, "DOBATCH_HOME": str(tmp_path / "own"),
        "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['a', 'b', 'c']\n"
    lines = done.stderr.strip().split("\n")
    assert lines[-1].endswith("done: 3 answered, 0 failed; m - chat completions -> response")
    assert len(lines) < 20  # a line a state and a tenth, of which a quick machine shows few


def test_wait_draws_what_the_job_does(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``job.wait()`` shows progress by itself, with the numbers of the snapshot.
    """
    frame = pd.DataFrame({"word": ["a", "b"]})
    server.hold()
    job = frame.dobatch.submit("{word}", model="m")
    release = threading.Timer(0.6, server.release)
    release.start()
    job.wait(waiting.PATIENCE, display="bar")
    release.join()
    assert f"job {job.id}: done: 2 answered, 0 failed" in capsys.readouterr().err
