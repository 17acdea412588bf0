"""A cluster of worker processes that share nothing with the client: no home, no configuration, no folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

dask = pytest.importorskip("dask", reason="needs dobatch-pandas[dask]")
distributed = pytest.importorskip("distributed", reason="needs dobatch-pandas[dask]")

NOWHERE = "/dev/null/no-home"


@contextmanager
def start(workers: int, **environment: str) -> Iterator[Any]:
    """Workers, and those that follow them, with a token, a home that cannot be, and another service than the client's."""
    theirs = {
        "DIGITALOCEAN_TOKEN": "local",
        "DOBATCH_HOME": NOWHERE,
        "DOBATCH_BASE_URL": "http://127.0.0.1:9",
    }
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, env=theirs | environment
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def start_workers() -> Any:
    """The function that starts them."""
    return start


@pytest.fixture(scope="session")
def workers() -> Iterator[Any]:
    """Two worker processes for all tests that kill none."""
    with start(2) as client:
        yield client


@pytest.fixture
def cluster(workers: Any, server: Any) -> Any:
    """The workers, and a server that is configured for this process alone."""
    assert set(workers.run(os.getenv, "DOBATCH_HOME").values()) == {NOWHERE}
    return workers


@pytest.fixture
def mortal(server: Any) -> Iterator[Any]:
    """Two workers of the test's own, which may be killed."""
    with start(2) as client:
        yield client
