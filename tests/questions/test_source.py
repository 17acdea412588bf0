"""Files of many kinds are one stream of rows, and what does not fit together is said."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dobatch_pandas.errors import InputError
from dobatch_pandas.questions import source
from dobatch_pandas.questions.source import Source


def rows_of(found: Source, columns: list[str] | None = None) -> pd.DataFrame:
    batches = list(found.batches(columns))
    assert len({str(batch.schema) for batch in batches}) == 1
    return pa.Table.from_batches(batches).to_pandas()


FIRST = pd.DataFrame({"n": pd.array([1, 2], "int32"), "text": ["a", "b"]})


@pytest.mark.parametrize(
    ("second", "n"),
    [
        (FIRST[["text", "n"]], [1, 2, 1, 2]),
        (FIRST.assign(n=2**40), [1, 2, 2**40, 2**40]),
        (FIRST.assign(n=1.5), [1, 2, 1.5, 1.5]),
        (FIRST.assign(n=None), [1, 2, None, None]),
        (FIRST[["text"]], [1, 2, None, None]),
        (FIRST.assign(more=1), [1, 2, 1, 2]),
        (FIRST.assign(text=pd.Categorical(["a", "b"])), [1, 2, 1, 2]),
    ],
    ids=["order", "wider", "float", "null", "absent", "one more", "categories"],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_columns_are_the_same_throughout(tmp_path, second, n, swapped):
    """
    Files that differ in order, width, nulls or absent columns are read with the types of all taken together.
    """
    pair = [second, FIRST] if swapped else [FIRST, second]
    for number, frame in enumerate(pair):
        frame.to_parquet(tmp_path / f"{number}.parquet")
    read = rows_of(Source.find(tmp_path))
    expected = n[2:] + n[:2] if swapped else n
    assert [None if pd.isna(value) else value for value in read["n"]] == expected
    assert list(read["text"]) == ["a", "b", "a", "b"]


def test_types_that_do_not_go_together_are_named_with_their_files(tmp_path):
    """
    Every such column at once.
    """
    FIRST.to_parquet(tmp_path / "0.parquet")
    FIRST.assign(n="x", text=1).to_parquet(tmp_path / "1.parquet")
    with pytest.raises(InputError) as caught:
        _ = Source.find(tmp_path).schema
    assert len(caught.value.problems) == 2
    for word in ("'n'", "'text'", "int32", "0.parquet", "1.parquet"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"no Parquet", "a.parquet cannot be read"),
        ("a.parquet", b"", "a.parquet cannot be read"),
        ("a.csv", b"", "Empty CSV file"),
        ("a.csv", b"n,text\n1,a,b\n", "Expected 2 columns, got 3"),
        ("a.csv", "n,text\n1,caf\u00e9\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"n,n\n1,2\n", "several columns 'n'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, says):
    """
    With what is wrong with it.
    """
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        rows_of(Source.find(tmp_path / name))


def test_a_value_of_another_type_far_down_is_said(tmp_path, monkeypatch):
    """
    A CSV column's type follows from the first bytes; what breaks it later names the file and the way out.
    """
    monkeypatch.setattr(source, "CSV_BLOCK", 1 << 10)
    (tmp_path / "a.csv").write_bytes(b"n\n" + b"".join(b"%d\n" % n for n in range(2000)) + b"abc\n")
    with pytest.raises(InputError, match=r"a\.csv cannot be read.*'abc'.*Parquet"):
        rows_of(Source.find(tmp_path / "a.csv"))


def test_a_csv_column_is_numbers_or_text(tmp_path):
    """
    Text where a number, a truth value or a date would say less than the file does; other numbers are numbers.
    """
    (tmp_path / "a[1].csv").write_text(
        "zip,id,long,n,x,ok,at\n"
        "02139,1234567890123456789,12345678901234567890,0,0.5,true,2026-01-01T10:00:00Z\n"
        "94105,,1,1,-0.25,FALSE,2026-01-02\n"
    )
    found = Source.find(tmp_path / "a[1].csv")
    types = {field.name: str(field.type) for field in found.schema}
    assert {name: kind for name, kind in types.items() if kind != "string"} == {
        "id": "int64",
        "n": "int64",
        "x": "double",
    }
    read = rows_of(found)
    assert read["zip"].tolist() == ["02139", "94105"]
    assert read["long"].tolist() == ["12345678901234567890", "1"]
    assert read["ok"].tolist() == ["true", "FALSE"]
    assert read["at"].tolist() == ["2026-01-01T10:00:00Z", "2026-01-02"]


def test_csv_columns_of_several_types_are_text(tmp_path):
    """
    That is what the files hold, so nothing is lost; a file without a leading zero beside one that has some.
    """
    (tmp_path / "a.csv").write_text("zip,n\n02139,1\n")
    (tmp_path / "b.csv").write_text("zip,n\n94105,1.5\n")
    (tmp_path / "c.csv").write_text("zip,n\n12a,2\n")
    read = rows_of(Source.find(tmp_path))
    assert read["zip"].tolist() == ["02139", "94105", "12a"]
    assert read["n"].tolist() == [1, 1.5, 2]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
NOTHING = st.sampled_from(["", "NA", "null", "None", "nan", "N/A", "<NA>", "#N/A", "NULL"])


@given(texts=st.lists(TEXTS | NOTHING, min_size=1, max_size=30), data=st.data())
@settings(max_examples=100)
def test_csv_is_read_as_pandas_reads_it(tmp_path_factory, texts, data):
    """
    Newlines, quotes, commas and what looks like nothing, across blocks: the same texts are there or missing.
    """
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]))
    # Numbers are another matter: a column that holds words as well is text to both.
    pd.DataFrame({"n": range(len(texts) + 1), "text": ["word", *texts]}).to_csv(
        path, index=False, quoting=quoting
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CSV_BLOCK", data.draw(st.integers(150, 1000)))
        read = rows_of(Source.find(path))
    theirs = pd.read_csv(path)
    assert read["text"].isna().tolist() == theirs["text"].isna().tolist()
    assert read["text"].dropna().tolist() == theirs["text"].dropna().tolist()
    assert read["n"].tolist() == theirs["n"].tolist()


def test_names_of_folders_are_columns(tmp_path):
    """
    ``year=2026/kind=a%2Fb``: numbers as numbers, texts unquoted, as pandas reads them.
    """
    for year, kind in ((2025, "a%2Fb"), (2026, "c"), (2026, "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / f"year={year}" / f"kind={kind}"
        folder.mkdir(parents=True)
        FIRST.to_parquet(folder / "0.parquet")
    read = rows_of(Source.find(tmp_path))
    assert list(read["year"]) == [2025] * 2 + [2026] * 4
    assert [None if pd.isna(kind) else kind for kind in read["kind"]] == ["a/b"] * 2 + [None] * 2 + ["c"] * 2
    assert list(pd.read_parquet(tmp_path / "year=2025").columns) == ["n", "text", "kind"]
    assert list(read.columns) == ["n", "text", "year", "kind"]
    assert list(rows_of(Source.find(f"file://{tmp_path}"))["year"]) == list(read["year"])

    named = Source.find(ds.dataset(tmp_path, partitioning="hive"))
    again = Source.from_json(named.to_json())
    assert sorted(rows_of(again, ["year", "n"])["year"]) == sorted(read["year"])


def test_what_is_no_source_of_ours_is_refused(tmp_path):
    """
    Feather, a dataset in memory, one with a filter, a number: each with a word on what is taken.
    """
    feather.write_feather(FIRST, tmp_path / "a.feather")
    FIRST.to_parquet(tmp_path / "a.parquet")
    filtered = ds.dataset(tmp_path / "a.parquet").filter(ds.field("n") > 1)
    for asked, says in (
        (ds.dataset(tmp_path / "a.feather", format="feather"), "Parquet and CSV"),
        (ds.dataset(pa.table({"n": [1]})), "in memory"),
        (filtered, "has a filter"),
        (5, "source is 5; it takes a path"),
        (tmp_path / "a.feather", "must all end in .*a.feather does not"),
        (FIRST, "source is a frame"),
        ("nowhere-of-this-name://a/b", "cannot be read"),
        (tmp_path.glob("none*"), "No file matches"),
    ):
        with pytest.raises(InputError, match=says):
            Source.find(asked)
    assert Source.find(tmp_path.glob("*.parquet")).paths == [str(tmp_path / "a.parquet")]


def test_batches_are_small(tmp_path, monkeypatch):
    """
    However many rows a block of a file has.
    """
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 7)
    pd.DataFrame({"n": np.arange(100)}).to_csv(tmp_path / "a.csv", index=False)
    assert max(len(batch) for batch in Source.find(tmp_path / "a.csv").batches()) == 7
