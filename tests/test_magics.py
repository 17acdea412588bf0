"""``%%dobatch`` and ``%dobatch`` in a real IPython shell, against the embedded server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dobatch_pandas as dobatch

pytest.importorskip("IPython")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shell of the test's own, with the extension loaded and a frame ``df``."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    running = InteractiveShell(config=config)
    assert running.run_cell("%load_ext dobatch_pandas").success
    running.user_ns["df"] = pd.DataFrame({"review": ["good", "bad", "good"], "id": [1, 2, 3]})
    return running


def refused(shell: Any, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    """Run a cell that cannot be meant, and return what the user reads; never a traceback."""
    capsys.readouterr()
    result = shell.run_cell(cell)
    said = capsys.readouterr()
    assert not result.success
    assert "Traceback" not in said.out + said.err
    return said.out + said.err


def test_the_text_of_a_cell_is_the_prompt(shell: Any, server: Any) -> None:
    """
    A long prompt is written as text, over several lines, and the job is shown and kept in ``job``.
    """
    cell = "%%dobatch df --model m --into answer --temperature 0\nFirst line\n\nof: {review}\n"
    result = shell.run_cell(cell)

    assert result.success
    job = shell.user_ns["job"]
    assert result.result is job
    assert list(job.result()["answer"]) == [
        "First line\n\nof: good",
        "First line\n\nof: bad",
        "First line\n\nof: good",
    ]
    assert job.recipe.params["temperature"] == 0


def test_options_are_those_of_submit(shell: Any, server: Any) -> None:
    """
    Switches, schemas, system texts with braces, numbers and variables arrive as they were meant.
    """
    shell.user_ns["how"] = {"type": "text"}
    shell.user_ns["review"] = "a variable of the notebook, which the template's field is not"
    line = (
        "--model m --system 'Be terse about {review}' --samples 2 --no-dedupe --job mine "
        "--max-tokens=50 --response-format $how --top-p 0.5 --param seed=7 --param=user=me"
    )
    assert shell.run_cell(f"%%dobatch df {line}\n{{review}}").success

    recipe = shell.user_ns["mine"].recipe
    assert "job" not in shell.user_ns
    assert (recipe.samples, recipe.dedupe) == (2, False)
    assert recipe.params["max_tokens"] == 50
    assert recipe.params["response_format"] == {"type": "text"}
    assert recipe.params["top_p"] == 0.5
    assert (recipe.params["seed"], recipe.params["user"]) == (7, "me")
    lines = (
        shell.user_ns["df"].dobatch.plan("{review}", model="m", system="Be terse about {review}").preview(1)
    )
    assert lines["messages"].iloc[0][0] == {"role": "system", "content": "Be terse about good"}


@pytest.mark.parametrize("schema", ['\'{"label": ["pos", "neg"]}\'', "labels"])
def test_a_schema_is_json_or_a_variable(shell: Any, serve: Callable[..., Any], schema: str) -> None:
    """
    ``--schema`` takes JSON between quotes, or the name of a variable that holds a schema.
    """
    serve(model=lambda body, endpoint: '{"label": "pos"}')
    shell.user_ns["labels"] = {"label": ["pos", "neg"]}
    assert shell.run_cell(f"%%dobatch df --model m --schema {schema}\n{{review}}").success
    assert list(shell.user_ns["job"].result()["label"]) == ["pos"] * 3


def test_jobs_are_listed_attached_and_cancelled(shell: Any, server: Any) -> None:
    """
    ``%dobatch jobs`` is a frame, ``attach`` finds a job again, ``cancel`` ends it at the service too.
    """
    server.hold()
    assert shell.run_cell("%%dobatch df --model m\n{review}").success
    first = shell.user_ns["job"]
    shell.run_cell("listed = %dobatch jobs")
    assert list(shell.user_ns["listed"].index) == [first.id]

    assert shell.run_cell(f"%dobatch attach {first.id} --job again").success
    assert shell.user_ns["again"].id == first.id
    first.sent()
    assert shell.run_cell(f"%dobatch cancel {first.id}").success
    first.wait(120)
    assert first.status == "cancelled"
    assert [batch.status for batch in server.batches] == ["cancelled"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%dobatch\nx", "Name the frame first"),
        ("%%dobatch --model m\nx", "Name the frame first"),
        ("%%dobatch nothing --model m\nx", "'nothing' is not a variable of this notebook"),
        ("%%dobatch number --model m\nx", "'number' is a int"),
        ("%%dobatch df\n{review}", "Which model?"),
        ("%%dobatch df --model\n{review}", "--model needs a value"),
        ("%%dobatch df --model --into x\n{review}", "--model needs a value"),
        ("%%dobatch df --model m\n   \n", "The cell has no prompt"),
        ("%%dobatch df --modle m\n{review}", "is --model meant?"),
        ("%%dobatch df --model m --samples two\n{review}", "--samples takes a whole number, not 'two'"),
        ("%%dobatch df --model m --schema nope\n{review}", "neither a variable of this notebook nor JSON"),
        ('%%dobatch df --model m --schema {"a": str}\n{review}', "JSON goes in single quotes"),
        ("%%dobatch df --model m --system 'open\n{review}", "A quote is not closed"),
        ("%%dobatch df --model m stray\n{review}", "'stray' stands alone"),
        ("%%dobatch df --model m --fresh=yes\n{review}", "--fresh takes no value"),
        ("%%dobatch df --model m --prompt x\n{review}", "the prompt is the text of the cell"),
        ("%%dobatch df --model m --user $nobody\n{review}", "no variable 'nobody'"),
        ("%%dobatch df --model m --param seed\n{review}", "--param takes NAME=VALUE"),
        ("%%dobatch df --model m --param model=x\n{review}", "--param takes NAME=VALUE"),
        ("%%dobatch df --model m --job 7\n{review}", "cannot be the name of a variable"),
        ("%dobatch attach", "needs the id of a job"),
        ("%dobatch cancel --job x", "needs the id of a job"),
        ("%dobatch attach some --fresh", "takes an id and --job NAME, not --fresh"),
        ("%dobatch jobs all", "takes nothing more"),
        ("%dobatch df", "begin with %%dobatch"),
        ("%dobatch dance", "does not know 'dance'"),
    ],
)
def test_what_cannot_be_meant_is_answered_in_words(
    shell: Any, home: Path, capsys: pytest.CaptureFixture[str], cell: str, words: str
) -> None:
    """
    A slip of the hand gets what is wrong and how it is written, no traceback; nothing is sent.
    """
    shell.user_ns["number"] = 7
    said = refused(shell, capsys, cell)
    assert words in said
    assert "%dobatch help lists all options" in said
    assert len(said.splitlines()) < 4, "the sentence is not buried"
    assert "job" not in shell.user_ns


def test_problems_of_the_input_are_words_too(
    shell: Any, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A column that is not there, or a job nobody knows, is said without a traceback.
    """
    assert "reviw" in refused(shell, capsys, "%%dobatch df --model m\n{reviw}")
    assert "j-unknown" in refused(shell, capsys, "%dobatch attach j-unknown")
    assert dobatch.jobs().empty


def test_help_says_how_it_is_written(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``%dobatch`` alone prints how both forms are written.
    """
    assert shell.run_cell("%dobatch").success
    assert "%dobatch attach ID" in capsys.readouterr().out


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.text(max_size=60))
def test_no_line_makes_a_traceback(home: Path, line: str) -> None:
    """
    Whatever is typed behind the magic's name, the answer is words.
    """
    from IPython.core.error import UsageError

    from dobatch_pandas.magics import run_magic

    shell = SimpleNamespace(user_ns={"df": pd.DataFrame({"a": []})})
    for words, cell in ((line, None), (f"df {line}", "{a}")):
        with suppress(UsageError):
            run_magic(shell, words, cell)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("%%dobatch d", "df"),
        ("%%dobatch df --mod", "--mode --model"),
        ("%%dobatch df --no", "--no-dedupe"),
        ("%%dobatch df --custom-id re", "review"),
        ("%%dobatch df --model m\nSentiment of: {re", "review"),
        ("%dobatch at", "attach"),
    ],
)
def test_the_tab_key_knows_frames_options_and_columns(shell: Any, typed: str, offered: str) -> None:
    """
    In the first line frames and options, in the prompt the columns of that frame.
    """
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        found = [completion.text for completion in shell.Completer.completions(typed, len(typed))]
    assert found == offered.split()


def test_the_tab_key_offers_nothing_of_ours_elsewhere(shell: Any) -> None:
    """
    Other cells complete as ever, and so does text in a prompt that is no field.
    """
    from IPython.core.completer import provisionalcompleter

    for typed in ("re", "%%dobatch df --model m\nre", "%%dobatch df --model m\n{review} re"):
        with provisionalcompleter():
            found = [completion.text for completion in shell.Completer.completions(typed, len(typed))]
        assert "review" not in found
