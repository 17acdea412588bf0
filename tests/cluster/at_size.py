"""
One job over a large Dask frame, checked and measured: ``python tests/cluster/at_size.py --rows 1000000 --partitions 2000``.

Three rows of ten are equal to one of another partition. Workers are processes that have no home, and share no folder with the
client or each other. With ``--kill`` a worker is killed in each phase. ``--namespaces`` puts the workers into a network
namespace of their own (needs root and iproute2), from where the client is another machine. What is checked: each question
executed once, batches full, every answer on its row, calls below the limits, and nothing of a row on the scheduler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd

import dobatch_pandas as dobatch
import dobatch_pandas.dask

LIMIT = 50_000  # requests of a batch
FREE = {"upload", "download"}  # calls to storage, which no limit counts
HERE, THERE = "10.199.0.1", "10.199.0.2"


def frame_of(rows: int, partitions: int) -> Any:
    """Rows of which three of ten are equal to one far away, with an index and divisions of their own."""
    distinct = rows * 7 // 10

    def part(number: int) -> pd.DataFrame:
        n = np.arange(number * rows // partitions, (number + 1) * rows // partitions)
        which = np.where(n % 10 < 7, n // 10 * 7 + n % 10, (n * 7919) % distinct)
        return pd.DataFrame({"n": n, "text": [f"question number {one} of many" for one in which]}, index=n)

    edges = [number * rows // partitions for number in range(partitions)]
    return dd.from_map(part, range(partitions), meta=part(0).iloc[:0], divisions=(*edges, rows - 1))


@contextlib.contextmanager
def workers_here(count: int) -> Iterator[Any]:
    """Worker processes of this machine that know the token, and nothing else."""
    os.environ |= {"DIGITALOCEAN_TOKEN": "local", "DOBATCH_HOME": "/dev/null/none"}
    with (
        distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace that reaches this one over a pair of virtual cables; returns its name."""
    name = f"dobatch{os.getpid()}"
    lines = [
        f"netns add {name}",
        f"link add {name}a type veth peer name {name}b",
        f"link set {name}b netns {name}",
        f"addr add {HERE}/24 dev {name}a",
        f"link set {name}a up",
        f"-n {name} addr add {THERE}/24 dev {name}b",
        f"-n {name} link set {name}b up",
        f"-n {name} link set lo up",
    ]
    try:
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def workers_there(count: int, name: str) -> Iterator[Any]:
    """Scheduler and workers in a network namespace, with a /tmp of their own that is empty."""
    own = {
        "PATH": os.environ["PATH"],
        "DIGITALOCEAN_TOKEN": "local",
        "HOME": "/tmp",
        "DOBATCH_HOME": "/dev/null/none",
    }
    own |= {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    inside = ["ip", "netns", "exec", name, "unshare", "--mount", "--propagation", "private", "sh", "-c"]
    dask_at = f"{sys.executable} -m distributed.cli"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            f"{dask_at}.dask_scheduler --host {THERE} --port 8786 --no-dashboard",
            f"{dask_at}.dask_worker tcp://{THERE}:8786 --host {THERE} --nworkers {count} --nthreads 1 --no-dashboard",
        ):
            tmpfs = "mount -t tmpfs none /tmp && cd /tmp && exec "
            process = subprocess.Popen(
                [*inside, tmpfs + command], env=own, start_new_session=True, stderr=subprocess.DEVNULL
            )
            started.append(process)
        with distributed.Client(f"tcp://{THERE}:8786", timeout=60) as client:
            client.wait_for_workers(count, timeout=120)
            yield client
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def object_store(host: str) -> Iterator[str]:
    """A store that speaks S3, of seaweedfs; keys and address are in the environment, where workers find them."""
    weed = Path(sys.executable).with_name("weed")
    master, volume, filer, port = (21_100 + os.getpid() % 500 + 600 * step for step in range(4))
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-store",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    credentials = {"accessKey": "AKIDTEST", "secretKey": "s3cr3t-of-the-store"}
    identity = {"name": "all", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "s3.json").write_text(json.dumps({"identities": [identity]}))
        command = [
            weed, f"-logdir={folder}", "server", "-s3", f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}",
            f"-s3.port={port}", f"-s3.config={folder}/s3.json", f"-master.port={master}", f"-volume.port={volume}",
            f"-filer.port={filer}", "-volume.max=100", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        try:
            import s3fs

            until = time.monotonic() + 120
            while True:
                try:
                    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("answers")
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(1)
            yield "s3://answers/jobs"
        finally:
            process.kill()
            process.wait()


class Killer:
    """Kills a worker whenever one of some calls reaches the service for the first time."""

    def __init__(self, client: Any, server: Any, phases: set[str]) -> None:
        self.client, self.server, self.left = client, server, set(phases)
        self.count = len(client.run(os.getpid))
        self.killed: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self, phase: str) -> None:
        """Kill a worker, once all are there: a nanny whose worker dies while it starts gives up."""
        self.client.wait_for_workers(self.count)
        pids = self.client.run(os.getpid)
        os.kill(sorted(pids.values())[0], signal.SIGKILL)
        self.killed.append(phase)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for phase in [one for one in self.left if one in self.server.calls]:
                self.left.discard(phase)
                self.kill(phase)

    def end(self) -> None:
        """Kill no more."""
        self._over.set()
        self._thread.join()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true", help="a worker in each phase")
    parser.add_argument("--store", action="store_true", help="an S3 store between all machines (needs s3fs)")
    parser.add_argument("--namespaces", action="store_true", help="workers in a network namespace")
    parser.add_argument(
        "--single", action="store_true", help="the same rows as a pandas frame, for comparison"
    )
    chosen = parser.parse_args()
    dask.config.set(
        {
            "distributed.worker.memory.terminate": False,
            "distributed.comm.timeouts.connect": "60s",
            "distributed.deploy.lost-worker-timeout": "300s",  # a busy machine takes its time to start another
        }
    )
    host = {"host": HERE} if chosen.namespaces else {}
    figures: dict[str, Any] = {
        "rows": chosen.rows,
        "partitions": chosen.partitions,
        "workers": chosen.workers,
    }
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        links = stack.enter_context(namespace()) if chosen.namespaces else ""
        store = stack.enter_context(object_store(HERE if links else "127.0.0.1")) if chosen.store else None
        workers = workers_there(chosen.workers, links) if links else workers_here(chosen.workers)
        client = None if chosen.single else stack.enter_context(workers)
        server = stack.enter_context(dobatch.LocalServer(token="local", **host))
        dobatch.configure(
            base_url=server.url, token=server.token, home=home, display=False, allow_http=bool(links)
        )
        dobatch.configure(store=store)
        frame = frame_of(chosen.rows, chosen.partitions)
        if chosen.single:
            frame = frame.compute(scheduler="synchronous")
        killer = Killer(client, server, {"upload", "get_results"}) if chosen.kill else None
        if killer is not None:
            threading.Timer(5.0, killer.kill, ["render"]).start()
        began = time.perf_counter()
        job = frame.dobatch.submit("Say {text}", model="echo", into="said")
        figures["submit_seconds"] = round(time.perf_counter() - began, 1)
        job.wait()
        figures["wait_seconds"] = round(time.perf_counter() - began, 1)
        joined = frame.dobatch.join(job)
        if chosen.single:
            right = int((joined["said"] == "Say " + joined["text"]).sum())
        else:
            if killer is not None:
                threading.Timer(3.0, killer.kill, ["join"]).start()
            assert joined.divisions == frame.divisions
            good = joined.map_partitions(_right, meta=pd.Series(dtype="int64"))
            right = int(good.compute().sum())
        figures["joined_seconds"] = round(time.perf_counter() - began, 1)
        if killer is not None:
            killer.end()
            figures["killed"] = killer.killed
        if store is not None:
            assert list(server.calls).count("get_results") == len(server.batches)
        calls = Counter(call for call in server.calls if call not in FREE)
        distinct = chosen.rows * 7 // 10
        figures |= {
            "right": right,
            "executed": sum(server.executed.values()),
            "batches": len(server.batches),
            "calls": dict(calls),
            "client_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        }
        print(json.dumps(figures, indent=2))
        assert right == chosen.rows
        assert figures["executed"] == distinct
        assert len(server.batches) == math.ceil(distinct / LIMIT)
        assert sum(calls.values()) < 250
        assert [path.name for path in Path(home, "jobs").iterdir()] == [job.id]


def _right(rows: pd.DataFrame) -> pd.Series:
    return pd.Series([int((rows["said"] == "Say " + rows["text"]).sum())])


if __name__ == "__main__":
    main()
