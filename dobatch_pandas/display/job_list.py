"""
Every job of a home as a table to look at, and what jobs have cost.

In a Jupyter notebook the table follows the jobs that are not over: a thread draws it anew, in place, for as long as
one of them moves. It needs no widget, so a saved notebook keeps what was drawn last.
"""

from __future__ import annotations

import contextvars
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import pandas as pd

from . import front_end, html, say, text

__all__ = ["JobList", "SpendingList", "jobs_text"]

MOST = 200  # jobs in one table
LONGEST_NAME = 40  # characters of a model's name, or a column's
TICK = 1.0  # seconds between two looks, more where nothing moves
SLOWEST = 10.0
MOST_LISTS = 4  # that follow; the cell may be run many times
OVER = ("completed", "failed", "expired", "cancelled")

_SUMS = {"jobs", "requests", "prompt_tokens", "completion_tokens", "cost"}
_COLUMNS = {"created", "status", "rows", "requests", "reused", "completed", "failed", "model", "into", "cost"}

Look = Callable[[], pd.DataFrame]

_following: deque[_Following] = deque()


class JobList(pd.DataFrame):
    """
    A frame of jobs that a notebook shows for people. Whatever is made of it is an ordinary frame.

    Attributes
    ----------
    look : callable, optional
        Returns the frame as it is now, for a picture that follows the jobs.
    """

    look: Look | None = None

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        if not set(self.columns) >= _COLUMNS:  # changed in place: a frame of somebody's own
            return str(pd.DataFrame(self)._repr_html_())  # type: ignore[operator]
        return jobs_html(self)

    def _ipython_display_(self) -> None:
        if front_end(True) != "widget":
            # The shell has written its prompt already: a table begins on a line of its own.
            read = not self.empty and set(self.columns) >= _COLUMNS
            say(f"\n{jobs_text(self)}" if read else repr(self))
            return
        _Following(self).show()

    def _display_(self) -> pd.DataFrame:
        """What marimo shows: its own table, with search and sorting."""
        return pd.DataFrame(self)


class SpendingList(pd.DataFrame):
    """A frame of what jobs have cost that a notebook shows for people. Whatever is made of it is an ordinary frame."""

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        if self.index.name is None or not set(self.columns) >= _SUMS:  # changed in place
            return str(pd.DataFrame(self)._repr_html_())  # type: ignore[operator]
        return spending_html(self)


class _Following:
    """One picture of a list of jobs, and the thread that keeps it true."""

    def __init__(self, jobs: JobList) -> None:
        self._look, self._shown = jobs.look, jobs
        self._id = uuid.uuid4().hex
        self._ended = threading.Event()

    def show(self) -> None:
        self._publish()
        if self._look is not None and "status" in self._shown and not _all_over(self._shown):
            # ipykernel 7.0 finds the session of its messages in the context that the thread was started from.
            _following.append(self)
            while len(_following) > MOST_LISTS:
                _following.popleft()._ended.set()
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._follow,), name="dobatch-jobs", daemon=True).start()

    def _publish(self, *, update: bool = False) -> None:
        from IPython.display import publish_display_data

        bundle = {"text/html": self._shown._repr_html_(), "text/plain": repr(self._shown)}
        publish_display_data(bundle, transient={"display_id": self._id}, update=update)  # type: ignore[no-untyped-call]

    def _follow(self) -> None:
        assert self._look is not None
        pause = TICK
        # What another process does to a job has no event here.
        while not self._ended.wait(pause) and not _all_over(self._shown):
            pause = min(1.2 * pause, SLOWEST)
            try:
                now = self._look()
            except Exception:  # noqa: BLE001  the home is gone: in a thread, it would be printed into whatever cell ran last
                return
            # The same jobs: whoever wants newer ones runs the cell again.
            now = now.loc[now.index.intersection(self._shown.index, sort=False)]
            if not now.equals(self._shown):
                pause = TICK
                self._shown = JobList(now)
                self._publish(update=True)


def _all_over(jobs: pd.DataFrame) -> bool:
    return bool(jobs["status"].isin(OVER).all())


def jobs_html(jobs: pd.DataFrame) -> str:
    """
    Draw jobs, one a line.

    Parameters
    ----------
    jobs : pandas.DataFrame
        As ``dobatch.jobs()`` returns it.
    """
    if jobs.empty:
        return html.words_html("There is no job in this home yet; df.dobatch.submit(...) starts one.")
    now = time.time()
    first = jobs.head(MOST)
    rows = [
        _row(str(label), values, now)
        for label, values in zip(first.index, first.to_dict("records"), strict=True)
    ]
    more = f"<div>and {len(jobs) - MOST:,} more</div>" if len(jobs) > MOST else ""
    asked = ["rows", "requests"] if any(row["requests"] != row["rows"] for row in rows) else ["rows"]
    columns = ["job", "started", "status", "progress", *asked, "answered", "failed", "cost", "model", "into"]
    # Below the table: a column of sentences would be narrow, or push the others off the page.
    more += "".join(
        f'<div style="font-size:12px;overflow-wrap:anywhere">{html.plain(row["job"])}: {html.plain(row["problem"])}</div>'
        for row in rows
        if row["problem"]
    )
    caption = f"{text.counted(len(jobs), 'job')}; dobatch.attach(id) opens one"
    return html.table_html(rows, columns, caption=caption) + more


def jobs_text(jobs: pd.DataFrame) -> str:
    """Say the same in lines, for a terminal."""
    now = time.time()
    rows = [
        _row(str(label), values, now)
        for label, values in zip(jobs.index[:MOST], jobs.head(MOST).to_dict("records"), strict=True)
    ]
    shown = ["job", "started", "status", "rows", "answered", "failed", "cost", "model", "into"]
    table = pd.DataFrame([{name: "-" if row[name] is None else row[name] for name in shown} for row in rows])
    table["into"] = table["into"].map(_short)
    lines = [text.ascii_words(table.to_string(index=False))]
    lines += [f"{row['job']}: {row['problem']}" for row in rows if row["problem"]]
    return "\n".join([*lines, f"and {len(jobs) - MOST:,} more"] if len(jobs) > MOST else lines)


def spending_html(spent: pd.DataFrame) -> str:
    """
    Draw what was spent, a line a day, model or job, with the sum above.

    Parameters
    ----------
    spent : pandas.DataFrame
        As ``dobatch.spending()`` returns it.
    """
    by = str(spent.index.name)
    rows = [
        {
            by: html.Code(_short(f"{label:%a %d %b %Y}" if isinstance(label, pd.Timestamp) else str(label))),
            **{name.replace("_", " "): int(line[name]) for name in spent.columns if name in _SUMS - {"cost"}},
            "cost": html.Code(text.dollars(None if pd.isna(line["cost"]) else float(line["cost"]))),
        }
        for label, line in zip(spent.index, spent.to_dict("records"), strict=True)
    ]
    caption = text.counted(int(spent["jobs"].sum()), "job")
    if spent["cost"].isna().any():
        # Of a day with one unknown price no amount is known, so there is no sum either.
        caption += "; the price of some is not known: give it with dobatch.configure(prices=...)"
    else:
        caption = f"{text.dollars(float(spent['cost'].sum()))} for {caption}"
    more = f"<div>and {len(rows) - MOST:,} more</div>" if len(rows) > MOST else ""
    columns = list(rows[0]) if rows else [by]
    return html.table_html(rows[:MOST], columns, caption=caption) + more


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _row(label: str, values: dict[Any, Any], now: float) -> dict[str, Any]:
    cost, status, requests = values["cost"], str(values["status"]), int(values["requests"])
    # What was never run counts as failed in the list, and is none: the panel tells them apart.
    failed = None if status in ("cancelled", "expired") else int(values["failed"])
    done = int(values["completed"]) + int(values["reused"])
    if status == "completed" and failed:
        status = "all failed" if not done else "done, with failures"
    elif status == "completed":
        status = "done"
    return {
        "job": html.Code(label),
        "started": html.Code(text.moment(values["created"].timestamp(), now)),
        "status": html.Code(status),
        "progress": html.Bar(done, failed or 0, requests)
        if requests or status not in ("done", *OVER)
        else None,
        "rows": int(values["rows"]),
        "requests": requests,
        "answered": done,
        "failed": failed,
        "cost": html.Code("–" if pd.isna(cost) else text.dollars(float(cost))),
        "model": html.Code(_short(values["model"])),
        "into": values["into"],
        "problem": None if pd.isna(values.get("problem")) else values["problem"],
    }
