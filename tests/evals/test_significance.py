"""Intervals and tests: held against published examples, the libraries, and what they promise."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from evals.coverage_of_intervals import (
    ALIKE,
    BEGIN,
    BOTH,
    CLUSTERED_MEANS,
    CLUSTERS,
    DOCS,
    DRAWS,
    END,
    ERRORS,
    LEVELS,
    PAIRED_MEANS,
    ROWS,
    SHARES,
    TIMES,
    false_alarms,
    noise,
    of_clustered_difference,
    of_clusters,
    of_difference,
    of_mean,
    of_paired_mean,
    of_share,
)
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, score, significance

# Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009) and complete response before and
# after consolidation (Cavo et al. 2012), the worked examples of Fagerland, Lydersen and Laake, "Statistical Analysis of
# Contingency Tables" (2017), chapter 8.
CAVO = (6, 16, 161)


def runs(rows=200, shares=(0.7, 0.7), seed=0, **columns):
    rng = np.random.default_rng(seed)
    names = "abcdefghij"[: len(shares)]
    frame = {
        name: np.where(rng.random(rows) < share, "x", "y") for name, share in zip(names, shares, strict=True)
    }
    return pd.DataFrame({**frame, "g": "x", **columns})


def test_the_score_interval_is_that_of_the_textbook():
    """
    Tango's interval of 6 wins and 16 losses in 161 pairs is -0.1240 to -0.0054, McNemar's exact p 0.052479.
    """
    assert significance.tango(*CAVO, 0.95) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert significance.mcnemar_p(*CAVO[:2]) == pytest.approx(0.052479, abs=1e-6)


def test_the_adjusted_interval_is_its_definition():
    """
    Bonett and Price's interval is Wald's with one row of each sort added.
    """
    won, lost = 7 / 163, 17 / 163
    half = stats.norm.ppf(0.975) * math.sqrt((won + lost - (won - lost) ** 2) / 163)
    assert significance.bonett_price(*CAVO, 0.95) == pytest.approx((won - lost - half, won - lost + half))


@pytest.mark.parametrize(("successes", "rows"), [(0, 10), (3, 10), (10, 10), (1, 99), (40, 80)])
def test_the_mid_p_interval_lies_within_the_exact_one(successes, rows):
    """
    On few rows both ends leave a tail of 2.5 %, half of what was seen counted; Clopper and Pearson's is wider.
    """
    _, low, high = significance.share(successes, rows, 0.95)
    outer = proportion_confint(successes, rows, method="beta")
    assert outer[0] <= low <= successes / rows <= high <= outer[1]
    if successes:
        tail = stats.binom.sf(successes, rows, low) + stats.binom.pmf(successes, rows, low) / 2
        assert tail == pytest.approx(0.025)
    if successes < rows:
        tail = stats.binom.cdf(successes - 1, rows, high) + stats.binom.pmf(successes, rows, high) / 2
        assert tail == pytest.approx(0.025)


@pytest.mark.parametrize("rows", [1, 10, 30, 99])
def test_shares_of_rows_have_an_interval_too(rows):
    """
    Repeated answers make a row half right: its interval lies between those of whole rows, also beside none and all.
    """
    before = (-1.0, -1.0)
    for successes in (0, 1e-15, 0.2, 0.5, 0.9, rows - 0.9, rows - 0.5, rows - 0.1, rows - 1e-14, rows):
        value, low, high = significance.share(successes, rows, 0.95)
        assert 0 <= low <= value <= high <= 1
        assert low < high
        if rows > 1:
            assert (low, high) >= before
            before = (low, high)


def test_one_wrong_sample_of_many_rows_is_scored():
    """
    29 and a half of 30 rows.
    """
    frame = pd.DataFrame({"gold": ["yes it is", "no"] * 15, "said": ["yes it is", "no"] * 15})
    frame["said_2"] = ["no", *frame["said"][1:]]
    found = score(frame, "said", "gold", kind="labels", samples=2)
    assert found.accuracy == pytest.approx(29.5 / 30)
    assert found.interval[0] < found.accuracy < found.interval[1]


@pytest.mark.parametrize(("successes", "rows"), [(0, 100), (37, 100), (999, 1000)])
def test_the_interval_of_many_rows_is_wilsons(successes, rows):
    """
    From 100 rows on it is the interval of statsmodels and scipy.
    """
    found = significance.share(successes, rows, 0.95)[1:]
    assert found == pytest.approx(proportion_confint(successes, rows, method="wilson"))


def test_the_permutation_test_is_scipys():
    """
    With few rows every change of signs is tried, as scipy does.
    """
    rng = np.random.default_rng(0)
    a, b = rng.exponential(1, 11), rng.exponential(1.6, 11)
    expected = stats.permutation_test(
        (a, b), lambda x, y: np.mean(y - x), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = significance.paired(a, b)
    assert found.test == "permutation"
    assert found.p == pytest.approx(expected)
    many = significance.paired(*rng.normal(size=(2, 800)))
    assert many.test == "t"


def test_the_interval_of_symmetric_means_is_students():
    """
    Where differences are not skewed the paired interval is scipy's, and from 500 rows on its p.
    """
    rng = np.random.default_rng(1)
    for rows in (30, 700):
        half = rng.normal(0, 1, rows // 2)
        b = np.concatenate([0.1 + half, 0.1 - half])
        found, expected = significance.paired(np.zeros(rows), b), stats.ttest_rel(b, np.zeros(rows))
        assert found.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        if rows > 500:
            assert found.p == pytest.approx(expected.pvalue)


def test_the_interval_of_skewed_means_reaches_as_far_as_halls_transformation():
    """
    Of errors each end is scipy's or that at which the skewness-adjusted t is at its quantile, the further one.
    """
    rng = np.random.default_rng(2)
    errors = rng.exponential(1, 25)
    value, low, high = significance.mean_interval(errors, 0.95)
    plain = stats.t.interval(0.95, 24, errors.mean(), stats.sem(errors))
    assert value == pytest.approx(errors.mean())
    assert low == pytest.approx(plain[0])
    assert high > plain[1]
    # Hall (1992): t + g t^2 / 3 + g^2 t^3 / 27 + g / 6, with g the skewness over the root of the rows.
    t = (errors.mean() - high) / stats.sem(errors)
    g = stats.skew(errors, bias=False) / math.sqrt(25)
    adjusted = t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6
    assert adjusted == pytest.approx(stats.t.ppf(0.025, 24))


def test_a_mean_of_equal_errors_claims_no_width():
    """
    Twenty errors of the same size say nothing of how large others are: no interval, rather than one of no width.
    """
    assert np.isnan(significance.mean_interval(np.zeros(20), 0.95)[1:]).all()
    frame = pd.DataFrame({"a": [1.5] * 20, "g": [1.5] * 20})
    table = score(frame, "a", "g", kind="numbers").table
    assert table.loc["mae", "value"] == 0
    assert table.loc["mae", ["low", "high"]].isna().all()


def test_clusters_widen_the_intervals_of_means_too():
    """
    MAE, days off, token F1, Jaccard's index and pass@k: ten rows a document are not ten documents.
    """
    rng = np.random.default_rng(8)
    doc = np.repeat(np.arange(20), 10)
    hard = rng.uniform(0, 4, 20)[doc]
    gold = rng.normal(0, 9, 200)
    frame = pd.DataFrame({"g": gold, "a": gold + rng.normal(0, 0.3, 200) + hard, "doc": doc})
    alone, together = (score(frame, "a", "g", cluster=column).table.loc["mae"] for column in (None, "doc"))
    assert together["value"] == alone["value"]
    assert together["high"] - together["low"] > 1.5 * (alone["high"] - alone["low"])
    sums = np.bincount(doc, weights=np.abs(frame["a"] - frame["g"]) - alone["value"])
    robust = math.sqrt(20 / 19 * np.sum(sums**2)) / 200
    assert alone["value"] - together["low"] == pytest.approx(stats.t.ppf(0.975, 19) * robust)

    right = rng.random((3, 200)) < (hard / 4)
    answers = {name: np.where(right[n], "x", "y") for n, name in enumerate(["b", "b_2", "b_3"])}
    asked = frame.assign(**answers, word="x")
    widths = []
    for column in (None, "doc"):
        run = score(asked, "b", "word", kind="labels", samples=3, cluster=column)
        widths.append(
            [np.diff(run.pass_at(2)[1:])[0], *np.diff(run.table.loc[["consistency"], ["low", "high"]])[0]]
        )
    assert widths[1][0] > 1.5 * widths[0][0]


def test_clustered_errors_are_those_of_statsmodels():
    """
    The standard error of a difference in clusters is the cluster-robust one of a regression on a constant.
    """
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(40), 8)
    difference = rng.normal(0.2, 1, 320) + rng.normal(0, 1, 40)[codes]
    robust = OLS(difference, np.ones(320)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}
    )
    found = significance.paired(np.zeros(320), difference, codes=codes)
    assert found.spread == pytest.approx(robust.bse[0] * math.sqrt(40 / 39))
    assert found.clusters == 40


def test_holms_levels_go_with_its_p():
    """
    p is statsmodels', and what is told has an interval without 0 at the level it was decided at.
    """
    p = [0.001, 0.02, 0.3, math.nan, 0.024]
    corrected, levels = significance.holm(p, 0.05)
    known = [0, 1, 2, 4]
    assert corrected[known].tolist() == pytest.approx(
        multipletests(np.array(p)[known], method="holm")[1].tolist()
    )
    assert math.isnan(corrected[3])
    assert levels[known].tolist() == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3])


def test_how_alike_rows_are_is_the_anova():
    """
    The intraclass correlation's p is that of scipy's analysis of variance.
    """
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(12), 5)
    values = rng.normal(0, 1, 60) + rng.normal(0, 1, 12)[codes]
    _, p = significance.intraclass(values, codes)
    assert p == pytest.approx(stats.f_oneway(*(values[codes == c] for c in range(12))).pvalue)


@pytest.mark.parametrize("rows", [5, 20, 50, 100, 200])
@pytest.mark.parametrize("truth", [0.02, 0.1, 0.5, 0.95])
def test_the_accuracy_interval_covers_what_it_says(rows, truth):
    """
    The 95 % interval holds the truth 93 % of the time at least, and from 100 rows on 97.5 % at most.
    """
    covered = of_share(rows, truth)
    assert covered >= 0.93
    assert rows < 100 or covered <= 0.975


@pytest.mark.parametrize(("win", "loss"), [(0.01, 0.0), (0.02, 0.01), (0.05, 0.02), (0.3, 0.3)])
@pytest.mark.parametrize("rows", [10, 50, 100])
def test_the_paired_interval_covers_what_it_says(rows, win, loss):
    """
    Also where few rows differ, the interval holds the true difference, and equals are not told apart.
    """
    covered, told = of_difference(rows, win, loss)
    assert covered >= 0.93
    if win == loss:
        assert told <= 0.05


@pytest.mark.parametrize(("first", "second"), [(0.01, 0.05), (0.01, 0.1), (0.7, 0.8)])
def test_the_paired_interval_in_clusters_covers_what_it_says(first, second):
    """
    Also where few documents hold a right answer at all, which Student's interval gets wrong.
    """
    covered, _ = of_clustered_difference(10, first, second, 0.3, 600)
    assert covered >= 0.93


def test_the_paired_interval_in_clusters_is_the_plain_one_of_rows_of_their_own():
    """
    In clusters of one row it lies close to the score interval, and it turns with the runs.
    """
    rng = np.random.default_rng(4)
    first, second = (rng.random((2, 1_000)) < [[0.6], [0.7]]).astype(float)
    codes = np.arange(1_000)
    low, high = significance.clustered_difference(first, second, codes, 0.95)
    wins, losses = ((second > first).sum(), (second < first).sum())
    assert (low, high) == pytest.approx(significance.tango(int(wins), int(losses), 1_000, 0.95), abs=0.002)
    turned = significance.clustered_difference(second, first, codes, 0.95)
    assert turned == pytest.approx((-high, -low))


def test_the_clustered_interval_covers_what_it_says():
    """
    Ten rows a document, twenty documents: the interval is as wide as it has to be.
    """
    assert 0.93 <= of_clusters(20, 0.7, 1 / 3, 1_000) <= 0.975


@pytest.fixture(scope="module")
def told():
    """The tables of the docs by what stands above them: a dict of (line, head) and the figure."""
    text = DOCS.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    tables = {}
    for title, body in re.findall(r"\*\*(.+?)\*\*[^|]+((?:\|.*\n?)+)", text):
        head, _, *lines = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()
        )
        tables[title] = {
            (line[0], name): float(cell.rstrip("%"))
            for line in lines
            for name, cell in zip(head[1:], line[1:], strict=True)
            if cell != "–"
        }
    return tables


@pytest.mark.parametrize(
    ("title", "cells"),
    [
        ("The accuracy's 95 % interval", len(ROWS) * len(SHARES)),
        ("The 95 % interval of a paired difference", len(ROWS) * 8),
        ("The same between equal runs", len(ROWS) * 5),
        ("Rows in clusters of ten", len(ALIKE) * len(CLUSTERS) * len(LEVELS)),
        ("A paired difference in clusters of ten", len(ALIKE) * len(CLUSTERS) * len(BOTH)),
        ("A mean error's 95 % interval", len(ROWS) * len(ERRORS)),
        ("The 95 % interval of a paired difference of means", len(ROWS) * len(PAIRED_MEANS)),
        ("The same in clusters of ten", len(CLUSTERS) * len(CLUSTERED_MEANS)),
    ],
)
def test_every_interval_of_the_docs_covers_93_percent(told, title, cells):
    """
    No cell of a table lies below 93 %.
    """
    assert len(told[title]) == cells
    assert min(told[title].values()) >= 93.0


def test_intervals_of_many_rows_are_no_wider_than_they_have_to_be(told):
    """
    At most 97.5 % from 100 rows on, but for what the docs name: few differing rows, few clusters.
    """
    for (rows, _), covered in told["The accuracy's 95 % interval"].items():
        assert number(rows) < 100 or covered <= 97.5
    for title, least in (
        ("The 95 % interval of a paired difference", 5),
        ("The same between equal runs", 20),
    ):
        for (rows, shares), covered in told[title].items():
            differing = number(rows) * sum(map(int, re.findall(r"\d+", shares))) / 100
            assert number(rows) < 100 or differing < least or covered <= 97.5, (title, rows, shares)
        assert all(covered <= 97.5 for (rows, _), covered in told[title].items() if rows == "1,000")
    for title in (
        "A mean error's 95 % interval",
        "The 95 % interval of a paired difference of means",
        "The same in clusters of ten",
    ):
        for (rows, name), covered in told[title].items():
            rare = "0.02" in name or "0.98" in name
            assert number(rows) < 100 or rare or covered <= 97.5, (title, rows, name)
    for (rows, truth), covered in told["Rows in clusters of ten"].items():
        usual = number(rows.split(", ")[0]) >= 100 and 0.2 <= float(truth) <= 0.8
        assert not usual or covered <= 97.5, (rows, truth)
    for (rows, both), covered in told["A paired difference in clusters of ten"].items():
        usual = number(rows.split(", ")[0]) >= 100 and min(map(float, both.split(", "))) >= 0.3
        usual &= max(map(float, both.split(", "))) <= 0.8
        assert not usual or covered <= 97.5, (rows, both)


def test_equal_runs_are_told_apart_in_5_percent_at_most(told):
    """
    False alarms by enumeration stay below 5 %; simulated ones within two standard errors, and on average.
    """
    alarms = told["False alarms"]
    exact = [cell for (name, _), cell in alarms.items() if name.startswith("accuracy") and "win" in name]
    simulated = {key: cell for key, cell in alarms.items() if "win" not in key[0]}
    assert len(exact) == 25
    assert len(simulated) == 40
    assert max(exact) <= 5.0
    for (name, rows), cell in simulated.items():
        times = TIMES // 4 if name.startswith("nine runs") else TIMES
        assert cell <= 5.0 + 2 * noise(0.05, times), (name, rows)
    mean = np.mean(list(simulated.values()))
    assert mean <= 5.0
    words = f"(at most {max(simulated.values())} %, on average {mean:.1f} %)"
    assert words in DOCS.read_text(encoding="utf-8")


def test_the_docs_have_what_the_code_gives(told):
    """
    Cells are computed again, so a table that was made by other code is found out.
    """
    exact, apart = of_difference(100, 0.05, 0.02)[0], of_difference(100, 0.3, 0.3)[1]
    assert told["The 95 % interval of a paired difference"]["100", "+5% −2%"] == round(100 * exact, 1)
    assert told["False alarms"]["accuracy, 30% win and 30% lose", "100 rows"] == round(100 * apart, 1)
    assert told["The accuracy's 95 % interval"]["30", "0.1"] == round(100 * of_share(30, 0.1), 1)
    found = {
        ("Rows in clusters of ten", "200, 0.3", "0.5"): of_clusters(20, 0.5, 0.3, TIMES),
        ("A paired difference in clusters of ten", "200, 0.3", "0.01, 0.1"): of_clustered_difference(
            20, 0.01, 0.1, 0.3, TIMES
        )[0],
        ("False alarms", "errors, normal", "50 rows"): false_alarms(DRAWS["errors, normal"], 50, TIMES),
        ("A mean error's 95 % interval", "20", "exponential"): of_mean(20, "exponential", TIMES),
        ("The 95 % interval of a paired difference of means", "20", "scores"): of_paired_mean(
            20, "scores", TIMES
        )[0],
        ("The same in clusters of ten", "100", "errors, halved"): of_paired_mean(
            100, "errors, halved", TIMES, clustered=True
        )[0],
    }
    for (title, *cell), again in found.items():
        # Another numpy may draw other numbers from the seed.
        spread = 4 * noise(again, TIMES) + 0.05
        assert told[title][tuple(cell)] == pytest.approx(100 * again, abs=spread)


def number(text):
    return int(text.replace(",", ""))


# ---- as people meet them


def test_no_difference_has_an_interval_of_some_width():
    """
    Thirty equal rows do not show that there is no difference: the interval says how large it may be.
    """
    frame = pd.DataFrame({"a": ["x"] * 30, "g": ["x"] * 30})
    run = score(frame, "a", "g", kind="labels")
    line = compare(run, run, names=["A", "B"]).table.loc["B"]
    assert (line["difference_low"], line["difference_high"]) == pytest.approx((-0.0867, 0.0867), abs=0.001)
    scored = score(frame, "a", "g", match=lambda p, g: 0.5)
    line = compare(scored, scored, names=["A", "B"]).table.loc["B"]
    assert line["difference_low"] < 0 < line["difference_high"]


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_few_rows_have_no_verdict(rows):
    """
    Nine wins of nine are no verdict: it says that ten rows are needed.
    """
    frame = pd.DataFrame({"a": ["y"] * rows, "b": ["x"] * rows, "g": ["x"] * rows})
    found = compare(score(frame, "a", "g", kind="labels"), score(frame, "b", "g", kind="labels"))
    assert found.verdict_sign == 0
    assert "too few for a verdict" in found.verdict
    assert found.table["verdict"].iloc[1] == "not told"


def test_a_cluster_column_widens_intervals_and_comparisons():
    """
    Ten questions a document are not ten documents: the interval is wider, and equal runs are not told apart.
    """
    rng = np.random.default_rng(5)
    doc = np.repeat(np.arange(20), 10)
    level = rng.beta(1.4, 0.6, (2, 20))
    frame = pd.DataFrame({n: np.where(rng.random(200) < level[k][doc], "x", "y") for k, n in enumerate("ab")})
    frame = frame.assign(g="x", doc=doc)
    alone, together = (score(frame, "a", "g", kind="labels", cluster=c) for c in (None, "doc"))
    assert np.diff(together.interval)[0] > 1.3 * np.diff(alone.interval)[0]
    found = compare(together, score(frame, "b", "g", kind="labels", cluster="doc"))
    plain = compare(alone, score(frame, "b", "g", kind="labels"))
    width = found.table.iloc[1]["difference_high"] - found.table.iloc[1]["difference_low"]
    assert width > 1.2 * (plain.table.iloc[1]["difference_high"] - plain.table.iloc[1]["difference_low"])
    assert "in 20 clusters" in found.verdict


def test_a_column_that_looks_like_clusters_is_pointed_out():
    """
    Where rows of one document are alike I am told, and what the interval would be; a plain column is not named.
    """
    rng = np.random.default_rng(6)
    doc = np.repeat(np.arange(30), 10)
    level = rng.beta(0.7, 0.3, 30)
    frame = pd.DataFrame({"a": np.where(rng.random(300) < level[doc], "x", "y"), "g": "x", "doc": doc})
    frame["other"] = rng.integers(0, 30, 300)
    hint = [note for note in score(frame, "a", "g", kind="labels").notes if "cluster=" in note]
    assert len(hint) == 1
    assert "'doc'" in hint[0]
    assert not [n for n in score(frame.drop(columns="doc"), "a", "g", kind="labels").notes if "cluster=" in n]


def test_slices_are_corrected_for_their_number():
    """
    Of twenty slices of equal runs none stands out, and I am told how many were looked at.
    """
    frame = runs(400, (0.75, 0.75), seed=3, part=np.arange(400) % 20)
    found = compare(*(score(frame, n, "g", kind="labels") for n in "ab"), by="part")
    assert (found.slices["verdict"] == "not told").all()
    assert ((found.slices["low"] <= 0) & (found.slices["high"] >= 0)).all()
    expected = multipletests(found.slices["p"], method="holm")[1]
    assert found.slices["p_holm"].tolist() == pytest.approx(expected.tolist())
    assert any("20 slices were looked at" in note for note in found.notes)
    alone = score(frame, "a", "g", kind="labels", by="part")
    assert any("Of 20 slices, about 1 may miss" in note for note in alone.notes)


def test_slices_come_in_their_own_order():
    """
    Ratings stand by size, dates by time, categories as they are ordered, words by how many rows they have.
    """
    frame = runs(400, (0.7,), rating=np.tile([10, 1, 2, 1], 100))
    frame["day"] = pd.date_range("2024-01-01", periods=400, freq="D")
    frame["size"] = pd.Categorical(np.tile(["S", "L", "M", "M"], 100), ["S", "M", "L"], ordered=True)
    frame["word"] = np.tile(["b", "a", "b", "b"], 100)
    slices = score(frame, "a", "g", kind="labels", by=["rating", "day", "size", "word"]).slices
    of = {
        name: slices.loc[slices["column"] == name, "slice"].tolist()
        for name in ("rating", "day", "size", "word")
    }
    assert of["rating"] == ["1", "2", "10"]
    assert of["size"] == ["S", "M", "L"]
    assert of["word"] == ["b", "a"]
    assert of["day"][0] == "2024-01"
    assert len(of["day"]) == 14


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (4, 0), (12, 4), (9, 2), (6, 0), (40, 0), (10, 10)])
@pytest.mark.parametrize("rows", [40, 100, 400])
def test_sentence_table_plot_and_report_say_the_same(wins, losses, rows):
    """
    One verdict: the words, the table's column, the colour of the point, whether the interval leaves 0 out.
    """
    first, second = np.ones(rows, bool), np.ones(rows, bool)
    first[:wins] = False
    second[wins : wins + losses] = False
    frame = pd.DataFrame({"a": np.where(first, "x", "y"), "b": np.where(second, "x", "y"), "g": "x"})
    found = compare(*(score(frame, n, "g", kind="labels") for n in "ab"))
    line = found.table.iloc[1]
    told = found.verdict_sign != 0
    assert ("cannot be told apart" in found.verdict) != told
    assert (line["verdict"] != "not told") == told
    assert (line["difference_low"] > 0 or line["difference_high"] < 0) == told
    colour = found.plot().containers[0].lines[0].get_color()
    assert (colour != "#8c8c8c") == told
    assert f">{line['verdict']}<" in found._repr_html_()


def test_many_runs_are_corrected_in_words_table_and_intervals():
    """
    Nine equal runs: none is called better, and p and intervals are corrected for eight comparisons.
    """
    rng = np.random.default_rng(1)
    gold = rng.normal(0, 1, 60)
    frame = pd.DataFrame({"g": gold, **{f"r{n}": gold + rng.normal(0, 1, 60) for n in range(9)}})
    found = compare(*(score(frame, f"r{n}", "g") for n in range(9)))
    lines = found.table.iloc[1:]
    assert (lines["verdict"] == "not told").all()
    assert lines["p"].min() < 0.05 < lines["p_holm"].min()
    assert lines["p_holm"].tolist() == pytest.approx(multipletests(lines["p"], method="holm")[1].tolist())
    assert any("8 comparisons" in note for note in found.notes)


def test_advice_on_rows_is_a_range_above_what_there_is():
    """
    Inside the noise band, or from 100 rows: never fewer rows than there are, and never one number alone.
    """
    frame = pd.DataFrame({"a": ["y"] * 14 + ["x"] * 386, "b": "x", "g": "x"})
    a, b = (score(frame, n, "g", kind="labels") for n in "ab")
    found = compare(a, b, noise=0.2)
    assert found.verdict_sign == 0
    assert 400 < found.needed[0] <= found.needed_as_seen <= found.needed[1]
    assert "may be anything from" in found.verdict
    with pytest.raises(InputError, match="share of rows"):
        compare(a, b, noise="loud")


def test_errors_of_zero_and_one_are_no_shares():
    """
    A MAE's interval may reach beyond 1, and runs without any error have none rather than one without a width.
    """
    frame = pd.DataFrame({"a": np.arange(12.0), "b": np.arange(12.0) + 1, "g": np.arange(12.0)})
    ours, theirs = (score(frame, name, "g") for name in "ba")
    found = compare(theirs, ours)
    assert found.test == "permutation"
    assert found.table["difference_high"].iloc[1] > 1
    assert found.verdict_sign == -1
    same = compare(theirs, theirs, names=["A", "B"])
    assert "no interval can be told" in same.verdict
    assert "would be needed" not in same.verdict
    assert "inf" not in same.verdict
    same._repr_html_()
    same.plot()
