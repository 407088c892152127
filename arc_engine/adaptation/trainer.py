"""One optimizer step at a time."""

import math
import random
from dataclasses import dataclass
from typing import Final

import torch
from peft.tuners.lora import LoraLayer

from arc_engine.adaptation.batches import Batch, batch_loss
from arc_engine.adaptation.initialisation import own_randomness
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import Diverged
from arc_engine.settings import AdaptationSettings

FLOAT16_LOSS_SCALE: Final = 2.0**16
"""Gradients of a float16 base are computed times this, so that small ones do not vanish (Micikevicius et al., 2018,
https://arxiv.org/abs/1710.03740), and less where that overflows. Powers of two change nothing else."""


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """What a step was like."""

    loss: float
    """Before the update."""
    learning_rate: float
    grad_norm: float
    """Of the whole adapter, before clipping."""


class Trainer:
    """AdamW over the trainable weights of `base`, which are the adapter's.

    The base stays in evaluation mode, so that it has no dropout; that of the LoRA layers is on.
    """

    def __init__(self, base: LoadedBase, *, settings: AdaptationSettings) -> None:
        self._base = base
        self._settings = settings
        self._loss_scale = FLOAT16_LOSS_SCALE if base.model.dtype == torch.float16 else 1.0
        self._weights = [weights for weights in base.model.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        for module in base.model.modules():
            if isinstance(module, LoraLayer):
                module.lora_dropout.train()

    def step(self, number: int, batch: Batch) -> TrainedStep:
        """Updates the weights once; steps are numbered from 1.

        Raises `Diverged`, the weights as they were, if the loss or the gradient is not finite or the gradient's norm is
        above the settings' `divergence_norm`.
        """
        loss, grad_norm = self._gradients(number, batch)
        if not (math.isfinite(loss) and grad_norm <= self._settings.divergence_norm):
            raise Diverged(number, loss, grad_norm, self._settings.divergence_norm)
        learning_rate = self._settings.learning_rate * learning_rate_factor(
            number,
            scheduler=self._settings.lr_scheduler,
            max_steps=self._settings.max_steps,
            warmup_ratio=self._settings.warmup_ratio,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        return TrainedStep(loss, learning_rate, grad_norm)

    def _gradients(self, number: int, batch: Batch) -> tuple[float, float]:
        """Leaves the clipped gradients at the weights; the loss and the norm before clipping."""
        while True:
            loss = self._backward(number, batch)
            grad_norm = torch.nn.utils.clip_grad_norm_(self._weights, self._settings.max_grad_norm).item()
            if math.isfinite(grad_norm) or not math.isfinite(loss) or self._loss_scale <= 1:
                return loss, grad_norm
            self._loss_scale /= 4

    def _backward(self, number: int, batch: Batch) -> float:
        # Seeded by the step and not by what came before: a run that is resumed draws the same dropout.
        seed = random.Random(f"dropout {self._settings.seed} {number}").getrandbits(63)
        with own_randomness(seed, device=self._base.device):
            loss = batch_loss(self._base.model, batch)
            self._optimizer.zero_grad()
            (loss * self._loss_scale).backward()  # type: ignore[no-untyped-call]
        if self._loss_scale != 1:
            for weights in self._weights:
                if weights.grad is not None:
                    weights.grad /= self._loss_scale
        return loss.item()
