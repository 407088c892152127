"""Rules about objects: connected cells of one colour. Which ones change, and what becomes of them."""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.random import Generator

from arc_engine.grids import MAX_SIDE, GridArray
from arc_engine.pretraining.families.drawing import (
    coin,
    colour,
    colours,
    free_place,
    object_inputs,
    shape_drawer,
    speckles,
)
from arc_engine.pretraining.families.measuring import Mask, bounding_box, components, outside
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family

Trait: TypeAlias = Callable[[Mask], bool]
"""Whether an object, given as its place in the grid, is of some kind."""


def touches_edge(mask: Mask) -> bool:
    """A cell of it is on the edge of the grid."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def is_wide(mask: Mask) -> bool:
    """Wider than high."""
    body = mask[bounding_box(mask)]
    return bool(body.shape[1] > body.shape[0])


def has_hole(mask: Mask) -> bool:
    """Other cells are shut in by it."""
    return not outside(mask.astype(np.uint8))[~mask].all()


def fills_box(mask: Mask) -> bool:
    """A full rectangle."""
    return bool(mask[bounding_box(mask)].all())


def is_mirrored(mask: Mask) -> bool:
    """Equals its mirror image from left to right."""
    body = mask[bounding_box(mask)]
    return bool((body == np.fliplr(body)).all())


_RETRIES: Final = 6
_TRAITS: Final[tuple[Trait, ...]] = (touches_edge, is_wide, fills_box, is_mirrored)


def _shapes(rng: Generator, size: SizeRange, *, most: int = 4, side: int = 4) -> Draw:
    """Objects of one to `side` cells a side, solid, hollow or ragged, that do not touch."""
    blank = shape_drawer(rng, size)
    palette = colours(rng, int(rng.integers(1, 4)))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(2, most + 1))):
            for _ in range(_RETRIES):
                h, w = (int(rng.integers(1, min(side, room) + 1)) for room in grid.shape)
                if (place := free_place(rng, grid, (h, w))) is not None:
                    place[_body(rng, (h, w))] = rng.choice(palette)
                    break
        return grid

    return draw


def _body(rng: Generator, shape: tuple[int, int]) -> Mask:
    solid, hollow, ragged = np.ones(shape, bool), np.ones(shape, bool), speckles(rng, shape, 0.7)
    hollow[1:-1, 1:-1] = False
    ragged[int(rng.integers(shape[0]))] = True
    return (solid, hollow, ragged)[int(rng.integers(3))]


@family(theme="objects", level=2)
def paint_by_trait(rng: Generator, size: SizeRange) -> Rule:
    """Objects that touch the edge (are wide, are rectangles, are mirrored) take one colour, others another or none."""
    trait = _TRAITS[int(rng.integers(len(_TRAITS)))]
    paint, other, keeps = *colours(rng, 2), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        painted = grid.copy()
        for mask in components(grid):
            if trait(mask):
                painted[mask] = paint
            elif not keeps:
                painted[mask] = other
        return painted

    return Rule(_shapes(rng, size.within(4, MAX_SIDE)), apply)


@family(theme="objects", level=2)
def keep_by_trait(rng: Generator, size: SizeRange) -> Rule:
    """Only objects that touch the edge (are wide, are rectangles, are mirrored) stay, or only they vanish."""
    trait, stay = _TRAITS[int(rng.integers(len(_TRAITS)))], coin(rng)

    def apply(grid: GridArray) -> GridArray:
        kept = grid.copy()
        for mask in components(grid):
            if trait(mask) != stay:
                kept[mask] = 0
        return kept

    return Rule(_shapes(rng, size.within(4, MAX_SIDE)), apply)


@family(theme="objects", level=2)
def paint_rings(rng: Generator, size: SizeRange) -> Rule:
    """Of frames and full boxes of one colour, those with a hole take a colour, or have their holes filled."""
    mark, paint = colours(rng, 2)
    fills = coin(rng)
    blank = shape_drawer(rng, size.within(5, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(2, 5))):
            h, w = (int(rng.integers(3, min(5, side) + 1)) for side in grid.shape)
            if (place := free_place(rng, grid, (h, w))) is not None:
                place[:] = mark
                if coin(rng, 0.6):
                    place[1:-1, 1:-1] = 0
        return grid

    def apply(grid: GridArray) -> GridArray:
        painted = grid.copy()
        for mask in components(grid):
            if has_hole(mask):
                painted[~outside(mask.astype(np.uint8)) & ~mask if fills else mask] = paint
        return painted

    return Rule(draw, apply)


@family(theme="objects", level=2)
def box_objects(rng: Generator, size: SizeRange) -> Rule:
    """The empty cells of the box round every object are filled, in its own or a fixed colour."""
    paint = 0 if coin(rng) else colour(rng)

    def apply(grid: GridArray) -> GridArray:
        painted = grid.copy()
        for mask in components(grid):
            box = painted[bounding_box(mask)]
            box[box == 0] = paint or grid[mask][0]
        return painted

    return Rule(object_inputs(rng, size.within(4, MAX_SIDE), solid=False), apply)


@family(theme="objects", level=2)
def paint_corners(rng: Generator, size: SizeRange) -> Rule:
    """The corners (or all but the corners, or the inside) of every rectangle take a colour."""
    paint, kind = colour(rng), int(rng.integers(3))

    def apply(grid: GridArray) -> GridArray:
        painted = grid.copy()
        for mask in components(grid):
            box = painted[bounding_box(mask)]
            corners, inside = np.zeros(box.shape, bool), np.zeros(box.shape, bool)
            corners[np.ix_([0, -1], [0, -1])] = inside[1:-1, 1:-1] = True
            box[(corners, ~corners, inside)[kind] & (box > 0)] = paint
        return painted

    return Rule(object_inputs(rng, size.within(5, MAX_SIDE), most=2, solid=True), apply)


@family(theme="objects", level=2)
def paint_by_rank(rng: Generator, size: SizeRange) -> Rule:
    """The bars on one side take colours by length: the longest one, the second, the third."""
    turns, mark = int(rng.integers(4)), colour(rng)
    ranks = colours(rng, 3)
    high = size.within(4, 9)

    def draw(rng: Generator) -> GridArray:
        height = max(4, high.draw(rng))
        lengths = rng.permutation(height)[:3] + 1
        grid = np.zeros((height, 5), np.uint8)
        for x, length in zip((0, 2, 4), lengths, strict=True):
            grid[height - length :, x] = mark
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        bars = np.rot90(grid, -turns)
        lengths = (bars > 0).sum(axis=0)
        painted = np.zeros_like(bars)
        for rank, x in enumerate(np.argsort(-lengths, kind="stable")[:3]):
            painted[:, x] = np.where(bars[:, x] > 0, ranks[rank], 0)
        return np.rot90(painted, turns)

    return Rule(draw, apply)


@family(theme="objects", level=2)
def crop_frame(rng: Generator, size: SizeRange) -> Rule:
    """What a frame of one colour encloses, with or without the frame, in noise of other colours."""
    frame, with_frame = colour(rng), coin(rng, 0.4)
    blank = shape_drawer(rng, size.within(5, MAX_SIDE))
    palette = colours(rng, 2, without=frame)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        filled = speckles(rng, grid.shape, 0.4)
        grid[filled] = rng.choice(palette, int(filled.sum()))
        h, w = (int(rng.integers(3, min(6, side) + 1)) for side in grid.shape)
        y, x = (int(rng.integers(side - part + 1)) for side, part in zip(grid.shape, (h, w), strict=True))
        grid[y : y + h, [x, x + w - 1]] = grid[[y, y + h - 1], x : x + w] = frame
        return grid

    def apply(grid: GridArray) -> GridArray:
        part = grid[bounding_box(grid == frame)]
        return part if with_frame else part[1:-1, 1:-1]

    return Rule(draw, apply)


@family(theme="objects", level=2)
def crop_odd_colour(rng: Generator, size: SizeRange) -> Rule:
    """The box of the object whose colour no other object has."""
    blank = shape_drawer(rng, size.within(5, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        common, odd = colours(rng, 2)
        for paint in (odd, common, common, common):
            h, w = (int(rng.integers(1, 3)) for _ in range(2))
            if (place := free_place(rng, grid, (h, w))) is not None:
                place[:] = paint
        return grid

    def apply(grid: GridArray) -> GridArray:
        found = components(grid)
        paints = [int(grid[mask][0]) for mask in found]
        return grid[bounding_box(found[min(range(len(found)), key=lambda index: paints.count(paints[index]))])]

    return Rule(draw, apply)


@family(theme="objects", level=2)
def centre_of_objects(rng: Generator, size: SizeRange) -> Rule:
    """Only the middle of every 3 x 3 block stays, or the block is drawn round every single cell."""
    grows = coin(rng)
    blank = shape_drawer(rng, size.within(5, MAX_SIDE))
    palette = colours(rng, 2)

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(1, 4))):
            if (place := free_place(rng, grid, (3, 3), margin=2)) is not None:
                place[1, 1] = rng.choice(palette)
        return grid if grows else _blocks(grid)

    def apply(grid: GridArray) -> GridArray:
        if grows:
            return _blocks(grid)
        kept = np.zeros_like(grid)
        for mask in components(grid):
            rows, columns = np.nonzero(mask)
            middle = int(rows.mean()), int(columns.mean())
            kept[middle] = grid[middle]
        return kept

    return Rule(draw, apply)


def _blocks(grid: GridArray) -> GridArray:
    """Every filled cell with its eight neighbours; later ones over earlier ones."""
    drawn = np.zeros_like(grid)
    for y, x in np.argwhere(grid > 0):
        drawn[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = grid[y, x]
    return drawn


@family(theme="gravity", level=2)
def move_to_anchor(rng: Generator, size: SizeRange) -> Rule:
    """One object moves straight towards a bar until it touches it."""
    anchor, mover = colours(rng, 2)
    turns = int(rng.integers(4))
    high = size.within(5, 14)

    def draw(rng: Generator) -> GridArray:
        height, width = max(5, high.draw(rng)), max(3, high.draw(rng))
        grid = np.zeros((height, width), np.uint8)
        grid[int(rng.integers(height - 2, height)) :] = anchor
        h, w = (int(rng.integers(1, 3)) for _ in range(2))
        y, x = int(rng.integers(height - 2 - h)), int(rng.integers(width - w + 1))
        body = speckles(rng, (h, w), 0.75)
        body[-1, -1] = True
        grid[y : y + h, x : x + w][body] = mover
        return np.rot90(grid, turns)

    def apply(grid: GridArray) -> GridArray:
        rows = np.rot90(grid, -turns)
        below = int(np.flatnonzero((rows == anchor).any(axis=1))[0])
        last = int(np.flatnonzero((rows == mover).any(axis=1))[-1])
        moved = np.roll(np.where(rows == mover, mover, 0), max(0, below - 1 - last), axis=0)
        return np.rot90(np.where(moved > 0, moved, np.where(rows == mover, 0, rows)).astype(np.uint8), turns)

    return Rule(draw, apply)


@family(theme="objects", level=2)
def complete_squares(rng: Generator, size: SizeRange) -> Rule:
    """The missing cell of every 2 x 2 square that lacks one takes a colour."""
    mark, paint = colours(rng, 2)
    blank = shape_drawer(rng, size.within(4, MAX_SIDE))

    def draw(rng: Generator) -> GridArray:
        grid = blank(rng)
        for _ in range(int(rng.integers(1, 4))):
            if (place := free_place(rng, grid, (2, 2))) is not None:
                place[:] = mark
                place[int(rng.integers(2)), int(rng.integers(2))] = 0
        return grid

    def apply(grid: GridArray) -> GridArray:
        painted = grid.copy()
        for y in range(grid.shape[0] - 1):
            for x in range(grid.shape[1] - 1):
                square = grid[y : y + 2, x : x + 2]
                if (square == mark).sum() == square.size - 1:
                    painted[y : y + 2, x : x + 2][square == 0] = paint
        return painted

    return Rule(draw, apply)
