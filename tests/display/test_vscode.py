"""The live panel and explorer with the widget manager of VS Code's notebooks, in a frame with VS Code's colours."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from display.contrast import low_contrast
from display.test_in_browser import HOLD, SUBMIT, start

pytestmark = pytest.mark.browser

# npm's packages @vscode/jupyter-ipywidgets8 and requirejs, wherever they were installed.
NODE_MODULES = Path(os.environ.get("DOBATCH_NODE_MODULES", Path(__file__).parents[1] / "node_modules"))
MANAGER = NODE_MODULES / "@vscode" / "jupyter-ipywidgets8" / "dist" / "ipywidgets.js"
EXTENSIONS = Path(sys.prefix) / "share" / "jupyter" / "nbextensions"
REQUIRE = NODE_MODULES / "requirejs" / "require.js"

# What VS Code sets in the frame of its outputs, in its two standard themes.
THEMES = {
    "light": {
        "foreground": "#3b3b3b", "editor-background": "#ffffff", "descriptionForeground": "#3b3b3b",
        "errorForeground": "#f85149", "charts-red": "#e51400", "charts-green": "#388a34", "charts-blue": "#1a85ff",
        "charts-orange": "#d18616", "widget-border": "#e5e5e5", "list-hoverBackground": "#f2f2f2",
        "notebook-cellEditorBackground": "#f8f8f8", "font-family": "sans-serif",
    },
    "dark": {
        "foreground": "#cccccc", "editor-background": "#1f1f1f", "descriptionForeground": "#9d9d9d",
        "errorForeground": "#f85149", "charts-red": "#f14c4c", "charts-green": "#89d185", "charts-blue": "#3794ff",
        "charts-orange": "#d18616", "widget-border": "#313131", "list-hoverBackground": "#2a2d2e",
        "notebook-cellEditorBackground": "#181818", "font-family": "sans-serif",
    },
}  # fmt: skip
EXPLORE = """
from dobatch_pandas.evals import explore
rows = pd.DataFrame({"text": ["a", "b", "c", "d"], "told": list("xxyy"), "gold": list("xyyy")})
explore(rows, predicted="told", actual="gold")
"""


SCORE = """
from dobatch_pandas.evals import score
score(rows, "told", "gold")
"""


def frame_of(page: Any, theme: str) -> Any:
    """Put a frame over the page, with VS Code's variables, its widget manager and a loader of scripts."""
    colours = ";".join(f"--vscode-{name}:{value}" for name, value in THEMES[theme].items())
    html = (
        f"<html style='{colours}'><body class='vscode-{theme}' data-vscode-theme-kind='vscode-{theme}' style='margin:0;"
        "padding:12px;color:var(--vscode-foreground);background:var(--vscode-editor-background);font:13px sans-serif'>"
        "<style>.cell-output-ipywidget-background { background: white }</style><div id=outputs></div></body></html>"
    )
    page.evaluate(
        """(html) => {
          const frame = document.createElement("iframe");
          frame.id = "vscode";
          frame.style = "position:fixed;inset:0;width:100%;height:100%;z-index:100000;border:0;background:#fff";
          document.body.append(frame);
          frame.contentDocument.open(); frame.contentDocument.write(html); frame.contentDocument.close();
        }""",
        html,
    )
    frame = page.locator("#vscode").element_handle().content_frame()
    frame.add_script_tag(path=str(REQUIRE))
    source = MANAGER.read_text(encoding="utf-8")
    frame.add_script_tag(
        content=re.sub(r"export\{(\w+) as activate\};?", r"window.vscActivate=\1;", source), type="module"
    )
    base = page.evaluate("() => window.jupyterapp.serviceManager.serverSettings.baseUrl")
    frame.evaluate(f"() => {{ window.nbextension = (name) => '{base}nbextensions/' + name + '/index'; }}")
    frame.wait_for_function("() => window.vscActivate && window.requirejs")
    return frame


@pytest.mark.parametrize("theme", list(THEMES))
def test_the_panel_and_the_explorer_live_in_vs_code(lab: Any, theme: str) -> None:
    """
    With the widget manager of VS Code: the panel moves, asks before it cancels and ends as its picture; the explorer
    filters; and every text of both can be read.
    """
    if not (MANAGER.exists() and REQUIRE.exists()):
        pytest.skip(f"@vscode/jupyter-ipywidgets8 and requirejs are not in {NODE_MODULES}")
    shown = lab.open(["1"], viewport={"width": 1100, "height": 1400})
    frame = frame_of(shown.page, theme)
    # VS Code finds the modules of widgets here, whatever the server of the kernel hands out.
    shown.page.route(
        "**/nbextensions/**",
        lambda route: route.fulfill(path=EXTENSIONS / route.request.url.split("/nbextensions/")[1]),
    )
    problems: list[str] = []
    shown.page.on("console", lambda m: problems.append(m.text) if m.text.startswith("widget") else None)
    cells = [start(options='model="echo", fail_share=0.1', more=HOLD), SUBMIT]
    shown.page.evaluate((Path(__file__).parent / "vscode.js").read_text(encoding="utf-8"), cells)

    panel = frame.locator(".dobatch-panel")
    panel.filter(has_text=re.compile(r"\d+ answered")).wait_for()
    panel.get_by_role("button", name="Cancel", exact=True).click()
    panel.get_by_role("button", name="No, let it run").click()
    assert low_contrast(frame) == []
    frame.evaluate("() => window.run('server.release()')")
    panel.filter(has_text="Done, with failures").wait_for()
    assert not frame.locator(".dobatch-static").first.is_visible()
    panel.get_by_role("button", name="Show errors").click()
    panel.locator("caption", has_text="Rows that failed").wait_for()
    assert low_contrast(frame) == []
    panel.get_by_role("button", name="Close panel").click()
    frame.locator(".dobatch-static").wait_for()

    frame.evaluate("(code) => window.run(code)", EXPLORE)
    explorer = frame.locator(".dobatch-explorer")
    explorer.locator("tbody tr[data-position]").first.wait_for()
    explorer.locator("[data-cell='1,0']").click()
    explorer.locator(".status", has_text="of 1 row").wait_for()
    # The reports share the frame with the widgets, whose manager brings JupyterLab's light colours.
    frame.evaluate("(code) => window.run(code)", SCORE)
    frame.locator(".dobatch-eval:visible", has_text="accuracy").first.wait_for()
    if "DOBATCH_SHOTS" in os.environ:
        shown.page.screenshot(path=f"{os.environ['DOBATCH_SHOTS']}/vscode-live-{theme}.png")
    assert low_contrast(frame) == []
    assert problems == []
