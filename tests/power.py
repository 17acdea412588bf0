"""
A power cut for real processes: a layer that remembers what was synced, and gives back a disk without the rest.

Of a file that was synced its bytes of that moment are kept, of a folder which names it had for which files. What comes
back after the cut is a folder's names as they were when it was last synced, each with its file as it was when that was
last synced: torn where it was not, or with zeros, as file systems do it. Whatever was only written is gone, whatever
was only deleted is there again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
from pathlib import Path
from typing import Any


def remember(home: Path, memory: Path) -> None:
    """Have this process's syncs of what is under a home remembered in a folder elsewhere."""
    real = os.fsync

    def fsync(handle: Any) -> None:
        real(handle)
        number = handle if isinstance(handle, int) else handle.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if path.is_relative_to(home):
            _keep(path, os.fstat(number), number, memory)

    os.fsync = fsync  # type: ignore[assignment]
    _keep(home, os.stat(home), None, memory)
    if (home / "jobs").is_dir():
        _keep(home / "jobs", os.stat(home / "jobs"), None, memory)


def _keep(path: Path, status: os.stat_result, handle: int | None, memory: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        kept: Any = {}
        for entry in os.scandir(path):
            kept[entry.name] = (entry.inode(), entry.is_dir(follow_symlinks=False))
            if not entry.is_dir(follow_symlinks=False):
                # A second name keeps the number from being given to another file.
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.link(entry.path, memory / f"{entry.inode()}.held")
    else:
        with open(f"/proc/self/fd/{handle}", "rb") as file:
            kept = file.read()
    partial = memory / f"{status.st_ino}.{os.getpid()}.partial"
    partial.write_bytes(pickle.dumps(kept))
    os.replace(partial, memory / str(status.st_ino))


def after_the_cut(home: Path, memory: Path, target: Path, *, unsynced: str) -> None:
    """
    Make a home as the disk has it after the power was cut.

    Parameters
    ----------
    home : Path
        As it was when the process died.
    memory : Path
    target : Path
        Where the home is made anew.
    unsynced : {"gone", "zeros"}
        What is left of a file whose name was synced and whose bytes were not.
    """
    _restore(home.stat().st_ino, memory, target, unsynced)


def _restore(number: int, memory: Path, target: Path, unsynced: str) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    kept = memory / str(number)
    for name, (inode, is_folder) in pickle.loads(kept.read_bytes()).items() if kept.exists() else ():
        if is_folder:
            _restore(inode, memory, target / name, unsynced)
        elif (memory / str(inode)).exists():
            (target / name).write_bytes(pickle.loads((memory / str(inode)).read_bytes()))
        else:
            size = (memory / f"{inode}.held").stat().st_size
            (target / name).write_bytes(b"" if unsynced == "gone" else bytes(size))
