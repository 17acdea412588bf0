"""A job in a terminal, or in the log of a machine nobody watches."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

from dobatch_pandas.errors import JobNotFound

from . import kernel_shell, somebody_types, text, width_of
from .snapshot import Snapshot

__all__ = ["TqdmBar"]

_OFTEN = 0.25  # seconds between two drawings
_TICK = 1.0  # the clock on the bar goes on
_LOG_STEP = 0.1  # of all requests, between two lines in a log
_NARROW = 80  # columns, where a terminal does not say how many it has
_SHORTEST = 10  # columns of the bar: words give way to it, the last ones first


class TqdmBar:
    """
    Progress of one job on a stream, from entering to leaving the block.

    On a terminal, and wherever a cell is typed, it is one tqdm bar; elsewhere it is a few lines, one for each state and
    each tenth. Where there is no stream, or it breaks, nobody watches: the block goes on without a word.

    Parameters
    ----------
    job : Job
    file : text stream, optional
        None is standard error.
    """

    def __init__(self, job: Any, file: TextIO | None = None) -> None:
        self._job = job
        self._file: TextIO | None = sys.stderr if file is None else file
        self._mark = text.Mark()
        self._news = threading.Event()
        self._leaving = threading.Event()
        self._bar: Any = None
        self._said: tuple[str, int] | None = None
        self._thread = threading.Thread(target=self._follow, name=f"dobatch-bar-{job.id}", daemon=True)

    def __enter__(self) -> TqdmBar:
        # The stream of a kernel is no terminal, but every front end with a keyboard draws a line anew after "\r".
        if _is_terminal(self._file) or somebody_types():
            from tqdm import tqdm

            self._bar = tqdm(file=self._file, total=1, ncols=_NARROW - 1, bar_format="{desc}", leave=False)
        self._unsubscribe = self._job.subscribe(self._news.set)
        self._draw()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._news.set()
        self._unsubscribe()
        self._thread.join()
        if self._bar is not None:
            with self._watched():
                self._bar.close()
        snapshot = self._look()
        if snapshot is not None:
            self._line(text.describe(snapshot))

    def _follow(self) -> None:
        while not self._leaving.is_set() and self._file is not None:
            self._news.wait(_TICK)
            self._news.clear()
            if not self._leaving.is_set():
                self._draw()
            self._leaving.wait(_OFTEN)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Write where somebody may read; a stream that breaks ends the drawing, and not the wait."""
        try:
            yield
        except (ValueError, OSError, AttributeError):  # closed, full, or not quite a stream
            self._file = None

    def _look(self) -> Snapshot | None:
        try:
            return self._job.snapshot()  # type: ignore[no-any-return]
        except JobNotFound:
            return None  # deleted meanwhile: whoever waits is told

    def _draw(self) -> None:
        snapshot = self._look()
        if snapshot is None or snapshot.over or self._file is None:
            return
        if self._bar is not None:
            self._draw_bar(snapshot)
            if snapshot.expect is not None and threading.current_thread() is self._thread:
                snapshot.expect()
            return
        step = (snapshot.state + (snapshot.problem or ""), int(self._mark.of(snapshot) / _LOG_STEP))
        if step != self._said:
            self._said = step
            self._line(text.describe(snapshot))

    def _draw_bar(self, snapshot: Snapshot) -> None:
        share = self._mark.of(snapshot)
        self._bar.n = share
        columns = self._columns()
        left = f"{text.state_word(snapshot)} {text.percent(share):>5} |"
        words = text.finished_words(snapshot)
        eta = text.time_left(snapshot)
        if eta is not None:
            words.append(f"about {text.duration(eta)} left")
        if snapshot.started:
            words.append(text.duration(time.time() - snapshot.started))
        words += [text.money_line(snapshot), (snapshot.problem or "").split("\n")[0]]
        right = "| "
        for word in filter(None, words):
            longer = right + (" · " if right != "| " else "") + word
            if len(left) + len(longer) + _SHORTEST > columns and right != "| ":
                break
            right = longer
        # The words stand for themselves: a brace in them is no place for a value.
        left, right = (self._showable(words).replace("{", "{{").replace("}", "}}") for words in (left, right))
        self._bar.bar_format, self._bar.ncols = f"{left}{{bar}}{right}", columns
        with self._watched():
            self._bar.refresh()

    def _columns(self) -> int:
        columns = width_of(self._file) or _NARROW
        if kernel_shell() is not None:
            # A front end may be narrower than the terminal that its kernel was started on.
            columns = min(columns, _NARROW)
        # One less: a terminal that is full to its last column may begin a new line.
        return max(1, columns - 1)

    def _line(self, words: str) -> None:
        if self._file is None:
            return
        line = self._showable(f"job {self._job.id}: {text.ascii_words(words)}\n")
        with self._watched():
            self._file.write(line)
            getattr(self._file, "flush", lambda: None)()

    def _showable(self, words: str) -> str:
        # A log may be ASCII, a console some code page: a model's odd name must not end the wait.
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        try:
            words.encode(encoding)
        except UnicodeEncodeError:
            words = text.ascii_words(words)
        return words.encode(encoding, "backslashreplace").decode(encoding)


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # none, closed, or an object that has only a `write`
        return False
