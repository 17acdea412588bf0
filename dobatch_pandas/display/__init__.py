"""What a person sees of a job: a panel in a notebook, a bar in a terminal, words everywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from dobatch_pandas.config import settings

__all__ = ["FrontEnd", "front_end", "progress", "say", "show"]

FrontEnd = Literal["widget", "bar", "none"]


def front_end(display: Any = None) -> FrontEnd:
    """
    Say what draws jobs here.

    Parameters
    ----------
    display : bool, "widget" or "bar", optional
        False is silence. None and True follow ``dobatch.configure(display=...)``, which by default means a
        panel in a notebook and a bar elsewhere.
    """
    if display is None or display is True:
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
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


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
