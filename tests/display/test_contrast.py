"""Every text of ours can be read: its contrast and size, measured in a real browser, light and dark."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium, missing, window
from display.contrast import low_contrast
from display.test_in_browser import HOLD, start

import dobatch_pandas as dobatch

pytestmark = pytest.mark.browser

MORE = f"""
{HOLD}
df["gold"] = ["pos", "neg"] * 50
df["a"], df["b"] = ["pos", "pos", "neg", None] * 25, ["pos", "neg"] * 50
"""
CELLS = [
    'job = df.dobatch.submit("Say {text}", model="echo")\njob',
    "server.release(); job.wait(display=False); job",
    "dobatch.jobs()",
    'plan = df.dobatch.plan("Say {text}", model="gpt-4.1-mini", temperature=0, schema={"mood": ["good", "bad"]})\nplan',
    "plan.estimate()",
    "plan.preview(3)",
    'df.dobatch.trial("Say {text}", model="echo", n=3)',
    "job.usage()",
    'df.dobatch.score("a", actual="gold")',
    "from dobatch_pandas.evals import compare, score\n"
    'compare(score(df, "a", "gold"), score(df, "b", "gold"))',
    'from dobatch_pandas.evals import explore\nexplore(df, predicted="a", actual="gold")',
    "dobatch.InputError(['One thing is wrong.', 'Another is.'])",
    'df.dobatch.plan("Say {txt}", model="echo")',  # the last one: after an error no other cell is run
]
# Frames of pandas' own and the notebook's furniture are not ours.
WITHIN = ".jp-OutputArea-output"


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_text_in_a_notebook_can_be_read(lab: Any, theme: str) -> None:
    """
    Panel, errors, jobs, plan, estimate, preview, trial, score, comparison, explorer and the sentence of an error have a
    contrast of 4.5 and 12 pixels at least, in both themes.
    """
    shown = lab.open(
        [start(options='model="echo", fail_share=0.2', more=MORE), *CELLS],
        viewport={"width": 1200, "height": 8000},
    )
    shown.page.evaluate(
        "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
    )
    shown.page.wait_for_function("(theme) => document.body.dataset.jpThemeName === theme", arg=theme)
    for number in range(len(CELLS) + 1):
        shown.run_cell(number)
    shown.wait_for_last_cell_of(len(CELLS))
    shown.output(1).get_by_role("button", name="Show errors").click()
    shown.output(1).locator("caption", has_text="Rows that failed").wait_for()
    shown.output(11).locator(".dobatch-explorer tbody tr[data-position]").nth(1).click()
    shown.output(11).locator(".detail h3").wait_for()
    if "DOBATCH_SHOTS" in os.environ:
        shown.page.screenshot(path=f"{os.environ['DOBATCH_SHOTS']}/family-{theme.split()[-1].lower()}.png")
    assert low_contrast(shown.page, WITHIN) == []
    # Nor is any text cut: no element of ours is wider inside than it is, unless it scrolls.
    assert (
        shown.page.evaluate(
            """() => [...document.querySelectorAll(".dobatch-panel button, .dobatch-static summary")]
            .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"""
        )
        == []
    )


@pytest.fixture
def chrome() -> Iterator[Any]:
    """Chromium alone."""
    if missing():
        pytest.skip(str(missing()))
    with chromium() as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_on_the_servers_page_can_be_read(chrome: Any, scheme: str) -> None:
    """
    The page of `dobatch serve`, with a batch on it, in both colour schemes.
    """
    with dobatch.LocalServer(model="echo", fail_share=0.2).start() as server:
        page = window(chrome, color_scheme=scheme, viewport={"width": 1000, "height": 900})
        try:
            page.goto(server.url)
            page.locator("h1").first.wait_for()
            assert low_contrast(page) == []
        finally:
            page.context.close()


@pytest.mark.parametrize("what", ["report", "comparison"])
def test_a_report_prints_on_a_page(chrome: Any, what: str, tmp_path: Any) -> None:
    """
    Printed, a report is black on white and as wide as the paper, whatever the screen's colours are.
    """
    import pandas as pd

    from dobatch_pandas.evals import compare, score

    rows = pd.DataFrame(
        {
            "text": ["many words " * 40] * 60,
            "gold": ["x", "y"] * 30,
            "a": ["x", "x"] * 30,
            "b": ["y", "y"] * 30,
        }
    )
    made = (
        score(rows, "a", "gold")
        if what == "report"
        else compare(score(rows, "a", "gold"), score(rows, "b", "gold"))
    )
    path = tmp_path / "report.html"
    made.to_html(path)
    page = window(chrome, color_scheme="dark", viewport={"width": 794, "height": 1123})
    try:
        page.goto(path.as_uri())
        assert low_contrast(page) == []
        page.emulate_media(media="print")
        ink = "() => getComputedStyle(document.querySelector('.dobatch-eval')).color"
        assert page.evaluate(ink) == "rgb(0, 0, 0)"
        assert low_contrast(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        pdf = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) < 15
    finally:
        page.context.close()
