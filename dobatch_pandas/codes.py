"""
Why a row has no answer: every code that can stand in an ``<into>_error`` column, in one place.

==================  ==========================================================  =====================
code                meaning                                                     can a retry change it
==================  ==========================================================  =====================
content_filter      the provider's content filter withheld the answer           no
refusal             the model refused, in words or by its stop reason           no
length              the answer stops at the token limit                         yes
tool_calls          the model called a tool and no schema asked for that        no
invalid_json        a schema was given and the answer is not JSON               yes
schema_mismatch     the answer is JSON and breaks the schema                    yes
empty_response      there is no answer and no reason for that                   yes
invalid_response    the result is not of a shape any endpoint has               yes
expired             the batch's window ended first                              yes
cancelled           the batch was cancelled first                               yes
missing_result      the service's files do not have this row                    yes
interrupted         asked in real time, and the answer was lost                 yes
pending             the answer is not there yet: the job is not over            no
batch_failed        the service refused the whole batch                         yes
missing_input       a value of the row is missing, so nothing was sent          no
row_changed         the row is not as it was at submit, so that none is its      no
too_large           the request alone is larger than a file may be              no
http_<status>       the request ended with this HTTP status                     408, 409, 425, 429, 5xx
provider_error      an error without a status that has a code of its own here   yes
==================  ==========================================================  =====================

The provider's own word and message are kept in ``error_message``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Any

__all__ = [
    "EXPLANATIONS",
    "NEVER_ASKED",
    "NO_SUCCESS",
    "RETRYABLE",
    "ErrorGroup",
    "Fate",
    "explain",
    "failure",
]


class Fate(IntEnum):
    """What becomes of a row before anything is sent. The numbers are on disk, in a job's manifest."""

    SENT = 0
    DUPLICATE = 1
    """Equal to one that is sent."""
    REUSED = 2
    """Answered by an earlier job."""
    SKIPPED = 3
    """A value is missing."""
    TOO_LARGE = 4
    """Larger than a file may be."""
    CHANGED = 5
    """Cannot be known again when answers are joined; never on disk."""


NEVER_ASKED = {Fate.SKIPPED: "missing_input", Fate.TOO_LARGE: "too_large", Fate.CHANGED: "row_changed"}
"""The codes of rows that are not asked at all."""

EXPLANATIONS: dict[str, str] = {
    "content_filter": "The provider's content filter withheld the answer.",
    "refusal": "The model refused to answer.",
    "length": "The answer stops at the token limit: raise max_tokens. What came is in responses().",
    "tool_calls": "The model called a tool instead of answering.",
    "invalid_json": "The answer is not JSON, though a schema was given.",
    "schema_mismatch": "The answer is JSON but breaks the schema.",
    "empty_response": "The service returned no answer and gave no reason.",
    "invalid_response": "The service's result has an unexpected shape.",
    "expired": "The batch's 24 hours ended before this request ran.",
    "cancelled": "The batch was cancelled before this request ran.",
    "missing_result": "The service's result files do not mention this request.",
    "interrupted": "The request was sent in real time and its answer was lost: it may have been run and paid.",
    "pending": "The answer is not there yet: the job is not over.",
    "batch_failed": "The service refused the whole batch this request was in.",
    "missing_input": "A value that the prompt needs is missing in this row, so nothing was sent.",
    "row_changed": "The row is not known again: its contents are not those of any row that was submitted.",
    "too_large": "The request alone is larger than one batch file may be, so it was not sent.",
    "provider_error": "The provider reported an error; its words are in responses().",
}

RETRYABLE: frozenset[str] = frozenset(
    ["length", "invalid_json", "schema_mismatch", "empty_response", "invalid_response"]
    + ["expired", "cancelled", "interrupted", "missing_result", "batch_failed", "provider_error"]
    + [f"http_{status}" for status in (408, 409, 425, 429, *range(500, 600))]
)
"""Codes of failures that may end otherwise when the same request is sent again."""

NO_SUCCESS = r"^(expired|cancelled|missing_result|batch_failed|provider_error|http_)"
"""Matches the codes of requests that the service itself does not call a success, whatever became of an answer."""

_WORDS = {
    "batch_expired": "expired",
    "request_expired": "expired",
    "expired": "expired",
    "batch_cancelled": "cancelled",
    "batch_canceled": "cancelled",
    "request_cancelled": "cancelled",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "interrupted": "interrupted",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    # Anthropic's error types and the like stand for one HTTP status each.
    "invalid_request_error": "http_400",
    "invalid_request": "http_400",
    "authentication_error": "http_401",
    "billing_error": "http_402",
    "permission_error": "http_403",
    "not_found_error": "http_404",
    "request_too_large": "http_413",
    "rate_limit_error": "http_429",
    "rate_limit_exceeded": "http_429",
    "api_error": "http_500",
    "server_error": "http_500",
    "internal_error": "http_500",
    "service_unavailable": "http_503",
    "timeout_error": "http_504",
    "overloaded_error": "http_529",
}


def explain(code: str) -> str:
    """
    One line for people about a code of the ``<into>_error`` column.

    Examples
    --------
    >>> explain("expired")
    "The batch's 24 hours ended before this request ran."
    >>> explain("http_429")
    'The request was refused with HTTP 429 (Too Many Requests).'
    """
    known = EXPLANATIONS.get(code)
    if known is not None:
        return known
    kind, _, status = code.partition("_")
    if kind != "http" or not status.isdigit():
        return "The request failed."
    try:
        name = f" ({HTTPStatus(int(status)).phrase})"
    except ValueError:
        name = ""
    return f"The request was refused with HTTP {status}{name}."


def failure(status: int | None, error: Any) -> tuple[str, str]:
    """
    The code and the message of a request that the service reports as failed.

    Parameters
    ----------
    status : int or None
        HTTP status of the request, 0 or None where it has none.
    error : object
        The error as it came: ``{code, message, type}``, the same nested once more as ``error``, a text (a
        proxy's page, say) or nothing.
    """
    word, message = _words_of(error)
    code = _WORDS.get(word.lower())
    if code is None and len(word) == 3 and word[0] in "45" and word.isdecimal():
        code = f"http_{word}"
    refused = status is not None and 100 <= status < 1000 and not 200 <= status < 300
    if refused and code not in ("content_filter", "expired", "cancelled"):
        code = f"http_{status}"
    if code is None:
        code = "provider_error" if error else "empty_response"
    if word and word not in message:
        message = f"{word}: {message}" if message else word
    return code, message or explain(code)


def _words_of(error: Any) -> tuple[str, str]:
    if isinstance(error, dict):
        inner = error.get("error")
        if isinstance(inner, (dict, str)) and inner:
            return _words_of(inner)
        word = error.get("code") or error.get("type") or ""
        message = error.get("message") or ""
        return str(word), str(message)
    if isinstance(error, str):
        return "", error.strip()[:500]
    return "", ""


@dataclass(frozen=True)
class ErrorGroup:
    """Failed rows that share a code: how many, and one message as an example."""

    code: str
    count: int
    example: str
