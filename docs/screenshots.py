"""
Take the pictures of the job panel: ``python docs/screenshots.py [folder]``, by default ``docs/images``.

Needs JupyterLab, playwright and Chromium. The jobs are made up, the panel, the Lab and the browser are real.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.display.snapshot import BatchRow, Expected, Snapshot

HERE = Path(__file__).parent
DAY = 24 * 3600.0


class PaintedJob:
    """A job that stands still, to be drawn."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.id, self._snapshot = snapshot.job_id, snapshot

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def __repr__(self) -> str:
        return f"<Job {self.id}>"


def _batches(now: float, states: dict[str, int], each: int = 4_000) -> tuple[BatchRow, ...]:
    rows = []
    for state, count in states.items():
        for _ in range(count):
            here = state in ("rendered", "uploading", "uploaded")
            done = {"completed": each - 9, "in_progress": each // 3, "finalizing": each - 12}.get(state, 0)
            rows.append(
                BatchRow(
                    part=len(rows),
                    batch_id=None if here else f"batch_6a90{len(rows):04x}b7e1",
                    state=state,
                    requests=each,
                    completed=done,
                    failed={"completed": 9, "finalizing": 12}.get(state, 0),
                    bytes=6_200_000,
                    created_at=None if here else now - 1500,
                    deadline=None if here else now - 1500 + DAY,
                )
            )
    return tuple(rows)


ERRORS = (
    ErrorGroup("content_filter", 31, "The provider's content filter withheld the answer."),
    ErrorGroup("length", 14, "The answer was cut at max_tokens; give it more room."),
    ErrorGroup("http_500", 4, "server_error: The server had an error while processing your request."),
    ErrorGroup("http_429", 1, "rate_limit_exceeded: Rate limit reached for this model."),
)


EXPECTED = Expected(5.20, 6.40, 7.00, counted=True)


def states() -> dict[str, Snapshot]:
    """One job at the moments of its life, and the ways to stop."""
    now = time.time()
    base = Snapshot(
        job_id="261123-h4kq7x", state="running", model="gpt-4.1-mini", provider="openai",
        endpoint="/v1/chat/completions", into="sentiment", rows=83_880, requests=80_000, rendered=83_880,
        parts=20, uploaded=20, started=now - 1520, deadline=now - 1500 + DAY,
    )  # fmt: skip
    running = replace(
        base,
        completed=34_555,
        failed=45,
        eta=1970.0,
        batches=_batches(now, {"completed": 4, "in_progress": 14, "validating": 2}),
        prompt_tokens=6_914_221,
        completion_tokens=1_402_987,
        cost=2.51,
        expected=EXPECTED,
        errors=ERRORS[:2],
    )
    done = replace(
        base, state="completed", completed=79_950, failed=50, ended=now - 60, deadline=None, errors=ERRORS,
        batches=_batches(now, {"completed": 20}),
        prompt_tokens=16_120_440, completion_tokens=3_198_020, cost=5.78,
    )  # fmt: skip
    return {
        "uploading": replace(
            base,
            job_id="261123-aaaaaa",
            state="uploading",
            uploaded=3,
            upload_share=0.43,
            started=now - 41,
            expected=EXPECTED,
            batches=_batches(now, {"validating": 3, "uploading": 2, "rendered": 15}),
        ),
        "running": running,
        "finalizing": replace(
            base,
            job_id="261123-bbbbbb",
            state="finalizing",
            completed=79_760,
            failed=240,
            batches=_batches(now, {"finalizing": 20}),
        ),
        "done": replace(done, job_id="261123-cccccc"),
        "paused": replace(
            running,
            job_id="261123-dddddd",
            state="paused",
            eta=None,
            problem="The service answered 401 (unauthorized): the token has expired. Give a valid token "
            "with dobatch.configure(token=...); the job resumes by itself.",
        ),
        "cancelled": replace(
            running,
            job_id="261123-ffffff",
            state="cancelled",
            eta=None,
            ended=now - 60,
            deadline=None,
            failed=45_445,
            cancelled=45_400,
            errors=(*ERRORS[:2], ErrorGroup("cancelled", 45_400, "The batch was cancelled first.")),
            batches=_batches(now, {"completed": 4, "cancelled": 16}),
        ),
        "all-failed": replace(
            done,
            job_id="261123-gggggg",
            completed=0,
            failed=80_000,
            cost=None,
            errors=(
                ErrorGroup("http_404", 80_000, "not_found_error: model 'gpt-4.1-mini' is not known here."),
            ),
        ),
        "failed": replace(
            base,
            job_id="261123-eeeeee",
            state="failed",
            ended=now - 1400,
            deadline=None,
            batches=_batches(now, {"failed": 20}),
            completed=0,
            problem="The service refused every batch: invalid_request_error: model 'gpt-4.1-mini' is not "
            "available in this region. Submit again with another model.",
        ),
    }


def show(name: str) -> None:
    """Show one of the jobs; what the notebook's cells call."""
    from dobatch_pandas.display import panel

    panel.show_panel(PaintedJob(states()[name]), compact=False)


def show_twelve() -> None:
    """Show twelve jobs at once, in the compact form."""
    from dobatch_pandas.display import panel

    found = list(states().values())
    for number in range(12):
        one = replace(found[number % len(found)], job_id=f"261123-{number:06}", model=f"model-{number}")
        panel.show_panel(PaintedJob(one), compact=True)


def show_static(name: str) -> None:
    """Show the picture that a saved notebook keeps."""
    from IPython.display import HTML, display

    from dobatch_pandas.display.html import static_html

    display(HTML(static_html(states()[name])))


def take(folder: Path) -> list[Path]:
    """Take every picture, and return where they are."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import browser

    folder.mkdir(parents=True, exist_ok=True)
    names = list(states())
    prepare = f"import sys; sys.path.insert(0, {str(HERE)!r}); import screenshots"
    cells = [
        prepare, *(f"screenshots.show({name!r})" for name in names), "screenshots.show_static('done')",
        "screenshots.show_twelve()",
    ]  # fmt: skip
    taken = []
    with tempfile.TemporaryDirectory() as place, browser.open_lab(Path(place)) as lab:
        for theme, title in (("light", "JupyterLab Light"), ("dark", "JupyterLab Dark")):
            for width, ending in ((1000, ""), (400, "-narrow")):
                shown = lab.open(
                    cells, app="notebook", viewport={"width": width, "height": 4200}, device_scale_factor=2
                )
                shown.page.evaluate(
                    "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", title
                )
                shown.run_all()
                shown.wait_for(".dobatch-panel >> nth=4")
                shown.output(len(cells) - 2).locator(".dobatch-static").wait_for()
                shown.output(len(cells) - 1).locator(".dobatch-compact").nth(9).wait_for()
                shown.wait_for_kernel()
                shown.output(2).get_by_role("button", name="Notify me").wait_for()
                for number, name in enumerate([*names, "static", "twelve"], 1):
                    if ending and name not in ("running", "done", "twelve"):
                        continue
                    path = folder / f"panel-{name}-{theme}{ending}.png"
                    _picture_of(shown.output(number), path)
                    taken.append(path)
                lab.close_windows()
    return taken


def _picture_of(output: Any, path: Path) -> None:
    # Twelve jobs are one picture.
    many = output.locator(".dobatch-compact").count() > 1
    (output if many else output.locator(".dobatch-panel, .dobatch-static").first).screenshot(
        path=str(path), animations="disabled"
    )


if __name__ == "__main__":
    for picture in take(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images"):
        print(picture)
