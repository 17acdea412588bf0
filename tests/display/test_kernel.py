"""The panel in a real kernel, seen from the other end of the wire: which messages come, and from where."""

from __future__ import annotations

import os
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE, meeting_place

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")

VIEW = "application/vnd.jupyter.widget-view+json"
SETUP = """
import threading, time
from display.fakes import FAILURES, FakeJob, snapshot
from IPython.display import display as put
from dobatch_pandas.display import front_end, show
from dobatch_pandas.display.panel import _live
FakeJob._ipython_display_ = lambda self: show(self)
def threads():
    return [t for t in threading.enumerate() if "dobatch" in t.name]
for panel in list(_live.values()):
    panel.close()
for thread in threads():
    thread.join()
job = FakeJob(snapshot())
def until(holds):
    while not holds():
        time.sleep(0.01)
def drawn():
    "Until all that is on the panel is of now: of two looks, the first may have been under way."
    looks = job.looks
    until(lambda: job.looks > looks + 1)
"""


class Kernel:
    """A kernel of its own, and what it says."""

    def __init__(self, folder: Path, **streams: Any) -> None:
        tests = Path(__file__).parents[1]
        # ipykernel leaves the streams of a kernel alone that knows itself in a test.
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        paths = [str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")]
        self._manager = manager.KernelManager(**meeting_place(folder))
        self._manager.kernel_spec.argv[0] = sys.executable
        self._manager.start_kernel(
            env={**environment, "PYTHONPATH": os.pathsep.join(paths), "IPYTHONDIR": str(folder)}, **streams
        )
        self.client = self._manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.buttons: dict[str, str] = {}

    def run(self, code: str, *, allow_stdin: bool = False, of_a_page: bool = False) -> list[dict[str, Any]]:
        """Run a cell, and return what was said until it had ended."""
        return self.until(ended(self.begin(code, allow_stdin=allow_stdin, of_a_page=of_a_page)))

    def begin(self, code: str, *, allow_stdin: bool = False, of_a_page: bool = False) -> str:
        """Begin to run a cell, and return its id."""
        content = {"code": code, "silent": False, "allow_stdin": allow_stdin}
        message = self.client.session.msg("execute_request", content)
        if of_a_page:
            message["header"]["msg_id"] = message["msg_id"] = str(uuid.uuid4())
        self.client.shell_channel.send(message)
        return str(message["msg_id"])

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Collect messages up to the first that meets a condition; `queue.Empty` where none does in time."""
        said: list[dict[str, Any]] = []
        while not said or not condition(said[-1]):
            said.append(self.client.get_iopub_msg(timeout=PATIENCE))
            state = said[-1]["content"].get("data", {}).get("state", {})
            if state.get("_model_name") == "ButtonModel":
                self.buttons[state["description"]] = said[-1]["content"]["comm_id"]
        return said

    def click(self, name: str) -> None:
        """Press a button, as the front end would."""
        click = {"method": "custom", "content": {"event": "click"}}
        message = self.client.session.msg("comm_msg", {"comm_id": self.buttons[name], "data": click})
        self.client.shell_channel.send(message)

    def stop(self) -> None:
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def one_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One for this module: starting is what takes long."""
    running = Kernel(tmp_path_factory.mktemp("ipython"))
    yield running
    running.stop()


@pytest.fixture
def kernel(one_kernel: Kernel) -> Kernel:
    """A kernel without any panel, and with a new ``job`` that has 40 of 100 requests answered."""
    one_kernel.run(SETUP)
    return one_kernel


def ended(cell: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a message says that a cell has ended."""
    return lambda m: (
        m["parent_header"].get("msg_id") == cell and m["content"].get("execution_state") == "idle"
    )


def of(kind: str, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message["content"] for message in said if message["msg_type"] == kind]


def printed(said: list[dict[str, Any]]) -> str:
    assert not of("error", said), of("error", said)
    return "".join(content["text"] for content in of("stream", said))


def values(said: list[dict[str, Any]]) -> str:
    """Everything that widgets were told to show."""
    states = [content["data"].get("state", {}) for content in of("comm_msg", said)]
    return "\n".join(str(value) for state in states for value in state.values())


def test_the_panel_comes_with_its_picture(kernel: Kernel) -> None:
    """
    A notebook gets the widget; nbconvert, viewers and a page without a kernel get the picture and the words.
    """
    assert printed(kernel.run("print(front_end())")) == "widget\n"
    panel, picture = of("display_data", kernel.run("job"))
    assert set(panel["data"]) == {VIEW, "text/html", "text/plain"}
    assert panel["data"]["text/html"] == ""
    assert set(picture["data"]) == {"text/html", "text/plain"}
    assert "40 answered" in picture["data"]["text/html"]
    assert panel["transient"]["display_id"] != picture["transient"]["display_id"]


@pytest.mark.parametrize("waits", ["computes", "awaits"])
def test_it_moves_while_a_cell_runs_and_prints_into_no_cell(
    kernel: Kernel, tmp_path: Path, waits: str
) -> None:
    """
    A cell that computes, or awaits in a running event loop, neither stops the panel nor gets a word of it into its output.
    """
    kernel.run("job")
    go = tmp_path / "go"
    cell = kernel.begin(f"""
import asyncio, pathlib
def move():
    for done in range(41, 61):
        job.set(completed=done)
        time.sleep(0.05)
threading.Thread(target=move).start()
while not pathlib.Path({str(go)!r}).exists():
    {"sum(range(3000))" if waits == "computes" else "await asyncio.sleep(0.01)"}
""")
    said = kernel.until(lambda m: "60 answered" in values([m]))
    assert not any(map(ended(cell), said))
    go.touch()
    said += kernel.until(ended(cell))
    assert printed(said) == ""
    assert not of("display_data", said)


def test_changes_are_gathered_and_nothing_is_sent_without_one(kernel: Kernel) -> None:
    """
    A thousand changes in a moment are a few messages, and a job that stands still sends only its clock.
    """
    kernel.run("job")
    said = kernel.run(
        "began = time.monotonic()\n"
        "for done in range(1000):\n    job.set(completed=40 + done % 50)\n"
        "drawn()\nprint(time.monotonic() - began)"
    )
    assert "89 answered" in values(said)
    # Four drawings a second, each of which changes the body, and at most a few pieces more.
    assert len(of("comm_msg", said)) < 8 + 4 * 4 * float(printed(said))
    # The clock of the fake stands in hours: between two ticks not a letter changes.
    said = kernel.run("drawn()")
    assert len(of("comm_msg", said)) <= 2


def test_cancel_asks_first_and_ends_as_a_picture(kernel: Kernel) -> None:
    """
    One click asks, the second cancels; then the picture takes the panel's place, and no thread is left.
    """
    panel, picture = of("display_data", kernel.run("job"))
    kernel.click("Cancel")
    kernel.until(lambda m: "Cancel this job?" in str(m["content"]))
    assert printed(kernel.run("print(job.calls)")) == "[]\n"
    kernel.click("Yes, cancel the job")
    said = kernel.until(lambda m: m["content"].get("transient") == panel["transient"])
    *_, kept, withdrawn = of("update_display_data", said)
    assert VIEW not in withdrawn["data"]
    assert kept["transient"] == picture["transient"]
    assert "60 never answered" in kept["data"]["text/html"]
    left = "[t.join() for t in threads()]\nprint(job.calls, threads(), job.listeners)"
    assert printed(kernel.run(left)) == "['cancel'] [] []\n"


def test_failing_actions_are_said_in_the_panel(kernel: Kernel) -> None:
    """
    A service that cannot be reached when Cancel is pressed is a sentence in the panel, not a traceback in some cell.
    """
    kernel.run(
        "from dobatch_pandas.errors import ConnectionFailed\n"
        "def refuse(): raise ConnectionFailed('No answer from the service <b>.')\njob.cancel = refuse\njob"
    )
    kernel.click("Cancel")
    kernel.until(lambda m: "Cancel this job?" in str(m["content"]))
    kernel.click("Yes, cancel the job")
    said = kernel.until(lambda m: "No answer from the service" in str(m["content"]))
    assert "No answer from the service &lt;b&gt;." in values(said)
    assert not [m for m in said if m["msg_type"] in ("stream", "error")]


def test_a_second_cell_shows_the_same_panel(kernel: Kernel) -> None:
    """
    Shown twice, there is one panel and one thread; both places become the picture.
    """
    shown = [of("display_data", kernel.run("job")) for _ in range(2)]
    first, second = (panel["data"][VIEW]["model_id"] for panel, _ in shown)
    assert first == second
    assert printed(kernel.run("print(len(threads()))")) == "1\n"
    said = kernel.run("job.set(state='completed', completed=100)\n[t.join() for t in threads()]")
    changed = {update["transient"]["display_id"] for update in of("update_display_data", said)}
    assert changed == {output["transient"]["display_id"] for outputs in shown for output in outputs}


def test_a_finished_job_is_a_picture_at_once(kernel: Kernel) -> None:
    """
    A job that is over and has no failure costs no widget and no thread.
    """
    said = kernel.run("FakeJob(snapshot(state='completed', completed=100))")
    (shown,) = of("display_data", said)
    assert set(shown["data"]) == {"text/html", "text/plain"}
    assert not of("comm_open", said)
    assert printed(kernel.run("print(threads())")) == "[]\n"


def test_the_magic_shows_its_job(kernel: Kernel, server: Any) -> None:
    """
    ``%%dobatch`` in a notebook shows the panel below its cell, and waiting shows no second one.
    """
    server.hold()
    kernel.run(
        "import pandas as pd, tempfile, dobatch_pandas as dobatch\n"
        f"dobatch.configure(base_url={server.url!r}, token={server.token!r}, home=tempfile.mkdtemp())\n"
        "df = pd.DataFrame({'word': ['a', 'b']})\n%load_ext dobatch_pandas"
    )
    shown = of("display_data", kernel.run("%%dobatch df --model m --into answer\nSay {word}"))
    assert [output for output in shown if VIEW in output["data"]]
    release = threading.Timer(0.5, server.release)
    release.start()
    said = kernel.run("df.dobatch.update(job)\nprint(list(df['answer']))")
    assert printed(said) == "['Say a', 'Say b']\n"
    assert not of("display_data", said)


def test_a_forgotten_job_leaves_its_last_picture(kernel: Kernel) -> None:
    """
    Deleted in another cell while its panel is on the page: no traceback anywhere, and the picture says what became of it.
    """
    panel, _ = of("display_data", kernel.run("job"))
    said = kernel.run("job.delete()\n[t.join() for t in threads()]\nprint(threads())")
    assert printed(said) == "[]\n"
    *_, kept, withdrawn = of("update_display_data", said)
    assert withdrawn["transient"] == panel["transient"]
    assert "40 answered" in kept["data"]["text/html"]
    assert "This job has been deleted from this machine." in kept["data"]["text/html"]
    again = kernel.run("job")
    assert not [m for m in again if m["msg_type"] in ("error", "comm_open")]
    assert printed(again) == ""


def test_a_wait_leaves_the_last_picture_where_the_job_was_shown(kernel: Kernel) -> None:
    """
    Run without a page (papermill, nbconvert), where only the running cell is listened to: the picture ends as done.
    """
    _, picture = of("display_data", kernel.run("job"))
    wait = """
from dobatch_pandas.display import progress
with progress(job):
    job.set(state="completed", completed=100)
"""
    cell = kernel.client.execute(wait)
    said = kernel.until(ended(cell))
    mine = [m for m in said if m["parent_header"].get("msg_id") == cell]
    updates = of("update_display_data", mine)
    assert (
        "100 answered"
        in [u for u in updates if u["transient"] == picture["transient"]][-1]["data"]["text/html"]
    )
    assert not of("display_data", mine)


@pytest.mark.parametrize("failed", [0, 3])
def test_a_wait_as_the_last_line_shows_the_job_once(kernel: Kernel, failed: int) -> None:
    """
    ``job.wait()`` returns the job, which the cell would show as well; in the next cell it is shown anew.
    """
    wait = f"""
from dobatch_pandas.display import progress
def wait():
    with progress(job):
        job.set(state="completed", completed={100 - failed}, failed={failed})
    return job
wait()
"""
    assert len(of("display_data", kernel.run(wait))) == 2  # the widget and its picture
    assert of("display_data", kernel.run("job"))
    assert len(of("display_data", kernel.run("put(job)\nput(job)"))) >= 2


def test_many_panels_are_a_line_each(kernel: Kernel) -> None:
    """
    Twelve jobs are twelve lines; one of them can be opened.
    """
    code = """
for n in range(12):
    FakeJob(snapshot(job_id=f"261123-{n:06}"))._ipython_display_()
def lines():
    return sum('dobatch-compact' in p.widget._dom_classes for p in _live.values())
until(lambda: lines() == 12)
"""
    kernel.run(code)
    kernel.run("next(iter(_live.values()))._fold()\nuntil(lambda: lines() == 11)")


def test_retry_buttons_say_how_many(kernel: Kernel) -> None:
    """
    What failed and may end otherwise, and what was never run, have a button each with its number.
    """
    over = "job.set(state='cancelled', completed=90, failed=10, cancelled=6, errors=FAILURES, round=0)"
    said = kernel.run(f"{over}\nput(job)")
    assert "Retry 1" in values(said) + str([m["content"] for m in said])
    assert "Send the other 6" in values(said) + str([m["content"] for m in said])
    assert "3 content" not in values(said)


SENTENCES = {
    "one": ("raise InputError(Problem('Values are missing.', tuple(range(14)), 14))", ["InputError", "Values are missing.", "rows  0, 1", "and 4 more"]),
    "many": ("raise InputError(['No column a.', Problem('Odd.', ('x',))])", ["2 problems, nothing was sent", "1. No column a.", "2. Odd.", "'x'"]),
    "budget": ("raise BudgetExceeded('Too dear.')", ["BudgetExceeded", "Too dear."]),
    "stopped": ("raise StoppedWaiting('The job continues.')", ["StoppedWaiting", "The job continues."]),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(SENTENCES))
def test_an_error_is_a_sentence(kernel: Kernel, kind: str) -> None:
    """
    The message first and alone, the cell's own line, and how to see the traceback, which then is a traceback.
    """
    code, words = SENTENCES[kind]
    setup = "from dobatch_pandas.errors import BudgetExceeded, InputError, Problem, StoppedWaiting\n"
    (error,) = of("error", kernel.run(setup + code))
    shown = "\n".join(error["traceback"])
    assert all(word in shown for word in words), shown
    assert "line 2: raise" in shown
    assert len(shown.splitlines()) < 12
    (full,) = of("error", kernel.run("%tb Plain")) or [{"traceback": []}]
    assert "most recent call last" in "\n".join(full["traceback"])


def test_an_error_of_a_call_names_the_users_line(kernel: Kernel) -> None:
    """
    However deep in the package it was raised, what is shown is the line that the user wrote.
    """
    code = "import pandas as pd, dobatch_pandas\nframe = pd.DataFrame({'a': [1]})\nframe.dobatch.plan('{b}', model='m')"
    (error,) = of("error", kernel.run(code))
    shown = "\n".join(error["traceback"])
    assert "line 3: frame.dobatch.plan" in shown
    assert "questions/" not in shown
    # Through a library's code it is still the user's line: copying asks for the job by its id.
    code = (
        "import copy\nfrom dobatch_pandas.errors import JobNotFound\nclass Gone:\n"
        "    def __reduce__(self): import dobatch_pandas; return dobatch_pandas.attach, ('261127-zzzzzz',)\n"
        "copy.deepcopy(Gone())"
    )
    (error,) = of(
        "error", kernel.run(f"import tempfile\ndobatch_pandas.configure(home=tempfile.mkdtemp())\n{code}")
    )
    assert "line 7: copy.deepcopy(Gone())" in "\n".join(error["traceback"])


def test_what_draws_is_chosen_by_who_asks(tmp_path: Path) -> None:
    """
    A kernel that was started on a terminal draws a bar for the cell that was typed there, redrawn within 80 columns,
    and the panel for the cell of a page or of nbconvert: they may share it.
    """
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    kernel = Kernel(tmp_path, stdout=terminal, stderr=terminal)
    try:
        kernel.run(SETUP + "from dobatch_pandas.display import progress")
        ask = "print(front_end())"
        assert printed(kernel.run(ask, allow_stdin=True)) == "bar\n"
        assert printed(kernel.run(ask, allow_stdin=True, of_a_page=True)) == "widget\n"
        assert printed(kernel.run(ask)) == "widget\n"

        wait = "with progress(job):\n    job.set(state='completed', completed=100)"
        said = kernel.run(wait, allow_stdin=True)
        assert not of("display_data", said)
        drawn, last = printed(said).rsplit("\r", 1)
        assert "Running" in drawn
        assert "40/100" in drawn
        assert "\n" not in drawn
        assert max(map(len, drawn.split("\r"))) < 80
        assert last.startswith("job 261123-abcdef: done: 100 answered")
    finally:
        kernel.stop()
        os.close(ours)
        os.close(terminal)


def test_a_bar_in_a_notebook_is_redrawn_where_somebody_sits(kernel: Kernel) -> None:
    """
    display="bar" on a page is one line that is drawn anew; where a notebook runs headless, it is a few lines.
    """
    wait = "with progress(job, 'bar'):\n    job.set(state='completed', completed=100)"
    kernel.run("from dobatch_pandas.display import progress")
    page = printed(kernel.run(wait, allow_stdin=True, of_a_page=True))
    assert "40/100" in page
    assert page.count("\n") == 1
    headless = printed(kernel.run("job = FakeJob(snapshot())\n" + wait))
    assert "\r" not in headless
    assert headless.splitlines()[0].startswith("job 261123-abcdef: running: 40 of 100")
