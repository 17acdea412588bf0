"""
What a notebook shows, side by side: ``python -m tests.benchmarks.bench_display``, from the repository.

Each cell is run in a real JupyterLab in Chromium. Measured are the height of its output, the time from the key that runs it
to its first picture (the median of five, in turns, as a multiple of tqdm.notebook's or of pandas' own table, since machines
differ), and what it leaves in the saved notebook. Imports are done before. Libraries that are not installed are left out; ``pip install
itables quak rich distributed inspect-ai`` brings them.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import browser

ROWS = 2_000
ROUNDS = 5
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
    "itables": (
        "itables",
        "import itables\nitables.init_notebook_mode(all_interactive=False)",
        "itables.show(reviews)",
        "tbody td",
    ),
    "quak": ("quak", "import quak", "quak.Widget(reviews)", "tbody td"),
    "pandas": ("pandas", "", "reviews", "tbody td"),
}
FIRST = """([number, selector]) => new Promise((done, fail) => {
  const panel = window.jupyterapp.shell.currentWidget, notebook = panel.content;
  const output = notebook.widgets[number].node.querySelector(".jp-OutputArea");
  const find = (root) => [...root.querySelectorAll(selector), ...[...root.querySelectorAll("*")].flatMap((e) =>
    e.shadowRoot ? find(e.shadowRoot) : [])];
  const there = () => find(output).some((e) => e.getBoundingClientRect().height > 0);
  const started = performance.now();
  const look = () => {
    if (there()) requestAnimationFrame(() => done(performance.now() - started));
    else if (performance.now() - started > 120_000) fail(new Error(`no ${selector} in two minutes`));
    else requestAnimationFrame(look);
  };
  notebook.activeCellIndex = number;
  window.jupyterapp.commands.execute("notebook:clear-cell-output").then(() => {
    window.jupyterapp.commands.execute("notebook:run-cell");
    look();
  });
})"""


def measure(lab: Any, tools: dict[str, tuple[str, str, str, str]]) -> dict[str, dict[str, float] | None]:
    """
    Return height, milliseconds and bytes of each tool's output; None where its library is not installed.

    All are cells of one notebook and take turns, so that what else the machine does is shared by them.
    """
    there = {name: tool for name, tool in tools.items() if importlib.util.find_spec(tool[0]) is not None}
    cells = [source for _, before, cell, _ in there.values() for source in (before or "1", cell)]
    shown = lab.open([SETUP, *cells], viewport={"width": 1200, "height": 4000})
    places = dict(zip(there, range(2, len(cells) + 1, 2), strict=True))
    for number in (0, *(place - 1 for place in places.values())):
        shown.run_cell(number).wait_for_last_cell_of(number)
    # The first time brings the scripts of a widget to the page: the later ones are what one meets all day.
    rounds = [
        {name: shown.page.evaluate(FIRST, [place, there[name][3]]) for name, place in places.items()}
        for _ in range(1 + ROUNDS)
    ][1:]
    shown.page.wait_for_timeout(1500)
    heights = {name: shown.output(place).first.bounding_box()["height"] for name, place in places.items()}
    saved = shown.save()["cells"]
    lab.close_windows()
    return {
        name: {
            "height": heights[name],
            "ms": statistics.median(one[name] for one in rounds),
            "bytes": sum(len(json.dumps(saved[place - n]["outputs"])) for n in (0, 1)),
        }
        if name in there
        else None
        for name, place in {**dict.fromkeys(tools, 0), **places}.items()
    }


LARGE = 200_000
MAKE_LARGE = f"""
import numpy as np
import pandas as pd
from dobatch_pandas.evals import explore, score
rng = np.random.default_rng(0)
gold = rng.choice(["neg", "neutral", "pos"], {LARGE})
frame = pd.DataFrame({{"text": [f"row {{n}} good film" for n in range({LARGE})], "gold": gold,
    "lang": rng.choice(["de", "en"], {LARGE}), "tokens": rng.integers(1, 900, {LARGE}),
    "a": np.where(rng.random({LARGE}) < 0.8, gold, "neg")}})
evaluation = score(frame, "a", "gold")
"""
FILTER = """(selector) => new Promise((done) => {
  const root = document.querySelector(".dobatch-explorer"), from = performance.now(), before = root.dataset.page;
  new MutationObserver((_, seen) => { if (root.dataset.page !== before) { seen.disconnect();
    requestAnimationFrame(() => done(performance.now() - from)); } }).observe(root, {attributes: true});
  root.querySelector(selector).click();
})"""
FILTERS = {
    "a cell of the confusion matrix": ".matrix button[data-cell='0,0']",
    "what is wrong": ".chip.wrong",
    "a bar of a column": ".bars button[aria-label^='en:']",
}


def measure_large(lab: Any) -> dict[str, float]:
    """Return milliseconds to the first picture of an explorer of many rows, and of its filters."""
    shown = lab.open([MAKE_LARGE, "explore(evaluation, columns=['text', 'lang', 'tokens'])"])
    shown.run_cell(0).wait_for_last_cell_of(0)
    first = ".dobatch-explorer tbody tr[data-position]"
    times = {"first picture": statistics.median(shown.page.evaluate(FIRST, [1, first]) for _ in range(3))}
    for name, selector in FILTERS.items():  # a second click takes a filter back
        clicks = [shown.page.evaluate(FILTER, selector) for _ in range(2 * ROUNDS)]
        times[name] = statistics.median(clicks[::2])
    lab.close_windows()
    return times


INSPECT = f"""
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from dobatch_pandas.datasets import load_reviews
reviews = load_reviews({ROWS})
told = [ModelOutput.from_content("mockllm/model", "pos") for _ in range(len(reviews))]
for one in told:
    one.usage = ModelUsage(input_tokens=40, output_tokens=1, total_tokens=41)  # to count them it asks the network
samples = [Sample(input=text, target=label) for text, label in zip(reviews["text"], reviews["label"])]
eval(Task(dataset=samples, scorer=match()), model=get_model("mockllm/model", custom_outputs=told), log_dir=sys.argv[1],
     display="none")
"""


def measure_inspect(browser_: Any, folder: Path) -> dict[str, float] | None:
    """Return what Inspect's viewer takes for its page of samples: a page of its own, beside a log file."""
    if importlib.util.find_spec("inspect_ai") is None:
        return None
    subprocess.run([sys.executable, "-c", INSPECT, str(folder)], check=True)
    (log,) = folder.glob("*.eval")
    port = browser.free_port()
    viewer = subprocess.Popen(
        [Path(sys.executable).with_name("inspect"), "view", "start", "--log-dir", folder, f"--port={port}"]
    )
    try:
        while viewer.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except OSError:  # another process's start has no event to wait for
                time.sleep(0.1)
        page, times = browser_.new_context(viewport={"width": 1200, "height": 1400}).new_page(), []
        for _ in range(4):
            page.goto("about:blank")
            started = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/#/logs/{log.name}/samples", timeout=browser.PATIENCE)
            page.locator("a[role='row']").first.wait_for(timeout=browser.PATIENCE)
            times.append(1000 * (time.perf_counter() - started))
        page.context.close()
    finally:
        browser.end(viewer)
    return {"height": 1400, "ms": statistics.median(times[1:]), "bytes": log.stat().st_size}


def main() -> None:
    with tempfile.TemporaryDirectory() as place, browser.open_lab(Path(place)) as lab:
        for title, tools in (("Progress", BARS), (f"Tables of {ROWS:,} rows", TABLES)):
            found = measure(lab, tools)
            if tools is TABLES:
                found["Inspect's viewer"] = measure_inspect(lab.browser, Path(place) / "inspect")
            base = (found.get("tqdm.notebook") or found.get("pandas") or {}).get("ms")
            print(f"\n| {title} | height, px | first picture | bytes saved |\n|---|---|---|---|")
            for name, one in found.items():
                if one is None:
                    print(f"| {name} | not installed | | |")
                else:
                    times = f"{one['ms'] / base:.1f}" if base else f"{one['ms']:.0f} ms"
                    print(f"| {name} | {one['height']:.0f} | {times} | {one['bytes']:,} |")
        print(f"\n| explore, {LARGE:,} rows | ms |\n|---|---|")
        for name, milliseconds in measure_large(lab).items():
            print(f"| {name} | {milliseconds:.0f} |")


if __name__ == "__main__":
    main()
