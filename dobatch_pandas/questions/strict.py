"""
A JSON Schema as strict decoding takes it: every field required, no other allowed, and only some of the keywords.

What cannot be asked for is left out where the answer is judged by it on this machine anyway, and told to the model in
words, as part of the description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .schema_check import resolve

__all__ = ["is_decimal", "strict_form"]

_ANNOTATIONS = (
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
)
_LEFT_OUT = (
    *("uniqueItems", "minLength", "maxLength", "minProperties", "maxProperties", "contentEncoding"),
    *("contentMediaType", "minContains", "maxContains"),
)
_UNTOLD = (
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "discriminator",
    "$schema",
    "$id",
)
_CANNOT = (
    *(
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "patternProperties",
    ),
    *(
        "propertyNames",
        "contains",
        "unevaluatedProperties",
        "unevaluatedItems",
        "prefixItems",
        "additionalItems",
    ),
    *("$dynamicRef", "$anchor", "$recursiveRef"),
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_DECIMAL = r"^(?!^[-+.]*$)[+-]?0*"  # how the pattern of a Decimal begins in schemas that pydantic wrote


def strict_form(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """
    Rewrite a schema for strict decoding.

    Returns
    -------
    sent : dict
    loose : list of str
        Why it cannot be done: parts of the schema that strict decoding has no form for.
    """
    loose: list[str] = []
    sent = _rewritten(dict(given), given, "schema", loose)
    fields, choices, depth = _size_of(sent)
    if fields > _FIELDS:
        loose.append(f"it has {fields:,} fields, more than {_FIELDS:,}")
    if choices > _CHOICES:
        loose.append(f"it has {choices:,} choices, more than {_CHOICES:,}")
    if depth > _DEPTH:
        loose.append(f"objects stand {depth} deep in each other, more than {_DEPTH}")
    return sent, loose


# As the documentation of strict decoding has them.
_FIELDS, _CHOICES, _DEPTH = 5000, 1000, 10


def _size_of(schema: Any) -> tuple[int, int, int]:
    """How many fields and choices a schema has, and how deep its objects stand in each other."""
    if isinstance(schema, list):
        parts = [_size_of(part) for part in schema]
    elif isinstance(schema, Mapping):
        parts = [_size_of(part) for key, part in schema.items() if key not in ("enum", "const")]
    else:
        return 0, 0, 0
    fields, choices, depth = (
        [sum(part[0] for part in parts), sum(part[1] for part in parts), max(part[2] for part in parts)]
        if parts
        else [0, 0, 0]
    )
    if isinstance(schema, Mapping):
        fields += len(schema["properties"]) if isinstance(schema.get("properties"), Mapping) else 0
        choices += len(schema["enum"]) if isinstance(schema.get("enum"), list) else 0
        depth += isinstance(schema.get("properties"), Mapping)
    return fields, choices, depth


def _rewritten(
    schema: Any, root: Mapping[str, Any], path: str, loose: list[str], within: frozenset[str] = frozenset("#")
) -> Any:
    """Rewrite a part; ``within`` are the references whose targets were written in their place around it."""
    if not isinstance(schema, Mapping):
        loose.append(f"{path} may be anything")
        return schema
    schema, within = _inlined(schema, root, path, loose, within)
    if "$ref" in schema:
        if not str(schema["$ref"]).startswith(("#/$defs/", "#/definitions/")) and schema["$ref"] != "#":
            loose.append(f"{path} refers to {schema['$ref']}")
        return dict(schema)
    if is_decimal(schema):
        note = {"description": schema["description"]} if "description" in schema else {}
        digits = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
        if any(part["type"] == "null" for part in schema["anyOf"]):
            return {"anyOf": [digits, {"type": "null"}], **note}
        return {**digits, **note}
    loose += [f"{path} has {word}" for word in _CANNOT if word in schema]
    kept = {key: value for key, value in schema.items() if key not in (*_UNTOLD, *_LEFT_OUT)}
    told = [f"{key}: {json.dumps(schema[key])}" for key in _LEFT_OUT if key in schema]
    if "format" in kept and kept["format"] not in _FORMATS:
        told.append(f"format: {kept.pop('format')}")
    if "(?" in str(kept.get("pattern", "")):
        told.append(f"pattern: {kept.pop('pattern')}")
    if told:
        kept["description"] = f"{kept.get('description', '')} ({'; '.join(told)})".strip()
    for word in ("$defs", "definitions"):
        if isinstance(kept.get(word), Mapping):
            kept[word] = {
                name: _rewritten(part, root, f"{word}.{name}", loose, within)
                for name, part in kept[word].items()
            }
    options = kept.pop("oneOf", None)
    if isinstance(options, list):
        if "anyOf" in kept:
            loose.append(f"{path} has both oneOf and anyOf")
        # The answer is judged by what was given, so that one that fits two of them is found.
        kept["anyOf"] = options
    if isinstance(kept.get("anyOf"), list):
        kept["anyOf"] = [
            _rewritten(part, root, f"{path}.anyOf[{number}]", loose, within)
            for number, part in enumerate(kept["anyOf"])
        ]
    if "type" not in kept and "anyOf" not in kept and ("enum" in kept or "const" in kept):
        choices = [kept["const"]] if "const" in kept else kept["enum"]
        # Strict decoding wants the type of every part said.
        found = list(dict.fromkeys(_KINDS.get(type(choice), "") for choice in choices))
        if found and all(found):
            kept["type"] = found[0] if len(found) == 1 else found
        else:
            loose.append(f"{path} has choices of no simple type")
    elif not any(word in kept for word in ("type", "anyOf", "properties")):
        loose.append(f"{path} may be anything")
    kinds = kept.get("type", "object" if "properties" in kept else ())
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        if "items" in kept:
            kept["items"] = _rewritten(kept["items"], root, f"{path}[]", loose, within)
        elif "prefixItems" not in schema:
            loose.append(f"{path} is a list of anything")
    if "object" in kinds:
        _close(kept, root, path, loose, within)
    return kept


def _close(
    kept: dict[str, Any], root: Mapping[str, Any], path: str, loose: list[str], within: frozenset[str]
) -> None:
    """Require every field of an object and allow no other."""
    fields = kept.get("properties")
    others = kept.get("additionalProperties", True)
    if isinstance(fields, Mapping) and (fields or others is False):
        kept["properties"] = {
            name: _rewritten(part, root, f"{path}.{name}", loose, within) for name, part in fields.items()
        }
        if isinstance(others, Mapping):
            loose.append(f"{path} may have further fields")
        if set(kept.get("required", ())) - set(fields):
            loose.append(f"{path} requires fields that it does not describe")
    elif others is not False:
        loose.append(f"{path} is an object of any fields")
    kept["properties"] = kept.get("properties", {})
    kept.setdefault("type", "object")
    kept["required"] = list(kept["properties"])
    kept["additionalProperties"] = False


def _inlined(
    schema: Mapping[str, Any], root: Mapping[str, Any], path: str, loose: list[str], within: frozenset[str]
) -> tuple[Mapping[str, Any], frozenset[str]]:
    """
    The schema without a ``$ref`` that has something beside it, and without ``allOf``, where that can be written.

    What refers to a target that it stands in keeps its reference, or it would have no end.
    """
    while True:
        if "$ref" in schema and len(schema) > 1:
            reference = str(schema["$ref"])
            beside = {
                key: value for key, value in schema.items() if key not in ("$ref", "$defs", "definitions")
            }
            if all(key in _UNTOLD or (reference in within and key in _ANNOTATIONS) for key in beside):
                return {"$ref": reference}, within
            merged = None if reference in within else _merged(resolve({"$ref": reference}, root), beside)
            if merged is None:
                loose.append(f"{path} has {', '.join(sorted(beside))} beside a $ref")
                return {"$ref": reference}, within
            within |= {reference}
            schema = merged
        elif isinstance(schema.get("allOf"), list):
            parts = [part for part in schema["allOf"] if isinstance(part, Mapping)]
            merged = {key: value for key, value in schema.items() if key != "allOf"}
            if len(parts) != 1 or len(parts[0]) > 1:
                names = {str(part["$ref"]) for part in parts if "$ref" in part}
                again, within = names & within, within | names
                parts = [resolve(part, root) for part in parts]
            else:
                again = set()
            for part in parts:
                merged = None if merged is None or again else _merged(part, merged)
            if merged is None or len(parts) < len(schema["allOf"]):
                loose.append(f"{path} has allOf")
                return {key: value for key, value in schema.items() if key != "allOf"}, within
            schema = merged
        else:
            return schema, within


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both schemas at once, or None where they speak of the same; what `other` says of itself counts."""
    both = dict(one)
    for key, value in other.items():
        if key in _ANNOTATIONS or key not in both or both[key] == value:
            both[key] = value
        elif key == "properties" and not set(both[key]) & set(value):
            both[key] = {**both[key], **value}
        elif key == "required":
            both[key] = list(dict.fromkeys([*both[key], *value]))
        else:
            return None
    return both


def is_decimal(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is that of a Decimal (or null): a number, or its digits as text."""
    options = schema.get("anyOf")
    if not isinstance(options, list) or not all(isinstance(part, Mapping) for part in options):
        return False
    return all(part.get("type") in ("number", "string", "null") for part in options) and any(
        part.get("format") == "decimal" or str(part.get("pattern", "")).startswith(_DECIMAL)
        for part in options
    )
