"""Pictures and reports: right numbers on the axes, one file, nothing from the network, all escaped."""

from __future__ import annotations

import itertools
import re
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from browser import window
from evals.frames import reviews

from dobatch_pandas.errors import InputError, MissingExtra
from dobatch_pandas.evals import compare, score

mpl.use("Agg")
from matplotlib import pyplot as plt

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


def frame() -> pd.DataFrame:
    return reviews().reset_index(drop=True)


def test_the_confusion_matrix_shows_its_counts():
    """
    Every count of the matrix is on the picture, with the classes on both axes.
    """
    found = score(frame(), "a", "gold")
    axes = found.plot()
    written = [text.get_text() for text in axes.texts]
    assert written == [f"{count:,}" for count in found.confusion.to_numpy().ravel()]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["neg", "neutral", "pos", "(failed)"]
    shares = found.plot("confusion", normalise=True)
    assert shares.texts[0].get_text().endswith("%")


@pytest.mark.parametrize(
    "classes",
    [
        ["a label of forty signs, and a few more of them"],
        [
            "a label of forty signs, and a few more of them",
            "another one, quite as long as the first",
            "short",
        ],
        ["$x^2$", r"_a_ *b* \frac{1}{2}", "costs $5 to $6"],
        [f"class number {place}" for place in range(12)],
    ],
)
def test_long_labels_leave_room_for_the_matrix(classes):
    """
    Names of classes do not run into one another, the title is not cut off, and the squares keep their size.
    """
    gold = pd.Series(classes * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = score(pd.DataFrame({"p": gold, "g": gold}), "p", "g", kind="labels").plot()
        figure = axes.figure
        figure.draw_without_rendering()
    inches = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert inches.width >= 0.4 * len(classes)
    assert axes._left_title.get_window_extent().x1 <= figure.bbox.x1
    names = axes.get_xticklabels()
    if not names[0].get_rotation():
        ends = [name.get_window_extent() for name in names]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(ends))


def test_slices_are_drawn_with_their_intervals():
    """
    One mark a slice, and the overall accuracy as a line.
    """
    found = score(frame(), "a", "gold", by="lang")
    axes = found.plot("slices")
    drawn = {round(float(line.get_xdata()[0]), 12) for line in axes.lines}
    assert {round(value, 12) for value in found.slices["accuracy"]} <= drawn
    assert round(found.accuracy, 12) in drawn


def test_score_distributions_are_drawn_for_texts_and_numbers():
    """
    A histogram holds every answered row.
    """
    numbers = pd.DataFrame({"p": np.arange(20.0), "g": np.arange(20.0) + np.tile([0, 1], 10)})
    axes = score(numbers, "p", "g", tolerance=0.5).plot()
    assert sum(bar.get_height() for container in axes.containers for bar in container) == 20
    texts = pd.DataFrame({"p": ["a b", "c"], "g": ["a", "c"]})
    axes = score(texts, "p", "g", match="token_f1").plot("scores")
    assert sum(bar.get_height() for container in axes.containers for bar in container) == 2


def test_two_runs_are_drawn_against_each_other():
    """
    The difference stands in points with its interval, and the noise as a band.
    """
    data = frame()
    found = compare(score(data, "a", "gold"), score(data, "b", "gold"), noise=0.05)
    axes = found.plot()
    difference = found.table["difference"].iloc[1]
    assert any(np.isclose(np.asarray(line.get_xdata(), float), difference).any() for line in axes.lines)
    assert "percentage points" in axes.get_xlabel()
    assert [text.get_text().strip() for text in axes.texts] == ["noise"]


def test_a_picture_can_be_drawn_on_axes_of_mine():
    """
    With ax= nothing new is made, so pictures can stand side by side.
    """
    figure, (left, right) = plt.subplots(1, 2)
    found = score(frame(), "a", "gold", by="lang")
    assert found.plot("confusion", ax=left) is left
    assert found.plot("slices", ax=right) is right
    assert plt.get_fignums() == [figure.number]


def test_a_picture_that_there_is_not_is_an_error():
    """
    Asking for slices without by= says what to do.
    """
    found = score(frame(), "a", "gold")
    with pytest.raises(InputError, match="by="):
        found.plot("slices")
    with pytest.raises(InputError, match="is not one of"):
        found.plot("cake")


def test_awkward_evaluations_can_be_drawn():
    """
    Nothing answered, one class, or nothing at all still gives a picture.
    """
    for data in ({"p": [None, None], "g": ["a", "b"]}, {"p": ["a"], "g": ["a"]}, {"p": [], "g": []}):
        found = score(pd.DataFrame(data, dtype=object), "p", "g", kind="labels")
        found.plot("confusion")
        found.plot("scores")
        assert found._repr_html_()
    names = pd.DataFrame({"p": [f"${n}$ {EVIL}" for n in range(60)]})
    score(names.assign(g=names["p"]), "p", "g", kind="labels").plot().get_figure().canvas.draw()


@pytest.mark.parametrize("numbers", [[2**64, 2**64 + 2**14], [2**70], [0.5, 0.5], [1e-15, 2e-15, 9e-15]])
def test_how_far_large_and_small_numbers_are_off_is_drawn(numbers):
    """
    Where they are so large that nothing lies between two of them, and where they are very small.
    """
    found = score(pd.DataFrame({"p": pd.Series(numbers, dtype=object), "g": 0.0}), "p", "g")
    ax = found.plot("scores")
    assert sum(bar.get_height() for bar in ax.patches) == len(numbers)


def test_control_characters_are_drawn_without_a_word():
    """
    No font has them, and nobody could install one that does.
    """
    names = pd.DataFrame({"p": ["nul \0", "escape \x1b", "next \x85 line"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(
            names.assign(g=names["p"]), "p", "g", kind="labels", name="a\0b"
        ).plot().get_figure().canvas.draw()


def test_a_report_is_one_file_that_loads_nothing(tmp_path):
    """
    The report holds numbers, pictures and rows, and needs neither script nor network.
    """
    data = frame()
    a, b = score(data, "a", "gold", by="lang"), score(data, "b", "gold")
    for made, name in ((a, "a.html"), (compare(a, b, by="lang"), "comparison.html")):
        path = made.to_html(tmp_path / name)
        html = path.read_text(encoding="utf-8")
        assert "data:image/png;base64," in html
        assert "default-src 'none'" in html
        assert not re.search(r"<script|https?://|@import|<link", html)
    assert f"{a.accuracy:.1%}" in (tmp_path / "a.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "comparison.html"]
    assert plt.get_fignums() == []


def test_what_models_wrote_is_escaped_everywhere(tmp_path):
    """
    Scripts in answers, column names, labels, slices and names of runs are text in cell and report.
    """
    data = pd.DataFrame(
        {EVIL: [EVIL, "x", None], "g": [EVIL, EVIL, "x"], "s": [EVIL] * 3}, index=[EVIL, "b", "c"]
    )
    data[f"{EVIL}_error"] = [None, None, EVIL]
    a = score(data, EVIL, "g", kind="labels", by="s")
    b = score(data.assign(y="x"), "y", "g", kind="labels", name=EVIL + "2")
    found = compare(a, b, by="s")
    pages = [a._repr_html_(), found._repr_html_()]
    pages += [made.to_html(tmp_path / "r.html").read_text() for made in (a, found)]
    for html in pages:
        assert "<script" not in html
        assert not re.search(r"<img(?! alt=)", html)
        assert "&lt;script&gt;" in html


def test_a_report_in_a_browser_runs_nothing_and_asks_nothing(chromium, tmp_path):
    """
    Opened in a browser, the report asks for no file and runs nothing of what models wrote.
    """
    data = pd.DataFrame({"a": [EVIL, "x"], "g": [EVIL, EVIL]})
    path = score(data, "a", "g", kind="labels").to_html(tmp_path / "r.html")
    page = window(chromium)
    asked, told = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    assert page.locator("h1").inner_text() == "a against g"
    assert page.locator("img").evaluate_all("(all) => all.every((image) => image.naturalWidth > 100)")
    page.context.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert told == []


def test_texts_of_a_report_have_the_room_to_be_read(chromium, tmp_path):
    """
    On a page of 1,000 pixels a text beside long labels, and beside a number with a very long name, has some six words a line.
    """
    labels = ["a label of some thirty letters", "another one of thirty letters"]
    data = pd.DataFrame({"a": labels * 10, "g": labels[::-1] * 10})
    data["text"] = "words that somebody wants to read in a report " * 8
    data["a name of a column that never ends, and goes on and on"] = 0.5
    page = window(chromium, viewport={"width": 1000, "height": 800})
    page.goto(score(data, "a", "g").to_html(tmp_path / "r.html").as_uri())
    texts = page.locator("table.rows td", has_text="somebody")
    assert texts.first.evaluate("(cell) => cell.getBoundingClientRect().width") > 300
    assert page.locator("table.rows").evaluate(
        "(table) => table.scrollWidth <= table.parentElement.clientWidth"
    )
    page.context.close()


def test_a_report_whose_style_sheet_is_dropped_stays_on_a_narrow_page(chromium):
    """
    A notebook that is not trusted shows a report without its style sheet: wide tables scroll, and not the page.
    """
    data = frame().assign(lang=lambda d: d["lang"] + " of which the name is a long one, " * 2)
    shown = re.sub(r"<style>.*?</style>", "", score(data, "a", "gold", by="lang")._repr_html_(), flags=re.S)
    page = window(chromium, viewport={"width": 390, "height": 844})
    page.set_content(shown.replace("<th", "<th style='white-space:nowrap'"))
    assert page.locator("table").count() > 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_a_missing_library_names_the_extra(monkeypatch):
    """
    Without scikit-learn and its kin I am told what to install.
    """
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match=r'pip install "dobatch-pandas\[eval\]"'):
        score(frame(), "a", "gold")


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_no_title_is_cut_off(classes):
    """
    However small a picture is, the line above it is broken where it ends.
    """
    gold = [f"c{n % classes}" for n in range(classes * 20)]
    data = pd.DataFrame({"a": gold[1:] + gold[:1], "g": gold})
    axes = score(data, "a", "g", kind="labels", name="gpt-4.1-mini with ten examples").plot("confusion")
    axes.figure.draw_without_rendering()
    title = axes._left_title.get_window_extent()
    assert title.x1 <= axes.figure.bbox.x1
    assert title.y1 <= axes.figure.bbox.y1 + 1
    assert "n = " in " ".join(axes.get_title(loc="left").split())


def test_signs_without_a_font_are_said_and_not_drawn_as_boxes(monkeypatch):
    """
    Where no font has Chinese, classes are still told apart, and I am told what to install.
    """
    from matplotlib import font_manager

    from dobatch_pandas.evals import plots

    latin = [font for font in font_manager.fontManager.ttflist if "DejaVu" in font.name]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", latin)
    for cached in (plots._fonts, plots._signs):
        cached.cache_clear()
    try:
        gold = ["积极的评论", "消极的评论", "плохо", "مرحبا"] * 6
        found = score(pd.DataFrame({"a": gold, "g": gold}), "a", "g", name="評価")
        with pytest.warns(UserWarning, match="fonts-noto-cjk"):
            axes = found.plot("confusion")
        names = [tick.get_text() for tick in axes.get_xticklabels()]
        assert len(set(names)) == 4
        assert {"плохо", "مرحبا"} <= set(names)
        assert all("积" not in name for name in names)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            axes.figure.canvas.draw()
    finally:
        for cached in (plots._fonts, plots._signs):
            cached.cache_clear()
