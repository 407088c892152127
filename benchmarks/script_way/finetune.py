"""Trains an adapter per task: transformers' `Trainer` over a PEFT model.

    python -m benchmarks.script_way.finetune RECIPE ADAPTERS REPORT

The base is loaded once, however many tasks the recipe has.
"""

import math
import sys
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
    set_seed,
)

from arc_engine.adaptation.mixture import TaskMixture
from arc_engine.tasks import Task
from benchmarks.script_way.recipe import Recipe
from benchmarks.script_way.report import Report

IGNORED: Final = -100
"""The label that transformers' losses leave out."""
LOSS_WINDOW: Final = 10
"""The last loss is the mean of this many steps, as in `arcadapt.following`."""


def main(recipe_file: Path, adapters: Path, report_file: Path) -> None:
    """Writes `ADAPTERS/<task id>/`, each a PEFT adapter."""
    recipe, report = Recipe.read(recipe_file), Report()
    with report.stage("load"):
        tokenizer = AutoTokenizer.from_pretrained(recipe.base)
        model = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=getattr(torch, recipe.dtype))
    for task_id, task in recipe.tasks.items():
        with report.stage("training"):
            losses = finetune(model, tokenizer, task, recipe=recipe, folder=adapters / task_id, report=report)
        report.last_losses[task_id] = fmean(losses[-max(1, min(LOSS_WINDOW, len(losses) // 2)) :])
    report.write(report_file)


def finetune(
    model: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    task: Task,
    *,
    recipe: Recipe,
    folder: Path,
    report: Report,
) -> list[float]:
    """The losses of all steps. Leaves the model without an adapter again."""
    settings = recipe.adaptation
    set_seed(settings.seed)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
    )
    peft_model = get_peft_model(model, lora)
    examples = _examples(task, recipe=recipe, tokenizer=tokenizer, max_positions=model.config.max_position_embeddings)
    trainer = Trainer(
        model=peft_model,
        args=_arguments(recipe, folder=folder),
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
    )
    trainer.train()
    peft_model.save_pretrained(folder)
    peft_model.unload()
    report.count("steps", trainer.state.global_step)
    report.count("train_tokens", sum(len(example["input_ids"]) for example in examples))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _arguments(recipe: Recipe, *, folder: Path) -> TrainingArguments:
    settings = recipe.adaptation
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=math.ceil(settings.warmup_ratio * settings.max_steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",  # they were drawn at random already
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=settings.logging_steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
    )


def _examples(
    task: Task,
    *,
    recipe: Recipe,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    max_positions: int,
) -> list[dict[str, list[int]]]:
    """One epoch: a sequence per place in a batch, each with one of the task's pairs held out, under a random view."""
    settings = recipe.adaptation
    source = TaskMixture(
        [task],
        settings=settings,
        prompt=recipe.settings.prompt,
        tokenizer=tokenizer,
        max_tokens=min(settings.max_seq_len, max_positions),
    )
    drawn = [source.draw() for _ in range(settings.max_steps * settings.batch_size)]
    return [
        {
            "input_ids": list(example.ids),
            "labels": [
                token if is_target else IGNORED for token, is_target in zip(example.ids, example.is_target, strict=True)
            ],
        }
        for example in drawn
    ]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
