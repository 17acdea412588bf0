"""
What the service returns, as small frozen dataclasses, and the one tolerant reader of its answers.

Two descriptions of the wire are in use. The ``read_*`` functions take the JSON of either, with fields
absent, null or of an odd type, and never raise: what cannot be read is None, or empty. Times are Unix
seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

__all__ = [
    "NOT_BEGUN",
    "TERMINAL",
    "Batch",
    "BatchError",
    "BatchPage",
    "FileIntent",
    "RequestCounts",
    "ResultLinks",
    "parse_time",
    "read_batch",
    "read_file_intent",
    "read_page",
    "read_result_links",
]

NOT_BEGUN = frozenset({"validating", "queued", "awaiting_processing"})
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})

_SPELLINGS = {"canceled": "cancelled", "canceling": "cancelling"}

_TIME = re.compile(
    r"\s*(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?"
    r"\s*(?:[Zz]|UTC|([+-])(\d\d):?(\d\d))?\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class FileIntent:
    """
    A place for one request file: its id, and a signed address that takes the bytes for some minutes.

    The address is a secret: it is not in the ``repr`` and does not survive a pickle.
    """

    file_id: str
    upload_url: str = field(repr=False)
    expires_at: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return FileIntent, (self.file_id, "", self.expires_at)


@dataclass(frozen=True)
class RequestCounts:
    """How many requests a batch has, and how many have ended which way."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class BatchError:
    """Something the service found wrong with the request file; ``line`` counts from 1."""

    code: str | None
    message: str
    line: int | None = None


@dataclass(frozen=True)
class Batch:
    """
    One batch as the service describes it.

    ``status`` is the service's word, also where it is a new one; ``ended_at`` is when the batch completed,
    failed, expired or was cancelled. ``result_available`` is None where the service does not say. ``idle``: the
    service says that no request of it was begun.
    """

    batch_id: str
    status: str
    provider: str | None = None
    endpoint: str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: RequestCounts = RequestCounts()
    request_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    errors: tuple[BatchError, ...] = ()
    created_at: float | None = None
    started_at: float | None = None
    finalizing_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    result_available: bool | None = None
    idle: bool = False

    @property
    def terminal(self) -> bool:
        """Whether the status can never change again. An unknown status counts as still running."""
        return self.status in TERMINAL


@dataclass(frozen=True)
class BatchPage:
    """A page of the list of batches, newest first; ``next_cursor`` is None on the last one."""

    batches: tuple[Batch, ...] = ()
    next_cursor: str | None = None


@dataclass(frozen=True)
class ResultLinks:
    """
    Where the results of a batch lie, or that they are not there yet.

    The addresses are secrets: they are not in the ``repr`` and do not survive a pickle.
    """

    batch_id: str
    available: bool
    output_url: str | None = field(default=None, repr=False)
    error_url: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    output_file_id: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ResultLinks, (self.batch_id, self.available, None, None, self.expires_at, self.output_file_id)


def parse_time(text: object) -> float | None:
    """
    Return Unix seconds for an ISO 8601 time with none to nine (or more) fractional digits.

    A time without a zone is UTC. Numbers are taken as Unix seconds. What is no time is None, and so is the
    first day of the year 1, which some services write for "never".
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text) if 0 < text < 1e11 else None
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    if year == "0001":
        return None
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0),
                          tzinfo=timezone.utc)  # fmt: skip
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
        whole = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return whole + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)


def read_file_intent(answer: object) -> FileIntent:
    """Return the file intent in an answer; an id or address that is missing is an empty string."""
    data = _unwrapped(answer, "file", "data")
    return FileIntent(
        file_id=_text_member(data, "file_id", "id") or "",
        upload_url=_text_member(data, "upload_url", "presigned_url", "url") or "",
        expires_at=_time(data, "expires_at"),
    )


def read_batch(answer: object) -> Batch:
    """Return the batch in an answer of either wire; an id that is missing is an empty string."""
    data = _unwrapped(answer, "batch", "node", "data")
    status = (_text_member(data, "status") or "unknown").strip()
    status = _SPELLINGS.get(status.lower(), status.lower())
    counts = _mapping(data.get("request_counts"))
    ended_at = _time(
        data, "completed_at", "failed_at", "cancelled_at", "canceled_at", "expired_at", "ended_at"
    )
    started_at = _time(data, "in_progress_at", "started_at")
    # Only who dates the end would have dated the beginning.
    idle = started_at is None and (status in NOT_BEGUN or (status in TERMINAL and ended_at is not None))
    if ended_at is None and status in TERMINAL:
        ended_at = _time(data, "updated_at")
    return Batch(
        batch_id=_text_member(data, "batch_id", "id") or "",
        status=status,
        provider=_text_member(data, "provider"),
        endpoint=_text_member(data, "endpoint"),
        input_file_id=_text_member(data, "input_file_id", "file_id"),
        output_file_id=_text_member(data, "output_file_id"),
        error_file_id=_text_member(data, "error_file_id"),
        counts=RequestCounts(
            total=_count(counts, "total"),
            completed=_count(counts, "completed", "succeeded"),
            failed=_count(counts, "failed", "errored"),
        ),
        request_id=_text_member(data, "request_id"),
        metadata=dict(_mapping(data.get("metadata"))),
        errors=tuple(_batch_errors(data.get("errors"))),
        created_at=_time(data, "created_at"),
        started_at=started_at,
        finalizing_at=_time(data, "finalizing_at"),
        ended_at=ended_at,
        expires_at=_time(data, "expires_at"),
        result_available=_flag(data.get("result_available")),
        idle=idle,
    )


def read_page(answer: object) -> BatchPage:
    """Return a page of the list of batches and the cursor of the next, for either wire."""
    if isinstance(answer, list):
        answer = {"data": answer}
    data = _mapping(answer)
    edges = _sequence(data.get("edges"))
    nodes = [_mapping(edge).get("node") for edge in edges] if edges else _sequence(data.get("data"))
    batches = tuple(batch for batch in map(read_batch, nodes) if batch.batch_id)
    info = _mapping(data.get("page_info") or data.get("pageInfo"))
    cursor = None
    if _flag(info.get("hasNextPage")) or _flag(info.get("has_next_page")):
        cursor = _text_member(info, "endCursor", "end_cursor") or (
            _text_member(_mapping(edges[-1]), "cursor") if edges else None
        )
    elif _flag(data.get("has_more")):
        cursor = _text_member(data, "last_id") or (batches[-1].batch_id if batches else None)
    return BatchPage(batches, cursor)


def read_result_links(answer: object, batch_id: str = "") -> ResultLinks:
    """Return the links to the results, under every name they go by; no link and no word is "not yet"."""
    data = _mapping(answer)
    nested = _mapping(data.get("download"))
    output_url = _text_member(
        data, "output_file_url", "output_url", "output_location", "download_url", "presigned_url"
    )
    output_url = output_url or _text_member(nested, "presigned_url", "url", "output_file_url")
    error_url = _text_member(data, "error_file_url", "error_url", "error_location") or _text_member(
        nested, "error_file_url"
    )
    available = _flag(data.get("result_available"))
    return ResultLinks(
        batch_id=_text_member(data, "batch_id") or batch_id,
        available=bool(output_url or error_url) if available is None else available,
        output_url=output_url,
        error_url=error_url,
        expires_at=_time(data, "expires_at") or _time(nested, "expires_at"),
        output_file_id=_text_member(data, "output_file_id"),
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _unwrapped(answer: object, *names: str) -> dict[str, Any]:
    data = _mapping(answer)
    if not any(name in data for name in ("batch_id", "file_id", "id", "status")):
        for name in names:
            if isinstance(data.get(name), dict):
                return _mapping(data[name])
    return data


def _text_member(data: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value:
            return value
        # Some services number what others name.
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
            return str(value)
    return None


def _time(data: dict[str, Any], *names: str) -> float | None:
    for name in names:
        moment = parse_time(data.get(name))
        if moment is not None:
            return moment
    return None


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _count(data: dict[str, Any], *names: str) -> int:
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        # What is longer than any count could be written down nowhere.
        if isinstance(value, int) and not isinstance(value, bool) and value < 1 << 53:
            return max(value, 0)
    return 0


def _batch_errors(value: object) -> Iterable[BatchError]:
    if isinstance(value, dict):
        value = value.get("data")
    for item in _sequence(value):
        data = {"message": item} if isinstance(item, str) else _mapping(item)
        code, message = _text_member(data, "code", "type"), _text_member(data, "message")
        if code or message:
            yield BatchError(code, message or code or "", _count(data, "line", "line_number") or None)
