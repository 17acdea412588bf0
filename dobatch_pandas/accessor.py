"""``df.dobatch``: a door to everything that can be done with a frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from .errors import InputError
from .questions.options import door, sorted_out

# All else is loaded by the method that needs it: importing the package costs little, and the Tab key on a frame nothing.
if TYPE_CHECKING:
    from .answers.by_hand import Results
    from .evals import Evaluation, Explorer
    from .job import Job
    from .plan import Plan

__all__ = ["DobatchAccessor"]


@pd.api.extensions.register_dataframe_accessor("dobatch")
class DobatchAccessor:
    """
    Batch LLM inference over the rows of a frame.

    ``plan`` and ``submit`` ask, ``join`` and ``update`` bring the answers back onto the rows, ``score``,
    ``judge`` and ``explore`` look at how good they are.
    """

    # pandas 3 builds this anew at each access, and dir(frame) builds it too: it holds the frame and no state.
    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        return (
            f"<df.dobatch of {len(self._frame):,} rows: plan, trial and submit ask; join and update add the answers; "
            "score, judge and explore look at them>"
        )

    @door()
    def plan(self, prompt: Any, *, model: str, **options: Any) -> Plan:
        """
        Return what would be sent for each row, checked, without sending anything.

        Parameters
        ----------
        {options}

        Returns
        -------
        Plan

        Raises
        ------
        InputError
            With every problem found, and the labels of the rows.
        """
        asked, _ = sorted_out(options, "plan, which sends nothing", ())
        return self._planned(prompt, model, asked)

    def _planned(self, prompt: Any, model: str, asked: dict[str, Any]) -> Plan:
        from .plan import Plan
        from .questions.build import build_recipe

        return Plan(self._frame, build_recipe(prompt, model=model, **asked, frame=self._frame))

    @door("fresh", "display", "max_cost", "deadline", "mode")
    def submit(self, prompt: Any, *, model: str, **options: Any) -> Job:
        """
        Send every row through batch inference, and return the job as soon as it is recorded.

        Parameters
        ----------
        {options}

        Returns
        -------
        Job
            Show it for a live panel; give it to `update` or `join`.

        Raises
        ------
        InputError
            With every problem found, and the labels of the rows.
        BudgetExceeded
            It may cost more than ``max_cost``; nothing has been sent.
        """
        asked, sending = sorted_out(options, "submit")
        return self._planned(prompt, model, asked).submit(**vars(sending))

    @door("max_cost")
    def trial(self, prompt: Any, *, model: str, n: int = 5, **options: Any) -> pd.DataFrame:
        """
        Ask for `n` rows now, one by one at the real-time price, and show what would come back.

        Switching to batch is changing this word to ``submit``.

        Parameters
        ----------
        n : int
            How many rows, from the first on.
        {options}

        Returns
        -------
        pandas.DataFrame
            Indexed as the first `n` rows: prompt, the answer columns, ``<into>_error``, prompt_tokens,
            completion_tokens, seconds.
        """
        from .service import Client
        from .trial import run_trial

        asked, sending = sorted_out(
            options, "trial, which asks at once and shows what comes back", ("max_cost",)
        )
        plan = self._planned(prompt, model, asked)
        with Client() as client:
            return run_trial(self._frame, plan.recipe, client, n, max_cost=sending.max_cost)

    def join(
        self,
        job: Job | Results,
        *,
        custom_id: str | None = None,
        into: str = "response",
        wait: bool = True,
    ) -> pd.DataFrame:
        """
        Wait for a job, and return a new frame with its answers on their rows.

        Parameters
        ----------
        job : Job, pandas.DataFrame, path or iterable of path
            A job; or results that were read by hand with ``dobatch.read_results(...)``, or the files that it reads.
        custom_id : str, optional
            For results carried by hand: the column that holds each row's id.
        into : str
            For results carried by hand: name of the answer column.
        wait : bool
            Wait for the job; else take what is there now, with the code ``pending`` on the rest.

        Returns
        -------
        pandas.DataFrame
            This frame's rows, index, order and columns, and the answers beside them.
        """
        from .answers.join import joined

        return joined(self._frame, self._answers(job, custom_id, into, wait))

    def update(
        self,
        job: Job | Results,
        *,
        custom_id: str | None = None,
        into: str = "response",
        wait: bool = True,
    ) -> None:
        """
        Wait for a job, and add its answers to this very frame.

        Takes what `join` takes. Call it on a frame that has a name: columns that are added to a temporary
        such as ``df[mask].dobatch.update(job)`` go away with it.
        """
        from .answers.join import add_columns

        add_columns(self._frame, self._answers(job, custom_id, into, wait))

    def _answers(
        self, job: Job | Results, custom_id: str | None, into: str, wait: bool
    ) -> dict[str, pd.Series]:
        from .answers.by_hand import join_read_results
        from .job import Job

        if isinstance(job, Job):
            return job.join(self._frame, wait=wait)
        if not isinstance(job, (Iterable, os.PathLike)):
            raise InputError(
                "A job, a frame from dobatch.read_results, or paths of result files are needed, "
                f"not {type(job).__name__}."
            )
        if isinstance(job, str) and not os.path.exists(job):
            cure = f"A job is joined by join(dobatch.attach({job!r})), where that is its id."
            if set(job) & set("*?["):
                cure = f"Several files are given as a list: join(glob.glob({job!r}), ...)."
            elif set(job) & set("/\\."):
                cure = f"This process looks for it in {os.getcwd()}."
            raise InputError(f"There is no file {job!r}. {cure}")
        if custom_id is None:
            raise InputError(
                "Results carried by hand need the column that holds each row's id: join(results, "
                'custom_id="column"). Without such a column, plan.join(results) finds the rows by what they ask.'
            )
        return join_read_results(self._frame, job, custom_id=custom_id, into=into)

    def score(self, predicted: str | Job, *, actual: Any, **options: Any) -> Evaluation:
        """
        Say how good a column is against the truth; see `dobatch_pandas.evals.score`.

        Parameters
        ----------
        predicted : str or Job
            Column of answers, or several; or a job, whose answers are joined first and whose samples, prompt,
            model and cost are known.
        actual : str, sequence of str or mapping
            Column of gold answers; of a job with several fields ``{"field": "gold column"}``, a line a field.
        **options
            As `dobatch_pandas.evals.score` takes them.

        Returns
        -------
        Evaluation
        """
        from .evals import score
        from .job import Job

        if not isinstance(predicted, Job):
            return score(self._frame, predicted, actual, **options)
        from .evals.saved import about_job

        recipe = predicted.recipe
        fields = list(recipe.answer_names[: len(recipe.answer_names) // recipe.samples])
        if isinstance(actual, dict):
            fields = [name for name in fields if name in actual] or fields
        elif isinstance(actual, str) and recipe.into in fields:
            fields = [recipe.into]
        options = {
            "error": f"{recipe.into}_error", "samples": recipe.samples, "about": about_job(predicted),
            "name": recipe.into, **options,
        }  # fmt: skip
        answers = fields[0] if len(fields) == 1 else fields
        return score(self.join(predicted), answers, actual, **options)

    @door("fresh", "display", "max_cost", "deadline", "mode", without=("system", "schema"))
    def judge(
        self,
        question: str,
        criteria: Any = None,
        *,
        model: str,
        into: str = "judge",
        rubric: Any = None,
        response: str = "answer",
        reference: str | None = None,
        versus: str | None = None,
        scale: tuple[int, int] | None = None,
        **options: Any,
    ) -> Job:
        """
        Have a model judge the answers of each row, as a job like any other; see `dobatch_pandas.evals.judge`.

        Parameters
        ----------
        question : str
            Column that holds what was asked, or a template over columns.
        criteria : str, or several, optional
            What makes an answer right.
        model : str
            The judge.
        into : str
            Name of the verdict's column.
        rubric : mapping, optional
            ``{1: "wrong", 3: "partly right", 5: "right"}`` asks for a score, labels as keys for one of them.
        response : str
            Column of the answers to judge.
        reference : str, optional
            Column of gold answers that the judge gets to see.
        versus : str, optional
            Column of other answers: the judge says which one is better.
        scale : (int, int), optional
            Ask for a whole number from the first to the second.
        {options}

        Returns
        -------
        Job
        """
        from .evals import judge

        own = [name for name in ("system", "schema") if name in options]
        if own:
            raise InputError([f"{name} is not for judge, which writes its own." for name in own])
        sorted_out(options, "judge")
        job: Job = judge(
            self._frame,
            question,
            criteria,
            model=model,
            into=into,
            rubric=rubric,
            response=response,
            reference=reference,
            versus=versus,
            scale=scale,
            **options,
        )
        return job

    def explore(self, job: Job | None = None, **options: Any) -> Explorer:
        """
        Open the rows in an interactive table; see `dobatch_pandas.evals.explore`.

        Parameters
        ----------
        job : Job, optional
            The job that answered these rows: adds what was sent, tokens and errors to each row's reading.
        **options
            As `dobatch_pandas.evals.explore` takes them.

        Returns
        -------
        Explorer
            A widget.
        """
        from .config import settings
        from .evals import explore
        from .job import Job
        from .plan import Plan
        from .prices import costs_of

        if job is not None and not isinstance(job, Job):
            raise InputError(
                f"explore takes the job that answered these rows, not {job!r:.80}: columns go by name, "
                'explore(predicted="answer", actual="gold").'
            )
        if job is not None:
            recipe, found = job.recipe, job.responses_for(self._frame)
            if "responses" not in options:
                costs = costs_of(found, recipe.model, recipe.provider, overrides=settings().prices)
                options["responses"] = found if costs is None else found.assign(cost=costs)

            def asked(row: int) -> Any:
                if recipe.portable:
                    return Plan(self._frame.iloc[[row]], recipe).preview(1).iloc[0].to_dict()
                name = found["custom_id"].iloc[row * recipe.samples]
                return None if pd.isna(name) else job.requests([name]).get(name)

            options.setdefault("prompt", asked)
        return explore(self._frame, **options)
