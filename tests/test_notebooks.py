"""Every notebook runs from top to bottom, and is stored with outputs that say something without a kernel."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from waiting import meeting_place

nbclient = pytest.importorskip("nbclient")
from traitlets.config import Config  # noqa: E402

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# What must be among the outputs, of a run and as stored.
ESSENTIAL = {
    "01_quickstart": ["sentiment_error", "accuracy", "submitted before", "tokens"],
    "02_evals": ["Model:", "accuracy", "image/png"],
    "03_come_back_tomorrow": ["died with signal 9", "True", "2000 requests, 1 execution each, 1 batch"],
    "04_two_million_rows_and_dask": ["rows in 1 file", "4 partitions", "One job: {"],
    "05_embeddings": ["float32", "similarity", "image/png"],
    "06_done_by_six": ["in real time", "each once: True", "more than max_cost allows"],
}


def told(notebook) -> str:
    """All that the outputs say, as one text."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            parts.append(output.get("text", ""))
            for kind, value in output.get("data", {}).items():
                parts.append(kind if kind.startswith("image/") else str(value))
            parts += output.get("traceback", [])
    return "\n".join(parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """
    Offline, on the embedded server, in a new kernel.
    """
    pytest.importorskip("ipykernel")
    if "dask" in path.stem:
        pytest.importorskip("distributed", reason="needs dobatch-pandas[dask]")
    for name, value in (
        ("DOBATCH_HOME", str(tmp_path)),
        ("DOBATCH_NOTEBOOK_MODEL", "echo"),
        ("DOBATCH_NOTEBOOK_EMBEDDINGS", "echo"),
        ("DOBATCH_NOTEBOOK_ROWS", "4000"),
    ):
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": tmp_path}}
    config = Config({"KernelManager": meeting_place(tmp_path)})
    client = nbclient.NotebookClient(
        notebook, timeout=240, startup_timeout=240, kernel_name="python3", resources=resources, config=config
    )
    client.execute()
    said = told(notebook)
    for words in ESSENTIAL[path.stem]:
        assert words in said, words


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_looks_right_without_a_kernel(path):
    """
    Outputs are there; none is a traceback, a secret, or a place on somebody's disk.
    """
    said = told(nbformat.read(path, as_version=4))
    for words in ESSENTIAL[path.stem]:
        assert words in said, words
    assert "Traceback" not in said
    places = {Path.home(), Path(__file__).parents[1], Path(tempfile.gettempdir())}
    assert not [place for place in places if f"{place}/" in said]
    assert not re.search(r"(/home/|/Users/|/root/|/tmp/|C:\\\\Users)", said)
    assert "signature=" not in said


def test_there_is_a_notebook_for_each_story():
    """
    Those that the documentation names.
    """
    assert [path.stem for path in NOTEBOOKS] == sorted(ESSENTIAL)
