"""Training sequences of several adapters as one rectangle of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from arc_engine.adaptation.examples import Example

MAX_OWN_PADDING: Final = 0.2
"""Most padding, as a share, that sequences of one step bring upon each other. Not a setting: it decides in which order
gradients are added, and so the last bits of a loss."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Sequences of one adapter that go through the model together: a step's batch, or a part of it."""

    examples: tuple[Example, ...]
    rows: tuple[int, ...]
    """Which sequences of the step's batch they are."""
    num_labelled: int
    """Targets of the whole batch: the loss of a step is the mean over all of them."""

    @property
    def length(self) -> int:
        """Tokens of the longest sequence that the model reads: all but the last."""
        return max(len(example) for example in self.examples) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads, padding left out."""
        return sum(len(example) - 1 for example in self.examples)

    @property
    def num_padded(self) -> int:
        """With the padding that it has alone."""
        return len(self.examples) * self.length

    def halves(self) -> "tuple[Portion, ...]":
        """Two smaller ones, or itself if it is a single sequence."""
        middle = len(self.rows) // 2
        parts = (slice(None, middle), slice(middle, None)) if middle else (slice(None),)
        return tuple(Portion(self.examples[part], self.rows[part], self.num_labelled) for part in parts)


def portions_of(examples: Sequence[Example]) -> tuple[Portion, ...]:
    """A step's batch, in as few parts as keep the padding of each within `MAX_OWN_PADDING`."""
    num_labelled = sum(sum(example.is_target) for example in examples)
    whole = Portion(tuple(examples), tuple(range(len(examples))), num_labelled)
    if whole.num_padded - whole.num_tokens <= MAX_OWN_PADDING * whole.num_padded:
        return (whole,)
    order = sorted(whole.rows, key=lambda row: len(examples[row]), reverse=True)
    parts: list[Portion] = []
    for row in order:
        rows = (*parts[-1].rows, row) if parts else (row,)
        grown = Portion(tuple(examples[one] for one in rows), rows, num_labelled)
        if parts and grown.num_padded - grown.num_tokens <= MAX_OWN_PADDING * grown.num_padded:
            parts[-1] = grown
        else:
            parts.append(Portion((examples[row],), (row,), num_labelled))
    return tuple(parts)


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Portions of several slots, padded to the most sequences and the most tokens of any."""

    input_ids: Tensor
    """`[slots * rows, length]`: every sequence without its last token, then padding."""
    labelled: Tensor
    """`[slots, labelled]`: the positions whose next token is a target, as indices into a slot's `rows * length`; those
    of slots with fewer are filled up with 0."""
    target_ids: Tensor
    """`[slots, labelled]`: those next tokens."""
    weights: Tensor
    """`[slots, labelled]`, float32: what each of them counts in the slot's loss; 0 where filled up."""
    num_slots: int

    @property
    def num_rows(self) -> int:
        """Sequences per slot."""
        return len(self.input_ids) // self.num_slots

    @property
    def length(self) -> int:
        """Tokens per sequence."""
        return self.input_ids.shape[1]

    @property
    def num_computed(self) -> int:
        """Tokens that the model computes, padding counted."""
        return self.input_ids.numel()


def collate(portions: Sequence[Portion], *, device: str) -> PackedBatch:
    """The batch of these portions, one per slot."""
    num_rows = max(len(portion.examples) for portion in portions)
    length = max(portion.length for portion in portions)
    # Padding is any token at all: no sequence looks to its right, and none of its positions is labelled.
    input_ids = torch.zeros(len(portions), num_rows, length, dtype=torch.long)
    labels = [_labels(portion, length=length) for portion in portions]
    shape = len(portions), max(len(places) for places, _ in labels)
    labelled, target_ids = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights = torch.zeros(shape)
    for slot, (portion, (places, targets)) in enumerate(zip(portions, labels, strict=True)):
        for row, example in enumerate(portion.examples):
            input_ids[slot, row, : len(example) - 1] = torch.tensor(example.ids[:-1])
        labelled[slot, : len(places)] = torch.tensor(places)
        target_ids[slot, : len(targets)] = torch.tensor(targets)
        weights[slot, : len(targets)] = 1 / portion.num_labelled
    return PackedBatch(
        input_ids=input_ids.flatten(0, 1).to(device),
        labelled=labelled.to(device),
        target_ids=target_ids.to(device),
        weights=weights.to(device),
        num_slots=len(portions),
    )


def _labels(portion: Portion, *, length: int) -> tuple[list[int], list[int]]:
    """Where the portion's targets are predicted, and what they are."""
    places: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(portion.examples):
        following = zip(example.ids[1:], example.is_target[1:], strict=True)
        for place, (token, is_target) in enumerate(following):
            if is_target:
                places.append(row * length + place)
                targets.append(token)
    return places, targets
