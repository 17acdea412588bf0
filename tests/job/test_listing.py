"""What this home's jobs have cost, whatever has become of them."""

from __future__ import annotations

import os
import time
from html import unescape
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pytest
import result_lines as lines
from waiting import eventually

import dobatch_pandas as dobatch
from dobatch_pandas.answers.result_lines import read_lines
from dobatch_pandas.cli import main
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.job.folder import DiskFile
from dobatch_pandas.job.index import Index
from dobatch_pandas.job.process import close_home
from dobatch_pandas.job.result_files import Tally
from dobatch_pandas.server import shapes

FRAME = pd.DataFrame({"n": range(6)})
PRICES = {"paid": dobatch.Prices(input=1.0, output=2.0), "dear": dobatch.Prices(input=10.0, output=20.0)}


def ask(prompt: str = "Say {n}", frame: pd.DataFrame = FRAME, **options: Any) -> Any:
    return frame.dobatch.submit(prompt, **{"model": "paid", "into": "said", **options}).wait()


@pytest.fixture(autouse=True)
def priced(server):
    dobatch.configure(prices=PRICES)


def total() -> float:
    [each] = {round(float(dobatch.spending(by)["cost"].sum()), 12) for by in ("day", "model", "job")}
    return each


def test_nothing_was_spent_in_a_new_home():
    """
    An empty home has an empty frame, by whatever it is asked.
    """
    for by in ("day", "model", "job"):
        assert dobatch.spending(by).empty
    assert total() == 0


def test_every_way_of_asking_is_counted_once(server):
    """
    Batches, real time, what is sent again and what is asked anew, each at its own price; what is reused costs nothing.
    """
    batch = ask()
    assert total() == pytest.approx(batch.usage().cost)
    reused = ask(frame=FRAME.iloc[:3])
    assert dobatch.spending("job")["cost"][reused.id] == 0
    now = ask("Now {n}", mode="now")
    anew = ask(fresh=True)
    server.faults.fail_share = 0.5
    again = ask("Again {n}")
    server.faults.fail_share = 0.0
    again.retry(again.errors()["error_code"].unique())
    jobs = [batch, now, anew, again.wait(), ask(model="dear")]
    assert again.errors().empty
    assert total() == pytest.approx(sum(job.usage().cost for job in jobs))
    by_model = dobatch.spending("model")
    assert by_model.index.tolist() == ["dear", "paid"]
    assert by_model["requests"].tolist() == [6, 24]
    assert by_model["jobs"].tolist() == [1, 5]


def test_what_a_forgotten_job_has_cost_stays_spent(home):
    """
    Deleting a job gives no money back; the home keeps its tokens and its model, and nothing that was asked or answered.
    """
    job, free = ask("Secret {n}"), ask("Secret {n}", FRAME.iloc[:3])
    before = {by: dobatch.spending(by) for by in ("day", "model", "job")}
    free.forget()
    job.forget()
    for by, frame in before.items():
        now = dobatch.spending(by)
        assert now["cost"].sum() == frame["cost"].sum() > 0
        assert now["prompt_tokens"].sum() == frame["prompt_tokens"].sum()
    assert dobatch.jobs().empty
    assert b"Secret" not in b"".join(file.read_bytes() for file in home.glob("*.jsonl"))
    # A line that a power cut has torn, or somebody has spoiled, takes no other one along.
    with (home / "forgotten.jsonl").open("ab") as file:
        file.write(
            b'\nnull\n[1]\n{"model": "m"}\n{"id": "26-x", "of_a_later_version": 1}\n\0\xff\n{"id": "26'
        )
    other = ask("Other {n}")
    spent = total()
    other.forget()
    assert total() == spent


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_that_no_process_moves_on_says_so(cancelled, home, server, capsys):
    """
    A kernel was killed in the middle of sending: the list says that nothing more is sent, and how to go on.
    """
    server.faults.add("create_file", status=503, times=None)
    job = FRAME.dobatch.submit("Say {n}", model="paid", into="said")
    eventually(lambda: "503" in str(dobatch.jobs()["problem"][job.id]))
    close_home(home)
    if cancelled:
        (home / "jobs" / job.id / "cancel").touch()
    journal, soon = home / "jobs" / job.id / "journal.jsonl", time.time() + 3600
    os.utime(journal, (soon, soon))  # as if it were written this moment, for as long as the test takes
    assert "No process" not in str(dobatch.jobs()["problem"][job.id])  # it may be about to be taken up
    os.utime(journal, (0, 0))
    words = f"No process moves it on, and not all of it is sent: dobatch.attach('{job.id}') goes on."
    assert dobatch.jobs().loc[job.id, ["status", "problem"]].tolist() == ["paused", words]
    assert words in unescape(dobatch.jobs()._repr_html_())
    assert job.snapshot().problem == words
    assert main(["jobs"]) == 0
    typed = words.replace(f"dobatch.attach('{job.id}')", f"`dobatch watch {job.id}`")
    assert f"{job.id}: {typed}\n" in capsys.readouterr().out
    server.faults.clear()
    dobatch.attach(job.id).wait()
    assert dobatch.jobs()["problem"].isna().all()


def test_a_full_disk_is_told_in_the_list_though_nothing_can_be_written(server, monkeypatch):
    """
    Neither the job nor the list's own file can be written: ``jobs()`` says so all the same.
    """
    server.hold()
    job = FRAME.dobatch.submit("Say {n}", model="paid").sent()

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    def refused(self, work):
        raise self._told(OSError(28, "No space left on device"))

    with monkeypatch.context() as disk:
        disk.setattr(DiskFile, "append", full)
        disk.setattr(Index, "write", refused)
        server.release()
        eventually(lambda: job.snapshot().problem)
        assert "No space left" in dobatch.jobs().loc[job.id, "problem"]
    assert job.wait().status == "completed"


def test_a_price_that_nobody_knows_makes_its_sum_unknown(home):
    """
    A sum that leaves something out would be a wrong one; the price can be told later, also of a job that is gone.
    """
    ask()
    ask(model="unheard-of").forget()
    assert dobatch.spending("model")["cost"].isna().tolist() == [False, True]
    assert dobatch.spending("day")["cost"].isna().all()
    dobatch.configure(prices={**PRICES, "unheard-of": dobatch.Prices(input=1.0, output=1.0)})
    assert dobatch.spending("model")["cost"].notna().all()
    (home / "forgotten.jsonl").unlink()
    (home / "forgotten.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        dobatch.spending()


def test_a_cost_stays_what_it_was_when_prices_change(home):
    """
    What answers cost is written down with them: a terminal that knows no prices of mine, or another price list, changes nothing.
    """
    job, now = ask(), ask("Now {n}", mode="now")
    was = {id: dobatch.jobs()["cost"][id] for id in (job.id, now.id)}
    spent = total()
    assert spent > 0
    assert spent == pytest.approx(sum(was.values()))
    for prices in ({}, {"paid": dobatch.Prices(input=70.0, output=70.0)}):
        dobatch.configure(prices=prices)
        assert {id: dobatch.jobs()["cost"][id] for id in was} == was
        for each in (job, now):
            assert each.snapshot().cost == each.usage().cost == pytest.approx(was[each.id])
        assert total() == spent
    (home / "index.sqlite").unlink()
    assert total() == spent
    job.forget()
    assert total() == spent


@pytest.mark.parametrize("mode", ["batch", "now"])
def test_what_was_measured_in_part_is_one_sum_everywhere(home, mode):
    """
    My price list knew the model when the first answers came, and not when a retry's did: every view adds up the same.
    """
    job = ask("Say one two three four five six {n}", max_tokens=5, mode=mode)
    was = job.snapshot().cost
    dobatch.configure(prices={})
    assert job.retry(["length"]) == 6
    job.wait()
    assert [total(), job.snapshot().cost, job.usage().cost] == [0.0, None, None]
    assert dobatch.spending()["cost"].isna().all()
    dobatch.configure(prices={"paid": dobatch.Prices(input=1000.0, output=2000.0)})
    spent = total()
    assert spent > 100 * was
    for look in (job.snapshot().cost, job.usage().cost, dobatch.jobs()["cost"][job.id]):
        assert look == pytest.approx(spent, rel=1e-9)
    retried = job._state.parts[1]
    rate = 500.0 if mode == "batch" else 1000.0
    later = (retried.prompt_tokens + 2 * retried.completion_tokens) * rate / 1e6
    assert spent == pytest.approx(was + later)
    (home / "index.sqlite").unlink()
    job.forget()
    assert total() == pytest.approx(spent)


def test_a_service_that_tells_no_tokens_was_not_free(monkeypatch):
    """
    Answers came and nobody has said what they took: their cost is unknown in every list, and not nothing.
    """
    made = shapes.chat_body
    monkeypatch.setattr(
        shapes, "chat_body", lambda *given, **options: {**made(*given, **options), "usage": None}
    )
    job, now = ask(), ask("Now {n}", mode="now")
    for each in (job, now):
        assert [each.snapshot().cost, each.usage().cost] == [None, None]
    assert dobatch.jobs()["cost"].isna().all()
    for forgotten in (False, True):
        for by in ("day", "model", "job"):
            assert dobatch.spending(by)["cost"].isna().all()
        if not forgotten:
            job.forget()


def test_long_requests_cost_their_own_price(server):
    """
    Models that take more for long prompts do so a request: what a job has cost, and its limit, is not told from the sums.
    """
    frame = pd.DataFrame({"n": ["short", "word " * 280_000]})
    job = frame.dobatch.submit("{n}", model="gpt-5.4", max_completion_tokens=5).wait()
    assert job.usage().prompt_tokens > 272_000
    assert job.snapshot().cost == pytest.approx(job.usage().cost)
    assert job.usage().cost > 280_000 * 2.4e-6  # twice what is asked for up to 272,000
    assert dobatch.jobs()["cost"][job.id] == pytest.approx(job.usage().cost)


@pytest.mark.parametrize("mode", ["batch", "now"])
def test_writing_to_a_cache_is_paid(server, monkeypatch, mode):
    """
    Anthropic takes a quarter more for what it writes to its cache, and twice the price for an hour: that is spent, too.
    """
    made = shapes.messages_body

    def cached(*arguments: Any, **options: Any) -> dict[str, Any]:
        body = made(*arguments, **options)
        written = {"cache_creation_input_tokens": 5000, "cache_creation": {"ephemeral_1h_input_tokens": 1000}}
        return {**body, "usage": {**body["usage"], **written}}

    monkeypatch.setattr(shapes, "messages_body", cached)
    job = ask(model="claude-haiku-4-5", max_tokens=5, mode=mode)
    usage = job.usage()
    assert usage.prompt_tokens > 6 * 5000
    price = usage.price.batch if mode == "batch" else usage.price.realtime
    plain = (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / 1e6
    assert usage.cost == pytest.approx(plain + 6 * (4000 * 0.25 + 1000) * price.input / 1e6)
    assert total() == pytest.approx(usage.cost)


@pytest.mark.parametrize("kind", ["chat", "responses", "embeddings", "message"])
def test_answers_whose_tokens_nobody_has_told_are_not_free(kind):
    """
    A service that does not say what an answer took leaves its cost unknown; what it refused or never ran costs nothing.
    """
    body = getattr(lines, kind)()
    silent = {**body, "usage": None}
    whole = [
        lines.answered("a", body),
        lines.refused("b", 400),
        lines.answered("f", {}, 0),
        lines.never_run("c"),
    ]
    unsaid = [lines.answered("d", silent), lines.never_run("e", "interrupted")]
    if kind == "message":
        whole = [
            lines.result("a", message=body),
            lines.result("b", "errored", error={}),
            lines.result("c", "expired"),
        ]
        unsaid[0] = lines.result("d", message=silent)
    below = orjson.loads(orjson.dumps(whole[:1]).replace(b":11", b":-11").replace(b":3", b":-3"))
    for told, missing in ((whole, 0), (unsaid, 2), (whole + unsaid, 2), (below, 1)):
        table, *_ = read_lines(map(orjson.dumps, told))
        tally = Tally()
        tally.add(pa.Table.from_batches([table]))
        assert tally.unmetered == missing
