"""The panel and the explorer in a real marimo, in a real browser, against the embedded server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waiting
from browser import CHROMIUM, chromium, end, free_port, wait_until_up, window
from display.test_in_browser import RECORD

import dobatch_pandas as dobatch

pytestmark = pytest.mark.browser

APP = """# /// script
# [tool.marimo.display]
# theme = "{theme}"
# ///
import marimo
app = marimo.App()

@app.cell
def _():
    import os
    from pathlib import Path
    Path({began!r}).touch()
    import pandas as pd
    import dobatch_pandas as dobatch
    dobatch.configure(base_url={url!r}, token={token!r}, home={home!r})
    df = pd.DataFrame({{"text": [f"row {{i}}" for i in range(100)]}})
    return df, dobatch, pd
{cells}
"""
CELL = "\n@app.cell\ndef _({needs}):\n{body}\n    return\n"

GIVEN_UP = "kernel subprocess failed to connect"

Shown = Callable[..., Any]


def cell(body: str, needs: str = "df, dobatch, pd") -> str:
    return CELL.format(needs=needs, body="\n".join(f"    {line}" for line in body.splitlines()))


@pytest.fixture
def server() -> Iterator[dobatch.LocalServer]:
    with dobatch.LocalServer(model="echo", fail_share=0.1).start() as running:
        yield running


@pytest.fixture
def marimo(tmp_path: Path, server: dobatch.LocalServer) -> Iterator[Shown]:
    """Open a notebook of marimo's in the browser, and run its cells."""
    if importlib.util.find_spec("marimo") is None:
        pytest.skip("marimo is not installed")
    if importlib.util.find_spec("playwright") is None or not CHROMIUM.exists():
        pytest.skip("playwright or Chromium is not installed")
    running: list[subprocess.Popen[bytes]] = []
    began = tmp_path / "began"

    def show(*cells: str, theme: str = "light") -> Any:
        path = tmp_path / "notebook.py"
        path.write_text(
            APP.format(
                url=server.url,
                token=server.token,
                home=str(tmp_path / "jobs"),
                theme=theme,
                began=str(began),
                cells="".join(cells),
            )
        )
        settings = tmp_path / ".config" / "marimo" / "marimo.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("[runtime]\nauto_instantiate = true\n")
        page = window(browser, viewport={"width": 1200, "height": 1400}, permissions=["notifications"])
        page.add_init_script(f"({RECORD})()")
        page.goto(start(path))
        log = tmp_path / ".cache" / "marimo" / "logs" / "marimo.log"
        # A kernel of marimo's that cannot reach marimo within a second gives up, and the page waits for ever.
        for _ in range(5):
            waiting.eventually(lambda: began.exists() or (log.exists() and GIVEN_UP in log.read_text()))
            if began.exists():
                break
            end(running[-1])
            log.unlink()
            page.goto(start(path))
        return page

    def start(path: Path) -> str:
        port = free_port()
        running.append(
            subprocess.Popen(
                [
                    sys.executable, "-m", "marimo", "edit", str(path), "--headless", "--no-token", "--port", str(port),
                    "--host", "127.0.0.1", "--skip-update-check",
                ],
                env={
                    **os.environ,
                    "HOME": str(tmp_path),
                    "XDG_CONFIG_HOME": str(tmp_path / ".config"),
                    "XDG_CACHE_HOME": str(tmp_path / ".cache"),
                    "PYTHONPATH": os.pathsep.join(
                        [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
                    ),
                },
                stdout=(tmp_path / "marimo.log").open("wb"), stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}/"
        wait_until_up(url, running[-1], tmp_path / "marimo.log")
        return url

    with chromium() as browser:
        yield show
        for context in browser.contexts:
            context.close()
        for process in running:
            end(process)


SUBMIT = cell('job = df.dobatch.submit("Say {text}", model="echo")\njob')


def test_a_panel_in_marimo_is_live_and_its_buttons_work(marimo: Shown, server: dobatch.LocalServer) -> None:
    """
    It moves by itself, asks before it cancels, puts the keyboard on the harmless answer, has the browser notify of the end,
    and retries.
    """
    server.hold(after=40)
    page = marimo(SUBMIT)
    panel = page.locator(".dobatch-panel")
    panel.filter(has_text=re.compile(r"\d+ answered")).wait_for()
    panel.get_by_role("button", name="Cancel", exact=True).click()
    no = panel.get_by_role("button", name="No, let it run")
    no.wait_for()
    page.wait_for_function(
        "(words) => { let at = document.activeElement; while (at?.shadowRoot) at = at.shadowRoot.activeElement;"
        " return at?.textContent === words; }",
        arg="No, let it run",
    )
    no.click()
    no.wait_for(state="hidden")
    panel.get_by_role("button", name="Notify me").click()
    panel.get_by_role("button", name="Will notify you").wait_for()

    server.release()
    panel.filter(has_text="Done, with failures").wait_for()
    page.wait_for_function("() => window.told.length")
    assert page.evaluate("() => window.told.map(([title]) => title.split(': ')[1])") == [
        "Done, with failures"
    ]
    assert panel.locator("code", has_text="df.dobatch.update(job)").is_visible()
    panel.get_by_role("button", name="Show errors").click()
    table = panel.locator("table").filter(has=page.locator("caption", has_text="Rows that failed"))
    table.wait_for()
    assert (
        table.locator("td", has_text=re.compile(r"^Say row \d+$")).count()
        == table.locator("tbody tr").count()
    )
    panel.get_by_role("button", name=re.compile("^Retry")).click()
    panel.get_by_role("button", name="Show 2 batches").wait_for()


def test_waiting_in_marimo_shows_the_panel_below_the_cell_that_waits(
    marimo: Shown, server: dobatch.LocalServer
) -> None:
    """
    df.dobatch.update blocks its cell, and the panel moves all the same; at the end the rows have their answers.
    """
    server.hold(after=40)
    page = marimo(
        cell(
            'done = df.dobatch.update(df.dobatch.submit("Say {text}", model="echo"))\n'
            'print("UPDATED", df["response"].notna().sum())'
        )
    )
    page.locator(".dobatch-panel").filter(has_text=re.compile(r"\d+ answered")).wait_for()
    server.release()
    page.locator("text=/UPDATED \\d+/").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_explorer_works_in_marimo(marimo: Shown, theme: str) -> None:
    """
    Its rows are there, a cell of the matrix filters them, and its text can be read in both themes.
    """
    page = marimo(
        cell(
            'rows = pd.DataFrame({"text": ["a", "b", "c", "d"], "told": list("xxyy"), "gold": list("xyyy")})\n'
            "from dobatch_pandas.evals import explore\n"
            'explore(rows, predicted="told", actual="gold")'
        ),
        theme=theme,
    )
    explorer = page.locator(".dobatch-explorer")
    explorer.locator("tbody tr[data-position]").first.wait_for()
    explorer.locator("[data-cell='1,0']").click()
    explorer.locator(".status", has_text="of 1 row").wait_for()


def test_a_forgotten_job_in_marimo_is_told_in_words(marimo: Shown) -> None:
    """
    A job that was deleted shows that it was, in marimo as elsewhere.
    """
    page = marimo(cell('job = df.dobatch.submit("Say {text}", model="echo").wait()\njob.forget()\njob'))
    page.locator("text=deleted from this machine").first.wait_for()
