"""
What is added to an output that holds what earlier runs have answered: the rows of the source that it does not have.

A row is there when the output has one that is equal in every column of the source, as often as the source has it. So the
same source asked again adds nothing, and one that has grown adds what is new.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dobatch_pandas.arrow.keyset import HELD, Keys, mapped, mixed
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.source import Source, names_in

from .folder import JobFolder, written_whole
from .rows import contents_of

__all__ = ["Append", "appended", "differences", "earlier_output", "kept", "read_new", "write_new"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Append:
    """Which rows of a source an output lacks, and the number of the first file that is added to it."""

    new: Mask
    first: int


def earlier_output(target: str) -> Source | None:
    """Return the files of an output; None where there are none yet."""
    return Source.find(target) if any(name.endswith(".parquet") for name in names_in(target)) else None


def appended(source: Source, earlier: Source, folder: Path) -> Append:
    """
    Find out what is added to an output.

    Parameters
    ----------
    source, earlier : Source
        What is asked, and the output.
    folder : pathlib.Path
        Where there is room for what is not held in memory; nothing is left there.
    """
    numbers = [re.match(r"part-(\d+)", path.rpartition("/")[2]) for path in earlier.paths]
    first = 1 + max((int(found[1]) for found in numbers if found), default=-1)
    return Append(_new_rows(source, earlier, folder), first)


def differences(target: str, there: pa.Schema, ours: pa.Schema) -> list[str]:
    """
    Say why rows with some columns cannot be added to an output.

    Parameters
    ----------
    target : str
    there, ours : pyarrow.Schema
        Of the output, and of what would be written. A type of ours that is null is not known before there is an answer.
    """
    found = [f"it has no {name!r}" for name in ours.names if name not in there.names]
    found += [
        f"it has {name!r}, which would not be written" for name in there.names if name not in ours.names
    ]
    for field in ours:
        if field.name in there.names and not pa.types.is_null(field.type):
            had = there.field(field.name).type
            if _plain(had) != _plain(field.type):
                found.append(f"{field.name!r} is {had} there and {field.type} here")
    if not found:
        return []
    return [
        f"The files in {target} have other columns than would be added: {'; '.join(found)}. Ask as was asked before, or "
        "name another folder."
    ]


def _plain(kind: Any) -> Any:
    """A type, but for how its values are laid out in memory."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _new_rows(source: Source, earlier: Source, folder: Path) -> Mask:
    """Say of each row of a source whether an output lacks it; both are looked through in shares that fit into memory."""
    columns = source.schema.names
    ours = mapped(_keys(source.batches(columns), columns), folder)
    theirs = mapped(_keys(earlier.batches(columns), columns), folder)
    new = np.ones(len(ours), bool)
    shares = math.ceil((len(ours) + len(theirs)) / HELD)
    for share in range(shares):
        at = _places(ours, share, shares)
        keys = ours[at]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        there = np.sort(theirs[_places(theirs, share, shares)])
        had = np.searchsorted(there, keys, "right") - np.searchsorted(there, keys)
        new[at[order]] = np.arange(len(keys)) - np.searchsorted(keys, keys) >= had
    return new


def _places(keys: Keys, share: int, shares: int) -> npt.NDArray[np.int64]:
    """Where the keys of one share stand."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(keys), HELD):
        found.append(np.flatnonzero(keys[start : start + HELD] % np.uint64(shares) == share) + start)
    return np.concatenate(found)


def _keys(batches: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[Keys]:
    for batch in batches:
        table = pa.Table.from_batches([batch])
        plain = pa.schema([(field.name, _plain(field.type)) for field in table.schema])
        # Whole numbers stay whole, also beside a missing one.
        frame = table.cast(plain).to_pandas(types_mapper=pd.ArrowDtype)
        yield mixed(contents_of(frame, columns))


def write_new(folder: JobFolder, new: Mask) -> None:
    """Write down which rows are a job's: what the output has is another question a moment later."""
    with written_whole(folder.new) as partial, partial.open("wb") as file:
        np.save(file, np.packbits(new))


def read_new(folder: JobFolder, rows: int) -> Mask:
    """Read what `write_new` wrote, of a source of so many rows."""
    return np.unpackbits(np.load(folder.new), count=rows).astype(bool)


def kept(batches: Iterable[pa.RecordBatch], new: Mask) -> Iterator[pa.RecordBatch]:
    """Yield the rows that are new, in their order."""
    start = 0
    for batch in batches:
        mine = new[start : start + batch.num_rows]
        start += batch.num_rows
        if mine.any():
            yield batch.filter(pa.array(mine))
    if start != len(new):
        raise InputError("The source has another number of rows than when the job was submitted.")
