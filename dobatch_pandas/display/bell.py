"""
The button "Notify me": the browser tells when a job ends, also from a window that nobody looks at.

It is the page's alone, so that it works while the kernel computes: asked for, remembered and told there.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["bell_class"]

_HERE = Path(__file__).parent
_ALONE = "export default { initialize, render: ({ model, el }) => bell({ model, place: el }) };"


@cache
def bell_class() -> Any:
    """Return the anywidget of the button; None where anywidget is not installed."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None

    class Bell(anywidget.AnyWidget):
        _esm = script(_ALONE)
        end = traitlets.Dict().tag(sync=True)  # title and body once the job is over, nothing before
        wanted = traitlets.Bool(False).tag(sync=True)

    return Bell


def script(more: str) -> str:
    """Return the button's JavaScript, and what is made with it."""
    return f"{(_HERE / 'bell.js').read_text(encoding='utf-8')}\n{more}"
