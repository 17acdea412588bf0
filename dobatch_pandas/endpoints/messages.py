"""Anthropic's ``/v1/messages``: what a request's body looks like, and what an answer's body says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from .answer import (
    INTEGER,
    STRING,
    TEXT,
    Answer,
    arrow_type,
    beside,
    calls_as_text,
    count,
    cut_short,
    ending_of,
    failed,
    first,
    is_cut_short,
    is_thought,
    path,
    plural,
    saying,
    says,
    true,
    words,
)
from .anthropic import ANTHROPIC
from .endpoint import Endpoint
from .parameters import COUNT, SHARE, Limit

__all__ = ["MESSAGES"]


LEAST_THINKING = 1024  # tokens, as documented


def _beside_thinking(budget: Any, params: Mapping[str, Any]) -> list[str]:
    """What is documented to be refused where a model is to think for so many tokens."""
    found = []
    if isinstance(budget, int) and budget < LEAST_THINKING:
        found.append(f"thinking has budget_tokens of {budget:,}; it takes {LEAST_THINKING:,} or more.")
    most = params.get("max_tokens")
    # Thoughts between the calls of tools may be longer than one answer.
    if isinstance(budget, int) and isinstance(most, int) and budget >= most and "tools" not in params:
        found.append(
            f"max_tokens is {most:,}, and thinking may take {budget:,} of them: give a max_tokens that leaves room for "
            "the answer."
        )
    temperature = params.get("temperature")
    if isinstance(temperature, (int, float)) and temperature != 1:
        found.append(
            f"temperature is {temperature!r}, and with thinking it can be 1 alone: leave out one of them."
        )
    if params.get("top_k") is not None:
        found.append("top_k is not taken with thinking: leave out one of them.")
    forced = params.get("tool_choice")
    if isinstance(forced, Mapping) and forced.get("type") in ("any", "tool"):
        found.append(
            "A model that thinks cannot be made to call a tool, which is how this endpoint asks for a schema: leave out "
            "thinking, or the schema (or tool_choice), and ask for JSON in the prompt."
        )
    return found


class _Messages(Endpoint):
    name, url, provider = "messages", ANTHROPIC.only_endpoint, ANTHROPIC
    roles = frozenset({"system", "developer", "user", "assistant"})
    reserved = {
        "messages": "give them as the prompt",
        "system": "give it as system=",
        "stream": "a batch does not stream",
    }
    defaults = {"max_tokens": 1024}
    limits = {
        "max_tokens": COUNT,
        "temperature": SHARE,
        "top_p": SHARE,
        "top_k": Limit(0, whole=True),
    }
    limit_names = ("max_tokens",)
    forms = ("tools", "tool_choice", "output_config")
    words_on_tools = 1000  # documented: 159 to 804, by model
    strict = False

    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """Put the question into ``messages``; every system text goes into ``system``, which is not a message here."""
        conversation = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        systems = [] if system is None else [system]
        systems += [message["content"] for message in conversation if _is_system(message)]
        rest = [message for message in conversation if not _is_system(message)]
        if not systems:
            return {"messages": rest}
        if len(systems) == 1:
            return {"messages": rest, "system": systems[0]}
        parts = [one if isinstance(one, list) else [{"type": "text", "text": one}] for one in systems]
        return {"messages": rest, "system": [part for some in parts for part in some]}

    def schema_members(self, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
        """Ask for an answer of a schema through a tool that must be called."""
        return {
            "tools": [{"name": "answer", "description": "Give the answer.", "input_schema": schema}],
            "tool_choice": {"type": "tool", "name": "answer"},
        }

    def problems(self, params: Mapping[str, Any], model: str = "") -> list[str]:
        """Name what the endpoint would refuse."""
        wrong = [name for name in ("max_completion_tokens", "max_output_tokens") if name in params]
        found = [f"{name} is called max_tokens at this endpoint." for name in wrong]
        if "n" in params:
            found.append("n means nothing to this endpoint: samples=k asks k times.")
        thinking = params.get("thinking")
        if isinstance(thinking, Mapping) and thinking.get("type") == "enabled":
            found += _beside_thinking(thinking.get("budget_tokens"), params)
        return found

    def conversation(self, body: Mapping[str, Any]) -> list[Any]:
        """Return the messages of a request."""
        messages = list(body.get("messages") or [])
        system = body.get("system")
        return messages if system is None else [{"role": "system", "content": system}, *messages]

    # What an answer's body says.

    body = arrow_type(
        {
            "model": STRING,
            "id": STRING,
            "content": [{"type": STRING, "text": TEXT}],
            "stop_reason": STRING,
            "usage": {
                "input_tokens": INTEGER,
                "output_tokens": INTEGER,
                "cache_read_input_tokens": INTEGER,
                "cache_creation_input_tokens": INTEGER,
            },
        }
    )

    def claims(self, body: Mapping[str, Any]) -> bool:
        """Whether this body is of this endpoint."""
        return body.get("type") == "message" or "stop_reason" in body

    def read_body(self, body: Mapping[str, Any]) -> Answer:
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
        texts = [
            part["text"] for part in content if isinstance(path(part, "text"), str) and not is_thought(part)
        ]
        calls = [
            (part.get("name"), part.get("input")) for part in content if path(part, "type") == "tool_use"
        ]
        text = "".join(texts) if texts else None
        if calls:
            text = calls_as_text(calls)
        ending = ending_of(finish)
        if ending is not None:
            return Answer(text, **known, **cut_short(ending, finish, text))
        if calls:
            return Answer(text, **{**known, "finish_reason": "tool_use"})
        if says(text):
            return Answer(text, **known)
        return Answer(**known, **failed("empty_response"))

    def plain(self, body: Any) -> tuple[Any, dict[str, Any]]:
        """Which rows hold a plain success, and the columns read for those."""
        content = pc.struct_field(body, "content")
        text = first(content, "text")
        finish = pc.struct_field(body, "stop_reason")
        cached = beside(body, "usage", "cache_read_input_tokens")
        created = beside(body, "usage", "cache_creation_input_tokens")
        prompt = beside(body, "usage", "input_tokens")
        ok = true(pc.equal(first(content, "type"), "text")) & (plural(content) == 1) & saying(text)
        return ok & ~is_cut_short(finish), {
            "text": text,
            "finish_reason": finish,
            "model": beside(body, "model"),
            "prompt_tokens": pc.add(prompt, pc.add(pc.fill_null(cached, 0), pc.fill_null(created, 0))),
            "completion_tokens": beside(body, "usage", "output_tokens"),
            "cached_tokens": cached,
        }


def _is_system(message: Any) -> bool:
    return message.get("role") in ("system", "developer")


MESSAGES = _Messages()
