"""The ledger under many hands."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from dobatch_pandas.job.store import Store


def test_many_open_a_new_home_at_once(tmp_path):
    """
    The workers of a cluster, or Run All in two kernels: none is told that the database is locked.
    """
    hands = 8
    for number in range(25):
        together = threading.Barrier(hands)

        def opened(number: int = number, together: threading.Barrier = together) -> None:
            together.wait()
            Store(tmp_path / f"home-{number}").close()

        with ThreadPoolExecutor(hands) as pool:
            for future in [pool.submit(opened) for _ in range(hands)]:
                future.result()
