"""Merging: the written model gives the logits of base plus adapter, or nothing is written."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.manifest import hash_folder
from arc_engine.base_models.merging import merge
from arc_engine.errors import BaseModelError
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import parse_task

TASK, _ = parse_task({"train": [{"input": [[1, 2]], "output": [[2, 1]]}] * 2, "test": [{"input": [[3, 4]]}]})
IDS = torch.tensor([[1, 46, 22, 23, 52, 23, 22, 2]])


@pytest.fixture(scope="module", params=["tiny_base", "tiny_qwen2"])
def base_folder(request):
    return request.getfixturevalue(request.param)


def trained_adapter(base_folder, folder):
    settings = AdaptationSettings(lora_rank=4, max_steps=5, batch_size=1, learning_rate=0.02)
    base = load_base(base_folder, device="cpu")
    adapt(base, [TASK], settings=settings, prompt=PromptSettings(), observe=lambda step: None).adapter.save(folder)
    return folder


@pytest.fixture(scope="module")
def adapter_folder(base_folder, tmp_path_factory):
    return trained_adapter(base_folder, tmp_path_factory.mktemp("adapters") / "base-adapter")


@pytest.fixture
def copied_adapter(adapter_folder, tmp_path):
    return shutil.copytree(adapter_folder, tmp_path / "adapter")


def change_config(folder, **values):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **values}))


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_the_merged_folder_is_a_plain_model_with_the_logits_of_base_plus_adapter(base_folder, adapter_folder, tmp_path):
    report = merge(base_folder, adapter_folder, tmp_path / "out" / "merged")
    merged = AutoModelForCausalLM.from_pretrained(report.folder)
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    alone = logits(base)
    expected = logits(PeftModel.from_pretrained(base, adapter_folder).eval())
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)
    assert (expected - alone).abs().max() > 0.1, "the adapter does something"
    assert report.adapter_rank == 4
    assert report.dtype == "float32"
    assert report.max_logit_error < 1e-3
    assert report.max_logit_change > 0.1
    tokenizer = AutoTokenizer.from_pretrained(report.folder)
    assert tokenizer.encode("I1\n2O") == AutoTokenizer.from_pretrained(base_folder).encode("I1\n2O")


def test_the_manifest_names_every_file_and_what_it_was_made_of(base_folder, adapter_folder, tmp_path):
    folder = merge(base_folder, adapter_folder, tmp_path / "merged").folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == hash_folder(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} < set(manifest["files"])
    assert manifest["base"] == {"name": base_folder.name, "files": hash_folder(base_folder)}
    assert manifest["adapter"] == {"name": "base-adapter", "files": hash_folder(adapter_folder)}
    assert manifest["check"]["relative_error"] <= 1e-4
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_the_same_merge_writes_the_same_bytes(base_folder, adapter_folder, tmp_path):
    first, second = (merge(base_folder, adapter_folder, tmp_path / name).folder for name in ("first", "second"))
    assert hash_folder(first) == hash_folder(second)


def test_the_merged_weights_keep_the_precision_of_the_base(base_folder, adapter_folder, tmp_path):
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(half)
    report = merge(half, adapter_folder, tmp_path / "merged")
    assert report.dtype == "bfloat16"
    assert {tensor.dtype for tensor in load_file(report.folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((report.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert 0 < report.max_logit_error < report.max_logit_change


def test_a_merged_base_can_be_adapted_to_a_task(base_folder, adapter_folder, tmp_path):
    folder = merge(base_folder, adapter_folder, tmp_path / "merged").folder
    assert load_file(trained_adapter(folder, tmp_path / "task-adapter") / "adapter_model.safetensors")


REFUSED = [
    ({"init_lora_weights": "pissa"}, "initialised by pissa"),
    ({"init_lora_weights": "pissa_niter_16"}, "initialised by pissa_niter_16"),
    ({"init_lora_weights": "olora"}, "initialised by olora"),
    ({"init_lora_weights": "corda"}, "initialised by corda"),
    ({"init_lora_weights": "loftq"}, "initialised by loftq"),
    ({"use_dora": True}, "use_dora"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"bias": "all"}, "biases"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"peft_type": "IA3"}, "not a LoRA"),
    ({"target_modules": ["no_such_layer"]}, "does not fit"),
    ({"target_modules": ["q_proj"]}, "does not fit"),
    ({"r": 8}, "does not fit"),
    ({"r": "four"}, "does not fit"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_adapters_that_are_not_plain_lora_of_this_base_are_refused(
    base_folder, copied_adapter, tmp_path, values, message
):
    change_config(copied_adapter, **values)
    with pytest.raises(BaseModelError, match=message):
        merge(base_folder, copied_adapter, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"], "nothing is left behind"


@pytest.mark.parametrize("content", ["", "[]", "not JSON", "{}"])
def test_an_unreadable_adapter_configuration_is_refused(base_folder, copied_adapter, tmp_path, content):
    (copied_adapter / "adapter_config.json").write_text(content)
    with pytest.raises(BaseModelError):
        merge(base_folder, copied_adapter, tmp_path / "merged")


def test_pickled_adapter_weights_are_refused(base_folder, copied_adapter, tmp_path):
    torch.save(load_file(copied_adapter / "adapter_model.safetensors"), copied_adapter / "adapter_model.bin")
    (copied_adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"no adapter_model\.safetensors"):
        merge(base_folder, copied_adapter, tmp_path / "merged")


def test_weights_that_are_not_finite_are_refused(base_folder, copied_adapter, tmp_path):
    weights = load_file(copied_adapter / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = torch.nan
    save_file(weights, copied_adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match="finite"):
        merge(base_folder, copied_adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_of_a_deeper_model_is_refused(base_folder, copied_adapter, tmp_path):
    weights = load_file(copied_adapter / "adapter_model.safetensors")
    deeper = {name.replace("layers.1.", "layers.2."): tensor.clone() for name, tensor in weights.items()}
    save_file({**weights, **deeper}, copied_adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"does not fit the base model: .*layers\.2\."):
        merge(base_folder, copied_adapter, tmp_path / "merged")


def test_an_existing_folder_is_not_overwritten(base_folder, adapter_folder, tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.txt").write_text("mine")
    with pytest.raises(BaseModelError, match="exists already"):
        merge(base_folder, adapter_folder, tmp_path / "merged")
    assert (tmp_path / "merged" / "mine.txt").read_text() == "mine"


def test_a_folder_that_holds_no_base_is_refused(adapter_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseModelError, match="cannot be read"):
        merge(tmp_path / "empty", adapter_folder, tmp_path / "merged")
