"""
The live panel of a job in marimo, which shows anywidgets only; and everything else that is marimo's own.

A thread of marimo's may write to the page, and is told when its cell is run again. No other thread may, so what a
button has done is drawn by that one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from . import html
from .bell import bell_class, script
from .follow import BUTTONS, Drawing, Follower
from .snapshot import Snapshot

__all__ = ["MarimoPanel", "settle", "show_panel", "view"]

_HERE = Path(__file__).parent

_live: dict[str, MarimoPanel] = {}


def view(job: Any) -> Any:
    """
    Return what marimo shows for a job that is a cell's last value: a live panel, or the picture.

    Parameters
    ----------
    job : Job
    """
    import marimo

    try:
        snapshot = job.snapshot()
    except Exception:  # noqa: BLE001  deleted, moved, unreadable: the job's words say which
        return marimo.Html(html.words_html(repr(job)))
    if snapshot.over and not snapshot.failed:
        return marimo.Html(html.static_html(snapshot))
    if bell_class() is None:
        note = "Run the cell again for news. With the package anywidget installed, this panel is live."
        return marimo.Html(html.static_html(snapshot, note=note))
    panel = MarimoPanel(job, snapshot)
    panel.start()
    return panel.widget


def show_panel(job: Any, *, again: bool = True) -> None:
    """
    Show a live panel below the cell that runs.

    Parameters
    ----------
    job : Job
    again : bool
        False shows nothing where a live panel of this job is on the page already.
    """
    import marimo

    if again or job.id not in _live:
        marimo.output.append(view(job))


def settle(job: Any) -> None:
    """Nothing: marimo takes the news of a panel whichever cell runs."""


class MarimoPanel(Follower):
    """
    One job's anywidget in a marimo notebook.

    Parameters
    ----------
    job : Job
    snapshot : Snapshot

    Attributes
    ----------
    widget : anywidget.AnyWidget
    """

    def __init__(self, job: Any, snapshot: Snapshot) -> None:
        super().__init__(job, snapshot)
        self._thread: Any = None
        self._kernel = threading.current_thread()
        first = self._drawing(snapshot)
        self.widget = _widget_class()(drawing=self._state_of(first), end=first.end)
        self.widget.on_msg(self._told)
        _live[job.id] = self

    def _told(self, _widget: Any, message: dict[str, Any], _buffers: Any = None) -> None:
        if message.get("kind") == "press" and message.get("button") in BUTTONS:
            self.press(message["button"])

    def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        if name != "panel":
            super()._in_thread(name, work)
            return
        from marimo import Thread

        self._thread = Thread(target=work, name=f"dobatch-panel-{self.job.id}", daemon=True)
        self._thread.start()

    def _look(self) -> bool:
        if self._thread is not None and self._thread.should_exit:
            self.closed.set()
        return super()._look()

    def _put(self, drawing: Drawing) -> None:
        if threading.current_thread() in (self._thread, self._kernel):
            state = self._state_of(drawing)
            if self.widget.drawing != state:
                self.widget.drawing = state
            if self.widget.end != drawing.end:
                self.widget.end = drawing.end
        else:
            self._news.set()

    @staticmethod
    def _state_of(drawing: Drawing) -> dict[str, Any]:
        buttons = [
            {"name": name, "words": words, "says": BUTTONS[name][1], "there": there}
            for name, (words, there) in drawing.buttons.items()
        ]
        return {"pieces": drawing.pieces, "buttons": buttons, "compact": drawing.compact}

    def _focus(self, button: str) -> None:
        self.widget.send({"kind": "focus", "button": button})

    def _keep_picture(self) -> None:
        """There is no picture beside the widget."""

    def _leave(self) -> None:
        if _live.get(self.job.id) is self:
            del _live[self.job.id]

    def _withdraw(self) -> None:
        """Leave the last drawing, without buttons."""
        if self._thread.should_exit:
            return
        last = self._drawing(self._last)
        pieces = last.pieces | ({"message": html.plain(self._note)} if self._note else {})
        gone = {name: (words, False) for name, (words, _) in last.buttons.items()}
        self._put(Drawing(pieces, gone, False, last.end))


@cache
def _widget_class() -> Any:
    import traitlets

    class PanelWidget(bell_class()):  # type: ignore[misc]
        _esm = script((_HERE / "panel.js").read_text(encoding="utf-8"))
        _css = _HERE / "panel.css"
        drawing = traitlets.Dict().tag(sync=True)

    return PanelWidget
