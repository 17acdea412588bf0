"""A model behind HTTP: it is waited for, asked as much as was asked for, and costs no row but its own."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from server.driver import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    chat_lines,
    message_line,
    read_lines,
)
from server.remote import Remote
from server.stub import chat
from waiting import eventually

from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import loop
from dobatch_pandas.server.convert import chat_request
from dobatch_pandas.server.pace import NotNow, Pace
from dobatch_pandas.server.upstream import UpstreamModel

TURNS = [{"role": "user", "content": "hi"}]
ASKED = {"model": "m", "messages": TURNS}


def _texts(api, batch_id):
    """The text, or the status, of each row."""
    output, errors = api.lines(batch_id)
    found = {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in output
    }
    return found | {line["custom_id"]: line["response"]["status_code"] for line in errors}


def _in_a_loop(model, does):
    async def work():
        try:
            return await does(model)
        finally:
            await model.close()

    # In a thread of its own: a browser's test may have left a loop that runs in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work()).result()


def _echo(call):
    return chat("re " + call.text)


# One row never costs another.


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (chat("half \ud83d"), "half \ufffd"),
        (chat("pair \ud83d\ude00"), "pair \U0001f600"),
        ({**chat("big"), "created": 2**70, "id": -(2**64)}, "big"),
        ({**chat("huge"), "created": 10**400}, "huge"),
        (b'{"choices": [{"message": {"content": "nan"}, "logprobs": NaN, "score": -Infinity}]}', "nan"),
        (b'\xef\xbb\xbf{"choices": [{"message": {"content": "bom"}}]}', "bom"),
        (b"<html>login</html>", 502),
        (b"", 502),
        (b"[]", 502),
        (b'{"choices": []}', 502),
        (b'{"choices": [null]}', 502),
        (b'{"choices": "x"}', 502),
        (b"[" * 100_000, 502),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 502),
        ({"error": {"message": "no", "code": 402}}, 402),
        (chat("", "abort"), 502),
        ((400, {"error": {"message": "bad \ud83d"}}), 400),
        ((413, b"too large"), 413),
        ((422, {"detail": [{"loc": ["body"], "msg": "no"}]}), 422),
        ((201, chat("made")), "made"),
        ((202, {"status": "queued"}), 502),
        ((301, b"", {"Location": "http://127.0.0.1:9/"}), 501),
        ((501, {"error": {"message": "not here", "code": 501}}), 501),
        ((500, {"error": "boom"}), 500),
        (None, 502),
    ],
    ids=lambda value: str(value)[:30],
)
def test_whatever_one_answer_is_the_others_are_there(serve, stub, given, seen):
    """
    A strange answer is that row's, as text or as an error; the four beside it are right.
    """
    upstream = stub(lambda call: given if call.text == "text 2" else _echo(call))
    api = serve(UpstreamModel(upstream.url, attempts=2))
    batch_id = api.create(chat_lines(5))
    api.until(batch_id, "completed")
    found = _texts(api, batch_id)
    assert found.pop("id-0002") == seen
    assert found == {f"id-{n:04d}": f"re text {n}" for n in (0, 1, 3, 4)}
    answer = api.call("POST", CHAT, json={"model": "m", "messages": [{"role": "user", "content": "text 2"}]})
    assert answer.status_code == (200 if isinstance(seen, str) else seen)
    assert answer.json()


@pytest.mark.parametrize("status", [400, 404, 413, 422, 501])
def test_what_asking_again_cannot_change_is_asked_once(serve, stub, status):
    """
    Neither a bad request nor a missing feature is tried again.
    """
    upstream = stub(lambda call: (status, {"error": {"message": "no"}}))
    api = serve(upstream.url)
    api.until(api.create(chat_lines(1)), "completed")
    assert len(upstream.calls) == 1


def test_hours_of_silence_are_one_rows_error(serve, stub):
    """
    After the timeout, asked twice; the other rows have been answered long before.
    """
    over = threading.Event()
    upstream = stub(lambda call: over.wait(120) and None if call.text == "text 0" else _echo(call))
    api = serve(UpstreamModel(upstream.url, timeout=0.3))
    batch_id = api.create(chat_lines(3))
    api.until(batch_id, "completed")
    assert _texts(api, batch_id) == {"id-0000": 502, "id-0001": "re text 1", "id-0002": "re text 2"}
    assert [call.text for call in upstream.calls].count("text 0") == 2
    over.set()


# It is waited for.


@pytest.mark.parametrize(
    "away",
    [
        (503, {"error": {"code": 503, "message": "Loading model"}}),
        (502, b"<html>Bad Gateway</html>"),
        (429, {"error": {"message": "slow down"}}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "-3"}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "nan"}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "inf"}),
        (521, b"<html>Web server is down</html>"),
    ],
    ids=lambda away: " ".join([str(away[0]), *(away[2].values() if len(away) > 2 else ())]),
)
def test_a_batch_waits_for_a_model_that_is_away(serve, stub, away):
    """
    No row fails for what is not its own, and it is not stormed meanwhile.
    """
    ready = threading.Event()
    upstream = stub(lambda call: _echo(call) if ready.is_set() else away)
    api = serve(upstream.url, concurrency=8)
    begun = time.monotonic()
    batch_id = api.create(chat_lines(20))
    eventually(lambda: bool(api.server._running().executor.troubles))
    assert requests.get(f"{api.url}/health", timeout=120).json() == {"status": "waiting"}
    answer = api.call("POST", CHAT, json={"model": "m", "messages": TURNS})
    assert (answer.status_code, "retry-after" in answer.headers) == (away[0], True)
    # A storm would be hundreds of calls in this time.
    threading.Event().wait(0.3)
    stormed, seconds = len(upstream.calls), time.monotonic() - begun
    ready.set()
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 20
    # Eight meet the closed door together, or four and two; then a look each quarter of a second, at most.
    assert stormed <= 8 + 4 + 2 + 4 * seconds
    assert requests.get(f"{api.url}/health", timeout=120).json() == {"status": "ok"}


def test_a_model_that_is_back_while_it_is_looked_for_is_not_missed(serve, stub, monkeypatch):
    """
    It was closed when somebody looked, and open a moment later, when it was reckoned up how long to wait.
    """
    look, later = Pace.closed_for, asyncio.BaseEventLoop.call_later

    def closed_for(pace):
        left = look(pace)
        if 0 < left < 0.1:
            time.sleep(left + 0.001)
        return left

    # Timers may fire a little early.
    early = lambda self, delay, *more, **named: later(self, max(0.0, delay - 0.05), *more, **named)  # noqa: E731
    monkeypatch.setattr(Pace, "closed_for", closed_for)
    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", early)
    monkeypatch.setattr(loop, "_new_loop", asyncio.new_event_loop)
    answers = iter([(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})] * 3)
    upstream = stub(lambda call: next(answers, None) or _echo(call))
    api = serve(upstream.url, concurrency=2)
    assert api.until(api.create(chat_lines(5)), "completed")["request_counts"]["completed"] == 5


def test_a_batch_waits_for_a_server_that_does_not_listen_yet(serve, stub):
    """
    The model's server may be started after the batch.
    """
    upstream = stub(_echo, listening=False)
    api = serve(upstream.url)
    batch_id = api.create(chat_lines(10))
    eventually(lambda: "refused" in str(api.server._running().executor.troubles))
    upstream.listen()
    assert api.until(batch_id, "completed")["request_counts"] == {"total": 10, "completed": 10, "failed": 0}


def test_a_port_that_cuts_every_connection_is_a_server_that_is_not_up(serve, stub):
    """
    As a container's port does while the container starts: no row fails for it.
    """
    up = threading.Event()
    upstream = stub(lambda call: _echo(call) if up.is_set() and call.method == "POST" else None)
    api = serve(UpstreamModel(upstream.url, attempts=2))
    batch_id = api.create(chat_lines(40))
    eventually(lambda: "cuts them" in str(api.server._running().executor.troubles))
    up.set()
    assert api.until(batch_id, "completed")["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


def test_a_row_that_is_cut_while_others_are_answered_already_is_not_to_blame(serve, stub):
    """
    The port came up between its last try and theirs.
    """
    tries: list[str] = []
    up, answered = threading.Event(), threading.Event()

    def answer(call):
        tries.append(call.text)
        if call.text in ("text 0", "text 1") and tries.count(call.text) == 2:
            (answered if call.text == "text 0" else up).wait(120)
            return _echo(call) if call.text == "text 1" else None
        return _echo(call) if up.is_set() and call.method == "POST" else None

    upstream = stub(answer)
    api = serve(UpstreamModel(upstream.url, attempts=2))
    batch_id = api.create(chat_lines(3))
    eventually(lambda: "cuts them" in str(api.server._running().executor.troubles))
    up.set()
    eventually(lambda: api.batch(batch_id)["request_counts"]["completed"] >= 1)
    answered.set()
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 3


def test_a_gateway_that_lost_its_patience_is_asked_again(serve, stub):
    """
    A 408 is not the request's fault.
    """
    seen = []
    upstream = stub(lambda call: _echo(call) if seen else (seen.append(call), (408, b"Request Timeout"))[1])
    api = serve(upstream.url)
    assert api.until(api.create(chat_lines(1)), "completed")["request_counts"]["completed"] == 1


def test_waiting_ends_with_the_window_or_a_cancel(serve, stub):
    """
    Rows that were never answered say so, and not that the model failed them.
    """
    api = serve(stub(_echo, listening=False).url)
    cancelled, expired = (api.create(chat_lines(3)) for _ in range(2))
    api.until(cancelled, "in_progress")
    api.cancel(cancelled)
    api.until(cancelled, "cancelled")
    assert {line["error"]["code"] for line in api.lines(cancelled)[1]} == {"batch_cancelled"}
    api.server.advance(25 * 3600)
    api.until(expired, "expired")
    assert {line["error"]["code"] for line in api.lines(expired)[1]} == {"batch_expired"}


def test_one_request_that_is_pushed_back_for_ever_holds_up_nothing(serve, stub, monkeypatch):
    """
    While others are answered it is to blame itself, in the end; those others have their answers.
    """
    monkeypatch.setattr("dobatch_pandas.server.executor._PUSHED", 3)
    upstream = stub(
        lambda call: (
            (429, {"error": {"message": "too large"}}, {"Retry-After": "0"})
            if call.text == "text 0"
            else _echo(call)
        )
    )
    api = serve(upstream.url, concurrency=1)
    batch_id = api.create(chat_lines(6))
    eventually(lambda: api.batch(batch_id)["request_counts"]["completed"] == 5)
    # It is not given up while nothing else shows that the model is there.

    def given_up():
        api.until(api.create(chat_lines(6)[1:]), "completed")
        return api.batch(batch_id)["status"] == "completed"

    eventually(given_up)
    assert _texts(api, batch_id)["id-0000"] == 429


def test_an_empty_purse_is_told_at_once(serve, stub):
    """
    A 429 that says the quota is used up is no reason to wait a day.
    """
    api = serve(stub(lambda call: (429, {"error": {"message": "pay", "code": "insufficient_quota"}})).url)
    batch_id = api.create(chat_lines(1))
    api.until(batch_id, "completed")
    assert _texts(api, batch_id) == {"id-0000": 429}


def test_the_pace_halves_and_grows_back():
    """
    429 halves it; a model that was away is asked by one, then doubled; everybody at one door counts once.
    """
    now = [100.0]
    pace = Pace(64, lambda: now[0])
    pace.push_back(NotNow("slow", 429), 99.0)
    assert pace.limit == 32
    assert pace.closed_for() > 0
    pace.push_back(NotNow("slow", 429), 99.5)
    assert pace.limit == 32
    now[0] += 10
    for _ in range(40):
        pace.answer_came()
    assert 32 < pace.limit < 36
    pace.push_back(NotNow("gone", 503), now[0])
    assert pace.limit == 1
    for _ in range(63):
        pace.answer_came()
    assert (pace.limit, pace.closed_for() < 1) == (64, True)
    pace.push_back(NotNow("later", 429, retry_after=7), now[0])
    assert math.isclose(pace.closed_for(), 7)


# As much as was asked for.


@pytest.mark.parametrize("concurrency", [1, 40])
def test_so_many_requests_are_at_the_model_at_once(serve, stub, concurrency):
    """
    Batches and real-time calls together: as many as were asked for, and no more.
    """
    full = threading.Event()

    def answer(call):
        if upstream.now >= concurrency:
            full.set()
        full.wait(120)
        return _echo(call)

    upstream = stub(answer)
    api = serve(upstream.url, concurrency=concurrency)
    batch_id = api.create(chat_lines(2 * concurrency))
    calls = [
        threading.Thread(
            target=api.call, args=["POST", CHAT], kwargs={"json": {"model": "m", "messages": TURNS}}
        )
        for _ in range(5)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join(120)
    api.until(batch_id, "completed")
    assert upstream.most == concurrency


def test_a_real_time_call_does_not_wait_for_a_batch(serve):
    """
    It goes before what a batch has left, even in the middle of a chunk.
    """
    seen = []

    def model(body, endpoint):
        seen.append(body["messages"][0]["content"])
        if len(seen) == 3:
            eventually(lambda: api.server._running().executor._calls)  # until the call waits for its turn
        return "x"

    api = serve(model, concurrency=1)
    batch_id = api.create(chat_lines(64))
    eventually(lambda: len(seen) > 2)
    api.call("POST", CHAT, json={"model": "m", "messages": TURNS})
    assert seen.index("hi") == 3
    api.until(batch_id, "completed")
    assert api.server.executed.total() == 64


# What the server has is known per model.


def test_a_model_that_is_missing_at_one_endpoint_changes_nothing_elsewhere(serve, stub):
    """
    Its 404 is its own; other models' requests go as they are, with all they hold.
    """

    def answer(call):
        if call.body["model"] == "nope":
            return 404, {"error": {"message": 'model "nope" not found', "type": "not_found_error"}}
        if call.path == "/v1/responses":
            return {"output": [{"type": "message", "content": [{"type": "output_text", "text": "native"}]}]}
        return _echo(call)

    upstream = stub(answer)
    api = serve(upstream.url)
    body = {
        "input": "hi",
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "reasoning": {"effort": "low"},
    }
    statuses = [
        api.call("POST", RESPONSES, json={"model": model, **body}).status_code for model in ("m", "nope", "m")
    ]
    assert statuses == [200, 404, 200]
    assert upstream.calls[-1].path == "/v1/responses"
    assert upstream.calls[-1].body == {"model": "m", **body}


@pytest.mark.parametrize(
    "missing",
    [
        (404, b"404 page not found"),
        (404, {"detail": "Not Found"}),
        (405, b""),
        (501, {"error": {"message": "no"}}),
        None,
    ],
    ids=["go", "fastapi", "405", "501", "an answer of chat"],
)
@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES])
def test_an_endpoint_that_is_missing_becomes_chat_for_that_model(serve, stub, endpoint, missing):
    """
    It is asked once, and then known; the other model is asked anew.
    """
    upstream = stub(lambda call: chat("by chat") if call.path == CHAT or missing is None else missing)
    api = serve(upstream.url)
    body = {"input": "hi"} if endpoint == RESPONSES else {"messages": TURNS, "max_tokens": 9}
    for model in ("a", "a", "b"):
        answer = api.call("POST", endpoint, json={"model": model, **body})
        assert "by chat" in answer.text
    asked = [(call.path, call.body["model"]) for call in upstream.calls]
    assert asked == [(endpoint, "a"), (CHAT, "a"), (CHAT, "a"), (endpoint, "b"), (CHAT, "b")]


def test_messages_go_as_they_are_where_the_server_has_them(serve, stub):
    """
    vLLM, llama.cpp and Ollama speak them: nothing is turned, so nothing is lost.
    """
    said = {"type": "message", "content": [{"type": "text", "text": "native"}], "usage": {}}
    upstream = stub(lambda call: said)
    api = serve(upstream.url)
    batch_id = api.create([message_line("a", thinking={"type": "enabled", "budget_tokens": 9})], "anthropic")
    api.until(batch_id, "completed")
    assert api.lines(batch_id)[0][0]["result"]["message"] == said
    assert upstream.calls[0].body["thinking"] == {"type": "enabled", "budget_tokens": 9}


TOOL = {"name": "f", "description": "d"}
SHAPE = {"type": "object", "properties": {"x": {"type": "integer"}}}


def test_nothing_of_a_messages_request_is_lost_on_the_way_to_chat():
    """
    Tools, their choice, calls and results, pictures and stops.
    """
    body = {
        "model": "m",
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "stop_sequences": ["END"],
        "tools": [{**TOOL, "input_schema": SHAPE}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/y"}}]},
            {"role": "assistant", "content": [{"type": "text", "text": "t"}, {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "2"}, {"type": "text", "text": "go on"}]},
        ],
    }  # fmt: skip
    assert chat_request(MESSAGES, body) == {
        "model": "m",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "stop": ["END"],
        "tools": [{"type": "function", "function": {**TOOL, "parameters": SHAPE}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]},
            {"role": "assistant", "content": "t", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
            {"role": "user", "content": "go on"},
        ],
    }  # fmt: skip


def test_nothing_of_a_responses_request_is_lost_on_the_way_to_chat():
    """
    Instructions, reasoning, schema, tools, calls and their outputs.
    """
    body = {
        "model": "m",
        "instructions": "i",
        "max_output_tokens": 9,
        "reasoning": {"effort": "low", "summary": None},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SHAPE, "strict": True}},
        "tools": [{"type": "function", **TOOL, "parameters": SHAPE}],
        "tool_choice": {"type": "function", "name": "f"},
        "store": False,
        "input": [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "input_text", "text": "u"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "o"},
        ],
    }
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in "12"]
    assert chat_request(RESPONSES, body) == {
        "model": "m",
        "max_tokens": 9,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": SHAPE, "strict": True},
        },
        "tools": [{"type": "function", "function": {**TOOL, "parameters": SHAPE}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "messages": [
            {"role": "system", "content": "i"},
            {"role": "system", "content": "d"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "o"},
        ],
    }


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (RESPONSES, {"previous_response_id": "r"}),
        (RESPONSES, {"tools": [{"type": "web_search"}]}),
        (RESPONSES, {"reasoning": {"summary": "auto"}}),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}),
        (RESPONSES, {"something_new": 1}),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (MESSAGES, {"mcp_servers": [{}]}),
        (MESSAGES, {"tools": [{"type": "computer_20250124", "name": "computer"}]}),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}),
    ],
)
def test_what_chat_cannot_express_is_refused_by_name(serve, stub, endpoint, field):
    """
    400 that names it: the model is not asked something else than what was asked for.
    """
    upstream = stub(lambda call: _echo(call) if call.path == CHAT else (404, b"404 page not found"))
    api = serve(upstream.url)
    body = {
        "model": "m",
        **({"input": "x"} if endpoint == RESPONSES else {"max_tokens": 9, "messages": TURNS}),
        **field,
    }
    answer = api.call("POST", endpoint, json=body)
    assert answer.status_code == 400
    assert "chat cannot express" in answer.json()["error"]["message"]
    assert all(call.path != CHAT for call in upstream.calls)


@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES])
def test_calls_of_tools_come_back_from_chat(serve, stub, endpoint):
    """
    In the shape of the endpoint that was asked.
    """
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    upstream = stub(
        lambda asked: (
            chat(None, "tool_calls", tool_calls=[call, call]) if asked.path == CHAT else (404, b"no")
        )
    )
    api = serve(upstream.url)
    body = {"input": "x"} if endpoint == RESPONSES else {"max_tokens": 9, "messages": TURNS}
    answer = api.call("POST", endpoint, json={"model": "m", **body}).json()
    if endpoint == RESPONSES:
        calls = [
            (one["name"], one["arguments"]) for one in answer["output"] if one["type"] == "function_call"
        ]
        assert (answer["status"], calls) == ("completed", [("f", '{"x": 1}')] * 2)
    else:
        assert answer["stop_reason"] == "tool_use"
        assert [(one["name"], one["input"]) for one in answer["content"]] == [("f", {"x": 1})] * 2


@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES])
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [(None, 0), ("many", 0), ([1], 0), ({"prompt_tokens": "x", "completion_tokens": -1}, 0),
     ({"prompt_tokens": float("nan")}, 0), ({"prompt_tokens": 10**30}, 0), ({"prompt_tokens": 7.0}, 7)],
)  # fmt: skip
def test_tokens_that_are_counted_oddly_cost_no_answer(serve, stub, endpoint, usage, tokens):
    """
    The text is there, in parts beside thoughts or alone; what is no number of tokens is none.
    """
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "as "},
        {"type": "text", "text": "is"},
    ]
    answer = {**chat(parts, tool_calls=[None]), "usage": usage}
    upstream = stub(lambda call: answer if call.path == CHAT else (404, b"no"))
    body = {"input": "x"} if endpoint == RESPONSES else {"max_tokens": 9, "messages": TURNS}
    given = serve(upstream.url).call("POST", endpoint, json={"model": "m", **body})
    assert given.status_code == 200, given.text
    said = given.json()
    contents = said["output"][-1]["content"] if endpoint == RESPONSES else said["content"]
    assert [one["text"] for one in contents] == ["as is"]
    assert said["usage"]["input_tokens"] == tokens


def test_what_the_server_has_is_asked_and_shown(stub):
    """
    Its models, and for each the endpoints, those that become chat included.
    """

    def answer(call):
        if call.method == "GET":
            return {"object": "list", "data": [{"id": "big"}, {"id": "small"}]}
        if call.path == RESPONSES or (call.path == EMBEDDINGS and call.body["model"] == "big"):
            return 501, {"error": {"message": "not supported"}}
        return 400, {"error": {"message": "messages are missing"}}

    lines = _in_a_loop(UpstreamModel(stub(answer).url), lambda model: model.look())
    assert lines == [
        f"big: {CHAT}, {MESSAGES}; turned into chat: {RESPONSES}",
        f"small: {CHAT}, {EMBEDDINGS}, {MESSAGES}; turned into chat: {RESPONSES}",
    ]


def test_a_server_that_does_not_tell_its_models_is_asked_all_the_same(serve, stub):
    """
    Requests are not held back, nor made fewer at once, for a list that is missing.
    """
    api = serve(stub(lambda call: None if call.method == "GET" else _echo(call)).url, concurrency=4)
    (line,) = api.server.look().result(30)
    assert "does not tell its models" in line
    pace = api.server._running().executor.pace
    assert (pace.limit, pace.why) == (4, None)


# On the way.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_a_model_on_this_machine(stub, monkeypatch, host):
    """
    A company's proxy cannot reach it, and every prompt would leave the machine.
    """
    proxy = stub(lambda call: (502, b"no"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    model = UpstreamModel(stub(_echo).url.replace("127.0.0.1", host))
    assert _in_a_loop(model, lambda model: model.answer(CHAT, ASKED)).status == 200
    assert not proxy.calls


def test_another_hosts_model_is_asked_by_the_proxy(stub, monkeypatch):
    """
    Where the proxy is the only way out, it is taken.
    """
    monkeypatch.setenv("http_proxy", stub(_echo).url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "")
    reply = _in_a_loop(UpstreamModel("http://models.example/v1"), lambda model: model.answer(CHAT, ASKED))
    assert reply.body["choices"][0]["message"]["content"] == "re hi"


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http:///v1",
        "http://[::1",
        "http://h:99999/v1",
        "http://h:x/v1",
        "http://h/v1?key=1",
        "ftp://h",
    ],
)
def test_an_address_that_leads_nowhere_is_refused(address):
    """
    When the server is made, with an example of a good one.
    """
    with pytest.raises(ServerProblem, match="localhost"):
        UpstreamModel(address)


def test_the_password_of_an_address_is_shown_nowhere(serve, stub, tmp_path):
    """
    It goes to the model's server, and neither to clients, nor to the terminal, nor into a log.
    """
    sent = []

    def answer(call):
        sent.append(call.handler.headers["Authorization"])
        return _echo(call) if len(sent) > 1 else (503, {"error": "loading"})

    address = stub(answer).url.replace("http://", "http://someone:pass-word@")
    api = serve(UpstreamModel(address))
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    shown = [api.call("POST", CHAT, json=asked).text]
    api.until(api.create(chat_lines(1)), "completed")
    assert sent[-1] == "Basic c29tZW9uZTpwYXNzLXdvcmQ="
    closed = UpstreamModel("http://someone:pass-word@127.0.0.1:9/v1")
    with pytest.raises(NotNow) as away:
        _in_a_loop(closed, lambda model: model.answer(CHAT, ASKED))
    shown += [away.value.message, closed.name, api.call("GET", "/_dobatch/state").text]
    command = [sys.executable, "-m", "dobatch_pandas.server", "--port", "0", "--log", "--model", closed._base]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as serving:
        assert serving.stdout is not None
        for line in serving.stdout:
            shown.append(line)
            if "not there yet" in line:
                serving.terminate()
    assert "not there yet" in "".join(shown)
    assert "pass-word" not in "".join(shown)


def test_an_address_that_lacks_its_end_is_told(stub):
    """
    Where nothing is found at an address without /v1, that is the first thing to look at.
    """
    upstream = stub(lambda call: (404, {"detail": "Not Found"}))
    (line,) = _in_a_loop(UpstreamModel(upstream.url.removesuffix("/v1")), lambda model: model.look())
    assert "ends in /v1" in line


def test_a_stream_is_passed_on_as_it_comes(serve, stub):
    """
    Byte for byte, the first piece before the last is made.
    """
    first_read = threading.Event()

    def answer(call):
        handler = call.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b'data: {"one": 1}\n\n')
        handler.wfile.flush()
        first_read.wait(120)
        handler.wfile.write(b"data: [DONE]\n\n")

    upstream = stub(answer)
    api = serve(upstream.url)
    body = {"model": "m", "messages": TURNS, "stream": True}
    with requests.post(f"{api.url}{CHAT}", json=body, headers=api.headers, stream=True, timeout=120) as given:
        pieces = given.iter_content(None)
        assert next(pieces) == b'data: {"one": 1}\n\n'
        first_read.set()
        assert b"".join(pieces) == b"data: [DONE]\n\n"
        assert given.headers["content-type"].startswith("text/event-stream")
    assert upstream.calls[0].body == body


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda call: _echo(call) if not call.body.get("stream") else (404, b"404 page not found"), 404),
        (_echo, 200),
        (lambda call: (400, {"error": {"message": "no"}}), 400),
        (lambda call: (503, {"error": {"message": "Loading model"}}), 503),
    ],
)
def test_a_stream_that_the_server_refuses_is_an_error_or_made_of_its_answer(serve, stub, answer, status):
    """
    A status as it is; a whole answer becomes a stream.
    """
    api = serve(stub(answer).url)
    given = api.call("POST", CHAT, json={"model": "m", "messages": TURNS, "stream": True})
    assert given.status_code == status
    assert ("data: [DONE]" in given.text) == (status == 200)


def test_rows_are_written_while_a_chunk_goes_on(serve, tmp_path):
    """
    A kill costs what is at the model, not the fifteen answers before it.
    """
    go_on = threading.Event()

    def model(body, endpoint):
        if body["messages"][0]["content"] == last:
            go_on.wait(120)
        time.sleep(0.1)  # the model's time
        return "x"

    last = None
    api = serve(model, concurrency=1, home=tmp_path)
    api.server.hold()
    batch_id = api.create(chat_lines(16))
    api.until(batch_id, "in_progress")
    run = api.server._running().executor._runs[batch_id]
    last = f"text {run._order[10]}"
    api.server.release()
    eventually(lambda: api.batch(batch_id)["request_counts"]["completed"] >= 7)
    (growing,) = (tmp_path / "running").glob("*.output")
    assert len(read_lines(growing.read_bytes())) >= 7
    go_on.set()
    api.until(batch_id, "completed")


def test_a_stream_that_breaks_off_ends_with_an_error(serve, stub):
    """
    A client cannot take the half of it for the whole; and the slot is free again.
    """

    def answer(call):
        if not call.body.get("stream"):
            return _echo(call)
        call.handler.send_response(200)
        call.handler.send_header("Content-Type", "text/event-stream")
        call.handler.send_header("Transfer-Encoding", "chunked")
        call.handler.end_headers()
        call.handler.wfile.write(b"7\r\ndata: 1\r\n")
        return None

    api = serve(stub(answer).url, concurrency=1)
    body = {"model": "m", "messages": TURNS, "stream": True}
    for _ in range(3):
        with pytest.raises(requests.exceptions.RequestException):
            api.call("POST", CHAT, json=body)
    assert api.call("POST", CHAT, json={"model": "m", "messages": TURNS}).status_code == 200


def test_a_client_that_leaves_a_stream_frees_its_place(serve, stub):
    """
    The upstream is told too: it need not go on.
    """
    told = threading.Event()

    def answer(call):
        if not call.body.get("stream"):
            return _echo(call)
        call.handler.send_response(200)
        call.handler.send_header("Content-Type", "text/event-stream")
        call.handler.send_header("Connection", "close")
        call.handler.end_headers()
        try:
            for _ in range(50_000):
                call.handler.wfile.write(b"data: " + b"x" * 10_000 + b"\n\n")
                time.sleep(0.005)
        except OSError:
            told.set()
        return None

    api = serve(stub(answer).url, concurrency=1)
    body = {"model": "m", "messages": TURNS, "stream": True}
    with requests.post(f"{api.url}{CHAT}", json=body, headers=api.headers, stream=True, timeout=120) as given:
        next(given.iter_content(100))
    assert told.wait(120)
    assert api.call("POST", CHAT, json={"model": "m", "messages": TURNS}).status_code == 200


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_failed_is_no_answer(serve, stub, status):
    """
    Its own words are in the row's error.
    """
    failed = {"output": [], "status": status, "error": {"code": "server_error", "message": "out of memory"}}
    api = serve(UpstreamModel(stub(lambda call: failed).url, attempts=1))
    answer = api.call("POST", RESPONSES, json={"model": "m", "input": "x"})
    assert (answer.status_code, "out of memory" in answer.text) == (502, True)


def test_the_command_tells_when_the_model_has_come(stub, tmp_path):
    """
    It says at its start that it is not there, and what it has once it is.
    """
    upstream = stub(
        lambda call: {"data": [{"id": "late"}]} if call.method == "GET" else (400, {"error": {}}),
        listening=False,
    )
    with Remote(tmp_path, "--model", upstream.url) as remote:
        eventually(lambda: "not there yet" in remote.said)
        upstream.listen()
        eventually(lambda: f"late: {CHAT}" in remote.said)
