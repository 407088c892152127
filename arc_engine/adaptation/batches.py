"""Training sequences as tensors, and their loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from arc_engine.adaptation.examples import Example


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sequences padded on the right, and the tokens that they are to predict."""

    input_ids: Tensor
    """`[batch, length]`: every sequence without its last token, then padding."""
    is_labelled: Tensor
    """`[batch, length]` bool: the positions whose next token is a target."""
    target_ids: Tensor
    """`[num_labelled]`: those next tokens, row by row."""
    num_tokens: int
    """Tokens of the sequences, padding left out."""


def collate(examples: Sequence[Example], *, device: str) -> Batch:
    """The batch of these examples on `device`."""
    length = max(len(example) for example in examples) - 1
    # Padding is any token at all: no sequence looks to its right, and none of its positions is labelled.
    input_ids = torch.zeros(len(examples), length, dtype=torch.long)
    is_labelled = torch.zeros(len(examples), length, dtype=torch.bool)
    target_ids: list[int] = []
    for row, example in enumerate(examples):
        input_ids[row, : len(example) - 1] = torch.tensor(example.ids[:-1])
        is_labelled[row, : len(example) - 1] = torch.tensor(example.is_target[1:])
        targets = zip(example.ids[1:], example.is_target[1:], strict=True)
        target_ids += [token for token, is_target in targets if is_target]
    return Batch(
        input_ids=input_ids.to(device),
        is_labelled=is_labelled.to(device),
        target_ids=torch.tensor(target_ids, device=device),
        num_tokens=sum(len(example) for example in examples),
    )


def batch_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean negative log-likelihood of the batch's targets, a float32 scalar.

    Only labelled positions go through the output layer: the logits are `[num_labelled, vocab]`, not
    `[batch, length, vocab]`. There is no attention mask, because a causal model never sees padding on the right.
    """
    hidden = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state  # [batch, length, width]
    logits = model.get_output_embeddings()(hidden[batch.is_labelled])  # [num_labelled, vocab]
    return functional.cross_entropy(logits.float(), batch.target_ids)
