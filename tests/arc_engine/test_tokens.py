"""From segments to token ids, and back to the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.encoders import CoordinateEncoder, MinimalGridEncoder, RepeatNumberEncoder, parse_encoder
from arc_engine.errors import EncoderUnsupported
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts import Segment, render
from arc_engine.tasks import Pair
from arc_engine.tokens import CONTEXT, encoder_for, tokenize
from tests.fixtures.grid_strategies import small_grids

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer(model_max_length=4096)
WITHOUT_START = build_tokenizer(model_max_length=4096)
WITHOUT_START.bos_token = None
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id


def decode(ids):
    return TOKENIZER.decode(ids, skip_special_tokens=False)


def test_answers_are_closed_and_counted():
    tokens = tokenize([Segment("I1O"), Segment("2", answer=0), Segment("I3O"), Segment("45", answer=1)], TOKENIZER)
    assert decode(tokens.ids) == "<bos>I1O2<eos>I3O45<eos>"
    assert tokens.answers == (*(CONTEXT,) * 4, 0, 0, *(CONTEXT,) * 3, 1, 1, 1)
    assert len(tokens) == 12
    assert tokens.ids[0] == BOS
    assert tokens.ids[-1] == EOS


def test_an_open_query_ends_without_an_end():
    tokens = tokenize([Segment("2", answer=0), Segment("I3O")], TOKENIZER)
    assert decode(tokens.ids) == "<bos>2<eos>I3O"


def test_a_tokenizer_without_a_start_token_starts_with_the_text():
    assert decode(tokenize([Segment("I1O")], WITHOUT_START).ids) == "I1O"


@given(st.lists(st.builds(Pair, small_grids, small_grids), min_size=1, max_size=4), small_grids)
def test_a_prompt_for_sampling_is_how_a_training_sequence_begins(pairs, query):
    """What the model is asked at sampling time is, token for token, what it has learned to continue."""
    encoder = parse_encoder("MinimalGridEncoder()")
    asked = tokenize(render(pairs, query=query, encoder=encoder), TOKENIZER)
    trained = tokenize(render([*pairs, Pair(query, ((1, 2),))], query=None, encoder=encoder), TOKENIZER)
    assert trained.ids[: len(asked)] == asked.ids
    assert decode(trained.ids[len(asked) :]) == "12<eos>"
    assert set(trained.answers[len(asked) :]) == {len(pairs)}


def test_the_encoder_asked_for_goes_before_the_tokenizers_own():
    coordinates = build_tokenizer("CoordinateEncoder()", model_max_length=64)
    assert encoder_for(None, coordinates) == CoordinateEncoder()
    assert encoder_for("RepeatNumberEncoder(2)", coordinates) == RepeatNumberEncoder(2)


def test_a_tokenizer_that_names_no_encoder_reads_plain_digits():
    tokenizer = build_tokenizer(model_max_length=64)
    del tokenizer.init_kwargs["grid_encoder"]
    assert encoder_for(None, tokenizer) == MinimalGridEncoder()


@pytest.mark.parametrize("named", ["eval()", "", 3, None, ["MinimalGridEncoder()"]])
def test_a_tokenizer_that_names_no_known_encoder_is_refused_by_place(named):
    tokenizer = build_tokenizer(model_max_length=64)
    tokenizer.init_kwargs["grid_encoder"] = named
    with pytest.raises(EncoderUnsupported, match=r"tokenizer_config\.json: grid_encoder: "):
        encoder_for(None, tokenizer)
