"""An answer is found behind thoughts and drafts, and judged by what the user gave."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pydantic
import pytest

from dobatch_pandas.answers.typed import parse_answers
from dobatch_pandas.questions.schema import AnswerSchema, answer_schema_of


def judged(texts: list[str], schema: Any) -> tuple[dict[str, list[Any]], list[str | None]]:
    nothing = pa.nulls(len(texts), pa.string())
    table = pa.table(
        {"text": pa.array(texts, pa.large_string()), "error_code": nothing, "error_message": nothing}
    )
    columns, codes, _ = parse_answers(table, schema)
    return {name: values.to_pylist() for name, values in columns.items()}, codes.to_pylist()


FENCE = "```json\n%s\n```"
DRAFT, FINAL = '{"s": "neg"}', '{"s": "pos"}'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{FENCE % DRAFT}</think>{FENCE % FINAL}",
        f"<think>{DRAFT}</think>\n{FINAL}",
        f"{DRAFT} no </think> {FINAL}",
        f"First try: {FENCE % DRAFT}\nCorrected: {FENCE % FINAL}",
        f"{DRAFT} or rather {FINAL}",
        f"{FINAL} rather than {{'s': 1}} or {{\"s\": 5}}",
        f"[THINK]{DRAFT}[/THINK]{FINAL}",
    ],
)
def test_the_last_answer_that_satisfies_the_schema_counts(text: str) -> None:
    """
    A draft is not the answer, wherever it stands.
    """
    assert judged([text], answer_schema_of({"s": ["pos", "neg"]})) == ({"s": ["pos"]}, [None])


@pytest.mark.parametrize("text", [f"<think>{DRAFT}</think> I cannot tell.", f"<think>perhaps {DRAFT}", ""])
def test_thoughts_are_no_answer(text: str) -> None:
    """
    Where nothing follows the thoughts, there is no answer.
    """
    assert judged([text], answer_schema_of({"s": ["pos", "neg"]}))[1] == ["invalid_json"]


class Person(pydantic.BaseModel):
    name: str
    nick: str | None = None
    lang: str = "en"
    paid: Decimal = Decimal(0)
    born: datetime.date | None = None

    @pydantic.field_validator("name")
    @classmethod
    def known(cls, value: str) -> str:
        if value == "crash":
            raise RuntimeError("a fault of the check")
        if value == "Eve":
            raise ValueError("not Eve")
        return value.title()


def test_a_model_judges_with_its_defaults_and_validators() -> None:
    """
    What the model takes is an answer as the model makes it; what it refuses costs its own row, whatever it raises.
    """
    texts = ['{"name": "bob"}', '{"name": "Eve"}', '{"name": "crash"}', '{"nick": "B"}',
             '{"name": "ann", "paid": "12.50", "born": "2000-01-02", "more": 1}']  # fmt: skip
    columns, codes = judged(texts, answer_schema_of(Person))
    assert codes == [None, "schema_mismatch", "schema_mismatch", "schema_mismatch", None]
    assert columns["name"] == ["Bob", None, None, None, "Ann"]
    assert columns["lang"] == ["en", None, None, None, "en"]
    assert columns["paid"][4] == Decimal("12.5")
    assert columns["born"][4] == datetime.datetime(2000, 1, 2)


def test_a_model_is_found_again_by_its_name() -> None:
    """
    After attach, a class of the same name and fields judges; where there is none, the JSON Schema does.
    """
    kept = answer_schema_of(Person).to_json()
    assert AnswerSchema.from_json(kept).model is Person
    lost = AnswerSchema.from_json({**kept, "name": "nowhere:Person"})
    assert lost.model is None
    columns, codes = judged(['{"name": "Eve"}', '{"lang": "de"}'], lost)
    assert columns["name"] == ["Eve", None]
    assert codes == [None, "schema_mismatch"]


def test_models_that_no_name_leads_to_judge_as_long_as_the_process_lives() -> None:
    """
    Made by a call, in a function, several of one name: each judges its own answers, also of a job attached later.
    """
    one, other = pydantic.create_model("Made", v=(bool, ...)), pydantic.create_model("Made", v=(float, ...))
    kept = [answer_schema_of(model).to_json() for model in (one, other)]
    assert [AnswerSchema.from_json(each).model for each in kept] == [one, other]
    assert judged(['{"v": "yes"}'], AnswerSchema.from_json(kept[0])) == ({"v": [True]}, [None])
    assert judged(['{"v": "1.5"}'], AnswerSchema.from_json(kept[1])) == ({"v": [1.5]}, [None])


def test_an_optional_field_may_be_left_out() -> None:
    """
    A JSON Schema is judged as it was given, not in the form that strict decoding takes.
    """
    given = {"type": "object", "required": ["a"],
             "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "integer", "default": 3}}}  # fmt: skip
    columns, codes = judged(
        ['{"a": "x"}', '{"a": "x", "b": 1, "more": 2}', '{"b": 1}'], answer_schema_of(given)
    )
    assert codes == [None, None, "schema_mismatch"]
    assert columns == {"a": ["x", "x", None], "b": [None, 1, None], "c": [3, 3, None]}


TAGS = [
    *[(f"<{tag}>", f"</{tag}>") for tag in ("think", "THINK", "thinking", "thought", "reasoning", "reflection")],
    *[(f"<{tag}>", f"</{tag}>") for tag in ("analysis", "scratchpad", "seed:think")],
    ("<think id='1'>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
]  # fmt: skip


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_thoughts_of_every_model_are_cut_off(opening: str, closing: str) -> None:
    """
    However a model marks its thoughts: what it says afterwards counts, and an answer within them never does.
    """
    schema = answer_schema_of({"s": ["pos", "neg"]})
    said = [
        f"{opening}{DRAFT}{closing}{FINAL}",
        f"{opening}perhaps\n{FENCE % DRAFT}\n{closing}\n{FENCE % FINAL}",
    ]
    unfinished = [f"{opening}{DRAFT}", f"{opening}{DRAFT}{closing}", f"{opening}{closing}\n"]
    assert judged(said, schema) == ({"s": ["pos", "pos"]}, [None, None])
    assert judged(unfinished, schema)[1] == ["invalid_json"] * 3


def test_an_answer_before_a_thought_is_found() -> None:
    """
    A model that thinks it over again after it has answered has answered.
    """
    said = [f"{FINAL} <think>{DRAFT}?</think>", f"<think>so</think>{FINAL}<think>{DRAFT}</think>\n"]
    assert judged(said, answer_schema_of({"s": ["pos", "neg"]})) == ({"s": ["pos", "pos"]}, [None, None])


class Measured(pydantic.BaseModel):
    count: int | None = None
    share: float | None = None


def test_a_number_beyond_all_floats_is_not_taken_for_no_number() -> None:
    """
    ``1e400`` where a number may be missing is a wrong answer, not an answer that says nothing.
    """
    texts = ['{"count": 1e400}', 'It is {"share": -1e999}.', '{"count": null}', '{"share": 0.5}']
    columns, codes = judged(texts, answer_schema_of(Measured))
    assert codes == ["schema_mismatch", "schema_mismatch", None, None]
    assert columns == {"count": [None, None, None, None], "share": [None, None, None, 0.5]}
