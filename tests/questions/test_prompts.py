"""Templates and values: what stands in a frame reads in the prompt as people would write it."""

from __future__ import annotations

import datetime
import decimal
import typing

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dobatch_pandas.endpoints.chat import CHAT
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.prompts import (
    MEMBERS,
    Column,
    Template,
    col,
    message_templates,
    messages_problem,
    places_of,
    plain,
    template,
)


def rendered(text: str, **values: object) -> str:
    return "".join(p if isinstance(p, str) else p.evaluate(values) for p in template(text).pieces)


@pytest.mark.parametrize(
    "text",
    [
        "{review:.5}",
        "{price:.2f}",
        "{price:>10,.1f}|{price:<8}|",
        "{day:%Y-%m-%d}",
        "{review!r}",
        "{review!s:>20}",
        "{made[key]}",
        "{made[list][1]}",
        "{day.year}",
        "{{literal}} {review} {{}}",
        "{price:{width}.{places}f}",
        "no field at all",
        "",
    ],
)
def test_a_template_knows_what_str_format_knows(text):
    """
    Specs, conversions, keys, attributes, nested specs and doubled braces do what they do in Python.
    """
    values = {
        "review": "Good {book}\n",
        "price": 1234.567,
        "day": datetime.datetime(2026, 1, 2, 3, 4),
        "made": {"key": "v", "list": [1, 2]},
        "width": 12,
        "places": 1,
    }
    assert rendered(text, **values) == text.format(**values)


def test_a_column_name_may_have_spaces():
    """
    Names are what stands between the braces, as they stand in the frame.
    """
    assert rendered("{my review}: {größe}", **{"my review": "a", "größe": 3}) == "a: 3"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_braces_in_a_row_are_data(text):
    """
    Whatever a row holds is put in as it is, and never read as a template.
    """
    assert rendered("{{{x}}}", x=text) == "{" + text + "}"
    assert rendered("{x}{x}", x="{x}" + text) == ("{x}" + text) * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "braces that are text are written twice"),
        ("a } b", "braces that are text are written twice"),
        ("{}", "names no column"),
        ("{0}", "names no column"),
        ("{:.2f}", "names no column"),
        ("{x:{}}", "names no column"),
        ("{x!q}", "there are !r, !s and !a"),
        ("half \ud800", "surrogate"),
    ],
)
def test_a_template_that_cannot_be_says_why(text, says):
    """
    What is wrong with a template is said before any row is looked at.
    """
    with pytest.raises(InputError, match=r"(?i)" + says.replace("!", "[!]")):
        template(text)


def test_a_field_names_all_columns_it_needs():
    """
    Columns within a format spec count, too.
    """
    [field] = template("{price:{width}.{places}f}").fields
    assert (field.columns, field.simple) == (("price", "width", "places"), False)
    assert template("{price}").fields[0].simple


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (np.float32(0.1), "0.1"),
        (np.float64(2), "2"),
        (np.int64(7), "7"),
        (np.bool_(True), "True"),
        (False, "False"),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (pd.Timestamp("2026-01-02"), "2026-01-02"),
        (pd.Timestamp("2026-01-02 03:04:05"), "2026-01-02 03:04:05"),
        (pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02 00:00:00+00:00"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02 03:04:05.000000006"),
        (np.timedelta64(5, "ns"), "0 days 00:00:00.000000005"),
        (["a", 1, None, "é"], '["a",1,null,"é"]'),
        (("a", np.int8(1)), '["a",1]'),
        (np.array([1.5, 2.0]), "[1.5,2.0]"),
        ({"k": {"n": [1]}, 2: pd.Timestamp("2026-01-02")}, '{"k":{"n":[1]},"2":"2026-01-02"}'),
    ],
)
def test_values_read_as_people_write_them(value, text):
    """
    Whole numbers have no ".0", days no midnight, and lists and dicts are JSON.
    """
    assert plain(value) == text


def test_a_spec_sees_python_values():
    """
    A value of numpy's takes the specs of Python's own types.
    """
    assert (
        rendered("{n:03d} {f:.1%} {b!r}", n=np.int64(7), f=np.float32(0.5), b=np.bool_(True))
        == "007 50.0% True"
    )


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "messages are a list"),
        ("text", "messages are a list"),
        (["text"], "is not a message"),
        ([{"role": "user"}], "needs 'role' and 'content'"),
        ([{"content": "x"}], "needs 'role' and 'content'"),
        ([{"role": "boss", "content": "x"}], "'boss' is no role"),
        ([{"role": "user", "content": None}], "takes a text or a list of parts"),
        ([{"role": "user", "content": 5}], "takes a text or a list of parts"),
        ([{"role": "system", "content": "x"}], "no message but the system's"),
    ],
)
def test_messages_that_are_none_say_why(messages, says):
    """
    A list that no endpoint would take is found here, not after the upload.
    """
    assert says in str(messages_problem(messages, CHAT.roles))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x"}],
        ({"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}),
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "user", "content": col("x")}],
        [{"type": "function_call_output", "call_id": "c", "output": "4"}],
    ],
)
def test_messages_of_every_legal_form_pass(messages):
    """
    Parts, tool calls, items of the responses endpoint and columns are messages, too.
    """
    assert messages_problem(messages, CHAT.roles) is None


def test_what_differs_from_row_to_row_is_found_anywhere():
    """
    Templates in texts and parts, and columns anywhere in the body, are places.
    """
    body = {
        "messages": [
            message_templates(
                {"role": "user", "content": [{"type": "text", "text": "{a}"}, {"type": "other"}]}
            ),
            message_templates({"role": "user", "content": "{b}"}),
        ],
        "temperature": 0.5,
        "extra": {"deep": [Column("c")]},
        MEMBERS: True,
    }
    assert list(places_of(body)) == [template("{a}"), template("{b}"), Column("c"), MEMBERS]
    assert all(isinstance(place, Template) for place in list(places_of(body))[:2])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([pd.NA, 1], "[null,1]"),
        ({"at": pd.NaT}, '{"at":null}'),
        ([np.float32("nan")], "[null]"),
        (typing.NamedTuple("P", [("a", int), ("b", str)])(1, "x"), '[1,"x"]'),
        ([(1, {2, 1})], "[[1,[1,2]]]"),
        ({"b": 1, "a": 2}.keys(), '["b","a"]'),
        ({"b": 1}.values(), "[1]"),
        ({"b": 1}.items(), '[["b",1]]'),
        (pd.Series([1, 2], index=["x", "y"]), "[1,2]"),
        (pd.Index(["b", "a"]), '["b","a"]'),
        (pd.Categorical(["b", "a"]), '["b","a"]'),
        ([np.array([1.5, np.nan])], "[[1.5,null]]"),
    ],
)
def test_what_is_inside_a_value_is_json(value, text):
    """
    Whatever holds values is a list or an object of JSON in a prompt, the same in every kernel.
    """
    assert plain(value) == text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((one for one in "ab"), "generator has no text"),
        (iter([1]), "no text of its own"),
        (pd.DataFrame({"a": [1]}), "DataFrame has no text"),
        (pd.Series([1]).rolling(1).apply, "no text of its own"),
        ([b"raw"], "bytes"),
        ([object()], "no text of its own"),
        ([float("inf")], "infinite"),
    ],
)
def test_what_has_no_text_of_its_own_is_refused(value, says):
    """
    An address in memory would be asked, and paid, again in the next kernel.
    """
    with pytest.raises(TypeError, match=says):
        plain(value)


def test_no_conversion_writes_an_address():
    """
    Neither {value!r} nor a format makes a text of what has none; a text that looks like an address is one.
    """
    for prompt in ("{value!r}", "{value!s:>9}", "{value:}", "{value.inner}"):
        [field] = template(prompt).fields
        with pytest.raises(TypeError, match="no text of its own"):
            field.evaluate({"value": _Bare()})
    [field] = template("{value!s:}").fields
    assert field.evaluate({"value": "<it at 0x7f>"}) == "<it at 0x7f>"


class _Bare:
    inner = object()
