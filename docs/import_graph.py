"""
The imports of dobatch_pandas, read from its source, and drawn.

    python docs/import_graph.py docs/_static/imports.svg

The picture shows the folders and the imports between them. `tests/test_imports.py` holds that they go one way.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "dobatch_pandas"


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


def room_of(module: str) -> str:
    """The folder a module is in, or its own name where it stands at the root."""
    return module.split(".")[0] or "__init__"


# The picture ---------------------------------------------------------------------------------------------

BESIDE = {"display", "evals", "server"}
"""Folders that know nothing of jobs."""

# Left, top, width, height: the folders, and three boxes for the files at the root.
_PLACES = {
    "doors": (10, 10, 720, 62),
    "job": (10, 112, 720, 80),
    "answers": (10, 232, 350, 62),
    "service": (380, 232, 170, 284),
    "prices": (570, 232, 160, 62),
    "questions": (10, 334, 350, 80),
    "display": (570, 334, 160, 182),
    "endpoints": (10, 454, 350, 62),
    "server": (790, 10, 180, 62),
    "evals": (790, 112, 180, 62),
    "arrow": (10, 556, 350, 62),
    "ground": (380, 556, 350, 62),
}
_LINE = 17
_GROUND = {"errors", "codes", "config"}


def box_of(module: str) -> str:
    """The box of the picture that a module is drawn in."""
    room = room_of(module)
    if room in _PLACES:
        return room
    return "ground" if room in _GROUND else "prices" if room in ("estimate", "prices", "tokens") else "doors"


def arrows() -> list[tuple[str, str, str]]:
    """The imports that the picture shows: not those that follow from others, nor those of what all know."""
    edges = {(box_of(i.importer), box_of(i.imported), i.when) for i in imports()}
    edges = {edge for edge in edges if edge[0] != edge[1] and edge[1] not in ("ground", "arrow")}
    solid = {(start, end) for start, end, when in edges if when == "loaded"}
    below: dict[str, set[str]] = {name: set() for name in _PLACES}
    for start, end in solid:
        below[start].add(end)

    def reached(name: str) -> set[str]:
        return set().union(*({n} | reached(n) for n in below[name]))

    shown = {
        (start, end, "loaded")
        for start, end in solid
        if not any(end in reached(other) for other in below[start] - {end})
    }
    late = {
        e for e in edges if e[2] == "late" and e[1] in BESIDE and e[:2] not in solid and e[0] not in BESIDE
    }
    return sorted(shown | late)


def svg() -> str:
    """The picture, for light and dark pages."""
    drawn = [_line(*arrow) for arrow in arrows()] + [_box(name) for name in _PLACES]
    style = (
        "rect{fill:#f6f8fa;stroke:#8c959f}text{font:13px system-ui,sans-serif;fill:#24292f}.n{font-weight:600}"
        ".m{font:12px ui-monospace,monospace;fill:#57606a}path{stroke:#4a7fb5;fill:none;stroke-width:1.6}"
        "@media(prefers-color-scheme:dark){rect{fill:#1c2128;stroke:#636e7b}text{fill:#d7dde3}.m{fill:#9aa4af}}"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 630" role="img">'
        "<title>Imports between the modules of dobatch_pandas, top to bottom</title>"
        f'<style>{style}</style><defs><marker id="a" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">'
        '<path d="M1,1 L7,4 L1,7" /></marker></defs>' + "".join(drawn) + "</svg>\n"
    )


def _box(name: str) -> str:
    left, top, width, height = _PLACES[name]
    inside = [
        (m.removeprefix(f"{name}.") or "__init__") for m in modules() if m != name and box_of(m) == name
    ]
    listed = [f"{len(inside)} modules"] if name in ("evals", "server") else inside
    title = f"{name}/" if (PACKAGE / name).is_dir() else name
    lines = [f'<text x="{left + 10}" y="{top + 20}"><tspan class="n">{title}</tspan></text>']
    for i, line in enumerate(_wrapped(listed, (width - 16) // 7), 1):
        lines.append(f'<text class="m" x="{left + 10}" y="{top + 21 + i * _LINE}">{escape(line)}</text>')
    return f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" />{"".join(lines)}'


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
