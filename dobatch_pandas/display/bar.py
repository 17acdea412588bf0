"""A job in a terminal, or in the log of a machine nobody watches."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, TextIO

from . import text
from .snapshot import Snapshot

__all__ = ["TqdmBar"]

_OFTEN = 0.25  # seconds between two drawings
_TICK = 1.0  # the clock on the bar goes on
_LOG_STEP = 0.1  # of all requests, between two lines in a log


class TqdmBar:
    """
    Progress of one job on a stream, from entering to leaving the block.

    On a terminal it is one tqdm bar; elsewhere it is a few lines, one for each state and each tenth.

    Parameters
    ----------
    job : Job
    file : text stream, optional
        None is standard error.
    """

    def __init__(self, job: Any, file: TextIO | None = None) -> None:
        self._job = job
        self._file = sys.stderr if file is None else file
        self._news = threading.Event()
        self._leaving = threading.Event()
        self._bar: Any = None
        self._said: tuple[str, int] | None = None
        self._thread = threading.Thread(target=self._follow, name=f"dobatch-bar-{job.id}", daemon=True)

    def __enter__(self) -> TqdmBar:
        if self._file.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                file=self._file,
                total=1,
                dynamic_ncols=True,
                bar_format="{desc} |{bar}| {postfix}",
                leave=False,
            )
        self._unsubscribe = self._job.subscribe(self._news.set)
        self._draw(self._job.snapshot())
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
            self._bar.close()
        self._line(text.describe(self._job.snapshot()))

    def _follow(self) -> None:
        while not self._leaving.is_set():
            self._news.wait(_TICK)
            self._news.clear()
            if not self._leaving.is_set():
                self._draw(self._job.snapshot())
            self._leaving.wait(_OFTEN)

    def _draw(self, snapshot: Snapshot) -> None:
        if snapshot.over:
            return
        now = text.portions(snapshot)
        if self._bar is not None:
            preparing = snapshot.state in ("recorded", "rendering")
            self._bar.n = now.prepared if preparing else now.ended
            self._bar.set_description_str(text.state_word(snapshot), refresh=False)
            details = (text.progress_line(snapshot), text.time_line(snapshot), text.usage_line(snapshot))
            self._bar.set_postfix_str(self._showable(" · ".join(filter(None, details))), refresh=True)
            return
        step = (snapshot.state + (snapshot.problem or ""), int(now.ended / _LOG_STEP))
        if step != self._said:
            self._said = step
            self._line(text.describe(snapshot))

    def _line(self, words: str) -> None:
        self._file.write(self._showable(f"job {self._job.id}: {words}\n"))
        self._file.flush()

    def _showable(self, words: str) -> str:
        # A log may be ASCII, a console some code page: a model's odd name must not end the wait.
        encoding = self._file.encoding or "utf-8"
        return text.ascii_words(words).encode(encoding, "backslashreplace").decode(encoding)
