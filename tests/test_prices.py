"""What tokens cost."""

from __future__ import annotations

import csv
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas import prices
from dobatch_pandas.errors import ConfigurationError
from dobatch_pandas.prices import Prices, cost, price_of


@pytest.fixture
def no_library(monkeypatch):
    """A Python without genai-prices."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    prices._listed.cache_clear()
    yield
    prices._listed.cache_clear()


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4.1-mini", "openai"),
        ("gpt-5-mini", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("claude-sonnet-5-5", "anthropic"),
        ("text-embedding-3-small", "openai"),
    ],
)
def test_a_batch_costs_less_than_real_time(model, provider):
    """
    A price list asked in the wrong words gives the full price and says nothing: here it would be noticed.
    """
    price = price_of(model, provider)

    assert price.note is None
    assert price.batch.input == pytest.approx(price.realtime.input / 2)
    assert price.batch.output == pytest.approx(price.realtime.output / 2)
    assert price.source
    assert price.date >= "2026-05"


def test_the_discount_is_applied_once():
    """
    A million tokens in and a million out of gpt-4.1-mini: 2 dollars at real time, 1 dollar in a batch.
    """
    price = price_of("gpt-4.1-mini", "openai")

    assert cost(price, 1_000_000, 1_000_000, batch=False) == pytest.approx(0.40 + 1.60)
    assert cost(price, 1_000_000, 1_000_000) == pytest.approx(0.20 + 0.80)


def test_cached_tokens_are_a_part_of_the_input_with_a_price_of_their_own():
    """
    They are not paid twice, and not at the full price.
    """
    price = price_of("claude-haiku-4-5", "anthropic")

    assert cost(price, 1_000_000, 0, 400_000) == pytest.approx(0.6 * 0.5 + 0.4 * 0.05)
    assert cost(price, 100, 0, 500) == cost(price, 100, 0, 100)


def test_prices_are_known_without_the_optional_library(no_library):
    """
    The package's own list answers, and says where each number is from and when it was checked.
    """
    price = price_of("gpt-4.1-mini", "openai")

    assert (price.realtime.input, price.batch.input, price.batch.output) == (0.4, 0.2, 0.8)
    assert price.source.startswith("https://")
    assert price.date == "2026-10-14"
    assert price_of("gpt-4.1-mini-2025-04-14", "openai") == price
    assert price_of("claude-haiku-4-5-20251001", "anthropic").batch.input == 0.5


def test_our_list_and_the_library_agree():
    """
    Two lists with the same models never tell two prices.
    """
    pytest.importorskip("genai_prices")
    both = 0
    for provider, model in prices._table():
        library = prices._from_library(model, provider)
        if library.note is None:
            both += 1
            mine = prices._from_table(model, provider)
            assert (mine.realtime, mine.batch) == (library.realtime, library.batch), model

    assert both > 20


def test_every_row_of_our_list_names_its_source_and_date():
    """
    No number without a place to check it.
    """
    text = (Path(prices.__file__).parent / "data" / "prices.csv").read_text()
    rows = list(csv.DictReader(text.split("\n")))

    assert rows
    assert all(row["source"].startswith("https://") and row["date"] >= "2026" for row in rows)
    assert all(float(row["batch_input"]) < float(row["input"]) for row in rows)


@pytest.mark.parametrize(
    ("theirs", "provider", "same"),
    [
        ("openai-gpt-4o", "openai", "gpt-4o"),
        ("openai/gpt-4.1", "openai", "gpt-4.1"),
        ("anthropic-claude-4.5-haiku", "anthropic", "claude-haiku-4-5"),
        ("anthropic-claude-opus-4.5", "anthropic", "claude-opus-4-5"),
        ("anthropic-claude-4.6-sonnet", "anthropic", "claude-sonnet-4-6"),
    ],
)
def test_the_services_names_of_models_are_understood(theirs, provider, same):
    """
    DigitalOcean writes the provider before the model, and the version before the family.
    """
    assert price_of(theirs, provider) == price_of(same, provider) is not None


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("echo", "openai"),
        ("openai-gpt-oss-120b", "openai"),
        ("gpt-4.1", "anthropic"),
        ("gpt-4.1", "elsewhere"),
    ],
)
def test_a_model_no_list_has_is_price_unknown(model, provider):
    """
    None, rather than a number that looks like one.
    """
    assert price_of(model, provider) is None


def test_a_model_without_a_batch_price_says_so():
    """
    The full price stands in, with a note.
    """
    pytest.importorskip("genai_prices")
    price = price_of("claude-3-5-haiku-20241022", "anthropic")

    assert price.batch == price.realtime
    assert "no batch price" in price.note


def test_long_prompts_have_a_price_of_their_own():
    """
    Above the provider's threshold all tokens of the request cost more.
    """
    pytest.importorskip("genai_prices")
    price = price_of("claude-haiku-5-5", "anthropic")

    assert price.long_from == 100_000
    assert price.long.batch.input > price.batch.input
    assert price.long.batch.input < price.long.realtime.input


def test_prices_of_ones_own_win(home):
    """
    ``dobatch.configure(prices=...)`` is asked first, and its discount is applied once too.
    """
    dobatch.configure(prices={"mine": Prices(input=10, output=20), "gpt-4o": {"input": 1, "output": 2}})
    overrides = dobatch.config.settings().prices
    price = price_of("mine", "openai", overrides=overrides)

    assert cost(price, 1_000_000, 1_000_000) == pytest.approx(15)
    assert cost(price, 1_000_000, 1_000_000, 1_000_000) == pytest.approx(15)
    assert price.source == "dobatch.configure(prices=...)"
    assert price_of("gpt-4o", "openai", overrides=overrides).realtime.input == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": -1, "output": 1},
        {"input": 1, "output": float("nan")},
        {"input": 1, "output": 1, "batch_discount": 50},
        {"inputs": 1},
        3.5,
    ],
)
def test_prices_that_cannot_be_are_refused(wrong):
    """
    A discount of 50 is 5,000 %, and a misspelled field is not a price of zero.
    """
    with pytest.raises(ConfigurationError):
        price_of("mine", "openai", overrides={"mine": wrong})


@pytest.mark.parametrize("kind", [Decimal, Fraction, np.float32, np.int64, int])
def test_a_price_may_be_a_number_of_any_kind(kind):
    """
    A price out of a frame or a Decimal is a number like any other, also where it is multiplied.
    """
    made = dobatch.Prices(input=kind(1), output=kind(2), cached_input=kind(1), batch_discount=kind(1))
    assert made == dobatch.Prices(1.0, 2.0, 1.0, 1.0)
    assert {type(value) for value in vars(made).values()} == {float}


@pytest.mark.parametrize("wrong", ["1", True, [1], None, float("nan"), -1, 10**400, Decimal("NaN"), 1j])
@pytest.mark.parametrize("name", ["input", "output", "batch_discount"])
def test_what_is_no_price_is_told(name, wrong):
    """
    Anything else is told at once, by its name.
    """
    with pytest.raises(dobatch.errors.ConfigurationError, match=f"{name}="):
        dobatch.Prices(**{"input": 1.0, "output": 1.0, name: wrong})
