"""What is asked of each row, without the rows: pure data, kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from dobatch_pandas.endpoints import endpoint_for

from .prompts import MEMBERS, Column, Template, message_templates, places_of, template
from .schema import AnswerSchema

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """
    What is asked of each row. Make one with `build_recipe`; the fields are what `DobatchAccessor.plan` takes.

    ``kind`` says where the question comes from: ``template``, ``messages``, ``column``, ``series`` or
    ``callable``. ``live`` holds the function or Series; it is not kept on disk.
    """

    kind: str
    prompt: Any
    model: str
    into: str
    system: str | None
    endpoint: str
    provider: str
    schema: AnswerSchema | None
    custom_id: Any
    missing: str
    dedupe: bool
    samples: int
    metadata: dict[str, str] | None
    flatten: bool
    params: dict[str, Any]
    live: Any = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the fields has places that are known by what they are, which no copy is.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    # -- on disk

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes, without the function or Series that a prompt may come from."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("live", "schema")}
        schema = None if self.schema is None else self.schema.to_json()
        return {**{name: _to_json(value) for name, value in kept.items()}, "schema": schema}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Recipe:
        """Make a recipe from what `to_json` returned."""
        schema = kept["schema"]
        values = {name: _from_json(value) for name, value in kept.items() if name != "schema"}
        return cls(**values, schema=None if schema is None else AnswerSchema.from_json(schema))

    @property
    def portable(self) -> bool:
        """
        Whether what a row asks can be computed again, from any frame.

        What a Series held is gone, and a function may say something else today: it is called once, at submit.
        """
        return self.kind in ("template", "messages", "column")

    # -- what follows from it

    @cached_property
    def body(self) -> dict[str, Any]:
        """A request's body, with `Template`, `Column` and `MEMBERS` where a row's values go."""
        endpoint = endpoint_for(self.endpoint, self.provider, self.model)
        system = None if self.system is None else template(self.system, "system text")
        question: dict[Any, Any]
        if self.kind == "template":
            question = endpoint.members(template(self.prompt), system)
        elif self.kind == "messages":
            question = endpoint.members([message_templates(message) for message in self.prompt], system)
        else:
            endpoint.members("", system)
            question = {MEMBERS: True}
        schema = {} if self.schema is None else endpoint.schema_members(self.schema.sent, self.schema.strict)
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
                kind = "j" if isinstance(place, Column) or place is MEMBERS else "f"
                named.setdefault(place, f"{kind}{len(named)}")
        return named

    @property
    def lenient(self) -> Recipe:
        """The same, of rows that may lack a value: one that was added since was not asked, which is no error."""
        return replace(self, missing="skip") if self.missing == "error" else self

    @property
    def answer_options(self) -> dict[str, Any]:
        """What `answer_columns` must know of it."""
        return {
            "into": self.into,
            "samples": self.samples,
            "json_schema": self.schema,
            "flatten": self.flatten,
        }

    @property
    def answer_names(self) -> list[str]:
        """Columns that the answers become, the error columns not among them."""
        names = [self.into] if self.schema is None else self.schema.names(self.flatten)
        return names + [f"{name}_{sample}" for sample in range(2, self.samples + 1) for name in names]

    @property
    def error_names(self) -> list[str]:
        """Columns that say why a row has no answer."""
        suffixes = ["", *(f"_{sample}" for sample in range(2, self.samples + 1))]
        return [f"{self.into}{suffix}_error" for suffix in suffixes]


def _columns_of(place: Any) -> dict[Any, None]:
    if isinstance(place, Template):
        return {column: None for one in place.fields for column in one.columns}
    return {place.name: None} if isinstance(place, Column) else {}


def _to_json(value: Any) -> Any:
    """Write columns and labels that JSON has no words for as objects of one member."""
    if isinstance(value, Column):
        return {"$column": _to_json(value.name)}
    if isinstance(value, tuple):
        return {"$tuple": [_to_json(one) for one in value]}
    if isinstance(value, dict):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, np.generic):  # the name of a column, as an index of numbers has it
        return value.item()
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
