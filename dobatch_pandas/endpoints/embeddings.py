"""``/v1/embeddings``: what a request's body looks like, and what an answer's body says."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.errors import InputError

from .answer import INTEGER, STRING, TEXT, Answer, arrow_type, beside, count, failed, first, path, true, words
from .endpoint import Endpoint
from .openai import OPENAI
from .parameters import COUNT

__all__ = ["EMBEDDINGS"]


def _body_with(vector: Any) -> Any:
    return arrow_type({"model": STRING, "data": [{"embedding": vector}], "usage": {"prompt_tokens": INTEGER}})


class _Embeddings(Endpoint):
    name, url, provider = "embeddings", "/v1/embeddings", OPENAI
    reserved = {"input": "give it as the prompt"}
    limits = {"dimensions": COUNT}
    published = vectors = True

    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """Put the text into ``input``."""
        if system is not None:
            raise InputError("Embeddings take no system text; put it into the prompt.")
        if isinstance(prompt, list):
            raise InputError("Embeddings take one text a row, not messages.")
        return {"input": prompt}

    def schema_members(self, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
        """Refuse: an embedding has no schema."""
        raise InputError("Embeddings take no schema; their answer is a vector.")

    def problems(self, params: Mapping[str, Any], model: str = "") -> list[str]:
        """Name what the endpoint would refuse."""
        wrong = [name for name in ("max_tokens", "max_completion_tokens", "temperature") if name in params]
        return [f"{name} means nothing to embeddings." for name in wrong]

    def conversation(self, body: Mapping[str, Any]) -> list[Any]:
        """Return what is to become a vector, as one message."""
        return [{"role": "user", "content": body.get("input")}]

    # What an answer's body says.

    body = _body_with(pa.list_(pa.float32()))

    def shape(self, body: Mapping[str, Any] | None) -> Any:
        """Return what to expect where vectors are numbers, or where they are text in base64."""
        data = (body or {}).get("data")
        text = isinstance(data, list) and data and isinstance(path(data[0], "embedding"), str)
        return _body_with(TEXT) if text else self.body

    def claims(self, body: Mapping[str, Any]) -> bool:
        """Whether this body is of this endpoint."""
        return isinstance(body.get("data"), list)

    def read_body(self, body: Mapping[str, Any]) -> Answer:
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
        if not np.isfinite(vector).all():
            return Answer(**known, **failed("invalid_response", "The vector holds nan or inf."))
        return Answer(**known, embedding=vector)

    def plain(self, body: Any) -> tuple[Any, dict[str, Any]]:
        """Which rows hold a plain success, and the columns read for those."""
        vectors = first(pc.struct_field(body, "data"), "embedding")
        if pa.types.is_large_string(vectors.type):
            found = [None if text is None else _vector(text) for text in vectors.to_pylist()]
            vectors = pa.array(found, pa.list_(pa.float32()))
        ok = true(pc.greater(pc.list_value_length(vectors), 0))
        return ok & ~_endless(vectors), {
            "embedding": vectors,
            "model": beside(body, "model"),
            "prompt_tokens": beside(body, "usage", "prompt_tokens"),
        }


def _endless(vectors: Any) -> Any:
    """Which vectors hold nan or inf, which a model writes that has run over, or nothing in the place of a number."""
    numbers, found = vectors.flatten(), np.zeros(len(vectors), bool)
    # A sum is quick, and nearly always finite.
    if numbers.null_count or not math.isfinite(pc.sum(numbers).as_py() or 0.0):
        wrong = pc.invert(pc.fill_null(pc.is_finite(numbers), False))
        found[pc.list_parent_indices(vectors).filter(wrong).to_numpy()] = True
    return found


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


EMBEDDINGS = _Embeddings()
