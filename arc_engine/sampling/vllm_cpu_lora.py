"""LoRA on a CPU for engines that hold one adapter at a time.

vLLM's operations for CPUs copy the adapter's matrices once per token, so that every token may have another adapter. We
sample with one adapter per request (`max_loras` is 1): one matrix product does the same. For a small model that is ten
times faster while prompts are read, and five times overall.
"""

# ruff: noqa: FBT001, FBT002, PLR0917 - the signatures are vLLM's own

import logging
from typing import Final

import torch
from torch import Tensor
from vllm.lora.punica_wrapper import punica_cpu


def bgmv_shrink(inputs: Tensor, lora_a: Tensor, output: Tensor, lora_indices: Tensor, scaling: float = 1.0) -> None:
    """output = scaling * inputs A^T. `inputs` is [tokens, in], `lora_a` [1, 1, rank, in], `output` [tokens, rank]."""
    found = _product(inputs.to(output.dtype), lora_a, lora_indices)
    output[:, : found.shape[1]] = scaling * found


def bgmv_expand(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    lora_indices: Tensor,
    add_inputs: bool = True,
) -> None:
    """output (+)= inputs B^T. `inputs` is [tokens, rank], `lora_b` [1, 1, out, rank], `output` [tokens, out]."""
    bgmv_expand_slice(inputs, lora_b, output, lora_indices, 0, min(lora_b.shape[-2], output.shape[1]), add_inputs)


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    lora_indices: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """`bgmv_expand` into the columns of `output` from `slice_offset` on."""
    found = _product(inputs.to(output.dtype), lora_b, lora_indices)[:, :slice_size]
    part = output[:, slice_offset : slice_offset + slice_size]
    if add_inputs:
        part += found
    else:
        part.copy_(found)


def sgmv_shrink(
    inputs: Tensor,
    lora_a: Tensor,
    output: Tensor,
    _starts: Tensor,
    seq_lens: Tensor,
    lora_indices: Tensor,
    _batches: int,
    _max_seq_len: int,
    _num_tokens: int,
    scaling: float,
) -> None:
    """`bgmv_shrink` with an index per sequence."""
    bgmv_shrink(inputs, lora_a, output, torch.repeat_interleave(lora_indices, seq_lens), scaling)


def sgmv_expand(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    _starts: Tensor,
    seq_lens: Tensor,
    lora_indices: Tensor,
    _batches: int,
    _max_seq_len: int,
    _num_tokens: int,
    add_inputs: bool = False,
) -> None:
    """`bgmv_expand` with an index per sequence."""
    bgmv_expand(inputs, lora_b, output, torch.repeat_interleave(lora_indices, seq_lens), add_inputs)


def sgmv_expand_slice(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    _starts: Tensor,
    seq_lens: Tensor,
    lora_indices: Tensor,
    _batches: int,
    _max_seq_len: int,
    _num_tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    """`bgmv_expand_slice` with an index per sequence."""
    indices = torch.repeat_interleave(lora_indices, seq_lens)
    bgmv_expand_slice(inputs, lora_b, output, indices, slice_offset, slice_size, add_inputs)


def _product(inputs: Tensor, stacked: Tensor, lora_indices: Tensor) -> Tensor:
    """inputs W^T, and zero for the tokens without adapter, whose index is -1."""
    found = inputs @ stacked.view(stacked.shape[-2:]).to(inputs.dtype).T
    return found if bool((lora_indices >= 0).all()) else found * (lora_indices >= 0)[:, None]


log = logging.getLogger(__name__)

OPERATIONS: Final = (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice)


def install() -> None:
    """Puts these operations in the place of vLLM's. Only for engines with `max_loras=1`."""
    missing = [operation.__name__ for operation in OPERATIONS if not hasattr(punica_cpu, operation.__name__)]
    if missing:  # another version of vLLM than we know: slow is better than half replaced
        log.warning("vLLM has no %s: sampling with its own operations, which are slow", ", ".join(missing))
        return
    for operation in OPERATIONS:
        setattr(punica_cpu, operation.__name__, operation)
