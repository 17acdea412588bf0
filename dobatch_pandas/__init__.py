"""Rows in, answers back on the same rows: batch LLM inference for pandas, from a notebook."""

from __future__ import annotations

__version__ = "0.1.0"
