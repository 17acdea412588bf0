"""What a person sees of plans, estimates, evaluations and errors as a cell's last value, and at the Tab key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from display.test_html import EVIL, read

import dobatch_pandas as dobatch
from dobatch_pandas.errors import DobatchError
from dobatch_pandas.job.process import drop


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"review": [EVIL, "fine", "fine"], "label": ["pos", "neg", "pos"], "said": ["pos", "pos", "neg"]}
    )


MADE: dict[str, Callable[[pd.DataFrame], Any]] = {
    "plan": lambda frame: frame.dobatch.plan("Of {review}", model="gpt-4.1-mini", into=EVIL, temperature=0.5),
    "estimate": lambda frame: frame.dobatch.plan("Of {review}", model="gpt-4.1-mini").estimate(),
    "error": lambda frame: dobatch.InputError([f"Column {EVIL!r} is not there.", "Nor is this."]),
}


@pytest.mark.parametrize("what", list(MADE))
def test_everything_shows_itself_in_a_line_and_in_html(home: Path, frame: pd.DataFrame, what: str) -> None:
    """
    A short ``repr`` for terminals, a picture for notebooks; data in it is text, whatever it holds.
    """
    made = MADE[what](frame)
    assert len(repr(made)) < 200
    assert "\n" not in repr(made)
    assert read(made._repr_html_()).text


def test_a_job_shows_its_state_without_the_network(server: Any, frame: pd.DataFrame) -> None:
    """
    ``repr`` says how the job stands, and does so with the service gone.
    """
    job = frame.dobatch.submit("Of {review}", model="m").wait()
    server.stop()
    line = f"<Job {job.id}: done: 2 answered, 0 failed; m - chat completions -> response>"
    assert repr(job) == line


COMPLETIONS = {
    "df.dob": "dobatch",
    "df.dobatch.su": "submit",
    'df.dobatch.submit("x", mo': "model=",
    'df.dobatch.submit("x", model="m", sch': "schema=",
    'df.dobatch.plan("x", end': "endpoint=",
    'df.dobatch.trial("x", mo': "model=",
    'df.dobatch.score("said", act': "actual=",
    "dobatch.conf": "configure",
}


@pytest.mark.parametrize("typed", list(COMPLETIONS))
def test_the_tab_key_offers_methods_and_their_parameters(frame: pd.DataFrame, typed: str) -> None:
    """
    Methods of ``df.dobatch`` and the names of their parameters are completed.
    """
    pytest.importorskip("IPython")
    from IPython.core.completer import IPCompleter, provisionalcompleter

    completer = IPCompleter(namespace={"df": frame, "dobatch": dobatch}, use_jedi=False)
    with provisionalcompleter():
        offered = [found.text.lstrip(".") for found in completer.completions(typed, len(typed))]
    assert COMPLETIONS[typed] in offered


def test_looking_at_a_frame_changes_nothing(frame: pd.DataFrame) -> None:
    """
    The Tab key builds the accessor of any frame, without columns, with odd ones, or large: it does nothing there.
    """
    odd = [
        pd.DataFrame(),
        pd.DataFrame({0: [1], None: [2], ("a", "b"): [3]}),
        pd.DataFrame(np.zeros((2, 2)), index=pd.MultiIndex.from_tuples([(1, 2), (1, 2)]), columns=["a", "a"]),
        frame,
    ]
    for each in odd:
        assert "dobatch" in dir(each)
        before = each.copy()
        assert {"submit", "plan", "join", "update"} <= set(dir(each.dobatch))
        pd.testing.assert_frame_equal(each, before)
    assert vars(frame.dobatch) == {"_frame": frame}


def test_the_list_of_jobs_is_read_by_people_and_by_pandas(server: Any, frame: pd.DataFrame) -> None:
    """
    In a notebook times are of the day, money is in dollars, and data is text; what is made of it is a plain frame.
    """
    job = frame.dobatch.submit("Of {review}", model="m", into=EVIL).wait()
    listed = dobatch.jobs()
    shown = read(listed._repr_html_()).text
    assert job.id in shown
    assert "done" in shown
    assert "1 job;" in shown
    assert EVIL in shown
    assert type(listed[listed["failed"] == 0]) is pd.DataFrame
    assert dobatch.jobs().iloc[:0].empty
    assert read(dobatch.jobs()._repr_html_())


def _forgotten(job: Any) -> None:
    job.forget()


def _no_home(job: Any) -> None:
    job._known_recipe, live = None, job._home.path
    dobatch.configure(home=live.parent / "another")
    live.rename(live.parent / "moved")  # at once: the engine may still be writing there


def _folder_in_the_place_of_a_file(job: Any) -> None:
    path = job._folder.journal_path
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_forgotten, "deleted from this machine"),
        (_no_home, "deleted from this machine"),
        (_folder_in_the_place_of_a_file, "cannot be read"),
    ],
)
def test_a_job_that_is_no_more_still_shows_itself(
    server: Any,
    frame: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Any], None],
    words: str,
) -> None:
    """
    Forgotten, moved, or harmed: a sentence, as `repr`, as a picture and as a cell's last value, and never a traceback.
    """
    job = frame.dobatch.submit("Of {review}", model="m").wait()
    drop(job._home, job.id)
    harm(job)
    assert repr(job).startswith(f"<Job {job.id}: ")
    assert words in repr(job)
    assert words in read(job._repr_html_()).text
    job._ipython_display_()
    assert words in capsys.readouterr().out
    for look in ("status", "counts", "batches"):
        with pytest.raises(DobatchError):
            getattr(job, look)


@pytest.mark.parametrize("mode", ["Context", "Minimal"])
def test_an_error_keeps_its_lines_in_every_mode(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    """
    IPython's mode Minimal, too, shows the message, the line it came from, and how to see more, on lines of their own.
    """
    shell_module = pytest.importorskip("IPython.core.interactiveshell")
    shell = shell_module.InteractiveShell()
    shell.user_ns["df"] = frame
    shell.run_line_magic("xmode", mode)
    capsys.readouterr()
    shell.run_cell("df.dobatch.plan('{x}', model='m')")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert lines[0].startswith("InputError: There is no column 'x'.")
    assert lines[-1].strip() == "Full traceback: %tb Plain"
    assert len(lines) == 4
