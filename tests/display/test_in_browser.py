"""The panel in a real JupyterLab, in a real browser, against the embedded server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PANEL, PICTURE = ".dobatch-panel", ".dobatch-static"
EVIL = (
    "<script>window.hit=1</script><img src=x onerror='window.hit=2'><b>bold</b> **md** $x^2$ \\(y\\) \\[z\\]"
)

START = """
import pathlib, tempfile, time
import pandas as pd
import dobatch_pandas as dobatch
server = dobatch.LocalServer({options}).start()
dobatch.configure(base_url=server.url, token=server.token, home=tempfile.mkdtemp())
df = pd.DataFrame({{"text": [f"row {{i}}" for i in range(100)]}})
{more}
"""


def start(options: str = 'model="echo"', more: str = "") -> str:
    return START.format(options=options, more=more)


SUBMIT = 'job = df.dobatch.submit("Say {text}", model="echo")\njob'
HOLD = "server.hold(after=40)"

# The browser's own notifications, and a list of what they said.
RECORD = """() => {
  window.told = [];
  window.Notification = class extends window.Notification {
    constructor(title, options) {
      super(title, options);
      window.told.push([title, options.body]);
    }
  };
}"""

WAITS = {
    "sleeping": "while not go.exists():\n    time.sleep(0.02)",
    "busy": "while not go.exists():\n    sum(range(2000))",
}


@pytest.mark.parametrize("app", ["lab", "notebook"])
@pytest.mark.parametrize("how", list(WAITS))
def test_the_panel_goes_from_running_to_done_while_another_cell_runs(lab, tmp_path, how, app):
    """
    In JupyterLab and Notebook 7: it moves although the kernel sleeps in a cell, or computes without a pause.
    """
    go = tmp_path / "go"
    cell = f"go = pathlib.Path({str(go)!r})\nserver.release()\n{WAITS[how]}\nprint('cell', 'ended')"
    shown = lab.open([start(more=HOLD), SUBMIT, cell], app=app)

    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    assert (
        shown.page.get_by_role("progressbar", name="Requests that are finished").get_attribute(
            "aria-valuenow"
        )
        == "40"
    )
    shown.run_cell(2)
    shown.wait_for(PICTURE, "100 answered")
    assert "cell ended" not in shown.output(2).inner_text()
    go.touch()
    shown.wait_for(".jp-OutputArea-output", "cell ended")
    assert shown.output(1).locator(PANEL).count() == 0
    assert "Done" in shown.output(1).inner_text()


def test_cancel_asks_once_and_cancels_on_the_server(lab):
    """
    The question can be declined with the keyboard; a yes cancels the batch, and the panel says so.
    """
    shown = lab.open(
        [
            start(more=HOLD),
            SUBMIT,
            # The panel says so as soon as the click is there; the service hears of it a call later.
            "import time\nwhile server.batches[0].status == 'in_progress': time.sleep(0.05)\nserver.release()",
            "job.wait(); print([b.status for b in server.batches])",
        ]
    )
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    button = shown.page.get_by_role("button", name="Cancel", exact=True)
    button.focus()
    shown.page.keyboard.press("Enter")
    shown.wait_for("[role=alert]", "Cancel this job?")
    shown.page.get_by_role("button", name="No, let it run").click()
    button.wait_for()
    button.click()
    shown.page.get_by_role("button", name="Yes, cancel the job").click()
    shown.wait_for(f"{PANEL} [role=status]", "Cancel")
    shown.run_cell(2).run_cell(3)

    shown.wait_for(".jp-OutputArea-output", "['cancelled']")
    shown.wait_for(f"{PANEL}, {PICTURE}", "Cancelled")


def test_retry_failed_sends_again_what_failed(lab):
    """
    Errors are listed on demand; after a click on Retry failed every row has its answer, and the picture stays.
    """
    options = 'model="echo", fail_share=0.3, fail_kinds=("server_error",), fail_times=1'
    shown = lab.open([start(options), SUBMIT, "print(job.wait().counts)"]).run_all()

    retry = shown.wait_for("button", "Retry ")
    shown.page.get_by_role("button", name="Show errors").click()
    shown.wait_for(f"{PANEL} td", "http_500")
    shown.wait_for(f"{PANEL} caption", "Rows that failed")
    shown.page.get_by_role("button", name="Show 1 batch").click()
    shown.wait_for(f"{PANEL} th", "window ends")
    retry.click()
    shown.wait_for(PICTURE, "100 answered")
    assert "failed" not in shown.output(1).inner_text()


def test_two_cells_show_the_same_state(lab):
    """
    The job shown twice: both move together, with one thread.
    """
    count = (
        "import threading; print('threads', sum('dobatch-panel' in t.name for t in threading.enumerate()))"
    )
    shown = lab.open([start(more=HOLD), SUBMIT, "job", count, "server.release()"])
    for number in range(4):
        shown.run_cell(number)
    shown.wait_for(".jp-OutputArea-output", "threads 1")
    for number in (1, 2):
        shown.output(number).locator(PANEL).filter(has_text="40 answered").wait_for()
    shown.run_cell(4)
    for number in (1, 2):
        shown.output(number).locator(PICTURE).filter(has_text="100 answered").wait_for()


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_saved_notebook_without_a_kernel_shows_the_picture(lab, app):
    """
    Days later, elsewhere, untrusted: what was reached, in words, and no "model not found".
    """
    shown = lab.open([start('model="echo", fail_share=0.1'), SUBMIT, "job.wait();"], app=app).run_all()
    shown.wait_for(PANEL, "Retry ")
    shown.page.get_by_role("button", name="Close panel").click()
    shown.wait_for(PICTURE)
    saved = shown.save()
    assert "widget-view" not in str(saved["cells"][1]["outputs"])
    lab.close_windows()

    again = lab.open(shown.path, app=app, kernel=False)
    again.wait_for(PICTURE)
    words = again.output(1).inner_text()
    assert re.search(r"\d+ answered", words)
    assert re.search(r"\d+ failed", words)
    assert "Done, with failures" in words
    assert "model not found" not in words


def test_a_notebook_saved_while_its_job_runs_keeps_a_picture(lab):
    """
    The lid is closed, the kernel ends, the page is opened again: how far it was, and how to come back to it.
    """
    shown = lab.open([start(more=HOLD), SUBMIT])
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    assert not shown.output(1).locator(PICTURE).is_visible()
    shown.page.wait_for_function(
        "() => document.querySelector('.dobatch-static')?.textContent.includes('Running')"
    )
    shown.save()
    lab.close_windows()

    again = lab.open(shown.path, kernel=False)
    again.wait_for(PICTURE, "Running")
    assert "dobatch.attach(" in again.output(1).inner_text()


@pytest.mark.parametrize("ended", ["before", "after"])
def test_a_page_that_is_loaded_anew_shows_how_its_job_ended(lab, ended):
    """
    The page is closed, the kernel lives: opened again the cell follows the job to its end, or shows the end that it came to.
    """
    shown = lab.open([start(more=HOLD), SUBMIT, "job.wait();", "server.release()"])
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    shown.save()
    shown.page.evaluate("() => { window.onbeforeunload = null; }")
    if ended == "before":
        shown.run_cell(3).run_cell(2)
        shown.wait_for(PICTURE, "100 answered")
    shown.page.reload()
    shown.page.wait_for_selector(".jp-Notebook .jp-Cell")
    shown.wait_for_kernel()
    if ended == "after":
        shown.wait_for(PANEL, "40 answered")
        shown.run_cell(3)
    shown.page.wait_for_function(
        """() => {
          const words = document.querySelectorAll(".jp-Cell")[1].innerText;
          return words.includes("100 answered") && !words.includes("Running") && !words.includes("Cancel");
        }"""
    )


def test_a_panel_whose_kernel_is_gone_does_not_look_alive(lab):
    """
    After a restart its picture takes its place, with the way back to the job and without a button.
    """
    shown = lab.open([start(more=HOLD), SUBMIT])
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    shown.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
    )
    shown.wait_for(PICTURE, "dobatch.attach(")
    assert not shown.output(1).locator(PANEL).is_visible()
    assert shown.output(1).get_by_role("button").count() == 0
    shown.wait_for_kernel()


def test_nothing_in_the_data_runs_or_is_typeset(lab):
    """
    Tags, Markdown and LaTeX in answers, column names, ids and errors are text: in panel, picture and tables.
    """
    more = f"""
evil = {EVIL!r}
def answer(body, endpoint):
    if "bad" in body["messages"][0]["content"]:
        raise RuntimeError(evil)
    return evil
server.stop()
server = dobatch.LocalServer(model=answer).start()
dobatch.configure(base_url=server.url)
df = pd.DataFrame({{"text": ["good", "bad"]}}, index=[evil, evil + "2"])
"""
    show = 'job = df.dobatch.submit("{text}", model="<img src=y onerror=window.hit=3>", into=evil)\njob'
    tables = """
from IPython.display import HTML, display
from dobatch_pandas.display import html
display(HTML(html.table_html([{evil: evil}], [evil], caption=evil)))
display(dobatch.InputError([evil, evil]))
display(dobatch.DobatchError(evil))
display(df.rename(columns={"text": evil}).dobatch.plan("{" + evil.split("{")[0] + "}" if False else [
    {"role": "user", "content": evil}], model="echo", into=evil))
"""
    shown = lab.open([start(more=more), show, "job.wait();", tables]).run_all()
    shown.wait_for(PANEL, "Retry ")
    shown.page.get_by_role("button", name="Show errors").click()
    shown.wait_for(f"{PANEL} caption", "Rows that failed")
    nothing_ran(shown)
    shown.page.get_by_role("button", name="Close panel").click()
    shown.wait_for(PICTURE)
    nothing_ran(shown)


def nothing_ran(shown: Any) -> None:
    assert shown.page.evaluate("() => window.hit ?? null") is None
    output = shown.page.locator(".jp-OutputArea")
    for made in ("script", "img", "mjx-container", ".MathJax"):
        assert output.locator(made).count() == 0, made
    assert output.locator("b", has_text="bold").locator("text=/^bold$/").count() == 0


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_notebook_saved_right_after_failures_reopens_clean(lab, app):
    """
    Saved while Retry is still at hand, opened with a fresh kernel: the picture alone, no "model not found".
    """
    shown = lab.open([start('model="echo", fail_share=0.1'), SUBMIT, "job.wait();"], app=app).run_all()
    shown.wait_for(PANEL, "Retry ")
    shown.wait_for(f"{PANEL} code", "df.dobatch.update(job)")
    shown.save()
    lab.close_windows()

    again = lab.open(shown.path, app=app)
    again.wait_for(PICTURE, "Done, with failures")
    # The message is written when the widgets of the page have been looked for.
    again.page.wait_for_function("() => !document.body.innerText.includes('Loading widget')")
    assert "model not found" not in again.output(1).inner_text()


def test_the_keyboard_lands_on_the_answer_that_changes_nothing(lab):
    """
    Cancel, asked with the keyboard: the focus is on "No, let it run", and back on Cancel after it.
    """
    shown = lab.open([start(more=HOLD), SUBMIT])
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    shown.page.get_by_role("button", name="Cancel", exact=True).focus()
    for expected in ("No, let it run", "Cancel"):
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_function("(words) => document.activeElement.textContent === words", arg=expected)


def test_the_list_of_jobs_follows_what_runs(lab):
    """
    The table of one cell goes from running to done while others run, without another look.
    """
    cells = [start(more=HOLD), SUBMIT, "dobatch.jobs()", "server.release()", "dobatch.jobs().status.tolist()"]
    shown = lab.open(cells)
    shown.run_cell(0).run_cell(1).run_cell(2)
    shown.output(2).locator("td", has_text="running").wait_for()
    shown.run_cell(3)
    shown.output(2).locator("td", has_text=re.compile("^done$")).wait_for()
    assert shown.output(2).locator("td", has_text="100 %").count() == 1


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_the_browser_tells_once_that_the_job_has_ended(lab, tmp_path, app):
    """
    Asked for while the kernel is busy, on one of two panels: at the end there is one notification, with the job's words.
    """
    go = tmp_path / "go"
    cell = f"go = pathlib.Path({str(go)!r})\n{WAITS['sleeping']}\nserver.release()\njob.wait();"
    shown = lab.open([start(more=HOLD), SUBMIT, "job", cell], app=app, permissions=["notifications"])
    shown.page.evaluate(RECORD)
    for number in range(4):
        shown.run_cell(number)
    bells = [
        shown.output(number).get_by_role("button", name=re.compile("Notify me|Will notify"))
        for number in (1, 2)
    ]
    bells[0].click()
    for one in bells:
        one.and_(shown.page.locator("[aria-pressed=true]")).wait_for()
    go.touch()
    for number in (1, 2):
        shown.output(number).locator(PICTURE).filter(has_text="100 answered").wait_for()
    shown.page.wait_for_function("() => window.told.length")
    ((title, body),) = shown.page.evaluate("() => window.told")
    assert re.fullmatch(r"Job \S+: Done", title)
    assert body == "100 answered, 0 failed."


def test_who_has_not_asked_is_not_notified(lab):
    """
    Asked for and taken back: nothing is told, however often the job ends.
    """
    shown = lab.open([start(more=HOLD), SUBMIT, "server.release()"], permissions=["notifications"])
    shown.page.evaluate(RECORD)
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL).get_by_role("button", name="Notify me").click()
    shown.page.get_by_role("button", name="Will notify you").click()
    shown.page.get_by_role("button", name="Notify me").wait_for()
    shown.run_cell(2)
    shown.wait_for(PICTURE, "100 answered")
    assert shown.page.evaluate("() => window.told") == []


def test_a_browser_that_may_not_notify_does_not_offer_it(lab):
    """
    After a no to the browser's question the button is gone, and a panel shown later never had it.
    """
    shown = lab.open([start(more=HOLD), SUBMIT, "job"])
    shown.run_cell(0).run_cell(1)
    shown.wait_for(PANEL).get_by_role(
        "button", name="Notify me"
    ).click()  # a browser without a window says no
    bell = shown.page.locator(f"{PANEL} button[aria-pressed=false]")
    bell.wait_for(state="hidden")
    shown.run_cell(2)
    shown.output(2).locator("button[aria-pressed=false]").wait_for(state="attached")
    assert not shown.output(2).locator("button[aria-pressed]").is_visible()
    assert shown.output(2).get_by_role("button", name="Cancel", exact=True).is_visible()


def test_a_page_without_anywidget_shows_the_panel_whole(lab):
    """
    A Lab of another environment, which cannot draw the one button: no error is to be seen, the others work.
    """
    shown = lab.open([start(more=HOLD), SUBMIT], permissions=["notifications"])
    shown.page.route("**/extensions/anywidget/**", lambda route: route.abort())
    shown.page.evaluate("() => { window.onbeforeunload = null; }")
    shown.page.reload()
    shown.page.wait_for_selector(".jp-Notebook .jp-Cell")
    shown.wait_for_kernel().run_cell(0).run_cell(1)
    shown.wait_for(PANEL, "40 answered")
    error = shown.page.locator(f"{PANEL} .jupyter-widgets-error-widget")
    error.wait_for(state="attached")
    assert not error.is_visible()
    shown.page.get_by_role("button", name="Cancel", exact=True).click()
    shown.wait_for("[role=alert]", "Cancel this job?")


def test_a_line_on_a_narrow_page_keeps_its_button_whole(lab):
    """
    Twelve jobs beside another window: long words of a line are cut, and the button that opens it is not.
    """
    docs = str(Path(__file__).parents[2] / "docs")
    cell = f"import sys; sys.path.insert(0, {docs!r}); import screenshots; screenshots.show_twelve()"
    shown = lab.open([cell], app="notebook", viewport={"width": 400, "height": 900}).run_all()
    lines = shown.page.locator(
        ".dobatch-panel.dobatch-compact", has_text="about 3"
    )  # minutes left: the longest
    lines.nth(1).get_by_role("button", name="More").wait_for()
    beyond = lines.evaluate_all(
        """(lines) => lines.map((line) => [...line.querySelectorAll("button")].find((b) => b.textContent === "More")
          .getBoundingClientRect().right - line.getBoundingClientRect().right)"""
    )
    assert max(beyond) < 0
