"""What was sent: a live view of one job, and the ways to get hold of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import orjson
import pandas as pd

from dobatch_pandas.codes import EXPLANATIONS, RETRYABLE
from dobatch_pandas.config import OnEnd, settings
from dobatch_pandas.display.snapshot import BatchRow, Snapshot
from dobatch_pandas.errors import (
    BudgetExceeded,
    ConfigurationError,
    DobatchError,
    InputError,
    JobFailed,
    JobNotFound,
    JobNotReady,
    StoppedWaiting,
    WaitTimeout,
)
from dobatch_pandas.estimate import checked_max_cost
from dobatch_pandas.prices import Usage, usage_of, usage_of_sums
from dobatch_pandas.questions.part_files import copy_lines, find_lines
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client

from .account import account_here
from .budget import bounds_of
from .claim import give_up
from .deadline import margin_until, moment_of
from .ending import tell_at_the_end
from .folder import disk_in_words
from .home import Home
from .journal import Journal
from .machine import (
    Allow,
    AskAgain,
    Cancel,
    FinishBy,
    Part,
    Retried,
    State,
    allowed,
    next_number,
    problem_of,
    retried,
    unbounded,
)
from .process import drop, home_here, keep_alive, live_of, post, take_up, tell, wake
from .render import record_part
from .result_files import TOKENS
from .row_answers import Arrivals, Early, JobAnswers
from .rows import RowRecord
from .spent import Spent
from .status import snapshot_of, word_of
from .store import Store
from .work import OpenJob

if TYPE_CHECKING:
    from .cluster import ClusterJob

__all__ = ["Job", "attach", "follow"]

log = logging.getLogger("dobatch_pandas")

P = ParamSpec("P")
T = TypeVar("T")


def _in_words(method: Callable[Concatenate[Job, P], T]) -> Callable[Concatenate[Job, P], T]:
    """Have what this machine cannot read or write of a job told as an error of ours."""

    @functools.wraps(method)
    def told(job: Job, /, *args: P.args, **options: P.kwargs) -> T:
        with disk_in_words(job._folder.root):
            return method(job, *args, **options)

    return told


TAKEN_IN = 30.0  # seconds until another process should have taken in what it is asked
ASKED_AGAIN = 60.0  # seconds that a look waits for results which were given up before


class Job:
    """
    One job: a view of its folder, and the handle of whatever moves it on.

    Get one from ``df.dobatch.submit(...)`` or ``dobatch.attach(id)``. Show it as a cell's last value for a
    live panel. It can be pickled and copied: both stand for the same job.

    Attributes
    ----------
    id : str
        Give it to ``dobatch.attach`` in any later session.
    recipe : Recipe
        What was asked of each row.
    """

    def __init__(self, home: Home, job_id: str, recipe: Recipe | None = None) -> None:
        record = home.record(job_id)
        self.id = job_id
        self._home, self._record, self._known_recipe = home, record, recipe
        self._folder = home.folder(job_id)
        self._rows: RowRecord | None = None

    @property
    def recipe(self) -> Recipe:
        if self._known_recipe is None:
            self._known_recipe = Recipe.from_json(orjson.loads(self._record.recipe))
        return self._known_recipe

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (str(self._home.path), self.id)

    # -- looking

    @property
    def _live(self) -> OpenJob | None:
        return live_of(self._home, self.id)

    @property
    def _state(self) -> State:
        live = self._live
        if live is not None and not live.elsewhere:
            return live.state
        state = self._folder.state()
        if not self._folder.exists:
            # A journal that is not there reads as one that is empty.
            raise JobNotFound(
                f"Job {self.id} is deleted: nothing of it is on this machine any more.", self.id
            )
        return state

    def _answers(self, state: State | None = None) -> JobAnswers:
        """What has been answered, as the job stands now, or stood in a state."""
        kind = JobAnswers
        if self._record.cluster is not None:
            from .cluster_answers import AnswersOfCluster

            kind = AnswersOfCluster
        return kind(self._folder, self._record, self.recipe, state or self._state, self._rows)

    @_in_words
    def know(self, rows: RowRecord) -> None:
        """Answer for the rows of the frame that was submitted now, of which this job is one of an earlier submit."""
        self._rows = rows
        rows.write(self._folder.rows)

    @_in_words
    def snapshot(self) -> Snapshot:
        """Gather the numbers that every display draws; reads the job's folder at most, never the network."""
        return snapshot_of(self._record, self._state, self._live, self._folder)

    @property
    @_in_words
    def status(self) -> str:
        """One word: ``rendering``, ``uploading``, ``queued``, ``running`` ... ``completed``."""
        return word_of(self._state, self._live)

    @property
    @_in_words
    def counts(self) -> dict[str, int]:
        """Requests so far: ``total``, ``completed``, ``failed``, ``reused``, and rows ``skipped``."""
        now = snapshot_of(self._record, self._state, self._live, self._folder, priced=False)
        return {
            "total": now.requests,
            "completed": now.completed + now.reused,
            "failed": now.failed,
            "reused": now.reused,
            "skipped": now.skipped,
        }

    @property
    @_in_words
    def batches(self) -> pd.DataFrame:
        """The batches of this job, a row each."""
        rows = [
            vars(row)
            for row in snapshot_of(self._record, self._state, self._live, self._folder, priced=False).batches
        ]
        frame = pd.DataFrame(rows, columns=list(BatchRow.__dataclass_fields__))
        for name in ("created_at", "deadline"):
            frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
        return frame

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """
        Have ``callback()`` called, from a thread of its own, whenever the snapshot may have changed.

        It may take its time, look at the job and raise: the job goes on all the same.

        Returns
        -------
        callable
            Ends the subscription.
        """
        if not callable(callback):
            raise InputError(f"callback is {callback!r:.80}; it takes a function without arguments.")
        live = self._live
        if live is None:
            return lambda: None
        listener = _Listener(callback)
        with live.changed:
            live.listeners.append(listener)

        def unsubscribe() -> None:
            with live.changed:
                if listener in live.listeners:
                    live.listeners.remove(listener)

        return unsubscribe

    def on_end(self, on_end: OnEnd) -> Job:
        """
        Have the end of the job told, once; at once where it is over already.

        What this takes its time, is down, or raises: the job goes on all the same, and its picture says so.

        Parameters
        ----------
        on_end : callable or str
            A function that takes the job, called in a thread of its own; a URL that gets JSON; or ``"desktop"``.
        """
        self.resume()
        tell_at_the_end(self._home, self.id, on_end, over=lambda: self._state.ended is not None)
        return self

    def __repr__(self) -> str:
        from dobatch_pandas.display.text import describe

        try:
            return f"<Job {self.id}: {describe(self.snapshot())}>"
        except JobNotFound:
            return f"<Job {self.id}: deleted from this machine>"
        except Exception as error:  # noqa: BLE001  a repr that raises hides whatever it is printed beside
            return f"<Job {self.id}: cannot be read: {error}>"

    def _repr_html_(self) -> str:
        from dobatch_pandas.display.html import static_html, words_html

        try:
            return static_html(self.snapshot())
        except Exception:  # noqa: BLE001  deleted, moved or unreadable: in words, then
            return words_html(repr(self))

    def _ipython_display_(self) -> None:
        from dobatch_pandas.display import show

        show(self)

    def _display_(self) -> Any:
        """What marimo shows."""
        from dobatch_pandas.display.marimo_panel import view

        return view(self)

    # -- waiting

    @_in_words
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
            There is no answer at all, or the job cannot go on by itself.
        BudgetExceeded
            What is left to send would cost more than ``max_cost`` allows.
        StoppedWaiting
            A KeyboardInterrupt, on Ctrl+C or the stop button; the job continues.
        """
        self._waited(_is_still, timeout, display)
        return self._checked()

    @_in_words
    def advance(self, timeout: float | None = None) -> Job:
        """
        Do all that can be done for the job at this moment, and return it: for scripts that come back later.

        What is left is sent, each batch is looked at once, and what has ended is brought in. Where another process moves
        the job on, nothing is done.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None takes as long as the sending takes.

        Raises
        ------
        WaitTimeout
            It is still being sent or brought in; the job goes on.
        """
        live = self.resume()
        if live is not None and not live.elsewhere:
            wake(live)
            asked = time.monotonic()
            self._wait_until(lambda live: _is_still(live) or _is_up_to_date(live, asked), timeout)
        return self

    def _waited(
        self,
        enough: Callable[[OpenJob], bool],
        timeout: float | None = None,
        display: Any = None,
        early: Early | None = None,
    ) -> None:
        from dobatch_pandas.display import progress

        try:
            with progress(self, display):
                if early is not None:
                    self._look_ahead(early)
                self._wait_until(enough, timeout)
        except KeyboardInterrupt:
            raise StoppedWaiting(self._stopped_waiting()) from None

    def _look_ahead(self, early: Early) -> None:
        """Do what a join has to do as soon as it can be done, while the service is at work on the rest."""
        self._wait_until(lambda live: live.state.all_sent or _is_still(live), None)
        while (live := self._live) is not None and not _is_still(live):
            read = _read_so_far(live)
            early.look(self._answers())
            self._wait_until(lambda live, read=read: _read_so_far(live) > read or _is_still(live), None)  # type: ignore[misc]

    def _wait_until(self, enough: Callable[[OpenJob], bool], timeout: float | None) -> None:
        timeout = _seconds(timeout)
        live = self.resume()
        if live is None:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        with live.changed:
            while not enough(live):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    words = live.problem or ("Another process moves it on." if live.elsewhere else "")
                    why = f" {words}" if words else ""
                    raise WaitTimeout(
                        f"Job {self.id} is not over after {timeout:g} s ({self.status}); it continues.{why} "
                        "Wait again with job.wait().",
                        self.id,
                    )
                live.changed.wait(None if left is None else min(left, threading.TIMEOUT_MAX))

    @_in_words
    def sent(self) -> Job:
        """Wait until the service has everything; the answers are not waited for."""
        self.resume(send_only=True)
        live = self._live
        if live is not None:
            with live.changed:
                live.changed.wait_for(lambda: live.state.all_sent or _is_still(live))
        return self._checked()

    def _stopped_waiting(self) -> str:
        return (
            f"Stopped waiting; job {self.id} continues. Come back with dobatch.attach({self.id!r}), "
            f"cancel it with dobatch.attach({self.id!r}).cancel()."
        )

    def _checked(self) -> Job:
        live = self._live
        if live is not None and live.broken is not None:
            raise JobFailed(f"Job {self.id} stopped: {live.broken}", self.id)
        state = self._state
        if state.outcome == "failed":
            raise JobFailed(
                f"Job {self.id} failed: {state.problem} Send the requests again with job.retry() once the cause is gone, "
                "or ask again with submit(..., fresh=True).",
                self.id,
            )
        words, for_a_person = problem_of(state)
        if state.ended is None and for_a_person and _is_still_for_good(state):
            if any(part.waits == "budget" for part in state.parts.values()):
                raise BudgetExceeded(f"Job {self.id} is held: {words}", self.id)
            raise JobFailed(
                f"Job {self.id} stopped: {words} Nothing that was sent is lost; continue with dobatch.attach({self.id!r}).",
                self.id,
            )
        return self

    def __await__(self) -> Generator[Any, None, Job]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> Job:
        live = self.resume()
        if live is not None:
            loop = asyncio.get_running_loop()
            news = asyncio.Event()
            unsubscribe = self.subscribe(lambda: _set(loop, news))
            try:
                while not _is_still(live):
                    await news.wait()
                    news.clear()
            finally:
                unsubscribe()
        return self._checked()

    def resume(self, *, send_only: bool = False) -> OpenJob | None:
        """Have the job moved on in this process; None where there is nothing to do."""
        return take_up(self._home, self.id, send_only=send_only)

    def _ask_again(self) -> None:
        """Ask once more for results that were given up; what comes is read, what does not leaves all as it is."""
        if not any(part.provisional and part.final for part in self._state.parts.values()):
            return
        live = take_up(self._home, self.id, over=True)
        if live is None:
            return
        if live.state.ended is not None:
            post(live, AskAgain())
        with live.changed:
            live.changed.wait_for(lambda: _is_still(live), ASKED_AGAIN)

    # -- acting

    @_in_words
    def cancel(self) -> Job:
        """
        Cancel every batch, and send nothing more; what has been answered stays.

        Returns at once. ``job.wait()`` waits until requests in flight have ended, and ``job.counts`` then
        tells what was finished.
        """
        if self._state.ended is None:
            # On disk first: whichever process moves the job looks here, now or when it takes it up.
            self._folder.ask_cancel()
            live = self.resume()
            if live is not None and not live.elsewhere:
                tell(live, Cancel())
                keep_alive()
        return self

    @_in_words
    def allow(self, max_cost: float | None) -> Job:
        """
        Set another limit of what the job may cost; parts that were held for it go on.

        It holds when this returns, also where another process moves the job on: that one is asked to set it.

        Parameters
        ----------
        max_cost : float or None
            US dollars; None takes the limit away.

        Raises
        ------
        JobNotReady
            The other process has not set it within half a minute. It does when it goes on.
        """
        max_cost = checked_max_cost(max_cost)
        self._limit(max_cost)
        self.resume()
        return self

    @_in_words
    def _limit(self, max_cost: float | None) -> None:
        """Write down what the job may cost, before anything more of it is sent."""
        if max_cost is not None and self._state.ended is None and not self._is_bounded(self._state):
            raise InputError(
                f"Job {self.id} was submitted without max_cost, so nobody has counted what its parts may cost. Cancel "
                "it, and submit it again with max_cost."
            )
        limit = Allow(max_cost, () if max_cost is None else self._bounds_found(self._state))
        live = self._live
        if live is not None and live.broken is not None:
            drop(self._home, self.id)  # it takes nothing in any more
        elif live is not None and not live.elsewhere:
            tell(live, limit)
            if not live.gone:
                return
        # On disk first: whichever process moves the job looks here, now or when it takes it up.
        self._folder.ask_limit(limit)
        end = time.monotonic() + TAKEN_IN
        while self._folder.limit_waits:
            lock = self._folder.try_lock()
            if lock is not None:
                try:
                    self._set_limits()
                finally:
                    lock.release()
            elif time.monotonic() > end:
                raise JobNotReady(
                    f"The process that moves job {self.id} on has not taken in the limit within {TAKEN_IN:.0f} s. It "
                    "waits there, and holds as soon as that process, or the next one, continues.",
                    self.id,
                )
            else:
                time.sleep(0.05)  # of another process nothing is heard

    def _bounds_found(self, state: State) -> tuple[tuple[int, float | None, float | None], ...]:
        """Count what parts may cost at most of which nobody could say so: the price of their model may be known by now."""
        record, found = self._record, []
        for number in unbounded(state):
            if record.cluster is not None:
                batch, now = self._cluster().bound_of(number), None
            else:
                batch, now = bounds_of(
                    self._folder.part(number), record.model, record.provider, record.endpoint
                )
            found.append((number, batch, now))
        return tuple(found)

    def _set_limits(self) -> None:
        """Write down the limits that were asked for, while no other process moves the job."""
        journal = self._folder.journal()
        state = journal.load()
        while (limit := self._folder.limit_asked()) is not None:
            after = allowed(state, limit)
            journal.record(state, after)
            self._folder.limit_heeded()
            state = after

    def _is_bounded(self, state: State) -> bool:
        """Whether it is counted what each part may cost: a limit that was taken away may come back."""
        return self._record.max_cost is not None or state.max_cost is not None

    @_in_words
    def finish_by(self, deadline: Any) -> Job:
        """
        Set when the job is to be done, or another time: what its batches have not done by the last safe moment is asked in real time.

        Parameters
        ----------
        deadline : time, datetime, timedelta, str, float or None
            As `submit` takes it, or Unix seconds; None lets its batches take the time that they take.
        """
        if self._record.cluster is not None:
            raise InputError(
                f"Job {self.id} asks rows of a Dask frame, which have no real time: leave out finish_by."
            )
        moment = None
        if deadline is not None:
            moment = moment_of(deadline, seconds=True)
        live = take_up(self._home, self.id)
        if live is None:
            return self
        if live.elsewhere:
            raise JobNotReady(f"Job {self.id} is moved on by another process: finish_by(...) there.", self.id)
        tell(live, FinishBy(moment, 0.0 if moment is None else margin_until(moment)))
        return self

    @_in_words
    def retry(self, codes: Collection[str] | None = None) -> int:
        """
        Send again the requests that failed for a reason that can change; what succeeded stays.

        Results that the service has not given so far are asked for first: what comes is not sent again.

        Parameters
        ----------
        codes : collection of str, optional
            Which failures; by default those that another try may mend, see ``docs/errors``.

        Returns
        -------
        int
            Requests sent again.

        Raises
        ------
        JobNotReady
            The job is not over.
        """
        given = [codes] if isinstance(codes, str) else codes
        if given is not None and not (
            isinstance(given, Iterable) and all(isinstance(code, str) for code in given)
        ):
            raise InputError(
                f"codes is {codes!r}; it takes codes such as 'expired', as job.errors() has them."
            )
        chosen = RETRYABLE if given is None else frozenset(given)
        unknown = sorted(code for code in chosen - set(EXPLANATIONS) if not code.startswith("http_"))
        if unknown:
            raise InputError(
                f"There are no codes {', '.join(map(repr, unknown))}; dobatch.RETRYABLE has those of a retry."
            )
        with _retrying(self._home.path, self.id):
            self._ask_again()
            state = self._state
            if state.ended is None:
                raise JobNotReady(
                    f"Job {self.id} is not over ({self.status}): retry it after job.wait().", self.id
                )
            sent = self._sent_again(chosen)
        self.resume()
        return sent

    def _sent_again(self, codes: frozenset[str]) -> int:
        """Put failed requests into new parts, while no other process can; return how many."""
        lock = self._folder.try_lock()
        if lock is None:
            raise JobNotReady(f"Another process has job {self.id} in hand: wait for it, then retry.", self.id)
        try:
            journal = self._folder.journal()
            state = journal.load()
            ids = self._answers(state).failed_with(codes)
            if state.ended is None or not len(ids):
                return 0
            if self._record.cluster is not None:
                return self._asked_again_by_workers(journal, state, ids, codes)
            folder = self._folder
            written = copy_lines(
                [folder.part(number) for number in state.parts],
                ids,
                folder.parts,
                self.recipe,
                first_part=next_number(state.parts),
            )
            again = 1 + max((part.round for part in state.parts.values()), default=0)
            bounded = self._is_bounded(state) or state.asks_now
            parts = tuple(
                record_part(folder, self._record, part, bounded=bounded, again=again) for part in written
            )
            self._go_on(journal, state, parts, codes)
            return len(ids)
        finally:
            lock.release()

    def _asked_again_by_workers(self, journal: Journal, state: State, ids: Any, codes: frozenset[str]) -> int:
        first = next_number(state.parts)
        parts = self._cluster().again(state, ids, first, bounded=self._is_bounded(state))
        if not parts:
            return 0
        self._go_on(journal, state, parts, codes)
        return sum(part.requests for part in parts)

    def _go_on(self, journal: Journal, state: State, parts: tuple[Part, ...], codes: frozenset[str]) -> None:
        self._folder.cancel_path.unlink(missing_ok=True)
        after = retried(state, Retried(parts, codes))
        journal.record(state, after)
        self._home.update(self._record, after)

    def _cluster(self) -> ClusterJob:
        from .cluster import ClusterJob

        return ClusterJob(self._folder, self.recipe)

    @_in_words
    def forget(self) -> None:
        """
        Delete the job with everything it has on disk; what the service has stays there.

        Raises
        ------
        JobNotReady
            It is being moved on, here or by another process, or batches of it may be running: cancel it first.
        """
        live = self._live
        if live is not None and self._folder.exists and self._state.ended is None:
            raise JobNotReady(
                f"Job {self.id} is not over ({self.status}): job.cancel(), then job.wait(), then forget it.",
                self.id,
            )
        drop(self._home, self.id)
        if not self._folder.exists:
            self._home.forget(self.id)
            return
        lock = self._folder.try_lock()
        if lock is None:
            raise JobNotReady(
                f"Another process moves job {self.id} on. Cancel it first: dobatch cancel {self.id}", self.id
            )
        try:
            self._cancel_running()
            self._leave_output()
            self._home.forget(self.id)
            store = settings().store
            if self._record.cluster is not None and store is not None:
                Store(store).forget(self.id)
        finally:
            lock.release()

    def _leave_output(self) -> None:
        output = orjson.loads(self._record.source or b"{}").get("output")
        if output is not None:
            try:
                give_up(output, self.id)
            except OSError as error:
                log.warning("%s is still taken by the forgotten job %s: %s", output, self.id, error)

    def _cancel_running(self) -> None:
        """Cancel what may be running, as far as the service can be asked: nobody would know of it any more."""
        try:
            running = [part for part in self._folder.state().parts.values() if part.open and part.batch_id]
        except ConfigurationError as error:
            log.warning("nobody knows which batches of the forgotten job %s may run on: %s", self.id, error)
            return
        if not running or self._record.base_url != settings().base_url:
            return
        with Client(retries=0, connect_timeout=3.0, timeout=10.0, budget=10.0) as client:
            for part in running:
                try:
                    client.cancel_batch(part.batch_id or "")
                except DobatchError as error:
                    log.warning(
                        "batch %s of the forgotten job %s may run on: %s", part.batch_id, self.id, error
                    )

    # -- answers

    @_in_words
    def result(self, *, wait: bool = True) -> pd.DataFrame:
        """
        Return the answer columns that `join` would add, one row a row of the submitted frame.

        Parameters
        ----------
        wait : bool
            Wait for the job; else take what is there, with the code ``pending`` on the rest.

        Returns
        -------
        pandas.DataFrame
            Indexed as the frame: ``into`` or the fields of the schema, and ``<into>_error``.
        """
        self._ready(wait)
        return self._answers().of_rows()

    @_in_words
    def responses(self, *, wait: bool = True) -> pd.DataFrame:
        """
        Return everything that is known of each row's answer.

        Parameters
        ----------
        wait : bool
            Wait for the job; else take what is there, with the code ``pending`` on the rest.

        Returns
        -------
        pandas.DataFrame
            Indexed as the frame: custom_id, status, text, finish_reason, model, prompt_tokens,
            completion_tokens, cached_tokens, request_id, error_code, error_message, batch_id.
        """
        self._ready(wait)
        return self._answers().responses()

    @_in_words
    def responses_for(self, frame: pd.DataFrame) -> pd.DataFrame:
        """
        Return what `responses` does, for the rows of any frame: waits, and matches as ``join`` does.

        Parameters
        ----------
        frame : pandas.DataFrame
            With the columns that were asked about; its rows may be others, or in another order.

        Returns
        -------
        pandas.DataFrame
            As that of `responses`, indexed as `frame`.
        """
        self._ready(wait=True)
        return self._answers().responses_for(frame)

    @_in_words
    def errors(self, *, wait: bool = True) -> pd.DataFrame:
        """Return the rows of `responses` that failed."""
        self._ready(wait)
        return self._answers().failures()

    @_in_words
    def requests(self, custom_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """
        Return what was asked: the bodies of some requests, as they were sent.

        Parameters
        ----------
        custom_ids : collection of str
            As `responses` and `errors` have them.

        Returns
        -------
        dict of str to dict
            An id that this job has not sent is left out.
        """
        if self._record.cluster is not None:
            raise InputError(
                f"What job {self.id} asks lies with the workers of its Dask frame alone: ddf.dobatch.plan(...).preview() shows "
                "requests as they are sent."
            )
        given = [custom_ids] if isinstance(custom_ids, str) else custom_ids
        ids = list(given) if isinstance(given, Iterable) else [None]
        if not all(isinstance(custom_id, str) for custom_id in ids):
            raise InputError(
                f"custom_ids is {custom_ids!r:.80}; it takes ids of requests, as job.responses() has them."
            )
        parts = [self._folder.part(number) for number in self._state.parts]
        lines = find_lines([part for part in parts if part.exists()], ids)
        bodies = {name: orjson.loads(line) for name, line in lines.items()}
        return {name: body.get("body", body.get("params")) for name, body in bodies.items()}

    @_in_words
    def usage(self) -> Usage:
        """
        Tokens and cost of what has been answered so far, as the service reported them.

        Returns
        -------
        Usage
            Of a job that is over ``cost`` is what it cost, by the prices of the time; the rest is by those of now.
        """
        usage = self._usage()
        if self._state.ended is None:
            return usage
        spent = Spent.of(list(self._state.parts.values()))
        return replace(usage, cost=spent.dollars(self._record.model, self._record.provider))

    def _usage(self) -> Usage:
        if self._record.cluster is not None:
            return self._usage_of_parts()
        answers, record, prices = self._answers(), self._record, settings().prices
        batches, now = (
            usage_of(answers.tokens(live=live), record.model, record.provider, overrides=prices)
            for live in (False, True)
        )
        return batches if not now.requests else batches.beside(now)

    def _usage_of_parts(self) -> Usage:
        read = [part for part in self._state.parts.values() if part.final]
        tokens = {name: sum(getattr(part, name) for part in read) for name in TOKENS}
        requests = sum(part.requests for part in read)
        record = self._record
        return usage_of_sums(requests, tokens, record.model, record.provider, overrides=settings().prices)

    @_in_words
    def join(self, frame: pd.DataFrame, *, wait: bool = True) -> dict[str, pd.Series]:
        """
        Return the columns to add to a frame, matched by what each of its rows asks.

        Parameters
        ----------
        frame : pandas.DataFrame
        wait : bool
            Wait for the job; else take what is there, with the code ``pending`` on the rest.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"job.join takes a DataFrame, not {type(frame).__name__}.")
        early = Early(frame)
        self._ready(wait, early)
        return self._answers().for_frame(frame, early)

    def stream(self, timeout: float | None = None) -> Iterator[pd.DataFrame]:
        """
        Yield the rows of the submitted frame as their answers come, each row once.

        Parameters
        ----------
        timeout : float, optional
            Seconds for all of it; None waits as long as it takes.

        Yields
        ------
        pandas.DataFrame
            Rows that have come since: the answer columns, as `result` has them, on the labels of the frame. First those
            that wait for nothing (reused, not asked), then those of each part that ends.

        Raises
        ------
        WaitTimeout
            Not all have come; the job goes on, and a new stream begins with all that is there.
        JobFailed, BudgetExceeded
            As of `wait`, after what is there was yielded.
        """
        if self._record.cluster is not None:
            raise InputError(
                f"The rows of job {self.id} lie in a Dask frame: ddf.dobatch.join(job, wait=False) has what is there."
            )
        timeout = _seconds(timeout)
        began, arrivals = time.monotonic(), Arrivals()
        while True:
            live = self.resume()
            still = live is None or _is_still(live)
            with disk_in_words(self._folder.root):
                state = self._state
                rows = arrivals.take(self._answers(state), state)
            if rows is not None:
                yield rows
            if still:
                break
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
            self._wait_until(lambda live: _is_still(live) or arrivals.news(live.state), left)
        self._checked()

    def for_cluster(self, wait: bool) -> tuple[State, ClusterJob]:
        """Return what a lazy join to a Dask frame is made of: how far the job is, and what the workers did for it."""
        if self._record.cluster is None:
            raise InputError(
                f"Job {self.id} was not submitted from a Dask frame: take df.dobatch.join(job) on a pandas one, such as "
                "ddf.compute()."
            )
        self._ready(wait)
        return self._state, self._cluster()

    def _ready(self, wait: bool, early: Early | None = None) -> None:
        """See to it that the answers can be read: all of them, or with `wait` False those that are there."""
        if not isinstance(wait, (bool, int, np.bool_)):
            raise InputError(f"wait is {wait!r:.80}; it takes True or False.")
        if wait:
            try:
                self._waited(_is_still, early=early)
                self._checked()
            except (JobFailed, BudgetExceeded):
                # A job that cannot go on hides no answer that it has.
                if not self._answers().any():
                    raise
        self._ask_again()


class _Listener:
    """Calls one callback, one call at a time, in a thread that is there only while there is news."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        self._news = self._running = False

    def notify(self) -> None:
        with self._lock:
            self._news = True
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._run, name="dobatch-listener", daemon=True).start()
        except RuntimeError:  # the interpreter ends: nobody looks any more
            self._running = False

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._news:
                    self._running = False
                    return
                self._news = False
            try:
                self._callback()
            except Exception:
                log.exception("a callback of job.subscribe failed; the job goes on")


def _set(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(news.set)


def _seconds(timeout: Any) -> float | None:
    number = isinstance(timeout, (int, float, np.integer, np.floating)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout == timeout):
        raise InputError(
            f"timeout is {timeout!r:.80}; it takes seconds, or None to wait as long as it takes."
        )
    # An int may be longer than a float goes.
    return None if timeout is None else float(min(timeout, threading.TIMEOUT_MAX))


def _is_still(live: OpenJob) -> bool:
    """Whether waiting longer is of no use: over, left, or stuck for good."""
    return (
        live.gone or live.broken is not None or live.state.ended is not None or _is_still_for_good(live.state)
    )


def _is_still_for_good(state: State) -> bool:
    """Whether nothing moves any more until somebody decides: the budget, or what cannot be done on this machine."""
    if state.stuck:
        return True
    left = [part for part in state.parts.values() if not part.final]
    held = [part for part in left if part.waits in ("budget", "stuck") and part.doing is None]
    return state.rendered and bool(held) and len(held) == len(left)


def _is_up_to_date(live: OpenJob, asked: float) -> bool:
    """Whether all that was due at some moment, in ticks, is done or has failed for now."""
    if live.elsewhere or live.disk is not None:
        return True
    state = live.state
    parts = [part for part in state.parts.values() if not part.final]
    if state.doing is not None or any(part.doing is not None for part in parts):
        return False
    waits = [part.due for part in parts] + ([] if state.rendered and parts else [state.due])
    return all(due > asked for due in waits)


def _read_so_far(live: OpenJob) -> int:
    return sum(part.final for part in live.state.parts.values())


_retries: dict[tuple[Path, str], threading.Lock] = {}
_retries_lock = threading.Lock()


@contextlib.contextmanager
def _retrying(home: Path, job_id: str) -> Generator[None, None, None]:
    """One retry of a job at a time: whoever comes late finds nothing that failed any more."""
    with _retries_lock:
        mine = _retries.setdefault((home, job_id), threading.Lock())
    with mine:
        yield


def _restored(home: str, job_id: str) -> Job:
    """Return what a pickle stands for: in the home it was in, or that of the process that reads it."""
    here = home_here()
    return Job(here if not Path(home).exists() else Home(Path(home)), job_id)


def follow(job: Job, timeout: float | None = None, *, display: Any = None) -> None:
    """Wait as `Job.wait` does, but not for a person who could act only in this very process; only `WaitTimeout` is raised."""
    with disk_in_words(job._folder.root):
        job._waited(lambda live: _is_still(live) or problem_of(live.state)[1], timeout, display)


def attach(job_id: str) -> Job:
    """
    Return a job of any earlier session, and have it moved on if it is not over.

    Results that were given up for want of an answer are asked for once more.

    Parameters
    ----------
    job_id : str
        As ``job.id`` showed it; ``dobatch.jobs()`` lists all.

    Raises
    ------
    JobNotFound
        This home has no such job.
    InputError
        No job can have such an id.
    """
    _bring(home_here(), job_id)
    job = Job(home_here(), job_id)
    live = job.resume()
    if live is not None:
        wake(live)
    return job


def _bring(home: Home, job_id: str) -> None:
    """Have a job of another machine here, where a store has it and this home has not."""
    store = settings().store
    if store is not None and isinstance(job_id, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", job_id):
        folder = home.folder(job_id)
        if not folder.exists:
            Store(store).bring_folder(folder, account_here(home.path))
