"""`score`: every number is scikit-learn's or statsmodels' on the same data, and no row goes missing."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, score
from dobatch_pandas.evals.significance import share

GONE = "no answer"


def reviews(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["neg", "neutral", "pos"], rows)
    answers = np.where(rng.random(rows) < 0.7, gold, rng.choice(["neg", "neutral", "pos"], rows)).astype(
        object
    )
    codes = np.full(rows, None, dtype=object)
    failed = rng.random(rows) < 0.1
    answers[failed], codes[failed] = None, "content_filter"
    return pd.DataFrame(
        {"answer": answers, "answer_error": codes, "gold": gold, "lang": rng.choice(["de", "en"], rows)},
        index=[f"r{n}" for n in range(rows)],
    )


def test_label_numbers_are_those_of_scikit_learn():
    """
    Accuracy, per-class numbers, macro averages, kappa and confusion matrix are scikit-learn's own.
    """
    frame = reviews()
    found = score(frame, "answer", "gold")
    truth, guess = frame["gold"], frame["answer"].fillna(GONE)
    classes = ["neg", "neutral", "pos"]

    assert found["accuracy"] == metrics.accuracy_score(truth, guess)
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, guess), abs=1e-15)
    for name, average in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        expected = average(truth, guess, labels=classes, average="macro", zero_division=0)
        assert found[f"macro_{name}"] == pytest.approx(expected, abs=1e-15)
    table = metrics.precision_recall_fscore_support(truth, guess, labels=classes, zero_division=0)
    np.testing.assert_array_equal(found.classes[["precision", "recall", "f1", "support"]].to_numpy().T, table)
    matrix = metrics.confusion_matrix(truth, guess, labels=[*classes, GONE])[:-1]
    np.testing.assert_array_equal(found.confusion.to_numpy(), matrix)
    assert list(found.confusion.columns) == [*classes, "(failed)"]


def test_the_interval_is_wilsons_from_100_rows_on():
    """
    The accuracy has the Wilson interval that statsmodels gives, at the confidence asked for.
    """
    found = score(reviews(), "answer", "gold", confidence=0.9)
    counts = found.counts
    expected = proportion_confint(counts.correct, counts.counted, alpha=1 - 0.9, method="wilson")
    assert found.interval == pytest.approx(expected)


def test_failed_rows_count_as_wrong_and_both_counts_are_shown():
    """
    A row without an answer is wrong unless I say otherwise, and I always see the other number too.
    """
    frame = reviews()
    wrong, excluded = score(frame, "answer", "gold"), score(frame, "answer", "gold", failed="exclude")
    answered = frame.dropna(subset=["answer"])

    assert wrong.counts.failed == excluded.counts.failed == frame["answer"].isna().sum()
    assert wrong.accuracy == (frame["answer"] == frame["gold"]).mean()
    assert excluded.accuracy == metrics.accuracy_score(answered["gold"], answered["answer"])
    assert wrong["accuracy_answered"] == excluded.accuracy
    assert excluded["accuracy_all"] == wrong.accuracy
    assert f"{excluded.accuracy:.1%} of the answered rows" in repr(wrong)
    assert wrong.errors.to_dict() == {"content_filter": wrong.counts.failed}


def test_an_answer_with_an_error_code_is_not_an_answer():
    """
    A row whose error column says something failed, whatever stands in the answer column.
    """
    frame = pd.DataFrame({"a": ["x", "x"], "a_error": [None, "length"], "g": ["x", "x"]})
    found = score(frame, "a", "g")
    assert list(found.rows["outcome"]) == ["correct", "failed"]
    assert found.accuracy == 0.5


def test_rows_without_gold_are_counted_and_not_scored():
    """
    Where nobody labelled a row, its answer is neither right nor wrong.
    """
    frame = pd.DataFrame({"a": ["x", "y", "x"], "g": ["x", None, "y"]})
    found = score(frame, "a", "g", kind="labels")
    assert (found.counts.counted, found.counts.unlabelled, found.accuracy) == (2, 1, 0.5)
    assert found.rows["correct"].isna().tolist() == [False, True, False]
    assert "1 unlabelled" in repr(found)


@pytest.mark.parametrize(
    ("answers", "gold"),
    [
        (["pos", "pos", "neg"], ["pos", "neg", "neg"]),
        (["pos", "pos", "pos"], ["pos", "neg", "neutral"]),  # a constant prediction
        (["pos", "neg", "neg"], ["pos", "pos", "pos"]),  # a class missing in the gold column
        (["pos", "pos", "pos"], ["pos", "pos", "pos"]),  # one class only
        (["other", "pos", "neg"], ["neg", "pos", "pos"]),  # a class nobody asked for
        ([None, None, None], ["pos", "neg", "neg"]),  # all failed
        ([np.nan, "pos", "neg"], ["pos", "neg", "neg"]),
    ],
)
def test_awkward_columns_give_what_scikit_learn_gives(answers, gold):
    """
    A missing class, a constant prediction, NaN or no answer at all changes nothing about the numbers' source.
    """
    frame = pd.DataFrame({"a": answers, "g": gold})
    found = score(frame, "a", "g", kind="labels")
    truth, guess = frame["g"], frame["a"].astype(object).where(frame["a"].notna(), GONE)
    classes = list(found.classes.index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = metrics.cohen_kappa_score(truth, guess)
    assert found.accuracy == metrics.accuracy_score(truth, guess)
    np.testing.assert_equal(found["kappa"], kappa)
    macro = metrics.f1_score(truth, guess, labels=classes, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    assert GONE not in classes


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["a", "b", "c", "d"])),
        min_size=1, max_size=40,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_labels_agree_with_scikit_learn_whatever_they_are(pairs):
    """
    For any answers and any gold, the numbers are scikit-learn's and every row is in the confusion matrix.
    """
    frame = pd.DataFrame(pairs, columns=["p", "g"])
    found = score(frame, "p", "g", kind="labels")
    truth, guess = frame["g"], frame["p"].astype(object).where(frame["p"].notna(), GONE)
    assert found.accuracy == metrics.accuracy_score(truth, guess)
    assert int(found.confusion.to_numpy().sum()) == len(frame)
    expected = metrics.f1_score(
        truth, guess, labels=list(found.classes.index), average="macro", zero_division=0
    )
    assert found["macro_f1"] == pytest.approx(expected)


def test_an_empty_frame_gives_nan_and_no_error():
    """
    Nothing to score is NaN, for every kind.
    """
    frame = pd.DataFrame({"a": pd.Series(dtype=object), "g": pd.Series(dtype=object)})
    for kind in ("labels", "numbers", "text"):
        found = score(frame, "a", "g", kind=kind)
        assert math.isnan(found.accuracy)
        assert found.counts.rows == 0
        assert found._repr_html_()


def test_numbers_are_those_of_scikit_learn():
    """
    MAE, RMSE and R² are scikit-learn's, on the rows that have a number.
    """
    rng = np.random.default_rng(3)
    gold = rng.normal(size=80)
    answers = pd.Series(gold + rng.normal(scale=0.3, size=80))
    answers[[3, 9]] = np.nan
    frame = pd.DataFrame({"p": answers, "g": gold})
    found = score(frame, "p", "g", tolerance=0.2)
    kept = frame.dropna()
    near = np.abs(frame["p"] - frame["g"]) <= 0.2

    assert found.kind == "numbers"
    assert found["mae"] == metrics.mean_absolute_error(kept["g"], kept["p"])
    assert found["rmse"] == metrics.root_mean_squared_error(kept["g"], kept["p"])
    assert found["r2"] == metrics.r2_score(kept["g"], kept["p"])
    assert found.accuracy == near.mean()
    assert found.interval == share(near.sum(), 80, 0.95)[1:]
    assert found.table.loc["mae", "rows"] == 78


def test_a_text_that_is_no_number_failed():
    """
    "I think 4" is not 4: the row failed with a code, and numbers written as text are numbers.
    """
    frame = pd.DataFrame({"p": ["4", "I think 4", "inf", "5.0"], "g": [4, 4, 4, 5]})
    found = score(frame, "p", "g")
    assert list(found.rows["outcome"]) == ["correct", "failed", "failed", "correct"]
    assert found.errors.to_dict() == {"not_a_number": 2}


def test_one_third_and_its_sum_are_equal_numbers():
    """
    0.1 + 0.2 counts as 0.3.
    """
    assert score(pd.DataFrame({"p": [0.1 + 0.2], "g": [0.3]}), "p", "g").accuracy == 1


def test_texts_are_matched_the_way_asked():
    """
    Exact, normalised, contains, regex, token F1 or my own function decide what is right.
    """
    frame = pd.DataFrame(
        {
            "p": ["The Paris!", "it is London", "rome", "Berlin"],
            "g": ["Paris", "London", "Rome", "Madrid"],
            "r": ["Par.s", "^London", "(?i)ROME", "x"],
        }
    )

    def right(match, gold="g"):
        return score(frame, "p", gold, match=match).rows["correct"].tolist()

    assert right("exact") == [False, False, False, False]
    assert right("normalised") == [True, False, True, False]
    assert right("contains") == [True, True, True, False]
    assert right("regex", "r") == [True, False, True, False]
    assert right("token_f1") == [True, True, True, False]
    assert right(lambda p, g: p[0] == g[0]) == [False, False, False, False]
    found = score(frame, "p", "g", match="token_f1", threshold=0.6)
    assert found.rows["score"].tolist() == [1.0, 0.5, 1.0, 0.0]
    assert found.rows["correct"].tolist() == [True, False, True, False]
    assert found["token_f1"] == 2.5 / 4


def test_a_gold_pattern_that_does_not_compile_is_named():
    """
    A broken regular expression is found before anything is scored, with its row.
    """
    with pytest.raises(InputError, match=r"regular expressions.*row 'b'"):
        score(pd.DataFrame({"p": ["x", "x"], "g": ["x", "("]}, index=["a", "b"]), "p", "g", match="regex")


@pytest.mark.parametrize(
    ("answers", "gold", "kind"),
    [
        ([True, False], [True, True], "labels"),
        (["a", "b"], pd.Categorical(["a", "b"]), "labels"),
        (pd.Categorical(["a", "b"]), ["a", "b"], "text"),
        (["Yes", "no"], ["yes", "no"], "labels"),
        (["2024-03-01"], ["2024-03-01"], "dates"),
        (["1.5"], ["1.50"], "numbers"),
        ([["a"]], [["a"]], "sets"),
        ([{"a": 1}], [{"a": 1}], "fields"),
        ([1.5, 2.0], [1.0, 2.0], "numbers"),
        (["1", "2"], [1, 2], "numbers"),
        (["a", "b", "a", "z"], ["a", "b", "a", "b"], "labels"),
        (["a text", "b"], ["one answer", "another answer"], "text"),
        (["a"] * 4, ["a very long gold answer that goes on and on, beyond sixty characters"] * 4, "text"),
    ],
)
def test_the_kind_follows_from_the_gold_alone(answers, gold, kind):
    """
    I need not say whether columns hold labels, numbers or text, and I am told what was taken.
    """
    frame = pd.DataFrame({"p": answers, "g": gold})
    found = score(frame, "p", "g")
    assert found.kind == kind
    assert "judging by the gold column" in found.notes[0]
    assert not any("judging by" in note for note in score(frame, "p", "g", kind=kind).notes)
    assert score(frame.assign(p=None), "p", "g").kind == kind


def test_labels_of_different_types_are_the_same_label():
    """
    1, 1.0 and "1" are one class, and so are categories and their words.
    """
    frame = pd.DataFrame({"p": ["1", "2", "2"], "g": [1.0, 2.0, 1.0]})
    assert score(frame, "p", "g", kind="labels").rows["correct"].tolist() == [True, True, False]
    whole = pd.DataFrame({"p": pd.array([1, 2, None], "Int64"), "g": [1.0, 2.0, 1.0]})
    found = score(whole, "p", "g", kind="labels")
    assert list(found.confusion.index) == [1, 2]
    assert found.accuracy == pytest.approx(2 / 3)


def test_categories_keep_their_order():
    """
    The matrix shows classes in the order of the categories, not of the alphabet.
    """
    order = ["low", "middle", "high"]
    gold = pd.Categorical(["high", "low", "middle"], categories=order, ordered=True)
    found = score(pd.DataFrame({"p": ["low", "low", "high"], "g": gold}), "p", "g")
    assert list(found.confusion.index) == order


def test_ordered_scores_have_a_quadratic_kappa():
    """
    Scores from 1 to 5 have a weighted kappa besides, as scikit-learn gives it.
    """
    frame = pd.DataFrame({"p": [1, 2, 3, 4, 5, 5], "g": [1, 2, 2, 5, 5, 3]})
    found = score(frame, "p", "g", kind="labels")
    expected = metrics.cohen_kappa_score(frame["g"], frame["p"], weights="quadratic")
    assert found["kappa_quadratic"] == pytest.approx(expected)


def test_a_positive_class_has_its_own_numbers():
    """
    With positive= the numbers of that class stand beside the averages.
    """
    frame = reviews()
    found = score(frame, "answer", "gold", positive="pos")
    assert found["precision"] == found.classes.loc["pos", "precision"]
    with pytest.raises(InputError, match="none of the classes"):
        score(frame, "answer", "gold", positive="great")


def test_case_is_counted_as_wrong_and_pointed_out():
    """
    "Pos" is not "pos", but I am told that normalise=True would make it right.
    """
    frame = pd.DataFrame({"p": ["Pos", "neg."], "g": ["pos", "neg"]})
    found = score(frame, "p", "g", kind="labels")
    assert found.accuracy == 0
    assert any("normalise=True" in note for note in found.notes)
    assert score(frame, "p", "g", kind="labels", normalise=True).accuracy == 1


def test_slices_are_the_same_numbers_on_the_rows_of_each_group():
    """
    A slice's line is what scoring that group alone gives; groups of few rows are marked.
    """
    frame = reviews()
    frame.loc[frame.index[:5], "lang"] = "fr"
    found = score(frame, "answer", "gold", by="lang", kind="labels")
    for line in found.slices.to_dict("records"):
        alone = score(frame[frame["lang"] == line["slice"]], "answer", "gold", kind="labels")
        assert (line["accuracy"], (line["low"], line["high"])) == (alone.accuracy, alone.interval)
        assert line["macro_f1"] == pytest.approx(alone["macro_f1"])
        assert line["failed"] == alone.counts.failed
        assert line["small"] == (alone.counts.counted < 30)
    assert set(found.slices["slice"]) == {"de", "en", "fr"}


def test_slices_take_missing_values_and_long_ranges():
    """
    A missing group is a group, and a column of many numbers is cut into fifths.
    """
    frame = reviews().assign(length=np.arange(200.0), kind=[None, "a"] * 100)
    found = score(frame, "answer", "gold", by=["length", "kind"])
    assert found.slices.groupby("column")["rows"].sum().to_dict() == {"length": 200, "kind": 200}
    assert (found.slices["column"] == "length").sum() == 5
    assert "(missing)" in set(found.slices["slice"])


@pytest.mark.parametrize(
    "index", [[5, 5, 1, 1], list("dacb"), pd.MultiIndex.from_product([[1, 2], ["a", "b"]])]
)
def test_the_index_changes_nothing(index):
    """
    A repeated, unsorted, text or multi index gives the same numbers and comes back on the rows.
    """
    frame = pd.DataFrame(
        {"p": ["x", "y", None, "x"], "g": ["x", "x", "x", "x"], "s": list("aabb")}, index=index
    )
    found = score(frame, "p", "g", kind="labels", by="s")
    assert found.rows["outcome"].tolist() == ["correct", "wrong", "failed", "correct"]
    assert found.rows.index.equals(frame.index)
    assert len(found.wrong()) == 2
    assert list(frame.columns) == ["p", "g", "s"]


def test_every_problem_is_told_at_once():
    """
    Wrong columns and wrong options come in one error.
    """
    with pytest.raises(InputError) as caught:
        score(
            pd.DataFrame({"a": [1]}),
            "b",
            "c",
            failed="drop",
            kind="word",
            confidence=95,
            reduce="sum",
            samples=0,
        )
    assert len(caught.value.problems) == 7


def test_two_columns_of_one_name_are_refused():
    """
    A name that stands for two columns is an error that says so.
    """
    frame = pd.DataFrame([["x", "y", "x"]], columns=["p", "p", "g"])
    with pytest.raises(InputError, match="2 columns are named 'p'"):
        score(frame, "p", "g")


def test_to_frame_is_a_line_a_metric():
    """
    All numbers come as a frame, to keep or to plot.
    """
    table = score(reviews(), "answer", "gold").to_frame()
    assert list(table.columns) == ["value", "low", "high", "rows"]
    assert {"accuracy", "accuracy_answered", "macro_f1", "kappa"} <= set(table.index)


def test_columns_of_any_name_are_scored():
    """
    Numbers and tuples are names too.
    """
    assert score(pd.DataFrame({0: list("xy") * 5, 1: list("xx") * 5}), 0, 1, kind="labels").accuracy == 0.5
    both = pd.DataFrame({("a", "p"): list("xy") * 5, ("a", "g"): list("xx") * 5})
    found = score(both, ("a", "p"), ("a", "g"), kind="labels")
    assert found.accuracy == 0.5
    assert found._repr_html_()


@pytest.mark.parametrize(
    "options",
    [{"samples": 2.0}, {"samples": "p_2"}, {"samples": True}, {"threshold": "a"}, {"tolerance": "1D"}, {"confidence": "95%"},
     {"tolerance": float("nan")}, {"by": "zz"}, {"cluster": "zz"}, {"reduce": "sum"}, {"kind": "fields", "match": "exact"}],
    ids=str,
)  # fmt: skip
def test_an_option_of_another_type_is_an_error_of_ours(options):
    """
    What cannot be meant is told in words, before anything is counted.
    """
    with pytest.raises(InputError):
        score(pd.DataFrame({"p": ["1"], "g": ["1"], "p_2": ["1"]}), "p", "g", **options)


def test_numbers_of_numpy_are_numbers():
    """
    Options that were worked out from a frame are np.int64 and np.float32: as good as 5 and 0.5 everywhere.
    """
    one, half = np.int64(1), np.float32(0.5)
    frame = pd.DataFrame({"said": [1.0, 2.0] * 6, "said_2": [1.0, 3.0] * 6, "gold": [1.0, 4.5] * 6})
    found = score(frame, "said", "gold", samples=np.int64(2), tolerance=one, confidence=half)
    assert found.pass_at(one) == found.pass_at(1)
    assert len(found.wrong(one)) == 1
    assert found.require(accuracy=np.float32(0.1)) is found
    again = compare(found, found, resamples=np.int64(99), power=half, noise=half, confidence=half)
    assert again.noise.outcomes == 0.5
