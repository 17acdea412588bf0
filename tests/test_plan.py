"""A plan whose frame is changed in place before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
from result_lines import answered, chat

import dobatch_pandas as dobatch
from dobatch_pandas.errors import InputError

Edit = Callable[[pd.DataFrame], Any]


def made() -> pd.DataFrame:
    return pd.DataFrame({"word": ["c", "a", "b"], "number": [3, 1, 2], "id": ["x", "y", "z"]})


def sort(frame: pd.DataFrame) -> None:
    """As ``sort_values(inplace=True, ignore_index=True)``: other rows under the same labels."""
    rows = frame.sort_values("number")
    for name in frame.columns:
        frame[name] = rows[name].to_numpy()


def swap(frame: pd.DataFrame) -> None:
    frame.iloc[0], frame.iloc[1] = frame.iloc[1].copy(), frame.iloc[0].copy()


def rename_and_sort(frame: pd.DataFrame) -> None:
    sort(frame)
    frame.columns = frame.columns.str.upper()


def written_by_hand(plan: Any, words: list[str], path: Path) -> Path:
    lines = zip(plan.custom_ids, words, strict=True)
    path.write_bytes(b"\n".join(orjson.dumps(answered(key, chat(word))) for key, word in lines))
    return path


USES: dict[str, Callable[[Any, Path], Any]] = {
    "custom_ids": lambda plan, path: plan.custom_ids,
    "preview": lambda plan, path: plan.preview(),
    "estimate": lambda plan, path: plan.estimate(),
    "to_jsonl": lambda plan, path: plan.to_jsonl(path),
    "submit": lambda plan, path: plan.submit(),
}


@pytest.mark.parametrize(
    ("edit", "options", "words"),
    [
        (lambda frame: frame.pop("word"), {}, "no column 'word'"),
        (lambda frame: frame.insert(0, "word", 1, allow_duplicates=True), {}, "stands for several columns"),
        (lambda frame: frame.__setitem__("word", None), {}, "3 missing values"),
        (lambda frame: frame.__setitem__("id", "same"), {"custom_id": "id"}, "stand in several rows"),
        (lambda frame: frame.pop("id"), {"custom_id": "id"}, "no column 'id'"),
    ],
    ids=["a column gone", "a column twice", "missing values", "one id for all", "ids gone"],
)
def test_what_can_no_longer_be_asked_is_told(
    server: Any, tmp_path: Path, edit: Edit, options: dict[str, Any], words: str
) -> None:
    """
    I made a plan, went on with the frame, and use the plan: what is wrong by now is told as it was when I made it.
    """
    frame = made()
    plan = frame.dobatch.plan("Say {word}", model="gpt-4.1-mini", **options)
    edit(frame)
    for use in USES.values():
        with pytest.raises(InputError, match=words):
            use(plan, tmp_path)
    assert dobatch.jobs().empty


@pytest.mark.parametrize(
    "edit",
    [
        sort,
        swap,
        rename_and_sort,
        lambda frame: frame.insert(0, "word", 1, allow_duplicates=True),
        lambda frame: frame.__setitem__("word", ["a", "b", "c"]),
        lambda frame: frame.__setattr__("index", frame.index[::-1]),
        lambda frame: frame.loc.__setitem__(len(frame), ["new", 9, "n"]),
    ],
    ids=["sorted", "swapped", "renamed and sorted", "a name twice", "written", "labels turned", "grown"],
)
def test_ready_prompts_stay_with_their_rows(server: Any, tmp_path: Path, edit: Edit) -> None:
    """
    A Series of prompts belongs to the rows as they were: after these have moved, no answer comes to stand on another row.
    """
    frame = made()
    plan = frame.dobatch.plan("Say " + frame["word"], model="gpt-4.1-mini")
    path = written_by_hand(plan, ["c", "a", "b"], tmp_path / "output.jsonl")
    assert plan.join(path)["response"].tolist() == ["c", "a", "b"]
    edit(frame)
    for use in [*USES.values(), lambda plan, _: plan.join(path)]:
        with pytest.raises(InputError, match=r"Series of prompts|The Series has"):
            use(plan, tmp_path)
    assert dobatch.jobs().empty


def test_ready_prompts_of_rows_that_nothing_tells_apart_any_more(tmp_path: Path) -> None:
    """
    Where the column is gone that told the rows apart, nobody can say whether they were moved: that is said.
    """
    frame = made().assign(number=1, id="same")
    plan = frame.dobatch.plan("Say " + frame["word"], model="gpt-4.1-mini")
    path = written_by_hand(plan, ["c", "a", "b"], tmp_path / "output.jsonl")
    frame.pop("word")
    with pytest.raises(InputError, match="told them apart"):
        plan.join(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda frame: frame.__setitem__("number", frame["number"].astype(float)),
        lambda frame: frame.__setitem__("word", frame["word"].astype("category")),
        lambda frame: frame.__setitem__("beside", 1),
        lambda frame: frame.pop("number"),
        lambda frame: frame.insert(0, "response", ["p", "q", "r"]),
        lambda frame: frame["lists"].iloc[0].append(1),
    ],
    ids=["dtype", "category", "a column more", "a column less", "answers", "inside a value"],
)
def test_what_moves_no_row_leaves_ready_prompts_alone(tmp_path: Path, edit: Edit) -> None:
    """
    Columns that come and go, and other dtypes, change no row: the answers still come to where they belong.
    """
    frame = made().assign(lists=[[1], [2], [3]])
    plan = frame.dobatch.plan("Say " + frame["word"], model="gpt-4.1-mini")
    path = written_by_hand(plan, ["c", "a", "b"], tmp_path / "output.jsonl")
    edit(frame)
    assert plan.join(path)["response"].tolist() == ["c", "a", "b"]
