"""Output and error files become one row a request, whatever is in them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_lines import (
    SEPARATORS,
    answered,
    bodies,
    chat,
    chats,
    embeddings,
    embeddings_bodies,
    entries_of,
    message,
    messages,
    never_run,
    refused,
    responses,
    responses_bodies,
    result,
    texts,
    tool_call,
)

import dobatch_pandas as dobatch
from dobatch_pandas.answers import result_lines
from dobatch_pandas.answers.by_hand import table_of
from dobatch_pandas.answers.join import ANSWER_COLUMNS
from dobatch_pandas.answers.result_lines import RESULTS, iter_results, merge_results, read_block, read_lines
from dobatch_pandas.endpoints.answer import ENDINGS
from dobatch_pandas.errors import InputError


def jsonl(lines: Iterable[Any]) -> bytes:
    """Lines as a file; bytes are taken as they are."""
    return b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)


def write(path: Path, *lines: Any) -> Path:
    path.write_bytes(jsonl(lines))
    return path


def row_of(line: Any) -> dict[str, Any]:
    """The one row that a line becomes, read as a file of many like it is read."""
    table, bad = read_block(pa.py_buffer(jsonl([line])))
    assert not bad
    (row,) = table.to_pylist()
    return row


# The two ways of reading ---------------------------------------------------------------------------------

BROKEN = [
    b"",
    b"   ",
    b"\r",
    b"{",
    b"[]",
    b"null",
    b"\0\0\0",
    b'{"custom_id": "torn',
    b'{"custom_id": "a"} x',
    b'{"custom_id": NaN}',
    b'{"custom_id": "a"}{"custom_id": "glued"}',
    b'{"custom_id": "a"} null',
    b'{"custom_id": "x", "custom_id": "y", "response": null}',
    b'{"custom_id": "a\xff", "response": null, "error": {"message": "\xf0"}}',
    jsonl([answered("half a pair", chat("X"))]).replace(b'"X"', b'"\\ud83d"').strip(),
    jsonl([answered("no UTF-8", chat("X"))]).replace(b'"X"', b'"\xc3"').strip(),
    jsonl([answered("crlf", chat())]).replace(b"\n", b"\r"),
]
raw_lines = st.one_of(
    st.sampled_from(BROKEN), st.binary(max_size=12).map(lambda data: data.replace(b"\n", b""))
)


@pytest.mark.parametrize("these", [chats, responses_bodies, embeddings_bodies, messages, bodies])
@given(data=st.data())
@settings(max_examples=60)
def test_both_ways_of_reading_agree_on_every_line(these: Any, data: st.DataObject) -> None:
    """
    How a line is read changes how long it takes, never what it says.
    """
    plain = [
        orjson.dumps(answered(f"plain-{i}", chat(f"text {i}")))
        for i in range(data.draw(st.sampled_from([0, 0, 70])))
    ]
    entries = st.lists(st.one_of(entries_of(these), entries_of(these), raw_lines), min_size=1, max_size=8)
    lines = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in data.draw(entries)]
    at = data.draw(st.integers(0, len(plain)))
    lines = plain[:at] + lines + plain[at:]

    fast, fast_bad = read_block(pa.py_buffer(b"\n".join(lines)))
    slow, _, slow_bad = read_lines(line for line in lines if line.strip())

    assert fast.schema == RESULTS
    for one, other in zip(fast.to_pylist(), slow.to_pylist(), strict=True):
        assert repr(one) == repr(other)
    assert sorted(fast_bad) == sorted(slow_bad)
    answers, answers_bad = read_block(pa.py_buffer(b"\n".join(lines)), answers_only=True)
    assert repr(answers.select(ANSWER_COLUMNS).to_pylist()) == repr(fast.select(ANSWER_COLUMNS).to_pylist())
    assert answers_bad == fast_bad


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    "plain",
    [
        answered("plain", chat("x")),
        answered("plain", responses("x")),
        answered("plain", embeddings()),
        result("plain", message=message("x")),
    ],
)
def test_a_broken_line_costs_no_other(plain: Any, broken: bytes) -> None:
    """
    Whatever stands among many plain lines of an endpoint, both ways of reading say the same.
    """
    lines = [orjson.dumps(plain)] * 200
    lines[150:150] = [broken]
    fast, fast_bad = read_block(pa.py_buffer(b"\n".join(lines)))
    slow, _, slow_bad = read_lines(line for line in lines if line.strip())
    assert repr(fast.to_pylist()) == repr(slow.to_pylist())
    assert fast_bad == slow_bad


@given(
    words=st.lists(texts, min_size=1, max_size=4),
    broken=st.lists(
        st.sampled_from([b"\\", b'"', b"\\ud83d", b"\\x", b"\0", b"\xff", b"\xc3", b"\t"]), max_size=3
    ),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_a_broken_text_costs_no_other_line(words: list[str], broken: list[bytes], seed: int) -> None:
    """
    Among many lines that are alike, each text says what it says when it is read by itself.
    """
    draw = random.Random(seed)
    lines = [orjson.dumps(answered(f"id-{n}", chat(draw.choice(words) + "@"))) for n in range(120)]
    for what in broken:
        at = draw.randrange(len(lines))
        lines[at] = lines[at].replace(b"@", what)
    fast, fast_bad = read_block(pa.py_buffer(b"\n".join(lines)))
    slow, _, slow_bad = read_lines(lines)
    assert repr(fast.to_pylist()) == repr(slow.to_pylist())
    assert fast_bad == slow_bad


def test_plain_successes_are_read_without_looking_at_any_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The common case is read as whole columns.
    """
    seen: list[bytes] = []
    original = result_lines.read_lines
    monkeypatch.setattr(
        result_lines, "read_lines", lambda lines: original(seen.append(x) or x for x in lines)
    )
    for line in (
        answered("a", chat("x")),
        answered("a", chat("x", tool_calls=[], refusal=None)),
        answered("a", responses("x", thoughts=0)),
        answered("a", responses("x", thoughts=2)),
        answered("a", embeddings()),
        answered("a", embeddings(as_base64=True)),
        result("a", message=message("x")),
        answered("a", message("x")),
    ):
        table, _ = read_block(pa.py_buffer(jsonl([line] * 100)))
        assert table.num_rows == 100
        assert table["status"].unique().to_pylist() == ["succeeded"]
    assert seen == []


def test_few_odd_lines_do_not_slow_the_others_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A line that Arrow cannot read is read by itself, and its block as before.
    """
    seen: list[bytes] = []
    original = result_lines.read_lines
    monkeypatch.setattr(
        result_lines, "read_lines", lambda lines: original(seen.append(x) or x for x in lines)
    )
    lines: list[Any] = [answered(str(i), chat("x")) for i in range(5000)]
    for place in (17, 1700, 4200):
        lines[place] = answered(str(place), chat([{"type": "text", "text": "of parts"}]))
    table, bad = read_block(pa.py_buffer(jsonl(lines)))
    assert not bad
    assert table["custom_id"].to_pylist() == [str(i) for i in range(5000)]
    assert [i for i, text in enumerate(table["text"].to_pylist()) if text == "of parts"] == [17, 1700, 4200]
    assert len(seen) < 500


# What lines say -----------------------------------------------------------------------------------------


def test_a_chat_answer_brings_text_tokens_and_ids() -> None:
    """
    Everything that a row of responses() shows is read from the line.
    """
    row = row_of(answered("a", chat("yes")))
    assert row == {
        "custom_id": "a",
        "status": "succeeded",
        "status_code": 200,
        "text": "yes",
        "finish_reason": "stop",
        "model": "gpt-4.1-mini",
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "cached_tokens": 4,
        "reasoning_tokens": 2,
        "request_id": "req_1",
        "error_code": None,
        "error_message": None,
        "embedding": None,
    }


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (answered("a", chat(None, refusal="I will not")), "refusal", "I will not"),
        (answered("a", chat("half an ans", "length")), "length", "half an ans"),
        (answered("a", chat(None, "content_filter")), "content_filter", None),
        (answered("a", chat("bad wor", "content_filter")), "content_filter", "bad wor"),
        (answered("a", chat(None)), "empty_response", None),
        (answered("a", chat([])), "empty_response", None),
        (answered("a", chat([{"type": "refusal", "refusal": "no"}])), "refusal", "no"),
        (answered("a", {"choices": []}), "empty_response", None),
        (answered("a", {"choices": "none"}), "invalid_response", None),
        (answered("a", {"choices": [{"text": "no message"}]}), "invalid_response", None),
        (answered("a", {"hello": "world"}), "invalid_response", None),
        (answered("a", ["no object"]), "invalid_response", None),
        (answered("a", {}), "empty_response", None),
        (answered("a", None), "empty_response", None),
        (answered("a", {}, 0), "empty_response", None),
        (answered("a", chat("x"), 500), "http_500", None),
        (refused("a", 400), "http_400", None),
        (refused("a", 429), "http_429", None),
        (refused("a", 400, code="content_filter"), "content_filter", None),
        (answered("a", "<html>Bad gateway</html>", 502), "http_502", None),
        ({**answered("a", chat("x")), "error": {"code": "odd", "message": "m"}}, "provider_error", None),
        (never_run("a"), "expired", None),
        (never_run("a", "batch_cancelled"), "cancelled", None),
        (never_run("a", "rate_limit_exceeded"), "http_429", None),
        (never_run("a", "some_new_word"), "provider_error", None),
        ({"custom_id": "a", "response": None, "error": None}, "empty_response", None),
        ({"custom_id": "a"}, "empty_response", None),
        (answered("a", responses(status="incomplete")), "length", "an answer"),
        (
            answered(
                "a",
                responses(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, output=[]),
            ),
            "length",
            None,
        ),
        (
            answered("a", responses(status="incomplete", incomplete_details={"reason": "content_filter"})),
            "content_filter",
            "an answer",
        ),
        (answered("a", responses(output=[{"type": "reasoning"}])), "empty_response", None),
        (
            answered(
                "a",
                responses(output=[{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]),
            ),
            "refusal",
            "no",
        ),
        (
            answered("a", responses(status="failed", error={"code": "server_error", "message": "x"})),
            "http_500",
            None,
        ),
        (answered("a", {"data": []}), "empty_response", None),
        (answered("a", {"data": [{"embedding": "!!"}]}), "invalid_response", None),
        (answered("a", {"data": [{"embedding": [0.5, None]}]}), "invalid_response", None),
        (answered("a", embeddings([0.5, float("inf")], as_base64=True)), "invalid_response", None),
        (answered("a", embeddings([0.5, 1e300])), "invalid_response", None),
        (result("a", message=message("half", stop="max_tokens")), "length", "half"),
        (result("a", message=message("I cannot", stop="refusal")), "refusal", "I cannot"),
        (result("a", message=message()), "empty_response", None),
        (result("a", message=None), "empty_response", None),
        (result("a", "errored", error={"type": "invalid_request_error", "message": "m"}), "http_400", None),
        (
            result(
                "a", "errored", error={"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
            ),
            "http_529",
            None,
        ),
        (result("a", "canceled"), "cancelled", None),
        (result("a", "expired"), "expired", None),
        (result("a", "something new"), "provider_error", None),
    ],
)
def test_a_failed_row_has_its_code_and_never_an_answer(line: Any, code: str, text: str | None) -> None:
    """
    Every way to fail has one code, a message for people, and keeps the text that came.
    """
    row = row_of(line)
    assert (row["status"], row["error_code"], row["text"]) == ("failed", code, text)
    assert row["error_message"]


@pytest.mark.parametrize("ending", [ending for known in ENDINGS for ending in (known, known.upper())])
def test_half_an_answer_is_no_answer_at_any_endpoint(ending: str) -> None:
    """
    However a server says that it stopped amid an answer, the row has a code, and what came is kept.
    """
    code = ENDINGS[ending.lower()]
    for line in (answered("a", chat("half", ending)), result("a", message=message("half", stop=ending))):
        row = row_of(line)
        assert (row["status"], row["error_code"], row["text"]) == ("failed", code, "half")
        assert row["finish_reason"] == ending


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled", "failed"])
def test_a_response_that_was_not_completed_is_no_answer(status: str) -> None:
    """
    A body of the responses endpoint whose status is not completed has a code.
    """
    row = row_of(answered("a", responses("half", status=status)))
    assert row["status"] == "failed"
    assert row["text"] == "half"


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t \u2003", "\u200a\x0b"])
def test_a_text_of_blanks_is_an_empty_answer(blank: str) -> None:
    """
    What says nothing is empty_response, null or blanks alike.
    """
    lines = [answered("a", chat(blank)), answered("a", responses(blank)), result("a", message=message(blank))]
    assert {row_of(line)["error_code"] for line in lines} == {"empty_response"}


def test_what_is_said_on_the_way_is_not_the_answer() -> None:
    """
    Of messages that are marked as commentary and as the final answer, the final answer counts.
    """
    said = [
        {"type": "message", "phase": phase, "content": [{"type": "output_text", "text": text}]}
        for phase, text in [("commentary", "let me see"), ("final_answer", "yes")]
    ]
    assert row_of(answered("a", responses(output=said)))["text"] == "yes"
    assert row_of(answered("a", responses(output=said[:1])))["text"] == "let me see"


def test_the_providers_words_are_in_the_message() -> None:
    """
    The message says what the provider said, the provider's own code included.
    """
    row = row_of(refused("a", 400, "This model's maximum context length is 8192", "context_length_exceeded"))
    assert row["error_message"] == "context_length_exceeded: This model's maximum context length is 8192"
    assert row["status_code"] == 400


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (answered("a", chat([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])), "one two"),
        (answered("a", responses("yes", thoughts=3)), "yes"),
        (answered("a", message("yes")), "yes"),
        (result("a", message=message("one ", "two")), "one two"),
        (result("a", message=message({"type": "thinking", "thinking": "hm"}, "yes")), "yes"),
        (result("a", message=message("stop", stop="stop_sequence")), "stop"),
        (answered(12, chat("yes")), "yes"),
        (answered("a", chat("yes"), "200"), "yes"),
        (answered("a", json.dumps(chat("yes"))), "yes"),
    ],
)
def test_an_answer_is_found_in_every_shape(line: Any, text: str) -> None:
    """
    Lists of parts, reasoning before the answer, several blocks of text: the answer is the text.
    """
    row = row_of(line)
    assert (row["status"], row["text"], row["error_code"]) == ("succeeded", text, None)


@pytest.mark.parametrize(
    ("line", "text", "finish"),
    [
        (
            answered("a", chat(None, "stop", tool_calls=[tool_call('{"label": "pos"}')])),
            '{"label": "pos"}',
            "tool_calls",
        ),
        (
            answered(
                "a", responses(output=[{"type": "function_call", "name": "f", "arguments": '{"x": 1}'}])
            ),
            '{"x": 1}',
            "tool_calls",
        ),
        (
            result(
                "a",
                message=message("Sure:", {"type": "tool_use", "input": {"label": "pos"}}, stop="tool_use"),
            ),
            '{"label":"pos"}',
            "tool_use",
        ),
    ],
)
def test_a_forced_tool_call_is_read_as_the_answer(line: Any, text: str, finish: str) -> None:
    """
    Where a schema is asked for through a tool, the tool's input is the answer.
    """
    row = row_of(line)
    assert (row["status"], row["text"], row["finish_reason"]) == ("succeeded", text, finish)


def test_tokens_mean_the_same_for_every_provider() -> None:
    """
    Prompt tokens include the cached ones, for Anthropic too.
    """
    row = row_of(result("a", message=message("x")))
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (16, 4, 7)
    row = row_of(answered("a", responses("x")))
    assert (row["prompt_tokens"], row["cached_tokens"], row["reasoning_tokens"]) == (11, 4, 2)


@pytest.mark.parametrize("as_base64", [False, True])
def test_embeddings_come_as_float32(as_base64: bool) -> None:
    """
    Numbers and base64 are the same vector.
    """
    row = row_of(answered("a", embeddings([0.1, -2.0, 3e-8], as_base64=as_base64)))
    np.testing.assert_array_equal(np.float32(row["embedding"]), np.float32([0.1, -2.0, 3e-8]))
    assert row["text"] is None


# Files --------------------------------------------------------------------------------------------------


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """
    Separators that other tools break lines at stay in the text.
    """
    raw = "a".join(c for c in SEPARATORS if c > "\x7f")
    line = json.dumps(answered("a", chat("X"))).replace('"X"', json.dumps(SEPARATORS)[:-1] + raw + '"')
    path = tmp_path / "out.jsonl"
    path.write_bytes((line + "\n").encode() + jsonl([answered("b", chat("y"))]))
    assert dobatch.read_results(path)["text"].tolist() == [SEPARATORS + raw, "y"]


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    """
    Files that went through other hands are read as well.
    """
    path = tmp_path / "out.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + jsonl([answered("a", chat("x")), answered("b", chat("y"))]).replace(b"\n", b"\r\n")
    )
    assert dobatch.read_results(path)["custom_id"].tolist() == ["a", "b"]


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n\n", b" ", b"\xef\xbb\xbf"])
def test_a_file_without_results_gives_no_rows(tmp_path: Path, data: bytes) -> None:
    """
    An empty file is no error, and has all columns.
    """
    path = tmp_path / "out.jsonl"
    path.write_bytes(data)
    found = dobatch.read_results(path)
    assert found.empty
    assert list(found.columns) == RESULTS.names


def test_torn_and_foreign_lines_are_told_and_passed_over(tmp_path: Path) -> None:
    """
    One broken line costs one line.
    """
    torn = orjson.dumps(answered("c", chat("lost")))[:-20]
    path = tmp_path / "out.jsonl"
    path.write_bytes(
        jsonl([answered("a", chat("x")), {"no": "id"}, b"not json", answered("b", chat("y"))]) + torn
    )
    bad: list[bytes] = []
    batches = list(iter_results(path, on_bad_line=bad.append))
    assert [i for batch in batches for i in batch["custom_id"].to_pylist()] == ["a", "b"]
    assert bad == [b'{"no":"id"}', b"not json", torn]


@pytest.mark.parametrize("digits", [str(2**64), str(-(2**63) - 1), "9" * 400, "9" * 5000])
def test_numbers_beyond_64_bits_lose_no_line(tmp_path: Path, digits: str) -> None:
    """
    Neither where orjson reads the line, nor where half a surrogate pair hands it to a reader less strict.
    """
    call = message("", {"type": "tool_use", "input": {"n": 0, "text": "X"}}, stop="tool_use")
    line = orjson.dumps(result("a", message=call)).replace(b'"n":0', b'"n":' + digits.encode())
    path = tmp_path / "out.jsonl"
    path.write_bytes(
        line + b"\n" + line.replace(b"X", rb"\ud83d") + b"\n" + jsonl([answered("b", chat("y"))])
    )
    bad: list[bytes] = []
    batches = list(iter_results(path, on_bad_line=bad.append))
    assert [i for batch in batches for i in batch["custom_id"].to_pylist()] == ["a", "a", "b"]
    assert bad == []


def test_a_line_of_fifty_megabytes_passes(tmp_path: Path) -> None:
    """
    No line is too long.
    """
    long = "é\n" * 13_000_000
    path = write(
        tmp_path / "out.jsonl", answered("a", chat("x")), answered("b", chat(long)), answered("c", chat("z"))
    )
    assert path.stat().st_size > 50_000_000
    found = dobatch.read_results(path)
    assert found["custom_id"].tolist() == ["a", "b", "c"]
    assert found["text"][1] == long


@given(size=st.integers(1, 400), count=st.integers(0, 6), newline=st.booleans(), blank=st.booleans())
@settings(max_examples=60)
def test_where_blocks_are_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, size: int, count: int, newline: bool, blank: bool
) -> None:
    """
    Every line is read once and whole, wherever the pieces of a file end.
    """
    lines: list[Any] = [answered(str(i), chat("x" + "é" * 3 * i)) for i in range(count)]
    data = jsonl([*lines[:1], b"", *lines[1:]] if blank else lines)
    path = tmp_path_factory.mktemp("cut") / "out.jsonl"
    path.write_bytes(data if newline else data.removesuffix(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_lines, "_BLOCK", size)
        rows = [row for batch in iter_results(path) for row in batch.to_pylist()]
    assert [(row["custom_id"], row["text"]) for row in rows] == [
        (str(i), "x" + "é" * 3 * i) for i in range(count)
    ]


def test_compressed_files_are_unpacked(tmp_path: Path) -> None:
    """
    Archived results need no unpacking by hand.
    """
    path = tmp_path / "out.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl([answered(str(i), chat("x" * 1000)) for i in range(3000)])))
    assert len(dobatch.read_results(path)) == 3000


LINES = [orjson.dumps(answered(name, chat("é🙂"))).decode() for name in "abc"]
WHOLE = "\n".join(LINES) + "\n"
WRITTEN = {
    **{
        f"{coding}, {'marked' if mark else 'bare'}": (mark + WHOLE).encode(coding)
        for coding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        for mark in ("", "\ufeff")
    },
    "two marks": ("\ufeff\ufeff" + WHOLE).encode(),
    "marks before and after": "".join(f"\ufeff{line}\ufeff\n" for line in LINES).encode(),
    "UTF-16, CRLF": ("\ufeff" + WHOLE.replace("\n", "\r\n")).encode("utf-16-le"),
    "CR alone": WHOLE.replace("\n", "\r").encode(),
    "glued": "".join(LINES).encode(),
    "glued and blank": (LINES[0] + LINES[1] + "\n\n \n" + LINES[2]).encode(),
    "NUL at both ends": b"\0" * 50 + WHOLE.encode() + b"\0" * 50,
    "record separators": "".join(f"\x1e{line}\n" for line in LINES).encode(),
    "commas": ",\n".join(LINES).encode(),
    "array": f"[{','.join(LINES)}]".encode(),
    "array over lines": f"[\n{','.join(LINES)}\n]".encode(),
    "no-break spaces": f"\u00a0{WHOLE}\u00a0".encode(),
    "pretty": "\n".join(json.dumps(json.loads(line), indent=2) for line in LINES).encode(),
    "pretty array": json.dumps([json.loads(line) for line in LINES], indent=2).encode(),
    "gzip": gzip.compress(WHOLE.encode()),
    "gzip in two pieces": gzip.compress(WHOLE[:90].encode()) + gzip.compress(WHOLE[90:].encode()),
    "zstd": pa.compress(WHOLE.encode(), codec="zstd", asbytes=True),
    "bz2": bz2.compress(WHOLE.encode()),
    "gzip twice": gzip.compress(gzip.compress(WHOLE.encode())),
    "bz2 in gzip": gzip.compress(bz2.compress(WHOLE.encode())),
    "UTF-16 in gzip": gzip.compress(WHOLE.encode("utf-16")),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.filterwarnings("error")
def test_a_file_is_read_however_it_was_kept(tmp_path: Path, how: str) -> None:
    """
    Editors, shells and tools write and pack files in many ways; all lines are read, and nothing is said to be lost.
    """
    path = tmp_path / "results"
    path.write_bytes(WRITTEN[how])
    assert dobatch.read_results(path)[["custom_id", "text"]].to_numpy().tolist() == [
        [n, "é🙂"] for n in "abc"
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + WHOLE.encode(), "a zip archive: unpack it"),
        (lzma.compress(WHOLE.encode()), "packed with xz: unpack it"),
        (gzip.compress(b"PK\x03\x04" + WHOLE.encode()), "a zip archive: unpack it"),
        (bz2.compress(gzip.compress(gzip.compress(gzip.compress(b"")))), "packed more than 3 times"),
        (gzip.compress(random.Random(0).randbytes(9000))[:-500], "Truncated"),
        (b"\0" * 900, "nothing but zeros"),
        (b"<?xml version='1.0'?><Error/>", "a page, not results"),
        (b'{"error": {"message": "expired"}}', "holds no result"),
        (b"custom_id,text\na,b\n", "holds no result"),
        (repr(json.loads(LINES[0])).encode(), "holds no result"),
        (b'{"custom_id": "a", "params": {"model": "m"}}', "it holds requests"),
        (LINES[0][:60].encode(), "holds no result"),
    ],
)
def test_a_file_without_any_result_is_refused_in_words(tmp_path: Path, data: bytes, said: str) -> None:
    """
    What cannot be results is told as an error that says what it seems to be.
    """
    path = tmp_path / "results"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        dobatch.read_results(path)


@pytest.mark.parametrize("path", [None, 7.5, "nowhere.jsonl", "."])
def test_a_path_that_is_none_is_told(path: Any) -> None:
    """
    A file that is not there, a folder, or no path at all: one error of ours.
    """
    with pytest.raises(InputError, match="cannot be read"):
        dobatch.read_results(path)


def test_reading_can_be_given_up_half_way(tmp_path: Path) -> None:
    """
    A generator that nobody finishes leaves no thread behind.
    """
    path = write(tmp_path / "out.jsonl", *[answered(str(i), chat("x" * 1000)) for i in range(200)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_lines, "_BLOCK", 1000)
        reading = iter_results(path)
        assert next(reading).num_rows
        reading.close()


# Many files ---------------------------------------------------------------------------------------------


def test_output_and_error_files_of_both_providers_are_one_frame(tmp_path: Path) -> None:
    """
    One call reads every file, and no failed row vanishes.
    """
    out = write(tmp_path / "out.jsonl", answered("a", chat("x")), refused("b", 400))
    err = write(tmp_path / "err.jsonl", never_run("c"))
    both = write(tmp_path / "b.jsonl", result("d", message=message("y")), result("e", "expired"))
    found = dobatch.read_results(out, err, str(both))
    assert found["custom_id"].tolist() == ["a", "b", "c", "d", "e"]
    assert found["text"].fillna("-").tolist() == ["x", "-", "-", "y", "-"]
    assert found["error_code"].fillna("-").tolist() == ["-", "http_400", "expired", "-", "expired"]
    assert str(found["prompt_tokens"].dtype) == "Int64"


def test_a_success_beats_a_failure_and_later_beats_earlier(tmp_path: Path) -> None:
    """
    Doubled lines are one row, and the best of them.
    """
    out = write(
        tmp_path / "out.jsonl",
        answered("a", chat("first")),
        never_run("a"),
        refused("b", 400),
        answered("c", chat("one")),
        answered("c", chat("two")),
        refused("b", 500),
    )
    found = dobatch.read_results(out).set_index("custom_id")
    assert found.index.tolist() == ["a", "c", "b"]
    assert found["text"].fillna("-").to_dict() == {"a": "first", "b": "-", "c": "two"}
    assert found.loc["b", "error_code"] == "http_500"


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12),
    cuts=st.lists(st.integers(0, 12)),
)
def test_merging_keeps_the_best_row_however_the_rows_are_divided(
    rows: list[tuple[str, bool]], cuts: list[int]
) -> None:
    """
    One row an id, whether the lines came in one file or in twelve.
    """
    expected: dict[str, tuple[bool, int]] = {}
    for number, (custom_id, good) in enumerate(rows):
        if good or not expected.get(custom_id, (False,))[0]:
            expected[custom_id] = (good, number)
    table = pa.table(
        {
            "custom_id": pa.array([custom_id for custom_id, _ in rows], pa.string()),
            "status": pa.array(["succeeded" if good else "failed" for _, good in rows], pa.string()),
            "number": pa.array(range(len(rows)), pa.int64()),
        }
    )
    edges = sorted({0, len(rows), *[cut for cut in cuts if cut < len(rows)]})
    parts = [table.slice(a, b - a) for a, b in pairwise(edges)]
    merged = merge_results(parts)
    if not rows:
        assert merged.num_rows == 0
        return
    found = dict(zip(merged["custom_id"].to_pylist(), merged["number"].to_pylist(), strict=True))
    assert found == {custom_id: number for custom_id, (_, number) in expected.items()}


def test_a_frame_of_results_goes_back_to_a_table(tmp_path: Path) -> None:
    """
    Results that were filtered or stored as a frame can still be joined.
    """
    out = write(
        tmp_path / "out.jsonl",
        answered("a", chat("x")),
        never_run("b"),
        answered("e", embeddings([1.0, 2.0])),
    )
    table = merge_results(iter_results(out))
    assert table_of(dobatch.read_results(out)).equals(table)
    small = table_of(dobatch.read_results(out)[["custom_id", "text", "error_code"]])
    assert small["status"].to_pylist() == ["succeeded", "failed", "succeeded"]
    with pytest.raises(InputError, match="custom_id"):
        table_of(dobatch.read_results(out)[["text"]])
