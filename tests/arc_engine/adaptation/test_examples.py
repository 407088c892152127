"""Leave-one-out examples: views of the original task, every pair held out, targets only where the settings say."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.adaptation.examples import ExampleSource, draw_example
from arc_engine.errors import TaskTooLong
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, AugmentationSettings, ExampleSettings, PromptSettings
from arc_engine.tasks import Pair, Task
from arc_engine.views import NUM_DIHEDRAL, View, ViewDistribution
from tests.fixtures.merging_tokenizers import merging_tokenizer

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer(model_max_length=4096)
UNCHANGED = AugmentationSettings(dihedral=False, colours=False)


def square(size, colour):
    return ((colour,) * size,) * size


def task_of(sizes):
    """Pair i: an all-i square of the given size, onto an all-(i + 5) square of that size."""
    pairs = tuple(Pair(square(size, i), square(size, i + 5)) for i, size in enumerate(sizes))
    return Task(train=pairs, test=(square(1, 0),))


def source(task, *, max_tokens=4096, augmentation=UNCHANGED, seed=0, tokenizer=TOKENIZER, stand_in=None, **examples):
    return ExampleSource(
        task,
        settings=AdaptationSettings(examples=ExampleSettings(**examples), augmentation=augmentation),
        writer=PromptWriter.of(PromptSettings(), tokenizer),
        max_tokens=max_tokens,
        rng=random.Random(seed),
        stand_in=stand_in,
    )


def text(ids):
    return TOKENIZER.decode(ids, skip_special_tokens=False)


def held_out(example):
    """Which pair of a `task_of` small squares stands last, unaugmented."""
    return int(text(example.ids).removesuffix("<eos>")[-1]) - 5


def target_text(example):
    return text([token for token, is_target in zip(example.ids, example.is_target, strict=True) if is_target])


def is_view_of(pairs, task):
    """Whether some single view turns the task's pairs, in some order, into `pairs`."""
    for dihedral in range(NUM_DIHEDRAL):
        seen = Counter(
            View(dihedral=dihedral, colours=colours).apply_pair(pair)
            for pair in task.train
            for colours in [colours_between(task, pairs, dihedral)]
        )
        if seen == Counter(pairs):
            return True
    return False


def colours_between(task, pairs, dihedral):
    """Pairs of `task_of` are all of one colour each: the permutation can be read off by their sizes, which differ."""
    colours = dict.fromkeys(range(10))
    by_size = {len(pair.input): pair for pair in pairs}
    for pair in task.train:
        for own, seen in ((pair.input, by_size[len(pair.input)].input), (pair.output, by_size[len(pair.input)].output)):
            colours[own[0][0]] = seen[0][0]
    free = iter(sorted(set(range(10)) - set(colours.values())))
    return tuple(next(free) if colour is None else colour for colour in colours.values())


@given(st.integers(0, 2**31))
def test_every_example_is_a_view_of_the_original_task(seed):
    task = task_of([1, 2, 3])
    rng = random.Random(seed)
    for _ in range(3):  # later draws do not build on earlier ones
        assert is_view_of(draw_example(task, rng=rng, views=ViewDistribution()), task)


@pytest.mark.parametrize("pair_order", [True, False])
def test_every_pair_is_equally_often_the_held_out_one(pair_order):
    task = task_of([1, 2, 3])
    views = ViewDistribution(dihedral=False, colours=False, pair_order=pair_order)
    rng = random.Random(0)
    drawn = [draw_example(task, rng=rng, views=views) for _ in range(3000)]
    held_out = Counter(pairs[-1] for pairs in drawn)
    assert set(held_out) == set(task.train)
    assert all(900 < count < 1100 for count in held_out.values())
    assert len(set(drawn)) == (6 if pair_order else 3)


def test_without_shuffling_the_context_keeps_its_order():
    task = task_of([1, 2, 3, 4])
    views = ViewDistribution(dihedral=False, colours=False, pair_order=False)
    rng = random.Random(0)
    for _ in range(20):
        context = draw_example(task, rng=rng, views=views)[:-1]
        assert list(context) == sorted(context, key=lambda pair: len(pair.input))


@given(st.integers(0, 2**31), st.integers(0, 2))
def test_a_chosen_pair_is_held_out_of_a_view_of_the_original_task(seed, index):
    task = task_of([1, 2, 3])
    pairs = draw_example(task, rng=random.Random(seed), views=ViewDistribution(), held_out=index)
    assert is_view_of(pairs, task)
    assert len(pairs[-1].input) == index + 1


def test_rotation_holds_out_every_pair_in_turn():
    examples = source(task_of([1, 2, 3]), leave_one_out="rotate")
    assert [held_out(examples.draw()) for _ in range(9)] == [0, 1, 2] * 3


def test_rotation_also_shuffles_the_context():
    examples = source(task_of([1, 2, 3]), leave_one_out="rotate")
    assert len({examples.draw().ids for _ in range(100)}) == 6


def test_without_leave_one_out_the_last_pair_is_always_the_target():
    examples = source(task_of([1, 2, 3]), leave_one_out="off")
    drawn = [examples.draw() for _ in range(50)]
    assert {held_out(example) for example in drawn} == {2}
    assert len({example.ids for example in drawn}) == 2, "the two context pairs are still shuffled"


@pytest.mark.parametrize(("swap", "originals"), [(0.0, 1.0), (0.6, 0.6), (1.0, 1 / 3)])
def test_swapping_makes_every_pair_a_target_and_keeps_the_original_one(swap, originals):
    # Of the swaps a third exchange the pair with itself: 1 - 2/3 swap stay.
    examples = source(task_of([1, 1, 1]), leave_one_out="off", swap=swap)
    counts = Counter(held_out(examples.draw()) for _ in range(3000))
    assert counts[2] / 3000 == pytest.approx(originals, abs=0.03)
    assert abs(counts[0] - counts[1]) < 150


def test_swapping_changes_no_shares_where_any_pair_may_be_held_out():
    def shares(swap):
        examples = source(task_of([1, 1, 1]), leave_one_out="random", swap=swap)
        counts = Counter(examples.draw().ids for _ in range(3000))
        return {ids: count / 3000 for ids, count in counts.items()}

    assert shares(1.0) == pytest.approx(shares(0.0), abs=0.04)


def test_swapping_only_exchanges_two_pairs():
    task, views = task_of([1, 2, 3]), AugmentationSettings()
    plain, swapped = (source(task, augmentation=views, leave_one_out="rotate", swap=swap) for swap in (0.0, 1.0))
    for _ in range(50):
        before, after = (text(examples.draw().ids) for examples in (plain, swapped))
        before, after = ([pair for pair in sequence.split("<eos>") if pair] for sequence in (before, after))
        before[0], after[0] = before[0].removeprefix("<bos>"), after[0].removeprefix("<bos>")
        assert sorted(before) == sorted(after), "the same pairs under the same view"
        assert sum(one != other for one, other in zip(before, after, strict=True)) in {0, 2}


def test_a_last_pair_that_cannot_fit_is_too_long_where_no_other_may_be_held_out():
    task = task_of([2, 1, 10])  # 13, 5 and 221 tokens
    assert {held_out(source(task, max_tokens=100, seed=seed).draw()) for seed in range(20)} == {0, 1}
    with pytest.raises(TaskTooLong):
        source(task, max_tokens=100, leave_one_out="off").draw()


def test_a_last_pair_that_cannot_fit_does_not_keep_swapped_ones_from_being_the_target():
    examples = source(task_of([2, 1, 10]), max_tokens=100, leave_one_out="off", swap=0.9)
    assert {held_out(examples.draw()) for _ in range(50)} == {0, 1}


def test_a_last_pair_that_fits_with_some_context_keeps_its_place():
    examples = source(task_of([10, 1, 2]), max_tokens=100, leave_one_out="off")
    assert {text(examples.draw().ids) for _ in range(20)} == {"<bos>I1O6<eos>I22\n22O77\n77<eos>"}


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("test_output", "77\n77<eos>"),
        ("later_outputs", "6<eos>77\n77<eos>"),
        ("all_outputs", "5<eos>6<eos>77\n77<eos>"),
    ],
)
def test_targets_are_the_answers_with_their_ends(loss_on, expected):
    task = task_of([1, 1, 2])
    order = UNCHANGED.model_copy(update={"pair_order": False})
    drawn = [source(task, loss_on=loss_on, augmentation=order, seed=seed).draw() for seed in range(20)]
    as_given = [example for example in drawn if text(example.ids) == "<bos>I0O5<eos>I1O6<eos>I22\n22O77\n77<eos>"]
    assert as_given
    assert {target_text(example) for example in as_given} == {expected}


@pytest.mark.parametrize("loss_on", ["test_output", "later_outputs", "all_outputs"])
def test_the_only_pair_of_a_task_is_its_target(loss_on):
    example = source(task_of([1]), loss_on=loss_on).draw()
    assert text(example.ids) == "<bos>I0O5<eos>"
    assert target_text(example) == "5<eos>"


def test_the_longest_context_pairs_are_dropped_to_fit():
    # Tokens of a pair of n x n squares: I, n(n+1)-1, O, n(n+1)-1, <eos>.
    task = task_of([1, 10, 2])  # 5, 221 and 13 tokens
    examples = source(task, max_tokens=1 + 221 + 13)
    seen = {text(examples.draw().ids) for _ in range(200)}
    lengths = Counter(len(TOKENIZER.encode(sequence, add_special_tokens=False)) for sequence in seen)
    assert set(lengths) == {1 + 221 + 5, 1 + 5 + 13}
    assert any(sequence.endswith(f"O{target}<eos>") for sequence in seen for target in ["5"])
    big = "\n".join(["6" * 10] * 10)
    assert any(sequence.endswith(f"O{big}<eos>") for sequence in seen), "the longest pair is still a target"


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.integers(12, 400), st.integers(0, 1000))
def test_no_sequence_is_longer_than_allowed(sizes, max_tokens, seed):
    task = task_of([min(size, 8) for size in sizes][:5])
    examples = source(task, max_tokens=max_tokens, augmentation=AugmentationSettings(), seed=seed)
    shortest = sorted(2 * (size * (size + 1) - 1) + 3 for size in sizes[:5])[:2]
    if 1 + sum(shortest) > max_tokens:
        with pytest.raises(TaskTooLong):
            examples.draw()
        return
    for _ in range(5):
        example = examples.draw()
        assert len(example) == len(example.is_target) <= max_tokens
        assert any(example.is_target)


def test_a_task_without_two_pairs_that_fit_is_too_long():
    with pytest.raises(TaskTooLong, match="20 tokens"):
        source(task_of([5, 5]), max_tokens=20).draw()


def test_a_task_that_fits_only_under_some_views_is_drawn_under_those():
    wide, narrow = ((1,) * 30,), ((2,),)
    task = Task((Pair(wide, narrow), Pair(wide, narrow)), (narrow,))
    # A row of 30 cells has 30 tokens, the column that it turns into 59.
    examples = source(task, max_tokens=1 + 2 * 34, augmentation=AugmentationSettings())
    assert {len(examples.draw()) for _ in range(50)} == {69}


def test_colours_that_do_not_fit_do_not_keep_others_from_fitting():
    # Where two zeros are one token, and two ones, the row fits if it turns into either: under one view in five.
    row, dot = ((1,) * 20,), ((2,),)
    task = Task((Pair(row, dot), Pair(row, dot)), (dot,))
    recolouring = AugmentationSettings(dihedral=False)
    tokens = {"tokenizer": merging_tokenizer(), "max_tokens": 1 + 2 * (1 + 10 + 1 + 1 + 1)}
    for seed in range(10):
        examples = source(task, augmentation=recolouring, seed=seed, **tokens)
        assert {len(examples.draw()) for _ in range(3)} == {29}


def test_a_stand_in_is_taken_where_nothing_else_is_found_to_fit():
    known = source(task_of([1, 1])).draw()
    examples = source(task_of([5, 5]), max_tokens=20, stand_in=known)
    assert [examples.draw() for _ in range(3)] == [known] * 3
    assert source(task_of([2, 2]), stand_in=known).draw() != known


@pytest.mark.parametrize(("tokenizer", "changes"), [(TOKENIZER, False), (merging_tokenizer(), True)])
def test_where_digits_merge_the_cells_change_the_length(tokenizer, changes):
    assert PromptWriter.of(PromptSettings(), tokenizer).cells_change_length() is changes


def test_the_same_seed_draws_the_same_sequences():
    task = task_of([1, 2, 3])
    first, second, other = (source(task, augmentation=AugmentationSettings(), seed=seed) for seed in (1, 1, 2))
    drawn = [[examples.draw() for _ in range(10)] for examples in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]
