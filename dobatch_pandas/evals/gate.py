"""Is this run good enough? For CI, as an exception or an exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dobatch_pandas.errors import InputError, RequirementNotMet

from .compare import compare
from .findings import Evaluation
from .given import is_real
from .saved import load
from .verdict import points

__all__ = ["require"]

_ERRORS = ("mae", "rmse", "days_off")


def require(
    evaluation: Evaluation,
    *,
    against: str | Evaluation | None,
    margin: float | None,
    least: Mapping[str, float],
) -> Evaluation:
    """Raise `RequirementNotMet` with all that falls short; return the evaluation where nothing does."""
    if not least and against is None and margin is None:
        raise InputError('Say what is required: accuracy=0.9, or against="name of a saved evaluation".')
    unknown = [name for name in least if name not in evaluation.table.index]
    if unknown:
        there = ", ".join(evaluation.table.index)
        raise InputError(f"There is no metric {', '.join(map(repr, unknown))}. The metrics are: {there}.")
    for name, value in [*least.items(), *([("margin", margin)] if margin is not None else [])]:
        if not is_real(value):
            raise InputError(f"{name}={value!r} must be a number.")
    for name, value in least.items():
        if value > 1 and not evaluation[name] > 1 and name not in _ERRORS:
            raise InputError(f"{name}={value!r}: shares go from 0 to 1, so 90 % is 0.9.")
    if margin is not None and (against is None or margin < 0):
        raise InputError(f"margin={margin!r} goes with against=, and must be 0 or above.")
    short = []
    for name, wanted in least.items():
        value = evaluation[name]
        good = value <= wanted if name in _ERRORS else value >= wanted
        if not good:  # NaN is not good either
            side = "at most" if name in _ERRORS else "at least"
            short.append(f"{name} is {value:.4g}, and {side} {wanted:g} is required")
    if against is not None:
        found = compare(
            load(against) if isinstance(against, str) else against, evaluation, names=["before", "now"]
        )
        line: Any = found.table.loc["now"].to_dict()
        if not found.rows_used:
            short.append(f"no row is in both this run and {against!r}, so nothing shows that it is not worse")
        elif found.verdict_sign < 0:
            short.append(found.verdict)
        elif margin is not None:
            worst = -line["difference_high"] if found.metric == "mae" else line["difference_low"]
            if not worst > -margin:
                unit = "points" if found.metric == "accuracy" else found.metric.upper()
                short.append(
                    f"it may be worse by {points(-float(worst), found.metric, sign=False)} {unit}, and at most "
                    f"{points(margin, found.metric, sign=False)} is allowed ({found.verdict})"
                )
    if short:
        raise RequirementNotMet(f"{evaluation.name}: " + "; ".join(short) + ".")
    return evaluation
