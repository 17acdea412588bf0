"""
How far it is through the house: rooms, circles and floors of the imports, and what one plain job passes.

    python docs/walk.py

Floors are how many rooms, or modules, stand on each other at most, by what is imported when they are loaded; a room is a
folder, or a file at the root. The job asks twenty rows of the embedded server and joins the answers. Counted are this
package's functions and files that run on the client's side, in whatever thread; what runs as modules are loaded is not.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import import_graph

PACKAGE = import_graph.PACKAGE


def _below(name_of: Callable[[str], str]) -> dict[str, set[str]]:
    below: dict[str, set[str]] = {}
    for one in import_graph.imports():
        above, under = name_of(one.importer), name_of(one.imported)
        if one.when == "loaded" and above != under and not _is_parent(one.imported, one.importer):
            below.setdefault(above, set()).add(under)
    return below


def floors(name_of: Callable[[str], str]) -> int:
    """Return how many things of these names stand on each other at most."""
    below = _below(name_of)

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in below.get(name, ())), default=0)

    return max(map(height, below))


def circles() -> int:
    """Return how many modules are in a circle of imports at loading."""
    below = _below(str)

    def reach(name: str) -> set[str]:
        seen: set[str] = set()
        left = [name]
        while left:
            for other in below.get(left.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        return seen

    return sum(name in reach(name) for name in below)


def _is_parent(imported: str, importer: str) -> bool:
    # A package is loaded before what is in it, whoever asks.
    return imported == "" or importer.startswith(f"{imported}.")


def passed(rows: int = 20) -> set[CodeType]:
    """Return the functions of the client that one job of so many rows runs through, from submit to join."""
    import pandas as pd

    import dobatch_pandas as dobatch

    root, server = str(PACKAGE), str(PACKAGE / "server")
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        ours = code.co_filename.startswith(root) and not code.co_filename.startswith(server)
        # The bodies of modules and classes, and comprehensions, are no functions.
        if event == "call" and ours and code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<"):
            found.add(code)

    for name in import_graph.modules():
        if import_graph.room_of(name) not in ("server", "dask"):
            import_module(f"{PACKAGE.name}.{name}".rstrip("."))

    with tempfile.TemporaryDirectory() as home, dobatch.LocalServer() as local:
        dobatch.configure(base_url=local.url, token=local.token, home=home, display=False)
        frame = pd.DataFrame({"n": range(rows)})
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            frame.dobatch.join(frame.dobatch.submit("number {n}", model="echo"))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        dobatch.jobs()
    return found


def main() -> None:
    """Print the counts."""
    modules = import_graph.modules()
    folders = {name.split(".")[0] for name, path in modules.items() if path.parent != PACKAGE}
    root = len(list(PACKAGE.glob("*.py")))
    functions = passed()
    print(f"files at the root        {root}")
    print(f"folders                  {len(folders)}")
    print(f"modules in a circle      {circles()}")
    if not circles():
        print(f"floors of rooms          {floors(import_graph.room_of)}")
        print(f"floors of modules        {floors(str)}")
    print(f"one job: functions       {len(functions)}")
    print(f"one job: files           {len({code.co_filename for code in functions})}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
