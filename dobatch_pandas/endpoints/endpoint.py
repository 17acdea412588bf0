"""What every endpoint says of itself; nothing else in the package knows one endpoint from another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from .answer import Answer
from .parameters import Limit
from .provider import Provider

__all__ = ["Endpoint"]


class Endpoint(ABC):
    """One path of the service: what a request's body looks like, and what an answer's body means."""

    name: str
    """What people call it."""
    url: str
    provider: Provider

    # What a request's body looks like.

    roles: frozenset[str] = frozenset()
    """Who may speak in a message."""
    reserved: Mapping[str, str] = {}
    """Body parameters that this package sets itself, and what to do instead."""
    defaults: Mapping[str, Any] = {}
    """Body parameters that the endpoint demands, where none are given."""
    limits: Mapping[str, Limit] = {}
    """Between which numbers a parameter must lie, as the service documents it."""
    limit_names: tuple[str, ...] = ()
    """Body parameters that limit the answer's tokens, the one that counts first."""
    forms: tuple[str, ...] = ()
    """Body parameters that the provider puts to the model in a form of its own."""
    words_on_tools = 0
    """The most tokens that the provider itself adds to a request that has tools."""
    strict = True
    """Whether a schema says if it is to be decoded strictly."""
    published = False
    """Whether it is known how a conversation becomes tokens."""
    vectors = False
    """Whether answers are vectors rather than texts."""

    @abstractmethod
    def members(self, prompt: Any, system: Any) -> dict[str, Any]:
        """Return the question's part of the body: `prompt` is a text or messages, `system` a text or None."""

    @abstractmethod
    def schema_members(self, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
        """Return the part of the body that asks for an answer of a schema; strictly, where the service can."""

    def limit_for(self, model: str) -> str:
        """Return the parameter that limits a model's answers."""
        return self.limit_names[0] if self.limit_names else ""

    @abstractmethod
    def problems(self, params: Mapping[str, Any], model: str = "") -> list[str]:
        """Name what the endpoint would refuse in the other parameters."""

    @abstractmethod
    def conversation(self, body: Mapping[str, Any]) -> list[Any]:
        """Return the messages of a request, the system text first."""

    # What an answer's body means.

    body: Any
    """The Arrow type of a body that holds one plain answer, as far as it is read."""

    def shape(self, body: Mapping[str, Any] | None) -> Any:
        """Return `body`, or another form of it that this answer's body has."""
        return self.body

    @abstractmethod
    def claims(self, body: Mapping[str, Any]) -> bool:
        """Whether an answer's body is of this endpoint."""

    @abstractmethod
    def read_body(self, body: Mapping[str, Any]) -> Answer:
        """Read one answer's body of any shape."""

    @abstractmethod
    def plain(self, body: Any) -> tuple[Any, dict[str, Any]]:
        """
        Read a whole column of bodies.

        Returns
        -------
        answered : numpy array of bool
            Which rows hold a plain success.
        columns : dict of pyarrow.Array
            What was read, right for those rows.
        """
