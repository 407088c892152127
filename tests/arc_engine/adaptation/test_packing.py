"""Many adapters in one forward pass: each comes out as it does alone, whatever becomes of the others."""

import math
from dataclasses import replace

import pytest
import torch

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.decoders import llama
from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.base_models.loading import load_base
from arc_engine.errors import AdaptationStopped, Diverged
from tests.arc_engine.adaptation.adapting import adapt_to, changed, numbers
from tests.arc_engine.adaptation.lora_training import fingerprint, global_randomness, stir_global_randomness
from tests.arc_engine.adaptation.packing import (
    WIDE,
    Trial,
    Wanted,
    alone,
    assert_same,
    every_kind,
    in_float64,
    train_all,
    watched_passes,
)

IN_FLOAT64 = 1e-12
"""Sums of other lengths round differently, by 1e-16 of what is summed; ten steps of AdamW made 1e-14 of that."""
IN_FLOAT32 = 5e-4
"""The same from 1e-7: ten steps made 5e-7 of that in losses and gradient norms, and up to 7e-5 in matrices, because
AdamW makes a whole step also of a gradient that is hardly more than rounding."""


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def exact(tiny_base):
    return in_float64(tiny_base)


@pytest.fixture(scope="module", params=["ours", "transformers"])
def decoder(request):
    """Who computes the model."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "transformers":
            patch.setattr(llama, "is_supported", lambda base: False)
        yield request.param


@pytest.fixture(scope="module")
def kinds(exact):
    return every_kind(exact)


@pytest.fixture(scope="module")
def by_themselves(exact, kinds, decoder):
    """What becomes of every run without company."""
    return {name: alone(exact, wanted) for name, wanted in kinds.items()}


@pytest.mark.parametrize("max_runs", [3, 5, 17])
def test_in_float64_every_run_is_as_it_is_alone(exact, kinds, by_themselves, max_runs):
    limits = PackLimits(max_runs=max_runs, max_tokens=100_000, max_padding=0.7 if max_runs < 17 else 1.0)
    found = dict(zip(kinds, train_all(exact, *kinds.values(), limits=limits), strict=True))
    for name, trial in found.items():
        assert_same(trial, by_themselves[name], tolerance=IN_FLOAT64)
    company = [trial.adaptation.company for trial in found.values() if trial.adaptation is not None]
    assert sum(company) / len(company) > 0.6 * max_runs, "or nothing is shown"
    assert {name for name, trial in found.items() if trial.error} == {"diverging"}
    assert found["low loss"].adaptation.num_steps == 10


@pytest.mark.parametrize("name", ["tiny_base", "tiny_qwen2"])
def test_in_float32_losses_are_those_of_runs_alone_but_for_rounding(name, request):
    base = load_base(request.getfixturevalue(name), device="cpu")
    kinds = every_kind(base)
    del kinds["diverging"]  # which makes more of a rounding with every step
    for trial, wanted in zip(train_all(base, *kinds.values()), kinds.values(), strict=True):
        assert_same(trial, alone(base, wanted), tolerance=IN_FLOAT32)


def test_one_at_a_time_they_are_bit_for_bit_what_adapt_gives(base):
    kinds = every_kind(base)
    del kinds["diverging"]  # which makes more of a rounding with every step
    for trial, wanted in zip(train_all(base, *kinds.values(), limits=PackLimits()), kinds.values(), strict=True):
        if trial.error is not None:
            assert isinstance(trial.error, Diverged)
            continue
        expected, steps = adapt_to(base, *wanted.tasks, settings=wanted.settings, initial=wanted.initial)
        assert numbers(trial.steps) == numbers(steps)
        assert trial.adaptation.adapter.config == expected.adapter.config
        for tensor_name, tensor in expected.adapter.tensors.items():
            assert torch.equal(trial.adaptation.adapter.tensors[tensor_name], tensor)
        assert (trial.adaptation.company, trial.adaptation.stopped_by) == (1, expected.stopped_by)


def test_recomputed_activations_make_no_difference_in_company(exact, kinds, by_themselves):
    names = ("plain", "dropout", "some layers", "pissa", "common")
    recomputed = [
        replace(kinds[name], settings=kinds[name].settings.model_copy(update={"gradient_checkpointing": True}))
        for name in names
    ]
    for name, trial in zip(names, train_all(exact, *recomputed), strict=True):
        assert_same(trial, by_themselves[name], tolerance=IN_FLOAT64)


@pytest.mark.parametrize("error", [AdaptationStopped("cancelled"), ValueError("a fault of ours")])
def test_an_observer_that_raises_ends_its_own_run_and_its_slot_is_taken(exact, kinds, by_themselves, error):
    def stop(step):
        if step.step == 3:
            raise error

    wanted = [kinds["plain"], replace(kinds["dropout"], observe=stop), kinds["small"], kinds["short"]]
    limits = replace(WIDE, max_runs=3)
    with watched_passes() as passes:
        plain, stopped, small, short = train_all(exact, *wanted, limits=limits)
    assert stopped.error is error
    assert [step.loss for step in stopped.steps] == pytest.approx(
        [step.loss for step in by_themselves["dropout"].steps[:3]], rel=IN_FLOAT64
    )
    for name, trial in (("plain", plain), ("small", small), ("short", short)):
        assert_same(trial, by_themselves[name], tolerance=IN_FLOAT64)
    runs = [{run for run, _ in members} for members in passes]
    assert runs[:3] == [{plain.run, stopped.run, small.run}] * 3
    assert runs[3] == {plain.run, short.run, small.run}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_what_is_no_exception_ends_them_all_and_leaves_the_base_as_before(base, decoder, error):
    stir_global_randomness()
    before, random_state = fingerprint(base), global_randomness()

    def interrupt(step):
        if step.step == 2:
            raise error

    with pytest.raises(type(error)) as raised:
        train_all(base, Wanted(changed(lora_dropout=0.5)), Wanted(observe=interrupt), Wanted())
    assert raised.value is error
    assert fingerprint(base) == before
    assert global_randomness() == random_state


def test_whatever_happens_the_base_and_the_global_random_state_are_as_before(base, decoder):
    kinds = every_kind(base)
    stir_global_randomness()
    before, random_state = fingerprint(base), global_randomness()
    trials = train_all(base, *kinds.values(), limits=replace(WIDE, max_runs=4))
    assert any(trial.error for trial in trials)
    assert fingerprint(base) == before
    assert global_randomness() == random_state


def poisoned(adapter: Adapter) -> Adapter:
    """One of its numbers is none."""
    tensors = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    next(iter(tensors.values()))[0, 0] = math.nan
    return replace(adapter, tensors=tensors)


def test_a_neighbour_that_is_not_a_number_fails_alone(exact, kinds, by_themselves):
    nan = replace(kinds["further"], initial=poisoned(kinds["further"].initial))
    first, sick, second, third = train_all(exact, kinds["plain"], nan, kinds["pissa"], kinds["dropout"])
    assert isinstance(sick.error, Diverged)
    assert (sick.error.step, sick.steps) == (1, [])
    assert math.isnan(sick.error.loss)
    for name, trial in (("plain", first), ("pissa", second), ("dropout", third)):
        assert_same(trial, by_themselves[name], tolerance=IN_FLOAT64)


def test_a_neighbour_that_grows_beyond_its_bound_fails_alone_at_the_same_step(exact, kinds, by_themselves):
    expected = by_themselves["diverging"]
    trials = train_all(exact, kinds["diverging"], kinds["plain"], kinds["olora"])
    wild, *others = trials
    assert isinstance(wild.error, Diverged)
    assert wild.error.step == expected.error.step > 1
    assert wild.error.grad_norm == pytest.approx(expected.error.grad_norm, rel=IN_FLOAT64)
    assert wild.error.grad_norm > wild.run.settings.divergence_norm
    assert len(wild.steps) == wild.error.step - 1
    for name, trial in zip(("plain", "olora"), others, strict=True):
        assert_same(trial, by_themselves[name], tolerance=IN_FLOAT64)


class FaultyRun(Trial):
    """A trainee whose run cannot draw its third batch."""

    def __init__(self, base, wanted):
        super().__init__(base, wanted)
        draw, num_drawn = self.run._examples.draw, [0]

        def fail_later():
            num_drawn[0] += 1
            if num_drawn[0] > 2 * wanted.settings.batch_size:
                raise ArithmeticError("no third batch")
            return draw()

        self.run._examples.draw = fail_later


def test_a_batch_that_cannot_be_drawn_ends_its_own_run(exact, by_themselves, kinds):
    trials = [Trial(exact, kinds["plain"]), FaultyRun(exact, kinds["another seed"])]
    waiting = [*trials]
    train_together(exact, lambda: waiting.pop() if waiting else None)
    assert str(trials[1].error) == "no third batch"
    assert len(trials[1].steps) == 2
    assert_same(trials[0], by_themselves["plain"], tolerance=IN_FLOAT64)
