"""Every job that this home knows, and every batch that the service lists, as frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError
from dobatch_pandas.service.client import Client

from .home import Home, JobRow
from .process import home_here, live_of

__all__ = ["batches", "jobs", "spending"]

_TIMES = ["created_at", "started_at", "ended_at", "expires_at"]


def batches(limit: int | None = 100, status: str | None = None) -> pd.DataFrame:
    """
    Return the batches that the service lists, newest first, whoever made them.

    Parameters
    ----------
    limit : int, optional
        Rows at most; None for all of them, a call per hundred.
    status : str, optional
        Only batches of this status.

    Returns
    -------
    pandas.DataFrame
        Indexed by batch_id: status, provider, endpoint, total, completed, failed, request_id, and the times
        created_at, started_at, ended_at and expires_at (UTC).
    """
    with Client() as client:
        found = list(client.iter_batches(limit=limit, status=status))
    frame = pd.DataFrame(
        {
            "status": [b.status for b in found],
            "provider": [b.provider for b in found],
            "endpoint": [b.endpoint for b in found],
            "total": [b.counts.total for b in found],
            "completed": [b.counts.completed for b in found],
            "failed": [b.counts.failed for b in found],
            "request_id": [b.request_id for b in found],
            **{name: [getattr(b, name) for b in found] for name in _TIMES},
        },
        index=pd.Index([b.batch_id for b in found], name="batch_id", dtype="object"),
    )
    for name in _TIMES:
        frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
    return frame


def jobs() -> pd.DataFrame:
    """
    Return every job that this home knows, newest first.

    Returns
    -------
    pandas.DataFrame
        Indexed by id: created (UTC), status, rows, requests, reused, completed, failed, model, into,
        cost (US dollars, null where unknown), batches, problem (why it does not move or did not end well). A notebook
        shows it for people, and its picture follows the jobs that run; the frame itself stays as it was.
    """
    from dobatch_pandas.display.job_list import JobList

    home = home_here()
    jobs = JobList(_frame_of(_as_known_here(home)))
    jobs.look = lambda: _frame_of(_as_known_here(home))
    return jobs


def _as_known_here(home: Home) -> list[JobRow]:
    """Return all jobs, each of those that this process moves on with what stands in its way now: the index may be behind."""
    rows = []
    for row in home.rows():
        live = None if row.over else live_of(home, row.id)
        rows.append(row if live is None else replace(row, problem=live.problem or row.problem))
    return rows


def _frame_of(found: list[JobRow]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "created": pd.to_datetime([row.created for row in found], unit="s", utc=True).floor("s"),
            "status": pd.array([row.status for row in found], dtype="string"),
            "rows": [row.rows for row in found],
            "requests": [row.requests for row in found],
            "reused": [row.reused for row in found],
            "completed": [row.completed for row in found],
            "failed": [row.failed for row in found],
            "model": pd.array([row.model for row in found], dtype="string"),
            "into": pd.array([row.into for row in found], dtype="string"),
            "cost": pd.array(list(map(_cost, found)), dtype="Float64"),
            "batches": [row.batches for row in found],
            "problem": pd.array([row.problem for row in found], dtype="string"),
        },
        index=pd.Index([row.id for row in found], name="id", dtype="object"),
    )


_BY = ("day", "model", "job")


def spending(by: Literal["day", "model", "job"] = "day") -> pd.DataFrame:
    """
    Return what this home's jobs have cost, those that were forgotten among them, from the tokens that the service reported.

    Parameters
    ----------
    by : {"day", "model", "job"}
        What a row stands for; days are those on which jobs were submitted, in UTC.

    Returns
    -------
    pandas.DataFrame
        Indexed by `by`: jobs, requests answered and paid, prompt_tokens, completion_tokens, and cost (US dollars). The
        cost is by the prices that held when the answers came; it is null where nobody knows that of a model: give it
        with ``dobatch.configure(prices=...)``.
    """
    if not isinstance(by, str) or by not in _BY:
        raise InputError(f"by is {by!r:.80}; it takes {', '.join(map(repr, _BY))}.")
    from dobatch_pandas.display.job_list import SpendingList

    home = home_here()
    found = home.rows() + home.forgotten()
    created = pd.to_datetime([row.created for row in found], unit="s", utc=True)
    frame = pd.DataFrame(
        {
            "day": created.floor("D"),
            "model": pd.array([row.model for row in found], dtype="string"),
            "job": pd.array([row.id for row in found], dtype="string"),
            "jobs": 1,
            "requests": [row.completed + row.failed for row in found],
            "prompt_tokens": [row.prompt_tokens for row in found],
            "completion_tokens": [row.completion_tokens for row in found],
            "cost": pd.array(list(map(_cost, found)), dtype="Float64"),
        }
    )
    # What nobody knows the price of makes a sum unknown, unless nothing was paid at all.
    paid = frame["prompt_tokens"] + frame["completion_tokens"] > 0
    paid |= np.array([row.untold > 0 for row in found], bool)
    frame.loc[~paid, "cost"] = 0.0
    sums = ["jobs", "requests", "prompt_tokens", "completion_tokens"]
    groups = frame.groupby(by, sort=True)
    summed = groups[sums].sum()
    summed["cost"] = groups["cost"].sum().where(groups["cost"].count() == groups["cost"].size())
    return SpendingList(summed.iloc[::-1] if by == "day" else summed.sort_values("cost", ascending=False))


def _cost(row: JobRow) -> float | None:
    return row.spent.dollars(row.model, row.provider)
