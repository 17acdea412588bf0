"""
Run the notebooks from top to bottom, and store what they put out.

    python notebooks/refresh.py            all of them
    python notebooks/refresh.py 01 05      those whose names begin so
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.client import CellExecutionComplete

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
# Panels stay for a while where something can be retried; a stored notebook keeps their pictures.
LAST = """
from dobatch_pandas.display import panel
for one in list(panel._live.values()):
    one.close()
import threading
for one in threading.enumerate():
    if one.name.startswith("dobatch-panel"):
        one.join(10)
"""


class Client(NotebookClient):
    """Runs cells, and takes what changes an earlier cell's output, which nbclient leaves out."""

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        while True:
            message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=None))
            if message["parent_header"].get("msg_id") == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    return
            elif message["msg_type"] == "update_display_data":
                self._update_display_id(message["content"]["transient"]["display_id"], message)


def execute(path: Path, parameters: Mapping[str, Any] | None = None, timeout: int = 3600) -> Any:
    """
    Return a notebook as it is after all of its cells have run, in a kernel and a home of its own.

    Parameters
    ----------
    path : pathlib.Path
    parameters : mapping, optional
        Values for names that the cell tagged ``parameters`` sets.
    timeout : int
        Seconds that one cell may take.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    written = {cell.id: cell.source for cell in notebook.cells}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in (parameters or {}).items())
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        environment = {**os.environ, "DOBATCH_HOME": folder, "IPYTHONDIR": folder}
        client = Client(notebook, timeout=timeout, kernel_name="python3", store_widget_state=False)
        notebook.cells.append(nbformat.v4.new_code_cell(LAST))
        client.execute(env=environment, cwd=folder)
    notebook.cells.pop()
    for cell in notebook.cells:
        cell.source = written[cell.id]
    return notebook


def tidy(notebook: Any) -> Any:
    """Leave out of a notebook what says nothing without a kernel: widgets, of which the picture stays, and times."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_seen(output)]
    return notebook


def _is_seen(output: Any) -> bool:
    data = output.get("data")
    return data is None or (WIDGET not in data and any(data.values()))


if __name__ == "__main__":
    for one in sorted(HERE.glob("*.ipynb")):
        if len(sys.argv) == 1 or one.name.startswith(tuple(sys.argv[1:])):
            print(one.name, flush=True)
            nbformat.write(tidy(execute(one)), one)
