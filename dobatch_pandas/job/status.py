"""How a job stands: one snapshot out of the ledger's records and the runner's state."""

from __future__ import annotations

import time

from dobatch_pandas.config import settings
from dobatch_pandas.display.snapshot import BatchRow, Snapshot, State
from dobatch_pandas.prices import cost, price_of

from .progress import JobState
from .store import UNSENT, JobRecord, PartRecord, Store

__all__ = ["snapshot_of"]


def snapshot_of(
    record: JobRecord, parts: dict[int, PartRecord], progress: JobState | None, store: Store
) -> Snapshot:
    """Gather what is known of a job at this moment; the network is not asked."""
    rows = list(parts.values())
    again = sum(p.requests for p in rows if p.retry)
    completed = sum(p.completed for p in rows)
    failed = sum(p.failed for p in rows) - again
    rendered = record.rows if record.rendered else progress.rows_rendered if progress else 0
    requests = record.requests if record.rendered else sum(p.requests for p in rows)
    started = min((p.created_at for p in rows if p.created_at), default=None)
    problem = record.problem
    paused = None
    if progress is not None and record.ended is None:
        paused = progress.paused or (f"Stopped: {progress.crash}" if progress.crash else None)
        problem = paused or progress.trouble or problem
    shares = list(progress.upload_shares.values()) if progress else []
    return Snapshot(
        job_id=record.id,
        state=_state(record, rows, paused, progress),
        model=record.model,
        provider=record.provider,
        endpoint=record.endpoint,
        into=record.into,
        rows=record.rows,
        requests=requests,
        reused=record.reused,
        skipped=record.skipped,
        rendered=rendered,
        completed=completed,
        failed=failed,
        parts=len(rows) if record.rendered else None,
        uploaded=sum(p.state not in UNSENT for p in rows),
        upload_share=sum(shares) / len(shares) if shares else None,
        started=record.created,
        ended=record.ended,
        deadline=min((p.deadline for p in rows if p.deadline and p.state == "created"), default=None),
        eta=_eta(started, completed + failed, requests - record.reused, record),
        prompt_tokens=sum(p.prompt_tokens for p in rows) or None,
        completion_tokens=sum(p.completion_tokens for p in rows) or None,
        cost=_cost(record, rows),
        errors=store.failures(record.id),
        batches=tuple(
            BatchRow(
                part=p.number,
                batch_id=p.batch_id,
                state=p.status or p.state if p.state in ("created", "ended", "read") else p.state,
                requests=p.requests,
                completed=p.completed,
                failed=p.failed,
                bytes=p.bytes,
                created_at=p.created_at,
                deadline=p.deadline,
                problem=p.problem,
            )
            for p in rows
        ),
        problem=problem,
        attached_elsewhere=progress.elsewhere if progress else False,
    )


def _state(
    record: JobRecord, parts: list[PartRecord], paused: str | None, progress: JobState | None
) -> State:
    if record.ended is not None:
        return record.state
    if paused:
        return "paused"
    if record.cancel_requested:
        return "cancelling"
    unsent = [p for p in parts if p.state in UNSENT]
    if not record.rendered and not any(p.state != "rendered" for p in parts):
        return "rendering" if progress is not None else "recorded"
    if unsent or not record.rendered:
        return "uploading"
    at_work = [p for p in parts if p.state == "created"]
    if not at_work:
        return "downloading"
    if all(p.status == "finalizing" or 0 < p.requests <= p.completed + p.failed for p in at_work):
        return "finalizing"
    if all(p.completed + p.failed == 0 and p.status in _NOT_BEGUN for p in at_work) and len(at_work) == len(
        parts
    ):
        return "queued"
    return "running"


_NOT_BEGUN = (None, "validating", "queued", "awaiting_processing")


def _eta(started: float | None, ended: int, total: int, record: JobRecord) -> float | None:
    if record.ended is not None or started is None or ended <= 0 or not record.rendered:
        return None
    return max(0.0, (time.time() - started) * (total - ended) / ended)


def _cost(record: JobRecord, parts: list[PartRecord]) -> float | None:
    prompt, completion = sum(p.prompt_tokens for p in parts), sum(p.completion_tokens for p in parts)
    if not prompt + completion:
        return None
    price = price_of(record.model, record.provider, overrides=settings().prices)
    if price is None:
        return None
    return cost(price, prompt, completion, cached_tokens=sum(p.cached_tokens for p in parts))
