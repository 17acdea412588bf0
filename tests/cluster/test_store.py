"""A store that all machines reach: results stay there, and another machine can go on."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from waiting import eventually

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ConfigurationError, JobFailed
from dobatch_pandas.job.folder import JobFolder
from dobatch_pandas.job.machine import Part, State
from dobatch_pandas.job.process import close_home
from dobatch_pandas.job.store import Store

dask = pytest.importorskip("dask", reason="needs dobatch-pandas[dask]")
dd = pytest.importorskip("dask.dataframe")
import dobatch_pandas.dask  # noqa: E402


@pytest.fixture
def here():
    """This process computes."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def frame():
    return dd.from_pandas(pd.DataFrame({"text": [f"text {n % 30}" for n in range(40)]}), npartitions=3)


def test_answers_come_from_the_store_when_the_service_has_them_no_more(here, server, tmp_path):
    """
    Results are kept there as they are read, and not asked for again.
    """
    dobatch.configure(store=tmp_path / "store")
    job = frame().dobatch.submit("Say {text}", model="echo").wait()
    server.faults.add("get_results", status=410, times=None)
    out = frame().dobatch.join(job).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert len(job.responses()) == 30


def test_another_machine_goes_on_with_the_job(here, server, home, tmp_path):
    """
    It has the store and the token, and never saw the home in which the job was submitted.
    """
    job_id, _ = _left_before_its_results(server, home, tmp_path / "store")
    dobatch.configure(home=tmp_path / "other")
    there = dobatch.attach(job_id).wait()
    out = frame().dobatch.join(there).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert len(server.batches) == 1
    assert sum(server.executed.values()) == 30
    there.forget()
    assert not (tmp_path / "store" / job_id).exists()
    close_home(tmp_path / "other")


def _left_before_its_results(server, home, store):
    """A job whose batch has ended, and whose machine is gone before it had the results: its id, and its folder in the store."""
    dobatch.configure(store=store)
    server.faults.add("get_results", status=503, times=None)
    job = frame().dobatch.submit("Say {text}", model="echo")
    mirrored = JobFolder(store / job.id / "job")
    eventually(lambda: [part.state for part in mirrored.journal().load().parts.values()] == ["ended"])
    close_home(home)
    server.faults.clear()
    return job.id, mirrored


def test_what_the_store_has_tells_of_no_part_that_it_lacks(tmp_path):
    """
    A part that comes to be while the files are copied is copied with the next change: the writer may die before that.
    """
    folder = JobFolder(tmp_path / "home" / "jobs" / "one").create()
    folder.record_path.write_bytes(b"{}")
    journal = folder.journal()
    before = State("one")
    journal.record(None, before)

    class Slow(Store):
        def _put(self, name, content):
            nonlocal before
            number = len(before.parts)
            folder.part_manifest(number).write_bytes(b"ids")
            after = replace(before, parts={**before.parts, number: Part(number, 1)})
            journal.record(before, after)
            before = after
            super()._put(name, content)

    store, known = Slow(str(tmp_path / "store")), {}
    for _ in range(3):
        store.keep_folder(folder, known)
        there = JobFolder(tmp_path / "store" / "one" / "job")
        parts = there.journal().load().parts
        assert all(there.part_manifest(number).exists() for number in parts)
    assert parts


def test_a_file_that_is_lost_is_told_and_not_waited_for(here, server, home, tmp_path):
    """
    No time brings back what a machine has not written: the job says so, and what to do.
    """
    job_id, mirrored = _left_before_its_results(server, home, tmp_path / "store")
    mirrored.part_manifest(0).unlink()
    dobatch.configure(home=tmp_path / "other")
    with pytest.raises(JobFailed, match=r"manifest-00000\.parquet is gone"):
        dobatch.attach(job_id).wait(timeout=120)
    close_home(tmp_path / "other")


def test_a_store_that_cannot_be_used_is_told_before_anything_is_sent(here, server, tmp_path):
    """
    Nothing that opens it, or nothing that can be written there.
    """
    (tmp_path / "file").touch()
    for address, words in (
        ("nothing://there", "cannot be opened"),
        (str(tmp_path / "file"), "cannot be written"),
    ):
        dobatch.configure(store=address)
        with pytest.raises(ConfigurationError, match=words):
            frame().dobatch.submit("Say {text}", model="echo")
    assert not server.calls
