"""Both ways to compute a base: losses and gradients are those of transformers with PEFT's own layers."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from arc_engine.adaptation.decoders import Adapters, decoder_of
from arc_engine.adaptation.decoders.hooked import HookedDecoder
from arc_engine.adaptation.decoders.llama import LlamaDecoder, is_supported
from arc_engine.adaptation.packed_batch import collate
from arc_engine.adaptation.slots import Slots
from arc_engine.base_models.loading import load_base
from tests.arc_engine.adaptation.decoding import (
    BATCHES,
    assert_equal,
    assert_is_plain_peft,
    gradients_of_decoder,
    random_adapter,
)
from tests.arc_engine.adaptation.lora_training import fingerprint
from tests.arc_engine.adaptation.random_models import MODELS, gpt_neox, llama, mistral, new_base, qwen2, qwen3

DECODERS = {"ours": LlamaDecoder, "transformers": HookedDecoder}
CASES = [(decoder, name) for name in MODELS for decoder in DECODERS] + [("transformers", "gpt_neox")]


@pytest.fixture(autouse=True)
def norms_in_float64(monkeypatch):
    """transformers computes them in float32 whatever the model is in, which ours does for smaller numbers only."""

    def forward(norm, stream):
        if stream.dtype != torch.float64:
            return theirs[type(norm)](norm, stream)
        squares = stream.pow(2).mean(-1, keepdim=True)
        return norm.weight * stream * torch.rsqrt(squares + norm.variance_epsilon)

    theirs = {norm: norm.forward for norm in (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)}
    for norm in theirs:
        monkeypatch.setattr(norm, "forward", forward)


def base_named(name):
    return new_base(gpt_neox) if name == "gpt_neox" else new_base(*MODELS[name])


@pytest.mark.parametrize(("decoder_name", "model_name"), CASES)
def test_losses_and_gradients_are_those_of_plain_peft(decoder_name, model_name, tmp_path):
    base = base_named(model_name)
    before = fingerprint(base)
    adapters = [
        random_adapter(base, seed=1),
        random_adapter(base, seed=2, lora_rank=2, lora_alpha=5.0, use_rslora=True),
    ]
    assert_is_plain_peft(DECODERS[decoder_name](base), base, adapters, folder=tmp_path)
    assert fingerprint(base) == before


@pytest.mark.parametrize(
    ("decoder_name", "model_name"), [("ours", "biases"), ("ours", "qwen3"), ("transformers", "llama")]
)
@pytest.mark.parametrize(
    "targets",
    [
        (["q_proj"], ["down_proj", "v_proj"]),
        (["layers.1.mlp.up_proj"], ["layers.1.mlp.gate_proj"]),
        (["layers.0.self_attn.o_proj"], "all-linear", ["layers.1.self_attn.o_proj"]),
    ],
)
def test_adapters_of_some_layers_are_those_of_plain_peft(decoder_name, model_name, targets, tmp_path):
    base = base_named(model_name)
    adapters = [
        random_adapter(base, seed=seed, lora_rank=seed + 1, target_modules=one) for seed, one in enumerate(targets)
    ]
    assert_is_plain_peft(DECODERS[decoder_name](base), base, adapters, folder=tmp_path)


def saved_bytes(compute):
    """What `compute` gives, and the bytes that it keeps for a backward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = compute()
    return found, sum(sizes.values())


@pytest.mark.parametrize(("decoder_name", "make"), [("ours", llama), ("ours", qwen3), ("transformers", gpt_neox)])
def test_recomputed_activations_give_equal_gradients_and_are_not_kept(decoder_name, make):
    base = new_base(make, {"num_hidden_layers": 4})
    adapters = [random_adapter(base, seed=1), random_adapter(base, seed=2, lora_rank=2)]
    (expected, plain), (found, recomputed) = (
        saved_bytes(lambda on=on: gradients_of_decoder(DECODERS[decoder_name](base, checkpointing=on), base, adapters))
        for on in (False, True)
    )
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        assert_equal(one, other)
    assert recomputed < 0.5 * plain


def test_below_the_first_adapter_nothing_is_kept():
    base = new_base(llama, {"num_hidden_layers": 6})

    def kept(layer):
        adapters = [random_adapter(base, seed=1, target_modules=[f"layers.{layer}.mlp.down_proj"])]
        return saved_bytes(lambda: gradients_of_decoder(LlamaDecoder(base), base, adapters))[1]

    assert kept(5) < 0.3 * kept(0)


@pytest.mark.parametrize("make", [llama, qwen2, qwen3, mistral])
def test_the_llama_family_is_computed_by_our_own_code(make):
    base = new_base(make)
    assert is_supported(base)
    assert isinstance(decoder_of(base), LlamaDecoder)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (gpt_neox, {}),
        (llama, {"hidden_act": "gelu"}),
        (mistral, {"sliding_window": 8}),
        (qwen2, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        (qwen3, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    ],
)
def test_what_our_code_does_not_know_is_left_to_transformers(make, options, tmp_path):
    base = new_base(make, options)
    assert not is_supported(base)
    decoder = decoder_of(base)
    assert isinstance(decoder, HookedDecoder)
    assert_is_plain_peft(decoder, base, [random_adapter(base, seed=1)], folder=tmp_path)


def test_windows_that_no_layer_has_are_none():
    assert is_supported(new_base(qwen2, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}))
    assert is_supported(new_base(qwen2, {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0}))


def test_quantised_layers_are_left_to_transformers(tiny_base):
    base = load_base(tiny_base, device="cpu", precision="nf4")
    assert not is_supported(base)
    assert isinstance(decoder_of(base), HookedDecoder)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["tiny_base", "tiny_qwen2"])
def test_in_less_precision_ours_is_as_near_to_float64_as_transformers(precision, name, request):
    exact = load_base(request.getfixturevalue(name), device="cpu")
    exact.model.double()
    low = load_base(request.getfixturevalue(name), device="cpu", precision=precision)
    starts = [random_adapter(exact, seed=seed).start for seed in range(4)]
    expected = hidden_of(HookedDecoder(exact), starts, torch.float64)
    ours, theirs = (
        typical_error(hidden_of(decoder, starts, low.model.dtype), expected)
        for decoder in (LlamaDecoder(low), HookedDecoder(low))
    )
    assert ours < 1.3 * theirs
    assert theirs < 0.1


def hidden_of(decoder, starts, dtype):
    """Of every batch with every adapter alone: `[positions, width]`."""
    found = []
    for start in starts:
        slots = Slots(decoder.sites, device="cpu")
        slot = slots.add(start)
        weights = slots.weights([slot]).to(dtype)
        adapters = Adapters(slots.by_site(weights), slots.scales([slot]).to(dtype))
        for one in BATCHES:
            with decoder.hidden(collate([one], device="cpu"), adapters) as hidden:
                assert hidden.dtype == dtype
                found.append(hidden.detach().double().flatten(0, -2))
    return torch.cat(found)


def typical_error(found, expected):
    """The median over the positions, relative: a mean is that of the few at which attention is undecided, and there one
    rounding more or less makes it several times larger."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).median())
