"""
What every live panel does, whatever draws it: one thread keeps a job's drawing true, and buttons act in others.

A panel of a front end says how a drawing gets onto its page: Jupyter's is in `panel`, marimo's in `marimo_panel`.
"""

from __future__ import annotations

import contextvars
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dobatch_pandas.codes import RETRYABLE
from dobatch_pandas.errors import DobatchError, JobNotFound

from . import html, text
from .preview import last_words
from .snapshot import NEVER_RUN, Snapshot

__all__ = ["BUTTONS", "Drawing", "Follower"]

OFTEN = 0.25  # seconds between two drawings
TICK = 1.0  # the clock on the panel goes on
SETTLE = 600.0  # seconds that Retry stays at hand after the end
KEPT = 60.0  # seconds after which the picture, which a save may keep, is taken anew
MOST_ROWS = 50  # of errors
ASKED = 160  # characters of a row's prompt beside its error
FEW = 3  # panels at once; more of them are a line each

_RUN = RETRYABLE - frozenset(NEVER_RUN)

# Name: words, and what they mean. All of them, always: a button that comes and goes takes the focus with it.
BUTTONS = {
    "cancel": ("Cancel", "Cancel this job; asks once before it does"),
    "keep": ("No, let it run", "Close this question; the job continues"),
    "sure": ("Yes, cancel the job", "Cancel every batch of this job now"),
    "retry": ("Retry", "Send again what failed for a reason that can change"),
    "rest": ("Send the others", "Send what was never run"),
    "errors": ("Show errors", "Show or hide the requests that failed"),
    "batches": ("Batches", "Show or hide the table of batches"),
    "close": ("Close panel", "Leave the picture of the job in the notebook"),
    "less": ("Less", "Show this job as a line"),
    "more": ("More", "Show all of this job"),
}


@dataclass(frozen=True)
class Drawing:
    """
    All that is on a panel at one moment.

    Parameters
    ----------
    pieces : dict of str to str
        HTML of ``line``, ``head``, ``body``, ``message`` and ``details``; what is empty is not shown.
    buttons : dict of str to tuple
        Of each button its words, and whether it is there.
    compact : bool
        Whether it is a line, not a card.
    end : dict of str to str
        What a notification says, ``title`` and ``body``; nothing before the end.
    """

    pieces: dict[str, str]
    buttons: dict[str, tuple[str, bool]]
    compact: bool
    end: dict[str, str]


class Follower(ABC):
    """
    One job's panel without the page that it is on.

    Parameters
    ----------
    job : Job
    snapshot : Snapshot
        How the job is now.
    compact : bool, optional
        True is a line, False a card; None is a card, and a line where there are many.

    Attributes
    ----------
    closed : threading.Event
        Set when the panel has given way to its picture.
    """

    def __init__(self, job: Any, snapshot: Snapshot, compact: bool | None = None) -> None:
        self.job = job
        self.closed = threading.Event()
        self._news = threading.Event()
        self._looking, self._at_the_page = threading.Lock(), threading.Lock()
        self._withdrawn = False
        self._kept: tuple[str, float] = ("", 0.0)
        self._message = ""
        self._asking = False
        self._opened: str | None = None
        self._error_rows = ""
        self._note = ""
        self._started = False
        self._compact = compact
        self._is_line = self._was_line = bool(compact)
        self._mark_of_bar = text.Mark()
        self._last = snapshot

    # -- what a page is asked for

    @abstractmethod
    def _put(self, drawing: Drawing) -> None:
        """Show a drawing."""

    @abstractmethod
    def _focus(self, button: str) -> None:
        """Put the keyboard on a button."""

    @abstractmethod
    def _keep_picture(self) -> None:
        """Take anew the picture that a saved notebook shows."""

    @abstractmethod
    def _withdraw(self) -> None:
        """Leave the page; what stays is a picture."""

    def _many(self) -> bool:
        """Whether there are so many panels that each is a line."""
        return False

    @abstractmethod
    def _leave(self) -> None:
        """The thread has ended."""

    # -- the thread

    def start(self) -> None:
        """Start the thread, once."""
        if not self._started:
            self._started = True
            self._in_thread("panel", self._follow)

    def close(self) -> None:
        """Leave the static picture in the panel's place, wherever it is shown."""
        self.closed.set()
        self._news.set()

    def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        # ipykernel 7.0 finds the comm's session in the context that the thread was started from.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), name=f"dobatch-{name}-{self.job.id}", daemon=True).start()

    def _look(self) -> bool:
        """Look at the job; False where it cannot be looked at any more, and what was seen last stays."""
        try:
            # One at a time: of two threads that look at once, the one that saw the older state may be the later one.
            with self._looking:
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
            self._leave()
        with self._at_the_page:
            self._withdrawn = True
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
                self._draw()
                if self._kept[0] != snapshot.state or time.monotonic() - self._kept[1] > KEPT:
                    self._kept = (snapshot.state, time.monotonic())
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
            self._draw()
            if not self._last.over:
                return
        self.closed.set()

    # -- drawing

    def _draw(self) -> None:
        # One at a time, and none over the last: a button may be pressed while the panel gives way to its picture.
        with self._at_the_page:
            if not self._withdrawn:
                self._put(self._drawing(self._last))

    def _drawing(self, snapshot: Snapshot) -> Drawing:
        share = self._mark_of_bar.of(snapshot)
        many = self._many()
        # What ends as a line stays one, however few are left then.
        if not snapshot.over:
            self._was_line = many
        compact = (many or self._was_line) if self._compact is None else self._compact
        self._is_line = compact
        pieces = {
            "line": html.line_html(snapshot, share) if compact else "",
            "head": "" if compact else html.head_html(snapshot),
            "body": "" if compact else html.body_html(snapshot, share),
            "message": self._message_html(),
            "details": "" if compact else self._details_html(snapshot),
        }
        end = text.end_words(snapshot) if snapshot.over else {}
        return Drawing(pieces, self._buttons_of(snapshot, compact, many), compact, end)

    def _buttons_of(self, snapshot: Snapshot, compact: bool, many: bool) -> dict[str, tuple[str, bool]]:
        ended = snapshot.over or snapshot.state == "cancelling"
        table = text.counted(len(snapshot.batches), "batch")
        shown = {
            "cancel": not ended and not self._asking,
            "keep": not ended and self._asking,
            "sure": not ended and self._asking,
            "retry": snapshot.over and snapshot.worth_retrying > 0,
            "rest": snapshot.over and snapshot.never_run > 0,
            "errors": snapshot.refused > 0 and bool(snapshot.errors),
            "batches": bool(snapshot.batches),
            "close": snapshot.over,
            "less": many or self._was_line or self._compact is not None,
        }
        if compact:
            shown = dict.fromkeys(shown, False)
        shown["more"] = compact
        words = {
            "retry": f"Retry {snapshot.worth_retrying:,}",
            "rest": f"Send the other {snapshot.never_run:,}",
            "errors": "Hide errors" if self._opened == "errors" else "Show errors",
            "batches": f"Hide {table}" if self._opened == "batches" else f"Show {table}",
        }
        return {name: (words.get(name, BUTTONS[name][0]), shown[name]) for name in BUTTONS}

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

    def press(self, button: str) -> None:
        """Do what a button says. Handlers run wherever a front end likes: nothing here waits."""
        actions: dict[str, Callable[[], None]] = {
            "cancel": self._ask,
            "keep": self._unask,
            "sure": self._cancel_job,
            "retry": lambda: self._retry_with(_RUN),
            "rest": lambda: self._retry_with(frozenset(NEVER_RUN)),
            "errors": lambda: self._open("errors"),
            "batches": lambda: self._open("batches"),
            "close": self.close,
            "less": self._fold,
            "more": self._fold,
        }
        actions[button]()

    def _say(self, words: str) -> None:
        self._message = words
        self._draw()
        self._news.set()

    def _fold(self) -> None:
        self._compact = not self._is_line
        self._news.set()

    def _ask(self) -> None:
        self._asking = True
        self._answer_with("keep")

    def _unask(self) -> None:
        self._asking = False
        self._answer_with("cancel")

    def _answer_with(self, button: str) -> None:
        """Draw, and put the keyboard where the next answer is: the one that changes nothing."""
        self._draw()
        self._focus(button)
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
        try:
            asked = self.job.requests(first["custom_id"].dropna())
        except (DobatchError, OSError, ValueError):
            asked = {}  # the files of requests are damaged: the errors are worth more than the prompts
        rows = [
            {
                "row": str(label),
                "asked": last_words(asked[row["custom_id"]])[:ASKED] if row["custom_id"] in asked else None,
                "code": html.Code(row["error_code"]),
                "message": row["error_message"],
                "answer": row["text"],
            }
            for label, row in zip(first.index, first.to_dict("records"), strict=True)
        ]
        columns = ["row", "asked", "code", "message", "answer"]
        if first["text"].isna().all():
            columns.remove("answer")
        more = f"; job.errors() has all {len(failed):,}" if len(failed) > MOST_ROWS else ""
        counts = f"{text.counted(self._last.refused, 'request')}, {text.counted(len(failed), 'row')}"
        caption = f"Rows that failed ({counts}){more}"
        self._error_rows = html.table_html(rows, columns, caption=caption)

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
