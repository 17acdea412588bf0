"""From what is asked to a running job: recorded on disk before anything leaves, and found again when asked twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa

from dobatch_pandas.arrow.keyset import KeySet
from dobatch_pandas.config import settings
from dobatch_pandas.errors import ApiError, InputError, NotFound, Problem, Unauthorized
from dobatch_pandas.estimate import Estimate, checked_max_cost, stay_within
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze_batches
from dobatch_pandas.questions.options import Sending, door, sorted_out
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.source import Source
from dobatch_pandas.service.client import Client

from .account import account_here
from .append import appended, differences, earlier_output, kept, write_new
from .budget import most_of
from .claim import OutputChanged, Place, give_up
from .deadline import known_pace, margin_until, moment_of
from .folder import JobFolder, JobRecord, disk_in_words
from .home import Home
from .input import as_json, check_source, frozen_in, record_of_source, write_input
from .job import Job
from .machine import State
from .output import output_problems, output_schema
from .process import home_here, live_of, wake
from .render import Known
from .rows import RowRecord

__all__ = ["answered_here", "salt_here", "submit_dataset", "submit_frame"]


def submit_frame(frame: pd.DataFrame, recipe: Recipe, sending: Sending) -> Job:
    """
    Freeze a frame's input to disk, record the job, and have it moved on.

    Parameters
    ----------
    frame : pandas.DataFrame
        Checked already.
    recipe : Recipe
    sending : Sending
    """
    schedule = scheduled(sending.deadline, sending.mode, len(frame) * recipe.samples)
    client, home = Client(retries=1), home_here()  # says what is wrong with the token or the address
    sending = replace(sending, max_cost=checked_max_cost(sending.max_cost))
    known: list[RowRecord] = []
    frozen: list[JobFolder] = []

    def freeze(folder: JobFolder) -> str:
        fingerprint, mine = write_input(frame, recipe, folder.input, salt=salt_here(home))
        mine.write(folder.rows)
        known.append(mine)
        frozen.append(folder)
        return fingerprint

    job = _submitted(
        client,
        home,
        recipe,
        len(frame),
        freeze,
        # From disk: a prompt function is called once.
        lambda: _most(home, recipe, frozen_in(frozen[0]), sending.fresh),
        sending,
        schedule,
        anew=sending.fresh,
    )
    if job.id != frozen[0].id:
        job.know(known[0])
    return job


@door("fresh", "display", "max_cost", "deadline", "mode")
def submit_dataset(
    source: Any,
    prompt: Any,
    *,
    model: str,
    output: str | os.PathLike[str],
    **options: Any,
) -> Job:
    """
    Ask for every row of files that need not fit into memory, and write the answers beside the rows.

    Parameters
    ----------
    source : path, list of paths or pyarrow.dataset.Dataset
        Parquet or CSV: a file, a folder, a glob, or a URI that pyarrow opens. Rows are read in order. Names of
        folders such as ``year=2026`` are columns; one that only some of the files have is null in the others.
    output : path
        Folder, or URI, for ``part-00000.parquet`` and on: the source's columns and the answers. Complete
        when the job is over. It must be new or empty, unless the job is an old one or `mode` is ``"append"``.
    mode : {"batch", "now", "auto", "append"}
        ``"append"`` sends a batch of those rows alone that `output` does not have, and adds them in files of their own:
        each appears whole, and what lies there is not touched. A row is there when all columns of the source are equal.
        For ``"now"`` and ``"auto"`` see `submit`.
    {options}

    Returns
    -------
    Job
        ``job.wait()`` returns when the output is complete.

    Raises
    ------
    InputError
        With every problem found in the whole source; nothing has been sent.
    """
    asked, sending = sorted_out(options, "submit_dataset")
    sending = replace(sending, max_cost=checked_max_cost(sending.max_cost))
    schedule = scheduled(sending.deadline, "batch" if sending.mode == "append" else sending.mode, None)
    recipe = build_recipe(prompt, model=model, **asked)
    if recipe.kind in ("callable", "series"):
        raise InputError(
            f"The prompt is a {'function' if recipe.kind == 'callable' else 'Series'}. Rows of files are asked by what can be "
            "kept on disk: a template, a list of messages or dobatch.col. With a function, read the files and submit the frame."
        )
    files = Source.find(source)
    if not isinstance(output, (str, os.PathLike)):
        raise InputError(f"output is {output!r:.80}; it takes the path of a folder, or of a file.")
    target = os.fspath(output)
    target = target if "://" in target else os.path.abspath(target)
    while True:
        with suppress(OutputChanged):
            return _submit_files(files, recipe, target, sending, schedule)


def _submit_files(files: Source, recipe: Recipe, target: str, sending: Sending, schedule: Schedule) -> Job:
    client, home = Client(retries=1), home_here()  # says what is wrong with the token or the address
    append = sending.mode == "append"
    place = Place.found(target, home.path)
    unfit: list[Problem | str] = [*output_problems(target, files.folders, home.rows(), append=append)]
    unfit += place.problems() if not unfit else []
    earlier = None
    try:
        earlier = earlier_output(target) if append and not unfit else None
        if earlier is not None:
            unfit += differences(target, earlier.schema, output_schema(files, recipe))
    except InputError as error:
        unfit += error.problems
    try:
        fingerprint, rows = check_source(files, recipe, f"{salt_here(home)} {target}", home.path)
    except InputError as error:
        raise InputError([*error.problems, *unfit]) from None
    record = None if sending.fresh else home.find(fingerprint)
    if unfit and record is None:
        raise InputError(unfit)
    added, anew = None, sending.fresh
    if append and not unfit and (record is None or home.folder(record.id).state().ended is not None):
        added = None if earlier is None else appended(files, earlier, home.path)
        # A job that is over does not fill in what has been taken away since.
        anew = anew or (record is not None and (added is None or bool(added.new.any())))
    if record is not None and not anew:
        added = None

    def freeze(folder: JobFolder) -> str:
        if added is not None:
            write_new(folder, added.new)
        return fingerprint

    def frozen() -> Iterable[pa.RecordBatch]:
        batches = files.batches(recipe.columns)
        return freeze_batches(recipe, batches if added is None else kept(batches, added.new))

    return _submitted(
        client,
        home,
        recipe,
        rows if added is None else int(added.new.sum()),
        freeze,
        lambda: _most(home, recipe, frozen(), sending.fresh),
        sending,
        schedule,
        anew=anew,
        source=record_of_source(files, target, added),
        place=place,
    )


def salt_here(home: Home) -> str:
    """Return what makes the same question another one: the service, and the account that asks."""
    return f"{settings().base_url} {account_here(home.path)}"


def _submitted(
    client: Client,
    home: Home,
    recipe: Recipe,
    rows: int,
    freeze: Callable[[JobFolder], str],
    most: Callable[[], Estimate | None],
    sending: Sending,
    schedule: Schedule,
    *,
    anew: bool,
    source: str | None = None,
    place: Place | None = None,
    cluster: int | None = None,
    known: Callable[[JobRecord], None] | None = None,
) -> Job:
    job_id, max_cost = home.new_id(), sending.max_cost
    says = sending.display is not False and settings().display is not False

    def find() -> JobRecord | None:
        return None if anew else home.find(fingerprint)

    def discard() -> None:
        home.discard(job_id)
        if place is not None and not home.folder(job_id).exists:
            with suppress(OSError):  # whoever finds it there is told what to do
                give_up(place.target, job_id)

    try:
        with disk_in_words(home.path):
            fingerprint = freeze(home.folder(job_id).create())
        record = find()
        if record is None:
            if max_cost is not None:
                stay_within(max_cost, recipe.model, most(), now=schedule.asks_now)
            _knock(client)
            if place is not None:
                record = place.take(job_id, find)
        if record is None:
            mine = JobRecord(
                id=job_id,
                created=time.time(),
                fingerprint=fingerprint,
                base_url=settings().base_url,
                account=account_here(home.path),
                provider=recipe.provider,
                endpoint=recipe.endpoint,
                model=recipe.model,
                into=recipe.into,
                rows=rows,
                recipe=as_json(recipe.to_json()),
                source=source,
                reuse=not sending.fresh and recipe.custom_id is None,
                max_cost=max_cost,
                cluster=cluster,
            )
            state = State(
                job_id,
                output=source is not None,
                max_cost=max_cost,
                asks_now=schedule.asks_now,
                deadline=schedule.deadline,
                margin=schedule.margin,
                pace=known_pace(home.path, mine.base_url, mine.model),
            )
            record = home.add_job(mine, state, fresh=anew)
    except BaseException:
        discard()
        raise
    if record.id != job_id:
        discard()
        if known is not None:
            known(record)
    from dobatch_pandas.display import say

    job = Job(home, record.id, recipe)
    if record.id != job_id and says:
        say(
            f"This is job {job.id}, submitted before ({job.status}): nothing is sent again. Pass fresh=True to ask again."
        )
    if record.id != job_id and max_cost is not None and job._state.max_cost != max_cost:
        job._limit(max_cost)  # the same question with another limit: whoever asks now decides
    job.resume()
    if record.id != job_id and schedule.deadline is not None and not job.snapshot().over:
        job.finish_by(schedule.deadline)
    if schedule.said and says:
        say(schedule.said)
    return job


def _most(home: Home, recipe: Recipe, pieces: Iterable[pa.RecordBatch], fresh: bool) -> Estimate | None:
    """Return what asking costs at most; None where the price is unknown."""
    answered = None if fresh else answered_here(home, recipe)
    return most_of(recipe, pieces, home.path, answered=answered)


def submit_cluster(frame: Any, recipe: Recipe, sending: Sending) -> Job:
    """
    Have the rows of a Dask frame rendered by its workers, record the job, and have it moved on.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        Checked already, as far as its columns go.
    recipe : Recipe
    sending : Sending
        But for a deadline and a mode.
    """
    from .cluster import ClusterJob, remember
    from .dask_tasks import look_at_workers
    from .on_worker import Asker
    from .partitions import prepare

    client, home = Client(retries=1), home_here()  # says what is wrong with the token or the address
    sending = replace(sending, max_cost=checked_max_cost(sending.max_cost))
    asker = Asker.here(recipe)
    look_at_workers(asker)
    prepared = prepare(frame, asker)

    def freeze(folder: JobFolder) -> str:
        ClusterJob(folder, recipe).keep_frame(frame, recipe)
        remember(folder, frame, recipe, prepared)
        return prepared.fingerprint(salt_here(home))

    def known(record: JobRecord) -> None:
        # An earlier job may still have rows to send.
        remember(home.folder(record.id), frame, recipe, None)

    job = _submitted(
        client,
        home,
        recipe,
        prepared.rows,
        freeze,
        lambda: prepared.estimate(exact=True),
        sending,
        Schedule(),
        anew=sending.fresh,
        cluster=frame.npartitions,
        known=known,
    )
    live = live_of(home, job.id)
    if live is not None:
        wake(live)  # it may have stood still for want of its rows
    return job


@dataclass(frozen=True)
class Schedule:
    """When a job is to be done, in Unix seconds, with so many in hand; or that it is asked at once."""

    asks_now: bool = False
    deadline: float | None = None
    margin: float = 0.0
    said: str = ""


FEW = 20  # rows that `mode="auto"` asks in real time


def scheduled(deadline: Any, mode: str, requests: int | None) -> Schedule:
    """
    Return what a deadline and a mode mean.

    Parameters
    ----------
    deadline, mode : optional
        As given to ``submit``.
    requests : int or None
        How many there are; None where nobody has counted.

    Raises
    ------
    InputError
        The deadline is no time or is over, the mode is none, or the two do not go together.
    """
    problems: list[Problem | str] = []
    if not isinstance(mode, str) or mode not in ("batch", "now", "auto"):
        problems.append(f'mode is {mode!r:.80}; it takes "batch", "now" or "auto".')
    elif mode == "now" and deadline is not None:
        problems.append('mode="now" asks at once: leave out deadline, which says how long a batch may take.')
    moment = None
    if deadline is not None:
        try:
            moment = moment_of(deadline)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    now = mode == "now"
    said = ""
    if mode == "auto" and deadline is None:
        now = requests is not None and requests <= FEW
        said = (
            f'Asked in real time, since there are at most {FEW} requests: mode="batch" costs less and may take a day.'
            if now
            else 'Sent as a batch, which costs less and may take a day: deadline="18:00" says when it has to be done, '
            'mode="now" asks in real time at once.'
        )
    return Schedule(now, moment, 0.0 if moment is None else margin_until(moment), said)


def answered_here(home: Home, recipe: Recipe) -> KeySet | None:
    """Return the requests that earlier jobs have answered; None where ids are the user's own."""
    if recipe.custom_id is not None:
        return None
    return Known(home, settings().base_url, account_here(home.path), recipe.provider, recipe.endpoint)


def _knock(client: Client) -> None:
    """Find out now, in the user's own cell, that the service cannot be reached, or does not know the token."""
    with client:
        try:
            client.list_batches(limit=1)
        except ApiError as error:
            # What does not list may create: some tokens are for that alone, and the job has patience for what passes.
            if error.status < 400 or isinstance(error, (Unauthorized, NotFound)):
                raise
