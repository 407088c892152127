"""Pieces of a decoder layer with gradients by hand: fewer passes over memory than autograd's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(stream: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`stream / rms(stream) * weight`, over the last dimension, computed in float32; the weight gets no gradient."""
    found: Tensor = _RmsNorm.apply(stream, weight, epsilon)  # type: ignore[no-untyped-call]
    return found


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embeddings (Su et al., 2021, https://arxiv.org/abs/2104.09864), the halves of a head together.
    `heads` is `[sequences, tokens, heads, head_dim]`; `cos`, `sin` are `[tokens, heads or more, head_dim / 2]`."""
    found: Tensor = _Rotated.apply(heads, cos, sin)  # type: ignore[no-untyped-call]
    return found


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stream: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401
        wide = stream.float() if stream.dtype in {torch.float16, torch.bfloat16} else stream
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = length.square_().div_(stream.shape[-1]).add_(epsilon).rsqrt_()
        normed = wide * scale
        ctx.save_for_backward(normed, scale, weight)
        found: Tensor = normed.to(stream.dtype) * weight
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        normed, scale, weight = ctx.saved_tensors
        wide = gradient.to(normed.dtype) * weight.to(normed.dtype)
        along = torch.linalg.vecdot(wide, normed).div_(-normed.shape[-1]).unsqueeze(-1)
        return wide.addcmul_(normed, along).mul_(scale).to(gradient.dtype), None, None


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(cos, sin)
        return _turned(heads, cos, sin, sign=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, sin, sign=-1), None, None


def _turned(heads: Tensor, cos: Tensor, sin: Tensor, *, sign: int) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    cos, sin = cos[:, : heads.shape[2]], sin[:, : heads.shape[2]]
    found = torch.empty_like(heads, memory_format=torch.contiguous_format)
    found_first, found_second = found.chunk(2, dim=-1)
    torch.mul(first, cos, out=found_first).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=found_second).addcmul_(first, sin, value=sign)
    return found
