"""Files larger than memory go through in pieces, and the answers lie beside the rows."""

from __future__ import annotations

import errno
import tempfile
from collections import Counter
from contextlib import closing, nullcontext

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import InputError, JobFailed
from dobatch_pandas.job import output, result_files
from dobatch_pandas.job.folder import JobFolder
from dobatch_pandas.job.input import frozen_in
from dobatch_pandas.job.process import close_home
from dobatch_pandas.questions import source


@pytest.fixture
def files(tmp_path):
    """Three Parquet files of 2,000 rows in all, some rows equal, in different files."""
    folder = tmp_path / "in"
    folder.mkdir()
    frame = pd.DataFrame({"n": np.arange(2000), "text": [f"text {n % 1500}" for n in range(2000)]})
    for number, piece in enumerate(np.array_split(np.arange(2000), 3)):
        frame.iloc[piece].to_parquet(folder / f"{number}.parquet")
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Several batches, several output files, and blocks that end in the middle of them."""
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(400, 200_000_000))
    monkeypatch.setattr(output, "ROWS_A_FILE", 700)
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 300)
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 300)
    monkeypatch.setattr(output, "PIECES_IN_MEMORY", 1)


def read(folder):
    return ds.dataset(folder, format="parquet").to_table().to_pandas()


def job_folder(job):
    return dobatch.config.settings().home / "jobs" / job.id


def test_the_output_has_the_rows_and_their_answers(server, files, tmp_path):
    """
    The source's columns, in the source's order, with the answers beside them; equal rows are asked once.
    """
    job = dobatch.submit_dataset(files, "Say {text}", model="echo", output=tmp_path / "out", into="said")
    job.wait()

    out = read(tmp_path / "out")
    assert list(out["n"]) == list(range(2000))
    assert (out["said"] == "Say " + out["text"]).all()
    assert out["said_error"].isna().all()
    assert len(server.executed) == 1500
    assert len(server.batches) == 4


@pytest.mark.parametrize("kind", ["glob", "dataset", "list", "csv", "uri"])
def test_a_source_can_be_named_in_many_ways(kind, server, files, tmp_path):
    """
    A glob, a list of files, a pyarrow Dataset, CSV, or a URI.
    """
    source = {
        "glob": str(files / "*.parquet"),
        "dataset": ds.dataset(files, format="parquet"),
        "list": sorted(files.iterdir()),
        "uri": f"file://{files}",
    }.get(kind)
    if kind == "csv":
        source = tmp_path / "in.csv"
        pd.read_parquet(files).to_csv(source, index=False)
    job = dobatch.submit_dataset(source, "Say {text}", model="echo", output=tmp_path / "out")
    job.wait()

    out = read(tmp_path / "out")
    assert list(out["n"]) == list(range(2000))
    assert (out["response"] == "Say " + out["text"]).all()


def test_typed_columns_and_failures_reach_the_files(serve, files, tmp_path):
    """
    A schema's columns are typed in every file, and a failed row has its code.
    """
    serve(fail_share=0.05)
    schema = {"label": ["pos", "neg"], "score": float}
    job = dobatch.submit_dataset(files, "Rate {text}", model="echo", output=tmp_path / "out", schema=schema)
    job.wait()

    out = read(tmp_path / "out")
    failed = out["response_error"].notna()
    assert 0.01 < failed.mean() < 0.12
    assert set(out["label"][~failed]) <= {"pos", "neg"}
    assert out["score"].dtype == np.float64
    assert out["label"][failed].isna().all()


def test_the_same_dataset_again_is_the_same_job(server, files, tmp_path):
    """
    Run All does not pay twice.
    """
    first = dobatch.submit_dataset(files, "Say {text}", model="echo", output=tmp_path / "out").wait()
    again = dobatch.submit_dataset(files, "Say {text}", model="echo", output=tmp_path / "out").wait()
    assert again.id == first.id
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("what", ["manifest", "input"])
def test_what_was_read_of_a_long_file_is_not_held(tmp_path, what):
    """
    Twenty megabytes go through in pieces: memory does not grow with the rows.
    """
    ids = np.random.default_rng(0).bytes(16 * 600_000).hex()
    table = pa.table(
        {"custom_id": [ids[at : at + 32] for at in range(0, len(ids), 32)], "fate": np.zeros(600_000, "i1")}
    )
    folder = JobFolder(tmp_path / "job").create()
    pq.write_table(table, getattr(folder, what), row_group_size=20_000)
    del table
    rows, most, before = 0, 0, pa.total_allocated_bytes()
    with closing(output._Blocks(folder.manifest)) if what == "manifest" else nullcontext() as blocks:
        pieces = (blocks.take(20_000) for _ in range(30)) if blocks else frozen_in(folder)
        for piece in pieces:
            rows += len(piece)
            most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 600_000
    assert most < 8_000_000


@pytest.fixture
def far_apart(tmp_path):
    """Rows that are equal to one far away, in no order, and a thousand that are not."""
    n = np.arange(4000)
    which = np.where(n < 1000, n, np.random.default_rng(0).integers(0, 1000, len(n)))
    pd.DataFrame({"n": n, "text": [f"text {one}" for one in which]}).to_parquet(tmp_path / "far.parquet")
    return tmp_path / "far.parquet"


def test_equal_rows_far_apart_do_not_have_answers_read_again_and_again(
    server, far_apart, tmp_path, monkeypatch
):
    """
    Each answer is read twice at most, however its rows are spread; of what was spilled nothing is left.
    """
    monkeypatch.setattr(result_files, "ROW_GROUP_BYTES", 1)  # a group for each block that is written
    count = Counter()

    class Counted(output.pq.ParquetFile):
        def __init__(self, path, *args, **options):
            self.path = path
            super().__init__(path, *args, **options)

        def read_row_group(self, group, columns, **options):
            count[self.path, group, "text" in columns] += 1
            return super().read_row_group(group, columns, **options)

    monkeypatch.setattr(output.pq, "ParquetFile", Counted)
    job = dobatch.submit_dataset(far_apart, "Say {text}", model="echo", output=tmp_path / "out").wait()

    out = read(tmp_path / "out")
    assert list(out["n"]) == list(range(4000))
    assert (out["response"] == "Say " + out["text"]).all()
    texts = {key: times for key, times in count.items() if key[2]}
    assert len(texts) >= 3
    assert max(texts.values()) == 2
    folder = job_folder(job)
    assert {path.name for path in folder.iterdir()} <= {
        *("job.json", "journal.jsonl", "lock", "manifest.parquet", "parts", "output", "error", "results"),
        *(f"manifest-{number:05}.parquet" for number in range(3)),
    }


def test_a_full_disk_is_waited_for(server, far_apart, tmp_path, monkeypatch):
    """
    Where there is no room for what is not held in memory, the job says so, and goes on when there is.
    """
    real, full = tempfile.TemporaryFile, [True]

    def file(*args, **options):
        if full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    server.hold()
    job = dobatch.submit_dataset(far_apart, "Say {text}", model="echo", output=tmp_path / "out")
    job.sent()
    monkeypatch.setattr(output.tempfile, "TemporaryFile", file)
    server.release()
    job.wait()
    out = read(tmp_path / "out")
    assert not full
    assert (out["response"] == "Say " + out["text"]).all()


def test_answers_of_an_earlier_job_are_read_in_pieces_too(server, far_apart, tmp_path, monkeypatch):
    """
    The same rows for another folder: nothing is sent, and the answers that are copied are not held together.
    """
    monkeypatch.setattr(result_files, "ROW_GROUP_BYTES", 1)
    dobatch.submit_dataset(far_apart, "Say {text}", model="echo", output=tmp_path / "out").wait()
    job = dobatch.submit_dataset(far_apart, "Say {text}", model="echo", output=tmp_path / "more").wait()

    assert sum(server.executed.values()) == 1000
    assert job.counts["reused"] == 1000
    assert read(tmp_path / "more").equals(read(tmp_path / "out"))
    assert output.pq.ParquetFile(job_folder(job) / "results" / "reused.parquet").num_row_groups > 1


def test_a_job_over_files_can_be_attached_to(server, files, tmp_path, home):
    """
    Another session goes on from the files.
    """
    server.hold()
    job = dobatch.submit_dataset(files, "Say {text}", model="echo", output=tmp_path / "out")
    job.sent()
    close_home(home)
    server.release()
    dobatch.attach(job.id).wait()
    assert len(read(tmp_path / "out")) == 2000


def test_what_is_wrong_with_a_source_is_told_at_once(server, files, tmp_path):
    """
    No such file, no such column, missing values with their positions: before anything is sent.
    """
    with pytest.raises(InputError, match="No file matches"):
        dobatch.submit_dataset(tmp_path / "none.parquet", "{x}", model="echo", output=tmp_path / "out")
    with pytest.raises(InputError, match=r"no column 'txet'. Did you mean 'text'"):
        dobatch.submit_dataset(files, "{txet}", model="echo", output=tmp_path / "out")
    for prompt in (lambda row: "Say it", pd.Series(["Say it"] * 2000)):
        with pytest.raises(InputError, match="submit the frame"):
            dobatch.submit_dataset(files, prompt, model="echo", output=tmp_path / "out")
    with pytest.raises(InputError, match="output is None"):
        dobatch.submit_dataset(files, "{text}", model="echo", output=None)
    frame = pd.DataFrame({"text": ["a", None] * 500})
    frame.to_parquet(tmp_path / "holes.parquet")
    with pytest.raises(InputError, match="missing"):
        dobatch.submit_dataset(tmp_path / "holes.parquet", "{text}", model="echo", output=tmp_path / "out")
    assert not server.executed
    assert dobatch.jobs().empty


def test_a_piece_without_any_vector_fits_the_others(server, files, tmp_path):
    """
    The first batch is refused: its rows are null, of the type that the vectors of the others have.
    """
    server.faults.add("create_batch", status=400)
    job = dobatch.submit_dataset(
        files, "{text}", model="echo", endpoint="/v1/embeddings", output=tmp_path / "out", into="vector"
    )
    job.wait()

    out = read(tmp_path / "out")
    failed = out["vector_error"].notna()
    assert 0 < failed.sum() < 2000
    assert set(out["vector_error"][failed]) == {"batch_failed"}
    assert (out["vector"].isna() == failed).all()
    assert {len(vector) for vector in out["vector"].dropna()} == {256}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_prompt_may_look_at_no_column(server, tmp_path, ending):
    """
    The same question for every row is asked once for each sample.
    """
    frame = pd.DataFrame({"n": range(5)})
    path = tmp_path / f"in.{ending}"
    _ = frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    dobatch.submit_dataset(path, "Say hi", model="echo", samples=2, output=tmp_path / "out").wait()

    out = read(tmp_path / "out")
    assert out[["response", "response_2"]].stack().tolist() == ["Say hi"] * 10
    assert len(server.executed) == 2


def test_files_that_differ_are_one_output(server, tmp_path):
    """
    A column that one file has of another type, and one that it lacks: one schema in all files of the output.
    """
    frame = pd.DataFrame({"n": np.arange(600), "text": [f"t{n}" for n in range(600)], "more": "x"})
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in" / "0.parquet")
    frame.assign(n=frame["n"] + 0.5, text=frame["text"] + "!").drop(columns="more").to_parquet(
        tmp_path / "in" / "1.parquet"
    )
    dobatch.submit_dataset(tmp_path / "in", "{text} {n}", model="echo", output=tmp_path / "out").wait()

    out = read(tmp_path / "out")
    assert out["response"][0] == "t0 0"
    assert out["response"][1199] == "t599! 599.5"
    assert out["more"].isna().tolist() == [False] * 600 + [True] * 600


def test_every_problem_of_a_source_is_told_once(server, tmp_path):
    """
    Missing values, ids that repeat in another piece or are missing: each with its number and first rows.
    """
    keys = [f"k{n % 900}" for n in range(1000)]
    keys[5] = None
    texts = [None if n % 400 == 0 else f"t{n}" for n in range(1000)]
    pd.DataFrame({"key": keys, "text": texts}).to_parquet(tmp_path / "in.parquet")
    with pytest.raises(InputError) as caught:
        dobatch.submit_dataset(
            tmp_path / "in.parquet", "{text}", model="echo", custom_id="key", output=tmp_path / "out"
        )
    missing, no_id, repeated = caught.value.problems
    assert (missing.rows, missing.count) == ((0, 400, 800), 3)
    assert (no_id.rows, no_id.count) == ((5,), 1)
    assert repeated.rows[0] == 900
    assert repeated.count == 99
    with pytest.raises(InputError, match="would replace column 'text'"):
        dobatch.submit_dataset(
            tmp_path / "in.parquet", "{text}", model="echo", into="text", output=tmp_path / "out"
        )
    with pytest.raises(InputError, match="would replace the column 'key'"):
        dobatch.submit_dataset(
            tmp_path / "in.parquet", "{text}", model="echo", into="key", output=tmp_path / "out"
        )
    assert not server.batches


def test_an_output_never_mixes_with_other_files(server, files, tmp_path):
    """
    A folder that is not empty, the source's own, a file, and one that another job writes to: nothing is sent.
    """
    out = tmp_path / "out"

    def submit(target, prompt="{text}", **options):
        return dobatch.submit_dataset(files, prompt, model="echo", output=target, **options)

    server.hold()
    first = submit(out)
    with pytest.raises(InputError, match=f"Job {first.id}, which is not over, writes to"):
        submit(out, "Say {text}")
    server.release()
    first.wait()
    sent = len(server.batches)
    assert submit(out).id == first.id
    with pytest.raises(InputError, match=r"not empty \(part-00000.parquet and 2 more\)"):
        submit(out, fresh=True)
    with pytest.raises(InputError, match="taken for rows"):
        submit(files / "answers")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        submit(tmp_path / "file")
    assert len(server.batches) == sent


@pytest.mark.parametrize("changed", [False, True])
def test_a_source_that_changed_meanwhile_is_not_given_others_answers(server, files, tmp_path, changed):
    """
    Files that were merely touched are taken; other rows are an error, and putting them back mends it.
    """
    server.hold()
    job = dobatch.submit_dataset(files, "Say {text}", model="echo", output=tmp_path / "out")
    job.sent()
    target = files / "1.parquet"
    before = target.read_bytes()
    frame = pd.read_parquet(target)
    (frame.assign(text=frame["text"][::-1].to_numpy()) if changed else frame).to_parquet(target)
    server.release()
    if changed:
        with pytest.raises(JobFailed, match="have changed since"):
            job.wait()
        assert not list((tmp_path / "out").glob("*.parquet"))
        target.write_bytes(before)
        job = dobatch.attach(job.id)
    job.wait()
    out = read(tmp_path / "out")
    assert (out["response"] == "Say " + out["text"]).all()
