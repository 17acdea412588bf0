"""Every way to fail has a code, a word for people, and an opinion on trying again."""

from __future__ import annotations

from typing import Any

import pytest

from dobatch_pandas import codes
from dobatch_pandas.codes import EXPLANATIONS, RETRYABLE, explain, failure


def test_the_table_in_the_docs_names_every_code() -> None:
    """
    The taxonomy is written once, and is complete.
    """
    assert codes.__doc__
    for code in EXPLANATIONS:
        assert f"\n{code} " in codes.__doc__
        assert explain(code) == EXPLANATIONS[code]
    assert {code for code in RETRYABLE if not code.startswith("http_")} < set(EXPLANATIONS)


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("expired", True),
        ("cancelled", True),
        ("missing_result", True),
        ("invalid_json", True),
        ("length", True),
        ("http_429", True),
        ("http_503", True),
        ("http_529", True),
        ("http_400", False),
        ("http_404", False),
        ("content_filter", False),
        ("refusal", False),
        ("missing_input", False),
        ("too_large", False),
    ],
)
def test_only_what_can_change_is_tried_again(code: str, again: bool) -> None:
    """
    A retry sends rows that may end otherwise, and no others.
    """
    assert (code in RETRYABLE) is again


@pytest.mark.parametrize(
    ("status", "error", "code", "message"),
    [
        (
            400,
            {"code": None, "type": "invalid_request_error", "message": "m"},
            "http_400",
            "invalid_request_error: m",
        ),
        (None, {"code": "429", "message": ""}, "http_429", "429"),
        (
            None,
            {"type": "rate_limit_error", "message": "slow down"},
            "http_429",
            "rate_limit_error: slow down",
        ),
        (None, {"error": {"error": {"type": "api_error", "message": "m"}}}, "http_500", "api_error: m"),
        (502, "<html>Bad gateway</html>", "http_502", "<html>Bad gateway</html>"),
        (0, None, "empty_response", EXPLANATIONS["empty_response"]),
        (None, {"code": "batch_expired"}, "expired", "batch_expired"),
        (500, {"code": "batch_cancelled", "message": "m"}, "cancelled", "batch_cancelled: m"),
        (200, {"code": "new", "message": "m"}, "provider_error", "new: m"),
        (404, None, "http_404", "The request was refused with HTTP 404 (Not Found)."),
    ],
)
def test_a_providers_error_has_our_code_and_its_words(
    status: Any, error: Any, code: str, message: str
) -> None:
    """
    Whatever shape an error has, its code is one of ours and its message the provider's.
    """
    assert failure(status, error) == (code, message)


def test_an_unknown_code_has_a_sentence_too() -> None:
    """
    Codes of a later version are no trouble for displays of this one.
    """
    assert explain("http_599") == "The request was refused with HTTP 599."
    assert explain("from_the_future") == "The request failed."
