"""What was sent: a live view of one job, and the ways to get hold of it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .config import settings
from .errors import (
    InputError,
    JobFailed,
    JobNotReady,
    WaitTimeout,
)
from .input_file import fingerprint_of, index_of, labels_of
from .join import ANSWER_COLUMNS, answer_columns, response_columns
from .part_results import TOKENS
from .recipe import Recipe
from .requests_file import copy_lines, ids_of
from .results_file import RETRYABLE, merge_results
from .runner import Runner
from .session import drop_runner, known_runner, runner_for, store_here
from .snapshot import BatchRow, Snapshot
from .status import snapshot_of
from .store import JobRecord, PartRecord, Store

if TYPE_CHECKING:
    from .estimate import Usage

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
        from .display.text import describe

        return f"<Job {self.id}: {describe(self.snapshot())}>"

    def _repr_html_(self) -> str:
        from .display.html import static_html

        return static_html(self.snapshot())

    def _ipython_display_(self) -> None:
        from .display import show

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
        from .display import progress

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
        results = self._results(["custom_id", "status", "error_code"])
        again = pc.and_(
            pc.equal(results["status"], "failed"),
            pc.is_in(results["error_code"], value_set=pa.array(sorted(RETRYABLE))),
        )
        ids = results["custom_id"].filter(again).combine_chunks()
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
        ids, fates, index = self._asked()
        results = self._results(ANSWER_COLUMNS)
        columns = answer_columns(ids, fates, results, index=index, **self._answer_options())
        return pd.DataFrame(columns, index=index)

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
        ids, fates, index = self._asked()
        return response_columns(ids, fates, self._results(), index=index, **self._answer_options())

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
        from .estimate import usage_of

        files = self._store.folder(self.id).result_files()
        mine = [pq.read_table(file, columns=TOKENS) for file in files if file.name != "reused.parquet"]
        return usage_of(mine, self.recipe.model, self.recipe.provider, overrides=settings().prices)

    def join(self, frame: pd.DataFrame) -> dict[str, pd.Series]:
        """Wait, and return the columns to add to a frame, matched by what each of its rows asks."""
        self.wait()
        with ThreadPoolExecutor(1, "dobatch-join") as pool:
            reading = pool.submit(self._results, ANSWER_COLUMNS)
            ids, fates = self._ids_for(frame)
            results = reading.result()
        return answer_columns(ids, fates, results, index=frame.index, **self._answer_options())

    def _answer_options(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "into": recipe.into,
            "samples": recipe.samples,
            "json_schema": recipe.schema,
            "flatten": recipe.flatten,
        }

    def _results(self, columns: list[str] | None = None) -> pa.Table:
        """One result for each request that was sent or reused."""
        files = self._store.folder(self.id).result_files()
        tables = [pq.read_table(file, columns=columns) for file in files]
        if not tables:
            return merge_results([])
        if not any(part.retry for part in self._store.parts(self.id)):
            # Every id is in just one part.
            return pa.concat_tables(tables, promote_options="default")
        return merge_results(tables)

    def _asked(self) -> tuple[Any, Any, pd.Index]:
        manifest = pq.read_table(self._store.folder(self.id).manifest)
        every = self.recipe.samples
        labels = manifest.take(pa.array(range(0, len(manifest), every))) if every > 1 else manifest
        return manifest["custom_id"], manifest["fate"], index_of(labels)

    def _ids_for(self, frame: pd.DataFrame) -> tuple[Any, Any]:
        """Find each row's request: by what it asks, or by its label where only a label tells."""
        recipe = self.recipe
        missing = [column for column in recipe.columns if column not in frame.columns]
        if recipe.portable and not missing:
            # A row that was added since may lack a value: it was not asked, which is no error here.
            lenient = replace(recipe, missing="skip") if recipe.missing == "error" else recipe
            record = self._store.job(self.id)
            same_size = len(frame) == record.rows and record.source is None
            if same_size and fingerprint_of(frame, recipe, record.base_url, lenient) == record.fingerprint:
                # The very rows that were submitted, most often: their ids are on disk.
                return self._asked()[:2]
            return ids_of(frame, lenient)
        ids, fates, index = self._asked()
        if len(index) == len(frame) and index.equals(index_of(labels_of(frame.index))):
            return ids, fates
        if not index.is_unique:
            why = (
                f"its columns {missing} are gone"
                if missing
                else "its prompts were made by a function or a Series"
            )
            raise InputError(
                f"Cannot tell which rows of this frame job {self.id} answered: {why}, the index is another one "
                "than at submit, and its labels repeat. Join to the frame that was submitted, or take job.result(), "
                "which has the answers on the labels of submit."
            )
        place = index.get_indexer(index_of(labels_of(frame.index)))
        rows = pa.array(
            [None if p < 0 else p * recipe.samples + s for p in place for s in range(recipe.samples)]
        )
        return ids.take(rows), fates.take(rows)


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
