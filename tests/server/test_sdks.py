"""Official clients, as they are, at the real-time endpoints; and the commands of the documentation."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import requests
from server.driver import chat_lines, jsonl, read_lines

from dobatch_pandas.server import Reply

TURNS = [{"role": "user", "content": "hello there, my friend"}]
SHAPE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def openai(api):
    library = pytest.importorskip("openai")
    with library.OpenAI(base_url=f"{api.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic(api):
    library = pytest.importorskip("anthropic")
    with library.Anthropic(base_url=api.url, api_key="k", max_retries=0) as client:
        yield client


def test_openai_chats(openai):
    """
    Whole, in several choices, and with a tool that must be called.
    """
    whole = openai.chat.completions.create(model="m", messages=TURNS, n=3)
    assert [choice.message.content for choice in whole.choices] == ["hello there, my friend"] * 3
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    tool = {"type": "function", "function": {"name": "weather", "parameters": SHAPE}}
    called = openai.chat.completions.create(model="m", messages=TURNS, tools=[tool], tool_choice="required")
    (call,) = called.choices[0].message.tool_calls
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("weather", ["city"])


def test_openai_streams_a_chat(openai):
    """
    In pieces, with the tokens at the end where they are wanted, and a tool's arguments in pieces too.
    """
    chunks = list(
        openai.chat.completions.create(
            model="m", messages=TURNS * 4, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "hello there, my friend"
    assert chunks[-1].usage.completion_tokens == 4
    tool = {"type": "function", "function": {"name": "weather", "parameters": SHAPE}}
    with openai.chat.completions.stream(
        model="m", messages=TURNS, tools=[tool], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


def test_openai_responds(openai):
    """
    Whole, streamed, and with a function that must be called.
    """
    assert openai.responses.create(model="m", input="hello there").output_text == "hello there"
    with openai.responses.stream(model="m", input="hello there " * 9) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "hello there " * 9
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") > 1
    tool = {"type": "function", "name": "weather", "parameters": SHAPE, "strict": True}
    for choice in ("required", {"type": "function", "name": "weather"}):
        called = openai.responses.create(model="m", input="Oslo", tools=[tool], tool_choice=choice)
        (call,) = [item for item in called.output if item.type == "function_call"]
        assert json.loads(call.arguments)["city"] == "Oslo"


def test_openai_embeds_and_lists(openai):
    """
    Vectors, the list of models, and one of them.
    """
    assert len(openai.embeddings.create(model="m", input=["a", "b"]).data) == 2
    assert [model.id for model in openai.models.list()] == ["echo"]
    assert openai.models.retrieve("echo").id == "echo"


def test_openai_reads_the_errors(openai, api):
    """
    Each as the exception that it has for it.
    """
    import openai as library

    with pytest.raises(library.BadRequestError, match="messages"):
        openai.chat.completions.create(model="m", messages=[])
    api.server.faults.add("infer", status=429)
    with pytest.raises(library.RateLimitError):
        openai.chat.completions.create(model="m", messages=TURNS)


def test_anthropic_messages(anthropic):
    """
    Whole, streamed, and with a tool that must be used, both ways.
    """
    request = {"model": "m", "max_tokens": 50, "messages": TURNS}
    assert anthropic.messages.create(**request).content[0].text == "hello there, my friend"
    with anthropic.messages.stream(**request) as stream:
        assert "".join(stream.text_stream) == "hello there, my friend"
        assert stream.get_final_message().stop_reason == "end_turn"
    tool = {"name": "weather", "input_schema": SHAPE}
    forced = {**request, "tools": [tool], "tool_choice": {"type": "any"}}
    assert anthropic.messages.create(**forced).content[0].input["city"]
    with anthropic.messages.stream(**forced) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, list(final.content[0].input)) == ("tool_use", ["city"])


def test_anthropic_reads_the_errors(anthropic):
    """
    A bad request is its bad request.
    """
    import anthropic as library

    with pytest.raises(library.BadRequestError, match="messages"):
        anthropic.messages.create(model="m", max_tokens=5, messages=[])


def test_litellm_completes(api, monkeypatch):
    """
    Whole and streamed, by both providers' ways.
    """
    # Else it asks the network for its prices.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    for model, base in (("openai/m", f"{api.url}/v1"), ("anthropic/m", api.url)):
        request = {"model": model, "messages": TURNS, "api_base": base, "api_key": "k", "max_tokens": 50}
        assert litellm.completion(**request).choices[0].message.content == "hello there, my friend"
        pieces = litellm.completion(**request, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "hello there, my friend"


STATUSES = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
    409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError", 500: "InternalServerError",
    503: "InternalServerError",
}  # fmt: skip


@pytest.mark.parametrize("made_by", ["the model", "a fault"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_the_sdks_have_an_exception_for_each_status(serve, sdk, stream, made_by):
    """
    Their own, whether the model answers an error or the service does, streamed or not.
    """
    library = pytest.importorskip(sdk)

    def model(body):
        status = int(body["messages"][-1]["content"])
        return Reply(status, {"error": {"message": f"made {status}", "type": "made", "code": None}})

    api = serve(model if made_by == "the model" else "echo")
    if sdk == "openai":
        client = library.OpenAI(base_url=f"{api.url}/v1", api_key="k", max_retries=0)
        create = client.chat.completions.create
    else:
        client = library.Anthropic(base_url=api.url, api_key="k", max_retries=0)
        create = client.messages.create
    for status, name in STATUSES.items():
        if made_by == "a fault":
            api.server.faults.add("infer", status=status)
        # The newer release of one has a class of its own for some, below the general one.
        general = library.APIStatusError if status == 503 else getattr(library, name)
        turns = [{"role": "user", "content": str(status)}]
        with pytest.raises(general, match=f"made {status}" if made_by == "the model" else "") as caught:
            list(create(model="m", max_tokens=5, messages=turns, stream=stream))
        assert caught.value.status_code == status
    for drop in ("before", "after"):
        api.server.faults.add("infer", drop=drop)
        with pytest.raises(library.APIConnectionError):
            create(model="m", max_tokens=5, messages=TURNS)
    client.close()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm_has_an_exception_for_each_status(serve, monkeypatch, provider):
    """
    By both providers' ways.
    """
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    api = serve()
    base = f"{api.url}/v1" if provider == "openai" else api.url
    for status, name in {**STATUSES, 503: "ServiceUnavailableError"}.items():
        if status in (403, 409, 422):
            continue  # it has no class for each of these by both ways
        api.server.faults.add("infer", status=status)
        with pytest.raises(getattr(litellm, name)) as caught:
            litellm.completion(
                model=f"{provider}/m", messages=TURNS, api_base=base, api_key="k", max_tokens=9, max_retries=0
            )
        assert caught.value.status_code == status


@pytest.mark.parametrize("wire", ["A", "B"])
def test_pydo_sees_refusals_and_limits(serve, wire):
    """
    It hands on the service's own words for some, and has its exception for the others.
    """
    pydo = pytest.importorskip("pydo")
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
    from azure.core.pipeline.policies import HeadersPolicy

    api = serve(wire=wire, token="right")

    def client(token):
        policy = HeadersPolicy({"Authorization": f"Bearer {token}"})
        return pydo.Client(token=token, inference_endpoint=api.url, authentication_policy=policy)

    with pytest.raises(ClientAuthenticationError):
        client("wrong").inference.list_batches()
    calls = client("right").inference
    assert calls.get_batch(batch_id="nothing")["id"] == "not_found"
    for status in (400, 409, 422, 429, 500, 503):
        api.server.faults.add("list_batches", status=status, times=20)
        with pytest.raises(HttpResponseError) as caught:
            calls.list_batches(retry_total=0)
        assert caught.value.status_code == status
        api.server.faults.clear()


# The commands of the documentation, as they stand there.


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("wire", ["A", "B"])
@pytest.mark.parametrize(
    "upload",
    [["--upload-file"], ["-H", "Content-Type: application/jsonl", "--data-binary"], ["-X", "PUT", "--data-binary"],
     ["-H", "Content-Type: application/octet-stream", "--upload-file"]],
)  # fmt: skip
def test_curl_runs_a_batch(serve, tmp_path, wire, upload):
    """
    Each of the seven operations, with every way of uploading that is documented.
    """
    api = serve(wire=wire)
    headers = ["-H", f"Authorization: Bearer {api.server.token}", "-H", "Content-Type: application/json"]

    def curl(*arguments):
        done = subprocess.run(
            ["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(method, path, body=None):
        data = [] if body is None else ["-d", json.dumps(body)]
        return json.loads(curl("-X", method, f"{api.url}{path}", *headers, *data))

    path = tmp_path / "input.jsonl"
    path.write_bytes(jsonl(chat_lines(4)))
    file = call("POST", "/v1/batches/files", {"file_name": "input.jsonl"})
    given = f"@{path}" if "--data-binary" in upload else str(path)
    curl("-X", "PUT", *upload, given, file["upload_url"])
    batch = call(
        "POST",
        "/v1/batches",
        {"file_id": file["file_id"], "provider": "openai", "endpoint": "/v1/chat/completions",
         "completion_window": "24h", "request_id": "mine"},
    )  # fmt: skip
    name = batch["batch_id"]
    api.until(name, "completed")
    assert call("GET", f"/v1/batches/{name}")["status"] == "completed"
    listed = call("GET", "/v1/batches?limit=5&status=completed")
    assert len(listed["data" if wire == "A" else "edges"]) == 1
    links = call("GET", f"/v1/batches/{name}/results")
    url = links["output_file_url"] if wire == "A" else links["download"]["presigned_url"]
    assert len(read_lines(curl(url).encode())) == 4
    api.server.hold()
    other = api.create(chat_lines(2))
    assert call("POST", f"/v1/batches/{other}/cancel")["status"] in ("cancelling", "cancelled")


def test_pydo_connects_as_it_is(tmp_path):
    """
    The provider's own SDK refuses to send its token without TLS: with a certificate nothing of it is changed.
    """
    pydo = pytest.importorskip("pydo")
    pytest.importorskip("trustme")
    from dobatch_pandas.server import LocalServer
    from dobatch_pandas.server.certificate import make_certificate

    certificate = make_certificate(tmp_path)
    with LocalServer(tls=certificate, token="only-this") as server:
        trust = {"connection_verify": str(certificate.authority)}
        client = pydo.Client(token="only-this", inference_endpoint=server.url, **trust)
        intent = client.inference.create_batch_file({"file_name": "input.jsonl"}, **trust)
        upload = requests.put(
            intent["upload_url"], data=jsonl(chat_lines(3)), verify=str(certificate.authority), timeout=120
        )
        assert upload.status_code == 200
        batch = client.inference.create_batch(
            {"file_id": intent["file_id"], "provider": "openai", "endpoint": "/v1/chat/completions",
             "completion_window": "24h", "request_id": "from-the-sdk"},
            **trust,
        )  # fmt: skip
        for _ in range(1000):
            batch = client.inference.get_batch(batch_id=batch["batch_id"], **trust)
            if batch["status"] == "completed":
                break
        assert batch["request_counts"]["completed"] == 3
        assert client.inference.get_batch_results(batch_id=batch["batch_id"], **trust)["result_available"]
