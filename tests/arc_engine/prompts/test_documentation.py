"""docs/prompts.md is current, complete and true."""

from pathlib import Path
from typing import get_args

import pytest

from arc_engine.encoders import ENCODERS, Refusal, parse_encoder
from arc_engine.prompts import PromptVersion
from arc_engine.prompts.chat import Frame
from arc_engine.prompts.documentation import CHATML, ENCODER_EXAMPLES, REFUSED_EXAMPLES, render
from tests.fixtures import chat_tokenizers

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[3] / "docs" / "prompts.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), "make docs writes it anew"


def test_every_version_encoder_and_refusal_is_on_the_page():
    headings = {line.removeprefix("### ").strip("`") for line in render().splitlines() if line.startswith("### ")}
    assert headings == {*get_args(PromptVersion), "input-from-inputs", *ENCODERS, "Nested"}
    assert [expression.partition("(")[0] for expression in ENCODER_EXAMPLES] == list(ENCODERS)
    assert {reason for reason, *_ in REFUSED_EXAMPLES} == set(Refusal) - {Refusal.UNFINISHED}


@pytest.mark.parametrize(("reason", "expression", "text"), [example[:3] for example in REFUSED_EXAMPLES])
def test_every_refused_answer_on_the_page_is_refused_for_that_reason(reason, expression, text):
    assert parse_encoder(expression).decode(text) is reason


def test_the_conversation_on_the_page_is_what_such_a_template_writes():
    assert Frame.of(chat_tokenizers.chat_tokenizer(chat_tokenizers.CHATML)) == CHATML
