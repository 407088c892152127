"""Inputs that say themselves what is to be done: legends, headers, keys in a corner. And answers of one cell."""

from typing import Final

import numpy as np
from numpy.random import Generator

from arc_engine.grids import MAX_SIDE, NUM_COLOURS, GridArray
from arc_engine.pretraining.families.drawing import (
    coin,
    colour,
    colours,
    noise_inputs,
    scattered_inputs,
    shape_drawer,
    speckles,
)
from arc_engine.pretraining.families.measuring import colour_counts
from arc_engine.pretraining.families.registry import Rule, SizeRange, family

_LONGEST: Final = 9


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
        grid[0, 0] = rng.choice([c for c in range(1, NUM_COLOURS) if c != mark])
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
        grid[0] = rng.choice([c for c in range(1, NUM_COLOURS) if c != mark], grid.shape[1])
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
        grid[0], grid[-1] = [c for c in colours(rng, 3) if c != mark][:2]
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


@family(theme="counting", level=2)
def diagonal_of_count(rng: Generator, size: SizeRange) -> Rule:
    """A square with as many cells on its diagonal as the input has filled ones."""
    paint, anti = colour(rng), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        square = np.eye(min(_LONGEST, max(1, int((grid > 0).sum()))), dtype=np.uint8) * paint
        return np.fliplr(square) if anti else square

    return Rule(scattered_inputs(rng, size.within(2, 6), most=5), apply)


@family(theme="counting", level=2)
def bars_of_colours(rng: Generator, size: SizeRange) -> Rule:
    """One bar for each of the task's colours, in their order, as long as there are cells of it."""
    known = colours(rng, int(rng.integers(2, 4)))
    sideways = coin(rng)
    blank = noise_inputs(rng, size.within(2, 4))

    def draw(rng: Generator) -> GridArray:
        shape = blank(rng).shape
        cells = rng.choice(known, shape)
        return np.where(speckles(rng, shape, 0.5), cells, 0).astype(np.uint8)

    def apply(grid: GridArray) -> GridArray:
        counts = colour_counts(grid)[known]
        longest = max(1, int(counts.max()))
        bars = np.where(np.arange(longest) < counts[:, None], np.array(known)[:, None], 0).astype(np.uint8)
        return bars.T if sideways else bars

    return Rule(draw, apply)


@family(theme="counting", level=2)
def mirrored_or_not(rng: Generator, size: SizeRange) -> Rule:
    """One cell: one colour if the input equals its mirror image, another if not."""
    axis = int(rng.integers(2))
    yes, no = colours(rng, 2)
    inner = noise_inputs(rng, size.within(2, 4))

    def draw(rng: Generator) -> GridArray:
        half = inner(rng)
        whole: GridArray = np.concatenate([half, np.flip(half, axis)], axis)
        if coin(rng):
            y, x = (int(rng.integers(side)) for side in whole.shape)
            whole[y, x] = 0 if whole[y, x] else colour(rng)
        return whole

    def apply(grid: GridArray) -> GridArray:
        return np.full((1, 1), yes if (grid == np.flip(grid, axis)).all() else no, np.uint8)

    return Rule(draw, apply)


@family(theme="counting", level=2)
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


@family(theme="patterns", level=2)
def paint_background_alternate(rng: Generator, size: SizeRange) -> Rule:
    """Background cells of every second row, column or diagonal are painted."""
    paint, kind, phase = colour(rng), int(rng.integers(3)), int(rng.integers(2))

    def apply(grid: GridArray) -> GridArray:
        rows, columns = np.indices(grid.shape)
        number = [rows, columns, rows + columns][kind]
        return np.where((grid == 0) & (number % 2 == phase), paint, grid).astype(np.uint8)

    return Rule(scattered_inputs(rng, size, most=3), apply)


@family(theme="patterns", level=2)
def reverse_rings(rng: Generator, size: SizeRange) -> Rule:
    """Square rings, one in another: the order of their colours is reversed, or moved on by one."""
    moves_on = coin(rng)
    high = size.within(4, 12)

    def draw(rng: Generator) -> GridArray:
        depth = min(4, max(2, high.draw(rng) // 2))
        return _rings(np.array(colours(rng, depth), np.uint8))

    def apply(grid: GridArray) -> GridArray:
        paints = grid[len(grid) // 2, : len(grid) // 2]
        return _rings(np.roll(paints, 1) if moves_on else paints[::-1])

    return Rule(draw, apply)


def _rings(paints: GridArray) -> GridArray:
    """`[2n, 2n]` for n colours, the first one outermost."""
    depth = len(paints)
    distance = np.minimum(np.arange(2 * depth), np.arange(2 * depth)[::-1])
    rings: GridArray = paints[np.minimum(distance[:, None], distance[None, :])]
    return rings


@family(theme="patterns", level=2)
def rings_of_row(rng: Generator, size: SizeRange) -> Rule:
    """A row of colours becomes square rings, the first colour outermost or innermost."""
    outwards, sideways = coin(rng), coin(rng)
    high = size.within(2, 5)

    def draw(rng: Generator) -> GridArray:
        row = np.array(colours(rng, high.draw(rng)), np.uint8)[None, :]
        return row.T if sideways else row

    def apply(grid: GridArray) -> GridArray:
        paints = grid.ravel()
        return _rings(paints[::-1] if outwards else paints)

    return Rule(draw, apply)


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
