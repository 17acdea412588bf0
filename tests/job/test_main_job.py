"""The main job, end to end: rows in, answers back on the same rows."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from waiting import eventually

import dobatch_pandas as dobatch


@pytest.mark.parametrize("wire", ["A", "B"])
@pytest.mark.parametrize("model", ["echo", "claude-echo"])
def test_every_answer_is_on_its_row_and_every_failure_has_its_code(model, wire, serve):
    """
    1,000 real rows, results in another order, 5 % failing: nothing is on the wrong row, nothing vanishes.
    """
    server = serve(wire=wire, fail_share=0.05)
    frame = dobatch.datasets.load_reviews(1100).drop_duplicates("text").sample(1000, random_state=1)
    before = frame.copy()

    job = frame.dobatch.submit("Review: {text}", model=model, into="answer")
    frame.dobatch.update(job)

    failed = frame["answer_error"].notna()
    assert (frame.loc[~failed, "answer"] == "Review: " + frame.loc[~failed, "text"]).all()
    assert frame.loc[failed, "answer"].isna().all()
    assert 0.02 < failed.mean() < 0.10
    codes = set(frame.loc[failed, "answer_error"])
    assert codes <= {"http_429", "http_500", "http_400", "content_filter", "empty_response", "invalid_response",
                     "provider_error", "refusal"}  # fmt: skip
    assert len(codes) >= 3
    pd.testing.assert_frame_equal(frame[before.columns], before)
    assert job.counts["failed"] == failed.sum() == len(job.errors())
    assert set(server.executed.values()) == {1}


def test_join_returns_a_new_frame_and_update_changes_the_callers(server, reviews):
    """
    As the pandas methods of those names do.
    """
    job = reviews.dobatch.submit("{text}", model="echo")
    joined = reviews.dobatch.join(job)

    assert "response" not in reviews
    reviews.dobatch.update(job)
    pd.testing.assert_frame_equal(reviews, joined)


def test_equal_rows_are_sent_once(server):
    """
    A thousand times the same question costs one.
    """
    frame = pd.DataFrame({"word": ["a", "b", "a", "a"] * 250})
    answered = frame.dobatch.join(frame.dobatch.submit("Say {word}", model="echo"))

    assert list(answered["response"]) == [f"Say {word}" for word in frame["word"]]
    assert len(server.executed) == 2


def test_samples_ask_each_row_several_times(server):
    """
    Each sample is a request of its own, and has columns of its own.
    """
    frame = pd.DataFrame({"word": ["a", "b"]})
    answered = frame.dobatch.join(frame.dobatch.submit("Say {word}", model="echo", samples=3))

    assert [c for c in answered if c.startswith("response") and "error" not in c] == [
        "response",
        "response_2",
        "response_3",
    ]
    assert len(server.executed) == 6


def test_ids_of_ones_own_are_sent_as_they_are(server):
    """
    ``custom_id="column"`` keeps the user's ids, so that files carried by hand can be matched elsewhere.
    """
    frame = pd.DataFrame({"key": ["k-1", "k-2"], "word": ["a", "a"]})
    answered = frame.dobatch.join(frame.dobatch.submit("Say {word}", model="echo", custom_id="key"))

    assert set(server.executed) == {"k-1", "k-2"}
    assert list(answered["response"]) == ["Say a", "Say a"]


def test_files_can_be_carried_by_hand(server, tmp_path, reviews):
    """
    People who may not run the upload themselves write the files, and join what they get back.
    """
    plan = reviews.dobatch.plan("{text}", model="echo", into="answer")
    [path] = plan.to_jsonl(tmp_path)
    with dobatch.Client() as client:
        file_id = client.send_file(path)
        batch = client.create_batch(
            file_id, provider="openai", endpoint="/v1/chat/completions", request_id="by-hand"
        )
        eventually(lambda: client.get_batch(batch.batch_id).terminal)
        links = client.get_results(batch.batch_id)
        client.download(links.output_url, tmp_path / "output.jsonl")
    results = dobatch.read_results(tmp_path / "output.jsonl")
    joined = plan.join(results)

    assert list(joined["answer"]) == list(reviews["text"])
    reviews["id"] = plan.custom_ids
    by_column = reviews.dobatch.join(results, custom_id="id", into="answer")
    assert list(by_column["answer"]) == list(reviews["text"])


def test_a_job_is_split_over_as_many_batches_as_it_takes(server, monkeypatch):
    """
    The limits of one file never reach the user.
    """
    from dobatch_pandas.endpoints.openai import OPENAI
    from dobatch_pandas.endpoints.provider import FileLimits

    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(30, 200_000_000))
    frame = pd.DataFrame({"n": range(100)})
    job = frame.dobatch.submit("{n}", model="echo")
    answered = frame.dobatch.join(job)

    assert list(answered["response"]) == [str(n) for n in range(100)]
    assert len(job.batches) == len(server.batches) == 4


def test_embeddings_become_a_matrix(server, reviews):
    """
    One fixed-size float32 column that numpy sees without a copy.
    """
    job = reviews.dobatch.submit("{text}", model="text-embedding-3-small", into="vector", dimensions=8)
    reviews.dobatch.update(job)

    vectors = dobatch.matrix(reviews["vector"])
    assert vectors.shape == (len(reviews), 8)
    assert vectors.dtype == np.float32
    assert reviews["vector_error"].isna().all()


@pytest.mark.parametrize(
    ("model", "endpoint"), [("echo", "chat"), ("echo", "responses"), ("claude-echo", "messages")]
)
def test_a_schema_becomes_typed_columns(model, endpoint, server, reviews):
    """
    Whatever the endpoint wants a schema to look like, the columns are the same.
    """
    schema = {"label": ["pos", "neg"], "score": float, "n": int, "ok": bool, "why": str}
    reviews = reviews.drop(columns="label")
    job = reviews.dobatch.submit("{text}", model=model, endpoint=endpoint, schema=schema)
    answered = reviews.dobatch.join(job)

    assert list(answered.columns[-6:]) == ["label", "score", "n", "ok", "why", "response_error"]
    assert isinstance(answered["label"].dtype, pd.CategoricalDtype)
    assert [str(answered[c].dtype) for c in ("score", "n", "ok")] == ["Float64", "Int64", "boolean"]
    assert answered["response_error"].isna().all()


def test_wait_in_a_running_event_loop(server, reviews):
    """
    ``await job`` works where a loop runs already, as in a notebook.
    """

    async def cell():
        return await reviews.dobatch.submit("{text}", model="echo")

    # In a thread of its own: another test's browser may keep a loop in this one.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, cell()).result().status == "completed"
