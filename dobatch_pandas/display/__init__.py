"""What a person sees of a job: a panel in a notebook, a bar in a terminal, words everywhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from dobatch_pandas.config import checked_display, settings

__all__ = ["FrontEnd", "front_end", "progress", "say", "show"]

FrontEnd = Literal["widget", "bar", "none"]


def front_end(display: Any = None) -> FrontEnd:
    """
    Say what draws jobs here.

    Parameters
    ----------
    display : bool, "widget" or "bar", optional
        False is silence. None and True follow ``dobatch.configure(display=...)``, which by default means a
        panel in a notebook and a bar elsewhere, jupyter-console included.
    """
    if checked_display(display) is None or display is True:
        display = settings().display if display is None else None
    if display is False:
        return "none"
    if display == "widget" or display == "bar":
        return "widget" if display == "widget" else "bar"
    return "widget" if _in_notebook() or _in_marimo() else "bar"


def _in_marimo() -> bool:
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


def _in_notebook() -> bool:
    return kernel_shell() is not None and not _in_console()


def kernel_shell() -> Any:
    """IPython's shell where a Jupyter kernel runs it, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def somebody_types() -> bool:
    """Whether the cell that runs came from a front end with a keyboard, not from nbconvert, papermill and the like."""
    return bool(_request().get("content", {}).get("allow_stdin"))


def running_cell() -> str | None:
    """The id of the message that asked the kernel to run this cell; None where there is none."""
    found = _request().get("header", {}).get("msg_id")
    return None if found is None else str(found)


def _in_console() -> bool:
    """
    Whether the cell that runs was typed into jupyter-console or the like, which draws no widgets.

    Several front ends may share a kernel, so each cell is looked at. Clients in Python give their messages the name of
    their session and a number, pages give them a UUID. A program that only talks to a kernel looks the same, but does
    not start it on a terminal.
    """
    header = _request().get("header", {})
    from_python = "session" in header and str(header.get("msg_id")).startswith(f"{header['session']}_")
    return from_python and somebody_types() and width_of(sys.stderr) is not None


def _request() -> dict[str, Any]:
    """The message that asked the kernel to run this cell; empty where there is none."""
    try:
        return getattr(kernel_shell(), "get_parent", dict)() or {}
    except LookupError:  # ipykernel 7.0, in a thread of the user's own
        return {}


def width_of(stream: Any) -> int | None:
    """Columns of the terminal behind a stream, of a kernel's stream too; None where there is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # a file, closed, none, or one that only writes
        return None


def show(job: Any, display: Any = None) -> None:
    """
    Draw a job as a cell's last value: a live panel in a notebook, a line of words elsewhere.

    Parameters
    ----------
    job : Job
    display : bool, "widget" or "bar", optional
        As `front_end` takes it. A job that is shown by name is never silent: False draws words.
    """
    if front_end(display) == "widget":
        _page().show_panel(job)
    else:
        say(repr(job))


def say(words: str) -> None:
    """Print where somebody may read; where there is no stream, or it is closed, nobody does."""
    if sys.stdout is None:
        return
    with contextlib.suppress(ValueError, OSError):
        print(words)


def _page() -> Any:
    """What puts panels on the page here."""
    if _in_marimo():
        from . import marimo_panel

        return marimo_panel
    from . import panel

    return panel


@contextmanager
def progress(job: Any, display: Any = None) -> Iterator[None]:
    """
    Draw a job for as long as the block lasts; what goes wrong in the block passes through.

    Parameters
    ----------
    job : Job
    display : bool, "widget" or "bar", optional
        As `front_end` takes it.
    """
    chosen = front_end(display)
    if chosen == "none" or job.snapshot().over:
        yield
    elif chosen == "widget":
        page = _page()
        page.show_panel(job, again=False)
        try:
            yield
        finally:
            page.settle(job)
    else:
        from .bar import TqdmBar

        with TqdmBar(job):
            yield
