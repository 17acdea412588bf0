"""A snapshot as HTML that needs neither script nor style sheet; every foreign word is escaped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import Any

import pandas as pd

from dobatch_pandas.codes import ErrorGroup

from . import text
from .snapshot import BatchRow, Snapshot

__all__ = ["batches_html", "errors_html", "plain", "static_html", "table_html"]

LONGEST_CELL = 300  # characters
MOST_BATCHES = 200
MOST_CODES = 3

# Theme variables where the front end has them, else what is right on dark and light alike: text inherits its
# colour, greys are made of transparency, and nothing has a background of its own.
GREEN = ("#388e3c", "var(--jp-success-color1, #388e3c)")
RED = ("#d64545", "var(--jp-error-color1, #d64545)")
AMBER = ("#d98200", "var(--jp-warn-color1, #d98200)")
BLUE = ("#3b82c4", "var(--jp-brand-color1, #3b82c4)")
Colour = tuple[str, str]
_LINE = "rgba(128,128,128,.35)"
_TRACK = "rgba(128,128,128,.2)"
_FONT = "font-family:var(--jp-ui-font-family, system-ui, sans-serif)"
_MONO = "font-family:var(--jp-code-font-family, ui-monospace, monospace);font-size:12px"
_SOFT = "opacity:.72"
_CELL = f"text-align:left;vertical-align:top;padding:3px 16px 3px 0;border-bottom:1px solid {_LINE}"
_NUMBER = _CELL.replace("left", "right", 1) + ";font-variant-numeric:tabular-nums;white-space:nowrap"
_FRAME = (
    f"{_FONT};font-size:13px;line-height:1.5;border:1px solid {_LINE};border-radius:6px;"
    "padding:10px 14px;margin:4px 0;max-width:760px;box-sizing:border-box"
)

# Sign, colour: the sign says it where colours are not seen.
_SIGNS = {
    "recorded": ("○", BLUE),
    "rendering": ("●", BLUE),
    "uploading": ("↑", BLUE),
    "queued": ("○", BLUE),
    "running": ("▶", BLUE),
    "finalizing": ("●", BLUE),
    "downloading": ("↓", BLUE),
    "cancelling": ("×", AMBER),
    "paused": ("!", AMBER),
    "completed": ("✓", GREEN),
    "failed": ("✗", RED),
    "expired": ("✗", RED),
    "cancelled": ("×", AMBER),
}


def _paint(what: str, colour: Colour, pattern: str = "{}") -> str:
    """Set a colour twice: pages of notebooks that are not trusted drop what is not a plain colour."""
    plain_one = colour[0] if "gradient" in pattern else pattern.replace("{}", colour[0])
    return f"{what}:{plain_one};{what}:{pattern.replace('{}', colour[1])}"


_SEGMENTS = {
    "answered": ("■", GREEN, _paint("background", GREEN)),
    "failed": (
        "▨",
        RED,
        _paint("background", RED, "repeating-linear-gradient(135deg,{} 0 3px,transparent 3px 6px)"),
    ),
    "sent": ("▒", BLUE, _paint("background", BLUE) + ";opacity:.38"),
    "ready": (
        "░",
        BLUE,
        _paint("background", BLUE, "repeating-linear-gradient(90deg,{} 0 2px,transparent 2px 7px)")
        + ";opacity:.45",
    ),
    "left": ("□", ("inherit", "inherit"), ""),
}


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
    style = {c: _NUMBER if _numeric([r.get(c) for r in rows]) else _CELL for c in columns}
    head = "".join(f'<th scope="col" style="{style[c]}">{plain(c)}</th>' for c in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{style[c]}">{_cell(r.get(c))}</td>' for c in columns) + "</tr>"
        for r in rows
    )
    title = ""
    if caption:
        title = (
            f'<caption style="text-align:left;padding:2px 0 4px;font-weight:600">{plain(caption)}</caption>'
        )
    return (
        f'<div style="overflow-x:auto"><table style="{_FONT};border-collapse:collapse;margin:4px 0;'
        f'font-size:12px;line-height:1.45">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _numeric(values: Sequence[Any]) -> bool:
    known = [v for v in values if not _is_missing(v)]
    return bool(known) and all(isinstance(v, Real) and not isinstance(v, bool) for v in known)


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _cell(value: Any) -> str:
    if _is_missing(value):
        return "–"
    if isinstance(value, bool):
        return plain(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    return f"{float(value):,.6g}" if isinstance(value, Real) else plain(value)


def head_html(snapshot: Snapshot) -> str:
    """What runs, and the word for its state; a screen reader hears the word when it changes."""
    sign, colour = _SIGNS[snapshot.state]
    if snapshot.state == "completed" and (snapshot.failed or snapshot.skipped):
        sign, colour = "!", AMBER
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline">'
        f'<b role="status" style="white-space:nowrap"><span aria-hidden="true" style="{_paint("color", colour)};'
        f'display:inline-block;min-width:1.3em">{sign}</span>{text.state_word(snapshot)}</b>'
        f'<span style="flex:1 1 auto;overflow-wrap:anywhere"> {plain(text.headline(snapshot))}</span>'
        f'<span style="{_MONO};{_SOFT}"> {plain(snapshot.job_id)}</span></div>'
    )


def progress_html(snapshot: Snapshot) -> str:
    """The state in a sentence, and why it stopped where it did."""
    # Of most endings the legend of the bar says all there is to say.
    told = snapshot.over and snapshot.state != "expired" and not (snapshot.reused or snapshot.skipped)
    sentence = (
        "" if told else f'<div style="margin-top:4px">{plain(text.progress_line(snapshot), None)}</div>'
    )
    if not snapshot.problem:
        return sentence
    colour = RED if snapshot.state in ("failed", "expired") else AMBER
    return (
        f'{sentence}<div style="margin-top:6px;padding:2px 0 2px 10px;{_paint("border-left", colour, "3px solid {}")};'
        f'overflow-wrap:anywhere">{plain(snapshot.problem, 1000)}</div>'
    )


def bar_html(snapshot: Snapshot) -> str:
    """The bar with its legend; patterns and words say the same as the colours."""
    now = text.portions(snapshot)
    counts = {"answered": now.answered, "failed": now.failed, "sent": now.sent, "ready": now.ready}
    segments = "".join(
        f'<div class="dobatch-{kind}" style="width:{100 * count / max(now.total, 1):.3f}%;'
        f'min-width:{6 if kind == "failed" else 0}px;{_SEGMENTS[kind][2]}"></div>'
        for kind, count in counts.items()
        if count
    )
    names = text.legend(snapshot)
    keys = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><span aria-hidden="true" '
        f'style="{_paint("color", _SEGMENTS[kind][1])}">{_SEGMENTS[kind][0]}</span> {words}</span> '
        for kind, words in names
    )
    ended = "" if text.preparing(snapshot) else text.percent(now.ended)
    said = escape(", ".join(words for _, words in names))
    busy = "" if snapshot.over or snapshot.state == "paused" else " dobatch-busy"
    return (
        f'<div role="progressbar" class="dobatch-bar{busy}" aria-label="Requests that have ended" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{int(100 * now.ended)}" '
        f'aria-valuetext="{said}" '
        f'style="display:flex;height:10px;margin:8px 0 4px;border-radius:5px;overflow:hidden;'
        f'background:{_TRACK}">'
        f'{segments}</div><div style="display:flex;gap:8px;font-variant-numeric:tabular-nums">'
        f'<span style="flex:1 1 0">{keys}</span><span style="white-space:nowrap">{ended}</span></div>'
    )


def facts_html(snapshot: Snapshot, now: float | None = None) -> str:
    """Rows, time, tokens and dollars, in small print."""
    amounts = " · ".join(filter(None, [text.rows_line(snapshot), text.usage_line(snapshot)]))
    facts = [text.time_line(snapshot, now), amounts]
    if snapshot.attached_elsewhere:
        facts.append("Another process of this machine moves this job on.")
    lines = "".join(f"<div>{plain(fact, None)}</div>" for fact in facts if fact)
    return (
        f'<div style="margin-top:4px;font-size:12px;{_SOFT};font-variant-numeric:tabular-nums">{lines}</div>'
    )


def errors_html(errors: Sequence[ErrorGroup], most: int | None = MOST_CODES) -> str:
    """
    Failures by code, each with its count and one example.

    Parameters
    ----------
    errors : sequence of ErrorGroup
    most : int, optional
        Codes to show; None shows all.
    """
    if not errors:
        return ""
    shown = errors[:most]
    lines = "".join(
        f'<tr style="background:none"><td style="{_NUMBER};border:0;padding:0 8px 0 0">{group.count:,}×</td>'
        '<td style="text-align:left;vertical-align:top;padding:0 10px 0 0">'
        f"<code>{plain(group.code)}</code></td>"
        f'<td style="text-align:left;padding:0;overflow-wrap:anywhere;{_SOFT}">'
        f"{plain(group.example, 160)}</td></tr>"
        for group in shown
    )
    more = (
        f"<div>and {text.counted(len(errors) - len(shown), 'more code')}</div>"
        if len(errors) > len(shown)
        else ""
    )
    return (
        f'<div style="margin-top:8px;font-size:12px"><table style="border-collapse:collapse;margin:0;'
        f'font-size:12px;line-height:1.5"><caption style="text-align:left;padding:0;font-weight:600">'
        f"Failed requests by code, with one example each</caption>{lines}</table>{more}</div>"
    )


def batches_html(batches: Sequence[BatchRow], now: float | None = None) -> str:
    """The table of batches, those that are not over first where there are too many to show."""
    now = time.time() if now is None else now
    shown = batches
    if len(batches) > MOST_BATCHES:
        shown = sorted(batches, key=lambda b: (b.state in ("completed", "read", "ended"), b.part))[
            :MOST_BATCHES
        ]
    rows = [
        {
            "part": b.part + 1,
            "batch": b.batch_id or "–",
            "state": b.state,
            "requests": b.requests,
            "completed": b.completed,
            "failed": b.failed,
            "size": size(b.bytes),
            "window ends": text.moment(b.deadline, now) if b.deadline else "–",
            "problem": b.problem or "",
        }
        for b in shown
    ]
    columns = ["part", "batch", "state", "requests", "completed", "failed", "size", "window ends"]
    if any(b.problem for b in shown):
        columns.append("problem")
    hidden = len(batches) - len(shown)
    more = f"<div>and {hidden:,} more; job.batches has all</div>" if hidden else ""
    return table_html(rows, columns) + more


def size(count: int) -> str:
    """
    Bytes for people, in powers of ten.

    Examples
    --------
    >>> size(512), size(1_500_000)
    ('512 B', '1.5 MB')
    """
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"


def static_html(snapshot: Snapshot, now: float | None = None) -> str:
    """
    Return the picture of a job that stays in a saved notebook.

    It stands on its own: without script, without style sheet, and readable where inline styles are dropped.

    Parameters
    ----------
    snapshot : Snapshot
    now : float, optional
        Unix seconds; None asks the clock.
    """
    now = time.time() if now is None else now
    parts = [
        head_html(snapshot),
        progress_html(snapshot),
        bar_html(snapshot),
        facts_html(snapshot, now),
        errors_html(snapshot.errors),
    ]
    if snapshot.batches:
        count = text.counted(len(snapshot.batches), "batch")
        parts.append(
            f'<details style="margin-top:6px;font-size:12px"><summary>{count}</summary>'
            f"{batches_html(snapshot.batches, now)}</details>"
        )
    hint = _hint(snapshot, now)
    if hint:
        parts.append(f'<div style="margin-top:6px;font-size:12px;{_SOFT}">{hint}</div>')
    return f'<div class="dobatch-static" style="{_FRAME}">{"".join(parts)}</div>'


def _hint(snapshot: Snapshot, now: float) -> str:
    attach = f"<code>dobatch.attach({plain(repr(snapshot.job_id))})</code>"
    if not snapshot.over:
        return f"As of {text.stamp(now)}; {attach} shows the job as it is now."
    if snapshot.failed:
        return (
            "<code>job.errors()</code> lists the failed rows, <code>job.retry()</code> sends again "
            f"what can be helped; the job is {attach}."
        )
    return ""
