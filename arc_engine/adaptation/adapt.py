"""Adapting a base model to tasks: the training loop."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.batches import collate
from arc_engine.adaptation.checkpointing import gradient_checkpointing
from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.adaptation.mixture import TaskMixture
from arc_engine.adaptation.steps import AdaptationStep, StepObserver
from arc_engine.adaptation.stopping import StopCause, StopRule
from arc_engine.adaptation.trainer import Trainer
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What an adaptation leaves behind, and how it came to its end."""

    adapter: Adapter
    num_steps: int
    """Optimizer steps taken."""
    stopped_by: StopCause
    left_out: tuple[int, ...]
    """Indices of the tasks that were not trained on, because they fit into no sequence; empty for a single task."""


def adapt(
    base: LoadedBase,
    tasks: Sequence[Task],
    *,
    settings: AdaptationSettings,
    prompt: PromptSettings,
    observe: StepObserver,
    initial: Adapter | None = None,
) -> Adaptation:
    """Trains one LoRA adapter on the demonstrations of `tasks`: a new one, or `initial` further.

    `observe` is called after every step, and stops the training by raising. However this function ends, `base` is then
    what it was before, and so is the global random state. The same seed gives the same losses bit for bit on the same
    CPU with the same number of threads, unless a time budget ends one run before the other.

    Raises `EncoderUnsupported` or `PromptUnsupported` if the base cannot write the prompt, `TaskTooLong` if no training
    sequence of any task fits into `settings.max_seq_len` and the model's positions, `LoraUnsupported` if the settings
    ask for layers that the base does not have or a rank that they cannot have, `BaseModelError` if `initial` is not for
    the base, `Diverged` at the first step whose loss or gradient is out of bounds, and whatever `observe` raises.
    """
    started = time.perf_counter()
    examples = TaskMixture(
        tasks,
        settings=settings,
        prompt=prompt,
        tokenizer=base.tokenizer,
        max_tokens=min(settings.max_seq_len, base.max_positions),
    )
    checkpointing = gradient_checkpointing(base) if settings.gradient_checkpointing else nullcontext()
    with lora_layers(base, settings=settings, initial=initial) as peft_model, checkpointing:
        num_steps, stopped_by = _train(base, examples, settings=settings, observe=observe, started=started)
        adapter = export(peft_model, base_name=base.folder.name)
    return Adaptation(adapter, num_steps=num_steps, stopped_by=stopped_by, left_out=examples.left_out)


def _train(
    base: LoadedBase, examples: TaskMixture, *, settings: AdaptationSettings, observe: StepObserver, started: float
) -> tuple[int, StopCause]:
    """Takes steps until the settings say stop; how many, and why."""
    stop_rule = StopRule(settings)
    trainer = Trainer(base, settings=settings)
    stopped_by, number = None, 0
    while stopped_by is None:
        number += 1
        batch = collate([examples.draw() for _ in range(settings.batch_size)], device=base.device)
        done = trainer.step(number, batch)
        elapsed_s = time.perf_counter() - started
        step = AdaptationStep(number, done.loss, done.learning_rate, done.grad_norm, batch.num_tokens, elapsed_s)
        observe(step)
        stopped_by = stop_rule.after(step)
    return number, stopped_by
