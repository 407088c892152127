"""Rules that draw at every marked cell: stamps, rays, triangles, boxes between corners."""

from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from arc_engine.grids import MAX_SIDE, GridArray
from arc_engine.pretraining.families.drawing import coin, colour, colours, scattered_inputs, shape_drawer, speckles
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family

Offsets = NDArray[np.int64]
_PLUS: Final = np.array([(-1, 0), (0, -1), (0, 1), (1, 0)])
_CROSS: Final = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
_STAMPS: Final[tuple[Offsets, ...]] = (
    _PLUS,
    _CROSS,
    np.concatenate([_PLUS, _CROSS]),
    _PLUS * 2,
    _CROSS * 2,
    _PLUS[[0, 3]],
    _PLUS[[1, 2]],
    _CROSS[[0, 3]],
    _CROSS[[1, 2]],
)


def _stamp(drawn: GridArray, place: tuple[int, int], offsets: Offsets, paint: int) -> None:
    """Paints the background cells at `offsets` from `place` that lie inside the grid."""
    for y, x in offsets + place:
        if 0 <= y < drawn.shape[0] and 0 <= x < drawn.shape[1] and drawn[y, x] == 0:
            drawn[y, x] = paint


def _filled(grid: GridArray) -> list[tuple[int, int]]:
    """Places of all cells that are not background, in reading order."""
    return [(int(y), int(x)) for y, x in np.argwhere(grid > 0)]


@family(theme="stamps", level=2)
def stamp(rng: Generator, size: SizeRange) -> Rule:
    """The same few cells appear round every filled cell, in its own or a fixed colour."""
    offsets, paint = _STAMPS[int(rng.integers(len(_STAMPS)))], 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        for place in _filled(grid):
            _stamp(drawn, place, offsets, paint or int(grid[place]))
        return drawn

    return Rule(scattered_inputs(rng, size.within(3, MAX_SIDE), most=3), apply)


@family(theme="stamps", level=2)
def stamp_by_colour(rng: Generator, size: SizeRange) -> Rule:
    """Each of two colours has a stamp and a paint of its own; a third one may have none."""
    known = colours(rng, 3)
    chosen = rng.permutation(len(_STAMPS))[:2]
    stamps = {c: (_STAMPS[int(number)], colour(rng)) for c, number in zip(known[:2], chosen, strict=True)}

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        for place in _filled(grid):
            if (found := stamps.get(int(grid[place]))) is not None:
                _stamp(drawn, place, *found)
        return drawn

    palette = known if coin(rng, 0.3) else known[:2]
    return Rule(scattered_inputs(rng, size.within(3, MAX_SIDE), most=4, palette=palette), apply)


@family(theme="lines", level=2)
def shoot_until_wall(rng: Generator, size: SizeRange) -> Rule:
    """Every cell of one colour draws a line in one direction, up to the next filled cell."""
    turns = int(rng.integers(4))
    mark, wall, other = colours(rng, 3)
    paint = mark if coin(rng) else other
    blank = shape_drawer(rng, size.within(4, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        grid[speckles(rng, grid.shape, 0.12)] = wall
        for _ in range(int(rng.integers(1, 4))):
            grid[rng.integers(grid.shape[0]), rng.integers(grid.shape[1])] = mark
        return grid

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, turns)
        drawn = turned.copy()
        for y, x in np.argwhere(turned == mark):
            below = turned[y + 1 :, x]
            free = int(np.argmax(below > 0)) if below.any() else len(below)
            drawn[y + 1 : y + 1 + free, x] = paint
        return np.rot90(drawn, -turns)

    return Rule(draw, apply)


@family(theme="lines", level=2)
def cross_out(rng: Generator, size: SizeRange) -> Rule:
    """Both diagonals, or the whole row and the whole column, through the only filled cell take a colour."""
    diagonal, paint = coin(rng), colour(rng)

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        rows, columns = np.indices(grid.shape)
        for y, x in _filled(grid):
            hit = np.abs(rows - y) == np.abs(columns - x) if diagonal else (rows == y) | (columns == x)
            drawn[hit & (grid == 0)] = paint
        return drawn

    return Rule(scattered_inputs(rng, size.within(3, MAX_SIDE), most=1), apply)


@family(theme="lines", level=2)
def line_to_edge(rng: Generator, size: SizeRange) -> Rule:
    """Every filled cell draws a line to the nearest edge: the first of top, bottom, left and right on a tie."""
    paint = 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        drawn = grid.copy()
        for y, x in _filled(grid):
            lines = (drawn[:y, x], drawn[y + 1 :, x], drawn[y, :x], drawn[y, x + 1 :])
            line = min(lines, key=len)
            line[line == 0] = paint or grid[y, x]
        return drawn

    return Rule(scattered_inputs(rng, size.within(4, MAX_SIDE), most=3), apply)


@family(theme="lines", level=2)
def staircase(rng: Generator, size: SizeRange) -> Rule:
    """Below a bar at one side of the first row bars follow that are one cell shorter (or longer) each."""
    turns, grows, mirrored = int(rng.integers(4)), coin(rng), coin(rng)
    paint = 0 if coin(rng) else colour(rng)
    high = size.within(3, 12)

    def draw(rng: Generator) -> GridArray:
        height, width = high.draw(rng), high.draw(rng)
        grid = np.zeros((height, width), np.uint8)
        grid[0, : int(rng.integers(1, width + (0 if grows else 1)))] = colour(rng)
        return np.rot90(np.fliplr(grid) if mirrored else grid, turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        rows = np.fliplr(turned) if mirrored else turned
        drawn = rows.copy()
        length = int((rows[0] > 0).sum())
        for y in range(1, len(rows)):
            drawn[y, : max(0, length + (y if grows else -y))] = paint or rows[0, 0]
        return np.rot90(np.fliplr(drawn) if mirrored else drawn, turns)

    return Rule(draw, apply)


@family(theme="lines", level=2)
def box_between_corners(rng: Generator, size: SizeRange) -> Rule:
    """Two marked cells become opposite corners of a box that is drawn, or filled."""
    mark, other = colours(rng, 2)
    paint, solid = mark if coin(rng) else other, coin(rng, 0.4)
    blank = shape_drawer(rng, size.within(4, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        rows, columns = (rng.permutation(side)[:2] for side in grid.shape)
        grid[rows, columns] = mark
        return grid

    def apply(grid: GridArray) -> GridArray:
        (top, *_, bottom), (left, *_, right) = (sorted(places) for places in np.nonzero(grid == mark))
        drawn = grid.copy()
        box = drawn[top : bottom + 1, left : right + 1]
        border = np.ones(box.shape, bool)
        border[1:-1, 1:-1] = solid
        box[border & (box == 0)] = paint
        return drawn

    return Rule(draw, apply)


@family(theme="lines", level=2)
def paint_behind(rng: Generator, size: SizeRange) -> Rule:
    """A wall right across the grid; everything behind it (or on the marked side of it) is painted."""
    wall, mark, paint = colours(rng, 3)
    marked, turns = coin(rng), int(rng.integers(4))
    blank = shape_drawer(rng, size.within(4, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        place = int(rng.integers(1, len(grid) - 1))
        grid[place] = wall
        free = np.flatnonzero(np.arange(len(grid)) != place)
        grid[rng.choice(free), rng.integers(grid.shape[1])] = mark
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        turned = np.rot90(grid, -turns)
        place = int(np.flatnonzero((turned == wall).all(axis=1))[0])
        below = not marked or bool((turned[place:] == mark).any())
        drawn = turned.copy()
        part = drawn[place + 1 :] if below else drawn[:place]
        part[part == 0] = paint
        return np.rot90(drawn, turns)

    return Rule(draw, apply)


@family(theme="lines", level=2)
def grow_row(rng: Generator, size: SizeRange) -> Rule:
    """A single row is repeated downwards: shifted by one cell each time, or with one cell more of its first colour."""
    shifts, wraps, sideways = coin(rng), coin(rng), coin(rng)
    high = size.within(3, 8)
    palette = colours(rng, 3)

    def draw(rng: Generator) -> GridArray:
        row = np.zeros((1, high.draw(rng)), np.uint8)
        filled = int(rng.integers(1, max(2, row.shape[1] // 2 + 1)))
        row[0, :filled] = rng.choice(palette, filled) if shifts else rng.choice(palette)
        return row.T if sideways else row

    def apply(grid: GridArray) -> GridArray:
        row = grid.ravel()
        width = len(row)
        places = np.arange(width)[None, :] - np.arange(width)[:, None]
        if shifts:
            rolled = row[places % width]
            drawn = rolled if wraps else np.where(places >= 0, rolled, 0)
        else:
            drawn = np.where(places < int((row > 0).sum()), row[0], 0)
        drawn = drawn.astype(np.uint8)
        return drawn.T if sideways else drawn

    return Rule(draw, apply)


@family(theme="lines", level=2)
def cut_at_marker(rng: Generator, size: SizeRange) -> Rule:
    """What lies on one side of a full line is kept, the line itself and the rest are cut away."""
    line, before, sideways = colour(rng), coin(rng), coin(rng)
    inner = _noise_without(rng, line, size.within(4, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = inner(rng)
        grid[int(rng.integers(1, len(grid) - 1))] = line
        return grid.T if sideways else grid

    def apply(grid: GridArray) -> GridArray:
        rows = grid.T if sideways else grid
        place = int(np.flatnonzero((rows == line).all(axis=1))[0])
        part = rows[:place] if before else rows[place + 1 :]
        return part.T if sideways else part

    return Rule(draw, apply)


def _noise_without(rng: Generator, left_out: int, size: SizeRange) -> Draw:
    """Noise of two colours and background, without one colour."""
    blank = shape_drawer(rng, size)
    palette = colours(rng, 2, without=left_out)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        return np.array([0, *palette], np.uint8)[rng.integers(0, 1 + len(palette), grid.shape)]

    return draw
