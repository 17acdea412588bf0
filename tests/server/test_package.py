"""What the server is made of."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dobatch_pandas.errors import MissingExtra
from dobatch_pandas.server import LocalServer, local

FOLDER = Path(local.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_the_server_knows_nothing_of_the_client(path):
    """
    A misreading of the protocol cannot cancel itself out.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2
            names = [node.module or ""] if node.level == 0 else []
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith("dobatch_pandas") or name == "dobatch_pandas.errors", name


def test_a_missing_extra_names_its_cure(monkeypatch):
    """
    Without Starlette there is one clear error.
    """
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "starlette" else real(name))
    with pytest.raises(MissingExtra, match=r"dobatch-pandas\[server\]"):
        LocalServer()


def test_importing_the_server_is_light():
    """
    The optional libraries are loaded when a server starts, not before.
    """
    program = (
        "import sys, dobatch_pandas.server\n"
        "heavy = ('starlette', 'uvicorn', 'httpx', 'xllamacpp', 'onnxruntime')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    )
    assert answer.stdout.strip() == "[]"


def test_nothing_is_printed(capfd):
    """
    A server in a notebook leaves the cell's output alone, errors of clients included.
    """
    import socket

    with LocalServer() as server:
        host, port = server.url.removeprefix("http://").split(":")
        for nonsense in (
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x00\x01\x02\r\n\r\n",
            b"PUT /storage/inputs/x.jsonl HTTP/1.1\r\n",
        ):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(nonsense)
    assert capfd.readouterr() == ("", "")


def test_it_runs_where_a_loop_is_running_already():
    """
    As in a notebook's kernel.
    """
    import asyncio
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    async def cell() -> int:
        with LocalServer() as server:
            request = urllib.request.Request(f"{server.url}/v1/models", headers={"Authorization": "Bearer x"})
            return await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=120).status)

    # In a thread of its own: another test's browser may keep a loop in this one.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, cell()).result() == 200
