"""The processes that share a run."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from arc_engine.errors import RunMismatch, UnevenShares


def join_processes() -> Accelerator:
    """This process among those that `accelerate launch` or `torchrun` started; alone, if none did.

    Without a GPU they are processes on processors: accelerate would not look for others there unless it is told to.
    """
    return Accelerator(cpu=not torch.cuda.is_available())


def require_even_shares(gradient_accumulation: int, *, accelerator: Accelerator) -> None:
    """Raises `UnevenShares` if the processes cannot share the micro-batches of a step."""
    if gradient_accumulation % accelerator.num_processes:
        raise UnevenShares(
            f"{accelerator.num_processes} processes cannot share the {gradient_accumulation} micro-batches of a step "
            f"evenly: make gradient_accumulation a multiple of {accelerator.num_processes}"
        )


def require_one_checkpoint(found: Hashable, *, out_dir: Path) -> None:
    """Raises `RunMismatch` unless all processes have `found` the same checkpoint, or all of them none."""
    if len(set(gather_object([found]))) > 1:
        raise RunMismatch(f"the processes see different checkpoints in {out_dir}: they must share that folder")


def summed_gradients(weights: Sequence[Tensor], *, accelerator: Accelerator) -> list[Tensor]:
    """Of each of `weights` the sum of all processes' gradients, in every process; one without counts as 0."""
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    if accelerator.num_processes == 1:
        return gradients
    summed: Tensor = accelerator.reduce(torch.cat([one.flatten() for one in gradients]), reduction="sum")
    parts = torch.split(summed, [w.numel() for w in weights])
    return [part.view_as(w) for w, part in zip(weights, parts, strict=True)]
