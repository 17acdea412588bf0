"""Workers and clients that die: nothing is sent twice, and every row has its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from waiting import PATIENCE, eventually

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import JobFailed
from dobatch_pandas.job import cluster
from dobatch_pandas.job.process import close_home

dask = pytest.importorskip("dask", reason="needs dobatch-pandas[dask]")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
import dobatch_pandas.dask  # noqa: E402

ROWS, DISTINCT = 120, 90


def frame():
    n = range(ROWS)
    return dd.from_pandas(
        pd.DataFrame({"n": n, "text": [f"text {one % DISTINCT}" for one in n]}), npartitions=6
    )


def killed_when(condition, pid):
    """Kill a process as soon as something is so; returns what ends the watch, and the thread."""
    gone = threading.Event()

    def watch():
        while not condition():
            if gone.wait(0.01):
                return
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return gone, thread


def test_a_worker_that_dies_costs_nothing(mortal, server, tmp_path):
    """
    While it renders, uploads, downloads or brings answers to rows: another one does it, and each row is paid once.
    """
    mark = str(tmp_path / "rendering")

    def dying(rows):
        if 40 in rows["n"].to_numpy() and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    ddf = frame().map_partitions(dying, meta=frame()._meta)
    ddf.dobatch.plan("Say {text}", model="echo").estimate()
    assert os.path.exists(mark)
    for number, phase in enumerate(("upload", "download"), 1):
        mortal.wait_for_workers(2, timeout=PATIENCE)
        # A nanny starts no worker again that dies before it has heard that it began.
        eventually(lambda: {nanny.status.name for nanny in mortal.cluster.workers.values()} == {"running"})
        pid = next(iter(mortal.run(os.getpid).values()))
        server.faults.add(phase, delay=1.0, times=1)
        before = list(server.calls).count(phase)
        gone, watcher = killed_when(lambda: list(server.calls).count(phase) > before, pid)  # noqa: B023
        try:
            job = ddf.dobatch.submit("Say {text}", model="echo", fresh=True).wait()
            out = ddf.dobatch.join(job).compute()
        finally:
            gone.set()
            watcher.join()
        assert (out["response"] == "Say " + out["text"]).all()
        assert len(server.batches) == number
        assert sum(server.executed.values()) == DISTINCT * number
        # The scheduler hears of it a moment later.
        eventually(lambda: pid not in mortal.run(os.getpid, on_error="ignore").values())  # noqa: B023


def test_lines_that_are_lost_and_come_back_as_others_are_not_sent(mortal, server):
    """
    The source gives other rows each time, and all workers die before anything is sent: nobody would know what was asked.
    """

    def others(rows):
        return rows.assign(text=[uuid.uuid4().hex for _ in range(len(rows))])

    server.faults.add("create_file", status=500, times=None)
    job = frame().map_partitions(others, meta=frame()._meta).dobatch.submit("Say {text}", model="echo")
    eventually(lambda: "create_file" in server.calls)
    for pid in mortal.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    server.faults.clear()
    with pytest.raises(JobFailed, match="none of the rows any more"):
        job.wait()
    assert not server.executed
    assert not server.batches


CLIENT = """
import dask, dask.dataframe as dd, pandas as pd
import dobatch_pandas as dobatch, dobatch_pandas.dask
n = range({rows})
frame = pd.DataFrame({{"n": n, "text": [f"text {{one % {distinct}}}" for one in n]}})
with dask.config.set(scheduler="threads", num_workers=2):
    job = dd.from_pandas(frame, npartitions=6).dobatch.submit("Say {{text}}", model="echo")
    print(job.id, flush=True)
    job.wait(display=False)
"""


@pytest.mark.parametrize("phase", ["upload", "create_batch", "get_results"])
def test_a_client_that_dies_is_followed_by_another(server, home, phase):
    """
    Attached in another process, the job goes on: what was not uploaded is computed again, and no batch is created twice.
    """
    server.faults.add(phase, delay=3600, times=1)  # however late it is killed, it has come no further
    environment = {
        **os.environ,
        "DOBATCH_HOME": str(home),
        "DOBATCH_BASE_URL": server.url,
        "DIGITALOCEAN_TOKEN": server.token,
    }
    code = CLIENT.format(rows=ROWS, distinct=DISTINCT)
    client = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    gone, watcher = killed_when(lambda: phase in server.calls, client.pid)
    try:
        job_id = client.stdout.readline().strip()
        client.wait(PATIENCE)
    finally:
        gone.set()
        watcher.join()
        client.kill()
    assert client.returncode == -signal.SIGKILL
    with dask.config.set(scheduler="threads", num_workers=2):
        job = dobatch.attach(job_id).wait()
        out = frame().dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert len(server.batches) == 1
    assert sum(server.executed.values()) == DISTINCT
    assert list(dobatch.jobs().index) == [job_id]


def test_a_job_whose_rows_cannot_be_computed_here_says_so_and_a_submit_goes_on(server, home):
    """
    Its graph is gone: the frame that is submitted again finds the job, which goes on with that.
    """
    dobatch.configure(token="local")
    server.faults.add("create_file", status=500, times=None)
    with dask.config.set(scheduler="threads", num_workers=2):
        job = frame().dobatch.submit("Say {text}", model="echo")
        close_home(home)
        cluster._remembered.clear()
        cluster._lines.clear()
        (home / "jobs" / job.id / "frame.pickle").unlink()
        server.faults.clear()
        with pytest.raises(JobFailed, match=r"cannot be computed here .*Submit the frame again"):
            dobatch.attach(job.id).wait()
        again = frame().dobatch.submit("Say {text}", model="echo").wait()
        out = frame().dobatch.join(again).compute()
    assert again.id == job.id
    assert (out["response"] == "Say " + out["text"]).all()
    assert sum(server.executed.values()) == DISTINCT


@contextmanager
def scheduler_and_worker():
    """Both in processes of their own; gives the scheduler's address and what kills them."""
    environment = {**os.environ, "DIGITALOCEAN_TOKEN": "local", "DOBATCH_HOME": "/dev/null/no-home"}
    started = []

    def start(*words):
        command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:], "--no-dashboard"]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))

    def kill():
        for process in started:
            process.kill()
            process.wait()

    def address():
        assert started[0].poll() is None
        try:
            return json.loads(told.read_text())["address"]
        except (OSError, ValueError):  # not there yet, or half of it
            return None

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "scheduler.json"
        try:
            start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))
            eventually(address)
            start("dask_worker", address(), "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
            yield address(), kill
        finally:
            kill()


@pytest.mark.parametrize("attached", [False, True])
def test_a_scheduler_that_dies_is_followed_by_another(server, home, monkeypatch, attached):
    """
    With it go its workers and all that they held. The job waits for a cluster, in this session or a later one, and goes on: of
    what the service has nothing is sent again, and every row has its answer.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(30, 200_000_000))
    ddf = frame()
    with scheduler_and_worker() as (address, kill), distributed.Client(address, timeout=PATIENCE) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        server.hold()
        server.faults.add("create_file", status=500, times=None, skip=2)
        job = ddf.dobatch.submit("Say {text}", model="echo")
        eventually(lambda: list(server.calls).count("create_batch") == 2)
        if attached:
            close_home(home)
            cluster._remembered.clear()
            cluster._lines.clear()
        kill()
    server.faults.clear()
    server.release()
    with scheduler_and_worker() as (address, _), distributed.Client(address, timeout=PATIENCE) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        job = dobatch.attach(job.id) if attached else job
        out = ddf.dobatch.join(job.wait()).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert sum(server.executed.values()) == DISTINCT
    assert [batch.total for batch in server.batches] == [30, 30, 30]
