"""
Is B really better than A? The same rows in every run, and what noise alone would give.

    evaluations --join on index or key--> values a row --paired statistics--> Comparison
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from . import paired
from . import verdict as verdicts
from .comparison import Comparison, Metric
from .evaluation import Evaluation, Noise
from .extras import need
from .score import slice_groups

__all__ = ["compare"]


def compare(
    a: Evaluation,
    b: Evaluation,
    *more: Evaluation,
    key: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    noise: float | Evaluation | None = None,
    metric: Metric | None = None,
    names: Sequence[str] | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
    resamples: int = 9_999,
    seed: int = 0,
    small: int = 30,
) -> Comparison:
    """
    Return whether ``b`` (and ``more``) are better than ``a`` on the rows that are in every run.

    Parameters
    ----------
    a, b, *more : Evaluation
        What `score` gave. ``a`` is what the others are measured against.
    key : str or sequence of str, optional
        Columns that tell which row is which; None takes the frames' index. Must not repeat.
    by : str or sequence of str, optional
        Columns of the first frame to slice wins and losses by.
    noise : float or Evaluation, optional
        The model's own noise: the share of rows whose being right changes when the same is asked
        again, or the evaluation of such a repetition of ``a``. None takes it from repeated
        samples, where there are any.
    metric : {"accuracy", "mae", "score"}, optional
        What to compare. None: MAE for numbers without a tolerance, the mean score for texts matched by a
        share, else accuracy.
    names : sequence of str, optional
        What to call the runs.
    confidence, power : float
        Of the intervals and tests; of the number of rows that would tell.
    resamples, seed : int
        Of the bootstrap (`scipy.stats.bootstrap`, percentile).
    small : int
        Slices of fewer rows are marked.

    Raises
    ------
    InputError
        Repeated keys, or gold that is not the same in every run: all problems at once.
    """
    runs = (a, b, *more)
    called = _names(runs, names)
    metric = metric or _metric(runs)
    problems = _check(runs, key, metric)
    if problems:
        raise InputError(problems)
    joined = _join(runs, called, key)
    usable = (joined.status == "counted").all(axis=1).to_numpy().copy()
    if metric == "mae":
        for graded in joined.graded.values():
            usable &= graded["outcome"].isin(["correct", "wrong"]).to_numpy()
    values = {name: _values(graded[usable], metric) for name, graded in joined.graded.items()}
    _check_gold(joined, usable)

    alpha = 1 - confidence
    settings = {"confidence": confidence, "resamples": resamples, "seed": seed}
    table = _table(joined, usable, values, metric, settings)
    rows = _rows(joined, usable, values, metric)
    first, last = values[called[0]], values[called[-1]]
    measured = _noise(runs[0], runs, noise, called, joined, usable)
    band = math.nan
    if measured is not None and metric == "accuracy":
        band = paired.noise_band(measured.outcomes, len(rows), confidence=confidence)
    differences = last - first
    if metric == "accuracy":
        discordant = float(np.mean(differences != 0)) if len(rows) else 0.0
        difference = float(np.mean(differences)) if len(rows) else 0.0
        needed = paired.rows_needed(difference, discordant, alpha=alpha, power=power)
        smallest = paired.detectable(len(rows), discordant, alpha=alpha, power=power)
    else:
        needed, smallest = paired.rows_needed_for_mean(differences, alpha=alpha, power=power), math.nan
    verdict, sign = verdicts.verdict(
        table, metric=metric, alpha=alpha, band=band, needed=needed, smallest=smallest, power=power
    )
    columns = [by] if isinstance(by, str) else list(by or [])
    groups = {name: slice_groups(runs[0].frame[name]) for name in columns}
    unmatched = joined.status[~usable]
    return Comparison(
        metric=metric,
        verdict=verdict,
        verdict_sign=sign,
        table=table,
        slices=_slices(joined, usable, groups, values, metric, settings, small) if columns else None,
        rows=rows,
        unmatched=unmatched,
        crossed=_crossed(first, last) if len(runs) == 2 and metric == "accuracy" else None,
        noise=measured,
        noise_band=band,
        needed=needed,
        detectable=smallest,
        evaluations=runs,
        notes=tuple(verdicts.notes(measured, band, unmatched, len(rows))),
    )


@dataclass(frozen=True)
class _Joined:
    """Every key of any run: its status, and its graded row in each run (null where it is absent)."""

    status: pd.DataFrame
    graded: dict[str, pd.DataFrame]
    places: pd.Series[Any]  # position of the key in the first run's frame, -1 where absent


def _names(runs: tuple[Evaluation, ...], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if len(names) != len(runs) or len(set(names)) != len(runs):
            raise InputError(f"names={list(names)!r} must hold {len(runs)} different names, one a run.")
        return list(names)
    own = [run.name for run in runs]
    taken = {"actual", "change"}
    return (
        own
        if len(set(own)) == len(runs) and not taken & set(own)
        else [f"run {n}" for n in range(1, len(runs) + 1)]
    )


def _metric(runs: tuple[Evaluation, ...]) -> Metric:
    if all(run.kind == "numbers" and not run.tolerance for run in runs):
        return "mae"
    shares = any(not run.rows["score"].dropna().isin([0.0, 1.0]).all() for run in runs)
    return "score" if shares else "accuracy"


def _check(runs: tuple[Evaluation, ...], key: str | Sequence[str] | None, metric: str) -> list[Problem]:
    problems = []
    columns = [key] if isinstance(key, str) else list(key or [])
    for place, run in enumerate(runs, 1):
        missing = [column for column in columns if column not in run.frame.columns]
        if missing:
            problems.append(
                Problem(f"Run {place} ({run.name!r}) has no key column {', '.join(map(repr, missing))}.")
            )
            continue
        keys = _keys(run, key)
        repeated = keys[keys.duplicated(keep=False)]
        if len(repeated):
            what = f"key={key!r}" if key is not None else "The index"
            cure = (
                "Choose columns that tell rows apart"
                if key is not None
                else "Give key=, or reset_index() first"
            )
            problems.append(
                Problem(
                    f"{what} repeats in run {place} ({run.name!r}), so rows cannot be paired. {cure}.",
                    tuple(repeated.unique()[:10]),
                    len(repeated),
                )
            )
        if metric == "mae" and run.kind != "numbers":
            problems.append(
                Problem(f"metric='mae' needs numbers; run {place} ({run.name!r}) holds {run.kind}.")
            )
    if metric not in ("accuracy", "mae", "score"):
        problems.append(Problem(f'metric={metric!r} is not one of "accuracy", "mae", "score".'))
    if len({run.failed for run in runs}) > 1:
        problems.append(
            Problem("Failed rows count as wrong in one run and are left out in another: score both alike.")
        )
    return problems


def _keys(run: Evaluation, key: str | Sequence[str] | None) -> pd.Index[Any]:
    if key is None:
        return run.frame.index
    return (
        pd.Index(run.frame[key]) if isinstance(key, str) else pd.MultiIndex.from_frame(run.frame[list(key)])
    )


def _join(runs: tuple[Evaluation, ...], called: list[str], key: str | Sequence[str] | None) -> _Joined:
    all_keys = [_keys(run, key) for run in runs]
    union = all_keys[0]
    for keys in all_keys[1:]:
        # The first run's order, then what it lacks.
        union = union.append(keys[union.get_indexer(keys) < 0])
    status, graded = {}, {}
    for name, run, keys in zip(called, runs, all_keys, strict=True):
        rows = run.rows.set_axis(keys).reindex(union)
        outcome = rows["outcome"].astype(object)
        words = pd.Series("counted", index=union, dtype=object)
        words[outcome.isna().to_numpy()] = "absent"
        words[(outcome == "unlabelled").to_numpy()] = "unlabelled"
        if run.failed == "exclude":
            words[(outcome == "failed").to_numpy()] = "failed, left out"
        status[name], graded[name] = words, rows
    places = pd.Series(all_keys[0].get_indexer(union), index=union)
    return _Joined(pd.DataFrame(status, index=union), graded, places)


def _values(graded: pd.DataFrame, metric: Metric) -> np.ndarray[Any, Any]:
    if metric == "accuracy":
        return (graded["outcome"] == "correct").to_numpy(float)
    if metric == "mae":
        return np.asarray(np.abs(graded["predicted"].to_numpy(float) - graded["actual"].to_numpy(float)))
    return graded["score"].fillna(0.0).to_numpy(float)


def _check_gold(joined: _Joined, usable: np.ndarray[Any, Any]) -> None:
    gold = [graded.loc[usable, "actual"].map(str) for graded in joined.graded.values()]
    differs = np.zeros(int(usable.sum()), dtype=bool)
    for other in gold[1:]:
        differs |= other.to_numpy(object) != gold[0].to_numpy(object)
    if differs.any():
        rows = tuple(gold[0].index[differs][:10])
        raise InputError(
            Problem(
                "The gold answers are not the same in every run: a difference would not be the model's. "
                "Check the key, or score every run against the same column.",
                rows,
                int(differs.sum()),
            )
        )


def _table(
    joined: _Joined,
    usable: np.ndarray[Any, Any],
    values: dict[str, np.ndarray[Any, Any]],
    metric: Metric,
    settings: dict[str, Any],
) -> pd.DataFrame:
    names = list(values)
    first = values[names[0]]
    lines = {}
    for name in names:
        ours = values[name]
        line: dict[str, Any] = {
            "value": float(np.mean(ours)) if len(ours) else math.nan,
            "failed": int((joined.graded[name][usable]["outcome"] == "failed").sum()),
            "rows": len(ours),
        }
        if name != names[0]:
            wins, losses = _wins_and_losses(first, ours, metric)
            low, high = paired.paired_interval(first, ours, **settings)
            line |= {
                "difference": float(np.mean(ours - first)) if len(ours) else math.nan,
                "difference_low": low,
                "difference_high": high,
                "p": paired.mcnemar_p(wins, losses) if metric == "accuracy" and len(ours) else math.nan,
                "wins": wins,
                "losses": losses,
            }
        lines[name] = line
    columns = [
        "value",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "p_holm",
        "wins",
        "losses",
        "failed",
        "rows",
    ]
    table = pd.DataFrame.from_dict(lines, orient="index").reindex(columns=columns).rename_axis("run")
    table["p_holm"] = table["p"]
    tested = table["p"].notna().to_numpy()
    if tested.sum() > 1:
        multitest = need("statsmodels.stats.multitest", "Comparing runs")
        table.loc[tested, "p_holm"] = multitest.multipletests(table.loc[tested, "p"], method="holm")[1]
    return table.astype({"wins": "Int64", "losses": "Int64"})


def _wins_and_losses(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], metric: Metric
) -> tuple[int, int]:
    more, less = int((second > first).sum()), int((second < first).sum())
    return (less, more) if metric == "mae" else (more, less)


def _rows(
    joined: _Joined, usable: np.ndarray[Any, Any], values: dict[str, np.ndarray[Any, Any]], metric: Metric
) -> pd.DataFrame:
    names = list(values)
    graded = {name: rows[usable] for name, rows in joined.graded.items()}
    first, last = names[0], names[-1]
    columns = {"actual": graded[first]["actual"]}
    for name in names:
        columns[name] = graded[name]["predicted"]
        columns[f"{name}_outcome"] = graded[name]["outcome"]
    answers = [graded[name]["predicted"].map(str).to_numpy(object) for name in names]
    other = np.zeros(len(answers[0]), dtype=bool)
    for answer in answers[1:]:
        other |= answer != answers[0]
    better = values[last] < values[first] if metric == "mae" else values[last] > values[first]
    worse = values[last] > values[first] if metric == "mae" else values[last] < values[first]
    change = np.select([better, worse, other], ["win", "loss", "other answer"], "same")
    frame = pd.DataFrame(columns)
    frame["change"] = pd.Categorical(change, categories=["win", "loss", "other answer", "same"])
    return frame


def _crossed(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> pd.DataFrame:
    counts = [[int(((first == a) & (second == b)).sum()) for b in (True, False)] for a in (True, False)]
    return pd.DataFrame(counts, index=[True, False], columns=[True, False])


def _slices(
    joined: _Joined,
    usable: np.ndarray[Any, Any],
    groups: dict[str, pd.Series[Any]],
    values: dict[str, np.ndarray[Any, Any]],
    metric: Metric,
    settings: dict[str, Any],
    small: int,
) -> pd.DataFrame:
    names = list(values)
    places = joined.places.to_numpy()[usable]  # every usable row is in the first run
    lines = []
    for column, all_groups in groups.items():
        group_of = all_groups.to_numpy(object)[places]
        for group in sorted(set(group_of)):
            inside = group_of == group
            first = values[names[0]][inside]
            for name in names[1:]:
                ours = values[name][inside]
                wins, losses = _wins_and_losses(first, ours, metric)
                low, high = paired.paired_interval(first, ours, **settings)
                line = {
                    "column": column, "slice": group, "run": name,
                    "rows": len(ours), "wins": wins, "losses": losses,
                    "difference": float(np.mean(ours - first)), "low": low, "high": high,
                    "p": paired.mcnemar_p(wins, losses) if metric == "accuracy" else math.nan,
                    "small": len(ours) < small,
                }  # fmt: skip
                lines.append(line)
    table = pd.DataFrame(lines)
    return table.sort_values("rows", ascending=False, kind="stable", ignore_index=True) if lines else table


def _noise(
    a: Evaluation,
    runs: tuple[Evaluation, ...],
    said: float | Evaluation | None,
    called: list[str],
    joined: _Joined,
    usable: np.ndarray[Any, Any],
) -> Noise | None:
    if isinstance(said, Evaluation):
        positions = joined.places.to_numpy()[usable]
        ours, again = a.rows.iloc[positions], said.rows
        if not a.frame.index.equals(said.frame.index):
            raise InputError(
                "noise= must be an evaluation of the same rows as the first run, in the same order."
            )
        again = again.iloc[positions]
        answers = float(
            (ours["predicted"].map(str).to_numpy() != again["predicted"].map(str).to_numpy()).mean()
        )
        outcomes = float(
            ((ours["outcome"] == "correct").to_numpy() != (again["outcome"] == "correct").to_numpy()).mean()
        )
        return Noise(2, len(ours), answers, outcomes)
    if said is not None:
        if not 0 <= said <= 1:
            raise InputError(f"noise={said!r} must be a share of rows, from 0 to 1.")
        return Noise(0, 0, math.nan, float(said))
    known = [noise for run in runs if (noise := run.noise) is not None and noise.pairs]
    if not known:
        return None
    pairs = sum(noise.pairs for noise in known)
    return Noise(
        max(noise.samples for noise in known),
        pairs,
        sum(noise.answers * noise.pairs for noise in known) / pairs,
        sum(noise.outcomes * noise.pairs for noise in known) / pairs,
    )
