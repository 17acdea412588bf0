"""An input file that is wrong fails its batch, with every line named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import schemas
from server.driver import CHAT, chat_line, chat_lines, jsonl, message_line
from server.schemas import check

from dobatch_pandas.server import FileLimits
from dobatch_pandas.server.validation import inspect

GOOD = chat_line("good")


def _without(line, *names):
    return {name: value for name, value in line.items() if name not in names}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{not json}\n", "invalid_json_line"),
        (b"[1]\n", "invalid_json_line"),
        (b"\n", "invalid_json_line"),
        (b"\xef\xbb\xbf{}\n", "invalid_json_line"),
        (b'{"custom_id": "\xff"}\n', "invalid_json_line"),
        (GOOD, "duplicate_custom_id"),
        (chat_line("b") | {"url": "/v1/responses"}, "url_mismatch"),
        (chat_line("b") | {"method": "GET"}, "invalid_method"),
        (chat_line("b", model="other"), "model_mismatch"),
        (_without(GOOD, "custom_id"), "missing_required_parameter"),
        (_without(GOOD, "body") | {"custom_id": "b"}, "missing_required_parameter"),
        (chat_line("b", model=None), "missing_required_parameter"),
        (chat_line("b", stream=True), "invalid_value"),
    ],
)
def test_a_bad_line_is_named_by_its_number(api, bad, code):
    """
    The batch fails, nothing is executed, and the error names the line.
    """
    batch_id = api.create([GOOD, bad])
    batch = api.until(batch_id, "failed")
    check(batch, schemas.BATCH)
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [(code, 2)]
    assert batch["failed_at"]
    assert not api.server.executed
    assert api.results(batch_id).json() == {"batch_id": batch_id, "result_available": False}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (message_line("no space"), "invalid_custom_id"),
        (message_line("no-newline\n"), "invalid_custom_id"),
        (message_line("x" * 65), "invalid_custom_id"),
        (message_line("b", max_tokens=0), "invalid_request"),
        (message_line("b", max_tokens=None), "invalid_request"),
        (message_line("b", messages=[]), "invalid_request"),
        (message_line("b", messages=[{"role": "system", "content": "x"}]), "invalid_request"),
        (chat_line("b"), "missing_required_parameter"),
    ],
)
def test_anthropic_has_rules_of_its_own(api, bad, code):
    """
    The alphabet of custom_id, max_tokens, messages without a system role.
    """
    batch = api.until(api.create([message_line("good"), bad], "anthropic"), "failed")
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [(code, 2)]


def test_an_empty_file_fails(api):
    """
    Nothing to do is an error, not an empty success.
    """
    assert api.until(api.create([]), "failed")["errors"][0]["code"] == "empty_file"


def test_all_bad_lines_are_reported_at_once(api):
    """
    Up to a hundred, so that a file can be mended in one go.
    """
    batch = api.until(api.create([b"?\n"] * 150), "failed")
    assert [error["line"] for error in batch["errors"]] == list(range(1, 101))


def test_the_limits_of_a_file_hold(serve):
    """
    Too many requests, or too many bytes: each with its own code.
    """
    api = serve(limits=FileLimits(bytes=2000, openai_requests=3, anthropic_requests=4))
    assert api.until(api.create(chat_lines(3)), "completed")
    assert api.until(api.create(chat_lines(4)), "failed")["errors"][0]["code"] == "too_many_requests"
    assert api.until(api.create([message_line(f"{n}") for n in range(4)], "anthropic"), "completed")
    big = [chat_line("a", "x" * 2000)]
    assert api.until(api.create(big), "failed")["errors"][0]["code"] == "file_too_large"


def test_limits_by_default_are_the_documented_ones():
    """
    200 MB, 50,000 and 100,000 requests.
    """
    limits = FileLimits()
    assert (limits.bytes, limits.requests("openai"), limits.requests("anthropic")) == (
        200_000_000,
        50_000,
        100_000,
    )


@pytest.mark.parametrize("mode", ["create", "validate"])
def test_a_limit_on_enqueued_tokens_refuses_or_fails_the_batch(serve, mode):
    """
    While other batches hold the tokens: 429 at creation, or `failed`; afterwards it passes.
    """
    api = serve(enqueued_tokens=1000, enqueued_mode=mode)
    api.server.hold()
    first = api.create([chat_line("a", "x " * 1500)])
    api.until(first, "in_progress")
    file_id = api.upload([chat_line("b", "x " * 1000)])
    refused = api.post_batch(file_id)
    if mode == "create":
        assert refused.status_code == 429
        assert "token" in refused.json()["message"]
    else:
        errors = api.until(refused.json()["batch_id"], "failed")["errors"]
        assert errors[0]["code"] == "token_limit_exceeded"
    api.server.release()
    api.until(first, "completed")
    assert api.until(api.post_batch(file_id).json()["batch_id"])["status"] == "completed"


@settings(max_examples=60, deadline=None)
@given(content=st.lists(st.binary(max_size=40) | st.just(jsonl([GOOD])), max_size=6).map(b"\n".join))
def test_no_file_breaks_the_validation(tmp_path_factory, content):
    """
    Whatever the bytes, each error names a line that is there.
    """
    path = tmp_path_factory.mktemp("input") / "input.jsonl"
    path.write_bytes(content)
    found = inspect(path, "openai", CHAT, FileLimits())
    assert found.offsets[-1] == len(content)
    count = len(found.offsets) - 1
    assert all(error["line"] is None or 1 <= error["line"] <= count for error in found.errors)
    assert found.errors or count
