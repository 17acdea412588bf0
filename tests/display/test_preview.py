"""What would be sent, as a person reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from display.test_html import EVIL, TAGS, Reader, read

import dobatch_pandas as dobatch
from dobatch_pandas.display.preview import Tried, preview_html


def words(html: str) -> str:
    """The text of a picture, which has no markup but ours."""
    reader = Reader(html)
    assert set(reader.tags) <= TAGS | {"details", "summary"}
    return reader.text


def test_one_request_is_read_as_messages_and_constants_stand_once(home: Path) -> None:
    """
    Roles and texts of the first request; the model once; in the table only what is a row's own.
    """
    frame = pd.DataFrame({"review": ["fine", EVIL], "heat": [0.0, 0.5]}, index=["a", "b"])
    plan = frame.dobatch.plan(
        "Of {review}",
        model="gpt-4.1-mini",
        system="Be terse.",
        schema={"label": ["pos"]},
        temperature=dobatch.col("heat"),
    )
    shown = words(plan.preview()._repr_html_())
    assert shown.index("Be terse.") < shown.index("Of fine") < shown.index("What differs between rows")
    assert shown.count("gpt-4.1-mini") == 1
    assert shown.count("response_format") == 1
    assert f"Of {EVIL}" in shown
    assert "temperature" in shown.split("What differs")[1]
    assert plan.preview()["custom_id"].iloc[0][:8] in shown


def test_a_terminal_shows_the_same_within_its_width(home: Path) -> None:
    """
    Messages of the first request, what all have in common once, a line a row; no escape of a text reaches the terminal.
    """
    frame = pd.DataFrame(
        {"review": ["fine\x1b[31m", "b" * 300, None], "heat": [0.0, 0.5, 1.0]}, index=["x", "y", "z"]
    )
    plan = frame.dobatch.plan(
        "Of {review}",
        model="gpt-4.1-mini",
        system="Be terse.",
        temperature=dobatch.col("heat"),
        missing="skip",
    )
    shown = repr(plan.preview(3))
    message, table = shown.split("\n\n")
    assert message.splitlines()[1:5] == ["  system:", "    Be terse.", "  user:", "    Of fine\ufffd[31m"]
    assert message.endswith("Parameters: model gpt-4.1-mini")
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["x", "y", "z"]
    assert max(map(len, table.splitlines())) <= 80
    assert "not sent" in table
    assert plan.preview(3)["custom_id"].iloc[0][:8] in table
    assert repr(frame.iloc[2:].dobatch.plan("{review}", model="m", missing="skip").preview()).startswith(
        "No request"
    )


def test_a_preview_is_an_ordinary_frame_otherwise(home: Path) -> None:
    """
    Filtered, copied or joined, it is a plain frame.
    """
    preview = pd.DataFrame({"a": ["x", "y"]}).dobatch.plan("{a}", model="m").preview()
    assert list(preview.columns[:2]) == ["custom_id", "model"]
    assert type(preview.head(1)) is pd.DataFrame
    assert type(preview[["model"]]) is pd.DataFrame


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "embed me"}, "embed me"),
        ({"input": ["one", "two"]}, "two"),
        ({"system": "S", "messages": [{"role": "user", "content": "U"}]}, "U"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "T"}, {"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "tool_calls"),
        ({"messages": np.nan}, "No request"),
        ({}, "No request"),
    ],
)  # fmt: skip
def test_any_body_can_be_shown(body: dict[str, Any], expected: str) -> None:
    """
    Whatever an endpoint takes, and rows that would not be sent.
    """
    assert expected in words(preview_html(pd.DataFrame([{"custom_id": "0" * 32, **body}])))


def test_a_plan_whose_frame_was_changed_is_words(home: Path) -> None:
    """
    The column is gone: the plan says so where it is shown, and raises nothing.
    """
    frame = pd.DataFrame({"a": ["x"]})
    plan = frame.dobatch.plan("{a}", model="m")
    del frame["a"]
    assert "cannot be shown" in words(plan._repr_html_())


def test_a_trial_shows_whole_answers_as_text() -> None:
    """
    Of a trial the prompts and answers are read in full, as text and not as formulas; what is empty is left out.
    """
    answer = "a long answer, " * 10 + "<b>that</b> costs $5 and $6"
    tried = Tried(
        {"prompt": ["Say <i>it</i>"], "said": [answer], "said_error": [None], "seconds": [0.123456]},
        index=["a"],
    )
    page = read(tried._repr_html_())
    assert answer in page.text
    assert "Say <i>it</i>" in page.text
    assert "<span>$</span>" in tried._repr_html_()
    assert "said_error" not in page.text
    assert "0.12" in page.text
    assert "0.123" not in page.text
    named = Tried({"row": ["the answer"], "seconds": ["an answer too"]}, index=["the label"])
    assert all(
        words in read(named._repr_html_()).text for words in ("the answer", "an answer too", "the label")
    )
    vectors = pd.Series([np.linspace(0, 1, 1536, dtype="float32")], index=["a"])
    assert "… 1,536 numbers]" in read(Tried(tried.assign(said=vectors))._repr_html_()).text
    failed = tried.assign(said_error="http_500")
    assert type(failed) is pd.DataFrame
    assert "http_500" in read(Tried(failed)._repr_html_()).text
    del tried["seconds"]
    assert "<table" in tried._repr_html_()
