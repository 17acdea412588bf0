"""What the README says is so: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dobatch_pandas as dobatch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands():
    """Every command of the shell blocks, without comments."""
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    parts = [part for line in lines for part in line.partition("#")[0].split("&&") if part.strip()]
    return [shlex.split(part) for part in parts]


def test_every_snippet_runs_from_top_to_bottom(home):
    """
    Pasted into a notebook, one after the other, they work as they are.
    """
    pytest.importorskip("sklearn")
    names: dict[str, object] = {}
    try:
        for block in _blocks("python"):
            exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    finally:
        names["server"].stop()
    answered = names["df"]
    assert answered["sentiment"].isin(["pos", "neg"]).all()
    assert answered["sentiment_error"].isna().all()


def test_the_commands_of_the_shell_exist():
    """
    Every command is one, and every extra that is named can be installed.
    """
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = {subcommand for name, subcommand, *_ in _commands() if name == "dobatch"}
    assert commands == {"fetch-model", "demo"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", "from dobatch_pandas.cli import main; main()", command, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    named = {extra for found in re.findall(r"\[([a-z,]+)\]\"", README) for extra in found.split(",")}
    assert named <= set(project["optional-dependencies"])
    [token] = re.findall(r"export (\w+)=", README)
    assert token in dobatch.config.TOKEN_VARIABLES


def test_the_command_for_the_tests_is_the_one_that_a_release_must_pass():
    """
    What a newcomer runs and what CI runs is the same.
    """
    [tests] = [shlex.join(command) for command in _commands() if command[0] == "pytest"]
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(tests) for line in lines)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(link):
    """
    No reader ends at a page that is not there.
    """
    assert (ROOT / link).exists()


def test_it_fits_two_screens():
    """
    Whoever looks for a minute has seen all of it.
    """
    assert len(README.splitlines()) <= 80
