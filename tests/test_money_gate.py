"""Whichever door a question comes through, no more is spent than was allowed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.cli import main
from dobatch_pandas.errors import BudgetExceeded
from dobatch_pandas.job.budget import most_of
from dobatch_pandas.job.process import close_home
from dobatch_pandas.questions.freeze import freeze as frozen

FRAME = pd.DataFrame({"n": range(8), "question": ["q"] * 8, "answer": [f"answer {n}" for n in range(8)]})
PRICES = {"paid": dobatch.Prices(input=1.0, output=1.0)}
Options = dict[str, Any]


def submit(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    return frame.dobatch.submit("Say {n}", into="said", **options).wait()


def fresh(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    return frame.dobatch.submit("Say {n}", into="said", fresh=True, **options).wait()


def plan(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    cap = options.pop("max_cost")
    return frame.dobatch.plan("Say {n}", into="said", **options).submit(max_cost=cap).wait()


def dataset(frame: pd.DataFrame, options: Options, tmp_path: Any) -> Any:
    frame.to_parquet(tmp_path / "in.parquet")
    return dobatch.submit_dataset(
        tmp_path / "in.parquet", "Say {n}", output=tmp_path / "out", **options
    ).wait()


def judge(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    return frame.dobatch.judge("question", "It is right.", **options).wait()


def trial(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    return frame.dobatch.trial("Say {n}", n=8, **options)


def magic(frame: pd.DataFrame, options: Options, **_: Any) -> Any:
    from IPython.core.error import UsageError
    from IPython.core.interactiveshell import InteractiveShell

    from dobatch_pandas.magics import run_magic

    shell = InteractiveShell()
    shell.user_ns["frame"] = frame.copy()
    try:
        run_magic(shell, " ".join(["frame", *words(options)]), "Say {n}")
    except UsageError as error:
        raise BudgetExceeded(str(error)) from error
    for job_id in dobatch.jobs().index:
        dobatch.attach(job_id).wait()


def command(frame: pd.DataFrame, options: Options, tmp_path: Any) -> Any:
    frame.to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / "out.csv"
    arguments = ["run", str(tmp_path / "in.csv"), "--prompt", "Say {n}", "--out", str(out), *words(options)]
    if main(arguments):
        raise BudgetExceeded("the command says so")


def words(options: Options) -> list[str]:
    """Options as they are typed after a command."""
    found = ["--model", str(options["model"]), "--max-cost", str(options["max_cost"])]
    return [*found, "--param", f"max_tokens={options['max_tokens']}"] if "max_tokens" in options else found


DOORS = [submit, fresh, plan, dataset, judge, trial, magic, command]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "options",
    [
        {"model": "paid", "max_tokens": 5, "max_cost": 1e-9},
        {"model": "unheard-of", "max_tokens": 5, "max_cost": 100.0},
        {"model": "paid", "max_cost": 100.0},
    ],
    ids=["too little", "a price nobody knows", "answers of any length"],
)
def test_no_door_sends_what_may_cost_more(server, tmp_path, door, options):
    """
    ``max_cost`` refuses before anything is sent: where it is too little, and where nobody can say what it will be.
    """
    dobatch.configure(prices=PRICES)
    with pytest.raises(BudgetExceeded):
        door(FRAME, dict(options), tmp_path=tmp_path)
    assert not server.executed


@pytest.mark.parametrize("door", DOORS)
def test_every_door_sends_what_may_be_spent(server, tmp_path, door):
    """
    The same with enough goes through.
    """
    dobatch.configure(prices=PRICES)
    door(FRAME, {"model": "paid", "max_tokens": 500, "max_cost": 10.0}, tmp_path=tmp_path)
    assert sum(server.executed.values()) >= (0 if door is trial else len(FRAME))


def test_what_was_spent_counts_when_it_is_asked_again(server, home):
    """
    A retry is held where the answers so far and the next ones together may be too dear, also in a later process and as
    often as it is asked for; more is allowed by `allow`, and only by that.
    """
    dobatch.configure(prices=PRICES)
    plan = FRAME.dobatch.plan("Say one two three four five six {n}", model="paid", into="said", max_tokens=5)
    _, most = most_of(plan.recipe, frozen(plan.recipe, FRAME))
    job = plan.submit(max_cost=most * 1.2).wait()
    assert set(job.errors()["error_code"]) == {"length"}
    job.retry()
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            job.wait()
        assert sum(server.executed.values()) == len(FRAME)
        close_home(home)
        job = dobatch.attach(job.id)
    job.allow(max_cost=most * 4)
    job.wait()
    assert sum(server.executed.values()) == 2 * len(FRAME)


def test_a_limit_given_to_a_job_without_one_is_not_passed_over(server):
    """
    The same question is running already, without a limit: who submits it again with one is told that it does not hold.
    """
    dobatch.configure(prices=PRICES)
    server.hold()
    options: Options = {"model": "paid", "into": "said", "max_tokens": 5}
    job = FRAME.dobatch.submit("Say {n}", **options)
    with pytest.raises(dobatch.errors.InputError, match="without max_cost"):
        FRAME.dobatch.submit("Say {n}", max_cost=1e-9, **options)
    server.release()
    job.wait()
    # Nothing is sent again: the limit has nothing to hold.
    assert FRAME.dobatch.submit("Say {n}", max_cost=1e-9, **options).id == job.id


def test_two_processes_at_once_spend_what_one_may(server, home):
    """
    Two kernels that run the same cell have one job, and one budget.
    """
    dobatch.configure(prices=PRICES)
    script = textwrap.dedent(
        f"""
        import pandas as pd, dobatch_pandas as dobatch
        dobatch.configure(base_url={server.url!r}, token={server.token!r}, home={str(home)!r}, display=False,
                          prices={{"paid": dobatch.Prices(input=1.0, output=1.0)}})
        frame = pd.DataFrame({{"n": range(8)}})
        frame.dobatch.submit("Say {{n}}", model="paid", into="said", max_tokens=5, max_cost=1.0).wait()
        """
    )
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [one.wait(timeout=240) for one in running] == [0, 0]
    assert sum(server.executed.values()) == 8
    assert len(dobatch.jobs()) == 1
