"""
Who writes to an output: a file in it says so until it is written, whatever home and machine the job is of.

Object stores have no locks. So each job puts a file of its own there first, and looks for those of others then: of two that
begin at the same moment at least one sees the other. Both withdraw, and try again after a while that is another one for each.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from platform import node
from typing import Any

import orjson
import pyarrow as pa

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.source import located, names_in

from .folder import JobRecord

__all__ = ["OutputChanged", "Place", "give_up"]

TRIES = 7
FIRST_PAUSE = 0.05  # seconds at most; twice as many each time


class OutputChanged(Exception):
    """There are other files in an output than when it was looked at."""


@dataclass(frozen=True)
class Place:
    """
    An output, as whoever wants to write to it has found it.

    Parameters
    ----------
    target : str
        The folder.
    home : pathlib.Path
        Where the jobs are that ask.
    files : tuple of str
        The Parquet files that lie there.
    """

    target: str
    home: Path
    files: tuple[str, ...]

    @classmethod
    def found(cls, target: str, home: Path) -> Place:
        """
        Look at an output.

        Raises
        ------
        InputError
            It cannot be looked at.
        """
        with _explained(target):
            return cls(target, home, _files(target))

    def problems(self, but: str = "") -> list[str]:
        """Say which jobs write there, except for one."""
        with _explained(self.target):
            claims = [
                name for name in names_in(self.target) if name.startswith(".") and name.endswith(_ENDING)
            ]
            return [_told(self.target, name) for name in claims if _job_of(name) != but]

    def take(self, job_id: str, known: Callable[[], JobRecord | None]) -> JobRecord | None:
        """
        Have the output for a job that is about to begin.

        Parameters
        ----------
        job_id : str
        known : callable
            Returns the job that another process has begun with the same question meanwhile; None where none has.

        Returns
        -------
        JobRecord or None
            What `known` returned: then the output is not taken.

        Raises
        ------
        InputError
            Another job writes to it, or nobody can.
        OutputChanged
            Another job has written to it. What was put there is left to `give_up`, as after any other trouble.
        """
        for tried in range(TRIES):
            record = known()
            if record is not None:
                return record
            problems = self.problems() or self._put(job_id)
            if not problems:
                if _files(self.target) != self.files:
                    raise OutputChanged
                return None
            time.sleep(random.uniform(0, FIRST_PAUSE * 2**tried))
        raise InputError(problems)

    def _put(self, job_id: str) -> list[str]:
        content = {"job": job_id, "home": str(self.home), "machine": node()}
        with _explained(self.target):
            filesystem, directory = located(self.target)
            filesystem.create_dir(directory, recursive=True)
            with filesystem.open_output_stream(f"{directory}/{_name_of(job_id)}") as file:
                file.write(orjson.dumps(content))
        problems = self.problems(but=job_id)
        if problems:
            give_up(self.target, job_id)
        return problems


@contextmanager
def _explained(target: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Nothing can be written to {target}: {error}") from error


def give_up(target: str, job_id: str) -> None:
    """Leave an output to others: a job has written all of it, or never will."""
    filesystem, directory = located(target)
    with suppress(FileNotFoundError):
        filesystem.delete_file(f"{directory}/{_name_of(job_id)}")


_ENDING = ".writing"


def _name_of(job_id: str) -> str:
    return f".{job_id}{_ENDING}"


def _job_of(name: str) -> str:
    return name.removeprefix(".").removesuffix(_ENDING)


def _files(target: str) -> tuple[str, ...]:
    return tuple(name for name in names_in(target) if name.endswith(".parquet") and not name.startswith("."))


def _told(target: str, name: str) -> str:
    filesystem, directory = located(target)
    by: Any = {}
    with (
        suppress(OSError, orjson.JSONDecodeError),  # it is being written, or gone by now
        filesystem.open_input_stream(f"{directory}/{name}") as file,
    ):
        by = orjson.loads(file.read())
    where = (
        f" of {by['home']} on {by['machine']}"
        if isinstance(by, dict) and {"home", "machine"} <= set(by)
        else ""
    )
    return (
        f"Job {_job_of(name)}{where}, which is not over, writes to {target}: wait for it, or name another folder. If there is "
        f"no such job any more, delete {name} there."
    )
