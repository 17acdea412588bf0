"""
One answer: where it stands in a text, and whether it is what the user asked for.

Thoughts are cut off first. Of several values that could be the answer (drafts, corrections) the last one that satisfies
the schema counts.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from dobatch_pandas.arrow.jsonl import mended
from dobatch_pandas.questions.schema import AnswerSchema
from dobatch_pandas.questions.schema_check import checker

__all__ = ["Judge", "NoAnswer", "candidates", "judge_of", "judged"]

_FENCE = re.compile(r"```[A-Za-z0-9_+-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", re.DOTALL)
_TAG = r"(?:\w+:)?(?:think|thinking|thought|reasoning|reflection|analysis|scratchpad)"
_OPENING = (
    rf"<{_TAG}\b[^<>]*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<unused94>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)<\|message\|>"
)
_CLOSING = rf"</{_TAG}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<unused95>|<\|channel\|>final<\|message\|>"
_THOUGHT = re.compile(rf".*(?:{_CLOSING})", re.DOTALL | re.IGNORECASE)
_THINKING = re.compile(rf"\s*(?:{_OPENING})", re.IGNORECASE)
_ASIDE = re.compile(rf"(?:{_OPENING}).*?(?:{_CLOSING})", re.DOTALL | re.IGNORECASE)
_TRIES = 1000  # braces that begin nothing


class NoAnswer(Exception):
    """A text holds no answer; ``code`` is that of the row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Judge:
    """
    Says whether a value is what the user asked for.

    Parameters
    ----------
    accept : callable
        Takes a value; returns it as the user's model makes it, or raises ValueError with what is wrong.
    plain : bool
        Whether the JSON Schema says all that it looks at.
    """

    def __init__(self, accept: Callable[[Any], Any], plain: bool) -> None:
        self.accept, self.plain = accept, plain


def judge_of(schema: AnswerSchema) -> Judge:
    """The judge for a schema: the pydantic model where there is one, else the JSON Schema as it was given."""
    if schema.model is not None:
        return Judge(
            lambda value: _of_model(schema.model, value), _is_plain(schema.model.__pydantic_core_schema__)
        )
    check = checker(schema.given)

    def accept(value: Any) -> Any:
        problem = check(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    return Judge(accept, plain=True)


def judged(text: str, judge: Judge, fit: Callable[[Any], Any]) -> Any:
    """
    The answer in a text, as the judge accepts it and as `fit` makes it.

    Raises
    ------
    NoAnswer
        There is none. A fault of the judge itself (a validator of the user's may raise anything) is one as well.
    """
    problem: NoAnswer | None = None
    for value in candidates(text):
        try:
            return fit(judge.accept(value))
        except ValueError as error:
            wrong = str(error)
        except Exception as error:  # noqa: BLE001  it is this row's, and stops no other
            wrong = f"It could not be checked, {type(error).__name__}: {error}"
        problem = problem or NoAnswer("schema_mismatch", wrong.removeprefix(": ")[:2000])
    if problem is not None:
        raise problem
    raise NoAnswer("invalid_json", f"The answer is not JSON: {_not_json(text)}")


def _not_json(text: str) -> str:
    if _THINKING.match(text) and not _THOUGHT.match(text):
        return "it stops amid its thoughts"
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return str(error)
    return "there is none"


def candidates(text: str) -> Iterator[Any]:
    """Yield the JSON values that may be the answer in a text, the last one first."""
    with contextlib.suppress(orjson.JSONDecodeError):
        yield orjson.loads(text)
        return
    spoken = _THOUGHT.match(text)
    if spoken is not None:
        # Some think it over again after they have answered.
        text = text[spoken.end() :] if text[spoken.end() :].strip() else _ASIDE.sub("", text)
        if _THOUGHT.match(text):
            return
    elif _THINKING.match(text):
        return
    found: list[tuple[int, Any]] = []
    for place, piece in [(0, text), *((fence.start(1), fence[1]) for fence in _FENCE.finditer(text))]:
        with contextlib.suppress(ValueError, RecursionError):
            found.append((place, _lenient(piece)))
    fenced = {place for place, _ in found}
    found += [(place, value) for place, value in _objects(text) if place not in fenced]
    for _, value in sorted(found, key=lambda pair: pair[0], reverse=True):
        yield value


def _lenient(text: str) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    # Models put raw line breaks into strings; half a surrogate pair cannot be kept in a column.
    return mended(json.loads(text.strip(), strict=False, parse_constant=_refuse))


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)


def _objects(text: str) -> Iterator[tuple[int, Any]]:
    """Objects amid prose, and where each begins."""
    place, tries = text.find("{"), 0
    while place >= 0 and tries < _TRIES:
        end = place + 1
        try:
            value, end = _DECODER.raw_decode(text, place)
            yield place, mended(value)
        except (ValueError, RecursionError):
            tries += 1
        place = text.find("{", end)


# Models of the user's -------------------------------------------------------------------------------------


def _of_model(model: Any, value: Any) -> Any:
    """What a pydantic model makes of a value: its validators, defaults and conversions."""
    from pydantic import ValidationError

    try:
        made = model.model_validate_json(_as_json(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"]).lstrip(".")
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    return _plain_value(made)


def _as_json(value: Any) -> bytes | str:
    with contextlib.suppress(TypeError):  # a number of more than 64 bits, a nesting of more than 254 levels
        written = orjson.dumps(value)
        if b"null" not in written:  # which it writes for 1e400, too, as if there were no number
            return written
    return json.dumps(value)


def _plain_value(value: Any) -> Any:
    """A model's value in the terms of its JSON Schema; dates and Decimals stay what they are."""
    kind: Any = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if hasattr(kind, "model_fields"):
        return {called: _plain_value(getattr(value, name)) for name, called in _fields_of(kind)}
    if isinstance(value, Mapping):
        return {str(key): _plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain_value(inner) for inner in value]
    if hasattr(value, "get_secret_value"):  # which would be written as stars
        return _plain_value(value.get_secret_value())
    if hasattr(value, "adjusted") or hasattr(value, "toordinal"):  # a Decimal, a date
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


@lru_cache(maxsize=64)
def _fields_of(model: Any) -> list[tuple[str, str]]:
    """The fields of a model, and what each is called in its JSON Schema."""
    return [(name, _name_in_schema(name, field)) for name, field in model.model_fields.items()]


def _name_in_schema(name: str, field: Any) -> str:
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = getattr(alias, "choices", None)
    alias = choices[0] if choices else alias
    return alias if isinstance(alias, str) else name


_PLAIN_NODES = frozenset(
    [
        "model",
        "model-fields",
        "model-field",
        "str",
        "int",
        "float",
        "bool",
        "none",
        "nullable",
        "list",
        "literal",
        "date",
        "datetime",
        "default",
        "definitions",
        "definition-ref",
        "union",
    ]
)
_CHANGING = frozenset(
    ["strip_whitespace", "to_lower", "to_upper", "default_factory", "custom_init", "post_init"]
)


def _is_plain(core: Any) -> bool:
    """Whether a model is all in its JSON Schema: it has no validators, and changes no value."""
    if isinstance(core, (list, tuple)):
        return all(map(_is_plain, core))
    if not isinstance(core, dict):
        return True
    kind = core.get("type")
    if isinstance(kind, str) and kind not in _PLAIN_NODES:
        return False
    config = core.get("config") or {}
    if any(core.get(word) for word in _CHANGING) or any(str(word).startswith("str_") for word in config):
        return False
    inner = {"schema", "fields", "items_schema", "choices", "definitions"}
    for name, value in core.items():
        if name == "fields" and isinstance(value, dict):
            if not all(map(_is_plain, value.values())):
                return False
        elif name in inner and not (kind == "literal" and name == "choices") and not _is_plain(value):
            return False
    return not isinstance(core.get("expected"), list) or all(isinstance(v, str) for v in core["expected"])
