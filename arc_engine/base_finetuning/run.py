"""The base fine-tuning loop: batches, step, log, checkpoint, validate, until the budget is used."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from arc_engine.adaptation.batches import batch_loss, collate
from arc_engine.adaptation.examples import Example
from arc_engine.base_finetuning.checkpoint import (
    RunState,
    latest_checkpoint,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from arc_engine.base_finetuning.corpus import Corpus
from arc_engine.base_finetuning.data import Data
from arc_engine.base_finetuning.log import RunLog
from arc_engine.base_finetuning.optimiser import Optimiser
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_finetuning.schedule import learning_rate
from arc_engine.base_finetuning.stream import BatchStream
from arc_engine.base_finetuning.trainable import Trainable
from arc_engine.base_finetuning.validation import ValidationSet
from arc_engine.base_models.manifest import hash_folder
from arc_engine.errors import RunMismatch
from arc_engine.hashing import hash_text
from arc_engine.training.processes import require_one_checkpoint

# What a model is loaded from, in its folder.
READ_BY_MODELS: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")


class FineTuning:
    """One run in one folder; a second object on the same folder goes on from the newest checkpoint.

    Every process of `accelerator` draws the same micro-batches and computes its share of them; the gradients are
    summed, and the first process alone writes.
    """

    def __init__(
        self, recipe: Recipe, data: Data, trained: Trainable, *, accelerator: Accelerator, out_dir: Path
    ) -> None:
        base = trained.base
        max_tokens = min(recipe.max_seq_len, base.max_positions)
        self.recipe = recipe
        self.out_dir = out_dir
        self.trained = trained
        self.corpus = Corpus(recipe, data.parts, base.tokenizer, max_tokens=max_tokens)
        self.stream = BatchStream(self.corpus, recipe)
        self._accelerator = accelerator
        self._fingerprint = hash_text(f"{recipe.fingerprint()} {data} {_read_by_models(base.folder)}")
        self._optimiser = Optimiser(
            list(trained.weights.values()),
            settings=recipe.optimisation,
            accelerator=accelerator,
            dtype=base.model.dtype,
        )
        self._validation = (
            ValidationSet(recipe, data.validation, base.tokenizer, max_tokens=max_tokens) if data.validation else None
        )
        self._log = RunLog(out_dir)
        self.state = self._resume()
        self._started = time.monotonic() - self.state.elapsed_s
        self._checkpointed_s = self.state.elapsed_s
        self._logged = self.state

    @property
    def progress(self) -> float:
        """Share of the budget that is used, 0..1; of wall time by the first process's clock."""
        if self.recipe.max_steps is not None:
            return min(1.0, self.state.step / self.recipe.max_steps)
        elapsed_s: float
        (elapsed_s,) = broadcast_object_list([self._elapsed_s])
        return min(1.0, elapsed_s / ((self.recipe.hours or 0.0) * 3600))

    @property
    def num_processes(self) -> int:
        """How many processes share the work."""
        num_processes: int = self._accelerator.num_processes
        return num_processes

    @property
    def last_validation(self) -> dict[str, Any] | None:
        """The newest record of a validation in the log, earlier sittings included."""
        return self._log.last("validation")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def step(self, progress: float) -> None:
        """One update. Raises `Diverged` on a loss or gradient that is not finite."""
        batches = [self.stream.next_batch() for _ in range(self.recipe.gradient_accumulation)]
        rate = learning_rate(self.recipe.optimisation, step=self.state.step, progress=progress)
        number = self.state.step + 1
        loss, grad_norm = self._optimiser.step(
            number, lambda scale: self._backward(number, batches, scale=scale), learning_rate=rate
        )
        self.state = replace(
            self.state,
            step=number,
            tokens=self.state.tokens + sum(len(example) for batch in batches for example in batch),
            elapsed_s=self._elapsed_s,
            stream=self.stream.state,
            loss_scale=self._optimiser.loss_scale.value,
        )
        if number % self.recipe.log_every_steps == 0:
            self._log_step(loss, grad_norm=grad_norm, rate=rate, progress=progress)

    def keep_up(self) -> None:
        """Writes the validation and the checkpoint that are due."""
        validation = self.recipe.validation
        if validation is not None and self.state.step % validation.every_steps == 0:
            self.validate()
        every = self.recipe.checkpoint_every_steps
        due = self.state.step % every == 0 if every else False
        if due or self._elapsed_s - self._checkpointed_s >= self.recipe.checkpoint_every_s:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Writes a checkpoint now."""
        # What came after the last step, such as a validation, has used budget too: a finished run stays finished.
        self.state = replace(self.state, elapsed_s=self._elapsed_s)
        self._checkpointed_s = self._elapsed_s
        if self._accelerator.is_main_process:
            save_checkpoint(self.out_dir, self.trained.weights, self._optimiser.adamw, self.state)

    def validate(self) -> None:
        """Measures the validation tasks now, unless that was just done, and logs the result."""
        if self._validation is None or self.state.validated_step == self.state.step:
            return
        begun = time.monotonic()
        with self.trained.answering(), self.trained.forward():
            report = self._validation.measure(self.trained.base, accelerator=self._accelerator)
        self.state = replace(self.state, validated_step=self.state.step)
        if self._accelerator.is_main_process:
            took_s = round(time.monotonic() - begun, 1)
            self._log.write({"kind": "validation", "step": self.state.step, **asdict(report), "took_s": took_s})

    def _backward(self, number: int, batches: list[list[Example]], *, scale: float) -> float:
        """Adds the gradients of `scale` times the mean loss over all targets of all batches, those that are this
        process's; the loss, over all processes."""
        num_targets = sum(sum(example.is_target) for batch in batches for example in batch)
        device = self.trained.base.device
        loss = torch.zeros((), device=device)
        mine = range(self._accelerator.process_index, len(batches), self._accelerator.num_processes)
        for place in mine:
            batch = collate(batches[place], device=device)
            with self.trained.training(f"{number} {place}"):
                with self.trained.forward():
                    share = batch_loss(self.trained.model, batch) * (len(batch.target_ids) / num_targets)
                (share * scale).backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        return float(self._accelerator.reduce(loss, reduction="sum").item())

    def _log_step(self, loss: float, *, grad_norm: float, rate: float, progress: float) -> None:
        seconds = max(1e-9, self.state.elapsed_s - self._logged.elapsed_s)
        if self._accelerator.is_main_process:
            self._log.write(
                {
                    "kind": "step",
                    "step": self.state.step,
                    "loss": loss,
                    "grad_norm": grad_norm,
                    "learning_rate": rate,
                    "tokens": self.state.tokens,
                    "tokens_per_s": round((self.state.tokens - self._logged.tokens) / seconds),
                    "progress": round(progress, 5),
                    "elapsed_s": round(self.state.elapsed_s, 1),
                }
            )
        self._logged = self.state

    def _resume(self) -> RunState:
        """Where the run stands, everything put there; every process finds the same."""
        checkpoint = latest_checkpoint(self.out_dir)
        found = None if checkpoint is None else read_state(checkpoint)
        require_one_checkpoint(found and (found.fingerprint, found.step), out_dir=self.out_dir)
        if checkpoint is None or found is None:
            state = RunState(fingerprint=self._fingerprint, loss_scale=self._optimiser.loss_scale.value)
        elif found.fingerprint != self._fingerprint:
            raise RunMismatch(
                f"{self.out_dir} holds a run of another recipe, on other tasks, or from another base model: "
                "take another folder"
            )
        else:
            state = load_checkpoint(checkpoint, self.trained.weights, self._optimiser.adamw)
            self.stream.restore(state.stream)
            self._optimiser.loss_scale.value = state.loss_scale
        if self._accelerator.is_main_process:
            self._log.forget_after(state.step, validated_step=state.validated_step)
        return state


def _read_by_models(folder: Path) -> dict[str, str]:
    """Hashes of the base's weights, configuration and tokenizer, whatever else is in its folder."""
    return {name: digest for name, digest in hash_folder(folder).items() if Path(name).suffix in READ_BY_MODELS}


def train(run: FineTuning, *, on_step: Callable[[RunState], None] | None = None) -> None:
    """Trains until the budget is used; `on_step` is called after every step."""
    while (progress := run.progress) < 1.0:
        run.step(progress)
        if on_step is not None:
            on_step(run.state)
        run.keep_up()
    run.checkpoint()
    run.validate()
