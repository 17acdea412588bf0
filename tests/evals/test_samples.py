"""Repeated answers: all that were paid for count, and no column counts for its name alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, score


def sampled(
    rows: int = 60, samples: int = 5, share: float = 0.7, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = rng.random((samples, rows)) < rng.beta(2 * share, 2 - 2 * share, rows)
    columns = {"r" if not n else f"r_{n + 1}": np.where(line, "a", "b") for n, line in enumerate(right)}
    return pd.DataFrame({"g": "a", **columns}), right


def test_every_sample_counts():
    """
    Accuracy is the mean over all samples, with what a majority and one of five come to beside it.
    """
    frame, right = sampled()
    found = score(frame, "r", "g", kind="labels", samples=5)
    assert found.accuracy == pytest.approx(right.mean())
    assert found["majority"] == pytest.approx((right.sum(axis=0) >= 3).mean())
    assert found["pass@5"] == pytest.approx(right.any(axis=0).mean())
    assert found.samples["accuracy"].tolist() == pytest.approx(right.mean(axis=1).tolist())
    assert found.rows["share"].tolist() == pytest.approx(right.mean(axis=0).tolist())
    low, high = found.interval
    alone = score(frame, "r", "g", kind="labels").interval
    assert low < right.mean() < high
    assert high - low < alone[1] - alone[0]
    assert "mean of 5 samples" in repr(found)


def test_samples_count_as_asked():
    """
    The majority's answer, or one right answer of many, may decide instead.
    """
    frame, right = sampled()
    most = score(frame, "r", "g", kind="labels", samples=5, reduce="majority")
    best = score(frame, "r", "g", kind="labels", samples=5, reduce="any")
    assert most.accuracy == (right.sum(axis=0) >= 3).mean()
    assert best.accuracy == right.any(axis=0).mean()
    assert most["mean"] == pytest.approx(right.mean())
    with pytest.raises(InputError, match="reduce='any'"):
        compare(best, score(frame, "r", "g", kind="labels"))


def test_pass_at_k_is_unbiased():
    """
    pass@k is the share of all choices of k samples of which one is right.
    """
    frame, right = sampled(rows=20)
    found = score(frame, "r", "g", kind="labels", samples=5)
    for k in range(1, 6):
        expected = np.mean(
            [[right[list(chosen), row].any() for chosen in combinations(range(5), k)] for row in range(20)]
        )
        value, low, high = found.pass_at(k)
        assert value == pytest.approx(expected)
        assert low < high
    with pytest.raises(InputError, match="from 1 to 5"):
        found.pass_at(6)


def test_the_interval_of_samples_covers_what_it_says():
    """
    In 300 simulations the interval over rows and samples holds the truth 93 % of the time at least.
    """
    held = 0
    for seed in range(300):
        frame, _ = sampled(rows=40, samples=3, seed=seed)
        low, high = score(frame, "r", "g", kind="labels", samples=3).interval
        held += low <= 0.7 <= high
    assert 0.93 <= held / 300 <= 0.99


def test_a_column_of_mine_is_no_sample():
    """
    answer_2 is counted only where I say so; else I am told that it is not.
    """
    frame = pd.DataFrame({"answer": ["x", "y"] * 20, "answer_2": ["z", "w"] * 20, "g": ["x", "y"] * 20})
    found = score(frame, "answer", "g", kind="labels")
    assert found.noise is None
    assert any(note.startswith("answer_2 not counted") for note in found.notes)
    assert score(frame, "answer", "g", kind="labels", samples=2).noise.answers == 1
    assert not any(
        "not counted" in note for note in score(frame, "answer", "g", kind="labels", samples=1).notes
    )
    with pytest.raises(InputError, match="There is no column 'answer_3'"):
        score(frame, "answer", "g", samples=3)


def test_failed_samples_count_as_wrong_or_not_at_all():
    """
    A sample without an answer is a wrong one, or no sample, as failed= says.
    """
    frame = pd.DataFrame({"r": ["a", None], "r_2": [None, None], "r_3": ["b", "a"], "g": ["a", "a"]})
    wrong = score(frame, "r", "g", kind="labels", samples=3)
    assert wrong.rows["share"].tolist() == pytest.approx([1 / 3, 1 / 3])
    out = score(frame, "r", "g", kind="labels", samples=3, failed="exclude")
    assert out.rows["share"].tolist() == [0.5, 1.0]
    assert out.noise.pairs == 1


def test_samples_of_numbers_and_scores_are_averaged():
    """
    MAE and mean scores are over all samples, in score and in compare.
    """
    rng = np.random.default_rng(0)
    gold = rng.normal(size=50)
    answers = gold + rng.normal(size=(3, 50))
    frame = pd.DataFrame({"g": gold, "r": answers[0], "r_2": answers[1], "r_3": answers[2], "s": gold + 0.1})
    found = score(frame, "r", "g", samples=3)
    assert found["mae"] == pytest.approx(np.abs(answers - gold).mean())
    compared = compare(found, score(frame, "s", "g"))
    assert compared.table.loc["r", "value"] == pytest.approx(np.abs(answers - gold).mean())


def test_compare_uses_every_sample():
    """
    Five samples a row tell a difference that one does not.
    """
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": ["a"] * 120})
    for name, share in (("p", 0.6), ("q", 0.72)):
        for n in range(5):
            frame[name if not n else f"{name}_{n + 1}"] = np.where(rng.random(120) < share, "a", "b")
    one = compare(*(score(frame, n, "g", kind="labels", samples=1) for n in "pq"))
    five = compare(*(score(frame, n, "g", kind="labels", samples=5) for n in "pq"))
    width = [c.table.iloc[1]["difference_high"] - c.table.iloc[1]["difference_low"] for c in (one, five)]
    assert width[1] < 0.7 * width[0]
    assert five.verdict_sign == 1
    assert five.test == "permutation"
    assert five.noise.samples == 5
