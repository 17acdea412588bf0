"""
The live panel of a job in a notebook; the only importer of ipywidgets.

A cell that shows a job has two outputs: the widget, and below it the static picture, which the widget's style
hides for as long as the widget lives. A notebook that is opened again without its kernel has lost the widget and
shows the picture. One thread a job draws, however many cells show it, and ends with the job. Where a retry can
change something, the buttons stay for `follow.SETTLE` seconds first. Handlers of buttons only start threads: where
they run differs between ipykernel versions.

What a job cannot tell any more, because it was deleted or its folder is gone, leaves the picture that was drawn last.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

from . import html, running_cell, text
from .bell import bell_class
from .follow import BUTTONS, FEW, Drawing, Follower
from .snapshot import Snapshot

__all__ = ["Panel", "show_panel"]

VIEW = "application/vnd.jupyter.widget-view+json"

# Only what inline styles cannot say; without it the panel is still whole.
_STYLE = """<style>
/* The picture is there for when the panel is not: no widget, or one whose kernel is gone. */
body:has(.{mark}-panel:not(.jupyter-widgets-disconnected)) :is(.{mark}, .jp-OutputArea-child:has(.{mark})),
.dobatch-panel.jupyter-widgets-disconnected { display: none; }
.dobatch-panel { border-radius: 6px; }
.dobatch-panel.dobatch-compact { padding: 2px 14px; margin: 0; border-radius: 0; }
.dobatch-panel button.mod-danger:is(:enabled, :hover) { background: #b3261e; color: #fff; }
.dobatch-panel button:focus-visible { outline: 2px solid var(--jp-brand-color1, #3b82c4); }
.dobatch-panel .widget-html, .dobatch-panel .widget-html-content {
  height: auto; line-height: 1.5; margin: 0; }
.dobatch-panel .widget-html-content { width: 100%; color: var(--vscode-foreground, var(--jp-widgets-color, inherit)); }
/* A page without anywidget does without the button that is one. */
.dobatch-panel .jupyter-widgets:has(> .jupyter-widgets-error-widget) { display: none; }
/* VS Code lays widgets on white, in a dark theme too. */
.cell-output-ipywidget-background:has(.dobatch-panel) { background: transparent !important; }
.dobatch-bar { position: relative; }
.dobatch-panel .dobatch-busy::after { content: ""; position: absolute; inset: 0; background-size: 30% 100%;
  background-image: linear-gradient(90deg, transparent 20%, rgba(255,255,255,.45) 50%, transparent 80%);
  background-repeat: no-repeat; animation: dobatch-busy 2.4s linear infinite; }
@keyframes dobatch-busy { from { background-position: -50% 0; } to { background-position: 150% 0; } }
@media (prefers-reduced-motion: reduce) { .dobatch-panel .dobatch-busy::after { animation: none; background: none; } }
</style>"""

_live: dict[str, Panel] = {}
_shown: dict[str, Panel] = {}  # the newest of each job, also when it has given way to its picture
_registry = threading.Lock()


def show_panel(job: Any, *, again: bool = True, compact: bool | None = None) -> None:
    """
    Show a job's live panel below the cell that runs, or its picture where nothing more can be done.

    Parameters
    ----------
    job : Job
    again : bool
        False shows nothing where a live panel of this job is on the page already.
    compact : bool, optional
        True is a line, False a card; None is a card, and a line once there are more than `FEW`.
    """
    try:
        snapshot = job.snapshot()
    except Exception:  # noqa: BLE001  deleted, moved, unreadable: the job's words say which
        if again:
            _publish({"text/html": html.words_html(repr(job)), "text/plain": repr(job)})
        return
    if snapshot.over and not again:
        return
    cell, shown = running_cell(), _shown.get(job.id)
    if again and shown is not None and shown.waited_in == cell is not None:
        return  # `job.wait()` as a cell's last line: the wait has shown it, and its value is the job
    if snapshot.over and not snapshot.failed:
        line = len(_live) > FEW if compact is None else compact
        _publish({"text/html": html.static_html(snapshot, compact=line), "text/plain": repr(job)})
        return
    with _registry:
        panel = _live.get(job.id)
        if panel is not None and not again:
            return
        if panel is None or panel.closed.is_set():
            panel = _live[job.id] = _shown[job.id] = Panel(job, snapshot, compact)
    panel.waited_in = None if again else cell
    panel.show()


def settle(job: Any) -> None:
    """
    Bring the pictures of a job up to date, from the cell that has waited for it.

    Whoever runs a notebook without a page takes an update only from the cell that runs.
    """
    with _registry:
        panel = _shown.get(job.id)
    if panel is not None:
        panel.settle()


def _publish(bundle: dict[str, Any], display_id: str | None = None, *, update: bool = False) -> None:
    from IPython.display import publish_display_data

    transient = {"display_id": display_id} if display_id else None
    publish_display_data(bundle, transient=transient, update=update)  # type: ignore[no-untyped-call]


class Panel(Follower):
    """
    One job's widget in a Jupyter notebook.

    Parameters
    ----------
    job : Job
    snapshot : Snapshot
    compact : bool, optional
        As `show_panel` takes it.

    Attributes
    ----------
    widget : ipywidgets.VBox
    waited_in : str or None
        The cell whose wait has shown it.
    """

    def __init__(self, job: Any, snapshot: Snapshot, compact: bool | None = None) -> None:
        import ipywidgets as widgets

        super().__init__(job, snapshot, compact)
        self.waited_in: str | None = None
        # What a CSS class is made of may not come from outside.
        self._mark = f"dobatch-{uuid.uuid4().hex}"
        self._ids: list[str] = []
        self._publishing = threading.Lock()

        # The body is one piece, so that all its numbers are of one moment; head and message are read out when they
        # change, and stay as they are until then.
        self._parts = {
            name: widgets.HTML(layout=widgets.Layout(width="100%", margin="0"))
            for name in ("line", "head", "body", "message", "details")
        }
        self._parts["details"].layout.max_height = "320px"
        self._parts["details"].layout.overflow = "auto"
        self._parts["line"].layout.flex = "1 1 0"
        self._parts["line"].layout.min_width = "0"  # its words give way, not the button beside it

        def button(name: str) -> Any:
            words, says = BUTTONS[name]
            made = widgets.Button(
                description=words,
                tooltip=says,
                button_style="danger" if name == "sure" else "",
                layout=widgets.Layout(width="auto", margin="0 6px 4px 0"),
            )
            made.on_click(lambda _: self.press(name))
            return made

        self._buttons = {name: button(name) for name in BUTTONS}
        bell = bell_class()
        self._bells = [bell(layout=widgets.Layout(margin="0 0 4px"))] if bell else []
        more = self._buttons["more"]
        more.layout.margin, more.layout.flex = "0 0 0 10px", "0 0 auto"
        self._row = widgets.HBox(
            [*(one for one in self._buttons.values() if one is not more), *self._bells],
            layout=widgets.Layout(
                flex_flow="row wrap", margin="8px 0 0", overflow="visible", align_items="center"
            ),
        )
        self._top = widgets.HBox(
            [self._parts["line"], more], layout=widgets.Layout(align_items="center", overflow="hidden")
        )
        self._style = widgets.HTML(
            _STYLE.replace("{mark}", self._mark), layout=widgets.Layout(display="none")
        )
        self.widget = widgets.VBox(
            [
                self._style, self._top, *(self._parts[name] for name in ("head", "body", "message")), self._row,
                self._parts["details"],
            ],
            layout=widgets.Layout(
                border="1px solid rgba(128,128,128,.35)", padding="10px 14px 6px", max_width="760px",
                margin="4px 0", overflow="hidden",
            ),
        )  # fmt: skip
        self.widget.add_class("dobatch-panel")
        self.widget.add_class(f"{self._mark}-panel")

    # -- on the page

    def show(self) -> None:
        """Put the panel below the cell that runs; the first time, start the thread that draws it."""
        self._look()
        self._draw()
        # The thread may be about to take the widget away: it comes to the page before that, or not at all.
        with self._publishing:
            self._ids.append(uuid.uuid4().hex)
            if not self.closed.is_set():
                view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
                _publish({VIEW: view, "text/html": "", "text/plain": ""}, self._ids[-1])
            _publish(self._picture(), f"{self._ids[-1]}-picture")
        self.start()

    def settle(self) -> None:
        """Take the picture anew, from the cell that runs; where all is done, take the widget away as well."""
        self._look()
        self._keep_picture()
        if self._last.over and not self._last.failed:
            self._take_away()

    def _picture(self) -> dict[str, Any]:
        picture = html.static_html(self._last, note=self._note, compact=self._is_line)
        words = f"<Job {self.job.id}: {self._note or text.describe(self._last)}>"
        return {
            "text/html": f'<div class="{self._mark}"><style>{html.REOPENED}</style>{picture}</div>',
            "text/plain": words,
        }

    def _keep_picture(self) -> None:
        """Take the picture anew, so that a notebook saved now shows how things are now."""
        with self._publishing:
            for display_id in self._ids:
                _publish(self._picture(), f"{display_id}-picture", update=True)

    def _take_away(self) -> None:
        for display_id in self._ids:
            _publish({"text/html": "", "text/plain": ""}, display_id, update=True)

    def _withdraw(self) -> None:
        """
        Take the widget away; the picture below it comes to light.

        A page that was loaded anew takes no update of an older output, so the widget stays there, as a picture.
        """
        self._keep_picture()
        self._take_away()
        last = self._parts["body"]
        last.value = self._style.value + self._picture()["text/html"].replace(
            self._mark, f"{self._mark}-last"
        )
        for name in ("border", "padding", "max_width"):
            setattr(self.widget.layout, name, None)
        last.layout.display = None
        self.widget.children = [last]
        others = (*self._buttons.values(), *self._bells, self._style, self._top, self._row)
        for widget in (*self._parts.values(), *others):
            if widget is not last:
                widget.close()

    # -- drawing

    def _put(self, drawing: Drawing) -> None:
        for name, picture in drawing.pieces.items():
            _set(self._parts[name], "value", picture)
            _set(self._parts[name].layout, "display", None if picture else "none")
        for name, (words, there) in drawing.buttons.items():
            _set(self._buttons[name], "description", words)
            _set(self._buttons[name].layout, "display", None if there else "none")
        for bell in self._bells:
            _set(bell, "end", drawing.end)
        any_there = any(there for name, (_, there) in drawing.buttons.items() if name != "more")
        _set(self._row.layout, "display", "flex" if any_there else "none")
        _set(self._top.layout, "display", "flex" if drawing.compact else "none")
        _set(self.widget.layout, "max_width", "960px" if drawing.compact else "760px")
        (self.widget.add_class if drawing.compact else self.widget.remove_class)("dobatch-compact")

    def _focus(self, button: str) -> None:
        self._buttons[button].focus()

    def _many(self) -> bool:
        return len(_live) > FEW

    def _leave(self) -> None:
        with _registry:
            if _live.get(self.job.id) is self:
                del _live[self.job.id]


def _set(widget: Any, name: str, value: Any) -> None:
    """Send only what has changed."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)
