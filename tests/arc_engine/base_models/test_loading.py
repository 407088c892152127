"""Loading base models: what comes out, and what is refused."""

import json
import shutil
import sys

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPTJConfig, GPTJForCausalLM

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.lora import lora_layers
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.precision import resolve_precision
from arc_engine.base_models.reading import read_base
from arc_engine.errors import BaseModelError, LoraUnsupported, PrecisionUnsupported
from arc_engine.pretraining.tokenizer import save_tokenizer
from arc_engine.settings import AdaptationSettings, AugmentationSettings, PromptSettings
from arc_engine.tasks import Pair, Task
from tests.fixtures.models import SHAPE, save_model

VOCABULARY_SHAPE = {name: SHAPE[name] for name in ("vocab_size", "eos_token_id", "pad_token_id")}


def test_loads_a_frozen_float32_model_with_its_tokenizer(tiny_base):
    base = load_base(tiny_base, device="cpu")
    assert base.folder == tiny_base
    assert base.device == "cpu"
    assert base.max_positions == 4096
    assert base.tokenizer.decode(base.tokenizer.encode("I12\n34O", add_special_tokens=False)) == "I12\n34O"
    assert not base.model.training
    assert not any(weights.requires_grad for weights in base.model.parameters())
    assert {weights.dtype for weights in base.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_loads_in_the_asked_precision(tiny_qwen2, precision, dtype):
    base = load_base(tiny_qwen2, device="cpu", precision=precision)
    assert {weights.dtype for weights in base.model.parameters()} == {dtype}
    assert base.precision == ("float32" if precision == "auto" else precision)


def test_loads_linear_layers_in_4_bits_and_all_else_in_float32(tiny_qwen2):
    base = load_base(tiny_qwen2, device="cpu", precision="nf4")
    assert base.precision == "nf4"
    linear = {name: module for name, module in base.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name, module in linear.items() if not isinstance(module, Linear4bit)} == {"lm_head"}
    four_bit = {f"{name}.weight" for name in linear} - {"lm_head.weight"}
    for name, weights in base.model.named_parameters():
        assert weights.dtype == (torch.uint8 if name in four_bit else torch.float32), name
        assert not weights.requires_grad
    assert {module.weight.quant_state.quant_type for module in linear.values() if isinstance(module, Linear4bit)} == {
        "nf4"
    }
    assert not base.model.training


def test_a_call_without_gradient_leaves_4_bit_weights_as_they_are(tiny_base):
    base = load_base(tiny_base, device="cpu", precision="nf4")
    before = {name: weights.clone() for name, weights in base.model.named_parameters()}
    with torch.no_grad():
        base.model(torch.tensor([[1, 2, 3]]))
    assert all(torch.equal(weights, before[name]) for name, weights in base.model.named_parameters())


def test_4_bits_need_bitsandbytes(tiny_base, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(PrecisionUnsupported, match=r"arcadapt\[nf4\]"):
        load_base(tiny_base, device="cpu", precision="nf4")


def test_4_bits_are_refused_where_bitsandbytes_does_not_work():
    with pytest.raises(PrecisionUnsupported, match="not on mps"):
        resolve_precision("nf4", device="mps")


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bfloat16_is_taken_where_the_gpu_has_it(has_bfloat16, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bfloat16)
    assert resolve_precision("auto", device="cuda") == ("bfloat16" if has_bfloat16 else "float32")
    assert resolve_precision("float16", device="cuda") == "float16"
    if has_bfloat16:
        assert resolve_precision("bfloat16", device="cuda:1") == "bfloat16"
    else:
        with pytest.raises(PrecisionUnsupported, match="take float16"):
            resolve_precision("bfloat16", device="cuda:1")


def test_refuses_a_folder_without_a_model(tmp_path):
    with pytest.raises(BaseModelError, match="cannot be read"):
        load_base(tmp_path)


def test_refuses_pickled_weights(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        load_base(folder)


def test_refuses_truncated_weights(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "truncated")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        load_base(folder)


def test_refuses_incomplete_weights(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "incomplete")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_base(folder)


def test_refuses_models_that_change_their_logits_after_the_output_layer(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "softcapped")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    with pytest.raises(BaseModelError, match="final_logit_softcapping"):
        load_base(folder)


def test_reading_gives_what_loading_gives_but_the_weights(tiny_base):
    reading, base = read_base(tiny_base), load_base(tiny_base, device="cpu")
    assert reading.max_positions == base.max_positions
    assert reading.tokenizer.encode("I1\n2O", add_special_tokens=False) == base.tokenizer.encode(
        "I1\n2O", add_special_tokens=False
    )


def test_positions_are_found_under_the_names_of_other_architectures(tmp_path):
    config = GPTJConfig(n_positions=256, n_embd=64, n_layer=2, n_head=2, rotary_dim=16, **VOCABULARY_SHAPE)
    folder = save_model(GPTJForCausalLM, config, tmp_path / "gptj")
    save_tokenizer(folder, model_max_length=256)
    assert "max_position_embeddings" not in json.loads((folder / "config.json").read_text())
    base = load_base(folder, device="cpu")
    assert base.max_positions == read_base(folder).max_positions == 256
    task = Task((Pair(((1,),), ((2,),)), Pair(((3,),), ((4,),))), (((5,),),))
    steps = []
    settings = AdaptationSettings(max_steps=8, warmup_ratio=0.0, augmentation=AugmentationSettings(colours=False))
    adapt(base, [task], settings=settings, prompt=PromptSettings(), observe=steps.append)
    assert steps[-1].loss < steps[0].loss


def test_positions_of_a_model_of_texts_and_pictures_are_those_of_its_texts(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "pictures")
    text = {"model_type": "gemma3_text", "max_position_embeddings": 777}
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    assert read_base(folder).max_positions == 777


def test_refuses_models_without_a_longest_sequence(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "endless")
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(BaseModelError, match="max_position_embeddings"):
        read_base(folder)


def test_refuses_configurations_that_are_none(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "broken")
    for config in ("{", "[]", '{"model_type": "no such"}', '{"model_type": "llama", "hidden_size": "wide"}'):
        (folder / "config.json").write_text(config)
        with pytest.raises(BaseModelError, match="cannot be read"):
            read_base(folder)


def test_models_without_linear_layers_are_loaded_and_not_adapted(tmp_path):
    config = GPT2Config(n_positions=256, n_embd=64, n_layer=2, n_head=2, **VOCABULARY_SHAPE)
    folder = save_model(GPT2LMHeadModel, config, tmp_path / "gpt2")
    save_tokenizer(folder, model_max_length=256)
    base = load_base(folder, device="cpu")
    with pytest.raises(LoraUnsupported, match="no linear layers"), lora_layers(base, settings=AdaptationSettings()):
        pass


def test_refuses_a_tokenizer_that_loses_line_ends(tiny_qwen2, tmp_path):
    folder = shutil.copytree(tiny_qwen2, tmp_path / "wrong-tokenizer")
    save_tokenizer(folder, model_max_length=4096)  # transformers replaces its splitting by Qwen2's own
    with pytest.raises(BaseModelError, match="the tokenizer turns"):
        load_base(folder)


def test_refuses_a_tokenizer_without_an_end_of_text_token(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "endless")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match="no end-of-text token"):
        read_base(folder)
