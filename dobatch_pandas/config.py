"""Where settings come from: ``configure(...)`` first, then the environment, then a default."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from .errors import ConfigurationError, DobatchError

__all__ = ["BASE_URL", "VERSION", "Settings", "configure", "configured", "settings"]

VERSION = "0.2.0"

BASE_URL = "https://inference.do-ai.run"

# The documentation of the service uses all of these names for the same key.
TOKEN_VARIABLES = ("DIGITALOCEAN_TOKEN", "MODEL_ACCESS_KEY", "DIGITAL_OCEAN_MODEL_ACCESS_KEY")

Display = bool | Literal["widget", "bar"] | None
OnEnd = Callable[[Any], object] | str
"""A function that takes the job, a URL, or "desktop"."""


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
        Folder that holds the jobs, absolute.
    display : bool, "widget", "bar" or None
        What ``submit`` and ``wait`` show; None decides by where the code runs.
    allow_http : bool
        Whether a token may go over plain ``http://`` to a host other than this machine.
    prices : mapping
        Prices by model that replace or add to the price list.
    account : str or None
        Whose jobs these are; None tells it by the token.
    same_account : bool
        The token is a new one of the account that was used before.
    on_end : callable, str or None
        What hears of a job's end: a function, a URL, or "desktop".
    on_end_key : str or None
        What is sent to a URL is signed with it; never shown.
    store : str or None
        Address of a folder that all machines of a cluster reach.
    """

    token: str | None = field(repr=False)
    base_url: str
    home: Path
    display: Display
    allow_http: bool
    prices: Mapping[str, Any]
    account: str | None = None
    same_account: bool = False
    on_end: OnEnd | None = field(default=None, repr=False)
    on_end_key: str | None = field(default=None, repr=False)
    store: str | None = None


@dataclass(frozen=True)
class _Chosen:
    token: str | None = field(default=None, repr=False)
    base_url: str | None = None
    home: Path | None = None
    display: Display = None
    allow_http: bool | None = None
    prices: Mapping[str, Any] = field(default_factory=dict)
    account: str | None = None
    same_account: bool = False
    on_end: OnEnd | None = field(default=None, repr=False)
    on_end_key: str | None = field(default=None, repr=False)
    store: str | None = None


_chosen = _Chosen()
_blocks: list[
    dict[str, Any]
] = []  # what blocks of `configured` have set and nobody has since; the latest last
_lock = threading.Lock()
_UNCHANGED: Any = object()


def configure(
    token: str | None = _UNCHANGED,
    base_url: str | None = _UNCHANGED,
    home: str | os.PathLike[str] | None = _UNCHANGED,
    display: Display = _UNCHANGED,
    allow_http: bool | None = _UNCHANGED,
    prices: Mapping[str, Any] | None = _UNCHANGED,
    account: str | None = _UNCHANGED,
    on_end: OnEnd | None = _UNCHANGED,
    on_end_key: str | None = _UNCHANGED,
    store: str | os.PathLike[str] | None = _UNCHANGED,
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
        Folder of the jobs. Else ``DOBATCH_HOME``, else the platform's user data folder.
    display : bool, "widget" or "bar", optional
        False for scripts that want silence; None shows a panel in a notebook and a bar in a terminal.
    allow_http : bool, optional
        Let the token travel over plain ``http://`` to a host that is not this machine.
    prices : mapping of str to Prices, optional
        US dollars per million tokens by model name, before the price list is asked.
    account : str, optional
        Whose jobs these are: jobs and answers of one account are never picked up or given out under another. Else
        ``DOBATCH_ACCOUNT``, else each token is an account of its own. With a new token, ``account="same"`` says that it
        is of the account that was used before in this home, and the home remembers that.
    on_end : callable, str, optional
        What hears of the end of each job that this process has seen running: a function that takes the job, a URL that gets
        JSON, or ``"desktop"``. Else ``DOBATCH_ON_END``, where that is a URL or ``desktop``.
    on_end_key : str, optional
        Key that what is sent to a URL is signed with. Else ``DOBATCH_ON_END_KEY``.
    store : str, optional
        Folder that all machines of a cluster reach, such as ``s3://bucket/prefix`` or any address that fsspec opens: jobs
        over Dask frames keep results there, and another machine can attach to them. Else ``DOBATCH_STORE``, else none.

    Raises
    ------
    ConfigurationError
        A value cannot be right; then nothing has changed.
    """
    global _chosen
    given = {
        "token": token,
        "base_url": base_url,
        "home": home,
        "display": display,
        "allow_http": allow_http,
        "prices": prices,
        "account": account,
        "on_end": on_end,
        "on_end_key": on_end_key,
        "store": store,
    }
    changes = _checked({name: value for name, value in given.items() if value is not _UNCHANGED})
    with _lock:
        _chosen = replace(_chosen, **changes)
        # The latest word counts, and is nothing that a block may take back.
        for block in _blocks:
            for name in changes:
                block.pop(name, None)
    _tell()


@contextmanager
def configured(**changes: Any) -> Iterator[None]:
    """Set things as `configure` does, for every thread, and have just these as before when the block ends."""
    block = _checked(changes)
    replace(_chosen, **block)  # a name that is none is an error here and now
    with _lock:
        _blocks.append(block)
    _tell()
    try:
        yield
    finally:
        with _lock:
            _blocks[:] = [other for other in _blocks if other is not block]


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    changes = dict(given)
    if "token" in changes:
        changes["token"] = checked_token(changes["token"])
        changes.setdefault("account", _UNCHANGED)
        changes["same_account"] = False
    if isinstance(changes.get("account"), str) and changes["account"] == "same":
        if not changes.get("token"):
            raise ConfigurationError(
                'account="same" says that a new token is of the account before: give it with token=... in the same call.'
            )
        # A name that was given for the account before holds on.
        changes["account"], changes["same_account"] = _UNCHANGED, True
    if changes.get("account", _UNCHANGED) is _UNCHANGED:
        changes.pop("account", None)
    else:
        changes["account"] = _account(changes["account"])
    if "base_url" in changes:
        changes["base_url"] = _address(changes["base_url"])
    if "home" in changes:
        changes["home"] = None if _is_nothing(changes["home"]) else _folder(changes["home"])
    if "store" in changes:
        changes["store"] = _store(changes["store"])
    if "display" in changes:
        changes["display"] = checked_display(changes["display"])
    if not isinstance(changes.get("allow_http"), (bool, type(None))):
        raise ConfigurationError(f"allow_http is {changes['allow_http']!r:.80}; it takes True or False.")
    if changes.get("on_end") is not None:
        changes["on_end"] = checked_on_end(changes["on_end"], bool(changes.get("allow_http")))
    if "on_end_key" in changes and not isinstance(changes["on_end_key"], (str, type(None))):
        raise ConfigurationError("on_end_key takes a text, or None.")
    if "prices" in changes:
        prices = {} if changes["prices"] is None else changes["prices"]
        if not isinstance(prices, Mapping) or not all(isinstance(model, str) for model in prices):
            raise ConfigurationError(
                f"prices is {prices!r:.80}; it takes a dict of a model's name to its Prices."
            )
        changes["prices"] = dict(prices)
    return changes


def checked_display(display: Any) -> Any:
    """Return what may be shown of a job; raise ConfigurationError where it is no such word."""
    if (
        display is None
        or isinstance(display, bool)
        or (isinstance(display, str) and display in ("widget", "bar"))
    ):
        return display
    raise ConfigurationError(f'display is {display!r:.80}; it takes True, False, None, "widget" or "bar".')


def checked_token(token: str | None) -> str | None:
    """Return a token without the blanks around it; raise ConfigurationError where it can be none."""
    token = token.strip() if isinstance(token, str) else token
    # Nothing is quoted here: most of it may be right.
    if token is not None and not isinstance(token, str):
        raise ConfigurationError(f"The token is a {type(token).__name__}; it takes a str, or None.")
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigurationError("The token holds a space, a line break or the like. Copy it again.")
    return token or None


def checked_on_end(on_end: Any, allow_http: bool = False) -> OnEnd:
    """Return what may hear of a job's end; raise ConfigurationError where it cannot."""
    if callable(on_end) or (isinstance(on_end, str) and on_end == "desktop"):
        return on_end  # type: ignore[no-any-return]
    takes = 'it takes a function, a URL, "desktop" or None'
    if not isinstance(on_end, str):
        raise ConfigurationError(f"on_end is {on_end!r}; {takes}.")
    try:
        parts = urlsplit(on_end)
        host = parts.hostname
    except ValueError:
        host = None
    # Nothing of the path is quoted: it may be what protects the address.
    if not host or parts.scheme not in ("http", "https") or not on_end.isprintable() or " " in on_end:
        raise ConfigurationError(f"on_end is a text that is no http address; {takes}.")
    if parts.username or parts.password:
        raise ConfigurationError(
            f"on_end is an address of {host} with a user in it; sign with on_end_key instead."
        )
    near = host in ("localhost", "::1") or host.startswith("127.")
    if parts.scheme == "http" and not near and not (allow_http or _chosen.allow_http):
        raise ConfigurationError(
            f"on_end goes to {host} over plain http, where others can read and change it. Use https, or allow it "
            "with dobatch.configure(allow_http=True)."
        )
    return on_end


def place_of(on_end: Any) -> str:
    """Name where something is told, without what may be secret in it."""
    return on_end if on_end == "desktop" else urlsplit(on_end).hostname or "nobody"


def _account(name: Any) -> str | None:
    name = name.strip() if isinstance(name, str) else name
    if name is None or (isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()):
        return name
    raise ConfigurationError(
        f'account is {name!r}; it takes a name of up to 200 characters, "same" together with a new token, or None.'
    )


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _address(url: Any) -> str | None:
    if _is_nothing(url):
        return None
    if not isinstance(url, str) or not url.strip().lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"base_url is {url!r:.80}; it takes an http(s) address such as 'https://inference.do-ai.run', or None."
        )
    return url.strip().rstrip("/")


def _store(address: Any) -> str | None:
    if _is_nothing(address):
        return None
    if isinstance(address, str) and "://" in address:
        return address.rstrip("/")
    return str(_folder(address))


def _folder(path: Any) -> Path:
    """Return a folder as it is named from where the process stands now: it may go elsewhere later."""
    try:
        text = os.fspath(path)
        if not isinstance(text, str) or "\0" in text:
            raise ValueError("a path of text is needed")
        os.fsencode(text)
        return Path(os.path.abspath(os.path.expanduser(text)))
    except (TypeError, ValueError, OSError) as error:
        raise ConfigurationError(f"home is {path!r}, which names no folder: {error}.") from error


@lru_cache(maxsize=64)
def _folder_of_variable(path: str) -> Path:
    return _folder(path)


_listeners: list[Any] = []


def on_change(listener: Any) -> None:
    """Have ``listener()`` called after each ``configure``."""
    _listeners.append(listener)


def _tell() -> None:
    # Jobs that paused for want of a token look again now rather than at their next turn.
    failed: list[DobatchError] = []
    for listener in list(_listeners):
        try:
            listener()
        except DobatchError as error:  # told when all others know
            failed.append(error)
    if failed:
        raise failed[0]


def settings() -> Settings:
    """Return what holds now."""
    with _lock:
        changes = {name: value for block in _blocks for name, value in block.items()}
        chosen = replace(_chosen, **changes) if changes else _chosen
    token = chosen.token
    for name in TOKEN_VARIABLES:
        token = token or os.environ.get(name)
    home = os.environ.get("DOBATCH_HOME")
    base_url = chosen.base_url or os.environ.get("DOBATCH_BASE_URL") or BASE_URL
    return Settings(
        token=token,
        base_url=base_url.rstrip("/"),
        home=chosen.home or (_folder_of_variable(home) if home else _default_home()),
        display=chosen.display,
        allow_http=bool(chosen.allow_http),
        prices=chosen.prices,
        account=chosen.account or _account(os.environ.get("DOBATCH_ACCOUNT") or None),
        same_account=chosen.same_account,
        store=chosen.store or _store(os.environ.get("DOBATCH_STORE")),
        on_end=chosen.on_end or _on_end_of_environment(),
        on_end_key=chosen.on_end_key or os.environ.get("DOBATCH_ON_END_KEY") or None,
    )


def _on_end_of_environment() -> OnEnd | None:
    found = os.environ.get("DOBATCH_ON_END", "").strip()
    return checked_on_end(found) if found else None


def _default_home() -> Path:
    import platformdirs

    with suppress(RuntimeError):  # nobody knows where: the account has no home directory
        found = platformdirs.user_data_path("dobatch")
        if found.is_absolute():
            return found
    raise ConfigurationError(
        "This account has no home directory, so there is no place yet for jobs and their answers. Name a folder that stays "
        "with dobatch.configure(home=...) or DOBATCH_HOME."
    )
