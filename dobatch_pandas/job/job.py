"""What was sent: a live view of one job, and the ways to get hold of it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pandas as pd

from dobatch_pandas.codes import RETRYABLE
from dobatch_pandas.config import settings
from dobatch_pandas.display.snapshot import BatchRow, Snapshot
from dobatch_pandas.errors import JobFailed, JobNotReady, WaitTimeout
from dobatch_pandas.questions.part_files import copy_lines
from dobatch_pandas.questions.recipe import Recipe

from .open_jobs import drop_runner, known_runner, runner_for, store_here
from .row_answers import JobAnswers
from .runner import Runner
from .status import snapshot_of
from .store import JobRecord, PartRecord, Store

if TYPE_CHECKING:
    from dobatch_pandas.prices import Usage

__all__ = ["Job", "attach"]


class Job:
    """
    One job: a view of its folder, and the handle of whatever moves it on.

    Get one from ``df.dobatch.submit(...)`` or ``dobatch.attach(id)``. Show it as a cell's last value for a
    live panel.

    Attributes
    ----------
    id : str
        Give it to ``dobatch.attach`` in any later session.
    recipe : Recipe
        What was asked of each row.
    """

    def __init__(self, store: Store, job_id: str, recipe: Recipe | None = None) -> None:
        record = store.job(job_id)
        self.id = job_id
        self.recipe = recipe or Recipe.from_json(json.loads(record.recipe))
        self._store = store

    # -- looking

    @property
    def _answers(self) -> JobAnswers:
        return JobAnswers(self._store, self.id, self.recipe)

    @property
    def _runner(self) -> Runner | None:
        return known_runner(self._store, self.id)

    def _records(self) -> tuple[JobRecord, dict[int, PartRecord]]:
        runner = self._runner
        if runner is not None and not runner.progress.elsewhere:
            with runner.progress.changed:
                return runner.progress.job, dict(runner.progress.parts)
        return self._store.job(self.id), {p.number: p for p in self._store.parts(self.id)}

    def snapshot(self) -> Snapshot:
        """Gather the numbers that every display draws; reads the ledger at most, never the network."""
        runner = self._runner
        return snapshot_of(*self._records(), runner.progress if runner is not None else None, self._store)

    @property
    def status(self) -> str:
        """One word: ``rendering``, ``uploading``, ``queued``, ``running`` ... ``completed``."""
        return self.snapshot().state

    @property
    def counts(self) -> dict[str, int]:
        """Requests so far: ``total``, ``completed``, ``failed``, ``reused``, and rows ``skipped``."""
        now = self.snapshot()
        return {
            "total": now.requests,
            "completed": now.completed + now.reused,
            "failed": now.failed,
            "reused": now.reused,
            "skipped": now.skipped,
        }

    @property
    def batches(self) -> pd.DataFrame:
        """The batches of this job, a row each."""
        rows = [vars(row) for row in self.snapshot().batches]
        frame = pd.DataFrame(rows, columns=list(BatchRow.__dataclass_fields__))
        for name in ("created_at", "deadline"):
            frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
        return frame

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """
        Have ``callback()`` called, from a thread of ours, whenever the snapshot may have changed.

        Returns
        -------
        callable
            Ends the subscription.
        """
        runner = self._runner
        if runner is None:
            return lambda: None
        progress = runner.progress
        with progress.changed:
            progress.listeners.append(callback)

        def unsubscribe() -> None:
            with progress.changed:
                if callback in progress.listeners:
                    progress.listeners.remove(callback)

        return unsubscribe

    def __repr__(self) -> str:
        from dobatch_pandas.display.text import describe

        return f"<Job {self.id}: {describe(self.snapshot())}>"

    def _repr_html_(self) -> str:
        from dobatch_pandas.display.html import static_html

        return static_html(self.snapshot())

    def _ipython_display_(self) -> None:
        from dobatch_pandas.display import show

        show(self)

    # -- waiting

    def wait(self, timeout: float | None = None, *, display: Any = None) -> Job:
        """
        Wait until the job is over, with progress, and return it.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as it takes.
        display : bool, "widget" or "bar", optional
            What to show; None follows ``dobatch.configure(display=...)``.

        Raises
        ------
        WaitTimeout
            The job goes on.
        JobFailed
            The service refused the whole job.
        KeyboardInterrupt
            On Ctrl+C or the stop button; the job goes on.
        """
        from dobatch_pandas.display import progress

        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with progress(self, display):
                self._wait_until(deadline, timeout)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._stopped_waiting()) from None
        return self._checked()

    def _wait_until(self, deadline: float | None, timeout: float | None) -> None:
        runner = self.resume()
        if runner is None:
            return
        with runner.progress.changed:
            while not _over(runner):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise WaitTimeout(
                        f"Job {self.id} is not over after {timeout:g} s ({self.status}); it goes on. "
                        "Wait again with job.wait().",
                        self.id,
                    )
                runner.progress.changed.wait(left)

    def sent(self) -> Job:
        """Wait until the service has everything; the answers are not waited for."""
        runner = self.resume(send_only=True)
        if runner is not None:
            with runner.progress.changed:
                while runner.sending and runner.progress.crash is None:
                    runner.progress.changed.wait(1.0)
        return self._checked()

    def _stopped_waiting(self) -> str:
        return (
            f"Stopped waiting; job {self.id} goes on. Come back with dobatch.attach({self.id!r}), "
            f"cancel it with dobatch.attach({self.id!r}).cancel()."
        )

    def _checked(self) -> Job:
        runner = self._runner
        crash = runner.progress.crash if runner is not None else None
        if crash is not None:
            raise JobFailed(
                f"Job {self.id} stopped: {type(crash).__name__}: {crash} Nothing that was sent is lost; go on with "
                f"dobatch.attach({self.id!r}).",
                self.id,
            ) from crash
        record = self._store.job(self.id)
        if record.state == "failed":
            raise JobFailed(
                f"Job {self.id} failed: {record.problem} Ask anew with submit(..., fresh=True), or send the "
                "failed requests again with job.retry().",
                self.id,
            )
        return self

    def __await__(self) -> Generator[Any, None, Job]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> Job:
        runner = self.resume()
        if runner is not None:
            loop = asyncio.get_running_loop()
            news = asyncio.Event()
            unsubscribe = self.subscribe(lambda: _set(loop, news))
            try:
                while not _over(runner):
                    await news.wait()
                    news.clear()
            finally:
                unsubscribe()
        return self._checked()

    def resume(self, *, send_only: bool = False) -> Runner | None:
        """Have the job moved on in this process; None where there is nothing to do."""
        return runner_for(self._store, self.id, self.recipe, send_only=send_only)

    # -- acting

    def cancel(self) -> Job:
        """
        Cancel every batch, and send nothing more; what has been answered stays.

        Returns at once. ``job.wait()`` waits until requests in flight have ended, and ``job.counts`` then
        tells what was finished.
        """
        if self._store.job(self.id).ended is None:
            runner = self.resume()
            if runner is not None and not runner.progress.elsewhere:
                runner.cancel()
            else:
                # The process that moves the job looks here.
                self._store.update_job(self.id, cancel_requested=1)
        return self

    def retry(self) -> int:
        """
        Send again the requests that failed for a reason that can change; what succeeded stays.

        Returns
        -------
        int
            Requests sent again.

        Raises
        ------
        JobNotReady
            The job is not over.
        """
        record = self._store.job(self.id)
        if record.ended is None:
            raise JobNotReady(
                f"Job {self.id} is not over ({self.status}): retry it after job.wait().", self.id
            )
        ids = self._answers.retryable()
        if not len(ids):
            return 0
        folder, parts = self._store.folder(self.id), self._store.parts(self.id)
        again_round = 1 + max(part.retry for part in parts)
        written = copy_lines(
            [folder.part(part.number) for part in parts],
            ids,
            folder.parts,
            self.recipe,
            first_part=len(parts),
        )
        self._store.reopen(
            self.id,
            [
                PartRecord(
                    self.id, part.number, str(uuid.uuid4()), part.requests, part.bytes, retry=again_round
                )
                for part in written
            ],
            RETRYABLE,
        )
        drop_runner(self._store, self.id)
        self.resume()
        return len(ids)

    def forget(self) -> None:
        """Delete the job with everything it has on disk; what the service has stays there."""
        drop_runner(self._store, self.id)
        self._store.forget(self.id)

    # -- answers

    def result(self) -> pd.DataFrame:
        """
        Wait, and return the answer columns that `join` would add, one row a row of the submitted frame.

        Returns
        -------
        pandas.DataFrame
            Indexed as the frame: ``into`` or the fields of the schema, and ``<into>_error``.
        """
        self.wait()
        return self._answers.of_rows()

    def responses(self) -> pd.DataFrame:
        """
        Wait, and return everything that is known of each row's answer.

        Returns
        -------
        pandas.DataFrame
            Indexed as the frame: custom_id, status, text, finish_reason, model, prompt_tokens,
            completion_tokens, cached_tokens, request_id, error_code, error_message, batch_id.
        """
        self.wait()
        return self._answers.responses()

    def errors(self) -> pd.DataFrame:
        """Wait, and return the rows of `responses` that failed."""
        responses = self.responses()
        return responses[responses["error_code"].notna()]

    def usage(self) -> Usage:
        """
        Tokens and cost of what has been answered so far, as the service reported them.

        Returns
        -------
        Usage
        """
        from dobatch_pandas.prices import usage_of

        spent = self._answers.tokens()
        return usage_of(spent, self.recipe.model, self.recipe.provider, overrides=settings().prices)

    def join(self, frame: pd.DataFrame) -> dict[str, pd.Series]:
        """Wait, and return the columns to add to a frame, matched by what each of its rows asks."""
        self.wait()
        return self._answers.for_frame(frame)


def _set(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    loop.call_soon_threadsafe(news.set)


def _over(runner: Runner) -> bool:
    progress = runner.progress
    return progress.job.ended is not None or progress.crash is not None or not runner.alive


def attach(job_id: str) -> Job:
    """
    Return a job of any earlier session, and have it moved on if it is not over.

    Parameters
    ----------
    job_id : str
        As ``job.id`` showed it; ``dobatch.jobs()`` lists all.

    Raises
    ------
    JobNotFound
        This home has no such job.
    """
    job = Job(store_here(), job_id)
    job.resume()
    return job
