"""Causal attention over sequences that lie one after the other without padding, each seeing itself alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED: Final = "packed"
"""What transformers calls it: `attn_implementation` of a model whose calls name the `sequence_lengths`."""


def packed_attention(
    module: Any,  # noqa: ANN401 - transformers is untyped
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - transformers passes it; there is none
    *,
    sequence_lengths: Sequence[int] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """`query`, `key`, `value`: `[1, heads, tokens, head_dim]`, the tokens those of all sequences; returns
    `[1, tokens, heads, head_dim]`. Without `sequence_lengths` every row is one sequence.

    Sequence by sequence: a mask over all of them would make the work that of one long sequence.
    """
    lengths = [query.shape[2]] if sequence_lengths is None else list(sequence_lengths)
    parts = zip(*(torch.split(one, lengths, dim=2) for one in (query, key, value)), strict=True)
    attend = partial(
        scaled_dot_product_attention,
        is_causal=True,
        scale=scaling,
        dropout_p=dropout if module.training else 0.0,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    found = [attend(*part) for part in parts]
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(PACKED, packed_attention)
