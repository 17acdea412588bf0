"""Imports go one way, so that each module can be understood from those below it."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[1] / "docs" / "import_graph.py"
_spec = importlib.util.spec_from_file_location("import_graph", _SCRIPT)
assert _spec is not None
assert _spec.loader is not None
import_graph = importlib.util.module_from_spec(_spec)
sys.modules["import_graph"] = import_graph
_spec.loader.exec_module(import_graph)

# Imports inside a function that would close a circle if they stood at the top, each with its reason.
BACKWARDS = {
    ("job", "display"): "wait() shows progress; a job that nobody looks at never loads it",
    ("job", "display.text"): "repr() is drawn by the same words as everything else",
    ("plan", "display.html"): "_repr_html_",
    ("usage", "display.html"): "_repr_html_",
    ("errors", "display.html"): "_repr_html_",
    ("job", "estimate"): "usage() is a look at the price, which submit needs no earlier",
    ("evals.findings", "evals.report"): "what is found can show itself",
    ("evals.findings", "evals.gate"): "what is found can be held against what is required",
    ("evals.findings", "evals.saved"): "what is found can be kept",
    ("evals.saved", "evals.report"): "what is kept can show itself",
}


def _imports(*when):
    return [i for i in import_graph.imports() if i.when in when]


def test_no_module_is_loaded_in_a_circle():
    """
    Whoever reads a module can read those it imports first, and ends.
    """
    below = {module: set() for module in import_graph.modules()}
    for found in _imports("loaded"):
        below[found.importer].add(found.imported)
    try:
        list(TopologicalSorter(below).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_late_imports_point_down_too_but_for_a_known_few():
    """
    An import inside a function is for what is heavy or optional, not a way around the order.
    """
    below = {module: set() for module in import_graph.modules()}
    for found in _imports("loaded", "late"):
        if (found.importer, found.imported) not in BACKWARDS:
            below[found.importer].add(found.imported)
    try:
        list(TopologicalSorter(below).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_groups_of_modules_know_only_those_below_them():
    """
    The picture in the documentation has arrows in one direction, and every module in it.
    """
    below: dict[str, set[str]] = {}
    for start, end in import_graph.group_edges():
        below.setdefault(start, set()).add(end)
    try:
        list(TopologicalSorter(below).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    named = {m for _, members in import_graph.GROUPS.values() for m in members.split() if "*" not in m}
    assert named - {"__init__"} <= set(import_graph.modules())


def test_the_server_shares_nothing_with_the_client_but_errors():
    """
    A misreading of the protocol cannot cancel itself out, and the server is of use on its own.
    """
    foreign = {i for i in _imports("loaded", "late", "types") if i.importer.startswith("server")}
    assert {i.imported for i in foreign if not i.imported.startswith("server")} <= {"errors"}


def test_evaluations_know_frames_only():
    """
    Scoring works on any frame, whoever made its columns.
    """
    foreign = {i for i in _imports("loaded", "late") if i.importer.startswith("evals")}
    outside = {i.imported for i in foreign if not i.imported.startswith("evals")}
    assert outside <= {"config", "errors", "display.html"}


def test_displays_draw_a_snapshot_and_know_no_job():
    """
    What is drawn was gathered before, once, for all drawings.
    """
    foreign = {i for i in _imports("loaded", "late") if i.importer.startswith("display")}
    outside = {i.imported for i in foreign if not i.imported.startswith("display")}
    assert outside <= {"config", "errors", "snapshot", "usage"}


def test_providers_know_neither_jobs_nor_files():
    """
    An endpoint is one small module, which needs nothing around it.
    """
    foreign = {i for i in _imports("loaded", "late") if i.importer.startswith("providers")}
    assert {i.imported for i in foreign if not i.imported.startswith("providers")} <= {"codes", "errors"}


@pytest.mark.parametrize(
    ("library", "home"), [("ipywidgets", {"display.panel"}), ("anywidget", {"evals.explore"})]
)
def test_a_widget_library_has_one_importer(library, home):
    """
    Whoever works without widgets never loads them.
    """
    importers = set()
    for name, path in import_graph.modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(found.split(".")[0] == library for found in names):
                importers.add(name)
    assert importers <= home


def test_importing_the_package_loads_nothing_optional():
    """
    ``import dobatch_pandas`` is quick, and works without any extra.
    """
    heavy = [
        "ipywidgets",
        "anywidget",
        "starlette",
        "uvicorn",
        "sklearn",
        "scipy",
        "matplotlib",
        "dask",
        "IPython",
    ]
    code = f"import sys, dobatch_pandas; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
