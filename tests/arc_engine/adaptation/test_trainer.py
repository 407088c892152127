"""Steps of a real tiny model: dropout that repeats, activations computed twice, bases in every precision."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn

from arc_engine.adaptation import loss_scale, trainer
from arc_engine.base_models.loading import load_base
from arc_engine.errors import BaseModelError
from tests.arc_engine.adaptation.adapting import adapt_to, changed, losses, numbers
from tests.arc_engine.adaptation.lora_training import fingerprint, global_randomness, stir_global_randomness


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def nf4(tiny_base):
    return load_base(tiny_base, device="cpu", precision="nf4")


def count_calls(module):
    """A list that grows with every call of the module, while the hook is there."""
    calls = []
    # Before and not after a call: recomputing stops short of the end, at the last value that is needed.
    return calls, module.register_forward_pre_hook(lambda *_: calls.append(module))


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


def test_dropout_depends_on_the_seed_and_on_the_step_and_not_on_what_was_drawn_before(base, monkeypatch):
    seeds = []
    original = trainer.own_randomness
    monkeypatch.setattr(trainer, "own_randomness", lambda seed, **rest: (seeds.append(seed), original(seed, **rest))[1])
    settings = changed(lora_dropout=0.5)
    _, steps = adapt_to(base, settings=settings)
    adapt_to(base, settings=changed(lora_dropout=0.5, max_steps=8, batch_size=1))
    adapt_to(base, settings=changed(lora_dropout=0.5, seed=8))
    assert seeds[:6] == seeds[6:12]
    assert len(set(seeds)) == 8 + 6
    # Whatever the training draws elsewhere, and wherever the global generators stand: the same numbers.
    assert numbers(adapt_to(base, settings=settings, observe=lambda step: torch.rand(step.step))[1]) == numbers(steps)


def test_recomputed_activations_give_the_same_steps_and_are_recomputed(base):
    before = fingerprint(base)
    mlp = base.model.model.layers[1].mlp
    seen = {}
    for on in (False, True):
        calls, hook = count_calls(mlp)
        with hook:
            seen[on] = adapt_to(base, settings=changed(gradient_checkpointing=on, lora_dropout=0.5))
        assert len(calls) == (2 if on else 1) * 6
    assert losses(seen[True][1]) == pytest.approx(losses(seen[False][1]), rel=1e-6)
    assert [step.grad_norm for step in seen[True][1]] == pytest.approx([s.grad_norm for s in seen[False][1]], rel=1e-5)
    assert fingerprint(base) == before


def test_recomputed_activations_are_not_kept(base):
    def kept(**values):
        """Bytes that the forward pass leaves for the backward pass."""
        sizes = []
        settings = changed(max_steps=1, batch_size=8, **values)

        def pack(tensor):
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            adapt_to(base, settings=settings)
        return sum(sizes)

    assert kept(gradient_checkpointing=True) < 0.3 * kept()


def test_a_step_that_fails_leaves_no_checkpointing_behind(base):
    before = fingerprint(base)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_to(base, settings=changed(gradient_checkpointing=True), observe=stop)
    assert fingerprint(base) == before
    assert all("forward" not in vars(module) for module in base.model.modules())


def test_a_hook_that_was_there_before_checkpointing_is_there_after_it(tiny_base):
    base = load_base(tiny_base, device="cpu")
    layer = base.model.model.layers[0]
    forward, calls = layer.forward, []
    layer.forward = lambda *args, **options: (calls.append(1), forward(*args, **options))[1]
    hooked = layer.forward
    adapt_to(base, settings=changed(gradient_checkpointing=True, max_steps=1))
    assert layer.forward is hooked
    assert len(calls) == 2


def test_a_model_without_layers_to_checkpoint_is_refused(base, monkeypatch):
    class Unknown(nn.Module):
        pass

    monkeypatch.setattr("arc_engine.adaptation.checkpointing.GradientCheckpointingLayer", Unknown)
    before = fingerprint(base)
    with pytest.raises(BaseModelError, match="LlamaForCausalLM does not support gradient checkpointing"):
        adapt_to(base, settings=changed(gradient_checkpointing=True))
    assert fingerprint(base) == before


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
