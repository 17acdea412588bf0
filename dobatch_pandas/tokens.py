"""
How many tokens a text has, without the network.

With the optional ``quicktok-v1`` a text is split by the model's own vocabulary, where that is public
(OpenAI, Llama 3, Qwen, gpt-oss), and by OpenAI's ``o200k_base`` as a stand-in for the others. Without it,
every `BYTES_PER_TOKEN` bytes count as one token. A counter says which it is, and whether it is exact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["BYTES_PER_TOKEN", "ByteCounter", "TokenCounter", "counter_for"]

BYTES_PER_TOKEN = 4.2
"""
UTF-8 bytes a token of o200k_base: measured 4.4 in `load_reviews`, 4.8 in `load_movie_reviews` and 3.5 in
`load_date_understanding`, so an estimate by bytes is within some 20 % for texts like these.
"""

Counts = npt.NDArray[np.int64]

# The vocabularies that are known for sure, by the start of a model's name; the longest start decides.
_VOCABULARIES = {
    "gpt-3.5": "cl100k_base",
    "gpt-4": "cl100k_base",
    "gpt-4o": "o200k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4.5": "o200k_base",
    "chatgpt-4o": "o200k_base",
    "gpt-5": "o200k_base",
    "o1": "o200k_base",
    "o3": "o200k_base",
    "o4-mini": "o200k_base",
    "text-embedding-3": "cl100k_base",
    "text-embedding-ada-002": "cl100k_base",
    "gpt-oss": "o200k_harmony",
    **{
        f"{llama}3{minor}": "llama3"
        for llama in ("llama-", "llama", "meta-llama-")
        for minor in ("", ".1", ".2", ".3")
    },
    "qwen2": "qwen3",
    "qwen2.5": "qwen3",
    "qwen3": "qwen3",
}
_STAND_IN = "o200k_base"


class TokenCounter(Protocol):
    """
    Counts the tokens of texts.

    Attributes
    ----------
    name : str
        The vocabulary, or the ratio, in words.
    exact : bool
        Whether this is the model's own vocabulary; else its counts are estimates.
    """

    @property
    def name(self) -> str:
        """The vocabulary, or the ratio, in words."""

    @property
    def exact(self) -> bool:
        """Whether this is the model's own vocabulary."""

    def count(self, texts: Sequence[str]) -> Counts:
        """Return the tokens of each text."""


class _ByVocabulary:
    def __init__(self, encoding: Any, name: str, exact: bool) -> None:
        self.name, self.exact = name, exact
        self._encoding = encoding

    def count(self, texts: Sequence[str]) -> Counts:
        """Return the tokens of each text."""
        count_batch = import_module("quicktok").count_batch
        # All tokens of a piece are in memory at once, so pieces are small.
        pieces = [
            count_batch(self._encoding, texts[start : start + 8192]) for start in range(0, len(texts), 8192)
        ]
        return np.concatenate([np.zeros(0, np.int64), *pieces])


class _ByBytes:
    name = f"{BYTES_PER_TOKEN:g} bytes a token (no tokenizer is installed)"
    exact = False

    def count(self, texts: Sequence[str]) -> Counts:
        """Return about how many tokens each text has."""
        sizes = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
        return np.ceil(sizes / BYTES_PER_TOKEN).astype(np.int64)


class ByteCounter:
    """Counts bytes: a text has no more tokens than that, whatever the vocabulary."""

    name = "a byte a token"
    exact = False

    def count(self, texts: Sequence[str]) -> Counts:
        """Return how many tokens each text has at most."""
        return np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))


def counter_for(model: str) -> TokenCounter:
    """
    Return what counts the tokens of a model's texts best.

    Parameters
    ----------
    model : str
        Its name; a provider's name before it (``openai-gpt-4o``, ``meta-llama/Llama-3.1-8B``) does no harm.

    Examples
    --------
    >>> counter = counter_for("gpt-4.1-mini")
    >>> counter.name, counter.exact, counter.count(["Rows in, answers back.", ""]).tolist()
    ('o200k_base', True, [6, 0])
    """
    vocabulary = _vocabulary(model)
    try:
        encoding = _encoding(vocabulary or _STAND_IN)
    except ImportError:
        return _ByBytes()
    if vocabulary is None:
        return _ByVocabulary(encoding, f"{_STAND_IN} as a stand-in", exact=False)
    return _ByVocabulary(encoding, vocabulary, exact=True)


@lru_cache(maxsize=4)
def _encoding(name: str) -> Any:
    return import_module("quicktok").get_encoding(name)


def _vocabulary(model: str) -> str | None:
    name = model.lower().rsplit("/", 1)[-1].removeprefix("openai-")
    # gpt-4.7 is not a gpt-4: what follows the start of a name may not carry its number on.
    fits = [start for start in _VOCABULARIES if re.match(re.escape(start) + r"(?![\d.])", name)]
    return _VOCABULARIES[max(fits, key=len)] if fits else None
