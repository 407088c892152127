"""One optimizer step at a time."""

import math
import random
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer

from arc_engine.adaptation.batches import Batch, batch_loss
from arc_engine.adaptation.initialisation import own_randomness
from arc_engine.adaptation.loss_scale import LossScale
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import Diverged
from arc_engine.settings import AdaptationSettings


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
        self._loss_scale = LossScale.of(base.model.dtype)
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

        def scaled(scale: float) -> tuple[float, float]:
            loss = self._backward(number, batch, scale=scale)
            return loss, torch.nn.utils.clip_grad_norm_(self._weights, self._settings.max_grad_norm).item()

        return self._loss_scale.settle(scaled)

    def _backward(self, number: int, batch: Batch, *, scale: float) -> float:
        # Seeded by the step and not by what came before: a run that is resumed draws the same dropout.
        seed = random.Random(f"dropout {self._settings.seed} {number}").getrandbits(63)
        with own_randomness(seed, device=self._base.device):
            loss = batch_loss(self._base.model, batch)
            self._optimizer.zero_grad()
            (loss * scale).backward()  # type: ignore[no-untyped-call]
        if scale != 1:
            for weights in self._weights:
                if weights.grad is not None:
                    weights.grad /= scale
        return loss.item()
