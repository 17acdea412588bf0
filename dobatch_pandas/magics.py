"""``%load_ext dobatch_pandas``: a cell's text as the prompt, and jobs by a word."""

from __future__ import annotations

import difflib
import json
import keyword
import shlex
import textwrap
from typing import Any

import pandas as pd

from .errors import DobatchError
from .job.job import Job, attach
from .job.listing import jobs
from .questions.options import typed_options

__all__ = ["load_ipython_extension"]

_OPTIONS = {option.flag[2:].replace("-", "_"): option for option in typed_options()}
_OWN = (*_OPTIONS, "job", "param")


def _usage() -> str:
    lines = []
    for option in _OPTIONS.values():
        typed = option.flag + ("" if option.kind == "switch" else f" {option.kind.split()[-1].upper()}")
        first, *rest = textwrap.wrap(option.words, 78)
        lines += [f"  {typed:<22} {first}", *(f"{'':25}{line}" for line in rest)]
    return "\n".join(lines)


USAGE = f"""\
%%dobatch FRAME --model MODEL [--into COLUMN] [--NAME VALUE ...]
The prompt, a template over columns such as {{review}}, is the text of the cell.

  FRAME                  a variable that holds a frame
{_usage()}
  --job NAME             variable that gets the job (job)
  --NAME VALUE           any parameter of the request's body: --temperature 0 --max-tokens 50;
                         --param NAME=VALUE is the same
A VALUE with spaces goes in quotes; $name takes the value of a variable, and --schema the name of one, too.

%dobatch jobs                           every job that this machine knows
%dobatch attach ID [--job NAME]         show a job of any earlier session, and continue it
%dobatch cancel ID [--job NAME]         cancel a job; what has been answered stays"""

_LITTLE_LIKE = 0.8  # above it an option is taken for a slip of the hand, not for a parameter of the body


class _Misused(Exception):
    """What was typed cannot be meant; the message says why."""


def load_ipython_extension(ip: Any) -> None:
    """Give this shell ``%dobatch`` and ``%%dobatch``; called by ``%load_ext dobatch_pandas``."""
    from IPython.core.magic import no_var_expand

    def dobatch(line: str, cell: str | None = None) -> Any:
        return run_magic(ip, line, cell)

    dobatch.__doc__ = USAGE
    # A system text may hold {braces} that are ours, not IPython's to fill in.
    ip.register_magic_function(no_var_expand(dobatch), magic_kind="line_cell", magic_name="dobatch")
    _complete_for(ip)


def _complete_for(ip: Any) -> None:
    """Have the Tab key offer frames, options, columns and jobs where they may stand."""
    try:
        from IPython.core.completer import SimpleCompletion, context_matcher
    except ImportError:  # before IPython 8.6 there was no way to see the cell
        return

    @context_matcher(identifier="dobatch")  # type: ignore[untyped-decorator]
    def matcher(context: Any) -> dict[str, Any]:
        found = _may_follow(ip, context.full_text, context.cursor_line, context.text_until_cursor)
        offered = [SimpleCompletion(text=word) for word in found if word.startswith(context.token)]
        return {"completions": offered, "suppress": bool(offered)}

    others = [m for m in ip.Completer.custom_matchers if getattr(m, "matcher_identifier", "") != "dobatch"]
    ip.Completer.custom_matchers[:] = [*others, matcher]


def _may_follow(ip: Any, cell: str, number: int, before: str) -> list[str]:
    """
    Return the words that may stand where the cursor is.

    Parameters
    ----------
    ip : IPython's shell
    cell : str
    number : int
        The cursor's line, counted from 0.
    before : str
        That line up to the cursor.
    """
    head = cell.split("\n")[0].split()
    if head[:1] == ["%%dobatch"]:
        frame = ip.user_ns.get(head[1]) if len(head) > 1 else None
        if number > 0:
            inside = before.rpartition("{")[2]
            is_open = "{" in before and not set("}!:") & set(inside)
            return _names(frame) if is_open else []
        words = before.split()[1:] + ([""] if before[-1:].isspace() else [])
        if len(words) < 2:
            return [n for n, v in ip.user_ns.items() if isinstance(v, pd.DataFrame) and n[:1] != "_"]
        if words[-1].startswith("-"):
            return [f"--{name.replace('_', '-')}" for name in (*_OWN, "temperature", "max_tokens")]
        return _names(frame) if words[-2] == "--custom-id" else []
    if not before.lstrip().startswith("%dobatch "):
        return []
    words = before.split()[1:] + ([""] if before[-1:].isspace() else [])
    if len(words) < 2:
        return ["jobs", "attach", "cancel", "help"]
    return list(jobs().index) if len(words) == 2 and words[0] in ("attach", "cancel") else []


def _names(frame: Any) -> list[str]:
    return (
        [name for name in frame.columns if isinstance(name, str)] if isinstance(frame, pd.DataFrame) else []
    )


def run_magic(ip: Any, line: str, cell: str | None) -> Any:
    """
    Do what one line, or one cell, says.

    Parameters
    ----------
    ip : IPython's shell
    line : str
        What stands behind the magic's name.
    cell : str or None
        The text below it.

    Returns
    -------
    Job, pandas.DataFrame or None
        IPython shows it.

    Raises
    ------
    UsageError
        What is wrong, in words; IPython shows them without a traceback.
    """
    from IPython.core.error import UsageError

    try:
        words = _split(line)
        if words[:1] in (["help"], ["--help"], ["-h"]) or (cell is None and not words):
            print(USAGE)
            return None
        return _command(ip, words) if cell is None else _submit(ip, words, cell)
    except _Misused as error:
        raise UsageError(f"{error} (%dobatch help lists all options.)") from None
    except DobatchError as error:
        raise UsageError(str(error)) from None


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise _Misused(f"A quote is not closed ({error}).") from None


def _command(ip: Any, words: list[str]) -> Job | pd.DataFrame:
    name, *rest = words
    if name == "jobs" and not rest:
        return jobs()
    if name in ("attach", "cancel") and rest and not rest[0].startswith("--"):
        options = _options(ip, rest[1:])
        variable = _variable(options.pop("job", "job"))
        if options:
            raise _Misused(f"%dobatch {name} takes an id and --job NAME, not --{next(iter(options))}.")
        job = attach(rest[0])
        if name == "cancel":
            job.cancel()
        ip.user_ns[variable] = job
        return job
    if name in ("attach", "cancel"):
        raise _Misused(f"%dobatch {name} needs the id of a job; `%dobatch jobs` lists all.")
    if name == "jobs":
        raise _Misused(f"%dobatch jobs takes nothing more, not {' '.join(rest)!r}.")
    if name in ip.user_ns:
        raise _Misused(f"To ask for every row of {name}, begin with %%dobatch and write the prompt below it.")
    raise _Misused(f"%dobatch does not know {name!r}.")


def _submit(ip: Any, words: list[str], cell: str) -> Job:
    if not words or words[0].startswith("--"):
        raise _Misused("Name the frame first: %%dobatch df --model ...")
    frame = ip.user_ns.get(words[0])
    if not isinstance(frame, pd.DataFrame):
        what = f"a {type(frame).__name__}" if words[0] in ip.user_ns else "not a variable of this notebook"
        raise _Misused(f"{words[0]!r} is {what}; the name of a frame is needed.")
    prompt = cell.strip()
    if not prompt:
        raise _Misused("The cell has no prompt: write it below the first line.")
    options = _options(ip, words[1:])
    if "model" not in options:
        raise _Misused("Which model? Add --model NAME.")
    variable = _variable(options.pop("job", "job"))
    job: Job = frame.dobatch.submit(prompt, **options)
    ip.user_ns[variable] = job
    return job


def _options(ip: Any, words: list[str]) -> dict[str, Any]:
    """Read ``--name value``, ``--name=value`` and switches, as keywords of ``submit``."""
    options: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("--") or word == "--":
            raise _Misused(
                f"{word!r} stands alone: options are --name value, and a value with spaces is quoted."
            )
        spelled, equals, value = word[2:].partition("=")
        name = spelled.replace("-", "_")
        if not name.isidentifier():
            raise _Misused(f"--{spelled} is not the name of an option.")
        option = _OPTIONS.get(name)
        if option is not None and option.kind == "switch" and not equals:
            options[option.name] = not option.default
            continue
        _refuse_slips(name, spelled)
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise _Misused(f"--{spelled} needs a value.")
        if name == "param":
            spelled, equals, value = value.partition("=")
            name = spelled
            if not equals or not name.isidentifier() or name in (*_OWN, "prompt", "self"):
                raise _Misused("--param takes NAME=VALUE, where NAME is a parameter of the request's body.")
        options[name] = _value(ip, name, spelled, value)
    return options


def _refuse_slips(name: str, spelled: str) -> None:
    if name in _OPTIONS and _OPTIONS[name].kind == "switch":
        raise _Misused(f"--{spelled} takes no value.")
    if name in ("prompt", "self"):
        raise _Misused(f"--{spelled} is not an option: the prompt is the text of the cell.")
    near = difflib.get_close_matches(name, _OWN, cutoff=_LITTLE_LIKE)
    near.sort(
        key=lambda own: sorted(own) != sorted(name)
    )  # letters that changed places are the likeliest slip
    if near and near[0] != name:
        raise _Misused(f"--{spelled} is not known; is --{near[0].replace('_', '-')} meant?")


def _value(ip: Any, name: str, spelled: str, text: str) -> Any:
    if text.startswith("$") and text[1:].isidentifier() and name != "job":
        if text[1:] not in ip.user_ns:
            raise _Misused(f"--{spelled} {text}: this notebook has no variable {text[1:]!r}.")
        return ip.user_ns[text[1:]]
    kind = _OPTIONS[name].kind if name in _OPTIONS else "text" if name == "job" else None
    if kind == "text":
        return text
    if kind in ("number", "whole number"):
        try:
            return float(text) if kind == "number" else int(text)
        except ValueError:
            raise _Misused(f"--{spelled} takes a {kind}, not {text!r}.") from None
    if kind == "JSON" and text in ip.user_ns:
        return ip.user_ns[text]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if kind == "JSON":
            what = f"--{spelled} {text!r} is neither a variable of this notebook nor JSON ({error})."
            # The line is split as a shell does it, which takes the double quotes away.
            quoted = (
                """ JSON goes in single quotes: '{"label": ["pos", "neg"]}'.""" if text[:1] in "{[" else ""
            )
            raise _Misused(what + quoted) from None
        return text


def _variable(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _Misused(f"--job {name!r} cannot be the name of a variable.")
    return name
