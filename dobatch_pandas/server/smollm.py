"""SmolLM2-135M-Instruct, a real small language model, run by llama.cpp in this process."""

from __future__ import annotations

import importlib.util
import os
import threading
from typing import Any

import orjson

from dobatch_pandas.errors import MissingExtra

from . import weights
from .convert import answer_by_chat
from .minilm import MiniLmModel
from .shapes import CHAT, EMBEDDINGS, Reply, Usage, error_reply, text_of, text_reply, wanted_schema

__all__ = ["SmolLm2Model"]

# Tokens of prompt and answer together; the model was trained on no more.
_CONTEXT = 2048
_MOST = 512


class SmolLm2Model:
    """
    Answers chat, responses and messages, plain or in a JSON Schema; embeddings come from `MiniLmModel`.

    It is a model of 135 million parameters: quick on any machine, and often wrong.

    Parameters
    ----------
    concurrency : int
        Requests decoded together; each has 2,048 tokens of context.
    """

    name = "smollm2"
    chunk = 1

    def __init__(self, concurrency: int = 8) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra("The small model", "model")
        path = weights.find("smollm2")[0]
        import xllamacpp

        self.concurrency = concurrency
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = concurrency
        params.n_ctx = _CONTEXT * concurrency
        params.verbosity = -1
        params.ui = False
        # Prompts of a batch rarely come twice, and the cache would grow to gigabytes.
        params.cache_ram_mib = 0
        for cpu in (params.cpuparams, params.cpuparams_batch):
            # Its threads wait for each other at every step, spinning: on cores that others use too, one that is
            # not running holds up all.
            cpu.n_threads, cpu.poll = max(1, (os.cpu_count() or 1) - 1), 0
        self._server: Any = xllamacpp.Server(params)
        self._embedder: MiniLmModel | None = None
        self._closing = threading.Event()
        self._idle = threading.Condition()
        self._busy = 0

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        if endpoint == EMBEDDINGS:
            if self._embedder is None:
                self._embedder = MiniLmModel()
            return self._embedder.answer(endpoint, body)
        return answer_by_chat(endpoint, body, self._chat)

    def close(self) -> None:
        """Break off what is being answered, end llama.cpp's threads and free its memory."""
        self._closing.set()
        with self._idle:
            # Freeing it under a thread that is inside would take the process down.
            self._idle.wait_for(lambda: not self._busy)
        self._server = None

    def _chat(self, body: dict[str, Any]) -> Reply:
        turns = [{**turn, "content": text_of(turn.get("content") or "")} for turn in body.get("messages", [])]
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or _MOST
        request = {**body, "messages": turns, "max_tokens": limit}
        # It cannot choose a tool by itself; one that must be called is a schema for the answer.
        wanted = wanted_schema(body, CHAT)
        tool = wanted.tool if wanted is not None else None
        if wanted is not None and tool is not None:
            schema = {"name": tool, "schema": wanted.schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        for name in ("tools", "tool_choice", "n"):
            request.pop(name, None)
        # Token by token, which is the way to break off.
        request |= {"stream": True, "stream_options": {"include_usage": True}, "timings_per_token": True}
        wants_json = (request.get("response_format") or {}).get("type") in ("json_schema", "json_object")
        pieces: list[dict[str, Any]] = []

        def take(piece: dict[str, Any]) -> bool:
            pieces.append(piece)
            return self._closing.is_set() or (wants_json and _is_whole_json(pieces))

        with self._idle:
            if self._closing.is_set():
                return error_reply(CHAT, 503, "The model is closed")
            self._busy += 1
        try:
            self._server.handle_chat_completions(request, take)
        except (ValueError, RuntimeError) as problem:
            return error_reply(CHAT, 400, str(problem))
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()
        given = wants_json and bool(pieces) and _is_whole_json(pieces)
        reply = _whole(pieces, str(body.get("model", self.name)), given=given)
        if tool is None or not given:
            return reply
        message = {"role": "assistant", "content": None, "refusal": None}
        call: dict[str, Any] = {"id": f"call_{reply.body['id']}", "type": "function"}
        call["function"] = {"name": tool, "arguments": _text(pieces).strip()}
        choice = {
            **reply.body["choices"][0],
            "message": {**message, "tool_calls": [call]},
            "finish_reason": "tool_calls",
        }
        return Reply(200, {**reply.body, "choices": [choice]})


def _is_whole_json(pieces: list[dict[str, Any]]) -> bool:
    """Whether the answer has been given: white space is all that may follow, and can go on for long."""
    if not _text(pieces[-1:]).rstrip().endswith("}"):
        return False
    try:
        orjson.loads(_text(pieces))
    except orjson.JSONDecodeError:
        return False
    return True


def _text(pieces: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for piece in pieces for choice in piece.get("choices", ())
    )


def _whole(pieces: list[dict[str, Any]], model: str, *, given: bool) -> Reply:
    finish, usage = "stop" if given else None, Usage(0, 0)
    for piece in pieces:
        if "error" in piece:
            error = piece["error"]
            return error_reply(CHAT, int(error.get("code") or 400), str(error.get("message")))
        for choice in piece["choices"]:
            finish = choice["finish_reason"] or finish
        if "usage" in piece:
            usage = Usage(piece["usage"]["prompt_tokens"], piece["usage"]["completion_tokens"])
        elif times := piece.get("timings"):
            # All that tells the tokens of an answer that was broken off.
            usage = Usage(times["cache_n"] + times["prompt_n"], times["predicted_n"])
    if finish is None:
        return error_reply(CHAT, 503, "The model was closed while it answered")
    return text_reply(CHAT, model, _text(pieces), usage, finish)
