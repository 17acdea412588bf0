"""Rules for comparing texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.evals import text


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("The  Cat, sat.", "cat sat"),
        ("ＦＵＬＬ width", "full width"),
        ("Straße", "strasse"),
        ("3.14", "3.14"),
        ("-5", "-5"),
        ("1,000!", "1,000"),
        ("don't", "dont"),
        ("A", "a"),  # an article alone is all there is
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_normalise_drops_case_punctuation_and_articles(written, plain):
    """
    What people would call the same answer becomes the same text, and numbers keep their value.
    """
    assert text.normalise(written) == plain


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_normalising_twice_changes_nothing_for_words(written):
    """
    A text always matches itself, in every way of matching.
    """
    assert text.exact(written, written) == 1
    assert text.normalised(written, written) == 1
    assert text.contains(written, written) == 1
    assert text.token_f1(written, written) == 1


@given(st.lists(st.sampled_from("abcdefg"), max_size=8), st.lists(st.sampled_from("bcdefgh"), max_size=8))
@settings(max_examples=80, deadline=None)
def test_token_f1_is_the_harmonic_mean_of_its_precision_and_recall(ours, gold):
    """
    Token F1 is symmetric, lies between 0 and 1, and is what its definition says.
    """
    a, b = " ".join(ours), " ".join(gold)
    found = text.token_f1(a, b)
    assert found == text.token_f1(b, a)
    mine, theirs = text.normalise(a).split(), text.normalise(b).split()
    common = sum(min(mine.count(word), theirs.count(word)) for word in set(mine))
    if common:
        precision, recall = common / len(mine), common / len(theirs)
        assert found == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert found == float(mine == theirs)


def test_contains_wants_whole_words():
    """
    "art" is not in "party".
    """
    assert text.contains("it was a party", "art") == 0
    assert text.contains("modern art, I say", "Art") == 1
