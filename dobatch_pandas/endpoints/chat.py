"""Requests to ``/v1/chat/completions``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "ROLES", "URL", "members", "problems", "schema_members"]

URL = "/v1/chat/completions"
PROVIDER = "openai"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
RESERVED = {
    "messages": "give them as the prompt",
    "stream": "a batch does not stream",
    "n": "samples=k asks k times",
}
DEFAULTS: dict[str, Any] = {}


def members(prompt: Any, system: Any) -> dict[str, Any]:
    """Put the question into ``messages``, the system text first."""
    conversation = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    first = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*first, *conversation]}


def schema_members(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask for strict JSON of a schema."""
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        }
    }


def problems(params: dict[str, Any]) -> list[str]:
    """Name what the endpoint would refuse."""
    wrong = []
    if "max_tokens" in params and "max_completion_tokens" in params:
        wrong.append("max_tokens and max_completion_tokens are both given; one of them is enough.")
    if "max_output_tokens" in params:
        wrong.append("max_output_tokens is called max_completion_tokens at this endpoint.")
    return wrong
