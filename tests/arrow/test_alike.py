"""Lines that are alike become columns without being parsed, and say what a parser says of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json as pj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_lines import answered, chat, embeddings, message, refused, responses, result, texts

from dobatch_pandas.answers.result_lines import _schema_of, read_block, read_lines
from dobatch_pandas.arrow.alike import Shapes
from dobatch_pandas.arrow.jsonl import Lines
from dobatch_pandas.endpoints import READERS

Line = dict[str, Any]

WRITERS: list[Callable[[Any], bytes]] = [
    orjson.dumps,
    lambda line: json.dumps(line).encode(),
    lambda line: json.dumps(line, ensure_ascii=False, separators=(",", " : ")).encode(),
    lambda line: orjson.dumps(line) + b"\r",
]
KINDS: dict[str, tuple[Callable[[str, str], Line], Any]] = {
    "chat": (lambda i, t: answered(i, chat(t)), "/v1/chat/completions"),
    "chat with nothing left out": (
        lambda i, t: answered(i, chat(t, refusal=None, annotations=[], tool_calls=[])),
        "/v1/chat/completions",
    ),
    "responses": (lambda i, t: answered(i, responses(t)), "/v1/responses"),
    "embeddings": (
        lambda i, t: answered(i, embeddings([len(t), 1.5] * 99, as_base64=True)),
        "/v1/embeddings",
    ),
    "messages": (lambda i, t: result(i, message=message(t)), "/v1/messages"),
}


def _schema(endpoint: str, line: Line) -> Any:
    reader = READERS[endpoint]
    body = reader.BODY_BASE64 if endpoint == "/v1/embeddings" else reader.BODY
    return _schema_of("result" if "result" in line else "response", body)


def _lines(lines: list[bytes]) -> Lines:
    return Lines(pa.py_buffer(b"\n".join(lines)))


def _parsed(lines: list[bytes], schema: Any) -> list[Line]:
    block = b"\n".join(lines)
    table = pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(block_size=len(block) + 1, use_threads=False),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    found: list[Line] = table.to_pylist()
    return found


def _varied(line: Any, draw: random.Random, words: list[str]) -> Any:
    """The same line with other texts and numbers here and there."""
    if isinstance(line, dict):
        return {key: _varied(inner, draw, words) for key, inner in line.items()}
    if isinstance(line, list):
        return [_varied(inner, draw, words) for inner in line]
    if draw.random() < 0.7:
        return line
    if isinstance(line, str):
        return draw.choice(words)
    return draw.choice([0, 7, 10 ** draw.randrange(20), -1, 0.5, None]) if type(line) is int else line


@pytest.mark.parametrize("kind", KINDS)
@given(
    words=st.lists(texts, min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    writer=st.sampled_from(WRITERS),
    noise=st.sampled_from([0.0, 0.1, 1.0]),
)
@settings(max_examples=40)
def test_a_table_says_what_a_parser_says(
    kind: str, words: list[str], seed: int, writer: Any, noise: float
) -> None:
    """
    Whatever differs from line to line, what is read without parsing is what is parsed.
    """
    make, endpoint = KINDS[kind]
    draw = random.Random(seed)
    made = [make(f"row-{draw.randrange(10**9)}", draw.choice(words) + str(n % 3)) for n in range(150)]
    lines = [writer(_varied(line, draw, words) if draw.random() < noise else line) for line in made]
    schema = _schema(endpoint, made[0])
    told: list[int] = []
    for numbers, table in Shapes().read(_lines(lines), schema):
        told += numbers.tolist()
        if table is not None:
            table.validate(full=True)
            assert table.schema == schema
            assert table.to_pylist() == _parsed([lines[n] for n in numbers], schema)
    assert sorted(told) == list(range(len(lines)))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_line_of_an_endpoint_is_parsed(kind: str, writer: Any) -> None:
    """
    What services write all day long is understood, escapes and all.
    """
    make, endpoint = KINDS[kind]
    lines = [writer(make(f"id-{n}", f'said: "{n}"\n\tcafé 🙂 \\ \u2028' * (n % 7))) for n in range(200)]
    read = list(Shapes().read(_lines(lines), _schema(endpoint, make("", ""))))
    assert [len(numbers) for numbers, table in read if table is not None] == [200]


def test_what_was_the_same_so_far_may_differ_later() -> None:
    """
    A model's name, a date or a finish that changes in mid-file costs another look, not the lines after it.
    """
    shapes, schema = Shapes(), _schema("/v1/chat/completions", answered("", {}))

    def read(model: str, created: int, finish: str) -> int:
        lines = []
        for n in range(200):
            body = {**chat(f"text {n}", finish), "model": model, "created": created + n // 200}
            lines.append(orjson.dumps(answered(f"id-{created}-{n}", body)))
        found = list(shapes.read(_lines(lines), schema))
        models = {
            row["response"]["body"]["model"] for _, t in found if t is not None for row in t.to_pylist()
        }
        assert models <= {model}
        return sum(len(numbers) for numbers, table in found if table is not None)

    for day in range(40):
        assert read(f"gpt-{day % 3}", 1_790_000_000 + day, ["stop", "length"][day % 2]) == 200


def test_lines_that_never_fit_are_looked_at_only_a_few_times() -> None:
    """
    A file full of what must be parsed does not cost the search for a shape again with each block.
    """
    shapes, schema = Shapes(), _schema("/v1/chat/completions", answered("", {}))
    for block in range(60):
        lines = [
            orjson.dumps(answered(f"escaped\t{n}", chat(f"{n}" + "long" * (50 + block)))) for n in range(100)
        ]
        ((numbers, table),) = shapes.read(_lines(lines), schema)
        assert table is None
        assert len(numbers) == 100
    (shape,) = shapes._known.values()
    assert len(shape.outlines) <= 40


def test_lines_of_several_shapes_are_all_read() -> None:
    """
    Successes, failures and refusals side by side have a shape each.
    """
    makers: list[Callable[[int], Line]] = [
        lambda n: answered(f"a-{n}", chat(f"text {n}")),
        lambda n: refused(f"b-{n}", 400 + n % 3, f"bad request number {n}", code="bad"),
        lambda n: answered(f"c-{n}", chat(f"long {n}", "length", refusal=None)),
    ]
    lines = [orjson.dumps(makers[n % 3](n)) for n in range(900)]
    found = list(Shapes().read(_lines(lines), _schema("/v1/chat/completions", makers[0](0))))
    assert sorted(n for numbers, table in found if table is not None for n in numbers) == list(range(900))


@pytest.mark.parametrize(
    "line",
    [
        answered("a", embeddings([0.5] * 300)),
        answered("a", chat("long " * 99, reasoning_content="long " * 99)),
        answered("a", chat([{"type": "text", "text": "of parts"}])),
        answered("a", {**chat("long"), "usage": {"prompt_tokens": 2**63}}),
        {"custom_id": 5, "response": None},
        [1],
    ],
)
def test_what_has_no_shape_is_left_alone(line: Any) -> None:
    """
    Lists of numbers, two long texts, a type or a number that the schema has not: those lines are for a parser.
    """
    lines = [orjson.dumps(line).replace(b"long", b"%d" % n) for n in range(100)]
    schema = _schema("/v1/chat/completions", answered("", {}))
    ((numbers, table),) = Shapes().read(_lines(lines), schema)
    assert table is None
    assert numbers.tolist() == list(range(100))


FORGED = [
    b'{"custom_id":"a","custom_id":"b","n":1,"text":"t"}',
    b'{"custom_id":"a","n":01,"text":"t"}',
    b'{"custom_id":"a","n":-1,"text":"t"}',
    b'{"custom_id":"a","n":1.5,"text":"t"}',
    b'{"custom_id":"a","n":1,"text":"t"}}',
    b'{"custom_id":"a","n":1,"text":"t"',
    b'{"custom_id":"a","n":1,"text":"t","text":"u"}',
    b'{"custom_id":"a\\","n":1,"text":"t"}',
    b'{"custom_id":"a\\"","n":1,"text":"t"}',
    b'{"custom_id":"a","n":1,"text":"t\\"}',
    b'{"custom_id":"a","n":1,"text":"t\\\\"}',
    b'{"custom_id":"a","n":1,"text":"t"u"}',
    b'{"custom_id":"a","n":1,"text":""}',
    b'{"custom_id":"","n":1,"text":"t"}',
    b'{"custom_id":"a","n":,"text":"t"}',
    b'{"custom_id":"a","n":1234567890123456,"text":"t"}',
    b'{"custom_id":"a","n":99999999999999999999,"text":"t"}',
    b'{"custom_id":"a","n":1,"text":"t\x00"}',
    b'{"custom_id":"a","n":1,"text":"t\xff"}',
    b'{"custom_id":"a\xc3","n":1,"text":"\xa9"}',
    b'{"custom_id":"' + b"a" * 400 + b'","n":1,"text":"t"}',
    b"{",
    b"",
    b" ",
    b'{"custom_id":"a","n":1,"text":"' + b"t" * 400 + b'"}',
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("place", [0, 80, 199])
def test_a_line_that_only_looks_like_the_others_is_not_taken_for_one(forged: bytes, place: int) -> None:
    """
    Each constant is compared to the byte, and each value looked at: what is not valid JSON is never read.
    """
    schema = pa.schema([("custom_id", pa.string()), ("n", pa.int64()), ("text", pa.large_string())])
    lines = [b'{"custom_id":"id-%d","n":%d,"text":"text %d"}' % (n, n, n * n) for n in range(200)]
    lines[place] = forged
    for numbers, table in Shapes().read(_lines(lines), schema):
        if table is not None:
            stand = [line for line in lines if line.strip()]
            assert table.to_pylist() == [orjson.loads(stand[n]) for n in numbers]


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
