"""What a model's answer looks like at each of the four endpoints, and where a request's text is."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .plain import to_json

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
    """
    The form that a request asks its answer to have: a tool that must be called, or a response format.

    Raises ValueError where a tool must be called that is not there.
    """
    tool = _forced_tool(body, endpoint)
    if tool is not None:
        return tool
    if endpoint == RESPONSES:
        form = (body.get("text") or {}).get("format") or {}
        return Wanted(form.get("schema") or {}) if form.get("type") == "json_schema" else None
    if endpoint == CHAT:
        form = body.get("response_format") or {}
        if form.get("type") == "json_schema":
            return Wanted((form.get("json_schema") or {}).get("schema") or {})
        if form.get("type") == "json_object":
            return Wanted({"type": "object", "properties": {"answer": {"type": "string"}}})
    return None


def _forced_tool(body: Mapping[str, Any], endpoint: str) -> Wanted | None:
    choice = body.get("tool_choice")
    name = None
    if isinstance(choice, Mapping):
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools") or choice
            choice = allowed.get("mode")
            names = {_tool_name(tool) for tool in allowed.get("tools") or []}
        else:
            name = choice.get("name") or (choice.get("function") or {}).get("name")
            names = {name} if name else set()
            choice = choice.get("type")
            if name is None and choice not in ("any", "auto", "none"):
                raise ValueError(f"tool_choice of type {choice!r} is not available here")
    else:
        names = set()
    if name is None and choice not in ("required", "any"):
        return None
    for tool in body.get("tools") or []:
        if (not names or _tool_name(tool) in names) and (shape := _tool_schema(tool)) is not None:
            return Wanted(shape, str(_tool_name(tool)))
    raise ValueError(f"tool_choice asks for {name or 'a tool'}, and 'tools' does not hold it")


def _tool_name(tool: Mapping[str, Any]) -> Any:
    return tool.get("name") or (tool.get("function") or {}).get("name")


def _tool_schema(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The parameters of a function, in any provider's notation; None for a tool of the provider's own."""
    if tool.get("type", "function") not in ("function", "custom") and "input_schema" not in tool:
        return None
    described = tool.get("function") or tool
    return described.get("input_schema") or described.get("parameters") or {}


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


def responses_body(
    model: str,
    text: str | None,
    usage: Usage,
    finish: str = "stop",
    calls: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """
    A response object; ``finish`` other than ``"stop"`` makes it incomplete.

    ``calls`` are the names and arguments of tools that are called, after the text, if there is any.
    """
    number = next(_numbers)
    whole = finish in ("stop", "tool_calls")
    content: list[dict[str, Any]] = []
    if text is not None:
        content.append({"type": "output_text", "text": text, "annotations": []})
    reason = "max_output_tokens" if finish == "length" else finish
    status = "completed" if whole else "incomplete"
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": f"rs_{number:024x}", "summary": []}]
    if content or not calls:
        message = {"type": "message", "id": f"msg_{number:024x}", "role": "assistant", "status": status}
        output.append({**message, "content": content})
    for place, (name, arguments) in enumerate(calls):
        call = {
            "type": "function_call",
            "id": f"fc_{number:020x}{place:04x}",
            "call_id": f"call_{number}_{place}",
        }
        output.append({**call, "name": name, "arguments": arguments, "status": status})
    return {
        "id": f"resp_{number:024x}",
        "object": "response",
        "created_at": 1767225600,
        "model": model,
        "status": status,
        "incomplete_details": None if whole else {"reason": reason},
        "error": None,
        "output": output,
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        },
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "metadata": {},
        "instructions": None,
    }


def messages_body(
    model: str,
    text: str | None,
    usage: Usage,
    finish: str = "stop",
    calls: Sequence[tuple[str, Any]] = (),
) -> dict[str, Any]:
    """A message; ``calls`` are the names and inputs of tools that are called, after the text, if there is any."""
    number = next(_numbers)
    content: list[dict[str, Any]] = []
    stop = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}
    if text is not None and (text or not calls):
        content.append({"type": "text", "text": text})
    for place, (name, given) in enumerate(calls):
        content.append(
            {"type": "tool_use", "id": f"toolu_{number:020x}{place:04x}", "name": name, "input": given}
        )
    return {
        "id": f"msg_{number:024x}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if calls and finish == "stop" else stop.get(finish, finish),
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
    shapes: dict[str, Callable[..., dict[str, Any]]] = {
        CHAT: chat_body,
        RESPONSES: responses_body,
        MESSAGES: messages_body,
    }
    shape = shapes[endpoint]
    return Reply(200, shape(model, text, usage, finish))


def value_reply(endpoint: str, model: str, value: Any, usage: Usage, tool: str | None = None) -> Reply:
    """A successful answer of one value: a call of ``tool`` with it, or its JSON as text."""
    if tool is not None and endpoint == MESSAGES:
        return Reply(200, messages_body(model, None, usage, calls=[(tool, value)]))
    text = to_json(value).decode()
    if tool is not None and endpoint == CHAT:
        return Reply(200, chat_body(model, text, usage, tool=tool))
    if tool is not None and endpoint == RESPONSES:
        return Reply(200, responses_body(model, None, usage, calls=[(tool, text)]))
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
