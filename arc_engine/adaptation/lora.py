"""Putting LoRA layers into a base model and taking them out again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer

from arc_engine.adaptation.adapter import Adapter
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import BaseModelError
from arc_engine.settings import AdaptationSettings


@contextmanager
def fresh_lora(base: LoadedBase, *, settings: AdaptationSettings) -> Iterator[PeftModel]:
    """A new LoRA adapter on all linear layers of `base` but its output layer, for as long as the context lasts.

    W x becomes W x + (alpha / rank) B A x (Hu et al., 2021, https://arxiv.org/abs/2106.09685), A drawn from the seed of
    the settings and B zero, so that training starts at the base model itself. PEFT swaps the layers inside the base
    model; on the way out, error or not, every original layer object is put back.

    The global random state is left as it was. Raises `BaseModelError` if `base` carries an adapter already.
    """
    if any(isinstance(module, BaseTunerLayer) for module in base.model.modules()):
        raise BaseModelError(f"{base.folder} is in use: it carries an adapter already")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
    )
    try:
        # PEFT makes the matrices on the CPU, from its global generator, and moves them to the base's device.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            peft_model = get_peft_model(base.model, config)
        yield peft_model
    finally:
        _remove_lora(base.model)


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
