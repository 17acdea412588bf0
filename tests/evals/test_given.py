"""Whatever is given to the functions of an evaluation: what is wrong is said in words, never by a foreign exception."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from dobatch_pandas import InputError, evals

FRAME = pd.DataFrame({"q": list("wxyz"), "answer": list("abab"), "gold": list("aaab"), 3: list("mnmn")})


def run() -> evals.Evaluation:
    return evals.score(FRAME, "answer", "gold")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: evals.score(FRAME["answer"], "answer", "gold"), "takes a frame, not Series"),
        (lambda: evals.score(FRAME, FRAME["answer"], "gold"), "not by a Series"),
        (lambda: evals.score(FRAME, "answer", "gold", by=4), "There is no column 4"),
        (lambda: evals.explore("answer"), "takes a frame, not str"),
        (lambda: evals.explore(FRAME["answer"]), "takes a frame, not Series"),
        (lambda: evals.explore(FRAME, columns=4), "There is no column 4"),
        (lambda: evals.explore(FRAME, by=4), "There is no column 4"),
        (lambda: evals.explore(FRAME, page_size="x"), "page_size='x'"),
        (lambda: evals.explore(FRAME, page_size=0), "page_size=0"),
        (lambda: evals.explore(FRAME, labels=3), "labels=3"),
        (lambda: evals.explore(FRAME, responses="x"), "job.responses()"),
        (lambda: evals.explore(FRAME, predicted="answer", actul="gold"), "actul= goes to score()"),
        (lambda: evals.explore(run(), kind="labels"), "kind= goes to score()"),
        (lambda: FRAME.dobatch.explore("answer", actual="gold"), "not 'answer': columns go by name"),
        (lambda: FRAME.dobatch.explore(3), "the job that answered these rows, not 3"),
        (lambda: evals.compare(FRAME, {"a": "answer"}, "gold"), "not DataFrame, dict"),
        (lambda: evals.compare(run(), run(), key=4), "no key column 4"),
        (lambda: evals.compare(run(), run(), by=4), "not one column 4"),
        (lambda: evals.compare(run(), run(), names=3), "names=3"),
        (lambda: evals.compare(run(), run(), names="ab"), "names='ab'"),
        (lambda: evals.raters(3), "takes a frame, not int"),
        (lambda: evals.judged(3), "The job that judge() gave"),
        (lambda: evals.pairwise(3), "The job that judge() gave"),
        (lambda: evals.agreement("answer", "gold"), "not 'answer'"),
        (lambda: evals.calibrate(FRAME, FRAME["gold"]), "not DataFrame"),
        (lambda: FRAME.dobatch.judge(3, model="m"), "question=3"),
        (lambda: FRAME.dobatch.judge("q", 3, model="m"), "criteria=3"),
        (lambda: FRAME.dobatch.judge("q", {"short": None}, model="m"), "criteria={'short': None}"),
        (lambda: FRAME.dobatch.judge("q", model="m", rubric=["bad", "good"]), "rubric=['bad', 'good']"),
        (lambda: FRAME.dobatch.judge("q", model="m", rubric={1: "bad", 2: None}), "rubric={1: 'bad', 2: None}"),
        (lambda: FRAME.dobatch.judge("q", model="m", scale=5), "scale=5"),
        (lambda: FRAME.dobatch.judge("q", model="m", scale=(1, "5")), "scale=(1, '5')"),
        (lambda: FRAME.dobatch.judge("q", model="m", scale=(0.5, 5)), "scale=(0.5, 5)"),
        (lambda: run().wrong("x"), "n='x'"),
        (lambda: run().pass_at("x"), "k='x'"),
        (lambda: run().to_html(3), "path of a file"),
        (lambda: run().to_html(""), "path of a file"),
    ],
)  # fmt: skip
def test_what_is_given_is_told_in_words(call: Any, words: str) -> None:
    """A column in the place of a job, a number in the place of a name: the sentence says what is taken instead."""
    with pytest.raises(InputError) as told:
        call()
    assert words in str(told.value)


def test_a_report_that_cannot_be_written_says_where(tmp_path: Any) -> None:
    """The folder is missing, or the path is a folder: one sentence with the path, and nothing is left behind."""
    for place in (tmp_path / "no such folder" / "report.html", tmp_path):
        with pytest.raises(InputError, match="report cannot be written to"):
            run().to_html(place)
    assert not list(tmp_path.parent.glob("*.partial"))


def test_columns_are_named_by_labels_of_any_kind() -> None:
    """A frame whose columns are numbers is sliced, paired and explored by them, one or several."""
    assert run_by(3).equals(run_by([3]))
    assert evals.compare(run(), run(), by=3).slices is not None
    keyed = FRAME.assign(n=[5, 6, 7, 8]).rename(columns={"n": 7})
    one = evals.score(keyed, "answer", "gold")
    assert evals.compare(one, one, key=7).rows_used == evals.compare(one, one, key=[7]).rows_used == 4
    assert "4 rows" in repr(evals.explore(FRAME, by=3, columns=pd.Index(["q"])))


def run_by(columns: Any) -> pd.DataFrame:
    sliced = evals.score(FRAME, "answer", "gold", by=columns).slices
    assert sliced is not None
    return sliced


@pytest.mark.parametrize(
    ("answers", "gold", "words"),
    [
        ([None] * 4, list("abab"), "0 of 4 rows are correct; 4 have no answer and count as wrong"),
        (list("abab"), [None] * 4, "there is no row to count; 4 unlabelled"),
        ([math.nan] * 4, [1.0, 2.0, 3.0, 4.0], "equal 0.0%"),
        ([math.nan] * 4, [math.nan] * 4, "there is no row to count"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_counted_no_sentence_says_nan(answers: Any, gold: Any, words: str) -> None:
    """No answer at all, or no gold: the words say so, and hold no "nan%"."""
    evaluation = evals.score(pd.DataFrame({"p": answers, "g": gold}), "p", "g")
    assert words in repr(evaluation)
    assert "nan" not in repr(evaluation).lower()
    assert "nan" not in evaluation._repr_html_().split("</style>")[1].lower()


def test_complex_numbers_are_shown_and_sliced_by() -> None:
    """A column of complex numbers beside the answers does not keep them from being looked at."""
    waves = FRAME.assign(wave=[1j, 2j, 1j, 3j], same=[1j] * 4)
    assert evals.score(waves, "same", "same").accuracy == 1
    assert evals.score(waves, "answer", "gold", by="wave").slices is not None
    assert "4 rows" in repr(evals.explore(waves, columns=["wave"], by=["same"]))
