"""Every batch that the service lists, as a frame."""

from __future__ import annotations

import pandas as pd

from .client import Client

__all__ = ["batches"]

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
