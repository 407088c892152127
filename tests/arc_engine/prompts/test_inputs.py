"""The input-from-inputs prompt of base fine-tuning."""

import pytest

from arc_engine.errors import EncoderUnsupported, PromptUnsupported
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.inputs import InputsWriter
from arc_engine.tasks import Pair
from arc_engine.tokens import CONTEXT

pytestmark = pytest.mark.fast

PAIRS = [Pair(((1,),), ((2,),)), Pair(((3, 4),), ((5,), (6,)))]


def test_the_inputs_follow_one_another_and_each_is_an_answer():
    tokenizer = build_tokenizer(model_max_length=4096)
    tokens = InputsWriter.of("RowNumberEncoder(MinimalGridEncoder())", tokenizer).training(PAIRS)
    assert tokenizer.decode(tokens.ids) == "<bos>I1 1<eos>I1 34<eos>"
    assert tokens.answers == (*[CONTEXT] * 2, *[0] * 4, CONTEXT, *[1] * 5)


def test_what_a_tokenizer_cannot_write_is_refused():
    tokenizer = build_tokenizer(model_max_length=4096)
    with pytest.raises(EncoderUnsupported):
        InputsWriter.of("GridWithSeparationEncoder('ö')", tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(PromptUnsupported, match="no end-of-text token"):
        InputsWriter.of("MinimalGridEncoder()", tokenizer)
