"""
Moves one job on: rows -> parts -> batches -> results, in threads of its own.

Each step is recorded in the ledger before the next one begins, so that a process that dies at any
instruction is followed by one that goes on from the last record. The steps of a part::

    rendered --send_file--> uploaded --create_batch--> created --poller--> ended --download, read--> read
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import collect
from .client import Client
from .dataset import write_output
from .errors import (
    ApiError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    DobatchError,
    Forbidden,
    NotFound,
    ServerError,
    TooManyRequests,
    TransferError,
    Unauthorized,
    is_no_room,
)
from .input_file import read_input
from .keyset import KeySet, keys_of
from .models import TERMINAL, Batch
from .poller import poller_for
from .recipe import Recipe
from .requests_file import Part, RequestWriter, compress_part, ids_of_part
from .store import JobRecord, PartRecord, Store, whole

__all__ = ["Runner"]

UPLOADS_AT_ONCE = 3
PARTS_WAITING = 2  # rendered ahead of the uploads: bounds what lies on disk uncompressed
HOLD = 300.0  # seconds after which a held batch is tried again, whatever is known
RESULTS_PATIENCE = 600.0  # seconds that a completed batch may take to show its results
REUSED = 2  # the fate of a row in the manifest


class Stopped(Exception):
    """This process is to leave the job alone; the job itself goes on."""


class Runner:
    """
    The one that moves a job on in this process.

    Parameters
    ----------
    store : Store
    job_id : str
    recipe : Recipe
    client : Client
    send_only : bool
        Stop once the service has everything; another process waits for the answers.
    """

    def __init__(
        self, store: Store, job_id: str, recipe: Recipe, client: Client, *, send_only: bool = False
    ) -> None:
        self.send_only = send_only
        self.store, self.recipe, self.client = store, recipe, client
        self.folder = store.folder(job_id)
        self.job: JobRecord = store.job(job_id)
        self.parts: dict[int, PartRecord] = {p.number: p for p in store.parts(job_id)}
        self.changed = threading.Condition(threading.RLock())
        self.listeners: list[Callable[[], None]] = []
        self.elsewhere = False  # another process moves the job
        self.paused: str | None = None  # needs a person
        self.trouble: str | None = None  # passes by itself, we hope
        self.crash: BaseException | None = None
        self.rows_rendered = 0
        self.upload_shares: dict[int, float] = {}
        self._wakeups = 0
        self._ended = 0  # batches of this job that have ended, and so left room for others
        self._stop = False
        self._free = {"part": UPLOADS_AT_ONCE + PARTS_WAITING, "upload": UPLOADS_AT_ONCE, "reader": 2}
        self._poller = poller_for(client)
        self.thread = threading.Thread(target=self._run, name=f"dobatch-{job_id}", daemon=True)

    # -- what others call

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Leave the job alone; it can be attached to again."""
        with self.changed:
            self._stop = True
        for part in self.parts.values():
            if part.batch_id:
                self._poller.forget(part.batch_id)
        self.wake()

    def wake(self) -> None:
        """Try again now whatever waits for a better moment."""
        with self.changed:
            self._wakeups += 1
        self._poller.wake()
        self._tell()

    def cancel(self) -> None:
        """Cancel every batch, and send none that has not been sent."""
        self._set_job(cancel_requested=1)
        self.wake()

    @property
    def sending(self) -> bool:
        """Whether requests are still to be handed to the service."""
        with self.changed:
            unsent = any(p.state in ("rendered", "uploaded", "held") for p in self.parts.values())
            return self.thread.is_alive() and not self.elsewhere and (unsent or not self.job.rendered)

    # -- state

    def _tell(self) -> None:
        with self.changed:
            self.changed.notify_all()
            listeners = list(self.listeners)
        for listener in listeners:
            listener()

    def _set_job(self, **changes: Any) -> None:
        with self.changed:
            self.job = replace(self.job, **changes)
        self.store.update_job(self.job.id, **changes)
        self._tell()

    def _set_part(self, number: int, **changes: Any) -> PartRecord:
        with self.changed:
            part = self.parts[number] = replace(self.parts[number], **changes)
        self.store.update_part(part, **changes)
        self._tell()
        return part

    def _load(self) -> None:
        with self.changed:
            self.job = self.store.job(self.job.id)
            self.parts = {p.number: p for p in self.store.parts(self.job.id)}
        self._tell()

    def _wait(self, seconds: float) -> None:
        """Let some time pass, or less if something happens that may change the matter."""
        with self.changed:
            seen = self._wakeups
            self.changed.wait_for(lambda: self._stop or self._wakeups != seen, seconds)
            if self._stop:
                raise Stopped

    def _take(self, place: str) -> None:
        """Wait for one of the few places; `_give` it back."""
        with self.changed:
            self.changed.wait_for(lambda: self._stop or self._free[place] > 0)
            if self._stop:
                raise Stopped
            self._free[place] -= 1

    def _give(self, place: str) -> None:
        with self.changed:
            self._free[place] += 1
            self.changed.notify_all()

    def _set_trouble(self, text: str | None) -> None:
        if self.trouble != text:
            self.trouble = text
            self._tell()

    # -- the drive

    def _run(self) -> None:
        lock = None
        try:
            lock = self._take_lock()
            if lock is not None:
                self._drive()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001  a thread has nobody above it: wait() raises this
            self.crash = error
        finally:
            if lock is not None:
                lock.release()
            self._tell()

    def _take_lock(self) -> Any:
        """Wait until no other process moves the job; return None when that one has finished it."""
        while True:
            lock = self.store.try_lock(self.job.id)
            self._load()
            if lock is not None:
                self.elsewhere = False
                return lock
            self.elsewhere = True
            if self.job.ended is not None:
                return None
            self._wait(1.0)

    def _drive(self) -> None:
        if self.job.ended is not None:
            return
        for part in list(self.parts.values()):
            self._resume(part)
        if not self.job.rendered:
            self._render()
        self._await_parts()
        if self.send_only:
            self.stop()
            return
        if self.job.source is not None:
            write_output(self.job, self.recipe, self.folder)
        self._finish()

    def _resume(self, part: PartRecord) -> None:
        if part.state in ("rendered", "uploaded", "held"):
            self._take("part")
            self._spawn(self._send, part.number)
        elif part.state == "created":
            self._pack(part)
            self._watch(part)
        elif part.state == "ended":
            self._spawn(self._collect, part.number)

    def _spawn(self, step: Callable[[int], None], number: int) -> None:
        def run() -> None:
            try:
                step(number)
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001  a thread has nobody above it: wait() raises this
                self.crash = error
                self.stop()

        threading.Thread(target=run, name=f"dobatch-{self.job.id}-{number}", daemon=True).start()

    def _await_parts(self) -> None:
        enough = {"read", "dropped"} | ({"created", "ended"} if self.send_only else set())

        def settled() -> bool:
            return self._stop or all(p.state in enough for p in self.parts.values())

        while True:
            with self.changed:
                if self.changed.wait_for(settled, 1.0):
                    break
            # Another kernel can ask for the end through the ledger.
            if not self.job.cancel_requested and self.store.job(self.job.id).cancel_requested:
                with self.changed:
                    self.job = replace(self.job, cancel_requested=1)
                self.wake()
        if self._stop:
            raise Stopped

    # -- rendering

    def _render(self) -> None:
        """Turn the frozen input into parts, and hand each one on as soon as it is on disk."""
        known = [ids_of_part(self.folder.part(number)) for number in self.parts]
        sent, answered = KeySet(), KeySet()
        for ids in known:
            sent.add_new(keys_of(ids))
        for file in self._reusable_results():
            answered.add_new(keys_of(_succeeded_ids(file)))
        writer = RequestWriter(
            self.recipe,
            self.folder.parts,
            sent=sent,
            answered=answered,
            first_part=len(self.parts),
            on_part=self._accept_part,
        )
        totals = {"requests": sum(len(ids) for ids in known), "reused": 0, "skipped": 0}
        reused: list[pa.Array] = []
        with whole(self.folder.manifest) as partial:
            manifest: pq.ParquetWriter | None = None
            position = 0
            for frozen, labels in read_input(self.store, self.job, self.recipe):
                rows = writer.add(frozen)
                fate = rows["fate"]
                ids = rows["custom_id"]
                reused.append(ids.filter(pc.equal(fate, REUSED)))
                totals["requests"] += int(pc.sum(pc.equal(fate, 0)).as_py() or 0)
                totals["skipped"] += int(pc.sum(pc.greater(fate, REUSED)).as_py() or 0)
                block = _manifest_block(rows, labels, position, self.recipe.samples)
                if manifest is None:
                    manifest = pq.ParquetWriter(partial, block.schema, compression="zstd")
                manifest.write_table(block)
                position += frozen.num_rows
                self.rows_rendered = position
                self._tell()
                if self._stop:
                    raise Stopped
            writer.close()
            if manifest is not None:
                manifest.close()
        reused_ids = pa.chunked_array(reused, pa.string()).unique() if reused else pa.array([], pa.string())
        totals["reused"] = len(reused_ids)
        totals["requests"] += len(reused_ids)
        self._copy_reused(reused_ids)
        self._set_job(rendered=1, **totals)
        self.folder.input.unlink(missing_ok=True)

    def _accept_part(self, part: Part) -> None:
        self.folder.part(part.number).chmod(0o600)
        record = PartRecord(
            job=self.job.id,
            number=part.number,
            request_id=str(uuid.uuid4()),
            requests=part.requests,
            bytes=part.bytes,
        )
        self.store.add_parts([record])
        with self.changed:
            self.parts[part.number] = record
        self._tell()
        self._take("part")
        self._spawn(self._send, part.number)

    def _reusable_results(self) -> list[Any]:
        folders = [self.store.folder(job_id) for job_id in json.loads(self.job.sources)]
        return [file for folder in folders for file in folder.result_files()]

    def _copy_reused(self, ids: pa.Array) -> None:
        """Take the answers over into this job's folder: forgetting the other job must not lose them."""
        if not len(ids):
            return
        found = []
        for file in self._reusable_results():
            for batch in pq.ParquetFile(file).iter_batches():
                wanted = pc.and_(pc.is_in(batch["custom_id"], value_set=ids), pc.equal(batch["status"], "succeeded"))
                found.append(batch.filter(wanted))
        table = pa.Table.from_batches(found)
        # The first answer of those that several jobs have.
        first = table.append_column("row", pa.array(range(len(table)))).group_by("custom_id").aggregate([("row", "min")])
        collect.write_results(table.take(first["row_min"]), self.folder.reused)

    # -- sending

    def _send(self, number: int) -> None:
        try:
            self._take("upload")
            try:
                self._send_until_accepted(number)
            finally:
                self._give("upload")
        finally:
            self._give("part")

    def _send_until_accepted(self, number: int) -> None:
        failures = 0
        while True:
            part, ended = self.parts[number], self._ended
            if self.job.cancel_requested:
                self._drop(part)
                return
            try:
                if part.state == "rendered":
                    part = self._upload(part)
                batch = self._create(part)
            except (Unauthorized, Forbidden) as error:
                self._pause(error)
            except NotFound as error:
                # The object is not in storage (any more): upload it again, under the same request_id.
                failures += 1
                if failures > 3:
                    self._refuse(part, error)
                    return
                self._set_part(number, state="rendered", file_id=None)
            except Conflict:
                batch = self._adopt(part)
                self._accepted(part, batch)
                return
            except BadRequest as error:
                if error.no_room:
                    self._hold(part, error, ended)
                else:
                    self._refuse(part, error)
                    return
            except TooManyRequests as error:
                failures += 1
                if error.no_room:
                    self._hold(part, error, ended)
                else:
                    self._back_off(error, failures)
            except (ConnectionFailed, ServerError, TransferError) as error:
                failures += 1
                self._back_off(error, failures)
            else:
                self._accepted(part, batch)
                return

    def _upload(self, part: PartRecord) -> PartRecord:
        def progress(done: int, total: int) -> None:
            self.upload_shares[part.number] = done / total if total else 1.0
            self._tell()
            if self._stop:
                raise Stopped

        path = self.folder.part(part.number)
        name = f"{self.job.id}-{part.number:05}.jsonl"
        file_id = self.client.send_file(path, file_name=name, on_progress=progress)
        self.upload_shares.pop(part.number, None)
        self._set_trouble(None)
        return self._set_part(part.number, state="uploaded", file_id=file_id)

    def _create(self, part: PartRecord) -> Batch:
        assert part.file_id is not None
        return self.client.create_batch(
            part.file_id,
            provider=self.recipe.provider,
            endpoint=self.recipe.endpoint,
            request_id=part.request_id,
            metadata=self.recipe.metadata,
        )

    def _adopt(self, part: PartRecord) -> Batch:
        """Find the batch that already carries our request_id: an answer was lost, and the file sent anew."""
        for batch in self.client.iter_batches():
            if batch.request_id == part.request_id:
                return batch
        raise DobatchError(
            f"The service says that request_id {part.request_id} is taken, and lists no batch that has it."
        )

    def _accepted(self, part: PartRecord, batch: Batch) -> None:
        self.paused = None
        self._set_trouble(None)
        part = self._set_part(
            part.number,
            state="created",
            batch_id=batch.batch_id,
            status=batch.status,
            created_at=batch.created_at or time.time(),
            deadline=batch.expires_at,
            problem=None,
        )
        self._pack(part)
        self._watch(part)

    def _pack(self, part: PartRecord) -> None:
        """Compress what has been sent; a retry reads it again."""
        path = self.folder.part(part.number)
        if path.suffix != ".zst":
            compress_part(path).chmod(0o600)

    def _drop(self, part: PartRecord) -> None:
        self._settle(part, "cancelled", "Cancelled before it was sent.", state="dropped")

    def _refuse(self, part: PartRecord, error: ApiError) -> None:
        self._settle(part, f"http_{error.status}", str(error), state="read", status="refused", problem=str(error))

    def _settle(self, part: PartRecord, code: str, message: str, **changes: Any) -> None:
        """End a part without a batch: each of its requests gets the same failure."""
        path = self.folder.part(part.number)
        table = collect.failed_results(ids_of_part(path), code, message)
        collect.write_results(table, self.folder.result(part.number))
        self.store.set_failures(self.job.id, part.number, collect.failure_groups(table))
        self._pack(part)
        self._set_part(part.number, failed=part.requests, completed=0, **changes)

    # -- waiting for a better moment

    def _back_off(self, error: DobatchError, failures: int) -> None:
        pause = getattr(error, "retry_after", None) or random.uniform(0.5, 1.0) * min(2.0**failures, 300.0)
        self._set_trouble(f"{error} Trying again in {pause:.0f} s.")
        self._wait(pause)

    def _pause(self, error: ApiError) -> None:
        """Wait for a person: the token does not do. ``configure`` wakes us."""
        self.paused = f"{error} Give a valid token with dobatch.configure(token=...); the job goes on by itself."
        self._tell()
        self._wait(600.0)

    def _hold(self, part: PartRecord, error: DobatchError, ended: int) -> None:
        """
        Wait for room: the provider limits what is enqueued, and our own batches take of it.

        Room may have appeared already when more of our batches have `ended` than the caller knew of. What
        others enqueue is not ours to see, so after a while it is worth a try in any case.
        """
        self._set_part(part.number, state="held" if part.file_id else "rendered", problem=str(error))
        with self.changed:
            self.changed.wait_for(lambda: self._stop or self.job.cancel_requested or self._ended > ended, HOLD)
        if self._stop:
            raise Stopped

    # -- watching

    def _watch(self, part: PartRecord) -> None:
        assert part.batch_id is not None
        age = max(0.0, time.time() - part.created_at) if part.created_at else 0.0
        self._poller.watch(
            part.batch_id,
            lambda batch: self._see(part.number, batch),
            lambda error: self._see_trouble(part.number, error),
            age=age,
        )

    def _see(self, number: int, batch: Batch) -> None:
        self.paused = None
        self.trouble = None
        part = self.parts[number]
        if part.state != "created":
            return
        news = {
            "status": batch.status,
            "completed": batch.counts.completed,
            "failed": batch.counts.failed,
            "deadline": batch.expires_at or part.deadline,
        }
        if batch.status not in TERMINAL:
            if any(getattr(part, name) != value for name, value in news.items()):
                self._set_part(number, **news)
            if self.job.cancel_requested and batch.status not in ("cancelling", "finalizing"):
                self._spawn(self._cancel_batch, number)
            return
        with self.changed:
            self._ended += 1
        problem = "; ".join(
            f"line {e.line}: {e.message}" if e.line is not None else e.message for e in batch.errors[:5]
        )
        if batch.status == "failed" and any(is_no_room(e.message, e.code) for e in batch.errors):
            # No room at the provider: the same file again, as a new batch, when there is some.
            self._set_part(number, state="held", request_id=str(uuid.uuid4()), batch_id=None, problem=problem)
            self._spawn(self._send_when_room, number)
            return
        self._set_part(number, state="ended", problem=problem or None, **news)
        self._spawn(self._collect, number)

    def _send_when_room(self, number: int) -> None:
        part = self.parts[number]
        with self.changed:
            ended = self._ended
        if any(p.state == "created" for p in self.parts.values()):
            self._hold(part, DobatchError(part.problem or "No room for more enqueued tokens."), ended)
        else:
            self._wait(1.0)
        self._take("part")
        self._send(number)

    def _see_trouble(self, number: int, error: DobatchError) -> None:
        if isinstance(error, (Unauthorized, Forbidden)):
            self.paused = f"{error} Give a valid token with dobatch.configure(token=...); the job goes on by itself."
            self._tell()
        elif isinstance(error, NotFound):
            part = self.parts[number]
            # Three looks in a row: the poller has given the batch up.
            self._lost_looks = getattr(self, "_lost_looks", 0) + 1
            if self._lost_looks > 3:
                self._spawn(lambda n: self._settle(part, "batch_gone", str(error), state="read"), number)
        else:
            self._set_trouble(f"{error} Trying again.")

    def _cancel_batch(self, number: int) -> None:
        part = self.parts[number]
        if part.batch_id is None or part.state != "created":
            return
        try:
            batch = self.client.cancel_batch(part.batch_id)
        except Conflict:
            # Over already, or not yet with the provider: the next look tells which, and asks again.
            return
        except DobatchError as error:
            self._set_trouble(f"{error} The next look asks again.")
            return
        if batch.status in TERMINAL:
            self._see(number, batch)
        else:
            self._set_part(number, status=batch.status)

    # -- results

    def _collect(self, number: int) -> None:
        self._take("reader")
        try:
            self._download_and_read(number)
        finally:
            self._give("reader")

    def _download_and_read(self, number: int) -> None:
        part = self.parts[number]
        files = self._patiently(lambda: self._download(part))
        ids = ids_of_part(self.folder.part(number))
        code, message = _why_missing(part)
        table = collect.read_part(
            files, ids, self.recipe, batch_id=part.batch_id, missing_code=code, missing_message=message
        )
        collect.write_results(table, self.folder.result(number))
        self.store.set_failures(self.job.id, number, collect.failure_groups(table))
        self._set_part(number, state="read", **vars(collect.tally(table)))

    def _patiently(self, step: Callable[[], Any]) -> Any:
        failures = 0
        while True:
            try:
                found = step()
                self.paused = None
                self._set_trouble(None)
                return found
            except (Unauthorized, Forbidden) as error:
                self._pause(error)
            except (ConnectionFailed, ServerError, TooManyRequests, TransferError) as error:
                failures += 1
                self._back_off(error, failures)

    def _download(self, part: PartRecord) -> list[Any]:
        """Fetch what the batch left; nothing where the service has nothing (any more)."""
        assert part.batch_id is not None
        batch_id = part.batch_id
        asked, pause = time.monotonic(), 0.1
        while True:
            try:
                links = self.client.get_results(batch_id)
            except NotFound:
                return []
            if links.available and (links.output_url or links.error_url):
                break
            # Files may show up a while after the status does, unless there is nothing to be shown.
            nothing = part.status != "completed" and part.completed + part.failed == 0
            if nothing or time.monotonic() - asked > RESULTS_PATIENCE:
                return []
            self._wait(pause)
            pause = min(pause * 2, 30.0)
        files = []
        for url, target, which in (
            (links.output_url, self.folder.output(part.number), "output_url"),
            (links.error_url, self.folder.error(part.number), "error_url"),
        ):
            if url is None:
                continue
            self.client.download(url, target, refresh=lambda w=which: getattr(self.client.get_results(batch_id), w))
            target.chmod(0o600)
            files.append(target)
        return files

    def _finish(self) -> None:
        statuses = [p.status if p.state == "read" else "cancelled" for p in self.parts.values()]
        problems = [p for p in self.parts.values() if p.problem]
        state, problem = "completed", None
        if self.job.cancel_requested and "cancelled" in statuses:
            state = "cancelled"
        elif "expired" in statuses:
            state = "expired"
        elif "cancelled" in statuses:
            state = "cancelled"
        elif statuses and all(status in ("failed", "refused") for status in statuses):
            state = "failed"
        if problems:
            of = f"{len(problems)} of {len(self.parts)} batches" if len(self.parts) > 1 else "The batch"
            problem = f"{of} failed: {problems[0].problem}"
        self._set_job(state=state, problem=problem, ended=time.time())


def _why_missing(part: PartRecord) -> tuple[str, str]:
    if part.status == "expired":
        return "expired", "The batch's 24 hours ended before this request was run."
    if part.status == "cancelled":
        return "cancelled", "The batch was cancelled before this request was run."
    if part.status == "failed":
        return "batch_failed", f"The service refused the whole batch: {part.problem or 'no reason given'}"
    return "missing_result", "The service's files have no line for this request."


def _succeeded_ids(file: Any) -> pa.Array:
    table = pq.read_table(file, columns=["custom_id", "status"])
    return table["custom_id"].filter(pc.equal(table["status"], "succeeded")).combine_chunks()


def _manifest_block(rows: pa.RecordBatch, labels: pa.RecordBatch | None, position: int, samples: int) -> pa.Table:
    """Put positions and index labels beside the ids; a row of the frame has `samples` rows here."""
    of_row = pa.array(np.repeat(np.arange(rows.num_rows // samples), samples))
    columns = {"position": pc.add(of_row, position), "custom_id": rows["custom_id"], "fate": rows["fate"]}
    if labels is None:
        return pa.table(columns)
    if samples > 1:
        labels = labels.take(of_row)
    for name in labels.schema.names:
        columns[name] = labels[name]
    return pa.table(columns).replace_schema_metadata(labels.schema.metadata)
