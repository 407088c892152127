"""The methods that re-score: by hand, and against what the field's own programs compute, in their terms."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Reading, Tally, collect
from arc_engine.grids import Grid
from arc_engine.selection import select
from arc_engine.settings import SelectionMethod
from tests.arc_engine.selection.tallies import GRIDS, NUM_VIEWS, VIEWS, candidate, rescored

pytestmark = pytest.mark.fast

A, B, C = GRIDS[:3]
BY_HAND = Tally(
    (
        candidate(A, {0: -1.0, 1: -2.0}, view_scores=(-1.0, -3.0)),
        candidate(B, {2: -0.5}, view_scores=(-1.5, -1.5)),
        candidate(C, {3: -4.0, 4: None}),
    ),
    {},
    completions_per_view=(1, 1, 1, 1, 1, 0),
)


def scores(tally: Tally, method: SelectionMethod) -> dict[Grid, float]:
    return {one.grid: one.score for one in select(tally, method=method, views=VIEWS).candidates}


def test_product_of_experts_is_the_sum_over_the_scoring_views() -> None:
    assert list(scores(BY_HAND, "product_of_experts").items()) == [(B, -3.0), (A, -4.0), (C, -math.inf)]


def test_probmul_adds_the_views_that_found_it_and_3_to_each() -> None:
    # B was found with 2.5 and scored with 1.5 twice; A was found with 2 and 1 and scored with 2 and 0.
    assert list(scores(BY_HAND, "probmul").items()) == [(B, 5.5), (A, 5.0), (C, -math.inf)]


def test_view_count_logprob_is_the_number_of_views_and_the_mean() -> None:
    # A: 2 views - 2; B: 1 view - 1.5
    assert list(scores(BY_HAND, "view_count_logprob").items()) == [(A, 0.0), (B, -0.5), (C, -math.inf)]


def test_a_finding_whose_probability_is_unknown_adds_nothing_to_probmul() -> None:
    found = candidate(A, {0: -1.0, 1: None}, view_scores=(-1.0,))
    assert scores(Tally((found,), {}, (1, 1, 0, 0, 0, 0)), "probmul") == {A: 4.0}


@dataclass
class Guess:
    """An answer as the ARChitects and NVARC keep it: negative log-probabilities, scored anew for every answer."""

    grid: Grid
    beam_score: float
    score_aug: Sequence[float]


def full_probmul_3(guesses: Sequence[Guess]) -> float:
    """ARChitects, 2024: the views that found it, and the mean over them of what all scoring views say."""
    found = sum(3 - guess.beam_score for guess in guesses)
    return found + fmean(sum(3 - score for score in guess.score_aug) for guess in guesses)


def kgmon(guesses: Sequence[Guess]) -> float:
    """NVARC, 2025: how often found, less the mean score."""
    return len(guesses) - fmean(fmean(guess.score_aug) for guess in guesses)


log_probabilities = st.floats(-30, 0)


@pytest.mark.parametrize(
    ("method", "of_the_field"), [("probmul", full_probmul_3), ("view_count_logprob", kgmon)], ids=["probmul", "kgmon"]
)
@given(
    found=st.dictionaries(
        st.tuples(st.integers(0, NUM_VIEWS - 1), st.sampled_from(GRIDS)), log_probabilities, max_size=15
    ),
    by_grid=st.fixed_dictionaries({grid: st.tuples(*[log_probabilities] * 3) for grid in GRIDS}),
)
def test_scores_are_those_of_the_field(
    found: dict[tuple[int, Grid], float],
    by_grid: dict[Grid, tuple[float, ...]],
    method: SelectionMethod,
    of_the_field: Callable[[Sequence[Guess]], float],
) -> None:
    readings = [Reading(view, grid, log_probability) for (view, grid), log_probability in found.items()]
    ours = scores(rescored(collect(readings, num_views=NUM_VIEWS), by_grid), method)
    guesses = [Guess(one.outcome, -one.log_probability, [-s for s in by_grid[one.outcome]]) for one in readings]
    theirs = {
        grid: of_the_field([guess for guess in guesses if guess.grid == grid])
        for grid in {guess.grid for guess in guesses}
    }
    assert ours == pytest.approx(theirs)
