"""What the endpoints share in reading answers: one answer as a tuple, and looking into nested Arrow columns."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dobatch_pandas.codes import EXPLANATIONS

__all__ = [
    "BESIDE",
    "ENDINGS",
    "INTEGER",
    "READ",
    "STRING",
    "TEXT",
    "Answer",
    "arrow_type",
    "beside",
    "calls_as_text",
    "count",
    "cut_short",
    "ending_of",
    "failed",
    "first",
    "is_cut_short",
    "is_thought",
    "path",
    "plural",
    "saying",
    "says",
    "true",
    "words",
]


STRING, TEXT, INTEGER = pa.string(), pa.large_string(), pa.int64()

READ = {
    "text": TEXT,
    "finish_reason": STRING,
    "model": STRING,
    "prompt_tokens": INTEGER,
    "completion_tokens": INTEGER,
    "cached_tokens": INTEGER,
    "reasoning_tokens": INTEGER,
}
"""What is kept of an answer, and how: the first fields of `Answer`, in their order."""

BESIDE = ("model", "usage")
"""Members of a body that are not of the answer, and need not be read."""


class Answer(NamedTuple):
    """
    What one response body says; ``code`` is null where it holds an answer.

    Token counts mean the same for every provider: ``prompt_tokens`` includes the cached ones and
    ``completion_tokens`` the reasoning ones.
    """

    text: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    code: str | None = None
    message: str | None = None
    embedding: Any = None


_BY_CODE = {
    "length": "length max_tokens max_output_tokens max_length model_length context_length_exceeded "
    "model_context_window_exceeded",
    "content_filter": "content_filter safety sensitive blocklist prohibited_content recitation spii",
    "refusal": "refusal",
    "cancelled": "cancelled canceled",
    "provider_error": "abort aborted error failed timeout network_error insufficient_system_resource pause_turn "
    "in_progress queued malformed_function_call",
}
ENDINGS = {ending: code for code, endings in _BY_CODE.items() for ending in endings.split()}
"""How servers say that what came is not the whole answer, in lower case, and the code of such a row."""


def ending_of(finish: str | None) -> str | None:
    """The code that an ending gives to a row; None where the answer came to its end."""
    return ENDINGS.get((finish or "").lower())


def cut_short(code: str, finish: str | None, refusal: str | None) -> dict[str, Any]:
    """The two fields of an `Answer` that did not come to its end."""
    if code in ("provider_error", "cancelled"):
        return failed(code, f"The service broke the answer off: it ended with {finish!r}.")
    return failed(code, refusal if code == "refusal" else None)


def is_cut_short(finish: Any) -> Any:
    """Which endings of a column `ending_of` has a code for, as numpy."""
    return true(pc.is_in(pc.ascii_lower(finish), value_set=pa.array(list(ENDINGS))))


def says(text: str | None) -> bool:
    """Whether a text says anything: one of blanks alone is no answer."""
    return bool(text) and not str(text).isspace()


def saying(texts: Any) -> Any:
    """Which texts of a column say anything, as numpy."""
    return true(pc.and_(pc.greater(pc.binary_length(texts), 0), pc.invert(pc.utf8_is_space(texts))))


def failed(code: str, message: str | None = None) -> dict[str, Any]:
    """The two fields of an `Answer` that say why it is none."""
    return {"code": code, "message": message or EXPLANATIONS[code]}


def words(value: Any) -> str | None:
    """A value that should be text, as text."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def count(value: Any) -> int | None:
    """A value that should be a whole number, as one; None where it is not, or does not fit 64 bits."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def path(value: Any, *keys: str) -> Any:
    """What is found by following ``keys`` through nested objects; None where one of them is not there."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def is_thought(part: Any) -> bool:
    """Whether a part of a content is what the model thought, not what it said."""
    kind = words(path(part, "type")) or ""
    return kind.startswith(("reason", "think", "redacted_think"))


def calls_as_text(calls: list[tuple[str | None, Any]]) -> str:
    """
    Tool calls as JSON: the arguments of a single call as they are, several as a list of name and arguments.

    A forced call is how a schema's answer arrives, so its arguments are the answer.
    """
    if len(calls) == 1:
        arguments = calls[0][1]
        return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    listed = []
    for name, arguments in calls:
        if isinstance(arguments, str):
            with suppress(orjson.JSONDecodeError):
                arguments = orjson.loads(arguments)
        listed.append({"name": name, "arguments": arguments})
    return orjson.dumps(listed).decode()


# Whole columns ----------------------------------------------------------------------------------------


def arrow_type(shape: Any) -> Any:
    """The Arrow type of nested JSON: a dict is an object, a list of one thing a list of such."""
    if isinstance(shape, dict):
        return pa.struct([(name, arrow_type(inner)) for name, inner in shape.items()])
    return pa.list_(arrow_type(shape[0])) if isinstance(shape, list) else shape


def beside(body: Any, *keys: str) -> Any:
    """One of `BESIDE`, or a count within, for every row of a column of bodies; null where that was not read."""
    if body.type.get_field_index(keys[0]) < 0:
        return pa.nulls(len(body), INTEGER if len(keys) > 1 else STRING)
    return pc.struct_field(body, list(keys))


def first(lists: Any, *keys: str) -> Any:
    """
    The first element's field for every list of a column; null where the list is empty or null.

    Parameters
    ----------
    lists : pyarrow.ListArray
        Not a slice of a longer one.
    """
    offsets = lists.offsets.to_numpy()
    values = pc.struct_field(lists.values, list(keys)) if keys else lists.values
    lengths = np.diff(offsets)
    if len(values) == len(lists) and (lengths == 1).all():
        return values
    if pa.types.is_large_string(values.type) and values.offset == 0 and (lengths <= 1).all():
        return _first_text(values, offsets, lengths)
    return values.take(pa.array(offsets[:-1], mask=lengths == 0))


def _first_text(values: Any, offsets: Any, lengths: Any) -> Any:
    # The text of a list of one string, or of none, is one stretch of the same bytes: nothing is copied.
    _, bounds, data = values.buffers()
    if not len(values):
        return pa.nulls(len(lengths), pa.large_string())
    stretches = np.frombuffer(bounds, dtype=np.int64)[: len(values) + 1][offsets]
    there = lengths == 1
    if values.null_count:
        there[there] = values.is_valid().to_numpy(zero_copy_only=False)[offsets[:-1][there]]
    valid = pa.array(there).buffers()[1]
    return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(stretches), data, valid)


def plural(lists: Any) -> Any:
    """How many elements every list of a column has, as numpy; 0 for null."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def true(mask: Any) -> Any:
    """A boolean column as numpy, null counting as false."""
    return pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
