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

from . import significance
from . import verdict as verdicts
from .findings import Comparison, Evaluation, Metric, Noise
from .given import is_real, is_whole, named_columns
from .groups import Groups, slice_groups
from .saved import load
from .significance import LEAST_CLUSTERS, LEAST_ROWS, Paired, cluster_codes, holm, paired
from .texts import as_text, is_missing
from .verdict import WORDS, Settled

__all__ = ["compare"]


def compare(
    a: Evaluation | str,
    b: Evaluation | str,
    *more: Evaluation | str,
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
    a, b, *more : Evaluation or str
        What `score` gave, or the names of saved evaluations. ``a`` is what the others are measured against. Where
        it was scored with ``cluster=``, rows that belong together are allowed for here too.
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
        share and for lists, else accuracy.
    names : sequence of str, optional
        What to call the runs.
    confidence, power : float
        Of the intervals and tests; of the number of rows that would tell.
    resamples, seed : int
        Of the permutation test, where there are too many permutations to try all.
    small : int
        Slices of fewer rows are marked.

    Raises
    ------
    InputError
        Repeated keys, runs that were graded by different rules, or gold that is not the same in every run.

    Notes
    -----
    Accuracies of one answer a row are told by McNemar's exact test; means, shares and clusters by a sign-flip
    permutation test, or from 500 rows on by Student's t test. All p of one table are corrected by Holm's
    method, and the intervals are at the level at which it decides. No verdict is given below 10 rows.
    """
    others = [type(run).__name__ for run in (a, b, *more) if not isinstance(run, (Evaluation, str))]
    if others:
        raise InputError(
            f"compare() takes what score() gave, or names of saved evaluations, not {', '.join(others)}."
        )
    runs = tuple(load(run) if isinstance(run, str) else run for run in (a, b, *more))
    called = _names(runs, names)
    metric = metric or _metric(runs)
    problems = _check(runs, key, metric)
    problems += _option_problems(runs[0], by, confidence, power, resamples)
    if problems:
        raise InputError(problems)
    joined = _join(runs, called, key)
    usable = (joined.status == "counted").all(axis=1).to_numpy().copy()
    if metric == "mae":
        for graded in joined.graded.values():
            usable &= graded["outcome"].isin(["correct", "wrong"]).to_numpy()
    values = {
        name: _values(graded[usable], metric, run.reduce)
        for (name, graded), run in zip(joined.graded.items(), runs, strict=True)
    }
    _check_gold(joined, usable)

    alpha = 1 - confidence
    codes = _clusters(runs, joined, usable)
    rows = _rows(joined, usable, values, metric)
    measured = _noise(runs[0], runs, noise, called, joined, usable)
    band = math.nan
    if measured is not None and metric == "accuracy":
        band = significance.noise_band(measured.outcomes, len(rows), confidence=confidence)
        # The mean of k answers moves less than one answer, for which the noise was measured.
        band /= math.sqrt(min(len(run.runs) if run.reduce == "mean" else 1 for run in runs) or 1)
    first, last = values[called[0]], values[called[-1]]
    flips: dict[str, Any] = {"shares": metric != "mae", "resamples": resamples, "seed": seed}
    tested = [paired(first, values[name], codes=codes, **flips) for name in called[1:]]
    lines, levels = _told(tested, metric, alpha, band)
    table = _table(joined, usable, values, lines)
    needed = _needed(tested[-1], lines[-1], metric, levels[-1], power, band)
    said = Settled(
        metric=metric,
        test=tested[-1].test,
        alpha=alpha,
        power=power,
        band=band,
        clusters=tested[-1].clusters,
        needed=needed[0],
        needed_as_seen=needed[1],
        smallest=needed[2],
    )
    verdict, sign = verdicts.sentence(table, said)
    columns = named_columns(runs[0].frame, by)
    groups = {name: slice_groups(runs[0].frame[name]) for name in columns}
    unmatched = joined.status[~usable]
    slices = None
    if columns:
        slices = _slices(joined, usable, groups, values, metric, alpha, codes, small, flips)
    notes = verdicts.notes(measured, band, unmatched, len(rows))
    if len(tested) > 1:
        notes.append(f"p_holm and the intervals are corrected for {len(tested)} comparisons (Holm).")
    if slices is not None and len(slices) > 1:
        notes.append(_slice_note(slices, alpha))
    binary = metric == "accuracy" and all(bool(np.isin(found, (0.0, 1.0)).all()) for found in (first, last))
    own = {column for run in runs for column in (run.predicted, run.actual, run.error, *run.runs)}
    beside = runs[0].frame.iloc[joined.places.to_numpy()[usable]]
    inputs = beside.loc[:, [name not in own for name in beside.columns]]
    return Comparison(
        metric=metric,
        verdict=verdict,
        verdict_sign=sign,
        table=table,
        slices=slices,
        rows=rows,
        unmatched=unmatched,
        crossed=_crossed(first, last) if len(runs) == 2 and binary else None,
        noise=measured,
        noise_band=band,
        needed=needed[0],
        needed_as_seen=needed[1],
        detectable=needed[2],
        evaluations=runs,
        notes=tuple(notes),
        test=tested[-1].test,
        confidence=confidence,
        inputs=inputs,
    )


def _told(
    tested: Sequence[Paired], metric: str, alpha: float, band: float
) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """
    Decide every difference once, for sentence, table, picture and report.

    A difference is told where Holm's p says so and its interval leaves 0 out and it lies beyond the band that
    repeated identical requests give, on enough rows. Where the test does not tell, the interval holds 0.
    """
    corrected, levels = holm([found.p for found in tested], alpha)
    lines = []
    for found, p_holm, level in zip(tested, corrected, levels, strict=True):
        low, high = found.interval(1 - level)
        enough = found.rows >= LEAST_ROWS and (found.clusters is None or found.clusters >= LEAST_CLUSTERS)
        sure = enough and p_holm < alpha and (low > 0 or high < 0)
        if not sure:
            low, high = min(low, 0.0), max(high, 0.0)
        sign = 0
        if sure and not abs(found.difference) <= band:
            sign = 1 if (found.difference > 0) == (metric != "mae") else -1
        wins, losses = (found.losses, found.wins) if metric == "mae" else (found.wins, found.losses)
        lines.append(
            {
                "difference": found.difference, "difference_low": low, "difference_high": high,
                "p": found.p, "p_holm": p_holm, "verdict": WORDS[sign], "wins": wins, "losses": losses,
            }
        )  # fmt: skip
    return lines, levels


def _needed(
    found: Paired, line: dict[str, Any], metric: str, level: float, power: float, band: float
) -> tuple[tuple[float, float], float, float]:
    """Rows that would tell: the range that is plausible, as seen, and what these rows can tell."""
    rows = found.rows
    nothing = ((math.nan, math.nan), math.nan, math.nan)
    if not rows:
        return nothing
    low, high = line["difference_low"], line["difference_high"]
    ends = sorted((abs(low), abs(high)))
    if low <= 0 <= high:
        ends[0] = 0.0
    smallest = math.nan
    if found.test == "McNemar":
        discordant = (found.wins + found.losses) / rows
        reach = 0.0 if math.isnan(band) else band * math.sqrt(rows)

        def needed(size: float) -> float:
            return significance.rows_needed(size, max(discordant, size), alpha=level, power=power, band=reach)

        smallest = significance.detectable(rows, discordant, alpha=level, power=power)
    else:
        spread = found.spread * math.sqrt(rows)

        def needed(size: float) -> float:
            return significance.rows_needed_for_mean(size, spread, alpha=level, power=power)

    floor = rows + 1 if line["verdict"] == WORDS[0] else LEAST_ROWS
    bounds = (max(floor, needed(ends[1])), max(floor, needed(ends[0])))
    return bounds, max(floor, needed(found.difference)), smallest


def _clusters(
    runs: tuple[Evaluation, ...],
    joined: _Joined,
    usable: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any] | None:
    """Which rows belong together, as the first run that knows has it."""
    for run_of, run in enumerate(runs):
        if run.cluster is not None and run.cluster in run.frame.columns:
            places = joined.keys[run_of].get_indexer(joined.status.index[usable])
            return cluster_codes(run.frame[run.cluster])[places]
    return None


@dataclass(frozen=True)
class _Joined:
    """Every key of any run: its status, and its graded row in each run (null where it is absent)."""

    status: pd.DataFrame
    graded: dict[str, pd.DataFrame]
    places: pd.Series[Any]  # position of the key in the first run's frame, -1 where absent
    keys: list[pd.Index[Any]]  # of each run's rows


def _names(runs: tuple[Evaluation, ...], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        called = list(names) if pd.api.types.is_list_like(names) else []
        if len(called) != len(runs) or len(set(called)) != len(runs):
            raise InputError(f"names={names!r} must hold {len(runs)} different names, one a run.")
        return called
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
    graded = [rows for run in runs for rows in (run.runs.values() or [run.rows])]
    shares = any(not rows["score"].dropna().isin([0.0, 1.0]).all() for rows in graded)
    return "score" if shares else "accuracy"


def _option_problems(
    first: Evaluation, by: str | Sequence[str] | None, confidence: Any, power: Any, resamples: Any
) -> list[Problem]:
    problems = []
    for column in named_columns(first.frame, by):
        if int((first.frame.columns == column).sum()) != 1:
            there = ", ".join(map(repr, first.frame.columns))
            problems.append(
                Problem(f"The first run has not one column {column!r}. The columns are: {there}.")
            )
    for name, value in (("confidence", confidence), ("power", power)):
        if not is_real(value) or not 0 < value < 1:
            problems.append(Problem(f"{name}={value!r} must lie between 0 and 1, such as 0.8."))
    if not is_whole(resamples) or resamples < 1:
        problems.append(
            Problem(f"resamples={resamples!r} must be a whole number, 1 or more; 9999 is the default.")
        )
    return problems


def _rule_problems(runs: tuple[Evaluation, ...]) -> list[Problem]:
    """Which rules differ, since then a difference would be theirs and not the model's."""
    differing = []
    for rule in dict.fromkeys(rule for run in runs for rule in run.rules):
        values = [run.rules.get(rule) for run in runs]
        if any(value != values[0] for value in values):
            places = ", ".join(f"{value!r} in {run.name!r}" for run, value in zip(runs, values, strict=True))
            differing.append(f"{rule} is {places}")
    oracle = [run for run in runs if len(run.runs) > 1 and run.reduce == "any"]
    if oracle and len(oracle) < len(runs):
        differing.append(f"one correct sample of many is enough in {oracle[0].name!r} only (reduce='any')")
    if not differing:
        return []
    return [
        Problem(
            f"The runs were graded by different rules, so a difference would not be the model's: "
            f"{'; '.join(differing)}. Failed rows, kinds and matches must be alike: score both alike."
        )
    ]


def _check(runs: tuple[Evaluation, ...], key: str | Sequence[str] | None, metric: str) -> list[Problem]:
    problems = []
    for place, run in enumerate(runs, 1):
        missing = [column for column in named_columns(run.frame, key) if column not in run.frame.columns]
        if missing:
            problems.append(
                Problem(f"Run {place} ({run.name!r}) has no key column {', '.join(map(repr, missing))}.")
            )
            continue
        what = f"key={key!r}" if key is not None else "The index"
        try:
            keys = _keys(run, key)
            repeated = keys[keys.duplicated(keep=False)]
        except (TypeError, ValueError) as odd:
            words = (
                f"{what} tells no rows apart in run {place} ({run.name!r}): {odd}. Make texts of it first."
            )
            problems.append(Problem(words))
            continue
        if len(repeated):
            cure = (
                "Choose columns that tell rows apart"
                if key is not None
                else "Give key=, or reset_index() first"
            )
            problems.append(
                Problem(
                    f"{what} repeats in run {place} ({run.name!r}), so rows cannot be paired. {cure}.",
                    tuple(repeated.unique()[:10].tolist()),
                    len(repeated),
                )
            )
        if metric == "mae" and run.kind != "numbers":
            problems.append(
                Problem(f"metric='mae' needs numbers; run {place} ({run.name!r}) holds {run.kind}.")
            )
    if metric not in ("accuracy", "mae", "score"):
        problems.append(Problem(f'metric={metric!r} is not one of "accuracy", "mae", "score".'))
    return problems + _rule_problems(runs)


def _keys(run: Evaluation, key: str | Sequence[str] | None) -> pd.Index[Any]:
    columns = named_columns(run.frame, key)
    if len(columns) > 1:
        return pd.MultiIndex.from_arrays([_labels(run.frame[name]) for name in columns], names=columns)
    return _labels(run.frame[columns[0]] if columns else run.frame.index)


def _labels(values: pd.Series[Any] | pd.Index[Any]) -> pd.Index[Any]:
    """Labels that can be looked up in another run: lists and dicts as texts, and what is missing by one name."""
    index = values if isinstance(values, pd.Index) else pd.Index(values)
    if isinstance(index, pd.MultiIndex) or not (index.dtype.kind == "O" or index.hasnans):
        return index
    labels = [
        "(missing)" if is_missing(label)
        else as_text(label) if isinstance(label, (list, set, dict, np.ndarray)) else label
        for label in index.astype(object)
    ]  # fmt: skip
    return pd.Index(labels, dtype=object, name=index.name, tupleize_cols=False)


def _join(runs: tuple[Evaluation, ...], called: list[str], key: str | Sequence[str] | None) -> _Joined:
    all_keys = _alike([_keys(run, key) for run in runs])
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
    return _Joined(pd.DataFrame(status, index=union), graded, places, all_keys)


def _alike(all_keys: list[pd.Index[Any]]) -> list[pd.Index[Any]]:
    """Keys as texts where they share nothing as they are: a saved run has no more of a Period than its text."""
    first, *others = all_keys
    if all(not len(first) or not len(keys) or (keys.get_indexer(first) >= 0).any() for keys in others):
        return all_keys
    texts = [pd.Index([as_text(label) for label in keys], dtype=object, name=keys.name) for keys in all_keys]
    shared = any((keys.get_indexer(texts[0]) >= 0).any() for keys in texts[1:] if keys.is_unique)
    return texts if shared and all(keys.is_unique for keys in texts) else all_keys


def _values(graded: pd.DataFrame, metric: Metric, reduce: str) -> np.ndarray[Any, Any]:
    """What each row adds to the metric: all its samples where they are averaged."""
    if metric == "accuracy":
        if reduce == "mean" and "share" in graded:
            return graded["share"].to_numpy(float)
        return (graded["outcome"] == "correct").to_numpy(float)
    if metric == "mae":
        if "distance" in graded:
            return graded["distance"].to_numpy(float)
        return np.asarray(np.abs(graded["predicted"].to_numpy(float) - graded["actual"].to_numpy(float)))
    return graded["score"].fillna(0.0).to_numpy(float)


def _check_gold(joined: _Joined, usable: np.ndarray[Any, Any]) -> None:
    gold = [graded.loc[usable, "actual"].map(as_text) for graded in joined.graded.values()]
    differs = np.zeros(int(usable.sum()), dtype=bool)
    for other in gold[1:]:
        differs |= other.to_numpy(object) != gold[0].to_numpy(object)
    if differs.any():
        rows = tuple(gold[0].index[differs][:10].tolist())
        raise InputError(
            Problem(
                "The gold answers are not the same in every run: a difference would not be the model's. "
                "Check the key, or score every run against the same column.",
                rows,
                int(differs.sum()),
            )
        )


_COLUMNS = [
    "value", "difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "wins", "losses",
    "failed", "rows",
]  # fmt: skip


def _table(
    joined: _Joined,
    usable: np.ndarray[Any, Any],
    values: dict[str, np.ndarray[Any, Any]],
    told: list[dict[str, Any]],
) -> pd.DataFrame:
    lines = {}
    for name, differing in zip(values, [{}, *told], strict=True):
        ours = values[name]
        lines[name] = {
            "value": float(np.mean(ours)) if len(ours) else math.nan,
            "failed": int((joined.graded[name][usable]["outcome"] == "failed").sum()),
            "rows": len(ours),
            **differing,
        }
    table = pd.DataFrame.from_dict(lines, orient="index").reindex(columns=_COLUMNS).rename_axis("run")
    return table.astype({"wins": "Int64", "losses": "Int64", "verdict": object})


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
    answers = [graded[name]["predicted"].map(as_text).to_numpy(object) for name in names]
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
    groups: dict[str, Groups],
    values: dict[str, np.ndarray[Any, Any]],
    metric: Metric,
    alpha: float,
    codes: np.ndarray[Any, Any] | None,
    small: int,
    flips: dict[str, Any],
) -> pd.DataFrame:
    """Every group's difference; all of them are one family for the correction."""
    names = list(values)
    places = joined.places.to_numpy()[usable]  # every usable row is in the first run
    heads: list[dict[str, Any]] = []
    tested: list[Paired] = []
    for column, all_groups in groups.items():
        group_of = all_groups.codes[places]
        for code, group in enumerate(all_groups.names):
            inside = group_of == code
            if not inside.any():
                continue
            for name in names[1:]:
                first, ours = values[names[0]][inside], values[name][inside]
                within = None if codes is None else codes[inside]
                tested.append(paired(first, ours, codes=within, **flips))
                heads.append({"column": column, "slice": group, "run": name, "rows": len(ours)})
    told, _ = _told(tested, metric, alpha, math.nan)
    lines = [
        {
            **head,
            "wins": found["wins"], "losses": found["losses"], "difference": found["difference"],
            "low": found["difference_low"], "high": found["difference_high"], "p": found["p"],
            "p_holm": found["p_holm"], "verdict": found["verdict"], "small": head["rows"] < small,
        }
        for head, found in zip(heads, told, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def _slice_note(slices: pd.DataFrame, alpha: float) -> str:
    told = slices[slices["verdict"] != WORDS[0]]
    words = ", ".join(f"{line['column']} = {line['slice']}" for line in told.head(5).to_dict("records"))
    which = f"told apart on: {words}" if len(told) else "told apart on none"
    return (
        f"{len(slices)} slices were looked at, {which}. p_holm and the intervals are corrected for their number "
        f"(Holm); without it {len(slices) * alpha:.1g} would stand out by chance."
    )


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
        if not len(ours):
            return Noise(2, 0, math.nan, math.nan)
        answers = float(
            (ours["predicted"].map(as_text).to_numpy() != again["predicted"].map(as_text).to_numpy()).mean()
        )
        outcomes = float(
            ((ours["outcome"] == "correct").to_numpy() != (again["outcome"] == "correct").to_numpy()).mean()
        )
        return Noise(2, len(ours), answers, outcomes)
    if said is not None:
        if not is_real(said) or not 0 <= said <= 1:
            raise InputError(f"noise={said!r} must be a share of rows, from 0 to 1, or an evaluation.")
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
