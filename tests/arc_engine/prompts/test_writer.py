"""The tokens that answers are written with."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from arc_engine.encoders import COORDINATE_TOKENS
from arc_engine.grids import Grid
from arc_engine.pretraining.tokenizer import SPECIAL_TOKENS, VOCABULARY, build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from tests.fixtures.chat_tokenizers import CHATML, INSTRUCTIONS, chat_tokenizer
from tests.fixtures.grid_strategies import grids, small_grids
from tests.fixtures.merging_tokenizers import merging_tokenizer

pytestmark = pytest.mark.fast

CHARACTERS = build_tokenizer(model_max_length=4096)
COORDINATES = build_tokenizer("CoordinateEncoder()", model_max_length=4096)
CELLS = ("MinimalGridEncoder()", "GridWithSeparationEncoder('|')", "RepeatNumberEncoder(3)")
LINES = (*CELLS, *(f"ReplaceNumberEncoder({cells}, 'abcdefghij')" for cells in CELLS))
BODIES = (*LINES, *(f"RowNumberEncoder({lines})" for lines in LINES))
ENCODERS = (
    "CoordinateEncoder()",
    *BODIES,
    *(f"{block}({body})" for block in ("GridCodeBlockEncoder", "GridShapeEncoder") for body in BODIES),
)


def grouping_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Takes digits by `size` from the left, every such number being one token, as Llama 3's does by threes."""
    numbers = [f"{number:0{digits}}" for digits in range(2, size + 1) for number in range(10**digits)]
    vocabulary = VOCABULARY | {text: len(VOCABULARY) + place for place, text in enumerate(numbers)}
    model = Tokenizer(WordLevel(vocabulary, SPECIAL_TOKENS["unk_token"]))
    model.pre_tokenizer = Split(Regex(rf"[0-9]{{1,{size}}}|[\s\S]"), behavior="isolated")
    model.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=model, clean_up_tokenization_spaces=False, **SPECIAL_TOKENS)


@cache
def writer(expression: str) -> PromptWriter:
    tokenizer = COORDINATES if expression == "CoordinateEncoder()" else CHARACTERS
    return PromptWriter.of(PromptSettings(grid_encoder=expression), tokenizer)


@cache
def alphabet(expression: str) -> frozenset[int]:
    found = writer(expression).answer_alphabet()
    assert found is not None
    assert list(found) == sorted(set(found))
    return frozenset(found)


@given(st.sampled_from(ENCODERS), grids())
def test_the_alphabet_holds_every_token_of_every_answer(expression: str, grid: Grid) -> None:
    assert set(writer(expression).answer(grid)) <= alphabet(expression)


def test_the_alphabet_holds_nothing_else() -> None:
    tokens = CHARACTERS.convert_ids_to_tokens(sorted(alphabet("MinimalGridEncoder()")))
    assert sorted(tokens) == ["\n", *"0123456789", "<eos>"]
    tokens = CHARACTERS.convert_ids_to_tokens(sorted(alphabet("GridShapeEncoder(MinimalGridEncoder())")))
    assert sorted(tokens) == sorted({"\n", *"0123456789", "<eos>", *"```grid shape: x"})
    tokens = COORDINATES.convert_ids_to_tokens(sorted(alphabet("CoordinateEncoder()")))
    assert sorted(tokens) == sorted([*COORDINATE_TOKENS, "<eos>"])


@given(small_grids, small_grids)
def test_an_answer_is_how_a_training_sequence_ends(query: Grid, output: Grid) -> None:
    written = writer("MinimalGridEncoder()")
    asked = written.question([Pair(query, output)], query).ids
    trained = written.training([Pair(query, output), Pair(query, output)]).ids
    assert trained == (*asked, *written.answer(output))
    assert written.num_answer_tokens(output) == len(trained) - len(asked)


@pytest.mark.parametrize("template", [CHATML, INSTRUCTIONS])
def test_the_alphabet_of_a_chat_closes_its_answers(template: str) -> None:
    chat = PromptWriter.of(PromptSettings(version="chat"), chat_tokenizer(template))
    found = chat.answer_alphabet()
    assert found is not None
    assert {*chat.layout.ends.end, *chat.answer(((1, 2), (3, 4)))} <= set(found)


def test_there_is_no_alphabet_where_some_digits_merge() -> None:
    merging = PromptWriter.of(PromptSettings(), merging_tokenizer())
    assert merging.cells_change_length()
    assert merging.answer_alphabet() is None


def test_there_is_no_alphabet_of_a_thousand_numbers_though_all_grids_of_a_shape_are_of_one_length() -> None:
    by_threes = PromptWriter.of(PromptSettings(), grouping_tokenizer(3))
    assert not by_threes.cells_change_length()
    assert by_threes.answer_alphabet() is None


BY_TWOS = PromptWriter.of(PromptSettings(), grouping_tokenizer(2))
NUMBERS_OF_TWO_DIGITS = frozenset(BY_TWOS.answer_alphabet() or ())


@given(grids())
def test_an_alphabet_of_a_hundred_numbers_is_complete(grid: Grid) -> None:
    assert set(BY_TWOS.answer(grid)) <= NUMBERS_OF_TWO_DIGITS
    assert len(NUMBERS_OF_TWO_DIGITS) == 100 + 10 + 2
