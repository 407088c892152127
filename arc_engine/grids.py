"""The grid: rows of colours 0..9, between 1x1 and 30x30 cells."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from arc_engine.errors import InvalidTask

MAX_SIDE = 30
NUM_COLOURS = 10

Grid: TypeAlias = tuple[tuple[int, ...], ...]
"""Rows of cells, row 0 on top. Immutable and hashable, so that candidates can be counted."""

GridArray: TypeAlias = NDArray[np.uint8]
"""The same grid for arithmetic: `[height, width]`."""


def parse_grid(value: object, *, pointer: str = "") -> Grid:
    """Checks JSON `value` and returns it as a grid.

    Raises `InvalidTask` whose pointer names the row or cell at fault. Booleans and floats are not cells, even where
    Python thinks that they equal one.
    """
    if not isinstance(value, list | tuple):
        raise InvalidTask(pointer, "a grid is a list of rows")
    if not 1 <= len(value) <= MAX_SIDE:
        raise InvalidTask(pointer, f"a grid has 1 to {MAX_SIDE} rows, this one has {len(value)}")
    rows = tuple(_parse_row(row, pointer=f"{pointer}/{y}") for y, row in enumerate(value))
    for y, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InvalidTask(f"{pointer}/{y}", f"row has {len(row)} cells, the first row has {len(rows[0])}")
    return rows


def _parse_row(row: object, *, pointer: str) -> tuple[int, ...]:
    if not isinstance(row, list | tuple):
        raise InvalidTask(pointer, "a row is a list of cells")
    if not 1 <= len(row) <= MAX_SIDE:
        raise InvalidTask(pointer, f"a row has 1 to {MAX_SIDE} cells, this one has {len(row)}")
    for x, cell in enumerate(row):
        if type(cell) is not int:
            raise InvalidTask(f"{pointer}/{x}", f"{_shown(cell)} is not an integer")
        if not 0 <= cell < NUM_COLOURS:
            raise InvalidTask(f"{pointer}/{x}", f"{_shown(cell)} is not in 0..{NUM_COLOURS - 1}")
    return tuple(row)


def _shown(cell: object) -> str:
    # An int of over 4,300 digits refuses to become text, and JSON can hold one.
    if type(cell) is int and cell.bit_length() > 64:  # noqa: PLR2004
        return "a very large number"
    if isinstance(cell, list | dict):  # its text may be too long, or nested too deeply to be made
        return "a list" if isinstance(cell, list) else "an object"
    return f"{cell!r:.40}"


def shape(grid: Grid) -> tuple[int, int]:
    """Height and width."""
    return len(grid), len(grid[0])


def grid_to_array(grid: Grid) -> GridArray:
    """`[height, width]` uint8."""
    return np.array(grid, dtype=np.uint8)


def grid_from_array(array: GridArray) -> Grid:
    """The inverse of `grid_to_array`."""
    return tuple(tuple(int(cell) for cell in row) for row in array)
