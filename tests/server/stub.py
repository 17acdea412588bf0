"""A model's server in a few lines, for answers that no real one gives on request."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

Answer = Callable[["Call"], Any]


class Call:
    """One call: `path`, `body` (read as JSON, {} where there is none), and the connection it came by."""

    def __init__(self, method: str, path: str, body: Any, handler: Any) -> None:
        self.method, self.path, self.body, self.handler = method, path, body, handler

    @property
    def text(self) -> str:
        return self.body["messages"][-1]["content"] if "messages" in self.body else ""


def chat(text: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


class Stub:
    """
    Listens once `listen` was called; ``answer(call)`` returns a body, (status, body), or (status, body, headers).

    A body of bytes goes as it is; None cuts the connection. `calls` are those to POST paths, in order.
    """

    def __init__(self, answer: Answer, listening: bool = True) -> None:
        stub = self
        self.answer, self.calls = answer, list[Call]()
        self.now = self.most = 0
        self._lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _any(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = Call(self.command, self.path, json.loads(content or b"{}"), self)
                with stub._lock:
                    if self.command == "POST":
                        stub.calls.append(call)
                    stub.now += 1
                    stub.most = max(stub.most, stub.now)
                try:
                    given = stub.answer(call)
                finally:
                    with stub._lock:
                        stub.now -= 1
                status, body, headers = 200, given, {}
                if isinstance(given, tuple):
                    status, body, headers = (*given, {})[:3]
                if body is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                kind = {} if "Content-Type" in headers else {"Content-Type": "application/json"}
                for name, value in {**kind, **headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _any

            def log_message(self, *_: Any) -> None:
                pass

        class Service(http.server.ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                pass

        self._service = Service(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._service.server_bind()
        self.url = f"http://127.0.0.1:{self._service.server_address[1]}/v1"
        self._listens = False
        if listening:
            self.listen()

    def listen(self) -> None:
        self._service.server_activate()
        threading.Thread(target=self._service.serve_forever, args=[0.05], daemon=True).start()
        self._listens = True

    def close(self) -> None:
        if self._listens:
            self._service.shutdown()
        self._service.server_close()
