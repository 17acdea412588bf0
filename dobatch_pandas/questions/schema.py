"""What an answer shall look like: a pydantic model, a JSON Schema or a short form, as one strict JSON Schema."""

from __future__ import annotations

import datetime
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dobatch_pandas.errors import InputError

from .schema_check import resolve

__all__ = ["json_schema_of"]

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
}


def json_schema_of(schema: Any) -> dict[str, Any] | None:
    """
    Return a JSON Schema of an object, strict as providers want it: every field required, no others allowed.

    Parameters
    ----------
    schema : pydantic model class, mapping or None
        A model class; a JSON Schema (it has a ``type`` that is a word, or ``properties``); or the short form,
        field names with types: ``{"label": ["pos", "neg"], "score": float, "tags": [str],
        "why": str | None}``.

    Raises
    ------
    InputError
        A field's type is not understood.
    """
    if schema is None:
        return None
    if isinstance(schema, Mapping) and schema and not _is_json_schema(schema):
        return _hoisted(_object(schema, "schema"))
    if not hasattr(schema, "model_json_schema") and not (isinstance(schema, Mapping) and schema):
        raise InputError(
            f"schema is {schema!r}. It takes a pydantic model, a JSON Schema, or field names with types such as "
            '{"label": ["pos", "neg"], "score": float}.'
        )
    kept = dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
    if "$ref" in kept:
        # Providers want the object itself at the root; a model that refers to itself is given as a reference.
        kept = {**resolve(kept, kept), "$defs": kept.get("$defs", {})}
    if kept.get("type", "object") != "object" or not isinstance(kept.get("properties"), Mapping):
        raise InputError(
            f"The schema describes {kept.get('type', 'no object')!r} without fields. An answer is an object of named "
            'fields; give a single value a name: {"label": ["pos", "neg"]}.'
        )
    return _hoisted(_strict(kept))


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    return (
        isinstance(schema.get("properties"), Mapping)
        or "$ref" in schema
        or isinstance(schema.get("type"), str)
    )


def _is_json_schema_inside(kind: Mapping[str, Any]) -> bool:
    """Whether it is JSON Schema, not fields of an object that are called like keywords."""
    if not any(word in kind for word in ("type", "$ref", "enum", "anyOf")) or not _fits(kind):
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

_FITTING: dict[str, Callable[[Any], bool]] = {
    "type": lambda value: all(name in _TYPES for name in (value if isinstance(value, list) else [value])),
    "$ref": lambda value: isinstance(value, str),
    "enum": lambda value: isinstance(value, list),
    "anyOf": lambda value: isinstance(value, list) and all(map(_fits, value)),
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
    if kind in (types.NoneType, None):
        return {"type": "null"}
    if isinstance(kind, type) and kind in _SIMPLE:
        return {**_SIMPLE[kind]}
    if isinstance(kind, type) and hasattr(kind, "model_json_schema"):
        return dict(_strict(kind.model_json_schema()))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum([member.value for member in kind], path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _enum(arguments, path)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_field(one, path) for one in arguments]}
    if origin in (list, Sequence) and len(arguments) == 1:
        return {"type": "array", "items": _field(arguments[0], path)}
    if isinstance(kind, Mapping):
        if _is_json_schema_inside(kind):
            return dict(_strict(kind))
        return _object(kind, path)
    if isinstance(kind, (list, tuple)):
        # [str] is a list of texts; ["pos", "neg"] is a choice.
        if len(kind) == 1 and not isinstance(kind[0], (str, int, float, bool)):
            return {"type": "array", "items": _field(kind[0], path)}
        return _enum(kind, path)
    raise InputError(
        f"{path} is {kind!r}. A field takes str, int, float, bool, datetime.date, datetime.datetime, a list of choices, "
        "[type] for a list, type | None, a nested mapping, or JSON Schema."
    )


def _enum(choices: Sequence[Any], path: str) -> dict[str, Any]:
    if not choices:
        raise InputError(f"{path} is an empty list of choices.")
    for kind, word in ((str, "string"), (bool, "boolean"), (int, "integer"), (float, "number")):
        if all(isinstance(choice, kind) for choice in choices):
            return {"type": word, "enum": list(choices)}
    raise InputError(f"{path} mixes types in its choices: {list(choices)!r}.")


def _hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """Move the definitions of models inside to the root, where their references look for them."""
    found: dict[str, Any] = {}

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(one) for one in value]
        if not isinstance(value, dict):
            return value
        for name, definition in value.get("$defs", {}).items():
            definition = without(definition)
            if found.setdefault(name, definition) != definition:
                raise InputError(f"Two different models of the schema are both called {name!r}: rename one.")
        return {key: without(inner) for key, inner in value.items() if key != "$defs"}

    done: dict[str, Any] = without(schema)
    return {**done, "$defs": found} if found else done


def _strict(schema: Any) -> Any:
    """Require every property of every object, and allow no other, as providers' strict mode asks."""
    if isinstance(schema, Mapping):
        done = {key: _strict(value) for key, value in schema.items() if key != "default"}
        if isinstance(schema.get("properties"), Mapping):
            # A field of this name is not a keyword, so it stays.
            done["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
            done["type"] = "object"
            done["required"] = list(schema["properties"])
            done["additionalProperties"] = False
        return done
    if isinstance(schema, list):
        return [_strict(value) for value in schema]
    return schema
