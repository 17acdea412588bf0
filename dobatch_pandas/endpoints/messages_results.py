"""What an Anthropic message says."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .answer import Answer, calls_as_text, count, failed, first, path, plural, true, words

__all__ = ["BODY", "claims", "plain", "read_body"]

_ENDINGS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "content_filter": "content_filter",
}


def claims(body: dict[str, Any]) -> bool:
    """Whether this body is of this endpoint."""
    return body.get("type") == "message" or "stop_reason" in body


def read_body(body: dict[str, Any]) -> Answer:
    """Read one body of any shape."""
    usage = body.get("usage")
    cached = count(path(usage, "cache_read_input_tokens"))
    prompt = count(path(usage, "input_tokens"))
    if prompt is not None:
        # Anthropic counts what the cache held apart from the rest; elsewhere it is part of the prompt.
        prompt += (cached or 0) + (count(path(usage, "cache_creation_input_tokens")) or 0)
    finish = words(body.get("stop_reason"))
    known: dict[str, Any] = {
        "finish_reason": finish,
        "model": words(body.get("model")),
        "prompt_tokens": count(prompt),
        "completion_tokens": count(path(usage, "output_tokens")),
        "cached_tokens": cached,
    }
    content = body.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return Answer(**known, **failed("invalid_response"))
    texts = [part["text"] for part in content if isinstance(path(part, "text"), str)]
    calls = [(part.get("name"), part.get("input")) for part in content if path(part, "type") == "tool_use"]
    text = "".join(texts) if texts else None
    if calls:
        text = calls_as_text(calls)
    ending = _ENDINGS.get(finish or "")
    if ending is not None:
        return Answer(text, **known, **failed(ending, text if ending == "refusal" else None))
    if calls:
        return Answer(text, **{**known, "finish_reason": "tool_use"})
    if text is not None:
        return Answer(text, **known)
    return Answer(**known, **failed("empty_response"))


# The same for whole columns, where every row has one plain text ------------------------------------------

BODY = pa.struct(
    [
        ("model", pa.string()),
        ("id", pa.string()),
        ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.large_string())]))),
        ("stop_reason", pa.string()),
        (
            "usage",
            pa.struct(
                [
                    ("input_tokens", pa.int64()),
                    ("output_tokens", pa.int64()),
                    ("cache_read_input_tokens", pa.int64()),
                    ("cache_creation_input_tokens", pa.int64()),
                ]
            ),
        ),
    ]
)


def plain(body: Any) -> tuple[Any, dict[str, Any]]:
    """Which rows hold a plain success, and the columns read for those."""
    content = pc.struct_field(body, "content")
    text = first(content, "text")
    finish = pc.struct_field(body, "stop_reason")
    ended = pc.is_in(finish, value_set=pa.array([*_ENDINGS]))
    cached = pc.struct_field(body, ["usage", "cache_read_input_tokens"])
    created = pc.struct_field(body, ["usage", "cache_creation_input_tokens"])
    prompt = pc.struct_field(body, ["usage", "input_tokens"])
    ok = true(pc.equal(first(content, "type"), "text")) & (plural(content) == 1) & true(pc.is_valid(text))
    return ok & ~true(ended), {
        "text": text,
        "finish_reason": finish,
        "model": pc.struct_field(body, "model"),
        "prompt_tokens": pc.add(prompt, pc.add(pc.fill_null(cached, 0), pc.fill_null(created, 0))),
        "completion_tokens": pc.struct_field(body, ["usage", "output_tokens"]),
        "cached_tokens": cached,
    }
