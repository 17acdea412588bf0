"""What the service does: the seven operations, and the real-time endpoints."""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .clock import Clock, iso
from .executor import Executor
from .faults import Fault, Faults
from .limits import Allowance, RateLimiter
from .models import AsyncModel, ask, ask_async
from .pace import NotNow
from .plain import MOST_VALUES, too_many, values_in
from .replies import FAULT, ApiProblem, Download, Room, chunks, json_object, json_response, read
from .shapes import EMBEDDINGS, ENDPOINTS, Reply, error_reply
from .state import OPEN, Batch, File, State
from .storage import Objects, Refused, Signer
from .stream import events
from .wire import Wire, batch_json, list_json, read_cursor, results_json, shown_status, statuses

__all__ = ["Options", "Service"]

_WINDOW = 24 * 3600.0
_KEPT = 30 * 24 * 3600.0
# Bytes of an object in one PUT, as object stores have it, and of a real-time request.
_LARGEST = 5 * 2**30
_LARGEST_CALL = 64_000_000
# Bytes that real-time requests may take together while they are answered, and what a value in them counts as.
_ROOM, _VALUE = 512_000_000, 64
# Seconds that a stream waits for a client to read on.
_PATIENCE = 120.0

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
        The content type that upload addresses are signed for; an empty text signs none, and any may be sent.
    not_uploaded : {400, 409, 422}
        What creating a batch answers whose file was announced and never uploaded.
    cancel_early : bool
        Whether a batch may be cancelled that has not been handed to the upstream; otherwise 409.
    enqueued_tokens : int or None
        Creating a batch that brings the tokens of all open batches above this answers 429.
    """

    wire: Wire = "A"
    token: str | None = None
    endpoint_rule: EndpointRule = "either"
    not_ready: Literal["flag", "412"] = "flag"
    upload_type: str = ""
    not_uploaded: Literal[400, 409, 422] = 400
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
    calls: list[str] | deque[str] = field(default_factory=list)
    room: Room = field(default_factory=lambda: Room(_ROOM))

    # The seven operations.

    async def create_file(self, request: Request) -> Response:
        """POST /v1/batches/files"""
        body = await json_object(request)
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
        self.signer.verify(
            request.method, request.scope["path"], request.query_params.multi_items(), request.headers
        )
        if "content-length" not in request.headers:
            raise Refused(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
        if int(request.headers["content-length"]) > _LARGEST:
            raise Refused(
                413, "EntityTooLarge", f"An object has at most {_LARGEST:,} bytes", {"connection": "close"}
            )
        file_id = name.removesuffix(".jsonl")
        self._unused(file_id)

        async def body() -> AsyncIterator[bytes]:
            async for chunk in chunks(request):
                yield chunk
            # Another upload may have come first, and a batch been made of it, while this one was on its way.
            self._unused(file_id)

        etag = await self.inputs.receive(name, body())
        self.state.uploaded(file_id, self.inputs.path(name).stat().st_size)
        return Response(status_code=200, headers={"etag": etag})

    def _unused(self, file_id: str) -> None:
        if self.state.in_use(file_id):
            raise Refused(409, "OperationAborted", "A batch was made of this file already")

    async def create_batch(self, request: Request) -> Response:
        """POST /v1/batches"""
        body = await json_object(request)
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
            return self._same(request, existing, file_id, provider, endpoint)
        file = self.state.file(file_id)
        if file is None:
            raise ApiProblem(404, f"No file {file_id!r}")
        # This is the HEAD on the uploaded object.
        if file.bytes is None or not self.inputs.has(f"{file_id}.jsonl"):
            words = f"File {file_id!r} was not uploaded: PUT its bytes to the upload_url first"
            raise ApiProblem(self.options.not_uploaded, words)
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
            return self._same(request, stored, file_id, provider, endpoint)
        self.executor.add(batch)
        return self._batch(request, batch, 201)

    def _same(self, request: Request, batch: Batch, file_id: str, provider: str, endpoint: str) -> Response:
        for name, ours, given in (
            ("file", batch.input_file_id, file_id),
            ("provider", batch.provider, provider),
            ("endpoint", batch.endpoint, endpoint),
        ):
            if ours != given:
                raise ApiProblem(409, f"request_id {batch.request_id!r} was used for another {name}: {ours}")
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
        limit = query.get("limit", "20")
        # Other alphabets have digits too, and Python's numbers underscores, signs and blanks.
        if not re.fullmatch("[1-9][0-9]?|100", limit):
            raise ApiProblem(400, "limit must be a number from 1 to 100")
        status, known = query.get("status"), statuses(self.options.wire)
        if status is not None and status not in known:
            raise ApiProblem(400, f"status must be one of {', '.join(known)}")
        after = query.get("after")
        cursor = read_cursor(after, self.options.wire) if after is not None else None
        if after is not None and not cursor:
            raise ApiProblem(400, "after is not a cursor of this list")
        page = self._page(int(limit), cursor, status)
        if page is None:
            raise ApiProblem(400, "after is not a cursor of this list")
        batches, more = page
        shapes = [self._shape(request, batch) for batch in batches]
        return json_response(list_json(shapes, more, self.options.wire))

    def _page(self, limit: int, cursor: str | None, status: str | None) -> tuple[list[Batch], bool] | None:
        """A page of those batches that show a status; its filter is what is shown, not what is stored."""
        if status is None:
            return self.state.page(limit, cursor, None)
        stored = {"queued": "validating", "awaiting_processing": "in_progress"}.get(status, status)
        found: list[Batch] = []
        while len(found) <= limit:
            page = self.state.page(limit + 1, cursor, stored)
            if page is None:
                return None
            for batch in page[0]:
                if shown_status(self.executor.live(batch), self.options.wire) == status:
                    found.append(batch)
            if not page[1]:
                break
            cursor = page[0][-1].batch_id
        return found[:limit], len(found) > limit

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
        self.signer.verify(
            request.method, request.scope["path"], request.query_params.multi_items(), request.headers
        )
        self.purge()
        name = request.path_params["name"]
        if not self.outputs.has(name):
            raise Refused(404, "NoSuchKey", "The specified key does not exist")
        return Download(self.outputs.path(name), media_type="application/octet-stream")

    async def infer(self, request: Request) -> Response:
        """POST on one of the real-time endpoints"""
        with self.room.share() as take:
            return await self._infer(request, request.scope["path"], take)

    async def _infer(self, request: Request, endpoint: str, take: Callable[[int], None]) -> Response:
        try:
            content = await read(request, _LARGEST_CALL, take)
            if too_many(content):
                raise ApiProblem(413, f"The body holds more than {MOST_VALUES:,} values")
            take(_VALUE * min(values_in(content), MOST_VALUES))
            body = orjson.loads(content)
            del content
        except ApiProblem as problem:
            reply = error_reply(endpoint, problem.status, problem.message)
            return json_response(reply.body, reply.status, problem.headers)
        except ValueError as problem:
            reply = error_reply(endpoint, 400, f"The body is not valid JSON: {problem}")
            return json_response(reply.body, reply.status)
        if not isinstance(body, dict):
            reply = error_reply(endpoint, 400, "The body must be an object")
        elif body.get("stream") and endpoint == EMBEDDINGS:
            reply = error_reply(endpoint, 400, "'stream' is not available for embeddings")
        else:
            try:
                if body.get("stream"):
                    return await self._streamed(endpoint, body)
                reply = await asyncio.wrap_future(self.executor.ask(endpoint, body))
            except NotNow as later:
                reply = later.reply(endpoint)
                after = {"retry-after": str(max(1, round(later.retry_after or 1)))}
                return json_response(reply.body, reply.status, after)
        return self._written(endpoint, reply)

    @staticmethod
    def _written(endpoint: str, reply: Reply) -> Response:
        try:
            return json_response(reply.body, reply.status)
        except (TypeError, ValueError, RecursionError) as problem:
            reply = error_reply(endpoint, 502, f"The answer cannot be written as JSON: {problem}")
            return json_response(reply.body, reply.status)

    async def _streamed(self, endpoint: str, body: dict[str, Any]) -> Response:
        """An answer as server-sent events: the upstream's own where there is one, else made of the whole answer."""
        loop, model = asyncio.get_running_loop(), self.executor.model
        begun: asyncio.Future[str | Reply] = loop.create_future()
        pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(16)
        gone = False
        whole = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}

        def begin(what: str | Reply) -> None:
            loop.call_soon_threadsafe(begun.set_result, what)

        async def put(piece: bytes | Exception | None) -> None:
            # Called in the model's loop, while the queue is of this one.
            # A client that reads nothing for long has gone.
            waiting = asyncio.wait_for(pieces.put(piece), _PATIENCE)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, loop))

        async def work_in_loop(model: AsyncModel) -> None:
            stream = await model.stream(endpoint, body)
            if stream is None or isinstance(stream, Reply):
                begin(stream or await ask_async(model, endpoint, whole))
                return
            begin(stream.content_type)
            end: Exception | None = None
            try:
                async for piece in stream.pieces:
                    # The client's pace is the upstream's.
                    await put(piece)
                    if gone:
                        break
            except Exception as problem:  # noqa: BLE001  the client is told by the connection's end
                end = problem
            finally:
                await stream.pieces.aclose()
            if not gone:
                await put(end)

        def work() -> Any:
            return (
                work_in_loop(model) if isinstance(model, AsyncModel) else begin(ask(model, endpoint, whole))
            )

        future = asyncio.wrap_future(self.executor.call(work))
        both: list[asyncio.Future[Any]] = [future, begun]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if future.done() and (problem := future.exception()) is not None:
            if isinstance(problem, NotNow):
                raise problem
            return self._written(endpoint, error_reply(endpoint, 502, str(problem)))
        what = await begun

        async def passed() -> AsyncIterator[bytes]:
            nonlocal gone
            try:
                while (piece := await pieces.get()) is not None:
                    if isinstance(piece, Exception):
                        # Nothing else tells the client that this is not all.
                        raise ConnectionError("The upstream broke the stream off") from piece
                    yield piece
            finally:
                gone = True
                while not pieces.empty():
                    pieces.get_nowait()

        if isinstance(what, str):
            return StreamingResponse(passed(), media_type=what, headers={"cache-control": "no-cache"})
        if what.status != 200:
            return self._written(endpoint, what)
        options = body.get("stream_options")
        usage = isinstance(options, dict) and bool(options.get("include_usage"))
        try:
            made = events(endpoint, what.body, usage=usage)
        except (AttributeError, TypeError, ValueError) as problem:
            words = f"The answer is not of the shape that could be streamed: {problem}"
            return self._written(endpoint, error_reply(endpoint, 502, words))
        return StreamingResponse(
            _each(made), media_type="text/event-stream", headers={"cache-control": "no-cache"}
        )

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        names = await self._model_names()
        return json_response({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}"""
        name = request.path_params["model"]
        # An echo or a function answers by any name.
        if isinstance(self.executor.model, AsyncModel) and name not in await self._model_names():
            reply = error_reply(ENDPOINTS[0], 404, f"The model {name!r} does not exist", "model_not_found")
            return json_response(reply.body, 404)
        return json_response(_model(name))

    async def _model_names(self) -> list[str]:
        model = self.executor.model
        return (
            await asyncio.wrap_future(self.executor.run(model.models()))
            if isinstance(model, AsyncModel)
            else [model.name]
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
        for file_id in self.state.drop_unused_files(self.clock.now() - _KEPT):
            self.inputs.delete(f"{file_id}.jsonl")

    def reset(self) -> None:
        """Forget every batch, file, fault and call, and set the time back."""
        self.executor.reset()
        self.state.clear()
        self.inputs.clear()
        self.outputs.clear()
        self.faults.clear()
        self.calls.clear()
        self.clock.offset = 0.0
        if self.limiter is not None:
            self.limiter.clear()

    def authorize(self, request: Request) -> str:
        """The token of a call; 401 where there is none, or a wrong one."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        expected = self.options.token
        if kind.lower() != "bearer" or not token:
            # The messages endpoint's own clients send the key in this header.
            token = request.headers.get("x-api-key", "")
        if not token or (expected is not None and not _equal(token, expected)):
            raise ApiProblem(401, "Unable to authenticate you")
        return token

    def count(self, token: str) -> Allowance | None:
        """Ask the rate limiter."""
        return self.limiter.ask(token) if self.limiter is not None else None

    def allowance(self, request: Request) -> dict[str, str]:
        """The headers that say how many calls are left, without counting one."""
        if self.limiter is None:
            return {}
        try:
            token = self.authorize(request)
        except ApiProblem:
            token = ""
        return self.limiter.look(token).headers()

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


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1767225600, "owned_by": "dobatch"}


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
