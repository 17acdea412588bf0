"""Evaluations and comparisons as HTML: a view for the cell, a report in one file; everything escaped."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape as escape_signs
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dobatch_pandas.display.text import dollars
from dobatch_pandas.errors import InputError

from .metrics import need
from .significance import p_words
from .texts import as_text, clean, is_missing

if TYPE_CHECKING:
    from .findings import Comparison, Evaluation
    from .saved import Evaluations

__all__ = [
    "comparison_html",
    "comparison_page",
    "evaluation_html",
    "evaluation_page",
    "leaderboard_html",
    "page",
    "table",
    "write",
]

_MOST_CLASSES = 12

#: What the rows of a report may take, and how much of one text it shows.
_MOST_BYTES, _MOST_SIGNS = 1_000_000, 2_000

# Control signs as their pictures, so that none acts; a signs' order is kept within its cell by CSS.
_SIGNS = {n: 0x2400 + n for n in range(32) if chr(n) not in "\t\n\r"} | {127: 0x2421}

# Said in place, too: pages of notebooks that are not trusted drop the style sheet.
SCROLL = '<div class="scroll" style="overflow-x:auto">'
STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>body {{ margin: 24px; }} {style} .dobatch-eval {{ margin: 0 auto; }}
@media print {{ :root {{ color-scheme: light; }} body {{ margin: 0; }} tr {{ break-inside: avoid; }} }}</style></head>
<body><div class="dobatch-eval">{body}</div></body></html>
"""


def escape(text: str) -> str:
    """Return a text of any content as HTML: half surrogate pairs and control signs become visible signs."""
    return escape_signs(clean(text).translate(_SIGNS))


def write(path: str | os.PathLike[str], text: str) -> Path:
    """Replace the file in one step, so that no reader sees half of it."""
    try:
        place = Path(path)
        unfinished = place.with_name(place.name + ".partial")
    except (TypeError, ValueError):
        raise InputError(
            f"A report needs the path of a file, such as 'report.html', not {path!r:.80}."
        ) from None
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, place)
    except OSError as problem:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"The report cannot be written to {place}: {problem.strerror}.") from problem
    return place


def page(title: str, body: str) -> str:
    """Return a whole HTML file that loads nothing and runs nothing."""
    return _PAGE.format(title=escape(title), style=STYLE, body=body)


_SHARES = ("accuracy", "low", "high", "mean", "majority", "pass@", "consistency", "baseline", "field", "exact",
           "normalised", "contains")  # fmt: skip


def number(value: Any, metric: str = "") -> str:
    """A number as a person reads it."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return escape("" if value is None else str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if pd.isna(value):
        return "–"
    if metric.startswith(_SHARES):
        return f"{value:.1%}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: float, share: bool) -> str:
    """A difference: percentage points for shares."""
    return (f"{value * 100:+.1f}" if share else f"{value:+.3g}").replace("-", "−")


def table(
    header: Sequence[str], lines: Iterable[Sequence[str]], *, text_columns: int = 1, caption: str = ""
) -> str:
    """Return a table of cells that are HTML already; the first ``text_columns`` are set to the left."""
    side = [' class="text"' if place < text_columns else "" for place in range(len(header))]
    head = "".join(f"<th{at} scope='col'>{name}</th>" for at, name in zip(side, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{at}>{cell}</td>" for at, cell in zip(side, line, strict=True)) + "</tr>"
        for line in lines
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    return f"{SCROLL}<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def bar(value: float, low: float, high: float) -> str:
    """A share on a line from 0 to 1, its interval as a band."""
    if math.isnan(value):
        return ""
    return (
        f'<span class="bar" role="img" aria-label="{value:.1%}, from {low:.1%} to {high:.1%}">'
        f'<i style="left:{low * 100:.1f}%;width:{(high - low) * 100:.1f}%"></i>'
        f'<u style="left:calc({value * 100:.1f}% - 1px)"></u></span>'
    )


def evaluation_html(evaluation: Evaluation) -> str:
    """Return the view for a notebook's cell."""
    return f'<div class="dobatch-eval"><style>{STYLE}</style>{evaluation_body(evaluation)}</div>'


def evaluation_body(evaluation: Evaluation) -> str:
    """Return the numbers without the frame around them."""
    parts = [_metrics(evaluation)]
    if evaluation.fields is not None:
        parts.append(_fields(evaluation.fields))
    if evaluation.classes is not None:
        parts.append(_classes(evaluation.classes))
    if evaluation.confusion is not None:
        parts.append(_confusion(evaluation))
    if evaluation.samples is not None:
        parts.append(_samples(evaluation))
    if evaluation.slices is not None:
        parts.append(_slices(evaluation.slices))
    if len(evaluation.errors):
        lines = [[escape(str(code)), f"{count:,}"] for code, count in evaluation.errors.head(10).items()]
        parts.append(table(["error", "rows"], lines, caption="failed rows"))
    return _head(evaluation) + f'<div class="parts">{"".join(parts)}</div>'


def _head(evaluation: Evaluation) -> str:
    counts, (low, high) = evaluation.counts, evaluation.interval
    interval = f"{evaluation.confidence:.0%} CI {low:.1%} to {high:.1%}" if counts.counted else "no rows"
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in evaluation.notes)
    n = f", n = {counts.counted:,}" if counts.counted else ""
    return (
        f'<p class="head"><b>{number(evaluation.accuracy, "accuracy")}</b> {escape(evaluation.headline)} '
        f'<span class="soft">{interval}{n}</span></p>'
        f"<p>{escape(str(evaluation.predicted))} against {escape(str(evaluation.actual))}: "
        f"{escape(evaluation.correct_words)}; {escape(evaluation.failed_words)}.</p>{notes}"
    )


def _metrics(evaluation: Evaluation) -> str:
    lines = []
    for name, line in evaluation.table.iterrows():
        metric = str(name)
        ends = [number(float(line[end]), metric) for end in ("low", "high")]
        interval = "" if pd.isna(line["low"]) else " – ".join(ends)
        shown = number(float(line["value"]), metric)
        lines.append([escape(metric.replace("_", " ")), shown, interval, f"{int(line['rows']):,}"])
    return table(["metric", "value", "interval", "rows"], lines, caption="metrics")


def _classes(classes: pd.DataFrame) -> str:
    lines = []
    for label, line in classes.head(_MOST_CLASSES * 2).iterrows():
        shares = [f"{line[name]:.3f}" for name in ("precision", "recall", "f1")]
        lines.append([escape(str(label)), *shares, f"{line['support']:,.0f}"])
    more = len(classes) - len(lines)
    caption = "classes" + (f" (first {len(lines)} of {len(classes)})" if more > 0 else "")
    return table(["class", "precision", "recall", "F1", "support"], lines, caption=caption)


def _fields(fields: pd.DataFrame) -> str:
    lines = [
        [
            escape(str(field)), escape(str(line["kind"])), number(float(line["accuracy"]), "accuracy"),
            bar(line["accuracy"], line["low"], line["high"]), f"{line['rows']:,}", f"{line['failed']:,}",
        ]
        for field, line in zip(fields.index, fields.to_dict("records"), strict=True)
    ]  # fmt: skip
    return table(["field", "kind", "accuracy", "", "rows", "failed"], lines, text_columns=2, caption="fields")


def _confusion(evaluation: Evaluation) -> str:
    matrix = evaluation.confusion
    assert matrix is not None
    top = _top_confusions(matrix)
    if len(matrix) > _MOST_CLASSES:
        words = f"The confusion matrix has {len(matrix)} classes: see .confusion or .plot()."
        return f'<div>{top}<p class="soft">{words}</p></div>'
    names = [*(escape(str(name)) for name in matrix.columns)]
    head = "".join(f"<th scope='col' class='cell'>{name}</th>" for name in names)
    body = []
    for place, (label, line) in enumerate(matrix.iterrows()):
        total = int(line.sum())
        cells = []
        for column, count in enumerate(line):
            colour = "var(--accent)" if column == place else "var(--bad)"
            depth = 0 if not total else round(100 * count / total * 0.36)
            style = f"background-color:color-mix(in srgb, {colour} {depth}%, transparent)"
            cells.append(f'<td class="cell" style="{style}">{f"{count:,}" if count else ""}</td>')
        body.append(f"<tr><th scope='row' class='text'>{escape(str(label))}</th>{''.join(cells)}</tr>")
    return (
        f"{SCROLL}<table><caption>confusion: gold down, answers across</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        + (top if len(matrix) > 3 else "")
    )


def _top_confusions(matrix: pd.DataFrame, most: int = 8) -> str:
    """The pairs of classes that are mixed up most."""
    counts = matrix.to_numpy().copy()
    for place in range(len(matrix)):
        counts[place, place] = 0
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    lines = []
    for flat in order:
        row, column = np.unravel_index(flat, counts.shape)
        if counts[row, column]:
            names = [escape(str(matrix.index[row])), escape(str(matrix.columns[column]))]
            lines.append([*names, f"{counts[row, column]:,}"])
    if not lines:
        return ""
    return table(["gold", "answer", "rows"], lines, text_columns=2, caption="confused most")


def _samples(evaluation: Evaluation) -> str:
    samples, noise = evaluation.samples, evaluation.noise
    assert samples is not None
    assert noise is not None
    lines = [
        [escape(str(name)), f"{line['accuracy']:.1%}", f"{line['failed']:,.0f}"]
        for name, line in samples.iterrows()
    ]
    caption = f"samples: {noise.answers:.1%} of pairs differ, {noise.outcomes:.1%} in being right"
    return table(["sample", "accuracy", "failed"], lines, caption=caption)


def _slices(slices: pd.DataFrame) -> str:
    extra = [name for name in ("macro_f1", "mae") if name in slices.columns]
    lines = []
    for line in slices.head(50).to_dict("records"):
        few = ' <span class="soft">few rows</span>' if line["small"] else ""
        p = line.get("p_holm", math.nan)
        lines.append(
            [
                f"{escape(str(line['column']))} = {escape(str(line['slice']))}{few}",
                number(float(line["accuracy"]), "accuracy"),
                bar(line["accuracy"], line["low"], line["high"]),
                _range(line),
                f"{line['rows']:,}",
                f"{line['failed']:,}",
                "" if pd.isna(p) else escape(p_words(float(p)).removeprefix("= ")),
                *(number(float(line[name])) for name in extra),
            ]
        )
    header = [
        "slice",
        "accuracy",
        "",
        "interval",
        "rows",
        "failed",
        "differs: p (Holm)",
        *(name.replace("_", " ") for name in extra),
    ]
    more = f" (first 50 of {len(slices)})" if len(slices) > 50 else ""
    return table(header, lines, caption=f"slices{more}")


def evaluation_page(evaluation: Evaluation, *, rows: int, columns: list[str] | None) -> str:
    """Return the report file's text."""
    from . import plots

    title = f"{evaluation.predicted} against {evaluation.actual}"
    draws: list[Callable[..., Any]] = []
    if evaluation.confusion is not None and len(evaluation.confusion):
        draws.append(plots.confusion)
    if evaluation.fields is not None and len(evaluation.fields):
        draws.append(plots.fields)
    if evaluation.slices is not None and len(evaluation.slices):
        draws.append(plots.slices)
    if evaluation.kind in ("numbers", "text", "sets"):
        draws.append(plots.scores)
    pictures = "".join(picture(partial(draw, evaluation), draw.__name__) for draw in draws)
    wrong = evaluation.wrong()
    own = [evaluation.own_name(name) for name in ("outcome", "score")]
    sides = (evaluation.actual, evaluation.predicted)
    names = [name for side in sides for name in (side.split(", ") if isinstance(side, str) else [side])]
    first = [name for name in dict.fromkeys([own[0], *names]) if name in wrong.columns]
    if columns is None:
        columns = [name for name in wrong.columns if name not in (*first, *own)]
    wrong = wrong[[*first, *(name for name in columns if name not in first), own[1]]]
    shown, count = frame_table(wrong.head(rows))
    body = (
        f"<h1>{escape(title)}</h1>{evaluation_body(evaluation)}<h2>Pictures</h2>{pictures}"
        f"<h2>Rows that are wrong or failed</h2>"
        f"<p class='soft'>{count:,} of {len(wrong):,}</p>{shown}"
    )
    return page(title, body)


def picture(draw: Callable[[], Any], words: str) -> str:
    """Return a drawing as an image inside the page."""
    pyplot = need("matplotlib.pyplot", "Drawing")
    figure = draw().get_figure()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    width = round(figure.get_figwidth() * 96)
    pyplot.close(figure)  # else the notebook shows it too
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img alt="{escape(words)}" width="{width}" src="data:image/png;base64,{data}"></p>'


def frame_table(frame: pd.DataFrame, limit: int = _MOST_SIGNS) -> tuple[str, int]:
    """
    Return a frame with its index as a table, and how many rows it holds: as many as a page can carry.

    Short columns take the room they need, long texts the rest.
    """
    cells = [[_cut(value, limit) for value in line] for line in frame.itertuples(name=None)]
    kept, size = 0, 0
    for line in cells:
        size += sum(len(cell.encode("utf-8")) + 60 for cell in line)
        if size > _MOST_BYTES and kept:
            break
        kept += 1
    cells = cells[:kept]
    widths = [max((len(line[place]) for line in cells), default=0) for place in range(frame.shape[1] + 1)]
    kinds = ["brief" if width <= 24 else "long" if width <= 60 else "long wide" for width in widths]
    names = ["", *map(str, frame.columns)]
    head = "".join(
        f"<th class='{kind} text{' named' if len(name) > 16 else ''}' scope='col'>{escape(name)}</th>"
        for kind, name in zip(kinds, names, strict=True)
    )
    lines = [
        "<tr>"
        + "".join(f"<td class='{kind}'>{escape(c)}</td>" for kind, c in zip(kinds, line, strict=True))
        + "</tr>"
        for line in cells
    ]
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'{SCROLL}<table class="rows">{body}</table></div>', kept


def _cut(value: Any, limit: int) -> str:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    words = f"{value:.4g}" if isinstance(value, float) else as_text(value)
    return words if len(words) <= limit else f"{words[:limit]}… ({len(words):,} characters)"


def comparison_html(compared: Comparison) -> str:
    """Return the view for a notebook's cell."""
    return f'<div class="dobatch-eval"><style>{STYLE}</style>{_comparison_body(compared)}</div>'


def _comparison_body(compared: Comparison) -> str:
    better = compared.verdict_sign
    mark = {1: "good", -1: "bad"}.get(better, "soft")
    parts = [_runs(compared)]
    crossed = compared.crossed
    if crossed is not None:
        names = [escape(str(name)) for name in compared.table.index[:2]]
        lines = [
            [f"{names[0]} {word}", *(f"{count:,}" for count in line)]
            for word, line in zip(("right", "wrong"), crossed.to_numpy().tolist(), strict=True)
        ]
        parts.append(table(["", f"{names[1]} right", f"{names[1]} wrong"], lines, caption="the same rows"))
    if compared.slices is not None:
        parts.append(_comparison_slices(compared))
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in compared.notes)
    head = f'<p class="head {mark}">{escape(compared.verdict)}.</p>{notes}'
    return f'{head}<div class="parts">{"".join(parts)}</div>'


def _runs(compared: Comparison) -> str:
    lines = []
    share = compared.metric == "accuracy"
    for name, line in compared.table.iterrows():
        first = name == compared.table.index[0]
        value = number(float(line["value"]), "accuracy" if share else "")
        low, high = (signed(float(line[f"difference_{end}"]), share) for end in ("low", "high"))
        interval = "" if first else f"{low} to {high}"
        p = (
            ""
            if first or pd.isna(line["p_holm"])
            else escape(p_words(float(line["p_holm"])).removeprefix("= "))
        )
        counts = (
            ["", ""] if first or pd.isna(line["wins"]) else [f"{line['wins']:,.0f}", f"{line['losses']:,.0f}"]
        )
        difference = "" if first else signed(float(line["difference"]), share)
        failed = f"{line['failed']:,.0f}"
        verdict = "" if first else _verdict(str(line["verdict"]))
        lines.append([escape(str(name)), value, difference, interval, p, verdict, *counts, failed])
    unit = " (points)" if share else ""
    several = len(lines) > 2
    header = [
        "run", compared.metric, f"difference{unit}", f"{compared.confidence:.0%} CI", "p (Holm)" if several else "p",
        "verdict", "wins", "losses", "failed",
    ]  # fmt: skip
    return table(header, lines, caption=f"{compared.rows_used:,} rows in every run")


def _verdict(word: str) -> str:
    """A verdict in the colour that the picture has for it."""
    return f'<span class="{ {"better": "good", "worse": "bad"}.get(word, "soft") }">{escape(word)}</span>'


def _comparison_slices(compared: Comparison) -> str:
    slices = compared.slices
    assert slices is not None
    share = compared.metric == "accuracy"
    lines = []
    for line in slices.head(50).to_dict("records"):
        few = ' <span class="soft">few rows</span>' if line["small"] else ""
        ends = [signed(line[end], share) for end in ("difference", "low", "high")]
        lines.append(
            [
                f"{escape(str(line['column']))} = {escape(str(line['slice']))}{few}",
                *(f"{line[count]:,}" for count in ("rows", "wins", "losses")),
                ends[0],
                f"{ends[1]} to {ends[2]}",
                "" if pd.isna(line["p_holm"]) else escape(p_words(float(line["p_holm"])).removeprefix("= ")),
                _verdict(str(line["verdict"])),
            ]
        )
    several = compared.table.shape[0] > 2
    if several:
        for shown, line in zip(lines, slices.head(50).to_dict("records"), strict=True):
            shown[0] += f" · {escape(str(line['run']))}"
    header = ["slice", "rows", "wins", "losses", "difference", "CI", "p (Holm)", "verdict"]
    more = f" (first 50 of {len(slices)})" if len(slices) > 50 else ""
    return table(header, lines, caption=f"slices{more}")


def comparison_page(compared: Comparison, *, rows: int) -> str:
    """Return the report file's text."""
    from . import plots

    title = " against ".join(map(str, compared.table.index[::-1]))
    differing = compared.differ()
    change = differing.pop("change")
    differing.insert(0, "change", change)
    shown, count = frame_table(differing.head(rows))
    body = (
        f"<h1>{escape(title)}</h1>{_comparison_body(compared)}<h2>Pictures</h2>"
        f"{picture(partial(plots.comparison, compared), 'comparison')}"
        f"<h2>Rows that differ</h2><p class='soft'>{count:,} of {len(differing):,}</p>{shown}"
    )
    return page(title, body)


def _range(line: Any) -> str:
    """An interval, on one line also where a page has taken our style away."""
    space = "\N{NO-BREAK SPACE}"
    return "–" if pd.isna(line["low"]) else f"{line['low']:.1%}{space}–{space}{line['high']:.1%}"


def leaderboard_html(saved: Evaluations) -> str:
    """Return saved evaluations for a notebook's cell: the newest of each name, the best first."""
    if not {"name", "accuracy", "low", "high", "data"} <= set(saved.columns):
        return str(pd.DataFrame(saved).to_html())
    if saved.empty:
        return '<div class="dobatch-eval">No evaluation has been saved in this home; evaluation.save("name") keeps one.</div>'
    newest = saved.latest()
    groups = {data: number for number, data in enumerate(dict.fromkeys(newest["data"]), 1)}
    lines = []
    for line in newest.to_dict("records"):
        runs = int((saved["name"] == line["name"]).sum())
        cost = "" if pd.isna(line["cost"]) else dollars(line["cost"])
        told = (line[name] for name in ("model", "prompt"))
        model, prompt = ("" if is_missing(text) else " ".join(as_text(text).split()) for text in told)
        prompt = prompt if len(prompt) <= 60 else f"{prompt[:40]}…{prompt[-19:]}"
        lines.append(
            [
                escape(str(line["name"])), escape(model), escape(prompt),
                number(float(line["accuracy"]), "accuracy"), bar(line["accuracy"], line["low"], line["high"]),
                _range(line), f"{line['rows']:,}",
                f"{line['failed']:,}", cost, f"{line['saved']:%Y-%m-%d\N{NO-BREAK SPACE}%H:%M}", f"{runs:,}",
                *([str(groups[line["data"]])] if len(groups) > 1 else []),
            ]
        )  # fmt: skip
    header = ["name", "model", "prompt", "accuracy", "", "95% CI", "rows", "failed", "cost", "saved", "runs"]
    note = ""
    if len(groups) > 1:
        header.append("data")
        note = "<p class='soft'>Only runs of the same number under data are of the same rows and gold.</p>"
    shown = table(header, lines, text_columns=3, caption="saved evaluations")
    return f'<div class="dobatch-eval"><style>{STYLE}</style>{note}{shown}</div>'
