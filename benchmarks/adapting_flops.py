"""How many floating-point operations a training step needs, and how many this machine does in matrix products."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Self

import torch
from torch import Tensor

from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.products import product
from arc_engine.adaptation.targets import adaptable_layers
from arc_engine.base_models.loading import LoadedBase

MIN_SECONDS: Final = 0.2
NUM_MEASUREMENTS: Final = 5
SQUARE: Final = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model decides the cost of a step."""

    layers: tuple[tuple[int, int], ...]
    """Inputs and outputs of every linear layer but the output layer."""
    attention_width: int
    """Width of all heads of a layer together, times the number of layers."""
    head: int
    """Weights of the output layer."""

    @classmethod
    def of(cls, model: Any) -> Self:  # noqa: ANN401 - transformers is untyped
        """Reads it off the model, which has no adapter."""
        config = model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            layers=tuple((layer.in_features, layer.out_features) for layer in adaptable_layers(model).values()),
            attention_width=config.num_attention_heads * head_dim * config.num_hidden_layers,
            head=model.get_output_embeddings().weight.numel(),
        )

    def step_flops(self, examples: Sequence[Example], *, rank: int) -> float:
        """Operations that one step on these sequences needs, a product and its sum being two.

        Per token: 4 for every weight of a linear layer (forward, and backward to its input; it is frozen), 6 for every
        weight of its LoRA matrices (and backward to themselves). Attention is causal: of n tokens every one sees n / 2,
        which is 2 n^2 for each element of the heads' width in the forward pass and twice that in the backward pass. Of
        the output layer, 4 per weight for every target. Norms, activations, softmax, the update, padding, and whatever
        is computed twice are not counted: whoever computes more than this needs longer, and achieves less.
        """
        weights = sum(inputs * outputs for inputs, outputs in self.layers)
        lora = rank * sum(inputs + outputs for inputs, outputs in self.layers)
        lengths = [len(example) - 1 for example in examples]  # nobody has to compute the last token
        num_targets = sum(sum(example.is_target) for example in examples)
        attention = 6 * self.attention_width * sum(length**2 for length in lengths)
        return (4 * weights + 6 * lora) * sum(lengths) + attention + 4 * self.head * num_targets


def ceilings(base: LoadedBase, *, num_tokens: int) -> dict[str, float]:
    """Operations per second of matrix products alone, in the model's precision and with the threads that torch has:
    `square` of large square matrices, `model` of this many tokens with each linear layer of one block of the model."""
    side = SQUARE["cuda" if base.device.startswith("cuda") else "cpu"]
    shapes = dict.fromkeys(ModelShape.of(base.model).layers)
    return {
        "square": _flops_per_s([(side, side, side)], base=base),
        "model": _flops_per_s([(num_tokens, inputs, outputs) for inputs, outputs in shapes], base=base),
    }


def _flops_per_s(products: Sequence[tuple[int, int, int]], *, base: LoadedBase) -> float:
    """Median of several measurements of products `[rows, inner] @ [columns, inner].T`, one after the other."""
    factors = [(_random(base, rows, inner), _random(base, columns, inner)) for rows, inner, columns in products]
    flops = sum(2 * rows * inner * columns for rows, inner, columns in products)
    _seconds(factors, times=1, device=base.device)  # warms up
    times = max(1, round(MIN_SECONDS / _seconds(factors, times=1, device=base.device)))
    return median(flops * times / _seconds(factors, times=times, device=base.device) for _ in range(NUM_MEASUREMENTS))


def _random(base: LoadedBase, rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, device=base.device, dtype=base.model.dtype)


@torch.no_grad()
def _seconds(factors: Sequence[tuple[Tensor, Tensor]], *, times: int, device: str) -> float:
    _wait(device)
    begun = time.perf_counter()
    for _ in range(times):
        for left, right in factors:
            product(left, right)
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
