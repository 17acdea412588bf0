"""A Dask frame's partitions are asked where they lie."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.config import settings
from dobatch_pandas.errors import ConfigurationError, InputError

dask = pytest.importorskip("dask", reason="needs dobatch-pandas[dask]")
distributed = pytest.importorskip("distributed", reason="needs dobatch-pandas[dask]")
dd = pytest.importorskip("dask.dataframe")
import dobatch_pandas.dask  # noqa: E402
from dobatch_pandas.dask import _Asker  # noqa: E402

ROWS = 400


@pytest.fixture
def cluster(server, home, tmp_path, monkeypatch):
    """Two worker processes that have the token, and know nothing of the test's home and server."""
    for name, value in (
        ("DOBATCH_HOME", str(tmp_path / "of the workers")),
        ("DOBATCH_BASE_URL", "http://127.0.0.1:9"),
        ("DIGITALOCEAN_TOKEN", "local"),
    ):
        monkeypatch.setenv(name, value)
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def frame(partitions=4):
    pdf = pd.DataFrame({"n": range(ROWS), "text": [f"text {n % 350}" for n in range(ROWS)]})
    return dd.from_pandas(pdf, npartitions=partitions, sort=False)


def test_every_partition_is_joined_where_it_lies(cluster, server):
    """
    The answers come back lazily, partition by partition, on the rows they belong to.
    """
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo", into="said")
    answered = ddf.dobatch.join(job)

    assert answered.npartitions == 4
    out = answered.compute()
    assert (out["said"] == "Say " + out["text"]).all()
    assert out["said_error"].isna().all()
    assert list(out["n"]) == list(range(ROWS))
    assert dict(answered.dtypes) == dict(out.dtypes)
    assert job.counts["failed"] == 0


def test_submitted_again_nothing_is_sent(cluster, server):
    """
    The same ids and the same ledger as without Dask.
    """
    ddf = frame()
    first = ddf.dobatch.submit("Say {text}", model="echo").wait()
    executed = dict(server.executed)
    again = ddf.dobatch.submit("Say {text}", model="echo").wait()
    assert again.ids == first.ids
    assert dict(server.executed) == executed


def test_a_worker_that_dies_in_mid_job_costs_nothing(cluster, server):
    """
    Another worker finds the partition's job and goes on with it: all rows answered, nothing sent twice.
    """
    pids = list(cluster.run(os.getpid).values())
    server.faults.add("create_batch", delay=1.0, times=2)
    killed = []

    def kill_when_uploaded():
        while "create_batch" not in server.calls:
            if gone.wait(0.01):
                return
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    gone = threading.Event()
    watcher = threading.Thread(target=kill_when_uploaded)
    watcher.start()
    ddf = frame(6)
    try:
        job = ddf.dobatch.submit("Say {text}", model="echo")
    finally:
        gone.set()
        watcher.join()
    out = ddf.dobatch.join(job).compute()

    assert killed
    assert (out["response"] == "Say " + out["text"]).all()
    assert len(server.batches) == 6
    assert sum(server.executed.values()) == sum(batch.total for batch in server.batches)


def test_only_ids_pass_the_scheduler(cluster, server):
    """
    Neither rows nor answers come to the client's process: what a partition's task returns is a job's id.
    """
    job = frame().dobatch.submit("Say {text}", model="echo")
    assert all(isinstance(one, str) and len(one) < 20 for one in job.ids)


def test_what_the_client_configured_holds_for_the_workers(cluster, server, home, tmp_path):
    """
    Its service and its home; no job is left where the client would not find it.
    """
    job = frame().dobatch.submit("Say {text}", model="echo")
    assert sorted(dobatch.jobs().index) == sorted(job.ids)
    assert not (tmp_path / "of the workers").exists()
    assert not list(home.glob(".asked-*"))


def test_a_worker_that_does_not_see_the_home_sends_nothing(server, home, tmp_path):
    """
    Its jobs would be lost to the client: it says so first.
    """
    before = settings()
    asker = _Asker(server.url, False, tmp_path / "elsewhere", Path(".asked-1"))
    with pytest.raises(ConfigurationError, match=r"does not see .*elsewhere.*DOBATCH_HOME"):
        asker.serve()
    assert settings() == before


def test_the_home_may_have_another_path_on_a_worker(server, home, tmp_path):
    """
    What counts is that it is the same folder.
    """
    home.mkdir()
    (home / ".asked-1").touch()
    _Asker("http://127.0.0.1:8", False, tmp_path / "elsewhere", Path(".asked-1")).serve()
    assert (settings().home, settings().base_url) == (home, "http://127.0.0.1:8")


def test_what_cannot_work_is_told_at_once(cluster, server):
    """
    A column that is not there, or prompts that a partition cannot have.
    """
    with pytest.raises(InputError, match="Did you mean 'text'"):
        frame().dobatch.plan("{txet}", model="echo")
    with pytest.raises(InputError, match="Series"):
        frame().dobatch.plan(pd.Series(["a"]), model="echo")
    assert not server.executed


def test_empty_partitions_are_joined_too(cluster, server):
    """
    A filter may leave a partition without rows.
    """
    ddf = frame()
    ddf = ddf[ddf["n"] < 100]
    job = ddf.dobatch.submit("Say {text}", model="echo")
    out = ddf.dobatch.join(job).compute()
    assert len(out) == 100
    assert out["response"].notna().all()
    assert isinstance(repr(job), str)
    assert dobatch.jobs().shape[0] <= 4
