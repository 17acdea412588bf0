"""
The imports of dobatch_pandas, read from its source, and drawn.

    python docs/import_graph.py docs/_static/imports.svg

The picture shows the groups below and the imports between them. `tests/test_imports.py` holds that they go one way.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from html import escape
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "dobatch_pandas"

# Every module is in one group: what the group is for, and its members ("__init__" is the package itself).
GROUPS: dict[str, tuple[str, str]] = {
    "doors": ("what people type", "__init__ accessor cli magics dask demo datasets"),
    "ask": ("look, price, submit", "plan submit trial estimate listing"),
    "job": (
        "one job, moved on by threads of its own",
        "job job_answers session runner rendering sender poller collector reuse progress status input_file fingerprint dataset source part_results",
    ),
    "requests": (
        "frame → lines",
        "recipe checks prompts schema freezing requests_file bodies part_files",
    ),
    "results": (
        "lines → columns",
        "join downloaded answers results_file",
    ),
    "endpoints": ("their bodies, asked and answered", "providers providers.*"),
    "service": ("calls and bytes", "client calls limits transfer network models"),
    "disk": ("the ledger", "store"),
    "ground": (
        "known to all",
        "errors codes config snapshot columns jsonl alike json_text keyset validation prices tokens usage",
    ),
    "display": ("draws a snapshot", "display display.*"),
    "evals": ("scores frames", "evals evals.*"),
    "server": ("the service itself", "server server.*"),
}

BESIDE = {"display", "evals", "server"}
"""Packages of their own, each for one thing."""


class Import(NamedTuple):
    """One module imports another: when it is loaded, in a function (`late`), or for the type checker only."""

    importer: str
    imported: str
    when: str


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module's name below the package ("" for the package itself), and its file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path = PACKAGE) -> list[Import]:
    """Every import of one module of the package by another."""
    known = modules(package)
    found: set[Import] = set()
    for name, path in known.items():
        here = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, when in _statements(ast.parse(path.read_text(encoding="utf-8")), "loaded"):
            found.update(
                Import(name, target, when) for target in _targets(node, here, known) if target != name
            )
    return sorted(found)


def _statements(node: ast.AST, when: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, when
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _statements(child, "late")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _statements(child, "types")
        else:
            yield from _statements(child, when)


def _targets(node: ast.Import | ast.ImportFrom, here: str, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        wanted = [alias.name for alias in node.names]
        yield from (name.partition(".")[2] for name in wanted if name.split(".")[0] == PACKAGE.name)
        return
    if node.level:
        base = here.split(".")[: len(here.split(".")) - node.level + 1] if here else []
        base += (node.module or "").split(".")
    else:
        root, *base = (node.module or "").split(".")
        if root != PACKAGE.name:
            return
    whole = ".".join(part for part in base if part)
    for alias in node.names:
        inner = f"{whole}.{alias.name}".lstrip(".")
        yield inner if inner in known else whole


def group_of(module: str) -> str:
    """The group a module is in, by its name or else the longest pattern; LookupError says that it has none yet."""
    patterns = {member: name for name, (_, members) in GROUPS.items() for member in members.split()}
    fitting = [pattern for pattern in patterns if fnmatch(module or "__init__", pattern)]
    if not fitting:
        raise LookupError(f"{module} is in no group: add it to GROUPS in docs/import_graph.py")
    return patterns[max(fitting, key=lambda pattern: (pattern == module, len(pattern)))]


def group_edges(when: str = "loaded") -> Counter[tuple[str, str]]:
    """How many imports of a kind go from one group to another."""
    pairs = ((group_of(i.importer), group_of(i.imported)) for i in imports() if i.when == when)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def arrows() -> list[tuple[str, str, str]]:
    """The imports that the picture shows: those that do not follow from others, and those to `ground` left out."""
    solid = {pair for pair in group_edges() if pair[1] != "ground"}
    below: dict[str, set[str]] = {name: set() for name in GROUPS}
    for start, end in solid:
        below[start].add(end)

    def reached(name: str) -> set[str]:
        return set().union(*({n} | reached(n) for n in below[name]))

    shown = [
        (start, end, "loaded")
        for start, end in solid
        if not any(end in reached(other) for other in below[start] - {end})
    ]
    late = {
        pair
        for pair in group_edges("late")
        if pair[1] in BESIDE and pair not in solid and pair[0] not in BESIDE
    }
    return sorted(shown + [(start, end, "late") for start, end in late if start != "ground"])


# The picture ---------------------------------------------------------------------------------------------

_LINE = 17
_PLACES = {  # left, top, width, height
    "doors": (10, 10, 720, 62),
    "ask": (10, 112, 720, 62),
    "job": (10, 214, 720, 80),
    "requests": (10, 334, 225, 124),
    "results": (255, 334, 225, 124),
    "endpoints": (10, 498, 470, 132),
    "service": (500, 334, 120, 296),
    "disk": (640, 334, 90, 296),
    "server": (790, 10, 180, 62),
    "evals": (790, 112, 180, 62),
    "display": (790, 214, 180, 80),
    "ground": (10, 670, 960, 62),
}


def svg() -> str:
    """The picture, for light and dark pages."""
    drawn = [_line(*arrow) for arrow in arrows()] + [_box(name) for name in GROUPS]
    style = (
        "rect{fill:#f6f8fa;stroke:#8c959f}text{font:13px system-ui,sans-serif;fill:#24292f}.n{font-weight:600}"
        ".m{font:12px ui-monospace,monospace;fill:#57606a}path{stroke:#4a7fb5;fill:none;stroke-width:1.6}"
        "@media(prefers-color-scheme:dark){rect{fill:#1c2128;stroke:#636e7b}text{fill:#d7dde3}.m{fill:#9aa4af}}"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 742" role="img">'
        "<title>Imports between the modules of dobatch_pandas, top to bottom</title>"
        f'<style>{style}</style><defs><marker id="a" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">'
        '<path d="M1,1 L7,4 L1,7" /></marker></defs>' + "".join(drawn) + "</svg>\n"
    )


def _box(name: str) -> str:
    left, top, width, height = _PLACES[name]
    words, members = GROUPS[name]
    inside = [module or "__init__" for module in modules() if group_of(module) == name]
    listed = [f"{name}/ ({len(inside)} modules)"] if name in BESIDE else sorted(inside, key=_place(members))
    title = [f'<tspan class="n">{name}</tspan>: {escape(words)}']
    if len(f"{name}: {words}") * 7 > width - 16:
        title = [f'<tspan class="n">{name}</tspan>', escape(words)]
    lines = [
        f'<text x="{left + 10}" y="{top + 20 + i * _LINE}">{line}</text>' for i, line in enumerate(title)
    ]
    for i, line in enumerate(_wrapped(listed, (width - 16) // 7), len(title)):
        lines.append(f'<text class="m" x="{left + 10}" y="{top + 21 + i * _LINE}">{escape(line)}</text>')
    return f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" />{"".join(lines)}'


def _place(members: str) -> Callable[[str], int]:
    order = members.split()
    return lambda module: order.index(module) if module in order else len(order)


def _wrapped(words: list[str], room: int) -> list[str]:
    rows = [""]
    for word in words:
        longer = f"{rows[-1]}  {word}".strip()
        if len(longer) > room and rows[-1]:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def _line(start: str, end: str, when: str) -> str:
    left, top, width, height = _PLACES[start]
    there_left, there_top, there_width, there_height = _PLACES[end]
    if there_left >= left + width:  # to a box at the right
        route = f"M{left + width},{top + height / 2} L{there_left},{there_top + there_height / 2}"
    else:
        x = (max(left, there_left) + min(left + width, there_left + there_width)) / 2
        route = f"M{x},{top + height} L{x},{there_top}"
    dashes = ' stroke-dasharray="5 4"' if when == "late" else ""
    return f'<path d="{route}"{dashes} marker-end="url(#a)" />'


def main() -> None:
    """Write the picture to the file that is named."""
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
