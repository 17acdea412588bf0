"""What an explorer shows of a frame, its evaluations and its responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd

from dobatch_pandas.display.text import dollars
from dobatch_pandas.errors import InputError, Problem

from .explorer import Explorer
from .findings import Comparison, Evaluation
from .given import is_whole, named_columns, need_frame
from .score import score
from .texts import as_text
from .view import Column, Lookup, Matrix, View, is_null, sliceable

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["explore"]

_Rows = TypeVar("_Rows", "pd.Series[Any]", pd.DataFrame)

_TEXT_COLUMNS, _FRAME_COLUMNS = 3, 8  # columns that the table shows unasked


def explore(
    data: pd.DataFrame | Evaluation | Comparison,
    *,
    predicted: str | None = None,
    actual: str | None = None,
    error: str | None = None,
    prompt: str | pd.Series[Any] | Callable[[int], Any] | None = None,
    columns: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    compare_to: str | Evaluation | None = None,
    responses: pd.DataFrame | None = None,
    labels: Sequence[str] | None = None,
    page_size: int = 100,
    **options: Any,
) -> Explorer:
    """
    Open an interactive table on the rows: filter, search, sort, read one in full, mark and note.

    Parameters
    ----------
    data : pandas.DataFrame, Evaluation or Comparison
        The rows; a comparison shows its first and last run beside each other.
    predicted, actual : str, optional
        For a frame: the columns of answers and gold. With both, the rows are scored (``**options`` go to
        `score`), and labels have a confusion matrix to click.
    error : str, optional
        Column of error codes; None takes ``<predicted>_error`` if there is one.
    prompt : str, Series or callable, optional
        What was sent: a column, a Series with the frame's labels, or a function of a row's position. A function
        may return a request's body, a dict: its messages are shown one by one.
    columns : str or sequence of str, optional
        Columns of the frame to show in the table; None takes the first ones that hold text.
    by : str or sequence of str, optional
        Columns to filter by; None takes those of few values.
    compare_to : str or Evaluation, optional
        Another column of answers, or the evaluation of another run on the same rows.
    responses : pandas.DataFrame, optional
        What ``job.responses()`` gives: tokens, finish reason, model and error message of every row, and what each
        cost, where there is a column ``cost`` in US dollars.
    labels : sequence of str, optional
        Up to nine labels that people give by the keys 1 to 9 (u takes the last one back). They come back by
        ``explorer.labels``; ``explorer.rater = "second"`` begins anew without showing the first ones, and
        ``explorer.agreement()`` holds the two against each other.
    page_size : int
        Rows of a page, up to 1,000.

    Returns
    -------
    Explorer
        A cell shows it; marks and notes come back by ``explorer.selection`` and ``explorer.notes``.

    Raises
    ------
    InputError
        Columns that are not there, or runs of other rows: all problems at once.
    MissingExtra
        anywidget is not installed.
    """
    first: Evaluation | None = None
    second: Evaluation | None = None
    if isinstance(data, Comparison):
        first, second = data.evaluations[0], data.evaluations[-1]
    elif isinstance(data, Evaluation):
        first = data
    if first is None:
        cure = (
            "What score() and compare() gave is shown too, and the rows of a job by df.dobatch.explore(job)."
        )
        need_frame(data, "explore()", cure)
    frame = first.frame if first is not None else cast(pd.DataFrame, data)
    if first is not None:
        predicted, actual, error = first.predicted, first.actual, first.error
    elif error is None and predicted is not None and f"{predicted}_error" in frame.columns:
        error = f"{predicted}_error"
    asked, wanted_by = named_columns(frame, columns), named_columns(frame, by)
    named = [predicted, actual, error, prompt if isinstance(prompt, str) else None, *asked, *wanted_by]
    named.append(compare_to if isinstance(compare_to, str) else None)
    problems = _problems(frame, [name for name in named if name is not None], prompt, compare_to, responses)
    if options and (first is not None or predicted is None or actual is None):
        words = ", ".join(f"{name}=" for name in options)
        problems.append(
            Problem(f"{words} goes to score(), which needs the names of two columns: predicted=, actual=.")
        )
    if not is_whole(page_size) or page_size < 1:
        problems.append(Problem(f"page_size={page_size!r} must be a whole number of rows, from 1 on."))
    if problems:
        raise InputError(problems)

    if first is None and predicted is not None and actual is not None:
        first = score(frame, predicted, actual, error=error, **options)
    if isinstance(compare_to, Evaluation):
        second = compare_to
    elif isinstance(compare_to, str) and first is not None:
        same = {**options, "kind": first.kind, "failed": first.failed}
        second = score(frame, compare_to, first.actual, **same)
    if second is not None:
        second = _in_order_of(frame.index, second)
    parts = _Parts(frame, predicted, actual, error, first, second, compare_to, responses)
    if isinstance(prompt, pd.Series):
        prompt = _on_rows(prompt, frame.index)
    texts = asked or parts.text_columns(prompt, wanted_by)
    view = parts.view(prompt, texts, wanted_by, _choices(labels))
    summary, html = parts.summary()
    title = str(predicted) if predicted is not None else "rows"
    if parts.other_name is not None:
        title = f"{title} and {parts.other_name}"
    return Explorer(view, title=title, summary=summary, html=html, page_size=min(page_size, 1_000))


def _in_order_of(index: pd.Index[Any], run: Evaluation) -> Evaluation:
    """The run with its rows in the order of another's, which must be the same rows."""
    own = run.frame.index
    if own.equals(index):
        return run
    order = own.get_indexer(index) if own.is_unique and index.is_unique and len(own) == len(index) else None
    if order is None or (order < 0).any():
        raise InputError("Both runs must be of the same rows: of one index, or of the same unique labels.")
    return replace(run, rows=run.rows.iloc[order], frame=run.frame.iloc[order])


def _choices(labels: Sequence[str] | None) -> list[str]:
    several = pd.api.types.is_list_like(labels)
    choices = [str(label) for label in labels] if labels is not None and several else []
    if labels is not None and not (1 < len(choices) <= 9 and len(set(choices)) == len(choices)):
        raise InputError(
            f"labels={labels!r} must be two to nine different labels, one for each key from 1 on."
        )
    return choices


def _problems(
    frame: pd.DataFrame, named: list[Any], prompt: Any, compare_to: Any, responses: Any
) -> list[Problem]:
    problems = []
    for name in dict.fromkeys(named):
        if not (frame.columns == name).any():
            there = ", ".join(map(repr, frame.columns)) or "none at all"
            problems.append(Problem(f"There is no column {name!r}. The columns are: {there}."))
    repeated = frame.columns[frame.columns.duplicated()].unique()
    if len(repeated):
        words = ", ".join(map(repr, repeated))
        problems.append(
            Problem(f"Several columns have one name: {words}. Rename them, or leave some of them out.")
        )
    if isinstance(prompt, pd.Series) and len(prompt) != len(frame):
        problems.append(Problem(f"prompt= has {len(prompt):,} values for {len(frame):,} rows."))
    elif isinstance(prompt, pd.Series) and _on_rows(prompt, frame.index) is None:
        cure = "where it has the rows' order, give it their labels: prompt.set_axis(df.index)."
        problems.append(Problem(f"prompt= has other labels than the frame, or repeats some: {cure}"))
    if responses is not None and not isinstance(responses, pd.DataFrame):
        problems.append(
            Problem(f"responses= takes what job.responses() gives, not {type(responses).__name__}.")
        )
    elif responses is not None and len(_first_samples(responses)) != len(frame):
        problems.append(Problem(f"responses= has {len(responses):,} rows for the frame's {len(frame):,}."))
    elif responses is not None and _on_rows(_first_samples(responses), frame.index) is None:
        cure = "df.dobatch.explore(job) finds them by what the rows ask."
        problems.append(Problem(f"responses= has other labels than the frame, or repeats some: {cure}"))
    if compare_to is not None and not isinstance(compare_to, (str, Evaluation)):
        problems.append(Problem(f"compare_to={compare_to!r} must be a column's name or an Evaluation."))
    return problems


def _first_samples(responses: pd.DataFrame) -> pd.DataFrame:
    return responses[responses["sample"] == responses["sample"].min()] if "sample" in responses else responses


def _on_rows(found: _Rows, index: pd.Index[Any]) -> _Rows | None:
    """What belongs to rows, in the order of a frame that was sorted since; None where labels do not tell which is which."""
    if found.index.equals(index):
        return found
    known = found.index.is_unique and index.is_unique and index.isin(found.index).all()
    return found.reindex(index) if known else None


class _Parts:
    """Gathers from frame, evaluations and responses what a view is made of."""

    def __init__(
        self,
        frame: pd.DataFrame,
        predicted: str | None,
        actual: str | None,
        error: str | None,
        first: Evaluation | None,
        second: Evaluation | None,
        compare_to: Any,
        responses: pd.DataFrame | None,
    ) -> None:
        self.frame, self.predicted, self.actual = frame, predicted, actual
        self.first, self.second = first, second
        self.error = first.rows["error"] if first is not None else (frame[error] if error else None)
        self.other: pd.Series[Any] | None = None
        self.other_name: str | None = None
        if second is not None:
            self.other, self.other_name = second.frame[second.predicted], second.name
        elif isinstance(compare_to, str):
            self.other, self.other_name = frame[compare_to], compare_to
        self.responses = None if responses is None else _on_rows(_first_samples(responses), frame.index)
        self.own = {str(name) for name in (predicted, actual, error, self.other_name) if name is not None}
        self.samples = {str(name) for run in (first, second) if run is not None for name in run.runs}

    def text_columns(self, prompt: Any, by: list[str]) -> list[str]:
        """Columns to show unasked: the first that hold text and are not filters; all, of a frame alone."""
        if self.predicted is None:
            names = [*dict.fromkeys(self.frame.columns)]
            return [name for name in names if name not in self.own][:_FRAME_COLUMNS]
        taken = self.own | set(by) | ({prompt} if isinstance(prompt, str) else set())
        filters = set(sliceable(self.frame, taken))
        found = []
        for place, name in enumerate(self.frame.columns):
            dtype = self.frame.dtypes.iloc[place]
            text = pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype)
            if text and name not in taken and name not in filters and not str(name).endswith("_error"):
                found.append(name)
        return found[:_TEXT_COLUMNS]

    def view(self, prompt: Any, texts: list[str], by: list[str], choices: list[str]) -> View:
        frame, first = self.frame, self.first
        columns = []
        outcome = first.rows["outcome"] if first is not None else None
        if outcome is not None:
            columns.append(Column("outcome", outcome, "outcome"))
        elif self.error is not None:
            plain = self.error.notna().map({True: "failed", False: None}).astype(object)
            outcome = pd.Series(plain, index=frame.index, dtype=object)
        short = "text" if first is not None and first.kind == "text" else "short"
        for name in (self.actual, self.predicted):
            if name is not None:
                columns.append(Column(str(name), frame[name], short))
        if self.other is not None and self.other_name is not None:
            columns.append(Column(self.other_name, self.other, short))
        failed = self.error is not None and bool(self.error.notna().any())
        if self.error is not None and failed and first is None:  # else the outcome's column shows it
            columns.append(Column("error", self.error, "short"))
        for name in texts:
            # Not by comparing: a name may be missing, or a tuple.
            values = frame.iloc[:, cast(int, frame.columns.get_loc(name))]
            dtype = values.dtype
            text_like = pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype)
            columns.append(Column(str(name), values, "text" if text_like else "short"))
        sections = self._sections()
        searched = [column.values for column in columns if column.kind != "outcome"]
        columns += self._spendings()
        if self.error is not None and first is not None:
            searched.append(self.error)
        if isinstance(prompt, (str, pd.Series)):
            searched.append(frame[prompt] if isinstance(prompt, str) else prompt)
        taken = self.own | {prompt if isinstance(prompt, str) else ""}
        slices = by or sliceable(frame, taken | set(texts) | self.samples)
        answer = frame[self.predicted] if self.predicted is not None else None
        return View(
            frame,
            columns,
            searched=searched,
            outcome=outcome,
            error=self.error if failed else None,
            change=self._change(),
            matrix=self._matrix(),
            sections=sections,
            compared=(answer, self.other) if answer is not None and self.other is not None else None,
            fields=self._fields(prompt),
            slices=[(str(name), frame[name]) for name in slices],
            request=self._request(prompt),
            choices=choices,
            spent=self._spent,
        )

    def _tokens(self) -> dict[str, pd.Series[Any]]:
        if self.responses is None:
            return {}
        names = ("prompt_tokens", "completion_tokens", "cost")
        return {name: self.responses[name] for name in names if name in self.responses}

    def _spendings(self) -> list[Column]:
        """What each row took, as columns to sort and filter by."""
        found = self._tokens()
        columns = []
        counts = [found[name].astype("Float64") for name in found if name != "cost"]
        if counts:
            total = sum(counts[1:], start=counts[0]).reset_index(drop=True)
            columns.append(Column("tokens", total, "number", "{:,.0f}".format))
        if "cost" in found:
            columns.append(Column("cost", found["cost"].reset_index(drop=True), "number", dollars))
        return [column for column in columns if column.values.notna().any()]

    def _spent(self, position: int) -> str | None:
        """What a row took, in words."""
        found = {name: values.iloc[position] for name, values in self._tokens().items()}
        words = {"prompt_tokens": "tokens in", "completion_tokens": "out"}
        parts = [f"{found[name]:,} {word}" for name, word in words.items() if not is_null(found.get(name))]
        said = [", ".join(parts)] if parts else []
        if not is_null(found.get("cost")):
            said.append(dollars(float(found["cost"])))
        return " · ".join(said) or None

    def _request(self, prompt: Any) -> Callable[[int], Mapping[str, Any]] | None:
        """What gives a row's messages, where a prompt is known."""
        if prompt is None:
            return None
        lookup = _at(self.frame[prompt] if isinstance(prompt, str) else prompt)

        def request(position: int) -> Mapping[str, Any]:
            found = lookup(position)
            if isinstance(found, Mapping):
                return found
            return {} if is_null(found) else {"messages": [{"role": "user", "content": as_text(found)}]}

        return request

    def _matrix(self) -> Matrix | None:
        if self.first is None or self.first.confusion is None or not len(self.first.confusion):
            return None
        order: list[Hashable] = list(self.first.confusion.index)
        return Matrix.of(self.first.rows, order)

    def _change(self) -> pd.Series[Any] | None:
        if self.first is None or self.second is None:
            return None
        right = [(run.rows["outcome"] == "correct").to_numpy() for run in (self.first, self.second)]
        answers = [run.rows["predicted"].map(as_text).to_numpy(object) for run in (self.first, self.second)]
        change = np.select(
            [~right[0] & right[1], right[0] & ~right[1], answers[0] != answers[1]],
            ["win", "loss", "other answer"],
            "same",
        )
        return pd.Series(change, index=self.frame.index, dtype=object)

    def _sections(self) -> list[tuple[str, Lookup]]:
        sections: list[tuple[str, Lookup]] = []
        if self.actual is not None:
            sections.append((f"Gold ({self.actual})", _at(self.frame[self.actual])))
        if self.predicted is not None:
            sections.append((f"Answer ({self.predicted})", _at(self.frame[self.predicted])))
        if self.other is not None:
            sections.append((f"Other answer ({self.other_name})", _at(self.other)))
        if self.responses is not None and "error_message" in self.responses:
            sections.append(("Error message", _at(self.responses["error_message"])))
        if self.responses is not None and "text" in self.responses:
            sections.append(("Answer as received", _at(self.responses["text"])))
        return sections

    def _fields(self, prompt: Any) -> list[tuple[str, pd.Series[Any]]]:
        taken = self.own | {prompt if isinstance(prompt, str) else ""}
        columns = self.frame.columns
        fields = [
            (str(columns[n]), self.frame.iloc[:, n]) for n in range(len(columns)) if columns[n] not in taken
        ]
        if self.first is not None and self.first.kind == "text":
            fields.insert(0, ("score", self.first.rows["score"]))
        if self.responses is not None:
            known = {"text", "error_message", "status", "cost"}
            fields += [(str(name), self.responses[name]) for name in self.responses if name not in known]
        return fields

    def summary(self) -> tuple[str, str]:
        """A line for the widget's head, and the picture's first part."""
        from . import report

        if self.first is None:
            return f"{len(self.frame):,} rows", ""
        counts, (low, high) = self.first.counts, self.first.interval
        words = f"{len(self.frame):,} rows"
        if counts.counted:
            share = f"{self.first.accuracy:.1%} [{low:.1%}, {high:.1%}]"
            words = f"{self.first.headline} {share} of {counts.counted:,} rows"
            if self.second is not None and self.second.counts.counted:
                words = f"{self.first.name} {share} → {self.second.name} {self.second.accuracy:.1%}"
        return words, report.evaluation_body(self.first)


def _at(values: pd.Series[Any] | Callable[[int], Any]) -> Lookup:
    if isinstance(values, pd.Series):
        return lambda position: values.iloc[position]
    return values
