"""Where LoRA matrices start, without a change to the base model's weights.

PiSSA (Meng et al., 2024, https://arxiv.org/abs/2404.02948) and OLoRA (Büyükakyüz, 2024,
https://arxiv.org/abs/2406.01775) start from matrices B0 A0 taken out of a layer's own weights W. PEFT writes
W - s B0 A0 into the base model, s being the scale of the adapter, and nothing puts W back afterwards. Here W stays, and
the layer computes W x + s (B A - B0 A0) x, which is the same function: B0 and A0 are a second adapter of the layer,
frozen and subtracted. So the base is shared with whoever else uses it, and what training leaves is plain LoRA:
B A - B0 A0 is the product of [B, -B0] and [A; A0], of twice the rank.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from arc_engine.errors import LoraUnsupported
from arc_engine.settings import AdaptationSettings

TRAINED: Final = "default"
"""PEFT's name for the adapter that is trained."""
FROZEN: Final = "frozen"
"""Our name for the adapter that takes the initial matrices of the trained one away again."""


@dataclass(frozen=True, slots=True, eq=False)
class LoraMatrices:
    """The two matrices of one layer."""

    lora_a: Tensor
    """`[rank, in_features]`"""
    lora_b: Tensor
    """`[out_features, rank]`"""


@contextmanager
def own_randomness(seed: int, *, device: str) -> Iterator[None]:
    """Lets PEFT draw from the global generators as if they were its own, seeded with `seed`."""
    gpus = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:  # decompositions draw where the weights are
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def check_rank(layers: Mapping[str, nn.Linear], *, settings: AdaptationSettings) -> None:
    """Raises `LoraUnsupported` if a layer's weights have fewer singular values than pissa or olora are to take."""
    if not settings.shifts_base:
        return
    name, layer = min(layers.items(), key=lambda item: _largest_rank(item[1]))
    if _largest_rank(layer) < settings.lora_rank:
        raise LoraUnsupported(
            f"init {settings.init} takes a lora_rank of at most {_largest_rank(layer)} in {name} "
            f"({layer.in_features} to {layer.out_features}), not {settings.lora_rank}"
        )


def _largest_rank(layer: nn.Linear) -> int:
    return min(layer.in_features, layer.out_features)


def initialise(peft_model: PeftModel, *, settings: AdaptationSettings) -> None:
    """Gives the adapter of `peft_model` the initial matrices that PEFT does not make without touching the base.

    Draws from the global generators: to be called within `own_randomness`.
    """
    if not (settings.shifts_base or settings.init == "orthogonal"):
        return
    matrices = {name: _matrices_from(layer, settings=settings) for name, layer in adapted_layers(peft_model).items()}
    set_matrices(peft_model, TRAINED, matrices)
    if settings.shifts_base:
        _add_frozen_adapter(peft_model)
        negative = {name: LoraMatrices(initial.lora_a, -initial.lora_b) for name, initial in matrices.items()}
        set_matrices(peft_model, FROZEN, negative)


def _matrices_from(layer: LoraLayer, *, settings: AdaptationSettings) -> LoraMatrices:
    """PEFT's own initialisation, of a float32 copy of the layer that may come to harm."""
    with torch.device("meta"):
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
    weight = dequantize_module_weight(layer.get_base_layer()).detach()
    linear.weight = nn.Parameter(weight.to(torch.float32, copy=True), requires_grad=False)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        use_rslora=settings.use_rslora,
        init_lora_weights=settings.init,
        target_modules=["linear"],
    )
    copy = inject_adapter_in_model(config, nn.ModuleDict({"linear": linear}))["linear"]
    return LoraMatrices(copy.lora_A[TRAINED].weight.detach(), copy.lora_B[TRAINED].weight.detach())


def _add_frozen_adapter(peft_model: PeftModel) -> None:
    trained = peft_model.peft_config[TRAINED].to_dict()
    # Without dropout: it stands for a part of the base's own weights.
    config = LoraConfig(**{**trained, "lora_dropout": 0.0, "init_lora_weights": False})
    peft_model.add_adapter(FROZEN, config)
    peft_model.base_model.set_adapter([TRAINED, FROZEN])
    for layer in adapted_layers(peft_model).values():
        layer.lora_A[FROZEN].requires_grad_(requires_grad=False)
        layer.lora_B[FROZEN].requires_grad_(requires_grad=False)


def adapted_layers(peft_model: PeftModel) -> dict[str, LoraLayer]:
    """The layers of `peft_model` that carry LoRA matrices, by the names that adapter files give them."""
    return {name: module for name, module in peft_model.named_modules() if isinstance(module, LoraLayer)}


def get_matrices(peft_model: PeftModel, adapter: str) -> dict[str, LoraMatrices]:
    """The matrices themselves, not copies.

    Not by PEFT's `get_peft_model_state_dict`: it collects the state of the whole model, and for that bitsandbytes may
    repack 4-bit weights, which is not free of loss (0.50.2, on a CPU).
    """
    return {
        name: LoraMatrices(layer.lora_A[adapter].weight, layer.lora_B[adapter].weight)
        for name, layer in adapted_layers(peft_model).items()
    }


@torch.no_grad()
def set_matrices(peft_model: PeftModel, adapter: str, matrices: Mapping[str, LoraMatrices]) -> None:
    """Copies `matrices` into the adapter named `adapter`; both have the same layers and shapes."""
    for name, own in get_matrices(peft_model, adapter).items():
        own.lora_a.copy_(matrices[name].lora_a)
        own.lora_b.copy_(matrices[name].lora_b)
