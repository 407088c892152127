"""The character tokenizer, saved and loaded again as users will."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from arc_engine.encoders import GridShapeEncoder, MinimalGridEncoder, RowNumberEncoder
from arc_engine.pretraining.tokenizer import CHARACTERS, VOCABULARY, build_tokenizer, save_tokenizer

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, model_max_length=4096)
    return AutoTokenizer.from_pretrained(folder)


@given(text=st.text(alphabet="".join(CHARACTERS)))
def test_round_trip_is_one_token_per_character(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == [VOCABULARY[character] for character in text]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_nothing_is_added_by_itself(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.encode("12") == tokenizer.encode("12", add_special_tokens=False)
    specials = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    assert specials == (0, 1, 2, 3)
    assert len(tokenizer) == len(VOCABULARY) == 100


def test_every_encoder_can_be_written(tokenizer: PreTrainedTokenizerFast) -> None:
    text = GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder())).encode(((0, 1), (8, 9)))
    assert tokenizer.unk_token_id not in tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.encode("é", add_special_tokens=False) == [tokenizer.unk_token_id]


def test_specials_vanish_from_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [*tokenizer.encode("1\n2", add_special_tokens=False), tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "1\n2"
    assert build_tokenizer(model_max_length=8).model_max_length == 8
