"""The live panel of a job in a notebook."""

from __future__ import annotations

from typing import Any

__all__ = ["show_panel"]


def show_panel(job: Any, *, again: bool = True) -> None:
    """Show a job."""
    from IPython.display import publish_display_data

    from .html import static_html

    publish_display_data({"text/html": static_html(job.snapshot())})  # type: ignore[no-untyped-call]
