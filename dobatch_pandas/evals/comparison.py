"""What `compare` found: the verdict, the numbers and the rows behind it, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from .evaluation import Evaluation, Noise

__all__ = ["Comparison", "Metric"]

Metric = Literal["accuracy", "mae", "score"]


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """
    Two or more runs on the same rows; the first is what the others are measured against.

    Attributes
    ----------
    verdict : str
        One sentence: is the difference more than noise, and how many rows would tell.
    table : pandas.DataFrame
        A line a run: value, difference to the first with its paired interval, McNemar's exact p
        (``p_holm``: corrected for the number of runs), wins, losses, failed rows.
    slices : pandas.DataFrame or None
        Wins, losses and the difference for every group of the ``by`` columns.
    rows : pandas.DataFrame
        The rows in every run: gold, every run's answer and outcome, and ``change``.
    unmatched : pandas.DataFrame
        The rows that could not be paired, and why, run by run.
    crossed : pandas.DataFrame or None
        Two runs: rows right and wrong in the first (down) and in the second (across).
    noise : Noise or None
        What repeated identical requests change, where that is known.
    noise_band : float
        How far apart two identical runs come to lie by that noise alone.
    needed : float
        Rows that would tell a difference of the size seen.
    detectable : float
        Smallest difference that the rows at hand can tell.
    """

    metric: Metric
    verdict: str
    verdict_sign: int
    table: pd.DataFrame
    slices: pd.DataFrame | None
    rows: pd.DataFrame
    unmatched: pd.DataFrame
    crossed: pd.DataFrame | None
    noise: Noise | None
    noise_band: float
    needed: float
    detectable: float
    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]

    @property
    def rows_used(self) -> int:
        """Rows that are in every run."""
        return len(self.rows)

    @property
    def higher_is_better(self) -> bool:
        """False for errors, such as MAE."""
        return self.metric != "mae"

    def differ(self, change: str | None = None) -> pd.DataFrame:
        """
        Return the rows on which the runs differ.

        Parameters
        ----------
        change : {"win", "loss", "other answer"}, optional
            ``"win"``: the last run is right where the first was not. None: all of them.
        """
        changes = self.rows["change"]
        return self.rows[changes != "same" if change is None else changes == change]

    def to_frame(self) -> pd.DataFrame:
        """Return the table of runs."""
        return self.table.copy()

    def plot(self, *, ax: Any = None) -> Any:
        """Draw every run's difference to the first with its interval, and return the matplotlib Axes."""
        from . import plots

        return plots.comparison(self, ax=ax)

    def to_html(self, path: str | PathLike[str], *, rows: int = 100) -> Path:
        """Write a report to share: one file, nothing from the network, all escaped. Returns its path."""
        from . import report

        return report.write(Path(path), report.comparison_page(self, rows=rows))

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        from . import report

        return report.comparison_html(self)
