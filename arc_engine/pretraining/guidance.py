"""Attention that is shown where to look: guided alignment (Chen et al. 2016, https://arxiv.org/abs/1607.01628).

Where a cell of a synthetic output comes from is known. Two heads are trained to look there: one from the cell itself,
which is how a rule is read off a pair, the other from the token before it, which is how the rule is applied. What this
saves is the long time in which a model has found all places that rules take cells from, and not yet which rule it is.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from arc_engine.pretraining.batches import IGNORED, Batch
from arc_engine.pretraining.recipe import Guidance


@dataclass(slots=True)
class Guide:
    """Watches one batch go through the model, layer by layer, and adds up the loss of what is looked at."""

    settings: Guidance
    batch: Batch
    _losses: list[Tensor] = field(default_factory=list)

    def watch(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Takes note of a layer's rotated queries and keys: `[heads, tokens, head_dim]`."""
        cells, origins = self.batch.links.T
        if layer == self.settings.reading_layer:
            self._losses.append(self._loss(query, key, at=cells, origins=origins))
        if layer == self.settings.applying_layer:
            is_asked = self.batch.targets[0, cells - 1] != IGNORED
            self._losses.append(self._loss(query, key, at=cells[is_asked] - 1, origins=origins[is_asked]))

    def loss(self) -> Tensor:
        """By what the batch's loss becomes larger, in nats per labelled token."""
        total = torch.stack(self._losses).sum()
        return self.settings.weight * total / self.batch.num_targets

    def _loss(self, query: Tensor, key: Tensor, *, at: Tensor, origins: Tensor) -> Tensor:
        scores = (query[self.settings.head, at] @ key[self.settings.head].T).float() * query.shape[-1] ** -0.5
        tokens = torch.arange(key.shape[1], device=key.device)
        is_seen = (tokens >= self.batch.starts[at][:, None]) & (tokens <= at[:, None])
        return functional.cross_entropy(scores.masked_fill(~is_seen, -torch.inf), origins, reduction="sum")
