"""
A part asked in real time: each request once, and each answer on disk as it comes.

Before a request is sent its name is on disk (``asked/part-00000.jsonl``), after it its answer
(``output/part-00000.jsonl``, lines as a batch's output file has them, so that they are read by the same code). Both are appended
and synced in groups: of whatever is free to be asked at a moment.

What a process leaves behind that dies in between is a name without an answer. Whether that request was run, and paid, nobody can
know. It is **not** asked again by itself: it has the code ``interrupted``, and `retry` sends it again when a person says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from dobatch_pandas.endpoints import provider_called
from dobatch_pandas.errors import (
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    DobatchError,
    Forbidden,
    TooManyRequests,
    Unauthorized,
)
from dobatch_pandas.questions.part_files import lines_of_part
from dobatch_pandas.service.client import Client

from .machine import AT_ONCE

__all__ = ["LONGEST_ANSWER", "Asking"]

LONGEST_ANSWER = 600.0  # seconds that a model may take for one answer
NOT_RUN = frozenset([429, 503, 529])  # the service says that it is busy: nothing was run


class Asking:
    """
    The requests of one part, and what is known of each on disk.

    Parameters
    ----------
    part : pathlib.Path
        Request lines.
    asked, answers : pathlib.Path
        Files of names, and of answers.
    client : Client
    provider, endpoint : str
    pool : object
        Its ``put`` has a function called by one of a few threads.
    stop : callable
        Says whether nothing more is to be asked.
    told : callable
        Called as answers come, with how many there are.
    """

    def __init__(
        self,
        part: Path,
        asked: Path,
        answers: Path,
        *,
        client: Client,
        provider: str,
        endpoint: str,
        pool: Any,
        stop: Callable[[], bool],
        told: Callable[[int], None],
    ) -> None:
        self._part, self._client, self._provider, self._endpoint = part, client, provider, endpoint
        self._asks = provider_called(provider).asks
        self._pool, self._stop, self._told = pool, stop, told
        self._names, self._answers = _Lines(asked), _Lines(answers)
        self._news = threading.Condition()
        self._under_way = 0
        self._trouble: BaseException | None = None
        self._seconds: list[float] = []

    def run(self) -> float:
        """
        Ask what is left, and return the seconds that a request took; 0 where nothing was asked.

        Raises
        ------
        DobatchError, OSError
            What keeps the rest from being asked at the moment. Nothing is under way any more.
        """
        with contextlib.closing(self._names), contextlib.closing(self._answers):
            done = {line["custom_id"] for line in self._answers.read()}
            self._left_over(done)
            self._count = len(done)
            self._told(self._count)
            rest = (
                line for line in map(orjson.loads, lines_of_part(self._part)) if line["custom_id"] not in done
            )
            try:
                self._ask(rest)
            finally:
                with self._news:
                    self._news.wait_for(lambda: not self._under_way)
                self._answers.sync()
            if self._trouble is not None:
                raise self._trouble
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0

    def _left_over(self, done: set[str]) -> None:
        """Give what an earlier process may have asked, and has no answer to, its code."""
        open_names: dict[str, None] = {}
        for line in self._names.read():
            if "asked" in line:
                open_names.update(dict.fromkeys(line["asked"]))
            else:
                open_names.pop(line["not_run"], None)
        for name in open_names:
            if name not in done:
                self._answers.add(_line(name, error=_INTERRUPTED))
                done.add(name)
        self._answers.sync()

    def _ask(self, rest: Iterator[dict[str, Any]]) -> None:
        while True:
            with self._news:
                # Now and then: that a job is to end makes no noise here.
                while self._under_way >= AT_ONCE and not self._halted():
                    self._news.wait(0.5)
                free = AT_ONCE - self._under_way
            if self._halted():
                return
            group = [line for _, line in zip(range(free), rest, strict=False)]
            if not group:
                return
            self._names.add({"asked": [line["custom_id"] for line in group]})
            self._answers.sync()
            self._names.sync()
            with self._news:
                self._under_way += len(group)
            for line in group:
                try:
                    self._pool.put(lambda line=line: self._one(line))
                except RuntimeError as error:  # no thread for it
                    self._trouble = error
                    self._one(line)

    def _halted(self) -> bool:
        return self._trouble is not None or self._stop()

    def _one(self, line: dict[str, Any]) -> None:
        name, began = line["custom_id"], time.monotonic()
        try:
            if self._halted():
                self._names.add({"not_run": name})
                return
            answer = self._answer(name, line[self._asks])
            self._answers.add(answer)
            with self._news:
                self._seconds.append(time.monotonic() - began)
                self._count += 1
            self._told(self._count)
        except _NotRun as trouble:
            with contextlib.suppress(OSError):  # then it stays a name without an answer
                self._names.add({"not_run": name})
            self._trouble = trouble.__cause__
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            self._trouble = error
        finally:
            with self._news:
                self._under_way -= 1
                self._news.notify_all()

    def _answer(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return _line(name, 200, self._client.infer(self._endpoint, body, provider=self._provider))
        except (Unauthorized, Forbidden, TooManyRequests, ConfigurationError) as error:
            raise _NotRun from error
        except ApiError as error:
            if error.status in NOT_RUN:
                raise _NotRun from error
            return _line(name, error.status, {"error": {"code": error.id, "message": error.message}})
        except ConnectionFailed as error:
            if not error.sent:
                raise _NotRun from error
            # It may have been run: to ask again might be to pay twice.
            return _line(name, error={**_INTERRUPTED, "message": f"{error} {_INTERRUPTED['message']}"})
        except DobatchError as error:
            raise _NotRun from error


class _NotRun(Exception):
    """The service has not run this request: it may be asked again; the cause is the trouble."""


_INTERRUPTED = {
    "code": "interrupted",
    "message": "The request was sent in real time and its answer was lost: it may have been run and paid.",
}


def _line(name: str, status: int = 0, body: Any = None, error: Any = None) -> dict[str, Any]:
    response = None if body is None else {"status_code": status, "body": body}
    return {"custom_id": name, "response": response, "error": error}


class _Lines:
    """A file of JSON lines that is added to; the torn last line of a process that died is cut off."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        found = []
        for line in data[:whole].split(b"\n"):
            with contextlib.suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def add(self, line: dict[str, Any]) -> None:
        left = memoryview(_bytes(line) + b"\n")
        with self._lock:
            while left:
                left = left[os.write(self._file, left) :]

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _bytes(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line)
    except TypeError:  # half a surrogate pair: escaped, so that it reaches the reader, who mends it
        import json

        return json.dumps(line).encode()
