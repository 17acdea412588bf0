"""
``ddf.dobatch``: the same job over the partitions of a Dask frame.

Each partition is rendered and uploaded by the worker that holds it, as a job of its own in the home that all
processes share; the client's process waits for the batches; answers are joined where the rows lie. Through
the scheduler go the question and the jobs' ids, never rows, answers or the token.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from .answers.join import answer_columns, joined
from .answers.result_lines import merge_results
from .config import configure, configured, settings
from .display.snapshot import Snapshot
from .errors import ConfigurationError, InputError, JobError, MissingExtra
from .estimate import check_max_cost, stay_within
from .job.budget import most_of
from .job.job import attach
from .job.process import home_here
from .job.submit import answered_here, home_with_token, submit_frame
from .plan import Plan
from .questions.build import build_recipe
from .questions.freeze import freeze
from .questions.options import Sending, door, sorted_out
from .questions.problems import frame_problems
from .questions.recipe import Recipe

try:
    from dask.base import compute
    from dask.dataframe.extensions import register_dataframe_accessor
    from dask.delayed import delayed
except ImportError as error:
    raise MissingExtra("df.dobatch on Dask frames", "dask") from error

__all__ = ["DaskDobatchAccessor", "DaskJob", "DaskPlan"]


@dataclass(frozen=True)
class _Asker:
    """What the workers must share with the process that asks, which is more than the environment tells them."""

    base_url: str
    allow_http: bool
    home: Path
    mark: Path  # lies in the home, by which a worker knows the folder
    prices: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, mark: Path) -> _Asker:
        home = settings().home.absolute()
        here = settings()
        mark = mark.absolute().relative_to(home)
        return cls(here.base_url, here.allow_http, home, mark, here.prices)

    def serve(self) -> None:
        """
        Have this process use the asker's service and home.

        Raises
        ------
        ConfigurationError
            It does not see the asker's home.
        """
        mine = settings()
        # The same folder may have another path on another machine.
        home = next((one for one in (mine.home, self.home) if (one / self.mark).exists()), None)
        if home is None:
            raise ConfigurationError(
                f"A worker does not see the client's home folder {self.home} (its own is {mine.home}): give all "
                "processes the same DOBATCH_HOME, on a file system that they share."
            )
        if (home, self.base_url, self.allow_http) != (mine.home, mine.base_url, mine.allow_http):
            configure(base_url=self.base_url, allow_http=self.allow_http, home=home)
        if self.prices and self.prices != mine.prices:
            configure(prices=dict(self.prices))


class DaskJob:
    """
    The jobs of a Dask frame's partitions, in their order, seen as one.

    Attributes
    ----------
    jobs : tuple of Job
        One a partition; None for an empty one.
    """

    def __init__(self, ids: list[str | None], recipe: Recipe) -> None:
        self.ids = ids
        self.recipe = recipe
        self.jobs = tuple(attach(job_id) for job_id in ids if job_id is not None)

    def __repr__(self) -> str:
        counts = self.counts
        return (
            f"<DaskJob: {len(self.jobs)} partitions, {counts['completed']:,} of {counts['total']:,} requests "
            f"answered, {counts['failed']:,} failed>"
        )

    @property
    def counts(self) -> dict[str, int]:
        """Requests so far, over all partitions: total, completed, failed, reused, and rows skipped."""
        names = ("total", "completed", "failed", "reused", "skipped")
        every = [job.counts for job in self.jobs]
        return {name: sum(counts[name] for counts in every) for name in names}

    def snapshots(self) -> list[Snapshot]:
        """One snapshot a partition."""
        return [job.snapshot() for job in self.jobs]

    def wait(self, timeout: float | None = None) -> DaskJob:
        """Wait until every partition's job is over; `timeout` in seconds is for each."""
        for job in self.jobs:
            job.wait(timeout, display=False)  # a bar a partition says less than this object's repr
        return self

    def __await__(self) -> Generator[Any, None, DaskJob]:
        for job in self.jobs:
            yield from job.__await__()
        return self

    def cancel(self) -> DaskJob:
        """Cancel every batch of every partition."""
        for job in self.jobs:
            job.cancel()
        return self

    def retry(self) -> int:
        """Send again what failed for a reason that can change; returns how many requests."""
        return sum(job.retry() for job in self.jobs)

    def errors(self) -> pd.DataFrame:
        """Return the failed rows of all partitions."""
        return pd.concat([job.errors() for job in self.jobs])


class DaskPlan:
    """What would be sent for each partition; made by ``ddf.dobatch.plan(...)``."""

    def __init__(self, frame: Any, recipe: Recipe) -> None:
        problems = [
            problem
            for problem in frame_problems(recipe, frame._meta_nonempty)
            if not problem.rows and not problem.count
        ]
        if problems:
            raise InputError(problems)
        if recipe.kind == "series":
            raise InputError(
                "A Series of prompts cannot be matched to partitions: use a template or a function."
            )
        if recipe.custom_id is not None:
            # Repeats in other partitions are nobody's to see.
            raise InputError(
                "custom_id is not for Dask frames: ids made from what is asked are the same everywhere."
            )
        self.frame, self.recipe = frame, recipe

    def preview(self, n: int = 5) -> pd.DataFrame:
        """Show the requests of the first rows, as `Plan.preview` does."""
        return Plan(self.frame.head(n), self.recipe).preview(n)

    @door("fresh", "display", "max_cost", asks=False)
    def submit(self, **options: Any) -> DaskJob:
        """
        Render and upload every partition on its worker, and return the jobs once the service has them.

        A partition whose worker dies is done again by another worker, which finds the partition's job in the
        store and goes on with it.

        Parameters
        ----------
        {options}
        """
        sending = Sending(**options)
        if sending.display not in (None, False):
            raise InputError("A Dask job draws nothing by itself: its repr tells how far all partitions are.")
        check_max_cost(sending.max_cost)
        parts = self.frame.to_delayed(optimize_graph=True)
        mark = home_with_token().path / f".asked-{secrets.token_hex(8)}"
        mark.touch(mode=0o600)
        try:
            asker = _Asker.of(mark)
            limits: list[float | None] = [None] * len(parts)
            if sending.max_cost is not None:
                limits = self._bounds(parts, sending.fresh, asker)
                stay_within(sending.max_cost, self.recipe.model, _sum_of(limits))
            # One name for all: a partition that is done again, since its worker died, is no fresh asking of its own.
            ask = secrets.token_hex(8) if sending.fresh else None
            send = delayed(_send_partition, pure=False)
            asked = [
                send(part, self.recipe, ask, limit, asker) for part, limit in zip(parts, limits, strict=True)
            ]
            ids = compute(*asked)  # type: ignore[no-untyped-call]
        finally:
            mark.unlink(missing_ok=True)
        return DaskJob(list(ids), self.recipe)

    def _bounds(self, parts: Any, fresh: bool, asker: _Asker) -> list[float | None]:
        """Return the most that each partition can cost, in US dollars."""
        bound = delayed(_bound_partition, pure=False)
        found = compute(*[bound(part, self.recipe, fresh, asker) for part in parts])  # type: ignore[no-untyped-call]
        for cost in found:
            # What has no bound is told with the words of its reason.
            stay_within(float("inf"), self.recipe.model, cost)
        return [cost[1] for cost in found]


def _sum_of(bounds: list[float | None]) -> tuple[float, float]:
    total = sum(bound or 0.0 for bound in bounds)
    return total, total


def _bound_partition(
    frame: pd.DataFrame, recipe: Recipe, fresh: bool, asker: _Asker
) -> tuple[float, float | None] | None:
    if frame.empty:
        return 0.0, 0.0
    asker.serve()
    answered = None if fresh else answered_here(home_here(), recipe)
    return most_of(recipe, freeze(recipe, Plan(frame, recipe).frame), answered=answered)


def _send_partition(
    frame: pd.DataFrame, recipe: Recipe, ask: str | None, max_cost: float | None, asker: _Asker
) -> str | None:
    if frame.empty:
        return None
    asker.serve()
    job = submit_frame(
        Plan(frame, recipe).frame,
        recipe,
        fresh=ask is not None,
        ask=ask,
        max_cost=max_cost,
        display=False,
        send_only=True,
    )
    job.sent()
    return job.id


def _join_partition(frame: pd.DataFrame, job_id: str, asker: _Asker) -> pd.DataFrame:
    asker.serve()
    with configured(display=False):
        return joined(frame, attach(job_id).join(frame))


def _join_nothing(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """An empty partition has the same columns as the others, of the same types."""
    columns = answer_columns(
        pa.array([], pa.string()),
        None,
        merge_results([]),
        into=recipe.into,
        samples=recipe.samples,
        json_schema=recipe.schema,
        flatten=recipe.flatten,
        index=frame.index[:0],
    )
    return joined(frame.iloc[:0], columns)


@register_dataframe_accessor("dobatch")  # type: ignore[no-untyped-call]
class DaskDobatchAccessor:
    """Batch LLM inference over the rows of a Dask frame."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @door()
    def plan(self, prompt: Any, *, model: str, **options: Any) -> DaskPlan:
        """
        Return what would be sent, checked, without sending anything.

        Parameters
        ----------
        {options}
        """
        asked, _ = sorted_out(options, "plan, which sends nothing", ())
        return DaskPlan(self._frame, build_recipe(prompt, model=model, **asked))

    @door("fresh", "display", "max_cost")
    def submit(self, prompt: Any, *, model: str, **options: Any) -> DaskJob:
        """
        Send every row of every partition, each as a job of its own.

        Parameters
        ----------
        {options}
        """
        asked, sending = sorted_out(options, "submit")
        plan = DaskPlan(self._frame, build_recipe(prompt, model=model, **asked))
        return plan.submit(**sending.words())

    def join(self, job: DaskJob) -> Any:
        """
        Wait for a job, and return a lazy frame with the answers beside the rows of each partition.

        Returns
        -------
        dask.dataframe.DataFrame
        """
        if self._frame.npartitions != len(job.ids):
            raise JobError(
                f"The frame has {self._frame.npartitions} partitions and the job {len(job.ids)}: join to the frame "
                "that was submitted, or to one partitioned in the same way."
            )
        import dask.dataframe as dd

        job.wait()
        parts = self._frame.to_delayed(optimize_graph=True)
        join, nothing = delayed(_join_partition, pure=True), delayed(_join_nothing, pure=True)
        answered = []
        for part, job_id in zip(parts, job.ids, strict=True):
            if job_id is None:
                answered.append(nothing(part, job.recipe))
            else:
                answered.append(join(part, job_id, _Asker.of(home_here().folder(job_id).root)))
        meta = _join_nothing(self._frame._meta, job.recipe)
        return dd.from_delayed(answered, meta=meta, divisions=self._frame.divisions, verify_meta=False)
