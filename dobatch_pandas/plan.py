"""What would be sent: looked at, priced, written to files, or submitted."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .answers.by_hand import Results, table_and, warn_of_strangers
from .answers.join import answer_columns, joined
from .codes import Fate
from .config import settings
from .endpoints import PROVIDERS
from .errors import InputError
from .estimate import Estimate, estimate_frame
from .job import Job
from .job.account import account_to_look
from .job.process import home_here
from .job.render import Known
from .job.rows import lacking, stayed
from .job.submit import submit_frame
from .questions.freeze import freeze
from .questions.options import Sending, door
from .questions.problems import frame_problems
from .questions.recipe import Recipe
from .questions.request_lines import RequestWriter, ids_of

__all__ = ["Plan"]


class Plan:
    """
    What would be sent for a frame, before anything is.

    Made by ``df.dobatch.plan(...)``. Every problem that can be found without rendering is raised there.

    Parameters
    ----------
    frame : pandas.DataFrame
    recipe : Recipe

    Raises
    ------
    InputError
        With every problem found.
    """

    def __init__(self, frame: pd.DataFrame, recipe: Recipe) -> None:
        problems = frame_problems(recipe, frame)
        if problems:
            raise InputError(problems)
        self.frame = frame
        self.recipe = recipe
        self._known: dict[bytes, Any] = {}
        # What each prompt of a Series belongs to; before pandas 3 a shallow copy changes with the frame.
        self._was = frame.copy(deep=pd.__version__[0] == "2") if recipe.kind == "series" else None

    def __repr__(self) -> str:
        recipe = self.recipe
        times = f" x {recipe.samples} samples" if recipe.samples > 1 else ""
        return f"<Plan: {len(self.frame):,} rows{times} for {recipe.model} at {recipe.endpoint}, into {recipe.into!r}>"

    def _repr_html_(self) -> str:
        from .display.html import words_html
        from .display.preview import preview_html

        try:
            return preview_html(self.preview(3), caption=repr(self).strip("<>"))
        except Exception as error:  # noqa: BLE001  the frame may have been changed since: a picture never raises
            return words_html(f"{self!r} cannot be shown: {error}")

    @property
    def custom_ids(self) -> pd.Series:
        """
        The id of each row's request: str, indexed as the frame; null where a row would not be sent.

        With several samples a row has several ids, and its label stands several times.
        """
        self._check()
        ids, fates = self._ids()
        index = self.frame.index.repeat(self.recipe.samples)
        series = pd.Series(ids.to_pandas().to_numpy(), index=index, name="custom_id", dtype=object)
        return series.where(fates.to_numpy() <= Fate.REUSED, None).astype("string")

    def preview(self, n: int = 5) -> pd.DataFrame:
        """
        Show the requests of the first rows just as they would be sent.

        Parameters
        ----------
        n : int
            Rows to show.

        Returns
        -------
        pandas.DataFrame
            ``custom_id`` and the request's body, a column a parameter, indexed as the frame. A notebook shows the
            first request as messages, and what differs between the rows.
        """
        import orjson

        from .display.preview import Preview

        if not isinstance(n, (int, np.integer)) or n < 0:
            raise InputError(f"n is {n!r}; preview takes a whole number of rows.")
        self._check()
        first, *_ = freeze(
            self.recipe, self.frame.iloc[: max(n, 1)]
        )  # to its end: there it says what is wrong
        first = first.slice(0, n)
        lines: dict[str, dict[str, Any]] = {}
        body = PROVIDERS[self.recipe.provider].asks

        def keep(rendered: list[bytes]) -> None:
            for request in map(orjson.loads, rendered):
                lines[request["custom_id"]] = request[body]

        writer = RequestWriter(self.recipe, None, on_lines=keep)
        ids = writer.add(first)["custom_id"].to_pylist()[:: self.recipe.samples]
        shown = [{"custom_id": key, **lines.get(key, {})} for key in ids]
        return Preview(shown, index=self.frame.index[: len(shown)])

    def estimate(self) -> Estimate:
        """
        Count requests, tokens and dollars, without sending anything.

        Returns
        -------
        Estimate
        """
        self._check()
        here = settings()
        recipe = self.recipe
        answered = None
        if recipe.custom_id is None:
            home = home_here()
            account = account_to_look(home.path)
            answered = Known(home, here.base_url, account, recipe.provider, recipe.endpoint)
        return estimate_frame(self.frame, recipe, answered=answered, overrides=here.prices)

    def to_jsonl(self, directory: str | os.PathLike[str]) -> list[Path]:
        """
        Write the request files for people who upload them by hand.

        Parameters
        ----------
        directory : path
            Created where it is missing.

        Returns
        -------
        list of pathlib.Path
            One file, or as many as the service's limits ask for.
        """
        self._check()
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        return _write(self.frame, self.recipe, target)

    @door("fresh", "display", "max_cost", "deadline", "mode", asks=False)
    def submit(self, **options: Any) -> Job:
        """
        Send it, and return the running job; the same plan submitted again is the same job.

        Parameters
        ----------
        {options}

        Returns
        -------
        Job
        """
        self._check()
        return submit_frame(self.frame, self.recipe, Sending(**options))

    def _check(self) -> None:
        """Find out whether the frame can still be asked: it may have been changed since the plan was made."""
        problems = frame_problems(self.recipe, self.frame)
        if problems:
            raise InputError(problems)
        self._check_series()

    def _check_series(self) -> None:
        if self._was is None:
            return
        ours = {*self.recipe.answer_names, *self.recipe.error_names}
        columns = [name for name in self._was.columns.unique() if name not in ours]
        if not stayed(self.frame, self._was, columns):
            raise InputError(
                "Rows of the frame were moved or changed after this plan was made, or the columns that told them apart are "
                "gone, and a Series of prompts belongs to the rows as they were: make the Series and the plan again."
            )

    def join(self, results: Results) -> pd.DataFrame:
        """
        Return the frame with answers that were carried by hand.

        Parameters
        ----------
        results : pandas.DataFrame, path or iterable of path
            From ``dobatch.read_results("output.jsonl", "error.jsonl")``, or the files themselves, which is quicker:
            only what answers need is read, while the rows' ids are worked out.
        """
        if lacking(self.recipe.columns, self.frame):
            raise InputError(frame_problems(self.recipe, self.frame))
        self._check_series()
        table, (ids, fates) = table_and(results, self._ids)
        columns = answer_columns(
            ids,
            fates,
            table,
            **self.recipe.answer_options,
            index=self.frame.index,
        )
        warn_of_strangers(columns[f"{self.recipe.into}_error"], ids, table)
        return joined(self.frame, columns)

    def _ids(self) -> tuple[Any, Any]:
        return ids_of(self.frame, self.recipe, self._known)


def _write(frame: pd.DataFrame, recipe: Recipe, directory: Path) -> list[Path]:
    paths: list[Path] = []
    # Beside its place first: a row that cannot be rendered must not leave half of the files behind.
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        writer = RequestWriter(recipe, Path(folder), on_part=lambda part: paths.append(part.path))
        for frozen in freeze(recipe, frame):
            writer.add(frozen)
        writer.close()
        return [Path(shutil.move(path, directory / path.name)) for path in paths]
