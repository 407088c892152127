"""Rules that draw: borders, outlines, fills, lines, rays."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import (
    any_inputs,
    coin,
    colour,
    colours,
    noise_inputs,
    object_inputs,
    scattered_inputs,
    shape_drawer,
    speckles,
)
from arc_engine.pretraining.families.measuring import NUM_NEIGHBOURS, bounding_box, neighbours, outside
from arc_engine.pretraining.families.registry import Rule, SizeRange, family


@family(theme="borders", level=1)
def add_border(rng: Generator, size: SizeRange) -> Rule:
    """A ring of one colour is added round the grid, or the edge is repeated outwards."""
    paint, repeat_edge = colour(rng), coin(rng, 0.3)

    def apply(grid: GridArray) -> GridArray:
        return np.pad(grid, 1, mode="edge") if repeat_edge else np.pad(grid, 1, constant_values=paint)

    return Rule(any_inputs(rng, size.within(2, 8)), apply)


@family(theme="borders", level=1)
def paint_edge(rng: Generator, size: SizeRange) -> Rule:
    """The cells on the edge take one colour."""
    paint = colour(rng)

    def apply(grid: GridArray) -> GridArray:
        framed = np.full_like(grid, paint)
        framed[1:-1, 1:-1] = grid[1:-1, 1:-1]
        return framed

    return Rule(any_inputs(rng, size.within(3, 30)), apply)


@family(theme="borders", level=2)
def outline(rng: Generator, size: SizeRange) -> Rule:
    """Background cells next to a filled cell take a colour."""
    paint, corners = colour(rng), coin(rng, 0.7)

    def apply(grid: GridArray) -> GridArray:
        filled = np.pad(grid > 0, 1)
        sides = filled[:-2, 1:-1] | filled[2:, 1:-1] | filled[1:-1, :-2] | filled[1:-1, 2:]
        near = neighbours(grid > 0) > 0 if corners else sides
        return np.where((grid == 0) & near, paint, grid).astype(np.uint8)

    return Rule(scattered_inputs(rng, size.within(3, 30), most=3), apply)


@family(theme="fills", level=2)
def fill_enclosed(rng: Generator, size: SizeRange) -> Rule:
    """Background that the edge cannot reach is filled."""
    paint, edge = colour(rng), colour(rng)
    blank = shape_drawer(rng, size.within(4, 30))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(1, 3))):
            h, w = (int(rng.integers(3, side + 1)) for side in grid.shape)
            y, x = int(rng.integers(grid.shape[0] - h + 1)), int(rng.integers(grid.shape[1] - w + 1))
            grid[y : y + h, x : x + w] = edge
            grid[y + 1 : y + h - 1, x + 1 : x + w - 1] = 0
        if coin(rng):
            grid[speckles(rng, grid.shape, 0.08)] = 0
        return grid

    def apply(grid: GridArray) -> GridArray:
        return np.where((grid == 0) & ~outside(grid), paint, grid).astype(np.uint8)

    return Rule(draw, apply)


@family(theme="fills", level=2)
def hollow(rng: Generator, size: SizeRange) -> Rule:
    """The inside of every filled shape is emptied or painted."""
    paint = 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        return np.where((grid > 0) & (neighbours(grid > 0) == NUM_NEIGHBOURS), paint, grid).astype(np.uint8)

    return Rule(object_inputs(rng, size.within(5, 30), most=2, solid=True), apply)


@family(theme="fills", level=2)
def fill_box(rng: Generator, size: SizeRange) -> Rule:
    """The empty cells of the box around everything are filled."""
    paint = colour(rng)

    def apply(grid: GridArray) -> GridArray:
        filled = grid.copy()
        box = bounding_box(grid > 0)
        filled[box] = np.where(grid[box] == 0, paint, grid[box])
        return filled

    return Rule(scattered_inputs(rng, size.within(3, 30), most=4), apply)


@family(theme="lines", level=1)
def extend_to_edges(rng: Generator, size: SizeRange) -> Rule:
    """Every filled cell becomes a whole row or column; with both, columns are drawn over rows."""
    kind = int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        drawn = np.zeros_like(grid)
        for y, x in zip(*np.nonzero(grid), strict=True):
            if kind != 1:
                drawn[y] = grid[y, x]
        for y, x in zip(*np.nonzero(grid), strict=True):
            if kind != 0:
                drawn[:, x] = grid[y, x]
        return drawn

    return Rule(scattered_inputs(rng, size.within(3, 30), most=3), apply)


@family(theme="lines", level=2)
def shoot(rng: Generator, size: SizeRange) -> Rule:
    """Every filled cell draws a line in one direction up to the edge, in its own or a fixed colour."""
    turns, paint = int(rng.integers(4)), 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, turns)
        drawn = turned.copy()
        for y, x in zip(*np.nonzero(turned), strict=True):
            line = drawn[y + 1 :, x]
            line[turned[y + 1 :, x] == 0] = paint or turned[y, x]
        return np.rot90(drawn, -turns)

    return Rule(scattered_inputs(rng, size.within(3, 30), most=4), apply)


@family(theme="lines", level=2)
def shoot_diagonally(rng: Generator, size: SizeRange) -> Rule:
    """Every filled cell draws a diagonal to the edge."""
    dy, dx = int(rng.choice([-1, 1])), int(rng.choice([-1, 1]))

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        for y, x in zip(*np.nonzero(grid), strict=True):
            for step in range(1, min(grid.shape)):
                to_y, to_x = y + step * dy, x + step * dx
                if 0 <= to_y < grid.shape[0] and 0 <= to_x < grid.shape[1] and grid[to_y, to_x] == 0:
                    drawn[to_y, to_x] = grid[y, x]
        return drawn

    return Rule(scattered_inputs(rng, size.within(3, 30), most=2), apply)


@family(theme="lines", level=2)
def connect(rng: Generator, size: SizeRange) -> Rule:
    """Cells of one colour in the same row (and column) are joined by a line over the background."""
    mark = colours(rng, 2)
    paint, both = mark[0] if coin(rng) else mark[1], coin(rng)

    def along_rows(grid: GridArray, drawn: GridArray) -> None:
        for y, row in enumerate(grid):
            places = np.flatnonzero(row == mark[0])
            if len(places) > 1:
                part = drawn[y, places[0] : places[-1] + 1]
                part[part == 0] = paint

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        along_rows(grid, drawn)
        if both:
            along_rows(grid.T, drawn.T)
        return drawn

    return Rule(scattered_inputs(rng, size.within(3, 30), most=7, palette=mark[:1]), apply)


@family(theme="lines", level=2)
def fill_marked_rows(rng: Generator, size: SizeRange) -> Rule:
    """Empty cells of every row (or column) that holds the marker are painted."""
    mark, paint = colours(rng, 2)
    across = coin(rng)
    inner = noise_inputs(rng, size.within(3, 30), background=True, most_colours=2)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[grid == mark] = 0
        for _ in range(int(rng.integers(1, 3))):
            grid[rng.integers(grid.shape[0]), rng.integers(grid.shape[1])] = mark
        return grid

    def apply(grid: GridArray) -> GridArray:
        hit = (grid == mark).any(axis=1, keepdims=True) if across else (grid == mark).any(axis=0, keepdims=True)
        return np.where((grid == 0) & hit, paint, grid).astype(np.uint8)

    return Rule(draw, apply)
