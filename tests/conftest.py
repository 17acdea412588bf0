"""Fixtures that most tests share: a server of their own, a home of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import dobatch_pandas as dobatch
from dobatch_pandas import config
from dobatch_pandas.job.process import close_home
from dobatch_pandas.service import limiter

hypothesis_settings.register_profile(
    "tests",
    deadline=None,
    # The same change passes twice or fails twice; new examples are looked for where someone sits and reads.
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("tests")

# A key of the developer's must never reach a test.
for name in (*config.TOKEN_VARIABLES, "DOBATCH_BASE_URL", "DOBATCH_HOME", "DOBATCH_ACCOUNT"):
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def unknown_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing known of any host: a server may get the port of an earlier one, whose limits are not its own."""
    monkeypatch.setattr(limiter, "_limiters", {})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder of the test's own; whatever still moves in it is stopped afterwards."""
    # A call that failed is repeated after a tenth of the time.
    monkeypatch.setitem(dobatch.Client.__init__.__kwdefaults__, "backoff", 0.05)
    folder = tmp_path / "home"
    monkeypatch.setattr(config, "_chosen", config._chosen)  # what the test configures ends with it
    with config.configured(home=folder, display=False):
        yield folder
    close_home(folder)


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Any]]:
    """Start servers with any options; the last one started is the one that is configured."""
    with ExitStack() as servers:

        def start(**options: Any) -> Any:
            options.setdefault("rate_limit", None)
            server = servers.enter_context(dobatch.LocalServer(**options))
            dobatch.configure(base_url=server.url, token=server.token)
            return server

        yield start


@pytest.fixture
def server(serve: Callable[..., Any]) -> Any:
    """A server that echoes prompts, configured."""
    return serve()


class Unlucky:
    """A model that echoes prompts, and fails with those that end in 7 until it is ``lucky``."""

    lucky = False

    def __call__(self, body: dict[str, Any], endpoint: str) -> str:
        text = str(body["messages"][-1]["content"])
        if not self.lucky and text.endswith("7"):
            raise RuntimeError("no luck")
        return text


@pytest.fixture
def unlucky() -> Unlucky:
    """A model whose failures end otherwise when they are sent again."""
    return Unlucky()


@pytest.fixture
def reviews() -> pd.DataFrame:
    """Real reviews with labels, 40 of them."""
    return dobatch.datasets.load_reviews(40)
