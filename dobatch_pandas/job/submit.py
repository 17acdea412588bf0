"""From what is asked to a running job: recorded on disk before anything leaves, and found again when asked twice."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pandas as pd

from dobatch_pandas.config import settings
from dobatch_pandas.errors import InputError, ServerError, TooManyRequests
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.source import Source
from dobatch_pandas.service.client import Client

from .input import check_source, record_of_source, write_input
from .job import Job
from .open_jobs import store_here
from .output import output_problems
from .store import JobRecord, Store, as_json

__all__ = ["open_store", "submit_dataset", "submit_frame"]


def submit_frame(
    frame: pd.DataFrame, recipe: Recipe, *, fresh: bool = False, display: Any = None, send_only: bool = False
) -> Job:
    """
    Freeze a frame's input to disk, record the job, and have it moved on.

    Parameters
    ----------
    frame : pandas.DataFrame
        Checked already.
    recipe : Recipe
    fresh : bool
        Ask anew even what was asked before.
    display : bool, "widget" or "bar", optional
        False says nothing where the job is an old one.
    send_only : bool
        Leave the job once the service has all of it; another process waits for the answers.
    """
    store = open_store()
    job_id = store.new_id()
    try:
        target = store.folder(job_id).create().input
        fingerprint = write_input(frame, recipe, target, salt=settings().base_url)
        record = _record(store, _new_record(job_id, fingerprint, recipe, len(frame)), recipe, fresh)
    except BaseException:
        store.discard(job_id)
        raise
    if record.id != job_id:
        store.discard(job_id)
    return _started(store, record, recipe, old=record.id != job_id, display=display, send_only=send_only)


def submit_dataset(
    source: Any,
    prompt: Any,
    *,
    model: str,
    output: str | os.PathLike[str],
    into: str = "response",
    system: Any = None,
    endpoint: str | None = None,
    provider: str | None = None,
    schema: Any = None,
    custom_id: str | None = None,
    missing: str = "error",
    dedupe: bool = True,
    samples: int = 1,
    metadata: dict[str, str] | None = None,
    flatten: bool = False,
    fresh: bool = False,
    display: Any = None,
    **body: Any,
) -> Job:
    """
    Ask for every row of files that need not fit into memory, and write the answers beside the rows.

    Parameters
    ----------
    source : path, list of paths or pyarrow.dataset.Dataset
        Parquet or CSV: a file, a folder, a glob, or a URI that pyarrow opens. Rows are read in order. Names of
        folders such as ``year=2026`` are columns; one that only some of the files have is null in the others.
    prompt, model, into, system, endpoint, provider, schema, custom_id, missing, dedupe, samples, metadata, flatten
        As `DobatchAccessor.plan` takes them; a prompt is a template, messages or ``dobatch.col(...)``.
    output : path
        Folder, or URI, for ``part-00000.parquet`` and on: the source's columns and the answers. Complete
        when the job is over. It must be new or empty, unless the job is an old one.
    fresh : bool
        Ask anew even what was asked before.
    display : bool, "widget" or "bar", optional
        What to show.
    **body
        Any parameter of the request's body, a constant or ``dobatch.col("column")``.

    Returns
    -------
    Job
        ``job.wait()`` returns when the output is complete.

    Raises
    ------
    InputError
        With every problem found in the whole source; nothing has been sent.
    """
    recipe = build_recipe(
        prompt,
        model=model,
        into=into,
        system=system,
        endpoint=endpoint,
        provider=provider,
        schema=schema,
        custom_id=custom_id,
        missing=missing,
        dedupe=dedupe,
        samples=samples,
        metadata=metadata,
        flatten=flatten,
        params=body,
    )
    files = Source.find(source)
    target = os.fspath(output)
    target = target if "://" in target else os.path.abspath(target)
    store = open_store()
    unfit = output_problems(target, files.folders, store.jobs())
    try:
        fingerprint, rows = check_source(files, recipe, salt=f"{settings().base_url} {target}")
    except InputError as error:
        raise InputError([*error.problems, *unfit]) from None
    if unfit and (fresh or store.find(fingerprint) is None):
        raise InputError(unfit)
    job_id = store.new_id()
    store.folder(job_id).create()
    record = _new_record(job_id, fingerprint, recipe, rows)
    record = replace(record, source=record_of_source(files, target))
    try:
        record = _record(store, record, recipe, fresh)
    except BaseException:
        store.discard(job_id)
        raise
    if record.id != job_id:
        store.discard(job_id)
    return _started(store, record, recipe, old=record.id != job_id, display=display, send_only=False)


def open_store() -> Store:
    """Return the store of the home that is set now; says what is wrong with the token or the address."""
    Client().close()
    return store_here()


def _new_record(job_id: str, fingerprint: str, recipe: Recipe, rows: int) -> JobRecord:
    return JobRecord(
        id=job_id,
        created=time.time(),
        fingerprint=fingerprint,
        base_url=settings().base_url,
        recipe=as_json(recipe.to_json()),
        provider=recipe.provider,
        endpoint=recipe.endpoint,
        model=recipe.model,
        into=recipe.into,
        rows=rows,
    )


def _record(store: Store, record: JobRecord, recipe: Recipe, fresh: bool) -> JobRecord:
    """Return the job that asked the same before, or put this one into the ledger."""
    known = None if fresh else store.find(record.fingerprint)
    if known is not None:
        return known
    _knock()
    if not fresh and recipe.custom_id is None:
        record = replace(record, sources=as_json(_sources(store, recipe)))
    return store.add_job(record, fresh=fresh)


def _sources(store: Store, recipe: Recipe) -> list[str]:
    return store.finished_like(settings().base_url, recipe.provider, recipe.endpoint, recipe.model)


def _knock() -> None:
    """Find out now, in the user's own cell, that the service cannot be reached or refuses the token."""
    with Client(retries=1) as client:
        try:
            client.list_batches(limit=1)
        except (ServerError, TooManyRequests):
            return  # it is there; the job has the patience to wait for better times


def _started(
    store: Store, record: JobRecord, recipe: Recipe, *, old: bool, display: Any, send_only: bool
) -> Job:
    job = Job(store, record.id, recipe)
    if old and display is not False and settings().display is not False:
        print(
            f"This is job {job.id}, submitted before ({job.status}): nothing is sent again. fresh=True asks anew."
        )
    job.resume(send_only=send_only)
    return job
