"""What this process has open: one store a home, one runner a job."""

from __future__ import annotations

import atexit
import sys
import threading
from pathlib import Path

from dobatch_pandas.config import on_change, settings
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.service.client import Client

from .runner import Runner
from .store import Store

__all__ = ["close_home", "drop_runner", "known_runner", "runner_for", "store_here"]

_stores: dict[Path, Store] = {}
_runners: dict[tuple[Path, str], Runner] = {}
_lock = threading.RLock()


def store_here() -> Store:
    """Return the store of the home that is set now."""
    home = settings().home
    with _lock:
        if home not in _stores:
            _stores[home] = Store(home)
            _stores[home].remove_orphans()
        return _stores[home]


def known_runner(store: Store, job_id: str) -> Runner | None:
    """Return the runner that moves or moved a job in this process."""
    return _runners.get((store.home, job_id))


def runner_for(store: Store, job_id: str, recipe: Recipe, *, send_only: bool = False) -> Runner | None:
    """
    Return the runner that moves a job on, started if need be; None where the job is over.

    Raises
    ------
    ConfigurationError
        The job belongs to another service than the one that is set.
    """
    with _lock:
        runner = known_runner(store, job_id)
        # One that only sends does not see the job through; the next waits until that one is done.
        if runner is not None and runner.moving and (send_only or not runner.send_only):
            return runner
        record = store.job(job_id)
        if record.ended is not None:
            return None
        here = settings().base_url
        if record.base_url != here:
            raise ConfigurationError(
                f"Job {job_id} belongs to {record.base_url}, and {here} is set, whose token must not go there. "
                f"Set dobatch.configure(base_url={record.base_url!r}, token=...) to go on."
            )
        client = Client(token=_TokenFor(record.base_url), base_url=record.base_url)
        runner = _runners[store.home, job_id] = Runner(store, job_id, recipe, client, send_only=send_only)
        runner.start()
        return runner


def drop_runner(store: Store, job_id: str) -> None:
    """Stop moving a job, and forget that this process did."""
    with _lock:
        runner = _runners.pop((store.home, job_id), None)
    if runner is not None:
        runner.stop()


def close_home(home: Path) -> None:
    """Stop every runner of a home and let go of its store, as the end of the process would."""
    with _lock:
        jobs = [job_id for where, job_id in _runners if where == home]
        store = _stores.pop(home, None)
    if store is None:
        return
    for job_id in jobs:
        drop_runner(store, job_id)


class _TokenFor:
    """
    The token that is set now, as long as the service that is set is the job's own.

    A token that was configured for another service since must not go to this one.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._token: str | None = None

    def __call__(self) -> str | None:
        here = settings()
        if here.base_url == self._base_url:
            self._token = here.token
        return self._token


def _wake_everything() -> None:
    for runner in list(_runners.values()):
        if runner.alive:
            runner.wake()


def _finish_sending() -> None:
    """Keep a script alive until what it submitted has reached the service; Ctrl+C leaves the rest for later."""
    sending = [runner for runner in _runners.values() if runner.sending]
    if not sending:
        return
    ids = ", ".join(runner.progress.job.id for runner in sending)
    print(f"dobatch: still sending {ids}; Ctrl+C leaves the rest for dobatch.attach(...)", file=sys.stderr)
    try:
        for runner in sending:
            with runner.progress.changed:
                while runner.sending and not runner.progress.paused:
                    runner.progress.changed.wait(1.0)
    except KeyboardInterrupt:
        return


on_change(_wake_everything)
atexit.register(_finish_sending)
