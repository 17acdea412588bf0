"""From what a person asks for to a checked `Recipe`."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pandas as pd

from dobatch_pandas.endpoints import endpoint_for
from dobatch_pandas.endpoints.chat import CHAT
from dobatch_pandas.endpoints.endpoint import Endpoint
from dobatch_pandas.endpoints.parameters import meant
from dobatch_pandas.errors import InputError, Problem, outside

from .freeze import encodes
from .problems import frame_problems
from .prompts import Column, is_label, messages_problem, numbers_in
from .recipe import Recipe
from .schema import answer_schema_of

__all__ = ["build_recipe"]

MOST_SAMPLES = 1_000  # each is a column of the frame


def build_recipe(
    prompt: Any,
    *,
    model: str,
    into: str = "response",
    system: Any = None,
    endpoint: str | None = None,
    provider: str | None = None,
    schema: Any = None,
    custom_id: str | None = None,
    missing: str = "error",
    dedupe: bool = True,
    samples: int = 1,
    metadata: dict[str, str] | None = None,
    flatten: bool = False,
    params: Mapping[str, Any] | None = None,
    frame: pd.DataFrame | None = None,
) -> Recipe:
    """
    Check what can be checked without rows, and fill in what follows from the rest.

    This is the list of what can be asked: every door takes these options, with these defaults and words.

    Parameters
    ----------
    prompt : str, list, callable, Series or dobatch.col
        A template over columns such as ``"Sentiment of: {review}"`` (all of `str.format`); a list of
        ``{"role", "content"}`` messages holding templates; a function of a row; ready prompts as a
        Series; or ``dobatch.col("column")`` for a column that holds message lists.
    model : str
        Name of the model; it decides provider and endpoint where those are left out.
    into : str
        Name of the answer column. A schema brings its own names; then it names the error column only.
    system : str, optional
        System text, a template too.
    endpoint : str, optional
        ``"chat"``, ``"responses"``, ``"embeddings"`` or ``"messages"``, or the path itself.
    provider : str, optional
        ``"openai"`` or ``"anthropic"``.
    schema : pydantic model, dict, optional
        What the answer looks like: a pydantic model, a JSON Schema, or
        ``{"label": ["pos", "neg"], "score": float}``. Its fields become typed columns.
    custom_id : str, optional
        Column with ids of your own; else an id is made from what is asked.
    missing : {"error", "skip", "keep"}
        What a missing value in a used column does: refuse the plan, leave out the row (its code is
        ``missing_input``), or stand for an empty string.
    dedupe : bool
        Send equal requests once.
    samples : int
        How often each row is asked; further answers go to ``<into>_2``, ``<into>_3`` ...
    metadata : dict, optional
        Kept by the service with each batch.
    flatten : bool
        Give nested fields of a schema columns of their own, with dotted names.
    params : mapping, optional
        Any parameter of the request's body, a constant or ``dobatch.col("column")``.
    frame : pandas.DataFrame, optional
        Looked at only where something else is wrong, so that all there is to mend is said at once.

    Raises
    ------
    InputError
        With every problem found.
    """
    problems = option_problems(model, into, system, missing, samples, metadata, custom_id)
    given = dict(sorted((params or {}).items()))
    answer_schema, asked = None, ("template", "", None)
    try:
        answer_schema = answer_schema_of(schema)
    except InputError as error:
        problems += error.problems
    target: Endpoint = CHAT  # takes everything: no other complaint follows from an endpoint that is wrong
    members: dict[str, Any] = {}
    try:
        known = isinstance(model, str)
        if known:
            target = endpoint_for(endpoint, provider, model)
    except InputError as error:
        known = False
        problems += error.problems
    try:
        if answer_schema is not None:
            members = target.schema_members(answer_schema.sent)
    except InputError as error:
        problems += error.problems
    if known:
        problems += param_problems(target, given, model, members)
    try:
        asked = _question(prompt, target.roles)
    except InputError as error:
        problems += error.problems
    kind, kept, live = asked
    # A parameter that stood in for the question would hide what is wrong with that.
    usable = {n: _plain_json(v) for n, v in given.items() if not (problems and n in target.reserved)}
    recipe = Recipe(
        kind=kind,
        prompt=kept,
        model=model,
        into=into if isinstance(into, str) else "response",
        system=system if isinstance(system, str) else None,
        endpoint=target.url,
        provider=target.provider.name,
        schema=answer_schema,
        custom_id=custom_id if is_label(custom_id) else None,
        missing=missing if isinstance(missing, str) else "error",
        dedupe=bool(dedupe),
        samples=int(samples)
        if isinstance(samples, (int, np.integer)) and 1 <= samples <= MOST_SAMPLES
        else 1,
        metadata=dict(metadata) if isinstance(metadata, Mapping) and metadata else None,
        flatten=bool(flatten),
        params={**target.defaults, **usable},
        live=live,
    )
    names = Counter([*recipe.answer_names, *recipe.error_names])
    problems += [
        f"Two columns would be called {name!r}: a field cannot have the name of another one's further sample, nor that of "
        f"the column that says why a row failed. Rename the field, or give into= another name than {recipe.into!r}."
        for name, count in names.items()
        if count > 1
    ]
    try:
        # Finds templates that do not parse, and questions that the endpoint does not take.
        _ = recipe.body
        if problems and frame is not None:
            problems += frame_problems(recipe, frame)
    except InputError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise InputError(problems)
    if recipe.schema is not None and recipe.schema.loose and target.strict:
        reasons = "; ".join(recipe.schema.loose[:5])
        warnings.warn(
            f"The schema is sent with strict: false, since strict decoding has no form for this: {reasons}. Answers are "
            "judged by it all the same.",
            stacklevel=outside(),
        )
    return recipe


def option_problems(
    model: Any, into: Any, system: Any, missing: Any, samples: Any, metadata: Any, custom_id: Any
) -> list[Problem | str]:
    """Say what is wrong with what is asked for beside the question."""
    problems: list[Problem | str] = []
    if not isinstance(model, str) or not model:
        problems.append(f"model is {model!r:.80}; it takes the name of a model.")
    if not isinstance(into, str) or not into:
        problems.append(f"into is {into!r:.80}; it takes the name of a column.")
    if system is not None and not isinstance(system, str):
        problems.append(f"system is {type(system).__name__}; it takes a text, or a template over columns.")
    if not isinstance(missing, str) or missing not in ("error", "skip", "keep"):
        problems.append(f"missing is {missing!r:.80}; it takes 'error', 'skip' or 'keep'.")
    whole = isinstance(samples, (int, np.integer)) and not isinstance(samples, bool)
    if not whole or not 1 <= samples <= MOST_SAMPLES:
        problems.append(f"samples is {samples!r:.80}; it takes a whole number from 1 to {MOST_SAMPLES:,}.")
    if metadata is not None and not (
        isinstance(metadata, Mapping) and all(isinstance(x, str) for pair in metadata.items() for x in pair)
    ):
        problems.append(f"metadata is {metadata!r:.60}; it takes a mapping of texts to texts.")
    elif metadata:
        if len(metadata) > 16:
            problems.append(f"metadata has {len(metadata)} keys; the service takes 16 at most.")
        problems += [
            f"metadata: {key!r:.80} or its value is too long; a key has 64 characters at most, a value 512."
            for key, value in metadata.items()
            if len(key) > 64 or len(value) > 512
        ]
    for name, value in {"model": model, "into": into, "metadata": metadata}.items():
        texts = [x for pair in value.items() for x in pair] if isinstance(value, Mapping) else [value]
        if any(isinstance(text, str) and not encodes(text) for text in texts):
            problems.append(f"{name} holds half of a surrogate pair, which no request can carry.")
    if custom_id is not None and not is_label(custom_id):
        problems.append("custom_id takes the name of a column that holds the ids: assign them to one first.")
    return problems


def param_problems(
    endpoint: Endpoint, params: Mapping[str, Any], model: str, members: Mapping[str, Any]
) -> list[Problem | str]:
    """Say what is wrong with parameters of the body, beside the members that ask for a schema."""
    problems: list[Problem | str] = [
        f"{name} cannot be given: {endpoint.reserved[name]}."
        for name, value in params.items()
        if name in endpoint.reserved and not (value is False or (name == "n" and value == 1))
    ]
    problems += [
        f"{name} is no parameter that a body takes: did you mean {near}?"
        for name in params
        if (near := meant(name))
    ]
    problems += [
        f"{name} is set by schema; leave out one of them." for name in sorted(set(members) & set(params))
    ]
    problems += endpoint.problems({**endpoint.defaults, **members, **params}, model)
    problems += [
        f"{name} is {params[name]!r:.60}; it takes {limit}."
        for name, limit in endpoint.limits.items()
        if not isinstance(params.get(name), (Column, type(None))) and not limit.holds(params[name])
    ]
    for name, value in params.items():
        try:
            orjson.dumps(value, default=_column_as_null, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            problems.append(f"{name} is not JSON: {error}. One value a row is dobatch.col('column').")
            continue
        if name not in endpoint.limits and not all(map(math.isfinite, numbers_in(value))):
            problems.append(f"{name} is {value!r:.200}; JSON has no word for nan or inf.")
    return problems


def _column_as_null(value: Any) -> None:
    if not isinstance(value, Column):
        raise TypeError


def _question(prompt: Any, roles: frozenset[str]) -> tuple[str, Any, Any]:
    """Tell what kind of prompt it is, what of it is kept on disk, and what is not."""
    if isinstance(prompt, str):
        return "template", prompt, None
    if isinstance(prompt, Column):
        return "column", prompt.name, None
    if isinstance(prompt, pd.Series):
        return "series", None, prompt
    if isinstance(prompt, (list, tuple)):
        # Where there are no roles, the endpoint itself says that it takes no messages.
        looks_right = all(isinstance(message, Mapping) for message in prompt)
        problem = messages_problem(prompt, roles) if roles or not looks_right else None
        if problem is None:
            problem = next(_not_json_in(prompt), None)
        if problem is not None:
            raise InputError(f"The prompt is a list, and {problem}.")
        return "messages", [_plain_json(message) for message in prompt], None
    if callable(prompt):
        return "callable", getattr(prompt, "__qualname__", type(prompt).__name__), prompt
    raise InputError(
        f"The prompt is {type(prompt).__name__} {prompt!r:.60}. It takes a template such as "
        "'Sentiment of: {review}', a list of messages, a function of a row, a Series of prompts, or "
        "dobatch.col('column')."
    )


def _not_json_in(value: Any) -> Iterator[str]:
    """What JSON has no word for in a nested value, told one by one."""
    if isinstance(value, Mapping):
        yield from (
            f"the key {key!r:.60} in a message is no text" for key in value if not isinstance(key, str)
        )
    if isinstance(value, (Mapping, list, tuple)):
        try:
            for inner in value.values() if isinstance(value, Mapping) else value:
                yield from _not_json_in(inner)
        except RecursionError:
            yield "a message holds itself"
    elif not isinstance(value, (str, Column)):
        try:
            orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            if not all(map(math.isfinite, numbers_in(value))):
                yield f"{value!r:.60} stands in a message: JSON has no word for nan or inf"
        except TypeError:
            yield f"{value!r:.60} stands in a message, and is not JSON"


def _plain_json(value: Any) -> Any:
    """A parameter as JSON has it, numpy's numbers as Python's; a `Column` stays where it is."""
    try:
        return _json_of(value)
    except RecursionError:  # `param_problems` has named it
        return None


def _json_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_of(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_of(inner) for inner in value]
    if value is None or isinstance(value, Column) or type(value) in (str, int, float, bool):
        return value
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:
        return value  # `param_problems` has named it
