"""Copies, flips, turns, shifts: the cells stay, their places change."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import any_inputs, coin, colour, noise_inputs, speckles
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


@family(theme="shifts", level=1)
def swap_halves(rng: Generator, size: SizeRange) -> Rule:
    """The two halves change places; the middle line of odd sides stays."""
    sideways = coin(rng)

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        half = len(rows) // 2
        swapped = np.concatenate([rows[len(rows) - half :], rows[half : len(rows) - half], rows[:half]])
        return swapped.T if sideways else swapped

    return Rule(any_inputs(rng, size), apply)


@family(theme="geometry", level=2)
def turn_inside(rng: Generator, size: SizeRange) -> Rule:
    """The outermost ring stays, what is inside is flipped or turned upside down."""
    kind = int(rng.integers(3))
    inner = noise_inputs(rng, size.within(4, 10), background=False)

    def apply(grid: GridArray) -> GridArray:
        inside = grid[1:-1, 1:-1]
        turned = grid.copy()
        turned[1:-1, 1:-1] = [np.fliplr(inside), np.flipud(inside), np.rot90(inside, 2)][kind]
        return turned

    return Rule(inner, apply)


@family(theme="geometry", level=2)
def flip_marked_rows(rng: Generator, size: SizeRange) -> Rule:
    """Rows that begin with the marker are reversed, marker and all, or only what follows it."""
    mark, whole, sideways = colour(rng), coin(rng), coin(rng)
    inner = noise_inputs(rng, size.within(3, 10), background=False)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[grid == mark] = 0
        grid[speckles(rng, grid.shape[:1], 0.5), 0] = mark
        return grid.T if sideways else grid

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        start = 0 if whole else 1
        flipped = np.concatenate([rows[:, :start], rows[:, start:][:, ::-1]], axis=1)
        turned = np.where(rows[:, :1] == mark, flipped, rows)
        return turned.T if sideways else turned

    return Rule(draw, apply)
