"""
Freezing: everything of the user's evaluated over rows, so that what is left is text and JSON in Arrow.

Columns of text are taken as they are, without a Python object a row; other values, format specs and functions
are evaluated row by row. Rows that cannot be are collected, and named all at once.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.endpoints import endpoint_for
from dobatch_pandas.errors import InputError, Problem, outside

from .prompts import (
    MEMBERS,
    Column,
    Field,
    Missing,
    Template,
    is_missing,
    json_default,
    messages_problem,
    numbers_in,
    plain,
    template,
)
from .recipe import Recipe
from .row import Row, Rows

__all__ = ["NAMED", "freeze", "freeze_batches", "id_texts", "missing_in"]

FIRST_ROWS = 1_024
MOST_ROWS = 16_384
PIECE_BYTES = 8_000_000
NAMED = 20  # rows of a problem that are named
_CURE = 'drop the rows, or say missing="skip" or missing="keep"'

# What Python writes for a missing value.
_NOTHING = re.compile(rb"\b(?:nan|None|NaT)\b|<NA>")

Mask = npt.NDArray[np.bool_]
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class _Faulty:
    """Rows that cannot be asked, by reason."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {}
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._doubtful: list[Any] = []

    def add(self, reason: str, label: Any, example: object = "") -> None:
        self._counts[reason] += 1
        if self._counts[reason] <= NAMED:
            # A label of numpy's would show its type in the message.
            label = label.item() if isinstance(label, np.generic) else label
            self._rows.setdefault(reason, []).append(label)
        self._examples.setdefault(reason, f": {example}" if str(example) else "")

    def doubt(self, label: Any) -> None:
        """Take in a row whose prompt holds what Python writes for a missing value."""
        self._doubtful.append(label.item() if isinstance(label, np.generic) else label)

    def complain(self) -> None:
        """Raise an InputError of all of them, if there are any; warn of those that are asked with a missing value."""
        if self._rows:
            raise InputError(
                [
                    Problem(reason + self._examples[reason], tuple(rows), self._counts[reason])
                    for reason, rows in self._rows.items()
                ]
            )
        if self._doubtful:
            found = Problem(
                "The prompt function has written a missing value as Python does (nan, None), and that is asked: write what "
                'stands for it, or return None and say missing="skip"; missing="keep" asks as it is',
                tuple(self._doubtful[:NAMED]),
                len(self._doubtful),
            )
            warnings.warn(str(found), stacklevel=outside())


def freeze(
    recipe: Recipe, frame: pd.DataFrame, read: set[Hashable] | None = None
) -> Iterator[pa.RecordBatch]:
    """
    Evaluate everything of the user's over a frame, piece by piece.

    Parameters
    ----------
    recipe : Recipe
    frame : pandas.DataFrame
    read : set, optional
        Takes the names of the columns that a prompt function reads.

    Yields
    ------
    pyarrow.RecordBatch
        Text (``f0`` ...) and JSON (``j0`` ...) for each place in the body that differs from row to row, and
        ``custom_id`` where the ids are the user's own. Null in a row that has nothing to ask.

    Raises
    ------
    InputError
        At the end, with every row that cannot be asked.
    """
    faulty = _Faulty()
    read = set() if read is None else read
    start, rows = 0, FIRST_ROWS
    while start < len(frame):
        piece = frame.iloc[start : start + rows]
        batch = _frozen(
            recipe, piece if recipe.kind == "callable" else piece[recipe.columns], start, faulty, read
        )
        yield batch
        start += len(piece)
        # So many rows at a time that memory stays flat, whatever their length.
        fitting = PIECE_BYTES // max(batch.nbytes // len(piece), 1)
        rows = int(np.clip(fitting, 1, min(2 * rows, MOST_ROWS)))
    faulty.complain()


def freeze_batches(recipe: Recipe, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Do what `freeze` does for rows that are in Arrow, a batch for each; errors name rows by their position."""
    texts = {kind: pd.StringDtype("pyarrow") for kind in (pa.string(), pa.large_string())}
    faulty = _Faulty()
    first = 0
    for batch in batches:
        piece = batch.to_pandas(types_mapper=texts.get)
        piece.index = pd.RangeIndex(first, first + len(piece))
        yield _frozen(recipe, piece, first, faulty, set())
        first += len(piece)
    faulty.complain()


def id_texts(values: pd.Series) -> pd.Series:
    """Ids of the user's own as text; null where one is missing, or has no text that a request can carry."""
    texts = _text_column(values)
    if texts is None:
        texts = pa.array(
            [None if gone else _id_text(value) for value, gone in _values(values)], pa.large_string()
        )
    return pd.Series(texts.to_pandas().to_numpy(), index=values.index, name=values.name, dtype="str")


def _id_text(value: Any) -> str | None:
    try:
        text = str(value) if isinstance(value, bytes) else plain(value)
    except Exception:  # noqa: BLE001  an object of the user's may raise anything when it is asked for its text
        return None
    return text if encodes(text) else None


def encodes(text: str) -> bool:
    """Whether a request can carry a text: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_in(values: pd.Series) -> Mask:
    """
    Which values are missing: NaN is, wherever pandas keeps it apart from NA.

    In a nullable float column 0/0 is NaN and not NA, in some versions of pandas and with some settings.
    """
    gone: Mask = np.array(values.isna(), bool)
    kind = values.dtype
    if isinstance(kind, (pd.Float32Dtype, pd.Float64Dtype)) or (
        isinstance(kind, pd.ArrowDtype) and pa.types.is_floating(kind.pyarrow_dtype)
    ):
        gone |= np.isnan(values.to_numpy(np.float64, na_value=np.nan))
    elif isinstance(kind, pd.CategoricalDtype) and pd.api.types.is_float_dtype(kind.categories.dtype):
        gone |= np.append(missing_in(pd.Series(kind.categories)), True)[values.cat.codes.to_numpy()]
    return gone


def _frozen(
    recipe: Recipe, piece: pd.DataFrame, start: int, faulty: _Faulty, read: set[Hashable]
) -> pa.RecordBatch:
    asked = [name for name in recipe.columns if name != recipe.custom_id]
    gone = np.column_stack([np.zeros((len(piece), 0), bool), *(missing_in(piece[name]) for name in asked)])
    absent = np.asarray(gone.any(axis=1))
    if recipe.missing == "error":
        for row in np.flatnonzero(absent).tolist():
            names = [asked[i] for i in np.flatnonzero(gone[row])]
            faulty.add(
                f"A value is missing in {', '.join(map(repr, names))}: {_CURE}",
                piece.index[row],
            )
    present: Mask = np.ones(len(piece), bool) if recipe.missing == "keep" else ~absent
    frozen: dict[str, pa.Array] = {}
    for place, name in recipe.slots.items():
        if place is MEMBERS:
            frozen[name] = _Questions(recipe, piece, present, faulty, read).members(start)
        elif isinstance(place, Column):
            frozen[name] = _json_column(piece[place.name], present, faulty)
        else:
            frozen[name] = _texts(place, piece, present, recipe.missing, faulty)
    if recipe.custom_id is not None:
        frozen["custom_id"] = pa.array(id_texts(piece[recipe.custom_id]), pa.string(), from_pandas=True)
    elif not frozen:
        frozen["row"] = pa.array(np.ones(len(piece), bool))
    return pa.record_batch(frozen)


# -- text


def _texts(place: Field, piece: pd.DataFrame, present: Mask, missing: str, faulty: _Faulty) -> pa.Array:
    """One field of a template, rendered for each row; null where a row is not asked."""
    columns = [piece[name] for name in place.columns]
    found = _text_column(columns[0]) if place.simple else None
    if found is None:
        # A missing value that is kept stands for an empty string, whatever its format.
        here = present & ~np.logical_or.reduce([missing_in(column) for column in columns])
        found = _evaluated(place, columns, piece.index, here, missing, faulty)
    if missing == "keep":
        return pc.fill_null(found, "")
    return (
        found if present.all() else pc.if_else(pa.array(present), found, pa.scalar(None, pa.large_string()))
    )


def _text_column(values: pd.Series) -> pa.Array | None:
    """
    A column of strings, whole numbers or booleans as text, without a Python object a row where pandas has none.

    None where it holds something else, or text that is not UTF-8.
    """
    kind = values.dtype
    if isinstance(kind, pd.SparseDtype):
        return _text_column(values.astype(kind.subtype))
    if isinstance(kind, pd.CategoricalDtype):
        words = _text_column(pd.Series(kind.categories))
        if words is None:
            return None
        codes = values.cat.codes.to_numpy()
        return words.take(pa.array(codes, mask=codes < 0))
    if pd.api.types.is_bool_dtype(kind) and not pd.api.types.is_object_dtype(kind):
        return pc.if_else(pa.array(values, from_pandas=True), "True", "False").cast(pa.large_string())
    if pd.api.types.is_integer_dtype(kind):
        return one_array(pa.array(values, from_pandas=True)).cast(pa.large_string())
    if pd.api.types.is_object_dtype(kind) and pd.api.types.infer_dtype(values, skipna=True) not in (
        "string",
        "empty",
    ):
        return None
    if not (pd.api.types.is_object_dtype(kind) or isinstance(kind, pd.StringDtype) or _is_arrow_text(kind)):
        return None
    try:
        found = one_array(pa.array(values, from_pandas=True)).cast(pa.large_string())
        found.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return None
    return found


def _is_arrow_text(kind: Any) -> bool:
    return isinstance(kind, pd.ArrowDtype) and (
        pa.types.is_string(kind.pyarrow_dtype) or pa.types.is_large_string(kind.pyarrow_dtype)
    )


def _evaluated(
    field: Field, columns: Sequence[pd.Series], labels: pd.Index, here: Mask, missing: str, faulty: _Faulty
) -> pa.Array:
    """Render a field row by row; rows that are not `here` are null."""
    out: list[str | None] = []
    for number, values in enumerate(zip(*map(_objects, columns), strict=True)):
        text = None
        if here[number]:
            try:
                text = field.evaluate(dict(zip(field.columns, values, strict=True)))
                text.encode()
            except UnicodeError:
                text = None
                faulty.add(f"{{{field.source}}} is text that is not Unicode (half a surrogate pair, or bytes)",
                           labels[number])  # fmt: skip
            except Missing:
                if missing == "error":
                    faulty.add(f"{{{field.source}}} is missing: {_CURE}", labels[number])
            except Exception as error:  # noqa: BLE001  a value of the user's may raise anything; rows are named
                faulty.add(
                    f"{{{field.source}}} cannot be rendered, {type(error).__name__}", labels[number], error
                )
        out.append(text)
    return pa.array(out, pa.large_string())


def _objects(values: pd.Series) -> list[Any]:
    """A column's values as Python objects; text that is not UTF-8 as text that cannot be encoded."""
    if _is_arrow_text(values.dtype) or isinstance(values.dtype, pd.StringDtype):
        try:
            return list(values)
        except UnicodeDecodeError:
            broken = one_array(pa.array(values, from_pandas=True)).cast(pa.large_binary()).to_pylist()
            return [None if raw is None else raw.decode(errors="surrogateescape") for raw in broken]
    kind = values.dtype
    if isinstance(kind, pd.Float32Dtype) or (
        isinstance(kind, pd.ArrowDtype) and kind.pyarrow_dtype in (pa.float32(), pa.float16())
    ):
        gone = missing_in(values)
        numbers = values.to_numpy(np.float32, na_value=np.nan)
        return [None if no else number for number, no in zip(numbers, gone, strict=True)]
    if kind in (np.float32, np.float16):
        return list(values.to_numpy())  # as numpy writes them: Python would show digits that were never there
    return values.tolist()


# -- JSON


def _json_column(values: pd.Series, present: Mask, faulty: _Faulty) -> pa.Array:
    """One JSON value a row; null in Arrow where a row is not asked, null in JSON where it is kept without one."""
    whole = pd.api.types.is_float_dtype(values.dtype)
    out: list[bytes | None] = []
    for number, (value, gone) in enumerate(_values(values)):
        if not present[number]:
            out.append(None)
            continue
        if gone:
            value = None
        elif whole and float(value).is_integer() and abs(value) < 2**53:
            value = int(value)  # a column of whole numbers turns into floats as soon as one is missing
        try:
            if not all(map(math.isfinite, numbers_in(value))):
                raise TypeError(f"{value!r:.60} is or holds nan or inf, and JSON has no such number")
            out.append(orjson.dumps(value, default=json_default, option=_NUMPY | orjson.OPT_NON_STR_KEYS))
        except (TypeError, RecursionError) as error:
            out.append(None)
            faulty.add(f"The value of {values.name!r} is not JSON", values.index[number], error)
    return pa.array(out, pa.large_binary())


def _values(values: pd.Series) -> Iterator[tuple[Any, bool]]:
    return zip(_objects(values), missing_in(values).tolist(), strict=True)


class _Questions:
    """The question's part of the body, for prompts that differ from row to row in more than values."""

    def __init__(
        self, recipe: Recipe, piece: pd.DataFrame, present: Mask, faulty: _Faulty, read: set[Hashable]
    ) -> None:
        self._recipe, self._piece, self._present, self._faulty = recipe, piece, present, faulty
        self._read = read
        self._endpoint = endpoint_for(recipe.endpoint, recipe.provider, recipe.model)
        self._system = None if recipe.system is None else template(recipe.system, "system text")

    def members(self, start: int) -> pa.Array:
        """JSON without its braces for each row; `start` is the position of the first."""
        rows: Iterable[Row | None] = [None] * len(self._piece)
        if self._recipe.kind == "callable" or self._system is not None:
            rows = Rows(self._piece, _objects, self._read)
        out: list[bytes | None] = []
        for number, (prompt, row) in enumerate(zip(self._prompts(start), rows, strict=True)):
            asked = self._present[number]
            label = self._piece.index[number]
            out.append(self._one(prompt, row, label) if asked else None)
            if isinstance(rows, Rows) and self._recipe.missing != "keep":
                found = _NOTHING.findall(out[-1] or b"")
                if found and not rows.missing(number).isdisjoint(word.decode() for word in found):
                    self._faulty.doubt(label)
        return pa.array(out, pa.large_binary())

    def _prompts(self, start: int) -> list[Any]:
        if self._recipe.kind == "series":
            return list(self._recipe.live.iloc[start : start + len(self._piece)])
        if self._recipe.kind == "column":
            return [_decoded(value) for value in self._piece[self._recipe.prompt].tolist()]
        return [self._recipe.live] * len(self._piece)

    def _one(self, prompt: Any, row: Row | None, label: Any) -> bytes | None:
        if self._recipe.kind == "callable":
            function: Callable[[Any], Any] = prompt
            try:
                prompt = function(row)
            except Exception as error:  # noqa: BLE001  a function of the user's may raise anything; rows are named
                self._faulty.add(f"The prompt function raised {type(error).__name__}", label, error)
                return None
        if is_missing(prompt):
            if self._recipe.missing == "error":
                self._faulty.add("There is no prompt (None or missing)", label)
            if self._recipe.missing != "keep":
                return None
            prompt = ""
        if not isinstance(prompt, str):
            try:
                prompt = _unfolded(prompt)
                problem = messages_problem(prompt, self._endpoint.roles)
            except RecursionError:
                problem = "a message holds itself"
            if problem is not None:
                self._faulty.add("The prompt is neither a text nor messages", label, problem)
                return None
        try:
            keep = self._recipe.missing == "keep"
            system = None if self._system is None else _rendered(self._system, row or {}, keep)
            members = self._endpoint.members(prompt, system)
            if not all(map(math.isfinite, numbers_in(members))):
                raise ValueError("it holds a number that JSON has no word for (nan or inf)")
            return orjson.dumps(members, option=_NUMPY)[1:-1]
        except Missing as error:
            if self._recipe.missing == "error":
                self._faulty.add(f"{{{error}}} of the system text is missing: {_CURE}", label)
            return None
        except Exception as error:  # noqa: BLE001  as above
            self._faulty.add(f"The prompt cannot be rendered, {type(error).__name__}", label, error)
            return None


def _rendered(text: Template, row: Mapping[str, Any], keep: bool) -> str:
    """Render a text for a row; a missing value that is kept stands for an empty string, whatever its format."""
    return "".join(
        piece if isinstance(piece, str) else _field_text(piece, row, keep) for piece in text.pieces
    )


def _field_text(field: Field, row: Mapping[str, Any], keep: bool) -> str:
    if any(is_missing(row[name]) for name in field.columns):
        return ""
    try:
        return field.evaluate(row)
    except Missing:
        if not keep:
            raise
        return ""


def _unfolded(value: Any, free: bool = False) -> Any:
    """
    Messages as they were before Arrow held them, which makes arrays of lists, and gives each what only some had, as None.

    The service takes no null for what a message does not have. What is `free` may hold anything, and is left as it is.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {
            key: _unfolded(inner, free or key in ("input", "arguments"))
            for key, inner in value.items()
            if inner is not None or free or (key == "content" and "role" in value)
        }
    return [_unfolded(inner, free) for inner in value] if isinstance(value, (list, tuple)) else value


def _decoded(value: Any) -> Any:
    """A column may hold messages as text: as JSON, or as Python writes them, which is what a CSV file makes of lists."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    found: Any = None
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        if _SPOKEN.match(value):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                found = ast.literal_eval(value.strip())
    if isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found):
        return found
    return value  # any other list is a text that happens to look like one


_SPOKEN = re.compile(r"\s*\[\{.*'role':", re.DOTALL)
