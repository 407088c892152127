"""Random input grids: noise, scattered cells, objects. Colour 0 is the background.

Each `*_inputs` function fixes what the pairs of one task have in common (palette size, density, sometimes the shape)
and returns a function that draws one grid.
"""

import numpy as np
from numpy.random import Generator

from arc_engine.grids import NUM_COLOURS, GridArray
from arc_engine.pretraining.families.measuring import Mask
from arc_engine.pretraining.families.registry import Draw, SizeRange


def colour(rng: Generator) -> int:
    """A colour other than the background."""
    return int(rng.integers(1, NUM_COLOURS))


def colours(rng: Generator, count: int, *, without: int = 0) -> list[int]:
    """`count` different colours other than the background and than `without`."""
    return [int(c) for c in rng.permutation(NUM_COLOURS - 1) + 1 if c != without][:count]


def coin(rng: Generator, probability: float = 0.5) -> bool:
    """True with `probability`."""
    return bool(rng.random() < probability)


def speckles(rng: Generator, shape: tuple[int, ...], share: float) -> Mask:
    """A mask in which every cell is set with probability `share`."""
    return rng.random(shape) < share


def shape_drawer(rng: Generator, size: SizeRange) -> Draw:
    """Blank grids; one task in two has the same shape throughout, one in three square grids only."""
    fixed = coin(rng)
    square = coin(rng, 0.35)
    height = size.draw(rng)
    width = height if square else size.draw(rng)

    def draw(rng: Generator) -> GridArray:
        if fixed:
            return np.zeros((height, width), np.uint8)
        side = size.draw(rng)
        return np.zeros((side, side if square else size.draw(rng)), np.uint8)

    return draw


def noise_inputs(rng: Generator, size: SizeRange, *, background: bool | None = None, most_colours: int = 4) -> Draw:
    """Every cell at random; with a `background`, a share of the cells stays 0."""
    blank = shape_drawer(rng, size)
    with_background = coin(rng, 0.7) if background is None else background
    density = rng.uniform(0.25, 0.75) if with_background else 1.0
    palette = colours(rng, int(rng.integers(1 if with_background else 2, most_colours + 1)))
    fixed_palette = coin(rng)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        used = palette if fixed_palette else colours(rng, len(palette))
        cells = np.array(used, np.uint8)[rng.integers(0, len(used), grid.shape)]
        grid = np.where(speckles(rng, grid.shape, density), cells, grid).astype(np.uint8)
        if not grid.any():
            grid[rng.integers(grid.shape[0]), rng.integers(grid.shape[1])] = used[0]
        return grid

    return draw


def scattered_inputs(rng: Generator, size: SizeRange, *, most: int = 5, palette: list[int] | None = None) -> Draw:
    """A few single cells on the background."""
    blank = shape_drawer(rng, size)
    used = palette or colours(rng, int(rng.integers(1, 4)))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(1, most + 1))):
            grid[rng.integers(grid.shape[0]), rng.integers(grid.shape[1])] = used[rng.integers(len(used))]
        return grid

    return draw


def object_inputs(rng: Generator, size: SizeRange, *, most: int = 3, solid: bool | None = None) -> Draw:
    """Up to `most` rectangles or ragged blobs that do not touch, each of one colour."""
    blank = shape_drawer(rng, size)
    is_solid = coin(rng) if solid is None else solid
    one_colour = colour(rng) if coin(rng, 0.4) else 0

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(2 if most > 1 else 1, most + 1))):
            _place_object(rng, grid, one_colour or colour(rng), solid=is_solid)
        return grid

    return draw


def free_place(rng: Generator, grid: GridArray, shape: tuple[int, int], *, margin: int = 1) -> GridArray | None:
    """A view of a random part of the grid, if that and `margin` cells around it are empty; else none."""
    y, x = (int(rng.integers(side - part + 1)) for side, part in zip(grid.shape, shape, strict=True))
    h, w = shape
    around = grid[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
    return None if around.any() else grid[y : y + h, x : x + w]


def _place_object(rng: Generator, grid: GridArray, paint: int, *, solid: bool) -> None:
    for _ in range(6):
        h, w = (int(rng.integers(1, max(2, side // 2 + 1))) for side in grid.shape)
        if (place := free_place(rng, grid, (h, w))) is not None:
            body = np.ones((h, w), bool) if solid else speckles(rng, (h, w), 0.75)
            body[rng.integers(h), rng.integers(w)] = True
            place[body] = paint
            return


def any_inputs(rng: Generator, size: SizeRange) -> Draw:
    """Noise, scattered cells or objects."""
    kinds = (noise_inputs, scattered_inputs, object_inputs)
    kind = int(np.searchsorted((0.55, 0.75), rng.random(), side="right"))
    return kinds[kind](rng, size)
