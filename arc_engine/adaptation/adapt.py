"""Adapting a base model to one task: the training loop."""

import math
import random
import time
from typing import Any

import torch

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.batches import Batch, batch_loss, collate
from arc_engine.adaptation.examples import ExampleSource
from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.adaptation.steps import AdaptationStep, StepObserver
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import Diverged
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task


def adapt(
    base: LoadedBase, task: Task, *, settings: AdaptationSettings, prompt: PromptSettings, observe: StepObserver
) -> Adapter:
    """Trains a new LoRA adapter on the demonstrations of `task` and returns it.

    `observe` is called after every step, and stops the training by raising. However this function ends, `base` is then
    what it was before, and so is the global random state. The same seed gives the same losses bit for bit on the same
    CPU with the same number of threads.

    Raises `EncoderUnsupported` if the base cannot write the grids, `TaskTooLong` if no training sequence fits into
    `settings.max_seq_len` and the model's positions, `Diverged` at the first loss or gradient that is not finite, and
    whatever `observe` raises.
    """
    started = time.perf_counter()
    examples = ExampleSource(
        task,
        settings=settings,
        prompt=prompt,
        tokenizer=base.tokenizer,
        max_tokens=min(settings.max_seq_len, base.max_positions),
        # A stream of its own: the sampler's views, often drawn with the same seed, are not the first training views.
        rng=random.Random(f"adaptation {settings.seed}"),
    )
    with lora_layers(base, settings=settings) as peft_model:
        loop = _TrainingLoop(base.model, settings=settings)
        for step in range(1, settings.max_steps + 1):
            batch = collate([examples.draw() for _ in range(settings.batch_size)], device=base.device)
            loss, learning_rate, grad_norm = loop.step(step, batch)
            elapsed_s = time.perf_counter() - started
            observe(AdaptationStep(step, loss, learning_rate, grad_norm, batch.num_tokens, elapsed_s))
        return export(peft_model, base_name=base.folder.name)


class _TrainingLoop:
    """AdamW over the trainable weights of `model`, which are the adapter's."""

    def __init__(self, model: Any, *, settings: AdaptationSettings) -> None:  # noqa: ANN401 - transformers is untyped
        self._model = model
        self._settings = settings
        self._weights = [weights for weights in model.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, step: int, batch: Batch) -> tuple[float, float, float]:
        """Updates the weights once; the loss before the update, the learning rate, the norm of the whole gradient."""
        learning_rate = self._settings.learning_rate * learning_rate_factor(
            step,
            scheduler=self._settings.lr_scheduler,
            max_steps=self._settings.max_steps,
            warmup_ratio=self._settings.warmup_ratio,
        )
        loss = batch_loss(self._model, batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = torch.nn.utils.clip_grad_norm_(self._weights, self._settings.max_grad_norm)
        if not (math.isfinite(loss.item()) and math.isfinite(grad_norm.item())):
            raise Diverged(step, loss.item(), grad_norm.item())
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        return loss.item(), learning_rate, grad_norm.item()
