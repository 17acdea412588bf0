"""Evaluations that stay: kept in the home folder, listed, and loaded by name in later sessions."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dobatch_pandas.config import settings
from dobatch_pandas.errors import ConfigurationError, InputError

from .findings import Counts, Evaluation
from .grade import OUTCOMES
from .texts import as_text, clean

__all__ = ["Evaluations", "about_job", "evaluations", "load", "save"]

#: Of the files. A reader knows all that are older; what is newer asks for an upgrade.
FORMAT = 1

_TABLES = ("table", "classes", "confusion", "slices", "fields")


class Evaluations(pd.DataFrame):
    """
    Saved evaluations, the newest first: an ordinary frame, which a notebook shows as a leaderboard.

    Slices of it are plain frames.
    """

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def latest(self) -> pd.DataFrame:
        """Return the newest of each name, the best first."""
        newest = pd.DataFrame(self).drop_duplicates("name")
        return newest.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        from . import report

        return report.leaderboard_html(self)

    def plot(self, kind: str = "time", *, ax: Any = None) -> Any:  # type: ignore[override]
        """
        Draw accuracy with its interval, and return the matplotlib Axes.

        Parameters
        ----------
        kind : {"time", "cost"}
            Over the time of saving, a line a name; or against what the run cost.
        ax : matplotlib.axes.Axes, optional
            Where to draw; None makes a figure.
        """
        from . import plots

        draws = {"time": plots.over_time, "cost": plots.against_cost}
        if kind not in draws:
            raise InputError(f'kind={kind!r} is not one of "time", "cost".')
        return draws[kind](pd.DataFrame(self), ax=ax)


def evaluations() -> Evaluations:
    """
    Return the saved evaluations of this home folder, a line each, the newest first.

    Returns
    -------
    Evaluations
        name, saved, accuracy with its interval, rows, failed, kind, model, prompt, cost, ``data`` (the same for
        runs on the same rows and gold), id. ``dobatch.compare`` takes names and ids.
    """
    lines = []
    for folder in _folders():
        try:
            record = _record(folder)
        except (OSError, ValueError, KeyError, InputError) as problem:
            warnings.warn(f"{folder} is no evaluation that can be read: {problem}", stacklevel=2)
            continue
        first: Any = _frame_of(record["table"]).loc["accuracy"].to_dict()
        about = record["about"]
        lines.append(
            {
                "name": record["name"], "saved": pd.Timestamp(record["saved"]), "accuracy": float(first["value"]),
                "low": float(first["low"]), "high": float(first["high"]), "rows": record["counts"]["counted"],
                "failed": record["counts"]["failed"], "kind": record["kind"], "model": about.get("model"),
                "prompt": about.get("prompt"), "cost": _cost(about.get("cost")), "data": record["data"],
                "id": record["id"],
            }
        )  # fmt: skip
    columns = [
        "name",
        "saved",
        "accuracy",
        "low",
        "high",
        "rows",
        "failed",
        "kind",
        "model",
        "prompt",
        "cost",
    ]
    frame = pd.DataFrame(lines, columns=[*columns, "data", "id"])
    frame["saved"] = pd.to_datetime(frame["saved"], utc=True)
    frame["cost"] = frame["cost"].astype(float)
    return Evaluations(frame.sort_values(["saved", "id"], ascending=False, kind="stable", ignore_index=True))


def _cost(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def save(evaluation: Evaluation, name: str | None, about: Mapping[str, Any]) -> Path:
    """Write an evaluation under the home folder, whole or not at all, readable by its owner only."""
    name = evaluation.name if name is None else name
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(
            f"An evaluation needs a name in words, on one line, to be saved under, not {name!r}."
        )
    kept = {**evaluation.about, **{key: value for key, value in about.items() if key != "job"}}
    if about.get("job") is not None:
        kept = {**about_job(about["job"]), **kept}
    now = datetime.datetime.now(datetime.timezone.utc)
    number = f"{now:%y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = _home() / _folder_name(name) / number
    record = {
        "format": FORMAT, "id": number, "name": name, "saved": now.isoformat(), "data": _data(evaluation),
        "kind": evaluation.kind, "match": evaluation.match, "predicted": evaluation.predicted,
        "actual": evaluation.actual, "error": evaluation.error, "failed": evaluation.failed,
        "tolerance": evaluation.tolerance, "confidence": evaluation.confidence, "rules": dict(evaluation.rules),
        "reduce": evaluation.reduce, "cluster": evaluation.cluster, "notes": list(evaluation.notes),
        "counts": vars(evaluation.counts), "about": {str(k): _plain(v) for k, v in kept.items()},
        "runs": list(evaluation.runs), "columns": [_encoded(column) for column in evaluation.frame.columns],
        "index_names": [_encoded(label) for label in evaluation.frame.index.names],
        **{table: _table_of(getattr(evaluation, table)) for table in _TABLES},
    }  # fmt: skip
    unfinished = folder.parent / f".{number}.partial"
    try:
        _private(folder.parent)
        unfinished.mkdir(mode=0o700)
        pq.write_table(_rows_table(evaluation), _empty(unfinished / "rows.parquet"), compression="zstd")
        pq.write_table(
            _frame_table(evaluation.frame), _empty(unfinished / "frame.parquet"), compression="zstd"
        )
        text = json.dumps(record, ensure_ascii=True, indent=1, allow_nan=True)
        with open(_empty(unfinished / "evaluation.json"), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, folder)
    except BaseException as problem:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(problem, OSError):
            raise ConfigurationError(
                f"The evaluation cannot be saved in {folder.parent}: {problem.strerror or problem}. "
                "Choose another home: dobatch.configure(home=...)."
            ) from problem
        raise
    return folder


def load(name: str) -> Evaluation:
    """
    Return the newest evaluation saved under a name, or the one of an id.

    Raises
    ------
    InputError
        There is none; the message says which there are.
    """
    folder = _find(name)
    record = _record(folder)
    try:
        return _loaded(folder, record)
    except (OSError, KeyError, ValueError, TypeError, IndexError, pa.ArrowException) as problem:
        raise InputError(
            f"The saved evaluation {name!r} in {folder} is damaged ({type(problem).__name__}: {problem}). Delete that "
            "folder, and save the evaluation again."
        ) from problem


def _loaded(folder: Path, record: Mapping[str, Any]) -> Evaluation:
    rows = pq.read_table(folder / "rows.parquet")
    frame = _frame_back(pq.read_table(folder / "frame.parquet"), record, rows)
    runs = {
        run: _run_back(rows, number, frame.index, record["kind"]) for number, run in enumerate(record["runs"])
    }
    tables: dict[str, Any] = {
        name: None if record[name] is None else _frame_of(record[name]) for name in _TABLES
    }
    return Evaluation(
        name=record["name"], kind=record["kind"], match=record["match"], predicted=record["predicted"],
        actual=record["actual"], error=record["error"], failed=record["failed"], tolerance=record["tolerance"],
        confidence=record["confidence"], counts=Counts(**record["counts"]),
        rows=_run_back(rows, -1, frame.index, record["kind"]),
        runs=runs, frame=frame, notes=tuple(record["notes"]), rules=record["rules"], reduce=record["reduce"],
        cluster=record["cluster"], about=record["about"],
        **tables,
    )  # fmt: skip


def about_job(job: Any) -> dict[str, Any]:
    """What a job says of itself that is worth keeping with an evaluation."""
    recipe = job.recipe
    found = {"job": job.id, **{name: getattr(recipe, name, None) for name in _KEPT}}
    found["schema"] = None if recipe.schema is None else recipe.schema.given
    found["prompt"] = _prompt(recipe)
    usage = job.usage()
    found |= {name: getattr(usage, name, None) for name in ("cost", "prompt_tokens", "completion_tokens")}
    return {key: _plain(value) for key, value in found.items() if value not in (None, {}, [])}


_KEPT = ("model", "provider", "endpoint", "system", "params", "samples")


def _prompt(recipe: Any) -> str | None:
    """The template as it was typed, where it is text; else what the body is made of."""
    for name in ("prompt", "source", "body"):
        value = getattr(recipe, name, None)
        if isinstance(value, str):
            return value
        if isinstance(value, (list, dict)) and value:
            return json.dumps(_plain(value), ensure_ascii=False)
    return None


# ---- folders ---------------------------------------------------------------------------------------------------


def _home() -> Path:
    return Path(settings().home) / "evaluations"


def _folder_name(name: str) -> str:
    """A name's folder: readable, and never that of another name or outside of the home."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "evaluation"
    return f"{words}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _private(folder: Path) -> None:
    for part in reversed([folder, *folder.parents]):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)


def _empty(path: Path) -> Path:
    """A new file for its owner alone."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return path


def _folders() -> list[Path]:
    home = _home()
    if not home.is_dir():
        return []
    return [
        run
        for name in sorted(home.iterdir())
        if name.is_dir()
        for run in sorted(name.iterdir())
        if run.is_dir() and not run.name.startswith(".")
    ]


def _find(name: str) -> Path:
    own = _home() / _folder_name(str(name))
    runs = (
        sorted(run for run in own.iterdir() if run.is_dir() and run.name[:1] != ".") if own.is_dir() else []
    )
    if runs:
        return max(runs, key=lambda run: (run.name[:13], _record(run)["saved"]))
    for run in _folders():
        if run.name == name:
            return run
    names = list(dict.fromkeys(_record(run)["name"] for run in _folders()))
    there = (
        f"There are: {', '.join(map(repr, names[:20]))}." if names else "None has been saved in this home."
    )
    raise InputError(f"There is no saved evaluation {name!r}. {there}")


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(
            f"The saved evaluation in {folder} cannot be read ({problem}): delete it."
        ) from problem
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise InputError(f"{folder} holds no saved evaluation: delete it.")
    if record["format"] > FORMAT:
        raise InputError(f"{folder} was saved by a newer version: upgrade dobatch-pandas to read it.")
    return record


def _data(evaluation: Evaluation) -> str:
    """A short name for rows and gold, the same for every run on them."""
    digest = hashlib.sha256()
    gold = evaluation.rows["actual"]
    for label, value in zip(evaluation.rows.index, gold, strict=True):
        digest.update(f"{as_text(label)}\0{as_text(value)}\0".encode("utf-8", "replace"))
    return digest.hexdigest()[:8]


# ---- values ----------------------------------------------------------------------------------------------------


def _encoded(value: Any) -> str:
    """A label or an answer as JSON that `_decoded` reads back."""
    return json.dumps(_typed(value), ensure_ascii=True)


def _typed(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_typed(item) for item in value]
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, (datetime.date, np.datetime64)):
        return {"date": pd.Timestamp(value).isoformat()}
    return as_text(value)


def _decoded(text: str, *, tuples: bool = False) -> Any:
    value = json.loads(text)
    if isinstance(value, dict):
        return Decimal(value["decimal"]) if "decimal" in value else pd.Timestamp(value["date"])
    return tuple(value) if tuples and isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """What is kept about a run, as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return clean(value) if isinstance(value, str) else value
    return value.item() if isinstance(value, np.generic) else clean(str(value))


def _table_of(table: pd.DataFrame | None) -> dict[str, Any] | None:
    if table is None:
        return None
    return {
        "index": [_encoded(label) for label in table.index],
        "index_name": table.index.name,
        "columns": [_encoded(column) for column in table.columns],
        "columns_name": table.columns.name,
        "types": [str(dtype) for dtype in table.dtypes],
        "data": [[_typed(value) for value in table.iloc[:, place]] for place in range(table.shape[1])],
    }


def _frame_of(kept: Mapping[str, Any]) -> pd.DataFrame:
    index = pd.Index([_decoded(label) for label in kept["index"]], name=kept["index_name"])
    if len(index) and index.dtype != object and not all(isinstance(_decoded(x), str) for x in kept["index"]):
        index = index.astype(object) if kept["columns_name"] == "predicted" else index
    columns = [_decoded(column) for column in kept["columns"]]
    series = []
    for dtype, values in zip(kept["types"], kept["data"], strict=True):
        if dtype.startswith(("float", "int", "bool", "Int")):
            series.append(pd.Series(values, index=index, dtype=dtype))
        else:
            series.append(pd.Series(values, index=index, dtype=object))
    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=index)
    frame.columns = pd.Index(
        columns, dtype=object if kept["columns_name"] else None, name=kept["columns_name"]
    )
    return frame


def _rows_table(evaluation: Evaluation) -> pa.Table:
    """Labels of the rows, and each run's graded rows; -1 is what they come to together."""
    columns: dict[str, Any] = {}
    index = evaluation.rows.index
    for level in range(index.nlevels):
        columns[f"label {level}"] = [_encoded(label) for label in index.get_level_values(level)]
    for number, rows in [(-1, evaluation.rows), *enumerate(evaluation.runs.values())]:
        for name in rows.columns:
            values = rows[name]
            if name in ("predicted", "actual"):
                columns[f"{number} {name}"] = [_encoded(value) for value in values]
            elif name in ("outcome", "error"):
                columns[f"{number} {name}"] = pa.array(
                    [None if pd.isna(value) else str(value) for value in values], pa.string()
                )
            else:
                columns[f"{number} {name}"] = values.astype("Float64").astype(float).to_numpy()
    return pa.table(columns)


def _run_back(table: pa.Table, number: int, index: pd.Index[Any], kind: str) -> pd.DataFrame:
    found: dict[str, Any] = {}
    for name in table.column_names:
        head, _, column = name.partition(" ")
        if head != str(number):
            continue
        values = table[name].to_pylist()
        if column in ("predicted", "actual"):
            decoded = [_decoded(value, tuples=True) for value in values]
            if kind == "numbers" and not any(isinstance(v, (Decimal, str)) for v in decoded):
                exact = any(isinstance(v, int) and abs(v) >= 2**53 for v in decoded)
                found[column] = decoded if exact else [math.nan if v is None else float(v) for v in decoded]
            else:
                array = np.empty(len(decoded), dtype=object)
                array[:] = [*decoded] if not any(isinstance(v, tuple) for v in decoded) else array
                for place, value in enumerate(decoded):
                    array[place] = value
                found[column] = array
        elif column == "outcome":
            found[column] = pd.Categorical(values, categories=list(OUTCOMES))
        elif column == "error":
            found[column] = pd.array(values, dtype="string")
        elif column == "correct":
            found[column] = pd.array(
                [None if v is None or v != v else bool(v) for v in values], dtype="boolean"
            )
        else:
            found[column] = np.array([math.nan if v is None else v for v in values], dtype=float)
    return pd.DataFrame(found, index=index)


def _frame_table(frame: pd.DataFrame) -> pa.Table:
    """The frame's columns by position; those that Arrow does not know are kept as text."""
    arrays = []
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        try:
            array = pa.array(column, from_pandas=True)
            if isinstance(array, pa.ChunkedArray):
                array = array.combine_chunks()
            if pa.types.is_dictionary(array.type) or pa.types.is_null(array.type) or _hollow(array.type):
                raise pa.ArrowInvalid("kept as text")
        except (pa.ArrowException, TypeError, ValueError, UnicodeError, OverflowError):
            array = pa.array(
                [
                    None if pd.api.types.is_scalar(v) and pd.isna(v) else as_text(v)
                    for v in column.astype(object)
                ],
                pa.string(),
            )
        arrays.append(array)
    return pa.table(dict(enumerate_names(arrays)))


def _hollow(kind: pa.DataType) -> bool:
    """Whether there is a dict without any field in it, which Parquet does not know."""
    if pa.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_hollow(kind.field(place).type) for place in range(kind.num_fields))


def enumerate_names(arrays: list[Any]) -> list[tuple[str, Any]]:
    """Name arrays by their place: a frame may have two columns of one name."""
    return [(str(place), array) for place, array in enumerate(arrays)]


def _frame_back(table: pa.Table, record: Mapping[str, Any], rows: pa.Table) -> pd.DataFrame:
    levels = [name for name in rows.column_names if name.startswith("label ")]
    labels = [[_decoded(label, tuples=True) for label in rows[level].to_pylist()] for level in levels]
    names = [_decoded(name) for name in record["index_names"]]
    index: pd.Index[Any] = (
        pd.Index(labels[0], name=names[0], tupleize_cols=False)
        if len(labels) == 1
        else pd.MultiIndex.from_arrays(labels, names=names)
    )
    frame = table.to_pandas() if table.num_columns else pd.DataFrame(index=range(len(index)))
    frame.index = index
    columns = [_decoded(name, tuples=True) for name in record["columns"]]
    frame.columns = pd.Index(columns, tupleize_cols=False)
    return frame
