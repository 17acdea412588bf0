"""A few rows asked at once, in real time."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ConnectionFailed, InputError, Unauthorized
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.problems import frame_problems
from dobatch_pandas.server.shapes import error_reply
from dobatch_pandas.service.client import Client
from dobatch_pandas.trial import run_trial

SCHEMA = {"mood": ["pos", "neg"], "score": float, "stars": int, "sure": bool, "tags": [str], "why": str}
BESIDE = ["prompt", "prompt_tokens", "completion_tokens", "seconds"]


class Stub:
    """Answers in this process, without a server."""

    def __init__(self, answer):
        self.answer, self.bodies = answer, []

    def infer(self, endpoint, body, *, provider):
        self.bodies.append(body)
        found = self.answer(body)
        if isinstance(found, Exception):
            raise found
        message = {"role": "assistant", "content": found}
        return {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "stop"}]}


def trial(frame: pd.DataFrame, prompt, client, n: int = 5, *, model: str = "echo", params=None, **options):
    """Run a trial as ``df.dobatch.trial`` does."""
    recipe = build_recipe(prompt, model=model, params=params or {}, **options)
    assert frame_problems(recipe, frame) == []
    return run_trial(frame, recipe, client, n)


@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["text", "schema"])
@pytest.mark.parametrize(
    ("model", "endpoint"), [("echo", "chat"), ("echo", "responses"), ("claude-echo", "messages")]
)
def test_a_trial_shows_what_the_batch_will_bring(server, reviews, model, endpoint, schema):
    """
    Switching to batch is changing one word: the same columns, of the same types, with the same values.
    """
    prompt = {"prompt": "Sentiment of: {text:.60}", "model": model, "endpoint": endpoint, "schema": schema}
    tried = reviews.dobatch.trial(**prompt, n=4)
    asked = reviews.head(4)
    answered = asked.dobatch.join(asked.dobatch.submit(**prompt))
    added = [name for name in answered if name not in reviews]

    assert [name for name in tried if name not in BESIDE] == added
    pd.testing.assert_frame_equal(tried[added], answered[added])
    assert tried["response_error"].isna().all()
    assert (tried["prompt"] == "Sentiment of: " + asked["text"].str.slice(0, 60)).all()
    assert (tried[["prompt_tokens", "completion_tokens"]] > 0).all(axis=None)
    assert (tried["seconds"] > 0).all()


def test_embeddings_are_vectors_in_a_trial_too(server, reviews):
    """
    One fixed-size column of float32, which numpy sees as a matrix.
    """
    tried = reviews.dobatch.trial("{text}", model="text-embedding-echo", into="vector", n=3)
    asked = reviews.head(3)
    answered = asked.dobatch.join(asked.dobatch.submit("{text}", model="text-embedding-echo", into="vector"))

    matrix = dobatch.matrix(tried["vector"])
    assert matrix.dtype == np.float32
    assert matrix.shape[0] == 3
    np.testing.assert_array_equal(matrix, dobatch.matrix(answered["vector"]))
    assert list(tried["prompt"]) == list(asked["text"])


@pytest.mark.parametrize("model", ["echo", "claude-echo"])
def test_what_is_sent_is_what_the_batch_sends(serve, model):
    """
    System text, examples, parameters and schema included, key for key.
    """
    bodies: list[dict] = []

    def remember(body, endpoint):
        bodies.append(body)
        return '{"label": "pos"}'

    serve(model=remember)
    frame = pd.DataFrame({"text": ["fine \u2028 {braces}"], "warmth": [0.5]})
    question = {
        "prompt": [{"role": "user", "content": "Example"}, {"role": "assistant", "content": "pos"},
                   {"role": "user", "content": "{text}"}],
        "model": model, "system": "Be brief.", "schema": {"label": ["pos", "neg"]},
        "temperature": dobatch.col("warmth"), "max_tokens": 50,
    }  # fmt: skip
    tried = frame.dobatch.trial(**question)
    frame.dobatch.submit(**question).wait(timeout=240)

    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert tried["label"].tolist() == ["pos"]
    assert tried["prompt"][0] == (
        "system: Be brief.\n\nuser: Example\n\nassistant: pos\n\nuser: fine \u2028 {braces}"
    )


@pytest.mark.parametrize("model", ["echo", "claude-echo"])
def test_a_row_that_fails_is_a_value_with_its_reason(serve, model):
    """
    The others have their answers; the failed one has a code, and the provider's words.
    """

    def picky(body, endpoint):
        text = body["messages"][-1]["content"]
        return error_reply(endpoint, 400, "No bees here") if "bees" in text else text.upper()

    serve(model=picky)
    frame = pd.DataFrame({"text": ["ants", "bees", "cats"]}, index=["x", "y", "y"])
    tried = frame.dobatch.trial("{text}", model=model)

    assert tried["response"].tolist()[::2] == ["ANTS", "CATS"]
    assert tried["response_error"].tolist()[1] == "http_400"
    assert tried["response"].isna().tolist() == [False, True, False]
    assert "No bees here" in tried["error_message"].iloc[1]
    assert tried.index.tolist() == ["x", "y", "y"]
    assert tried["seconds"].notna().all()


def test_an_answer_that_breaks_the_schema_is_a_failed_row(server):
    """
    As it would be in the batch; nothing raises.
    """
    frame = pd.DataFrame({"text": ["not json", '```json\n{"label": "pos"}\n```', '{"label": "so-so"}']})
    tried = trial(
        frame, "{text}", Stub(lambda body: body["messages"][0]["content"]), schema={"label": ["pos", "neg"]}
    )

    assert tried["response_error"].tolist()[0] == "invalid_json"
    assert tried["label"].tolist()[1] == "pos"
    assert tried["response_error"].tolist()[2] == "schema_mismatch"
    assert isinstance(tried["label"].dtype, pd.CategoricalDtype)


def test_a_token_that_is_refused_is_an_exception(serve):
    """
    It would be refused for every row; the message says which setting to change.
    """
    server = serve(token="right")
    frame = pd.DataFrame({"text": ["a", "b"]})

    with pytest.raises(Unauthorized):
        trial(frame, "{text}", Client("wrong", server.url))


def test_a_service_that_cannot_be_reached_is_an_exception():
    """
    No row got an answer, so there is no frame to show.
    """
    frame = pd.DataFrame({"text": ["a", "b"]})

    with pytest.raises(ConnectionFailed, match="gone"):
        trial(frame, "{text}", Stub(lambda body: ConnectionFailed("gone")))


def test_one_row_without_an_answer_does_not_take_the_others_away():
    """
    They were paid; the lost one says why.
    """
    frame = pd.DataFrame({"text": ["a", "b"]})
    tried = trial(
        frame,
        "{text}",
        Stub(lambda body: ConnectionFailed("cut off") if "b" in str(body["messages"]) else "fine"),
    )

    assert tried["response"].iloc[0] == "fine"
    assert tried["response_error"].iloc[1] == "provider_error"
    assert "cut off" in tried["error_message"].iloc[1]


def test_rows_that_would_be_skipped_are_not_asked():
    """
    A missing value with ``missing="skip"`` costs nothing here either.
    """
    client = Stub(lambda body: "fine")
    tried = trial(pd.DataFrame({"text": ["a", None, "c"]}), "{text}", client, missing="skip")

    assert len(client.bodies) == 2
    assert tried["response_error"].tolist()[1] == "missing_input"
    assert tried.isna().loc[1, ["prompt", "response", "seconds", "prompt_tokens"]].all()


def test_equal_rows_are_asked_once_and_samples_do_not_multiply():
    """
    A trial is paid at the real-time price, so it asks no more than it must.
    """
    client = Stub(lambda body: "fine")
    tried = trial(pd.DataFrame({"text": ["a", "a", "b"]}), "{text}", client, samples=3)

    assert len(client.bodies) == 2
    assert tried["response"].tolist() == ["fine"] * 3
    assert "response_2" not in tried


def test_only_the_first_rows_are_asked():
    """
    ``n`` of them; more than there are is all of them, none is a mistake.
    """
    client = Stub(lambda body: "fine")
    frame = pd.DataFrame({"text": list("abcdefgh")}, index=range(8, 0, -1))

    assert trial(frame, "{text}", client, 3).index.tolist() == [8, 7, 6]
    assert len(client.bodies) == 3
    assert len(trial(frame, "{text}", client, 100)) == 8
    with pytest.raises(InputError):
        trial(frame, "{text}", client, 0)


@pytest.mark.parametrize(
    "prompt",
    [
        lambda row: f"Say {row['text']}",
        pd.Series(["Say a", "Say b", "Say c"]),
        dobatch.col("ready"),
        [{"role": "user", "content": "Say {text}"}],
    ],
    ids=["callable", "series", "column", "messages"],
)
def test_every_kind_of_prompt_can_be_tried(prompt):
    """
    A function, ready prompts, a column of messages, a conversation.
    """
    frame = pd.DataFrame({"text": list("abc")})
    frame["ready"] = [[{"role": "user", "content": f"Say {text}"}] for text in "abc"]
    tried = trial(frame, prompt, Stub(lambda body: body["messages"][0]["content"]), 2)

    assert tried["prompt"].tolist() == tried["response"].tolist() == ["Say a", "Say b"]


def test_an_answer_called_seconds_stays_an_answer():
    """
    What was measured gives way to what was asked for.
    """
    tried = trial(pd.DataFrame({"text": ["a"]}), "{text}", Stub(lambda body: "12.5"), into="seconds")

    assert tried["seconds"].tolist() == ["12.5"]
    assert list(tried)[:3] == ["prompt", "seconds", "seconds_error"]


def test_a_few_are_asked_at_the_same_time():
    """
    Four slow answers take the time of one.
    """
    together = threading.Barrier(4, timeout=120)

    def wait(body):
        together.wait()
        return "fine"

    tried = trial(pd.DataFrame({"text": list("abcdefgh")}), "{text}", Stub(wait), 8)

    assert tried["response"].tolist() == ["fine"] * 8


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1, max_size=5))
@settings(max_examples=50)
def test_whatever_text_goes_out_comes_back(texts):
    """
    Line separators, quotes, braces and emoji included, in the prompt shown and in the answer.
    """
    tried = trial(pd.DataFrame({"text": texts}), "{text}", Stub(lambda body: body["messages"][0]["content"]))

    assert tried["prompt"].tolist() == tried["response"].tolist() == texts


def test_half_a_surrogate_pair_in_an_answer_costs_that_character_only():
    """
    JSON can carry it, and no text can hold it.
    """
    tried = trial(pd.DataFrame({"text": ["a"]}), "{text}", Stub(lambda body: "so \ud83d it is"))

    assert tried["response"].tolist() == ["so \ufffd it is"]
