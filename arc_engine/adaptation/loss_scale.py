"""What losses are multiplied by before their gradients are taken, so that float16 can hold them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

FLOAT16_LOSS_SCALE: Final = 2.0**16


@dataclass(slots=True)
class LossScale:
    """Gradients of a float16 base are computed times `value`, so that small ones do not vanish, and times less where
    that overflows. Powers of two change nothing else. From Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740."""

    value: float

    @classmethod
    def of(cls, dtype: torch.dtype | None) -> "LossScale":
        """What training begins with on a base model of this precision."""
        return cls(FLOAT16_LOSS_SCALE if dtype == torch.float16 else 1.0)

    def lower(self) -> bool:
        """For when a gradient overflowed; False if it cannot be the scale's fault."""
        if self.value <= 1:
            return False
        self.value /= 4
        return True

    def settle(self, gradients: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
        """Calls `gradients`, which returns loss and gradient norm, with the scale, lowered until nothing overflows."""
        while True:
            loss, grad_norm = gradients(self.value)
            if math.isfinite(grad_norm) or not math.isfinite(loss) or not self.lower():
                return loss, grad_norm
