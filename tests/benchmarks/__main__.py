"""
All benchmarks: ``python -m tests.benchmarks`` prints their tables and writes the figures as JSON.

With ``--json docs/performance.json`` the documentation shows them.

They take half an hour or more on two cores, since every case is run five times; ``--rounds 1`` gives a first impression.
"""

from __future__ import annotations

import argparse
import ast
import datetime
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
    machine = [f"{os.cpu_count()} cores {platform.machine()}", f"Python {platform.python_version()}"]
    machine += [f"{name} {version(name)}" for name in LIBRARIES]
    stored: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "version": version("dobatch-pandas"),
        "machine": ", ".join(machine),
        "tables": [],
        "figures": {},
    }
    print(stored["machine"], flush=True)
    for name in arguments.names or names:
        print(f"\n== {name} ==", flush=True)
        stored["figures"][name] = _run(name, arguments)
        stored["tables"] += _tables(name, stored["figures"][name], arguments.rounds)
        arguments.json.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
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


def _tables(name: str, figures: dict[str, dict[str, dict[str, float]]], rounds: int) -> list[dict[str, Any]]:
    """A benchmark's figures as the documentation shows them, a table for each number of rows."""
    title = (ast.get_docstring(ast.parse((HERE / f"bench_{name}.py").read_text("utf-8"))) or name).split(
        "\n"
    )[0]
    tables = []
    for rows, cases in figures.items():
        ours = next(iter(cases.values()))  # each benchmark names ours first
        tables.append(
            {
                "title": f"{title.rstrip('.')}: {int(rows):,} rows",
                "columns": [
                    "case",
                    "seconds",
                    "CPU seconds",
                    "extra MB",
                    "times our seconds",
                    "times our CPU",
                ],
                "rows": [
                    [
                        case.replace("_", " "),
                        f"{cost['wall']:.2f}",
                        f"{cost['cpu']:.2f}",
                        f"{cost['peak_mb']:.0f}",
                        f"{cost['wall'] / ours['wall']:.2f}",
                        f"{cost['cpu'] / ours['cpu']:.2f}",
                    ]
                    for case, cost in cases.items()
                ],
                "note": f"Medians of {rounds} runs, the cases taking turns.",
            }
        )
    return tables


if __name__ == "__main__":
    main()
