"""One job over a Dask frame, wherever its partitions lie."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from waiting import eventually

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import BudgetExceeded, ConfigurationError, DobatchError, InputError
from dobatch_pandas.job import machine, on_worker
from dobatch_pandas.service import limiter

dask = pytest.importorskip("dask", reason="needs dobatch-pandas[dask]")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
import dobatch_pandas.dask  # noqa: E402

ROWS, DISTINCT = 400, 280


def rows(start=0, stop=ROWS, distinct=DISTINCT):
    """Rows of which some are equal, and these far from each other."""
    n = np.arange(start, stop)
    return pd.DataFrame({"n": n, "text": [f"text {one % distinct}" for one in n]}, index=n * 3)


def frame(partitions=8):
    return dd.from_pandas(rows(), npartitions=partitions, sort=True)


@pytest.fixture
def here():
    """This process computes: what does not depend on where that is, is tried here, which is quicker."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture
def small_parts(monkeypatch):
    """Batches of 50 requests at most."""
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(50, 200_000_000))


def paid(server):
    return sum(server.executed.values())


def test_equal_rows_are_asked_once_in_the_whole_frame_and_batches_are_full(cluster, server, small_parts):
    """
    However the rows are spread over partitions, each question is one request, and no batch is half empty but the last.
    """
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo", into="said").wait()
    out = ddf.dobatch.join(job).compute()

    assert (out["said"] == "Say " + out["text"]).all()
    assert out["said_error"].isna().all()
    assert paid(server) == DISTINCT
    assert sorted(batch.total for batch in server.batches) == [30] + [50] * 5
    assert job.counts == {"total": DISTINCT, "completed": DISTINCT, "failed": 0, "reused": 0, "skipped": 0}


class TasksDone(distributed.SchedulerPlugin):
    """Counts the tasks that were worked at."""

    count = 0

    def transition(self, key, start, finish, *args, **options):
        self.count += (start, finish) == ("processing", "memory")


def test_a_partition_costs_a_few_tasks(cluster, server):
    """
    Many small partitions are many tasks for the scheduler: to be asked and joined, each is no more than eight.
    """
    done = TasksDone()
    cluster.cluster.scheduler.add_plugin(done)

    def tasks(partitions):
        ddf = dd.from_map(lambda number: rows(number * 5, number * 5 + 5), range(partitions), meta=rows(0, 0))
        before = done.count
        job = ddf.dobatch.submit("Say {text}", model="echo", fresh=True).wait()
        assert sum(ddf.dobatch.join(job).map_partitions(len).compute()) == partitions * 5
        return done.count - before

    each = (tasks(48) - tasks(8)) / 40
    assert 4 <= each <= 8


def test_the_joined_frame_is_the_source_with_columns_beside_it(here, server):
    """
    Partitions, order, index, divisions and types are those of the source.
    """
    ddf = frame()
    joined = ddf.dobatch.join(ddf.dobatch.submit("Say {text}", model="echo", into="said"))
    out, source = joined.compute(), ddf.compute()

    assert joined.npartitions == ddf.npartitions
    assert joined.divisions == ddf.divisions
    assert dict(joined.dtypes) == dict(out.dtypes)
    pd.testing.assert_frame_equal(out[source.columns], source)
    one = joined.partitions[3].compute()
    pd.testing.assert_frame_equal(one, out.loc[one.index])


def test_it_is_one_job_in_the_list_and_the_same_when_asked_again(here, server):
    """
    Also where the rows are partitioned and ordered in another way.
    """
    job = frame().dobatch.submit("Say {text}", model="echo").wait()
    again = frame(3).dobatch.submit("Say {text}", model="echo")
    turned = dd.from_pandas(rows().iloc[::-1], npartitions=5, sort=False)
    other = turned.dobatch.submit("Say {text}", model="echo")

    assert isinstance(job, dobatch.Job)
    assert list(dobatch.jobs().index) == [job.id]
    assert again.id == other.id == job.id
    assert paid(server) == DISTINCT
    out = turned.dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert list(out["n"]) == list(range(ROWS))[::-1]


def test_a_partition_fetches_only_the_results_that_its_rows_need(cluster, server, small_parts):
    """
    Without a store, results are brought from the service to the worker that needs them.
    """
    ddf = dd.from_pandas(rows(distinct=ROWS), npartitions=8, sort=True)
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    joined = ddf.dobatch.join(job)
    before = list(server.calls).count("get_results")
    assert len(joined.partitions[2].compute()) == 50
    assert list(server.calls).count("get_results") - before == 1


def test_calls_of_a_joined_frame_are_counted_by_the_client(cluster, server, small_parts):
    """
    The service's limits are the cluster's: workers that bring answers make no call that the client does not count.
    """
    refused = threading.Event()

    class Limiter(limiter.Limiter):
        def wait(self, timeout=None):
            let_through = super().wait(timeout)
            if not let_through:
                refused.set()
            return let_through

    ddf = dd.from_pandas(rows(distinct=ROWS), npartitions=8, sort=True)
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    joined = ddf.dobatch.join(job)
    before = len(server.calls)
    [host] = limiter._limiters
    limiter._limiters[host] = Limiter(((3, 3600.0),))
    computed = cluster.compute(joined)
    assert refused.wait(120)
    assert [call for call in list(server.calls)[before:] if call != "download"].count("get_results") <= 3
    assert not computed.done()
    limiter._limiters[host] = counting = Limiter(((1000, 3600.0),))
    out = computed.result(timeout=120)
    assert (out["response"] == "Say " + out["text"]).all()
    assert list(server.calls)[before:].count("get_results") == 3 + len(counting._calls) == 8


def test_a_service_that_is_too_busy_is_asked_again_by_workers(cluster, server):
    """
    Told to stay away, a worker tells the client, and the answers come when they may.
    """
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    server.faults.add("get_results", status=429, times=2)
    out = ddf.dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()


def test_without_a_client_that_listens_a_worker_keeps_to_its_own_limits(cluster, server, monkeypatch):
    """
    Answers come all the same, after a while.
    """
    monkeypatch.setattr(dobatch_pandas.dask, "count_calls", lambda client: None)
    ddf = frame(2)
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    out = ddf.dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()


def test_rows_that_ask_something_else_now_have_row_changed(here, server):
    """
    A source that changed gets no answer of another question, and keeps those that are right.
    """
    job = frame().dobatch.submit("Say {text}", model="echo").wait()
    changed = rows()
    changed.loc[changed.index[:3], "text"] = ["new", "text 279", "newer"]
    out = dd.from_pandas(changed, npartitions=8, sort=True).dobatch.join(job).compute()

    assert out["response_error"].iloc[[0, 2]].tolist() == ["row_changed"] * 2
    assert out["response"].iloc[:3].isna().tolist() == [True, False, True]
    assert (out["response"] == "Say " + out["text"]).sum() == ROWS - 2


def test_rows_that_differ_each_time_are_asked_once_and_never_get_a_wrong_answer(here, server):
    """
    A graph that is not deterministic: what was asked first counts.
    """
    random = dd.from_map(_random, range(4), meta=_random(0))
    job = random.dobatch.submit("Say {text}", model="echo").wait()
    out = random.dobatch.join(job).compute()
    assert paid(server) == 40
    assert out["response_error"].eq("row_changed").all()


def _random(_):
    return pd.DataFrame({"text": [f"{one:.17g}" for one in np.random.default_rng().random(10)]})


def test_empty_partitions_and_missing_values_are_told_apart(here, server):
    """
    A filter may leave a partition without rows, and a row may have nothing to ask.
    """
    ddf = frame()
    ddf = ddf[ddf["n"] < 100]
    ddf["text"] = ddf["text"].mask(ddf["n"] == 7)
    with pytest.raises(InputError, match=r"missing|lack|null"):
        ddf.dobatch.submit("Say {text}", model="echo")
    assert not server.batches
    job = ddf.dobatch.submit("Say {text}", model="echo", missing="skip")
    out = ddf.dobatch.join(job).compute()
    assert len(out) == 100
    assert out["response_error"].dropna().to_dict() == {21: "missing_input"}


def test_what_cannot_work_is_told_at_once(here, server):
    """
    A column that is not there, prompts that a partition cannot have, ids and repeats that nobody can oversee.
    """
    for options, words in (
        ({"prompt": "{txet}"}, "Did you mean 'text'"),
        ({"prompt": pd.Series(["a"])}, "Series"),
        ({"prompt": "{text}", "custom_id": "n"}, "custom_id"),
        ({"prompt": "{text}", "dedupe": False}, "dedupe"),
    ):
        with pytest.raises(InputError, match=words):
            frame().dobatch.plan(model="echo", **options)
    with pytest.raises(InputError, match="no rows"):
        frame()[frame()["n"] < 0].dobatch.submit("{text}", model="echo")
    with pytest.raises(DobatchError, match=r"cannot be computed.*own fault"):
        frame().map_partitions(_failing, meta=rows()).dobatch.submit("{text}", model="echo")
    assert not server.calls or set(server.calls) <= {"list_batches"}


def _failing(_):
    raise ValueError("own fault")


def test_a_function_is_asked_and_joined_by_what_it_says(cluster, server):
    """
    Prompts that a function makes: on the workers, in this session and in a later one.
    """
    ddf = frame()
    job = ddf.dobatch.submit(lambda row: f"Say {row['text']}!", model="echo")
    for known in (job, dobatch.attach(job.id)):
        out = ddf.dobatch.join(known).compute()
        assert (out["response"] == "Say " + out["text"] + "!").all()
    assert paid(server) == DISTINCT


def test_typed_answers_and_samples_come_back_on_their_rows(here, serve):
    """
    A schema's fields are typed columns, each sample has its own.
    """
    serve(model=lambda body, endpoint: '{"size": "large", "many": 7}')
    ddf = frame(3)
    schema = {"size": ["small", "large"], "many": int}
    job = ddf.dobatch.submit("{text}", model="echo", schema=schema, samples=2)
    joined = ddf.dobatch.join(job)
    out = joined.compute()
    assert job.counts["total"] == 2 * DISTINCT
    assert out["size_2"].eq("large").all()
    assert out["many_2"].eq(7).all()
    assert dict(joined.dtypes) == dict(out.dtypes)


# -- one Job


def test_the_price_is_known_and_kept_to(here, serve):
    """
    `estimate` and `max_cost` are of the whole frame, equal rows once.
    """
    server = serve()
    ddf = frame()
    asked = {"model": "gpt-4.1-mini", "max_tokens": 10}
    estimate = ddf.dobatch.plan("Say {text}", **asked).estimate()
    alone = ddf.compute().dobatch.plan("Say {text}", **asked).estimate()
    for name in ("requests", "bytes", "input_tokens", "output_tokens", "batches", "rows"):
        assert getattr(estimate, name) == getattr(alone, name), name
    assert estimate.cost_batch == pytest.approx(alone.cost_batch)
    with pytest.raises(BudgetExceeded, match="Nothing was sent"):
        ddf.dobatch.submit("Say {text}", **asked, max_cost=estimate.cost_batch[1] / 3)
    assert not server.batches
    job = ddf.dobatch.submit("Say {text}", **asked, max_cost=1.0).wait()
    assert job.usage().cost < 1.0
    assert job.usage().requests == DISTINCT
    assert job.usage().prompt_tokens > 0


def test_a_price_that_is_told_later_lets_held_rows_go(here, serve):
    """
    A retry without the price of my model is held; with it, ``allow`` has the workers count, and goes on.
    """
    server = serve()
    dobatch.configure(prices={"mine": dobatch.Prices(input=1.0, output=1.0)})
    server.faults.fail_share = 1.0
    job = frame().dobatch.submit("Say {text}", model="mine", max_tokens=10, max_cost=1.0).wait()
    server.faults.fail_share = 0.0
    dobatch.configure(prices={})
    job.retry(job.errors()["error_code"].unique())
    for _ in range(2):
        with pytest.raises(BudgetExceeded, match="Give the price of the model"):
            job.wait()
        job.allow(2.0)
    dobatch.configure(prices={"mine": dobatch.Prices(input=1.0, output=1.0)})
    job.allow(1e-9)
    with pytest.raises(BudgetExceeded, match="it may cost"):
        job.wait()
    assert job.allow(1.0).wait().counts["completed"] == DISTINCT


def test_failures_are_told_and_only_they_are_sent_again(cluster, serve, unlucky, small_parts):
    """
    `errors` has each failed request, `retry` sends them again from whatever worker has their rows.
    """
    server = serve(model=unlucky)
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    errors = job.errors()
    assert len(errors) == 28
    assert job.counts["failed"] == 28
    assert len(job.responses()) == DISTINCT
    with pytest.raises(InputError, match="preview"):
        job.requests(errors["custom_id"])
    failing = ddf.dobatch.join(job).compute()
    assert failing["response_error"].notna().sum() == sum(
        str(n % DISTINCT).endswith("7") for n in range(ROWS)
    )
    unlucky.lucky = True
    before = paid(server)
    job = dobatch.attach(job.id)
    assert job.retry(codes=set(errors["error_code"])) == 28
    job.wait()
    assert paid(server) - before == 28
    assert job.errors().empty
    out = ddf.dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()


def test_a_retry_that_nobody_looked_before_sends_what_failed_alone(here, serve, unlucky, small_parts):
    """
    Whoever retries as soon as it is over, and has read no answer, pays for what failed and for nothing that has an answer.
    """
    server = serve(model=unlucky)
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo").wait()
    codes = {group.code for group in job.snapshot().errors}
    unlucky.lucky = True
    before = paid(server)
    assert job.retry(codes={*codes, "missing_result"}) == 28
    job.wait()
    assert paid(server) - before == 28
    out = ddf.dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()


def test_results_that_come_late_or_are_damaged_here_are_shown(here, server, small_parts, monkeypatch):
    """
    What was brought to this machine is never more than a copy: of results that were given up and come after all, and of a file
    that is broken, the answers are brought again.
    """
    monkeypatch.setattr(machine, "FEW", 0.2)
    server.faults.add("get_results", status=410, times=None)
    job = frame().dobatch.submit("Say {text}", model="echo").wait()
    assert set(job.responses(wait=False)["error_code"]) == {"missing_result"}
    server.faults.clear()
    assert job.responses()["error_code"].isna().all()
    copy = job._folder.result(0)
    copy.write_bytes(copy.read_bytes()[:100])
    assert job.responses()["text"].notna().sum() == DISTINCT
    assert paid(server) == DISTINCT


def test_cancel_ends_it_and_rows_say_so(here, serve):
    """
    What was answered stays; the rest has the code cancelled.
    """
    serve().hold(after=10)
    ddf = frame()
    job = ddf.dobatch.submit("Say {text}", model="echo")
    eventually(lambda: len(job.batches) and job.batches["batch_id"].notna().any())
    job.cancel().wait()
    out = ddf.dobatch.join(job).compute()
    assert job.status == "cancelled"
    assert set(out["response_error"].dropna()) == {"cancelled"}


def test_answers_can_be_joined_to_pandas_too_and_rows_live_in_the_dask_frame(here, server):
    """
    A row is known by what it asks, in whatever frame it stands.
    """
    job = frame().dobatch.submit("Say {text}", model="echo").wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = rows(0, 30).dobatch.join(job)
    assert (out["response"] == "Say " + out["text"]).all()
    with pytest.raises(InputError, match=r"ddf.dobatch.join"):
        job.result()
    plain = rows(0, 5).dobatch.submit("Say {text}", model="echo").wait()
    with pytest.raises(InputError, match="not submitted from a Dask frame"):
        frame().dobatch.join(plain)


# -- workers that cannot work


def test_a_worker_without_a_token_is_told_before_anything_is_sent(server, start_workers):
    """
    The token is in each worker's environment, or nothing is sent; no token travels.
    """
    with (
        start_workers(1, DIGITALOCEAN_TOKEN=""),
        pytest.raises(ConfigurationError, match=r"tcp://.*has no token.*DIGITALOCEAN_TOKEN"),
    ):
        frame().dobatch.submit("Say {text}", model="echo")
    assert not server.calls


def test_a_worker_of_another_version_or_account_is_told(cluster, server, monkeypatch):
    """
    Both would only show when batches are refused.
    """
    with monkeypatch.context() as patch:
        patch.setattr(on_worker, "_version", lambda: "99.1")
        with pytest.raises(ConfigurationError, match=r"runs dobatch_pandas .*the client 99.1"):
            frame().dobatch.submit("Say {text}", model="echo")
    dobatch.configure(token="another")
    with pytest.raises(ConfigurationError, match="another token"):
        frame().dobatch.submit("Say {text}", model="echo")
    assert not [call for call in server.calls if call != "list_batches"]
