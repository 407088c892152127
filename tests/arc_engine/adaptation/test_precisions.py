"""Bases in every precision: adapters in float32, gradients that do not vanish, and a base as it was before."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from arc_engine.adaptation import loss_scale
from arc_engine.base_models.loading import load_base
from tests.arc_engine.adaptation.adapting import adapt_to, changed, losses
from tests.arc_engine.adaptation.lora_training import fingerprint, global_randomness, stir_global_randomness
from tests.arc_engine.adaptation.packing import Wanted, alone, every_kind, train_all


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def nf4(tiny_base):
    return load_base(tiny_base, device="cpu", precision="nf4")


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01), ("nf4", 0.2)])
def test_the_adapter_is_float32_on_a_base_in_any_precision(base, tiny_base, precision, tolerance):
    low = load_base(tiny_base, device="cpu", precision=precision)
    before = fingerprint(low)
    _, expected = adapt_to(base)
    adaptation, steps = adapt_to(low)
    assert {tensor.dtype for tensor in adaptation.adapter.tensors.values()} == {torch.float32}
    assert losses(steps) == pytest.approx(losses(expected), rel=tolerance)
    assert losses(steps) != losses(expected)
    assert fingerprint(low) == before


def test_float16_gradients_that_overflow_are_computed_again_with_a_smaller_scale(tiny_base, monkeypatch):
    base = load_base(tiny_base, device="cpu", precision="float16")
    _, steps = adapt_to(base)
    monkeypatch.setattr(loss_scale, "FLOAT16_LOSS_SCALE", 2.0**40)
    _, overflowing = adapt_to(base)
    assert losses(overflowing) == pytest.approx(losses(steps), rel=1e-2)
    monkeypatch.setattr(loss_scale, "FLOAT16_LOSS_SCALE", 2.0**-26)
    _, vanishing = adapt_to(base)
    assert vanishing[0].grad_norm < 0.5 * steps[0].grad_norm, "which is what the scale is for"


def test_in_company_only_those_that_overflow_are_computed_again(tiny_base, monkeypatch):
    base = load_base(tiny_base, device="cpu", precision="float16")
    wanted = [Wanted(changed(seed=seed)) for seed in range(3)]
    _, expected, _ = (alone(base, one) for one in wanted)
    original, scales = loss_scale.LossScale.of, iter([2.0**60, 2.0**16, 2.0**40])
    monkeypatch.setattr(loss_scale.LossScale, "of", lambda dtype: original(dtype).__class__(next(scales)))
    first, second, third = train_all(base, *wanted)
    assert losses(second.steps) == pytest.approx(losses(expected.steps), rel=1e-2)
    assert second.run.passes.num_passes == 6
    assert third.run.passes.num_passes > 6
    assert first.run.passes.num_passes > third.run.passes.num_passes
    for trial, one in zip((first, third), (wanted[0], wanted[2]), strict=True):
        scales = iter([2.0**16])
        assert losses(trial.steps) == pytest.approx(losses(alone(base, one).steps), rel=1e-2)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("float16", 0.002), ("nf4", 1e-4)])
def test_in_any_precision_company_makes_no_difference_but_for_rounding(tiny_base, precision, tolerance):
    base = load_base(tiny_base, device="cpu", precision=precision)
    kinds = [every_kind(base)[name] for name in ("plain", "dropout", "some layers", "pissa", "common")]
    for trial, wanted in zip(train_all(base, *kinds), kinds, strict=True):
        assert losses(trial.steps) == pytest.approx(losses(alone(base, wanted).steps), rel=tolerance)


def dequantized(base, folder):
    """A float32 model of the very weights that `base` computes with."""
    exact = load_base(folder, device="cpu")
    for name, layer in base.model.named_modules():
        if isinstance(layer, Linear4bit):
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            exact.model.get_submodule(name).weight.data.copy_(weight)
    return exact


def test_gradients_flow_through_a_4_bit_base_as_through_its_own_values(nf4, tiny_base):
    with torch.no_grad():  # bitsandbytes repacks weights at such a call, if it is let
        nf4.model(torch.tensor([[1, 2, 3]]))
    exact = dequantized(nf4, tiny_base)
    (_, steps), (_, expected) = adapt_to(nf4), adapt_to(exact)
    assert losses(steps) == pytest.approx(losses(expected), rel=1e-4)
    assert [step.grad_norm for step in steps] == pytest.approx([step.grad_norm for step in expected], rel=1e-3)


def test_a_4_bit_base_is_as_before_after_checkpointed_training_with_dropout(nf4):
    stir_global_randomness()
    before, random_state = fingerprint(nf4), global_randomness()
    _, steps = adapt_to(nf4, settings=changed(gradient_checkpointing=True, lora_dropout=0.2))
    assert all(step.grad_norm > 0 for step in steps)
    assert fingerprint(nf4) == before
    assert global_randomness() == random_state
