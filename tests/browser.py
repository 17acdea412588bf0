"""
A real JupyterLab in a real browser, for tests and for the script that takes the screenshots.

``open_lab(folder)`` starts a Lab with folders of its own, ``lab.page()`` opens a browser that reaches nothing
but this machine. Tests take the fixtures ``lab`` (one a worker) and ``notebook`` (a page with a notebook).
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import waiting

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # Nothing but this machine has a name: an asset from elsewhere would be missed at once.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]  # fmt: skip
PATIENCE = 1000 * waiting.PATIENCE  # milliseconds
# A server of Jupyter and its kernels meet at files: a port that is chosen may be another's before the kernel is there.
AT_FILES = ["--KernelManager.transport=ipc"] if sys.platform == "linux" else []


def missing() -> str | None:
    """Say why no browser test can run here, or None where it can."""
    if not CHROMIUM.exists():
        return f"Chromium is not installed ({CHROMIUM})"
    for module in ("playwright", "jupyterlab", "notebook", "nbformat"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None


_running: list[Any] = []


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium, driven by playwright; one a process, since playwright allows no second."""
    from playwright.sync_api import sync_playwright

    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        _running.append(browser)
        try:
            yield browser
        finally:
            _running.clear()
            browser.close()


def window(browser: Any, **options: Any) -> Any:
    """Open a page in a window of its own that waits as long as a busy machine takes; options are new_context's."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    return context.new_page()


class Page:
    """One notebook, open in the browser. ``page`` is playwright's."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.path = page, path

    def wait_for_kernel(self) -> Page:
        """Wait until the kernel has started and has nothing to do."""
        self.page.wait_for_function(
            """() => {
              const session = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session;
              return session?.kernel?.status === "idle";
            }"""
        )
        return self

    def command(self, name: str) -> Page:
        """Run one of Jupyter's commands, without waiting for it to end."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)
        return self

    def run_all(self) -> Page:
        """Run every cell, as the menu does."""
        return self.wait_for_kernel().command("notebook:run-all-cells")

    def run_all_from_menu(self) -> Page:
        """Run every cell with two clicks, as a person does."""
        self.wait_for_kernel()
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        return self

    def wait_for_last_cell(self) -> Page:
        """Wait until the last code cell has ended, well or badly, or one before it has failed."""
        self.page.wait_for_function(
            """() => {
              const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
              const code = [...cells].filter((cell) => cell.type === "code" && cell.sharedModel.getSource().trim());
              const failed = code.some((cell) => cell.outputs.toJSON().some((o) => o.output_type === "error"));
              const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
              return failed || (code.at(-1).executionCount !== null && session.kernel.status === "idle");
            }""",
            timeout=2 * PATIENCE,
        )
        return self

    def wait_for_last_cell_of(self, number: int) -> Page:
        """Wait until a cell, counted from 0, has ended, whatever became of those before it."""
        self.page.wait_for_function(
            """(number) => {
              const panel = window.jupyterapp.shell.currentWidget;
              const cell = panel.content.widgets[number].model;
              return cell.executionCount !== null && panel.sessionContext.session.kernel.status === "idle";
            }""",
            arg=number,
            timeout=2 * PATIENCE,
        )
        return self

    def run_cell(self, number: int) -> Page:
        """Run one cell, counted from 0; return when it has been handed to the kernel, not when it ends."""
        self.page.evaluate(
            """async (number) => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.deselectAll();
              notebook.activeCellIndex = number;
              const frame = () => new Promise(requestAnimationFrame);
              let prompt;  // a page that was just loaded draws its cells one after the other
              while (!(prompt = notebook.widgets[number].node.querySelector(".jp-InputPrompt"))) await frame();
              const before = prompt.textContent;
              window.jupyterapp.commands.execute("notebook:run-cell");
              while (prompt.textContent === before) await frame();
            }""",
            number,
        )
        return self

    def save(self) -> dict[str, Any]:
        """Save the notebook and return what is on disk then."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
        return dict(json.loads(self.path.read_text(encoding="utf-8")))

    def wait_for(self, selector: str, text: str | None = None, timeout: float = PATIENCE) -> Any:
        """Wait until something is to be seen, and return it."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        found = self.page.locator(selector)
        found = found.filter(has_text=text).first if text else found.first
        try:
            found.wait_for(state="visible", timeout=timeout)
        except PlaywrightTimeout:
            outputs = "\n--\n".join(self.page.locator(".jp-OutputArea").all_inner_texts())
            raise AssertionError(
                f"{text or selector!r} was not to be seen; the outputs say:\n{outputs}"
            ) from None
        return found

    def output(self, number: int) -> Any:
        """Everything that the cell, counted from 0, has put out."""
        return self.page.locator(".jp-Cell").nth(number).locator(".jp-OutputArea")

    def shut_down_kernel(self) -> Page:
        """End the kernel, as one who goes home does."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        return self

    def screenshot(self, path: Path) -> Path:
        """Write what the window shows."""
        self.page.screenshot(path=str(path))
        return path


class Lab:
    """
    A running JupyterLab with Notebook 7 beside it.

    Parameters
    ----------
    url : str
    token : str
    folder : pathlib.Path
        Where its notebooks are.
    browser : playwright's Browser
    """

    def __init__(self, url: str, token: str, folder: Path, browser: Any) -> None:
        self.url, self.token, self.folder, self.browser = url, token, folder, browser
        self._contexts: list[Any] = []

    def write(self, cells: Sequence[str], name: str | None = None) -> Path:
        """Write a notebook of code cells and return its path."""
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        path = self.folder / (name or f"{secrets.token_hex(6)}.ipynb")
        nbformat.write(notebook, path)
        return path

    def open(
        self, notebook: Path | Sequence[str], *, app: str = "lab", kernel: bool = True, **context: Any
    ) -> Page:
        """
        Open a notebook in a browser window of its own and wait for its kernel.

        Parameters
        ----------
        notebook : path or sequence of str
            A notebook in the Lab's folder, or the sources of its cells.
        app : {"lab", "notebook"}
            JupyterLab or Notebook 7.
        kernel : bool
            False opens it without starting a kernel.
        **context
            To playwright's new_context: viewport, color_scheme, ...
        """
        path = notebook if isinstance(notebook, Path) else self.write(notebook)
        if not kernel:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["metadata"].pop("kernelspec", None)
            path.write_text(json.dumps(content), encoding="utf-8")
        page = window(self.browser, **{"viewport": {"width": 1200, "height": 900}, **context})
        self._contexts.append(page.context)
        # A window of its own workspace: what another test has open is not restored here.
        place = f"lab/workspaces/{secrets.token_hex(6)}/tree" if app == "lab" else "notebooks"
        page.goto(f"{self.url}/{place}/{path.relative_to(self.folder)}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        shown = Page(page, path)
        return shown.wait_for_kernel() if kernel else shown

    def close_windows(self) -> None:
        """Close every window and end every kernel."""
        while self._contexts:
            self._contexts.pop().close()
        for session in self._ask("GET", "/api/sessions"):
            self._ask("DELETE", f"/api/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def open_lab(folder: Path) -> Iterator[Lab]:
    """
    Start a JupyterLab in folders of its own, and a browser; both end with the block.

    Parameters
    ----------
    folder : pathlib.Path
        Everything Jupyter writes goes there, notebooks too.
    """
    token = secrets.token_hex(16)
    places = {
        name: folder / name for name in ("config", "data", "workspaces", "settings", "ipython", "notebooks")
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    quiet = places["settings"] / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTER_DATA_DIR": str(places["data"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(places["workspaces"]),
        "JUPYTERLAB_SETTINGS_DIR": str(places["settings"]),
        "IPYTHONDIR": str(places["ipython"]),
        "DOBATCH_HOME": str(folder / "dobatch"),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(tests.parent), str(tests), os.environ.get("PYTHONPATH")])
        ),
    }
    with ExitStack() as stack:
        # The path of a file to meet at may be of some 100 characters.
        runtime = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="lab", ignore_cleanup_errors=True))
        )
        log = stack.enter_context((folder / "lab.log").open("wb"))
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={free_port()}", "--ServerApp.port_retries=50", "--allow-root",
                f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={places['notebooks']}",
                "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
                "--LabApp.extension_manager=readonly", "--LabApp.news_url=None", *AT_FILES,
            ],
            env={**environment, "JUPYTER_RUNTIME_DIR": str(runtime)}, stdout=log, stderr=subprocess.STDOUT, cwd=places["notebooks"],
        )  # fmt: skip
        stack.callback(end, process)
        url = _url_when_up(runtime, token, process, folder / "lab.log")
        lab = Lab(url, token, places["notebooks"], stack.enter_context(chromium()))
        stack.callback(lab.close_windows)
        yield lab


def free_port() -> int:
    """A port that is free, below those that the system gives to whoever asks for any: it stays free."""
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


def _url_when_up(runtime: Path, token: str, process: subprocess.Popen[bytes], log: Path) -> str:
    # The port may be another one than was asked for, since somebody may have been quicker.
    info = runtime / f"jpserver-{process.pid}.json"
    until = time.monotonic() + waiting.PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            url = f"http://127.0.0.1:{json.loads(info.read_text(encoding='utf-8'))['port']}"
            with urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=60):
                return url
        except (ValueError, OSError):
            # Another process's start has no event to wait for.
            time.sleep(0.1)
    raise RuntimeError(
        f"JupyterLab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
    )


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server that was started answers; fail with its words where it ends instead."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=60).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    waiting.eventually(answers)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def lab_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One Lab and one browser for all browser tests of this worker."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with open_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def lab(lab_session: Lab) -> Iterator[Lab]:
    """A Lab without any window or kernel of an earlier test."""
    yield lab_session
    lab_session.close_windows()
