"""Activations that are computed twice: the same steps, less memory, and no trace in the base."""

import pytest
import torch
from torch import nn

from arc_engine.adaptation.decoders import llama
from arc_engine.base_models.loading import load_base
from arc_engine.errors import BaseModelError
from tests.arc_engine.adaptation.adapting import adapt_to, changed, losses
from tests.arc_engine.adaptation.lora_training import fingerprint


@pytest.fixture(scope="module", params=["tiny_base", "tiny_neox"])
def base(request):
    """One that is computed by our own code, one by transformers'."""
    return load_base(request.getfixturevalue(request.param), device="cpu")


@pytest.fixture(scope="module")
def neox(tiny_neox):
    return load_base(tiny_neox, device="cpu")


@pytest.fixture
def calls(base, monkeypatch):
    """Grows with every layer that is computed, whoever computes it."""
    found, layer = [], llama._layer

    def counted(*parts, **options):
        found.append("ours")
        return layer(*parts, **options)

    monkeypatch.setattr(llama, "_layer", counted)
    if base.model.config.model_type == "llama":
        yield found
        return
    # Before and not after a call: recomputing stops short of the end, at the last value that is needed.
    hooks = [one.mlp.register_forward_pre_hook(lambda *_: found.append("theirs")) for one in base.model.gpt_neox.layers]
    yield found
    for hook in hooks:
        hook.remove()


def test_recomputed_activations_give_the_same_steps_and_are_recomputed(base, calls):
    seen = {}
    for on in (False, True):
        calls.clear()
        seen[on] = adapt_to(base, settings=changed(gradient_checkpointing=on, lora_dropout=0.5))
        assert len(calls) == (2 if on else 1) * 6 * 2, "six steps of two layers"
    assert losses(seen[True][1]) == pytest.approx(losses(seen[False][1]), rel=1e-6)
    assert [step.grad_norm for step in seen[True][1]] == pytest.approx([s.grad_norm for s in seen[False][1]], rel=1e-5)


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


def test_a_pass_that_fails_leaves_no_checkpointing_behind(neox):
    before = fingerprint(neox)

    def fail(*_):
        raise ArithmeticError("in the second layer")

    with (
        neox.model.gpt_neox.layers[1].mlp.register_forward_pre_hook(fail),
        pytest.raises(ArithmeticError, match="in the second layer"),
    ):
        adapt_to(neox, settings=changed(gradient_checkpointing=True))
    assert fingerprint(neox) == before


def test_a_hook_that_was_there_before_checkpointing_is_there_after_it(tiny_neox):
    base = load_base(tiny_neox, device="cpu")
    layer = base.model.gpt_neox.layers[0]
    forward, calls = layer.forward, []
    layer.forward = lambda *args, **options: (calls.append(1), forward(*args, **options))[1]
    hooked = layer.forward
    adapt_to(base, settings=changed(gradient_checkpointing=True, max_steps=1))
    assert layer.forward is hooked
    assert len(calls) == 2


def test_a_model_without_layers_to_checkpoint_is_refused(neox, monkeypatch):
    class Unknown(nn.Module):
        pass

    monkeypatch.setattr("arc_engine.adaptation.checkpointing.GradientCheckpointingLayer", Unknown)
    before = fingerprint(neox)
    with pytest.raises(BaseModelError, match="GPTNeoXForCausalLM does not support gradient checkpointing"):
        adapt_to(neox, settings=changed(gradient_checkpointing=True))
    assert fingerprint(neox) == before
