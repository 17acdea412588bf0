"""nbclassic and Voila: front ends that are neither JupyterLab nor its younger sister."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import waiting
from browser import AT_FILES, end, free_port, wait_until_up, window
from display.contrast import low_contrast
from display.test_in_browser import HOLD, SUBMIT, start

pytestmark = pytest.mark.browser


OURS = ".dobatch-panel, .dobatch-explorer, .dobatch-eval, .dobatch-static, .dobatch-error"
EXPLORE = """
from dobatch_pandas.evals import explore, score
rows = pd.DataFrame({"text": ["a", "b", "c", "d"], "told": list("xxyy"), "gold": list("xyyy")})
explore(rows, predicted="told", actual="gold")
"""
SCORE = 'score(rows, "told", "gold")'


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def classic(lab: Any, page: Any, path: Path) -> None:
    """Open a notebook as the classic notebook does, with a kernel."""
    page.goto(f"{lab.url}/nbclassic/notebooks/{path.name}?token={lab.token}")
    page.wait_for_function(
        "() => window.Jupyter?.notebook?.kernel?.is_connected?.() && Jupyter.notebook.kernel.widget_manager"
    )
    # ipywidgets asks a kernel for its widgets when the page is opened, and then draws every cell anew: a widget
    # that was shown before the answer, of whatever package, is gone from the page.
    page.evaluate("() => Jupyter.notebook.kernel.widget_manager._loadFromKernel()")


def test_nbclassic_keeps_its_style_sheet_to_itself(lab: Any) -> None:
    """
    In the classic notebook the panel is live, the explorer works, and Bootstrap's labels, badges and codes do not reach
    into either.
    """
    needs("nbclassic")
    path = lab.write([start(options='model="echo", fail_share=0.1', more=HOLD), SUBMIT, EXPLORE, SCORE])
    page = window(lab.browser, viewport={"width": 1200, "height": 1600})
    shot = os.environ.get("DOBATCH_SHOTS")
    try:
        classic(lab, page, path)
        page.evaluate("() => Jupyter.notebook.execute_all_cells()")
        panel = page.locator(".dobatch-panel")
        panel.filter(has_text=re.compile(r"\d+ answered")).wait_for()
        explorer = page.locator(".dobatch-explorer")
        explorer.locator("tbody tr[data-position]").first.wait_for()
        explorer.locator("[data-cell='1,0']").click()
        explorer.locator(".status", has_text="of 1 row").wait_for()
        explorer.locator("tbody tr[data-position]").first.click()
        page.evaluate("() => Jupyter.notebook.kernel.execute('server.release()')")
        panel.get_by_role("button", name="Show errors").click()
        panel.locator("caption", has_text="Rows that failed").wait_for()
        page.locator(".dobatch-eval:visible", has_text="accuracy").first.wait_for()
        assert low_contrast(page, OURS) == []
        # Bootstrap gives badges a ground, labels white bold text, and codes a red of its own.
        painted = page.evaluate(
            """(ours) => [...document.querySelectorAll(ours)].flatMap((root) => [...root.querySelectorAll("code, td, dt")])
              .filter((e) => ["rgb(119, 119, 119)", "rgb(249, 242, 244)"].includes(getComputedStyle(e).backgroundColor)
                || getComputedStyle(e).color === "rgb(199, 37, 78)").map((e) => e.outerHTML.slice(0, 100))""",
            OURS,
        )
        assert painted == []
    finally:
        if shot:
            page.screenshot(path=f"{shot}/nbclassic.png", full_page=True)
        page.context.close()


def test_nbclassic_opens_a_saved_notebook_without_complaint(lab: Any) -> None:
    """
    Saved while panel and explorer live, opened again with a fresh kernel, trusted: their pictures, and no word of a widget.
    """
    needs("nbclassic")
    path = lab.write([start(more=HOLD), SUBMIT, EXPLORE])
    page = window(lab.browser, viewport={"width": 1200, "height": 1600})
    classic(lab, page, path)
    page.evaluate("() => Jupyter.notebook.execute_all_cells()")
    page.locator(".dobatch-panel", has_text="40 answered").wait_for()
    page.locator(".dobatch-explorer tbody tr[data-position]").first.wait_for()
    page.evaluate("async () => { await Jupyter.notebook.save_notebook(); }")
    page.context.close()
    lab.close_windows()

    page = window(lab.browser, viewport={"width": 1200, "height": 1600})
    try:
        classic(lab, page, path)
        assert page.evaluate("() => Jupyter.notebook.trusted")
        page.locator(".dobatch-static:visible", has_text="dobatch.attach(").wait_for()
        page.locator(".dobatch-static:visible", has_text="the first 4 of 4 rows").wait_for()
        assert "could not be displayed" not in page.locator("#notebook").inner_text()
    finally:
        if "DOBATCH_SHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['DOBATCH_SHOTS']}/nbclassic_again.png", full_page=True)
        page.context.close()


@pytest.mark.parametrize("network", [True, False], ids=["online", "offline"])
def test_voila_shows_the_job(lab: Any, tmp_path: Path, network: bool) -> None:
    """
    Voila runs the notebook and shows the job: its live panel or, where Voila's script loader cannot be fetched from its
    address in the network, the picture.
    """
    needs("voila")
    needs("nbclassic")
    path = lab.write(
        [start(more=HOLD), SUBMIT, "import time\nwhile job.counts['completed'] < 40:\n    time.sleep(0.05)"]
    )
    log = tmp_path / "voila.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "voila", str(path), "--no-browser", f"--port={free_port()}", "--Voila.ip=127.0.0.1",
                "--enable_nbextensions=True", *AT_FILES,
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
                "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                "JUPYTER_DATA_DIR": str(tmp_path / "data"),
                "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            },
            stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
    page = window(lab.browser, viewport={"width": 1000, "height": 700})
    try:
        # It takes another port where somebody was quicker.
        running = re.compile(r"is running at:\s+http://[^:/]+:(\d+)/")
        waiting.eventually(lambda: process.poll() is not None or running.search(log.read_text()))
        port = running.search(log.read_text())[1]
        wait_until_up(f"http://127.0.0.1:{port}/static/", process, log)
        if network:
            page.route(
                "**/require.min.js",
                lambda route: route.fulfill(
                    path=Path(
                        importlib.import_module("nbclassic").__path__[0],
                        "static/components/requirejs/require.js",
                    )
                ),
            )
        page.goto(f"http://127.0.0.1:{port}/")
        shown = page.locator(".dobatch-panel" if network else ".dobatch-static")
        # Of whatever moment: the picture may be of any phase.
        shown.filter(has_text="chat completions").first.wait_for()
        if "DOBATCH_SHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['DOBATCH_SHOTS']}/voila.png")
        assert "Error displaying widget" not in page.locator("body").inner_text()
    finally:
        page.context.close()
        end(process)
