"""``df.dobatch``: a door to everything that can be done with a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from .errors import InputError

# All else is loaded by the method that needs it: importing the package costs little, and the Tab key on a frame nothing.
if TYPE_CHECKING:
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

    def plan(
        self,
        prompt: Any,
        *,
        model: str,
        into: str = "response",
        system: Any = None,
        endpoint: str | None = None,
        provider: str | None = None,
        schema: Any = None,
        custom_id: str | None = None,
        missing: str = "error",
        dedupe: bool = True,
        samples: int = 1,
        metadata: dict[str, str] | None = None,
        flatten: bool = False,
        **body: Any,
    ) -> Plan:
        """
        Return what would be sent for each row, checked, without sending anything.

        Parameters
        ----------
        prompt : str, list, callable, Series or dobatch.col
            A template over columns such as ``"Sentiment of: {review}"`` (all of `str.format`); a list of
            ``{"role", "content"}`` messages holding templates; a function of a row; ready prompts as a
            Series; or ``dobatch.col("column")`` for a column that holds message lists.
        model : str
            Name of the model; it decides provider and endpoint where those are left out.
        into : str
            Name of the answer column. A schema brings its own names; then it names the error column only.
        system : str, optional
            System text, a template too.
        endpoint : str, optional
            ``"chat"``, ``"responses"``, ``"embeddings"`` or ``"messages"``, or the path itself.
        provider : str, optional
            ``"openai"`` or ``"anthropic"``.
        schema : pydantic model, dict, optional
            What the answer looks like: a pydantic model, a JSON Schema, or
            ``{"label": ["pos", "neg"], "score": float}``. Its fields become typed columns.
        custom_id : str, optional
            Column with ids of your own; else an id is made from what is asked.
        missing : {"error", "skip", "keep"}
            What a missing value in a used column does: refuse the plan, leave out the row (its code is
            ``missing_input``), or stand for an empty string.
        dedupe : bool
            Send equal requests once.
        samples : int
            How often each row is asked; further answers go to ``<into>_2``, ``<into>_3`` ...
        metadata : dict, optional
            Kept by the service with each batch.
        flatten : bool
            Give nested fields of a schema columns of their own, with dotted names.
        **body
            Any parameter of the request's body, a constant or ``dobatch.col("column")``.

        Returns
        -------
        Plan

        Raises
        ------
        InputError
            With every problem found, and the labels of the rows.
        """
        from .plan import Plan
        from .questions.build import build_recipe

        recipe = build_recipe(
            prompt,
            model=model,
            into=into,
            system=system,
            endpoint=endpoint,
            provider=provider,
            schema=schema,
            custom_id=custom_id,
            missing=missing,
            dedupe=dedupe,
            samples=samples,
            metadata=metadata,
            flatten=flatten,
            params=body,
            frame=self._frame,
        )
        return Plan(self._frame, recipe)

    def submit(
        self,
        prompt: Any,
        *,
        model: str,
        into: str = "response",
        system: Any = None,
        endpoint: str | None = None,
        provider: str | None = None,
        schema: Any = None,
        custom_id: str | None = None,
        missing: str = "error",
        dedupe: bool = True,
        samples: int = 1,
        metadata: dict[str, str] | None = None,
        flatten: bool = False,
        fresh: bool = False,
        display: Any = None,
        max_cost: float | None = None,
        **body: Any,
    ) -> Job:
        """
        Send every row through batch inference, and return the job as soon as it is recorded.

        Takes what `plan` takes, and: ``fresh=True`` to ask anew what was submitted or answered before,
        ``display=False`` to show nothing, ``max_cost`` in US dollars beyond which nothing is sent.

        Returns
        -------
        Job
            Show it for a live panel; give it to `update` or `join`.
        """
        plan = self.plan(
            prompt,
            model=model,
            into=into,
            system=system,
            endpoint=endpoint,
            provider=provider,
            schema=schema,
            custom_id=custom_id,
            missing=missing,
            dedupe=dedupe,
            samples=samples,
            metadata=metadata,
            flatten=flatten,
            **body,
        )
        return plan.submit(fresh=fresh, display=display, max_cost=max_cost)

    def trial(self, prompt: Any, *, model: str, n: int = 5, **options: Any) -> pd.DataFrame:
        """
        Ask for `n` rows now, one by one at the real-time price, and show what would come back.

        Takes what `plan` takes; switching to batch is changing this word to ``submit``.

        Returns
        -------
        pandas.DataFrame
            Indexed as the first `n` rows: prompt, the answer columns, ``<into>_error``, prompt_tokens,
            completion_tokens, seconds.
        """
        from .service import Client
        from .trial import run_trial

        plan = self.plan(prompt, model=model, **options)
        with Client() as client:
            return run_trial(self._frame, plan.recipe, client, n)

    def join(
        self, job: Job | pd.DataFrame, *, custom_id: str | None = None, into: str = "response"
    ) -> pd.DataFrame:
        """
        Wait for a job, and return a new frame with its answers on their rows.

        Parameters
        ----------
        job : Job or pandas.DataFrame
            A job, or results that were read by hand with ``dobatch.read_results(...)``.
        custom_id : str, optional
            For results read by hand: the column that holds each row's id.
        into : str
            For results read by hand: name of the answer column.

        Returns
        -------
        pandas.DataFrame
            This frame's rows, index, order and columns, and the answers beside them.
        """
        from .answers.join import joined

        return joined(self._frame, self._answers(job, custom_id, into))

    def update(
        self, job: Job | pd.DataFrame, *, custom_id: str | None = None, into: str = "response"
    ) -> None:
        """
        Wait for a job, and add its answers to this very frame.

        Takes what `join` takes. Call it on a frame that has a name: columns that are added to a temporary
        such as ``df[mask].dobatch.update(job)`` go away with it.
        """
        from .answers.join import add_columns

        add_columns(self._frame, self._answers(job, custom_id, into))

    def _answers(self, job: Job | pd.DataFrame, custom_id: str | None, into: str) -> dict[str, pd.Series]:
        from .answers.by_hand import join_read_results
        from .job import Job

        if isinstance(job, Job):
            return job.join(self._frame)
        if not isinstance(job, pd.DataFrame):
            raise InputError(
                f"A job or a frame from dobatch.read_results is needed, not {type(job).__name__}."
            )
        if custom_id is None:
            raise InputError(
                "Results read by hand need the column that holds each row's id: join(results, "
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

    def judge(self, question: str, criteria: Any = None, *, model: str, **options: Any) -> Job:
        """
        Have a model judge the answers of each row, as a job like any other; see `dobatch_pandas.evals.judge`.

        Parameters
        ----------
        question : str
            Column that holds what was asked, or a template over columns.
        criteria : str, sequence of str or mapping, optional
            What makes an answer right; several give one verdict each. Or ``rubric=`` for a score.
        model : str
            The judge.
        **options
            As `dobatch_pandas.evals.judge` and `plan` take them.

        Returns
        -------
        Job
        """
        from .evals import judge

        job: Job = judge(self._frame, question, criteria, model=model, **options)
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
        from .evals import explore
        from .plan import Plan

        if job is not None:
            options.setdefault("responses", job.responses())
            options.setdefault(
                "prompt", lambda row: Plan(self._frame.iloc[[row]], job.recipe).preview(1).T.to_string()
            )
        return explore(self._frame, **options)
