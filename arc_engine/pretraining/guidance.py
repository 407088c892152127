"""Attention that is shown where to look: guided alignment (Chen et al. 2016, https://arxiv.org/abs/1607.01628).

Where a cell of a synthetic output comes from is known. Two heads are trained to look there: one from the cell itself,
which is how a rule is read off a pair, the other from the token before it, which is how the rule is applied. A third
may look for what became of the same colour before. What this saves is the long time in which a model has found all
places that rules take cells from, and not yet which rule it is.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from arc_engine.grids import NUM_COLOURS
from arc_engine.pretraining.batches import IGNORED, Batch
from arc_engine.pretraining.recipe import Guidance
from arc_engine.pretraining.tokenizer import FIRST_CELL


@dataclass(slots=True)
class Guide:
    """Watches one batch go through the model, layer by layer, and adds up the loss of what is looked at."""

    settings: Guidance
    batch: Batch
    _losses: list[Tensor] = field(default_factory=list)

    def watch(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Takes note of a layer's rotated queries and keys: `[heads, tokens, head_dim]`."""
        settings, (cells, origins) = self.settings, self.batch.links.T
        is_asked = self.batch.targets[0, cells - 1] != IGNORED
        seen = query[settings.head], key[settings.head]
        if layer == settings.reading_layer:
            self._losses.append(self._loss(*seen, at=cells, sought=self._one(origins)))
        if layer == settings.applying_layer:
            self._losses.append(self._loss(*seen, at=cells[is_asked] - 1, sought=self._one(origins[is_asked])))
        if layer == settings.recalling_layer:
            sought = self._alike()[is_asked]
            is_known = sought.any(dim=1)
            self._losses.append(self._loss(*seen, at=cells[is_asked][is_known] - 1, sought=sought[is_known]))

    def loss(self) -> Tensor:
        """By what the batch's loss becomes larger, in nats per labelled token."""
        total = torch.stack(self._losses).sum()
        return self.settings.weight * total / self.batch.num_targets

    def _one(self, tokens: Tensor) -> Tensor:
        """`[tokens, all tokens]`: of each row that token."""
        return functional.one_hot(tokens, self.batch.num_tokens).bool()

    def _alike(self) -> Tensor:
        """`[links, tokens]`: of each cell those of earlier outputs that have its colour and come from its origin's."""
        cells, origins = self.batch.links.T
        kinds = self._colours(origins) * NUM_COLOURS + self._colours(cells)
        is_alike = (kinds[:, None] == kinds) & (cells < cells[:, None])
        is_alike &= self.batch.starts[cells] == self.batch.starts[cells][:, None]
        found = torch.zeros(len(cells), self.batch.num_tokens, dtype=torch.bool, device=cells.device)
        found[:, cells] = is_alike
        return found

    def _colours(self, cells: Tensor) -> Tensor:
        of_cells: Tensor = (self.batch.ids[0, cells] - FIRST_CELL) % NUM_COLOURS
        return of_cells

    def _loss(self, query: Tensor, key: Tensor, *, at: Tensor, sought: Tensor) -> Tensor:
        """Of the attention from the tokens `at`, in order, what goes to none of the `[at, tokens]` that are sought.

        Sequence by sequence: scores between sequences would be most of the work.
        """
        ends = torch.tensor(self.batch.lengths).cumsum(0)
        rows = torch.diff(
            torch.searchsorted(at.cpu().contiguous(), ends), prepend=torch.zeros(1, dtype=torch.int64)
        ).tolist()
        keys_of = torch.split(key, list(self.batch.lengths))
        parts = zip(keys_of, torch.split(at, rows), torch.split(sought, rows), ends.tolist(), strict=True)
        missed = [query.new_zeros((), dtype=torch.float32)]
        for keys, places, wanted, end in parts:
            scores = (query[places] @ keys.T).float() * query.shape[-1] ** -0.5
            tokens = torch.arange(end - len(keys), end, device=key.device)
            masks = tokens <= places[:, None], wanted[:, end - len(keys) : end]
            to_all, to_sought = (scores.masked_fill(~mask, -torch.inf).logsumexp(dim=1) for mask in masks)
            missed.append((to_all - to_sought).sum())
        return torch.stack(missed).sum()
