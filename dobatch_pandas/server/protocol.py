"""uvicorn's HTTP protocol, whose connections a fault can cut."""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .operation import TRANSPORT

__all__ = ["Protocol"]


class Protocol(HttpToolsProtocol):
    """Puts the transport into the scope."""

    def on_message_begin(self) -> None:
        """See uvicorn."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[TRANSPORT] = self.transport
