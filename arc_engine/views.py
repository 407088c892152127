"""Views: the symmetries under which an ARC task stays the same task.

A view is one of the eight dihedral transformations of the square, a permutation of the ten colours, and an order of the
demonstration pairs. Every view can be undone, so an answer found under a view is an answer to the task itself.
"""

import random
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from arc_engine.grids import NUM_COLOURS, Grid, GridArray, grid_from_array, grid_to_array
from arc_engine.tasks import Pair, Task

Cell = TypeVar("Cell", bound=np.generic)
NUM_DIHEDRAL = 8
IDENTITY_COLOURS = tuple(range(NUM_COLOURS))


@dataclass(frozen=True, slots=True)
class View:
    """One invertible augmentation of a task.

    `dihedral` counts quarter turns counter-clockwise in its lower two bits; bit 2 transposes first. `colours[c]` is the
    colour that `c` becomes. `pair_order[i]` is the original index of the pair that stands at position `i`; empty means
    as given.
    """

    dihedral: int = 0
    colours: tuple[int, ...] = field(default=IDENTITY_COLOURS)
    pair_order: tuple[int, ...] = ()

    def apply(self, grid: Grid) -> Grid:
        """The grid as this view shows it."""
        return grid_from_array(_recolour(self.turn(grid_to_array(grid)), self.colours))

    def turn(self, array: NDArray[Cell]) -> NDArray[Cell]:
        """`[rows, columns]` of anything as this view turns and mirrors it."""
        return np.rot90(array.T if self.dihedral & 4 else array, self.dihedral & 3)

    def undo(self, grid: Grid) -> Grid:
        """The grid that this view shows as `grid`."""
        inverse = tuple(int(colour) for colour in np.argsort(self.colours))
        array = np.rot90(_recolour(grid_to_array(grid), inverse), -(self.dihedral & 3))
        return grid_from_array(array.T if self.dihedral & 4 else array)

    def apply_pair(self, pair: Pair) -> Pair:
        """Both grids of the pair under this view."""
        return Pair(self.apply(pair.input), self.apply(pair.output))

    def apply_task(self, task: Task) -> Task:
        """The whole task under this view, its pairs reordered; test inputs keep their order."""
        order = self.pair_order or tuple(range(len(task.train)))
        return Task(tuple(self.apply_pair(task.train[i]) for i in order), tuple(self.apply(grid) for grid in task.test))


def _recolour(array: GridArray, colours: tuple[int, ...]) -> GridArray:
    return np.array(colours, dtype=np.uint8)[array]


@dataclass(frozen=True, slots=True)
class ViewDistribution:
    """Which augmentations a random view draws from."""

    dihedral: bool = True
    colours: bool = True
    keep_background: float = 0.0
    """Probability with which a drawn colour permutation leaves colour 0, the usual background, where it is."""
    pair_order: bool = True

    def draw(self, rng: random.Random, *, num_pairs: int) -> View:
        """One random view of a task with `num_pairs` demonstration pairs."""
        dihedral = rng.randrange(NUM_DIHEDRAL) if self.dihedral else 0
        colours = self._draw_colours(rng) if self.colours else IDENTITY_COLOURS
        order = rng.sample(range(num_pairs), num_pairs) if self.pair_order else range(num_pairs)
        return View(dihedral, colours, tuple(order))

    def _draw_colours(self, rng: random.Random) -> tuple[int, ...]:
        if self.keep_background and rng.random() < self.keep_background:
            return (0, *rng.sample(range(1, NUM_COLOURS), NUM_COLOURS - 1))
        return tuple(rng.sample(range(NUM_COLOURS), NUM_COLOURS))
