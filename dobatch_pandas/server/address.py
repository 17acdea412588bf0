"""Addresses of other servers, as they are given."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["is_address", "shown"]


def is_address(text: str) -> bool:
    """Whether paths can be put behind it: http or https, a host, a port that there is, and nothing behind the path."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment)
        )
    except ValueError:
        return False


def shown(address: str) -> str:
    """An address as it may be printed: without the name and password that may stand in it."""
    scheme, _, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
