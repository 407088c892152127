"""Loading base models: what comes out, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from arc_engine.base_models.loading import load_base
from arc_engine.base_models.reading import read_base
from arc_engine.errors import BaseModelError
from arc_engine.pretraining.tokenizer import save_tokenizer


def test_loads_a_frozen_float32_model_with_its_tokenizer(tiny_base):
    base = load_base(tiny_base, device="cpu")
    assert base.folder == tiny_base
    assert base.device == "cpu"
    assert base.max_positions == 4096
    assert base.tokenizer.decode(base.tokenizer.encode("I12\n34O", add_special_tokens=False)) == "I12\n34O"
    assert not base.model.training
    assert not any(weights.requires_grad for weights in base.model.parameters())
    assert {weights.dtype for weights in base.model.parameters()} == {torch.float32}


def test_loads_in_the_asked_precision(tiny_qwen2):
    base = load_base(tiny_qwen2, device="cpu", precision="bfloat16")
    assert {weights.dtype for weights in base.model.parameters()} == {torch.bfloat16}


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
