"""Grids: what is one, and where exactly something is not."""

import pytest
from hypothesis import given

from arc_engine.errors import InvalidTask
from arc_engine.grids import grid_from_array, grid_to_array, parse_grid, shape
from tests.fixtures.grid_strategies import grids

pytestmark = pytest.mark.fast


@given(grids())
def test_a_grid_survives_json_and_arrays(grid):
    assert parse_grid([list(row) for row in grid]) == grid
    assert grid_from_array(grid_to_array(grid)) == grid
    assert grid_to_array(grid).shape == shape(grid)


def test_the_largest_grid_is_a_grid():
    assert shape(parse_grid([[9] * 30] * 30)) == (30, 30)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


INVALID = [
    (None, "", "a grid is a list of rows"),
    ("123", "", "a grid is a list of rows"),
    ({"0": [1]}, "", "a grid is a list of rows"),
    (7, "", "a grid is a list of rows"),
    ([], "", "1 to 30 rows, this one has 0"),
    ([[1]] * 31, "", "1 to 30 rows, this one has 31"),
    ([[]], "/0", "1 to 30 cells, this one has 0"),
    ([[1] * 31], "/0", "1 to 30 cells, this one has 31"),
    ([[1], 2], "/1", "a row is a list of cells"),
    ([[1], "2"], "/1", "a row is a list of cells"),
    ([[1, 2], [3]], "/1", "row has 1 cells, the first row has 2"),
    ([[1, 2, 3], [1, 2, 12]], "/1/2", "12 is not in 0..9"),
    ([[-1]], "/0/0", "-1 is not in 0..9"),
    ([[10**5000]], "/0/0", "a very large number is not in 0..9"),
    ([[True]], "/0/0", "True is not an integer"),
    ([[1, False]], "/0/1", "False is not an integer"),
    ([[1.0]], "/0/0", "1.0 is not an integer"),
    ([[float("nan")]], "/0/0", "nan is not an integer"),
    ([[None]], "/0/0", "None is not an integer"),
    ([["1"]], "/0/0", "'1' is not an integer"),
    ([["1" * 10**6]], "/0/0", "is not an integer"),
    ([[[1]]], "/0/0", "a list is not an integer"),
    ([[{"colour": 1}]], "/0/0", "an object is not an integer"),
    ([[nested(100_000)]], "/0/0", "a list is not an integer"),
]


@pytest.mark.parametrize(("value", "pointer", "message"), INVALID, ids=[f"{p}: {m}" for _, p, m in INVALID])
def test_what_is_not_a_grid_is_refused_with_its_place(value, pointer, message):
    with pytest.raises(InvalidTask, match=message) as refused:
        parse_grid(value, pointer="/train/0/input")
    assert refused.value.pointer == f"/train/0/input{pointer}"
    assert len(refused.value.message) < 100
