"""From an ended batch to its results on disk: links, downloads, and one result for every request of the part."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from dobatch_pandas.errors import (
    ConnectionFailed,
    Forbidden,
    NotFound,
    ServerError,
    TooManyRequests,
    TransferError,
    Unauthorized,
)
from dobatch_pandas.questions.part_files import ids_of_part
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import ResultLinks

from .progress import JobState
from .result_files import Doubled, read_part, write_results
from .store import PartRecord

__all__ = ["Collector"]

PATIENCE = 600.0  # seconds that the results of a completed batch may take to show up

_T = TypeVar("_T")


class Collector:
    """
    Brings in the results of one job's batches.

    Parameters
    ----------
    progress : JobState
    recipe : Recipe
    client : Client
    """

    def __init__(self, progress: JobState, recipe: Recipe, client: Client) -> None:
        self._progress, self._recipe, self._client = progress, recipe, client

    def collect(self, number: int) -> None:
        """Download what a batch left, and write a result for each request of its part."""
        progress = self._progress
        part = progress.parts[number]
        files = self._patiently(lambda: self._download(part))
        code, message = _why_missing(part)
        read = partial(
            read_part,
            files,
            ids_of_part(progress.folder.part(number)),
            self._recipe,
            batch_id=part.batch_id,
            missing_code=code,
            missing_message=message,
        )
        target = progress.folder.result(number)
        try:
            tally = write_results(read(), target)
        except Doubled:
            tally = write_results(read(doubled=True), target)
        progress.store.set_failures(part.job, number, list(tally.failures.values()))
        progress.set_part(
            number, state="read", completed=tally.completed, failed=tally.failed, **tally.tokens
        )

    def _patiently(self, step: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            since = self._progress.wakeups
            try:
                found = step()
            except (Unauthorized, Forbidden) as error:
                self._progress.wait_for_token(error, since)
            except (ConnectionFailed, ServerError, TooManyRequests, TransferError) as error:
                failures += 1
                self._progress.back_off(error, failures, since)
            else:
                self._progress.set_trouble(None)
                return found

    def _download(self, part: PartRecord) -> list[Path]:
        """Fetch what the batch left; nothing where the service has nothing (any more)."""
        folder = self._progress.folder
        links = self._links(part)
        if links is None:
            return []
        files = []
        for which, target in (
            ("output_url", folder.output(part.number)),
            ("error_url", folder.error(part.number)),
        ):
            url = getattr(links, which)
            if url is not None:
                self._client.download(url, target, refresh=partial(self._link, links.batch_id, which))
                target.chmod(0o600)
                files.append(target)
        return files

    def _link(self, batch_id: str, which: str) -> str:
        """Ask for a link anew: the one before has expired."""
        link: str | None = getattr(self._client.get_results(batch_id), which)
        if link is None:
            raise TransferError(f"The service gives no link to the results of batch {batch_id} any more.")
        return link

    def _links(self, part: PartRecord) -> ResultLinks | None:
        assert part.batch_id is not None
        asked, pause = time.monotonic(), 0.1
        while True:
            try:
                links = self._client.get_results(part.batch_id)
            except NotFound:
                return None
            if links.available and (links.output_url or links.error_url):
                return links
            # Files may show up a while after the status does, unless there is nothing to be shown.
            nothing = part.status != "completed" and part.completed + part.failed == 0
            if nothing or time.monotonic() - asked > PATIENCE:
                return None
            self._progress.wait(pause)
            pause = min(pause * 2, 30.0)


def _why_missing(part: PartRecord) -> tuple[str, str]:
    """Return the code and the words for a request that has no line in the batch's files."""
    if part.status == "expired":
        return "expired", "The batch's 24 hours ended before this request was run."
    if part.status == "cancelled":
        return "cancelled", "The batch was cancelled before this request was run."
    if part.status == "failed":
        return "batch_failed", f"The service refused the whole batch: {part.problem or 'no reason given'}"
    return "missing_result", "The service's files have no line for this request."
