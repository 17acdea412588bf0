"""From a part on disk to a batch at the service: upload, create, and what to do when either is refused."""

from __future__ import annotations

import time
import uuid

from dobatch_pandas.errors import (
    ApiError,
    Conflict,
    ConnectionFailed,
    DobatchError,
    Forbidden,
    NotFound,
    ServerError,
    TooManyRequests,
    TransferError,
    Unauthorized,
)
from dobatch_pandas.questions.part_files import compress_part, ids_of_part
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import Batch

from .progress import JobState
from .result_files import failed_results, write_results
from .store import PartRecord

__all__ = ["Sender"]

HOLD = 300.0  # seconds after which a held batch is tried again, whatever is known
TRIES = 3  # of an upload that the service then does not find


class Sender:
    """
    Sends the parts of one job.

    Parameters
    ----------
    progress : JobState
    recipe : Recipe
    client : Client
    """

    def __init__(self, progress: JobState, recipe: Recipe, client: Client) -> None:
        self._progress, self._recipe, self._client = progress, recipe, client

    def send(self, number: int) -> PartRecord:
        """
        Send a part, however long it takes, and return it as it is then.

        It has a batch, or it was refused or cancelled, and each of its requests has a failure.
        """
        progress = self._progress
        failures = lost = 0
        adopt = False
        while True:
            since, ended = progress.wakeups, progress.ended_batches
            part = progress.parts[number]
            if progress.job.cancel_requested:
                return self.settle(part, "cancelled", "Cancelled before it was sent.", state="dropped")
            try:
                if part.state == "rendered":
                    part = self._upload(part)
                batch = self._adopt(part) if adopt else self._create(part)
            except (Unauthorized, Forbidden) as error:
                progress.wait_for_token(error, since)
            except NotFound as error:
                # The object is not in storage (any more): upload it again, under the same request_id.
                lost += 1
                if lost > TRIES:
                    return self._refuse(part, error)
                progress.set_part(number, state="rendered", file_id=None)
            except Conflict as error:
                if adopt:
                    return self._refuse(part, error)
                adopt = True
            except (TooManyRequests, ConnectionFailed, ServerError, TransferError) as error:
                if isinstance(error, ApiError) and error.no_room:
                    self._hold(part, error, ended)
                else:
                    failures += 1
                    progress.back_off(error, failures, since)
            except ApiError as error:
                if not error.no_room:
                    return self._refuse(part, error)
                self._hold(part, error, ended)
            else:
                return self._accepted(part, batch)

    def send_when_room(self, number: int, problem: str) -> PartRecord:
        """Send a part again whose batch the provider had no room for."""
        progress = self._progress
        part = progress.set_part(
            number, state="held", request_id=str(uuid.uuid4()), batch_id=None, status=None, problem=problem
        )
        if any(p.state == "created" for p in progress.parts.values()):
            self._hold(part, DobatchError(problem), progress.ended_batches)
        else:
            progress.wait(1.0)
        return self.send(number)

    def _upload(self, part: PartRecord) -> PartRecord:
        progress = self._progress

        def moved(done: int, total: int) -> None:
            progress.upload_shares[part.number] = done / total if total else 1.0
            progress.tell()
            progress.check()

        name = f"{part.job}-{part.number:05}.jsonl"
        file_id = self._client.send_file(progress.folder.part(part.number), file_name=name, on_progress=moved)
        progress.upload_shares.pop(part.number, None)
        progress.set_trouble(None)
        return progress.set_part(part.number, state="uploaded", file_id=file_id)

    def _create(self, part: PartRecord) -> Batch:
        assert part.file_id is not None
        return self._client.create_batch(
            part.file_id,
            provider="anthropic" if self._recipe.provider == "anthropic" else "openai",
            endpoint=self._recipe.endpoint,
            request_id=part.request_id,
            metadata=self._recipe.metadata,
        )

    def _adopt(self, part: PartRecord) -> Batch:
        """Find the batch that has our request_id already: its answer was lost, and the file was sent anew."""
        for batch in self._client.iter_batches():
            if batch.request_id == part.request_id:
                return batch
        return self._create(part)

    def _accepted(self, part: PartRecord, batch: Batch) -> PartRecord:
        self._progress.set_trouble(None)
        part = self._progress.set_part(
            part.number,
            state="created",
            batch_id=batch.batch_id,
            status=batch.status,
            created_at=batch.created_at or time.time(),
            deadline=batch.expires_at,
            problem=None,
        )
        self.pack(part)
        return part

    def pack(self, part: PartRecord) -> None:
        """Compress what has been sent; a retry reads it again."""
        path = self._progress.folder.part(part.number)
        if path.suffix != ".zst":
            compress_part(path).chmod(0o600)

    def _refuse(self, part: PartRecord, error: ApiError) -> PartRecord:
        code = f"http_{error.status}"
        return self.settle(part, code, str(error), state="read", status="refused", problem=str(error))

    def settle(self, part: PartRecord, code: str, message: str, **changes: object) -> PartRecord:
        """End a part that brings no results: each of its requests gets the same failure."""
        folder, store = self._progress.folder, self._progress.store
        table = failed_results(ids_of_part(folder.part(part.number)), code, message, part.batch_id)
        tally = write_results([table], folder.result(part.number))
        store.set_failures(part.job, part.number, list(tally.failures.values()))
        self.pack(part)
        return self._progress.set_part(part.number, failed=part.requests, completed=0, **changes)

    def _hold(self, part: PartRecord, error: DobatchError, ended: int) -> None:
        """
        Wait for room: the provider limits what is enqueued, and our own batches take of it.

        Room may have appeared already where more of our batches have ended than the `ended` that the caller
        knew of. What others enqueue is not ours to see, so after a while it is worth a try in any case.
        """
        progress = self._progress
        progress.set_part(part.number, state="held" if part.file_id else "rendered", problem=str(error))
        progress.wait_until(
            lambda: bool(progress.job.cancel_requested) or progress.ended_batches > ended, HOLD
        )
