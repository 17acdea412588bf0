"""
Result files: what a batch brought, exactly one result on disk for every request of the part.

Answers that earlier jobs have are found by id, and copied, so that nothing is asked and paid twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import outcome
from dobatch_pandas.answers.result_lines import RESULTS, iter_results, merge_results
from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.arrow.jsonl import Lines, blocks, load, opened
from dobatch_pandas.arrow.keyset import Keys, KeySet, Places, keys_of
from dobatch_pandas.codes import NO_SUCCESS, ErrorGroup
from dobatch_pandas.endpoints import PROVIDERS
from dobatch_pandas.endpoints.answer import true
from dobatch_pandas.endpoints.provider import Provider
from dobatch_pandas.errors import ObjectGone
from dobatch_pandas.questions.part_files import sync_folder
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client

from .faults import FaultSeen
from .folder import written_whole
from .home import Home
from .machine import Fault

__all__ = [
    "STORED",
    "TOKENS",
    "Answers",
    "Doubled",
    "Tally",
    "bring_files",
    "copy_answers",
    "failed_results",
    "read_part",
    "read_part_into",
    "results_in",
    "write_results",
]

log = logging.getLogger("dobatch_pandas")

STORED = RESULTS.append(pa.field("batch_id", pa.string()))
# What repeats; to look for repeats in texts and ids takes longer than to write them.
_REPEATED = ["status", "status_code", "finish_reason", "model", "error_code", "error_message", "batch_id"]
ROW_GROUP_BYTES = 16_000_000
BLOCK_BYTES = 8_000_000
TOKENS = ["prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"]


class Doubled(Exception):
    """A request has several lines in the files of its batch."""


@dataclass
class Tally:
    """
    What results add up to: requests by outcome and with a line in the files, tokens, and failures by code.

    ``unmetered`` counts those that may have been run, and whose tokens nobody has told, ``surcharge`` what
    was paid beside the tokens, as so many of input.
    """

    completed: int = 0
    failed: int = 0
    lines: int = 0
    unmetered: int = 0
    surcharge: float = 0.0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    failures: dict[str, ErrorGroup] = field(default_factory=dict)

    def add(self, table: pa.Table) -> None:
        """Take in some more results."""
        failed = table.select(["error_code", "error_message"]).filter(pc.equal(table["status"], "failed"))
        self.failed += len(failed)
        self.completed += len(table) - len(failed)
        for name in TOKENS:
            self.tokens[name] += int(pc.sum(table[name]).as_py() or 0)
        refused = true(pc.match_substring_regex(table["error_code"], NO_SUCCESS))
        # 0 stands where the model was not reached.
        refused |= true(
            pc.or_(pc.equal(table["status_code"], 0), pc.greater_equal(table["status_code"], 400))
        )
        told = true(pc.is_valid(table["prompt_tokens"]))
        for name in TOKENS:
            told &= ~true(pc.less(table[name], 0))
        self.unmetered += int(np.count_nonzero(~told & ~refused))
        groups = failed.group_by("error_code").aggregate([("error_code", "count"), ("error_message", "min")])
        for group in groups.to_pylist():
            code, message = group["error_code"] or "unknown", group["error_message_min"] or ""
            known = self.failures.get(code)
            count = group["error_code_count"] + (known.count if known else 0)
            self.failures[code] = ErrorGroup(code, count, known.example if known else message[:500])


def bring_files(client: Client, batch_id: str, output: Path, error: Path, *, again: bool = False) -> bool:
    """
    Bring in the files that a batch left: both, or the one there is.

    Parameters
    ----------
    client : Client
    batch_id : str
    output, error : pathlib.Path
        Where they go.
    again : bool
        Those anew that are there already.

    Returns
    -------
    bool
        Whether there is a byte in them.

    Raises
    ------
    FaultSeen
        There is none yet.
    ObjectGone
        There is none any more.
    """
    links = client.get_results(batch_id)
    if not links.available or not (links.output_url or links.error_url):
        raise FaultSeen(Fault("not_ready", f"The results of batch {batch_id} are not there yet."))
    gone = None
    for which, target in (("output_url", output), ("error_url", error)):
        url = getattr(links, which)
        if url is None or (target.exists() and not again):
            continue
        came = target.with_suffix(".again")
        try:
            client.download(url, came, refresh=partial(_link, client, batch_id, which))
        except ObjectGone as lost:
            # An address may be given for a file that was never written: the other one tells.
            gone = lost
            continue
        came.chmod(0o600)
        # What came once is never given away for less: a page may be longer than a few answers.
        if target.exists() and _worth(target) > _worth(came):
            came.unlink()
        else:
            os.replace(came, target)
            sync_folder(target.parent)
    if gone is not None and not (output.exists() or error.exists()):
        raise gone
    return any(target.exists() and target.stat().st_size for target in (output, error))


def _worth(file: Path) -> tuple[int, int]:
    """How many requests a file of results speaks of, and how much it holds."""
    lines = 0
    with _as_far_as_it_goes(file), opened(file) as stream:
        for block in blocks(stream, BLOCK_BYTES):
            lines += bytes(block).count(b'"custom_id"')
    return lines, file.stat().st_size


def _link(client: Client, batch_id: str, which: str) -> str:
    """Ask for a link anew: the one before has expired."""
    link: str | None = getattr(client.get_results(batch_id), which)
    if link is None:
        raise ObjectGone(f"The service gives no link to the results of batch {batch_id} any more.")
    return link


def read_part(
    files: Sequence[Path],
    ids: pa.Array,
    recipe: Recipe,
    *,
    batch_id: str | None,
    missing_code: str,
    missing_message: str,
    doubled: bool = False,
    tally: Tally | None = None,
) -> Iterator[pa.Table]:
    """
    Yield exactly one result for every request of a part, out of its batch's files, piece by piece.

    Foreign lines are passed over; of several lines for one request a success counts before a failure, and a
    request without a line fails with `missing_code`. An answer that breaks the schema asked for fails here.

    Yields
    ------
    pyarrow.Table
        Rows of `STORED`; ``len(ids)`` of them in all.

    Raises
    ------
    Doubled
        Some request has several lines. That is rare, and only then all lines have to be held to tell which
        of them counts: read again with ``doubled=True``.
    """
    lines = (batch for file in files for batch in results_in(file, recipe.endpoint))
    places = Places(ids)
    seen = np.zeros(len(ids), bool)
    for table in [merge_results(lines)] if doubled else (pa.Table.from_batches([batch]) for batch in lines):
        place = places.of(table["custom_id"])
        rows = place[place >= 0]
        if seen[rows].any() or len(np.unique(rows)) < len(rows):
            raise Doubled
        seen[rows] = True
        known = table if len(rows) == len(table) else table.filter(pa.array(place >= 0))
        _, codes, messages = outcome(known, recipe.schema)
        broken = pc.and_(pc.is_valid(codes), pc.equal(known["status"], "succeeded"))
        if pc.any(broken).as_py():
            known = _mark_failed(known, broken, codes, messages)
        yield _named(known, batch_id)
    if tally is not None:
        tally.lines = int(seen.sum())
    if not seen.all():
        yield failed_results(ids.filter(pa.array(~seen)), missing_code, missing_message, batch_id)


def results_in(file: Path, endpoint: str) -> Iterator[pa.RecordBatch]:
    """Yield the results in a file that was fetched, as far as it can be read: storage may have it damaged."""
    with _as_far_as_it_goes(file):
        yield from iter_results(file, endpoint=endpoint)


@contextmanager
def _as_far_as_it_goes(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble, not that of what it holds
        log.warning("the results in %s cannot be read to their end: %s", file, error)


def failed_results(ids: pa.Array, code: str, message: str, batch_id: str | None = None) -> pa.Table:
    """Give every request the same failure: its batch was refused, or never sent."""
    nothing = RESULTS.empty_table().take(pa.nulls(len(ids), pa.int64()))
    table = _replace(nothing, "custom_id", ids)
    return _named(_mark_failed(table, pa.array([True] * len(ids)), code, message), batch_id)


def _named(table: pa.Table, batch_id: str | None) -> pa.Table:
    return table.append_column("batch_id", pa.array([batch_id] * len(table), pa.string()))


def _replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    number = table.schema.get_field_index(name)
    return table.set_column(number, table.schema.field(number), values)


def _mark_failed(table: pa.Table, rows: Any, code: Any, message: Any) -> pa.Table:
    table = _replace(table, "status", pc.if_else(rows, "failed", table["status"]))
    table = _replace(table, "error_code", pc.if_else(rows, code, table["error_code"]))
    return _replace(table, "error_message", pc.if_else(rows, message, table["error_message"]))


def read_part_into(
    target: Path, files: Sequence[Path], ids: pa.Array, recipe: Recipe, **options: Any
) -> Tally:
    """Write what `read_part` yields to a file that appears whole or not at all, and return what it adds up to."""
    for doubled in (False, True):
        tally = Tally()
        try:
            pieces = read_part(files, ids, recipe, doubled=doubled, tally=tally, **options)
            write_results(pieces, target, tally)
            tally.surcharge = sum(_surcharge(file, PROVIDERS[recipe.provider]) for file in files)
            return tally
        except Doubled:
            continue
    raise AssertionError("lines that are merged are not doubled")


def _surcharge(file: Path, provider: Provider) -> float:
    """Add up what was paid beside the tokens."""
    if provider.surcharged is None:
        return 0.0
    total = 0.0
    with _as_far_as_it_goes(file), opened(file) as stream:
        lines = (line for block in blocks(stream, BLOCK_BYTES) for line in Lines(block))
        for line in filter(provider.surcharged.search, lines):
            total += sum(map(provider.surcharge, load(line)[0]))
    return total


def write_results(tables: Iterable[pa.Table], target: Path, tally: Tally | None = None) -> Tally:
    """Write results to a file that appears whole or not at all, and return what they add up to."""
    tally = Tally() if tally is None else tally
    with (
        written_whole(target) as partial,
        pq.ParquetWriter(partial, STORED, compression="lz4", use_dictionary=_REPEATED) as writer,
    ):
        for table in _large(table.cast(STORED) for table in tables):
            tally.add(table)
            writer.write_table(table)
    return tally


def _large(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Several tables as one: a file of many small row groups takes four times as long to read."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(one.nbytes for one in held) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def copy_answers(home: Home, jobs: Iterable[str], wanted: KeySet, target: Path) -> KeySet:
    """
    Write the answers to some questions into a job's own folder: forgetting the other job must not lose them.

    Parameters
    ----------
    home : Home
    jobs : iterable of str
        Ids of those that have them.
    wanted : KeySet
        The keys of the questions.
    target : pathlib.Path

    Returns
    -------
    KeySet
        The keys of what was found.
    """
    copied = KeySet(target.parent)
    if len(wanted):
        write_results(_answers(home, jobs, wanted, copied), target)
    return copied


def _answers(home: Home, jobs: Iterable[str], wanted: KeySet, copied: KeySet) -> Iterator[pa.Table]:
    """Yield the answers that have one of some keys, piece by piece, each key once."""
    for job_id in jobs:
        for path in home.folder(job_id).result_files():
            try:
                file = pq.ParquetFile(path)
            except FileNotFoundError:
                continue  # forgotten in this very moment
            with file:
                for group in range(file.num_row_groups):
                    # Most files have nothing that is wanted: their texts are not read.
                    table = file.read_row_group(group, columns=["custom_id", "status"])
                    theirs = keys_of(table["custom_id"].combine_chunks())
                    good = true(pc.equal(table["status"], "succeeded"))
                    rows = np.flatnonzero(wanted.contains(theirs) & good)
                    rows = rows[~copied.contains(theirs[rows])]
                    rows = rows[copied.add_new(theirs[rows])]
                    if len(rows):
                        yield file.read_row_group(group).take(pa.array(rows))


@dataclass
class Answers:
    """
    Some answers, as `answer_columns` takes them.

    ``keys`` are those of the table's ids, and both are sorted by them: few of many are found without a look at the rest.
    """

    keys: Keys
    table: pa.Table

    @classmethod
    def of(cls, table: pa.Table) -> Answers:
        keys = keys_of(one_array(table["custom_id"]))
        order = np.argsort(keys)
        return cls(keys[order], table.take(pa.array(order)))

    def of_these(self, keys: Keys) -> pa.Table:
        """Return the answers whose ids have one of some keys, each of them given once."""
        at = np.searchsorted(self.keys, keys)
        at[at == len(self.keys)] = 0
        hit = self.keys[at] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return self.table.take(pa.array(at[hit]))
