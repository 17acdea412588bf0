"""What `score` and `compare` found: the numbers, the rows behind them, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError

from .given import is_whole
from .significance import cluster_codes, mean_share
from .texts import as_text

__all__ = ["Comparison", "Counts", "Evaluation", "Metric", "Noise", "Reduce"]

Metric = Literal["accuracy", "mae", "score"]
Reduce = Literal["mean", "majority", "any"]


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
        Share of the counted rows that are right, with its interval.
    counts : Counts
        Rows, and what became of them.
    rules : dict
        What decided which row is right: kind, match, tolerance, threshold, normalise.
    table : pandas.DataFrame
        Every metric: value, low, high, and the number of rows it is about.
    classes : pandas.DataFrame or None
        Labels and sets: precision, recall, F1 and support of every class.
    confusion : pandas.DataFrame or None
        Labels: gold classes down, answers across, failed rows in a column of their own.
    slices : pandas.DataFrame or None
        The same for every group of the ``by`` columns; ``small`` marks those of few rows, ``p_holm`` tells
        whether a slice differs from the other rows, corrected for the number of slices.
    fields : pandas.DataFrame or None
        Nested answers: a line a field; ``parts`` has the evaluation of each.
    rows : pandas.DataFrame
        A line a row of the frame, on its index: predicted, actual, correct, score, outcome, error; with
        repeated samples also ``share``, how many of them are right.
    samples : pandas.DataFrame or None
        Accuracy of every sample, where requests were repeated.
    noise : Noise or None
        How much the samples differ among themselves.
    about : dict
        What was kept with it: model, prompt, schema, cost, ...
    """

    name: str
    kind: Literal["labels", "numbers", "text", "dates", "times", "sets", "sequences", "fields"]
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
    rules: Mapping[str, Any] = field(default_factory=dict)
    reduce: Reduce = "mean"
    cluster: str | None = None
    fields: pd.DataFrame | None = None
    parts: Mapping[str, Evaluation] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

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
                    used = used & (first["predicted"].notna() & second["predicted"].notna()).to_numpy()
                a, b = first[used], second[used]
                pairs += len(a)
                # As text, so that two failed rows are the same and not NaN != NaN.
                answers += int(
                    (a["predicted"].map(as_text).to_numpy() != b["predicted"].map(as_text).to_numpy()).sum()
                )
                outcomes += int(
                    ((a["outcome"] == "correct").to_numpy() != (b["outcome"] == "correct").to_numpy()).sum()
                )
        share = (answers / pairs, outcomes / pairs) if pairs else (math.nan, math.nan)
        return Noise(len(runs), pairs, *share)

    def pass_at(self, k: int) -> tuple[float, float, float]:
        """
        Return the chance that one of k answers is right, with its interval, unbiased from the samples there are.

        References
        ----------
        M. Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374.
        """
        there = max(1, len(self.runs))
        if not is_whole(k) or not 1 <= k <= there:
            raise InputError(f"k={k!r} must be from 1 to {there}, the number of samples there are.")
        right, answers = self._right_of_each()
        enough = answers >= k
        values = [
            1 - math.comb(n - c, k) / math.comb(n, k)
            for n, c in zip(answers[enough].tolist(), right[enough].tolist(), strict=True)
        ]
        codes = None if self.cluster is None else cluster_codes(self.frame[self.cluster])[enough]
        return mean_share(np.array(values, dtype=float), self.confidence, codes)

    def _right_of_each(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """How many samples of each row are right, and how many count."""
        counted = [] if self.failed == "exclude" else ["failed"]
        graded = list(self.runs.values()) or [self.rows]
        right = sum((run["outcome"] == "correct").to_numpy(int) for run in graded)
        there = sum(run["outcome"].isin(["correct", "wrong", *counted]).to_numpy(int) for run in graded)
        return np.asarray(right), np.asarray(there)

    def wrong(self, n: int | None = None) -> pd.DataFrame:
        """
        Return the rows of the frame that are wrong or failed, with outcome and score beside them.

        Where the frame has columns of these names, ours are ``outcome_of_<predicted>`` and
        ``score_of_<predicted>``: the frame's own stay as they are.
        """
        chosen = self.rows["outcome"].isin(["wrong", "failed"]).to_numpy()
        if n is not None and (not is_whole(n) or n < 0):
            raise InputError(f"n={n!r} must be a whole number of rows, or None for all.")
        found = self.frame[chosen].copy()
        for name in ("outcome", "score"):
            found[self.own_name(name)] = self.rows.loc[chosen, name].array
        return found if n is None else found.head(n)

    def own_name(self, name: str) -> str:
        """Return what a column of ours is called beside the frame's."""
        if name not in self.frame.columns:
            return name
        own = f"{name}_of_{self.predicted}"
        while own in self.frame.columns:
            own += "_"
        return own

    def save(self, name: str | None = None, **about: Any) -> Path:
        """
        Keep this evaluation in the home folder, for later sessions to list and compare. Returns its folder.

        Parameters
        ----------
        name : str, optional
            What to call it; None takes its own. The same name again is a newer run of the same: `compare` and
            `require` take the newest, ``dobatch.evaluations()`` lists all.
        **about
            What to keep with it besides: ``job=`` takes prompt, model, schema and cost from a job; anything
            else is kept as it is, such as ``prompt="v3"``.
        """
        from . import saved

        return saved.save(self, name, about)

    def require(
        self, *, against: str | Evaluation | None = None, margin: float | None = None, **least: float
    ) -> Evaluation:
        """
        Raise unless this evaluation is good enough; return it otherwise.

        Parameters
        ----------
        against : str or Evaluation, optional
            Must not be worse than this one (a saved one's name), told by `compare` on the rows in both.
        margin : float, optional
            With ``against``: the whole interval of the difference must lie above ``-margin``, which only
            enough rows can show.
        **least : float
            What each metric must reach: ``accuracy=0.9``. Errors (``mae``, ``rmse``) must not be above theirs.

        Raises
        ------
        RequirementNotMet
            All that falls short, at once. It is an `AssertionError` too.
        """
        from . import gate

        return gate.require(self, against=against, margin=margin, least=least)

    def to_frame(self) -> pd.DataFrame:
        """Return every metric as a line: value, low, high, rows."""
        return self.table.copy()

    def plot(
        self,
        kind: Literal["confusion", "slices", "scores", "fields"] | None = None,
        *,
        ax: Any = None,
        **options: Any,
    ) -> Any:
        """
        Draw the evaluation and return the matplotlib Axes.

        Parameters
        ----------
        kind : {"confusion", "slices", "scores", "fields"}, optional
            The confusion matrix; accuracy of every slice or field with its interval; the distribution of
            the rows' scores, or of the errors of numbers. None: the first of these that there is.
        ax : matplotlib.axes.Axes, optional
            Where to draw; None makes a figure.
        **options
            ``normalise=True`` for a confusion matrix in shares of each gold class.
        """
        from . import plots

        if kind is None:
            there = {"confusion": self.confusion, "fields": self.fields, "slices": self.slices}
            kind = next((what for what, found in there.items() if found is not None), "scores")  # type: ignore[misc]
        draws = {
            "confusion": plots.confusion, "slices": plots.slices, "scores": plots.scores, "fields": plots.fields,
        }  # fmt: skip
        draw = draws.get(str(kind))
        if draw is None:
            raise InputError(f'kind={kind!r} is not one of "confusion", "slices", "scores", "fields".')
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

        return report.write(path, report.evaluation_page(self, rows=rows, columns=columns))

    def __repr__(self) -> str:
        low, high = self.interval
        counts = self.counts
        sizes = {"MAE": self["mae"], "R²": self["r2"]} if self.kind == "numbers" else {}
        measured = [f"{name} {size:.4g}" for name, size in sizes.items() if not math.isnan(size)]
        if counts.counted:
            measured.append(f"{self.headline} {self.accuracy:.1%} [{low:.1%}, {high:.1%}]")
        words = ", ".join([*measured, self.correct_words])
        return f"<Evaluation {self.predicted} against {self.actual}: {words}; {self.failed_words}>"

    def _repr_html_(self) -> str:
        from . import report

        return report.evaluation_html(self)

    @property
    def headline(self) -> str:
        """What the accuracy is called for this kind."""
        words = {
            "numbers": f"within ±{self.tolerance:g}" if self.tolerance else "equal",
            "labels": "accuracy",
            "text": f"correct ({self.match})",
            "dates": "same date",
            "times": "same time",
            "sets": "same set",
            "sequences": "same list",
            "fields": "all fields correct",
        }[self.kind]
        if len(self.runs) > 1:
            how = {"mean": "mean of", "majority": "majority of", "any": "any of"}[self.reduce]
            words += f", {how} {len(self.runs)} samples"
        return words

    @property
    def correct_words(self) -> str:
        """How many rows are correct, of how many."""
        counts = self.counts
        if len(self.runs) > 1 and self.reduce == "mean":
            return f"{counts.counted:,} rows with {len(self.runs)} samples each"
        if not counts.counted:
            return "there is no row to count"
        verb = "is" if counts.counted == 1 else "are"
        return f"{counts.correct:,} of {counts.counted:,} rows {verb} correct"

    @property
    def failed_words(self) -> str:
        """How failed and unlabelled rows were treated, with both counts."""
        counts = self.counts
        if not counts.counted and not counts.failed:
            return f"{counts.unlabelled:,} unlabelled"
        words = "none is without an answer"
        if counts.failed:
            have = "has" if counts.failed == 1 else "have"
            if self.failed == "wrong":
                words = f"{counts.failed:,} {have} no answer and count{'s' if counts.failed == 1 else ''} as wrong"
                if counts.failed < counts.counted:
                    words += f"; {self['accuracy_answered']:.1%} of the answered rows are correct"
            else:
                words = (
                    f"{counts.failed:,} without an answer {'is' if counts.failed == 1 else 'are'} left out"
                )
                words += f"; {self['accuracy_all']:.1%} with them"
        return words + (f"; {counts.unlabelled:,} unlabelled" if counts.unlabelled else "")


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """
    Two or more runs on the same rows; the first is what the others are measured against.

    Attributes
    ----------
    verdict : str
        One sentence: is the difference more than noise, and how many rows would tell.
    table : pandas.DataFrame
        A line a run: value, difference to the first with its paired interval, p (``p_holm``: corrected for
        the number of runs), ``verdict`` (better, worse, not told), wins, losses, failed rows. An interval
        holds 0 wherever the test does not tell the runs apart.
    slices : pandas.DataFrame or None
        The same for every group of the ``by`` columns, corrected for the number of groups.
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
    needed : (float, float)
        Rows that would tell the difference: from the largest to the smallest that is plausible, by the test
        that is used; infinite where none may be there at all. ``needed_as_seen`` for the difference seen.
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
    needed: tuple[float, float]
    needed_as_seen: float
    detectable: float
    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]
    test: str = "McNemar"
    confidence: float = 0.95
    inputs: pd.DataFrame | None = None

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

        Returns
        -------
        pandas.DataFrame
            Gold, every run's answer and outcome, and the first frame's other columns beside them.
        """
        if change not in (None, "win", "loss", "other answer"):
            raise InputError(f'change={change!r} is not one of "win", "loss", "other answer".')
        changes = self.rows["change"]
        chosen = (changes != "same" if change is None else changes == change).to_numpy()
        rows = self.rows[chosen]
        if self.inputs is None:
            return rows
        beside = self.inputs[chosen]
        own = [name for name in beside.columns if name not in rows.columns]
        found = rows.copy()
        for name in own:
            found[name] = beside[name].set_axis(found.index)
        return found

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

        return report.write(path, report.comparison_page(self, rows=rows))

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        from . import report

        return report.comparison_html(self)
