"""Requests to Anthropic's ``/v1/messages``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "URL", "members", "problems", "schema_members"]

URL = "/v1/messages"
PROVIDER = "anthropic"
RESERVED = frozenset({"messages", "stream"})
DEFAULTS = {"max_tokens": 1024}
"""The endpoint demands ``max_tokens``."""


def members(prompt: Any, system: Any) -> dict[str, Any]:
    """Put the question into ``messages``; every system text goes into ``system``, which is not a message here."""
    conversation = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    systems = [] if system is None else [system]
    systems += [message["content"] for message in conversation if message["role"] == "system"]
    rest = [message for message in conversation if message["role"] != "system"]
    if not systems:
        return {"messages": rest}
    text = systems[0] if len(systems) == 1 else [{"type": "text", "text": one} for one in systems]
    return {"messages": rest, "system": text}


def schema_members(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask for an answer of a schema through a tool that must be called."""
    return {
        "tools": [{"name": "answer", "description": "Give the answer.", "input_schema": schema}],
        "tool_choice": {"type": "tool", "name": "answer"},
    }


def problems(params: dict[str, Any]) -> list[str]:
    """Name what the endpoint would refuse."""
    if "max_completion_tokens" in params:
        return ["max_completion_tokens is called max_tokens at this endpoint."]
    return []
