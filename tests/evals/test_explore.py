"""The explorer's Python side: which rows match, in which order, and what comes back."""

from __future__ import annotations

import math
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from evals.frames import reviews
from hypothesis import given, settings
from hypothesis import strategies as st

import dobatch_pandas as dobatch
from dobatch_pandas.errors import InputError
from dobatch_pandas.evals import compare, explore, score, view


@pytest.fixture
def explorer():
    made = explore(reviews(), predicted="a", actual="gold", compare_to="b")
    yield made
    made.close()


def ask(explorer, **filters):
    return explorer._view.page({"filters": filters, "limit": 1_000})


def positions(page):
    return [line["position"] for line in page["rows"]]


def test_a_cell_of_the_matrix_gives_exactly_its_rows(explorer):
    """
    Each cell's number is the number of rows that choosing it shows, and they are the right ones.
    """
    frame = reviews()
    classes = explorer._view.config()["classes"]
    confusion = ask(explorer)["confusion"]
    expected = score(frame, "a", "gold").confusion
    np.testing.assert_array_equal(confusion, expected.to_numpy())
    for truth, gold in enumerate(classes):
        for guess, answer in enumerate([*classes, None]):
            page = ask(explorer, cell=[truth, guess])
            same = frame["a"].isna() if answer is None else frame["a"] == answer
            assert positions(page) == np.flatnonzero((frame["gold"] == gold) & same).tolist()
            assert page["total"] == confusion[truth][guess]


def test_filters_meet(explorer):
    """
    Search, outcome, error, slice and change hold at once; search knows no case.
    """
    frame = reviews()
    config = explorer._view.config()
    page = ask(
        explorer,
        search="ÜNDER",
        outcomes=["wrong", "failed"],
        slices={"0": config["slices"][0]["values"].index("en")},
    )
    expected = (
        frame["text"].str.contains("Ünder") & (frame["a"] != frame["gold"]) & (frame["lang"] == "en")
    ).to_numpy()
    assert positions(page) == np.flatnonzero(expected).tolist()
    assert positions(ask(explorer, error="length")) == np.flatnonzero(frame["a_error"] == "length").tolist()
    won = ((frame["b"] == frame["gold"]) & (frame["a"] != frame["gold"])).to_numpy()
    assert positions(ask(explorer, change="win")) == np.flatnonzero(won).tolist()


def test_counts_ignore_their_own_filter(explorer):
    """
    Having chosen "wrong" I still see how many are right, among what the other filters let through.
    """
    alone = ask(explorer, search="good")
    chosen = ask(explorer, search="good", outcomes=["wrong"])
    assert chosen["outcomes_count"] == alone["outcomes_count"]
    assert chosen["total"] == alone["outcomes_count"]["wrong"]
    assert sum(map(sum, chosen["confusion"])) == chosen["total"]


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_puts_missing_values_last_and_keeps_ties_in_order(explorer, descending):
    """
    Sorting is stable and null values come last in both directions.
    """
    frame = reviews()
    names = [column["name"] for column in explorer._view.config()["columns"]]
    page = explorer._view.page(
        {"limit": 1_000, "sort": {"column": names.index("a"), "descending": descending}}
    )
    expected = frame.reset_index(drop=True)["a"].sort_values(
        ascending=not descending, kind="stable", na_position="last"
    )
    assert positions(page) == expected.index.tolist()


def test_pages_cut_the_rows_without_loss(explorer):
    """
    Page after page, every row comes once; an offset beyond the end gives the last page.
    """
    seen = []
    for offset in range(0, 300, 90):
        seen += positions(explorer._view.page({"offset": offset, "limit": 90}))
    assert seen == list(range(300))
    assert explorer._view.page({"offset": 10_000, "limit": 90})["offset"] == 270


def test_marks_and_notes_come_back_on_the_frames_index(explorer):
    """
    What I mark and note has my index, and fits back onto the whole frame even where labels repeat.
    """
    frame = reviews()
    view_ = explorer._view
    view_.mark(3, marked=True, note="look")
    view_.mark(255, note="odd")
    view_.mark(7, marked=True)
    view_.mark(7, marked=False)
    assert explorer.selection.index.tolist() == ["r3"]
    assert explorer.selection["note"].tolist() == ["look"]
    assert explorer.selection.drop(columns="note").equals(frame.iloc[[3]])
    assert explorer.notes.index.tolist() == ["r3", "r5"]
    assert explorer.notes["note"].tolist() == ["look", "odd"]
    whole = explorer.to_frame()
    assert whole.index.equals(frame.index)
    assert np.flatnonzero(whole["marked"]).tolist() == [3]
    assert np.flatnonzero(whole["note"].notna()).tolist() == [3, 255]
    assert positions(ask(explorer, marked=True)) == [3]
    view_.mark(255, note="")
    assert explorer.notes["note"].tolist() == ["look"]


def test_messages_are_answered_and_problems_shown(explorer):
    """
    The front end gets answers under its own numbers; a broken message is told, not lost.
    """
    sent = []
    explorer.widget.send = lambda content, buffers=None: sent.append(content)
    explorer._answer(None, {"kind": "query", "id": "v/1", "filters": {"outcomes": ["failed"]}, "limit": 5})
    explorer._answer(None, {"kind": "row", "id": "v/row/1", "position": 2})
    explorer._answer(None, {"kind": "mark", "id": "v/mark", "position": 2, "marked": True})
    explorer._answer(None, {"kind": "row", "id": "v/row/2", "position": 10_000})
    page, row, mark, problem = sent
    assert (page["kind"], page["id"]) == ("page", "v/1")
    assert page["total"] == reviews()["a"].isna().sum()
    assert row["sections"][0] == {"title": "Gold (gold)", "text": reviews()["gold"].iloc[2]}
    assert (mark["marked"], mark["count"]) == (True, 1)
    assert problem["kind"] == "problem"
    assert explorer.widget.touched
    assert len(explorer.shown) == page["total"]


def test_a_row_in_full_has_prompt_tokens_and_the_difference_of_two_answers():
    """
    One row shows what was sent, what came, what it cost, and how the two runs differ.
    """
    frame = pd.DataFrame({"q": ["Why?"], "a": ["because it is so"], "b": ["because it was so"], "g": ["so"]})
    responses = pd.DataFrame(
        {"prompt_tokens": [12], "error_message": [None], "text": ["raw"], "status": ["succeeded"]}
    )
    made = explore(
        frame, predicted="a", actual="g", compare_to="b", responses=responses, prompt=lambda n: f"Q{n}: Why?"
    )
    row = made._view.row(0)
    made.close()
    assert {part["title"]: part["text"] for part in row["sections"]} == {
        "Gold (g)": "so", "Answer (a)": "because it is so",
        "Other answer (b)": "because it was so", "Error message": None, "Answer as received": "raw",
    }  # fmt: skip
    assert row["messages"] == [["user", "Q0: Why?"]]
    assert ["prompt_tokens", "12"] in row["fields"]
    assert row["diff"] == [["=", "because it "], ["-", "is"], ["+", "was"], ["=", " so"]]


@given(st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=80, deadline=None)
def test_a_difference_holds_both_texts(first, second):
    """
    What stays and goes is the first text, what stays and comes is the second.
    """
    pieces = view.diff(first, second)
    assert "".join(text for kind, text in pieces if kind != "+") == first
    assert "".join(text for kind, text in pieces if kind != "-") == second


def test_a_frame_alone_can_be_explored():
    """
    No gold, no answers: any frame is a table to search, lists and all.
    """
    frame = pd.DataFrame({"n": [1, 2], "things": [[1], [2, 3]], "when": pd.to_datetime(["2026-01-01", None])})
    made = explore(frame)
    page = made._view.page({"filters": {"search": "2, 3"}, "sort": {"column": 1}})
    made.close()
    assert positions(page) == [1]
    assert made._view.row(1)["fields"]


def test_an_empty_frame_is_an_empty_table():
    """
    Nothing to show is shown.
    """
    made = explore(
        pd.DataFrame({"a": pd.Series(dtype=object), "g": pd.Series(dtype=object)}), predicted="a", actual="g"
    )
    assert made.widget.page["total"] == 0
    assert made.selection.empty
    made.close()


def test_evaluations_and_comparisons_can_be_explored():
    """
    What I have scored or compared already is explored as it is.
    """
    frame = reviews().reset_index(drop=True)
    a, b = score(frame, "a", "gold"), score(frame, "b", "gold")
    one, two = explore(a), explore(compare(a, b))
    assert one._view.config()["changes"] == []
    assert set(two._view.config()["changes"]) == {"win", "loss", "other answer", "same"}
    assert "accuracy" in one.widget.config["summary"]
    with pytest.raises(InputError, match="same rows"):
        explore(a, compare_to=score(frame.iloc[1:], "b", "gold"))
    one.close()
    two.close()
    turned = explore(a, compare_to=score(frame.iloc[::-1], "b", "gold"))
    assert turned._view.page({"limit": 300}) == two._view.page({"limit": 300})
    turned.close()


def test_many_classes_become_few():
    """
    A matrix of a hundred classes keeps the largest and puts the rest together; no row is lost.
    """
    gold = [f"c{n % 100:02}" for n in range(1_000)]
    made = explore(pd.DataFrame({"p": gold, "g": gold}), predicted="p", actual="g", kind="labels")
    config, page = made._view.config(), made.widget.page
    made.close()
    assert len(config["classes"]) == 14
    assert config["classes"][-1] == "(other classes)"
    assert sum(map(sum, page["confusion"])) == 1_000


def test_every_problem_is_told_at_once():
    """
    Wrong columns and a prompt of another length come in one error.
    """
    with pytest.raises(InputError) as caught:
        explore(reviews(), predicted="x", columns=["y"], prompt=pd.Series(["one"]))
    assert len(caught.value.problems) == 3


def test_the_picture_for_a_saved_notebook_is_small_and_escaped(monkeypatch):
    """
    What stays in the notebook shows numbers and first rows, as text, in a few kilobytes.
    """
    frame = pd.DataFrame(
        {"p": ["<script>alert(1)</script>"] * 60, "g": ["<img src=x onerror=alert(1)>"] * 60}
    )
    made = explore(frame, predicted="p", actual="g", kind="labels")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    made._ipython_display_()
    made.close()
    widget, bundle = shown[:2]
    assert widget["text/html"] == ""
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert "<script" not in bundle["text/html"]
    assert "<img" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert len(bundle["text/html"]) < 40_000


def test_a_note_made_while_the_explorer_is_being_shown_is_in_its_picture(explorer, monkeypatch):
    """
    Front ends with subshells bring clicks in another thread while the cell still runs: the last picture has the note.
    """
    published, clicks = [], []

    def publish(data, display_id, update=False, **_options):
        published.append((display_id, update, data.get("text/html", "")))
        if len(published) == 1:
            message = {"kind": "mark", "position": 0, "note": "look again"}
            clicks.append(threading.Thread(target=explorer._answer, args=(None, message)))
            clicks[0].start()
            # Without the lock the answer comes now, for a picture that is not there yet.
            clicks[0].join(0.2)

    monkeypatch.setattr(explorer, "_publish", publish)
    explorer._ipython_display_()
    clicks[0].join()
    pictures = [(update, html) for display_id, update, html in published if display_id.endswith("-picture")]
    assert pictures[0][0] is False
    assert "look again" in pictures[-1][1]


def test_a_request_is_shown_as_messages():
    """
    What was sent is read as messages with their roles, its parameters in a line and the schema apart.
    """
    frame = pd.DataFrame({"q": ["Why?"], "a": ["so"]})
    body = {
        "custom_id": "abc", "model": "m-1", "temperature": 0, "stop": np.nan,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        ],
        "response_format": {"type": "json_schema"},
    }  # fmt: skip
    made = explore(frame, predicted="a", prompt=lambda n: body)
    row = made._view.row(0)
    assert row["messages"][0] == ["system", "Be brief."]
    assert row["messages"][1][0] == "user"
    assert row["messages"][1][1].startswith("Why?\n")
    assert row["parameters"] == "m-1 · temperature 0"
    assert "json_schema" in row["schema"]
    for said, messages in (
        ({"input": "x", "instructions": "i"}, [["system", "i"], ["user", "x"]]),
        ({"prompt": "p"}, [["user", "p"]]),
        ({"input": ["a", "b"]}, [["user", "a"], ["user", "b"]]),
        ({}, []),
    ):
        assert view.told(said)["messages"] == messages


def test_bars_in_a_head_count_and_filter():
    """
    A column of few values shows how many rows have each, and clicking one leaves those rows.
    """
    frame = reviews()
    made = explore(frame, predicted="a", actual="gold", columns=["lang", "tokens"])
    config = made._view.config()["columns"]
    places = {column["name"]: place for place, column in enumerate(config)}
    page = ask(made)
    lang, tokens = places["lang"], places["tokens"]
    counts = dict(zip(config[lang]["bars"], page["bars_count"][str(lang)], strict=True))
    assert counts == frame["lang"].value_counts().to_dict()
    assert sum(page["bars_count"][str(tokens)]) == len(frame)
    assert len(config[tokens]["bars"]) == 12
    found = ask(made, bars={str(lang): config[lang]["bars"].index("en"), str(tokens): 0})
    assert (
        positions(found)
        == np.flatnonzero(
            (frame["lang"] == "en")
            & (
                frame["tokens"]
                < frame["tokens"].quantile(0.01)
                + (frame["tokens"].quantile(0.99) - frame["tokens"].quantile(0.01)) / 12
            )
        ).tolist()
    )
    assert sum(found["bars_count"][str(lang)]) > found["total"]  # its own choices stay in sight


def test_people_label_rows_blind_and_agree():
    """
    Labels come back as a column a rater; the second starts without those of the first, and kappa is at the end.
    """
    frame = reviews(40)
    made = explore(frame, predicted="a", actual="gold", labels=["good", "bad"])
    made.widget.send = lambda content, buffers=None: None
    for position in range(20):
        made._answer(
            None,
            {"kind": "rate", "id": "x", "position": position, "label": "good" if position % 2 else "bad"},
        )
    assert made._view.row(3)["human"] == "good"
    made.rater = "second"
    assert made._view.row(3)["human"] is None
    for position in range(20):
        made._answer(
            None,
            {"kind": "rate", "id": "x", "position": position, "label": "good" if position % 4 else "bad"},
        )
    made._answer(None, {"kind": "rate", "id": "x", "position": 19, "label": "bad"})
    made._answer(None, {"kind": "undo", "id": "x"})
    assert made.labels.shape == (40, 2)
    assert made.labels.index.equals(frame.index)
    assert made.labels["second"].iloc[19] == "good"
    assert made.labels["1"].notna().sum() == 20
    found = made.agreement(resamples=50)
    assert found.pairs.loc[0, "rows"] == 20
    assert found.pairs.loc[0, "kappa"] == pytest.approx(0.5)
    with pytest.raises(InputError, match="two to nine"):
        explore(frame, labels=["only"])


def test_any_cell_content_can_be_explored():
    """
    Half surrogate pairs, bytes, a megabyte, nested values and right-to-left signs: each is shown and searched.
    """
    odd = [
        "cut \ud83d",
        b"\xffraw",
        "x" * 1_000_000,
        {"a": [1, None]},
        ["deep", ["er"]],
        "\u202egnirts",
        "nul \0",
        None,
        7,
    ]
    frame = pd.DataFrame({"text": pd.Series(odd, dtype=object), "p": "a", "g": "a"})
    made = explore(frame, predicted="p", actual="g", columns=["text"])
    page = ask(made)
    assert page["total"] == len(odd)
    assert all(len(cell or "") < 200 for line in page["rows"] for cell in line["cells"])
    assert positions(ask(made, search="deep")) == [4]
    assert positions(ask(made, search="cut")) == [0]
    for position in range(len(odd)):
        made._view.row(position)
    assert made._picture().encode()


def test_what_each_row_took_can_be_read_sorted_and_filtered(serve):
    """
    Tokens and cost of a job's rows are columns with bars in their heads, and a line of the row that is read.
    """
    serve()
    frame = pd.DataFrame({"text": [f"row {'word ' * n}{n}" for n in range(40)]})
    job = frame.dobatch.submit("Say it: {text}", model="gpt-4.1-mini", into="said")
    frame.dobatch.update(job)
    explorer = frame.dobatch.explore(job, predicted="said")
    names = [column["name"] for column in explorer._view.config()["columns"]]
    tokens, cost = names.index("tokens"), names.index("cost")
    total = job.responses()[["prompt_tokens", "completion_tokens"]].sum(axis=1)
    page = explorer._view.page({"sort": {"column": cost, "descending": True}})
    assert page["rows"][0]["position"] == int(total.to_numpy().argmax())
    assert page["rows"][0]["cells"][tokens] == f"{total.max():,}"
    assert page["rows"][0]["cells"][cost].startswith("$0.0000")
    assert sum(page["bars_count"][str(cost)]) == 40
    costs = explorer._view.columns[cost].values
    assert float(costs.sum()) == pytest.approx(job.usage().cost)
    first = job.responses().iloc[3]
    assert explorer._view.row(3)["spent"] == (
        f"{first.prompt_tokens:,} tokens in, {first.completion_tokens:,} out · {page_cost(costs[3])}"
    )


def page_cost(amount):
    digits = 1 - math.floor(math.log10(amount))
    return f"${amount:.{digits}f}"


def test_a_model_without_a_price_has_tokens_and_no_cost(serve):
    """
    No cost is made up for a model that no list knows.
    """
    serve()
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(3)]})
    job = frame.dobatch.submit("{text}", model="mine", into="said")
    frame.dobatch.update(job)
    view = frame.dobatch.explore(job)._view
    names = [column["name"] for column in view.config()["columns"]]
    assert "tokens" in names
    assert "cost" not in names
    assert "$" not in view.row(0)["spent"]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("kind", ["template", "series", "function"])
def test_a_row_is_read_with_its_own_answer_and_question(serve, kind, attached):
    """
    The frame was sorted or filtered since: what was asked of a row, and what came back for it, are those of that row.
    """
    server = serve()
    frame = pd.DataFrame({"text": list("abcd")})
    prompts = {
        "template": "Say {text}",
        "series": "Say " + frame["text"],
        "function": lambda row: f"Say {row.text}",
    }
    job = frame.dobatch.submit(prompts[kind], model="gpt-4.1-mini", into="said", samples=2)
    frame.dobatch.update(job)
    job = dobatch.attach(job.id) if attached else job
    for now in (frame, frame.iloc[::-1].reset_index(drop=True), frame.iloc[[2, 0]]):
        view = now.dobatch.explore(job, predicted="said")._view
        for position, text in enumerate(now["text"]):
            row = view.row(position)
            assert ("Answer as received", f"Say {text}") in [
                (one["title"], one["text"]) for one in row["sections"]
            ]
            assert f"Say {text}" in str(row["messages"])
    assert sum(server.executed.values()) == 8


@pytest.mark.parametrize("given", ["responses", "prompt"])
def test_what_is_given_beside_goes_to_the_labels_that_it_has(given: str) -> None:
    """
    Responses and prompts belong to the frame as it was submitted: sorted since, it has them by its labels, or not at all.
    """
    frame = pd.DataFrame({"text": list("abc")})
    responses = pd.DataFrame({"text": list("ABC"), "error_message": list("xyz")})
    beside = {given: responses if given == "responses" else responses["text"]}
    view = explore(frame.iloc[::-1], **beside)._view
    rows = [view.row(n) for n in range(3)]
    shown = [row["sections"][-1]["text"] if given == "responses" else row["messages"][0][1] for row in rows]
    assert shown == ["C", "B", "A"]
    for labels in ([5, 6, 7], [0, 0, 1]):
        with pytest.raises(InputError, match=f"{given}= has other labels than the frame"):
            explore(frame.set_axis(labels), **beside)


def test_columns_of_one_name_are_told() -> None:
    """
    A frame after a merge or a concat has two columns of one name: which, and what to do, instead of a pandas error.
    """
    frame = pd.DataFrame(
        [["a", "x", "x", "t"], ["b", "y", "x", "t"]], columns=["text", "label", "told", "text"]
    )
    with pytest.raises(InputError, match="Several columns have one name: 'text'"):
        explore(frame, predicted="told", actual="label")
    with pytest.raises(InputError, match="The columns are: none at all"):
        explore(pd.DataFrame(index=[1, 2]), predicted="told")


ODD_NAMES = {
    "missing": [0, None, pd.NaT, (1, 2)],
    "two levels": pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", ""), ("b", "z")]),
}


@pytest.mark.parametrize("kind", list(ODD_NAMES))
def test_columns_of_any_name_are_shown_and_noted(kind):
    """
    A name that is missing, a tuple, or of several levels: the rows are shown, and notes come back as columns.
    """
    frame = pd.DataFrame([["p", "q", "r", "s"], ["t", "u", "v", "w"]])
    frame.columns = ODD_NAMES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explorer = explore(frame)
        explorer._view.mark(1, note="look")
        assert explorer.notes["note"].tolist() == ["look"]
        assert explorer.notes.index.tolist() == [1]
        assert explorer.to_frame().shape == (2, 6)
        assert explorer.selection.shape == (0, 5)
