"""A panel that two threads look at: its own, and the one of a cell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from display.fakes import FakeJob, snapshot
from waiting import PATIENCE

from dobatch_pandas.display.snapshot import Snapshot

pytest.importorskip("ipywidgets")
from dobatch_pandas.display import panel


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What came to the page, and not what was changed there."""
    bundles: list[dict[str, Any]] = []

    def publish(bundle: dict[str, Any], *_: Any, update: bool = False) -> None:
        if not update:
            bundles.append(bundle)

    monkeypatch.setattr(panel, "_publish", publish)
    yield bundles
    ended()


def ended() -> None:
    """Wait for the threads of panels that were closed."""
    for thread in threading.enumerate():
        if thread.name.startswith("dobatch-panel"):
            thread.join()


def test_a_look_that_is_late_brings_nothing_old_back() -> None:
    """
    The panel has begun to look when the job ends; the picture that the waiting cell leaves says that it has ended.
    """
    begun, go_on = threading.Event(), threading.Event()

    class Job(FakeJob):
        def snapshot(self) -> Snapshot:
            now = super().snapshot()
            if threading.current_thread() is slow:
                begun.set()
                assert go_on.wait(PATIENCE)
            return now

    job = Job()
    shown = panel.Panel(job, snapshot())
    slow = threading.Thread(target=shown._look)
    slow.start()
    assert begun.wait(PATIENCE)
    job.set(state="completed", completed=100)
    cell = threading.Thread(target=shown._look)
    cell.start()
    cell.join(0.2)
    go_on.set()
    slow.join()
    cell.join()
    assert "100 answered" in shown._picture()["text/html"]


def test_a_panel_that_ends_while_it_is_shown_again_is_a_picture(published: list[dict[str, Any]]) -> None:
    """
    Its thread has just let go: no cell gets a widget that nobody draws any more.
    """
    shown = panel.Panel(FakeJob(), snapshot())
    shown.show()
    assert [panel.VIEW in bundle for bundle in published] == [True, False]
    shown.close()
    published.clear()
    shown.show()
    assert not [bundle for bundle in published if panel.VIEW in bundle]
    assert any("40 answered" in bundle["text/html"] for bundle in published)


def test_a_button_that_is_pressed_at_the_end_draws_over_no_picture(published: list[dict[str, Any]]) -> None:
    """
    On a page that was loaded anew the widget is the picture, and stays it.
    """
    shown = panel.Panel(FakeJob(), snapshot())
    shown.show()
    shown.close()
    ended()
    picture = shown._parts["body"].value
    assert "40 answered" in picture
    shown.press("cancel")
    assert shown._parts["body"].value == picture
