"""
A few threads for the pieces of one task.

Not `concurrent.futures.ThreadPoolExecutor`: that one takes no work any more once the interpreter begins to end, which
is just when what a script has submitted last is to be sent.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")


class Threads:
    """
    Daemon threads that take work in the order in which it was given.

    Parameters
    ----------
    size : int
        How many at most; they are started as work comes.
    name : str
    """

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._work = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., _T], *arguments: Any) -> Future[_T]:
        """Have a function called, and return what will hold its value or its error."""
        future: Future[_T] = Future()
        with self._lock:
            self._busy += 1
            if self._busy > len(self._threads) < self._size:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                    self._threads.append(thread)
                except RuntimeError:  # the machine starts no more: those that there are do it all
                    if not self._threads:
                        self._busy -= 1
                        raise
        self._work.put((future, function, arguments))
        return future

    def map(self, function: Callable[..., _T], *columns: Any) -> list[_T]:
        """Call a function for each item, and return the values in order."""
        futures = [self.submit(function, *arguments) for arguments in zip(*columns, strict=False)]
        return [future.result() for future in futures]

    def close(self, *, cancel: bool = False) -> None:
        """Return when all that was given is done; with `cancel`, what has not begun is never done."""
        while cancel and not self._work.empty():
            left = self._work.get()
            if left is not None:
                left[0].cancel()
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, arguments = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001  raised again by whoever asks for the result
                    future.set_exception(error)
            with self._lock:
                self._busy -= 1
            # The next wait for work must not keep the last one's rows alive.
            del work, future, function, arguments
