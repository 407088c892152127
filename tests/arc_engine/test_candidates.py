import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Reading, Tally, collect
from arc_engine.encoders import Refusal
from arc_engine.selection.vote import select

GRIDS = (((0,),), ((1,),), ((0, 0),), ((0,), (0,)), ((9, 9), (9, 9)))
readings = st.builds(
    Reading,
    view=st.integers(0, 5),
    outcome=st.sampled_from(GRIDS) | st.sampled_from(list(Refusal)),
    # Few values, so that ties are common.
    log_probability=st.sampled_from([-0.5, -1.0, -2.0, -math.inf, math.nan]),
)
many_readings = st.lists(readings, max_size=30)


def places(tally: Tally) -> dict[object, int]:
    return {candidate.grid: place for place, candidate in enumerate(tally.candidates)}


@given(many_readings, st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(found: list[Reading], rng: object) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert collect(shuffled) == collect(found)
    assert select(collect(shuffled).candidates) == select(collect(found).candidates)


@given(many_readings)
def test_every_reading_is_counted_once(found: list[Reading]) -> None:
    tally = collect(found)
    votes = sum(candidate.votes for candidate in tally.candidates)
    assert votes + sum(tally.refusals.values()) == len(found) == tally.num_completions
    assert len({candidate.grid for candidate in tally.candidates}) == len(tally.candidates)
    assert all(candidate.score == candidate.votes / len(found) for candidate in tally.candidates)


@given(many_readings, st.sampled_from(GRIDS), st.integers(0, 5), st.sampled_from([-0.5, -3.0, -math.inf]))
def test_one_more_vote_never_lowers_a_candidate(
    found: list[Reading], grid: tuple[tuple[int, ...], ...], view: int, log_probability: float
) -> None:
    before = places(collect(found))
    after = places(collect([*found, Reading(view, grid, log_probability)]))
    assert after[grid] <= before.get(grid, len(before))


@given(many_readings)
def test_candidates_come_in_the_order_of_votes(found: list[Reading]) -> None:
    votes = [candidate.votes for candidate in collect(found).candidates]
    assert votes == sorted(votes, reverse=True)


def attempts_of(found: Sequence[Reading]) -> tuple[object, object]:
    attempts = select(collect(found).candidates)
    return attempts.attempt_1, attempts.attempt_2


def test_ties_go_by_log_probability_then_identity_view_then_grid() -> None:
    a, b, c = GRIDS[0], GRIDS[1], GRIDS[2]
    assert attempts_of([Reading(1, a, -2.0), Reading(2, b, -1.0)]) == (b, a)
    assert attempts_of([Reading(1, a, -1.0), Reading(0, b, -1.0)]) == (b, a)
    assert attempts_of([Reading(1, b, -1.0), Reading(2, a, -1.0), Reading(3, c, -1.0)]) == (a, c)
    assert attempts_of([Reading(0, a, math.nan), Reading(2, b, -99.0)]) == (b, a)


def test_a_candidate_says_who_found_it_and_how_likely_it_was() -> None:
    tally = collect(
        [
            Reading(3, GRIDS[0], -2.0),
            Reading(1, GRIDS[0], -1.0),
            Reading(3, GRIDS[0], -3.0),
            Reading(0, Refusal.RAGGED, -1.0),
            Reading(2, GRIDS[1], -math.inf),
        ]
    )
    first, second = tally.candidates
    assert (first.votes, first.score, first.log_probability, first.views) == (3, 0.6, -1.0, (1, 3))
    assert second.log_probability is None
    assert tally.refusals == {Refusal.RAGGED: 1}


@pytest.mark.parametrize("found", [[], [Reading(0, Refusal.UNFINISHED, -1.0)]])
def test_no_grid_no_candidates(found: list[Reading]) -> None:
    tally = collect(found)
    assert tally.candidates == ()
    assert tally.num_completions == len(found)
