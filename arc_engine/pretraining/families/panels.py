"""Grids that lines divide into panels of equal size: choosing one, joining them, one cell for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.drawing import coin, colour, colours, speckles
from arc_engine.pretraining.families.registry import Draw, Rule, SizeRange, family


@dataclass(frozen=True, slots=True)
class _Layout:
    """`rows` x `columns` panels of `height` x `width` cells, with lines of the colour `line` between them."""

    rows: int
    columns: int
    height: int
    width: int
    line: int

    def joined(self, panels: Sequence[GridArray]) -> GridArray:
        """The grid of all panels, which come in reading order."""
        shape = self.rows * (self.height + 1) - 1, self.columns * (self.width + 1) - 1
        grid = np.full(shape, self.line, np.uint8)
        for number, panel in enumerate(panels):
            y, x = self._corner(number)
            grid[y : y + self.height, x : x + self.width] = panel
        return grid

    def panels(self, grid: GridArray) -> list[GridArray]:
        """Those of a grid, in reading order."""
        corners = (self._corner(number) for number in range(self.rows * self.columns))
        return [grid[y : y + self.height, x : x + self.width] for y, x in corners]

    def _corner(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, self.columns)
        return row * (self.height + 1), column * (self.width + 1)


def _layout(rng: Generator, size: SizeRange, *, fewest: int = 2) -> _Layout:
    shapes = [shape for shape in ((1, 2), (2, 1), (1, 3), (3, 1), (2, 2)) if shape[0] * shape[1] >= fewest]
    rows, columns = shapes[int(rng.integers(len(shapes)))]
    sides = size.within(2, 4)
    return _Layout(rows, columns, sides.draw(rng), sides.draw(rng), colour(rng))


def _paints(rng: Generator, layout: _Layout, count: int) -> list[int]:
    """Colours other than that of the lines."""
    return colours(rng, count, without=layout.line)


def _noisy(rng: Generator, layout: _Layout, *, one_colour_each: bool = False, density: float = 0.5) -> Draw:
    """Panels of random cells, every panel of one colour or all of two."""
    palette = _paints(rng, layout, layout.rows * layout.columns if one_colour_each else 2)
    number = layout.rows * layout.columns

    def draw(rng: Generator) -> GridArray:
        panels = []
        for place in range(number):
            paints = palette[place : place + 1] if one_colour_each else palette
            cells = rng.choice(paints, (layout.height, layout.width))
            panels.append(np.where(speckles(rng, cells.shape, density), cells, 0).astype(np.uint8))
        return layout.joined(panels)

    return draw


def _distance(one: GridArray, other: GridArray) -> int:
    return int((one != other).sum())


@family(theme="panels", level=2)
def fullest_panel(rng: Generator, size: SizeRange) -> Rule:
    """The panel with the most (or fewest) filled cells, the first on a tie."""
    layout, fewest = _layout(rng, size), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        counts = [int((panel > 0).sum()) for panel in layout.panels(grid)]
        return layout.panels(grid)[counts.index(min(counts) if fewest else max(counts))]

    return Rule(_noisy(rng, layout), apply)


@family(theme="panels", level=2)
def panel_at_place(rng: Generator, size: SizeRange) -> Rule:
    """The panel at one place."""
    layout = _layout(rng, size)
    place = int(rng.integers(layout.rows * layout.columns))
    return Rule(_noisy(rng, layout), lambda grid: layout.panels(grid)[place])


@family(theme="panels", level=2)
def odd_panel(rng: Generator, size: SizeRange) -> Rule:
    """Of three panels or more all but one are alike: that one, or what is alike."""
    layout, odd = _layout(rng, size, fewest=3), coin(rng, 0.7)
    inner = _noisy(rng, layout)
    number = layout.rows * layout.columns

    def draw(rng: Generator) -> GridArray:
        common, other, *_ = layout.panels(inner(rng))
        panels = [common] * number
        panels[int(rng.integers(number))] = other
        return layout.joined(panels)

    def apply(grid: GridArray) -> GridArray:
        panels = layout.panels(grid)
        distances = [sum(_distance(panel, other) for other in panels) for panel in panels]
        return panels[distances.index(max(distances) if odd else min(distances))]

    return Rule(draw, apply)


@family(theme="panels", level=2)
def overlay_panels(rng: Generator, size: SizeRange) -> Rule:
    """All panels over one another; earlier (or later) ones hide later ones."""
    layout, first_on_top = _layout(rng, size), coin(rng)

    def apply(grid: GridArray) -> GridArray:
        panels = layout.panels(grid)
        combined = np.zeros_like(panels[0])
        for panel in panels if not first_on_top else reversed(panels):
            combined = np.where(panel > 0, panel, combined)
        return combined

    return Rule(_noisy(rng, layout, one_colour_each=True, density=0.4), apply)


@family(theme="panels", level=2)
def panels_to_cells(rng: Generator, size: SizeRange) -> Rule:
    """One cell for every panel: its colour, or a fixed one where it is empty (or full)."""
    layout, kind, paint = _layout(rng, size), int(rng.integers(3)), colour(rng)
    palette = _paints(rng, layout, 3)

    def draw(rng: Generator) -> GridArray:
        panels = []
        for _ in range(layout.rows * layout.columns):
            shape = layout.height, layout.width
            density = [0.5, 0.0, 1.0][int(rng.integers(3))] if kind else 0.6
            panels.append(np.where(speckles(rng, shape, density), rng.choice(palette), 0).astype(np.uint8))
        return layout.joined(panels)

    def cell(panel: GridArray) -> int:
        if kind == 0:
            return int(panel.max())
        return paint if (panel.all() if kind == 1 else not panel.any()) else 0

    def apply(grid: GridArray) -> GridArray:
        cells = [cell(panel) for panel in layout.panels(grid)]
        return np.array(cells, np.uint8).reshape(layout.rows, layout.columns)

    return Rule(draw, apply)


@family(theme="panels", level=2)
def spread_panel(rng: Generator, size: SizeRange) -> Rule:
    """The only panel that holds anything is copied into all others, turned upside down or not."""
    layout, flipped = _layout(rng, size), coin(rng, 0.3)
    inner = _noisy(rng, layout)

    def draw(rng: Generator) -> GridArray:
        pattern = layout.panels(inner(rng))[0]
        panels = [np.zeros_like(pattern) for _ in range(layout.rows * layout.columns)]
        panels[int(rng.integers(len(panels)))] = pattern
        return layout.joined(panels)

    def apply(grid: GridArray) -> GridArray:
        panels = layout.panels(grid)
        pattern = max(panels, key=lambda panel: int((panel > 0).sum()))
        copied = np.flipud(pattern) if flipped else pattern
        return layout.joined([panel if panel.any() else copied for panel in panels])

    return Rule(draw, apply)


@family(theme="panels", level=2)
def logic_of_panels(rng: Generator, size: SizeRange) -> Rule:
    """Cells that are filled in all panels (or in exactly one, or in none) take a colour, others are empty."""
    layout, kind, paint = _layout(rng, size), int(rng.integers(3)), colour(rng)

    def apply(grid: GridArray) -> GridArray:
        panels = np.stack(layout.panels(grid))
        count = (panels > 0).sum(axis=0)
        return np.where(count == (len(panels), 1, 0)[kind], paint, 0).astype(np.uint8)

    return Rule(_noisy(rng, layout, one_colour_each=True, density=0.6), apply)
