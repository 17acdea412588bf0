"""From what a person asks for to a checked `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pandas as pd

from dobatch_pandas.endpoints import ENDPOINTS, endpoint_for
from dobatch_pandas.errors import InputError, Problem

from .problems import frame_problems
from .prompts import Column, messages_problem
from .recipe import Recipe
from .schema import json_schema_of

__all__ = ["build_recipe"]


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
    json_schema, asked = None, ("template", "", None)
    try:
        json_schema = json_schema_of(schema)
    except InputError as error:
        problems += error.problems
    module = ENDPOINTS["chat"]  # takes everything: no other complaint follows from an endpoint that is wrong
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
    kind, kept, live = asked
    # A parameter that stood in for the question would hide what is wrong with that.
    usable = {n: _plain_json(v) for n, v in given.items() if not (problems and n in module.RESERVED)}
    recipe = Recipe(
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
        live=live,
    )
    try:
        # Finds templates that do not parse, and questions that the endpoint does not take.
        _ = recipe.body
        if problems and frame is not None:
            problems += frame_problems(recipe, frame)
    except InputError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise InputError(problems)
    return recipe


def option_problems(
    model: Any, into: Any, system: Any, missing: Any, samples: Any, metadata: Any, custom_id: Any
) -> list[Problem | str]:
    """Say what is wrong with what is asked for beside the question."""
    problems: list[Problem | str] = []
    if not isinstance(model, str) or not model:
        problems.append(f"model is {model!r}; it takes the name of a model.")
    if not isinstance(into, str) or not into:
        problems.append(f"into is {into!r}; it takes the name of a column.")
    if system is not None and not isinstance(system, str):
        problems.append(f"system is {type(system).__name__}; it takes a text, or a template over columns.")
    if missing not in ("error", "skip", "keep"):
        problems.append(f"missing is {missing!r}; it takes 'error', 'skip' or 'keep'.")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        problems.append(f"samples is {samples!r}; it takes a whole number from 1 on.")
    if metadata is not None and not (
        isinstance(metadata, Mapping) and all(isinstance(x, str) for pair in metadata.items() for x in pair)
    ):
        problems.append(f"metadata is {metadata!r:.60}; it takes a mapping of texts to texts.")
    if isinstance(custom_id, (pd.Series, list, np.ndarray)):
        problems.append("custom_id takes the name of a column that holds the ids: assign them to one first.")
    return problems


def param_problems(module: Any, params: Mapping[str, Any]) -> list[Problem | str]:
    """Say what is wrong with parameters of the body."""
    problems: list[Problem | str] = [
        f"{name} cannot be given: {module.RESERVED[name]}."
        for name, value in params.items()
        if name in module.RESERVED and not (value is False or (name == "n" and value == 1))
    ]
    problems += module.problems({**module.DEFAULTS, **params})
    for name, value in params.items():
        try:
            orjson.dumps(value, default=_column_as_null, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            problems.append(f"{name} is not JSON: {error}. One value a row is dobatch.col('column').")
            continue
        if any(not math.isfinite(number) for number in _floats(value)):
            problems.append(f"{name} is {value!r}; JSON has no such number.")
    return problems


def _column_as_null(value: Any) -> None:
    if not isinstance(value, Column):
        raise TypeError


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, (float, np.floating)):
        yield float(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _floats(inner)
    elif isinstance(value, (list, tuple, np.ndarray)):
        for inner in value:
            yield from _floats(inner)


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
