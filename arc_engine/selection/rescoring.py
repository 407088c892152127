"""Methods that ask the model again: how likely is a candidate under every one of the same views?

The log-probabilities are sums over an answer's tokens, in nats. A candidate that was not scored again has none, and
ranks below those that were, even those that a view finds impossible: their log-probability is -inf.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from arc_engine.candidates import Candidate, Tally
from arc_engine.views import View

BASELINE: Final = 3.0
"""Nats that `probmul` adds to every log-probability: one above -3 speaks for a candidate, one below against it."""

UNSCORED: Final = (-math.inf, 0.0)
"""Behind the score stands whether there is one."""


def product_of_experts(tally: Tally, _views: Sequence[View]) -> list[tuple[float, ...]]:
    """The sum of the log-probabilities under the scoring views: the product of what the views, each an expert, say
    (the ARChitects, 2024)."""
    return [(math.fsum(c.view_scores), 1.0) if c.view_scores else UNSCORED for c in tally.candidates]


def probmul(tally: Tally, _views: Sequence[View]) -> list[tuple[float, ...]]:
    """The sum of the log-probabilities under the scoring views and under the views that found the candidate, each plus
    `BASELINE`, so that having been found often counts too (the ARChitects, 2024: score_full_probmul_3)."""
    return [(_probmul(c), 1.0) if c.view_scores else UNSCORED for c in tally.candidates]


def _probmul(candidate: Candidate) -> float:
    found = [f.log_probability for f in candidate.findings if f.log_probability is not None]
    return math.fsum(value + BASELINE for value in (*found, *candidate.view_scores))


def view_count_logprob(tally: Tally, _views: Sequence[View]) -> list[tuple[float, ...]]:
    """How many views found the candidate, plus its mean log-probability under the scoring views (NVARC, 2025)."""
    return [(len(c.findings) + fmean(c.view_scores), 1.0) if c.view_scores else UNSCORED for c in tally.candidates]
