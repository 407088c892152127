"""Causal attention over sequences that lie one after the other without padding, each seeing itself alone."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention

_MULTIPLE: Final = 32
"""Of tokens. oneDNN spends milliseconds on getting ready for products of a size that it has not seen lately."""


def packed_attention(query: Tensor, key: Tensor, value: Tensor, *, lengths: Sequence[int]) -> Tensor:
    """`[heads, tokens, head_dim]`, the tokens those of all sequences, which have these `lengths`; returns that shape.

    Sequence by sequence: a mask over all of them would make the work that of one long sequence.
    """
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        found: Tensor = _Explicit.apply(query, key, value, lengths)  # type: ignore[no-untyped-call]
        return found
    parts = _by_sequence(lengths, query, key, value)
    return torch.cat([scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in parts], dim=1)


class _Explicit(torch.autograd.Function):
    """Keeps the probabilities: torch's fused attention for CPUs multiplies bfloat16 at half this speed.

    Every sequence is computed as one of a rounded length. No token looks at what was added behind it.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int]) -> Tensor:  # noqa: ANN401
        scaled, found, kept = query * query.shape[-1] ** -0.5, list[Tensor](), list[Tensor]()
        for length, (q, k, v) in zip(lengths, _rounded(lengths, scaled, key, value), strict=True):
            probabilities = torch.baddbmm(_mask(q.shape[1]).expand(len(q), -1, -1), q, k.mT).softmax(-1)
            found.append(torch.bmm(probabilities, v)[:, :length])
            kept += [q, k, v, probabilities]
        ctx.save_for_backward(*kept)
        ctx.lengths = lengths
        return torch.cat(found, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        kept, found = iter(ctx.saved_tensors), list[tuple[Tensor, ...]]()
        for length, (g,) in zip(ctx.lengths, _rounded(ctx.lengths, gradient), strict=True):
            q, k, v, probabilities = (next(kept) for _ in range(4))
            # torch's own formula of a softmax's gradient; it has no public name.
            scores = torch._softmax_backward_data(torch.bmm(g, v.mT), probabilities, -1, g.dtype)  # noqa: SLF001
            every = (torch.bmm(scores, k), torch.bmm(scores.mT, q), torch.bmm(probabilities.mT, g))
            found.append(tuple(one[:, :length] for one in every))
        for_query, for_key, for_value = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return for_query.mul_(for_query.shape[-1] ** -0.5), for_key, for_value, None


def _by_sequence(lengths: Sequence[int], *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(tensor, list(lengths), dim=1) for tensor in tensors), strict=True)


def _rounded(lengths: Sequence[int], *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of every sequence its part of each tensor, zeros behind it."""
    for length, of_sequence in zip(lengths, _by_sequence(lengths, *tensors), strict=True):
        yield tuple(pad(one, (0, 0, 0, -length % _MULTIPLE)) for one in of_sequence)


def _mask(length: int) -> Tensor:
    """`[length, length]`: nothing where a token may look, minus infinity where it may not."""
    return _square(max(1 << (length - 1).bit_length(), 1024))[:length, :length]


@lru_cache(maxsize=1)
def _square(size: int) -> Tensor:
    return torch.full((size, size), -torch.inf, dtype=torch.bfloat16).triu_(1)
