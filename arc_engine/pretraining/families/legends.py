"""Inputs that say themselves what is to be done: legends, headers, keys in a corner."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import MAX_SIDE, NUM_COLOURS, GridArray
from arc_engine.pretraining.families.drawing import (
    coin,
    colour,
    colours,
    noise_inputs,
    shape_drawer,
    speckles,
)
from arc_engine.pretraining.families.registry import Rule, SizeRange, family


@family(theme="legends", level=2)
def recolour_by_legend(rng: Generator, size: SizeRange) -> Rule:
    """The first column names colours, the second what becomes of them; the output is the rest, recoloured."""
    count = int(rng.integers(1, 4))
    blank = noise_inputs(rng, size.within(max(2, count), 7))

    def draw(rng: Generator) -> GridArray:
        shape = blank(rng).shape
        names, paints = colours(rng, count), colours(rng, count)
        grid = np.zeros((max(count, shape[0]), shape[1] + 3), np.uint8)
        grid[:count, 0], grid[:count, 1] = names, paints
        cells = rng.choice(names, (len(grid), shape[1]))
        grid[:, 3:] = np.where(speckles(rng, cells.shape, 0.7), cells, 0)
        return grid

    def apply(grid: GridArray) -> GridArray:
        table = np.arange(NUM_COLOURS, dtype=np.uint8)
        for name, paint in grid[:, :2]:
            if name:
                table[name] = paint
        return table[grid[:, 3:]]

    return Rule(draw, apply)


@family(theme="legends", level=2)
def paint_by_corner(rng: Generator, size: SizeRange) -> Rule:
    """The cell in one corner says which colour all others take; it stays, or vanishes."""
    turns, vanishes, mark = int(rng.integers(4)), coin(rng), colour(rng)
    blank = shape_drawer(rng, size.within(3, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        grid[speckles(rng, grid.shape, 0.4)] = mark
        grid[:1, :2] = grid[:2, :1] = 0
        grid[-1, -1] = mark
        grid[0, 0] = colours(rng, 1, without=mark)[0]
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        painted = np.where(turned > 0, turned[0, 0], 0).astype(np.uint8)
        painted[0, 0] = 0 if vanishes else turned[0, 0]
        return np.rot90(painted, turns)

    return Rule(draw, apply)


@family(theme="legends", level=2)
def paint_by_header(rng: Generator, size: SizeRange) -> Rule:
    """Marked cells take the colour that stands at the head of their column."""
    turns, mark = int(rng.integers(4)), colour(rng)
    blank = shape_drawer(rng, size.within(3, 10))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        grid[1:][speckles(rng, grid[1:].shape, 0.4)] = mark
        grid[-1, int(rng.integers(grid.shape[1]))] = mark
        grid[0] = rng.choice(colours(rng, NUM_COLOURS, without=mark), grid.shape[1])
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        return np.rot90(np.where(turned == mark, turned[0], turned), turns)

    return Rule(draw, apply)


@family(theme="legends", level=2)
def paint_by_nearer_edge(rng: Generator, size: SizeRange) -> Rule:
    """Two opposite edges are coloured; marked cells take the colour of the nearer one, of the first on a tie."""
    turns, mark = int(rng.integers(4)), colour(rng)
    blank = shape_drawer(rng, size.within(4, 12))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        grid[speckles(rng, grid.shape, 0.25)] = mark
        grid[int(rng.integers(1, len(grid) - 1)), int(rng.integers(grid.shape[1]))] = mark
        grid[0], grid[-1] = colours(rng, 2, without=mark)
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        nearer = np.where(np.arange(len(turned)) * 2 < len(turned), turned[0, 0], turned[-1, 0])
        return np.rot90(np.where(turned == mark, nearer[:, None], turned).astype(np.uint8), turns)

    return Rule(draw, apply)


@family(theme="legends", level=2)
def turn_by_colour(rng: Generator, size: SizeRange) -> Rule:
    """The input's one colour says by the task's own table what is done: flipped, turned, or left alone."""
    known = colours(rng, 3)
    kinds = rng.permutation(4)[:3]
    blank = noise_inputs(rng, size.within(2, 8), background=True)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        return np.where(grid > 0, rng.choice(known), 0).astype(np.uint8)

    def apply(grid: GridArray) -> GridArray:
        kind = int(dict(zip(known, kinds, strict=True)).get(int(grid.max()), 0))
        return [grid, np.fliplr(grid), np.flipud(grid), np.rot90(grid, 2)][kind]

    return Rule(draw, apply)
