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

# Folders, and files at the root: each imports only what stands after it.
ORDER = [
    *[
        "__init__",
        "cli",
        "exit_codes",
        "demo",
        "dask",
        "magics",
        "accessor",
        "plan",
        "job",
        "trial",
        "estimate",
    ],
    *["evals", "server", "datasets", "prices", "tokens", "answers", "questions", "service", "display"],
    *["endpoints", "arrow", "codes", "config", "errors"],
]


def _imports(*when):
    return [i for i in import_graph.imports() if i.when in when]


def test_imports_go_one_way_between_folders():
    """
    Whoever reads a folder can read those it imports first, and ends; an import inside a function is no way around.
    """
    rooms = [
        (i, import_graph.room_of(i.importer), import_graph.room_of(i.imported))
        for i in _imports("loaded", "late")
    ]
    assert [i for i, above, below in rooms if ORDER.index(above) > ORDER.index(below)] == []


def test_no_module_is_loaded_in_a_circle():
    """
    Inside a folder there is an order too.
    """
    below = {module: set() for module in import_graph.modules()}
    for found in _imports("loaded"):
        below[found.importer].add(found.imported)
    try:
        list(TopologicalSorter(below).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("server", {"errors"}),  # a misreading of the protocol cannot cancel itself out
        ("evals", {"errors", "config", "display"}),  # scoring works on any frame, whoever made its columns
        ("display", {"errors", "config", "codes"}),  # what is drawn was gathered before, once
        ("endpoints", {"errors", "codes"}),
        ("arrow", set()),
    ],
)
def test_a_folder_that_stands_for_itself_knows_little(folder, known):
    """
    What needs nothing around it is understood, and of use, on its own.
    """
    rooms = [
        (import_graph.room_of(i.importer), import_graph.room_of(i.imported)) for i in import_graph.imports()
    ]
    assert {below for above, below in rooms if above == folder} <= {folder, *known}


def test_the_root_holds_doors_and_ground_only():
    """
    Whoever opens the package sees its rooms, not its furniture.
    """
    assert len(list(import_graph.PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize(
    ("library", "home"),
    [("ipywidgets", {"display.panel"}), ("anywidget", {"evals.explore", "display.bell"})],
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
        "marimo",
    ]
    code = f"import sys, dobatch_pandas; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_beside_pandas_is_not_felt():
    """
    What sends, reads answers or draws is loaded when it is used, and not by the Tab key on a frame: what stays is the list
    of options, without which Shift-Tab could not show them.
    """
    code = """
import pandas, pyarrow, sys
frame, before = pandas.DataFrame({"a": [1]}), set(sys.modules)
import dobatch_pandas
dir(frame), dir(frame.dobatch), repr(frame.dobatch)
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"dobatch_pandas", "difflib", "html", "http", "orjson"}
