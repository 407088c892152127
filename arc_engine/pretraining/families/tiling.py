"""Larger outputs made of copies of the input, and smaller ones that undo it."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import any_inputs, coin, colour, noise_inputs
from arc_engine.pretraining.families.measuring import colour_counts, commonest
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family


@family(theme="tiling", level=1)
def tile(rng: Generator, size: SizeRange) -> Rule:
    """The input repeated in a block of up to 3 x 3."""
    times = [(1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 3)][int(rng.integers(6))]
    return Rule(any_inputs(rng, size.within(2, 3 if times == (3, 3) else 5)), lambda grid: np.tile(grid, times))


@family(theme="tiling", level=1)
def append_copy(rng: Generator, size: SizeRange) -> Rule:
    """The input next to a flipped or turned copy of itself, on any side."""
    axis, first, kind = int(rng.integers(2)), coin(rng), int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        other = [np.flip(grid, axis), np.flip(grid, 1 - axis), np.rot90(grid, 2)][kind]
        return np.concatenate([grid, other] if first else [other, grid], axis)

    return Rule(any_inputs(rng, size.within(2, 6)), apply)


@family(theme="tiling", level=1)
def kaleidoscope(rng: Generator, size: SizeRange) -> Rule:
    """A 2 x 2 block of mirrored copies with the input in one corner."""
    turns = int(rng.integers(4))

    def apply(grid: GridArray) -> GridArray:
        top = np.concatenate([grid, np.fliplr(grid)], 1)
        whole = np.concatenate([top, np.flipud(top)], 0)
        return np.roll(whole, (grid.shape[0] * (turns & 1), grid.shape[1] * (turns >> 1)), (0, 1))

    return Rule(any_inputs(rng, size.within(2, 4)), apply)


@family(theme="tiling", level=2)
def pinwheel(rng: Generator, size: SizeRange) -> Rule:
    """A 2 x 2 block of the four turns of a square input."""
    sign = int(rng.choice([-1, 1]))
    inner = any_inputs(rng, size.within(2, 4))

    def apply(grid: GridArray) -> GridArray:
        a, b, c, d = (np.rot90(grid, sign * turn) for turn in range(4))
        return np.block([[a, b], [d, c]])

    return Rule(_squared(inner), apply)


@family(theme="tiling", level=2)
def alternate_tiles(rng: Generator, size: SizeRange) -> Rule:
    """Three rows of three copies, every second row (or column, or tile) mirrored."""
    axis, pattern = int(rng.integers(2)), int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        flipped = np.flip(grid, axis)
        rows, columns = np.indices((3, 3))
        odd = np.array([rows, columns, rows + columns][pattern]) % 2
        return np.block([[flipped if odd[y, x] else grid for x in range(3)] for y in range(3)])

    return Rule(any_inputs(rng, size.within(2, 3)), apply)


@family(theme="tiling", level=2)
def tile_by_content(rng: Generator, size: SizeRange) -> Rule:
    """A copy of the input at every filled (or empty) cell of itself."""
    inverse = coin(rng, 0.3)

    def apply(grid: GridArray) -> GridArray:
        mask = (grid == 0) if inverse else (grid != 0)
        return np.kron(mask.astype(np.uint8), grid)

    return Rule(noise_inputs(rng, size.within(2, 3), background=True, most_colours=2), apply)


@family(theme="tiling", level=2)
def tile_at_commonest(rng: Generator, size: SizeRange) -> Rule:
    """A copy of the input at every cell that has its commonest (or rarest) colour."""
    rarest = coin(rng)

    def apply(grid: GridArray) -> GridArray:
        return np.kron((grid == commonest(grid, rarest=rarest)).astype(np.uint8), grid)

    return Rule(noise_inputs(rng, size.within(2, 3), background=False, most_colours=3), apply)


@family(theme="scaling", level=1)
def upscale(rng: Generator, size: SizeRange) -> Rule:
    """Every cell becomes a block of 2 x 2, 3 x 3, 1 x 2 or 2 x 1."""
    block = [(2, 2), (3, 3), (1, 2), (2, 1)][int(rng.integers(4))]
    inner = any_inputs(rng, size.within(2, 3 if block == (3, 3) else 5))
    return Rule(inner, lambda grid: np.kron(grid, np.ones(block, np.uint8)))


@family(theme="scaling", level=2)
def upscale_by_colours(rng: Generator, size: SizeRange) -> Rule:
    """Every cell becomes a block as wide as the input has colours (0 not counted)."""

    def apply(grid: GridArray) -> GridArray:
        side = min(4, max(1, int((colour_counts(grid)[1:] > 0).sum())))
        return np.kron(grid, np.ones((side, side), np.uint8))

    return Rule(noise_inputs(rng, size.within(2, 3), most_colours=4), apply)


@family(theme="scaling", level=1)
def downscale(rng: Generator, size: SizeRange) -> Rule:
    """Blocks of 2 x 2 or 3 x 3 become one cell each."""
    side, largest = [(2, 5), (3, 4)][int(rng.integers(2))]
    inner = any_inputs(rng, size.within(2, largest))

    def draw(rng: Generator) -> GridArray:
        return np.kron(inner(rng), np.ones((side, side), np.uint8))

    return Rule(draw, lambda grid: grid[::side, ::side])


@family(theme="tiling", level=1)
def untile(rng: Generator, size: SizeRange) -> Rule:
    """A grid of equal copies becomes one copy."""
    times = [(1, 2), (2, 1), (2, 2), (1, 3), (3, 1)][int(rng.integers(5))]
    inner = any_inputs(rng, size.within(2, 4))

    def draw(rng: Generator) -> GridArray:
        return np.tile(inner(rng), times)

    return Rule(draw, lambda grid: grid[: grid.shape[0] // times[0], : grid.shape[1] // times[1]])


def _squared(inner: Draw) -> Draw:
    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        side = min(grid.shape)
        return grid[:side, :side]

    return draw


@family(theme="scaling", level=1)
def space_out(rng: Generator, size: SizeRange) -> Rule:
    """Lines are put between all rows and all columns."""
    line = 0 if coin(rng, 0.3) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        spaced = np.full((2 * grid.shape[0] - 1, 2 * grid.shape[1] - 1), line, np.uint8)
        spaced[::2, ::2] = grid
        return spaced

    return Rule(any_inputs(rng, size.within(2, 5)), apply)
