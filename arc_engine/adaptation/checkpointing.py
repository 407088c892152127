"""Gradient checkpointing of a base model in evaluation mode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import BaseModelError


@contextmanager
def gradient_checkpointing(base: LoadedBase) -> Iterator[None]:
    """Keeps only the inputs of the base's layers, and computes the rest again in the backward pass (Chen et al., 2016,
    https://arxiv.org/abs/1604.06174), for as long as the context lasts.

    transformers' own switch works in training mode only, which would turn on the base's dropout as well.

    Raises `BaseModelError` if the architecture marks no layers that can be treated so.
    """
    layers = [module for module in base.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BaseModelError(f"{base.folder}: {type(base.model).__name__} does not support gradient checkpointing")
    with ExitStack() as restored:
        for layer in layers:
            restored.callback(_set_forward, layer, vars(layer).get("forward"))
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        yield


def _set_forward(layer: Any, forward: Any) -> None:  # noqa: ANN401 - transformers is untyped
    # A layer has a `forward` of its own only where somebody, such as accelerate, hooked into it before us.
    if forward is None:
        del layer.forward
    else:
        layer.forward = forward
