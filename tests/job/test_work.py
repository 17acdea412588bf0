"""The threads that do the work of jobs: none waits for another's work, and no two are at the same file."""

from __future__ import annotations

import queue
import threading

import pandas as pd
import pytest
from waiting import PATIENCE, eventually

from dobatch_pandas.job import work
from dobatch_pandas.questions.part_files import compress_part


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(work, "IDLE", 0.1)
    return work._Pool("dobatch-test", 2)


def test_work_that_comes_while_a_thread_takes_other_work_does_not_wait_for_it(pool):
    """
    A thread has taken an upload of an hour from the queue this very moment: the next upload has a thread of its own.
    """
    taken, go_on, second = threading.Event(), threading.Event(), threading.Event()

    class Slow(queue.Queue):
        def get(self, *arguments, **options):
            got = super().get(*arguments, **options)
            taken.set()
            assert go_on.wait(PATIENCE)
            return got

    pool._work = Slow()
    pool.put(lambda: second.wait(2 * PATIENCE))
    assert taken.wait(PATIENCE)
    pool.put(second.set)
    go_on.set()
    assert second.wait(PATIENCE)


def test_threads_end_without_work_and_begin_with_it(pool):
    """
    A process with nothing to do has no threads for it, and whatever raises takes none away.
    """
    for _ in range(3):
        done = [threading.Event() for _ in range(5)]
        pool.put(lambda: 1 // 0)
        for event in done:
            pool.put(event.set)
        assert all(event.wait(PATIENCE) for event in done)
        eventually(lambda: pool._threads == pool._left == 0)


def test_a_part_is_compressed_by_one_thread_at_a_time(server, monkeypatch):
    """
    The batch ends while its requests, many of them, are still being compressed: nobody writes the same file meanwhile.
    """
    inside, most, another = [], [0], threading.Event()

    def slowly(path):
        inside.append(path)
        most[0] = max(most[0], len(inside))
        if len(inside) > 1:
            another.set()
        another.wait(1.5)  # whoever reads the answers comes meanwhile
        inside.pop()
        return compress_part(path)

    monkeypatch.setattr(work, "compress_part", slowly)
    frame = pd.DataFrame({"n": range(3)})
    assert list(frame.dobatch.submit("{n}", model="echo").result()["response"]) == ["0", "1", "2"]
    assert most == [1]
