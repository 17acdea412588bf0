"""Datasets that ship with the package."""

from __future__ import annotations

from importlib import resources

import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import datasets


def test_reviews_have_text_rating_and_a_label_that_follows_from_the_rating():
    """
    Every row is usable as it is: no empty text, no doubtful label.
    """
    frame = datasets.load_reviews()

    assert list(frame.columns) == ["text", "rating", "label"]
    assert len(frame) == 2977
    assert (frame["text"].str.len() > 0).all()
    assert not frame["text"].duplicated().any()
    assert (frame["rating"].abs() >= 0.5).all()
    assert ((frame["rating"] > 0) == (frame["label"] == "pos")).all()


@pytest.mark.parametrize("load", [datasets.load_reviews, datasets.load_movie_reviews])
@pytest.mark.parametrize("n", [10, 11, None])
def test_balanced_rows_have_both_labels_equally_often(load, n):
    """
    Chance is 50 % then, so accuracies are easy to read.
    """
    labels = load(n, balanced=True)["label"].value_counts()

    assert abs(labels["pos"] - labels["neg"]) <= 1
    if n:
        assert labels.sum() == n


def test_the_first_rows_are_the_same_every_time():
    """
    A notebook shows the same numbers on every machine, and both labels from the start.
    """
    first = datasets.load_reviews(40)

    assert first.equals(datasets.load_reviews().head(40))
    assert set(first["label"]) == {"pos", "neg"}


def test_date_questions_have_their_answer_among_the_choices():
    """
    The choices are lists, and the right one is there.
    """
    frame = datasets.load_date_understanding()

    assert len(frame) == 369
    assert all(answer in choices for answer, choices in zip(frame["answer"], frame["choices"], strict=True))


def test_more_rows_than_there_are_is_an_error_with_the_number():
    """
    Nobody gets fewer rows than asked for without noticing.
    """
    with pytest.raises(dobatch.InputError, match="2,977"):
        datasets.load_reviews(5000)


def test_every_file_names_its_licence():
    """
    What ships has its source and terms beside it, and stays small.
    """
    folder = resources.files("dobatch_pandas") / "data"
    terms = (folder / "LICENSES.md").read_text()
    files = [file for file in folder.iterdir() if file.name.endswith((".gz", ".csv"))]

    assert files
    assert all(file.name in terms for file in files)
    assert sum(len(file.read_bytes()) for file in files) < 300_000
