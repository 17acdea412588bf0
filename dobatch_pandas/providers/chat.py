"""Requests to ``/v1/chat/completions``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "URL", "members", "problems", "schema_members"]

URL = "/v1/chat/completions"
PROVIDER = "openai"
RESERVED = frozenset({"messages", "stream", "n"})
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
    if "max_tokens" in params and "max_completion_tokens" in params:
        return ["max_tokens and max_completion_tokens are both given; one of them is enough."]
    return []
