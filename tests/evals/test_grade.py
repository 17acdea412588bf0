"""Grading: what is right follows from the gold, and nothing that carries meaning is taken away."""

from __future__ import annotations

import datetime
import enum
import math
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score
from sklearn.preprocessing import MultiLabelBinarizer

from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, explore, grade, score, texts, view


def right(answers, gold, **options):
    frame = pd.DataFrame({"p": pd.Series(answers, dtype=object), "g": pd.Series(gold, dtype=object)})
    return score(frame, "p", "g", **options).rows["correct"].tolist()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Step(enum.IntEnum):
    LOW = 1
    HIGH = 2


# ---- texts


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("The  Cat, sat.", "cat sat"),
        ("ＦＵＬＬ width", "full width"),
        ("Straße", "strasse"),
        ("3.14", "3.14"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("1,000!", "1,000"),
        ("don't", "dont"),
        ("don’t", "dont"),
        ("A", "a"),  # an article alone is all there is
        ("?!", "?!"),
        ("", ""),
        ("**Paris**", "paris"),
        ('"Paris."', "paris"),
        ("well-known", "wellknown"),
        (".5", ".5"),
        ("5 %", "5%"),
        ("< 5", "<5"),
        ("x = 1", "x=1"),
        ("- Paris", "paris"),
        ("THIS IS A TEST", "this is test"),
    ],
)
def test_normalise_drops_case_punctuation_and_articles(written, plain):
    """
    What people would call the same answer becomes the same text, and numbers keep their value.
    """
    assert texts.normalise(written) == plain


@pytest.mark.parametrize(
    "different",
    [
        ["C++", "C#", "C"],
        ["5%", "$5", "5", "<5", ">5", "≥5", "5°", "+5", "-5", "#5", ".5", "0,5", "5'", '5"'],
        ["x=1", "x1", "x>1"],
        ["I.T.", "it"],
        ["U.S.", "us"],
        ["A+", "A-", "A"],
        ["O-", "O+", "O"],
        ["f(x)=2x", "fx2x"],
        ["10²", "102", "10"],
        ["1½", "11/2"],
        ["10-20", "1020"],
        ["A,B", "AB"],
        ["a/b", "ab"],
        ["user@example.com", "userexample.com"],
        ["re: A", "re"],
    ],
)
def test_normalise_keeps_what_tells_answers_apart(different):
    """
    Signs that carry meaning stay: none of these is the same answer as another.
    """
    assert len({texts.normalise(text) for text in different}) == len(different)


@pytest.mark.parametrize(
    "form",
    ["{}", "({})", "{}.", "{})", "**{}**", "[{}]", "The answer is {}.", "The answer is {}", "{}: because", "It is {}",
     "Option {} fits best.", "{}, since it rains", "{} because it rains"],
)  # fmt: skip
@pytest.mark.parametrize("match", ["normalised", "contains", "token_f1"])
def test_option_a_is_scored_as_b_is(form, match):
    """
    Multiple choice: the option A is no article, however the answer words it.
    """
    scores = [grade.MATCHES[match](form.format(option), option) for option in "ABCD"]
    assert len({round(value, 9) for value in scores}) == 1


def test_an_article_is_no_option():
    """
    Where the gold is "A", the article in "It was a dog" does not make it right.
    """
    assert grade.contains("It was a dog", "A") == 0
    assert grade.normalised("a cat", "The cat") == 1


@given(st.text(max_size=60))
@settings(max_examples=120, deadline=None)
def test_a_text_always_matches_itself(written):
    """
    A text always matches itself, in every way of matching.
    """
    for match in ("exact", "normalised", "contains", "token_f1"):
        assert grade.MATCHES[match](written, written) == 1


@given(st.lists(st.sampled_from("bcdefg"), max_size=8), st.lists(st.sampled_from("bcdefgh"), max_size=8))
@settings(max_examples=80, deadline=None)
def test_token_f1_is_the_harmonic_mean_of_its_precision_and_recall(ours, gold):
    """
    Token F1 is symmetric, lies between 0 and 1, and is what its definition says.
    """
    a, b = " ".join(ours), " ".join(gold)
    found = grade.token_f1(a, b)
    assert found == grade.token_f1(b, a)
    common = sum((min(ours.count(word), gold.count(word)) for word in set(ours)), 0)
    if common:
        precision, recall = common / len(ours), common / len(gold)
        assert found == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert found == float(ours == gold)


def test_contains_wants_whole_words():
    """
    "art" is not in "party".
    """
    assert grade.contains("it was a party", "art") == 0
    assert grade.contains("modern art, I say", "Art") == 1


# ---- numbers


@pytest.mark.parametrize("dtype", ["int64", "Int64", "int64[pyarrow]", object])
@pytest.mark.parametrize("options", [{}, {"tolerance": 0}, {"kind": "labels"}])
def test_whole_numbers_are_compared_as_whole_numbers(dtype, options):
    """
    A phone number that is off by one is another phone number.
    """
    frame = pd.DataFrame({"p": [4155550124, 2**53 + 1, 7, 7], "g": [4155550123, 2**53, 7, 8]}, dtype=dtype)
    assert score(frame, "p", "g", **options).rows["correct"].tolist() == [False, False, True, False]


def test_numbers_as_text_keep_every_digit():
    """
    "12345678901234567890" is not "12345678901234567891", and "1e3" is a thousand.
    """
    found = right(["12345678901234567890", "1e3", "٣"], [12345678901234567891, 1000, 3])
    assert found == [False, True, True]


def test_decimals_are_compared_exactly():
    """
    1.50 from a database is 1.5, and two amounts that differ in the twentieth digit differ.
    """
    assert right([1.5, "9.99", 2], [Decimal("1.50"), Decimal("9.98"), Decimal("2.00")]) == [True, False, True]
    long = Decimal("12345678901234567.01")
    assert right([long, long + Decimal("0.01")], [long, long]) == [True, False]
    assert right([123456789012.35], [Decimal("123456789012.34")]) == [False]


def test_floats_of_few_bits_are_equal_to_what_they_were_made_of():
    """
    0.1 in 32 bits is 0.1, and the tolerance holds at its very edge.
    """
    frame = pd.DataFrame({"p": np.array([0.1, 0.25], "float32"), "g": [0.1, 0.3]})
    assert score(frame, "p", "g").rows["correct"].tolist() == [True, False]
    assert right([1.1, 1.2], [1.0, 1.0], tolerance=0.1) == [True, False]
    assert right([12, 13], [10, 10], tolerance=2) == [True, False]


def test_infinite_labels_are_no_crash():
    """
    A column of ratings may hold inf.
    """
    assert right([np.inf, 1.0], [1.0, 1.0], kind="labels") == [False, True]


# ---- dates


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("2024-03-01", True),
        (datetime.date(2024, 3, 1), True),
        (pd.Timestamp("2024-03-01"), True),
        (np.datetime64("2024-03-01"), True),
        ("2024-03-01T10:30:00", True),
        ("01.03.2024", True),
        ("2024/3/1", True),
        ("20240301", True),
        ("March 1, 2024", True),
        ("1st of March 2024", True),
        ("1 Mar 2024", True),
        ("2024-03-02", False),
        ("March 2024", None),
        ("soon", None),
    ],
)
@pytest.mark.parametrize("gold", ["2024-03-01", datetime.date(2024, 3, 1), pd.Timestamp("2024-03-01")])
def test_a_day_is_the_same_day_in_every_usual_form(answer, correct, gold):
    """
    Dates are compared as dates, whatever either column holds; what is no date failed.
    """
    frame = pd.DataFrame(
        {"p": pd.Series([answer] * 2, dtype=object), "g": pd.Series([gold] * 2, dtype=object)}
    )
    found = score(frame, "p", "g")
    assert found.kind == "dates"
    assert found.rows["outcome"].iloc[0] == ({True: "correct", False: "wrong"}.get(correct, "failed"))
    if correct is None:
        assert found.errors.to_dict() == {"not_a_date": 2}


def test_slashes_are_read_as_the_column_shows():
    """
    13/02/2024 tells that the day comes first, so 03/04/2024 is the third of April.
    """
    gold = [datetime.date(2024, 4, 3), datetime.date(2024, 2, 13)]
    assert right(["03/04/2024", "13/02/2024"], gold) == [True, True]
    assert right(["04/03/2024", "02/13/2024"], gold) == [True, True]


def test_moments_are_compared_in_one_zone():
    """
    10:30 in UTC is 12:30 two hours east, and seconds count where the gold has them.
    """
    gold = pd.to_datetime(["2024-03-01T10:30:00Z"] * 3, utc=True)
    assert right(["2024-03-01T12:30:00+02:00", "2024-03-01 10:30", "2024-03-01T10:31Z"], gold) == [
        True,
        True,
        False,
    ]


def test_how_far_dates_are_off_is_a_metric():
    """
    Beside the share of right dates I see by how many days the answers miss.
    """
    frame = pd.DataFrame({"p": ["2024-03-01", "2024-03-05"], "g": ["2024-03-01", "2024-03-01"]})
    assert score(frame, "p", "g")["days_off"] == 2


# ---- booleans


@pytest.mark.parametrize("gold", [[True, False], ["yes", "no"], ["True", "False"], ["y", "n"], ["on", "off"]])
@pytest.mark.parametrize("answers", [[True, False], ["Yes", "No"], ["TRUE", "false"], [1, 0], ["yes.", "n"]])
def test_booleans_are_the_usual_words(answers, gold):
    """
    A model that says "Yes" agrees with True, and with "true".
    """
    assert right(answers, gold) == [True, True]
    assert right(answers[::-1], gold) == [False, False]


def test_a_word_that_is_no_boolean_is_wrong_and_no_crash():
    """
    "maybe", a list and a dict are answers too, and not right ones.
    """
    assert right(["maybe", ["yes"], {"a": 1}, None], [True, True, False, True])[:3] == [False] * 3


# ---- lists


TOPICS = [["price", "battery"], ["screen"], [], ["a b", "c"], ["size"], ["price"]]
GOLD = [["battery", "price"], ["screen", "size"], [], ["c", "a b"], ["weight"], None]


@pytest.mark.parametrize("made", [list, tuple, np.array, set, lambda value: str(value).replace("'", '"')])
def test_lists_are_sets_in_any_form(made):
    """
    The order of topics does not matter, nor whether they came as list, array, set or JSON.
    """
    answers = [made(value) for value in TOPICS]
    frame = pd.DataFrame({"p": pd.Series(answers, dtype=object), "g": pd.Series(GOLD, dtype=object)})
    if made is set:
        frame["p"] = [set(value) for value in TOPICS]
    found = score(frame, "p", "g")
    assert found.kind == "sets"
    assert found.rows["outcome"].tolist() == ["correct", "wrong", "correct", "correct", "wrong", "unlabelled"]


def test_set_numbers_are_those_of_scikit_learn():
    """
    Jaccard, micro and macro F1 and the table of labels are scikit-learn's; a failed row has no label.
    """
    rng = np.random.default_rng(0)
    names = list("abcdef")
    gold = [list(rng.choice(names, rng.integers(0, 4), replace=False)) for _ in range(60)]
    answers = [list(rng.choice(names, rng.integers(1, 4), replace=False)) for _ in range(60)]
    answers[7] = None
    frame = pd.DataFrame({"p": pd.Series(answers, dtype=object), "g": pd.Series(gold, dtype=object)})
    found = score(frame, "p", "g")
    binary = MultiLabelBinarizer(classes=names)
    truth, guess = binary.fit_transform(gold), binary.transform([a or [] for a in answers])
    assert found["micro_f1"] == pytest.approx(f1_score(truth, guess, average="micro", zero_division=0))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro", zero_division=0))
    kept = [n for n in range(60) if n != 7]
    expected = jaccard_score(truth[kept], guess[kept], average="samples", zero_division=1)
    assert found["jaccard"] == pytest.approx(expected * 59 / 60)
    assert found.classes["f1"].tolist() == pytest.approx(
        f1_score(truth, guess, average=None, zero_division=0).tolist()
    )


def test_sequences_keep_their_order_where_asked():
    """
    Steps of a recipe are not a set.
    """
    answers, gold = [["a", "b"], ["b", "a"]], [["a", "b"], ["a", "b"]]
    assert right(answers, gold) == [True, True]
    assert right(answers, gold, kind="sequences") == [True, False]
    assert right([["A"], "no list"], [["a"], ["a"]], normalise=True)[0]


# ---- nested answers


def test_nested_answers_are_scored_field_by_field():
    """
    A dict is scored a line a field, each in its own kind, and a row is correct where all fields are.
    """
    gold = [{"day": "2024-03-01", "tags": ["a", "b"], "price": 5, "who": {"name": "Ann"}}] * 3
    answers = [
        {"price": 5.0, "tags": ["b", "a"], "day": "March 1, 2024", "who": {"name": "Ann"}},
        {"price": 6, "tags": ["b", "a"], "day": "2024-03-01", "who": {"name": "Bob"}},
        None,
    ]
    frame = pd.DataFrame({"p": pd.Series(answers, dtype=object), "g": pd.Series(gold, dtype=object)})
    found = score(frame, "p", "g")
    assert found.rows["outcome"].tolist() == ["correct", "wrong", "failed"]
    assert found.rows["score"].tolist()[:2] == [1.0, 0.5]
    assert found.fields["kind"].to_dict() == {
        "day": "dates",
        "tags": "sets",
        "price": "numbers",
        "who": "fields",
    }
    assert found.fields["correct"].to_dict() == {"day": 2, "tags": 2, "price": 1, "who": 1}
    assert found.parts["price"].rows["outcome"].tolist() == ["correct", "wrong", "failed"]
    assert found._repr_html_()


def test_several_columns_are_a_line_a_field():
    """
    With one gold column for each field I get a line a field, and the rows that are right in all.
    """
    frame = pd.DataFrame(
        {
            "mood": list("ppn"),
            "day": ["2024-03-01"] * 3,
            "g1": list("pnn"),
            "g2": ["2024-03-01"] * 2 + ["2024-03-02"],
        }
    )
    found = score(frame, ["mood", "day"], {"mood": "g1", "day": "g2"})
    assert found.fields["accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found.accuracy == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="no gold column for 'day'"):
        score(frame, ["mood", "day"], {"mood": "g1"})
    with pytest.raises(InputError, match="as many of each"):
        score(frame, ["mood", "day"], ["g1"])


# ---- any content


def test_any_cell_content_is_graded():
    """
    Half surrogate pairs, bytes, NUL, right-to-left signs and nested values are texts like others.
    """
    odd = [
        "cut \ud83d",
        b"\xff\x00",
        "nul \0",
        "\u202etfel",
        {"a": [1]},
        ["x"],
        1e300,
        "x" * 100_000,
        pd.NaT,
        np.nan,
    ]
    frame = pd.DataFrame({"p": pd.Series(odd, dtype=object), "g": pd.Series(odd, dtype=object)})
    found = score(frame, "p", "g", by="p")
    assert found.counts.correct == 8
    assert found.counts.unlabelled == 2
    assert found._repr_html_().encode()


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([["a"], ["b", "c"]] * 20, dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        pd.Series([{"x": 1}, {"x": 2}] * 20, dtype=pd.ArrowDtype(pa.struct([("x", pa.int64())]))),
        pd.Series([f"cut {n // 2} \ud83d" for n in range(40)], dtype=object),
        pd.Series([np.array(n // 2) for n in range(40)], dtype=object),
    ],
    ids=["lists", "structs", "half pairs", "arrays of no dimension"],
)
def test_a_column_beside_the_answers_may_hold_anything(values):
    """
    It is looked at for what rows share, sliced by, and named as what belongs together.
    """
    frame = pd.DataFrame({"p": ["a", "b"] * 20, "g": ["a"] * 20 + ["b"] * 20, "beside": values})
    for options in ({}, {"by": "beside"}, {"cluster": "beside"}):
        found = score(frame, "p", "g", **options)
        assert (found.accuracy, found.counts.counted) == (0.5, 40)
        assert found._repr_html_()
    made = explore(frame, predicted="p", actual="g")
    assert made._picture()
    assert (
        sorted(view._rank(frame["beside"]).tolist())[-1] == frame["beside"].map(texts.as_text).nunique() - 1
    )


def test_slices_whose_rows_are_all_alike_differ_by_no_test():
    """
    Half right on every row, here and there: there is no spread to tell it by, and no warning.
    """
    frame = pd.DataFrame(
        {"p": ["a"] * 40, "p_2": ["b"] * 40, "g": ["a", "b"] * 20, "s": [*"xy"] * 10 + ["x"] * 20}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(frame, "p", "g", samples=2, by="s", kind="labels")
    assert found.slices["accuracy"].tolist() == [0.5, 0.5]
    assert found.slices["p"].isna().all()


def test_the_last_day_there_is_can_be_far_off():
    """
    Databases write "for ever" as the last day of the year 9999.
    """
    gold = pd.Series(pd.to_datetime(["2024-03-01", "2024-03-02"]).as_unit("ns"))
    frame = pd.DataFrame({"p": ["9999-12-31", "2024-03-02"], "g": gold})
    off = score(frame, "p", "g").metrics["days_off"]
    assert off == (datetime.date(9999, 12, 31) - datetime.date(2024, 3, 1)).days / 2


def test_whole_surrogate_pairs_are_their_sign():
    """
    An emoji in two halves is that emoji.
    """
    assert right(["\ud83d\ude00"], ["😀"], match="exact") == [True]


def test_a_matcher_that_fails_names_the_row():
    """
    When my own function cannot take an answer, I learn which one.
    """
    frame = pd.DataFrame({"p": ["1", "one"], "g": ["1", "1"]}, index=["a", "b"])
    with pytest.raises(InputError, match=r"match= failed on an answer: ValueError.*row 'b'"):
        score(frame, "p", "g", match=lambda p, g: int(p) == int(g))


def test_wrong_keeps_the_frames_own_columns():
    """
    A column of mine that is called score or outcome keeps its values.
    """
    frame = pd.DataFrame({"p": ["x", "x"], "g": ["x", "y"], "score": [0.1, 0.2], "outcome": ["won", "lost"]})
    found = score(frame, "p", "g", kind="labels").wrong()
    assert found.iloc[0].to_dict() == {
        "p": "x", "g": "y", "score": 0.2, "outcome": "lost", "outcome_of_p": "wrong", "score_of_p": 0.0,
    }  # fmt: skip


# ---- one grading for all runs


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"match": "exact"}, {"match": "contains"}, "match is 'exact' in 'A', 'contains' in 'B'"),
        ({"tolerance": 1}, {"tolerance": 0.1}, "tolerance is 1.0 in 'A', 0.1 in 'B'"),
        ({"kind": "labels"}, {"kind": "text"}, "kind is 'labels' in 'A', 'text' in 'B'"),
        (
            {"match": "token_f1"},
            {"match": "token_f1", "threshold": 0.9},
            "threshold is 0.5 in 'A', 0.9 in 'B'",
        ),
        (
            {"kind": "labels", "normalise": True},
            {"kind": "labels"},
            "normalise is 'normalise' in 'A', None in 'B'",
        ),
        ({"match": lambda p, g: p == g}, {"match": lambda p, g: p != g}, "match is 'function"),
        ({"failed": "exclude"}, {}, "failed is 'exclude' in 'A', 'wrong' in 'B'"),
    ],
)
def test_runs_of_different_rules_are_refused(one, other, words):
    """
    A difference that is the rule's is never called the model's: I am told which rule differs.
    """
    frame = pd.DataFrame({"p": ["1", "2"] * 10, "g": ["1", "3"] * 10})
    with pytest.raises(InputError, match="graded by different rules") as caught:
        compare(score(frame, "p", "g", name="A", **one), score(frame, "p", "g", name="B", **other))
    assert words in str(caught.value)


def test_closures_are_told_apart_by_what_they_hold():
    """
    Two functions of one text that hold another limit are two rules; the same limit is one.
    """

    def within(limit):
        return lambda p, g: abs(float(p) - float(g)) <= limit

    frame = pd.DataFrame({"p": ["1", "2"] * 10, "g": ["1", "3"] * 10})
    runs = [
        score(frame, "p", "g", match=within(limit), name=name)
        for name, limit in (("A", 1), ("B", 0), ("C", 1))
    ]
    with pytest.raises(InputError, match="different rules"):
        compare(runs[0], runs[1])
    assert compare(runs[0], runs[2]).verdict_sign == 0


@pytest.mark.parametrize(
    ("answers", "gold", "right"),
    [
        ([True, False, "y", "no"], ["yes", "No", "Yes", "no"], [1, 1, 1, 1]),
        ([True, False, "Yes."], ["yes", "yes", "yes"], [1, 0, 1]),
        (["e\u0301", "o\u0308"] * 3, ["\u00e9", "o"] * 3, [1, 0] * 3),
        (
            ["red", "red", Colour.BLUE, "Colour.RED"],
            [Colour.RED, Colour.BLUE, "blue", Colour.RED],
            [1, 0, 1, 0],
        ),
        (["1", 2, "2"] * 2, pd.Series([Step.LOW, Step.LOW, Step.HIGH] * 2, dtype="category"), [1, 0, 1] * 2),
    ],
)
def test_labels_that_say_the_same_are_the_same(answers, gold, right):
    """
    Booleans however the gold spells them, also where it has one of the two only; accents as one sign or two; members
    of an enumeration as their values.
    """
    frame = pd.DataFrame({"a": pd.Series(answers, dtype=object), "g": gold})
    found = score(frame, "a", "g")
    assert found.kind == "labels"
    assert found.rows["correct"].astype(int).tolist() == right


def test_lists_and_dicts_of_a_csv_file_are_lists_and_dicts():
    """
    Gold that went through a file as text, as JSON or as Python writes it, is scored as what it was.
    """
    frame = pd.DataFrame({"a": [["b", "a"], ["c"], "['x']"], "g": ['["a", "b"]', "['d']", '["x"]']})
    found = score(frame, "a", "g")
    assert found.kind == "sets"
    assert found.rows["correct"].tolist() == [True, False, True]
    answers = pd.Series([{"x": 1, "y": "b"}, '{"x": 3}'], dtype=object)
    found = score(pd.DataFrame({"a": answers, "g": ['{"x": 1, "y": "b"}', "{'x': 2}"]}), "a", "g")
    assert found.kind == "fields"
    assert found.rows["correct"].tolist() == [True, False]
    words = pd.DataFrame({"a": ["[1] yes", "x"], "g": ["[1] yes", "[2] no"]})
    assert score(words, "a", "g").kind == "text"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1,234", 1234),
        ("$1,234.50", 1234.5),
        ("4 €", 4),
        ("-$5", -5),
        ("£ 3", 3),
        ("−7", -7),
        ("-1,000,000", -(10**6)),
    ],
)
def test_amounts_are_read_as_they_are_written(answer, gold):
    """
    Thousands set apart, a currency's sign, a true minus.
    """
    found = score(pd.DataFrame({"a": [answer], "g": [gold]}), "a", "g")
    assert found.rows["correct"].tolist() == [True]


@pytest.mark.parametrize("answer", ["1,23", "12,34,567", "1,2345", "5 %", "$", "1.234,5", "five", "$4$$"])
def test_what_may_mean_another_number_is_none(answer):
    """
    No guess is made where a text is not plainly one number.
    """
    found = score(pd.DataFrame({"a": [answer], "g": [1]}), "a", "g")
    assert found.rows["error"].tolist() == ["not_a_number"]


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("14:30", True), ("14:30:00", True), ("2:30 PM", True), ("2:30 p.m.", True), ("02:30pm", True), ("14h30", True),
        ("14:30 Uhr", True), (datetime.time(14, 30), True), (pd.Timedelta("14:30:00"), True), ("14:30:00.000", True),
        ("2:30", False), ("2:30 AM", False), ("14:31", False), ("25:00", False), ("14", False), ("soon", False),
        ("14:30 PM", False), (1430, False), ("", False),
    ],
)  # fmt: skip
def test_a_time_of_day_is_the_same_in_every_usual_form(answer, correct):
    """
    Against a column of times, half past two is right however it is written, and what is no time has failed.
    """
    frame = pd.DataFrame(
        {"p": pd.Series([answer, "9:00"], dtype=object), "g": [datetime.time(14, 30), datetime.time(9)]}
    )
    found = score(frame, "p", "g")
    assert found.kind == "times"
    assert found.rows["correct"].tolist() == [correct, True]


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("1:30", True), ("01:30:00", True), ("90 min", True), ("90 minutes", True), ("PT1H30M", True), ("1.5 hours", True),
        ("1 hour and 30 minutes", True), ("1h 30m", True), (datetime.timedelta(minutes=90), True),
        ("0d 1h 30m", True), (np.timedelta64(90, "m"), True), ("90 mins.", True), ("1h30", True), ("1 hr, 30 mins", True),
        ("0 days 01:30:00", True), ("5,400 seconds", True), ("P0DT90M", True), ("1H 30M", True),
        ("90", False), (90, False), ("91 min", False), ("long", False), ("", False), (".", False), ("P90M", False),
        ("1,5 hours", False), ("1 30 hours", False), ("90,", False), ("1:90", False), ("90 minutes ago", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gold", ["timedelta64[ns]", object])
def test_a_duration_is_the_same_in_every_usual_form(answer, correct, gold):
    """
    Against a column of durations, ninety minutes are right in every unit, and a number without one is none.
    """
    frame = pd.DataFrame({"p": pd.Series([answer, "2 days"], dtype=object)})
    frame["g"] = pd.Series([np.timedelta64(90, "m"), datetime.timedelta(days=2)], dtype=gold)
    found = score(frame, "p", "g")
    assert found.kind == "times"
    assert found.rows["correct"].tolist() == [correct, True]


def test_midnight_is_twelve_at_night():
    """
    12 AM is 00:00 and 12 PM noon; texts are times where I say so.
    """
    frame = pd.DataFrame({"p": ["12 AM", "12:00 PM", "noon"], "g": ["00:00", "12:00", "12:00"]})
    found = score(frame, "p", "g", kind="times")
    assert found.rows["outcome"].tolist() == ["correct", "correct", "failed"]
    assert found.rows["error"].tolist()[2] == "not_a_time"
    assert "same time" in repr(found)


@pytest.mark.parametrize(
    ("gold", "kind", "words"),
    [
        ([1.0, math.inf, -math.inf], None, "2 rows have gold that is no finite number (inf, -inf)"),
        (["1", "2", "n/a"], "numbers", "1 row has gold that is no finite number ('n/a')"),
        (["2024-01-01", "soon", None], "dates", "1 row has gold that is no date ('soon')"),
    ],
)
def test_gold_that_cannot_be_compared_is_said(gold, kind, words):
    """
    A gold answer that is there and yet counts as none is told in a note.
    """
    frame = pd.DataFrame({"p": gold, "g": gold})
    assert any(words in note for note in score(frame, "p", "g", kind=kind).notes)
    assert not any("gold that is no" in note for note in score(frame.head(1), "p", "g", kind=kind).notes)
