"""
How much of a model's server a batch gets, by hand: requests a second, beside a bare asyncio client (aiohttp).

    python tests/benchmarks/upstream_server.py --seconds 0 0.2 --concurrency 8 64 256

The stand-in for a model, the client and `dobatch serve` are processes of their own. The two take turns in each round, and
the ratio is the median of the rounds' ratios, so a busy machine slows both. A rate is counted by the stand-in, from
from the first request that it gets to the last. Beside it stand the microseconds of processor that each of the two
takes for a request, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.driver import CHAT, Api, chat_line
from server.remote import Remote

_ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes " * 20}}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
).encode()


def stand_in(seconds: float, pipe: Any) -> None:
    """Answers every POST after so many seconds; tells over the pipe, when asked, how many since, and their rate."""
    import httptools
    import uvloop

    times: list[float] = []
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
    reply += _ANSWER

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.parser = transport, httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            if self.parser.get_method() == b"POST":
                times.append(time.perf_counter())
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self.transport.write, reply)
            else:
                self.transport.write(reply)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        service = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
        pipe.send(service.sockets[0].getsockname()[1])

        def told() -> None:
            pipe.recv()
            pipe.send((len(times), (len(times) - 1) / (times[-1] - times[0])))
            times.clear()

        loop.add_reader(pipe.fileno(), told)
        await asyncio.Event().wait()

    uvloop.run(main())


def client(url: str, count: int, concurrency: int) -> None:
    """A bare client."""
    import aiohttp

    async def main() -> None:
        left = iter(range(count))
        connector = aiohttp.TCPConnector(limit=concurrency)

        async def work(session: aiohttp.ClientSession) -> None:
            for number in left:
                body = {"model": "m", "messages": [{"role": "user", "content": f"row {number}"}]}
                async with session.post(url + CHAT, json=body) as answer:
                    await answer.json()

        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(work(session) for _ in range(concurrency)))

    asyncio.run(main())


def compare(seconds: float, concurrency: int, count: int, rounds: int) -> None:
    """Print one line of the table."""
    pipe, theirs = multiprocessing.Pipe()
    model = multiprocessing.Process(target=stand_in, args=[seconds, theirs], daemon=True)
    model.start()
    url = f"http://127.0.0.1:{pipe.recv()}"

    def rate() -> float:
        pipe.send(None)
        return float(pipe.recv()[1])

    def processor() -> float:
        """Seconds of `dobatch serve` so far."""
        fields = Path(f"/proc/{remote.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    ours, bare = [], []
    our_time = bare_time = 0.0
    pause = threading.Event()
    options = ["--model", url + "/v1", "--concurrency", str(concurrency), "--rate-limit", "none"]
    with tempfile.TemporaryDirectory() as home, Remote(home, *options) as remote:
        api = Api(remote)
        lines = [chat_line(f"id-{number}", f"row {number}") for number in range(count)]
        api.until(api.create(lines[:concurrency]), "completed")
        rate()
        for _ in range(rounds):
            before = os.times()
            one = multiprocessing.Process(target=client, args=[url, count, concurrency])
            one.start()
            one.join()
            after = os.times()
            bare_time += sum(after[2:4]) - sum(before[2:4])
            bare.append(rate())
            file_id = api.upload(lines)
            begun = processor()
            batch_id = api.post_batch(file_id).json()["batch_id"]
            # Asking costs processor too, so it is asked seldom.
            while api.batch(batch_id)["status"] != "completed":
                pause.wait(0.2)
            our_time += processor() - begun
            assert api.batch(batch_id)["request_counts"]["completed"] == count
            ours.append(rate())
    model.terminate()
    ratio = statistics.median(mine / other for mine, other in zip(ours, bare, strict=True))
    print(
        f"{seconds:g} s, {concurrency} at once: {statistics.median(ours):,.0f}/s, aiohttp "
        f"{statistics.median(bare):,.0f}/s, ratio {ratio:.2f}; "
        f"{1e6 * our_time / count / rounds:.0f} and {1e6 * bare_time / count / rounds:.0f} us of processor",
        flush=True,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[0, 0.02, 0.2])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=float, default=3.0, help="seconds that one run may take, about")
    arguments = parser.parse_args()
    for seconds in arguments.seconds:
        for concurrency in arguments.concurrency:
            count = int(arguments.each * min(1500.0, concurrency / seconds if seconds else 1500.0))
            compare(seconds, concurrency, max(count, 2 * concurrency), arguments.rounds)


if __name__ == "__main__":
    main()
