"""Putting LoRA layers into a base model and taking them out again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer

from arc_engine.adaptation.adapter import Adapter
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import BaseModelError
from arc_engine.settings import AdaptationSettings


@contextmanager
def lora_layers(
    base: LoadedBase, *, settings: AdaptationSettings, initial: Adapter | None = None
) -> Iterator[PeftModel]:
    """LoRA matrices on linear layers of `base`, new ones or those of `initial`, for as long as the context lasts.

    W x becomes W x + (alpha / rank) B A x (Hu et al., 2021, https://arxiv.org/abs/2106.09685). New matrices are drawn
    from the seed of the settings, B zero, so that training starts at the base model itself. Those of `initial` come
    with its rank, its scale and its layers, whatever the settings say of them. PEFT swaps the layers inside the base
    model; on the way out, error or not, every original layer object is put back.

    The global random state is left as it was. Raises `BaseModelError` if `base` carries an adapter already, or if
    `initial` is not for this base.
    """
    if any(isinstance(module, BaseTunerLayer) for module in base.model.modules()):
        raise BaseModelError(f"{base.folder} is in use: it carries an adapter already")
    config = _new_config(settings) if initial is None else _config_of(initial, settings=settings)
    try:
        # PEFT makes the matrices on the CPU, from its global generator, and moves them to the base's device.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            peft_model = get_peft_model(base.model, config)
        if initial is not None:
            _load_weights(peft_model, initial, base_name=base.folder.name)
        yield peft_model
    finally:
        _remove_lora(base.model)


def _new_config(settings: AdaptationSettings) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
    )


def _config_of(initial: Adapter, *, settings: AdaptationSettings) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=initial.rank,
        lora_alpha=initial.config["lora_alpha"],
        use_rslora=initial.config.get("use_rslora", False),
        lora_dropout=settings.lora_dropout,
        target_modules=list(initial.layers),
    )


def _load_weights(peft_model: PeftModel, initial: Adapter, *, base_name: str) -> None:
    in_model = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    # PEFT itself passes over weights that have no layer.
    if set(in_model) != set(initial.tensors):
        raise BaseModelError(f"the adapter is not for {base_name}: {min(set(in_model) ^ set(initial.tensors))}")
    for name, tensor in initial.tensors.items():
        if in_model[name].shape != tensor.shape:
            raise BaseModelError(f"the adapter is not for {base_name}: the shape of {name} is {list(tensor.shape)}")
    set_peft_model_state_dict(peft_model, dict(initial.tensors))


def _remove_lora(model: Any) -> None:  # noqa: ANN401 - transformers is untyped
    # Not PEFT's `unload`, which needs the finished PeftModel: the injection itself can fail half-way.
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, layer in layers:
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def export(peft_model: PeftModel, *, base_name: str) -> Adapter:
    """A copy of the adapter that `peft_model` carries, which names its base model `base_name`."""
    state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)  # True or "auto" would ask the hub
    config = {**peft_model.peft_config["default"].to_dict(), "inference_mode": True}
    config["base_model_name_or_path"] = base_name  # PEFT puts this machine's path there
    # PEFT lists every layer of a small model by its full name; by their last part, the names are the same for any size.
    config["target_modules"] = sorted({name.rpartition(".")[2] for name in config["target_modules"]})
    return Adapter(
        config=json.loads(json.dumps(config, default=sorted)),  # PEFT keeps lists of names as sets
        tensors={name: state[name].detach().to("cpu", torch.float32, copy=True).contiguous() for name in sorted(state)},
    )
