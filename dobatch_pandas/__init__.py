"""
Rows in, answers back on the same rows: batch LLM inference for pandas, from a notebook.

Importing this registers ``df.dobatch``. See `dobatch_pandas.accessor.DobatchAccessor` for what it offers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .accessor import DobatchAccessor
from .config import VERSION, configure
from .errors import DobatchError, InputError

if TYPE_CHECKING:
    from . import datasets, evals
    from .answers.by_hand import read_results
    from .answers.join import matrix
    from .evals import Comparison, Evaluation, compare, evaluations
    from .job.job import Job, attach
    from .job.listing import batches, jobs, spending
    from .job.submit import submit_dataset
    from .magics import load_ipython_extension
    from .plan import Plan
    from .prices import Prices
    from .questions.prompts import col
    from .server import LocalServer
    from .service import Client

__version__ = VERSION

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

# Loaded when first asked for: an import beside pandas must not be felt, and the server, IPython and the statistics are not
# everyone's.
_LATER = {
    "Client": "service",
    "Comparison": "evals",
    "Evaluation": "evals",
    "Job": "job.job",
    "LocalServer": "server",
    "Plan": "plan",
    "Prices": "prices",
    "attach": "job.job",
    "batches": "job.listing",
    "col": "questions.prompts",
    "compare": "evals",
    "evaluations": "evals",
    "jobs": "job.listing",
    "load_ipython_extension": "magics",
    "matrix": "answers.join",
    "read_results": "answers.by_hand",
    "spending": "job.listing",
    "submit_dataset": "job.submit",
}
_MODULES = ("datasets", "evals", "prices", "server")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _LATER:
        found = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
