"""The metrics against values worked out by hand from the field's definitions."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.evaluation.metrics import NO_ANSWER, Metrics, Predictions, mean, measure, share_of_pixels

pytestmark = pytest.mark.fast

TRUTH = ((1, 2), (3, 4))
ONE_OFF = ((1, 2), (3, 3))
"""Three of four pixels right."""
OTHER = ((0, 0), (0, 4))
"""One of four pixels right."""
WIDE = ((1, 2, 0), (3, 4, 0))
"""Another size: no pixel counts, whatever it shows."""


def of(metrics: Metrics) -> dict[str, float]:
    return {name: pytest.approx(value) for name, value in asdict(metrics).items()}


def test_by_hand():
    # Ten predictions: 4 one pixel off, 2 right, 1 with one right pixel, 1 of another size, 2 that show no grid.
    predictions = Predictions({ONE_OFF: 4, TRUTH: 2, OTHER: 1, WIDE: 1}, 10, attempts=(ONE_OFF, TRUTH))
    assert of(measure(predictions, TRUTH)) == {
        "accuracy": 0.2,  # 2 of 10
        "pass_n": 1.0,
        "vote_1": 0.0,  # the most votes have a pixel wrong
        "vote_2": 1.0,
        "pass_at_2": 1.0,
        "correct_size": 0.7,  # 4 + 2 + 1 of 10
        "correct_pixels": 0.525,  # (4 * 3/4 + 2 * 1 + 1 * 1/4) / 10
        "unanswered": 0.2,
    }


def test_attempts_and_votes_are_measured_apart():
    chosen_otherwise = Predictions({ONE_OFF: 3, OTHER: 2, TRUTH: 1}, 6, attempts=(TRUTH, ONE_OFF))
    measured = measure(chosen_otherwise, TRUTH)
    assert (measured.pass_at_2, measured.vote_1, measured.vote_2, measured.pass_n) == (1, 0, 0, 1)
    in_second_place = Predictions({ONE_OFF: 3, TRUTH: 1}, 4, attempts=(ONE_OFF, TRUTH))
    assert measure(in_second_place, TRUTH).pass_at_2 == 1


def test_equal_votes_stay_as_they_were_ranked():
    def votes(first: object, second: object, third: object) -> Metrics:
        return measure(Predictions({first: 1, second: 1, third: 1}, 3, attempts=(None, None)), TRUTH)

    assert (votes(TRUTH, OTHER, ONE_OFF).vote_1, votes(OTHER, TRUTH, ONE_OFF).vote_1) == (1, 0)
    assert (votes(OTHER, TRUTH, ONE_OFF).vote_2, votes(OTHER, ONE_OFF, TRUTH).vote_2) == (1, 0)


def test_more_votes_count_wherever_they_stand():
    ranked_by_likelihood = Predictions({OTHER: 1, ONE_OFF: 1, TRUTH: 5}, 7, attempts=(OTHER, ONE_OFF))
    assert measure(ranked_by_likelihood, TRUTH).vote_1 == 1


@pytest.mark.parametrize("nothing", [None, Predictions({}, 0, (None, None)), Predictions({}, 8, (None, None))])
def test_no_answer_is_wrong_in_every_way(nothing: Predictions | None):
    assert measure(nothing, TRUTH) == NO_ANSWER
    assert of(NO_ANSWER) == dict.fromkeys(asdict(NO_ANSWER), 0.0) | {"unanswered": 1.0}


def test_means_go_over_test_inputs_and_then_over_tasks():
    right = measure(Predictions({TRUTH: 1}, 1, (TRUTH, None)), TRUTH)
    two_inputs, one_input = [right, NO_ANSWER], [right]
    overall = mean([mean(two_inputs), mean(one_input)])
    assert overall.pass_at_2 == pytest.approx(0.75)  # not 2 of 3 test inputs
    assert overall.unanswered == pytest.approx(0.25)


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        mean([])


def test_more_votes_than_predictions_are_refused():
    with pytest.raises(ValueError, match="3 votes of 2 predictions"):
        Predictions({TRUTH: 3}, 2, (None, None))


def test_pixels_of_another_size_do_not_count():
    assert share_of_pixels(TRUTH, TRUTH) == 1
    assert share_of_pixels(((1,), (2,)), ((1, 2),)) == 0


GRIDS = st.sampled_from([TRUTH, ONE_OFF, OTHER, WIDE, ((1,),)])


@given(st.dictionaries(GRIDS, st.integers(1, 5)), st.integers(0, 5), st.permutations(range(5)))
def test_what_must_hold_for_any_predictions(votes: dict, num_unread: int, order: list[int]):
    found = [*votes, None, None]
    predictions = Predictions(votes, sum(votes.values()) + num_unread, (found[0], found[1]))
    measured = measure(predictions, TRUTH)
    assert all(0 <= value <= 1 for value in asdict(measured).values())
    assert measured.accuracy <= measured.correct_pixels <= measured.correct_size <= 1 - measured.unanswered + 1e-9
    assert measured.vote_1 <= measured.vote_2 <= measured.pass_n
    assert measured.pass_at_2 <= measured.pass_n
