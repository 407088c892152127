"""How sure to be of an attempt: the probability that it is right, estimated by logistic regression.

The coefficients are fitted on answered tasks whose truth is known (`arc_engine.evaluation.calibration`), one set for
the methods that count completions and one for those that re-score, and are in `calibration.json`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Final, Literal, Self, TypeAlias

from arc_engine.candidates import Candidate
from arc_engine.settings import RESCORING, SelectionMethod

Family: TypeAlias = Literal["counting", "rescoring"]
"""Methods that are calibrated together."""

LEAST_LOG_PROBABILITY: Final = -20.0
"""Nats; what is less likely is as good as impossible, and counts as this."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the confidence in an attempt is estimated from; all numbers are finite.

    `share` is the mean, over all views that were asked, of the share of a view's completions that gave it; a view
    without completions has 0. `log_probability` is its mean under the scoring views, in nats, 0 for
    methods that count. `lead` is what it has more than the other attempt, less than 0 where the other has more: of the
    share for methods that count, else of the log-probability. `first`: it is attempt 1.
    """

    share: float
    log_probability: float
    lead: float
    first: bool


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A logistic regression on `Features`. None but the intercept is below 0, so that more of anything that speaks for
    an attempt never makes it less sure."""

    intercept: float
    share: float
    log_probability: float
    lead: float
    first: float

    def probability(self, seen: Features) -> float:
        """The estimated probability that the attempt is right."""
        logit = (
            self.intercept
            + self.share * seen.share
            + self.log_probability * seen.log_probability
            + self.lead * seen.lead
            + self.first * seen.first
        )
        return 0.5 * (1 + math.tanh(0.5 * logit))  # the logistic function, which overflows nowhere in this form

    def confidences(self, seen: Sequence[Features]) -> tuple[float, float]:
        """The estimated probabilities that the first and the second attempt are right; 0 where there is none.

        They add up to 1 at most, because one at most is right: the second has what the first leaves.
        """
        first, second = (*map(self.probability, seen), 0.0, 0.0)[:2]
        return first, min(second, 1 - first)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The coefficients of both families; `fitted_on` says what data they are from, None for a guess."""

    fitted_on: str | None
    counting: Coefficients
    rescoring: Coefficients

    def of(self, family: Family) -> Coefficients:
        """The coefficients of a family."""
        return self.counting if family == "counting" else self.rescoring

    def to_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises `KeyError` or `TypeError` for what `to_json` did not write."""
        document = json.loads(text)
        return cls(
            fitted_on=document["fitted_on"],
            counting=Coefficients(**document["counting"]),
            rescoring=Coefficients(**document["rescoring"]),
        )


@cache
def calibration() -> Calibration:
    """The one that comes with the package."""
    return Calibration.from_json(files(__package__).joinpath("calibration.json").read_text(encoding="utf-8"))


def family_of(method: SelectionMethod) -> Family:
    """Which coefficients a selection method takes."""
    return "rescoring" if method in RESCORING else "counting"


def features(
    ranked: Sequence[Candidate], *, completions_per_view: Sequence[int], method: SelectionMethod
) -> tuple[Features, ...]:
    """Those of the first two candidates, of one where there is one only."""
    attempts = ranked[:2]
    shares = [_share(candidate, completions_per_view=completions_per_view) for candidate in attempts]
    if family_of(method) == "counting":
        return _features(shares, log_probabilities=[0.0] * len(attempts), leads=_leads(shares, least=0.0))
    means = [_mean_log_probability(candidate) for candidate in attempts]
    return _features(shares, log_probabilities=means, leads=_leads(means, least=LEAST_LOG_PROBABILITY))


def confidences(
    ranked: Sequence[Candidate], *, completions_per_view: Sequence[int], method: SelectionMethod
) -> tuple[float, float]:
    """`Coefficients.confidences` of the first two candidates, with the coefficients that come with the package."""
    coefficients = calibration().of(family_of(method))
    return coefficients.confidences(features(ranked, completions_per_view=completions_per_view, method=method))


def _share(candidate: Candidate, *, completions_per_view: Sequence[int]) -> float:
    """Every view that was asked counts the same, however many completions it has."""
    agreeing = math.fsum(found.votes / completions_per_view[found.view] for found in candidate.findings)
    return agreeing / len(completions_per_view)


def _features(
    shares: Sequence[float], *, log_probabilities: Sequence[float], leads: Sequence[float]
) -> tuple[Features, ...]:
    return tuple(
        Features(share, log_probability, lead, first=place == 0)
        for place, (share, log_probability, lead) in enumerate(zip(shares, log_probabilities, leads, strict=True))
    )


def _leads(values: Sequence[float], *, least: float) -> list[float]:
    """What each of two has more than the other, one alone more than the least there is."""
    if len(values) < 2:  # noqa: PLR2004 - attempts
        return [value - least for value in values]
    first, second = values
    return [first - second, second - first]


def _mean_log_probability(candidate: Candidate) -> float:
    return max(fmean(candidate.view_scores), LEAST_LOG_PROBABILITY) if candidate.view_scores else LEAST_LOG_PROBABILITY
