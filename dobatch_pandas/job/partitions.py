"""What the partitions of a Dask frame ask, and how that becomes parts: lines lie with the workers, ids and sizes here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np

from dobatch_pandas.endpoints import PROVIDERS
from dobatch_pandas.errors import InputError, Problem
from dobatch_pandas.estimate import Estimate, Estimator
from dobatch_pandas.questions.part_files import Filling
from dobatch_pandas.questions.problems import NO_ROWS

from . import on_worker
from .dask_tasks import compute, persisted
from .input import as_json
from .on_worker import Asker, Ids, Told

__all__ = ["Partitions", "Prepared", "among", "as_set", "prepare"]

TOLD = 20  # problems that are told


@dataclass
class Prepared:
    """
    What a frame's partitions ask, each question once: lines on the workers, ids and sizes here.

    ``runs`` says what goes into each part: the first and last of `kept`, and from which request to which.
    """

    asker: Asker
    told: list[Told]
    kept: list[Any]
    ids: list[Ids]
    sizes: list[Any]
    owners: list[tuple[int, ...]]
    runs: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        filling = Filling(PROVIDERS[self.asker.recipe.provider].file_limits)
        ends = np.cumsum([0, *map(len, self.ids)])
        every = np.concatenate(self.sizes) if self.sizes else np.empty(0, np.int64)
        begun = 0
        for _, stop, full in filling.runs(every.astype(np.int64)):
            if full or stop == len(every):
                if stop > begun:
                    first = int(np.searchsorted(ends, begun, "right")) - 1
                    last = int(np.searchsorted(ends, stop, "left")) - 1
                    self.runs.append((first, last, begun - int(ends[first]), stop - int(ends[last])))
                begun = stop
                if full:
                    filling.empty()

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.told)

    @property
    def skipped(self) -> int:
        return sum(one.skipped for one in self.told)

    def fingerprint(self, salt: str) -> str:
        """Hex digits that are the same for the same question over the same rows, whatever their order and partitions."""
        sums = [sum(one.sums[lane] for one in self.told) % 2**64 for lane in range(2)]
        said = f"{salt} dask {self.rows} {self.skipped} {sums} {as_json(self.asker.recipe.to_json())}"
        return blake2b(said.encode(), digest_size=16).hexdigest()

    def ids_of(self, run: tuple[int, int, int, int]) -> Ids:
        ids: Ids = _of_run(self.ids, run)
        return ids

    def bytes_of(self, run: tuple[int, int, int, int]) -> int:
        return int(_of_run(self.sizes, run).sum())

    def lines_of(self, run: tuple[int, int, int, int]) -> Any:
        """Have one part's lines put together on a worker."""
        from dask.delayed import delayed

        first, last, start, stop = run
        places = [place for place in range(first, last + 1) if len(self.ids[place]) or place in (first, last)]
        pieces = [self.kept[place] for place in places]
        mark = on_worker.mark_of(self.ids_of(run))
        [lines] = persisted([delayed(on_worker.part_of, pure=False)(pieces, start, stop, mark)])
        return lines

    def needs(self) -> list[list[int]]:
        """In which parts the requests of each partition are."""
        mine: list[set[int]] = [set() for _ in self.ids]
        for number, (first, last, _, _) in enumerate(self.runs):
            for place in range(first, last + 1):
                mine[place].add(number)
        return [
            sorted(mine[place].union(*(mine[owner] for owner in owners)))
            for place, owners in enumerate(self.owners)
        ]

    def estimate(self, *, exact: bool = False) -> Estimate:
        """Count requests, tokens and dollars; what cannot be exceeded where `exact`."""
        from dask.delayed import delayed

        asker = self.asker
        whole = Estimator(
            asker.recipe.model,
            asker.recipe.provider,
            asker.recipe.endpoint,
            overrides=asker.prices,
            bound=exact,
        )
        if whole.price is not None or not exact:
            spec = delayed(asker, pure=False)
            count = delayed(on_worker.counted, pure=False)
            for sums in compute(*[count(one, spec, exact=exact) for one in self.kept]):
                whole.include(sums)
        return whole.finish(
            rows=self.rows,
            skipped=self.skipped,
            bytes=int(sum(int(sizes.sum()) for sizes in self.sizes)),
            batches=len(self.runs),
        )


def _of_run(pieces: Sequence[Any], run: tuple[int, int, int, int]) -> Any:
    first, last, start, stop = run
    taken = list(pieces[first : last + 1])
    taken[-1] = taken[-1][:stop]
    taken[0] = taken[0][start:]
    return np.concatenate(taken)


@dataclass
class Partitions:
    """What all partitions ask, on the workers, and what they told of it."""

    asker: Asker
    asked: list[Any]
    told: list[Told]
    ids: list[Ids]
    sizes: list[Any]

    @classmethod
    def of(cls, frame: Any, asker: Asker) -> Partitions:
        from dask.delayed import delayed

        spec = delayed(asker, pure=False)
        ask = delayed(on_worker.ask, pure=False)
        tell = delayed(on_worker.tell, pure=False)
        asked = persisted([ask(part, spec) for part in frame.to_delayed(optimize_graph=True)])
        told, ids, sizes = map(list, zip(*compute(*map(tell, asked)), strict=True))
        _check(told)
        return cls(asker, asked, told, ids, sizes)

    @cached_property
    def owners(self) -> list[Any]:
        """For each partition, which one asks each of its requests: the first that has it."""
        counts = list(map(len, self.ids))
        every = np.concatenate(self.ids)
        # Equal ones stay in the order of their partitions.
        order = np.lexsort((every[:, 1], every[:, 0]))
        sorted_ids = every[order]
        new = np.ones(len(every), bool)
        new[1:] = (sorted_ids[1:] != sorted_ids[:-1]).any(axis=1)
        first = np.maximum.accumulate(np.where(new, np.arange(len(every)), 0))
        partition = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        owners = np.empty(len(every), np.int32)
        owners[order] = partition[order[first]]
        return np.split(owners, np.cumsum(counts)[:-1])

    def taken(self, wanted: Callable[[Ids], Any]) -> Prepared:
        """Take each of some requests once, from the first partition that has it."""
        from dask.delayed import delayed

        only = delayed(on_worker.only, pure=False)
        which = [
            (owners == number) & wanted(ids)
            for number, (owners, ids) in enumerate(zip(self.owners, self.ids, strict=True))
        ]
        kept = [
            one if mine.all() else only(one, np.packbits(mine).tobytes())
            for one, mine in zip(self.asked, which, strict=True)
        ]
        return Prepared(
            self.asker,
            self.told,
            persisted(kept),
            [ids[mine] for ids, mine in zip(self.ids, which, strict=True)],
            [sizes[mine] for sizes, mine in zip(self.sizes, which, strict=True)],
            [
                tuple(np.unique(owners[owners != number]).tolist())
                for number, owners in enumerate(self.owners)
            ],
        )

    def only(self, wanted: Ids) -> Prepared:
        """Take some requests alone."""
        known = as_set(wanted)
        return self.taken(lambda ids: among(ids, known))


def prepare(frame: Any, asker: Asker, *, without: Ids | None = None) -> Prepared:
    """
    Render a frame's partitions on the workers, and find out which requests are to be sent.

    Which of them repeat another partition's is found out here: their ids are needed here in any case, to write down what
    each part asks.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    asker : Asker
    without : numpy.ndarray, optional
        Requests that are in parts already.

    Raises
    ------
    InputError
        With the problems of all partitions.
    """
    known = as_set(without) if without is not None else set()
    return Partitions.of(frame, asker).taken(lambda ids: ~among(ids, known))


def _check(told: list[Told]) -> None:
    problems: dict[str, Problem] = {}
    for one in told:
        for problem in one.problems:
            known = problems.get(problem.message)
            rows = (known.rows if known else ()) + problem.rows
            count = (known.count if known else 0) + max(problem.count, len(problem.rows))
            problems[problem.message] = Problem(problem.message, rows[: on_worker.NAMED], count)
    listed = list(problems.values())
    if len(listed) > TOLD:
        listed = [
            *listed[:TOLD],
            Problem(f"And {len(listed) - TOLD:,} more of these kinds, in other partitions."),
        ]
    if listed:
        raise InputError(listed)
    if not sum(one.rows for one in told):
        raise InputError(NO_ROWS)


def as_set(ids: Ids) -> set[bytes]:
    data = np.ascontiguousarray(ids).tobytes()
    return {data[at : at + 16] for at in range(0, len(data), 16)}


def among(ids: Ids, known: set[bytes]) -> Any:
    data = np.ascontiguousarray(ids).tobytes()
    return np.fromiter((data[at : at + 16] in known for at in range(0, len(data), 16)), bool, len(ids))
