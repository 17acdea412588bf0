"""The tolerant reader: both wires, and whatever else a service may send."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.service.wire import (
    TERMINAL,
    Batch,
    BatchError,
    FileIntent,
    RequestCounts,
    ResultLinks,
    parse_time,
    read_batch,
    read_file_intent,
    read_page,
    read_result_links,
)

WIRE_A = {
    "batch_id": "b-1",
    "status": "completed",
    "provider": "openai",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "input_file_id": "f-1",
    "output_file_id": "o-1",
    "error_file_id": None,
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "request_id": "r-1",
    "metadata": {"team": "blue"},
    "errors": [{"code": "invalid_json_line", "message": "not JSON", "line": 7}],
    "created_at": "2026-11-01T10:00:00Z",
    "in_progress_at": "2026-11-01T10:00:01.5Z",
    "finalizing_at": "2026-11-01T10:00:02.123456789Z",
    "completed_at": "2026-11-01T10:00:03Z",
    "expires_at": "2026-11-02T10:00:00Z",
    "cancelled_at": None,
}
WIRE_B = {
    "batch_id": "b-2",
    "status": "awaiting_processing",
    "provider": "anthropic",
    "file_id": "f-2",
    "completion_window": "24h",
    "request_counts": {"total": 5},
    "request_id": "r-2",
    "result_available": False,
    "created_at": "2026-11-01T10:00:00.25Z",
    "updated_at": "2026-11-01T10:00:09Z",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted(
    {*WIRE_A, *WIRE_B, "id", "data", "edges", "page_info", "has_more", "last_id", "node", "batch"}
)


def seconds(*moment: int) -> float:
    return datetime(*moment, tzinfo=timezone.utc).timestamp()  # type: ignore[misc, arg-type]


def test_read_batch_understands_the_documented_wire() -> None:
    """Every field of the documentation lands where the data class says."""
    assert read_batch(WIRE_A) == Batch(
        batch_id="b-1",
        status="completed",
        provider="openai",
        endpoint="/v1/chat/completions",
        input_file_id="f-1",
        output_file_id="o-1",
        counts=RequestCounts(3, 2, 1),
        request_id="r-1",
        metadata={"team": "blue"},
        errors=(BatchError("invalid_json_line", "not JSON", 7),),
        created_at=seconds(2026, 11, 1, 10),
        started_at=seconds(2026, 11, 1, 10, 0, 1) + 0.5,
        finalizing_at=seconds(2026, 11, 1, 10, 0, 2) + 0.123456789,
        ended_at=seconds(2026, 11, 1, 10, 0, 3),
        expires_at=seconds(2026, 11, 2, 10),
    )


@pytest.mark.parametrize(
    ("answer", "idle"),
    [
        ({"status": "validating"}, True),
        ({"status": "queued"}, True),
        ({"status": "in_progress"}, False),
        ({"status": "warming_up"}, False),
        ({"status": "failed", "failed_at": "2026-11-01T10:00:09Z"}, True),
        (
            {
                "status": "failed",
                "failed_at": "2026-11-01T10:00:09Z",
                "in_progress_at": "2026-11-01T10:00:00Z",
            },
            False,
        ),
        ({"status": "failed", "updated_at": "2026-11-01T10:00:09Z"}, False),
        ({"status": "failed"}, False),
    ],
)
def test_a_batch_is_idle_only_where_the_service_says_that_it_never_began(
    answer: dict[str, str], idle: bool
) -> None:
    """A wire that dates nothing but the last change leaves open whether a batch that failed has run."""
    assert read_batch({"batch_id": "b", **answer}).idle is idle


def test_read_batch_understands_the_deployed_wire() -> None:
    """A batch as the deployed service describes it reads the same way, and is still running."""
    batch = read_batch(WIRE_B)

    assert (batch.input_file_id, batch.counts.total, batch.result_available) == ("f-2", 5, False)
    assert not batch.terminal
    assert batch.ended_at is None
    assert read_batch({**WIRE_B, "status": "completed"}).ended_at == seconds(2026, 11, 1, 10, 0, 9)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_status_is_terminal(status: str) -> None:
    """The four words that end a batch end it, in either spelling and any case."""
    assert read_batch({"batch_id": "b", "status": status.upper()}).terminal
    assert read_batch({"batch_id": "b", "status": "canceled"}).status == "cancelled"


def test_an_unknown_status_passes_through_as_still_running() -> None:
    """A status of next year is no error, and no end."""
    batch = read_batch({"batch_id": "b", "status": "warming_up"})

    assert batch.status == "warming_up"
    assert not batch.terminal


@pytest.mark.parametrize("digits", range(10))
def test_parse_time_takes_none_to_nine_fractional_digits(digits: int) -> None:
    """Times are read whatever precision the service felt like."""
    fraction = "123456789"[:digits]
    text = f"2026-11-01T10:00:00{'.' if digits else ''}{fraction}Z"

    assert parse_time(text) == pytest.approx(seconds(2026, 11, 1, 10) + float(f"0.{fraction or 0}"), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T12:00:00+02:00", seconds(2026, 11, 1, 10)),
        ("2026-11-01T05:30:00-0430", seconds(2026, 11, 1, 10)),
        ("2026-11-01 10:00", seconds(2026, 11, 1, 10)),
        (1_800_000_000, 1.8e9),
        ("0001-01-01T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
        (float("nan"), None),
    ],
)
def test_parse_time_knows_what_is_no_time(text: object, expected: float | None) -> None:
    """Zones are honoured, numbers are Unix seconds, and what is no time is None."""
    assert parse_time(text) == expected


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))
@settings(max_examples=50)
def test_parse_time_reads_back_what_python_writes(moment: datetime) -> None:
    """A time that was written in ISO 8601 is the same time."""
    moment = moment.replace(tzinfo=timezone.utc)

    assert parse_time(moment.isoformat()) == pytest.approx(moment.timestamp(), abs=1e-5)


@given(JSON, st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
@settings(max_examples=200)
def test_readers_never_raise(anything: Any, fields: dict[str, Any]) -> None:
    """Absent, null, odd and nested fields give an object with what could be read, never an exception."""
    for answer in (
        anything,
        fields,
        {**WIRE_A, **fields},
        {**WIRE_B, **fields},
        [fields],
        {"data": [fields]},
    ):
        batch = read_batch(answer)
        assert isinstance(batch.status, str)
        # 2**53: what is written down as a number of JSON, and added up, stays exact.
        assert all(isinstance(count, int) and 0 <= count < 2**53 for count in vars(batch.counts).values())
        assert isinstance(read_page(answer).batches, tuple)
        assert isinstance(read_result_links(answer).available, bool)
        assert isinstance(read_file_intent(answer).file_id, str)


@given(st.text(min_size=1).filter(lambda text: text.strip()))
@settings(max_examples=50)
def test_any_status_survives(status: str) -> None:
    """Whatever the word is, it is shown, at most in lower case and without the space around it."""
    shown = read_batch({"batch_id": "b", "status": status}).status

    assert shown == status.strip().lower() or shown in ("cancelled", "cancelling")


def test_read_page_understands_both_cursors() -> None:
    """The list goes on after ``last_id`` on one wire, after ``endCursor`` on the other, and then it ends."""
    a = {"object": "list", "data": [WIRE_A], "first_id": "b-1", "last_id": "b-1", "has_more": True}
    b = {
        "edges": [{"cursor": "Yg==", "node": WIRE_B}],
        "page_info": {"endCursor": "Yg==", "hasNextPage": True},
    }

    assert ([x.batch_id for x in read_page(a).batches], read_page(a).next_cursor) == (["b-1"], "b-1")
    assert ([x.batch_id for x in read_page(b).batches], read_page(b).next_cursor) == (["b-2"], "Yg==")
    assert read_page({**a, "has_more": False}).next_cursor is None
    assert read_page({**b, "page_info": {"endCursor": "Yg==", "hasNextPage": False}}).next_cursor is None
    assert read_page({**b, "page_info": {"hasNextPage": True}}).next_cursor == "Yg=="
    assert read_page({"data": [], "has_more": True}).next_cursor is None


@pytest.mark.parametrize(
    ("answer", "available", "output", "error"),
    [
        ({"result_available": True, "output_file_url": "O", "error_file_url": "E"}, True, "O", "E"),
        ({"result_available": True, "output_file_url": None, "error_file_url": "E"}, True, None, "E"),
        ({"result_available": False}, False, None, None),
        ({"download": {"presigned_url": "O", "expires_at": "2026-11-01T10:00:00Z"}}, True, "O", None),
        ({"output_location": "O", "error_location": "E"}, True, "O", "E"),
        ({"download_url": "O"}, True, "O", None),
        ({}, False, None, None),
        (None, False, None, None),
    ],
)
def test_read_result_links_knows_every_name(
    answer: Any, available: bool, output: str | None, error: str | None
) -> None:
    """Links are found under each name they have been seen under."""
    links = read_result_links(answer, "b-1")

    assert (links.available, links.output_url, links.error_url) == (available, output, error)
    assert links.batch_id == "b-1"


def test_signed_addresses_are_not_shown_and_not_pickled() -> None:
    """A signed address is in no ``repr`` and in no pickle; the rest of the object is."""
    intent = FileIntent("f-1", "https://store.example/x?sig=SECRET", 1.0)
    links = ResultLinks(
        "b-1", True, "https://store.example/o?sig=SECRET", "https://store.example/e?sig=SECRET"
    )

    for thing in (intent, links):
        assert "SECRET" not in repr(thing)
        assert b"SECRET" not in pickle.dumps(thing)
    assert pickle.loads(pickle.dumps(intent)).file_id == "f-1"
    assert pickle.loads(pickle.dumps(links)).available
    assert copy.copy(read_batch(WIRE_A)) == pickle.loads(pickle.dumps(read_batch(WIRE_A)))
