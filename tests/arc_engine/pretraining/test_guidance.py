"""Where cells come from, which tokens those are, and the loss of looking elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from transformers import LlamaForCausalLM

from arc_engine.grids import grid_from_array
from arc_engine.pretraining.batches import IGNORED, BatchStream, collate
from arc_engine.pretraining.coordinates import settle_coordinates
from arc_engine.pretraining.corpus import Corpus, TracedPrompt
from arc_engine.pretraining.export import export
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.guidance import Guide
from arc_engine.pretraining.model import batch_loss, build_model
from arc_engine.pretraining.origins import NOWHERE, links, origins
from arc_engine.pretraining.recipe import Recipe
from arc_engine.pretraining.run import LOG_NAME, Pretraining, pretrain
from arc_engine.pretraining.tokenizer import FIRST_CELL, build_tokenizer
from arc_engine.tasks import Pair
from arc_engine.tokens import TokenizedPrompt
from arc_engine.views import NUM_DIHEDRAL, View
from tests.arc_engine.pretraining.tiny import tiny_recipe

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer("CoordinateEncoder()", model_max_length=4096)
GRID = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)


def guided(*, families: tuple[str, ...] = ("flip",), guidance: dict[str, Any] | None = None, **more: Any) -> Recipe:
    stage = {"name": "all", "until": 1.0, "max_side": 4, "families": families, "max_tokens": 256, "batch_tokens": 512}
    fields = {
        "grid_encoder": "CoordinateEncoder()",
        "model": {"hidden_size": 32, "num_layers": 2, "intermediate_size": 64, "num_heads": 2},
        "stages": [stage],
        "guidance": {"reading_layer": 0, "applying_layer": 1, **(guidance or {})},
    }
    return tiny_recipe(**{**fields, **more})


def drawn(recipe: Recipe, *, num: int = 12) -> list[TracedPrompt]:
    corpus, rng = Corpus(recipe, TOKENIZER, arc_tasks=()), np.random.default_rng(0)
    return [corpus.sequence(rng, progress=0.5) for _ in range(num)]


def output_cells(prompt: TokenizedPrompt) -> list[int]:
    pairs = zip(prompt.ids, prompt.answers, strict=True)
    return [place for place, (token, answer) in enumerate(pairs) if token >= FIRST_CELL and answer >= 0]


@pytest.mark.parametrize(
    ("apply", "expected"),
    [
        (lambda grid: grid, [[0, 1, 2], [3, 4, 5]]),
        (np.fliplr, [[2, 1, 0], [5, 4, 3]]),
        (np.transpose, [[0, 3], [1, 4], [2, 5]]),
        (lambda grid: np.tile(grid[:1], 2), [[0, 1, 2, 0, 1, 2]]),
        (lambda grid: (grid + 1) % 10, [[0, 1, 2], [3, 4, 5]]),
        (lambda grid: np.pad(grid[:1, :1], 1), [[NOWHERE] * 3, [NOWHERE, 0, NOWHERE], [NOWHERE] * 3]),
        (lambda grid: (grid[:1] + grid[1:]) % 10, [[NOWHERE] * 3]),
        (lambda grid: grid[:, : 1 + grid[0, 0] % 2], [[NOWHERE, 1], [3, 4]]),
        (lambda grid: grid[int(np.flatnonzero(grid[:, 0] == 1)[0])][None], [[NOWHERE, 1, 2]]),
    ],
    ids=[
        "copy",
        "flip",
        "transpose",
        "tile",
        "recolour",
        "border",
        "two cells each",
        "shape by the first cell",
        "not for all",
    ],
)
def test_origins_of(apply: Any, expected: list[list[int]]) -> None:
    before = GRID.copy()
    assert origins(apply, before).tolist() == expected
    assert (before == GRID).all()


@pytest.mark.parametrize("dihedral", range(NUM_DIHEDRAL))
def test_links_join_the_tokens_of_both_cells(dihedral: int) -> None:
    colours = tuple(np.random.default_rng(dihedral).permutation(10).tolist())
    view, corpus = View(dihedral, colours), Corpus(guided(), TOKENIZER, arc_tasks=())
    grids = [GRID, np.array([[7, 8], [9, 0]], dtype=np.uint8)]
    pairs = [Pair(grid_from_array(grid), grid_from_array(np.fliplr(grid))) for grid in grids]
    prompt = corpus.tokens_of([view.apply_pair(pair) for pair in pairs])
    found = links(prompt, pairs, [origins(np.fliplr, grid) for grid in grids], view=view)
    # Every output cell once, in the order of the prompt; no colour occurs twice in a grid, so that it tells the origin.
    assert found[:, 0].tolist() == output_cells(prompt)
    for after, before in found:
        assert prompt.answers[before] < 0
        assert before < after
        assert (prompt.ids[after] - prompt.ids[before]) % 10 == 0
    assert len({before for _, before in found}) == len(found)


def test_guidance_leaves_the_prompts_as_they_are() -> None:
    families = ("flip", "tile", "gravity", "compose_two")
    recipe = guided(families=families)
    with_links, without = drawn(recipe), drawn(recipe.model_copy(update={"guidance": None}))
    assert [one.prompt for one in with_links] == [one.prompt for one in without]
    assert all(len(one.links) for one in with_links)
    assert not any(len(one.links) for one in without)


def test_links_end_before_what_is_cut_off_or_too_large() -> None:
    [stage] = guided().stages
    short = stage.model_copy(update={"max_tokens": 90})
    for recipe in (guided(), guided(guidance={"max_cells": 9}), guided(stages=[short])):
        for one in drawn(recipe):
            assert set(one.links[:, 0]) <= set(output_cells(one.prompt))
            assert one.links.max(initial=0) < len(one.prompt)
    assert any(len(one.links) == 0 for one in drawn(guided(guidance={"max_cells": 9}), num=30))


def test_loss_is_that_of_the_attention_which_transformers_computes() -> None:
    recipe = guided(guidance={"weight": 0.5, "head": 1}, families=("flip", "add_border"))
    batch = BatchStream(Corpus(recipe, TOKENIZER, arc_tasks=()), recipe).next_batch(0.0)
    model = build_model(recipe)
    assert recipe.guidance is not None
    guide = Guide(recipe.guidance, batch)
    batch_loss(model, batch, forward=Forward(), watch=guide.watch)
    settle_coordinates(model)
    plain = LlamaForCausalLM._from_config(model.config, attn_implementation="eager")
    plain.load_state_dict(model.state_dict())
    expected, start = 0.0, 0
    assert len(batch.lengths) > 1
    for length in batch.lengths:
        ids, targets = (one[:, start : start + length] for one in (batch.ids, batch.targets))
        reading, applying = (layer[0, 1].log() for layer in plain(ids, output_attentions=True).attentions)
        for cell, origin in (batch.links - start).tolist():
            if 0 <= cell < length:
                expected -= reading[cell, origin].item()
                if targets[0, cell - 1] != IGNORED:
                    expected -= applying[cell - 1, origin].item()
        start += length
    assert guide.loss().item() == pytest.approx(0.5 * expected / batch.num_targets, rel=1e-4)


def test_cells_are_recalled_that_had_the_same_colours() -> None:
    recipe = guided(guidance={"recalling_layer": 1}, families=("recolour_map",))
    assert recipe.guidance is not None
    corpus = Corpus(recipe, TOKENIZER, arc_tasks=())
    pairs = [Pair(((1, 2, 1),), ((3, 4, 3),)), Pair(((1, 5),), ((3, 6),)), Pair(((2, 5), (1, 1)), ((4, 6), (7, 3)))]
    apply = [np.array(origins) for origins in ([[0, 1, 2]], [[0, 1]], [[0, 1], [2, 3]])]
    prompt = corpus.tokens_of(pairs)
    other = corpus.tokens_of(pairs[:2])
    both = [links(prompt, pairs, apply, view=View()), links(other, pairs[:2], apply[:2], view=View())]
    batch = collate([prompt, other], links=both)
    cells = batch.links[:, 0].tolist()
    found = [[cells.index(place) for place in np.flatnonzero(row)] for row in Guide(recipe.guidance, batch)._alike()]
    # The outputs are 3 4 3, 3 6 and 4 6 7 3; then 3 4 3 and 3 6 again, of another sequence.
    assert found == [[], [], [0], [0, 2], [], [1], [4], [], [0, 2, 3], [], [], [9], [9, 11], []]


def test_heads_learn_to_look_there(tmp_path: Path) -> None:
    recipe = guided(families=("copy",), optimisation={"muon_learning_rate": 0.03, "adamw_learning_rate": 0.01})
    run = Pretraining(recipe, out_dir=tmp_path)
    while run.state.step < 60:
        run.step(0.0)
    found = [json.loads(line)["guidance_loss"] for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


@pytest.mark.parametrize(("recalling", "expected"), [(None, "layers 0, 1"), (2, "layers 0, 1, 2")])
def test_the_card_names_all_that_were_shown(recalling: int | None, expected: str, tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_layers": 3, "intermediate_size": 64, "num_heads": 2}
    recipe = guided(model=shape, guidance={"recalling_layer": recalling}, max_steps=1)
    pretrain(recipe, out_dir=tmp_path / "run")
    export(recipe, run_dir=tmp_path / "run", out_dir=tmp_path / "out")
    assert f"Head 0 of {expected}, counted from 0, was shown" in (tmp_path / "out/README.md").read_text()


def test_batches_of_a_step_count_by_their_targets(tmp_path: Path) -> None:
    recipe = guided(guidance={"recalling_layer": 1}, gradient_accumulation=3)
    run = Pretraining(recipe, out_dir=tmp_path)
    stream = BatchStream(run.corpus, recipe)
    batches = [stream.next_batch(0.0) for _ in range(3)]
    apart = [run._losses(batch)[1].item() * batch.num_targets for batch in batches]
    run.step(0.0)
    [record] = map(json.loads, (tmp_path / LOG_NAME).read_text().splitlines())
    expected = sum(apart) / sum(batch.num_targets for batch in batches)
    assert record["guidance_loss"] == pytest.approx(expected, abs=1e-4)
    assert len({batch.num_targets for batch in batches}) > 1


def test_a_batch_without_links_has_no_such_loss() -> None:
    recipe = guided(families=("fill_with_commonest",), guidance={"max_cells": 0})
    batch = BatchStream(Corpus(recipe, TOKENIZER, arc_tasks=()), recipe).next_batch(0.0)
    assert recipe.guidance is not None
    guide = Guide(recipe.guidance, batch)
    batch_loss(build_model(recipe), batch, forward=Forward(), watch=guide.watch)
    assert guide.loss().item() == 0
    guide.loss().backward()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"grid_encoder": "MinimalGridEncoder()"}, "grid_encoder"),
        ({"guidance": {"applying_layer": 2}}, "layers are 0 to 1"),
        ({"guidance": {"head": 2}}, "heads are 0 to 1"),
    ],
)
def test_what_cannot_be_guided_is_refused(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        guided(**changes)
