"""Fitting confidences, and telling whether they are what they say."""

import math
import random
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.evaluation.calibration import Bin, Forecast, Judged, fit, reliability
from arc_engine.selection.confidence import Coefficients, Features

pytestmark = pytest.mark.fast

TRUE = Coefficients(intercept=-2.0, share=3.0, log_probability=0.4, lead=0.3, first=0.7)


def drawn(num_rows: int, *, model: Coefficients = TRUE, seed: int = 0) -> list[Judged]:
    """Attempts that are right as often as `model` says."""
    rng = random.Random(seed)
    rows = []
    for number in range(num_rows):
        seen = Features(rng.random(), -10 * rng.random(), rng.uniform(-5, 5), first=number % 2 == 0)
        rows.append(Judged(seen, right=rng.random() < model.probability(seen)))
    return rows


def penalised_loss(model: Coefficients, rows: list[Judged], *, ridge: float) -> float:
    """What is to be least, in plain Python."""
    surprise = -sum(math.log(p if row.right else 1 - p) for row in rows for p in [model.probability(row.features)])
    return surprise + ridge / 2 * sum(value**2 for value in astuple(model))


def test_what_made_the_rows_is_found_again() -> None:
    fitted = fit(drawn(20_000))
    assert astuple(fitted) == pytest.approx(astuple(TRUE), abs=0.2)


def test_no_other_coefficients_are_likelier() -> None:
    rows = drawn(200)
    fitted = fit(rows, ridge=0.5)
    least = penalised_loss(fitted, rows, ridge=0.5)
    for name in ("intercept", "share", "log_probability", "lead", "first"):
        for change in (-1e-3, 1e-3):
            other = replace(fitted, **{name: getattr(fitted, name) + change})
            assert penalised_loss(other, rows, ridge=0.5) > least


def test_fitted_confidences_are_right_on_average() -> None:
    rows = drawn(2_000, seed=1)
    fitted = fit(rows)
    mean = sum(fitted.probability(row.features) for row in rows) / len(rows)
    assert mean == pytest.approx(sum(row.right for row in rows) / len(rows), abs=1e-3)
    forecasts = [Forecast(fitted.probability(row.features), right=row.right) for row in drawn(5_000, seed=2)]
    assert reliability(forecasts).expected_calibration_error < 0.03


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = drawn(100)
    assert astuple(fit(rows[::-1])) == pytest.approx(astuple(fit(rows)), abs=1e-8)


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_right_or_all_wrong_have_finite_coefficients(right: bool) -> None:
    fitted = fit([replace(row, right=right) for row in drawn(50)])
    assert all(math.isfinite(value) for value in astuple(fitted))
    likely = fitted.probability(Features(0.9, -1.0, 2.0, first=True))
    assert likely > 0.9 if right else likely < 0.1


def test_rows_that_a_feature_separates_have_finite_coefficients() -> None:
    rows = [Judged(Features(share, 0.0, 0.0, first=True), right=share > 0.5) for share in (0.0, 0.2, 0.4, 0.6, 0.8)]
    fitted = fit(rows, ridge=1e-3)
    assert 10 < fitted.share < 1000
    assert [fitted.probability(row.features) > 0.5 for row in rows] == [row.right for row in rows]


def test_what_seems_to_speak_against_an_attempt_is_left_out() -> None:
    against = Coefficients(intercept=0.0, share=-4.0, log_probability=0.4, lead=-0.5, first=0.7)
    fitted = fit(drawn(5_000, model=against))
    assert (fitted.share, fitted.lead) == (0.0, 0.0)
    assert fitted.log_probability == pytest.approx(0.3, abs=0.15)
    assert fitted.first > 0.3


def test_a_feature_that_is_always_0_has_no_coefficient() -> None:
    rows = [replace(row, features=replace(row.features, log_probability=0.0)) for row in drawn(200)]
    assert fit(rows).log_probability == 0.0


def test_one_row_is_enough_and_none_is_refused() -> None:
    alone = Judged(Features(1.0, 0.0, 1.0, first=True), right=True)
    assert 0.5 < fit([alone]).probability(alone.features) < 1
    with pytest.raises(ValueError, match="no attempts"):
        fit([])


BY_HAND = [
    *(Forecast(0.1, right=False), Forecast(0.2, right=False), Forecast(0.3, right=True)),
    *(Forecast(0.9, right=True), Forecast(1.0, right=True)),
]


def test_reliability_by_hand() -> None:
    found = reliability(BY_HAND, num_bins=2)
    assert found.bins == (
        Bin(0.0, 0.5, 3, pytest.approx(0.2), pytest.approx(1 / 3)),
        Bin(0.5, 1.0, 2, pytest.approx(0.95), pytest.approx(1.0)),
    )
    assert found.num_forecasts == 5
    assert found.expected_calibration_error == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.05) / 5)
    assert found.brier_score == pytest.approx((0.01 + 0.04 + 0.49 + 0.01 + 0.0) / 5)


def test_a_bin_holds_its_lower_bound_and_the_last_one_both() -> None:
    found = reliability([Forecast(share, right=True) for share in (0.0, 0.25, 0.5, 0.75, 1.0)], num_bins=4)
    assert [one.count for one in found.bins] == [1, 1, 1, 2]
    assert [(one.low, one.high) for one in found.bins] == [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]


def test_an_empty_bin_has_no_means_and_no_forecasts_have_no_scores() -> None:
    found = reliability(BY_HAND, num_bins=10)
    assert found.bins[5] == Bin(0.5, 0.6, 0, None, None)
    nothing = reliability([], num_bins=10)
    assert len(nothing.bins) == 10
    assert (nothing.num_forecasts, nothing.expected_calibration_error, nothing.brier_score) == (0, None, None)


@given(st.lists(st.builds(Forecast, st.floats(0, 1), st.booleans()), min_size=1), st.integers(1, 20))
def test_every_forecast_is_in_one_bin_and_errors_are_shares(forecasts: list[Forecast], num_bins: int) -> None:
    found = reliability(forecasts, num_bins=num_bins)
    assert sum(one.count for one in found.bins) == found.num_forecasts == len(forecasts)
    assert 0 <= found.expected_calibration_error <= 1
    assert 0 <= found.brier_score <= 1
    for one in found.bins:
        assert one.mean_confidence is None or one.low - 1e-9 <= one.mean_confidence <= one.high + 1e-9


@given(st.integers(1, 10), st.integers(0, 10))
def test_forecasts_that_come_true_as_often_as_they_say_have_no_error(num_right: int, num_wrong: int) -> None:
    share = num_right / (num_right + num_wrong)
    forecasts = [Forecast(share, right=number < num_right) for number in range(num_right + num_wrong)]
    assert reliability(forecasts).expected_calibration_error == pytest.approx(0)
