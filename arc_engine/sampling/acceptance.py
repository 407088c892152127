"""Which adapters can be sampled from: the same ones whichever backend there is.

A backend never sees a file that is not whole, or that is another base model's: an engine may die of it.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arc_engine.base_models.plain_lora import ADAPTER_WEIGHTS, read_plain_lora
from arc_engine.errors import AdapterRefused, BaseModelError
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.sampling.weight_files import (
    FLOAT_TYPES,
    BrokenWeights,
    StoredTensor,
    base_shapes,
    is_finite,
    stored_tensors,
)

TENSOR_NAME: Final = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<half>[AB])\.weight")
EXAMPLES: Final = 3
# What the backends read differently, or one of them not at all: which layers are meant, rank and scale of some alone,
# matrices in blocks.
REFUSED_OPTIONS: Final = (
    "layers_to_transform",
    "layers_pattern",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_bdlora",
)


def check_adapter(adapter: AdapterFolder, *, base: Path) -> None:
    """Raises `AdapterRefused`, which names what is wrong, unless the folder holds a plain LoRA adapter of `base`.

    That is: a configuration of plain LoRA with the declared rank and one scale; a whole weights file; for every layer
    that has matrices both of them, in the shapes that the base model's layer gives them, with finite values; and only
    layers that the configuration means. Bases that are not stored as safetensors are not compared with. Raises
    `BaseModelError` where the base model's own files are broken.
    """
    try:
        shapes = base_shapes(base)
    except BrokenWeights as error:
        raise BaseModelError(f"{base}: {error}") from error
    weights = adapter.path / ADAPTER_WEIGHTS
    try:
        config = read_plain_lora(adapter.path)
        _check_config(config, rank=adapter.rank)
        tensors = stored_tensors(weights)
        layers = _layers(tensors)
        _check_meant(layers, config)
        _check_shapes(layers, shapes, rank=adapter.rank, transposed=bool(config.get("fan_in_fan_out")))
        _check_values(weights, tensors)
    except BrokenWeights as error:
        raise AdapterRefused(f"adapter {adapter.name}: its weights file is broken: {error}") from error
    except (BaseModelError, OSError) as error:
        raise AdapterRefused(f"adapter {adapter.name}: {error}") from error


def _check_config(config: Mapping[str, Any], *, rank: int) -> None:
    if config.get("r") != rank:
        raise BaseModelError(f"its rank is {config.get('r')!r}, {rank} was declared")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise BaseModelError(f"its lora_alpha is {alpha!r}, which is no scale")
    for option in REFUSED_OPTIONS:
        value = config.get(option)
        if value is not None and value is not False and value not in ([], {}, ""):  # 0 is a layer
            raise BaseModelError(f"it has {option}, which is more than plain LoRA")


def _layers(tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of both matrices, A and B, by layer."""
    layers: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, tensor in tensors.items():
        found = TENSOR_NAME.fullmatch(name)
        if found is None:
            raise BaseModelError(f"it holds {name}, which is no LoRA matrix of a linear layer")
        layers[found["layer"]][found["half"]] = tensor.shape
    if not layers:
        raise BaseModelError("it holds no matrices")
    for layer, halves in layers.items():
        if len(halves) == 1:
            raise BaseModelError(f"{layer} has the matrix {''.join(halves)} alone")
    return layers


def _check_meant(layers: Mapping[str, object], config: Mapping[str, Any]) -> None:
    """Layers that the configuration does not mean are left out by PEFT, without a word, and not by vLLM."""
    targets = config.get("target_modules")
    if targets is None or targets == "all-linear":
        return
    if isinstance(targets, str):
        others = [layer for layer in layers if not re.fullmatch(targets, layer)]
    else:
        others = [layer for layer in layers if not any(layer == t or layer.endswith(f".{t}") for t in targets)]
    if others:
        raise BaseModelError(f"its target_modules do not mean {_some(others)}, for which it has matrices")


def _check_shapes(
    layers: Mapping[str, Mapping[str, tuple[int, ...]]],
    base: Mapping[str, tuple[int, ...]],
    *,
    rank: int,
    transposed: bool,
) -> None:
    if not base:
        return
    # The output layer would be sampled with by torch alone: see lora_target_modules in vllm_generation.
    unknown = [
        layer
        for layer in layers
        if len(base.get(f"{layer}.weight", ())) != 2 or layer.endswith("lm_head")  # noqa: PLR2004
    ]
    if unknown:
        raise BaseModelError(f"it changes {_some(unknown)}: no linear layer below the output layer of the base model")
    for layer, halves in layers.items():
        num_out, num_in = base[f"{layer}.weight"][:: -1 if transposed else 1]
        for half, expected in (("A", (rank, num_in)), ("B", (num_out, rank))):
            if halves[half] != expected:
                raise BaseModelError(
                    f"its matrix {half} for {layer} has the shape {list(halves[half])}, {list(expected)} is due: "
                    "it is of another rank, or of another base model"
                )


def _check_values(weights: Path, tensors: Mapping[str, StoredTensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOAT_TYPES:
            raise BaseModelError(f"{name} is stored as {tensor.dtype}, which is no floating point type")
        if not is_finite(weights, tensor):
            raise BaseModelError(f"{name} has values that are not finite")


def _some(layers: list[str]) -> str:
    return ", ".join(sorted(layers)[:EXAMPLES]) + (f" and {len(layers) - EXAMPLES} more" if layers[EXAMPLES:] else "")
