"""The processes that share a run."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


def join_processes() -> Accelerator:
    """This process among those that `accelerate launch` or `torchrun` started; alone, if none did.

    Without a GPU they are processes on processors: accelerate would not look for others there unless it is told to.
    """
    return Accelerator(cpu=not torch.cuda.is_available())


def summed_gradients(weights: Sequence[Tensor], *, accelerator: Accelerator) -> list[Tensor]:
    """Of each of `weights` the sum of all processes' gradients, in every process; one without counts as 0."""
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    if accelerator.num_processes == 1:
        return gradients
    summed: Tensor = accelerator.reduce(torch.cat([one.flatten() for one in gradients]), reduction="sum")
    parts = torch.split(summed, [w.numel() for w in weights])
    return [part.view_as(w) for w, part in zip(weights, parts, strict=True)]
