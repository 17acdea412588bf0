"""What is wrong with a frame, found before a row is rendered."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dobatch_pandas.arrow.keyset import KeySet, keys_of
from dobatch_pandas.endpoints import PROVIDERS, endpoint_for
from dobatch_pandas.errors import Problem

from .freeze import NAMED, id_texts, missing_in
from .prompts import Column
from .recipe import Recipe

__all__ = ["NO_ROWS", "IdFaults", "frame_problems"]

NO_ROWS = "The frame has no rows."


def frame_problems(recipe: Recipe, frame: pd.DataFrame) -> list[Problem]:
    """Say what is wrong with a frame: whole columns at a time, nothing is rendered."""
    unusable = _unusable(frame)
    if unusable:
        return unusable  # whatever else is asked of these fails
    problems = [] if len(frame) else [Problem(NO_ROWS)]
    for name in recipe.columns:
        if name not in frame.columns:
            problems.append(Problem(_unknown(name, frame.columns)))
        elif isinstance(frame[name], pd.DataFrame):
            problems.append(
                Problem(f"{name!r} stands for several columns of the frame: give each a name of its own.")
            )
        elif not _is_name(name) or (name is None and None not in list(frame.columns)):
            problems.append(
                Problem(
                    f"A column whose name is {name!r} ({type(name).__name__}) cannot be asked by name; texts, numbers and "
                    "tuples of them can: give it another one, as df.rename(columns=...) does, or ask with a function."
                )
            )
        elif name == recipe.custom_id:
            ids = IdFaults(recipe)
            ids.look(frame[name])
            problems += ids.problems()
        elif recipe.missing == "error":
            problems += _missing(frame[name])
    problems += [
        Problem(f"The answer would replace column {name!r}, which the prompt uses: choose another name.")
        for name in recipe.answer_names
        if name in recipe.columns
    ]
    problems += _replaced(recipe, frame)
    problems += _beyond_limits(recipe, frame)
    if recipe.kind == "template" and recipe.prompt in frame.columns:
        problems.append(
            Problem(
                f"The prompt {recipe.prompt!r} is the name of a column, and would be asked as it stands in every row. Write "
                f"{'{' + recipe.prompt + '}'!r} for what the column holds."
            )
        )
    if recipe.kind == "series":
        problems += _series_problems(recipe.live, frame, recipe.missing)
    if recipe.kind == "callable" and recipe.live is None:
        problems.append(Problem("The prompt function is not kept on disk: submit the frame again."))
    return problems


def _is_name(name: Any) -> bool:
    """Whether a column can be asked by this name in every later session, too: it is kept as JSON."""
    if isinstance(name, tuple):
        return all(map(_is_name, name))
    if isinstance(name, (float, np.floating)):
        return bool(np.isfinite(name))
    # pandas takes True for a choice of rows.
    return name is None or (isinstance(name, (str, int, np.integer)) and not isinstance(name, bool))


def _unusable(frame: pd.DataFrame) -> list[Problem]:
    """Arrow types that pandas holds and can do nothing else with, not even show."""
    kinds = [(f"Column {name!r}", f"df[{name!r}]", kind) for name, kind in frame.dtypes.items()]
    kinds += [
        ("The index", "df.index", frame.index.get_level_values(n).dtype) for n in range(frame.index.nlevels)
    ]
    return [
        Problem(
            f"{what} is of the Arrow type {kind.pyarrow_dtype}, which pandas holds but can neither compare nor show: "
            f"{place} = {place}.tolist() makes it one that it can."
        )
        for what, place, kind in kinds
        if isinstance(kind, pd.ArrowDtype) and not _is_usable(kind)
    ]


def _is_usable(kind: pd.ArrowDtype) -> bool:
    try:
        return kind.type is not None
    except NotImplementedError:  # string_view, list_view, run_end_encoded ...
        return False


def _beyond_limits(recipe: Recipe, frame: pd.DataFrame) -> list[Problem]:
    """Values of a parameter's column that the service is known to refuse."""
    problems = []
    limits = endpoint_for(recipe.endpoint, recipe.provider, recipe.model).limits
    for name, limit in limits.items():
        place = recipe.params.get(name)
        if not isinstance(place, Column) or list(frame.columns).count(place.name) != 1:
            continue
        values = frame[place.name]
        there = ~missing_in(values)
        wrong = there.copy()
        wrong[there] = [not limit.holds(value) for value in values[there].tolist()]
        if wrong.any():
            count = int(wrong.sum())
            problems.append(
                Problem(
                    f"{name} takes {limit}, and {count:,} value{'s' if count > 1 else ''} of column {place.name!r} "
                    f"{'are' if count > 1 else 'is'} not (such as {values[wrong].tolist()[0]!r:.40})",
                    tuple(values.index[wrong][:NAMED]),
                    count,
                )
            )
        elif name == "dimensions" and len(lengths := values[there].unique()) > 1:
            problems.append(
                Problem(
                    f"dimensions: column {place.name!r} holds {len(lengths):,} lengths ({', '.join(map(str, lengths[:5]))}), "
                    "and vectors in a column are of one length: ask for each in a job of its own."
                )
            )
    return problems


def _unknown(name: Any, columns: pd.Index) -> str:
    known = [column if isinstance(column, str) else repr(column) for column in columns]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    folded = [column for column in known if column.casefold() == str(name).casefold()] or near
    hint = f" Did you mean {folded[0]!r}?" if folded else ""
    reached = [
        column
        for column in columns
        if str(column) == str(name)
        or (isinstance(column, str) and column.startswith(tuple(f"{name}{mark}" for mark in ".[:!")))
    ]
    if reached:
        # A template has its own use for these marks, and a text is no tuple.
        better = re.sub(r"\W+", "_", str(reached[0])).strip("_")
        cure = f"df.rename(columns={{{reached[0]!r}: {better!r}}})"
        if isinstance(reached[0], tuple) and columns.nlevels > 1:
            better = "_".join(str(level) for level in reached[0] if level != "")
            cure = "df.set_axis(['_'.join(map(str, c)) for c in df.columns], axis=1)"
        hint = (
            f" A template cannot write the name {reached[0]!r}: give the column another one first, as {cure} does, and "
            f'write {{{better}}}; or ask with a function, lambda row: f"... {{row[{reached[0]!r}]}}".'
        )
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    shown = ", ".join(map(repr, columns[:30]))
    return f"There is no column {name!r}.{hint} The columns are {shown or 'none at all'}{more}."


def _replaced(recipe: Recipe, frame: pd.DataFrame) -> list[Problem]:
    """Columns of the user's that the answers would replace."""
    if f"{recipe.into}_error" in frame.columns:
        return []  # answers of an earlier run, in all likelihood
    there = [
        name
        for name in recipe.answer_names
        if name in frame.columns and name not in recipe.columns
        # What was put there to be filled may be.
        if frame.empty or frame[name].notna().to_numpy().any()
    ]
    if not there:
        return []
    cure = "another name for the field" if recipe.schema else "into= another name"
    return [
        Problem(
            f"The answers would replace the column {', '.join(map(repr, there))} of the frame: give {cure}, or drop the "
            "column first."
        )
    ]


def _missing(values: pd.Series) -> list[Problem]:
    gone = missing_in(values)
    if not gone.any():
        return []
    count = int(gone.sum())
    return [
        Problem(
            f"Column {values.name!r} has {count:,} missing value{'s' if count > 1 else ''}. Drop the rows, or say "
            'missing="skip" (no request, the row gets an error code) or missing="keep" (an empty string).',
            tuple(values.index[gone][:NAMED]),
            count,
        )
    ]


class IdFaults:
    """
    What is wrong with the user's own ids, which may come in pieces.

    Parameters
    ----------
    recipe : Recipe
    seen : KeySet, optional
        Ids of earlier pieces; needed where there are several.
    """

    def __init__(self, recipe: Recipe, seen: KeySet | None = None) -> None:
        self._recipe, self._seen = recipe, seen
        last = recipe.samples
        self._more = f", also with the number of a sample ('-{last}') behind it" if last > 1 else ""
        provider = PROVIDERS[recipe.provider]
        self._pattern = provider.id_pattern
        self._found: dict[str, _Found] = {
            "are missing: every row needs an id": _Found(),
            f"stand in several rows{self._more}: ids must be unique, or leave out custom_id to have them made": _Found(),
            f"are not legal: an id must be {provider.id_words}{self._more}": _Found(),
            "have no text that a request can carry (an object without a text of its own, half a surrogate pair)": _Found(),
        }

    def look(self, values: pd.Series) -> None:
        """Look at some more rows."""
        texts = id_texts(values)
        gone = missing_in(values)
        broken = texts.isna().to_numpy() & ~gone
        every = texts.fillna("")
        samples = self._recipe.samples
        if samples > 1:
            every = pd.concat([every, *(every + f"-{number}" for number in range(2, samples + 1))])
        repeated = every.duplicated(keep=False).to_numpy(copy=True)
        if self._seen is not None:
            repeated |= ~self._seen.add_new(keys_of(pa.array(every.tolist(), pa.string())))
        fine = (every != "" if self._pattern is None else every.str.fullmatch(self._pattern)).to_numpy(bool)
        illegal = ~fine.reshape(samples, -1).all(axis=0)
        sound = ~gone & ~broken
        masks = (gone, repeated.reshape(samples, -1).any(axis=0) & sound, illegal & sound, broken)
        for found, rows in zip(self._found.values(), masks, strict=True):
            found.add(texts[rows])

    def problems(self) -> list[Problem]:
        """Say what was found, all rows taken together."""
        return [
            Problem(
                f"custom_id: {found.count:,} of column {self._recipe.custom_id!r} {what}"
                + (f" (such as {', '.join(map(repr, found.examples))})." if found.examples else "."),
                tuple(found.rows),
                found.count,
            )
            for what, found in self._found.items()
            if found.count
        ]


@dataclass
class _Found:
    """Rows with the same fault: how many, the labels of the first, and a few different values."""

    count: int = 0
    rows: list[Any] = field(default_factory=list)
    examples: dict[str, None] = field(default_factory=dict)

    def add(self, texts: pd.Series) -> None:
        self.count += len(texts)
        self.rows += texts.index[: NAMED - len(self.rows)].tolist()
        if len(self.examples) < 5:
            self.examples |= dict.fromkeys(texts.dropna().head(5 - len(self.examples)))


def _series_problems(prompts: Any, frame: pd.DataFrame, missing: str) -> list[Problem]:
    if prompts is None:
        return [Problem("The Series of prompts is not kept on disk: submit the frame again.")]
    if len(prompts) != len(frame):
        return [Problem(f"The Series has {len(prompts):,} prompts and the frame {len(frame):,} rows.")]
    if not prompts.index.equals(frame.index):
        return [
            Problem("The Series of prompts has another index than the frame: align it with reindex first.")
        ]
    return _missing(prompts.rename(prompts.name or "prompt")) if missing == "error" else []
