"""Grids of several parts: logic of two halves, counting, sorting."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import (
    coin,
    colour,
    colours,
    noise_inputs,
    object_inputs,
    scattered_inputs,
    speckles,
)
from arc_engine.pretraining.families.measuring import Mask, colour_counts, commonest, components
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family

_LONGEST_DIAGONAL: Final = 9
_LOGIC: Final[tuple[Callable[[Mask, Mask], Mask], ...]] = (
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a ^ b,
    lambda a, b: ~(a | b),
    lambda a, b: a & ~b,
    lambda a, b: ~(a & b),
)


def _halves(rng: Generator, size: SizeRange, *, separator: int, sideways: bool) -> Draw:
    """Two noise grids of one shape, each in its own colour, above one another; a line between them unless 0."""
    one, two = colours(rng, 2)
    inner = noise_inputs(rng, size.within(2, 5))

    def draw(rng: Generator) -> GridArray:
        shape = inner(rng).shape
        first = np.where(speckles(rng, shape, 0.5), one, 0)
        second = np.where(speckles(rng, shape, 0.5), two, 0)
        line = np.full((1 if separator else 0, shape[1]), separator)
        whole: GridArray = np.concatenate([first, line, second]).astype(np.uint8)
        return whole.T if sideways else whole

    return draw


def _parts(grid: GridArray, *, sideways: bool) -> tuple[GridArray, GridArray]:
    rows = grid.T if sideways else grid
    half = len(rows) // 2
    return rows[:half], rows[-half:]


@family(theme="logic", level=2)
def logic_of_halves(rng: Generator, size: SizeRange) -> Rule:
    """And, or, xor, nor, but-not, nand of two halves, in a new colour."""
    operation, paint = _LOGIC[int(rng.integers(len(_LOGIC)))], colour(rng)
    sideways, separator = coin(rng), colour(rng) if coin(rng, 0.7) else 0

    def apply(grid: GridArray) -> GridArray:
        first, second = _parts(grid, sideways=sideways)
        combined = np.where(operation(first > 0, second > 0), paint, 0).astype(np.uint8)
        return combined.T if sideways else combined

    return Rule(_halves(rng, size, separator=separator, sideways=sideways), apply)


@family(theme="logic", level=2)
def overlay_halves(rng: Generator, size: SizeRange) -> Rule:
    """One half laid over the other; empty cells are transparent."""
    sideways, separator, first_on_top = coin(rng), colour(rng) if coin(rng, 0.7) else 0, coin(rng)

    def apply(grid: GridArray) -> GridArray:
        first, second = _parts(grid, sideways=sideways)
        top, bottom = (first, second) if first_on_top else (second, first)
        combined = np.where(top > 0, top, bottom)
        return combined.T if sideways else combined

    return Rule(_halves(rng, size, separator=separator, sideways=sideways), apply)


@family(theme="counting", level=2)
def commonest_as_cell(rng: Generator, size: SizeRange) -> Rule:
    """One cell of the commonest (or rarest) colour."""
    rarest = coin(rng, 0.3)
    inner = noise_inputs(rng, size, most_colours=3)
    return Rule(inner, lambda grid: np.full((1, 1), commonest(grid, rarest=rarest), np.uint8))


@family(theme="counting", level=2)
def bar_of_count(rng: Generator, size: SizeRange) -> Rule:
    """A bar as long as there are cells of the one colour, in a row or a column."""
    sideways, paint = coin(rng), 0 if coin(rng) else colour(rng)
    mark = colour(rng)

    def apply(grid: GridArray) -> GridArray:
        length = min(30, int((grid == mark).sum()))
        shape = (1, length) if sideways else (length, 1)
        return np.full(shape, paint or mark, np.uint8)

    return Rule(scattered_inputs(rng, size.within(2, 6), most=6, palette=[mark]), apply)


@family(theme="counting", level=2)
def bar_of_objects(rng: Generator, size: SizeRange) -> Rule:
    """As many filled cells in a strip of five as there are objects."""
    paint = colour(rng)

    def apply(grid: GridArray) -> GridArray:
        strip = np.zeros((1, 5), np.uint8)
        strip[0, : len(components(grid))] = paint
        return strip

    return Rule(object_inputs(rng, size.within(4, 30), most=5, solid=True), apply)


@family(theme="counting", level=2)
def colours_by_count(rng: Generator, size: SizeRange) -> Rule:
    """The colours of the input from commonest to rarest, one cell each."""
    sideways = coin(rng)

    def apply(grid: GridArray) -> GridArray:
        counts = colour_counts(grid)
        present = sorted((c for c in range(1, 10) if counts[c]), key=lambda c: (-counts[c], c))
        column = np.array(present, np.uint8)[:, None]
        return column.T if sideways else column

    return Rule(noise_inputs(rng, size.within(2, 6), most_colours=3), apply)


@family(theme="sorting", level=2)
def sort_bars(rng: Generator, size: SizeRange) -> Rule:
    """Bars that stand on one side are ordered by length."""
    turns, falling = int(rng.integers(4)), coin(rng)
    palette = colours(rng, 3)
    high = size.within(3, 9)

    def draw(rng: Generator) -> GridArray:
        height, width = high.draw(rng), high.draw(rng)
        lengths = rng.integers(0, height + 1, width)
        lengths[int(rng.integers(width))] = height - 1
        bars = np.arange(height)[::-1, None] < lengths
        paints = np.array(palette, np.uint8)[rng.integers(0, 3, width)]
        return np.rot90(np.where(bars, paints, 0).astype(np.uint8), turns)

    def apply(grid: GridArray) -> GridArray:
        bars = np.rot90(grid, -turns)
        lengths = (bars > 0).sum(axis=0)
        order = np.argsort(-lengths if falling else lengths, kind="stable")
        return np.rot90(bars[:, order], turns)

    return Rule(draw, apply)


@family(theme="sorting", level=2)
def sort_lines_by_filling(rng: Generator, size: SizeRange) -> Rule:
    """Rows (or columns) are ordered by how many cells are filled."""
    sideways, falling = coin(rng), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        filled = (rows > 0).sum(axis=1)
        ordered = rows[np.argsort(-filled if falling else filled, kind="stable")]
        return ordered.T if sideways else ordered

    return Rule(noise_inputs(rng, size, background=True, most_colours=2), apply)


@family(theme="logic", level=1)
def fold(rng: Generator, size: SizeRange) -> Rule:
    """One half is laid, mirrored or not, over the empty cells of the other, and cut away."""
    turns, mirrored = int(rng.integers(4)), coin(rng)
    inner = noise_inputs(rng, size.within(2, 5), background=True, most_colours=2)

    def draw(rng: Generator) -> GridArray:
        one = inner(rng)
        two = np.where(speckles(rng, one.shape, 0.5), rng.permutation(one.ravel()).reshape(one.shape), 0)
        return np.rot90(np.concatenate([one, two.astype(np.uint8)]), turns)

    def apply(grid: GridArray) -> GridArray:
        rows = np.rot90(grid, -turns)
        half = len(rows) // 2
        laid = rows[half:][::-1] if mirrored else rows[half:]
        return np.rot90(np.where(rows[:half] > 0, rows[:half], laid), turns)

    return Rule(draw, apply)


@family(theme="counting", level=2)
def diagonal_of_count(rng: Generator, size: SizeRange) -> Rule:
    """A square with as many cells on its diagonal as the input has filled ones."""
    paint, anti = colour(rng), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        square = np.eye(min(_LONGEST_DIAGONAL, max(1, int((grid > 0).sum()))), dtype=np.uint8) * paint
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
