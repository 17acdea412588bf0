"""
A whole job against the embedded server's own time: submit to joined frame, and a minimal script's bytes in and out.

The server runs in a process of its own and echoes. The script has its files already; it uploads them, creates
the batches, waits, and downloads the results, and reads none of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import requests
from measure import main, measured

import dobatch_pandas as dobatch

PROMPT = "Review: {text}"
SERVER = """
import sys, dobatch_pandas as dobatch
with dobatch.LocalServer(rate_limit=None) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def prepare(folder: Path, rows: int) -> None:
    """Rows of some 600 characters with all that has to be escaped, and their request files."""
    target = folder / f"rows-{rows}.parquet"
    if not target.exists():
        pieces = [
            'say "no"',
            "two\nlines",
            "café 🎉",
            "a\u2028b",
            "plain words of a review",
            "tab\there",
            "back\\slash",
        ]
        texts = [" ".join(pieces[(seed * 7 + n * n) % 7] for n in range(52)) for seed in range(1000)]
        pd.DataFrame({"text": [f"{n} {texts[n % 1000]}" for n in range(rows)]}).to_parquet(target)
    requests_folder = folder / f"requests-{rows}"
    if not requests_folder.exists():
        frame = pd.read_parquet(target)
        frame.dobatch.plan(PROMPT, model="echo").to_jsonl(requests_folder)


@contextmanager
def served() -> Iterator[str]:
    """A server in a process of its own; gives its address."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def whole_job(folder: Path, rows: int) -> dict[str, Any]:
    """Submit, wait, join."""
    frame = pd.read_parquet(folder / f"rows-{rows}.parquet")
    with tempfile.TemporaryDirectory() as home, served() as url:
        dobatch.configure(base_url=url, token="local", home=home, display=False)

        def ask(some: pd.DataFrame) -> pd.DataFrame:
            return some.dobatch.join(some.dobatch.submit(PROMPT, model="echo"))

        joined, cost = measured(lambda: ask(frame), warm=lambda: ask(frame.head(5).assign(text="warm")))
        assert joined["response"].notna().all()
        return cost


def minimal_script(folder: Path, rows: int) -> dict[str, Any]:
    """The same bytes there and back, and nothing else."""
    paths = sorted((folder / f"requests-{rows}").glob("*.jsonl"))
    with tempfile.TemporaryDirectory() as target, served() as url:
        _, cost = measured(lambda: _drive(url, paths, Path(target)))
        return cost


def _drive(url: str, paths: list[Path], target: Path) -> None:
    session = requests.Session()
    session.headers["Authorization"] = "Bearer local"
    batches = []
    for path in paths:
        intent = session.post(f"{url}/v1/batches/files", json={"file_name": path.name}).json()
        with path.open("rb") as body:
            requests.put(
                intent["upload_url"], data=body, headers={"Content-Type": "application/octet-stream"}
            )
        batch = {
            "file_id": intent["file_id"],
            "provider": "openai",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "request_id": str(uuid.uuid4()),
        }
        batches.append(session.post(f"{url}/v1/batches", json=batch).json()["batch_id"])
    for batch_id in batches:
        while session.get(f"{url}/v1/batches/{batch_id}").json()["status"] != "completed":
            time.sleep(0.05)
        links = session.get(f"{url}/v1/batches/{batch_id}/results").json()
        with (
            requests.get(links["output_file_url"], stream=True) as answer,
            (target / batch_id).open("wb") as file,
        ):
            for chunk in answer.iter_content(1 << 20):
                file.write(chunk)


def finish(every: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """Say how the whole job compares."""
    return [
        f"{rows:,} rows: the whole job takes {found['whole job']['wall'] / found['minimal script']['wall']:.2f} times "
        "as long as the minimal script (target: at most 1.35)"
        for rows, found in every.items()
    ]


if __name__ == "__main__":
    main(
        __file__,
        {"whole job": whole_job, "minimal script": minimal_script},
        prepare,
        against="minimal script",
        finish=finish,
    )
