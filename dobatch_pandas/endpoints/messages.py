"""Requests to Anthropic's ``/v1/messages``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "ROLES", "URL", "members", "problems", "schema_members"]

URL = "/v1/messages"
PROVIDER = "anthropic"
ROLES = frozenset({"system", "developer", "user", "assistant"})
RESERVED = {
    "messages": "give them as the prompt",
    "system": "give it as system=",
    "stream": "a batch does not stream",
}
DEFAULTS = {"max_tokens": 1024}
"""The endpoint demands ``max_tokens``."""


def members(prompt: Any, system: Any) -> dict[str, Any]:
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


def _is_system(message: Any) -> bool:
    return message.get("role") in ("system", "developer")


def schema_members(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask for an answer of a schema through a tool that must be called."""
    return {
        "tools": [{"name": "answer", "description": "Give the answer.", "input_schema": schema}],
        "tool_choice": {"type": "tool", "name": "answer"},
    }


def problems(params: dict[str, Any]) -> list[str]:
    """Name what the endpoint would refuse."""
    wrong = [name for name in ("max_completion_tokens", "max_output_tokens") if name in params]
    found = [f"{name} is called max_tokens at this endpoint." for name in wrong]
    if "n" in params:
        found.append("n means nothing to this endpoint: samples=k asks k times.")
    return found
