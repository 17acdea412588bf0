"""One batch while it runs: its lines in the order of execution, and the files its results grow in."""

from __future__ import annotations

import os
import random
import threading
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from .lines import Outcome, not_run, request_of
from .state import Batch

__all__ = ["Run"]

_BLOCK = 256
_MOST_BYTES = 4_000_000


class Run:
    """
    The work left of one batch.

    The results are appended to two files as they come, so that what was executed is known after a crash:
    whatever line is whole in them was run. They become the output and the error file as they are.

    Parameters
    ----------
    batch : Batch
    source : pathlib.Path
        The input file.
    folder : pathlib.Path
        Where the growing result files lie.
    """

    def __init__(self, batch: Batch, source: Path, folder: Path) -> None:
        self.batch_id, self.provider, self.endpoint = batch.batch_id, batch.provider, batch.endpoint
        self.expires_at = batch.expires_at
        self.source = source
        self.output_path = folder / f"{batch.batch_id}.output"
        # Wire B has one file for everything.
        self.one_file = batch.wire == "B"
        self.error_path = self.output_path if self.one_file else folder / f"{batch.batch_id}.error"
        # validating, resuming -> in_progress -> finalizing -> ended; failing, from any of them, -> ended
        self.phase = "resuming" if batch.handed_over else "validating"
        self.why: str | None = "cancelled" if batch.status == "cancelling" else None
        self.busy = 0
        self.total = self.completed = self.failed = 0
        # What keeps it from going on, until when (monotonic seconds), and how often in a row.
        self.trouble, self.not_before, self.mishaps = "", 0.0, 0
        # Answers that wait to be written down: no more requests are handed out meanwhile.
        self.unwritten = 0
        self.errors: list[dict[str, Any]] = []
        # Result files that were put in their place.
        self.published: dict[Path, str | None] = {}
        # How often a request was pushed back while others were answered, and how many had been by then.
        self.pushed: dict[int, tuple[int, int]] = {}
        self._offsets: array[int] = array("Q", [0])
        self._order: array[int] = array("L")
        self._next = 0
        self._again: deque[int] = deque()
        self._sizes = {self.output_path: 0, self.error_path: 0}
        self._torn = False
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self, offsets: array[int]) -> None:
        """
        Take over where the lines begin, and draw the order they are run in.

        The order is never the file's: users must not come to rely on it. What a run before a restart has
        answered is left out.
        """
        self._offsets = offsets
        self.total = len(offsets) - 1
        self.completed = self.failed = 0
        order = _shuffled(self.total, zlib.crc32(self.batch_id.encode()))
        done = self._recover()
        if done:
            with self.source.open("rb") as file:
                wanted = [request_of(line, self.provider)[0] not in done for line in file]
            order = [number for number in order if wanted[number]]
        self._order, self._next = array("L", order), 0
        self._again.clear()

    @property
    def left(self) -> int:
        """Requests not yet handed out."""
        return len(self._order) - self._next + len(self._again)

    @property
    def asks_on(self) -> bool:
        """Whether there are requests to be handed out."""
        return self.phase == "in_progress" and self.why is None and self.left > 0

    @property
    def turn(self) -> tuple[bool, int]:
        """Whose turn it is: the least left first, and last who has only what the model did not take before."""
        return self._next == len(self._order) and bool(self._again), self.left

    def take(self, count: int) -> array[int]:
        """Hand out the numbers of the next lines: so many, or fewer where they are long."""
        first = self._next
        if first == len(self._order):
            # What was handed back comes last, so that one request does not keep others from a try.
            return array("L", [self._again.popleft() for _ in range(min(count, len(self._again)))])
        size, last = 0, first
        for number in self._order[first : first + count]:
            size += self._offsets[number + 1] - self._offsets[number]
            if last > first and size > _MOST_BYTES:
                break
            last += 1
        self._next = last
        return self._order[first:last]

    def hand_back(self, numbers: Iterable[int]) -> None:
        """Take back requests that were handed out and not executed."""
        self._again.extend(numbers)

    def read(self, numbers: array[int]) -> list[bytes]:
        """The lines of these numbers."""
        if not numbers:
            return []
        offsets = self._offsets
        # Opened anew each time: a thousand open batches must not hold a thousand files.
        with self.source.open("rb") as file:
            begin, end = offsets[min(numbers)], offsets[max(numbers) + 1]
            size = sum([offsets[number + 1] - offsets[number] for number in numbers])
            if end - begin <= 2 * size:
                # Lines that are handed out together lie together, so one read has them all.
                file.seek(begin)
                block = file.read(end - begin)
                return [block[offsets[number] - begin : offsets[number + 1] - begin] for number in numbers]
            lines = []
            for number in numbers:
                file.seek(offsets[number])
                lines.append(file.read(offsets[number + 1] - offsets[number]))
            return lines

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Append results and count them: all of them, or, where that raises OSError, none."""
        if self.one_file:
            kept, set_aside = b"".join([one.line for one in outcomes]), b""
        else:
            kept = b"".join([one.line for one in outcomes if not one.error_file])
            set_aside = b"".join([one.line for one in outcomes if one.error_file])
        good = sum([one.good for one in outcomes])
        with self._lock:
            self._append((self.output_path, kept), (self.error_path, set_aside))
            self.completed += good
            self.failed += len(outcomes) - good

    def give_up(self, why: str) -> None:
        """Write a line for every request that was not handed out: the batch was cancelled, or has expired."""
        while self.left:
            numbers = self.take(1000)
            try:
                ids = [request_of(line, self.provider)[0] for line in self.read(numbers)]
                lines = b"".join([not_run(self.provider, custom_id, why) for custom_id in ids])
                with self._lock:
                    self._append((self.error_path, lines))
                    self.failed += len(ids)
            except OSError:
                self.hand_back(numbers)
                raise

    def close(self) -> None:
        """Record nothing any more."""
        with self._lock:
            self._closed = True

    def _append(self, *contents: tuple[Path, bytes]) -> None:
        """Write at the ends of files, all or nothing; called with the lock held."""
        if self._closed:
            return
        if self._torn:
            # This takes no descriptor and no room, so it works where writing did not.
            for path, size in self._sizes.items():
                if path.exists():
                    os.truncate(path, size)
            self._torn = False
        sizes = dict(self._sizes)
        for path, content in contents:
            if content:
                self._torn = True
                # Closed at once: what is written is the system's, and a thousand open batches hold no files.
                with path.open("ab", buffering=0) as file:
                    rest = memoryview(content)
                    while rest:
                        rest = rest[file.write(rest) :]
                sizes[path] += len(content)
        self._sizes, self._torn = sizes, False

    def _recover(self) -> set[str]:
        done: set[str] = set()
        for path in {self.output_path, self.error_path}:
            if not path.exists():
                continue
            whole = 0
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    whole += len(line)
                    answer = orjson.loads(line)
                    done.add(answer["custom_id"])
                    if _was_good(answer, self.provider):
                        self.completed += 1
                    else:
                        self.failed += 1
            # A torn last line: the process died in the middle of it.
            os.truncate(path, whole)
            self._sizes[path] = whole
        return done


def _shuffled(count: int, seed: int) -> list[int]:
    """Numbers in an order that is not theirs: blocks are shuffled, and the numbers in each."""
    draw = random.Random(seed)
    whole = count - count % _BLOCK
    blocks = [list(range(first, first + _BLOCK)) for first in range(0, whole, _BLOCK)]
    draw.shuffle(blocks)
    blocks.append(list(range(whole, count)))
    for block in blocks:
        draw.shuffle(block)
    order = [number for block in blocks for number in block]
    if count > 1 and order == list(range(count)):
        order.reverse()
    return order


def _was_good(answer: dict[str, object], provider: str) -> bool:
    if provider == "anthropic":
        result = answer["result"]
        return isinstance(result, dict) and result["type"] == "succeeded"
    response = answer["response"]
    return isinstance(response, dict) and response["status_code"] == 200
