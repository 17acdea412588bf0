"""Anthropic's lines: a request has ``params``, a result is of one of four types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .answer import STRING, arrow_type, count, path, true, words
from .provider import FileLimits, Outcome, Provider, error_answer, reported

__all__ = ["ANTHROPIC"]


class _Anthropic(Provider):
    name, title = "anthropic", "Anthropic"
    models = re.compile(r"(^|[/.-])(claude|anthropic)", re.IGNORECASE)
    file_limits = FileLimits(100_000, 200_000_000)
    id_pattern = r"[a-zA-Z0-9_-]{1,64}"
    id_words = "1 to 64 letters, digits, '_' or '-'"
    headers = {"anthropic-version": "2023-06-01"}
    only_endpoint = "/v1/messages"
    asks, envelope, answer = "params", "result", "message"

    def before_body(self, url: str) -> bytes:
        return b'","params":'

    def outcome(self, line: dict[str, Any]) -> Outcome:
        result = line["result"]
        kind = result.get("type")
        error = reported(result.get("error"))
        if kind == "succeeded" and not error:
            body = result.get("message")
            return Outcome(None, words(path(body, "id")), body, None if body else error_answer(None, None))
        if kind in ("canceled", "cancelled", "expired"):
            why: Any = {"code": kind, "message": words(path(error, "message"))}
        else:
            why = error or {"message": f"result of type {words(kind)}"}
        return Outcome(None, words(path(error, "request_id")), None, error_answer(None, why))

    def schema(self, body: Any) -> Any:
        result = arrow_type({"type": STRING, "message": body, "error": {"message": STRING}})
        return pa.schema({"custom_id": STRING, "result": result})

    def plain(
        self, columns: Mapping[str, Any], read: Callable[[Any], tuple[Any, dict[str, Any]]]
    ) -> tuple[Any, Any, dict[str, Any]]:
        result = columns["result"]
        body = pc.struct_field(result, "message")
        answered, found = read(body)
        answered &= true(pc.equal(pc.struct_field(result, "type"), "succeeded"))
        answered &= true(pc.is_null(pc.struct_field(result, "error")))
        found["request_id"] = pc.struct_field(body, "id")
        return answered, np.zeros(len(answered), dtype=bool), found

    # Writing to the cache for five minutes takes a quarter more, for an hour twice the price: "Prompt caching" in
    # Anthropic's documentation of its prices.
    surcharged = re.compile(rb'"cache_creation_input_tokens"\s*:\s*[1-9]')

    def surcharge(self, line: dict[str, Any]) -> float:
        # As a batch's line has it, or one that was asked in real time.
        message = path(line, "result", "message") or path(line, "response", "body")
        written = count(path(message, "usage", "cache_creation_input_tokens")) or 0
        hour = count(path(message, "usage", "cache_creation", "ephemeral_1h_input_tokens")) or 0
        return 0.25 * max(0, written - hour) + hour


ANTHROPIC = _Anthropic()
