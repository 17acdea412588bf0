"""What a job would cost, and what it has cost."""

from __future__ import annotations

import time

import orjson
import pandas as pd
import pyarrow as pa
import pytest

from dobatch_pandas import datasets, estimate
from dobatch_pandas.answers.result_lines import RESULTS
from dobatch_pandas.arrow.keyset import KeySet, keys_of
from dobatch_pandas.endpoints.openai import OPENAI
from dobatch_pandas.endpoints.provider import FileLimits
from dobatch_pandas.errors import BudgetExceeded
from dobatch_pandas.estimate import Estimator, estimate_bodies, estimate_frame
from dobatch_pandas.prices import Prices, usage_of
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.request_lines import RequestWriter, ids_of

MINE = {"mine": Prices(input=2, output=10, cached_input=1), "gpt-4o": Prices(input=2, output=10)}


def chat(text: str, **body) -> bytes:
    """The body of one chat request."""
    return orjson.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **body})


def results(**columns) -> pa.Table:
    """Results with these token columns, and null elsewhere."""
    rows = len(next(iter(columns.values())))
    return pa.table({name: columns.get(name, pa.nulls(rows)) for name in RESULTS.names}).cast(RESULTS)


def test_a_chat_is_its_text_and_the_form_around_it():
    """
    "hello world" is two tokens; a message adds four, the beginning of the answer three.
    """
    pytest.importorskip("quicktok")
    found = estimate_bodies([chat("hello world", max_tokens=10)] * 3, "gpt-4o", "openai", overrides=MINE)

    assert found.input_tokens == 3 * (2 + 4 + 3)
    assert found.output_tokens == (0, 30)
    assert found.exact
    assert found.tokenizer == "o200k_base"
    assert (found.rows, found.requests, found.to_send, found.counted) == (3, 3, 3, 3)
    assert found.bytes == 3 * len(chat("hello world", max_tokens=10))


def test_the_cost_is_a_range_from_the_input_alone_to_the_longest_answers():
    """
    At the batch price half of both.
    """
    pytest.importorskip("quicktok")
    bodies = [chat("hello world", max_tokens=100)] * 1000
    found = estimate_bodies(bodies, "gpt-4o", "openai", overrides=MINE)

    least, most = 1000 * 9 * 2 / 1e6, 1000 * (9 * 2 + 100 * 10) / 1e6
    assert found.cost_realtime == pytest.approx((least, most))
    assert found.cost_batch == pytest.approx((least / 2, most / 2))


def test_without_max_tokens_there_is_no_upper_end():
    """
    One request without a limit is enough, and the estimate says so.
    """
    found = estimate_bodies([chat("a", max_tokens=5), chat("b")], "gpt-4o", "openai", overrides=MINE)

    assert found.output_tokens == (0, None)
    assert found.cost_batch[0] > 0
    assert found.cost_batch[1] is None
    assert any("max_tokens" in note for note in found.notes)
    assert "at least $" in repr(found)


def test_a_schema_and_a_system_text_are_paid_in_every_request():
    """
    They count, and the count is an estimate then.
    """
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    plain = estimate_bodies([chat("a")] * 2, "gpt-4o", "openai")
    with_schema = estimate_bodies([chat("a", response_format=schema)] * 2, "gpt-4o", "openai")
    system = orjson.dumps(
        {"model": "claude-haiku-4-5", "system": "Be brief. " * 50, "max_tokens": 9, "messages": []}
    )

    assert with_schema.input_tokens > plain.input_tokens + 10
    assert not with_schema.exact
    assert estimate_bodies([system], "claude-haiku-4-5", "anthropic", "/v1/messages").input_tokens > 100


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"content": [{"type": "text", "text": "hello world"}]}]}),
        ("/v1/responses", {"input": "hello world", "max_output_tokens": 7}),
        ("/v1/responses", {"input": [{"content": "hello world"}], "instructions": "Be brief."}),
        ("/v1/messages", {"system": "Be brief.", "messages": [{"content": "hello world"}]}),
    ],
)
def test_every_endpoints_texts_are_found(endpoint, body):
    """
    Wherever an endpoint keeps the words, they are counted; numbers and names are not.
    """
    words = 2 + (3 if "Be brief." in str(body) else 0)
    messages = 1 + ("instructions" in body or "system" in body)
    found = estimate_bodies([orjson.dumps({**body, "model": "gpt-4o"})], "gpt-4o", "openai", endpoint)

    assert found.input_tokens == words + 4 * messages + 3


LONG = "word " * 500
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def of_endpoint(endpoint, messages, **body):
    name = "input" if endpoint == RESPONSES else "messages"
    limit = "max_output_tokens" if endpoint == RESPONSES else "max_tokens"
    return orjson.dumps({"model": "mine", name: messages, limit: 5, **body})


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (CHAT, {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": LONG}}]}),
        (CHAT, {"role": "user", "content": "x", "name": LONG}),
        (CHAT, {"role": "assistant", "refusal": LONG}),
        (CHAT, {"role": "tool", "content": [{"type": "text", "text": LONG}], "tool_call_id": "c"}),
        (RESPONSES, {"type": "function_call_output", "call_id": "c", "output": LONG}),
        (RESPONSES, {"type": "function_call", "name": "f", "arguments": LONG}),
        (RESPONSES, {"type": "reasoning", "summary": [{"type": "summary_text", "text": LONG}]}),
        (MESSAGES, {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"q": LONG}}]}),
        (MESSAGES, {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": LONG}]}]}),
        (MESSAGES, {"role": "assistant", "content": [{"type": "thinking", "thinking": LONG}]}),
    ],
)  # fmt: skip
def test_whatever_is_written_in_a_message_is_counted(endpoint, message):
    """
    Calls and their outputs, names, refusals and thoughts are paid like any text, in the estimate and in its bound.
    """
    provider = "anthropic" if endpoint == MESSAGES else "openai"
    for bound in (False, True):
        found = Estimator("mine", provider, endpoint, overrides=MINE, bound=bound)
        found.add([of_endpoint(endpoint, [message])])
        assert found.finish().input_tokens >= (len(LONG) if bound else 500)
        assert found.finish().cost_batch[1] is not None


@pytest.mark.parametrize(
    ("endpoint", "part", "body"),
    [
        (CHAT, {"type": "image_url", "image_url": {"url": "https://a/b.png"}}, {}),
        (CHAT, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, {}),
        (CHAT, {"type": "file", "file": {"file_id": "f"}}, {}),
        (RESPONSES, {"type": "input_image", "image_url": "https://a/b.png"}, {}),
        (MESSAGES, {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}, {}),
        (MESSAGES, {"type": "tool_result", "content": [{"type": "image", "source": {}}]}, {}),
        (CHAT, {"type": "text", "text": "x"}, {"web_search_options": {"search_context_size": "low"}}),
        (RESPONSES, {"type": "input_text", "text": "x"}, {"tools": [{"type": "web_search"}]}),
        (RESPONSES, {"type": "input_text", "text": "x"}, {"previous_response_id": "r"}),
        (RESPONSES, {"type": "input_text", "text": "x"}, {"service_tier": "priority"}),
        (MESSAGES, {"type": "text", "text": "x"}, {"speed": "fast"}),
    ],
)
def test_what_is_not_written_in_the_request_has_no_bound(endpoint, part, body):
    """
    Images, sound, files, what the service looks up, what was said before, another price for being quicker: nobody knows
    what it costs, and it is said.
    """
    provider = "anthropic" if endpoint == MESSAGES else "openai"
    one = of_endpoint(endpoint, [{"role": "user", "content": [part]}], **body)
    other = of_endpoint(endpoint, [{"role": "user", "content": "x"}])
    parts = [Estimator("mine", provider, endpoint, overrides=MINE, bound=True) for _ in range(3)]
    parts[0].add([one])
    parts[1].add([other])
    for some in parts[:2]:
        parts[2].include(some.sums())
    assert [some.finish().cost_batch[1] is None for some in parts] == [True, False, True]
    assert any(
        words in parts[2].finish().summary()
        for words in ("not known before", "brings in more", "a price of its own")
    )
    assert parts[2].finish().output_tokens == (0, 10)


def test_what_a_provider_adds_is_within_the_bound():
    """
    Anthropic puts hundreds of tokens before the tools, and writes to its cache at twice the price.
    """

    def bound(**body):
        found = Estimator("mine", "anthropic", MESSAGES, overrides=MINE, bound=True)
        found.add([of_endpoint(MESSAGES, [{"role": "user", "content": "x"}], **body)])
        return found.finish().input_tokens

    assert bound(tools=[{"name": "answer", "input_schema": {}}]) > bound() + 804
    cached = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert bound(system=cached) >= 2 * len(LONG)


@pytest.mark.parametrize(
    ("endpoint", "body", "likely"),
    [
        (CHAT, {"functions": [{"name": "f", "description": LONG}]}, True),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": {"description": LONG}}}}, True),
        (CHAT, {"chat_template_kwargs": {"documents": [LONG]}}, False),
        (RESPONSES, {"a_parameter_of_tomorrow": LONG}, False),
    ],
)  # fmt: skip
def test_texts_in_any_parameter_are_within_the_bound(endpoint, body, likely):
    """
    Functions, the schema of an answer, what a template of the model's is given: it may all be put to the model and paid.
    """
    provider = "anthropic" if endpoint == MESSAGES else "openai"
    for bound in (False, True):
        found = Estimator("mine", provider, endpoint, overrides=MINE, bound=bound)
        found.add([of_endpoint(endpoint, [{"role": "user", "content": "x"}], **body)])
        least = len(LONG) if bound else 500 if likely else 0
        assert found.finish().input_tokens >= least


def test_embeddings_have_no_output():
    """
    One end of the range is the other.
    """
    pytest.importorskip("quicktok")
    body = orjson.dumps({"model": "text-embedding-3-small", "input": "hello world"})
    found = estimate_bodies([body], "text-embedding-3-small", "openai", "/v1/embeddings")

    assert found.input_tokens == 2
    assert found.exact
    assert found.output_tokens == (0, 0)
    assert found.cost_batch == pytest.approx((2 * 0.01 / 1e6,) * 2)


def test_whole_request_lines_count_like_their_bodies():
    """
    Of both providers.
    """
    body = orjson.loads(chat("hello world", max_tokens=4))
    lines = [
        orjson.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}),
        orjson.dumps({"custom_id": "2", "params": body}),
    ]
    found = estimate_bodies(lines, "gpt-4o", "openai")

    assert found.input_tokens == 2 * estimate_bodies([chat("hello world")], "gpt-4o", "openai").input_tokens
    assert found.output_tokens == (0, 8)


def test_an_unknown_price_is_called_unknown():
    """
    Tokens are still counted.
    """
    found = estimate_bodies([chat("hello")], "a-model-of-mine", "openai")

    assert found.cost_batch is None
    assert found.cost_realtime is None
    assert found.price_source == "price unknown"
    assert "price unknown" in repr(found)
    assert found.input_tokens > 0


def test_the_price_names_its_source_and_date():
    """
    So that anyone can check it.
    """
    found = estimate_bodies([chat("hello")], "gpt-4.1-mini", "openai")

    assert "2026-10-14" in found.price_source


def test_reused_requests_and_skipped_rows_cost_nothing():
    """
    They are numbers of their own.
    """
    estimator = Estimator("gpt-4o", "openai", overrides=MINE)
    estimator.add([chat("a")])
    found = estimator.finish(rows=10, reused=6, skipped=3, batches=1, bytes=999)

    assert (found.rows, found.requests, found.to_send, found.reused, found.skipped) == (10, 7, 1, 6, 3)
    assert (found.batches, found.bytes) == (1, 999)
    assert found.input_tokens < 20


def test_nothing_to_send_costs_nothing():
    """
    A plan whose rows are all answered already.
    """
    found = Estimator("gpt-4o", "openai", overrides=MINE).finish(rows=5, reused=5)

    assert found.cost_batch == (0, 0)
    assert found.to_send == 0


def test_beyond_the_limit_every_tenth_request_stands_for_ten(monkeypatch):
    """
    The estimate says how many were counted, and stays close.
    """
    monkeypatch.setattr(estimate, "COUNTED", 1000)
    texts = datasets.load_reviews()["text"]
    bodies = [chat(text, max_tokens=7) for text in texts]
    sampled = Estimator("gpt-4o", "openai", overrides=MINE)
    for start in range(0, len(bodies), 500):
        sampled.add(bodies[start : start + 500])
    found = sampled.finish()
    monkeypatch.setattr(estimate, "COUNTED", 10**9)
    full = estimate_bodies(bodies, "gpt-4o", "openai", overrides=MINE)

    assert found.counted < 1300 < found.to_send == full.counted
    assert found.output_tokens == full.output_tokens
    assert found.input_tokens == pytest.approx(full.input_tokens, rel=0.05)
    assert not found.exact
    assert any("were counted" in note for note in found.notes)


def test_long_prompts_cost_what_long_prompts_cost():
    """
    A document of 150,000 tokens is not estimated at the price of a tweet.
    """
    pytest.importorskip("genai_prices")
    pytest.importorskip("quicktok")
    long = estimate_bodies([chat("hello " * 150_000, max_tokens=1)], "claude-haiku-5-5", "anthropic")
    short = estimate_bodies([chat("hello " * 50_000, max_tokens=1)] * 3, "claude-haiku-5-5", "anthropic")

    assert long.input_tokens == pytest.approx(short.input_tokens, rel=0.01)
    assert long.cost_batch[0] > 4 * short.cost_batch[0]


def test_a_hundred_thousand_requests_take_seconds():
    """
    Looking before paying is not a coffee break.
    """
    bodies = [chat(text, max_tokens=20) for text in datasets.load_reviews()["text"].tolist() * 34]
    began = time.perf_counter()
    found = estimate_bodies(bodies, "gpt-4o", "openai")

    assert found.counted > 100_000
    assert time.perf_counter() - began < 100  # a request at a time takes minutes


def test_the_estimate_of_a_frame_is_of_the_files_that_would_be_sent(tmp_path):
    """
    Equal rows count once, skipped ones not at all, and the bytes are those of the files.
    """
    frame = pd.DataFrame({"text": ["one", "two", "one", None, "three"]})
    recipe = build_recipe("Say {text}", model="gpt-4o", missing="skip", params={"max_tokens": 5})
    parts = []
    writer = RequestWriter(recipe, tmp_path, on_part=parts.append)
    for frozen in freeze(recipe, frame):
        writer.add(frozen)
    writer.close()
    found = estimate_frame(frame, recipe, overrides=MINE)

    assert (found.rows, found.requests, found.skipped, found.batches) == (5, 3, 1, 1)
    assert found.bytes == sum(part.path.stat().st_size for part in parts)
    assert found.output_tokens == (0, 15)
    assert found.input_tokens == sum(
        estimate_bodies([chat(f"Say {text}")], "gpt-4o", "openai").input_tokens
        for text in ("one", "two", "three")
    )


def test_answers_that_are_known_are_not_paid_again():
    """
    Reused requests are counted apart, each once.
    """
    frame = pd.DataFrame({"text": ["one", "two", "one", "three"]})
    recipe = build_recipe("Say {text}", model="gpt-4o")
    ids, _ = ids_of(frame, recipe)
    answered = KeySet()
    answered.add_new(keys_of(ids.combine_chunks().slice(0, 2)))
    found = estimate_frame(frame, recipe, answered=answered, overrides=MINE)

    assert (found.requests, found.reused, found.to_send) == (3, 2, 1)


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        ("gpt-4o", "chat"),
        ("gpt-4o", "responses"),
        ("text-embedding-3-small", "embeddings"),
        ("claude-haiku-4-5", "messages"),
    ],
)
def test_every_endpoint_has_an_estimate(model, endpoint):
    """
    With a cost at both prices, the batch at half.
    """
    frame = datasets.load_reviews(50)
    recipe = build_recipe("{text}", model=model, endpoint=endpoint)
    found = estimate_frame(frame, recipe)

    assert found.requests == 50
    assert found.input_tokens > 50 * 10
    assert found.cost_batch[0] == pytest.approx(found.cost_realtime[0] / 2)


def test_samples_are_requests_and_several_files_are_several_batches(monkeypatch):
    """
    Asking three times costs three times, over as many batches as the limits want.
    """
    monkeypatch.setattr(OPENAI, "file_limits", FileLimits(requests=4, bytes=10**6))
    recipe = build_recipe("{text}", model="gpt-4o", samples=3)
    found = estimate_frame(datasets.load_reviews(3), recipe, overrides=MINE)

    assert (found.rows, found.requests, found.batches) == (3, 9, 3)


def test_usage_adds_up_what_the_service_reported():
    """
    Cached and reasoning tokens apart, the discount once.
    """
    tables = [
        results(
            prompt_tokens=[1000, 2000],
            cached_tokens=[500, None],
            completion_tokens=[100, 200],
            reasoning_tokens=[50, None],
        ),
        results(prompt_tokens=[None], completion_tokens=[None]),
    ]
    usage = usage_of(tables, "mine", "openai", overrides=MINE)

    assert (usage.requests, usage.prompt_tokens, usage.cached_tokens) == (3, 3000, 500)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (300, 50)
    assert usage.cost_realtime == pytest.approx((2500 * 2 + 500 * 1 + 300 * 10) / 1e6)
    assert usage.cost == pytest.approx(usage.cost_realtime / 2)
    assert "$" in repr(usage)


def test_usage_is_unknown_where_the_service_said_nothing():
    """
    None, not zero; and no cost is made up.
    """
    silent = usage_of(results(prompt_tokens=pa.nulls(4)), "gpt-4o", "openai", overrides=MINE)
    priceless = usage_of(results(prompt_tokens=[5], completion_tokens=[6]), "a-model-of-mine", "openai")

    assert (silent.requests, silent.prompt_tokens, silent.cost) == (4, None, None)
    assert (priceless.prompt_tokens, priceless.cost) == (5, None)
    assert usage_of([], "gpt-4o", "openai").requests == 0


def test_usage_of_long_prompts_takes_their_price():
    """
    Request by request, as the provider does.
    """
    pytest.importorskip("genai_prices")
    usage = usage_of(results(prompt_tokens=[150_000, 50_000]), "claude-haiku-5-5", "anthropic")

    assert usage.cost == pytest.approx((150_000 * 0.25 + 50_000 * 0.05) / 1e6)


def test_estimate_and_usage_are_drawn_as_tables():
    """
    In a notebook, with the numbers and where they are from.
    """
    pytest.importorskip("dobatch_pandas.display.html")
    found = estimate_bodies([chat("hello", max_tokens=3)], "<b>mine</b>", "openai")
    usage = usage_of(results(prompt_tokens=[5]), "gpt-4o", "openai")

    assert "price unknown" in found._repr_html_()
    assert "<b>mine" not in found._repr_html_()
    assert "input tokens" in usage._repr_html_()


@pytest.mark.parametrize(("price", "words"), [(1e6, r"\$2,[0-9,]+\.\d\d"), (1e-3, r"\$0\.00000\d+")])
def test_sums_of_money_are_written_out(price, words):
    """
    What is refused says thousands of dollars, or thousandths of a cent, as a person writes them: no 1.2e+04, no 1e-05.
    """
    body = chat("word " * 10, max_tokens=2_000)
    found = estimate_bodies([body], "m", "openai", overrides={"m": Prices(input=price, output=price)})
    with pytest.raises(BudgetExceeded, match=words) as told:
        estimate.stay_within(0.000000001, "m", found, now=True)
    assert "e-" not in str(told.value)
    assert "e+" not in str(told.value)
    assert "$0.000000001." in str(told.value)
