"""Judges: a verdict a criterion, every sample, their agreement, their biases, and a ranking."""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import cohen_kappa_score

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import calibrate, judge, judged, krippendorff_alpha, pairwise, rank, raters
from dobatch_pandas.evals.pairs import Pairwise, _bradley_terry
from dobatch_pandas.evals.significance import share

FRAME = pd.DataFrame(
    {"question": ["2+2?", "Capital of France?"], "answer": ["4", "Paris"], "other": ["5", "Lyon"]}
)


class Sent:
    def __call__(self, frame, prompt, **options):
        self.frame, self.options, self.system = frame, options, options["system"].format()
        return self


# ---- criteria


def test_each_criterion_has_its_own_verdict():
    """
    Three criteria are three verdicts, each after its reason.
    """
    sent = judge(FRAME, "question", ["correct", "Polite tone", "short"], model="m", submit=Sent())
    assert list(sent.options["schema"]["properties"]) == [
        "judge_correct_reason", "judge_correct", "judge_polite_tone_reason", "judge_polite_tone",
        "judge_short_reason", "judge_short",
    ]  # fmt: skip
    assert "Judge each criterion by itself" in sent.system
    named = judge(FRAME, "question", {"ok": "It is right."}, model="m", scale=(1, 5), submit=Sent())
    assert named.options["schema"]["properties"]["judge_ok"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
    }
    assert "- ok: It is right." in named.system


@pytest.mark.parametrize(
    "criteria", [[], {"reason": "x"}, {"v 2": "x"}, {"v2": "x"}, ["same", "same"], {"a/b": "x"}]
)
def test_criteria_that_cannot_be_columns_are_refused(criteria):
    """
    Names that would mean something else are refused before anything is sent.
    """
    with pytest.raises(InputError, match="criteria="):
        judge(FRAME, "question", criteria, model="m", submit=Sent())


def test_sequences_of_any_sentences_have_names_of_their_own():
    """
    Two long criteria that begin alike, and one that ends in a number, become different columns.
    """
    listed = ["The answer is correct and complete in every way", "The answer is correct and complete in most ways",
              "At most 2", "reason"]  # fmt: skip
    sent = judge(FRAME, "question", listed, model="m", submit=Sent())
    assert len(sent.options["schema"]["properties"]) == 8


def test_criteria_over_a_job_are_a_line_each(serve):
    """
    A judge that is asked for two criteria gives two lines, and rows that meet both.
    """

    def model(body, endpoint):
        good = "Paris" in body["messages"][-1]["content"]
        return (
            '{"judge_correct_reason": "r", "judge_correct": "%s", "judge_short_reason": "r", "judge_short": "pass"}'
            % ("pass" if good else "fail")
        )

    serve(model=model)
    job = FRAME.dobatch.judge(
        "question", ["correct", "short"], model="gpt-4.1-mini", samples=2, display=False
    )
    found = judged(job)
    assert found.samples == 2
    assert found.table["value"].to_dict() == {"correct": 0.5, "short": 1.0, "all": 0.5}
    assert found.rows["correct"].tolist() == [0.0, 1.0]
    assert found._repr_html_()


def verdicts(**columns):
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def test_every_sample_of_a_verdict_counts():
    """
    Two of three passes are two thirds of a pass, and I see how often samples agree.
    """
    frame = verdicts(
        judge=["pass", "fail", None], judge_2=["pass", "pass", None], judge_3=["fail", "fail", None]
    )
    found = judged(frame.assign(judge_reason="r"), samples=3)
    assert found["judge"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert found.table.loc["judge", "failed"] == 1
    assert found.table.loc["judge", "consistency"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="samples=4 needs"):
        judged(frame, samples=4)


def test_scores_and_labels_are_told_too():
    """
    A rubric of numbers gives a mean, one of labels the share of each.
    """
    found = judged(verdicts(judge=[1, 5, 3, None]))
    assert (found["judge"], found.table.loc["judge", "rows"]) == (3.0, 3)
    labels = judged(verdicts(judge=["right", "evasive", "right", "right"]))
    assert labels["judge: right"] == 0.75
    with pytest.raises(InputError, match="no verdict 'x'"):
        judged(verdicts(judge=[1]), into="x")


def test_a_judge_that_likes_long_answers_is_found_out():
    """
    The rank correlation of verdict and length is scipy's, and said where it is more than chance.
    """
    rng = np.random.default_rng(0)
    answers = pd.Series(["x" * int(n) for n in rng.integers(5, 300, 80)])
    scores = np.clip(answers.str.len() // 60 + rng.integers(0, 2, 80), 1, 5)
    found = judged(verdicts(judge=list(scores)), answers=answers)
    line = found.verbosity.loc["judge"]
    assert line["correlation"] == pytest.approx(spearmanr(answers.str.len(), scores).statistic)
    assert line["low"] < line["correlation"] < line["high"]
    assert "go with the length" in repr(found)
    fair = judged(verdicts(judge=list(rng.permutation(scores))), answers=answers)
    assert "by more than chance" in fair.length_words


# ---- pairs


def results(first, second, **more):
    index = pd.Index([f"r{n}" for n in range(len(first))])
    return pd.DataFrame({"judge": [*first, *second], **more}, index=index.append(index), dtype=object)


def test_the_majority_of_samples_picks():
    """
    Three of five samples for one answer are its pick, in each order.
    """
    columns = {f"judge_{n}": ["first"] * 10 + ["second"] * 10 for n in (3, 5)}
    columns |= {f"judge_{n}": ["second"] * 10 + ["first"] * 10 for n in (2, 4)}
    found = pairwise(results(["first"] * 10, ["second"] * 10, **columns), names=("A", "B"), samples=5)
    assert found.counts["A"] == 10
    assert "5 samples" in repr(found)
    alone = pairwise(results(["second"] * 10, ["first"] * 10, **columns), names=("A", "B"))
    assert alone.counts["B"] == 10
    with pytest.raises(InputError, match="samples=6 needs"):
        pairwise(results(["first"] * 10, ["second"] * 10, **columns), samples=6)


def test_whether_the_longer_answer_wins_is_told():
    """
    Where the longer of two answers wins nearly always, the judge's leaning is said with its exact p.
    """
    answers = (pd.Series(["long answer"] * 30), pd.Series(["short"] * 30))
    found = pairwise(
        results(["first"] * 28 + ["second"] * 2, ["second"] * 28 + ["first"] * 2), answers=answers
    )
    assert found.verbosity == 28 / 30
    assert found.verbosity_p == binomtest(28, 30).pvalue
    assert found.verbosity_interval == share(28, 30, 0.95)[1:]
    assert "may lean to the longer" in repr(found)
    assert found._repr_html_()
    with pytest.raises(InputError, match="29 rows"):
        pairwise(results(["first"] * 30, ["second"] * 30), answers=tuple(a.head(29) for a in answers))


BASEBALL = {  # American League East 1987, wins of the row over the column: Agresti, Categorical Data Analysis, 10.6
    "Milwaukee": [0, 7, 9, 7, 7, 9, 11],
    "Detroit": [6, 0, 7, 5, 11, 9, 9],
    "Toronto": [4, 6, 0, 7, 7, 8, 12],
    "New York": [6, 8, 6, 0, 6, 7, 10],
    "Boston": [6, 2, 6, 7, 0, 7, 12],
    "Cleveland": [4, 4, 5, 6, 6, 0, 6],
    "Baltimore": [2, 4, 1, 3, 1, 7, 0],
}


def duel(one, two, wins, losses, ties=0, start=0):
    winner = [one] * wins + [two] * losses + ["tie"] * ties
    index = [f"{one}{two}{start + n}" for n in range(len(winner))]
    rows = pd.DataFrame({"winner": winner}, index=index, dtype="string")
    nothing = (math.nan, math.nan)
    return Pairwise((one, two), rows, rows["winner"].value_counts(), math.nan, nothing, math.nan, math.nan, nothing,
                    1.0, math.nan, nothing)  # fmt: skip


def test_the_ranking_is_that_of_the_textbook():
    """
    Bradley and Terry's strengths of seven baseball teams are the published ones, with their standard errors.
    """
    teams = list(BASEBALL)
    duels = [
        duel(a, b, BASEBALL[a][teams.index(b)], BASEBALL[b][teams.index(a)])
        for a, b in combinations(teams, 2)
    ]
    found = rank(*duels)
    strength = found.table["strength"] - found.table.loc["Baltimore", "strength"]
    published = {"Milwaukee": 1.581, "Detroit": 1.436, "Toronto": 1.295, "New York": 1.248, "Boston": 1.108,
                 "Cleveland": 0.684, "Baltimore": 0}  # fmt: skip
    assert strength.to_dict() == pytest.approx(published, abs=0.001)
    assert found.table.index.tolist() == teams
    pair = found.differences.query("system == 'Milwaukee' and against == 'Baltimore'").iloc[0]
    assert pair["difference"] == pytest.approx(1.581, abs=0.001)
    assert (pair["p_holm"] < 0.05, pair["low"] > 0) == (True, True)
    assert found.table.loc["Milwaukee", "worst"] < 7
    assert found._repr_html_()
    assert repr(found).startswith("<Ranking: 1–")


def test_ties_alone_are_no_proof_of_being_equal():
    """
    Forty rows that all of three systems tie on leave room for a difference, and are told without a foreign warning.
    """
    halves = [pd.DataFrame({"judge": ["tie"] * 40, "judge_reason": ["even \ud83d"] * 40}, dtype=object)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rank(*(pairwise(pd.concat(halves), names=pair) for pair in combinations("ABC", 2)))
    assert (found.table["high"] - found.table["low"] > 0.05).all()
    assert (found.differences["high"] - found.differences["low"] > 0.05).all()
    assert found.table["worst"].tolist() == [3, 3, 3]


def test_a_system_that_never_loses_has_a_finite_strength():
    """
    Ten wins of ten are no infinite strength, and it is said what was done about it.
    """
    found = rank(duel("A", "B", 10, 0), duel("B", "C", 5, 5, ties=2))
    assert np.isfinite(found.table["strength"]).all()
    assert "half a win" in found.notes[0]
    assert found.table.index[0] == "A"
    with pytest.raises(InputError, match="No duel connects"):
        rank(duel("A", "B", 3, 2), duel("C", "D", 3, 2))


def test_rows_in_several_duels_belong_together():
    """
    The same questions in three duels are clusters, whose interval allows for it.
    """
    rng = np.random.default_rng(0)
    played = []
    for row in range(60):
        lean = rng.random() < 0.7
        played += [(a, b, float(lean), f"q{row}") for a, b in ((0, 1), (0, 2))]
        played.append((1, 2, float(rng.random() < 0.5), f"q{row}"))
    together = _bradley_terry(["A", "B", "C"], played, 0.95)
    apart = _bradley_terry(["A", "B", "C"], [(a, b, p, n) for n, (a, b, p, _) in enumerate(played)], 0.95)
    width = [float(r.table.loc["A", "high"] - r.table.loc["A", "low"]) for r in (together, apart)]
    assert width[0] > 1.2 * width[1]


# ---- agreement


KRIPPENDORFF = pd.DataFrame(  # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C
    {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    },
    dtype=object,
)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs(level, alpha):
    """
    His example of four observers with missing values gives his values at every level.
    """
    assert krippendorff_alpha(KRIPPENDORFF, level) == pytest.approx(alpha, abs=0.0006)


def test_kappas_are_those_of_scikit_learn():
    """
    Every pair of raters has Cohen's kappa, weighted for a scale, within its interval.
    """
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 6, 100)
    frame = pd.DataFrame({n: np.clip(truth + rng.integers(-1, 2, 100), 1, 5) for n in ("j1", "j2", "human")})
    found = raters(frame, resamples=200)
    for line in found.pairs.to_dict("records"):
        expected = cohen_kappa_score(frame[line["first"]], frame[line["second"]], weights="quadratic")
        assert line["kappa"] == pytest.approx(expected)
        assert line["kappa_low"] < line["kappa"] < line["kappa_high"]
    assert found.level == "ordinal"
    assert found.interval[0] < found.alpha < found.interval[1]
    words = frame.map(lambda n: "pass" if n > 2 else "fail")
    nominal = raters(words, resamples=0)
    assert nominal.pairs["kappa"].iloc[0] == pytest.approx(cohen_kappa_score(words["j1"], words["j2"]))
    assert nominal.rows["agree"].tolist() == (words.nunique(axis=1) == 1).tolist()
    assert found._repr_html_()


def test_raters_who_agree_on_few_rows_are_not_sure_to():
    """
    The interval is never of no width: ten rows without a difference leave room for one.
    """
    found = raters(pd.DataFrame({"a": ["x", "y"] * 5, "b": ["x", "y"] * 5}))
    line = found.pairs.iloc[0]
    assert line["kappa"] == found.alpha == 1
    assert 0.2 < line["kappa_low"] < 0.8
    assert 0.2 < found.interval[0] < 0.8
    assert line["kappa_high"] == found.interval[1] == 1


@pytest.mark.parametrize(("classes", "rows"), [(2, 10), (2, 20), (5, 10)])
def test_the_interval_of_agreement_holds_what_it_says(classes, rows):
    """
    Two raters of the same text in nine cases of ten: 95 % intervals hold their true kappa and alpha.
    """
    rng = np.random.default_rng(classes)
    truth = 1 - 0.1 / (1 - 1 / classes)
    runs, kappas, alphas = 80, 0, 0
    for seed in range(runs):
        one = rng.integers(0, classes, rows)
        two = np.where(rng.random(rows) < 0.1, (one + rng.integers(1, classes, rows)) % classes, one)
        frame = pd.DataFrame({"a": one, "b": two}).map(lambda n: f"class {n}")
        found = raters(frame, resamples=99, seed=seed)
        kappas += found.pairs["kappa_low"].iloc[0] <= truth <= found.pairs["kappa_high"].iloc[0]
        alphas += found.interval[0] <= truth <= found.interval[1]
    assert kappas > 0.85 * runs
    assert alphas > 0.85 * runs


def test_agreement_of_nothing_is_no_crash():
    """
    No rows, one rating a row and no variation give NaN and an error that can be read.
    """
    empty = raters(pd.DataFrame({"a": [None, "x"], "b": ["x", None]}, dtype=object))
    assert math.isnan(empty.alpha)
    assert math.isnan(raters(pd.DataFrame({"a": ["x"] * 5, "b": ["x"] * 5})).alpha)
    with pytest.raises(InputError, match="two columns"):
        raters(pd.DataFrame({"a": ["x"]}))
    with pytest.raises(InputError, match="needs numbers"):
        raters(pd.DataFrame({"a": ["x"], "b": [1]}), level="interval")


def test_a_lenient_judge_is_corrected_by_people():
    """
    The corrected rate is prediction-powered inference, and its interval covers the truth in 300 simulations.
    """
    rng = np.random.default_rng(0)
    held, naive = 0, 0
    for _ in range(300):
        truth = rng.random(600) < 0.6
        says = np.where(rng.random(600) < 0.85, truth, True)
        seen = rng.random(600) < 0.25
        says_words = pd.Series(np.where(says, "pass", "fail"))
        people = pd.Series(truth, dtype=object).where(seen, None)
        found = calibrate(says_words, people)
        held += found.interval[0] <= 0.6 <= found.interval[1]
        naive += found.judged_interval[0] <= 0.6 <= found.judged_interval[1]
    expected = says[~seen].mean() + (truth[seen].astype(float) - says[seen]).mean()
    assert found.corrected == pytest.approx(expected)
    assert found.sensitivity == says[seen & truth].mean()
    assert found.specificity == 1 - says[seen & ~truth].mean()
    assert held / 300 >= 0.93
    assert naive / 300 < 0.5
    assert found.table["labelled"].sum() == seen.sum()
    assert found._repr_html_()


def test_a_threshold_that_takes_no_words_names_the_value():
    """
    A judge that once said a word where scores are is told of, and not by a foreign error.
    """
    scores = pd.Series([4, 5, "unclear", 2], dtype=object)
    with pytest.raises(InputError, match="passed= failed on 'unclear'"):
        calibrate(scores, pd.Series([5, 4, 3, 1]), passed=lambda score: score >= 4)
    with pytest.raises(InputError, match="human_passed= failed on 'no'"):
        calibrate(
            pd.Series([5, 4, 3]),
            pd.Series(["no"] * 3),
            passed=lambda s: s >= 4,
            human_passed=lambda s: s >= 4,
        )


def test_scores_are_calibrated_by_a_threshold():
    """
    From which score on is a pass is mine to say, for the judge and for people.
    """
    scores, people = pd.Series([1, 5, 4, 2, 5]), pd.Series([False, True, None, False, False])
    found = calibrate(scores, people, passed=lambda score: score >= 4, human_passed=True)
    assert found.table.loc["5", "passed"] == 0.5
    with pytest.raises(InputError, match="two judged rows"):
        calibrate(scores, pd.Series([None] * 5))


def test_a_corrected_rate_lies_within_its_interval_and_between_none_and_all():
    """
    Whatever few people said, the interval holds the corrected rate, and neither leaves 0 to 1.
    """
    rng = np.random.default_rng(0)
    judge = pd.Series(["pass"] * 10 + ["fail"] * 10)
    for labelled in (3, 8, 12, 19):
        for _ in range(50):
            people = pd.Series(rng.choice(["pass", "fail"], 20), dtype=object)
            people[rng.permutation(20)[labelled:]] = None
            found = calibrate(judge, people)
            low, high = found.interval
            assert 0 <= low <= found.corrected <= high <= 1
    other = calibrate(judge, pd.Series(["pass"] * 8 + ["fail"] * 4, index=range(8, 20)))
    assert other.corrected == 1  # the judge's share of what nobody saw, and what people add to it
    assert other.interval[0] < 2 / 3
    assert "nan" not in repr(calibrate(judge, pd.Series(["pass"] * 20)))


def test_words_that_nobody_said_are_a_pass_are_refused():
    """
    A judge of scores, or people who say "yes", are no failures all through: I am asked which is a pass.
    """
    judge = pd.Series(["pass", "fail"] * 5)
    with pytest.raises(InputError, match="human_passed='pass' is none of the values, which are 'yes', 'no'"):
        calibrate(judge, pd.Series(["yes", "no"] * 5))
    with pytest.raises(InputError, match="passed='pass' is none of the values"):
        calibrate(pd.Series([1, 5] * 5), pd.Series([True, False] * 5))
    assert calibrate(pd.Series(["fail"] * 6), pd.Series(["fail"] * 6)).corrected == 0
    assert calibrate(judge, pd.Series(["yes", "no"] * 5), human_passed="yes").corrected == 0.5


def test_raters_of_no_row_agree_on_nothing():
    """
    A frame that has no rows gives NaN.
    """
    found = raters(pd.DataFrame({"a": [], "b": []}))
    assert math.isnan(found.alpha)
    assert found.pairs.loc[0, "rows"] == 0
