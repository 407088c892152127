"""Every family, over its whole parameter space: valid grids, a pure rule, decided by its seed."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_engine.grids import MAX_SIDE, NUM_COLOURS, GridArray, grid_to_array, parse_grid
from arc_engine.pretraining.families import FAMILIES, SizeRange
from arc_engine.pretraining.families.measuring import bounding_box, components, neighbours, outside
from arc_engine.pretraining.families.registry import family
from arc_engine.pretraining.synthetic import draw_pairs

pytestmark = pytest.mark.fast

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.builds(lambda low, extra: SizeRange(low, low + extra), st.integers(2, 6), st.integers(0, 8))


def assert_grid(grid: GridArray) -> None:
    assert grid.dtype == np.uint8
    assert grid.ndim == 2
    assert all(1 <= side <= MAX_SIDE for side in grid.shape)
    assert grid.max() < NUM_COLOURS


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_rule_is_a_pure_function_between_valid_grids(name: str, seed: int, size: SizeRange) -> None:
    rng = np.random.default_rng(seed)
    rule = FAMILIES[name].make(rng, size)
    for _ in range(3):
        before = rule.draw(rng)
        shown = before.copy()
        after = rule.apply(before)
        assert_grid(before)
        assert_grid(after)
        assert (before == shown).all(), "the rule changed its input"
        assert (rule.apply(shown) == after).all()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_pairs_follow_from_the_seed(name: str) -> None:
    drawn = [
        draw_pairs(FAMILIES[name], np.random.default_rng(seed), size=SizeRange(2, 7), num_pairs=4) for seed in (5, 5, 6)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    for pair in drawn[0]:
        assert parse_grid(pair.input)
        assert parse_grid(pair.output)


DRAW_ON_BACKGROUND = """box_between_corners box_objects complete_squares connect cross_out fill_box fill_enclosed
    fill_marked_rows line_to_edge outline paint_background_alternate paint_behind recolour_background shoot
    shoot_diagonally shoot_until_wall spread_panel stamp stamp_by_colour union_with_mirror"""
ONLY_ERASE = "keep_by_trait keep_colour"
ONLY_RECOLOUR = """paint_all paint_by_rank paint_by_trait paint_corners paint_objects_by_size recolour_alternate
    recolour_commonest recolour_map"""
ONLY_MOVE = """flip flip_marked_rows gravity move_to_anchor roll rotate shear slide_to_wall sort_bars
    sort_lines_by_filling swap_halves transpose turn_by_colour turn_inside"""
TAKE_A_PART = """crop_frame crop_half crop_odd_colour crop_to_content cut_at_marker fullest_panel odd_panel
    panel_at_place take_line trim untile"""


def is_part(part: GridArray, whole: GridArray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    return bool((windows == part).all(axis=(2, 3)).any())


HOLDS: dict[str, tuple[str, Callable[[GridArray, GridArray], bool]]] = {
    "draws on background": (DRAW_ON_BACKGROUND, lambda before, after: bool((after == before)[before > 0].all())),
    "erases": (ONLY_ERASE, lambda before, after: bool(((after == before) | (after == 0)).all())),
    "recolours": (ONLY_RECOLOUR, lambda before, after: bool(((after > 0) == (before > 0)).all())),
    "moves": (ONLY_MOVE, lambda before, after: sorted(before.ravel()) == sorted(after.ravel())),
    "takes a part": (TAKE_A_PART, lambda before, after: is_part(after, before)),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, (names, _) in HOLDS.items() for name in names.split()]
)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_rule_does_only_what_its_kind_does(name: str, kind: str, seed: int, size: SizeRange) -> None:
    rng = np.random.default_rng(seed)
    rule = FAMILIES[name].make(rng, size)
    before = rule.draw(rng)
    assert HOLDS[kind][1](before, rule.apply(before.copy()))


def test_there_is_room_to_learn() -> None:
    assert len(FAMILIES) >= 110
    assert {found.level for found in FAMILIES.values()} == {0, 1, 2, 3}


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="flip"):
        family(theme="geometry", level=1)(FAMILIES["flip"].make)


def test_most_pairs_show_something() -> None:
    same = total = 0
    for found in FAMILIES.values():
        if found.level:
            for seed in range(4):
                pairs = draw_pairs(found, np.random.default_rng(seed), size=SizeRange(3, 8), num_pairs=4)
                same += sum(pair.input == pair.output for pair in pairs)
                total += len(pairs)
    assert same / total < 0.08


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("copy", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("kaleidoscope", [[1]], [[1, 1], [1, 1]]),
        ("crop_to_content", [[0, 0, 0], [0, 1, 2], [0, 0, 3]], [[1, 2], [0, 3]]),
        ("drop_repeated_lines", [[1, 1, 2], [1, 1, 2], [3, 3, 3]], [[1, 2], [3, 3]]),
        ("fill_with_commonest", [[1, 2], [2, 0]], [[2, 2], [2, 2]]),
        ("recolour_by_legend", [[1, 2, 0, 1, 0], [3, 4, 0, 3, 1]], [[2, 0], [4, 2]]),
        ("upscale_by_colours", [[1, 2]], [[1, 1, 2, 2], [1, 1, 2, 2]]),
    ],
)
def test_rules_without_parameters(name: str, before: list[list[int]], after: list[list[int]]) -> None:
    rule = FAMILIES[name].make(np.random.default_rng(0), SizeRange(2, 5))
    assert rule.apply(np.array(before, np.uint8)).tolist() == after


def test_measuring() -> None:
    grid = grid_to_array(((1, 0, 0, 0), (0, 1, 2, 2), (0, 0, 0, 2), (3, 0, 0, 0)))
    assert [int(mask.sum()) for mask in components(grid)] == [2, 3, 1]
    assert [int(mask.sum()) for mask in components(grid, corners=False)] == [1, 1, 3, 1]
    assert bounding_box(grid == 2) == (slice(1, 3), slice(2, 4))
    assert neighbours(grid > 0)[1].tolist() == [2, 2, 3, 2]
    ring = grid_to_array(((1, 1, 1, 0), (1, 0, 1, 0), (1, 1, 1, 0)))
    assert outside(ring).tolist() == [[False] * 3 + [True]] * 3
