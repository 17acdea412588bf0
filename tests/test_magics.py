"""The magics: a cell's text as the prompt, jobs by id, and usage in words."""

from __future__ import annotations

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.magics import load_ipython_extension

pytest.importorskip("IPython", reason="IPython is not installed")


@pytest.fixture
def ip(server):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_ns["df"] = pd.DataFrame({"word": ["red", "blue"], "n": [1, 2]})
    load_ipython_extension(shell)
    yield shell
    InteractiveShell.clear_instance()


def test_a_cells_text_is_the_prompt_of_every_row(ip):
    """
    `%%dobatch df --model echo --into answer`: the job runs, is in `job`, and joins onto the frame.
    """
    job = ip.run_cell_magic("dobatch", "df --model echo --into answer", "A word:\n{word}\n")

    assert job is ip.user_ns["job"]
    assert list(ip.user_ns["df"].dobatch.join(job)["answer"]) == ["A word:\nred", "A word:\nblue"]


def test_every_option_reaches_the_request(ip):
    """
    System text, schema, parameters and the job's name, with quotes as in a shell.
    """
    line = """df --model echo --into out --system "Be brief." --param temperature=0 --param stop=END
              --schema '{"label": ["pos", "neg"]}' --job mine --samples 2"""
    job = ip.run_cell_magic("dobatch", line.replace("\n", " "), "{word}")

    body = ip.user_ns["df"].dobatch.plan(
        "{word}", model="echo", into="out", system="Be brief.", temperature=0, stop="END", samples=2,
        schema={"label": ["pos", "neg"]},
    )  # fmt: skip
    assert job is ip.user_ns["mine"]
    assert job.recipe.to_json() == body.recipe.to_json()


def test_a_schema_may_be_a_variable(ip):
    """
    A pydantic model or a dict of the notebook, by its name.
    """
    ip.user_ns["Label"] = {"label": ["pos", "neg"]}
    job = ip.run_cell_magic("dobatch", "df --model echo --schema Label", "{word}")

    assert job.recipe.answer_names == ["label"]


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("", "{word}", "frame"),
        ("df", "{word}", "--model"),
        ("nothing --model echo", "{word}", "'nothing' does not exist. Frames here: df"),
        ("word --model echo", "{word}", "'word' is a str"),
        ("df --model echo", "  \n", "no text"),
        ("df --model echo --samples many", "{word}", "invalid int value"),
        ("df --model echo --sampels 2", "{word}", "--sampels"),
        ('df --model echo --system "open', "{word}", "quote"),
        ("df --model echo --schema {label", "{word}", "single quotes"),
        ("df --model echo --param temperature", "{word}", "NAME=VALUE"),
        ("df --model echo", "{wrod}", "wrod"),
        ("--help", "{word}", "usage: %%dobatch"),
    ],
)
def test_wrong_arguments_are_answered_in_words(ip, capsys, line, cell, words):
    """
    What is wrong and how it is done, without a traceback, and nothing is sent.
    """
    ip.user_ns["word"] = "red"
    assert ip.run_cell_magic("dobatch", line, cell) is None

    told = "".join(capsys.readouterr())
    assert words in told
    assert "Traceback" not in told
    assert dobatch.jobs().empty


def test_jobs_are_listed_attached_and_cancelled_by_id(ip, server):
    """
    `%dobatch jobs`, `%dobatch attach ID`, `%dobatch cancel ID`.
    """
    server.hold()
    job = ip.run_cell_magic("dobatch", "df --model echo", "{word}").sent()

    assert list(ip.run_line_magic("dobatch", "jobs").index) == [job.id]
    assert ip.run_line_magic("dobatch", f"attach {job.id}").id == job.id
    assert ip.run_line_magic("dobatch", f"cancel '{job.id}'").id == job.id
    server.release()
    assert job.wait().status == "cancelled"


@pytest.mark.parametrize("line", ["", "attach", "attach 1 2", "drop everything", "attach no-such-job"])
def test_a_line_that_says_nothing_gives_usage(ip, capsys, line):
    """
    Bad words or ids: an answer in words.
    """
    assert ip.run_line_magic("dobatch", line) is None
    told = "".join(capsys.readouterr())
    assert "jobs | attach ID | cancel ID" in told or "no-such-job" in told


def test_it_loads_as_an_extension(home):
    """
    `%load_ext dobatch_pandas` is all.
    """
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "dobatch_pandas")
    assert shell.find_line_magic("dobatch")
    assert shell.find_cell_magic("dobatch")
