"""`compare`: paired statistics are scipy's and statsmodels', and nothing is paired by guess."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, score, significance


def runs(rows: int = 300, accuracies: tuple[float, ...] = (0.6, 0.75), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["neg", "pos"], rows)
    other = np.where(gold == "neg", "pos", "neg")
    columns = {
        f"run_{name}": np.where(rng.random(rows) < share, gold, other)
        for name, share in zip("abcdef", accuracies, strict=False)
    }
    columns |= {
        "gold": gold,
        "lang": rng.choice(["de", "en", "fr"], rows, p=[0.4, 0.55, 0.05]),
        "id": np.arange(rows),
    }
    return pd.DataFrame(columns)


def scored(frame: pd.DataFrame, *names: str, **options):
    return [score(frame, f"run_{name}", "gold", kind="labels", **options) for name in names]


def test_the_difference_and_its_p_are_those_of_statsmodels():
    """
    Difference, wins, losses and McNemar's exact p are what the libraries say of the same rows.
    """
    frame = runs()
    found = compare(*scored(frame, "a", "b"))
    a, b = ((frame[f"run_{name}"] == frame["gold"]).to_numpy(float) for name in "ab")
    line = found.table.loc["run_b"]
    crossed = pd.crosstab(a, b).loc[[1, 0], [1, 0]]

    assert line["difference"] == pytest.approx(b.mean() - a.mean())
    assert line["p"] == pytest.approx(mcnemar(crossed, exact=True).pvalue)
    np.testing.assert_array_equal(found.crossed.to_numpy(), crossed.to_numpy())
    assert (line["wins"], line["losses"]) == (crossed.loc[0, 1], crossed.loc[1, 0])
    expected = significance.tango(line["wins"], line["losses"], 300, 0.95)
    assert (line["difference_low"], line["difference_high"]) == pytest.approx(expected)


def test_a_clear_difference_is_said_in_one_sentence():
    """
    When B is better by more than noise, the sentence says so with the numbers.
    """
    found = compare(*scored(runs(1000, (0.6, 0.75)), "a", "b"))
    assert found.verdict_sign == 1
    assert found.verdict.startswith("run_b is better than run_a: ")
    assert "McNemar p" in found.verdict
    assert found.table.loc["run_b", "verdict"] == "better"
    assert compare(*scored(runs(1000, (0.75, 0.6)), "a", "b")).verdict_sign == -1


def test_a_small_difference_comes_with_the_rows_that_would_tell():
    """
    When nothing can be told, I learn how many rows it would take.
    """
    found = compare(*scored(runs(120, (0.7, 0.74), seed=3), "a", "b"))
    assert found.verdict_sign == 0
    assert "cannot be told apart" in found.verdict
    assert "rows would be needed" in found.verdict
    assert 120 < found.needed[0] <= found.needed_as_seen <= found.needed[1]


def test_a_run_against_itself_has_no_difference():
    """
    The same answers twice: no difference, no crash, and it says so.
    """
    a, again = scored(runs(), "a", "a")
    found = compare(a, again, names=["a", "b"])
    assert "no difference to tell" in found.verdict
    line = found.table.loc["b"]
    assert line["difference"] == 0
    assert line["difference_low"] < 0 < line["difference_high"]
    assert found.differ().empty


@pytest.mark.parametrize(("difference", "discordant"), [(0.1, 0.3), (0.05, 0.2), (0.08, 0.5), (0.06, 0.06)])
def test_the_rows_needed_reach_the_power_asked_for(difference, discordant):
    """
    With the rows that are named, the very test that is used finds the difference in 80 % of 20,000 trials.
    """
    rows = int(significance.rows_needed(difference, discordant, alpha=0.05, power=0.8))
    rng = np.random.default_rng(0)
    win, loss = (discordant + difference) / 2, max(0.0, (discordant - difference) / 2)
    counts = rng.multinomial(rows, [win, loss, 1 - win - loss], size=20_000)[:, :2]
    pairs, times = np.unique(counts, axis=0, return_counts=True)
    told = np.array([significance.mcnemar_p(int(w), int(loss)) < 0.05 for w, loss in pairs])
    assert np.sum(told * times) / 20_000 == pytest.approx(0.8, abs=0.025)
    assert significance.detectable(rows, discordant, alpha=0.05, power=0.8) == pytest.approx(
        difference, rel=0.03
    )


def test_the_rows_needed_for_numbers_are_statsmodels():
    """
    For errors of numbers the power calculation is statsmodels' paired t test.
    """
    difference = np.random.default_rng(2).normal(0.2, 1, 50)
    mean, spread = difference.mean(), difference.std(ddof=1)
    expected = math.ceil(TTestPower().solve_power(effect_size=abs(mean) / spread, alpha=0.05, power=0.8))
    assert significance.rows_needed_for_mean(mean, spread, alpha=0.05, power=0.8) == expected


def test_more_runs_are_a_table_with_corrected_p():
    """
    Three runs against the first: a line each, p corrected by Holm's method.
    """
    found = compare(*scored(runs(400, (0.6, 0.75, 0.62)), "a", "b", "c"))
    p = found.table["p"].dropna()
    assert list(found.table.index) == ["run_a", "run_b", "run_c"]
    assert found.table["p_holm"].dropna().tolist() == pytest.approx(
        multipletests(p, method="holm")[1].tolist()
    )
    assert found.verdict == "On 400 rows, run_b is better than run_a; run_c is not told apart from run_a"


def test_rows_are_paired_by_index_whatever_the_order():
    """
    A shuffled frame gives the same comparison: rows find each other by their label.
    """
    frame = runs()
    a, b = scored(frame, "a", "b")
    shuffled = score(frame.sample(frac=1, random_state=1), "run_b", "gold", kind="labels")
    assert compare(a, shuffled).table.equals(compare(a, b).table)


def test_rows_are_paired_by_key_columns():
    """
    With key= the index does not matter.
    """
    frame = runs()
    other = frame.sample(frac=1, random_state=1).set_index(pd.Index([0] * len(frame)))
    found = compare(*scored(frame, "a"), *scored(other, "b"), key="id")
    assert found.table.equals(compare(*scored(frame, "a", "b")).table)
    assert found.rows.index.name == "id"
    two = compare(*scored(frame, "a"), *scored(other, "b"), key=["id", "lang"])
    assert two.table.equals(found.table)


def test_rows_that_are_not_in_both_are_counted_and_shown():
    """
    A row that only one run has, or that nobody labelled, takes no part and is listed with its reason.
    """
    frame = runs(100)
    part = frame.iloc[10:].copy()
    part.loc[20, "gold"] = None
    found = compare(*scored(frame, "a"), *scored(part, "b"))
    assert found.rows_used == 89
    assert found.unmatched["run_b"].value_counts().to_dict() == {"absent": 10, "unlabelled": 1}
    assert "11 rows could not be paired: 10 absent in run_b, 1 unlabelled in run_b." in found.notes


@pytest.mark.parametrize(
    "labels",
    [
        [None, *range(1, 20)],
        [[n] for n in range(20)],
        [{"id": n} for n in range(20)],
        [pd.NaT, *pd.date_range("2024", periods=19)],
    ],
    ids=["one is missing", "lists", "dicts", "dates"],
)
def test_rows_are_paired_by_labels_of_any_kind(labels):
    """
    One label may be missing, whatever the runs' types make of that, and lists and dicts tell rows apart too.
    """
    frame = runs(20)
    frame["key"] = pd.Series(labels, dtype=object)
    other = frame.sample(frac=1, random_state=0)
    other["key"] = other["key"].infer_objects()
    for key in ("key", ["key", "id"]):
        one, two = (
            score(part, f"run_{n}", "gold", kind="labels") for part, n in ((frame, "a"), (other, "b"))
        )
        found = compare(one, two, key=key)
        assert len(found.rows) == 20
        again = compare(*scored(frame, "a", "b"))
        assert found.table.loc["run_b", "difference"] == again.table.loc["run_b", "difference"]


class Odd:
    __hash__ = None  # type: ignore[assignment]


def test_labels_that_pandas_cannot_tell_apart_are_an_error_of_ours():
    """
    Some values can be looked up nowhere: I am told what to make of them.
    """
    frame = runs(4)
    frame["key"] = pd.Series([Odd() for _ in range(4)], dtype=object)
    for key in ("key", ["key", "id"]):
        with pytest.raises(InputError, match="Make texts of it"):
            compare(*scored(frame, "a", "b"), key=key)


def test_an_interval_holds_what_was_seen_at_any_confidence():
    """
    Also where few rows all differ, and a low confidence asks for a narrow one.
    """
    frame = pd.DataFrame({"gold": ["y"] * 12, "run_a": ["n"] * 12, "run_b": ["y"] * 11 + ["n"]})
    for confidence in (0.05, 0.5, 0.8, 0.99):
        line = compare(*scored(frame, "a", "b"), confidence=confidence).table.loc["run_b"]
        assert line["difference_low"] <= line["difference"] <= line["difference_high"]


def test_repeated_keys_are_an_error_that_names_them():
    """
    Rows that cannot be told apart are never paired by position in silence.
    """
    frame = runs(50)
    frame.index = [0, 0, *range(2, 50)]
    with pytest.raises(InputError, match=r"index repeats in run 1 .*key="):
        compare(*scored(frame, "a", "b"))


def test_different_gold_is_an_error():
    """
    When the two runs were scored against different truths, the rows are named.
    """
    frame = runs(50)
    changed = frame.assign(gold=np.where(frame.index == 7, "other", frame["gold"]))
    with pytest.raises(InputError, match=r"gold answers are not the same.*row 7"):
        compare(*scored(frame, "a"), *scored(changed, "b"))


def test_failed_rows_must_be_treated_alike():
    """
    One run that counts failures against one that leaves them out would not be fair.
    """
    frame = runs(50)
    with pytest.raises(InputError, match="failed is 'wrong' in 'run_a', 'exclude' in 'run_b'"):
        compare(*scored(frame, "a"), *scored(frame, "b", failed="exclude"))


def test_failed_rows_can_be_left_out_of_both():
    """
    With failed="exclude" a row that failed in one run is not compared, and is listed.
    """
    frame = runs(60)
    frame.loc[:4, "run_a"] = None
    found = compare(*scored(frame, "a", "b", failed="exclude"))
    assert found.rows_used == 55
    assert set(found.unmatched["run_a"]) == {"failed, left out"}
    counted = compare(*scored(frame, "a", "b"))
    assert (counted.rows_used, counted.table.loc["run_a", "failed"]) == (60, 5)


def test_slices_have_wins_losses_and_intervals():
    """
    Wins and losses of the slices add up to those of all rows.
    """
    found = compare(*scored(runs(400), "a", "b"), by="lang")
    assert found.slices["wins"].sum() == found.table.loc["run_b", "wins"]
    assert found.slices["losses"].sum() == found.table.loc["run_b", "losses"]
    assert found.slices["rows"].sum() == 400
    assert found.slices.set_index("slice")["small"].to_dict() == {"de": False, "en": False, "fr": True}


def test_the_rows_that_differ_say_how():
    """
    I can look at what was won, what was lost, and where both are wrong in another way.
    """
    frame = pd.DataFrame({"run_a": list("xxyz"), "run_b": list("xyxy"), "gold": list("xyxx")})
    found = compare(*scored(frame, "a", "b"))
    assert found.rows["change"].tolist() == ["same", "win", "win", "other answer"]
    assert found.differ("other answer").index.tolist() == [3]
    with pytest.raises(InputError, match="is not one of"):
        found.differ("wins")
    assert list(found.rows.columns) == [
        "actual",
        "run_a",
        "run_a_outcome",
        "run_b",
        "run_b_outcome",
        "change",
    ]


def test_repeated_samples_are_the_noise_to_beat():
    """
    Where requests were repeated, the difference has to be larger than what repeating alone gives.
    """
    frame = runs(400, (0.7, 0.76), seed=4)
    rng = np.random.default_rng(1)
    other = np.where(frame["run_a"] == "neg", "pos", "neg")
    frame["run_a_2"] = np.where(rng.random(400) < 0.06, other, frame["run_a"])
    a, b = *scored(frame, "a", samples=2), *scored(frame, "b")
    found = compare(a, b)
    assert found.noise.pairs == 400
    assert found.noise.outcomes == a.noise.outcomes
    changed = round(a.noise.outcomes * 400)
    assert found.noise_band == (2 * stats.binom.ppf(0.975, changed, 0.5) - changed) / 400
    assert "Asked again" in found.notes[0]


def test_noise_that_is_larger_than_the_difference_decides():
    """
    A difference that is significant by itself, yet within what repeating gives, is not called better.
    """
    wins, losses, rows = 270, 210, 2000
    right_a = np.arange(rows) >= wins
    right_b = (np.arange(rows) < wins) | (np.arange(rows) >= wins + losses)
    frame = pd.DataFrame({"run_a": right_a, "run_b": right_b}).astype(str).assign(gold="True")
    a, b = scored(frame, "a", "b")
    assert compare(a, b).verdict_sign == compare(a, b, noise=0.05).verdict_sign == 1
    loud = compare(a, b, noise=1.0)
    assert loud.table["p"].iloc[1] < 0.05
    assert loud.verdict_sign == 0
    assert "asking again gives" in loud.verdict


def test_noise_can_be_the_evaluation_of_a_repeated_run():
    """
    A second run of A, scored, is a baseline too.
    """
    frame = runs(200).assign(run_c=lambda f: np.where(f.index < 10, "nothing", f["run_a"]))
    a, b, again = scored(frame, "a", "b", "c")
    found = compare(a, b, noise=again)
    assert found.noise.answers == 10 / 200
    with pytest.raises(InputError, match="share of rows"):
        compare(a, b, noise=3)


def test_numbers_are_compared_by_their_errors():
    """
    For numbers the mean absolute error is compared, lower is better, and failed rows are listed.
    """
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"gold": rng.normal(size=100)})
    frame["p"], frame["q"] = frame["gold"] + rng.normal(size=100), frame["gold"] + 0.2 * rng.normal(size=100)
    frame.loc[3, "p"] = np.nan
    found = compare(score(frame, "p", "gold"), score(frame, "q", "gold"))
    kept = frame.dropna()
    expected = (kept["q"] - kept["gold"]).abs().mean() - (kept["p"] - kept["gold"]).abs().mean()
    assert (found.metric, found.rows_used) == ("mae", 99)
    assert found.table.loc["q", "difference"] == pytest.approx(expected)
    assert found.verdict_sign == 1
    assert "1 row could not be paired: 1 failed in a run" in found.notes[-1]


def test_nothing_in_common_is_said():
    """
    No row in both runs: a sentence, not a crash.
    """
    frame = runs(40)
    found = compare(*scored(frame.iloc[:20], "a"), *scored(frame.iloc[20:], "b"))
    assert found.verdict == "No row is in every run, so there is nothing to compare"
    assert len(found.unmatched) == 40
    assert found._repr_html_()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_two_runs_can_be_compared(pairs):
    """
    Whatever is right and wrong, p is McNemar's, the interval holds the difference, and there is a sentence.
    """
    frame = pd.DataFrame(pairs, columns=["run_a", "run_b"]).astype(str).assign(gold="True")
    found = compare(*scored(frame, "a", "b"), resamples=500)
    line = found.table.loc["run_b"]
    a, b = frame["run_a"] == "True", frame["run_b"] == "True"
    table = [[sum(a & b), sum(a & ~b)], [sum(~a & b), sum(~a & ~b)]]
    assert line["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert line["difference_low"] < line["difference_high"]
    outside = line["difference_low"] > 0 or line["difference_high"] < 0
    assert outside == (line["verdict"] != "not told")
    assert line["difference_low"] <= line["difference"] + 1e-9
    assert line["difference"] <= line["difference_high"] + 1e-9
    assert found.verdict


@pytest.mark.parametrize(
    "options",
    [
        {"by": "zz"},
        {"confidence": 95},
        {"power": 0},
        {"resamples": 0},
        {"metric": "f1"},
        {"names": ["one"]},
        {"key": "zz"},
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_errors_of_ours(options):
    """
    A column that is not there, or a confidence of 95, is told in words.
    """
    with pytest.raises(InputError):
        compare(*scored(runs(40), "a", "b"), **options)
    with pytest.raises(InputError, match="not int"):
        compare(scored(runs(40), "a")[0], 5)
