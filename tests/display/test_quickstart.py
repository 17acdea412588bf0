"""The notebook of the quickstart, run from the menu of a real JupyterLab."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*quick*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_quickstart_runs_from_the_menu(lab, notebook):
    """
    Run, Run All Cells: no cell fails, and the job's picture stands in the page.
    """
    copy = lab.folder / notebook.name
    shutil.copy(notebook, copy)
    shown = lab.open(copy).run_all_from_menu().wait_for_last_cell()

    outputs = [output for cell in shown.save()["cells"] for output in cell.get("outputs", [])]
    assert [o for o in outputs if o["output_type"] == "error"] == []
    assert any("dobatch-static" in str(o.get("data", {}).get("text/html")) for o in outputs)
