"""Tokens that name a column and a colour, of which a model learns what columns have in common and what colours have."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import LlamaForCausalLM

from arc_engine.grids import MAX_SIDE, NUM_COLOURS

_CELLS: Final = MAX_SIDE * NUM_COLOURS
"""The last tokens of the vocabulary: ten of the first column, ten of the second, and so on; before them, the rows."""
_PERIODS: Final = (2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 22.0, 36.0, 60.0)
"""Of the waves that places begin as, in cells."""


class _Sums(nn.Module):
    """The rows of other tokens as they are; a cell's row is that of its column and that of its colour together."""

    def forward(self, others: Tensor, columns: Tensor, colours: Tensor) -> Tensor:
        cells = columns[:, None] + colours[None]
        return torch.cat((others, cells.flatten(0, 1)))

    def right_inverse(self, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the tables that are such sums, the nearest one."""
        cells = table[-_CELLS:].reshape(MAX_SIDE, NUM_COLOURS, -1)
        colours = cells.mean(dim=0)
        return table[:-_CELLS].clone(), cells.mean(dim=1) - colours.mean(dim=0), colours


def share_coordinates(model: LlamaForCausalLM) -> None:
    """Has embedding and head learn columns and colours instead of cells: what is learned in one column holds in all."""
    for table in (model.model.embed_tokens, model.lm_head):
        parametrize.register_parametrization(table, "weight", _Sums(), unsafe=True)


def settle_coordinates(model: LlamaForCausalLM) -> None:
    """Makes plain rows of them again, for a model that anything can load."""
    for table in (model.model.embed_tokens, model.lm_head):
        if parametrize.is_parametrized(table):
            parametrize.remove_parametrizations(table, "weight", leave_parametrized=True)


@torch.no_grad()
def begin_in_waves(model: LlamaForCausalLM) -> None:
    """Has the places of a new model begin as waves: neighbours are alike, and so are equal distances.

    Half of what a row is made of stays random, so that every place can be told from the others.
    """
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        rows, cells = table[-_CELLS - MAX_SIDE : -_CELLS], table[-_CELLS:].view(MAX_SIDE, NUM_COLOURS, -1)
        rows.copy_(_in_waves(rows))
        cells.copy_((_in_waves(cells[:, 0])[:, None] + cells[0]) * 0.5**0.5)


def _in_waves(places: Tensor) -> Tensor:
    """`[places, size]`, random, to as large ones."""
    angles = torch.arange(len(places))[:, None] * (2 * torch.pi / torch.tensor(_PERIODS))
    waves: Tensor = torch.cat((angles.sin(), angles.cos()), dim=1) @ torch.randn(2 * len(_PERIODS), places.shape[1])
    both: Tensor = (places + waves * (places.std() / waves.std())) * 0.5**0.5
    return both
