"""A snapshot as HTML that needs neither script nor style sheet; every foreign word is escaped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from typing import Any

import pandas as pd

from dobatch_pandas.codes import RETRYABLE, ErrorGroup

from . import text
from .snapshot import NEVER_RUN, SHOWN, BatchRow, Snapshot

__all__ = ["batches_html", "errors_html", "line_html", "plain", "static_html", "table_html", "words_html"]

LONGEST_CELL = 300  # characters
MOST_BATCHES = 200
MOST_CODES = 5

# The front end's own colours: first VS Code's, where widgets bring JupyterLab's light ones along, then JupyterLab's; else
# what is right on dark and light alike: text inherits its colour, greys are made of transparency, and nothing has a
# background of its own.
GREEN = ("#388e3c", "var(--vscode-charts-green, var(--jp-success-color1, #388e3c))")
RED = ("#d64545", "var(--vscode-charts-red, var(--jp-error-color1, #d64545))")
AMBER = ("#b26a00", "var(--vscode-charts-orange, var(--jp-warn-color1, #b26a00))")
BLUE = ("#3b82c4", "var(--vscode-charts-blue, var(--jp-brand-color1, #3b82c4))")
GREY = ("#808080", "#808080")
_COLOURS = {"green": GREEN, "red": RED, "amber": AMBER, "blue": BLUE, "grey": GREY}
Colour = tuple[str, str]
LINE = "rgba(128,128,128,.35)"
_TRACK = "rgba(128,128,128,.2)"
_FONT = "font-family:var(--vscode-font-family, var(--jp-ui-font-family, system-ui, sans-serif))"
MONO = "font-family:var(--vscode-editor-font-family, var(--jp-code-font-family, ui-monospace, monospace));font-size:12px"
SOFT = "opacity:.72"
# For notebooks that are opened again: JupyterLab and the classic notebook say that there is no model where the widget
# was, right above the picture.
REOPENED = (
    ".jp-OutputArea-child:has(> .jupyter-widgets):not(:has(.jupyter-widgets > *)):has(+ .jp-OutputArea-child .dobatch-static),"
    ".output_area:has(> .jupyter-widgets-view):not(:has(.jupyter-widgets-view > *)):has(+ .output_area .dobatch-static)"
    "{display:none}"
)
_CODE_STYLE = "color:inherit;background:rgba(128,128,128,.08)"  # a page's own style makes code red on pink
_CODE = f'<code style="font-size:inherit;{_CODE_STYLE}">'
_CELL = f"text-align:left;vertical-align:top;padding:3px 16px 3px 0;border-bottom:1px solid {LINE}"
_NUMBER = _CELL.replace("left", "right", 1) + ";font-variant-numeric:tabular-nums;white-space:nowrap"
FRAME = (
    f"{_FONT};font-size:13px;line-height:1.5;border:1px solid {LINE};border-radius:6px;"
    "padding:10px 14px;margin:4px 0;max-width:760px;box-sizing:border-box"
)


def _paint(what: str, colour: Colour, pattern: str = "{}") -> str:
    """Set a colour twice: pages of notebooks that are not trusted drop what is not a plain colour."""
    plain_one = colour[0] if "gradient" in pattern else pattern.replace("{}", colour[0])
    return f"{what}:{plain_one};{what}:{pattern.replace('{}', colour[1])}"


def _ink(colour: Colour) -> str:
    """The same for text: mixed with the text's own colour, since a theme's signal colours are too pale to read."""
    return f"color:{colour[0]};color:color-mix(in srgb, {colour[1]} 62%, currentColor)"


# What the bar draws; all that was not run is left empty. A pattern and a sign say it where colours are not seen.
_SEGMENTS = {
    "answered": ("■", GREEN, _paint("background", GREEN)),
    "failed": (
        "▨",
        RED,
        _paint("background", RED, "repeating-linear-gradient(135deg,{} 0 3px,transparent 3px 6px)"),
    ),
    "cancelled": ("×", GREY, ""),
    "expired": ("×", GREY, ""),
    "waiting": ("□", GREY, ""),
    "unsent": ("□", GREY, ""),
}


class Code(str):
    """A word of a table that is not broken over lines: an id, an amount with its unit."""


@dataclass(frozen=True)
class Bar:
    """A cell of a table that is drawn: how many of some requests are answered, and have failed."""

    answered: int
    failed: int
    total: int


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
            '<caption style="text-align:left;color:inherit;padding:2px 0 4px;font-weight:600">'
            f"{plain(caption)}</caption>"
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
    if isinstance(value, Bar):
        return _small_bar(value.answered, value.failed, value.total)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Code):
        return f'<span style="white-space:nowrap">{plain(value)}</span>'
    return f"{float(value):,.6g}" if isinstance(value, Real) else plain(value)


def _small_bar(answered: int, failed: int, total: int) -> str:
    portions = text.Portions(answered, failed, 0, 0, max(0, total - answered - failed), 0)
    share = min(1.0, (answered + failed) / max(total, 1))
    return (
        f'<span style="white-space:nowrap"><span aria-hidden="true" style="display:inline-flex;width:80px;height:8px;'
        f'border-radius:4px;overflow:hidden;background:{_TRACK}">{_segments_html(portions, share)}</span> '
        f"{text.percent(share)}</span>"
    )


def words_html(words: str) -> str:
    """A line of words in the place of a picture that cannot be drawn."""
    return f'<div style="{FRAME}">{plain(words, None)}</div>'


def _sign_html(snapshot: Snapshot) -> str:
    _, sign, name = SHOWN[snapshot.state]
    colour = _COLOURS[name]
    if text.all_failed(snapshot):
        sign, colour = "✗", RED
    elif snapshot.state == "completed" and (snapshot.failed or snapshot.skipped):
        sign, colour = "!", AMBER
    return (
        f'<span aria-hidden="true" style="{_ink(colour)};display:inline-block;min-width:1.3em">{sign}</span>'
    )


def price_html(headline: tuple[str, str], bound: str, facts: Sequence[tuple[str, str]], caption: str) -> str:
    """
    An amount of money, large, with what it is for; then its bound, and how it was worked out.

    Parameters
    ----------
    headline : tuple of str
        The amount, and the words beside it.
    bound : str
        What it cannot exceed, in a sentence.
    facts : sequence of tuple of str
        Names and their values.
    caption : str
    """
    price, words = headline
    table = table_html([{"what": what, "value": value} for what, value in facts], ["what", "value"])
    limit = f"<div>{plain(bound, None)}</div>" if bound else ""
    return (
        f'<div style="{FRAME}"><div style="{SOFT}">{plain(caption)}</div>'
        f'<div><b style="font-size:18px">{plain(price)}</b> {plain(words, None)}</div>{limit}{table}</div>'
    )


def head_html(snapshot: Snapshot) -> str:
    """What runs, and the word for its state; a screen reader hears the word when it changes."""
    red = f";{_ink(RED)}" if text.all_failed(snapshot) else ""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline">'
        f'<b role="status" style="white-space:nowrap{red}">{_sign_html(snapshot)}{text.state_word(snapshot)}</b>'
        f'<span style="flex:1 1 auto;overflow-wrap:anywhere"> {plain(text.headline(snapshot))}</span>'
        f'<span style="{MONO};{SOFT}"> {plain(snapshot.job_id)}</span></div>'
    )


def progress_html(snapshot: Snapshot) -> str:
    """The state in a sentence where the legend does not say it, and why it stopped where it did."""
    told = snapshot.state == "running" or (
        snapshot.over and snapshot.state != "expired" and not (snapshot.reused or snapshot.skipped)
    )
    sentence = (
        "" if told else f'<div style="margin-top:4px">{plain(text.progress_line(snapshot), None)}</div>'
    )
    for note in snapshot.notes:
        sentence += f'<div style="margin-top:4px;overflow-wrap:anywhere">{plain(note, 1000)}</div>'
    if not snapshot.problem:
        return sentence
    colour = RED if snapshot.state in ("failed", "expired") else AMBER
    return (
        f'{sentence}<div style="margin-top:6px;padding:2px 0 2px 10px;{_paint("border-left", colour, "3px solid {}")};'
        f'overflow-wrap:anywhere">{plain(snapshot.problem, 1000)}</div>'
    )


def bar_html(snapshot: Snapshot, share: float | None = None) -> str:
    """
    The bar with its legend; patterns and words say the same as the colours.

    Parameters
    ----------
    snapshot : Snapshot
    share : float, optional
        How far to draw it, 0 to 1, where it was further already; None is what the snapshot says.
    """
    now = text.portions(snapshot)
    share = now.finished if share is None else share
    names = text.legend(snapshot)
    keys = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><span aria-hidden="true" '
        f'style="{_ink(_SEGMENTS[kind][1])}">{_SEGMENTS[kind][0]}</span> {words}</span> '
        for kind, words in names
    )
    said = escape(", ".join(words for _, words in names))
    busy = "" if snapshot.over or snapshot.state == "paused" else " dobatch-busy"
    return (
        f'<div role="progressbar" class="dobatch-bar{busy}" aria-label="Requests that are finished" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{int(100 * share)}" '
        f'aria-valuetext="{said}" '
        f'style="display:flex;height:10px;margin:8px 0 4px;border-radius:5px;overflow:hidden;'
        f'background:{_TRACK}">{_segments_html(now, share)}</div>'
        '<div style="display:flex;gap:8px;font-variant-numeric:tabular-nums">'
        f'<span style="flex:1 1 0">{keys}</span>'
        f'<span style="white-space:nowrap">{text.percent(share)}</span></div>'
    )


def _segments_html(now: text.Portions, share: float) -> str:
    failed = 100 * now.failed / max(now.total, 1)
    widths = {"answered": max(0.0, 100 * share - failed) if now.answered or share else 0.0, "failed": failed}
    return "".join(
        f'<div class="dobatch-{kind}" style="width:{width:.3f}%;'
        f'min-width:{6 if kind == "failed" else 0}px;{_SEGMENTS[kind][2]}"></div>'
        for kind, width in widths.items()
        if width
    )


def line_html(snapshot: Snapshot, share: float | None = None) -> str:
    """A job in one line, for where there are many."""
    now = text.portions(snapshot)
    share = now.finished if share is None else share
    left = text.time_left(snapshot)
    words = [*text.finished_words(snapshot), text.money_line(snapshot) if snapshot.over else ""]
    if left is not None:
        words.append(f"about {text.duration(left)} left")
    cell = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:0 10px;align-items:center;font-variant-numeric:tabular-nums">'
        f'<b style="flex:0 0 130px;{cell}">{_sign_html(snapshot)}{text.short_word(snapshot)}</b>'
        f'<span style="flex:1 1 100px;min-width:0;{cell}">{plain(f"{snapshot.model} → {snapshot.into}")}</span>'
        f'<span role="progressbar" aria-label="Requests that are finished" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{int(100 * share)}" style="flex:0 0 80px;display:flex;height:8px;border-radius:4px;'
        f'overflow:hidden;background:{_TRACK}">{_segments_html(now, share)}</span>'
        f'<span style="flex:0 0 2.8em;text-align:right">{text.percent(share)}</span>'
        f'<span style="flex:0 1 300px;min-width:0;{cell};{SOFT}">{plain(" · ".join(filter(None, words)))}</span>'
        f'<span style="{MONO};{SOFT};white-space:nowrap">{plain(snapshot.job_id)}</span></div>'
        # Why it stands still is read whole, however narrow the page is.
        + (
            f'<div style="font-size:12px;overflow-wrap:anywhere">{plain(snapshot.problem, 1000)}</div>'
            if snapshot.problem
            else ""
        )
    )


def facts_html(snapshot: Snapshot, now: float | None = None) -> str:
    """Money first, then rows, time and tokens, in small print."""
    first = (text.money_line(snapshot), text.time_line(snapshot, now))
    second = (text.rows_line(snapshot), text.tokens_line(snapshot))
    facts = [" · ".join(filter(None, words)) for words in (first, second)]
    if snapshot.attached_elsewhere:
        facts.append("Another process on this machine is moving this job forward.")
    lines = "".join(f"<div>{plain(fact, None)}</div>" for fact in facts if fact)
    return (
        f'<div style="margin-top:4px;font-size:12px;{SOFT};font-variant-numeric:tabular-nums">{lines}</div>'
    )


def errors_html(errors: Sequence[ErrorGroup], most: int | None = MOST_CODES) -> str:
    """
    Failures by code, each with its count, whether a retry helps, and one example in the service's words.

    Parameters
    ----------
    errors : sequence of ErrorGroup
    most : int, optional
        Codes to show; None shows all.
    """
    # What was never run did not fail: the legend counts it.
    errors = [group for group in errors if group.code not in NEVER_RUN]
    if not errors:
        return ""
    shown = errors[:most]
    lines = "".join(
        f'<tr style="background:none"><td style="{_NUMBER};border:0;padding:0 8px 0 0">{group.count:,}×</td>'
        '<td style="text-align:left;vertical-align:top;padding:0 10px 0 0;white-space:nowrap">'
        f"{_CODE}{plain(group.code)}</code></td>"
        f'<td style="text-align:left;vertical-align:top;padding:0 10px 0 0;min-width:5.5em;{SOFT}">'
        f"{'a retry may help' if group.code in RETRYABLE else 'a retry will not help'}</td>"
        f'<td style="text-align:left;vertical-align:top;padding:0;min-width:7.5em;overflow-wrap:anywhere;{SOFT}">'
        f"{plain(group.example, 160)}</td></tr>"
        for group in shown
    )
    more = (
        f"<div>and {text.counted(len(errors) - len(shown), 'more code')}</div>"
        if len(errors) > len(shown)
        else ""
    )
    return (
        f'<div style="margin-top:8px;font-size:12px;overflow-x:auto"><table style="border-collapse:collapse;margin:0;'
        f'font-size:12px;line-height:1.5"><caption style="text-align:left;color:inherit;padding:0;font-weight:600">'
        f"Failed requests by code, with one example each</caption>{lines}</table>{more}</div>"
    )


def next_html(snapshot: Snapshot) -> str:
    """What a retry would do, and one line to copy: the next thing to type."""
    retry = text.retry_line(snapshot)
    lines = [plain(retry)] if retry else []
    if snapshot.state in ("completed", "cancelled", "expired") and not snapshot.dataset:
        if snapshot.completed + snapshot.reused:
            lines.append(f"Next: {_copied('df.dobatch.update(job)')} adds the answers to your frame.")
        elif snapshot.refused:
            lines.append(f"Next: {_copied('job.errors()')} lists every failed row.")
        elif snapshot.failed:
            lines.append(f"Next: {_copied('job.retry()')} sends them.")
    return "".join(f'<div style="margin-top:6px">{line}</div>' for line in lines)


def _copied(code: str) -> str:
    """Code that one click selects as a whole."""
    return (
        f'<code style="{_CODE_STYLE};user-select:all;cursor:copy;{MONO};padding:2px 6px;border:1px solid {LINE};'
        f'border-radius:4px">{plain(code)}</code>'
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
            "batch": Code(b.batch_id) if b.batch_id else "–",
            "state": b.state,
            "requests": b.requests,
            "completed": b.completed,
            "failed": b.failed,
            "size": Code(size(b.bytes)),
            "window ends": Code(text.moment(b.deadline, now)) if b.deadline else "–",
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


def body_html(snapshot: Snapshot, share: float | None = None, now: float | None = None) -> str:
    """Everything below the head, as one piece: its numbers are of one moment."""
    return "".join(
        (
            progress_html(snapshot),
            bar_html(snapshot, share),
            facts_html(snapshot, now),
            errors_html(snapshot.errors),
            next_html(snapshot),
        )
    )


def static_html(
    snapshot: Snapshot, now: float | None = None, *, note: str = "", compact: bool = False
) -> str:
    """
    Return the picture of a job that stays in a saved notebook.

    It stands on its own: without script, without style sheet, and readable where inline styles are dropped.

    Parameters
    ----------
    snapshot : Snapshot
    now : float, optional
        Unix seconds; None asks the clock.
    note : str
        What has become of the job since, in a sentence.
    compact : bool
        One line, which opens to the rest.
    """
    now = time.time() if now is None else now
    parts = [head_html(snapshot), body_html(snapshot, None, now)]
    if snapshot.batches:
        count = text.counted(len(snapshot.batches), "batch")
        parts.append(
            f'<details style="margin-top:6px;font-size:12px"><summary>{count}</summary>'
            f"{batches_html(snapshot.batches, now)}</details>"
        )
    hint = plain(note) if note else _hint(snapshot, now)
    if hint:
        parts.append(f'<div style="margin-top:6px;font-size:12px;{SOFT}">{hint}</div>')
    if compact:
        return (
            f'<details class="dobatch-static" style="{FRAME};padding:2px 14px;margin:0;max-width:960px">'
            '<summary style="display:flex;gap:6px;align-items:baseline;cursor:pointer"><span aria-hidden="true">▸</span>'
            f'<div style="flex:1 1 0;min-width:0">{line_html(snapshot)}</div></summary>{"".join(parts)}</details>'
        )
    return f'<div class="dobatch-static" style="{FRAME}">{"".join(parts)}</div>'


def _hint(snapshot: Snapshot, now: float) -> str:
    attach = f"{_CODE}job = dobatch.attach({plain(repr(snapshot.job_id))})</code>"
    if not snapshot.over:
        return f"As of {text.stamp(now)}; {attach} shows the job as it is now."
    if not snapshot.failed:
        return ""
    words = f"{attach} reopens this job; {_CODE}job.errors()</code> lists the rows without an answer"
    if snapshot.worth_retrying or snapshot.never_run:
        words += f", {_CODE}job.retry()</code> resends those worth retrying"
    return f"{words}."
