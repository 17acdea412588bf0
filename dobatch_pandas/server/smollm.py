"""SmolLM2-135M-Instruct, a real small language model, run by llama.cpp in this process."""

from __future__ import annotations

import importlib.util
from typing import Any

from dobatch_pandas.errors import MissingExtra

from . import weights
from .convert import answer_by_chat
from .minilm import MiniLmModel
from .shapes import EMBEDDINGS, Reply, error_reply, text_of

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
        self._server: Any = xllamacpp.Server(params)
        self._embedder: MiniLmModel | None = None

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        if endpoint == EMBEDDINGS:
            if self._embedder is None:
                self._embedder = MiniLmModel()
            return self._embedder.answer(endpoint, body)
        return answer_by_chat(endpoint, body, self._chat)

    def close(self) -> None:
        """End llama.cpp's threads and free its memory."""
        self._server = None

    def _chat(self, body: dict[str, Any]) -> Reply:
        turns = [{**turn, "content": text_of(turn.get("content") or "")} for turn in body.get("messages", [])]
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or _MOST
        request = {**body, "messages": turns, "max_tokens": limit}
        for name in ("tools", "tool_choice", "stream"):
            request.pop(name, None)
        try:
            answer = self._server.handle_chat_completions(request)
        except (ValueError, RuntimeError) as problem:
            return error_reply("/v1/chat/completions", 400, str(problem))
        if "error" in answer:
            error = answer["error"]
            code = int(error.get("code") or 400)
            return error_reply("/v1/chat/completions", code, str(error.get("message")))
        for extra in ("timings", "system_fingerprint"):
            answer.pop(extra, None)
        return Reply(200, {**answer, "model": body.get("model", self.name)})
