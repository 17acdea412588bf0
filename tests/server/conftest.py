"""One server a test: they start in milliseconds, and none sees another's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from server.driver import Api
from server.stub import Stub

from dobatch_pandas.server import LocalServer


@pytest.fixture
def serve() -> Iterator[Callable[..., Api]]:
    """Start a server with these options, stopped after the test."""
    with ExitStack() as stack:

        def start(model: Any = "echo", **options: Any) -> Api:
            options.setdefault("rate_limit", None)
            return Api(stack.enter_context(LocalServer(model, **options)))

        yield start


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    """A server with the echo model, wire A, no rate limit."""
    return serve()


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    """Start a model's server that answers as told, stopped after the test."""
    with ExitStack() as stack:

        def start(answer: Any, **options: Any) -> Stub:
            made = Stub(answer, **options)
            stack.callback(made.close)
            return made

        yield start
