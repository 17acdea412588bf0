"""OpenAI's lines: a request has a method, a path and a body; a result has a response with a status, or an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
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
    said = zip(
        rows.tolist(),
        status.take(picked).to_pylist(),
        _said(error, picked),
        _said(inner, picked),
        strict=True,
    )
    for row, number, outer_error, inner_error in said:
        words = _failure(number, outer_error, inner_error)
        if words is not None:
            failed[row], at[row] = True, len(codes)
            codes.append(words[0])
            messages.append(words[1])
    places = pa.array(at, mask=at < 0)
    return failed, pa.array(codes, pa.string()).take(places), pa.array(messages, pa.string()).take(places)


_Said = tuple[Any, ...] | None
"""The four fields of an error; of an error within an error only whether there is one."""


@lru_cache(maxsize=256)  # thousands of lines say the same
def _failure(status: int | None, outer: _Said, inner: _Said) -> tuple[str, str] | None:
    """Code and message of a plain failure; None where the line must be looked at."""
    # Without a word of what Arrow was told to read, an error may be empty or say something else.
    empty = any(said is not None and not any(said) for said in (outer, inner))
    code, message, kind, nested = outer or inner or (None, None, None, False)
    if empty or nested or not 0 <= (status or 0) < 1000:
        return None
    return failure(status, {"code": code, "message": message, "type": kind})


def _said(errors: Any, rows: Any) -> list[_Said]:
    """What the errors of some rows say."""
    taken = errors.take(rows)
    if taken.null_count == len(taken):
        return [None] * len(taken)
    *words, inner = taken.flatten()
    fields = zip(*(field.to_pylist() for field in [*words, inner.is_valid()]), strict=True)
    return [said if there else None for there, said in zip(taken.is_valid().to_pylist(), fields, strict=True)]


OPENAI = _OpenAI()
