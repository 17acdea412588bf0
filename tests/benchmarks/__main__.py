"""
All benchmarks: ``python -m tests.benchmarks`` prints their tables and writes the figures as JSON.

They take about half an hour on two cores, since every case is run five times; ``--rounds 1`` gives a first impression.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARIES = ("pandas", "pyarrow", "orjson", "numpy", "duckdb")


def main() -> None:
    """The command line."""
    names = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"), reverse=True)]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"some of: {', '.join(names)}")
    parser.add_argument("--rows", type=int, help="another number of rows than each benchmark's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=Path("benchmark-data"), help="for files of some gigabytes"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the figures go")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    figures: dict[str, Any] = {"machine": machine}
    for name in arguments.names or names:
        print(f"\n== {name} ==", flush=True)
        figures[name] = _run(name, arguments)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nThe figures are in {arguments.json}.")


def _run(name: str, arguments: argparse.Namespace) -> Any:
    folder = arguments.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "figures.json"
    command = [sys.executable, str(HERE / f"bench_{name}.py"), "--folder", str(folder), "--json", str(found)]
    command += ["--rounds", str(arguments.rounds)]
    command += [] if arguments.rows is None else ["--rows", str(arguments.rows)]
    subprocess.run(command, check=True)
    return json.loads(found.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
