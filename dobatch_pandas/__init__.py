"""
Rows in, answers back on the same rows: batch LLM inference for pandas, from a notebook.

Importing this registers ``df.dobatch``. See `dobatch_pandas.accessor.DobatchAccessor` for what it offers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .accessor import DobatchAccessor
from .answers.by_hand import read_results
from .answers.join import matrix
from .config import configure
from .errors import DobatchError, InputError
from .job.job import Job, attach
from .job.listing import batches, jobs, spending
from .job.submit import submit_dataset
from .plan import Plan
from .questions.prompts import col
from .service import Client

if TYPE_CHECKING:
    from . import datasets, evals
    from .evals import Comparison, Evaluation, compare, evaluations
    from .magics import load_ipython_extension
    from .prices import Prices
    from .server import LocalServer

__version__ = "0.2.0"

__all__ = [
    "Client",
    "Comparison",
    "DobatchAccessor",
    "DobatchError",
    "Evaluation",
    "InputError",
    "Job",
    "LocalServer",
    "Plan",
    "Prices",
    "attach",
    "batches",
    "col",
    "compare",
    "configure",
    "datasets",
    "errors",
    "evals",
    "evaluations",
    "jobs",
    "load_ipython_extension",
    "matrix",
    "read_results",
    "spending",
    "submit_dataset",
]

# Loaded when first asked for: the server, IPython and the statistics are not everyone's.
_LATER = {
    "Comparison": "evals",
    "Evaluation": "evals",
    "LocalServer": "server",
    "Prices": "prices",
    "compare": "evals",
    "evaluations": "evals",
    "load_ipython_extension": "magics",
}


def __getattr__(name: str) -> Any:
    if name in ("datasets", "evals"):
        return import_module(f".{name}", __name__)
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
