"""An output that grows: `mode="append"` sends and adds the rows that it does not have yet."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dobatch_pandas as dobatch
from dobatch_pandas.errors import BudgetExceeded, InputError, JobFailed
from dobatch_pandas.job import append, output
from dobatch_pandas.job.process import close_home
from dobatch_pandas.questions import source
from dobatch_pandas.questions.source import Source


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several output files, blocks that end in the middle of them, and rows that are compared in shares."""
    monkeypatch.setattr(output, "ROWS_A_FILE", 70)
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 30)
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 30)
    monkeypatch.setattr(append, "HELD", 40)


@pytest.fixture
def files(tmp_path):
    """A folder with 200 rows in two files."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "0.parquet", 0, 120)
    write(folder / "1.parquet", 120, 200)
    return folder


def rows(start, stop):
    n = np.arange(start, stop)
    return pd.DataFrame({"n": n, "text": [f"text {one % 150}" for one in n]})


def write(path, start, stop):
    rows(start, stop).to_parquet(path)


def read(folder):
    return ds.dataset(folder, format="parquet").to_table().to_pandas()


def ask(files, out, prompt="Say {text}", **options):
    return dobatch.submit_dataset(files, prompt, model="echo", output=out, **{"mode": "append", **options})


def paid(server):
    return sum(server.executed.values())


def test_what_a_source_has_grown_by_is_sent_and_added(server, files, tmp_path):
    """
    New files, and a file with more rows than before: the rows that are new, and no file that lies there is touched.
    """
    out = tmp_path / "out"
    first = ask(files, out).wait()
    had = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.iterdir()}
    write(files / "2.parquet", 200, 290)
    write(files / "0.parquet", -5, 120)
    job = ask(files, out).wait()

    answered = read(out)
    assert list(answered["n"]) == [*range(200), *range(-5, 0), *range(200, 290)]
    assert (answered["response"] == "Say " + answered["text"]).all()
    assert {name: (out / name).stat().st_ino for name in had} == {
        name: inode for name, (inode, _) in had.items()
    }
    assert all((out / name).read_bytes() == content for name, (_, content) in had.items())
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"part-{number:05}.parquet" for number in range(3)),
        f"part-00003-{job.id}.parquet",
    ]
    assert (first.id, len(dobatch.jobs())) != (job.id, 1)
    assert job.counts["total"] == 95
    assert paid(server) == 150  # the questions of rows 200 to 289 were answered; text 145 to 149 too
    assert dobatch.jobs().loc[job.id, "rows"] == 95


def test_asked_again_nothing_is_sent_or_added(server, files, tmp_path):
    """
    The same call is the same job; in another home, which knows of none, no row is new.
    """
    out = tmp_path / "out"
    first = ask(files, out).wait()
    assert ask(files, out).wait().id == first.id
    dobatch.configure(home=tmp_path / "other")
    try:
        other = ask(files, out).wait()
        assert other.id != first.id
        assert other.counts["total"] == 0
        assert len(read(out)) == 200
        write(files / "2.parquet", 300, 310)
        ask(files, out).wait()
    finally:
        close_home(tmp_path / "other")
    assert list(read(out)["n"]) == [*range(200), *range(300, 310)]
    assert paid(server) == 160


def test_what_was_taken_away_is_filled_in(server, files, tmp_path):
    """
    The output counts, not what jobs have written there once; answers that are known are not paid again.
    """
    out = tmp_path / "out"
    ask(files, out).wait()
    (out / "part-00001.parquet").unlink()
    ask(files, out).wait()
    assert sorted(read(out)["n"]) == list(range(200))
    for path in out.iterdir():
        path.unlink()
    ask(files, out).wait()
    answered = read(out)
    assert list(answered["n"]) == list(range(200))
    assert (answered["response"] == "Say " + answered["text"]).all()
    assert paid(server) == 150


def test_rows_of_any_type_are_known_again(server, tmp_path):
    """
    Dates, decimals, lists, categories, bytes: what Parquet holds is compared as it comes back.
    """
    frame = pd.DataFrame(
        {
            "text": ["a", "b", "a"],
            "when": pd.to_datetime(
                ["2026-01-01 00:00:00.000000", None, "2026-01-02 03:04:05.678901"]
            ).tz_localize("Europe/Berlin"),
            "cost": [Decimal("1.50"), None, Decimal("2")],
            "kind": pd.Categorical(["x", None, "y"]),
            "many": [[1, 2], None, []],
            "raw": [b"\x00", b"", None],
            "deep": [{"a": 1.5, "b": None}, None, {"a": None, "b": "c"}],
            "share": np.array([0.1, np.nan, 3], np.float32),
            "nothing": [None, None, None],
            "flag": pd.array([True, None, False], "boolean"),
        }
    )
    frame.to_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out"
    dobatch.submit_dataset(tmp_path / "in.parquet", "{text}", model="echo", output=f"file://{out}").wait()
    grown = pd.concat([frame, frame.iloc[[1, 0]].assign(text="new")], ignore_index=True)
    grown.to_parquet(tmp_path / "in.parquet")
    ask(tmp_path / "in.parquet", f"file://{out}", "{text}").wait()
    assert read(out)["text"].tolist() == ["a", "b", "a", "new", "new"]
    assert read(out)["response"].tolist() == ["a", "b", "a", "new", "new"]


def test_a_new_or_empty_folder_is_filled_and_one_with_other_things_refused(server, files, tmp_path):
    """
    With nothing there to add to it is a job like any other.
    """
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        ask(files, tmp_path / name).wait()
        assert list(read(tmp_path / name)["n"]) == list(range(200))
    (tmp_path / "none" / "notes.txt").write_text("mine")
    write(files / "2.parquet", 300, 310)
    with pytest.raises(InputError, match=r"holds what no job has written \(notes.txt\)"):
        ask(files, tmp_path / "none")
    with pytest.raises(InputError, match=r"is not empty .*mode=.append."):
        ask(files, tmp_path / "empty", mode="batch")
    assert paid(server) == 150


def test_an_output_of_other_columns_is_told_at_once(server, files, tmp_path):
    """
    What it lacks, what it has besides, what is of another type: one error, before anything is sent.
    """
    out = tmp_path / "out"
    ask(files, out).wait()
    sent = paid(server)
    frame = rows(200, 210).assign(n=lambda frame: frame["n"] / 2, more="x")
    frame.to_parquet(files / "2.parquet")
    with pytest.raises(InputError) as caught:
        ask(files, out, into="said")
    [problem] = caught.value.problems
    for words in (
        "no 'more'",
        "no 'said'",
        "no 'said_error'",
        "has 'response'",
        "'n' is int64 there and double here",
    ):
        assert words in problem.message
    with pytest.raises(InputError, match="'score'"):
        ask(files, out, schema={"score": float})
    (out / "part-00001.parquet").write_bytes(b"PAR1 broken")
    write(files / "2.parquet", 200, 210)
    with pytest.raises(InputError, match=r"part-00001.parquet cannot be read"):
        ask(files, out)
    assert paid(server) == sent
    assert len(dobatch.jobs()) == 1


@pytest.mark.parametrize("into", ["typed", "vector"])
def test_answers_of_any_type_are_added(serve, files, tmp_path, into):
    """
    Categories, numbers, lists and vectors: the files of both runs are one dataset.
    """
    serve()
    options = (
        {"endpoint": "/v1/embeddings"}
        if into == "vector"
        else {"schema": {"label": ["pos", "neg"], "score": float, "tags": list[str]}, "samples": 2}
    )
    out = tmp_path / "out"
    ask(files, out, "{text}", into=into, **options).wait()
    write(files / "2.parquet", 1200, 1230)
    ask(files, out, "{text}", into=into, **options).wait()
    answered = read(out)
    assert list(answered["n"]) == [*range(200), *range(1200, 1230)]
    assert answered[f"{into}_error"].isna().all()
    assert len({pq.read_schema(path).remove_metadata() for path in out.iterdir()}) == 1


def test_csv_is_added_too(server, tmp_path):
    """
    Missing cells, text that looks like numbers.
    """
    frame = pd.DataFrame({"id": ["007", "008", None], "n": [1.0, None, 3.0], "text": ["a", "b", "a"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / "out"
    ask(tmp_path / "in.csv", out).wait()
    pd.concat([frame, frame.assign(text=["c", "b", "d"])]).to_csv(tmp_path / "in.csv", index=False)
    ask(tmp_path / "in.csv", out).wait()
    assert read(out)["text"].tolist() == ["a", "b", "a", "c", "b", "d"]
    assert read(out)["response"].tolist() == [f"Say {text}" for text in "abacbd"]


def test_only_what_is_new_counts_for_the_price(server, files, tmp_path):
    """
    `max_cost` holds what is sent now, in a home too that knows of no earlier answer.
    """
    out = tmp_path / "out"

    def ask(**options):
        asked = {"model": "gpt-4.1-mini", "max_tokens": 5, "mode": "append", "output": out}
        return dobatch.submit_dataset(files, "Say {text}", **asked, **options)

    ask().wait()
    one = pd.DataFrame({"n": [1], "text": ["new"]})
    one.to_parquet(files / "2.parquet")
    _, most = one.dobatch.plan("Say {text}", model="gpt-4.1-mini", max_tokens=5).estimate().cost_batch
    dobatch.configure(home=tmp_path / "other")
    try:
        with pytest.raises(BudgetExceeded):
            ask(max_cost=most / 2)
        assert ask(max_cost=most * 2).wait().usage().requests == 1
    finally:
        close_home(tmp_path / "other")
    assert list(read(out)["text"])[200:] == ["new"]


def test_it_can_be_read_at_any_moment_and_a_crash_leaves_nothing_half(server, files, tmp_path, monkeypatch):
    """
    A file that is being written has no name yet; a job that fell over while it wrote goes on, in another session too.
    """
    out = tmp_path / "out"
    ask(files, out).wait()
    write(files / "2.parquet", 200, 390)
    seen = []

    def falls(self):
        seen.append(sorted(read(out)["n"]))
        if len(seen) == 2:
            raise RuntimeError("no luck")
        finish(self)

    finish = output._Output._finish
    monkeypatch.setattr(output._Output, "_finish", falls)
    job = ask(files, out)
    with pytest.raises(JobFailed, match="no luck"):
        job.wait()
    assert len(read(out)) == 290
    close_home(dobatch.config.settings().home)
    write(files / "3.parquet", 400, 410)  # none of this job's
    dobatch.attach(job.id).wait()
    assert list(read(out)["n"]) == list(range(390))
    assert all(ns == list(range(len(ns))) for ns in seen)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_a_run_that_is_not_over_is_not_added_to(server, files, tmp_path):
    """
    Two at once would not know of each other's rows.
    """
    out = tmp_path / "out"
    server.hold()
    first = ask(files, out)
    write(files / "2.parquet", 200, 210)
    with pytest.raises(InputError, match=f"Job {first.id}, which is not over, writes to"):
        ask(files, out)
    server.release()
    first.wait()
    ask(files, out).wait()
    assert list(read(out)["n"]) == list(range(210))


def test_a_retry_writes_the_files_of_its_own_run_again(serve, unlucky, files, tmp_path):
    """
    Failed rows stay as they are until the run that asked them asks again; what others added is not touched.
    """
    serve(model=unlucky)
    out = tmp_path / "out"
    ask(files, out).wait()
    write(files / "2.parquet", 1200, 1260)
    second = ask(files, out).wait()
    before = read(out)
    assert before["response_error"].notna().sum() == sum(
        str(n % 150).endswith("7") for n in [*range(200), *range(1200, 1260)]
    )
    unlucky.lucky = True
    second.retry(codes=set(second.errors()["error_code"]))
    second.wait()
    after = read(out)
    assert list(after["n"]) == list(before["n"])
    assert after["response_error"][200:].isna().all()
    assert after["response_error"][:200].notna().any()


CELLS = st.sampled_from([None, "a", "b", "a, b", ""])
TABLES = st.lists(st.tuples(CELLS, st.sampled_from([None, 0, 1, 2**60 + 1])), max_size=25)


@settings(max_examples=60)
@given(ours=TABLES, theirs=TABLES)
def test_a_row_is_new_when_the_output_has_fewer_of_it(tmp_path_factory, ours, theirs):
    """
    Equal rows are counted: of three of a kind, where the output has one, the last two are new.
    """
    folder = tmp_path_factory.mktemp("rows")

    def table(some):
        text, n = [one[0] for one in some], [one[1] for one in some]
        path = folder / f"{len(list(folder.iterdir()))}.parquet"
        pq.write_table(pa.table({"text": pa.array(text, pa.string()), "n": pa.array(n, pa.int64())}), path)
        return Source.find(path)

    left, expected = list(theirs), []
    for row in ours:
        expected.append(row not in left)
        if not expected[-1]:
            left.remove(row)
    new = append.appended(table(ours), table(theirs), folder).new
    assert new.tolist() == expected


class Adder:
    """A process of `appends.py`."""

    def __init__(self, home, server, out, files):
        program = Path(__file__).with_name("appends.py")
        command = [sys.executable, program, home, server.url, out, *files]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(list(map(str, command)), **pipes)

    def goes_on(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def says(self):
        """The next word, and what follows it."""
        word, _, rest = self._process.stdout.readline().strip().partition(" ")
        return word, rest

    def is_killed(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def adds(server, files, tmp_path):
    """Start processes that add to an output which holds the rows of `files`."""
    ask(files, tmp_path / "out").wait()
    started = []

    def start(home, *more):
        sources = [*sorted(files.iterdir()), *more]
        started.append(Adder(tmp_path / home, server, tmp_path / "out", sources))
        return started[-1]

    yield start
    for one in started:
        one.is_killed()


@pytest.mark.parametrize("homes", ["two homes", "one home"])
def test_of_two_that_begin_at_the_same_moment_one_is_refused(server, tmp_path, adds, homes):
    """
    Both have looked at the output and found the same rows missing: they are asked and added once.
    """
    write(tmp_path / "more.parquet", 1200, 1230)
    write(tmp_path / "also.parquet", 1230, 1240)
    server.hold()
    one = adds("a", tmp_path / "more.parquet")
    other = adds("b" if homes == "two homes" else "a", tmp_path / "more.parquet", tmp_path / "also.parquet")
    for process in (one, other):
        assert process.says() == ("looked", "")
    for process in (one, other):
        process.goes_on()
    said = {process: process.says() for process in (one, other)}
    assert sorted(word for word, _ in said.values()) == ["began", "refused"], said
    [winner] = [process for process, (word, _) in said.items() if word == "began"]
    [words] = [rest for word, rest in said.values() if word == "refused"]
    job_id = said[winner][1]
    assert f"Job {job_id}" in words
    assert "which is not over, writes to" in words
    server.release()
    assert winner.says() == ("over", job_id)

    added = read(tmp_path / "out")["n"][200:]
    assert list(added) == list(range(1200, 1230 if winner is one else 1240))
    assert paid(server) == 150 + len(added)


def test_the_same_call_twice_at_the_same_moment_is_one_job(server, tmp_path, adds):
    """
    As everywhere, who asks the same is given the job that is there.
    """
    write(tmp_path / "more.parquet", 1200, 1230)
    server.hold()
    both = [adds("a", tmp_path / "more.parquet") for _ in range(2)]
    for process in both:
        assert process.says() == ("looked", "")
    for process in both:
        process.goes_on()
    (word, job_id), *rest = [process.says() for process in both]
    assert (word, rest) == ("began", [("began", job_id)])
    server.release()
    assert [process.says() for process in both] == [("over", job_id)] * 2
    assert list(read(tmp_path / "out")["n"]) == [*range(200), *range(1200, 1230)]
    assert paid(server) == 180


def test_what_was_added_since_it_looked_is_looked_at(server, tmp_path, adds):
    """
    Another one has begun and is over in between: its rows are not asked and added once more.
    """
    write(tmp_path / "more.parquet", 1200, 1230)
    write(tmp_path / "also.parquet", 1230, 1240)
    late = adds("b", tmp_path / "more.parquet", tmp_path / "also.parquet")
    assert late.says() == ("looked", "")
    quick = adds("a", tmp_path / "more.parquet")
    assert quick.says() == ("looked", "")
    quick.goes_on()
    assert [quick.says()[0] for _ in range(2)] == ["began", "over"]
    late.goes_on()
    assert late.says() == ("looked", "")
    late.goes_on()
    assert [late.says()[0] for _ in range(2)] == ["began", "over"]
    assert list(read(tmp_path / "out")["n"]) == [*range(200), *range(1200, 1240)]
    assert paid(server) == 190


def test_a_run_that_died_keeps_its_place_until_it_is_over_or_forgotten(server, files, tmp_path, adds):
    """
    Its job may go on any time, and nobody else's home knows of it: the error names both, and the file that says so.
    """
    out = tmp_path / "out"
    write(files / "2.parquet", 1200, 1230)
    server.hold()
    dead = adds("a")
    assert dead.says() == ("looked", "")
    dead.goes_on()
    word, job_id = dead.says()
    assert word == "began"
    dead.is_killed()
    where = f"Job {job_id} of {tmp_path / 'a'} on .*, which is not over, writes to {out}: .*delete .{job_id}.writing there"
    with pytest.raises(InputError, match=where):
        ask(files, out)
    write(tmp_path / "other.parquet", 0, 1)
    with pytest.raises(InputError, match=where):
        ask(tmp_path / "other.parquet", out)

    mine = dobatch.config.settings().home
    dobatch.configure(home=tmp_path / "a")
    try:
        server.release()
        dobatch.attach(job_id).wait()
        assert list(read(out)["n"]) == [*range(200), *range(1200, 1230)]
        server.hold()
        write(files / "3.parquet", 1230, 1240)
        job = ask(files, out)
        dobatch.configure(home=mine)
        with pytest.raises(InputError, match=f"Job {job.id} of"):
            ask(files, out)
        dobatch.configure(home=tmp_path / "a")
        job.cancel()
        server.release()
        with suppress(JobFailed):
            job.wait()
        job.forget()
    finally:
        close_home(tmp_path / "a")
        dobatch.configure(home=mine)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_two_homes_do_not_fill_one_new_folder(server, files, tmp_path):
    """
    Without "append" too: both would write the same names.
    """
    server.hold()
    job = ask(files, tmp_path / "new", mode="batch")
    dobatch.configure(home=tmp_path / "b")
    try:
        for mode in ("batch", "append"):
            with pytest.raises(InputError, match=f"Job {job.id} of .*, which is not over, writes to"):
                ask(files, f"file://{tmp_path}/new", mode=mode)
    finally:
        close_home(tmp_path / "b")
    server.release()
    job.wait()
    assert list(read(tmp_path / "new")["n"]) == list(range(200))


def test_what_is_refused_leaves_nothing_in_the_output(server, files, tmp_path):
    """
    Too dear, or a place where nothing can be written: told before anything is sent.
    """
    out = tmp_path / "out"
    with pytest.raises(BudgetExceeded):
        dobatch.submit_dataset(files, "Say {text}", model="gpt-4.1-mini", output=out, max_cost=1e-9)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"Nothing can be written to {tmp_path}/file/out"):
        ask(files, tmp_path / "file" / "out")
    assert not len(dobatch.jobs())
    assert not server.executed
