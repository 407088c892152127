"""Sequences of several tasks: every task equally often, those that cannot fit named."""

import random
from collections import Counter

import pytest

from arc_engine.adaptation.examples import ExampleSource
from arc_engine.adaptation.mixture import TaskMixture
from arc_engine.errors import EncoderUnsupported, TaskTooLong
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Pair, Task
from tests.fixtures.merging_tokenizers import merging_tokenizer

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer(model_max_length=4096)
PROMPT = PromptSettings()
SETTINGS = AdaptationSettings(augmentation={"colours": False}, seed=5)


def task_of(colour, *, size=1):
    grid = ((colour,) * size,) * size
    return Task(train=(Pair(grid, grid), Pair(grid, grid)), test=(grid,))


def mixture(tasks, *, settings=SETTINGS, prompt=PROMPT, max_tokens=200):
    return TaskMixture(tasks, settings=settings, prompt=prompt, tokenizer=TOKENIZER, max_tokens=max_tokens)


def colour_of(example):
    return int(TOKENIZER.decode(example.ids[2:3], skip_special_tokens=False))  # <bos>, I, then the first cell


def test_every_task_is_drawn_equally_often():
    examples = mixture([task_of(colour) for colour in (1, 2, 3)])
    counts = Counter(colour_of(examples.draw()) for _ in range(3000))
    assert set(counts) == {1, 2, 3}
    assert all(900 < count < 1100 for count in counts.values())
    assert examples.left_out == ()


def test_a_single_task_is_drawn_as_its_own_source_draws_it():
    task = Task(train=(Pair(((1, 2),), ((3,),)), Pair(((4,),), ((5, 6),)), Pair(((7,),), ((8,),))), test=(((1,),),))
    examples = mixture([task])
    source = ExampleSource(
        task,
        settings=SETTINGS,
        writer=PromptWriter.of(PromptSettings(), TOKENIZER),
        max_tokens=200,
        rng=random.Random("adaptation 5"),
    )
    assert [examples.draw() for _ in range(20)] == [source.draw() for _ in range(20)]


def test_tasks_that_fit_into_no_sequence_are_left_out_and_named():
    long = task_of(9, size=10)
    examples = mixture([long, task_of(1), long, task_of(2)])
    assert examples.left_out == (0, 2)
    assert {colour_of(examples.draw()) for _ in range(100)} == {1, 2}


def test_tasks_that_are_left_out_change_nothing_for_the_others():
    long = task_of(9, size=10)
    with_it, without = mixture([task_of(1), long, task_of(2)]), mixture([task_of(1), task_of(2)])
    assert [with_it.draw() for _ in range(50)] == [without.draw() for _ in range(50)]


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_that_fits_is_an_error(count):
    with pytest.raises(TaskTooLong, match="200 tokens"):
        mixture([task_of(9, size=10)] * count)


def test_no_task_at_all_is_an_error():
    with pytest.raises(ValueError, match="no task"):
        mixture([])


def test_the_seed_decides():
    tasks = [task_of(colour) for colour in range(1, 6)]
    other = SETTINGS.model_copy(update={"seed": 6})
    mixtures = mixture(tasks), mixture(tasks), mixture(tasks, settings=other)
    drawn = [[examples.draw() for _ in range(20)] for examples in mixtures]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_the_tokenizer_cannot_write_is_refused():
    greek = PromptSettings(grid_encoder=f"ReplaceNumberEncoder(MinimalGridEncoder(), {list('αβγδεζηθικ')})")
    with pytest.raises(EncoderUnsupported):
        mixture([task_of(1)], prompt=greek)


def test_a_task_that_seldom_fits_is_trained_on_all_the_same():
    # Where two zeros are one token, and two ones, rows that turn into both fit: under one view in 45.
    row, other = ((2,) * 20,), ((3,) * 20,)
    task = Task(train=(Pair(row, other), Pair(row, other)), test=(row,))
    examples = TaskMixture(
        [task],
        settings=AdaptationSettings(augmentation={"dihedral": False}),
        prompt=PROMPT,
        tokenizer=merging_tokenizer(),
        max_tokens=1 + 2 * (1 + 10 + 1 + 10 + 1),
    )
    assert {len(examples.draw()) for _ in range(60)} == {47}
