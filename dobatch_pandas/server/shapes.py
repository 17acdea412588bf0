"""What a model's answer looks like at each of the four endpoints, and where a request's text is."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = [
    "ENDPOINTS",
    "Reply",
    "Usage",
    "chat_body",
    "embeddings_body",
    "error_reply",
    "last_text",
    "messages_body",
    "responses_body",
    "text_reply",
    "value_reply",
    "wanted_schema",
]

CHAT, RESPONSES, EMBEDDINGS, MESSAGES = ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """What a provider would answer to one request: an HTTP status and a JSON body in its own shape."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """Tokens read and written."""

    prompt: int
    completion: int = 0


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part if isinstance(part, str) else part.get("text") or "" for part in content]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def last_text(body: Mapping[str, Any], endpoint: str) -> str:
    """What the user said last."""
    turns = body.get("input") if endpoint in (RESPONSES, EMBEDDINGS) else body.get("messages")
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns or []):
        if isinstance(turn, str):
            return turn
        if turn.get("role", "user") == "user":
            return text_of(turn.get("content", ""))
    return ""


@dataclass(frozen=True)
class Wanted:
    """The form an answer must have; ``tool`` is the name of the tool that must be called with it, if any."""

    schema: Mapping[str, Any]
    tool: str | None = None


def wanted_schema(body: Mapping[str, Any], endpoint: str) -> Wanted | None:
    """The form that a request asks its answer to have: a response format, or a tool that must be called."""
    if endpoint == RESPONSES:
        form = (body.get("text") or {}).get("format") or {}
        return Wanted(form.get("schema") or {}) if form.get("type") == "json_schema" else None
    if endpoint == CHAT:
        form = body.get("response_format") or {}
        if form.get("type") == "json_schema":
            return Wanted((form.get("json_schema") or {}).get("schema") or {})
        if form.get("type") == "json_object":
            return Wanted({"type": "object", "properties": {"answer": {"type": "string"}}})
    choice = body.get("tool_choice")
    if not isinstance(choice, Mapping):
        return None
    name = choice.get("name") if endpoint == MESSAGES else (choice.get("function") or {}).get("name")
    for tool in body.get("tools") or []:
        described = tool if endpoint == MESSAGES else tool.get("function") or {}
        if name is not None and described.get("name") == name:
            return Wanted(described.get("input_schema") or described.get("parameters") or {}, str(name))
    return None


def chat_body(
    model: str, text: str | None, usage: Usage, finish: str = "stop", tool: str | None = None
) -> dict[str, Any]:
    """A chat completion; with ``tool``, a call of it whose arguments are ``text``."""
    number = next(_numbers)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool is not None:
        call = {"id": f"call_{number}", "type": "function", "function": {"name": tool, "arguments": text}}
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
        finish = "tool_calls"
    return {
        "id": f"chatcmpl-{number:024x}",
        "object": "chat.completion",
        "created": 1767225600,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def responses_body(model: str, text: str | None, usage: Usage, finish: str = "stop") -> dict[str, Any]:
    """A response object; ``finish`` other than ``"stop"`` makes it incomplete."""
    number = next(_numbers)
    whole = finish == "stop"
    content: list[dict[str, Any]] = []
    if text is not None:
        content.append({"type": "output_text", "text": text, "annotations": []})
    reason = "max_output_tokens" if finish == "length" else finish
    status = "completed" if whole else "incomplete"
    return {
        "id": f"resp_{number:024x}",
        "object": "response",
        "created_at": 1767225600,
        "model": model,
        "status": status,
        "incomplete_details": None if whole else {"reason": reason},
        "error": None,
        "output": [
            {"type": "reasoning", "id": f"rs_{number:024x}", "summary": []},
            {
                "type": "message",
                "id": f"msg_{number:024x}",
                "role": "assistant",
                "status": status,
                "content": content,
            },
        ],
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        },
    }


def messages_body(
    model: str, text: str | None, usage: Usage, finish: str = "stop", tool: tuple[str, Any] | None = None
) -> dict[str, Any]:
    """A message; ``tool`` is the name and input of a tool that is called instead of answering with text."""
    number = next(_numbers)
    content: list[dict[str, Any]] = []
    stop = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}.get(finish, finish)
    if tool is not None:
        content = [{"type": "tool_use", "id": f"toolu_{number:024x}", "name": tool[0], "input": tool[1]}]
        stop = "tool_use"
    elif text is not None:
        content = [{"type": "text", "text": text}]
    return {
        "id": f"msg_{number:024x}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.prompt,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage.completion,
        },
    }


def embeddings_body(
    model: str, vectors: Sequence[Sequence[float]], usage: Usage, encoding: str = "float"
) -> dict[str, Any]:
    """A list of embeddings; ``encoding`` may be ``"base64"`` (little-endian float32)."""
    data = []
    for index, vector in enumerate(vectors):
        shown: Any = list(vector)
        if encoding == "base64":
            shown = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}
    return {"object": "list", "model": model, "data": data, "usage": tokens}


def text_reply(endpoint: str, model: str, text: str | None, usage: Usage, finish: str = "stop") -> Reply:
    """A successful answer of one text, in the shape of the endpoint."""
    shape = {CHAT: chat_body, RESPONSES: responses_body, MESSAGES: messages_body}[endpoint]
    return Reply(200, shape(model, text, usage, finish))


def value_reply(endpoint: str, model: str, value: Any, usage: Usage, tool: str | None = None) -> Reply:
    """A successful answer of one value: a call of ``tool`` with it, or its JSON as text."""
    if tool is not None and endpoint == MESSAGES:
        return Reply(200, messages_body(model, None, usage, tool=(tool, value)))
    text = orjson.dumps(value).decode()
    if tool is not None and endpoint == CHAT:
        return Reply(200, chat_body(model, text, usage, tool=tool))
    return text_reply(endpoint, model, text, usage)


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_OPENAI_ERRORS = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def error_reply(endpoint: str, status: int, message: str, code: str | None = None) -> Reply:
    """An answer that is an error, in the shape of the endpoint's provider."""
    if endpoint == MESSAGES:
        kind = code or _ANTHROPIC_ERRORS.get(status, "api_error")
        return Reply(status, {"type": "error", "error": {"type": kind, "message": message}})
    kind, usual = _OPENAI_ERRORS.get(status, ("server_error", "server_error"))
    error = {"message": message, "type": kind, "param": None, "code": code or usual}
    return Reply(status, {"error": error})
