"""The rows behind an explorer: filtered, sorted and cut into pages, a few milliseconds each."""

from __future__ import annotations

import difflib
import itertools
import re
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .grade import OUTCOMES
from .groups import is_measured, slice_groups
from .texts import as_text

__all__ = ["CHANGES", "Column", "View", "diff"]

CHANGES = ("win", "loss", "other answer", "same")

#: Characters of a value that a table's cell and the full row hold; more would slow the page down.
CELL, FULL = 160, 200_000

_MOST_CLASSES, _MOST_CODES, _MOST_GROUPS, _MOST_SLICES, _MOST_BARS = 14, 50, 40, 8, 12

#: Gives a row's value by its position.
Lookup = Callable[[int], Any]

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Column:
    """A column of the table: its title, its values by position, and how wide it is drawn."""

    name: str
    values: pd.Series[Any]
    kind: str = "text"  # "text", "short", "number", "outcome"
    words: Callable[[float], str] | None = None  # how numbers are written

    def cell(self, position: int) -> str | None:
        """A value as the table shows it."""
        value = self.values.iloc[position]
        return cell(value) if self.words is None or is_null(value) else self.words(value)


@dataclass(frozen=True)
class Summary:
    """What the head of a column shows: how many rows have each value, or each range of numbers."""

    names: list[str]
    codes: Ints
    bins: bool

    @classmethod
    def of(cls, column: Column) -> Summary | None:
        """Count a column's values, where they are few or numbers."""
        values = column.values
        if is_measured(values.dtype):
            numbers = values.astype("Float64").astype(float).to_numpy()
            finite = np.isfinite(numbers)
            distinct = np.unique(numbers[finite])
            if len(distinct) > _MOST_BARS:
                low, high = np.percentile(numbers[finite], [1, 99])
                edges = np.linspace(low, high, _MOST_BARS + 1) if low < high else np.array([low, high])
                codes = np.clip(np.digitize(numbers, edges) - 1, 0, len(edges) - 2)
                words = column.words or "{:.4g}".format
                names = [f"{words(a)} to {words(b)}" for a, b in itertools.pairwise(edges)]
                return cls(names, np.where(finite, codes, -1).astype(np.int64), True)
        head = {as_text(value) for value in values.iloc[:2_000].astype(object) if not is_null(value)}
        if not 1 < len(head) <= _MOST_BARS or max(map(len, head)) > CELL:
            return None
        coded = _Coded.of(values)
        return cls(coded.names, coded.codes, False) if len(coded.names) <= _MOST_BARS else None

    def count(self, mask: Bools) -> list[int]:
        """Return how many rows of the mask have each value."""
        inside = self.codes[mask]
        return [int(n) for n in np.bincount(inside[inside >= 0], minlength=len(self.names))]


@dataclass
class Matrix:
    """The confusion matrix's classes, and every row's cell (-1: none)."""

    classes: list[str]
    truth: Ints
    guess: Ints

    @classmethod
    def of(cls, rows: pd.DataFrame, order: list[Hashable]) -> Matrix:
        """Count the rows by class; beyond a limit, the smallest classes become one."""
        sizes = rows["actual"].value_counts()
        if len(order) > _MOST_CLASSES:
            largest = set(sizes.index[: _MOST_CLASSES - 1])
            kept = [label for label in order if label in largest]
        else:
            kept = list(order)
        names = [*map(as_text, kept), *(["(other classes)"] if len(kept) < len(order) else [])]
        other = len(kept)
        outcome = rows["outcome"]
        codes = []
        for column in ("actual", "predicted"):
            found = pd.Index(kept, dtype=object).get_indexer(pd.Index(rows[column].astype(object)))
            codes.append(np.where(found < 0, other, found).astype(np.int64))
        truth, guess = codes
        guess[(outcome == "failed").to_numpy()] = len(names)
        truth[(outcome == "unlabelled").to_numpy()] = -1
        return cls(names, truth, guess)

    def count(self, mask: Bools) -> list[list[int]]:
        """Return the counts of the rows in the mask: gold down, answers across, failed last."""
        across = len(self.classes) + 1
        inside = mask & (self.truth >= 0) & (self.guess >= 0)
        cells = np.bincount(
            self.truth[inside] * across + self.guess[inside], minlength=len(self.classes) * across
        )
        return [[int(count) for count in line] for line in cells.reshape(len(self.classes), across)]


@dataclass
class Filters:
    """What the reader asked to see; nothing set means every row."""

    search: str = ""
    outcomes: tuple[str, ...] = ()
    error: str | None = None
    change: str | None = None
    slices: dict[int, int] = field(default_factory=dict)
    bars: dict[int, int] = field(default_factory=dict)
    cell: tuple[int, int] | None = None
    marked: bool = False

    @classmethod
    def read(cls, said: dict[str, Any]) -> Filters:
        """Read what the front end sent."""
        cell = said.get("cell")
        return cls(
            search=str(said.get("search") or ""),
            outcomes=tuple(map(str, said.get("outcomes") or ())),
            error=said.get("error"),
            change=said.get("change"),
            slices={int(column): int(value) for column, value in (said.get("slices") or {}).items()},
            bars={int(column): int(value) for column, value in (said.get("bars") or {}).items()},
            cell=(int(cell[0]), int(cell[1])) if cell else None,
            marked=bool(said.get("marked")),
        )


class View:
    """
    Everything the explorer shows, by position; knows no widget.

    Safe to call from any thread: a front end's messages may arrive on another than the cell's.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        columns: list[Column],
        *,
        searched: list[pd.Series[Any]],
        outcome: pd.Series[Any] | None = None,
        error: pd.Series[Any] | None = None,
        change: pd.Series[Any] | None = None,
        matrix: Matrix | None = None,
        sections: list[tuple[str, Lookup]] | None = None,
        compared: tuple[pd.Series[Any], pd.Series[Any]] | None = None,
        fields: list[tuple[str, pd.Series[Any]]] | None = None,
        slices: list[tuple[str, pd.Series[Any]]] | None = None,
        request: Callable[[int], Mapping[str, Any]] | None = None,
        choices: Sequence[str] = (),
        spent: Lookup | None = None,
    ) -> None:
        self.frame, self.columns, self.matrix = frame, columns, matrix
        self.rows = len(frame)
        self.marked = np.zeros(self.rows, dtype=bool)
        self.notes: dict[int, str] = {}
        self.choices, self.rater = list(choices), "1"
        self.labels: dict[str, dict[int, str]] = {}
        self._undo: list[tuple[str, int, str | None]] = []
        self._request, self._spent = request, spent
        self._summaries = {
            place: summary
            for place, column in enumerate(columns)
            if (summary := Summary.of(column)) is not None
        }
        self._searched = searched
        self._sections, self._compared, self._fields = sections or [], compared, fields or []
        self._outcome = None if outcome is None else _Coded.of(outcome, list(OUTCOMES))
        self._error = None if error is None else _Coded.of(error)
        self._change = None if change is None else _Coded.of(change, list(CHANGES))
        self._slices = [
            (name, _Coded(g.names, g.codes)) for name, g in ((n, slice_groups(v)) for n, v in slices or [])
        ]
        self._folded: list[pa.ChunkedArray] | None = None
        self._found: dict[str, Bools] = {}
        self._ranks: dict[int, Ints] = {}
        self._lock = threading.RLock()
        self.shown: Ints = np.arange(self.rows)

    def config(self) -> dict[str, Any]:
        """Return what stays the same: columns, and what can be filtered by."""
        return {
            "rows": self.rows,
            "label_length": max((len(cell(label) or "") for label in self.frame.index[:1_000]), default=0),
            "columns": [
                {
                    "name": as_text(column.name),
                    "kind": column.kind,
                    "bars": self._summaries[place].names if place in self._summaries else None,
                }
                for place, column in enumerate(self.columns)
            ],
            "choices": self.choices,
            "outcomes": [] if self._outcome is None else self._outcome.present(),
            "errors": [] if self._error is None else self._error.names[:_MOST_CODES],
            "changes": [] if self._change is None else self._change.present(),
            "slices": [{"name": name, "values": coded.names} for name, coded in self._slices],
            "classes": None if self.matrix is None else self.matrix.classes,
        }

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return one page of the matching rows, with counts for every filter."""
        filters = Filters.read(query.get("filters") or {})
        limit = min(max(int(query.get("limit") or 100), 1), 1_000)
        current = None if query.get("current") is None else int(query["current"])
        with self._lock:
            masks = self._masks(filters)
            everything = np.logical_and.reduce(list(masks.values()), initial=True) & np.ones(self.rows, bool)
            positions = self._sorted(np.flatnonzero(everything), query.get("sort"))
            self.shown = positions
            offset = max(0, min(int(query.get("offset") or 0), max(0, (len(positions) - 1) // limit * limit)))
            reply: dict[str, Any] = {
                "total": len(positions),
                "offset": offset,
                "marked": int(self.marked.sum()),
                # Whether the row that is open is still among those that the filters let through.
                "held": current is not None and 0 <= current < self.rows and bool(everything[current]),
                "rows": [self._line(int(place)) for place in positions[offset : offset + limit]],
            }
            # Each filter counts what the others let through, so that its own choices stay in sight.
            for name, coded in (
                ("outcomes", self._outcome),
                ("errors", self._error),
                ("changes", self._change),
            ):
                if coded is not None:
                    reply[f"{name}_count"] = coded.count(self._others(masks, name))
            reply["bars_count"] = {
                str(place): summary.count(self._others(masks, f"bar {place}"))
                for place, summary in self._summaries.items()
            }
            if self.matrix is not None:
                reply["confusion"] = self.matrix.count(self._others(masks, "cell"))
            return reply

    def row(self, position: int) -> dict[str, Any]:
        """Return one row in full."""
        sections = [{"title": title, "text": full(lookup(position))} for title, lookup in self._sections]
        reply: dict[str, Any] = {
            "position": position,
            "label": cell(self.frame.index[position]),
            "outcome": None if self._outcome is None else self._outcome.name(position),
            "error": None if self._error is None else self._error.name(position),
            "change": None if self._change is None else self._change.name(position),
            "sections": sections,
            "fields": [[name, full(values.iloc[position])] for name, values in self._fields],
            "marked": bool(self.marked[position]),
            "note": self.notes.get(position, ""),
        }
        reply["human"] = self.labels.get(self.rater, {}).get(position)
        if self._spent is not None:
            reply["spent"] = self._spent(position)
        if self._request is not None:
            reply |= told(self._request(position))
        if self._compared is not None:
            first, second = (full(values.iloc[position]) or "" for values in self._compared)
            reply["diff"] = diff(first, second) if first != second else None
        return reply

    def mark(self, position: int, *, marked: bool | None = None, note: str | None = None) -> None:
        """Mark a row, or note something on it; an empty note takes it away."""
        with self._lock:
            if marked is not None:
                self.marked[position] = marked
            if note is not None:
                self.notes.pop(position, None)
                if note:
                    self.notes[position] = note

    def rate(self, position: int, label: str | None) -> None:
        """Give a row the present rater's label; None takes it away."""
        if label is not None and label not in self.choices:
            raise ValueError(f"{label!r} is none of {', '.join(self.choices)}")
        with self._lock:
            given = self.labels.setdefault(self.rater, {})
            self._undo.append((self.rater, position, given.get(position)))
            if label is None:
                given.pop(position, None)
            else:
                given[position] = label

    def undo(self) -> int | None:
        """Take back the present rater's last label, and return its row."""
        with self._lock:
            for place in range(len(self._undo) - 1, -1, -1):
                rater, position, before = self._undo[place]
                if rater != self.rater:  # which that rater may still want to take back
                    continue
                del self._undo[place]
                self.labels[rater].pop(position, None)
                if before is not None:
                    self.labels[rater][position] = before
                return position
        return None

    def _line(self, position: int) -> dict[str, Any]:
        return {
            "position": position,
            "label": cell(self.frame.index[position]),
            "marked": bool(self.marked[position]),
            "noted": position in self.notes,
            "human": self.labels.get(self.rater, {}).get(position),
            "error": None if self._error is None else self._error.name(position),
            "cells": [column.cell(position) for column in self.columns],
        }

    def _masks(self, filters: Filters) -> dict[str, Bools]:
        masks: dict[str, Bools] = {}
        if filters.search:
            masks["search"] = self._search(filters.search)
        if filters.outcomes and self._outcome is not None:
            masks["outcomes"] = self._outcome.among(filters.outcomes)
        if filters.error is not None and self._error is not None:
            masks["errors"] = self._error.among((filters.error,))
        if filters.change is not None and self._change is not None:
            masks["changes"] = self._change.among((filters.change,))
        for column, value in filters.slices.items():
            masks[f"slice {column}"] = self._slices[column][1].codes == value
        for column, value in filters.bars.items():
            masks[f"bar {column}"] = self._summaries[column].codes == value
        if filters.cell is not None and self.matrix is not None:
            truth, guess = filters.cell
            masks["cell"] = (self.matrix.truth == truth) & (self.matrix.guess == guess)
        if filters.marked:
            masks["marked"] = self.marked.copy()
        return masks

    def _others(self, masks: dict[str, Bools], name: str) -> Bools:
        mask = np.ones(self.rows, dtype=bool)
        for other, rows in masks.items():
            if other != name:
                mask &= rows
        return mask

    def _search(self, words: str) -> Bools:
        """Which rows hold the words in any searched column, whatever the case."""
        words = words.lower()
        if words not in self._found:
            if self._folded is None:
                self._folded = [_folded(values) for values in self._searched]
            mask = np.zeros(self.rows, dtype=bool)
            for texts in self._folded:
                hits = pc.fill_null(pc.match_substring(texts, pattern=words), False)
                mask |= hits.to_numpy(zero_copy_only=False)
            if len(self._found) > 20:
                self._found.clear()
            self._found[words] = mask
        return self._found[words]

    def _sorted(self, positions: Ints, sort: dict[str, Any] | None) -> Ints:
        if not sort:
            return positions
        column = int(sort["column"])
        if column not in self._ranks:
            self._ranks[column] = _rank(
                self.columns[column].values if column >= 0 else self.frame.index.to_series()
            )
        ranks = self._ranks[column][positions]
        if sort.get("descending"):
            ranks = np.where(ranks < 0, np.iinfo(np.int64).max, ranks.max(initial=0) - ranks)
        else:
            ranks = np.where(ranks < 0, np.iinfo(np.int64).max, ranks)
        return positions[np.argsort(ranks, kind="stable")]


@dataclass(frozen=True)
class _Coded:
    """A column of few values as small numbers; -1 is null."""

    names: list[str]
    codes: Ints

    @classmethod
    def of(cls, values: pd.Series[Any], order: list[str] | None = None) -> _Coded:
        plain = values.astype(object)
        try:
            codes, found = pd.factorize(plain, use_na_sentinel=True)
        except TypeError:  # lists and dicts
            plain = pd.Series([None if is_null(value) else as_text(value) for value in plain], dtype=object)
            codes, found = pd.factorize(plain, use_na_sentinel=True)
        names = [as_text(name) for name in found]
        if order is None:
            sizes = np.bincount(codes[codes >= 0], minlength=len(names))
            order = list(dict.fromkeys(names[place] for place in np.argsort(-sizes, kind="stable")))
        places = {name: place for place, name in enumerate(order)}
        # The last entry answers for -1, null.
        lookup = np.array([*(places.get(name, -1) for name in names), -1], dtype=np.int64)
        return cls(order, lookup[codes])

    def count(self, mask: Bools) -> dict[str, int]:
        inside = self.codes[mask]
        counts = np.bincount(inside[inside >= 0], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names[:_MOST_CODES], counts, strict=False)}

    def among(self, names: tuple[str, ...]) -> Bools:
        wanted = [place for place, name in enumerate(self.names) if name in names]
        return np.isin(self.codes, wanted)

    def present(self) -> list[str]:
        counts = self.count(np.ones(len(self.codes), dtype=bool))
        return [name for name in self.names if counts.get(name)]

    def name(self, position: int) -> str | None:
        code = int(self.codes[position])
        return None if code < 0 else self.names[code]


def _folded(values: pd.Series[Any]) -> pa.ChunkedArray:
    array = pa.array([None if is_null(v) else as_text(v) for v in values.astype(object)], pa.large_string())
    return pa.chunked_array([pc.utf8_lower(array)])


def _rank(values: pd.Series[Any]) -> Ints:
    """Place of every value in the order of its column; -1 for null."""
    plain = values.reset_index(drop=True)
    try:
        codes, _ = pd.factorize(plain, sort=True)
    except (
        TypeError,
        NotImplementedError,
    ):  # values of several types, or lists, have no order but that of their text
        codes, _ = pd.factorize(plain.astype(object).map(as_text).where(plain.notna()), sort=True)
    return np.asarray(codes, dtype=np.int64)


def is_null(value: Any) -> bool:
    """Whether a value is missing; a list is not, whatever it holds."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def cell(value: Any) -> str | None:
    """A value as the table shows it."""
    if is_null(value):
        return None
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    text = as_text(value[: CELL + 1] if isinstance(value, str) else value)
    return text if len(text) <= CELL else text[:CELL] + "…"


def full(value: Any) -> str | None:
    """A value as the full row shows it."""
    if is_null(value):
        return None
    text = as_text(value)
    return text if len(text) <= FULL else f"{text[:FULL]}… ({len(text):,} characters)"


def told(request: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, as people read it: messages with their roles, parameters in a line, the schema apart."""
    body = {key: value for key, value in request.items() if not is_null(value) and key != "custom_id"}
    messages: list[list[str]] = []
    for key in ("system", "instructions"):
        if key in body:
            messages.append(["system", _content(body.pop(key))])
    for key in ("messages", "input", "prompt"):
        said = body.pop(key, None)
        if isinstance(said, str):
            messages.append(["user", as_text(said)])
        elif isinstance(said, Sequence):
            for part in said:
                known = isinstance(part, Mapping)
                role = str(part.get("role", "user")) if known else "user"
                messages.append([role, _content(part.get("content", part) if known else part)])
    folded = {
        key: body.pop(key) for key in ("response_format", "text", "tools", "output_format") if key in body
    }
    model = body.pop("model", None)
    words = [as_text(model)] if model is not None else []
    words += [f"{key} {as_text(value)}" for key, value in body.items()]
    return {
        "messages": [[role, text[:FULL]] for role, text in messages],
        "parameters": " · ".join(words),
        "schema": as_text(folded) if folded else None,
    }


def _content(value: Any) -> str:
    """A message's content; of parts, their texts."""
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Sequence):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        return "\n".join(as_text(value[n] if text is None else text) for n, text in enumerate(texts))
    return as_text(value)


_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def diff(first: str, second: str) -> list[list[str]]:
    """Return what must be taken out and put in to come from one text to the other, word by word."""
    a, b = _WORD.findall(first), _WORD.findall(second)
    if len(a) * len(b) > 9_000_000:  # word by word would take seconds
        a, b = re.findall(r"[^\n]*\n|[^\n]+", first), re.findall(r"[^\n]*\n|[^\n]+", second)
    pieces = []
    for kind, a_from, a_to, b_from, b_to in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(["=", "".join(a[a_from:a_to])])
            continue
        if a_to > a_from:
            pieces.append(["-", "".join(a[a_from:a_to])])
        if b_to > b_from:
            pieces.append(["+", "".join(b[b_from:b_to])])
    return pieces


def sliceable(frame: pd.DataFrame, taken: set[str]) -> list[str]:
    """Columns worth filtering by: few values that repeat."""
    found: list[str] = []
    for place, name in enumerate(frame.columns):
        if str(name) in taken or len(found) == _MOST_SLICES:
            continue
        column = frame.iloc[:, place]
        if pd.api.types.is_float_dtype(column.dtype):
            continue
        try:
            values = column.nunique()
        except (TypeError, NotImplementedError):  # lists and dicts cannot be counted
            continue
        few = 1 < values <= min(_MOST_GROUPS, max(2, len(frame) / 4))
        if few and all(len(str(value)) <= 40 for value in column.dropna().unique()):
            found.append(name)
    return found
