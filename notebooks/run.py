"""Run the notebooks from top to bottom and store their outputs: ``python notebooks/run.py [name ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    """Run those whose name begins with one of the arguments, or all."""
    here = Path(__file__).parent
    for path in sorted(here.glob("*.ipynb")):
        if sys.argv[1:] and not path.name.startswith(tuple(sys.argv[1:])):
            continue
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of the day say nothing
        # A widget's state is of no use without its kernel; the static picture stands beside it.
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
