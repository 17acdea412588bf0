"""A whole answer as server-sent events, in the order and shapes of each endpoint's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plain import to_json
from .shapes import CHAT, RESPONSES

__all__ = ["events"]

_PIECE = 40


def events(endpoint: str, body: Mapping[str, Any], *, usage: bool = False) -> list[bytes]:
    """
    The events that bring an answer.

    Parameters
    ----------
    endpoint : str
        One of the three that answer with text.
    body : mapping
        The whole answer, as it is without ``stream``.
    usage : bool
        Whether the last event of a chat tells the tokens (the others always do).
    """
    if endpoint == CHAT:
        pieces = [_event(chunk) for chunk in _chat(body, usage)]
        return [*pieces, b"data: [DONE]\n\n"]
    made = _responses(body) if endpoint == RESPONSES else _messages(body)
    return [_event(one, str(one["type"])) for one in made]


def _event(data: Mapping[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + to_json(data) + b"\n\n"


def _cut(text: Any) -> list[str]:
    words = str(text or "")
    return [words[first : first + _PIECE] for first in range(0, len(words), _PIECE)]


def _chat(body: Mapping[str, Any], usage: bool) -> list[dict[str, Any]]:
    shared = {name: body.get(name) for name in ("id", "created", "model")} | {
        "object": "chat.completion.chunk"
    }
    if usage:
        shared["usage"] = None
    chunks: list[dict[str, Any]] = []

    def add(index: int, delta: dict[str, Any], finish: Any = None) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunks.append({**shared, "choices": [choice]})

    for choice in body.get("choices") or []:
        index, message = choice.get("index", 0), choice.get("message") or {}
        add(index, {"role": "assistant", "content": "", "refusal": None})
        for piece in _cut(message.get("content")):
            add(index, {"content": piece})
        for place, call in enumerate(message.get("tool_calls") or []):
            function = call.get("function") or {}
            head = {"index": place, "id": call.get("id"), "type": "function"}
            add(
                index, {"tool_calls": [{**head, "function": {"name": function.get("name"), "arguments": ""}}]}
            )
            for piece in _cut(function.get("arguments")):
                add(index, {"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        add(index, {}, choice.get("finish_reason"))
    if usage:
        chunks.append({**shared, "choices": [], "usage": body.get("usage")})
    return chunks


def _responses(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        made.append({"type": f"response.{kind}", "sequence_number": len(made), **fields})

    begun = {**body, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    add("created", response=begun)
    add("in_progress", response=begun)
    for index, item in enumerate(body.get("output") or []):
        place = {"output_index": index, "item_id": item.get("id")}
        opened = {**item, "status": "in_progress"} if "status" in item else dict(item)
        if item.get("type") == "message":
            opened["content"] = []
        if item.get("type") == "function_call":
            opened["arguments"] = ""
        add("output_item.added", output_index=index, item=opened)
        for number, part in enumerate(item.get("content") or [] if item.get("type") == "message" else []):
            at = {**place, "content_index": number}
            add("content_part.added", **at, part={**part, "text": ""})
            for piece in _cut(part.get("text")):
                add("output_text.delta", **at, delta=piece, logprobs=[])
            add("output_text.done", **at, text=part.get("text") or "", logprobs=[])
            add("content_part.done", **at, part=part)
        if item.get("type") == "function_call":
            for piece in _cut(item.get("arguments")):
                add("function_call_arguments.delta", **place, delta=piece)
            add(
                "function_call_arguments.done",
                **place,
                arguments=item.get("arguments"),
                name=item.get("name"),
            )
        add("output_item.done", output_index=index, item=item)
    add("incomplete" if body.get("status") == "incomplete" else "completed", response=dict(body))
    return made


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    usage = dict(body.get("usage") or {})
    opened = {
        **body,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 0},
    }
    made: list[dict[str, Any]] = [{"type": "message_start", "message": opened}, {"type": "ping"}]
    for index, block in enumerate(body.get("content") or []):
        called = block.get("type") == "tool_use"
        start = {**block, "input": {}} if called else {**block, "text": ""}
        made.append({"type": "content_block_start", "index": index, "content_block": start})
        text = to_json(block.get("input")).decode() if called else block.get("text")
        for piece in _cut(text):
            delta = (
                {"type": "input_json_delta", "partial_json": piece}
                if called
                else {"type": "text_delta", "text": piece}
            )
            made.append({"type": "content_block_delta", "index": index, "delta": delta})
        made.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": body.get("stop_reason"), "stop_sequence": body.get("stop_sequence")}
    made.append(
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage.get("output_tokens", 0)}}
    )
    made.append({"type": "message_stop"})
    return made
