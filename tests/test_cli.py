"""The ``dobatch`` command does what the notebook does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import config
from dobatch_pandas.cli import _for_a_terminal, main
from dobatch_pandas.exit_codes import Exit


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.parquet"
    pd.DataFrame({"text": ["good", "bad", "ugly"]}).to_parquet(path)
    return path


def test_run_writes_the_enriched_table(server, table, tmp_path, capsys):
    """
    A file in, the same rows with their answers out.
    """
    out = tmp_path / "out.parquet"
    status = main(
        ["run", str(table), "--prompt", "Say {text}", "--model", "echo", "--out", str(out), "--into", "said"]
    )
    assert status == 0
    assert list(pd.read_parquet(out)["said"]) == ["Say good", "Say bad", "Say ugly"]
    assert "3 rows" in capsys.readouterr().err


def test_run_takes_csv_schemas_and_parameters(server, tmp_path):
    """
    Everything that a plan takes, as options.
    """
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame({"text": ["a", "b"]}).to_csv(source, index=False)
    options = ["--schema", '{"label": ["pos", "neg"]}', "--param", "temperature=0", "--param", "seed=7"]
    assert (
        main(["run", str(source), "--prompt", "{text}", "--model", "echo", "--out", str(out), *options]) == 0
    )
    assert set(pd.read_csv(out)["label"]) <= {"pos", "neg"}


def run_csv(source: Path, out: Path, prompt: str = "{text}") -> int:
    return main(["run", str(source), "--prompt", prompt, "--model", "echo", "--out", str(out)])


def test_run_leaves_the_texts_of_a_csv_file_alone(server, tmp_path):
    """
    007 stays 007 and 1 does not become 1.0, also where the file replaces itself.
    """
    source = tmp_path / "in.CSV"
    source.write_bytes('\ufeffid,n,text\r\n007,1,"a, ""b""\nc"\r\n010,,NA?\r\n'.encode())
    assert run_csv(source, source, "{id} {text}") == 0
    assert source.read_text(encoding="utf-8").splitlines() == [
        "id,n,text,response,response_error",
        *['007,1,"a, ""b""', 'c","007 a, ""b""', 'c",'],
        "010,,NA?,010 NA?,",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.CSV"]


def test_what_is_nested_is_json_in_a_csv_file(server, tmp_path):
    """
    Lists, objects and vectors are written whole, and so that any program reads them again.
    """
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\na\n")
    run = ["run", str(source), "--prompt", "{text}", "--model", "echo", "--out", str(out)]
    text = {"type": "string"}
    fields = {
        "tags": {"type": "array", "items": text},
        "who": {"type": "object", "properties": {"name": text}, "required": ["name"]},
        "days": {"type": "array", "items": {**text, "format": "date"}},
    }
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    assert main([*run, "--schema", json.dumps(schema)]) == 0
    row = pd.read_csv(out).iloc[0]
    assert all(isinstance(tag, str) for tag in json.loads(row["tags"]))
    assert list(json.loads(row["who"])) == ["name"]
    assert isinstance(json.loads(row["days"]), list)
    assert main([*run, "--endpoint", "embeddings", "--into", "v"]) == 0
    assert len(json.loads(pd.read_csv(out)["v"][0])) > 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text\ncaf\xe9\n", "not UTF-8"),
        (b"", "cannot be read: Empty CSV"),
        (b"text,n\na,1\nb,2,3\n", "cannot be read: .*Expected 2 columns, got 3"),
        (b"text,text\na,1\n", "several columns 'text'"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_named(content, words, server, tmp_path, capsys):
    """
    In one line, before anything is sent.
    """
    (tmp_path / "in.csv").write_bytes(content)
    assert run_csv(tmp_path / "in.csv", tmp_path / "out.csv") == 1
    assert re.search(rf"in\.csv.*{words}", capsys.readouterr().err)
    assert not server.executed


def test_answers_outlive_an_output_that_cannot_be_written(server, table, tmp_path, capsys, monkeypatch):
    """
    The same command, run again, sends nothing again.
    """

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        assert run_csv(table, out) == 1
    assert "No space left on device. The answers are kept" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.parquet"]
    executed = dict(server.executed)
    assert run_csv(table, out) == 0
    assert dict(server.executed) == executed
    assert pd.read_parquet(out)["response"].notna().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--prompt": "{txet}"}, "Did you mean 'text'"),
        ({"--out": "no/such/folder/out.csv"}, "there is no folder"),
        ({"--out": ".csv"}, "neither a .parquet nor a .csv"),
        ({"--out": "out.xlsx"}, "neither a .parquet nor a .csv"),
        ({"in": "none.parquet"}, "no file"),
        ({"--param": "temperature"}, "NAME=VALUE"),
        ({"--schema": "{"}, "not JSON"),
    ],
)
def test_bad_usage_is_one_clear_line(change, words, server, table, tmp_path, capsys):
    """
    No traceback, nothing sent, and the status says that it failed.
    """
    options = {"--prompt": "{text}", "--model": "echo", "--out": str(tmp_path / "o.parquet"), **change}
    source = options.pop("in", str(table))
    status = main(["run", source, *[word for pair in options.items() for word in pair]])
    assert status == 1
    assert words in capsys.readouterr().err
    assert not server.executed


def test_jobs_watch_and_forget(server, capsys):
    """
    What was submitted anywhere can be listed, followed and deleted.
    """
    assert main(["jobs"]) == 0
    assert "No job yet" in capsys.readouterr().out
    server.hold()
    job = pd.DataFrame({"n": range(3)}).dobatch.submit("{n}", model="echo")
    server.release()
    assert main(["watch", job.id]) == 0
    assert "3 answered" in capsys.readouterr().out
    assert main(["jobs"]) == 0
    assert job.id in capsys.readouterr().out
    assert main(["retry", job.id]) == 0
    assert main(["forget", job.id]) == 0
    assert main(["watch", job.id]) == 66
    assert "No job" in capsys.readouterr().err


def test_cancel_ends_a_job(server, capsys):
    """
    ``dobatch cancel`` ends what runs, and says what was finished.
    """
    server.hold(after=2)
    job = pd.DataFrame({"n": range(50)}).dobatch.submit("{n}", model="echo")
    job.sent()
    assert main(["cancel", job.id]) == 0
    assert job.status == "cancelled"
    assert server.batches[0].status == "cancelled"


def test_the_demo_runs_and_never_pretends(home):
    """
    Without the real model it says what it uses instead.
    """
    command = [sys.executable, "-m", "dobatch_pandas.cli", "demo", "--rows", "30", "--model", "echo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "stand-in" in done.stdout
    assert "30 rows, 0 failed" in done.stdout
    assert "sentiment_error" in done.stdout
    pasted = done.stdout.partition("as it stands:")[2] + "\nassert df['sentiment'].notna().all()"
    again = subprocess.run(
        [sys.executable, "-c", pasted], capture_output=True, text=True, timeout=240, check=False
    )
    assert again.returncode == 0, again.stderr


def test_the_command_is_installed():
    """
    ``dobatch`` is on the path, and its help names the commands.
    """
    command = Path(sys.executable).parent / "dobatch"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=240, check=True)
    for word in ("demo", "run", "jobs", "watch", "cancel", "serve", "fetch-model"):
        assert word in done.stdout
    assert dobatch.__version__


def test_alone_it_says_what_one_can_do(capsys):
    """
    ``dobatch`` without a word is no error: commands, and examples that can be typed.
    """
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert "dobatch run reviews.csv" in said


def test_it_knows_its_version(capsys):
    """
    As every command does.
    """
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dobatch-pandas {dobatch.__version__}\n"


def test_an_estimate_sends_nothing(server, table, capsys):
    """
    The price first, from the very requests that would be sent, and no job.
    """
    asked = [
        "run",
        str(table),
        "--prompt",
        "Say {text}",
        "--model",
        "gpt-4.1-mini",
        "--param",
        "max_tokens=5",
    ]
    assert main([*asked, "--estimate"]) == 0
    first, bound, *_ = capsys.readouterr().out.splitlines()
    assert re.match(r"\$[\d.]+ to \$[\d.]+ as a batch", first)
    assert bound.startswith("At most")
    assert dobatch.jobs().empty
    assert main(asked) == 1
    assert "--out is missing" in capsys.readouterr().err


def test_a_limit_asks_for_the_first_rows_only(server, table, tmp_path, capsys):
    """
    A look at a few rows before all are paid for; they are not asked again with the rest.
    """
    out = tmp_path / "out.csv"
    asked = ["run", str(table), "--prompt", "Say {text}", "--model", "echo", "--out", str(out)]
    assert main([*asked, "--limit", "2"]) == 0
    assert len(pd.read_csv(out)) == 2
    assert main(asked) == 0
    assert list(pd.read_csv(out)["response"]) == ["Say good", "Say bad", "Say ugly"]
    assert dobatch.jobs()["reused"].iloc[0] == 2


def test_the_summary_says_what_failed_and_what_to_do(serve, tmp_path, capsys):
    """
    Codes with the service's words, what a retry would send, and the command for it.
    """
    server = serve(fail_share=0.5, fail_kinds=("server_error",), fail_times=1)
    dobatch.configure(base_url=server.url, token=server.token)
    source = tmp_path / "in.csv"
    pd.DataFrame({"text": [f"row {n}" for n in range(20)]}).to_csv(source, index=False)
    assert run_csv(source, tmp_path / "out.csv") == 0
    said = capsys.readouterr().err
    assert re.search(r"\d+ x http_500: ", said)
    assert re.search(r"A retry sends \d+ of them again", said)
    job_id = dobatch.jobs().index[0]
    assert f"dobatch retry {job_id}" in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_odd_names_do_not_end_a_command(server, home, encoding):
    """
    A model and a column that the terminal's code page lacks are written with escapes, not as a traceback.
    """
    pd.DataFrame({"n": [1]}).dobatch.submit("{n}", model="模型 😀", into="réponse ☃").wait()
    done = subprocess.run(
        [sys.executable, "-m", "dobatch_pandas.cli", "jobs"],
        capture_output=True, timeout=240, check=False,
        env={**os.environ, "DOBATCH_HOME": str(home), "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u6a21" in done.stdout
    assert b"\\U0001f600" in done.stdout


def test_what_to_do_is_said_in_commands(server, home, capsys):
    """
    Where a notebook is told what to call, a terminal is told what to type.
    """
    server.hold()
    job = pd.DataFrame({"n": [1]}).dobatch.submit("{n}", model="m").sent()
    assert main(["watch", "261127-zzzzzz"]) == Exit.UNKNOWN
    assert "`dobatch jobs` lists all" in capsys.readouterr().err
    assert main(["wait", job.id, "--timeout", "0.1", "--json"]) == Exit.NOT_YET
    assert "Wait again with `dobatch wait ID`." in capsys.readouterr().err
    assert _for_a_terminal(job._stopped_waiting()).endswith(
        f"Come back with `dobatch watch {job.id}`, cancel it with `dobatch cancel {job.id}`."
    )
    server.release()
    job.wait()


@pytest.mark.parametrize("command", [["jobs"], ["jobs", "--json"]])
def test_a_reader_that_has_gone_gets_no_traceback(home, command):
    """
    ``dobatch jobs | head``: the status says that nobody reads any more, and nothing else is said.
    """
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "dobatch_pandas.cli", *command],
            stdout=out, stderr=subprocess.PIPE, text=True, timeout=240,
            env={**os.environ, "DOBATCH_HOME": str(home)},
        )  # fmt: skip
    assert done.returncode == Exit.UNREAD
    assert done.stderr in ("", "No job yet. `dobatch demo` makes one.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_cannot_be_written_is_a_sentence(home):
    """
    The disk that stdout goes to is full: one line, and status 1.
    """
    with open("/dev/full", "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "dobatch_pandas.cli", "jobs"],
            stdout=out, stderr=subprocess.PIPE, text=True, timeout=240,
            env={**os.environ, "DOBATCH_HOME": str(home)},
        )  # fmt: skip
    assert done.returncode == Exit.ERROR
    assert done.stderr.splitlines() == ["dobatch: [Errno 28] No space left on device"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wait", "261127-aaaaaa", "--timeout", "soon"], "soon is not a number of seconds"),
        (["wait", "261127-aaaaaa", "--timeout", "nan"], "nan is not a number of seconds"),
        (["run", "x.csv", "--prompt", "p", "--model", "m", "--limit", "few"], "few is not a number of rows"),
        (["run", "x.csv", "--prompt", "p", "--model", "m", "--limit", "0"], "0 is not a number of rows"),
    ],
)
def test_a_number_that_is_none_is_told_in_words(words, said, capsys):
    """
    No name of a function of ours, as argparse would have it.
    """
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == Exit.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-cost", "-1", "max_cost is -1"),
        ("--deadline", "25:00", "deadline"),
        ("--deadline", "soon", "deadline"),
    ],
)
def test_an_estimate_refuses_what_a_run_would(home, table, option, value, said, capsys):
    """
    What the job would be refused for is told when one asks what it costs.
    """
    asked = ["run", str(table), "--prompt", "Say {text}", "--model", "gpt-4.1-mini", "--estimate"]
    assert main([*asked, option, value]) == Exit.ERROR
    assert said in capsys.readouterr().err


def test_a_schema_may_be_in_a_file(server, table, tmp_path, capsys):
    """
    A schema of some size is no argument to type; a file that is not there is named.
    """
    schema, out = tmp_path / "schema.json", tmp_path / "out.parquet"
    asked = [
        "run",
        str(table),
        "--prompt",
        "{text}",
        "--model",
        "m",
        "--out",
        str(out),
        "--schema",
        str(schema),
    ]
    assert main(asked) == Exit.ERROR
    assert f"--schema {schema} cannot be read" in capsys.readouterr().err
    schema.write_text('{"label": ["pos", "neg"]}', encoding="utf-8")
    assert main(asked) == Exit.DONE
    assert set(pd.read_parquet(out)["label"]) <= {"pos", "neg"}


def test_a_table_whose_columns_have_no_readable_names_is_told(home, tmp_path, capsys):
    """
    A CSV file in another encoding than UTF-8 is named, with what to do.
    """
    source = tmp_path / "latin.csv"
    source.write_bytes("größe,text\n1,a\n".encode("latin-1"))
    assert run_csv(source, tmp_path / "out.csv") == Exit.ERROR
    assert re.search(r"latin\.csv cannot be read: .* not UTF-8", capsys.readouterr().err)


def test_a_home_that_cannot_be_is_no_want_of_a_token(tmp_path, monkeypatch, capsys):
    """
    A scheduler that reads 77 would look for a token, where the folder is what is wrong.
    """
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "_chosen", config._chosen)
    dobatch.configure(home=tmp_path / "file")
    assert main(["jobs"]) == Exit.ERROR
    assert "Cannot write to the home folder" in capsys.readouterr().err
