"""The pretraining loop: batch, step, log, checkpoint, validate, until the budget is used."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.nn.utils import clip_grad_norm_

from arc_engine.errors import Diverged, RunMismatch
from arc_engine.pretraining.batches import Batch, BatchStream, StreamState
from arc_engine.pretraining.checkpoint import RunState, latest_checkpoint, load_checkpoint, read_state, save_checkpoint
from arc_engine.pretraining.corpus import Corpus
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.guidance import Guide
from arc_engine.pretraining.model import batch_loss, build_model
from arc_engine.pretraining.optimiser import build_optimisers, learning_rate_factor, set_learning_rates
from arc_engine.pretraining.recipe import Recipe
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.pretraining.validation import held_out_tasks, validate
from arc_engine.training.processes import (
    join_processes,
    require_even_shares,
    require_one_checkpoint,
    summed_gradients,
)

LOG_NAME = "log.jsonl"


class Pretraining:
    """One run in one directory; a second object on the same directory goes on from the newest checkpoint.

    Every process of `accelerator` draws the same batches and computes its share of them; the gradients are summed, and
    the first process alone writes.
    """

    def __init__(self, recipe: Recipe, *, out_dir: Path, accelerator: Accelerator | None = None) -> None:
        """Raises `UnevenShares` if the processes cannot share the batches of a step, and `RunMismatch`."""
        self._accelerator = accelerator or join_processes()
        require_even_shares(recipe.gradient_accumulation, accelerator=self._accelerator)
        self.recipe = recipe
        self.out_dir = out_dir
        out_dir.mkdir(parents=True, exist_ok=True)
        tokenizer = build_tokenizer(recipe.grid_encoder, model_max_length=recipe.model.max_position_embeddings)
        self.corpus = Corpus(recipe, tokenizer)
        self.stream = BatchStream(self.corpus, recipe)
        self.device = self._accelerator.device
        self.model = build_model(recipe).to(self.device)
        self._forward = Forward(dtype=getattr(torch, recipe.precision), is_compiled=recipe.compile)
        self.optimisers = build_optimisers(self.model, recipe.optimisation, accelerator=self._accelerator)
        self.state = RunState(0, 0, 0.0, StreamState(-1, 0, 0.0), recipe.fingerprint())
        self._held_out = held_out_tasks(self.corpus, recipe)
        self._resume()
        self._started = time.monotonic() - self.state.elapsed_s
        self._checkpointed_s = self._validated_s = self.state.elapsed_s
        self._logged = self.state

    @property
    def elapsed_s(self) -> float:
        """Wall time of this run so far, earlier sittings included."""
        return time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the budget that is used, 0..1; of wall time by the first process's clock."""
        if self.recipe.max_steps is not None:
            return min(1.0, self.state.step / self.recipe.max_steps)
        elapsed_s: float
        (elapsed_s,) = broadcast_object_list([self.elapsed_s])
        return min(1.0, elapsed_s / ((self.recipe.hours or 0.0) * 3600))

    def step(self, progress: float) -> None:
        """One update at `progress` 0..1. Raises `Diverged` on a loss or gradient that is not finite."""
        settings = self.recipe.optimisation
        factor = learning_rate_factor(settings, step=self.state.step, progress=progress)
        set_learning_rates(self.optimisers, settings, factor=factor)
        batches = [self.stream.next_batch(progress) for _ in range(self.recipe.gradient_accumulation)]
        loss, guidance = self._backward(batches)
        weights = list(self.model.parameters())
        for one, gradient in zip(weights, summed_gradients(weights, accelerator=self._accelerator), strict=True):
            one.grad = gradient
        grad_norm = clip_grad_norm_(weights, settings.max_grad_norm).item()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise Diverged(self.state.step, loss, grad_norm)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad()
        tokens = self.state.tokens + sum(batch.num_tokens for batch in batches)
        self.state = replace(
            self.state, step=self.state.step + 1, tokens=tokens, elapsed_s=self.elapsed_s, stream=self.stream.state
        )
        if self.state.step % self.recipe.log_every_steps == 0:
            self._log_step(loss, grad_norm, factor, progress, guidance=guidance)

    def _backward(self, batches: Sequence[Batch]) -> tuple[float, float]:
        """The mean loss over all targets of the batches, and that of guidance.

        Leaves the gradients of this process's share of both.
        """
        num_targets = sum(batch.num_targets for batch in batches)
        losses = torch.zeros(2, device=self.device)
        mine = slice(self._accelerator.process_index, None, self._accelerator.num_processes)
        for batch in batches[mine]:
            shares = self._losses(batch.to(self.device)) * (batch.num_targets / num_targets)
            shares.sum().backward()  # type: ignore[no-untyped-call]
            losses += shares.detach()
        loss, guidance = self._accelerator.reduce(losses, reduction="sum").tolist()
        return loss, guidance

    def _losses(self, batch: Batch) -> torch.Tensor:
        """`[2]`: of the answers, and of guidance, 0 without."""
        if self.recipe.guidance is None:
            loss = batch_loss(self.model, batch, forward=self._forward)
            return torch.stack((loss, torch.zeros_like(loss)))
        guide = Guide(self.recipe.guidance, batch)
        loss = batch_loss(self.model, batch, forward=self._forward, watch=guide.watch)
        return torch.stack((loss, guide.loss()))

    def keep_up(self) -> None:
        """Writes the checkpoint and the validation that are due."""
        every = self.recipe.checkpoint_every_steps
        due = self.state.step % every == 0 if every else False
        if due or self.elapsed_s - self._checkpointed_s >= self.recipe.checkpoint_every_s:
            self.checkpoint()
        if self.elapsed_s - self._validated_s >= self.recipe.held_out.every_s:
            self.validate()

    def checkpoint(self) -> None:
        """Writes a checkpoint now."""
        # What came after the last step, such as a validation, has used budget too: a finished run stays finished.
        self.state = replace(self.state, elapsed_s=self.elapsed_s)
        if self._accelerator.is_main_process:
            save_checkpoint(self.out_dir, self.model, self.optimisers, self.state)
        self._checkpointed_s = self.elapsed_s

    def validate(self) -> None:
        """Measures the held-out tasks now and logs the result; the other processes wait for the first one's step."""
        self._validated_s = self.elapsed_s
        if not self._accelerator.is_main_process:
            return
        begun = time.monotonic()
        report = validate(self.model, self._held_out, forward=self._forward)
        self._validated_s = self.elapsed_s
        self._log(
            {
                "kind": "validation",
                "step": self.state.step,
                "elapsed_s": round(self.elapsed_s, 1),
                "took_s": round(time.monotonic() - begun, 1),
                "synthetic_exact": round(report.rate("synthetic"), 4),
                "unseen_exact": round(report.rate("unseen"), 4),
                "arc_exact": round(report.rate("arc"), 4),
                "token_accuracy": round(report.token_accuracy, 4),
                "groups": dict(sorted(report.groups.items())),
                "names": dict(sorted(report.names.items())),
            }
        )

    def wait_for_everyone(self) -> None:
        """Until all processes have come this far."""
        self._accelerator.wait_for_everyone()

    def _log_step(self, loss: float, grad_norm: float, factor: float, progress: float, *, guidance: float) -> None:
        seconds = max(1e-9, self.state.elapsed_s - self._logged.elapsed_s)
        self._log(
            {
                "kind": "step",
                "step": self.state.step,
                "tokens": self.state.tokens,
                "loss": round(loss, 4),
                **({} if self.recipe.guidance is None else {"guidance_loss": round(guidance, 4)}),
                "grad_norm": round(grad_norm, 3),
                "learning_rate_factor": round(factor, 4),
                "tokens_per_s": round((self.state.tokens - self._logged.tokens) / seconds),
                "stage": self.recipe.stage_at(progress)[0].name,
                "progress": round(progress, 5),
                "elapsed_s": round(self.state.elapsed_s, 1),
            }
        )
        self._logged = self.state

    def _log(self, record: dict[str, object]) -> None:
        if self._accelerator.is_main_process:
            with (self.out_dir / LOG_NAME).open("a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")

    def _resume(self) -> None:
        checkpoint = latest_checkpoint(self.out_dir)
        require_one_checkpoint(checkpoint and checkpoint.name, out_dir=self.out_dir)
        if checkpoint is not None:
            if read_state(checkpoint).fingerprint != self.state.fingerprint:
                raise RunMismatch(f"{self.out_dir} holds a run of another recipe: take another folder")
            self.state = load_checkpoint(checkpoint, self.model, self.optimisers)
            self.stream.restore(self.state.stream)
        self._accelerator.wait_for_everyone()  # nobody writes before everybody has read
        if self._accelerator.is_main_process:
            _forget_after(self.out_dir / LOG_NAME, self.state.step)


def _forget_after(log: Path, step: int) -> None:
    """Drops the log lines of steps that a resumed run makes again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    partial = log.with_suffix(".partial")
    partial.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")
    partial.replace(log)


def pretrain(recipe: Recipe, *, out_dir: Path, on_step: Callable[[RunState], None] | None = None) -> Path:
    """Trains until the recipe's budget is used and returns the last checkpoint.

    Started again on the same `out_dir` it goes on from the newest checkpoint; with a budget of `max_steps` the result
    is bit for bit that of an uninterrupted run on the same machine, with the same number of threads and processes.
    Several processes, of `accelerate launch` or `torchrun`, share the work. `on_step` is called after every step.

    Raises `CompilerMissing`, `RunMismatch` if `out_dir` holds a run of another recipe, `UnevenShares` if the number of
    processes does not divide the batches of a step, and `Diverged` on a loss or gradient that is not finite; the last
    checkpoint stays.
    """
    run = Pretraining(recipe, out_dir=out_dir)
    while (progress := run.progress) < 1.0:
        run.step(progress)
        if on_step is not None:
            on_step(run.state)
        run.keep_up()
    run.checkpoint()
    run.validate()
    run.wait_for_everyone()
    last = latest_checkpoint(out_dir)
    assert last is not None  # noqa: S101 - written two lines above
    return last
