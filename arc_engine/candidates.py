"""Candidates: the distinct grids that the views' completions agree or disagree on."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from arc_engine.encoders import Refusal
from arc_engine.grids import Grid

IDENTITY_VIEW: Final = 0
"""Number of the view that shows the task as it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one completion says: a grid, its view already undone, or why there is none."""

    view: int
    outcome: Grid | Refusal
    log_probability: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct grid.

    `votes` counts the completions that gave it; `log_probability` is that of the likeliest of them, None if none was
    finite; `score` is the share of all completions, refused ones included; `views` are the numbers of the views that
    found it, ascending.
    """

    grid: Grid
    votes: int
    log_probability: float | None
    score: float
    views: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """The candidates of one test input, best first as `rank` has it, and how often a completion showed no grid."""

    candidates: tuple[Candidate, ...]
    refusals: Mapping[Refusal, int]
    num_completions: int


@dataclass(frozen=True, slots=True)
class Attempts:
    """The two answers to one test input.

    `attempt_2` is None when there was one candidate only, both are None when there was none. `confidence` is the score
    of the first.
    """

    attempt_1: Grid | None
    attempt_2: Grid | None
    confidence: float


def collect(readings: Iterable[Reading]) -> Tally:
    """Merges equal grids. The order of the readings does not matter."""
    readings = list(readings)
    by_grid: dict[Grid, list[Reading]] = {}
    refusals: Counter[Refusal] = Counter()
    for reading in readings:
        if isinstance(reading.outcome, Refusal):
            refusals[reading.outcome] += 1
        else:
            by_grid.setdefault(reading.outcome, []).append(reading)
    found = (_candidate(grid, same, num_completions=len(readings)) for grid, same in by_grid.items())
    return Tally(tuple(sorted(found, key=rank)), dict(sorted(refusals.items())), len(readings))


def _candidate(grid: Grid, readings: list[Reading], *, num_completions: int) -> Candidate:
    return Candidate(
        grid,
        votes=len(readings),
        log_probability=max((r.log_probability for r in readings if math.isfinite(r.log_probability)), default=None),
        score=len(readings) / num_completions,
        views=tuple(sorted({reading.view for reading in readings})),
    )


def rank(candidate: Candidate) -> tuple[float, float, bool, Grid]:
    """Sort key, best first: score, then log-probability, then found by the identity view, then the grid itself.

    The last makes the order total, so that equal candidates do not depend on the order in which they came.
    """
    likelihood = -math.inf if candidate.log_probability is None else candidate.log_probability
    return -candidate.score, -likelihood, IDENTITY_VIEW not in candidate.views, candidate.grid
