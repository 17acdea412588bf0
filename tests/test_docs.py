"""The documentation says what is so: examples run, tests that it names exist, it builds offline without a warning."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from browser import chromium, missing, window

import dobatch_pandas as dobatch
from dobatch_pandas import codes

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
WITH_EXAMPLES = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
NEEDS = {"evals.md": "sklearn", "quickstart.md": "sklearn", "dask.md": "dask"}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_examples_run_from_top_to_bottom(page, server):
    """
    Pasted into a notebook, one after the other, they work as they are.
    """
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name])
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, example {number}", "exec", dont_inherit=True), names)


@cache
def _tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page):
    """
    "Proved by" leads to something.
    """
    for file, name in re.findall(r"([\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8")):
        path = ROOT / "tests" / file
        assert path.exists(), file
        assert name in _tests(path), f"{file}::{name}"


def test_every_exception_and_every_code_is_explained():
    """
    Whatever happens to a user is in ``errors.md``, with what to do.
    """
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    named = [name for name in dobatch.errors.__all__ if name != "Problem"]
    kinds = [name for name in named if isinstance(getattr(dobatch.errors, name), type)]
    missing = [name for name in [*kinds, *codes.EXPLANATIONS] if f"`{name}`" not in page]
    assert not missing


def test_every_public_name_is_in_the_reference():
    """
    What can be imported can be looked up.
    """
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in dobatch.__all__ if name not in page] == []


def test_commands_and_options_exist():
    """
    Every ``dobatch ...`` line of the documentation is understood by the command.
    """
    from dobatch_pandas.cli import _parser

    for page in PAGES:
        for block in re.findall(
            r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["dobatch"]:
                    _parser().parse_args(words[1:])


@pytest.mark.slow
def test_it_builds_offline_without_a_warning(tmp_path):
    """
    Every link, every docstring and every notebook is sound, and no page loads anything from elsewhere.
    """
    pytest.importorskip("myst_nb", reason="needs dobatch-pandas[docs]")
    pytest.importorskip("pydata_sphinx_theme", reason="needs dobatch-pandas[docs]")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-b",
        "html",
        "-d",
        tmp_path / "trees",
        ROOT / "docs",
    ]
    done = subprocess.run([*command, tmp_path / "html"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    loads = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"(?:https?:)?//[^\"]+\"")
    for page in (tmp_path / "html").rglob("*.html"):
        foreign = [tag for tag in loads.findall(page.read_text(encoding="utf-8")) if "canonical" not in tag]
        assert not foreign, (page.name, foreign[:3])
    _check_on_a_phone(tmp_path / "html")


def _check_on_a_phone(site: Path) -> None:
    """Nothing is clipped, no name is broken, and no console complains, on a page of 390 pixels."""
    if missing():
        return
    complaints: list[str] = []
    with chromium() as browser:
        page = window(browser, viewport={"width": 390, "height": 844})
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        for name in (
            "index",
            "errors",
            "quickstart",
            "security",
            "comparison",
            "generated/notebooks/02_evals",
        ):
            page.goto((site / f"{name}.html").as_uri())
            assert (
                page.evaluate(
                    """() => {
                  const main = document.querySelector("main");
                  const clipped = [...main.querySelectorAll("*")].filter((e) => e.clientWidth > 20
                    && getComputedStyle(e).overflowX === "hidden" && e.scrollWidth > e.clientWidth + 2);
                  const broken = [...main.querySelectorAll("h1, td:first-child code .pre")].filter((e) => {
                    const words = [...e.childNodes].find((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
                    if (!words || /\\s/.test(words.data.trim())) return false;
                    const range = document.createRange();
                    range.selectNodeContents(words);
                    return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1;
                  });
                  return [...clipped, ...broken].map((e) => e.textContent.trim());
                }"""
                )
                == []
            ), name
        page.context.close()
    assert complaints == []
