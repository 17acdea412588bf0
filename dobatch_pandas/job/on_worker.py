"""
What a worker of a cluster does for a job whose rows lie in its partitions: ask, upload, download, read, join.

Each function is a task of Dask's. What it returns either stays on the workers (rows, lines, answers), or is small and of
no interest to anybody who must not see it (ids, sizes, counts, states): only that goes to the client. Nothing a task has
done needs to be kept: done again, on another worker, it comes to the same, and no task creates a batch.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dobatch_pandas.answers.join import ANSWER_COLUMNS, answer_columns, joined
from dobatch_pandas.answers.result_lines import merge_results
from dobatch_pandas.arrow.columns import one_array
from dobatch_pandas.arrow.keyset import HEX_DIGITS, keys_of, mixed
from dobatch_pandas.codes import Fate
from dobatch_pandas.config import settings
from dobatch_pandas.errors import (
    ConfigurationError,
    ConnectionFailed,
    InputError,
    MissingExtra,
    Problem,
    TooManyRequests,
)
from dobatch_pandas.estimate import Estimator, Sums
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.problems import NO_ROWS, frame_problems
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import RequestWriter, ids_of
from dobatch_pandas.service.client import Client

from .faults import fault_of
from .machine import Fault
from .result_files import Answers, Tally, bring_files, failed_results, read_part_into, results_in
from .store import store_at

__all__ = ["Asked", "Asker", "Fetched", "Lines", "Stored", "keys_of_hex"]

Ids = npt.NDArray[np.uint64]
"""Two numbers a request: the 128 bits that its id is made of."""

P = ParamSpec("P")
T = TypeVar("T")

CODEC = "zstd"
NAMED = 20  # rows of a problem that are named


@dataclass(frozen=True)
class Asker:
    """
    What a worker must know of who asks, and what; its token is its own, from its environment.

    ``mark`` tells the client's token from another one without telling it; None where both may differ.
    """

    base_url: str
    allow_http: bool
    version: str
    recipe: Recipe
    prices: dict[str, Any] | None = None
    mark: tuple[bytes, bytes] | None = None
    store: str | None = None

    @classmethod
    def here(cls, recipe: Recipe) -> Asker:
        """Describe this process as the one that asks."""
        now = settings()
        salt = os.urandom(16)
        mark = None if now.account is not None else (salt, _marked(now.token, salt))
        return cls(
            now.base_url, now.allow_http, _version(), recipe, dict(now.prices) or None, mark, now.store
        )

    def check(self) -> None:
        """
        Say what keeps this process from working for the one that asks.

        Raises
        ------
        ConfigurationError
            It runs another version, has no token, or another one.
        """
        token, version = settings().token, _version()
        if version != self.version:
            raise ConfigurationError(
                f"{_where()} runs dobatch_pandas {version}, and the client {self.version}: install the same version."
            )
        if not token:
            raise ConfigurationError(
                f"{_where()} has no token: start it with DIGITALOCEAN_TOKEN in its environment. A token is never sent to "
                "the workers."
            )
        if self.mark is not None and _marked(token, self.mark[0]) != self.mark[1]:
            raise ConfigurationError(
                f"{_where()} has another token than the client, so that its files would be another account's. Give all "
                "the same, or say with DOBATCH_ACCOUNT and dobatch.configure(account=...) that they are of one account."
            )

    def client(self) -> Client:
        """Return the way to the service from here: one try a call, since the client's machine decides on the next."""
        self.check()
        return Client(base_url=self.base_url, allow_http=self.allow_http, retries=0, budget=60.0)


def checked(asker: Asker) -> str | None:
    """Say in words what keeps this worker from working; None where nothing does."""
    try:
        asker.check()
        store = store_at(asker.store)
        if store is not None:
            store.check()
    except (ConfigurationError, MissingExtra) as error:
        return str(error)
    return None


def _version() -> str:
    return importlib.metadata.version("dobatch-pandas")


def _marked(token: str | None, salt: bytes) -> bytes:
    return blake2b((token or "").encode(), digest_size=8, key=salt).digest()


def _where() -> str:
    try:
        from distributed import get_worker

        return f"Worker {get_worker().address}"
    except (ImportError, ValueError):
        return "This process"


HEARD = 10.0  # seconds in which a client that listens has answered
ASKED_AGAIN = 5.0  # seconds after which a worker asks again whether it is its turn, at the latest
BUSY = 10  # times that the service may say so to one worker

counted_here: set[str] = set()
"""Topics for whose askers this process counts: workers in it count their calls as its own."""


def turns_at(base_url: str) -> str:
    """Return the topic under which workers ask for their turn to call a service."""
    return f"dobatch-turns {base_url}"


def wait_for_turn(asker: Asker, stay_away: float = 0.0) -> None:
    """
    Wait until the client's process lets a call through: the service's limits are the whole cluster's, and it counts them.

    Where no client listens any more, this process's own limits hold.

    Parameters
    ----------
    asker : Asker
    stay_away : float
        Seconds for which the service has said that no call is to be made.
    """
    try:
        from distributed import Queue, get_worker

        worker = get_worker()
    except (ImportError, ValueError):
        return  # the client's own process, or a thread of it
    topic = turns_at(asker.base_url)
    if topic in counted_here:
        return
    answer: Any = Queue()  # type: ignore[no-untyped-call]
    try:
        while True:
            worker.log_event(topic, (answer.name, stay_away))
            try:
                seconds = answer.get(timeout=HEARD)
            except TimeoutError:
                return
            if not seconds:
                return
            time.sleep(min(seconds, ASKED_AGAIN))
            stay_away = 0.0
    finally:
        answer.close()


def or_fault(task: Callable[P, T]) -> Callable[P, T | Fault]:
    """Have what goes wrong in a task returned, as what it means: Dask would log what is raised, and try again itself."""

    @wraps(task)
    def told(*args: P.args, **options: P.kwargs) -> T | Fault:
        try:
            return task(*args, **options)
        except Exception as error:  # noqa: BLE001  told to the machine, which knows what follows
            return fault_of(error)

    return told


# -- ids


def keys_of_hex(ids: Any) -> Ids:
    """Return ids made by us, a column of 32 hex digits each, as two numbers each."""
    ids = one_array(ids).cast(pa.string())
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), np.uint64).reshape(-1, 2)


def hex_of(ids: Ids) -> pa.Array:
    """Return the column of ids that `keys_of_hex` read."""
    digits = np.ascontiguousarray(ids).tobytes().hex().encode()
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * HEX_DIGITS
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(digits))


# -- asking: what a partition's rows ask, each question once


@dataclass(frozen=True)
class Lines:
    """Request lines, compressed: stay on the worker. ``length`` is of the text in bytes."""

    data: bytes
    length: int

    @classmethod
    def of(cls, lines: list[bytes]) -> Lines:
        text = b"".join(line + b"\n" for line in lines)
        return cls(pa.compress(text, CODEC, asbytes=True), len(text))

    @property
    def text(self) -> bytes:
        found: bytes = pa.decompress(self.data, self.length, CODEC, asbytes=True) if self.length else b""
        return found

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.text.split(b"\n")[:-1])


@dataclass
class Asked:
    """
    What the rows of one partition ask, each question once: stays on the worker.

    ``sizes`` are of the lines in bytes, newlines included.
    """

    told: Told
    ids: Ids
    sizes: npt.NDArray[np.int32]
    lines: Lines


@dataclass(frozen=True)
class Told:
    """What the client is told of a partition. ``sums`` is the same for the same requests in any order."""

    rows: int
    skipped: int
    sums: tuple[int, int]
    problems: tuple[Problem, ...] = ()


def ask(frame: pd.DataFrame, asker: Asker) -> Asked:
    """Render the rows of a partition."""
    asker.check()
    recipe = asker.recipe
    lines: list[bytes] = []
    ids, problems = [], _problems(recipe, frame)
    skipped = 0
    sums = np.zeros(2, np.uint64)
    if not problems and len(frame):
        writer = RequestWriter(recipe, None, on_lines=lines.extend)
        try:
            for frozen in freeze(recipe, frame):
                block = writer.add(frozen)
                fates = block["fate"]
                skipped += int(pc.sum(pc.greater(fates, int(Fate.REUSED))).as_py() or 0)
                ids.append(keys_of_hex(block["custom_id"].filter(pc.equal(fates, int(Fate.SENT)))))
                every = keys_of_hex(block["custom_id"].filter(pc.less_equal(fates, int(Fate.REUSED))))
                sums += _sum(every)
        except InputError as error:
            problems = list(error.problems)
    mine = np.concatenate([np.empty((0, 2), np.uint64), *ids])
    if problems:
        mine, lines = mine[:0], []
    told = Told(
        len(frame),
        skipped // recipe.samples,
        (int(sums[0]), int(sums[1])),
        tuple(replace(problem, rows=problem.rows[:NAMED]) for problem in problems),
    )
    return _asked(told, mine, lines)


def _problems(recipe: Recipe, frame: pd.DataFrame) -> list[Problem]:
    return [problem for problem in frame_problems(recipe, frame) if problem.message != NO_ROWS]


def _sum(ids: Ids) -> Ids:
    """Add ids up so that neither their order nor what partition they stand in matters, and each counts."""
    with np.errstate(over="ignore"):
        return np.array([mixed(ids).sum(), mixed(ids[:, ::-1]).sum()], np.uint64)


def _asked(told: Told, ids: Ids, lines: list[bytes]) -> Asked:
    sizes = np.fromiter((len(line) + 1 for line in lines), np.int32, len(lines))
    return Asked(told, ids, sizes, Lines.of(lines))


def tell(asked: Asked) -> tuple[Told, Ids, npt.NDArray[np.int32]]:
    """Tell the client of a partition; ids and sizes of its requests too."""
    return asked.told, asked.ids, asked.sizes


def only(asked: Asked, which: bytes) -> Asked:
    """Return some of a partition's requests: a bit for each of them."""
    taken = np.unpackbits(np.frombuffer(which, np.uint8), count=len(asked.ids)).astype(bool)
    lines = [line for line, mine in zip(asked.lines, taken.tolist(), strict=True) if mine]
    return _asked(asked.told, asked.ids[taken], lines)


# -- pricing


def counted(asked: Asked, asker: Asker, *, exact: bool) -> Sums:
    """Count what some requests cost: at most, where `exact`, else in all likelihood."""
    recipe = asker.recipe
    estimator = Estimator(recipe.model, recipe.provider, recipe.endpoint, overrides=asker.prices, bound=exact)
    estimator.add_all(asked.lines)
    return estimator.sums()


# -- sending


def mark_of(ids: Ids) -> bytes:
    """Return bytes that tell some ids in their order from others."""
    return blake2b(np.ascontiguousarray(ids).tobytes(), digest_size=16).digest()


def part_of(pieces: Sequence[Asked], start: int, stop: int, mark: bytes) -> Lines:
    """
    Put some partitions' requests into one part: from the `start`-th of the first one to the `stop`-th of the last.

    Raises
    ------
    ConnectionFailed
        They are others than the client was told of: lost, and computed again from a source that gives other rows each time.
    """
    lines: list[bytes] = []
    ids: list[Ids] = []
    for place, piece in enumerate(pieces):
        taken = slice(start if place == 0 else 0, stop if place == len(pieces) - 1 else None)
        lines += list(piece.lines)[taken]
        ids.append(piece.ids[taken])
    if mark_of(np.concatenate(ids)) != mark:
        raise ConnectionFailed(
            "The cluster has lost a partition's rows, and those computed again ask something else."
        )
    return Lines.of(lines)


def bound_of_lines(lines: Lines, asker: Asker) -> float | None:
    """Return the most that a part can cost, in US dollars; None where nobody can say."""
    recipe = asker.recipe
    estimator = Estimator(recipe.model, recipe.provider, recipe.endpoint, overrides=asker.prices, bound=True)
    estimator.add_all(lines)
    cost = estimator.finish().cost_batch
    return None if cost is None else cost[1]


@or_fault
def upload(lines: Lines, name: str, asker: Asker) -> str:
    """Send a part from here straight to the service's storage, and return the id of the file."""
    with asker.client() as client, tempfile.TemporaryDirectory(prefix="dobatch-") as folder:
        path = Path(folder, name)
        with open(path, "wb", opener=_private) as file:
            file.write(lines.text)
        return client.send_file(path, file_name=name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# -- answers


@dataclass(frozen=True)
class Stored:
    """
    Where the results of a part are, and what its requests without a line have.

    ``missing`` are the ids of those, as bytes. ``job_id`` is the name under which a store has them.
    """

    number: int
    batch_id: str | None
    code: str
    message: str
    missing: bytes = b""
    job_id: str = ""


@dataclass(frozen=True)
class Fetched:
    """What the client is told of a part's results: counts, and the ids without a line."""

    tally: Tally
    missing: bytes


def results_into(target: Path, part: Stored, ids: Any, asker: Asker) -> None:
    """Write a result for each of a part's requests to a file of this machine."""
    if part.batch_id is not None and _from_store(part, target, asker):
        return
    with tempfile.TemporaryDirectory(prefix="dobatch-") as folder:
        files = _downloaded(part, Path(folder), asker) if part.batch_id is not None else []
        _read(target, files, ids, part, asker.recipe)


def _from_store(part: Stored, target: Path, asker: Asker) -> bool:
    store = store_at(asker.store)
    return store is not None and store.results(part.job_id, part.number, target)


@or_fault
def fetch(part: Stored, ids: bytes, asker: Asker) -> Fetched:
    """Download and read the results of a part."""
    asked = hex_of(np.frombuffer(ids, np.uint64).reshape(-1, 2))
    with tempfile.TemporaryDirectory(prefix="dobatch-") as folder:
        target = Path(folder, "results.parquet")
        files = _downloaded(part, Path(folder), asker)
        tally = _read(target, files, asked, part, asker.recipe)
        store = store_at(asker.store)
        if store is not None:
            store.keep_results(part.job_id, part.number, target)
        missing = b""
        if tally.lines < len(asked):
            found = pa.concat_arrays(
                [pa.array([], pa.string()), *(_ids_of(file, asker.recipe) for file in files)]
            )
            missing = keys_of_hex(asked.filter(pc.invert(pc.is_in(asked, value_set=found)))).tobytes()
        return Fetched(tally, missing)


def _ids_of(file: Path, recipe: Recipe) -> pa.Array:
    """The ids of a file's lines."""
    blocks = [batch["custom_id"].drop_null() for batch in results_in(file, recipe.endpoint)]
    return pa.concat_arrays([pa.array([], pa.string()), *(block.cast(pa.string()) for block in blocks)])


def _read(target: Path, files: list[Path], ids: Any, part: Stored, recipe: Recipe) -> Tally:
    return read_part_into(
        target,
        files,
        ids,
        recipe,
        batch_id=part.batch_id,
        missing_code=part.code,
        missing_message=part.message,
    )


def _downloaded(part: Stored, folder: Path, asker: Asker) -> list[Path]:
    assert part.batch_id is not None
    files = [folder / "output.jsonl", folder / "error.jsonl"]
    with asker.client() as client:
        bring_files(client, part.batch_id, *files)
    return [file for file in files if file.exists()]


def _in_turn(part: Stored, folder: Path, asker: Asker) -> list[Path]:
    """Bring in the files of a batch when it is this worker's turn; a service that is too busy is asked again."""
    stay_away = 0.0
    for _ in range(BUSY):
        wait_for_turn(asker, stay_away)
        try:
            return _downloaded(part, folder, asker)
        except TooManyRequests as busy:
            stay_away, last = busy.retry_after or 1.0, busy
    raise last


def answers(part: Stored, asker: Asker) -> Answers:
    """Bring in the answers of a part."""
    missing = hex_of(np.frombuffer(part.missing, np.uint64).reshape(-1, 2))
    if part.batch_id is None:
        none = failed_results(missing, part.code, part.message, part.batch_id)
        return Answers.of(none.select(ANSWER_COLUMNS))
    with tempfile.TemporaryDirectory(prefix="dobatch-") as folder:
        target = Path(folder, "results.parquet")
        if not _from_store(part, target, asker):
            files = _in_turn(part, Path(folder), asker)
            ids = [_ids_of(file, asker.recipe) for file in files]
            asked = pa.concat_arrays([*ids, missing]).unique()
            _read(target, files, asked, part, asker.recipe)
        return Answers.of(pq.read_table(target, columns=ANSWER_COLUMNS, memory_map=False))


def join(
    frame: pd.DataFrame,
    asker: Asker,
    absent: str,
    parts: Mapping[int, Stored],
    near: Collection[int],
    *found: Answers,
) -> pd.DataFrame:
    """
    Return a partition with the answers beside its rows.

    Parameters
    ----------
    frame : pandas.DataFrame
    asker : Asker
    absent : str
        Code of a row that nobody has asked.
    parts : mapping of int to Stored
        All parts.
    near : collection of int
        Those in which this partition's requests were sent. Rows that are not as they were are looked for in the others.
    *found : Answers
        Of those that are near.
    """
    recipe = asker.recipe
    ids: Any = pa.array([], pa.string())
    fates: Any = None
    if len(frame):
        ids, fates = ids_of(frame, recipe.lenient)
    wanted = np.unique(keys_of(one_array(ids).drop_null()))
    results = [some.of_these(wanted) for some in found]
    for part in (part for number, part in parts.items() if number not in near):
        known = [keys_of(one_array(table["custom_id"])) for table in results if len(table)]
        left = np.setdiff1d(wanted, np.concatenate(known)) if known else wanted
        if not len(left):
            break
        results.append(answers(part, asker).of_these(left))
    columns = answer_columns(
        ids,
        fates,
        merge_results([table for table in results if len(table)]),
        **recipe.answer_options,
        index=frame.index,
        absent=absent,
    )
    return joined(frame, columns)
