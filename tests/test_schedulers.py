"""The snippets for cron, GitHub Actions, Airflow and Prefect do what their pages say: they are taken from there and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
from waiting import PATIENCE, eventually

import dobatch_pandas as dobatch

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the snippets are for a Unix shell")


@pytest.fixture
def place(server, home, tmp_path):
    """A folder with a table, a shell that finds the command, and a service that answers when it is told to."""
    dobatch.datasets.load_reviews(3).to_csv(tmp_path / "reviews.csv", index=False)
    server.hold()
    return Place(tmp_path, server, home)


class Place:
    def __init__(self, folder, server, home):
        self.folder, self.server = folder, server
        self.answers = folder / "answers.csv"
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DOBATCH_HOME": str(home),
            "DOBATCH_BASE_URL": server.url,
            "DIGITALOCEAN_TOKEN": server.token,
            "MODEL": "echo",
        }

    def shell(self, script, **env):
        command = ["bash", "-c", script]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def let_it_end(self):
        self.server.release()
        eventually(lambda: self.server.batches[0].status == "completed")

    def answered(self):
        frame = pd.read_csv(self.answers)
        assert frame["sentiment"].str.startswith("Sentiment of: ").all()
        assert len(frame) == 3
        # Whatever came and went meanwhile, each row was asked once.
        assert set(self.server.executed.values()) == {1}
        return True


def _block(page, language):
    [block] = re.findall(
        rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S
    )
    return block


def test_the_cron_script_comes_back_until_it_is_done(place):
    """
    Three runs: two that only look, and one that writes the file.
    """
    script = place.folder / "nightly.sh"
    script.write_text(_block("cron.md", "bash"))
    for _ in range(2):
        done = place.shell("sh ./nightly.sh")
        assert (done.returncode, done.stdout.strip()) == (0, "not yet: cron comes again"), done.stderr
    place.let_it_end()
    done = place.shell("sh ./nightly.sh")
    assert done.stdout.strip() == "answers.csv is ready", done.stderr
    assert place.answered()


def test_the_cron_script_sends_again_what_was_not_run(place):
    """
    A batch whose day ended first costs a second one for the rest, and nobody has to get up.
    """
    script = place.folder / "nightly.sh"
    script.write_text(_block("cron.md", "bash"))
    assert "not yet" in place.shell("sh ./nightly.sh").stdout
    place.server.advance(25 * 3600)
    place.server.release()
    eventually(lambda: place.server.batches[0].status == "expired")
    assert "sending them again" in place.shell("sh ./nightly.sh").stdout
    eventually(lambda: place.shell("sh ./nightly.sh").stdout.startswith("answers.csv is ready"))
    assert place.answered()


def test_the_cron_script_says_that_somebody_is_needed(place):
    """
    What no waiting mends does not look like patience.
    """
    (place.folder / "nightly.sh").write_text(_block("cron.md", "bash"))
    done = place.shell("sh ./nightly.sh", DIGITALOCEAN_TOKEN="")
    assert (done.returncode, done.stdout.strip()) == (77, "somebody is needed: status 77")


def test_the_steps_of_the_workflow_run(place):
    """
    The YAML is sound, and its own steps do what it says, with the home that the cache would carry.
    """
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(_block("github_actions.md", "yaml"))
    steps = workflow["jobs"]["ask"]["steps"]
    [ask] = [step for step in steps if step.get("id") == "ask"]
    [restore] = [step for step in steps if "cache/restore" in step.get("uses", "")]
    [save] = [step for step in steps if "cache/save" in step.get("uses", "")]
    assert (
        restore["with"]["path"] == save["with"]["path"] == workflow["jobs"]["ask"]["env"]["DOBATCH_HOME"][-8:]
    )
    output = place.folder / "outputs"
    # As GitHub runs it.
    run = "set -eo pipefail\n" + ask["run"]
    done = place.shell(run, GITHUB_OUTPUT=str(output))
    assert (done.returncode, output.read_text()) == (0, "status=75\n"), done.stderr
    place.let_it_end()
    output.unlink()
    done = place.shell(run, GITHUB_OUTPUT=str(output))
    assert (done.returncode, output.read_text()) == (0, "status=0\n"), done.stderr
    assert place.answered()
    assert place.shell(run, GITHUB_OUTPUT=str(output), DIGITALOCEAN_TOKEN="").returncode == 77


class _Operator:
    def __init__(self, **given):
        vars(self).update(given)

    def __rshift__(self, other):
        return other


def _example(name, **modules):
    """Run an example with stand-ins for modules that are not there, and return its names."""
    names: dict[str, object] = {"__name__": "example"}
    with pytest.MonkeyPatch.context() as patch:
        for path, members in modules.items():
            patch.setitem(sys.modules, path.replace("__", "."), types.SimpleNamespace(**members))
        text = (DOCS / "examples" / name).read_text(encoding="utf-8")
        exec(compile(text, name, "exec", dont_inherit=True), names)
    return names


def test_the_commands_of_the_dag_run(place):
    """
    What its tasks type means what they take it for: 75 is submitted, 75 is not over, 0 is over, 0 is written.
    """

    class Dag(_Operator):
        def __init__(self, name, **given):
            super().__init__(**given)

        def __enter__(self):
            return self

        def __exit__(self, *ended):
            return None

    dag = _example(
        "airflow_dag.py",
        airflow={"DAG": Dag},
        airflow__providers__standard__operators__bash={"BashOperator": _Operator},
        airflow__providers__standard__sensors__bash={"BashSensor": _Operator},
    )
    env = {"TABLE": "reviews.csv", "ANSWERS": "answers.csv"}
    done = place.shell(dag["submit"].bash_command, **env)
    assert done.returncode == 0, done.stderr
    job_id = json.loads(done.stdout.splitlines()[-1])["id"]
    look = re.sub(r"\{\{.*\}\}", job_id, dag["over"].bash_command)
    assert job_id in look
    assert place.shell(look).returncode == dag["over"].retry_exit_code == 75
    place.let_it_end()
    assert place.shell(look).returncode == 0
    assert place.shell(dag["write"].bash_command, **env).returncode == 0
    assert place.answered()


def test_the_flow_without_prefect_comes_back_until_it_is_done(place, monkeypatch):
    """
    Each try moves the job on, raises `NotYet` until it is over, and asks nothing twice.
    """
    found = _example(
        "prefect_flow.py",
        prefect={"flow": lambda function: function, "task": lambda **options: lambda function: function},
    )
    answers, table = found["answers"], str(place.folder / "reviews.csv")
    for _ in range(2):
        with pytest.raises(found["NotYet"]):
            answers(table, "echo")
    place.let_it_end()
    found["nightly"](table, "echo", str(place.answers))
    assert place.answered()
