"""Result files that someone carried by hand, given as they are or read first."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from result_lines import answered, chat, embeddings, message, never_run, refused, responses, result, tool_call

import dobatch_pandas as dobatch
from dobatch_pandas.errors import InputError

FRAME = pd.DataFrame({"text": ["one", "two", "three", "two", None]}, index=list("dcbad"))
PLANS: dict[str, dict[str, Any]] = {
    "chat": {"model": "gpt-4.1-mini", "max_tokens": 9},
    "typed": {"model": "gpt-4.1-mini", "max_tokens": 9, "schema": {"word": str}},
    "responses": {"model": "gpt-4.1-mini", "max_output_tokens": 9, "endpoint": "/v1/responses"},
    "embeddings": {"model": "text-embedding-3-small", "endpoint": "/v1/embeddings"},
    "messages": {"model": "claude-sonnet-4", "max_tokens": 9, "endpoint": "/v1/messages"},
}


def _line(kind: str, custom_id: str, number: int) -> dict[str, Any]:
    if kind == "messages":
        return result(custom_id, message=message(f"answer {number}"))
    bodies: dict[str, Any] = {
        "chat": chat(f"answer {number}"),
        "typed": chat(orjson.dumps({"word": f"w{number}"}).decode()),
        "responses": responses(f"answer {number}"),
        "embeddings": embeddings([number, 1.5]),
    }
    return answered(custom_id, bodies[kind])


def _same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    for name in one.columns:
        if any(isinstance(value, np.ndarray) for value in one[name]):
            one = one.assign(**{name: [None if v is None else tuple(v) for v in one[name]]})
            other = other.assign(**{name: [None if v is None else tuple(v) for v in other[name]]})
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("kind", PLANS)
def test_files_say_what_a_frame_that_was_read_of_them_says(kind: str, tmp_path: Path) -> None:
    """
    I may give the files themselves, one or several, and get the very frame that I get by reading them first.
    """
    plan = FRAME.dobatch.plan("Say {text}", missing="skip", **PLANS[kind])
    ids = plan.custom_ids.dropna().tolist()
    out, errors = tmp_path / "output.jsonl", tmp_path / "errors.jsonl.gz"
    lines = [_line(kind, ids[2], 2), _line(kind, ids[0], 0), _line(kind, "a stranger", 9)]
    out.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    late = result(ids[1], type="expired") if kind == "messages" else never_run(ids[1])
    errors.write_bytes(gzip.compress(orjson.dumps(late)))
    read = dobatch.read_results(out, errors)
    expected = plan.join(read)
    codes = [None if pd.isna(code) else code for code in expected["response_error"]]
    assert codes == [None, "expired", None, "expired", "missing_input"]

    _same(expected, plan.join([out, str(errors)]))
    _same(expected, plan.join(path for path in (out, errors)))
    _same(plan.join(dobatch.read_results(out)), plan.join(out))
    keyed = FRAME.assign(key=plan.custom_ids)
    _same(
        keyed.dobatch.join(read, custom_id="key", into="said"),
        keyed.dobatch.join([out, errors], custom_id="key", into="said"),
    )
    updated = keyed.copy()
    updated.dobatch.update((out, errors), custom_id="key", into="said")
    _same(keyed.dobatch.join(read, custom_id="key", into="said"), updated)


def test_lines_of_many_kinds_in_one_file_keep_their_codes(tmp_path: Path) -> None:
    """
    What went wrong is said with the same codes, whichever way the files are given.
    """
    frame = pd.DataFrame({"n": range(300)})
    plan = frame.dobatch.plan("Say {n}", model="gpt-4.1-mini", max_tokens=9)
    ids = plan.custom_ids.tolist()
    kinds = [
        lambda key: answered(key, chat("fine")),
        lambda key: refused(key, 400),
        lambda key: refused(key, 429, "slow down", "rate_limited"),
        lambda key: never_run(key),
        lambda key: answered(key, chat(None, "tool_calls", tool_calls=[tool_call("f", "{}")])),
        lambda key: answered(key, chat("cut", "length")),
        lambda key: answered(key, chat("")),
        lambda key: answered(key, chat([{"type": "text", "text": "a part"}])),
    ]
    path = tmp_path / "output.jsonl"
    lines = [orjson.dumps(kinds[n % len(kinds)](key)) for n, key in enumerate(ids[:290])]
    path.write_bytes(b"\n".join([*lines, b'{"custom_id": "torn']))
    with pytest.warns(UserWarning, match="1 line that is no result"):
        expected = plan.join(dobatch.read_results(path))
    with pytest.warns(UserWarning, match="1 line that is no result") as told:
        found = plan.join(path)

    assert [Path(one.filename).name for one in told] == [Path(__file__).name]
    _same(expected, found)
    codes = set(found["response_error"].dropna())
    assert codes >= {
        "http_400",
        "http_429",
        "expired",
        "tool_calls",
        "length",
        "empty_response",
        "missing_result",
    }


@pytest.mark.parametrize("coding", ["latin-1", "cp1252", "mac-roman"])
def test_files_in_another_encoding_are_read_with_a_warning(tmp_path: Path, coding: str) -> None:
    """
    A program that saved a file in the encoding of its machine has cost me characters: I am told of how many lines.
    """
    path = tmp_path / "output.jsonl"
    said = ["café", "plain", "naïve", "\ufffd"]
    lines = [json.dumps(answered(f"k{n}", chat(text)), ensure_ascii=n == 3) for n, text in enumerate(said)]
    path.write_bytes("\n".join([*lines, '{"custom_id": "torné']).encode(coding))
    keyed = pd.DataFrame({"key": [f"k{n}" for n in range(4)]})
    for read in (dobatch.read_results, lambda it: keyed.dobatch.join(it, custom_id="key", into="text")):
        with pytest.warns(UserWarning, match="line") as told:
            assert read(path)["text"].tolist() == ["caf\ufffd", "plain", "na\ufffdve", "\ufffd"]
        words = [str(one.message) for one in told]
        assert ["2 lines that are not in UTF-8" in words[0], "1 line that is no result" in words[1]] == [
            True
        ] * 2
        assert len(words) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Path("nowhere.jsonl"), "cannot be read"),
        ([], "the files that it reads"),
        ([1], "1 cannot be read: it is no path"),
        (["output.jsonl", 5], "5 cannot be read: it is no path"),
        (["a\0b"], "cannot be read"),
        (b"output.jsonl", "b'output.jsonl' cannot be read: it is no path"),
        (io.BytesIO(b"{}"), "BytesIO.* cannot be read: it is no path"),
    ],
)
def test_what_is_no_file_is_said(given: Any, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    """
    A path that leads nowhere, or no path at all, is one clear error at each door.
    """
    monkeypatch.chdir(tmp_path)
    plan = FRAME.dobatch.plan("Say {text}", missing="skip", **PLANS["chat"])
    for join in (plan.join, lambda it: FRAME.dobatch.join(it, custom_id="text")):
        with pytest.raises(InputError, match=words):
            join(given)


def test_results_that_answer_no_row_are_said(tmp_path: Path) -> None:
    """
    Ids of another form, or the results of another job, leave every row without an answer: a warning says how both look.
    """
    path = tmp_path / "output.jsonl"
    path.write_bytes(orjson.dumps(answered("key-1", chat("A"))))
    frame = pd.DataFrame({"text": ["a", "b", None], "key": ["1", "2", "3"]})
    plan = frame.dobatch.plan("Say {text}", missing="skip", **PLANS["chat"])
    with pytest.warns(UserWarning, match="none of the rows.* such as '1', and they hold 'key-1'") as told:
        found = frame.dobatch.join(path, custom_id="key")
    assert [Path(one.filename).name for one in told] == [Path(__file__).name]
    assert found["response_error"].tolist() == ["missing_result"] * 3
    with pytest.warns(UserWarning, match="none of the rows.*they hold 'key-1'"):
        plan.join(path)
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="none of the rows.*no result at all"):
        plan.join(path)


def test_results_without_their_text_are_refused(tmp_path: Path) -> None:
    """
    A frame of results whose text has another name would be read as answers that are all empty.
    """
    path = tmp_path / "output.jsonl"
    path.write_bytes(orjson.dumps(answered("1", chat("A"))))
    results = dobatch.read_results(path).rename(columns={"text": "answer"})
    with pytest.raises(InputError, match="need the columns custom_id and text"):
        pd.DataFrame({"key": ["1"]}).dobatch.join(results, custom_id="key")


def test_results_without_their_codes_have_one_where_nothing_was_answered(tmp_path: Path) -> None:
    """
    I kept only ids and texts: a row without a text has a code all the same, and none looks like an answer of nothing.
    """
    path = tmp_path / "output.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in (answered("a", chat("A")), never_run("b"))))
    kept = dobatch.read_results(path)[["custom_id", "text"]]
    frame = pd.DataFrame({"id": ["a", "b", "c"]}).dobatch.join(kept, custom_id="id")
    assert frame["response"].isna().tolist() == [False, True, True]
    assert frame["response_error"].fillna("").tolist() == ["", "empty_response", "missing_result"]


def test_what_a_file_is_that_holds_no_results_is_said(tmp_path: Path) -> None:
    """
    An archive is to be unpacked, and a result without an id is no request.
    """
    line = orjson.dumps(answered("1", chat("A")))
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("output.jsonl")
        entry.size = len(line)
        archive.addfile(entry, io.BytesIO(line))
    with pytest.raises(InputError, match="tar archive: unpack it first"):
        dobatch.read_results(tmp_path / "all.tar.gz")
    (tmp_path / "no_id.jsonl").write_bytes(line.replace(b'"1"', b"null", 1))
    with pytest.raises(InputError, match="each with a custom_id"):
        dobatch.read_results(tmp_path / "no_id.jsonl")


@pytest.mark.parametrize("given", [None, 5, object()])
def test_what_is_no_result_at_all_is_said(given: Any) -> None:
    """
    Anything else is one clear error, at a plan's door and at a frame's.
    """
    plan = FRAME.dobatch.plan("Say {text}", missing="skip", **PLANS["chat"])
    with pytest.raises(InputError, match="the files that it reads"):
        plan.join(given)
    with pytest.raises(InputError, match="paths of result files are needed"):
        FRAME.dobatch.join(given, custom_id="text")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"custom_id": ["key"]}, "no column"),
        ({"custom_id": 5}, "no column"),
        ({"custom_id": "twice"}, "several columns"),
        ({"custom_id": "key", "into": "key"}, "cannot have"),
        ({"custom_id": "key", "into": ""}, "a name for the answers"),
        ({"custom_id": "key", "into": None}, "a name for the answers"),
    ],
)
def test_columns_that_cannot_be_meant_are_said(options: Any, words: str, tmp_path: Path) -> None:
    """
    The ids come from one column, and the answers go into another.
    """
    frame = pd.DataFrame([["a", "b", "c"]], columns=["key", "twice", "twice"])
    (tmp_path / "file").write_bytes(orjson.dumps(answered("a", chat("A"))))
    with pytest.raises(InputError, match=words):
        frame.dobatch.join(tmp_path / "file", **options)


def test_a_job_given_by_its_id_is_told_how() -> None:
    """
    Who gives an id where a job or a file is needed is told what to write.
    """
    with pytest.raises(InputError, match=r"join\(dobatch.attach\('261127-abc'\)\)"):
        FRAME.dobatch.join("261127-abc")
    with pytest.raises(InputError, match=r"glob.glob\('out/\*.jsonl'\)"):
        FRAME.dobatch.join("out/*.jsonl")
    with pytest.raises(InputError, match="looks for it in"):
        FRAME.dobatch.join("out/errors.jsonl")
    with pytest.raises(InputError, match="7 cannot be read: it is no path"):
        dobatch.read_results(7)  # type: ignore[arg-type]
