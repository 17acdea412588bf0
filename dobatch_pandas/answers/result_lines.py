"""
Output and error files as one Arrow table, a row a request.

A file is read in blocks of whole lines, by a few threads. Plain successes are read as whole columns by Arrow's JSON
reader; every other line (an error, a refusal, a list of parts, a torn line ...) is looked at by itself. What a code in ``error_code`` means stands in `dobatch_pandas.codes`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import WORKERS, gather, mingled, one_array, packed_tables
from dobatch_pandas.arrow.jsonl import Lines, blocks, load, opened, parsed
from dobatch_pandas.arrow.keyset import keys_of
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.codes import failure
from dobatch_pandas.endpoints import READERS, chat, embeddings, messages
from dobatch_pandas.endpoints.answer import Answer, count, path, true, words

__all__ = ["RESULTS", "iter_results", "merge_results", "results_of"]

RESULTS = pa.schema(
    [
        ("custom_id", pa.string()),
        ("status", pa.string()),  # "succeeded": there is an answer; "failed": error_code says why not
        ("status_code", pa.int16()),
        ("text", pa.large_string()),
        ("finish_reason", pa.string()),
        ("model", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("request_id", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)

_BLOCK = 8 << 20
_LOOK_AT = 16


# One line ---------------------------------------------------------------------------------------------


def read_entry(entry: Any) -> tuple[Any, ...] | None:
    """One line's object as a row of `RESULTS`; None where it names no request."""
    if not isinstance(entry, dict):
        return None
    custom_id = words(entry.get("custom_id"))
    if not custom_id or _is_request(entry):
        return None
    if isinstance(entry.get("result"), dict) and not isinstance(entry.get("response"), dict):
        status, request_id, answer = _of_result(entry["result"])
    else:
        status, request_id, answer = _of_response(entry)
    if status is not None and not 0 <= status < 1000:
        status = None
    return (
        custom_id,
        "succeeded" if answer.code is None else "failed",
        status,
        answer.text,
        answer.finish_reason,
        answer.model,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.cached_tokens,
        answer.reasoning_tokens,
        request_id,
        answer.code,
        answer.message,
        answer.embedding,
    )


def _is_request(entry: dict[str, Any]) -> bool:
    """Whether a line asks: it has a body, and no word of what came of it."""
    asks = isinstance(entry.get("body"), dict) or isinstance(entry.get("params"), dict)
    return asks and not any(word in entry for word in ("response", "result", "error"))


def _failed(status: int | None, error: Any) -> Answer:
    code, message = failure(status, error)
    return Answer(code=code, message=message)


def _of_response(entry: dict[str, Any]) -> tuple[int | None, str | None, Answer]:
    """A line of the `openai` kind: `response` and `error`."""
    response, error = entry.get("response"), entry.get("error")
    status = count(path(response, "status_code"))
    request_id = words(path(response, "request_id"))
    body = path(response, "body")
    if isinstance(body, str):
        with suppress(orjson.JSONDecodeError):
            body = orjson.loads(body)
    inner = path(body, "error")
    error, inner = _reported(error), _reported(inner)
    if error or inner or (status is not None and not 200 <= status < 300):
        return status, request_id, _failed(status, error or inner or body)
    if not body:
        return status, request_id, _failed(None, None)
    return status, request_id, _read_body(body)


def _reported(error: Any) -> Any:
    """An error that says anything; some services write an object of empty members where there is none."""
    return error if not isinstance(error, dict) or any(map(_reported, error.values())) else None


def _of_result(result: dict[str, Any]) -> tuple[int | None, str | None, Answer]:
    """A line of the `anthropic` kind: `result`, of one of four types."""
    kind = result.get("type")
    error = _reported(result.get("error"))
    if kind == "succeeded" and not error:
        body = result.get("message")
        answer = _read_body(body) if body else _failed(None, None)
        return None, words(path(body, "id")), answer
    request_id = words(path(error, "request_id"))
    if kind in ("canceled", "cancelled", "expired"):
        return None, request_id, _failed(None, {"code": kind, "message": words(path(error, "message"))})
    return None, request_id, _failed(None, error or {"message": f"result of type {words(kind)}"})


def _read_body(body: Any) -> Answer:
    if isinstance(body, dict):
        for reader in READERS.values():
            if reader.claims(body):
                answer: Answer = reader.read_body(body)
                return answer
    return Answer(code="invalid_response", message=f"Not a body of any endpoint: {words(body)}"[:500])


def read_lines(lines: Iterable[bytes]) -> tuple[Any, Any, list[bytes]]:
    """
    The slow reader, which understands everything.

    Returns
    -------
    batch : pyarrow.RecordBatch
        Of `RESULTS`.
    numbers : numpy.ndarray
        For each row, which of ``lines`` it stands on.
    bad : list of bytes
        Lines that are torn, or that name no request.
    """
    rows: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    bad: list[bytes] = []
    for number, line in enumerate(lines):
        entries, torn = load(line)
        for entry in entries:
            row = read_entry(entry)
            if row is None:
                torn = True
            else:
                rows.append(row)
                numbers.append(number)
        if torn:
            bad.append(line)
    columns = zip(*rows, strict=True) if rows else [()] * len(RESULTS)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, RESULTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RESULTS), np.array(numbers, dtype=np.int64), bad


# Blocks of lines ----------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What Arrow is to expect of a block's lines."""

    envelope: str  # "response" or "result": where a line of either provider holds its outcome
    reader: ModuleType
    schema: Any


_INNER = pa.struct([("message", pa.string())])
_ERROR = pa.struct(
    [("code", pa.string()), ("message", pa.string()), ("type", pa.string()), ("error", _INNER)]
)


@lru_cache
def _schema_of(envelope: str, body: Any) -> Any:
    error = _ERROR
    if envelope == "result":
        result = pa.struct([("type", pa.string()), ("message", body), ("error", error)])
        return pa.schema([("custom_id", pa.string()), ("result", result)])
    body = pa.struct([*body, ("error", error)])
    response = pa.struct([("status_code", pa.int64()), ("request_id", pa.string()), ("body", body)])
    return pa.schema([("custom_id", pa.string()), ("response", response), ("error", error)])


def _kind_of(lines: Iterable[bytes], endpoint: str | None) -> _Kind:
    """Look at the first lines for one that succeeded; where there is none, the endpoint tells."""
    reader = READERS.get(endpoint or "", chat)
    envelope = "result" if reader is messages else "response"
    body: Any = None
    for line in lines:
        entry = (load(line)[0] or [None])[0]
        inner = "result" if path(entry, "result") else "response"
        found = path(entry, inner, "message" if inner == "result" else "body")
        claimed = [one for one in READERS.values() if isinstance(found, dict) and one.claims(found)]
        if claimed and not path(found, "error") and (inner == "response" or claimed[0] is messages):
            envelope, reader, body = inner, claimed[0], found
            break
    shape = reader.BODY
    if reader is embeddings and body and embeddings.in_base64(body):
        shape = embeddings.BODY_BASE64
    return _Kind(envelope, reader, _schema_of(envelope, shape))


def read_block(block: Any, endpoint: str | None = None) -> tuple[Any, list[bytes]]:
    """Whole lines as one table of `RESULTS`, in the lines' order, and the lines that are bad."""
    lines = Lines(block)
    kind = _kind_of(lines.head(_LOOK_AT), endpoint)
    pieces: list[Any] = []
    order: list[Any] = []
    left: list[Any] = []
    for start, stop, table in parsed(lines, kind.schema):
        numbers = np.arange(start, stop)
        try:
            found = None if table is None else _plain_successes(table, kind)
        except (pa.ArrowInvalid, UnicodeDecodeError):  # text that is not UTF-8
            found = None
        if found is None:
            left.append(numbers)
            continue
        plain, columns = found
        pieces.append(columns)
        order.append(np.where(plain, numbers, -1))
        left.append(numbers[~plain])
    rest = np.concatenate(left) if left else np.empty(0, np.int64)
    if not len(rest) and len(pieces) == 1:
        return pieces[0], []
    singly, where, bad = read_lines(lines[number] for number in rest.tolist())
    pieces.append(pa.Table.from_batches([singly]))
    order.append(rest[where])
    position = np.concatenate(order)
    rows = np.argsort(position, kind="stable")[np.count_nonzero(position < 0) :]
    return mingled(pieces, rows), bad


def _plain_successes(table: Any, kind: _Kind) -> tuple[Any, Any]:
    """
    Which rows of a parsed table are plain successes or failures, and all rows as if they were.

    Arrow's reader does not look whether text is UTF-8; casting does.
    """
    columns = {name: one_array(table[name]) for name in table.column_names}
    custom_id, outer = columns["custom_id"], columns[kind.envelope]
    body = pc.struct_field(outer, "message" if kind.envelope == "result" else "body")
    answered, read = kind.reader.plain(body)
    read["custom_id"] = custom_id
    if kind.envelope == "result":
        read["request_id"] = pc.struct_field(body, "id")
        answered &= true(pc.equal(pc.struct_field(outer, "type"), "succeeded"))
        answered &= true(pc.is_null(pc.struct_field(outer, "error")))
        plain = answered
    else:
        status = pc.struct_field(outer, "status_code")
        inner = pc.struct_field(body, "error")
        errorless = true(pc.and_(pc.is_null(columns["error"]), pc.is_null(inner)))
        answered &= true(pc.equal(status, 200)) & errorless
        plain = answered
        if not answered.all():
            # What is known of an answer is not known of a failure; where it is, the line is looked at.
            unsaid = [true(pc.is_null(values)) for values in read.values() if values is not custom_id]
            bare = np.logical_and.reduce(unsaid)
            failed, read["error_code"], read["error_message"] = _failures(
                status, columns["error"], inner, np.flatnonzero(bare & ~answered & ~errorless)
            )
            plain = answered | failed
        read["request_id"] = pc.struct_field(outer, "request_id")
        read["status_code"] = status.cast(pa.int16(), safe=False)
    read["status"] = pa.array(["failed", "succeeded"]).take(pa.array(answered.astype(np.int8)))
    plain = plain & (pc.fill_null(pc.binary_length(custom_id), 0).to_numpy(zero_copy_only=False) > 0)
    arrays = []
    for field in RESULTS:
        values = read.get(field.name)
        if values is None:
            values = pa.nulls(len(table), field.type)
        elif field.type in (pa.string(), pa.large_string()):
            wide = field.type == pa.large_string()
            values = values.cast(pa.large_binary() if wide else pa.binary()).cast(field.type)
        arrays.append(values)
    return plain, pa.Table.from_arrays(arrays, schema=RESULTS)


def _failures(status: Any, error: Any, inner: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Which of these rows are plain failures, and the code and message of every row, null for others."""
    failed = np.zeros(len(status), dtype=bool)
    at = np.full(len(status), -1)
    codes: list[str] = []
    messages: list[str] = []
    picked = pa.array(rows)
    found = zip(
        rows.tolist(),
        status.take(picked).to_pylist(),
        _said(error, picked),
        _said(inner, picked),
        strict=True,
    )
    for row, number, outer_error, inner_error in found:
        # Without a word of what Arrow was told to read, it may be empty or say something else.
        empty = any(said is not None and not any(said.values()) for said in (outer_error, inner_error))
        reported = outer_error or inner_error or {}
        if empty or reported.get("error") or not 0 <= (number or 0) < 1000:
            continue
        failed[row], at[row] = True, len(codes)
        code, message = failure(number, reported)
        codes.append(code)
        messages.append(message)
    places = pa.array(at, mask=at < 0)
    return failed, pa.array(codes, pa.string()).take(places), pa.array(messages, pa.string()).take(places)


def _said(errors: Any, rows: Any) -> list[dict[str, Any] | None]:
    """The errors of some rows; of an error within an error only whether there is one."""
    taken = errors.take(rows)
    if taken.null_count == len(taken):
        return [None] * len(taken)
    code, message, kind, inner = taken.flatten()
    found = zip(
        taken.is_valid().to_pylist(),
        code.to_pylist(),
        message.to_pylist(),
        kind.to_pylist(),
        inner.is_valid().to_pylist(),
        strict=True,
    )
    return [
        {"code": c, "message": m, "type": k, "error": i} if there else None for there, c, m, k, i in found
    ]


# Files ------------------------------------------------------------------------------------------------


def iter_results(
    source: str | os.PathLike[str],
    *,
    endpoint: str | None = None,
    on_bad_line: Callable[[bytes], None] | None = None,
) -> Iterator[Any]:
    """
    Yield record batches of `RESULTS` from one output or error file; memory does not grow with the file.

    Parameters
    ----------
    source : path
        JSONL as the service wrote it; what is packed (gzip, zstd, bz2, told by its first bytes) or UTF-16 is made
        UTF-8 on the way.
    endpoint : str, optional
        What was asked, for speed alone; told from the lines by default. Lines of any kind are understood.
    on_bad_line : callable, optional
        Called with every line that is torn or names no request. Such lines are passed over.
    """
    pending: deque[Future[tuple[Any, list[bytes]]]] = deque()
    pool = Threads(WORKERS, "dobatch-read")
    try:
        with opened(source) as stream:
            for block in blocks(stream, _BLOCK):
                pending.append(pool.submit(read_block, block, endpoint))
                del block
                # One more than there are workers, so that none waits for the file.
                if len(pending) > WORKERS:
                    yield from _told(pending.popleft(), on_bad_line)
            while pending:
                yield from _told(pending.popleft(), on_bad_line)
    finally:
        pool.close(cancel=True)


def _told(
    future: Future[tuple[Any, list[bytes]]], on_bad_line: Callable[[bytes], None] | None
) -> Iterator[Any]:
    table, bad = future.result()
    if on_bad_line is not None:
        for line in bad:
            on_bad_line(line)
    yield from table.to_batches()


def results_of(*paths: str | os.PathLike[str], on_bad_line: Callable[[bytes], None] | None = None) -> Any:
    """One table of `RESULTS` from output and error files; one row a ``custom_id``, as `merge_results` says."""
    batches = (batch for path in paths for batch in iter_results(path, on_bad_line=on_bad_line))
    return merge_results(batches, room=sum(os.path.getsize(path) for path in paths))


def merge_results(tables: Iterable[Any], room: int = 0) -> Any:
    """
    One row a ``custom_id``: a success beats a failure, a later line an earlier one.

    Parameters
    ----------
    tables : iterable of pyarrow.Table or pyarrow.RecordBatch
        With the columns of `RESULTS`, and maybe more.
    room : int
        Bytes of text to expect at most, where that is known; for speed alone.
    """
    parts = packed_tables(tables, room)
    if not parts:
        return RESULTS.empty_table()
    # Not made one array a column: that would be every text once more.
    table = pa.concat_tables(parts, promote_options="default")
    keep = _latest_best(table["custom_id"], table["status"])
    if keep is None:
        return table
    columns = [gather(column, keep) for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _latest_best(ids: Any, status: Any) -> Any | None:
    """Which rows stay, in their order; None where all do."""
    if not len(ids):
        return None
    ids = one_array(ids)
    if not ids.null_count:
        keys = np.sort(keys_of(ids))
        if (keys[1:] != keys[:-1]).all():
            return None
    key = ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    won = true(pc.equal(status, "succeeded"))
    # Sorted by (id, success, position), the last of each id is the one to keep.
    order = np.lexsort((np.arange(len(key)), won, key))
    last = np.append(key[order][1:] != key[order][:-1], True)
    return np.sort(order[last])
