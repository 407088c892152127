"""Which input cells the cells of an output come from, and the tokens of both."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from arc_engine.grids import NUM_COLOURS, GridArray, grid_to_array
from arc_engine.pretraining.tokenizer import FIRST_CELL
from arc_engine.tasks import Pair
from arc_engine.tokens import TokenizedPrompt
from arc_engine.views import View

Places: TypeAlias = NDArray[np.int64]
NOWHERE: Final = -1
NO_LINKS: Final[Places] = np.zeros((0, 2), dtype=np.int64)


def origins(apply: Callable[[GridArray], GridArray], before: GridArray) -> Places:
    """`[rows, columns]` of the output: the one input cell, row by row from 0, on whose colour its colour depends.

    `NOWHERE` for what depends on no cell, or on several. Found by recolouring the input's cells in turn; where that
    changes the shape of the output, or makes an input that the rule is not for, it says nothing.
    """
    after = apply(before.copy())
    found, num_found = np.full(after.shape, NOWHERE, dtype=np.int64), np.zeros(after.shape, dtype=np.int64)
    for place in range(before.size):
        recoloured = before.copy()
        # By another distance from cell to cell, so that neighbours that were alike do not stay alike.
        recoloured.flat[place] = (recoloured.flat[place] + 1 + place % (NUM_COLOURS - 2)) % NUM_COLOURS
        try:
            changed = apply(recoloured)
        except (ValueError, IndexError):  # the largest object of none
            continue
        if changed.shape == after.shape:
            is_other = changed != after
            found[is_other] = place
            num_found += is_other
    return np.where(num_found == 1, found, NOWHERE)


def links(prompt: TokenizedPrompt, pairs: Sequence[Pair], origins_of: Sequence[Places], *, view: View) -> Places:
    """`[links, 2]`: the token of every output cell that has an origin, and the token of that origin.

    `pairs` and their origins are those that the `prompt` shows under the `view`, from its first on; tokens are counted
    from its first. Cells have to be tokens of their own (`CoordinateEncoder`).
    """
    cells, found = np.flatnonzero(np.array(prompt.ids) >= FIRST_CELL), [NO_LINKS]
    for pair, traced in zip(pairs, origins_of, strict=True):
        before = grid_to_array(pair.input)
        shown, cells = cells[: before.size + traced.size], cells[before.size + traced.size :]
        token_of = np.empty(before.size, dtype=np.int64)
        token_of[view.turn(np.arange(before.size).reshape(before.shape)).ravel()] = shown[: before.size]
        turned = view.turn(traced).ravel()
        found.append(np.stack((shown[before.size :], token_of[turned]), axis=1)[turned != NOWHERE])
    return np.concatenate(found)
