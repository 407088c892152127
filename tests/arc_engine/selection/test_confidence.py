"""Confidences are probabilities that rise with what speaks for an attempt, and 0 where there is none."""

import math
from dataclasses import asdict, fields, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Candidate, Finding, Tally
from arc_engine.selection import select
from arc_engine.selection.confidence import (
    LEAST_LOG_PROBABILITY,
    Calibration,
    Coefficients,
    Features,
    calibration,
    confidences,
    family_of,
    features,
)
from arc_engine.settings import SelectionMethod
from tests.arc_engine.selection.tallies import GRIDS, ONE_EACH, VIEWS, candidate, tallies

pytestmark = pytest.mark.fast

every_method = pytest.mark.parametrize("method", get_args(SelectionMethod))
slopes = st.floats(0, 10)
coefficients = st.builds(
    Coefficients, intercept=st.floats(-10, 10), share=slopes, log_probability=slopes, lead=slopes, first=slopes
)
seen = st.builds(
    Features,
    share=st.floats(0, 1),
    log_probability=st.floats(LEAST_LOG_PROBABILITY, 0),
    lead=st.floats(LEAST_LOG_PROBABILITY, -LEAST_LOG_PROBABILITY),
    first=st.booleans(),
)


@pytest.mark.parametrize(
    ("intercept", "expected"), [(0.0, 0.5), (math.log(3), 0.75), (-math.log(9), 0.1), (-1e6, 0.0), (1e6, 1.0)]
)
def test_a_confidence_is_the_logistic_function(intercept: float, expected: float) -> None:
    nothing = Features(share=0.0, log_probability=0.0, lead=0.0, first=False)
    assert Coefficients(intercept, 1, 1, 1, 1).probability(nothing) == pytest.approx(expected)


def test_every_feature_has_its_coefficient() -> None:
    model = Coefficients(intercept=-1.0, share=2.0, log_probability=0.5, lead=0.25, first=3.0)
    logit = -1.0 + 2.0 * 0.5 + 0.5 * -4.0 + 0.25 * 2.0 + 3.0
    attempt = Features(share=0.5, log_probability=-4.0, lead=2.0, first=True)
    assert model.probability(attempt) == pytest.approx(1 / (1 + math.exp(-logit)))
    assert model.probability(replace(attempt, first=False)) == pytest.approx(1 / (1 + math.exp(3.0 - logit)))


@given(coefficients, seen, st.floats(0, 1))
def test_a_larger_share_is_never_less_sure(model: Coefficients, attempt: Features, share: float) -> None:
    low, high = sorted((attempt.share, share))
    assert model.probability(replace(attempt, share=low)) <= model.probability(replace(attempt, share=high))


@given(coefficients, st.lists(seen, max_size=2))
def test_confidences_are_shares_of_one_and_the_first_is_what_it_is(
    model: Coefficients, attempts: list[Features]
) -> None:
    first, second = model.confidences(attempts)
    assert 0 <= first <= 1
    assert 0 <= second <= 1
    assert first + second <= 1
    assert first == (model.probability(attempts[0]) if attempts else 0.0)
    assert second == 0.0 or second <= model.probability(attempts[1])


@every_method
@given(tally=tallies())
def test_an_attempt_has_a_confidence_and_no_attempt_has_none(tally: Tally, method: SelectionMethod) -> None:
    attempts = select(tally, method=method, views=VIEWS).attempts
    grids = (attempts.attempt_1, attempts.attempt_2)
    assert [confidence == 0.0 for confidence in attempts.confidences] == [grid is None for grid in grids]
    assert attempts.confidence == sum(attempts.confidences) <= 1


@every_method
@given(tally=tallies())
def test_features_are_finite_and_in_their_ranges(tally: Tally, method: SelectionMethod) -> None:
    ranked = select(tally, method=method, views=VIEWS).candidates
    found = features(ranked, completions_per_view=tally.completions_per_view, method=method)
    assert [attempt.first for attempt in found] == [True, False][: len(ranked)]
    for attempt in found:
        assert 0 <= attempt.share <= 1
        assert LEAST_LOG_PROBABILITY <= attempt.log_probability <= 0
        assert abs(attempt.lead) <= -LEAST_LOG_PROBABILITY
        assert Features(**asdict(attempt)) == attempt  # as benchmarks store them


OFTEN = candidate(GRIDS[0], dict.fromkeys(range(3), -1.0), view_scores=(-1.0, -3.0))
ONCE = candidate(GRIDS[1], {4: -1.0}, view_scores=(-5.0, -6.0))
IMPOSSIBLE = candidate(GRIDS[2], {4: -1.0}, view_scores=(-5.0, -math.inf))
UNSCORED = candidate(GRIDS[3], {4: -1.0})


@pytest.mark.parametrize("method", ["vote", "hierarchical_vote"])
def test_counting_methods_look_at_shares_of_views(method: SelectionMethod) -> None:
    assert features([OFTEN, ONCE, IMPOSSIBLE], completions_per_view=ONE_EACH, method=method) == (
        Features(share=0.5, log_probability=0.0, lead=pytest.approx(1 / 3), first=True),
        Features(share=pytest.approx(1 / 6), log_probability=0.0, lead=pytest.approx(-1 / 3), first=False),
    )
    assert features([OFTEN], completions_per_view=ONE_EACH, method=method) == (
        Features(0.5, 0.0, lead=0.5, first=True),
    )


@every_method
def test_the_share_is_the_mean_over_views_of_the_votes_within_each(method: SelectionMethod) -> None:
    found = Candidate(GRIDS[0], (Finding(0, 3, -1.0), Finding(2, 1, -1.0)), score=0.0)
    # 3 of 4 and 1 of 2; the second view was asked and gave another grid, the last one gave nothing.
    [attempt] = features([found], completions_per_view=(4, 5, 2, 0), method=method)
    assert attempt.share == pytest.approx((3 / 4 + 1 / 2) / 4)


@pytest.mark.parametrize("method", ["product_of_experts", "probmul", "view_count_logprob"])
def test_rescoring_methods_look_at_log_probabilities_too(method: SelectionMethod) -> None:
    first, second = features([OFTEN, ONCE], completions_per_view=ONE_EACH, method=method)
    assert first == Features(share=0.5, log_probability=-2.0, lead=3.5, first=True)
    assert second == Features(share=pytest.approx(1 / 6), log_probability=-5.5, lead=-3.5, first=False)
    [alone] = features([OFTEN], completions_per_view=ONE_EACH, method=method)
    assert alone.lead == -2.0 - LEAST_LOG_PROBABILITY


@pytest.mark.parametrize("unlikely", [IMPOSSIBLE, UNSCORED])
def test_what_is_impossible_or_was_not_scored_counts_as_the_least_likely(unlikely: Candidate) -> None:
    first, second = features([OFTEN, unlikely], completions_per_view=ONE_EACH, method="product_of_experts")
    assert second.log_probability == LEAST_LOG_PROBABILITY
    assert (first.lead, second.lead) == (18.0, -18.0)


def test_methods_of_a_family_share_coefficients() -> None:
    families = {method: family_of(method) for method in get_args(SelectionMethod)}
    assert families == {
        "vote": "counting",
        "hierarchical_vote": "counting",
        "product_of_experts": "rescoring",
        "probmul": "rescoring",
        "view_count_logprob": "rescoring",
    }
    packaged = calibration()
    for method, family in families.items():
        seen_of_both = features([OFTEN, ONCE], completions_per_view=ONE_EACH, method=method)
        expected = packaged.of(family).confidences(seen_of_both)
        assert confidences([OFTEN, ONCE], completions_per_view=ONE_EACH, method=method) == expected


def test_the_packaged_coefficients_never_count_evidence_against_an_attempt() -> None:
    for model in (calibration().counting, calibration().rescoring):
        assert all(math.isfinite(value) for value in asdict(model).values())
        assert all(getattr(model, field.name) >= 0 for field in fields(model) if field.name != "intercept")


def test_a_calibration_is_read_as_it_was_written() -> None:
    written = Calibration("somewhere", Coefficients(-1.5, 1, 0, 0.1, 2), Coefficients(0.3, 1, 2, 3, 4))
    assert Calibration.from_json(written.to_json()) == written
