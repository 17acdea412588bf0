"""Whose jobs these are: told by the token or by name, never telling the token, and never mixed up."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import config
from dobatch_pandas.errors import ConfigurationError, ServerProblem
from dobatch_pandas.job import account
from dobatch_pandas.job.account import account_here, account_to_look, is_ours
from dobatch_pandas.job.folder import JobRecord


@pytest.fixture
def place(home: Path) -> Path:
    home.mkdir()
    return home


def _of(token: str, place: Path, **more: str) -> str:
    dobatch.configure(token=token, **more)
    return account_here(place)


def _record(account: str) -> JobRecord:
    return JobRecord("j", 0.0, "f", "http://x", account, "openai", "/v1", "m", "o", 1, "{}")


def test_each_token_is_an_account_of_its_own(place):
    """
    Two people who share a home do not get each other's answers.
    """
    first, second = _of("one", place), _of("two", place)
    assert first != second
    assert _of("one", place) == first


def test_an_account_does_not_tell_its_token(place):
    """
    Neither the token nor a hash that is the same elsewhere is on disk.
    """
    account = _of("secret-token", place)
    other = place.parent / "other"
    other.mkdir()
    assert account_here(other) != account
    assert "secret-token" not in "".join(path.read_text() for path in place.iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in place.iterdir())


def test_a_new_token_is_of_the_same_account_where_somebody_says_so(place):
    """
    A token was replaced, and one word keeps jobs and answers.
    """
    before = _of("old", place)
    assert _of("new", place, account="same") == before
    dobatch.configure(token="new")
    assert account_here(place) == before
    assert _of("another", place) != before


def test_same_holds_in_later_processes(place):
    """
    It is said once, not in every notebook, even where nothing was submitted after it was said.
    """
    before = _of("old", place)
    dobatch.configure(token="new", account="same")
    code = (
        "import pathlib, sys; from dobatch_pandas.job.account import account_here;"
        "print(account_here(pathlib.Path(sys.argv[1])))"
    )
    environment = {**os.environ, "DIGITALOCEAN_TOKEN": "new"}
    found = subprocess.run(
        [sys.executable, "-c", code, str(place)], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == before


def test_same_means_the_account_at_the_same_service(place):
    """
    A trial on an embedded server in between is not the account before.
    """
    real = _of("old", place, base_url="https://real.example")
    _of("local", place, base_url="http://127.0.0.1:1")
    assert _of("new", place, base_url="https://real.example", account="same") == real


def test_same_said_again_changes_nothing(place):
    """
    The line may stay in the notebook; on a new home it does no harm.
    """
    first = _of("one", place, account="same")
    assert _of("one", place) == first
    _of("two", place)
    assert _of("one", place, account="same") == first


def test_same_may_be_said_after_the_new_token_was_used(place):
    """
    Somebody who finds no answers under a new token says the word then.
    """
    before = _of("old", place)
    assert _of("new", place) != before
    assert _of("new", place, account="same") == before


def test_a_name_tells_the_account_whatever_the_token(place):
    """
    A team gives its account a name.
    """
    assert _of("one", place, account="team") == "team"
    assert _of("two", place) == "team"
    assert _of("three", place, account="same") == "team"
    dobatch.configure(account=None)
    assert account_here(place) == "team"
    assert _of("four", place) not in ("team", "")


def test_a_name_may_come_from_the_environment(place, monkeypatch):
    """
    Workers of a cluster get it as they get the token.
    """
    monkeypatch.setenv("DOBATCH_ACCOUNT", "team")
    assert account_here(place) == "team"


def test_jobs_of_version_0_1_0_are_everybodys(place):
    """
    That version did not tell accounts apart; its jobs can be gone on with.
    """
    mine = _of("one", place)
    assert is_ours(place, _record(mine))
    assert is_ours(place, _record(""))
    assert not is_ours(place, _record("another"))


def test_threads_that_begin_at_once_agree(place):
    """
    The first use of a home by several threads makes one salt.
    """
    dobatch.configure(token="one")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(account_here(place))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"salt": 1}', '{"salt": "", "used": null, "same": {}}'])
def test_a_damaged_file_is_told_and_left_alone(place, content):
    """
    A new salt would lose every job of this account.
    """
    file = place / "account.json"
    file.write_text(content)
    dobatch.configure(token="one")
    with pytest.raises(ConfigurationError, match=r"account\.json"):
        account_here(place)
    assert file.read_text() == content


@pytest.mark.parametrize("account", ["", " ", 7, "a\nb", "x" * 201])
def test_what_is_no_name_is_refused(account, home):
    """
    The mistake is told, and nothing has changed.
    """
    with pytest.raises(ConfigurationError, match="account"):
        dobatch.configure(account=account, base_url="http://elsewhere")
    assert config.settings().account is None
    assert config.settings().base_url == config.BASE_URL


def test_same_without_a_token_is_refused(home):
    """
    The word is about a token.
    """
    with pytest.raises(ConfigurationError, match="token="):
        dobatch.configure(account="same")


@pytest.mark.parametrize("token", ["my token", "a\nb", "a\tb", "pässword", "a\x00b", 17, b"bytes"])
def test_a_token_that_can_be_none_is_refused_at_once(token, home):
    """
    A slip in pasting is told in the cell, without quoting the token, and the one before holds.
    """
    dobatch.configure(token="right")
    with pytest.raises(ConfigurationError) as caught:
        dobatch.configure(token=token)
    assert str(token) not in str(caught.value)
    assert config.settings().token == "right"


def test_blanks_around_a_token_are_cut_off(home):
    """
    A token read from a file ends with a line end.
    """
    dobatch.configure(token=" right\n")
    assert config.settings().token == "right"


def test_a_relative_home_stays_where_it_was(home, tmp_path, monkeypatch):
    """
    A notebook that changes its directory finds its jobs.
    """
    monkeypatch.chdir(tmp_path)
    dobatch.configure(home="jobs")
    monkeypatch.chdir("/")
    assert config.settings().home == tmp_path / "jobs"


def test_a_relative_home_of_the_environment_stays_where_it_was(tmp_path, monkeypatch):
    """
    DOBATCH_HOME counts from where the process stood when it was first used.
    """
    monkeypatch.setattr(config, "_chosen", config._Chosen())
    monkeypatch.setenv("DOBATCH_HOME", f"jobs-of-{tmp_path.name}")
    monkeypatch.chdir(tmp_path)
    before = config.settings().home
    monkeypatch.chdir("/")
    assert config.settings().home == before == tmp_path / f"jobs-of-{tmp_path.name}"


def test_an_account_without_a_home_directory_is_told_to_name_a_folder(tmp_path, monkeypatch):
    """
    A container may run as a number that has neither a name nor a home; once a folder is named, all is well.
    """

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(config, "_chosen", config._Chosen())
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME", "DOBATCH_HOME", "DOBATCH_MODELS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match=r"no home directory.*DOBATCH_HOME"):
        dobatch.jobs()
    with pytest.raises(ServerProblem, match=r"no home directory.*DOBATCH_MODELS"):
        dobatch.LocalServer(model="smollm2").start()
    dobatch.configure(home=tmp_path / "~jobs")
    assert dobatch.jobs().empty


@pytest.mark.parametrize("place", [5, b"bytes", "a\0b"])
def test_what_names_no_folder_is_refused(place, home):
    """
    The mistake is told at once, in our own words.
    """
    with pytest.raises(ConfigurationError, match="home"):
        dobatch.configure(home=place)


def test_blocks_that_overlap_leave_nothing_behind(home):
    """
    Two threads of a cluster that join at once do not switch off the display for ever, nor take back a token.
    """
    dobatch.configure(display="bar", token="before")
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def block(number: int) -> None:
        with config.configured(display=False):
            inside.wait(120)
            leave[number].wait(120)

    threads = [threading.Thread(target=block, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(120)
    assert config.settings().display is False
    dobatch.configure(token="meanwhile")
    for number in range(2):
        leave[number].set()
        threads[number].join()
    assert config.settings().display == "bar"
    assert config.settings().token == "meanwhile"


def test_what_is_configured_in_a_block_is_not_taken_back_by_it(home):
    """
    The latest word counts, within the block and after it.
    """
    with config.configured(base_url="http://block", display=False):
        dobatch.configure(base_url="http://mine")
        assert config.settings().base_url == "http://mine"
    assert config.settings().base_url == "http://mine"


def test_every_listener_hears_of_a_change_though_one_fails(home, monkeypatch):
    """
    A home that cannot be written does not keep a job from learning of its new token.
    """
    heard: list[str] = []

    def refuse() -> None:
        raise ConfigurationError("cannot be written")

    monkeypatch.setattr(config, "_listeners", [refuse, lambda: heard.append("token")])
    with pytest.raises(ConfigurationError, match="cannot be written"):
        dobatch.configure(token="new")
    assert heard == ["token"]


def test_who_only_looks_writes_nothing(place):
    """
    Under another token, in a home that may only be read, an estimate is one, and nobody's answers are taken for one's own.
    """
    mine = _of("one", place)
    kept = {path: path.read_bytes() for path in place.iterdir()}
    dobatch.configure(token="two")
    assert account_to_look(place) not in (mine, None)
    assert not is_ours(place, _record(mine))
    frame = pd.DataFrame({"word": ["a", "b"]})
    assert frame.dobatch.plan("{word}", model="m").estimate().to_send == 2
    assert {path: path.read_bytes() for path in kept} == kept
    dobatch.configure(token="one")
    assert account_to_look(place) == mine


def test_who_only_looks_is_known_by_a_new_token_too(place, monkeypatch):
    """
    In a home that may only be read, account="same" holds for as long as it is set.
    """
    mine = _of("old", place)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(account, "written_whole", refused)
    dobatch.configure(token="new", account="same")
    assert account_to_look(place) == mine
    assert is_ours(place, _record(mine))
    with pytest.raises(ConfigurationError, match="Make the home folder writable"):
        account_here(place)
