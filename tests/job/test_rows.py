"""Whatever happens to a frame between submit and join, an answer stands on the row that asked, or there is a code."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.answers.result_lines import RESULTS
from dobatch_pandas.job.folder import JobFolder, JobRecord
from dobatch_pandas.job.input import frozen_in, write_input
from dobatch_pandas.job.row_answers import JobAnswers
from dobatch_pandas.job.rows import RowRecord, contents_of, index_of, labels_of
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.prompts import col
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import RequestWriter

HISTORIES = 900  # for each of six kinds of prompt: more than 5,000 in all


def base_frame() -> pd.DataFrame:
    """Rows of many types, of which some are equal and some are equal but for their label."""
    text = ["apple", "bear", "cat", "dog", "apple", "bear", "Zoë", "1", "01", "fig", "apple", "grape"]
    frame = pd.DataFrame(
        {
            "text": text,
            "n": [3, 1, 2, 0, 3, 7, 6, 5, 4, 8, 3, 2**60],
            "x": [0.5, 1.0, None, 0.1, 0.5, 2.5, 1e300, -0.0, 0.3, 4.0, 0.5, 7.0],
            "kind": pd.Categorical(list("abcaaabbccab")),
            "when": pd.date_range("2026-01-01", periods=12).where(np.arange(12) % 5 != 2),
            "flag": [True, False] * 6,
        }
    )
    # The first and the last apple are wholly equal.
    frame.loc[10] = frame.loc[0]
    frame = frame.astype({"n": "int64", "flag": "bool", "kind": "category"})
    frame["chat"] = [
        [{"role": "user", "content": f"chat {t} {n}"}] for t, n in zip(frame.text, frame.n, strict=True)
    ]
    return frame


def series_of(frame: pd.DataFrame) -> pd.Series:
    """Prompts that no row could be asked for again: each is of its place, too."""
    return pd.Series([f"{n}: {t}" for n, t in enumerate(frame["text"])], index=frame.index)


PROMPTS: dict[str, Any] = {
    "template": lambda frame: "Say {text} {n}",
    "messages": lambda frame: [{"role": "user", "content": "Say {text} {n}"}],
    "column": lambda frame: col("chat"),
    "words": lambda frame: col("text"),
    "series": series_of,
    "function": lambda frame: lambda row: f"Say {row['text']} {row.n}",
}


@dataclass
class Asked:
    """A job whose every request is answered by what it asks."""

    frame: pd.DataFrame
    texts: list[str]  # what each row asked
    answers: list[JobAnswers]  # in this session, and after attach
    contents: list[str]


def ask(frame: pd.DataFrame, prompt: Any, root: Path, **options: Any) -> Asked:
    """Submit a frame without a service."""
    recipe = build_recipe(prompt, model="gpt-4.1-mini", into="out", **options)
    folder = JobFolder(root).create()
    fingerprint, rows = write_input(frame, recipe, folder.input, "")
    rows.write(folder.rows)
    paths: list[Path] = []
    writer = RequestWriter(recipe, folder.parts, on_part=lambda part: paths.append(part.path))
    written = pa.Table.from_batches([writer.add(piece) for piece in frozen_in(folder)])
    writer.close()
    pq.write_table(written, folder.manifest)
    said = {}
    for path in paths:
        for line in filter(None, path.read_bytes().split(b"\n")):
            entry = json.loads(line)
            said[entry["custom_id"]] = entry["body"]["messages"][-1]["content"]
    columns = {"custom_id": list(said), "text": list(said.values()), "status": ["succeeded"] * len(said)}
    arrays = [pa.array(columns.get(f.name, [None] * len(said)), f.type) for f in RESULTS]
    pq.write_table(pa.Table.from_arrays(arrays, schema=RESULTS), folder.result(0))
    record = JobRecord(
        *("job", 0.0, fingerprint, "", "", recipe.provider, recipe.endpoint, recipe.model, "out", len(frame)),
        recipe=json.dumps(recipe.to_json()),
    )
    state: Any = SimpleNamespace(parts={}, rendered=True, reused=0)
    again = Recipe.from_json(json.loads(record.recipe))
    kept = [JobAnswers(folder, record, recipe, state, rows), JobAnswers(folder, record, again, state)]
    texts = [said[i] for i in written["custom_id"].to_pylist()[:: recipe.samples]]
    return Asked(frame, texts, kept, [repr(row) for row in frame.itertuples(index=False)])


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Asked]]:
    """For each kind of prompt, jobs over the same rows with labels of several kinds."""
    frame = base_frame()
    indexes = [
        frame.index,
        pd.Index(list("abcdefghijkl")),
        pd.Index([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        pd.MultiIndex.from_arrays([[1, 2] * 6, list("aabbccddeeff")], names=["one", None]),
    ]
    return {
        kind: [
            ask(moved, make(moved), tmp_path_factory.mktemp("job"))
            for moved in (frame.set_axis(index) for index in indexes)
        ]
        for kind, make in PROMPTS.items()
    }


# What people do to frames: each takes the frame and where each of its rows came from (-1: nowhere).
State = tuple[pd.DataFrame, np.ndarray]


def moved(frame: pd.DataFrame, origin: np.ndarray, places: Any) -> State:
    return frame.iloc[places], origin[places]


def sorted_by(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    name = ["text", "n", "x"][n % 3]
    if name not in frame:
        return frame, origin
    texts = [str(value) for value in frame[name]]
    return moved(
        frame, origin, np.array(sorted(range(len(texts)), key=texts.__getitem__, reverse=bool(n % 2)), int)
    )


def filtered(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return moved(frame, origin, np.flatnonzero(np.arange(len(frame)) % (n % 3 + 2) != 0))


def shuffled(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return moved(frame, origin, np.random.default_rng(n).permutation(len(frame)))


def doubled(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    tail = frame.iloc[: n % 4]
    return pd.concat([frame, tail], ignore_index=bool(n % 2)), np.append(origin, origin[: n % 4])


def grown(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    new = frame.iloc[:1].copy()
    if "text" in new:
        new["text"] = f"new {n}"
    return pd.concat([new, frame], ignore_index=bool(n % 2)), np.append([-1], origin)


def renumbered(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return frame.reset_index(drop=True), origin


def relabelled(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    if "n" in frame and n % 2:
        return frame.set_index("n", drop=False), origin
    return frame.set_axis(pd.RangeIndex(n % 3, n % 3 + len(frame))), origin


def renamed(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    name = ["x", "kind", "text"][n % 3]
    return frame.rename(columns={name: f"{name}_old"}), origin


def swapped(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    """Two columns trade their names."""
    return frame.rename(columns={"x": "n", "n": "x"}), origin


def dropped(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return frame.drop(columns=[["flag", "when", "text"][n % 3]], errors="ignore"), origin


def added(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return frame.assign(more=range(len(frame))), origin


def retyped(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    kinds = [{"n": "Int64"}, {"text": "category"}, {"x": "Float64"}, {"text": "object"}, {"flag": "boolean"}]
    try:
        return frame.astype(kinds[n % 5]), origin
    except (KeyError, TypeError, ValueError):  # gone, or something else by now
        return frame, origin


def through_parquet(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    if frame.columns.duplicated().any():
        return frame, origin
    sink = pa.BufferOutputStream()
    frame.to_parquet(sink)
    return pd.read_parquet(pa.BufferReader(sink.getvalue())), origin


def through_feather(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    if frame.columns.duplicated().any():
        return frame, origin
    sink = pa.BufferOutputStream()
    frame.reset_index(drop=True).to_feather(sink)
    return pd.read_feather(pa.BufferReader(sink.getvalue())), origin


def through_pickle(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    return pickle.loads(pickle.dumps(frame)), origin


def through_csv(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    # Lists become text; it is as JSON that one can read them again.
    kept = frame.assign(chat=frame["chat"].map(as_json)) if "chat" in frame else frame
    return pd.read_csv(io.StringIO(kept.to_csv(index=False))), origin


def through_excel(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    """A sheet: numbers have 15 digits, "01" may stay text, lists are text, there are no categories."""
    if frame.columns.duplicated().any():
        return frame, origin
    kept = frame.assign(chat=frame["chat"].map(as_json)) if "chat" in frame else frame
    sheet = io.BytesIO()
    kept.to_excel(sheet, index=False, engine="openpyxl")
    read = pd.read_excel(sheet, engine="openpyxl", dtype={"text": object} if n % 2 else None)
    return read, origin


def as_json(value: Any) -> Any:
    return value if isinstance(value, str) else json.dumps([dict(one) for one in value])


def changed(frame: pd.DataFrame, origin: np.ndarray, n: int) -> State:
    if "text" not in frame or not len(frame):
        return frame, origin
    texts = frame["text"].astype(object).tolist()
    place = n % len(texts)
    before, texts[place] = texts[place], "apple" if n % 2 else "changed"
    same = before == texts[place]
    return frame.assign(text=texts), np.where((np.arange(len(origin)) == place) & (not same), -1, origin)


STEPS = [
    *(
        sorted_by,
        filtered,
        shuffled,
        doubled,
        grown,
        renumbered,
        relabelled,
        renamed,
        swapped,
        dropped,
        added,
    ),
    *(retyped, through_parquet, through_feather, through_pickle, through_csv, changed),
]
steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 30))
# A sheet takes as long to write as ten other steps: one in every fourth history is enough.
sheets = st.tuples(st.just(through_excel), st.integers(0, 30))
with_a_sheet = st.builds(
    lambda before, sheet, after: [*before, sheet, *after],
    st.lists(steps, max_size=2),
    sheets,
    st.lists(steps, max_size=3),
)
plain_history = st.lists(steps, max_size=6)
histories = st.integers(0, 3).flatmap(lambda n: plain_history if n else with_a_sheet)


def same_contents(job: Asked, one: int, other: int) -> bool:
    return job.contents[one] == job.contents[other]


def wrong_rows(
    job: Asked, kind: str, frame: pd.DataFrame, origin: np.ndarray, answers: JobAnswers
) -> list[Any]:
    """Rows with an answer that they, and rows wholly equal to them, have not asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        columns = answers.for_frame(frame)
    wrong = []
    for place, (answer, code) in enumerate(zip(columns["out"], columns["out_error"], strict=True)):
        assert pd.isna(answer) != pd.isna(code)
        if pd.isna(answer):
            continue
        came = int(origin[place])
        askers = [row for row, text in enumerate(job.texts) if text == answer]
        # A row that is new, or was changed, may have become just what another one was at submit.
        now = repr(next(frame.iloc[[place]].itertuples(index=False)))
        right = any(
            row == came or job.contents[row] in (now, came >= 0 and job.contents[came]) for row in askers
        )
        row = frame.iloc[place]
        if kind == "column":
            chat = json.loads(row["chat"]) if isinstance(row["chat"], str) else row["chat"]
            right = next(iter(chat))["content"] == answer
        elif kind == "words":
            right = str(row["text"]).removesuffix(".0") == answer
        elif kind != "series":
            # A row that was changed, or is new, may ask what another one asked; a template always asks what stands there.
            says = f"Say {row.get('text')} {row.get('n')}".removesuffix(".0") == answer
            right = says or (right and kind == "function")
        if not right:
            wrong.append((place, answer))
    return wrong


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", PROMPTS)
@given(data=st.data())
@settings(max_examples=HISTORIES)
def test_no_answer_stands_on_another_row(
    jobs: dict[str, list[Asked]], kind: str, data: st.DataObject
) -> None:
    """
    Sort, filter, grow, rename, retype, write and read a frame as you like: a row has its own answer, or a code.
    """
    job = data.draw(st.sampled_from(jobs[kind]))
    frame, origin = job.frame, np.arange(len(job.frame))
    for step, n in data.draw(histories):
        frame, origin = step(frame, origin, n)
    assert wrong_rows(job, kind, frame, origin, data.draw(st.sampled_from(job.answers))) == []


def test_the_histories_find_a_match_by_label(
    jobs: dict[str, list[Asked]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Were rows matched by their labels, these very histories would show it.
    """

    def by_label(self: RowRecord, frame: pd.DataFrame, ids: Any) -> Any:
        if not self.index.is_unique or self.index.nlevels != frame.index.nlevels:
            return np.full(len(frame), -1)
        return self.index.get_indexer(frame.index)

    monkeypatch.setattr(RowRecord, "places_of", by_label)
    for kind in ("series", "function"):
        job = jobs[kind][0]
        found = []
        for n in range(10):
            frame, origin = renumbered(*shuffled(job.frame, np.arange(len(job.frame)), n), n)
            found += wrong_rows(job, kind, frame, origin, job.answers[n % 2])
        assert found


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("after_attach", [False, True])
def test_rows_that_were_only_moved_have_their_answers(
    jobs: dict[str, list[Asked]], kind: str, after_attach: bool
) -> None:
    """
    A code is for rows that changed: what was sorted, filtered, retyped, written and read is known again.
    """
    for job in jobs[kind]:
        answers = job.answers[after_attach]
        for steps in (
            [],
            [shuffled],
            [sorted_by, renumbered],
            [filtered, relabelled],
            [retyped, added],
            [grown],
            [through_parquet, shuffled],
            [through_feather, sorted_by],
            [through_pickle, filtered],
        ):
            frame, origin = job.frame, np.arange(len(job.frame))
            for step in steps:
                frame, origin = step(frame, origin, 3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = answers.for_frame(frame)["out"].tolist()
            # Equal rows whose prompts differ (a Series may do that) are told apart by labels, where these are kept.
            sure = [
                place
                for place, came in enumerate(origin)
                if came >= 0
                and len({job.texts[r] for r in range(len(origin)) if r < 12 and same_contents(job, r, came)})
                == 1
            ]
            assert [out[place] for place in sure] == [job.texts[origin[place]] for place in sure], steps


def test_one_sentence_says_how_many_rows_are_not_known_again(jobs: dict[str, list[Asked]]) -> None:
    """
    The code is row_changed, and a warning counts the rows and says what to do.
    """
    job = jobs["function"][0]
    frame = job.frame.assign(text=["changed", *job.frame["text"][1:]])
    with pytest.warns(UserWarning, match=r"1 of 12 rows .* row_changed.* job\.result\(\)"):
        columns = job.answers[1].for_frame(frame)
    assert columns["out_error"].tolist()[0] == "row_changed"
    assert columns["out_error"].isna().tolist() == [False] + [True] * 11

    with pytest.warns(UserWarning, match="12 of 12 rows .*'text' is gone"):
        columns = jobs["template"][0].answers[0].for_frame(frame.drop(columns="text"))
    assert set(columns["out_error"]) == {"row_changed"}


def test_a_prompt_function_is_called_once(tmp_path: Path) -> None:
    """
    What was asked is on record; what the function would say at join has no say.
    """
    calls = []
    frame = pd.DataFrame({"text": ["a", "b"]})
    job = ask(frame, lambda row: calls.append(row["text"]) or f"{len(calls)}: {row['text']}", tmp_path)
    for answers in job.answers:
        assert answers.for_frame(frame.iloc[::-1])["out"].tolist() == ["2: b", "1: a"]
    assert calls == ["a", "b"]


@pytest.mark.parametrize("prompt", [col("text"), "Say {text}", lambda row: row["text", ""]])
def test_columns_of_two_levels_are_known_again(prompt: Any, tmp_path: Path) -> None:
    """
    A frame whose columns have a second level, empty for some, has its answers as any other.
    """
    frame = pd.DataFrame({("text", ""): ["a", "b"], ("x", "mean"): [1, 2]})
    job = ask(frame, prompt, tmp_path)
    for answers in job.answers:
        assert answers.for_frame(frame.iloc[::-1])["out"].tolist() == job.texts[::-1]


@pytest.mark.parametrize("kind", ["template", "words", "function", "series"])
def test_a_column_that_stands_twice_is_no_column(kind: str, jobs: dict[str, list[Asked]]) -> None:
    """
    Which of two columns of one name was asked nobody can say: the rows have a code, and the warning says why.
    """
    frame = pd.concat([jobs[kind][0].frame, jobs[kind][0].frame[["text"]].iloc[::-1]], axis=1)
    for answers in jobs[kind][0].answers:
        with pytest.warns(UserWarning, match="'text' is gone, or stands there twice"):
            assert set(answers.for_frame(frame)["out_error"]) == {"row_changed"}


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text today")

    __repr__ = object.__repr__


def test_a_value_beside_the_question_may_be_anything(tmp_path: Path) -> None:
    """
    Objects without a text, lists within themselves and endless numbers stop no job: their rows are not known again.
    """
    circle: list[Any] = []
    circle.append(circle)
    beside = [Hostile(), circle, object(), [{"deep": Hostile()}], "a text"]
    frame = pd.DataFrame({"text": list("abcde"), "beside": pd.Series(beside, dtype=object)})
    job = ask(frame, frame["text"] + "!", tmp_path)
    for answers in job.answers:
        for now, last in ((frame, 4), (frame.iloc[::-1].reset_index(drop=True), 0)):
            with pytest.warns(UserWarning, match="4 of 5 rows .* objects without a text"):
                columns = answers.for_frame(now)
            assert columns["out"].dropna().to_dict() == {last: "e!"}
            assert set(columns["out_error"].dropna()) == {"row_changed"}
    # A number that Python does not write.
    endless = pd.Series([10**5000], dtype=object)
    assert contents_of(endless.to_frame("n"), ["n"]).shape == (1, 2)


@pytest.mark.parametrize("values", [[1, 1.5, 2], [1.5, pd.NA, 2.0], [1, None, 3], [True, None, False]])
def test_a_column_of_objects_is_what_its_values_are(values: list[Any]) -> None:
    """
    Numbers that were kept as objects (read from Excel, or mixed) are known again as numbers of any dtype.
    """
    kept = pd.DataFrame({"n": pd.Series(values, dtype=object)})
    for now in (kept.convert_dtypes(), kept.convert_dtypes(dtype_backend="pyarrow").astype(object)):
        assert (contents_of(kept, ["n"]) == contents_of(now, ["n"])).all()


def test_own_ids_tell_rows_apart(tmp_path: Path) -> None:
    """
    Where the user has given ids, they decide, whatever else of a row has changed.
    """
    frame = pd.DataFrame({"id": [1.0, 2.0, 3.0], "text": ["x", "x", "x"]})
    job = ask(frame, lambda row: f"{row['id']}", tmp_path, custom_id="id", samples=2)
    now = pd.DataFrame({"id": [3, 1, 4], "text": ["other"] * 3})
    with pytest.warns(UserWarning, match="1 of 3"):
        columns = job.answers[1].for_frame(now)
    assert columns["out"].tolist()[:2] == ["3.0", "1.0"]
    assert columns["out_2_error"].tolist()[2] == "row_changed"


INDEXES = [
    pd.RangeIndex(5, 11, 2, name="r"),
    pd.Index([1, 2, "Total"], dtype=object),
    pd.Index([1, "1", 1.5]),
    pd.Index([("a", 1), ("b", 2), None], tupleize_cols=False),
    pd.Index([1.5, 2.5, float("nan")], name=("a", 0)),
    pd.Index(["x", "y", "z"], name=0),
    pd.Index([True, False, True]),
    pd.Index([1 + 2j, 3j, 0j]),
    pd.Index([b"a", b"b", b"c"]),
    pd.CategoricalIndex(["m", "s", "m"], categories=["s", "m", "l"], ordered=True),
    pd.CategoricalIndex([2, 1, 2], categories=[3, 2, 1]),
    pd.date_range("2026-01-01", periods=3, freq="D"),
    pd.date_range("2026-01-01", periods=3, freq="MS", tz="Europe/Berlin", name="t"),
    pd.timedelta_range("1h", periods=3, freq="h"),
    pd.period_range("2026-01", periods=3, freq="M"),
    pd.interval_range(0, 3),
    pd.Index([1, 2, None], dtype="Int64"),
    pd.Index([1, 2, 3], dtype="uint8"),
    pd.Index(["a", "b", None], dtype="string"),
    pd.Index(["a", "b", "c"], dtype=pd.ArrowDtype(pa.string())),
    pd.MultiIndex.from_arrays([[1, 1, "x"], pd.Categorical(["b", "a", "b"])], names=["n", None]),
    pd.MultiIndex.from_product([["a"], [1, 2, 3]], names=[("two", "parts"), 7]),
    pd.Index([UUID(int=7), Fraction(1, 3), Path("a", "b")]),
    pd.DatetimeIndex(["2026-01-01", "2026-01-03", "2026-01-09"], dtype="datetime64[s]"),
    pd.DatetimeIndex(["2026-01-01", "2026-01-03", "2026-01-09"], dtype="datetime64[s, UTC]"),
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: f"{type(index).__name__}-{index.dtype}")
def test_labels_come_back_as_they_were(index: pd.Index, tmp_path: Path) -> None:
    """
    result() and responses() have the very labels of the frame, also in another process.
    """
    RowRecord(index).write(tmp_path / "rows.parquet")
    again = RowRecord.read(tmp_path / "rows.parquet").index
    pd.testing.assert_index_equal(again, index, exact=True, check_names=True)
    assert [type(label) for label in again] == [type(label) for label in index]
    assert getattr(again, "freq", None) == getattr(index, "freq", None)
    assert list(again.names) == list(index.names)
    assert index_of(labels_of(index)).equals(index)


def test_a_label_may_be_anything() -> None:
    """
    A label that cannot even be shown stops no job; where it is needed again, it has a name like others of its kind.
    """

    class Nameless:
        def __repr__(self) -> str:
            raise RuntimeError("no name today")

    assert "Nameless" in index_of(labels_of(pd.Index([Nameless(), 1])))[0]


def codes_after(job: Asked, frame: pd.DataFrame) -> list[Any]:
    """The codes in this session; after attach they are the same."""
    found = []
    for answers in job.answers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = answers.for_frame(frame)["out_error"]
        found.append([None if pd.isna(code) else code for code in codes])
    assert found[0] == found[1]
    return found[0]


NEW = base_frame().iloc[[1]].assign(text="new", n=77)
TABLE = {
    "added rows": (lambda f: pd.concat([f.iloc[:4], NEW]), ["missing_result", "row_changed", "row_changed"]),
    "changed what is read": (lambda f: f.iloc[:1].assign(text="other"), ["missing_result", "row_changed", "row_changed"]),
    "renamed what is read": (lambda f: f.rename(columns={"n": "m"}), ["row_changed"] * 3),
    "dropped what is read": (lambda f: f.drop(columns="text"), ["row_changed"] * 3),
    "changed another column": (lambda f: f.assign(flag=~f["flag"]), [None, None, "row_changed"]),
    "dropped another column": (lambda f: f.drop(columns="when"), [None, None, "row_changed"]),
    "added a column": (lambda f: f.assign(more=1), [None] * 3),
    "sorted": (lambda f: f.sort_values("n", ascending=False), [None] * 3),
    "another dtype": (lambda f: f.astype({"n": "Int64", "text": "category"}), [None] * 3),
    "another index": (lambda f: f.set_index("n", drop=False).rename_axis("key"), [None] * 3),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_the_table_of_the_documentation_is_true(jobs: dict[str, list[Asked]], what: str) -> None:
    """
    What happens to answers when a frame changes is what docs/prompts.md says, for each kind of prompt.
    """
    change, codes = TABLE[what]
    for kind, code in zip(("template", "function", "series"), codes, strict=True):
        job = jobs[kind][1]
        # Rows that are equal to no other: labels have no say in these.
        alone = [
            row for row, content in enumerate(job.contents) if job.contents.count(content) == 1 and row < 9
        ]
        assert codes_after(job, change(job.frame.iloc[alone]))[-1] == code, kind
