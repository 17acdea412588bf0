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
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.arrow.columns import WORKERS, gather, mingled, one_array, packed_tables
from dobatch_pandas.arrow.jsonl import Lines, blocks, is_utf8, load, opened, parsed
from dobatch_pandas.arrow.keyset import keys_of
from dobatch_pandas.arrow.threads import Threads
from dobatch_pandas.endpoints import ENDPOINT_AT, PROVIDERS, claimed_by, read_body
from dobatch_pandas.endpoints.answer import BESIDE, READ, path, true, words
from dobatch_pandas.endpoints.chat import CHAT
from dobatch_pandas.endpoints.endpoint import Endpoint
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import Provider

__all__ = ["RESULTS", "iter_results", "merge_results", "read_lines"]

RESULTS = pa.schema(
    [
        ("custom_id", pa.string()),
        ("status", pa.string()),  # "succeeded": there is an answer; "failed": error_code says why not
        ("status_code", pa.int16()),
        *READ.items(),
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
    provider = _provider_of(entry)
    if not custom_id or provider is None:
        return None
    status, request_id, body, failure = provider.outcome(entry)
    answer = failure or read_body(body)
    if status is not None and not 0 <= status < 1000:
        status = None
    return (
        custom_id,
        "succeeded" if answer.code is None else "failed",
        status,
        *answer[: len(READ)],
        request_id,
        answer.code,
        answer.message,
        answer.embedding,
    )


def _provider_of(entry: dict[str, Any]) -> Provider | None:
    """Whose result a line is; None where it asks: it has a body, and no word of what came of it."""
    for provider in PROVIDERS.values():
        if isinstance(entry.get(provider.envelope), dict):
            return provider
    known = PROVIDERS.values()
    asks = any(isinstance(entry.get(one.asks), dict) for one in known)
    told = "error" in entry or any(one.envelope in entry for one in known)
    return None if asks and not told else OPENAI


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
        Lines that are torn, that name no request, or that hold bytes which are no UTF-8.
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
        if torn or not is_utf8(line):
            bad.append(line)
    columns = zip(*rows, strict=True) if rows else [()] * len(RESULTS)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, RESULTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RESULTS), np.array(numbers, dtype=np.int64), bad


# Blocks of lines ----------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What Arrow is to expect of a block's lines."""

    provider: Provider
    endpoint: Endpoint
    schema: Any


def _kind_of(lines: Iterable[bytes], url: str | None, answers_only: bool) -> _Kind:
    """Look at the first lines for one that succeeded; where there is none, the endpoint tells."""

    def expect(provider: Provider, endpoint: Endpoint, body: Any) -> _Kind:
        shape = endpoint.shape(body)
        if answers_only:
            shape = [field for field in shape if field.name not in BESIDE]
        return _Kind(provider, endpoint, provider.schema(shape))

    for line in lines:
        entry = (load(line)[0] or [None])[0]
        provider = _provider_of(entry) if isinstance(entry, dict) else None
        if provider is None:
            continue
        body = path(entry, provider.envelope, provider.answer)
        endpoint = claimed_by(body)
        if endpoint is None or body.get("error"):
            continue
        if provider.only_endpoint in (None, endpoint.url):
            return expect(provider, endpoint, body)
    endpoint = ENDPOINT_AT.get(url or "", CHAT)
    return expect(endpoint.provider, endpoint, None)


def read_block(
    block: Any, endpoint: str | None = None, answers_only: bool = False
) -> tuple[Any, list[bytes]]:
    """Whole lines as one table of `RESULTS`, in the lines' order, and the lines that are bad."""
    lines = Lines(block)
    kind = _kind_of(lines.head(_LOOK_AT), endpoint, answers_only)
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
    custom_id = columns["custom_id"]
    answered, failed, read = kind.provider.plain(columns, kind.endpoint.plain)
    read["custom_id"] = custom_id
    read["status"] = pa.array(["failed", "succeeded"]).take(pa.array(answered.astype(np.int8)))
    plain = (answered | failed) & (
        pc.fill_null(pc.binary_length(custom_id), 0).to_numpy(zero_copy_only=False) > 0
    )
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


# Files ------------------------------------------------------------------------------------------------


def iter_results(
    source: str | os.PathLike[str],
    *,
    endpoint: str | None = None,
    answers_only: bool = False,
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
    answers_only : bool
        Leave out what stands beside an answer, as a rule: the model's name and the tokens.
    on_bad_line : callable, optional
        Called with every line that is torn or names no request, which is passed over, and with every one whose bytes are
        not all UTF-8, which is read as far as they are.
    """
    pending: deque[Future[tuple[Any, list[bytes]]]] = deque()
    pool = Threads(WORKERS, "dobatch-read")
    try:
        with opened(source) as stream:
            for block in blocks(stream, _BLOCK):
                pending.append(pool.submit(read_block, block, endpoint, answers_only))
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
