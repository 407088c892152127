"""Dropout on what LoRA matrices read: from streams of each adapter's own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arc_engine.adaptation.packed_batch import PackedBatch, Portion


@dataclass(frozen=True, slots=True)
class SlotDropout:
    """What one slot leaves out in one step."""

    probability: float
    seed: int
    step: int
    portion: Portion


class Dropout:
    """What the inputs of LoRA matrices are multiplied by: 0 where they are left out, and more than 1 elsewhere.

    Drawn per sequence and site from the seed and the number of the step: not from what came before, so that a run that
    is resumed draws the same, and not for the padded batch, so that company makes no difference.
    """

    def __init__(self, slots: Sequence[SlotDropout], batch: PackedBatch) -> None:
        self._slots = slots
        self._batch = batch

    def kept(self, site: int, inputs: Tensor, *, labelled_only: bool = False) -> Tensor:
        """The factors for `inputs` of the site, `[slots, tokens, in_features]`; `labelled_only` if the tokens are the
        batch's labelled ones alone."""
        batch, width = self._batch, inputs.shape[-1]
        factors = torch.ones(batch.num_slots, batch.num_rows, batch.length, width)
        for index, slot in enumerate(self._slots):
            if slot.probability:
                for place, (row, example) in enumerate(zip(slot.portion.rows, slot.portion.examples, strict=True)):
                    stream = torch.Generator().manual_seed(
                        random.Random(f"dropout {slot.seed} {slot.step} {row} {site}").getrandbits(63)
                    )
                    drawn = torch.rand(len(example) - 1, width, generator=stream)
                    factors[index, place, : len(drawn)] = (drawn >= slot.probability) / (1 - slot.probability)
        found = factors.flatten(1, 2).to(inputs.device, inputs.dtype)
        if labelled_only:
            return found.gather(1, batch.labelled.unsqueeze(-1).expand(-1, -1, width))
        return found
