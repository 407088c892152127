import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Finding, Reading, Tally, collect
from arc_engine.encoders import Refusal
from tests.arc_engine.selection.tallies import GRIDS, NUM_VIEWS, many_readings

pytestmark = pytest.mark.fast


def places(tally: Tally) -> dict[object, int]:
    return {candidate.grid: place for place, candidate in enumerate(tally.candidates)}


@given(many_readings, st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(found: list[Reading], rng: random.Random) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert collect(shuffled, num_views=NUM_VIEWS) == collect(found, num_views=NUM_VIEWS)


@given(many_readings)
def test_every_reading_is_counted_once(found: list[Reading]) -> None:
    tally = collect(found, num_views=NUM_VIEWS)
    votes = sum(candidate.votes for candidate in tally.candidates)
    assert votes + sum(tally.refusals.values()) == len(found) == tally.num_completions
    assert len({candidate.grid for candidate in tally.candidates}) == len(tally.candidates)
    assert all(candidate.score == candidate.votes / len(found) for candidate in tally.candidates)


@given(many_readings)
def test_every_view_that_found_a_grid_is_named_once_and_in_order(found: list[Reading]) -> None:
    for candidate in collect(found, num_views=NUM_VIEWS).candidates:
        assert list(candidate.views) == sorted({reading.view for reading in found if reading.outcome == candidate.grid})


@given(many_readings, st.sampled_from(GRIDS), st.integers(0, NUM_VIEWS - 1), st.sampled_from([-0.5, -3.0, -math.inf]))
def test_one_more_vote_never_lowers_a_candidate(
    found: list[Reading], grid: tuple[tuple[int, ...], ...], view: int, log_probability: float
) -> None:
    before = places(collect(found, num_views=NUM_VIEWS))
    after = places(collect([*found, Reading(view, grid, log_probability)], num_views=NUM_VIEWS))
    assert after[grid] <= before.get(grid, len(before))


@given(many_readings)
def test_candidates_come_in_the_order_of_votes(found: list[Reading]) -> None:
    votes = [candidate.votes for candidate in collect(found, num_views=NUM_VIEWS).candidates]
    assert votes == sorted(votes, reverse=True)


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([Reading(1, GRIDS[0], -2.0), Reading(2, GRIDS[1], -1.0)], (1, 0)),  # the likelier completion
        ([Reading(1, GRIDS[0], -1.0), Reading(0, GRIDS[1], -1.0)], (1, 0)),  # found by the identity view
        ([Reading(1, GRIDS[2], -1.0), Reading(2, GRIDS[0], -1.0), Reading(3, GRIDS[1], -1.0)], (0, 2, 1)),  # the grid
        ([Reading(0, GRIDS[0], math.nan), Reading(2, GRIDS[1], -99.0)], (1, 0)),  # any likelihood before none
    ],
)
def test_ties_go_by_log_probability_then_identity_view_then_grid(found: list[Reading], order: tuple[int, ...]) -> None:
    assert [candidate.grid for candidate in collect(found, num_views=4).candidates] == [GRIDS[i] for i in order]


def test_a_candidate_says_who_found_it_and_how_likely_it_was() -> None:
    tally = collect(
        [
            Reading(3, GRIDS[0], -2.0),
            Reading(1, GRIDS[0], -1.0),
            Reading(3, GRIDS[0], -3.0),
            Reading(0, Refusal.RAGGED, -1.0),
            Reading(2, GRIDS[1], -math.inf),
        ],
        num_views=4,
    )
    first, second = tally.candidates
    assert (first.votes, first.score, first.log_probability, first.views) == (3, 0.6, -1.0, (1, 3))
    assert first.findings == (Finding(1, votes=1, log_probability=-1.0), Finding(3, votes=2, log_probability=-2.0))
    assert second.log_probability is None
    assert tally.refusals == {Refusal.RAGGED: 1}
    assert tally.completions_per_view == (1, 1, 1, 2)
    assert (tally.num_completions, tally.num_views) == (5, 4)


@pytest.mark.parametrize("found", [[], [Reading(0, Refusal.UNFINISHED, -1.0)]])
def test_no_grid_no_candidates(found: list[Reading]) -> None:
    tally = collect(found, num_views=8)
    assert tally.candidates == ()
    assert (tally.num_completions, tally.num_views) == (len(found), 8)
