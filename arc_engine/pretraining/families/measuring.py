"""What rules look at: components, bounding boxes, colour counts."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from arc_engine.grids import NUM_COLOURS, GridArray

Mask = NDArray[np.bool_]
_SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
NUM_NEIGHBOURS = len(_SIDES + _CORNERS)


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """The smallest rows and columns that hold all of a mask; the whole grid for an empty one."""
    if not mask.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def components(grid: GridArray, *, corners: bool = True) -> list[Mask]:
    """Connected cells of one colour other than 0, in reading order of their first cell."""
    steps = _SIDES + (_CORNERS if corners else ())
    seen = np.zeros(grid.shape, bool)
    found = []
    for start in zip(*np.nonzero(grid), strict=True):
        if not seen[start]:
            mask = _flood(grid, (int(start[0]), int(start[1])), steps)
            seen |= mask
            found.append(mask)
    return found


def _flood(grid: GridArray, start: tuple[int, int], steps: tuple[tuple[int, int], ...]) -> Mask:
    mask = np.zeros(grid.shape, bool)
    mask[start] = True
    stack = [start]
    while stack:
        y, x = stack.pop()
        for next_y, next_x in _inside(grid, y, x, steps):
            if not mask[next_y, next_x] and grid[next_y, next_x] == grid[start]:
                mask[next_y, next_x] = True
                stack.append((next_y, next_x))
    return mask


def _inside(grid: GridArray, y: int, x: int, steps: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    for dy, dx in steps:
        if 0 <= y + dy < grid.shape[0] and 0 <= x + dx < grid.shape[1]:
            yield y + dy, x + dx


def outside(grid: GridArray) -> Mask:
    """Background cells from which the edge of the grid can be reached without diagonal steps."""
    padded = np.pad(grid, 1)
    return _flood(padded, (0, 0), _SIDES)[1:-1, 1:-1]


def neighbours(mask: Mask) -> NDArray[np.int64]:
    """For every cell, how many of its eight neighbours are in the mask."""
    padded = np.pad(mask.astype(np.int64), 1)
    height, width = mask.shape
    return sum(
        (padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in _SIDES + _CORNERS),
        np.zeros(mask.shape, np.int64),
    )


def every_second(shape: tuple[int, ...], *, kind: int, phase: int) -> Mask:
    """Every second row (`kind` 0), column (1) or diagonal (2), from the first one on (`phase` 0) or the second (1)."""
    rows, columns = np.indices(shape)
    chosen: Mask = (rows, columns, rows + columns)[kind] % 2 == phase
    return chosen


def colour_counts(grid: GridArray) -> NDArray[np.int64]:
    """`[10]`: cells of each colour."""
    return np.bincount(grid.ravel(), minlength=NUM_COLOURS)


def commonest(grid: GridArray, *, rarest: bool = False) -> int:
    """The colour other than 0 with the most (or fewest) cells, the smaller number on a tie; 0 in an empty grid."""
    counts = colour_counts(grid)
    present = [c for c in range(1, NUM_COLOURS) if counts[c]]
    if not present:
        return 0
    return min(present, key=lambda c: (counts[c] if rarest else -counts[c], c))
