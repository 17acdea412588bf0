"""
Which row is which: the labels and the contents of a frame's rows, as they were at the moment of submit.

Where it cannot be computed again what a row asks (its prompt came from a function or a Series), a row is known by its
contents: a hash of the values that the prompt was made of, or of all columns where that is not known. Contents are
hashed so that a change of dtype does not matter: 1, 1.0 and <NA>'s neighbour 1 are one number, a category is its text.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.util import hash_array

from dobatch_pandas.questions.freeze import missing_in
from dobatch_pandas.questions.prompts import plain
from dobatch_pandas.questions.recipe import Recipe

from .folder import read_table, written_whole

__all__ = ["LABEL", "RowRecord", "contents_of", "index_of", "labels_of", "lacking", "stayed"]

LABEL = "index_"  # prefix of the columns that hold index levels
_KEYS = ("dobatch contents", "contents, dobatch"[:16])
_EXACT = 2**53
_VAGUE = "without a text"

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RowRecord:
    """
    The rows of one frame: their labels and, where they are known by them, their contents.

    Parameters
    ----------
    index : pandas.Index
    columns : list or None
        What was hashed; None where rows are known by what they ask.
    hashes : numpy.ndarray or None
        Two numbers a row.
    """

    index: pd.Index
    columns: list[Any] | None = None
    hashes: Hashes | None = None

    @classmethod
    def of(cls, frame: pd.DataFrame, recipe: Recipe, read: set[Hashable]) -> RowRecord:
        """Record a frame's rows; `read` are the columns that a prompt function has looked at."""
        if recipe.portable:
            return cls(frame.index)
        ours = {*recipe.answer_names, *recipe.error_names}
        known = recipe.kind == "callable" and bool(read)
        columns = [name for name in frame.columns.unique() if (name in read if known else name not in ours)]
        columns += [name for name in recipe.columns if name not in columns]
        gone = set(lacking(columns, frame))
        columns = [name for name in columns if name not in gone]
        return cls(frame.index, columns, contents_of(frame, columns))

    def write(self, path: Path) -> None:
        """Write it to a Parquet file, whole or not at all."""
        table = labels_of(self.index)
        metadata = dict(table.schema.metadata or {})
        if self.hashes is not None:
            for number in range(2):
                table = table.append_column(f"contents_{number}", pa.array(self.hashes[:, number]))
            metadata[b"contents"] = json.dumps([_label_to_json(name) for name in self.columns or []]).encode()
        with written_whole(path) as partial:
            pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> RowRecord:
        """Read what `write` wrote."""
        table = read_table(path)
        metadata = table.schema.metadata or {}
        if b"contents" not in metadata:
            return cls(index_of(table))
        columns = [_label_from_json(name) for name in json.loads(metadata[b"contents"])]
        hashes = np.column_stack([table[f"contents_{number}"].to_numpy() for number in range(2)])
        return cls(index_of(table), columns, hashes)

    def places_of(self, frame: pd.DataFrame, ids: Any) -> npt.NDArray[np.int64]:
        """
        Return for each row of a frame which of these rows it is; -1 where that is not certain.

        Parameters
        ----------
        frame : pandas.DataFrame
            With all of `columns`.
        ids : sequence of hashable
            What each of these rows asks. Rows of equal contents that ask the same are the same.
        """
        if self.hashes is None or self.columns is None:
            return np.full(len(frame), -1)
        now, vague = _contents(frame, self.columns)
        same = len(now) == len(self.hashes) and bool((now == self.hashes).all())
        if same and _same(frame.index, self.index):
            return np.where(vague, -1, np.arange(len(now)))
        known: dict[tuple[int, int], list[int]] = {}
        for place, key in enumerate(map(tuple, self.hashes.tolist())):
            known.setdefault(key, []).append(place)
        asked: dict[tuple[int, int], list[int]] = {}
        for row, key in enumerate(map(tuple, now.tolist())):
            asked.setdefault(key, []).append(row)
        places = np.full(len(frame), -1)
        for key, rows in asked.items():
            there = known.get(key, [])
            if len({ids[place] for place in there}) == 1:
                places[rows] = there[0]
            elif there:
                self._break_ties(frame.index, rows, there, places)
        return np.where(vague, -1, places)

    def _break_ties(
        self, labels: pd.Index, rows: list[int], there: list[int], places: npt.NDArray[np.int64]
    ) -> None:
        """Rows whose contents are equal are told apart by their labels, where every one of these is still there."""
        by_label: dict[Any, int] = {}
        for place in there:
            if by_label.setdefault(self.index[place], place) != place:
                return
        if all(labels[row] in by_label for row in rows):
            for row in rows:
                places[row] = by_label[labels[row]]


def lacking(columns: Sequence[Any], frame: pd.DataFrame) -> list[Any]:
    """Which columns a frame does not have, or has several of."""
    return [name for name in columns if name not in frame.columns or isinstance(frame[name], pd.DataFrame)]


def _same(one: pd.Index, other: pd.Index) -> bool:
    return one is other or (len(one) == len(other) and bool(one.equals(other)))


# Contents -------------------------------------------------------------------------------------------------


def stayed(frame: pd.DataFrame, was: pd.DataFrame, columns: Sequence[Any]) -> bool:
    """
    Whether the rows of a frame that was changed in place certainly stand where they stood.

    Parameters
    ----------
    frame, was : pandas.DataFrame
        As it is now, and as it was.
    columns : sequence of hashable
        Of `was`: what a row is known by. Where some have gone, the others have to tell the rows apart.
    """
    kept = [name for name in columns if name in frame.columns]
    if not frame.index.equals(was.index) or not all(_alike(frame[name], was[name]) for name in kept):
        return False
    if len(kept) == len(columns):
        return True
    now, vague = _contents(frame, [name for name in kept if frame[name].ndim == 1])
    return not vague.any() and len(np.unique(now, axis=0)) == len(now)


def _alike(one: Any, other: Any) -> bool:
    """Whether two columns hold the same values, of whatever dtype."""
    try:
        same = bool(one.equals(other))
    except Exception:  # noqa: BLE001  values of the user's may raise anything when they are compared
        same = False
    if same:
        return True
    if one.ndim != 1 or other.ndim != 1:  # a name of several columns
        return False
    now, vague = _contents(one.to_frame("it"), ["it"])
    return not vague.any() and bool((now == contents_of(other.to_frame("it"), ["it"])).all())


def contents_of(frame: pd.DataFrame, columns: Sequence[Any]) -> Hashes:
    """Return two numbers a row that follow from its values in some columns, each of which stands once."""
    return _contents(frame, columns)[0]


def _contents(frame: pd.DataFrame, columns: Sequence[Any]) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """As `contents_of`, and which rows hold a value without a text of its own, by which none can be known again."""
    found = np.zeros((len(frame), 2), np.uint64)
    vague = np.zeros(len(frame), bool)
    for name in columns:
        content = _content(frame[name])
        vague |= content == _VAGUE
        for number, key in enumerate(_KEYS):
            with np.errstate(over="ignore"):
                found[:, number] *= np.uint64(1_000_003)
                found[:, number] ^= hash_array(content, hash_key=key, categorize=True)
    return found, vague


def _content(values: pd.Series) -> Any:
    """Numbers as float64 where that says all of them, everything else as a text that says what it is."""
    kind = values.dtype
    gone = missing_in(values)
    if isinstance(kind, pd.SparseDtype):
        return _content(values.astype(kind.subtype))
    if isinstance(kind, pd.CategoricalDtype):
        words = np.append(_content(pd.Series(kind.categories)).astype(object), "")
        return _unified(
            [word if not no else None for word, no in zip(words[values.cat.codes], gone, strict=True)]
        )
    inferred = pd.api.types.infer_dtype(values, skipna=True) if pd.api.types.is_object_dtype(kind) else ""
    if pd.api.types.is_bool_dtype(kind) or inferred == "boolean":
        return _unified(
            [None if no else f"bool {bool(v)}" for v, no in zip(values.tolist(), gone, strict=True)]
        )
    if (pd.api.types.is_integer_dtype(kind) or pd.api.types.is_float_dtype(kind)) or inferred in (
        "integer",
        "floating",
        "mixed-integer-float",  # for pandas 2, floats beside something missing are, too
    ):
        return _unified(
            [None if no else _told(_number, v) for v, no in zip(values.tolist(), gone, strict=True)]
        )
    if isinstance(kind, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC")
    strict = inferred.startswith("mixed")
    return _unified(
        [None if no else _told(_text, v, strict) for v, no in zip(values.tolist(), gone, strict=True)]
    )


def _told(text: Callable[..., str], *value: Any) -> str:
    """The text of a value; one word for all that have none, or raise something when they are asked for it."""
    try:
        return text(*value)
    except Exception:  # noqa: BLE001  an object of the user's may raise anything, and is no part of the question
        return _VAGUE


def _unified(texts: list[str | None]) -> Any:
    return np.array(["missing" if text is None else text for text in texts], dtype=object)


def _number(value: Any) -> str:
    """A number, as text that is the same for an integer and a float that equals it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT and str(value) != "-0.0":
        value = int(value)
    return f"number {value}"


def _text(value: Any, strict: bool) -> str:
    if isinstance(value, str):
        return f"text {value!a}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return f"list [{', '.join(_text(inner, True) for inner in value)}]"
    if isinstance(value, dict):
        # Arrow gives each what only some have, as None, and some versions of it sort them.
        known = sorted(
            (f"{key!a}: {_text(inner, True)}" for key, inner in value.items() if inner is not None)
        )
        return f"dict {{{', '.join(known)}}}"
    if isinstance(value, (pd.Timestamp, np.datetime64)):
        return f"time {pd.Timestamp(value).isoformat()}"
    if isinstance(value, (bool, np.bool_)):
        return f"bool {bool(value)}"
    if isinstance(value, (bytes, bytearray)):
        return f"bytes {bytes(value).hex()}"
    if isinstance(value, np.generic):
        value = value.item()
    if not strict and isinstance(value, (int, float)):
        return _number(value)
    return f"{type(value).__name__} {plain(value)!a}"


# Labels ---------------------------------------------------------------------------------------------------


def labels_of(index: pd.Index) -> pa.Table:
    """
    Turn an index into Arrow columns ``index_0``, ``index_1`` ..., one a level, from which it can be made again exactly.

    A level whose labels Arrow cannot hold (of mixed types, say) is kept as JSON that names their types.
    """
    arrays, levels = [], []
    for number in range(index.nlevels):
        values = index.get_level_values(number)
        array, level = _level_to_arrow(values)
        arrays.append(array)
        levels.append(level)
    described: dict[str, Any] = {"levels": levels, "names": [_label_to_json(name) for name in index.names]}
    if isinstance(index, pd.RangeIndex):
        described["range"] = [index.start, index.stop, index.step]
    elif isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and index.freq is not None:
        described["freq"] = index.freqstr
    frame = pd.DataFrame({f"{LABEL}{number}": array for number, array in enumerate(arrays)})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"index": json.dumps(described).encode()}
    return table.replace_schema_metadata(metadata)


def index_of(labels: pa.Table) -> pd.Index:
    """Turn the columns that `labels_of` made back into an index; those of version 0.1, too."""
    metadata = labels.schema.metadata or {}
    columns = [name for name in labels.schema.names if name.startswith(LABEL)]
    if not columns:
        return pd.RangeIndex(len(labels))
    described = json.loads(metadata.get(b"index", b"{}"))
    old = json.loads(metadata.get(b"index_names", b"[]")) or [None] * len(columns)
    names = [_label_from_json(name) for name in described["names"]] if described else old
    if "range" in described and (whole := range(*described["range"])) and len(whole) == len(labels):
        return pd.RangeIndex(whole, name=names[0])
    frame = labels.select(columns).to_pandas()
    kinds = described.get("levels", [{}] * len(columns))
    levels = [
        pd.Index(pd.arrays.ArrowExtensionArray(pa.chunked_array(labels[name])))
        if "arrow" in kind
        else _level_from_arrow(frame[name], kind)
        for name, kind in zip(columns, kinds, strict=True)
    ]
    if len(levels) > 1:
        return pd.MultiIndex.from_arrays(levels, names=names)
    index: pd.Index = levels[0].rename(names[0])
    if "freq" in described and len(index):
        try:
            dated: Any = type(index)
            return cast(pd.Index, dated(index, freq=described["freq"]))
        except ValueError:  # some of the labels, not all
            return index
    return index


def _level_to_arrow(values: pd.Index) -> tuple[Any, dict[str, Any]]:
    if isinstance(values, pd.CategoricalIndex):
        _, kind = _level_to_arrow(values.categories)
        kept = [_label_to_json(value) for value in values.categories]
        return np.asarray(values.codes, np.int64), {"categories": kept, "ordered": values.ordered, "of": kind}
    inferred = pd.api.types.infer_dtype(values, skipna=False)
    if values.dtype == object and inferred != "string":
        return _json_texts(values), {"json": True}
    try:
        pa.array(values)
        pa.Table.from_pandas(values.to_frame(index=False, name="x"))
    except (pa.ArrowException, UnicodeError, TypeError, ValueError):
        return _json_texts(values), {"json": True, "dtype": str(values.dtype)}
    if isinstance(values.dtype, pd.StringDtype):
        return values.array, {"string": [values.dtype.storage, values.dtype.na_value is pd.NA]}
    if isinstance(values.dtype, pd.ArrowDtype):
        return values.array, {"arrow": True}
    # Parquet has no seconds, and would bring back milliseconds.
    exact = values.dtype == object or getattr(values, "unit", None) == "s"
    return values.array, {"dtype": str(values.dtype)} if exact else {}


def _level_from_arrow(values: pd.Series, kind: dict[str, Any]) -> pd.Index:
    if "categories" in kind:
        kept = [_label_from_json(value) for value in kind["categories"]]
        categories = pd.Index(
            kept, dtype=object if kind["of"].get("dtype") == "object" or "json" in kind["of"] else None
        )
        made = pd.Categorical.from_codes(values.to_numpy(), categories=categories, ordered=kind["ordered"])
        return pd.CategoricalIndex(made)
    if "json" in kind:
        found = np.empty(len(values), dtype=object)
        found[:] = [_label_from_json(json.loads(text)) for text in values]
        index = pd.Index(found, dtype=object)
        try:
            return index.astype(kind["dtype"]) if "dtype" in kind else index
        except (TypeError, ValueError):
            return index
    if "string" in kind:
        storage, own_na = kind["string"]
        # Before pandas 3 there is one kind of missing text.
        dtype: Any = pd.StringDtype(storage) if own_na else "str" if pd.__version__[0] != "2" else object
        return cast(pd.Index, pd.Index(values, dtype=dtype))
    return cast(pd.Index, pd.Index(values, dtype=kind.get("dtype")))


def _json_texts(values: pd.Index) -> Any:
    return np.array([json.dumps(_label_to_json(value)) for value in values], dtype=object)


def _label_to_json(value: Any) -> Any:
    """A label, or a column's name, as JSON that says of what type it is."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, tuple):
        return {"tuple": [_label_to_json(inner) for inner in value]}
    if isinstance(value, frozenset):
        return {"frozenset": [_label_to_json(inner) for inner in value]}
    for kind, (word, write, _) in _LABELS.items():
        if type(value) is kind:
            return {word: write(value)}
    if value is pd.NA or value is pd.NaT:
        return {"NA" if value is pd.NA else "NaT": None}
    try:
        return {"repr": repr(value)}
    except Exception:  # noqa: BLE001  a label of the user's may raise anything
        return {"repr": object.__repr__(value)}


def _label_from_json(kept: Any) -> Any:
    if not isinstance(kept, dict):
        return kept
    [(word, value)] = kept.items()
    if word in ("tuple", "frozenset"):
        return (tuple if word == "tuple" else frozenset)(_label_from_json(inner) for inner in value)
    if word in ("NA", "NaT"):
        return pd.NA if word == "NA" else pd.NaT
    return next((read(value) for name, _, read in _LABELS.values() if name == word), value)


_LABELS: dict[Any, tuple[str, Any, Any]] = {
    float: ("float", repr, float),
    complex: ("complex", repr, complex),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    Decimal: ("Decimal", str, Decimal),
    Fraction: ("Fraction", str, Fraction),
    UUID: ("UUID", str, UUID),
    PosixPath: ("Path", str, Path),
    WindowsPath: ("Path", str, Path),
    datetime.date: ("date", str, datetime.date.fromisoformat),
    datetime.datetime: ("datetime", str, datetime.datetime.fromisoformat),
    datetime.time: ("time", str, datetime.time.fromisoformat),
    pd.Timestamp: ("Timestamp", str, pd.Timestamp),
    pd.Timedelta: ("Timedelta", str, pd.Timedelta),
    pd.Period: ("Period", lambda p: [str(p), p.freqstr], lambda kept: pd.Period(kept[0], freq=kept[1])),
    pd.Interval: (
        "Interval",
        lambda i: [_label_to_json(i.left), _label_to_json(i.right), i.closed],
        lambda kept: pd.Interval(_label_from_json(kept[0]), _label_from_json(kept[1]), kept[2]),
    ),
}
