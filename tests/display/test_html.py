"""Pictures that need neither script nor style sheet, and show foreign words as just words."""

from __future__ import annotations

import datetime
import importlib.util
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from display.fakes import FAILURES, HOUR, NOW, snapshot
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.display.html import batches_html, errors_html, line_html, plain, static_html, table_html
from dobatch_pandas.display.snapshot import BatchRow, State
from dobatch_pandas.errors import DobatchError, InputError, Problem

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> **bold** $x$ \\(y\\) & \"quoted\" 'too'"
TAGS = {
    "div", "span", "b", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "code",
    "ol", "li",
}  # fmt: skip


class Reader(HTMLParser):
    """Reads HTML as a browser would: its tags, its attributes and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def read(html: str) -> Reader:
    """Read a picture of ours, and check that there is nothing in it but words in plain elements."""
    reader = Reader(html)
    assert not reader.open, "every element is closed"
    assert set(reader.tags) <= TAGS
    names = {name for name, _ in reader.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("href", "src")]
    assert "url(" not in html
    # Text between two dollars, or in \( \), would be typeset where both ends stand in one run of text.
    assert not [piece for piece in reader.pieces if len(piece) > 1 and re.search(r"\$|\\[(\[]", piece)]
    return reader


@given(st.text(max_size=200))
def test_any_text_shows_as_just_its_text(words: str) -> None:
    """
    What a browser reads back is the very text, whatever it holds.
    """
    # HTML itself makes one line end of the others, and has no NUL.
    words = words.replace("\r", " ").replace("\0", " ")
    assert Reader(plain(words, None)).text == words


def test_long_text_is_cut_and_says_so() -> None:
    """
    A cell never grows without end.
    """
    assert Reader(plain("x" * 500, 10)).text == "x" * 9 + "…"


@pytest.mark.parametrize("state", get_args(State))
def test_a_picture_shows_foreign_words_as_words(state: State) -> None:
    """
    Model, column, codes, examples and problems hold markup and LaTeX: all of it is text, in every state.
    """
    evil = snapshot(
        state=state, job_id=EVIL, model=EVIL, endpoint=EVIL, into=EVIL, problem=EVIL, failed=2,
        errors=(ErrorGroup(EVIL, 2, EVIL),),
        batches=(BatchRow(0, EVIL, EVIL, 50, 40, 2, 5_000, problem=EVIL),),
    )  # fmt: skip
    assert read(static_html(evil, NOW)).text.count("<script>alert(1)</script>") >= 7


@pytest.mark.parametrize("state", get_args(State))
def test_a_picture_stands_on_its_own(state: State) -> None:
    """
    No script, no style sheet, no background of its own, theme colours with a fallback: right on GitHub, light or dark.
    """
    picture = static_html(snapshot(state=state, failed=4, errors=FAILURES), NOW)
    reader = read(picture)
    assert "<style" not in picture
    colours = re.findall(r"#[0-9a-fA-F]{3,8}|\b(?:white|black)\b(?!-)", picture)
    inside = re.findall(r"var\(--vscode-[a-zA-Z0-9-]+, var\(--jp-[a-z0-9-]+, (#[0-9a-f]{6})\)\)", picture)
    # Pages that are not trusted drop variables: each colour stands once alone, and once behind the theme's.
    assert set(colours) - {"#808080"} <= set(inside), "a fixed colour only stands in for a theme's"
    assert reader.text.count("261123-abcdef") >= 1


def test_a_picture_says_everything_in_words() -> None:
    """
    What runs, how far, how long, what failed and in which batches is there as text, not only as colour.
    """
    now = snapshot(failed=4, errors=FAILURES, eta=900.0, prompt_tokens=10, completion_tokens=2, cost=1.5)
    words = read(static_html(now, NOW)).text
    for expected in (
        "Running", "gpt-4.1-mini", "chat completions", "sentiment", "40 answered", "4 failed", "56 waiting", "10 min elapsed", "about 15 min left", "10 tokens in, 2 out",
        "1.50 spent so far", "content_filter", "withheld", "3×", "2 batches", "batch_1", "dobatch.attach(",
    ):  # fmt: skip
        assert expected in words


def test_the_bar_speaks_to_a_screen_reader() -> None:
    """
    The bar is a progressbar with its share and its counts in words; the state is announced.
    """
    attributes = read(static_html(snapshot(failed=4), NOW)).attributes
    assert ("role", "progressbar") in attributes
    assert ("aria-valuenow", "44") in attributes
    assert ("role", "status") in attributes
    said = next(value for name, value in attributes if name == "aria-valuetext")
    assert said is not None
    assert said.startswith("40 answered, 4 failed, 56 waiting")


def test_a_running_picture_says_when_it_was_taken() -> None:
    """
    A saved notebook's picture of a running job names its moment and how to see the job now; a finished one need not.
    """
    assert "As of " in read(static_html(snapshot(), NOW)).text
    over = snapshot(state="completed", completed=100, ended=NOW)
    assert "As of " not in read(static_html(over, NOW)).text
    failed = read(static_html(replace(over, completed=96, failed=4, errors=FAILURES), NOW)).text
    assert "job.retry()" in failed


def test_a_thousand_batches_stay_a_table_that_can_be_read() -> None:
    """
    Those that are not over come first, and the rest is counted.
    """
    rows = [
        BatchRow(i, f"batch_{i}", "completed" if i < 990 else "failed", 10, 10, 0, 1_500_000, NOW, NOW + HOUR)
        for i in range(1000)
    ]
    words = read(batches_html(rows, NOW)).text
    assert "batch_995" in words
    assert "and 800 more; job.batches has all" in words
    assert "1.5 MB" in words


def test_more_codes_than_fit_are_counted() -> None:
    """
    The first codes are shown with one example each, the rest is a number; all of them on demand.
    """
    groups = [ErrorGroup(f"code_{i}", 9 - i, "why") for i in range(7)]
    assert "and 2 more codes" in read(errors_html(groups)).text
    assert "code_6" in read(errors_html(groups, None)).text
    assert errors_html([]) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (pd.NA, "–"),
        (pd.NaT, "–"),
        (True, "True"),
        (np.int64(12_345), "12,345"),
        (0.123456789, "0.123457"),
        ([1, None], "[1, None]"),
        (np.array([1, 2]), "[1 2]"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (EVIL, EVIL),
    ],
)
def test_a_table_shows_any_value(value: Any, words: str) -> None:
    """
    Missing values are a dash, numbers have separators, everything else is its text.
    """
    reader = read(table_html([{EVIL: value}], [EVIL], caption=EVIL))
    assert reader.text == EVIL + EVIL + words


def test_columns_of_numbers_stand_to_the_right() -> None:
    """
    A column is one of numbers where every value that is there is one.
    """
    rows = [{"n": 1, "mixed": 1, "none": None}, {"n": None, "mixed": "x", "none": None}]
    html = table_html(rows, ["n", "mixed", "none"])
    assert [("right" in cell) for cell in re.findall(r"<th [^>]*>", html)] == [True, False, False]


def test_every_problem_of_the_input_is_listed() -> None:
    """
    All problems at once, each on a line of its own, with its rows.
    """
    two = InputError([Problem("Column 'a' is missing."), Problem(EVIL, (7, "x"), 2)])._repr_html_()
    words = read(two).text
    assert words.startswith("InputError: 2 problems, nothing was sent")
    assert two.count("<li>") == 2
    assert "(rows 7, 'x')" in words
    one = read(InputError("Just one.")._repr_html_()).text
    assert one == "InputErrorJust one."
    assert EVIL in read(DobatchError(EVIL)._repr_html_()).text


def test_the_jobs_of_the_screenshots_can_be_drawn():
    """
    The script that takes the pictures of the documentation knows the snapshot as it is now.
    """
    path = Path(__file__).parents[2] / "docs" / "screenshots.py"
    spec = importlib.util.spec_from_file_location("screenshots", path)
    painted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(painted)
    for name, one in painted.states().items():
        assert one.job_id in static_html(one), name


def test_a_job_in_one_line_says_what_tells_it_apart_and_why_it_stands_still():
    """
    Of twelve jobs each line has the column that is filled, and the reason where one waits for me.
    """
    paused = line_html(replace(snapshot(), state="paused", problem=f"The service refused {EVIL}."))
    assert "gpt-4.1-mini → sentiment" in read(paused).text
    assert f"The service refused {EVIL}." in read(paused).text
    assert set(read(paused).tags) <= TAGS
    assert "10 not sent" in read(line_html(replace(snapshot(), state="completed", skipped=10))).text
    # However narrow the page is, the reason is not cut: neither by us nor by the page.
    long = "the service refused the token, and " * 8 + "set a new one"
    why = line_html(replace(snapshot(), state="paused", problem=long)).rpartition("<div")[2]
    assert "set a new one" in why
    assert "ellipsis" not in why
    assert "nowrap" not in why


def test_the_next_step_is_one_that_helps():
    """
    A retry is named where it sends something, and errors where there are some.
    """
    hopeless = snapshot(state="completed", completed=97, failed=3, errors=FAILURES[:1])
    assert "job.retry()" not in static_html(hopeless)
    assert "job.retry()" in static_html(replace(hopeless, errors=(ErrorGroup("http_500", 3, "down"),)))
    never = snapshot(state="cancelled", completed=0, failed=100, cancelled=100)
    shown = read(static_html(never)).text
    assert "Next: job.retry() sends them." in shown
