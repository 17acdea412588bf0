"""The seven operations and the real-time endpoints, as an ASGI application."""

from __future__ import annotations

import hmac
import logging
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio.to_thread
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .clock import Clock, iso
from .executor import Executor
from .faults import Fault, Faults
from .limits import Allowance, RateLimiter
from .models import ask
from .operation import FAULT, ApiProblem, Download, Handler, Operation, chunks, json_response
from .shapes import ENDPOINTS, error_reply
from .state import OPEN, STATUSES, Batch, File, State
from .storage import Objects, Refused, Signer
from .wire import Wire, batch_json, error_json, list_json, read_cursor, results_json

__all__ = ["Options", "Service", "build_app"]

_log = logging.getLogger("dobatch_pandas.server")
_WINDOW = 24 * 3600.0
_KEPT = 30 * 24 * 3600.0

EndpointRule = Literal["either", "always", "openai_only"]


@dataclass(frozen=True)
class Options:
    """
    How the service behaves where its descriptions differ, or where a test wants it otherwise.

    Parameters
    ----------
    wire : {"A", "B"}
    token : str or None
        The only token that is accepted; None accepts any that is not empty.
    endpoint_rule : {"either", "always", "openai_only"}
        ``"always"`` refuses a batch without ``endpoint`` (the first documentation), ``"openai_only"`` refuses
        one for ``anthropic`` and takes only chat and responses (the later one), ``"either"`` takes both.
    not_ready : {"flag", "412"}
        What results that are not there yet answer in wire A.
    upload_type : str
        The content type that upload addresses are signed for.
    cancel_early : bool
        Whether a batch may be cancelled that has not been handed to the upstream; otherwise 409.
    enqueued_tokens : int or None
        Creating a batch that brings the tokens of all open batches above this answers 429.
    """

    wire: Wire = "A"
    token: str | None = None
    endpoint_rule: EndpointRule = "either"
    not_ready: Literal["flag", "412"] = "flag"
    upload_type: str = "application/octet-stream"
    cancel_early: bool = True
    enqueued_tokens: int | None = None


@dataclass
class Service:
    """Everything the routes work with."""

    state: State
    inputs: Objects
    outputs: Objects
    signer: Signer
    executor: Executor
    faults: Faults
    clock: Clock
    limiter: RateLimiter | None
    options: Options
    calls: list[str] = field(default_factory=list)

    # The seven operations.

    async def create_file(self, request: Request) -> Response:
        """POST /v1/batches/files"""
        body = await _object(request)
        name = body.get("file_name")
        if not isinstance(name, str) or len(name) < 7 or not name.lower().endswith(".jsonl"):
            raise ApiProblem(422, "file_name must end in .jsonl and have at least 7 characters")
        file = self.state.add_file(name, self.clock.now())
        path = f"/storage/inputs/{file.file_id}.jsonl"
        url, expires = self.signer.sign(str(request.base_url), "PUT", path, self.options.upload_type)
        return json_response({"file_id": file.file_id, "upload_url": url, "expires_at": iso(expires)}, 201)

    async def upload(self, request: Request) -> Response:
        """PUT on a signed address"""
        name = request.path_params["name"]
        self.signer.verify(request.method, request.url.path, request.query_params, request.headers)
        if "content-length" not in request.headers:
            raise Refused(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
        file_id = name.removesuffix(".jsonl")
        if self.state.in_use(file_id):
            raise Refused(409, "OperationAborted", "A batch was made of this file already")
        etag = await self.inputs.receive(name, chunks(request))
        self.state.uploaded(file_id, self.inputs.path(name).stat().st_size)
        return Response(status_code=200, headers={"etag": etag})

    async def create_batch(self, request: Request) -> Response:
        """POST /v1/batches"""
        body = await _object(request)
        provider, endpoint = _route_of(body, self.options.endpoint_rule)
        if body.get("completion_window", "24h") != "24h":
            raise ApiProblem(422, "completion_window must be '24h'")
        file_id, request_id = body.get("file_id"), body.get("request_id")
        for name, value in (("file_id", file_id), ("request_id", request_id)):
            if not isinstance(value, str) or not value:
                raise ApiProblem(422, f"{name} is required")
        metadata = body.get("metadata")
        if metadata is not None and not _is_metadata(metadata):
            raise ApiProblem(422, "metadata must be an object of strings")
        assert isinstance(file_id, str)
        assert isinstance(request_id, str)
        existing = self.state.batch_of_request(request_id)
        if existing is not None:
            return self._same(request, existing, file_id)
        file = self.state.file(file_id)
        if file is None:
            raise ApiProblem(404, f"No file {file_id!r}")
        # This is the HEAD on the uploaded object.
        if file.bytes is None or not self.inputs.has(f"{file_id}.jsonl"):
            raise ApiProblem(400, f"File {file_id!r} was not uploaded: PUT its bytes to the upload_url first")
        now = self.clock.now()
        batch = Batch(
            batch_id=str(uuid.uuid4()),
            request_id=request_id,
            provider=provider,
            endpoint=endpoint,
            wire=self.options.wire,
            input_file_id=file_id,
            created_at=now,
            updated_at=now,
            expires_at=now + _WINDOW,
            metadata=metadata,
            tokens=self._enqueue(file),
        )
        stored = self.state.add_batch(batch)
        if stored.batch_id != batch.batch_id:
            return self._same(request, stored, file_id)
        self.executor.add(batch)
        return self._batch(request, batch, 201)

    def _same(self, request: Request, batch: Batch, file_id: str) -> Response:
        if batch.input_file_id != file_id:
            raise ApiProblem(409, f"request_id {batch.request_id!r} was used for another file")
        return self._batch(request, batch, 201)

    def _enqueue(self, file: File) -> int:
        # About four bytes a token, as providers estimate before they count.
        tokens = (file.bytes or 0) // 4
        limit = self.options.enqueued_tokens
        if limit is not None and (enqueued := self.state.enqueued_tokens()) + tokens > limit:
            message = f"Enqueued token limit reached: {enqueued:,} of {limit:,} tokens are enqueued already"
            raise ApiProblem(429, message)
        return tokens

    async def list_batches(self, request: Request) -> Response:
        """GET /v1/batches"""
        query = request.query_params
        try:
            limit = int(query.get("limit", "20"))
        except ValueError:
            limit = 0
        if not 1 <= limit <= 100:
            raise ApiProblem(400, "limit must be a number from 1 to 100")
        status = query.get("status")
        if status == "queued" and self.options.wire == "B":
            status = "validating"
        if status is not None and status not in STATUSES:
            raise ApiProblem(400, f"status must be one of {', '.join(STATUSES)}")
        after = query.get("after") or None
        cursor = read_cursor(after, self.options.wire) if after else None
        page = None if after and cursor is None else self.state.page(limit, cursor, status)
        if page is None:
            raise ApiProblem(400, "after is not a cursor of this list")
        batches, more = page
        shapes = [self._shape(request, batch) for batch in batches]
        return json_response(list_json(shapes, more, self.options.wire))

    async def get_batch(self, request: Request) -> Response:
        """GET /v1/batches/{batch_id}"""
        return self._batch(request, self._find(request))

    async def cancel_batch(self, request: Request) -> Response:
        """POST /v1/batches/{batch_id}/cancel"""
        batch = self._find(request)
        if batch.status == "cancelling":
            return self._batch(request, batch)
        if not batch.terminal and not batch.handed_over and not self.options.cancel_early:
            raise ApiProblem(
                409, "The batch has not been submitted to the upstream provider yet: nothing to cancel"
            )
        now = self.clock.now()
        changed = self.state.change(
            batch.batch_id, OPEN, status="cancelling", cancel_requested_at=now, updated_at=now
        )
        if changed is None:
            status = self._find(request).status
            raise ApiProblem(409, f"The batch is {status} and cannot be cancelled")
        self.executor.cancel(batch.batch_id)
        return self._batch(request, changed)

    async def get_results(self, request: Request) -> Response:
        """GET /v1/batches/{batch_id}/results"""
        self.purge()
        batch = self._find(request)
        if batch.purged:
            raise ApiProblem(404, "The result files were deleted: they are kept for 30 days")
        ids = (batch.output_file_id, batch.error_file_id)
        if not any(ids) and (self.options.wire == "B" or self.options.not_ready == "412"):
            raise ApiProblem(412, f"The batch is {batch.status}: no results are available")
        base, expires = str(request.base_url), None
        links: list[str | None] = []
        for file_id in ids:
            link = None
            if file_id is not None:
                link, expires = self.signer.sign(base, "GET", f"/storage/outputs/{file_id}.jsonl")
            links.append(link)
        return json_response(results_json(batch, (links[0], links[1]), expires, self.options.wire))

    async def download(self, request: Request) -> Response:
        """GET on a signed address, ranges included"""
        self.signer.verify(request.method, request.url.path, request.query_params, request.headers)
        self.purge()
        name = request.path_params["name"]
        if not self.outputs.has(name):
            raise Refused(404, "NoSuchKey", "The specified key does not exist")
        return Download(self.outputs.path(name), media_type="application/octet-stream")

    async def infer(self, request: Request) -> Response:
        """POST on one of the real-time endpoints"""
        endpoint = request.url.path
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError as problem:
            reply = error_reply(endpoint, 400, f"The body is not valid JSON: {problem}")
            return json_response(reply.body, reply.status)
        if not isinstance(body, dict):
            reply = error_reply(endpoint, 400, "The body must be an object")
        elif body.get("stream"):
            reply = error_reply(endpoint, 400, "'stream' is not available here")
        else:
            reply = await anyio.to_thread.run_sync(ask, self.executor.model, endpoint, body)
        return json_response(reply.body, reply.status)

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return json_response(
            {"object": "list", "data": [{"id": self.executor.model.name, "object": "model"}]}
        )

    # What they share.

    def purge(self) -> None:
        """Delete result files that were kept long enough."""
        for batch in self.state.to_purge(self.clock.now() - _KEPT):
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id is not None:
                    self.outputs.delete(f"{file_id}.jsonl")
            self.inputs.delete(f"{batch.input_file_id}.jsonl")
            self.state.change(batch.batch_id, purged=True)

    def authorize(self, request: Request) -> str:
        """The token of a call; 401 where there is none, or a wrong one."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        expected = self.options.token
        if kind.lower() != "bearer" or not token:
            # The messages endpoint's own clients send the key in this header.
            token = request.headers.get("x-api-key", "")
        if not token or (expected is not None and not hmac.compare_digest(token.encode(), expected.encode())):
            raise ApiProblem(401, "Unable to authenticate you")
        return token

    def count(self, token: str) -> Allowance | None:
        """Ask the rate limiter."""
        return self.limiter.ask(token) if self.limiter is not None else None

    def _find(self, request: Request) -> Batch:
        batch = self.state.batch(request.path_params["batch_id"])
        if batch is None:
            raise ApiProblem(404, "The batch you were looking for could not be found")
        return batch

    def _batch(self, request: Request, batch: Batch, status: int = 200) -> Response:
        return json_response(self._shape(request, batch), status)

    def _shape(self, request: Request, batch: Batch) -> dict[str, Any]:
        fault: Fault | None = request.scope.get(FAULT)
        return batch_json(self.executor.live(batch), self.options.wire, fault.word if fault else None)


def _is_metadata(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _route_of(body: dict[str, Any], rule: EndpointRule) -> tuple[str, str]:
    """The provider and endpoint that a batch is for."""
    chat, responses, embeddings, messages = ENDPOINTS
    provider, endpoint = body.get("provider"), body.get("endpoint") or None
    if provider not in ("openai", "anthropic"):
        raise ApiProblem(422, "provider must be 'openai' or 'anthropic'")
    if endpoint is None and (provider == "openai" or rule == "always"):
        raise ApiProblem(422, "endpoint is required")
    if provider == "anthropic":
        if endpoint is not None and rule == "openai_only":
            raise ApiProblem(422, "endpoint must be omitted when provider is anthropic")
        allowed = [messages]
    else:
        allowed = [chat, responses] if rule == "openai_only" else [chat, responses, embeddings]
    if endpoint is not None and endpoint not in allowed:
        raise ApiProblem(422, f"endpoint must be one of {', '.join(allowed)} when provider is {provider}")
    return provider, endpoint or messages


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as problem:
        raise ApiProblem(400, f"The body is not valid JSON: {problem}") from None
    if not isinstance(body, dict):
        raise ApiProblem(400, "The body must be a JSON object")
    return body


async def _unexpected(request: Request, problem: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=problem)
    return json_response(error_json(500, "An unexpected error occurred", str(uuid.uuid4())), 500)


async def _unknown(request: Request, problem: Exception) -> Response:
    status = getattr(problem, "status_code", 404)
    return json_response(
        error_json(status, f"Nothing here: {request.method} {request.url.path}", str(uuid.uuid4())), status
    )


def build_app(service: Service) -> Starlette:
    """The application with all its routes."""

    def route(path: str, method: str, name: str, handler: Handler, signed: bool = False) -> Route:
        return Route(path, Operation(name, handler, service, signed), methods=[method])

    routes = [
        route("/v1/batches/files", "POST", "create_file", service.create_file),
        route("/v1/batches", "POST", "create_batch", service.create_batch),
        route("/v1/batches", "GET", "list_batches", service.list_batches),
        route("/v1/batches/{batch_id}", "GET", "get_batch", service.get_batch),
        route("/v1/batches/{batch_id}/cancel", "POST", "cancel_batch", service.cancel_batch),
        route("/v1/batches/{batch_id}/results", "GET", "get_results", service.get_results),
        route("/storage/inputs/{name}", "PUT", "upload", service.upload, signed=True),
        route("/storage/outputs/{name}", "GET", "download", service.download, signed=True),
        *(route(path, "POST", "infer", service.infer) for path in ENDPOINTS),
        route("/v1/models", "GET", "infer", service.models),
    ]
    handlers: Any = {Exception: _unexpected, 404: _unknown, 405: _unknown}
    return Starlette(routes=routes, exception_handlers=handlers)
