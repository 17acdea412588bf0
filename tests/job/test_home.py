"""The home: jobs and answers are found by an index that can be lost, and what is in the folders stays."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.arrow.keyset import keys_of
from dobatch_pandas.errors import ConfigurationError, InputError, JobNotFound
from dobatch_pandas.job import index as index_module
from dobatch_pandas.job.folder import JobFolder, JobRecord
from dobatch_pandas.job.home import Home, scope_of
from dobatch_pandas.job.machine import Part, State

SCOPES = [scope_of("http://here", "me", "openai", "/v1/chat/completions")]


def _record(job_id: str, fingerprint: str, **more: Any) -> JobRecord:
    known = {"base_url": "http://here", "account": "me", "provider": "openai", "model": "gpt", "into": "out"}
    known |= {"endpoint": "/v1/chat/completions", "rows": 2, "recipe": "{}", "created": time.time()}
    return JobRecord(id=job_id, fingerprint=fingerprint, **(known | more))


def _add(
    home: Home, fingerprint: str = "f", *, state: State | None = None, fresh: bool = False, **more: Any
) -> str:
    job_id = home.new_id()
    home.folder(job_id).create()
    record = home.add_job(
        _record(job_id, fingerprint, **more), replace(state or State(job_id), id=job_id), fresh=fresh
    )
    if record.id != job_id:
        home.discard(job_id)
    return record.id


def _done(*ids: str) -> State:
    part = Part(0, len(ids), state="read", batch_id="b", status="completed", completed=len(ids))
    return State("", rendered=True, requests=len(ids), ended=5.0, outcome="completed", parts={0: part})


def _answer(folder: JobFolder, *ids: str, failed: str = "") -> None:
    status = ["failed" if one == failed else "succeeded" for one in ids]
    pq.write_table(pa.table({"custom_id": list(ids), "status": status}), folder.result(0))


def _keys(*ids: str) -> Any:
    return keys_of(pa.array(ids, pa.string()))


def _finished(home: Home, *ids: str, **more: Any) -> str:
    job_id = _add(home, " ".join(ids), state=_done(*ids), fresh=True, **more)
    _answer(home.folder(job_id), *ids)
    return job_id


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def here(place: Path) -> Home:
    return Home(place)


# -- jobs


def test_a_job_is_found_by_what_it_asked(here):
    """
    The same plan submitted again is the same job, unless it is to be asked anew.
    """
    first = _add(here)
    assert _add(here) == first
    second = _add(here, fresh=True)
    assert second != first
    found = here.find("f")
    assert found is not None
    assert found.id == second
    assert here.find("another") is None
    assert here.record(first).fingerprint == "f"


def test_a_job_that_was_added_outlives_the_process(here, place):
    """
    What is written down first is found by every later process.
    """
    job_id = _add(here, state=State("", max_cost=2.5))
    assert [row.id for row in Home(place).rows()] == [job_id]
    assert Home(place).folder(job_id).state() == State(job_id, max_cost=2.5)


def _submit(place: Path, ready: Any, found: Any) -> None:
    home = Home(place)
    ready.wait(120)
    found.put(_add(home))


def test_processes_that_submit_the_same_at_once_get_one_job(here, place):
    """
    Two notebooks that run the same cell pay once.
    """
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_submit, args=(place, ready, found)) for _ in range(3)]
    for process in processes:
        process.start()
    ids = {found.get(timeout=240) for _ in processes}
    for process in processes:
        process.join()
    assert len(ids) == 1
    assert len(here.rows()) == 1


def test_threads_share_a_home(here):
    """
    Ten threads submit ten plans, each twice.
    """
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(_add(here, f"f{n % 10}"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len(set(found)) == 10 == len(here.rows())


def test_an_unknown_job_names_the_newest(here):
    """
    A slip in typing an id is told with the ids there are.
    """
    with pytest.raises(JobNotFound, match="no job in it"):
        here.record("nothing")
    job_id = _add(here)
    with pytest.raises(JobNotFound, match=job_id):
        here.record("nothing")


@pytest.mark.parametrize(
    "job_id",
    ["", ".", "..", "../home", "a/b", "/etc", None, 7, "a\0b", "x" * 10_000, "a\n", b"a", ["a"], "é"],
)
def test_what_is_no_id_leads_to_no_folder(here, job_id):
    """
    An id never points out of the home, and what can be none is told in a few words.
    """
    with pytest.raises(InputError, match="No job can have the id") as told:
        here.record(job_id)
    assert len(str(told.value)) < 200


def test_rows_tell_how_far_jobs_are(here):
    """
    The list of jobs is right for jobs that another process moves on, too.
    """
    old = _add(here, "old", state=_done("a", "b"), created=1.0)
    new = _add(here, "new")
    record, folder = here.record(new), here.folder(new)
    part = Part(0, 2, state="created", batch_id="b", status="in_progress", completed=1)
    folder.journal().record(None, State(new, rendered=True, requests=2, parts={0: part}))
    rows = here.rows()
    assert [row.id for row in rows] == [new, old]
    assert (rows[0].status, rows[0].completed, rows[0].batches, rows[0].over) == ("running", 1, 1, False)
    assert (rows[1].status, rows[1].requests, rows[1].over) == ("completed", 2, True)
    here.update(
        record, State(new, parts={0: replace(part, waits="person", trouble="a token")}, rendered=True)
    )
    assert (here.rows()[0].status, here.rows()[0].problem) == ("paused", "a token")
    folder.journal().record(None, replace(_done("a", "b"), id=new))
    assert [row.status for row in here.rows()] == ["completed"] * 2


def test_rows_open_no_file_of_a_job_that_is_over(here):
    """
    The thousandth job is listed as quickly as the first.
    """
    job_id = _add(here, state=_done("a"), source='{"output": "/answers"}')
    here.folder(job_id).journal_path.write_text("not to be read")
    here.folder(job_id).record_path.write_text("nor this")
    (row,) = here.rows()
    assert (row.status, row.output) == ("completed", "/answers")


@pytest.mark.parametrize(
    "content", [b"torn", b"", b"[]", b"{}", b"7", b'{"format": "x"}', b'{"format": 99}', b"\xff"]
)
def test_a_job_that_cannot_be_read_is_listed_with_the_reason(here, place, content):
    """
    One damaged folder hides no other job, and is looked at again when it was mended.
    """
    good, bad = _add(here, "good", created=2.0), _add(here, "bad", created=1.0)
    kept = here.folder(bad).record_path.read_bytes()
    here.close()
    (place / "index.sqlite").unlink()
    here.folder(bad).record_path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        here.record(bad)
    rows = {row.id: row for row in here.rows()}
    assert rows[good].problem is None
    assert "job.json" in (rows[bad].problem or "") or "newer version" in (rows[bad].problem or "")
    assert here.find("bad") is None
    here.folder(bad).record_path.write_bytes(kept)
    found = here.find("bad")
    assert found is not None
    assert found.id == bad


@pytest.mark.parametrize("line", [b'{"job": 7}', b'{"parts": {"x": {}}}', b'{"parts": {"0": {"errors": 5}}}'])
def test_a_journal_that_no_version_wrote_hides_no_other_job(here, line):
    """
    The job is listed with the reason, and so are all others.
    """
    good, bad = _add(here, "good", created=2.0), _add(here, "bad", created=1.0)
    with here.folder(bad).journal_path.open("ab") as file:
        file.write(line + b"\n")
    rows = here.rows()
    assert [row.id for row in rows] == [good, bad]
    assert rows[1].problem


# -- nothing is deleted by inference


def test_a_folder_without_a_record_is_left_alone(here, place):
    """
    A submit under way in another process keeps its folder, however old it looks.
    """
    folder = here.folder("261126-abcdef").create()
    folder.input.write_bytes(b"rows")
    os.utime(folder.root, (0, 0))
    assert here.rows() == []
    Home(place).rows()
    assert folder.input.read_bytes() == b"rows"
    here.discard(folder.id)
    assert not folder.root.exists()


def test_discard_takes_no_job_away(here):
    """
    Ctrl+C just after a job was recorded does not lose it.
    """
    job_id = _add(here)
    here.discard(job_id)
    assert here.record(job_id).id == job_id


def test_forget_touches_no_other_job(here):
    """
    What was asked to be deleted is gone from the list, the answers and the disk, and nothing else is.
    """
    first, second = _finished(here, "a", "b"), _finished(here, "b", "c")
    here.enter_answers(SCOPES)
    here.forget(first)
    here.forget(first)
    assert [row.id for row in here.rows()] == [second]
    assert not here.folder(first).root.exists()
    assert set(here.answered(SCOPES, _keys("a", "b", "c"))) == {second}
    with pytest.raises(JobNotFound):
        here.record(first)


def test_jobs_outlive_the_index(here, place):
    """
    Somebody deletes or renames the index while the kernel runs: the same jobs, the same answers.
    """
    job_id = _finished(here, "a")
    (place / "index.sqlite").rename(place / "index.kept")
    assert [row.id for row in here.rows()] == [job_id]
    assert here.enter_answers(SCOPES)
    assert set(here.answered(SCOPES, _keys("a"))) == {job_id}
    assert _add(here, "a") == job_id


def test_an_older_copy_of_the_index_takes_no_job_away(here, place):
    """
    A backup of the index alone was put back: jobs that it does not know are found again.
    """
    first = _add(here, "first")
    here.close()
    shutil.copy(place / "index.sqlite", place / "copy")
    second = _add(here, "second")
    here.close()
    os.replace(place / "copy", place / "index.sqlite")
    assert {row.id for row in here.rows()} == {first, second}
    assert _add(here, "second") == second


def test_a_folder_that_came_from_elsewhere_is_a_job(here, tmp_path):
    """
    A job's folder is complete by itself: copied into another home it is a job there.
    """
    job_id = _finished(here, "a")
    other = Home(tmp_path / "other")
    assert other.rows() == []
    shutil.copytree(here.folder(job_id).root, other.folder(job_id).root)
    assert [row.id for row in other.rows()] == [job_id]
    assert other.enter_answers(SCOPES)
    assert set(other.answered(SCOPES, _keys("a"))) == {job_id}
    shutil.rmtree(other.folder(job_id).root)
    assert other.rows() == []
    assert other.find("a") is None


def test_jobs_of_a_home_that_may_only_be_read_are_listed(here, tmp_path, monkeypatch):
    """
    A colleague's home, whose index is behind: the list has what the folders tell, and needs nothing written.
    """
    running, over = _add(here, "a"), _finished(here, "b")
    other = Home(tmp_path / "other")
    assert other.rows() == []
    shutil.copytree(here.folder(running).root, other.folder(running).root)
    assert [row.over for row in other.rows()] == [False]
    shutil.copytree(here.folder(over).root, other.folder(over).root)
    journal = other.folder(running).journal()
    state = journal.load()
    journal.record(state, replace(state, ended=5.0, outcome="completed"))

    def refused(self, work):
        raise self._told(sqlite3.OperationalError("attempt to write a readonly database"))

    monkeypatch.setattr(index_module.Index, "write", refused)
    assert {row.id: row.over for row in other.rows()} == {running: True, over: True}


# -- the index's own trouble


def _damage(place: Path, kind: str) -> None:
    file = place / "index.sqlite"
    if kind == "no database":
        file.write_bytes(b"not a database at all, sorry. " * 200)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        data = bytearray(file.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        file.write_bytes(data)


@pytest.mark.parametrize("kind", ["no database", "empty", "half", "torn pages"])
@pytest.mark.parametrize("open_before", [True, False])
def test_a_damaged_index_is_set_aside_and_made_again(here, place, kind, open_before):
    """
    No job is lost with the index; what was damaged is kept, and a warning says so.
    """
    ids = {_finished(here, f"a{n}") for n in range(5)}
    if not open_before:
        here.close()
    _damage(place, kind)
    home = here if open_before else Home(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert {row.id for row in home.rows()} == ids
        assert home.find("a3") is not None
        assert _add(home, "a4") in ids
        assert home.enter_answers(SCOPES)
        assert len(home.answered(SCOPES, _keys("a0", "a1", "a2"))) == 3
        assert {row.id for row in Home(place).rows()} == ids
    if kind != "empty":
        assert any("index-damaged" in str(one.message) for one in caught)
        assert len(list(place.glob("index-damaged-*.sqlite"))) == 1


def test_the_index_of_a_newer_version_is_not_touched(here, place):
    """
    Going back to an older version says what to upgrade.
    """
    _add(here)
    here.close()
    with contextlib.closing(sqlite3.connect(place / "index.sqlite")) as db:
        db.execute("PRAGMA user_version = 1000000")
        db.commit()
    before = (place / "index.sqlite").read_bytes()
    for call in (here.rows, lambda: here.find("f"), lambda: _add(here)):
        with pytest.raises(ConfigurationError, match=r"newer version.*Upgrade"):
            call()
    assert (place / "index.sqlite").read_bytes() == before


def test_the_index_of_an_older_version_is_made_again(here, place, monkeypatch):
    """
    After an upgrade the same jobs are there.
    """
    job_id = _finished(here, "a")
    here.close()
    monkeypatch.setattr(index_module, "VERSION", index_module.VERSION + 1)
    assert [row.id for row in here.rows()] == [job_id]
    assert here.enter_answers(SCOPES)
    assert set(here.answered(SCOPES, _keys("a"))) == {job_id}


def test_a_database_of_another_program_is_not_touched(place):
    """
    A folder that is used for something else is no home.
    """
    place.mkdir()
    with contextlib.closing(sqlite3.connect(place / "index.sqlite")) as db:
        db.execute("CREATE TABLE jobs (mine)")
        db.commit()
    before = (place / "index.sqlite").read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        Home(place).rows()
    assert (place / "index.sqlite").read_bytes() == before


def test_a_folder_in_the_place_of_the_index_is_told(place):
    """
    The message names it and says what to do.
    """
    (place / "index.sqlite").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"index\.sqlite is a folder.*Move it away"):
        Home(place).rows()


@pytest.mark.parametrize("taken", ["home", "jobs", "parent"])
def test_a_file_in_the_place_of_a_folder_is_told(tmp_path, taken):
    """
    The message names the path and the setting.
    """
    place = tmp_path / "parent" / "home"
    blocked = {"home": place, "jobs": place / "jobs", "parent": tmp_path / "parent"}[taken]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file")
    with pytest.raises(ConfigurationError, match=r"home folder.*DOBATCH_HOME"):
        Home(place)


def test_a_locked_index_is_waited_for_and_then_told(here, place, monkeypatch):
    """
    Another process that does not let go is named; when it has, all is well.
    """
    _add(here)
    here.close()
    monkeypatch.setattr(index_module, "PATIENCE", 0.05)
    with contextlib.closing(sqlite3.connect(place / "index.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match="locked"):
            _add(here, "another")
        with pytest.raises(ConfigurationError, match="locked"):
            here.rows()
        db.execute("ROLLBACK")
    assert len(here.rows()) == 1
    _add(here, "another")
    assert len(here.rows()) == 2


class _FailingCommit(sqlite3.Connection):
    left = 0

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql == "COMMIT" and _FailingCommit.left:
            _FailingCommit.left -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *arguments)


def test_a_failed_commit_leaves_nothing_behind(here, monkeypatch):
    """
    The disk was full for a moment: an error of ours, no half of a job, and the next call works, here and elsewhere.
    """
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=_FailingCommit, **k))
    first = _add(here, "first")
    _FailingCommit.left = 1
    with pytest.raises(ConfigurationError, match="full"):
        _add(here, "second")
    assert here.find("second") is None
    assert [row.id for row in Home(here.path).rows()] == [first]
    second = _add(here, "second")
    assert {row.id for row in here.rows()} == {first, second}


def test_a_full_disk_is_told_when_a_job_is_written_down(here, monkeypatch):
    """
    Nothing was recorded, so submitting again is right.
    """

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "job.json")

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "write_record", full)
        with pytest.raises(ConfigurationError, match="full"):
            _add(here)
    assert here.rows() == []
    assert here.find("f") is None
    _add(here)
    assert len(here.rows()) == 1


READ_ONLY = """
import os, sys
from pathlib import Path
import dobatch_pandas.job.migration
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.job.home import Home
if os.geteuid() == 0:  # root may write anywhere
    os.setuid(65534)
home, job_id = Home(Path(sys.argv[1])), sys.argv[2]
assert [row.id for row in home.rows()] == [job_id]
assert home.record(job_id).id == job_id
for refused in (lambda: home.folder(home.new_id()).create(), lambda: home.forget(job_id)):
    try:
        refused()
    except ConfigurationError as error:
        assert sys.argv[1] in str(error), error
    else:
        raise AssertionError("nothing was said")
assert home.record(job_id).id == job_id
"""


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_a_home_that_cannot_be_written_is_told(here):
    """
    Jobs can be listed and read; a submit names the folder and the cure; what was not deleted is there as it was.
    """
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        home = Home(place / "home")
        job_id = _add(home, state=_done("a"))
        home.close()
        for path in [*home.path.rglob("*"), home.path, place]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", READ_ONLY, str(home.path), job_id]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        for path in [place, home.path, *home.path.rglob("*")]:
            path.chmod(0o700)
        shutil.rmtree(place)


def test_what_is_made_is_private_and_what_was_there_keeps_its_mode(place):
    """
    A shared folder may be a home.
    """
    place.mkdir()
    place.chmod(0o755)
    home = Home(place)
    _finished(home, "a")
    home.enter_answers(SCOPES)
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    made = [path for path in place.rglob("*") if path.name != "part-00000.parquet"]
    assert made
    assert not [path for path in made if path.stat().st_mode & 0o077]


def test_a_home_that_was_deleted_is_made_again(here, place):
    """
    `rm -rf` of the home while a kernel runs: it begins anew.
    """
    _add(here)
    shutil.rmtree(place)
    assert here.rows() == []
    _add(here)
    assert len(here.rows()) == 1


def test_a_home_that_was_moved_is_not_made_again_by_a_job_that_still_moves(here, place):
    """
    The kernel's job tells the old place how far it is: nothing appears there, so that the home can be moved back.
    """
    job_id = _add(here)
    record = here.record(job_id)
    place.rename(place.with_name("elsewhere"))
    with pytest.raises(ConfigurationError, match="No such file"):
        here.update(record, _done("a"))
    assert not place.exists()
    place.with_name("elsewhere").rename(place)
    here.update(record, _done("a"))
    assert [row.id for row in here.rows()] == [job_id]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_uses_a_connection_of_its_own(here):
    """
    multiprocessing with fork: child and parent submit at once, also where a thread of the parent was just writing.
    """
    _add(here, "parent", state=_done("a"))
    held, release = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        db.execute("UPDATE jobs SET model = 'held'")
        held.set()
        release.wait(120)

    writer = threading.Thread(target=lambda: here._index.write(hold))
    writer.start()
    held.wait(120)
    child = multiprocessing.get_context("fork").Process(target=lambda: _add(here, "child"))
    threading.Timer(0.1, release.set).start()
    child.start()
    writer.join()
    child.join(120)
    assert child.exitcode == 0
    rows = {here.record(row.id).fingerprint: row for row in here.rows()}
    assert set(rows) == {"parent", "child"}
    assert rows["parent"].model == "held"


# -- answers


def test_answers_are_found_by_key(here):
    """
    Only what has an answer is reused; a failed request is not.
    """
    job_id = _add(here, state=_done("a", "b"))
    _answer(here.folder(job_id), "a", "b", failed="b")
    assert here.enter_answers(SCOPES)
    found = here.answered(SCOPES, _keys("a", "b", "c"))
    assert {key: list(keys) for key, keys in found.items()} == {job_id: list(_keys("a"))}


def test_answers_stay_within_their_scope(here):
    """
    Another account, service, provider or endpoint has no part in them.
    """
    _finished(here, "a")
    for change in ({"account": "you"}, {"base_url": "http://there"}, {"endpoint": "/v1/responses"}):
        known = {"base_url": "http://here", "account": "me", "provider": "openai"}
        other = [scope_of(**(known | {"endpoint": "/v1/chat/completions"} | change))]
        assert not here.enter_answers(other)
        assert here.answered(other, _keys("a")) == {}
    here.enter_answers(SCOPES)
    assert here.answered([*SCOPES, "another"], _keys("a"))


def test_a_job_that_goes_on_gives_no_answers_until_it_is_over_again(here):
    """
    What a retry brought is found as well.
    """
    job_id = _finished(here, "a")
    here.enter_answers(SCOPES)
    record = here.record(job_id)
    here.update(record, State(job_id, rendered=True))
    assert here.answered(SCOPES, _keys("a")) == {}
    _answer(here.folder(job_id), "a", "b")
    here.update(record, replace(_done("a", "b"), id=job_id, ended=6.0))
    here.enter_answers(SCOPES)
    assert set(here.answered(SCOPES, _keys("b"))) == {job_id}


def test_answers_are_read_from_files_once(here):
    """
    The next submit opens no file of an old job.
    """
    job_id = _finished(here, "a")
    here.enter_answers(SCOPES)
    here.folder(job_id).result(0).write_bytes(b"not to be read")
    here.enter_answers(SCOPES)
    assert set(here.answered(SCOPES, _keys("a"))) == {job_id}


def test_a_file_that_is_torn_keeps_no_other_answer_back(here):
    """
    A power cut left half of a file in one job.
    """
    bad, good = _finished(here, "a"), _finished(here, "b")
    here.folder(bad).result(0).write_bytes(b"PAR1 torn")
    here.enter_answers(SCOPES)
    assert set(here.answered(SCOPES, _keys("a", "b"))) == {good}


@given(
    st.lists(
        st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**63 - 1, 2**64 - 1])), max_size=4
    )
)
@settings(max_examples=30)
def test_every_key_is_found_where_it_was_put(tmp_path_factory, answers):
    """
    Any 64-bit number is a key, in any number of jobs.
    """
    home = Home(tmp_path_factory.mktemp("keys") / "home")
    expected = {_add(home, fresh=True, state=_done("x")): set(keys) for keys in answers}
    home.add_answers({job_id: np.array(sorted(keys), np.uint64) for job_id, keys in expected.items()})
    every = np.array(sorted(set().union(*expected.values(), {5})), np.uint64)
    found = {job_id: set(keys.tolist()) for job_id, keys in home.answered(SCOPES, every).items()}
    assert found == {job_id: keys for job_id, keys in expected.items() if keys}
    home.close()
