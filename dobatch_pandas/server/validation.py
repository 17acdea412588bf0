"""Whether an input file may run: every line looked at, every problem with its line number."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from .plain import MOST_VALUES, too_many

__all__ = ["FileLimits", "Findings", "inspect", "line_offsets"]

_ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SHOWN = 100


@dataclass(frozen=True)
class FileLimits:
    """What one input file may hold at most."""

    bytes: int = 200_000_000
    openai_requests: int = 50_000
    anthropic_requests: int = 100_000

    def requests(self, provider: str) -> int:
        """Requests a file of this provider may hold."""
        return self.openai_requests if provider == "openai" else self.anthropic_requests


@dataclass
class Findings:
    """Where the lines of a file begin (its end last), and the first hundred problems they have."""

    offsets: array[int] = field(default_factory=lambda: array("Q", [0]))
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, code: str, message: str, line: int | None = None) -> None:
        """Note a problem."""
        if len(self.errors) < _SHOWN:
            self.errors.append({"code": code, "message": message, "line": line})


def line_offsets(path: Path) -> array[int]:
    """Where each line of a file begins, and where the file ends."""
    offsets = array("Q", [0])
    position = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            offsets.append(position)
    return offsets


def inspect(path: Path, provider: str, endpoint: str, limits: FileLimits) -> Findings:
    """Read an input file once, in pieces, and say what is wrong with it."""
    found = Findings()
    size = path.stat().st_size
    if size > limits.bytes:
        found.add("file_too_large", f"The file has {size:,} bytes; at most {limits.bytes:,} are allowed.")
        return found
    most = limits.requests(provider)
    seen: set[str] = set()
    model: list[Any] = []
    position = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            position += len(line)
            found.offsets.append(position)
            if number > most:
                found.add("too_many_requests", f"The file has more than {most:,} requests.")
                return found
            _look(found, line, number, provider, endpoint, seen, model)
    if position == 0:
        found.add("empty_file", "The file is empty.")
    return found


def _look(
    found: Findings, line: bytes, number: int, provider: str, endpoint: str, seen: set[str], model: list[Any]
) -> None:
    if too_many(line):
        found.add("request_too_large", f"This line holds more than {MOST_VALUES:,} values.", number)
        return
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        found.add("invalid_json_line", f"This line is not parseable as valid JSON: {problem}", number)
        return
    if not isinstance(request, dict):
        found.add("invalid_json_line", "This line is not a JSON object.", number)
        return
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        found.add("missing_required_parameter", "Missing required parameter: 'custom_id'.", number)
    elif custom_id in seen:
        found.add("duplicate_custom_id", f"The custom_id {custom_id!r} was used before in this file.", number)
    else:
        seen.add(custom_id)
        if provider == "anthropic" and not _ANTHROPIC_ID.fullmatch(custom_id):
            found.add(
                "invalid_custom_id", f"custom_id {custom_id!r} must match ^{_ANTHROPIC_ID.pattern}$", number
            )
    body = request.get("body" if provider == "openai" else "params")
    if provider == "openai":
        if request.get("method") != "POST":
            found.add("invalid_method", f"'method' must be 'POST', not {request.get('method')!r}.", number)
        if request.get("url") != endpoint:
            found.add(
                "url_mismatch", f"'url' is {request.get('url')!r}; this batch is for {endpoint!r}.", number
            )
    if not isinstance(body, dict):
        name = "body" if provider == "openai" else "params"
        found.add("missing_required_parameter", f"Missing required parameter: '{name}', an object.", number)
        return
    if not isinstance(body.get("model"), str):
        found.add("missing_required_parameter", "Missing required parameter: 'model'.", number)
    elif not model:
        model.append(body["model"])
    elif body["model"] != model[0]:
        message = f"The model {body['model']!r} is not the one of the lines before, {model[0]!r}."
        found.add("model_mismatch", message, number)
    if provider == "anthropic":
        _look_at_params(found, body, number)
    elif body.get("stream"):
        found.add("invalid_value", "'stream' is not available in a batch.", number)


def _look_at_params(found: Findings, params: dict[str, Any], number: int) -> None:
    tokens = params.get("max_tokens")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        found.add("invalid_request", f"'max_tokens' must be a positive integer, not {tokens!r}.", number)
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages:
        found.add("invalid_request", "'messages' must be a list with at least one message.", number)
    elif any(isinstance(one, dict) and one.get("role") == "system" for one in messages):
        found.add("invalid_request", "The role 'system' is no message: use the parameter 'system'.", number)
