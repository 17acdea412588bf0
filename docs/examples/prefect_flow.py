"""Ask for every row of a table; between two looks there is no process."""

import os

import pandas as pd
from prefect import flow, task

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ConnectionFailed


class NotYet(Exception):
    """The job goes on at the service."""


def worth_another_look(task, run, state):
    """Waiting mends these; what it does not mend fails at once."""
    return isinstance(state.result(raise_on_failure=False), (NotYet, ConnectionFailed))


@task(
    retries=150,
    retry_delay_seconds=float(os.environ.get("LOOK_EVERY", "600")),
    retry_condition_fn=worth_another_look,
)
def answers(table: str, model: str) -> pd.DataFrame:
    rows = pd.read_csv(table)
    job = rows.dobatch.submit("Sentiment of: {text}", model=model, into="sentiment", display=False)
    if not job.advance().snapshot().over:
        raise NotYet(f"job {job.id} is {job.status}")
    return rows.dobatch.join(job)


@flow
def nightly(table: str, model: str = "gpt-4.1-mini", out: str = "answers.csv") -> None:
    answers(table, model).to_csv(out, index=False)
    print(f"{out} is written; {dobatch.jobs().shape[0]} jobs so far")


if __name__ == "__main__":
    nightly("reviews.csv")
