"""Copies, flips, turns, shifts: the cells stay, their places change."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import any_inputs, coin, noise_inputs
from arc_engine.pretraining.families.registry import Rule, SizeRange, family


@family(theme="copying", level=0)
def copy(rng: Generator, size: SizeRange) -> Rule:
    """The output is the input."""
    return Rule(noise_inputs(rng, size, most_colours=9), lambda grid: grid)


@family(theme="geometry", level=1)
def flip(rng: Generator, size: SizeRange) -> Rule:
    """Mirrored left to right or top to bottom."""
    axis = int(rng.integers(2))
    return Rule(any_inputs(rng, size), lambda grid: np.flip(grid, axis))


@family(theme="geometry", level=1)
def rotate(rng: Generator, size: SizeRange) -> Rule:
    """Turned by 90, 180 or 270 degrees."""
    turns = int(rng.integers(1, 4))
    return Rule(any_inputs(rng, size), lambda grid: np.rot90(grid, turns))


@family(theme="geometry", level=1)
def transpose(rng: Generator, size: SizeRange) -> Rule:
    """Mirrored in one of the two diagonals."""
    anti = coin(rng)
    return Rule(any_inputs(rng, size), lambda grid: np.rot90(grid, 2).T if anti else grid.T)


@family(theme="shifts", level=1)
def roll(rng: Generator, size: SizeRange) -> Rule:
    """Moved by one or two cells, wrapping round."""
    axis, distance = int(rng.integers(2)), int(rng.choice([-2, -1, 1, 2]))
    return Rule(any_inputs(rng, size), lambda grid: np.roll(grid, distance, axis))


@family(theme="shifts", level=1)
def shift(rng: Generator, size: SizeRange) -> Rule:
    """Moved by one or two cells; what leaves is lost, what enters is background."""
    turns, distance = int(rng.integers(4)), int(rng.integers(1, 3))

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, turns)
        moved = np.zeros_like(turned)
        moved[distance:] = turned[: max(0, len(turned) - distance)][: len(moved[distance:])]
        return np.rot90(moved, -turns)

    return Rule(any_inputs(rng, size), apply)


@family(theme="shifts", level=2)
def shear(rng: Generator, size: SizeRange) -> Rule:
    """Row `i` is rolled by `i` cells."""
    sign, along = int(rng.choice([-1, 1])), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        rows = grid if along else grid.T
        rolled = np.stack([np.roll(row, sign * y) for y, row in enumerate(rows)])
        return rolled if along else rolled.T

    return Rule(any_inputs(rng, size), apply)


@family(theme="gravity", level=2)
def gravity(rng: Generator, size: SizeRange) -> Rule:
    """Cells fall to one side, each on its own."""
    turns = int(rng.integers(4))

    def apply(grid: GridArray) -> GridArray:
        fallen = np.zeros_like(np.rot90(grid, turns))
        for x, column in enumerate(np.rot90(grid, turns).T):
            cells = column[column > 0]
            if len(cells):
                fallen[-len(cells) :, x] = cells
        return np.rot90(fallen, -turns)

    return Rule(noise_inputs(rng, size, background=True, most_colours=3), apply)


@family(theme="gravity", level=2)
def slide_to_wall(rng: Generator, size: SizeRange) -> Rule:
    """All cells move together until the first one touches the wall."""
    turns = int(rng.integers(4))

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, turns)
        rows = np.flatnonzero(turned.any(axis=1))
        gap = 0 if not len(rows) else len(turned) - 1 - int(rows[-1])
        return np.rot90(np.roll(turned, gap, axis=0), -turns)

    return Rule(any_inputs(rng, size), apply)
