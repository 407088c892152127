"""Whether confidences are what they say: fitting them to tasks whose truth is known, and checking them on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from arc_engine.selection.confidence import Coefficients, Features

RIDGE: Final = 0.1
"""Weight of the penalty on squared coefficients: little, yet it keeps them finite where the rows can be separated."""
MAX_NEWTON_STEPS: Final = 100
NEWTON_TOLERANCE: Final = 1e-10

Vector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """An attempt that was made, and whether it was right. An attempt that is missing is no row."""

    features: Features
    right: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """The confidence in an attempt that was made, and whether it was right."""

    confidence: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The forecasts with a confidence from `low` to below `high`, in the last bin to `high` itself.

    The means over them are None where there are none.
    """

    low: float
    high: float
    count: int
    mean_confidence: float | None
    share_right: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How confidences compare with what was right.

    `expected_calibration_error` is the mean distance between a bin's confidence and its share of right attempts,
    weighted by count (Naeini et al., 2015); `brier_score` is the mean squared difference of confidence and outcome
    (Brier, 1950). Of both 0 is best; None where there are no forecasts.
    """

    bins: tuple[Bin, ...]
    num_forecasts: int
    expected_calibration_error: float | None
    brier_score: float | None


def reliability(forecasts: Sequence[Forecast], *, num_bins: int = 10) -> Reliability:
    """The reliability table of the forecasts, in bins of equal width."""
    places = [min(int(forecast.confidence * num_bins), num_bins - 1) for forecast in forecasts]
    edges = [number / num_bins for number in range(num_bins + 1)]
    bins = tuple(
        _bin([f for f, place in zip(forecasts, places, strict=True) if place == number], low=low, high=high)
        for number, (low, high) in enumerate(pairwise(edges))
    )
    if not forecasts:
        return Reliability(bins, 0, None, None)
    distances = (
        one.count * abs(one.mean_confidence - one.share_right)
        for one in bins
        if one.mean_confidence is not None and one.share_right is not None
    )
    return Reliability(
        bins,
        num_forecasts=len(forecasts),
        expected_calibration_error=sum(distances) / len(forecasts),
        brier_score=fmean((forecast.confidence - forecast.right) ** 2 for forecast in forecasts),
    )


def fit(rows: Sequence[Judged], *, ridge: float = RIDGE) -> Coefficients:
    """The most likely coefficients for attempts of one family of methods, none but the intercept below 0.

    Logistic regression with a ridge penalty, by Newton's method. A feature whose coefficient comes out below 0, the
    lowest first, is left out and the others are fitted again. Raises `ValueError` for no rows.
    """
    if not rows:
        raise ValueError("no attempts to fit confidences to")
    inputs = np.array([_inputs(row.features) for row in rows])
    right = np.array([row.right for row in rows], dtype=np.float64)
    kept = list(range(inputs.shape[1]))
    while True:
        weights = _newton(inputs[:, kept], right, ridge=ridge)
        lowest = 1 + int(np.argmin(weights[1:])) if len(kept) > 1 else 0
        if not lowest or weights[lowest] >= 0:
            break
        del kept[lowest]
    coefficients = np.zeros(inputs.shape[1])
    coefficients[kept] = weights
    intercept, share, log_probability, lead, first = map(float, coefficients)
    return Coefficients(intercept, share, log_probability, lead, first)


def _bin(forecasts: Sequence[Forecast], *, low: float, high: float) -> Bin:
    if not forecasts:
        return Bin(low, high, 0, None, None)
    return Bin(
        low,
        high,
        count=len(forecasts),
        mean_confidence=fmean(forecast.confidence for forecast in forecasts),
        share_right=fmean(forecast.right for forecast in forecasts),
    )


def _inputs(seen: Features) -> tuple[float, ...]:
    """In the order of `Coefficients`."""
    return 1.0, seen.share, seen.log_probability, seen.lead, float(seen.first)


def _newton(inputs: Vector, right: Vector, *, ridge: float) -> Vector:
    """`inputs: [num_rows, num_weights]`, `right: [num_rows]` of 0 and 1. Steps that do not help are halved."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        predicted = 0.5 * (1 + np.tanh(0.5 * (inputs @ weights)))  # the logistic function; exp could overflow
        gradient = inputs.T @ (predicted - right) + ridge * weights
        curvature = (inputs.T * (predicted * (1 - predicted))) @ inputs + ridge * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        now = _penalised_loss(inputs, right, weights, ridge=ridge)
        while _penalised_loss(inputs, right, weights - step, ridge=ridge) > now:
            step = step / 2
            if np.abs(step).max() < NEWTON_TOLERANCE:
                return weights
        weights = weights - step
        if np.abs(step).max() < NEWTON_TOLERANCE:
            break
    return weights


def _penalised_loss(inputs: Vector, right: Vector, weights: Vector, *, ridge: float) -> float:
    logits = inputs @ weights
    return float(np.sum(np.logaddexp(0, logits) - right * logits) + 0.5 * ridge * weights @ weights)
