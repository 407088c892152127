"""The processes that share a run."""

import torch
from accelerate import Accelerator


def join_processes() -> Accelerator:
    """This process among those that `accelerate launch` or `torchrun` started; alone, if none did.

    Without a GPU they are processes on processors: accelerate would not look for others there unless it is told to.
    """
    return Accelerator(cpu=not torch.cuda.is_available())
