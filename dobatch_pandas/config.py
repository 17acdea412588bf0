"""Where settings come from: ``configure(...)`` first, then the environment, then a default."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

from .errors import ConfigurationError

__all__ = ["BASE_URL", "Settings", "configure", "configured", "settings"]

BASE_URL = "https://inference.do-ai.run"

# The documentation of the service uses all of these names for the same key.
TOKEN_VARIABLES = ("DIGITALOCEAN_TOKEN", "MODEL_ACCESS_KEY", "DIGITAL_OCEAN_MODEL_ACCESS_KEY")

Display = bool | Literal["widget", "bar"] | None


@dataclass(frozen=True)
class Settings:
    """
    What every call falls back to.

    Parameters
    ----------
    token : str or None
        Key for the service; never shown, never written to disk.
    base_url : str
        Address of the service, without a trailing slash.
    home : pathlib.Path
        Folder that holds the ledger and the jobs.
    display : bool, "widget", "bar" or None
        What ``submit`` and ``wait`` show; None decides by where the code runs.
    allow_http : bool
        Whether a token may go over plain ``http://`` to a host other than this machine.
    prices : mapping
        Prices by model that replace or add to the price list.
    """

    token: str | None = field(repr=False)
    base_url: str
    home: Path
    display: Display
    allow_http: bool
    prices: Mapping[str, Any]


@dataclass(frozen=True)
class _Chosen:
    token: str | None = field(default=None, repr=False)
    base_url: str | None = None
    home: Path | None = None
    display: Display = None
    allow_http: bool | None = None
    prices: Mapping[str, Any] = field(default_factory=dict)


_chosen = _Chosen()
_UNCHANGED: Any = object()


def configure(
    token: str | None = _UNCHANGED,
    base_url: str | None = _UNCHANGED,
    home: str | os.PathLike[str] | None = _UNCHANGED,
    display: Display = _UNCHANGED,
    allow_http: bool | None = _UNCHANGED,
    prices: Mapping[str, Any] | None = _UNCHANGED,
) -> None:
    """
    Set what every later call falls back to; what is left out stays, None goes back to the environment.

    Parameters
    ----------
    token : str, optional
        Key for the service. Else ``DIGITALOCEAN_TOKEN``, ``MODEL_ACCESS_KEY`` or
        ``DIGITAL_OCEAN_MODEL_ACCESS_KEY``. Jobs that wait for a valid token go on.
    base_url : str, optional
        Address of the service. Else ``DOBATCH_BASE_URL``, else ``https://inference.do-ai.run``.
    home : path, optional
        Folder of the ledger and the jobs. Else ``DOBATCH_HOME``, else the platform's user data folder.
    display : bool, "widget" or "bar", optional
        False for scripts that want silence; None shows a panel in a notebook and a bar in a terminal.
    allow_http : bool, optional
        Let the token travel over plain ``http://`` to a host that is not this machine.
    prices : mapping of str to Prices, optional
        US dollars per million tokens by model name, before the price list is asked.
    """
    global _chosen
    changes: dict[str, Any] = {}
    if token is not _UNCHANGED:
        changes["token"] = token
    if base_url is not _UNCHANGED:
        changes["base_url"] = base_url.rstrip("/") if base_url else None
    if home is not _UNCHANGED:
        changes["home"] = Path(home).expanduser() if home else None
    if display is not _UNCHANGED:
        if display not in (True, False, None, "widget", "bar"):
            raise ConfigurationError(
                f'display is {display!r}; it takes True, False, None, "widget" or "bar".'
            )
        changes["display"] = display
    if allow_http is not _UNCHANGED:
        changes["allow_http"] = allow_http
    if prices is not _UNCHANGED:
        changes["prices"] = dict(prices or {})
    _chosen = replace(_chosen, **changes)
    # Jobs that paused for want of a token look again now rather than at their next turn.
    for listener in list(_listeners):
        listener()


@contextmanager
def configured(**changes: Any) -> Iterator[None]:
    """Set things as `configure` does, and have them as before when the block ends."""
    global _chosen
    before = _chosen
    configure(**changes)
    try:
        yield
    finally:
        _chosen = before


_listeners: list[Any] = []


def on_change(listener: Any) -> None:
    """Have ``listener()`` called after each ``configure``."""
    _listeners.append(listener)


def settings() -> Settings:
    """Return what holds now."""
    token = _chosen.token
    for name in TOKEN_VARIABLES:
        token = token or os.environ.get(name)
    home = _chosen.home or os.environ.get("DOBATCH_HOME")
    base_url = _chosen.base_url or os.environ.get("DOBATCH_BASE_URL") or BASE_URL
    return Settings(
        token=token,
        base_url=base_url.rstrip("/"),
        home=Path(home).expanduser() if home else platformdirs.user_data_path("dobatch"),
        display=_chosen.display,
        allow_http=bool(_chosen.allow_http),
        prices=_chosen.prices,
    )
