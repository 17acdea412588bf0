"""
The options of every door, written once: `build_recipe` is the list of what can be asked, `Sending` of how it is sent.

``plan``, ``submit``, ``trial``, ``judge``, ``submit_dataset``, Dask, the magic and the command line take what stands
there, with the same words and defaults. Whatever else they are given is a parameter of the request's body, but for words
of this package, which never travel to the service.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from dobatch_pandas.endpoints.parameters import meant
from dobatch_pandas.errors import InputError, Problem

from .build import build_recipe

__all__ = ["ASKED", "SENDING", "Sending", "Typed", "door", "sorted_out", "typed_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Sending:
    """
    How a question is sent, beside what is asked.

    Parameters
    ----------
    fresh : bool
        Ask anew even where this was submitted, or its rows were answered, before.
    display : bool, "widget" or "bar", optional
        What to show; None follows ``dobatch.configure(display=...)``, False shows nothing.
    max_cost : float, optional
        US dollars that it may cost at most; `BudgetExceeded` is raised before anything is sent that may cost more.
    deadline : time, datetime, timedelta or str, optional
        When it is to be done: ``"18:00"``, ``"tomorrow 6:00"``, ``timedelta(hours=3)``. A batch first; at the last safe moment
        it is ended, and what it has not done is asked in real time, at the real-time price.
    mode : {"batch", "now", "auto"}
        ``"now"`` asks in real time at once, for small frames; ``"auto"`` does so for a few rows, and says which it is.
    """

    fresh: bool = False
    display: Any = None
    max_cost: float | None = None
    deadline: Any = None
    mode: str = "batch"


_OF_BUILD = inspect.signature(build_recipe).parameters
ASKED: dict[str, inspect.Parameter] = {
    name: parameter for name, parameter in _OF_BUILD.items() if name not in ("prompt", "params", "frame")
}
"""What can be asked beside the question and the body's own parameters."""

SENDING: dict[str, inspect.Parameter] = {
    one.name: inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
    )
    for one in fields(Sending)
}

# Words of this package that are no parameters of any body, and where they belong.
_ELSEWHERE = {
    **dict.fromkeys(
        ("token", "base_url", "home", "allow_http", "prices", "account"),
        "set it with dobatch.configure({name}=...)",
    ),
    "fresh": "it belongs to submit",
    "display": "it belongs to submit",
    "max_cost": "it belongs to submit",
    "deadline": "it belongs to submit of a pandas frame, and to submit_dataset",
    "mode": "it belongs to submit of a pandas frame, and to submit_dataset",
    "n": "it belongs to trial and preview; samples=k asks each row k times",
    "output": "it belongs to dobatch.submit_dataset",
    "source": "it belongs to dobatch.submit_dataset",
    "timeout": "job.wait(timeout=...) limits the waiting",
    "wait": "job.wait() waits, and so do join and update",
    "send_only": "submit returns at once in any case, and job.sent() waits until all of it is with the service",
    **dict.fromkeys(
        ("params", "body", "extra_body"),
        "each parameter of the body is a keyword of its own, such as temperature=0",
    ),
    **dict.fromkeys(
        ("extra_headers", "extra_query"), "a batch has no headers or queries of a single request"
    ),
    "frame": "the frame is what stands before .dobatch",
    "prompt": "the prompt comes first, without a name",
    "recipe": "a plan is submitted with plan.submit()",
}


_OURS = (*ASKED, *SENDING)

# What other tools, or this one's readers, call an option.
_CALLED_ELSEWHERE = {
    **dict.fromkeys(("system_prompt", "system_message", "system_instruction", "system_text"), "system"),
    **dict.fromkeys(
        ("output_schema", "response_schema", "json_schema", "response_model", "output_type"), "schema"
    ),
    **dict.fromkeys(("budget", "cost_limit", "max_budget", "limit_cost", "max_price", "max_usd"), "max_cost"),
    **dict.fromkeys(("n_samples", "num_samples", "repeats"), "samples"),
    **dict.fromkeys(("output_column", "into_column", "output_col"), "into"),
    **dict.fromkeys(("id_column", "id_col"), "custom_id"),
    **dict.fromkeys(("force", "refresh", "overwrite"), "fresh"),
    **dict.fromkeys(("due", "until", "done_by"), "deadline"),
    **dict.fromkeys(("progress", "show_progress", "verbose"), "display"),
}


def sorted_out(
    given: Mapping[str, Any], door_name: str, takes: Iterable[str] = tuple(SENDING)
) -> tuple[dict[str, Any], Sending]:
    """
    Tell what was asked from how it is to be sent.

    Parameters
    ----------
    given : mapping of str to Any
        All keywords that a door was given.
    door_name : str
        Its name, for what is said of words that it cannot use.
    takes : iterable of str
        Which fields of `Sending` it has a use for.

    Returns
    -------
    asked : dict
        Keywords for `build_recipe`, the body's own parameters as ``params``.
    sending : Sending

    Raises
    ------
    InputError
        Words of this package that the door cannot use; they would be sent to the service as parameters.
    """
    takes = frozenset(takes)
    wrong = [
        Problem(f"{name} is not for {door_name}: {_ELSEWHERE[name].format(name=name)}.")
        for name in given
        if name in _ELSEWHERE and name not in takes
    ]
    wrong += [
        Problem(f"{name} is {given[name]!r}; it takes True or False.")  # any text would be taken for True
        for name in ("fresh", "dedupe", "flatten")
        if not isinstance(given.get(name, False), (bool, np.bool_))
    ]
    # One that is not understood would be sent on to the service, and have no effect here: a limit would not hold.
    wrong += [
        Problem(f"{name} is no option: did you mean {near}?")
        for name in given
        if name not in ASKED and name not in takes and name not in _ELSEWHERE
        if (near := _CALLED_ELSEWHERE.get(name) or meant(name, _OURS)) in _OURS
    ]
    if wrong:
        raise InputError(wrong)
    asked = {name: value for name, value in given.items() if name in ASKED}
    params = {name: value for name, value in given.items() if name not in ASKED and name not in takes}
    return {**asked, "params": params}, Sending(**{name: given[name] for name in given if name in takes})


def door(*takes: str, asks: bool = True, without: Iterable[str] = ()) -> Callable[[_F], _F]:
    """
    Show on a function the options that it takes as ``**options``: in its signature and in its documentation.

    Where the docstring has a line ``{options}``, the numpydoc parameters come to stand: of all options that it does not
    describe itself.

    Parameters
    ----------
    *takes : str
        Fields of `Sending`.
    asks : bool
        Whether it takes what is asked, and the body's own parameters, too.
    without : iterable of str
        Options that it sets by itself.
    """

    def shown(function: _F) -> _F:
        signature = inspect.signature(function)
        own = {name: one for name, one in signature.parameters.items() if name != "options"}
        more = {name: one for name, one in ASKED.items() if asks and name not in {*own, *without}}
        more |= {name: one for name, one in SENDING.items() if name in takes and name not in own}
        rest = [inspect.Parameter("body", inspect.Parameter.VAR_KEYWORD, annotation=Any)] if asks else []
        parameters = [*own.values(), *more.values(), *rest]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        if function.__doc__:
            documented = dict(_documented(build_recipe)) | dict(_documented(Sending))
            said = dict(_documented(function))
            names: list[str] = [name for name in ("prompt", "model") if name in own and name not in said]
            names += [*(name for name in more if name not in said), *(["**params"] if asks else [])]
            texts = [documented[name] for name in names]
            function.__doc__ = re.sub(
                r"^( *)\{options\}$",
                lambda found: textwrap.indent("\n".join(texts), found[1]),
                function.__doc__,
                flags=re.MULTILINE,
            )
        return function

    return shown


class Typed(NamedTuple):
    """An option as it is typed where all is text: at the command line and behind the magic."""

    name: str
    kind: Literal["text", "number", "whole number", "switch", "JSON"]
    default: Any
    words: str
    """What it does, in a sentence or two."""

    @property
    def flag(self) -> str:
        """As it is typed; a switch that is on by default is typed to turn it off."""
        turned = "no-" if self.kind == "switch" and self.default else ""
        return f"--{turned}{self.name.replace('_', '-')}"


_KINDS: dict[str, Literal["text", "number", "whole number", "switch", "JSON"]] = {
    "bool": "switch",
    "int": "whole number",
    "float | None": "number",
    "dict[str, str] | None": "JSON",
}


def typed_options() -> list[Typed]:
    """Return every option that text can give: all but how a notebook shows a job."""
    documented = dict(_documented(build_recipe)) | dict(_documented(Sending))
    found = []
    for name, one in {**ASKED, **SENDING}.items():
        if name == "display":
            continue
        kind = "JSON" if name == "schema" else _KINDS.get(str(one.annotation), "text")
        words = " ".join(documented.get(name, "").split("\n")[1:]).replace("``", "")
        default = None if one.default is one.empty else one.default
        turned = "Switches off: " if kind == "switch" and default else ""
        found.append(Typed(name, kind, default, turned + " ".join(words.split())))
    return found


def _documented(owner: Any) -> Iterator[tuple[str, str]]:
    """Yield each parameter of a numpydoc section, with its whole entry."""
    _, _, rest = (inspect.getdoc(owner) or "").partition("Parameters\n----------\n")
    section = re.split(r"\n\n(?=\w+\n-+\n)", rest)[0]
    for entry in re.split(r"\n(?=\S)", section):
        name = entry.split(" : ")[0].split("\n")[0]
        if name == "params":
            # Keywords of a door, and a mapping of the function below it.
            name, entry = "**params", entry.replace("params : mapping, optional", "**body")
        yield name, entry
