"""Views: every one can be undone, and every distribution stays within its switches."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.tasks import Pair, Task
from arc_engine.views import IDENTITY_COLOURS, NUM_DIHEDRAL, View, ViewDistribution
from tests.fixtures.grid_strategies import grids, tasks, views

pytestmark = pytest.mark.fast

GRID = ((1, 2, 3), (4, 5, 6))


@given(grids(), views())
def test_undoing_a_view_gives_the_grid_back(grid, view):
    assert view.undo(view.apply(grid)) == grid
    assert view.apply(view.undo(grid)) == grid


@given(grids())
def test_the_default_view_changes_nothing(grid):
    assert View().apply(grid) == grid


def test_quarter_turns_are_counter_clockwise_and_bit_2_transposes_first():
    assert View(dihedral=1).apply(GRID) == ((3, 6), (2, 5), (1, 4))
    assert View(dihedral=2).apply(GRID) == ((6, 5, 4), (3, 2, 1))
    assert View(dihedral=3).apply(GRID) == ((4, 1), (5, 2), (6, 3))
    assert View(dihedral=4).apply(GRID) == ((1, 4), (2, 5), (3, 6))
    assert View(dihedral=5).apply(GRID) == ((4, 5, 6), (1, 2, 3))  # upside down


def test_the_eight_symmetries_differ():
    assert len({View(dihedral=dihedral).apply(GRID) for dihedral in range(NUM_DIHEDRAL)}) == NUM_DIHEDRAL


def test_colours_say_what_each_colour_becomes():
    colours = (0, 7, 2, 3, 4, 5, 6, 1, 8, 9)
    assert View(colours=colours).apply(GRID) == ((7, 2, 3), (4, 5, 6))


@given(st.data())
def test_a_task_and_its_pairs_are_seen_alike(data):
    task = data.draw(tasks)
    view = data.draw(views(num_pairs=len(task.train)))
    seen = view.apply_task(task)
    assert [view.undo(grid) for grid in seen.test] == list(task.test)
    for position, original in enumerate(view.pair_order):
        assert seen.train[position] == view.apply_pair(task.train[original])
    assert Counter(Pair(view.undo(p.input), view.undo(p.output)) for p in seen.train) == Counter(task.train)


@given(tasks)
def test_without_an_order_the_pairs_stay_in_place(task):
    assert View().apply_task(task) == task


@given(st.integers(0, 2**31), st.integers(1, 10), st.booleans(), st.booleans(), st.booleans())
def test_a_drawn_view_keeps_to_the_switches(seed, num_pairs, dihedral, colours, pair_order):
    distribution = ViewDistribution(dihedral=dihedral, colours=colours, pair_order=pair_order)
    view = distribution.draw(random.Random(seed), num_pairs=num_pairs)
    assert view.dihedral in (range(NUM_DIHEDRAL) if dihedral else [0])
    assert sorted(view.colours) == list(range(10))
    assert sorted(view.pair_order) == list(range(num_pairs))
    if not colours:
        assert view.colours == IDENTITY_COLOURS
    if not pair_order:
        assert view.pair_order == tuple(range(num_pairs))


def test_the_same_generator_state_draws_the_same_view():
    first, second = (ViewDistribution().draw(random.Random(3), num_pairs=4) for _ in range(2))
    assert first == second


def test_drawing_reaches_every_symmetry_and_leaves_global_randomness_alone():
    before = random.getstate(), np.random.get_state()[1].tolist()
    rng = random.Random(0)
    drawn = [ViewDistribution().draw(rng, num_pairs=3) for _ in range(500)]
    assert {view.dihedral for view in drawn} == set(range(NUM_DIHEDRAL))
    assert len({view.pair_order for view in drawn}) == 6
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.05, 0.15), (0.5, 0.45, 0.65), (1.0, 1.0, 1.0)])
def test_the_background_stays_as_often_as_asked(share, low, high):
    rng = random.Random(0)
    distribution = ViewDistribution(keep_background=share)
    kept = sum(distribution.draw(rng, num_pairs=1).colours[0] == 0 for _ in range(1000)) / 1000
    assert low <= kept <= high


def test_a_view_of_a_task_is_a_task_without_test_outputs():
    task = Task((Pair(GRID, GRID),), (GRID,))
    assert type(View(dihedral=3, pair_order=(0,)).apply_task(task)) is Task
