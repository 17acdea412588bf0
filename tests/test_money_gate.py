"""Whichever door a question comes through, no more is spent than was allowed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.cli import main
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import BudgetExceeded
from dobatch_pandas.job.budget import bounds_of, most_of
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


@pytest.mark.parametrize(
    ("endpoint", "model", "limit"),
    [
        ("chat", "gpt-4.1-mini", "max_tokens"),
        ("chat", "o3", "max_completion_tokens"),
        ("chat", "openai-gpt-5-mini", "max_completion_tokens"),
        ("responses", "gpt-5", "max_output_tokens"),
    ],
)
def test_the_limit_that_is_asked_for_is_one_that_is_taken(server, endpoint, model, limit):
    """
    Who is told to limit the answers types what the message says, and it goes through: no second error renames it.
    """
    dobatch.configure(prices={model: dobatch.Prices(input=1.0, output=2.0)})
    asked = {"model": model, "endpoint": endpoint, "max_cost": 1.0, "display": False}
    with pytest.raises(BudgetExceeded, match=f"Limit the answers with {limit}, or") as told:
        FRAME.dobatch.submit("Say {n}", **asked)
    named = str(told.value).split("Limit the answers with ")[1].split(",")[0]
    assert (
        f"as long as {named} allows"
        in FRAME.dobatch.plan("Say {n}", model=model, endpoint=endpoint, **{named: 5}).estimate().summary()
    )
    FRAME.dobatch.submit("Say {n}", **asked, **{named: 5}).wait()


def test_what_nobody_can_count_is_not_sent_within_a_limit(server):
    """
    An image has as many tokens as the provider says, afterwards: with ``max_cost``, nothing of the kind is sent.
    """
    dobatch.configure(prices=PRICES)
    image = {"type": "image_url", "image_url": {"url": "https://example.org/{n}.png"}}
    prompt = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    options = {"model": "paid", "max_tokens": 5}
    with pytest.raises(BudgetExceeded, match="a part of the type image_url"):
        FRAME.dobatch.submit(prompt, max_cost=100.0, **options)
    with pytest.raises(BudgetExceeded, match="a part of the type image_url"):
        FRAME.dobatch.trial(prompt, n=2, max_cost=100.0, **options)
    assert not server.executed
    found = FRAME.dobatch.plan(prompt, **options).estimate()
    assert found.cost_batch[1] is None
    assert "No upper bound: how many tokens a part of the type image_url has" in found.summary()
    assert "What is priced is the text alone" in found.summary()


def test_what_was_spent_counts_when_it_is_asked_again(server, home):
    """
    A retry is held where the answers so far and the next ones together may be too dear, also in a later process and as
    often as it is asked for; more is allowed by `allow`, and only by that.
    """
    dobatch.configure(prices=PRICES)
    plan = FRAME.dobatch.plan("Say one two three four five six {n}", model="paid", into="said", max_tokens=5)
    _, most = most_of(plan.recipe, frozen(plan.recipe, FRAME)).cost_batch
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
    # Nothing is sent again; a retry would keep to it.
    assert FRAME.dobatch.submit("Say {n}", max_cost=1e-9, **options).id == job.id


@pytest.fixture
def failed(server, monkeypatch):
    """Make a job of four parts of which every request has failed, and the most that each part may cost."""
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(2, 200_000_000))
    dobatch.configure(prices=PRICES)

    def make(max_cost: float | None) -> tuple[Any, float]:
        server.faults.fail_share = 1.0
        options = {} if max_cost is None else {"max_cost": max_cost}
        job = FRAME.dobatch.submit("Say {n}", model="paid", into="said", max_tokens=500, **options).wait()
        server.faults.fail_share = 0.0
        assert len(job.snapshot().batches) == 4
        [most, _] = bounds_of(job._folder.part(0), "paid", "openai", job._record.endpoint)
        return job, most

    return make


def again(job: Any, server: Any) -> int:
    """Retry all that failed, as far as it is let, and return how many requests went out."""
    before = sum(server.executed.values())
    job.retry(job.errors()["error_code"].unique())
    with pytest.raises(BudgetExceeded):
        job.wait()
    return sum(server.executed.values()) - before


def again_held(job: Any, server: Any) -> int:
    """Wait for a job that is held, and return how many requests went out."""
    before = sum(server.executed.values())
    with pytest.raises(BudgetExceeded):
        job.wait()
    return sum(server.executed.values()) - before


@pytest.mark.parametrize("limit", [True, "1", float("nan"), -1, 10**400, [1]])
def test_what_is_no_sum_of_money_is_told(server, limit):
    """
    ``max_cost`` takes dollars, at submit and at allow; anything else changes nothing.
    """
    dobatch.configure(prices=PRICES)
    options: Options = {"model": "paid", "into": "said", "max_tokens": 5}
    with pytest.raises(dobatch.errors.InputError, match="takes US dollars"):
        FRAME.dobatch.submit("Say {n}", max_cost=limit, **options)
    job = FRAME.dobatch.submit("Say {n}", max_cost=1.0, **options)
    with pytest.raises(dobatch.errors.InputError, match="takes US dollars"):
        job.allow(limit)
    assert job.wait()._state.max_cost == 1.0


@pytest.mark.parametrize(
    "limit", [np.float64(1), np.float32(1), np.int64(1), Decimal("1"), Fraction(1), 1], ids=repr
)
@pytest.mark.parametrize(
    "door", [submit, fresh, plan, dataset, trial, magic, judge], ids=lambda door: door.__name__
)
def test_a_limit_may_be_a_number_of_any_kind(server, tmp_path, door, limit):
    """
    A sum that comes out of a frame, or a Decimal, is money like any other, at every door.
    """
    dobatch.configure(prices=PRICES)
    door(FRAME, {"model": "paid", "max_tokens": 5, "max_cost": limit}, tmp_path=tmp_path)
    assert door is trial or sum(server.executed.values()) == len(FRAME)
    for row in dobatch.jobs().index:
        job = dobatch.attach(row).allow(limit)
        assert job._state.max_cost == 1.0


def test_parts_go_out_one_by_one_as_far_as_the_limit_reaches(server, failed):
    """
    ``job.allow`` up, down, away and back: what is below the limit goes out, no part beyond it.
    """
    job, most = failed(1.0)
    job.allow(0.9 * most)
    assert again(job, server) == 0
    for limit in (0.5 * most, 0.0001 * most, 0.9 * most):
        job.allow(limit)
        with pytest.raises(BudgetExceeded, match=r"job\.allow"):
            job.wait()
    job.allow(1.1 * most)
    job.wait()  # each part costs a small share of what it might have
    job.allow(None)
    assert job.usage().cost < 1.1 * most


def test_a_job_that_a_fault_of_ours_has_stopped_takes_a_limit(server, home, failed):
    """
    ``allow`` is heard, and takes the job up again.
    """
    job, most = failed(1.0)
    job.allow(0.9 * most)
    assert again(job, server) == 0
    job._live.broken = "a fault"
    job.allow(1.0)
    assert job.wait().errors().empty


@pytest.mark.parametrize("first", [1.0, None])
def test_a_limit_that_was_taken_away_or_never_given_counts_what_was_spent_without(server, failed, first):
    """
    A job that is over has a cost, whether or not it had a limit: one that comes later counts it, and holds what is next.
    """
    job, most = failed(first)
    job.allow(None)
    server.faults.fail_share = 0.5
    job.retry(job.errors()["error_code"].unique())
    job.wait()
    spent = job.usage().cost
    assert spent > 0
    server.faults.fail_share = 0.0
    job.allow(spent + 0.4 * most)  # a request alone may cost half of it
    assert again(job, server) == 0
    job.allow(spent + 4 * most)
    assert job.wait().errors().empty


def test_who_submits_again_with_another_limit_decides(server, home, failed):
    """
    The last limit that was given holds, also where the job had none or another one, and before anything more is sent.
    """
    for first in (None, 1.0):
        job, most = failed(first)
        if first is not None:
            job.allow(2.0)
        for limit in (1.0, 0.9 * most):
            assert (
                FRAME.dobatch.submit("Say {n}", model="paid", into="said", max_tokens=500, max_cost=limit).id
                == job.id
            )
        assert again(job, server) == 0
        job.cancel()
        job.wait()
        job.forget()


def test_a_lower_limit_holds_before_a_job_goes_on(server, home, monkeypatch):
    """
    The cell is run again with less in a new kernel: what the old one had not sent is not sent on the way.
    """
    dobatch.configure(prices=PRICES)
    limits = []
    monkeypatch.setattr(dobatch.Job, "resume", lambda job, **_: limits.append(job._folder.state().max_cost))
    for limit in (1.0, 1e-9):
        FRAME.dobatch.submit("Say {n}", model="paid", into="said", max_tokens=5, max_cost=limit)
    assert limits == [1.0, 1e-9]


@pytest.mark.parametrize("door", ["allow", "submit", "command"])
def test_a_limit_reaches_the_process_that_moves_the_job(server, home, failed, door):
    """
    ``allow`` in a terminal, or the cell run again in another kernel with more: the kernel that holds the job goes on.
    """
    job, most = failed(1.0)
    job.allow(0.9 * most)
    assert again(job, server) == 0
    script = f"""
import importlib, pandas as pd, dobatch_pandas as dobatch
from dobatch_pandas.cli import main
importlib.import_module("dobatch_pandas.job.job").TAKEN_IN = 240.0
dobatch.configure(
    base_url={server.url!r}, token={server.token!r}, home={str(home)!r}, display=False,
    prices={{"paid": dobatch.Prices(input=1.0, output=1.0)}},
)
door = {door!r}
if door == "allow":
    dobatch.attach({job.id!r}).allow(1.0)
elif door == "command":
    main(["allow", {job.id!r}, "1.0", "--no-wait"])
else:
    frame = pd.DataFrame({FRAME.to_dict("list")!r})
    assert frame.dobatch.submit("Say {{n}}", model="paid", into="said", max_tokens=500, max_cost=1.0).id == {job.id!r}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
    assert job._state.max_cost == 1.0  # it held before the other process went on
    assert job.wait().errors().empty
    assert not job._folder.limit_waits


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_price_that_is_told_later_lets_a_held_job_go_on(server, home, failed, elsewhere):
    """
    A terminal that knew no price of my model has retried the job, which is held for that: with the price, ``allow`` counts
    what is left, and lets go what the limit bears, from whatever process.
    """
    job, most = failed(1.0)
    dobatch.configure(prices={})
    assert again(job, server) == 0
    assert "Give the price of the model with dobatch.configure(prices=...)" in job.snapshot().problem
    job.allow(2.0)
    assert again_held(job, server) == 0
    if elsewhere:
        script = f"""
import importlib, dobatch_pandas as dobatch
importlib.import_module("dobatch_pandas.job.job").TAKEN_IN = 240.0
dobatch.configure(
    base_url={server.url!r}, token={server.token!r}, home={str(home)!r}, display=False,
    prices={{"paid": dobatch.Prices(input=1.0, output=1.0)}},
)
dobatch.attach({job.id!r}).allow({0.5 * most})
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
        assert again_held(job, server) == 0
        subprocess.run(
            [sys.executable, "-c", script.replace(str(0.5 * most), "1.0")], check=True, timeout=240
        )
    else:
        dobatch.configure(prices=PRICES)
        job.allow(0.5 * most)
        assert again_held(job, server) == 0
        job.allow(1.0)
    assert job.wait().errors().empty
    assert sum(server.executed.values()) == 2 * len(FRAME)


def test_a_limit_that_its_process_does_not_take_in_waits_for_the_next(server, home, failed, monkeypatch):
    """
    Where the process that holds the job stands still, ``allow`` says so; whoever moves the job on next keeps to it.
    """
    job, most = failed(1.0)
    monkeypatch.setattr("dobatch_pandas.job.job.TAKEN_IN", 0.0)
    close_home(home)  # this process lets go of it
    lock = job._folder.try_lock()
    with pytest.raises(dobatch.errors.JobNotReady, match="has not taken in"):
        job.allow(0.9 * most)
    lock.release()
    assert again(dobatch.attach(job.id), server) == 0
    assert dobatch.attach(job.id)._state.max_cost == 0.9 * most


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
