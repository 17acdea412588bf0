"""The parameters of a body: between which numbers a value may lie, and what a misspelt name must mean."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["COUNT", "SHARE", "Limit", "meant"]


@dataclass(frozen=True)
class Limit:
    """A number between two others, both included."""

    least: float
    most: float = math.inf
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return self.least <= value <= self.most and (not self.whole or value % 1 == 0)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.least:g} {'on' if self.most == math.inf else f'to {self.most:g}'}"


COUNT = Limit(1, whole=True)
SHARE = Limit(0, 1)

# fmt: off
_PARAMETERS = (
    "audio", "background", "cache_control", "chat_template_kwargs", "container", "context_management",
    "conversation", "dimensions", "encoding_format", "frequency_penalty", "function_call", "functions",
    "guided_json", "include", "input", "instructions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls", "mcp_servers", "messages",
    "metadata", "min_p", "modalities", "model", "n", "output_config",
    "parallel_tool_calls", "prediction", "presence_penalty", "previous_response_id", "prompt", "prompt_cache_key",
    "prompt_cache_retention", "reasoning", "reasoning_effort", "repetition_penalty", "response_format", "safety_identifier",
    "seed", "service_tier", "stop", "stop_sequences", "store", "stream",
    "stream_options", "system", "temperature", "text", "thinking", "tool_choice",
    "tools", "top_k", "top_logprobs", "top_p", "truncation", "user",
    "verbosity", "web_search_options",
)
# fmt: on
_SPELT = {name.replace("_", ""): name for name in _PARAMETERS}
# "temprature" is 0.95 like temperature; the most alike of two that both exist, logprobs and top_logprobs, 0.84.
_MISSPELT = 0.87


def meant(name: str, options: Collection[str] = ()) -> str | None:
    """
    Return what a misspelt parameter must mean, of the bodies of all four endpoints and of further options.

    None for a parameter that exists, and for any other.
    """
    if name in _PARAMETERS:
        return None
    spelt = {**_SPELT, **{_folded(option): option for option in options}}
    near = difflib.get_close_matches(_folded(name), spelt, n=1, cutoff=_MISSPELT)
    return spelt[near[0]] if near else None


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()
