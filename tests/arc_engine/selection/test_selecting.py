"""What holds for every selection method."""

import math
import random
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Reading, Tally, collect
from arc_engine.grids import Grid
from arc_engine.selection import Attempts, Selection, select
from arc_engine.settings import RESCORING, SelectionMethod
from tests.arc_engine.selection.tallies import (
    GRIDS,
    NUM_VIEWS,
    ONE_EACH,
    VIEWS,
    candidate,
    many_readings,
    rescored,
    scores_by_grid,
    tallies,
    view_scores,
)

pytestmark = pytest.mark.fast

every_method = pytest.mark.parametrize("method", get_args(SelectionMethod))
rescoring_methods = pytest.mark.parametrize("method", sorted(RESCORING))


def chosen(tally: Tally, method: SelectionMethod) -> Selection:
    return select(tally, method=method, views=VIEWS)


def ranking(tally: Tally, method: SelectionMethod) -> list[Grid]:
    return [found.grid for found in chosen(tally, method).candidates]


@every_method
@given(tally=tallies(), rng=st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(tally: Tally, rng: random.Random, method: SelectionMethod) -> None:
    shuffled = list(tally.candidates)
    rng.shuffle(shuffled)
    assert chosen(replace(tally, candidates=tuple(shuffled)), method) == chosen(tally, method)


@every_method
@given(found=many_readings, scores=scores_by_grid, rng=st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(
    found: list[Reading], scores: dict[Grid, tuple[float, ...]], rng: random.Random, method: SelectionMethod
) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)
    one, other = (rescored(collect(order, num_views=NUM_VIEWS), scores) for order in (found, shuffled))
    assert chosen(one, method) == chosen(other, method)


@every_method
@given(tally=tallies())
def test_every_candidate_is_ranked_once_and_the_best_two_are_the_attempts(
    tally: Tally, method: SelectionMethod
) -> None:
    selection = chosen(tally, method)
    assert sorted(found.grid for found in selection.candidates) == sorted(found.grid for found in tally.candidates)
    scores = [found.score for found in selection.candidates]
    assert scores == sorted(scores, reverse=True)
    best = [found.grid for found in selection.candidates[:2]]
    assert [selection.attempts.attempt_1, selection.attempts.attempt_2] == [*best, None, None][:2]


@every_method
@given(tally=tallies())
def test_a_candidate_keeps_everything_but_its_score(tally: Tally, method: SelectionMethod) -> None:
    before = {found.grid: replace(found, score=0.0) for found in tally.candidates}
    assert {found.grid: replace(found, score=0.0) for found in chosen(tally, method).candidates} == before


@every_method
@given(order=st.permutations(range(3)))
def test_candidates_that_a_method_finds_equal_come_in_one_order(order: list[int], method: SelectionMethod) -> None:
    same = {"view_scores": (-1.0, -1.0)}
    equal = (candidate(GRIDS[3], {0: -2.0}, **same), *(candidate(grid, {1: -2.0}, **same) for grid in GRIDS[:2]))
    tally = Tally(tuple(equal[place] for place in order), {}, completions_per_view=(1, 2, 0, 0, 0, 0))
    assert ranking(tally, method) == [GRIDS[3], GRIDS[0], GRIDS[1]]  # the identity's, then the lesser grid
    assert len({found.score for found in chosen(tally, method).candidates}) == 1


@given(
    found=many_readings,
    grid=st.sampled_from(GRIDS),
    view=st.integers(0, NUM_VIEWS - 1),
    log_probability=st.sampled_from([-0.5, -3.0, -math.inf]),
)
def test_one_more_vote_never_lowers_a_candidate_of_the_vote(
    found: list[Reading], grid: Grid, view: int, log_probability: float
) -> None:
    before = ranking(collect(found, num_views=NUM_VIEWS), "vote")
    after = ranking(collect([*found, Reading(view, grid, log_probability)], num_views=NUM_VIEWS), "vote")
    assert after.index(grid) <= (before.index(grid) if grid in before else len(before))


@rescoring_methods
@given(tally=tallies())
def test_candidates_that_were_not_scored_again_rank_below_those_that_were(
    tally: Tally, method: SelectionMethod
) -> None:
    was_scored = [bool(found.view_scores) for found in chosen(tally, method).candidates]
    assert was_scored == sorted(was_scored, reverse=True)


@rescoring_methods
@given(tally=tallies(), grid=st.sampled_from(GRIDS), better=view_scores)
def test_likelier_under_every_scoring_view_is_never_worse(
    tally: Tally, grid: Grid, better: tuple[float, ...], method: SelectionMethod
) -> None:
    improved = tuple(
        replace(found, view_scores=tuple(map(max, found.view_scores, better))) if found.grid == grid else found
        for found in tally.candidates
    )
    before, after = ranking(tally, method), ranking(replace(tally, candidates=improved), method)
    if grid in before:
        assert after.index(grid) <= before.index(grid)


@rescoring_methods
def test_a_view_that_finds_a_candidate_impossible_puts_it_behind_all_that_are_possible(method: SelectionMethod) -> None:
    often = candidate(GRIDS[0], dict.fromkeys(range(NUM_VIEWS), -0.1), view_scores=(-0.1, -math.inf))
    once = candidate(GRIDS[1], {1: -9.0}, view_scores=(-90.0, -90.0))
    never_scored = candidate(GRIDS[2], dict.fromkeys(range(NUM_VIEWS), -0.1))
    tally = Tally((often, never_scored, once), {}, completions_per_view=(2, 3, 2, 2, 2, 2))
    assert ranking(tally, method) == [GRIDS[1], GRIDS[0], GRIDS[2]]


@every_method
def test_one_candidate_gives_one_attempt_and_none_gives_none(method: SelectionMethod) -> None:
    only = candidate(GRIDS[1], {0: -1.0, 2: -1.5}, view_scores=(-1.0, -1.0))
    attempts = chosen(Tally((only,), {}, ONE_EACH), method).attempts
    assert (attempts.attempt_1, attempts.attempt_2) == (GRIDS[1], None)
    assert 0 < attempts.confidence < 1
    assert attempts.confidences == (attempts.confidence, 0.0)
    nothing = chosen(Tally((), {}, ONE_EACH), method)
    assert nothing == Selection((), Attempts(None, None, (0.0, 0.0)), ONE_EACH)
    assert nothing.attempts.confidence == 0.0
