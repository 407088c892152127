"""LoRA layers on the layers that were named, from an adapter that was given, and out again as a folder that loads."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.initialisation import adapted_layers
from arc_engine.adaptation.lora import lora_layers
from arc_engine.base_models.loading import load_base
from arc_engine.errors import BaseModelError, LoraUnsupported
from tests.arc_engine.adaptation.lora_training import (
    SHIFTING,
    fingerprint,
    global_randomness,
    logits,
    logits_in_plain_peft,
    settings_with,
    stir_global_randomness,
    trained,
)

ALL_LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
MIXED = ["0.mlp.up_proj", "0.self_attn.o_proj", "1.self_attn.o_proj"]


@pytest.fixture(scope="module", params=["tiny_base", "tiny_qwen2"])
def base(request):
    return load_base(request.getfixturevalue(request.param), device="cpu")


@pytest.fixture(scope="module")
def llama(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def adapter(llama):
    """Not what the settings of a test would make: another rank, scale and other layers."""
    settings = settings_with(lora_rank=3, lora_alpha=5.0, use_rslora=True, target_modules=["q_proj", "down_proj"])
    return trained(llama, settings)[0]


def layers_with(base, **values):
    with lora_layers(base, settings=settings_with(**values)) as peft_model:
        prefix = "base_model.model."
        return {name.removeprefix(prefix): layer for name, layer in adapted_layers(peft_model).items()}


@pytest.mark.parametrize(
    ("target_modules", "expected"),
    [
        ("all-linear", [f"model.layers.{n}.{m}" for n in (0, 1) for m in ("self_attn.k_proj", "mlp.up_proj")]),
        (["v_proj"], ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj"]),
        (
            ["mlp.up_proj", "o_proj"],
            [f"model.layers.{n}.{m}" for n in (0, 1) for m in ("mlp.up_proj", "self_attn.o_proj")],
        ),
        (["layers.1.self_attn.q_proj"], ["model.layers.1.self_attn.q_proj"]),
    ],
)
def test_the_named_layers_get_matrices(base, target_modules, expected):
    found = set(layers_with(base, target_modules=target_modules))
    if target_modules == "all-linear":
        assert found > set(expected)
        assert len(found) == 2 * 7
        assert not any("lm_head" in name for name in found)
    else:
        assert found == set(expected)


@pytest.mark.parametrize(
    ("target_modules", "named"),
    [
        (["q_proj", "c_attn"], "c_attn"),
        (["lm_head"], "lm_head"),
        (["embed_tokens"], "embed_tokens"),
        (["self_attn"], "self_attn"),
        (["proj"], "proj"),
    ],
)
def test_names_of_other_layers_are_refused_with_those_that_there_are(base, target_modules, named):
    before = fingerprint(base)
    with pytest.raises(LoraUnsupported, match=f"{named} does not name .* the model has {', '.join(ALL_LINEAR)}"):
        layers_with(base, target_modules=target_modules)
    assert fingerprint(base) == before


@pytest.mark.parametrize(
    ("target_modules", "listed"),
    [
        ("all-linear", ALL_LINEAR),
        (["v_proj", "q_proj"], ["q_proj", "v_proj"]),
        (["layers.0.mlp.up_proj"], ["model.layers.0.mlp.up_proj"]),
    ],
)
def test_the_export_loads_on_the_same_layers_in_plain_peft(base, tmp_path, target_modules, listed):
    adapter, _, at_the_end = trained(base, settings_with(target_modules=target_modules))
    assert adapter.config["target_modules"] == listed
    adapter.save(tmp_path)
    torch.testing.assert_close(logits_in_plain_peft(base.folder, tmp_path), at_the_end, rtol=1e-5, atol=1e-5)


def test_rank_scale_and_dropout_are_those_of_the_settings(llama):
    for values, scale in (({}, 2), ({"use_rslora": True}, 4), ({"lora_alpha": 3.0}, 0.75)):
        for layer in layers_with(llama, lora_dropout=0.125, **values).values():
            assert layer.r == {"default": 4}
            assert layer.scaling == {"default": scale}
            assert layer.lora_dropout["default"].p == 0.125


def test_dropout_drops_in_training(llama):
    whole, dropped = (trained(llama, settings_with(lora_dropout=dropout))[1] for dropout in (0.0, 0.5))
    assert whole[0] == dropped[0], "B is zero"
    assert whole[-1] != dropped[-1]


def test_a_given_adapter_is_where_training_starts(llama, adapter, tmp_path):
    adapter.save(tmp_path)
    expected = logits_in_plain_peft(llama.folder, tmp_path)
    assert (expected - logits(llama.model)).abs().max() > 0.1
    # Everything that the settings say otherwise, the adapter knows better.
    settings = settings_with(lora_rank=8, lora_alpha=64.0, init="gaussian")
    with lora_layers(llama, settings=settings, initial=adapter):
        torch.testing.assert_close(logits(llama.model), expected, rtol=1e-5, atol=1e-5)
    further, losses, _ = trained(llama, settings, initial=adapter)
    assert losses[-1] < losses[0]
    kept = ("r", "lora_alpha", "use_rslora", "target_modules")
    assert [further.config[key] for key in kept] == [adapter.config[key] for key in kept] == [
        3, 5.0, True, ["down_proj", "q_proj"],
    ]  # fmt: skip
    assert further.tensors.keys() == adapter.tensors.keys()
    assert all(not torch.equal(further.tensors[name], adapter.tensors[name]) for name in adapter.tensors)


def test_a_given_adapter_is_not_changed_and_leaves_no_trace(llama, adapter):
    stir_global_randomness()
    before, randomness = fingerprint(llama), global_randomness()
    tensors = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    trained(llama, settings_with(), initial=adapter)
    assert fingerprint(llama) == before
    assert global_randomness() == randomness
    assert all(torch.equal(adapter.tensors[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("init", SHIFTING)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_what_pissa_and_olora_leave_can_be_trained_further(llama, init, use_rslora):
    first, _, at_the_end = trained(llama, settings_with(init=init, use_rslora=use_rslora))
    with lora_layers(llama, settings=settings_with(), initial=first):
        torch.testing.assert_close(logits(llama.model), at_the_end, rtol=1e-4, atol=1e-4)
    further, losses, _ = trained(llama, settings_with(), initial=first)
    assert further.rank == first.rank == 8
    assert losses[-1] < losses[0]


def test_the_same_adapter_with_the_same_seed_gives_the_same_losses(llama, adapter):
    settings = settings_with(lora_dropout=0.0)
    assert trained(llama, settings, initial=adapter)[1] == trained(llama, settings, initial=adapter)[1]


def without_a_matrix(tensors):
    return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.down_proj.lora_A" not in name}


def of_another_width(tensors):
    return {name: tensor.repeat(1, 2) if "lora_A" in name else tensor for name, tensor in tensors.items()}


def of_a_larger_model(tensors):
    return tensors | {name.replace("layers.1", "layers.7"): tensor for name, tensor in tensors.items()}


def of_the_output_layer(tensors):
    lm_head = {"A": torch.zeros(3, 64), "B": torch.zeros(100, 3)}
    return tensors | {f"base_model.model.lm_head.lora_{side}.weight": weight for side, weight in lm_head.items()}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_a_matrix, r"layers.1.mlp.down_proj.lora_A.weight is None there, not \[3, 128\]"),
        (of_another_width, r"lora_A.weight is \[3, 256\] there, not \[3, 128\]"),
        (of_a_larger_model, r"changes model.layers.7.mlp.down_proj"),
        (of_the_output_layer, "changes lm_head"),
    ],
)
def test_an_adapter_for_another_base_is_refused(llama, adapter, change, named):
    before = fingerprint(llama)
    other = Adapter(config=adapter.config, tensors=change(adapter.tensors))
    with pytest.raises(BaseModelError, match=named), lora_layers(llama, settings=settings_with(), initial=other):
        pass
    assert fingerprint(llama) == before


def test_a_saved_adapter_is_loaded_as_it_was(adapter, tmp_path):
    adapter.save(tmp_path / "first")
    again = Adapter.load(tmp_path / "first")
    assert again.config == adapter.config
    assert again.layers == adapter.layers == tuple(
        f"model.layers.{n}.{m}" for n in (0, 1) for m in ("mlp.down_proj", "self_attn.q_proj")
    )  # fmt: skip
    again.save(tmp_path / "second")
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_half_precision_files_are_loaded_as_float32(adapter, tmp_path):
    adapter.save(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(weights).items()}, weights)
    again = Adapter.load(tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in again.tensors.values())
    assert all(torch.equal(again.tensors[name], adapter.tensors[name].bfloat16().float()) for name in adapter.tensors)


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_dora", True), ("init_lora_weights", "pissa"), ("rank_pattern", {"q_proj": 8}), ("alpha_pattern", {"k": 1})],
)
def test_what_is_not_plain_lora_is_not_loaded(adapter, tmp_path, option, value):
    adapter.save(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter.config | {option: value}))
    with pytest.raises(BaseModelError, match=f"{option}|pissa"):
        Adapter.load(tmp_path)


@pytest.mark.parametrize("content", ["broken", "nothing", "embeddings"])
def test_a_file_without_lora_weights_is_not_loaded(adapter, tmp_path, content):
    adapter.save(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    match content:
        case "broken":
            weights.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
        case "nothing":
            save_file({}, weights)
        case "embeddings":
            save_file({**load_file(weights), "base_model.model.model.embed_tokens.weight": torch.zeros(2, 2)}, weights)
    with pytest.raises(BaseModelError, match=r"cannot be read|holds no LoRA|embed_tokens"):
        Adapter.load(tmp_path)
