"""Requests to ``/v1/embeddings``."""

from __future__ import annotations

from typing import Any

from dobatch_pandas.errors import InputError

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "ROLES", "URL", "members", "problems", "schema_members"]

URL = "/v1/embeddings"
PROVIDER = "openai"
ROLES: frozenset[str] = frozenset()
RESERVED = {"input": "give it as the prompt"}
DEFAULTS: dict[str, Any] = {}


def members(prompt: Any, system: Any) -> dict[str, Any]:
    """Put the text into ``input``."""
    if system is not None:
        raise InputError("Embeddings take no system text; put it into the prompt.")
    if isinstance(prompt, list):
        raise InputError("Embeddings take one text a row, not messages.")
    return {"input": prompt}


def schema_members(schema: dict[str, Any]) -> dict[str, Any]:
    """Refuse: an embedding has no schema."""
    raise InputError("Embeddings take no schema; their answer is a vector.")


def problems(params: dict[str, Any]) -> list[str]:
    """Name what the endpoint would refuse."""
    wrong = [name for name in ("max_tokens", "max_completion_tokens", "temperature") if name in params]
    return [f"{name} means nothing to embeddings." for name in wrong]
