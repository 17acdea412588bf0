"""A home of version 0.1.0, made by that version, opens: every job is there, and nothing of it is asked or paid again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dobatch_pandas.arrow.keyset import keys_of
from dobatch_pandas.codes import ErrorGroup
from dobatch_pandas.errors import JobNotFound
from dobatch_pandas.job.home import Home, scope_of
from dobatch_pandas.job.machine import Began, Look, Now, request_id, step
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.recipe import Recipe
from dobatch_pandas.questions.request_lines import ids_of

# What was made there: a template with a row left out, a schema, two samples a row, messages, a retry that helped, failed
# rows, and a batch that the service was at work on.
PLAIN, SCHEMA, SAMPLES, MESSAGES = "261126-uah2u8", "261126-zwed9g", "261126-fuv36t", "261126-rfsyrt"
RETRIED, FAILED, OPEN = "261126-bz97ky", "261126-4eutra", "261126-z9qfkc"
ALL = [OPEN, FAILED, RETRIED, MESSAGES, SAMPLES, SCHEMA, PLAIN]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "data" / "home_0_1_0.tar.gz") as archive:
        archive.extractall(
            tmp_path / "home", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    return tmp_path / "home"


def _change(place: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(place / "ledger.sqlite")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_every_job_is_listed_as_it_was(place):
    """
    After the upgrade the list of jobs is the same, the newest first.
    """
    before = (place / "ledger.sqlite").read_bytes()
    rows = {row.id: row for row in Home(place).rows()}
    assert list(rows) == ALL
    assert [rows[one].status for one in ALL] == ["running"] + ["completed"] * 6
    assert [rows[one].requests for one in ALL] == [3, 8, 8, 3, 6, 3, 3]
    assert [rows[one].failed for one in ALL] == [0, 2, 0, 0, 0, 0, 0]
    assert [rows[one].batches for one in ALL] == [1, 1, 2, 1, 1, 1, 1]
    assert (rows[SAMPLES].prompt_tokens, rows[SAMPLES].completion_tokens) != (0, 0)
    assert (place / "ledger.sqlite").read_bytes() == before
    assert {path.name for path in place.iterdir()} == {"jobs", "ledger.sqlite", "index.sqlite"}


def test_a_job_is_found_by_its_id_alone(place):
    """
    `attach` needs no list of jobs before it.
    """
    record = Home(place).record(SCHEMA)
    assert (record.model, record.into, record.rows, record.account) == ("gpt-4.1-mini", "label", 3, "")
    assert '"because"' in record.recipe


@pytest.mark.parametrize(
    ("job_id", "prompt", "options"),
    [
        (PLAIN, "Sentiment of: {review}", {"temperature": 0, "into": "plain"}),
        (
            SCHEMA,
            "Classify: {review}",
            {"schema": {"sentiment": ["pos", "neg"], "because": str}, "into": "label"},
        ),
        (SAMPLES, "Say of {review}", {"samples": 2, "into": "two"}),
        (
            MESSAGES,
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{review}"}],
            {"into": "m"},
        ),
    ],
)
def test_what_was_asked_is_known_to_the_byte(place, job_id, prompt, options):
    """
    Rows find their answers by what they ask, though 0.1.0 sorted the keys of schemas and messages.
    """
    record = Home(place).record(job_id)
    kept = Recipe.from_json(json.loads(record.recipe))
    frame = pd.DataFrame({"review": ["good", "bad", "fine"]})
    into = options.pop("into")
    again = build_recipe(
        prompt,
        model="gpt-4.1-mini",
        into=into,
        schema=options.pop("schema", None),
        samples=options.pop("samples", 1),
        params=options,
    )
    there = set(pq.read_table(Home(place).folder(job_id).result(0))["custom_id"].to_pylist())
    assert set(ids_of(frame, kept)[0].to_pylist()) == set(ids_of(frame, again)[0].to_pylist()) == there
    if kept.schema is not None:
        assert list(kept.schema.given["properties"]) == ["sentiment", "because"]


def test_a_job_whose_parts_are_gone_keeps_its_recipe(place):
    """
    What cannot be put in order is left as it is.
    """
    for path in (place / "jobs" / SCHEMA / "parts").iterdir():
        path.write_bytes(b"torn")
    assert '"because"' in Home(place).record(SCHEMA).recipe


def test_what_was_known_of_each_part_is_known(place):
    """
    Counts, failures by code, tokens and rounds of retries.
    """
    home = Home(place)
    home.rows()
    state = home.folder(FAILED).state()
    assert state.outcome == "completed"
    assert {(g.code, g.count) for g in state.parts[0].errors} == {("http_400", 1), ("http_429", 1)}
    state = home.folder(RETRIED).state()
    assert [(p.round, p.requests, p.completed, p.failed) for p in state.parts.values()] == [
        (0, 8, 4, 4),
        (1, 4, 4, 0),
    ]
    assert not any(part.errors for part in state.parts.values())
    assert home.folder(PLAIN).state().skipped == 1


def test_a_batch_that_runs_is_gone_on_with_under_its_request_id(place):
    """
    Nothing is created a second time for what 0.1.0 had sent.
    """
    with contextlib.closing(sqlite3.connect(place / "ledger.sqlite")) as db:
        (drawn,) = db.execute("SELECT request_id FROM parts WHERE job = ?", (OPEN,)).fetchone()
    home = Home(place)
    home.record(OPEN)
    state = home.folder(OPEN).state()
    assert request_id(OPEN, state.parts[0]) == drawn
    _, actions = step(state, Began(), Now(0.0, state.parts[0].created_at or 0.0))
    assert [type(action) for action in actions] == [Look]


@pytest.mark.parametrize(
    ("was", "change", "state", "tried", "status"),
    [
        ("rendered", "file_id = NULL, batch_id = NULL, status = NULL", "rendered", False, None),
        ("uploaded", "batch_id = NULL, status = NULL", "uploaded", True, None),
        ("held", "batch_id = NULL, status = NULL", "uploaded", True, None),
        ("ended", "status = 'completed'", "ended", True, "completed"),
        ("dropped", "file_id = NULL, batch_id = NULL, status = NULL", "fetched", False, "dropped"),
        ("read", "file_id = NULL, batch_id = NULL, status = 'refused'", "fetched", False, "refused"),
    ],
)
def test_each_state_of_a_part_has_a_place(place, was, change, state, tried, status):
    """
    Wherever 0.1.0 was killed, the job goes on from there; what may have reached the service counts as sent.
    """
    _change(place, f"UPDATE parts SET state = '{was}', {change} WHERE job = '{OPEN}'")
    home = Home(place)
    home.record(OPEN)
    part = home.folder(OPEN).state().parts[0]
    assert (part.state, part.tried, part.status) == (state, tried, status)


def test_results_that_were_given_up_are_asked_for_again(place):
    """
    0.1.0 took a single 404 for the end; the service has kept the answers.
    """
    _change(
        place,
        f"UPDATE parts SET completed = 6, failed = 2 WHERE job = '{PLAIN}'",
        f"INSERT INTO failures VALUES ('{PLAIN}', 0, 'missing_result', 2, 'gone')",
    )
    home = Home(place)
    home.record(PLAIN)
    part = home.folder(PLAIN).state().parts[0]
    assert (part.state, part.provisional, part.lines) == ("read", True, 1)
    assert part.errors == (ErrorGroup("missing_result", 2, "gone"),)


def test_a_job_that_0_1_0_still_moves_is_left_to_it(place):
    """
    An old kernel is at work: its job is taken over when it has ended.
    """
    home = Home(place)
    lock = home.folder(OPEN).try_lock()
    assert lock is not None
    assert OPEN not in {row.id for row in home.rows()}
    lock.release()
    assert OPEN in {row.id for row in home.rows()}


def test_a_job_that_was_forgotten_stays_forgotten(place):
    """
    The ledger still knows it, and is not asked about what has no folder.
    """
    home = Home(place)
    home.forget(PLAIN)
    assert PLAIN not in {row.id for row in home.rows()}
    with pytest.raises(JobNotFound):
        Home(place).record(PLAIN)


def test_a_migration_that_was_interrupted_is_done_again(place):
    """
    The process was killed between a job's journal and its record, and 0.1.0 went on with the job before the next try.
    """
    first = Home(place)
    first.record(OPEN)
    first.folder(OPEN).record_path.unlink()
    first.close()
    _change(place, f"UPDATE parts SET file_id = NULL, batch_id = NULL, status = NULL, state = 'rendered', deadline = NULL "
                   f"WHERE job = '{OPEN}'")  # fmt: skip
    home = Home(place)
    assert len(home.rows()) == len(ALL)
    part = home.folder(OPEN).state().parts[0]
    assert (part.state, part.batch_id, part.deadline) == ("rendered", None, None)


def test_a_ledger_in_the_middle_of_a_transaction_is_read(place):
    """
    0.1.0 was killed while it wrote: what was committed counts, and the file stays as it is.
    """
    with contextlib.closing(sqlite3.connect(place / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE jobs SET model = 'torn'")
        db.execute("CREATE TABLE filler AS SELECT randomblob(9000) AS x")
        kept = {name: (place / name).read_bytes() for name in ("ledger.sqlite", "ledger.sqlite-journal")}
        db.execute("ROLLBACK")
    for name, content in kept.items():
        (place / name).write_bytes(content)
    rows = Home(place).rows()
    assert len(rows) == len(ALL)
    assert {row.model for row in rows} == {"gpt-4.1-mini"}
    assert (place / "ledger.sqlite").read_bytes() == kept["ledger.sqlite"]


@pytest.mark.parametrize("content", [b"", b"not a database, sorry. " * 500])
def test_a_ledger_that_cannot_be_read_is_told(place, content):
    """
    New jobs work all the same, and the old files stay.
    """
    (place / "ledger.sqlite").write_bytes(content)
    with pytest.warns(UserWarning, match=r"0\.1\.0 cannot be listed"):
        assert Home(place).rows() == []
    assert len(list((place / "jobs").iterdir())) == len(ALL)


def test_a_job_that_cannot_be_understood_hides_no_other(place):
    """
    A word that no version wrote is told with the job's id; all others are there.
    """
    _change(place, f"UPDATE parts SET state = 'strange' WHERE job = '{PLAIN}'")
    with pytest.warns(UserWarning, match=f"{PLAIN}.*strange"):
        rows = Home(place).rows()
    assert [row.id for row in rows] == [one for one in ALL if one != PLAIN]


def test_a_ledger_of_an_early_build_is_read(place):
    """
    A column that came later is taken for what it is in new jobs.
    """
    _change(place, "ALTER TABLE parts DROP COLUMN cached_tokens")
    assert len(Home(place).rows()) == len(ALL)


def test_answers_of_0_1_0_are_reused(place):
    """
    What was asked before is not paid for again after the upgrade.
    """
    home = Home(place)
    record = home.record(PLAIN)
    scopes = [scope_of(record.base_url, "", "openai", "/v1/chat/completions")]
    assert home.enter_answers(scopes)
    ids = pq.read_table(home.folder(PLAIN).result(0))["custom_id"].combine_chunks()
    assert {one: len(keys) for one, keys in home.answered(scopes, keys_of(ids)).items()} == {PLAIN: 3}
