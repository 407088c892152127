"""Sequences of several adapters as one rectangle: nothing lost, nothing twice, every target where it is predicted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.adaptation import passes
from arc_engine.adaptation.batches import batch_loss
from arc_engine.adaptation.batches import collate as plain_collate
from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.packed_batch import MAX_OWN_PADDING, collate, portions_of
from arc_engine.adaptation.run import Run
from arc_engine.base_models.loading import load_base
from arc_engine.settings import PromptSettings
from tests.arc_engine.adaptation.adapting import TASK, adapt_to, changed
from tests.arc_engine.adaptation.packing import Wanted, assert_same, every_kind, in_float64, square, train_all

LONG = Example(ids=(1, 20, 21, 22, 23, 24, 2), is_target=(False, False, False, True, False, True, True))
SHORT = Example(ids=(1, 30, 31, 2), is_target=(False, False, True, True))


def of_length(length):
    return Example(tuple(range(5, 5 + length)), (*(place % 3 == 1 for place in range(length - 1)), True))


examples = st.lists(st.integers(2, 40).map(of_length), min_size=1, max_size=9)


def test_a_batch_is_padded_on_the_right_and_its_targets_are_where_they_are_predicted():
    (whole,), (other,) = (portions_of([SHORT]), portions_of([LONG, LONG]))
    batch = collate([whole, other], device="cpu")
    assert (batch.num_slots, batch.num_rows, batch.length, batch.num_computed) == (2, 2, 6, 24)
    assert batch.input_ids.tolist() == [
        [1, 30, 31, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 20, 21, 22, 23, 24],
        [1, 20, 21, 22, 23, 24],
    ]
    assert batch.labelled.tolist() == [[1, 2, 0, 0, 0, 0], [2, 4, 5, 8, 10, 11]]
    assert batch.target_ids.tolist() == [[31, 2, 0, 0, 0, 0], [22, 24, 2, 22, 24, 2]]
    torch.testing.assert_close(batch.weights, torch.tensor([[1 / 2] * 2 + [0] * 4, [1 / 6] * 6]))


@given(st.lists(examples, min_size=1, max_size=4))
def test_every_target_is_predicted_once_with_its_share_of_the_loss(batches):
    parts = [portions_of(batch) for batch in batches]
    for step in range(max(map(len, parts))):
        portions = [part[step] for part in parts if step < len(part)]
        batch = collate(portions, device="cpu")
        assert batch.weights.dtype == torch.float32
        for slot, portion in enumerate(portions):
            weights, places = batch.weights[slot], batch.labelled[slot]
            is_real = weights > 0
            found = [
                (divmod(place, batch.length), token)
                for place, token in zip(places[is_real].tolist(), batch.target_ids[slot][is_real].tolist(), strict=True)
            ]
            assert found == [
                ((row, place - 1), example.ids[place])
                for row, example in enumerate(portion.examples)
                for place in range(1, len(example))
                if example.is_target[place]
            ]
            assert weights[is_real].tolist() == pytest.approx([1 / portion.num_labelled] * len(found))
    for part in parts:
        assert sum(sum(sum(one.is_target) for one in each.examples) / each.num_labelled for each in part) == (
            pytest.approx(1)
        )


@given(examples)
def test_a_step_is_cut_into_portions_that_hold_every_sequence_once_and_little_padding(batch):
    portions = portions_of(batch)
    assert sorted(row for portion in portions for row in portion.rows) == list(range(len(batch)))
    for portion in portions:
        assert portion.examples == tuple(batch[row] for row in portion.rows)
        assert portion.num_labelled == sum(sum(example.is_target) for example in batch)
        assert portion.num_padded == len(portion.rows) * portion.length
        assert portion.num_tokens == sum(len(example) - 1 for example in portion.examples)
        assert portion.num_padded - portion.num_tokens <= MAX_OWN_PADDING * portion.num_padded


@given(st.integers(1, 9), st.integers(2, 40))
def test_sequences_of_one_length_are_one_portion_in_their_order(num_examples, length):
    (portion,) = portions_of([of_length(length)] * num_examples)
    assert portion.rows == tuple(range(num_examples))


@given(examples)
def test_halves_are_the_whole(batch):
    for portion in portions_of(batch):
        halves = portion.halves()
        assert tuple(row for half in halves for row in half.rows) == portion.rows
        assert tuple(example for half in halves for example in half.examples) == portion.examples
        assert {half.num_labelled for half in halves} == {portion.num_labelled}
        assert len(halves) == min(2, len(portion.rows))
        assert len({len(half.rows) for half in halves}) == 1 or abs(len(halves[0].rows) - len(halves[1].rows)) == 1


@pytest.fixture(scope="module")
def exact(tiny_base):
    return in_float64(tiny_base)


@pytest.mark.parametrize("name", ["tiny_base", "tiny_qwen2"])
def test_the_loss_of_a_step_is_that_of_transformers_on_the_labelled_tokens(name, request):
    base = load_base(request.getfixturevalue(name), device="cpu")
    wanted = Wanted(changed(batch_size=5, max_steps=1), (square(5), square(2), TASK))
    run = Run(base, wanted.tasks, settings=wanted.settings, prompt=PromptSettings(), observe=wanted.observe)
    run.begin_step()
    drawn = [(row, one) for part in run._batch for row, one in zip(part.rows, part.examples, strict=True)]
    assert len({len(example) for _, example in drawn}) > 1
    with torch.no_grad():
        expected = batch_loss(base.model, plain_collate([example for _, example in sorted(drawn)], device="cpu")).item()
    _, steps = adapt_to(base, *wanted.tasks, settings=wanted.settings)
    assert steps[0].loss == pytest.approx(expected, rel=1e-5)


def test_logits_that_are_made_in_parts_give_the_same_and_are_never_made_at_once(exact, monkeypatch):
    kinds = [every_kind(exact)[name] for name in ("plain", "clipped", "common", "pissa")]
    expected = train_all(exact, *kinds)
    sizes = []
    output_layer = exact.model.get_output_embeddings()
    monkeypatch.setattr(passes, "MAX_LOGITS", 3_000)
    with output_layer.register_forward_hook(lambda _layer, _inputs, logits: sizes.append(logits.numel())):
        found = train_all(exact, *kinds)
    for trial, other in zip(found, expected, strict=True):
        assert_same(trial, other, tolerance=1e-12)
    # A part is whole positions of every slot: at most one more than its share.
    assert 1_500 < max(sizes) <= 3_000 + 4 * output_layer.weight.shape[0]
