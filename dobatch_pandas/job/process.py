"""What this process has open: one loop, one home a folder, one client a service; and what happens at its end."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from functools import partial
from pathlib import Path

from dobatch_pandas.config import on_change, settings
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.service.client import Client

from .account import is_ours
from .engine import Engine, Loop
from .folder import JobRecord, disk_in_words, release_in_child
from .home import Home
from .machine import Event, Woken, problem_of
from .work import LockOfJob, OpenJob, Workers

__all__ = ["close_home", "drop", "home_here", "keep_alive", "live_of", "post", "take_up", "tell", "wake"]

BUDGET = 60.0  # seconds that one call may take; waiting for better times is the machine's


class _Process:
    """Everything that a forked child must make anew."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.homes: dict[Path, Home] = {}
        self.clients: dict[str, Client] = {}
        self.lives: dict[tuple[Path, str], OpenJob] = {}
        self.workers = Workers(post)
        self.engine = Engine(self.workers)
        self.loop = Loop(self.engine, self.workers.now)
        self.keeper: threading.Thread | None = None
        self.left: set[str] = set()  # jobs of which it was told that they are not all sent


def home_here() -> Home:
    """Return the home that is set now."""
    path = settings().home
    with _here.lock:
        home = _here.homes.get(path)
        if home is None:
            home = _here.homes[path] = Home(path)
        return home


def live_of(home: Home, job_id: str) -> OpenJob | None:
    """Return a job that this process moves on or watches; None where it does not."""
    live = _here.lives.get((home.path, job_id))
    return None if live is None or live.gone else live


def take_up(home: Home, job_id: str, *, send_only: bool = False, over: bool = False) -> OpenJob | None:
    """
    Have a job moved on by this process, as soon as no other one does.

    Parameters
    ----------
    home : Home
    job_id : str
    send_only : bool
        Leave it once the service has all of it.
    over : bool
        Also where it is over: to look once more for results that were given up.

    Returns
    -------
    OpenJob or None
        None where there is nothing to do.

    Raises
    ------
    ConfigurationError
        The job belongs to another service than the one that is set, or to another account; or its folder cannot be
        read.
    """
    with _here.lock, disk_in_words(home.folder(job_id).root):
        live = live_of(home, job_id)
        if live is not None and live.broken is None and (send_only or not live.send_only):
            return live
        record = home.record(job_id)
        if live is None and not over and home.folder(job_id).state().ended is not None:
            return None
        _check_whose(home, record)
        if live is not None:
            _here.loop.ask(lambda: _here.engine.drop(live))
        for other in list(_here.lives.values()):
            if other.id == job_id and not other.gone and not other.folder.exists:
                # The home was moved: its lock went along.
                _here.loop.ask(partial(_here.engine.drop, other))
        client = _here.clients.get(record.base_url)
        if client is None:
            # Not the token that is set: it may be another service's by the next call.
            token = _TokenFor(record.base_url)
            client = Client(token=token, base_url=record.base_url, retries=0, budget=BUDGET)
            _here.clients[record.base_url] = client
        new = OpenJob(home, record, client)
        if live is not None:
            new.listeners = live.listeners
        # What is over and done with takes no memory.
        _here.lives = {key: other for key, other in _here.lives.items() if not other.gone}
        _here.lives[home.path, job_id] = new
        try:
            _here.loop.ask(lambda: _here.engine.take_up(new, send_only=send_only))
        except BaseException:
            new.gone = True  # nobody moves it: the next call tries again
            raise
        keep_alive()
        return None if new.gone else new


def post(live: OpenJob, event: Event) -> None:
    """Hand an event to the loop; returns at once."""
    _here.loop.call(lambda: _here.engine.post(live, event))


def tell(live: OpenJob, event: Event) -> None:
    """Hand an event to the loop; returns when the job knows, so that whoever looks next sees what follows from it."""
    _here.loop.ask(lambda: _here.engine.post(live, event))


def wake(live: OpenJob) -> None:
    """Have whatever waits tried at once, also what waits for a person; returns when the job knows."""
    tell(live, Woken())


def drop(home: Home, job_id: str) -> None:
    """Leave a job alone, as the end of the process would; returns when its files and its lock are free."""
    live = live_of(home, job_id)
    if live is None:
        return
    _here.loop.ask(lambda: _here.engine.drop(live))
    with live.changed:
        live.changed.wait_for(lambda: live.at_work == 0 and not live.locked, timeout=30)
    with _here.lock:
        _here.lives.pop((home.path, job_id), None)


def close_home(path: Path) -> None:
    """Stop moving every job of a home and let go of it, as the end of the process would."""
    with _here.lock:
        home = _here.homes.pop(path, None)
        mine = [job_id for where, job_id in _here.lives if where == path]
    if home is not None:
        for job_id in mine:
            drop(home, job_id)
        # A job that has just ended tells the index of it, which would be opened again by that.
        _here.loop.settle(30.0)
        _here.workers.settle(30.0)
        home.close()


def _check_whose(home: Home, record: JobRecord) -> None:
    here = settings().base_url
    if record.base_url != here:
        raise ConfigurationError(
            f"Job {record.id} belongs to {record.base_url}, and {here} is set, whose token must not go there. "
            f"Set dobatch.configure(base_url={record.base_url!r}, token=...) to go on."
        )
    if settings().token and not is_ours(home.path, record):
        raise ConfigurationError(
            f"Job {record.id} was submitted by another account than the one that is set. If it is the same account with "
            'a new token, say so with dobatch.configure(token=..., account="same"); else set the token of the account.'
        )


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
    for live in list(_here.lives.values()):
        if not live.gone:
            post(live, Woken())


# -- the end of the process


def keep_alive() -> None:
    """Have the process stay until what was submitted has reached the service."""
    with _here.lock:
        if _here.keeper is not None and _here.keeper.is_alive():
            return
        # Not a daemon: the interpreter waits for it, also where the last line of a script was a submit, where the script
        # failed or called sys.exit, and where a thread submits while the interpreter waits for that thread.
        if threading.current_thread() is threading.main_thread() and not threading.main_thread().is_alive():
            # In a function of atexit: the interpreter waits for no thread any more.
            _keep()
            return
        _here.keeper = threading.Thread(target=_keep, name="dobatch-keeper", daemon=False)
        with contextlib.suppress(RuntimeError):  # too late: the interpreter starts no threads any more
            _here.keeper.start()


def _keep() -> None:
    ends = False
    while True:
        with _here.lock:
            waited_for = [live for live in _here.lives.values() if _to_send(live, ends)]
            if not waited_for:
                _here.keeper = None  # a job that comes now has another one
                break
        if not ends and not threading.main_thread().is_alive():
            ends = True
            ids = ", ".join(live.id for live in waited_for)
            _tell(f"still sending {ids}; Ctrl+C leaves the rest for dobatch.attach(...)")
            for live in list(_here.lives.values()):
                _here.loop.call(partial(_here.engine.send_only, live))
        first = waited_for[0]
        with first.changed:
            if _to_send(first, ends):
                # The main thread's end makes no noise: so look up now and then.
                first.changed.wait(0.5)
    if ends:
        _tell_what_is_left()


def _tell_what_is_left() -> None:
    """Say which jobs this process leaves before all of them is sent, and why."""
    _here.loop.settle(5.0)  # a job whose end was just seen tells of it now: `ending` waits for that
    for live in list(_here.lives.values()):
        state = live.state
        if live.elsewhere or state.ended is not None or state.all_sent or live.id in _here.left:
            continue
        if not live.folder.exists:
            continue  # forgotten, by whatever process
        _here.left.add(live.id)
        why = f": {live.problem}" if live.problem else "."
        _tell(f"job {live.id} is not all sent{why} Come back with dobatch.attach({live.id!r}).")


def _tell(words: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"dobatch: {words}", file=sys.stderr, flush=True)


def _to_send(live: OpenJob, ends: bool) -> bool:
    """Whether requests of a job, or its end, are still to be handed to the service, and no person is needed for that."""
    if live.gone or live.elsewhere or live.broken is not None:
        return False
    state = live.state
    if state.over or (not ends and problem_of(state)[1]):
        return False
    unsent = [part for part in state.parts.values() if part.unsent]
    held = [part for part in unsent if part.waits in ("person", "budget", "stuck")]
    to_cancel = state.cancelled and any(part.open and not part.cancel_asked for part in state.parts.values())
    return not state.rendered or len(held) < len(unsent) or to_cancel


# -- fork


def _forked() -> None:
    """A child has none of its parent's threads: it begins anew, and takes nothing of the parent's away."""
    global _here
    held = [live.lock for live in _here.lives.values() if isinstance(live.lock, LockOfJob)]
    release_in_child([lock.held for lock in held])
    _here = _Process()


_here = _Process()
on_change(_wake_everything)
atexit.register(_tell_what_is_left)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
