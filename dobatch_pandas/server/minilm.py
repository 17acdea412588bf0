"""all-MiniLM-L6-v2, a real embeddings model, run by onnxruntime."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from typing import Any

import numpy as np

from dobatch_pandas.errors import MissingExtra

from . import weights
from .shapes import EMBEDDINGS, Reply, Usage, embeddings_body, error_reply

__all__ = ["MiniLmModel"]


class MiniLmModel:
    """Answers embeddings: unit vectors of 384 dimensions, texts beyond 256 tokens cut off."""

    name = "minilm"
    concurrency = 2
    chunk = 8

    def __init__(self) -> None:
        for library in ("onnxruntime", "tokenizers"):
            if importlib.util.find_spec(library) is None:
                raise MissingExtra("The embeddings model", "model")
        onnx, tokenizer = weights.find("minilm")
        onnxruntime: Any = importlib.import_module("onnxruntime")
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(max_length=256)
        self._tokenizer.no_padding()
        self._lock = threading.Lock()

    def answer(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """See `Model.answer`."""
        if endpoint != EMBEDDINGS:
            return error_reply(endpoint, 400, "This model makes embeddings only")
        texts = body.get("input")
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            return error_reply(endpoint, 400, "'input' must be a string or a list of strings")
        size = body.get("dimensions") or 384
        if not isinstance(size, int) or not 1 <= size <= 384:
            return error_reply(endpoint, 400, "'dimensions' must be a number from 1 to 384")
        vectors, tokens = [], 0
        # One text a run: a vector must not depend on what else is in the request.
        for text in texts:
            vector, count = self._embed(text, size)
            vectors.append(vector)
            tokens += count
        encoding = str(body.get("encoding_format") or "float")
        return Reply(
            200, embeddings_body(str(body.get("model", self.name)), vectors, Usage(tokens), encoding)
        )

    def close(self) -> None:
        """Nothing is held."""

    def _embed(self, text: str, size: int) -> tuple[list[float], int]:
        with self._lock:
            ids = self._tokenizer.encode(text).ids
        tokens = np.array([ids], dtype=np.int64)
        feeds = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        hidden = self._session.run(None, feeds)[0][0]
        pooled = hidden.mean(axis=0)[:size].astype(np.float64)
        return (pooled / max(float(np.linalg.norm(pooled)), 1e-12)).tolist(), len(ids)
