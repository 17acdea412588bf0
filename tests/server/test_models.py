"""What answers: the echo, a function, another server."""

from __future__ import annotations

import base64
import json
import struct
import threading

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import schemas
from server.driver import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, chat_line, chat_lines, message_line
from server.schemas import check

from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import LocalServer, Reply
from dobatch_pandas.server.instances import instance
from dobatch_pandas.server.models import EchoModel, ask

LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["pos", "neg"]}},
    "required": ["label"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": LABEL}}
TURNS = [{"role": "user", "content": "good film"}]


def test_chat_echoes_the_last_user_text(api):
    """
    Whatever came before it, in parts or whole, and the same each time.
    """
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
    ]
    answer = api.call("POST", CHAT, json={"model": "m", "messages": turns})
    check(answer.json(), schemas.CHAT)
    assert answer.json()["choices"][0]["message"]["content"] == "one\ntwo"
    assert answer.json()["model"] == "m"


def test_too_few_tokens_cut_the_answer(api):
    """
    A token is a word here; finish_reason says length.
    """
    body = {"model": "m", "messages": [{"role": "user", "content": "a b c d"}], "max_tokens": 2}
    choice = api.call("POST", CHAT, json=body).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("a b", "length")
    body = {"model": "m", "input": "a b c d", "max_output_tokens": 2}
    assert api.call("POST", RESPONSES, json=body).json()["status"] == "incomplete"
    body = {"model": "m", "messages": [{"role": "user", "content": "a b c d"}], "max_tokens": 2}
    assert api.call("POST", MESSAGES, json=body).json()["stop_reason"] == "max_tokens"


def test_a_schema_is_answered_at_every_endpoint(api):
    """
    Response format, text format, and a tool that must be called, all with the same value.
    """
    tool = {"name": "answer", "description": "x", "input_schema": LABEL}
    function = {"type": "function", "function": {"name": "answer", "parameters": LABEL}}
    chat = api.call("POST", CHAT, json={"model": "m", "messages": TURNS, "response_format": FORMAT}).json()
    chat_tool = api.call(
        "POST", CHAT,
        json={"model": "m", "messages": TURNS, "tools": [function],
              "tool_choice": {"type": "function", "function": {"name": "answer"}}},
    ).json()  # fmt: skip
    text_format = {"format": {"type": "json_schema", "name": "a", "schema": LABEL}}
    response = api.call(
        "POST", RESPONSES, json={"model": "m", "input": "good film", "text": text_format}
    ).json()
    message = api.call(
        "POST", MESSAGES,
        json={"model": "m", "max_tokens": 10, "messages": TURNS, "tools": [tool],
              "tool_choice": {"type": "tool", "name": "answer"}},
    ).json()  # fmt: skip
    call = chat_tool["choices"][0]["message"]["tool_calls"][0]["function"]
    values = [
        orjson.loads(chat["choices"][0]["message"]["content"]),
        orjson.loads(call["arguments"]),
        orjson.loads(response["output"][1]["content"][0]["text"]),
        message["content"][0]["input"],
    ]
    assert values[0]["label"] in ("pos", "neg")
    assert values == [values[0]] * 4
    assert message["stop_reason"] == "tool_use"
    assert chat_tool["choices"][0]["finish_reason"] == "tool_calls"


def test_embeddings_are_unit_vectors_that_mean_something(api):
    """
    The same text the same vector, shared words nearer; dimensions and base64 are honoured.
    """
    body = {"model": "m", "input": ["a good film", "a good movie", "tax returns"]}
    vectors = [one["embedding"] for one in api.call("POST", EMBEDDINGS, json=body).json()["data"]]
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-9 for vector in vectors)

    def near(a, b):
        return sum(x * y for x, y in zip(vectors[a], vectors[b], strict=True))

    assert near(0, 1) > near(0, 2)
    coded = {"model": "m", "input": "a good film", "encoding_format": "base64", "dimensions": 8}
    data = api.call("POST", EMBEDDINGS, json=coded).json()["data"][0]["embedding"]
    plain = api.call("POST", EMBEDDINGS, json=coded | {"encoding_format": "float"}).json()["data"][0][
        "embedding"
    ]
    assert struct.unpack("<8f", base64.b64decode(data)) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, b"{"),
        (CHAT, {"model": "m"}),
        (CHAT, {"model": "m", "messages": []}),
        (CHAT, {"model": "m", "messages": ["x"]}),
        (CHAT, {"model": "m", "messages": TURNS, "n": 0}),
        (CHAT, {"model": "m", "messages": TURNS, "tool_choice": "required"}),
        (EMBEDDINGS, {"model": "m", "input": "x", "stream": True}),
        (EMBEDDINGS, {"model": "m", "input": "x", "dimensions": 10**12}),
        (RESPONSES, {"model": "m"}),
        (EMBEDDINGS, {"model": "m", "input": []}),
        (EMBEDDINGS, {"model": "m", "input": [1, 2]}),
        (MESSAGES, {"model": "m", "messages": "x"}),
    ],
)
def test_bad_requests_answer_in_the_providers_shape(api, endpoint, body):
    """
    400 with `error.message`, which every client of that provider reads.
    """
    answer = api.call("POST", endpoint, **({"data": body} if isinstance(body, bytes) else {"json": body}))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert (answer.json().get("type") == "error") == (endpoint == MESSAGES)


def test_a_bad_request_in_a_batch_fails_alone(api):
    """
    One bad prompt does not kill the run.
    """
    lines = [*chat_lines(3), chat_line("bad") | {"body": {"model": "m", "messages": []}}]
    batch_id = api.create(lines)
    assert api.until(batch_id, "completed")["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    _, errors = api.lines(batch_id)
    assert errors[0]["custom_id"] == "bad"
    assert errors[0]["response"]["body"]["error"]["type"] == "invalid_request_error"


def test_the_real_time_endpoints_can_go_wrong_too(api):
    """
    The same faults, under the name `infer`.
    """
    api.server.faults.add("infer", status=429, retry_after=1)
    statuses = [api.call("POST", CHAT, json={"model": "m", "messages": TURNS}).status_code for _ in range(2)]
    assert statuses == [429, 200]


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, EMBEDDINGS])
def test_each_endpoint_runs_in_a_batch(api, endpoint):
    """
    Chat, responses and embeddings, each with its own bodies.
    """
    body = {"model": "m", "messages": TURNS} if endpoint == CHAT else {"model": "m", "input": "good film"}
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    batch_id = api.create([line], endpoint=endpoint)
    api.until(batch_id, "completed")
    (answer,), _ = api.lines(batch_id)
    check(answer, schemas.OPENAI_LINE)
    assert answer["response"]["status_code"] == 200


@pytest.mark.parametrize(
    ("returned", "status", "text"),
    [
        ("hello", 200, "hello"),
        ({"label": "pos"}, 200, '{"label":"pos"}'),
        ({"choices": [{"message": {"content": "whole"}}]}, 200, "whole"),
        ({"output": "my field"}, 200, '{"output":"my field"}'),
        ({"content": ["a"], "error": None}, 200, '{"content":["a"],"error":null}'),
        (None, 200, None),
        (7, 200, "7"),
    ],
)
def test_a_function_answers_with_what_it_returns(serve, returned, status, text):
    """
    A text, a value, or a whole body.
    """
    api = serve(lambda body, endpoint: returned)
    answer = api.call("POST", CHAT, json={"model": "m", "messages": TURNS})
    assert answer.status_code == status
    assert answer.json()["choices"][0]["message"]["content"] == text


def test_a_function_can_fail(serve):
    """
    An exception is a 500 of that request, a Reply any status, an `error` as it is.
    """

    def model(body, endpoint):
        word = body["messages"][0]["content"]
        if word == "raise":
            raise KeyError("gone")
        return (
            Reply(418, {"error": {"message": "teapot"}}) if word == "reply" else {"error": {"message": "x"}}
        )

    api = serve(model)
    for word, status in (("raise", 500), ("reply", 418), ("error", 500)):
        turns = [{"role": "user", "content": word}]
        assert api.call("POST", CHAT, json={"model": "m", "messages": turns}).status_code == status


@pytest.mark.parametrize("field", ["choices", "output", "content", "data", "error"])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, MESSAGES])
def test_a_field_that_the_schema_asks_for_is_no_body(serve, field, endpoint):
    """
    A column may be called as parts of a body are, whatever it holds.
    """
    answer = {field: [{"message": "mine"}]}
    schema = {"type": "object", "properties": {field: {"type": "array"}}}
    asked = {
        CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}, "messages": TURNS},
        RESPONSES: {"text": {"format": {"type": "json_schema", "name": "a", "schema": schema}}, "input": "x"},
        MESSAGES: {
            "tools": [{"name": "a", "input_schema": schema}], "tool_choice": {"type": "tool", "name": "a"},
            "messages": TURNS, "max_tokens": 9,
        },
    }  # fmt: skip
    given = serve(lambda body: answer).call("POST", endpoint, json={"model": "m", **asked[endpoint]}).json()
    if endpoint == MESSAGES:
        assert given["content"][-1]["input"] == answer
    elif endpoint == RESPONSES:
        assert json.loads(given["output"][-1]["content"][0]["text"]) == answer
    else:
        assert json.loads(given["choices"][0]["message"]["content"]) == answer


def test_a_functions_value_becomes_the_tools_input(serve):
    """
    Structured answers work for messages as they do for chat.
    """
    api = serve(lambda body, endpoint: [0.5, 0.5] if endpoint == EMBEDDINGS else {"label": "neg"})
    tool = {"name": "answer", "input_schema": LABEL}
    line = message_line("a", tools=[tool], tool_choice={"type": "tool", "name": "answer"})
    batch_id = api.create([line], "anthropic")
    api.until(batch_id, "completed")
    (answer,), _ = api.lines(batch_id)
    assert answer["result"]["message"]["content"][0]["input"] == {"label": "neg"}
    answer = api.call("POST", EMBEDDINGS, json={"model": "m", "input": "x"}).json()
    assert answer["data"][0]["embedding"] == [0.5, 0.5]


def test_a_function_is_called_by_so_many_threads(serve):
    """
    `concurrency` is reached, and never exceeded.
    """
    barrier, now, most, lock = threading.Barrier(3, timeout=120), [0], [0], threading.Lock()

    def model(body, endpoint):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        barrier.wait()
        with lock:
            now[0] -= 1
        return "x"

    api = serve(model, concurrency=3)
    # Three chunks of sixteen: three threads, in step.
    api.until(api.create(chat_lines(48)), "completed")
    assert most == [3]


def test_another_server_can_be_the_model(serve):
    """
    Chat and embeddings pass through, messages become chat, 503 and 429 are tried again.
    """
    upstream = serve()
    upstream.server.faults.add("infer", status=503)
    upstream.server.faults.add("infer", status=429, retry_after=0)
    api = serve(f"{upstream.url}/v1")
    api.server._running().executor.model._headers["Authorization"] = "Bearer local"
    batch_id = api.create(chat_lines(30))
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 30
    batch_id = api.create([message_line("a", "salut", system="s")], "anthropic")
    api.until(batch_id, "completed")
    (line,), _ = api.lines(batch_id)
    check(line, schemas.ANTHROPIC_LINE)
    assert line["result"]["message"]["content"][0]["text"] == "salut"
    tool = {"name": "answer", "input_schema": LABEL}
    forced = {"tools": [tool], "tool_choice": {"type": "tool", "name": "answer"}}
    body = {"model": "m", "max_tokens": 9, "messages": TURNS, **forced}
    assert api.call("POST", MESSAGES, json=body).json()["content"][0]["input"]["label"] in ("pos", "neg")
    assert api.call("POST", RESPONSES, json={"model": "m", "input": "x"}).json()["output"]
    assert len(api.call("POST", EMBEDDINGS, json={"model": "m", "input": "x"}).json()["data"]) == 1


def test_responses_become_chat_where_the_other_server_lacks_them(serve):
    """
    One 404 is enough to know.
    """
    upstream = serve()
    upstream.server.faults.add("infer", status=404)
    api = serve(f"{upstream.url}/v1")
    api.server._running().executor.model._headers["Authorization"] = "Bearer local"
    body = {"model": "m", "input": [{"role": "user", "content": "salut"}], "instructions": "be brief"}
    for _ in range(2):
        answer = api.call("POST", RESPONSES, json=body).json()
        assert answer["output"][1]["content"][0]["text"] == "salut"
    assert upstream.server.calls == ["infer"] * 3


def test_an_unknown_model_is_told():
    """
    With the names that there are.
    """
    with pytest.raises(ServerProblem, match="'echo'"):
        LocalServer("gpt-9").start()


PROPERTIES = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "minLength": 5, "maxLength": 9},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "date-time"},
            {"type": "string", "enum": ["a", "b"]},
            {"enum": [1, None, "x"]},
            {"const": 3},
            {"type": "integer"},
            {"type": "integer", "minimum": 1, "maximum": 5},
            {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
            {"type": "integer", "maximum": -20},
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "multipleOf": 0.5},
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
            {"$ref": "#/$defs/node"},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda one, low: {"type": "array", "items": one, "minItems": low}, inner, st.integers(0, 3)
        ),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
        st.builds(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": list(parts),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
    ),
    max_leaves=8,
)
NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    },
    "required": ["value", "next"],
    "additionalProperties": False,
}


@settings(max_examples=150, deadline=None)
@given(schema=PROPERTIES, text=st.text(max_size=30))
def test_an_instance_fits_its_schema(schema, text):
    """
    Every answer of the echo model is valid, and the same for the same text.
    """
    schema = {**schema, "$defs": {"node": NODE}}
    value = instance(schema, text)
    jsonschema.Draft202012Validator(schema).validate(value)
    assert instance(schema, text) == value


def test_the_choice_depends_on_the_text():
    """
    Different rows get different labels, so that a test sees more than one.
    """
    labels = [instance(LABEL, f"text {number}")["label"] for number in range(200)]
    assert 60 < labels.count("pos") < 140


def test_the_echo_counts_words():
    """
    Usage that a test can foretell.
    """
    body = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
    usage = EchoModel().answer(CHAT, body).body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 3, 6)


FIELDS = (
    "role", "content", "text", "type", "schema", "json_schema", "format", "name", "tools", "tool_choice",
    "function", "input_schema", "parameters", "properties", "items", "anyOf", "$ref", "minimum", "enum",
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    endpoint=st.sampled_from([CHAT, RESPONSES, EMBEDDINGS, MESSAGES]),
    body=st.dictionaries(
        st.sampled_from(
            (
                "model",
                "messages",
                "input",
                "max_tokens",
                "text",
                "response_format",
                "tools",
                "tool_choice",
                "dimensions",
            )
        ),
        JSON,
    ),
)
def test_no_request_breaks_the_echo(endpoint, body):
    """
    Whatever the body, there is an answer that can be written: 200 or 400.
    """
    reply = ask(EchoModel(), endpoint, body)
    assert reply.status in (200, 400)
    assert orjson.dumps(reply.body)


def test_a_functions_nonsense_fails_its_request_alone(serve):
    """
    What cannot be written as JSON is a 500, and the batch goes on.
    """
    api = serve(lambda body, endpoint: {1: object()} if "text 1" in str(body) else "fine")
    batch_id = api.create(chat_lines(3))
    assert api.until(batch_id, "completed")["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
