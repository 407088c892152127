"""Putting LoRA layers into a base model and taking them out again."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.initialisation import (
    FROZEN,
    TRAINED,
    LoraMatrices,
    check_rank,
    get_matrices,
    initialise,
    own_randomness,
)
from arc_engine.adaptation.targets import adaptable_layers, shortest_names, targeted_layers
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import BaseModelError
from arc_engine.settings import AdaptationSettings


@contextmanager
def lora_layers(
    base: LoadedBase, *, settings: AdaptationSettings, initial: Adapter | None = None
) -> Iterator[PeftModel]:
    """LoRA matrices on linear layers of `base`, new ones or those of `initial`, for as long as the context lasts.

    W x becomes W x + s B A x (Hu et al., 2021, https://arxiv.org/abs/2106.09685), s being alpha / rank, or
    alpha / sqrt(rank) with rslora. New matrices are drawn from the seed of the settings so that training starts at the
    base model itself. Those of `initial` come with its rank, its scale and its layers, whatever the settings say of
    them. PEFT swaps the layers inside the base model; no weight of it is changed, not even for a moment, and on the
    way out, error or not, every original layer object is put back.

    The global random state is left as it was. Raises `BaseModelError` if `base` carries an adapter already, or if
    `initial` is not for this base; `LoraUnsupported` if the model has no such layers, or they cannot have that rank.
    """
    if any(isinstance(module, BaseTunerLayer) for module in base.model.modules()):
        raise BaseModelError(f"{base.folder} is in use: it carries an adapter already")
    config = _new_config(base, settings=settings) if initial is None else _same_config(base, initial, settings=settings)
    try:
        with own_randomness(settings.seed, device=base.device):
            peft_model = get_peft_model(base.model, config)
        if initial is not None:
            _load_weights(peft_model, initial, base_name=base.folder.name)
        else:
            with own_randomness(settings.seed, device=base.device):
                initialise(peft_model, settings=settings)
        yield peft_model
    finally:
        _remove_lora(base.model)


def _new_config(base: LoadedBase, *, settings: AdaptationSettings) -> LoraConfig:
    check_rank(targeted_layers(base.model, settings.target_modules), settings=settings)
    targets = settings.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        use_rslora=settings.use_rslora,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        init_lora_weights="gaussian" if settings.init == "gaussian" else True,
    )


def _same_config(base: LoadedBase, initial: Adapter, *, settings: AdaptationSettings) -> LoraConfig:
    elsewhere = set(initial.layers) - adaptable_layers(base.model).keys()
    if elsewhere:
        raise BaseModelError(
            f"the adapter changes {min(elsewhere)}, which is no linear layer below the output layer of {base.folder}"
        )
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=initial.rank,
        lora_alpha=initial.config["lora_alpha"],
        use_rslora=initial.config.get("use_rslora", False),
        lora_dropout=settings.lora_dropout,
        target_modules=list(initial.layers),
    )


def _load_weights(peft_model: PeftModel, initial: Adapter, *, base_name: str) -> None:
    in_model = _by_peft_name(get_matrices(peft_model, TRAINED))
    for name in sorted(in_model.keys() | initial.tensors.keys()):
        shapes = [list(tensors[name].shape) if name in tensors else None for tensors in (initial.tensors, in_model)]
        if shapes[0] != shapes[1]:
            raise BaseModelError(f"the adapter is not for {base_name}: {name} is {shapes[0]} there, not {shapes[1]}")
    with torch.no_grad():
        for name, weight in in_model.items():
            weight.copy_(initial.tensors[name])


def _remove_lora(model: Any) -> None:  # noqa: ANN401 - transformers is untyped
    # Not PEFT's `unload`, which needs the finished PeftModel: the injection itself can fail half-way.
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, layer in layers:
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


@dataclass(frozen=True, slots=True, eq=False)
class AdapterForm:
    """An adapter before its training, and what it is to be written as after it."""

    config: dict[str, Any]
    """PEFT's, of the trained matrices alone."""
    trained: dict[str, LoraMatrices]
    """By the names that adapter files give layers: `[rank, in_features]` and `[out_features, rank]`, float32."""
    frozen: dict[str, LoraMatrices]
    """Those that are added and not trained, for pissa and olora; of the same rank, or none."""
    scale: float
    """What products of the matrices are multiplied by."""

    def filled(self, trained: dict[str, LoraMatrices]) -> Adapter:
        """A copy of these matrices, as one plain LoRA adapter.

        Its rank is twice the trained one's where the initial matrices have to be subtracted.
        """
        config = dict(self.config)
        if self.frozen:
            trained = _side_by_side(trained, self.frozen)
            # The same scale at twice the rank.
            config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
            config["r"] *= 2
        tensors = {
            name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
            for name, tensor in sorted(_by_peft_name(trained).items())
        }
        return Adapter(config=json.loads(json.dumps(config, default=sorted)), tensors=tensors)  # PEFT has names in sets


def adapter_form(base: LoadedBase, *, settings: AdaptationSettings, initial: Adapter | None = None) -> AdapterForm:
    """What an adaptation begins with; copies, the base is as it was. Raises what `lora_layers` raises."""
    with lora_layers(base, settings=settings, initial=initial) as peft_model:
        form = _form(peft_model, base_name=base.folder.name)
        trained, frozen = (
            {
                name: LoraMatrices(pair.lora_a.detach().clone(), pair.lora_b.detach().clone())
                for name, pair in one.items()
            }
            for one in (form.trained, form.frozen)
        )
        return replace(form, trained=trained, frozen=frozen)


def export(peft_model: PeftModel, *, base_name: str) -> Adapter:
    """A copy of what `peft_model` does to its unchanged base model, named `base_name`, as one plain LoRA adapter."""
    form = _form(peft_model, base_name=base_name)
    return form.filled(form.trained)


def _form(peft_model: PeftModel, *, base_name: str) -> AdapterForm:
    config = {**peft_model.peft_config[TRAINED].to_dict(), "inference_mode": True, "init_lora_weights": True}
    config["base_model_name_or_path"] = base_name  # PEFT puts this machine's path there
    model = peft_model.get_base_model()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    config["target_modules"] = shortest_names(model, list(layers))
    return AdapterForm(
        config,
        trained=get_matrices(peft_model, TRAINED),
        frozen=get_matrices(peft_model, FROZEN) if FROZEN in peft_model.peft_config else {},
        scale=next(iter(layers.values())).scaling[TRAINED],
    )


def _by_peft_name(matrices: dict[str, LoraMatrices]) -> dict[str, Tensor]:
    by_name = {f"{name}.lora_A.weight": pair.lora_a for name, pair in matrices.items()}
    return by_name | {f"{name}.lora_B.weight": pair.lora_b for name, pair in matrices.items()}


def _side_by_side(trained: dict[str, LoraMatrices], frozen: dict[str, LoraMatrices]) -> dict[str, LoraMatrices]:
    """[B, -B0] and [A; A0], of which B A - B0 A0 is the product; `frozen` holds -B0."""
    return {
        name: LoraMatrices(
            torch.cat([trained[name].lora_a, frozen[name].lora_a], dim=0),
            torch.cat([trained[name].lora_b, frozen[name].lora_b], dim=1),
        )
        for name in trained
    }
