"""The explorer's JavaScript in Chromium alone, talking to its Python side without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import browser
import pytest
import waiting
from browser import lab, lab_session  # noqa: F401  fixtures

_RENDER = """async ({esm, css, config, page, touched}) => {
  document.head.append(Object.assign(document.createElement("style"), {textContent: css}));
  const module = await import(URL.createObjectURL(new Blob([esm], {type: "text/javascript"})));
  const state = {config, page, touched}, listeners = new Set();
  const model = {
    get: (name) => state[name],
    on: (event, listener) => event === "msg:custom" ? listeners.add(listener) : (window.renamed = listener),
    off: (event, listener) => listeners.delete(listener),
    send: async (message) => {
      for (const reply of await window.ask(message)) for (const listener of listeners) listener(reply);
    },
  };
  const place = document.createElement("div");
  document.body.append(place);
  const started = performance.now();
  module.default.render({model, el: place});
  window.painted = await new Promise((done) => requestAnimationFrame(() =>
    done(performance.now() - started)));
}"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A Chromium that can reach nothing."""
    reason = browser.missing()
    if reason:
        pytest.skip(reason)
    with browser.chromium() as running:
        yield running


class Shown:
    """An explorer on a page of its own."""

    def __init__(self, page: Any, explorer: Any) -> None:
        self.page, self.explorer = page, explorer
        self.replies: list[dict[str, Any]] = []
        explorer.widget.send = lambda content, buffers=None: self.replies.append(content)
        page.expose_function("ask", self._ask)
        widget = explorer.widget
        page.evaluate(
            _RENDER,
            {"esm": str(widget._esm), "css": str(widget._css), "config": widget.config, "page": widget.page,
             "touched": widget.touched},
        )  # fmt: skip

    def _ask(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        self.replies.clear()
        self.explorer._answer(None, message)
        return list(self.replies)

    def rate_as(self, rater: str) -> None:
        """Set who labels, as a cell of the notebook would."""
        self.explorer.rater = rater
        self.page.evaluate("window.renamed()")

    def status(self) -> str:
        return str(self.page.inner_text(".status"))

    def wait_for_status(self, text: str) -> None:
        self.page.get_by_role("status").filter(has_text=text).wait_for()

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for what Python is to hear of; it hears only while the page is waited for."""
        waiting.eventually(lambda: holds() or self.page.wait_for_timeout(10))

    def labels(self) -> list[str]:
        return [str(text) for text in self.page.locator("tbody tr td.dx-label").all_inner_texts()]


@pytest.fixture
def show(chromium: Any) -> Iterator[Any]:
    """Puts an explorer on a page: `show(explorer) -> Shown`."""
    contexts = []

    def show_it(explorer: Any, **options: Any) -> Shown:
        page = browser.window(chromium, **{"viewport": {"width": 1200, "height": 700}, **options})
        contexts.append(page.context)
        return Shown(page, explorer)

    yield show_it
    for context in contexts:
        context.close()
