"""Requests to ``/v1/embeddings``."""

from __future__ import annotations

from typing import Any

from ..errors import InputError

__all__ = ["DEFAULTS", "PROVIDER", "RESERVED", "URL", "members", "problems", "schema_members"]

URL = "/v1/embeddings"
PROVIDER = "openai"
RESERVED = frozenset({"input"})
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
    return [
        f"{name} means nothing to embeddings." for name in ("max_tokens", "temperature") if name in params
    ]
