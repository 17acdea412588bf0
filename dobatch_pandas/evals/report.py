"""Evaluations and comparisons as HTML: a view for the cell, a report in one file; everything escaped."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .extras import need
from .verdict import p_words

if TYPE_CHECKING:
    from .comparison import Comparison
    from .evaluation import Evaluation

__all__ = [
    "comparison_html",
    "comparison_page",
    "evaluation_html",
    "evaluation_page",
    "page",
    "table",
    "write",
]

_MOST_CLASSES = 12

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>body {{ margin: 24px; }} {style} .dobatch-eval {{ margin: 0 auto; }}</style></head>
<body><div class="dobatch-eval">{body}</div></body></html>
"""


def write(path: Path, text: str) -> Path:
    """Replace the file in one step, so that no reader sees half of it."""
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def page(title: str, body: str) -> str:
    """Return a whole HTML file that loads nothing and runs nothing."""
    return _PAGE.format(title=escape(title), style=STYLE, body=body)


def number(value: Any, metric: str = "") -> str:
    """A number as a person reads it."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return escape("" if value is None else str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if pd.isna(value):
        return "–"
    if metric.startswith(("accuracy", "low", "high")):
        return f"{value:.1%}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: float, share: bool) -> str:
    """A difference: percentage points for shares."""
    return f"{value * 100:+.1f}" if share else f"{value:+.3f}"


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
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


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
    if evaluation.classes is not None:
        parts.append(_classes(evaluation.classes))
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
    interval = (
        f"{evaluation.confidence:.0%} interval {low:.1%} to {high:.1%}" if counts.counted else "no rows"
    )
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in evaluation.notes)
    return (
        f'<p class="head"><b>{number(evaluation.accuracy, "accuracy")}</b> {escape(evaluation.headline)} '
        f'<span class="soft">{interval}</span></p>'
        f"<p>{escape(evaluation.predicted)} against {escape(evaluation.actual)}: {counts.correct:,} of "
        f"{counts.counted:,} counted rows are right; {escape(evaluation.failed_words)}.</p>{notes}"
    )


def _metrics(evaluation: Evaluation) -> str:
    lines = []
    for name, line in evaluation.table.iterrows():
        metric = str(name)
        interval = "" if pd.isna(line["low"]) else f"{line['low']:.1%} – {line['high']:.1%}"
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


def _confusion(evaluation: Evaluation) -> str:
    matrix = evaluation.confusion
    assert matrix is not None
    if len(matrix) > _MOST_CLASSES:
        return (
            f'<p class="soft">The confusion matrix has {len(matrix)} classes: see .confusion or .plot().</p>'
        )
    names = [*(escape(str(name)) for name in matrix.columns)]
    head = "".join(f"<th scope='col' class='cell'>{name}</th>" for name in names)
    body = []
    for place, (label, line) in enumerate(matrix.iterrows()):
        total = int(line.sum())
        cells = []
        for column, count in enumerate(line):
            colour = "var(--accent)" if column == place else "var(--bad)"
            depth = 0 if not total else round(100 * count / total * 0.75)
            style = f"background-color:color-mix(in srgb, {colour} {depth}%, transparent)"
            cells.append(f'<td class="cell" style="{style}">{count:,}</td>')
        body.append(f"<tr><th scope='row' class='text'>{escape(str(label))}</th>{''.join(cells)}</tr>")
    return (
        '<div class="scroll"><table><caption>confusion: gold down, answers across</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


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
        lines.append(
            [
                f"{escape(str(line['column']))} = {escape(str(line['slice']))}{few}",
                number(float(line["accuracy"]), "accuracy"),
                bar(line["accuracy"], line["low"], line["high"]),
                "–" if pd.isna(line["low"]) else f"{line['low']:.1%} – {line['high']:.1%}",
                f"{line['rows']:,}",
                f"{line['failed']:,}",
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
    if evaluation.slices is not None and len(evaluation.slices):
        draws.append(plots.slices)
    if evaluation.kind != "labels":
        draws.append(plots.scores)
    pictures = "".join(picture(partial(draw, evaluation), draw.__name__) for draw in draws)
    wrong = evaluation.wrong()
    if columns is not None:
        wrong = wrong[[*columns, "outcome", "score"]]
    shown = frame_table(wrong.head(rows))
    body = (
        f"<h1>{escape(title)}</h1>{evaluation_body(evaluation)}<h2>Pictures</h2>{pictures}"
        f"<h2>Rows that are wrong or failed</h2>"
        f"<p class='soft'>{min(rows, len(wrong)):,} of {len(wrong):,}</p>{shown}"
    )
    return page(title, body)


def picture(draw: Callable[[], Any], words: str) -> str:
    """Return a drawing as an image inside the page."""
    pyplot = need("matplotlib.pyplot", "Drawing")
    figure = draw().get_figure()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    width = round(figure.get_figwidth() * 96)
    pyplot.close(figure)  # else the notebook shows it too
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img alt="{escape(words)}" width="{width}" src="data:image/png;base64,{data}"></p>'


def frame_table(frame: pd.DataFrame, limit: int = 2_000) -> str:
    """Return a frame with its index as a table; long texts wrap, very long ones are cut."""
    head = "".join(f"<th class='text' scope='col'>{escape(str(name))}</th>" for name in ["", *frame.columns])
    lines = []
    for line in frame.itertuples(name=None):
        cells = "".join(f"<td class='long'>{escape(_cut(value, limit))}</td>" for value in line)
        lines.append(f"<tr>{cells}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _cut(value: Any, limit: int) -> str:
    if not isinstance(value, (list, tuple, dict)) and pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    words = f"{value:.4g}" if isinstance(value, float) else str(value)
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
        p = "" if first or pd.isna(line["p"]) else escape(p_words(float(line["p"])).removeprefix("= "))
        counts = (
            ["", ""] if first or pd.isna(line["wins"]) else [f"{line['wins']:,.0f}", f"{line['losses']:,.0f}"]
        )
        difference = "" if first else signed(float(line["difference"]), share)
        failed = f"{line['failed']:,.0f}"
        lines.append([escape(str(name)), value, difference, interval, p, *counts, failed])
    unit = " (points)" if share else ""
    header = ["run", compared.metric, f"difference{unit}", "interval", "p", "wins", "losses", "failed"]
    return table(header, lines, caption=f"{compared.rows_used:,} rows in every run")


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
            ]
        )
    return table(["slice", "rows", "wins", "losses", "difference", "interval"], lines, caption="slices")


def comparison_page(compared: Comparison, *, rows: int) -> str:
    """Return the report file's text."""
    from . import plots

    title = " against ".join(map(str, compared.table.index[::-1]))
    differing = compared.differ()
    body = (
        f"<h1>{escape(title)}</h1>{_comparison_body(compared)}<h2>Pictures</h2>"
        f"{picture(partial(plots.comparison, compared), 'comparison')}"
        f"<h2>Rows that differ</h2><p class='soft'>{min(rows, len(differing)):,} of {len(differing):,}</p>"
        f"{frame_table(differing.head(rows))}"
    )
    return page(title, body)
