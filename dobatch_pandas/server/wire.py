"""How batches, lists and results look on the wire: A as documented, B as deployed."""

from __future__ import annotations

import base64
from typing import Any, Literal

from .clock import iso
from .state import STATUSES, Batch

__all__ = [
    "WIRES",
    "Wire",
    "batch_json",
    "error_json",
    "list_json",
    "read_cursor",
    "results_json",
    "shown_status",
    "statuses",
]

Wire = Literal["A", "B"]
WIRES = ("A", "B")

_ERROR_IDS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    412: "precondition_failed",
    422: "unprocessable_entity",
    429: "too_many_requests",
}


def error_json(status: int, message: str, request_id: str) -> dict[str, Any]:
    """The body of every error of the API."""
    usual = "bad_request" if 400 <= status < 500 else "server_error"
    return {"id": _ERROR_IDS.get(status, usual), "message": message, "request_id": request_id}


def batch_json(batch: Batch, wire: Wire, word: str | None = None) -> dict[str, Any]:
    """One batch; ``word`` replaces its status."""
    return _batch_a(batch, word) if wire == "A" else _batch_b(batch, word)


def _batch_a(batch: Batch, word: str | None) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "status": word or batch.status,
        "provider": batch.provider,
        "endpoint": batch.endpoint,
        "completion_window": "24h",
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": _counts(batch),
        "request_id": batch.request_id,
        "created_at": iso(batch.created_at),
        "expires_at": iso(batch.expires_at),
    }
    if batch.metadata is not None:
        shape["metadata"] = batch.metadata
    if batch.errors:
        shape["errors"] = batch.errors
    for name in ("in_progress_at", "finalizing_at", "completed_at", "cancelled_at", "failed_at"):
        moment = getattr(batch, name)
        if moment is not None:
            shape[name] = iso(moment)
    return shape


def _batch_b(batch: Batch, word: str | None) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "status": word or shown_status(batch, "B"),
        "provider": batch.provider,
        "file_id": batch.input_file_id,
        "completion_window": "24h",
        "request_counts": _counts(batch),
        "request_id": batch.request_id,
        "result_available": batch.output_file_id is not None or batch.error_file_id is not None,
        "created_at": iso(batch.created_at),
        "updated_at": iso(batch.updated_at),
        "expires_at": iso(batch.expires_at),
    }
    if batch.cancel_requested_at is not None:
        shape["cancel_requested_at"] = iso(batch.cancel_requested_at)
    if batch.errors:
        shape["errors"] = batch.errors
    return shape


def shown_status(batch: Batch, wire: Wire) -> str:
    """The status of a batch in the words of a wire."""
    if wire == "B" and batch.status == "validating":
        return "queued"
    if wire == "B" and batch.status == "in_progress" and not batch.completed + batch.failed:
        return "awaiting_processing"
    return batch.status


def statuses(wire: Wire) -> tuple[str, ...]:
    """Every status that batches may be listed by."""
    return STATUSES if wire == "A" else ("queued", "awaiting_processing", *STATUSES)


def _counts(batch: Batch) -> dict[str, int]:
    return {"total": batch.total, "completed": batch.completed, "failed": batch.failed}


def list_json(batches: list[dict[str, Any]], more: bool, wire: Wire) -> dict[str, Any]:
    """A page of batches, which already have their shape."""
    ids = [batch["batch_id"] for batch in batches]
    if wire == "A":
        return {
            "object": "list",
            "data": batches,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": more,
        }
    cursors = [base64.b64encode(one.encode()).decode() for one in ids]
    return {
        "edges": [{"cursor": cursor, "node": batch} for cursor, batch in zip(cursors, batches, strict=True)],
        "page_info": {"endCursor": cursors[-1] if cursors else "", "hasNextPage": more},
    }


def read_cursor(after: str, wire: Wire) -> str | None:
    """The batch id that ``after`` stands for; None where it is no cursor of ours."""
    if wire == "A":
        return after
    try:
        return base64.b64decode(after, validate=True).decode()
    except ValueError:  # binascii's and Unicode's are such errors too
        return None


def results_json(
    batch: Batch, links: tuple[str | None, str | None], expires_at: float | None, wire: Wire
) -> dict[str, Any]:
    """The links to the output and the error file (either may be missing)."""
    output, error = links
    if wire == "B":
        return {
            "download": {"presigned_url": output or error, "expires_at": iso(expires_at)},
            "output_file_id": batch.output_file_id or batch.error_file_id,
        }
    shape: dict[str, Any] = {"batch_id": batch.batch_id, "result_available": bool(output or error)}
    if output:
        shape["output_file_url"] = output
    if error:
        shape["error_file_url"] = error
    if output or error:
        shape["expires_at"] = iso(expires_at)
    return shape
