"""What a training loop tells its observer after every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class AdaptationStep:
    """One optimizer step, as it was taken. Every number is finite: a step that is not raises `Diverged` instead."""

    step: int
    """Counted from 1."""
    loss: float
    """Mean negative log-likelihood, in nats, over the labelled tokens of the batch, before this step's update."""
    learning_rate: float
    """The rate that this step's update used."""
    grad_norm: float
    """Norm of the gradient of the whole adapter, before clipping."""
    tokens: int
    """Tokens of the batch, labelled or not, padding left out."""
    elapsed_s: float
    """Seconds from the start of `adapt` to the end of this step."""


StepObserver: TypeAlias = Callable[[AdaptationStep], None]
"""Called after every step. To stop the training between two steps it raises, `AdaptationStopped` or anything else."""
