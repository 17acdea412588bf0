"""A job is found again, reuses what is known, and shares its home with other processes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import filelock
import pandas as pd
import pytest
from waiting import PATIENCE, eventually

import dobatch_pandas as dobatch
from dobatch_pandas import config
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import (
    BudgetExceeded,
    ConfigurationError,
    InputError,
    JobNotFound,
    JobNotReady,
    WaitTimeout,
)
from dobatch_pandas.job import process
from dobatch_pandas.job.process import close_home

FRAME = pd.DataFrame({"word": [f"word {n}" for n in range(30)]})


def ask(frame=FRAME, prompt="Say {word}", **options):
    return frame.dobatch.submit(prompt, model="echo", into="said", **options)


def forget_in_memory():
    """What a restarted kernel has: the disk."""
    close_home(dobatch.config.settings().home)


def test_the_same_plan_again_is_the_same_job(server, capsys):
    """
    Run All, or a restarted kernel, finds its job and says so; nothing is uploaded or created again.
    """
    first = ask().wait()
    calls = len(server.calls)
    dobatch.configure(display=None)
    again = ask()
    assert again.id == first.id
    assert "nothing is sent again" in capsys.readouterr().out
    assert len(server.calls) == calls
    forget_in_memory()
    assert ask(display=False).id == first.id
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("closed", [True, False])
def test_the_same_plan_again_needs_no_stream(server, monkeypatch, closed):
    """
    In a service, or a Python without a console, there is nobody to tell that the job is known, and it runs all the same.
    """
    first = ask()
    forget_in_memory()
    dobatch.configure(display=None)
    stream = io.StringIO()
    stream.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream if closed else None)
        again = ask()
    assert again.id == first.id
    assert again.wait(display=False).status == "completed"


def test_the_same_plan_in_flight_is_attached_to(server):
    """
    Also while it runs.
    """
    server.hold()
    first = ask()
    again = ask()
    assert again.id == first.id
    server.release()
    again.wait()
    assert len(server.batches) == 1


def test_fresh_asks_anew(server):
    """
    ``fresh=True`` is the way to pay twice on purpose; afterwards the newer job is the one that is found.
    """
    first = ask().wait()
    fresh = ask(fresh=True).wait()
    assert fresh.id != first.id
    assert set(server.executed.values()) == {2}
    assert ask().id == fresh.id


def test_only_what_is_new_is_sent(server):
    """
    A frame that has grown, or was filtered and shuffled since: rows that an earlier job answered are reused.
    """
    ask().wait()
    grown = pd.concat([FRAME.sample(20, random_state=1), pd.DataFrame({"word": ["new", "newer"]})])
    job = ask(grown)
    out = grown.dobatch.join(job)
    assert list(out["said"]) == [f"Say {word}" for word in grown["word"]]
    assert job.counts["reused"] == 20
    assert job.counts["total"] == 22
    assert set(server.executed.values()) == {1}
    assert len(server.executed) == 32


def test_rows_that_failed_before_are_sent_again(serve):
    """
    Only a success is an answer that can be reused.
    """
    server = serve(fail_share=0.4, fail_times=1)
    first = ask().wait()
    failed = first.counts["failed"]
    assert failed > 3
    shuffled = FRAME.iloc[::-1]
    again = ask(shuffled).wait()
    assert again.counts["reused"] == 30 - failed
    assert sum(server.executed.values()) == 30 + failed
    assert shuffled.dobatch.join(again)["said_error"].isna().all()


def test_reused_answers_outlive_the_job_they_came_from(server):
    """
    A job's folder holds all of its answers.
    """
    first = ask().wait()
    second = ask(FRAME.iloc[::-1]).wait()
    first.forget()
    out = FRAME.dobatch.join(second)
    assert (out["said"] == "Say " + FRAME["word"]).all()


def test_a_job_that_has_just_ended_is_reused_whoever_has_told_the_index(server):
    """
    Right after the end, or where the process was killed at it, the list of jobs does not know of the end yet: what was
    answered is neither estimated nor paid again.
    """
    home = process.home_here()

    def forget_the_end() -> None:
        assert home.rows()[0].over
        home._index.write(lambda db: db.execute("UPDATE jobs SET ended = NULL, entered = NULL"))
        home._index.write(lambda db: db.execute("DELETE FROM answers"))

    ask(FRAME.head(20)).wait()
    forget_the_end()
    assert FRAME.dobatch.plan("Say {word}", model="echo", into="said").estimate().reused == 20
    forget_the_end()
    assert ask().wait().counts["reused"] == 20
    assert len(server.executed) == 30


def test_an_answer_of_another_service_is_not_reused(serve):
    """
    What one server echoed is no answer of another one.
    """
    serve()
    ask().wait()
    other = serve()
    ask().wait()
    assert len(other.executed) == 30


def test_results_that_the_service_deleted_are_still_here(server):
    """
    After 30 days the service has nothing left, and the job still has its own copy.
    """
    job = ask().wait()
    server.advance(40 * 24 * 3600)
    forget_in_memory()
    out = FRAME.dobatch.join(dobatch.attach(job.id))
    assert out["said"].notna().all()


def test_jobs_are_listed(server):
    """
    ``dobatch.jobs()`` is a frame, newest first, with what one wants to know.
    """
    job = ask().wait()
    other = ask(FRAME.head(3), "Spell {word}").wait()
    listed = dobatch.jobs()
    assert list(listed.index) == [other.id, job.id]
    assert list(listed["rows"]) == [3, 30]
    assert set(listed["status"]) == {"completed"}
    assert {"created", "requests", "completed", "failed", "model", "into", "cost", "batches"} <= set(listed)
    assert len(dobatch.batches()) == 2


def test_forget_leaves_nothing(server, home):
    """
    ``job.forget()`` deletes the job with everything it has on disk.
    """
    job = ask().wait()
    job.forget()
    assert dobatch.jobs().empty
    assert list((home / "jobs").iterdir()) == []
    with pytest.raises(JobNotFound):
        dobatch.attach(job.id)


def test_everything_on_disk_is_private_and_holds_no_secret(serve, home):
    """
    Directories 0700, files 0600; no token and no signature in any of them.
    """
    serve(token="very-secret-token-123")
    ask().wait()
    forget_in_memory()  # what is still to be told to the index has been told
    for folder, folders, files in os.walk(home):
        for name in folders:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o700, name
        for name in files:
            path = os.path.join(folder, name)
            assert os.stat(path).st_mode & 0o777 == 0o600, path
            with open(path, "rb") as file:
                content = file.read()
            assert b"very-secret-token-123" not in content, path
            assert b"signature" not in content.lower(), path


def test_the_folder_is_as_documented(server, home):
    """
    Each file that a finished job leaves has its place.
    """
    job = ask().wait()
    root = home / "jobs" / job.id
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found == {
        "job.json",
        "journal.jsonl",
        "lock",
        "manifest.parquet",
        "manifest-00000.parquet",
        "rows.parquet",
        "parts/part-00000.jsonl.zst",
        "output/part-00000.jsonl",
        "results/part-00000.parquet",
    }


def test_two_processes_that_submit_the_same_do_it_once(server, home):
    """
    Two kernels on one home: one moves the job, the other waits for it; both have the answers.
    """
    script = textwrap.dedent(f"""
        import pandas as pd, dobatch_pandas as dobatch
        dobatch.configure(home={str(home)!r}, base_url={server.url!r}, token="local", display=False)
        frame = pd.DataFrame({{"word": [f"word {{n}}" for n in range(30)]}})
        job = frame.dobatch.submit("Say {{word}}", model="echo", into="said")
        out = frame.dobatch.join(job)
        assert (out["said"] == "Say " + frame["word"]).all()
        print(job.id)
    """)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({out.strip() for out, _ in outputs}) == 1
    assert len(server.batches) == 1
    assert set(server.executed.values()) == {1}


def test_another_process_can_cancel(server, home):
    """
    ``dobatch cancel ID`` in a terminal reaches the kernel that moves the job.
    """
    server.hold(after=5)
    job = ask()
    job.sent()
    script = f"""
import dobatch_pandas as dobatch
dobatch.configure(home={str(home)!r}, base_url={server.url!r}, token="local", display=False)
dobatch.attach({job.id!r}).cancel()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
    eventually(lambda: "cancel_batch" in server.calls)
    server.release()
    job.wait()
    assert job.status == "cancelled"


def test_what_stands_in_the_way_elsewhere_is_told_here(server, home):
    """
    The kernel that moves a job waits for another token: whoever attaches in a second one reads why nothing moves.
    """
    server.faults.add("create_batch", status=401, times=None)
    script = f"""
import sys, pandas as pd, dobatch_pandas as dobatch
dobatch.configure(home={str(home)!r}, base_url={server.url!r}, token="local", display=False)
job = pd.DataFrame({{"n": range(3)}}).dobatch.submit("row {{n}}", model="echo", into="a")
print(job.id, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        job = dobatch.attach(other.stdout.readline().strip())
        eventually(lambda: "answered 401" in (job.snapshot().problem or ""))
        assert job.snapshot().problem.startswith("Another process moves it on, and says there: ")
        with pytest.raises(dobatch.errors.WaitTimeout, match="answered 401"):
            job.wait(timeout=0)
        server.faults.clear()
        other.kill()
    assert job.wait().status == "completed"
    assert job.snapshot().problem is None


@pytest.mark.parametrize("then", ["", "while job.status != 'paused': time.sleep(0.01)"])
def test_a_script_that_ends_before_all_is_sent_says_so(then, server, home):
    """
    What waits for me does not keep my script, and the script does not end without a word.
    """
    server.faults.add("create_file", status=401, times=None)
    script = f"""
import time, pandas as pd, dobatch_pandas as dobatch
dobatch.configure(home={str(home)!r}, base_url={server.url!r}, token="local", display=False)
job = pd.DataFrame({{"n": range(3)}}).dobatch.submit("row {{n}}", model="echo", into="a")
{then}
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, check=True, timeout=240, capture_output=True, text=True)
    [job_id] = dobatch.jobs().index
    assert (
        f"job {job_id} is not all sent: Could not reserve an upload: the service answered 401" in ended.stderr
    )
    assert ended.stderr.count("is not all sent") == 1
    assert f"Come back with dobatch.attach({job_id!r})." in ended.stderr


def test_a_job_that_is_forgotten_is_not_left_either(server, home, capsys):
    """
    Nothing is said at the end of a script of a job that somebody has deleted.
    """
    server.faults.add("create_file", status=401, times=None)
    job = ask()
    eventually(lambda: job.status == "paused")
    (home / "jobs" / job.id / "job.json").unlink()
    process._tell_what_is_left()
    assert "is not all sent" not in capsys.readouterr().err


def test_wait_can_be_limited(server):
    """
    The time given to ``wait`` ends the waiting, not the job.
    """
    server.hold()
    job = ask()
    with pytest.raises(WaitTimeout, match="it continues"):
        job.wait(timeout=0.2)
    server.release()
    assert job.wait().status == "completed"


def test_interrupting_wait_leaves_the_job(server, monkeypatch):
    """
    Ctrl+C stops the waiting, and says how to come back and how to cancel.
    """
    server.hold()
    job = ask()

    def interrupt(self, deadline, timeout):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dobatch.Job, "_wait_until", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"continues.*attach.*cancel"):
            job.wait()
    server.release()
    assert dobatch.attach(job.id).wait().status == "completed"


def test_retry_needs_an_ended_job(server):
    """
    What is under way cannot be retried.
    """
    server.hold()
    job = ask()
    with pytest.raises(JobNotReady):
        job.retry()
    server.release()


def test_retry_sends_what_failed_and_nothing_else(serve, monkeypatch):
    """
    What succeeded stays; failures that cannot change are left alone.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(10, 200_000_000))
    server = serve(fail_share=0.5, fail_kinds=("server_error", "bad_request"), fail_times=1)
    job = ask().wait()
    before = job.errors()
    can_change = (before["error_code"] != "http_400").sum()
    assert 0 < can_change < len(before)
    assert job.retry() == can_change
    job.wait()
    after = job.errors()
    assert set(after["error_code"]) == {"http_400"}
    assert len(after) == len(before) - can_change
    assert {group.code: group.count for group in job.snapshot().errors} == {"http_400": len(after)}
    assert job.counts["failed"] == len(after)
    assert sum(server.executed.values()) == 30 + can_change


def test_a_budget_is_kept(server):
    """
    ``max_cost`` refuses before anything is sent.
    """
    options = {"model": "gpt-4.1-mini", "max_tokens": 10}
    with pytest.raises(BudgetExceeded, match="Nothing was sent"):
        FRAME.dobatch.submit("Say {word}", max_cost=1e-9, **options)
    with pytest.raises(BudgetExceeded, match="unknown"):
        ask(max_cost=1.0)
    assert dobatch.jobs().empty
    FRAME.dobatch.submit("Say {word}", max_cost=1.0, **options).wait()


def test_without_a_token_the_error_names_the_cure(home):
    """
    No token: what to set, and where.
    """
    dobatch.configure(base_url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="configure") as caught:
        ask()
    assert "DIGITALOCEAN_TOKEN" in str(caught.value)


def test_a_job_of_another_service_does_not_get_this_ones_token(serve):
    """
    A token goes to the service it was set for.
    """
    server = serve()
    server.hold()
    job = ask()
    job.sent()
    forget_in_memory()
    other = serve()
    with pytest.raises(ConfigurationError, match="belongs to"):
        dobatch.attach(job.id).wait()
    assert "list_batches" not in other.calls
    server.release()


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([5, 5, 1, 1, 3]),
        pd.Index(["b", "a", "b", "c", None]),
        pd.MultiIndex.from_tuples([("x", 2), ("x", 1), ("y", 1), ("y", 1), ("a", 0)], names=["k", None]),
        pd.RangeIndex(10, 0, -2, name="r"),
        pd.date_range("2026-01-01", periods=5, tz="UTC"),
        pd.CategoricalIndex(["p", "q", "p", "q", "p"]),
        pd.Index([1, "mixed", 2.5, None, ("t", 1)], dtype=object),
    ],
    ids=["repeated", "text", "multi", "range", "dates", "categories", "mixed"],
)
def test_any_index_is_kept(index, server):
    """
    A repeated, unsorted, text, date or multi index changes nothing, in join, result and after a restart.
    """
    frame = pd.DataFrame({"word": ["e", "d", "c", "d", "a"], "said_error": 1}, index=index)
    before = frame.copy()
    job = ask(frame)
    out = frame.dobatch.join(job)
    assert list(out["said"]) == [f"Say {word}" for word in frame["word"]]
    assert out.index.equals(index)
    pd.testing.assert_frame_equal(frame, before)
    forget_in_memory()
    result = dobatch.attach(job.id).result()
    assert list(result["said"]) == list(out["said"])
    if "mixed" not in map(str, index):
        assert list(result.index) == list(index)


def test_a_level_that_arrow_cannot_hold_comes_back_as_it_is(server):
    """
    Numbers, texts and tuples side by side are the labels of the result too.
    """
    index = pd.MultiIndex.from_arrays(
        [[3, 1, 2], pd.Index([1, "a", ("t", 1)], dtype=object)], names=["n", "m"]
    )
    job = ask(pd.DataFrame({"word": list("abc")}, index=index))
    assert list(job.result().index) == [(3, 1), (1, "a"), (2, ("t", 1))]


def test_a_frame_that_changed_since_is_joined_by_what_it_asks(server):
    """
    Sorted, filtered, grown: right answers on right rows, and a code where nothing was asked.
    """
    job = ask()
    changed = pd.concat(
        [FRAME.sort_values("word", ascending=False).iloc[5:], pd.DataFrame({"word": ["x", None]})]
    )
    out = changed.dobatch.join(job)
    known = out["word"].isin(FRAME["word"])
    assert (out["said"][known] == "Say " + out["word"][known]).all()
    assert list(out["said_error"][~known]) == ["missing_result", "missing_input"]


def test_prompts_from_a_function_are_joined_by_contents_after_a_restart(server):
    """
    A function is not kept on disk; what stands in a row tells which one it is, also where labels repeat.
    """
    frame = FRAME.set_index(pd.Index([f"r{n}" for n in range(30)]))
    job = ask(frame, lambda row: f"Say {row['word']}")
    job.wait()
    forget_in_memory()
    back = dobatch.attach(job.id)
    part = frame.sample(10, random_state=3)
    assert list(part.dobatch.join(back)["said"]) == [f"Say {word}" for word in part["word"]]
    repeated = pd.concat([frame, frame])
    other = ask(repeated, lambda row: f"Tell {row.word}").wait()
    forget_in_memory()
    few = repeated.sample(5, random_state=1)
    assert list(few.dobatch.join(dobatch.attach(other.id))["said"]) == [
        f"Tell {word}" for word in few["word"]
    ]


def test_missing_values_can_be_skipped(server):
    """
    A row without a value is not asked, and says so.
    """
    frame = pd.DataFrame({"word": ["a", None, "b"]})
    with pytest.raises(InputError, match="missing"):
        ask(frame)
    out = frame.dobatch.join(ask(frame, missing="skip"))
    assert list(out["said_error"].fillna("")) == ["", "missing_input", ""]
    assert len(server.executed) == 2


def test_a_row_too_large_for_any_file_fails_alone(server, monkeypatch):
    """
    One oversized row is a failed row, not a failed job.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(100, 5_000))
    frame = pd.DataFrame({"word": ["a", "b" * 6_000, "c"]})
    out = frame.dobatch.join(ask(frame))
    assert list(out["said_error"].fillna("")) == ["", "too_large", ""]


def test_a_job_that_every_row_of_which_is_known_sends_nothing(server):
    """
    All reused: the job is over at once.
    """
    ask().wait()
    files = server.calls.count("create_file")
    job = ask(FRAME.iloc[::-1]).wait()
    assert job.status == "completed"
    assert server.calls.count("create_file") == files


def test_update_replaces_its_own_columns(server):
    """
    Asked again under the same name, the column holds the newer answers.
    """
    frame = FRAME.copy()
    frame.dobatch.update(ask(frame))
    frame.dobatch.update(ask(frame, "Spell {word}"))
    assert (frame["said"] == "Spell " + frame["word"]).all()
    assert list(frame.columns) == ["word", "said", "said_error"]


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_a_timeout_that_is_no_number_of_seconds_is_told(server, timeout):
    """
    ``wait(timeout=...)`` with something else is an error in words, and never waits without end.
    """
    server.hold()
    job = ask()
    with pytest.raises(dobatch.InputError, match="seconds"):
        job.wait(timeout=timeout)
    server.release()
    assert job.wait(timeout=float("inf")).status == "completed"


@pytest.mark.parametrize("codes", [5, ["expired", 5]])
def test_codes_that_are_none_are_told(server, codes):
    """
    ``retry(codes=...)`` with something that is no code is an error in words.
    """
    with pytest.raises(dobatch.InputError, match="codes"):
        ask().wait().retry(codes=codes)


@pytest.mark.parametrize("frame", [None, pd.Series([1]), {"word": ["a"]}])
def test_a_join_to_what_is_no_frame_is_told(server, frame):
    """
    ``job.join`` of something else than a frame is an error in words.
    """
    with pytest.raises(dobatch.InputError, match="DataFrame"):
        ask().join(frame)


@pytest.mark.parametrize(
    "refusal", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_a_running_job_in_a_folder_that_may_only_be_read_is_looked_at(server, monkeypatch, refusal):
    """
    A colleague's job, on a share: attach shows how it stands, and join brings what is there, without an error.
    """
    server.hold(after=1)
    frame = pd.DataFrame({"word": ["a", "b"]})
    job = frame.dobatch.submit("{word}", model="m").sent()
    eventually(lambda: job.snapshot().completed == 1)
    forget_in_memory()

    def refused(self, *arguments, **options):
        raise refusal

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    seen = dobatch.attach(job.id)
    assert seen.status == "running"
    assert "1 of 2" in repr(seen)
    assert "only watched here" in seen.snapshot().problem
    with pytest.raises(dobatch.errors.WaitTimeout, match="only watched here"):
        seen.wait(timeout=0)
    assert list(frame.dobatch.join(seen, wait=False)["response_error"]) == ["pending", "pending"]


def test_a_job_whose_folder_is_gone_says_so(server, home):
    """
    The home was deleted or moved while the job is on the page: what asks for its files names the folder, and the repr stays.
    """
    server.hold(after=1)
    frame = pd.DataFrame({"word": ["a", "b"]})
    job = frame.dobatch.submit("{word}", model="m")
    eventually(lambda: job.snapshot().completed == 1)
    home.rename(home.parent / "elsewhere")
    try:
        for ask in (lambda: frame.dobatch.join(job, wait=False), job.cancel):
            with pytest.raises(JobNotFound, match="is no longer there"):
                ask()
        assert repr(job).startswith(f"<Job {job.id}: running")
    finally:
        (home.parent / "elsewhere").rename(home)


def test_a_home_that_was_moved_goes_on_where_it_is_now(server, home):
    """
    The folder is renamed while a job runs, and configured anew: the same kernel goes on there.
    """
    server.hold()
    job = ask().sent()
    moved = home.rename(home.parent / "moved")
    with config.configured(home=moved):
        again = dobatch.attach(job.id)
        server.release()
        assert again.wait().status == "completed"
        process.close_home(moved)
    assert set(server.executed.values()) == {1}


def test_a_home_and_its_copy_are_both_moved_on(server, home):
    """
    The folder is copied while a job runs: in one kernel both have the answers, and they are paid once.
    """
    server.hold()
    job = ask().sent()
    forget_in_memory()  # a file that is just being replaced cannot be copied
    copy = home.parent / "copy"
    shutil.copytree(home, copy)
    job = dobatch.attach(job.id)
    with config.configured(home=copy):
        other = dobatch.attach(job.id)
        server.release()
        assert other.wait().status == "completed"
        process.close_home(copy)
    assert job.wait().status == "completed"
    assert set(server.executed.values()) == {1}


def test_a_running_job_whose_folder_was_deleted_can_be_forgotten(server):
    """
    Somebody has deleted the folder by hand: nothing is left to cancel, and the list of jobs lets go of it.
    """
    server.hold()
    job = ask().sent()
    folder = job._folder.root
    while folder.exists():  # the job may be writing there
        shutil.rmtree(folder, ignore_errors=True)
    job.forget()
    assert process.live_of(process.home_here(), job.id) is None
    assert dobatch.jobs().empty


def test_a_job_that_is_left_alone_is_free_at_once(server):
    """
    Who forgets a job right after this process was at its files is not told that another process moves it.
    """
    server.hold()
    job = ask().sent()
    home = process.home_here()
    live = process.live_of(home, job.id)
    release = live.lock.held.release

    def slowly():
        time.sleep(0.3)  # as on a busy machine
        release()

    live.lock.held.release = slowly
    live.work_begins()
    leaving = threading.Thread(target=process.drop, args=(home, job.id))
    leaving.start()
    eventually(lambda: live.gone)
    live.work_ends()
    leaving.join()
    lock = home.folder(job.id).try_lock()
    assert lock is not None
    lock.release()
