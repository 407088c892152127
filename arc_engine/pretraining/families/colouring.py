"""Rules that change colours and leave shapes alone."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import NUM_COLOURS, GridArray
from arc_engine.pretraining.families.drawing import (
    any_inputs,
    coin,
    colour,
    colours,
    noise_inputs,
    scattered_inputs,
    speckles,
)
from arc_engine.pretraining.families.measuring import commonest, every_second, neighbours
from arc_engine.pretraining.families.registry import Rule, SizeRange, family


@family(theme="colours", level=1)
def recolour_map(rng: Generator, size: SizeRange) -> Rule:
    """Each of two to four colours becomes another one, the same way in every pair."""
    count = int(rng.integers(2, 5))
    table = np.arange(NUM_COLOURS, dtype=np.uint8)
    sources = colours(rng, count)
    table[sources] = colours(rng, count) if coin(rng) else sources[1:] + sources[:1]
    density = rng.uniform(0.4, 1.0)
    blank = noise_inputs(rng, size)

    def draw(rng: Generator) -> GridArray:
        shape = blank(rng).shape
        cells = np.array(sources, np.uint8)[rng.integers(0, count, shape)]
        return np.where(speckles(rng, shape, density), cells, 0).astype(np.uint8)

    return Rule(draw, lambda grid: table[grid])


@family(theme="colours", level=1)
def swap_two(rng: Generator, size: SizeRange) -> Rule:
    """The two colours of a grid change places, whichever they are."""
    per_task = colours(rng, 2)
    fixed, background = coin(rng), coin(rng, 0.4)
    blank = noise_inputs(rng, size)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        pair = per_task if fixed else colours(rng, 2)
        cells = np.array([0 if background else pair[0], pair[1]], np.uint8)[rng.integers(0, 2, grid.shape)]
        cells.flat[:2] = [0 if background else pair[0], pair[1]]
        return cells

    def apply(grid: GridArray) -> GridArray:
        first, last = grid.min(), grid.max()
        return np.where(grid == first, last, first).astype(np.uint8)

    return Rule(draw, apply)


@family(theme="colours", level=1)
def paint_all(rng: Generator, size: SizeRange) -> Rule:
    """Everything that is not background takes one colour."""
    paint = colour(rng)
    return Rule(any_inputs(rng, size), lambda grid: np.where(grid > 0, paint, 0).astype(np.uint8))


@family(theme="colours", level=1)
def keep_colour(rng: Generator, size: SizeRange) -> Rule:
    """Only one colour stays, or only one goes."""
    kept, invert = colour(rng), coin(rng)
    inner = noise_inputs(rng, size, most_colours=3)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[speckles(rng, grid.shape, 0.3)] = kept
        return grid

    def apply(grid: GridArray) -> GridArray:
        return np.where((grid == kept) != invert, grid, 0).astype(np.uint8)

    return Rule(draw, apply)


@family(theme="colours", level=2)
def recolour_commonest(rng: Generator, size: SizeRange) -> Rule:
    """The commonest (or rarest) colour becomes a fixed one, or everything else does."""
    paint, rarest, others = colour(rng), coin(rng), coin(rng, 0.3)

    def apply(grid: GridArray) -> GridArray:
        chosen = grid == commonest(grid, rarest=rarest)
        return np.where((grid > 0) & (chosen != others), paint, grid).astype(np.uint8)

    return Rule(noise_inputs(rng, size, most_colours=3), apply)


@family(theme="colours", level=2)
def fill_with_commonest(rng: Generator, size: SizeRange) -> Rule:
    """The whole output has the input's commonest colour."""
    return Rule(noise_inputs(rng, size, most_colours=3), lambda grid: np.full_like(grid, commonest(grid)))


@family(theme="colours", level=1)
def recolour_background(rng: Generator, size: SizeRange) -> Rule:
    """The background takes a colour."""
    paint = colour(rng)
    return Rule(any_inputs(rng, size), lambda grid: np.where(grid == 0, paint, grid).astype(np.uint8))


@family(theme="colours", level=2)
def recolour_lonely(rng: Generator, size: SizeRange) -> Rule:
    """Cells without a neighbour (eight directions) of any colour are painted, or erased."""
    paint = 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        lonely = (grid > 0) & (neighbours(grid > 0) == 0)
        return np.where(lonely, paint, grid).astype(np.uint8)

    return Rule(scattered_inputs(rng, size, most=9), apply)


@family(theme="colours", level=2)
def recolour_alternate(rng: Generator, size: SizeRange) -> Rule:
    """Filled cells of every second row, column or diagonal are painted."""
    paint, kind, phase = colour(rng), int(rng.integers(3)), int(rng.integers(2))

    def apply(grid: GridArray) -> GridArray:
        chosen = every_second(grid.shape, kind=kind, phase=phase)
        return np.where((grid > 0) & chosen, paint, grid).astype(np.uint8)

    return Rule(any_inputs(rng, size), apply)


@family(theme="colours", level=2)
def paint_uniform_lines(rng: Generator, size: SizeRange) -> Rule:
    """Rows (or columns) of a single colour are painted, all others are emptied or stay."""
    paint, sideways, clears = colour(rng), coin(rng), coin(rng)
    inner = noise_inputs(rng, size.within(3, 12), background=False, most_colours=3)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        for y in np.flatnonzero(speckles(rng, grid.shape[:1], 0.4)):
            grid[y] = grid[y, 0]
        return grid.T if sideways else grid

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        uniform = (rows == rows[:, :1]).all(axis=1, keepdims=True)
        painted = np.where(uniform, paint, 0 if clears else rows).astype(np.uint8)
        return painted.T if sideways else painted

    return Rule(draw, apply)


@family(theme="colours", level=2)
def paint_background_alternate(rng: Generator, size: SizeRange) -> Rule:
    """Background cells of every second row, column or diagonal are painted."""
    paint, kind, phase = colour(rng), int(rng.integers(3)), int(rng.integers(2))

    def apply(grid: GridArray) -> GridArray:
        chosen = every_second(grid.shape, kind=kind, phase=phase)
        return np.where((grid == 0) & chosen, paint, grid).astype(np.uint8)

    return Rule(scattered_inputs(rng, size, most=3), apply)
