"""AdamW over the trained weights, for gradients that several processes add up and float16 scales."""

import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from arc_engine.adaptation.loss_scale import LossScale
from arc_engine.base_finetuning.recipe import Optimisation
from arc_engine.errors import Diverged
from arc_engine.training.processes import summed_gradients

Backward = Callable[[float], float]
"""Adds this process's gradients, times the scale that it is given, to the weights; the loss over all processes."""


class Optimiser:
    """One step at a time; every process takes the same one."""

    def __init__(
        self, weights: Sequence[Tensor], *, settings: Optimisation, accelerator: Accelerator, dtype: torch.dtype | None
    ) -> None:
        self.adamw = torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.loss_scale = LossScale.of(dtype)
        self._weights = list(weights)
        self._settings = settings
        self._accelerator = accelerator

    def step(self, number: int, backward: Backward, *, learning_rate: float) -> tuple[float, float]:
        """Updates the weights once; the loss before the update, and the norm of the whole gradient.

        Raises `Diverged`, the weights as they were, if either is not finite.
        """
        loss, grad_norm = self.loss_scale.settle(lambda scale: self._gradients(backward, scale=scale))
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise Diverged(number, loss, grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        return loss, grad_norm

    def _gradients(self, backward: Backward, *, scale: float) -> tuple[float, float]:
        """Leaves the clipped gradients at the weights; the loss and the norm before clipping."""
        self.adamw.zero_grad()
        loss = backward(scale)
        gradients = summed_gradients(self._weights, accelerator=self._accelerator)
        for weights, gradient in zip(self._weights, gradients, strict=True):
            weights.grad = gradient if scale == 1 else gradient / scale
        return loss, clip_grad_norm_(self._weights, self._settings.max_grad_norm).item()
