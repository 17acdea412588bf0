"""The endpoints that a request can go to, and the providers behind them: one module each."""

from __future__ import annotations

import re
from typing import Any

from dobatch_pandas.errors import InputError

from .answer import Answer, words
from .anthropic import ANTHROPIC
from .chat import CHAT
from .embeddings import EMBEDDINGS
from .endpoint import Endpoint
from .messages import MESSAGES
from .openai import OPENAI
from .provider import Provider
from .responses import RESPONSES

__all__ = [
    "ENDPOINTS",
    "ENDPOINT_AT",
    "PROVIDERS",
    "claimed_by",
    "endpoint_for",
    "provider_called",
    "read_body",
]

PROVIDERS = {one.name: one for one in (OPENAI, ANTHROPIC)}

# The first that claims an answer's body reads it.
ENDPOINTS: dict[str, Endpoint] = {one.name: one for one in (CHAT, RESPONSES, EMBEDDINGS, MESSAGES)}
ENDPOINT_AT = {one.url: one for one in ENDPOINTS.values()}

_CHAT = re.compile(r"(^|[/-])(gpt-?\d|chatgpt|o\d)", re.IGNORECASE)
_EMBEDDING = re.compile(r"embed|(^|[/-])(bge|gte|e5|minilm|all-mini)", re.IGNORECASE)


def provider_called(name: Any) -> Provider:
    """
    Return a provider by its name.

    Raises
    ------
    InputError
        There is none of this name.
    """
    found = PROVIDERS.get(name) if isinstance(name, str) else None
    if found is None:
        listed = " or ".join(f'"{known}"' for known in PROVIDERS)
        raise InputError(f"provider is {name!r:.80}; it takes {listed}.")
    return found


def endpoint_for(endpoint: str | None, provider: str | None, model: str) -> Endpoint:
    """
    Return the endpoint that is meant; what is not said follows from the model's name.

    Raises
    ------
    InputError
        The words contradict each other, or name no endpoint.
    """
    whose = None if provider is None else provider_called(provider)
    # A provider that is named may know better than the model's name.
    maker = _maker_of(model) if whose is None else whose
    if endpoint is None:
        only = (maker or OPENAI).only_endpoint
        if only is not None:
            return ENDPOINT_AT[only]
        return EMBEDDINGS if _EMBEDDING.search(model) else CHAT
    for meant in ENDPOINTS.values():
        if isinstance(endpoint, str) and endpoint in (meant.name, meant.url, meant.url.removeprefix("/v1/")):
            break
    else:
        raise InputError(
            f"endpoint is {endpoint!r:.80}; it takes {', '.join(map(repr, ENDPOINTS))}, or their paths."
        )
    if whose not in (None, meant.provider):
        raise InputError(
            f"endpoint {endpoint!r} belongs to provider {meant.provider.name!r}, and provider is {provider!r}."
        )
    if whose is None:
        if maker not in (None, meant.provider):
            raise InputError(
                f"Model {model!r} is one of {maker.title}'s and does not take {meant.url}: leave out endpoint, or say "
                f'provider="{meant.provider.name}" if it is served that way.'
            )
        vectors = bool(_EMBEDDING.search(model))
        # A name that says nothing may be either.
        if vectors is not meant.vectors and (vectors or _CHAT.search(model)):
            makes = "makes embeddings" if vectors else "answers in words"
            raise InputError(f"Model {model!r} {makes} and does not take {meant.url}: leave out endpoint.")
    return meant


def _maker_of(model: str) -> Provider | None:
    return next((one for one in PROVIDERS.values() if one.models and one.models.search(model)), None)


def claimed_by(body: Any) -> Endpoint | None:
    """Return the endpoint that an answer's body is of."""
    if not isinstance(body, dict):
        return None
    return next((one for one in ENDPOINTS.values() if one.claims(body)), None)


def read_body(body: Any) -> Answer:
    """Read an answer's body of any endpoint."""
    endpoint = claimed_by(body)
    if endpoint is None:
        return Answer(code="invalid_response", message=f"Not a body of any endpoint: {words(body)}"[:500])
    return endpoint.read_body(body)
