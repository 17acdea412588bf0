"""The lines of result files: what came of a request, as its provider writes it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import orjson

from .faults import Failure
from .plain import to_json
from .shapes import CHAT, EMBEDDINGS, Reply, Usage, chat_body, error_reply, messages_body, responses_body

__all__ = ["Outcome", "failed", "not_run", "outcome", "request_of"]

_numbers = itertools.count(1)
_NEVER_RUN = {
    "cancelled": ("batch_cancelled", "This request was not run because the batch was cancelled.", "canceled"),
    "expired": ("batch_expired", "This request could not be run before the batch expired.", "expired"),
}


@dataclass(frozen=True)
class Outcome:
    """One line with its newline, whether it counts as a success, and whether it goes to the error file."""

    line: bytes
    good: bool
    error_file: bool


def request_of(line: bytes, provider: str) -> tuple[str, dict[str, Any]]:
    """The ``custom_id`` and body of an input line that passed validation."""
    request = orjson.loads(line)
    return request["custom_id"], request["body" if provider == "openai" else "params"]


def outcome(provider: str, endpoint: str, custom_id: str, reply: Reply) -> Outcome:
    """The line for an answer; where it cannot be written, the line that says so."""
    try:
        return _outcome(provider, custom_id, reply)
    except (TypeError, ValueError, RecursionError) as problem:
        message = f"The answer cannot be written as JSON: {problem}"
        return _outcome(provider, custom_id, error_reply(endpoint, 502, message))


def _outcome(provider: str, custom_id: str, reply: Reply) -> Outcome:
    good = reply.status == 200
    if provider == "openai":
        return Outcome(_openai(custom_id, reply, None), good, not good)
    if good:
        result: dict[str, Any] = {"type": "succeeded", "message": reply.body}
    else:
        result = {"type": "errored", "error": reply.body}
    return Outcome(_anthropic(custom_id, result), good, not good)


def failed(provider: str, endpoint: str, custom_id: str, model: str, kind: Failure) -> Outcome:
    """The line of a request that is made to fail."""
    if kind == "rate_limited":
        return _outcome(provider, custom_id, error_reply(endpoint, 429, "Rate limit reached for this model."))
    if kind == "bad_request" or endpoint == EMBEDDINGS:
        reply = error_reply(endpoint, 400, "Invalid value in this request.")
        # Providers put a request they reject into the output file, with `error` null.
        return Outcome(_outcome(provider, custom_id, reply).line, False, False)
    if kind == "content_filter":
        reply = _filtered(endpoint, model)
        return Outcome(_outcome(provider, custom_id, reply).line, True, False)
    if provider == "anthropic":
        error = {"type": "api_error", "message": "Internal server error"}
        # `empty` is the flat form of an error; the other is nested once more, as the provider sends it.
        shape = error if kind == "empty" else {"type": "error", "error": error}
        return Outcome(_anthropic(custom_id, {"type": "errored", "error": shape}), False, True)
    if kind == "empty":
        return Outcome(_openai(custom_id, Reply(0, {}), None), False, False)
    error = {"code": "server_error", "message": "The server had an error while processing your request."}
    return Outcome(_openai(custom_id, None, error), False, True)


def _filtered(endpoint: str, model: str) -> Reply:
    usage = Usage(10, 0)
    if endpoint == CHAT:
        return Reply(200, chat_body(model, None, usage, "content_filter"))
    if endpoint == "/v1/responses":
        return Reply(200, responses_body(model, None, usage, "content_filter"))
    return Reply(200, messages_body(model, None, usage, "content_filter"))


def not_run(provider: str, custom_id: str, why: str) -> bytes:
    """The line of a request that was never run: ``why`` is ``"cancelled"`` or ``"expired"``."""
    code, message, kind = _NEVER_RUN[why]
    if provider == "anthropic":
        return _anthropic(custom_id, {"type": kind})
    return _openai(custom_id, None, {"code": code, "message": message})


def _openai(custom_id: str, reply: Reply | None, error: dict[str, Any] | None) -> bytes:
    number = next(_numbers)
    response = None
    if reply is not None:
        response = {"status_code": reply.status, "request_id": f"req_{number:024x}", "body": reply.body}
    line = {"id": f"batch_req_{number:024x}", "custom_id": custom_id, "response": response, "error": error}
    return to_json(line, newline=True)


def _anthropic(custom_id: str, result: dict[str, Any]) -> bytes:
    return to_json({"custom_id": custom_id, "result": result}, newline=True)
