"""One patient thread a service that looks after every running batch of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dobatch_pandas.errors import ApiError, ConnectionFailed, DobatchError, NotFound
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import Batch

__all__ = ["Poller", "Watch", "pause_before_next_look", "poller_for"]

SHORTEST = 0.1  # seconds
LONGEST = 60.0
NEAR_THE_END = 5.0
LIST_FROM = 2  # so many due batches are looked up by listing rather than one by one
PAGE = 100
LOST_AFTER = 5  # looks in a row that do not find a batch


def pause_before_next_look(age: float, share: float) -> float:
    """
    Seconds until a batch is looked at again.

    Five percent of its age, so that nobody waits much longer than the batch took, at most a minute, and a
    few seconds near the end. A day of one batch costs about 1,500 looks of the 120,000 that the limits allow.

    Parameters
    ----------
    age : float
        Seconds since the batch was created.
    share : float
        Part of its requests that has ended, 0 to 1.
    """
    longest = NEAR_THE_END if share >= 0.95 else LONGEST
    return min(max(age * 0.05, SHORTEST), longest)


@dataclass
class Watch:
    """One batch that somebody waits for."""

    batch_id: str
    started: float  # by the poller's clock
    on_batch: Callable[[Batch], None]
    on_trouble: Callable[[DobatchError], None]
    due: float
    share: float = 0.0
    lost: int = field(default=0)


class Poller:
    """
    Looks at every watched batch of one service, in one thread, as seldom as is useful.

    Parameters
    ----------
    client : Client
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._troubles = 0
        self._wakeups = 0

    def watch(
        self,
        batch_id: str,
        on_batch: Callable[[Batch], None],
        on_trouble: Callable[[DobatchError], None],
        *,
        age: float = 0.0,
    ) -> None:
        """
        Have `on_batch` called with each new look at a batch until it is terminal.

        ``on_trouble`` hears of every look that failed; the batch stays watched, unless the service does not
        know it (any more): then it hears `NotFound`, once. Both are called in the
        poller's thread and must be quick. ``age`` is in seconds.
        """
        now = self._clock()
        with self._changed:
            self._watches[batch_id] = Watch(batch_id, now - age, on_batch, on_trouble, due=now)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dobatch-poller", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def forget(self, batch_id: str) -> None:
        """Stop looking at a batch."""
        with self._changed:
            self._watches.pop(batch_id, None)

    def wake(self) -> None:
        """Look at everything now."""
        with self._changed:
            self._troubles = 0
            self._wakeups += 1
            for watch in self._watches.values():
                watch.due = self._clock()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._await_due()
                if not due:
                    self._thread = None
                    return
            self.look(due)

    def _await_due(self) -> list[Watch]:
        """Wait until batches are due, and return them; nothing when no batch is watched any more."""
        while self._watches:
            soonest = min(watch.due for watch in self._watches.values())
            left = soonest - self._clock()
            if left <= 0:
                # Those due within half a second come along: one look serves them all.
                return [w for w in self._watches.values() if w.due <= self._clock() + 0.5]
            self._changed.wait(left)
        return []

    def look(self, due: list[Watch]) -> None:
        """Look once at the batches that are due, by the cheaper of listing and asking one by one."""
        calls, wakeups = 0, self._wakeups
        looked = {watch.batch_id: watch for watch in due}
        missing = dict(looked)
        try:
            cursor = None
            while len(missing) >= LIST_FROM:
                page = self.client.list_batches(limit=PAGE, after=cursor)
                calls += 1
                found = sum(missing.pop(batch.batch_id, None) is not None for batch in page.batches)
                for batch in page.batches:
                    looked |= self._deliver(batch)
                cursor = page.next_cursor
                # A page that holds only one of the due ones costs more than asking for those.
                if cursor is None or found < LIST_FROM:
                    break
            for watch in list(missing.values()):
                calls += 1
                self._look_at(watch)
        except (ApiError, ConnectionFailed) as error:
            self._postpone(due, error, wakeups)
            return
        self._troubles = 0
        self._plan_next(list(looked.values()), calls)

    def _look_at(self, watch: Watch) -> None:
        try:
            batch = self.client.get_batch(watch.batch_id)
        except NotFound as error:
            # A batch may be unknown for a moment after it was created.
            watch.lost += 1
            if watch.lost >= LOST_AFTER:
                self.forget(watch.batch_id)
                watch.on_trouble(error)
            return
        self._deliver(batch)

    def _deliver(self, batch: Batch) -> dict[str, Watch]:
        """Tell a batch's owner; return the watch, by batch, where there is one."""
        with self._changed:
            watch = self._watches.get(batch.batch_id)
            if watch is None:
                return {}
            watch.lost = 0
            counts = batch.counts
            ended = counts.completed + counts.failed
            watch.share = (
                1.0 if batch.status == "finalizing" else ended / counts.total if counts.total else 0.0
            )
            if batch.terminal:
                del self._watches[batch.batch_id]
        watch.on_batch(batch)
        return {batch.batch_id: watch}

    def _plan_next(self, looked: list[Watch], calls: int) -> None:
        with self._changed:
            now = self._clock()
            # Forty calls a minute at most when a look takes many: half of the hourly limit is left for others.
            floor = 1.5 * calls if calls > 1 else 0.0
            for watch in looked:
                watch.due = now + max(pause_before_next_look(now - watch.started, watch.share), floor)

    def _postpone(self, watches: list[Watch], error: DobatchError, wakeups: int) -> None:
        with self._changed:
            # What woke us while the look was under way, such as a new token, came too late for that look.
            if wakeups == self._wakeups:
                self._troubles += 1
                asked = getattr(error, "retry_after", None) or 0.0
                pause = max(asked, min(2.0 ** min(self._troubles - 1, 7), 120.0))
                for watch in watches:
                    watch.due = self._clock() + pause
        for watch in watches:
            watch.on_trouble(error)


_pollers: dict[str, Poller] = {}
_pollers_lock = threading.Lock()


def poller_for(client: Client) -> Poller:
    """Return the process's one poller for the client's service."""
    with _pollers_lock:
        poller = _pollers.get(client.base_url)
        if poller is None:
            poller = _pollers[client.base_url] = Poller(client)
        return poller
