"""The explorer in Chromium: all by mouse and by keyboard, and nothing in the data runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evals.frames import reviews

from dobatch_pandas.evals import explore

pytestmark = pytest.mark.browser


@pytest.fixture
def shown(show):
    return show(explore(reviews(), predicted="a", actual="gold", compare_to="b"))


def test_clicking_a_cell_shows_exactly_its_rows(shown):
    """
    A click on "gold pos, answer neg" leaves those rows and no other; a second click brings all back.
    """
    frame = reviews()
    classes = ["neg", "neutral", "pos"]
    rows = frame[(frame["gold"] == "pos") & (frame["a"] == "neg")]
    cell = shown.page.locator(f'[data-cell="{classes.index("pos")},{classes.index("neg")}"]')
    assert cell.inner_text() == str(len(rows))
    cell.click()
    shown.wait_for_status(f"of {len(rows)} rows (300 in all)")
    assert shown.labels() == rows.index.tolist()
    cell = shown.page.locator('[data-cell="2,0"]')
    assert cell.get_attribute("aria-pressed") == "true"
    cell.click()
    shown.wait_for_status("of 300 rows")


def test_search_and_chips_and_selects_narrow_the_rows(shown):
    """
    Typing, choosing an outcome and an error code meet; Reset brings every row back.
    """
    frame = reviews()
    shown.page.get_by_label("Search the rows").fill("ending")
    found = frame["text"].str.contains("ending").to_numpy()
    shown.wait_for_status(f"of {found.sum()} rows")
    shown.page.locator('[data-outcome="failed"]').click()
    failed = found & frame["a"].isna().to_numpy()
    shown.wait_for_status(f"of {failed.sum()} rows")
    shown.page.get_by_label("error").select_option("length")
    some = failed & (frame["a_error"] == "length").to_numpy()
    shown.wait_for_status(f"of {some.sum()} rows")
    assert shown.labels() == frame.index[some].tolist()
    shown.page.get_by_role("button", name="Reset").click()
    shown.wait_for_status("of 300 rows")


def test_labels_of_the_index_can_be_told_apart(show):
    """
    Where rows are named by words, the column of the index is wide enough for them.
    """
    names = [f"customer {place:06}" for place in range(5)]
    page = show(explore(pd.DataFrame({"text": ["some words " * 20] * 5}, index=names))).page
    for name in names:
        label = page.locator("td.dx-label", has_text=name)
        assert label.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth")


def test_a_row_is_read_marked_and_noted(shown):
    """
    A click shows the row in full; its star and its note are in Python at once.
    """
    frame = reviews()
    shown.page.locator("tbody tr[role=row]").nth(4).click()
    detail = shown.page.get_by_label("The row in full")
    detail.get_by_text("Row r4").wait_for()
    assert frame["text"].iloc[4] in detail.inner_text()
    detail.get_by_role("button", name="mark").click()
    detail.get_by_role("button", name="★ marked").wait_for()
    detail.get_by_label("A note on this row").fill("ask again")
    detail.get_by_label("A note on this row").blur()
    shown.page.locator('tr[data-position="4"] button[aria-pressed="true"]').wait_for()
    shown.page.wait_for_function("() => document.querySelector('.chip.marked .count').textContent === '1'")
    assert shown.explorer.selection.index.tolist() == ["r4"]
    shown.until(lambda: shown.explorer.notes["note"].tolist() == ["ask again"])


def test_everything_can_be_done_with_the_keyboard(shown):
    """
    Arrows move through rows and pages, Space marks, Enter goes to the row in full, Escape comes back.
    """
    page = shown.page
    page.locator('tbody tr[tabindex="0"]').focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.locator('tr[data-position="2"][aria-selected="true"]').wait_for()
    page.keyboard.press("Space")
    page.locator('tr[data-position="2"] button[aria-pressed="true"]').wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "detail"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.position") == "2"
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    shown.wait_for_status("101–200 of 300")
    assert page.evaluate("document.activeElement.dataset.position") == "100"
    page.keyboard.press("ArrowUp")
    shown.wait_for_status("1–100 of 300")
    assert page.evaluate("document.activeElement.dataset.position") == "99"
    assert shown.explorer.selection.index.tolist() == ["r2"]


def test_the_matrix_is_one_stop_of_the_tab_key_and_moves_by_arrows(shown):
    """
    Tab reaches the matrix once; arrows move inside it and Enter chooses the cell.
    """
    page = shown.page
    assert page.locator(".matrix button[tabindex='0']").count() == 1
    page.locator('[data-cell="0,0"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "1,1"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "gold neutral, answer neutral"
    )
    page.keyboard.press("Enter")
    page.locator('[data-cell="1,1"][aria-pressed="true"]').wait_for()
    assert page.evaluate("document.activeElement.dataset.cell") == "1,1"


def test_a_click_on_a_heading_sorts(shown):
    """
    Once up, once down, once back; the heading says so to a screen reader.
    """
    frame = reviews()
    heading = shown.page.get_by_role("columnheader", name="text")
    heading.get_by_role("button").click()
    shown.page.locator('th[aria-sort="ascending"]').wait_for()
    texts = frame["text"].reset_index(drop=True).sort_values(kind="stable")
    first = shown.page.locator("tbody tr[role=row]").first
    assert first.get_attribute("data-position") == str(texts.index[0])
    heading.get_by_role("button").click()
    shown.page.locator('th[aria-sort="descending"]').wait_for()
    assert first.get_attribute("data-position") == str(texts.index[-1])


EVIL = "<script>window.bitten = 1</script><img src=x onerror='window.bitten = 1'>"


def test_nothing_in_the_data_runs_or_becomes_html(show):
    """
    Scripts and images in answers, gold, column names, labels, errors and prompts stay text.
    """
    frame = pd.DataFrame(
        {
            "a": [EVIL, "x", None], "g": [EVIL, EVIL, "x"], "a_error": [None, None, EVIL],
            EVIL: [EVIL, "b", EVIL], "b": ["x " + EVIL, EVIL, "x"], "slice": [EVIL, EVIL, "y"],
        },
        index=[EVIL, "'\"><b>", "z"],
    )  # fmt: skip
    shown = show(
        explore(frame, predicted="a", actual="g", kind="labels", compare_to="b", prompt=EVIL, by="slice")
    )
    for row in range(3):
        shown.page.locator("tbody tr[role=row]").nth(row).click()
        shown.page.locator(f'tr[data-position="{row}"][aria-selected="true"]').wait_for()
        shown.page.locator(".detail h3").wait_for()
    shown.page.locator('[data-cell="0,0"]').click()
    shown.wait_for_status("of 1 rows")
    assert shown.page.evaluate("window.bitten") is None
    inside = ".dobatch-explorer :is(script, img, b, iframe)"
    assert shown.page.locator(inside).count() == 0
    assert EVIL in shown.page.locator(".detail").inner_text()


def test_labels_and_roles_are_there_for_screen_readers(shown):
    """
    Every control has a name, and the table says how many rows and columns it has.
    """
    page = shown.page
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim())).length"
    )
    assert nameless == 0
    assert page.get_by_role("grid", name="Matching rows").get_attribute("aria-rowcount") == "301"
    assert page.locator("[role=grid].rows tbody tr[tabindex='0']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(show, scheme):
    """
    Outside of JupyterLab the colours follow the system's scheme, with enough contrast.
    """
    shown = show(explore(reviews(), predicted="a", actual="gold"), color_scheme=scheme)
    shown.page.evaluate("document.documentElement.style.colorScheme = 'light dark'")
    colours = shown.page.evaluate(
        "['color', 'backgroundColor'].map("
        "(name) => getComputedStyle(document.querySelector('.dobatch-explorer'))[name])"
    )
    light = [sum(int(part) for part in colour[4:-1].split(",")[:3]) / 765 for colour in colours]
    assert abs(light[0] - light[1]) > 0.7
    assert (light[1] > 0.5) == (scheme == "light")


def test_a_narrow_cell_puts_the_parts_below_each_other(show):
    """
    On a narrow screen table and row in full stand below each other, and nothing sticks out.
    """
    shown = show(explore(reviews(), predicted="a", actual="gold"), viewport={"width": 480, "height": 800})
    table, detail = (shown.page.locator(name).bounding_box() for name in (".table", ".detail"))
    assert detail["y"] >= table["y"] + table["height"]
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 480


def test_fifty_thousand_rows_are_painted_and_filtered_in_time(show):
    """
    50,000 rows: the first paint and a filter are far from noticeable in the page itself.
    """
    frame = pd.concat([reviews(5_000, seed) for seed in range(10)], ignore_index=True)
    shown = show(explore(frame, predicted="a", actual="gold"))
    # Bounds with room for a busy machine; the documentation has the figures.
    assert shown.page.evaluate("window.painted") < 120_000
    took = shown.page.evaluate(
        """async () => {
          const root = document.querySelector(".dobatch-explorer"), times = [];
          for (const cell of ["0,1", "0,2", "1,0", "1,2", "2,0"]) {
            const before = root.dataset.page, started = performance.now();
            document.querySelector(`[data-cell="${cell}"]`).click();
            while (root.dataset.page === before) await new Promise((next) => setTimeout(next, 1));
            times.push(performance.now() - started);
          }
          return times;
        }"""
    )
    print("cell clicks, ms:", np.round(took, 1).tolist())
    assert sorted(took)[2] < 120_000


def test_labels_are_given_by_keyboard(show):
    """
    1 and 2 label the row and go on to the next, u takes the last one back, and none of it while I type.
    """
    made = explore(reviews(30), predicted="a", actual="gold", labels=["good", "bad"])
    shown = show(made)
    page = shown.page
    page.locator("table.rows tbody tr").first.click()
    for key in "121":
        page.keyboard.press(key)
    page.get_by_text("3 labelled").wait_for()
    assert made.labels["1"].iloc[:4].tolist()[:3] == ["good", "bad", "good"]
    page.keyboard.press("u")
    page.get_by_text("2 labelled").wait_for()
    assert made.labels["1"].notna().sum() == 2
    assert page.locator("td.human").first.inner_text() == "good"
    page.get_by_label("A note on this row").fill("12")
    page.get_by_label("Search the rows").fill("1")
    shown.wait_for_status("of 12 rows (30 in all)")
    assert made.labels["1"].notna().sum() == 2


def test_a_bar_in_the_head_filters(show):
    """
    Clicking a value's bar leaves its rows, and clicking it again brings all back.
    """
    made = explore(reviews(), predicted="a", actual="gold", columns=["lang"])
    shown = show(made)
    bar = shown.page.locator(".bars button[aria-label^='en:']")
    count = int(bar.get_attribute("aria-label").split(": ")[1])
    bar.click()
    shown.wait_for_status(f"of {count} rows (300 in all)")
    shown.page.locator(".bars button[aria-label^='en:']").click()
    shown.wait_for_status("of 300 rows")


def test_target_and_answer_stand_before_the_prompt(show):
    """
    The first row is open at once: verdict, target and answer on top, then the messages one by one.
    """
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "Why?"}],
    }
    shown = show(explore(reviews(), predicted="a", actual="gold", prompt=lambda n: body))
    detail = shown.page.locator(".detail")
    detail.get_by_text("Be <b>brief</b>.").wait_for()
    text = detail.inner_text()
    assert (
        text.index("Gold (gold)")
        < text.index("Answer (a)")
        < text.lower().index("system")
        < text.index("Why?")
    )
    assert "Parameters: m" in text


def test_the_row_in_full_is_one_of_the_table(show):
    """
    A filter that hides the open row opens the first that is left, one that keeps it leaves it open, and where none is left none is open.
    """
    made = explore(reviews(), predicted="a", actual="gold")
    shown = show(made)
    page, title = shown.page, shown.page.locator(".detail h3 span").first
    title.wait_for()
    outcomes = made._view._outcome
    first = outcomes.name(0)
    other = next(name for name in ("correct", "wrong") if name != first)
    page.locator(f".chip.{other}").click()
    page.locator(".detail h3 .dx-badge", has_text=other).wait_for()
    opened = title.inner_text()
    assert opened == f"Row {shown.labels()[0]}"
    page.locator(f".chip.{first}").click()
    shown.wait_for_status("1–100 of")
    page.locator("tbody tr[aria-selected='true']").wait_for()
    assert title.inner_text() == opened
    page.get_by_label("Search the rows").fill("no row says this")
    shown.wait_for_status("No row matches")
    page.locator(".detail .hint").get_by_text("Choose a row").wait_for()
    assert page.locator(".detail h3").count() == 0
    page.get_by_label("Search the rows").fill("")
    title.wait_for()
    assert title.inner_text() == f"Row {shown.labels()[0]}"


def test_a_second_rater_labels_blind_and_takes_back_only_what_is_theirs(show):
    """
    Another rater sees no label of the first, u takes back nothing of the first, and the first can still take back theirs.
    """
    made = explore(reviews(30), predicted="a", actual="gold", labels=["good", "bad"])
    shown = show(made)
    page = shown.page
    first_row = page.locator("table.rows tbody tr").first
    first_row.click()
    for key in "12":
        page.keyboard.press(key)
    page.get_by_text("2 labelled").wait_for()
    shown.rate_as("second")
    page.locator(".detail h3").wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('td.human')].every((cell) => cell.textContent === '')"
    )
    page.locator(".chooser [aria-pressed='true']").wait_for(state="detached")
    first_row.click()
    page.keyboard.press("u")
    for key in "22":
        page.keyboard.press(key)
    shown.until(lambda: made.labels["second"].notna().sum() == 2)
    found = made.agreement(resamples=50)
    assert found.pairs.loc[0, "rows"] == 2
    shown.rate_as("1")
    page.wait_for_function("document.querySelector('td.human').textContent === 'good'")
    page.locator("table.rows tbody tr").first.click()
    page.keyboard.press("u")
    page.get_by_text("1 labelled").wait_for()
    assert made.labels["1"].notna().sum() == 1
    assert made.labels["second"].tolist()[:2] == ["bad", "bad"]
