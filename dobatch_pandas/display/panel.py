"""
The live panel of a job in a notebook; the only importer of ipywidgets.

A cell that shows a job has two outputs: the widget, and below it the static picture, which the widget's style
hides for as long as the widget lives. A notebook that is opened again without its kernel has lost the widget and
shows the picture. One thread a job draws, however many cells show it, and ends with the job. Where a retry can
change something, the buttons stay for `SETTLE` seconds first. Handlers of buttons only start threads: where they run
differs between ipykernel versions.

What a job cannot tell any more, because it was deleted or its folder is gone, leaves the picture that was drawn last.
"""

from __future__ import annotations

import contextvars
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from dobatch_pandas.codes import RETRYABLE
from dobatch_pandas.errors import JobNotFound

from . import html, text
from .snapshot import NEVER_RUN, Snapshot

__all__ = ["Panel", "show_panel"]

OFTEN = 0.25  # seconds between two drawings
TICK = 1.0  # the clock on the panel goes on
SETTLE = 600.0  # seconds that Retry stays at hand after the end
KEPT = 60.0  # seconds after which the picture, which a save may keep, is taken anew
MOST_ROWS = 50  # of errors
FEW = 3  # panels at once; more of them are a line each
VIEW = "application/vnd.jupyter.widget-view+json"

# Only what inline styles cannot say; without it the panel is still whole.
_STYLE = """<style>
/* The picture is there for when the panel is not: no widget, or one whose kernel is gone. */
body:has(.{mark}-panel:not(.jupyter-widgets-disconnected)) :is(.{mark}, .jp-OutputArea-child:has(.{mark})),
.dobatch-panel.jupyter-widgets-disconnected { display: none; }
.dobatch-panel { border-radius: 6px; }
.dobatch-panel.dobatch-compact { padding: 2px 14px; margin: 0; border-radius: 0; }
.dobatch-panel button:focus-visible { outline: 2px solid var(--jp-brand-color1, #3b82c4); }
.dobatch-panel .widget-html, .dobatch-panel .widget-html-content {
  height: auto; line-height: 1.5; margin: 0; }
.dobatch-panel .widget-html-content { width: 100%; color: var(--jp-widgets-color, inherit); }
.dobatch-bar { position: relative; }
.dobatch-panel .dobatch-busy::after { content: ""; position: absolute; inset: 0; background-size: 30% 100%;
  background-image: linear-gradient(90deg, transparent 20%, rgba(255,255,255,.45) 50%, transparent 80%);
  background-repeat: no-repeat; animation: dobatch-busy 2.4s linear infinite; }
@keyframes dobatch-busy { from { background-position: -50% 0; } to { background-position: 150% 0; } }
@media (prefers-reduced-motion: reduce) { .dobatch-panel .dobatch-busy::after { animation: none; background: none; } }
</style>"""

# For notebooks that are opened again: the page says "model not found" where the widget was, right above the picture.
_REOPENED = """<style>
.jp-OutputArea-child:has(> .jupyter-widgets):not(:has(.jupyter-widgets > *)):has(+ .jp-OutputArea-child .dobatch-static) {
  display: none; }
</style>"""

_RUN = RETRYABLE - frozenset(NEVER_RUN)

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
    if snapshot.over and not snapshot.failed:
        line = len(_live) > FEW if compact is None else compact
        _publish({"text/html": html.static_html(snapshot, compact=line), "text/plain": repr(job)})
        return
    with _registry:
        panel = _live.get(job.id)
        if panel is not None and not again:
            return
        if panel is None or panel.closed.is_set():
            panel = _live[job.id] = _shown[job.id] = Panel(job, compact)
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


class Panel:
    """
    One job's widget, and the thread that keeps it true.

    Parameters
    ----------
    job : Job
    compact : bool, optional
        As `show_panel` takes it.

    Attributes
    ----------
    widget : ipywidgets.VBox
    closed : threading.Event
        Set when the panel has given way to its picture.
    """

    def __init__(self, job: Any, compact: bool | None = None) -> None:
        import ipywidgets as widgets

        self.job = job
        self.closed = threading.Event()
        self._news = threading.Event()
        # What a CSS class is made of may not come from outside.
        self._mark = f"dobatch-{uuid.uuid4().hex}"
        self._ids: list[str] = []
        self._kept: tuple[str, float] = ("", 0.0)
        self._message = ""
        self._asking = False
        self._opened: str | None = None
        self._error_rows = ""
        self._note = ""
        self._started = False
        self._compact = compact
        self._is_line = self._was_line = bool(compact)
        self._publishing = threading.Lock()
        self._mark_of_bar = text.Mark()
        self._last: Snapshot = job.snapshot()

        # The body is one piece, so that all its numbers are of one moment; head and message are read out when they
        # change, and stay as they are until then.
        self._parts = {
            name: widgets.HTML(layout=widgets.Layout(width="100%", margin="0"))
            for name in ("line", "head", "body", "message")
        }
        self._details = widgets.HTML(
            layout=widgets.Layout(width="100%", margin="0", max_height="320px", overflow="auto")
        )

        def button(words: str, says: str, action: Callable[[], None], style: str = "") -> Any:
            made = widgets.Button(
                description=words,
                tooltip=says,
                button_style=style,
                layout=widgets.Layout(width="auto", margin="0 6px 4px 0"),
            )
            made.on_click(lambda _: action())
            return made

        self._cancel = button("Cancel", "Cancel this job; asks once before it does", self._ask)
        self._sure = button(
            "Yes, cancel the job", "Cancel every batch of this job now", self._cancel_job, "danger"
        )
        self._keep = button("No, let it run", "Close this question; the job goes on", self._unask)
        self._retry = button(
            "Retry", "Send again what failed for a reason that can change", lambda: self._retry_with(_RUN)
        )
        self._rest = button(
            "Send the others", "Send what was never run", lambda: self._retry_with(frozenset(NEVER_RUN))
        )
        self._errors = button(
            "Show errors", "Show or hide the requests that failed", lambda: self._open("errors")
        )
        self._batches = button("Batches", "Show or hide the table of batches", lambda: self._open("batches"))
        self._more = button("More", "Show all of this job", self._fold)
        self._less = button("Less", "Show this job as a line", self._fold)
        self._close = button("Close panel", "Leave the picture of the job in the notebook", self.close)
        # All of them, always: a button that comes and goes takes the focus with it.
        self._buttons = widgets.HBox(
            self._all_buttons(),
            layout=widgets.Layout(
                flex_flow="row wrap", margin="8px 0 0", overflow="visible", align_items="center"
            ),
        )
        self._top = widgets.HBox(
            [self._parts["line"], self._more],
            layout=widgets.Layout(align_items="center", overflow="hidden"),
        )
        self._parts["line"].layout.flex = "1 1 0"
        self._more.layout.margin, self._more.layout.flex = "0 0 0 10px", "0 0 auto"
        self._style = widgets.HTML(
            _STYLE.replace("{mark}", self._mark), layout=widgets.Layout(display="none")
        )
        self.widget = widgets.VBox(
            [
                self._style, self._top, *(self._parts[name] for name in ("head", "body", "message")), self._buttons,
                self._details,
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
        self._draw(self.job.snapshot())
        self._ids.append(uuid.uuid4().hex)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        _publish({VIEW: view, "text/html": "", "text/plain": ""}, self._ids[-1])
        _publish(self._picture(), f"{self._ids[-1]}-picture")
        if not self._started:
            self._started = True
            self._in_thread("panel", self._follow)

    def close(self) -> None:
        """Leave the static picture in the panel's place, wherever it is shown."""
        self.closed.set()
        self._news.set()

    def settle(self) -> None:
        """Take the picture anew, from the cell that runs; where all is done, take the widget away as well."""
        self._look()
        self._keep_picture()
        if self._last.over and not self._last.failed:
            self._take_away()

    def _picture(self) -> dict[str, Any]:
        picture = html.static_html(self._last, note=self._note, compact=self._is_line)
        words = f"<Job {self.job.id}: {self._note or text.describe(self._last)}>"
        return {"text/html": f'<div class="{self._mark}">{_REOPENED}{picture}</div>', "text/plain": words}

    def _keep_picture(self) -> None:
        """Take the picture anew, so that a notebook saved now shows how things are now."""
        with self._publishing:
            self._kept = (self._last.state, time.monotonic())
            for display_id in self._ids:
                _publish(self._picture(), f"{display_id}-picture", update=True)

    def _take_away(self) -> None:
        for display_id in self._ids:
            _publish({"text/html": "", "text/plain": ""}, display_id, update=True)

    def _withdraw(self) -> None:
        """Take the widget away; the picture below it comes to light."""
        self._keep_picture()
        self._take_away()
        rest = (self._style, self._more, self._top, self._details, self._buttons, self.widget)
        for widget in (*self._parts.values(), *self._all_buttons(), *rest):
            widget.close()

    # -- the thread

    def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        # ipykernel 7.0 finds the comm's session in the context that the thread was started from.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), name=f"dobatch-{name}-{self.job.id}", daemon=True).start()

    def _look(self) -> bool:
        """Look at the job; False where it cannot be looked at any more, and what was seen last stays."""
        try:
            self._last = self.job.snapshot()
        except JobNotFound:
            self._note = "This job has been deleted from this machine."
        except Exception as error:  # noqa: BLE001  whatever became of the folder: a panel outlives it
            self._note = f"This job cannot be read any more: {error}"
        return not self._note

    def _follow(self) -> None:
        try:
            while not self.closed.is_set() and self._look():
                if self._follow_until_over().failed and not self.closed.is_set():
                    self._linger()
                else:
                    self.closed.set()
            self._look()
        except BaseException as error:  # noqa: BLE001  it would be printed into whatever cell ran last
            self._say(f"The panel stopped: {error!r}. The job continues; show it again with its name.")
            return
        finally:
            self.closed.set()
            with _registry:
                if _live.get(self.job.id) is self:
                    del _live[self.job.id]
        self._withdraw()

    def _follow_until_over(self) -> Snapshot:
        unsubscribe = self.job.subscribe(self._news.set)
        try:
            while True:
                self._news.clear()
                if not self._look():
                    self.closed.set()
                    return self._last
                snapshot = self._last
                self._draw(snapshot)
                if self._kept[0] != snapshot.state or time.monotonic() - self._kept[1] > KEPT:
                    self._keep_picture()
                if snapshot.over or self.closed.wait(OFTEN):
                    return snapshot
                if snapshot.expect is not None:
                    snapshot.expect()
                    self._news.set()
                self._news.wait(TICK - OFTEN)
        finally:
            unsubscribe()

    def _linger(self) -> None:
        """Wait, with the buttons at hand, until the job moves again or nobody has used them for long."""
        self._keep_picture()
        used = time.monotonic()
        while not self.closed.is_set() and time.monotonic() - used < SETTLE:
            # Looks now and then: a retry from another cell starts a runner that nobody here is subscribed to.
            if self._news.wait(2 * TICK):
                self._news.clear()
                used = time.monotonic()
            if not self._look():
                break
            self._draw(self._last)
            if not self._last.over:
                return
        self.closed.set()

    # -- drawing

    def _draw(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        share = self._mark_of_bar.of(snapshot)
        many = len(_live) > FEW
        # What ends as a line stays one, however few are left then.
        if not snapshot.over:
            self._was_line = many
        compact = (many or self._was_line) if self._compact is None else self._compact
        self._is_line = compact
        pictures = {
            "line": html.line_html(snapshot, share) if compact else "",
            "head": "" if compact else html.head_html(snapshot),
            "body": "" if compact else html.body_html(snapshot, share),
            "message": self._message_html(),
        }
        for name, picture in pictures.items():
            _set(self._parts[name], "value", picture)
            _set(self._parts[name].layout, "display", None if picture else "none")
        details = "" if compact else self._details_html(snapshot)
        _set(self._details, "value", details)
        _set(self._details.layout, "display", None if details else "none")
        self._draw_buttons(snapshot, compact, many)

    def _draw_buttons(self, snapshot: Snapshot, compact: bool, many: bool) -> None:
        ended = snapshot.over or snapshot.state == "cancelling"
        table = text.counted(len(snapshot.batches), "batch")
        errors = snapshot.refused > 0 and bool(snapshot.errors)
        shown = {
            self._cancel: not ended and not self._asking,
            self._keep: not ended and self._asking,
            self._sure: not ended and self._asking,
            self._retry: snapshot.over and snapshot.worth_retrying > 0,
            self._rest: snapshot.over and snapshot.never_run > 0,
            self._errors: errors,
            self._batches: bool(snapshot.batches),
            self._close: snapshot.over,
        }
        shown[self._less] = many or self._was_line or self._compact is not None
        if compact:
            shown = dict.fromkeys(shown, False)
        _set(self._top.layout, "display", "flex" if compact else "none")
        _set(self.widget.layout, "max_width", "960px" if compact else "760px")
        _set(self._retry, "description", f"Retry {snapshot.worth_retrying:,}")
        _set(self._rest, "description", f"Send the other {snapshot.never_run:,}")
        _set(self._errors, "description", "Hide errors" if self._opened == "errors" else "Show errors")
        _set(self._batches, "description", f"Hide {table}" if self._opened == "batches" else f"Show {table}")
        for button, there in shown.items():
            _set(button.layout, "display", None if there else "none")
        _set(self._buttons.layout, "display", "flex" if any(shown.values()) else "none")
        (self.widget.add_class if compact else self.widget.remove_class)("dobatch-compact")

    def _all_buttons(self) -> list[Any]:
        return [
            self._cancel, self._keep, self._sure, self._retry, self._rest, self._errors, self._batches, self._close,
            self._less,
        ]  # fmt: skip

    def _message_html(self) -> str:
        words = (
            "Cancel this job? What has been answered stays, and is paid for."
            if self._asking
            else self._message
        )
        return f'<div role="alert" style="margin-top:8px">{html.plain(words, 1000)}</div>' if words else ""

    def _details_html(self, snapshot: Snapshot) -> str:
        if self._opened == "batches":
            return html.batches_html(snapshot.batches)
        if self._opened == "errors":
            return self._error_rows or html.errors_html(snapshot.errors, None)
        return ""

    # -- buttons

    def _say(self, words: str) -> None:
        self._message = words
        self._parts["message"].value = self._message_html()
        self._parts["message"].layout.display = None
        self._news.set()

    def _fold(self) -> None:
        self._compact = not self._is_line
        self._news.set()

    def _ask(self) -> None:
        self._asking = True
        self._answer_with(self._keep)

    def _unask(self) -> None:
        self._asking = False
        self._answer_with(self._cancel)

    def _answer_with(self, button: Any) -> None:
        """Draw, and put the keyboard where the next answer is: the one that changes nothing."""
        self._draw(self._last)
        button.focus()
        self._news.set()

    def _cancel_job(self) -> None:
        self._asking = False
        self._act("cancel", self.job.cancel)

    def _retry_with(self, codes: frozenset[str]) -> None:
        self._error_rows = ""
        self._act("retry", lambda: self._send_again(codes))

    def _send_again(self, codes: frozenset[str]) -> None:
        if not self.job.retry(codes):
            self._say("Nothing was sent: retrying would not help, or another cell has retried already.")

    def _open(self, what: str) -> None:
        self._opened = None if self._opened == what else what
        self._news.set()
        if self._opened == "errors" and self._last.over:
            self._act("errors", self._read_errors)

    def _read_errors(self) -> None:
        failed = self.job.errors(wait=False)
        failed = failed[~failed["error_code"].isin([*NEVER_RUN, "pending"])]
        first = failed.head(MOST_ROWS)
        columns = ["error_code", "error_message", "text"]
        rows = [
            {"row": str(label), **values}
            for label, values in zip(first.index, first[columns].to_dict("records"), strict=True)
        ]
        if first["text"].isna().all():
            columns.remove("text")
        more = f"; job.errors() has all {len(failed):,}" if len(failed) > MOST_ROWS else ""
        counts = f"{text.counted(self._last.refused, 'request')}, {text.counted(len(failed), 'row')}"
        caption = f"Rows that failed ({counts}){more}"
        self._error_rows = html.table_html(rows, ["row", *columns], caption=caption)

    def _act(self, name: str, work: Callable[[], Any]) -> None:
        """Do what a button says, away from the handler; what goes wrong is said in the panel."""

        def do() -> None:
            self._message = ""
            try:
                work()
            except Exception as error:  # noqa: BLE001  in a thread, it would be printed into whatever cell ran last
                self._say(str(error) or repr(error))
            self._news.set()

        self._in_thread(name, do)


def _set(widget: Any, name: str, value: Any) -> None:
    """Send only what has changed."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)
