"""
What a notebook shows, side by side: ``python -m tests.benchmarks.bench_display``, from the repository.

Each cell is run in a real JupyterLab in Chromium. Measured are the height of its output, the time from the key that runs it
to its first picture (the median of three, as a multiple of tqdm.notebook's in the same run, since machines differ), and what
it leaves in the saved notebook. Imports are done before. Libraries that are not installed are left out; ``pip install
itables quak rich`` brings them.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import browser

ROWS = 2_000
SETUP = f"""
import tempfile, time, threading
import pandas as pd
import dobatch_pandas as dobatch
server = dobatch.LocalServer(model="echo", fail_share=0.06).start()
dobatch.configure(base_url=server.url, token=server.token, home=tempfile.mkdtemp())
reviews = dobatch.datasets.load_reviews({ROWS})
reviews["told"] = reviews["label"].where(reviews.index % 7 > 0, "pos")
server.hold(after=400)
"""
# Name: module, what is imported first, the cell, and what is on the page when it has been drawn.
BARS = {
    "dobatch_pandas, panel": (
        "dobatch_pandas",
        "job = reviews.dobatch.submit('Sentiment of: {text}', model='echo')\njob.sent()\nrepr(job)",
        "job",
        ".dobatch-panel",
    ),
    "dobatch_pandas, line": (
        "dobatch_pandas",
        "from dobatch_pandas.display.panel import show_panel",
        "show_panel(job, compact=True)",
        ".dobatch-panel",
    ),
    "tqdm.notebook": (
        "tqdm",
        "from tqdm.notebook import tqdm",
        "bar = tqdm(total=2000, desc='asking'); bar.update(400)",
        ".jupyter-widgets",
    ),
    "rich": (
        "rich",
        "from rich.progress import Progress",
        "with Progress() as p:\n    t = p.add_task('asking', total=2000); p.update(t, advance=400)",
        "pre",
    ),
    "dask, progress": (
        "distributed",
        "from distributed import Client, progress\nclient = Client(processes=False, dashboard_address=None)\n"
        "work = client.map(lambda i: time.sleep(0.05) or i, range(2000))",
        "progress(work)",
        ".jupyter-widgets",
    ),
}
TABLES = {
    "dobatch_pandas, explore": (
        "dobatch_pandas",
        "from dobatch_pandas.evals import explore",
        "explore(reviews, predicted='told', actual='label')",
        ".dobatch-explorer tbody tr[data-position]",
    ),
    "itables": ("itables", "import itables\nitables.init_notebook_mode()", "itables.show(reviews)", "table"),
    "quak": (
        "quak",
        "import quak",
        "quak.Widget(reviews)",
        ".quak, .jupyter-widgets canvas, .jupyter-widgets table",
    ),
    "pandas": ("pandas", "", "reviews", "table.dataframe"),
}
FIRST = """([number, selector]) => new Promise((done) => {
  const panel = window.jupyterapp.shell.currentWidget, notebook = panel.content;
  const output = notebook.widgets[number].node.querySelector(".jp-OutputArea");
  const there = () => [...output.querySelectorAll(selector)].some((e) => e.getBoundingClientRect().height > 0);
  const started = performance.now();
  const finish = () => requestAnimationFrame(() => done(performance.now() - started));
  notebook.activeCellIndex = number;
  window.jupyterapp.commands.execute("notebook:clear-cell-output").then(() => {
    const observer = new MutationObserver(() => { if (there()) { observer.disconnect(); finish(); } });
    observer.observe(output, {childList: true, subtree: true, attributes: true});
    window.jupyterapp.commands.execute("notebook:run-cell");
  });
})"""


def measure(lab: Any, module: str, before: str, cell: str, selector: str) -> dict[str, float] | None:
    """Return height, milliseconds and bytes of one cell's output; None where its library is not installed."""
    if importlib.util.find_spec(module) is None:
        return None
    more = BARS["dobatch_pandas, panel"][1] if "show_panel" in before else ""
    shown = lab.open([SETUP + more, before or "1", cell], viewport={"width": 1200, "height": 1400})
    shown.run_cell(0).run_cell(1).wait_for_last_cell_of(1)
    # The first time brings the scripts of a widget to the page: the later ones are what one meets all day.
    times = [shown.page.evaluate(FIRST, [2, selector]) for _ in range(4)]
    shown.page.wait_for_timeout(1500)
    height = shown.output(2).first.bounding_box()["height"]
    saved = shown.save()
    kept = len(json.dumps(saved["cells"][2]["outputs"])) + len(
        json.dumps(saved["metadata"].get("widgets", {}))
    )
    lab.close_windows()
    return {"height": height, "ms": statistics.median(times[1:]), "bytes": kept}


def main() -> None:
    with tempfile.TemporaryDirectory() as place, browser.open_lab(Path(place)) as lab:
        for title, tools in (("Progress", BARS), (f"Tables of {ROWS:,} rows", TABLES)):
            found = {name: measure(lab, *tool) for name, tool in tools.items()}
            base = (found.get("tqdm.notebook") or found.get("pandas") or {}).get("ms")
            print(f"\n| {title} | height, px | first picture | bytes saved |\n|---|---|---|---|")
            for name, one in found.items():
                if one is None:
                    print(f"| {name} | not installed | | |")
                else:
                    times = f"{one['ms'] / base:.1f}" if base else f"{one['ms']:.0f} ms"
                    print(f"| {name} | {one['height']:.0f} | {times} | {one['bytes']:,} |")


if __name__ == "__main__":
    main()
