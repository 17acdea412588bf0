"""
The fixture `dobatch_server`, which pytest finds by itself where this package is installed.

It is a real server on a port of its own, new for each test. The environment of the test, and of processes that it
starts, points to it: `DOBATCH_BASE_URL`, `DIGITALOCEAN_TOKEN`, and a home folder of its own in `DOBATCH_HOME`.
Options of `LocalServer` stand in a mark: ``@pytest.mark.dobatch_server(wire="B", fail_share=0.1)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .local import LocalServer

__all__ = ["dobatch_server"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", "dobatch_server(model, **options): options of the server of `dobatch_server`"
    )


@pytest.fixture
def dobatch_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[LocalServer]:
    """A batch inference service of the test's own: nothing is paid, and nothing leaves this machine."""
    from .local import LocalServer

    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {"rate_limit": None}
    mark = request.node.get_closest_marker("dobatch_server")
    if mark is not None:
        arguments, options = mark.args, {**options, **mark.kwargs}
    with LocalServer(*arguments, **options) as server:
        monkeypatch.setenv("DOBATCH_BASE_URL", server.url)
        monkeypatch.setenv("DIGITALOCEAN_TOKEN", server.token)
        monkeypatch.setenv("DOBATCH_HOME", str(tmp_path / "dobatch-home"))
        yield server
