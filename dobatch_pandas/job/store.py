"""
The store that all machines of a cluster reach, where one is given: results, and what another machine needs to go on.

::

    <store>/<job id>/results/part-00000.parquet   both files of a batch, read: written and read by the workers
    <store>/<job id>/job/...                      the small files of the job's folder, as they were a moment ago

It is a convenience and never the only place: results are with the service for 30 days, and a job's folder in its home. What
lies in the store may be a moment old. A machine that goes on from there may create a batch again, under the same
``request_id``, which is the same batch.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dobatch_pandas.errors import ConfigurationError, MissingExtra

from .folder import JobFolder, written_whole

__all__ = ["Store", "store_at"]

_JOURNAL = "journal.jsonl"
_SMALL = ("job.json", "partitions.json", "frame.pickle", "cancel")


class Store:
    """
    A folder at any address that fsspec opens.

    Parameters
    ----------
    address : str
        Such as ``s3://bucket/prefix``. Keys for it are in the environment of each machine.

    Raises
    ------
    ConfigurationError
        Nothing opens such an address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra("a store", "dask") from error
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"The store {address} cannot be opened: {error}") from error

    def check(self) -> None:
        """
        Write, read and delete a small file.

        Raises
        ------
        ConfigurationError
            With what the store says.
        """
        name = f".dobatch-{secrets.token_hex(8)}"
        try:
            self._put(name, name.encode())
            right = self._files.cat_file(f"{self._root}/{name}") == name.encode()
            self._files.rm_file(f"{self._root}/{name}")
        except Exception as error:
            raise ConfigurationError(
                f"The store {self.address} cannot be written and read: {type(error).__name__}: {error}"
            ) from error
        if not right:
            raise ConfigurationError(f"The store {self.address} gives back something else than was written.")

    def _put(self, name: str, content: bytes) -> None:
        """Have a file appear whole: an object store does that by itself."""
        target = f"{self._root}/{name}"
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if "file" in (
            self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,)
        ):
            with written_whole(Path(target)) as partial:
                partial.write_bytes(content)
        else:
            self._files.pipe_file(target, content)

    # -- results

    def keep_results(self, job_id: str, number: int, path: Path) -> None:
        """
        Keep what a part's results were read into.

        Raises
        ------
        OSError
            The store does not take it now.
        """
        try:
            self._put(_results(job_id, number), path.read_bytes())
        except Exception as error:
            raise OSError(
                f"the store {self.address} does not take results: {type(error).__name__}: {error}"
            ) from error

    def results(self, job_id: str, number: int, target: Path) -> bool:
        """Bring a part's results to a file; False where they are not here."""
        try:
            content = self._files.cat_file(f"{self._root}/{_results(job_id, number)}")
        except Exception:  # noqa: BLE001  whatever the matter is, the service has them too
            return False
        with written_whole(target) as partial:
            partial.write_bytes(content)
        return True

    # -- the job's own files

    def keep_folder(self, folder: JobFolder, known: dict[str, tuple[int, int]]) -> None:
        """
        Copy what has changed of a job's small files since it was last copied, the journal last.

        It is read before the others are listed: what it tells of must be there for whoever reads it, whenever this
        process ends.
        """
        told = _read(folder.journal_path)
        names = (*_SMALL, *(path.name for path in folder.root.glob("m*-*.parquet")))
        for name, file in ((name, _read(folder.root / name, known.get(name))) for name in names):
            if file is not None:
                self._put(f"{folder.id}/job/{name}", file[1])
                known[name] = file[0]
        if told is not None and known.get(_JOURNAL) != told[0]:
            self._put(f"{folder.id}/job/{_JOURNAL}", told[1])
            known[_JOURNAL] = told[0]

    def bring_folder(self, folder: JobFolder, account: str) -> bool:
        """Make a job's folder from what lies here; False where there is none."""
        place = f"{self._root}/{folder.id}/job"
        try:
            # First, as another machine may still write: each file that it tells of was there before.
            journal = self._files.cat_file(f"{place}/{_JOURNAL}")
            names = [os.path.basename(name.rstrip("/")) for name in self._files.ls(place, detail=False)]
            files = {name: self._files.cat_file(f"{place}/{name}") for name in names if name != _JOURNAL}
        except Exception:  # noqa: BLE001  no such job, or no store: the home knows of none either
            return False
        if "job.json" not in files:
            return False
        folder.create()
        files[_JOURNAL] = journal
        for name, content in files.items():
            if name != "job.json":
                with written_whole(folder.root / name) as partial:
                    partial.write_bytes(content)
        with written_whole(folder.root / "job.json") as partial:
            partial.write_bytes(files["job.json"])
        # Whose it is was told by a hash that is private to the other home; whoever has the store and the token is of it.
        folder.write_record(replace(folder.record(), account=account))
        return True

    def forget(self, job_id: str) -> None:
        """Delete what lies here of a job."""
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{job_id}", recursive=True)


def _read(path: Path, known: tuple[int, int] | None = None) -> tuple[tuple[int, int], bytes] | None:
    """Return a file's stamp and content; None where it is not there, or has the stamp that is known."""
    with suppress(FileNotFoundError):
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        return None if stamp == known else (stamp, path.read_bytes())
    return None


def _results(job_id: str, number: int) -> str:
    return f"{job_id}/results/part-{number:05}.parquet"


def store_at(address: str | None) -> Store | None:
    """Return the store at an address; None where there is none."""
    return None if address is None else Store(address)
