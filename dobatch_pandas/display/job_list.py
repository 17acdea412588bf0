"""Every job of a home as a table to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from . import html, text

__all__ = ["JobList"]

MOST = 200  # jobs in one table


class JobList(pd.DataFrame):
    """A frame of jobs that a notebook shows for people. Whatever is made of it is an ordinary frame."""

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        now = time.time()
        rows = [
            _row(str(label), values, now)
            for label, values in zip(self.index, self.to_dict("records"), strict=True)
        ]
        more = f"<div>and {len(rows) - MOST:,} more</div>" if len(rows) > MOST else ""
        columns = ["job", "started", "status", "rows", "answered", "failed", "cost", "model", "into"]
        caption = f"{text.counted(len(rows), 'job')}; dobatch.attach(id) opens one"
        return html.table_html(rows[:MOST], columns, caption=caption) + more


def _row(label: str, values: dict[Any, Any], now: float) -> dict[str, Any]:
    cost, failed = values["cost"], int(values["failed"])
    status = str(values["status"])
    done = int(values["completed"]) + int(values["reused"])
    if status == "completed" and failed:
        status = "all failed" if not done else "done, with failures"
    elif status == "completed":
        status = "done"
    return {
        "job": html.Code(label),
        "started": html.Code(text.moment(values["created"].timestamp(), now)),
        "status": html.Code(status),
        "rows": int(values["rows"]),
        "answered": done,
        "failed": failed,
        "cost": html.Code("–" if pd.isna(cost) else text.dollars(float(cost))),
        "model": values["model"],
        "into": values["into"],
    }
