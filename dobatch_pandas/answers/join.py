"""
Answers back on their rows: by ``custom_id``, never by order or index.

Columns are made by position for a frame's rows, so that a duplicate, unsorted or multi index changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import gather, one_array
from dobatch_pandas.arrow.keyset import Places
from dobatch_pandas.codes import EXPLANATIONS, NEVER_ASKED, explain
from dobatch_pandas.endpoints.answer import true
from dobatch_pandas.questions.schema import AnswerSchema

from .typed import parse_answers

__all__ = [
    "ANSWER_COLUMNS",
    "add_columns",
    "answer_columns",
    "joined",
    "matrix",
    "outcome",
    "response_columns",
    "results_frame",
]

# Of results, what `answer_columns` looks at, and what tells which of several counts.
ANSWER_COLUMNS = ["custom_id", "status", "text", "finish_reason", "error_code", "error_message", "embedding"]

_TOOL_ENDINGS = ["tool_calls", "tool_use", "function_call"]
_RESPONSE_COLUMNS = [
    *["custom_id", "status", "text", "finish_reason", "model", "prompt_tokens", "completion_tokens"],
    *["cached_tokens", "request_id", "error_code", "error_message", "batch_id"],
]


def answer_columns(
    ids: Any,
    fates: Any,
    results: Any,
    *,
    into: str,
    samples: int = 1,
    json_schema: AnswerSchema | Mapping[str, Any] | None = None,
    flatten: bool = False,
    index: pd.Index[Any],
    absent: str = "missing_result",
) -> dict[str, pd.Series[Any]]:
    """
    The new columns for a frame: the answers, then ``<into>_error``.

    Parameters
    ----------
    ids : pyarrow.Array or pyarrow.ChunkedArray
        ``custom_id`` of every row, all samples of a row together; null where nothing was sent.
    fates : pyarrow.Array or None
        What `RequestWriter.add` said of each of ``ids``; only those of `NEVER_ASKED` matter.
    results : pyarrow.Table
        As `merge_results` returns it.
    into : str
        Name of the answer, and the first part of the error column's.
    samples : int
        How often each row was asked. The second sample's are ``<name>_2`` and ``<into>_2_error``, and so on.
    json_schema : AnswerSchema or mapping, optional
        Makes one typed column a field, instead of text.
    flatten : bool
        Nested fields as columns with dotted names, not as structs.
    index : pandas.Index
        The frame's; only its length matters.
    absent : str
        Code of a row whose request has no result.

    Returns
    -------
    dict of str to pandas.Series
        In the order in which the columns are added.
    """
    answers, code, _ = outcome(results, json_schema, flatten)
    if len(answers) == 1 and None in answers:
        answers = {into: answers[None]}
    places = _places(ids, results, samples)
    failed = true(pc.is_valid(code))
    columns: dict[str, pd.Series[Any]] = {}
    for sample in range(samples):
        at = places[:, sample]
        suffix = f"_{sample + 1}" if sample else ""
        code_at = _codes_at(code, at, fates, sample, samples, absent)
        answered = np.where(failed[at], -1, at) if len(failed) else at
        for name, values in answers.items():
            columns[f"{name}{suffix}"] = _series(_take(values, answered), index)
        columns[f"{into}{suffix}_error"] = _series(code_at, index)
    return columns


def response_columns(
    ids: Any,
    fates: Any,
    results: Any,
    *,
    index: pd.Index[Any],
    into: str = "response",
    samples: int = 1,
    json_schema: AnswerSchema | Mapping[str, Any] | None = None,
    flatten: bool = False,
    absent: str = "missing_result",
) -> pd.DataFrame:
    """
    Everything known about every row's request; one row a sample, with the frame's index.

    The parameters are those of `answer_columns`. ``text`` is as it came, also where it is no answer. Without
    a ``json_schema`` the results' own codes are shown: `outcome` has seen to them before.
    """
    if json_schema is None:
        code, message = one_array(results["error_code"]), one_array(results["error_message"])
    else:
        _, code, message = outcome(results, json_schema, flatten)
    places = _places(ids, results, samples).reshape(-1)
    code = _codes_at(code, places, fates, 0, 1, absent)
    words = pa.array([_explained(word) for word in code.unique().to_pylist()], pa.string())
    ours = words.take(pc.index_in(code, value_set=code.unique()))
    given = message.take(pa.array(places, mask=places < 0))
    found: dict[str, Any] = {
        "custom_id": one_array(ids).cast(pa.string()),
        "status": pc.if_else(pc.is_null(code), "succeeded", "failed"),
        "error_code": code,
        "error_message": pc.if_else(pc.is_valid(given), given, ours),
    }
    data = {}
    for name in _RESPONSE_COLUMNS:
        if name in found:
            values = found[name]
        elif name in results.column_names:
            values = _take(results[name], places)
        else:
            values = pa.nulls(len(places), pa.string())
        data[name] = values
    if samples > 1:
        data["sample"] = pa.array(np.tile(np.arange(1, samples + 1), len(index)))
        index = index.repeat(samples)
    return pd.DataFrame({name: _series(values, index) for name, values in data.items()}, index=index)


def _explained(code: str | None) -> str | None:
    return None if code is None else explain(code)


def outcome(results: Any, json_schema: Any, flatten: bool = False) -> tuple[dict[Any, Any], Any, Any]:
    """
    What results come to, given what was asked.

    Parameters
    ----------
    results : pyarrow.Table
        Of `RESULTS`.
    json_schema : mapping or None
        What answers must satisfy; without one, a tool call is no answer.
    flatten : bool
        As for `answer_columns`.

    Returns
    -------
    answers : dict of str to pyarrow.Array or pyarrow.ChunkedArray
        A single answer without a name of its own has the key None.
    code, message : pyarrow.Array
        Why a row has no answer, null where it has one.
    """
    code, message = one_array(results["error_code"]), one_array(results["error_message"])
    if json_schema is not None:
        return parse_answers(results, json_schema, flatten=flatten)
    embedding = results["embedding"]
    if embedding.null_count < len(embedding):
        uneven = _uneven(embedding)
        code = one_array(pc.if_else(uneven, "invalid_response", code))
        message = one_array(pc.if_else(uneven, "The vector's length is not that of the others.", message))
        return {None: embedding}, code, message
    # A tool call asks for something to be done; without a schema it is not an answer.
    calling = pc.and_(
        pc.is_in(one_array(results["finish_reason"]), pa.array(_TOOL_ENDINGS)), pc.is_null(code)
    )
    if pc.any(calling).as_py():
        code = pc.if_else(calling, "tool_calls", code)
        message = pc.if_else(calling, EXPLANATIONS["tool_calls"], message)
    return {None: results["text"]}, code, message


def _uneven(lists: Any) -> Any:
    """Which vectors are of another length than most."""
    lengths = pc.list_value_length(lists)
    usual = pc.mode(lengths)[0]["mode"].as_py()
    return pc.fill_null(pc.not_equal(lengths, usual), False)


def _places(ids: Any, results: Any, samples: int) -> Any:
    """Where each row's result stands, a column a sample; -1 where there is none."""
    ids = one_array(ids)
    asked = true(pc.is_valid(ids))
    places = np.full(len(ids), -1)
    places[asked] = Places.among(one_array(results["custom_id"]), ids.drop_null())
    return places.reshape(-1, samples)


def _codes_at(code: Any, places: Any, fates: Any, sample: int, samples: int, absent: str) -> Any:
    """The error code of every row, the reasons why a row has no result at all included."""
    without = places < 0
    codes = code.take(pa.array(places, mask=without))
    if without.any():
        codes = pc.if_else(pa.array(without), absent, codes)
    if fates is not None:
        fate = np.asarray(fates)[sample::samples]
        for never, word in NEVER_ASKED.items():
            if (fate == never).any():
                codes = pc.if_else(pa.array(fate == never), word, codes)
    return codes


def _take(values: Any, places: Any) -> Any:
    if pa.types.is_list(values.type) and pa.types.is_float32(values.type.value_type):
        return _vectors(values, places)
    return gather(values, places)


def _vectors(lists: Any, places: Any) -> Any:
    """Vectors of one length. A missing one is null and its numbers are NaN, so that numpy sees it so."""
    chosen = places >= 0
    there = gather(lists, places[chosen])
    vectors = there.chunks if isinstance(there, pa.ChunkedArray) else [there]
    width = next((pc.list_value_length(part)[0].as_py() for part in vectors if len(part)), 0)
    dense = np.full((len(places), width), np.nan, dtype=np.float32)
    rows, done = np.flatnonzero(chosen), 0
    for part in vectors:
        dense[rows[done : done + len(part)]] = part.flatten().to_numpy(False).reshape(len(part), width)
        done += len(part)
    return pa.FixedSizeListArray.from_arrays(pa.array(dense.reshape(-1)), width, mask=pa.array(~chosen))


# pandas -----------------------------------------------------------------------------------------------


# What pandas gives to text: ``str`` in pandas 3, ``string`` before.
_TEXT: Any = pd.StringDtype(
    "pyarrow", **({"na_value": np.nan} if int(pd.__version__.partition(".")[0]) >= 3 else {})
)
_INTEGER: Any = pd.Int64Dtype()
_NUMBER: Any = pd.Float64Dtype()
_TRUTH: Any = pd.BooleanDtype()


def _series(values: Any, index: pd.Index[Any]) -> pd.Series[Any]:
    """An Arrow array as a column with pandas' own types."""
    kind = values.type
    array: Any
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = _TEXT.__from_arrow__(values)
    elif pa.types.is_null(kind):
        array = _TEXT.__from_arrow__(values.cast(pa.string()))
    elif pa.types.is_integer(kind):
        array = _INTEGER.__from_arrow__(values.cast(pa.int64()))
    elif pa.types.is_floating(kind):
        array = _NUMBER.__from_arrow__(values.cast(pa.float64()))
    elif pa.types.is_boolean(kind):
        array = _TRUTH.__from_arrow__(values)
    elif pa.types.is_dictionary(kind):
        values = one_array(values)
        codes = pc.fill_null(values.indices, -1).to_numpy(zero_copy_only=False)
        array = pd.Categorical.from_codes(codes, categories=values.dictionary.to_pylist())
    elif pa.types.is_timestamp(kind):
        array = values.to_pandas().array
    else:
        array = _objects(values)
    return pd.Series(array, index=index, copy=False)


def _objects(values: Any) -> Any:
    """
    Lists, structs, vectors and Decimals as Python objects: what plain pandas reads back from a file of any kind.

    pandas cannot read the name of an Arrow dtype of lists that it has written to Parquet itself.
    """
    found = np.empty(len(values), dtype=object)
    if pa.types.is_fixed_size_list(values.type) and pa.types.is_float32(values.type.value_type):
        vectors = one_array(values)
        width = values.type.list_size
        dense = vectors.flatten() if not vectors.null_count else vectors.values.slice(vectors.offset * width)
        rows = dense.to_numpy(zero_copy_only=False)[: len(vectors) * width].reshape(len(vectors), width)
        rows = rows.view(_Vector)
        # One block of memory, of which each vector is a view.
        for number in np.flatnonzero(vectors.is_valid().to_numpy(zero_copy_only=False)).tolist():
            found[number] = rows[number]
        return found
    made = values.to_pylist()
    found[:] = [_shortest(one) for one in made] if "decimal" in str(values.type) else made
    return found


class _Vector(np.ndarray[Any, np.dtype[np.float32]]):
    """An array whose text is all of it, as JSON: what numpy writes into a CSV file has no middle."""

    def __str__(self) -> str:
        if self.ndim != 1 or self.dtype != np.float32:  # what has been made of it
            return str(np.asarray(self))
        return orjson.dumps(np.ascontiguousarray(self), option=orjson.OPT_SERIALIZE_NUMPY).decode()

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        # In a pickle it is numpy's own, which needs nothing of ours to be read.
        return np.asarray(self).__reduce__()


def _shortest(value: Any) -> Any:
    """Decimals without the zeros that their column has added, at any depth."""
    if isinstance(value, list):
        return [_shortest(one) for one in value]
    if isinstance(value, dict):
        return {name: _shortest(one) for name, one in value.items()}
    if not isinstance(value, Decimal):
        return value
    short = value.normalize()
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short


def _written(text: str) -> Any:
    """A vector that is written as JSON, as CSV has it; what is none stays as it is."""
    try:
        return np.asarray(orjson.loads(text), np.float32)
    except (ValueError, TypeError):
        return text


def _stacked(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Vectors that are objects as one matrix; a view where they are the rows of one already, in their order."""
    vectors = [_written(value) if isinstance(value, str) else value for value in series.tolist()]
    there = [number for number, vector in enumerate(vectors) if vector is not None and np.ndim(vector) == 1]
    lengths = {len(vectors[number]) for number in there}
    gone = [v for v in vectors if np.ndim(v) != 1 and not (v is None or v is pd.NA or v != v)]
    if gone or len(lengths) > 1 or (vectors and not there and series.notna().any()):
        raise TypeError(
            f"matrix() takes a column of embeddings of one length, not one of {series.dtype} values"
        )
    width = next(iter(lengths), 0)
    block: Any = vectors[there[0]] if there else None
    while isinstance(getattr(block, "base", None), np.ndarray):
        block = block.base
    if (
        isinstance(block, np.ndarray)
        and block.dtype == np.float32
        and block.flags.c_contiguous
        and len(there) == len(vectors)
    ):
        block = block.reshape(-1)
        start = vectors[0].__array_interface__["data"][0]
        step = width * block.itemsize
        if all(
            isinstance(v, np.ndarray)
            and v.dtype == np.float32
            and v.__array_interface__["data"][0] == start + n * step
            for n, v in enumerate(vectors)
        ):
            begin = (start - block.__array_interface__["data"][0]) // block.itemsize
            if block.flags.c_contiguous and begin >= 0 and begin + len(vectors) * width <= block.size:
                whole: np.ndarray[Any, np.dtype[np.float32]] = block[begin : begin + len(vectors) * width]
                return whole.reshape(len(vectors), width)
    dense = np.full((len(vectors), width), np.nan, dtype=np.float32)
    for number in there:
        dense[number] = vectors[number]
    return dense


def results_frame(results: Any) -> pd.DataFrame:
    """A table of results as a frame; its vectors as one fixed-size column where they are of one length."""
    index = pd.RangeIndex(results.num_rows)
    return pd.DataFrame(
        {name: _series(one_array(results[name]), index) for name in results.column_names}, index=index
    )


def add_columns(frame: pd.DataFrame, columns: Mapping[str, Any]) -> None:
    """
    Add columns to the caller's frame, in place and by position; one that is there is replaced as a whole.

    Parameters
    ----------
    frame : pandas.DataFrame
    columns : mapping of str to pandas.Series
        As `answer_columns` returns them.
    """
    below = ("",) * (frame.columns.nlevels - 1)
    for name, values in columns.items():
        # The array, not the series: pandas would look for labels, and labels may repeat.
        frame[(name, *below) if below else name] = getattr(values, "array", values)


def joined(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """A new frame with the columns added by position; the caller's stays as it is."""
    new = frame.assign()
    add_columns(new, columns)
    return new


def matrix(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """
    An embedding column as a matrix of float32, one row a row, without a copy where no row was moved.

    Rows without an embedding are NaN.

    Parameters
    ----------
    series : pandas.Series
        Of vectors, as ``join`` adds it for embeddings, or as it comes back from a file: from CSV as texts of JSON.
    """
    if series.dtype == object or pd.api.types.is_string_dtype(series):
        return _stacked(series)
    raw = pa.array(series) if not hasattr(series.array, "__arrow_array__") else series.array.__arrow_array__()
    values = one_array(raw)
    if not pa.types.is_fixed_size_list(values.type) or not pa.types.is_float32(values.type.value_type):
        raise TypeError(f"matrix() takes a column of embeddings, not one of {series.dtype}")
    width = values.type.list_size
    start = values.offset * width
    dense: np.ndarray[Any, np.dtype[np.float32]] = values.values.to_numpy(zero_copy_only=False)[
        start : start + len(values) * width
    ]
    dense = dense.reshape(len(values), width)
    absent = values.is_null().to_numpy(zero_copy_only=False)
    if absent.any() and not np.isnan(dense[absent]).all():
        # Arrow leaves zeros in the place of a missing vector when pandas moves rows.
        dense = dense.copy()
        dense[absent] = np.nan
    return dense
