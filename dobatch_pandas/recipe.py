"""What is asked of each row, without the rows: checked, kept as JSON, and applied to a frame piece by piece."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InputError, Problem
from .prompts import (
    Column,
    Faulty,
    Template,
    as_json,
    evaluate,
    messages_problem,
    template,
    text_column,
)
from .providers import endpoint_for
from .schema import json_schema_of

__all__ = ["MEMBERS", "Recipe"]

FIRST_ROWS = 1_024
MOST_ROWS = 16_384
PIECE_BYTES = 8_000_000
MEMBERS = "*"  # the place in a body where a row brings its own question
_ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MISSING = ("error", "skip", "keep")


class _Row(dict[str, Any]):
    """What a prompt function gets: the row's values by name, ``row["review"]`` or ``row.review``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}") from None


@dataclass(frozen=True)
class Recipe:
    """
    What is asked of each row. Make one with `build`; the fields are what `DobatchAccessor.plan` takes.

    ``kind`` says where the question comes from: ``template``, ``messages``, ``column``, ``series`` or
    ``callable``. ``source`` holds the function or Series; it is not kept on disk.
    """

    kind: str
    prompt: Any
    model: str
    into: str
    system: str | None
    endpoint: str
    provider: str
    schema: dict[str, Any] | None
    custom_id: Any
    missing: str
    dedupe: bool
    samples: int
    metadata: dict[str, str] | None
    flatten: bool
    params: dict[str, Any]
    source: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def build(
        cls,
        prompt: Any,
        *,
        model: str,
        into: str = "response",
        system: str | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        schema: Any = None,
        custom_id: Any = None,
        missing: str = "error",
        dedupe: bool = True,
        samples: int = 1,
        metadata: Mapping[str, str] | None = None,
        flatten: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """
        Check what can be checked without rows, and fill in what follows from the rest.

        Raises
        ------
        InputError
            With every problem found.
        """
        if not isinstance(model, str) or not model:
            raise InputError(f"model is {model!r}; it takes the name of a model.")
        problems: list[Problem | str] = []
        module = endpoint_for(endpoint, provider, model)
        given = dict(sorted((params or {}).items()))
        problems += _option_problems(into, system, missing, samples, metadata, module, given)
        given = {**module.DEFAULTS, **given}
        try:
            json_schema = json_schema_of(schema)
            clash = sorted(set(module.schema_members(json_schema)) & set(given)) if json_schema else []
            problems += [f"{name} is set by schema; leave out one of them." for name in clash]
        except InputError as error:
            problems += error.problems
        try:
            kind, kept, source = _question(prompt)
        except InputError as error:
            problems += error.problems
        if problems:
            raise InputError(problems)
        recipe = cls(
            kind=kind,
            prompt=kept,
            model=model,
            into=into,
            system=system,
            endpoint=module.URL,
            provider=module.PROVIDER,
            schema=json_schema,
            custom_id=custom_id,
            missing=missing,
            dedupe=bool(dedupe),
            samples=samples,
            metadata=dict(metadata) if metadata else None,
            flatten=bool(flatten),
            params=given,
            source=source,
        )
        # Finds templates that do not parse, and questions that the endpoint does not take.
        _ = recipe.body
        return recipe

    # -- on disk

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes, without the function or Series that a prompt may come from."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "source"}
        kept["params"] = {
            name: {"$column": value.name} if isinstance(value, Column) else value
            for name, value in self.params.items()
        }
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Recipe:
        """Make a recipe from what `to_json` returned."""
        params = {
            name: Column(value["$column"]) if isinstance(value, dict) and set(value) == {"$column"} else value
            for name, value in kept["params"].items()
        }
        return cls(**{**kept, "params": params})

    @property
    def portable(self) -> bool:
        """Whether it can be applied to any frame: not where the prompts come from a Series or a lost function."""
        return self.kind in ("template", "messages", "column") or (
            self.kind == "callable" and self.source is not None
        )

    # -- what follows from it

    @cached_property
    def body(self) -> dict[str, Any]:
        """A request's body, with `Template`, `Column` and `MEMBERS` where a row's values go."""
        module = endpoint_for(self.endpoint, self.provider, self.model)
        system = None if self.system is None else template(self.system, "system text")
        if self.kind == "template":
            question = module.members(template(self.prompt), system)
        elif self.kind == "messages":
            question = module.members([_templates(message) for message in self.prompt], system)
        else:
            module.members("", system)
            question = {MEMBERS: True}
        schema = {} if self.schema is None else module.schema_members(self.schema)
        return {"model": self.model, **question, **schema, **self.params}

    @cached_property
    def columns(self) -> list[Any]:
        """Columns of the frame whose values are needed; all of them where a function is asked."""
        names: dict[Any, None] = {}
        for found in _walk(self.body):
            if isinstance(found, Template):
                names.update((column, None) for one in found.fields for column in one.columns)
            elif isinstance(found, Column):
                names[found.name] = None
        if self.kind == "column":
            names[self.prompt] = None
        if self.kind not in ("template", "messages") and self.system is not None:
            names.update((column, None) for one in template(self.system).fields for column in one.columns)
        if self.custom_id is not None:
            names[self.custom_id] = None
        return list(names)

    @property
    def answer_names(self) -> list[str]:
        """Columns that the answer becomes, the error column not among them."""
        properties = (self.schema or {}).get("properties")
        return list(properties) if properties else [self.into]

    # -- applied to rows

    def check(self, frame: pd.DataFrame) -> list[Problem]:
        """Find what is wrong with a frame, without rendering it."""
        problems = [Problem("The frame has no rows.")] if frame.empty and len(frame) == 0 else []
        unknown = [name for name in self.columns if name not in frame.columns]
        problems += [Problem(_unknown(name, frame.columns)) for name in unknown]
        for name in self.columns:
            if name in unknown:
                continue
            if isinstance(frame[name], pd.DataFrame):
                problems.append(Problem(f"The frame has several columns named {name!r}."))
            elif name == self.custom_id:
                problems += _id_problems(frame[name], self.provider)
            elif self.missing == "error":
                problems += _missing(frame[name])
        used = [name for name in self.answer_names if name in self.columns]
        problems += [
            Problem(f"The answer would replace column {name!r}, which the prompt uses: choose another name.")
            for name in used
        ]
        if self.kind == "series":
            problems += _series_problems(self.source, frame, self.missing)
        return problems

    def freeze(self, frame: pd.DataFrame) -> Iterator[pa.RecordBatch]:
        """
        Evaluate everything of the user's over a frame, piece by piece.

        Yields
        ------
        pyarrow.RecordBatch
            Text (``f0`` ...) and JSON (``j0`` ...) for each place in the body that differs from row to row, and
            ``custom_id`` where the ids are the user's own. Null in a row that has nothing to ask.

        Raises
        ------
        InputError
            At the end, with every row that cannot be asked.
        """
        faulty = Faulty()
        start, rows = 0, FIRST_ROWS
        needed = frame if self.kind == "callable" else frame[self.columns]
        while start < len(frame):
            piece = needed.iloc[start : start + rows]
            batch = self._freeze(piece, start, faulty)
            yield batch
            start += len(piece)
            # So many rows at a time that memory stays flat, whatever their length.
            rows = int(np.clip(PIECE_BYTES // max(_text_bytes(batch) // len(piece), 1), 1, MOST_ROWS))
        if faulty:
            raise InputError(faulty.problems())

    def freeze_batch(self, batch: pa.RecordBatch, first: int = 0) -> pa.RecordBatch:
        """
        Do what `freeze` does for rows that are in Arrow.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
        first : int
            Position of its first row, by which errors name rows.
        """
        texts = {kind: pd.StringDtype("pyarrow") for kind in (pa.string(), pa.large_string())}
        piece = batch.to_pandas(types_mapper=texts.get)
        piece.index = pd.RangeIndex(first, first + len(piece))
        faulty = Faulty()
        frozen = self._freeze(piece, first, faulty)
        if faulty:
            raise InputError(faulty.problems())
        return frozen

    @cached_property
    def slots(self) -> dict[Any, str]:
        """Names of the frozen columns, by what each holds: a `Field`, a `Column`, or `MEMBERS`."""
        named: dict[Any, str] = {}
        for found in _walk(self.body):
            if isinstance(found, float):
                continue  # the same for every row
            places = found.fields if isinstance(found, Template) else [found]
            for place in places:
                if place not in named:
                    kind = "j" if isinstance(place, Column) or place == MEMBERS else "f"
                    named[place] = f"{kind}{len(named)}"
        return named

    def _freeze(self, piece: pd.DataFrame, start: int, faulty: Faulty) -> pa.RecordBatch:
        labels = piece.index
        asked = [name for name in self.columns if name != self.custom_id]
        gone = piece[asked].isna().to_numpy() if asked else np.zeros((len(piece), 0), bool)
        absent = gone.any(axis=1)
        if self.missing == "error" and absent.any():
            for row in np.flatnonzero(absent):
                names = [asked[i] for i in np.flatnonzero(gone[row])]
                faulty.add(f"A value is missing in {', '.join(map(repr, names))}.", labels[row])
        present = np.ones(len(piece), bool) if self.missing == "keep" else ~absent
        frozen: dict[str, pa.Array] = {}
        for place, name in self.slots.items():
            if place == MEMBERS:
                frozen[name] = self._members(piece, start, present, faulty)
            elif isinstance(place, Column):
                values = (None if missing else value for value, missing in _values(piece[place.name]))
                frozen[name] = as_json(values, labels, present, faulty, f"The value of {place.name!r}")
            else:
                frozen[name] = self._text(place, piece, present, faulty)
        if self.custom_id is not None:
            ids = piece[self.custom_id].tolist()
            frozen["custom_id"] = pa.array([str(i) for i in ids], pa.string())
        elif not frozen:
            frozen["row"] = pa.array(np.ones(len(piece), bool))
        return pa.record_batch(frozen)

    def _text(self, place: Any, piece: pd.DataFrame, present: Any, faulty: Faulty) -> pa.Array:
        found = text_column(piece[place.columns[0]]) if place.simple else None
        if found is None:
            columns = {name: piece[name] for name in place.columns}
            if self.missing != "keep":
                return evaluate(place, columns, piece.index, present, faulty)
            # A missing value stands for an empty string, whatever its format.
            whole = ~np.logical_or.reduce([column.isna().to_numpy() for column in columns.values()])
            return pc.fill_null(evaluate(place, columns, piece.index, whole, faulty), "")
        if self.missing == "keep":
            return pc.fill_null(found, "")
        return (
            found
            if present.all()
            else pc.if_else(pa.array(present), found, pa.scalar(None, pa.large_string()))
        )

    def _members(self, piece: pd.DataFrame, start: int, present: Any, faulty: Faulty) -> pa.Array:
        """The question's part of the body, for prompts that differ from row to row in more than values."""
        module = endpoint_for(self.endpoint, self.provider, self.model)
        system = None if self.system is None else template(self.system)
        rows = [
            _Row(zip(piece.columns, values, strict=True))
            for values in zip(*(piece[c].tolist() for c in piece), strict=True)
        ]
        rows = rows or [_Row() for _ in range(len(piece))]
        prompts = self._prompts(piece, start, rows, faulty)
        out: list[bytes | None] = []
        for number, prompt in enumerate(prompts):
            label = piece.index[number]
            if not present[number] or _is_missing(prompt):
                if self.missing == "keep" and present[number]:
                    prompt = ""
                else:
                    if self.missing == "error" and present[number]:
                        faulty.add("There is no prompt (None or missing).", label)
                    out.append(None)
                    continue
            if not isinstance(prompt, str):
                prompt = list(prompt) if isinstance(prompt, (tuple, np.ndarray)) else prompt
                problem = messages_problem(prompt)
                if problem is not None:
                    faulty.add(f"The prompt is {prompt!r:.60}: {problem}.", label)
                    out.append(None)
                    continue
            try:
                words = None if system is None else system.evaluate(rows[number])
                members = module.members(prompt, words)
                out.append(orjson.dumps(members, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
            except (InputError, TypeError, ValueError) as error:
                faulty.add(str(error), label)
                out.append(None)
        return pa.array(out, pa.large_binary())

    def _prompts(self, piece: pd.DataFrame, start: int, rows: list[_Row], faulty: Faulty) -> list[Any]:
        if self.kind == "series":
            return list(self.source.iloc[start : start + len(piece)])
        if self.kind == "column":
            return [_decoded(value) for value in piece[self.prompt].tolist()]
        prompts: list[Any] = []
        for number, row in enumerate(rows):
            try:
                prompts.append(self.source(row))
            except Exception as error:  # noqa: BLE001  the user's own function may raise anything; the row is named
                faulty.add(f"The prompt function raised {type(error).__name__}: {error}", piece.index[number])
                prompts.append("")
        return prompts


def _question(prompt: Any) -> tuple[str, Any, Any]:
    """Tell what kind of prompt it is, what of it is kept on disk, and what is not."""
    if isinstance(prompt, str):
        return "template", prompt, None
    if isinstance(prompt, Column):
        return "column", prompt.name, None
    if isinstance(prompt, pd.Series):
        return "series", None, prompt
    if isinstance(prompt, (list, tuple)):
        problem = messages_problem(prompt)
        if problem is not None:
            raise InputError(f"The prompt is a list, and {problem}.")
        return "messages", [dict(message) for message in prompt], None
    if callable(prompt):
        return "callable", getattr(prompt, "__qualname__", type(prompt).__name__), prompt
    raise InputError(
        f"The prompt is {type(prompt).__name__} {prompt!r:.60}. It takes a template such as 'Sentiment of: {{review}}', "
        "a list of messages, a function of a row, a Series of prompts, or dobatch.col('column')."
    )


def _option_problems(
    into: Any, system: Any, missing: Any, samples: Any, metadata: Any, module: Any, params: dict[str, Any]
) -> list[Problem | str]:
    problems: list[Problem | str] = []
    if not isinstance(into, str) or not into:
        problems.append(f"into is {into!r}; it takes the name of a column.")
    if system is not None and not isinstance(system, str):
        problems.append(f"system is {type(system).__name__}; it takes a text, or a template over columns.")
    if missing not in _MISSING:
        problems.append(f"missing is {missing!r}; it takes 'error', 'skip' or 'keep'.")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        problems.append(f"samples is {samples!r}; it takes a whole number from 1 on.")
    if metadata is not None and not all(isinstance(x, str) for pair in dict(metadata).items() for x in pair):
        problems.append("metadata takes texts only, for names and values.")
    problems += [
        f"{name} is set by this package and cannot be given." for name in params if name in module.RESERVED
    ]
    problems += module.problems({**module.DEFAULTS, **params})
    for name, value in params.items():
        if isinstance(value, Column):
            continue
        try:
            orjson.dumps(value)
        except TypeError as error:
            problems.append(f"{name} is not JSON: {error}. One value a row is dobatch.col('column').")
            continue
        if any(isinstance(one, float) and not math.isfinite(one) for one in _walk({name: value})):
            problems.append(f"{name} is {value!r}; JSON has no such number.")
    return problems


def _templates(message: Mapping[str, Any]) -> dict[str, Any]:
    """Parse a message's text, or its text parts."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": template(content)}
    if isinstance(content, list):
        parts = [
            {**part, "text": template(part["text"])} if isinstance(part, Mapping) and "text" in part else part
            for part in content
        ]
        return {**message, "content": parts}
    return dict(message)


def _walk(value: Any) -> Iterator[Any]:
    """Yield the leaves of a nested value that may differ from row to row, and the plain ones."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == MEMBERS:
                yield MEMBERS
            else:
                yield from _walk(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _walk(inner)
    elif isinstance(value, (Template, Column, float)):
        yield value


def _unknown(name: Any, columns: pd.Index) -> str:
    known = [str(column) for column in columns]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no column {name!r}.{hint} The columns are {', '.join(map(repr, known[:30]))}."


def _missing(values: pd.Series) -> list[Problem]:
    gone = values.isna().to_numpy()
    if not gone.any():
        return []
    count = int(gone.sum())
    return [
        Problem(
            f"Column {values.name!r} has {count:,} missing value{'s' if count > 1 else ''}. Drop the rows, or say "
            'missing="skip" (no request, the row gets an error code) or missing="keep" (an empty string).',
            tuple(values.index[gone][:20]),
            count,
        )
    ]


def _id_problems(values: pd.Series, provider: str) -> list[Problem]:
    problems = []
    gone = values.isna().to_numpy()
    texts = values.astype(str)
    repeated = texts.duplicated(keep=False).to_numpy() & ~gone
    illegal = np.zeros(len(values), bool)
    rule = "be a text that is not empty"
    if provider == "anthropic":
        illegal = ~texts.map(lambda text: bool(_ANTHROPIC_ID.fullmatch(text))).to_numpy(bool) & ~gone
        rule = "be 1 to 64 letters, digits, '_' or '-'"
    else:
        illegal = (texts == "").to_numpy() & ~gone
    for rows, what in (
        (gone, "is missing"),
        (repeated, "stands in several rows; ids must be unique, or leave out custom_id to have them made"),
        (illegal, f"is not legal; an id must {rule}"),
    ):
        if rows.any():
            shown = ", ".join(repr(text) for text in dict.fromkeys(texts[rows].head(5)))
            problems.append(
                Problem(
                    f"Column {values.name!r} as custom_id: {int(rows.sum()):,} id(s) wrong, {shown} {what}.",
                    tuple(values.index[rows][:20]),
                    int(rows.sum()),
                )
            )
    return problems


def _series_problems(prompts: Any, frame: pd.DataFrame, missing: str) -> list[Problem]:
    if prompts is None:
        return [Problem("The Series of prompts is not kept on disk: submit the frame again.")]
    if len(prompts) != len(frame):
        return [Problem(f"The Series has {len(prompts):,} prompts and the frame {len(frame):,} rows.")]
    if not prompts.index.equals(frame.index):
        return [
            Problem("The Series of prompts has another index than the frame: align it with reindex first.")
        ]
    return _missing(prompts.rename(prompts.name or "prompt")) if missing == "error" else []


def _values(values: pd.Series) -> Iterator[tuple[Any, bool]]:
    return zip(values.tolist(), values.isna(), strict=True)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _decoded(value: Any) -> Any:
    """A column may hold messages as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _text_bytes(batch: pa.RecordBatch) -> int:
    lengths = [
        pc.sum(pc.binary_length(batch[name])).as_py() or 0 for name in batch.schema.names if name[0] in "fj"
    ]
    return int(sum(lengths))
