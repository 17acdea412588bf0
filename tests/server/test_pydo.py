"""The provider's own Python SDK, pointed at the embedded server."""

from __future__ import annotations

from io import BytesIO

import pytest
import requests
from server.driver import CHAT, chat_lines, jsonl, read_lines
from waiting import eventually

pydo = pytest.importorskip("pydo", reason="the provider's SDK is not installed: pip install pydo")

DONE = ("completed", "failed", "cancelled", "expired")


@pytest.fixture
def client(api):
    """The SDK's client for this server."""
    from azure.core.pipeline.policies import HeadersPolicy

    # Its own policy sends a token over https only, which a server on this machine does not speak.
    policy = HeadersPolicy({"Authorization": "Bearer local"})
    return pydo.Client(token="local", inference_endpoint=api.url, authentication_policy=policy)


def _until(client, batch_id, *statuses):
    eventually(lambda: client.inference.get_batch(batch_id=batch_id)["status"] in statuses)
    return client.inference.get_batch(batch_id=batch_id)


def test_the_sdk_runs_a_batch_from_file_to_results(api, client):
    """
    create file, upload, create, list, poll, read results.
    """
    intent = client.inference.create_batch_file({"file_name": "input.jsonl"})
    upload = requests.put(
        intent["upload_url"],
        data=BytesIO(jsonl(chat_lines(10))),
        headers={"Content-Type": "application/octet-stream"},
        timeout=120,
    )
    assert upload.status_code == 200
    batch = client.inference.create_batch(
        {
            "file_id": intent["file_id"],
            "provider": "openai",
            "endpoint": CHAT,
            "completion_window": "24h",
            "request_id": "from-the-sdk",
        }
    )
    listed = client.inference.list_batches(limit=5)
    assert [one["batch_id"] for one in listed["data"]] == [batch["batch_id"]]
    assert _until(client, batch["batch_id"], *DONE)["status"] == "completed"
    results = client.inference.get_batch_results(batch_id=batch["batch_id"])
    assert results["result_available"] is True
    output = read_lines(requests.get(results["output_file_url"], timeout=120).content)
    assert {line["custom_id"] for line in output} == {line["custom_id"] for line in chat_lines(10)}


def test_the_sdk_cancels(api, client):
    """
    And sees the conflict once it is over.
    """
    api.server.hold(after=2)
    batch_id = api.create(chat_lines(10))
    _until(client, batch_id, "in_progress")
    assert client.inference.cancel_batch(batch_id=batch_id)["status"] in ("cancelling", "cancelled")
    assert _until(client, batch_id, *DONE)["status"] == "cancelled"
    assert client.inference.cancel_batch(batch_id=batch_id)["id"] == "conflict"


def test_the_sdks_helpers_work(client, tmp_path):
    """
    Its own upload (`files.create`) and its own reading of results (`files.content`).
    """
    pytest.importorskip("pydo.resources.inference", reason="this release of the SDK has no helpers")
    batches, files = client.batches, client.files
    path = tmp_path / "input.jsonl"
    path.write_bytes(jsonl(chat_lines(5)))
    file = files.create(file=str(path))
    batch = batches.create(file_id=file.file_id, provider="openai", endpoint=CHAT)
    assert _until(client, batch["batch_id"], *DONE)["status"] == "completed"
    content = files.content(batch["batch_id"])
    assert len(read_lines(content.read())) == 5


def test_the_sdk_asks_in_real_time(client):
    """
    The real-time endpoint answers the same client.
    """
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    answer = client.inference.create_chat_completion(body)
    assert answer["choices"][0]["message"]["content"] == "hello"
