"""Symmetry and pattern completion: the output is what the input would be if nothing were missing."""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import coin, colour, colours, noise_inputs, speckles
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family


def _mirrored(inner: Draw, axis: int) -> Draw:
    """Grids of even side along `axis` that equal their mirror image, without background."""

    def draw(rng: Generator) -> GridArray:
        half = inner(rng)
        return np.concatenate([half, np.flip(half, axis)], axis)

    return draw


@family(theme="symmetry", level=2)
def mirror_half(rng: Generator, size: SizeRange) -> Rule:
    """One half is empty in the input and becomes the mirror image (or a copy) of the other."""
    turns, repeat = int(rng.integers(4)), coin(rng, 0.3)
    inner = noise_inputs(rng, size.within(2, 5))

    def draw(rng: Generator) -> GridArray:
        half = inner(rng)
        return np.rot90(np.concatenate([half, np.zeros_like(half)], 0), turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        half = turned[: len(turned) // 2]
        return np.rot90(np.concatenate([half, half if repeat else half[::-1]], 0), turns)

    return Rule(draw, apply)


@family(theme="symmetry", level=2)
def union_with_mirror(rng: Generator, size: SizeRange) -> Rule:
    """Filled cells appear at their mirror place too, where that is empty."""
    kind = int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        image = [np.fliplr(grid), np.flipud(grid), np.rot90(grid, 2)][kind]
        return np.where(grid == 0, image, grid)

    return Rule(noise_inputs(rng, size, background=True, most_colours=3), apply)


@family(theme="symmetry", level=2)
def unmask_symmetric(rng: Generator, size: SizeRange) -> Rule:
    """A covered rectangle of a mirror-symmetric grid is restored, or only its content is given."""
    axis, cover, only_content = int(rng.integers(2)), colour(rng), coin(rng, 0.3)
    inner = _mirrored(noise_inputs(rng, size.within(3, 5), background=False), axis)

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[grid == cover] = 0
        limit = [side // 2 if place == axis else side for place, side in enumerate(grid.shape)]
        h, w = (int(rng.integers(1, min(3, side) + 1)) for side in limit)
        y, x = int(rng.integers(limit[0] - h + 1)), int(rng.integers(limit[1] - w + 1))
        grid[y : y + h, x : x + w] = cover
        return grid

    def apply(grid: GridArray) -> GridArray:
        covered = grid == cover
        whole = np.where(covered, np.flip(grid, axis), grid)
        return whole[covered.any(axis=1)][:, covered.any(axis=0)] if only_content else whole

    return Rule(draw, apply)


@family(theme="patterns", level=2)
def unmask_periodic(rng: Generator, size: SizeRange) -> Rule:
    """Covered cells of a pattern that repeats every two or three cells are restored."""
    period_y, period_x = (int(p) for p in rng.integers(1, 4, 2))
    inner = noise_inputs(rng, SizeRange(3, 3), background=False)
    high = size.within(5, 10)

    def draw(rng: Generator) -> GridArray:
        unit = inner(rng)[:period_y, :period_x]
        shape = high.draw(rng), high.draw(rng)
        grid = np.tile(unit, (10, 10))[: shape[0], : shape[1]]
        y, x = int(rng.integers(period_y, shape[0] - 1)), int(rng.integers(period_x, shape[1] - 1))
        grid[y : y + int(rng.integers(1, 4)), x : x + int(rng.integers(1, 4))] = 0
        return grid

    def apply(grid: GridArray) -> GridArray:
        height, width = grid.shape
        whole: GridArray = grid[np.arange(height) % period_y][:, np.arange(width) % period_x]
        return whole

    return Rule(draw, apply)


@family(theme="patterns", level=2)
def continue_rows(rng: Generator, size: SizeRange) -> Rule:
    """The first rows are repeated downwards (or sideways) into the empty rest."""
    period, turns = int(rng.integers(1, 4)), int(rng.integers(4))
    inner = noise_inputs(rng, size.within(3, 8), background=False)

    def draw(rng: Generator) -> GridArray:
        unit = inner(rng)[:period]
        rest = np.zeros((int(rng.integers(2, max(3, size.high - period + 1))), unit.shape[1]), np.uint8)
        return np.rot90(np.concatenate([unit, rest]), turns)

    def apply(grid: GridArray) -> GridArray:
        rows = np.rot90(grid, -turns)
        return np.rot90(rows[np.arange(len(rows)) % period], turns)

    return Rule(draw, apply)


@family(theme="patterns", level=2)
def lengthen(rng: Generator, size: SizeRange) -> Rule:
    """A repeating pattern of rows goes on for half as much (or twice) again, recoloured or not."""
    double, paint, sideways = coin(rng), 0 if coin(rng) else colour(rng), coin(rng)
    inner = noise_inputs(rng, size.within(2, 5))

    def draw(rng: Generator) -> GridArray:
        grid = np.tile(inner(rng)[:2], (2, 1))
        return grid.T if sideways else grid

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        longer = np.tile(rows[:2], (4 if double else 3, 1))
        longer = np.where(longer > 0, paint or longer, 0).astype(np.uint8)
        return longer.T if sideways else longer

    return Rule(draw, apply)


@family(theme="patterns", level=2)
def erase_noise(rng: Generator, size: SizeRange) -> Rule:
    """Cells of the noise colour vanish; what lies under them is restored from the row (or column) they are in."""
    noise, sideways = colour(rng), coin(rng)
    high = size.within(4, 10)

    def draw(rng: Generator) -> GridArray:
        height, width = high.draw(rng), high.draw(rng)
        stripes = rng.integers(0, 10, (height, 1)).astype(np.uint8)
        stripes[stripes == noise] = 0
        grid = np.repeat(stripes, width, axis=1)
        grid[:, 1:][speckles(rng, (height, width - 1), 0.25)] = noise
        grid = np.roll(grid, int(rng.integers(width)), axis=1)
        return grid.T if sideways else grid

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        clean = np.stack([np.full_like(row, next((c for c in row if c != noise), 0)) for row in rows])
        return clean.T if sideways else clean

    return Rule(draw, apply)


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


def _rings(paints: GridArray) -> GridArray:
    """`[2n, 2n]` for n colours, the first one outermost."""
    depth = len(paints)
    distance = np.minimum(np.arange(2 * depth), np.arange(2 * depth)[::-1])
    rings: GridArray = paints[np.minimum(distance[:, None], distance[None, :])]
    return rings
