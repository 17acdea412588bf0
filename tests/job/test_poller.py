"""The poller asks seldom, in time, and never more than the service allows."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from dobatch_pandas.job.poller import Poller, pause_before_next_look
from dobatch_pandas.service.wire import Batch, BatchPage, RequestCounts


class Day:
    """A service and a clock in which hours pass at once: only the poller's own arithmetic takes time."""

    base_url = "http://localhost"

    def __init__(self, batches: int, lasting: float) -> None:
        self.now = 0.0
        self.lasting = lasting
        self.ids = [f"b{number}" for number in range(batches)]
        self.calls: list[float] = []
        self.poller = Poller(self, clock=lambda: self.now)  # type: ignore[arg-type]
        self.ended: dict[str, float] = {}

    def _batch(self, batch_id: str) -> Batch:
        share = min(self.now / self.lasting, 1.0)
        return Batch(
            batch_id=batch_id,
            status="completed" if share == 1.0 else "in_progress",
            counts=RequestCounts(total=1000, completed=int(1000 * share)),
        )

    def get_batch(self, batch_id: str) -> Batch:
        self.calls.append(self.now)
        return self._batch(batch_id)

    def list_batches(self, *, limit: int, after: str | None = None) -> BatchPage:
        self.calls.append(self.now)
        start = int(after or 0)
        end = start + limit
        return BatchPage(
            tuple(self._batch(b) for b in self.ids[start:end]), str(end) if end < len(self.ids) else None
        )

    def pass_by(self) -> None:
        """Let the poller do what its thread does, in this clock."""
        for batch_id in self.ids:
            self.poller._watches[batch_id] = _watch(batch_id, self)
        while self.poller._watches:
            self.now = max(self.now, min(w.due for w in self.poller._watches.values()))
            self.poller.look([w for w in self.poller._watches.values() if w.due <= self.now + 0.5])

    def most_calls_within(self, seconds: float) -> int:
        window: deque[float] = deque()
        most = 0
        for call in self.calls:
            window.append(call)
            while window[0] <= call - seconds:
                window.popleft()
            most = max(most, len(window))
        return most


def _watch(batch_id, day):
    from dobatch_pandas.job.poller import Watch

    def note(batch):
        if batch.terminal:
            day.ended[batch_id] = day.now

    return Watch(batch_id, started=0.0, on_batch=note, on_trouble=pytest.fail, due=0.0)


@pytest.mark.parametrize(
    ("batches", "lasting"),
    [*itertools.product([1, 2, 20], [30.0, 3600.0, 24 * 3600.0]), (1000, 30.0), (1000, 7200.0)],
)
def test_polling_keeps_far_below_the_limits(batches, lasting):
    """
    1, 20 or 1,000 batches: at most half of the 250 calls a minute and of the 5,000 an hour.
    """
    day = Day(batches, lasting)
    day.pass_by()

    assert len(day.ended) == batches
    assert day.most_calls_within(60) <= 125
    assert day.most_calls_within(3600) <= 2500


@pytest.mark.parametrize(
    ("batches", "lasting"),
    [*itertools.product([1, 2, 20], [2.0, 60.0, 3600.0, 24 * 3600.0]), (1000, 60.0), (1000, 7200.0)],
)
def test_the_end_is_seen_soon(batches, lasting):
    """
    Nobody waits for a finished batch much longer than a twentieth of the time it took, or a few seconds.
    """
    day = Day(batches, lasting)
    day.pass_by()

    assert max(day.ended.values()) - lasting <= max(0.05 * lasting, 1.0 + batches / 100 * 2) + 0.5
    if lasting >= 3600:
        assert max(day.ended.values()) - lasting <= 5.5 + batches / 100


@pytest.mark.parametrize("batches", [2, 100])
def test_several_batches_are_looked_up_by_listing(batches):
    """
    They cost one call a look, not one each.
    """
    day = Day(batches, lasting=600.0)
    day.pass_by()

    looks = len(set(day.calls))
    assert len(day.calls) == looks


def test_pauses_grow_with_age_and_shrink_near_the_end():
    """
    A young batch is looked at often, an old one once a minute, one that is nearly done every few seconds.
    """
    assert pause_before_next_look(0, 0) == 0.1
    assert pause_before_next_look(60, 0.1) == 3.0
    assert pause_before_next_look(36_000, 0.5) == 60.0
    assert pause_before_next_look(36_000, 0.97) == 5.0
