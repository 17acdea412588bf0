"""What people type, for a type checker: `mypy` reads this file, nothing runs it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import dobatch_pandas as dobatch


def ask(frame: pd.DataFrame) -> pd.DataFrame:
    """A plan, a job and its answers."""
    rows = dobatch.DobatchAccessor(frame)
    plan: dobatch.Plan = rows.plan("Say {text}", model="gpt-4.1-mini", temperature=0, max_tokens=5)
    shown: pd.DataFrame = plan.preview(3)
    ids: pd.Series = plan.custom_ids
    dollars: tuple[float, float | None] | None = plan.estimate().cost_batch
    files: list[Path] = plan.to_jsonl("requests")
    print(shown, ids, dollars, files)
    job: dobatch.Job = plan.submit(max_cost=1.0)
    job = rows.submit("Say {text}", model="gpt-4.1-mini", into="said", fresh=True, display=False)
    tried: pd.DataFrame = rows.trial("Say {text}", model="gpt-4.1-mini", n=3)
    rows.update(job)
    print(tried, job.wait(timeout=5.0).status, job.retry())
    return rows.join(job)


async def wait(job_id: str) -> pd.DataFrame:
    """A job is awaited as well."""
    job = await dobatch.attach(job_id)
    counts: dict[str, int] = job.counts
    print(counts, job.id, dobatch.jobs())
    return job.result()


def files() -> dobatch.Job:
    """Files that need not fit into memory."""
    return dobatch.submit_dataset(Path("in"), "Say {text}", model="gpt-4.1-mini", output="out")


def settings() -> None:
    """A server of one's own, and what is asked of it."""
    with dobatch.LocalServer() as server:
        dobatch.configure(base_url=server.url, token=server.token, display=False)
        dobatch.configure(prices={"mine": dobatch.Prices(input=1.0, output=2.0)})
    try:
        dobatch.attach("none")
    except dobatch.errors.JobNotFound as error:
        caught: dobatch.DobatchError = error
        print(caught)
