"""Output and error files that someone downloaded by hand: read as a frame, and joined to one."""

from __future__ import annotations

import difflib
import json
import os
import reprlib
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.jsonl import is_utf8, load, mended, opened
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.codes import NEVER_ASKED
from dobatch_pandas.errors import InputError, outside
from dobatch_pandas.questions.freeze import id_texts

from .join import ANSWER_COLUMNS, answer_columns, results_frame
from .result_lines import RESULTS, iter_results, merge_results, read_lines

__all__ = ["Results", "join_read_results", "read_results", "table_and", "table_of", "warn_of_strangers"]

FilePath = str | os.PathLike[str]
Results = pd.DataFrame | FilePath | Iterable[FilePath]
"""Results carried by hand: a frame of `read_results`, or the files themselves."""

_Done = TypeVar("_Done")
_UNANSWERED = ("missing_result", *NEVER_ASKED.values())


def read_results(*paths: FilePath) -> pd.DataFrame:
    """
    One row a request from output and error files of any provider.

    Parameters
    ----------
    *paths : path
        Files as downloaded, packed or not. Where a ``custom_id`` stands in several lines, a success beats a failure
        and a later line an earlier one.

    Returns
    -------
    pandas.DataFrame
        ``custom_id, status, status_code, text, finish_reason, model``, token counts, ``request_id,
        error_code, error_message`` and ``embedding``. ``error_code`` is null where there is an answer.

    Raises
    ------
    InputError
        A file holds no result at all. Where only some lines are none, or are not in UTF-8, a warning counts them.
    """
    table, notes = _read(paths)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return results_frame(table)


def _read(paths: Iterable[Any], answers_only: bool = False) -> tuple[Any, list[str]]:
    """Read files as one table, with a note on each that holds lines that are no results."""
    tables: list[Any] = []
    notes: list[str] = []
    problems: list[str] = []
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):  # a number would be an open file of this process
            problems.append(f"{reprlib.repr(path)} cannot be read: it is no path of a file.")
            continue
        bad: list[bytes] = []
        try:
            read = iter_results(path, answers_only=answers_only, on_bad_line=bad.append)
            batches = (batch.select(ANSWER_COLUMNS) if answers_only else batch for batch in read)
            found = merge_results(batches, room=os.path.getsize(path))
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            problems.append(f"{path} cannot be read: {error}.")
            continue
        if bad and bad[0][257:262] == b"ustar":
            problems.append(f"{path} cannot be read: it is a tar archive: unpack it first.")
            continue
        garbled = _only_garbled(bad)
        if garbled:
            notes.append(_garbled(path, garbled))
            unread = set(bad).difference(garbled)
            bad = [line for line in bad if line in unread]
        if not len(found) and bad:
            found = _of_objects(path)
            if len(found):
                bad = []
        if len(found):
            tables.append(found)
            if bad:
                notes.append(_note(path, bad))
        elif _is_hollow(path):
            problems.append(f"{path} holds nothing but zeros: it was given its size, and was never written.")
        elif bad:
            problems.append(f"{path} holds no result: {_what(bad[0])}")
    if problems:
        raise InputError(problems)
    return (merge_results(tables) if len(tables) != 1 else tables[0]), notes


def _note(path: Any, bad: list[bytes]) -> str:
    count = len(bad)
    return (
        f"{path} has {count:,} line{'s' if count > 1 else ''} that {'are' if count > 1 else 'is'} no result, the first: "
        f"{bad[0][:120].decode(errors='replace')!r}. Rows that nothing else answers have the code missing_result."
    )


def _only_garbled(lines: list[bytes]) -> list[bytes]:
    """Lines that are results but for bytes that are no UTF-8."""
    odd = {line: line.decode(errors="replace").encode() for line in lines if not is_utf8(line)}
    none = set(read_lines(odd.values())[2])
    return [line for line in lines if line in odd and odd[line] not in none]


def _garbled(path: Any, lines: list[bytes]) -> str:
    count = len(lines)
    return (
        f"{path} has {count:,} line{'s' if count > 1 else ''} that {'are' if count > 1 else 'is'} not in UTF-8, the first: "
        f"{lines[0][:120].decode(errors='replace')!r}. Characters that cannot be read are \ufffd in its answers: download the "
        "file again, or convert it from the encoding in which it was saved."
    )


def _is_hollow(path: Any) -> bool:
    """Whether a file without a line has zeros all the same."""
    with open(path, "rb") as file:
        return file.read(4096).strip()[:1] == b"\0"


def _what(line: bytes) -> str:
    """What a file is that holds no result, by its first line."""
    shown = line[:120].decode(errors="replace").strip()
    entries, _ = load(line)
    if shown.startswith("<"):
        return f"it is a page, not results ({shown!r}). Has the link to the file expired?"
    if any(
        isinstance(one, dict) and "custom_id" in one and one.keys() & {"body", "params"} for one in entries
    ):
        return "it holds requests, not what came of them. Read the output and error files of the batch."
    return f"its first line is {shown!r}. Results are lines of JSON, each with a custom_id and a response or result."


def _of_objects(path: Any) -> Any:
    """A table of a file whose objects are not one a line: an array of them, or printed over many lines."""
    with opened(path) as stream:
        text = stream.read().decode("utf-8-sig", "replace")
    entries, at = [], 0
    decoder = json.JSONDecoder(strict=False)
    while at < len(text):
        if text[at] in " \t\r\n,[]\0\ufeff":
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        entries.append(value)
    batch, _, _ = read_lines(orjson.dumps(mended(entry)) for entry in entries if isinstance(entry, dict))
    return merge_results([batch])


def table_and(results: Results, work: Callable[[], _Done]) -> tuple[Any, _Done]:
    """Return results as a table, and what `work` returns; files are read while it works."""
    if isinstance(results, pd.DataFrame):
        return table_of(results), work()
    one = isinstance(results, (str, bytes, os.PathLike)) or hasattr(results, "read")
    paths: list[Any] = [results] if one else list(results) if isinstance(results, Iterable) else []
    if not paths:
        raise InputError(
            "Results are a frame from dobatch.read_results, or the files that it reads; "
            f"{reprlib.repr(results)} is neither."
        )
    with Threads(1, "dobatch-files") as pool:
        reading = pool.submit(_read, paths, True)
        done = work()
    table, notes = reading.result()
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return table, done


def table_of(results: pd.DataFrame) -> Any:
    """
    A frame from `read_results` as a table again, one row a ``custom_id``; columns that are gone are null.

    Raises
    ------
    InputError
        The frame has no ``custom_id``, or neither ``text`` nor ``embedding``.
    """
    vectors = "embedding" in results and (results.empty or results["embedding"].notna().any())
    if "custom_id" not in results or not ("text" in results or vectors):
        raise InputError(
            "Results need the columns custom_id and text, as dobatch.read_results returns them; "
            f"these have {', '.join(map(str, results.columns))}."
        )
    arrays = []
    for field in RESULTS:
        if field.name in results:
            arrays.append(_column(results[field.name], field))
        else:
            arrays.append(pa.nulls(len(results), field.type))
    table = pa.Table.from_arrays(arrays, schema=RESULTS)
    if arrays[0].null_count:
        table = table.filter(pc.is_valid(arrays[0]))
    if "error_code" not in results:
        silent = pc.and_(pc.is_null(table["text"]), pc.is_null(table["embedding"]))
        codes = pc.if_else(silent, "empty_response", pa.scalar(None, pa.string()))
        table = table.set_column(
            RESULTS.get_field_index("error_code"),
            RESULTS.field("error_code"),
            codes.cast(RESULTS.field("error_code").type),
        )
    if "status" not in results:
        answered = pc.if_else(pc.is_null(table["error_code"]), "succeeded", "failed")
        table = table.set_column(1, RESULTS.field("status"), answered)
    return merge_results([table])


def _column(values: pd.Series[Any], field: Any) -> Any:
    """
    A column of results as Arrow has it, also of a frame that was written to a file and read again.

    Raises
    ------
    InputError
        It holds something else.
    """
    try:
        column = pa.array(values, from_pandas=True)
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            return column.cast(field.type)
        if pa.types.is_list(field.type) and not pa.types.is_nested(column.type):
            texts = column.cast(pa.string()).to_pylist()
            return pa.array([None if text is None else orjson.loads(text) for text in texts], field.type)
        return column.cast(field.type)
    except (pa.ArrowException, ValueError, TypeError, UnicodeError) as error:
        raise InputError(
            f"Column {field.name!r} of the results is not as read_results makes it: {error}."
        ) from error


def join_read_results(
    frame: pd.DataFrame, results: Results, *, custom_id: str, into: str = "response"
) -> dict[str, pd.Series[Any]]:
    """
    The new columns for a frame, one of whose columns holds the ids that results carry.

    Parameters
    ----------
    frame : pandas.DataFrame
    results : pandas.DataFrame, path or iterable of path
        From `dobatch_pandas.read_results`, or the files that it reads.
    custom_id : str
        The frame's column of ids; texts, or what becomes one. Repeats get the same answer.
    into : str
        Name of the answer.
    """
    if not isinstance(into, str) or not into or into == custom_id:
        raise InputError(
            f"into is {into!r}; it takes a name for the answers, which the column of ids cannot have."
        )
    if not isinstance(custom_id, Hashable) or custom_id not in frame:
        near = difflib.get_close_matches(str(custom_id), map(str, frame.columns), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"There is no column {custom_id!r}; there are {', '.join(map(str, frame.columns))}.{hint}"
        )
    if isinstance(frame[custom_id], pd.DataFrame):
        raise InputError(f"There are several columns {custom_id!r}; one of them must have a name of its own.")
    table, texts = table_and(results, lambda: id_texts(frame[custom_id]))
    ids = pa.array(texts, pa.string(), from_pandas=True)
    columns = answer_columns(ids, None, table, into=into, index=frame.index)
    warn_of_strangers(columns[f"{into}_error"], ids, table)
    return columns


def warn_of_strangers(codes: pd.Series[Any], ids: Any, table: Any) -> None:
    """
    Say so where results answer none of the rows: what is asked, or what is read, is then not what it should be.

    Parameters
    ----------
    codes : pandas.Series
        The error column of the rows.
    ids : pyarrow.Array or pyarrow.ChunkedArray
        What the rows' results would be called.
    table : pyarrow.Table
    """
    if codes.head(100).isna().any() or not codes.isin(_UNANSWERED).all():
        return
    mine, theirs = ids.drop_null(), table["custom_id"]
    if len(mine):
        held = (
            f"they hold {theirs[0].as_py()!r:.80}, for one" if len(theirs) else "they hold no result at all"
        )
        warnings.warn(
            f"The results answer none of the rows, whose codes are missing_result: these look for ids such as "
            f"{mine[0].as_py()!r:.80}, and {held}.",
            stacklevel=outside(),
        )
