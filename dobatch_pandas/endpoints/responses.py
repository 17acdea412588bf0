"""``/v1/responses``: what a request's body looks like, and what an answer's body says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.codes import failure

from .answer import (
    INTEGER,
    STRING,
    TEXT,
    Answer,
    arrow_type,
    beside,
    calls_as_text,
    count,
    cut_short,
    ending_of,
    failed,
    first,
    is_thought,
    path,
    saying,
    says,
    true,
    words,
)
from .endpoint import Endpoint
from .openai import OPENAI
from .parameters import COUNT, SHARE, Limit

__all__ = ["RESPONSES"]


class _Responses(Endpoint):
    name, url, provider = "responses", "/v1/responses", OPENAI
    roles = frozenset({"system", "developer", "user", "assistant"})
    reserved = {
        "input": "give it as the prompt",
        "instructions": "give them as system=",
        "stream": "a batch does not stream",
        "background": "a batch is that already",
    }
    limits = {
        "max_output_tokens": COUNT,
        "temperature": Limit(0, 2),
        "top_p": SHARE,
        "top_logprobs": Limit(0, 20, whole=True),
    }
    limit_names = ("max_output_tokens",)
    forms = ("text", "tools", "tool_choice")

    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """Put the question into ``input`` and the system text into ``instructions``."""
        return {"input": prompt} if system is None else {"input": prompt, "instructions": system}

    def schema_members(self, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
        """Ask for JSON of a schema."""
        return {
            "text": {"format": {"type": "json_schema", "name": "answer", "strict": strict, "schema": schema}}
        }

    def problems(self, params: Mapping[str, Any], model: str = "") -> list[str]:
        """Name what the endpoint would refuse."""
        wrong = [name for name in ("max_tokens", "max_completion_tokens") if name in params]
        return [f"{name} is called max_output_tokens at this endpoint." for name in wrong]

    def conversation(self, body: Mapping[str, Any]) -> list[Any]:
        """Return the messages of a request."""
        asked = body.get("input")
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked or [])
        system = body.get("instructions")
        return messages if system is None else [{"role": "system", "content": system}, *messages]

    # What an answer's body says.

    body = arrow_type(
        {
            "status": STRING,
            "model": STRING,
            "incomplete_details": {"reason": STRING},
            "output": [{"type": STRING, "content": [{"type": STRING, "text": TEXT}]}],
            "usage": {
                "input_tokens": INTEGER,
                "output_tokens": INTEGER,
                "input_tokens_details": {"cached_tokens": INTEGER},
                "output_tokens_details": {"reasoning_tokens": INTEGER},
            },
        }
    )

    def claims(self, body: Mapping[str, Any]) -> bool:
        """Whether this body is of this endpoint."""
        return "output" in body or body.get("object") == "response"

    def read_body(self, body: Mapping[str, Any]) -> Answer:
        """Read one body of any shape."""
        usage = body.get("usage")
        status = words(body.get("status"))
        reason = words(path(body.get("incomplete_details"), "reason"))
        known: dict[str, Any] = {
            "finish_reason": reason or status,
            "model": words(body.get("model")),
            "prompt_tokens": count(path(usage, "input_tokens")),
            "completion_tokens": count(path(usage, "output_tokens")),
            "cached_tokens": count(path(usage, "input_tokens_details", "cached_tokens")),
            "reasoning_tokens": count(path(usage, "output_tokens_details", "reasoning_tokens")),
        }
        output = body.get("output")
        if not isinstance(output, list):
            return Answer(**known, **failed("invalid_response"))
        texts: list[str] = []
        refusals: list[str] = []
        calls = []
        # What is said on the way to the answer is marked as such, where there is an answer beside it.
        final = [item for item in output if path(item, "phase") != "commentary"]
        if any(path(item, "type") == "message" for item in final):
            output = final
        for item in output:
            if path(item, "type") == "function_call":
                calls.append((item.get("name"), item.get("arguments")))
            parts = path(item, "content") if path(item, "type") == "message" else None
            for part in parts if isinstance(parts, list) else [{"text": parts}]:
                said, refusal = path(part, "text"), path(part, "refusal")
                if isinstance(said, str) and not is_thought(part):
                    texts.append(said)
                elif isinstance(refusal, str):
                    refusals.append(refusal)
        text = "".join(texts) if texts else None
        if calls:
            text = calls_as_text(calls)
        if reason == "content_filter":
            return Answer(text, **known, **failed("content_filter"))
        if status == "incomplete":
            return Answer(text, **known, **failed("length"))
        if status in ("failed", "cancelled"):
            code, message = failure(None, body.get("error") or status)
            return Answer(text, **known, code="cancelled" if status == "cancelled" else code, message=message)
        ending = ending_of(status)
        if ending is not None:
            return Answer(text, **known, **cut_short(ending, status, None))
        if calls:
            return Answer(text, **{**known, "finish_reason": "tool_calls"})
        if says(text):
            return Answer(text, **known)
        if refusals:
            refusal = "".join(refusals)
            return Answer(refusal, **known, **failed("refusal", refusal))
        return Answer(**known, **failed("empty_response"))

    def plain(self, body: Any) -> tuple[Any, dict[str, Any]]:
        """Which rows hold a plain success (reasoning, then one message), and the columns read for those."""
        output = pc.struct_field(body, "output")
        bounds = output.offsets.to_numpy()
        items = output.values
        kind = pc.struct_field(items, "type")
        content = pc.struct_field(items, "content")
        reasoning = np.concatenate([[0], np.cumsum(true(pc.equal(kind, "reasoning")))])
        thoughts = reasoning[bounds[1:]] - reasoning[bounds[:-1]]
        counts = np.diff(bounds)
        last = pa.array(bounds[1:] - 1, mask=counts == 0)
        single = true(pc.and_(pc.equal(kind, "message"), pc.equal(pc.list_value_length(content), 1)))
        text = first(content, "text")
        single &= true(pc.equal(first(content, "type"), "output_text"))
        if len(items) != len(body) or not (counts == 1).all():
            text = text.take(last)
            single = true(pa.array(single).take(last))
        status = pc.struct_field(body, "status")
        ok = single & (thoughts == counts - 1) & saying(text) & true(pc.equal(status, "completed"))
        ok &= ~true(pc.is_valid(pc.struct_field(body, ["incomplete_details", "reason"])))
        return ok, {
            "text": text,
            "finish_reason": status,
            "model": beside(body, "model"),
            "prompt_tokens": beside(body, "usage", "input_tokens"),
            "completion_tokens": beside(body, "usage", "output_tokens"),
            "cached_tokens": beside(body, "usage", "input_tokens_details", "cached_tokens"),
            "reasoning_tokens": beside(body, "usage", "output_tokens_details", "reasoning_tokens"),
        }


RESPONSES = _Responses()
