"""What `score` found: the numbers, the rows behind them, and how they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dobatch_pandas.errors import InputError

__all__ = ["Counts", "Evaluation", "Noise"]


@dataclass(frozen=True)
class Counts:
    """
    How many rows there are of each sort.

    ``counted`` rows are what the accuracy divides by: ``correct + wrong``, and ``failed`` where those
    count as wrong.
    """

    rows: int
    counted: int
    answered: int
    correct: int
    wrong: int
    failed: int
    unlabelled: int

    @classmethod
    def of(cls, rows: pd.DataFrame, counted: pd.DataFrame) -> Counts:
        """Count the outcomes of graded rows."""
        found = rows["outcome"].value_counts()
        correct, wrong = int(found["correct"]), int(found["wrong"])
        return cls(
            rows=len(rows),
            counted=len(counted),
            answered=correct + wrong,
            correct=correct,
            wrong=wrong,
            failed=int(found["failed"]),
            unlabelled=int(found["unlabelled"]),
        )


@dataclass(frozen=True)
class Noise:
    """
    What changes when the same requests are sent again.

    Parameters
    ----------
    samples : int
        Answers to each request.
    pairs : int
        Pairs of answers to the same request that were compared.
    answers : float
        Share of pairs whose answer differs.
    outcomes : float
        Share of pairs of which one answer is right and the other is not.
    """

    samples: int
    pairs: int
    answers: float
    outcomes: float


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """
    How well one column agrees with another.

    Attributes
    ----------
    accuracy, interval : float and (float, float)
        Share of the counted rows that are right, with its Wilson interval.
    counts : Counts
        Rows, and what became of them.
    table : pandas.DataFrame
        Every metric: value, low, high, and the number of rows it is about.
    classes : pandas.DataFrame or None
        Labels: precision, recall, F1 and support of every class.
    confusion : pandas.DataFrame or None
        Labels: gold classes down, answers across, failed rows in a column of their own.
    slices : pandas.DataFrame or None
        The same for every group of the ``by`` columns; ``small`` marks those of few rows.
    rows : pandas.DataFrame
        A line a row of the frame, on its index: predicted, actual, correct, score, outcome, error.
    samples : pandas.DataFrame or None
        Accuracy of every sample, where requests were repeated.
    noise : Noise or None
        How much the samples differ among themselves.
    """

    name: str
    kind: Literal["labels", "numbers", "text"]
    match: str | None
    predicted: str
    actual: str
    error: str | None
    failed: Literal["wrong", "exclude"]
    tolerance: float
    confidence: float
    counts: Counts
    rows: pd.DataFrame
    table: pd.DataFrame
    classes: pd.DataFrame | None
    confusion: pd.DataFrame | None
    slices: pd.DataFrame | None
    runs: dict[str, pd.DataFrame]
    frame: pd.DataFrame
    notes: tuple[str, ...] = field(default=())

    @property
    def accuracy(self) -> float:
        """Share of the counted rows that are right; NaN where there are none."""
        return self["accuracy"]

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's interval."""
        low, high = self.table.loc["accuracy", ["low", "high"]].to_numpy(float)
        return float(low), float(high)

    @property
    def metrics(self) -> pd.Series[Any]:
        """Every metric's value, by name."""
        return self.table["value"]

    def __getitem__(self, metric: str) -> float:
        if metric not in self.table.index:
            raise KeyError(f"{metric!r}; there are: {', '.join(self.table.index)}")
        return float(self.metrics.to_dict()[metric])

    @property
    def errors(self) -> pd.Series[Any]:
        """Failed rows by error code, most frequent first."""
        return self.rows.loc[self.rows["outcome"] == "failed", "error"].value_counts()

    @property
    def samples(self) -> pd.DataFrame | None:
        """Accuracy of every sample on all labelled rows, failed ones as wrong; None for one sample."""
        if len(self.runs) < 2:
            return None
        lines = {}
        for column, rows in self.runs.items():
            found = rows["outcome"].value_counts()
            labelled = int(found[["correct", "wrong", "failed"]].sum())
            lines[column] = {
                "accuracy": found["correct"] / labelled if labelled else math.nan,
                "correct": found["correct"],
                "failed": found["failed"],
                "rows": labelled,
            }
        return pd.DataFrame.from_dict(lines, orient="index").rename_axis("sample")

    @property
    def noise(self) -> Noise | None:
        """How often an identical request was answered differently; None for one sample."""
        if len(self.runs) < 2:
            return None
        runs = list(self.runs.values())
        pairs = answers = outcomes = 0
        for place, first in enumerate(runs):
            for second in runs[place + 1 :]:
                used = (first["outcome"] != "unlabelled").to_numpy()
                if self.failed == "exclude":
                    used &= (first["predicted"].notna() & second["predicted"].notna()).to_numpy()
                a, b = first[used], second[used]
                pairs += len(a)
                # As text, so that two failed rows are the same and not NaN != NaN.
                answers += int(
                    (a["predicted"].map(str).to_numpy() != b["predicted"].map(str).to_numpy()).sum()
                )
                outcomes += int(
                    ((a["outcome"] == "correct").to_numpy() != (b["outcome"] == "correct").to_numpy()).sum()
                )
        share = (answers / pairs, outcomes / pairs) if pairs else (math.nan, math.nan)
        return Noise(len(runs), pairs, *share)

    def wrong(self, n: int | None = None) -> pd.DataFrame:
        """Return the rows of the frame that are wrong or failed, with outcome and score beside them."""
        chosen = self.rows["outcome"].isin(["wrong", "failed"]).to_numpy()
        beside = self.rows.loc[chosen, ["outcome", "score"]]
        found = self.frame[chosen].drop(columns=["outcome", "score"], errors="ignore")
        found = pd.concat([found, beside], axis=1) if found.index.is_unique else found.assign(
            outcome=beside["outcome"].array, score=beside["score"].array
        )  # fmt: skip
        return found if n is None else found.head(n)

    def to_frame(self) -> pd.DataFrame:
        """Return every metric as a line: value, low, high, rows."""
        return self.table.copy()

    def plot(
        self, kind: Literal["confusion", "slices", "scores"] | None = None, *, ax: Any = None, **options: Any
    ) -> Any:
        """
        Draw the evaluation and return the matplotlib Axes.

        Parameters
        ----------
        kind : {"confusion", "slices", "scores"}, optional
            The confusion matrix; accuracy of every slice with its interval; the distribution of the
            rows' scores, or of the errors of numbers. None: the first of these that there is.
        ax : matplotlib.axes.Axes, optional
            Where to draw; None makes a figure.
        **options
            ``normalise=True`` for a confusion matrix in shares of each gold class.
        """
        from . import plots

        if kind is None:
            kind = (
                "confusion"
                if self.confusion is not None
                else ("slices" if self.slices is not None else "scores")
            )
        draw = {"confusion": plots.confusion, "slices": plots.slices, "scores": plots.scores}.get(kind)
        if draw is None:
            raise InputError(f'kind={kind!r} is not one of "confusion", "slices", "scores".')
        return draw(self, ax=ax, **options)

    def to_html(
        self, path: str | PathLike[str], *, rows: int = 100, columns: list[str] | None = None
    ) -> Path:
        """
        Write a report to share: one file, no script, nothing from the network. Returns its path.

        Parameters
        ----------
        path : path-like
            The file; replaced if there is one.
        rows : int
            How many of the wrong and failed rows to include.
        columns : list of str, optional
            Columns of the frame to show for those; None shows all.
        """
        from . import report

        return report.write(Path(path), report.evaluation_page(self, rows=rows, columns=columns))

    def __repr__(self) -> str:
        low, high = self.interval
        counts = self.counts
        interval = f" [{low:.1%}, {high:.1%}]" if counts.counted else ""
        sizes = f"MAE {self['mae']:.4g}, R² {self['r2']:.3g}, " if self.kind == "numbers" else ""
        return (
            f"<Evaluation {self.predicted} against {self.actual}: {sizes}{self.headline} "
            f"{self.accuracy:.1%}{interval}, "
            f"{counts.correct:,} of {counts.counted:,} rows; {self.failed_words}>"
        )

    def _repr_html_(self) -> str:
        from . import report

        return report.evaluation_html(self)

    @property
    def headline(self) -> str:
        """What the accuracy is called for this kind."""
        if self.kind == "numbers":
            return f"within ±{self.tolerance:g}"
        return "accuracy" if self.kind == "labels" else f"right ({self.match})"

    @property
    def failed_words(self) -> str:
        """How failed and unlabelled rows were treated, with both counts."""
        counts = self.counts
        words = "no row failed"
        if counts.failed:
            words = f"{counts.failed:,} failed, " + (
                "counted as wrong" if self.failed == "wrong" else "left out"
            )
            other = "accuracy_answered" if self.failed == "wrong" else "accuracy_all"
            of = "of the answered rows" if self.failed == "wrong" else "with them"
            words += f" ({self[other]:.1%} {of})"
        return words + (f"; {counts.unlabelled:,} unlabelled" if counts.unlabelled else "")
