"""Tokens of column and colour: read in one piece, learned in two, and plain rows in the model that comes out."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from transformers import AutoModelForCausalLM, AutoTokenizer

from arc_engine.encoders import COORDINATE_TOKENS, CoordinateEncoder, MinimalGridEncoder
from arc_engine.grids import MAX_SIDE, NUM_COLOURS
from arc_engine.pretraining.checkpoint import latest_checkpoint
from arc_engine.pretraining.coordinates import settle_coordinates, share_coordinates
from arc_engine.pretraining.export import export
from arc_engine.pretraining.model import build_model
from arc_engine.pretraining.run import Pretraining, pretrain
from arc_engine.pretraining.tokenizer import VOCABULARY, build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from tests.arc_engine.pretraining.tiny import tiny_recipe
from tests.fixtures.grid_strategies import grids

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer("CoordinateEncoder()", model_max_length=4096)
RECIPE = tiny_recipe(grid_encoder="CoordinateEncoder()")


@given(grids())
def test_a_grid_takes_a_token_for_every_cell_and_every_row(grid):
    text = CoordinateEncoder().encode(grid)
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert len(ids) == len(grid) * (len(grid[0]) + 1) == len(MinimalGridEncoder().encode(grid)) + 1
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_other_text_is_read_by_the_character():
    assert TOKENIZER.encode("I12\nE9", add_special_tokens=False) == [VOCABULARY[one] for one in "I12\nE9"]
    assert len(TOKENIZER) == len(VOCABULARY) + MAX_SIDE + MAX_SIDE * NUM_COLOURS
    assert len(set(COORDINATE_TOKENS)) == len(COORDINATE_TOKENS)


def row(model, text):
    (token,) = TOKENIZER.encode(text, add_special_tokens=False)
    return model.model.embed_tokens.weight[token]


def test_a_colour_means_the_same_in_every_column_whatever_is_learned(tmp_path: Path):
    run = Pretraining(RECIPE, out_dir=tmp_path)
    before = row(run.model, "a3").detach().clone()
    for _ in range(3):
        run.step(0.0)
    assert not torch.equal(row(run.model, "a3"), before)
    assert not torch.equal(row(run.model, "a3"), row(run.model, "a5"))
    # No grid of the first stage has a fourth column: what its tokens mean is known from the others.
    torch.testing.assert_close(row(run.model, "a3") - row(run.model, "a5"), row(run.model, "d3") - row(run.model, "d5"))


def test_settling_changes_no_logit():
    model = build_model(RECIPE)
    ids = torch.arange(len(TOKENIZER))[None]
    before = model(input_ids=ids).logits
    settle_coordinates(model)
    torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= model.state_dict().keys()
    assert not any("parametrizations" in name for name in model.state_dict())


def test_what_was_settled_can_be_shared_again():
    model = build_model(RECIPE)
    tables = [table.weight.detach().clone() for table in (model.model.embed_tokens, model.lm_head)]
    settle_coordinates(model)
    share_coordinates(model)
    for before, table in zip(tables, (model.model.embed_tokens, model.lm_head), strict=True):
        torch.testing.assert_close(table.weight, before)


def test_what_comes_out_says_how_it_wants_grids_written(tmp_path: Path):
    pretrain(RECIPE, out_dir=tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run") is not None
    export(RECIPE, run_dir=tmp_path / "run", out_dir=tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.vocab_size == len(tokenizer) == len(TOKENIZER)
    pairs = [Pair(((1, 2),), ((2, 1),)), Pair(((3, 4),), ((4, 3),))]
    prompt = PromptWriter.of(PromptSettings(), tokenizer).training(pairs)
    assert tokenizer.decode(prompt.ids) == "<bos>I1:a1b2O1:a2b1<eos>I1:a3b4O1:a4b3<eos>"
    plain = PromptWriter.of(PromptSettings(grid_encoder="MinimalGridEncoder()"), tokenizer).training(pairs)
    assert tokenizer.decode(plain.ids) == "<bos>I12O21<eos>I34O43<eos>"
