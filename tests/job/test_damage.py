"""A job's folder whose files are damaged or gone, and a disk that takes or gives nothing: told, mended where it can be."""

from __future__ import annotations

import errno
import subprocess
import sys

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.errors import BudgetExceeded, ConfigurationError
from dobatch_pandas.job import folder as folder_module
from dobatch_pandas.job import process

FRAME = pd.DataFrame({"n": range(6)})
SAID = [f"number {n}" for n in FRAME["n"]]

DAMAGE = {
    "gone": None,
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "cut": lambda content: content[:-1],
    "noise": lambda content: content[::-1],
}


def ask(**options):
    return FRAME.dobatch.submit("number {n}", model="echo", into="answer", display=False, **options)


def damage(path, how):
    """Do some damage to a file, and let this process know no more of its job than a new one would."""
    if DAMAGE[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    process.close_home(dobatch.config.settings().home)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_results_are_read_again_from_what_the_service_gave(server, how):
    """
    Answers that were paid for are not lost with the file that they were read into.
    """
    job = ask().wait()
    damage(job._folder.result(0), how)
    job = dobatch.attach(job.id)
    assert list(job.result()["answer"]) == SAID
    assert list(FRAME.dobatch.join(job)["answer"]) == SAID
    assert job.retry() == 0
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_ids_of_a_part_are_taken_from_its_requests(server, how):
    """
    A job that runs goes on without the list of what is in a part.
    """
    server.hold()
    job = ask().sent()
    damage(job._folder.part_manifest(0), how)
    server.release()
    assert list(dobatch.attach(job.id).result()["answer"]) == SAID


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["manifest", "rows"])
def test_a_damaged_list_of_rows_is_told(server, name, how):
    """
    Which answer is on which row is not known any more: that is an error in words, and never an empty column.
    """
    if (name, how) == ("rows", "gone"):
        pytest.skip("the manifest of a job of version 0.1.0 stands in for it")
    job = ask().wait()
    damage(getattr(job._folder, name), how)
    for look in (dobatch.attach(job.id).result, dobatch.attach(job.id).responses):
        with pytest.raises(ConfigurationError, match=f"{name}.parquet"):
            look()


@pytest.mark.parametrize("name", ["result", "manifest", "rows"])
def test_a_folder_in_the_place_of_a_file_is_told(server, name):
    """
    Whatever has made a folder of that name: it is an error in words at every look, and no answer on a wrong row.
    """
    job = ask().wait()
    path = job._folder.result(0) if name == "result" else getattr(job._folder, name)
    path.unlink()
    path.mkdir()
    for look in (job.result, job.responses, job.errors):
        with pytest.raises(ConfigurationError, match=path.name):
            look()
    path.rmdir()
    if name == "result":
        assert list(job.result()["answer"]) == SAID


@pytest.mark.parametrize("how", ["gone", "empty", "zeros", "noise"])
def test_a_lost_journal_is_told_and_nothing_sent_again(server, how):
    """
    Where nobody knows how far a job has come, it says so; it can be forgotten, and asked anew.
    """
    job = ask().wait()
    damage(job._folder.journal_path, how)
    for look in (lambda: dobatch.attach(job.id), ask):
        with pytest.raises(ConfigurationError, match=r"journal\.jsonl is gone, empty or damaged"):
            look()
    assert set(server.executed.values()) == {1}
    left = dobatch.Job(process.home_here(), job.id)
    left.forget()
    assert list(ask().result()["answer"]) == SAID


def test_a_held_job_that_is_cancelled_or_allowed_is_over_for_who_waits_next(server):
    """
    ``job.allow(...)`` and ``job.cancel()``, then ``job.wait()`` at once: what was held does not hold it any more.
    """
    options = {"model": "gpt-4.1-mini", "into": "answer", "max_tokens": 5, "display": False}
    server.faults.fail_share = 1.0
    for number, go_on in enumerate([lambda job: job.allow(1.0), lambda job: job.cancel()]):
        job = FRAME.dobatch.submit(f"number {{n}}, {number}", max_cost=1.0, **options).wait()
        job.allow(1e-9)
        job.retry(job.errors()["error_code"].unique())
        with pytest.raises(BudgetExceeded):
            job.wait()
        go_on(job)
        assert job.wait(timeout=240).status in ("completed", "cancelled")


def test_a_full_disk_is_told_at_submit(server, monkeypatch):
    """
    A disk without room for the question is an error in words, and leaves nothing behind.
    """

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "sync_file", full)
        with pytest.raises(ConfigurationError, match="No space left"):
            ask()
    assert dobatch.jobs().empty


def test_a_folder_that_cannot_be_locked_is_told(server, monkeypatch):
    """
    A retry, a forget or another limit in a home that cannot be written is an error in words.
    """
    job = ask().wait()

    def refuse(self):
        raise OSError(errno.EROFS, "Read-only file system", str(self.lock_path))

    monkeypatch.setattr(folder_module.JobFolder, "try_lock", refuse)
    for act in (job.retry, job.forget):
        with pytest.raises(ConfigurationError, match="Read-only file system"):
            act()
    assert list(job.result()["answer"]) == SAID


@pytest.mark.parametrize(
    ("owner", "name"), [(folder_module.JobFolder, "try_lock"), (folder_module.DiskFile, "read")]
)
def test_a_disk_that_cannot_be_read_for_a_moment_leaves_no_job_standing(
    owner, name, server, home, monkeypatch
):
    """
    Whoever takes up a job just then is told, and whoever tries again moves it.
    """
    server.hold()
    job = ask()
    process.close_home(home)

    def broken(self):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        for again in (ask, lambda: dobatch.attach(job.id)):
            with pytest.raises(ConfigurationError, match="Input/output error"):
                again()
    server.release()
    assert list(dobatch.attach(job.id).wait(timeout=240).result()["answer"]) == SAID


def test_a_submit_that_finds_its_job_is_told_what_cannot_be_written(server, home):
    """
    The labels of the frame that asks again cannot be kept: an error in words.
    """
    job = ask().wait()
    rows = home / "jobs" / job.id / "rows.parquet"
    rows.unlink()
    rows.mkdir()
    with pytest.raises(ConfigurationError, match=r"rows\.parquet"):
        ask()


def test_a_limit_that_is_set_after_the_end_holds_for_a_retry(server):
    """
    ``job.allow`` of a job that is over is not passed over: what a retry sends keeps to it.
    """
    server.faults.fail_share = 1.0
    job = FRAME.dobatch.submit(
        "number {n}", model="gpt-4.1-mini", into="answer", max_tokens=5, max_cost=1.0, display=False
    )
    job.wait()
    sent = sum(server.executed.values())
    codes = job.errors()["error_code"].unique()
    job.allow(max_cost=1e-9)
    assert job.retry(codes) == len(FRAME)
    with pytest.raises(BudgetExceeded):
        job.wait()
    assert sum(server.executed.values()) == sent
    server.faults.fail_share = 0.0
    job.allow(max_cost=1.0)
    assert list(job.wait().result()["answer"]) == SAID


def test_what_a_function_of_atexit_submits_is_sent(server, home):
    """
    A submit while the interpreter already ends is sent before it has ended.
    """
    script = (
        "import atexit, pandas as pd, dobatch_pandas as dobatch\n"
        f"dobatch.configure(base_url={server.url!r}, token='local', home={str(home / 'other')!r})\n"
        "frame = pd.DataFrame({'n': range(6)})\n"
        "atexit.register(lambda: frame.dobatch.submit('number {n}', model='echo', display=False))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240, capture_output=True)
    assert [batch.total for batch in server.batches] == [6]
