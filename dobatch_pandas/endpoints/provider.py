"""What is a provider's own, and none of its endpoints': the size of its files, its ids, and how its lines look."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dobatch_pandas.codes import failure

from .answer import Answer

__all__ = ["FileLimits", "Outcome", "Provider", "error_answer", "reported"]


@dataclass(frozen=True)
class FileLimits:
    """What one request file may hold: so many requests, so many bytes."""

    requests: int
    bytes: int


class Outcome(NamedTuple):
    """What one line of a result file says of its request: the answer's body, or why there is none."""

    status_code: int | None
    request_id: str | None
    body: Any
    failure: Answer | None = None


class Provider(ABC):
    """
    Whose batches these are.

    A request's line is ``{"custom_id": ..., <asks>: <body>}`` with whatever `before_body` adds, a result's line is
    ``{"custom_id": ..., <envelope>: {..., <answer>: <body>}}``. What stands in the bodies is an endpoint's.
    """

    name: str
    title: str
    """As people write it."""
    models: re.Pattern[str] | None = None
    """Names of models that are surely its own."""
    file_limits: FileLimits
    id_pattern: str | None = None
    """What a whole ``custom_id`` must match."""
    id_words: str = "a text that is not empty"
    headers: Mapping[str, str] = {}
    """Beside the usual ones, where a request is asked at once."""
    only_endpoint: str | None = None
    """The one path that its lines go to, so that a batch need not name it."""
    asks: str
    envelope: str
    answer: str
    surcharged: re.Pattern[bytes] | None = None
    """What stands in the lines of a result file that have a `surcharge`, and hardly elsewhere."""

    @abstractmethod
    def before_body(self, url: str) -> bytes:
        """Return what stands between the ``custom_id`` of a request's line and its body."""

    @abstractmethod
    def outcome(self, line: dict[str, Any]) -> Outcome:
        """Read one line of a result file."""

    @abstractmethod
    def schema(self, body: Any) -> Any:
        """Return what Arrow is to expect of result lines whose bodies are of this Arrow type."""

    @abstractmethod
    def plain(
        self, columns: Mapping[str, Any], read: Callable[[Any], tuple[Any, dict[str, Any]]]
    ) -> tuple[Any, Any, dict[str, Any]]:
        """
        Read whole columns of `schema`, as far as they are plain.

        Parameters
        ----------
        columns : mapping of pyarrow.Array
        read : callable
            `Endpoint.plain`, for the column of bodies.

        Returns
        -------
        answered, failed : numpy arrays of bool
            Which rows hold a plain success, and which a plain failure; the others are looked at one by one.
        columns : dict of pyarrow.Array
            What was read, right for those rows.
        """

    def surcharge(self, line: dict[str, Any]) -> float:
        """Return what one line of a result file says was paid beside its tokens, as so many tokens of input."""
        return 0.0


def reported(error: Any) -> Any:
    """Return an error that says anything; some services write an object of empty members where there is none."""
    return error if not isinstance(error, dict) or any(map(reported, error.values())) else None


def error_answer(status: int | None, error: Any) -> Answer:
    """Return an `Answer` that says why there is none."""
    code, message = failure(status, error)
    return Answer(code=code, message=message)
