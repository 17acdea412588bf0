"""The optional libraries of this package, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from dobatch_pandas.errors import MissingExtra

__all__ = ["need"]


def need(module: str, feature: str) -> Any:
    """
    Return a module of the ``eval`` extra.

    Raises
    ------
    MissingExtra
        It is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as absent:
        raise MissingExtra(feature, "eval") from absent
