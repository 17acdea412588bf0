"""
A long day of the server, by hand: many lines, faults, kills, idle connections, few descriptors, a small disk.

    python tests/benchmarks/soak_server.py --lines 1000000 --batches 20 --kills 5 --disk 64
    python tests/benchmarks/soak_server.py --lines 100000 --concurrency 64 --only-lines

Prints seconds, memory, and whether every id came back once. With `--concurrency` the model is a server of its own (the
stand-in of upstream_server.py), asked so many requests at once; then it is counted too how many it got. `--disk` (megabytes; Linux, root) fills a small disk with
a batch of its own, makes room again, and counts its rows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.driver import Api, jsonl
from server.remote import Remote
from upstream_server import stand_in


def lines_of(batch: int, count: int) -> list[dict]:
    return [
        {
            "custom_id": f"b{batch}-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "m",
                "messages": [{"role": "user", "content": f"row {number} of batch {batch}"}],
            },
        }
        for number in range(count)
    ]


def memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return 0.0


def patient(call):
    """Ask until the server is there again."""
    while True:
        try:
            return call()
        except (requests.RequestException, AssertionError):
            time.sleep(0.2)


def soak(lines: int, batches: int, kills: int, concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        options = ["--token", "soak", "--rate-limit", "none"]
        if not concurrency:
            options += ["--fail-share", "0.02"]
        else:
            pipe, theirs = multiprocessing.Pipe()
            model = multiprocessing.Process(target=stand_in, args=[0.0, theirs], daemon=True)
            model.start()
            stack.callback(model.terminate)
            options += ["--model", f"http://127.0.0.1:{pipe.recv()}/v1", "--concurrency", str(concurrency)]
        started = time.monotonic()
        remote = stack.enter_context(Remote(home, *options, "--fault", "create_batch:status=503,times=2"))
        api, each = Api(remote), lines // batches
        ids = []
        for number in range(batches):
            file_id = api.upload(lines_of(number, each))
            while (answer := api.post_batch(file_id, request_id=f"soak-{number}")).status_code != 201:
                time.sleep(0.05)
            ids.append(answer.json()["batch_id"])
        first = memory(remote.process.pid)
        done = {}
        most = first
        tenths: list[str] = []
        for turn in range(kills + 1):
            target = lines * (turn + 1) // (kills + 1)
            while True:
                for batch_id in ids:
                    if batch_id not in done or done[batch_id]["status"] != "completed":
                        done[batch_id] = api.batch(batch_id)
                most = max(most, memory(remote.process.pid))
                counts = [one["request_counts"] for one in done.values()]
                now = sum(one["completed"] + one["failed"] for one in counts)
                if now * 10 >= lines * (len(tenths) + 1):
                    tenths.append(f"{memory(remote.process.pid):.0f}")
                if all(one["status"] == "completed" for one in done.values()) or (
                    turn < kills and now >= target
                ):
                    break
                time.sleep(0.05)
            if turn < kills:
                remote.kill()
                remote = stack.enter_context(Remote(home, *options))
                api = Api(remote)
        took = time.monotonic() - started
        wrong = 0
        for number, batch_id in enumerate(ids):
            output, errors = api.lines(batch_id)
            seen = collections.Counter(line["custom_id"] for line in output + errors)
            wrong += seen != collections.Counter(f"b{number}-{row}" for row in range(each))
        print(
            f"{lines:,} lines in {batches} batches, {kills} kills: {took:.0f} s, {first:.0f} MB after the uploads, "
            f"{most:.0f} MB at most, {memory(remote.process.pid):.0f} MB after downloads; "
            f"batches in which not every id came once: {wrong}; MB at each tenth of the lines: {' '.join(tenths)}",
            flush=True,
        )
        if concurrency:
            pipe.send(None)
            count, rate = pipe.recv()
            print(f"asked of the model again: {count - lines:,} requests; {rate:,.0f} a second", flush=True)


def crowd() -> None:
    """Three hundred idle connections at `ulimit -n 256`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with (
        tempfile.TemporaryDirectory() as home,
        Remote(home, "--token", "soak", "--rate-limit", "none") as remote,
    ):
        resource.prlimit(remote.process.pid, resource.RLIMIT_NOFILE, (256, hard))
        api = Api(remote)
        batch_id = api.create(lines_of(0, 5000))
        host, port = remote.url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(300)]
        begun = time.monotonic()
        batch = patient(lambda: api.until(batch_id, "completed"))
        other = patient(lambda: api.until(api.create(lines_of(1, 100)), "completed"))
        print(
            f"300 idle connections, 256 descriptors: {batch['request_counts']}, a new batch {other['request_counts']}, "
            f"{time.monotonic() - begun:.1f} s",
            flush=True,
        )
        for one in idle:
            one.close()


def small_disk(megabytes: int) -> None:
    """A disk of so many megabytes gets full in the middle of a batch, and room is made."""
    with tempfile.TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], check=True)
        try:
            ballast = Path(disk, "ballast")
            ballast.write_bytes(b"0" * (megabytes * 750_000))
            with Remote(f"{disk}/home", "--token", "soak", "--rate-limit", "none") as remote:
                api = Api(remote)
                # Each answer repeats its prompt, so the results need about as much room as the input.
                count = megabytes * 160_000 // 1000
                lines = lines_of(0, count)
                for line in lines:
                    line["body"]["messages"][0]["content"] += "z" * 900
                assert len(jsonl(lines)) < megabytes * 400_000
                batch_id = api.create(lines)
                while api.call("GET", "/health").json()["status"] == "ok":
                    time.sleep(0.01)
                threading.Event().wait(2)
                before = api.batch(batch_id)
                ballast.unlink()
                batch = patient(lambda: api.until(batch_id, "completed"))
                print(
                    f"a disk of {megabytes} MB: full at {before['request_counts']}, then {batch['request_counts']}",
                    flush=True,
                )
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--disk", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=0)
    parser.add_argument("--only-lines", action="store_true")
    args = parser.parse_args()
    if args.lines:
        soak(args.lines, args.batches, args.kills, args.concurrency)
    if not args.only_lines:
        crowd()
    if args.disk:
        small_disk(args.disk)


if __name__ == "__main__":
    main()
