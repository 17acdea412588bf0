"""What is asked of each row, without the rows: checked, kept as JSON, and applied to a frame piece by piece."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa

from dobatch_pandas.endpoints import ENDPOINTS, endpoint_for
from dobatch_pandas.errors import InputError, Problem

from .freeze import freeze, freeze_batches
from .problems import frame_problems, option_problems, param_problems
from .prompts import MEMBERS, Column, Template, message_templates, messages_problem, places_of, template
from .schema import json_schema_of

__all__ = ["Recipe"]


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
        frame: pd.DataFrame | None = None,
    ) -> Recipe:
        """
        Check what can be checked without rows, and fill in what follows from the rest.

        Parameters
        ----------
        frame : pandas.DataFrame, optional
            Looked at only where something else is wrong, so that all there is to mend is said at once.

        Raises
        ------
        InputError
            With every problem found.
        """
        problems = option_problems(model, into, system, missing, samples, metadata, custom_id)
        given = dict(sorted((params or {}).items()))
        json_schema, asked = None, ("template", "", None)
        try:
            json_schema = json_schema_of(schema)
        except InputError as error:
            problems += error.problems
        module = ENDPOINTS[
            "chat"
        ]  # takes everything: no other complaint follows from an endpoint that is wrong
        try:
            if isinstance(model, str):
                module = endpoint_for(endpoint, provider, model)
                problems += param_problems(module, given)
        except InputError as error:
            problems += error.problems
        try:
            asked = _question(prompt, module.ROLES)
            clash = sorted(set(module.schema_members(json_schema)) & set(given)) if json_schema else []
            problems += [f"{name} is set by schema; leave out one of them." for name in clash]
        except InputError as error:
            problems += error.problems
        kind, kept, source = asked
        # A parameter that stood in for the question would hide what is wrong with that.
        usable = {n: _plain_json(v) for n, v in given.items() if not (problems and n in module.RESERVED)}
        recipe = cls(
            kind=kind,
            prompt=kept,
            model=model,
            into=into,
            system=system if isinstance(system, str) else None,
            endpoint=module.URL,
            provider=module.PROVIDER,
            schema=json_schema,
            custom_id=custom_id if isinstance(custom_id, Hashable) else None,
            missing=missing,
            dedupe=bool(dedupe),
            samples=samples if isinstance(samples, int) and samples > 0 else 1,
            metadata=dict(metadata) if isinstance(metadata, Mapping) and metadata else None,
            flatten=bool(flatten),
            params={**module.DEFAULTS, **usable},
            source=source,
        )
        try:
            # Finds templates that do not parse, and questions that the endpoint does not take.
            _ = recipe.body
            if problems and frame is not None:
                problems += recipe.check(frame)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise InputError(problems)
        return recipe

    # -- on disk

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes, without the function or Series that a prompt may come from."""
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self) if f.name != "source"}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Recipe:
        """Make a recipe from what `to_json` returned."""
        return cls(**{name: _from_json(value) for name, value in kept.items()})

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
            question = module.members([message_templates(message) for message in self.prompt], system)
        else:
            module.members("", system)
            question = {MEMBERS: True}
        schema = {} if self.schema is None else module.schema_members(self.schema)
        return {"model": self.model, **question, **schema, **self.params}

    @cached_property
    def columns(self) -> list[Any]:
        """Columns of the frame whose values are needed; a function may look at others, too."""
        names: dict[Any, None] = {}
        for place in places_of(self.body):
            names.update(_columns_of(place))
        if self.kind == "column":
            names[self.prompt] = None
        if self.kind not in ("template", "messages") and self.system is not None:
            names.update(_columns_of(template(self.system, "system text")))
        if self.custom_id is not None:
            names[self.custom_id] = None
        return list(names)

    @cached_property
    def slots(self) -> dict[Any, str]:
        """Names of the frozen columns, by what each holds: a `Field`, a `Column`, or `MEMBERS`."""
        named: dict[Any, str] = {}
        for found in places_of(self.body):
            for place in found.fields if isinstance(found, Template) else [found]:
                kind = "j" if isinstance(place, Column) or place == MEMBERS else "f"
                named.setdefault(place, f"{kind}{len(named)}")
        return named

    @property
    def answer_names(self) -> list[str]:
        """Columns that the answers become, the error columns not among them."""
        names = list((self.schema or {}).get("properties") or [self.into])
        return names + [f"{name}_{sample}" for sample in range(2, self.samples + 1) for name in names]

    # -- applied to rows

    def check(self, frame: pd.DataFrame) -> list[Problem]:
        """Find what is wrong with a frame, without rendering it."""
        return frame_problems(self, frame)

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
        return freeze(self, frame)

    def freeze_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """
        Do what `freeze` does for rows that are in Arrow, a batch for each; errors name rows by their position.

        Parameters
        ----------
        batches : iterable of pyarrow.RecordBatch
        """
        return freeze_batches(self, batches)


def _question(prompt: Any, roles: frozenset[str]) -> tuple[str, Any, Any]:
    """Tell what kind of prompt it is, what of it is kept on disk, and what is not."""
    if isinstance(prompt, str):
        return "template", prompt, None
    if isinstance(prompt, Column):
        return "column", prompt.name, None
    if isinstance(prompt, pd.Series):
        return "series", None, prompt
    if isinstance(prompt, (list, tuple)):
        problem = messages_problem(prompt, roles) if roles else None
        if problem is not None:
            raise InputError(f"The prompt is a list, and {problem}.")
        return "messages", [dict(message) for message in prompt], None
    if callable(prompt):
        return "callable", getattr(prompt, "__qualname__", type(prompt).__name__), prompt
    raise InputError(
        f"The prompt is {type(prompt).__name__} {prompt!r:.60}. It takes a template such as "
        "'Sentiment of: {review}', a list of messages, a function of a row, a Series of prompts, or "
        "dobatch.col('column')."
    )


def _columns_of(place: Any) -> dict[Any, None]:
    if isinstance(place, Template):
        return {column: None for one in place.fields for column in one.columns}
    return {place.name: None} if isinstance(place, Column) else {}


def _plain_json(value: Any) -> Any:
    """A parameter as JSON has it, numpy's numbers as Python's; a `Column` stays where it is."""
    if isinstance(value, Mapping):
        return {str(key): _plain_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_json(inner) for inner in value]
    if isinstance(value, Column) or value is None or isinstance(value, (str, int, float)):
        return value
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:
        return value  # `param_problems` has named it


def _to_json(value: Any) -> Any:
    """Write columns and labels that JSON has no words for as objects of one member."""
    if isinstance(value, Column):
        return {"$column": _to_json(value.name)}
    if isinstance(value, tuple):
        return {"$tuple": [_to_json(one) for one in value]}
    if isinstance(value, dict):
        return {key: _to_json(inner) for key, inner in value.items()}
    return [_to_json(one) for one in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$column"}:
        return Column(_from_json(value["$column"]))
    if set(value) == {"$tuple"}:
        return tuple(_from_json(one) for one in value["$tuple"])
    return {key: _from_json(inner) for key, inner in value.items()}
