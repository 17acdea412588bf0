"""The description of what is served, made from the routes that serve it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from starlette.routing import Route

from .faults import OPERATIONS
from .operation import Operation
from .service import Options
from .shapes import CHAT, EMBEDDINGS, ENDPOINTS, MESSAGES, RESPONSES
from .wire import statuses

__all__ = ["describe"]

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_MOMENT: dict[str, Any] = {"type": "string", "format": "date-time"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_NAME = {"type": "string", "minLength": 7, "pattern": r"\.[jJ][sS][oO][nN][lL]$", "examples": ["input.jsonl"]}
# What any call may answer, and the headers of each.
_ANY = {
    "401": "There is no token, or a wrong one",
    "413": "The body is too large",
    "429": "More calls than the limits allow, or more tokens enqueued; see retry-after",
    "500": "An unexpected error",
    "503": "Not possible now; see retry-after",
}
_RATE_HEADERS = {
    "ratelimit-limit": "Calls an hour",
    "ratelimit-remaining": "Calls that are left, of the minute where those are used up first",
    "ratelimit-reset": "When calls are left again, in Unix seconds",
}


def _object(
    required: dict[str, Any], optional: dict[str, Any] | None = None, closed: bool = True
) -> dict[str, Any]:
    shape = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return {**shape, "additionalProperties": False} if closed else shape


def describe(routes: Iterable[Any], options: Options) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, in the wire that is served."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not isinstance(route, Route):
            continue
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                paths.setdefault(path, {})[method.lower()] = _operation(route, path, method, options)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Batch inference, the embedded server (wire {options.wire})",
            "version": "1",
            "description": "Batches of requests to language models, and the same requests one at a time.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(options),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route, path: str, method: str, options: Options) -> dict[str, Any]:
    endpoint: Any = route.endpoint
    handler = endpoint.handler if isinstance(endpoint, Operation) else endpoint
    words = (inspect.getdoc(handler) or "").split("\n")[0]
    found: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^a-z0-9]+', '_', path.lower())}".rstrip("_"),
        "summary": words.removeprefix(f"{method} ") or path,
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", path)
    ]
    if isinstance(endpoint, Operation) and endpoint.signed:
        found["security"] = []
        names = ("expires", "nonce", "signature")
        parameters += [{"name": name, "in": "query", "required": True, "schema": _TEXT} for name in names]
    elif not isinstance(endpoint, Operation) and not path.startswith("/_dobatch"):
        found["security"] = []
    if (method, path) == ("GET", "/v1/batches"):
        parameters += [
            _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            _query("after", _TEXT),
            _query("status", {"enum": list(statuses(options.wire))}),
        ]
    if parameters:
        found["parameters"] = parameters
    if (body := _body(method, path)) is not None:
        kind = "application/octet-stream" if path.startswith("/storage") else "application/json"
        found["requestBody"] = {"required": True, "content": {kind: {"schema": body}}}
    found["responses"] = _responses(endpoint, method, path, options)
    return found


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _body(method: str, path: str) -> dict[str, Any] | None:
    named = {
        ("POST", "/v1/batches/files"): "CreateFile",
        ("POST", "/v1/batches"): "CreateBatch",
        ("POST", CHAT): "ChatRequest",
        ("POST", RESPONSES): "ResponsesRequest",
        ("POST", EMBEDDINGS): "EmbeddingsRequest",
        ("POST", MESSAGES): "MessagesRequest",
        ("POST", "/_dobatch/faults"): "Faults",
        ("POST", "/_dobatch/clock"): "Advance",
        ("POST", "/_dobatch/hold"): "Hold",
    }.get((method, path))
    if named is not None:
        return {"$ref": f"#/components/schemas/{named}"}
    return {"type": "string", "format": "binary"} if method == "PUT" else None


def _responses(endpoint: Any, method: str, path: str, options: Options) -> dict[str, Any]:
    if not isinstance(endpoint, Operation):
        return _responses_of_control(method, path)
    if endpoint.signed:
        answers: dict[str, Any] = {"200": {"description": "Stored" if method == "PUT" else "The lines"}}
        if method == "GET":
            answers["206"] = {"description": "The bytes of a range"}
            answers["416"] = {"description": "No such range"}
        for status in ("400", "403", "404", "409", "411", "413", "503"):
            answers[status] = {"description": "Refused", "content": {"application/xml": {}}}
        return answers
    good, shape = {
        "create_file": ("201", "File"),
        "create_batch": ("201", "Batch"),
        "list_batches": ("200", "BatchList"),
        "get_batch": ("200", "Batch"),
        "cancel_batch": ("200", "Batch"),
        "get_results": ("200", "Results"),
    }.get(endpoint.name, ("200", _ANSWERS.get(path, "Any")))
    headers = {
        name: {"description": words, "schema": {"type": "string"}} for name, words in _RATE_HEADERS.items()
    }
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    if path in (CHAT, RESPONSES, MESSAGES):
        content["text/event-stream"] = {"schema": {"type": "string"}}
    answers = {good: {"description": "Done", "headers": headers, "content": content}}
    refusals = {
        "create_file": {"400": "No JSON object", "422": "The name does not do"},
        "create_batch": {
            "400": "No JSON object, or the file was not uploaded",
            "404": "No such file",
            "409": "The request_id was used otherwise",
            "422": "A field does not do",
        },
        "list_batches": {"400": "A parameter does not do"},
        "get_batch": {"404": "No such batch"},
        "cancel_batch": {"404": "No such batch", "409": "It has ended, or is not handed over yet"},
        "get_results": {"404": "No such batch, or kept long enough", "412": "Not there yet"},
        "infer": {
            "400": "The request does not do",
            "404": "No such model",
            "502": "The model's server failed",
        },
    }[endpoint.name]
    error = "ModelError" if path in ENDPOINTS or path.startswith("/v1/models") else "Error"
    for status, words in {**refusals, **_ANY}.items():
        refs = [{"$ref": "#/components/schemas/Error"}]
        if error != "Error":
            refs.append({"$ref": f"#/components/schemas/{error}"})
        schema: dict[str, Any] = refs[0] if len(refs) == 1 else {"anyOf": refs}
        answers[status] = {
            "description": words,
            "headers": headers,
            "content": {"application/json": {"schema": schema}},
        }
    return answers


_ANSWERS = {
    CHAT: "ChatAnswer",
    RESPONSES: "ResponsesAnswer",
    EMBEDDINGS: "EmbeddingsAnswer",
    MESSAGES: "MessagesAnswer",
}


def _responses_of_control(method: str, path: str) -> dict[str, Any]:
    if path in ("/", "/docs"):
        return {"200": {"description": "A page", "content": {"text/html": {}}}}
    answers: dict[str, Any] = {
        "200": {"description": "Done", "content": {"application/json": {"schema": {}}}}
    }
    if path.startswith("/_dobatch"):
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        answers["401"] = {"description": _ANY["401"], "content": error}
        if method == "POST":
            answers["400"] = {"description": "No JSON object", "content": error}
            answers["413"] = {"description": _ANY["413"], "content": error}
            answers["422"] = {"description": "A setting does not do", "content": error}
    return answers


def _schemas(options: Options) -> dict[str, Any]:
    counts = _object({"total": _COUNT, "completed": _COUNT, "failed": _COUNT})
    problem = _object({"code": _TEXT, "message": _TEXT}, {"line": {"type": ["integer", "null"]}})
    provider = {"enum": ["openai", "anthropic"]}
    shared = {
        "batch_id": _TEXT,
        "status": {"enum": list(statuses(options.wire))},
        "provider": provider,
        "completion_window": {"const": "24h"},
        "request_counts": counts,
        "request_id": _TEXT,
        "created_at": _MOMENT,
    }
    parts = {"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "string"}]}}
    content = {"anyOf": [{"type": ["string", "null"]}, parts]}
    turn = _object({"role": _TEXT}, {"content": content}, closed=False)
    item = _object({}, {"role": _TEXT, "content": content}, closed=False)
    texts = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    if options.wire == "A":
        batch = _object(
            {**shared, "endpoint": {"enum": list(ENDPOINTS)}, "input_file_id": _TEXT},
            {
                "output_file_id": _MAYBE,
                "error_file_id": _MAYBE,
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                "errors": {"type": "array", "items": problem},
                **{f"{name}_at": _MOMENT for name in ("in_progress", "finalizing", "completed", "expires")},
                **{f"{name}_at": _MOMENT for name in ("cancelled", "failed")},
            },
        )
        listed = _object(
            {
                "object": {"const": "list"},
                "data": {"type": "array", "items": batch},
                "has_more": {"type": "boolean"},
            },
            {"first_id": _MAYBE, "last_id": _MAYBE},
        )
        results = _object(
            {"batch_id": _TEXT, "result_available": {"type": "boolean"}},
            {"output_file_url": _TEXT, "error_file_url": _TEXT, "expires_at": _MOMENT},
        )
    else:
        batch = _object(
            {**shared, "file_id": _TEXT, "result_available": {"type": "boolean"}, "updated_at": _MOMENT},
            {
                "cancel_requested_at": _MOMENT,
                "expires_at": _MOMENT,
                "errors": {"type": "array", "items": problem},
            },
        )
        listed = _object(
            {
                "edges": {"type": "array", "items": _object({"cursor": _TEXT, "node": batch})},
                "page_info": _object({"endCursor": {"type": "string"}, "hasNextPage": {"type": "boolean"}}),
            }
        )
        results = _object(
            {"download": _object({"presigned_url": _TEXT, "expires_at": _MOMENT}), "output_file_id": _TEXT}
        )
    error = _object({"id": _TEXT, "message": _TEXT}, {"request_id": _TEXT})
    stage = {"enum": ["validating", "in_progress", "finalizing"]}
    return {
        "CreateFile": _object({"file_name": _NAME}, closed=False),
        "File": _object({"file_id": _TEXT, "upload_url": _TEXT}, {"expires_at": _MOMENT}),
        "CreateBatch": {"oneOf": [_creation("openai", options), _creation("anthropic", options)]},
        "Batch": batch,
        "BatchList": listed,
        "Results": results,
        "Error": error,
        "ModelError": _object({"error": {"type": "object"}}, closed=False),
        "Any": {},
        "ChatRequest": _object(
            {"model": _TEXT, "messages": {"type": "array", "minItems": 1, "items": turn}},
            {"n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128}},
            closed=False,
        ),
        "ResponsesRequest": _object(
            {
                "model": _TEXT,
                "input": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": item}]},
            },
            closed=False,
        ),
        "EmbeddingsRequest": _object(
            {"model": _TEXT, "input": {"anyOf": [{"type": "string"}, texts]}}, closed=False
        ),
        "MessagesRequest": _object(
            {
                "model": _TEXT,
                "max_tokens": {"type": "integer", "minimum": 1},
                "messages": {"type": "array", "minItems": 1, "items": turn},
            },
            closed=False,
        ),
        "ChatAnswer": _object({"choices": {"type": "array"}, "model": {"type": "string"}}, closed=False),
        "ResponsesAnswer": _object({"output": {"type": "array"}, "status": _TEXT}, closed=False),
        "EmbeddingsAnswer": _object({"data": {"type": "array"}}, closed=False),
        "MessagesAnswer": _object({"content": {"type": "array"}, "type": {"const": "message"}}, closed=False),
        "Faults": {"type": "object", "minProperties": 1},
        "Advance": _object(
            {"advance": {"type": "number", "minimum": 0, "maximum": 100_000_000}}, closed=False
        ),
        "Hold": _object({}, {"stage": stage, "after": _COUNT}, closed=False),
    }


def _creation(provider: str, options: Options) -> dict[str, Any]:
    """What creating a batch takes, which depends on the provider."""
    required: dict[str, Any] = {"file_id": _TEXT, "provider": {"const": provider}, "request_id": _TEXT}
    optional: dict[str, Any] = {
        "completion_window": {"const": "24h"},
        "metadata": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
    }
    rule = options.endpoint_rule
    if provider == "openai":
        both = [CHAT, RESPONSES]
        required["endpoint"] = {"enum": both if rule == "openai_only" else [*both, EMBEDDINGS]}
    elif rule == "always":
        required["endpoint"] = {"const": MESSAGES}
    else:
        optional["endpoint"] = {"enum": [None] if rule == "openai_only" else [MESSAGES, None]}
    return _object(required, optional, closed=False)


def _faults() -> dict[str, Any]:
    """What may be set to go wrong; `operation` with the settings of a fault, the others by themselves."""
    share, seconds = (
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "minimum": 0, "maximum": 3600},
    )
    times = {"type": ["integer", "null"], "minimum": 1}
    spoil = {
        **dict.fromkeys(("missing", "doubled", "foreign"), _COUNT),
        "torn": {"type": "boolean"},
        "times": times,
    }
    return {
        "fail_share": share,
        "latency": seconds,
        "api_latency": seconds,
        "operation": {"enum": ["*", *OPERATIONS]},
        "times": times,
        "skip": _COUNT,
        "delay": seconds,
        "drop": {"enum": ["before", "after", None]},
        "status": {"type": ["integer", "null"], "minimum": 100, "maximum": 599},
        "body": _MAYBE,
        "retry_after": {"type": ["number", "null"], "minimum": 0},
        "cut": {"type": ["integer", "null"], "minimum": 0},
        "expire": {"type": "boolean"},
        "word": _MAYBE,
        "spoil": _object({}, spoil),
    }
