"""Evaluations that stay: saved, listed, compared by name in a later session, and a gate for CI."""

from __future__ import annotations

import datetime
import errno
import json
import os
import stat
import subprocess
import sys
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.cli import main
from dobatch_pandas.errors import ConfigurationError, InputError, RequirementNotMet
from dobatch_pandas.evals import compare, load, score


@pytest.fixture(autouse=True)
def own_home(tmp_path):
    dobatch.configure(home=tmp_path / "home")
    yield tmp_path / "home"
    dobatch.configure(home=None)


def reviews(share: float = 0.8, rows: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["neg", "pos"], rows)
    other = np.where(gold == "neg", "pos", "neg")
    return pd.DataFrame(
        {"text": [f"row {n}" for n in range(rows)], "a": np.where(rng.random(rows) < share, gold, other), "g": gold,
         "lang": rng.choice(["de", "en"], rows), "when": pd.date_range("2024-01-01", periods=rows, tz="UTC")}
    )  # fmt: skip


def same(a: pd.DataFrame | None, b: pd.DataFrame | None) -> None:
    if a is None or b is None:
        assert a is b
        return
    pd.testing.assert_frame_equal(a, b, check_dtype=False, check_index_type=False, check_column_type=False)


KINDS = {
    "labels": (["x", None, "y"] * 8, ["x", "y", "y"] * 8),
    "flags": ([True, False, None] * 8, [True, True, False] * 8),
    "numbers": ([1.5, None, 3] * 8, [1.5, 2, 4] * 8),
    "identifiers": ([2**60 + 1, 5, 7] * 8, [2**60, 5, 7] * 8),
    "decimals": ([Decimal("1.10"), None, Decimal("2")] * 8, [Decimal("1.1"), Decimal(3), Decimal(2)] * 8),
    "dates": (["2024-03-01", "soon", None] * 8, [datetime.date(2024, 3, 1)] * 24),
    "sets": ([["a", "b"], None, []] * 8, [["b", "a"], ["c"], []] * 8),
    "fields": ([{"x": 1, "y": ["q"]}, None, {"x": 2}] * 8, [{"x": 1, "y": ["q"]}] * 24),
    "hollow": ([{}, None, {}] * 8, [{"x": [{}]}, {"x": []}, None] * 8),
    "text": (["Paris \ud83d", "Rome", None] * 8, [f"place {n}" for n in range(24)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back(kind):
    """
    Numbers, rows, classes and slices of every kind are the same after a save, and show the same.
    """
    answers, gold = KINDS[kind]
    frame = pd.DataFrame(
        {"p": pd.Series(answers, dtype=object), "g": pd.Series(gold, dtype=object), "s": ["u", "v"] * 12},
        index=pd.MultiIndex.from_product([["i", "j"], range(12)], names=["a", "b"]),
    )
    found = score(frame, "p", "g", by="s", name="kept")
    found.save()
    back = load("kept")
    same(found.table, back.table)
    for table in ("classes", "confusion", "slices", "fields"):
        same(getattr(found, table), getattr(back, table))
    assert back.rows["outcome"].tolist() == found.rows["outcome"].tolist()
    assert back.rows["score"].fillna(-1).tolist() == found.rows["score"].fillna(-1).tolist()
    assert back.rows.index.equals(found.rows.index)
    assert (back.counts, back.kind, back.notes, dict(back.rules)) == (
        found.counts,
        found.kind,
        found.notes,
        found.rules,
    )
    assert repr(back) == repr(found)
    assert back._repr_html_() == found._repr_html_()
    assert dobatch.compare("kept", found, names=["then", "now"]).verdict_sign == 0


def test_a_leaderboard_says_how_to_fill_it_and_leaves_out_what_was_not_told():
    """
    An empty one names the way to keep an evaluation; a model or a prompt that nobody named is no "nan".
    """
    assert 'evaluation.save("name") keeps one' in dobatch.evaluations()._repr_html_().replace("&quot;", '"')
    score(reviews(0.5), "a", "g").save("untold")
    board = dobatch.evaluations()._repr_html_().split("</style>")[1]
    assert "untold" in board
    assert "nan" not in board


def test_saved_evaluations_are_a_frame_and_a_leaderboard():
    """
    Each save is a line with model, prompt and cost; the newest of each name stands on the board, the best first.
    """
    assert dobatch.evaluations().empty
    for share, name in ((0.6, "plain"), (0.9, "few shots"), (0.7, "plain")):
        score(reviews(share), "a", "g", name=name).save(prompt=f"<b>{share}</b>", model="m", cost=share / 10)
    saved = dobatch.evaluations()
    assert saved["name"].tolist() == ["plain", "few shots", "plain"]
    assert saved["cost"].tolist() == pytest.approx([0.07, 0.09, 0.06])
    assert saved["data"].nunique() == 1
    assert saved.latest()["name"].tolist() == ["few shots", "plain"]
    html = saved._repr_html_()
    assert html.index("few shots") < html.index("plain")
    assert "&lt;b&gt;0.7" in html
    assert "<b>0.7" not in html
    assert type(saved[["name"]]) is pd.DataFrame
    for kind in ("time", "cost"):
        assert saved.plot(kind).get_title(loc="left")
    with pytest.raises(InputError, match="time"):
        saved.plot("area")


def test_runs_are_compared_by_name_in_a_later_session(own_home):
    """
    Another process compares two saved runs by their names and comes to the same verdict.
    """
    a, b = score(reviews(0.6), "a", "g", name="plain"), score(reviews(0.9, seed=0), "a", "g", name="better")
    a.save()
    b.save()
    here = dobatch.compare("plain", "better", by="lang")
    assert here.verdict == dobatch.compare(a, b).verdict
    code = "import dobatch_pandas as d; print(d.compare('plain', 'better', by='lang').verdict)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "DOBATCH_HOME": str(own_home)},
    )
    assert done.stdout.strip() == here.verdict, done.stderr


def test_an_older_run_is_found_by_its_id():
    """
    The name is the newest; the id in the list is any of them.
    """
    for share in (0.6, 0.9):
        score(reviews(share), "a", "g", name="main").save()
    saved = dobatch.evaluations()
    assert load("main").accuracy == saved["accuracy"].iloc[0]
    assert load(saved["id"].iloc[1]).accuracy == saved["accuracy"].iloc[1]
    with pytest.raises(InputError, match=r"no saved evaluation 'other'\. There are: 'main'"):
        load("other")


def test_runs_of_other_rules_are_refused_by_name_too():
    """
    What decided which row is right is kept, down to the function, and compared.
    """
    score(reviews(), "a", "g", match="exact", name="A").save()
    score(reviews(), "a", "g", match="contains", name="B").save()
    with pytest.raises(InputError, match="different rules"):
        dobatch.compare("A", "B")


@pytest.mark.parametrize("name", ["", " ", "x\0y", "two\nlines", "\x1b[31mred"])
def test_a_name_is_words_on_one_line(name, own_home):
    """
    What no list can show is refused, and nothing is written.
    """
    with pytest.raises(InputError, match="name in words, on one line"):
        score(reviews(), "a", "g").save(name)
    assert not own_home.exists() or not list(own_home.rglob("*.json"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "CON", "é" * 300, ".hidden", "Ü", "🎉"])
def test_any_name_stays_in_the_home(name, own_home):
    """
    A name is words and no path.
    """
    folder = score(reviews(), "a", "g").save(name)
    assert own_home.resolve() in folder.resolve().parents
    assert load(name).name == name
    assert not list(own_home.parent.glob("etc*"))


def test_a_saved_evaluation_is_its_owners_alone(own_home):
    """
    Answers and gold are nobody else's to read, and no half-written one is ever listed.
    """
    folder = score(reviews(), "a", "g", name="main").save()
    for path in [own_home / "evaluations", folder, *folder.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    (folder.parent / ".unfinished.partial").mkdir()
    assert len(dobatch.evaluations()) == 1


def test_a_save_that_fails_leaves_nothing(own_home, monkeypatch):
    """
    When the disk is full, what was there stays and nothing half is added.
    """
    evaluation = score(reviews(), "a", "g", name="main")
    evaluation.save()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match=r"cannot be saved in .* No space"):
        evaluation.save()
    assert len(list((own_home / "evaluations").rglob("*"))) == 5  # a name, a run and its three files
    assert load("main").accuracy == evaluation.accuracy


def test_an_evaluation_that_cannot_be_read_is_named():
    """
    A broken file, and one of a newer version, are said; the others are still listed.
    """
    folder = score(reviews(), "a", "g", name="main").save()
    newer = score(reviews(), "a", "g", name="newer").save()
    record = json.loads((newer / "evaluation.json").read_text())
    (newer / "evaluation.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.warns(UserWarning, match="upgrade dobatch-pandas"):
        assert dobatch.evaluations()["name"].tolist() == ["main"]
    with pytest.raises(InputError, match="upgrade"):
        load("newer")
    (folder / "evaluation.json").write_text("{")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert dobatch.evaluations().empty


@pytest.mark.parametrize("file", ["rows.parquet", "frame.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_evaluation_says_which_folder_it_is(file, damage):
    """
    One clear error with the folder to delete, whatever is broken.
    """
    folder = score(reviews(), "a", "g", name="main").save()
    if damage == "cut":
        (folder / file).write_bytes(b"PAR1")
    else:
        (folder / file).unlink()
    with pytest.raises(InputError, match="is damaged") as caught:
        load("main")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "index",
    [
        pd.period_range("2024-01", periods=12, freq="M"),
        pd.interval_range(0, 12),
        pd.to_timedelta(range(12), unit="D"),
        pd.Index([uuid.UUID(int=n) for n in range(12)]),
        pd.Index([(n, "x") for n in range(12)], tupleize_cols=False),
        pd.MultiIndex.from_arrays([pd.period_range("2024-01", periods=12, freq="M"), range(12)]),
        pd.date_range("2024-01-01", periods=12, tz="Asia/Tokyo"),
        pd.CategoricalIndex(list("abcdefghijkl")),
    ],
    ids=lambda index: type(index).__name__ + str(index[0]),
)
def test_a_saved_run_is_paired_by_any_index(index):
    """
    A run of today finds the rows of a saved one, whatever its labels are.
    """
    frame = reviews(rows=12).set_axis(index)
    frame[("two", "names")] = 1
    now = score(frame, "a", "g", name="main", cluster="lang")
    now.save()
    found = compare(now, load("main"), names=["now", "then"])
    assert found.rows_used == 12
    assert found.table["difference"].iloc[1] == 0
    assert not len(found.unmatched)


# ---- the gate


def test_what_is_required_is_checked_all_at_once():
    """
    require() raises with everything that falls short, and returns the evaluation where nothing does.
    """
    found = score(reviews(0.8), "a", "g", name="now")
    assert found.require(accuracy=0.7, macro_f1=0.7) is found
    with pytest.raises(RequirementNotMet, match=r"accuracy is .* at least 0\.95.*macro_f1 is") as caught:
        found.require(accuracy=0.95, macro_f1=0.99)
    assert isinstance(caught.value, AssertionError)
    with pytest.raises(InputError, match="no metric 'acuracy'"):
        found.require(acuracy=0.9)
    with pytest.raises(InputError, match=r"shares go from 0 to 1, so 90 % is 0\.9"):
        found.require(accuracy=90)
    with pytest.raises(InputError, match="Say what is required"):
        found.require()


def test_errors_must_not_be_above_what_is_required():
    """
    For MAE less is better.
    """
    frame = pd.DataFrame({"p": [1.0, 2.0], "g": [1.5, 2.5]})
    score(frame, "p", "g").require(mae=0.5)
    with pytest.raises(RequirementNotMet, match=r"at most 0\.4"):
        score(frame, "p", "g").require(mae=0.4)


def test_a_run_must_not_be_worse_than_a_saved_one():
    """
    against= takes a saved run: worse fails, a little noise does not, and a margin has to be shown.
    """
    score(reviews(0.9), "a", "g", name="main").save()
    worse, alike = score(reviews(0.7), "a", "g"), score(reviews(0.9, seed=0), "a", "g")
    with pytest.raises(RequirementNotMet, match="now is worse than before"):
        worse.require(against="main")
    alike.require(against="main", margin=0.05)
    frame = reviews(0.9)
    flipped = frame.assign(a=np.where(frame.index < 4, "neither", frame["a"]))
    score(flipped, "a", "g").require(against="main")
    with pytest.raises(RequirementNotMet, match=r"it may be worse by .* points"):
        score(flipped, "a", "g").require(against="main", margin=0.01)
    elsewhere = reviews(0.9).set_axis(range(1000, 1200))
    with pytest.raises(RequirementNotMet, match="no row is in both"):
        score(elsewhere, "a", "g").require(against="main")


def test_nothing_that_is_not_known_passes_the_gate():
    """
    An accuracy of no rows is not good enough.
    """
    frame = pd.DataFrame({"p": pd.Series([None], dtype=object), "g": pd.Series([None], dtype=object)})
    with pytest.raises(RequirementNotMet, match="accuracy is nan"):
        score(frame, "p", "g").require(accuracy=0.0)


def test_the_gate_works_from_a_shell(tmp_path, capsys):
    """
    `dobatch eval` prints the numbers, saves a good run, and its exit status tells CI.
    """
    path, worse = tmp_path / "answers.parquet", tmp_path / "worse.csv"
    reviews(0.9).to_parquet(path)
    reviews(0.6).to_csv(worse, index=False)
    common = ["--predicted", "a", "--actual", "g", "--kind", "labels"]
    done = main(
        [
            "eval",
            str(path),
            *common,
            "--require",
            "accuracy=0.8",
            "--save",
            "main",
            "--html",
            str(tmp_path / "r.html"),
        ]
    )
    out = capsys.readouterr().out
    assert done == 0
    assert "All that is required holds." in out
    assert "macro_f1" in out
    assert (tmp_path / "r.html").stat().st_size > 10_000
    assert main(["eval", str(worse), *common, "--against", "main", "--save", "main"]) == 1
    assert "worse than before" in capsys.readouterr().err
    assert len(dobatch.evaluations()) == 1  # what falls short is not kept
    capsys.readouterr()
    for options, words in (
        (["--require", "accuracy"], "is not METRIC=VALUE"),
        (["--require", "accuracy=0.9", "--require", "accuracy=0.1"], "given twice"),
        (["--margin", "0.01"], "goes with against="),
        (["--key", "g"], "do not tell rows apart"),
        (["--against", "never saved"], "There are: 'main'"),
    ):
        assert main(["eval", str(path), *common, *options]) == 1, options
        assert words in capsys.readouterr().err
    assert main(["eval", str(path), "--predicted", "nothing", "--actual", "g"]) == 1
    assert "There is no column 'nothing'" in capsys.readouterr().err


def test_a_job_brings_what_it_was_asked(server):
    """
    Scoring a job joins it, takes its samples, and keeps prompt, model and schema with the saved run.
    """
    frame = pd.DataFrame({"text": ["good", "bad", "good"] * 4, "label": ["pos", "neg", "neg"] * 4})
    job = frame.dobatch.submit(
        "Sentiment of: {text}",
        model="gpt-4.1-mini",
        into="mood",
        schema={"mood": ["pos", "neg"]},
        samples=2,
        display=False,
    )
    found = frame.dobatch.score(job, actual="label", kind="labels", name="first")
    assert len(found.runs) == 2
    found.save()
    line = dobatch.evaluations().iloc[0]
    assert (line["model"], line["prompt"]) == ("gpt-4.1-mini", "Sentiment of: {text}")
    assert load("first").about["schema"]["properties"]["mood"]["enum"] == ["pos", "neg"]
