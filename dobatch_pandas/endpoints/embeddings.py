"""``/v1/embeddings``: what a request's body looks like, and what an answer's body says."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.errors import InputError

from .answer import Answer, count, failed, first, path, true, words
from .limits import EMBEDDINGS

__all__ = [
    "BODY",
    "BODY_BASE64",
    "DEFAULTS",
    "FORMS",
    "LIMITS",
    "LIMIT_NAMES",
    "PROVIDER",
    "PUBLISHED",
    "RESERVED",
    "ROLES",
    "URL",
    "VECTORS",
    "claims",
    "conversation",
    "in_base64",
    "members",
    "plain",
    "problems",
    "read_body",
    "schema_members",
]

URL = "/v1/embeddings"
PROVIDER = "openai"
ROLES: frozenset[str] = frozenset()
RESERVED = {"input": "give it as the prompt"}
DEFAULTS: dict[str, Any] = {}
LIMITS = EMBEDDINGS
LIMIT_NAMES: tuple[str, ...] = ()
FORMS: tuple[str, ...] = ()
PUBLISHED = VECTORS = True


def members(prompt: Any, system: Any) -> dict[str, Any]:
    """Put the text into ``input``."""
    if system is not None:
        raise InputError("Embeddings take no system text; put it into the prompt.")
    if isinstance(prompt, list):
        raise InputError("Embeddings take one text a row, not messages.")
    return {"input": prompt}


def schema_members(schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    """Refuse: an embedding has no schema."""
    raise InputError("Embeddings take no schema; their answer is a vector.")


def problems(params: dict[str, Any], model: str = "") -> list[str]:
    """Name what the endpoint would refuse."""
    wrong = [name for name in ("max_tokens", "max_completion_tokens", "temperature") if name in params]
    return [f"{name} means nothing to embeddings." for name in wrong]


def conversation(body: dict[str, Any]) -> list[Any]:
    """Return what is to become a vector, as one message."""
    return [{"role": "user", "content": body.get("input")}]


# What an answer's body says --------------------------------------------------------------------------------


def claims(body: dict[str, Any]) -> bool:
    """Whether this body is of this endpoint."""
    return isinstance(body.get("data"), list)


def read_body(body: dict[str, Any]) -> Answer:
    """Read one body of any shape."""
    known: dict[str, Any] = {
        "model": words(body.get("model")),
        "prompt_tokens": count(path(body.get("usage"), "prompt_tokens")),
    }
    data = body.get("data")
    if not isinstance(data, list):
        return Answer(**known, **failed("invalid_response"))
    vector = _vector(path(data[0], "embedding")) if data else None
    if vector is None:
        return Answer(**known, **failed("invalid_response" if data else "empty_response"))
    return Answer(**known, embedding=vector)


def in_base64(body: dict[str, Any]) -> bool:
    """Whether a body's vector is text."""
    data = body.get("data")
    return isinstance(data, list) and bool(data) and isinstance(path(data[0], "embedding"), str)


def _vector(value: Any) -> Any:
    """A float32 array, or None where the value is no vector."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except ValueError:
            return None
        return np.frombuffer(data, dtype="<f4") if data and len(data) % 4 == 0 else None
    numbers = isinstance(value, list) and all(type(x) in (float, int) for x in value)
    if not numbers or not value:
        return None
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype=np.float32)


# The same for whole columns, where every row has one plain vector ----------------------------------------


def _body(embedding: Any) -> Any:
    return pa.struct(
        [
            ("model", pa.string()),
            ("data", pa.list_(pa.struct([("embedding", embedding)]))),
            ("usage", pa.struct([("prompt_tokens", pa.int64())])),
        ]
    )


BODY = _body(pa.list_(pa.float32()))
BODY_BASE64 = _body(pa.large_string())


def plain(body: Any) -> tuple[Any, dict[str, Any]]:
    """Which rows hold a plain success, and the columns read for those."""
    vectors = first(pc.struct_field(body, "data"), "embedding")
    if pa.types.is_large_string(vectors.type):
        found = [None if text is None else _vector(text) for text in vectors.to_pylist()]
        vectors = pa.array(found, pa.list_(pa.float32()))
    ok = true(pc.greater(pc.list_value_length(vectors), 0))
    if vectors.values.null_count:
        ok &= False
    return ok, {
        "embedding": vectors,
        "model": pc.struct_field(body, "model"),
        "prompt_tokens": pc.struct_field(body, ["usage", "prompt_tokens"]),
    }
