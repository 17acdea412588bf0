"""A snapshot as HTML that needs neither script nor style sheet; every foreign word is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dobatch_pandas.errors import InputError
from dobatch_pandas.snapshot import BatchRow, ErrorGroup, Snapshot

from . import text

__all__ = ["batches_html", "error_html", "errors_html", "plain", "static_html", "table_html"]

LONGEST_CELL = f"text-align:left;vertical-align:top;padding:2px 14px 2px 0;border-bottom:1px solid {_LINE}"
_NUMBER = _CELL.replace("left", "right", 1) + ";font-variant-numeric:tabular-nums"


def plain(value: Any, limit: int | None = LONGEST_CELL) -> str:
    """
    Any value as HTML that shows as just its text: no markup, and no LaTeX for the page to typeset.

    Parameters
    ----------
    value : object
    limit : int, optional
        Characters after which it is cut; None cuts nothing.
    """
    words = str(value)
    if limit is not None and len(words) > limit:
        words = words[: limit - 1] + "…"
    # Pages typeset `$x$` and `\(x\)` where both ends stand in one run of text; elements part them.
    return "".join(f"<span>{c}</span>" if c in "$\\" else escape(c) for c in words)


def table_html(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], caption: str = "") -> str:
    """
    Return a table of values, escaped; numbers stand to the right, missing ones are a dash.

    Parameters
    ----------
    rows : sequence of mapping
    columns : sequence of str
        Names to show, in order.
    caption : str
        Stands above the table.
    """
    numeric = {
        c for c in columns if rows and all(_is_number(r.get(c)) or _is_missing(r.get(c)) for r in rows)
    }
    head = "".join(
        f'<th scope="col" style="{_NUMBER if c in numeric else _CELL}">{plain(c)}</th>' for c in columns
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{_NUMBER if c in numeric else _CELL}">{_cell(r.get(c))}</td>' for c in columns)
        + "</tr>"
        for r in rows
    )
    title = (
        f'<caption style="text-align:left;padding:2px 0 4px;font-weight:600">{plain(caption)}</caption>'
        if caption
        else ""
    )
    return (
        f'<div style="overflow-x:auto"><table style="{_TABLE}">{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> str:
    if _is_missing(value):
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return plain(value)


def static_html(snapshot: Snapshot, now: float | None = None) -> str:
    """Return the picture of a job."""
    return f"<p>{plain(text.describe(snapshot, now))}</p>"


def batches_html(batches: Sequence[BatchRow]) -> str:
    """Return the table of batches."""
    return table_html([vars(b) for b in batches], list(BatchRow.__dataclass_fields__))


def errors_html(errors: Sequence[ErrorGroup]) -> str:
    """Return the failures by code."""
    return table_html([vars(e) for e in errors], ["code", "count", "example"])


def error_html(error: BaseException) -> str:
    """Return what went wrong, in words."""
    if isinstance(error, InputError) and len(error.problems) > 1:
        items = "".join(f"<li>{plain(problem, None)}</li>" for problem in error.problems)
        return f"<div><b>{len(error.problems)} problems, nothing was sent</b><ol>{items}</ol></div>"
    return f"<div><b>{type(error).__name__}</b> {plain(error, None)}</div>"
