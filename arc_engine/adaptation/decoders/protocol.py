"""What computes the base model under the adapters of several slots."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from arc_engine.adaptation.dropout import Dropout
from arc_engine.adaptation.packed_batch import PackedBatch
from arc_engine.adaptation.sites import Site, SiteMatrices


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """The adapters of the slots that go through the model together."""

    matrices: Sequence[SiteMatrices | None]
    """In the order of the decoder's sites, in the base's precision; None where no slot has any."""
    scales: Tensor
    """`[slots, 1, 1]`: what the matrices' product is multiplied by."""
    dropout: Dropout | None = None
    """None: no slot has any."""


class Decoder(Protocol):
    """A frozen base model below its output layer."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every place that can have LoRA matrices."""
        ...

    def hidden(self, batch: PackedBatch, adapters: Adapters) -> AbstractContextManager[Tensor]:
        """What the output layer is to see at the labelled positions, `[slots, labelled, width]`.

        Gradients reach the matrices and nothing else; they are to be taken before the context ends. A slot's numbers do
        not depend on the other slots'.
        """
        ...
