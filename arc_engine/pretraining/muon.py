"""Muon, all matrices of one shape at once."""

from collections.abc import Callable, Iterable
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import Optimizer

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration brings all singular values near 1 soonest (Jordan et al. 2024)."""
_ITERATIONS: Final = 5
_EPS: Final = 1e-7


class StackedMuon(Optimizer):
    """The update of `torch.optim.Muon` without weight decay: the orthogonalised Nesterov momentum of every matrix.

    torch's orthogonalises one matrix after the other, and every process all of them, which takes a small model on a
    processor about as long as a small batch. Here matrices of one shape are one batched product, and processes share
    them.
    """

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float, accelerator: Accelerator | None = None
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum})
        self._accelerator = accelerator

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient."""
        assert closure is None  # noqa: S101 - nothing here evaluates the loss anew
        for group in self.param_groups:
            for (rows, columns), matrices in _by_shape(group["params"]).items():
                momenta = [self._nesterov(matrix, momentum=group["momentum"]) for matrix in matrices]
                length = group["lr"] * max(1.0, rows / columns) ** 0.5
                for matrix, direction in zip(matrices, self._orthogonal(torch.stack(momenta)), strict=True):
                    matrix.add_(direction, alpha=-length)

    def _nesterov(self, matrix: Tensor, *, momentum: float) -> Tensor:
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None  # noqa: S101 - only those that have one are asked for
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum).bfloat16()

    def _orthogonal(self, stack: Tensor) -> Tensor:
        """Of bfloat16 `[matrices, rows, columns]` the nearest orthogonal ones, each process computing some."""
        accelerator = self._accelerator
        if accelerator is None or accelerator.num_processes == 1:
            return orthogonalised(stack)
        each = -(-len(stack) // accelerator.num_processes)
        padded = pad(stack, (0, 0, 0, 0, 0, each * accelerator.num_processes - len(stack)))
        mine = padded[each * accelerator.process_index :][:each]
        gathered: Tensor = accelerator.gather(orthogonalised(mine))
        return gathered[: len(stack)]


def orthogonalised(stack: Tensor) -> Tensor:
    """Of bfloat16 `[matrices, rows, columns]` matrices with the same singular vectors and singular values near 1."""
    a, b, c = _COEFFICIENTS
    stack = stack / torch.linalg.vector_norm(stack.flatten(1), dim=1).clamp(min=_EPS)[:, None, None]
    is_tall = stack.shape[1] > stack.shape[2]
    for _ in range(_ITERATIONS):
        gram = torch.bmm(stack.mT, stack) if is_tall else torch.bmm(stack, stack.mT)
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        stack = torch.baddbmm(stack, stack, factor, beta=a) if is_tall else torch.baddbmm(stack, factor, stack, beta=a)
    return stack


def _by_shape(matrices: Iterable[Tensor]) -> dict[torch.Size, list[Tensor]]:
    """Those that have a gradient."""
    found: dict[torch.Size, list[Tensor]] = {}
    for matrix in matrices:
        if matrix.grad is not None:
            found.setdefault(matrix.shape, []).append(matrix)
    return found
