"""What others write: Hugging Face's Trainer with PEFT, and a plain PEFT loop.

Both get the sequences ready drawn. AdamW is the fused one, the learning rates are those of our schedule, the model's
cache is off, and neither logs, evaluates nor saves anything. Losses stay on the device until a run is over.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainingArguments

from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_clock import OneByOne, Timing
from benchmarks.adapting_jobs import Job

IGNORED = -100
"""The label of a token that is no target."""


def train_with_trainer(
    base: LoadedBase, jobs: Sequence[Job], *, settings: AdaptationSettings
) -> tuple[Timing, list[list[float]]]:
    """One task after the other in one process: a new PEFT model and a new Trainer for each, unloaded afterwards."""
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        clock = OneByOne(device=base.device, steps=settings.max_steps)
        for job in jobs:
            peft_model = _with_adapter(base, settings=settings)
            optimizer, schedule = _optimisation(peft_model, settings=settings, clock=clock)
            trainer = Trainer(
                model=peft_model,
                args=_arguments(folder, settings=settings, device=base.device),
                data_collator=_collated,
                train_dataset=[example for batch in job.batches for example in batch],
                optimizers=(optimizer, schedule),
            )
            trainer.remove_callback(PrinterCallback)
            with _losses_of(peft_model) as found:
                trainer.train()
            peft_model.unload()
            losses.append(found)
        timing = clock.timing()
    return timing, [_numbers(found) for found in losses]


def train_with_loop(
    base: LoadedBase, jobs: Sequence[Job], *, settings: AdaptationSettings, autocast: bool
) -> tuple[Timing, list[list[float]]]:
    """One task after the other with one PEFT model, whose matrices are set back to their first values for each task."""
    peft_model = _with_adapter(base, settings=settings)
    trained = [weights for weights in peft_model.parameters() if weights.requires_grad]
    initial = [weights.detach().clone() for weights in trained]
    precision = torch.autocast(base.device, dtype=torch.bfloat16) if autocast else nullcontext()
    peft_model.train()
    losses = []
    clock = OneByOne(device=base.device, steps=settings.max_steps)
    for job in jobs:
        _set(trained, initial)
        optimizer, schedule = _optimisation(peft_model, settings=settings, clock=clock)
        found = []
        for batch in job.batches:
            inputs = {name: tensor.to(base.device) for name, tensor in _collated(batch).items()}
            with precision:
                loss = peft_model(**inputs, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            found.append(loss.detach())
        losses.append(found)
    timing = clock.timing()
    peft_model.unload()
    return timing, [_numbers(found) for found in losses]


def _with_adapter(base: LoadedBase, *, settings: AdaptationSettings) -> PeftModel:
    """PEFT's own initialisation from the seed that ours starts from."""
    torch.manual_seed(settings.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.target_modules,
    )
    return get_peft_model(base.model, config)


def _arguments(folder: str, *, settings: AdaptationSettings, device: str) -> TrainingArguments:
    on_gpu = device.startswith("cuda")
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=settings.batch_size,
        max_steps=settings.max_steps,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",  # the order in which they were drawn
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        dataloader_pin_memory=on_gpu,
        seed=settings.seed,
    )


def _optimisation(
    peft_model: PeftModel, *, settings: AdaptationSettings, clock: OneByOne
) -> tuple[Optimizer, LambdaLR]:
    """AdamW on our schedule; every update is a step of the clock."""
    weights = [weights for weights in peft_model.parameters() if weights.requires_grad]
    optimizer = AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    factor = partial(
        learning_rate_factor,
        scheduler=settings.lr_scheduler,
        max_steps=settings.max_steps,
        warmup_ratio=settings.warmup_ratio,
    )
    schedule = LambdaLR(optimizer, lambda done: factor(min(done + 1, settings.max_steps)))
    numbers = count(1)
    optimizer.register_step_post_hook(lambda *_: clock.step(next(numbers)))
    return optimizer, schedule


def _collated(examples: Sequence[Example]) -> dict[str, Tensor]:
    """What a data collator makes of them: padded on the right, with a mask and labels, all `[batch, length]`."""
    length = max(len(example) for example in examples)
    input_ids = torch.zeros(len(examples), length, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.ids)
        input_ids[row, : len(example)] = ids
        attention_mask[row, : len(example)] = 1
        labels[row, : len(example)] = ids.where(torch.tensor(example.is_target), IGNORED)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


@contextmanager
def _losses_of(peft_model: PeftModel) -> Iterator[list[Tensor]]:
    """Gathers the loss of every forward pass of training."""
    found: list[Tensor] = []
    hook = peft_model.register_forward_hook(lambda _model, _inputs, output: found.append(_loss(output)))
    try:
        yield found
    finally:
        hook.remove()


def _loss(output: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    loss: Tensor = output["loss"].detach()
    return loss


def _numbers(found: Sequence[Tensor]) -> list[float]:
    return torch.stack(list(found)).float().tolist()


@torch.no_grad()
def _set(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for own, value in zip(weights, values, strict=True):
        own.copy_(value)
