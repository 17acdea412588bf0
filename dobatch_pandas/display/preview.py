"""
What would be sent, read as a person reads it: one request as messages, and what differs between the rows; and what came
back from a trial, in full.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import html

__all__ = ["Preview", "Tried", "last_words", "preview_html", "preview_text"]

MOST_TEXT = 4_000  # characters of a message
MOST_ROWS = 20
ID = 8  # characters of a custom_id: enough to tell it from others
_SPOKEN = ("messages", "input", "system", "instructions")
_BLOCK = f"border-left:3px solid {html.LINE};padding:1px 0 1px 10px;margin:4px 0"


class Preview(pd.DataFrame):
    """A frame of requests that a notebook shows as messages. Whatever is made of it is an ordinary frame."""

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return repr(pd.DataFrame(self)) if self._changed else preview_text(self)

    def _repr_html_(self) -> str:
        if self._changed:
            return str(pd.DataFrame(self)._repr_html_())  # type: ignore[operator]
        return preview_html(self)

    @property
    def _changed(self) -> bool:
        """Whether somebody has made another frame of it in place."""
        return "custom_id" not in self.columns or not self.columns.is_unique


class Tried(pd.DataFrame):
    """The rows of a trial, which a notebook shows with whole prompts and answers. Whatever is made of it is an ordinary frame."""

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        frame = pd.DataFrame(self)
        if "seconds" not in frame.columns or not frame.columns.is_unique:  # changed in place
            return str(frame._repr_html_())  # type: ignore[operator]
        # Of codes and messages where nothing failed there is nothing to see.
        columns = [str(name) for name in frame.columns if frame[name].notna().any()]
        # The label has no name of a column: an answer may be called "row".
        rows = [
            {"": str(label), **{str(name): _shown(value) for name, value in row.items()}}
            for label, row in zip(frame.index[:MOST_ROWS], frame.to_dict("records"), strict=False)
        ]
        for row in rows:
            if isinstance(row["seconds"], float):
                row["seconds"] = float(format(row["seconds"], ".2g"))
        more = f"<div>and {len(frame) - MOST_ROWS:,} more rows</div>" if len(frame) > MOST_ROWS else ""
        return html.table_html(rows, ["", *columns], caption="Asked in real time") + more


def _shown(value: Any) -> Any:
    """A value for a table's cell: of an embedding its beginning and its length."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 8:
        return html.Code(f"[{', '.join(f'{number:.3g}' for number in value[:3])}, … {len(value):,} numbers]")
    return value


def preview_html(frame: pd.DataFrame, caption: str = "") -> str:
    """
    Draw requests: the first one in full, what all share once, and of each row what is its own.

    Parameters
    ----------
    frame : pandas.DataFrame
        ``custom_id`` and the request's body, a column a parameter.
    caption : str
        Stands above it.
    """
    title = f'<div style="font-weight:600">{html.plain(caption)}</div>' if caption else ""
    requests = [_request(row) for row in frame.to_dict("records")]
    first, constant, varying = _taken_apart(requests)
    if not first:
        return html.words_html(caption or NOTHING)
    blocks = "".join(_message_html(role, words) for role, words in _messages(first))
    rows = [
        {"row": str(label), "asks": last_words(request), **{n: request.get(n) for n in varying},
         "custom_id": html.Code(_short_id(request))}
        for label, request in zip(frame.index[:MOST_ROWS], requests, strict=False)
    ]  # fmt: skip
    more = f"<div>and {len(requests) - MOST_ROWS:,} more rows</div>" if len(requests) > MOST_ROWS else ""
    table = html.table_html(rows, ["row", "asks", *varying, "custom_id"], caption="What differs between rows")
    return (
        f'<div style="{html.FRAME};max-width:960px">{title}'
        f'<div style="margin-top:4px;{html.SOFT}">The first request, as it is sent</div>{blocks}'
        f"{_parameters_html(constant)}{table}{more}</div>"
    )


def preview_text(frame: pd.DataFrame) -> str:
    """The same for a terminal: the first request as messages, then a line a row."""
    requests = [_request(row) for row in frame.to_dict("records")]
    first, constant, varying = _taken_apart(requests)
    if not first:
        return NOTHING
    lines = ["The first request, as it is sent:"]
    for role, words in _messages(first):
        shown = words if len(words) <= MOST_TEXT else words[:MOST_TEXT] + "..."
        lines += [f"  {role}:", textwrap.indent(_printable(shown), "    ")]
    parameters = [f"{name} {_json(value)}" for name, value in constant.items()]
    table = pd.DataFrame(
        {
            "asks": [_printable(last_words(request)) for request in requests],
            **{name: [request.get(name, "") for request in requests] for name in varying},
            "custom_id": [_short_id(request) for request in requests],
        },
        index=frame.index,
    )
    width = pd.get_option("display.width")
    rows = table.to_string(max_rows=MOST_ROWS, max_colwidth=50, line_width=width)
    return "\n".join([*lines, "Parameters: " + " · ".join(parameters), "", rows])


NOTHING = "No request: none of these rows would be sent."


def _taken_apart(
    requests: Sequence[Mapping[str, Any]],
) -> tuple[Mapping[str, Any], dict[str, Any], list[str]]:
    """The first request that is sent, what all have in common beside their texts, and what else differs."""
    asked = [request for request in requests if len(request) > 1]
    if not asked:
        return {}, {}, []
    constant = {
        name: value
        for name, value in asked[0].items()
        if name not in ("custom_id", *_SPOKEN) and all(request.get(name) == value for request in asked)
    }
    varying = [
        name
        for name in dict.fromkeys(name for request in asked for name in request)
        if name not in ("custom_id", *_SPOKEN, *constant)
    ]
    return asked[0], constant, varying


def _short_id(request: Mapping[str, Any]) -> str:
    return str(request.get("custom_id") or "not sent")[:ID]


def _printable(words: str) -> str:
    """No control characters: a terminal would obey them."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in words)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _request(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the frame without the places that only other rows fill."""
    return {
        str(name): value
        for name, value in row.items()
        if not (value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value))))
    }


def _messages(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who says what, in order."""
    spoken = [("system", _words(request[name])) for name in ("system", "instructions") if name in request]
    asked = request.get("messages", request.get("input"))
    if not isinstance(asked, list):
        asked = [] if asked is None else [asked]
    for message in asked:
        if isinstance(message, dict):
            spoken.append((str(message.get("role", "input")), _words(message.get("content", message))))
        else:
            spoken.append(("input", _words(message)))
    return spoken


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_words, content))
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    if isinstance(content, dict) and "type" in content:
        return f"[{content['type']}] {json.dumps(content, ensure_ascii=False, default=str)[:200]}"
    return json.dumps(content, ensure_ascii=False, default=str)


def last_words(request: Mapping[str, Any]) -> str:
    """What a request says last, in one line: of a chat, the question of this row."""
    spoken = _messages(request)
    return " ".join(spoken[-1][1].split()) if spoken else "not sent"


def _message_html(role: str, words: str) -> str:
    return (
        f'<div style="{_BLOCK}"><div style="font-size:12px;{html.SOFT}">{html.plain(role)}</div>'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{html.plain(words, MOST_TEXT)}</div></div>'
    )


def _parameters_html(parameters: Mapping[str, Any]) -> str:
    """Short parameters in a line; long ones, such as schemas, folded."""
    short, long = [], []
    for name, value in parameters.items():
        words = _json(value)
        if len(words) <= 60:
            short.append(f"{name} {words}")
            continue
        whole = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
        )
        long.append(
            f"<details><summary>{html.plain(name)}</summary>"
            f'<div style="{html.MONO};white-space:pre-wrap;overflow-wrap:anywhere">{html.plain(whole, MOST_TEXT)}</div>'
            "</details>"
        )
    line = f"<div>Parameters: {html.plain(' · '.join(short), None)}</div>" if short else ""
    return f'<div style="font-size:12px;margin:6px 0">{line}{"".join(long)}</div>'
