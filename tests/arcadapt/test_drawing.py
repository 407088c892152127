import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from arcadapt.drawing import COLOURS, Picture, Strip, draw

pytestmark = pytest.mark.fast

GRID = [[0, 1, 2], [3, 4, 5], [9, 8, 7]]


def shown(strip: Strip, *, width: int = 80, coloured: bool = False, **options: object) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=coloured,
        color_system="truecolor" if coloured else None,
        **options,
    )
    console.print(strip)
    return console.file.getvalue()


def rgb(colour: int) -> str:
    red, green, blue = (int(COLOURS[colour][i : i + 2], 16) for i in (1, 3, 5))
    return f"{red};{green};{blue}"


def test_without_colour_a_grid_is_its_digits():
    assert shown(Strip((Picture("in", GRID),))).split("\n")[:4] == ["in   ", "0 1 2", "3 4 5", "9 8 7"]


def test_pictures_stand_side_by_side_under_their_captions():
    lines = shown(Strip((Picture("input", [[1]]), Picture("truth", [[2], [3]])))).split("\n")
    assert [line.split() for line in lines[:3]] == [["input", "truth"], ["1", "2"], ["3"]]


def test_a_missing_answer_is_said():
    assert "no answer" in shown(Strip((Picture("attempt", None),)))


def test_cells_have_arcs_colours():
    text = shown(Strip((Picture("in", GRID),)), coloured=True)
    assert all(f"\x1b[48;2;{rgb(colour)}m  " in text for row in GRID for colour in row)


def test_no_color_is_respected_in_a_terminal():
    text = shown(Strip((Picture("in", GRID),)), coloured=True, no_color=True)
    assert "9 8 7" in text
    assert "48;2" not in text


def test_what_does_not_fit_is_drawn_in_half_blocks():
    wide = [[colour] * 20 for colour in (1, 2, 3)]
    text = shown(Strip((Picture("a", wide), Picture("b", wide))), width=60, coloured=True)
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == 1 + 2
    assert f"38;2;{rgb(1)};48;2;{rgb(2)}m▀" in lines[1]
    assert f"\x1b[38;2;{rgb(3)}m▀" in lines[2]
    plain = shown(Strip((Picture("a", wide), Picture("b", wide))), width=60)
    assert "111" in plain


@given(
    st.integers(1, 30).flatmap(
        lambda w: st.lists(st.lists(st.integers(0, 9), min_size=w, max_size=w), min_size=1, max_size=30)
    )
)
def test_every_cell_is_drawn(grid: list[list[int]]):
    height, width = len(grid), len(grid[0])
    full = draw(grid, coloured=True).plain.split("\n")
    assert [len(line) for line in full] == [2 * width] * height
    compact = draw(grid, coloured=True, compact=True).plain.split("\n")
    assert [len(line) for line in compact] == [width] * ((height + 1) // 2)
    digits = draw(grid, coloured=False, compact=True).plain.split("\n")
    assert [list(map(int, line)) for line in digits] == grid
