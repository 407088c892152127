"""Which layers of a base model get LoRA matrices."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from arc_engine.errors import LoraUnsupported


def adaptable_layers(model: Any) -> dict[str, nn.Linear]:  # noqa: ANN401 - transformers is untyped
    """All linear layers of a language model by name, but its output layer: losses take that one as it is."""
    output_layer = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output_layer
    }


def targeted_layers(model: Any, target_modules: str | Sequence[str]) -> dict[str, nn.Linear]:  # noqa: ANN401 - see above
    """The layers that the setting `target_modules` means: all that can be adapted, or those whose names end so.

    Raises `LoraUnsupported` if a name is that of no layer, or of one that cannot have LoRA matrices, and for models
    without linear layers, such as GPT-2, whose layers are convolutions.
    """
    adaptable = adaptable_layers(model)
    if not adaptable:
        raise LoraUnsupported(f"{type(model).__name__} has no linear layers below the output layer")
    if target_modules == "all-linear":
        return adaptable
    for target in target_modules:
        named = [name for name, _ in model.named_modules() if _is_meant(name, target)]
        if not named or not adaptable.keys() >= set(named):
            ends = ", ".join(sorted({name.rpartition(".")[2] for name in adaptable}))
            raise LoraUnsupported(
                f"target_modules: {target} does not name linear layers below the output layer; the model has {ends}"
            )
    return {
        name: layer for name, layer in adaptable.items() if any(_is_meant(name, target) for target in target_modules)
    }


def _is_meant(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")  # PEFT's own rule


def shortest_names(model: Any, layers: Sequence[str]) -> list[str]:  # noqa: ANN401 - see above
    """Names for a configuration's `target_modules` that mean exactly `layers` of `model`.

    The last parts of the names where they do, as they are the same for any number of layers; else the names in full.
    """
    ends = {name.rpartition(".")[2] for name in layers}
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in ends}
    return sorted(ends if meant == set(layers) else layers)
