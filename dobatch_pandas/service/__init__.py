"""Calls and bytes: what talks HTTP."""

from __future__ import annotations

from .client import Client

__all__ = ["Client"]
