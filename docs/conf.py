"""
How the documentation is built: offline, without running a notebook.

    sphinx-build -W docs docs/_build

Examples on pages and notebooks are run by the tests; here their text and stored outputs are shown.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import import_graph  # noqa: E402

import dobatch_pandas  # noqa: E402

project = "dobatch_pandas"
author = copyright = "The dobatch_pandas authors"
version = release = dobatch_pandas.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
# A widget needs scripts from elsewhere; the picture that is stored beside it needs nothing.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "dobatch_pandas"
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
    "footer_end": [],
}

html_context = {"default_mode": "auto"}
html_sidebars = {"**": ["sidebar.html"]}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

GENERATED = HERE / "generated"


def _notebooks() -> None:
    """Copy the notebooks to where Sphinx sees them, and list those that there are."""
    target = GENERATED / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    names = []
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copy(path, target / path.name)
        names.append(path.stem)
    lines = [
        "# Notebooks",
        "",
        "Run from top to bottom on the embedded server, and stored with what came out.",
    ]
    lines += ["", "```{toctree}", *names, "```", ""] if names else [""]
    (target / "index.md").write_text("\n".join(lines), encoding="utf-8")


def _performance() -> None:
    """Turn the stored measurements into tables."""
    source = HERE / "performance.json"
    lines = ["No measurement is stored with this version: `python -m tests.benchmarks` makes one.", ""]
    if source.exists():
        stored = json.loads(source.read_text(encoding="utf-8"))
        lines = [f"Measured on {stored['date']} with version {stored['version']}: {stored['machine']}.", ""]
        for table in stored["tables"]:
            head = table["columns"]
            lines += [f"## {table['title']}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
            lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table["rows"]]
            lines += ["", table.get("note", ""), ""]
    # Not .md: a file that is included is no page of its own.
    (GENERATED / "performance.txt").write_text("\n".join(lines), encoding="utf-8")


_notebooks()
_performance()
(GENERATED / "imports.svg").write_text(import_graph.svg(), encoding="utf-8")
