"""How a job stands: one snapshot out of its record and state."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from pathlib import Path

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.config import settings
from dobatch_pandas.display.snapshot import BatchRow, Expected, Snapshot
from dobatch_pandas.display.snapshot import State as Word
from dobatch_pandas.questions.part_files import lines_of_part

from .deadline import plan_in_words
from .ending import notes_of
from .folder import JobFolder, JobRecord
from .home import left_alone, status_of
from .machine import Part, State, problem_of, problem_of_part
from .spent import Spent
from .work import OpenJob

__all__ = ["snapshot_of", "word_of"]


COUNTED = 2_000  # requests whose tokens are counted before the first dollar is shown
_NEVER_RUN = {"cancelling": "cancelled", "cancelled": "cancelled", "expired": "expired"}


def snapshot_of(
    record: JobRecord, state: State, live: OpenJob | None, folder: JobFolder, *, priced: bool = True
) -> Snapshot:
    """
    Gather what is known of a job at this moment; the network is not asked.

    Without `priced` it has no cost: to load the price list takes a second, which nobody needs to learn whether a job is over.
    """
    parts = list(state.parts.values())
    again = sum(p.requests for p in parts if p.round)
    completed = sum(p.completed for p in parts)
    if live is not None:
        # What is asked in real time has no counters of the service's.
        completed += sum(live.asked.get(p.number, 0) for p in parts if p.live and not p.final)
    failed = max(0, sum(p.failed for p in parts) - again)
    requests = state.requests if state.rendered else sum(p.requests for p in parts)
    started = min((p.created_at for p in parts if p.created_at), default=None)
    shares = list(live.shares.values()) if live is not None else []
    errors = errors_of(state)
    never_run = {"cancelled": 0, "expired": 0}
    for group in errors:
        if group.code in never_run:
            never_run[group.code] += group.count
    for part in parts:
        # Until the files are read the service's counter does not tell what failed from what was never run.
        if part.state != "read" and part.status in _NEVER_RUN:
            never_run[_NEVER_RUN[part.status]] += part.failed
    known = _known.get(folder.root, False)
    sending = sum(p.requests for p in parts if not p.round)
    problem = problem_of(state)[0] or left_alone(folder, state) if live is None else live.problem
    return Snapshot(
        job_id=record.id,
        state=word_of(state, live),
        model=record.model,
        provider=record.provider,
        endpoint=record.endpoint,
        into=record.into,
        rows=record.rows,
        requests=requests,
        reused=state.reused,
        skipped=state.skipped,
        rendered=record.rows if state.rendered else live.rows_rendered if live else 0,
        completed=completed,
        failed=failed,
        cancelled=min(failed, never_run["cancelled"]),
        expired=min(failed, never_run["expired"]),
        round=max((p.round for p in parts), default=0),
        parts=len(parts) if state.rendered else None,
        uploaded=sum(not p.unsent or p.live for p in parts),
        upload_share=sum(shares) / len(shares) if shares else None,
        started=record.created,
        ended=state.ended,
        deadline=min((p.deadline for p in parts if p.deadline and p.open), default=None),
        eta=_eta(started, completed + failed, requests - state.reused, state),
        prompt_tokens=sum(p.prompt_tokens for p in parts) or None,
        completion_tokens=sum(p.completion_tokens for p in parts) or None,
        cost=Spent.of(parts).dollars(record.model, record.provider) if priced else None,
        expected=_expected(known, record, parts, sending) if isinstance(known, Expected) else None,
        expect=None if known is not False or not parts else partial(_expect, folder, record, parts[0].number),
        dataset=record.source is not None,
        errors=errors,
        batches=tuple(_row(p) for p in parts),
        problem=problem,
        notes=tuple(filter(None, [plan_in_words(state), *notes_of(folder.root)])),
        attached_elsewhere=live is not None and live.elsewhere and live.barred is None,
    )


def errors_of(state: State) -> tuple[ErrorGroup, ...]:
    """Failures by code, the most frequent first."""
    found: dict[str, ErrorGroup] = {}
    for part in state.parts.values():
        for group in part.errors:
            known = found.get(group.code)
            count = group.count + (known.count if known else 0)
            found[group.code] = ErrorGroup(group.code, count, known.example if known else group.example)
    return tuple(sorted(found.values(), key=lambda group: (-group.count, group.code)))


def _row(part: Part) -> BatchRow:
    word = part.state
    if part.waits in ("room", "budget"):
        word = "held"  # type: ignore[assignment]
    elif part.live and part.unsent:
        word = "in real time"  # type: ignore[assignment]
    elif not part.unsent:
        word = part.status or part.state  # type: ignore[assignment]
    return BatchRow(
        part=part.number,
        batch_id=part.batch_id,
        state=word,
        requests=part.requests,
        completed=part.completed,
        failed=part.failed,
        bytes=part.bytes,
        created_at=part.created_at,
        deadline=part.deadline,
        problem=problem_of_part(part),
    )


def word_of(state: State, live: OpenJob | None) -> Word:
    """Return the one word for how a job stands."""
    if live is not None and live.broken is not None:
        return "paused"
    word = status_of(state)
    return "rendering" if word == "recorded" and live is not None else word


def _eta(started: float | None, ended: int, total: int, state: State) -> float | None:
    if state.ended is not None or started is None or ended <= 0 or not state.rendered:
        return None
    return max(0.0, (time.time() - started) * (total - ended) / ended)


# Worked out once a process and job: dollars a request, or None where the price is unknown.
_known: dict[Path, Expected | None] = {}


def _expect(folder: JobFolder, record: JobRecord, number: int) -> None:
    """Count the tokens of the first requests, and keep what a request costs."""
    from dobatch_pandas.estimate import Estimator

    found: Expected | None = None
    estimator = Estimator(record.model, record.provider, record.endpoint, overrides=settings().prices)
    if estimator.price is not None:
        try:
            estimator.add_all(islice(lines_of_part(folder.part(number)), COUNTED))
        except (OSError, ValueError):
            return  # its file is being written or was deleted: the next look tries again
        costs = estimator.finish().cost_batch
        if costs is None or not estimator.requests:
            return
        count = estimator.requests
        least, most = costs
        found = Expected(least / count, None if most is None else most / count)
    _known[folder.root] = found


def _expected(each: Expected, record: JobRecord, parts: list[Part], sending: int) -> Expected:
    """What the requests of a job may cost, out of what one of them does."""
    bounds = [part.bound for part in parts]
    bound = sum(b for b in bounds if b is not None) if parts and None not in bounds else record.max_cost
    if bound is not None and record.max_cost is not None:
        bound = min(bound, record.max_cost)
    whole = each.of(sending)
    return Expected(whole.least, whole.most, bound, sending <= COUNTED)
