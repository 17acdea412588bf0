"""Result lines of every shape that the service is known to write, and some that it should not."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from hypothesis import strategies as st

# Whatever str.splitlines() would take for the end of a line, and what UTF-8 and JSON have to escape.
SEPARATORS = "\u2028\u2029\x85\v\f\x1c\x1d\x1e\r\n"
texts = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(SEPARATORS + '"\\/🙂\0')), max_size=20
)
ids = st.one_of(
    st.sampled_from(["a", "b", "row-1"]), st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
)
numbers = st.integers(0, 10**6)


def chat(text: Any = "an answer", finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion's body."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4.1-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def responses(text: str = "an answer", *, thoughts: int = 1, **more: Any) -> dict[str, Any]:
    """A body of ``/v1/responses``."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "o4-mini",
        "incomplete_details": None,
        "output": [*[reasoning] * thoughts, said],
        "usage": {
            "input_tokens": 11,
            "output_tokens": 7,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        **more,
    }


def embeddings(vector: Any = (0.5, -1.25), *, as_base64: bool = False) -> dict[str, Any]:
    """A body of ``/v1/embeddings``."""
    embedding: Any = list(vector)
    if as_base64:
        embedding = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


def message(*content: Any, stop: Any = "end_turn", **more: Any) -> dict[str, Any]:
    """An Anthropic message; a text stands for a block of text."""
    blocks = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4",
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 11,
            "output_tokens": 7,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 1,
        },
        **more,
    }


def answered(custom_id: Any, body: Any, status: Any = 200) -> dict[str, Any]:
    """A line of the `openai` kind whose request was answered."""
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def refused(custom_id: Any, status: int, message: str = "no", code: Any = None) -> dict[str, Any]:
    """A rejected request as it stands in the output file: an error in the body, while ``error`` is null."""
    error = {"code": code, "message": message, "type": "invalid_request_error"}
    return answered(custom_id, {"error": error}, status)


def never_run(custom_id: Any, code: str = "batch_expired", message: str = "too late") -> dict[str, Any]:
    """A line of the error file for a request that was never run."""
    return {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }


def result(custom_id: Any, kind: str = "succeeded", **rest: Any) -> dict[str, Any]:
    """A line of the `anthropic` kind."""
    return {"custom_id": custom_id, "result": {"type": kind, **rest}}


def tool_call(arguments: Any, name: str = "answer") -> dict[str, Any]:
    """One call in a chat message."""
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
parts = st.lists(
    st.one_of(
        st.builds(lambda t: {"type": "text", "text": t}, texts),
        st.builds(lambda t: {"type": "refusal", "refusal": t}, texts),
        texts,
        odd,
    ),
    max_size=3,
)
finishes = st.sampled_from(
    ["stop", "length", "content_filter", "tool_calls", "end_turn", "max_tokens", "refusal", None, 3]
)
chats = st.builds(
    chat,
    st.one_of(texts, texts, texts, st.none(), parts, odd),
    finishes,
    refusal=st.one_of(st.none(), st.none(), texts),
    tool_calls=st.one_of(
        st.none(), st.just([]), st.lists(st.builds(tool_call, st.one_of(texts, odd)), max_size=2), odd
    ),
)
items = st.one_of(
    st.just({"type": "reasoning", "summary": []}),
    st.builds(lambda t: {"type": "reasoning", "content": [{"type": "reasoning_text", "text": t}]}, texts),
    st.builds(lambda p: {"type": "message", "content": p}, parts),
    st.builds(lambda t: {"type": "message", "content": [{"type": "output_text", "text": t}]}, texts),
    st.builds(lambda t: {"type": "message", "content": [{"type": "refusal", "refusal": t}]}, texts),
    st.builds(lambda a: {"type": "function_call", "name": "f", "arguments": a}, texts),
    odd,
)
responses_bodies = st.one_of(
    st.builds(responses, texts, thoughts=st.integers(0, 2)),
    st.builds(
        responses,
        output=st.lists(items, max_size=3),
        status=st.sampled_from(["completed", "incomplete", "failed", "cancelled", None]),
        incomplete_details=st.sampled_from(
            [None, {"reason": "max_output_tokens"}, {"reason": "content_filter"}, {}]
        ),
    ),
)
vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=3)
embeddings_bodies = st.one_of(
    st.builds(embeddings, vectors, as_base64=st.booleans()),
    st.builds(
        embeddings, st.lists(st.one_of(st.none(), st.integers(0, 3), st.booleans(), texts), max_size=2)
    ),
    st.builds(lambda d: {"model": "m", "data": d}, st.one_of(st.just([]), st.lists(odd, max_size=2))),
)
blocks = st.one_of(
    texts,
    texts,
    st.just({"type": "thinking", "thinking": "hm"}),
    st.builds(lambda i: {"type": "tool_use", "id": "t", "name": "f", "input": i}, odd),
    odd,
)
messages = st.builds(lambda parts, stop: message(*parts, stop=stop), st.lists(blocks, max_size=3), finishes)
bodies = st.one_of(chats, responses_bodies, embeddings_bodies, messages)
errors = st.one_of(
    st.none(),
    st.builds(
        lambda c, m: {"code": c, "message": m},
        st.one_of(st.none(), texts, numbers),
        st.one_of(st.none(), texts),
    ),
    st.builds(lambda c: {"type": "error", "error": {"type": c, "message": "no"}}, texts),
    texts,
    odd,
)
statuses = st.one_of(
    st.just(200),
    st.just(200),
    st.sampled_from([0, 201, 400, 429, 500, None, "200", 200.0, 404.5, True, 10**30]),
)


def entries_of(these: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lines whose bodies are of one endpoint, good and bad."""
    body = st.one_of(these, these, these, st.none(), st.just({}), odd)
    return st.one_of(
        st.builds(answered, ids, these),
        st.builds(answered, ids, these),
        st.builds(
            lambda i, b, s, e: {**answered(i, b, s), "error": e}, st.one_of(ids, odd), body, statuses, errors
        ),
        st.builds(lambda i, e, s: answered(i, {"error": e}, s), ids, errors, statuses),
        st.builds(lambda i, e: {"custom_id": i, "response": None, "error": e}, ids, errors),
        st.builds(lambda i, m: result(i, message=m), ids, these),
        st.builds(
            lambda i, m, k: result(i, k, message=m), ids, body, st.sampled_from(["succeeded", "odd", None])
        ),
        st.builds(
            lambda i, k, e: result(i, k, error=e),
            ids,
            st.sampled_from(["errored", "canceled", "expired"]),
            errors,
        ),
        odd,
    )
