"""Every door takes the same options, says the same of them, and sends none of them to the service."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import functools
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import cli, magics
from dobatch_pandas.config import configured
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.options import ASKED, SENDING, typed_options

FRAME = pd.DataFrame({"text": ["a", "b"], "answer": ["c", "d"]})
ACCESSOR = dobatch.DobatchAccessor
DOORS = {
    "plan": (ACCESSOR.plan, ()),
    "submit": (ACCESSOR.submit, SENDING),
    "trial": (ACCESSOR.trial, ("max_cost",)),
    "judge": (ACCESSOR.judge, SENDING),
    "submit_dataset": (dobatch.submit_dataset, SENDING),
}
# A judge has its own; what is asked by workers is never asked in real time.
WITHOUT = {"judge": {"system", "schema", "into"}, "Dask's submit": {"deadline", "mode"}}
OURS = [
    "token", "base_url", "home", "allow_http", "prices", "account", "fresh", "display", "max_cost", "n", "output", "source",
    "timeout", "wait", "send_only", "params", "body", "frame",
]  # fmt: skip


def _doors() -> dict[str, Any]:
    found = dict(DOORS)
    pytest.importorskip("dask.dataframe")
    from dobatch_pandas import dask

    found["Dask's plan"] = (dask.DaskDobatchAccessor.plan, ())
    found["Dask's submit"] = (dask.DaskDobatchAccessor.submit, SENDING)
    return found


def test_every_door_shows_every_option_with_its_default() -> None:
    """
    Shift-Tab tells all, wherever it is pressed.
    """
    for name, (function, sends) in _doors().items():
        shown = inspect.signature(function).parameters
        without = WITHOUT.get(name, set())
        for option in {**ASKED, **{s: SENDING[s] for s in sends}}.values():
            if option.name not in without:
                assert shown[option.name].default == option.default, (name, option.name)
        assert shown["body"].kind is inspect.Parameter.VAR_KEYWORD
        assert "options" not in shown


def test_every_door_documents_every_option() -> None:
    """
    ``help`` has a paragraph for each, and none for what the door does not take.
    """
    for name, (function, _) in _doors().items():
        text = inspect.getdoc(function) or ""
        assert "{options}" not in text
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in ("self", "body"):
                assert f"\n{parameter.name} : " in text, (name, parameter.name)
        assert text.count("\nmodel : ") == 1
        assert "\n**body\n" in text


def test_the_terminal_and_the_magic_take_every_option() -> None:
    """
    Whatever a keyword can say, a flag can say: but how a notebook shows a job.
    """
    assert {option.name for option in typed_options()} == {*ASKED, *SENDING} - {"display"}
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    for option in typed_options():
        assert option.words
        assert option.flag in magics.USAGE


def test_the_terminals_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Nothing has to be looked up elsewhere.
    """
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    shown = capsys.readouterr().out
    assert [option.flag for option in typed_options() if option.flag not in shown] == []


@pytest.mark.parametrize("word", OURS)
@pytest.mark.parametrize("door", ["plan", "submit", "trial", "judge", "submit_dataset"])
def test_a_word_of_ours_is_never_a_parameter_of_the_body(
    door: str, word: str, server: Any, tmp_path: Any
) -> None:
    """
    Given to a door that cannot use it, it is an error that says where it belongs, and nothing has been sent.
    """
    if word in inspect.signature(DOORS[door][0]).parameters:
        return
    given: dict[str, Any] = {"model": "echo", word: 1}
    positional: tuple[Any, ...] = (FRAME.dobatch, "Say {text}")
    if door == "submit_dataset":
        positional = (tmp_path, "Say {text}")
        given = {"output": tmp_path / "out", **given}
    with pytest.raises(InputError, match=f"{word} is not for {door}"):
        DOORS[door][0](*positional, **given)
    assert server.calls == []


def test_the_judge_writes_its_own_instructions(server: Any) -> None:
    """
    A system text or a schema for it would take its criteria away.
    """
    with pytest.raises(InputError, match="system is not for judge"):
        FRAME.dobatch.judge("text", model="echo", system="Be kind.")


def test_options_of_another_door_are_told_all_at_once() -> None:
    """
    One run shows everything there is to mend.
    """
    with pytest.raises(InputError) as told:
        FRAME.dobatch.plan("Say {text}", model="echo", max_cost=1, fresh=True, token="secret")
    assert len(told.value.problems) == 3
    assert "secret" not in str(told.value)


def test_a_trial_keeps_to_its_limit(server: Any) -> None:
    """
    What may cost more is not asked.
    """
    dobatch.configure(prices={"echo": dobatch.Prices(input=1e6, output=1e6)})
    with pytest.raises(dobatch.errors.BudgetExceeded, match="max_cost"):
        FRAME.dobatch.trial("Say {text}", model="echo", max_tokens=5, max_cost=0.01)
    assert server.calls == []
    asked = FRAME.dobatch.trial("Say {text}", model="echo", max_tokens=5, max_cost=1000)
    assert list(asked["response"]) == ["Say a", "Say b"]


@pytest.mark.parametrize("name", ["fresh", "dedupe", "flatten"])
@pytest.mark.parametrize("given", ["no", "False", "", 0, None])
def test_what_is_neither_true_nor_false_is_said(name: str, given: Any, server: Any) -> None:
    """
    ``fresh="no"``, as it comes from a form or a notebook's parameters, is not taken for True, which costs money.
    """
    with pytest.raises(InputError, match=f"{name} is .*; it takes True or False"):
        pd.DataFrame({"n": [1]}).dobatch.submit("Say {n}", model="echo", **{name: given})
    assert server.calls.count("create_batch") == 0


def test_numbers_of_numpy_are_numbers(server: Any) -> None:
    """
    Counts and seconds may come out of a frame.
    """
    frame = pd.DataFrame({"n": [1, 2]})
    options: dict[str, Any] = {"model": "echo", "samples": np.int64(2), "dedupe": np.bool_(True)}
    job = frame.dobatch.submit("Say {n}", **options).wait(timeout=np.float32(240))
    assert job.recipe.to_json() == frame.dobatch.plan("Say {n}", model="echo", samples=2).recipe.to_json()
    assert frame.dobatch.join(job)["response_2"].tolist() == ["Say 1", "Say 2"]
    assert len(frame.dobatch.trial("Say {n}", model="echo", n=np.int64(1))) == 1
    plan = frame.dobatch.plan("Say {n}", model="echo")
    assert len(plan.preview(np.int64(1))) == 1
    for wrong in (1.5, -1, "1", None):
        with pytest.raises(InputError, match="whole number of rows"):
            plan.preview(wrong)


class Strange:
    pass


WILD: list[Any] = [
    ["a"], {"a": 1}, {1, 2}, frozenset(), (1, 2), [[]], {"a": Strange}, {Strange: 1}, Strange, Strange(), b"x", 1j, range(3),
    slice(1), ..., float("nan"), float("inf"), 10**400, -1, 0, True, 1.5, None, pd.NA, pd.NaT, np.float64(2), np.array([1, 2]),
    FRAME, FRAME["text"], "", "\ud83d", "a\0b", "x" * 10_000, lambda row: "x", iter([1]), decimal.Decimal("NaN"),
    datetime.date(2024, 1, 1), dobatch.col("text"),
]  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [*ASKED, "temperature", "max_tokens", "stop", "tools", "tool_choice", "user", "anything"],
)
def test_a_value_of_the_wrong_kind_is_an_error_of_ours(option: str) -> None:
    """
    Whatever an option is given, it is used or refused in words; nothing of pandas', numpy's or JSON's gets through.
    """
    for value in WILD:
        with contextlib.suppress(dobatch.DobatchError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FRAME.dobatch.plan("{text}", **{"model": "echo", option: value}).preview()


@pytest.mark.parametrize("option", SENDING)
def test_how_a_job_is_sent_takes_no_value_of_the_wrong_kind(option: str, tmp_path: Path) -> None:
    """
    The same for what says how it is sent: what is right goes on to a service that is not there.
    """
    with configured(home=tmp_path, base_url="http://localhost:9", token="t"):
        for value in WILD:
            with pytest.raises(dobatch.DobatchError):
                FRAME.dobatch.submit("{text}", model="echo", **{option: value})


TAKERS: dict[str, Callable[[Any], Any]] = {
    "prompt": lambda value: FRAME.dobatch.plan(value, model="echo").preview(),
    "content": lambda value: FRAME.dobatch.plan([{"role": "user", "content": value}], model="echo").preview(),
    "role": lambda value: FRAME.dobatch.plan([{"role": value, "content": "x"}], model="echo").preview(),
    "col": dobatch.col,
    "attach": dobatch.attach,
    "join": lambda value: FRAME.dobatch.join(value),
    "read_results": dobatch.read_results,
    "score": lambda value: FRAME.dobatch.score(value, actual="answer"),
    "actual": lambda value: FRAME.dobatch.score("answer", actual=value),
    "spending": lambda value: dobatch.spending(by=value),
}


def _set(name: str, value: Any) -> None:
    with configured(**{name: value}):
        pass


for _name in ("token", "base_url", "home", "account", "store", "on_end", "on_end_key", "display"):
    TAKERS[_name] = functools.partial(_set, _name)


@pytest.mark.parametrize("taker", TAKERS)
def test_a_wrong_thing_anywhere_else_is_an_error_of_ours(taker: str, tmp_path: Path) -> None:
    """
    So it is with prompts, columns, jobs, files and settings.
    """
    for value in WILD:
        with (
            configured(home=tmp_path, base_url="http://localhost:9", token="t"),
            contextlib.suppress(dobatch.DobatchError),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            TAKERS[taker](value)


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), np.int64(0), np.uint8(1), np.bool_(False), np.str_("x")]
)
def test_a_number_of_numpys_asks_what_pythons_does(value: Any) -> None:
    """
    ``for t in np.linspace(0, 1, 5)`` is how people try temperatures.
    """
    ours, theirs = (
        FRAME.dobatch.plan("{text}", model="echo", dedupe=np.bool_(True), anything=one)
        for one in (value, value.item())
    )
    assert ours.preview().equals(theirs.preview())
