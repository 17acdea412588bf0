"""The real small models, where their weights are on this machine."""

from __future__ import annotations

import orjson
import pytest
from server import schemas
from server.driver import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, chat_line, message_line
from server.schemas import check

from dobatch_pandas.errors import DobatchError, MissingExtra, ServerProblem
from dobatch_pandas.server import LocalServer, weights

pytestmark = pytest.mark.model

LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["positive", "negative"]}},
    "required": ["label"],
    "additionalProperties": False,
}
REVIEWS = [
    "A wonderful film, I loved it",
    "Dreadful. I walked out.",
    "The best evening in years",
    "Boring and bad",
]


def _ask(review):
    return f'What is the sentiment of this review, positive or negative?\n\n"{review}"'


def _skip_without(model, *libraries):
    for library in libraries:
        pytest.importorskip(library, reason=f"{library} is not installed")
    try:
        weights.find(model)
    except ServerProblem as problem:
        pytest.skip(str(problem))


def _llama_cpp(*, parallel, embedding=False):
    """llama.cpp's own server, on a port of its own."""
    _skip_without("smollm2", "xllamacpp")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights.find("smollm2")[0])
    params.n_parallel, params.n_ctx, params.port = parallel, 1024 * parallel, 0
    params.verbosity, params.ui, params.embedding = -1, False, embedding
    # Several threads wait for each other, which takes minutes where the cores are shared.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if embedding:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


@pytest.fixture(scope="module")
def smollm():
    """One server with the small language model for all tests of this file."""
    from server.driver import Api

    _skip_without("smollm2", "xllamacpp")
    with LocalServer("smollm2", rate_limit=None) as server:
        yield Api(server)


def test_a_batch_of_chat_runs_on_a_real_model(smollm):
    """
    Plain text answers, with its own token counts.
    """
    batch_id = smollm.create(
        [chat_line(f"r{n}", _ask(text), max_tokens=20) for n, text in enumerate(REVIEWS)]
    )
    assert smollm.until(batch_id, "completed")["request_counts"]["completed"] == 4
    output, _ = smollm.lines(batch_id)
    for line in output:
        check(line["response"]["body"], schemas.CHAT)
        assert line["response"]["body"]["choices"][0]["message"]["content"]
        assert 0 < line["response"]["body"]["usage"]["completion_tokens"] <= 20


def test_a_schema_is_kept_by_a_real_model(smollm):
    """
    Chat, responses and messages answer one of the labels, and nothing else.
    """
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": LABEL}}
    options = {"response_format": form, "max_tokens": 30, "temperature": 0}
    lines = [chat_line(f"r{n}", _ask(text), **options) for n, text in enumerate(REVIEWS)]
    batch_id = smollm.create(lines)
    smollm.until(batch_id, "completed")
    output, _ = smollm.lines(batch_id)
    labels = {"positive", "negative"}
    import orjson

    for line in output:
        choice, usage = line["response"]["body"]["choices"][0], line["response"]["body"]["usage"]
        assert orjson.loads(choice["message"]["content"])["label"] in labels
        # The white space that a model may go on with after the JSON must not use up the limit.
        assert choice["finish_reason"] == "stop"
        assert 20 < usage["prompt_tokens"] < 60
        assert 5 < usage["completion_tokens"] < 30
    body = {
        "model": "m",
        "input": _ask(REVIEWS[0]),
        "text": {"format": {"type": "json_schema", "name": "a", "schema": LABEL}},
    }
    text = smollm.call("POST", RESPONSES, json=body).json()["output"][1]["content"][0]["text"]
    assert orjson.loads(text)["label"] in labels
    forced = {"tools": [{"name": "a", "input_schema": LABEL}], "tool_choice": {"type": "tool", "name": "a"}}
    batch_id = smollm.create([message_line("m", _ask(REVIEWS[0]), **forced)], "anthropic")
    smollm.until(batch_id, "completed")
    (line,), _ = smollm.lines(batch_id)
    assert line["result"]["message"]["content"][0]["input"]["label"] in labels


def test_a_prompt_beyond_the_context_fails_alone(smollm):
    """
    400 with the numbers, in the provider's shape.
    """
    turns = [{"role": "user", "content": "word " * 5000}]
    for endpoint in (CHAT, MESSAGES):
        answer = smollm.call("POST", endpoint, json={"model": "m", "max_tokens": 5, "messages": turns})
        assert answer.status_code == 400
        assert "context" in answer.json()["error"]["message"]


def test_real_embeddings_put_like_to_like(serve):
    """
    384 dimensions, unit length, meaning.
    """
    _skip_without("minilm", "onnxruntime", "tokenizers")
    api = serve("minilm")
    texts = ["The film was wonderful", "I loved this movie", "The tax office is closed on Monday"]
    lines = [
        {"custom_id": f"e{n}", "method": "POST", "url": EMBEDDINGS, "body": {"model": "m", "input": text}}
        for n, text in enumerate(texts)
    ]
    batch_id = api.create(lines, endpoint=EMBEDDINGS)
    api.until(batch_id, "completed")
    output, _ = api.lines(batch_id)
    vectors = {line["custom_id"]: line["response"]["body"]["data"][0]["embedding"] for line in output}
    assert {len(vector) for vector in vectors.values()} == {384}

    def near(one, other):
        return sum(x * y for x, y in zip(vectors[one], vectors[other], strict=True))

    assert near("e0", "e0") == pytest.approx(1)
    assert near("e0", "e1") > near("e0", "e2") + 0.2
    assert (
        api.call(
            "POST", CHAT, json={"model": "m", "messages": [{"role": "user", "content": "x"}]}
        ).status_code
        == 400
    )


@pytest.mark.parametrize("model", ["smollm2", "minilm"])
def test_missing_weights_name_the_command(monkeypatch, tmp_path, model):
    """
    One clear error, before the server starts.
    """
    monkeypatch.setattr(weights, "_folders", lambda: [tmp_path])
    with pytest.raises(DobatchError) as caught:
        LocalServer(model).start()
    assert isinstance(caught.value, MissingExtra) or "dobatch fetch-model" in str(caught.value)


def test_llama_cpps_own_server_is_the_model(serve):
    """
    Behind its address, as one runs it on one's own machine: batches of each endpoint, streams, and what it lacks.
    """
    llama = _llama_cpp(parallel=4)
    api = serve(f"{llama.listening_address}/v1", concurrency=4)
    (shown,) = api.server.look().result(300)
    assert all(endpoint in shown for endpoint in (CHAT, RESPONSES, MESSAGES))
    assert EMBEDDINGS not in shown
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": LABEL}}
    asked = [
        chat_line(f"r{n}", _ask(one), max_tokens=30, response_format=schema) for n, one in enumerate(REVIEWS)
    ]
    batch_id = api.create(asked)
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 4
    for line in api.lines(batch_id)[0]:
        text = line["response"]["body"]["choices"][0]["message"]["content"]
        assert orjson.loads(text)["label"] in LABEL["properties"]["label"]["enum"]
    batch_id = api.create([message_line("m", "Say hello", max_tokens=5)], "anthropic")
    api.until(batch_id, "completed")
    check(api.lines(batch_id)[0][0], schemas.ANTHROPIC_LINE)
    turns = [{"role": "user", "content": "Say hello"}]
    for endpoint, body in (
        (CHAT, {"messages": turns, "max_tokens": 5}),
        (RESPONSES, {"input": "Say hello", "max_output_tokens": 5}),
        (MESSAGES, {"messages": turns, "max_tokens": 5}),
    ):
        streamed = api.call("POST", endpoint, json={"model": "m", "stream": True, **body})
        assert streamed.status_code == 200
        assert streamed.text.count("data: ") > 2
    assert api.call("POST", EMBEDDINGS, json={"model": "m", "input": "x"}).status_code == 501
    too_long = [{"role": "user", "content": "word " * 5000}]
    refused = api.call("POST", CHAT, json={"model": "m", "messages": too_long})
    assert (refused.status_code, "context" in refused.text) == (400, True)


def test_llama_cpps_own_server_embeds(serve):
    """
    Where it was started for embeddings, a batch of them is answered, each a vector of the model's own size.
    """
    llama = _llama_cpp(parallel=2, embedding=True)
    api = serve(f"{llama.listening_address}/v1", concurrency=2)
    (shown,) = api.server.look().result(300)
    assert EMBEDDINGS in shown
    lines = [
        {"custom_id": f"e{n}", "method": "POST", "url": EMBEDDINGS, "body": {"model": "m", "input": one}}
        for n, one in enumerate(REVIEWS)
    ]
    batch_id = api.create(lines, endpoint=EMBEDDINGS)
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == len(lines)
    vectors = [line["response"]["body"]["data"][0]["embedding"] for line in api.lines(batch_id)[0]]
    assert {len(vector) for vector in vectors} == {576}
    assert len({tuple(vector) for vector in vectors}) == len(vectors)
