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
        """What a table begins as whose rows are as large as those of `table`."""
        others = table[:-_CELLS].clone()
        cells = table[-_CELLS:].reshape(MAX_SIDE, NUM_COLOURS, -1) * 0.5**0.5
        others[-MAX_SIDE:] = _in_waves(others[-MAX_SIDE:])
        return others, _in_waves(cells[:, 0]), cells[0].clone()


def share_coordinates(model: LlamaForCausalLM) -> None:
    """Has embedding and head learn columns and colours instead of cells: what is learned in one column holds in all."""
    for table in (model.model.embed_tokens, model.lm_head):
        parametrize.register_parametrization(table, "weight", _Sums(), unsafe=True)


def settle_coordinates(model: LlamaForCausalLM) -> None:
    """Makes plain rows of them again, for a model that anything can load."""
    for table in (model.model.embed_tokens, model.lm_head):
        if parametrize.is_parametrized(table):
            parametrize.remove_parametrizations(table, "weight", leave_parametrized=True)


def _in_waves(places: Tensor) -> Tensor:
    """`[places, size]`, random, to as large ones of which neighbours are alike, and equal distances are alike too.

    Half of it stays random, so that every place can be told from the others.
    """
    angles = torch.arange(len(places))[:, None] * (2 * torch.pi / torch.tensor(_PERIODS))
    waves: Tensor = torch.cat((angles.sin(), angles.cos()), dim=1) @ torch.randn(2 * len(_PERIODS), places.shape[1])
    both: Tensor = (places + waves * (places.std() / waves.std())) * 0.5**0.5
    return both
