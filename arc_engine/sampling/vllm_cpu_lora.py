"""LoRA on a CPU for batches in which few adapters share many tokens.

vLLM's operations for CPUs copy an adapter's matrices once per token, so that every token may have another adapter. Ours
multiply all tokens of an adapter at once. For a small model that is ten times faster while prompts are read, and five
times overall. They also leave tokens without adapter alone: those have the index -1, which vLLM 0.32 takes for its last
slot.
"""

# ruff: noqa: FBT001, FBT002, PLR0917 - the signatures are vLLM's own

import logging
from typing import Final

import torch
from torch import Tensor
from vllm.lora.punica_wrapper import punica_cpu


def bgmv_shrink(inputs: Tensor, lora_a: Tensor, output: Tensor, lora_indices: Tensor, scaling: float = 1.0) -> None:
    """output = scaling * inputs A^T. `inputs` is [tokens, in], `lora_a` [slots, 1, rank, in], `output` [tokens, rank].

    `lora_indices` holds the slot of every token, or one slot for all of them; -1 is none.
    """
    found = _product(inputs.to(output.dtype), lora_a, lora_indices)
    output[:, : found.shape[1]] = scaling * found


def bgmv_expand(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    lora_indices: Tensor,
    add_inputs: bool = True,
) -> None:
    """output (+)= inputs B^T. `inputs` is [tokens, rank], `lora_b` [slots, 1, out, rank], `output` [tokens, out]."""
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
    """`bgmv_shrink` with an index per run of tokens."""
    bgmv_shrink(inputs, lora_a, output, _per_token(lora_indices, seq_lens), scaling)


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
    """`bgmv_expand` with an index per run of tokens."""
    bgmv_expand(inputs, lora_b, output, _per_token(lora_indices, seq_lens), add_inputs)


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
    """`bgmv_expand_slice` with an index per run of tokens."""
    indices = _per_token(lora_indices, seq_lens)
    bgmv_expand_slice(inputs, lora_b, output, indices, slice_offset, slice_size, add_inputs)


def _per_token(lora_indices: Tensor, seq_lens: Tensor) -> Tensor:
    """[runs] to [tokens]; an index that is alone speaks for all tokens as it is."""
    return lora_indices if len(lora_indices) == 1 else torch.repeat_interleave(lora_indices, seq_lens)


def _product(inputs: Tensor, stacked: Tensor, lora_indices: Tensor) -> Tensor:
    """inputs W^T with each token's own W of `stacked` [slots, 1, rows, columns]; zero for tokens without adapter."""
    slots = sorted(set(lora_indices.tolist()))
    if len(slots) == 1 and slots[0] >= 0:  # by far the most common: a job's own batch
        return inputs @ _matrix(stacked, slots[0], inputs).T
    found = inputs.new_zeros(inputs.shape[0], stacked.shape[-2])
    for slot in slots:
        if slot >= 0:
            tokens = (lora_indices == slot).nonzero().squeeze(1)
            found[tokens] = inputs[tokens] @ _matrix(stacked, slot, inputs).T
    return found


def _matrix(stacked: Tensor, slot: int, inputs: Tensor) -> Tensor:
    return stacked[slot].view(stacked.shape[-2:]).to(inputs.dtype)


log = logging.getLogger(__name__)

OPERATIONS: Final = (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice)


def install() -> bool:
    """Puts these operations in the place of vLLM's; False where this vLLM does not have those that we know."""
    missing = [operation.__name__ for operation in OPERATIONS if not hasattr(punica_cpu, operation.__name__)]
    if missing:  # slow is better than half replaced
        log.warning("vLLM has no %s: sampling with its own operations, which are slow", ", ".join(missing))
        return False
    for operation in OPERATIONS:
        setattr(punica_cpu, operation.__name__, operation)
    return True
