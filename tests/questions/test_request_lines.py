"""Frozen rows become request files: every text whole, every request once, no file beyond its limits."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.arrow.keyset import KeySet, keys_of
from dobatch_pandas.codes import Fate
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.questions import part_files
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.part_files import (
    Part,
    compress_part,
    copy_lines,
    ids_of_part,
    lines_of_part,
)
from dobatch_pandas.questions.prompts import col
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import (
    Renderer,
    RequestWriter,
    ids_of,
    pieces_of,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NASTY = 'quote " slash \\ tab \t nul \0 esc \x1b del \x7f newline \r\n nel \x85 ls \u2028 ps \u2029 emoji 🙂 \uffff'


def recipe_of(prompt: Any = "Say {text}", **options: Any) -> Recipe:
    return build_recipe(prompt, **{"model": "gpt-4.1-mini", **options})


def written(frame: pd.DataFrame, recipe: Recipe, folder: Path, **options: Any) -> tuple[list[Part], pa.Table]:
    """Write a frame's requests; return the parts and what was said of each row."""
    parts: list[Part] = []
    folder.mkdir(exist_ok=True)
    writer = RequestWriter(recipe, folder, on_part=parts.append, **options)
    said = [writer.add(frozen) for frozen in freeze(recipe, frame)]
    writer.close()
    return parts, pa.Table.from_batches(said)


def requests_in(parts: list[Part]) -> list[dict[str, Any]]:
    return [json.loads(line) for part in parts for line in part.path.read_bytes().split(b"\n")[:-1]]


def test_a_line_is_what_the_service_reads(tmp_path):
    """
    A line holds the id, the method, the path and the body, as plain JSON would.
    """
    recipe = recipe_of("Say {text}", system="Be brief.", params={"temperature": 0})
    parts, said = written(pd.DataFrame({"text": [NASTY]}), recipe, tmp_path)

    [request] = requests_in(parts)
    assert list(request) == ["custom_id", "method", "url", "body"]
    assert (request["method"], request["url"]) == ("POST", "/v1/chat/completions")
    assert request["custom_id"] == said["custom_id"][0].as_py()
    assert request["body"] == {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say " + NASTY}],
        "temperature": 0,
    }


def test_an_anthropic_line_has_params(tmp_path):
    """
    Anthropic's lines hold an id and params, and nothing else.
    """
    parts, _ = written(pd.DataFrame({"text": ["a"]}), recipe_of(model="claude-sonnet-4"), tmp_path)

    [request] = requests_in(parts)
    assert list(request) == ["custom_id", "params"]
    assert request["params"]["max_tokens"] == 1024


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, st.integers(-5, 5)), min_size=1, max_size=12),
    st.lists(
        st.sampled_from(["{a}", "{b}", "{n}", "{a!s:.3}", "{{", "}}", '"', "\\", "\n", "é🙂"]), max_size=16
    ),
)
def test_the_fast_path_equals_the_plain_one(rows, pieces):
    """
    A body spliced from whole columns is the one that str.format and json.dumps give a row at a time.
    """
    frame = pd.DataFrame(rows, columns=["a", "b", "n"])
    prompt, system = "".join(pieces) + "{a}", "{b}" + "".join(reversed(pieces))
    plain = [
        {
            "model": "gpt-4.1-mini",
            "messages": [
                {"role": "system", "content": system.format(a=a, b=b, n=n)},
                {"role": "user", "content": prompt.format(a=a, b=b, n=n)},
            ],
        }
        for a, b, n in rows
    ]
    fast = recipe_of(prompt, system=system)
    slow = recipe_of(lambda row: prompt.format(**row), system=system)

    found = [body for frozen in freeze(fast, frame) for body in Renderer(fast).bodies(frozen)]
    assert [json.loads(body) for body in found] == plain
    assert found == [body for frozen in freeze(slow, frame) for body in Renderer(slow).bodies(frozen)]


def test_any_number_of_places_renders():
    """
    Twenty places in a body are as good as one.
    """
    names = [f"c{number}" for number in range(20)]
    frame = pd.DataFrame([[f"{name}-{row}\n" for name in names] for row in range(3)], columns=names)
    recipe = recipe_of("|".join(f"{{{name}}}" for name in names))

    [frozen] = freeze(recipe, frame)
    asked = [json.loads(body)["messages"][0]["content"] for body in Renderer(recipe).bodies(frozen)]
    assert asked == ["|".join(values) for values in frame.to_numpy()]


def test_values_of_columns_go_into_the_body(tmp_path):
    """
    dobatch.col gives each row its own parameter, beside text from whole columns.
    """
    frame = pd.DataFrame({"text": ["a", "b"], "heat": [0.5, 1.0], "stop": [["x"], ["y", "z"]]})
    recipe = recipe_of(params={"temperature": col("heat"), "stop": col("stop")})

    bodies = [request["body"] for request in requests_in(written(frame, recipe, tmp_path)[0])]
    assert [(body["temperature"], body["stop"]) for body in bodies] == [(0.5, ["x"]), (1, ["y", "z"])]
    assert [body["messages"][0]["content"] for body in bodies] == ["Say a", "Say b"]


def test_equal_rows_are_sent_once(tmp_path):
    """
    Rows that ask the same share one request and one id.
    """
    parts, said = written(pd.DataFrame({"text": ["a", "b", "a"]}), recipe_of(), tmp_path)

    assert said["fate"].to_pylist() == [Fate.SENT, Fate.SENT, Fate.DUPLICATE]
    ids = said["custom_id"].to_pylist()
    assert ids[0] == ids[2] != ids[1]
    assert [request["custom_id"] for request in requests_in(parts)] == ids[:2]


def test_without_dedupe_every_row_is_sent_under_the_same_ids_again(tmp_path):
    """
    dedupe=False asks equal rows separately, and the ids are the same whenever the frame is rendered again.
    """
    frame = pd.DataFrame({"text": ["a", "b", "a", "a"]})
    recipe = recipe_of(dedupe=False, samples=2)
    parts, said = written(frame, recipe, tmp_path)

    ids = said["custom_id"].to_pylist()
    assert len(set(ids)) == 8 == len(requests_in(parts))
    assert ids_of(frame, recipe)[0].to_pylist() == ids
    # The first of equal rows has the id that it would have with dedupe.
    assert ids_of(frame, recipe_of(samples=2))[0].to_pylist()[:4] == ids[:4]


def test_ids_do_not_depend_on_the_way_the_question_was_written(tmp_path):
    """
    A template, messages, a function, a Series and a column that ask the same have the same ids.
    """
    frame = pd.DataFrame({"text": ["a", NASTY], "ready": ["Say a", "Say " + NASTY]})
    ways = [
        "Say {text}",
        [{"role": "user", "content": "Say {text}"}],
        lambda row: f"Say {row.text}",
        frame["ready"],
        col("ready"),
    ]

    assert len({tuple(ids_of(frame, recipe_of(way))[0].to_pylist()) for way in ways}) == 1


def test_samples_ask_the_same_under_different_ids(tmp_path):
    """
    samples=3 asks each row three times; the first sample has the id of a row asked once.
    """
    frame = pd.DataFrame({"text": ["a", "b"]})
    parts, said = written(frame, recipe_of(samples=3), tmp_path)

    ids = said["custom_id"].to_pylist()
    assert len(set(ids)) == 6
    assert ids[::3] == ids_of(frame, recipe_of())[0].to_pylist()
    assert [request["body"]["messages"][0]["content"] for request in requests_in(parts)] == ["Say a"] * 3 + [
        "Say b"
    ] * 3


def test_own_ids_are_sent_as_they_are(tmp_path):
    """
    custom_id="column" sends those ids, quoted where JSON needs it, with a number behind for further samples.
    """
    frame = pd.DataFrame({"text": ["a", "a"], "key": ['one"\\', "zwei ü"]})
    parts, said = written(frame, recipe_of(custom_id="key", samples=2), tmp_path)

    ids = ['one"\\', 'one"\\-2', "zwei ü", "zwei ü-2"]
    assert said["custom_id"].to_pylist() == ids
    assert [request["custom_id"] for request in requests_in(parts)] == ids
    assert ids_of_part(parts[0].path).to_pylist() == ids


@given(
    ids=st.lists(
        st.text(min_size=1, max_size=5)
        | st.text('ab"\\\\', min_size=30, max_size=34)
        | st.uuids().map(lambda one: one.hex),
        max_size=12,
    ),
    block=st.integers(1, 400),
)
def test_ids_are_read_back_whatever_they_are(tmp_path_factory, ids, block):
    """
    As long as ours or not, with quotes and backslashes, wherever a block ends.
    """
    path = tmp_path_factory.mktemp("part") / "part-00000.jsonl"
    lines = [part_files.START + orjson.dumps(one)[1:] + b',"body":{"text":"\\"x"}}\n' for one in ids]
    path.write_bytes(b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_files, "READ_BYTES", block)
        assert ids_of_part(path).to_pylist() == ids


def test_a_row_without_a_value_is_skipped(tmp_path):
    """
    missing="skip" sends nothing for the row, and says so.
    """
    frame = pd.DataFrame({"text": ["a", None, "b"]})
    parts, said = written(frame, recipe_of(missing="skip", samples=2), tmp_path)

    assert said["fate"].to_pylist() == [
        Fate.SENT,
        Fate.SENT,
        Fate.SKIPPED,
        Fate.SKIPPED,
        Fate.SENT,
        Fate.SENT,
    ]
    assert said["custom_id"].to_pylist()[2:4] == [None, None]
    assert len(requests_in(parts)) == 4


def test_what_is_answered_is_not_sent(tmp_path):
    """
    Requests whose answers are known are told, not written.
    """
    frame = pd.DataFrame({"text": ["a", "b", "a"]})
    answered = KeySet()
    answered.add_new(keys_of(ids_of(frame, recipe_of())[0].combine_chunks().slice(0, 1)))
    parts, said = written(frame, recipe_of(), tmp_path, answered=answered)

    assert said["fate"].to_pylist() == [Fate.REUSED, Fate.SENT, Fate.REUSED]
    assert len(requests_in(parts)) == 1


def test_a_line_too_large_for_any_file_fails_alone(tmp_path):
    """
    One oversized row is a failed row; the others are sent.
    """
    frame = pd.DataFrame({"text": ["a", "x" * 5_000, "b"]})
    parts, said = written(frame, recipe_of(), tmp_path, limits=FileLimits(10, 1_000))

    assert said["fate"].to_pylist() == [Fate.SENT, Fate.TOO_LARGE, Fate.SENT]
    assert said["custom_id"].null_count == 0
    assert len(requests_in(parts)) == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=40), st.integers(1, 7), st.integers(250, 900), st.integers(1, 3))
def test_parts_keep_the_limits_and_hold_every_request_once(tmp_path_factory, texts, most, size, samples):
    """
    No part has more lines or bytes than allowed, none is empty, and together they hold each request once, in order.
    """
    folder = tmp_path_factory.mktemp("parts")
    frame = pd.DataFrame({"text": texts})
    parts, said = written(frame, recipe_of(samples=samples), folder, limits=FileLimits(most, size))

    assert sorted(os.listdir(folder)) == [f"part-{part.number:05}.jsonl" for part in parts]
    assert [part.number for part in parts] == list(range(len(parts)))
    for part in parts:
        lines = part.path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert 0 < len(lines) == part.requests <= most
        assert part.path.stat().st_size == part.bytes <= size
    sent = said.filter(pa.compute.equal(said["fate"], Fate.SENT))["custom_id"].to_pylist()
    assert [request["custom_id"] for request in requests_in(parts)] == sent
    large = said.filter(pa.compute.equal(said["fate"], Fate.TOO_LARGE))["custom_id"].to_pylist()
    assert set(said["custom_id"].to_pylist()) == set(sent) | set(large)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(0, 8),
    st.booleans(),
    st.booleans(),
)
def test_resuming_neither_repeats_nor_loses_a_request(
    tmp_path_factory, numbers, most, stop_after, own, dedupe
):
    """
    A writer killed after any part, and begun anew from the parts on disk, ends with each request in one part.
    """
    folder = tmp_path_factory.mktemp("parts")
    # Ids of the user's own that look like ours, and some that do not.
    keys = [f"{row:032x}" if row % 3 else f"row {row}" for row in range(len(numbers))]
    frame = pd.DataFrame({"text": [f"n{number}" for number in numbers], "key": keys})
    recipe = recipe_of(dedupe=dedupe, **({"custom_id": "key"} if own else {}))
    limits = FileLimits(most, 10**6)

    class Killed(Exception):
        pass

    def fail_after(part: Part) -> None:
        if part.number == stop_after:
            raise Killed

    writer = RequestWriter(recipe, folder, limits=limits, on_part=fail_after)
    try:
        for frozen in freeze(recipe, frame):
            writer.add(frozen)
        writer.close()
    except Killed:
        pass
    known = sorted(folder.glob("*.jsonl"))
    sent = KeySet()
    for path in known:
        sent.add_new(keys_of(ids_of_part(path)))
    written(frame, recipe, folder, limits=limits, sent=sent, first_part=len(known))

    found = [name for path in sorted(folder.glob("*.jsonl")) for name in ids_of_part(path).to_pylist()]
    assert len(found) == len(set(found))
    assert set(found) == set(ids_of(frame, recipe)[0].to_pylist())
    assert not list(folder.glob("*.partial"))


def test_a_part_appears_only_when_it_is_whole(tmp_path):
    """
    Until a part is complete there is no file of its name; when on_part is called, there is.
    """
    seen: list[tuple[int, int]] = []
    recipe = recipe_of()
    writer = RequestWriter(
        recipe,
        tmp_path,
        limits=FileLimits(2, 10**6),
        on_part=lambda part: seen.append((part.requests, len(part.path.read_bytes().split(b"\n")) - 1)),
    )
    [frozen] = freeze(recipe, pd.DataFrame({"text": ["a", "b", "c"]}))
    writer.add(frozen)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00000.jsonl", "part-00001.partial"]
    writer.close()
    assert seen == [(2, 2), (1, 1)]


def test_writing_waits_until_there_is_room(tmp_path):
    """
    While on_part blocks, no further part is written.
    """
    asked, go = threading.Event(), threading.Event()

    def hold(part: Part) -> None:
        asked.set()
        assert go.wait(120)

    recipe = recipe_of()
    writer = RequestWriter(recipe, tmp_path, limits=FileLimits(1, 10**6), on_part=hold)
    [frozen] = freeze(recipe, pd.DataFrame({"text": list("abcd")}))
    thread = threading.Thread(target=lambda: (writer.add(frozen), writer.close()))
    thread.start()
    assert asked.wait(120)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.jsonl"]
    go.set()
    thread.join(120)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_is_an_error_and_no_part(tmp_path):
    """
    Bytes that could not be written do not become a part.
    """
    recipe = recipe_of()
    (tmp_path / "part-00000.partial").symlink_to("/dev/full")
    writer = RequestWriter(recipe, tmp_path)
    [frozen] = freeze(recipe, pd.DataFrame({"text": ["a" * 100_000]}))

    with pytest.raises(OSError, match="No space left"):
        writer.add(frozen), writer.close()
    assert not (tmp_path / "part-00000.jsonl").exists()


def test_rows_are_cut_by_their_size():
    """
    Long rows are held few at a time, so that memory follows neither their number nor one of them.
    """
    lengths = [10, 10, 500, 10, 10, 10]
    batch = pa.record_batch(
        {"f0": pa.array(["x" * n for n in lengths], pa.large_string()), "row": [True] * 6}
    )

    assert [piece.num_rows for piece in pieces_of(batch, 30)] == [2, 1, 3]
    assert [piece.num_rows for piece in pieces_of(batch.slice(0, 0), 30)] == [0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "ab", "", None]), min_size=1, max_size=6), max_size=6),
    st.sampled_from([{}, {"samples": 2}, {"dedupe": False}, {"missing": "skip"}]),
)
def test_ids_told_before_are_those_of_what_the_rows_say_now(histories, options):
    """A plan that has told its ids tells the right ones after any cell has changed in place."""
    recipe = recipe_of("{text}", **{"missing": "keep", **options})
    known: dict[bytes, Any] = {}
    for texts in [*histories, *histories]:
        frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
        now = [each.to_pylist() for each in ids_of(frame, recipe, known)]
        assert now == [each.to_pylist() for each in ids_of(frame, recipe)]


def test_ids_told_before_are_not_worked_out_again(monkeypatch):
    """To join what a plan has written costs a look at the rows, not every hash again."""
    frame = pd.DataFrame({"text": ["a", "b", "a"]})
    plan = frame.dobatch.plan("Say {text}", model="gpt-4.1-mini")
    first = plan.custom_ids.tolist()
    with monkeypatch.context() as without:
        without.setattr(RequestWriter, "add", None)
        assert plan.custom_ids.tolist() == first
    frame.loc[1, "text"] = "a"
    assert plan.custom_ids.nunique() == 1


def test_a_large_block_gives_the_ids_of_small_ones():
    """
    Rows in one block or in many give the same ids.
    """
    frame = pd.DataFrame({"text": [f"{number} " + "x" * 3_000 for number in range(4_000)]})
    recipe = recipe_of()
    whole = pa.Table.from_batches(list(freeze(recipe, frame))).combine_chunks().to_batches()[0]
    said = RequestWriter(recipe, None).add(whole)

    assert said["custom_id"].to_pylist() == ids_of(frame, recipe)[0].to_pylist()
    assert said["fate"].to_pylist() == [Fate.SENT] * 4_000


# -- files that were written


def test_a_compressed_part_reads_like_a_plain_one(tmp_path):
    """
    Compressing keeps every byte, and replaces the file in one step.
    """
    frame = pd.DataFrame({"text": [f"{number} {NASTY}" for number in range(500)]})
    [part], _ = written(frame, recipe_of(), tmp_path)
    lines, ids, size = list(lines_of_part(part.path)), ids_of_part(part.path), part.bytes
    packed = compress_part(part.path)

    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.jsonl.zst"]
    assert packed.stat().st_size < size / 5
    assert list(lines_of_part(packed)) == lines
    assert ids_of_part(packed).equals(ids)


@pytest.mark.parametrize("size", [1, 7, 300, 10**6])
def test_lines_are_read_whole_wherever_a_block_ends(tmp_path, monkeypatch, size):
    """
    Lines longer than a block, and blocks that end at a line's end, come out right.
    """
    monkeypatch.setattr(part_files, "READ_BYTES", size)
    lines = [b"a" * 1_000, b"", b"b", "\u2028\x85é".encode(), b"c" * 300]
    path = tmp_path / "part.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert list(lines_of_part(path)) == lines

    path.write_bytes(b"\n".join(lines))
    assert list(lines_of_part(path)) == lines


def test_a_retry_sends_the_very_same_lines(tmp_path):
    """
    Lines of some ids are copied out of parts, compressed or not, byte for byte, each once, within the limits.
    """
    frame = pd.DataFrame({"text": [f"{number} {NASTY}" for number in range(40)]})
    recipe = recipe_of()
    parts, said = written(frame, recipe, tmp_path, limits=FileLimits(15, 10**6))
    every = [line for part in parts for line in lines_of_part(part.path)]
    paths = [compress_part(parts[0].path), *(part.path for part in parts[1:])]
    ids = said["custom_id"].combine_chunks().take(pa.array([3, 39, 14, 15, 3]))
    again = tmp_path / "again"
    again.mkdir()
    copied = copy_lines([*paths, paths[1]], ids, again, recipe, limits=FileLimits(3, 10**6), first_part=7)

    assert [(part.number, part.requests) for part in copied] == [(7, 3), (8, 1)]
    assert [line for part in copied for line in lines_of_part(part.path)] == [
        every[i] for i in (3, 14, 15, 39)
    ]


def test_a_retry_of_nothing_writes_nothing(tmp_path):
    """
    Where no id is found there is no part.
    """
    parts, _ = written(pd.DataFrame({"text": ["a"]}), recipe_of(), tmp_path)
    ids = pa.array([], pa.string())

    assert copy_lines([parts[0].path], ids, tmp_path, recipe_of(), first_part=1) == []


def test_keys_are_those_of_the_ids():
    """
    The writer's own keys are the ones that keys_of reads from the ids, or a resume would send twice.
    """
    frame = pd.DataFrame({"text": [str(number) for number in range(100)]})
    sent = KeySet()
    writer = RequestWriter(recipe_of(), None, sent=sent)
    for frozen in freeze(recipe_of(), frame):
        ids = writer.add(frozen)["custom_id"]

    assert sent.contains(keys_of(ids)).all()
    assert np.unique(keys_of(ids)).size == 100
