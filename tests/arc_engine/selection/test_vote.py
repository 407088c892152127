from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Attempts, Candidate
from arc_engine.selection.vote import select

candidates = st.lists(
    st.builds(
        Candidate,
        grid=st.integers(0, 9).map(lambda colour: ((colour,),)),
        votes=st.integers(1, 3),
        log_probability=st.none() | st.sampled_from([-1.0, -2.0]),
        score=st.sampled_from([0.25, 0.5]),
        views=st.sampled_from([(0,), (1,), (0, 1)]),
    ),
    unique_by=lambda candidate: candidate.grid,
    max_size=6,
)


@given(candidates, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(found: list[Candidate], rng: object) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert select(shuffled) == select(found)


@given(candidates)
def test_the_attempts_are_two_different_candidates_no_worse_than_the_rest(found: list[Candidate]) -> None:
    attempts = select(found)
    by_grid = {candidate.grid: candidate for candidate in found}
    chosen = [by_grid[grid] for grid in (attempts.attempt_1, attempts.attempt_2) if grid is not None]
    assert len(chosen) == len({candidate.grid for candidate in chosen}) == min(2, len(found))
    scores = sorted((candidate.score for candidate in found), reverse=True)
    assert [candidate.score for candidate in chosen] == scores[:2]
    assert attempts.confidence == (scores[0] if scores else 0.0)


def test_one_candidate_gives_one_attempt_and_none_gives_none() -> None:
    only = Candidate(((1,),), votes=3, log_probability=-1.0, score=0.75, views=(0,))
    assert select([only]) == Attempts(((1,),), None, 0.75)
    assert select([]) == Attempts(None, None, 0.0)
