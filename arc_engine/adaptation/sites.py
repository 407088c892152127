"""Where LoRA matrices sit in a model, and how those of one adapter lie in one row of numbers.

An adapter in training is one vector: all its matrices one after the other. So many adapters are one tensor `[slots,
size]`, of which the optimizer needs a handful of operations however many layers the model has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arc_engine.adaptation.initialisation import LoraMatrices


@dataclass(frozen=True, slots=True)
class Site:
    """Linear layers that read the same input, such as those of queries, keys and values."""

    layers: tuple[str, ...]
    """Their names in the base model."""
    in_features: int
    out_features: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SiteMatrices:
    """The matrices of all slots at one site."""

    lora_a: Tensor
    """`[slots, layers * rank, in_features]`: those of the site's layers one below the other."""
    lora_b: tuple[Tensor, ...]
    """Per layer of the site `[slots, out_features, rank]`."""


@dataclass(frozen=True)
class Layout:
    """Places of all matrices of an adapter of one rank."""

    sites: tuple[Site, ...]
    rank: int

    @cached_property
    def size(self) -> int:
        """How many numbers an adapter has."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        return [
            size
            for site in self.sites
            for size in (
                len(site.layers) * self.rank * site.in_features,
                *(out_features * self.rank for out_features in site.out_features),
            )
        ]

    def matrices(self, rows: Tensor) -> list[SiteMatrices]:
        """The matrices in `rows`, `[slots, size]`: views of it, site by site."""
        pieces = iter(torch.split(rows, self._sizes, dim=1))
        return [
            SiteMatrices(
                next(pieces).view(len(rows), len(site.layers) * self.rank, site.in_features),
                tuple(next(pieces).view(len(rows), out_features, self.rank) for out_features in site.out_features),
            )
            for site in self.sites
        ]

    def layers(self, row: Tensor) -> Iterator[tuple[str, LoraMatrices]]:
        """The matrices of one adapter, `row` being `[size]`, by layer: views of it."""
        for site, found in zip(self.sites, self.matrices(row.unsqueeze(0)), strict=True):
            lora_a = found.lora_a.view(len(site.layers), self.rank, site.in_features)
            for index, name in enumerate(site.layers):
                yield name, LoraMatrices(lora_a[index], found.lora_b[index][0])

    def write(self, row: Tensor, matrices: Mapping[str, LoraMatrices], *, first_rank: int = 0) -> None:
        """Puts `matrices`, by layer, into the row, as its ranks from `first_rank` on; the rest keeps what it has."""
        for name, place in self.layers(row):
            if name in matrices:
                lora_a, lora_b = matrices[name].lora_a, matrices[name].lora_b
                last_rank = first_rank + len(lora_a)
                place.lora_a[first_rank:last_rank] = lora_a
                place.lora_b[:, first_rank:last_rank] = lora_b


def single_sites(layers: Mapping[str, torch.nn.Linear]) -> tuple[Site, ...]:
    """A site per layer."""
    return tuple(Site((name,), layer.in_features, (layer.out_features,)) for name, layer in layers.items())


def site_of(layers: Mapping[str, torch.nn.Linear], names: Sequence[str]) -> Site:
    """The site of these layers."""
    linear = [layers[name] for name in names]
    return Site(tuple(names), linear[0].in_features, tuple(layer.out_features for layer in linear))
