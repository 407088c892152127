"""Grids in the terminal: coloured cells in ARC's own colours, digits where there is no colour."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.table import Table
from rich.text import Text

COLOURS: Final = (
    "#000000",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
"""The colours 0..9 of arcprize.org."""

GAP: Final = 3
UPPER_HALF: Final = "▀"

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A captioned grid; without a grid it says so."""

    caption: str
    grid: Rows | None

    @property
    def num_columns(self) -> int:
        """Cells per row."""
        return len(self.grid[0]) if self.grid else 0


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures side by side.

    Cells are two characters wide; where that does not fit, two rows share a line, as half blocks. A console without
    colour gets digits.
    """

    pictures: tuple[Picture, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = console.color_system is not None and not console.no_color
        captions = [len(picture.caption) for picture in self.pictures]
        wide = sum(
            max(2 * picture.num_columns, caption) for picture, caption in zip(self.pictures, captions, strict=True)
        )
        fits = wide + GAP * (len(self.pictures) - 1) <= options.max_width
        table = Table.grid(padding=(0, GAP, 0, 0))
        for _ in self.pictures:
            table.add_column(vertical="top", no_wrap=True)
        table.add_row(*(Text(picture.caption, style="dim") for picture in self.pictures))
        table.add_row(*(draw(picture.grid, coloured=coloured, compact=not fits) for picture in self.pictures))
        yield table


def draw(grid: Rows | None, *, coloured: bool, compact: bool = False) -> Text:
    """A grid as text, one line per row; compact coloured grids have one line per two rows."""
    if grid is None:
        return Text("no answer", style="italic dim")
    if not coloured:
        separator = "" if compact else " "
        return Text("\n".join(separator.join(map(str, row)) for row in grid))
    lines = _half_block_lines(grid) if compact else (_cells(row) for row in grid)
    return Text("\n").join(lines)


def _cells(row: Sequence[int]) -> Text:
    return Text.assemble(*(("  ", Style(bgcolor=COLOURS[cell])) for cell in row))


def _half_block_lines(grid: Rows) -> Iterable[Text]:
    for upper, lower in zip_longest(grid[::2], grid[1::2]):
        backgrounds = [None] * len(upper) if lower is None else [COLOURS[cell] for cell in lower]
        styles = [
            Style(color=COLOURS[cell], bgcolor=background) for cell, background in zip(upper, backgrounds, strict=True)
        ]
        yield Text.assemble(*((UPPER_HALF, style) for style in styles))
