"""The explorer of a notebook's cell: a widget, the marks and notes made in it, and its picture."""

from __future__ import annotations

import threading
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.display.html import REOPENED

from .metrics import need
from .raters import Raters, raters
from .view import View

__all__ = ["Explorer"]

_HERE = Path(__file__).parent


class Explorer:
    """
    An interactive table of a frame's rows; show it as a cell's last line.

    Attributes
    ----------
    selection : pandas.DataFrame
        The marked rows of the frame, on its index, with the column ``note``.
    notes : pandas.DataFrame
        A line a row that is marked or noted, on the frame's index: ``marked`` and ``note``.
    labels : pandas.DataFrame
        What people labelled, on the frame's index: a column a rater.
    rater : str
        Who labels now; another name begins without the labels of the first in sight.
    shown : pandas.DataFrame
        The rows that the filters let through now, in the order shown.
    widget : anywidget.AnyWidget
        The widget itself, to put into a layout.
    """

    def __init__(self, view: View, *, title: str, summary: str, html: str = "", page_size: int = 100) -> None:
        self._view, self._html = view, html
        # Front ends with subshells answer clicks while a cell runs, in another thread.
        self._lock = threading.RLock()
        self._ids: list[str] = []
        self._mark = f"dobatch-{uuid.uuid4().hex}"
        config = {"title": title, "summary": summary, "page_size": page_size, "mark": self._mark}
        self.widget = _widget_class()(
            config={**view.config(), **config},
            page=view.page({"limit": page_size}),
        )
        self.widget.on_msg(self._answer)

    @property
    def selection(self) -> pd.DataFrame:
        """The marked rows of the frame, with what was noted on them."""
        with self._lock:
            return self._with_notes(np.flatnonzero(self._view.marked), ["note"])

    @property
    def notes(self) -> pd.DataFrame:
        """A line a row that is marked or noted: ``marked`` and ``note``."""
        with self._lock:
            return self._with_notes(self._touched(), ["marked", "note"], frame=False)

    @property
    def shown(self) -> pd.DataFrame:
        """The rows that the filters let through now, in the order shown."""
        return self._view.frame.iloc[self._view.shown]

    @property
    def rater(self) -> str:
        """Who labels now."""
        return self._view.rater

    @rater.setter
    def rater(self, name: str) -> None:
        self._view.rater = str(name)
        self.widget.rater = str(name)

    @property
    def labels(self) -> pd.DataFrame:
        """What people labelled, on the frame's index: a column a rater, null where there is none."""
        view = self._view
        columns = {}
        with self._lock:
            for rater, given in view.labels.items():
                values = np.full(view.rows, None, dtype=object)
                for position, label in given.items():
                    values[position] = label
                columns[rater] = pd.Categorical(values, categories=view.choices)
        return pd.DataFrame(columns, index=view.frame.index)

    def agreement(self, **options: Any) -> Raters:
        """Return how far the raters agree, as `dobatch_pandas.evals.raters` tells it."""
        return raters(self.labels, **options)

    def _display_(self) -> Any:
        """What marimo shows: the widget itself."""
        return self.widget

    def to_frame(self) -> pd.DataFrame:
        """Return the whole frame with the columns ``marked`` and ``note`` added; any index will do."""
        with self._lock:
            return self._with_notes(np.arange(self._view.rows), ["marked", "note"])

    def close(self) -> None:
        """End the widget; where it was shown stays a picture."""
        self._keep_picture()
        for display_id in self._ids:
            self._publish({"text/html": ""}, display_id, update=True)
        self.widget.close()

    def _touched(self) -> np.ndarray[Any, Any]:
        noted = np.fromiter(self._view.notes, dtype=np.int64, count=len(self._view.notes))
        return np.union1d(np.flatnonzero(self._view.marked), noted)

    def _with_notes(
        self, positions: np.ndarray[Any, Any], columns: list[str], *, frame: bool = True
    ) -> pd.DataFrame:
        view = self._view
        rows = view.frame.iloc[positions]
        rows = rows.copy() if frame else pd.DataFrame(index=rows.index)
        below = ("",) * (rows.columns.nlevels - 1)  # a name of several levels has all of them
        if "marked" in columns:
            rows[("marked", *below) if below else "marked"] = view.marked[positions]
        notes = [view.notes.get(int(position)) for position in positions]
        rows[("note", *below) if below else "note"] = pd.Series(notes, index=rows.index, dtype="string")
        return rows

    def _answer(self, _widget: Any, message: dict[str, Any], _buffers: Any = None) -> None:
        with self._lock:
            self._answered(message)

    def _answered(self, message: dict[str, Any]) -> None:
        """Answer the front end; what goes wrong becomes part of the picture, since nobody would see it."""
        kind, reply = message.get("kind"), {"id": message.get("id")}
        try:
            if kind == "query":
                self.widget.send({"kind": "page", **reply, **self._view.page(message)})
            elif kind == "row":
                self.widget.send({"kind": "row", **reply, **self._view.row(int(message["position"]))})
            elif kind in ("rate", "undo"):
                if kind == "undo":
                    position = self._view.undo()
                else:
                    position = int(message["position"])
                    self._view.rate(position, message.get("label"))
                label = None if position is None else self._view.labels[self._view.rater].get(position)
                count = len(self._view.labels.get(self._view.rater, {}))
                self.widget.touched = True
                self.widget.send(
                    {"kind": "rate", **reply, "position": position, "human": label, "count": count,
                     "undone": kind == "undo"}
                )  # fmt: skip
            elif kind == "mark":
                position = int(message["position"])
                self._view.mark(position, marked=message.get("marked"), note=message.get("note"))
                state = {
                    "marked": bool(self._view.marked[position]),
                    "note": self._view.notes.get(position, ""),
                    "count": int(self._view.marked.sum()),
                }
                self.widget.touched = True
                self.widget.send({"kind": "mark", **reply, "position": position, **state})
                self._keep_picture()
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as problem:
            self.widget.send({"kind": "problem", **reply, "text": f"{type(problem).__name__}: {problem}"})

    def _picture(self, rows: int = 20) -> str:
        """What stands in a saved notebook: the numbers, and the first of the rows shown."""
        from . import report

        view = self._view
        first = view.shown[:rows]
        shown = pd.DataFrame(
            {
                column.name: column.values.iloc[first].astype(object).set_axis(range(len(first)))
                for column in view.columns
            },
            index=range(len(first)),
        ).set_axis(view.frame.index[first])
        touched = self.notes.head(100)
        marked = f"<h2>Marked and noted</h2>{report.frame_table(touched)[0]}" if len(touched) else ""
        count = f"the first {len(first):,} of {len(view.shown):,} rows shown, {view.rows:,} in all"
        return (
            f'<div class="dobatch-eval"><style>{report.STYLE}</style>{self._html}{marked}'
            f"<h2>Rows</h2><p class='soft'>{count}</p>{report.frame_table(shown, limit=160)[0]}</div>"
        )

    def _ipython_display_(self) -> None:
        """
        Show the widget, and below it the picture, which the widget hides for as long as it is on the page.

        A notebook that is opened again without its kernel has lost the widget and shows the picture.
        """
        bundle = self.widget._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data = {kind: value for kind, value in data.items() if kind != "text/plain"}
        # A note made on the widget waits until its picture is there: what came earlier would be dropped.
        with self._lock:
            self._ids.append(uuid.uuid4().hex)
            self._publish({**data, "text/html": ""}, self._ids[-1], metadata=metadata)
            self._publish(self._picture_bundle(), f"{self._ids[-1]}-picture")

    def _keep_picture(self) -> None:
        """Take the picture anew, so that a notebook saved now has the marks and notes made so far."""
        with self._lock:
            for display_id in self._ids:
                self._publish(self._picture_bundle(), f"{display_id}-picture", update=True)

    def _picture_bundle(self) -> dict[str, str]:
        html = f'<div class="{self._mark}-picture dobatch-static"><style>{REOPENED}</style>{self._picture()}</div>'
        return {"text/html": html, "text/plain": repr(self)}

    @staticmethod
    def _publish(data: dict[str, Any], display_id: str, **options: Any) -> None:
        display = need("IPython.display", "The explorer").display
        display(data, raw=True, display_id=display_id, **options)

    def __repr__(self) -> str:
        view = self._view
        return (
            f"<Explorer of {view.rows:,} rows: {len(view.shown):,} shown, {int(view.marked.sum()):,} marked>"
        )


@cache
def _widget_class() -> Any:
    anywidget = need("anywidget", "The explorer")
    traitlets = need("traitlets", "The explorer")

    class ExplorerWidget(anywidget.AnyWidget):  # type: ignore[misc, name-defined]
        _esm = _HERE / "explorer.js"
        _css = _HERE / "explorer.css"
        config = traitlets.Dict().tag(sync=True)
        page = traitlets.Dict().tag(sync=True)
        touched = traitlets.Bool(False).tag(sync=True)
        rater = traitlets.Unicode("1").tag(sync=True)

    return ExplorerWidget
