"""``/v1/chat/completions``: what a request's body looks like, and what an answer's body says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
    is_cut_short,
    is_thought,
    path,
    plural,
    saying,
    says,
    true,
    words,
)
from .endpoint import Endpoint
from .openai import OPENAI
from .parameters import COUNT, SHARE, Limit

__all__ = ["CHAT"]

# Models that refuse max_tokens and take max_completion_tokens.
_REASONING = re.compile(r"(^|[/-])(o[1-9](-|$)|gpt-5)", re.IGNORECASE)


class _Chat(Endpoint):
    name, url, provider = "chat", "/v1/chat/completions", OPENAI
    roles = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
    reserved = {
        "messages": "give them as the prompt",
        "stream": "a batch does not stream",
        "n": "samples=k asks k times",
    }
    limits = {
        "max_tokens": COUNT,
        "max_completion_tokens": COUNT,
        "temperature": Limit(0, 2),
        "top_p": SHARE,
        "frequency_penalty": Limit(-2, 2),
        "presence_penalty": Limit(-2, 2),
        "top_logprobs": Limit(0, 20, whole=True),
    }
    limit_names = ("max_completion_tokens", "max_tokens")
    forms = ("response_format", "tools", "tool_choice", "functions", "function_call")
    published = True

    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """Put the question into ``messages``, the system text first."""
        conversation = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        instructions = [] if system is None else [{"role": "system", "content": system}]
        return {"messages": [*instructions, *conversation]}

    def schema_members(self, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
        """Ask for JSON of a schema."""
        return {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": strict, "schema": schema},
            }
        }

    def limit_for(self, model: str) -> str:
        """Return the parameter that limits a model's answers."""
        return "max_completion_tokens" if _REASONING.search(model) else "max_tokens"

    def problems(self, params: Mapping[str, Any], model: str = "") -> list[str]:
        """Name what the endpoint would refuse."""
        wrong = []
        if "max_tokens" in params and "max_completion_tokens" in params:
            wrong.append("max_tokens and max_completion_tokens are both given; one of them is enough.")
        elif "max_tokens" in params and self.limit_for(model) != "max_tokens":
            wrong.append(f"max_tokens is called max_completion_tokens where the model is {model}.")
        if params.get("top_logprobs") is not None and not params.get("logprobs"):
            wrong.append("top_logprobs needs logprobs=True.")
        if "max_output_tokens" in params:
            wrong.append("max_output_tokens is called max_completion_tokens at this endpoint.")
        return wrong

    def conversation(self, body: Mapping[str, Any]) -> list[Any]:
        """Return the messages of a request."""
        return list(body.get("messages") or [])

    # What an answer's body says.

    body = arrow_type(
        {
            "model": STRING,
            "choices": [
                {"message": {"content": TEXT, "tool_calls": [{"id": STRING}]}, "finish_reason": STRING}
            ],
            "usage": {
                "prompt_tokens": INTEGER,
                "completion_tokens": INTEGER,
                "prompt_tokens_details": {"cached_tokens": INTEGER},
                "completion_tokens_details": {"reasoning_tokens": INTEGER},
            },
        }
    )

    def claims(self, body: Mapping[str, Any]) -> bool:
        """Whether this body is of this endpoint."""
        return "choices" in body

    def read_body(self, body: Mapping[str, Any]) -> Answer:
        """Read one body of any shape."""
        usage = body.get("usage")
        known: dict[str, Any] = {
            "model": words(body.get("model")),
            "prompt_tokens": count(path(usage, "prompt_tokens")),
            "completion_tokens": count(path(usage, "completion_tokens")),
            "cached_tokens": count(path(usage, "prompt_tokens_details", "cached_tokens")),
            "reasoning_tokens": count(path(usage, "completion_tokens_details", "reasoning_tokens")),
        }
        choices = body.get("choices")
        if not isinstance(choices, list) or (choices and not isinstance(choices[0], dict)):
            return Answer(**known, **failed("invalid_response"))
        if not choices:
            return Answer(**known, **failed("empty_response"))
        choice = choices[0]
        message = choice.get("message")
        known["finish_reason"] = finish = words(choice.get("finish_reason"))
        if not isinstance(message, dict):
            return Answer(**known, **failed("invalid_response"))
        text, refusal = _text_of(message.get("content"))
        ending = ending_of(finish)
        calls = message.get("tool_calls")
        if not calls and isinstance(
            message.get("function_call"), dict
        ):  # as calls were before there were tools
            calls = [{"function": message["function_call"]}]
        if isinstance(calls, list) and calls:
            text = calls_as_text(
                [(path(c, "function", "name"), path(c, "function", "arguments")) for c in calls]
            )
            known["finish_reason"] = "tool_calls" if ending is None else finish
        refusal = words(message.get("refusal")) or refusal
        if ending is not None:
            return Answer(text, **known, **cut_short(ending, finish, refusal))
        if says(text):
            return Answer(text, **known)
        if refusal:
            return Answer(refusal, **known, **failed("refusal", refusal))
        return Answer(**known, **failed("empty_response"))

    def plain(self, body: Any) -> tuple[Any, dict[str, Any]]:
        """Which rows hold a plain success, and the columns read for those."""
        choices = pc.struct_field(body, "choices")
        text = first(choices, "message", "content")
        finish = first(choices, "finish_reason")
        called = true(pc.is_in(finish, value_set=pa.array(["tool_calls", "function_call"])))
        columns = {
            "text": text,
            "finish_reason": finish,
            "model": beside(body, "model"),
            "prompt_tokens": beside(body, "usage", "prompt_tokens"),
            "completion_tokens": beside(body, "usage", "completion_tokens"),
            "cached_tokens": beside(body, "usage", "prompt_tokens_details", "cached_tokens"),
            "reasoning_tokens": beside(body, "usage", "completion_tokens_details", "reasoning_tokens"),
        }
        calls = plural(first(choices, "message", "tool_calls"))
        return saying(text) & ~is_cut_short(finish) & ~called & (calls == 0), columns


def _text_of(content: Any) -> tuple[str | None, str | None]:
    """The text and the refusal of a content that is null, a string or a list of parts."""
    if content is None or isinstance(content, str):
        return content, None
    texts, refusals = [], []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(path(part, "text"), str) and not is_thought(part):
            texts.append(part["text"])
        elif isinstance(path(part, "refusal"), str):
            refusals.append(part["refusal"])
    return "".join(texts) if texts else None, "".join(refusals) or None


CHAT = _Chat()
