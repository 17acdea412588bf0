"""JSON Schemas of every answer in wire A, written from the documentation of the service."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

TIMESTAMP = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$",
}
STATUS = {
    "enum": [
        "validating",
        "in_progress",
        "finalizing",
        "completed",
        "failed",
        "expired",
        "cancelling",
        "cancelled",
    ]
}
COUNT = {"type": "integer", "minimum": 0}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


FILE = _object({"file_id": {"type": "string"}, "upload_url": {"type": "string"}}, {"expires_at": TIMESTAMP})

BATCH = _object(
    {
        "batch_id": {"type": "string"},
        "status": STATUS,
        "provider": {"enum": ["openai", "anthropic"]},
        "endpoint": {"enum": ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]},
        "completion_window": {"const": "24h"},
        "input_file_id": {"type": "string"},
        "request_counts": _object({"total": COUNT, "completed": COUNT, "failed": COUNT}),
        "request_id": {"type": "string"},
        "created_at": TIMESTAMP,
    },
    {
        "output_file_id": {"type": ["string", "null"]},
        "error_file_id": {"type": ["string", "null"]},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": _object(
                {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "line": {"type": ["integer", "null"]},
                }
            ),
        },
        "in_progress_at": TIMESTAMP,
        "finalizing_at": TIMESTAMP,
        "completed_at": TIMESTAMP,
        "expires_at": TIMESTAMP,
        "cancelled_at": TIMESTAMP,
        "failed_at": TIMESTAMP,
    },
)

LIST = _object(
    {"object": {"const": "list"}, "data": {"type": "array", "items": BATCH}, "has_more": {"type": "boolean"}},
    {"first_id": {"type": ["string", "null"]}, "last_id": {"type": ["string", "null"]}},
)

RESULTS = _object(
    {"batch_id": {"type": "string"}, "result_available": {"type": "boolean"}},
    {"output_file_url": {"type": "string"}, "error_file_url": {"type": "string"}, "expires_at": TIMESTAMP},
)

ERROR = _object(
    {
        "id": {
            "enum": [
                "bad_request",
                "unauthorized",
                "forbidden",
                "not_found",
                "conflict",
                "precondition_failed",
                "unprocessable_entity",
                "too_many_requests",
                "server_error",
            ]
        },
        "message": {"type": "string", "minLength": 1},
    },
    {"request_id": {"type": "string"}},
)

CHAT = {
    "type": "object",
    "required": ["id", "object", "model", "choices", "usage"],
    "properties": {
        "object": {"const": "chat.completion"},
        "choices": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["index", "message", "finish_reason"],
                "properties": {
                    "finish_reason": {"enum": ["stop", "length", "content_filter", "tool_calls"]},
                    "message": {
                        "type": "object",
                        "required": ["role", "content"],
                        "properties": {"content": {"type": ["string", "null"]}},
                    },
                },
            },
        },
        "usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"]},
    },
}

# A line of an output or error file for `openai`.
OPENAI_LINE = _object(
    {
        "id": {"type": "string"},
        "custom_id": {"type": "string"},
        "response": {
            "anyOf": [
                {"type": "null"},
                _object(
                    {
                        "status_code": {"type": "integer"},
                        "request_id": {"type": "string"},
                        "body": {"type": "object"},
                    }
                ),
            ]
        },
        "error": {
            "anyOf": [{"type": "null"}, _object({"code": {"type": "string"}, "message": {"type": "string"}})]
        },
    }
)

_ERROR_OF_ANTHROPIC = {
    "type": "object",
    "required": ["type"],
    "properties": {"error": {"type": "object", "required": ["type", "message"]}},
}

# A line for `anthropic`.
ANTHROPIC_LINE = _object(
    {
        "custom_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "result": {
            "oneOf": [
                _object(
                    {
                        "type": {"const": "succeeded"},
                        "message": {
                            "type": "object",
                            "required": ["id", "model", "content", "stop_reason", "usage"],
                            "properties": {"content": {"type": "array"}},
                        },
                    }
                ),
                _object({"type": {"const": "errored"}, "error": _ERROR_OF_ANTHROPIC}),
                _object({"type": {"enum": ["canceled", "expired"]}}),
            ]
        },
    }
)


def check(value: Any, schema: dict[str, Any]) -> None:
    """Fail, with every reason, unless the value fits."""
    problems = [error.message for error in Draft202012Validator(schema).iter_errors(value)]
    assert not problems, (problems, value)
