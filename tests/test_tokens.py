"""How many tokens a text has."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas import datasets, tokens
from dobatch_pandas.tokens import counter_for


@pytest.fixture
def no_library(monkeypatch):
    """A Python without quicktok."""
    monkeypatch.setitem(sys.modules, "quicktok", None)
    tokens._encoding.cache_clear()
    yield
    tokens._encoding.cache_clear()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("openai-gpt-5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("llama3.3-70b-instruct", "llama3"),
        ("Qwen/Qwen3-32B", "qwen3"),
        ("openai/gpt-oss-120b", "o200k_harmony"),
    ],
)
def test_a_model_with_a_public_vocabulary_is_counted_by_it(model, name):
    """
    The count is exact then, and says by what.
    """
    pytest.importorskip("quicktok")
    counter = counter_for(model)

    assert (counter.name, counter.exact) == (name, True)


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4.7", "gpt-5.4", "smollm2", "echo", "o12"])
def test_a_model_without_a_known_vocabulary_is_an_estimate(model):
    """
    It says that a stand-in counted.
    """
    pytest.importorskip("quicktok")
    counter = counter_for(model)

    assert not counter.exact
    assert "stand-in" in counter.name


def test_counts_are_those_of_the_vocabulary():
    """
    Known numbers, whatever the script; text that looks like a special token is text.
    """
    pytest.importorskip("quicktok")

    assert counter_for("gpt-4o").count(["hello world", "", "tiktoken is great!"]).tolist() == [2, 0, 6]
    assert counter_for("gpt-4").count(["hello world", "", "tiktoken is great!"]).tolist() == [2, 0, 6]
    assert counter_for("gpt-4o").count(["<|endoftext|>"])[0] > 1


def test_without_a_tokenizer_bytes_are_counted_and_the_estimate_says_so(no_library):
    """
    An estimate still comes, and is not called exact.
    """
    counter = counter_for("gpt-4o")

    assert not counter.exact
    assert "no tokenizer is installed" in counter.name
    assert counter.count(["abcd" * 21, "", "é" * 4]).tolist() == [20, 0, 2]


@pytest.mark.parametrize(
    "load", [datasets.load_reviews, datasets.load_movie_reviews, datasets.load_date_understanding]
)
def test_the_estimate_by_bytes_is_as_good_as_it_says(load):
    """
    Within 20 % of the real count on every dataset that ships.
    """
    pytest.importorskip("quicktok")
    texts = load().iloc[:, 0].tolist()

    real, estimated = counter_for("gpt-4o").count(texts).sum(), tokens._ByBytes().count(texts).sum()
    assert estimated == pytest.approx(real, rel=0.20)


@given(st.lists(st.text(max_size=40), max_size=30))
@settings(max_examples=50)
def test_every_text_gets_one_count_whatever_is_in_it(texts):
    """
    Counting many at once is counting each.
    """
    for counter in (counter_for("gpt-4o"), tokens._ByBytes()):
        counts = counter.count(texts)
        assert counts.dtype == np.int64
        assert counts.tolist() == [int(counter.count([text])[0]) for text in texts]


def test_two_hundred_thousand_rows_take_seconds():
    """
    Looking before paying is not a coffee break.
    """
    texts = datasets.load_reviews()["text"].tolist() * 67
    began = time.perf_counter()
    counts = counter_for("gpt-4o").count(texts)

    assert len(counts) == len(texts) > 199_000
    assert time.perf_counter() - began < 100  # a row at a time takes minutes
