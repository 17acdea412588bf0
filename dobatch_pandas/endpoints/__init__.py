"""
The endpoints that a request can go to, one module each: what a request's body looks like, and what an answer's body means.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from dobatch_pandas.errors import InputError

from . import chat, embeddings, messages, responses
from .limits import Limit

__all__ = ["ENDPOINTS", "READERS", "Endpoint", "endpoint_for"]


class Endpoint(Protocol):
    """What each endpoint's module has."""

    URL: str
    PROVIDER: str
    ROLES: frozenset[str]
    """Who may speak in a message."""
    RESERVED: dict[str, str]
    """Body parameters that this package sets itself, and what to do instead."""
    DEFAULTS: dict[str, Any]
    """Body parameters that the endpoint demands, where none are given."""

    LIMIT_NAMES: tuple[str, ...]
    """Body parameters that limit the answer's tokens, the one that counts first."""
    FORMS: tuple[str, ...]
    """Body parameters that the provider puts to the model in a form of its own."""
    PUBLISHED: bool
    """Whether it is known how a conversation becomes tokens."""
    VECTORS: bool
    """Whether answers are vectors rather than texts."""

    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """The question's part of the body: `prompt` is a text or messages, `system` a text or None."""

    def schema_members(self, schema: dict[str, Any], strict: bool) -> dict[str, Any]:
        """The part of the body that asks for an answer of a schema; strictly, where the service can."""

    LIMITS: dict[str, Limit]
    """Between which numbers a parameter must lie."""

    def conversation(self, body: dict[str, Any]) -> list[Any]:
        """The messages of a request, the system text first."""

    def problems(self, params: dict[str, Any], model: str) -> list[str]:
        """What is wrong with the other parameters."""


ENDPOINTS: dict[str, Any] = {
    "chat": chat,
    "responses": responses,
    "embeddings": embeddings,
    "messages": messages,
}

# The order matters only for bodies that two would claim.
READERS: dict[str, Any] = {module.URL: module for module in ENDPOINTS.values()}

_ANTHROPIC = re.compile(r"(^|[/.-])(claude|anthropic)", re.IGNORECASE)
_CHAT = re.compile(r"(^|[/-])(gpt-?\d|chatgpt|o\d)", re.IGNORECASE)
_EMBEDDING = re.compile(r"embed|(^|[/-])(bge|gte|e5|minilm|all-mini)", re.IGNORECASE)


def endpoint_for(endpoint: str | None, provider: str | None, model: str) -> Any:
    """
    Return the endpoint's module; what is not said follows from the model's name.

    Raises
    ------
    InputError
        The words contradict each other, or name no endpoint.
    """
    if provider not in (None, "openai", "anthropic"):
        raise InputError(f'provider is {provider!r}; it takes "openai" or "anthropic".')
    if endpoint is None:
        if provider is None:
            provider = "anthropic" if _ANTHROPIC.search(model) else "openai"
        if provider == "anthropic":
            return messages
        return embeddings if _EMBEDDING.search(model) else chat
    for name, module in ENDPOINTS.items():
        if endpoint in (name, module.URL, module.URL.removeprefix("/v1/")):
            break
    else:
        raise InputError(
            f"endpoint is {endpoint!r}; it takes {', '.join(map(repr, ENDPOINTS))}, or their paths."
        )
    if provider is not None and provider != module.PROVIDER:
        raise InputError(
            f"endpoint {endpoint!r} belongs to provider {module.PROVIDER!r}, and provider is {provider!r}."
        )
    # An explicit provider may know better than the model's name.
    if provider is None:
        if module.PROVIDER == "openai" and _ANTHROPIC.search(model):
            raise InputError(
                f"Model {model!r} is one of Anthropic's and does not take {module.URL}: leave out endpoint, or say "
                'provider="openai" if it is served that way.'
            )
        vectors = bool(_EMBEDDING.search(model))
        # A name that says nothing may be either.
        if vectors is not (module is embeddings) and (vectors or _CHAT.search(model)):
            makes = "makes embeddings" if vectors else "answers in words"
            raise InputError(f"Model {model!r} {makes} and does not take {module.URL}: leave out endpoint.")
    return module
