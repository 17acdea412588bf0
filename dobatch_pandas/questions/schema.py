"""
What an answer shall look like: a pydantic model, a JSON Schema, a response format or a short form.

An `AnswerSchema` keeps apart what the user gave, by which answers are judged, and what is sent: a JSON Schema of the
kind that strict decoding takes, where the one can be written as the other.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from dobatch_pandas.errors import InputError

from .prompts import json_default, ordered
from .schema_check import resolve, schema_problems
from .strict import strict_form

__all__ = ["AnswerSchema", "answer_schema_of"]

_DECIMAL = {"anyOf": [{"type": "number"}, {"type": "string", "format": "decimal"}]}

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    decimal.Decimal: _DECIMAL,
    list: {"type": "array"},
    dict: {"type": "object"},
}


@dataclass(frozen=True)
class AnswerSchema:
    """
    What an answer shall look like.

    Parameters
    ----------
    given : dict
        JSON Schema of what the user gave, by which answers are judged and columns are typed.
    sent : dict
        JSON Schema that goes into the request.
    loose : list of str
        Why strict decoding cannot be asked for; empty where it can.
    name : str, optional
        Of the pydantic model, by which it is found again: ``module:Name``.
    model : type, optional
        The pydantic model itself; not kept on disk.
    """

    given: dict[str, Any]
    sent: dict[str, Any]
    loose: list[str] = field(default_factory=list)
    name: str | None = None
    model: Any = field(default=None, compare=False, repr=False)

    @property
    def strict(self) -> bool:
        """Whether strict decoding is asked for."""
        return not self.loose

    def names(self, flatten: bool) -> list[str]:
        """Columns that an answer becomes."""
        return [name for key in _properties(self.given, self.given) for name in self._below(key, flatten)]

    def _below(self, key: str, flatten: bool) -> list[str]:
        found: list[str] = []

        def walk(name: str, schema: Any, around: tuple[int, ...]) -> None:
            inner = _properties(schema, self.given) if flatten and len(around) <= 16 else {}
            # An object that may stand within itself is one column.
            if id(inner) in around:
                inner = {}
            for child, part in inner.items():
                walk(f"{name}.{child}", part, (*around, id(inner)))
            if not inner:
                found.append(name)

        fields = _properties(self.given, self.given)
        walk(key, fields[key], (id(fields),))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"given": self.given, "sent": self.sent, "loose": self.loose, "name": self.name}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> AnswerSchema:
        """
        Make a schema from what `to_json` returned, or from what version 0.1 kept: what was sent, and no more.

        The pydantic model is found again where a class of its name is defined in this process and asks for the same.
        """
        if "given" not in kept or "sent" not in kept:
            return cls(dict(kept), dict(kept))
        name, given = kept.get("name"), kept["given"]
        return cls(given, kept["sent"], kept["loose"], name, _model_called(name, given))


def _properties(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of an object, or of an object that may be null, as they stand in the schema."""
    schema = resolve(schema, root)
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list):
        solid = [part for part in options if resolve(part, root).get("type") != "null"]
        schema = resolve(solid[0], root) if len(solid) == 1 else {}
    fields = schema.get("properties")
    return fields if isinstance(fields, Mapping) else {}


# Not every class can be found by its name: local ones, those that a call made, several of one name.
_models: dict[tuple[str, bytes], Any] = {}


def _key(name: str, given: Any) -> tuple[str, bytes]:
    return name, json.dumps(given, sort_keys=True).encode()


def _model_called(name: str | None, given: Any) -> Any:
    if not name:
        return None
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for word in path.split("."):
        found = getattr(found, word, None)
    try:
        same = hasattr(found, "model_json_schema") and _given_by(found) == given
    except Exception:  # noqa: BLE001  a class of the user's that has that name by chance may do anything
        same = False
    return found if same else _models.get(_key(name, given))


def answer_schema_of(schema: Any) -> AnswerSchema | None:
    """
    Understand what an answer shall look like.

    Parameters
    ----------
    schema : pydantic model class, mapping or None
        A model class; a JSON Schema (it has a ``type`` that is a word, or ``properties``); a response format with
        one inside; or the short form, field names with types: ``{"label": ["pos", "neg"], "score": float,
        "stars": range(1, 6), "tags": [str], "why": (str, "in one sentence")}``.

    Raises
    ------
    InputError
        A field's type is not understood, or the schema is none.
    """
    if schema is None:
        return None
    schema, loose = _unwrapped(schema)
    model = schema if _is_model(schema) else None
    given = _given_by(schema)
    problems = schema_problems(given)
    if problems:
        raise InputError(problems)
    if "properties" not in given and given.get("type") is None and given.keys() & {"anyOf", "oneOf"}:
        raise InputError(
            "The schema is a choice between several. An answer is an object of named fields: make the choice one of them, "
            '{"answer": {"anyOf": [...]}}.'
        )
    if "properties" not in given and len(given.get("allOf", ())) > 1:
        raise InputError(
            "The schema is made of several by allOf. An answer is an object of named fields: write all of them in one object."
        )
    if "properties" not in given and given.keys() & {"$ref", "allOf"}:
        # A model that refers to itself stands among its own definitions.
        kept: dict[str, Any] = {name: given[name] for name in ("$defs", "definitions") if name in given}
        # A copy, as it is after a round trip to disk too: what is one object decides how deep it becomes columns.
        given = {**deepcopy(resolve(given, given)), **kept}
    if given.get("type", "object") != "object" or not isinstance(given.get("properties"), Mapping):
        raise InputError(
            f"The schema describes {given.get('type', 'no object')!r} without fields. An answer is an object of named "
            'fields; give a single value a name: {"label": ["pos", "neg"]}.'
        )
    sent, reasons = strict_form(given)
    loose += reasons
    name = None
    if model is not None:
        name = f"{model.__module__}:{model.__qualname__}"
        _models[_key(name, given)] = model
    # Services want to be told that it is an object, however loosely it is decoded.
    return AnswerSchema(given, {"type": "object", **given} if loose else sent, loose, name, model)


def _is_model(schema: Any) -> bool:
    return isinstance(schema, type) and hasattr(schema, "model_json_schema")


_WRAPPERS = ("response_format", "output_format", "output_config", "text", "format")


def _unwrapped(schema: Any) -> tuple[Any, list[str]]:
    """The JSON Schema in a response format as services take it, and why that is not strict."""
    loose: list[str] = []
    if not isinstance(schema, Mapping):
        return schema, loose
    inner = schema
    while len(inner) == 1 and isinstance(
        below := next((inner[word] for word in _WRAPPERS if word in inner), None), Mapping
    ):
        inner = below
    if inner is not schema and isinstance(inner, Mapping) and ("type" in inner or "json_schema" in inner):
        schema = inner
    kind = schema.get("type")
    if kind == "json_object" and len(schema) == 1:
        raise InputError(
            'schema is {"type": "json_object"}, which names no fields: give those, {"label": ["pos", "neg"]}, or '
            "response_format= as a parameter, and read the text."
        )
    if kind in ("json_schema", "function") and isinstance(
        inner := schema.get("json_schema", schema.get("function")), Mapping
    ):
        schema = inner
    inner = schema.get("schema", schema.get("parameters", schema.get("input_schema")))
    wrapped = {
        "name",
        "type",
        "schema",
        "strict",
        "description",
        "parameters",
        "input_schema",
        "cache_control",
    }
    # Not every service wants a name.
    named = isinstance(schema.get("name"), str) or kind in ("json_schema", "function")
    if isinstance(inner, Mapping) and named and set(schema) <= wrapped:
        if schema.get("strict") is False:
            loose.append("the response format says so")
        schema = inner
    return schema, loose


def _given_by(schema: Any) -> dict[str, Any]:
    """The JSON Schema of what a user gave, an object at its root."""
    if isinstance(schema, Mapping) and schema and not _is_json_schema(schema):
        return _plain(_hoisted(_object(schema, "schema")))
    if not _is_model(schema) and not (isinstance(schema, Mapping) and schema):
        raise InputError(
            f"schema is {schema!r}. It takes a pydantic model, a JSON Schema, or field names with types such as "
            '{"label": ["pos", "neg"], "score": float}.'
        )
    kept = dict(schema) if isinstance(schema, Mapping) else _of_model(schema)
    if "$ref" in kept:
        # Providers want the object itself at the root; a model that refers to itself is given as a reference.
        definitions = kept.get("$defs", {})
        kept = {**resolve(kept, kept), "$defs": definitions}
        if "properties" not in kept:
            raise InputError(f"The schema is a reference that leads nowhere: {schema.get('$ref')!r}.")
    return _plain(_hoisted(kept))


def _of_model(model: Any) -> dict[str, Any]:
    """The JSON Schema of a pydantic model; a Decimal in it can be told from a union of number and text."""
    from pydantic.errors import PydanticUserError
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> Any:
            found = super().decimal_schema(schema)
            for part in found.get("anyOf", [found]):
                if part.get("type") == "string":
                    part["format"] = "decimal"
            return found

    try:
        made: dict[str, Any] = model.model_json_schema(schema_generator=Generator)
    except Exception as error:  # a class of the user's may raise anything
        why = error.message if isinstance(error, PydanticUserError) else f"{type(error).__name__}: {error}"
        raise InputError(f"The model {model.__name__} has no JSON Schema: {why.rstrip('.')}.") from error
    return made


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as JSON has it, texts for tuples and all; its keys in the order in which they stand."""
    try:
        found: dict[str, Any] = orjson.loads(
            orjson.dumps(schema, default=json_default, option=orjson.OPT_SERIALIZE_NUMPY)
        )
    except (TypeError, RecursionError) as error:
        raise InputError(f"The schema is not JSON: {error}.") from error
    return found


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    return (
        isinstance(schema.get("properties"), Mapping)
        or isinstance(schema.get("$ref"), str)
        or isinstance(schema.get("type"), str)
        or (
            set(schema) <= {"anyOf", "oneOf", "allOf", "$defs", "$schema", "$id", "title", "description"}
            and _is_json_schema_inside(schema)
        )
    )


def _is_json_schema_inside(kind: Mapping[str, Any]) -> bool:
    """Whether it is JSON Schema, not fields of an object that are called like keywords."""
    if not any(
        word in kind for word in ("type", "$ref", "enum", "const", "anyOf", "oneOf", "allOf")
    ) or not _fits(kind):
        return False
    try:
        json.dumps(kind)
    except TypeError:  # a Python type, somewhere
        return False
    return True


def _fits(schema: Any) -> bool:
    """Whether what stands at the keywords is what JSON Schema has there."""
    return isinstance(schema, bool) or (
        isinstance(schema, Mapping)
        and all(fits(schema[word]) for word, fits in _FITTING.items() if word in schema)
    )


_TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")


def _fitting_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_fits, value))


_FITTING: dict[str, Callable[[Any], bool]] = {
    "type": lambda value: all(name in _TYPES for name in (value if isinstance(value, list) else [value])),
    "$ref": lambda value: isinstance(value, str),
    "enum": lambda value: isinstance(value, list),
    "anyOf": _fitting_list,
    "oneOf": _fitting_list,
    "allOf": _fitting_list,
    "properties": lambda value: isinstance(value, Mapping) and all(map(_fits, value.values())),
    "items": _fits,
}


def _object(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    for name in fields:
        if not isinstance(name, str):
            raise InputError(f"In {path}, the field name {name!r} is not a string.")
    return {
        "type": "object",
        "properties": {name: _field(kind, f"{path}[{name!r}]") for name, kind in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }


def _field(kind: Any, path: str) -> dict[str, Any]:
    if not isinstance(kind, type) and (hasattr(kind, "tolist") or isinstance(kind, (set, frozenset))):
        # Labels as a frame or a set holds them.
        return _enum(list(dict.fromkeys(kind.tolist())) if hasattr(kind, "tolist") else ordered(kind), path)
    if kind in (types.NoneType, None):
        return {"type": "null"}
    if kind is Any:
        return {}
    if isinstance(kind, type) and kind in _SIMPLE:
        return {**_SIMPLE[kind]}
    if _is_model(kind):
        return _of_model(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum([member.value for member in kind], path)
    if isinstance(kind, range):
        return _whole_numbers(kind, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _annotated(arguments[0], arguments[1:], path)
    if origin is typing.Literal:
        return _enum(arguments, path)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_field(one, path) for one in arguments]}
    if origin in (list, Sequence) and len(arguments) == 1:
        return {"type": "array", "items": _field(arguments[0], path)}
    if origin in (dict, Mapping) and len(arguments) == 2 and arguments[0] is str:
        return {"type": "object", "additionalProperties": _field(arguments[1], path)}
    if isinstance(kind, Mapping):
        if _is_json_schema_inside(kind):
            return dict(kind)
        return _object(kind, path)
    if isinstance(kind, (list, tuple)):
        # (float, "from 0 to 1") is a type with a description, [str] a list of texts, ["pos", "neg"] a choice.
        if (
            isinstance(kind, tuple)
            and len(kind) == 2
            and isinstance(kind[1], str)
            and not _is_choice(kind[0])
        ):
            return _annotated(kind[0], kind[1:], path)
        if len(kind) == 1 and not _is_choice(kind[0]):
            return {"type": "array", "items": _field(kind[0], path)}
        return _enum(kind, path)
    raise InputError(
        f"{path} is {kind!r}. A field takes str, int, float, bool, Decimal, datetime.date, datetime.datetime, a list of "
        'choices, range(1, 6), [type] for a list, dict, type | None, (type, "description"), a nested mapping, a '
        "pydantic model, or JSON Schema."
    )


def _is_choice(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, np.generic))


def _whole_numbers(numbers: range, path: str) -> dict[str, Any]:
    if not numbers:
        raise InputError(f"{path} is {numbers!r}, which holds no number.")
    if abs(numbers.step) != 1:
        return _enum(list(numbers), path)
    return {"type": "integer", "minimum": min(numbers), "maximum": max(numbers)}


_ANNOTATIONS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
    "description": "description",
}


def _annotated(kind: Any, notes: Sequence[Any], path: str) -> dict[str, Any]:
    """A type with a description and limits, as `annotated_types` and pydantic's ``Field`` write them."""
    found = _field(kind, path)
    sized = "Items" if found.get("type") == "array" else "Length"
    for note in [inner for one in notes for inner in (one, *(getattr(one, "metadata", None) or ()))]:
        if isinstance(note, str):
            found["description"] = note
        for name, word in {
            **_ANNOTATIONS,
            "min_length": f"min{sized}",
            "max_length": f"max{sized}",
        }.items():
            value = getattr(note, name, None)
            if isinstance(value, (str, int, float)) and not isinstance(note, str):
                found[word] = value
    return found


def _enum(choices: Sequence[Any], path: str) -> dict[str, Any]:
    if not choices:
        raise InputError(f"{path} is an empty list of choices.")
    choices = [choice.item() if isinstance(choice, np.generic) else choice for choice in choices]
    for kind, word in ((str, "string"), (bool, "boolean"), (int, "integer"), (float, "number")):
        if all(isinstance(choice, kind) for choice in choices):
            if kind is float and not all(map(math.isfinite, choices)):
                raise InputError(f"{path} has nan or inf among its choices: {list(choices)!r}. Leave it out.")
            return {"type": word, "enum": list(dict.fromkeys(choices))}
    raise InputError(f"{path} mixes types in its choices: {list(choices)!r}.")


def _hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """Move the definitions of models inside to the root, where their references look for them."""
    found: dict[str, Any] = {}

    def without(value: Any, fields: bool = False) -> Any:
        if isinstance(value, (list, tuple)):
            return [without(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if fields:  # names of fields, of which one may be called $defs
            return {name: without(inner) for name, inner in value.items()}
        definitions = value.get("$defs", {})
        for name, definition in definitions.items() if isinstance(definitions, Mapping) else ():
            definition = without(definition)
            if found.setdefault(name, definition) != definition:
                raise InputError(f"Two different models of the schema are both called {name!r}: rename one.")
        return {key: without(inner, key == "properties") for key, inner in value.items() if key != "$defs"}

    done: dict[str, Any] = without(schema)
    return {**done, "$defs": found} if found else done
