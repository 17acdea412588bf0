"""A store that all machines reach: results stay there, and another machine can go on."""

from __future__ import annotations

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.job.process import close_home

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
    dobatch.configure(store=tmp_path / "store")
    server.faults.add("get_results", status=503, times=None)
    job = frame().dobatch.submit("Say {text}", model="echo")
    mirrored = tmp_path / "store" / job.id / "job" / "journal.jsonl"
    _until(lambda: mirrored.exists() and b'"ended"' in mirrored.read_bytes())
    close_home(home)
    server.faults.clear()
    dobatch.configure(home=tmp_path / "other")
    there = dobatch.attach(job.id).wait()
    out = frame().dobatch.join(there).compute()
    assert (out["response"] == "Say " + out["text"]).all()
    assert len(server.batches) == 1
    assert sum(server.executed.values()) == 30
    there.forget()
    assert not (tmp_path / "store" / job.id).exists()
    close_home(tmp_path / "other")


def _until(condition, seconds=30.0):
    import threading
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


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
