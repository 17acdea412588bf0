"""What is wrong with a question or with a frame, found before a row is rendered."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd

from .errors import Problem
from .freezing import id_texts
from .prompts import Column

if TYPE_CHECKING:
    from .recipe import Recipe

__all__ = ["frame_problems", "option_problems", "param_problems"]

_ANTHROPIC_ID = r"[a-zA-Z0-9_-]{1,64}"


def option_problems(
    model: Any, into: Any, system: Any, missing: Any, samples: Any, metadata: Any, custom_id: Any
) -> list[Problem | str]:
    """Say what is wrong with what is asked for beside the question."""
    problems: list[Problem | str] = []
    if not isinstance(model, str) or not model:
        problems.append(f"model is {model!r}; it takes the name of a model.")
    if not isinstance(into, str) or not into:
        problems.append(f"into is {into!r}; it takes the name of a column.")
    if system is not None and not isinstance(system, str):
        problems.append(f"system is {type(system).__name__}; it takes a text, or a template over columns.")
    if missing not in ("error", "skip", "keep"):
        problems.append(f"missing is {missing!r}; it takes 'error', 'skip' or 'keep'.")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        problems.append(f"samples is {samples!r}; it takes a whole number from 1 on.")
    if metadata is not None and not (
        isinstance(metadata, Mapping) and all(isinstance(x, str) for pair in metadata.items() for x in pair)
    ):
        problems.append(f"metadata is {metadata!r:.60}; it takes a mapping of texts to texts.")
    if isinstance(custom_id, (pd.Series, list, np.ndarray)):
        problems.append("custom_id takes the name of a column that holds the ids: assign them to one first.")
    return problems


def param_problems(module: Any, params: Mapping[str, Any]) -> list[Problem | str]:
    """Say what is wrong with parameters of the body."""
    problems: list[Problem | str] = [
        f"{name} cannot be given: {module.RESERVED[name]}."
        for name, value in params.items()
        if name in module.RESERVED and not (value is False or (name == "n" and value == 1))
    ]
    problems += module.problems({**module.DEFAULTS, **params})
    for name, value in params.items():
        try:
            orjson.dumps(value, default=_column_as_null, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            problems.append(f"{name} is not JSON: {error}. One value a row is dobatch.col('column').")
            continue
        if any(not math.isfinite(number) for number in _floats(value)):
            problems.append(f"{name} is {value!r}; JSON has no such number.")
    return problems


def _column_as_null(value: Any) -> None:
    if not isinstance(value, Column):
        raise TypeError


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, (float, np.floating)):
        yield float(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _floats(inner)
    elif isinstance(value, (list, tuple, np.ndarray)):
        for inner in value:
            yield from _floats(inner)


def frame_problems(recipe: Recipe, frame: pd.DataFrame) -> list[Problem]:
    """Say what is wrong with a frame: whole columns at a time, nothing is rendered."""
    problems = [] if len(frame) else [Problem("The frame has no rows.")]
    for name in recipe.columns:
        if name not in frame.columns:
            problems.append(Problem(_unknown(name, frame.columns)))
        elif isinstance(frame[name], pd.DataFrame):
            problems.append(
                Problem(f"{name!r} stands for several columns of the frame: give each a name of its own.")
            )
        elif name == recipe.custom_id:
            problems += _id_problems(frame[name], recipe)
        elif recipe.missing == "error":
            problems += _missing(frame[name])
    problems += [
        Problem(f"The answer would replace column {name!r}, which the prompt uses: choose another name.")
        for name in recipe.answer_names
        if name in recipe.columns
    ]
    if recipe.kind == "series":
        problems += _series_problems(recipe.source, frame, recipe.missing)
    if recipe.kind == "callable" and recipe.source is None:
        problems.append(Problem("The prompt function is not kept on disk: submit the frame again."))
    return problems


def _unknown(name: Any, columns: pd.Index) -> str:
    known = [column if isinstance(column, str) else repr(column) for column in columns]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    folded = [column for column in known if column.casefold() == str(name).casefold()] or near
    hint = f" Did you mean {folded[0]!r}?" if folded else ""
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    shown = ", ".join(map(repr, columns[:30]))
    return f"There is no column {name!r}.{hint} The columns are {shown or 'none at all'}{more}."


def _missing(values: pd.Series) -> list[Problem]:
    gone = values.isna().to_numpy()
    if not gone.any():
        return []
    count = int(gone.sum())
    return [
        Problem(
            f"Column {values.name!r} has {count:,} missing value{'s' if count > 1 else ''}. Drop the rows, or say "
            'missing="skip" (no request, the row gets an error code) or missing="keep" (an empty string).',
            tuple(values.index[gone][:20]),
            count,
        )
    ]


def _id_problems(values: pd.Series, recipe: Recipe) -> list[Problem]:
    texts = id_texts(values)
    gone = texts.isna().to_numpy()
    every = texts.fillna("")
    if recipe.samples > 1:
        ends = [f"-{number}" for number in range(2, recipe.samples + 1)]
        every = pd.concat([every, *(every + end for end in ends)])
    sent = every.duplicated(keep=False).to_numpy().reshape(recipe.samples, -1).any(axis=0)
    if recipe.provider == "anthropic":
        fine = every.str.fullmatch(_ANTHROPIC_ID).to_numpy(bool)
        rule = "be 1 to 64 letters, digits, '_' or '-'"
    else:
        fine = (every != "").to_numpy(bool)
        rule = "be a text that is not empty"
    illegal = ~fine.reshape(recipe.samples, -1).all(axis=0)
    last = f"-{recipe.samples}"
    more = "" if recipe.samples == 1 else f", also with the number of a sample ({last!r}) behind it"
    problems = []
    for rows, what in (
        (gone, "are missing: every row needs an id"),
        (
            sent & ~gone,
            f"stand in several rows{more}: ids must be unique, or leave out custom_id to have them made",
        ),
        (illegal & ~gone, f"are not legal: an id must {rule}{more}"),
    ):
        if rows.any():
            shown = ", ".join(repr(text) for text in dict.fromkeys(texts[rows & ~gone].head(5)))
            problems.append(
                Problem(
                    f"custom_id: {int(rows.sum()):,} of column {values.name!r} {what}"
                    + (f" (such as {shown})." if shown else "."),
                    tuple(values.index[rows][:20]),
                    int(rows.sum()),
                )
            )
    return problems


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
