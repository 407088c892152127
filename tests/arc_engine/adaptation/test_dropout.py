"""Dropout: of the adapter alone, from streams that depend on nothing but the run's seed, step, sequence and layer."""

import pytest
import torch

from arc_engine.adaptation.dropout import Dropout, SlotDropout
from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.packed_batch import Portion, collate, portions_of
from arc_engine.base_models.loading import load_base
from tests.arc_engine.adaptation.adapting import adapt_to, changed, losses, numbers
from tests.arc_engine.adaptation.lora_training import fingerprint, global_randomness, stir_global_randomness

WIDTH = 16


def of_length(length):
    return Example(tuple(range(length)), (False,) * (length - 2) + (True, True))


PORTION = Portion((of_length(12), of_length(12), of_length(10)), (0, 1, 2), 6)
OTHER = portions_of([of_length(30)] * 4)[0]


def factors(*slots, site=0, labelled_only=False):
    """`[slots, rows, length, width]`, or `[slots, labelled, width]`."""
    batch = collate([slot.portion for slot in slots], device="cpu")
    size = batch.labelled.shape[1] if labelled_only else batch.num_rows * batch.length
    found = Dropout(slots, batch).kept(site, torch.ones(len(slots), size, WIDTH), labelled_only=labelled_only)
    return found if labelled_only else found.unflatten(1, (batch.num_rows, batch.length))


def dropout(*, probability=0.4, seed=1, step=1, portion=PORTION):
    return SlotDropout(probability, seed, step, portion)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


def test_inputs_are_left_out_or_made_larger_so_that_the_mean_stays():
    found = factors(dropout(probability=0.2, portion=portions_of([of_length(400)] * 4)[0]))
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.8])
    assert found.mean().item() == pytest.approx(1, abs=0.02)


def test_padding_and_slots_without_dropout_are_left_alone():
    found = factors(dropout(), dropout(probability=0.0), dropout(portion=OTHER))
    assert (found[1] == 1).all()
    assert (found[0, 3:] == 1).all(), "rows that the slot does not have"
    assert (found[0, :, 11:] == 1).all(), "what comes after a sequence"
    assert (found[0, 2, 9:] == 1).all()
    assert (found[2] != 1).all()


def test_company_and_the_cut_of_a_batch_make_no_difference():
    alone = factors(dropout())[0]
    assert torch.equal(factors(dropout(seed=5, portion=OTHER), dropout())[1, :3, :11], alone)
    first, second = PORTION.halves()
    assert torch.equal(factors(dropout(portion=first))[0], alone[:1])
    assert torch.equal(factors(dropout(portion=second))[0], alone[1:])


def test_seed_step_sequence_and_layer_make_a_difference_and_nothing_else():
    torch.manual_seed(1)
    plain = factors(dropout())[0]
    torch.manual_seed(2)
    assert torch.equal(factors(dropout())[0], plain)
    assert not torch.equal(factors(dropout(seed=2))[0], plain)
    assert not torch.equal(factors(dropout(step=2))[0], plain)
    assert not torch.equal(factors(dropout(), site=1)[0], plain)
    assert not torch.equal(plain[0], plain[1])


def test_labelled_positions_are_given_what_they_have_among_all():
    whole = factors(dropout(), dropout(portion=OTHER)).flatten(1, 2)
    labelled = factors(dropout(), dropout(portion=OTHER), labelled_only=True)
    batch = collate([PORTION, OTHER], device="cpu")
    for slot in range(2):
        assert torch.equal(labelled[slot], whole[slot][batch.labelled[slot]])


def test_dropout_works_on_the_adapter_alone_and_repeats(base):
    stir_global_randomness()
    before, random_state = fingerprint(base), global_randomness()
    (_, plain), (first, dropped), (second, again) = (
        adapt_to(base, settings=changed(lora_dropout=rate)) for rate in (0.0, 0.5, 0.5)
    )
    assert dropped[0].loss == plain[0].loss, "B is zero: what A is given makes no difference yet"
    assert dropped[0].grad_norm != plain[0].grad_norm
    assert losses(dropped)[1:] != losses(plain)[1:]
    assert numbers(dropped) == numbers(again)
    assert all(torch.equal(tensor, second.adapter.tensors[name]) for name, tensor in first.adapter.tensors.items())
    assert fingerprint(base) == before
    assert global_randomness() == random_state


def test_dropout_works_on_an_initial_adapter_too(base):
    initial = adapt_to(base)[0].adapter
    plain, dropped = (adapt_to(base, settings=changed(lora_dropout=r), initial=initial)[1] for r in (0.0, 0.5))
    assert dropped[0].loss != plain[0].loss


def test_dropout_of_training_depends_on_the_seed_and_not_on_what_is_drawn_elsewhere(base):
    settings = changed(lora_dropout=0.5)
    _, steps = adapt_to(base, settings=settings)
    assert numbers(adapt_to(base, settings=settings, observe=lambda step: torch.rand(step.step))[1]) == numbers(steps)
    stir_global_randomness()
    assert numbers(adapt_to(base, settings=settings)[1]) == numbers(steps)
