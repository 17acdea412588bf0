"""OpenAI's lines: a request has a method, a path and a body; a result has a response with a status, or an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.codes import failure

from .answer import INTEGER, STRING, arrow_type, count, path, true, words
from .provider import FileLimits, Outcome, Provider, error_answer, reported

__all__ = ["OPENAI"]

_ERROR = arrow_type({"code": STRING, "message": STRING, "type": STRING, "error": {"message": STRING}})


class _OpenAI(Provider):
    name, title = "openai", "OpenAI"
    file_limits = FileLimits(50_000, 200_000_000)
    asks, envelope, answer = "body", "response", "body"

    def before_body(self, url: str) -> bytes:
        return b'","method":"POST","url":' + orjson.dumps(url) + b',"body":'

    def outcome(self, line: dict[str, Any]) -> Outcome:
        response = line.get("response")
        status, request_id = count(path(response, "status_code")), words(path(response, "request_id"))
        body = path(response, "body")
        if isinstance(body, str):
            with suppress(orjson.JSONDecodeError):
                body = orjson.loads(body)
        error = reported(line.get("error")) or reported(path(body, "error"))
        if error or (status is not None and not 200 <= status < 300):
            return Outcome(status, request_id, None, error_answer(status, error or body))
        return Outcome(status, request_id, body, None if body else error_answer(None, None))

    def schema(self, body: Any) -> Any:
        body = pa.struct([*body, ("error", _ERROR)])
        response = arrow_type({"status_code": INTEGER, "request_id": STRING, "body": body})
        return pa.schema({"custom_id": STRING, "response": response, "error": _ERROR})

    def plain(
        self, columns: Mapping[str, Any], read: Callable[[Any], tuple[Any, dict[str, Any]]]
    ) -> tuple[Any, Any, dict[str, Any]]:
        response, outer = columns["response"], columns["error"]
        body = pc.struct_field(response, "body")
        inner = pc.struct_field(body, "error")
        status = pc.struct_field(response, "status_code")
        answered, found = read(body)
        errorless = true(pc.and_(pc.is_null(outer), pc.is_null(inner)))
        answered &= true(pc.equal(status, 200)) & errorless
        failed = np.zeros(len(status), dtype=bool)
        if not answered.all():
            # What is known of an answer is not known of a failure; where it is, the line is looked at.
            bare = np.logical_and.reduce([true(pc.is_null(values)) for values in found.values()])
            failed, found["error_code"], found["error_message"] = _failures(
                status, outer, inner, np.flatnonzero(bare & ~answered & ~errorless)
            )
        found["request_id"] = pc.struct_field(response, "request_id")
        found["status_code"] = status.cast(pa.int16(), safe=False)
        return answered, failed, found


def _failures(status: Any, error: Any, inner: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Which of these rows are plain failures, and the code and message of every row, null for others."""
    failed = np.zeros(len(status), dtype=bool)
    at = np.full(len(status), -1)
    codes: list[str] = []
    messages: list[str] = []
    picked = pa.array(rows)
    found = zip(
        rows.tolist(),
        status.take(picked).to_pylist(),
        _said(error, picked),
        _said(inner, picked),
        strict=True,
    )
    for row, number, outer_error, inner_error in found:
        # Without a word of what Arrow was told to read, it may be empty or say something else.
        empty = any(said is not None and not any(said.values()) for said in (outer_error, inner_error))
        told = outer_error or inner_error or {}
        if empty or told.get("error") or not 0 <= (number or 0) < 1000:
            continue
        failed[row], at[row] = True, len(codes)
        code, message = failure(number, told)
        codes.append(code)
        messages.append(message)
    places = pa.array(at, mask=at < 0)
    return failed, pa.array(codes, pa.string()).take(places), pa.array(messages, pa.string()).take(places)


def _said(errors: Any, rows: Any) -> list[dict[str, Any] | None]:
    """The errors of some rows; of an error within an error only whether there is one."""
    taken = errors.take(rows)
    if taken.null_count == len(taken):
        return [None] * len(taken)
    code, message, kind, inner = taken.flatten()
    found = zip(
        taken.is_valid().to_pylist(),
        code.to_pylist(),
        message.to_pylist(),
        kind.to_pylist(),
        inner.is_valid().to_pylist(),
        strict=True,
    )
    return [
        {"code": c, "message": m, "type": k, "error": i} if there else None for there, c, m, k, i in found
    ]


OPENAI = _OpenAI()
