"""Adapters in training, stacked: their matrices, gradients and AdamW's moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from arc_engine.adaptation.initialisation import LoraMatrices
from arc_engine.adaptation.sites import Layout, Site, SiteMatrices

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
"""Those of `torch.optim.AdamW`."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotStart:
    """What a slot begins with."""

    matrices: Mapping[str, LoraMatrices]
    """By layer of the base model: those that are trained."""
    frozen: Mapping[str, LoraMatrices]
    """By layer: those that are added to the trained ones' product and stay as they are; of the same rank, or none."""
    scale: float
    """What the matrices' product is multiplied by."""

    @property
    def rank(self) -> int:
        """Of the trained matrices."""
        return len(next(iter(self.matrices.values())).lora_a)

    @property
    def whole_rank(self) -> int:
        """With the frozen ones, which come after them."""
        return self.rank * (2 if self.frozen else 1)


@dataclass(slots=True, eq=False)
class Slot:
    """One adapter among the others."""

    start: SlotStart
    num_updates: int = field(default=0, init=False)


class Slots:
    """The adapters that are trained together, in one tensor `[slots, numbers]` each for weights, gradients and moments.

    Ranks are padded to the largest, and adapters to the layers that any of them has. What is padded is 0, gets
    gradients of 0 and so stays 0: the products of the padded matrices are those of the true ones.
    """

    def __init__(self, sites: Sequence[Site], *, device: str, dtype: torch.dtype = torch.float32) -> None:
        self._all_sites = tuple(sites)
        self._slots: list[Slot] = []
        self._layout = Layout((), 0)
        self._weights, self._gradients, self._moments, self._squares = (
            torch.zeros(0, 0, device=device, dtype=dtype) for _ in range(4)
        )
        self._trained: Tensor | None = None
        self._scales = torch.zeros(0, 1, 1, device=device, dtype=dtype)

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, start: SlotStart) -> Slot:
        """A new slot, the last one."""
        slot = Slot(start)
        self._rebuild([*self._slots, slot])
        for first_rank, matrices in ((0, start.matrices), (start.rank, start.frozen)):
            self._layout.write(self._weights[-1], matrices, first_rank=first_rank)
        return slot

    def remove(self, slot: Slot) -> None:
        """Gives its place away."""
        self._rebuild([other for other in self._slots if other is not slot])

    def matrices(self, slot: Slot) -> dict[str, LoraMatrices]:
        """The slot's trained matrices by layer: copies."""
        rank = slot.start.rank
        return {
            name: LoraMatrices(found.lora_a[:rank].clone(), found.lora_b[:, :rank].clone())
            for name, found in self._layout.layers(self._weights[self._slots.index(slot)])
            if name in slot.start.matrices
        }

    def weights(self, slots: Sequence[Slot]) -> Tensor:
        """`[slots, numbers]`: a leaf that gradients can be taken of."""
        return self._rows(self._weights, slots).detach().requires_grad_()

    def by_site(self, weights: Tensor) -> list[SiteMatrices | None]:
        """`weights` as matrices, for every site of the model."""
        found = dict(zip(self._layout.sites, self._layout.matrices(weights), strict=True))
        return [found.get(site) for site in self._all_sites]

    def scales(self, slots: Sequence[Slot]) -> Tensor:
        """`[slots, 1, 1]`"""
        return self._rows(self._scales, slots)

    def add_gradients(self, slots: Sequence[Slot], gradients: Tensor) -> None:
        """Adds `[slots, numbers]` to what the slots have gathered since their last update."""
        if self._trained is not None:
            gradients = gradients * self._rows(self._trained, slots)
        self._gradients.index_add_(0, self._places(slots), gradients)

    def divide_gradients(self, slot: Slot, divisor: float) -> None:
        """Of one slot."""
        self._gradients[self._slots.index(slot)] /= divisor

    def forget_gradients(self, slot: Slot) -> None:
        """Of one slot."""
        self._gradients[self._slots.index(slot)] = 0

    def gradient_norms(self, slots: Sequence[Slot]) -> list[float]:
        """Of each slot's whole adapter."""
        norms: list[float] = torch.linalg.vector_norm(self._rows(self._gradients, slots), dim=1).tolist()
        return norms

    def update(
        self,
        slots: Sequence[Slot],
        *,
        learning_rates: Sequence[float],
        weight_decays: Sequence[float],
        clips: Sequence[float],
    ) -> None:
        """A step of AdamW for these slots, each with its own numbers; `clips` are what gradients are multiplied by.

        Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101. The gradients are 0 afterwards.
        """
        for slot in slots:
            slot.num_updates += 1
        beta_1, beta_2 = BETAS
        rates = self._column(learning_rates)
        corrections_1 = self._column([1 - beta_1**slot.num_updates for slot in slots])
        corrections_2 = self._column([(1 - beta_2**slot.num_updates) ** 0.5 for slot in slots])
        gradients = self._rows(self._gradients, slots) * self._column(clips)
        weights, moments, squares = (
            self._rows(tensor, slots) for tensor in (self._weights, self._moments, self._squares)
        )
        moments.lerp_(gradients, 1 - beta_1)
        squares.mul_(beta_2).addcmul_(gradients, gradients, value=1 - beta_2)
        if any(weight_decays):
            decays = rates * self._column(weight_decays)
            weights.sub_(weights * (decays if self._trained is None else decays * self._rows(self._trained, slots)))
        weights.addcdiv_(moments * (-rates / corrections_1), (squares.sqrt() / corrections_2).add_(EPSILON))
        self._write(slots, {"_weights": weights, "_moments": moments, "_squares": squares})
        self._gradients.index_fill_(0, self._places(slots), 0)

    def _rows(self, tensor: Tensor, slots: Sequence[Slot]) -> Tensor:
        """The slots' rows: the tensor itself where they are all of its rows, in order, else copies."""
        return tensor if list(slots) == self._slots else tensor.index_select(0, self._places(slots))

    def _write(self, slots: Sequence[Slot], rows: Mapping[str, Tensor]) -> None:
        if list(slots) != self._slots:
            for name, found in rows.items():
                getattr(self, name).index_copy_(0, self._places(slots), found)

    def _places(self, slots: Sequence[Slot]) -> Tensor:
        return torch.tensor([self._slots.index(slot) for slot in slots], device=self._weights.device)

    def _column(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, device=self._weights.device, dtype=self._weights.dtype).unsqueeze(1)

    def _rebuild(self, slots: list[Slot]) -> None:
        """Makes room for these slots, and no more; those that were there keep what they have."""
        layers = {name for slot in slots for name in slot.start.matrices}
        sites = tuple(site for site in self._all_sites if layers.intersection(site.layers))
        layout = Layout(sites, max((slot.start.whole_rank for slot in slots), default=0))
        staying = [(new, self._slots.index(slot)) for new, slot in enumerate(slots) if slot in self._slots]
        for name in ("_weights", "_gradients", "_moments", "_squares"):
            setattr(self, name, self._moved(getattr(self, name), layout, staying, num_slots=len(slots)))
        self._slots, self._layout = slots, layout
        self._scales = torch.tensor(
            [slot.start.scale for slot in slots], device=self._weights.device, dtype=self._weights.dtype
        ).view(-1, 1, 1)
        self._trained = self._trained_numbers() if any(slot.start.frozen for slot in slots) else None

    def _moved(self, rows: Tensor, layout: Layout, staying: Sequence[tuple[int, int]], *, num_slots: int) -> Tensor:
        moved = rows.new_zeros(num_slots, layout.size)
        for new, old in staying:
            before = dict(self._layout.layers(rows[old]))
            rank = min(layout.rank, self._layout.rank)
            for name, place in layout.layers(moved[new]):
                if name in before:
                    place.lora_a[:rank] = before[name].lora_a[:rank]
                    place.lora_b[:, :rank] = before[name].lora_b[:, :rank]
        return moved

    def _trained_numbers(self) -> Tensor:
        """1 where a number is trained, 0 where it is frozen."""
        trained = torch.ones_like(self._weights)
        for row, slot in zip(trained, self._slots, strict=True):
            if slot.start.frozen:
                for _, place in self._layout.layers(row):
                    place.lora_a[slot.start.rank :] = 0
                    place.lora_b[:, slot.start.rank :] = 0
        return trained
