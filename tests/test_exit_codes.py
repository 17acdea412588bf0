"""The exit status of every command in every state: what a scheduler lives by, held by a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from waiting import eventually

import dobatch_pandas as dobatch
from dobatch_pandas import exit_codes
from dobatch_pandas.cli import _parser, main
from dobatch_pandas.exit_codes import Exit
from dobatch_pandas.job.process import close_home

PRICED = {"prices": {"echo": dobatch.Prices(input=1.0, output=1.0)}}


class States:
    """Jobs in each state that a job can be in, and the ways in which a service can be missing."""

    def __init__(self, server, home, folder):
        self.server, self.home, self.folder = server, home, folder
        self.table = folder / "in.csv"
        pd.DataFrame({"n": range(3)}).to_csv(self.table, index=False)
        self.out = folder / "out.csv"
        self.more = []

    def asked(self, *more):
        return [
            "run",
            str(self.table),
            "--prompt",
            "{n}",
            "--model",
            "echo",
            "--out",
            str(self.out),
            *self.more,
            *more,
        ]

    def submit(self, **options):
        frame = pd.read_csv(self.table).astype("Int64")
        return frame.dobatch.submit("{n}", model="echo", **options)

    def done(self):
        return self.submit().wait().id

    def running(self):
        self.server.hold()
        job = self.submit().sent()
        return job.id

    def cancelled(self):
        self.server.hold(after=1)
        job = self.submit().sent()
        job.cancel().wait()
        return job.id

    def stubborn(self):
        """One that runs, and that the service does not cancel now."""
        self.server.faults.add("cancel_batch", status=503, times=None)
        return self.running()

    def failed(self):
        self.server.faults.add("create_batch", status=400, times=None)
        job = self.submit()
        with pytest.raises(dobatch.errors.JobFailed):
            job.wait()
        self.server.faults.clear()
        self.server.hold()
        return job.id

    def held(self):
        dobatch.configure(**PRICED)
        self.server.hold()
        # Small enough to begin, and then less is allowed, before anything is sent.
        self.more = ["--param", "max_tokens=5"]
        self.server.faults.add("create_file", status=503, times=None)
        job = self.submit(max_cost=1.0, max_tokens=5)
        job.allow(1e-9)
        self.server.faults.clear()
        with pytest.raises(dobatch.errors.BudgetExceeded):
            job.wait()
        return job.id

    def forgotten(self):
        job = self.submit().wait()
        job.forget()
        return job.id

    def unknown(self):
        return "261126-zzzzzz"

    def elsewhere(self):
        """As a later process finds the job."""
        close_home(self.home)

    def no_service(self):
        self.elsewhere()
        # The same address, as far as the job knows, and nobody there.
        self.server.stop()

    def no_token(self):
        self.elsewhere()
        dobatch.configure(token=None)

    def wrong_token(self):
        self.elsewhere()
        for operation in ("list_batches", "get_batch", "create_batch", "cancel_batch"):
            self.server.faults.add(operation, status=401, times=None)


@pytest.fixture
def states(server, home, tmp_path):
    return States(server, home, tmp_path)


# state, and what is missing: run --no-wait, wait, wait --timeout 0, watch, cancel --no-wait, retry --no-wait, forget
TABLE = {
    ("done", None): "DONE DONE DONE DONE DONE DONE DONE",
    ("running", None): "NOT_YET NOT_YET NOT_YET NOT_YET - NOT_YET NOT_YET",
    ("stubborn", None): "- - - - NOT_YET - -",
    ("cancelled", None): "CANCELLED CANCELLED CANCELLED CANCELLED DONE NOT_YET DONE",
    ("failed", None): "FAILED FAILED FAILED FAILED DONE NOT_YET DONE",
    ("held", None): "HELD HELD HELD HELD DONE NOT_YET NOT_YET",
    ("unknown", None): "- UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN",
    ("forgotten", None): "- UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN",
    ("done", "no_service"): "DONE DONE DONE DONE DONE NO_SERVICE DONE",
    ("running", "no_service"): "NO_SERVICE NO_SERVICE NO_SERVICE NO_SERVICE NO_SERVICE NOT_YET DONE",
    ("done", "no_token"): "NO_TOKEN DONE DONE DONE DONE NO_TOKEN DONE",
    ("running", "no_token"): "NO_TOKEN NO_TOKEN NO_TOKEN NO_TOKEN NO_TOKEN NOT_YET NO_TOKEN",
    ("running", "wrong_token"): "NO_TOKEN NO_TOKEN NO_TOKEN NO_TOKEN NO_TOKEN NOT_YET DONE",
    ("unknown", "no_token"): "- UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN UNKNOWN",
}
COMMANDS = {
    "run": None,
    "wait": ["wait", "ID", "--timeout", "0.3"],
    "wait now": ["wait", "ID", "--timeout", "0"],
    "watch": ["watch", "ID", "--timeout", "0.3"],
    "cancel": ["cancel", "ID", "--no-wait"],
    "retry": ["retry", "ID", "--no-wait"],
    "forget": ["forget", "ID"],
}
CASES = [
    pytest.param(state, missing, command, expected, id=f"{command}-{state}-{missing or 'all there'}")
    for (state, missing), row in TABLE.items()
    for command, expected in zip(COMMANDS, row.split(), strict=True)
    if expected != "-"
]


@pytest.mark.parametrize(("state", "missing", "command", "expected"), CASES)
def test_each_command_says_by_its_status_how_it_stands(state, missing, command, expected, states, capsys):
    """
    No scheduler has to read what was printed; and the JSON says the same in words.
    """
    job_id = getattr(states, state)()
    if missing is not None:
        getattr(states, missing)()
    capsys.readouterr()
    words = COMMANDS[command]
    typed = states.asked("--no-wait") if words is None else [job_id if w == "ID" else w for w in words]
    code = main([*typed, "--json"])
    said = capsys.readouterr()
    assert Exit(code).name == expected, said.err
    told = json.loads(said.out)
    assert (told["exit"], told["meaning"], told["command"]) == (code, expected, typed[0])
    assert ("error" in told) or expected in ("DONE", "NOT_YET", "FAILED", "HELD", "CANCELLED", "EXPIRED")
    assert "Traceback" not in said.err


def _said(capsys):
    return json.loads(capsys.readouterr().out)


def test_run_without_waiting_goes_on_where_the_last_one_ended(states, capsys):
    """
    The same command, again and again, is one job: 75 until it is over, then 0 and the file. Nothing is asked twice.
    """
    states.server.hold()
    assert main(states.asked("--no-wait", "--json")) == Exit.NOT_YET
    first = _said(capsys)
    assert first["status"] in ("queued", "running")  # the service has it, and may not have looked at it yet
    assert (first["requests"], first["over"]) == (3, False)
    assert not states.out.exists()
    close_home(states.home)
    assert main(states.asked("--no-wait", "--json")) == Exit.NOT_YET
    assert _said(capsys)["id"] == first["id"]
    close_home(states.home)
    states.server.release()
    # The service has ended it; this one process brings the answers in.
    eventually(lambda: states.server.batches[0].status == "completed")
    assert main(states.asked("--no-wait", "--json")) == Exit.DONE
    last = _said(capsys)
    assert (last["id"], last["completed"], last["out"]) == (first["id"], 3, str(states.out))
    assert pd.read_csv(states.out)["response"].tolist() == [0, 1, 2]
    assert set(states.server.executed.values()) == {1}


def test_a_part_of_the_answers_is_written_where_the_rest_is_held(states, capsys):
    """
    What is paid is not hidden by what is not: the file has it, `pending` on the rest, and the status says that it is held.
    """
    dobatch.configure(**PRICED)
    job = states.submit(max_cost=1.0, max_tokens=5).wait()
    assert job.status == "completed"
    states.more = ["--param", "max_tokens=5"]
    assert main(states.asked("--no-wait")) == Exit.DONE
    assert pd.read_csv(states.out)["response"].notna().all()


def test_more_than_max_cost_is_held_before_anything_is_sent(states, capsys):
    """
    The gate of the command line is the gate of the notebook.
    """
    dobatch.configure(**PRICED)
    assert main(states.asked("--max-cost", "0.0000001", "--param", "max_tokens=5", "--json")) == Exit.HELD
    assert "max_cost" in _said(capsys)["error"]
    assert not states.server.executed


def test_a_held_job_goes_on_as_far_as_it_is_allowed(states, capsys):
    """
    ``dobatch allow`` is the cure that a held job names, from a terminal: too little holds it, enough ends it.
    """
    job_id = states.held()
    close_home(states.home)
    assert main(["allow", job_id, "0.0000001"]) == Exit.HELD
    assert main(["allow", job_id, "-1"]) != 0
    assert "takes US dollars" in capsys.readouterr().err
    close_home(states.home)
    states.server.release()
    assert main(["allow", job_id, "5"]) == Exit.DONE
    assert dobatch.attach(job_id).errors().empty


def test_a_job_in_which_no_row_was_answered_has_failed(serve, tmp_path, home, capsys):
    """
    A batch that the service calls completed, and in which every request failed, is no success.
    """
    server = serve(fail_share=1.0, fail_kinds=("bad_request",))
    states = States(server, home, tmp_path)
    assert main(states.asked("--json")) == Exit.FAILED
    told = _said(capsys)
    assert (told["status"], told["completed"], told["errors"]) == ("completed", 0, {"http_400": 3})
    assert set(pd.read_csv(states.out)["response_error"]) == {"http_400"}


def test_expired_is_told_from_done(states, capsys):
    """
    Some rows are answered, others were not run in time: the file is written, and the status asks for a retry.
    """
    states.server.hold(after=1)
    job = states.submit().sent()
    eventually(lambda: states.server.executed)
    states.server.advance(25 * 3600)
    assert main(["wait", job.id, "--json"]) == Exit.EXPIRED
    told = _said(capsys)
    assert (told["completed"], told["errors"]) == (1, {"expired": 2})
    assert main(states.asked("--no-wait", "--json")) == Exit.EXPIRED
    assert pd.read_csv(states.out)["response_error"].tolist().count("expired") == 2


def test_every_command_speaks_json(states, server, capsys, tmp_path):
    """
    One line on stdout that a program can read, whatever the command; what is for people is on stderr.
    """
    assert main(["jobs", "--json"]) == 0
    assert _said(capsys)["jobs"] == []
    job_id = states.done()
    assert main(["jobs", "--json"]) == 0
    [listed] = _said(capsys)["jobs"]
    assert (listed["id"], listed["status"], listed["rows"], listed["cost"]) == (job_id, "completed", 3, None)
    assert main(states.asked("--estimate", "--json")) == 0
    assert _said(capsys)["estimate"]["requests"] == 3
    assert main(["demo", "--rows", "5", "--model", "echo", "--json"]) == 0
    assert _said(capsys) == {"command": "demo", "exit": 0, "meaning": "DONE", "rows": 5, "failed": 0}
    answers = tmp_path / "answers.csv"
    pd.DataFrame({"said": ["a", "b"], "gold": ["a", "a"]}).to_csv(answers, index=False)
    scored = ["eval", str(answers), "--predicted", "said", "--actual", "gold", "--json"]
    assert main(scored) == 0
    assert _said(capsys)["metrics"]["accuracy"] == 0.5
    assert main([*scored, "--require", "accuracy=0.9"]) == Exit.ERROR
    assert "accuracy" in _said(capsys)["error"]
    assert main(["fetch-model", "no-such-model", "--json"]) == Exit.ERROR
    assert "no-such-model" in _said(capsys)["error"]


def test_serve_tells_its_address_as_soon_as_it_is_up():
    """
    Whoever starts it for a test reads one line, and has where and how.
    """
    command = [sys.executable, "-m", "dobatch_pandas.cli", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        try:
            told = json.loads(serving.stdout.readline())
            with dobatch.Client(told["token"], told["url"]) as client:
                assert client.list_batches().batches == ()
        finally:
            serving.terminate()
    assert told["command"] == "serve"


def test_every_command_takes_json():
    """
    No command is left out, also none that is added later.
    """
    [commands] = [a for a in _parser()._actions if a.dest == "==SUPPRESS=="]
    for name, command in commands.choices.items():
        assert any("--json" in action.option_strings for action in command._actions), name


def test_stopping_has_a_status_of_its_own(states, capsys, monkeypatch):
    """
    Ctrl+C is no error of the job, and the message says how to come back.
    """
    job_id = states.running()

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("dobatch_pandas.job.job.Job._wait_until", stop)
    assert main(["wait", job_id, "--json"]) == Exit.STOPPED
    said = capsys.readouterr()
    assert json.loads(said.out)["meaning"] == "STOPPED"
    assert f"`dobatch watch {job_id}`" in said.err


def test_the_page_has_every_status():
    """
    What the code knows, the documentation has, with the same numbers.
    """
    table = {
        name: int(number)
        for number, name in re.findall(r"^(\d+) +([A-Z_]+) ", exit_codes.__doc__, re.MULTILINE)
    }
    assert table == {code.name: code.value for code in Exit}
    page = (Path(__file__).parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert {n: int(c) for c, n in re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", page, re.MULTILINE)} == table
