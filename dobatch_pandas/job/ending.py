"""
Telling that a job is over: to a function, to a URL, or on the desktop.

Everything here happens in threads of its own, after the job's end is on disk: what is slow, down or raises delays nothing and
ends nothing. It is said in the log, and on every picture of the job.

A URL gets what the Standard Webhooks specification describes: ``POST`` with the headers ``webhook-id``, ``webhook-timestamp`` and,
where there is a key, ``webhook-signature``: ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import hashlib
import hmac
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import requests

from dobatch_pandas.config import OnEnd, checked_on_end, place_of, settings
from dobatch_pandas.display.text import end_words
from dobatch_pandas.service.network import RETRY_STATUSES

from .engine import Live
from .home import Home

if TYPE_CHECKING:
    from dobatch_pandas.display.snapshot import Snapshot

    from .job import Job

__all__ = ["facts_of", "heard", "notes_of", "tell_at_the_end"]

log = logging.getLogger("dobatch_pandas")

TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between the tries: about two minutes in all
TIMEOUT = 10.0  # seconds for one try
GRACE = 5.0  # seconds that the end of the process waits for what is under way

Key = tuple[Path, str]


class _Ends:
    """What this process has seen and told; a forked child begins anew, so that nothing is told twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: set[Key] = set()  # seen here while they were not over
        self.told: set[Key] = set()  # what is configured has been told of them
        self.waiting: dict[Key, list[OnEnd]] = {}
        self.notes: dict[Key, list[str]] = {}
        self.under_way: set[threading.Thread] = set()


_ends = _Ends()


def tell_at_the_end(home: Home, job_id: str, on_end: OnEnd, *, over: Callable[[], bool]) -> None:
    """Have one more hear of a job's end, at once where it is over already."""
    key, chosen = (home.path, job_id), checked_on_end(on_end)
    with _ends.lock:
        _ends.waiting.setdefault(key, []).append(chosen)
    if over():
        _fire(home, job_id, _waiting(key))


def heard(home: Home, live: Live) -> None:
    """Hear that a job has changed; called for every change, from the loop: returns at once."""
    key = (home.path, live.id)
    if live.state.ended is None:
        _ends.open.add(key)
        return
    if key not in _ends.open and key not in _ends.waiting:
        return
    chosen = _waiting(key)
    with _ends.lock:
        general = key in _ends.open and key not in _ends.told
        _ends.told.add(key)
    if general and (configured := settings().on_end) is not None:
        chosen.append(configured)
    _fire(home, live.id, chosen)
    _ends.open.discard(key)


def notes_of(folder: Path) -> tuple[str, ...]:
    """Return what went wrong in telling of a job's end, in words."""
    return tuple(_ends.notes.get((folder.parent.parent, folder.name), ()))


def _waiting(key: Key) -> list[OnEnd]:
    with _ends.lock:
        return _ends.waiting.pop(key, [])


def _fire(home: Home, job_id: str, chosen: list[OnEnd]) -> None:
    name = f"dobatch-on-end-{job_id}"
    threads = {
        threading.Thread(target=_told, args=(home, job_id, on_end), name=name, daemon=True): on_end
        for on_end in chosen
    }
    with _ends.lock:
        _ends.under_way.update(threads)
    for thread, on_end in threads.items():
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends: there are no threads any more
            _told(home, job_id, on_end)


def _told(home: Home, job_id: str, on_end: OnEnd) -> None:
    from .job import Job

    try:
        job = Job(home, job_id)
        if callable(on_end):
            on_end(job)
        elif on_end == "desktop":
            _on_the_desktop(job.snapshot())
        else:
            _post(on_end, job)
    except BaseException as error:
        words = f"on_end could not tell {_name(on_end)} that the job is over: {_words(error)}"
        with _ends.lock:
            _ends.notes.setdefault((home.path, job_id), []).append(words)
        log.warning("job %s: %s", job_id, words, exc_info=callable(on_end))
    finally:
        with _ends.lock:
            _ends.under_way.discard(threading.current_thread())


def _name(on_end: OnEnd) -> str:
    # Not its repr, which may hold whatever it was made with, or raise.
    return (
        getattr(on_end, "__qualname__", type(on_end).__qualname__) if callable(on_end) else place_of(on_end)
    )


def _words(error: BaseException) -> str:
    if isinstance(error, _NotTaken):
        return str(error)
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  it is the user's class
        said = type(error).__name__
    # Half a surrogate pair could be shown nowhere.
    return said.encode("utf-8", "replace").decode()


# -- a URL


def facts_of(now: Snapshot) -> dict[str, Any]:
    """What programs are told of a job: numbers and words of ours, nothing of what was asked or answered."""
    return {
        "id": now.job_id,
        "status": now.state,
        "over": now.over,
        "model": now.model,
        "rows": now.rows,
        "requests": now.requests,
        "completed": now.completed + now.reused,
        "failed": now.failed,
        "reused": now.reused,
        "skipped": now.skipped,
        "errors": {group.code: group.count for group in now.errors},
        "cost": now.cost,
    }


class _NotTaken(Exception):
    """What the receiver answered."""


def _post(url: str, job: Job) -> None:
    now = job.snapshot()
    ended = datetime.fromtimestamp(now.ended or time.time(), timezone.utc)
    told = {
        "type": f"job.{now.state}",
        "timestamp": ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": facts_of(now),
    }
    body = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    # The same from every try and every process: a receiver that has it knows it again.
    message = f"{job.id}.{int((now.ended or 0.0) * 1000)}"
    pause = FIRST_PAUSE
    for left in range(TRIES - 1, -1, -1):
        try:
            _post_once(url, message, body)
            return
        except requests.RequestException as error:
            # Its words may quote the address, whose path can be a secret.
            trouble, passes, wait = f"no answer ({type(error).__name__})", True, pause
        except _NotTaken as error:
            status, after = error.args
            trouble, passes, wait = f"it answered {status}", status in RETRY_STATUSES, max(pause, after)
        if not left or not passes:
            raise _NotTaken(f"{trouble}, after {TRIES - left} {'try' if left == TRIES - 1 else 'tries'}")
        time.sleep(min(wait, LONGEST_PAUSE))
        pause *= 2


def _post_once(url: str, message: str, body: bytes) -> None:
    moment = str(int(time.time()))
    headers = {"Content-Type": "application/json", "webhook-id": message, "webhook-timestamp": moment}
    key = settings().on_end_key
    if key:
        signed = hmac.new(_key_bytes(key), f"{message}.{moment}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    answer = requests.post(
        url,
        data=body,
        headers=headers,
        timeout=TIMEOUT,
        allow_redirects=False,
        auth=lambda request: request,  # else a .netrc might give a password away
        stream=True,  # whatever it says is not read
    )
    answer.close()
    if not 200 <= answer.status_code < 300:
        after = answer.headers.get("Retry-After", "")
        raise _NotTaken(answer.status_code, float(after) if after.isdecimal() else 0.0)


def _key_bytes(key: str) -> bytes:
    if key.startswith("whsec_"):
        try:
            return base64.b64decode(key[len("whsec_") :], validate=True)
        except binascii.Error:
            pass  # it only looks like one of those
    return key.encode()


# -- the desktop


def _on_the_desktop(now: Snapshot) -> None:
    command = shutil.which("notify-send")
    if command is None:
        raise FileNotFoundError("there is no notify-send on this machine (Debian's package libnotify-bin)")
    words = end_words(now)
    subprocess.run(
        [command, "--app-name=dobatch", "--", words["title"], words["body"]],
        check=True,
        timeout=TIMEOUT,
        capture_output=True,
    )


# -- the end of the process


def _let_them_speak() -> None:
    """Give what is under way some seconds; what is down must not keep a process."""
    end = time.monotonic() + GRACE
    for thread in list(_ends.under_way):
        if thread.is_alive():
            thread.join(max(0.0, end - time.monotonic()))


def _forked() -> None:
    global _ends
    _ends = _Ends()


atexit.register(_let_them_speak)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
