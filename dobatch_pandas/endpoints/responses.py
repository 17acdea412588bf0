"""Requests to ``/v1/responses``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "ROLES", "URL", "members", "problems", "schema_members"]

URL = "/v1/responses"
PROVIDER = "openai"
ROLES = frozenset({"system", "developer", "user", "assistant"})
RESERVED = {
    "input": "give it as the prompt",
    "instructions": "give them as system=",
    "stream": "a batch does not stream",
    "background": "a batch is that already",
}
DEFAULTS: dict[str, Any] = {}


def members(prompt: Any, system: Any) -> dict[str, Any]:
    """Put the question into ``input`` and the system text into ``instructions``."""
    return {"input": prompt} if system is None else {"input": prompt, "instructions": system}


def schema_members(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask for strict JSON of a schema."""
    return {"text": {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}}


def problems(params: dict[str, Any]) -> list[str]:
    """Name what the endpoint would refuse."""
    wrong = [name for name in ("max_tokens", "max_completion_tokens") if name in params]
    return [f"{name} is called max_output_tokens at this endpoint." for name in wrong]
