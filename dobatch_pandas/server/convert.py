"""Messages and responses requests asked of a model that only knows chat, and its answers turned back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from .shapes import (
    CHAT,
    MESSAGES,
    RESPONSES,
    Reply,
    Usage,
    error_reply,
    messages_body,
    responses_body,
    text_of,
    text_reply,
    wanted_schema,
)

__all__ = ["answer_by_chat", "chat_request"]

_SHARED = ("model", "temperature", "top_p", "stop", "seed")


def answer_by_chat(endpoint: str, body: Mapping[str, Any], ask: Callable[[dict[str, Any]], Reply]) -> Reply:
    """
    Answer a request of any text endpoint by asking one chat completion.

    A tool that must be called becomes a JSON Schema for the answer, which small models and plain servers
    can do as well.
    """
    reply = ask(chat_request(endpoint, body))
    if reply.status != 200:
        error = reply.body.get("error")
        message = error.get("message") if isinstance(error, Mapping) else None
        return error_reply(endpoint, reply.status, str(message or reply.body))
    if endpoint == CHAT:
        return reply
    choice = reply.body["choices"][0]
    counted = reply.body.get("usage") or {}
    usage = Usage(int(counted.get("prompt_tokens") or 0), int(counted.get("completion_tokens") or 0))
    model, text = str(body.get("model", "")), choice["message"].get("content")
    finish = choice.get("finish_reason") or "stop"
    wanted = wanted_schema(body, endpoint)
    if endpoint == MESSAGES and wanted is not None and wanted.tool is not None and finish == "stop":
        try:
            return Reply(
                200, messages_body(model, None, usage, tool=(wanted.tool, orjson.loads(text or "null")))
            )
        except orjson.JSONDecodeError:
            return text_reply(endpoint, model, text, usage, finish)
    shape = responses_body if endpoint == RESPONSES else messages_body
    return Reply(200, shape(model, text, usage, finish))


def chat_request(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat request that asks the same."""
    if endpoint == CHAT:
        return dict(body)
    request = {name: body[name] for name in _SHARED if name in body}
    if endpoint == MESSAGES:
        turns = _turns(body.get("system"), body.get("messages"))
        if "stop_sequences" in body:
            request["stop"] = body["stop_sequences"]
        limit = body.get("max_tokens")
    else:
        turns = _turns(body.get("instructions"), body.get("input"))
        limit = body.get("max_output_tokens")
    if limit:
        request["max_tokens"] = limit
    request["messages"] = turns
    wanted = wanted_schema(body, endpoint)
    if wanted is not None:
        schema = {"name": wanted.tool or "answer", "schema": wanted.schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


def _turns(system: Any, turns: Any) -> list[dict[str, str]]:
    said: list[dict[str, str]] = []
    if system:
        said.append({"role": "system", "content": text_of(system)})
    if isinstance(turns, str):
        return [*said, {"role": "user", "content": turns}]
    for turn in turns or []:
        role = "system" if turn.get("role") == "developer" else str(turn.get("role", "user"))
        said.append({"role": role, "content": text_of(turn.get("content", ""))})
    return said
