"""A bare client for the tests of the server: `requests`, and nothing of this package's own client."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import requests
from waiting import eventually

CHAT, RESPONSES, EMBEDDINGS, MESSAGES = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
)
TERMINAL = {"completed", "failed", "expired", "cancelled"}


def chat_line(custom_id: str, text: str = "hello there", **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "m", "messages": messages, **body},
    }


def message_line(custom_id: str, text: str = "hello there", **params: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "params": {"model": "m", "max_tokens": 100, "messages": messages, **params},
    }


def chat_lines(count: int) -> list[dict[str, Any]]:
    return [chat_line(f"id-{number:04d}", f"text {number}") for number in range(count)]


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in lines)


class Api:
    """The seven operations, and what a test says in one word."""

    def __init__(self, server: Any, token: str | None = None) -> None:
        self.server, self.url = server, server.url
        self.headers = {"Authorization": f"Bearer {token or server.token}"}

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("headers", self.headers)
        return requests.request(method, self.url + path, timeout=120, **options)

    def intent(self, file_name: str = "input.jsonl") -> dict[str, Any]:
        answer = self.call("POST", "/v1/batches/files", json={"file_name": file_name})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def put(
        self, url: str, data: Any, content_type: str | None = "application/octet-stream"
    ) -> requests.Response:
        headers = {} if content_type is None else {"Content-Type": content_type}
        return requests.put(url, data=data, headers=headers, timeout=120)

    def upload(self, lines: list[Any]) -> str:
        intent = self.intent()
        answer = self.put(intent["upload_url"], jsonl(lines))
        assert answer.status_code == 200, answer.text
        return intent["file_id"]

    def post_batch(self, file_id: str, provider: str = "openai", **fields: Any) -> requests.Response:
        body = {
            "file_id": file_id,
            "provider": provider,
            "completion_window": "24h",
            "request_id": str(uuid.uuid4()),
        }
        if provider == "openai":
            body["endpoint"] = CHAT
        body.update(fields)
        return self.call(
            "POST", "/v1/batches", json={name: value for name, value in body.items() if value is not None}
        )

    def create(self, lines: list[Any], provider: str = "openai", **fields: Any) -> str:
        answer = self.post_batch(self.upload(lines), provider, **fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["batch_id"]

    def batch(self, batch_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/batches/{batch_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, batch_id: str, *statuses: str) -> dict[str, Any]:
        """Ask until the status is one of those given, by default a terminal one."""
        wanted = set(statuses) or TERMINAL
        batch = {}

        def there() -> bool:
            batch.update(self.batch(batch_id))
            assert batch["status"] in wanted or batch["status"] not in TERMINAL, batch
            return batch["status"] in wanted

        eventually(there)
        return batch

    def cancel(self, batch_id: str) -> requests.Response:
        return self.call("POST", f"/v1/batches/{batch_id}/cancel")

    def results(self, batch_id: str) -> requests.Response:
        return self.call("GET", f"/v1/batches/{batch_id}/results")

    def lines(self, batch_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The lines of the output and of the error file (wire B: all in the first)."""
        links = self.results(batch_id).json()
        urls = [links.get("output_file_url"), links.get("error_file_url")]
        if "download" in links:
            urls = [links["download"]["presigned_url"], None]
        return tuple(read_lines(requests.get(url, timeout=120).content) if url else [] for url in urls)  # type: ignore[return-value]


def read_lines(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in content.split(b"\n") if line]
