"""Training sequences and their micro-batches."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from arc_engine.adaptation.examples import Example
from arc_engine.base_finetuning.corpus import Corpus, draw_pairs
from arc_engine.base_finetuning.data import Part, SolvedTask
from arc_engine.base_finetuning.recipe import Examples, Recipe, TrainingPrompt
from arc_engine.base_finetuning.stream import BatchStream, cut
from arc_engine.errors import PromptUnsupported, TaskTooLong
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.tasks import Pair
from arc_engine.views import ViewDistribution
from tests.arc_engine.base_finetuning.tiny import tiny_recipe

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer(model_max_length=4096)
AS_IT_IS = ViewDistribution(dihedral=False, colours=False, keep_background=0, pair_order=False)
NO_VIEWS = {"dihedral": False, "colours": False, "pair_order": False}


def pair(number: int, *, width: int = 1) -> Pair:
    return Pair(((number,) * width,), ((number,) * width,))


TASK = SolvedTask("t", tuple(pair(n) for n in range(3)), (pair(8), pair(9)))


def recipe(**changes: Any) -> Recipe:
    return tiny_recipe(Path("base"), Path("tasks"), **({"augmentation": NO_VIEWS} | changes))


def corpus(*parts: Part, max_tokens: int = 4096, **changes: Any) -> Corpus:
    return Corpus(recipe(**changes), parts, TOKENIZER, max_tokens=max_tokens)


def part(*tasks: SolvedTask, weight: float = 1.0, **prompt: Any) -> Part:
    return Part(tasks, TrainingPrompt(**prompt), weight)


def text(example: Example) -> str:
    return TOKENIZER.decode(example.ids)


def shown(pairs: tuple[Pair, ...]) -> list[int]:
    return [each.input[0][0] for each in pairs]


def draws(num: int = 400, **examples: Any) -> list[list[int]]:
    rng = random.Random(0)
    return [shown(draw_pairs(TASK, rng=rng, examples=Examples(**examples), views=AS_IT_IS)) for _ in range(num)]


def test_every_pair_is_the_last_one_at_times():
    lasts = Counter(order[-1] for order in draws())
    assert set(lasts) == {0, 1, 2, 8, 9}
    assert min(lasts.values()) > 50
    assert all(sorted(order) == [0, 1, 2, 8, 9] for order in draws(20))


def test_without_leave_one_out_a_test_stands_after_all_demonstrations():
    assert {tuple(order) for order in draws(leave_one_out="off")} == {(0, 1, 2, 8), (0, 1, 2, 9)}


def test_swap_changes_the_last_pair_with_any_and_keeps_the_test_a_target_too():
    lasts = Counter(order[-1] for order in draws(2000, leave_one_out="off", swap=1.0))
    assert set(lasts) == {0, 1, 2, 8, 9}
    assert 400 < lasts[8] + lasts[9] < 600  # one place of four is its own
    assert all(set(order) in ({0, 1, 2, 8}, {0, 1, 2, 9}) for order in draws(leave_one_out="off", swap=1.0))


def test_views_are_drawn_anew_from_the_task_itself():
    found = corpus(part(TASK), augmentation={})
    rng = random.Random(0)
    assert len({text(found.draw(rng)) for _ in range(50)}) > 45


def test_the_mixture_has_its_weights_and_its_prompts():
    found = corpus(part(TASK, weight=3.0), part(TASK, version="input-from-inputs"))
    rng = random.Random(0)
    texts = [text(found.draw(rng)) for _ in range(400)]
    inputs_only = [each for each in texts if "O" not in each]
    assert 70 < len(inputs_only) < 130
    assert inputs_only[0].count("I") == 5


def test_input_from_inputs_asks_for_every_input_but_the_first():
    example = corpus(part(TASK, version="input-from-inputs")).draw(random.Random(0))
    targets = TOKENIZER.decode(
        [token for token, is_target in zip(example.ids, example.is_target, strict=True) if is_target]
    )
    assert len(targets.replace("<eos>", "")) == 4
    assert "I" not in targets


def test_context_goes_before_the_target_when_a_sequence_is_too_long():
    long = SolvedTask("long", (pair(0), pair(1), pair(2, width=20)), (pair(9),))
    rng = random.Random(0)
    found = corpus(part(long), max_tokens=20)
    texts = [text(found.draw(rng)) for _ in range(50)]
    assert all("2" not in each for each in texts)
    assert all(each.count("O") in {2, 3} for each in texts)


def test_tasks_that_cannot_fit_are_named():
    long = SolvedTask("long", (pair(1, width=30), pair(2, width=30)), (pair(9, width=30),))
    found = corpus(part(TASK, long), max_tokens=64)
    assert found.left_out == ("long",)
    assert found.task_ids == ("t",)
    with pytest.raises(TaskTooLong, match="64 tokens"):
        corpus(part(long), max_tokens=64)


def sided(number: int, *, rows: int, columns: int) -> Pair:
    grid = ((number,) * columns,) * rows
    return Pair(grid, grid)


@pytest.mark.parametrize(("leave_one_out", "num_targets"), [("off", 1), ("random", 3)])
def test_tokens_and_not_cells_decide_what_is_dropped(leave_one_out: str, num_targets: int):
    # 30 cells each; a row of them has 30 tokens, a column 59 with its line ends.
    row, column = sided(1, rows=1, columns=30), sided(2, rows=30, columns=1)
    for demonstrations in ((row, column), (column, row)):
        task = SolvedTask("lengthy", demonstrations, (pair(9),))
        found = corpus(part(task), max_tokens=90, examples={"leave_one_out": leave_one_out})
        rng = random.Random(0)
        texts = {text(found.draw(rng)) for _ in range(100)}
        assert all("1" * 30 in each and "2" not in each for each in texts)
        assert len(texts) <= num_targets


def test_a_task_is_drawn_as_often_as_any_other_however_few_of_its_sequences_fit():
    wide = SolvedTask("wide", (pair(1, width=30), pair(2, width=30)), (pair(3, width=30),))
    # Two rows of 30 cells fit, two columns do not.
    found = corpus(part(TASK, wide), max_tokens=130, augmentation=NO_VIEWS | {"dihedral": True})
    rng = random.Random(0)
    lengths = Counter(len(found.draw(rng)) for _ in range(400))
    assert 160 < sum(number for length, number in lengths.items() if length > 60) < 240


def test_a_task_with_one_sequence_among_very_many_that_fits_ends():
    tests = (pair(9), *(pair(8, width=30) for _ in range(2000)))
    found = corpus(part(SolvedTask("rare", (pair(1),), tests)), max_tokens=20, examples={"leave_one_out": "off"})
    assert text(found.draw(random.Random(0))).endswith("O9<eos>")


def test_a_prompt_that_the_tokenizer_cannot_write_is_refused_at_once():
    with pytest.raises(PromptUnsupported):
        corpus(part(TASK, version="chat"))


def test_batches_hold_as_much_as_allowed_and_similar_lengths():
    examples = [Example((0,) * length, (True,) * length) for length in range(1, 60)]
    batches = cut(examples, batch_tokens=100)
    assert [example for batch in batches for example in batch] == examples
    assert all(len(batch) * len(batch[-1]) <= 100 for batch in batches)
    assert len(batches[0]) > len(batches[-1]) == 1


@pytest.mark.parametrize("size", [{"batch_tokens": 128}, {"batch_tokens": None, "batch_size": 5}])
def test_a_restored_stream_goes_on_with_the_very_next_batch(size: dict[str, Any]):
    found = corpus(part(TASK), augmentation={}, **size)
    stream, again = (BatchStream(found, recipe(**size)) for _ in range(2))
    for _ in range(37):
        stream.next_batch()
    again.restore(stream.state)
    for _ in range(3):
        batch = stream.next_batch()
        assert batch == again.next_batch()
        assert len(batch) == size.get("batch_size", len(batch))
