"""Each endpoint's request: where the question, the system text and the schema go, and what is refused beforehand."""

from __future__ import annotations

from typing import Any

import orjson
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.endpoints import ENDPOINTS, endpoint_for
from dobatch_pandas.errors import InputError
from dobatch_pandas.questions.build import build_recipe
from dobatch_pandas.questions.freeze import freeze
from dobatch_pandas.questions.request_lines import Renderer

MODELS = {
    "chat": "gpt-4.1-mini",
    "responses": "gpt-4.1-mini",
    "embeddings": "text-embedding-3-small",
    "messages": "claude-sonnet-4",
}


def body_of(prompt: Any = "Say {x}", *, endpoint: str, x: Any = "hi", **options: Any) -> dict[str, Any]:
    """The body of one row's request."""
    recipe = build_recipe(prompt, model=MODELS[endpoint], endpoint=endpoint, **options)
    [frozen] = freeze(recipe, pd.DataFrame({"x": [x]}))
    [body] = Renderer(recipe).bodies(frozen)
    found: dict[str, Any] = orjson.loads(body)
    return found


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4.1-mini", "chat"),
        ("openai-gpt-oss-120b", "chat"),
        ("llama3.3-70b-instruct", "chat"),
        ("my-own-model", "chat"),
        ("claude-sonnet-4", "messages"),
        ("anthropic-claude-opus-4", "messages"),
        ("anthropic/claude-3.5-haiku", "messages"),
        ("text-embedding-3-small", "embeddings"),
        ("BAAI/bge-m3", "embeddings"),
        ("all-MiniLM-L6-v2", "embeddings"),
        ("gte-large-en-v1.5", "embeddings"),
        ("e5-mistral", "embeddings"),
        ("qwen3-embedding-0.6b", "embeddings"),
    ],
)
def test_the_endpoint_follows_from_the_model(model, name):
    """
    Where nothing is said, the model's name says it.
    """
    assert endpoint_for(None, None, model).name == name


@pytest.mark.parametrize("name", list(ENDPOINTS))
def test_an_endpoint_is_named_by_a_word_or_its_path(name):
    """
    "chat", "/v1/chat/completions" and "chat/completions" are the same endpoint.
    """
    endpoint = ENDPOINTS[name]
    for word in (name, endpoint.url, endpoint.url.removeprefix("/v1/")):
        assert endpoint_for(word, None, "my-own-model") is endpoint
        assert endpoint_for(word, endpoint.provider.name, "my-own-model") is endpoint


def test_an_explicit_word_wins():
    """
    A provider that is named is believed, whatever the model is called.
    """
    assert endpoint_for(None, "openai", "claude-sonnet-4").name == "chat"
    assert endpoint_for("chat", "openai", "claude-sonnet-4").name == "chat"
    assert endpoint_for(None, "anthropic", "my-own-model").name == "messages"
    assert endpoint_for("responses", None, "my-own-model").name == "responses"


@pytest.mark.parametrize(
    ("endpoint", "provider", "model", "says"),
    [
        ("chat", "anthropic", "m", "belongs to provider 'openai'"),
        ("messages", "openai", "m", "belongs to provider 'anthropic'"),
        ("chat", None, "claude-sonnet-4", "one of Anthropic's and does not take /v1/chat/completions"),
        ("chat", None, "text-embedding-3-small", "makes embeddings and does not take /v1/chat/completions"),
        ("embeddings", None, "gpt-4.1-mini", "answers in words and does not take /v1/embeddings"),
        ("embeddings", None, "o3-mini", "answers in words"),
        ("completions", None, "m", "endpoint is 'completions'; it takes 'chat'"),
        (None, "azure", "m", "provider is 'azure'"),
    ],
)
def test_words_that_contradict_each_other_are_refused(endpoint, provider, model, says):
    """
    A model that the endpoint does not take is found before anything is sent.
    """
    with pytest.raises(InputError) as caught:
        endpoint_for(endpoint, provider, model)
    assert says in str(caught.value)


# -- where things go


def test_chat_puts_the_system_text_first():
    """
    Chat: messages, the system text as the first of them.
    """
    assert body_of(endpoint="chat", system="About {x}", params={"temperature": 0.5}) == {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "system", "content": "About hi"}, {"role": "user", "content": "Say hi"}],
        "temperature": 0.5,
    }


def test_responses_have_input_and_instructions():
    """
    Responses: the question is input, the system text instructions.
    """
    assert body_of(endpoint="responses", system="About {x}", params={"max_output_tokens": 9}) == {
        "model": "gpt-4.1-mini",
        "input": "Say hi",
        "instructions": "About hi",
        "max_output_tokens": 9,
    }


def test_embeddings_have_input():
    """
    Embeddings: one text, and what else is said.
    """
    assert body_of("{x}", endpoint="embeddings", params={"dimensions": 256}) == {
        "model": "text-embedding-3-small",
        "input": "hi",
        "dimensions": 256,
    }


def test_messages_have_a_system_member_and_max_tokens():
    """
    Messages: the system text stands beside the messages, and max_tokens, which the endpoint demands, is there.
    """
    assert body_of(endpoint="messages", system="About {x}") == {
        "model": "claude-sonnet-4",
        "messages": [{"role": "user", "content": "Say hi"}],
        "system": "About hi",
        "max_tokens": 1024,
    }
    assert body_of(endpoint="messages", params={"max_tokens": 5})["max_tokens"] == 5


def test_messages_gather_every_system_text():
    """
    System messages of a list written for chat end where Anthropic wants them, parts as parts.
    """
    conversation = [
        {"role": "system", "content": "Be {x}."},
        {"role": "system", "content": [{"type": "text", "text": "Shout."}]},
        {"role": "user", "content": "Say {x}"},
    ]
    body = body_of(conversation, endpoint="messages", system="Rules:")

    assert [part["text"] for part in body["system"]] == ["Rules:", "Be hi.", "Shout."]
    assert body["messages"] == [{"role": "user", "content": "Say hi"}]


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_few_shot_messages_keep_their_order(endpoint):
    """
    Examples in a list of messages stay in front of the question.
    """
    shots = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "<{x}>"}]},
    ]
    body = body_of(shots, endpoint=endpoint)

    asked = body["input"] if endpoint == "responses" else body["messages"]
    assert asked == [*shots[:2], {"role": "user", "content": [{"type": "text", "text": "<hi>"}]}]


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_a_function_asks_the_same_as_a_template(endpoint):
    """
    Whichever way the question is written, the endpoint's body is the same.
    """
    written = body_of("Say {x}", endpoint=endpoint, system="About {x}")
    assert body_of(lambda row: f"Say {row['x']}", endpoint=endpoint, system="About {x}") == written


SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["pos", "neg"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def test_a_schema_is_sent_as_each_endpoint_wants_it():
    """
    Chat: response_format; responses: text.format; messages: a tool that must be called.
    """
    asked = {
        name: body_of(endpoint=name, schema={"label": ["pos", "neg"]})
        for name in MODELS
        if name != "embeddings"
    }

    strict = {"name": "answer", "strict": True, "schema": SCHEMA}
    assert asked["chat"]["response_format"] == {"type": "json_schema", "json_schema": strict}
    assert asked["responses"]["text"] == {"format": {"type": "json_schema", **strict}}
    assert asked["messages"]["tools"][0]["input_schema"] == SCHEMA
    assert asked["messages"]["tool_choice"] == {"type": "tool", "name": "answer"}


# -- what is refused

THINKING = {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize(
    ("endpoint", "options", "says"),
    [
        ("chat", {"params": {"messages": []}}, "messages cannot be given: give them as the prompt"),
        ("chat", {"params": {"n": 3}}, "samples=k asks k times"),
        ("chat", {"params": {"stream": True}}, "a batch does not stream"),
        ("chat", {"params": {"max_tokens": 1, "max_completion_tokens": 1}}, "one of them is enough"),
        ("chat", {"params": {"max_output_tokens": 1}}, "is called max_completion_tokens"),
        (
            "chat",
            {"schema": {"a": str}, "params": {"response_format": {}}},
            "response_format is set by schema",
        ),
        ("responses", {"params": {"input": "x"}}, "input cannot be given"),
        ("responses", {"params": {"instructions": "x"}}, "give them as system="),
        ("responses", {"params": {"max_tokens": 1}}, "is called max_output_tokens"),
        ("responses", {"schema": {"a": str}, "params": {"text": {}}}, "text is set by schema"),
        ("embeddings", {"params": {"input": "x"}}, "input cannot be given"),
        ("embeddings", {"params": {"temperature": 0}}, "means nothing to embeddings"),
        ("embeddings", {"schema": {"a": str}}, "Embeddings take no schema"),
        ("embeddings", {"system": "x"}, "Embeddings take no system text"),
        ("embeddings", {"prompt": [{"role": "user", "content": "x"}]}, "one text a row, not messages"),
        ("messages", {"params": {"system": "x"}}, "give it as system="),
        ("messages", {"params": {"max_completion_tokens": 1}}, "is called max_tokens"),
        ("messages", {"params": {"n": 2}}, "samples=k asks k times"),
        ("messages", {"schema": {"a": str}, "params": {"tools": []}}, "tools is set by schema"),
        ("messages", {"params": {"thinking": THINKING}}, "max_tokens is 1,024, and thinking may take 2,000"),
        (
            "messages",
            {"params": {"thinking": THINKING, "max_tokens": 2000}},
            "max_tokens is 2,000, and thinking",
        ),
        ("messages", {"params": {"thinking": {**THINKING, "budget_tokens": 500}}}, "takes 1,024 or more"),
        (
            "messages",
            {"params": {"thinking": THINKING, "temperature": 0}},
            "temperature is 0, and with thinking",
        ),
        ("messages", {"params": {"thinking": THINKING, "top_k": 5}}, "top_k is not taken with thinking"),
        (
            "messages",
            {"params": {"thinking": THINKING}, "schema": {"a": str}},
            "thinks cannot be made to call a tool",
        ),
        ("chat", {"params": {"top_logprobs": 3}}, "top_logprobs needs logprobs=True"),
        ("messages", {"prompt": [{"role": "tool", "content": "x"}]}, "'tool' is no role at this endpoint"),
    ],
)
def test_what_an_endpoint_would_refuse_is_refused_here(endpoint, options, says):
    """
    Parameters that belong elsewhere, or mean nothing, are named with what to do instead.
    """
    options = {"prompt": "Say {x}", **options}
    with pytest.raises(InputError) as caught:
        build_recipe(**options, model=MODELS[endpoint], endpoint=endpoint)
    assert says in str(caught.value)


def test_thinking_with_room_for_an_answer_passes():
    """
    What the service takes beside thoughts is not refused.
    """
    for params in (
        {"max_tokens": 2001, "temperature": 1},
        {"tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"}},
        {"max_tokens": dobatch.col("x")},
    ):
        recipe = build_recipe(
            "Say {x}", model=MODELS["messages"], endpoint="messages", params={"thinking": THINKING, **params}
        )
        assert recipe.params["thinking"] == THINKING


def test_harmless_values_of_reserved_parameters_pass():
    """
    stream=False and n=1 say what a batch does anyway.
    """
    assert body_of(endpoint="chat", params={"stream": False, "n": 1})["n"] == 1
