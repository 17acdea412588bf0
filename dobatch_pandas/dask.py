"""
``ddf.dobatch``: one job over all rows of a Dask frame, wherever its partitions lie.

The job is the same object as that of a pandas frame, and moved on by the process that submits or attaches. Its work is done
by the workers: they render, upload straight to the service's storage, download and read. Through the scheduler go the
question, ids, sizes and states, never rows, answers, the token or a signed address; workers share no files with anybody.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from .answers.join import answer_columns, joined
from .answers.result_lines import merge_results
from .errors import InputError, MissingExtra
from .estimate import Estimate
from .job import Job
from .job.submit import submit_cluster
from .plan import Plan
from .questions.build import build_recipe
from .questions.options import door, sorted_out
from .questions.problems import frame_problems
from .questions.recipe import Recipe
from .service import Client

try:
    from dask.dataframe.extensions import register_dataframe_accessor
    from dask.delayed import delayed

    from .job.dask_tasks import count_calls, look_at_workers
    from .job.on_worker import Asker, answers, join
    from .job.partitions import prepare
except ImportError as error:
    raise MissingExtra("df.dobatch on Dask frames", "dask") from error

__all__ = ["DaskDobatchAccessor", "DaskPlan"]


class DaskPlan:
    """
    What would be sent for a Dask frame; made by ``ddf.dobatch.plan(...)``.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    recipe : Recipe

    Raises
    ------
    InputError
        With every problem that can be found without computing a row.
    """

    def __init__(self, frame: Any, recipe: Recipe) -> None:
        problems: list[Any] = [
            problem
            for problem in frame_problems(recipe, frame._meta_nonempty)
            if not problem.rows and not problem.count
        ]
        if recipe.kind == "series":
            problems = ["A Series of prompts cannot be matched to partitions: use a template or a function."]
        if recipe.custom_id is not None:
            # Repeats in other partitions are nobody's to see.
            problems.append(
                "custom_id is not for Dask frames: ids made from what is asked are the same everywhere."
            )
        if not recipe.dedupe:
            problems.append(
                "dedupe=False is not for Dask frames: which of several equal rows is which depends on all partitions. "
                "samples=k asks each question k times."
            )
        if problems:
            raise InputError(problems)
        self.frame, self.recipe = frame, recipe

    def __repr__(self) -> str:
        recipe = self.recipe
        return (
            f"<DaskPlan: {self.frame.npartitions:,} partitions for {recipe.model} at {recipe.endpoint}, "
            f"into {recipe.into!r}>"
        )

    def preview(self, n: int = 5) -> pd.DataFrame:
        """Show the requests of the first rows, as `Plan.preview` does."""
        return Plan(self.frame.head(n, npartitions=-1), self.recipe).preview(n)

    def estimate(self) -> Estimate:
        """
        Count requests, tokens and dollars of the whole frame on the workers, without sending anything.

        Returns
        -------
        Estimate
        """
        asker = Asker.here(self.recipe)
        look_at_workers(asker)
        return prepare(self.frame, asker).estimate()

    @door("fresh", "display", "max_cost", asks=False)
    def submit(self, **options: Any) -> Job:
        """
        Send it, and return the running job; the same rows submitted again are the same job.

        Parameters
        ----------
        {options}

        Returns
        -------
        Job
        """
        _, sending = sorted_out(options, "submit of a Dask frame", ("fresh", "display", "max_cost"))
        return submit_cluster(self.frame, self.recipe, sending)


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
    def submit(self, prompt: Any, *, model: str, **options: Any) -> Job:
        """
        Send every row of all partitions as one job, equal rows once.

        Returns when the workers have rendered every row; batches are created as parts are uploaded.

        Parameters
        ----------
        {options}

        Returns
        -------
        Job
            The same object as for a pandas frame; ``ddf.dobatch.join(job)`` brings its answers to the rows.

        Raises
        ------
        InputError
            With every problem found in all partitions, and the labels of the rows.
        BudgetExceeded
            It may cost more than ``max_cost``; nothing has been sent.
        ConfigurationError
            A worker has no token, runs another version, or the like; nothing has been sent.
        """
        asked, sending = sorted_out(options, "submit of a Dask frame", ("fresh", "display", "max_cost"))
        plan = DaskPlan(self._frame, build_recipe(prompt, model=model, **asked))
        return plan.submit(fresh=sending.fresh, display=sending.display, max_cost=sending.max_cost)

    @door("max_cost")
    def trial(self, prompt: Any, *, model: str, n: int = 5, **options: Any) -> pd.DataFrame:
        """
        Ask for the first `n` rows now, as ``df.dobatch.trial`` does.

        Parameters
        ----------
        n : int
            How many rows, from the first on.
        {options}
        """
        from .trial import run_trial

        asked, sending = sorted_out(
            options, "trial, which asks at once and shows what comes back", ("max_cost",)
        )
        recipe = DaskPlan(self._frame, build_recipe(prompt, model=model, **asked)).recipe
        first = Plan(self._frame.head(n, npartitions=-1), recipe).frame
        with Client() as client:
            return run_trial(first, recipe, client, n, max_cost=sending.max_cost)

    def join(self, job: Job, *, wait: bool = True) -> Any:
        """
        Wait for a job, and return a lazy frame with its answers beside the rows.

        Partitions, order, index, divisions and types are those of this frame. A partition that is computed brings in the
        results that its rows need, from the service, straight to the worker that computes it. A row that asks what the job
        has not asked has the code ``row_changed``.

        Parameters
        ----------
        job : Job
            Of this frame, or of one with rows that ask the same.
        wait : bool
            Wait for the job; else take what is there now, with the code ``pending`` on the rest.

        Returns
        -------
        dask.dataframe.DataFrame
        """
        import dask.dataframe as dd

        if not isinstance(job, Job):
            raise InputError(
                f"A job is needed, not {type(job).__name__}: ddf.dobatch.submit(...) returns one."
            )
        state, cluster = job.for_cluster(wait)
        count_calls(Client(retries=0))
        recipe = cluster.recipe
        asker = delayed(Asker.here(recipe), pure=False)
        stored = {one.number: one for one in cluster.stored(state, state.parts)}
        parts = delayed(stored, pure=False, traverse=False)
        tables = {number: delayed(answers, pure=False)(one, asker) for number, one in stored.items()}
        name, needs, later = cluster.name_and_needs()
        same = name == self._frame._name and len(needs) == self._frame.npartitions
        absent = (
            "row_changed"
            if state.rendered and all(part.final for part in state.parts.values())
            else "pending"
        )
        lazy = []
        for place, part in enumerate(self._frame.to_delayed(optimize_graph=True)):
            near = sorted(_with_later(needs[place], later) & tables.keys()) if same else sorted(tables)
            found = [tables[number] for number in near]
            lazy.append(delayed(join, pure=False)(part, asker, absent, parts, tuple(near), *found))
        meta = _joined_nothing(self._frame._meta, recipe)
        return dd.from_delayed(lazy, meta=meta, divisions=self._frame.divisions, verify_meta=False)


def _with_later(numbers: list[int], later: dict[int, list[int]]) -> set[int]:
    """Some parts, and those of later rounds in which their requests were asked again."""
    found: set[int] = set()
    left = list(numbers)
    while left:
        number = left.pop()
        if number not in found:
            found.add(number)
            left += later.get(number, [])
    return found


def _joined_nothing(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """A frame without rows has the same columns as the others, of the same types."""
    columns = answer_columns(
        pa.array([], pa.string()),
        None,
        merge_results([]),
        **recipe.answer_options,
        index=frame.index[:0],
    )
    return joined(frame.iloc[:0], columns)
