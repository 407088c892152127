"""Outputs that are a part of the input."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import MAX_SIDE, GridArray
from arc_engine.pretraining.families.drawing import any_inputs, coin, colour, noise_inputs, object_inputs, speckles
from arc_engine.pretraining.families.measuring import bounding_box, components
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family


def _with_margin(inner: Draw, size: SizeRange) -> Draw:
    """The inner grids somewhere on a larger empty background."""

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        room = max(1, size.high - max(grid.shape))
        before, after = rng.integers(0, min(3, room) + 1, 2), rng.integers(0, min(3, room) + 1, 2)
        return np.pad(grid, tuple(zip(before, after, strict=True)))

    return draw


@family(theme="cropping", level=1)
def crop_to_content(rng: Generator, size: SizeRange) -> Rule:
    """The smallest box around everything that is not background."""
    inner = noise_inputs(rng, size.within(2, 5))
    return Rule(_with_margin(inner, size), lambda grid: grid[bounding_box(grid > 0)])


@family(theme="cropping", level=1)
def crop_half(rng: Generator, size: SizeRange) -> Rule:
    """One half, or one quarter, by position; the middle line of odd sides belongs to both."""
    turns, quarter = int(rng.integers(4)), coin(rng, 0.3)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, turns)
        part = turned[: (turned.shape[0] + 1) // 2]
        return np.rot90(part[:, : (turned.shape[1] + 1) // 2] if quarter else part, -turns)

    return Rule(any_inputs(rng, size), apply)


@family(theme="cropping", level=1)
def trim(rng: Generator, size: SizeRange) -> Rule:
    """The outermost ring, or one outermost row, is cut away."""
    ring, turns = coin(rng), int(rng.integers(4))

    def apply(grid: GridArray) -> GridArray:
        return grid[1:-1, 1:-1] if ring else np.rot90(np.rot90(grid, turns)[1:], -turns)

    return Rule(any_inputs(rng, size.within(3, 30)), apply)


@family(theme="cropping", level=1)
def take_line(rng: Generator, size: SizeRange) -> Rule:
    """The first or last row or column."""
    turns = int(rng.integers(4))
    return Rule(any_inputs(rng, size), lambda grid: np.rot90(np.rot90(grid, turns)[:1], -turns))


@family(theme="cropping", level=2)
def crop_to_colour(rng: Generator, size: SizeRange) -> Rule:
    """The box around one colour; other colours are cropped away, or cleared inside it too."""
    kept, clear = colour(rng), coin(rng)
    inner = noise_inputs(rng, size.within(3, 30), background=True, most_colours=2)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[grid == kept] = 0
        h, w = (int(rng.integers(1, side)) for side in grid.shape)
        y, x = int(rng.integers(grid.shape[0] - h + 1)), int(rng.integers(grid.shape[1] - w + 1))
        body = speckles(rng, (h, w), 0.7)
        body.flat[0] = body.flat[-1] = True
        grid[y : y + h, x : x + w][body] = kept
        return grid

    def apply(grid: GridArray) -> GridArray:
        part = grid[bounding_box(grid == kept)]
        return np.where(part == kept, part, 0).astype(np.uint8) if clear else part

    return Rule(draw, apply)


@family(theme="objects", level=2)
def crop_object_by_size(rng: Generator, size: SizeRange) -> Rule:
    """The box of the object with the most (or fewest) cells, the first in reading order on a tie."""
    smallest = coin(rng, 0.3)

    def apply(grid: GridArray) -> GridArray:
        found = components(grid)
        sizes = [int(mask.sum()) for mask in found]
        chosen = found[sizes.index(min(sizes) if smallest else max(sizes))]
        box = bounding_box(chosen)
        return np.where(chosen[box], grid[box], 0).astype(np.uint8)

    return Rule(object_inputs(rng, size.within(4, 30), solid=coin(rng)), apply)


@family(theme="objects", level=2)
def keep_object_by_size(rng: Generator, size: SizeRange) -> Rule:
    """The largest object stays, or takes a colour, or goes; nothing else changes or everything else goes."""
    paint, mode = colour(rng), int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        found = components(grid)
        sizes = [int(mask.sum()) for mask in found]
        chosen = found[sizes.index(max(sizes))]
        changed = [np.where(chosen, grid, 0), np.where(chosen, paint, grid), np.where(chosen, 0, grid)][mode]
        return changed.astype(np.uint8)

    return Rule(object_inputs(rng, size.within(4, 30)), apply)


@family(theme="objects", level=2)
def paint_objects_by_size(rng: Generator, size: SizeRange) -> Rule:
    """Objects of one cell take one colour, larger ones another."""
    small, large = colour(rng), colour(rng)

    def apply(grid: GridArray) -> GridArray:
        painted = np.zeros_like(grid)
        for mask in components(grid):
            painted[mask] = small if mask.sum() == 1 else large
        return painted

    return Rule(object_inputs(rng, size.within(3, 30), most=4), apply)


@family(theme="cropping", level=2)
def drop_empty_lines(rng: Generator, size: SizeRange) -> Rule:
    """Rows and columns without any filled cell vanish."""
    both = coin(rng)

    def apply(grid: GridArray) -> GridArray:
        rows = grid[grid.any(axis=1)]
        return rows[:, rows.any(axis=0)] if both else rows

    return Rule(noise_inputs(rng, size.within(3, 30), background=True, most_colours=2), apply)


@family(theme="cropping", level=2)
def drop_repeated_lines(rng: Generator, size: SizeRange) -> Rule:
    """Of equal neighbouring rows and columns one stays."""
    inner = noise_inputs(rng, size.within(2, 4), background=False)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        rows = np.repeat(grid, rng.integers(1, 4, grid.shape[0]), axis=0)
        return np.repeat(rows, rng.integers(1, 4, grid.shape[1]), axis=1)

    def apply(grid: GridArray) -> GridArray:
        rows = grid[[y for y in range(len(grid)) if y == 0 or (grid[y] != grid[y - 1]).any()]]
        columns = rows.T
        return columns[[x for x in range(len(columns)) if x == 0 or (columns[x] != columns[x - 1]).any()]].T

    return Rule(draw, apply)


@family(theme="cropping", level=1)
def take_every_second(rng: Generator, size: SizeRange) -> Rule:
    """Every second row, column, or both, from the first or the second one on."""
    kind, phase = int(rng.integers(3)), int(rng.integers(2))
    inner = noise_inputs(rng, size.within(3, MAX_SIDE))

    def apply(grid: GridArray) -> GridArray:
        rows = grid[phase::2] if kind != 1 else grid
        return rows[:, phase::2] if kind != 0 else rows

    return Rule(inner, apply)
