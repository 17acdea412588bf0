"""Messages and responses requests asked of a model that only knows chat, and its answers turned back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .plain import from_json, to_json
from .shapes import CHAT, MESSAGES, RESPONSES, Reply, Usage, error_reply, messages_body, responses_body

__all__ = ["answer_by_chat", "chat_request", "from_chat"]

# Fields that mean the same in chat.
_SAME = {
    "model", "temperature", "top_p", "seed", "user", "metadata", "top_k", "min_p", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "chat_template_kwargs", "logit_bias",
}  # fmt: skip
# Fields whose absence changes no answer: bookkeeping of a provider, or how the answer is sent.
_IDLE = {
    "stream", "stream_options", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "include_obfuscation",
}  # fmt: skip
_OURS = {
    RESPONSES: {
        "input", "instructions", "max_output_tokens", "text", "tools", "tool_choice", "reasoning",
        "parallel_tool_calls",
    },
    MESSAGES: {"messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice"},
}  # fmt: skip
# Values that ask for nothing.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "truncation": ("disabled",),
    "background": (False,),
    "include": ([],),
    "top_logprobs": (0,),
    "thinking": ({"type": "disabled"},),
}


def answer_by_chat(endpoint: str, body: Mapping[str, Any], ask: Callable[[dict[str, Any]], Reply]) -> Reply:
    """
    Answer a request of any text endpoint by asking one chat completion.

    A request that chat cannot express is refused with 400: nothing that was asked for is left out silently.
    """
    try:
        request = chat_request(endpoint, body)
    except ValueError as problem:
        return error_reply(endpoint, 400, str(problem))
    return from_chat(endpoint, body, ask(request))


def from_chat(endpoint: str, body: Mapping[str, Any], reply: Reply) -> Reply:
    """The answer of a chat completion as the answer to the request that was turned into it."""
    if endpoint == CHAT:
        return reply
    if reply.status != 200:
        error = reply.body.get("error")
        message = error.get("message") if isinstance(error, Mapping) else None
        return error_reply(endpoint, reply.status, str(message or reply.body))
    choice = reply.body["choices"][0]
    counted = _mapping(reply.body.get("usage"))
    usage = Usage(_count(counted.get("prompt_tokens")), _count(counted.get("completion_tokens")))
    model, message = str(body.get("model", "")), choice["message"]
    text, finish = _said(message.get("content")), str(choice.get("finish_reason") or "stop")
    called = message.get("tool_calls")
    functions = [
        _mapping(_mapping(call).get("function")) for call in (called if isinstance(called, list) else [])
    ]
    calls = [(str(one.get("name")), _arguments(one.get("arguments"))) for one in functions if one]
    if endpoint == RESPONSES:
        return Reply(200, responses_body(model, text, usage, finish, calls))
    inputs = []
    for name, arguments in calls:
        try:
            inputs.append((name, from_json(arguments.encode("utf-8", "replace"))))
        except ValueError:
            return error_reply(endpoint, 502, f"The model called {name!r} with arguments that are no JSON")
    return Reply(200, messages_body(model, text, usage, finish, inputs))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(tokens: Any) -> int:
    """Tokens as they were counted; what is no number counts nothing, and costs no answer."""
    known = isinstance(tokens, (int, float)) and 0 <= tokens < 2**53
    return int(tokens) if known else 0


def _said(content: Any) -> str | None:
    """The text of an answer, which some servers give in parts: those that are thoughts are none of it."""
    if not isinstance(content, list):
        return content if content is None or isinstance(content, str) else to_json(content).decode()
    texts = [
        part if isinstance(part, str) else _mapping(part).get("text")
        for part in content
        if _mapping(part).get("type", "text") in ("text", "output_text")
    ]
    return "".join(text for text in texts if isinstance(text, str))


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) and given else to_json(given or {}).decode()


def chat_request(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat request that asks the same; raises ValueError, with the names, for what chat cannot express."""
    if endpoint == CHAT:
        return dict(body)
    lost = [
        name
        for name, value in body.items()
        if value is not None
        and name not in _SAME | _IDLE | _OURS[endpoint]
        and value not in _DEFAULTS.get(name, ())
    ]
    if lost:
        raise ValueError(
            f"The model's server has no {endpoint}, and chat cannot express: {', '.join(sorted(lost))}"
        )
    request = {name: value for name, value in body.items() if name in _SAME and value is not None}
    return request | (_of_messages(body) if endpoint == MESSAGES else _of_responses(body))


def _of_messages(body: Mapping[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if body.get("stop_sequences"):
        request["stop"] = body["stop_sequences"]
    if body.get("max_tokens") is not None:
        request["max_tokens"] = body["max_tokens"]
    turns: list[dict[str, Any]] = []
    if body.get("system"):
        turns.append({"role": "system", "content": _content(body["system"])})
    for turn in body.get("messages") or []:
        turns += _turn_of_messages(turn)
    request["messages"] = turns
    if body.get("tools"):
        request["tools"] = [_tool(tool, tool.get("input_schema")) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if choice:
        kind = choice["type"]
        words: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
        if kind == "tool":
            words[kind] = {"type": "function", "function": {"name": choice["name"]}}
        if kind not in words:
            raise ValueError(f"chat cannot express a tool_choice of type {kind!r}")
        request["tool_choice"] = words[kind]
        if choice.get("disable_parallel_tool_use"):
            request["parallel_tool_calls"] = False
    return request


def _turn_of_messages(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = turn.get("content", "")
    if isinstance(content, str):
        return [{"role": turn.get("role", "user"), "content": content}]
    results = [part for part in content if part.get("type") == "tool_result"]
    used = [part for part in content if part.get("type") == "tool_use"]
    rest = [part for part in content if part.get("type") not in ("tool_result", "tool_use")]
    turns: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": part["tool_use_id"], "content": _content(part.get("content") or "")}
        for part in results
    ]
    calls = [_call(part["id"], part["name"], to_json(part.get("input") or {}).decode()) for part in used]
    if rest or calls or not turns:
        said: dict[str, Any] = {"role": turn.get("role", "user"), "content": _content(rest) if rest else None}
        turns.append(said | ({"tool_calls": calls} if calls else {}))
    return turns


def _of_responses(body: Mapping[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if body.get("max_output_tokens") is not None:
        request["max_tokens"] = body["max_output_tokens"]
    if body.get("parallel_tool_calls") is False:
        request["parallel_tool_calls"] = False
    for name, value in (body.get("reasoning") or {}).items():
        if name == "effort" and value is not None:
            request["reasoning_effort"] = value
        elif value is not None:
            raise ValueError(f"chat cannot express reasoning.{name}")
    for name, value in (body.get("text") or {}).items():
        if name == "format" and value and value.get("type") == "json_schema":
            form = {key: value[key] for key in ("name", "schema", "strict", "description") if key in value}
            request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", **form}}
        elif name == "format" and value:
            request["response_format"] = dict(value)
        elif name == "verbosity" and value is not None:
            request["verbosity"] = value
        elif value is not None:
            raise ValueError(f"chat cannot express text.{name}")
    turns: list[dict[str, Any]] = []
    if body.get("instructions"):
        turns.append({"role": "system", "content": str(body["instructions"])})
    given = body.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or []:
        turns += _turn_of_responses(item, turns)
    request["messages"] = turns
    if body.get("tools"):
        request["tools"] = [_tool(tool, tool.get("parameters")) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        if choice.get("type") != "function":
            raise ValueError(f"chat cannot express a tool_choice of type {choice.get('type')!r}")
        choice = {"type": "function", "function": {"name": choice["name"]}}
    if choice is not None:
        request["tool_choice"] = choice
    return request


def _turn_of_responses(item: Mapping[str, Any], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kind = item.get("type", "message")
    if kind == "function_call":
        call = _call(item["call_id"], item["name"], item.get("arguments") or "{}")
        if before and "tool_calls" in before[-1]:
            before[-1]["tool_calls"].append(call)
            return []
        return [{"role": "assistant", "content": None, "tool_calls": [call]}]
    if kind == "function_call_output":
        return [
            {"role": "tool", "tool_call_id": item["call_id"], "content": _content(item.get("output") or "")}
        ]
    if kind == "reasoning":
        return []  # what a model thought before is not told to it again in chat either
    if kind != "message":
        raise ValueError(f"chat cannot express an input item of type {kind!r}")
    role = "system" if item.get("role") == "developer" else str(item.get("role", "user"))
    return [{"role": role, "content": _content(item.get("content", ""))}]


def _call(call_id: Any, name: Any, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool(tool: Mapping[str, Any], parameters: Any) -> dict[str, Any]:
    if tool.get("type", "function") not in ("function", "custom") or (
        parameters is None and "name" not in tool
    ):
        raise ValueError(f"chat cannot express a tool of type {tool.get('type')!r}")
    described = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": described | {"parameters": parameters or {"type": "object"}}}


def _content(content: Any) -> Any:
    """A turn's content: text where it is text alone, parts where there are pictures in it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("content must be a text or a list of parts")
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type")
    if kind in ("text", "input_text", "output_text") or (kind is None and "text" in part):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "text", "text": part["refusal"]}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    source = part.get("source") or {}
    if kind == "image" and source.get("type") == "base64":
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"},
        }
    if kind == "image" and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    raise ValueError(f"chat cannot express a part of type {kind!r}")
